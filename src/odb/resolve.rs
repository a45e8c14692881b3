//! Reconstructs packed objects: follows delta chains to the base and applies the deltas on the way back.
//!
//! In: a pack and an offset. Out: the content. There is no recursion, because the maker of the pack decides how long a
//! chain is. If an entry is damaged, another copy of its object is used, as in git, from other packs or loose objects.

use super::bases::Bases;
use super::directory::Slot;
use super::inflate::Inflater;
use super::packs::{EntryHead, EntryKind, Pack, PackId};
use super::{Header, Objects, TooLarge, delta, loose};
use anyhow::{Context, bail};
use gix_hash::ObjectId;
use gix_object::Kind;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

/// The longest delta chain that is followed. git makes chains of 50, and of 4095 at most; a chain longer than this has
/// a cycle.
const CHAIN_MAX: usize = 1 << 17;
/// How many damaged entries are worked around for one object.
const DAMAGED_MAX: usize = 64;

/// The relevant first lines of tags and commits usually fit into these many bytes. Objects less than twice as large are
/// read whole.
const TAG_BEGUN: usize = 128;
const COMMIT_BEGUN: usize = 320;
/// Of the objects in a delta chain, this many nearest ones are kept: most objects needed soon are based on them.
const NEAR: usize = 2;
/// Of those further away, one in this many is kept. git's chains are usually shorter; a chain a hundred times as long,
/// read from its far end, would otherwise be rebuilt for every third object.
const FAR: usize = 64;
/// The maximum length of the two sizes at the beginning of a delta, with seven bits per byte.
const DELTA_SIZES: usize = 20;

/// State that is reused between reads.
pub(super) struct Reader {
    pub inflater: Inflater,
    pub bases: Bases,
    pub buffer: Vec<u8>,
    /// The content of a loose object of which only the header was asked for.
    pub loose: Vec<u8>,
    /// Whether all objects of a chain are kept, not only the nearest.
    pub whole_chains: bool,
    chain: Vec<Link>,
    delta: Vec<u8>,
    /// How many deltas were applied.
    #[cfg(test)]
    applied: u64,
}

/// A delta on the way to the base.
struct Link {
    pack: Arc<Pack>,
    offset: u64,
    data: u64,
    size: u64,
}

/// Why an object could not be read.
enum Fault {
    /// This entry is damaged; another copy of its object may exist.
    Damaged { pack: Arc<Pack>, offset: u64, error: anyhow::Error },
    /// Another copy would not help.
    Fatal(anyhow::Error),
}

impl From<anyhow::Error> for Fault {
    fn from(error: anyhow::Error) -> Self {
        Fault::Fatal(error)
    }
}

/// Entries known to be damaged.
pub(super) type Damaged = HashSet<(PackId, u64)>;

/// The end of a delta chain.
enum Base {
    /// The content of the base, and the place under which to cache it, unless it is cached already or loose.
    Content(Kind, Rc<Vec<u8>>, Option<(PackId, u64)>),
    /// The object itself, written where the caller wants it: it is not a delta.
    Written(Kind),
}

impl Reader {
    pub fn new(cache_bytes: u64) -> Self {
        Reader {
            inflater: Inflater::new(),
            bases: Bases::new(cache_bytes),
            buffer: Vec::new(),
            loose: Vec::new(),
            whole_chains: false,
            chain: Vec::new(),
            delta: Vec::new(),
            #[cfg(test)]
            applied: 0,
        }
    }

    /// The size of the object that an entry makes; a delta announces it at its beginning.
    fn size(&mut self, pack: &Pack, head: &EntryHead) -> anyhow::Result<u64> {
        if let EntryKind::Whole(_) = head.kind {
            return Ok(head.size);
        }
        let Reader { inflater, buffer, delta, .. } = self;
        pack.stored(buffer, |stored| inflater.begin(stored, head.data, DELTA_SIZES, delta))?;
        delta::sizes(delta).map(|(_, size, _)| size)
    }
}

impl Objects {
    /// Reads the entry at an offset, or another copy of the same object.
    pub(super) fn read_packed(&self, pack: &Arc<Pack>, offset: u64, out: &mut Vec<u8>) -> anyhow::Result<Kind> {
        let mut reader = self.shared.reader.borrow_mut();
        for _ in 0..DAMAGED_MAX {
            match self.resolve(&mut reader, pack, offset, out) {
                Ok(kind) => return Ok(kind),
                Err(Fault::Fatal(error)) => return Err(error),
                Err(Fault::Damaged { pack, offset, error }) => self.set_aside(&pack, offset, &error),
            }
        }
        bail!("object at offset {offset} of {} has too many damaged bases", pack.path().display())
    }

    /// Reads the first bytes of the entry at an offset, if it is a large object and not a delta. Damage further on goes
    /// unnoticed.
    pub(super) fn begin_packed(&self, pack: &Pack, offset: u64, out: &mut Vec<u8>) -> Option<Kind> {
        let head = pack.head_at(offset).ok()?;
        let EntryKind::Whole(kind) = head.kind else { return None };
        let bytes = if kind == Kind::Tag { TAG_BEGUN } else { COMMIT_BEGUN };
        if head.size <= 2 * bytes as u64 || self.is_damaged(pack.id(), offset) {
            return None;
        }
        let Reader { inflater, buffer, .. } = &mut *self.shared.reader.borrow_mut();
        pack.stored(buffer, |stored| inflater.begin(stored, head.data, bytes, out)).ok().map(|()| kind)
    }

    /// Reads the entry at an offset, sharing its content with the cache of bases: for walks that soon meet deltas on
    /// it.
    pub(super) fn share_packed(&self, pack: &Arc<Pack>, offset: u64) -> anyhow::Result<(Kind, Rc<Vec<u8>>)> {
        let place = (pack.id(), offset);
        let mut content = {
            let bases = &mut self.shared.reader.borrow_mut().bases;
            if let Some(found) = bases.find(place) {
                return Ok(found);
            }
            bases.buffer()
        };
        let kind = self.read_packed(pack, offset, Rc::get_mut(&mut content).expect("nobody else has it"))?;
        self.shared.reader.borrow_mut().bases.keep(place, kind, Rc::clone(&content));
        Ok((kind, content))
    }

    /// How many deltas were applied so far.
    #[cfg(test)]
    pub(super) fn applied(&self) -> u64 {
        self.shared.reader.borrow().applied
    }

    /// Remembers a damaged entry, so that other copies of its object are used.
    fn set_aside(&self, pack: &Pack, offset: u64, error: &anyhow::Error) {
        self.shared.damaged.borrow_mut().insert((pack.id(), offset));
        self.shared.register.warn(format!("{}: entry at offset {offset}: {error:#}", pack.path().display()));
    }

    pub(super) fn is_damaged(&self, pack: PackId, offset: u64) -> bool {
        let damaged = self.shared.damaged.borrow();
        !damaged.is_empty() && damaged.contains(&(pack, offset))
    }

    fn resolve(&self, reader: &mut Reader, pack: &Arc<Pack>, offset: u64, out: &mut Vec<u8>) -> Result<Kind, Fault> {
        reader.chain.clear();
        let limit = self.object_limit;
        let (kind, mut base, mut place) = match self.descend(reader, pack, offset, out)? {
            Base::Written(kind) => return Ok(kind),
            Base::Content(kind, content, place) => (kind, content, place),
        };
        while let Some(link) = reader.chain.pop() {
            let away = reader.chain.len();
            let last = away == 0;
            let is_kept = reader.whole_chains || away < NEAR || away.is_multiple_of(FAR);
            #[cfg(test)]
            {
                reader.applied += 1;
            }
            let Reader { inflater, delta: bytes, buffer, bases, .. } = &mut *reader;
            let damaged = |error| Fault::Damaged { pack: Arc::clone(&link.pack), offset: link.offset, error };
            check_size(link.size, limit)?;
            link.pack.stored(buffer, |stored| inflater.whole(stored, link.data, link.size, bytes)).map_err(damaged)?;
            let apply = |out: &mut Vec<u8>| {
                let fault =
                    |error: anyhow::Error| if error.is::<TooLarge>() { Fault::Fatal(error) } else { damaged(error) };
                delta::apply(&base, bytes, limit, out).map_err(fault)
            };
            let here = (link.pack.id(), link.offset);
            let made = if last {
                apply(out)?;
                None
            } else {
                let mut made = bases.buffer();
                apply(Rc::get_mut(&mut made).expect("nobody else has it"))?;
                Some(made)
            };
            match place.replace(here) {
                Some(place) if is_kept => bases.keep(place, kind, base),
                Some(_) | None => bases.give_back(base),
            }
            match made {
                Some(made) => base = made,
                None => break,
            }
        }
        Ok(kind)
    }

    /// Follows a chain to an object that is not a delta or is cached. The deltas on the way are put into
    /// `reader.chain`.
    fn descend(&self, reader: &mut Reader, pack: &Arc<Pack>, offset: u64, out: &mut Vec<u8>) -> Result<Base, Fault> {
        let (mut pack, mut offset) = (Arc::clone(pack), offset);
        loop {
            let first = reader.chain.is_empty();
            if let Some((kind, content)) = reader.bases.find((pack.id(), offset)) {
                if first {
                    out.clear();
                    out.extend_from_slice(&content);
                    return Ok(Base::Written(kind));
                }
                return Ok(Base::Content(kind, content, None));
            }
            let damaged = |error| Fault::Damaged { pack: Arc::clone(&pack), offset, error };
            if self.is_damaged(pack.id(), offset) {
                let id = pack
                    .position_at_offset(offset)
                    .map(|position| pack.id_at(position).to_owned())
                    .with_context(|| corrupt(&pack, offset))?;
                match self.other_copy(&id, reader, out).with_context(|| corrupt(&pack, offset))? {
                    Copy::Packed(other, at) => (pack, offset) = (other, at),
                    Copy::Loose(kind) if first => return Ok(Base::Written(kind)),
                    Copy::Loose(kind) => return Ok(Base::Content(kind, Rc::new(std::mem::take(out)), None)),
                }
                continue;
            }
            let head = pack.head_at(offset).map_err(damaged)?;
            let base = match head.kind {
                EntryKind::Whole(kind) => {
                    check_size(head.size, self.object_limit)?;
                    let Reader { inflater, buffer, bases, .. } = &mut *reader;
                    let mut inflate = |out: &mut Vec<u8>| {
                        pack.stored(buffer, |stored| inflater.whole(stored, head.data, head.size, out)).map_err(damaged)
                    };
                    if first {
                        inflate(out)?;
                        return Ok(Base::Written(kind));
                    }
                    let mut content = bases.buffer();
                    inflate(Rc::get_mut(&mut content).expect("nobody else has it"))?;
                    return Ok(Base::Content(kind, content, Some((pack.id(), offset))));
                }
                EntryKind::OfsDelta(base) => Some((Arc::clone(&pack), base)),
                EntryKind::RefDelta(id) => match self.base_of(&pack, &id).map_err(Fault::Fatal)? {
                    Some(base) => Some(base),
                    None => {
                        // The base is not in any pack: it is loose, or gone.
                        match self.other_copy(&id, reader, out) {
                            Ok(Copy::Packed(other, at)) => Some((other, at)),
                            Ok(Copy::Loose(kind)) => {
                                let link = Link { pack: Arc::clone(&pack), offset, data: head.data, size: head.size };
                                reader.chain.push(link);
                                return Ok(Base::Content(kind, Rc::new(std::mem::take(out)), None));
                            }
                            Err(error) => return Err(damaged(error)),
                        }
                    }
                },
            };
            if reader.chain.len() == CHAIN_MAX {
                return Err(damaged(anyhow::anyhow!("chain of deltas is longer than {CHAIN_MAX}")));
            }
            reader.chain.push(Link { pack: Arc::clone(&pack), offset, data: head.data, size: head.size });
            if let Some(base) = base {
                (pack, offset) = base;
            }
        }
    }

    /// The base of a delta that names it by ID: in the same pack, or else in any other.
    fn base_of(&self, pack: &Arc<Pack>, id: &ObjectId) -> anyhow::Result<Option<(Arc<Pack>, u64)>> {
        if let Some(position) = pack.position(id) {
            return Ok(Some((Arc::clone(pack), pack.offset_at(position))));
        }
        let found = self.packed(id, &|_, _| true)?;
        Ok(found.map(|(pack, position)| {
            let pack = self.pack(pack);
            let offset = pack.offset_at(position);
            (pack, offset)
        }))
    }

    /// A copy of an object that is not known to be damaged. A loose one is read into `out`.
    fn other_copy(&self, id: &ObjectId, reader: &mut Reader, out: &mut Vec<u8>) -> anyhow::Result<Copy> {
        let sound = |slot: &Slot, position: u32| {
            slot.open(&self.shared.register).is_some_and(|pack| !self.is_damaged(pack.id(), pack.offset_at(position)))
        };
        if let Some((pack, position)) = self.packed(id, &sound)? {
            let pack = self.pack(pack);
            let offset = pack.offset_at(position);
            return Ok(Copy::Packed(pack, offset));
        }
        let Reader { inflater, buffer, .. } = reader;
        let mut first_error = None;
        for directory in self.searched()?.iter() {
            match loose::read(&directory.path, id, self.object_limit, inflater, buffer, out) {
                Ok(Some(kind)) => return Ok(Copy::Loose(kind)),
                Ok(None) => {}
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| anyhow::anyhow!("no sound copy of object {id}")))
    }

    /// The size of the object at an offset. An error does not mean that other copies are damaged.
    pub(super) fn size_packed(&self, pack: &Arc<Pack>, offset: u64) -> anyhow::Result<u64> {
        self.shared.reader.borrow_mut().size(pack, &pack.head_at(offset)?)
    }

    /// Kind and size of the object at an offset. An error does not mean that other copies are damaged.
    pub(super) fn header_packed(&self, pack: &Arc<Pack>, offset: u64) -> anyhow::Result<Header> {
        let mut reader = self.shared.reader.borrow_mut();
        let head = pack.head_at(offset)?;
        if let EntryKind::Whole(kind) = head.kind {
            return Ok(Header { kind, size: head.size });
        }
        let size = reader.size(pack, &head)?;
        let Reader { inflater, buffer, bases, loose: content, .. } = &mut *reader;
        let (mut pack, mut offset, mut kind) = (Arc::clone(pack), offset, head.kind);
        for _ in 0..CHAIN_MAX {
            if let Some(Header { kind, .. }) = bases.header((pack.id(), offset)) {
                return Ok(Header { kind, size });
            }
            match kind {
                EntryKind::Whole(kind) => return Ok(Header { kind, size }),
                EntryKind::OfsDelta(base) => offset = base,
                EntryKind::RefDelta(id) => match self.base_of(&pack, &id)? {
                    Some(base) => (pack, offset) = base,
                    None => {
                        for directory in self.searched()?.iter() {
                            if let Some((header, _)) = loose::header(&directory.path, &id, inflater, buffer, content)? {
                                return Ok(Header { kind: header.kind, size });
                            }
                        }
                        bail!("base {id} is missing");
                    }
                },
            }
            kind = pack.head_at(offset)?.kind;
        }
        bail!("chain of deltas is longer than {CHAIN_MAX}")
    }
}

/// Another copy of an object.
enum Copy {
    Packed(Arc<Pack>, u64),
    Loose(Kind),
}

fn check_size(size: u64, limit: u64) -> Result<(), Fault> {
    if size > limit { Err(Fault::Fatal(TooLarge { size, limit }.into())) } else { Ok(()) }
}

fn corrupt(pack: &Pack, offset: u64) -> String {
    format!("packed object at offset {offset} (stored in {}) is corrupt", pack.path().display())
}

//! Reads objects by ID, or by their place.
//!
//! In: IDs, or places found before. Out: whether and where an object is stored, its header, its content. A look-up by
//! ID is repeated if a folder of packs has changed; an object no longer at its place is looked up by ID.

use super::directory::Directory;
use super::packs::{EntryKind, Pack};
use super::resolve::Reader;
use super::{Header, LOOKS_MAX, Location, Objects, loose, read_error, tag};
use anyhow::Context;
use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

/// Of a tag of more bytes than this only the beginning is read where its target is asked for.
const LARGE_TAG_BYTES: u64 = 1 << 20;

impl Objects {
    /// Whether the object exists; as in git, the empty tree always does. Searches indexes but does not read the object.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn contains(&self, id: &oid) -> anyhow::Result<bool> {
        Ok(self.locate(id)?.is_some() || id == self.hash_kind().empty_tree())
    }

    /// Returns those objects that are missing. This is cheap even if nearly all are: folders of loose objects are
    /// listed, and those of packs are listed again once for all objects.
    ///
    /// # Errors
    /// As [`Objects::contains`].
    pub fn absent(&self, ids: &[ObjectId]) -> anyhow::Result<HashSet<ObjectId>> {
        let mut absent = HashSet::new();
        for id in ids {
            if !absent.contains(id) && !self.contains_as_listed(id)? {
                absent.insert(*id);
            }
        }
        for _ in 0..LOOKS_MAX {
            if absent.is_empty() || !self.look_again()? {
                break;
            }
            let before = std::mem::take(&mut absent);
            for id in before {
                if !self.contains_as_listed(&id)? {
                    absent.insert(id);
                }
            }
        }
        Ok(absent)
    }

    fn contains_as_listed(&self, id: &oid) -> anyhow::Result<bool> {
        let may_have = |directory: &Directory| directory.may_have_loose(id);
        Ok(id == self.hash_kind().empty_tree() || self.locate_among(id, &may_have)?.is_some())
    }

    /// Where the object is stored: packs first (multi-pack-index, then newest), then loose. An unreadable index is
    /// skipped with a warning.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn locate(&self, id: &oid) -> anyhow::Result<Option<Location>> {
        self.until_found(&mut || self.locate_as_listed(id))
    }

    /// Like [`Objects::locate`], but may miss objects added since the folders of packs were listed.
    ///
    /// # Errors
    /// As [`Objects::locate`].
    pub fn locate_as_listed(&self, id: &oid) -> anyhow::Result<Option<Location>> {
        self.locate_among(id, &|_| Ok(true))
    }

    fn locate_among(
        &self,
        id: &oid,
        may_have: &dyn Fn(&Directory) -> std::io::Result<bool>,
    ) -> anyhow::Result<Option<Location>> {
        if let Some((pack, position)) = self.packed(id, &|_, _| true)? {
            return Ok(Some(Location::Packed { pack, position }));
        }
        for (n, directory) in (0..).zip(self.searched()?.iter()) {
            let is_known = directory.recent.borrow().header(id.to_owned()).is_some();
            if is_known
                || may_have(directory).with_context(|| read_error(directory))?
                    && loose::exists(&directory.path, id).with_context(|| format!("object {id}"))?
            {
                return Ok(Some(Location::Loose(n)));
            }
        }
        Ok(None)
    }

    /// Kind and size. Inflates no more than delta headers.
    ///
    /// # Errors
    /// When the object is corrupt.
    pub fn header(&self, id: &oid) -> anyhow::Result<Option<Header>> {
        let found = self.until_found(&mut || self.header_now(id))?;
        if found.is_none() && id == self.hash_kind().empty_tree() {
            return Ok(Some(Header { kind: Kind::Tree, size: 0 }));
        }
        Ok(found)
    }

    /// The kind only. For a commit in the commit-graph nothing but indexes is read.
    ///
    /// # Errors
    /// As [`Objects::header`].
    pub fn kind(&self, id: &oid) -> anyhow::Result<Option<Kind>> {
        Ok(self.header_of_others(id)?.map(|header| header.kind))
    }

    /// Like [`Objects::header`], but the size of a commit in the commit-graph is 0: nothing but indexes is read for it.
    ///
    /// # Errors
    /// As [`Objects::header`].
    pub(super) fn header_of_others(&self, id: &oid) -> anyhow::Result<Option<Header>> {
        if self.graph().is_some_and(|graph| graph.position(id).is_some()) && self.locate(id)?.is_some() {
            return Ok(Some(Header { kind: Kind::Commit, size: 0 }));
        }
        self.header(id)
    }

    /// Like [`Objects::header`], for many objects most of which are missing. May miss objects added since a folder was
    /// listed, and finds the empty tree only if it is stored.
    ///
    /// # Errors
    /// As [`Objects::header`].
    pub fn header_as_listed(&self, id: &oid) -> anyhow::Result<Option<Header>> {
        self.header_among(id, &|directory| directory.may_have_loose(id))
    }

    fn header_now(&self, id: &oid) -> anyhow::Result<Option<Header>> {
        self.header_among(id, &|_| Ok(true))
    }

    fn header_among(
        &self,
        id: &oid,
        may_have: &dyn Fn(&Directory) -> std::io::Result<bool>,
    ) -> anyhow::Result<Option<Header>> {
        if let Some((pack, position)) = self.packed(id, &|_, _| true)? {
            let pack = self.pack(pack);
            let offset = pack.offset_at(position);
            if !self.is_damaged(pack.id(), offset)
                && let Ok(header) = self.header_packed(&pack, offset)
            {
                return Ok(Some(header));
            }
            // Reading the whole object finds other copies.
            let mut content = Vec::new();
            let kind = self.read_packed(&pack, offset, &mut content).with_context(|| format!("object {id}"))?;
            return Ok(Some(Header { kind, size: content.len() as u64 }));
        }
        let mut first_error = None;
        for directory in self.searched()?.iter() {
            if !may_have(directory).with_context(|| read_error(directory))? {
                continue;
            }
            match self.header_loose(directory, id) {
                Ok(Some(header)) => return Ok(Some(header)),
                Ok(None) => {}
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error.map_or(Ok(None), Err)
    }

    /// Reads the content into `buffer` (cleared first). Delta bases are kept in a cache bounded in bytes.
    ///
    /// # Errors
    /// When the object is corrupt, or larger than the limit set with [`Objects::set_object_limit`].
    pub fn find(&self, id: &oid, buffer: &mut Vec<u8>) -> anyhow::Result<Option<gix_object::Kind>> {
        let found = self.until_found(&mut || self.find_now(id, buffer))?;
        if found.is_none() && id == self.hash_kind().empty_tree() {
            // As in git, the empty tree always exists.
            buffer.clear();
            return Ok(Some(Kind::Tree));
        }
        Ok(found)
    }

    /// Reads the beginning of the content into `buffer`, if that costs less than reading all: for the first lines of
    /// commits and tags. `None` says nothing about the object. Damage further on goes unnoticed.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn begin(&self, id: &oid, buffer: &mut Vec<u8>) -> anyhow::Result<Option<Kind>> {
        let Some((pack, position)) = self.packed(id, &|_, _| true)? else { return Ok(None) };
        Ok(self.begin_at(Location::Packed { pack, position }, buffer))
    }

    /// Returns the object that a tag of `size` bytes names, with the kind it says that object has; `None` if the tag is
    /// missing, or git would not accept it. Only the beginning of a large one is read, into `buffer`: its message may be
    /// larger than the memory there is.
    ///
    /// # Errors
    /// As [`Objects::find`].
    pub(super) fn tag_target(
        &self,
        id: &oid,
        size: u64,
        buffer: &mut Vec<u8>,
    ) -> anyhow::Result<Option<(ObjectId, Kind)>> {
        if size > LARGE_TAG_BYTES {
            let mut begun = self.begin(id, buffer)?;
            for directory in self.searched()?.iter() {
                if begun.is_none() {
                    let Reader { inflater, buffer: pieces, .. } = &mut *self.shared.reader.borrow_mut();
                    begun = loose::beginning(&directory.path, id, inflater, pieces, buffer).ok().flatten();
                }
            }
            if begun == Some(Kind::Tag)
                && let Some(target) = tag::target(buffer, self.hash_kind())
            {
                return Ok(Some(target));
            }
        }
        Ok(self.find(id, buffer)?.and_then(|_| tag::target(buffer, self.hash_kind())))
    }

    /// Like [`Objects::begin`], for an object whose place is known.
    pub fn begin_at(&self, location: Location, buffer: &mut Vec<u8>) -> Option<Kind> {
        let Location::Packed { pack, position } = location else { return None };
        let pack = self.pack(pack);
        self.begin_packed(&pack, pack.offset_at(position), buffer)
    }

    fn find_now(&self, id: &oid, buffer: &mut Vec<u8>) -> anyhow::Result<Option<gix_object::Kind>> {
        if let Some((pack, position)) = self.packed(id, &|_, _| true)? {
            let pack = self.pack(pack);
            let kind = self.read_packed(&pack, pack.offset_at(position), buffer);
            return kind.map(Some).with_context(|| format!("object {id}"));
        }
        let mut first_error = None;
        for n in 0..self.searched()?.len() {
            match self.find_loose(n, id, buffer) {
                Ok(None) => {}
                Ok(Some(kind)) => return Ok(Some(kind)),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error.map_or(Ok(None), Err)
    }

    fn header_loose(&self, directory: &Directory, id: &oid) -> anyhow::Result<Option<Header>> {
        let mut recent = directory.recent.borrow_mut();
        if let Some(header) = recent.header(id.to_owned()) {
            return Ok(Some(header));
        }
        let Reader { inflater, buffer, loose: content, .. } = &mut *self.shared.reader.borrow_mut();
        let found = loose::header(&directory.path, id, inflater, buffer, content)?;
        if let Some((header, true)) = found {
            recent.keep(id.to_owned(), header.kind, Rc::new(content.clone()));
        }
        Ok(found.map(|(header, _)| header))
    }

    fn find_loose(&self, n: usize, id: &oid, out: &mut Vec<u8>) -> anyhow::Result<Option<gix_object::Kind>> {
        let found = self.share_loose(n, id)?;
        Ok(found.map(|(kind, content)| {
            match Rc::try_unwrap(content) {
                // It was too large to be kept.
                Ok(content) => *out = content,
                Err(content) => {
                    out.clear();
                    out.extend_from_slice(&content);
                }
            }
            kind
        }))
    }

    /// The content of a loose object, shared with the cache of recent ones.
    fn share_loose(&self, n: usize, id: &oid) -> anyhow::Result<Option<(gix_object::Kind, Rc<Vec<u8>>)>> {
        let Some(directory) = self.searched()?.get(n).cloned() else { return Ok(None) };
        let mut recent = directory.recent.borrow_mut();
        let found = recent.find(id.to_owned()).filter(|(_, content)| content.len() as u64 <= self.object_limit);
        if found.is_some() {
            return Ok(found);
        }
        let Reader { inflater, buffer, loose: content, .. } = &mut *self.shared.reader.borrow_mut();
        let kind = loose::read(&directory.path, id, self.object_limit, inflater, buffer, content)?;
        Ok(kind.map(|kind| {
            if !recent.takes(content.len()) {
                return (kind, Rc::new(std::mem::take(content)));
            }
            let content = Rc::new(content.clone());
            recent.keep(id.to_owned(), kind, Rc::clone(&content));
            (kind, content)
        }))
    }

    /// Reads the content of an object whose place is known.
    ///
    /// # Errors
    /// As [`Objects::find`]; also when the object has vanished.
    pub fn find_at(&self, location: Location, id: &oid, buffer: &mut Vec<u8>) -> anyhow::Result<gix_object::Kind> {
        match location {
            Location::Packed { pack, position } => {
                let pack = self.pack(pack);
                self.read_packed(&pack, pack.offset_at(position), buffer).with_context(|| format!("object {id}"))
            }
            Location::Loose(n) => match self.find_loose(n as usize, id, buffer) {
                Ok(Some(kind)) => Ok(kind),
                // It was packed meanwhile, or another copy may be sound.
                Ok(None) => self.find(id, buffer)?.with_context(|| format!("object {id} has vanished")),
                Err(error) => self.find(id, buffer)?.ok_or(error),
            },
        }
    }

    /// Like [`Objects::find_at`], sharing the content with the cache of bases: for trees, which are read in storage
    /// order.
    ///
    /// # Errors
    /// As [`Objects::find_at`].
    pub fn share_at(&self, location: Location, id: &oid) -> anyhow::Result<(gix_object::Kind, Rc<Vec<u8>>)> {
        match location {
            Location::Packed { pack, position } => {
                let pack = self.pack(pack);
                return self.share_packed(&pack, pack.offset_at(position)).with_context(|| format!("object {id}"));
            }
            Location::Loose(n) => {
                if let Ok(Some(found)) = self.share_loose(n as usize, id) {
                    return Ok(found);
                }
            }
        }
        let mut content = Vec::new();
        let kind = self.find_at(location, id, &mut content)?;
        Ok((kind, Rc::new(content)))
    }

    /// The kind of an object whose place is known, if it is packed and not a delta.
    pub fn kind_at(&self, location: Location) -> Option<Kind> {
        let Location::Packed { pack, position } = location else { return None };
        let pack = self.pack(pack);
        let offset = pack.offset_at(position);
        match pack.head_at(offset).ok()?.kind {
            EntryKind::Whole(kind) if !self.is_damaged(pack.id(), offset) => Some(kind),
            EntryKind::Whole(_) | EntryKind::OfsDelta(_) | EntryKind::RefDelta(_) => None,
        }
    }

    /// The size of an object whose place is known. For a delta only the beginning is inflated, and no chain is
    /// followed.
    ///
    /// # Errors
    /// As [`Objects::header`]; also when the object has vanished.
    pub fn size_at(&self, location: Location, id: &oid) -> anyhow::Result<u64> {
        match location {
            Location::Packed { pack, position } => {
                let pack = self.pack(pack);
                let offset = pack.offset_at(position);
                if !self.is_damaged(pack.id(), offset)
                    && let Ok(size) = self.size_packed(&pack, offset)
                {
                    return Ok(size);
                }
            }
            Location::Loose(n) => {
                if let Some(directory) = self.searched()?.get(n as usize)
                    && let Ok(Some(header)) = self.header_loose(directory, id)
                {
                    return Ok(header.size);
                }
            }
        }
        let header = self.header(id)?.with_context(|| format!("object {id} has vanished"))?;
        Ok(header.size)
    }

    /// Reads the content of the entry at a pack offset, for walks that do not know IDs.
    ///
    /// # Errors
    /// As [`Objects::find`].
    pub fn find_in(&self, pack: &Arc<Pack>, offset: u64, buffer: &mut Vec<u8>) -> anyhow::Result<gix_object::Kind> {
        self.read_packed(pack, offset, buffer)
    }

    /// Kind and size of the entry at a pack offset.
    ///
    /// # Errors
    /// When the entry, or a base it depends on, cannot be read. Other copies are not tried.
    pub fn header_in(&self, pack: &Arc<Pack>, offset: u64) -> anyhow::Result<Header> {
        self.header_packed(pack, offset)
    }

    /// Like [`Objects::find_in`], sharing the content with the cache of bases.
    ///
    /// # Errors
    /// As [`Objects::find`].
    pub fn share_in(&self, pack: &Arc<Pack>, offset: u64) -> anyhow::Result<(gix_object::Kind, Rc<Vec<u8>>)> {
        self.share_packed(pack, offset)
    }
}

//! Objects on disk; refs are unknown here.
//!
//! In: object directories. Out: headers, contents, and where objects are stored. A missing object is `None`, never an
//! error, and a miss does not cause every directory to be read again. Nothing is opened before it is needed. If one copy
//! of an object is damaged, other copies are looked for. Messages for the operator are collected in
//! [`Objects::take_warnings`].

pub mod alternates;
mod bases;
pub mod bitmap;
mod bytes;
pub mod closure;
pub mod commit_graph;
pub mod delta;
pub mod depth;
mod directory;
mod folders;
pub mod graph;
mod heads;
pub mod ids;
mod index;
pub mod inflate;
mod loose;
mod map;
pub mod midx;
mod opener;
pub mod packs;
pub mod prefix;
pub mod promised;
mod read;
mod resolve;
mod tag;
pub mod usage;
pub mod walk;

use crate::stream::Pulse;
use anyhow::{Context, ensure};
use bitmap::{Bitmaps, Order};
use commit_graph::CommitGraph;
use directory::{BitmapsOf, Directory, Register, Slot};
use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use ids::{IdMap, IdSet};
use loose::Recent;
use resolve::{Damaged, Reader};
use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

pub use map::matches_its_checksum;
pub use opener::{Opener, threads};
pub use packs::{EntryHead, EntryKind, Pack, PackId};

/// The default limit for objects inflated into memory.
pub const OBJECT_BYTES_MAX: u64 = 4 << 30;
/// The default capacity of the delta-base cache, and separately of each directory's cache of loose objects. Only a
/// quarter is used while objects are small.
///
/// Packs are read in the order of their entries, and trees in that of their deltas, so what is needed again is needed
/// soon. Neither 16 MiB nor git's 96 MiB makes anything faster than 4 MiB, and a fetch pays for each fresh page that
/// the cache grows by.
pub const CACHE_BYTES: u64 = 16 << 20;
/// A chain of more tags than this is taken for a cycle.
const TAGS_MAX: usize = 1 << 20;
/// How often an object is looked for while the folders of packs change.
const LOOKS_MAX: u32 = 8;

/// An object's kind and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Commit, tree, blob or tag.
    pub kind: gix_object::Kind,
    /// The inflated size in bytes.
    pub size: u64,
}

/// Where an object is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Location {
    /// In a pack.
    Packed {
        /// The pack.
        pack: PackId,
        /// The position in the index, which is sorted by object ID.
        position: u32,
    },
    /// Loose, in the n-th of [`Objects::directories`].
    Loose(u32),
}

/// An object exceeds the limit for inflating into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge {
    /// The announced size in bytes.
    pub size: u64,
    /// The limit in bytes, see [`Objects::set_object_limit`].
    pub limit: u64,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "object of {} bytes is larger than the limit of {} bytes", self.size, self.limit)
    }
}

impl std::error::Error for TooLarge {}

/// The object database of one repository: a quarantine's directory if there is one, the repository's own, and its
/// alternates. A copy shares everything that is open.
#[derive(Clone)]
pub struct Objects {
    given: Vec<Rc<Directory>>,
    /// Alternates that are not named in a file.
    borrowed: Vec<PathBuf>,
    /// The given directories, then the alternates.
    searched: OnceCell<Rc<[Rc<Directory>]>>,
    /// The pack that had the last object found.
    last: RefCell<Option<Rc<Slot>>>,
    shared: Rc<Shared>,
    object_limit: u64,
    /// The wanted number, see [`threads`].
    threads: usize,
    graph_allowed: bool,
    /// The commits where this repository's own history is cut.
    shallow: Rc<IdSet>,
    /// The commits where the client's history is cut.
    cut: Rc<IdSet>,
}

/// Bitmaps, and the objects their bits refer to.
pub struct StoredBitmaps {
    /// The objects of a pack, or of a multi-pack-index.
    pub order: Order,
    /// The bitmaps.
    pub bitmaps: Bitmaps,
}

impl StoredBitmaps {
    fn open(order: Order, threads: bool) -> anyhow::Result<Self> {
        let bitmaps = Bitmaps::open(&order.bitmap_path(), order.checksum(), order.len(), threads)?;
        Ok(StoredBitmaps { order, bitmaps })
    }
}

/// What must be known about the object at the end of a chain of tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It exists, and its actual kind was read.
    Seen,
    /// The ID and kind that the last tag names.
    Named,
}

/// The state shared with databases that only have another directory in front, or other cuts.
struct Shared {
    register: Register,
    directories: RefCell<Vec<Rc<Directory>>>,
    reader: RefCell<Reader>,
    /// The capacity of each directory's cache of loose objects, and whether it is used in full while objects are few.
    recent: Cell<(u64, bool)>,
    damaged: RefCell<Damaged>,
    /// What chains of tags peel to, by [`End`].
    peeled: [RefCell<IdMap<(ObjectId, Kind)>>; 2],
    graph: OnceCell<Option<CommitGraph>>,
    /// `None` until bitmaps were looked for; `None` inside if there are no usable ones.
    bitmaps: RefCell<Option<Option<Rc<StoredBitmaps>>>>,
}

impl Shared {
    fn directory(&self, path: &Path) -> Rc<Directory> {
        let mut directories = self.directories.borrow_mut();
        match directories.iter().find(|directory| directory.path == path) {
            Some(directory) => Rc::clone(directory),
            None => {
                let (bytes, again) = self.recent.get();
                let mut recent = Recent::new(bytes);
                if again {
                    recent.expect_many();
                }
                let directory = Rc::new(Directory::new(path.to_owned(), recent));
                directories.push(Rc::clone(&directory));
                directory
            }
        }
    }
}

impl Objects {
    /// Creates a database without opening anything. `directories` are the object directories in search order, each with
    /// its own `info/alternates` (RE-14), which is read when first needed.
    pub fn new(hash: gix_hash::Kind, directories: Vec<PathBuf>) -> Self {
        Objects::of(Register::new(hash), &directories)
    }

    fn of(register: Register, directories: &[PathBuf]) -> Self {
        let shared = Rc::new(Shared {
            register,
            directories: RefCell::default(),
            reader: RefCell::new(Reader::new(CACHE_BYTES)),
            recent: Cell::new((CACHE_BYTES, false)),
            damaged: RefCell::default(),
            peeled: Default::default(),
            graph: OnceCell::new(),
            bitmaps: RefCell::default(),
        });
        Objects {
            given: directories.iter().map(|path| shared.directory(path)).collect(),
            borrowed: Vec::new(),
            searched: OnceCell::new(),
            last: RefCell::default(),
            shared,
            object_limit: OBJECT_BYTES_MAX,
            threads: 1,
            graph_allowed: true,
            shallow: Rc::default(),
            cut: Rc::default(),
        }
    }

    /// The same database with one more directory in front (a quarantine's). Packs keep their numbers, and open files
    /// and caches serve both.
    pub fn with_front(&self, directory: &Path) -> Self {
        let front = self.shared.directory(directory);
        let given = std::iter::once(front).chain(self.given.iter().cloned()).collect();
        Objects { given, searched: OnceCell::new(), ..self.clone() }
    }

    /// The same database as seen by a client whose history is cut at these commits: to walks they have no parents. The
    /// commit-graph stays in use, but is not followed there (SH-17).
    pub fn cut_at(&self, commits: impl IntoIterator<Item = ObjectId>) -> Self {
        Objects { cut: Rc::new(commits.into_iter().collect()), ..self.clone() }
    }

    /// SHA-1 or SHA-256.
    pub fn hash_kind(&self) -> gix_hash::Kind {
        self.shared.register.hash
    }

    /// Sets object directories to borrow from besides those in `info/alternates`, and before them: those in the
    /// environment of a process over pipes (EN-14).
    pub fn set_borrowed(&mut self, directories: Vec<PathBuf>) {
        self.borrowed = directories;
        self.searched = OnceCell::new();
    }

    /// Sets the limit for objects inflated into memory, in bytes; [`OBJECT_BYTES_MAX`] by default.
    pub fn set_object_limit(&mut self, bytes: u64) {
        self.object_limit = bytes;
    }

    /// Sets how many threads may read many objects at once, see [`threads`]; 1 by default.
    pub fn set_threads(&mut self, wanted: usize) {
        self.threads = wanted;
    }

    /// Sets the capacity, in bytes, of the delta-base cache and of each directory's cache of loose objects;
    /// [`CACHE_BYTES`] by default.
    pub fn set_cache_bytes(&self, bytes: u64) {
        self.shared.reader.borrow_mut().bases.set_limit(bytes);
        self.shared.recent.set((bytes, false));
        self.shared.directories.borrow().iter().for_each(|directory| directory.recent.borrow_mut().set_limit(bytes));
    }

    /// Announces that delta bases will be read again soon, even while they are few.
    pub fn expect_bases(&self) {
        self.shared.reader.borrow_mut().bases.expect_many();
        self.shared.recent.set((self.shared.recent.get().0, true));
        self.shared.directories.borrow().iter().for_each(|directory| directory.recent.borrow_mut().expect_many());
    }

    /// Announces that many objects will be read in the order of their deltas, so that the bases of one are bases of
    /// others as well.
    pub fn expect_chains(&self) {
        self.shared.reader.borrow_mut().whole_chains = true;
    }

    /// Sets whether the commit-graph may be used; not if the owner forbids it, or if the commits themselves must be
    /// read.
    pub fn set_graph_allowed(&mut self, allowed: bool) {
        self.graph_allowed = allowed;
    }

    /// Sets the commits where this repository's own history is cut (its `shallow` file): to walks they have no parents.
    /// If there are any, the commit-graph, which may know commits that do not exist here, is no longer used.
    pub fn set_shallow(&mut self, commits: Vec<ObjectId>) {
        self.shallow = Rc::new(commits.into_iter().collect());
    }

    /// The commits where this repository's own history is cut.
    pub fn shallow(&self) -> &IdSet {
        &self.shallow
    }

    /// Whether a client's history is cut; the repository's own boundary does not count.
    pub fn are_cut(&self) -> bool {
        !self.cut.is_empty()
    }

    /// Whether walks end at a commit, for either reason.
    pub fn ends_at(&self, id: &oid) -> bool {
        self.shallow.contains(id) || self.cut.contains(id)
    }

    /// Takes the messages for the operator about damaged or missing files. Each call returns only new ones.
    pub fn take_warnings(&self) -> Vec<String> {
        self.shared.register.take_warnings()
    }

    /// All object directories, including alternates.
    ///
    /// # Errors
    /// When an alternates file cannot be read.
    pub fn directories(&self) -> anyhow::Result<Vec<PathBuf>> {
        Ok(self.searched()?.iter().map(|directory| directory.path.clone()).collect())
    }

    /// The directories of the alternates only, in search order.
    ///
    /// # Errors
    /// When an alternates file cannot be read.
    pub fn alternates(&self) -> anyhow::Result<Vec<PathBuf>> {
        Ok(self.searched()?.iter().skip(self.given.len()).map(|directory| directory.path.clone()).collect())
    }

    /// A pack returned by [`Objects::locate`] or [`Objects::packs`]; it is open.
    pub fn pack(&self, id: PackId) -> Arc<Pack> {
        let slot = self.shared.register.slot(id).expect("only this database gives out numbers");
        slot.open(&self.shared.register).expect("a pack is named when it is open, and stays so")
    }

    /// All packs at present, opened, newest first; with `local`, without those of alternates. A pack that cannot be
    /// opened is left out with a warning.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn packs(&self, local: bool) -> anyhow::Result<Vec<PackId>> {
        let searched = self.searched()?;
        let directories = if local { &self.given[..] } else { &searched[..] };
        let mut packs = Vec::new();
        for directory in directories {
            let slots = directory.all(&self.shared.register).with_context(|| read_error(directory))?;
            packs.extend(slots.iter().filter_map(|slot| slot.open(&self.shared.register)).map(|pack| pack.id()));
        }
        Ok(packs)
    }

    /// Describes the present state of the storage, to tell it from others: the directories and their packs. Opens none
    /// of them.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn storage(&self) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut words = Vec::new();
        for directory in self.searched()?.iter() {
            directory.told(&self.shared.register, &mut words).with_context(|| read_error(directory))?;
        }
        Ok(words)
    }

    /// The pack with this trailer.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn pack_of_checksum(&self, checksum: &oid) -> anyhow::Result<Option<Arc<Pack>>> {
        // Usually the pack is named after it, and no other pack has to be opened.
        let name = format!("pack-{checksum}");
        let is = |pack: &Arc<Pack>| pack.checksum() == checksum;
        for directory in self.searched()?.iter() {
            let named = directory.named(name.as_ref(), &self.shared.register);
            if let Some(pack) = named.with_context(|| read_error(directory))?.filter(is) {
                return Ok(Some(pack));
            }
        }
        Ok(self.packs(false)?.into_iter().map(|id| self.pack(id)).find(is))
    }

    /// Adds a message for the operator.
    pub fn warn(&self, warning: String) {
        self.shared.register.warn(warning);
    }

    /// All loose objects in the local directories.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn loose_ids(&self) -> anyhow::Result<Vec<ObjectId>> {
        let mut ids = Vec::new();
        for directory in &self.given {
            loose::ids(&directory.path, self.hash_kind(), &mut ids).with_context(|| read_error(directory))?;
        }
        Ok(ids)
    }

    /// The commit-graph, if there is a valid one that may be used.
    pub fn graph(&self) -> Option<&CommitGraph> {
        if !self.graph_allowed || !self.shallow.is_empty() {
            return None;
        }
        let load = || {
            let directories = self.directories().ok()?;
            CommitGraph::load(&directories, self.hash_kind(), &mut |warning| self.shared.register.warn(warning))
        };
        self.shared.graph.get_or_init(load).as_ref()
    }

    /// The first usable bitmaps, preferring those of a multi-pack-index over those of packs. `None` if they have more
    /// than `most` bytes, or if history is cut anywhere, which bitmaps do not know. Trust them only if
    /// [`Bitmaps::check`] succeeds.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn bitmaps(&self, most: u64) -> anyhow::Result<Option<Rc<StoredBitmaps>>> {
        if !self.have_whole_history() {
            return Ok(None);
        }
        if let Some(looked) = &*self.shared.bitmaps.borrow() {
            return Ok(looked.clone());
        }
        let register = &self.shared.register;
        let mut found = None;
        for directory in self.searched()?.iter() {
            let stored = directory.bitmaps(register).with_context(|| read_error(directory))?;
            for file in stored {
                if file.bytes > most {
                    return Ok(None);
                }
                let order = match &file.of {
                    BitmapsOf::Midx => self.midx_order(&directory.path),
                    BitmapsOf::Pack(slot) => match slot.open(register) {
                        Some(pack) => Ok(Order::Pack(pack)),
                        None => continue,
                    },
                };
                // Bitmaps of an older multi-pack-index are useless, but not damaged.
                if order.as_ref().is_ok_and(|order| order.bitmap_path() != file.path) {
                    continue;
                }
                match order.and_then(|order| StoredBitmaps::open(order, opener::threads(self.threads) > 1)) {
                    Ok(stored) => found = found.or_else(|| Some(Rc::new(stored))),
                    Err(error) if directory::is_gone(&error) => {}
                    Err(error) => register.warn(format!("{}: {error:#}", file.path.display())),
                }
            }
        }
        *self.shared.bitmaps.borrow_mut() = Some(found.clone());
        Ok(found)
    }

    /// Whether history is not cut anywhere.
    fn have_whole_history(&self) -> bool {
        self.shallow.is_empty() && !self.are_cut()
    }

    /// The objects of a directory's multi-pack-index, in bitmap order.
    ///
    /// # Errors
    /// When there is none, it is damaged, or one of its packs is unusable.
    fn midx_order(&self, directory: &Path) -> anyhow::Result<Order> {
        let all = self.shared.directory(directory).pseudo_pack(&self.shared.register)?;
        Ok(Order::Midx(Box::new(all)))
    }

    /// Reports damaged bitmaps and stops using them.
    pub fn distrust(&self, stored: &StoredBitmaps, error: &anyhow::Error) {
        self.shared.register.warn(format!("{}: {error:#}", stored.order.bitmap_path().display()));
        *self.shared.bitmaps.borrow_mut() = Some(None);
    }

    /// Peels tags. Returns the ID and kind of the first object that is not a tag; `None` if an object on the way is
    /// missing, or a tag names nothing.
    ///
    /// # Errors
    /// When a tag cannot be read, or the chain has a cycle.
    pub fn peel(&self, id: &oid) -> anyhow::Result<Option<(ObjectId, Kind)>> {
        self.peel_to(id, End::Seen)
    }

    /// Like [`Objects::peel`], but trusts the last tag that the object exists and has the kind it says.
    ///
    /// # Errors
    /// As [`Objects::peel`].
    pub fn peel_as_named(&self, id: &oid) -> anyhow::Result<Option<(ObjectId, Kind)>> {
        self.peel_to(id, End::Named)
    }

    fn peel_to(&self, id: &oid, which: End) -> anyhow::Result<Option<(ObjectId, Kind)>> {
        let mut id = id.to_owned();
        let mut named = None;
        let mut content = Vec::new();
        let mut passed = Vec::new();
        let end = loop {
            if let Some(end) = self.shared.peeled[which as usize].borrow().get(&id) {
                break *end;
            }
            if let Some(kind) = named.filter(|kind| which == End::Named && *kind != Kind::Tag) {
                break (id, kind);
            }
            let size = match self.header(&id)? {
                None => return Ok(None),
                Some(Header { kind: Kind::Tag, size }) => size,
                Some(Header { kind, .. }) => break (id, kind),
            };
            let Some((target, kind)) = self.tag_target(&id, size, &mut content)? else { return Ok(None) };
            ensure!(passed.len() < TAGS_MAX, "tag {id} does not end");
            passed.push(id);
            (id, named) = (target, Some(kind));
        };
        // Tags of tags are rare, but if there are any, many may lead to the same chain.
        if passed.len() > 1 {
            self.shared.peeled[which as usize].borrow_mut().extend(passed.into_iter().map(|tag| (tag, end)));
        }
        Ok(Some(end))
    }

    /// Whether `ancestor` is reachable from `descendant` (both commits, or tags of commits).
    ///
    /// # Errors
    /// When a commit on the way is missing or corrupt.
    pub fn is_ancestor(&self, ancestor: &oid, descendant: &oid, pulse: &mut dyn Pulse) -> anyhow::Result<bool> {
        walk::is_ancestor(self, ancestor, descendant, pulse)
    }

    /// The given directories, then the alternates.
    fn searched(&self) -> anyhow::Result<Rc<[Rc<Directory>]>> {
        if let Some(searched) = self.searched.get() {
            return Ok(Rc::clone(searched));
        }
        let given: Vec<PathBuf> = self.given.iter().map(|directory| directory.path.clone()).collect();
        let mut warnings = Vec::new();
        let behind =
            alternates::alternates_of(&given, &self.borrowed, &mut warnings).context("cannot read info/alternates")?;
        warnings.into_iter().for_each(|warning| self.shared.register.warn(warning));
        let behind = behind.iter().map(|path| self.shared.directory(path));
        let searched = self.given.iter().cloned().chain(behind).collect();
        Ok(Rc::clone(self.searched.get_or_init(|| searched)))
    }

    /// A pack that has the object and whose copy is accepted.
    fn packed(&self, id: &oid, accept: &dyn Fn(&Slot, u32) -> bool) -> anyhow::Result<Option<(PackId, u32)>> {
        let register = &self.shared.register;
        if let Some(slot) = &*self.last.borrow()
            && let Some(position) = slot.position(id, register).filter(|position| accept(slot, *position))
        {
            return Ok(Some((slot.id, position)));
        }
        let ask =
            |directory: &Rc<Directory>| directory.packed(id, register, accept).with_context(|| read_error(directory));
        let mut found = None;
        for directory in &self.given {
            found = ask(directory)?;
            if found.is_some() {
                break;
            }
        }
        if found.is_none() {
            for directory in &self.searched()?[self.given.len()..] {
                found = ask(directory)?;
                if found.is_some() {
                    break;
                }
            }
        }
        if let Some((pack, _)) = found {
            *self.last.borrow_mut() = register.slot(pack);
        }
        Ok(found)
    }

    /// Repeats `look` after a miss as long as a directory has something new: between two looks an object may be packed
    /// and its pack replaced, even several times.
    fn until_found<T>(&self, look: &mut dyn FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<Option<T>> {
        for _ in 0..LOOKS_MAX {
            let found = look()?;
            if found.is_some() || !self.look_again()? {
                return Ok(found);
            }
        }
        look()
    }

    /// After a miss, whether a directory has something new.
    fn look_again(&self) -> anyhow::Result<bool> {
        let mut new = false;
        for directory in self.searched()?.iter() {
            new |= directory.refresh(&self.shared.register).with_context(|| read_error(directory))?;
        }
        Ok(new)
    }
}

fn read_error(directory: &Directory) -> String {
    format!("cannot read object directory {}", directory.path.display())
}

#[cfg(test)]
mod tests;

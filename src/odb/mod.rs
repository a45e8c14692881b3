//! Objects on disk, nothing of refs.
//!
//! In: object directories. Out: headers, contents, and where an object lies. A missing object is `None`, never an error;
//! no directory is read again for each miss.

pub mod closure;
pub mod graph;
pub mod inflate;
pub mod packs;
pub mod walk;

use crate::stream::Pulse;
use gix_hash::{ObjectId, oid};
use std::path::{Path, PathBuf};

pub use packs::{Entry, EntryKind, Pack, PackId};

/// What an object is and how large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Commit, tree, blob or tag.
    pub kind: gix_object::Kind,
    /// Bytes, inflated.
    pub size: u64,
}

/// Where an object lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Location {
    /// In a pack: which one, and the position in its index (by name).
    Packed {
        /// The pack.
        pack: PackId,
        /// The position in the index, which is the order of names.
        position: u32,
    },
    /// Loose, in the n-th object directory.
    Loose(u32),
}

/// The object database of one repository: its directory, a quarantine's before it, alternates behind it.
pub struct Objects {
    hash: gix_hash::Kind,
}

impl Objects {
    /// Opens nothing yet. `directories`: the object directories in the order in which they are searched, each with its own
    /// `info/alternates` (RE-14), which are read when first needed.
    pub fn new(hash: gix_hash::Kind, directories: Vec<PathBuf>) -> Self {
        let _ = directories;
        Objects { hash }
    }

    /// The same database with one more directory in front (a quarantine's).
    pub fn with_front(&self, directory: &Path) -> Self {
        let _ = directory;
        unimplemented!()
    }

    /// SHA-1 or SHA-256.
    pub fn hash_kind(&self) -> gix_hash::Kind {
        self.hash
    }

    /// All object directories, alternates included.
    ///
    /// # Errors
    /// When an alternates file cannot be read.
    pub fn directories(&self) -> anyhow::Result<Vec<PathBuf>> {
        unimplemented!()
    }

    /// The directories of the alternates alone, in their order.
    ///
    /// # Errors
    /// When an alternates file cannot be read.
    pub fn alternates(&self) -> anyhow::Result<Vec<PathBuf>> {
        unimplemented!()
    }

    /// Whether the object is there. Costs an index probe, no read of the object.
    ///
    /// # Errors
    /// When an index cannot be read.
    pub fn contains(&self, id: &oid) -> anyhow::Result<bool> {
        Ok(self.locate(id)?.is_some())
    }

    /// Where the object lies. Packs first (multi-pack-index, then by age), then loose.
    ///
    /// # Errors
    /// When an index cannot be read.
    pub fn locate(&self, id: &oid) -> anyhow::Result<Option<Location>> {
        let _ = id;
        unimplemented!()
    }

    /// Kind and size, without inflating more than the delta headers need.
    ///
    /// # Errors
    /// When the object is corrupt.
    pub fn header(&self, id: &oid) -> anyhow::Result<Option<Header>> {
        let _ = id;
        unimplemented!()
    }

    /// The content, in `buffer` (cleared first). Keeps a cache of delta bases, bounded in bytes.
    ///
    /// # Errors
    /// When the object is corrupt, or larger than the limit set with [`Objects::set_object_limit`].
    pub fn find(&self, id: &oid, buffer: &mut Vec<u8>) -> anyhow::Result<Option<gix_object::Kind>> {
        let _ = (id, buffer);
        unimplemented!()
    }

    /// The content of an object whose place is known.
    ///
    /// # Errors
    /// As [`Objects::find`]; also when it has vanished.
    pub fn find_at(&self, location: Location, id: &oid, buffer: &mut Vec<u8>) -> anyhow::Result<gix_object::Kind> {
        let _ = (location, id, buffer);
        unimplemented!()
    }

    /// The largest object that is inflated into memory, in bytes.
    pub fn set_object_limit(&mut self, bytes: u64) {
        let _ = bytes;
    }

    /// A pack that [`Objects::locate`] named.
    pub fn pack(&self, id: PackId) -> std::rc::Rc<Pack> {
        let _ = id;
        unimplemented!()
    }

    /// All packs there are now, opened or not; `local` leaves out those of alternates.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn packs(&self, local: bool) -> anyhow::Result<Vec<PackId>> {
        let _ = local;
        unimplemented!()
    }

    /// Every loose object of the local directories (for a full repack-like selection and for `check`).
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn loose_ids(&self) -> anyhow::Result<Vec<ObjectId>> {
        unimplemented!()
    }

    /// The commit-graph, where there is a valid one.
    pub fn graph(&self) -> Option<&gix_commitgraph::Graph> {
        unimplemented!()
    }

    /// Peels tags: the id and kind of what the chain ends at; `None` when something on the way is missing.
    ///
    /// # Errors
    /// When a tag is corrupt, or the chain has a cycle.
    pub fn peel(&self, id: &oid) -> anyhow::Result<Option<(ObjectId, gix_object::Kind)>> {
        let _ = id;
        unimplemented!()
    }

    /// Whether `ancestor` is reachable from `descendant` (both commits, or tags of commits).
    ///
    /// # Errors
    /// When a commit on the way is missing or corrupt.
    pub fn is_ancestor(&self, ancestor: &oid, descendant: &oid, pulse: &mut dyn Pulse) -> anyhow::Result<bool> {
        let _ = (ancestor, descendant, pulse);
        unimplemented!()
    }
}

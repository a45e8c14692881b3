//! Which packs there are, and one pack: index, entries, reverse index.

use gix_hash::oid;
use std::fs::File;
use std::path::Path;

/// A pack of this process's list. Numbers stay valid while the database is open, even when the file vanishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackId(pub u32);

/// How an entry is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// The object itself.
    Whole(gix_object::Kind),
    /// A delta on the entry at this offset of the same pack.
    OfsDelta(u64),
    /// A delta on the object of this name.
    RefDelta(gix_hash::ObjectId),
}

/// One entry's header and extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// How it is stored.
    pub kind: EntryKind,
    /// Inflated bytes of what is stored (of a delta: the delta's).
    pub size: u64,
    /// Where its header begins.
    pub offset: u64,
    /// Where its zlib stream begins.
    pub data: u64,
    /// Where the next entry (or the trailer) begins.
    pub end: u64,
}

/// One pack with its index, opened.
pub struct Pack {
    _private: (),
}

impl Pack {
    /// The `.pack` file's path.
    pub fn path(&self) -> &Path {
        unimplemented!()
    }

    /// The pack file, for sending parts of it.
    pub fn file(&self) -> &File {
        unimplemented!()
    }

    /// How many objects it holds.
    pub fn len(&self) -> u32 {
        unimplemented!()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the pack file, trailer included.
    pub fn size(&self) -> u64 {
        unimplemented!()
    }

    /// The position of an object in the index.
    pub fn position(&self, id: &oid) -> Option<u32> {
        let _ = id;
        unimplemented!()
    }

    /// The name at an index position.
    pub fn id_at(&self, position: u32) -> &oid {
        let _ = position;
        unimplemented!()
    }

    /// The pack offset of an index position.
    pub fn offset_at(&self, position: u32) -> u64 {
        let _ = position;
        unimplemented!()
    }

    /// The stored CRC32 of an entry, by index position; `None` for indexes of version 1.
    pub fn crc32_at(&self, position: u32) -> Option<u32> {
        let _ = position;
        unimplemented!()
    }

    /// Index positions in pack order: the n-th is the n-th entry of the pack. From `.rev`, else sorted once.
    pub fn by_offset(&self) -> &[u32] {
        unimplemented!()
    }

    /// The index position of the entry at a pack offset.
    pub fn position_at_offset(&self, offset: u64) -> Option<u32> {
        let _ = offset;
        unimplemented!()
    }

    /// Header and extent of the entry at an index position.
    ///
    /// # Errors
    /// When the header is corrupt.
    pub fn entry(&self, position: u32) -> anyhow::Result<Entry> {
        let _ = position;
        unimplemented!()
    }

    /// The stored bytes of an entry, header included, mapped or read into `buffer`.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn bytes<'a>(&'a self, range: std::ops::Range<u64>, buffer: &'a mut Vec<u8>) -> anyhow::Result<&'a [u8]> {
        let _ = (range, buffer);
        unimplemented!()
    }
}

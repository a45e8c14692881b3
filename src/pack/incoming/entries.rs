//! The entries of an incoming pack, in flat columns that grow as entries arrive.
//!
//! [`Layout`] is complete after the scan; after that all threads only read it. [`Names`] are filled in by one thread as
//! deltas are resolved. The number of objects in the pack's header never sizes anything here.

use gix_hash::{ObjectId, oid};
use gix_object::Kind;

/// How an entry is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    /// The object itself.
    Whole(Kind),
    /// A delta on an earlier entry.
    OfsDelta,
    /// A delta on an object referred to by name.
    RefDelta,
}

impl Stored {
    /// The meaning of the three type bits in an entry's header.
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Stored::Whole(Kind::Commit),
            2 => Stored::Whole(Kind::Tree),
            3 => Stored::Whole(Kind::Blob),
            4 => Stored::Whole(Kind::Tag),
            6 => Stored::OfsDelta,
            7 => Stored::RefDelta,
            _ => return None,
        })
    }
}

/// The three type bits for an object of this kind.
pub(super) fn code_of(kind: Kind) -> u8 {
    match kind {
        Kind::Commit => 1,
        Kind::Tree => 2,
        Kind::Blob => 3,
        Kind::Tag => 4,
    }
}

/// Where the entries are.
#[derive(Debug, Default)]
pub(super) struct Layout {
    offsets: Vec<u64>,
    header_lens: Vec<u8>,
    crcs: Vec<u32>,
    end: u64,
}

impl Layout {
    /// The bytes of memory that one entry takes here and in [`Names`], including sorting it by name.
    pub fn bytes_per_entry(hash: gix_hash::Kind) -> u64 {
        (8 + 1 + 4 + 1 + 16 + hash.len_in_bytes()) as u64
    }

    /// Adds an entry, which must begin where the last one ended and has a header of `header_len` bytes.
    pub fn push(&mut self, offset: u64, header_len: u8, crc: u32, end: u64) {
        self.offsets.push(offset);
        self.header_lens.push(header_len);
        self.crcs.push(crc);
        self.end = end;
    }

    /// The number of entries. A pack has fewer than 2^32, since its header counts them in 32 bits.
    pub fn len(&self) -> u32 {
        u32::try_from(self.offsets.len()).expect("no more entries are pushed than a pack header counts")
    }

    /// Where an entry begins.
    pub fn offset(&self, index: u32) -> u64 {
        self.offsets[index as usize]
    }

    /// Where an entry's zlib stream begins.
    pub fn data(&self, index: u32) -> u64 {
        self.offset(index) + u64::from(self.header_lens[index as usize])
    }

    /// Where an entry ends.
    pub fn end(&self, index: u32) -> u64 {
        self.offsets.get(index as usize + 1).copied().unwrap_or(self.end)
    }

    /// The CRC32 of an entry's bytes.
    pub fn crc(&self, index: u32) -> u32 {
        self.crcs[index as usize]
    }

    /// The entry that begins at an offset.
    pub fn at_offset(&self, offset: u64) -> Option<u32> {
        self.offsets.binary_search(&offset).ok().and_then(|index| u32::try_from(index).ok())
    }
}

/// The names and kinds of the entries' objects.
#[derive(Debug)]
pub(super) struct Names {
    hash_len: usize,
    ids: Vec<u8>,
    kinds: Vec<Option<Kind>>,
}

impl Names {
    /// Columns for object names of this hash.
    pub fn new(hash: gix_hash::Kind) -> Self {
        Names { hash_len: hash.len_in_bytes(), ids: Vec::new(), kinds: Vec::new() }
    }

    /// The number of entries.
    pub fn len(&self) -> u32 {
        u32::try_from(self.kinds.len()).expect("no more entries are pushed than a pack header counts, and their bases")
    }

    /// Adds an entry whose object is known.
    pub fn push(&mut self, id: &oid, kind: Kind) {
        self.ids.extend_from_slice(id.as_bytes());
        self.kinds.push(Some(kind));
    }

    /// Adds a delta that is not resolved yet.
    pub fn push_unknown(&mut self) {
        self.ids.resize(self.ids.len() + self.hash_len, 0);
        self.kinds.push(None);
    }

    /// Sets the object that a delta has been resolved to.
    pub fn set(&mut self, index: u32, id: &oid, kind: Kind) {
        let at = index as usize * self.hash_len;
        self.ids[at..at + self.hash_len].copy_from_slice(id.as_bytes());
        self.kinds[index as usize] = Some(kind);
    }

    /// An entry's kind, if it is known yet.
    pub fn kind(&self, index: u32) -> Option<Kind> {
        self.kinds[index as usize]
    }

    /// The bytes of an entry's name; zeros while it is unknown.
    pub fn id(&self, index: u32) -> &[u8] {
        let at = index as usize * self.hash_len;
        &self.ids[at..at + self.hash_len]
    }

    /// An entry's name; the null id while it is unknown.
    pub fn object_id(&self, index: u32) -> ObjectId {
        ObjectId::from_bytes_or_panic(self.id(index))
    }

    /// All entries in the order of their names, equal ones in pack order.
    pub fn order(&self) -> Vec<u32> {
        // Comparing eight bytes stored beside the position is several times faster than fetching both names each time.
        let mut keyed: Vec<(u64, u32)> = (0..)
            .zip(self.ids.chunks_exact(self.hash_len))
            .map(|(index, id)| {
                let (head, _) = id.split_first_chunk().expect("names have at least eight bytes");
                (u64::from_be_bytes(*head), index)
            })
            .collect();
        keyed.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| self.id(a.1).cmp(self.id(b.1))).then(a.1.cmp(&b.1)));
        keyed.into_iter().map(|(_, index)| index).collect()
    }
}

//! One pack: its index, entries and reverse index.
//!
//! In: the path of a pack. Out: where each object is and how it is stored. One function gives access to the pack file:
//! it maps it or, if that fails, reads pieces of it. Deltas are not resolved here.

use super::index::{Index, Reverse};
use super::inflate::{CompressedSource, Inflater, Pieces};
use super::map::map;
use crate::stream::Sink;
use anyhow::{Context, bail};
use gix_hash::{ObjectId, oid};
use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Sorting a pack's offsets takes at least as long as this many scans of all of them.
const LOOKS: u32 = 32;
/// Signature, version, number of objects.
const HEAD_BYTES: u64 = 12;
/// Below this file descriptor number, the limits are not looked up.
const FILES_FEW: u64 = 32;
/// How much of a pack is handed on at once.
const PIECE_BYTES: u64 = 256 << 10;
/// More than any entry header has: ten bytes of size, and the ID or distance of a base.
const ENTRY_HEAD_BYTES: usize = 48;

/// The number of a pack in its database. It stays valid while the database is open, even if the file is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackId(pub u32);

/// How an entry is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// The object itself.
    Whole(gix_object::Kind),
    /// A delta on the entry at this offset of the same pack.
    OfsDelta(u64),
    /// A delta on the object with this ID.
    RefDelta(ObjectId),
}

/// One entry's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryHead {
    /// How it is stored.
    pub kind: EntryKind,
    /// The inflated size of the object, or of the delta if it is one.
    pub size: u64,
    /// The offset of its zlib stream.
    pub data: u64,
}

/// One opened pack with its index. Threads may share it.
pub struct Pack {
    id: PackId,
    path: PathBuf,
    file: PackFile,
    size: u64,
    hash: gix_hash::Kind,
    index: Index,
    /// `None` inside if there is no usable `.rev`.
    reverse: OnceLock<Option<Reverse>>,
    /// Positions sorted by offset; `None` inside if the `.rev` is complete.
    order: OnceLock<Option<Vec<u32>>>,
    /// How many more times all offsets may be scanned before they are sorted.
    looks_left: AtomicU32,
}

/// A pack's file.
enum PackFile {
    /// Stays open as long as the pack.
    Open {
        file: File,
        /// `None` inside if it cannot be mapped, so that pieces are read.
        map: OnceLock<Option<Mmap>>,
    },
    /// Mapped and closed, because the number of open files is limited.
    Mapped(Mmap),
}

/// How bytes of a pack are accessed.
enum Contents<'a> {
    Mapped(&'a Mmap),
    Read(&'a File),
}

/// Maps a pack's file, unless it shrank since it was opened: then reading gives an error, but touching the map would
/// give a signal.
fn mapped(file: &File, size: u64) -> Option<Mmap> {
    map(file).ok().filter(|map| map.len() as u64 >= size)
}

/// Index positions in pack order.
#[derive(Clone, Copy)]
pub struct ByOffset<'a> {
    reverse: Option<&'a Reverse>,
    /// Takes precedence over `reverse`.
    sorted: Option<&'a [u32]>,
}

impl<'a> ByOffset<'a> {
    /// The position of the pack's n-th entry.
    pub fn get(self, rank: u32) -> Option<u32> {
        match self.sorted {
            Some(order) => order.get(rank as usize).copied(),
            None => self.reverse?.position(rank),
        }
    }

    /// All positions.
    pub fn iter(self) -> impl Iterator<Item = u32> + use<'a> {
        self.iter_from(0)
    }

    /// The positions of the entries from the n-th on.
    pub fn iter_from(self, rank: u32) -> impl Iterator<Item = u32> + use<'a> {
        (rank..).map_while(move |rank| self.get(rank))
    }
}

impl Pack {
    /// Opens the pack file that belongs to an index. Both must agree on the number of objects and on the trailer.
    pub(super) fn open(id: PackId, path: PathBuf, hash: gix_hash::Kind, index: Index) -> anyhow::Result<Self> {
        let (file, may_stay) = open_to_stay(&path)?;
        let size = check_frame(&file, hash, &index)?;
        let file = match if may_stay { None } else { mapped(&file, size) } {
            Some(map) => PackFile::Mapped(map),
            None => PackFile::Open { file, map: OnceLock::new() },
        };
        let (reverse, order) = (OnceLock::new(), OnceLock::new());
        Ok(Pack { id, path, file, size, hash, index, reverse, order, looks_left: LOOKS.into() })
    }

    /// The number of this pack in its database.
    pub fn id(&self) -> PackId {
        self.id
    }

    /// The `.pack` file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sends a range of the pack file.
    ///
    /// # Errors
    /// As [`Sink::send_file`].
    pub fn send(&self, out: &mut dyn Sink, range: Range<u64>) -> io::Result<()> {
        match &self.file {
            PackFile::Open { file, .. } => out.send_file(file, range),
            PackFile::Mapped(map) => out.write_all(&map[range.start as usize..range.end as usize]),
        }
    }

    /// The number of objects.
    pub fn len(&self) -> u32 {
        self.index.len()
    }

    /// Whether it has no objects.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The size of the pack file in bytes, including the trailer.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where the entries end and the trailer begins.
    pub fn body_end(&self) -> u64 {
        self.size - self.hash.len_in_bytes() as u64
    }

    /// The pack's trailer, the hash of everything before it, as repeated in the index.
    pub fn checksum(&self) -> &oid {
        oid::try_from_bytes(self.index.pack_checksum()).expect("the width is that of the hash")
    }

    /// The position of an object in the index.
    pub fn position(&self, id: &oid) -> Option<u32> {
        self.index.position(id)
    }

    /// The ID at an index position. The bytes are only touched when the caller looks at them.
    pub fn id_at(&self, position: u32) -> &oid {
        self.index.id_at(position)
    }

    /// Like [`Pack::id_at`], for a caller that looks at the ID right away.
    pub fn read_id_at(&self, position: u32) -> ObjectId {
        self.index.read_id_at(position)
    }

    /// The pack offset at an index position. It is unverified; reading there checks it.
    pub fn offset_at(&self, position: u32) -> u64 {
        self.index.offset_at(position)
    }

    /// The CRC32 of the entry at an index position; `None` with an index of version 1.
    pub fn crc32_at(&self, position: u32) -> Option<u32> {
        self.index.crc32_at(position)
    }

    /// Index positions in pack order, from `.rev`, or else sorted once.
    pub fn by_offset(&self) -> ByOffset<'_> {
        let reverse = self.reverse();
        let sorted = self.order.get_or_init(|| {
            if reverse.is_some_and(Reverse::is_complete) {
                return None;
            }
            let mut entries: Vec<(u64, u32)> =
                (0..self.len()).map(|position| (self.offset_at(position), position)).collect();
            entries.sort_unstable();
            Some(entries.into_iter().map(|(_, position)| position).collect())
        });
        ByOffset { reverse, sorted: sorted.as_deref() }
    }

    /// Like [`Pack::by_offset`], for callers that detect errors themselves: does not check that `.rev` names each
    /// position once.
    pub fn by_offset_unchecked(&self) -> ByOffset<'_> {
        match (self.order.get(), self.reverse()) {
            (None, Some(reverse)) => ByOffset { reverse: Some(reverse), sorted: None },
            _ => self.by_offset(),
        }
    }

    /// Where the entries at these index positions end. `chosen` must be sorted by offset. If the pack order is not
    /// known, one scan of all offsets is cheaper than sorting them.
    pub fn ends_of(&self, chosen: &[u32]) -> Vec<u64> {
        if self.order.get().is_some() || self.reverse().is_some() {
            let end = |position: &u32| {
                let rank = self.rank_at_offset(self.offset_at(*position))?;
                Some(self.position_at_rank(rank + 1).map_or(self.body_end(), |next| self.offset_at(next)))
            };
            if let Some(ends) = chosen.iter().map(end).collect() {
                return ends;
            }
        }
        let starts: Vec<u64> = chosen.iter().map(|position| self.offset_at(*position)).collect();
        let mut ends = vec![self.body_end(); starts.len()];
        for offset in (0..self.len()).map(|position| self.offset_at(position)) {
            // The last chosen entry that begins before this offset ends here at the latest.
            if let Some(end) = starts.partition_point(|start| *start < offset).checked_sub(1) {
                ends[end] = ends[end].min(offset);
            }
        }
        ends
    }

    /// The index position of the pack's n-th entry. If there is a `.rev`, this reads only what it needs.
    pub fn position_at_rank(&self, rank: u32) -> Option<u32> {
        self.by_offset_unchecked().get(rank)
    }

    /// The rank of the entry at a pack offset, counted from the beginning of the pack.
    pub fn rank_at_offset(&self, offset: u64) -> Option<u32> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.offset_at(self.position_at_rank(middle)?).cmp(&offset) {
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The index position of the entry at a pack offset. If the pack order is not known, scanning all offsets for a few
    /// entries is cheaper than sorting them.
    pub fn position_at_offset(&self, offset: u64) -> Option<u32> {
        let is_left = || self.looks_left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        if self.order.get().is_none() && self.reverse().is_none() && is_left() {
            return self.index.position_of(offset);
        }
        self.position_at_rank(self.rank_at_offset(offset)?)
    }

    fn reverse(&self) -> Option<&Reverse> {
        let path = || self.path.with_extension("rev");
        let open = || Reverse::open(&path(), self.hash, self.len(), self.index.pack_checksum()).ok();
        self.reverse.get_or_init(open).as_ref()
    }

    /// Parses the header of the entry at a pack offset.
    ///
    /// # Errors
    /// When the header is corrupt.
    pub fn head_at(&self, offset: u64) -> anyhow::Result<EntryHead> {
        if offset < HEAD_BYTES || offset >= self.body_end() {
            bail!("offset {offset} is not in {}", self.path.display());
        }
        let mut read = [0; ENTRY_HEAD_BYTES];
        let room = usize::try_from(self.body_end() - offset).unwrap_or(ENTRY_HEAD_BYTES).min(ENTRY_HEAD_BYTES);
        let bytes = match self.contents() {
            // This is in range: the map is at least as long as the file was, and `body_end` is within that.
            Contents::Mapped(map) => &map[offset as usize..offset as usize + room],
            Contents::Read(file) => {
                file.read_exact_at(&mut read[..room], offset)?;
                &read[..room]
            }
        };
        parse_head(bytes, offset, self.hash)
            .with_context(|| format!("entry at offset {offset} of {}", self.path.display()))
    }

    fn contents(&self) -> Contents<'_> {
        match &self.file {
            PackFile::Mapped(map) => Contents::Mapped(map),
            PackFile::Open { file, map } => match map.get_or_init(|| mapped(file, self.size)) {
                Some(map) => Contents::Mapped(map),
                None => Contents::Read(file),
            },
        }
    }

    /// The stored bytes of an entry, including its header, mapped or read into `buffer`.
    ///
    /// # Errors
    /// When the range is invalid or cannot be read.
    pub fn bytes<'a>(&'a self, range: Range<u64>, buffer: &'a mut Vec<u8>) -> anyhow::Result<&'a [u8]> {
        if range.start > range.end || range.end > self.size {
            bail!("{range:?} is not in {}", self.path.display());
        }
        let file = match self.contents() {
            Contents::Mapped(map) => return Ok(&map[range.start as usize..range.end as usize]),
            Contents::Read(file) => file,
        };
        let length = usize::try_from(range.end - range.start).context("entry is too large for this machine")?;
        buffer.clear();
        // The size is safe to allocate: the range is within the file.
        buffer.resize(length, 0);
        file.read_exact_at(buffer, range.start)?;
        Ok(buffer)
    }

    /// Passes a range of the pack to `each` piece by piece, small enough for the processor's cache. `buffer` is only
    /// used if the pack cannot be mapped.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn each_piece(
        &self,
        part: Range<u64>,
        buffer: &mut Vec<u8>,
        each: &mut dyn FnMut(&[u8]),
    ) -> anyhow::Result<()> {
        let mut at = part.start;
        while at < part.end {
            let end = part.end.min(at + PIECE_BYTES);
            each(self.bytes(at..end, buffer)?);
            at = end;
        }
        Ok(())
    }

    /// Inflates an entry into `out`: the object, or the delta if it is one.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn inflate(&self, head: &EntryHead, inflater: &mut Inflater, out: &mut Vec<u8>) -> anyhow::Result<()> {
        let mut buffer = Vec::new();
        self.stored(&mut buffer, |stored| inflater.whole(stored, head.data, head.size, out)).map(drop)
    }

    /// Runs `read` on the pack's bytes, addressed by pack offset. `buffer` is only used if the pack cannot be mapped.
    pub(super) fn stored<T>(&self, buffer: &mut Vec<u8>, read: impl FnOnce(&mut dyn CompressedSource) -> T) -> T {
        match self.contents() {
            Contents::Mapped(map) => read(&mut &map[..self.body_end() as usize]),
            Contents::Read(file) => read(&mut Pieces::new(file, self.body_end(), buffer)),
        }
    }
}

/// Opens a file and says whether it may stay open. Once half of the soft limit is used, it is raised to the hard limit;
/// once half of that is used, no more files stay open, to leave room for indexes, folders and loose objects.
fn open_to_stay(path: &Path) -> io::Result<(File, bool)> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    static LIMITS: OnceLock<Option<(u64, u64)>> = OnceLock::new();
    let file = File::open(path)?;
    let number = u64::from(file.as_raw_fd().unsigned_abs());
    let is_half = |most: u64| number >= most / 2;
    if number < FILES_FEW {
        return Ok((file, true));
    }
    // If the limits are unknown, `FILES_FEW` files are enough.
    let limits = LIMITS.get_or_init(|| file_limits(&std::fs::read_to_string("/proc/self/limits").ok()?));
    let Some((soft, hard)) = *limits else { return Ok((file, false)) };
    if !is_half(soft) {
        return Ok((file, true));
    }
    let raised = Rlimit { current: Some(hard), maximum: Some(hard) };
    let most = if soft < hard && setrlimit(Resource::Nofile, raised).is_ok() { hard } else { soft };
    Ok((file, !is_half(most)))
}

/// The soft and the hard limit on open files (proc(5), limits).
fn file_limits(limits: &str) -> Option<(u64, u64)> {
    let mut words = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace();
    let mut limit = || match words.next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    };
    Some((limit()?, limit()?))
}

/// Compares a pack's header and trailer with its index. Returns the file's size.
fn check_frame(file: &File, hash: gix_hash::Kind, index: &Index) -> anyhow::Result<u64> {
    let size = file.metadata()?.len();
    let width = hash.len_in_bytes();
    if size < HEAD_BYTES + width as u64 || usize::try_from(size).is_err() {
        bail!("pack has an impossible size");
    }
    let mut head = [0; HEAD_BYTES as usize];
    file.read_exact_at(&mut head, 0)?;
    let number = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if head[..4] != *b"PACK" || !matches!(number(4), 2 | 3) {
        bail!("pack has an unknown form");
    }
    if number(8) != index.len() {
        bail!("pack has {} objects, its index {}", number(8), index.len());
    }
    let mut trailer = [0; 64];
    let trailer = &mut trailer[..width];
    file.read_exact_at(trailer, size - width as u64)?;
    if trailer != index.pack_checksum() {
        bail!("pack and index do not belong together");
    }
    Ok(size)
}

/// Parses an entry header at the beginning of `bytes`, which may end anywhere in the zlib stream after it.
pub fn parse_head(bytes: &[u8], offset: u64, hash: gix_hash::Kind) -> anyhow::Result<EntryHead> {
    const CUT: &str = "header is cut off";
    let first = *bytes.first().context(CUT)?;
    let mut size = u64::from(first & 0x0f);
    let (mut at, mut shift, mut more) = (1, 4_u32, first & 0x80 != 0);
    while more {
        let byte = *bytes.get(at).context(CUT)?;
        at += 1;
        let part = u64::from(byte & 0x7f);
        if shift >= 64 || (part << shift) >> shift != part {
            bail!("header announces a size beyond 64 bits");
        }
        size |= part << shift;
        shift += 7;
        more = byte & 0x80 != 0;
    }
    let kind = match (first >> 4) & 7 {
        1 => EntryKind::Whole(gix_object::Kind::Commit),
        2 => EntryKind::Whole(gix_object::Kind::Tree),
        3 => EntryKind::Whole(gix_object::Kind::Blob),
        4 => EntryKind::Whole(gix_object::Kind::Tag),
        6 => {
            let mut byte = *bytes.get(at).context(CUT)?;
            at += 1;
            let mut distance = u64::from(byte & 0x7f);
            while byte & 0x80 != 0 {
                byte = *bytes.get(at).context(CUT)?;
                at += 1;
                if distance >= (1 << 56) {
                    bail!("base is out of reach");
                }
                distance = ((distance + 1) << 7) | u64::from(byte & 0x7f);
            }
            let base = offset.checked_sub(distance).filter(|base| *base >= HEAD_BYTES && *base < offset);
            EntryKind::OfsDelta(base.context("base is not before the delta")?)
        }
        7 => {
            let name = bytes.get(at..at + hash.len_in_bytes()).context(CUT)?;
            at += hash.len_in_bytes();
            EntryKind::RefDelta(ObjectId::try_from(name).expect("the width is that of the hash"))
        }
        other => bail!("entry has type {other}, which is unknown"),
    };
    Ok(EntryHead { kind, size, data: offset + at as u64 })
}

#[cfg(test)]
impl Pack {
    /// Forces reading in pieces, as if the file could not be mapped.
    pub(super) fn forget_map(&self) {
        let PackFile::Open { map, .. } = &self.file else { unreachable!("few are open") };
        assert!(map.set(None).is_ok(), "nothing was read yet");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_how_many_files_may_be_open() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(file_limits(limits), Some((1024, 524_288)));
        assert_eq!(file_limits("Max open files  64  unlimited  files"), Some((64, u64::MAX)));
        assert_eq!(file_limits("Max open files  64"), None);
        assert!(file_limits(&std::fs::read_to_string("/proc/self/limits").unwrap()).is_some());
    }

    #[test]
    fn threads_may_share_a_pack() {
        fn shared<T: Send + Sync>() {}
        shared::<Pack>();
    }

    fn check(bytes: &[u8], expected: Result<(EntryKind, u64, u64), &str>) {
        match (parse_head(bytes, 100, gix_hash::Kind::Sha1), expected) {
            (Ok(head), Ok(expected)) => assert_eq!((head.kind, head.size, head.data), expected),
            (Err(error), Err(text)) => assert!(error.to_string().contains(text), "{error}"),
            (got, expected) => panic!("got {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn an_entry_header_names_kind_size_and_base() {
        use gix_object::Kind::{Blob, Commit, Tag, Tree};
        check(&[0x15], Ok((EntryKind::Whole(Commit), 5, 101)));
        check(&[0xaf, 0x01], Ok((EntryKind::Whole(Tree), 31, 102)));
        check(&[0xb3, 0x00], Ok((EntryKind::Whole(Blob), 3, 102)));
        check(&[0x40], Ok((EntryKind::Whole(Tag), 0, 101)));
        check(&[0x60, 88], Ok((EntryKind::OfsDelta(12), 0, 102)));
        let mut reference = vec![0x70];
        reference.extend([7; 20]);
        check(&reference, Ok((EntryKind::RefDelta(ObjectId::from([7; 20])), 0, 121)));
    }

    #[test]
    fn a_bad_entry_header_is_an_error() {
        check(&[], Err("cut off"));
        check(&[0x95], Err("cut off"));
        check(&[0x00], Err("type 0"));
        check(&[0x50], Err("type 5"));
        check(&[0x60], Err("cut off"));
        check(&[0x60, 0], Err("not before"));
        check(&[0x60, 89], Err("not before"));
        check(&[0x60, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], Err("out of reach"));
        check(&[0x9f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], Err("64 bits"));
        check(&[0x70, 1, 2], Err("cut off"));
    }
}

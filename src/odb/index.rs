//! A pack's index (`.idx`, versions 1 and 2): sorted object IDs, offsets, checksums.
//!
//! In: a mapped file. Out: positions, IDs, offsets. Opening only checks the header, fan-out and size: a request usually
//! needs few of many IDs. Table contents are checked when used.

mod few;

use super::bytes::u32_at;
use super::ids::compare;
use super::map::map;
use anyhow::{Context, bail};
use few::{FewNames, guessed};
use gix_hash::{ObjectId, oid};
use memmap2::Mmap;
use std::cmp::Ordering;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

const FAN_BYTES: usize = 256 * 4;
const HEAD_BYTES: usize = 8;
const LARGE: u32 = 1 << 31;
/// How many offsets are compared together.
const OFFSETS_AT_ONCE: usize = 128;

/// An opened index.
pub(super) struct Index {
    map: Mmap,
    version_2: bool,
    count: u32,
    /// The length of an ID in bytes.
    width: usize,
    /// For a large index, reads IDs from the file as long as few are needed.
    few: Option<FewNames>,
}

impl Index {
    /// Opens the file and checks signature, order of the fan-out, and size. The file of a large index stays open, if it
    /// may, to read IDs from.
    pub fn open(path: &Path, hash: gix_hash::Kind, may_stay_open: bool) -> anyhow::Result<Self> {
        let file = File::open(path)?;
        let map = map(&file)?;
        let width = hash.len_in_bytes();
        let length = map.len();
        if length < HEAD_BYTES + FAN_BYTES + 2 * width {
            bail!("index is too small");
        }
        let version_2 = map[..4] == *b"\xfftOc";
        if version_2 && u32_at(&map, 4) != 2 {
            bail!("index has version {}, which is unknown", u32_at(&map, 4));
        }
        let fan_at = if version_2 { HEAD_BYTES } else { 0 };
        let mut count = 0;
        for slot in 0..256 {
            let next = u32_at(&map, fan_at + slot * 4);
            if next < count {
                bail!("index has a fan-out that is out of order");
            }
            count = next;
        }
        // In 64 bits none of this can overflow: a count is at most 2^32, a width 32.
        let frame = (fan_at + FAN_BYTES + 2 * width) as u64;
        let (objects, length) = (u64::from(count), length as u64);
        let fits = if version_2 {
            let least = frame + objects * (width as u64 + 8);
            let most = least + objects.saturating_sub(1) * 8;
            length >= least && length <= most && (length - least).is_multiple_of(8)
        } else {
            length == frame + objects * (width as u64 + 4)
        };
        if !fits {
            bail!("index has the wrong size for {count} objects");
        }
        let names = (fan_at + FAN_BYTES) as u64;
        let few = if version_2 && may_stay_open { FewNames::new(file, names, count, width) } else { None };
        Ok(Index { map, version_2, count, width, few })
    }

    /// Whether its file is open.
    pub fn is_open(&self) -> bool {
        self.few.is_some()
    }

    /// The number of objects.
    pub fn len(&self) -> u32 {
        self.count
    }

    fn fan_at(&self) -> usize {
        if self.version_2 { HEAD_BYTES } else { 0 }
    }

    fn tables(&self) -> usize {
        self.fan_at() + FAN_BYTES
    }

    fn name(&self, position: u32) -> &[u8] {
        let position = position as usize;
        let at = if self.version_2 {
            self.tables() + position * self.width
        } else {
            self.tables() + position * (self.width + 4) + 4
        };
        &self.map[at..at + self.width]
    }

    /// The ID at a position, which must be within this index. The bytes are only touched when the caller looks at them.
    pub fn id_at(&self, position: u32) -> &oid {
        assert!(position < self.count, "a position of another index");
        oid::try_from_bytes(self.name(position)).expect("the width is that of the hash")
    }

    /// Like [`Index::id_at`], for a caller that looks at the ID right away.
    pub fn read_id_at(&self, position: u32) -> ObjectId {
        let few = self.few.as_ref().filter(|_| position < self.count);
        few.and_then(|few| few.at(position)).unwrap_or_else(|| self.id_at(position).to_owned())
    }

    /// The position of an ID.
    pub fn position(&self, id: &oid) -> Option<u32> {
        let wanted = id.as_bytes();
        if wanted.len() != self.width {
            return None;
        }
        let first = usize::from(wanted[0]);
        let low = if first == 0 { 0 } else { u32_at(&self.map, self.fan_at() + (first - 1) * 4) };
        let high = u32_at(&self.map, self.fan_at() + first * 4);
        let found = self.few.as_ref().and_then(|few| few.find(wanted, low..high));
        found.unwrap_or_else(|| search(wanted, low..high, |position| self.name(position)))
    }

    /// Where the table of small offsets begins, in version 2.
    fn small_offsets(&self) -> usize {
        self.tables() + self.count as usize * (self.width + 4)
    }

    /// The pack offset at a position; `u64::MAX`, which no pack has, if the index does not have it.
    pub fn offset_at(&self, position: u32) -> u64 {
        assert!(position < self.count, "a position of another index");
        let (position, count) = (position as usize, self.count as usize);
        if !self.version_2 {
            return u64::from(u32_at(&self.map, self.tables() + position * (self.width + 4)));
        }
        let small = self.small_offsets();
        let offset = u32_at(&self.map, small + position * 4);
        if offset & LARGE == 0 {
            return u64::from(offset);
        }
        let large = small + count * 4;
        let end = self.map.len() - 2 * self.width;
        let row = ((offset & !LARGE) as usize).checked_mul(8);
        match row.and_then(|row| self.map[large.min(end)..end].get(row..)?.get(..8)) {
            Some(bytes) => u64::from_be_bytes(bytes.try_into().expect("a slice of eight")),
            None => u64::MAX,
        }
    }

    /// The position whose offset this is, found by scanning the table.
    pub fn position_of(&self, offset: u64) -> Option<u32> {
        let large = || (0..self.count).find(|position| self.offset_at(*position) == offset);
        self.position_of_small(offset).or_else(large)
    }

    /// Like [`Index::position_of`], for an offset in the table of small offsets.
    fn position_of_small(&self, offset: u64) -> Option<u32> {
        let wanted = u32::try_from(offset).ok().filter(|offset| self.version_2 && offset & LARGE == 0)?.to_be_bytes();
        let count = self.count as usize;
        let small = self.small_offsets();
        let offsets = self.map[small..small + count * 4].as_chunks().0;
        // Without a branch for each offset, the compiler can compare many at once.
        let is_in = |block: &[[u8; 4]]| block.iter().fold(false, |found, offset| found | (*offset == wanted));
        let block = offsets.chunks(OFFSETS_AT_ONCE).position(is_in)? * OFFSETS_AT_ONCE;
        let position = block + offsets[block..].iter().position(|offset| *offset == wanted)?;
        u32::try_from(position).ok()
    }

    /// The CRC32 of the entry at a position; version 1 has none.
    pub fn crc32_at(&self, position: u32) -> Option<u32> {
        assert!(position < self.count, "a position of another index");
        let crcs = self.tables() + self.count as usize * self.width;
        self.version_2.then(|| u32_at(&self.map, crcs + position as usize * 4))
    }

    /// The trailer of the pack that this index belongs to.
    pub fn pack_checksum(&self) -> &[u8] {
        let end = self.map.len() - self.width;
        &self.map[end - self.width..end]
    }
}

/// The position of an ID among sorted ones that begin with the same byte.
pub(super) fn search<'n>(wanted: &[u8], among: Range<u32>, name: impl Fn(u32) -> &'n [u8]) -> Option<u32> {
    // A good guess saves most of the bisection.
    let mut guess = guessed(wanted, &among);
    let Range { start: mut low, end: mut high } = among;
    let mut reach = 16;
    while low < high {
        let middle = if reach > 0 && guess >= low && guess < high { guess } else { low.midpoint(high) };
        match compare(wanted, name(middle)) {
            Ordering::Equal => return Some(middle),
            Ordering::Less => {
                high = middle;
                guess = middle.saturating_sub(reach);
            }
            Ordering::Greater => {
                low = middle + 1;
                guess = middle.saturating_add(reach);
            }
        }
        reach = if reach > 0 && reach < 256 { reach * 4 } else { 0 };
    }
    None
}

/// The mapped reverse index (`.rev`): index positions in pack order.
pub(super) struct Reverse {
    map: Mmap,
    count: u32,
}

const REVERSE_HEAD_BYTES: usize = 12;

impl Reverse {
    /// Opens the `.rev` of an index with `count` objects. It must name the pack with this checksum.
    pub fn open(path: &Path, hash: gix_hash::Kind, count: u32, checksum: &[u8]) -> anyhow::Result<Self> {
        let map = map(&File::open(path)?)?;
        let width = hash.len_in_bytes();
        let tables = count as usize * 4;
        if map.len() != REVERSE_HEAD_BYTES + tables + 2 * width {
            bail!("reverse index has the wrong size");
        }
        let hash_number = match hash {
            gix_hash::Kind::Sha1 => 1,
            _ => 2,
        };
        if map[..4] != *b"RIDX" || u32_at(&map, 4) != 1 || u32_at(&map, 8) != hash_number {
            bail!("reverse index has an unknown form");
        }
        let trailer = REVERSE_HEAD_BYTES + tables;
        if map[trailer..trailer + width] != *checksum {
            bail!("reverse index belongs to another pack");
        }
        Ok(Reverse { map, count })
    }

    /// The index position of the n-th entry, if it is valid.
    pub fn position(&self, rank: u32) -> Option<u32> {
        if rank >= self.count {
            return None;
        }
        Some(u32_at(&self.map, REVERSE_HEAD_BYTES + rank as usize * 4)).filter(|position| *position < self.count)
    }

    /// Whether each position occurs exactly once.
    pub fn is_complete(&self) -> bool {
        permutation(self.count, |rank| self.position(rank), |_| {}).is_ok()
    }
}

/// Calls `each` with the position of every rank. Fails unless each position below `count` occurs exactly once.
pub(super) fn permutation(
    count: u32,
    position: impl Fn(u32) -> Option<u32>,
    mut each: impl FnMut(u32),
) -> anyhow::Result<()> {
    let mut seen = vec![0_u64; (count as usize).div_ceil(64)];
    for rank in 0..count {
        let position = position(rank).context("reverse index names a position that is not there")?;
        let (word, bit) = (position as usize / 64, 1 << (position % 64));
        if seen[word] & bit != 0 {
            bail!("reverse index names a position twice");
        }
        seen[word] |= bit;
        each(position);
    }
    Ok(())
}

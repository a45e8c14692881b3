//! Reachability bitmaps (`.bitmap`): for some commits, everything reachable from them, one bit per object.
//!
//! In: a mapped file and what it was made for. Out: sets of objects in bitmap order. Opening only checks the frame of
//! each entry; the contents of an entry are checked when used. The checksum of a large file is computed by another
//! thread meanwhile: callers check it before they trust the result. Format: git's bitmap-format.

mod ewah;
mod order;
pub mod write;

pub use order::{Order, PseudoPack, has_order};

use super::map::map;
use anyhow::{Context, Result, bail, ensure};
use ewah::Words;
use gix_hash::oid;
use gix_object::Kind;
use memmap2::Mmap;
use sha1::Digest;
use std::cell::RefCell;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Signature, version, flags, number of entries; the checksum follows.
const HEAD_BYTES: usize = 12;
/// Index position of the commit, distance to the base entry, flags.
const ENTRY_HEAD_BYTES: usize = 6;
/// An entry of the lookup table: position, offset, row of the base.
const ROW_BYTES: usize = 16;
/// "Full closure", which is required of all files.
const FULL_DAG: u16 = 1;
/// The file ends with a cache of path hashes.
const HASH_CACHE: u16 = 4;
/// A lookup table of the entries precedes that.
const LOOKUP_TABLE: u16 = 0x10;
/// Pseudo-merge bitmaps, which are for sets of commits, precede that.
const PSEUDO_MERGES: u16 = 0x20;
/// The end of the pseudo-merge section: their number, the number of commits, where the table of commits begins, the
/// size of the section.
const MERGES_TAIL_BYTES: usize = 24;
/// Checking a smaller file takes less time than starting a thread.
const CHECKED_APART_MIN: usize = 1 << 20;
/// The value for no base.
const NOTHING: u32 = u32::MAX;

/// An opened bitmap file.
pub struct Bitmaps {
    map: Arc<Mmap>,
    check: RefCell<Check>,
    objects: u32,
    /// Where the bitmap of each kind begins: commits, trees, blobs, tags.
    kinds: [usize; 4],
    entries: Vec<Entry>,
    /// Entry numbers, sorted by the index position of their commits.
    by_position: Vec<u32>,
    /// Where the pseudo-merges begin, each a bitmap of commits followed by one of the objects these reach.
    merges: Vec<usize>,
}

/// Whether a file matches its checksum.
enum Check {
    Known(bool),
    UnderWay(JoinHandle<bool>),
}

/// One commit's bitmap.
struct Entry {
    /// The index position of the commit.
    position: u32,
    /// Where its compressed words begin.
    at: usize,
    /// The entry to be XORed with this one.
    base: u32,
}

/// A set of objects in bitmap order: the n-th bit is the n-th object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bits(pub Vec<u64>);

impl Bits {
    /// An empty set, with room for `objects` objects.
    pub fn none(objects: u32) -> Self {
        Bits(vec![0; objects.div_ceil(64) as usize])
    }

    /// Sets a bit, for which there must be room. Returns whether it is new.
    pub fn insert(&mut self, rank: u32) -> bool {
        let word = &mut self.0[rank as usize / 64];
        let new = *word >> (rank % 64) & 1 == 0;
        *word |= 1 << (rank % 64);
        new
    }

    /// Adds the members of another set of the same size.
    fn add(&mut self, others: &Bits) {
        self.0.iter_mut().zip(&others.0).for_each(|(all, more)| *all |= more);
    }

    /// Whether a bit is set.
    pub fn contains(&self, rank: u32) -> bool {
        self.0.get(rank as usize / 64).is_some_and(|word| word >> (rank % 64) & 1 == 1)
    }

    /// How many bits are set.
    pub fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether no bit is set.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The set bits, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(&self.0).flat_map(|(index, word)| set(index, *word))
    }

    /// The unset bits among the first `objects`, ascending.
    pub fn others(&self, objects: u32) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(&self.0).flat_map(|(index, word)| set(index, !*word)).take_while(move |bit| *bit < objects)
    }
}

const UNSOUND: &str = "does not match its checksum";

impl Check {
    fn begin(map: &Arc<Mmap>, hash: gix_hash::Kind, threads: bool) -> Self {
        let is_sound = move |map: &Mmap| is_sound(map, hash);
        if threads && map.len() >= CHECKED_APART_MIN {
            let apart = Arc::clone(map);
            if let Ok(thread) = std::thread::Builder::new().spawn(move || is_sound(&apart)) {
                return Check::UnderWay(thread);
            }
        }
        Check::Known(is_sound(map))
    }
}

/// The bits that are set in the `index`-th word, ascending.
fn set(index: u32, word: u64) -> impl Iterator<Item = u32> {
    let mut left = word;
    std::iter::from_fn(move || {
        let bit = (left != 0).then(|| left.trailing_zeros())?;
        left &= left - 1;
        Some(index * 64 + bit)
    })
}

impl Bitmaps {
    /// Opens the file at `path`, made for an index of `objects` objects with this `checksum`. With `threads`, another
    /// thread may help.
    ///
    /// # Errors
    /// When the file cannot be read, belongs to something else, or its frame is damaged.
    pub fn open(path: &Path, checksum: &oid, objects: u32, threads: bool) -> Result<Self> {
        let map = Arc::new(map(&File::open(path)?)?);
        let width = checksum.as_bytes().len();
        ensure!(map.len() >= HEAD_BYTES + 2 * width && map[..4] == *b"BITM", "is no bitmap");
        let [version, flags] = [4, 6].map(|at| u16::from_be_bytes([map[at], map[at + 1]]));
        ensure!(version == 1, "has version {version}, which is unknown");
        ensure!(flags & FULL_DAG != 0, "is incomplete");
        ensure!(map[HEAD_BYTES..HEAD_BYTES + width] == *checksum.as_bytes(), "belongs to another pack");
        let count = number(&map, 8).context("is cut off")?;
        let end = map.len() - width;
        let check = RefCell::new(Check::begin(&map, checksum.kind(), threads));
        if let Check::Known(false) = *check.borrow() {
            bail!(UNSOUND);
        }
        let mut kinds = [0; 4];
        let mut at = HEAD_BYTES + width;
        for kind in &mut kinds {
            *kind = at;
            at = Words::at(&map[..end], at)?.end;
        }
        let cache = if flags & HASH_CACHE == 0 { 0 } else { objects as usize * 4 };
        let extras_end = end.checked_sub(cache).filter(|end| *end >= at).context("is cut off")?;
        let table = if flags & LOOKUP_TABLE == 0 { 0 } else { count as usize * ROW_BYTES };
        let merges_end = extras_end.checked_sub(table).filter(|end| *end >= at).context("is cut off")?;
        let entries = if table == 0 {
            in_sequence(&map[..end], at, count)?
        } else {
            in_table(&map[merges_end..extras_end], count)?
        };
        let merges = if flags & PSEUDO_MERGES == 0 { Vec::new() } else { merges_before(&map[at..merges_end])? };
        ensure!(entries.iter().all(|entry| entry.position < objects), "names a commit that is not there");
        let mut by_position: Vec<u32> = (0..).take(entries.len()).collect();
        by_position.sort_unstable_by_key(|&entry| entries[entry as usize].position);
        Ok(Bitmaps { map, check, objects, kinds, entries, by_position, merges })
    }

    /// Checks that the file matches its checksum: with a wrong bit, clients would not get an object that they need.
    ///
    /// # Errors
    /// When it does not.
    pub fn check(&self) -> Result<()> {
        let check = self.check.replace(Check::Known(false));
        let sound = match check {
            Check::Known(sound) => sound,
            Check::UnderWay(thread) => thread.join().unwrap_or(false),
        };
        self.check.replace(Check::Known(sound));
        ensure!(sound, UNSOUND);
        Ok(())
    }

    /// The number of objects that have a bit.
    pub fn objects(&self) -> u32 {
        self.objects
    }

    /// Whether the commit at an index position has a bitmap.
    pub fn has(&self, position: u32) -> bool {
        self.entry(position).is_some()
    }

    fn entry(&self, position: u32) -> Option<usize> {
        let key = |entry: &u32| self.entries[*entry as usize].position;
        let found = self.by_position.binary_search_by_key(&position, key).ok()?;
        Some(self.by_position[found] as usize)
    }

    /// Adds everything reachable from the commit at an index position to `bits`. Returns whether the commit has a
    /// bitmap. `scratch` is lent.
    ///
    /// # Errors
    /// When the bitmap is damaged; then `bits` is unchanged.
    pub fn add(&self, position: u32, bits: &mut Bits, scratch: &mut Bits) -> Result<bool> {
        let Some(mut entry) = self.entry(position) else { return Ok(false) };
        scratch.0.clear();
        scratch.0.resize(self.objects.div_ceil(64) as usize, 0);
        // A bitmap is the XOR of all entries along the chain of bases.
        for _ in 0..self.entries.len() {
            let Entry { at, base, .. } = self.entries[entry];
            Words::at(&self.map, at)?.xor_into(&mut scratch.0)?;
            if base == NOTHING {
                self.check_end(scratch)?;
                bits.add(scratch);
                return Ok(true);
            }
            entry = base as usize;
        }
        bail!("its bases go in a circle")
    }

    /// Whether there are pseudo-merge bitmaps.
    pub fn have_merges(&self) -> bool {
        !self.merges.is_empty()
    }

    /// Adds to `bits` what each pseudo-merge reaches whose commits are all in `tips`. `scratch` is lent.
    ///
    /// # Errors
    /// When a bitmap is damaged.
    pub fn add_merges(&self, tips: &Bits, bits: &mut Bits, scratch: &mut Bits) -> Result<()> {
        for &at in &self.merges {
            let commits = self.plain(at, scratch)?;
            if scratch.0.iter().zip(&tips.0).all(|(commits, tips)| commits & !tips == 0) {
                self.plain(commits, scratch)?;
                bits.add(scratch);
            }
        }
        Ok(())
    }

    /// Reads a bitmap without a base. Returns where it ends.
    fn plain(&self, at: usize, bits: &mut Bits) -> Result<usize> {
        bits.0.clear();
        bits.0.resize(self.objects.div_ceil(64) as usize, 0);
        let words = Words::at(&self.map, at)?;
        words.xor_into(&mut bits.0)?;
        self.check_end(bits)?;
        Ok(words.end)
    }

    /// All objects of a kind.
    ///
    /// # Errors
    /// When the bitmap is damaged.
    pub fn of_kind(&self, kind: Kind) -> Result<Bits> {
        let nth = match kind {
            Kind::Commit => 0,
            Kind::Tree => 1,
            Kind::Blob => 2,
            Kind::Tag => 3,
        };
        let mut bits = Bits::default();
        self.plain(self.kinds[nth], &mut bits)?;
        Ok(bits)
    }

    /// Bits beyond the last object mean damage.
    fn check_end(&self, bits: &Bits) -> Result<()> {
        let beyond = match (self.objects % 64, bits.0.last()) {
            (0, _) | (_, None) => 0,
            (used, Some(last)) => last >> used,
        };
        ensure!(beyond == 0, "names an object that is not there");
        Ok(())
    }
}

/// Whether a file's bytes end in the hash of everything before it, as in bitmaps, commit-graphs and multi-pack-indexes.
pub(super) fn is_sound(bytes: &[u8], hash: gix_hash::Kind) -> bool {
    let split = bytes.len().checked_sub(hash.len_in_bytes()).map(|end| bytes.split_at(end));
    split.is_some_and(|(bytes, checksum)| trailer(bytes, hash) == checksum)
}

/// The hash of these bytes, computed with the processor's SHA instructions where it has them.
fn trailer(bytes: &[u8], hash: gix_hash::Kind) -> Vec<u8> {
    match hash {
        gix_hash::Kind::Sha1 => sha1::Sha1::digest(bytes).to_vec(),
        _ => sha2::Sha256::digest(bytes).to_vec(),
    }
}

/// Reads the entries one after the other, which works with all files.
fn in_sequence(bytes: &[u8], mut at: usize, count: u32) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    for nth in 0..count {
        let position = number(bytes, at).context("is cut off")?;
        let back = *bytes.get(at + 4).context("is cut off")?;
        let base = match back {
            0 => NOTHING,
            back => nth.checked_sub(back.into()).context("an entry rests on one before the first")?,
        };
        let words = Words::at(bytes, at + ENTRY_HEAD_BYTES)?;
        entries.push(Entry { position, at: at + ENTRY_HEAD_BYTES, base });
        at = words.end;
    }
    Ok(entries)
}

/// Reads the entries from the lookup table, without looking at each bitmap.
fn in_table(table: &[u8], count: u32) -> Result<Vec<Entry>> {
    let entry = |row: &[u8]| {
        let (position, high, low, base) = (number(row, 0)?, number(row, 4)?, number(row, 8)?, number(row, 12)?);
        let offset = usize::try_from(u64::from(high) << 32 | u64::from(low)).ok()?;
        let base_fits = base == NOTHING || base < count;
        base_fits.then_some(Entry { position, at: offset.checked_add(ENTRY_HEAD_BYTES)?, base })
    };
    table.chunks_exact(ROW_BYTES).map(|row| entry(row).context("has a damaged lookup table")).collect()
}

/// Where the pseudo-merges begin in the file. `bytes` ends where their section ends.
fn merges_before(bytes: &[u8]) -> Result<Vec<usize>> {
    let tail = bytes.len().checked_sub(MERGES_TAIL_BYTES).context("is cut off")?;
    let count = number(bytes, tail).context("is cut off")? as usize;
    let table = count.checked_mul(8).and_then(|size| tail.checked_sub(size)).context("is cut off")?;
    let place = |row: &[u8]| usize::try_from(u64::from_be_bytes(row.try_into().expect("eight bytes")));
    bytes[table..tail].chunks_exact(8).map(|row| place(row).context("is out of reach")).collect()
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

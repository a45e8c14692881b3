//! Writes reachability bitmaps in git's format: `pack-<hash>.bitmap`, `multi-pack-index-<hash>.bitmap`.
//!
//! In: a pack, or a multi-pack-index that has the order of its objects, and tips. Out: a file beside it, complete or
//! not at all. The objects must contain everything reachable from them, and none twice; otherwise there is an error and
//! no file. Entries go to disk one after the other and are read back when a descendant needs them, so memory holds a
//! few bytes per object, however long history is. Format: git's bitmap-format, with a lookup table and path hashes.

mod choose;
mod fill;
mod kinds;
mod reach;

use super::ewah::{Words, encode};
use super::{Bits, FULL_DAG, HASH_CACHE, LOOKUP_TABLE, Order};
use crate::durable::{self, Sharing, Sync};
use crate::odb::{Objects, PackId};
use crate::stream::Pulse;
use anyhow::{Context, Result, ensure};
use choose::{BitmapPlan, NOTHING};
use fill::Fill;
use gix_hash::{ObjectId, oid};
use reach::Reach;
use sha1::Digest;
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Each entry is compared with this many before it, and stored as the XOR with one of them if that is smaller.
const COMPARED: usize = 10;
/// The maximum length of a chain of XORed entries: reading the last one means reading all of them.
const DEPTH_MAX: u32 = 16;
/// Bytes are written in pieces of about this size.
const PIECE_BYTES: usize = 256 << 10;

/// How files are created: `core.sharedRepository`, and `core.fsync` for files derived from packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Files<'a> {
    /// Their permissions.
    pub sharing: Sharing,
    /// Whether they are forced to disk.
    pub sync: Sync,
    /// Where they are until they are complete, on the same file system; `None` for their final directory.
    pub aside: Option<&'a Path>,
}

/// The result of writing bitmaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The file's path.
    pub path: PathBuf,
    /// How many objects have a bit.
    pub objects: u32,
    /// How many commits have a bitmap.
    pub commits: u32,
    /// The file's size.
    pub bytes: u64,
}

/// An object leads to another one that has no bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotClosed {
    /// The kind of the missing object.
    pub kind: &'static str,
    /// Its ID.
    pub id: ObjectId,
}

impl fmt::Display for NotClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not closed under reachability: {} {} is not in it", self.kind, self.id)
    }
}

impl std::error::Error for NotClosed {}

/// Writes the bitmaps of a pack, for commits in it that are reachable from `tips` (IDs of any objects; tags are
/// peeled). Replaces an existing file.
///
/// # Errors
/// [`NotClosed`], and nothing is written; also when history is cut, an object is corrupt, or the disk is full.
pub fn for_pack(
    objects: &Objects,
    pack: PackId,
    tips: &[ObjectId],
    files: Files<'_>,
    pulse: &mut dyn Pulse,
) -> Result<Summary> {
    let order = Order::Pack(objects.pack(pack));
    write(objects, &order, tips, files, pulse)
}

/// Like [`for_pack`], for the multi-pack-index in one of the object directories, which must have a RIDX chunk or a
/// `.rev` file. Chains are not supported. Bitmaps of an older multi-pack-index are left to whoever replaced it.
///
/// # Errors
/// As [`for_pack`]; also when there is no such multi-pack-index, or it is damaged.
pub fn for_midx(
    objects: &Objects,
    directory: &Path,
    tips: &[ObjectId],
    files: Files<'_>,
    pulse: &mut dyn Pulse,
) -> Result<Summary> {
    let order = objects.midx_order(directory).context("bitmaps need a sound multi-pack-index")?;
    write(objects, &order, tips, files, pulse)
}

fn write(
    objects: &Objects,
    order: &Order,
    tips: &[ObjectId],
    files: Files<'_>,
    pulse: &mut dyn Pulse,
) -> Result<Summary> {
    ensure!(objects.have_whole_history(), "bitmaps are of no use where history is cut or replaced");
    let path = order.bitmap_path();
    let context = || format!("cannot write {}", path.display());
    let folder = path.parent().context("a pack lies in a folder")?;
    let fresh = files.aside.unwrap_or(folder).join(durable::unique("tmp_bitmap_"));
    let file = durable::create(&fresh, 0o444, files.sharing).with_context(context)?;
    let written = Writer::new(objects, order, file).and_then(|writer| {
        let (commits, bytes) = writer.write(objects, order, tips, files, pulse)?;
        durable::rename(&fresh, &path)?;
        Ok(Summary { path: path.clone(), objects: order.len(), commits, bytes })
    });
    if written.is_err() {
        // The leftover file is ours alone, so failing to remove it does no harm.
        let _ = durable::unlink(&fresh);
    }
    let written = written.with_context(context)?;
    if files.sync.is_forced() {
        durable::fsync_directory(folder).with_context(context)?;
    }
    Ok(written)
}

/// Continues the hash of a path, as the format defines it, with the bytes `more`. The last letters count most.
fn path_hash(hash: u32, more: &[u8]) -> u32 {
    let letters = more.iter().filter(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    letters.fold(hash, |hash, byte| (hash >> 2).wrapping_add(u32::from(*byte) << 24))
}

/// Computes the trailer.
enum Trailer {
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
}

/// An entry that was written.
struct Entry {
    /// The index position of the commit.
    position: u32,
    /// Where it begins in the file.
    at: u64,
    /// The length of its words in bytes, including the frame.
    len: usize,
    /// The entry it must be XORed with, and the length of that chain.
    base: Option<u32>,
    depth: u32,
}

/// The file being written.
struct Writer {
    file: File,
    trailer: Trailer,
    gathered: Vec<u8>,
    /// How many bytes were written or gathered.
    place: u64,
    objects: u32,
    entries: Vec<Entry>,
    /// The last entries, decompressed.
    last: VecDeque<(u32, Bits)>,
}

impl Writer {
    fn new(objects: &Objects, order: &Order, file: File) -> Result<Self> {
        let trailer = match objects.hash_kind() {
            gix_hash::Kind::Sha256 => Trailer::Sha256(sha2::Sha256::new()),
            _ => Trailer::Sha1(sha1::Sha1::new()),
        };
        ensure!(!order.is_empty(), "there is no object");
        Ok(Writer {
            file,
            trailer,
            gathered: Vec::new(),
            place: 0,
            objects: order.len(),
            entries: Vec::new(),
            last: VecDeque::new(),
        })
    }

    /// Writes the whole file. Returns the number of commits with an entry, and the file's size.
    fn write(
        mut self,
        objects: &Objects,
        order: &Order,
        tips: &[ObjectId],
        files: Files<'_>,
        pulse: &mut dyn Pulse,
    ) -> Result<(u32, u64)> {
        let mut plan = BitmapPlan::new(objects, order, tips, pulse)?;
        let positions = order.positions()?;
        self.head(order.checksum(), u32::try_from(plan.chosen.len())?)?;
        let kinds = kinds::of_all(objects, order, &positions)?;
        for bits in &kinds {
            let mut words = Vec::new();
            encode(bits.0.iter().copied(), &mut words);
            self.put(&words)?;
        }
        let [_, trees, ..] = kinds;
        let fill = Fill::new(objects, order, &positions, trees);
        let chosen = std::mem::take(&mut plan.chosen);
        let mut reach = Reach::new(plan, fill);
        for number in chosen {
            let (position, bits) = reach.reachable(number, &mut self, pulse)?;
            let entry = self.entry(position, bits)?;
            reach.know(number, entry);
        }
        self.table()?;
        for hash in reach.hashes() {
            self.put(&hash.to_be_bytes())?;
        }
        let commits = u32::try_from(self.entries.len())?;
        Ok((commits, self.finish(files)?))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.place += bytes.len() as u64;
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        match &mut self.trailer {
            Trailer::Sha1(hasher) => hasher.update(&self.gathered),
            Trailer::Sha256(hasher) => hasher.update(&self.gathered),
        }
        durable::write_all(&mut self.file, &self.gathered)?;
        self.gathered.clear();
        Ok(())
    }

    fn head(&mut self, checksum: &oid, entries: u32) -> Result<()> {
        self.put(b"BITM\0\x01")?;
        self.put(&(FULL_DAG | HASH_CACHE | LOOKUP_TABLE).to_be_bytes())?;
        self.put(&entries.to_be_bytes())?;
        self.put(checksum.as_bytes())
    }

    /// Writes the entry of a commit, as the XOR with one of the last entries if that is smaller. Returns the entry's
    /// number.
    fn entry(&mut self, position: u32, bits: Bits) -> Result<u32> {
        let mut best = Vec::new();
        encode(bits.0.iter().copied(), &mut best);
        let (mut base, mut words) = (None, Vec::new());
        for (other, theirs) in &self.last {
            if self.entries[*other as usize].depth < DEPTH_MAX {
                words.clear();
                encode(bits.0.iter().zip(&theirs.0).map(|(ours, theirs)| ours ^ theirs), &mut words);
                if words.len() < best.len() {
                    std::mem::swap(&mut best, &mut words);
                    base = Some(*other);
                }
            }
        }
        let nth = u32::try_from(self.entries.len())?;
        let depth = base.map_or(0, |base| self.entries[base as usize].depth + 1);
        self.entries.push(Entry { position, at: self.place, len: best.len(), base, depth });
        self.put(&position.to_be_bytes())?;
        let back = base.map_or(0, |base| u8::try_from(nth - base).expect("one of the last"));
        self.put(&[back, 0])?;
        self.put(&best)?;
        if self.last.len() == COMPARED {
            self.last.pop_front();
        }
        self.last.push_back((nth, bits));
        Ok(nth)
    }

    /// Adds the bits of an entry to `bits`.
    fn add(&mut self, entry: u32, bits: &mut Bits) -> Result<()> {
        if let Some((_, told)) = self.last.iter().find(|(nth, _)| *nth == entry) {
            bits.add(told);
            return Ok(());
        }
        self.flush()?;
        let mut told = Bits::none(self.objects);
        let (mut next, mut words) = (Some(entry), Vec::new());
        while let Some(nth) = next {
            let Entry { at, len, base, .. } = self.entries[nth as usize];
            words.resize(len, 0);
            self.file.read_exact_at(&mut words, at + super::ENTRY_HEAD_BYTES as u64)?;
            Words::at(&words, 0)?.xor_into(&mut told.0)?;
            next = base;
        }
        bits.add(&told);
        Ok(())
    }

    /// Writes the lookup table of all entries, sorted by position.
    fn table(&mut self) -> Result<()> {
        let mut rows: Vec<u32> = (0..).take(self.entries.len()).collect();
        rows.sort_unstable_by_key(|nth| self.entries[*nth as usize].position);
        let mut row_of = vec![0_u32; rows.len()];
        (0..).zip(&rows).for_each(|(row, nth)| row_of[*nth as usize] = row);
        for nth in rows {
            let Entry { position, at, base, .. } = self.entries[nth as usize];
            self.put(&position.to_be_bytes())?;
            self.put(&at.to_be_bytes())?;
            self.put(&base.map_or(NOTHING, |base| row_of[base as usize]).to_be_bytes())?;
        }
        Ok(())
    }

    fn finish(mut self, files: Files<'_>) -> Result<u64> {
        self.flush()?;
        let trailer = match std::mem::replace(&mut self.trailer, Trailer::Sha1(sha1::Sha1::new())) {
            Trailer::Sha1(hasher) => hasher.finalize().to_vec(),
            Trailer::Sha256(hasher) => hasher.finalize().to_vec(),
        };
        durable::write_all(&mut self.file, &trailer)?;
        if files.sync.is_forced() {
            durable::fsync(&self.file)?;
        }
        Ok(self.place + trailer.len() as u64)
    }
}

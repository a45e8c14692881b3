//! What stands beside a kept pack: `.keep`, `.rev`, `.idx`.
//!
//! In: a complete pack in a temporary file. Out: the four files under their final names, the index last: readers find packs
//! by it. All are written before any is forced to disk.

use super::entries::{Layout, Names};
use super::store::{Store, Temporary};
use super::{Fault, ReceiveOptions, Trailer};
use crate::durable::{self, Sync};
use gix_hash::{ObjectId, oid};
use std::fs::File;
use std::io;
use std::path::PathBuf;

/// Larger offsets take 64 bits.
const OFFSET_32_MAX: u64 = 0x7fff_ffff;
/// Bytes collected before they are written.
const BUFFER_LEN: usize = 64 << 10;

/// Keeps a pack: its files get their names and are on disk when this returns.
pub(super) fn keep(
    store: Store,
    layout: &Layout,
    names: &Names,
    trailer: &oid,
    options: &ReceiveOptions<'_>,
) -> Result<(), Fault> {
    let order = names.order();
    if options.fsck.is_some() {
        refuse_duplicates(names, &order)?;
    }
    let packs = options.directory.join("pack");
    let path = |extension: &str| packs.join(format!("pack-{trailer}.{extension}"));

    let mut pack = store.into_temporary()?;
    let mut idx = Temporary::create(&packs, "tmp_idx_", options.sharing)?;
    index(&mut Checksummed::new(&mut idx.file, options.hash), layout, names, &order, trailer, OFFSET_32_MAX)?;
    let mut rev = None;
    if options.reverse_index {
        let mut file = Temporary::create(&packs, "tmp_rev_", options.sharing)?;
        reverse_index(&mut Checksummed::new(&mut file.file, options.hash), &order, trailer, options.hash)?;
        rev = Some(file);
    }
    let mut keep = durable::create(&path("keep"), 0o600, options.sharing)?;
    durable::write_all(&mut keep, format!("{}\n", options.keep_message).as_bytes())?;

    let (data, beside) = (options.sync.pack, options.sync.pack_metadata);
    let rev_path = rev.as_ref().map(Temporary::path);
    let paths = [(Some(pack.path()), data), (Some(path("keep")), data), (Some(idx.path()), beside), (rev_path, beside)];
    let forced = paths.into_iter().filter(|(_, sync)| sync.is_forced());
    durable::fsync_all(&forced.filter_map(|(path, _)| path).collect::<Vec<PathBuf>>(), Sync::Each)?;
    pack.rename(&path("pack"))?;
    if let Some(mut rev) = rev {
        rev.rename(&path("rev"))?;
    }
    idx.rename(&path("idx"))?;
    Ok(())
}

fn refuse_duplicates(names: &Names, order: &[u32]) -> Result<(), Fault> {
    match order.windows(2).find(|pair| names.id(pair[0]) == names.id(pair[1])) {
        Some(pair) => {
            Err(Fault::new(format!("The same object {} appears twice in the pack", names.object_id(pair[0]))))
        }
        None => Ok(()),
    }
}

/// A file that ends with the hash of what stands before.
struct Checksummed<'a> {
    file: &'a mut File,
    hasher: Trailer,
    buffer: Vec<u8>,
}

impl<'a> Checksummed<'a> {
    fn new(file: &'a mut File, hash: gix_hash::Kind) -> Self {
        Checksummed { file, hasher: Trailer::new(hash), buffer: Vec::with_capacity(BUFFER_LEN) }
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER_LEN {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn u32(&mut self, number: u32) -> io::Result<()> {
        self.bytes(&number.to_be_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hasher.update(&self.buffer);
        durable::write_all(self.file, &self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    fn end(&mut self) -> io::Result<ObjectId> {
        self.flush()?;
        let hash = self.hasher.clone().finish();
        durable::write_all(self.file, hash.as_slice())?;
        Ok(hash)
    }
}

/// The index, version 2 (gitformat-pack).
fn index(
    out: &mut Checksummed<'_>,
    layout: &Layout,
    names: &Names,
    order: &[u32],
    trailer: &oid,
    offset_32_max: u64,
) -> io::Result<()> {
    out.bytes(b"\xfftOc")?;
    out.u32(2)?;
    for byte in 0..=u8::MAX {
        let up_to = order.partition_point(|&entry| names.id(entry)[0] <= byte);
        out.u32(u32::try_from(up_to).expect("a pack has fewer than 2^32 entries"))?;
    }
    for &entry in order {
        out.bytes(names.id(entry))?;
    }
    for &entry in order {
        out.u32(layout.crc(entry))?;
    }
    let mut large = Vec::new();
    for &entry in order {
        let offset = layout.offset(entry);
        match u32::try_from(offset) {
            Ok(small) if offset <= offset_32_max => out.u32(small)?,
            _ => {
                let at = u32::try_from(large.len()).expect("a pack has fewer than 2^32 entries");
                out.u32(0x8000_0000 | at)?;
                large.push(offset);
            }
        }
    }
    for offset in large {
        out.bytes(&offset.to_be_bytes())?;
    }
    out.bytes(trailer.as_bytes())?;
    out.end().map(drop)
}

/// The reverse index, version 1: positions in the index, in the order of the pack.
fn reverse_index(out: &mut Checksummed<'_>, order: &[u32], trailer: &oid, hash: gix_hash::Kind) -> io::Result<()> {
    out.bytes(b"RIDX")?;
    out.u32(1)?;
    out.u32(if hash == gix_hash::Kind::Sha1 { 1 } else { 2 })?;
    // Entries are numbered in the order of the pack.
    let mut positions = vec![0_u32; order.len()];
    for (position, &entry) in (0_u32..).zip(order) {
        positions[entry as usize] = position;
    }
    for position in positions {
        out.u32(position)?;
    }
    out.bytes(trailer.as_bytes())?;
    out.end().map(drop)
}

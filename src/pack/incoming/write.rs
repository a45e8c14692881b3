//! Writing the files of a kept pack: `.pack`, `.keep`, `.rev`, `.idx`.
//!
//! In: a complete pack in a temporary file. Out: the four files under their final names, the index last, because
//! readers find packs by it. None is forced to the disk before all have been written.

use super::entries::{Layout, Names};
use super::store::{Store, Temporary};
use super::{Fault, ReceiveOptions};
use crate::durable::{self, Sync};
use crate::pack::checksummed::Checksummed;
use crate::pack::reverse;
use gix_hash::oid;
use std::io;
use std::path::PathBuf;

/// Larger offsets take 64 bits in the index.
const OFFSET_32_MAX: u64 = 0x7fff_ffff;

/// Keeps a pack: gives its files their final names. On the disk no final name precedes the file's content.
pub(super) fn keep(
    store: Store,
    layout: &Layout,
    names: &Names,
    trailer: &oid,
    options: &ReceiveOptions<'_>,
) -> Result<(), Fault> {
    let order = names.order();
    // C git accepts duplicates unless it checks objects. But a delta that refers to such an object by name may be
    // resolved to a copy that depends on the delta itself, and git dies writing a multi-pack-index of such a pack.
    let twice = order.windows(2).find(|pair| names.id(pair[0]) == names.id(pair[1]));
    if let Some(twice) = twice.filter(|_| !options.twice) {
        let id = names.object_id(twice[0]);
        return Err(Fault::new(format!("The same object {id} appears twice in the pack")));
    }
    let packs = options.directory.join("pack");
    let path = |extension: &str| packs.join(format!("pack-{trailer}.{extension}"));

    let mut pack = store.into_temporary()?;
    let mut idx = Temporary::create(&packs, "tmp_idx_", options.sharing)?;
    index(&mut Checksummed::new(&mut idx.file, options.hash), layout, names, &order, trailer, OFFSET_32_MAX)?;
    let mut rev = None;
    if options.reverse_index {
        let mut file = Temporary::create(&packs, "tmp_rev_", options.sharing)?;
        // Entries are numbered in pack order.
        let mut positions = vec![0_u32; order.len()];
        for (position, &entry) in (0_u32..).zip(&order) {
            positions[entry as usize] = position;
        }
        reverse::write(&mut Checksummed::new(&mut file.file, options.hash), &positions, trailer)?;
        rev = Some(file);
    }
    let mut keep = durable::create(&path("keep"), 0o600, options.sharing)?;
    durable::write_all(&mut keep, format!("{}\n", options.keep_message).as_bytes())?;

    let (data, beside) = (options.sync.pack, options.sync.pack_metadata);
    let rev_path = rev.as_ref().map(Temporary::path);
    let paths = [(Some(pack.path()), data), (Some(path("keep")), data), (Some(idx.path()), beside), (rev_path, beside)];
    let forced = paths.into_iter().filter(|(_, sync)| sync.is_forced());
    let sync = if [data, beside].contains(&Sync::Each) { Sync::Each } else { Sync::Together };
    durable::barrier(&forced.filter_map(|(path, _)| path).collect::<Vec<PathBuf>>(), &packs, sync)?;
    pack.rename(&path("pack"))?;
    if let Some(mut rev) = rev {
        rev.rename(&path("rev"))?;
    }
    idx.rename(&path("idx"))?;
    Ok(())
}

/// Writes the index, version 2 (gitformat-pack).
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

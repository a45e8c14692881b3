//! The multi-pack-index: one list of the objects of all packs (gitformat-pack, «multi-pack-index (MIDX) files»).
//!
//! In: packs. Out: `pack/multi-pack-index`, including the object order that bitmaps use; files of older ones are
//! removed. If an object is in several packs, the copy in the largest pack counts, else the one in the newest.

use super::commit_graph::{fan_out, table_of_contents};
use super::fresh::{self, Fresh};
use crate::durable;
use crate::odb::bitmap::has_order;
use crate::odb::midx::Midx;
use crate::odb::{Objects, Pack};
use crate::pack::checksummed::{Checksummed, hash_number};
use crate::repo::Repository;
use crate::repo::lock::Lock;
use anyhow::{Context as _, Result};
use gix_hash::{ObjectId, oid};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file's name.
const NAME: &str = "multi-pack-index";
/// The directory of an incremental multi-pack-index's layers.
const LAYERS: &str = "multi-pack-index.d";
/// The list of the layers.
const CHAIN: &str = "multi-pack-index-chain";
/// An offset with this bit is an index into the table of large offsets.
const LARGE: u32 = 1 << 31;
/// Not among a bitmap's objects.
const NOWHERE: u32 = u32::MAX;

/// Whether the file is damaged or lists packs other than these. A single pack needs no file.
pub(super) fn is_due(folder: &Path, packs: &[Arc<Pack>], hash: gix_hash::Kind) -> bool {
    let path = folder.join(NAME);
    if packs.len() < 2 {
        return path.exists() || folder.join(LAYERS).join(CHAIN).exists();
    }
    let Ok(midx) = Midx::open(&path, hash) else { return true };
    let mut told: Vec<&OsStr> = midx.names().collect();
    let mut there: Vec<OsString> = packs.iter().map(|pack| index_name(pack)).collect();
    told.sort_unstable();
    there.sort_unstable();
    told != there || !midx.is_sound()
}

/// Whether bitmaps of these packs need another file than the present one: git omits the order of bitmap positions
/// unless bitmaps are asked for.
pub(super) fn lacks_order(folder: &Path, packs: &[Arc<Pack>], hash: gix_hash::Kind) -> bool {
    let path = folder.join(NAME);
    packs.len() > 1 && !Midx::open(&path, hash).is_ok_and(|midx| has_order(&midx, &path))
}

/// The path of the bitmaps that belong to the present file, or `None` if there is no such file.
pub(super) fn bitmap_path(folder: &Path, hash: gix_hash::Kind) -> Option<PathBuf> {
    let midx = Midx::open(&folder.join(NAME), hash).ok()?;
    Some(folder.join(format!("{NAME}-{}.bitmap", midx.checksum())))
}

fn index_name(pack: &Pack) -> OsString {
    pack.path().with_extension("idx").file_name().unwrap_or_default().to_owned()
}

/// Takes the lock under which the file is written. Returns `None` if another process holds it.
pub(super) fn lock(repository: &Repository, directory: &Path) -> Result<Option<Lock>> {
    let (folder, sharing) = (directory.join("pack"), repository.settings.sharing);
    durable::mkdir_all(directory, &folder, sharing).with_context(|| format!("cannot make '{}'", folder.display()))?;
    fresh::lock(repository, &folder.join(NAME), sharing)
}

/// Writes the file for these packs, or removes it if there are fewer than two. Returns `false` if another process has
/// repacked in the meantime.
pub(super) fn write(
    repository: &Repository,
    objects: &Objects,
    folder: &Path,
    packs: &[Arc<Pack>],
    _lock: &Lock,
) -> Result<bool> {
    let path = folder.join(NAME);
    if packs.len() < 2 {
        remove(&path)?;
        remove_stale(folder, None)?;
        remove_layers(folder)?;
        return Ok(true);
    }
    let mut packs = packs.to_vec();
    packs.sort_by_key(|pack| index_name(pack));
    let index = Index::of(&packs);
    let (fresh, checksum) = Fresh::write(repository, objects, |out| index.write(out))?;
    fresh.put(&path)?;
    if packs.iter().any(|pack| !pack.path().exists()) {
        // Another process has removed packs that the file lists, without knowing of the file.
        remove(&path)?;
        remove_stale(folder, None)?;
        return Ok(false);
    }
    remove_stale(folder, Some(&checksum))?;
    remove_layers(folder)?;
    Ok(true)
}

fn remove(path: &Path) -> Result<()> {
    match durable::unlink(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome.with_context(|| format!("cannot remove '{}'", path.display())),
    }
}

/// Removes bitmaps and reverse indexes of files other than `current`.
fn remove_stale(folder: &Path, current: Option<&oid>) -> Result<()> {
    let kept = current.map(|current| format!("{NAME}-{current}"));
    let prefix = format!("{NAME}-");
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_ours = path.extension().is_some_and(|extension| extension == "bitmap" || extension == "rev");
        let stem = path.file_stem().unwrap_or_default();
        let is_stale =
            stem.as_bytes().starts_with(prefix.as_bytes()) && kept.as_ref().is_none_or(|kept| stem != &**kept);
        if is_ours && is_stale {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Removes a chain of layers: first its list, which is read only if the single file is missing, then the files it
/// names.
fn remove_layers(folder: &Path) -> Result<()> {
    let layers = folder.join(LAYERS);
    if !layers.exists() {
        return Ok(());
    }
    remove(&layers.join(CHAIN))?;
    for entry in fs::read_dir(&layers)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| ["midx", "bitmap", "rev"].iter().any(|ours| extension == *ours)) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// The content of the file.
struct Index<'a> {
    /// Sorted by name.
    packs: &'a [Arc<Pack>],
    /// The pack that comes first in bitmap order.
    preferred: u32,
    /// Sorted by id: the number of the pack, and the position there.
    objects: Vec<(u32, u32)>,
}

impl<'a> Index<'a> {
    fn of(packs: &'a [Arc<Pack>]) -> Self {
        let largest = (0_u32..).zip(packs).max_by_key(|(number, pack)| (pack.len(), Reverse(*number)));
        let preferred = largest.map_or(0, |(number, _)| number);
        let age =
            |pack: &Pack| pack.path().metadata().map_or((i64::MAX, 0), |file| (-file.mtime(), -file.mtime_nsec()));
        let mut by_rank: Vec<(bool, (i64, i64), u32)> =
            (0_u32..).zip(packs).map(|(number, pack)| (number != preferred, age(pack), number)).collect();
        by_rank.sort_unstable();
        // The smallest remaining id of each pack, with the pack's rank: the copy of the lowest rank counts.
        let mut heads = BinaryHeap::new();
        for (rank, (_, _, number)) in by_rank.iter().enumerate() {
            if !packs[*number as usize].is_empty() {
                heads.push(Reverse((packs[*number as usize].id_at(0), rank, 0_u32)));
            }
        }
        let mut objects: Vec<(u32, u32)> = Vec::new();
        let mut last: Option<&oid> = None;
        while let Some(Reverse((id, rank, position))) = heads.pop() {
            let number = by_rank[rank].2;
            if last != Some(id) {
                objects.push((number, position));
                last = Some(id);
            }
            let pack = &packs[number as usize];
            if position + 1 < pack.len() {
                heads.push(Reverse((pack.id_at(position + 1), rank, position + 1)));
            }
        }
        Index { packs, preferred, objects }
    }

    fn ids(&self) -> impl Iterator<Item = &oid> {
        self.objects.iter().map(|(pack, position)| self.packs[*pack as usize].id_at(*position))
    }

    fn offsets(&self) -> impl Iterator<Item = u64> {
        self.objects.iter().map(|(pack, position)| self.packs[*pack as usize].offset_at(*position))
    }

    /// The objects in bitmap order: the preferred pack, then the others, each in the order of offsets.
    fn order(&self) -> Vec<u32> {
        let count = u32::try_from(self.objects.len()).unwrap_or(u32::MAX);
        let mut order: Vec<u32> = (0..count).collect();
        order.sort_by_cached_key(|at| {
            let (pack, position) = self.objects[*at as usize];
            (pack != self.preferred, pack, self.packs[pack as usize].offset_at(position))
        });
        order
    }

    fn write(&self, out: &mut Checksummed<'_>) -> Result<ObjectId> {
        let count = u32::try_from(self.objects.len()).context("more objects than an index can hold")?;
        let many_packs = u32::try_from(self.packs.len()).context("more packs than an index can hold")?;
        let mut names = Vec::new();
        for pack in self.packs {
            names.extend_from_slice(index_name(pack).as_bytes());
            names.push(0);
        }
        names.resize(names.len().next_multiple_of(4), 0);
        // If all offsets fit into 32 bits, the highest bit is part of the offset, not a mark.
        let large = if self.offsets().any(|offset| offset > u32::MAX.into()) {
            self.offsets().filter(|offset| *offset >= LARGE.into()).count() as u64
        } else {
            0
        };
        let (objects, width) = (u64::from(count), out.hash().len_in_bytes() as u64);
        let chunks = [
            (b"PNAM", names.len() as u64),
            (b"OIDF", 256 * 4),
            (b"OIDL", objects * width),
            (b"OOFF", objects * 8),
            (b"LOFF", large * 8),
            (b"RIDX", objects * 4),
            (b"BTMP", u64::from(many_packs) * 8),
        ];
        let chunks: Vec<_> = chunks.into_iter().filter(|(id, bytes)| *bytes > 0 || *id != b"LOFF").collect();
        out.bytes(b"MIDX")?;
        out.bytes(&[1, hash_number(out.hash()), u8::try_from(chunks.len()).context("there are seven at most")?, 0])?;
        out.u32(many_packs)?;
        table_of_contents(out, &chunks, 12)?;
        out.bytes(&names)?;
        fan_out(out, self.ids())?;
        for id in self.ids() {
            out.bytes(id.as_bytes())?;
        }
        let mut next_large = 0;
        for ((pack, _), offset) in self.objects.iter().zip(self.offsets()) {
            out.u32(*pack)?;
            match u32::try_from(offset) {
                Ok(small) if large == 0 || small < LARGE => out.u32(small)?,
                _ => {
                    out.u32(LARGE | next_large)?;
                    next_large += 1;
                }
            }
        }
        if large > 0 {
            for offset in self.offsets().filter(|offset| *offset >= LARGE.into()) {
                out.bytes(&offset.to_be_bytes())?;
            }
        }
        let order = self.order();
        for at in &order {
            out.u32(*at)?;
        }
        let mut places = vec![(NOWHERE, 0_u32); self.packs.len()];
        for (rank, at) in (0_u32..).zip(&order) {
            let (first, many) = &mut places[self.objects[*at as usize].0 as usize];
            *first = (*first).min(rank);
            *many += 1;
        }
        for (first, many) in places {
            out.u32(first)?;
            out.u32(many)?;
        }
        Ok(out.end()?)
    }
}

//! Decides whether reachability bitmaps are written, and writes them; `odb::bitmap` knows the format.
//!
//! In: the packs of a repository. Out: the file beside the only pack, or beside the multi-pack-index of several. Never
//! written where objects are borrowed or history is changed: a bitmap describes whole closures.

use super::{fresh, history, local, midx};
use crate::durable::Sync;
use crate::odb::bitmap::write::{Files, NotClosed, for_midx, for_pack};
use crate::odb::{Objects, Pack};
use crate::repo::Repository;
use crate::stream::Pulse;
use anyhow::Result;
use gix_hash::ObjectId;
use std::path::Path;
use std::sync::Arc;

/// Why bitmaps must not be written, if so.
pub(super) fn forbidden(repository: &Repository, packs: usize) -> Result<Option<&'static str>> {
    let settings = &repository.settings;
    if !settings.write_bitmaps.unwrap_or_else(|| settings.is_bare(&repository.common_dir)) {
        return Ok(Some("they are not wanted here (repack.writeBitmaps)"));
    }
    if settings.is_partial_clone() {
        return Ok(Some("objects are left to a promisor"));
    }
    if repository.objects.directories()?.len() > 1 {
        return Ok(Some("objects are borrowed (alternates)"));
    }
    if packs > 1 && !settings.multi_pack_index {
        return Ok(Some("there are several packs and no multi-pack-index"));
    }
    history::why_changed(repository)
}

/// Whether bitmaps are missing where there could be some.
pub(super) fn is_due(folder: &Path, packs: &[Arc<Pack>], hash: gix_hash::Kind) -> bool {
    match packs {
        [] => false,
        [pack] => !pack.is_empty() && !pack.path().with_extension("bitmap").exists(),
        _ => midx::bitmap_path(folder, hash).is_none_or(|path| !path.exists()),
    }
}

/// The result of writing bitmaps.
pub(super) enum Written {
    /// A file with bitmaps for this many commits.
    Commits(u32),
    /// A reachable object is in no pack.
    NotClosed(NotClosed),
    /// Another process has repacked in the meantime.
    Overtaken,
}

/// Writes the file for packs that `objects`, just opened, must find.
pub(super) fn write(
    repository: &Repository,
    objects: &Objects,
    directory: &Path,
    packs: &[Arc<Pack>],
    tips: &[ObjectId],
    pulse: &mut dyn Pulse,
) -> Result<Written> {
    let aside = fresh::directory(repository, objects)?;
    let files = Files { sharing: repository.settings.sharing, sync: Sync::Together, aside: Some(aside.path()) };
    let written = match packs {
        [pack] => local::find(objects, pack.path()).and_then(|pack| for_pack(objects, pack.id(), tips, files, pulse)),
        _ => for_midx(objects, directory, tips, files, pulse),
    };
    let error = match written {
        Ok(summary) => return Ok(Written::Commits(summary.commits)),
        Err(error) => error,
    };
    let folder = directory.join("pack");
    let is_told = packs.len() == 1 || !midx::is_due(&folder, packs, repository.hash());
    if packs.iter().all(|pack| pack.path().exists()) && is_told {
        error.downcast().map(Written::NotClosed)
    } else {
        Ok(Written::Overtaken)
    }
}

//! Reverse indexes (`.rev`) for packs that have none.
//!
//! In: packs. Out: a file beside each, as git writes it with new packs. Existing ones are never changed.

use super::fresh::Fresh;
use crate::durable;
use crate::odb::{Objects, Pack};
use crate::pack::checksummed::Checksummed;
use crate::pack::reverse;
use crate::repo::Repository;
use anyhow::Result;
use std::sync::Arc;

/// Whether a pack has none.
pub(super) fn is_missing(pack: &Pack) -> bool {
    !pack.path().with_extension("rev").exists()
}

/// Writes the missing ones. Returns how many.
pub(super) fn write(repository: &Repository, objects: &Objects, packs: &[Arc<Pack>]) -> Result<usize> {
    let mut written = 0;
    for pack in packs.iter().filter(|pack| is_missing(pack)) {
        let path = pack.path().with_extension("rev");
        let positions: Vec<u32> = pack.by_offset().iter().collect();
        let fill = |out: &mut Checksummed<'_>| Ok(reverse::write(out, &positions, pack.checksum())?);
        let (fresh, _) = Fresh::write(repository, objects, fill)?;
        fresh.put(&path)?;
        written += 1;
        if !pack.path().exists() {
            // Another process has repacked in the meantime, and nothing else would remove a file without its pack.
            let _ = durable::unlink(&path);
        }
    }
    Ok(written)
}

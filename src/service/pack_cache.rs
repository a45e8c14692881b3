//! Packs from the cache: a repeated fetch costs no more than copying a file (docs/configuration.md, ARTIFACTS_CACHE).
//!
//! In: a plan. Out: its pack, from the cheapest source. Only the pack itself is kept: its framing and everything before
//! it are made for each answer. Nothing here decides who may have a pack; that is settled before.

use super::plan::FetchPlan;
use super::progress::HeldBack;
use crate::cache::{Cache, Made, NOTES_BYTES, Notes, Role};
use crate::odb::Pack;
use crate::pack::PackStats;
use crate::pack::select::Selection;
use crate::pack::write;
use crate::repo::Repository;
use crate::stream::Sink;
use gix_hash::ObjectId;
use std::sync::Arc;

/// Sends a pack and returns its statistics and, if packs are kept, where it came from. `chosen`: the selection, if
/// there is one already.
///
/// # Errors
/// When an object is missing or corrupt, the client has gone, or [`crate::cache::Differs`].
pub fn send(
    plan: &FetchPlan<'_>,
    chosen: Option<&Selection>,
    held: &mut HeldBack<'_, '_>,
) -> anyhow::Result<(PackStats, Option<Role>)> {
    let Some(cache) = open(plan.repository) else { return Ok((make(plan, chosen, held)?, None)) };
    let mut whole = None;
    let (notes, role) = cache.serve(&plan.key()?, held, &mut |sink, may_refer| {
        let selected = if chosen.is_none() { Some(plan.select(sink)?) } else { None };
        let Some(selection) = chosen.or(selected.as_ref()) else { unreachable!("one of the two is there") };
        if may_refer && let Some(pack) = write::whole_pack(selection, &plan.repository.objects, &plan.options())? {
            let notes =
                PackNotes { stats: write::stats_of_whole(&pack), whole: Some(pack.checksum().to_owned()) }.notes();
            whole = Some(pack);
            return Ok(Made::Elsewhere(notes));
        }
        let stats = write::write(selection, &plan.repository.objects, &plan.options(), sink)?;
        Ok(Made::Written(PackNotes { stats, whole: None }.notes()))
    })?;
    let noted = PackNotes::of(&notes, plan.repository.hash());
    let Some(checksum) = noted.whole else { return Ok((noted.stats, Some(role))) };
    let pack: Option<Arc<Pack>> = match whole {
        Some(pack) => Some(pack),
        None => plan.repository.objects.pack_of_checksum(&checksum)?,
    };
    match pack {
        Some(pack) => {
            pack.send(held, 0..pack.size())?;
            Ok((noted.stats, Some(role)))
        }
        // The pack has been replaced in the meantime.
        None => Ok((make(plan, chosen, held)?, Some(Role::Missed))),
    }
}

/// Opens the cache, if the operator wants one and it can be trusted.
fn open(repository: &Repository) -> Option<Cache> {
    let settings = repository.context.cache.as_ref()?;
    let cache = Cache::open(settings, repository.context.now).unwrap_or_else(|reason| {
        repository.objects.warn(reason);
        None
    })?;
    if let Some(reason) = cache.cannot_keep() {
        repository.objects.warn(reason);
    }
    Some(cache)
}

/// Makes a pack without the cache.
fn make(plan: &FetchPlan<'_>, chosen: Option<&Selection>, sink: &mut dyn Sink) -> anyhow::Result<PackStats> {
    match chosen {
        Some(selection) => write::write(selection, &plan.repository.objects, &plan.options(), sink),
        None => write::write(&plan.select(sink)?, &plan.repository.objects, &plan.options(), sink),
    }
}

/// What the cache notes about a kept pack.
#[derive(Debug, PartialEq, Eq)]
struct PackNotes {
    stats: PackStats,
    /// The checksum of a pack of the repository that is sent as a whole instead of a kept copy.
    whole: Option<ObjectId>,
}

impl PackNotes {
    fn notes(&self) -> Notes {
        let PackStats { objects, deltas, reused, reused_deltas, pack_reused, bytes } = self.stats;
        let numbers = [objects, deltas, reused, reused_deltas, pack_reused].map(u32::to_le_bytes).concat();
        let name = self.whole.as_ref().map_or(&[][..], |id| id.as_bytes());
        let all = [&numbers, &bytes.to_le_bytes()[..], &[name.len() as u8], name].concat();
        let mut notes = [0; NOTES_BYTES];
        notes[..all.len()].copy_from_slice(&all);
        notes
    }

    fn of(notes: &Notes, hash: gix_hash::Kind) -> Self {
        let mut rest = &notes[..];
        let mut number = || {
            let (bytes, behind) = rest.split_first_chunk().expect("notes have room for all numbers");
            rest = behind;
            u32::from_le_bytes(*bytes)
        };
        let [objects, deltas, reused, reused_deltas, pack_reused] = std::array::from_fn(|_| number());
        let (low, high) = (number(), number());
        let bytes = u64::from(high) << 32 | u64::from(low);
        let name = match rest {
            [0, ..] | [] => None,
            [_, name @ ..] => name.get(..hash.len_in_bytes()).and_then(|name| ObjectId::try_from(name).ok()),
        };
        PackNotes { stats: PackStats { objects, deltas, reused, reused_deltas, pack_reused, bytes }, whole: name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_of_a_pack_is_read_again() {
        for hash in [gix_hash::Kind::Sha1, gix_hash::Kind::Sha256] {
            for whole in [None, Some(hash.empty_tree())] {
                let stats = PackStats {
                    objects: 1,
                    deltas: 2,
                    reused: 3,
                    reused_deltas: 4,
                    pack_reused: u32::MAX,
                    bytes: 1 << 40 | 7,
                };
                let noted = PackNotes { stats, whole };
                assert_eq!(PackNotes::of(&noted.notes(), hash), noted);
            }
        }
    }
}

//! Connectivity: every new tip reaches only objects we have; one walk for all (CO-01).
//!
//! In: new tips and tips that are complete by assumption. Out: nothing, or the first object that is missing or unreadable.
//! Nothing is taken for complete because it exists; only because a known tip reaches it.

use crate::odb::Objects;
use crate::odb::closure::{Broken, Closure, Effort, Filter, Missing, Search};
use crate::stream::Pulse;
use gix_hash::ObjectId;

/// Whether everything reachable from `tips` and not from `known` (complete by assumption: tips of existing refs) exists.
/// Blobs are probed, not read (CO-07). Of trees and blobs some may be `missing` (CO-06).
///
/// # Errors
/// When the client has gone or an index cannot be read; a missing or corrupt object is `Ok(Err(which))`.
pub fn check(
    objects: &Objects,
    tips: &[ObjectId],
    known: &[ObjectId],
    missing: Missing,
    pulse: &mut dyn Pulse,
) -> anyhow::Result<Result<(), ObjectId>> {
    pulse.begin("Checking connectivity", None)?;
    let filter = Filter::default();
    let search = Search { wants: tips, known, effort: Effort::Enough, filter: &filter, missing, peeled: &[] };
    match Closure::find(objects, &search, pulse) {
        Ok(_) => pulse.end()?,
        Err(error) => match error.downcast_ref::<Broken>() {
            Some(broken) => return Ok(Err(broken.id)),
            None => return Err(error),
        },
    }
    Ok(Ok(()))
}

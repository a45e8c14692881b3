//! Connectivity: every new tip reaches only objects we have; one walk for all (CO-01).

use crate::odb::Objects;
use crate::stream::Pulse;
use gix_hash::ObjectId;

/// Whether everything reachable from `tips` and not from `known` (complete by assumption: tips of existing refs) exists.
/// Blobs are probed, not read (CO-07).
///
/// # Errors
/// When the client has gone or an index cannot be read; a missing or corrupt object is `Ok(Err(which))`.
pub fn check(
    objects: &Objects,
    tips: &[ObjectId],
    known: &[ObjectId],
    pulse: &mut dyn Pulse,
) -> anyhow::Result<Result<(), ObjectId>> {
    let _ = (objects, tips, known, pulse);
    unimplemented!()
}

//! Connectivity: every new tip reaches only objects we have, checked in one walk for all tips (CO-01).
//!
//! In: new tips, and tips assumed to be complete. Out: nothing, or the first problem: usually a missing object. An
//! object is never assumed complete because it exists, only because a known tip reaches it.

use crate::odb::Objects;
use crate::odb::closure::{Broken, Closure, Effort, Filter, Missing, Search, TooDeep};
use crate::stream::Pulse;
use gix_hash::ObjectId;
use std::fmt;

/// Why a tip is not connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// An object is missing, unreadable, or not of the kind that others refer to it as.
    Object(ObjectId),
    /// Trees are nested too deeply.
    Depth,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gap::Object(id) => write!(f, "object {id} is missing or broken"),
            Gap::Depth => TooDeep.fmt(f),
        }
    }
}

/// What counts as connected.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Which trees and blobs may be missing (CO-06).
    pub missing: Missing,
    /// How many levels of trees there may be below a commit's root tree (git-config, core.maxTreeDepth); if negative,
    /// even the root tree is too deep.
    pub tree_depth_max: i64,
}

/// Checks that everything reachable from `tips` but not from `known` exists; `known`, the tips of existing refs, is
/// assumed to be complete. Blobs are not read, but what new trees refer to as a blob must be one (CO-07).
///
/// # Errors
/// When the client has gone or an index cannot be read. A missing or corrupt object is `Ok(Err(_))`.
pub fn check(
    objects: &Objects,
    tips: &[ObjectId],
    known: &[ObjectId],
    terms: Terms,
    pulse: &mut dyn Pulse,
) -> anyhow::Result<Result<(), Gap>> {
    pulse.begin("Checking connectivity", None)?;
    let filter = Filter::default();
    let search = Search {
        wants: tips,
        known,
        effort: Effort::Enough,
        filter: &filter,
        missing: terms.missing,
        levels_max: Some(u64::try_from(terms.tree_depth_max.saturating_add(1)).unwrap_or(0)),
        peeled: &[],
    };
    match Closure::find(objects, &search, pulse) {
        Ok(_) => pulse.end()?,
        Err(error) => match error.downcast_ref::<Broken>() {
            Some(broken) => return Ok(Err(Gap::Object(broken.id))),
            None if error.is::<TooDeep>() => return Ok(Err(Gap::Depth)),
            None => return Err(error),
        },
    }
    Ok(Ok(()))
}

//! Connectivity: every new tip reaches only objects we have; one walk for all (CO-01).
//!
//! In: new tips and tips that are complete by assumption. Out: nothing, or what is in the way first: mostly an object that is missing.
//! Nothing is taken for complete because it exists; only because a known tip reaches it.

use crate::odb::Objects;
use crate::odb::closure::{Broken, Closure, Effort, Filter, Missing, Search, TooDeep};
use crate::stream::Pulse;
use gix_hash::ObjectId;
use std::fmt;

/// What keeps something from being connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// An object is missing, unreadable, or not what others call it.
    Object(ObjectId),
    /// Trees lie too deep in others.
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

/// What is taken for connected.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Which trees and blobs may be missing (CO-06).
    pub missing: Missing,
    /// How many trees may lie between a commit's own and any other (git-config, core.maxTreeDepth); less than none: not even that one.
    pub tree_depth_max: i64,
}

/// Whether everything reachable from `tips` and not from `known` (complete by assumption: tips of existing refs) exists.
/// Blobs are not read, but what new trees call one must be one (CO-07).
///
/// # Errors
/// When the client has gone or an index cannot be read; a missing or corrupt object is `Ok(Err(which))`.
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

//! Packs: which objects are sent and from which bytes, and packs that are received. Nothing here knows HTTP, or who may
//! read what.

mod ahead;
pub mod bundle;
pub mod checksummed;
pub mod deflate;
pub mod elsewhere;
mod encode;
pub mod incoming;
mod kin;
mod make;
mod output;
mod plan;
mod relatives;
pub mod reverse;
mod script;
pub mod select;
mod small;
mod sources;
mod trailer;
pub mod unpack;
pub mod write;

/// Statistics of a pack that was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PackStats {
    /// Objects in the pack.
    pub objects: u32,
    /// How many of them are deltas.
    pub deltas: u32,
    /// Objects copied as they are stored.
    pub reused: u32,
    /// How many of those are deltas.
    pub reused_deltas: u32,
    /// Objects of packs sent as whole files, without parsing; counted in `objects` as well, but nowhere else.
    pub pack_reused: u32,
    /// The size of the pack in bytes.
    pub bytes: u64,
}

#[cfg(test)]
mod tests;

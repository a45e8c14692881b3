//! Packs: which objects go out and from which bytes; packs that come in.

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

/// What was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PackStats {
    /// Objects in the pack.
    pub objects: u32,
    /// Of them deltas.
    pub deltas: u32,
    /// Objects copied as they were stored.
    pub reused: u32,
    /// Of them deltas.
    pub reused_deltas: u32,
    /// Objects in packs that went out as they are, unread; they count nowhere but in `objects`.
    pub pack_reused: u32,
    /// Bytes of the pack.
    pub bytes: u64,
}

#[cfg(test)]
mod tests;

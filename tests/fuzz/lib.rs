//! The targets, and the allocator they run with.

pub mod allocations;
pub mod harness;

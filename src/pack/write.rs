//! Writing a pack: order, a source for each entry as it comes, the trailer.

use super::{PackStats, select::Selection};
use crate::odb::Objects;
use crate::stream::Sink;

/// How the pack may look.
#[derive(Debug, Clone, Copy)]
pub struct PackOptions {
    /// Deltas on objects the client has (thin-pack).
    pub thin: bool,
    /// Deltas by offset (ofs-delta); else by name.
    pub ofs_delta: bool,
    /// zlib level for what must be deflated (pack.compression).
    pub compression: u32,
    /// Bytes that may be held in memory.
    pub memory: u64,
}

/// Writes header, entries and trailer. Corruption found on the way is an error before the last byte goes out (DESIGN B20).
///
/// # Errors
/// When an object is missing or corrupt, or the client has gone.
pub fn write(
    selection: &Selection,
    objects: &Objects,
    options: &PackOptions,
    out: &mut dyn Sink,
) -> anyhow::Result<PackStats> {
    let _ = (selection, objects, options, out);
    unimplemented!()
}

//! Writing the reverse index of a pack, `.rev`, version 1 (gitformat-pack).
//!
//! In: index positions in pack order. Out: the bytes of the file. The file is never read here, but in `odb`.

use super::checksummed::{Checksummed, hash_number};
use gix_hash::{ObjectId, oid};
use std::io;

/// Writes a whole file. `checksum` is the pack's trailer; returns the file's own.
///
/// # Errors
/// As `write(2)`.
pub fn write(out: &mut Checksummed<'_>, positions: &[u32], checksum: &oid) -> io::Result<ObjectId> {
    out.bytes(b"RIDX")?;
    out.u32(1)?;
    out.u32(hash_number(out.hash()).into())?;
    for position in positions {
        out.u32(*position)?;
    }
    out.bytes(checksum.as_bytes())?;
    out.end()
}

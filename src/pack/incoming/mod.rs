//! A pack that comes in: read once as a stream, checked, resolved, stored with its index.

use crate::durable::{Sharing, Sync};
use crate::odb::Objects;
use crate::stream::{Body, Pulse};
use gix_hash::ObjectId;
use std::path::Path;

/// How a pack is received.
pub struct ReceiveOptions<'a> {
    /// The hash of names and trailer.
    pub hash: gix_hash::Kind,
    /// The quarantine's object directory; a kept pack goes to its `pack/`.
    pub directory: &'a Path,
    /// Where bases of thin packs are found, and objects that exist already (the quarantine in front of the repository).
    pub objects: &'a Objects,
    /// Packs of fewer objects than this become loose objects (receive.unpackLimit); 0 never.
    pub unpack_limit: u64,
    /// The most bytes the pack may have as it arrives (receive.maxInputSize).
    pub max_input_size: Option<u64>,
    /// Whether every object is parsed and checked (fsck): refused with `fsck error in packed object`.
    pub fsck: bool,
    /// Bytes that may be held in memory, all threads together.
    pub memory: u64,
    /// Whether a `.rev` is written.
    pub reverse_index: bool,
    /// zlib level of loose objects and of bases appended to thin packs.
    pub compression: u32,
    /// Whether what is written is forced to disk.
    pub sync: Sync,
    /// Modes of new files.
    pub sharing: Sharing,
    /// The line in the `.keep` file that protects the pack until refs point to it (UN-13).
    pub keep_message: String,
}

/// A pack that was received completely.
#[derive(Debug, Default)]
pub struct IncomingPack {
    /// Objects in the stream.
    pub objects: u32,
    /// The pack's name, where it was kept (its `.keep` file stands beside it); `None`: loose objects were written.
    pub kept: Option<ObjectId>,
    /// Bytes of the stream.
    pub bytes: u64,
}

/// Why a pack was refused.
#[derive(Debug)]
pub struct UnpackError {
    /// What `unpack …` in the report says, in git's words: `eof before pack header was fully read`,
    /// `protocol error (pack signature mismatch detected)`, `index-pack abnormal exit`, `unpack-objects abnormal exit` (UN-03, UN-04).
    pub status: String,
    /// What the user is told on band 2 (UN-05), without prefix: `pack exceeds maximum allowed size (512 bytes)`.
    pub detail: String,
}

impl IncomingPack {
    /// Reads one pack from `body` to the end of the body: what follows the trailer is an error (R1). Nothing stays behind on error
    /// but files in the quarantine, which its owner removes.
    ///
    /// # Errors
    /// See [`UnpackError`]. Bad packs, limits, failed writes; the client's going is told by its `Io` text alone.
    pub fn receive(
        body: &mut dyn Body,
        options: &ReceiveOptions<'_>,
        pulse: &mut dyn Pulse,
    ) -> Result<Self, UnpackError> {
        let _ = (body, options, pulse);
        unimplemented!()
    }
}

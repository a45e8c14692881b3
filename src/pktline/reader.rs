//! Reads packets, never a byte too many: what follows a flush may be a pack.

use super::{FrameError, Packet};
use std::io::Read;

/// Reads packets from a stream it borrows.
pub struct PacketReader<'r> {
    input: &'r mut dyn Read,
    line: Vec<u8>,
}

impl<'r> PacketReader<'r> {
    /// A reader at the start of a packet.
    pub fn new(input: &'r mut dyn Read) -> Self {
        PacketReader { input, line: Vec::new() }
    }

    /// The next packet; `None` at a clean end of the stream.
    ///
    /// # Errors
    /// Bad lengths, an end inside a packet, `ERR` lines of the client, failed reads.
    pub fn next(&mut self) -> Result<Option<Packet<'_>>, FrameError> {
        let _ = (&mut self.input, &mut self.line);
        unimplemented!()
    }

    /// The stream behind the last packet.
    pub fn into_inner(self) -> &'r mut dyn Read {
        self.input
    }
}

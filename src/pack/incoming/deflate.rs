//! The way into zlib streams: one encoder and one buffer for many streams.
//!
//! In: content in pieces. Out: deflated bytes, handed on whenever the buffer is full.

use flate2::{Compress, Compression, FlushCompress, Status};
use std::io;

/// Deflated bytes collected before they are handed on.
const BUFFER_LEN: usize = 64 << 10;

/// A zlib encoder, used again for each stream.
pub(in crate::pack) struct Deflater {
    state: Compress,
    buffer: Box<[u8]>,
    filled: usize,
}

/// Takes deflated bytes.
type Out<'a> = dyn FnMut(&[u8]) -> io::Result<()> + 'a;

impl Deflater {
    /// `level` as zlib counts them; more than 9 is 9.
    pub fn new(level: u32) -> Self {
        Deflater {
            state: Compress::new(Compression::new(level.min(9)), true),
            buffer: vec![0; BUFFER_LEN].into_boxed_slice(),
            filled: 0,
        }
    }

    /// Begins a stream.
    pub fn begin(&mut self) {
        self.state.reset();
        self.filled = 0;
    }

    /// More content.
    ///
    /// # Errors
    /// What `out` says.
    pub fn push(&mut self, bytes: &[u8], out: &mut Out<'_>) -> io::Result<()> {
        self.run(bytes, FlushCompress::None, out)
    }

    /// The content is complete; the last bytes are handed on.
    ///
    /// # Errors
    /// What `out` says.
    pub fn end(&mut self, out: &mut Out<'_>) -> io::Result<()> {
        self.run(&[], FlushCompress::Finish, out)?;
        out(&self.buffer[..self.filled])
    }

    fn run(&mut self, mut bytes: &[u8], flush: FlushCompress, out: &mut Out<'_>) -> io::Result<()> {
        loop {
            let (taken, made) = (self.state.total_in(), self.state.total_out());
            let room = &mut self.buffer[self.filled..];
            let status = self.state.compress(bytes, room, flush).map_err(io::Error::other)?;
            let size = |total: u64, before: u64| usize::try_from(total - before).map_err(io::Error::other);
            self.filled += size(self.state.total_out(), made)?;
            bytes = &bytes[size(self.state.total_in(), taken)?..];
            let done = match flush {
                FlushCompress::Finish => status == Status::StreamEnd,
                _ => bytes.is_empty(),
            };
            if done {
                return Ok(());
            }
            out(&self.buffer[..self.filled])?;
            self.filled = 0;
        }
    }
}

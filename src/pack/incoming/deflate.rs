//! The way into zlib streams: one encoder and one buffer for many streams.
//!
//! In: content in pieces. Out: deflated bytes, handed on whenever the buffer is full.

use flate2::{Compress, Compression, FlushCompress, Status};
use std::io;

/// Deflated bytes collected before they are handed on.
const BUFFER_LEN: usize = 64 << 10;
/// What most objects need of that.
const FIRST_LEN: usize = 4 << 10;

/// A zlib encoder, used again for each stream.
pub(in crate::pack) struct Deflater {
    level: Compression,
    /// Made for the first stream: its tables are what a push that deflates nothing would pay for in vain.
    state: Option<Compress>,
    buffer: Vec<u8>,
    filled: usize,
}

/// Takes deflated bytes.
type Out<'a> = dyn FnMut(&[u8]) -> io::Result<()> + 'a;

impl Deflater {
    /// `level` as zlib counts them; more than 9 is 9.
    pub fn new(level: u32) -> Self {
        Deflater { level: Compression::new(level.min(9)), state: None, buffer: Vec::new(), filled: 0 }
    }

    /// Begins a stream.
    pub fn begin(&mut self) {
        if let Some(state) = &mut self.state {
            state.reset();
        }
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
        let state = self.state.get_or_insert_with(|| Compress::new(self.level, true));
        loop {
            if self.filled == self.buffer.len() && self.buffer.len() < BUFFER_LEN {
                self.buffer.resize((2 * self.buffer.len()).max(FIRST_LEN), 0);
            }
            let (taken, made) = (state.total_in(), state.total_out());
            let room = &mut self.buffer[self.filled..];
            let status = state.compress(bytes, room, flush).map_err(io::Error::other)?;
            let size = |total: u64, before: u64| usize::try_from(total - before).map_err(io::Error::other);
            self.filled += size(state.total_out(), made)?;
            bytes = &bytes[size(state.total_in(), taken)?..];
            let done = match flush {
                FlushCompress::Finish => status == Status::StreamEnd,
                _ => bytes.is_empty(),
            };
            if done {
                return Ok(());
            }
            if self.buffer.len() == BUFFER_LEN {
                out(&self.buffer[..self.filled])?;
                self.filled = 0;
            }
        }
    }
}

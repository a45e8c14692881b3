//! Inflates zlib streams, for all of the crate; buffers are lent by the caller.
//!
//! In: a zlib stream, in memory or in pieces of a file. Out: its content, never more than announced. Buffers grow with
//! what arrives, never with what is announced.

mod at_once;
mod bits;
mod codes;

pub use codes::FIXED_CODES;

use anyhow::{Context, bail};
use at_once::{AtOnce, Inflated};
use flate2::{Decompress, FlushDecompress, Status};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// The first allocation for content whose size is only announced; from there on it doubles.
const FIRST_BYTES: usize = 1 << 20;
/// Room after the announced size, which lets the decoder run at full speed up to the last byte, and shows if a stream
/// goes on.
const SLACK_BYTES: usize = 320;
/// How much of a file that is not mapped is read at once.
const PIECE_BYTES: usize = 64 << 10;
/// Content of up to this many bytes is inflated in one go, if the whole stream is at hand. Beyond it the general
/// decoder is as fast.
const AT_ONCE_BYTES: usize = 64 << 10;

/// A source of compressed bytes.
pub trait CompressedSource {
    /// The bytes from `at` on: at least one, or none at the end.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn piece(&mut self, at: u64) -> io::Result<&[u8]>;
}

impl CompressedSource for &[u8] {
    fn piece(&mut self, at: u64) -> io::Result<&[u8]> {
        Ok(usize::try_from(at).ok().and_then(|at| self.get(at..)).unwrap_or_default())
    }
}

/// A file read in pieces, up to a given end.
pub struct Pieces<'a> {
    file: &'a File,
    end: u64,
    buffer: &'a mut Vec<u8>,
    /// The range of the file in the buffer.
    held: Range<u64>,
}

impl<'a> Pieces<'a> {
    /// The bytes of a file, up to `end`. `buffer` is lent for one piece.
    pub fn new(file: &'a File, end: u64, buffer: &'a mut Vec<u8>) -> Self {
        Pieces { file, end, buffer, held: 0..0 }
    }
}

impl CompressedSource for Pieces<'_> {
    fn piece(&mut self, at: u64) -> io::Result<&[u8]> {
        if !self.held.contains(&at) {
            let left = usize::try_from(self.end.saturating_sub(at)).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            self.buffer.resize(left, 0);
            self.held = 0..0;
            let read = loop {
                match self.file.read_at(self.buffer, at) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read?,
                }
            };
            self.held = at..at + read as u64;
        }
        Ok(&self.buffer[(at - self.held.start) as usize..(self.held.end - self.held.start) as usize])
    }
}

/// A zlib decoder, reused for each stream.
pub struct Inflater {
    /// Both are created for the first stream: an advertisement needs none of their windows and tables.
    at_once: Option<Box<AtOnce>>,
    state: Option<Decompress>,
    at: u64,
}

impl Default for Inflater {
    fn default() -> Self {
        Inflater::new()
    }
}

impl Inflater {
    /// Creates a decoder for any number of streams, one after the other.
    pub fn new() -> Self {
        Inflater { at_once: None, state: None, at: 0 }
    }

    /// Inflates the stream at `at` of `stored` into `out`, whose content is replaced. Returns where the stream ended.
    /// It must have exactly `size` bytes of content.
    ///
    /// # Errors
    /// When the stream is damaged, ends early, or has another size. The content of `out` is then meaningless.
    pub fn whole(
        &mut self,
        stored: &mut dyn CompressedSource,
        at: u64,
        size: u64,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<u64> {
        if let Ok(size) = usize::try_from(size)
            && let Some(Inflated { filled, stream: Some(length) }) = self.at_once(stored, at, size, out)?
            && filled == size
        {
            out.truncate(size);
            self.at = at + length as u64;
            return Ok(self.at);
        }
        self.start(at);
        self.rest(stored, size, 0, out)
    }

    /// Inflates the stream at `at` of `stored` into `out`, whose content is replaced, if it is all at hand and has at
    /// most `most` bytes of content, up to a limit. Returns where the stream ended; `None` if the conditions are not
    /// met or it is damaged, and `out` is then meaningless.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn small(
        &mut self,
        stored: &mut dyn CompressedSource,
        at: u64,
        most: usize,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<Option<u64>> {
        let inflated = self.at_once(stored, at, most.min(AT_ONCE_BYTES), out)?;
        let Some(Inflated { filled, stream: Some(length) }) = inflated else { return Ok(None) };
        out.truncate(filled);
        Ok(Some(at + length as u64))
    }

    /// Tries to inflate `bytes` bytes of the stream at `at` in one go. If that fails, the general decoder reports why.
    fn at_once(
        &mut self,
        stored: &mut dyn CompressedSource,
        at: u64,
        bytes: usize,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<Option<Inflated>> {
        if bytes > AT_ONCE_BYTES {
            return Ok(None);
        }
        out.resize(bytes + at_once::SLACK_BYTES, 0);
        let input = stored.piece(at)?;
        Ok(self.at_once.get_or_insert_with(AtOnce::new).inflate(input, out))
    }

    /// Begins the stream at `at`.
    fn start(&mut self, at: u64) {
        if let Some(state) = &mut self.state {
            state.reset(true);
        }
        self.at = at;
    }

    /// Where the last stream ended, or how far it was read.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Inflates the rest of a stream whose first `filled` bytes are in `out`. Returns where it ended. The whole stream
    /// must have exactly `size` bytes of content.
    ///
    /// # Errors
    /// As [`Inflater::whole`].
    pub fn rest(
        &mut self,
        stored: &mut dyn CompressedSource,
        size: u64,
        mut filled: usize,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<u64> {
        let size = usize::try_from(size).context("object is too large for this machine")?;
        let full = size.checked_add(SLACK_BYTES).context("object is too large for this machine")?;
        // Not cleared first: bytes that are overwritten anyway need not be zeroed.
        out.resize(full.min(FIRST_BYTES.max(2 * filled)), 0);
        loop {
            let (read, status) = self.step(stored, &mut out[filled..])?;
            filled += read;
            if filled > size {
                bail!("zlib stream is longer than announced ({size} bytes)");
            }
            if status == Status::StreamEnd {
                break;
            }
            if filled == out.len() {
                out.resize(full.min(2 * filled), 0);
            }
        }
        if filled < size {
            bail!("zlib stream is shorter than announced ({filled} of {size} bytes)");
        }
        out.truncate(size);
        Ok(self.at)
    }

    /// Inflates once. Returns how many bytes came out. Makes progress or fails, unless `out` is full.
    fn step(&mut self, stored: &mut dyn CompressedSource, out: &mut [u8]) -> anyhow::Result<(usize, Status)> {
        let input = stored.piece(self.at)?;
        self.inflate(input, out)
    }

    fn inflate(&mut self, input: &[u8], out: &mut [u8]) -> anyhow::Result<(usize, Status)> {
        if input.is_empty() {
            bail!("zlib stream is cut off");
        }
        let state = self.state.get_or_insert_with(|| Decompress::new(true));
        let (in_before, out_before) = (state.total_in(), state.total_out());
        let status = state.decompress(input, out, FlushDecompress::Finish).context("zlib stream")?;
        let (read, wrote) = (state.total_in() - in_before, state.total_out() - out_before);
        self.at += read;
        if read == 0 && wrote == 0 && status != Status::StreamEnd && !out.is_empty() {
            bail!("zlib stream does not go on");
        }
        Ok((usize::try_from(wrote).expect("no more than the slice holds"), status))
    }

    /// Inflates the first bytes of the stream at `at`, as many as fit into `out`. Returns how many there were, and
    /// whether the stream ended with them.
    ///
    /// # Errors
    /// When the stream is damaged.
    pub fn head(
        &mut self,
        stored: &mut dyn CompressedSource,
        at: u64,
        out: &mut [u8],
    ) -> anyhow::Result<(usize, bool)> {
        self.start(at);
        let mut filled = 0;
        while filled < out.len() {
            let (read, status) = self.step(stored, &mut out[filled..])?;
            filled += read;
            if status == Status::StreamEnd {
                return Ok((filled, true));
            }
        }
        Ok((filled, false))
    }

    /// Inflates the first `bytes` bytes of the stream at `at`, or all if there are fewer. The stream cannot be
    /// continued afterwards.
    ///
    /// # Errors
    /// When the stream is damaged within these bytes.
    pub fn begin(
        &mut self,
        stored: &mut dyn CompressedSource,
        at: u64,
        bytes: usize,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        let filled = match self.at_once(stored, at, bytes, out)? {
            Some(begun) => begun.filled,
            None => {
                out.resize(bytes, 0);
                self.head(stored, at, out)?.0
            }
        };
        out.truncate(filled);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn deflated(content: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        writer.write_all(content).expect("memory takes all");
        writer.finish().expect("memory takes all")
    }

    fn check(content: &[u8], announced: u64, expected: Result<(), &str>) {
        let stream = deflated(content);
        let mut out = b"old".to_vec();
        let got = Inflater::new().whole(&mut &stream[..], 0, announced, &mut out);
        match expected {
            Ok(()) => {
                assert_eq!(got.expect("is sound"), stream.len() as u64);
                assert_eq!(out, content);
            }
            Err(text) => assert!(got.expect_err("is unsound").to_string().contains(text)),
        }
    }

    #[test]
    fn a_stream_must_have_the_announced_size() {
        check(b"", 0, Ok(()));
        check(b"hello", 5, Ok(()));
        check(b"hello", 4, Err("longer than announced"));
        check(b"hello", 6, Err("shorter than announced"));
        check(b"hello", 0, Err("longer than announced"));
        check(&[7; 3 << 20], 3 << 20, Ok(()));
        check(&[7; 3 << 20], 2 << 20, Err("longer than announced"));
        check(&[7; 3 << 20], 4 << 30, Err("shorter than announced"));
    }

    #[test]
    fn an_announced_size_alone_allocates_little() {
        let mut out = Vec::new();
        Inflater::new().whole(&mut &deflated(b"x")[..], 0, 3 << 30, &mut out).expect_err("is too short");
        assert!(out.capacity() <= 2 * FIRST_BYTES);
    }

    #[test]
    fn a_damaged_or_cut_stream_is_an_error() {
        let content: Vec<u8> = (0..5000_u32).flat_map(u32::to_le_bytes).collect();
        let sound = deflated(&content);
        let mut out = Vec::new();
        let mut inflater = Inflater::new();
        for cut in [0, 1, 2, sound.len() / 2, sound.len() - 1] {
            inflater.whole(&mut &sound[..cut], 0, content.len() as u64, &mut out).expect_err("is cut");
        }
        let mut damaged = sound.clone();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        inflater.whole(&mut &damaged[..], 0, content.len() as u64, &mut out).expect_err("has a wrong checksum");
        inflater.whole(&mut &sound[..], 0, content.len() as u64, &mut out).expect("a decoder outlives bad streams");
    }

    #[test]
    fn the_head_is_inflated_alone() {
        let stream = deflated(&[b'a'; 100_000]);
        let mut head = [0; 16];
        assert_eq!(Inflater::new().head(&mut &stream[..], 0, &mut head).expect("is sound"), (16, false));
        assert_eq!(head, [b'a'; 16]);
        let stream = deflated(b"abc");
        assert_eq!(Inflater::new().head(&mut &stream[..], 0, &mut head).expect("is sound"), (3, true));
    }
}

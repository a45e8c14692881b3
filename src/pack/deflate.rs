//! Deflating: one encoder and one buffer for many streams, and another encoder for small contents.
//!
//! In: content in pieces. Out: deflated bytes, handed on whenever the buffer is full. The streams are never read back
//! here.

use super::small::{CONTENT_MAX, Small};
use flate2::{Compress, Compression, FlushCompress, Status};
use gix_object::Kind;
use std::io;

/// The most deflated bytes buffered before they are handed on.
const BUFFER_LEN: usize = 64 << 10;
/// The buffer's first size, which is enough for most objects.
const FIRST_LEN: usize = 4 << 10;

/// Up to this size a delta counts as little: it consists mostly of copy offsets and a few names and lines, which no
/// level makes much shorter.
const LITTLE: usize = 4 << 10;
/// The same limit for an object: no level finds much in so few bytes.
const LITTLE_OBJECT: usize = 64;
/// The same limit for a tree, which consists mostly of object names and so is nearly random.
const LITTLE_TREE: usize = 128;

/// The zlib levels of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Levels {
    /// The level of objects and of large deltas.
    pub usual: u32,
    /// The level of little deltas and of little objects.
    pub little: u32,
}

impl Levels {
    /// One level for everything.
    pub fn all(level: u32) -> Self {
        Levels { usual: level, little: level }
    }

    /// The levels of a pack that is kept: the owner's level, or else 5. git's 6 takes a fifth more time for a
    /// thousandth fewer bytes.
    pub fn kept(owner: Option<u32>) -> Self {
        Levels::all(owner.unwrap_or(5))
    }

    /// The levels of a pack that is sent once: the owner's level, or else 3, and 1 for little deltas. Level 5 saves two
    /// percent of the objects stored whole and takes a quarter longer for them. For little deltas the other levels take
    /// three to six times as long, and save one or two percent of the pack.
    pub fn sent(owner: Option<u32>) -> Self {
        owner.map_or(Levels { usual: 3, little: 1 }, Levels::all)
    }

    /// The level of a delta of `size` bytes.
    pub fn of_delta(self, size: usize) -> u32 {
        if size <= LITTLE { self.little } else { self.usual }
    }

    /// The level of an object.
    pub fn of_object(self, kind: Kind, size: usize) -> u32 {
        let little = if kind == Kind::Tree { LITTLE_TREE } else { LITTLE_OBJECT };
        if size <= little { self.little } else { self.usual }
    }
}

/// A zlib encoder that is reused for each stream.
#[derive(Default)]
pub(in crate::pack) struct Deflater {
    /// Made for the first stream: a push that deflates nothing need not pay for its tables.
    state: Option<Compress>,
    /// The level of the last stream.
    level: u32,
    small: Small,
    buffer: Vec<u8>,
    /// How much of the buffer is filled, and how much may be. At level 0 the output depends on the latter, and must not
    /// depend on earlier streams.
    filled: usize,
    room: usize,
}

/// Receives deflated bytes.
type Out<'a, E> = dyn FnMut(&[u8]) -> Result<(), E> + 'a;

impl Deflater {
    /// Deflates content that is in memory as a whole.
    ///
    /// # Errors
    /// What `out` returns.
    pub fn whole<E: From<io::Error>>(&mut self, level: u32, content: &[u8], out: &mut Out<'_, E>) -> Result<(), E> {
        // zlib's fastest level does little more than take matches as they come, so the small encoder serves as well.
        if level == 1 && content.len() <= CONTENT_MAX {
            return out(self.small.deflate(content));
        }
        self.begin(level)?;
        self.run(content, FlushCompress::Finish, out)?;
        out(&self.buffer[..self.filled])
    }

    /// Begins a stream; a zlib level above 9 counts as 9.
    ///
    /// # Errors
    /// When zlib cannot change its level, which it can at the beginning of a stream.
    pub fn begin(&mut self, level: u32) -> io::Result<()> {
        let level = level.min(9);
        match &mut self.state {
            None => self.state = Some(Compress::new(Compression::new(level), true)),
            Some(state) => {
                state.reset();
                if level != self.level {
                    state.set_level(Compression::new(level)).map_err(io::Error::other)?;
                }
            }
        }
        self.level = level;
        (self.filled, self.room) = (0, FIRST_LEN);
        self.buffer.resize(self.buffer.len().max(FIRST_LEN), 0);
        Ok(())
    }

    /// Adds content.
    ///
    /// # Errors
    /// What `out` returns.
    pub fn push<E: From<io::Error>>(&mut self, bytes: &[u8], out: &mut Out<'_, E>) -> Result<(), E> {
        self.run(bytes, FlushCompress::None, out)
    }

    /// Ends the stream and hands on the last bytes.
    ///
    /// # Errors
    /// What `out` returns.
    pub fn end<E: From<io::Error>>(&mut self, out: &mut Out<'_, E>) -> Result<(), E> {
        self.run(&[], FlushCompress::Finish, out)?;
        out(&self.buffer[..self.filled])
    }

    fn run<E: From<io::Error>>(
        &mut self,
        mut bytes: &[u8],
        flush: FlushCompress,
        out: &mut Out<'_, E>,
    ) -> Result<(), E> {
        let state = self.state.as_mut().expect("a stream was begun");
        loop {
            let (taken, made) = (state.total_in(), state.total_out());
            let room = &mut self.buffer[self.filled..self.room];
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
            // The buffer is full.
            if self.room < BUFFER_LEN {
                self.room *= 2;
                self.buffer.resize(self.buffer.len().max(self.room), 0);
            } else {
                out(&self.buffer[..self.filled])?;
                self.filled = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn deflated(deflater: &mut Deflater, level: u32, content: &[u8], piece: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut take = |bytes: &[u8]| -> io::Result<()> {
            out.extend_from_slice(bytes);
            Ok(())
        };
        if piece == 0 {
            deflater.whole(level, content, &mut take).unwrap();
        } else {
            deflater.begin(level).unwrap();
            content.chunks(piece).for_each(|piece| deflater.push(piece, &mut take).unwrap());
            deflater.end(&mut take).unwrap();
        }
        out
    }

    #[test]
    fn streams_of_one_encoder_are_those_of_many() {
        let text: String = (0..40_000).map(|n| format!("line {} of it\n", n % 977 * n % 31)).collect();
        let mut one = Deflater::default();
        for length in [4096, 500_000, 0, 300, 1, 70_000] {
            let content = &text.as_bytes()[..length];
            for level in [5, 1, 0, 9, 1, 100] {
                let whole = deflated(&mut one, level, content, 0);
                assert!(whole == deflated(&mut Deflater::default(), level, content, 0), "{level} {length}");
                let in_pieces = deflated(&mut one, level, content, 1 + length / 3);
                let mut back = Vec::new();
                for stream in [&whole, &in_pieces] {
                    back.clear();
                    flate2::read::ZlibDecoder::new(&stream[..]).read_to_end(&mut back).unwrap();
                    assert!(back == *content, "{level} {length}");
                }
                if level == 0 {
                    assert!(whole.len() > length);
                }
            }
        }
    }

    #[test]
    fn only_what_is_little_of_what_is_sent_once_is_deflated_otherwise() {
        let (sent, kept) = (Levels::sent(None), Levels::kept(None));
        assert_eq!([sent.of_delta(0), sent.of_delta(LITTLE), sent.of_delta(LITTLE + 1), sent.usual], [1, 1, 3, 3]);
        assert_eq!([kept.of_delta(0), kept.of_object(Kind::Tree, 0), kept.usual], [5, 5, 5]);
        assert_eq!([LITTLE_OBJECT, LITTLE_OBJECT + 1].map(|size| sent.of_object(Kind::Blob, size)), [1, 3]);
        assert_eq!([LITTLE_TREE, LITTLE_TREE + 1].map(|size| sent.of_object(Kind::Tree, size)), [1, 3]);
        assert_eq!([Levels::sent(Some(7)), Levels::kept(Some(7))], [Levels::all(7); 2]);
    }
}

//! Reads packets and never a byte beyond them, because a pack may follow a flush.
//!
//! In: a stream. Out: packets, borrowed from the reader's buffer.

use super::{FrameError, Packet};
use std::io::{self, Read};

/// Packets must be shorter than this, including the four length digits. As in git's own reader, whose buffer of 65520
/// bytes must hold the payload and a NUL, that is three bytes more than a writer may send.
const LENGTH_END: usize = super::PAYLOAD_MAX + 8;

/// A reader of packets from a borrowed stream.
pub struct PacketReader<'r> {
    input: &'r mut dyn Read,
    line: Vec<u8>,
    /// The kind of the packet in `line`, if it has been peeked at but not taken.
    peeked: Option<Kind>,
}

/// The kind of a packet; its bytes are in the reader's buffer.
#[derive(Debug, Clone, Copy)]
enum Kind {
    End,
    Data,
    Flush,
    Delim,
    ResponseEnd,
}

impl<'r> PacketReader<'r> {
    /// A reader positioned at the start of a packet.
    pub fn new(input: &'r mut dyn Read) -> Self {
        PacketReader { input, line: Vec::new(), peeked: None }
    }

    /// The next packet; `None` at a clean end of the stream.
    ///
    /// # Errors
    /// Invalid lengths, an end inside a packet, `ERR` lines of the client, failed reads.
    #[allow(clippy::should_implement_trait, reason = "it lends its buffer, which an iterator cannot")]
    pub fn next(&mut self) -> Result<Option<Packet<'_>>, FrameError> {
        let kind = match self.peeked.take() {
            Some(kind) => kind,
            None => self.read()?,
        };
        Ok(self.packet(kind))
    }

    /// The next packet, which [`PacketReader::next`] returns again.
    ///
    /// # Errors
    /// As [`PacketReader::next`].
    pub fn peek(&mut self) -> Result<Option<Packet<'_>>, FrameError> {
        let kind = match self.peeked {
            Some(kind) => kind,
            None => self.read()?,
        };
        self.peeked = Some(kind);
        Ok(self.packet(kind))
    }

    /// Returns the stream, positioned after the last packet. A packet that was only peeked at is lost.
    pub fn into_inner(self) -> &'r mut dyn Read {
        self.input
    }

    fn packet(&self, kind: Kind) -> Option<Packet<'_>> {
        match kind {
            Kind::End => None,
            Kind::Data => Some(Packet::Data(&self.line)),
            Kind::Flush => Some(Packet::Flush),
            Kind::Delim => Some(Packet::Delim),
            Kind::ResponseEnd => Some(Packet::ResponseEnd),
        }
    }

    fn read(&mut self) -> Result<Kind, FrameError> {
        let mut digits = [0; 4];
        match fill(self.input, &mut digits)? {
            0 => return Ok(Kind::End),
            4 => {}
            _ => return Err(FrameError::Truncated),
        }
        let payload = match length(digits).ok_or(FrameError::BadLength(digits))? {
            0 => return Ok(Kind::Flush),
            1 => return Ok(Kind::Delim),
            2 => return Ok(Kind::ResponseEnd),
            4..LENGTH_END => length(digits).unwrap_or_default() - 4,
            _ => return Err(FrameError::BadLength(digits)),
        };
        self.line.resize(payload, 0);
        if fill(self.input, &mut self.line)? != payload {
            return Err(FrameError::Truncated);
        }
        match self.line.strip_prefix(b"ERR ") {
            Some(text) => Err(FrameError::Remote(text.strip_suffix(b"\n").unwrap_or(text).into())),
            None => Ok(Kind::Data),
        }
    }
}

/// Parses four hexadecimal digits of either case.
pub(super) fn length(digits: [u8; 4]) -> Option<usize> {
    digits.iter().try_fold(0, |value, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        Some(value << 4 | digit as usize)
    })
}

/// Reads until `buffer` is full or the stream ends; returns the number of bytes read.
fn fill(input: &mut dyn Read, buffer: &mut [u8]) -> Result<usize, FrameError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // An error with its own text, such as a body shorter than its Content-Length, is passed on.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && error.get_ref().is_none() => {
                return Err(FrameError::Truncated);
            }
            Err(error) => return Err(FrameError::Io(error)),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives at most as many bytes at a time as its second field says.
    struct Slowly<'a>(&'a [u8], usize);

    impl Read for Slowly<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let size = self.1.max(1).min(buffer.len()).min(self.0.len());
            let (now, later) = self.0.split_at(size);
            buffer[..size].copy_from_slice(now);
            self.0 = later;
            Ok(size)
        }
    }

    fn told(input: &[u8], step: usize) -> (String, usize) {
        let mut input = Slowly(input, step);
        let mut reader = PacketReader::new(&mut input);
        let mut told = String::new();
        loop {
            let word = match reader.next() {
                Ok(None) => break,
                Ok(Some(Packet::Data(line))) => format!("{} ", line.escape_ascii()),
                Ok(Some(Packet::Flush)) => "flush ".to_owned(),
                Ok(Some(Packet::Delim)) => "delim ".to_owned(),
                Ok(Some(Packet::ResponseEnd)) => "response-end ".to_owned(),
                Err(error) => {
                    told += &format!("! {error}");
                    break;
                }
            };
            told += &word;
        }
        (told, input.0.len())
    }

    #[test]
    fn packets_are_told_apart() {
        let check = |input: &[u8], expected: &str| assert_eq!(told(input, 1 << 20).0.trim_end(), expected);
        check(b"", "");
        check(b"0000", "flush");
        check(b"000100020000", "delim response-end flush");
        check(b"0008have000Ahave\\n", "have have\\\\n");
        check(b"0004", "");
        check(b"0003", "! protocol error: bad line length 3");
        check(b"00x5", "! protocol error: bad line length character: 00x5");
        check(b"+012", "! protocol error: bad line length character: +012");
        check(b"\x00\xff\n\x1b", "! protocol error: bad line length character: \\x00\\xff\\n\\x1b");
        check(b"fff4", "! protocol error: bad line length 65524");
        check(b"000", "! the remote end hung up unexpectedly");
        check(b"0009have", "! the remote end hung up unexpectedly");
        check(b"000cERR gone", "! remote error: gone");
    }

    #[test]
    fn the_newline_is_dropped_once_and_only_from_text() {
        assert_eq!(Packet::Data(b"done\n").text(), Some(&b"done"[..]));
        assert_eq!(Packet::Data(b"done\n\n").text(), Some(&b"done\n"[..]));
        assert_eq!(Packet::Data(b"").text(), Some(&b""[..]));
        assert_eq!(Packet::Flush.text(), None);
    }

    #[test]
    fn the_longest_packet_is_read_and_one_byte_more_is_not() {
        for (length, good) in [(65520, true), (65523, true), (65524, false)] {
            let input = [format!("{length:04x}").as_bytes(), &vec![b'x'; length - 4]].concat();
            assert_eq!(PacketReader::new(&mut &input[..]).next().is_ok(), good, "{length}");
        }
    }

    #[test]
    fn nothing_behind_a_flush_is_read() {
        let mut input = &b"0008have0000PACK"[..];
        let mut reader = PacketReader::new(&mut input);
        assert!(matches!(reader.next(), Ok(Some(Packet::Data(b"have")))));
        assert!(matches!(reader.next(), Ok(Some(Packet::Flush))));
        let mut rest = Vec::new();
        reader.into_inner().read_to_end(&mut rest).expect("memory can be read");
        assert_eq!(rest, b"PACK");
    }

    #[test]
    fn a_packet_that_was_looked_at_comes_again() {
        let mut input = &b"0005a0005b"[..];
        let mut reader = PacketReader::new(&mut input);
        for expected in [b"a", b"b"] {
            assert!(matches!(reader.peek(), Ok(Some(Packet::Data(line))) if line == expected));
            assert!(matches!(reader.peek(), Ok(Some(Packet::Data(line))) if line == expected));
            assert!(matches!(reader.next(), Ok(Some(Packet::Data(line))) if line == expected));
        }
        assert!(matches!(reader.peek(), Ok(None)));
        assert!(matches!(reader.next(), Ok(None)));
    }

    proptest! {
        #[test]
        fn any_split_of_the_input_gives_the_same_packets(
            lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8),
            tail in proptest::collection::vec(any::<u8>(), 0..6),
            step in 1usize..9,
        ) {
            let mut input = Vec::new();
            for line in &lines {
                if line.is_empty() { input.extend_from_slice(b"0000") }
                else { crate::pktline::line(&mut input, line).expect("memory can be written") }
            }
            input.extend_from_slice(&tail);
            prop_assert_eq!(told(&input, step), told(&input, 1 << 20));
        }
    }
}

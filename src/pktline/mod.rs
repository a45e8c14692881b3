//! Framing: pkt-lines (gitprotocol-common) and side bands (gitprotocol-pack).
//!
//! In: bytes. Out: [`Packet`]s, and back. The content of lines is never interpreted here.

mod reader;
mod sideband;
mod writer;

pub use reader::PacketReader;
pub use sideband::{Band, BandSize, SideBand};
pub use writer::{append, delim, err, flush, line, push, text};

/// The largest payload of a packet; with the four length digits that is 65520 bytes (gitprotocol-common, pkt-line
/// format).
pub const PAYLOAD_MAX: usize = 65516;

/// One packet, borrowed from the reader's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A line or binary data, as it came; [`Packet::text`] drops the newline.
    Data(&'a [u8]),
    /// `0000`.
    Flush,
    /// `0001`, protocol v2.
    Delim,
    /// `0002`, protocol v2.
    ResponseEnd,
}

impl<'a> Packet<'a> {
    /// The line without one trailing newline; `None` for a packet without data.
    pub fn text(self) -> Option<&'a [u8]> {
        match self {
            Packet::Data(line) => Some(line.strip_suffix(b"\n").unwrap_or(line)),
            Packet::Flush | Packet::Delim | Packet::ResponseEnd => None,
        }
    }
}

/// An error in the framing, in git's words where git has any.
#[derive(Debug)]
pub enum FrameError {
    /// Four bytes that are not a number, or a length that no packet may have: `protocol error: bad line length …`.
    BadLength([u8; 4]),
    /// The stream ended inside a packet.
    Truncated,
    /// The client sent `ERR text`.
    Remote(bstr::BString),
    /// Reading failed.
    Io(std::io::Error),
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FrameError::BadLength(digits) => match reader::length(*digits) {
                Some(length) => write!(f, "protocol error: bad line length {length}"),
                None => write!(f, "protocol error: bad line length character: {}", digits.escape_ascii()),
            },
            FrameError::Truncated => f.write_str("the remote end hung up unexpectedly"),
            FrameError::Remote(text) => write!(f, "remote error: {}", text.escape_ascii()),
            FrameError::Io(error) => write!(f, "cannot read the request: {error}"),
        }
    }
}

impl std::error::Error for FrameError {}

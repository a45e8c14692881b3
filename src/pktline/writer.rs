//! Writes packets, each with one `write_all`.
//!
//! In: payloads. Out: packets, in a sink or a buffer. A payload is never split over several packets.

use super::PAYLOAD_MAX;
use std::io::{self, Write};

/// Writes one packet with exactly this payload, at most [`super::PAYLOAD_MAX`] bytes.
///
/// # Errors
/// What the sink reports; `InvalidInput` for a payload that is too long.
pub fn line(out: &mut dyn Write, payload: &[u8]) -> io::Result<()> {
    let mut packet = Vec::with_capacity(4 + payload.len());
    packet.extend_from_slice(&[0; 4]);
    packet.extend_from_slice(payload);
    close(&mut packet)?;
    out.write_all(&packet)
}

/// Writes one packet of formatted text; the caller includes the newline where one belongs.
///
/// # Errors
/// As [`line()`].
pub fn text(out: &mut dyn Write, text: std::fmt::Arguments<'_>) -> io::Result<()> {
    let mut packet = Vec::with_capacity(128);
    packet.extend_from_slice(&[0; 4]);
    packet.write_fmt(text)?;
    close(&mut packet)?;
    out.write_all(&packet)
}

/// Adds one packet to a buffer; `fill` writes the payload in place. For long lists, which are sent in large writes.
///
/// # Errors
/// `InvalidInput` for a payload that is too long; the buffer is then unchanged.
pub fn append(buffer: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; 4]);
    fill(buffer);
    close(&mut buffer[start..]).inspect_err(|_| buffer.truncate(start))
}

/// Adds a short text to a buffer, in steps of fixed size. Long lists consist of many short texts, for which starting a
/// C library's memcpy takes longer than all these steps.
pub fn push(buffer: &mut Vec<u8>, text: &[u8]) {
    let Some(end) = text.last_chunk::<STEP>() else {
        return buffer.extend_from_slice(text);
    };
    let (steps, rest) = text.as_chunks::<STEP>();
    buffer.reserve(text.len() + STEP);
    for step in steps {
        buffer.extend_from_slice(step);
    }
    // The last step overlaps the one before it.
    buffer.truncate(buffer.len() + rest.len() - STEP);
    buffer.extend_from_slice(end);
}

/// The number of bytes that [`push`] copies at once.
const STEP: usize = 32;

/// Writes `0000`.
///
/// # Errors
/// What the sink reports.
pub fn flush(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(b"0000")
}

/// Writes `0001`.
///
/// # Errors
/// What the sink reports.
pub fn delim(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(b"0001")
}

/// Writes `ERR text`, cut to fit a packet.
///
/// # Errors
/// What the sink reports.
pub fn err(out: &mut dyn Write, message: &str) -> io::Result<()> {
    let most = message.len().min(PAYLOAD_MAX - "ERR ".len());
    // Offset 0 is always a character boundary, so one is found.
    let fits = (0..=most).rev().find(|&end| message.is_char_boundary(end)).unwrap_or_default();
    text(out, format_args!("ERR {}", &message[..fits]))
}

/// Writes the length of a packet into its first four bytes.
fn close(packet: &mut [u8]) -> io::Result<()> {
    if packet.len() > PAYLOAD_MAX + 4 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a packet is too long to be written"));
    }
    let length = packet.len();
    packet[..4].copy_from_slice(&digits(length));
    Ok(())
}

/// The length of a whole packet as four hexadecimal digits.
pub(super) fn digits(length: usize) -> [u8; 4] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    [12, 8, 4, 0].map(|shift| HEX[length >> shift & 15])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_have_their_length_in_lower_case() {
        let written = |payload: &[u8]| {
            let mut out = Vec::new();
            line(&mut out, payload).map(|()| out)
        };
        assert_eq!(written(b"").expect("short"), b"0004");
        assert_eq!(written(b"hello\n").expect("short"), b"000ahello\n");
        assert_eq!(&written(&[b'x'; PAYLOAD_MAX]).expect("it just fits")[..5], b"fff0x");
        assert_eq!(written(&[b'x'; PAYLOAD_MAX + 1]).expect_err("too long").kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_text_of_any_length_is_added_as_it_is() {
        let text: Vec<u8> = (0..200).collect();
        for length in 0..text.len() {
            let mut buffer = b"before".to_vec();
            push(&mut buffer, &text[..length]);
            assert_eq!(buffer, [b"before", &text[..length]].concat(), "{length}");
        }
    }

    #[test]
    fn packets_are_added_to_a_buffer_whole_or_not_at_all() {
        let mut buffer = b"0000".to_vec();
        append(&mut buffer, |packet| packet.extend_from_slice(b"hello\n")).expect("short");
        let long = append(&mut buffer, |packet| packet.resize(packet.len() + PAYLOAD_MAX + 1, b'x'));
        assert!(long.is_err());
        assert_eq!(buffer, b"0000000ahello\n");
    }

    #[test]
    fn an_error_line_is_cut_between_characters() {
        let mut out = Vec::new();
        err(&mut out, "upload-pack: not our ref 0").expect("memory can be written");
        assert_eq!(out, b"0022ERR upload-pack: not our ref 0");
        out.clear();
        err(&mut out, &"é".repeat(40_000)).expect("memory can be written");
        assert_eq!(out.len(), PAYLOAD_MAX + 4);
        assert!(std::str::from_utf8(&out).is_ok());
    }
}

//! Writes packets; each is one `write_all`.

use std::io::{self, Write};

/// One packet with exactly this payload, at most [`super::PAYLOAD_MAX`] bytes.
///
/// # Errors
/// What the sink reports; `InvalidInput` for a payload that is too long.
pub fn line(out: &mut dyn Write, payload: &[u8]) -> io::Result<()> {
    let _ = (out, payload);
    unimplemented!()
}

/// One packet of formatted text; the caller writes the newline where one belongs.
///
/// # Errors
/// As [`line`].
pub fn text(out: &mut dyn Write, text: std::fmt::Arguments<'_>) -> io::Result<()> {
    let _ = (out, text);
    unimplemented!()
}

/// `0000`
///
/// # Errors
/// What the sink reports.
pub fn flush(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(b"0000")
}

/// `0001`
///
/// # Errors
/// What the sink reports.
pub fn delim(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(b"0001")
}

/// `0002`
///
/// # Errors
/// What the sink reports.
pub fn response_end(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(b"0002")
}

/// `ERR text`, cut to what fits a packet.
///
/// # Errors
/// What the sink reports.
pub fn err(out: &mut dyn Write, message: &str) -> io::Result<()> {
    let _ = (out, message);
    unimplemented!()
}

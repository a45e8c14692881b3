//! Packets as they pass, in the lines of git's GIT_TRACE_PACKET.
//!
//! In: bytes in pieces of any size. Out: a line for each packet; a pack is one line. Bytes that are not a packet end
//! the trace, but never the request.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// The capability that names promisor remotes.
const ANNOUNCED: &[u8] = b"promisor-remote=";

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client.
    In,
    /// To the client.
    Out,
}

/// The packets of one direction, followed byte by byte.
pub struct Packets {
    who: &'static str,
    direction: Direction,
    /// The four length digits or the payload of a packet, as far as received.
    gathered: Vec<u8>,
    /// How long `gathered` will be.
    wanted: usize,
    /// Whether the payload is being gathered.
    payload: bool,
    /// Whether the pack has begun on band 1.
    in_pack: bool,
    /// Packets carried on band 1, as in a push's report.
    inner: Option<Box<Packets>>,
    /// Whether the trace has ended: a pack without side bands has begun, or something else that is not a packet.
    over: bool,
}

impl Packets {
    /// Starts at the beginning of a packet.
    pub fn new(who: &'static str, direction: Direction) -> Self {
        Packets {
            who,
            direction,
            gathered: Vec::new(),
            wanted: 4,
            payload: false,
            in_pack: false,
            inner: None,
            over: false,
        }
    }

    /// Processes the next bytes.
    pub fn feed(&mut self, mut bytes: &[u8], tell: &mut dyn FnMut(fmt::Arguments<'_>)) {
        while !self.over {
            let Some((now, later)) = bytes.split_at_checked(self.wanted - self.gathered.len()) else {
                self.gathered.extend_from_slice(bytes);
                return;
            };
            self.gathered.extend_from_slice(now);
            bytes = later;
            let whole = std::mem::take(&mut self.gathered);
            if self.payload {
                self.next(false, 4);
                self.packet(&whole, tell);
            } else {
                self.head(&whole, tell);
            }
        }
    }

    fn next(&mut self, payload: bool, wanted: usize) {
        (self.payload, self.wanted) = (payload, wanted);
    }

    fn head(&mut self, digits: &[u8], tell: &mut dyn FnMut(fmt::Arguments<'_>)) {
        if digits == b"PACK" {
            self.line(b"PACK ...", tell);
            self.over = true;
            return;
        }
        let hex = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'));
        match hex.and_then(|text| usize::from_str_radix(text, 16).ok()) {
            Some(0..=2) => {
                // A pack ends with a flush. A section does too, and another pack may follow it.
                self.in_pack = false;
                self.line(digits, tell);
            }
            Some(4) => self.line(b"", tell),
            Some(length @ 5..) => self.next(true, length - 4),
            Some(3) | None => self.over = true,
        }
    }

    fn packet(&mut self, payload: &[u8], tell: &mut dyn FnMut(fmt::Arguments<'_>)) {
        match payload.strip_prefix(b"\x01") {
            Some(_) if self.in_pack => {}
            Some(data) if data.starts_with(b"PACK") => {
                self.in_pack = true;
                self.line(b"PACK ...", tell);
            }
            Some(data) if self.direction == Direction::Out => {
                let inner = self.inner.get_or_insert_with(|| Box::new(Packets::new(self.who, self.direction)));
                inner.feed(data, tell);
            }
            _ => self.line(payload, tell),
        }
    }

    /// Reports one line. Newlines are left out, and bytes that are not printable are shown in octal.
    fn line(&self, payload: &[u8], tell: &mut dyn FnMut(fmt::Arguments<'_>)) {
        let mut text = String::with_capacity(payload.len());
        for &byte in without_tokens(payload).iter() {
            match byte {
                b'\n' => {}
                b' '..=b'~' => text.push(char::from(byte)),
                _ => {
                    let _ = write!(text, "\\{byte:o}");
                }
            }
        }
        let arrow = match self.direction {
            Direction::In => '<',
            Direction::Out => '>',
        };
        tell(format_args!("packet: {:>12}{arrow} {text}", self.who));
    }
}

/// Hides the tokens in an announcement of promisor remotes (`promisor.sendFields`), which traces must not show. Remotes
/// are separated by `;` and their fields by `,`; values contain neither.
fn without_tokens(payload: &[u8]) -> Cow<'_, [u8]> {
    const FIELD: &[u8] = b"token=";
    let Some(remotes) = payload.strip_prefix(ANNOUNCED) else { return Cow::Borrowed(payload) };
    let mut shown = ANNOUNCED.to_vec();
    for field in remotes.split_inclusive(|byte| matches!(byte, b',' | b';' | b'\n')) {
        match field.strip_prefix(FIELD) {
            Some(value) => {
                shown.extend_from_slice(FIELD);
                shown.extend_from_slice(b"<redacted>");
                shown.extend(value.last().filter(|byte| matches!(byte, b',' | b';' | b'\n')));
            }
            None => shown.extend_from_slice(field),
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(direction: Direction, bytes: &[u8]) -> Vec<String> {
        let mut all: Option<Vec<String>> = None;
        for step in [1, 3, 7, 1 << 20] {
            let mut packets = Packets::new("receive-pack", direction);
            let mut lines = Vec::new();
            for piece in bytes.chunks(step) {
                packets.feed(piece, &mut |line| lines.push(line.to_string()));
            }
            if let Some(before) = &all {
                assert_eq!(&lines, before, "{step} at a time");
            }
            all = Some(lines);
        }
        all.unwrap_or_default()
    }

    #[test]
    fn each_packet_is_a_line_and_a_pack_is_one() {
        let check = |direction, bytes: &[u8], expected: &[&str]| assert_eq!(told(direction, bytes), expected);
        check(
            Direction::In,
            b"000cold\x00cap\n00000001PACK\x00\x00\x00\x020000",
            &[
                "packet: receive-pack< old\\0cap",
                "packet: receive-pack< 0000",
                "packet: receive-pack< 0001",
                "packet: receive-pack< PACK ...",
            ],
        );
        check(
            Direction::Out,
            b"000d\x01PACK....000d\x01........0009\x02one\n0000",
            &["packet: receive-pack> PACK ...", "packet: receive-pack> \\2one", "packet: receive-pack> 0000"],
        );
    }

    #[test]
    fn a_report_on_a_band_is_told_line_by_line() {
        let report = b"000eunpack ok\n0012ok refs/heads\n0000";
        let (one, two) = report.split_at(20);
        let mut bytes = Vec::new();
        for part in [one, two] {
            bytes.extend_from_slice(format!("{:04x}\x01", part.len() + 5).as_bytes());
            bytes.extend_from_slice(part);
        }
        bytes.extend_from_slice(b"0000");
        let expected =
            ["unpack ok", "ok refs/heads", "0000", "0000"].map(|line| format!("packet: receive-pack> {line}"));
        assert_eq!(told(Direction::Out, &bytes), expected);
    }

    #[test]
    fn tokens_of_promisor_remotes_are_not_shown() {
        let check = |line: &str, expected: &str| {
            let bytes = format!("{:04x}{line}", line.len() + 4);
            assert_eq!(told(Direction::Out, bytes.as_bytes()), [format!("packet: receive-pack> {expected}")]);
        };
        check(
            "promisor-remote=name=a,url=https://h/token=1,token=s%2cecret,partialCloneFilter=blob:none;name=b,token=other\n",
            "promisor-remote=name=a,url=https://h/token=1,token=<redacted>,partialCloneFilter=blob:none;name=b,token=<redacted>",
        );
        check("promisor-remote=token=x;token=;name=c", "promisor-remote=token=<redacted>;token=<redacted>;name=c");
        check("agent=token=x", "agent=token=x");
    }

    #[test]
    fn what_is_no_packet_ends_the_watch() {
        assert_eq!(told(Direction::In, b"0004xyzw0000"), ["packet: receive-pack< "]);
        assert_eq!(told(Direction::In, b"00030000"), [""; 0]);
        assert_eq!(told(Direction::In, b"+0050000"), [""; 0]);
    }
}

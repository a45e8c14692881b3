//! The header block that a CGI program writes before its body.
//!
//! In: the first bytes of its output, in pieces of any size. Out: a status, headers, and where the body begins. Headers
//! about the connection itself (`Connection`, `Transfer-Encoding` …) are never passed on.

use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

/// The most bytes a header block may have.
pub(super) const HEAD_BYTES_MAX: usize = 32 << 10;

/// A parsed header block.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// From `Status:`, else 302 if there is a `Location` and 200 otherwise (RFC 3875, 6.2).
    pub status: StatusCode,
    /// Everything else, in order.
    pub headers: HeaderMap,
    /// The `Content-Length`, which is also in `headers`.
    pub length: Option<u64>,
}

/// Why a program's output is not an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHead {
    /// It has no end within [`HEAD_BYTES_MAX`].
    TooLong,
    /// A line is not a header, or the status or length is not a number.
    Malformed,
}

impl Head {
    /// Parses the block at the beginning of `bytes`, and returns it with the position of the body, or `None` if it is
    /// incomplete.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, BadHead> {
        let mut head = Head::default();
        let mut said_status = false;
        let mut at = 0;
        loop {
            let Some(end) = bytes[at..].iter().position(|byte| *byte == b'\n') else {
                return if bytes.len() < HEAD_BYTES_MAX { Ok(None) } else { Err(BadHead::TooLong) };
            };
            let line = bytes[at..at + end].strip_suffix(b"\r").unwrap_or(&bytes[at..at + end]);
            at += end + 1;
            if line.is_empty() {
                break;
            }
            let (name, value) = field(line)?;
            if name == "status" {
                head.status = status(&value)?;
                said_status = true;
            } else if name == header::CONTENT_LENGTH {
                head.length = Some(value.to_str().ok().and_then(|text| text.parse().ok()).ok_or(BadHead::Malformed)?);
                head.headers.insert(name, value);
            } else if !is_about_the_connection(&name) {
                head.headers.append(name, value);
            }
        }
        if !said_status && head.headers.contains_key(header::LOCATION) {
            head.status = StatusCode::FOUND;
        }
        if !said_status && head.headers.is_empty() {
            return Err(BadHead::Malformed);
        }
        Ok(Some((head, at)))
    }
}

fn field(line: &[u8]) -> Result<(HeaderName, HeaderValue), BadHead> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or(BadHead::Malformed)?;
    let name = HeaderName::from_bytes(&line[..colon]).map_err(|_| BadHead::Malformed)?;
    let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).map_err(|_| BadHead::Malformed)?;
    Ok((name, value))
}

/// Parses `404 Not Found`: only the number counts, the text is replaced by the standard one.
fn status(value: &HeaderValue) -> Result<StatusCode, BadHead> {
    let number = value.as_bytes().split(|byte| *byte == b' ').next().unwrap_or_default();
    let status = StatusCode::from_bytes(number).map_err(|_| BadHead::Malformed)?;
    // A 1xx status would be taken for an interim response.
    if status.is_informational() { Err(BadHead::Malformed) } else { Ok(status) }
}

/// Whether a header is up to the web server, which frames the body itself.
fn is_about_the_connection(name: &HeaderName) -> bool {
    [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TRAILER].contains(name)
        || name == "keep-alive"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The status, headers and body in one line, or what is wrong.
    fn shown(block: &[u8]) -> String {
        match Head::parse(block) {
            Ok(None) => "more".into(),
            Err(error) => format!("{error:?}"),
            Ok(Some((head, body))) => {
                let headers: Vec<_> =
                    head.headers.iter().map(|(n, v)| format!("{n}={}", v.to_str().unwrap())).collect();
                format!("{} [{}] {}", head.status.as_u16(), headers.join(" "), String::from_utf8_lossy(&block[body..]))
            }
        }
    }

    fn check(block: &str, expected: &str) {
        assert_eq!(shown(block.as_bytes()), expected, "{block:?}");
    }

    #[test]
    fn a_block_ends_at_the_first_empty_line() {
        check(
            "Status: 404 Not Found\r\nContent-Type: text/plain\r\n\r\nno\r\n\r\n",
            "404 [content-type=text/plain] no\r\n\r\n",
        );
        check("Content-Type: a\n\nbody", "200 [content-type=a] body");
        check("Content-Type:a\r\n\n", "200 [content-type=a] ");
        check("Content-Length: 5\r\n\r\n12345", "200 [content-length=5] 12345");
        check("Content-Length: -1\r\n\r\n", "Malformed");
        check("X: \r\n\r\n", "200 [x=] ");
    }

    #[test]
    fn wherever_the_block_is_cut_more_is_asked_for() {
        let block = b"Status: 200 OK\r\nX: 1\r\nX: 2\r\n\r\n";
        for cut in 0..block.len() {
            assert_eq!(shown(&block[..cut]), "more", "cut at {cut}");
        }
        assert_eq!(shown(block), "200 [x=1 x=2] ");
    }

    #[test]
    fn the_status_is_a_number_of_three_digits() {
        check("status: 507\r\n\r\n", "507 [] ");
        check("Status: 42 What\r\n\r\n", "Malformed");
        check("Status: \r\n\r\n", "Malformed");
        check("Status: 100 Continue\r\n\r\n", "Malformed");
        check("Status: 2000\r\n\r\n", "Malformed");
        check("Location: /x\r\n\r\n", "302 [location=/x] ");
        check("Status: 201 Created\r\nLocation: /x\r\n\r\n", "201 [location=/x] ");
    }

    #[test]
    fn what_is_no_header_is_no_answer() {
        check("\r\nbody", "Malformed");
        check("HTTP/1.1 200 OK\r\n\r\n", "Malformed");
        check("a b: c\r\n\r\n", "Malformed");
        check("X: a\0b\r\n\r\n", "Malformed");
    }

    #[test]
    fn the_connection_is_not_the_programs_business() {
        check("A: b\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nKeep-Alive: 1\r\n\r\n", "200 [a=b] ");
    }

    #[test]
    fn a_block_has_an_end_within_its_limit() {
        let mut block = b"A: ".to_vec();
        block.resize(HEAD_BYTES_MAX - 1, b'b');
        assert_eq!(shown(&block), "more");
        block.push(b'b');
        assert_eq!(shown(&block), "TooLong");
    }
}

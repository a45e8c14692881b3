//! URLs of submodules that git refuses to clone from.
//!
//! In: a URL from a `.gitmodules`. Out: whether git would take it for an option, for several lines, or for another host
//! than it seems to name. This is git's own check (submodule-config.c, `check_submodule_url`) with its normalization
//! (urlmatch.c, `url_normalize`): a stricter one would refuse what git's clients push.

use bstr::ByteSlice;

/// Bytes that delimit the parts of a URL, and stay escaped if they are.
const RESERVED: &[u8] = b":/?#[]@!$&'()*+,;=";
/// Bytes that are always escaped, besides control characters and everything that is not ASCII.
const UNSAFE: &[u8] = b" <>\"%{}|\\^`";

/// Whether git refuses to pass such a URL to its transports.
pub(super) fn harms(url: &[u8]) -> bool {
    if url.starts_with(b"-") {
        return true;
    }
    let (up, rest) = without_dots(url);
    if rest.len() < url.len() || url.starts_with(b"git://") {
        return decoded(url).contains(&b'\n') || (up && matches!(rest.first(), Some(b':' | b'/')));
    }
    for_http(url).is_some_and(|url| normalized(url).is_none_or(|url| decoded(&url).contains(&b'\n')))
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b'/' | b'\\')
}

/// Strips all leading `./` and `../`; returns whether one of them leads up, and the rest.
fn without_dots(url: &[u8]) -> (bool, &[u8]) {
    let (mut up, mut rest) = (false, url);
    loop {
        match rest {
            [b'.', b'.', separator, after @ ..] if is_separator(*separator) => (up, rest) = (true, after),
            [b'.', separator, after @ ..] if is_separator(*separator) => rest = after,
            _ => return (up, rest),
        }
    }
}

/// The URL that git would pass to its helper for HTTP and FTP, if it would use that one.
fn for_http(url: &[u8]) -> Option<&[u8]> {
    let schemes: [&[u8]; 4] = [b"http", b"https", b"ftp", b"ftps"];
    schemes.iter().find_map(|scheme| {
        let rest = url.strip_prefix(*scheme)?;
        rest.strip_prefix(b"::").or_else(|| rest.starts_with(b"://").then_some(url))
    })
}

/// The URL as git decodes it: the part before the first colon and an escaped NUL stay as they are.
fn decoded(url: &[u8]) -> Vec<u8> {
    let scheme = url.find_byte(b':').unwrap_or(0);
    let mut decoded = url[..scheme].to_vec();
    let mut rest = &url[scheme..];
    while let Some((byte, after)) = rest.split_first() {
        let escaped = if *byte == b'%' { escaped(after).filter(|(value, _)| *value != 0) } else { None };
        let (value, after) = escaped.unwrap_or((*byte, after));
        decoded.push(value);
        rest = after;
    }
    decoded
}

/// Decodes the two digits after a percent sign; returns the byte and the text after them.
fn escaped(digits: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, rest) = digits.split_first_chunk::<2>()?;
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let value = digit(digits[0])? << 4 | digit(digits[1])?;
    Some((u8::try_from(value).ok()?, rest))
}

/// The URL in git's normal form; `None` if it lacks a scheme or a host, or if its host, port, path or an escape in it
/// is invalid.
fn normalized(url: &[u8]) -> Option<Vec<u8>> {
    let is_of_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || b"+.-".contains(byte);
    let scheme = url.iter().take_while(|byte| is_of_scheme(byte)).count();
    let mut rest = url[scheme..].strip_prefix(b"://").filter(|_| url.first().is_some_and(u8::is_ascii_alphabetic))?;
    let mut normal = url[..scheme].to_ascii_lowercase();
    let is_file = normal == b"file";
    normal.extend(b"://");

    let authority = &rest[..rest.find_byteset(b"/?#").unwrap_or(rest.len())];
    let host_and_port = match authority.split_once_str("@") {
        Some((user, host)) => {
            append(&mut normal, user)?;
            normal.push(b'@');
            host
        }
        None => authority,
    };
    rest = &rest[authority.len()..];
    let has_host = !matches!(host_and_port.first(), None | Some(b':'));
    if !has_host && !is_file {
        return None;
    }
    let (host, port) = match host_and_port.rfind_byteset(b":]") {
        Some(at) if host_and_port[at] == b':' => (&host_and_port[..at], &host_and_port[at + 1..]),
        _ => (host_and_port, &b""[..]),
    };
    let is_of_host = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_[:]".contains(byte);
    if !host.iter().all(is_of_host) || !is_port(port) || (!has_host && !port.is_empty()) {
        return None;
    }
    normal.extend(host_and_port.to_ascii_lowercase());

    let path = &rest[..rest.find_byteset(b"?#").unwrap_or(rest.len())];
    append_path(&mut normal, path.strip_prefix(b"/").unwrap_or(path))?;
    append(&mut normal, &rest[path.len()..])?;
    Some(normal)
}

/// Whether a port is valid: empty, or digits whose value is not 0, which would mean «any free port».
fn is_port(port: &[u8]) -> bool {
    let digits = port.trim_start_with(|digit| digit == '0');
    let number = digits.to_str().ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
    port.is_empty() || number.is_some_and(|number| number.parse::<u16>().is_ok())
}

/// Appends a path, given without its leading slash, with `.` and `..` resolved; `None` if it leads above the root.
fn append_path(normal: &mut Vec<u8>, path: &[u8]) -> Option<()> {
    let start = normal.len();
    normal.push(b'/');
    let mut segments = path.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let begin = normal.len();
        append(normal, segment)?;
        match &normal[begin..] {
            b"." => normal.truncate(begin - 1),
            b".." if begin - 1 == start => return None,
            b".." => {
                let parent = normal[..begin - 1].rfind_byte(b'/').unwrap_or(start);
                normal.truncate(parent);
            }
            _ => {}
        }
        // The slash before a removed segment stays.
        if segments.peek().is_some() || normal.len() == start {
            normal.push(b'/');
        }
    }
    Some(())
}

/// Appends a part, escaping exactly what must be escaped; `None` if an escape in it is invalid.
fn append(normal: &mut Vec<u8>, part: &[u8]) -> Option<()> {
    let mut rest = part;
    while let Some((&byte, after)) = rest.split_first() {
        let was_escaped = byte == b'%';
        let (byte, after) = if was_escaped { escaped(after)? } else { (byte, after) };
        rest = after;
        let is_plain = matches!(byte, b' '..0x7f) && !UNSAFE.contains(&byte);
        if is_plain && !(was_escaped && RESERVED.contains(&byte)) {
            normal.push(byte);
        } else {
            normal.extend(format!("%{byte:02X}").bytes());
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gets_gits_own_form() {
        let check = |url: &str, expected: Option<&str>| {
            let found = normalized(url.as_bytes()).map(|found| String::from_utf8(found).unwrap());
            assert_eq!(found.as_deref(), expected, "{url}");
        };
        check("HTTP://Host", Some("http://host/"));
        check("http://u%41%3a@host/%7e%00%2F%0a", Some("http://uA%3A@host/~%00%2F%0A"));
        check("http://h/a/./b/../c", Some("http://h/a/c"));
        check("http://h/./a", Some("http://h/a"));
        check("http://h/a/..", Some("http://h/"));
        check("http://h/a/../b", Some("http://h/b"));
        check("http://h/a/b/..", Some("http://h/a"));
        check("http://h/a/b/.", Some("http://h/a/b"));
        check("http://h/%2e%2e/a", None);
        check("http://h/a/../..", None);
        check("http://h?x%0a#y", Some("http://h/?x%0A#y"));
        check("file:///a", Some("file:///a"));
        check("http://h/%", None);
    }
}

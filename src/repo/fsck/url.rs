//! URLs of submodules that git refuses to clone from.
//!
//! In: a URL as a `.gitmodules` has it. Out: whether git takes it for an option, for several lines, or for another host than it seems to
//! name. This is git's own check (submodule-config.c, `check_submodule_url`), with what it makes of a URL (urlmatch.c, `url_normalize`): one
//! that is stricter would refuse what git's clients push.

use bstr::ByteSlice;

/// What delimits the parts of a URL, and stays escaped where it is.
const RESERVED: &[u8] = b":/?#[]@!$&'()*+,;=";
/// What is always escaped, beside control characters and all that is not ASCII.
const UNSAFE: &[u8] = b" <>\"%{}|\\^`";

/// Whether git would not hand such a URL to its transports.
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

/// What stands behind all `./` and `../` in front, and whether one of these leads up.
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

/// The URL that git's program for HTTP and FTP is given, if it is that one's.
fn for_http(url: &[u8]) -> Option<&[u8]> {
    let schemes: [&[u8]; 4] = [b"http", b"https", b"ftp", b"ftps"];
    schemes.iter().find_map(|scheme| {
        let rest = url.strip_prefix(*scheme)?;
        rest.strip_prefix(b"::").or_else(|| rest.starts_with(b"://").then_some(url))
    })
}

/// As git decodes it: what stands before the first colon is left as it is, and so is the escape of a NUL.
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

/// The byte that two digits behind a percent sign stand for, and what comes behind them.
fn escaped(digits: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, rest) = digits.split_first_chunk::<2>()?;
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let value = digit(digits[0])? << 4 | digit(digits[1])?;
    Some((u8::try_from(value).ok()?, rest))
}

/// The URL in git's own form; `None` where that is none: without a scheme or a host, with a host, a port, an escape or a path that cannot
/// be.
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

/// Digits alone, and not of 0, which means «any that is free»; or nothing.
fn is_port(port: &[u8]) -> bool {
    let digits = port.trim_start_with(|digit| digit == '0');
    let number = digits.to_str().ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
    port.is_empty() || number.is_some_and(|number| number.parse::<u16>().is_ok())
}

/// Appends a path behind the slash that begins it, `.` and `..` resolved; `None` where that leads out.
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
        // The slash in front stays, whatever has gone behind it.
        if segments.peek().is_some() || normal.len() == start {
            normal.push(b'/');
        }
    }
    Some(())
}

/// Appends a part with what must be escaped escaped, and nothing else; `None` where an escape is none.
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

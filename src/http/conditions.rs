//! Conditions and ranges of a GET (RFC 9110, 13 and 14).
//!
//! In: header lines as they came, and the current state of a file. Out: whether it is sent whole, in part, or not at
//! all. A header that cannot be parsed is ignored, never refused; a request for several ranges gets the whole file, as
//! the RFC permits.

use crate::calendar;
use bstr::{BStr, BString, ByteSlice};
use std::ops::Range;

/// The header lines that ask for less than the whole file.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    /// `If-None-Match`.
    pub none_match: Option<BString>,
    /// `If-Modified-Since`.
    pub modified_since: Option<BString>,
    /// `Range`.
    pub range: Option<BString>,
    /// `If-Range`.
    pub if_range: Option<BString>,
}

/// The current state of a file.
#[derive(Debug, Clone, Copy)]
pub struct Validators<'a> {
    /// Its entity tag, with the quotes; equal only for equal bytes.
    pub tag: &'a str,
    /// When it last changed, in unix seconds; `None` if it is generated for each request.
    pub modified: Option<u64>,
    /// Its size in bytes.
    pub size: u64,
}

/// Which part of the file is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Share {
    /// All of it.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Nothing: the client already has it.
    NotModified,
    /// Nothing: the file does not have such bytes.
    Unsatisfiable,
}

impl Conditions {
    /// Decides what to send of a file, in the order of RFC 9110, 13.2.2.
    pub fn share(&self, file: &Validators<'_>) -> Share {
        let has_it = match (&self.none_match, &self.modified_since) {
            (Some(tags), _) => tags.trim_ascii() == b"*" || tags.split_str(",").any(|tag| is_same(tag, file.tag)),
            (None, Some(date)) => {
                file.modified.zip(seconds(date.as_bstr())).is_some_and(|(modified, since)| modified <= since)
            }
            (None, None) => false,
        };
        if has_it {
            return Share::NotModified;
        }
        let Some(range) = &self.range else { return Share::Whole };
        let still_the_same = self.if_range.as_ref().is_none_or(|said| {
            let said = said.trim_ascii();
            said == file.tag.as_bytes() || file.modified.is_some_and(|at| seconds(said.as_bstr()) == Some(at))
        });
        if still_the_same { part(range.as_bstr(), file.size) } else { Share::Whole }
    }
}

/// Compares tags weakly: `W/` is ignored, which suffices as only whole files are compared.
fn is_same(said: &[u8], tag: &str) -> bool {
    let said = said.trim_ascii();
    said.strip_prefix(b"W/").unwrap_or(said) == tag.as_bytes()
}

/// Parses `bytes=FIRST-LAST`, `bytes=FIRST-` or `bytes=-LENGTH`.
fn part(range: &BStr, size: u64) -> Share {
    let number = |digits: &[u8]| -> Option<u64> {
        let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        // A number too large for u64 is also larger than any file.
        plain.then(|| digits.to_str().ok()).flatten().map(|digits| digits.parse().unwrap_or(u64::MAX))
    };
    let Some((unit, range)) = range.split_once_str("=") else { return Share::Whole };
    let Some((first, last)) = range.trim_ascii().split_once_str("-") else { return Share::Whole };
    if !unit.trim_ascii().eq_ignore_ascii_case(b"bytes") {
        return Share::Whole;
    }
    let part = match (number(first), last.is_empty(), number(last)) {
        (Some(first), true, _) => first..size,
        (Some(first), false, Some(last)) if first <= last => first..last.saturating_add(1).min(size),
        (None, false, Some(length)) if first.is_empty() => size.saturating_sub(length)..size,
        _ => return Share::Whole,
    };
    if part.is_empty() { Share::Unsatisfiable } else { Share::Part(part) }
}

/// Parses an HTTP date in any of its three forms (RFC 9110, 5.6.7) into unix seconds.
fn seconds(date: &BStr) -> Option<u64> {
    const MONTHS: [&[u8]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    let words: Vec<&[u8]> =
        date.split(|byte| matches!(byte, b' ' | b',' | b'-')).filter(|word| !word.is_empty()).collect();
    let (day, month, year, time) = match words.as_slice() {
        [_, day, month, year, time, b"GMT"] => (day, month, year, time),
        [_, month, day, time, year] => (day, month, year, time),
        _ => return None,
    };
    let number = |digits: &[u8]| digits.to_str().ok()?.parse::<u64>().ok();
    let month = 1 + MONTHS.iter().position(|name| name == month)? as u64;
    let year = match (year.len(), number(year)?) {
        (2, year @ 70..) => 1900 + year,
        (2, year) => 2000 + year,
        (4, year @ 1970..) => year,
        _ => return None,
    };
    let mut clock = time.split(|byte| *byte == b':').map(number);
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let day = number(day).filter(|day| (1..=31).contains(day))?;
    (clock.next().is_none() && hour < 24 && minute < 60 && second <= 60)
        .then(|| calendar::days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::response::http_date;

    const CHANGED: u64 = 784_111_777;

    fn check(said: &[(&str, &str)], expected: Share) {
        let value = |name: &str| said.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
        let conditions = Conditions {
            none_match: value("If-None-Match"),
            modified_since: value("If-Modified-Since"),
            range: value("Range"),
            if_range: value("If-Range"),
        };
        let file = Validators { tag: "\"a-b\"", modified: Some(CHANGED), size: 1000 };
        assert_eq!(conditions.share(&file), expected, "{said:?}");
    }

    #[test]
    fn who_has_it_gets_nothing() {
        check(&[], Share::Whole);
        for same in ["\"a-b\"", "W/\"a-b\"", "\"x\", \"a-b\" ", "*"] {
            check(&[("If-None-Match", same)], Share::NotModified);
        }
        for other in ["\"x\"", "a-b", "", "\"a-b"] {
            check(&[("If-None-Match", other)], Share::Whole);
        }
        for (seconds, expected) in
            [(CHANGED - 1, Share::Whole), (CHANGED, Share::NotModified), (CHANGED + 1, Share::NotModified)]
        {
            check(&[("If-Modified-Since", &http_date(seconds))], expected);
        }
        // The tag takes precedence over the date.
        check(&[("If-None-Match", "\"x\""), ("If-Modified-Since", &http_date(CHANGED))], Share::Whole);
        check(&[("If-None-Match", "\"a-b\""), ("Range", "bytes=5-")], Share::NotModified);
    }

    #[test]
    fn a_range_is_cut_to_what_is_there() {
        check(&[("Range", "bytes=0-0")], Share::Part(0..1));
        check(&[("Range", "bytes=5-")], Share::Part(5..1000));
        check(&[("Range", "Bytes = 5-2000")], Share::Part(5..1000));
        check(&[("Range", "bytes=-10")], Share::Part(990..1000));
        check(&[("Range", "bytes=-5000")], Share::Part(0..1000));
        check(&[("Range", "bytes=999-99999999999999999999999")], Share::Part(999..1000));
        for beyond in ["bytes=1000-", "bytes=99999999999999999999999-", "bytes=-0"] {
            check(&[("Range", beyond)], Share::Unsatisfiable);
        }
        for unknown in ["bytes=1-2,5-6", "bytes=5-4", "bytes=-", "bytes=a-b", "lines=1-2", "bytes", "bytes=+1-2", ""] {
            check(&[("Range", unknown)], Share::Whole);
        }
    }

    #[test]
    fn a_range_of_something_else_is_not_given() {
        let range = ("Range", "bytes=5-");
        check(&[range, ("If-Range", "\"a-b\"")], Share::Part(5..1000));
        check(&[range, ("If-Range", &http_date(CHANGED))], Share::Part(5..1000));
        for other in ["\"x\"", "W/\"a-b\"", &http_date(CHANGED + 1), &http_date(CHANGED - 1), "yesterday"] {
            check(&[range, ("If-Range", other)], Share::Whole);
        }
    }

    #[test]
    fn dates_come_in_three_forms() {
        let check = |date: &str, expected: Option<u64>| assert_eq!(seconds(date.into()), expected, "{date}");
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(CHANGED));
        check("Sunday, 06-Nov-94 08:49:37 GMT", Some(CHANGED));
        check("Sun Nov  6 08:49:37 1994", Some(CHANGED));
        for days in [0, 59, 60, 365, 10_957, 11_016, 19_782, 47_540] {
            check(&http_date(days * 86_400 + 86_399), Some(days * 86_400 + 86_399));
        }
        for bad in [
            "",
            "now",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 0 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1894 08:49:37 GMT",
            "Sun, 06 Nov 99999999999 08:49:37 GMT",
        ] {
            check(bad, None);
        }
    }
}

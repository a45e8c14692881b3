//! Object filters: what a partial clone leaves out on purpose (git-rev-list, `--filter`).
//!
//! In: the text after `filter `. Out: a [`FilterSpec`]. The objects that a filter names are never looked up here.

use super::{Limits, ProtocolError, shown};
use crate::number;
use bstr::BString;
use gix_object::Kind;

/// How deeply `combine:` may be nested. git has no limit; no real filter needs even one level.
const NESTED_MAX: u32 = 16;

/// Bytes that must be %-encoded in a part of `combine:`, besides spaces, control characters and non-ASCII bytes.
const RESERVED: &[u8] = b"~`!@#$^&*()[]{}\\;'\",<>?";

/// One filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterSpec {
    /// `blob:none`.
    BlobNone,
    /// `blob:limit=<n>[kmg]`: no blobs of n bytes or more.
    BlobLimit(u64),
    /// `tree:<depth>`: no trees and blobs that are this deep or deeper, counted from a commit's root tree.
    Tree(u64),
    /// `object:type=<type>`: only objects of this type, and those that the client asks for by name.
    ObjectType(Kind),
    /// `sparse:oid=<expression>`: only blobs whose paths match the patterns in the blob that the expression names.
    SparseOid(BString),
    /// `combine:<filter>+<filter>…`: only objects that pass all of these.
    Combine(Vec<FilterSpec>),
}

impl FilterSpec {
    /// Parses a filter.
    ///
    /// # Errors
    /// In git's words, for an unknown or malformed filter; also for more parts than the limit.
    pub fn parse(text: &[u8], limits: &Limits) -> Result<Self, ProtocolError> {
        Parser { parts: 0, most: limits.filter_parts }.filter(text, 0)
    }

    /// The filter's name in `uploadpackfilter.<name>.allow` and in refusals.
    pub fn name(&self) -> &'static str {
        match self {
            FilterSpec::BlobNone => "blob:none",
            FilterSpec::BlobLimit(_) => "blob:limit",
            FilterSpec::Tree(_) => "tree",
            FilterSpec::ObjectType(_) => "object:type",
            FilterSpec::SparseOid(_) => "sparse:oid",
            FilterSpec::Combine(_) => "combine",
        }
    }
}

impl FilterSpec {
    /// The filter as text with numbers written out; [`FilterSpec::parse`] reads it back as the same filter.
    pub fn text(&self) -> BString {
        match self {
            FilterSpec::BlobNone => "blob:none".into(),
            FilterSpec::BlobLimit(size) => format!("blob:limit={size}").into(),
            FilterSpec::Tree(depth) => format!("tree:{depth}").into(),
            FilterSpec::ObjectType(kind) => format!("object:type={kind}").into(),
            FilterSpec::SparseOid(expression) => [b"sparse:oid=", expression.as_slice()].concat().into(),
            FilterSpec::Combine(parts) => {
                // An empty combination still needs a separator to be parsed.
                if parts.is_empty() {
                    return "combine:+".into();
                }
                let parts: Vec<_> = parts.iter().map(|part| encoded(&part.text())).collect();
                [b"combine:".as_slice(), &parts.join(&b'+')].concat().into()
            }
        }
    }
}

/// Escapes the bytes of a part that have a meaning in a combination.
fn encoded(text: &[u8]) -> Vec<u8> {
    let plain = |byte: u8| byte > b' ' && byte.is_ascii() && !RESERVED.contains(&byte) && byte != b'%' && byte != b'+';
    let mut encoded = Vec::with_capacity(text.len());
    for &byte in text {
        match plain(byte) {
            true => encoded.push(byte),
            false => encoded.extend_from_slice(format!("%{byte:02x}").as_bytes()),
        }
    }
    encoded
}

struct Parser {
    parts: u64,
    most: u64,
}

impl Parser {
    fn filter(&mut self, text: &[u8], nested: u32) -> Result<FilterSpec, ProtocolError> {
        if self.parts == self.most {
            return Err(ProtocolError::Limit { what: "filter_parts", most: self.most });
        }
        self.parts += 1;
        if text == b"blob:none" {
            return Ok(FilterSpec::BlobNone);
        }
        if text == b"auto" {
            return said("'auto' filter not supported by this command".to_owned());
        }
        if let Some(size) = text.strip_prefix(b"blob:limit=").and_then(number::with_unit) {
            return Ok(FilterSpec::BlobLimit(size));
        }
        if let Some(depth) = text.strip_prefix(b"tree:") {
            let depth =
                number::with_unit(depth).ok_or_else(|| ProtocolError::Said("expected 'tree:<depth>'".to_owned()))?;
            return Ok(FilterSpec::Tree(depth));
        }
        if let Some(expression) = text.strip_prefix(b"sparse:oid=") {
            return Ok(FilterSpec::SparseOid(expression.into()));
        }
        if text.starts_with(b"sparse:path=") {
            return said("sparse:path filters support has been dropped".to_owned());
        }
        if let Some(kind) = text.strip_prefix(b"object:type=") {
            return match Kind::from_bytes(kind) {
                Ok(kind) => Ok(FilterSpec::ObjectType(kind)),
                Err(_) => said(format!("'{}' for 'object:type=<type>' is not a valid object type", shown(kind))),
            };
        }
        if let Some(parts) = text.strip_prefix(b"combine:") {
            return self.combine(parts, nested);
        }
        said(format!("invalid filter-spec '{}'", shown(text)))
    }

    /// Parses the parts of a combination; empty parts are skipped, as in git.
    fn combine(&mut self, text: &[u8], nested: u32) -> Result<FilterSpec, ProtocolError> {
        if text.is_empty() {
            return said("expected something after combine:".to_owned());
        }
        if nested == NESTED_MAX {
            return Err(ProtocolError::Limit { what: "filters in each other", most: NESTED_MAX.into() });
        }
        let mut parts = Vec::new();
        for part in text.split(|byte| *byte == b'+').filter(|part| !part.is_empty()) {
            let bare = |byte: &&u8| **byte <= b' ' || !byte.is_ascii() || RESERVED.contains(byte);
            if let Some(byte) = part.iter().find(bare) {
                return said(format!("must escape char in sub-filter-spec: '{}'", shown(&[*byte])));
            }
            parts.push(self.filter(&decoded(part), nested + 1)?);
        }
        Ok(FilterSpec::Combine(parts))
    }
}

fn said(text: String) -> Result<FilterSpec, ProtocolError> {
    Err(ProtocolError::Said(text))
}

/// Decodes `%41` to `A`; malformed escapes and `%00` stay as they are.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        let digit = |at: usize| behind.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) if (high, low) != (0, 0) => {
                decoded.push((high << 4 | low) as u8);
                rest = &behind[2..];
            }
            _ => {
                decoded.push(*first);
                rest = behind;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, limits: &Limits) -> String {
        match FilterSpec::parse(text.as_bytes(), limits) {
            Ok(spec) => format!("{spec:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_filters_there_are() {
        let check = |text: &str, expected: &str| assert_eq!(told(text, &Limits::default()), expected, "{text}");
        check("blob:none", "BlobNone");
        check("blob:limit=0", "BlobLimit(0)");
        check("blob:limit=10k", "BlobLimit(10240)");
        check("blob:limit=1M", "BlobLimit(1048576)");
        check("blob:limit= +0x10g", "BlobLimit(17179869184)");
        check("blob:limit=010", "BlobLimit(8)");
        check("tree:0", "Tree(0)");
        check("tree:18446744073709551615", "Tree(18446744073709551615)");
        for (word, kind) in [("commit", "Commit"), ("tree", "Tree"), ("blob", "Blob"), ("tag", "Tag")] {
            check(&format!("object:type={word}"), &format!("ObjectType({kind})"));
        }
        check("sparse:oid=main:a b", "SparseOid(\"main:a b\")");
        check("sparse:oid=", "SparseOid(\"\")");
    }

    #[test]
    fn what_is_no_filter_is_refused_in_gits_words() {
        let check = |text: &str, expected: &str| assert_eq!(told(text, &Limits::default()), expected, "{text}");
        for text in [
            "",
            "blob",
            "blob:none ",
            "blob:limit",
            "blob:limit=",
            "blob:limit=-1",
            "blob:limit=1t",
            "blob:limit=1 k",
            "blob:limit=08",
            "blob:limit=0x",
            "blob:limit=18446744073709551616",
            "blob:limit=18446744073709551615k",
            "sparse:x",
            "combine",
        ] {
            check(text, &format!("invalid filter-spec '{text}'"));
        }
        check("tree:", "expected 'tree:<depth>'");
        check("tree:-1", "expected 'tree:<depth>'");
        check("sparse:path=x", "sparse:path filters support has been dropped");
        check("object:type=", "'' for 'object:type=<type>' is not a valid object type");
        check("object:type=blobs", "'blobs' for 'object:type=<type>' is not a valid object type");
        check("auto", "'auto' filter not supported by this command");
    }

    #[test]
    fn parts_of_a_combination_are_percent_encoded() {
        let check = |text: &str, expected: &str| assert_eq!(told(text, &Limits::default()), expected, "{text}");
        check("combine:blob:none", "Combine([BlobNone])");
        check("combine:blob:none+tree:3", "Combine([BlobNone, Tree(3)])");
        check("combine:++tree:1+", "Combine([Tree(1)])");
        check("combine:+", "Combine([])");
        check("combine:%62lob:none+sparse:oid=a%2bb%20%", "Combine([BlobNone, SparseOid(\"a+b %\")])");
        check("combine:sparse:oid=%00%4g%2", "Combine([SparseOid(\"%00%4g%2\")])");
        check("combine:combine:tree:1%2bblob:none+tree:2", "Combine([Combine([Tree(1), BlobNone]), Tree(2)])");
        check("combine:", "expected something after combine:");
        check("combine:sparse:oid=a b", "must escape char in sub-filter-spec: ' '");
        check("combine:sparse:oid=a~1", "must escape char in sub-filter-spec: '~'");
        check("combine:sparse:oid=\u{e4}", "must escape char in sub-filter-spec: '\u{fffd}'");
        check("combine:tree:1+x", "invalid filter-spec 'x'");
    }

    #[test]
    fn as_text_a_filter_is_what_was_read() {
        for (text, expected) in [
            ("blob:none", "blob:none"),
            ("blob:limit=1k", "blob:limit=1024"),
            ("tree:0x10", "tree:16"),
            ("object:type=tag", "object:type=tag"),
            ("sparse:oid=main:a b%", "sparse:oid=main:a b%"),
            ("combine:++", "combine:+"),
            ("combine:tree:1+sparse:oid=a%2bb%20%C3%A4%7e", "combine:tree:1+sparse:oid=a%2bb%20%c3%a4%7e"),
            ("combine:combine:tree:1%2bblob:none+tree:2", "combine:combine:tree:1%2bblob:none+tree:2"),
        ] {
            let limits = Limits::default();
            let filter = FilterSpec::parse(text.as_bytes(), &limits).expect(text);
            assert_eq!(filter.text(), expected);
            assert_eq!(FilterSpec::parse(&filter.text(), &limits).ok(), Some(filter), "{text}");
        }
    }

    #[test]
    fn parts_and_their_nesting_are_limited() {
        let limits = Limits { filter_parts: 3, ..Limits::default() };
        assert_eq!(told("combine:tree:1+tree:2", &limits), "Combine([Tree(1), Tree(2)])");
        assert_eq!(told("combine:tree:1+tree:2+tree:3", &limits), "the request is over the limit: filter_parts is 3");
        let nested = |depth: usize| format!("{}tree:1", "combine:".repeat(depth));
        assert!(told(&nested(16), &Limits::default()).contains("Combine([Tree(1)])"));
        assert_eq!(told(&nested(17), &Limits::default()), "the request is over the limit: filters in each other is 16");
    }
}

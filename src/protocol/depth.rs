//! The shallow part of a request to upload-pack: where the client's history is cut, and how deep it should be
//! (gitprotocol-pack, Packfile Negotiation; gitprotocol-v2, fetch).
//!
//! In: lines. Out: a [`Depth`] and the client's boundary. No object and no ref is looked up here.

use super::{Limits, ProtocolError, shown};
use crate::number;
use bstr::{BStr, BString, ByteSlice};
use gix_hash::ObjectId;
use std::collections::HashSet;
use std::num::NonZeroU32;

/// The depth that means all of history (git's INFINITE_DEPTH).
pub const ENDLESS: u32 = 0x7fff_ffff;

/// How deep the client's history should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Depth {
    /// As deep as it is.
    #[default]
    Unchanged,
    /// This many commits.
    Commits {
        /// The number of commits.
        count: NonZeroU32,
        /// Whether they are counted from the client's current boundary instead of from the tips.
        relative: bool,
    },
    /// All of history.
    Endless,
    /// Commits selected by age and by refs that exclude them.
    Revisions {
        /// The oldest committer date, in unix seconds; `None` for any age.
        since: Option<u64>,
        /// Short names of refs, each once; everything reachable from them is excluded.
        not: Vec<BString>,
    },
}

/// What the lines read so far ask for.
#[derive(Debug, Default)]
pub(super) struct Deepening {
    shallow: Vec<ObjectId>,
    count: Option<u32>,
    relative: bool,
    revisions: bool,
    since: Option<u64>,
    not: Vec<BString>,
    known: (HashSet<ObjectId>, HashSet<BString>),
}

impl Deepening {
    /// Takes a line; returns whether it is one of the shallow part.
    pub(super) fn take(&mut self, line: &[u8], hash: gix_hash::Kind, limits: &Limits) -> Result<bool, ProtocolError> {
        let said = |text: &str| Err(ProtocolError::Said(format!("{text}: {}", shown(line))));
        if let Some(hex) = line.strip_prefix(b"shallow ") {
            match super::upload::id(hash, hex) {
                None => return said("invalid shallow line"),
                Some(id) => self.cut(id, limits)?,
            }
        } else if let Some(number) = line.strip_prefix(b"deepen ") {
            match c_number(number).and_then(|count| u32::try_from(count).ok()) {
                Some(count @ 1..=ENDLESS) => self.count = Some(count),
                Some(_) | None => return said("Invalid deepen"),
            }
        } else if let Some(number) = line.strip_prefix(b"deepen-since ") {
            match c_number(number) {
                Some(u64::MAX) | None => return said("Invalid deepen-since"),
                since => self.since = since,
            }
            self.revisions = true;
        } else if let Some(name) = line.strip_prefix(b"deepen-not ") {
            self.leave_out(name.as_bstr(), limits)?;
            self.revisions = true;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Counts the depth from the client's boundary.
    pub(super) fn relative(&mut self) {
        self.relative = true;
    }

    fn cut(&mut self, id: ObjectId, limits: &Limits) -> Result<(), ProtocolError> {
        if self.known.0.insert(id) {
            if self.shallow.len() as u64 == limits.shallows {
                return Err(ProtocolError::Limit { what: "shallows", most: limits.shallows });
            }
            self.shallow.push(id);
        }
        Ok(())
    }

    fn leave_out(&mut self, name: &BStr, limits: &Limits) -> Result<(), ProtocolError> {
        if self.known.1.insert(name.to_owned()) {
            if self.not.len() as u64 == limits.deepen_nots {
                return Err(ProtocolError::Limit { what: "deepen_nots", most: limits.deepen_nots });
            }
            self.not.push(name.to_owned());
        }
        Ok(())
    }

    /// Returns the depth, and where the client's history is cut.
    pub(super) fn end(self) -> Result<(Depth, Vec<ObjectId>), ProtocolError> {
        let depth = match (self.count, self.revisions) {
            (Some(_), true) => {
                let text = "git upload-pack: deepen and deepen-since (or deepen-not) cannot be used together";
                return Err(ProtocolError::Said(text.to_owned()));
            }
            (None, true) => Depth::Revisions { since: self.since, not: self.not },
            (Some(ENDLESS), false) => Depth::Endless,
            (count, false) => match count.and_then(NonZeroU32::new) {
                Some(count) => Depth::Commits { count, relative: self.relative },
                None => Depth::Unchanged,
            },
        };
        Ok((depth, self.shallow))
    }
}

/// Parses a number as C does, with nothing after it; an empty text is 0. `None` if it is malformed, negative or too
/// large.
fn c_number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return Some(0);
    }
    number::whole(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA1: gix_hash::Kind = gix_hash::Kind::Sha1;

    fn said(lines: &str, limits: &Limits) -> String {
        let mut deepening = Deepening::default();
        for line in lines.split('|') {
            match deepening.take(line.as_bytes(), SHA1, limits) {
                Ok(true) => {}
                Ok(false) if line == "deepen-relative" => deepening.relative(),
                Ok(false) => return format!("no line of ours: {line}"),
                Err(error) => return error.to_string(),
            }
        }
        match deepening.end() {
            Ok((depth, shallow)) if shallow.is_empty() => format!("{depth:?}"),
            Ok((depth, shallow)) => format!("{depth:?} from {}", shallow.len()),
            Err(error) => error.to_string(),
        }
    }

    fn check(lines: &str, expected: &str) {
        assert_eq!(said(lines, &Limits::default()), expected, "{lines}");
    }

    #[test]
    fn a_depth_is_a_positive_number_in_any_base_of_c() {
        let commits = |count: u32| format!("Commits {{ count: {count}, relative: false }}");
        check("deepen 1", &commits(1));
        check("deepen 0x10", &commits(16));
        check("deepen 010", &commits(8));
        check("deepen  +7", &commits(7));
        check("deepen 2147483646", &commits(2_147_483_646));
        check("deepen 5|deepen 3", &commits(3));
        check("deepen 2147483647", "Endless");
        check("deepen 2147483647|deepen-relative", "Endless");
        check("deepen-relative|deepen 2", "Commits { count: 2, relative: true }");
        check("deepen-relative", "Unchanged");
        for bad in [
            "",
            "0",
            "00",
            "-1",
            "-0",
            "+-1",
            "++1",
            "+",
            "1 ",
            "1x",
            "x",
            "08",
            "0x",
            "0xg",
            "2147483648",
            "9999999999999999999999",
        ] {
            check(&format!("deepen {bad}"), &format!("Invalid deepen: deepen {bad}"));
        }
        check("deepen", "no line of ours: deepen");
        check("deepenly 1", "no line of ours: deepenly 1");
    }

    #[test]
    fn a_time_and_refs_go_together_but_not_with_a_depth() {
        check("deepen-since 1700000000", "Revisions { since: Some(1700000000), not: [] }");
        check("deepen-since 0", "Revisions { since: Some(0), not: [] }");
        check("deepen-since ", "Revisions { since: Some(0), not: [] }");
        check(
            "deepen-not v1|deepen-since 5|deepen-not refs/heads/a|deepen-not v1",
            r#"Revisions { since: Some(5), not: ["v1", "refs/heads/a"] }"#,
        );
        for bad in ["now", " ", "-1", "18446744073709551615", "99999999999999999999"] {
            check(&format!("deepen-since {bad}"), &format!("Invalid deepen-since: deepen-since {bad}"));
        }
        let both = "git upload-pack: deepen and deepen-since (or deepen-not) cannot be used together";
        check("deepen 1|deepen-since 5", both);
        check("deepen-not v1|deepen 2147483647", both);
    }

    #[test]
    fn the_clients_boundary_is_a_set_of_names() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        check(&format!("shallow {a}|shallow {b}|shallow {a}"), "Unchanged from 2");
        check(&format!("shallow {a}|deepen 1"), "Commits { count: 1, relative: false } from 1");
        check("shallow x", "invalid shallow line: shallow x");
        check(&format!("shallow {a} "), &format!("invalid shallow line: shallow {a} "));
    }

    #[test]
    fn its_names_and_refs_are_limited() {
        let limits = Limits { shallows: 1, deepen_nots: 1, ..Limits::default() };
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        assert_eq!(said(&format!("shallow {a}|shallow {a}"), &limits), "Unchanged from 1");
        let over = |what: &str| format!("the request is over the limit: {what} is 1");
        assert_eq!(said(&format!("shallow {a}|shallow {b}"), &limits), over("shallows"));
        assert_eq!(said("deepen-not a|deepen-not a", &limits), r#"Revisions { since: None, not: ["a"] }"#);
        assert_eq!(said("deepen-not a|deepen-not b", &limits), over("deepen_nots"));
    }
}

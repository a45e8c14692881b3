//! The protocol's messages.
//!
//! In: packets, or values to send. Out: parsed requests, or lines. Never touches a repository, and has no side effects.

pub mod capability;
pub mod certificate;
pub mod command;
pub mod depth;
pub mod filter;
pub mod limits;
pub mod ls_refs;
pub mod object_info;
pub mod proc_receive;
pub mod push;
pub mod report;
pub mod upload;

use crate::pktline::FrameError;

pub use limits::Limits;

/// The protocol version a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Version {
    /// Nothing requested, or `version=0`.
    #[default]
    V0,
    /// `version=1`.
    V1,
    /// `version=2`.
    V2,
}

impl Version {
    /// The version's number.
    pub fn number(self) -> u8 {
        match self {
            Version::V0 => 0,
            Version::V1 => 1,
            Version::V2 => 2,
        }
    }

    /// The greatest `version=N` in a colon-separated list (EN-03); everything else is ignored.
    pub fn parse(value: &[u8]) -> Self {
        value
            .split(|&byte| byte == b':')
            .filter_map(|key| match key {
                b"version=1" => Some(Version::V1),
                b"version=2" => Some(Version::V2),
                _ => None,
            })
            .max()
            .unwrap_or_default()
    }
}

/// The protocol versions in which a repository may be fetched (`artifacts.protocolVersions`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    spoken: [bool; 3],
}

impl Versions {
    /// All versions.
    pub const ALL: Versions = Versions { spoken: [true; 3] };

    /// Parses numbers separated by spaces or commas; `None` for any other word, or if there is no number.
    pub fn parse(list: &[u8]) -> Option<Self> {
        let mut versions = Versions { spoken: [false; 3] };
        let words = list.split(|byte| byte.is_ascii_whitespace() || *byte == b',').filter(|word| !word.is_empty());
        for word in words {
            let number = match word {
                b"0" => Version::V0,
                b"1" => Version::V1,
                b"2" => Version::V2,
                _ => return None,
            };
            versions.spoken[usize::from(number.number())] = true;
        }
        versions.spoken.contains(&true).then_some(versions)
    }

    /// The version to use for a client that asked for one: the greatest allowed up to it, since such a client also
    /// understands all earlier ones.
    pub fn greatest(self, asked: Version) -> Option<Version> {
        let spoken = |version: &Version| *version <= asked && self.spoken[usize::from(version.number())];
        [Version::V2, Version::V1, Version::V0].into_iter().find(spoken)
    }

    /// The refusal for a client that can use none of them.
    pub fn refusal(self, asked: Version) -> String {
        let numbers: Vec<&str> =
            ["0", "1", "2"].into_iter().zip(self.spoken).filter(|one| one.1).map(|one| one.0).collect();
        format!(
            "this repository is fetched with protocol version {} alone, and version {} was asked for: \
             set protocol.version, which git knows from 2.18 on",
            numbers.join(" or "),
            asked.number()
        )
    }
}

/// A part of a request that is malformed or not offered. Its Display is the text for the client, in git's words where
/// git has any.
#[derive(Debug)]
pub enum ProtocolError {
    /// Bad framing.
    Frame(FrameError),
    /// A complete sentence in git's form.
    Said(String),
    /// More than a limit allows.
    Limit {
        /// The name of the field in [`Limits`].
        what: &'static str,
        /// The limit.
        most: u64,
    },
}

impl std::fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ProtocolError::Frame(error) => error.fmt(f),
            ProtocolError::Said(text) => f.write_str(text),
            ProtocolError::Limit { what, most } => write!(f, "the request is over the limit: {what} is {most}"),
        }
    }
}

impl std::error::Error for ProtocolError {}

/// Foreign bytes for use in a sentence: cut to 200 bytes, with control characters replaced.
pub fn shown(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 200;
    let mut shown: String = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_MAX)])
        .chars()
        .map(|character| if character.is_control() { '?' } else { character })
        .collect();
    if bytes.len() > SHOWN_MAX {
        shown.push_str("...");
    }
    shown
}

impl From<FrameError> for ProtocolError {
    fn from(error: FrameError) -> Self {
        ProtocolError::Frame(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_version_asked_for_counts() {
        let check = |value: &[u8], expected| assert_eq!(Version::parse(value), expected, "{}", value.escape_ascii());
        check(b"", Version::V0);
        check(b"version=0", Version::V0);
        check(b"version=1", Version::V1);
        check(b"version=2", Version::V2);
        check(b"version=1:x=y:version=2:version=0", Version::V2);
        check(b"version=3", Version::V0);
        check(b"version=2 ", Version::V0);
        check(b"VERSION=2", Version::V0);
    }

    #[test]
    fn the_greatest_version_both_speak_is_spoken() {
        let check = |list: &[u8], expected: &str| {
            let spoken = Versions::parse(list).map_or("bad".to_owned(), |versions| {
                let to =
                    |asked| versions.greatest(asked).map_or("-".to_owned(), |version| version.number().to_string());
                [Version::V0, Version::V1, Version::V2].map(to).concat()
            });
            assert_eq!(spoken, expected, "{}", list.escape_ascii());
        };
        check(b"0 1 2", "012");
        check(b"2", "--2");
        check(b"1, 2", "-12");
        check(b"0,2", "002");
        check(b" 0 ", "000");
        check(b"", "bad");
        check(b"3", "bad");
        check(b"2x", "bad");
        let versions = Versions::parse(b"1 2").expect("they are versions");
        assert!(versions.refusal(Version::V0).contains("protocol version 1 or 2 alone, and version 0 was asked for"));
    }

    #[test]
    fn foreign_bytes_are_shown_harmless_and_short() {
        assert_eq!(shown(b"refs/heads/\xc3\xa4\x1b[2J\n\xff"), "refs/heads/\u{e4}?[2J?\u{fffd}");
        assert_eq!(shown(&[b'x'; 200]).len(), 200);
        assert_eq!(shown(&[b'x'; 201]).len(), 203);
    }
}

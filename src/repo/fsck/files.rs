//! Blobs that git itself reads when they are checked out: `.gitmodules` and `.gitattributes`.
//!
//! In: the ids of blobs that trees give these names. Out: findings: submodule names that leave `.git/modules`, URLs and
//! paths that git would take for options, commands as update settings, and lines that overflowed old parsers. Nothing
//! is ever checked out.

use super::{Findings, Message, Report, Rules, url};
use crate::odb::Objects;
use crate::protocol::shown;
use bstr::ByteSlice;
use gix_hash::ObjectId;
use gix_object::Kind;
use std::collections::BTreeSet;

/// The largest `.gitattributes` in bytes; git ignores larger ones.
const ATTRIBUTES_SIZE_MAX: u64 = 100 << 20;
/// The longest line of a `.gitattributes`, with the end of line; git ignores longer ones.
const ATTRIBUTES_LINE_MAX: usize = 2048;

/// The most different blobs of each kind; no real history has more.
const FILES_MAX: usize = 100_000;

/// Blobs to check once all objects are there.
#[derive(Debug, Default)]
pub struct Files {
    modules: BTreeSet<ObjectId>,
    attributes: BTreeSet<ObjectId>,
}

impl Files {
    /// Adds a blob that a tree calls `.gitmodules`.
    pub(super) fn add_modules(&mut self, id: ObjectId, report: &mut Report<'_>) {
        if self.modules.len() < FILES_MAX {
            self.modules.insert(id);
        } else {
            report.say(Message::GitmodulesLarge, "too many different .gitmodules");
        }
    }

    /// Adds a blob that a tree calls `.gitattributes`.
    pub(super) fn add_attributes(&mut self, id: ObjectId, report: &mut Report<'_>) {
        if self.attributes.len() < FILES_MAX {
            self.attributes.insert(id);
        } else {
            report.say(Message::GitattributesLarge, "too many different .gitattributes");
        }
    }

    /// Whether there are no blobs to check.
    pub(super) fn is_empty(&self) -> bool {
        self.modules.is_empty() && self.attributes.is_empty()
    }

    /// Adds the blobs of another checker.
    pub(super) fn add(&mut self, mut other: Files) {
        self.modules.append(&mut other.modules);
        self.attributes.append(&mut other.attributes);
    }

    /// Checks the blobs; see [`super::Checker::check_files`].
    pub(super) fn check(
        &self,
        objects: &Objects,
        size_max: u64,
        rules: &Rules,
        findings: &mut Findings,
    ) -> anyhow::Result<()> {
        let mut content = Vec::new();
        for id in &self.modules {
            let mut report = Report { rules, id, findings };
            match objects.header(id)? {
                None => drop(report.say(Message::GitmodulesMissing, "unable to read .gitmodules blob")),
                Some(header) if header.kind != Kind::Blob => {
                    report.say(Message::GitmodulesBlob, "non-blob found at .gitmodules");
                }
                Some(header) if header.size > size_max => {
                    report.say(Message::GitmodulesLarge, ".gitmodules too large to parse");
                }
                Some(_) => {
                    objects.find(id, &mut content)?;
                    modules(&content, &mut report);
                }
            }
        }
        for id in &self.attributes {
            let mut report = Report { rules, id, findings };
            match objects.header(id)? {
                None => drop(report.say(Message::GitattributesMissing, "unable to read .gitattributes blob")),
                Some(header) if header.kind != Kind::Blob => {
                    report.say(Message::GitattributesBlob, "non-blob found at .gitattributes");
                }
                Some(header) if header.size > size_max.min(ATTRIBUTES_SIZE_MAX) => {
                    report.say(Message::GitattributesLarge, ".gitattributes too large to parse");
                }
                Some(_) => {
                    objects.find(id, &mut content)?;
                    attributes(&content, &mut report);
                }
            }
        }
        Ok(())
    }
}

fn attributes(content: &[u8], report: &mut Report<'_>) {
    // git stops reading at a NUL.
    let text = content.split(|byte| *byte == 0).next().unwrap_or_default();
    if text.split(|byte| *byte == b'\n').any(|line| line.len() >= ATTRIBUTES_LINE_MAX) {
        report.say(Message::GitattributesLineLength, ".gitattributes has too long lines to parse");
    }
}

fn modules(content: &[u8], report: &mut Report<'_>) {
    let setting = |section: &[u8], key: &[u8], value: Option<&[u8]>| {
        let variable = [section, b".", key].concat();
        let Some((name, key)) = name_and_key(c_string(&variable)) else { return };
        if name_leaves(name) {
            report.say(Message::GitmodulesName, format!("disallowed submodule name: {}", shown(name)));
        }
        let Some(value) = value.map(c_string) else { return };
        let value_shown = || shown(value);
        match key {
            b"url" if url::harms(value) => {
                report.say(Message::GitmodulesUrl, format!("disallowed submodule url: {}", value_shown()));
            }
            b"path" if value.starts_with(b"-") => {
                report.say(Message::GitmodulesPath, format!("disallowed submodule path: {}", value_shown()));
            }
            b"update" if value.starts_with(b"!") => {
                report
                    .say(Message::GitmodulesUpdate, format!("disallowed submodule update setting: {}", value_shown()));
            }
            _ => {}
        }
    };
    if parse(content, setting).is_none() {
        report.say(Message::GitmodulesParse, "could not parse gitmodules blob");
    }
}

/// What git sees of bytes that it passes on as a C string.
fn c_string(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A submodule's name and one of its keys, as git splits `submodule.<name>.<key>` at the last dot. A key contains no
/// dot, but a name that is cut at a NUL may.
fn name_and_key(variable: &[u8]) -> Option<(&[u8], &[u8])> {
    variable.strip_prefix(b"submodule.")?.rsplit_once_str(".")
}

/// Whether a submodule's name leads out of `.git/modules`.
fn name_leaves(name: &[u8]) -> bool {
    name.is_empty() || name.split(|byte| matches!(byte, b'/' | b'\\')).any(|part| part == b"..")
}

/// Parses a file in git's configuration format and calls `setting` with each section (`submodule.name`), key and value.
/// Returns `None` where git would stop, after calling `setting` for everything before. It follows git's own reader of
/// files exactly: any difference could be used to get around the checks.
fn parse(content: &[u8], mut setting: impl FnMut(&[u8], &[u8], Option<&[u8]>)) -> Option<()> {
    let mut chars = Chars { rest: content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content), ended: false };
    let mut section = Vec::new();
    let mut comment = false;
    loop {
        let char = chars.next();
        if char == b'\n' {
            if chars.ended {
                return Some(());
            }
            comment = false;
        } else if comment || is_space(char) {
        } else if matches!(char, b'#' | b';') {
            comment = true;
        } else if char == b'[' {
            section.clear();
            parse_section(&mut chars, &mut section)?;
            if section.is_empty() {
                return None;
            }
        } else if char.is_ascii_alphabetic() {
            let mut key = vec![char.to_ascii_lowercase()];
            let value = parse_setting(&mut chars, &mut key)?;
            setting(&section, &key, value.as_deref());
        } else {
            return None;
        }
    }
}

struct Chars<'a> {
    rest: &'a [u8],
    ended: bool,
}

impl Chars<'_> {
    /// The next byte. CRLF counts as one end of line, and so does the end of the text.
    fn next(&mut self) -> u8 {
        if let Some(rest) = self.rest.strip_prefix(b"\r\n") {
            self.rest = rest;
            return b'\n';
        }
        match self.rest.split_first() {
            Some((char, rest)) => {
                self.rest = rest;
                *char
            }
            None => {
                self.ended = true;
                b'\n'
            }
        }
    }
}

fn is_space(char: u8) -> bool {
    matches!(char, b' ' | b'\t' | b'\n' | b'\r')
}

fn is_key_char(char: u8) -> bool {
    char.is_ascii_alphanumeric() || char == b'-'
}

/// Parses `base]` or `base "sub section"]`; the base may contain dots.
fn parse_section(chars: &mut Chars<'_>, section: &mut Vec<u8>) -> Option<()> {
    loop {
        let mut char = chars.next();
        if chars.ended {
            return None;
        }
        if char == b']' {
            return Some(());
        }
        if is_key_char(char) || char == b'.' {
            section.push(char.to_ascii_lowercase());
            continue;
        }
        if !is_space(char) {
            return None;
        }
        while is_space(char) {
            if char == b'\n' {
                return None;
            }
            char = chars.next();
        }
        if char != b'"' {
            return None;
        }
        section.push(b'.');
        loop {
            match chars.next() {
                b'\n' => return None,
                b'"' => break,
                b'\\' => match chars.next() {
                    b'\n' => return None,
                    char => section.push(char),
                },
                char => section.push(char),
            }
        }
        return (chars.next() == b']').then_some(());
    }
}

/// Parses the rest of a key, and its value if it has one.
fn parse_setting(chars: &mut Chars<'_>, key: &mut Vec<u8>) -> Option<Option<Vec<u8>>> {
    let mut char = chars.next();
    while is_key_char(char) {
        key.push(char.to_ascii_lowercase());
        char = chars.next();
    }
    while matches!(char, b' ' | b'\t') {
        char = chars.next();
    }
    match char {
        b'\n' => Some(None),
        b'=' => parse_value(chars).map(Some),
        _ => None,
    }
}

fn parse_value(chars: &mut Chars<'_>) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    // The length up to which the value is kept if only spaces follow.
    let mut trimmed = None;
    let (mut quoted, mut comment) = (false, false);
    loop {
        let char = chars.next();
        if char == b'\n' {
            if quoted {
                return None;
            }
            if let Some(len) = trimmed {
                value.truncate(len);
            }
            return Some(value);
        }
        if comment {
            continue;
        }
        if is_space(char) && !quoted {
            if !value.is_empty() {
                trimmed = trimmed.or(Some(value.len()));
                value.push(char);
            }
            continue;
        }
        if !quoted && matches!(char, b';' | b'#') {
            comment = true;
            continue;
        }
        trimmed = None;
        match char {
            b'\\' => match chars.next() {
                b'\n' => {}
                b't' => value.push(b'\t'),
                b'b' => value.push(8),
                b'n' => value.push(b'\n'),
                char @ (b'\\' | b'"') => value.push(char),
                _ => return None,
            },
            b'"' => quoted = !quoted,
            char => value.push(char),
        }
    }
}

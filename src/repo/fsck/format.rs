//! Commits and tags: their header lines must be well-formed and in order.
//!
//! In: the content of one commit or tag. Out: findings. The objects it refers to are never looked at here.

use super::{Message, Report};
use crate::protocol::shown;
use bstr::ByteSlice;
use gix_hash::ObjectId;

/// Checks a commit.
pub(super) fn commit(content: &[u8], hash: gix_hash::Kind, report: &mut Report<'_>) {
    if headers_are_cut_off(content, report) {
        return;
    }
    let mut rest = content;
    let Some(line) = take_line(&mut rest, b"tree ") else {
        report.say(Message::MissingTree, "invalid format - expected 'tree' line");
        return;
    };
    if !is_id(line, hash) && report.say(Message::BadTreeSha1, "invalid 'tree' line format - bad sha1") {
        return;
    }
    while let Some(line) = take_line(&mut rest, b"parent ") {
        if !is_id(line, hash) && report.say(Message::BadParentSha1, "invalid 'parent' line format - bad sha1") {
            return;
        }
    }
    let mut authors = 0_u32;
    while let Some(line) = take_line(&mut rest, b"author ") {
        authors = authors.saturating_add(1);
        if ident(line, report) {
            return;
        }
    }
    let refused = match authors {
        0 => report.say(Message::MissingAuthor, "invalid format - expected 'author' line"),
        1 => false,
        _ => report.say(Message::MultipleAuthors, "invalid format - multiple 'author' lines"),
    };
    if refused {
        return;
    }
    let Some(line) = take_line(&mut rest, b"committer ") else {
        report.say(Message::MissingCommitter, "invalid format - expected 'committer' line");
        return;
    };
    if !ident(line, report) && content.contains(&0) {
        report.say(Message::NulInCommit, "NUL byte in the commit object body");
    }
}

/// Checks a tag.
pub(super) fn tag(content: &[u8], hash: gix_hash::Kind, report: &mut Report<'_>) {
    if headers_are_cut_off(content, report) {
        return;
    }
    let mut rest = content;
    let Some(line) = take_line(&mut rest, b"object ") else {
        report.say(Message::MissingObject, "invalid format - expected 'object' line");
        return;
    };
    if !is_id(line, hash) && report.say(Message::BadObjectSha1, "invalid 'object' line format - bad sha1") {
        return;
    }
    let Some(line) = take_line(&mut rest, b"type ") else {
        report.say(Message::MissingTypeEntry, "invalid format - expected 'type' line");
        return;
    };
    if gix_object::Kind::from_bytes(line).is_err() && report.say(Message::BadType, "invalid 'type' value") {
        return;
    }
    let Some(line) = take_line(&mut rest, b"tag ") else {
        report.say(Message::MissingTagEntry, "invalid format - expected 'tag' line");
        return;
    };
    let name = [b"refs/tags/", line].concat();
    if gix_validate::reference::name(name.as_bstr()).is_err()
        && report.say(Message::BadTagName, format!("invalid 'tag' name: {}", shown(line)))
    {
        return;
    }
    match take_line(&mut rest, b"tagger ") {
        // The oldest tags have none.
        None => {
            if report.say(Message::MissingTaggerEntry, "invalid format - expected 'tagger' line") {
                return;
            }
        }
        Some(line) => {
            ident(line, report);
        }
    }
    if take_line(&mut rest, b"gpgsig ").or_else(|| take_line(&mut rest, b"gpgsig-sha256 ")).is_some() {
        while take_line(&mut rest, b" ").is_some() {}
    }
    if !rest.is_empty() && !rest.starts_with(b"\n") {
        report.say(Message::ExtraHeaderEntry, "invalid format - extra header(s) after 'tagger'");
    }
}

/// If the text begins with `prefix`, takes that line and returns it without the prefix. [`headers_are_cut_off`] has
/// made sure that it ends.
fn take_line<'a>(rest: &mut &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let line_and_rest = rest.strip_prefix(prefix)?;
    let end = line_and_rest.find_byte(b'\n').unwrap_or(line_and_rest.len());
    *rest = line_and_rest.get(end + 1..).unwrap_or_default();
    Some(&line_and_rest[..end])
}

fn is_id(line: &[u8], hash: gix_hash::Kind) -> bool {
    line.len() == hash.len_in_hex() && ObjectId::from_hex(line).is_ok()
}

/// Reports headers that contain a NUL, or that end neither with an empty line nor with the end of a line.
fn headers_are_cut_off(content: &[u8], report: &mut Report<'_>) -> bool {
    let headers = content.find(b"\n\n").map_or(content, |end| &content[..end]);
    if let Some(at) = headers.find_byte(0) {
        report.say(Message::NulInHeader, format!("unterminated header: NUL at offset {at}"));
        return true;
    }
    if headers.len() == content.len() && !content.ends_with(b"\n") {
        report.say(Message::UnterminatedHeader, "unterminated header");
        return true;
    }
    false
}

/// Checks `Name <email> seconds zone`; returns `true` if the object is refused because of it.
fn ident(line: &[u8], report: &mut Report<'_>) -> bool {
    match ident_fault(line) {
        Some((message, what)) => report.say(message, format!("invalid author/committer line - {what}")),
        None => false,
    }
}

fn ident_fault(line: &[u8]) -> Option<(Message, &'static str)> {
    if line.starts_with(b"<") {
        return Some((Message::MissingNameBeforeEmail, "missing space before email"));
    }
    let Some(open) = line.find_byteset(b"<>") else { return Some((Message::MissingEmail, "missing email")) };
    if line[open] == b'>' {
        return Some((Message::BadName, "bad name"));
    }
    if !line[..open].ends_with(b" ") {
        return Some((Message::MissingSpaceBeforeEmail, "missing space before email"));
    }
    let email = &line[open + 1..];
    let rest = match email.find_byteset(b"<>") {
        Some(close) if email[close] == b'>' => &email[close + 1..],
        _ => return Some((Message::BadEmail, "bad email")),
    };
    let Some(rest) = rest.strip_prefix(b" ") else {
        return Some((Message::MissingSpaceBeforeDate, "missing space before date"));
    };
    let date = rest.trim_start_with(|char| matches!(char, ' ' | '\t'));
    let digits = date.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(date.len());
    if digits == 0 {
        return Some((Message::BadDate, "bad date"));
    }
    if date.starts_with(b"0") && date.get(1) != Some(&b' ') {
        return Some((Message::ZeroPaddedDate, "zero-padded date"));
    }
    let seconds = date[..digits].to_str().ok().and_then(|digits| digits.parse::<i64>().ok());
    if seconds.is_none() {
        return Some((Message::BadDateOverflow, "date causes integer overflow"));
    }
    let Some(zone) = date[digits..].strip_prefix(b" ") else { return Some((Message::BadDate, "bad date")) };
    match zone {
        [b'+' | b'-', digits @ ..] if digits.len() == 4 && digits.iter().all(u8::is_ascii_digit) => None,
        _ => Some((Message::BadTimezone, "bad time zone")),
    }
}

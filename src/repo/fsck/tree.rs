//! Trees: entries must be well-formed, sorted and unique, and their names harmless.
//!
//! In: the content of one tree. Out: findings, and the blobs of `.gitmodules` and `.gitattributes` to check later. No
//! object is ever read here.

use super::files::Files;
use super::{Message, Report, names};
use bstr::ByteSlice;
use gix_hash::ObjectId;
use std::cmp::Ordering;

/// The longest name of an entry in bytes that git accepts by default.
const NAME_LEN_MAX: usize = 4096;

const TYPE: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;

/// One entry.
#[derive(Clone, Copy)]
struct Entry<'a> {
    zero_padded: bool,
    mode: u32,
    name: &'a [u8],
    id: &'a [u8],
}

impl<'a> Entry<'a> {
    fn is_directory(&self) -> bool {
        self.mode & TYPE == DIRECTORY
    }

    fn is_symlink(&self) -> bool {
        self.mode & TYPE == SYMLINK
    }

    /// Parses the first entry of the rest of a tree.
    fn parse(rest: &mut &'a [u8], hash_len: usize) -> Option<Self> {
        let mut mode = 0_u32;
        let mut space = 0;
        loop {
            match rest.get(space)? {
                // git keeps sixteen bits.
                digit @ b'0'..=b'7' => mode = ((mode << 3) | u32::from(digit - b'0')) & 0xffff,
                b' ' if space > 0 => break,
                _ => return None,
            }
            space += 1;
        }
        let name_and_rest = &rest[space + 1..];
        let (name, after) = name_and_rest.split_at(name_and_rest.find_byte(0)?);
        if name.is_empty() {
            return None;
        }
        let (id, after) = after[1..].split_at_checked(hash_len)?;
        let zero_padded = rest[0] == b'0';
        *rest = after;
        Some(Entry { zero_padded, mode, name, id })
    }
}

/// Checks a tree.
pub(super) fn check(content: &[u8], hash: gix_hash::Kind, report: &mut Report<'_>, files: &mut Files) {
    let mut found = Found::default();
    let mut rest = content;
    let mut before: Option<Entry<'_>> = None;
    let mut candidates = Vec::new();
    while !rest.is_empty() {
        let Some(entry) = Entry::parse(&mut rest, hash.len_in_bytes()) else {
            report.say(Message::BadTree, "cannot be parsed as a tree");
            break;
        };
        found.look_at(&entry);
        if names::may_be_special(entry.name) {
            found.dotgit |= names::is_dotgit(entry.name);
            special_files(&entry, report, files);
        }
        // One search for both separators: hardly any name contains one.
        if entry.name.find_byteset(b"/\\").is_some() {
            found.slash |= entry.name.contains(&b'/');
            found.dotgit |= after_backslashes(&entry, report, files);
        }
        if let Some(before) = before {
            match order(&before, &entry, &mut candidates) {
                Order::Right => {}
                Order::Wrong => found.unsorted = true,
                Order::Twice => found.duplicates = true,
            }
        }
        before = Some(entry);
    }
    found.tell(report);
}

/// What is reported once for a tree, however many entries are affected.
#[derive(Default)]
struct Found {
    null_id: bool,
    slash: bool,
    dot: bool,
    dotdot: bool,
    dotgit: bool,
    zero_padded: bool,
    bad_mode: bool,
    duplicates: bool,
    unsorted: bool,
    long_name: bool,
}

impl Found {
    fn look_at(&mut self, entry: &Entry<'_>) {
        self.null_id |= entry.id.iter().all(|byte| *byte == 0);
        self.dot |= entry.name == b".";
        self.dotdot |= entry.name == b"..";
        self.zero_padded |= entry.zero_padded;
        self.bad_mode |= !matches!(entry.mode, 0o100_644 | 0o100_755 | SYMLINK | DIRECTORY | 0o160_000);
        self.long_name |= entry.name.len() > NAME_LEN_MAX;
    }

    fn tell(&self, report: &mut Report<'_>) {
        for (found, message, text) in [
            (self.null_id, Message::NullSha1, "contains entries pointing to null sha1"),
            (self.slash, Message::FullPathname, "contains full pathnames"),
            (self.dot, Message::HasDot, "contains '.'"),
            (self.dotdot, Message::HasDotdot, "contains '..'"),
            (self.dotgit, Message::HasDotgit, "contains '.git'"),
            (self.zero_padded, Message::ZeroPaddedFilemode, "contains zero-padded file modes"),
            (self.bad_mode, Message::BadFilemode, "contains bad file modes"),
            (self.duplicates, Message::DuplicateEntries, "contains duplicate file entries"),
            (self.unsorted, Message::TreeNotSorted, "not properly sorted"),
            (self.long_name, Message::LargePathname, "contains excessively large pathname"),
        ] {
            if found {
                report.say(message, text);
            }
        }
    }
}

/// Files that git itself reads from a work tree must not be symbolic links; the content of two of them is checked
/// later.
fn special_files(entry: &Entry<'_>, report: &mut Report<'_>, files: &mut Files) {
    if names::is_gitmodules(entry.name) {
        gitmodules(entry, report, files);
    }
    if names::is_gitattributes(entry.name) {
        if entry.is_symlink() {
            report.say(Message::GitattributesSymlink, ".gitattributes is a symlink");
        } else {
            files.add_attributes(ObjectId::from_bytes_or_panic(entry.id), report);
        }
    }
    if entry.is_symlink() && names::is_gitignore(entry.name) {
        report.say(Message::GitignoreSymlink, ".gitignore is a symlink");
    }
    if entry.is_symlink() && names::is_mailmap(entry.name) {
        report.say(Message::MailmapSymlink, ".mailmap is a symlink");
    }
}

fn gitmodules(entry: &Entry<'_>, report: &mut Report<'_>, files: &mut Files) {
    if entry.is_symlink() {
        report.say(Message::GitmodulesSymlink, ".gitmodules is a symbolic link");
    } else {
        files.add_modules(ObjectId::from_bytes_or_panic(entry.id), report);
    }
}

/// Checks what follows each backslash, which NTFS takes for a separator; returns whether that is `.git`.
fn after_backslashes(entry: &Entry<'_>, report: &mut Report<'_>, files: &mut Files) -> bool {
    let mut dotgit = false;
    let mut name = entry.name;
    while let Some(at) = name.iter().position(|byte| *byte == b'\\') {
        name = &name[at + 1..];
        dotgit |= names::is_ntfs_dotgit(name);
        if names::is_ntfs_gitmodules(name) {
            gitmodules(entry, report, files);
        }
    }
    dotgit
}

enum Order {
    Right,
    Wrong,
    Twice,
}

/// How two neighbouring entries are ordered. A directory sorts as if its name ended in a slash, so a file and a
/// directory of the same name need not be neighbours: `foo`, `foo.bar`, `foo/`. `candidates` holds the names of files
/// whose directory may still follow.
fn order<'a>(before: &Entry<'a>, entry: &Entry<'a>, candidates: &mut Vec<&'a [u8]>) -> Order {
    let common = before.name.len().min(entry.name.len());
    match before.name[..common].cmp(&entry.name[..common]) {
        Ordering::Less => return Order::Right,
        Ordering::Greater => return Order::Wrong,
        Ordering::Equal => {}
    }
    let next = |entry: &Entry<'_>| match entry.name.get(common) {
        Some(byte) => *byte,
        None if entry.is_directory() => b'/',
        None => 0,
    };
    if before.name.len() == entry.name.len() {
        return Order::Twice;
    }
    let (first, second) = (next(before), next(entry));
    if first == 0 && is_before_slash(second) {
        candidates.push(before.name);
    } else if second == b'/' && is_before_slash(first) {
        while let Some(file) = candidates.pop() {
            let Some(rest) = entry.name.strip_prefix(file) else { continue };
            match rest.first() {
                None => return Order::Twice,
                Some(byte) if is_before_slash(*byte) => {
                    candidates.push(file);
                    break;
                }
                Some(_) => {}
            }
        }
    }
    if first < second { Order::Right } else { Order::Wrong }
}

fn is_before_slash(byte: u8) -> bool {
    byte > 0 && byte < b'/'
}

//! One tree, compared with another version of it.
//!
//! In: the bytes of two trees. Out: where the entries of one begin, and which of them the other does not have. The
//! comparison finds malformed entries, so later accesses can rely on their form.

use crate::odb::prefix::common_prefix;
use bstr::ByteSlice;
use gix_hash::oid;
use std::cmp::Ordering;
use std::ops::Range;
use std::rc::Rc;

/// A tree as it was read.
#[derive(Default)]
pub(in crate::odb) struct Tree {
    content: Option<Rc<Vec<u8>>>,
    /// Where each entry begins, and last the end of the tree.
    starts: Vec<usize>,
    /// Entries that the tree before did not have.
    pub(in crate::odb) fresh: Vec<Fresh>,
}

/// An entry that another tree at the same path did not have.
#[derive(Clone, Copy)]
pub(in crate::odb) struct Fresh {
    /// Where it begins.
    at: usize,
    /// Where its object ID begins.
    id: usize,
    /// Where the ID of the object in its place begins in the other tree.
    other: Option<usize>,
}

/// What an entry points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::odb) enum EntryKind {
    Tree,
    Blob,
    Gitlink,
}

impl Tree {
    pub(in crate::odb) fn clear(&mut self) {
        self.content = None;
        self.starts.clear();
    }

    /// Takes the content of another tree, to be compared next.
    pub(in crate::odb) fn set(&mut self, content: Rc<Vec<u8>>) {
        self.content = Some(content);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.content.as_ref().map_or(&[], |content| content)
    }

    /// Finds where the entries begin, and which of them `last` does not have. `None` if one is malformed.
    ///
    /// Runs of equal entries are skipped as bytes. Where a run ends, entries are matched by name until both trees are
    /// in step again.
    pub(in crate::odb) fn compare(&mut self, last: &Tree, hash_len: usize) -> Option<()> {
        self.starts.clear();
        self.fresh.clear();
        let ours = self.content.as_ref().map_or(&[][..], |content| content);
        let theirs = last.bytes();
        let (mut at, mut their) = (0, 0);
        // An entry of theirs that was parsed, and its number.
        let mut standing: Option<(usize, Entry)> = None;
        loop {
            // The number of bytes from here on that are the same in both.
            let mut same = 0;
            if let Some(&their_at) = last.starts.get(their) {
                same = common_prefix(&ours[at..], &theirs[their_at..]);
                let run = whole_below(&last.starts[their..], their_at + same);
                self.starts.extend(last.starts[their..their + run].iter().map(|start| at + (start - their_at)));
                their += run;
                let passed = last.starts[their] - their_at;
                at += passed;
                same -= passed;
            }
            self.starts.push(at);
            if at == ours.len() {
                return Some(());
            }
            // Usually only the object ID differs.
            if let Some(&[start, end]) = last.starts.get(their..their + 2)
                && same + hash_len >= end - start
                && at + (end - start) <= ours.len()
            {
                self.fresh.push(Fresh { at, id: at + (end - start) - hash_len, other: Some(end - hash_len) });
                at += end - start;
                their += 1;
                continue;
            }
            let entry = Entry::parse(ours, at, hash_len)?;
            let (before, mut other) = (their, None);
            while let Some(&[start, end]) = last.starts.get(their..their + 2) {
                // Many of our entries may sort before one of theirs, whose name may have megabytes: it is parsed once.
                let standing = match &mut standing {
                    Some((number, standing)) if *number == their => standing,
                    other => &mut other.insert((their, Entry::between(theirs, start, end, hash_len)?)).1,
                };
                match standing.order(theirs, &entry, ours) {
                    Ordering::Less => their += 1,
                    Ordering::Equal => {
                        other = Some(end - hash_len);
                        break;
                    }
                    Ordering::Greater => break,
                }
            }
            if other.is_some() && their > before {
                // Entries are gone; from here on both may be equal again.
                self.starts.pop();
                continue;
            }
            their += usize::from(other.is_some());
            self.fresh.push(Fresh { at, id: entry.id, other });
            at = entry.id + hash_len;
        }
    }

    /// The kind, name and object ID of an entry.
    pub(in crate::odb) fn entry(&self, fresh: Fresh, hash_len: usize) -> (EntryKind, &[u8], &oid) {
        let (kind, name) = mode(self.bytes(), fresh.at).expect("it was parsed when it was compared");
        (kind, &self.bytes()[name..fresh.id - 1], self.id(fresh.id, hash_len))
    }

    /// The ID of the object in this tree that `fresh`, an entry of the tree compared with it, replaces.
    pub(in crate::odb) fn other(&self, fresh: Fresh, hash_len: usize) -> Option<&oid> {
        fresh.other.map(|at| self.id(at, hash_len))
    }

    fn id(&self, at: usize, hash_len: usize) -> &oid {
        oid::from_bytes_unchecked(&self.bytes()[at..at + hash_len])
    }
}

/// One entry of a tree, as places in its bytes: `<mode> <name>\0<id>`.
struct Entry {
    kind: EntryKind,
    name: Range<usize>,
    id: usize,
}

/// What the entry at `at` points to, and where its name begins. `None` if the mode is malformed or cut off. As in git,
/// any number of digits is accepted and the low sixteen bits count; anything that is not a file, link or directory is a
/// gitlink.
fn mode(bytes: &[u8], at: usize) -> Option<(EntryKind, usize)> {
    let mut mode = 0u32;
    let mut place = at;
    loop {
        let byte = *bytes.get(place)?;
        place += 1;
        match byte {
            b'0'..=b'7' => mode = mode << 3 | u32::from(byte - b'0'),
            b' ' if place - at > 1 => break,
            _ => return None,
        }
    }
    let kind = match mode & 0o170_000 {
        0o040_000 => EntryKind::Tree,
        0o100_000 | 0o120_000 => EntryKind::Blob,
        _ => EntryKind::Gitlink,
    };
    Some((kind, place))
}

impl Entry {
    /// Parses the entry at `at`; `None` if it is malformed or cut off.
    fn parse(bytes: &[u8], at: usize, hash_len: usize) -> Option<Self> {
        let (kind, place) = mode(bytes, at)?;
        let name = place..place + bytes[place..].find_byte(0)?;
        let id = name.end + 1;
        (!name.is_empty() && id + hash_len <= bytes.len()).then_some(Entry { kind, name, id })
    }

    /// The entry from `start` to `end`; `None` if its mode is malformed.
    fn between(bytes: &[u8], start: usize, end: usize, hash_len: usize) -> Option<Self> {
        let (kind, name) = mode(bytes, start)?;
        let id = end - hash_len;
        Some(Entry { kind, name: name..id - 1, id })
    }

    /// The order of two entries in a tree: names compare as if those of trees ended in a slash.
    fn order(&self, bytes: &[u8], other: &Entry, other_bytes: &[u8]) -> Ordering {
        let end = |kind| (kind == EntryKind::Tree).then_some(&b'/');
        let (ours, theirs) = (&bytes[self.name.clone()], &other_bytes[other.name.clone()]);
        let same = common_prefix(ours, theirs);
        let ours = ours[same..].iter().chain(end(self.kind));
        ours.cmp(theirs[same..].iter().chain(end(other.kind)))
    }
}

/// How many of the parts between `starts` end at or before `end`. The first part begins at or before `end`.
fn whole_below(starts: &[usize], end: usize) -> usize {
    let (&[first, ..], &[.., last]) = (starts, starts) else { return 0 };
    // Entries have similar lengths, so the position of `end` nearly tells which one it is.
    let parts = starts.len() - 1;
    let guess = parts.saturating_mul(end - first).checked_div(last - first).unwrap_or(0).min(parts);
    let (mut low, mut high, mut step) = (guess, guess, 1);
    while low > 0 && starts[low] > end {
        high = low;
        low = low.saturating_sub(step);
        step *= 2;
    }
    while high < parts && starts[high] <= end {
        low = high;
        high = (high + step).min(parts);
        step *= 2;
    }
    low + starts[low..=high].partition_point(|start| *start <= end) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Modes, names, and the byte that the object ID consists of.
    type Made<'a> = &'a [(&'a str, &'a str, u8)];

    fn tree(entries: Made<'_>) -> Vec<u8> {
        let entry =
            |(mode, name, id): &(&str, &str, u8)| [mode.as_bytes(), b" ", name.as_bytes(), &[0], &[*id; 20]].concat();
        entries.iter().flat_map(entry).collect()
    }

    /// The fresh entries: kind, name, object, and the object it replaces.
    type Freshness = Vec<(EntryKind, String, u8, Option<u8>)>;

    fn compared(before: &Tree, bytes: Vec<u8>) -> Option<(Tree, Freshness)> {
        let mut current = Tree { content: Some(Rc::new(bytes)), ..Tree::default() };
        current.compare(before, 20)?;
        let fresh = current.fresh.iter().map(|fresh| {
            let (kind, name, id) = current.entry(*fresh, 20);
            let other = before.other(*fresh, 20).map(|id| id.as_bytes()[19]);
            (kind, name.to_str_lossy().into_owned(), id.as_bytes()[0], other)
        });
        let fresh = fresh.collect();
        Some((current, fresh))
    }

    fn check(before: Made<'_>, now: Made<'_>, expected: &[(EntryKind, &str, u8, Option<u8>)]) {
        let (before, all) = compared(&Tree::default(), tree(before)).expect("is well-formed");
        assert_eq!(all.len(), before.starts.len() - 1, "without another tree all is fresh");
        let (now, fresh) = compared(&before, tree(now)).expect("is well-formed");
        let fresh: Vec<_> = fresh.iter().map(|(kind, name, id, other)| (*kind, &name[..], *id, *other)).collect();
        assert_eq!(fresh, expected);
        let mut alone = Tree { content: now.content.clone(), ..Tree::default() };
        alone.compare(&Tree::default(), 20).expect("is well-formed");
        assert_eq!(now.starts, alone.starts, "entries begin at the same places however they were found");
    }

    #[test]
    fn only_what_differs_is_fresh() {
        use EntryKind::{Blob, Gitlink, Tree};
        let (f, d, g) = ("100644", "40000", "160000");
        check(&[], &[], &[]);
        check(&[(f, "a", 1)], &[], &[]);
        check(&[], &[(f, "a", 1), (d, "b", 2)], &[(Blob, "a", 1, None), (Tree, "b", 2, None)]);
        check(
            &[(f, "a", 1), (f, "b", 2), (f, "c", 3)],
            &[(f, "a", 1), (f, "b", 9), (f, "c", 3)],
            &[(Blob, "b", 9, Some(2))],
        );
        check(&[(f, "a", 1), (f, "c", 3)], &[(f, "a", 1), (g, "b", 2), (f, "c", 3)], &[(Gitlink, "b", 2, None)]);
        check(&[(f, "a", 1), (f, "b", 2), (f, "c", 3)], &[(f, "c", 4)], &[(Blob, "c", 4, Some(3))]);
        // The last entry may be longer or shorter, or the beginning of another.
        check(&[(f, "a", 1)], &[(f, "a", 1), (f, "aa", 1)], &[(Blob, "aa", 1, None)]);
        check(&[(f, "a", 1), (f, "aa", 1)], &[(f, "aa", 1)], &[]);
        check(&[(f, "a", 7)], &[(f, "a", 8)], &[(Blob, "a", 8, Some(7))]);
        // A file became executable, or a directory; directories sort as if their names ended in a slash.
        check(&[(f, "a", 1)], &[("100755", "a", 1)], &[(Blob, "a", 1, Some(1))]);
        check(&[(f, "a", 1), (f, "a.c", 2)], &[(f, "a.c", 2), (d, "a", 3)], &[(Tree, "a", 3, None)]);
    }

    #[test]
    fn long_trees_of_all_changes_are_compared_rightly() {
        let names: Vec<String> = (0..300).map(|n| format!("{n:03}{}", "x".repeat(n * 7 % 40))).collect();
        let before: Vec<_> = names.iter().map(|name| ("100644", &name[..], 1)).collect();
        for changed in [0, 1, 2, 150, 298, 299] {
            let mut now = before.clone();
            now[changed].2 = 2;
            check(&before, &now, &[(EntryKind::Blob, &names[changed], 2, Some(1))]);
            now.remove(changed);
            check(&before, &now, &[]);
            check(&now, &before, &[(EntryKind::Blob, &names[changed], 1, None)]);
        }
        let others: Vec<_> = before.iter().map(|(mode, name, _)| (*mode, *name, 3)).collect();
        let all: Vec<_> = names.iter().map(|name| (EntryKind::Blob, &name[..], 3, Some(1))).collect();
        check(&before, &others, &all);
    }

    #[test]
    fn what_is_malformed_is_noticed_wherever_it_stands() {
        let sound = tree(&[("100644", "a", 1), ("100644", "b", 2), ("100644", "c", 3)]);
        for before in [vec![], sound.clone(), tree(&[("100644", "b", 5)])] {
            let (before, _) = compared(&Tree::default(), before).expect("is well-formed");
            for cut in 1..sound.len() {
                let is_whole = cut % (sound.len() / 3) == 0;
                assert_eq!(compared(&before, sound[..cut].to_vec()).is_some(), is_whole, "{cut}");
            }
            for wrong in ["8", "", "10064478", "x"] {
                assert!(compared(&before, tree(&[("100644", "a", 1), (wrong, "b", 2)])).is_none(), "{wrong}");
            }
            assert!(compared(&before, tree(&[("100644", "", 1)])).is_none());
        }
    }

    #[test]
    fn modes_mean_what_they_mean_to_git() {
        let check = |text: &str, expected: EntryKind| {
            let (kind, name) = mode(format!("{text} name").as_bytes(), 0).expect("it is one");
            assert!(kind == expected && name == text.len() + 1, "{text}");
        };
        for file in ["100644", "100755", "100664", "0100000", "120000", "7777000000100644"] {
            check(file, EntryKind::Blob);
        }
        for directory in ["40000", "040000", "40755", "200040000"] {
            check(directory, EntryKind::Tree);
        }
        for other in ["160000", "0", "644", "10644", "20000", "60000", "140000", "170000", "777777"] {
            check(other, EntryKind::Gitlink);
        }
    }

    #[test]
    fn parts_below_an_end_are_counted() {
        for starts in
            [vec![0], vec![5, 9], vec![0, 1, 2, 3, 1000], vec![0, 997, 998, 999, 1000], vec![3, 30, 300, 3000]]
        {
            for end in starts[0]..*starts.last().expect("there is one") + 2 {
                let expected = starts.iter().filter(|start| **start <= end).count() - 1;
                assert_eq!(whole_below(&starts, end), expected, "{starts:?} {end}");
            }
        }
    }
}

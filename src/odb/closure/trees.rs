//! Trees, path by path.
//!
//! In: root trees, new and known. Out: what is below the new ones and not below the known ones. All trees of one path are
//! read together, in the order in which they are stored: their bases are at hand, and each is compared with the one before
//! it, so that only the entries that differ are looked at.

use super::{Broken, Effort, Marks, Numbers};
use crate::stream::Pulse;
use anyhow::{Result, anyhow};
use bstr::ByteSlice;
use gix_hash::oid;
use gix_object::Kind;
use std::cmp::Ordering;
use std::ops::Range;

/// Known trees that may be read beyond the compared ones, for [`Effort::Exact`]: these many, and four for each that was read anyway.
const HELD_BEYOND: u64 = 2048;

/// The trees that stand at one path.
#[derive(Default)]
struct Level {
    new: Vec<u32>,
    held: Vec<u32>,
}

/// A tree as it was read.
#[derive(Default)]
struct Tree {
    bytes: Vec<u8>,
    /// Where its entries begin; the last of these is its end.
    starts: Vec<usize>,
    /// Where those begin that the tree before it did not have.
    fresh: Vec<usize>,
}

/// What an entry points to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EntryKind {
    Tree,
    Blob,
    Gitlink,
}

/// A sub-tree met at the current level.
struct Child {
    name: Range<usize>,
    number: u32,
    held: bool,
}

pub(super) struct Trees<'w, 'a> {
    numbers: &'w mut Numbers<'a>,
    pulse: &'w mut dyn Pulse,
    found: Marks,
    held: Marks,
    /// How many objects were found, the caller's included.
    count: u64,
    /// How many trees were read.
    read: u64,
    /// Known trees that were not looked into.
    unread: Vec<u32>,
    /// Known trees that were.
    opened: Marks,
    /// A tree that was taken for new is a known one.
    mistaken: bool,
    current: Tree,
    last: Tree,
    names: Vec<u8>,
    children: Vec<Child>,
}

impl<'w, 'a> Trees<'w, 'a> {
    /// `held` and `count` go on from what the caller found; below what is in `found` already nothing is looked for.
    pub(super) fn new(
        numbers: &'w mut Numbers<'a>,
        found: Marks,
        held: Marks,
        count: u64,
        pulse: &'w mut dyn Pulse,
    ) -> Self {
        Trees {
            numbers,
            pulse,
            found,
            held,
            count,
            read: 0,
            unread: Vec::new(),
            opened: Marks::default(),
            mistaken: false,
            current: Tree::default(),
            last: Tree::default(),
            names: Vec::new(),
            children: Vec::new(),
        }
    }

    /// The objects found, and those known.
    pub(super) fn into_marks(self) -> (Marks, Marks) {
        (self.found, self.held)
    }

    /// Finds what is below `roots` and not below the roots at the boundary; `known` are trees the other side named itself.
    ///
    /// # Errors
    /// [`Broken`] when something is missing or corrupt.
    pub(super) fn find(&mut self, roots: &[u32], boundary: &[u32], known: &[u32], effort: Effort) -> Result<()> {
        for tree in boundary.iter().chain(known) {
            self.held.insert(*tree);
        }
        self.unread.extend(known);
        if effort == Effort::Exact {
            self.open_held(u64::MAX)?;
        }
        self.descend(roots, boundary)?;
        if effort == Effort::Exact {
            self.open_held(self.read.saturating_mul(4).saturating_add(HELD_BEYOND))?;
        }
        if self.mistaken {
            // Rare: a known tree was met at a path where only new ones stood. What hangs on it alone is known as well.
            self.count -= self.found.len();
            self.found = Marks::default();
            self.descend(roots, &[])?;
        }
        Ok(())
    }

    /// Walks down from the roots; what is known stays away.
    fn descend(&mut self, roots: &[u32], boundary: &[u32]) -> Result<()> {
        let mut top = Level { new: Vec::new(), held: boundary.to_vec() };
        for root in roots {
            self.meet_new(*root, &mut top.new);
        }
        let mut levels = vec![top];
        while let Some(mut level) = levels.pop() {
            if level.new.is_empty() {
                self.unread.append(&mut level.held);
            } else {
                self.level(level)?;
                self.group(&mut levels);
            }
        }
        Ok(())
    }

    /// Marks a new object; a tree met for the first time is put on `trees`.
    fn meet_new(&mut self, number: u32, trees: &mut Vec<u32>) {
        if !self.held.contains(number) && self.found.insert(number) {
            self.count += 1;
            trees.push(number);
        }
    }

    /// Marks a known object.
    fn meet_held(&mut self, number: u32, kind: EntryKind) {
        if self.held.insert(number) && self.found.contains(number) {
            if kind == EntryKind::Tree {
                self.mistaken = true;
            } else {
                self.found.remove(number);
                self.count -= 1;
            }
        }
    }

    /// Reads all trees of one path, known ones first. Their sub-trees are left in `children`.
    fn level(&mut self, mut level: Level) -> Result<()> {
        self.numbers.sort_as_stored(&mut level.held);
        self.numbers.sort_as_stored(&mut level.new);
        self.last.clear();
        self.names.clear();
        self.children.clear();
        for number in level.held {
            self.opened.insert(number);
            // A damaged known tree hides nothing: what is below is taken for new.
            match self.read(number) {
                Err(error) if error.is::<Broken>() => continue,
                read => read?,
            }
            self.visit_held(true)?;
            std::mem::swap(&mut self.current, &mut self.last);
        }
        for number in level.new {
            self.read(number)?;
            self.visit_new(number)?;
            std::mem::swap(&mut self.current, &mut self.last);
        }
        Ok(())
    }

    /// Reads a tree and compares it with the last one.
    fn read(&mut self, number: u32) -> Result<()> {
        self.read += 1;
        self.pulse.tick(self.count)?;
        let bad = |cause| Broken::bad("tree", self.numbers.id(number), cause);
        match self.numbers.read(number, &mut self.current.bytes).map_err(bad)? {
            Kind::Tree => {}
            kind @ (Kind::Commit | Kind::Blob | Kind::Tag) => return Err(bad(anyhow!("it is a {kind}"))),
        }
        let hash_len = self.numbers.objects().hash_kind().len_in_bytes();
        self.current.compare(&self.last, hash_len).ok_or_else(|| bad(anyhow!("a malformed entry")))
    }

    fn visit_new(&mut self, tree: u32) -> Result<()> {
        let current = std::mem::take(&mut self.current);
        for &at in &current.fresh {
            let (kind, name, id) = self.entry(&current, at);
            if kind == EntryKind::Gitlink {
                continue;
            }
            let expected = if kind == EntryKind::Tree { "tree" } else { "blob" };
            let number = match self.numbers.of(id)? {
                Some(number) => number,
                None => {
                    let from = self.numbers.id(tree);
                    return Err(Broken::missing(expected, id).context(format!("tree {from} cannot be followed")));
                }
            };
            if !self.held.contains(number) && self.found.insert(number) {
                self.count += 1;
                if kind == EntryKind::Tree {
                    self.child(&current.bytes[name], number, false);
                }
            }
        }
        self.current = current;
        Ok(())
    }

    /// Marks a known tree's entries; what is missing there does not matter. With `compared` its sub-trees become children, else they wait.
    fn visit_held(&mut self, compared: bool) -> Result<()> {
        let current = std::mem::take(&mut self.current);
        for &at in &current.fresh {
            let (kind, name, id) = self.entry(&current, at);
            if kind == EntryKind::Gitlink {
                continue;
            }
            let Some(number) = self.numbers.of(id)? else { continue };
            self.meet_held(number, kind);
            if kind == EntryKind::Tree {
                if compared {
                    self.child(&current.bytes[name], number, true);
                } else if !self.opened.contains(number) {
                    self.unread.push(number);
                }
            }
        }
        self.current = current;
        Ok(())
    }

    fn entry<'t>(&self, tree: &'t Tree, at: usize) -> (EntryKind, Range<usize>, &'t oid) {
        let entry = Entry::parse(&tree.bytes, at, self.numbers.objects().hash_kind().len_in_bytes())
            .expect("it was parsed when it was compared");
        (entry.kind, entry.name, oid::from_bytes_unchecked(&tree.bytes[entry.id]))
    }

    fn child(&mut self, name: &[u8], number: u32, held: bool) {
        let start = self.names.len();
        self.names.extend_from_slice(name);
        self.children.push(Child { name: start..self.names.len(), number, held });
    }

    /// Sub-trees of one name make one level.
    fn group(&mut self, levels: &mut Vec<Level>) {
        let names = &self.names;
        self.children.sort_by(|a, b| names[a.name.clone()].cmp(&names[b.name.clone()]));
        for same in self.children.chunk_by(|a, b| names[a.name.clone()] == names[b.name.clone()]) {
            let mut level = Level::default();
            for child in same {
                if child.held { &mut level.held } else { &mut level.new }.push(child.number);
            }
            if level.held.len() > 1 {
                level.held.sort_unstable();
                level.held.dedup();
            }
            levels.push(level);
        }
    }

    /// Looks into known trees that were not compared, at most `limit` of them.
    fn open_held(&mut self, limit: u64) -> Result<()> {
        let mut left = limit;
        self.last.clear();
        while let Some(number) = self.unread.pop() {
            if !self.opened.insert(number) {
                continue;
            }
            if left == 0 {
                break;
            }
            left -= 1;
            match self.read(number) {
                Err(error) if error.is::<Broken>() => continue,
                read => read?,
            }
            self.visit_held(false)?;
        }
        Ok(())
    }
}

impl Tree {
    fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
    }

    /// Finds where the entries begin, and which of them `last` does not have. `None` when one is malformed.
    ///
    /// Runs of entries that are the same are passed over as bytes; where they end both trees stand at an entry again, by name.
    fn compare(&mut self, last: &Tree, hash_len: usize) -> Option<()> {
        self.starts.clear();
        self.fresh.clear();
        let (ours, theirs) = (&self.bytes, &last.bytes);
        let (mut at, mut their) = (0, 0);
        loop {
            if let Some(&their_at) = last.starts.get(their) {
                let same = their_at + common(&ours[at..], &theirs[their_at..]);
                let run = last.starts[their..].partition_point(|start| *start <= same) - 1;
                self.starts.extend(last.starts[their..their + run].iter().map(|start| at + (start - their_at)));
                their += run;
                at += last.starts[their] - their_at;
            }
            self.starts.push(at);
            if at == ours.len() {
                return Some(());
            }
            let entry = Entry::parse(ours, at, hash_len)?;
            self.fresh.push(at);
            while let Some(&start) = last.starts.get(their).filter(|start| **start < theirs.len()) {
                let order = Entry::parse(theirs, start, hash_len)?.order(theirs, &entry, ours);
                their += usize::from(order != Ordering::Greater);
                if order != Ordering::Less {
                    break;
                }
            }
            at = entry.id.end;
        }
    }
}

/// One entry of a tree, as places in its bytes.
struct Entry {
    kind: EntryKind,
    name: Range<usize>,
    id: Range<usize>,
}

impl Entry {
    /// `<mode> <name>\0<id>`; `None` when it is malformed or cut off.
    fn parse(bytes: &[u8], at: usize, hash_len: usize) -> Option<Self> {
        let mut mode = 0u32;
        let mut place = at;
        loop {
            let byte = *bytes.get(place)?;
            place += 1;
            match byte {
                b'0'..=b'7' if place - at <= 7 => mode = mode << 3 | u32::from(byte - b'0'),
                b' ' if place - at > 1 => break,
                _ => return None,
            }
        }
        let name = place..place + bytes[place..].find_byte(0)?;
        let id = name.end + 1..name.end + 1 + hash_len;
        if name.is_empty() || id.end > bytes.len() {
            return None;
        }
        let kind = match mode & 0o170_000 {
            0o040_000 => EntryKind::Tree,
            0o160_000 => EntryKind::Gitlink,
            _ => EntryKind::Blob,
        };
        Some(Entry { kind, name, id })
    }

    /// Which comes first in a tree: names are compared as if those of trees ended in a slash.
    fn order(&self, bytes: &[u8], other: &Entry, other_bytes: &[u8]) -> Ordering {
        let end = |kind| (kind == EntryKind::Tree).then_some(&b'/');
        let ours = bytes[self.name.clone()].iter().chain(end(self.kind));
        ours.cmp(other_bytes[other.name.clone()].iter().chain(end(other.kind)))
    }
}

/// Bytes compared at once.
const STEP: usize = 32;

/// How many bytes are the same from the beginning.
fn common(a: &[u8], b: &[u8]) -> usize {
    let (a_steps, _) = a.as_chunks::<STEP>();
    let (b_steps, _) = b.as_chunks::<STEP>();
    let same = a_steps.iter().zip(b_steps).take_while(|(a, b)| a == b).count() * STEP;
    same + a[same..].iter().zip(&b[same..]).take_while(|(a, b)| a == b).count()
}

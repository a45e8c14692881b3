//! Commits between wanted and known ones.
//!
//! In: numbers of commits. Out: the new commits, the known ones they rest on, and the root trees of both.

use super::{Broken, Marks, Numbers};
use crate::stream::Pulse;
use anyhow::{Result, anyhow};
use gix_hash::ObjectId;
use gix_object::Kind;
use std::collections::{BinaryHeap, HashMap};

/// How many commits older than all new ones are looked at, in case their clocks were wrong (git's number).
const SLOP: u32 = 5;
/// A commit's tree or parent that is missing, which is an error only where the commit is new.
const MISSING: u32 = u32::MAX;

/// What a walk found.
#[derive(Default)]
pub(super) struct History {
    /// Commits reachable from the wanted and not from the known ones.
    pub(super) new: Marks,
    /// Known commits that were met.
    pub(super) boundary: Marks,
    /// The trees of the new commits, each once.
    pub(super) new_roots: Vec<u32>,
    /// The trees of the known commits that are parents of new ones, each once.
    pub(super) boundary_roots: Vec<u32>,
}

/// What a commit says, as names; buffers are used again.
#[derive(Default)]
struct Commit {
    generation: u32,
    date: u64,
    tree: Option<ObjectId>,
    parents: Vec<ObjectId>,
}

impl Commit {
    /// Reads a commit: from the commit-graph where it stands there, else from the object.
    fn read(&mut self, numbers: &Numbers<'_>, number: u32, buffer: &mut Vec<u8>) -> Result<()> {
        self.parents.clear();
        if self.from_graph(numbers, number) {
            return Ok(());
        }
        let id = numbers.id(number);
        let bad = |cause| Broken::bad("commit", id, cause);
        match numbers.read(number, buffer).map_err(bad)? {
            Kind::Commit => self.parse(buffer).ok_or_else(|| bad(anyhow!("it has no tree, or a malformed parent"))),
            kind @ (Kind::Tree | Kind::Blob | Kind::Tag) => Err(bad(anyhow!("it is a {kind}"))),
        }
    }

    fn from_graph(&mut self, numbers: &Numbers<'_>, number: u32) -> bool {
        let Some(graph) = numbers.objects().graph() else { return false };
        let Some(commit) = graph.commit_by_id(numbers.id(number)) else { return false };
        self.generation = commit.generation();
        self.date = commit.committer_timestamp();
        self.tree = Some(commit.root_tree_id().to_owned());
        for parent in commit.iter_parents() {
            match parent {
                Ok(position) => self.parents.push(graph.id_at(position).to_owned()),
                Err(_) => {
                    // The object itself knows better than a damaged graph.
                    self.parents.clear();
                    return false;
                }
            }
        }
        true
    }

    /// As lenient as git: only the tree and the parents must be well-formed, a date that is not counts as 0.
    fn parse(&mut self, content: &[u8]) -> Option<()> {
        self.generation = u32::MAX;
        self.date = 0;
        let mut lines = content.split(|byte| *byte == b'\n');
        self.tree = Some(ObjectId::from_hex(lines.next()?.strip_prefix(b"tree ")?).ok()?);
        let author = loop {
            let line = lines.next().unwrap_or_default();
            match line.strip_prefix(b"parent ") {
                Some(hex) => self.parents.push(ObjectId::from_hex(hex).ok()?),
                None => break line,
            }
        };
        if author.starts_with(b"author ") {
            self.date = lines.next().and_then(|line| line.strip_prefix(b"committer ")).and_then(date).unwrap_or(0);
        }
        Some(())
    }
}

/// The seconds behind the last `>` of a committer line.
fn date(line: &[u8]) -> Option<u64> {
    let end = line.iter().rposition(|byte| *byte == b'>')?;
    let digits = line[end + 1..].trim_ascii_start();
    let digits = &digits[..digits.iter().take_while(|byte| byte.is_ascii_digit()).count()];
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The number of something a new commit names.
fn named(numbers: &mut Numbers<'_>, kind: &'static str, id: &ObjectId) -> Result<u32> {
    numbers.of(id)?.ok_or_else(|| Broken::missing(kind, id))
}

/// Walks from `wants` until it meets commits that are themselves named in `known`: what a push or a fetch of what was added
/// since needs, without reading the known commits. `None` when that did not end soon.
///
/// # Errors
/// [`Broken`] for what new commits name and is missing or corrupt.
pub(super) fn near(
    numbers: &mut Numbers<'_>,
    wants: &[u32],
    known: &[ObjectId],
    buffer: &mut Vec<u8>,
    pulse: &mut dyn Pulse,
) -> Result<Option<History>> {
    let known = Names::new(known);
    let patience = known.ids.len().saturating_mul(2).saturating_add(256);
    let mut history = History::default();
    let mut roots = Marks::default();
    let mut boundary = Vec::new();
    let mut commit = Commit::default();
    let mut pending: Vec<u32> = Vec::new();
    for want in wants {
        meet(*want, numbers, &known, &mut history, &mut pending, &mut boundary);
    }
    let mut count = 0;
    while let Some(number) = pending.pop() {
        if count == patience && !known.ids.is_empty() {
            return Ok(None);
        }
        count += 1;
        pulse.tick(count as u64)?;
        commit.read(numbers, number, buffer)?;
        let tree = commit.tree.as_ref().map(|id| named(numbers, "tree", id)).transpose()?;
        history.new_roots.extend(tree.filter(|tree| roots.insert(*tree)));
        for parent in &commit.parents {
            let parent = named(numbers, "commit", parent)?;
            meet(parent, numbers, &known, &mut history, &mut pending, &mut boundary);
        }
    }
    for number in boundary {
        match commit.read(numbers, number, buffer) {
            Err(error) if error.is::<Broken>() => continue,
            read => read?,
        }
        if let Some(tree) = commit.tree.as_ref().map(|id| numbers.of(id)).transpose()?.flatten() {
            if roots.insert(tree) {
                history.boundary_roots.push(tree);
            }
        }
    }
    Ok(Some(history))
}

/// Sorts a commit that was met into known and new ones.
fn meet(
    number: u32,
    numbers: &Numbers<'_>,
    known: &Names<'_>,
    history: &mut History,
    pending: &mut Vec<u32>,
    boundary: &mut Vec<u32>,
) {
    if history.new.contains(number) || history.boundary.contains(number) {
        return;
    }
    if known.contains(numbers.id(number)) {
        history.boundary.insert(number);
        boundary.push(number);
    } else {
        history.new.insert(number);
        pending.push(number);
    }
}

/// Names to be met: a hash table of positions, because there may be as many as refs.
struct Names<'a> {
    ids: &'a [ObjectId],
    slots: Vec<u32>,
}

impl<'a> Names<'a> {
    fn new(ids: &'a [ObjectId]) -> Self {
        let ids = &ids[..ids.len().min(MISSING as usize)];
        let mut slots = vec![MISSING; (ids.len() * 2).next_power_of_two()];
        for (index, id) in ids.iter().enumerate() {
            let mut at = Self::hash(id) & (slots.len() - 1);
            while slots[at] != MISSING && ids[slots[at] as usize] != *id {
                at = (at + 1) & (slots.len() - 1);
            }
            slots[at] = index as u32;
        }
        Names { ids, slots }
    }

    /// Names are hashes already.
    fn hash(id: &gix_hash::oid) -> usize {
        id.as_bytes().iter().skip(1).take(4).fold(0, |hash, byte| hash << 8 | usize::from(*byte))
    }

    fn contains(&self, id: &gix_hash::oid) -> bool {
        let mut at = Self::hash(id) & (self.slots.len() - 1);
        while let Some(known) = self.ids.get(self.slots[at] as usize) {
            if **known == *id {
                return true;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        false
    }
}

/// Walks from both sides, youngest first, until everything that is left is known.
///
/// # Errors
/// [`Broken`] for what new commits name and is missing or corrupt.
pub(super) fn between(
    numbers: &mut Numbers<'_>,
    wants: &[u32],
    known: &[u32],
    buffer: &mut Vec<u8>,
    pulse: &mut dyn Pulse,
) -> Result<History> {
    if known.is_empty() {
        return all(numbers, wants, buffer, pulse);
    }
    let mut walk = Walk::new(numbers, buffer, pulse);
    for number in known {
        walk.reach(*number, KNOWN)?;
    }
    for number in wants {
        walk.reach(*number, NEW)?;
    }
    walk.run()?;
    walk.into_history()
}

/// Everything behind `wants`.
fn all(numbers: &mut Numbers<'_>, wants: &[u32], buffer: &mut Vec<u8>, pulse: &mut dyn Pulse) -> Result<History> {
    Ok(near(numbers, wants, &[], buffer, pulse)?.expect("without known commits there is no other end"))
}

/// Reached from a wanted commit.
const NEW: u8 = 1;
/// Reached from a known commit.
const KNOWN: u8 = 2;
/// Waits in the queue.
const QUEUED: u8 = 4;

/// A commit that was met, with what it names as numbers.
struct Met {
    number: u32,
    tree: u32,
    parents: u32,
    parent_count: u32,
    generation: u32,
    date: u64,
    flags: u8,
}

impl Met {
    fn is_new(&self) -> bool {
        self.flags & (NEW | KNOWN) == NEW
    }
}

/// The walk from both sides. A commit is known as soon as one known descendant is met, also when its parents have been passed already.
struct Walk<'w, 'a> {
    numbers: &'w mut Numbers<'a>,
    buffer: &'w mut Vec<u8>,
    pulse: &'w mut dyn Pulse,
    met: Vec<Met>,
    parents: Vec<u32>,
    by_number: HashMap<u32, u32>,
    queue: BinaryHeap<(u32, u64, u32)>,
    /// How many in the queue are new.
    open: usize,
    commit: Commit,
}

impl<'w, 'a> Walk<'w, 'a> {
    fn new(numbers: &'w mut Numbers<'a>, buffer: &'w mut Vec<u8>, pulse: &'w mut dyn Pulse) -> Self {
        Walk {
            numbers,
            buffer,
            pulse,
            met: Vec::new(),
            parents: Vec::new(),
            by_number: HashMap::new(),
            queue: BinaryHeap::new(),
            open: 0,
            commit: Commit::default(),
        }
    }

    /// Meets a commit from one side.
    fn reach(&mut self, number: u32, side: u8) -> Result<()> {
        let at = match self.by_number.get(&number) {
            Some(at) => *at,
            None => match self.meet(number) {
                Ok(at) => at,
                // What a damaged known commit hides is taken for new.
                Err(error) if side == KNOWN && error.is::<Broken>() => return Ok(()),
                Err(error) => return Err(error),
            },
        };
        let met = &mut self.met[at as usize];
        if met.flags & (side | KNOWN) != 0 {
            return Ok(());
        }
        let waiting = met.flags & QUEUED != 0;
        if waiting && met.is_new() {
            self.open -= 1;
        }
        met.flags |= side | QUEUED;
        if met.is_new() {
            self.open += 1;
        }
        if !waiting {
            self.queue.push((met.generation, met.date, at));
        }
        Ok(())
    }

    /// Reads a commit for the first time.
    fn meet(&mut self, number: u32) -> Result<u32> {
        self.commit.read(self.numbers, number, self.buffer)?;
        let at = u32::try_from(self.met.len())?;
        let tree = match &self.commit.tree {
            Some(tree) => self.numbers.of(tree)?.unwrap_or(MISSING),
            None => MISSING,
        };
        let parents = u32::try_from(self.parents.len())?;
        for parent in &self.commit.parents {
            self.parents.push(self.numbers.of(parent)?.unwrap_or(MISSING));
        }
        let parent_count = u32::try_from(self.commit.parents.len())?;
        let Commit { generation, date, .. } = self.commit;
        self.met.push(Met { number, tree, parents, parent_count, generation, date, flags: 0 });
        self.by_number.insert(number, at);
        Ok(at)
    }

    fn run(&mut self) -> Result<()> {
        let mut oldest = (u32::MAX, u64::MAX);
        let mut slop = SLOP;
        let mut done = 0;
        while let Some((generation, date, at)) = self.queue.pop() {
            if self.open > 0 || (generation, date) >= oldest {
                slop = SLOP;
            } else if slop == 0 {
                break;
            } else {
                slop -= 1;
            }
            done += 1;
            self.pulse.tick(done)?;
            let met = &mut self.met[at as usize];
            met.flags &= !QUEUED;
            let new = met.is_new();
            let parents = met.parents..met.parents + met.parent_count;
            if new {
                self.open -= 1;
                oldest = oldest.min((generation, date));
            }
            for parent in parents {
                match self.parents[parent as usize] {
                    MISSING if new => return Err(self.missing(at)),
                    MISSING => {}
                    parent => self.reach(parent, if new { NEW } else { KNOWN })?,
                }
            }
        }
        Ok(())
    }

    /// The error for a new commit whose tree or parent is missing.
    fn missing(&mut self, at: u32) -> anyhow::Error {
        let number = self.met[at as usize].number;
        if let Err(error) = self.commit.read(self.numbers, number, self.buffer) {
            return error;
        }
        let named = self.commit.tree.iter().map(|tree| ("tree", tree));
        for (kind, id) in named.chain(self.commit.parents.iter().map(|parent| ("commit", parent))) {
            match self.numbers.of(id) {
                Ok(Some(_)) => {}
                Ok(None) => return Broken::missing(kind, id),
                Err(error) => return error,
            }
        }
        Broken::bad("commit", self.numbers.id(number), anyhow!("it changed while it was read"))
    }

    fn into_history(mut self) -> Result<History> {
        let mut history = History::default();
        let (mut new_roots, mut boundary_roots) = (Marks::default(), Marks::default());
        for at in 0..self.met.len() {
            let met = &self.met[at];
            if met.flags & KNOWN != 0 {
                history.boundary.insert(met.number);
                continue;
            }
            if met.tree == MISSING {
                return Err(self.missing(at as u32));
            }
            history.new.insert(met.number);
            if new_roots.insert(met.tree) {
                history.new_roots.push(met.tree);
            }
            for parent in met.parents..met.parents + met.parent_count {
                let parent = self.parents[parent as usize];
                let Some(at) = self.by_number.get(&parent) else { continue };
                let parent = &self.met[*at as usize];
                if parent.flags & KNOWN != 0 && parent.tree != MISSING && boundary_roots.insert(parent.tree) {
                    history.boundary_roots.push(parent.tree);
                }
            }
        }
        Ok(history)
    }
}

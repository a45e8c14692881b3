//! Walks over commits: reachability and ancestry, by painting, cut off by generation numbers.
//!
//! In: IDs of commits, or of tags of commits. Out: commits by number, or an answer. Nothing is walked twice, and each
//! step is reported to the pulse. Clock skew may cost time, but never leaves out a commit.

use super::graph::{Commits, GENERATION_UNKNOWN, Missing};
use super::{Header, Objects};
use crate::heap;
use crate::stream::Pulse;
use anyhow::bail;
use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// If only hidden commits are left and no commit-graph shows that they do not hide anything found, this many older than
/// everything found are still walked. git walks 5.
const SLOP: u32 = 64;

/// Objects grouped by kind, with tags followed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Split {
    /// Commits, each once.
    pub commits: Vec<ObjectId>,
    /// Trees and blobs.
    pub others: Vec<(ObjectId, Kind)>,
    /// The tags on the way.
    pub tags: Vec<ObjectId>,
    /// Objects that are missing, or tags that lead to a missing object or to nothing.
    pub missing: Vec<ObjectId>,
}

/// Groups objects by kind. Tags are followed, and listed too. Damaged objects count as missing.
pub fn split(objects: &Objects, ids: &[ObjectId]) -> Split {
    let mut split = Split::default();
    let mut seen = super::ids::IdSet::default();
    let mut content = Vec::new();
    for start in ids {
        let mut id = *start;
        while seen.insert(id) {
            match objects.header_of_others(&id).unwrap_or(None) {
                None => split.missing.push(*start),
                Some(Header { kind: Kind::Commit, .. }) => split.commits.push(id),
                Some(Header { kind: kind @ (Kind::Tree | Kind::Blob), .. }) => split.others.push((id, kind)),
                Some(Header { kind: Kind::Tag, size }) => {
                    if let Ok(Some((target, _))) = objects.tag_target(&id, size, &mut content) {
                        split.tags.push(id);
                        id = target;
                        continue;
                    }
                    split.missing.push(*start);
                }
            }
            break;
        }
    }
    split
}

/// A walk over this many commits will meet many objects.
const MANY: u64 = 64;

/// The order in which commits are walked: by generation where known, so that descendants come first, then by time.
type Rank = (u64, i64, Reverse<u32>);

fn rank(commits: &mut Commits<'_>, number: u32) -> anyhow::Result<Rank> {
    Ok((commits.generation(number), commits.time(number)?, Reverse(number)))
}

/// Marks on commits, by number.
pub(super) struct CommitMarks(Vec<u8>);

impl CommitMarks {
    pub(super) fn new(commits: &Commits<'_>) -> Self {
        CommitMarks(vec![0; commits.len()])
    }

    pub(super) fn of(&self, number: u32) -> u8 {
        self.0.get(number as usize).copied().unwrap_or_default()
    }

    pub(super) fn set(&mut self, number: u32, marks: u8) {
        let at = number as usize;
        if at >= self.0.len() {
            self.0.resize((at + 1).next_power_of_two(), 0);
        }
        self.0[at] |= marks;
    }
}

/// The result of a walk.
pub struct CommitWalk<'a> {
    /// The commits that the numbers refer to.
    pub commits: Commits<'a>,
    /// The commits reachable from the wants and not from hidden ones, newest first.
    pub reachable: Vec<u32>,
    /// Hidden parents of `reachable` commits, each once.
    pub boundary: Vec<u32>,
}

const SEEN: u8 = 1;
const HIDDEN: u8 = 2;
const DONE: u8 = 4;
const BOUNDARY: u8 = 8;

/// Finds all commits reachable from `wants` and not from `hidden`.
///
/// Tags are peeled. A want that leads to a tree or blob adds no commits, a hidden one hides none, and a missing hidden
/// one is ignored. Without a commit-graph, and with clock skew across many commits, the result may include commits that
/// are also reachable from `hidden`: more than needed, never less.
///
/// # Errors
/// When a commit reachable from the wants is missing (a [`Missing`]) or corrupt.
pub fn reachable_commits<'a>(
    objects: &'a Objects,
    wants: &[ObjectId],
    hidden: &[ObjectId],
    pulse: &mut dyn Pulse,
) -> anyhow::Result<CommitWalk<'a>> {
    reachable_since(objects, wants, hidden, i64::MIN, pulse)
}

/// Like [`reachable_commits`], but stops at commits older than `since` and leaves them out.
///
/// # Errors
/// As [`reachable_commits`].
pub fn reachable_since<'a>(
    objects: &'a Objects,
    wants: &[ObjectId],
    hidden: &[ObjectId],
    since: i64,
    pulse: &mut dyn Pulse,
) -> anyhow::Result<CommitWalk<'a>> {
    let mut commits = Commits::new(objects);
    let mut paint = Paint::begin(&mut commits, wants, hidden)?;
    let mut found = paint.spread(&mut commits, since, pulse)?;
    let mut marks = paint.marks;
    found.retain(|(_, _, Reverse(number))| marks.of(*number) & HIDDEN == 0);
    found.sort_by_key(|(generation, time, _)| (Reverse(*time), Reverse(*generation)));
    let reachable: Vec<u32> = found.into_iter().map(|(_, _, Reverse(number))| number).collect();
    let (mut boundary, mut parents) = (Vec::new(), Vec::new());
    for &number in &reachable {
        commits.parents(number, &mut parents)?;
        for &parent in &parents {
            if marks.of(parent) & (HIDDEN | BOUNDARY) == HIDDEN {
                marks.set(parent, BOUNDARY);
                boundary.push(parent);
            }
        }
    }
    Ok(CommitWalk { commits, reachable, boundary })
}

/// The state of a walk; `open` counts the commits in the queue that are not hidden.
struct Paint {
    marks: CommitMarks,
    queue: BinaryHeap<Rank>,
    open: usize,
    /// Scratch space: commits still to be hidden, and their parents.
    stack: Vec<u32>,
    parents: Vec<u32>,
}

impl Paint {
    /// Begins with the commits that `wants` and `hidden` peel to.
    fn begin(commits: &mut Commits<'_>, wants: &[ObjectId], hidden: &[ObjectId]) -> anyhow::Result<Self> {
        let objects = commits.objects();
        let marks = CommitMarks::new(commits);
        let mut paint = Paint { marks, queue: BinaryHeap::new(), open: 0, stack: Vec::new(), parents: Vec::new() };
        for id in hidden {
            if let Some((id, Kind::Commit)) = objects.peel(id)? {
                let number = commits.number(&id);
                paint.hide(commits, number)?;
            }
        }
        for id in wants {
            match objects.peel(id)? {
                Some((id, Kind::Commit)) => {
                    let number = commits.number(&id);
                    paint.meet(commits, number)?;
                }
                Some(_) => {}
                None => bail!(Missing(*id)),
            }
        }
        Ok(paint)
    }

    /// Walks until nothing is open. Returns the commits that were not hidden when they were walked; they may be hidden
    /// now.
    fn spread(&mut self, commits: &mut Commits<'_>, since: i64, pulse: &mut dyn Pulse) -> anyhow::Result<Vec<Rank>> {
        let mut found: Vec<Rank> = Vec::new();
        let mut oldest = i64::MAX;
        let (mut slop, mut steps) = (0, 0);
        let mut parents = Vec::new();
        while let Some(&top) = self.queue.peek() {
            if self.open == 0 {
                // Generations only decrease from here on, so nothing left is a descendant of anything found.
                if found.is_empty() || top.0 != GENERATION_UNKNOWN {
                    break;
                }
                slop = if top.1 >= oldest { 0 } else { slop + 1 };
                if slop > SLOP {
                    break;
                }
            }
            self.queue.pop();
            steps += 1;
            pulse.tick(steps)?;
            if steps == MANY {
                heap::expect_much();
            }
            let (_, time, Reverse(number)) = top;
            let is_hidden = self.marks.of(number) & HIDDEN != 0;
            self.marks.set(number, DONE);
            if !is_hidden {
                self.open -= 1;
                if time < since {
                    continue;
                }
                found.push(top);
                oldest = oldest.min(time);
            }
            commits.parents(number, &mut parents)?;
            for &parent in &parents {
                if is_hidden { self.hide(commits, parent)? } else { self.meet(commits, parent)? }
            }
        }
        Ok(found)
    }

    /// Adds a commit that is wanted, unless it turns out to be hidden.
    fn meet(&mut self, commits: &mut Commits<'_>, number: u32) -> anyhow::Result<()> {
        if self.marks.of(number) & SEEN == 0 {
            self.queue.push(rank(commits, number)?);
            self.marks.set(number, SEEN);
            self.open += usize::from(self.marks.of(number) & HIDDEN == 0);
        }
        Ok(())
    }

    /// Hides a commit, and everything reachable from it that was taken for wanted.
    fn hide(&mut self, commits: &mut Commits<'_>, number: u32) -> anyhow::Result<()> {
        self.stack.push(number);
        while let Some(number) = self.stack.pop() {
            let marks = self.marks.of(number);
            if marks & HIDDEN != 0 {
                continue;
            }
            self.marks.set(number, HIDDEN);
            if marks & DONE != 0 {
                commits.parents(number, &mut self.parents)?;
                self.stack.append(&mut self.parents);
            } else if marks & SEEN != 0 {
                self.open -= 1;
            } else {
                match rank(commits, number) {
                    Ok(rank) => self.queue.push(rank),
                    // The history that a client has need not exist here.
                    Err(error) if error.is::<Missing>() => continue,
                    Err(error) => return Err(error),
                }
                self.marks.set(number, SEEN);
            }
        }
        Ok(())
    }
}

/// Whether `ancestor` is reachable from `descendant`. The answer is exact despite clock skew.
///
/// # Errors
/// When one of them is missing or not a commit, or a commit on the way is missing or corrupt.
pub fn is_ancestor(objects: &Objects, ancestor: &oid, descendant: &oid, pulse: &mut dyn Pulse) -> anyhow::Result<bool> {
    /// The marks: reachable from the ancestor, reachable from the descendant, in the queue.
    const BELOW: u8 = 1;
    const ABOVE: u8 = 2;
    const QUEUED: u8 = 4;
    let mut commits = Commits::new(objects);
    let ancestor = commit_number(&mut commits, ancestor)?;
    let descendant = commit_number(&mut commits, descendant)?;
    let least = commits.generation(ancestor);
    let mut marks = CommitMarks::new(&commits);
    let mut queue = BinaryHeap::new();
    // Only commits reachable from the descendant alone may still lead to the ancestor, since what the ancestor reaches
    // does not lead back to it. `open` counts those in the queue.
    let mut open = 0_usize;
    let mut parents = Vec::new();
    let mut paint = vec![(ancestor, BELOW), (descendant, ABOVE)];
    let mut steps = 0;
    loop {
        for (number, mark) in paint.drain(..) {
            let before = marks.of(number);
            if before & mark == mark {
                continue;
            }
            if number == ancestor && mark & ABOVE != 0 {
                return Ok(true);
            }
            marks.set(number, mark);
            let was_open = before & QUEUED != 0 && before & (BELOW | ABOVE) == ABOVE;
            // Commits of too low a generation cannot lead to the ancestor, nor can anything reachable from them.
            let low = number != ancestor
                && (commits.generation(number) <= least && least != GENERATION_UNKNOWN
                    || least == GENERATION_UNKNOWN && commits.generation(number) != GENERATION_UNKNOWN);
            if before & QUEUED == 0 && !low {
                queue.push(rank(&mut commits, number)?);
                marks.set(number, QUEUED);
            }
            let is_open = !low && (before | mark) & (BELOW | ABOVE) == ABOVE;
            open = open + usize::from(is_open) - usize::from(was_open);
        }
        if open == 0 {
            return Ok(false);
        }
        let Some((_, _, Reverse(number))) = queue.pop() else { return Ok(false) };
        steps += 1;
        pulse.tick(steps)?;
        let mark = marks.of(number) & (BELOW | ABOVE);
        marks.0[number as usize] &= !QUEUED;
        open -= usize::from(mark == ABOVE);
        commits.parents(number, &mut parents)?;
        paint.extend(parents.iter().map(|parent| (*parent, mark)));
    }
}

fn commit_number(commits: &mut Commits<'_>, id: &oid) -> anyhow::Result<u32> {
    match commits.objects().peel(id)? {
        Some((id, Kind::Commit)) => Ok(commits.number(&id)),
        Some((id, kind)) => bail!("object {id} is a {kind}, not a commit"),
        None => bail!(Missing(id.to_owned())),
    }
}

/// Whether each want reaches one of the common commits, which makes a negotiation "ready" (NE-11). Commits older than
/// `oldest`, the time of the oldest common one, are not walked. If a want is not a commit, the answer is no.
///
/// # Errors
/// When a commit on the way is missing or corrupt.
pub fn reaches_all(
    commits: &mut Commits<'_>,
    wants: &[ObjectId],
    common: &[ObjectId],
    oldest: i64,
    pulse: &mut dyn Pulse,
) -> anyhow::Result<bool> {
    const VISITED: u8 = 1;
    const REACHES: u8 = 2;
    let mut marks = CommitMarks::new(commits);
    for id in common {
        let number = commits.number(id);
        marks.set(number, VISITED | REACHES);
    }
    let mut numbers = Vec::with_capacity(wants.len());
    for want in wants {
        let Some((want, Kind::Commit)) = commits.objects().peel(want)? else { return Ok(false) };
        numbers.push(commits.number(&want));
    }
    // Lower generations first: other wants may reach common commits through these only.
    numbers.sort_by_key(|want| commits.generation(*want));
    let mut stack = Vec::new();
    let mut parents = Vec::new();
    let mut steps = 0;
    for want in numbers {
        // An earlier want may have met it, without walking it because it is older than the common commits.
        if marks.of(want) & REACHES == 0 {
            marks.set(want, VISITED);
            stack.push(want);
        }
        while let Some(&number) = stack.last() {
            steps += 1;
            pulse.tick(steps)?;
            commits.parents(number, &mut parents)?;
            if parents.iter().any(|parent| marks.of(*parent) & REACHES != 0) {
                marks.set(number, REACHES);
                stack.pop();
                continue;
            }
            let mut next = None;
            for &parent in &parents {
                if marks.of(parent) & VISITED == 0 {
                    marks.set(parent, VISITED);
                    if commits.time(parent)? >= oldest {
                        next = Some(parent);
                        break;
                    }
                }
            }
            match next {
                Some(parent) => stack.push(parent),
                // Nothing reachable from it is left to visit; it does not reach a common commit.
                None => {
                    stack.pop();
                }
            }
        }
        if marks.of(want) & REACHES == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The answer of [`are_reachable`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reached {
    /// Every target is reachable.
    All,
    /// These targets are not reachable.
    Not(Vec<ObjectId>),
    /// The answer takes more commits than the budget allows.
    OverBudget,
}

/// Whether each of `targets` (commits) is reachable from one of `tips` (commits, or tags of commits; others reach
/// nothing). Walks at most `budget` commits.
///
/// # Errors
/// When a commit on the way is missing or corrupt.
pub fn are_reachable(
    commits: &mut Commits<'_>,
    targets: &[ObjectId],
    tips: &[ObjectId],
    budget: u64,
    pulse: &mut dyn Pulse,
) -> anyhow::Result<Reached> {
    const SEEN: u8 = 1;
    const TARGET: u8 = 2;
    let mut marks = CommitMarks::new(commits);
    let mut left = 0_usize;
    let mut least = GENERATION_UNKNOWN;
    for id in targets {
        let number = commits.number(id);
        if marks.of(number) & TARGET == 0 {
            marks.set(number, TARGET);
            left += 1;
            least = least.min(commits.generation(number));
        }
    }
    let mut queue = BinaryHeap::new();
    let mut parents: Vec<u32> = Vec::new();
    for tip in tips {
        if let Some((tip, Kind::Commit)) = commits.objects().peel(tip)? {
            parents.push(commits.number(&tip));
        }
    }
    let mut steps = 0;
    loop {
        for &number in &parents {
            let before = marks.of(number);
            if before & SEEN != 0 || commits.generation(number) < least {
                continue;
            }
            marks.set(number, SEEN);
            left -= usize::from(before & TARGET != 0);
            queue.push(rank(commits, number)?);
        }
        if left == 0 {
            return Ok(Reached::All);
        }
        let Some((_, _, Reverse(number))) = queue.pop() else { break };
        if steps == budget {
            return Ok(Reached::OverBudget);
        }
        steps += 1;
        pulse.tick(steps)?;
        commits.parents(number, &mut parents)?;
    }
    let unseen = |id: &&ObjectId| commits.known(id).is_none_or(|number| marks.of(number) & SEEN == 0);
    Ok(Reached::Not(targets.iter().filter(unseen).copied().collect()))
}

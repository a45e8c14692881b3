//! Walks over commits: reachable, is_ancestor, generation cut, paint-down.
//!
//! In: names of commits (or tags of them). Out: commits by number, or an answer. Nothing is walked twice, every step is
//! told to the pulse, and clocks that ran backwards may cost time but never leave out a commit.

use super::Objects;
use super::graph::{Commits, GENERATION_UNKNOWN, Missing};
use super::tag;
use crate::heap;
use crate::stream::Pulse;
use anyhow::bail;
use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// How many commits older than all that was found are still looked at, when nothing but hidden ones is left and no
/// commit-graph can tell that none of them hides anything. git has 5 of them.
const SLOP: u32 = 64;

/// Names by what they are, with tags followed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Split {
    /// Commits, each once.
    pub commits: Vec<ObjectId>,
    /// Trees and blobs.
    pub others: Vec<(ObjectId, Kind)>,
    /// The tags passed on the way.
    pub tags: Vec<ObjectId>,
    /// What is not there, or leads to what is not there, or nowhere.
    pub missing: Vec<ObjectId>,
}

/// Splits names by what they are; tags are followed, and listed too. What is damaged counts as missing.
pub fn split(objects: &Objects, ids: &[ObjectId]) -> Split {
    let mut split = Split::default();
    let mut seen = super::ids::IdSet::default();
    let mut content = Vec::new();
    let mut target = |tag: &ObjectId| {
        objects.find(tag, &mut content).ok()??;
        tag::target(&content, objects.hash_kind()).map(|(target, _)| target)
    };
    for start in ids {
        let mut id = *start;
        while seen.insert(id) {
            match objects.kind(&id).unwrap_or(None) {
                None => split.missing.push(*start),
                Some(Kind::Commit) => split.commits.push(id),
                Some(kind @ (Kind::Tree | Kind::Blob)) => split.others.push((id, kind)),
                Some(Kind::Tag) => {
                    if let Some(target) = target(&id) {
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

/// Whoever has walked over so many commits will meet many objects.
const MANY: u64 = 64;

/// The order in which commits are looked at: descendants first where generations tell, else the newest.
type Rank = (u64, i64, Reverse<u32>);

fn rank(commits: &mut Commits<'_>, number: u32) -> anyhow::Result<Rank> {
    Ok((commits.generation(number), commits.time(number)?, Reverse(number)))
}

/// Marks of commits, by number.
pub(super) struct Marks(Vec<u8>);

impl Marks {
    pub(super) fn new(commits: &Commits<'_>) -> Self {
        Marks(vec![0; commits.len()])
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

/// What a walk found.
pub struct CommitWalk<'a> {
    /// All that is known of the commits, by number.
    pub commits: Commits<'a>,
    /// The commits reachable from the wants and not from what is hidden, newest first.
    pub reachable: Vec<u32>,
    /// Hidden parents of these, each once.
    pub boundary: Vec<u32>,
}

const SEEN: u8 = 1;
const HIDDEN: u8 = 2;
const DONE: u8 = 4;
const BOUNDARY: u8 = 8;

/// All commits that are reachable from `wants` and not from `hidden`.
///
/// Tags are peeled; a want that leads to a tree or blob has no commits, a hidden one hides none, and one that is missing
/// is passed over. Where no commit-graph helps and clocks ran backwards by more than some commits, the result may hold
/// commits that are reachable from `hidden` too: more than needed, never less.
///
/// # Errors
/// When a commit on the way from the wants is missing (a [`Missing`]), or one is corrupt.
pub fn reachable_commits<'a>(
    objects: &'a Objects,
    wants: &[ObjectId],
    hidden: &[ObjectId],
    pulse: &mut dyn Pulse,
) -> anyhow::Result<CommitWalk<'a>> {
    reachable_since(objects, wants, hidden, i64::MIN, pulse)
}

/// The same of those that are not older than `since`, and behind no older one.
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

/// A walk's queue; `open` counts those in it that are not hidden.
struct Paint {
    marks: Marks,
    queue: BinaryHeap<Rank>,
    open: usize,
    /// Lent: what is still to be hidden, and its parents.
    stack: Vec<u32>,
    parents: Vec<u32>,
}

impl Paint {
    /// With the commits that wants and what is hidden lead to.
    fn begin(commits: &mut Commits<'_>, wants: &[ObjectId], hidden: &[ObjectId]) -> anyhow::Result<Self> {
        let objects = commits.objects();
        let marks = Marks::new(commits);
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

    /// Goes back from commit to commit until nothing is open. Out: what was not hidden when its turn came; it may be since then.
    fn spread(&mut self, commits: &mut Commits<'_>, since: i64, pulse: &mut dyn Pulse) -> anyhow::Result<Vec<Rank>> {
        let mut found: Vec<Rank> = Vec::new();
        let mut oldest = i64::MAX;
        let (mut slop, mut steps) = (0, 0);
        let mut parents = Vec::new();
        while let Some(&top) = self.queue.peek() {
            if self.open == 0 {
                // Generations only fall from here on: what is left is no descendant of anything found.
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

    /// A commit that is wanted, unless it turns out to be hidden.
    fn meet(&mut self, commits: &mut Commits<'_>, number: u32) -> anyhow::Result<()> {
        if self.marks.of(number) & SEEN == 0 {
            self.queue.push(rank(commits, number)?);
            self.marks.set(number, SEEN);
            self.open += usize::from(self.marks.of(number) & HIDDEN == 0);
        }
        Ok(())
    }

    /// A commit that is hidden, and with it all that lies behind and was taken for wanted.
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
                    // What lies behind the client's history need not be here.
                    Err(error) if error.is::<Missing>() => continue,
                    Err(error) => return Err(error),
                }
                self.marks.set(number, SEEN);
            }
        }
        Ok(())
    }
}

/// Whether `ancestor` is reachable from `descendant`. Exact, whatever clocks say.
///
/// # Errors
/// When one of them is missing or no commit, or a commit on the way is missing or corrupt.
pub fn is_ancestor(objects: &Objects, ancestor: &oid, descendant: &oid, pulse: &mut dyn Pulse) -> anyhow::Result<bool> {
    /// Reachable from the ancestor, from the descendant, in the queue.
    const BELOW: u8 = 1;
    const ABOVE: u8 = 2;
    const QUEUED: u8 = 4;
    let mut commits = Commits::new(objects);
    let ancestor = commit_number(&mut commits, ancestor)?;
    let descendant = commit_number(&mut commits, descendant)?;
    let least = commits.generation(ancestor);
    let mut marks = Marks::new(&commits);
    let mut queue = BinaryHeap::new();
    // Only what is reachable from the descendant alone may still lead to the ancestor: what the ancestor reaches cannot
    // lead back to it. `open` counts those in the queue.
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
            // The generation cuts what lies too low to lead to the ancestor, and so all that lies behind it.
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

/// Whether each want reaches one of the common commits: then a negotiation is «ready» (NE-11). Commits older than
/// `oldest`, the time of the oldest common one, are not walked. A want that is no commit says nothing: the answer is no.
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
    let mut marks = Marks::new(commits);
    for id in common {
        let number = commits.number(id);
        marks.set(number, VISITED | REACHES);
    }
    let mut numbers = Vec::with_capacity(wants.len());
    for want in wants {
        let Some((want, Kind::Commit)) = commits.objects().peel(want)? else { return Ok(false) };
        numbers.push(commits.number(&want));
    }
    // Who lies deeper first: others may reach what is common through it alone.
    numbers.sort_by_key(|want| commits.generation(*want));
    let mut stack = Vec::new();
    let mut parents = Vec::new();
    let mut steps = 0;
    for want in numbers {
        // It may have been met and not walked, being older than what is common.
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
                // Nothing is left behind it: it was visited in vain.
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
    /// These are not.
    Not(Vec<ObjectId>),
    /// More commits would have to be looked at than the budget has.
    OverBudget,
}

/// Whether each of `targets` (commits) is reachable from one of `tips` (commits, or tags of commits; others reach
/// nothing). At most `budget` commits are looked at.
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
    let mut marks = Marks::new(commits);
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

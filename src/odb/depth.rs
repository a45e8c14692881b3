//! Finds the part of history that a shallow request asks for, and the commits where it ends.
//!
//! In: the commits it begins with, and a number of commits or a set of revisions. Out: an [`Extent`]. Only commits
//! before its end are read, and no trees.

use super::Objects;
use super::graph::Commits;
use super::ids::IdSet;
use super::walk::{CommitMarks, reachable_since};
use crate::stream::Pulse;
use gix_hash::{ObjectId, oid};
use std::num::NonZeroU32;

const MET: u8 = 1;
const INSIDE: u8 = 2;

/// A part of history.
pub struct Extent<'a> {
    commits: Commits<'a>,
    marks: CommitMarks,
    /// The commits at its end, each once. Parents of these are left out, either by the request or because history is
    /// cut there anyway.
    pub ends: Vec<ObjectId>,
}

impl Extent<'_> {
    /// Whether a commit is before the end, so that all its parents are in the extent too.
    pub fn has_inside(&self, id: &oid) -> bool {
        self.commits.known(id).is_some_and(|number| self.marks.of(number) & INSIDE != 0)
    }
}

/// The commits at most `depth` deep, where each of `tips` (commits) is 1 deep and the shortest way counts. `None` means
/// to the end of history. A commit at the last depth is an end even without parents (SH-03).
///
/// # Errors
/// When a commit before the end is missing or corrupt, or the client has gone.
pub fn to_depth<'a>(
    objects: &'a Objects,
    tips: &[ObjectId],
    depth: Option<NonZeroU32>,
    pulse: &mut dyn Pulse,
) -> anyhow::Result<Extent<'a>> {
    let mut levels = Levels::new(objects, tips);
    let mut ends = Vec::new();
    let mut parents = Vec::new();
    while !levels.level.is_empty() {
        let last = depth.is_some_and(|depth| levels.depth >= depth.get());
        for number in std::mem::take(&mut levels.level) {
            if last || levels.commits.is_cut(number) {
                ends.push(levels.commits.id(number).to_owned());
                continue;
            }
            levels.marks.set(number, INSIDE);
            levels.commits.parents(number, &mut parents)?;
            parents.drain(..).for_each(|parent| levels.meet(parent));
            levels.tick(pulse)?;
        }
        levels.descend();
    }
    Ok(Extent { commits: levels.commits, marks: levels.marks, ends })
}

/// The smallest depth below `tips` (commits) of any of the wanted commits, where a tip is 1 deep. `None` if none is
/// reachable.
///
/// # Errors
/// As [`to_depth`].
pub fn depth_of_nearest(
    objects: &Objects,
    tips: &[ObjectId],
    wanted: &IdSet,
    pulse: &mut dyn Pulse,
) -> anyhow::Result<Option<u32>> {
    let mut levels = Levels::new(objects, tips);
    let Some(least) = wanted.iter().map(|id| levels.generation(id)).min() else { return Ok(None) };
    let mut parents = Vec::new();
    while !levels.level.is_empty() {
        if levels.level.iter().any(|number| wanted.contains(levels.commits.id(*number))) {
            return Ok(Some(levels.depth));
        }
        for number in std::mem::take(&mut levels.level) {
            // A commit of a lower generation than all wanted ones does not lead to them.
            if levels.commits.generation(number) < least {
                continue;
            }
            levels.commits.parents(number, &mut parents)?;
            parents.drain(..).for_each(|parent| levels.meet(parent));
            levels.tick(pulse)?;
        }
        levels.descend();
    }
    Ok(None)
}

/// The commits reachable from `tips` but not from `not`, and not older than `since`. Commits with a parent outside are
/// ends (SH-10), and so are those where history is cut anyway. `None` if there are no such commits.
///
/// # Errors
/// As [`to_depth`].
pub fn extent_of_revisions<'a>(
    objects: &'a Objects,
    tips: &[ObjectId],
    since: Option<i64>,
    not: &[ObjectId],
    pulse: &mut dyn Pulse,
) -> anyhow::Result<Option<Extent<'a>>> {
    let walk = reachable_since(objects, tips, not, since.unwrap_or(i64::MIN), pulse)?;
    if walk.reachable.is_empty() {
        return Ok(None);
    }
    let mut commits = walk.commits;
    let mut marks = CommitMarks::new(&commits);
    walk.reachable.iter().for_each(|number| marks.set(*number, MET));
    let (mut ends, mut parents) = (Vec::new(), Vec::new());
    for number in walk.reachable {
        commits.parents(number, &mut parents)?;
        if commits.is_cut(number) || parents.iter().any(|parent| marks.of(*parent) & MET == 0) {
            ends.push(commits.id(number).to_owned());
        } else {
            marks.set(number, INSIDE);
        }
    }
    Ok(Some(Extent { commits, marks, ends }))
}

/// A breadth-first walk over history.
struct Levels<'a> {
    commits: Commits<'a>,
    marks: CommitMarks,
    level: Vec<u32>,
    next: Vec<u32>,
    /// The depth of `level`; tips are 1 deep.
    depth: u32,
    steps: u64,
}

impl<'a> Levels<'a> {
    fn new(objects: &'a Objects, tips: &[ObjectId]) -> Self {
        let commits = Commits::new(objects);
        let marks = CommitMarks::new(&commits);
        let mut levels = Levels { commits, marks, level: Vec::new(), next: Vec::new(), depth: 0, steps: 0 };
        for tip in tips {
            let number = levels.commits.number(tip);
            levels.meet(number);
        }
        levels.descend();
        levels
    }

    fn generation(&mut self, id: &oid) -> u64 {
        let number = self.commits.number(id);
        self.commits.generation(number)
    }

    fn meet(&mut self, number: u32) {
        if self.marks.of(number) & MET == 0 {
            self.marks.set(number, MET);
            self.next.push(number);
        }
    }

    fn descend(&mut self) {
        self.level = std::mem::take(&mut self.next);
        self.depth = self.depth.saturating_add(1);
    }

    fn tick(&mut self, pulse: &mut dyn Pulse) -> std::io::Result<()> {
        self.steps += 1;
        pulse.tick(self.steps)
    }
}

//! Depth: the part of history that is asked for, and the commits at which it ends.
//!
//! In: the commits it begins with, and how far it goes: so many commits, or a set of revisions. Out: an [`Extent`]. No more
//! commits are read than lie before its end, and no tree at all.

use super::Objects;
use super::graph::Commits;
use super::ids::IdSet;
use super::walk::{Marks, reachable_since};
use crate::stream::Pulse;
use gix_hash::{ObjectId, oid};
use std::num::NonZeroU32;

const MET: u8 = 1;
const INSIDE: u8 = 2;

/// A part of history.
pub struct Extent<'a> {
    commits: Commits<'a>,
    marks: Marks,
    /// The commits at its end, each once: parents of theirs are left out, by the measure asked for or because history is cut
    /// there anyway.
    pub ends: Vec<ObjectId>,
}

impl Extent<'_> {
    /// Whether a commit lies before the end: all of its parents are part of the extent too.
    pub fn has_inside(&self, id: &oid) -> bool {
        self.commits.known(id).is_some_and(|number| self.marks.of(number) & INSIDE != 0)
    }
}

/// So many commits from each of `tips` (commits), these counted: the shortest way counts. `None`: to the end of history. What
/// has the last depth is an end, parents or not (SH-03).
///
/// # Errors
/// When a commit before the end is missing or corrupt, or the client has gone.
pub fn so_deep<'a>(
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

/// How deep below `tips` (commits) the nearest of some commits lies; a tip itself is 1 deep. `None`: none is reached.
///
/// # Errors
/// As [`so_deep`].
pub fn of_nearest(
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
            // What lies below all that is wanted does not lead there.
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

/// What is reachable from `tips` and not from `not`, and not older than `since`. Commits with a parent outside are its ends
/// (SH-10), and so are those where history is cut anyway. `None`: there is no such commit.
///
/// # Errors
/// As [`so_deep`].
pub fn of_revisions<'a>(
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
    let mut marks = Marks::new(&commits);
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

/// History level by level.
struct Levels<'a> {
    commits: Commits<'a>,
    marks: Marks,
    level: Vec<u32>,
    next: Vec<u32>,
    /// Of `level`; tips are 1 deep.
    depth: u32,
    steps: u64,
}

impl<'a> Levels<'a> {
    fn new(objects: &'a Objects, tips: &[ObjectId]) -> Self {
        let commits = Commits::new(objects);
        let marks = Marks::new(&commits);
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

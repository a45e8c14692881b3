//! Chooses the commits that get a bitmap.
//!
//! In: tips. Out: commits, ancestors before descendants. All of the newest are chosen, then fewer and fewer: a request
//! for an older one walks to the next chosen commit. The ends of lines of history are chosen because clients are likely
//! to ask for them.

use super::NotClosed;
use crate::odb::Objects;
use crate::odb::bitmap::Order;
use crate::odb::graph::{Commits, Missing};
use crate::odb::walk::{CommitMarks, reachable_commits};
use crate::stream::Pulse;
use anyhow::Result;
use gix_hash::ObjectId;

/// This many of the newest commits are all chosen.
const ALL: usize = 100;
/// Within this many commits the distance between chosen ones grows to the first of the next two values, and beyond it
/// to the second.
const NEAR: usize = 20_000;
const STEP_MIN: usize = 100;
const STEP_MAX: usize = 5_000;
/// At most this many ends of lines of history are chosen, the newest ones.
const ENDS_MAX: usize = 1_000;

/// Not a valid number.
pub(super) const NOTHING: u32 = u32::MAX;

const TIP: u8 = 1;
const PARENT: u8 = 2;
const MET: u8 = 4;
const CHOSEN: u8 = 8;

/// The walked history, and the commits chosen from it.
pub(super) struct BitmapPlan<'a> {
    pub(super) commits: Commits<'a>,
    /// Numbers of the commits that get a bitmap, ancestors first.
    pub(super) chosen: Vec<u32>,
    /// The index position of each commit, by number; [`NOTHING`] if it has none.
    pub(super) positions: Vec<u32>,
    /// The place of each commit, by number, in an order that has ancestors first.
    pub(super) places: Vec<u32>,
}

impl<'a> BitmapPlan<'a> {
    /// Walks from `tips`. Skips tips that are not commits, and commits newer than the objects of `order`.
    ///
    /// # Errors
    /// [`NotClosed`] when a commit is missing; any other error when one is corrupt.
    pub(super) fn new(objects: &'a Objects, order: &Order, tips: &[ObjectId], pulse: &mut dyn Pulse) -> Result<Self> {
        let mut there = Vec::with_capacity(tips.len());
        for tip in tips {
            if let Some((id, gix_object::Kind::Commit)) = objects.peel(tip)? {
                there.push(id);
            }
        }
        let walk = reachable_commits(objects, &there, &[], pulse).map_err(|error| match error.downcast_ref() {
            Some(Missing(id)) => NotClosed { kind: "commit", id: *id }.into(),
            None => error,
        })?;
        let (mut commits, newest_first) = (walk.commits, walk.reachable);
        let mut positions = vec![NOTHING; commits.len()];
        for &number in &newest_first {
            positions[number as usize] = order.position(commits.id(number)).unwrap_or(NOTHING);
        }
        let mut marks = CommitMarks::new(&commits);
        there.iter().for_each(|tip| {
            let number = commits.number(tip);
            marks.set(number, TIP);
        });
        let newest_first: Vec<u32> =
            newest_first.into_iter().filter(|number| positions[*number as usize] != NOTHING).collect();
        let ancestors_first = ancestors_first(&mut commits, &newest_first, &mut marks)?;
        choose(&mut commits, &newest_first, &mut marks)?;
        let mut places = vec![0; commits.len()];
        (0..).zip(&ancestors_first).for_each(|(place, number)| places[*number as usize] = place);
        let chosen = ancestors_first.into_iter().filter(|number| marks.of(*number) & CHOSEN != 0).collect();
        Ok(BitmapPlan { commits, chosen, positions, places })
    }
}

/// Sorts `newest_first` and everything reachable from it so that each commit follows its parents. Marks these as
/// parents.
fn ancestors_first(commits: &mut Commits<'_>, newest_first: &[u32], marks: &mut CommitMarks) -> Result<Vec<u32>> {
    let mut sorted = Vec::with_capacity(newest_first.len());
    let mut parents = Vec::new();
    // A commit stays on the stack below its parents when it is entered, and is appended when it comes up again.
    let mut stack = Vec::new();
    // The oldest come first, so what branches share is sorted before they are.
    for &start in newest_first.iter().rev() {
        stack.push((start, false));
        while let Some((number, entered)) = stack.pop() {
            if entered {
                sorted.push(number);
                continue;
            }
            if marks.of(number) & MET != 0 {
                continue;
            }
            marks.set(number, MET);
            stack.push((number, true));
            commits.parents(number, &mut parents)?;
            for &parent in parents.iter().rev() {
                marks.set(parent, PARENT);
                stack.push((parent, false));
            }
        }
    }
    Ok(sorted)
}

fn choose(commits: &mut Commits<'_>, newest_first: &[u32], marks: &mut CommitMarks) -> Result<()> {
    let ends = newest_first.iter().filter(|number| marks.of(**number) & PARENT == 0);
    let ends: Vec<u32> = ends.take(ENDS_MAX).copied().collect();
    ends.into_iter().for_each(|number| marks.set(number, CHOSEN));
    let (mut at, mut parents) = (0, Vec::new());
    while let Some(window) = newest_first.get(at..=at + step(at)) {
        let mut best = (0, window[window.len() - 1]);
        for &number in window {
            commits.parents(number, &mut parents)?;
            let rank = if marks.of(number) & TIP != 0 { 2 } else { u8::from(parents.len() > 1) };
            if rank > best.0 {
                best = (rank, number);
            }
        }
        marks.set(best.1, CHOSEN);
        at += window.len();
    }
    Ok(())
}

/// How many commits are skipped before the next one is chosen, after the newest `at`.
fn step(at: usize) -> usize {
    if at <= NEAR { at.saturating_sub(ALL).min(STEP_MIN) } else { (at - NEAR).clamp(STEP_MIN, STEP_MAX) }
}

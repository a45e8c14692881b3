//! The walk from a chosen commit to those that were chosen and written before.
//!
//! In: commits, ancestors before descendants. Out: all that each reaches. A commit is walked over once or twice: where a walk comes
//! upon another one's way, what lies behind is found out by itself and kept, as long as there is room.

use super::choose::{NOTHING, Plan};
use super::fill::Fill;
use super::{NotClosed, Writer};
use crate::odb::bitmap::Bits;
use crate::stream::Pulse;
use anyhow::{Result, bail};
use std::collections::{BinaryHeap, HashMap, VecDeque};

/// Sets that are kept have so many bytes together.
const KEPT_BYTES: usize = 32 << 20;

/// Walks.
pub(super) struct Reach<'a> {
    plan: Plan<'a>,
    fill: Fill<'a>,
    /// The entry of each commit that has one, by number.
    entry_of: Vec<u32>,
    /// Which walk led over a commit last, by number.
    walked: Vec<u32>,
    walks: u32,
    /// What commits reach that have no entry.
    kept: HashMap<u32, Bits>,
    /// The same commits, the oldest first.
    ages: VecDeque<u32>,
}

impl<'a> Reach<'a> {
    pub(super) fn new(plan: Plan<'a>, fill: Fill<'a>) -> Self {
        let commits = plan.commits.len();
        Reach {
            plan,
            fill,
            entry_of: vec![NOTHING; commits],
            walked: vec![NOTHING; commits],
            walks: 0,
            kept: HashMap::new(),
            ages: VecDeque::new(),
        }
    }

    /// A commit's bits have been written.
    pub(super) fn know(&mut self, number: u32, entry: u32) {
        self.entry_of[number as usize] = entry;
    }

    /// The hash of a path at which each object was met, by index position.
    pub(super) fn hashes(&self) -> &[u32] {
        &self.fill.hashes
    }

    /// All that a chosen commit reaches, and its index position.
    ///
    /// # Errors
    /// [`NotClosed`] when something has no bit; when a tree cannot be read.
    pub(super) fn all_behind(&mut self, start: u32, writer: &mut Writer, pulse: &mut dyn Pulse) -> Result<(u32, Bits)> {
        let bits = self.walk(start, true, writer, pulse)?;
        Ok((self.plan.positions[start as usize], bits))
    }

    /// The walk; with `branching` it stops where another one has led.
    fn walk(&mut self, start: u32, branching: bool, writer: &mut Writer, pulse: &mut dyn Pulse) -> Result<Bits> {
        let (mut between, mut parents) = (Vec::new(), Vec::new());
        let mut bits = Bits::none(writer.objects);
        let walk = self.walks;
        self.walks += 1;
        // Descendants first: what a chosen commit reaches is known before anything of that is met on another way.
        let mut pending = BinaryHeap::from([(self.plan.places[start as usize], start)]);
        while let Some((_, number)) = pending.pop() {
            let at = number as usize;
            if self.walked[at] == walk {
                continue;
            }
            let position = self.plan.positions[at];
            if position == NOTHING {
                bail!(NotClosed { kind: "commit", id: self.plan.commits.id(number).to_owned() });
            }
            if bits.contains(self.fill.rank(position)) {
                continue;
            }
            if self.entry_of[at] != NOTHING {
                writer.add(self.entry_of[at], &mut bits)?;
            } else if let Some(kept) = self.kept.get(&number) {
                bits.add(kept);
            } else if branching && self.walked[at] != NOTHING {
                let behind = self.walk(number, false, writer, pulse)?;
                bits.add(&behind);
                self.keep(number, behind);
            } else {
                self.walked[at] = walk;
                between.push(number);
                self.plan.commits.parents(number, &mut parents)?;
                pending.extend(parents.iter().map(|parent| (self.plan.places[*parent as usize], *parent)));
            }
        }
        let mut roots = Vec::new();
        for number in between {
            if bits.insert(self.fill.rank(self.plan.positions[number as usize])) {
                let tree = self.fill.rank_of("tree", &self.plan.commits.tree(number)?)?;
                if bits.insert(tree) {
                    roots.push(tree);
                }
            }
        }
        self.fill.below(roots, &mut bits, pulse)?;
        Ok(bits)
    }

    fn keep(&mut self, number: u32, bits: Bits) {
        let most = (KEPT_BYTES / 8 / bits.0.len()).max(1);
        if self.ages.len() == most
            && let Some(oldest) = self.ages.pop_front()
        {
            self.kept.remove(&oldest);
        }
        self.ages.push_back(number);
        self.kept.insert(number, bits);
    }
}

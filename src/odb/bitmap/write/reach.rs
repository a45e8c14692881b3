//! Walks from a chosen commit to those that were chosen and written before.
//!
//! In: commits, ancestors before descendants. Out: everything that each reaches. A commit is walked over once or twice:
//! where a walk meets commits of an earlier one, the objects reachable from there are computed separately, and kept as
//! long as there is room.

use super::choose::{BitmapPlan, NOTHING};
use super::fill::Fill;
use super::{NotClosed, Writer};
use crate::odb::bitmap::Bits;
use crate::stream::Pulse;
use anyhow::{Result, bail};
use std::collections::{BinaryHeap, HashMap, VecDeque};

/// The total size of the sets that are kept.
const KEPT_BYTES: usize = 32 << 20;

/// The state shared by all walks.
pub(super) struct Reach<'a> {
    plan: BitmapPlan<'a>,
    fill: Fill<'a>,
    /// The entry of each commit that has one, by number.
    entry_of: Vec<u32>,
    /// The last walk that passed over each commit, by number.
    walked: Vec<u32>,
    walks: u32,
    /// What some commits without an entry reach.
    kept: HashMap<u32, Bits>,
    /// The keys of `kept`, the oldest first.
    ages: VecDeque<u32>,
}

impl<'a> Reach<'a> {
    pub(super) fn new(plan: BitmapPlan<'a>, fill: Fill<'a>) -> Self {
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

    /// Notes that a commit's entry was written.
    pub(super) fn know(&mut self, number: u32, entry: u32) {
        self.entry_of[number as usize] = entry;
    }

    /// The hash of one path at which each object was met, by index position.
    pub(super) fn hashes(&self) -> &[u32] {
        &self.fill.hashes
    }

    /// Everything that a chosen commit reaches, and its index position.
    ///
    /// # Errors
    /// [`NotClosed`] when an object has no bit; any other error when a commit or tree cannot be read.
    pub(super) fn reachable(&mut self, start: u32, writer: &mut Writer, pulse: &mut dyn Pulse) -> Result<(u32, Bits)> {
        let bits = self.walk(start, true, writer, pulse)?;
        Ok((self.plan.positions[start as usize], bits))
    }

    /// Walks from a commit. With `branching`, it starts a separate walk where another one has been.
    fn walk(&mut self, start: u32, branching: bool, writer: &mut Writer, pulse: &mut dyn Pulse) -> Result<Bits> {
        let (mut between, mut parents) = (Vec::new(), Vec::new());
        let mut bits = Bits::none(writer.objects);
        let walk = self.walks;
        self.walks += 1;
        // Descendants first, so that the objects of a chosen commit are added before any of them is met on another path.
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

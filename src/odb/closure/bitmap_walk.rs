//! Commits reached with the repository's bitmaps.
//!
//! In: IDs of commits. Out: the numbers of everything reachable from those that have a bitmap or lead to one; and the
//! newer commits, which no bitmap covers, with the roots of their trees. No tree is read here.

use super::history::broken;
use super::tips::Tips;
use super::{Broken, Filter, Marks, Numbers};
use crate::odb::StoredBitmaps;
use crate::odb::bitmap::{Bits, Order};
use crate::odb::graph::Commits;
use crate::stream::Pulse;
use anyhow::Result;
use gix_hash::ObjectId;
use gix_object::Kind;

/// What bitmaps cover, and what they do not.
pub(super) struct Reached {
    /// All bits that bitmaps cover, including those the walk began with.
    pub(super) covered: Bits,
    /// Everything that bitmaps cover, and the commits that they do not.
    pub(super) found: Marks,
    /// The trees of the uncovered commits, each once.
    pub(super) roots: Vec<u32>,
    /// Trees of some covered commits at the edge, which were met after uncovered ones.
    pub(super) edges: Vec<u32>,
}

/// At most this many trees at the edge are worth comparing.
const EDGES_MAX: usize = 8;

/// Finds everything reachable from `tips`, in addition to `covered`.
///
/// Commits in `covered` and `before` are not followed; `before` was found with everything reachable from it. `numbers`
/// must begin with the packs of `stored`. Returns `None` when the bitmaps are damaged or leave more than `most` commits
/// uncovered. For commits in their packs, the latter is only checked at the end, because a bitmap read later may cover
/// them.
///
/// # Errors
/// [`Broken`] for a commit that is missing or corrupt; any other error when the client has gone or an index cannot be
/// read.
pub(super) fn reach(
    numbers: &mut Numbers<'_>,
    stored: &StoredBitmaps,
    tips: &Tips,
    covered: Bits,
    before: &Marks,
    most: usize,
    pulse: &mut dyn Pulse,
) -> Result<Option<Reached>> {
    let commits = Commits::new(numbers.objects());
    let (beyond, edge) = (Vec::new(), Vec::new());
    let mut walk = Walk { stored, commits, before, covered, scratch: Bits::default(), beyond, edge };
    let tips = walk.tips(numbers, tips);
    let walked = tips.and_then(|tips| walk.follow(tips, most, pulse)).and_then(|()| walk.finish(numbers, most));
    match walked {
        Ok(reached) => Ok(Some(reached)),
        Err(Stop::TooMany) => Ok(None),
        Err(Stop::Damaged(error)) => {
            numbers.objects().distrust(stored, &error);
            Ok(None)
        }
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// Why there is no result.
enum Stop {
    /// The bitmaps are damaged.
    Damaged(anyhow::Error),
    /// The bitmaps leave too many commits, or trees of commits, uncovered.
    TooMany,
    /// Something else cannot be read, or the client has gone.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Stop::Failed(error)
    }
}

/// A commit, and its position in the packs of the bitmaps.
type Place = (u32, Option<u32>);

/// The walk from tips to commits that bitmaps cover.
struct Walk<'s, 'a> {
    stored: &'s StoredBitmaps,
    commits: Commits<'a>,
    /// Objects found earlier, with everything reachable from them.
    before: &'s Marks,
    covered: Bits,
    scratch: Bits,
    /// Commits that bitmaps do not cover.
    beyond: Vec<u32>,
    /// Covered commits met after uncovered ones.
    edge: Vec<u32>,
}

impl Walk<'_, '_> {
    /// Returns the tips in the order of the walk, last first, after adding what pseudo-merge bitmaps cover.
    fn tips(&mut self, numbers: &Numbers<'_>, tips: &Tips) -> Result<Vec<Place>, Stop> {
        let StoredBitmaps { order, bitmaps } = self.stored;
        let tips = tips.commits.iter().zip(&tips.numbers);
        let place = |(id, number): (&ObjectId, &u32)| (self.commits.number(id), numbers.position(order, id, *number));
        let mut tips: Vec<Place> = tips.map(place).collect();
        if bitmaps.have_merges() {
            let mut together = self.covered.clone();
            for rank in tips.iter().filter_map(|(_, position)| order.rank((*position)?)) {
                together.insert(rank);
            }
            bitmaps.add_merges(&together, &mut self.covered, &mut self.scratch).map_err(Stop::Damaged)?;
        }
        // Tips with a bitmap come first, as they need no walk, then newer before older: packs hold new commits first,
        // and a commit in none is newer still.
        tips.sort_by_cached_key(|&(number, position)| {
            let walked = !position.is_some_and(|position| bitmaps.has(position));
            std::cmp::Reverse((walked, position.map(|position| (order.key(position), position)), number))
        });
        Ok(tips)
    }

    /// Walks back from each tip until bitmaps cover the commits.
    fn follow(&mut self, mut tips: Vec<Place>, most: usize, pulse: &mut dyn Pulse) -> Result<(), Stop> {
        let (mut met, mut pending, mut parents) = (Marks::default(), Vec::new(), Vec::new());
        // Counts commits that are in none of the packs.
        let mut newer = 0;
        while let Some((number, position)) = pending.pop().or_else(|| tips.pop()) {
            if !met.insert(number) {
                continue;
            }
            if let Some(position) = position
                && self.is_covered(position)?
            {
                // A covered commit met before any uncovered one has nothing to be compared with.
                if !self.beyond.is_empty() {
                    self.edge.push(number);
                }
                continue;
            }
            newer += usize::from(position.is_none());
            if newer > most {
                return Err(Stop::TooMany);
            }
            self.beyond.push(number);
            pulse.tick(self.beyond.len() as u64).map_err(anyhow::Error::from)?;
            let commits = &mut self.commits;
            commits.parents(number, &mut parents).map_err(|error| broken(commits, number, error))?;
            let position = |number| self.stored.order.position(commits.id(number));
            pending.extend(parents.iter().map(|parent| (*parent, position(*parent))));
        }
        Ok(())
    }

    /// Whether a commit in the packs is covered; if it has a bitmap itself, that is added.
    fn is_covered(&mut self, position: u32) -> Result<bool, Stop> {
        let StoredBitmaps { order, bitmaps } = self.stored;
        // With a single pack, positions are numbers.
        let is_before = matches!(order, Order::Pack(_)) && self.before.contains(position);
        if is_before || order.rank(position).is_some_and(|rank| self.covered.contains(rank)) {
            return Ok(true);
        }
        bitmaps.add(position, &mut self.covered, &mut self.scratch).map_err(Stop::Damaged)
    }

    /// Collects what is covered, and the trees of commits that are not.
    fn finish(mut self, numbers: &mut Numbers<'_>, most: usize) -> Result<Reached, Stop> {
        let mut found = numbers.of_bits(&self.stored.order, &self.covered).map_err(Stop::Damaged)?;
        let (mut roots, mut edges, mut seen) = (Vec::new(), Vec::new(), Marks::default());
        let commits = &mut self.commits;
        // A damaged commit is only left out of the comparison.
        for tree in self.edge.into_iter().rev().filter_map(|number| commits.tree(number).ok()).take(EDGES_MAX) {
            edges.extend(numbers.of(&tree)?.filter(|tree| seen.insert(*tree)));
        }
        for number in self.beyond {
            let id = commits.id(number);
            let commit = numbers.of(id)?.ok_or_else(|| Broken::missing("commit", id))?;
            if !found.insert(commit) {
                // A bitmap added later covers this commit and its tree.
                continue;
            }
            let tree = commits.tree(number).map_err(|error| broken(commits, number, error))?;
            let tree = numbers.of(&tree)?.ok_or_else(|| Broken::missing("tree", &tree))?;
            if seen.insert(tree) {
                roots.push(tree);
            }
        }
        if roots.len() > most {
            return Err(Stop::TooMany);
        }
        Ok(Reached { covered: self.covered, found, roots, edges })
    }
}

/// Removes from what [`reach`] found the objects that a filter by kind and size rejects. Returns all objects of the
/// kinds that are rejected altogether; `None` if the bitmaps are damaged.
///
/// # Errors
/// When the size of a blob cannot be read.
pub(super) fn leave_out(
    numbers: &Numbers<'_>,
    stored: &StoredBitmaps,
    filter: &Filter,
    found: &mut Marks,
) -> Result<Option<Marks>> {
    let StoredBitmaps { order, bitmaps } = stored;
    let mut none_pass = Marks::default();
    for (kind, passes) in [(Kind::Tree, filter.trees()), (Kind::Blob, filter.blobs())] {
        let passes = passes && filter.reaches(0);
        let limit = filter.size().filter(|_| kind == Kind::Blob);
        if passes && limit.is_none() {
            continue;
        }
        // Blobs are in bit order, which is the order in which they are stored.
        let (mut gone, mut blobs) = (Marks::default(), Vec::new());
        let read = bitmaps.of_kind(kind).and_then(|bits| match limit {
            Some(_) if passes => numbers.each_of_bits(order, &bits, |number| {
                if found.contains(number) {
                    blobs.push(number);
                }
            }),
            Some(_) | None => numbers.of_bits(order, &bits).map(|bits| gone = bits),
        });
        if let Err(error) = read {
            numbers.objects().distrust(stored, &error);
            return Ok(None);
        }
        found.subtract(&gone);
        none_pass.extend(&gone);
        for number in blobs {
            if let Some(limit) = limit
                && numbers.size(number)? >= limit
            {
                found.remove(number);
            }
        }
    }
    Ok(Some(none_pass))
}

//! Commits by the repository's bitmaps.
//!
//! In: names of commits. Out: everything reachable from those that have a bitmap, or lead to one, as numbers; and what lies
//! before: new commits and the roots of their trees. No tree is read here.

use super::history::broken;
use super::tips::Tips;
use super::{Broken, Filter, Marks, Numbers};
use crate::odb::Stored;
use crate::odb::bitmap::{Bits, Order};
use crate::odb::graph::Commits;
use crate::stream::Pulse;
use anyhow::Result;
use gix_hash::ObjectId;
use gix_object::Kind;

/// What bitmaps tell, and what they do not.
pub(super) struct Reached {
    /// What they tell, with what it began with.
    pub(super) told: Bits,
    /// Everything they tell, and the commits they do not know.
    pub(super) found: Marks,
    /// The trees of those commits, each once.
    pub(super) roots: Vec<u32>,
    /// Trees of some commits that bitmaps tell, met behind those.
    pub(super) edges: Vec<u32>,
}

/// So many trees at the edge of what bitmaps tell are worth being compared.
const EDGES_MAX: usize = 8;

/// Everything behind `tips` and what is in `told` already, as whose part commits are not followed; nor are those in `before`, which was
/// found with all that is behind it. `numbers` must begin with the packs of `stored`. `None`: the bitmaps are damaged or do not tell of more than
/// `most` commits, and nothing was found out; of commits that are in their packs it is seen at the end what other bitmaps tell of them.
///
/// # Errors
/// [`Broken`] for a commit that is missing or corrupt; when the client has gone.
pub(super) fn reach(
    numbers: &mut Numbers<'_>,
    stored: &Stored,
    tips: &Tips,
    told: Bits,
    before: &Marks,
    most: usize,
    pulse: &mut dyn Pulse,
) -> Result<Option<Reached>> {
    let commits = Commits::new(numbers.objects());
    let (beyond, edge) = (Vec::new(), Vec::new());
    let mut walk = Walk { stored, commits, before, told, scratch: Bits::default(), beyond, edge };
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

/// Why nothing was found out.
enum Stop {
    /// The bitmaps are damaged.
    Damaged(anyhow::Error),
    /// There are too many commits, or trees of commits, that they do not tell of.
    TooMany,
    /// Something else cannot be read, or the client has gone.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Stop::Failed(error)
    }
}

/// A commit, and where it stands in the packs of the bitmaps.
type Place = (u32, Option<u32>);

/// The way from tips to what bitmaps tell.
struct Walk<'s, 'a> {
    stored: &'s Stored,
    commits: Commits<'a>,
    /// What was found earlier, with all that is behind it.
    before: &'s Marks,
    told: Bits,
    scratch: Bits,
    /// Commits that bitmaps do not tell.
    beyond: Vec<u32>,
    /// Commits that they tell, met behind those.
    edge: Vec<u32>,
}

impl Walk<'_, '_> {
    /// Where to begin, last first; what bitmaps tell of many tips together is told then.
    fn tips(&mut self, numbers: &Numbers<'_>, tips: &Tips) -> Result<Vec<Place>, Stop> {
        let Stored { order, bitmaps } = self.stored;
        let tips = tips.commits.iter().zip(&tips.numbers);
        let place = |(id, number): (&ObjectId, &u32)| (self.commits.number(id), numbers.position(order, id, *number));
        let mut tips: Vec<Place> = tips.map(place).collect();
        if bitmaps.have_merges() {
            let mut together = self.told.clone();
            for rank in tips.iter().filter_map(|(_, position)| order.rank((*position)?)) {
                together.insert(rank);
            }
            bitmaps.add_merges(&together, &mut self.told, &mut self.scratch).map_err(Stop::Damaged)?;
        }
        // What bitmaps tell of other tips needs no walk. Packs hold new commits first; what is in none is newer still.
        tips.sort_by_cached_key(|&(number, position)| {
            let walked = !position.is_some_and(|position| bitmaps.has(position));
            std::cmp::Reverse((walked, position.map(|position| (order.key(position), position)), number))
        });
        Ok(tips)
    }

    /// Goes back from each tip as far as nothing is told.
    fn follow(&mut self, mut tips: Vec<Place>, most: usize, pulse: &mut dyn Pulse) -> Result<(), Stop> {
        let (mut met, mut pending, mut parents) = (Marks::default(), Vec::new(), Vec::new());
        // Commits that are in none of the packs.
        let mut newer = 0;
        while let Some((number, position)) = pending.pop().or_else(|| tips.pop()) {
            if !met.insert(number) {
                continue;
            }
            if let Some(position) = position
                && self.is_told(position)?
            {
                // What is told before anything is not has nothing to be compared with it.
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

    /// Whether a commit in their packs is told; if it has a bitmap itself, it is from now on with all that is behind it.
    fn is_told(&mut self, position: u32) -> Result<bool, Stop> {
        let Stored { order, bitmaps } = self.stored;
        // In a single pack positions are numbers.
        let is_before = matches!(order, Order::Pack(_)) && self.before.contains(position);
        if is_before || order.rank(position).is_some_and(|rank| self.told.contains(rank)) {
            return Ok(true);
        }
        bitmaps.add(position, &mut self.told, &mut self.scratch).map_err(Stop::Damaged)
    }

    /// What was told, and the trees of commits that were not.
    fn finish(mut self, numbers: &mut Numbers<'_>, most: usize) -> Result<Reached, Stop> {
        let mut found = numbers.of_bits(&self.stored.order, &self.told).map_err(Stop::Damaged)?;
        let (mut roots, mut edges, mut seen) = (Vec::new(), Vec::new(), Marks::default());
        let commits = &mut self.commits;
        // What is damaged is only not compared.
        for tree in self.edge.into_iter().rev().filter_map(|number| commits.tree(number).ok()).take(EDGES_MAX) {
            edges.extend(numbers.of(&tree)?.filter(|tree| seen.insert(*tree)));
        }
        for number in self.beyond {
            let id = commits.id(number);
            let commit = numbers.of(id)?.ok_or_else(|| Broken::missing("commit", id))?;
            if !found.insert(commit) {
                // A bitmap that was added later knows it, and its tree.
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
        Ok(Reached { told: self.told, found, roots, edges })
    }
}

/// Takes out of what [`reach`] found what a filter by kinds does not let pass, and gives all of those kinds that do not pass at all;
/// `None`: the bitmaps are damaged.
///
/// # Errors
/// When the size of a blob cannot be read.
pub(super) fn leave_out(
    numbers: &Numbers<'_>,
    stored: &Stored,
    filter: &Filter,
    found: &mut Marks,
) -> Result<Option<Marks>> {
    let Stored { order, bitmaps } = stored;
    let mut none_pass = Marks::default();
    for (kind, passes) in [(Kind::Tree, filter.trees()), (Kind::Blob, filter.blobs())] {
        let passes = passes && filter.reaches(0);
        let limit = filter.size().filter(|_| kind == Kind::Blob);
        if passes && limit.is_none() {
            continue;
        }
        // Blobs stand in the order of the bits, which is the order in which they are stored.
        let (mut gone, mut blobs) = (Marks::default(), Vec::new());
        let told = bitmaps.of_kind(kind).and_then(|bits| match limit {
            Some(_) if passes => numbers.each_of_bits(order, &bits, |number| {
                if found.contains(number) {
                    blobs.push(number);
                }
            }),
            Some(_) | None => numbers.of_bits(order, &bits).map(|bits| gone = bits),
        });
        if let Err(error) = told {
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

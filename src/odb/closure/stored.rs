//! Commits by the repository's bitmaps.
//!
//! In: names of commits. Out: everything reachable from those that have a bitmap, or lead to one, as numbers; and what lies
//! before: new commits and the roots of their trees. No tree is read here.

use super::history::broken;
use super::{Broken, Filter, Marks, Numbers, Tips};
use crate::odb::Stored;
use crate::odb::bitmap::{Bits, Order};
use crate::odb::graph::Commits;
use crate::stream::Pulse;
use anyhow::Result;
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
    let Stored { order, bitmaps } = stored;
    let mut commits = Commits::new(numbers.objects());
    let positioned = |id, number| {
        let position = numbers.position(order, id, number)?;
        Some((order.key(position), position))
    };
    let tips = tips.commits.iter().zip(&tips.numbers);
    let mut tips: Vec<_> = tips.map(|(id, number)| (positioned(id, *number), commits.number(id))).collect();
    let (mut bits, mut scratch) = (told, Bits::default());
    if bitmaps.have_merges() {
        // What many tips reach together may be told as one.
        let mut together = bits.clone();
        for rank in tips.iter().filter_map(|(position, _)| order.rank((*position)?.1)) {
            together.insert(rank);
        }
        if let Err(error) = bitmaps.add_merges(&together, &mut bits, &mut scratch) {
            numbers.objects().distrust(stored, &error);
            return Ok(None);
        }
    }
    // What bitmaps tell of other tips needs no walk. Packs hold new commits first; what is in none is newer still.
    let walked = |tip: &(Option<(_, u32)>, u32)| !tip.0.is_some_and(|(_, position)| bitmaps.has(position));
    tips.sort_by_cached_key(|tip| std::cmp::Reverse((walked(tip), *tip)));
    let (mut met, mut beyond, mut parents) = (Marks::default(), Vec::new(), Vec::new());
    // Commits that are in none of their packs.
    let mut newer = 0;
    let mut edge = Vec::new();
    let mut pending = Vec::new();
    while let Some((number, position)) = pending.pop().or_else(|| {
        let (position, number) = tips.pop()?;
        Some((number, position.map(|(_, position)| position)))
    }) {
        if !met.insert(number) {
            continue;
        }
        if let Some(position) = position {
            let rank = order.rank(position);
            // In a single pack positions are numbers.
            let is_before = matches!(order, Order::Pack(_)) && before.contains(position);
            let is_told = if is_before || rank.is_some_and(|rank| bits.contains(rank)) {
                true
            } else {
                match bitmaps.add(position, &mut bits, &mut scratch) {
                    Ok(is_told) => is_told,
                    Err(error) => {
                        numbers.objects().distrust(stored, &error);
                        return Ok(None);
                    }
                }
            };
            if is_told {
                // What is told before anything is not has nothing to be compared with it.
                if !beyond.is_empty() {
                    edge.push(number);
                }
                continue;
            }
        }
        newer += usize::from(position.is_none());
        if newer > most {
            return Ok(None);
        }
        beyond.push(number);
        pulse.tick(beyond.len() as u64)?;
        commits.parents(number, &mut parents).map_err(|error| broken(&commits, number, error))?;
        let position = |number| order.position(commits.id(number));
        pending.extend(parents.iter().map(|parent| (*parent, position(*parent))));
    }
    let mut found = match numbers.of_bits(order, &bits) {
        Ok(found) => found,
        Err(error) => {
            numbers.objects().distrust(stored, &error);
            return Ok(None);
        }
    };
    let (mut roots, mut edges, mut seen) = (Vec::new(), Vec::new(), Marks::default());
    // What is damaged is only not compared.
    for tree in edge.into_iter().rev().filter_map(|number| commits.tree(number).ok()).take(EDGES_MAX) {
        edges.extend(numbers.of(&tree)?.filter(|tree| seen.insert(*tree)));
    }
    for number in beyond {
        let id = commits.id(number);
        let commit = numbers.of(id)?.ok_or_else(|| Broken::missing("commit", id))?;
        if !found.insert(commit) {
            // A bitmap that was added later knows it, and its tree.
            continue;
        }
        let tree = commits.tree(number).map_err(|error| broken(&commits, number, error))?;
        let tree = numbers.of(&tree)?.ok_or_else(|| Broken::missing("tree", &tree))?;
        if seen.insert(tree) {
            roots.push(tree);
        }
    }
    if roots.len() > most {
        return Ok(None);
    }
    Ok(Some(Reached { told: bits, found, roots, edges }))
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

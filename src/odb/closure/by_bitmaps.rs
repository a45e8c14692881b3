//! Closures computed from the repository's bitmaps.
//!
//! In: a search. Out: the closure; or `None` where bitmaps do not help, cost too much to read, or are damaged, so that
//! trees have to be walked.

use super::bitmap_walk::{self, Reached};
use super::deferred_tags::DeferredTags;
use super::tips::Tips;
use super::trees::{Ends, Relate, Trees};
use super::{Absent, Broken, Closure, Effort, Filter, Firsts, Marks, Missing, Numbers, Search};
use crate::odb::bitmap::Bits;
use crate::odb::walk::CommitWalk;
use crate::odb::{Header, Objects, StoredBitmaps};
use crate::stream::Pulse;
use anyhow::Result;
use gix_hash::ObjectId;
use gix_object::Kind;

/// Bitmaps are used to find objects between known and new commits if they have at most this many bytes for each new
/// commit: all of them are read, which costs about as much as walking what these commits changed.
const STORED_BYTES_EACH: u64 = 64 << 10;
/// When bitmaps gave the rest, the trees of at most this many commits are compared at each end, and only trees of at
/// most this many bytes, or this many for each found object: reading large trees costs more than deltas for a few
/// objects save.
const COMPARED_MAX: usize = 8;
const COMPARED_BYTES: u64 = 128 << 10;
const COMPARED_BYTES_EACH: u64 = 4 << 10;

impl<'a> Closure<'a> {
    /// Finds the closure where nothing is known; `None` if bitmaps do not help.
    pub(super) fn find_by_bitmaps(
        objects: &'a Objects,
        search: &Search<'_>,
        pulse: &mut dyn Pulse,
    ) -> Result<Option<Self>> {
        let Search { wants, filter, missing, peeled, .. } = *search;
        // A client that asks for trees or blobs wants only a few, but bitmaps are read from end to end before they are
        // trusted.
        let content = |header: Header| matches!(header.kind, Kind::Tree | Kind::Blob);
        let Some(first) = wants.first() else { return Ok(None) };
        if objects.header(first)?.is_none_or(content) {
            return Ok(None);
        }
        let Some(stored) = objects.bitmaps(u64::MAX)? else { return Ok(None) };
        let mut numbers = Numbers::new(objects);
        numbers.begin_with(&stored)?;
        let (mut found, mut absent, mut buffer) = (Marks::default(), Absent::new(missing), Vec::new());
        let mut wanted = Tips::deferring(DeferredTags::of(&stored, filter));
        wanted.add_all(wants, &mut numbers, &mut found, &mut buffer)?;
        let mut deferred = wanted.take_deferred();
        if let Some(few) = deferred.take_if(|deferred| deferred.are_few()) {
            wanted.add_all(&few.tags, &mut numbers, &mut found, &mut buffer)?;
        }
        let (mut covered, mut before) = (Bits::none(stored.bitmaps.objects()), Marks::default());
        let (mut firsts, mut relatives) = (Firsts::default(), Vec::new());
        loop {
            let reached = bitmap_walk::reach(&mut numbers, &stored, &wanted, covered, &before, usize::MAX, pulse)?;
            let Some(Reached { covered: now_covered, found: mut held, roots, edges }) = reached else {
                return Ok(None);
            };
            covered = now_covered;
            let mut passing = held.clone();
            let Some(left_out) = bitmap_walk::leave_out(&numbers, &stored, filter, &mut passing)? else {
                return Ok(None);
            };
            found.extend(&passing);
            // Objects that bitmaps cover are not walked again, whether or not they pass the filter.
            held.extend(&before);
            let mut trees = Trees::new(&mut numbers, filter, held, found.len(), &mut absent, pulse);
            let ends = Ends {
                roots: &roots,
                wanted: &wanted.trees,
                boundary: &edges,
                is_closed: true,
                relate: Relate::Apart,
                ..Ends::default()
            };
            trees.find(&ends, Effort::Enough)?;
            firsts.extend(&trees.take_firsts());
            let (contents, _, mut related) = trees.into_marks();
            relatives.append(&mut related);
            found.extend(&contents);
            wanted.trees.iter().for_each(|tree| {
                found.insert(*tree);
            });
            let tags = deferred.as_mut().map(|deferred| deferred.next(&mut numbers, &found, &left_out, peeled));
            let Some(tags) = tags.transpose()?.flatten() else { break };
            wanted = Tips::default();
            wanted.add_all(&tags, &mut numbers, &mut found, &mut buffer)?;
            before.extend(&found);
        }
        if let Some(deferred) = deferred {
            // Wanted tags count whether or not they were read.
            found.extend(deferred.marks());
        }
        if !are_sound(objects, &stored) {
            return Ok(None);
        }
        let (held, held_blobs) = Default::default();
        Ok(Some(Closure { numbers, found, held, held_blobs, relatives, firsts }))
    }

    /// Finds the exact closure where `walk` found many commits between known and wanted ones; `None` if bitmaps do not
    /// help.
    pub(super) fn between_by_bitmaps(
        objects: &'a Objects,
        search: &Search<'_>,
        walk: &mut CommitWalk<'_>,
        pulse: &mut dyn Pulse,
    ) -> Result<Option<Self>> {
        let Search { wants, known, filter, missing, .. } = *search;
        let worth = STORED_BYTES_EACH.saturating_mul(walk.reachable.len() as u64);
        let Some(stored) = objects.bitmaps(worth)? else { return Ok(None) };
        let mut numbers = Numbers::new(objects);
        numbers.begin_with(&stored)?;
        let mut buffer = Vec::new();
        let (mut held, mut known_tips) = (Marks::default(), Tips::default());
        known_tips.add_known(known, &mut numbers, &mut held, &mut buffer)?;
        let none = Bits::none(stored.bitmaps.objects());
        // If the bitmaps leave more known commits uncovered than there are new ones, walking trees is cheaper.
        let most = walk.reachable.len();
        let reached = match bitmap_walk::reach(&mut numbers, &stored, &known_tips, none, &Marks::default(), most, pulse)
        {
            Ok(Some(reached)) => reached,
            // The walk over trees copes with damage.
            Ok(None) => return Ok(None),
            Err(error) => return if error.is::<Broken>() { Ok(None) } else { Err(error) },
        };
        held.extend(&reached.found);
        let mut passed = Absent::new(Missing::Passed);
        let mut trees = Trees::new(&mut numbers, filter, reached.found, 0, &mut passed, pulse);
        let ends = Ends {
            roots: &reached.roots,
            wanted: &known_tips.trees,
            boundary: &reached.edges,
            is_closed: true,
            ..Ends::default()
        };
        match trees.find(&ends, Effort::Enough) {
            Err(error) if error.is::<Broken>() => return Ok(None),
            found => found?,
        }
        held.extend(&trees.into_marks().0);
        let (mut found, mut wanted) = (Marks::default(), Tips::default());
        wanted.add_all(wants, &mut numbers, &mut found, &mut buffer)?;
        let reached =
            bitmap_walk::reach(&mut numbers, &stored, &wanted, reached.covered, &Marks::default(), usize::MAX, pulse)?;
        let Some(reached) = reached else { return Ok(None) };
        found.extend(&reached.found);
        let mut there = held.clone();
        there.extend(&reached.found);
        let mut absent = Absent::new(missing);
        let mut trees = Trees::new(&mut numbers, filter, there, found.len(), &mut absent, pulse);
        let ends = Ends {
            roots: &reached.roots,
            wanted: &wanted.trees,
            boundary: &reached.edges,
            is_closed: true,
            relate: Relate::All,
            ..Ends::default()
        };
        trees.find(&ends, Effort::Enough)?;
        let (contents, _, mut relatives) = trees.into_marks();
        found.extend(&contents);
        wanted.trees.iter().for_each(|tree| {
            found.insert(*tree);
        });
        found.subtract(&held);
        absent.check(objects, pulse)?;
        if !are_sound(objects, &stored) {
            return Ok(None);
        }
        let largest = COMPARED_BYTES.max(COMPARED_BYTES_EACH.saturating_mul(found.len()));
        relatives.append(&mut newest_relatives(&mut numbers, walk, &wanted.commits, largest, pulse)?);
        let (held_blobs, firsts) = Default::default();
        Ok(Some(Closure { numbers, found, held, held_blobs, relatives, firsts }))
    }
}

/// Compares the trees of wanted commits with those at the boundary, skipping trees of more than `largest` bytes: what
/// the client has is usually another version of the new objects. Objects in between are stored as deltas on the newest.
/// Damage is ignored here.
fn newest_relatives(
    numbers: &mut Numbers<'_>,
    walk: &mut CommitWalk<'_>,
    wants: &[ObjectId],
    largest: u64,
    pulse: &mut dyn Pulse,
) -> Result<Vec<(u32, u32)>> {
    let wanted: Vec<u32> = wants.iter().take(COMPARED_MAX).map(|id| walk.commits.number(id)).collect();
    let mut roots_of = |commits: &[u32]| -> Result<Vec<u32>> {
        let mut roots = Vec::new();
        for commit in commits.iter().take(COMPARED_MAX) {
            if let Ok(tree) = walk.commits.tree(*commit) {
                roots.extend(numbers.of(&tree)?);
            }
        }
        roots.sort_unstable();
        roots.dedup();
        Ok(roots)
    };
    let (roots, boundary) = (roots_of(&wanted)?, roots_of(&walk.boundary)?);
    let (all, mut passed) = (Filter::default(), Absent::new(Missing::Passed));
    let mut trees = Trees::new(numbers, &all, Marks::default(), 0, &mut passed, pulse);
    match trees.compare(&Ends { roots: &roots, boundary: &boundary, ..Ends::default() }, largest) {
        Err(error) if !error.is::<Broken>() => Err(error),
        _ => Ok(trees.into_marks().2),
    }
}

/// Whether the bitmaps can be trusted.
fn are_sound(objects: &Objects, stored: &StoredBitmaps) -> bool {
    let check = stored.bitmaps.check();
    check.as_ref().err().inspect(|error| objects.distrust(stored, error)).is_none()
}

//! Commits between wanted and known ones.
//!
//! In: names of commits. Out: the new commits and the known ones they rest on, as numbers, and the root trees of both.

use super::{Absent, Broken, Marks, Numbers};
use crate::odb::Objects;
use crate::odb::graph::{Commits, Missing};
use crate::odb::walk::{CommitWalk, reachable_commits};
use crate::stream::Pulse;
use anyhow::Result;
use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use std::collections::HashSet;
use std::io;

/// After so many commits there may be many more. If the walk is still to begin at so many others, several threads can go through them.
const WALKED_ALONE: usize = 1024;
const ENDS_MIN: usize = 16;

/// What a walk found, as objects.
#[derive(Default)]
pub(super) struct History {
    /// Commits reachable from the wanted and not from the known ones.
    pub(super) new: Marks,
    /// Known parents of new commits.
    pub(super) boundary: Marks,
    /// The trees of the new commits, each once.
    pub(super) new_roots: Vec<u32>,
    /// The trees of the boundary, each once.
    pub(super) boundary_roots: Vec<u32>,
}

/// Commits between `wants` and `known`, both names of commits.
///
/// # Errors
/// [`Broken`] for what new commits name and is missing or corrupt.
pub(super) fn between<'a>(
    objects: &'a Objects,
    wants: &[ObjectId],
    known: &[ObjectId],
    pulse: &mut dyn Pulse,
) -> Result<CommitWalk<'a>> {
    if !known.is_empty() {
        match reachable_commits(objects, wants, known, pulse) {
            Ok(mut walk) => {
                if objects.are_cut() {
                    // Where history is cut no walk need lead from new commits to known ones. All of these are compared, and
                    // wanted ones that turned out to be known.
                    let mut reached = Marks::default();
                    walk.reachable.iter().for_each(|number| {
                        reached.insert(*number);
                    });
                    let named = known.iter().chain(wants).map(|id| walk.commits.number(id));
                    walk.boundary.extend(named.filter(|number| !reached.contains(*number)));
                }
                return Ok(walk);
            }
            Err(error) => match error.downcast_ref::<Missing>() {
                Some(Missing(id)) => return Err(Broken::missing("commit", id)),
                None if error.chain().any(|cause| cause.is::<io::Error>()) => return Err(error),
                // A damaged commit. If it is a new one it is met again; if it is a known one it does not matter.
                None => {}
            },
        }
    }
    Ok(near(objects, wants, &[], pulse)?.expect("without known commits there is no other end"))
}

/// Walks from `wants` until it meets commits that are themselves named in `known`: all that a push or a fetch of what was
/// added since needs, without reading the known ones. `None` when that did not end soon.
///
/// # Errors
/// [`Broken`] for what new commits name and is missing or corrupt.
pub(super) fn near<'a>(
    objects: &'a Objects,
    wants: &[ObjectId],
    known: &[ObjectId],
    pulse: &mut dyn Pulse,
) -> Result<Option<CommitWalk<'a>>> {
    let known = Names::new(known);
    let patience = known.ids.len().saturating_mul(2).saturating_add(256);
    let mut commits = Commits::new(objects);
    let mut met = Marks::default();
    let (mut new, mut boundary) = (Vec::new(), Vec::new());
    let mut pending: Vec<u32> = wants.iter().map(|id| commits.number(id)).collect();
    let mut parents = Vec::new();
    while let Some(number) = pending.pop() {
        if !met.insert(number) {
            continue;
        }
        if known.contains(commits.id(number)) {
            // Refs point to other things too, but no commit is born of these. A damaged known commit is not this one's business.
            if let Err(error) = commits.tree(number)
                && objects.kind(commits.id(number))?.is_some_and(|kind| kind != Kind::Commit)
            {
                return Err(broken(&commits, number, error));
            }
            boundary.push(number);
            continue;
        }
        if new.len() == patience && !known.ids.is_empty() {
            return Ok(None);
        }
        if new.len() == WALKED_ALONE && pending.len() >= ENDS_MIN && known.ids.is_empty() && !objects.are_cut() {
            commits.read_ahead(&pending);
        }
        new.push(number);
        pulse.tick(new.len() as u64)?;
        commits.parents(number, &mut parents).map_err(|error| broken(&commits, number, error))?;
        pending.append(&mut parents);
    }
    Ok(Some(CommitWalk { commits, reachable: new, boundary }))
}

pub(super) fn broken(commits: &Commits<'_>, number: u32, error: anyhow::Error) -> anyhow::Error {
    let id = commits.id(number);
    if error.is::<Missing>() { Broken::missing("commit", id) } else { Broken::bad("commit", id, error) }
}

impl History {
    /// Gives numbers to what a walk found; without `roots` nobody asks for trees, and none is looked up.
    ///
    /// # Errors
    /// [`Broken`] for what new commits name and is missing or corrupt.
    pub(super) fn new(
        numbers: &mut Numbers<'_>,
        walk: CommitWalk<'_>,
        roots: bool,
        absent: &mut Absent,
    ) -> Result<Self> {
        let CommitWalk { mut commits, reachable, boundary } = walk;
        let mut history = History::default();
        let (mut new_roots, mut boundary_roots) = (Marks::default(), Marks::default());
        let (mut missing, mut known) = (Vec::new(), HashSet::new());
        for number in reachable {
            let id = commits.id(number);
            history.new.insert(numbers.of(id)?.ok_or_else(|| Broken::missing("commit", id))?);
            if !roots {
                continue;
            }
            let tree = commits.tree(number).map_err(|error| broken(&commits, number, error))?;
            match numbers.of(&tree)? {
                Some(tree) if new_roots.insert(tree) => history.new_roots.push(tree),
                Some(_) => {}
                None => missing.push(tree),
            }
        }
        for number in boundary {
            let Some(commit) = numbers.of(commits.id(number))? else { continue };
            // What a damaged known commit would keep away is taken for new.
            let Ok(tree) = commits.tree(number) else { continue };
            history.boundary.insert(commit);
            if !missing.is_empty() {
                known.insert(tree);
            }
            if let Some(tree) = numbers.of(&tree)?.filter(|tree| roots && boundary_roots.insert(*tree)) {
                history.boundary_roots.push(tree);
            }
        }
        // What the other side's commits have it has, whether we do or not.
        missing.retain(|tree| !known.contains(tree));
        missing.iter().try_for_each(|tree| absent.meet("tree", tree))?;
        Ok(history)
    }
}

/// An empty slot.
const NOTHING: u32 = u32::MAX;

/// Names to be met: a hash table of positions, because there may be as many as refs.
struct Names<'a> {
    ids: &'a [ObjectId],
    slots: Vec<u32>,
}

impl<'a> Names<'a> {
    fn new(ids: &'a [ObjectId]) -> Self {
        let ids = &ids[..ids.len().min(NOTHING as usize)];
        let mut slots = vec![NOTHING; (ids.len() * 2).next_power_of_two()];
        for (index, id) in ids.iter().enumerate() {
            let mut at = Self::hash(id) & (slots.len() - 1);
            while ids.get(slots[at] as usize).is_some_and(|other| other != id) {
                at = (at + 1) & (slots.len() - 1);
            }
            slots[at] = index as u32;
        }
        Names { ids, slots }
    }

    /// Names are hashes already.
    fn hash(id: &oid) -> usize {
        id.as_bytes().iter().skip(1).take(4).fold(0, |hash, byte| hash << 8 | usize::from(*byte))
    }

    fn contains(&self, id: &oid) -> bool {
        let mut at = Self::hash(id) & (self.slots.len() - 1);
        while let Some(known) = self.ids.get(self.slots[at] as usize) {
            if **known == *id {
                return true;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        false
    }
}

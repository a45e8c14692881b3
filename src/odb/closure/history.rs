//! Commits between wanted and known ones.
//!
//! In: IDs of commits. Out: the numbers of new commits, of the known commits at the boundary, and of the root trees of
//! both.

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

/// After this many commits there may be many more. If this many others are still pending by then, it pays to let
/// several threads read ahead.
const WALKED_ALONE: usize = 1024;
const ENDS_MIN: usize = 16;

/// The result of a walk, as numbers.
#[derive(Default)]
pub(super) struct History {
    /// Commits reachable from wanted commits and not from known ones.
    pub(super) new: Marks,
    /// Known parents of new commits.
    pub(super) boundary: Marks,
    /// The trees of new commits, each once.
    pub(super) new_roots: Vec<u32>,
    /// The trees of boundary commits, each once.
    pub(super) boundary_roots: Vec<u32>,
}

/// Finds the commits between `wants` and `known`, both IDs of commits.
///
/// # Errors
/// [`Broken`] when a new commit or a parent of one is missing or corrupt.
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
                    // Where history is cut, new commits need not lead to known ones. So all known commits join the
                    // boundary, and wanted ones that turned out to be known.
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
                // A commit is damaged. A new one is met again by the next walk; a known one does not matter.
                None => {}
            },
        }
    }
    Ok(near(objects, wants, &[], pulse)?.expect("without known commits there is no other end"))
}

/// Walks from `wants` until it meets only commits named in `known` themselves. That is enough for a push or fetch of
/// what was added since, and reads none of the known commits. `None` if the walk does not end soon.
///
/// # Errors
/// [`Broken`] when a new commit or a parent of one is missing or corrupt.
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
            // A ref may point to another kind of object, which cannot be a parent. Damage to a known commit is not
            // reported here.
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
    /// Converts the result of a walk to object numbers. Without `roots`, no tree is looked up.
    ///
    /// # Errors
    /// [`Broken`] when a new commit or its tree is missing or corrupt.
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
            // A damaged known commit excludes nothing: what is reachable from it is taken as new.
            let Ok(tree) = commits.tree(number) else { continue };
            history.boundary.insert(commit);
            if !missing.is_empty() {
                known.insert(tree);
            }
            if let Some(tree) = numbers.of(&tree)?.filter(|tree| roots && boundary_roots.insert(*tree)) {
                history.boundary_roots.push(tree);
            }
        }
        // The other side has the trees of its own commits, whether or not we do.
        missing.retain(|tree| !known.contains(tree));
        missing.iter().try_for_each(|tree| absent.meet("tree", tree))?;
        Ok(history)
    }
}

/// An empty slot.
const NOTHING: u32 = u32::MAX;

/// A set of IDs: a hash table of positions, because there may be as many as refs.
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

    /// IDs are hashes already.
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

//! Connectivity of what was pushed (CO-01, CO-02), and where history would have to be cut for it (SP-01 to SP-04).
//!
//! In: open verdicts, and the pushed objects. Out: the same verdicts, refused where objects are missing. A client whose
//! history is cut may push what is complete here. What is complete only with the client's boundary is refused, unless
//! the owner accepts that boundary as ours. No ref and no boundary is changed here.

use super::client::{Client, KeepAlives};
use super::verdicts::{Verdict, Verdicts};
use crate::odb::Objects;
use crate::odb::closure::Missing;
use crate::odb::ids::IdSet;
use crate::odb::walk::{self, CommitWalk};
use crate::protocol::push::PushRequest;
use crate::protocol::report::Refusal;
use crate::repo::connectivity::{self, Gap, Terms};
use crate::repo::quarantine::Quarantine;
use crate::repo::visible::{self, For};
use crate::repo::{Repository, alternate_refs, shallow};
use crate::service::ServeError;
use bstr::ByteSlice;
use gix_hash::ObjectId;
use gix_object::Kind;
use std::collections::HashMap;

/// A push of at most this many refs is first checked against those refs and HEAD alone.
const NEAR_REFS_MAX: usize = 8;
/// The most commits of history for which that first check is tried.
const NEAR_COMMITS_MAX: usize = 64;

/// Up to this many commits of the client's boundary are examined one by one; if there are more, all of them become our
/// boundary.
const ONE_BY_ONE_MAX: usize = 100;

/// Where history has to be cut for some of the verdicts.
#[derive(Debug, Default)]
pub(super) struct NewCut {
    /// The commits at which to cut it.
    pub(super) commits: Vec<ObjectId>,
    /// Tips that are complete without a cut.
    known: Vec<ObjectId>,
}

impl NewCut {
    /// Those of the commits that the given tips need.
    pub(super) fn needed_by(
        &self,
        objects: &Objects,
        tips: &[ObjectId],
        client: &mut Client<'_>,
    ) -> anyhow::Result<Vec<ObjectId>> {
        let walk = walk::reachable_commits(objects, tips, &self.known, &mut KeepAlives(client))?;
        Ok(met(&walk, &self.commits))
    }
}

/// Those of the commits that a walk has met.
fn met(walk: &CommitWalk<'_>, commits: &[ObjectId]) -> Vec<ObjectId> {
    let wanted: IdSet = commits.iter().copied().collect();
    walk.reachable.iter().map(|number| walk.commits.id(*number).to_owned()).filter(|id| wanted.contains(id)).collect()
}

/// Checks that new tips are complete. `received`: how many objects were pushed.
pub(super) fn check(
    repository: &Repository,
    request: &PushRequest,
    quarantine: Option<&Quarantine>,
    received: u32,
    verdicts: &mut Verdicts<'_>,
    client: &mut Client<'_>,
) -> Result<NewCut, ServeError> {
    let Some(quarantine) = quarantine.filter(|_| !repository.context.push.skip_connectivity) else {
        return Ok(NewCut::default());
    };
    let settings = &repository.settings;
    let missing = if settings.is_partial_clone() { Missing::Promised } else { Missing::Refused };
    let terms = Terms { missing, tree_depth_max: settings.tree_depth_max };
    let mut tips: Vec<ObjectId> = verdicts.open().filter_map(new_tip).collect();
    let mut asked = Asked { objects: quarantine.objects(), known: near_tips(repository, verdicts)?, terms, client };
    // A push mostly builds on the current values of its refs. Then the other refs, of which there may be very many,
    // need not be read.
    if asked.is_near(&tips, received) && asked.lacks(&tips, None)?.is_none() {
        return Ok(NewCut::default());
    }
    asked.known = known_tips(repository)?;
    if asked.lacks(&tips, None)?.is_none() {
        return Ok(NewCut::default());
    }
    tips.sort_unstable();
    tips.dedup();
    let mut incomplete: HashMap<ObjectId, Gap> = HashMap::new();
    for tip in tips {
        match asked.lacks(&[tip], None)? {
            None => asked.known.push(tip),
            Some(gap) => drop(incomplete.insert(tip, gap)),
        }
    }
    let complete_for_client = asked.complete_when_cut(&request.shallow, &mut incomplete)?;
    let allowed = repository.settings.shallow_update;
    let commits = if allowed { asked.choose_cut(&request.shallow, &complete_for_client)? } else { Vec::new() };
    let new_cut = NewCut { commits, known: asked.known };
    let complete_for_client: IdSet = complete_for_client.into_iter().collect();
    for verdict in verdicts.open() {
        let Some(tip) = new_tip(verdict) else { continue };
        if let Some(gap) = incomplete.get(&tip) {
            client.message(&format!("error: {gap}"))?;
            verdict.judge(Err(Refusal::MissingObjects));
        } else if complete_for_client.contains(&tip) {
            verdict.is_cut = allowed;
            verdict.judge(if allowed { Ok(()) } else { Err(Refusal::ShallowUpdate) });
        }
    }
    if !new_cut.commits.is_empty() {
        shallow::announce(repository, &new_cut.commits)?;
    }
    Ok(new_cut)
}

fn new_tip(verdict: &mut Verdict<'_>) -> Option<ObjectId> {
    verdict.update.change.new_value()
}

/// The context of connectivity checks.
struct Asked<'a, 'c, 'h> {
    /// The objects, including those pushed.
    objects: &'a Objects,
    /// Tips assumed to be complete.
    known: Vec<ObjectId>,
    terms: Terms,
    client: &'c mut Client<'h>,
}

impl Asked<'_, '_, '_> {
    /// Whether all paths down from the tips soon meet known tips, with at most as many commits in between as objects
    /// were received. This only suggests that the cheap check will succeed; it proves nothing.
    fn is_near(&self, tips: &[ObjectId], received: u32) -> bool {
        let most = NEAR_COMMITS_MAX.min(usize::try_from(received).unwrap_or(NEAR_COMMITS_MAX));
        let mut seen = IdSet::default();
        let mut open = tips.to_vec();
        while let Some(id) = open.pop() {
            if self.known.contains(&id) || !seen.insert(id) {
                continue;
            }
            let parents = if seen.len() <= most { parents(self.objects, &id) } else { Vec::new() };
            if parents.is_empty() {
                return false;
            }
            open.extend(parents);
        }
        true
    }

    /// What keeps one of the tips from being connected, mostly a missing object, if history is cut at `cut`.
    fn lacks(&mut self, tips: &[ObjectId], cut: Option<&[ObjectId]>) -> anyhow::Result<Option<Gap>> {
        let seen = cut.map(|cut| self.objects.cut_at(cut.iter().copied()));
        let objects = seen.as_ref().unwrap_or(self.objects);
        let checked = connectivity::check(objects, tips, &self.known, self.terms, &mut KeepAlives(self.client))?;
        Ok(checked.err())
    }

    /// Removes from `incomplete` the tips that are complete with the client's boundary, and returns them.
    fn complete_when_cut(
        &mut self,
        shallow: &[ObjectId],
        incomplete: &mut HashMap<ObjectId, Gap>,
    ) -> anyhow::Result<Vec<ObjectId>> {
        let mut complete = Vec::new();
        if !shallow.is_empty() {
            let mut tips: Vec<ObjectId> = incomplete.keys().copied().collect();
            tips.sort_unstable();
            for tip in tips {
                if self.lacks(&[tip], Some(shallow))?.is_none() {
                    incomplete.remove(&tip);
                    complete.push(tip);
                }
            }
        }
        Ok(complete)
    }

    /// The commits at which these tips' history has to be cut: those of the client's boundary that they reach and
    /// beyond which something is missing. Where nothing is missing, history is not cut.
    fn choose_cut(&mut self, shallow: &[ObjectId], tips: &[ObjectId]) -> anyhow::Result<Vec<ObjectId>> {
        if tips.is_empty() {
            return Ok(Vec::new());
        }
        let seen = self.objects.cut_at(shallow.iter().copied());
        let walk = walk::reachable_commits(&seen, tips, &self.known, &mut KeepAlives(self.client))?;
        let mut cut = Vec::new();
        let mut perhaps = Vec::new();
        let mut behind = Vec::new();
        for id in met(&walk, shallow) {
            let parents = parents(self.objects, &id);
            let mut there = true;
            for parent in &parents {
                there &= self.objects.contains(parent)?;
            }
            if there {
                behind.extend_from_slice(&parents);
                perhaps.push((id, parents));
            } else {
                cut.push(id);
            }
        }
        if self.lacks(&behind, Some(&cut))?.is_none() {
            return Ok(cut);
        }
        let one_by_one = perhaps.len() <= ONE_BY_ONE_MAX;
        for (id, parents) in perhaps {
            if !one_by_one || self.lacks(&parents, Some(&cut))?.is_some() {
                cut.push(id);
            }
        }
        Ok(cut)
    }
}

/// A commit's parents, regardless of where history is cut. Other objects have none, and are not read.
fn parents(objects: &Objects, id: &ObjectId) -> Vec<ObjectId> {
    let is_commit = objects.kind(id).is_ok_and(|kind| kind == Some(Kind::Commit));
    let mut content = Vec::new();
    match is_commit.then(|| objects.find(id, &mut content)) {
        Some(Ok(Some(Kind::Commit))) => {
            gix_object::CommitRefIter::from_bytes(&content, objects.hash_kind()).parent_ids().collect()
        }
        _ => Vec::new(),
    }
}

/// Some of the tips assumed to be complete: the current values of the refs this push changes, if there are few, and
/// HEAD.
fn near_tips(repository: &Repository, verdicts: &mut Verdicts<'_>) -> anyhow::Result<Vec<ObjectId>> {
    let mut near = Vec::new();
    let mut names = vec![b"HEAD".as_bstr()];
    if verdicts.open().count() <= NEAR_REFS_MAX {
        // Names outside `refs/`, such as ORIG_HEAD, do not keep their objects from being pruned, so they are not used.
        let refs = verdicts.open().map(|verdict| verdict.update.name.as_bstr());
        names.extend(refs.filter(|name| name.starts_with(b"refs/")));
    }
    for name in names {
        // An unreadable ref is reported where it matters.
        if let Ok(Some(id)) = repository.refs.resolve(visible::full_name(repository, name).as_bstr())
            && repository.objects.contains(&id)?
        {
            near.push(id);
        }
    }
    Ok(near)
}

/// The tips assumed to be complete: those of our refs that are not hidden, HEAD, and those of alternates.
fn known_tips(repository: &Repository) -> anyhow::Result<Vec<ObjectId>> {
    let mut known = Vec::new();
    let namespaced = repository.context.namespace.is_some();
    repository.refs.for_each(&[], &mut |row| {
        // Hidden refs are left out because there may be very many of them. With a namespace none count as hidden: names
        // outside it are not the client's.
        let hidden = !namespaced && visible::is_hidden(repository, For::Receive, row.name);
        let id = row.id.id();
        if !hidden && repository.objects.contains(&id)? {
            known.push(id);
        }
        Ok(())
    })?;
    // A detached HEAD has history of its own.
    if let Ok(Some(head)) = repository.refs.resolve(b"HEAD".as_bstr())
        && repository.objects.contains(&head)?
    {
        known.push(head);
    }
    alternate_refs::for_each(repository, &mut |id| {
        if repository.objects.contains(&id)? {
            known.push(id);
        }
        Ok(())
    })?;
    known.sort_unstable();
    known.dedup();
    Ok(known)
}

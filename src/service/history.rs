//! Commits behind refs and wants: what negotiation and the policy of wants ask of the repository.
//!
//! In: object names. Out: whether they are reachable. Nothing is written; of trees and blobs nothing is known here.

use super::negotiation::Ancestry;
use super::wants::Rule;
use crate::odb::Objects;
use crate::repo::Repository;
use crate::repo::visible::{self, For};
use crate::stream::Pulse;
use bstr::BString;
use gix_hash::{ObjectId, oid};
use gix_object::{CommitRefIter, Kind, TagRefIter};
use std::collections::{BinaryHeap, HashSet};

/// A commit as walks need it.
struct Commit {
    parents: Vec<ObjectId>,
    /// Unix seconds of its committer; 0 where it cannot be read.
    time: i64,
}

/// Commits of one repository, from the commit-graph or parsed.
struct Commits<'r> {
    objects: &'r Objects,
    buffer: Vec<u8>,
}

impl<'r> Commits<'r> {
    fn new(objects: &'r Objects) -> Self {
        Commits { objects, buffer: Vec::new() }
    }

    /// `None`: missing, or no commit.
    fn commit(&mut self, id: &oid) -> anyhow::Result<Option<Commit>> {
        if let Some(graph) = self.objects.graph()
            && let Some(commit) = graph.commit_by_id(id)
        {
            let parents = commit.iter_parents().map(|parent| Ok(graph.id_at(parent?).to_owned()));
            let time = i64::try_from(commit.committer_timestamp()).unwrap_or(i64::MAX);
            return Ok(Some(Commit { parents: parents.collect::<anyhow::Result<_>>()?, time }));
        }
        if self.objects.find(id, &mut self.buffer)? != Some(Kind::Commit) {
            return Ok(None);
        }
        let commit = CommitRefIter::from_bytes(&self.buffer, self.objects.hash_kind());
        let time = commit.committer().map_or(0, |committer| committer.seconds());
        Ok(Some(Commit { parents: commit.parent_ids().collect(), time }))
    }

    /// What a tag points to; `None` for what is missing or no tag.
    fn tagged(&mut self, id: &oid) -> anyhow::Result<Option<ObjectId>> {
        if self.objects.find(id, &mut self.buffer)? != Some(Kind::Tag) {
            return Ok(None);
        }
        Ok(Some(TagRefIter::from_bytes(&self.buffer, self.objects.hash_kind()).target_id()?))
    }
}

/// How far a walk goes for one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// To the very end: for what is refused otherwise.
    Whole,
    /// Down to commits a day older than the one looked for: for what is merely useful to know.
    Dated,
}

/// Clocks of committers differ by less than this, it is hoped; where they do not, a have is not acknowledged.
const SKEW_S: i64 = 86_400;

/// How many commits a walk may remember: each is a name in a set and one in a queue, beside the room that hash tables keep free.
fn remembered_max(repository: &Repository) -> usize {
    const BYTES_EACH: u64 = 192;
    usize::try_from(repository.context.memory / BYTES_EACH).unwrap_or(usize::MAX)
}

/// What is reachable from visible refs, found out as far as it is asked for.
pub struct Visible<'r> {
    repository: &'r Repository,
    hidden_for: For,
    commits: Commits<'r>,
    /// The newest commit first. They are in `seen` already.
    queue: BinaryHeap<(i64, ObjectId)>,
    seen: HashSet<ObjectId>,
    roots: Roots,
    /// How many objects may be remembered.
    most: usize,
}

/// Which refs the walk has begun from: branches lead to nearly everything, and a repository may have many other refs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Roots {
    None,
    Branches,
    All,
}

/// What a walk found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It is reachable.
    Yes,
    /// It is not, as far as the walk goes.
    No,
    /// The memory allowed is used up.
    OutOfMemory,
}

impl<'r> Visible<'r> {
    /// Nothing is read yet.
    pub fn new(repository: &'r Repository, hidden_for: For) -> Self {
        Visible {
            repository,
            hidden_for,
            commits: Commits::new(&repository.objects),
            queue: BinaryHeap::new(),
            seen: HashSet::new(),
            roots: Roots::None,
            most: remembered_max(repository),
        }
    }

    /// Whether a commit or tag can be reached.
    ///
    /// # Errors
    /// When refs or objects cannot be read, or the client has gone.
    pub fn reaches(&mut self, id: &oid, reach: Reach, pulse: &mut dyn Pulse) -> anyhow::Result<Found> {
        if self.seen.contains(id) {
            return Ok(Found::Yes);
        }
        let oldest = match (reach, self.commits.commit(id)?) {
            (Reach::Dated, Some(commit)) => commit.time.saturating_sub(SKEW_S),
            (Reach::Whole, _) | (_, None) => i64::MIN,
        };
        loop {
            match self.walk(id, oldest, pulse)? {
                Found::No => {}
                found => return Ok(found),
            }
            match self.roots {
                Roots::None => self.begin_at_branches()?,
                Roots::Branches => self.begin_at_all()?,
                Roots::All => return Ok(Found::No),
            }
        }
    }

    fn walk(&mut self, id: &oid, oldest: i64, pulse: &mut dyn Pulse) -> anyhow::Result<Found> {
        while !self.seen.contains(id) {
            if self.queue.peek().is_none_or(|&(time, _)| time < oldest) {
                return Ok(Found::No);
            }
            if self.seen.len() > self.most {
                return Ok(Found::OutOfMemory);
            }
            let Some((_, commit)) = self.queue.pop() else {
                return Ok(Found::No);
            };
            for parent in self.commits.commit(&commit)?.map(|commit| commit.parents).unwrap_or_default() {
                self.add(parent)?;
            }
            pulse.tick(self.seen.len() as u64)?;
        }
        Ok(Found::Yes)
    }

    fn add(&mut self, id: ObjectId) -> anyhow::Result<()> {
        if self.seen.insert(id)
            && let Some(commit) = self.commits.commit(&id)?
        {
            self.queue.push((commit.time, id));
        }
        Ok(())
    }

    /// A ref's object: a tag with all it points to.
    fn add_tip(&mut self, mut id: ObjectId, maybe_tag: bool) -> anyhow::Result<()> {
        if maybe_tag {
            while let Some(target) = self.commits.tagged(&id)? {
                if !self.seen.insert(id) {
                    return Ok(());
                }
                id = target;
            }
        }
        self.add(id)
    }

    fn begin_at_branches(&mut self) -> anyhow::Result<()> {
        self.roots = Roots::Branches;
        if let Some(id) = visible::head(self.repository, self.hidden_for)?.and_then(|head| head.id) {
            self.add_tip(id, true)?;
        }
        self.begin_at(&["refs/heads/".into()])
    }

    fn begin_at_all(&mut self) -> anyhow::Result<()> {
        self.roots = Roots::All;
        self.begin_at(&[])
    }

    fn begin_at(&mut self, prefixes: &[BString]) -> anyhow::Result<()> {
        let repository = self.repository;
        visible::for_each(repository, self.hidden_for, prefixes, true, &mut |tip| {
            self.add_tip(tip.id, tip.peeled.is_some())
        })
    }
}

/// The history negotiation asks about: haves as far as the policy lets this client know of them.
pub struct History<'r, 'p> {
    repository: &'r Repository,
    commits: Commits<'r>,
    rule: Rule,
    visible: Visible<'r>,
    pulse: &'p mut dyn Pulse,
    /// The time of the oldest common commit: what is older cannot reach one (NE-11).
    oldest: Option<i64>,
    /// How many commits may be remembered.
    most: usize,
}

impl<'r, 'p> History<'r, 'p> {
    /// Nothing is read yet.
    pub fn new(repository: &'r Repository, rule: Rule, pulse: &'p mut dyn Pulse) -> Self {
        History {
            repository,
            commits: Commits::new(&repository.objects),
            rule,
            visible: Visible::new(repository, For::Upload),
            pulse,
            oldest: None,
            most: remembered_max(repository),
        }
    }

    /// Whether this client may know that we have an object.
    fn tells(&mut self, id: &oid, kind: Kind) -> anyhow::Result<bool> {
        let strict = match self.rule {
            Rule::Any | Rule::Git { .. } => return Ok(true),
            Rule::Commits => false,
            Rule::Reachable | Rule::Advertised => true,
        };
        match kind {
            Kind::Tree | Kind::Blob => Ok(!strict),
            Kind::Commit | Kind::Tag => Ok(self.visible.reaches(id, Reach::Dated, self.pulse)? == Found::Yes),
        }
    }

    /// Depth first from a wanted commit to something common, as far as nothing is older than what is common. Where the memory
    /// allowed does not suffice it is not found, and the client goes on with its haves.
    fn reaches_one(
        &mut self,
        want: ObjectId,
        common: &HashSet<ObjectId>,
        seen: &mut HashSet<ObjectId>,
        reaching: &mut HashSet<ObjectId>,
    ) -> anyhow::Result<bool> {
        let Some(commit) = self.commits.commit(&want)? else {
            return Ok(false);
        };
        seen.insert(want);
        let mut path = vec![(want, commit.parents.into_iter())];
        while let Some((id, parents)) = path.last_mut() {
            let id = *id;
            if common.contains(&id) || reaching.contains(&id) {
                path.pop();
                reaching.insert(id);
                reaching.extend(path.last().map(|(child, _)| *child));
                continue;
            }
            let Some(parent) = parents.next() else {
                path.pop();
                continue;
            };
            if common.contains(&parent) || reaching.contains(&parent) {
                reaching.insert(id);
            } else if seen.len() < self.most && seen.insert(parent) {
                self.pulse.tick(seen.len() as u64)?;
                if let Some(commit) = self.commits.commit(&parent)?
                    && self.oldest.is_none_or(|oldest| commit.time >= oldest)
                {
                    path.push((parent, commit.parents.into_iter()));
                }
            }
        }
        Ok(reaching.contains(&want))
    }
}

impl Ancestry for History<'_, '_> {
    fn known(&mut self, id: &oid) -> anyhow::Result<Option<Vec<ObjectId>>> {
        if !self.repository.objects.contains(id)? {
            return Ok(None);
        }
        if let Some(commit) = self.commits.commit(id)? {
            if !self.tells(id, Kind::Commit)? {
                return Ok(None);
            }
            self.oldest = Some(self.oldest.map_or(commit.time, |oldest| oldest.min(commit.time)));
            return Ok(Some(commit.parents));
        }
        match self.repository.objects.header(id)? {
            Some(header) if self.tells(id, header.kind)? => Ok(Some(Vec::new())),
            Some(_) | None => Ok(None),
        }
    }

    fn reaches_all(&mut self, wants: &[ObjectId], common: &HashSet<ObjectId>) -> anyhow::Result<bool> {
        if common.is_empty() {
            return Ok(false);
        }
        let (mut seen, mut reaching) = (HashSet::new(), HashSet::new());
        for want in wants {
            let commit = match self.repository.objects.peel(want)? {
                None => return Ok(false),
                Some((_, Kind::Tree | Kind::Blob | Kind::Tag)) => continue,
                Some((id, Kind::Commit)) => id,
            };
            if !reaching.contains(&commit)
                && (seen.contains(&commit) || !self.reaches_one(commit, common, &mut seen, &mut reaching)?)
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

//! The history of commits as negotiation and the policy of wants query it.
//!
//! In: object names. Out: whether they are reachable from visible refs, and whether wants reach what is common. Nothing is
//! written, and trees are never walked.

use super::negotiation::Ancestry;
use super::wants::Rule;
use crate::odb::Objects;
use crate::odb::graph::Commits;
use crate::odb::walk;
use crate::repo::Repository;
use crate::repo::visible::{self, For};
use crate::stream::Pulse;
use bstr::BString;
use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use std::collections::{BinaryHeap, HashSet};

/// How many commits a walk may visit within the memory allowed: each has a record, a name in a table, and a place in a
/// queue.
pub fn commits_max(repository: &Repository) -> u64 {
    const BYTES_EACH: u64 = 256;
    repository.context.memory / BYTES_EACH
}

/// Returns what visible refs point to, HEAD's object first, and for each tag also what it peels to.
///
/// # Errors
/// When refs cannot be read.
pub fn tips(repository: &Repository, hidden_for: For, prefixes: &[BString]) -> anyhow::Result<Vec<ObjectId>> {
    let mut tips = Vec::new();
    tips.extend(head(repository, hidden_for)?);
    visible::for_each(repository, hidden_for, prefixes, true, &mut |tip| {
        tips.push(tip.id.id());
        tips.extend(tip.peeled.target().map(|peeled| peeled.id()));
        Ok(())
    })?;
    Ok(tips)
}

/// What HEAD points to, if that object is here.
fn head(repository: &Repository, hidden_for: For) -> anyhow::Result<Option<ObjectId>> {
    match visible::head(repository, hidden_for).and_then(|head| head.id) {
        Some(id) if repository.objects.contains(&id)? => Ok(Some(id)),
        Some(_) | None => Ok(None),
    }
}

/// How far committers' clocks are expected to differ at most. Where they differ by more, a have is not acknowledged
/// unless the answer must be exact.
const SKEW_S: i64 = 86_400;

/// The commits and tags reachable from visible refs, walked only as far as queries require: a have is mostly near the
/// tips.
struct Visible<'r> {
    repository: &'r Repository,
    /// Commits yet to be walked, newest first. They are already marked in `met`.
    queue: BinaryHeap<(i64, u32)>,
    /// The commits met so far, one bit each, by number.
    met: Vec<u64>,
    /// How many commits were met.
    count: u64,
    /// Tags that were met, and objects known to be tips without a walk.
    known: HashSet<ObjectId>,
    roots: Roots,
    /// Whether all of history is walked before a commit is reported as unreachable.
    exact: bool,
}

/// The refs the walk has started from. HEAD comes first because it reaches nearly everything, and a repository may have
/// very many refs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Roots {
    None,
    Head,
    Branches,
    All,
}

impl<'r> Visible<'r> {
    fn new(repository: &'r Repository) -> Self {
        Visible {
            repository,
            queue: BinaryHeap::new(),
            met: Vec::new(),
            count: 0,
            known: HashSet::new(),
            roots: Roots::None,
            exact: false,
        }
    }

    fn has_met(&self, number: u32) -> bool {
        self.met.get(number as usize / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    fn meet(&mut self, number: u32, commits: &mut Commits<'_>) -> anyhow::Result<()> {
        if self.has_met(number) {
            return Ok(());
        }
        let word = number as usize / 64;
        if word >= self.met.len() {
            self.met.resize((word + 1).next_power_of_two(), 0);
        }
        self.met[word] |= 1 << (number % 64);
        self.count += 1;
        self.queue.push((commits.time(number)?, number));
        Ok(())
    }

    /// Whether a tag can be reached. Only refs and other tags point to tags, so no walk is needed.
    fn reaches_tag(&mut self, id: &oid, commits: &mut Commits<'_>) -> anyhow::Result<bool> {
        self.begin(Roots::All, commits)?;
        Ok(self.known.contains(id))
    }

    /// Whether a commit can be reached. Unless it must be exact, the walk ends at commits a day older than this one; it
    /// always ends when the memory allowed is used up. A commit not found by then is treated as unknown to the client,
    /// which at worst costs a larger pack.
    fn reaches(&mut self, number: u32, commits: &mut Commits<'_>, pulse: &mut dyn Pulse) -> anyhow::Result<bool> {
        let oldest = commits.time(number)?.saturating_sub(SKEW_S);
        for roots in [Roots::Head, Roots::Branches, Roots::All] {
            self.begin(roots, commits)?;
            if self.walk(number, oldest, commits, pulse)? {
                return Ok(true);
            }
        }
        Ok(self.exact && self.walk(number, i64::MIN, commits, pulse)?)
    }

    fn walk(
        &mut self,
        number: u32,
        oldest: i64,
        commits: &mut Commits<'_>,
        pulse: &mut dyn Pulse,
    ) -> anyhow::Result<bool> {
        let mut parents = Vec::new();
        while !self.has_met(number) && self.count < commits_max(self.repository) {
            match self.queue.peek() {
                Some(&(time, _)) if time >= oldest => {}
                Some(_) | None => break,
            }
            let Some((_, next)) = self.queue.pop() else {
                break;
            };
            commits.parents(next, &mut parents)?;
            for &parent in &parents {
                self.meet(parent, commits)?;
            }
            pulse.tick(self.count)?;
        }
        Ok(self.has_met(number))
    }

    /// Starts the walk from more refs, unless it already has.
    fn begin(&mut self, roots: Roots, commits: &mut Commits<'_>) -> anyhow::Result<()> {
        if roots <= self.roots {
            return Ok(());
        }
        self.roots = roots;
        let tips = match roots {
            Roots::None | Roots::Head => head(self.repository, For::Upload)?.into_iter().collect(),
            Roots::Branches => tips(self.repository, For::Upload, &["refs/heads/".into()])?,
            Roots::All => tips(self.repository, For::Upload, &[])?,
        };
        let split = walk::split(&self.repository.objects, &tips);
        self.known.extend(split.tags);
        for id in split.commits {
            let number = commits.number(&id);
            self.meet(number, commits)?;
        }
        Ok(())
    }
}

/// The history that negotiation queries: haves, as far as the policy lets this client know of them.
pub struct History<'r> {
    repository: &'r Repository,
    /// Our own view of history, used to find out what the client may know of.
    commits: Commits<'r>,
    /// The client's view of history, if its history is cut.
    client: Option<Commits<'r>>,
    rule: Rule,
    visible: Visible<'r>,
    /// Haves of this round that are not here.
    absent: HashSet<ObjectId>,
    /// The time of the oldest common commit: an older commit cannot reach one (NE-11).
    oldest: i64,
}

impl<'r> History<'r> {
    /// Starts with nothing read.
    pub fn new(repository: &'r Repository, rule: Rule) -> Self {
        History {
            repository,
            commits: Commits::new(&repository.objects),
            client: None,
            rule,
            visible: Visible::new(repository),
            absent: HashSet::new(),
            oldest: i64::MAX,
        }
    }

    /// The same for a client whose history is cut: the commits at which `seen` is cut have no parents for it, so that
    /// nothing beyond them is taken to be common.
    pub fn seen_as(mut self, seen: &'r Objects) -> Self {
        self.client = seen.are_cut().then(|| Commits::new(seen));
        self
    }

    /// The same for queries whose answer must not depend on clocks: a negative answer takes a walk over all of history.
    pub fn exact(mut self) -> Self {
        self.visible.exact = true;
        self
    }

    /// Prepares one round; what was found out stays for the next one.
    pub fn round<'h>(&'h mut self, pulse: &'h mut dyn Pulse) -> RoundHistory<'h, 'r> {
        RoundHistory { history: self, pulse, queried: 0 }
    }

    /// Whether this client may know that we have an object.
    fn may_be_told(&mut self, id: &oid, kind: Kind, pulse: &mut dyn Pulse) -> anyhow::Result<bool> {
        if self.rule.tells_all() || self.visible.known.contains(id) {
            return Ok(true);
        }
        let others = self.rule == Rule::Commits;
        match kind {
            Kind::Tree | Kind::Blob => Ok(others),
            Kind::Tag => self.visible.reaches_tag(id, &mut self.commits),
            Kind::Commit => {
                let number = self.commits.number(id);
                self.visible.reaches(number, &mut self.commits, pulse)
            }
        }
    }
}

/// A history during one round, with a pulse to report progress to.
pub struct RoundHistory<'h, 'r> {
    history: &'h mut History<'r>,
    pulse: &'h mut dyn Pulse,
    /// How many haves were queried.
    queried: u64,
}

impl Ancestry for RoundHistory<'_, '_> {
    /// Most haves of a client with much work of its own are not here, and most of the others are tips: both are found
    /// at once, without a query for each.
    fn expect(&mut self, haves: &[ObjectId]) -> anyhow::Result<()> {
        let repository = self.history.repository;
        self.history.absent = repository.objects.absent(haves)?;
        if self.history.rule.tells_all() {
            return Ok(());
        }
        let absent = &self.history.absent;
        let present: HashSet<ObjectId> = haves.iter().filter(|have| !absent.contains(*have)).copied().collect();
        let mut others = present.clone();
        visible::take_tips(repository, For::Upload, &mut others)?;
        self.history.visible.known.extend(present.difference(&others));
        Ok(())
    }

    fn known(&mut self, id: &oid) -> anyhow::Result<Option<Vec<ObjectId>>> {
        self.queried += 1;
        self.pulse.tick(self.queried)?;
        let History { repository, absent, .. } = self.history;
        if absent.contains(id) {
            return Ok(None);
        }
        let Some(kind) = repository.objects.kind(id)? else {
            return Ok(None);
        };
        if !self.history.may_be_told(id, kind, self.pulse)? {
            return Ok(None);
        }
        if kind != Kind::Commit {
            return Ok(Some(Vec::new()));
        }
        let History { commits, client, oldest, .. } = self.history;
        let commits = client.as_mut().unwrap_or(commits);
        let number = commits.number(id);
        *oldest = (*oldest).min(commits.time(number)?);
        let mut parents = Vec::new();
        commits.parents(number, &mut parents)?;
        Ok(Some(parents.into_iter().map(|parent| commits.id(parent).to_owned()).collect()))
    }

    fn reaches_all(&mut self, wants: &[ObjectId], common: &HashSet<ObjectId>) -> anyhow::Result<bool> {
        if common.is_empty() {
            return Ok(false);
        }
        let History { repository, commits, client, oldest, .. } = self.history;
        let commits = client.as_mut().unwrap_or(commits);
        let wants = walk::split(&repository.objects, wants);
        if !wants.missing.is_empty() {
            return Ok(false);
        }
        let common: Vec<ObjectId> = common.iter().copied().collect();
        walk::reaches_all(commits, &wants.commits, &common, *oldest, self.pulse)
    }
}

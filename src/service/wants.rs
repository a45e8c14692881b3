//! Which objects may be asked for (`artifacts.wants`, UR-05 to UR-12).
//!
//! In: wants. Out: nothing, or the refusal of the first that is not allowed. The client never learns whether a refused
//! object is hidden or missing.

use super::{ServeError, history};
use crate::odb::closure::{Closure, Effort, Filter, Missing, Search};
use crate::odb::graph::Commits;
use crate::odb::walk::{self, Reached};
use crate::protocol::Version;
use crate::repo::settings::Wants;
use crate::repo::visible::{self, For};
use crate::repo::{AccessMode, Repository, revision};
use crate::stream::Pulse;
use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use std::collections::HashSet;

/// The rule of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Whatever exists.
    Any,
    /// Git's own rule of v0: tips, and with `walk` also the commits reachable from them; with `walk`, trees and blobs
    /// need only exist (UR-09).
    Git {
        /// Whether tips of hidden refs count too (UR-07, UR-10).
        hidden: bool,
        /// Whether more than tips may be asked for (UR-08).
        walk: bool,
    },
    /// Commits and tags must be reachable, trees and blobs need only exist.
    Commits,
    /// Everything must be reachable.
    Reachable,
    /// Only what is advertised.
    Advertised,
}

impl Rule {
    /// The rule of a repository for one version of the protocol.
    pub fn of(repository: &Repository, version: Version) -> Self {
        match Self::for_announcement(repository) {
            Rule::Git { .. } if version == Version::V2 => Rule::Any,
            rule => rule,
        }
    }

    /// The rule for v0, which an advertisement announces.
    pub fn for_announcement(repository: &Repository) -> Self {
        let (settings, context) = (&repository.settings, &repository.context);
        let hides = !settings.upload_hide_refs.is_empty() || context.namespace.is_some();
        let git = settings.git_wants;
        match (settings.wants, context.mode) {
            (Some(Wants::Any), _) => Rule::Any,
            (Some(Wants::Commits), _) => Rule::Commits,
            (Some(Wants::Reachable), _) => Rule::Reachable,
            (Some(Wants::Advertised), _) => Rule::Advertised,
            (None, _) if git.any => Rule::Any,
            (None, AccessMode::Tokens) if git.said && !git.reachable => Rule::Advertised,
            (None, AccessMode::Tokens) if hides => Rule::Reachable,
            (None, AccessMode::Tokens) => Rule::Commits,
            (None, AccessMode::WebServer | AccessMode::Pipe) => {
                Rule::Git { hidden: git.tips || git.reachable, walk: context.stateless || git.reachable }
            }
        }
    }

    /// Whether a client may know of every object there is.
    pub fn tells_all(self) -> bool {
        match self {
            Rule::Any | Rule::Git { .. } => true,
            Rule::Commits | Rule::Reachable | Rule::Advertised => false,
        }
    }
}

/// Checks that all wants are allowed.
///
/// # Errors
/// `upload-pack: not our ref …` for the first that is not; what reading refs and objects reports.
pub fn check(repository: &Repository, rule: Rule, wants: &[ObjectId], pulse: &mut dyn Pulse) -> Result<(), ServeError> {
    for want in wants {
        if !repository.objects.contains(want)? {
            return Err(not_ours(want));
        }
    }
    let refused = refused(repository, rule, wants, pulse)?;
    match wants.iter().find(|want| refused.contains(*want)) {
        None => Ok(()),
        Some(want) => Err(not_ours(want)),
    }
}

/// Returns those of the wants, which must exist, that are not allowed.
///
/// # Errors
/// When that cannot be decided within the memory allowed; what reading refs and objects reports.
pub fn refused(
    repository: &Repository,
    rule: Rule,
    wants: &[ObjectId],
    pulse: &mut dyn Pulse,
) -> Result<HashSet<ObjectId>, ServeError> {
    let (hidden_for, walk, contents) = match rule {
        Rule::Any => return Ok(HashSet::new()),
        Rule::Git { hidden, walk } => (if hidden { For::Unfiltered } else { For::Upload }, walk, walk),
        Rule::Commits => (For::Upload, true, true),
        Rule::Reachable => (For::Upload, true, false),
        Rule::Advertised => (For::Upload, false, false),
    };
    // A partial clone asks for trees and blobs alone, and often: if these need only exist, no ref is read.
    let mut others = Vec::new();
    let wants = match wants.first() {
        Some(first) if contents && is_content(repository, first)? => {
            for want in wants {
                if !is_content(repository, want)? {
                    others.push(*want);
                }
            }
            others.as_slice()
        }
        Some(_) | None => wants,
    };
    if wants.is_empty() {
        return Ok(HashSet::new());
    }
    let beyond = beyond_tips(repository, hidden_for, wants)?;
    match (beyond.is_empty(), walk) {
        (true, _) => Ok(HashSet::new()),
        (false, false) => Ok(beyond.into_iter().collect()),
        (false, true) => unreachable(repository, rule, hidden_for, &beyond, pulse),
    }
}

/// Returns those of the wants, to which no ref points, that cannot be reached.
fn unreachable(
    repository: &Repository,
    rule: Rule,
    hidden_for: For,
    wants: &[ObjectId],
    pulse: &mut dyn Pulse,
) -> Result<HashSet<ObjectId>, ServeError> {
    let objects = &repository.objects;
    let tips = history::tips(repository, hidden_for, &[])?;
    let (mut refused, mut commits, mut others) = (HashSet::new(), Vec::new(), Vec::new());
    let mut tags: Option<HashSet<ObjectId>> = None;
    for want in wants {
        match (objects.header(want)?.map(|header| header.kind), rule) {
            (None, _) => {
                refused.insert(*want);
            }
            (Some(Kind::Commit), _) => commits.push((*want, *want)),
            (Some(Kind::Tree | Kind::Blob), Rule::Reachable) => others.push(*want),
            (Some(Kind::Tree | Kind::Blob), _) => {}
            // As in git, a tag is treated like the object it peels to.
            (Some(Kind::Tag), Rule::Git { .. }) => match objects.peel(want)? {
                Some((commit, Kind::Commit)) => commits.push((commit, *want)),
                Some(_) => {}
                None => {
                    refused.insert(*want);
                }
            },
            (Some(Kind::Tag), _) => {
                let tags = match &mut tags {
                    Some(tags) => tags,
                    none => none.insert(walk::split(objects, &tips).tags.into_iter().collect()),
                };
                if !tags.contains(want) {
                    refused.insert(*want);
                }
            }
        }
    }
    if !commits.is_empty() {
        let targets: Vec<ObjectId> = commits.iter().map(|(commit, _)| *commit).collect();
        let budget = history::commits_max(repository);
        match walk::are_reachable(&mut Commits::new(objects), &targets, &tips, budget, pulse)? {
            Reached::All => {}
            Reached::Not(missed) => {
                let missed: HashSet<ObjectId> = missed.into_iter().collect();
                refused.extend(commits.iter().filter(|(commit, _)| missed.contains(commit)).map(|(_, want)| *want));
            }
            Reached::OverBudget => {
                let text =
                    "upload-pack: cannot find out within the memory allowed whether all that is wanted is reachable";
                return Err(ServeError::Refused(text.to_owned()));
            }
        }
    }
    refused.extend(beyond_reach(repository, others, &tips, pulse)?);
    Ok(refused)
}

fn not_ours(want: &oid) -> ServeError {
    ServeError::Refused(format!("upload-pack: not our ref {want}"))
}

/// The wants to which no ref points, in their order. What a tag peels to counts as a tip, because it is advertised.
fn beyond_tips(repository: &Repository, hidden_for: For, wants: &[ObjectId]) -> anyhow::Result<Vec<ObjectId>> {
    let mut missing: HashSet<ObjectId> = wants.iter().copied().collect();
    visible::take_tips(repository, hidden_for, &mut missing)?;
    Ok(wants.iter().copied().filter(|want| missing.contains(want)).collect())
}

/// The trees and blobs that cannot be reached from the tips. The first tip is HEAD's, and most can be reached from its
/// tree.
fn beyond_reach(
    repository: &Repository,
    mut contents: Vec<ObjectId>,
    tips: &[ObjectId],
    pulse: &mut dyn Pulse,
) -> anyhow::Result<Vec<ObjectId>> {
    let objects = &repository.objects;
    let head = match tips.first() {
        Some(tip) => revision::peel(repository, tip, Kind::Tree)?,
        None => None,
    };
    for from in [head.as_slice(), tips] {
        if contents.is_empty() {
            break;
        }
        let search = Search {
            wants: from,
            known: &[],
            effort: Effort::Enough,
            filter: &Filter::default(),
            missing: Missing::Passed,
            levels_max: None,
            peeled: &[],
        };
        let mut closure = Closure::find(objects, &search, pulse)?;
        let mut left = Vec::new();
        for id in contents {
            if closure.numbers.of(&id)?.is_none_or(|number| !closure.found.contains(number)) {
                left.push(id);
            }
        }
        contents = left;
    }
    Ok(contents)
}

fn is_content(repository: &Repository, id: &oid) -> anyhow::Result<bool> {
    let header = repository.objects.header(id)?;
    Ok(header.is_some_and(|header| matches!(header.kind, Kind::Tree | Kind::Blob)))
}

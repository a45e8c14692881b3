//! Which objects may be asked for (`artifacts.wants`, UR-05 to UR-12).
//!
//! In: wants. Out: nothing, or the refusal of the first that may not be had. Hidden and missing objects are refused alike.

use super::ServeError;
use super::history::{Found, Reach, Visible};
use crate::pack::select::{self, Selection};
use crate::protocol::Version;
use crate::repo::settings::Wants;
use crate::repo::visible::{self, For};
use crate::repo::{AccessMode, Repository};
use crate::stream::Pulse;
use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use std::collections::HashSet;

/// The rule of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Whatever exists.
    Any,
    /// Git's own rule of v0: tips, and with `walk` commits reachable from them; trees and blobs need only exist then (UR-09).
    Git {
        /// Tips of hidden refs count too (UR-07, UR-10).
        hidden: bool,
        /// Not only tips (UR-08).
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
    pub fn of(repository: &Repository) -> Self {
        match Self::for_announcement(repository) {
            Rule::Git { .. } if repository.context.version == Version::V2 => Rule::Any,
            rule => rule,
        }
    }

    /// The same for v0, which is what an advertisement announces.
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
}

/// Passes wants that may be had.
///
/// # Errors
/// `upload-pack: not our ref …` for the first that may not; what reading refs and objects reports.
pub fn check(repository: &Repository, rule: Rule, wants: &[ObjectId], pulse: &mut dyn Pulse) -> Result<(), ServeError> {
    for want in wants {
        if !repository.objects.contains(want)? {
            return Err(not_ours(want));
        }
    }
    let (hidden_for, walk) = match rule {
        Rule::Any => return Ok(()),
        Rule::Git { hidden, walk } => (if hidden { For::Nobody } else { For::Upload }, walk),
        Rule::Commits | Rule::Reachable => (For::Upload, true),
        Rule::Advertised => (For::Upload, false),
    };
    let beyond = beyond_tips(repository, hidden_for, wants)?;
    let mut reach = Visible::new(repository, hidden_for);
    let mut others = Vec::new();
    for want in beyond {
        if !walk {
            return Err(not_ours(&want));
        }
        let kind = repository.objects.header(&want)?.map(|header| header.kind);
        let commit = match (kind, rule) {
            (None, _) => return Err(not_ours(&want)),
            (Some(Kind::Tree | Kind::Blob), Rule::Reachable) => {
                others.push(want);
                continue;
            }
            (Some(Kind::Tree | Kind::Blob), _) => continue,
            (Some(Kind::Tag), Rule::Git { .. }) => match repository.objects.peel(&want)? {
                Some((commit, Kind::Commit)) => commit,
                Some(_) => continue,
                None => return Err(not_ours(&want)),
            },
            (Some(Kind::Tag | Kind::Commit), _) => want,
        };
        match reach.reaches(&commit, Reach::Whole, pulse)? {
            Found::Yes => {}
            Found::No => return Err(not_ours(&want)),
            Found::OutOfMemory => {
                let text =
                    format!("upload-pack: cannot find out within the memory allowed whether {want} is reachable");
                return Err(ServeError::Refused(text));
            }
        }
    }
    all_selected(repository, hidden_for, &others, pulse)
}

fn not_ours(want: &oid) -> ServeError {
    ServeError::Refused(format!("upload-pack: not our ref {want}"))
}

/// The wants that no ref points to, in their order. What a tag peels to is advertised with it.
fn beyond_tips(repository: &Repository, hidden_for: For, wants: &[ObjectId]) -> anyhow::Result<Vec<ObjectId>> {
    let mut missing: HashSet<ObjectId> = wants.iter().copied().collect();
    if let Some(id) = visible::head(repository, hidden_for)?.and_then(|head| head.id) {
        missing.remove(&id);
    }
    if !missing.is_empty() {
        visible::for_each(repository, hidden_for, &[], true, &mut |tip| {
            missing.remove(&tip.id);
            if let Some(peeled) = &tip.peeled {
                missing.remove(peeled);
            }
            Ok(())
        })?;
    }
    Ok(wants.iter().copied().filter(|want| missing.contains(want)).collect())
}

/// Trees and blobs that must be reachable are looked for among all objects a clone would get.
fn all_selected(
    repository: &Repository,
    hidden_for: For,
    others: &[ObjectId],
    pulse: &mut dyn Pulse,
) -> Result<(), ServeError> {
    if others.is_empty() {
        return Ok(());
    }
    let mut tips = Vec::new();
    tips.extend(visible::head(repository, hidden_for)?.and_then(|head| head.id));
    visible::for_each(repository, hidden_for, &[], false, &mut |tip| {
        tips.push(tip.id);
        Ok(())
    })?;
    let request = select::Request { wants: &tips, ..select::Request::default() };
    let selection = select::select(&repository.objects, &request, pulse)?;
    for want in others {
        if !is_selected(repository, &selection, want) {
            return Err(not_ours(want));
        }
    }
    Ok(())
}

/// Whether an object is part of a selection, whichever of its copies was chosen.
fn is_selected(repository: &Repository, selection: &Selection, id: &oid) -> bool {
    let packed = selection.packed.iter().any(|positions| {
        let position = repository.objects.pack(positions.pack).position(id);
        position.is_some_and(|at| positions.bits.get(at as usize / 64).is_some_and(|word| word >> (at % 64) & 1 == 1))
    });
    packed || selection.strays.iter().any(|stray| stray.id == id)
}

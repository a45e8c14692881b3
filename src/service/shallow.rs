//! Shallow fetches: where the client's history is cut, and where it will be (gitprotocol-pack, Packfile Negotiation;
//! gitprotocol-v2, fetch: shallow-info).
//!
//! In: a request. Out: the shallow and unshallow lines for the client, and what they mean for negotiation and pack.
//! There are two boundaries, which are never mixed up: the repository's own ([`Objects::shallow`]), beyond which
//! nothing is here, and the client's.

use super::ServeError;
use super::history::History;
use super::negotiation::Ancestry;
use super::wants::Rule;
use crate::odb::Objects;
use crate::odb::depth::{self, Extent};
use crate::odb::graph::Commits;
use crate::odb::ids::IdSet;
use crate::odb::walk;
use crate::protocol::depth::Depth;
use crate::protocol::upload::UploadRequest;
use crate::protocol::{ProtocolError, shown};
use crate::repo::Repository;
use crate::repo::visible::{self, For};
use crate::stream::Pulse;
use bstr::{BString, ByteSlice};
use gix_hash::ObjectId;
use gix_object::Kind;
use std::{fmt, io};

/// The client's boundary: as the client states it, and how it changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Boundary {
    /// Where the client's history is cut when it asks.
    client: Vec<ObjectId>,
    /// Where it will be cut in addition.
    shallow: Vec<ObjectId>,
    /// Where it will no longer be cut.
    unshallow: Vec<ObjectId>,
    /// The parents of `unshallow`: no want names them, but the client lacks them (SH-16).
    unshallowed_parents: Vec<ObjectId>,
}

impl Boundary {
    /// Takes the client's boundary from its request. Objects that we lack, or that the client may not know of, are
    /// skipped (SH-01).
    ///
    /// # Errors
    /// `invalid shallow object …` for an object that is not a commit; when an object cannot be read.
    pub fn of_client(repository: &Repository, rule: Rule, request: &UploadRequest) -> Result<Self, ServeError> {
        let mut client = Vec::new();
        for id in &request.shallow {
            match repository.objects.header(id)?.map(|header| header.kind) {
                None => {}
                Some(Kind::Commit) => client.push(*id),
                Some(Kind::Tree | Kind::Blob | Kind::Tag) if rule.tells_all() => {
                    return Err(said(format!("invalid shallow object {id}")));
                }
                Some(Kind::Tree | Kind::Blob | Kind::Tag) => {}
            }
        }
        Ok(Boundary { client, ..Boundary::default() })
    }

    /// The objects as the client sees them: its history ends where it is cut and where it will be cut.
    pub fn seen(&self, repository: &Repository) -> Objects {
        repository.objects.cut_at(self.client.iter().chain(&self.shallow).copied())
    }

    /// The commits at which the client's history ends, or will end.
    pub fn cut(&self) -> impl Iterator<Item = &ObjectId> {
        self.client.iter().chain(&self.shallow)
    }

    /// Every commit at which the client's history or ours ends.
    pub fn ends(&self, repository: &Repository) -> IdSet {
        self.client.iter().chain(&self.shallow).chain(repository.objects.shallow()).copied().collect()
    }

    /// Moves the boundary to the depth the request asks for. Returns whether it asks for one.
    ///
    /// # Errors
    /// In git's words: a `deepen-not` that does not name exactly one ref, or no commits that are new enough. When a
    /// commit cannot be read, or the client has gone.
    pub fn deepen(
        &mut self,
        repository: &Repository,
        rule: Rule,
        request: &UploadRequest,
        pulse: &mut dyn Pulse,
    ) -> Result<bool, ServeError> {
        let objects = &repository.objects;
        let extent = match &request.depth {
            Depth::Unchanged => return Ok(false),
            Depth::Endless if objects.shallow().is_empty() => {
                // Nothing ends, so no walk is needed (SH-04). Commits not reachable from visible refs are not
                // completed. The answer must be exact, because a commit that is not completed now will not be completed
                // at the next try either.
                let mut history = History::new(repository, rule).exact();
                let mut history = history.round(pulse);
                history.expect(&self.client)?;
                let mut met = IdSet::default();
                for id in &self.client {
                    if let Some(parents) = history.known(id)? {
                        self.unshallow.push(*id);
                        self.unshallowed_parents.extend(parents.into_iter().filter(|parent| met.insert(*parent)));
                    }
                }
                return Ok(true);
            }
            Depth::Endless => depth::to_depth(objects, &tips(repository, request), None, pulse)?,
            Depth::Commits { count, relative } => {
                let tips = tips(repository, request);
                let from = if *relative { self.present_depth(objects, &tips, pulse)? } else { Some(0) };
                // A client that has no boundary on the way has nothing to deepen, but may meet ours.
                let Some(from) = from else {
                    self.add_own_boundary(repository, request, pulse)?;
                    return Ok(true);
                };
                depth::to_depth(objects, &tips, Some(count.saturating_add(from)), pulse)?
            }
            Depth::Revisions { since, not } => {
                let since = since.map(|since| i64::try_from(since).unwrap_or(i64::MAX));
                let (not, tips) = (left_out(repository, not)?, tips(repository, request));
                let extent = depth::extent_of_revisions(objects, &tips, since, &not, pulse)?;
                let extent = extent.ok_or_else(|| said("no commits selected for shallow requests".to_owned()))?;
                self.move_to(&extent, objects)?;
                self.drop_unreachable_ends(&extent, objects, tips, pulse)?;
                return Ok(true);
            }
        };
        self.move_to(&extent, objects)?;
        Ok(true)
    }

    /// Adds our own boundary to that of a client that did not ask for a depth, as far as the client will meet it
    /// (SH-14).
    ///
    /// # Errors
    /// When a commit cannot be read, or the client has gone.
    pub fn add_own_boundary(
        &mut self,
        repository: &Repository,
        request: &UploadRequest,
        pulse: &mut dyn Pulse,
    ) -> Result<(), ServeError> {
        if !repository.objects.shallow().is_empty() {
            let seen = self.seen(repository);
            let extent = depth::to_depth(&seen, &tips(repository, request), None, pulse)?;
            self.move_to(&extent, &repository.objects)?;
        }
        Ok(())
    }

    /// The current depth of the client's history: the shortest way to one of the commits at which it is cut.
    fn present_depth(
        &self,
        objects: &Objects,
        tips: &[ObjectId],
        pulse: &mut dyn Pulse,
    ) -> anyhow::Result<Option<u32>> {
        depth::depth_of_nearest(objects, tips, &self.client.iter().copied().collect(), pulse)
    }

    /// Moves the boundary. Only what changes for the client is sent (SH-15).
    fn move_to(&mut self, extent: &Extent<'_>, objects: &Objects) -> anyhow::Result<()> {
        let client: IdSet = self.client.iter().copied().collect();
        self.shallow.extend(extent.ends.iter().filter(|id| !client.contains(*id)));
        self.unshallow.extend(self.client.iter().filter(|id| extent.has_inside(id)));
        let mut commits = Commits::new(objects);
        // Many commits may have the same parents, and the client names as many commits as it likes.
        let (mut parents, mut met) = (Vec::new(), IdSet::default());
        for id in &self.unshallow {
            let number = commits.number(id);
            commits.parents(number, &mut parents)?;
            let new = parents.iter().map(|parent| commits.id(*parent).to_owned()).filter(|id| met.insert(*id));
            self.unshallowed_parents.extend(new);
        }
        Ok(())
    }

    /// Drops ends that lie beyond other ends: with them the client's boundary would name commits it lacks. C git sends
    /// them, and cannot complete such a clone. A commit that is wanted but excluded is sent with its history down to
    /// our own boundary, so the client must learn of that one.
    fn drop_unreachable_ends(
        &mut self,
        extent: &Extent<'_>,
        objects: &Objects,
        tips: Vec<ObjectId>,
        pulse: &mut dyn Pulse,
    ) -> anyhow::Result<()> {
        let sent = objects.cut_at(extent.ends.iter().copied());
        let met = depth::to_depth(&sent, &[tips, self.unshallowed_parents.clone()].concat(), None, pulse)?;
        let met: IdSet = met.ends.into_iter().collect();
        self.shallow.retain(|id| met.contains(id));
        let told: IdSet = self.shallow.iter().chain(&self.client).copied().collect();
        self.shallow.extend(objects.shallow().iter().filter(|id| met.contains(*id) && !told.contains(*id)));
        Ok(())
    }

    /// Whether v2 has a shallow-info section: the client or we have a boundary, or a depth was asked for (SH-13). A
    /// client that may not know of every object gets the section, possibly empty, whenever it sends shallow lines;
    /// otherwise its absence would tell which of the commits are here.
    pub fn has_section(&self, repository: &Repository, rule: Rule, request: &UploadRequest) -> bool {
        let clients = if rule.tells_all() { &self.client } else { &request.shallow };
        request.depth != Depth::Unchanged || !clients.is_empty() || !repository.objects.shallow().is_empty()
    }

    /// Passes the client's lines to `line` one by one, without newlines.
    ///
    /// # Errors
    /// What `line` reports.
    pub fn for_each_line(&self, line: &mut dyn FnMut(fmt::Arguments<'_>) -> io::Result<()>) -> io::Result<()> {
        self.shallow.iter().try_for_each(|id| line(format_args!("shallow {id}")))?;
        self.unshallow.iter().try_for_each(|id| line(format_args!("unshallow {id}")))
    }

    /// The wants, and the parents beyond the old boundary.
    pub fn wants(&self, request: &UploadRequest) -> Vec<ObjectId> {
        [&request.wants[..], &self.unshallowed_parents].concat()
    }

    /// What the client has: common objects, and the commits at which its history is no longer cut.
    pub fn common(&self, common: &[ObjectId]) -> Vec<ObjectId> {
        [common, &self.unshallow].concat()
    }
}

/// The commits that are wanted, with tags peeled.
fn tips(repository: &Repository, request: &UploadRequest) -> Vec<ObjectId> {
    walk::split(&repository.objects, &request.wants).commits
}

/// What the refs of `deepen-not` point to. Names are resolved as the client sees them: hidden refs and those of other
/// namespaces do not exist (SH-08; docs/compatibility.md).
fn left_out(repository: &Repository, names: &[BString]) -> Result<Vec<ObjectId>, ServeError> {
    let one = |name: &BString| match visible::named(repository, For::Upload, name.as_bstr())[..] {
        [id] => Ok(id),
        [] => Err(said(format!("git upload-pack: deepen-not is not a ref: deepen-not {}", shown(name)))),
        _ => Err(said(format!("git upload-pack: ambiguous deepen-not: deepen-not {}", shown(name)))),
    };
    names.iter().map(one).collect()
}

fn said(text: String) -> ServeError {
    ProtocolError::Said(text).into()
}

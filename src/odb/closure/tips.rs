//! The objects that a closure begins with.
//!
//! In: IDs of objects of any kind. Out: commits and trees to be walked from, and marks of tags and blobs. Tags are
//! followed.

use super::deferred_tags::DeferredTags;
use super::{Broken, Marks, Numbers};
use crate::odb::tag;
use anyhow::Result;
use gix_hash::{ObjectId, oid};
use gix_object::Kind;

/// The objects asked for, by kind.
#[derive(Default)]
pub(super) struct Tips {
    pub(super) commits: Vec<ObjectId>,
    /// The numbers of `commits`.
    pub(super) numbers: Vec<u32>,
    pub(super) trees: Vec<u32>,
    pub(super) blobs: Vec<u32>,
    /// The kind of the object added last.
    last: Option<Kind>,
    /// If set, collects tags in the first pack instead of marking and following them.
    deferred: Option<DeferredTags>,
}

impl Tips {
    /// Starts empty, and puts off tags if `deferred` is given.
    pub(super) fn deferring(deferred: Option<DeferredTags>) -> Self {
        Tips { deferred, ..Tips::default() }
    }

    /// Takes the tags that were put off. No more are put off afterwards.
    pub(super) fn take_deferred(&mut self) -> Option<DeferredTags> {
        self.deferred.take()
    }

    /// Puts off a tag if possible. Returns whether it did.
    fn defers(&mut self, id: &oid, number: u32) -> bool {
        self.deferred.as_mut().is_some_and(|deferred| deferred.add(id, number))
    }

    /// Adds wanted objects; tags are marked and followed.
    pub(super) fn add_all(
        &mut self,
        ids: &[ObjectId],
        numbers: &mut Numbers<'_>,
        found: &mut Marks,
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        ids.iter().try_for_each(|id| self.add(id, numbers, found, buffer))
    }

    /// Adds known objects, ignoring missing ones and tags that lead to nothing.
    pub(super) fn add_known(
        &mut self,
        ids: &[ObjectId],
        numbers: &mut Numbers<'_>,
        held: &mut Marks,
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        for id in ids {
            match self.add(id, numbers, held, buffer) {
                Err(error) if !error.is::<Broken>() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Collects commits and trees, which have to be walked from; marks tags and blobs.
    fn add(&mut self, id: &oid, numbers: &mut Numbers<'_>, marks: &mut Marks, buffer: &mut Vec<u8>) -> Result<()> {
        let mut next = id.to_owned();
        let mut expected = None;
        loop {
            let name = expected.map_or("object", name);
            let number = numbers.of(&next)?.ok_or_else(|| Broken::missing(name, &next))?;
            let likely = expected.or(self.last);
            let kind = kind(numbers, number, likely).map_err(|cause| Broken::bad(name, &next, cause))?;
            if expected.is_some_and(|expected| expected != kind) {
                let cause = anyhow::anyhow!("a tag says that it is a {name}, but it is a {kind}");
                return Err(Broken::bad(name, &next, cause));
            }
            if expected.is_none() {
                self.last = Some(kind);
            }
            match kind {
                Kind::Commit => {
                    self.commits.push(next);
                    self.numbers.push(number);
                }
                Kind::Tree => self.trees.push(number),
                Kind::Blob => {
                    marks.insert(number);
                    self.blobs.push(number);
                }
                Kind::Tag if expected.is_none() && self.defers(&next, number) => {}
                Kind::Tag => {
                    if marks.insert(number) {
                        let (target, kind) = tag_target(numbers, number, buffer)?;
                        (next, expected) = (target, Some(kind));
                        continue;
                    }
                }
            }
            return Ok(());
        }
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Commit => "commit",
        Kind::Tree => "tree",
        Kind::Blob => "blob",
        Kind::Tag => "tag",
    }
}

/// The kind of an object. A commit in the commit-graph is not read, unless it is likely to be something else.
pub(super) fn kind(numbers: &Numbers<'_>, number: u32, likely: Option<Kind>) -> Result<Kind> {
    let objects = numbers.objects();
    if matches!(likely, Some(Kind::Tag | Kind::Blob))
        && let Some(kind) = objects.kind_at(numbers.location(number))
    {
        return Ok(kind);
    }
    let id = &numbers.read_id(number);
    if objects.graph().is_some_and(|graph| graph.position(id).is_some()) {
        return Ok(Kind::Commit);
    }
    if let Some(kind) = objects.kind_at(numbers.location(number)) {
        return Ok(kind);
    }
    match objects.header(id)? {
        Some(header) => Ok(header.kind),
        None if id.is_empty_tree() => Ok(Kind::Tree),
        None => anyhow::bail!("it has vanished"),
    }
}

/// The object that a tag points to, and the kind the tag says it has.
pub(super) fn tag_target(numbers: &Numbers<'_>, number: u32, buffer: &mut Vec<u8>) -> Result<(ObjectId, Kind)> {
    let id = numbers.id(number);
    let bad = |cause| Broken::bad("tag", id, cause);
    let hash = numbers.objects().hash_kind();
    if numbers.objects().begin_at(numbers.location(number), buffer) == Some(Kind::Tag)
        && let Some(target) = tag::target(buffer, hash)
    {
        return Ok(target);
    }
    match numbers.read(number, buffer).map_err(bad)? {
        Kind::Tag => tag::target(buffer, hash).ok_or_else(|| bad(anyhow::anyhow!("it names no object"))),
        kind @ (Kind::Commit | Kind::Tree | Kind::Blob) => Err(bad(anyhow::anyhow!("it is a {kind}"))),
    }
}

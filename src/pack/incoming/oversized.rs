//! Objects larger than the repository accepts (artifacts.maxObjectSize).
//!
//! In: declared and actual sizes. Out: a line for each of the first few such objects, with a path in a pushed commit.
//! They are reported once all objects have arrived, so that paths are known; only a far too large object, or too many
//! of them, end the pack earlier. Nothing is refused here for other reasons.

use super::entries::Names;
use super::{Fault, humanised};
use crate::odb::Objects;
use crate::protocol::shown;
use bstr::{BString, ByteSlice};
use gix_hash::{ObjectId, oid};
use gix_object::tree::EntryRef;
use gix_object::{CommitRefIter, Kind, TreeRefIter};
use std::collections::HashSet;

/// The most objects that are reported.
const NAMED_MAX: usize = 10;
/// An object that declares more bytes is not read to its end to learn its name.
const READ_MAX: u64 = 4 << 30;
/// Deeper trees are not searched for paths.
const DEPTH_MAX: usize = 1000;

/// The oversized objects that one thread has found.
#[derive(Default)]
pub(super) struct Oversized {
    max: Option<u64>,
    /// Each with its tree of deltas.
    found: Vec<(usize, ObjectId, u64)>,
}

impl Oversized {
    /// An empty list with this limit.
    pub fn new(max: Option<u64>) -> Self {
        Oversized { max, found: Vec::new() }
    }

    /// Whether an object of this size is too large.
    pub fn is_too_large(&self, size: u64) -> bool {
        self.max.is_some_and(|max| size > max)
    }

    /// Whether any have been found.
    pub fn any(&self) -> bool {
        !self.found.is_empty()
    }

    /// Adds an object whose name is known, with its tree of deltas.
    pub fn add(&mut self, tree: usize, id: &oid, size: u64) {
        if self.found.len() < NAMED_MAX {
            self.found.push((tree, id.to_owned(), size));
        }
    }

    /// Takes over what threads have found, in the order of the trees.
    pub fn absorb(&mut self, others: Vec<Oversized>) {
        let mut found: Vec<_> = others.into_iter().flat_map(|other| other.found).collect();
        found.sort_by_key(|(tree, ..)| *tree);
        let room = NAMED_MAX.saturating_sub(self.found.len());
        self.found.extend(found.into_iter().take(room));
    }

    /// The fault, if any objects are too large, and a line for each. `objects` must have all objects received; at most
    /// `memory` bytes are spent on trees to be searched.
    pub fn fault(&mut self, names: &Names, objects: &Objects, memory: u64) -> Option<(Vec<String>, Fault)> {
        let max = self.max.filter(|_| !self.found.is_empty())?;
        let mut paths = Paths { objects, unseen: HashSet::new(), steps: Vec::new(), left: memory, content: Vec::new() };
        let found: Vec<(ObjectId, u64)> = self.found.drain(..).map(|(_, id, size)| (id, size)).collect();
        let paths = paths.find(names, &found);
        let lines = found.iter().zip(paths).map(|((id, size), path)| {
            let path = path.map(|path| format!(" '{}'", shown(&path))).unwrap_or_default();
            format!("error: object {id}{path} has {}", humanised(*size))
        });
        Some((lines.collect(), Fault::Said(text(max))))
    }
}

fn text(max: u64) -> String {
    format!("pack has objects larger than the limit of {} (artifacts.maxObjectSize)", humanised(max))
}

/// Counts oversized objects during the scan, by their declared sizes.
pub(super) struct Declared {
    max: Option<u64>,
    count: usize,
}

impl Declared {
    /// Nothing counted yet.
    pub fn new(max: Option<u64>) -> Self {
        Declared { max, count: 0 }
    }

    /// Takes the declared size of the object about to be read.
    ///
    /// # Errors
    /// When reading on would cost more than learning the object's name is worth.
    pub fn look_at(&mut self, size: u64) -> Result<(), Fault> {
        let Some(max) = self.max.filter(|max| size > *max) else { return Ok(()) };
        self.count += 1;
        if size > READ_MAX || self.count > NAMED_MAX { Err(Fault::Said(text(max))) } else { Ok(()) }
    }
}

/// A tree on the way to an object: its parent and its name there.
struct Step {
    parent: Option<usize>,
    depth: usize,
    name: BString,
    tree: ObjectId,
}

/// Finds paths of objects, from the received commits through the received trees.
struct Paths<'a> {
    objects: &'a Objects,
    unseen: HashSet<ObjectId>,
    steps: Vec<Step>,
    /// The bytes that may still be allocated.
    left: u64,
    content: Vec<u8>,
}

impl Paths<'_> {
    /// A path for each of `wanted`, where one is found.
    fn find(&mut self, names: &Names, wanted: &[(ObjectId, u64)]) -> Vec<Option<BString>> {
        let mut found: Vec<Option<BString>> = vec![None; wanted.len()];
        let mut commits = Vec::new();
        for index in 0..names.len() {
            match names.kind(index) {
                Some(Kind::Tree) => drop(self.unseen.insert(names.object_id(index))),
                Some(Kind::Commit) => commits.push(index),
                _ => {}
            }
        }
        for commit in commits {
            let Some(tree) = self.tree_of(&names.object_id(commit)) else { continue };
            if !self.unseen.remove(&tree) {
                continue;
            }
            self.steps.clear();
            let mut waiting = vec![Step { parent: None, depth: 0, name: BString::default(), tree }];
            while let Some(step) = waiting.pop() {
                let Ok(Some(Kind::Tree)) = self.objects.find(&step.tree, &mut self.content) else { continue };
                let (here, depth) = (self.steps.len(), step.depth);
                self.steps.push(step);
                let content = std::mem::take(&mut self.content);
                for entry in TreeRefIter::from_bytes(&content, self.objects.hash_kind()).map_while(Result::ok) {
                    for ((id, _), found) in wanted.iter().zip(&mut found) {
                        if found.is_none() && entry.oid == *id {
                            *found = Some(self.path(here, entry.filename));
                        }
                    }
                    if depth < DEPTH_MAX && self.goes_into(&entry) {
                        let (name, tree) = (entry.filename.to_owned(), entry.oid.to_owned());
                        waiting.push(Step { parent: Some(here), depth: depth + 1, name, tree });
                    }
                }
                self.content = content;
                if found.iter().all(Option::is_some) {
                    return found;
                }
            }
        }
        found
    }

    fn tree_of(&mut self, commit: &oid) -> Option<ObjectId> {
        let kind = self.objects.find(commit, &mut self.content).ok().flatten()?;
        (kind == Kind::Commit).then(|| CommitRefIter::from_bytes(&self.content, commit.kind()).tree_id().ok())?
    }

    /// Whether to search a tree: each received tree is searched once, as long as there is memory.
    fn goes_into(&mut self, entry: &EntryRef<'_>) -> bool {
        let held = (size_of::<Step>() + entry.filename.len()) as u64;
        if !entry.mode.is_tree() || held > self.left || !self.unseen.remove(entry.oid) {
            return false;
        }
        self.left -= held;
        true
    }

    fn path(&self, step: usize, name: &[u8]) -> BString {
        let mut names = vec![name];
        let mut at = self.steps.get(step);
        while let Some(step) = at.filter(|step| step.parent.is_some()) {
            names.push(step.name.as_bytes());
            at = step.parent.and_then(|parent| self.steps.get(parent));
        }
        names.reverse();
        bstr::join("/", names).into()
    }
}

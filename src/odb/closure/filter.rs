//! What a selection leaves out on purpose.
//!
//! In: filters, one after the other. Out: answers to a walk, about an object where it is met. All of them must let an object
//! pass. What was asked for by name passes unasked (FI-03).

use super::sparse::Patterns;
use gix_hash::ObjectId;
use gix_object::Kind;

/// The most pattern files: each has a bit while trees are walked.
const PATTERNS_MAX: usize = 64;

/// All filters of a request, as one. The default lets everything pass.
#[derive(Debug, Clone)]
pub struct Filter {
    commits: bool,
    trees: bool,
    blobs: bool,
    /// Blobs of so many bytes and more stay away.
    size: Option<u64>,
    /// Trees and blobs as many steps below the tree of a commit stay away.
    depth: u64,
    sparse: Vec<Patterns>,
    /// The blobs these were read from.
    sources: Vec<ObjectId>,
    /// How many components of a path the patterns look at.
    reach: u64,
    /// How many patterns there are, and how many stars in them.
    patterns: u64,
    stars: u64,
}

impl Default for Filter {
    fn default() -> Self {
        Filter {
            commits: true,
            trees: true,
            blobs: true,
            size: None,
            depth: u64::MAX,
            sparse: Vec::new(),
            sources: Vec::new(),
            reach: 0,
            patterns: 0,
            stars: 0,
        }
    }
}

impl Filter {
    /// No blobs.
    pub fn without_blobs(&mut self) {
        self.blobs = false;
    }

    /// No blobs of so many bytes and more.
    pub fn limit_blobs(&mut self, size: u64) {
        self.blobs &= size > 0;
        self.size = Some(self.size.map_or(size, |other| other.min(size)));
    }

    /// No trees and blobs that lie so many steps below a commit; its own tree lies 0 steps below it.
    pub fn limit_depth(&mut self, depth: u64) {
        self.depth = self.depth.min(depth);
    }

    /// Nothing but objects of one kind. Tags are always asked for by name.
    pub fn only(&mut self, kind: Kind) {
        self.commits &= kind == Kind::Commit;
        self.trees &= kind == Kind::Tree;
        self.blobs &= kind == Kind::Blob;
    }

    /// Only blobs at paths that match.
    ///
    /// # Errors
    /// When there are too many such filters.
    pub fn only_at(&mut self, paths: Patterns) -> anyhow::Result<()> {
        anyhow::ensure!(self.sparse.len() < PATTERNS_MAX, "more than {PATTERNS_MAX} filters of paths");
        self.reach = self.reach.max(paths.reach());
        self.patterns += paths.count();
        self.stars += paths.stars();
        self.sparse.push(paths);
        Ok(())
    }

    /// Notes the blob patterns were read from.
    pub fn read_from(&mut self, blob: ObjectId) {
        self.sources.push(blob);
    }

    /// Those blobs: whoever filters by the same expression may mean others.
    pub fn sources(&self) -> &[ObjectId] {
        &self.sources
    }

    /// Whether everything passes.
    pub fn is_all(&self) -> bool {
        self.commits && self.trees && self.blobs && self.size.is_none() && !self.is_by_depth() && !self.is_by_path()
    }

    /// Whether kind and size of an object say whether it passes, wherever it lies, and commits do.
    pub(super) fn is_by_kind(&self) -> bool {
        self.commits && !self.is_by_path() && (!self.is_by_depth() || self.depth == 0)
    }

    /// Whether a client that uses it has all trees of the commits it has.
    pub fn leaves_trees(&self) -> bool {
        self.trees && !self.is_by_depth()
    }

    /// Whether a client that uses it has all blobs of the commits it has.
    pub(super) fn leaves_blobs(&self) -> bool {
        self.blobs && self.size.is_none() && !self.is_by_depth() && !self.is_by_path()
    }

    pub(super) fn commits(&self) -> bool {
        self.commits
    }

    pub(super) fn trees(&self) -> bool {
        self.trees
    }

    pub(super) fn blobs(&self) -> bool {
        self.blobs
    }

    /// Whether anything may pass that lies so many steps below a commit.
    pub(super) fn reaches(&self, depth: u64) -> bool {
        (self.trees || self.blobs) && depth < self.depth
    }

    /// The size at which blobs stay away.
    pub(super) fn size(&self) -> Option<u64> {
        self.size
    }

    /// Whether it matters how deep an object lies.
    pub(super) fn is_by_depth(&self) -> bool {
        self.depth != u64::MAX
    }

    /// Whether it matters at which path an object lies.
    pub(super) fn is_by_path(&self) -> bool {
        !self.sparse.is_empty()
    }

    /// Whether it no longer matters at which path an object lies so many steps below a commit, but only in which kind of directory.
    pub(super) fn is_beyond_patterns(&self, depth: u64) -> bool {
        depth > self.reach
    }

    /// What it may take to ask about one path, in comparisons of a pattern without stars.
    pub(super) fn comparisons(&self, path: &[u8]) -> u64 {
        self.patterns + self.stars.saturating_mul(path.len() as u64) / 64
    }

    /// One bit for each pattern file: whether the directory at a path is let in, where its parent has those of `above`.
    pub(super) fn inside(&self, path: &[u8], above: u64) -> u64 {
        self.sparse.iter().enumerate().fold(0, |bits, (at, patterns)| {
            let inside = patterns.matched(path, true).unwrap_or(above >> at & 1 == 1);
            bits | u64::from(inside) << at
        })
    }

    /// Whether the blob at a path passes, in a directory of which `inside` is known.
    pub(super) fn admits(&self, path: &[u8], inside: u64) -> bool {
        let mut sparse = self.sparse.iter().enumerate();
        sparse.all(|(at, patterns)| patterns.matched(path, false).unwrap_or(inside >> at & 1 == 1))
    }
}

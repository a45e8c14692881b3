//! Which objects a selection leaves out on purpose.
//!
//! In: filters, one after the other. Out: for each object a walk meets, whether it passes; it must pass all filters.
//! Objects wanted by name always pass (FI-03).

use super::sparse::Patterns;
use gix_hash::ObjectId;
use gix_object::Kind;

/// The maximum number of pattern files: each has a bit while trees are walked.
const PATTERNS_MAX: usize = 64;

/// All filters of a request combined. The default lets everything pass.
#[derive(Debug, Clone)]
pub struct Filter {
    commits: bool,
    trees: bool,
    blobs: bool,
    /// Blobs of at least this many bytes are left out.
    size: Option<u64>,
    /// Trees and blobs at least this many steps below a commit's tree are left out.
    depth: u64,
    sparse: Vec<Patterns>,
    /// The blobs that `sparse` was read from.
    sources: Vec<ObjectId>,
    /// How many components of a path the patterns look at.
    reach: u64,
    /// The number of patterns, and of stars in them.
    patterns: u64,
    stars: u64,
    /// The bytes of all patterns.
    pattern_bytes: u64,
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
            pattern_bytes: 0,
        }
    }
}

impl Filter {
    /// Leaves out all blobs.
    pub fn without_blobs(&mut self) {
        self.blobs = false;
    }

    /// Leaves out blobs of at least this many bytes.
    pub fn limit_blobs(&mut self, size: u64) {
        self.blobs &= size > 0;
        self.size = Some(self.size.map_or(size, |other| other.min(size)));
    }

    /// Leaves out trees and blobs at least this many steps below a commit; the commit's own tree is 0 steps below it.
    pub fn limit_depth(&mut self, depth: u64) {
        self.depth = self.depth.min(depth);
    }

    /// Lets only objects of one kind pass. Tags are always wanted by name.
    pub fn only(&mut self, kind: Kind) {
        self.commits &= kind == Kind::Commit;
        self.trees &= kind == Kind::Tree;
        self.blobs &= kind == Kind::Blob;
    }

    /// Lets only blobs at matching paths pass.
    ///
    /// # Errors
    /// When there are too many such filters.
    pub fn only_at(&mut self, paths: Patterns) -> anyhow::Result<()> {
        anyhow::ensure!(self.sparse.len() < PATTERNS_MAX, "more than {PATTERNS_MAX} filters of paths");
        self.reach = self.reach.max(paths.reach());
        self.patterns += paths.count();
        self.stars += paths.stars();
        self.pattern_bytes += paths.bytes();
        self.sparse.push(paths);
        Ok(())
    }

    /// Notes the blob that patterns were read from.
    pub fn read_from(&mut self, blob: ObjectId) {
        self.sources.push(blob);
    }

    /// The blobs that patterns were read from; the same filter expression may resolve to other blobs in another
    /// request.
    pub fn sources(&self) -> &[ObjectId] {
        &self.sources
    }

    /// Whether everything passes.
    pub fn is_all(&self) -> bool {
        self.commits && self.trees && self.blobs && self.size.is_none() && !self.is_by_depth() && !self.is_by_path()
    }

    /// Whether commits pass, and for other objects kind and size alone decide, wherever they are.
    pub(super) fn is_by_kind(&self) -> bool {
        self.commits && !self.is_by_path() && (!self.is_by_depth() || self.depth == 0)
    }

    /// Whether a client that uses this filter has all trees of its commits.
    pub fn leaves_trees(&self) -> bool {
        self.trees && !self.is_by_depth()
    }

    /// Whether a client that uses this filter has all blobs of its commits.
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

    /// Whether any object this many steps below a commit may pass.
    pub(super) fn reaches(&self, depth: u64) -> bool {
        (self.trees || self.blobs) && depth < self.depth
    }

    /// The size from which on blobs are left out.
    pub(super) fn size(&self) -> Option<u64> {
        self.size
    }

    /// Whether an object's depth matters.
    pub(super) fn is_by_depth(&self) -> bool {
        self.depth != u64::MAX
    }

    /// Whether an object's path matters.
    pub(super) fn is_by_path(&self) -> bool {
        !self.sparse.is_empty()
    }

    /// Whether, this many steps below a commit, paths no longer matter, but only whether the directory is included.
    pub(super) fn is_beyond_patterns(&self, depth: u64) -> bool {
        depth > self.reach
    }

    /// The cost of matching one path, in comparisons with a short pattern without stars. No comparison without stars
    /// looks at more bytes than the pattern has, or the path.
    pub(super) fn comparisons(&self, path: &[u8]) -> u64 {
        let len = path.len() as u64;
        let bytes = self.pattern_bytes.min(self.patterns.saturating_mul(len));
        self.patterns + self.stars.saturating_mul(len).saturating_add(bytes) / 64
    }

    /// One bit for each pattern file: whether the directory at a path is included, given the bits of its parent in
    /// `above`.
    pub(super) fn inside(&self, path: &[u8], above: u64) -> u64 {
        self.sparse.iter().enumerate().fold(0, |bits, (at, patterns)| {
            let inside = patterns.matched(path, true).unwrap_or(above >> at & 1 == 1);
            bits | u64::from(inside) << at
        })
    }

    /// Whether the blob at a path passes, given the bits of its directory.
    pub(super) fn admits(&self, path: &[u8], inside: u64) -> bool {
        let mut sparse = self.sparse.iter().enumerate();
        sparse.all(|(at, patterns)| patterns.matched(path, false).unwrap_or(inside >> at & 1 == 1))
    }
}

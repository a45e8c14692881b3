//! Commits by number, from the commit-graph or else parsed.
//!
//! In: an object database. Out: parents, tree, time and generation of a commit, by a small number. Walks can keep marks
//! in vectors indexed by that number. A commit is read at most once, and only when needed.

use super::Objects;
use super::commit_graph::CommitGraph;
pub use super::commit_graph::GENERATION_UNKNOWN;
use super::heads::HeadReaders;
use super::ids::IdMap;
use anyhow::{Context, bail};
use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use std::fmt;

/// A commit met by a walk does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing(pub ObjectId);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "missing commit {}", self.0)
    }
}

impl std::error::Error for Missing {}

/// A commit outside the commit-graph.
struct Parsed {
    id: ObjectId,
    tree: ObjectId,
    time: i64,
    /// Where its parents begin in the common list; [`UNREAD`] until the commit was read.
    parents: u32,
    parents_len: u32,
}

const UNREAD: u32 = u32::MAX;

/// Commits of one database, numbered as they are met. Those in the commit-graph have its positions; others follow.
pub struct Commits<'a> {
    objects: &'a Objects,
    graph: Option<&'a CommitGraph>,
    /// The number of commits in the graph.
    base: u32,
    numbers: IdMap<u32>,
    parsed: Vec<Parsed>,
    parents: Vec<u32>,
    /// Commits in the graph where a client's history is cut, one bit each, by number.
    cut: Vec<u64>,
    content: Vec<u8>,
    /// Threads that read ahead.
    readers: Option<HeadReaders>,
}

impl<'a> Commits<'a> {
    /// Starts without any commit read.
    pub fn new(objects: &'a Objects) -> Self {
        let graph = objects.graph();
        let mut cut = Vec::new();
        for position in objects.cut.iter().filter_map(|id| graph?.position(id)) {
            let word = position as usize / 64;
            if word >= cut.len() {
                cut.resize(word + 1, 0);
            }
            cut[word] |= 1 << (position % 64);
        }
        Commits {
            objects,
            graph,
            cut,
            base: graph.map_or(0, CommitGraph::len),
            numbers: IdMap::default(),
            parsed: Vec::new(),
            parents: Vec::new(),
            content: Vec::new(),
            readers: None,
        }
    }

    /// The database that the commits belong to.
    pub fn objects(&self) -> &'a Objects {
        self.objects
    }

    /// One more than the highest number given out so far.
    pub fn len(&self) -> usize {
        self.base as usize + self.parsed.len()
    }

    /// Whether no commit is known, not even from a commit-graph.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of a commit. Does not check that the commit exists.
    pub fn number(&mut self, id: &oid) -> u32 {
        if let Some(position) = self.graph.and_then(|graph| graph.position(id)) {
            return position;
        }
        if let Some(number) = self.numbers.get(id) {
            return *number;
        }
        let number = u32::try_from(self.len()).expect("commits in memory are fewer than four thousand million");
        let null = self.objects.hash_kind().null();
        self.parsed.push(Parsed { id: id.to_owned(), tree: null, time: 0, parents: UNREAD, parents_len: 0 });
        self.numbers.insert(id.to_owned(), number);
        number
    }

    /// The number of a commit that was met already or is in the commit-graph.
    pub fn known(&self, id: &oid) -> Option<u32> {
        let in_graph = self.graph.and_then(|graph| graph.position(id));
        in_graph.or_else(|| self.numbers.get(id).copied())
    }

    /// The ID of a commit.
    pub fn id(&self, number: u32) -> &oid {
        match self.graph {
            Some(graph) if number < self.base => graph.id_at(number),
            _ => &self.parsed[(number - self.base) as usize].id,
        }
    }

    /// The ID of its tree.
    ///
    /// # Errors
    /// When the commit is missing (a [`Missing`]) or corrupt.
    pub fn tree(&mut self, number: u32) -> anyhow::Result<ObjectId> {
        match self.graph {
            Some(graph) if number < self.base => Ok(graph.tree(number).to_owned()),
            _ => Ok(self.read(number)?.tree),
        }
    }

    /// Its committer time in seconds; 0 if it cannot be parsed.
    ///
    /// # Errors
    /// As [`Commits::tree`].
    pub fn time(&mut self, number: u32) -> anyhow::Result<i64> {
        match self.graph {
            Some(graph) if number < self.base => Ok(graph.time(number)),
            _ => Ok(self.read(number)?.time),
        }
    }

    /// Its generation number, which exceeds those of all ancestors; [`GENERATION_UNKNOWN`] outside the commit-graph.
    pub fn generation(&self, number: u32) -> u64 {
        match self.graph {
            Some(graph) if number < self.base => graph.generation(number),
            _ => GENERATION_UNKNOWN,
        }
    }

    /// Whether history is cut at a commit, so that walks ignore its parents.
    pub fn is_cut(&self, number: u32) -> bool {
        if number < self.base {
            return self.cut.get(number as usize / 64).is_some_and(|word| word >> (number % 64) & 1 == 1);
        }
        self.objects.ends_at(self.id(number))
    }

    /// Stores the numbers of its parents in `parents` (cleared first); none if history is cut there. The parents need
    /// not exist.
    ///
    /// # Errors
    /// As [`Commits::tree`].
    pub fn parents(&mut self, number: u32, parents: &mut Vec<u32>) -> anyhow::Result<()> {
        parents.clear();
        match self.graph {
            Some(_) if number < self.base && self.is_cut(number) => {}
            Some(graph) if number < self.base => graph.parents(number, parents)?,
            _ => {
                self.read(number)?;
                let parsed = &self.parsed[(number - self.base) as usize];
                let from = parsed.parents as usize;
                parents.extend_from_slice(&self.parents[from..from + parsed.parents_len as usize]);
            }
        }
        Ok(())
    }

    /// Makes other threads read what a walk will reach: these commits, from the last one on, and everything reachable
    /// from them. Errors are reported when the walk gets to a commit.
    pub fn read_ahead(&mut self, numbers: &[u32]) {
        let unread = |number: &u32| Some(&self.parsed[number.checked_sub(self.base)? as usize]);
        let unread = numbers.iter().filter_map(unread).filter(|parsed| parsed.parents == UNREAD);
        let ids: Vec<ObjectId> = unread.map(|parsed| parsed.id).collect();
        self.readers = HeadReaders::start(self.objects, &ids);
    }

    fn read(&mut self, number: u32) -> anyhow::Result<&Parsed> {
        let at = (number - self.base) as usize;
        if self.parsed[at].parents == UNREAD {
            let id = self.parsed[at].id;
            let mut content = std::mem::take(&mut self.content);
            let result = self.parse(at, &id, &mut content);
            self.content = content;
            result?;
        }
        Ok(&self.parsed[at])
    }

    fn parse(&mut self, at: usize, id: &oid, content: &mut Vec<u8>) -> anyhow::Result<()> {
        if let Some(head) = self.readers.as_ref().and_then(|readers| readers.take(id)) {
            return self.note(at, head.tree, head.time, head.parents.iter().copied());
        }
        match CommitHead::find(self.objects, id, content)? {
            None => bail!(Missing(id.to_owned())),
            Some(Kind::Commit) => {}
            Some(kind) => bail!("object {id} is a {kind}, not a commit"),
        }
        let head = CommitHead::parse(content, self.objects.hash_kind()).with_context(|| format!("commit {id}"))?;
        self.note(at, head.tree, head.time, head.parents())
    }

    /// Stores a commit that was read.
    fn note(
        &mut self,
        at: usize,
        tree: ObjectId,
        time: i64,
        parents: impl Iterator<Item = ObjectId>,
    ) -> anyhow::Result<()> {
        let from = u32::try_from(self.parents.len()).context("history is too large")?;
        if !self.objects.ends_at(&self.parsed[at].id) {
            for parent in parents {
                let parent = self.number(&parent);
                self.parents.push(parent);
            }
        }
        let parsed = &mut self.parsed[at];
        (parsed.tree, parsed.time, parsed.parents) = (tree, time, from);
        parsed.parents_len = u32::try_from(self.parents.len() - from as usize).context("history is too large")?;
        Ok(())
    }
}

/// The header lines of a commit that walks need.
pub struct CommitHead<'a> {
    /// Its tree.
    pub tree: ObjectId,
    /// The committer time; 0 if it cannot be parsed.
    pub time: i64,
    parents: &'a [u8],
    /// The rest of the commit.
    people: &'a [u8],
    hash: gix_hash::Kind,
}

impl<'a> CommitHead<'a> {
    /// Reads a commit into `content`, perhaps only up to the end of these lines, and returns its kind.
    ///
    /// # Errors
    /// When it is corrupt.
    pub(super) fn find(objects: &Objects, id: &oid, content: &mut Vec<u8>) -> anyhow::Result<Option<Kind>> {
        let hash = objects.hash_kind();
        match objects.begin(id, content)? {
            Some(Kind::Commit) if CommitHead::parse(content, hash).is_ok_and(|head| head.is_complete()) => {
                Ok(Some(Kind::Commit))
            }
            Some(_) | None => objects.find(id, content),
        }
    }

    /// Parses the beginning of a commit.
    ///
    /// # Errors
    /// When tree or parents are malformed. A malformed time counts as 0, as in git.
    pub fn parse(content: &'a [u8], hash: gix_hash::Kind) -> anyhow::Result<Self> {
        let hex = hash.len_in_hex();
        let (tree, mut rest) = id_line(content, b"tree ", hex).context("bogus tree line")?;
        let begin = rest;
        while rest.starts_with(b"parent ") {
            (_, rest) = id_line(rest, b"parent ", hex).context("bad parents")?;
        }
        let parents = &begin[..begin.len() - rest.len()];
        Ok(CommitHead { tree, time: committer_time(rest), parents, people: rest, hash })
    }

    /// Whether the author and committer lines are complete, and with them all lines parsed here.
    fn is_complete(&self) -> bool {
        self.people.iter().filter(|byte| **byte == b'\n').nth(1).is_some()
    }

    /// Its parents.
    pub fn parents(&self) -> impl Iterator<Item = ObjectId> + use<'a> {
        let hex = self.hash.len_in_hex();
        let line = "parent ".len() + hex + 1;
        self.parents.chunks_exact(line).map(move |line| {
            ObjectId::from_hex(&line[line.len() - 1 - hex..line.len() - 1]).expect("was parsed before")
        })
    }
}

fn id_line<'a>(content: &'a [u8], key: &[u8], hex: usize) -> Option<(ObjectId, &'a [u8])> {
    let rest = content.strip_prefix(key)?;
    let (name, rest) = rest.split_at_checked(hex)?;
    let rest = rest.strip_prefix(b"\n")?;
    Some((ObjectId::from_hex(name).ok()?, rest))
}

/// The time in the committer line, which follows the author line.
fn committer_time(lines: &[u8]) -> i64 {
    let time = || {
        let mut lines = lines.split(|byte| *byte == b'\n');
        lines.next()?.strip_prefix(b"author ")?;
        let line = lines.next()?.strip_prefix(b"committer ")?;
        let after_name = &line[line.iter().rposition(|byte| *byte == b'>')? + 1..];
        let digits = after_name.trim_ascii_start();
        let end = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
        std::str::from_utf8(&digits[..end]).ok()?.parse::<i64>().ok()
    };
    time().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

    fn check(committer: &str, parents: usize, expected: Result<i64, &str>) {
        let parents_text = format!("parent {TREE}\n").repeat(parents);
        let text = format!("tree {TREE}\n{parents_text}author A <a> 1 +0000\n{committer}\n\nparent is a word\n");
        match (CommitHead::parse(text.as_bytes(), gix_hash::Kind::Sha1), expected) {
            (Ok(head), Ok(time)) => {
                assert_eq!(head.time, time);
                assert_eq!(head.parents().count(), parents);
                assert!(head.parents().all(|parent| parent == head.tree));
            }
            (Err(error), Err(text)) => assert!(error.to_string().contains(text), "{error}"),
            (got, expected) => panic!("got {:?}, expected {expected:?}", got.map(|head| head.time)),
        }
    }

    #[test]
    fn the_head_of_a_commit_has_tree_parents_and_time() {
        check("committer C <c> 1234567890 +0200", 0, Ok(1_234_567_890));
        check("committer C > <c> 5 +0200", 3, Ok(5));
        check("committer C <c> -5 +0200", 1, Ok(0));
        check("committer C <c> 99999999999999999999 +0200", 1, Ok(0));
        check("encoding x", 1, Ok(0));
    }

    #[test]
    fn a_malformed_head_is_an_error() {
        let parse = |text: &str| CommitHead::parse(text.as_bytes(), gix_hash::Kind::Sha1).map(|_| ());
        assert!(parse("").is_err());
        assert!(parse(&format!("tree {TREE}")).is_err());
        assert!(parse(&format!("tree {}\n", &TREE[1..])).is_err());
        assert!(parse(&format!("tree {TREE}\nparent {}\n", &TREE[1..])).is_err());
        assert!(parse(&format!("tree {TREE}\n")).is_ok());
    }
}

//! Walks trees path by path.
//!
//! In: root trees, new and known. Out: what is below the new trees and not below the known ones, as far as a filter
//! lets it pass. All trees at one path are read together in storage order, so that their delta bases are at hand, and
//! each is compared with the one before it, so that only differing entries are looked at.
//!
//! Usually a tree is walked once, where it is met first. If a filter limits depth, paths are taken in order of length,
//! so that a tree is met first at its highest place. If a filter matches paths, a tree is walked again at each path as
//! far down as the patterns reach.

use super::deep::Depths;
use super::order::{BaseChain, Node, ordered};
use super::readers::{At, Readers, Wanted};
use super::tree::{EntryKind, Tree};
use super::{Absent, Broken, Effort, Filter, Firsts, Marks, Numbers};
use crate::odb::Location;
use crate::odb::ids::IdSet;
use crate::stream::Pulse;
use anyhow::{Result, anyhow};
use gix_object::Kind;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::ops::Range;

mod entries;

/// How many known trees are read beyond those compared with new ones, for [`Effort::Exact`]. They only reveal unchanged
/// copies of objects from elsewhere; moving an object changes the tree it was in. git reads none of them
/// (pack.useSparse).
const HELD_BEYOND: u64 = 32;

/// Where the walk over trees begins.
#[derive(Default)]
pub(super) struct Ends<'e> {
    /// Trees of new commits.
    pub(super) roots: &'e [u32],
    /// Trees wanted by name.
    pub(super) wanted: &'e [u32],
    /// Trees of known commits at the boundary.
    pub(super) boundary: &'e [u32],
    /// Trees that the other side named.
    pub(super) known: &'e [u32],
    /// Blobs that the other side named.
    pub(super) known_blobs: &'e [u32],
    /// How many levels deep new trees may be nested.
    pub(super) levels_max: Option<u64>,
    /// Whether the objects that the caller passed as `held` include everything below them.
    pub(super) is_closed: bool,
    /// Which other versions of objects to note.
    pub(super) relate: Relate,
}

/// How often trees may be read again at other paths when a filter matches paths: this many times, plus this many for
/// each found object. A few trees can appear at more paths than could ever be walked.
const AGAIN_BEYOND: u64 = 1 << 18;
const AGAIN_EACH: u64 = 256;
/// Comparisons of patterns with paths in one walk, which take about a quarter of an hour. A sparse checkout of three
/// thousand directories out of nine million paths needs fewer.
const COMPARISONS_MAX: u64 = 1 << 36;

/// Patterns would have to be compared with too many paths.
#[derive(Debug, Clone, Copy)]
pub struct TooManyPaths;

impl fmt::Display for TooManyPaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the patterns of a sparse filter lead to too many paths")
    }
}

impl std::error::Error for TooManyPaths {}

/// New trees are nested deeper than git would follow them.
#[derive(Debug, Clone, Copy)]
pub struct TooDeep;

impl fmt::Display for TooDeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("exceeded maximum allowed tree depth")
    }
}

impl std::error::Error for TooDeep {}

/// The trees at one path.
#[derive(Default)]
struct Level {
    new: Vec<u32>,
    held: Vec<u32>,
    /// How many steps below a commit the entries of these trees are. Entries of a tree wanted by name count as 0 steps,
    /// like a commit's tree.
    depth: u64,
    place: Place,
}

/// A path, filled in only if a filter matches paths.
#[derive(Default)]
struct Place {
    /// The length of the parent directory's path.
    above: usize,
    name: Vec<u8>,
    /// One bit for each pattern file: whether it includes the directory.
    inside: u64,
}

/// Which other versions of an object are noted.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Relate {
    /// None: nothing will be packed.
    #[default]
    None,
    /// Those in other packs: the program that wrote a pack has tried those in it.
    Apart,
    /// All: the client may have them.
    All,
}

/// A sub-tree met at the current level.
struct Child {
    name: Range<usize>,
    number: u32,
    held: bool,
}

pub(super) struct Trees<'w, 'a> {
    numbers: &'w mut Numbers<'a>,
    filter: &'w Filter,
    absent: &'w mut Absent,
    pulse: &'w mut dyn Pulse,
    /// New trees found, all of which are read.
    found: Marks,
    /// Objects found as blobs, which are only looked up. They are kept apart so that a tree that is also called a blob
    /// is still read.
    blobs: Marks,
    /// A new tree that a known tree calls a blob.
    called_blob: Option<u32>,
    /// The depths of new trees, if there is a limit.
    depths: Option<Depths>,
    /// Trees that are walked but left out of the result.
    passed: Marks,
    /// Trees walked below the reach of patterns, by the bits of their directory.
    beyond: HashMap<u64, Marks>,
    /// Blobs that exceed the size limit.
    large: Marks,
    /// Known trees; if `is_closed`, all other known objects too.
    held: Marks,
    /// IDs of known blobs. Most never matter, so none is looked up. A client that uses a filter may lack them.
    held_blobs: IdSet,
    /// How many objects were found, including the caller's.
    count: u64,
    /// How many trees were read.
    read: u64,
    /// How often a pattern may have been compared with a path.
    compared: u64,
    /// Known trees that were not read.
    unread: Vec<u32>,
    /// Known trees that were read.
    opened: Marks,
    /// A tree taken for new turned out to be known.
    mistaken: bool,
    /// Which relatives to note.
    relate: Relate,
    /// Set if only relatives are wanted: then only trees beside known ones are read, and none larger than this many
    /// bytes.
    compared_max: Option<u64>,
    /// Found objects, each with another version of it.
    relatives: Vec<(u32, u32)>,
    /// The first version of each packed object, with [`Relate::Apart`] only.
    firsts: Firsts,
    current: Tree,
    bases: BaseChain,
    hash_len: usize,
    /// Of the current level: the last blob met under each name that the tree before did not have.
    named: HashMap<Vec<u8>, u32>,
    /// Whether `held` includes everything below its members.
    is_closed: bool,
    /// Started when needed.
    readers: Option<Readers>,
    names: Vec<u8>,
    children: Vec<Child>,
    /// The fields from here on belong to the current level.
    depth: u64,
    path: Vec<u8>,
    inside: u64,
}

impl<'w, 'a> Trees<'w, 'a> {
    /// Continues from what the caller found: `held` and `count`. Objects in `held` are never looked at, wherever a tree
    /// names them, so it may contain only trees, unless it also includes everything below them ([`Ends::is_closed`]).
    pub(super) fn new(
        numbers: &'w mut Numbers<'a>,
        filter: &'w Filter,
        held: Marks,
        count: u64,
        absent: &'w mut Absent,
        pulse: &'w mut dyn Pulse,
    ) -> Self {
        Trees {
            hash_len: numbers.objects().hash_kind().len_in_bytes(),
            numbers,
            filter,
            absent,
            pulse,
            found: Marks::default(),
            blobs: Marks::default(),
            called_blob: None,
            depths: None,
            passed: Marks::default(),
            beyond: HashMap::new(),
            large: Marks::default(),
            held,
            held_blobs: IdSet::default(),
            count,
            read: 0,
            compared: 0,
            unread: Vec::new(),
            opened: Marks::default(),
            mistaken: false,
            relate: Relate::None,
            compared_max: None,
            relatives: Vec::new(),
            firsts: Firsts::default(),
            current: Tree::default(),
            bases: BaseChain::default(),
            named: HashMap::new(),
            is_closed: false,
            readers: None,
            names: Vec::new(),
            children: Vec::new(),
            depth: 0,
            path: Vec::new(),
            inside: 0,
        }
    }

    /// The IDs of known blobs met so far.
    pub(super) fn take_held_blobs(&mut self) -> IdSet {
        std::mem::take(&mut self.held_blobs)
    }

    /// Which found objects are versions of the same file or directory.
    pub(super) fn take_firsts(&mut self) -> Firsts {
        std::mem::take(&mut self.firsts)
    }

    /// The objects found, the known ones except for blobs, and pairs of relatives, some perhaps twice.
    pub(super) fn into_marks(mut self) -> (Marks, Marks, Vec<(u32, u32)>) {
        self.found.extend(&self.blobs);
        (self.found, self.held, self.relatives)
    }

    /// Checks that no object that a tree calls a blob is called a tree elsewhere, or is one of `others`, none of which
    /// is a blob: that it is a blob was never verified. Must not be used with [`Ends::is_closed`].
    ///
    /// # Errors
    /// [`Broken`] naming such an object.
    pub(super) fn check_called(&self, others: &Marks) -> Result<()> {
        let sets = [&self.found, &self.held, others];
        match self.called_blob.or_else(|| sets.iter().find_map(|set| self.blobs.common(set).next())) {
            Some(number) => {
                Err(Broken::bad("blob", self.numbers.id(number), anyhow!("it is called something else too")))
            }
            None => Ok(()),
        }
    }

    /// Checks that all objects that new trees call blobs are blobs. C git checks only those it happens to have met as
    /// something else; any others break later clones.
    ///
    /// # Errors
    /// [`Broken`] for an object that is not a blob or cannot be read.
    pub(super) fn check_blobs(&self) -> Result<()> {
        for number in self.blobs.iter() {
            let id = self.numbers.read_id(number);
            let kind = super::tips::kind(self.numbers, number, Some(Kind::Blob));
            let kind = kind.map_err(|cause| Broken::bad("blob", &id, cause))?;
            if kind != Kind::Blob {
                return Err(Broken::bad("blob", &id, anyhow::anyhow!("it is a {kind}, not a blob")));
            }
        }
        Ok(())
    }

    /// Finds what is below the roots and the wanted trees, but not below the known ones.
    ///
    /// # Errors
    /// [`Broken`] when something is missing or corrupt.
    pub(super) fn find(&mut self, ends: &Ends<'_>, effort: Effort) -> Result<()> {
        for tree in ends.boundary.iter().chain(ends.known) {
            self.held.insert(*tree);
        }
        self.held_blobs.extend(ends.known_blobs.iter().map(|blob| self.numbers.read_id(*blob)));
        (self.is_closed, self.relate) = (ends.is_closed, ends.relate);
        self.unread.extend(ends.known);
        if effort == Effort::Exact {
            self.open_held(u64::MAX)?;
        }
        self.descend(ends)?;
        if effort == Effort::Exact {
            self.open_held(HELD_BEYOND)?;
        }
        if self.mistaken {
            // Rare: a tree at a path with only new trees turned out to be known. What is reachable only from it is
            // known as well.
            self.count -= self.found.len() + self.blobs.len();
            (self.found, self.blobs, self.passed) = Default::default();
            self.beyond.clear();
            self.descend(&Ends { boundary: &[], ..*ends })?;
        }
        self.measure()?;
        // Some blobs were taken for new before they were met as known ones.
        self.count -= self.numbers.remove(&mut self.blobs, &self.held_blobs);
        Ok(())
    }

    /// Compares the roots with the boundary only to find relatives, skipping trees of more than `largest` bytes.
    ///
    /// # Errors
    /// [`Broken`] when something is missing or corrupt.
    pub(super) fn compare(&mut self, ends: &Ends<'_>, largest: u64) -> Result<()> {
        self.relate = Relate::All;
        self.compared_max = Some(largest);
        ends.boundary.iter().for_each(|tree| {
            self.held.insert(*tree);
        });
        self.descend(ends)
    }

    /// Walks down from the ends, skipping known objects.
    fn descend(&mut self, ends: &Ends<'_>) -> Result<()> {
        self.depths = ends.levels_max.map(Depths::up_to);
        let mut named = Level::default();
        for &tree in ends.wanted {
            if !self.held.contains(tree) {
                self.measure_at(tree, 1);
                self.count += u64::from(self.found.insert(tree));
                named.new.push(tree);
            }
        }
        let inside = self.filter.inside(b"", 0);
        let mut top = Level { depth: 1, held: ends.boundary.to_vec(), ..Level::default() };
        top.place.inside = inside;
        let roots = if self.filter.reaches(0) { ends.roots } else { &[] };
        for &tree in roots {
            if self.meet_new(tree, 1) {
                top.new.push(tree);
            }
        }
        let (by_path, by_depth) = (self.filter.is_by_path(), self.filter.is_by_depth());
        let mut levels = VecDeque::new();
        if by_path || by_depth {
            levels.push_back(named);
        } else {
            top.new.append(&mut named.new);
        }
        levels.push_back(top);
        // With paths, go depth first, so that a directory's path is kept until everything in it is read.
        let in_order = by_depth && !by_path;
        while let Some(mut level) = if in_order { levels.pop_front() } else { levels.pop_back() } {
            if level.new.is_empty() || !self.filter.reaches(level.depth) {
                self.unread.append(&mut level.held);
            } else if ends.levels_max.is_some_and(|max| level.depth > max) {
                return Err(TooDeep.into());
            } else {
                self.level(level)?;
                self.group(&mut levels)?;
            }
        }
        Ok(())
    }

    /// Marks a new tree met at this depth. Returns whether to walk it from here.
    fn meet_new(&mut self, number: u32, depth: u64) -> bool {
        if self.held.contains(number) {
            return false;
        }
        self.measure_at(number, depth);
        let new = if self.filter.trees() {
            let new = self.found.insert(number);
            self.count += u64::from(new);
            new
        } else {
            self.passed.insert(number)
        };
        new || self.filter.is_by_path()
    }

    /// Notes the depth at which a new tree was met.
    fn measure_at(&mut self, number: u32, depth: u64) {
        if let Some(depths) = &mut self.depths {
            depths.meet(number, depth);
        }
    }

    /// Checks that no new tree is nested too deeply, wherever it was met first. Trees are read again only if that is
    /// uncertain.
    fn measure(&mut self) -> Result<()> {
        let Some(depths) = self.depths.take().filter(Depths::may_be_too_deep) else { return Ok(()) };
        let below = |number| {
            self.bases.clear();
            self.read(Node { number, depth: 0, before: None })?;
            let current = std::mem::take(&mut self.current);
            let mut found = Vec::new();
            for &fresh in &current.fresh {
                if let (EntryKind::Tree, _, id) = current.entry(fresh, self.hash_len) {
                    found.extend(self.numbers.of(id)?);
                }
            }
            Ok(found)
        };
        if depths.are_too_deep(below)? { Err(TooDeep.into()) } else { Ok(()) }
    }

    /// Marks a known tree.
    fn meet_held(&mut self, number: u32) {
        if self.held.insert(number) && (self.found.contains(number) || self.passed.contains(number)) {
            self.mistaken = true;
        }
    }

    /// Reads all trees at one path, known ones first, and leaves their sub-trees in `children`.
    fn level(&mut self, level: Level) -> Result<()> {
        self.depth = level.depth;
        if self.filter.is_by_path() {
            if self.read > self.count.saturating_mul(AGAIN_EACH).saturating_add(AGAIN_BEYOND) {
                return Err(TooManyPaths.into());
            }
            self.path.truncate(level.place.above);
            enter(&mut self.path, &level.place.name);
            self.inside = level.place.inside;
        }
        self.bases.clear();
        self.named.clear();
        self.names.clear();
        self.children.clear();
        if let Some(largest) = self.compared_max {
            let Some(&held) = level.held.first() else { return Ok(()) };
            if level.new.iter().any(|new| self.numbers.size(*new).is_ok_and(|size| size > largest)) {
                level.new.iter().for_each(|new| self.relate(*new, held));
                return Ok(());
            }
        }
        let mut before = None;
        for node in ordered(self.numbers, &level.held) {
            self.opened.insert(node.number);
            // A damaged known tree excludes nothing: what is below it is taken as new.
            match self.read(node) {
                Err(error) if error.is::<Broken>() => continue,
                read => read?,
            }
            self.visit_held(true)?;
            self.keep(node);
            before = Some(node.number);
        }
        let mut new = ordered(self.numbers, &level.new);
        if let Some(first) = new.first_mut() {
            first.before = before;
        }
        let mut alone = &new[..];
        if Readers::are_worth(new.len()) {
            alone = self.share_out(before, alone)?;
        }
        for node in alone {
            self.read_new(*node)?;
        }
        Ok(())
    }

    /// Reads a new tree on this thread.
    fn read_new(&mut self, node: Node) -> Result<()> {
        if self.is_closed && node.depth == 0 {
            self.read_known_base(node.number)?;
        }
        self.read(node)?;
        self.visit_new(node.number)?;
        self.keep(node);
        self.relate_to_tree(node);
        Ok(())
    }

    /// Arranges for a tree to be compared with the known tree that it is stored as a delta on: entries they share need
    /// no look-up.
    fn read_known_base(&mut self, number: u32) -> Result<()> {
        let Some(base) = self.numbers.base(number).filter(|base| self.held.contains(*base)) else { return Ok(()) };
        let node = Node { number: base, depth: 0, before: None };
        match self.read(node) {
            Err(error) if error.is::<Broken>() => {}
            read => {
                read?;
                self.keep(node);
            }
        }
        Ok(())
    }

    /// Has several threads read new trees at one path, the first of which is compared with `before`. Returns the trees
    /// left to be read here.
    fn share_out<'n>(&mut self, before: Option<u32>, trees: &'n [Node]) -> Result<&'n [Node]> {
        let readers = self.readers.take().or_else(|| Readers::start(self.numbers.objects()));
        let Some(readers) = readers else {
            self.numbers.objects().expect_chains();
            return Ok(trees);
        };
        let others = self.relate != Relate::None;
        let wanted = Wanted { blobs: self.filter.blobs(), others, names: self.filter.is_by_path() };
        let at = |number| match self.numbers.location(number) {
            Location::Packed { pack, position } => At::Packed((pack, position)),
            Location::Loose(directory) => At::Loose(Box::new((directory, self.numbers.id(number).to_owned()))),
        };
        let places = trees.iter().map(|node| (at(node.number), node.depth));
        let mut reading = readers.read(before.map(at), places, wanted);
        let (read, alone) = trees.split_at(reading.len());
        self.bases.clear();
        for node in read {
            match reading.next(self.hash_len) {
                Some(entries) => {
                    self.begin_tree()?;
                    for met in entries {
                        self.meet_entry(node.number, &met)?;
                    }
                    self.relate_to_tree(*node);
                }
                None => self.read_new(*node)?,
            }
        }
        drop(reading);
        self.readers = Some(readers);
        if let (Some(last), [_, ..]) = (read.last(), alone) {
            // The next tree is compared with this one.
            self.bases.clear();
            self.read(*last)?;
            self.keep(*last);
        }
        Ok(alone)
    }

    /// Counts one more tree as read.
    fn begin_tree(&mut self) -> Result<()> {
        self.read += 1;
        Ok(self.pulse.tick(self.count)?)
    }

    /// Reads a tree and compares it with its base, or else with the last tree.
    fn read(&mut self, node: Node) -> Result<()> {
        self.begin_tree()?;
        let number = node.number;
        let bad = |cause| Broken::bad("tree", self.numbers.id(number), cause);
        match self.numbers.share(number).map_err(bad)? {
            (Kind::Tree, bytes) => self.current.set(bytes),
            (kind @ (Kind::Commit | Kind::Blob | Kind::Tag), _) => return Err(bad(anyhow!("it is a {kind}"))),
        }
        self.current
            .compare(self.bases.find(node.depth), self.hash_len)
            .ok_or_else(|| bad(anyhow!("a malformed entry")))
    }

    /// Keeps the current tree for others to be compared with.
    fn keep(&mut self, node: Node) {
        self.current = self.bases.add(node.depth, std::mem::take(&mut self.current));
    }

    /// Marks a known tree's entries, ignoring missing ones. With `compared`, its sub-trees become children; otherwise
    /// they wait in `unread`.
    fn visit_held(&mut self, compared: bool) -> Result<()> {
        let current = std::mem::take(&mut self.current);
        for &fresh in &current.fresh {
            let (kind, name, id) = current.entry(fresh, self.hash_len);
            match kind {
                EntryKind::Tree => {}
                EntryKind::Blob if self.filter.blobs() && self.compared_max.is_none() && !self.is_closed => {
                    self.held_blobs.insert(id.to_owned());
                    continue;
                }
                EntryKind::Blob | EntryKind::Gitlink => continue,
            }
            let Some(number) = self.numbers.of(id)? else { continue };
            self.meet_held(number);
            if compared {
                self.child(name, number, true);
            } else if !self.opened.contains(number) {
                self.unread.push(number);
            }
        }
        self.current = current;
        Ok(())
    }

    fn child(&mut self, name: &[u8], number: u32, held: bool) {
        let start = self.names.len();
        self.names.extend_from_slice(name);
        self.children.push(Child { name: start..self.names.len(), number, held });
    }

    /// Groups sub-trees of the same name into one level.
    fn group(&mut self, levels: &mut VecDeque<Level>) -> Result<()> {
        let by_path = self.filter.is_by_path();
        let names = &self.names;
        self.children.sort_by(|a, b| names[a.name.clone()].cmp(&names[b.name.clone()]));
        for same in self.children.chunk_by(|a, b| names[a.name.clone()] == names[b.name.clone()]) {
            let mut level = Level { depth: self.depth + 1, ..Level::default() };
            for child in same {
                if child.held { &mut level.held } else { &mut level.new }.push(child.number);
            }
            if level.held.len() > 1 {
                level.held.sort_unstable();
                level.held.dedup();
            }
            if by_path {
                level.new.sort_unstable();
                level.new.dedup();
                let above = self.path.len();
                level.place.above = above;
                level.place.name = names[same[0].name.clone()].to_vec();
                enter(&mut self.path, &level.place.name);
                count_comparisons(&mut self.compared, self.filter, &self.path)?;
                level.place.inside = self.filter.inside(&self.path, self.inside);
                self.path.truncate(above);
                if self.filter.is_beyond_patterns(level.depth) {
                    let walked = self.beyond.entry(level.place.inside).or_default();
                    level.new.retain(|tree| walked.insert(*tree));
                }
            }
            levels.push_back(level);
        }
        Ok(())
    }

    /// Reads known trees that were not compared, at most `limit` of them.
    fn open_held(&mut self, limit: u64) -> Result<()> {
        let mut left = limit;
        self.bases.clear();
        while let Some(number) = self.unread.pop() {
            if !self.opened.insert(number) {
                continue;
            }
            if left == 0 {
                break;
            }
            left -= 1;
            match self.read(Node { number, depth: 0, before: None }) {
                Err(error) if error.is::<Broken>() => continue,
                read => read?,
            }
            self.visit_held(false)?;
        }
        Ok(())
    }
}

/// Counts the cost of matching one path against the patterns of a filter.
///
/// # Errors
/// [`TooManyPaths`] when the total exceeds [`COMPARISONS_MAX`].
fn count_comparisons(compared: &mut u64, filter: &Filter, path: &[u8]) -> Result<()> {
    *compared = compared.saturating_add(filter.comparisons(path));
    if *compared > COMPARISONS_MAX { Err(TooManyPaths.into()) } else { Ok(()) }
}

/// Appends one component to a path.
fn enter(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

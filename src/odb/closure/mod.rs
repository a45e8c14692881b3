//! Closure: what is reachable from some objects and not from others.
//!
//! In: names of wanted and of known objects. Out: sets of numbers. Trees are read path by path and each at most once as a
//! wanted one, or once for each path where that matters; blobs are looked up, never read; gitlinks are passed over. What a
//! filter leaves out is not even looked up.

mod deep;
mod filter;
mod history;
mod numbers;
mod order;
mod readers;
mod sparse;
mod stored;
mod tree;
mod trees;
mod waiting;

pub use filter::Filter;
pub use numbers::{Firsts, Marks, Numbers};
pub use sparse::Patterns;
pub(super) use tree::{EntryKind, Tree};
pub use trees::{TooDeep, TooManyPaths};

use crate::odb::bitmap::Bits;
use crate::odb::ids::{IdMap, IdSet};
use crate::odb::walk::CommitWalk;
use crate::odb::{Header, Objects, Stored, promised, tag};
use crate::stream::Pulse;
use anyhow::Result;
use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use history::History;
use std::collections::HashSet;
use std::fmt;
use stored::Reached;
use trees::{Ends, Relate, Trees};
use waiting::Waiting;

/// Bitmaps are asked what lies between known and new commits where they have at most this many bytes for each new one: all of
/// them are read, which costs as much as what these commits have changed.
const STORED_BYTES_EACH: u64 = 64 << 10;
/// So many commits' trees are compared at each end where bitmaps told the rest, each of so many bytes or of so many for each object found:
/// reading large ones costs more than deltas for a few objects spare.
const COMPARED_MAX: usize = 8;
const COMPARED_BYTES: u64 = 128 << 10;
const COMPARED_BYTES_EACH: u64 = 4 << 10;

/// How far known objects are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// As far as it costs nothing: what is found is complete, but may contain known objects too.
    Enough,
    /// Through the trees of the known commits at the boundary that stand beside new ones, and through a few others.
    Exact,
}

/// What is asked of a closure.
#[derive(Debug, Clone)]
pub struct Search<'a> {
    /// Names of objects of any kind.
    pub wants: &'a [ObjectId],
    /// The same, of what stays away with all that lies behind it. What is missing of it is passed over.
    pub known: &'a [ObjectId],
    /// How far that is followed.
    pub effort: Effort,
    /// What else stays away.
    pub filter: &'a Filter,
    /// Which trees and blobs may be missing.
    pub missing: Missing,
    /// Whether what new trees call blobs has to be such. Else it is enough that it exists; either way nothing may be called two things.
    pub blobs_are: bool,
    /// How many levels of new trees a commit may have, where somebody minds.
    pub levels_max: Option<u64>,
    /// What tags are said to peel to, as far as that is known: it decides which of them are read first, and where a filter leaves something
    /// out, which are read at all.
    pub peeled: &'a [(ObjectId, ObjectId)],
}

/// Which trees and blobs may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Missing {
    /// None.
    #[default]
    Refused,
    /// Those that a promisor's pack names, as in a partial clone.
    Promised,
    /// All: it is only asked what can be reached.
    Passed,
}

/// Trees and blobs that are not there.
struct Absent {
    missing: Missing,
    /// To be looked for among the promised.
    met: IdMap<&'static str>,
}

impl Absent {
    /// So many are remembered; more are an error at once.
    const MOST: usize = 1 << 20;

    fn new(missing: Missing) -> Self {
        Absent { missing, met: IdMap::default() }
    }

    /// Passes one, or remembers it.
    fn meet(&mut self, kind: &'static str, id: &oid) -> Result<()> {
        match self.missing {
            Missing::Passed => Ok(()),
            Missing::Promised if self.met.len() < Self::MOST => {
                self.met.insert(id.to_owned(), kind);
                Ok(())
            }
            Missing::Promised | Missing::Refused => Err(Broken::missing(kind, id)),
        }
    }

    /// Passes what was remembered if all of it is promised.
    fn check(mut self, objects: &Objects, pulse: &mut dyn Pulse) -> Result<()> {
        if !self.met.is_empty() {
            promised::take_promised(objects, &mut self.met, pulse)?;
        }
        self.met.iter().next().map_or(Ok(()), |(id, kind)| Err(Broken::missing(kind, id)))
    }
}

/// A wanted object that is missing or cannot be read.
#[derive(Debug)]
pub struct Broken {
    /// Its name.
    pub id: ObjectId,
    /// What was expected of it: `commit`, `tree`, `blob`, `tag` or `object`.
    pub kind: &'static str,
    /// What reading it said; `None` when it is missing.
    pub cause: Option<anyhow::Error>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.cause.is_none() { "missing" } else { "bad" };
        write!(f, "{how} {} {}", self.kind, self.id)
    }
}

impl std::error::Error for Broken {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| &**cause as &(dyn std::error::Error + 'static))
    }
}

impl Broken {
    fn missing(kind: &'static str, id: &oid) -> anyhow::Error {
        Broken { id: id.to_owned(), kind, cause: None }.into()
    }

    fn bad(kind: &'static str, id: &oid, cause: anyhow::Error) -> anyhow::Error {
        Broken { id: id.to_owned(), kind, cause: Some(cause) }.into()
    }
}

/// What was found.
pub struct Closure<'a> {
    /// The numbers in use.
    pub numbers: Numbers<'a>,
    /// Everything reachable from the wanted objects and not from the known ones.
    pub found: Marks,
    /// Objects reachable from known ones, as far as they were met, and as far as who uses the filter has them.
    pub held: Marks,
    /// The names of blobs of which the same is true; they are not looked up.
    pub held_blobs: IdSet,
    /// Objects, and what each is another version of: at the same path, in a neighbouring commit. The first such pair counts.
    pub relatives: Vec<(u32, u32)>,
    /// Where nothing is known: which objects are versions of the same.
    pub firsts: Firsts,
}

/// Ends of what was asked for, by kind.
#[derive(Default)]
struct Tips {
    commits: Vec<ObjectId>,
    /// The same as numbers.
    numbers: Vec<u32>,
    trees: Vec<u32>,
    blobs: Vec<u32>,
    /// What was added last.
    last: Option<Kind>,
    /// Where they may wait: tags in the first pack that are neither marked nor followed yet.
    waiting: Option<Waiting>,
}

impl<'a> Closure<'a> {
    /// Finds everything reachable from the wants and not from what is known.
    ///
    /// # Errors
    /// [`Broken`] when a wanted object is missing or corrupt, [`TooDeep`]; else when the client has gone or an index cannot be read.
    pub fn find(objects: &'a Objects, search: &Search<'_>, pulse: &mut dyn Pulse) -> Result<Self> {
        let Search { wants, known, effort, filter, missing, .. } = *search;
        // They do not tell whether all of it is there, which is what a search with less effort is about, mostly.
        let may_be_told = match missing {
            Missing::Refused => effort == Effort::Exact,
            Missing::Promised => false,
            Missing::Passed => true,
        };
        if known.is_empty()
            && may_be_told
            && filter.is_by_kind()
            && let Some(closure) = Self::find_stored(objects, search, pulse)?
        {
            return Ok(closure);
        }
        let mut numbers = Numbers::new(objects);
        let (mut found, mut held) = (Marks::default(), Marks::default());
        let mut absent = Absent::new(missing);
        let mut buffer = Vec::new();
        let mut walked = None;
        if effort == Effort::Enough {
            let mut wanted = Tips::default();
            wanted.add_all(wants, &mut numbers, &mut found, &mut buffer)?;
            walked = history::near(objects, &wanted.commits, known, pulse)?.map(|walk| (wanted, walk));
        }
        let mut known_tips = Tips::default();
        let (wanted, walk) = match walked {
            Some(near) => near,
            None => {
                known_tips.add_known(known, &mut numbers, &mut held, &mut buffer)?;
                let mut wanted = Tips::default();
                found = Marks::default();
                wanted.add_all(wants, &mut numbers, &mut found, &mut buffer)?;
                let mut walk = history::between(objects, &wanted.commits, &known_tips.commits, pulse)?;
                if effort == Effort::Exact
                    && missing != Missing::Promised
                    && filter.is_all()
                    && let Some(closure) = Self::find_stored_between(objects, search, &mut walk, pulse)?
                {
                    return Ok(closure);
                }
                (wanted, walk)
            }
        };
        let walked = History::new(&mut numbers, walk, filter.reaches(0), &mut absent)?;
        held.extend(&walked.boundary);
        if filter.commits() {
            found.extend(&walked.new);
        } else {
            // What is asked for by name passes every filter, unless it is known.
            for id in &wanted.commits {
                if let Some(number) = numbers.of(id)?.filter(|number| walked.new.contains(*number)) {
                    found.insert(number);
                }
            }
        }
        let ends = Ends {
            roots: &walked.new_roots,
            wanted: &wanted.trees,
            boundary: &walked.boundary_roots,
            known: &known_tips.trees,
            known_blobs: &known_tips.blobs,
            levels_max: search.levels_max,
            told: false,
            relate: match effort {
                Effort::Enough => Relate::None,
                Effort::Exact if walked.boundary_roots.is_empty() && known_tips.trees.is_empty() => Relate::Apart,
                Effort::Exact => Relate::All,
            },
        };
        let mut trees = Trees::new(&mut numbers, filter, Marks::default(), found.len(), &mut absent, pulse);
        trees.find(&ends, effort)?;
        if effort == Effort::Enough && missing != Missing::Passed {
            // That a blob is there says nothing of what lies behind something else of this name.
            let mut others = found.clone();
            others.extend(&held);
            wanted.blobs.iter().chain(&known_tips.blobs).for_each(|blob| others.remove(*blob));
            if let Some(number) = trees.mistaken_blob(&others) {
                let cause = anyhow::anyhow!("it is called something else too");
                return Err(Broken::bad("blob", numbers.id(number), cause));
            }
            if search.blobs_are {
                trees.check_blobs()?;
            }
        }
        let (mut held_blobs, firsts) = (trees.take_held_blobs(), trees.take_firsts());
        if !filter.leaves_blobs() {
            held_blobs.clear();
        }
        let (contents, held_trees, relatives) = trees.into_marks();
        held.extend(&held_trees);
        found.extend(&contents);
        // Wanted tags and blobs may turn out to be known only now.
        found.subtract(&held);
        numbers.remove(&mut found, &held_blobs);
        if !filter.is_all() {
            // Who uses a filter may lack trees and blobs that it has left out: those it asks for by name it gets (FI-03).
            let known: HashSet<&ObjectId> = known.iter().collect();
            for want in wants.iter().filter(|want| !known.contains(want)) {
                let Some(number) = numbers.of(want)? else { continue };
                if matches!(kind(&numbers, number, None)?, Kind::Tree | Kind::Blob) {
                    found.insert(number);
                }
            }
        }
        absent.check(objects, pulse)?;
        Ok(Closure { numbers, found, held, held_blobs, relatives, firsts })
    }

    /// The same where nothing is known and the repository has bitmaps; `None`: they are of no use.
    fn find_stored(objects: &'a Objects, search: &Search<'_>, pulse: &mut dyn Pulse) -> Result<Option<Self>> {
        let Search { wants, filter, missing, peeled, .. } = *search;
        // Who asks for trees and blobs wants few of them. Bitmaps are read from end to end before they are believed.
        let content = |header: Header| matches!(header.kind, Kind::Tree | Kind::Blob);
        let Some(first) = wants.first() else { return Ok(None) };
        if objects.header(first)?.is_none_or(content) {
            return Ok(None);
        }
        let Some(stored) = objects.bitmaps(u64::MAX)? else { return Ok(None) };
        let mut numbers = Numbers::new(objects);
        numbers.begin_with(&stored)?;
        let (mut found, mut absent, mut buffer) = (Marks::default(), Absent::new(missing), Vec::new());
        let mut wanted = Tips { waiting: Waiting::of(&stored, filter), ..Tips::default() };
        wanted.add_all(wants, &mut numbers, &mut found, &mut buffer)?;
        let mut waiting = wanted.waiting.take();
        if let Some(few) = waiting.take_if(|waiting| waiting.are_few()) {
            wanted.add_all(&few.tags, &mut numbers, &mut found, &mut buffer)?;
        }
        let (mut told, mut before) = (Bits::none(stored.bitmaps.objects()), Marks::default());
        let (mut firsts, mut relatives) = (Firsts::default(), Vec::new());
        loop {
            let reached = stored::reach(&mut numbers, &stored, &wanted, told, &before, usize::MAX, pulse)?;
            let Some(Reached { told: now_told, found: mut held, roots, edges }) = reached else { return Ok(None) };
            told = now_told;
            let mut passing = held.clone();
            let Some(left_out) = stored::leave_out(&numbers, &stored, filter, &mut passing)? else { return Ok(None) };
            found.extend(&passing);
            // What bitmaps tell is not walked again, whether it passes or not.
            held.extend(&before);
            let mut trees = Trees::new(&mut numbers, filter, held, found.len(), &mut absent, pulse);
            let ends = Ends {
                roots: &roots,
                wanted: &wanted.trees,
                boundary: &edges,
                told: true,
                relate: Relate::Apart,
                ..Ends::default()
            };
            trees.find(&ends, Effort::Enough)?;
            firsts.extend(&trees.take_firsts());
            let (contents, _, mut related) = trees.into_marks();
            relatives.append(&mut related);
            found.extend(&contents);
            wanted.trees.iter().for_each(|tree| {
                found.insert(*tree);
            });
            let tags = waiting.as_mut().map(|waiting| waiting.next(&mut numbers, &found, &left_out, peeled));
            let Some(tags) = tags.transpose()?.flatten() else { break };
            wanted = Tips::default();
            wanted.add_all(&tags, &mut numbers, &mut found, &mut buffer)?;
            before.extend(&found);
        }
        if let Some(waiting) = waiting {
            // Read or not, they are wanted.
            found.extend(waiting.marks());
        }
        if !are_sound(objects, &stored) {
            return Ok(None);
        }
        let (held, held_blobs) = Default::default();
        Ok(Some(Closure { numbers, found, held, held_blobs, relatives, firsts }))
    }

    /// The same where much lies between known and wanted commits, which `walk` has found; all of it is told exactly.
    fn find_stored_between(
        objects: &'a Objects,
        search: &Search<'_>,
        walk: &mut CommitWalk<'_>,
        pulse: &mut dyn Pulse,
    ) -> Result<Option<Self>> {
        let Search { wants, known, filter, missing, .. } = *search;
        let worth = STORED_BYTES_EACH.saturating_mul(walk.reachable.len() as u64);
        let Some(stored) = objects.bitmaps(worth)? else { return Ok(None) };
        let mut numbers = Numbers::new(objects);
        numbers.begin_with(&stored)?;
        let mut buffer = Vec::new();
        let (mut held, mut known_tips) = (Marks::default(), Tips::default());
        known_tips.add_known(known, &mut numbers, &mut held, &mut buffer)?;
        let none = Bits::none(stored.bitmaps.objects());
        // Where more of what is known has no bitmap than there is of what is new, trees are walked sooner.
        let most = walk.reachable.len();
        let reached = match stored::reach(&mut numbers, &stored, &known_tips, none, &Marks::default(), most, pulse) {
            Ok(Some(reached)) => reached,
            // Or there is damage: the walk over trees copes with that.
            Ok(None) => return Ok(None),
            Err(error) => return if error.is::<Broken>() { Ok(None) } else { Err(error) },
        };
        held.extend(&reached.found);
        let mut passed = Absent::new(Missing::Passed);
        let mut trees = Trees::new(&mut numbers, filter, reached.found, 0, &mut passed, pulse);
        let ends = Ends {
            roots: &reached.roots,
            wanted: &known_tips.trees,
            boundary: &reached.edges,
            told: true,
            ..Ends::default()
        };
        match trees.find(&ends, Effort::Enough) {
            Err(error) if error.is::<Broken>() => return Ok(None),
            found => found?,
        }
        held.extend(&trees.into_marks().0);
        let (mut found, mut wanted) = (Marks::default(), Tips::default());
        wanted.add_all(wants, &mut numbers, &mut found, &mut buffer)?;
        let reached =
            stored::reach(&mut numbers, &stored, &wanted, reached.told, &Marks::default(), usize::MAX, pulse)?;
        let Some(reached) = reached else { return Ok(None) };
        found.extend(&reached.found);
        let mut there = held.clone();
        there.extend(&reached.found);
        let mut absent = Absent::new(missing);
        let mut trees = Trees::new(&mut numbers, filter, there, found.len(), &mut absent, pulse);
        let ends = Ends {
            roots: &reached.roots,
            wanted: &wanted.trees,
            boundary: &reached.edges,
            told: true,
            relate: Relate::All,
            ..Ends::default()
        };
        trees.find(&ends, Effort::Enough)?;
        let (contents, _, mut relatives) = trees.into_marks();
        found.extend(&contents);
        wanted.trees.iter().for_each(|tree| {
            found.insert(*tree);
        });
        found.subtract(&held);
        absent.check(objects, pulse)?;
        if !are_sound(objects, &stored) {
            return Ok(None);
        }
        let largest = COMPARED_BYTES.max(COMPARED_BYTES_EACH.saturating_mul(found.len()));
        relatives.append(&mut newest_relatives(&mut numbers, walk, &wanted.commits, largest, pulse)?);
        let (held_blobs, firsts) = Default::default();
        Ok(Some(Closure { numbers, found, held, held_blobs, relatives, firsts }))
    }

    /// Adds annotated tags that lead to found objects: each of `tags` is a tag and what it peels to. Tags on the way are added too;
    /// a tag that is not there is passed over.
    ///
    /// # Errors
    /// When a tag cannot be read.
    pub fn add_tags(&mut self, tags: &[(ObjectId, ObjectId)]) -> Result<()> {
        let mut buffer = Vec::new();
        // Few objects are named sooner than many names are looked up.
        let few = self.found.len() < tags.len() as u64;
        let named: IdSet =
            if few { self.found.iter().map(|number| self.numbers.read_id(number)).collect() } else { IdSet::default() };
        for (tag, peeled) in tags {
            if few && !named.contains(peeled) {
                continue;
            }
            match self.numbers.of(peeled)? {
                Some(number) if self.found.contains(number) => {}
                _ => continue,
            }
            if self.numbers.of(tag)?.is_none() {
                continue;
            }
            let mut next = tag.to_owned();
            while next != *peeled {
                let number = self.numbers.of(&next)?.ok_or_else(|| Broken::missing("tag", &next))?;
                if !self.found.insert(number) {
                    break;
                }
                next = tag_target(&self.numbers, number, &mut buffer)?.0;
            }
        }
        Ok(())
    }
}

impl Tips {
    /// Whether a tag is put off.
    fn waits(&mut self, id: &oid, number: u32) -> bool {
        self.waiting.as_mut().is_some_and(|waiting| waiting.add(id, number))
    }

    /// Adds wanted objects; tags are marked and followed.
    fn add_all(
        &mut self,
        ids: &[ObjectId],
        numbers: &mut Numbers<'_>,
        found: &mut Marks,
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        ids.iter().try_for_each(|id| self.add(id, numbers, found, buffer))
    }

    /// Adds known objects; one that is missing, or a tag that leads nowhere, is passed over.
    fn add_known(
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

    /// Commits and trees are collected, since much lies behind them; tags and blobs are marked.
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
                Kind::Tag if expected.is_none() && self.waits(&next, number) => {}
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

/// Compares the trees of wanted commits with those at the boundary, none of more than `largest` bytes: what the client has is mostly
/// another version of what is new. What lies in between rests on the newest, as it is stored. Damage is not this one's business.
fn newest_relatives(
    numbers: &mut Numbers<'_>,
    walk: &mut CommitWalk<'_>,
    wants: &[ObjectId],
    largest: u64,
    pulse: &mut dyn Pulse,
) -> Result<Vec<(u32, u32)>> {
    let wanted: Vec<u32> = wants.iter().take(COMPARED_MAX).map(|id| walk.commits.number(id)).collect();
    let mut roots_of = |commits: &[u32]| -> Result<Vec<u32>> {
        let mut roots = Vec::new();
        for commit in commits.iter().take(COMPARED_MAX) {
            if let Ok(tree) = walk.commits.tree(*commit) {
                roots.extend(numbers.of(&tree)?);
            }
        }
        roots.sort_unstable();
        roots.dedup();
        Ok(roots)
    };
    let (roots, boundary) = (roots_of(&wanted)?, roots_of(&walk.boundary)?);
    let (all, mut passed) = (Filter::default(), Absent::new(Missing::Passed));
    let mut trees = Trees::new(numbers, &all, Marks::default(), 0, &mut passed, pulse);
    match trees.compare(&Ends { roots: &roots, boundary: &boundary, ..Ends::default() }, largest) {
        Err(error) if !error.is::<Broken>() => Err(error),
        _ => Ok(trees.into_marks().2),
    }
}

/// Whether bitmaps are to be believed.
fn are_sound(objects: &Objects, stored: &Stored) -> bool {
    let check = stored.bitmaps.check();
    check.as_ref().err().inspect(|error| objects.distrust(stored, error)).is_none()
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Commit => "commit",
        Kind::Tree => "tree",
        Kind::Blob => "blob",
        Kind::Tag => "tag",
    }
}

/// The kind of an object; a commit in the commit-graph is not looked at, unless it is likely to be something else.
fn kind(numbers: &Numbers<'_>, number: u32, likely: Option<Kind>) -> Result<Kind> {
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

/// What a tag points to, and as what.
fn tag_target(numbers: &Numbers<'_>, number: u32, buffer: &mut Vec<u8>) -> Result<(ObjectId, Kind)> {
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

#[cfg(test)]
mod tests;

//! Closure: what is reachable from some objects and not from others.
//!
//! In: IDs of wanted and of known objects. Out: sets of object numbers. Trees are read path by path, and each new tree
//! at most once, or once per path where paths matter. Blobs are looked up but never read, gitlinks are skipped, and
//! objects that a filter leaves out are not even looked up.

mod bitmap_walk;
mod by_bitmaps;
mod deep;
mod deferred_tags;
mod filter;
mod history;
mod numbers;
mod order;
mod readers;
mod sparse;
mod tips;
mod tree;
mod trees;

pub use filter::Filter;
pub use numbers::{Firsts, Marks, Numbers};
pub use sparse::Patterns;
pub(super) use tree::{EntryKind, Tree};
pub use trees::{TooDeep, TooManyPaths};

use crate::odb::ids::{IdMap, IdSet};
use crate::odb::walk::CommitWalk;
use crate::odb::{Objects, promised};
use crate::stream::Pulse;
use anyhow::Result;
use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use history::History;
use std::collections::HashSet;
use std::fmt;
use tips::Tips;
use trees::{Ends, Relate, Trees};

/// How far known objects are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// As far as it is free: the result is complete, but may contain known objects too.
    Enough,
    /// Through the known trees of boundary commits at the same paths as new trees, and through a few others.
    Exact,
}

/// The parameters of a closure.
#[derive(Debug, Clone)]
pub struct Search<'a> {
    /// IDs of objects of any kind.
    pub wants: &'a [ObjectId],
    /// IDs of objects to exclude, with everything reachable from them. Missing objects among these are ignored.
    pub known: &'a [ObjectId],
    /// How far known objects are followed.
    pub effort: Effort,
    /// Which other objects are left out.
    pub filter: &'a Filter,
    /// Which trees and blobs may be missing.
    pub missing: Missing,
    /// How many levels of new trees may be nested below a commit; `None` for no limit.
    pub levels_max: Option<u64>,
    /// The tags whose peeled object is known, with that object. This decides which tags are read first, and with a
    /// filter, which are read at all.
    pub peeled: &'a [(ObjectId, ObjectId)],
}

/// Which trees and blobs may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Missing {
    /// None.
    #[default]
    Refused,
    /// Those that a promisor pack refers to, as in a partial clone.
    Promised,
    /// All: the caller only wants what can be reached.
    Passed,
}

/// Collects trees and blobs that are missing.
struct Absent {
    missing: Missing,
    /// Missing objects that may turn out to be promised, with their kinds.
    met: IdMap<&'static str>,
}

impl Absent {
    /// At most this many are remembered; one more is an error at once.
    const MOST: usize = 1 << 20;

    fn new(missing: Missing) -> Self {
        Absent { missing, met: IdMap::default() }
    }

    /// Accepts a missing object, or remembers it for [`Absent::check`].
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

    /// Succeeds if all remembered objects are promised.
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
    /// The object's ID.
    pub id: ObjectId,
    /// The expected kind: `commit`, `tree`, `blob`, `tag` or `object`.
    pub kind: &'static str,
    /// Why it could not be read; `None` when it is missing.
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

/// The result of a search.
pub struct Closure<'a> {
    /// Translates between numbers and IDs.
    pub numbers: Numbers<'a>,
    /// Everything reachable from the wanted objects and not from the known ones.
    pub found: Marks,
    /// Known objects that the walk met, as far as a client that uses the filter has them.
    pub held: Marks,
    /// IDs of known blobs, with the same restrictions; they are not looked up.
    pub held_blobs: IdSet,
    /// Pairs of an object and another version of it, at the same path in a neighbouring commit. The first pair of an
    /// object counts.
    pub relatives: Vec<(u32, u32)>,
    /// If nothing is known: which objects are versions of the same file or directory.
    pub firsts: Firsts,
}

/// The commits between known and wanted ones.
struct Between<'a> {
    wanted: Tips,
    known: Tips,
    /// Wanted tags and blobs, and the tags that wanted tags lead to.
    found: Marks,
    /// The same for known objects.
    held: Marks,
    walk: CommitWalk<'a>,
}

impl<'a> Between<'a> {
    /// Walks commits, with [`Effort::Enough`] no further than necessary.
    fn find(numbers: &mut Numbers<'a>, search: &Search<'_>, pulse: &mut dyn Pulse) -> Result<Self> {
        let Search { wants, known: known_ids, effort, .. } = *search;
        let objects = numbers.objects();
        let (mut found, mut held, mut buffer) = (Marks::default(), Marks::default(), Vec::new());
        let mut known = Tips::default();
        if effort == Effort::Enough {
            let mut wanted = Tips::default();
            wanted.add_all(wants, numbers, &mut found, &mut buffer)?;
            if let Some(walk) = history::near(objects, &wanted.commits, known_ids, pulse)? {
                return Ok(Between { wanted, known, found, held, walk });
            }
            found = Marks::default();
        }
        known.add_known(known_ids, numbers, &mut held, &mut buffer)?;
        let mut wanted = Tips::default();
        wanted.add_all(wants, numbers, &mut found, &mut buffer)?;
        let walk = history::between(objects, &wanted.commits, &known.commits, pulse)?;
        Ok(Between { wanted, known, found, held, walk })
    }
}

impl<'a> Closure<'a> {
    /// Finds everything reachable from the wanted objects and not from the known ones.
    ///
    /// # Errors
    /// [`Broken`] when a wanted object is missing or corrupt, [`TooDeep`] when new trees are nested too deeply; any
    /// other error when the client has gone or an index cannot be read.
    pub fn find(objects: &'a Objects, search: &Search<'_>, pulse: &mut dyn Pulse) -> Result<Self> {
        let Search { known, effort, filter, missing, .. } = *search;
        // Bitmaps do not show whether every object exists, which is usually the point of a search with less effort.
        let may_use_bitmaps = match missing {
            Missing::Refused => effort == Effort::Exact,
            Missing::Promised => false,
            Missing::Passed => true,
        };
        if known.is_empty()
            && may_use_bitmaps
            && filter.is_by_kind()
            && let Some(closure) = Self::find_by_bitmaps(objects, search, pulse)?
        {
            return Ok(closure);
        }
        let mut numbers = Numbers::new(objects);
        let mut between = Between::find(&mut numbers, search, pulse)?;
        if effort == Effort::Exact
            && missing != Missing::Promised
            && filter.is_all()
            && let Some(closure) = Self::between_by_bitmaps(objects, search, &mut between.walk, pulse)?
        {
            return Ok(closure);
        }
        Self::find_below(numbers, between, search, pulse)
    }

    /// Walks the trees of the commits in between.
    fn find_below(
        mut numbers: Numbers<'a>,
        between: Between<'a>,
        search: &Search<'_>,
        pulse: &mut dyn Pulse,
    ) -> Result<Self> {
        let Search { effort, filter, missing, .. } = *search;
        let Between { wanted, known, mut found, mut held, walk } = between;
        let mut absent = Absent::new(missing);
        let walked = History::new(&mut numbers, walk, filter.reaches(0), &mut absent)?;
        held.extend(&walked.boundary);
        if filter.commits() {
            found.extend(&walked.new);
        } else {
            // An object wanted by name passes every filter, unless it is known.
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
            known: &known.trees,
            known_blobs: &known.blobs,
            levels_max: search.levels_max,
            is_closed: false,
            relate: match effort {
                Effort::Enough => Relate::None,
                Effort::Exact if walked.boundary_roots.is_empty() && known.trees.is_empty() => Relate::Apart,
                Effort::Exact => Relate::All,
            },
        };
        let mut trees = Trees::new(&mut numbers, filter, Marks::default(), found.len(), &mut absent, pulse);
        trees.find(&ends, effort)?;
        if effort == Effort::Enough && missing != Missing::Passed {
            // That a blob exists says nothing about what is reachable from it if the same ID is used as another kind
            // elsewhere.
            let mut others = found.clone();
            others.extend(&held);
            wanted.blobs.iter().chain(&known.blobs).for_each(|blob| others.remove(*blob));
            trees.check_called(&others)?;
            trees.check_blobs()?;
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
        let mut closure = Closure { numbers, found, held, held_blobs, relatives, firsts };
        if !filter.is_all() {
            closure.add_named(search)?;
        }
        absent.check(closure.numbers.objects(), pulse)?;
        Ok(closure)
    }

    /// Adds trees and blobs wanted by name: a client that uses a filter may lack objects reachable from its haves
    /// (FI-03).
    fn add_named(&mut self, search: &Search<'_>) -> Result<()> {
        let known: HashSet<&ObjectId> = search.known.iter().collect();
        for want in search.wants.iter().filter(|want| !known.contains(want)) {
            let Some(number) = self.numbers.of(want)? else { continue };
            if matches!(tips::kind(&self.numbers, number, None)?, Kind::Tree | Kind::Blob) {
                self.found.insert(number);
            }
        }
        Ok(())
    }

    /// Adds annotated tags that lead to found objects. Each of `tags` is a tag and the object it peels to. Tags in
    /// between are added too; a missing tag is ignored.
    ///
    /// # Errors
    /// When a tag cannot be read.
    pub fn add_tags(&mut self, tags: &[(ObjectId, ObjectId)]) -> Result<()> {
        let mut buffer = Vec::new();
        // Listing the IDs of a few objects is cheaper than looking up many.
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
                next = tips::tag_target(&self.numbers, number, &mut buffer)?.0;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! Opens the same database in other threads.
//!
//! In: a database. Out: a description from which each thread opens its own instance. Packs that were open are shared
//! and keep their numbers.

use super::directory::Register;
use super::{Objects, Pack, PackId};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// A description of a database that can be sent to threads. In each instance opened from it, packs have the same
/// numbers, and those that were open are shared.
#[derive(Clone)]
pub struct Opener {
    hash: gix_hash::Kind,
    packs: Vec<(PathBuf, Option<Arc<Pack>>)>,
    given: Vec<PathBuf>,
    borrowed: Vec<PathBuf>,
    object_limit: u64,
}

/// The maximum number of threads: one of them merges what the others find.
const THREADS_MAX: usize = 8;

/// How many threads to use for work that can be shared: as many as wanted (`pack.threads`), or one per processor if
/// that is 0, but at most eight.
pub fn threads(wanted: usize) -> usize {
    // The system's answer is parsed from several files, and one request asks more than once.
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    let processors = || *PROCESSORS.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from));
    let wanted = if wanted == 0 { processors() } else { wanted };
    wanted.min(THREADS_MAX)
}

impl Opener {
    /// Whether a pack is open already, and so can be read even after its file is deleted.
    pub(super) fn has_open(&self, pack: PackId) -> bool {
        self.packs.get(pack.0 as usize).is_some_and(|(_, pack)| pack.is_some())
    }

    /// Opens the database like [`Objects::new`], without any cut in its history.
    pub fn open(&self) -> Objects {
        let mut objects = Objects::of(Register::knowing(self.hash, &self.packs), &self.given);
        objects.set_borrowed(self.borrowed.clone());
        objects.set_object_limit(self.object_limit);
        objects
    }
}

impl Objects {
    /// Describes this database, so that another thread can open it.
    pub fn opener(&self) -> Opener {
        Opener {
            hash: self.hash_kind(),
            packs: self.shared.register.packs(),
            given: self.given.iter().map(|directory| directory.path.clone()).collect(),
            borrowed: self.borrowed.clone(),
            object_limit: self.object_limit,
        }
    }
}

//! The same database in other threads.
//!
//! In: a database. Out: what each thread opens its own of. Packs that were open are shared, and have the same numbers.

use super::directory::Register;
use super::{Objects, Pack, PackId};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// What a database is made of. Threads can have it; each opens its own, in which packs have the same numbers. Those that are open
/// are shared.
#[derive(Clone)]
pub struct Opener {
    hash: gix_hash::Kind,
    packs: Vec<(PathBuf, Option<Arc<Pack>>)>,
    given: Vec<PathBuf>,
    borrowed: Vec<PathBuf>,
    object_limit: u64,
}

/// Threads never help beyond this many: one of them puts together what the others find out.
const THREADS_MAX: usize = 8;

/// How many threads share what can be shared out: as many as are wanted (`pack.threads`), or one for each processor where that is
/// 0; eight at most.
pub fn threads(wanted: usize) -> usize {
    // What the system allows is read out of several files; one request asks more than once.
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    let processors = || *PROCESSORS.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from));
    let wanted = if wanted == 0 { processors() } else { wanted };
    wanted.min(THREADS_MAX)
}

impl Opener {
    /// Whether a pack is open already: then it can be read even when its file is gone.
    pub(super) fn has_open(&self, pack: PackId) -> bool {
        self.packs.get(pack.0 as usize).is_some_and(|(_, pack)| pack.is_some())
    }

    /// The database, as [`Objects::new`] opens it. Nobody's history is cut there.
    pub fn open(&self) -> Objects {
        let mut objects = Objects::of(Register::knowing(self.hash, &self.packs), &self.given);
        objects.set_borrowed(self.borrowed.clone());
        objects.set_object_limit(self.object_limit);
        objects
    }
}

impl Objects {
    /// What it takes to open the same database again, in another thread.
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

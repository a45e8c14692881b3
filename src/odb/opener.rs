//! The same database in other threads.
//!
//! In: a database. Out: what each thread opens its own of. Packs that were open are shared, and have the same numbers.

use super::directory::Register;
use super::{Objects, Pack};
use std::path::PathBuf;
use std::sync::Arc;

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

impl Opener {
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

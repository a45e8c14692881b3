//! Quarantine: where pushed objects wait.
//!
//! In: a repository. Out: a directory that looks like an object database with the repository behind it.
//! Nothing in it is visible to other requests until [`Quarantine::migrate`]; dropping it leaves no trace.

use super::Repository;
use crate::odb::Objects;
use crate::protocol::report::Refusal;
use std::path::Path;

/// A directory `objects/tmp_objdir-incoming-XXXXXX` (QU-01), removed when dropped.
pub struct Quarantine {
    _private: (),
}

impl Quarantine {
    /// Makes the directory and its `pack/`.
    ///
    /// # Errors
    /// `unable to start object transaction` (QU-02).
    pub fn open(repository: &Repository) -> Result<Self, Refusal> {
        let _ = repository;
        unimplemented!()
    }

    /// The object directory of the quarantine (absolute).
    pub fn path(&self) -> &Path {
        unimplemented!()
    }

    /// The quarantined objects with the repository's behind them.
    pub fn objects(&self) -> &Objects {
        unimplemented!()
    }

    /// What a hook needs to see the quarantined objects (QU-03, QU-04).
    pub fn environment(&self) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
        unimplemented!()
    }

    /// Moves every object into the repository: loose ones first, then .keep, .pack, .rev, .idx; files, then directories, synced.
    ///
    /// # Errors
    /// `unable to migrate objects to permanent storage` (QU-08).
    pub fn migrate(self) -> Result<(), Refusal> {
        unimplemented!()
    }
}

//! Locks of git's beside files: whoever makes `<file>.lock` has it.
//!
//! In: the lock's path. Out: the lock, held until it is dropped, or that somebody else has it. One that a dead process of this program
//! has left is taken over.

use crate::durable::{self, Sharing};
use crate::journal::Journal;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

/// A lock that is held.
#[derive(Debug)]
pub struct Lock(PathBuf);

impl Lock {
    /// Makes the file at `path`, waiting so long for somebody who has it. `None`: he has it still.
    ///
    /// # Errors
    /// As `open(2)`.
    pub fn acquire(journal: &Journal, path: PathBuf, timeout: Duration, sharing: Sharing) -> io::Result<Option<Self>> {
        let start = Instant::now();
        loop {
            match journal.lock(&path, sharing) {
                Ok(_) => return Ok(Some(Lock(path))),
                // A dead process of ours may have it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && journal.sweep() => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && start.elapsed() < timeout => {
                    std::thread::sleep(PAUSE);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // One that stays is in the journal.
        let _ = durable::unlink(&self.0);
    }
}

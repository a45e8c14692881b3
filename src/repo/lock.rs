//! git's locks beside files: the process that creates `<file>.lock` holds the lock.
//!
//! In: the lock's path. Out: the lock, held until it is dropped, or nothing if another process holds it. A lock that a
//! dead process of this program left is taken over; git's own never is.

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
    /// Creates the file at `path`, waiting up to `timeout` while another process holds it. `None` if it is still held
    /// then.
    ///
    /// # Errors
    /// As `open(2)`.
    pub fn acquire(journal: &Journal, path: PathBuf, timeout: Duration, sharing: Sharing) -> io::Result<Option<Self>> {
        let start = Instant::now();
        loop {
            match journal.lock(&path, sharing) {
                Ok(_) => return Ok(Some(Lock(path))),
                // A dead process of this program may hold it.
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
        // If it cannot be removed, the journal still names it.
        let _ = durable::unlink(&self.0);
    }
}

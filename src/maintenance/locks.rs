//! Locks against other maintenance of a repository, including C git's.
//!
//! In: a repository. Out: git's two locks, `objects/maintenance.lock` and `gc.pid`, or who holds one of them. A lock
//! left by a dead process of this program is taken over; so is, as in git, the `gc.pid` of any dead process of this
//! machine, and any `gc.pid` that is older than 12 hours. Nothing waits for a lock.

use crate::durable;
use crate::journal::Leftover;
use crate::repo::Repository;
use crate::repo::lock::Lock;
use anyhow::Context as _;
use rustix::process::{Pid, test_kill_process};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// git assumes that no gc takes longer than this.
const GC_SECONDS_MAX: u64 = 12 * 3600;
/// How many bytes of a `gc.pid` are read.
const PID_BYTES_MAX: u64 = 1024;

/// Both locks, held until this is dropped.
pub(super) struct Locks {
    _gc: GcPid,
    _maintenance: Lock,
}

/// Takes both locks. The inner `Err` says who holds one of them.
pub(super) fn acquire(repository: &Repository, objects: &Path) -> anyhow::Result<Result<Locks, String>> {
    let (journal, sharing) = (repository.refs.journal(), repository.settings.sharing);
    let path = objects.join("maintenance.lock");
    let lock = Lock::acquire(journal, path.clone(), Duration::ZERO, sharing);
    let Some(maintenance) = lock.with_context(|| format!("cannot lock '{}'", path.display()))? else {
        return Ok(Err(format!("'{}' is held: maintenance is under way", path.display())));
    };
    match GcPid::acquire(repository).context("cannot lock gc.pid")? {
        Ok(gc) => Ok(Ok(Locks { _gc: gc, _maintenance: maintenance })),
        Err(who) => Ok(Err(who)),
    }
}

/// The file by which `git gc` notices that it is not alone.
struct GcPid {
    path: PathBuf,
    content: String,
}

impl GcPid {
    fn acquire(repository: &Repository) -> io::Result<Result<Self, String>> {
        let (journal, sharing) = (repository.refs.journal(), repository.settings.sharing);
        let path = repository.common_dir.join("gc.pid");
        let Some(_lock) = Lock::acquire(journal, path.with_extension("pid.lock"), Duration::ZERO, sharing)? else {
            return Ok(Err("gc is beginning".into()));
        };
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        if let Some(who) = running(&path, &host, repository.context.now)? {
            return Ok(Err(who));
        }
        let content = format!("{} {host}", std::process::id());
        journal.note(Leftover::File(&path, content.as_bytes()), sharing);
        let (fresh, mut file) = journal.temporary(sharing)?;
        let written = durable::write_all(&mut file, content.as_bytes()).and_then(|()| durable::rename(&fresh, &path));
        if written.is_err() {
            // If it cannot be removed, the journal has it.
            let _ = durable::unlink(&fresh);
        }
        written.map(|()| Ok(GcPid { path, content }))
    }
}

impl Drop for GcPid {
    fn drop(&mut self) {
        if fs::read(&self.path).is_ok_and(|found| found == self.content.as_bytes()) {
            // A leftover file names a dead process.
            let _ = durable::unlink(&self.path);
        }
    }
}

/// The process that `gc.pid` names, if it may be alive.
fn running(path: &Path, host: &str, now: u64) -> io::Result<Option<String>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let begun = u64::try_from(file.metadata()?.mtime()).unwrap_or(0);
    let mut text = String::new();
    if now.saturating_sub(begun) > GC_SECONDS_MAX || file.take(PID_BYTES_MAX).read_to_string(&mut text).is_err() {
        return Ok(None);
    }
    let mut words = text.split_ascii_whitespace();
    let (Some(Ok(pid)), Some(machine)) = (words.next().map(str::parse::<i32>), words.next()) else { return Ok(None) };
    let may_live = |pid: i32| {
        let pid = Pid::from_raw(pid).filter(|_| pid > 0);
        pid.is_some_and(|pid| test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
    };
    // Nothing is known about processes of other machines.
    let lives = machine != host || may_live(pid);
    Ok(lives.then(|| format!("gc is already running on machine '{machine}' pid {pid}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gc_pid_that_somebody_else_has_written_meanwhile_stays() {
        let path = std::env::temp_dir().join(durable::unique("gc-pid-"));
        for (found, stays) in [("1 here", false), ("2 here", true)] {
            fs::write(&path, found).unwrap();
            drop(GcPid { path: path.clone(), content: "1 here".into() });
            assert_eq!(path.exists(), stays, "{found}");
        }
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_gc_counts_as_long_as_it_may_live() {
        let path = std::env::temp_dir().join(durable::unique("gc-pid-"));
        let check = |content: &str, later: u64, expected: bool| {
            fs::write(&path, content).unwrap();
            let begun = u64::try_from(fs::metadata(&path).unwrap().mtime()).unwrap();
            assert_eq!(running(&path, "here", begun + later).unwrap().is_some(), expected, "{content:?} {later}");
        };
        let own = std::process::id();
        check(&format!("{own} here"), 0, true);
        check(&format!("{own} here\n"), GC_SECONDS_MAX, true);
        check(&format!("{own} here"), GC_SECONDS_MAX + 1, false);
        check(&format!("{} here", i32::MAX), 0, false);
        check(&format!("{} elsewhere", i32::MAX), 0, true);
        check("0 here", 0, false);
        check("nonsense", 0, false);
        check("", 0, false);
        fs::remove_file(&path).unwrap();
        assert_eq!(running(&path, "here", 0).unwrap(), None);
    }
}

//! Crash tests: the N-th operation fails or ends the process, for every N; and a record of all operations in order.
//!
//! In: a plan, made by a test or by a process's environment. Out: the errors asked for, and a record of all operations.
//! It exists only in builds with the feature `failpoints`.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What happens when the N-th operation is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It fails, and later ones work, so that tests can observe the cleaning up.
    Fail(io::ErrorKind),
    /// As `Fail`, with an error number of the operating system.
    FailAs(i32),
    /// It fails, and so does every later one: the disk is left as by a killed process.
    FailFromHere(io::ErrorKind),
    /// The process is killed; half of a write is done.
    Kill,
}

/// An operation that was attempted.
#[derive(Debug, Clone)]
pub struct Operation {
    /// `create`, `write`, `rename` …
    pub name: &'static str,
    /// The file it was done to, or the new name; relative to the plan's directory.
    pub path: PathBuf,
    /// The file that was renamed or linked; else the same as `path`.
    pub from: PathBuf,
    /// The bytes that were written.
    pub bytes: Vec<u8>,
    /// The offset at which they were written; `None` means appended.
    pub at: Option<u64>,
}

struct Plan {
    serial: u64,
    below: PathBuf,
    left: Option<(u64, Action)>,
    seen: Vec<Operation>,
    log: Option<File>,
    keeps_order: bool,
}

struct Plans {
    next: u64,
    plans: Vec<Plan>,
}

static PLANS: Mutex<Plans> = Mutex::new(Plans { next: 0, plans: Vec::new() });

fn plans() -> MutexGuard<'static, Plans> {
    PLANS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A plan in force; dropping it ends it.
#[derive(Debug)]
pub struct Armed {
    serial: u64,
}

impl Armed {
    /// The operations so far.
    pub fn operations(&self) -> Vec<Operation> {
        plans().plans.iter().find(|plan| plan.serial == self.serial).map_or_else(Vec::new, |plan| plan.seen.clone())
    }

    /// Makes the file system count as one that keeps the order of changes to names.
    #[must_use]
    pub fn keeping_order(self) -> Self {
        plans().plans.iter_mut().filter(|plan| plan.serial == self.serial).for_each(|plan| plan.keeps_order = true);
        self
    }

    /// The operations so far, as `name path`.
    pub fn seen(&self) -> Vec<String> {
        self.operations().iter().map(|seen| format!("{} {}", seen.name, seen.path.display())).collect()
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        plans().plans.retain(|plan| plan.serial != self.serial);
    }
}

/// Makes operation number `n`, counted from 0, on paths below the directory `below` (`/` for all) do `action`.
pub fn arm(below: &Path, n: u64, action: Action) -> Armed {
    begin(below, Some((n, action)), None)
}

/// Only records the operations below a directory.
pub fn record(below: &Path) -> Armed {
    begin(below, None, None)
}

/// A plan for a whole process: `point` is `N kill`, `N enospc` or `N eio`; `log` is a file that gets a line for each
/// operation.
///
/// # Panics
/// When these cannot be parsed.
pub fn arm_process(point: Option<&str>, log: Option<&Path>) {
    let left = point.map(|point| {
        let (n, action) = point.split_once(' ').expect("a number and an action");
        let action = match action {
            "kill" => Action::Kill,
            "enospc" => Action::FailAs(rustix::io::Errno::NOSPC.raw_os_error()),
            "eio" => Action::FailAs(rustix::io::Errno::IO.raw_os_error()),
            other => panic!("no such action: {other}"),
        };
        (n.parse().expect("a number"), action)
    });
    let log = log.map(|path| OpenOptions::new().append(true).create(true).open(path).expect("a log can be written"));
    if left.is_some() || log.is_some() {
        std::mem::forget(begin(Path::new("/"), left, log));
    }
}

fn begin(below: &Path, left: Option<(u64, Action)>, log: Option<File>) -> Armed {
    // Operations are recorded under real paths.
    let below = below.canonicalize().unwrap_or_else(|_| below.to_owned());
    let mut plans = plans();
    let serial = plans.next;
    plans.next += 1;
    plans.plans.push(Plan { serial, below, left, seen: Vec::new(), log, keeps_order: false });
    Armed { serial }
}

/// What the plan for a path, if any, says of its file system, so that the operations are the same on every machine.
pub(super) fn keeps_order(path: &Path) -> Option<bool> {
    let plans = plans();
    if plans.plans.is_empty() {
        return None;
    }
    let path = real(path);
    plans.plans.iter().find(|plan| path.starts_with(&plan.below)).map(|plan| plan.keeps_order)
}

pub(super) fn fail_point(name: &'static str, path: &Path) -> io::Result<()> {
    pass(name, path, path, None)
}

pub(super) fn fail_point_of_two(name: &'static str, from: &Path, to: &Path) -> io::Result<()> {
    pass(name, to, from, None)
}

pub(super) fn fail_point_of_file(name: &'static str, file: &File) -> io::Result<()> {
    let path = path_of(file)?;
    pass(name, &path, &path, None)
}

pub(super) fn fail_point_of_write(file: &File, bytes: &[u8]) -> io::Result<()> {
    let path = path_of(file)?;
    pass("write", &path, &path, Some((file, bytes)))
}

fn path_of(file: &File) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn real(path: &Path) -> PathBuf {
    match (path.parent().map(Path::canonicalize), path.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    }
}

/// Records an operation that is about to be done, and fails if a plan says so.
fn pass(name: &'static str, path: &Path, from: &Path, write: Option<(&File, &[u8])>) -> io::Result<()> {
    let mut plans = plans();
    if plans.plans.is_empty() {
        return Ok(());
    }
    let (path, from) = (real(path), real(from));
    for plan in &mut plans.plans {
        let Ok(inside) = path.strip_prefix(&plan.below) else { continue };
        match &mut plan.log {
            Some(log) => log.write_all(format!("{name} {}\n", path.display()).as_bytes())?,
            None => {
                let (bytes, at) = match write {
                    Some((mut file, bytes)) => {
                        let appends = rustix::fs::fcntl_getfl(file)?.contains(rustix::fs::OFlags::APPEND);
                        (bytes.to_owned(), if appends { None } else { Some(file.stream_position()?) })
                    }
                    None => (Vec::new(), None),
                };
                let from = from.strip_prefix(&plan.below).unwrap_or(&from).to_owned();
                plan.seen.push(Operation { name, path: inside.to_owned(), from, bytes, at });
            }
        }
        let Some((left, action)) = &mut plan.left else { continue };
        if *left > 0 {
            *left -= 1;
            continue;
        }
        match *action {
            Action::Fail(kind) => {
                plan.left = None;
                return Err(kind.into());
            }
            Action::FailAs(number) => {
                plan.left = None;
                return Err(io::Error::from_raw_os_error(number));
            }
            Action::FailFromHere(kind) => return Err(kind.into()),
            Action::Kill => {
                if let Some((mut file, bytes)) = write {
                    file.write_all(&bytes[..bytes.len() / 2])?;
                }
                let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
                std::process::abort()
            }
        }
    }
    Ok(())
}

//! Hooks: programs of the repository's owner that a push runs (githooks).
//!
//! In: a repository and what a hook is to be told. Out: whether it agrees; what it says goes to the sink while it says it.
//! A hook sees the environment the edge allowed it, nothing of the web server's and no credentials.

use super::Repository;
use crate::children::{self, Child, Ended, Output};
use crate::refs::{TransactionHook, TransactionState};
use crate::stream::Sink;
use bstr::{BStr, BString};
use gix_hash::ObjectId;
use rustix::fs::{Access, access};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The hooks there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before anything is visible; sees the quarantine; may refuse everything.
    PreReceive,
    /// For each ref; may refuse it.
    Update,
    /// For each state of a ref transaction; may refuse it.
    ReferenceTransaction,
    /// When all is done, with what was updated on its input.
    PostReceive,
    /// When all is done, with what was updated as its arguments.
    PostUpdate,
}

impl Hook {
    /// The name of its file.
    pub fn name(self) -> &'static str {
        match self {
            Hook::PreReceive => "pre-receive",
            Hook::Update => "update",
            Hook::ReferenceTransaction => "reference-transaction",
            Hook::PostReceive => "post-receive",
            Hook::PostUpdate => "post-update",
        }
    }
}

/// What a hook is told.
pub struct Told<'a> {
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// What is added to its environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Its input, line by line.
    pub lines: &'a mut dyn Iterator<Item = Vec<u8>>,
}

/// What a hook answers.
#[derive(Debug)]
pub enum Answer {
    /// It agrees, or there is none.
    Agreed,
    /// It does not.
    Declined,
    /// It was killed because the time for the request was over.
    Late,
    /// It could not be run at all, which is no agreement (HO-16).
    NotRun(io::Error),
}

impl Answer {
    /// Whether nothing was said against it.
    pub fn agreed(&self) -> bool {
        matches!(self, Answer::Agreed)
    }
}

/// `OLD NEW NAME`, as hooks read it.
pub fn line(old: ObjectId, new: ObjectId, name: &[u8]) -> Vec<u8> {
    let mut line = format!("{old} {new} ").into_bytes();
    line.extend_from_slice(name);
    line.push(b'\n');
    line
}

/// An argument or a value of the environment.
pub fn word(bytes: &[u8]) -> OsString {
    OsStr::from_bytes(bytes).to_owned()
}

/// Whether there is such a hook: a file that may be executed (HO-01). Others are ignored, as by git.
pub fn exists(repository: &Repository, hook: Hook) -> bool {
    let program = program(repository, hook);
    access(repository.git_dir.join(program), Access::EXEC_OK).is_ok()
}

/// Runs a hook in the git directory with `GIT_DIR=.` (HO-03). What it says goes to `sink`, on both outputs.
///
/// # Errors
/// When the sink fails, which ends the hook.
pub fn run(repository: &Repository, hook: Hook, told: Told<'_>, sink: &mut dyn Sink) -> io::Result<Answer> {
    start(repository, hook, told, Some(sink))
}

fn start(repository: &Repository, hook: Hook, told: Told<'_>, sink: Option<&mut dyn Sink>) -> io::Result<Answer> {
    if !exists(repository, hook) {
        return Ok(Answer::Agreed);
    }
    let child = Child {
        program: &program(repository, hook),
        arguments: &told.arguments,
        environment: &environment(repository, told.environment),
        directory: &repository.git_dir,
    };
    let mut watched = sink.map(|sink| Watched { sink, failed: false });
    let output = watched.as_mut().map_or(Output::Stderr, |watched| Output::Sink(watched));
    let ended = children::run(&child, told.lines, output, repository.context.timeout);
    match ended {
        Ok(Ended::Status(0)) => Ok(Answer::Agreed),
        Ok(Ended::Status(_) | Ended::Signal(_)) => Ok(Answer::Declined),
        Ok(Ended::Late) => Ok(Answer::Late),
        Err(error) if watched.is_some_and(|watched| watched.failed) => Err(error),
        Err(error) => Ok(Answer::NotRun(error)),
    }
}

/// Where a hook would be. Below the git directory it has a relative name, which is what its `$0` says then.
fn program(repository: &Repository, hook: Hook) -> PathBuf {
    match &repository.settings.hooks_path {
        Some(path) => match (path.strip_prefix("~"), &repository.context.config.home) {
            (Ok(below), Some(home)) => home.join(below).join(hook.name()),
            _ => path.join(hook.name()),
        },
        None if repository.common_dir == repository.git_dir => Path::new("hooks").join(hook.name()),
        None => repository.common_dir.join("hooks").join(hook.name()),
    }
}

/// Where programs are found when the web server does not say.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

fn environment(repository: &Repository, more: Vec<(OsString, OsString)>) -> Vec<(OsString, OsString)> {
    let given = &repository.context.hook_environment;
    let mut environment = vec![("PATH".into(), PATH.into())];
    environment.extend(given.iter().filter(|(name, _)| name != "GIT_DIR" && name != "GIT_WORK_TREE").cloned());
    environment.push(("GIT_DIR".into(), ".".into()));
    environment.extend(more);
    environment
}

/// A sink that remembers whether it failed: then the hook is not to blame.
struct Watched<'a> {
    sink: &'a mut dyn Sink,
    failed: bool,
}

impl Watched<'_> {
    fn noted<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        self.failed |= result.is_err();
        result
    }
}

impl io::Write for Watched<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.sink.write(bytes);
        self.noted(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.sink.flush();
        self.noted(flushed)
    }
}

impl crate::stream::Pulse for Watched<'_> {
    fn tick(&mut self, done: u64) -> io::Result<()> {
        let ticked = self.sink.tick(done);
        self.noted(ticked)
    }
}

impl Sink for Watched<'_> {}

/// The reference-transaction hook. It speaks to the server's standard error, not to the client (HO-15).
pub struct ReferenceTransaction<'a> {
    repository: &'a Repository,
    exists: bool,
    details: Vec<String>,
}

impl<'a> ReferenceTransaction<'a> {
    /// Looks once whether there is one.
    pub fn new(repository: &'a Repository) -> Self {
        ReferenceTransaction { repository, exists: exists(repository, Hook::ReferenceTransaction), details: Vec::new() }
    }

    /// Why changes were refused, in git's words: for the client.
    pub fn into_details(self) -> Vec<String> {
        self.details
    }
}

impl TransactionHook for ReferenceTransaction<'_> {
    fn state(&mut self, state: TransactionState, updates: &[(ObjectId, ObjectId, BString)]) -> bool {
        if !self.exists {
            return true;
        }
        let word = match state {
            TransactionState::Preparing => "preparing",
            TransactionState::Prepared => "prepared",
            TransactionState::Committed => "committed",
            TransactionState::Aborted => "aborted",
        };
        let mut lines = updates.iter().map(|(old, new, name)| line(*old, *new, name));
        let told = Told { arguments: vec![word.into()], environment: Vec::new(), lines: &mut lines };
        start(self.repository, Hook::ReferenceTransaction, told, None).is_ok_and(|answer| answer.agreed())
    }

    fn refused(&mut self, _name: &BStr, detail: &str) {
        self.details.push(detail.to_owned());
    }
}

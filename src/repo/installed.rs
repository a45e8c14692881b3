//! The installed git, if any. Serving never needs it; it only updates a work tree (receive.denyCurrentBranch =
//! updateInstead) and runs maintenance where the owner asks for it (receive.autogc).
//!
//! In: arguments for git, and the directory. Out: how it ended. git is found on the PATH of hooks, and never fetches
//! objects from elsewhere.

use super::{Repository, hooks};
use crate::children::{self, Child, Ended, Output};
use crate::stream::Sink;
use std::ffi::OsString;
use std::io;
use std::path::Path;

/// The name of git's program.
const GIT: &str = "git";

/// Variables that hold only while a push goes on; git gets neither.
const OF_THE_PUSH: [&str; 2] = ["GIT_SHALLOW_FILE", "GIT_QUARANTINE_PATH"];

/// Runs git to its end. Both of its outputs go to `sink`.
///
/// # Errors
/// `NotFound` if no git is installed; any other kind when it cannot be run, or the sink fails.
pub fn run(
    repository: &Repository,
    words: &[&str],
    more: &[(OsString, OsString)],
    directory: &Path,
    sink: &mut dyn Sink,
) -> io::Result<Ended> {
    let arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
    let environment = environment(repository, more);
    let child = Child { directory, ..hooks::child(repository, Path::new(GIT), &arguments, &environment) };
    hooks::launch(repository, "git", &child, |child, time| {
        children::run(child, &mut std::iter::empty(), Output::Sink(sink), time)
    })
}

/// Starts git in the background: its output is discarded, and its exit is not awaited.
///
/// # Errors
/// As [`run`].
pub fn leave(repository: &Repository, words: &[&str]) -> io::Result<()> {
    let arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
    let environment = environment(repository, &[]);
    let child = hooks::child(repository, Path::new(GIT), &arguments, &environment);
    hooks::launch(repository, "git", &child, |child, _| children::spawn_detached(child).map(|()| Ended::Status(0)))
        .map(drop)
}

fn environment(repository: &Repository, more: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
    let mut environment = hooks::environment(repository, more);
    environment.retain(|(name, _)| !OF_THE_PUSH.iter().any(|of_the_push| name == of_the_push));
    environment.push(("GIT_NO_LAZY_FETCH".into(), "1".into()));
    environment
}

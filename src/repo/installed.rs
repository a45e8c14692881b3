//! An installed git: nothing that is served needs one, and only two errands are left to it: files of a work tree
//! (receive.denyCurrentBranch = updateInstead), and maintenance where the owner asks for it (receive.autogc).
//!
//! In: words for git, and where. Out: how it ended. It is found as hooks find their programs, and never fetches from elsewhere.

use super::{Repository, hooks};
use crate::children::{self, Child, Ended, Output};
use crate::stream::Sink;
use std::ffi::OsString;
use std::io;
use std::path::Path;

/// Its name.
const GIT: &str = "git";

/// Variables of a push that nobody who comes later may rely on.
const OF_THE_PUSH: [&str; 2] = ["GIT_SHALLOW_FILE", "GIT_QUARANTINE_PATH"];

/// Runs git to its end. What it says goes to `sink`, on both outputs.
///
/// # Errors
/// `NotFound` where no git is installed; when it cannot be run, or the sink fails.
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

/// Starts git and leaves it alone: nothing is heard of it, and nobody waits for it.
///
/// # Errors
/// As [`run`].
pub fn leave(repository: &Repository, words: &[&str]) -> io::Result<()> {
    let arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
    let environment = environment(repository, &[]);
    let child = hooks::child(repository, Path::new(GIT), &arguments, &environment);
    hooks::launch(repository, "git", &child, |child, _| children::leave(child).map(|()| Ended::Status(0))).map(drop)
}

fn environment(repository: &Repository, more: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
    let mut environment = hooks::environment(repository, more);
    environment.retain(|(name, _)| !OF_THE_PUSH.iter().any(|of_the_push| name == of_the_push));
    environment.push(("GIT_NO_LAZY_FETCH".into(), "1".into()));
    environment
}

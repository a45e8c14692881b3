//! The tips of the repositories we borrow objects from: clients need not send objects reachable from them again.
//!
//! In: a repository. Out: the tips of its alternates, as core.alternateRefsCommand or core.alternateRefsPrefixes choose
//! them. Alternates may belong to others, so whatever cannot be read there is left out and never causes a failure.

use super::{Repository, hooks};
use crate::children::{self, Output};
use crate::refs::RefStore;
use crate::stream::{Pulse, Sink};
use bstr::ByteSlice;
use gix_hash::ObjectId;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;

/// Calls `each` with every tip, possibly more than once for the same one. Only an alternate that is the `objects`
/// directory of a repository counts (RA-08).
///
/// # Errors
/// When the alternates cannot be read, or `each` fails.
pub fn for_each(repository: &Repository, each: &mut dyn FnMut(ObjectId) -> anyhow::Result<()>) -> anyhow::Result<()> {
    for objects in repository.objects.alternates()? {
        let git_dir = objects.parent().filter(|git_dir| objects.ends_with("objects") && git_dir.join("refs").is_dir());
        let Some(git_dir) = git_dir else { continue };
        let tips = match &repository.settings.alternate_refs_command {
            Some(command) => told_by(repository, hooks::word(command), git_dir),
            None => read(repository, git_dir),
        };
        tips.into_iter().try_for_each(&mut *each)?;
    }
    Ok(())
}

fn read(repository: &Repository, git_dir: &Path) -> Vec<ObjectId> {
    let prefixes = repository.settings.alternate_refs_prefixes.as_ref();
    let prefixes: Option<Vec<&[u8]>> = prefixes.map(|list| list.fields().collect());
    let chosen = |name: &[u8]| match &prefixes {
        None => true,
        Some(prefixes) => prefixes.iter().any(|prefix| {
            let rest = name.strip_prefix(*prefix);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/") || prefix.ends_with(b"/"))
        }),
    };
    let mut tips = Vec::new();
    let refs = RefStore::of_other(git_dir.to_owned(), repository.hash());
    let _ = refs.for_each(&[], &mut |row| {
        if chosen(row.name) {
            tips.push(row.id.id());
        }
        Ok(())
    });
    tips
}

/// Variables that tell git which repository to work on. They are removed because the command works on another one.
const OF_ONE_REPOSITORY: [&str; 12] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

/// Runs the owner's command and returns the object ids it prints, one a line, up to the first line that is not an id.
fn told_by(repository: &Repository, command: OsString, git_dir: &Path) -> Vec<ObjectId> {
    let mut environment = hooks::environment(repository, &[]);
    environment.retain(|(name, _)| !OF_ONE_REPOSITORY.iter().any(|of_one| name == of_one));
    let mut script = command.clone();
    script.push(" \"$@\"");
    let arguments = ["-c".into(), script, command, git_dir.into()];
    let child = hooks::child(repository, Path::new("/bin/sh"), &arguments, &environment);
    let mut names = Names { hash: repository.hash(), line: Vec::new(), found: Vec::new(), ended: false };
    // The ids printed so far count, however the command ends.
    let _ = children::run(&child, &mut std::iter::empty(), Output::Stdout(&mut names), repository.context.timeout);
    names.found
}

/// Parses object ids, one a line, as they are written to it.
struct Names {
    hash: gix_hash::Kind,
    line: Vec<u8>,
    found: Vec<ObjectId>,
    ended: bool,
}

impl Write for Names {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for &byte in bytes {
            if self.ended {
                break;
            }
            if byte != b'\n' {
                self.line.push(byte);
                self.ended = self.line.len() > self.hash.len_in_hex();
                continue;
            }
            match ObjectId::from_hex(&self.line) {
                Ok(id) if id.kind() == self.hash => self.found.push(id),
                Ok(_) | Err(_) => self.ended = true,
            }
            self.line.clear();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pulse for Names {
    fn tick(&mut self, _done: u64) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Names {}

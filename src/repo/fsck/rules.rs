//! How serious each finding is: a table of ours, what the owner's configuration changes in it, objects that are let pass.
//!
//! In: `receive.fsck.*` as it was read. Out: [`Rules`] for a checker. A list of objects is read only where something is checked.

use super::{MESSAGES, Message, Severity};
use anyhow::{Context as _, anyhow};
use bstr::ByteSlice;
use gix_hash::{ObjectId, oid};
use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// Ids that git knows and that can be set, for things that are not found here: they are about refs, or about bytes that
/// are not objects at all.
static ELSEWHERE: &[&str] = &[
    "badHeadTarget",
    "badPackedRefEntry",
    "badPackedRefHeader",
    "badRefContent",
    "badRefFiletype",
    "badRefName",
    "badRefOid",
    "badReferentName",
    "badReftableTableName",
    "emptyName",
    "emptyPackedRefsFile",
    "packedRefEntryNotTerminated",
    "packedRefUnsorted",
    "refMissingNewline",
    "symlinkRef",
    "symrefTargetIsNotARef",
    "trailingRefContent",
    "unknownType",
];

/// What is done about a finding, as configuration says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Error,
    Warn,
    Ignore,
}

/// What the configuration changes (receive.fsck.*), in its order: what comes later counts more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// A message id in lower case.
    messages: Vec<(String, Word)>,
    /// Files with the names of objects in which nothing is found.
    skip_lists: Vec<PathBuf>,
    /// Ids that git does not know.
    unknown: Vec<String>,
}

impl Changes {
    /// Takes one setting, `id` in lower case as configuration has it. False: there is such an id, and no such value.
    #[must_use]
    pub fn add(&mut self, id: &[u8], value: &[u8]) -> bool {
        let names = MESSAGES.iter().map(|(name, _, _)| *name).chain(ELSEWHERE.iter().copied());
        let Some(name) = names.into_iter().find(|name| name.as_bytes().eq_ignore_ascii_case(id)) else {
            self.unknown.push(id.to_str_lossy().into_owned());
            return true;
        };
        let word = match value {
            b"error" => Word::Error,
            b"warn" => Word::Warn,
            b"ignore" => Word::Ignore,
            _ => return false,
        };
        self.messages.push((name.to_ascii_lowercase(), word));
        true
    }

    /// Takes a list of objects.
    pub fn skip(&mut self, list: PathBuf) {
        self.skip_lists.push(list);
    }

    /// Lines for the user about what is not understood.
    pub fn warnings(&self) -> impl Iterator<Item = String> + '_ {
        self.unknown.iter().map(|id| format!("warning: skipping unknown msg id '{id}'"))
    }
}

/// How serious each message is, and about which objects nothing is said.
#[derive(Debug, Clone)]
pub struct Rules {
    pub(super) severities: Vec<Severity>,
    skipped: HashSet<ObjectId>,
}

impl Rules {
    /// git's own for incoming objects (receive.fsckObjects).
    pub fn strict() -> Self {
        Rules { severities: MESSAGES.iter().map(|(_, strict, _)| *strict).collect(), skipped: HashSet::new() }
    }

    /// What clients must be protected from; oddities that old histories are full of are only told.
    pub fn protecting() -> Self {
        Rules { severities: MESSAGES.iter().map(|(_, _, protecting)| *protecting).collect(), skipped: HashSet::new() }
    }

    /// The same with what the owner changes. Lists of objects are found from `directory`, or with `~/` from `home`.
    ///
    /// # Errors
    /// In git's words: a list that cannot be read or holds something else than names; a finding that can only be fatal.
    pub fn changed_by(
        mut self,
        changes: &Changes,
        directory: &Path,
        home: Option<&Path>,
        hash: gix_hash::Kind,
    ) -> anyhow::Result<Self> {
        for list in &changes.skip_lists {
            let path = match (list.strip_prefix("~"), home) {
                (Ok(below), Some(home)) => home.join(below),
                _ => directory.join(list),
            };
            let file = std::fs::File::open(path);
            let file = file.map_err(|_| anyhow!("could not open object name list: {}", list.display()))?;
            read_names(BufReader::new(file), hash, &mut self.skipped)
                .with_context(|| format!("Could not read '{}'", list.display()))??;
        }
        for (id, word) in &changes.messages {
            let known = MESSAGES.iter().position(|(name, _, _)| name.eq_ignore_ascii_case(id));
            let Some(severity) = known.and_then(|place| self.severities.get_mut(place)) else { continue };
            *severity = match word {
                Word::Error if *severity == Severity::Fatal => Severity::Fatal,
                Word::Error => Severity::Error,
                Word::Warn if *severity == Severity::Fatal => return Err(anyhow!("Cannot demote {id} to warn")),
                Word::Ignore if *severity == Severity::Fatal => return Err(anyhow!("Cannot demote {id} to ignore")),
                Word::Warn => Severity::Warn,
                Word::Ignore => Severity::Ignore,
            };
        }
        Ok(self)
    }

    /// How serious a message is.
    pub fn severity(&self, message: Message) -> Severity {
        self.severities[message as usize]
    }

    /// Whether nothing is to be said about this object.
    pub(super) fn skips(&self, id: &oid) -> bool {
        !self.skipped.is_empty() && self.skipped.contains(id)
    }
}

/// A line longer than this names no object.
const LINE_MAX: u64 = 4096;

/// One full name a line; `#` begins a comment, blank lines count for nothing. The inner error is about what a line says.
fn read_names(
    mut from: impl BufRead,
    hash: gix_hash::Kind,
    names: &mut HashSet<ObjectId>,
) -> std::io::Result<anyhow::Result<()>> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if std::io::Read::take(&mut from, LINE_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(Ok(()));
        }
        let comment = line.contains(&b'#');
        let cut_off = line.len() as u64 == LINE_MAX && !line.ends_with(b"\n");
        let name = line.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
        if !name.is_empty() {
            match ObjectId::from_hex(name) {
                Ok(id) if id.kind() == hash => names.insert(id),
                Ok(_) | Err(_) => return Ok(Err(anyhow!("invalid object name: {}", name.to_str_lossy()))),
            };
        }
        if cut_off && comment {
            // The rest of a long comment.
            while !line.ends_with(b"\n") {
                line.clear();
                if std::io::Read::take(&mut from, LINE_MAX).read_until(b'\n', &mut line)? == 0 {
                    return Ok(Ok(()));
                }
            }
        }
    }
}

//! How serious each finding is: a fixed table, the owner's changes to it, and objects exempt from the checks.
//!
//! In: `receive.fsck.*` as configured. Out: [`Rules`] for a checker. A list of exempt objects is never read before
//! something is checked.

use super::{MESSAGES, Message, Severity};
use anyhow::{Context as _, anyhow};
use bstr::ByteSlice;
use gix_hash::{ObjectId, oid};
use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// Message ids that git knows and that can be configured, but that are never reported here: they are about refs, or
/// about bytes that are not objects at all.
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

/// What to do about a finding, as the configuration says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Error,
    Warn,
    Ignore,
}

/// The owner's changes (receive.fsck.*) in the order of the configuration: later ones override earlier ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Message ids in lower case.
    messages: Vec<(String, Word)>,
    /// Files that name objects exempt from the checks.
    skip_lists: Vec<PathBuf>,
    /// Message ids that git does not know.
    unknown: Vec<String>,
}

impl Changes {
    /// Adds one setting; `id` is in lower case, as in the configuration. Returns false if the id is known but the value
    /// is not.
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

    /// Adds a file that names exempt objects.
    pub fn skip(&mut self, list: PathBuf) {
        self.skip_lists.push(list);
    }

    /// Lines for the user about message ids that are not known.
    pub fn warnings(&self) -> impl Iterator<Item = String> + '_ {
        self.unknown.iter().map(|id| format!("warning: skipping unknown msg id '{id}'"))
    }
}

/// How serious each message is, and which objects are exempt.
#[derive(Debug, Clone)]
pub struct Rules {
    pub(super) severities: Vec<Severity>,
    skipped: HashSet<ObjectId>,
}

impl Rules {
    /// git's own rules for incoming objects (receive.fsckObjects).
    pub fn strict() -> Self {
        Rules { severities: MESSAGES.iter().map(|(_, strict, _)| *strict).collect(), skipped: HashSet::new() }
    }

    /// Refuses what clients must be protected from; oddities that are common in old histories are only reported.
    pub fn protecting() -> Self {
        Rules { severities: MESSAGES.iter().map(|(_, _, protecting)| *protecting).collect(), skipped: HashSet::new() }
    }

    /// Applies the owner's changes. Lists of exempt objects are relative to `directory`, or to `home` if they begin
    /// with `~/`.
    ///
    /// # Errors
    /// In git's words: when a list cannot be read or contains anything but object names, or when a fatal message is
    /// configured as less.
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

    /// Whether an object is exempt.
    pub(super) fn skips(&self, id: &oid) -> bool {
        !self.skipped.is_empty() && self.skipped.contains(id)
    }
}

/// The longest line that is read; a longer one does not name an object.
const LINE_MAX: u64 = 4096;

/// Reads one full object name a line; `#` begins a comment, and blank lines are ignored. The inner error is about a
/// line's content.
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
            // Skip the rest of a long comment.
            while !line.ends_with(b"\n") {
                line.clear();
                if std::io::Read::take(&mut from, LINE_MAX).read_until(b'\n', &mut line)? == 0 {
                    return Ok(Ok(()));
                }
            }
        }
    }
}

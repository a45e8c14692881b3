//! Checks of objects: their format, and contents that could harm the clients that fetch them.
//!
//! In: incoming objects, one after the other. Out: findings in git's words, with git's message ids; one table defines
//! how serious each is. Whether the objects that an object refers to exist and have the right kind is never checked
//! here but in `connectivity`.

mod files;
mod format;
mod names;
mod rules;
mod tree;
mod url;

pub use files::Files;
pub use rules::{Changes, Rules};

use crate::odb::Objects;
use gix_hash::{ObjectId, oid};
use gix_object::Kind;

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Not reported.
    Ignore,
    /// Reported, and the object is accepted.
    Warn,
    /// Reported, and the object is refused.
    Error,
    /// Like `Error`, whatever the configuration says.
    Fatal,
}

macro_rules! messages {
    ($($message:ident $name:literal $strict:ident $protecting:ident,)*) => {
        /// What can be wrong with an object; Display gives git's message id.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "git's message ids, explained in git-fsck(1)")]
        pub enum Message {
            $($message,)*
        }

        /// For each message its id and its severity under the strict and the protecting rules.
        static MESSAGES: &[(&str, Severity, Severity)] = &[
            $(($name, Severity::$strict, Severity::$protecting),)*
        ];
    };
}

messages! {
    // message                 id in git                   strict  protecting
    NulInHeader                "nulInHeader"               Fatal   Fatal,
    UnterminatedHeader         "unterminatedHeader"        Fatal   Fatal,
    BadDate                    "badDate"                   Error   Warn,
    BadDateOverflow            "badDateOverflow"           Error   Warn,
    BadEmail                   "badEmail"                  Error   Warn,
    BadGpgsig                  "badGpgsig"                 Error   Warn,
    BadHeaderContinuation      "badHeaderContinuation"     Error   Warn,
    BadName                    "badName"                   Error   Warn,
    BadObjectSha1              "badObjectSha1"             Error   Error,
    BadParentSha1              "badParentSha1"             Error   Error,
    BadTimezone                "badTimezone"               Error   Warn,
    BadTree                    "badTree"                   Error   Error,
    BadTreeSha1                "badTreeSha1"               Error   Error,
    BadType                    "badType"                   Error   Error,
    DuplicateEntries           "duplicateEntries"          Error   Error,
    GitattributesBlob          "gitattributesBlob"         Error   Error,
    GitattributesLarge         "gitattributesLarge"        Error   Error,
    GitattributesLineLength    "gitattributesLineLength"   Error   Error,
    GitattributesMissing       "gitattributesMissing"      Error   Warn,
    GitmodulesBlob             "gitmodulesBlob"            Error   Error,
    GitmodulesLarge            "gitmodulesLarge"           Error   Error,
    GitmodulesMissing          "gitmodulesMissing"         Error   Warn,
    GitmodulesName             "gitmodulesName"            Error   Error,
    GitmodulesPath             "gitmodulesPath"            Error   Error,
    GitmodulesSymlink          "gitmodulesSymlink"         Error   Error,
    GitmodulesUpdate           "gitmodulesUpdate"          Error   Error,
    GitmodulesUrl              "gitmodulesUrl"             Error   Error,
    MissingAuthor              "missingAuthor"             Error   Error,
    MissingCommitter           "missingCommitter"          Error   Error,
    MissingEmail               "missingEmail"              Error   Warn,
    MissingNameBeforeEmail     "missingNameBeforeEmail"    Error   Warn,
    MissingObject              "missingObject"             Error   Error,
    MissingSpaceBeforeDate     "missingSpaceBeforeDate"    Error   Warn,
    MissingSpaceBeforeEmail    "missingSpaceBeforeEmail"   Error   Warn,
    MissingTag                 "missingTag"                Error   Error,
    MissingTagEntry            "missingTagEntry"           Error   Error,
    MissingTree                "missingTree"               Error   Error,
    MissingType                "missingType"               Error   Error,
    MissingTypeEntry           "missingTypeEntry"          Error   Error,
    MultipleAuthors            "multipleAuthors"           Error   Warn,
    TreeNotSorted              "treeNotSorted"             Error   Error,
    ZeroPaddedDate             "zeroPaddedDate"            Error   Warn,
    // git calls these warnings, and treats its warnings as errors when it checks incoming objects.
    FullPathname               "fullPathname"              Error   Error,
    HasDot                     "hasDot"                    Error   Error,
    HasDotdot                  "hasDotdot"                 Error   Error,
    HasDotgit                  "hasDotgit"                 Error   Error,
    LargePathname              "largePathname"             Error   Error,
    NullSha1                   "nullSha1"                  Error   Error,
    NulInCommit                "nulInCommit"               Error   Warn,
    ZeroPaddedFilemode         "zeroPaddedFilemode"        Error   Warn,
    // These are only reported.
    BadFilemode                "badFilemode"               Warn    Warn,
    BadTagName                 "badTagName"                Warn    Warn,
    GitattributesSymlink       "gitattributesSymlink"      Warn    Warn,
    GitignoreSymlink           "gitignoreSymlink"          Warn    Warn,
    GitmodulesParse            "gitmodulesParse"           Warn    Warn,
    MailmapSymlink             "mailmapSymlink"            Warn    Warn,
    MissingTaggerEntry         "missingTaggerEntry"        Warn    Warn,
    ExtraHeaderEntry           "extraHeaderEntry"          Ignore  Ignore,
}

impl std::fmt::Display for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(MESSAGES[*self as usize].0)
    }
}

/// The most findings that are reported at once; an object's refusal is always reported.
const FINDINGS_MAX: usize = 200;

/// One thing that is wrong with one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    severity: Severity,
    message: Message,
    id: ObjectId,
    text: String,
}

impl Finding {
    /// Whether the object is refused because of it.
    pub fn is_error(&self) -> bool {
        self.severity >= Severity::Error
    }

    /// What is wrong.
    pub fn message(&self) -> Message {
        self.message
    }

    /// The line git prints: `error: object …: treeNotSorted: not properly sorted`.
    pub fn to_line(&self) -> String {
        let prefix = if self.is_error() { "error" } else { "warning" };
        format!("{prefix}: object {}: {}: {}", self.id, self.message, self.text)
    }
}

/// What was found in the objects checked so far.
#[derive(Default)]
struct Findings {
    /// At most [`FINDINGS_MAX`], because one object can have a million faults, and one more for a refusal.
    kept: Vec<Finding>,
    /// Whether any finding, kept or not, refuses an object.
    refused: bool,
}

/// Collects the findings of one object.
struct Report<'a> {
    rules: &'a Rules,
    id: &'a oid,
    findings: &'a mut Findings,
}

impl Report<'_> {
    /// Reports a finding; returns `true` if the object is refused because of it.
    fn say(&mut self, message: Message, text: impl Into<String>) -> bool {
        let severity = self.rules.severity(message);
        if severity == Severity::Ignore || self.rules.skips(self.id) {
            return false;
        }
        let refused = severity >= Severity::Error;
        // The first finding that refuses an object is always kept.
        if self.findings.kept.len() < FINDINGS_MAX || (refused && !self.findings.refused) {
            self.findings.kept.push(Finding { severity, message, id: self.id.to_owned(), text: text.into() });
        }
        self.findings.refused |= refused;
        refused
    }
}

/// Checks objects, and remembers the blobs of `.gitmodules` and `.gitattributes`: they are checked once all objects are
/// there.
pub struct Checker<'a> {
    hash: gix_hash::Kind,
    rules: &'a Rules,
    findings: Findings,
    files: Files,
}

impl<'a> Checker<'a> {
    /// A checker that has checked nothing yet.
    pub fn new(hash: gix_hash::Kind, rules: &'a Rules) -> Self {
        Checker { hash, rules, findings: Findings::default(), files: Files::default() }
    }

    /// Checks an object and returns whether it passes; [`Checker::take_findings`] says what was found.
    pub fn check(&mut self, id: &oid, kind: Kind, content: &[u8]) -> bool {
        self.findings.refused = false;
        let mut report = Report { rules: self.rules, id, findings: &mut self.findings };
        match kind {
            Kind::Blob => {}
            Kind::Tree => tree::check(content, self.hash, &mut report, &mut self.files),
            Kind::Commit => format::commit(content, self.hash, &mut report),
            Kind::Tag => format::tag(content, self.hash, &mut report),
        }
        !self.findings.refused
    }

    /// Takes what was found since the last call.
    pub fn take_findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings.kept)
    }

    /// Whether there are blobs left to check at the end.
    pub fn has_files(&self) -> bool {
        !self.files.is_empty()
    }

    /// The blobs left to check at the end, for the checker that continues.
    pub fn into_files(self) -> Files {
        self.files
    }

    /// Adds blobs to check at the end.
    pub fn add_files(&mut self, files: Files) {
        self.files.add(files);
    }

    /// Checks the blobs that trees call `.gitmodules` and `.gitattributes`, and returns whether all pass. Those of more
    /// than `size_max` bytes are refused unread.
    ///
    /// # Errors
    /// When an object cannot be read.
    pub fn check_files(&mut self, objects: &Objects, size_max: u64) -> anyhow::Result<bool> {
        self.findings.refused = false;
        let files = std::mem::take(&mut self.files);
        files.check(objects, size_max, self.rules, &mut self.findings)?;
        Ok(!self.findings.refused)
    }
}

#[cfg(test)]
mod tests;

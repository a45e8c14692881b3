//! The report of a push, and all reasons for refusing a ref update, in git's words.
//!
//! In: the result for the pack and for each ref. Out: the lines of report-status (gitprotocol-pack, Report Status).
//! Never chooses the band they are sent on.

use crate::pktline;
use bstr::{BStr, BString, ByteSlice};
use gix_hash::ObjectId;
use std::fmt::Write as _;

/// Why a ref update was refused. Its Display is the text that clients and scripts match (builtin/receive-pack.c).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// `funny refname`
    FunnyName,
    /// `non-fast-forward`
    NonFastForward,
    /// `deny updating a hidden ref`
    HiddenUpdate,
    /// `deny deleting a hidden ref`
    HiddenDelete,
    /// `hook declined`
    HookDeclined,
    /// `pre-receive hook declined`
    PreReceiveDeclined,
    /// `missing necessary objects`
    MissingObjects,
    /// `unpacker error`
    Unpacker,
    /// `unable to migrate objects to permanent storage`
    Migrate,
    /// `branch is currently checked out`
    CheckedOut,
    /// `bad pack`
    BadPack,
    /// `bad ref`
    BadRef,
    /// `deletion prohibited`
    DeletionProhibited,
    /// `deletion of the current branch prohibited`
    CurrentBranchDeletion,
    /// `shallow update not allowed`
    ShallowUpdate,
    /// `shallow error`
    ShallowError,
    /// `inconsistent push options`
    InconsistentOptions,
    /// `inconsistent aliased update`
    InconsistentAlias,
    /// `broken symref`
    BrokenSymref,
    /// `invalid new value provided`
    InvalidNewValue,
    /// `incorrect old value provided`
    StaleOldValue,
    /// `reference already exists`
    AlreadyExists,
    /// `reference does not exist`
    DoesNotExist,
    /// `refname conflict`
    NameConflict,
    /// `failed to update ref`
    UpdateFailed,
    /// `atomic push failure`
    AtomicFailure,
    /// `atomic transaction failed`
    AtomicTransaction,
    /// `transaction failed to start`
    TransactionStart,
    /// `failed to update refs`: none of the transaction's refs was updated.
    NoneUpdated,
    /// `fail to run proc-receive hook`
    ProcReceiveFailed,
    /// `proc-receive failed to report status`
    ProcReceiveSilent,
    /// `denyCurrentBranch = updateInstead needs a worktree`
    NoWorktree,
    /// `denyCurrentBranch = updateInstead needs an installed git`
    NoInstalledGit,
    /// `push-to-checkout hook declined`
    PushToCheckoutDeclined,
    /// `Up-to-date check failed`
    WorktreeUnknown,
    /// `Working directory has unstaged changes`
    UnstagedChanges,
    /// `Working directory has staged changes`
    StagedChanges,
    /// `Could not update working tree to new HEAD`
    WorktreeNotUpdated,
    /// A complete text from the hooks proc-receive or reference-transaction.
    Said(BString),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Refusal::FunnyName => "funny refname",
            Refusal::NonFastForward => "non-fast-forward",
            Refusal::HiddenUpdate => "deny updating a hidden ref",
            Refusal::HiddenDelete => "deny deleting a hidden ref",
            Refusal::HookDeclined => "hook declined",
            Refusal::PreReceiveDeclined => "pre-receive hook declined",
            Refusal::MissingObjects => "missing necessary objects",
            Refusal::Unpacker => "unpacker error",
            Refusal::Migrate => "unable to migrate objects to permanent storage",
            Refusal::CheckedOut => "branch is currently checked out",
            Refusal::BadPack => "bad pack",
            Refusal::BadRef => "bad ref",
            Refusal::DeletionProhibited => "deletion prohibited",
            Refusal::CurrentBranchDeletion => "deletion of the current branch prohibited",
            Refusal::ShallowUpdate => "shallow update not allowed",
            Refusal::ShallowError => "shallow error",
            Refusal::InconsistentOptions => "inconsistent push options",
            Refusal::InconsistentAlias => "inconsistent aliased update",
            Refusal::BrokenSymref => "broken symref",
            Refusal::InvalidNewValue => "invalid new value provided",
            Refusal::StaleOldValue => "incorrect old value provided",
            Refusal::AlreadyExists => "reference already exists",
            Refusal::DoesNotExist => "reference does not exist",
            Refusal::NameConflict => "refname conflict",
            Refusal::UpdateFailed => "failed to update ref",
            Refusal::AtomicFailure => "atomic push failure",
            Refusal::AtomicTransaction => "atomic transaction failed",
            Refusal::TransactionStart => "transaction failed to start",
            Refusal::NoneUpdated => "failed to update refs",
            Refusal::ProcReceiveFailed => "fail to run proc-receive hook",
            Refusal::ProcReceiveSilent => "proc-receive failed to report status",
            Refusal::NoWorktree => "denyCurrentBranch = updateInstead needs a worktree",
            Refusal::NoInstalledGit => "denyCurrentBranch = updateInstead needs an installed git",
            Refusal::PushToCheckoutDeclined => "push-to-checkout hook declined",
            Refusal::WorktreeUnknown => "Up-to-date check failed",
            Refusal::UnstagedChanges => "Working directory has unstaged changes",
            Refusal::StagedChanges => "Working directory has staged changes",
            Refusal::WorktreeNotUpdated => "Could not update working tree to new HEAD",
            Refusal::Said(text) => return write!(f, "{text}"),
        })
    }
}

/// What a proc-receive hook actually did (gitprotocol-pack, report-status-v2: option lines); anything not set is as
/// requested.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RefReport {
    /// `option refname`: the ref that was changed.
    pub name: Option<BString>,
    /// `option old-oid`: its previous value.
    pub old: Option<ObjectId>,
    /// `option new-oid`: its new value.
    pub new: Option<ObjectId>,
    /// `option forced-update`.
    pub forced: bool,
}

/// The report to the client: `unpack …`, then a line for each ref in the order of the request, then a flush (RS-01).
///
/// Both versions of the report are the same format: version 2 only adds option lines, which come from a proc-receive
/// hook.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportStatus {
    lines: Vec<u8>,
}

impl ReportStatus {
    /// A report that begins with the result for the pack: `Ok`, or why it was refused.
    pub fn new(unpack: Result<(), &str>) -> Self {
        let mut report = ReportStatus::default();
        report.line("unpack ", BStr::new(b""), unpack.err().unwrap_or("ok"));
        report
    }

    /// Adds the result for a ref.
    pub fn add(&mut self, name: &BStr, verdict: Result<(), &Refusal>) {
        match verdict {
            Ok(()) => self.line("ok ", name, ""),
            Err(refusal) => {
                let mut text = String::from(" ");
                let _ = write!(text, "{refusal}");
                self.line("ng ", name, &text);
            }
        }
    }

    /// Adds what a proc-receive hook did for a ref: an `ok` with options for each of its reports (RS-02).
    pub fn add_reported(&mut self, name: &BStr, reports: &[RefReport]) {
        if reports.is_empty() {
            self.add(name, Ok(()));
        }
        for report in reports {
            self.add(name, Ok(()));
            if let Some(name) = &report.name {
                self.line("option refname ", BStr::new(b""), &name.to_str_lossy());
            }
            if let Some(old) = report.old {
                self.line("option old-oid ", BStr::new(b""), &old.to_string());
            }
            if let Some(new) = report.new {
                self.line("option new-oid ", BStr::new(b""), &new.to_string());
            }
            if report.forced {
                self.line("option forced-update", BStr::new(b""), "");
            }
        }
    }

    /// The whole report with its flush; with a side band this is the payload of band 1 (RS-04).
    pub fn into_bytes(mut self) -> Vec<u8> {
        pktline::flush(&mut self.lines).expect("memory can be written");
        self.lines
    }

    /// Adds one line. The name is returned as the client sent it; control characters in the text become spaces, and the
    /// line is cut to fit a packet.
    fn line(&mut self, word: &str, name: &BStr, text: &str) {
        let mut line = Vec::with_capacity(word.len() + name.len() + text.len() + 1);
        line.extend_from_slice(word.as_bytes());
        line.extend_from_slice(name);
        line.extend(text.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }));
        line.truncate(pktline::PAYLOAD_MAX - 1);
        line.push(b'\n');
        pktline::line(&mut self.lines, &line).expect("the line was cut to fit a packet, and memory can be written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pktline::{Packet, PacketReader};

    fn lines(report: ReportStatus) -> Vec<String> {
        let bytes = report.into_bytes();
        let mut input = bytes.as_slice();
        let mut reader = PacketReader::new(&mut input);
        let mut lines = Vec::new();
        while let Some(packet) = reader.next().expect("well formed") {
            lines.push(match packet {
                Packet::Data(line) => String::from_utf8_lossy(line).into_owned(),
                Packet::Flush => "0000".into(),
                Packet::Delim | Packet::ResponseEnd => "?".into(),
            });
        }
        lines
    }

    #[test]
    fn a_report_has_a_line_for_the_pack_and_one_for_each_ref() {
        let mut report = ReportStatus::new(Ok(()));
        report.add("refs/heads/a".into(), Ok(()));
        report.add("refs/heads/b".into(), Err(&Refusal::NonFastForward));
        report.add("refs/heads/c".into(), Err(&Refusal::Said("two\nlines".into())));
        assert_eq!(
            report.clone().into_bytes(),
            b"000eunpack ok\n0014ok refs/heads/a\n0025ng refs/heads/b non-fast-forward\n001eng refs/heads/c two lines\n0000"
        );
    }

    #[test]
    fn what_a_hook_did_is_told_by_options() {
        let id: ObjectId = "1".repeat(40).parse().expect("it is one");
        let whole = RefReport { name: Some("refs/x".into()), old: Some(id), new: Some(id), forced: true };
        let mut report = ReportStatus::new(Ok(()));
        report.add_reported("r".into(), &[]);
        report.add_reported("s".into(), &[whole, RefReport { new: Some(id), ..RefReport::default() }]);
        let expected = [
            "unpack ok",
            "ok r",
            "ok s",
            "option refname refs/x",
            &format!("option old-oid {id}"),
            &format!("option new-oid {id}"),
            "option forced-update",
            "ok s",
            &format!("option new-oid {id}"),
        ];
        let expected: Vec<String> =
            expected.iter().map(|line| format!("{line}\n")).chain(["0000".to_owned()]).collect();
        assert_eq!(lines(report), expected);
    }

    #[test]
    fn a_refused_pack_is_named_with_its_reason() {
        let mut report = ReportStatus::new(Err("index-pack abnormal exit"));
        report.add("r".into(), Err(&Refusal::Unpacker));
        assert_eq!(lines(report), ["unpack index-pack abnormal exit\n", "ng r unpacker error\n", "0000"]);
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_at_its_end() {
        let mut report = ReportStatus::new(Ok(()));
        let name = BString::from("n".repeat(65400));
        report.add(name.as_ref(), Err(&Refusal::Said("t".repeat(1000).into())));
        let line = &lines(report)[1];
        assert_eq!(line.len(), pktline::PAYLOAD_MAX);
        assert!(line.ends_with("t\n"));
    }

    #[test]
    fn a_name_comes_back_byte_for_byte() {
        let mut report = ReportStatus::new(Ok(()));
        report.add(BStr::new(b"a\xff\x01"), Err(&Refusal::FunnyName));
        let bytes = report.into_bytes();
        assert!(bytes.windows(16).any(|part| part == b"ng a\xff\x01 funny ref"));
    }
}

//! The report of a push, and every reason a ref update is refused for, in git's words.

use bstr::BString;

/// Why a ref update was refused. Display is the text clients and scripts match (builtin/receive-pack.c).
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
    /// `Working directory cannot be updated …` and other texts of ours; a complete text.
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
            Refusal::Said(text) => return write!(f, "{text}"),
        })
    }
}

//! The request of a push: ref updates, capabilities, push options, shallow lines (gitprotocol-pack, Reference Update Request).

use bstr::BString;
use gix_hash::ObjectId;

/// What is asked of one ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefUpdate {
    /// The name as sent.
    pub name: BString,
    /// What is to happen.
    pub change: Change,
}

/// What is to happen to a ref.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// From nothing to `new`.
    Create {
        /// The new value.
        new: ObjectId,
    },
    /// From `old` to `new`.
    Update {
        /// The value it has.
        old: ObjectId,
        /// The new value.
        new: ObjectId,
    },
    /// To nothing; `None`: the client believes there is none either, which git allows with a warning.
    Delete {
        /// The value it has.
        old: Option<ObjectId>,
    },
}

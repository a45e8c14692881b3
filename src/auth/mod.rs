//! What the credentials prove.
//!
//! In: the text of an Authorization header, a repository's name. Out: a [`Claim`]. Whether it suffices is access.rs's
//! question. No git here, and of HTTP only that one header.

mod credentials;
mod store;
mod token;

use serde::{Deserialize, Serialize};

pub use credentials::{Credentials, Presented};
pub use store::{Listing, NewToken, TokenRecord, TokenState, TokenStore, Which};
pub use store::{TTL_SECONDS_DEFAULT, TTL_SECONDS_MAX, TTL_SECONDS_MIN};
pub use token::{Secret, Token, is_id, random_id};

/// What a token allows. Ordered: `Write` includes `Read`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Clone, fetch, pull.
    Read,
    /// Push, too.
    Write,
}

impl Scope {
    /// `read` or `write`.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Write => "write",
        }
    }
}

/// What presented credentials came to, for one repository name.
#[derive(Debug)]
pub enum Claim {
    /// No credentials at all.
    Nothing,
    /// Credentials that prove nothing, and how they were carried.
    Unusable {
        /// Why they prove nothing.
        why: Why,
        /// Whether they came as Basic: then the client is asked again (401), else refused (403).
        basic: bool,
        /// The record they were once good for, if it is known.
        record: Option<String>,
    },
    /// A live record for this very repository.
    Live(TokenRecord),
}

impl Claim {
    /// The id of the record that was named, good or not.
    pub fn record(&self) -> Option<&str> {
        match self {
            Claim::Nothing => None,
            Claim::Unusable { record, .. } => record.as_deref(),
            Claim::Live(record) => Some(&record.id),
        }
    }
}

/// Why credentials are unusable.
#[derive(Debug)]
pub enum Why {
    /// Not of a token's form, or in the user name's place.
    Malformed,
    /// No such token for this repository: unknown, of another repository, or the repository does not exist.
    Unknown,
    /// Its time is past (unix seconds).
    Expired(u64),
    /// Revoked.
    Revoked,
    /// Two credentials in one request.
    TwoCredentials,
    /// A scheme other than Basic and Bearer.
    OtherScheme,
    /// The store could not be read.
    Store(anyhow::Error),
}

/// Proof that this request may act on its repository. Made by [`Grant::new`] alone, which access.rs alone calls.
#[derive(Debug, Clone)]
pub struct Grant {
    scope: Scope,
    token: Option<String>,
}

/// Proof that it may push. Nothing moves a ref without one.
#[derive(Debug)]
pub struct WriteGrant {
    _private: (),
}

impl Grant {
    /// A grant for `scope`; `token` is the id of the record it rests on.
    pub(crate) fn new(scope: Scope, token: Option<String>) -> Self {
        Grant { scope, token }
    }

    /// What it allows.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// The id of the token's record, where a token was shown.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The proof a push needs; `None` for a read grant.
    pub fn writable(&self) -> Option<WriteGrant> {
        (self.scope == Scope::Write).then_some(WriteGrant { _private: () })
    }
}

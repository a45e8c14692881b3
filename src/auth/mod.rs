//! What the credentials prove.
//!
//! In: the text of an Authorization header, a repository's name. Out: a [`Claim`]; `access` decides whether it
//! suffices. Nothing here knows git, nor anything of HTTP except that one header.

mod credentials;
mod store;
mod token;

use serde::{Deserialize, Serialize};

pub use credentials::{Credentials, Presented};
pub use store::{Listing, NewToken, TokenRecord, TokenState, TokenStore, Which};
pub use store::{TTL_SECONDS_DEFAULT, TTL_SECONDS_MAX, TTL_SECONDS_MIN};
pub use token::{Secret, Token, is_id, random_id};

/// What a token allows. `Write` includes `Read`, and is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Clone, fetch, pull.
    Read,
    /// Push as well.
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

/// What the presented credentials prove for one repository name.
#[derive(Debug)]
pub enum Claim {
    /// No credentials at all.
    Nothing,
    /// Credentials that prove nothing.
    Unusable {
        /// Why they prove nothing.
        why: Why,
        /// Whether they came as Basic: if so, the client is asked for others (401), else refused (403).
        basic: bool,
        /// The id of the record they belong to, if it is known.
        record: Option<String>,
    },
    /// An active record of this repository.
    Live(TokenRecord),
}

impl Claim {
    /// The id of the record the credentials name, whether or not it is active.
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
    /// Not in the form of a token, or sent as the user name.
    Malformed,
    /// No such token for this repository: the token is unknown or of another repository, or the repository does not
    /// exist.
    Unknown,
    /// Expired at this time (Unix seconds).
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

/// Proof that this request may act on its repository. Only `access` calls `Grant::new`, the only way to make one.
#[derive(Debug, Clone)]
pub struct Grant {
    scope: Scope,
    token: Option<String>,
}

/// Proof that the request may push. No ref can be moved without one.
#[derive(Debug)]
pub struct WriteGrant {
    _private: (),
}

impl Grant {
    /// Creates a grant for `scope`; `token` is the id of the record it is based on.
    pub(crate) fn new(scope: Scope, token: Option<String>) -> Self {
        Grant { scope, token }
    }

    /// What the grant allows.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// The id of the token's record, if a token was used.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The proof a push needs, or `None` for a read grant.
    pub fn writable(&self) -> Option<WriteGrant> {
        (self.scope == Scope::Write).then_some(WriteGrant { _private: () })
    }
}

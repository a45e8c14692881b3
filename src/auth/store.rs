//! The token store: a directory of small JSON files (docs/tokens.md states the format).

use super::{Claim, Credentials, Scope, Secret};
use std::path::PathBuf;

/// One token as the store keeps it.
#[derive(Debug, Clone)]
pub struct TokenRecord {
    /// 16 base-36 characters.
    pub id: String,
    /// `namespace/name`, without `.git`.
    pub repository: String,
    /// The repository's `artifacts.id`, where it had one.
    pub repository_id: Option<String>,
    /// What it allows.
    pub scope: Scope,
    /// Unix seconds.
    pub created_at: u64,
    /// Unix seconds.
    pub expires_at: u64,
    /// Unix seconds.
    pub revoked_at: Option<u64>,
}

/// A record's state at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenState {
    /// Good.
    Active,
    /// Its time is past.
    Expired,
    /// Taken back.
    Revoked,
}

/// A token just made: the only moment its secret can be read.
pub struct NewToken {
    /// What is stored.
    pub record: TokenRecord,
    /// `art_v1_<40 hex>?expires=<unix seconds>`
    pub plaintext: String,
    /// The secret alone.
    pub secret: Secret,
}

/// Where tokens are kept.
#[derive(Debug, Clone)]
pub struct TokenStore {
    _directory: PathBuf,
}

impl TokenStore {
    /// The store in `directory`; nothing is read yet.
    pub fn new(directory: PathBuf) -> Self {
        TokenStore { _directory: directory }
    }

    /// What the credentials prove for the repository `name` (`namespace/name`, without `.git`) at `now` (unix seconds).
    pub fn claim(&self, name: &str, credentials: &Credentials, now: u64) -> Claim {
        let _ = (name, credentials, now);
        unimplemented!()
    }
}

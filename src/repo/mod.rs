//! One repository, opened for one request.

pub mod config;
pub mod connectivity;
pub mod create;
pub mod hooks;
pub mod locate;
pub mod quarantine;
pub mod settings;
pub mod visible;

use crate::auth::Grant;
use crate::odb::Objects;
use crate::protocol::{Limits, Version};
use crate::refs::RefStore;
use bstr::BString;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub use settings::Settings;

/// Which rules decide who may in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessMode {
    /// Every request needs a repository token.
    Tokens,
    /// git's own rules: the web server has authenticated.
    WebServer,
    /// Over pipes: the asking user's own rights.
    Pipe,
}

/// What a request brings besides its bytes. An edge builds it; nothing below reads the environment or the clock.
#[derive(Debug, Clone)]
pub struct Context {
    /// The rules.
    pub mode: AccessMode,
    /// The protocol version asked for.
    pub version: Version,
    /// Unix seconds when the request came.
    pub now: u64,
    /// The request's id, in answers, stderr and the audit log.
    pub id: String,
    /// The committer in reflogs, `Name <email>`.
    pub identity: BString,
    /// The environment hooks inherit, already without what they must not see (DESIGN B2), GIT_COMMITTER_* included.
    pub hook_environment: Vec<(OsString, OsString)>,
    /// `GIT_NAMESPACE`
    pub namespace: Option<BString>,
    /// Where configuration comes from.
    pub config: config::ConfigSources,
    /// `GIT_OBJECT_DIRECTORY`
    pub object_directory: Option<PathBuf>,
    /// `GIT_ALTERNATE_OBJECT_DIRECTORIES`
    pub alternate_directories: Vec<PathBuf>,
    /// `GIT_QUARANTINE_PATH` is set: ref updates are refused (QU-05).
    pub in_quarantine: bool,
    /// The agent string we announce (`GIT_USER_AGENT` replaces ours).
    pub agent: String,
    /// The session id, announced with transfer.advertiseSID.
    pub session_id: String,
    /// Limits of this request.
    pub limits: Limits,
    /// Bytes this request may use besides constants (`ARTIFACTS_MEMORY`).
    pub memory: u64,
    /// How long it may take (`ARTIFACTS_TIMEOUT`).
    pub timeout: Option<Duration>,
    /// Whether the conversation is one request and one answer.
    pub stateless: bool,
    /// Whether this is an HTTP exchange (UA-06: `no-done` is announced there only).
    pub http: bool,
}

/// One repository. Everything a service needs.
pub struct Repository {
    /// The git directory: HEAD, config, hooks.
    pub git_dir: PathBuf,
    /// The directory of refs and objects; differs for a linked worktree.
    pub common_dir: PathBuf,
    /// Its objects.
    pub objects: Objects,
    /// Its refs, all of them; what this request may see is [`visible`]'s.
    pub refs: RefStore,
    /// Its configuration, entry by entry.
    pub entries: config::Entries,
    /// What that comes to.
    pub settings: Settings,
    /// Proof that this request may be here.
    pub grant: Grant,
    /// What came with the request.
    pub context: Context,
}

impl Repository {
    /// SHA-1 or SHA-256.
    pub fn hash(&self) -> gix_hash::Kind {
        self.objects.hash_kind()
    }
}

impl Repository {
    /// Opens what was found. Nothing is read yet: objects and refs open themselves when they are asked.
    pub fn open(here: locate::Here, grant: Grant, context: Context) -> Self {
        let objects = context.object_directory.clone().unwrap_or_else(|| here.common_dir.join("objects"));
        let mut directories = vec![objects];
        directories.extend(context.alternate_directories.iter().cloned());
        let hash = here.settings.object_format;
        Repository {
            objects: Objects::new(hash, directories),
            refs: RefStore::new(here.git_dir.clone(), here.common_dir.clone(), hash),
            git_dir: here.git_dir,
            common_dir: here.common_dir,
            entries: here.entries,
            settings: here.settings,
            grant,
            context,
        }
    }
}

//! One repository, opened for one request.
//!
//! In: a place that [`locate`] found, a grant and the request's context. Out: a [`Repository`] with everything a
//! service needs. No client is ever answered here.

pub mod alternate_refs;
pub mod bundles;
pub mod config;
pub mod connectivity;
pub mod create;
pub mod fsck;
pub mod hooks;
pub mod inherited;
pub mod installed;
pub mod locate;
pub mod lock;
pub mod promisor;
pub mod quarantine;
pub mod revision;
pub mod server_info;
pub mod settings;
pub mod shallow;
pub mod signature;
pub mod visible;
pub mod worktrees;

use crate::auth::Grant;
use crate::odb::Objects;
use crate::protocol::{Limits, Version};
use crate::refs::RefStore;
use crate::trace::Trace;
use bstr::BString;
use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use inherited::Inherited;
pub use settings::Settings;

/// Which rules decide who may access a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessMode {
    /// Every request needs a repository token.
    Tokens,
    /// git's own rules: the web server has authenticated the client.
    WebServer,
    /// Over pipes: the rights of the user who runs the program.
    Pipe,
}

/// What a request brings besides its body. An edge builds it; nothing below reads the environment or the clock.
#[derive(Debug, Clone)]
pub struct Context {
    /// Which rules decide on access.
    pub mode: AccessMode,
    /// The protocol version asked for.
    pub version: Version,
    /// When the request came, in Unix seconds.
    pub now: u64,
    /// The request's id, in answers, stderr and the audit log.
    pub id: String,
    /// The peer's address, where it has one.
    pub address: Option<String>,
    /// The committer in reflogs, `Name <email>`; empty where nothing is pushed.
    pub identity: BString,
    /// The environment hooks inherit.
    pub hook_environment: Inherited,
    /// How the client named the repository: the argument over pipes, `.` over HTTP, as git http-backend passes it.
    pub named: BString,
    /// `GIT_NAMESPACE`.
    pub namespace: Option<BString>,
    /// Where configuration comes from.
    pub config: config::ConfigSources,
    /// `GIT_OBJECT_DIRECTORY`.
    pub object_directory: Option<PathBuf>,
    /// `GIT_ALTERNATE_OBJECT_DIRECTORIES`.
    pub alternate_directories: Vec<PathBuf>,
    /// Whether `GIT_QUARANTINE_PATH` is set, in which case ref updates are refused (QU-05).
    pub in_quarantine: bool,
    /// The agent string we announce (`GIT_USER_AGENT` replaces ours).
    pub agent: String,
    /// The session id, announced if transfer.advertiseSID is set.
    pub session_id: String,
    /// Limits of this request.
    pub limits: Limits,
    /// How many bytes this request may use, apart from constant overhead (`ARTIFACTS_MEMORY`).
    pub memory: u64,
    /// Where packs are kept for later clients that fetch the same objects (`ARTIFACTS_CACHE`).
    pub cache: Option<crate::cache::Settings>,
    /// How long the request may take (`ARTIFACTS_TIMEOUT`).
    pub timeout: Option<Duration>,
    /// Whether the conversation is one request and one answer, as always over HTTP.
    pub stateless: bool,
    /// The switches `git receive-pack` was started with.
    pub push: PushSwitches,
    /// Where trace events go.
    pub trace: Trace,
}

/// The switches of `git receive-pack` that change what a push does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PushSwitches {
    /// `--quiet`: no progress, whatever the client asks.
    pub quiet: bool,
    /// `--skip-connectivity-check`: new tips are assumed to be complete.
    pub skip_connectivity: bool,
    /// `--reject-thin-pack-for-testing`: a pack must contain the bases of its deltas.
    pub reject_thin: bool,
}

impl Context {
    /// Sets the committer that reflogs and hooks see (EN-04). Without a name it is `user`; without an email,
    /// `user@http.` and the peer's address.
    pub fn commit_as(&mut self, user: &str, name: Option<String>, email: Option<String>) {
        let name = name.unwrap_or_else(|| user.to_owned());
        let email = email.unwrap_or_else(|| format!("{user}@http.{}", self.address.as_deref().unwrap_or("(none)")));
        let plain = |text: &str| text.replace(['<', '>', '\n', '\0'], "");
        self.identity = format!("{} <{}>", plain(&name), plain(&email)).into();
        self.hook_environment.tell("GIT_COMMITTER_NAME", name);
        self.hook_environment.tell("GIT_COMMITTER_EMAIL", email);
    }

    /// Names a token's holder `token-<id>` as the committer, and tells hooks the token's id and scope; without a token
    /// nothing changes.
    pub fn act_as(&mut self, grant: &Grant) {
        let Some(id) = grant.token().map(str::to_owned) else { return };
        self.commit_as(&format!("token-{id}"), None, None);
        self.hook_environment.tell("ARTIFACTS_TOKEN_ID", id);
        self.hook_environment.tell("ARTIFACTS_SCOPE", grant.scope().as_str());
    }

    /// Applies the limits that the repository's configuration sets.
    pub fn limit_as(&mut self, settings: &Settings) {
        if let Some(bytes) = settings.http_max_request_buffer {
            self.limits.request_bytes_from_owner(bytes);
        }
        self.limits.ref_updates = settings.max_ref_updates.unwrap_or(self.limits.ref_updates);
        self.limits.push_options = settings.max_push_options.unwrap_or(self.limits.push_options);
    }
}

/// One repository: everything a service needs.
pub struct Repository {
    /// The shallow file that children see while a push changes where history is cut. It is the first field so that it
    /// is dropped, and its file removed, before the journal looks for leftovers.
    shallow_file: OnceCell<shallow::Announced>,
    /// The git directory: HEAD, config, hooks.
    pub git_dir: PathBuf,
    /// The directory of refs and objects; differs for a linked worktree.
    pub common_dir: PathBuf,
    /// Its objects.
    pub objects: Objects,
    /// All of its refs; [`visible`] decides which of them this request may see.
    pub refs: RefStore,
    /// Its configuration, entry by entry.
    pub entries: config::Entries,
    /// The settings those entries amount to.
    pub settings: Settings,
    /// Proof that this request may access the repository.
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
    /// Opens a repository that was found. Nothing is read yet: objects and refs are opened when they are first used.
    pub fn open(here: locate::Here, grant: Grant, context: Context) -> Self {
        let hash = here.settings.object_format;
        let mut objects = Objects::new(hash, object_directories(&here.common_dir, &context));
        objects.set_shallow(here.shallow);
        objects.set_threads(here.settings.threads());
        objects.set_graph_allowed(here.settings.read_commit_graph);
        Repository {
            objects,
            refs: here.settings.ref_storage.open(&here.git_dir, &here.common_dir, hash),
            git_dir: here.git_dir,
            common_dir: here.common_dir,
            entries: here.entries,
            settings: here.settings,
            grant,
            context,
            shallow_file: OnceCell::new(),
        }
    }

    /// Gives up the repository at the end of the process without unmapping its files. The exit unmaps them all at once;
    /// unmapping them one by one interrupts the other processors each time.
    pub fn leave(self) {
        std::mem::forget(self.objects);
    }

    /// Opens the same objects again, as a new process would see them: no open pack or index is carried over.
    pub fn reopened(&self) -> Objects {
        let mut objects = Objects::new(self.hash(), object_directories(&self.common_dir, &self.context));
        objects.set_shallow(self.objects.shallow().iter().copied().collect());
        objects.set_threads(self.settings.threads());
        objects.set_graph_allowed(self.settings.read_commit_graph);
        objects
    }
}

/// The directories to look for objects in, without the alternates they name.
fn object_directories(common_dir: &Path, context: &Context) -> Vec<PathBuf> {
    let own = context.object_directory.clone().unwrap_or_else(|| common_dir.join("objects"));
    std::iter::once(own).chain(context.alternate_directories.iter().cloned()).collect()
}

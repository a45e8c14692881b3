//! The one table of git-config keys: name, type, default.

use crate::durable::Sharing;
use bstr::BString;
use std::ffi::OsString;
use std::path::PathBuf;

/// Where configuration is read from, in this order.
#[derive(Debug, Clone, Default)]
pub struct ConfigSources {
    /// `/etc/gitconfig` or `GIT_CONFIG_SYSTEM`; `None` with GIT_CONFIG_NOSYSTEM.
    pub system: Option<PathBuf>,
    /// `GIT_CONFIG_GLOBAL`, else XDG's and the home's.
    pub global: Vec<PathBuf>,
    /// `HOME`, for `~/`.
    pub home: Option<PathBuf>,
    /// Key and value pairs of GIT_CONFIG_PARAMETERS and GIT_CONFIG_COUNT, in the order in which they count.
    pub overrides: Vec<(BString, BString)>,
    /// The environment's raw GIT_CONFIG_* variables, for hooks.
    pub raw: Vec<(OsString, OsString)>,
}

/// receive.denyCurrentBranch
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenyCurrent {
    /// Not set: refuse, and explain at length (UP-06).
    Unset,
    /// Do it silently.
    Ignore,
    /// Do it, with a warning.
    Warn,
    /// Refuse.
    Refuse,
    /// Update the work tree as well.
    UpdateInstead,
}

/// lsrefs.unborn
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unborn {
    /// Announce and answer.
    Advertise,
    /// Answer only.
    Allow,
    /// Neither.
    Ignore,
}

/// core.logAllRefUpdates
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogRefs {
    /// As for a bare repository: only existing logs.
    Existing,
    /// Branches, remotes, notes and HEAD.
    Branches,
    /// Everything.
    Always,
}

/// A repository's configuration, read once. Sizes in bytes, times as named.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "each field is the key of its row in the table below")]
pub struct Settings {
    pub object_format: gix_hash::Kind,
    pub ref_storage_reftable: bool,
    pub bare: Option<bool>,
    pub worktree: Option<BString>,
    pub precious_objects: bool,
    pub partial_clone: Option<BString>,

    pub http_uploadpack: Option<bool>,
    pub http_receivepack: Option<bool>,
    pub http_getanyfile: Option<bool>,
    pub http_max_request_buffer: Option<u64>,

    pub upload_keep_alive_s: u64,
    pub allow_tip_in_want: bool,
    pub allow_reachable_in_want: bool,
    pub allow_any_in_want: bool,
    pub allow_filter: bool,
    pub advertise_sid: bool,
    pub unborn: Unborn,

    pub unpack_limit: u64,
    pub max_input_size: Option<u64>,
    pub fsck_objects: Option<bool>,
    pub receive_keep_alive_s: u64,
    pub deny_current_branch: DenyCurrent,
    pub deny_delete_current: DenyCurrent,
    pub deny_deletes: bool,
    pub deny_non_fast_forwards: bool,
    pub advertise_atomic: bool,
    pub prefer_ofs_delta: bool,
    pub shallow_update: bool,
    pub update_server_info: bool,

    /// transfer.hideRefs with uploadpack.hideRefs, in the order of the configuration.
    pub upload_hide_refs: Vec<BString>,
    /// transfer.hideRefs with receive.hideRefs.
    pub receive_hide_refs: Vec<BString>,

    pub write_reverse_index: bool,
    pub pack_compression: u32,
    pub loose_compression: u32,
    pub big_file_threshold: u64,
    /// Whether refs, packs, loose objects are forced to disk; unset means all of it (DESIGN B17).
    pub sync_refs: bool,
    pub sync_packs: bool,
    pub sync_loose: bool,
    pub sharing: Sharing,
    pub log_all_ref_updates: LogRefs,
    pub hooks_path: Option<PathBuf>,
    pub files_ref_lock_timeout_ms: i64,
    pub packed_refs_timeout_ms: i64,

    pub artifacts_id: Option<BString>,
    pub artifacts_anonymous_read: bool,
    pub artifacts_read_only: bool,
    pub artifacts_wants: Wants,
}

/// artifacts.wants, with git's uploadpack.allow*SHA1InWant already applied where they are set explicitly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// Anything that exists, as C git's v2.
    Any,
    /// Commits and tags must be reachable from a visible ref; trees and blobs need only exist.
    Commits,
    /// Everything must be reachable from a visible ref.
    Reachable,
    /// Only tips of visible refs.
    Advertised,
}

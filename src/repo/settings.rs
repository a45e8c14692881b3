//! The one table of git-config keys: name, type, default.
//!
//! In: the entries of a configuration. Out: [`Settings`], read once for a request. A value that cannot be understood is
//! an error that names key and file, never a silent default. docs/configuration.md lists every row, and a test checks
//! that it does.

mod values;

use super::AccessMode;
use super::config::Entries;
use super::fsck::Changes;
use super::promisor::PromisorRemote;
use crate::durable::{Sharing, Sync};
use crate::journal::Journal;
use crate::protocol::Versions;
use crate::protocol::proc_receive::Selector;
use crate::refs::{Format, LogRefs, RefStore};
use bstr::BString;
use gix_hash::ObjectId;
use std::path::{Path, PathBuf};
use values::{
    all_true, auto_maintenance, blob_uris, block_size, bytes, deny, filters, fsck, fsync, fsync_method,
    geometric_factor, git_wants, level, limit, log_refs, number, object_format, pack_uris, path, path_of_any,
    promisor_remotes, ref_storage, restart_interval, seconds, seed, selectors, sharing, size, text, text_of_operator,
    texts, timeout, truth, unborn, versions, wants, words,
};

/// The values of receive.denyCurrentBranch and receive.denyDeleteCurrent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenyCurrent {
    /// Not set: refuse, with a long explanation (UP-06).
    Unset,
    /// Allow it silently.
    Ignore,
    /// Allow it, with a warning.
    Warn,
    /// Refuse it.
    Refuse,
    /// Allow it, and update the work tree as well.
    UpdateInstead,
}

/// The values of lsrefs.unborn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unborn {
    /// Announce the feature, and answer requests for it.
    Advertise,
    /// Do not announce it, but answer requests for it.
    Allow,
    /// Ignore it altogether.
    Ignore,
}

/// The values of artifacts.wants: what clients may want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// Any object that exists, as in C git's protocol v2.
    Any,
    /// Commits and tags must be reachable from a visible ref; trees and blobs need only exist.
    Commits,
    /// Everything must be reachable from a visible ref.
    Reachable,
    /// Only the tips of visible refs.
    Advertised,
}

/// The values of git's own three keys. As in git, setting the «any» key, to true or false, sets the other two as well
/// (UR-12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GitWants {
    /// Whether any of the keys is set.
    pub said: bool,
    /// Tips of hidden refs.
    pub tips: bool,
    /// Objects reachable from any ref.
    pub reachable: bool,
    /// Any object that exists.
    pub any: bool,
}

/// A pack that clients can download elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackUri {
    /// The hash that `git index-pack` prints: the pack's trailer.
    pub pack: ObjectId,
    /// Where clients download it.
    pub uri: BString,
}

/// A blob that clients can download elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobUri {
    /// The blob.
    pub blob: ObjectId,
    /// The pack that contains it.
    pub at: PackUri,
}

/// How and where refs are stored (git-config, extensions.refStorage).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefStorage {
    /// The storage format.
    pub format: Format,
    /// The directory they are in, relative to the common directory; `None` means the common directory itself.
    pub place: Option<PathBuf>,
}

impl Default for RefStorage {
    fn default() -> Self {
        RefStorage { format: Format::Files, place: None }
    }
}

impl RefStorage {
    /// Opens the refs of a repository. If they are stored elsewhere, those of a linked worktree are below them in
    /// `worktrees`.
    pub fn open(&self, git_dir: &Path, common_dir: &Path, hash: gix_hash::Kind) -> RefStore {
        let Some(place) = &self.place else {
            return RefStore::new(self.format, git_dir.to_owned(), common_dir.to_owned(), hash);
        };
        let shared = common_dir.join(place);
        let own = match git_dir.file_name() {
            Some(name) if git_dir != common_dir => shared.join("worktrees").join(name),
            Some(_) | None => shared.clone(),
        };
        let journal = Journal::of_refs(&shared, common_dir);
        RefStore::with_journal(self.format, own, shared, hash, journal)
    }
}

/// Which object filters clients may use (uploadpackfilter.*).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterRules {
    /// Whether filters that no key names are allowed.
    others: bool,
    /// A filter's name and whether it is allowed; later entries override earlier ones.
    named: Vec<(BString, bool)>,
    /// The largest depth of a tree filter.
    pub tree_depth_max: u64,
}

impl FilterRules {
    /// Whether the filter of this name may be used.
    pub fn allows(&self, name: &str) -> bool {
        self.named.iter().rev().find(|(named, _)| named == name).map_or(self.others, |(_, allowed)| *allowed)
    }
}

/// What core.fsync says must be forced to disk (git-config, core.fsync). Unset means everything: a push that was
/// reported as done survives a power loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of core.fsync")]
pub struct Fsync {
    pub loose_object: bool,
    pub pack: bool,
    pub pack_metadata: bool,
    pub reference: bool,
}

/// The owner's secret receive.certNonceSeed; Debug does not show it.
#[derive(Clone)]
pub struct Seed(BString);

impl Seed {
    /// The bytes of the secret.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed")
    }
}

macro_rules! settings {
    ($( #[doc = $doc:literal] $field:ident : $type:ty = $default:expr, $reader:ident [$($key:literal),+]; )+) => {
        /// A repository's configuration, read once. Sizes in bytes, times as named.
        #[derive(Debug, Clone)]
        pub struct Settings { $( #[doc = $doc] pub $field: $type, )+ }

        /// Every key we read; docs/configuration.md names the same.
        pub static KEYS: &[&str] = &[ $( $($key),+ ),+ ];

        impl Settings {
            /// Reads every row.
            ///
            /// # Errors
            /// Names key and file of a value that cannot be understood.
            pub fn read(entries: &Entries, mode: AccessMode) -> anyhow::Result<Self> {
                Ok(Settings { $( $field: match $reader(entries, &[$($key),+])? { Some(value) => value.into(), None => ($default)(mode) }, )+ })
            }
        }
    };
}

settings! {
    /// The hash function of object IDs.
    object_format: gix_hash::Kind = |_| gix_hash::Kind::Sha1, object_format ["extensions.objectFormat"];
    /// The format of refs, `files` or `reftable`, and their directory if it is another one: `reftable://PATH`.
    ref_storage: RefStorage = |_| RefStorage::default(), ref_storage ["extensions.refStorage"];
    /// A promisor remote, which has the objects that are missing here.
    partial_clone: Option<BString> = |_| None, text ["extensions.partialClone"];
    /// Whether there is no work tree; unset: the path of the git directory decides.
    bare: Option<bool> = |_| None, truth ["core.bare"];
    /// The work tree.
    worktree: Option<BString> = |_| None, text ["core.worktree"];

    /// Whether fetches are served.
    http_uploadpack: Option<bool> = |_| None, truth ["http.uploadpack"];
    /// Whether pushes are served; unset in `webserver` mode: only to authenticated users.
    http_receivepack: Option<bool> = |_| None, truth ["http.receivepack"];
    /// Whether stored files are served; unset: yes in `webserver` mode, no in `tokens` mode.
    http_getanyfile: Option<bool> = |_| None, truth ["http.getanyfile"];
    /// The maximum size of a fetch request as it arrives.
    http_max_request_buffer: Option<u64> = |_| None, size ["http.maxRequestBuffer"];

    /// Seconds of silence after which a fetch sends a keep-alive; 0: never.
    upload_keep_alive_s: u64 = |_| 5, seconds ["uploadpack.keepAlive"];
    /// A shell command that makes packs; only the operator's configuration counts.
    pack_objects_hook: Option<BString> = |_| None, text_of_operator ["uploadpack.packObjectsHook"];
    /// What clients may want besides visible tips; the last of git's own keys that applies counts.
    git_wants: GitWants = |_| GitWants::default(), git_wants ["uploadpack.allowTipSHA1InWant", "uploadpack.allowReachableSHA1InWant", "uploadpack.allowAnySHA1InWant"];
    /// Whether clients may leave objects out of a fetch (partial clones); unset: yes in `tokens` mode, no in `webserver` mode.
    allow_filter: bool = |mode| mode == AccessMode::Tokens, truth ["uploadpack.allowFilter"];
    /// Which filters clients may use; the last key that applies counts.
    filters: FilterRules = |_| FilterRules { others: true, named: Vec::new(), tree_depth_max: u64::MAX }, filters ["uploadpackfilter.allow", "uploadpackfilter.<filter>.allow", "uploadpackfilter.tree.maxDepth"];
    /// Whether clients may ask for refs by their names.
    ref_in_want: bool = |_| false, truth ["uploadpack.allowRefInWant"];
    /// Whether clients may get whole answers, not only packs, through side bands.
    sideband_all: bool = |_| false, truth ["uploadpack.allowSidebandAll"];
    /// Blobs that clients may fetch elsewhere: `<object> <pack hash> <uri>`, any number of times.
    blob_packfile_uris: Vec<BlobUri> = |_| Vec::new(), blob_uris ["uploadpack.blobPackfileUri"];
    /// Whole packs that clients may fetch elsewhere: `<pack hash> <uri>`, any number of times.
    packfile_uris: Vec<PackUri> = |_| Vec::new(), pack_uris ["artifacts.packfileUri"];
    /// Whether the session ID is advertised.
    advertise_sid: bool = |_| false, truth ["transfer.advertiseSID"];
    /// Whether clients may ask for the sizes of objects.
    advertise_object_info: bool = |_| false, truth ["transfer.advertiseObjectInfo"];
    /// Whether the bundles that `bundle.*` names are advertised.
    advertise_bundle_uris: bool = |_| false, truth ["uploadpack.advertiseBundleURIs"];
    /// Whether promisor remotes are advertised.
    promisor_advertise: bool = |_| false, truth ["promisor.advertise"];
    /// What is advertised of them besides name and URL: partialCloneFilter, token.
    promisor_send_fields: Vec<BString> = |_| Vec::new(), words ["promisor.sendFields"];
    /// The promisor remotes, in git's order.
    promisor_remotes: Vec<PromisorRemote> = |_| Vec::new(), promisor_remotes ["remote.<name>.promisor", "remote.<name>.partialCloneFilter", "remote.<name>.url", "remote.<name>.token"];
    /// Whether a HEAD that names a branch without commits is reported.
    unborn: Unborn = |_| Unborn::Advertise, unborn ["lsrefs.unborn"];

    /// Pushes of fewer objects than this become loose objects.
    unpack_limit: u64 = |_| 100, limit ["receive.unpackLimit", "transfer.unpackLimit"];
    /// The maximum size of a pushed pack; 0 or unset: no limit.
    max_input_size: Option<u64> = |_| None, size ["receive.maxInputSize"];
    /// Whether every pushed object is checked; unset: in `tokens` mode for what harms clients, in `webserver` mode not at all.
    fsck_objects: Option<bool> = |_| None, truth ["receive.fsckObjects", "transfer.fsckObjects"];
    /// The severity of each finding of these checks (`error`, `warn` or `ignore`), and files that list objects to be accepted anyway.
    fsck: Changes = |_| Changes::default(), fsck ["receive.fsck.<msg-id>", "receive.fsck.skipList"];
    /// Seconds of silence after which a push sends a keep-alive; 0: never.
    receive_keep_alive_s: u64 = |_| 5, seconds ["receive.keepAlive"];
    /// Pushes to a branch that is checked out: `refuse`, `warn`, `ignore`, or `updateInstead`, which needs an installed git or the hook push-to-checkout.
    deny_current_branch: DenyCurrent = |_| DenyCurrent::Unset, deny ["receive.denyCurrentBranch"];
    /// Deletion of the branch that HEAD names.
    deny_delete_current: DenyCurrent = |_| DenyCurrent::Unset, deny ["receive.denyDeleteCurrent"];
    /// Whether branches cannot be deleted.
    deny_deletes: bool = |_| false, truth ["receive.denyDeletes"];
    /// Whether branches can only move forward.
    deny_non_fast_forwards: bool = |_| false, truth ["receive.denyNonFastForwards"];
    /// Whether atomic pushes are offered.
    advertise_atomic: bool = |_| true, truth ["receive.advertiseAtomic"];
    /// Whether push options are offered.
    advertise_push_options: bool = |_| false, truth ["receive.advertisePushOptions"];
    /// The secret from which nonces of push certificates are made; if set, signed pushes are offered.
    cert_nonce_seed: Option<Seed> = |_| None, seed ["receive.certNonceSeed"];
    /// The maximum age in seconds of a nonce that another request issued.
    cert_nonce_slop_s: u64 = |_| 0, bytes ["receive.certNonceSlop"];
    /// The program that verifies OpenPGP signatures of push certificates.
    gpg_program: Option<PathBuf> = |_| None, path_of_any ["gpg.program", "gpg.openpgp.program"];
    /// The program that verifies X.509 signatures.
    gpg_x509_program: Option<PathBuf> = |_| None, path ["gpg.x509.program"];
    /// The program that verifies SSH signatures.
    gpg_ssh_program: Option<PathBuf> = |_| None, path ["gpg.ssh.program"];
    /// The file of known SSH signers.
    gpg_ssh_allowed_signers: Option<PathBuf> = |_| None, path ["gpg.ssh.allowedSignersFile"];
    /// The file of revoked SSH keys.
    gpg_ssh_revocation_file: Option<PathBuf> = |_| None, path ["gpg.ssh.revocationFile"];
    /// Whether clients may send deltas by offset.
    prefer_ofs_delta: bool = |_| true, truth ["repack.useDeltaBaseOffset"];
    /// Whether a push from a shallow clone may make this repository shallow.
    shallow_update: bool = |_| false, truth ["receive.shallowUpdate"];
    /// Ref updates that are left to the hook proc-receive: `[adm!]:PREFIX`, any number of times.
    proc_receive_refs: Vec<Selector> = |_| Vec::new(), selectors ["receive.procReceiveRefs"];
    /// Whether an installed git runs maintenance after a push if it is due; unset: if one of the other keys asks for it.
    auto_maintenance: bool = |_| false, auto_maintenance ["receive.autogc", "maintenance.auto", "gc.auto", "gc.autoPackLimit"];
    /// Whether that maintenance runs detached; otherwise the client waits for it.
    auto_maintenance_detach: bool = |_| true, truth ["maintenance.autoDetach", "gc.autoDetach"];
    /// Whether info/refs and objects/info/packs are rewritten after a push.
    update_server_info: bool = |_| false, truth ["receive.updateServerInfo"];
    /// Refs that fetches do not see.
    upload_hide_refs: Vec<BString> = |_| Vec::new(), texts ["transfer.hideRefs", "uploadpack.hideRefs"];
    /// Refs that pushes do not see and cannot change.
    receive_hide_refs: Vec<BString> = |_| Vec::new(), texts ["transfer.hideRefs", "receive.hideRefs"];

    /// Whether packs get a `.rev` file.
    write_reverse_index: bool = |_| true, truth ["pack.writeReverseIndex"];
    /// Whether a commit-graph is read.
    read_commit_graph: bool = |_| true, truth ["core.commitGraph"];
    /// Whether `maintenance` writes a commit-graph.
    commit_graph: bool = |_| true, all_true ["core.commitGraph", "gc.writeCommitGraph"];
    /// Whether `maintenance` writes a multi-pack-index.
    multi_pack_index: bool = |_| true, truth ["core.multiPackIndex"];
    /// Whether `maintenance` writes reachability bitmaps; unset: in bare repositories.
    write_bitmaps: Option<bool> = |_| None, truth ["repack.writeBitmaps", "pack.writeBitmaps"];
    /// Whether objects must never be removed.
    precious_objects: bool = |_| false, truth ["extensions.preciousObjects"];
    /// The zlib level for packs.
    pack_compression: Option<u32> = |_| None, level ["pack.compression", "core.compression"];
    /// The number of threads that read trees, make deltas or resolve them; 0: one per processor, at most eight.
    pack_threads: u64 = |_| 0, bytes ["pack.threads"];
    /// The zlib level of loose objects.
    loose_compression: u32 = |_| 1, level ["core.looseCompression", "core.compression"];
    /// Objects larger than this are held in memory only if that cannot be avoided.
    big_file_threshold: u64 = |_| 512 << 20, bytes ["core.bigFileThreshold"];
    /// What is forced to disk; unset: everything.
    fsync: Fsync = |_| Fsync { loose_object: true, pack: true, pack_metadata: true, reference: true }, fsync ["core.fsync"];
    /// Whether each file is forced to disk by itself (`fsync`, `writeout-only`), or many at once where possible (`batch`, unset).
    fsync_each: bool = |_| false, fsync_method ["core.fsyncMethod"];
    /// How many directories deep pushed trees may be; most of git's commands go no deeper.
    tree_depth_max: i64 = |_| 2048, number ["core.maxTreeDepth"];
    /// A command for the shell that names the tips of an alternate, whose path is its argument.
    alternate_refs_command: Option<BString> = |_| None, text ["core.alternateRefsCommand"];
    /// Which refs of alternates count, where no command says so: beginnings of names, separated by spaces.
    alternate_refs_prefixes: Option<BString> = |_| None, text ["core.alternateRefsPrefixes"];
    /// Modes of new files.
    sharing: Sharing = |_| Sharing::Umask, sharing ["core.sharedRepository"];
    /// Which refs get a reflog; unset: existing ones in bare repositories, branches in others.
    log_all_ref_updates: Option<LogRefs> = |_| None, log_refs ["core.logAllRefUpdates"];
    /// Where hooks are.
    hooks_path: Option<PathBuf> = |_| None, path ["core.hooksPath"];
    /// Whether the log says which hooks are ignored because they may not be executed.
    ignored_hook: bool = |_| true, truth ["advice.ignoredHook"];
    /// Milliseconds a ref's lock is waited for; negative: for ever.
    files_ref_lock_timeout_ms: i64 = |_| 100, number ["core.filesRefLockTimeout"];
    /// Milliseconds the lock of packed-refs is waited for; negative: for ever.
    packed_refs_timeout_ms: i64 = |_| 1000, number ["core.packedRefsTimeout"];
    /// Milliseconds the lock of a reftable is waited for; -1: for ever.
    reftable_lock_timeout_ms: i64 = |_| 100, timeout ["reftable.lockTimeout"];
    /// The bytes of a block in tables that are written; no ref and no line of a log is longer.
    reftable_block_size: u32 = |_| 4096, block_size ["reftable.blockSize"];
    /// Every how many records a table repeats a full name.
    reftable_restart_interval: u16 = |_| 16, restart_interval ["reftable.restartInterval"];
    /// Whether large tables list the objects that their refs name.
    reftable_index_objects: bool = |_| true, truth ["reftable.indexObjects"];
    /// How many times larger than the next newer table each must be; a push merges tables that are not.
    reftable_geometric_factor: u8 = |_| 2, geometric_factor ["reftable.geometricFactor"];

    /// The repository's identity: tokens that carry another one are refused.
    artifacts_id: Option<BString> = |_| None, text ["artifacts.id"];
    /// `tokens` mode: whether it may be read without a token.
    anonymous_read: bool = |_| false, truth ["artifacts.anonymousRead"];
    /// `tokens` mode: whether pushes are refused.
    read_only: bool = |_| false, truth ["artifacts.readOnly"];
    /// Which objects may be asked for: any, commits, reachable, advertised.
    wants: Option<Wants> = |_| None, wants ["artifacts.wants"];
    /// Versions of the protocol that fetches may be asked in: 0, 1, 2. Pushes go on in 0 and 1.
    protocol_versions: Versions = |_| Versions::ALL, versions ["artifacts.protocolVersions"];
    /// The most ref updates of one push; 0 or unset: a built-in limit.
    max_ref_updates: Option<u64> = |_| None, size ["artifacts.maxRefUpdates"];
    /// The most push options of one push; 0 or unset: a built-in limit.
    max_push_options: Option<u64> = |_| None, size ["artifacts.maxPushOptions"];
    /// The most bytes of one pushed object; 0 or unset: any. Objects that are there already count no more.
    max_object_size: Option<u64> = |_| None, size ["artifacts.maxObjectSize"];
    /// The most bytes the repository's objects may take with a push, as they are stored; 0 or unset: any. Alternates do not count.
    max_repository_size: Option<u64> = |_| None, size ["artifacts.maxRepositorySize"];
}

impl Settings {
    /// How many threads share work (`pack.threads`); 0 means one for each processor.
    pub fn threads(&self) -> usize {
        usize::try_from(self.pack_threads).unwrap_or(usize::MAX)
    }

    /// Whether objects may be missing because promisor remotes have them.
    pub fn is_partial_clone(&self) -> bool {
        !self.promisor_remotes.is_empty()
    }

    /// How files of a kind are forced to disk, where `wanted` says whether core.fsync asks for it.
    pub fn sync(&self, wanted: bool) -> Sync {
        match (wanted, self.fsync_each) {
            (false, _) => Sync::Never,
            (true, true) => Sync::Each,
            (true, false) => Sync::Together,
        }
    }

    /// Whether the git directory has no work tree.
    pub fn is_bare(&self, git_dir: &std::path::Path) -> bool {
        self.bare.unwrap_or_else(|| self.worktree.is_none() && git_dir.file_name().is_none_or(|name| name != ".git"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::config::ConfigSources;

    fn settings(pairs: &[(&str, &str)]) -> anyhow::Result<Settings> {
        let overrides = pairs.iter().map(|(key, value)| ((*key).into(), Some((*value).into()))).collect();
        let sources = ConfigSources { overrides, ..Default::default() };
        Settings::read(&Entries::default().with_overrides(&sources), AccessMode::Tokens)
    }

    #[test]
    fn defaults_are_gits() {
        let settings = settings(&[]).unwrap();
        assert_eq!(settings.unpack_limit, 100);
        assert_eq!(settings.deny_current_branch, DenyCurrent::Unset);
        assert!(settings.advertise_atomic && settings.write_reverse_index);
        assert!(settings.fsync.reference, "nothing set means everything is forced to disk");
    }

    #[test]
    fn the_more_special_key_wins_and_a_negative_limit_is_none() {
        let check = |pairs: &[(&str, &str)], expected: u64| assert_eq!(settings(pairs).unwrap().unpack_limit, expected);
        check(&[("transfer.unpackLimit", "1"), ("receive.unpackLimit", "2")], 2);
        check(&[("transfer.unpackLimit", "1")], 1);
        check(&[("receive.unpackLimit", "-1"), ("transfer.unpackLimit", "3")], 3);
        check(&[("receive.unpackLimit", "010")], 8);
        check(&[("receive.unpackLimit", "0x1k")], 1024);
    }

    #[test]
    fn hidden_refs_keep_their_order_across_keys() {
        let settings = settings(&[
            ("receive.hideRefs", "refs/a"),
            ("transfer.hideRefs", "!refs/a"),
            ("uploadpack.hideRefs", "refs/b"),
        ])
        .unwrap();
        assert_eq!(settings.receive_hide_refs, ["refs/a", "!refs/a"]);
        assert_eq!(settings.upload_hide_refs, ["!refs/a", "refs/b"]);
    }

    #[test]
    fn what_cannot_be_understood_names_its_key() {
        for (key, value) in [
            ("lsrefs.unborn", "maybe"),
            ("uploadpackfilter.tree.maxdepth", "-1"),
            ("uploadpackfilter.blob:none.allow", "perhaps"),
            ("remote.origin.promisor", "perhaps"),
            ("receive.unpacklimit", "many"),
            ("artifacts.wants", "all"),
            ("artifacts.protocolversions", "2 3"),
            ("artifacts.packfileuri", "1234 https://host/x"),
            ("uploadpack.blobpackfileuri", "https://host/x"),
            ("core.sharedrepository", "0077"),
            ("core.sharedrepository", "400"),
        ] {
            let error = settings(&[(key, value)]).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(value), "{error}");
        }
    }

    #[test]
    fn addresses_of_packs_are_by_names_of_the_repositorys_hash() {
        let (short, long) = ("1".repeat(40), "1".repeat(64));
        for (format, right, wrong) in [("sha1", &short, &long), ("sha256", &long, &short)] {
            let read = |key: &str, value: String| {
                settings(&[("core.repositoryformatversion", "1"), ("extensions.objectformat", format), (key, &value)])
            };
            let blob = |blob: &str, pack: &str| read("uploadpack.blobpackfileuri", format!("{blob} {pack} https://x"));
            assert!(blob(right, right).is_ok());
            assert!(blob(right, wrong).is_err() && blob(wrong, right).is_err());
            let pack = |pack: &str| read("artifacts.packfileuri", format!("{pack} https://x"));
            assert!(pack(right).is_ok() && pack(wrong).is_err());
        }
    }

    #[test]
    fn a_key_that_needs_a_value_is_refused_without_one() {
        for key in [
            "transfer.hiderefs",
            "uploadpack.hiderefs",
            "receive.hiderefs",
            "receive.procreceiverefs",
            "receive.certnonceseed",
            "core.hookspath",
            "core.fsync",
            "core.alternaterefscommand",
        ] {
            let sources = ConfigSources { overrides: vec![(key.into(), None)], ..Default::default() };
            let error = Settings::read(&Entries::default().with_overrides(&sources), AccessMode::Pipe).unwrap_err();
            assert_eq!(error.to_string(), format!("missing value for '{key}' in command-line config"));
        }
    }

    #[test]
    fn who_shares_a_repository_is_a_word_or_an_octal_number() {
        let check = |value: &str, expected: Sharing| {
            assert_eq!(settings(&[("core.sharedRepository", value)]).unwrap().sharing, expected, "{value}");
        };
        for value in ["umask", "false", "0", "00", ""] {
            check(value, Sharing::Umask);
        }
        for value in ["group", "true", "1", "01", "8"] {
            check(value, Sharing::Group);
        }
        for value in ["all", "world", "everybody", "2"] {
            check(value, Sharing::Everybody);
        }
        check("0640", Sharing::Mode(0o640));
        check("640", Sharing::Mode(0o640));
        check("660", Sharing::Mode(0o660));
        check("0777", Sharing::Mode(0o666));
        check("2770", Sharing::Mode(0o660));
    }

    #[test]
    fn words_of_checks_and_lists_without_a_name_are_refused() {
        let error = settings(&[("receive.fsck.missingEmail", "fatal")]).unwrap_err().to_string();
        assert_eq!(
            error,
            "bad config value 'fatal' for 'receive.fsck.missingemail': error, warn or ignore is expected"
        );
        assert!(settings(&[("receive.fsck.unknown", "fatal")]).is_ok());
        let overrides = vec![("receive.fsck.skipList".into(), None)];
        let sources = ConfigSources { overrides, ..Default::default() };
        let error = Settings::read(&Entries::default().with_overrides(&sources), AccessMode::Pipe).unwrap_err();
        assert_eq!(error.to_string(), "unable to parse 'receive.fsck.skiplist' from command-line config");
    }

    #[test]
    fn maintenance_is_run_where_a_key_asks_for_it_and_none_forbids_it() {
        let check = |pairs: &[(&str, &str)], expected: bool| {
            assert_eq!(settings(pairs).unwrap().auto_maintenance, expected, "{pairs:?}");
        };
        check(&[], false);
        check(&[("receive.autogc", "true")], true);
        check(&[("receive.autogc", "true"), ("gc.auto", "0")], false);
        check(&[("receive.autogc", "true"), ("gc.auto", "0"), ("maintenance.auto", "true")], true);
        check(&[("receive.autogc", "true"), ("maintenance.auto", "false")], false);
        check(&[("receive.autogc", "false"), ("gc.auto", "100")], false);
        check(&[("gc.auto", "100")], true);
        check(&[("gc.autoPackLimit", "1")], true);
        check(&[("gc.auto", "0"), ("gc.autoPackLimit", "1")], false);
        check(&[("maintenance.auto", "true")], true);
    }

    #[test]
    fn a_set_core_fsync_is_obeyed() {
        let check = |value: &str, expected: [bool; 4]| {
            let fsync = settings(&[("core.fsync", value)]).unwrap().fsync;
            assert_eq!([fsync.loose_object, fsync.pack, fsync.pack_metadata, fsync.reference], expected, "{value}");
        };
        check("none", [false; 4]);
        check("all", [true; 4]);
        check("reference", [false, true, true, true]);
        check("none,loose-object", [true, false, false, false]);
        check("committed,-pack", [true, false, true, true]);
        check("commit-graph,index", [false, true, true, false]);
        check("none,-loose-objekt", [false; 4]);
        // Misspelt, or known to a newer git: everything is forced to disk, so nothing is lost.
        check("commited", [true; 4]);
        check("none,loose-objekt", [true; 4]);
    }
}

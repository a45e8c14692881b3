//! A bare repository, created and examined by an installed git, for the tests of this directory.

use super::transaction::{RefChange, ReflogEntry, TablePolicy};
use super::{Format, LockPolicy, LogRefs, RefStore, RefTransaction, Row, TransactionHook, TransactionState};
use crate::auth::{Grant, Scope};
use crate::durable::{self, Sharing, Sync};
use crate::protocol::report::Refusal;
use bstr::{BStr, BString, ByteSlice};
use gix_hash::ObjectId;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

pub(super) struct Repo {
    root: PathBuf,
    hash: gix_hash::Kind,
    format: Format,
}

impl Repo {
    pub(super) fn new() -> Self {
        Repo::with_hash(gix_hash::Kind::Sha1)
    }

    pub(super) fn with_hash(hash: gix_hash::Kind) -> Self {
        Repo::with_format(hash, Format::Files)
    }

    pub(super) fn with_format(hash: gix_hash::Kind, format: Format) -> Self {
        let root = std::env::temp_dir().join(durable::unique("refs-"));
        fs::create_dir(&root).unwrap();
        let repo = Repo { root, hash, format };
        let objects = format!("--object-format={hash}");
        let refs = match format {
            Format::Files => "--ref-format=files",
            Format::Reftable => "--ref-format=reftable",
        };
        repo.git(&["init", "--quiet", "--bare", &objects, refs, "--initial-branch=main", "."]);
        repo
    }

    /// A copy that a test may damage.
    #[cfg(feature = "failpoints")]
    pub(super) fn copy(&self) -> Self {
        fn copy(from: &Path, to: &Path) {
            fs::create_dir(to).unwrap();
            for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
                let to = to.join(entry.file_name());
                if entry.file_type().unwrap().is_dir() {
                    copy(&entry.path(), &to);
                } else {
                    fs::copy(entry.path(), &to).unwrap();
                }
            }
        }
        let root = std::env::temp_dir().join(durable::unique("refs-"));
        copy(&self.root, &root);
        Repo { root, hash: self.hash, format: self.format }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.root
    }

    pub(super) fn store(&self) -> RefStore {
        RefStore::new(self.format, self.root.clone(), self.root.clone(), self.hash)
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = crate::testing::command("git");
        command.args(arguments).current_dir(&self.root).env("HOME", &self.root);
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_DIR", &self.root);
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "A U Thor").env(format!("GIT_{role}_EMAIL"), "author@example.com");
            command.env(format!("GIT_{role}_DATE"), "1700000000 +0000");
        }
        command
    }

    pub(super) fn git(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", output.stderr.as_bstr());
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    pub(super) fn git_with_input(&self, arguments: &[&str], input: &str) -> String {
        use std::io::Write;
        let mut child = self.command(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "git {arguments:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// A commit of the empty tree, different for each message.
    pub(super) fn commit(&self, message: &str) -> ObjectId {
        let tree = self.git_with_input(&["mktree"], "");
        id(&self.git(&["commit-tree", "-m", message, &tree]))
    }

    pub(super) fn tag(&self, name: &str, target: ObjectId) -> ObjectId {
        let text =
            format!("object {target}\ntype commit\ntag {name}\ntagger A <a@example.com> 1700000000 +0000\n\nx\n");
        id(&self.git_with_input(&["mktag"], &text))
    }

    pub(super) fn write(&self, path: &str, content: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(super) fn lines(&self, path: &str) -> Vec<String> {
        let content = fs::read_to_string(self.root.join(path)).unwrap_or_default();
        content.lines().map(str::to_owned).collect()
    }

    /// Makes changes, each of which may fail alone.
    pub(super) fn each(&self, changes: &[RefChange]) -> Vec<Result<(), Refusal>> {
        commit(&self.store(), &policy(), changes, false, &mut Calls::default())
    }

    /// Makes changes atomically.
    pub(super) fn atomic(&self, changes: &[RefChange]) -> Vec<Result<(), Refusal>> {
        commit(&self.store(), &policy(), changes, true, &mut Calls::default())
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// `name id symref-target` of each ref, according to git.
    pub(super) fn refs(&self) -> String {
        self.git(&["for-each-ref", "--format=%(refname) %(objectname) %(symref)"])
            .lines()
            .map(|line| format!("{}\n", line.trim_end()))
            .collect()
    }

    /// The same according to our own reader.
    pub(super) fn our_refs(&self, prefixes: &[&str]) -> String {
        list(&self.store(), prefixes)
    }

    /// Checks that nothing is damaged, and that we see the same refs as git.
    pub(super) fn check(&self) {
        let problems = self.git(&["fsck", "--no-progress", "--no-dangling", "--connectivity-only"]);
        assert_eq!(problems, "");
        assert_eq!(self.our_refs(&[]), self.refs());
    }
}

impl Drop for Repo {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

pub(super) fn id(hex: &str) -> ObjectId {
    ObjectId::from_hex(hex.as_bytes()).unwrap()
}

pub(super) fn list(store: &RefStore, prefixes: &[&str]) -> String {
    let prefixes: Vec<_> = prefixes.iter().map(|prefix| (*prefix).into()).collect();
    let mut lines = String::new();
    let mut each = |row: &Row<'_>| {
        let target = row.symref_target.map(|target| format!(" {target}")).unwrap_or_default();
        lines.push_str(&format!("{} {}{target}\n", row.name, row.id.id()));
        Ok(())
    };
    store.for_each(&prefixes, &mut each).unwrap();
    lines
}

pub(super) fn policy() -> LockPolicy {
    LockPolicy {
        ref_timeout: Duration::from_millis(100),
        packed_timeout: Duration::from_millis(1000),
        tables: TablePolicy {
            lock_timeout: Duration::from_millis(100),
            block_size: 4096,
            restart_interval: 16,
            index_objects: true,
            geometric_factor: 2,
        },
        sync: Sync::Never,
        sharing: Sharing::Umask,
    }
}

/// A change without a reflog entry. In `old`, `Some(None)` means that the ref must not exist.
pub(super) fn change(name: &str, old: Option<Option<ObjectId>>, new: Option<ObjectId>) -> RefChange {
    let old = old.map(|old| old.unwrap_or(ObjectId::null(gix_hash::Kind::Sha1)));
    RefChange { name: name.into(), old, new, reflog: None }
}

/// The same change with a reflog entry.
pub(super) fn logged(change: RefChange, create: bool) -> RefChange {
    logged_as(change, if create { LogRefs::Always } else { LogRefs::Existing })
}

pub(super) fn logged_as(change: RefChange, create: LogRefs) -> RefChange {
    let who = "A U Thor <author@example.com>".into();
    let reflog = Some(Rc::new(ReflogEntry { who, when: 1_700_000_000, message: "push".into(), create }));
    RefChange { reflog, ..change }
}

pub(super) fn commit(
    store: &RefStore,
    policy: &LockPolicy,
    changes: &[RefChange],
    atomic: bool,
    hook: &mut dyn TransactionHook,
) -> Vec<Result<(), Refusal>> {
    let proof = Grant::new(Scope::Write, None).writable().unwrap();
    let mut transaction = RefTransaction::begin(store, &proof, policy.clone(), hook);
    for change in changes {
        transaction.add([change.clone()]);
    }
    if atomic { transaction.commit_atomic() } else { transaction.commit_each() }
}

/// Records the calls, and vetoes a state if told to.
#[derive(Default)]
pub(super) struct Calls {
    pub(super) veto: Option<TransactionState>,
    pub(super) states: Vec<(TransactionState, Vec<String>)>,
    pub(super) details: Vec<String>,
}

impl TransactionHook for Calls {
    fn state(&mut self, state: TransactionState, updates: &[(ObjectId, ObjectId, BString)]) -> bool {
        self.states.push((state, updates.iter().map(|(_, _, name)| name.to_string()).collect()));
        self.veto != Some(state)
    }

    fn refused(&mut self, name: &BStr, detail: &str) {
        self.details.push(format!("{name}: {detail}"));
    }
}

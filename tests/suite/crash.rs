//! A push dies, or its disk fails once, at every operation that changes the disk: the repository stays whole, each ref
//! is old or new, and the next push succeeds.
//!
//! Each run tries a sample of these points, and all of them with `CRASH_POINTS=all`. Only builds with fail points have
//! this.

mod bundles;
mod maintenance;

use crate::support::{NULL, PUSH, Ran, Repo, Scratch, band, git_command, packets, updates};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How many points of a scenario are tried, unless all are.
const SAMPLE: usize = 8;

/// What happens at a point.
const ACTIONS: [&str; 3] = ["kill", "enospc", "eio"];

/// A repository, and a push into it.
struct Scenario {
    scratch: Scratch,
    atomic: bool,
    /// Name, old and new value; `NULL` for none.
    changes: Vec<(String, String, String)>,
    pack: Vec<u8>,
    /// A pack without objects, for later pushes that need none.
    empty: Vec<u8>,
    /// A commit that the repository has.
    base: String,
}

/// The outcome of a push.
struct Pushed {
    /// The signal that ended the process.
    signal: Option<i32>,
    report: Vec<String>,
    operations: Vec<String>,
}

impl Scenario {
    /// `fill` creates refs in the repository. It gets the repository, a work tree and three commits, of which the
    /// repository has the first, and returns the changes to push.
    fn new(format: &str, fill: impl FnOnce(&Repo, &Repo, &[String; 3]) -> Vec<(String, String, String)>) -> Self {
        let scratch = Scratch::new();
        let (served, work) = (Repo::at(scratch.path().join("served.git")), Repo::at(scratch.path().join("work")));
        for repo in [&served, &work] {
            std::fs::create_dir(&repo.path).unwrap();
        }
        served.git(&["init", "-q", "--bare", &format!("--ref-format={format}"), "."]);
        work.git(&["init", "-q"]);
        let commits = ["one", "two", "three"].map(|text| work.commit(text));
        work.git(&["push", "-q", served.path.to_str().unwrap(), &format!("{}:refs/heads/main", commits[0])]);
        let changes = fill(&served, &work, &commits);
        let (pack, empty) = (work.pack(&format!("{}\n^{}\n", commits[2], commits[0])), work.pack(""));
        let [base, ..] = commits;
        Scenario { scratch, atomic: false, changes, pack, empty, base }
    }

    fn atomic(mut self) -> Self {
        self.atomic = true;
        self
    }

    fn served(&self) -> PathBuf {
        self.scratch.path().join("served.git")
    }

    fn push(&self, to: &Path, list: &[(&str, &str, &str)], point: Option<String>) -> Pushed {
        let log = to.with_extension("log");
        let _ = std::fs::remove_file(&log);
        let mut command = Command::new(crate::support::PROGRAM);
        command.args(["receive-pack", "--stateless-rpc"]).arg(to).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", to).env("GIT_CONFIG_NOSYSTEM", "1");
        command.env("ARTIFACTS_FAILPOINT_LOG", &log).envs(point.map(|point| ("ARTIFACTS_FAILPOINT", point)));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let capabilities = if self.atomic { format!("{PUSH} atomic") } else { PUSH.to_owned() };
        let mut body = updates(list, &capabilities);
        if list.iter().any(|(_, new, _)| *new != NULL) {
            let needs_objects = list.iter().any(|(_, new, _)| *new != self.base && *new != NULL);
            body.extend_from_slice(if needs_objects { &self.pack } else { &self.empty });
        }
        let mut stdin = child.stdin.take().unwrap();
        let writer = std::thread::spawn(move || {
            let _ = stdin.write_all(&body);
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        let report = packets(&band(&output.stdout, 1));
        let operations = std::fs::read_to_string(&log).unwrap_or_default();
        Pushed { signal: output.status.signal(), report, operations: operations.lines().map(str::to_owned).collect() }
    }

    fn list(&self) -> Vec<(&str, &str, &str)> {
        self.changes.iter().map(|(name, old, new)| (old.as_str(), new.as_str(), name.as_str())).collect()
    }

    /// Pushes with operation number `n` going wrong; returns what that operation was, or `None` if there are fewer.
    fn fail(&self, n: usize, action: &str) -> Option<String> {
        let copy = Copy::of(&self.served());
        let pushed = self.push(&copy.repo.path, &self.list(), Some(format!("{n} {action}")));
        let operation = pushed.operations.get(n)?.replace(copy.repo.path.to_str().unwrap(), "");
        let case = format!("{n} {operation} {action}: {:?}", pushed.report);
        assert_eq!(pushed.signal.is_some(), action == "kill", "{case}");
        copy.repo.is_whole(&case);
        let refs = copy.refs();
        let value = |name: &str| refs.get(name).map_or(NULL, String::as_str);
        for (name, old, new) in &self.changes {
            assert!([old.as_str(), new].contains(&value(name)), "{case}: {name} is {}", value(name));
            let promised = pushed.report.contains(&format!("ok {name}"));
            assert!(!promised || value(name) == new, "{case}: {name} was promised");
        }
        if self.atomic {
            let new = self.changes.iter().filter(|(name, _, new)| value(name) == new).count();
            assert!(new == 0 || new == self.changes.len(), "{case}: {new} are new");
        }
        // The next push makes the changes that this one did not, and one more.
        let mut next: Vec<(&str, &str, &str)> = self.list();
        next.retain(|(_, new, name)| value(name) != *new);
        next.push((NULL, &self.base, "refs/heads/after"));
        let pushed = self.push(&copy.repo.path, &next, None);
        assert_eq!(pushed.report[0], "unpack ok", "{case}, next: {:?}", pushed.report);
        for (_, _, name) in &next {
            assert!(pushed.report.contains(&format!("ok {name}")), "{case}, next: {:?}", pushed.report);
        }
        copy.repo.is_whole(&format!("{case}, next"));
        let refs = copy.refs();
        for (name, _, new) in &self.changes {
            assert_eq!(refs.get(name).map_or(NULL, String::as_str), new, "{case}, next: {name}");
        }
        assert_eq!(copy.repo.leftovers(), Vec::<PathBuf>::new(), "{case}, next");
        Some(operation)
    }

    /// Tries the points; returns how many operations there are.
    fn run(&self, what: &str) -> usize {
        let count = {
            let copy = Copy::of(&self.served());
            let pushed = self.push(&copy.repo.path, &self.list(), None);
            assert_eq!(pushed.report.iter().filter(|line| line.starts_with("ok ")).count(), self.changes.len());
            assert_eq!(copy.repo.leftovers(), Vec::<PathBuf>::new());
            pushed.operations.len()
        };
        let mut tried = 0;
        for (offset, action) in ACTIONS.iter().enumerate() {
            tried += sample(count, offset).filter(|n| self.fail(*n, action).is_some()).count();
        }
        println!("{what}: {tried} points tried, of {count} operations and {} actions", ACTIONS.len());
        assert!(tried >= ACTIONS.len() * count.min(SAMPLE) * 3 / 4, "{what}: {tried} of {count}");
        tried
    }
}

/// Which of `count` operations are tried with the action at `offset`: each action has its own part of the sample.
fn sample(count: usize, offset: usize) -> impl Iterator<Item = usize> {
    let all = std::env::var("CRASH_POINTS").is_ok_and(|value| value == "all");
    let step = if all { 1 } else { count.div_ceil(SAMPLE) };
    (0..count).skip(offset * step / ACTIONS.len()).step_by(step)
}

/// A copy that a test may damage.
struct Copy {
    _scratch: Scratch,
    repo: Repo,
}

impl Copy {
    fn of(served: &Path) -> Self {
        let scratch = Scratch::new();
        let path = scratch.path().join("copy.git");
        Self::make(served, &path);
        Copy { _scratch: scratch, repo: Repo::at(path) }
    }

    fn make(from: &Path, to: &Path) {
        std::fs::create_dir(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                Self::make(&entry.path(), &to);
            } else {
                std::fs::copy(entry.path(), &to).unwrap();
            }
        }
    }

    fn refs(&self) -> BTreeMap<String, String> {
        let text = self.repo.refs();
        let row = |line: &str| line.split_once(' ').map(|(id, name)| (name.to_owned(), id.to_owned()));
        text.lines().filter_map(row).collect()
    }
}

trait Whole {
    fn is_whole(&self, case: &str);
}

impl Whole for Repo {
    fn is_whole(&self, case: &str) {
        let ran: Ran = git_command(&self.path).args(["fsck", "--strict", "--no-dangling"]).output().unwrap().into();
        assert!(ran.ok && ran.err.is_empty(), "{case}: {}{}", ran.out, ran.err);
    }
}

fn row(name: &str, old: &str, new: &str) -> (String, String, String) {
    (name.to_owned(), old.to_owned(), new.to_owned())
}

/// An update and two new refs, with new objects.
fn some(served: &Repo, commits: &[String; 3]) -> Vec<(String, String, String)> {
    served.config("core.logAllRefUpdates", "always");
    vec![
        row("refs/heads/main", &commits[0], &commits[2]),
        row("refs/heads/deep/er/new", NULL, &commits[1]),
        row("refs/tags/new", NULL, &commits[2]),
    ]
}

#[test]
fn a_push_of_loose_objects_is_old_or_new_at_every_operation() {
    Scenario::new("files", |served, _, commits| some(served, commits)).run("loose objects");
}

#[test]
fn a_push_of_a_kept_pack_is_old_or_new_at_every_operation() {
    let scenario = Scenario::new("files", |served, _, commits| {
        served.config("receive.unpackLimit", "1");
        some(served, commits)
    });
    scenario.run("a kept pack");
}

#[test]
fn five_hundred_refs_change_all_or_none_at_every_operation() {
    let scenario = Scenario::new("files", |served, _, commits| {
        let name = |number: usize| format!("refs/heads/team-{}/{number}", number % 7);
        let create = |numbers: std::ops::Range<usize>| {
            let lines: String = numbers.map(|number| format!("create {} {}\n", name(number), commits[0])).collect();
            served.feed(&["update-ref", "--stdin"], lines.as_bytes());
        };
        create(0..100);
        served.git(&["pack-refs", "--all"]);
        create(100..140);
        (0..500).map(|n| row(&name(n), if n < 140 { &commits[0] } else { NULL }, &commits[1 + n % 2])).collect()
    });
    scenario.atomic().run("500 refs, atomic");
}

#[test]
fn deletions_from_a_reftable_are_all_done_or_none_at_every_operation() {
    let scenario = Scenario::new("reftable", |served, _, commits| deletions(served, commits)).atomic();
    scenario.run("deletions from a reftable, atomic");
}

/// Deletes all but two branches; some are packed, some loose, some both.
fn deletions(served: &Repo, commits: &[String; 3]) -> Vec<(String, String, String)> {
    served.config("receive.denyDeletes", "false");
    let [one, ..] = commits;
    for name in ["packed", "packed/not", "both", "deep/er/packed", "stays"] {
        if name != "packed/not" {
            served.git(&["update-ref", &format!("refs/heads/{name}"), one]);
        }
    }
    served.git(&["pack-refs", "--all"]);
    let parent = served.git(&["commit-tree", "-p", one, "-m", "again", &format!("{one}^{{tree}}")]);
    served.git(&["update-ref", "refs/heads/both", &parent]);
    served.git(&["update-ref", "refs/heads/loose/ly", one]);
    vec![
        row("refs/heads/packed", one, NULL),
        row("refs/heads/both", &parent, NULL),
        row("refs/heads/deep/er/packed", one, NULL),
        row("refs/heads/loose/ly", one, NULL),
    ]
}

#[test]
fn deletions_are_done_or_not_at_every_operation() {
    Scenario::new("files", |served, _, commits| deletions(served, commits)).run("deletions");
}

#[test]
fn atomic_deletions_are_all_done_or_none_at_every_operation() {
    Scenario::new("files", |served, _, commits| deletions(served, commits)).atomic().run("deletions, atomic");
}

#[test]
fn a_push_into_a_reftable_is_old_or_new_at_every_operation() {
    Scenario::new("reftable", |served, _, commits| some(served, commits)).run("a reftable");
}

#[test]
fn what_an_atomic_push_creates_and_deletes_in_a_reftable_is_one_step_at_every_operation() {
    let scenario = Scenario::new("reftable", |served, _, commits| {
        let mut changes = some(served, commits);
        changes.extend(deletions(served, commits));
        changes
    });
    scenario.atomic().run("a reftable, atomic");
}

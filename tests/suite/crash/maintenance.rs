//! Maintenance dies, or its disk fails once, at every operation: nothing is lost, everything left is valid, and the
//! next run completes the work.

use super::{ACTIONS, Copy, SAMPLE, Whole};
use crate::support::{PROGRAM, Ran, Repo, Scratch};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

/// A repository with something to do for every task of maintenance.
fn neglected() -> Scratch {
    let scratch = Scratch::new();
    let (served, work) = (Repo::at(scratch.path().join("served.git")), Repo::at(scratch.path().join("work")));
    for repo in [&served, &work] {
        std::fs::create_dir(&repo.path).unwrap();
    }
    served.git(&["init", "-q", "--bare", "."]);
    work.git(&["init", "-q"]);
    let push = || work.git(&["push", "-q", served.path.to_str().unwrap(), "HEAD:refs/heads/main"]);
    served.config("receive.unpackLimit", "1");
    for name in ["one", "two", "three"] {
        work.commit(name);
        push();
        served.git(&["commit-graph", "write", "--reachable", "--split=no-merge"]);
    }
    served.git(&["multi-pack-index", "write", "--bitmap"]);
    served.git(&["update-server-info"]);
    work.commit("four");
    push();
    served.config("receive.unpackLimit", "100");
    work.commit("five");
    push();
    let [one, ..] = &files(&served, "rev")[..] else { panic!("packs have a reverse index") };
    std::fs::remove_file(one).unwrap();
    served.feed(&["hash-object", "-w", "--stdin"], b"nobody's");
    scratch
}

fn files(repo: &Repo, extension: &str) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(repo.path.join("objects/pack")).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

fn objects(repo: &Repo) -> BTreeSet<String> {
    repo.git(&["cat-file", "--batch-all-objects", "--batch-check"]).lines().map(str::to_owned).collect()
}

/// Runs maintenance with operation number `point` going wrong; returns the outcome, and the operations there were.
fn maintain(repo: &Repo, full: bool, point: Option<String>) -> (Ran, Vec<String>) {
    let log = repo.path.with_extension("log");
    let _ = std::fs::remove_file(&log);
    let mut command = Command::new(PROGRAM);
    command.arg("maintenance").arg(&repo.path).args(["--loose-limit", "1"]).args(full.then_some("--full")).env_clear();
    command.env("HOME", &repo.path).env("GIT_CONFIG_NOSYSTEM", "1");
    command.env("ARTIFACTS_FAILPOINT_LOG", &log).envs(point.map(|point| ("ARTIFACTS_FAILPOINT", point)));
    let ran = command.output().unwrap().into();
    let operations = std::fs::read_to_string(&log).unwrap_or_default();
    (ran, operations.lines().map(str::to_owned).collect())
}

fn run(full: bool) {
    let scratch = neglected();
    let served = Repo::at(scratch.path().join("served.git"));
    let (before, refs) = (objects(&served), served.refs());
    let count = {
        let copy = Copy::of(&served.path);
        let (ran, operations) = maintain(&copy.repo, full, None);
        assert!(ran.ok && ran.err.is_empty(), "{}{}", ran.out, ran.err);
        assert!(ran.out.contains("loose objects and") && ran.out.contains("a commit-graph of 5"), "{}", ran.out);
        operations.len()
    };
    let all = std::env::var("CRASH_POINTS").is_ok_and(|value| value == "all");
    let step = if all { 1 } else { count.div_ceil(2 * SAMPLE) };
    for (offset, action) in ACTIONS.iter().enumerate() {
        for n in (0..count).skip(offset * step / ACTIONS.len()).step_by(step) {
            let copy = Copy::of(&served.path);
            let (ran, operations) = maintain(&copy.repo, full, Some(format!("{n} {action}")));
            let Some(operation) = operations.get(n) else { continue };
            let case = format!("{n} {operation} {action}: {}{}", ran.out, ran.err);
            copy.repo.is_whole(&case);
            assert_eq!(objects(&copy.repo), before, "{case}");
            assert_eq!(copy.repo.refs(), refs, "{case}");
            let (ran, _) = maintain(&copy.repo, full, None);
            assert!(ran.ok && ran.err.is_empty(), "{case}, next: {}{}", ran.out, ran.err);
            copy.repo.is_whole(&format!("{case}, next"));
            assert_eq!(objects(&copy.repo), before, "{case}, next");
            assert_eq!(copy.repo.leftovers(), Vec::<PathBuf>::new(), "{case}, next");
            if copy.repo.path.join("objects/pack/multi-pack-index").exists() {
                copy.repo.git(&["multi-pack-index", "verify"]);
            }
            assert!(!copy.repo.path.join("gc.pid").exists(), "{case}, next");
        }
    }
    println!("{count} operations");
}

#[test]
fn maintenance_loses_nothing_at_any_operation() {
    run(false);
}

#[test]
fn maintenance_that_makes_one_pack_loses_nothing_at_any_operation() {
    run(true);
}

#[test]
fn a_pack_is_protected_by_a_file_that_names_process_and_machine() {
    let scratch = neglected();
    let served = Repo::at(scratch.path().join("served.git"));
    let (_, operations) = maintain(&Copy::of(&served.path).repo, false, None);
    let released = |operation: &String| operation.starts_with("unlink ") && operation.ends_with(".keep");
    let at = operations.iter().position(released).unwrap();
    let copy = Copy::of(&served.path);
    maintain(&copy.repo, false, Some(format!("{at} kill")));
    let [keep] = &files(&copy.repo, "keep")[..] else { panic!("one protects the new pack") };
    let text = std::fs::read_to_string(keep).unwrap();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let pid = text.trim_end().strip_prefix("maintenance ").and_then(|rest| rest.strip_suffix(&format!(" on {host}")));
    assert!(pid.is_some_and(|pid| pid.parse::<u32>().is_ok()), "{text}");
}

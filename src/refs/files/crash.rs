//! Each operation of a transaction is made to fail, and to be the last one: each ref must be old or new, an atomic
//! change all old or all new.

#![cfg(feature = "failpoints")]

use crate::durable::Sync;
use crate::durable::failpoints::{self, Action};
use crate::journal::Journal;
use crate::refs::fixture::{Calls, Repo, change, commit, logged, policy};
use crate::refs::transaction::RefChange;
use crate::refs::{LockPolicy, Target};
use gix_hash::ObjectId;
use std::io::ErrorKind;
use std::path::Path;

struct Scenario {
    repo: Repo,
    changes: Vec<RefChange>,
    atomic: bool,
    /// Whether the file system keeps all changes of names in one journal.
    keeps_order: bool,
}

fn value(repo: &Repo, name: &str) -> Option<ObjectId> {
    match repo.store().read(name.into()).unwrap() {
        Some(Target::Direct(id)) => Some(id),
        Some(Target::Symbolic(target)) => value(repo, &target.to_string()),
        None => None,
    }
}

/// Files that exist only while a transaction is in progress.
fn leftovers(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(leftovers(&path));
        } else if path.extension().is_some_and(|extension| extension == "lock")
            || path.parent().unwrap().ends_with("artifacts-journal")
        {
            found.push(path.display().to_string());
        }
    }
    found
}

/// Runs a scenario with its `n`-th operation going wrong; returns whether there is such an operation.
fn fail(scenario: &Scenario, n: u64, action: Action) -> bool {
    let repo = scenario.repo.copy();
    let policy = LockPolicy { sync: Sync::Together, ..policy() };
    let before: Vec<_> = scenario.changes.iter().map(|change| value(&repo, &change.name.to_string())).collect();
    let mut armed = failpoints::arm(repo.dir(), n, action);
    if scenario.keeps_order {
        armed = armed.keeping_order();
    }
    let results = commit(&repo.store(), &policy, &scenario.changes, scenario.atomic, &mut Calls::default());
    let operations = armed.seen();
    drop(armed);
    let Some(operation) = operations.get(usize::try_from(n).unwrap()) else {
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        return false;
    };
    let case = format!("{n} {operation} {action:?}: {results:?}");
    let after: Vec<_> = scenario.changes.iter().map(|change| value(&repo, &change.name.to_string())).collect();
    for (at, change) in scenario.changes.iter().enumerate() {
        assert!(after[at] == before[at] || after[at] == change.new, "{case}: {}", change.name);
        assert!(results[at].is_err() || after[at] == change.new, "{case}: {} was promised", change.name);
    }
    // Only the failure to force a directory to disk is noticed after a change has been made.
    if matches!(action, Action::Fail(_)) && !operation.starts_with("fsync_directory") {
        let refused = |at: usize| results[at].is_err();
        assert!((0..results.len()).all(|at| !refused(at) || after[at] == before[at]), "{case}");
    }
    if scenario.atomic {
        let new: Vec<_> = scenario.changes.iter().map(|change| change.new).collect();
        assert!(after == before || after == new, "{case}");
    }
    let locks = leftovers(repo.dir());
    if matches!(action, Action::Fail(_)) && (!operation.starts_with("unlink") || locks.is_empty()) {
        assert_eq!(locks, [""; 0], "{case}");
    }
    // git sees the same, and the next transaction takes over the locks of the dead one.
    assert_eq!(repo.our_refs(&[]), repo.refs(), "{case}");
    let again: Vec<_> = scenario.changes.iter().map(|change| RefChange { old: None, ..change.clone() }).collect();
    let results = commit(&repo.store(), &policy, &again, scenario.atomic, &mut Calls::default());
    assert!(results.iter().all(Result::is_ok), "{case}, again: {results:?}");
    // A child process that another test is starting inherits all file locks of this process for a moment, even those of
    // dead owners.
    for _ in 0..100 {
        if leftovers(repo.dir()).is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
        Journal::of(repo.dir()).sweep();
    }
    assert_eq!(leftovers(repo.dir()), [""; 0], "{case}, again");
    true
}

fn check(scenario: &Scenario, step: u64) {
    for action in [Action::FailFromHere(ErrorKind::StorageFull), Action::Fail(ErrorKind::StorageFull)] {
        let mut n = 0;
        while fail(scenario, n, action) {
            n += step;
        }
        assert!(n > 5, "{n} operations are too few to be all");
    }
}

fn populated() -> (Repo, ObjectId, ObjectId) {
    let repo = Repo::new();
    let (one, two) = (repo.commit("one"), repo.commit("two"));
    for name in ["a", "b/c", "d", "e"] {
        repo.git(&["update-ref", &format!("refs/heads/{name}"), &two.to_string()]);
    }
    repo.git(&["pack-refs", "--all"]);
    for name in ["a", "b/c"] {
        repo.git(&["update-ref", &format!("refs/heads/{name}"), &one.to_string()]);
    }
    (repo, one, two)
}

#[test]
fn a_crash_leaves_each_ref_old_or_new() {
    let (repo, one, two) = populated();
    let changes = vec![
        logged(change("refs/heads/a", Some(Some(one)), Some(two)), true),
        change("refs/heads/b/c", Some(Some(one)), None),
        change("refs/heads/d", Some(Some(two)), None),
        change("refs/heads/new/x", Some(None), Some(one)),
    ];
    let mut scenario = Scenario { repo, changes, atomic: false, keeps_order: false };
    check(&scenario, 1);
    // Reflog entries are always forced to disk; without them the order of operations alone must do.
    scenario.changes.iter_mut().for_each(|change| change.reflog = None);
    scenario.keeps_order = true;
    check(&scenario, 1);
}

#[test]
fn a_crash_leaves_an_atomic_change_whole_or_undone() {
    let (repo, one, two) = populated();
    let changes = vec![
        change("refs/heads/a", Some(Some(one)), Some(two)),
        change("refs/heads/b/c", Some(Some(one)), None),
        change("refs/heads/d", Some(Some(two)), Some(one)),
        change("refs/heads/e", Some(Some(two)), None),
        logged(change("refs/heads/new/x", Some(None), Some(one)), true),
    ];
    check(&Scenario { repo, changes, atomic: true, keeps_order: false }, 1);
}

#[test]
fn a_crash_leaves_a_single_deletion_old_or_new() {
    let (repo, one, _) = populated();
    let changes = vec![change("refs/heads/a", Some(Some(one)), None)];
    check(&Scenario { repo, changes, atomic: true, keeps_order: false }, 1);
}

#[test]
fn a_crash_leaves_each_of_many_refs_old_or_new() {
    let (repo, one, two) = populated();
    let mut changes: Vec<_> =
        (0..70).map(|number| change(&format!("refs/heads/n{number}"), Some(None), Some(one))).collect();
    changes.push(logged(change("refs/heads/a", Some(Some(one)), Some(two)), true));
    changes.push(logged(change("refs/heads/main", Some(None), Some(two)), true));
    check(&Scenario { repo, changes, atomic: false, keeps_order: false }, 7);
}

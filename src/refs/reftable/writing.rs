//! What we write, read by us and by git: tables, reflogs, refusals, compaction, and git writing at the same time.

use crate::journal::Journal;
use crate::protocol::report::Refusal;
use crate::refs::fixture::{Calls, Repo, change, commit, logged, policy};
use crate::refs::transaction::{RefChange, TablePolicy, TransactionState};
use crate::refs::{Format, LockPolicy, Peeled, RefStore, RefTransaction};
use gix_hash::ObjectId;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const NEW: Option<Option<ObjectId>> = Some(None);

fn reftable() -> Repo {
    Repo::with_format(gix_hash::Kind::Sha1, Format::Reftable)
}

fn tables(repo: &Repo) -> Vec<PathBuf> {
    repo.lines("reftable/tables.list").iter().map(|name| repo.dir().join("reftable").join(name)).collect()
}

fn refusals(results: &[Result<(), Refusal>]) -> Vec<String> {
    results.iter().map(|result| result.as_ref().err().map_or("ok".to_owned(), ToString::to_string)).collect()
}

/// Files in the directory of the tables that the list does not name.
fn leftovers(repo: &Repo) -> Vec<String> {
    let listed = repo.lines("reftable/tables.list");
    let names = fs::read_dir(repo.dir().join("reftable")).unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    names.filter(|name| name != "tables.list" && !listed.contains(name)).collect()
}

#[test]
fn refs_are_created_updated_and_deleted_as_git_sees_them() {
    for hash in [gix_hash::Kind::Sha1, gix_hash::Kind::Sha256] {
        for atomic in [false, true] {
            let repo = Repo::with_format(hash, Format::Reftable);
            let (one, two) = (repo.commit("one"), repo.commit("two"));
            let null = ObjectId::null(hash);
            let change = |name: &str, old: Option<ObjectId>, new| RefChange { old, ..change(name, None, new) };
            let make = |changes: &[RefChange]| {
                let made = if atomic { repo.atomic(changes) } else { repo.each(changes) };
                assert_eq!(refusals(&made), vec!["ok"; changes.len()]);
                repo.check();
            };
            make(&[
                change("refs/heads/a", Some(null), Some(one)),
                change("refs/heads/deep/er/b", None, Some(one)),
                change("refs/tags/c", Some(null), Some(two)),
            ]);
            make(&[
                change("refs/heads/a", Some(one), Some(two)),
                change("refs/heads/deep/er/b", Some(one), None),
                change("refs/tags/c", None, None),
                change("refs/tags/none", None, None),
            ]);
            assert_eq!(repo.refs(), format!("refs/heads/a {two}\n"));
            assert_eq!(leftovers(&repo), [""; 0]);
        }
    }
}

#[test]
fn a_table_is_byte_for_byte_the_one_git_writes() {
    for (block_size, restart_interval, index_objects) in [(4096, 16, true), (256, 3, true), (512, 40, false)] {
        for hash in [gix_hash::Kind::Sha1, gix_hash::Kind::Sha256] {
            let (ours, gits) = (Repo::with_format(hash, Format::Reftable), Repo::with_format(hash, Format::Reftable));
            let (one, two) = (ours.commit("one"), ours.commit("two"));
            let tag = ours.tag("v", one);
            assert_eq!((gits.commit("one"), gits.commit("two"), gits.tag("v", one)), (one, two, tag));
            let tables_policy = TablePolicy { block_size, restart_interval, index_objects, ..policy().tables };
            let policy = LockPolicy { tables: tables_policy, ..policy() };
            let settings = [
                format!("reftable.blockSize={block_size}"),
                format!("reftable.restartInterval={restart_interval}"),
                format!("reftable.indexObjects={index_objects}"),
            ];
            let mut arguments: Vec<&str> = settings.iter().flat_map(|setting| ["-c", setting]).collect();
            arguments.extend(["update-ref", "--stdin"]);
            let git = |changes: &[RefChange]| {
                let line = |change: &RefChange| match change.new {
                    Some(new) => format!("update {} {new}\n", change.name),
                    None => format!("delete {}\n", change.name),
                };
                gits.git_with_input(&arguments, &changes.iter().map(line).collect::<String>());
            };
            let peel = |id| if id == tag { Peeled::To(one) } else { Peeled::NotATag };
            let us = |changes: &[RefChange]| {
                let proof = crate::auth::Grant::new(crate::auth::Scope::Write, None).writable().unwrap();
                let (store, mut hook) = (ours.store(), Calls::default());
                let mut transaction = RefTransaction::begin(&store, &proof, policy.clone(), &mut hook);
                transaction.add(changes.iter().cloned());
                transaction.peel_with(&peel);
                assert!(transaction.commit_atomic().iter().all(Result::is_ok));
            };
            let mut random = 7u32;
            for round in 0..4 {
                let mut changes = vec![change("refs/tags/v", None, Some(tag))];
                for number in 0..[900, 30, 300, 1][round] {
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let length = usize::try_from(random >> 28).unwrap();
                    let name = format!("refs/heads/{}/{}-{number}", number % 9, "x".repeat(length * length % 60));
                    let new = if number % 3 == round { None } else { Some([one, two][round % 2]) };
                    changes.push(change(&name, None, new));
                }
                us(&changes);
                git(&changes);
                let contents =
                    |repo: &Repo| -> Vec<Vec<u8>> { tables(repo).iter().map(|path| fs::read(path).unwrap()).collect() };
                assert!(contents(&ours) == contents(&gits), "round {round}, {settings:?}, {hash}");
            }
            ours.check();
        }
    }
}

#[test]
fn ten_thousand_refs_change_at_once() {
    let repo = reftable();
    let (one, two) = (repo.commit("one"), repo.commit("two"));
    let name = |number: usize| format!("refs/heads/{}/{number:05}", number % 17);
    let changes: Vec<RefChange> = (0..10_000).map(|number| change(&name(number), NEW, Some(one))).collect();
    assert!(repo.each(&changes).iter().all(Result::is_ok));
    repo.check();
    assert_eq!(repo.refs().lines().count(), 10_000);
    let changes: Vec<RefChange> = (0..10_000)
        .map(|number| change(&name(number), Some(Some(one)), Some(two).filter(|_| number % 2 == 0)))
        .collect();
    assert!(repo.atomic(&changes).iter().all(Result::is_ok));
    repo.check();
    assert_eq!(repo.refs().lines().count(), 5_000);
}

#[test]
fn what_is_not_as_expected_is_refused_in_gits_words_and_the_others_are_made() {
    let repo = reftable();
    let (one, two) = (repo.commit("one"), repo.commit("two"));
    repo.git(&["update-ref", "refs/heads/a", &one.to_string()]);
    repo.git(&["update-ref", "refs/heads/x/y", &one.to_string()]);
    let long = format!("refs/heads/{}", "l".repeat(5000));
    let changes = [
        change("refs/heads/a", Some(Some(two)), Some(one)),
        change("refs/heads/a/b", NEW, Some(one)),
        change("refs/heads/x", NEW, Some(one)),
        change("refs/heads/x/y", NEW, Some(two)),
        change("refs/heads/none", Some(Some(one)), Some(two)),
        change("refs/heads/p", NEW, Some(two)),
        change("refs/heads/p/q", NEW, Some(two)),
        change("refs/heads/bad..name", NEW, Some(one)),
        change(&long, NEW, Some(one)),
        change("refs/heads/null", None, Some(ObjectId::null(gix_hash::Kind::Sha1))),
        change("refs/heads/fine", NEW, Some(one)),
    ];
    let mut calls = Calls::default();
    let results = commit(&repo.store(), &policy(), &changes, false, &mut calls);
    let expected = [
        "incorrect old value provided",
        "refname conflict",
        "refname conflict",
        "reference already exists",
        "reference does not exist",
        "refname conflict",
        "ok",
        "failed to update ref",
        "failed to update ref",
        "invalid new value provided",
        "ok",
    ];
    assert_eq!(refusals(&results), expected);
    let details = [
        format!("refs/heads/a: cannot lock ref 'refs/heads/a': is at {one} but expected {two}"),
        "refs/heads/a/b: 'refs/heads/a' exists; cannot create 'refs/heads/a/b'".to_owned(),
        "refs/heads/x: 'refs/heads/x/y' exists; cannot create 'refs/heads/x'".to_owned(),
        "refs/heads/x/y: cannot lock ref 'refs/heads/x/y': reference already exists".to_owned(),
        "refs/heads/none: cannot lock ref 'refs/heads/none': unable to resolve reference 'refs/heads/none'".to_owned(),
        "refs/heads/p: cannot process 'refs/heads/p' and 'refs/heads/p/q' at the same time".to_owned(),
        format!("{long}: reftable: transaction failure: entry too large"),
    ];
    for detail in &details {
        assert!(calls.details.contains(detail), "{detail}: {:?}", calls.details);
    }
    repo.check();
    let expected = [("refs/heads/a", one), ("refs/heads/fine", one), ("refs/heads/p/q", two), ("refs/heads/x/y", one)];
    let refs: String = expected.iter().map(|(name, id)| format!("{name} {id}\n")).collect();
    assert_eq!(repo.refs(), refs);
    // One change that cannot be made fails the whole atomic transaction.
    let results = repo.atomic(&[change("refs/heads/new", NEW, Some(one)), changes[0].clone()]);
    assert_eq!(refusals(&results), ["atomic transaction failed", "incorrect old value provided"]);
    assert_eq!(repo.refs(), refs);
    assert_eq!(leftovers(&repo), [""; 0]);
}

#[test]
fn logs_are_kept_as_git_keeps_them() {
    let (ours, gits) = (reftable(), reftable());
    let (one, two) = (ours.commit("one"), ours.commit("two"));
    assert_eq!((gits.commit("one"), gits.commit("two")), (one, two));
    let logs = |repo: &Repo| -> Vec<String> {
        repo.git(&["reflog", "list"])
            .lines()
            .map(|name| {
                // Entries as git shows them, newest first, and values as it reads them back.
                let format = "--format=%gd %H %gn <%ge> %gs";
                // The reflog of a dangling symbolic ref can only be listed.
                let shown = repo.command(&["reflog", "show", "--date=raw", format, name]).output().unwrap();
                format!("{name}: {}", String::from_utf8(shown.stdout).unwrap())
            })
            .collect()
    };
    gits.git(&["config", "core.logAllRefUpdates", "true"]);
    for repo in [&ours, &gits] {
        repo.git(&["symbolic-ref", "refs/heads/s", "refs/heads/x"]);
    }
    let step = |name: &str, old: Option<ObjectId>, new: Option<ObjectId>, create: bool| {
        let results = ours.each(&[logged(change(name, Some(old), new), create)]);
        assert_eq!(refusals(&results), ["ok"], "{name}");
        match new {
            Some(new) => gits.git(&["update-ref", "-m", "push", name, &new.to_string()]),
            None => gits.git(&["update-ref", "-m", "push", "-d", name]),
        };
        assert_eq!(logs(&ours), logs(&gits), "{name}");
    };
    step("refs/heads/main", None, Some(one), true);
    step("refs/heads/main", Some(one), Some(two), true);
    step("refs/tags/t", None, Some(two), false);
    step("refs/heads/x", None, Some(two), true);
    step("refs/heads/s", Some(two), Some(one), true);
    step("refs/heads/x", Some(one), None, true);
    step("refs/heads/dir/y", None, Some(two), true);
    step("refs/heads/dir/y", Some(two), None, true);
    step("refs/heads/main", Some(two), None, true);
    assert_eq!(ours.git(&["reflog", "list"]), "HEAD\nrefs/heads/s");
    // A ref that core.logAllRefUpdates leaves out is logged all the same if it has a reflog.
    for repo in [&ours, &gits] {
        repo.git(&["update-ref", "--create-reflog", "-m", "made", "refs/tags/t", &one.to_string()]);
    }
    step("refs/tags/t", Some(one), Some(two), false);
    assert_eq!(ours.git(&["reflog", "show", "refs/tags/t"]).lines().count(), 2);
    // A message of several lines and more than a block, and a committer without an address.
    let mut odd = logged(change("refs/heads/odd", NEW, Some(one)), true);
    if let Some(entry) = odd.reflog.as_mut().map(Rc::make_mut) {
        entry.message = format!("two\nlines {}", "m".repeat(9000)).into();
        entry.who = "No Address".into();
    }
    assert_eq!(refusals(&ours.each(&[odd])), ["ok"]);
    let shown = ours.git(&["reflog", "show", "--format=%gn <%ge> %gs", "refs/heads/odd"]);
    assert!(shown.starts_with("No Address <> two lines mmm") && shown.len() < 2100, "{shown}");
    ours.git(&["symbolic-ref", "--delete", "refs/heads/s"]);
    ours.check();
}

#[test]
fn a_deleted_ref_takes_its_log_with_it() {
    let repo = reftable();
    let ids: Vec<ObjectId> = (0..40).map(|number| repo.commit(&number.to_string())).collect();
    for name in ["refs/heads/a", "refs/heads/a-b", "refs/heads/b"] {
        for id in &ids {
            repo.each(&[logged(change(name, None, Some(*id)), true)]);
        }
    }
    repo.each(&[change("refs/heads/a", None, None)]);
    assert_eq!(repo.git(&["reflog", "list"]), "refs/heads/a-b\nrefs/heads/b");
    repo.each(&[logged(change("refs/heads/a", NEW, Some(ids[0])), true)]);
    assert_eq!(repo.git(&["reflog", "show", "refs/heads/a"]).lines().count(), 1);
    assert_eq!(repo.git(&["reflog", "show", "refs/heads/b"]).lines().count(), 40);
    repo.check();
}

#[test]
fn symbolic_refs_are_followed_and_stay() {
    let repo = reftable();
    let (one, two) = (repo.commit("one"), repo.commit("two"));
    repo.git(&["update-ref", "refs/heads/a", &one.to_string()]);
    repo.git(&["symbolic-ref", "refs/heads/s", "refs/heads/a"]);
    repo.git(&["symbolic-ref", "refs/heads/t", "refs/heads/s"]);
    repo.git(&["symbolic-ref", "refs/heads/loop", "refs/heads/loop"]);
    assert_eq!(refusals(&repo.each(&[change("refs/heads/t", Some(Some(one)), Some(two))])), ["ok"]);
    let expected = format!("refs/heads/a {two}\nrefs/heads/s {two} refs/heads/a\nrefs/heads/t {two} refs/heads/a\n");
    assert_eq!(repo.our_refs(&[]), expected);
    let both = [change("refs/heads/s", None, Some(one)), change("refs/heads/a", None, Some(one))];
    assert_eq!(refusals(&repo.each(&both)), ["refname conflict", "ok"]);
    assert_eq!(refusals(&repo.each(&[change("refs/heads/loop", None, Some(one))])), ["refname conflict"]);
    repo.git(&["symbolic-ref", "refs/heads/s", "refs/heads/born"]);
    assert_eq!(refusals(&repo.each(&[change("refs/heads/s", NEW, Some(two))])), ["ok"]);
    assert_eq!(refusals(&repo.each(&[change("refs/heads/s", Some(Some(two)), None)])), ["ok"]);
    assert_eq!(repo.our_refs(&[]), format!("refs/heads/a {one}\n"));
    assert_eq!(repo.git(&["symbolic-ref", "--no-recurse", "refs/heads/t"]), "refs/heads/s");
}

#[test]
fn the_hook_hears_every_state_and_may_veto_two() {
    let repo = reftable();
    let one = repo.commit("one");
    repo.git(&["symbolic-ref", "refs/heads/s", "refs/heads/a"]);
    let changes = [change("refs/heads/s", NEW, Some(one)), change("refs/heads/b", Some(Some(one)), Some(one))];
    let mut calls = Calls::default();
    let results = commit(&repo.store(), &policy(), &changes, false, &mut calls);
    assert_eq!(refusals(&results), ["ok", "reference does not exist"]);
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let expected = [
        (TransactionState::Preparing, names(&["refs/heads/s", "refs/heads/b"])),
        (TransactionState::Prepared, names(&["refs/heads/a"])),
        (TransactionState::Committed, names(&["refs/heads/a"])),
    ];
    assert_eq!(calls.states, expected);
    for veto in [TransactionState::Preparing, TransactionState::Prepared] {
        let mut calls = Calls { veto: Some(veto), ..Calls::default() };
        let results = commit(&repo.store(), &policy(), &[change("refs/heads/a", None, None)], false, &mut calls);
        assert!(results[0].is_err());
        assert_eq!(calls.states.last().unwrap().0, TransactionState::Aborted);
        assert_eq!(repo.store().resolve("refs/heads/a".into()).unwrap(), Some(one));
        assert_eq!(leftovers(&repo), [""; 0]);
    }
}

#[test]
fn a_linked_worktree_writes_its_own_refs_into_its_own_tables() {
    let repo = reftable();
    let (one, two) = (repo.commit("one"), repo.commit("two"));
    repo.git(&["update-ref", "refs/heads/main", &one.to_string()]);
    let tree = repo.dir().join("tree");
    repo.git(&["worktree", "add", "--quiet", "-b", "side", tree.to_str().unwrap(), "main"]);
    let git_dir = repo.dir().join("worktrees/tree");
    let store = RefStore::new(Format::Reftable, git_dir, repo.dir().to_owned(), gix_hash::Kind::Sha1);
    let in_tree = |arguments: &[&str]| {
        let output = repo.command(arguments).current_dir(&tree).env_remove("GIT_DIR").output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    };
    let changes = [
        change("refs/worktree/mine", NEW, Some(one)),
        logged(change("refs/heads/side", Some(Some(one)), Some(two)), true),
        change("refs/heads/other", NEW, Some(two)),
    ];
    let results = commit(&store, &policy(), &changes, true, &mut Calls::default());
    assert!(results.iter().any(Result::is_err), "one step would be two");
    assert_eq!(repo.git(&["rev-parse", "side"]), one.to_string());
    let results = commit(&store, &policy(), &changes, false, &mut Calls::default());
    assert_eq!(refusals(&results), ["ok"; 3]);
    assert_eq!(in_tree(&["rev-parse", "refs/worktree/mine", "HEAD", "other"]), format!("{one}\n{two}\n{two}"));
    assert_eq!(in_tree(&["reflog", "show", "--format=%gs", "-1", "HEAD"]), "push");
    let main = repo.git(&["for-each-ref", "--format=%(refname)"]);
    assert_eq!(main, "refs/heads/main\nrefs/heads/other\nrefs/heads/side");
}

#[test]
fn tables_stay_few_and_what_is_deleted_leaves_nothing_behind() {
    let repo = reftable();
    let ids = [repo.commit("one"), repo.commit("two")];
    let many: Vec<RefChange> =
        (0..500).map(|number| change(&format!("refs/heads/n{number}"), NEW, Some(ids[0]))).collect();
    assert!(repo.each(&many).iter().all(Result::is_ok));
    for round in 0..60 {
        let name = format!("refs/heads/n{}", round * 7);
        assert!(repo.each(&[logged(change(&name, None, Some(ids[1])), true)])[0].is_ok());
        let sizes: Vec<u64> = tables(&repo).iter().map(|table| fs::metadata(table).unwrap().len() - 68 - 23).collect();
        assert!(sizes.windows(2).all(|pair| pair[0] >= 2 * pair[1]), "round {round}: {sizes:?}");
        assert_eq!(leftovers(&repo), [""; 0]);
    }
    repo.check();
    assert_eq!(repo.git(&["reflog", "list"]).lines().count(), 60);
    let gone: Vec<RefChange> = (0..500).map(|number| change(&format!("refs/heads/n{number}"), None, None)).collect();
    assert!(repo.each(&gone).iter().all(Result::is_ok));
    assert!(repo.each(&[change("refs/heads/last", NEW, Some(ids[0]))])[0].is_ok());
    repo.git(&["pack-refs", "--all"]);
    repo.check();
    assert_eq!(repo.refs(), format!("refs/heads/last {}\n", ids[0]));
    assert_eq!(repo.git(&["reflog", "list"]), "");
}

#[test]
fn a_lock_is_waited_for_and_then_told_of_once() {
    let repo = reftable();
    let one = repo.commit("one");
    repo.write("reftable/tables.list.lock", "");
    let changes = [change("refs/heads/a", NEW, Some(one)), change("refs/heads/b", NEW, Some(one))];
    for (atomic, refusal) in [(false, "failed to update refs"), (true, "atomic transaction failed")] {
        let mut calls = Calls::default();
        let results = commit(&repo.store(), &policy(), &changes, atomic, &mut calls);
        assert_eq!(refusals(&results), [refusal; 2]);
        assert_eq!(calls.details, ["refs/heads/a: cannot lock references"]);
        assert!(repo.exists("reftable/tables.list.lock"), "the lock of somebody else stays");
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(30));
            fs::remove_file(repo.dir().join("reftable/tables.list.lock")).unwrap();
        });
        let patient = TablePolicy { lock_timeout: Duration::from_secs(20), ..policy().tables };
        let policy = LockPolicy { tables: patient, ..policy() };
        let results = commit(&repo.store(), &policy, &changes, true, &mut Calls::default());
        assert_eq!(refusals(&results), ["ok"; 2]);
    });
    repo.check();
}

#[test]
fn a_table_that_somebody_is_about_to_replace_is_left_alone() {
    let repo = reftable();
    let ids = [repo.commit("one"), repo.commit("two")];
    repo.each(&[change("refs/heads/a", NEW, Some(ids[0]))]);
    let before = tables(&repo);
    let lock = before[0].with_extension("ref.lock");
    fs::write(&lock, "").unwrap();
    for round in 0..5 {
        assert!(repo.each(&[change("refs/heads/a", None, Some(ids[round % 2]))])[0].is_ok());
        assert_eq!(tables(&repo)[0], before[0]);
    }
    assert_eq!(tables(&repo).len(), 2, "those above are one");
    fs::remove_file(&lock).unwrap();
    repo.each(&[change("refs/heads/b", NEW, Some(ids[0]))]);
    assert_eq!(tables(&repo).len(), 1);
    repo.check();
}

#[test]
fn leftover_tables_go_with_the_next_transaction_and_other_files_stay() {
    let repo = reftable();
    let one = repo.commit("one");
    repo.each(&[change("refs/heads/a", NEW, Some(one))]);
    for name in ["0x000000000002-0x000000000002-0badcafe.ref", "notes.ref", "0x1.ref"] {
        repo.write(&format!("reftable/{name}"), "half a tab");
    }
    repo.each(&[change("refs/heads/b", NEW, Some(one))]);
    let mut left = leftovers(&repo);
    left.sort();
    assert_eq!(left, ["0x1.ref", "notes.ref"]);
}

#[test]
fn nothing_is_lost_where_git_writes_at_the_same_time() {
    let repo = reftable();
    let (one, two) = (repo.commit("one"), repo.commit("two"));
    let stop = AtomicBool::new(false);
    let patient = TablePolicy { lock_timeout: Duration::from_secs(30), ..policy().tables };
    let policy = LockPolicy { tables: patient, ..policy() };
    let quiet = |arguments: &[&str]| {
        let mut git = repo.command(&[&["-c", "reftable.lockTimeout=30000"], arguments].concat());
        git.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    };
    std::thread::scope(|scope| {
        let packer = scope.spawn(|| {
            let mut rounds = 0;
            while rounds < 2 || !stop.load(Ordering::Relaxed) {
                // A table that we are about to replace makes it fail now and then. It does not wait long, so that it comes often.
                quiet(&["-c", "reftable.lockTimeout=100", "pack-refs", "--all"]);
                rounds += 1;
            }
            rounds
        });
        let ours: Vec<_> = (0..3)
            .map(|worker| {
                let (repo, policy) = (&repo, &policy);
                scope.spawn(move || {
                    let store = repo.store();
                    let run = |changes: &[RefChange], atomic| {
                        let results = commit(&store, policy, changes, atomic, &mut Calls::default());
                        assert!(results.iter().all(Result::is_ok), "{:?}", refusals(&results));
                    };
                    for round in 0..15 {
                        let name = |part: &str| format!("refs/heads/w{worker}/{part}{}", round % 4);
                        let atomic = round % 2 == 0;
                        run(&[change(&name("x"), NEW, Some(one)), change(&name("y/z"), NEW, Some(one))], atomic);
                        run(&[logged(change(&name("x"), Some(Some(one)), Some(two)), true)], false);
                        let gone = [change(&name("x"), Some(Some(two)), None), change(&name("y/z"), None, None)];
                        run(&gone, !atomic);
                        run(&[change(&format!("refs/heads/kept{worker}/{round}"), NEW, Some(two))], false);
                    }
                })
            })
            .collect();
        let gits = scope.spawn(|| {
            for round in 0..15 {
                let (name, two) = (format!("refs/heads/git/{round}"), two.to_string());
                assert!(quiet(&["update-ref", &name, &two]));
            }
        });
        let failed = ours.into_iter().chain([gits]).filter_map(|worker| worker.join().err()).count();
        stop.store(true, Ordering::Relaxed);
        assert!(packer.join().unwrap() > 1);
        assert_eq!(failed, 0);
    });
    repo.check();
    assert_eq!(repo.refs().lines().count(), 4 * 15, "{}", repo.refs());
    repo.each(&[change("refs/heads/last", NEW, Some(one))]);
    assert_eq!(leftovers(&repo), [""; 0]);
}

#[test]
fn one_of_many_wins_each_round_of_a_race() {
    let repo = reftable();
    let ids: Vec<ObjectId> = (0..20).map(|number| repo.commit(&number.to_string())).collect();
    let patient = TablePolicy { lock_timeout: Duration::from_secs(30), ..policy().tables };
    let policy = LockPolicy { tables: patient, ..policy() };
    repo.each(&[change("refs/heads/main", NEW, Some(ids[0]))]);
    let wins: usize = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let store = repo.store();
                    let step = |step: &&[ObjectId]| {
                        let change = [change("refs/heads/main", Some(Some(step[0])), Some(step[1]))];
                        commit(&store, &policy, &change, false, &mut Calls::default())[0].is_ok()
                    };
                    ids.windows(2).filter(step).count()
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).sum()
    });
    let reached = repo.store().resolve("refs/heads/main".into()).unwrap().unwrap();
    assert_eq!(ids.iter().position(|id| *id == reached), Some(wins));
}

/// A stack of several tables with reflogs, which git has not compacted.
fn piled_up() -> Repo {
    let repo = reftable();
    let ids = [repo.commit("one"), repo.commit("two")];
    for round in 0..6usize {
        let mut git =
            repo.command(&["update-ref", "--create-reflog", "-m", "m", &format!("refs/heads/b{}", round % 3)]);
        git.arg(ids[round % 2].to_string()).env("GIT_TEST_REFTABLE_AUTOCOMPACTION", "false");
        assert!(git.status().unwrap().success());
    }
    let mut git = repo.command(&["update-ref", "-d", "refs/heads/b1"]);
    assert!(git.env("GIT_TEST_REFTABLE_AUTOCOMPACTION", "false").status().unwrap().success());
    assert!(tables(&repo).len() > 5);
    repo
}

fn stack_of(repo: &Repo) -> super::Tables {
    let directory = repo.dir().join("reftable");
    super::Tables { directory, journal: std::sync::Arc::new(Journal::of(repo.dir())), open: Default::default() }
}

#[test]
fn large_tables_are_made_one_while_others_write() {
    let repo = piled_up();
    let (refs, log) = (repo.refs(), repo.git(&["reflog", "show", "refs/heads/b0"]));
    super::compact::compact(&stack_of(&repo), gix_hash::Kind::Sha1, &policy()).unwrap();
    assert_eq!((repo.refs(), repo.our_refs(&[])), (refs.clone(), refs));
    assert_eq!(repo.git(&["reflog", "show", "refs/heads/b0"]), log);
    assert_eq!(repo.git(&["reflog", "list"]), "refs/heads/b0\nrefs/heads/b2");
    assert!(tables(&repo).len() <= 2, "{:?}", tables(&repo));
    assert_eq!(leftovers(&repo), [""; 0]);
    let held = repo.dir().join("reftable/tables.list.lock");
    fs::write(&held, "").unwrap();
    assert!(super::compact::compact(&stack_of(&repo), gix_hash::Kind::Sha1, &policy()).is_err());
    assert!(held.exists());
}

#[test]
fn a_damaged_log_is_an_error_or_lines_and_never_more() {
    let repo = piled_up();
    repo.git(&["pack-refs", "--all"]);
    let table = tables(&repo).remove(0);
    let whole = fs::read(&table).unwrap();
    let lines = |bytes: &[u8]| {
        fs::write(&table, bytes).unwrap();
        let stack = stack_of(&repo).now(gix_hash::Kind::Sha1)?;
        let (mut logs, mut count) = (stack.logs(), 0);
        while logs.advance()? {
            count += 1;
            assert!(count < 100);
        }
        logs = stack.logs();
        logs.seek(b"refs/heads/b2\0")?;
        anyhow::Ok(count)
    };
    assert_eq!(lines(&whole).unwrap(), 4);
    for at in 0..whole.len() {
        for byte in [0, 0xff, whole[at] ^ 1] {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            let _ = lines(&bytes);
        }
    }
}

/// Many refs in a table of their own, which is too heavy to be made anew, and small tables upon it in which one of the refs is deleted.
fn piled_up_on_many() -> Repo {
    let repo = reftable();
    let ids = [repo.commit("one"), repo.commit("two")];
    let many: Vec<RefChange> =
        (0..500).map(|number| change(&format!("refs/heads/n{number}"), NEW, Some(ids[0]))).collect();
    assert!(repo.each(&many).iter().all(Result::is_ok));
    for arguments in [["-d", "refs/heads/n7"], ["refs/heads/n8", &ids[1].to_string()], ["-d", "refs/heads/n9"]] {
        let mut git = repo.command(&["update-ref", arguments[0], arguments[1]]);
        assert!(git.env("GIT_TEST_REFTABLE_AUTOCOMPACTION", "false").status().unwrap().success());
    }
    assert_eq!(tables(&repo).len(), 4);
    repo
}

#[test]
fn what_was_deleted_stays_deleted_where_tables_upon_a_large_one_are_made_one() {
    let repo = piled_up_on_many();
    let (refs, largest) = (repo.refs(), tables(&repo).remove(0));
    super::compact::compact(&stack_of(&repo), gix_hash::Kind::Sha1, &policy()).unwrap();
    assert_eq!((tables(&repo).len(), &tables(&repo)[0]), (2, &largest), "the large one is left alone");
    assert_eq!((repo.refs(), repo.our_refs(&[])), (refs.clone(), refs));
    repo.check();
}

#[cfg(feature = "failpoints")]
#[test]
fn tables_that_are_made_one_go_when_the_new_one_and_its_list_are_on_the_disk() {
    use crate::durable::{Sync, failpoints};
    for sync in [Sync::Together, Sync::Each] {
        let repo = piled_up_on_many();
        let old = tables(&repo).pop().unwrap();
        let policy = LockPolicy { sync, ..policy() };
        let recorded = failpoints::record(repo.dir());
        super::compact::compact(&stack_of(&repo), gix_hash::Kind::Sha1, &policy).unwrap();
        let done = recorded.operations();
        let at = |name: &str, path: &std::path::Path| {
            let found = done.iter().position(|done| done.name == name && repo.dir().join(&done.path) == path);
            found.unwrap_or_else(|| panic!("no {name} {}: {:?}", path.display(), recorded.seen()))
        };
        let new = tables(&repo).pop().unwrap();
        let list = repo.dir().join("reftable/tables.list");
        let forced = |from: usize, to: usize, what: &[&str]| {
            assert!(done[from..to].iter().any(|done| what.contains(&done.name)), "{sync:?}: {:?}", recorded.seen());
        };
        let (named, listed, removed) = (at("rename", &new), at("rename", &list), at("unlink", &old));
        forced(0, named, &["fsync"]);
        forced(named, listed, &["fsync", "flush"]);
        forced(listed, removed, &["fsync_directory"]);
    }
}

#[cfg(feature = "failpoints")]
#[test]
fn a_transaction_that_fails_leaves_no_table() {
    use crate::durable::failpoints::{Action, arm};
    let repo = reftable();
    let one = repo.commit("one");
    repo.each(&[change("refs/heads/a", NEW, Some(one))]);
    let mut failed = 0;
    for n in 0..30 {
        let armed = arm(repo.dir(), n, Action::Fail(std::io::ErrorKind::StorageFull));
        let made = repo.each(&[change("refs/heads/b", NEW, Some(one))]);
        drop(armed);
        if made[0].is_err() {
            assert_eq!(leftovers(&repo), [""; 0], "{n}");
            failed += 1;
        }
        repo.each(&[change("refs/heads/b", None, None)]);
        assert_eq!(refusals(&repo.each(&[change("refs/heads/a", None, Some(one))])), ["ok"], "{n}");
    }
    assert!(failed > 2, "{failed}");
}

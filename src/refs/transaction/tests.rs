//! Transactions compared with git's, with several writers, and with hooks.

use super::*;
use crate::refs::Format;
use crate::refs::fixture::{Calls, Repo, change, commit, logged, logged_as, policy};
use std::sync::atomic::{AtomicBool, Ordering};

const NEW: Option<Option<ObjectId>> = Some(None);

fn refusals(results: &[Result<(), Refusal>]) -> Vec<String> {
    results.iter().map(|result| result.as_ref().err().map_or("ok".to_owned(), ToString::to_string)).collect()
}

#[test]
fn refs_are_created_updated_and_deleted_as_git_sees_them() {
    for packed in [false, true] {
        let repo = Repo::new();
        let (one, two) = (repo.commit("one"), repo.commit("two"));
        let created = repo.each(&[
            change("refs/heads/a", NEW, Some(one)),
            change("refs/heads/deep/er/b", None, Some(one)),
            change("refs/tags/c", NEW, Some(two)),
        ]);
        assert_eq!(refusals(&created), ["ok"; 3]);
        repo.check();
        if packed {
            repo.git(&["pack-refs", "--all", "--prune"]);
        }
        let changed = repo.each(&[
            change("refs/heads/a", Some(Some(one)), Some(two)),
            change("refs/heads/deep/er/b", Some(Some(one)), None),
            change("refs/tags/c", None, None),
            change("refs/tags/none", None, None),
        ]);
        assert_eq!(refusals(&changed), ["ok"; 4]);
        repo.check();
        assert_eq!(repo.refs(), format!("refs/heads/a {two}\n"));
        assert!(!repo.exists("refs/heads/deep") && repo.exists("refs/tags"));
    }
}

#[test]
fn what_is_not_as_expected_is_refused_and_the_others_are_made() {
    for packed in [false, true] {
        let repo = Repo::new();
        let (one, two) = (repo.commit("one"), repo.commit("two"));
        repo.git(&["update-ref", "refs/heads/a", &one.to_string()]);
        repo.git(&["update-ref", "refs/heads/x/y", &one.to_string()]);
        if packed {
            repo.git(&["pack-refs", "--all", "--prune"]);
        }
        repo.write("refs/heads/broken", "rubbish");
        let changes = [
            change("refs/heads/a", Some(Some(two)), Some(one)),
            change("refs/heads/a/b", NEW, Some(one)),
            change("refs/heads/x", NEW, Some(one)),
            change("refs/heads/x/y", NEW, Some(two)),
            change("refs/heads/none", Some(Some(one)), Some(two)),
            change("refs/heads/a/b/c", Some(Some(one)), Some(two)),
            change("refs/heads/broken", None, Some(one)),
            change("refs/heads/bad..name", NEW, Some(one)),
            change("refs/heads/../../config", None, Some(one)),
            change("refs/heads/gone", Some(Some(one)), None),
            change("refs/heads/twice", None, Some(one)),
            change("refs/heads/twice", None, Some(two)),
            change("refs/heads/null", None, Some(ObjectId::null(gix_hash::Kind::Sha1))),
            change("refs/heads/fine", NEW, Some(one)),
        ];
        let expected = [
            "incorrect old value provided",
            "refname conflict",
            "refname conflict",
            "reference already exists",
            "reference does not exist",
            "reference does not exist",
            "failed to update ref",
            "failed to update ref",
            "failed to update ref",
            "reference does not exist",
            "failed to update ref",
            "failed to update ref",
            "invalid new value provided",
            "ok",
        ];
        let mut calls = Calls::default();
        let results = commit(&repo.store(), &policy(), &changes, false, &mut calls);
        assert_eq!(refusals(&results), expected, "packed: {packed}");
        let stale = format!("refs/heads/a: cannot lock ref 'refs/heads/a': is at {one} but expected {two}");
        assert!(calls.details.contains(&stale), "{:?}", calls.details);
        let conflict = "refs/heads/x: cannot lock ref 'refs/heads/x':";
        assert!(calls.details.iter().any(|detail| detail.starts_with(conflict)));
        std::fs::remove_file(repo.dir().join("refs/heads/broken")).unwrap();
        repo.check();
        assert_eq!(repo.refs(), format!("refs/heads/a {one}\nrefs/heads/fine {one}\nrefs/heads/x/y {one}\n"));
        assert!(!repo.exists("refs/heads/none.lock") && !repo.exists("refs/heads/a.lock"));
    }
}

#[test]
fn names_that_exclude_each_other_are_refused_within_one_transaction_too() {
    let repo = Repo::new();
    let one = repo.commit("one");
    let changes = [change("refs/heads/a", NEW, Some(one)), change("refs/heads/a/b", NEW, Some(one))];
    assert_eq!(refusals(&repo.atomic(&changes))[0], "refname conflict");
    assert_eq!(repo.refs(), "");
    // Not atomic: the first is refused, which makes way for the second.
    assert_eq!(refusals(&repo.each(&changes)), ["refname conflict", "ok"]);
    repo.check();
    assert_eq!(repo.refs(), format!("refs/heads/a/b {one}\n"));
    assert_eq!(refusals(&repo.each(&[change("refs/heads/a/b", Some(Some(one)), None)])), ["ok"]);
    // Deletions come first, so the names they free can be created.
    assert_eq!(refusals(&repo.each(&changes[..1])), ["ok"]);
    let swap = [changes[1].clone(), change("refs/heads/a", Some(Some(one)), None)];
    assert_eq!(refusals(&repo.each(&swap)), ["ok"; 2]);
    repo.check();
    assert_eq!(repo.refs(), format!("refs/heads/a/b {one}\n"));
}

#[test]
fn a_ref_that_has_another_value_is_in_nobodys_way() {
    for format in [Format::Files, Format::Reftable] {
        let repo = Repo::with_format(gix_hash::Kind::Sha1, format);
        let (one, two) = (repo.commit("one"), repo.commit("two"));
        // The name that is refused sorts after the other one.
        let changes = [change("refs/heads/a/b/c", Some(Some(two)), Some(one)), change("refs/heads/a", NEW, Some(one))];
        assert_eq!(refusals(&repo.each(&changes)), ["reference does not exist", "ok"], "{format:?}");
        repo.check();
        assert_eq!(repo.refs(), format!("refs/heads/a {one}\n"));
    }
}

#[test]
fn head_is_logged_where_the_symbolic_ref_it_names_is_updated() {
    for format in [Format::Files, Format::Reftable] {
        let repo = Repo::with_format(gix_hash::Kind::Sha1, format);
        let one = repo.commit("one");
        repo.git(&["symbolic-ref", "HEAD", "refs/heads/alias"]);
        repo.git(&["symbolic-ref", "refs/heads/alias", "refs/heads/real"]);
        let changes = [logged_as(change("refs/heads/alias", NEW, Some(one)), LogRefs::Branches)];
        assert_eq!(refusals(&repo.each(&changes)), ["ok"]);
        let has_log = |name: &str| repo.command(&["reflog", "exists", name]).status().unwrap().success();
        assert_eq!(["HEAD", "refs/heads/alias", "refs/heads/real"].map(has_log), [true; 3], "{format:?}");
    }
}

#[test]
fn packed_refs_above_and_below_are_in_the_way_whatever_stands_between() {
    let repo = Repo::new();
    let one = repo.commit("one");
    for name in ["x-y", "x.z", "x/y", "free-y"] {
        repo.git(&["update-ref", &format!("refs/heads/{name}"), &one.to_string()]);
    }
    repo.git(&["pack-refs", "--all", "--prune"]);
    let asked = ["refs/heads/x", "refs/heads/x/y/z", "refs/heads/x-y/a", "refs/heads/free"];
    // Alone, and with enough others that all go to packed-refs.
    for others in [0, 100] {
        let mut changes: Vec<RefChange> = asked.iter().map(|name| change(name, NEW, Some(one))).collect();
        changes.extend((0..others).map(|n| change(&format!("refs/heads/many/{n}"), NEW, Some(one))));
        let told = refusals(&repo.each(&changes));
        assert_eq!(told[..3], ["refname conflict"; 3], "{others} others");
        assert!(told[3..].iter().all(|told| told == "ok"), "{told:?}");
        repo.check();
        repo.git(&["update-ref", "-d", "refs/heads/free"]);
    }
}

#[test]
fn a_symbolic_ref_is_followed_and_logged() {
    let repo = Repo::new();
    let (one, two) = (repo.commit("one"), repo.commit("two"));
    repo.git(&["update-ref", "refs/heads/a", &one.to_string()]);
    repo.git(&["symbolic-ref", "refs/heads/s", "refs/heads/a"]);
    let update = logged(change("refs/heads/s", Some(Some(one)), Some(two)), true);
    assert_eq!(refusals(&repo.each(&[update])), ["ok"]);
    repo.check();
    assert_eq!(repo.refs(), format!("refs/heads/a {two}\nrefs/heads/s {two} refs/heads/a\n"));
    let line = format!("{one} {two} A U Thor <author@example.com> 1700000000 +0000\tpush");
    assert_eq!(repo.lines("logs/refs/heads/a"), [line.as_str()]);
    assert_eq!(repo.lines("logs/refs/heads/s"), [line.as_str()]);
    assert_eq!(repo.git(&["reflog", "show", "--format=%H %gs", "refs/heads/a"]), format!("{two} push"));
    let both = [change("refs/heads/s", None, Some(one)), change("refs/heads/a", None, Some(one))];
    assert_eq!(refusals(&repo.each(&both)), ["refname conflict", "ok"]);
    repo.git(&["symbolic-ref", "refs/heads/t", "refs/heads/a"]);
    let both = [change("refs/heads/t", None, Some(two)), change("refs/heads/s", None, Some(one))];
    assert_eq!(refusals(&repo.each(&both)), ["refname conflict", "ok"]);
    repo.git(&["symbolic-ref", "--delete", "refs/heads/t"]);
    repo.git(&["symbolic-ref", "refs/heads/s", "refs/heads/born"]);
    assert_eq!(refusals(&repo.each(&[change("refs/heads/s", NEW, Some(two))])), ["ok"]);
    assert_eq!(refusals(&repo.each(&[change("refs/heads/s", Some(Some(two)), None)])), ["ok"]);
    assert_eq!(repo.refs(), format!("refs/heads/a {one}\n"));
}

#[test]
fn as_many_symbolic_refs_are_followed_as_git_reads() {
    let repo = Repo::new();
    let (one, two) = (repo.commit("one"), repo.commit("two"));
    for length in 1..9 {
        repo.git(&["update-ref", "refs/heads/0", &one.to_string()]);
        let name = format!("refs/heads/{length}");
        repo.git(&["symbolic-ref", &name, &format!("refs/heads/{}", length - 1)]);
        let is_read = repo.command(&["rev-parse", "-q", "--verify", &name]).output().unwrap().status.success();
        assert_eq!(repo.each(&[change(&name, None, Some(two))])[0].is_ok(), is_read, "{length}");
        assert_eq!(repo.lines("refs/heads/0"), [if is_read { two } else { one }.to_string()], "{length}");
    }
}

#[test]
fn logs_go_with_refs_that_are_deleted_in_one_step() {
    let repo = Repo::new();
    let one = repo.commit("one");
    let names = ["refs/heads/a", "refs/heads/deep/b", "refs/heads/c"];
    let create = names.map(|name| logged(change(name, NEW, Some(one)), true));
    assert!(repo.each(&create).iter().all(Result::is_ok));
    assert!(names.iter().all(|name| repo.exists(&format!("logs/{name}"))));
    let gone = [names[0], names[1]].map(|name| logged(change(name, Some(Some(one)), None), true));
    assert!(repo.atomic(&gone).iter().all(Result::is_ok));
    assert_eq!(names.map(|name| repo.exists(&format!("logs/{name}"))), [false, false, true]);
    assert!(!repo.exists("logs/refs/heads/deep"));
    repo.check();
}

#[test]
fn logs_are_kept_as_git_keeps_them() {
    let (ours, gits) = (Repo::new(), Repo::new());
    let (one, two) = (ours.commit("one"), ours.commit("two"));
    assert_eq!((gits.commit("one"), gits.commit("two")), (one, two));
    let logs = |repo: &Repo| -> Vec<Vec<String>> {
        ["HEAD", "refs/heads/main", "refs/heads/x", "refs/tags/t"]
            .iter()
            .map(|name| repo.lines(&format!("logs/{name}")))
            .collect()
    };
    gits.git(&["config", "core.logAllRefUpdates", "true"]);
    let step = |name: &str, old: Option<ObjectId>, new: Option<ObjectId>, create: bool| {
        let results = ours.each(&[logged(change(name, Some(old), new), create)]);
        assert_eq!(refusals(&results), ["ok"], "{name}");
        match new {
            Some(new) => gits.git(&["update-ref", "-m", "push", name, &new.to_string()]),
            None => gits.git(&["update-ref", "-m", "push", "-d", name]),
        };
        assert_eq!(logs(&ours), logs(&gits), "{name}");
        assert_eq!(ours.exists("logs/refs/heads/dir"), gits.exists("logs/refs/heads/dir"));
    };
    step("refs/heads/main", None, Some(one), true);
    step("refs/heads/main", Some(one), Some(two), true);
    step("refs/tags/t", None, Some(two), false);
    step("refs/heads/x", None, Some(two), true);
    step("refs/heads/x", Some(two), None, true);
    step("refs/heads/dir/y", None, Some(two), true);
    step("refs/heads/dir/y", Some(two), None, true);
    step("refs/heads/main", Some(two), None, true);
    // A ref that core.logAllRefUpdates leaves out is logged all the same if it has a log.
    ours.write("logs/refs/tags/t", "");
    let results = ours.each(&[logged(change("refs/tags/t", None, Some(one)), false)]);
    assert_eq!((refusals(&results), ours.lines("logs/refs/tags/t").len()), (vec!["ok".to_owned()], 1));
}

#[test]
fn each_ref_that_changes_has_its_own_say_in_whether_it_gets_a_log() {
    for format in [Format::Files, Format::Reftable] {
        let repo = Repo::with_format(gix_hash::Kind::Sha1, format);
        let one = repo.commit("one");
        repo.git(&["symbolic-ref", "refs/tags/latest", "refs/heads/release"]);
        repo.git(&["symbolic-ref", "refs/heads/alias", "refs/tags/t"]);
        let changes = ["refs/tags/latest", "refs/heads/alias"]
            .map(|name| logged_as(change(name, NEW, Some(one)), LogRefs::Branches));
        assert_eq!(refusals(&repo.each(&changes)), ["ok"; 2]);
        let has_log = |name: &str| repo.command(&["reflog", "exists", name]).status().unwrap().success();
        let logs = ["refs/tags/latest", "refs/heads/release", "refs/heads/alias", "refs/tags/t"].map(has_log);
        assert_eq!(logs, [false, true, true, false], "{format:?}");
    }
}

#[test]
fn a_log_that_cannot_be_written_refuses_its_ref_alone() {
    for count in [2, 100] {
        let repo = Repo::new();
        let one = repo.commit("one");
        repo.write("logs/refs/heads/n1/x", "in the way");
        let changes: Vec<RefChange> =
            (0..count).map(|number| logged(change(&format!("refs/heads/n{number}"), NEW, Some(one)), true)).collect();
        let results = repo.each(&changes);
        assert_eq!(results[1], Err(Refusal::UpdateFailed));
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), count - 1);
        repo.check();
        assert_eq!(repo.refs().lines().count(), count - 1);
        assert!(repo.atomic(&[changes[1].clone(), change("refs/heads/y", NEW, Some(one))]).iter().all(Result::is_err));
        assert_eq!(repo.refs().lines().count(), count - 1);
    }
}

#[test]
fn a_held_lock_refuses_and_names_the_ref() {
    let repo = Repo::new();
    let (one, two) = (repo.commit("one"), repo.commit("two"));
    assert_eq!(refusals(&repo.each(&[change("refs/heads/a", NEW, Some(one))])), ["ok"]);
    repo.write("refs/heads/a.lock", "");
    let mut calls = Calls::default();
    let changes = [change("refs/heads/a", None, Some(two)), change("refs/heads/b", None, Some(two))];
    let results = commit(&repo.store(), &policy(), &changes, false, &mut calls);
    assert_eq!(refusals(&results), ["failed to update ref", "ok"]);
    let text = "cannot lock ref 'refs/heads/a': Unable to create 'refs/heads/a.lock': File exists.";
    assert_eq!(calls.details, [format!("refs/heads/a: {text}")]);
    assert!(repo.exists("refs/heads/a.lock"), "the lock of somebody else stays");
    repo.check();
    repo.write("refs/heads/c.lock", "");
    let changes = ["refs/heads/c", "refs/heads/c/below"].map(|name| change(name, NEW, Some(one)));
    assert_eq!(refusals(&repo.each(&changes)), ["failed to update ref", "ok"], "what is refused is in nobody's way");
}

#[test]
fn a_held_lock_on_a_folder_of_many_new_refs_refuses_those_in_it() {
    let repo = Repo::new();
    let one = repo.commit("one");
    repo.write("refs/heads/deep.lock", "");
    let names = (0..100).map(|number| format!("refs/heads/n/{number}"));
    let below = ["refs/heads/deep/er", "refs/heads/deep/and/er"].map(str::to_owned);
    let changes: Vec<RefChange> = names.chain(below).map(|name| change(&name, NEW, Some(one))).collect();
    let mut calls = Calls::default();
    let results = commit(&repo.store(), &policy(), &changes, false, &mut calls);
    let (others, below) = results.split_at(100);
    assert!(others.iter().all(Result::is_ok), "{:?}", refusals(others));
    assert_eq!(refusals(below), ["failed to update ref"; 2]);
    let told =
        |name: &str| format!("{name}: cannot lock ref '{name}': Unable to create 'refs/heads/deep.lock': File exists.");
    assert_eq!(calls.details, [told("refs/heads/deep/er"), told("refs/heads/deep/and/er")]);
    assert!(repo.exists("refs/heads/deep.lock") && !repo.exists("refs/heads/n.lock"));
    repo.check();
    assert_eq!(repo.refs().lines().count(), 100);
}

#[test]
fn only_deletions_wait_for_packed_refs() {
    let repo = Repo::new();
    let (one, two) = (repo.commit("one"), repo.commit("two"));
    repo.git(&["update-ref", "refs/heads/a", &one.to_string()]);
    repo.git(&["pack-refs", "--all"]);
    repo.write("packed-refs.lock", "");
    let policy = LockPolicy { packed_timeout: Duration::from_millis(5), ..policy() };
    let mut changes: Vec<RefChange> =
        (0..100).map(|number| change(&format!("refs/heads/n{number}"), NEW, Some(one))).collect();
    changes.push(change("refs/heads/a", Some(Some(one)), Some(two)));
    let results = commit(&repo.store(), &policy, &changes, false, &mut Calls::default());
    assert!(results.iter().all(Result::is_ok), "{:?}", refusals(&results));
    let deletion = [change("refs/heads/a", Some(Some(two)), None)];
    let results = commit(&repo.store(), &policy, &deletion, false, &mut Calls::default());
    assert_eq!(refusals(&results), ["failed to update ref"]);
    std::fs::remove_file(repo.dir().join("packed-refs.lock")).unwrap();
    repo.check();
    assert_eq!(repo.store().resolve("refs/heads/a".into()).unwrap(), Some(two));
}

#[test]
fn refs_that_git_has_made_below_a_name_meanwhile_keep_it_out_of_packed_refs() {
    /// Creates a ref between the checks and the commit.
    struct Meanwhile<'r>(&'r Repo, ObjectId);

    impl TransactionHook for Meanwhile<'_> {
        fn state(&mut self, state: TransactionState, _: &[(ObjectId, ObjectId, BString)]) -> bool {
            if state == TransactionState::Prepared {
                self.0.git(&["update-ref", "refs/heads/n3/below", &self.1.to_string()]);
            }
            true
        }
    }

    for (count, atomic) in [(70, false), (7, true)] {
        let repo = Repo::new();
        let (one, two) = (repo.commit("one"), repo.commit("two"));
        repo.git(&["update-ref", "refs/heads/n4", &one.to_string()]);
        let changes: Vec<_> = (0..count).map(|n| change(&format!("refs/heads/n{n}"), None, Some(two))).collect();
        let results = commit(&repo.store(), &policy(), &changes, atomic, &mut Meanwhile(&repo, one));
        assert_eq!(results[3], Err(Refusal::NameConflict));
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), if atomic { 0 } else { count - 1 });
        let refs = repo.refs();
        assert!(refs.contains(&format!("refs/heads/n3/below {one}\n")) && !refs.contains("refs/heads/n3 "), "{refs}");
        assert_eq!(refs.contains(&format!("refs/heads/n4 {two}\n")), !atomic, "{refs}");
        repo.check();
    }
}

#[test]
fn a_worktrees_own_refs_stay_loose_among_many() {
    let repo = Repo::new();
    let (one, two) = (repo.commit("one"), repo.commit("two"));
    let own = ["refs/bisect/bad", "refs/rewritten/a/b", "refs/worktree/x", "refs/worktree/y"];
    repo.git(&["update-ref", "refs/worktree/y", &one.to_string()]);
    let mut changes: Vec<_> = (0..64).map(|n| change(&format!("refs/heads/many/{n}"), NEW, Some(one))).collect();
    changes.extend(own.map(|name| change(name, None, Some(two))));
    assert_eq!(refusals(&repo.each(&changes)), ["ok"; 68]);
    let packed = repo.lines("packed-refs");
    assert!(packed.iter().any(|line| line.ends_with("refs/heads/many/63")));
    for name in own {
        assert_eq!(repo.lines(name), [two.to_string()], "{name}");
        assert!(!packed.iter().any(|line| line.ends_with(name)), "{name}");
    }
    repo.check();
    changes = own.map(|name| change(name, Some(Some(two)), None)).into();
    changes.extend((0..64).map(|n| change(&format!("refs/heads/many/{n}"), None, Some(two))));
    assert_eq!(refusals(&repo.each(&changes)), ["ok"; 68]);
    assert!(own.iter().all(|name| !repo.exists(name)));
    repo.check();
}

#[test]
fn many_changes_go_to_packed_refs_with_their_peeled_values() {
    let repo = Repo::new();
    let (one, two) = (repo.commit("one"), repo.commit("two"));
    let tag = repo.tag("v", one);
    repo.git(&["update-ref", "refs/heads/n3", &one.to_string()]);
    repo.git(&["update-ref", "refs/heads/kept", &one.to_string()]);
    let mut changes: Vec<RefChange> =
        (0..200).map(|number| change(&format!("refs/heads/n{number}"), None, Some(two))).collect();
    changes.push(change("refs/tags/v", NEW, Some(tag)));
    changes.push(change("refs/heads/deep/er", NEW, Some(one)));
    let proof = crate::auth::Grant::new(crate::auth::Scope::Write, None).writable().unwrap();
    let (store, mut hook) = (repo.store(), Calls::default());
    let mut transaction = RefTransaction::begin(&store, &proof, policy(), &mut hook);
    transaction.add(changes);
    let peel = |id| if id == tag { Peeled::To(one) } else { Peeled::NotATag };
    transaction.peel_with(&peel);
    assert!(transaction.commit_each().iter().all(Result::is_ok));
    repo.check();
    assert_eq!(repo.git(&["show-ref", "--dereference", "v"]), format!("{tag} refs/tags/v\n{one} refs/tags/v^{{}}"));
    let packed = repo.lines("packed-refs");
    assert_eq!(packed[0], "# pack-refs with: peeled fully-peeled sorted ");
    assert_eq!(packed.last().unwrap(), &format!("^{one}"));
    assert!(!repo.exists("refs/heads/n3") && !repo.exists("refs/heads/deep") && repo.exists("refs/heads/kept"));
    // Without knowing what a tag peels to, the header promises nothing about tags.
    let more: Vec<RefChange> =
        (0..200).map(|number| change(&format!("refs/tags/t{number}"), None, Some(tag))).collect();
    assert!(repo.each(&more).iter().all(Result::is_ok));
    repo.check();
    assert_eq!(repo.lines("packed-refs")[0], "# pack-refs with: sorted ");
    assert_eq!(repo.git(&["show-ref", "--dereference", "t7"]).lines().count(), 2);
    assert_eq!(repo.git(&["show-ref", "--dereference", "v"]).lines().count(), 2);
}

#[test]
fn an_atomic_transaction_makes_all_or_nothing() {
    for packed in [false, true] {
        let repo = Repo::new();
        let (one, two) = (repo.commit("one"), repo.commit("two"));
        repo.git(&["update-ref", "refs/heads/a", &one.to_string()]);
        repo.git(&["update-ref", "refs/heads/b/c", &one.to_string()]);
        if packed {
            repo.git(&["pack-refs", "--all", "--prune"]);
            repo.git(&["update-ref", "refs/heads/a", &two.to_string()]);
            repo.git(&["update-ref", "refs/heads/a", &one.to_string()]);
        }
        let before = repo.refs();
        let stale = [
            change("refs/heads/a", Some(Some(one)), Some(two)),
            change("refs/heads/b/c", Some(Some(two)), None),
            change("refs/heads/new", NEW, Some(two)),
        ];
        let expected = ["atomic transaction failed", "incorrect old value provided", "atomic transaction failed"];
        assert_eq!(refusals(&repo.atomic(&stale)), expected);
        assert_eq!(repo.refs(), before);
        let fine = [
            change("refs/heads/a", Some(Some(one)), Some(two)),
            change("refs/heads/b/c", Some(Some(one)), None),
            change("refs/heads/new/d", NEW, Some(two)),
        ];
        assert_eq!(refusals(&repo.atomic(&fine)), ["ok"; 3]);
        repo.check();
        assert_eq!(repo.refs(), format!("refs/heads/a {two}\nrefs/heads/new/d {two}\n"));
        assert!(!repo.exists("packed-refs.lock") && !repo.exists("refs/heads/b"));
        assert_eq!(std::fs::read_dir(repo.dir().join("artifacts-journal")).unwrap().count(), 0);
        let own = [change("refs/worktree/x", NEW, Some(one)), change("refs/heads/y", NEW, Some(one))];
        assert_eq!(refusals(&repo.atomic(&own)), ["failed to update ref", "atomic transaction failed"]);
        assert_eq!(refusals(&repo.atomic(&own[..1])), ["ok"]);
    }
}

#[test]
fn the_hook_hears_every_state_and_may_veto_two() {
    let repo = Repo::new();
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
    for (veto, phase) in [(TransactionState::Preparing, "preparing"), (TransactionState::Prepared, "prepared")] {
        for atomic in [false, true] {
            let mut calls = Calls { veto: Some(veto), ..Calls::default() };
            let results = commit(&repo.store(), &policy(), &[changes[0].clone()], atomic, &mut calls);
            if atomic || phase == "preparing" {
                assert_ne!(refusals(&results), ["ok"]);
            }
            let deletion = [change("refs/heads/a", None, None)];
            let mut calls = Calls { veto: Some(veto), ..Calls::default() };
            let results = commit(&repo.store(), &policy(), &deletion, atomic, &mut calls);
            let text = format!("in '{phase}' phase, update aborted by the reference-transaction hook");
            assert_eq!(refusals(&results), [text]);
            assert_eq!(calls.states.last().unwrap().0, TransactionState::Aborted);
        }
    }
    repo.check();
    assert_eq!(repo.store().resolve("refs/heads/a".into()).unwrap(), Some(one));
}

#[test]
fn a_random_history_goes_as_it_goes_with_git() {
    let (ours, gits) = (Repo::new(), Repo::new());
    let ids = [ours.commit("one"), ours.commit("two"), ours.commit("three")];
    for (id, message) in ids.iter().zip(["one", "two", "three"]) {
        assert_eq!(gits.commit(message), *id);
    }
    for repo in [&ours, &gits] {
        repo.git(&["symbolic-ref", "refs/heads/s", "refs/heads/a/b"]);
    }
    let names = ["a", "a/b", "a/b/c", "d/e", "d", "s", "s/t"].map(|name| format!("refs/heads/{name}"));
    let mut state: u64 = 42;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for round in 0..160 {
        if random(12) == 0 {
            let how: &[&str] =
                if random(2) == 0 { &["pack-refs", "--all"] } else { &["pack-refs", "--all", "--no-prune"] };
            ours.git(how);
            gits.git(how);
        }
        let name = &names[random(names.len())];
        let new = [None, Some(ids[random(3)]), Some(ids[random(3)])][random(3)];
        let old = [None, None, Some(None), Some(Some(ids[random(3)]))][random(4)];
        let zero = "0".repeat(40);
        let old_text = old.map(|old| old.map_or(zero.clone(), |old| old.to_string()));
        let new_text = new.map(|new| new.to_string());
        let mut arguments = vec!["update-ref"];
        match &new_text {
            Some(new) => arguments.extend([name.as_str(), new]),
            // git has no command for «delete what must not exist», and deletes a missing ref, but not below other refs.
            None if old == Some(None) || ours.store().resolve(name.as_str().into()).unwrap().is_none() => continue,
            None => arguments.extend(["-d", name]),
        }
        arguments.extend(old_text.as_deref());
        let git = gits.command(&arguments).stderr(std::process::Stdio::null()).status().unwrap().success();
        let result =
            if random(2) == 0 { ours.each(&[change(name, old, new)]) } else { ours.atomic(&[change(name, old, new)]) };
        assert_eq!(result[0].is_ok(), git, "round {round}: {arguments:?}: {result:?}");
        assert_eq!(ours.our_refs(&[]), gits.refs(), "round {round}: {arguments:?}");
    }
    assert_eq!(ours.refs(), gits.refs());
}

#[test]
fn nothing_is_lost_beside_git_packing_refs() {
    let repo = Repo::new();
    // A name that is used again gets other values: git packs a ref first and then removes its file, and takes a file of
    // the same value for the one it has packed, whatever happened in between.
    let values = [0, 1, 2, 3, 4].map(|turn| (repo.commit(&format!("one {turn}")), repo.commit(&format!("two {turn}"))));
    let stop = AtomicBool::new(false);
    let patient =
        LockPolicy { ref_timeout: Duration::from_secs(20), packed_timeout: Duration::from_secs(20), ..policy() };
    std::thread::scope(|scope| {
        let packer = scope.spawn(|| {
            let mut rounds = 0;
            while rounds < 2 || !stop.load(Ordering::Relaxed) {
                // Our locks make this fail now and then, as any git's would.
                let _ = repo.command(&["pack-refs", "--all", "--prune"]).stderr(std::process::Stdio::null()).status();
                rounds += 1;
            }
        });
        let workers: Vec<_> = (0..3)
            .map(|worker| {
                let (repo, patient, values) = (&repo, &patient, &values);
                scope.spawn(move || {
                    let store = repo.store();
                    let run = |changes: &[RefChange], atomic| {
                        let results = commit(&store, patient, changes, atomic, &mut Calls::default());
                        assert!(results.iter().all(Result::is_ok), "{:?}", refusals(&results));
                    };
                    for round in 0..20 {
                        let name = |part: &str| format!("refs/heads/w{worker}/{part}{}", round % 4);
                        let (one, two) = values[round / 4];
                        let atomic = round % 2 == 0;
                        run(&[change(&name("x"), NEW, Some(one)), change(&name("y/z"), NEW, Some(one))], atomic);
                        run(&[change(&name("x"), Some(Some(one)), Some(two))], false);
                        run(
                            &[change(&name("x"), Some(Some(two)), None), change(&name("y/z"), Some(Some(one)), None)],
                            !atomic,
                        );
                        run(&[change(&format!("refs/heads/kept{worker}/{round}"), NEW, Some(two))], false);
                    }
                })
            })
            .collect();
        let failed = workers.into_iter().filter_map(|worker| worker.join().err()).count();
        stop.store(true, Ordering::Relaxed);
        packer.join().unwrap();
        assert_eq!(failed, 0);
    });
    repo.check();
    let expected: usize = 3 * 20;
    assert_eq!(repo.refs().lines().count(), expected, "{}", repo.refs());
}

#[cfg(feature = "failpoints")]
#[test]
fn the_directory_of_a_new_log_may_vanish_before_the_log_is_made() {
    use crate::durable::failpoints::{self, Action};
    let create = |repo: &Repo| repo.each(&[logged(change("refs/heads/a/b", NEW, Some(repo.commit("one"))), true)]);
    let repo = Repo::new();
    let recorded = failpoints::record(repo.dir());
    create(&repo);
    let append = recorded.seen().iter().position(|operation| operation.starts_with("append ")).unwrap();
    drop(recorded);
    let repo = Repo::new();
    // As when another process deletes the last other ref of that directory.
    let armed = failpoints::arm(repo.dir(), append as u64, Action::Fail(std::io::ErrorKind::NotFound));
    assert!(create(&repo).iter().all(Result::is_ok));
    assert_eq!(armed.seen().iter().filter(|operation| operation.starts_with("append ")).count(), 2);
    assert!(repo.dir().join("logs/refs/heads/a/b").exists());
}

#[test]
fn one_of_many_wins_each_round_of_a_race() {
    let repo = Repo::new();
    let ids: Vec<ObjectId> = (0..30).map(|number| repo.commit(&number.to_string())).collect();
    let patient = LockPolicy { ref_timeout: Duration::from_secs(20), ..policy() };
    repo.each(&[change("refs/heads/main", NEW, Some(ids[0]))]);
    let wins: usize = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let store = repo.store();
                    ids.windows(2)
                        .filter(|step| {
                            let change = [change("refs/heads/main", Some(Some(step[0])), Some(step[1]))];
                            commit(&store, &patient, &change, false, &mut Calls::default())[0].is_ok()
                        })
                        .count()
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).sum()
    });
    let reached = repo.store().resolve("refs/heads/main".into()).unwrap().unwrap();
    assert_eq!(ids.iter().position(|id| *id == reached), Some(wins));
}

#[test]
fn a_reader_sees_an_atomic_change_whole_or_not_at_all() {
    let repo = Repo::new();
    let ids = [repo.commit("one"), repo.commit("two")];
    let names: Vec<String> = (0..6).map(|number| format!("refs/heads/b{number}")).collect();
    for name in &names {
        repo.each(&[change(name, NEW, Some(ids[0]))]);
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (store, mut looks) = (repo.store(), 0);
            while !stop.load(Ordering::Relaxed) {
                let mut seen = Vec::new();
                let mut each = |row: &super::super::Row<'_>| {
                    seen.push(row.id.id());
                    Ok(())
                };
                store.for_each(&[], &mut each).unwrap();
                assert_eq!(seen.len(), names.len());
                assert!(seen.iter().all(|id| *id == seen[0]), "{seen:?}");
                looks += 1;
            }
            looks
        });
        for round in 0..60 {
            let (old, new) = (ids[round % 2], ids[(round + 1) % 2]);
            let changes: Vec<_> = names.iter().map(|name| change(name, Some(Some(old)), Some(new))).collect();
            assert!(repo.atomic(&changes).iter().all(Result::is_ok));
            if round % 10 == 0 {
                // Make them loose again, so that the next change has to move them into packed-refs first.
                for name in &names {
                    let path = repo.dir().join(name);
                    std::fs::write(path.with_extension("lock"), format!("{new}\n")).unwrap();
                    std::fs::rename(path.with_extension("lock"), path).unwrap();
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 5);
    });
    repo.check();
}

//! Pushes to checked-out branches whose work tree is updated along; compared with C git.

use super::support::{Answer, Pair, send};
use std::path::{Path, PathBuf};

/// How a work tree and its index differ from its HEAD, including untracked files.
fn status(pair: &Pair, place: &Path) -> String {
    pair.git(place, &["status", "--porcelain"])
}

/// A pair whose server has a linked work tree `tree` on the branch `linked`, which is updated by pushes.
fn linked() -> (Pair, PathBuf) {
    let pair = Pair::new();
    pair.at_server(&["branch", "linked"]);
    pair.at_server(&["worktree", "add", "-q", "../tree", "linked"]);
    pair.at_server(&["config", "receive.denyCurrentBranch", "updateInstead"]);
    let place = pair.scratch.0.join("tree");
    (pair, place)
}

/// A pair whose server is not bare: `work/.git`, with `main` checked out in `work`.
fn not_bare(format: &str) -> (Pair, PathBuf) {
    let mut pair = Pair::new();
    pair.git(&pair.scratch.0, &["clone", "-q", &format!("--ref-format={format}"), "client", "work"]);
    let place = pair.scratch.0.join("work");
    pair.server = place.join(".git");
    pair.at_server(&["config", "receive.denyCurrentBranch", "updateInstead"]);
    (pair, place)
}

/// A directory for PATH without git.
fn without_git(pair: &Pair) -> PathBuf {
    let path = pair.scratch.0.join("bin");
    std::fs::create_dir(&path).expect("scratch can be written");
    path
}

#[test]
fn a_clean_work_tree_follows_its_branch() {
    for format in ["files", "reftable"] {
        let (pair, place) = not_bare(format);
        let new = pair.commit("three");
        assert_eq!(pair.send(&pair.push(&["HEAD~1 HEAD refs/heads/main"])).complaints(), [""; 0], "{format}");
        assert_eq!(std::fs::read_to_string(place.join("file")).ok().as_deref(), Some("three"));
        assert_eq!((status(&pair, &place).as_str(), pair.at_server(&["rev-parse", "HEAD"])), ("", new));
    }
    let (pair, place) = linked();
    let new = pair.commit("three");
    assert_eq!(pair.send(&pair.push(&["HEAD~1 HEAD refs/heads/linked"])).complaints(), [""; 0]);
    assert_eq!((status(&pair, &place).as_str(), pair.git(&place, &["rev-parse", "HEAD"])), ("", new));
}

#[test]
fn what_is_checked_out_is_known_from_a_reftable_too() {
    let (pair, _) = not_bare("reftable");
    pair.at_server(&["config", "receive.denyCurrentBranch", "refuse"]);
    pair.commit("three");
    let answer = pair.send(&pair.push(&["HEAD~1 HEAD refs/heads/main"]));
    assert_eq!(answer.complaints(), ["ng refs/heads/main branch is currently checked out"]);
}

#[test]
fn a_work_tree_with_changes_is_left_alone_and_its_branch_too() {
    let check = |case: &str, change: &str, expected: &str| {
        let (pair, place) = linked();
        std::fs::write(pair.client.join("other"), "pushed").expect("scratch can be written");
        pair.git(&pair.client, &["add", "other"]);
        pair.commit("three");
        let mut shell = std::process::Command::new("sh");
        assert!(shell.args(["-ec", change]).current_dir(&place).status().expect("the shell runs").success());
        let (refs, before) = (pair.refs(), status(&pair, &place));
        let push = pair.push(&["HEAD~1 HEAD refs/heads/linked"]);
        let copy = pair.copy();
        let theirs = copy.send_to_git(&push.bytes());
        let answer = pair.send(&push);
        assert_eq!(answer.complaints(), [format!("ng refs/heads/linked {expected}")], "{case}: {}", answer.said);
        assert_eq!(answer.report, theirs.report, "{case}");
        assert_eq!((pair.refs(), status(&pair, &place)), (refs, before), "{case}");
    };
    check("changed", "echo mine >file", "Working directory has unstaged changes");
    check("staged", "echo mine >file; git add file", "Working directory has staged changes");
    check("in the way", "echo mine >other", "Could not update working tree to new HEAD");
    check("locked", ": >../server.git/worktrees/tree/index.lock; touch -d @1 file", "Up-to-date check failed");
}

#[test]
fn an_unborn_branch_is_checked_out_for_the_first_time() {
    for namespace in [None, Some("n")] {
        let mut pair = Pair::new();
        pair.git(&pair.scratch.0, &["init", "-q", "-b", "main", "void"]);
        let place = pair.scratch.0.join("void");
        pair.server = place.join(".git");
        pair.at_server(&["config", "receive.denyCurrentBranch", "updateInstead"]);
        let new = pair.client_id("HEAD");
        let mut push = pair.push(&["- - refs/heads/main"]);
        push.lines = vec![format!("{} {new} refs/heads/main", pair.null())];
        push.pack = pair.pack(&new);
        let answer = send(&pair.open_with(|context| context.namespace = namespace.map(Into::into)), &push.bytes());
        assert_eq!(answer.complaints(), [""; 0], "{}", answer.said);
        assert_eq!(std::fs::read_to_string(place.join("file")).ok().as_deref(), Some("two"));
        let expected = if namespace.is_some() { "A  file" } else { "" };
        assert_eq!(status(&pair, &place), expected, "in a namespace another ref is changed, as by git");
    }
}

#[test]
fn the_hook_push_to_checkout_does_it_instead() {
    let (pair, place) = linked();
    pair.hook(
        "push-to-checkout",
        "echo to $1; echo $GIT_DIR $GIT_WORK_TREE; test ! -e ../declined && git read-tree -u -m HEAD $1",
    );
    std::fs::write(place.join("unrelated"), "mine").expect("scratch can be written");
    let new = pair.commit("three");
    let push = pair.push(&["HEAD~1 HEAD refs/heads/linked"]);
    let git_dir = pair.server.join("worktrees/tree");
    let said = format!("to {new}\n{} {}\n", git_dir.display(), place.display());
    std::fs::write(pair.scratch.0.join("declined"), "").expect("scratch can be written");
    let answer = pair.send(&push);
    assert_eq!(answer.complaints(), ["ng refs/heads/linked push-to-checkout hook declined"]);
    assert_eq!(answer.said, said);
    std::fs::remove_file(pair.scratch.0.join("declined")).expect("it is there");
    let answer = pair.send(&push);
    assert_eq!((answer.complaints(), answer.said.as_str()), (vec![], said.as_str()));
    assert_eq!((status(&pair, &place).as_str(), pair.git(&place, &["rev-parse", "HEAD"])), ("?? unrelated", new));
}

#[test]
fn nothing_is_checked_out_for_a_push_that_does_not_happen() {
    let check = |prepare: &dyn Fn(&Pair), updates: &[&str], expected: &str| {
        let (pair, place) = linked();
        pair.commit("three");
        prepare(&pair);
        let answer = pair.send(&pair.push(updates));
        assert_eq!(answer.complaints(), [expected], "{}", answer.said);
        assert_eq!(std::fs::read_to_string(place.join("file")).ok().as_deref(), Some("two"));
        assert_eq!(status(&pair, &place), "");
    };
    let ng = |why: &str| format!("ng refs/heads/linked {why}");
    let hook = |pair: &Pair| pair.hook("update", "exit 1");
    check(&hook, &["HEAD~1 HEAD refs/heads/linked"], &ng("hook declined"));
    check(&|_| {}, &["HEAD~2 HEAD refs/heads/linked"], &ng("incorrect old value provided"));
    check(&|_| {}, &["HEAD~1 HEAD^{tree} refs/heads/linked"], &ng("invalid new value provided"));
    let forward = |pair: &Pair| drop(pair.at_server(&["config", "receive.denyNonFastForwards", "true"]));
    check(&forward, &["HEAD~1 HEAD~2 refs/heads/linked"], &ng("non-fast-forward"));
    let delete = ng("deletion of the current branch prohibited");
    check(&|_| {}, &["HEAD~1 - refs/heads/linked"], &delete);
}

#[test]
fn nothing_is_checked_out_for_an_atomic_push_in_which_another_ref_is_refused() {
    let check = |prepare: &dyn Fn(&Pair), other: &str, expected: [&str; 2]| {
        let (pair, place) = linked();
        pair.at_server(&["branch", "other"]);
        pair.commit("three");
        prepare(&pair);
        let (refs, updates) = (pair.refs(), ["HEAD~1 HEAD refs/heads/linked", other]);
        let answer = pair.send(&pair.push(&updates).and("atomic"));
        assert_eq!(answer.complaints(), expected, "{}", answer.said);
        assert_eq!(std::fs::read_to_string(place.join("file")).ok().as_deref(), Some("two"));
        assert_eq!((status(&pair, &place).as_str(), pair.refs()), ("", refs));
    };
    let failed = "ng refs/heads/linked atomic push failure";
    let hook = |pair: &Pair| pair.hook("update", "test $1 != refs/heads/other");
    check(&hook, "HEAD~1 HEAD refs/heads/other", [failed, "ng refs/heads/other hook declined"]);
    let forward = |pair: &Pair| drop(pair.at_server(&["config", "receive.denyNonFastForwards", "true"]));
    check(&forward, "HEAD~1 HEAD~2 refs/heads/other", [failed, "ng refs/heads/other non-fast-forward"]);
    let [linked, other] = ["linked", "other"].map(|name| format!("ng refs/heads/{name} atomic transaction failed"));
    check(&|_| {}, "HEAD~2 HEAD refs/heads/other", [&linked, &other]);
}

#[test]
fn without_an_installed_git_the_refusal_says_so() {
    let (pair, place) = linked();
    pair.commit("three");
    let path = without_git(&pair);
    let repository = pair.open_with(|context| context.hook_environment = vec![("PATH".into(), path.into())].into());
    let answer = send(&repository, &pair.push(&["HEAD~1 HEAD refs/heads/linked", "- HEAD refs/heads/a"]).bytes());
    let expected = "ng refs/heads/linked denyCurrentBranch = updateInstead needs an installed git";
    assert_eq!(answer.complaints(), [expected]);
    assert_eq!(status(&pair, &place), "");
}

#[test]
fn a_git_directory_is_no_work_tree() {
    let pair = Pair::new();
    pair.at_server(&["config", "core.bare", "false"]);
    pair.at_server(&["config", "receive.denyCurrentBranch", "updateInstead"]);
    pair.commit("three");
    let Answer { report, .. } = pair.send(&pair.push(&["HEAD~1 HEAD refs/heads/main"]));
    assert_eq!(report[1], "ng refs/heads/main denyCurrentBranch = updateInstead needs a worktree");
    assert!(!pair.server.join("file").exists());
}

#[test]
fn a_separate_git_directory_says_where_its_work_tree_is() {
    let pair = Pair::new();
    let place = pair.scratch.0.join("elsewhere");
    std::fs::create_dir(&place).expect("scratch can be written");
    pair.at_server(&["config", "core.bare", "false"]);
    pair.at_server(&["config", "core.worktree", "../elsewhere"]);
    pair.at_server(&["config", "receive.denyCurrentBranch", "updateInstead"]);
    pair.at_server(&["read-tree", "-u", "-m", "HEAD"]);
    pair.commit("three");
    assert_eq!(pair.send(&pair.push(&["HEAD~1 HEAD refs/heads/main"])).complaints(), [""; 0]);
    assert_eq!(std::fs::read_to_string(place.join("file")).ok().as_deref(), Some("three"));
}

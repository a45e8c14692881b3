//! Pushes from end to end, compared with C git.

mod certificate;
mod connected;
mod content;
mod hooks;
#[cfg(feature = "failpoints")]
mod power;
mod proc_receive;
mod shallow;
mod support;
mod worktrees;

use super::*;
use crate::audit::Summary;
use std::time::Duration;
use support::{Answer, Leaver, Overdue, Pair, Push, TestBody, send};

/// Sends the same bytes to us and to C git, and checks that both refuse the same in the same words and end with the
/// same refs.
fn check_beside_git(pair: &Pair, bytes: &[u8], case: &str) -> Answer {
    let copy = pair.copy();
    let theirs = copy.send_to_git(bytes);
    let ours = pair.send_bytes(bytes);
    assert_eq!(ours.report, theirs.report, "{case}\nours: {}\ntheirs: {}", ours.said, theirs.said);
    assert_eq!(pair.refs(), copy.refs(), "{case}");
    assert!(matches!(ours.result, Some(Ok(()))), "{case}: {:?}", ours.result);
    assert_eq!(ours.bytes.ends_with(b"0000"), theirs.bytes.ends_with(b"0000"), "{case}");
    pair.assert_clean();
    ours
}

#[test]
fn refs_are_created_updated_and_deleted_as_by_git() {
    for limit in ["0", "100"] {
        let pair = Pair::new();
        pair.at_server(&["config", "receive.unpackLimit", limit]);
        pair.at_server(&["branch", "old"]);
        pair.at_server(&["config", "core.logAllRefUpdates", "true"]);
        let before = pair.client_id("HEAD");
        let new = pair.commit("three");
        let push = pair.push(&[
            &format!("{before} HEAD refs/heads/main"),
            "- HEAD refs/heads/new",
            &format!("{before} - refs/heads/old"),
            "- HEAD~2 refs/tags/t",
        ]);
        let answer = check_beside_git(&pair, &push.bytes(), limit);
        assert_eq!(answer.complaints(), [""; 0]);
        assert_eq!(answer.report.len(), 5);
        assert_eq!(pair.at_server(&["rev-parse", "main"]), new);
        let log = pair.at_server(&["reflog", "show", "--format=%gn <%ge> %gs", "main"]);
        assert_eq!(log.lines().next(), Some("P <p@x> push"));
        let verdicts: Vec<_> = answer.summary.push.updates.iter().map(|update| update.verdict.as_str()).collect();
        assert_eq!(verdicts, ["ok"; 4]);
        let packs = std::fs::read_dir(pair.server.join("objects/pack")).expect("it is there").count();
        assert_eq!(packs > 0, limit == "0", "kept or unpacked");
    }
}

#[test]
fn what_cannot_be_read_is_told_to_the_operator() {
    let pair = Pair::new();
    pair.at_server(&["branch", "b", "main~1"]);
    pair.at_server(&["config", "receive.denyNonFastForwards", "true"]);
    let known = pair.client_id("HEAD");
    pair.commit("three");
    let path = pair.server.join("objects").join(&known[..2]).join(&known[2..]);
    let mut bytes = std::fs::read(&path).expect("it is loose");
    *bytes.last_mut().expect("it is not empty") ^= 1;
    // The client may have a hard link to the same file.
    std::fs::remove_file(&path).expect("it is ours");
    std::fs::write(&path, bytes).expect("it is ours");
    let answer = pair.send(&pair.push(&["HEAD~2 HEAD refs/heads/b"]));
    assert_eq!(answer.complaints(), ["ng refs/heads/b bad ref"], "{}", answer.said);
    assert_eq!(answer.summary.outcome, "error");
    let told = answer.summary.error.expect("a reason");
    assert!(told.contains(&known), "{told}");
}

#[test]
fn where_there_can_be_no_journal_or_refs_are_on_another_disk_refs_change_all_the_same() {
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;
    let template = Pair::new();
    template.at_server(&["branch", "old"]);
    template.commit("three");
    let check = |pair: &Pair, case: &str| {
        let before = pair.client_id("HEAD~1");
        let updates = [
            format!("{before} HEAD refs/heads/main"),
            "- HEAD refs/heads/new".into(),
            format!("{before} - refs/heads/old"),
        ];
        let updates = updates.each_ref().map(String::as_str);
        let answer = check_beside_git(pair, &pair.push(&updates).bytes(), case);
        assert_eq!(answer.complaints(), [""; 0], "{case}: {}", answer.said);
        let atomic = ["- HEAD refs/heads/one", "- HEAD refs/heads/two"];
        let answer = check_beside_git(pair, &pair.push(&atomic).and("atomic").bytes(), case);
        assert_eq!(answer.complaints(), [""; 0], "{case}: {}", answer.said);
    };
    let pair = template.copy();
    std::fs::write(pair.server.join("artifacts-journal"), "a file in its place").expect("scratch can be written");
    check(&pair, "no journal");

    let elsewhere = support::Scratch(Path::new("/dev/shm").join(crate::durable::unique("refs-")));
    let device = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev()).ok();
    let shared = device(Path::new("/dev/shm"));
    if shared.is_some() && shared != device(&template.server) {
        let pair = template.copy();
        let moved = std::process::Command::new("cp").arg("-a").arg(pair.server.join("refs")).arg(&elsewhere.0).status();
        assert!(moved.expect("cp runs").success());
        std::fs::remove_dir_all(pair.server.join("refs")).expect("scratch can be written");
        std::os::unix::fs::symlink(&elsewhere.0, pair.server.join("refs")).expect("scratch can be written");
        let updates = ["HEAD~1 HEAD refs/heads/main", "- HEAD refs/heads/new", "HEAD~1 - refs/heads/old"];
        assert_eq!(pair.send(&pair.push(&updates)).complaints(), [""; 0]);
        let atomic = ["- HEAD refs/heads/one", "- HEAD refs/heads/two", "- HEAD~1 refs/heads/three"];
        assert_eq!(pair.send(&pair.push(&atomic).and("atomic")).complaints(), [""; 0]);
        assert_eq!(
            pair.at_server(&["rev-parse", "main", "new", "two"]),
            [pair.client_id("HEAD"), pair.client_id("HEAD"), pair.client_id("HEAD")].join("\n")
        );
        pair.assert_clean();
    }
}

/// A name, what is done to the repository first, and the updates of the push.
type Case = (&'static str, fn(&Pair), &'static [&'static str]);

/// What the rules for updates have something to say about.
const CASES: &[Case] = &[
    ("funny names", |_| {}, &["- HEAD refs/heads/a..b", "- HEAD HEAD", "- HEAD refs/one", "- HEAD refs/heads/ok"]),
    ("one level may go", |pair| drop(pair.at_server(&["update-ref", "refs/one", "HEAD"])), &["HEAD~1 - refs/one"]),
    (
        "hidden",
        |pair| drop(pair.at_server(&["config", "receive.hideRefs", "refs/heads/main"])),
        &["HEAD~1 HEAD refs/heads/main", "HEAD~1 - refs/heads/main", "- HEAD refs/heads/ok"],
    ),
    (
        "checked out",
        |pair| drop(pair.at_server(&["config", "core.bare", "false"])),
        &["HEAD~1 HEAD refs/heads/main", "- HEAD refs/heads/ok"],
    ),
    (
        "checked out, ignored",
        |pair| {
            pair.at_server(&["config", "core.bare", "false"]);
            pair.at_server(&["config", "receive.denyCurrentBranch", "ignore"]);
        },
        &["HEAD~1 HEAD refs/heads/main"],
    ),
    (
        "checked out through an alias",
        |pair| {
            pair.at_server(&["config", "core.bare", "false"]);
            pair.at_server(&["symbolic-ref", "refs/heads/alias", "refs/heads/main"]);
            pair.at_server(&["symbolic-ref", "HEAD", "refs/heads/alias"]);
        },
        &["HEAD~1 HEAD refs/heads/main", "- HEAD refs/heads/ok"],
    ),
    (
        "checked out in a linked work tree through an alias",
        |pair| {
            pair.at_server(&["branch", "linked"]);
            pair.at_server(&["worktree", "add", "-q", "../linked", "linked"]);
            pair.at_server(&["symbolic-ref", "refs/heads/alias", "refs/heads/linked"]);
            pair.git(&pair.scratch.0.join("linked"), &["symbolic-ref", "HEAD", "refs/heads/alias"]);
        },
        &["HEAD~1 HEAD refs/heads/linked", "- HEAD refs/heads/ok"],
    ),
    (
        "checked out in a linked work tree",
        |pair| {
            pair.at_server(&["branch", "linked"]);
            pair.at_server(&["worktree", "add", "-q", "../linked", "linked"]);
        },
        &["HEAD~1 HEAD refs/heads/linked", "HEAD~1 HEAD refs/heads/main"],
    ),
    (
        "deletions",
        |pair| {
            pair.at_server(&["branch", "b"]);
            pair.at_server(&["tag", "t"]);
            pair.at_server(&["config", "receive.denyDeletes", "true"]);
        },
        &["HEAD~1 - refs/heads/b", "HEAD~1 - refs/tags/t"],
    ),
    ("the current branch", |_| {}, &["HEAD~1 - refs/heads/main"]),
    (
        "the current branch, ignored",
        |pair| drop(pair.at_server(&["config", "receive.denyDeleteCurrent", "ignore"])),
        &["HEAD~1 - refs/heads/main"],
    ),
    (
        "fast-forwards",
        |pair| {
            pair.at_server(&["branch", "b"]);
            pair.at_server(&["tag", "t"]);
            pair.at_server(&["config", "receive.denyNonFastForwards", "true"]);
        },
        &["HEAD~1 HEAD~2 refs/heads/b", "HEAD~1 HEAD~2 refs/tags/t", "HEAD~1 HEAD refs/heads/main"],
    ),
    (
        "no commit",
        |pair| drop(pair.at_server(&["config", "receive.denyNonFastForwards", "true"])),
        &["HEAD~1 HEAD^{tree} refs/heads/main", "- HEAD^{tree} refs/tags/tree"],
    ),
    ("what is not there may go", |_| {}, &["- - refs/heads/none", "- - refs/tags/none"]),
    (
        "a corrupt ref may go",
        |pair| {
            let path = pair.server.join("refs/heads/corrupt");
            std::fs::write(path, "1".repeat(40) + "\n").expect("scratch can be written");
        },
        &["1111111111111111111111111111111111111111 - refs/heads/corrupt"],
    ),
    (
        "a corrupt ref may go whatever it is said to be",
        |pair| {
            let path = pair.server.join("refs/heads/corrupt");
            std::fs::write(path, "1".repeat(40) + "\n").expect("scratch can be written");
        },
        &["2222222222222222222222222222222222222222 - refs/heads/corrupt"],
    ),
    (
        "aliases agree",
        |pair| drop(pair.at_server(&["symbolic-ref", "refs/heads/alias", "refs/heads/main"])),
        &["HEAD~1 HEAD refs/heads/alias", "HEAD~1 HEAD refs/heads/main"],
    ),
    (
        "an alias alone",
        |pair| drop(pair.at_server(&["symbolic-ref", "refs/heads/alias", "refs/heads/main"])),
        &["HEAD~1 HEAD refs/heads/alias"],
    ),
    (
        "aliases disagree",
        |pair| drop(pair.at_server(&["symbolic-ref", "refs/heads/alias", "refs/heads/main"])),
        &["HEAD~1 HEAD refs/heads/main", "HEAD~1 HEAD~2 refs/heads/alias", "- HEAD refs/heads/ok"],
    ),
    ("HEAD and its branch agree", |_| (), &["HEAD~1 HEAD HEAD", "HEAD~1 HEAD refs/heads/main"]),
    (
        "HEAD and its branch disagree",
        |_| (),
        &["HEAD~1 HEAD~2 HEAD", "HEAD~1 HEAD refs/heads/main", "- HEAD refs/heads/ok"],
    ),
    ("HEAD alone", |_| (), &["HEAD~1 HEAD HEAD"]),
    (
        "an alias of nothing",
        |pair| drop(pair.at_server(&["symbolic-ref", "refs/heads/alias", "refs/heads/unborn"])),
        &["- HEAD refs/heads/alias"],
    ),
    (
        "no to everything",
        |pair| pair.hook("pre-receive", "exit 1"),
        &["HEAD~1 HEAD refs/heads/main", "- HEAD refs/heads/new"],
    ),
    (
        "no to one",
        |pair| pair.hook("update", "test $1 != refs/heads/b"),
        &["- HEAD refs/heads/a", "- HEAD refs/heads/b", "- HEAD refs/heads/c"],
    ),
    ("yes", |pair| pair.hook("pre-receive", "exit 0"), &["- HEAD refs/heads/a"]),
];

#[test]
fn what_the_rules_refuse_git_refuses_in_the_same_words() {
    let template = Pair::new();
    template.commit("three");
    for (case, prepare, updates) in CASES {
        let pair = template.copy();
        prepare(&pair);
        check_beside_git(&pair, &pair.push(updates).bytes(), case);
    }
}

#[test]
fn a_client_that_denies_that_a_ref_is_there_cannot_delete_what_it_may_not() {
    let pair = Pair::new();
    pair.at_server(&["branch", "b"]);
    let push = pair.push(&["- - refs/heads/main", "- - refs/heads/none"]);
    assert_eq!(pair.send(&push).complaints(), ["ng refs/heads/main deletion of the current branch prohibited"]);
    pair.at_server(&["config", "receive.denyDeletes", "true"]);
    let push = pair.push(&["- - refs/heads/b", "- - refs/heads/none"]);
    assert_eq!(pair.send(&push).complaints(), ["ng refs/heads/b deletion prohibited"]);
}

#[test]
fn whoever_is_waited_for_there_are_signs_of_life() {
    let template = Pair::new();
    template.at_server(&["config", "receive.keepAlive", "1"]);
    template.at_server(&["branch", "linked"]);
    template.at_server(&["worktree", "add", "-q", "../tree", "linked"]);
    template.at_server(&["config", "receive.denyCurrentBranch", "updateInstead"]);
    template.at_server(&["config", "receive.procReceiveRefs", "refs/for"]);
    template.commit("three");
    let sleep = "sleep 1.4";
    let check = |name: &str| {
        let pair = template.copy();
        let mut environment = vec![("PATH".into(), std::env::var_os("PATH").expect("there is one"))];
        match name {
            "maintenance" => {
                pair.at_server(&["config", "receive.autogc", "true"]);
                pair.at_server(&["config", "gc.autoDetach", "false"]);
                environment = recording_git(&pair, &format!("test $1 != {name} || {sleep}"));
            }
            "proc-receive" => {
                let said = "printf '000dversion=10000'; printf '0014ok refs/for/main0000'";
                pair.hook(name, &format!("{sleep}; {said}; cat >/dev/null"));
            }
            hook => pair.hook(hook, &format!("test \"$1\" = preparing || {sleep}")),
        }
        let update = match name {
            "proc-receive" => "- HEAD refs/for/main",
            "push-to-checkout" => "HEAD~1 HEAD refs/heads/linked",
            _ => "- HEAD refs/heads/a",
        };
        let repository = pair.open_with(|context| context.hook_environment = environment.into());
        let answer = send(&repository, &pair.push(&[update]).bytes());
        assert_eq!(answer.complaints(), [""; 0], "{name}: {}", answer.said);
        let text = answer.bytes.escape_ascii().to_string();
        // Keep-alives come until there is something to say, and after the report.
        assert!(text.contains("0005\\x01") || text.contains("0005\\x02"), "{name}: {text}");
    };
    let hooks = ["pre-receive", "proc-receive", "update", "push-to-checkout", "reference-transaction"];
    let after = ["post-receive", "post-update", "maintenance"];
    std::thread::scope(|scope| {
        for name in hooks.into_iter().chain(after) {
            let check = &check;
            scope.spawn(move || check(name));
        }
    });
}

#[test]
fn a_ref_that_has_moved_is_left_alone() {
    let template = Pair::new();
    template.commit("three");
    template.at_server(&["branch", "dir/b"]);
    let check = |updates: &[&str], expected: &[&str]| {
        let pair = template.copy();
        let before = pair.refs();
        let answer = pair.send(&pair.push(updates));
        assert_eq!(answer.complaints(), expected);
        assert!(answer.said.starts_with("error: "), "{}", answer.said);
        assert_eq!(pair.refs(), before);
        pair.assert_clean();
    };
    check(&["HEAD~2 HEAD refs/heads/main"], &["ng refs/heads/main incorrect old value provided"]);
    check(&["- HEAD refs/heads/main"], &["ng refs/heads/main reference already exists"]);
    check(&["HEAD~1 HEAD refs/heads/none"], &["ng refs/heads/none reference does not exist"]);
    check(&["- HEAD refs/heads/dir"], &["ng refs/heads/dir refname conflict"]);
    check(&["- HEAD refs/heads/main/x"], &["ng refs/heads/main/x refname conflict"]);
    check(
        &["- HEAD refs/heads/a", "- HEAD refs/heads/a"],
        &["ng refs/heads/a failed to update ref", "ng refs/heads/a failed to update ref"],
    );
}

#[test]
fn each_ref_fails_alone_but_for_an_atomic_push() {
    let pair = Pair::new();
    pair.commit("three");
    let updates = ["- HEAD refs/heads/a", "HEAD~2 HEAD refs/heads/main", "- HEAD refs/heads/b"];
    let answer = pair.send(&pair.push(&updates));
    assert_eq!(answer.complaints(), ["ng refs/heads/main incorrect old value provided"]);
    assert_eq!(pair.at_server(&["rev-parse", "a"]), pair.at_server(&["rev-parse", "b"]));

    let pair = Pair::new();
    pair.commit("three");
    let before = pair.refs();
    let answer = pair.send(&pair.push(&updates).and("atomic"));
    assert_eq!(answer.complaints().len(), 3, "{:?}", answer.report);
    assert_eq!(pair.refs(), before);
    pair.assert_clean();
}

#[test]
fn an_atomic_push_fails_whole_for_every_kind_of_refusal() {
    type Prepare = fn(&Pair);
    let cases: &[(Prepare, &str)] = &[
        (|pair| drop(pair.at_server(&["config", "receive.hideRefs", "refs/heads/b"])), "deny updating a hidden ref"),
        (|pair| pair.hook("update", "test $1 != refs/heads/b"), "hook declined"),
        (|pair| drop(pair.at_server(&["symbolic-ref", "refs/heads/b", "refs/heads/b"])), "broken symref"),
    ];
    let template = Pair::new();
    template.commit("three");
    for (prepare, expected) in cases {
        let pair = template.copy();
        prepare(&pair);
        let before = pair.refs();
        let push = pair.push(&["- HEAD refs/heads/a", "- HEAD refs/heads/b", "- HEAD refs/heads/c"]).and("atomic");
        let answer = pair.send(&push);
        let expected = [
            "ng refs/heads/a atomic push failure".to_owned(),
            format!("ng refs/heads/b {expected}"),
            "ng refs/heads/c atomic push failure".to_owned(),
        ];
        assert_eq!(answer.complaints(), expected);
        assert_eq!(pair.refs(), before);
        // fsck is not meant to complain here about a ref that leads to itself.
        let _ = std::fs::remove_file(pair.server.join("refs/heads/b"));
        pair.assert_clean();
    }
}

#[test]
fn an_atomic_push_without_refusals_happens() {
    let pair = Pair::new();
    pair.commit("three");
    let push = pair.push(&["- HEAD refs/heads/a", "HEAD~1 HEAD refs/heads/main", "- - refs/heads/none"]).and("atomic");
    check_beside_git(&pair, &push.bytes(), "atomic");
}

#[test]
fn bad_packs_are_refused_as_by_git() {
    let pair = Pair::new();
    pair.commit("three");
    let push = pair.push(&["- HEAD refs/heads/a"]);
    let check = |pack: Vec<u8>, case: &str| {
        let push = support::Push {
            pack,
            lines: push.lines.clone(),
            capabilities: push.capabilities.clone(),
            options: None,
            shallow: vec![],
        };
        let answer = check_beside_git(&pair, &push.bytes(), case);
        assert_eq!(answer.complaints().len(), 2);
        assert_eq!(answer.summary.push.updates[0].verdict, "unpacker error");
        answer.said
    };
    check(Vec::new(), "no pack");
    check(b"PACX".repeat(3), "no signature");
    check(b"PACK\0\0\0\x09\0\0\0\0".to_vec(), "another version");
    let cut = push.pack[..push.pack.len() - 30].to_vec();
    check(cut, "cut off");
    let mut flipped = push.pack.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    assert!(check(flipped, "a wrong trailer").starts_with("fatal: "));
}

#[test]
fn a_pack_that_is_too_large_is_refused_with_the_reason() {
    let pair = Pair::new();
    pair.commit("three");
    pair.at_server(&["config", "receive.maxInputSize", "20"]);
    let answer = check_beside_git(&pair, &pair.push(&["- HEAD refs/heads/a"]).bytes(), "too large");
    assert!(answer.said.contains("fatal: pack exceeds maximum allowed size"), "{}", answer.said);
}

#[test]
fn a_shallow_clients_push_needs_no_boundary_or_is_refused() {
    // Full history here, cut history at the client.
    let pair = Pair::new();
    let base = pair.client_id("HEAD");
    pair.commit("three");
    let mut push = pair.push(&["HEAD~1 HEAD refs/heads/main"]);
    push.shallow = vec![base];
    assert_eq!(check_beside_git(&pair, &push.bytes(), "complete").complaints(), [""; 0]);

    // History that is cut for both.
    let pair = Pair::new();
    pair.commit("three");
    let cut = pair.commit("four");
    pair.commit("five");
    let mut push = pair.push(&["- HEAD refs/heads/a", "- HEAD~3 refs/heads/b"]);
    push.pack = pair.pack(&format!("HEAD\n^{cut}~1\n"));
    push.shallow = vec![cut];
    let answer = check_beside_git(&pair, &push.bytes(), "cut");
    assert_eq!(answer.complaints(), ["ng refs/heads/a shallow update not allowed"]);

    // A cut with nothing missing beyond it does not count. C git refuses it without looking.
    let pair = Pair::new();
    let cut = pair.commit("three");
    let mut push = pair.push(&["HEAD~1 HEAD refs/heads/main"]);
    push.shallow = vec![cut];
    assert_eq!(pair.send(&push).complaints(), [""; 0]);
    pair.assert_clean();
}

#[test]
fn the_answer_has_the_form_the_client_asked_for() {
    let template = Pair::new();
    let check = |capabilities: &str, expected: &str| {
        let pair = template.copy();
        let mut push = pair.push(&["- - refs/heads/none", "HEAD - refs/heads/../x"]);
        push.capabilities = capabilities.into();
        let copy = pair.copy();
        let answer = pair.send(&push);
        let told = answer.bytes.escape_ascii().to_string();
        assert!(told.ends_with(expected), "{capabilities}: {told}");
        assert_eq!(answer.report, copy.send_to_git(&push.bytes()).report);
    };
    let report = "000eunpack ok\\n0017ok refs/heads/none\\n0025ng refs/heads/../x funny refname\\n0000";
    check("report-status", report);
    check("report-status-v2 report-status", report);
    check("", "");
    check("side-band-64k", "0000");
    check("side-band-64k report-status", &format!("0053\\x01{report}0000"));
}

#[test]
fn nothing_asked_is_nothing_done() {
    let pair = Pair::new();
    let answer = pair.send_bytes(b"0000");
    assert!(matches!(answer.result, Some(Ok(()))));
    assert_eq!((answer.bytes.as_slice(), answer.summary.operation), (&b""[..], Some("probe")));
}

#[test]
fn what_cannot_be_understood_is_told_through_a_report() {
    let pair = Pair::new();
    let mut push = pair.push(&["- HEAD refs/heads/a"]);
    push.lines.push("nonsense".into());
    let answer = pair.send(&push);
    match (answer.result, answer.channel) {
        (Some(Err(ServeError::Protocol(error))), ErrorChannel::Push { sideband: true, report: true, refs }) => {
            assert_eq!(error.to_string(), "protocol error: expected old/new/ref, got 'nonsense'");
            assert_eq!(refs, "refs/heads/a\0");
        }
        other => panic!("{other:?}"),
    }
    assert!(answer.bytes.is_empty());
}

#[test]
fn a_push_from_inside_a_quarantine_is_refused() {
    let pair = Pair::new();
    pair.commit("three");
    let repository = pair.open_with(|context| context.in_quarantine = true);
    let push = pair.push(&["- HEAD refs/heads/a"]);
    let answer = send(&repository, &push.bytes());
    assert_eq!(answer.complaints(), ["ng refs/heads/a failed to update refs"]);
    assert_eq!(answer.said, "error: ref updates forbidden inside quarantine environment\n");
    let answer = send(&repository, &push.and("atomic").bytes());
    assert_eq!(answer.complaints(), ["ng refs/heads/a atomic transaction failed"]);
}

#[test]
fn a_client_that_leaves_before_the_migration_leaves_nothing_and_one_that_leaves_later_changes_nothing() {
    let template = Pair::new();
    template.commit("three");
    let leave = |after: usize| {
        let pair = template.copy();
        pair.hook("pre-receive", "echo $$");
        pair.hook("post-receive", "echo run > told");
        let bytes = pair.push(&["- HEAD refs/heads/a"]).bytes();
        let mut summary = Summary::default();
        let mut sink = Leaver(after);
        let mut out = Out { sink: &mut sink, channel: &mut ErrorChannel::Status, summary: &mut summary };
        let result = serve(&pair.open(), &mut TestBody(&bytes), &mut out);
        assert!(matches!(result, Err(ServeError::ClientGone)), "{result:?}");
        pair.assert_clean();
        (pair.refs().contains("refs/heads/a"), pair.server.join("told").exists(), summary.push.updates.len())
    };
    assert_eq!(leave(0), (false, false, 0));
    assert_eq!(leave(20), (true, true, 1));
}

#[test]
fn a_time_limit_stops_nothing_that_has_begun_to_happen() {
    let pair = Pair::new();
    pair.at_server(&["branch", "old"]);
    pair.hook("update", "sleep 0.1");
    let bytes = pair.push(&["HEAD - refs/heads/old"]).bytes();
    let mut summary = Summary::default();
    let mut sink = Overdue::default();
    let mut out = Out { sink: &mut sink, channel: &mut ErrorChannel::Status, summary: &mut summary };
    assert!(serve(&pair.open(), &mut TestBody(&bytes), &mut out).is_ok());
    assert_eq!(sink.0, b"002d\x01000eunpack ok\n0016ok refs/heads/old\n00000000");
    assert!(!pair.refs().contains("old"));
}

#[test]
fn names_in_a_namespace_are_the_clients() {
    let pair = Pair::new();
    pair.commit("three");
    pair.hook("update", "echo $1");
    let repository = pair.open_with(|context| context.namespace = Some("n".into()));
    let answer = send(&repository, &pair.push(&["- HEAD refs/heads/main"]).bytes());
    assert_eq!((answer.complaints(), answer.said.as_str()), (vec![], "refs/heads/main\n"));
    assert!(pair.refs().contains("refs/namespaces/n/refs/heads/main"));
}

#[test]
fn lists_for_dumb_clients_are_gits() {
    let pair = Pair::new();
    pair.git(&pair.client, &["tag", "-a", "-m", "t", "annotated"]);
    pair.commit("three");
    pair.at_server(&["config", "receive.updateServerInfo", "true"]);
    pair.at_server(&["config", "receive.unpackLimit", "1"]);
    let push = pair.push(&["- HEAD refs/heads/a", "- annotated refs/tags/annotated"]);
    assert_eq!(pair.send(&push).complaints(), [""; 0]);
    let lists = || ["info/refs", "objects/info/packs"].map(|name| std::fs::read_to_string(pair.server.join(name)).ok());
    let ours = lists();
    pair.at_server(&["update-server-info", "--force"]);
    assert_eq!(ours, lists());
    assert!(ours.iter().all(Option::is_some));
}

/// Installs a program named `git` that records how it is called, in the server's repository.
fn recording_git(pair: &Pair, end: &str) -> Vec<(OsString, OsString)> {
    pair.hook("../../bin/git", &format!("(echo \"$@\"; pwd; env) >called.new; mv called.new called; {end}"));
    let path = format!("{}:/usr/bin:/bin", pair.scratch.0.join("bin").display());
    vec![("PATH".into(), path.into())]
}

#[test]
fn maintenance_goes_on_without_the_client_where_the_owner_asks_for_it() {
    let check = |config: &[(&str, &str)], expected: Option<&str>, said: &str| {
        let pair = Pair::new();
        for (key, value) in config {
            pair.at_server(&["config", key, value]);
        }
        pair.commit("three");
        let environment = recording_git(&pair, "echo spoken; exit 1");
        pair.hook("post-update", "echo first");
        let repository = pair.open_with(|context| context.hook_environment = environment.into());
        let answer = send(&repository, &pair.push(&["- HEAD refs/heads/a"]).bytes());
        assert_eq!((answer.complaints(), answer.said.as_str()), (vec![], said));
        let called = || std::fs::read_to_string(pair.server.join("called")).ok();
        // Nothing but this test waits for it.
        let until = Instant::now() + Duration::from_secs(if expected.is_some() { 30 } else { 0 });
        while called().is_none() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        let called = called();
        let mut lines = called.iter().flat_map(|text| text.lines());
        assert_eq!(lines.next(), expected);
        if expected.is_some() {
            assert_eq!(lines.next(), pair.server.to_str());
            assert!(lines.clone().any(|line| line == "GIT_DIR=.") && lines.any(|line| line == "GIT_NO_LAZY_FETCH=1"));
        }
    };
    check(&[], None, "first\n");
    check(&[("receive.autogc", "false"), ("gc.auto", "1")], None, "first\n");
    let asked = ("receive.autogc", "true");
    check(&[asked], Some("maintenance run --auto --quiet --detach"), "first\n");
    let words = "maintenance run --auto --quiet --no-detach";
    check(&[asked, ("gc.autoDetach", "false")], Some(words), "first\nspoken\n");
}

#[test]
fn maintenance_is_not_run_after_a_push_that_changed_nothing_and_need_not_be_possible() {
    let pair = Pair::new();
    pair.at_server(&["config", "receive.autogc", "true"]);
    pair.at_server(&["config", "maintenance.autoDetach", "false"]);
    pair.at_server(&["config", "receive.hideRefs", "refs/hidden"]);
    pair.commit("three");
    let environment = recording_git(&pair, "");
    let repository = pair.open_with(|context| context.hook_environment = environment.into());
    assert_eq!(send(&repository, &pair.push(&["- HEAD refs/hidden/a"]).bytes()).complaints().len(), 1);
    assert!(!pair.server.join("called").exists());
    let nowhere =
        || pair.open_with(|context| context.hook_environment = vec![("PATH".into(), "/nowhere".into())].into());
    for detach in ["true", "false"] {
        pair.at_server(&["config", "maintenance.autoDetach", detach]);
        let answer = send(&nowhere(), &pair.push(&["- HEAD refs/hidden/a"]).bytes());
        assert_eq!((answer.complaints().len(), answer.summary.error), (1, None), "{detach}");
    }
    let repository = nowhere();
    let answer = send(&repository, &pair.push(&["- HEAD refs/heads/a"]).bytes());
    assert_eq!((answer.complaints(), answer.said.as_str()), (vec![], ""));
    let error = answer.summary.error.unwrap_or_default();
    assert!(error.starts_with("cannot run git maintenance: "), "{error}");
}

#[test]
fn objects_and_refs_may_be_of_sha256() {
    let pair = Pair::with_format("sha256");
    pair.commit("three");
    let mut push = pair.push(&["HEAD~1 HEAD refs/heads/main"]);
    push.capabilities = push.capabilities.replace("sha1", "sha256");
    assert_eq!(check_beside_git(&pair, &push.bytes(), "sha256").complaints(), [""; 0]);
}

/// What a hook says before its results.
const GREETING: [&str; 2] = ["version=1", "0000"];

#[test]
fn an_atomic_push_that_is_refused_before_hooks_are_asked_leaves_no_objects() {
    let pair = Pair::new();
    pair.at_server(&["config", "receive.hideRefs", "refs/hidden"]);
    let new = pair.commit("three");
    let push = pair.push(&["- HEAD refs/heads/new", "- HEAD refs/hidden/new"]).and("atomic");
    let expected = ["ng refs/heads/new atomic push failure", "ng refs/hidden/new deny updating a hidden ref"];
    assert_eq!(pair.send(&push).complaints(), expected);
    let found = pair.git_with(&pair.server, &["cat-file", "--batch-check"], new.as_bytes());
    assert_eq!(String::from_utf8_lossy(&found), format!("{new} missing\n"));
    pair.assert_clean();
}

#[test]
fn a_pack_that_somebody_means_to_keep_is_kept() {
    let pair = Pair::new();
    pair.at_server(&["config", "receive.unpackLimit", "1"]);
    pair.commit("three");
    let push = pair.push(&["- HEAD refs/heads/new"]);
    let trailer = gix_hash::ObjectId::try_from(&push.pack[push.pack.len() - 20..]).expect("it ends with its name");
    let keep = pair.server.join(format!("objects/pack/pack-{trailer}.keep"));
    std::fs::write(&keep, "the operator's\n").expect("scratch can be written");
    assert_eq!(pair.send(&push).complaints(), [""; 0]);
    assert!(keep.with_extension("idx").exists());
    assert_eq!(std::fs::read_to_string(&keep).expect("it is still there"), "the operator's\n");
}

#[test]
fn nothing_is_deleted_for_a_body_that_ends_before_its_announced_end() {
    struct Short<'a>(&'a [u8]);
    impl std::io::Read for Short<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buffer)
        }
    }
    impl crate::stream::Body for Short<'_> {
        fn finish(&mut self) -> std::io::Result<u64> {
            Err(std::io::ErrorKind::InvalidData.into())
        }
    }
    let pair = Pair::new();
    pair.at_server(&["branch", "gone"]);
    let before = pair.refs();
    let bytes = pair.push(&["HEAD - refs/heads/gone"]).bytes();
    let (mut sink, mut channel, mut summary) = (Vec::new(), ErrorChannel::Status, Summary::default());
    let mut out = Out { sink: &mut sink, channel: &mut channel, summary: &mut summary };
    assert!(serve(&pair.open(), &mut Short(&bytes), &mut out).is_err());
    assert_eq!(pair.refs(), before);
}

//! Pushes from one end to the other, and beside C git.

mod certificate;
mod content;
#[cfg(feature = "failpoints")]
mod power;
mod shallow;
mod support;
mod worktrees;

use super::*;
use crate::audit::Summary;
use std::time::Duration;
use support::{Answer, Leaver, Overdue, Pair, Push, TestBody, send};

/// Serves the same bytes and checks that we refuse what C git refuses, in its words, and end with its refs.
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
        let verdicts: Vec<_> = answer.summary.updates.iter().map(|update| update.verdict.as_str()).collect();
        assert_eq!(verdicts, ["ok"; 4]);
        let packs = std::fs::read_dir(pair.server.join("objects/pack")).expect("it is there").count();
        assert_eq!(packs > 0, limit == "0", "kept or unpacked");
    }
}

#[test]
fn what_the_rules_refuse_git_refuses_in_the_same_words() {
    type Prepare = fn(&Pair);
    let cases: &[(&str, Prepare, &[&str])] = &[
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
    let template = Pair::new();
    template.commit("three");
    for (case, prepare, updates) in cases {
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
        // Until there was something to say, and after the report.
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
fn a_transaction_hook_may_veto() {
    let pair = Pair::new();
    pair.commit("three");
    pair.hook("reference-transaction", "test $1 != prepared");
    let before = pair.refs();
    let push = pair.push(&["HEAD~1 HEAD refs/heads/main", "- HEAD refs/heads/new"]);
    assert_eq!(pair.send(&push).complaints().len(), 2);
    assert_eq!(pair.send(&push.and("atomic")).complaints().len(), 2);
    assert_eq!(pair.refs(), before);
    pair.assert_clean();
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
        // A ref that leads to itself is no business of fsck's here.
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
        assert_eq!(answer.summary.updates[0].verdict, "unpacker error");
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
fn incomplete_history_is_refused_where_it_is_incomplete() {
    let pair = Pair::new();
    pair.commit("three");
    let four = pair.commit("four");
    // Only the last commit is sent: its parent is missing.
    let lone = pair.git_with(&pair.client, &["pack-objects", "-q", "--stdout"], format!("{four}\n").as_bytes());
    let mut push = pair.push(&["- HEAD refs/heads/a", "- HEAD~2 refs/heads/b"]);
    push.pack = lone;
    let answer = check_beside_git(&pair, &push.bytes(), "incomplete");
    assert_eq!(answer.complaints(), ["ng refs/heads/a missing necessary objects"]);
}

#[test]
fn incomplete_history_is_found_before_hidden_refs_and_hooks_are_asked() {
    let pair = Pair::new();
    pair.at_server(&["config", "receive.hideRefs", "refs/hidden"]);
    pair.hook("pre-receive", "exit 1");
    pair.commit("three");
    let four = pair.commit("four");
    let mut push = pair.push(&["- HEAD refs/hidden/a", "- HEAD~2 refs/hidden/b", "- HEAD~2 refs/heads/c"]);
    push.pack = pair.git_with(&pair.client, &["pack-objects", "-q", "--stdout"], format!("{four}\n").as_bytes());
    let answer = check_beside_git(&pair, &push.bytes(), "incomplete and hidden");
    let expected = [
        "ng refs/hidden/a missing necessary objects",
        "ng refs/hidden/b deny updating a hidden ref",
        "ng refs/heads/c pre-receive hook declined",
    ];
    assert_eq!(answer.complaints(), expected);
}

#[test]
fn a_shallow_clients_push_needs_no_boundary_or_is_refused() {
    // Full history here, a cut one there.
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

    // A cut where nothing is missing is none. C git refuses it unseen.
    let pair = Pair::new();
    let cut = pair.commit("three");
    let mut push = pair.push(&["HEAD~1 HEAD refs/heads/main"]);
    push.shallow = vec![cut];
    assert_eq!(pair.send(&push).complaints(), [""; 0]);
    pair.assert_clean();
}

/// Lets every hook write down what it is told, below `$TOLD`.
fn recording(pair: &Pair) {
    for name in ["pre-receive", "update", "post-receive", "post-update", "reference-transaction"] {
        pair.hook(
            name,
            &format!(
                "{{ echo \"{name} $*\"; pwd | sed 's,.*/,,'; echo $GIT_DIR; test {name} = update || cat; \
                 env | grep -e ^GIT_PUSH -e ^GIT_QUAR -e ^GIT_OBJ -e ^GIT_ALT | sed 's,=/.*/,=…/,; s,incoming-.*,incoming,' | sort; \
                 git cat-file -t $(cat new) 2>&1; }} >> told; echo said by {name}; echo and >&2"
            ),
        );
    }
}

#[test]
fn hooks_are_told_what_git_tells_them() {
    let pair = Pair::new();
    pair.at_server(&["branch", "gone"]);
    let new = pair.commit("three");
    std::fs::write(pair.server.join("new"), &new).expect("scratch can be written");
    pair.at_server(&["config", "receive.advertisePushOptions", "true"]);
    recording(&pair);
    let mut push = pair
        .push(&["HEAD~1 - refs/heads/gone", "- - refs/heads/none", "HEAD~1 HEAD refs/heads/main", "- HEAD refs/x"])
        .and("push-options");
    push.options = Some(vec!["a=b c".into(), "ü".into()]);
    let copy = pair.copy();
    let ours = pair.send(&push);
    let theirs = copy.send_to_git(&push.bytes());
    assert_eq!(ours.report, theirs.report);
    let told = |pair: &Pair| {
        let told = std::fs::read_to_string(pair.server.join("told")).expect("hooks were run");
        // Which transactions there are is not the hooks' affair here: git has more states in newer versions.
        let mut parts: Vec<String> = told.split("\n").map(str::to_owned).collect();
        let mut kept = Vec::new();
        let mut skipping = false;
        for line in parts.drain(..) {
            if let Some(name) = line.split(' ').next().filter(|name| {
                name.contains("receive")
                    || *name == "update"
                    || *name == "post-update"
                    || *name == "reference-transaction"
            }) {
                skipping = name == "reference-transaction";
            }
            if !skipping {
                kept.push(line);
            }
        }
        kept.join("\n")
    };
    assert_eq!(told(&pair), told(&copy));
    assert!(told(&pair).contains("GIT_PUSH_OPTION_0=a=b c\nGIT_PUSH_OPTION_1=ü\n"));
    let heard = |answer: &Answer| {
        let mut lines: Vec<String> = answer
            .said
            .lines()
            .map(str::to_owned)
            .filter(|line| !line.starts_with("error: ") && !line.starts_with("warning: "))
            .collect();
        lines.dedup();
        lines
    };
    assert_eq!(heard(&ours), heard(&theirs));
    assert!(!ours.said.contains("reference-transaction"));
    // The report comes before what post hooks say.
    let at = |text: &str| ours.bytes.windows(text.len()).position(|part| part == text.as_bytes());
    assert!(at("said by update") < at("unpack ok") && at("unpack ok") < at("said by post-receive"));
}

#[test]
fn hooks_see_the_environment_they_are_given_and_nothing_else() {
    let pair = Pair::new();
    pair.hook("post-receive", "env | sort > told");
    pair.commit("three");
    assert_eq!(pair.send(&pair.push(&["- HEAD refs/heads/a"])).complaints(), [""; 0]);
    let told = std::fs::read_to_string(pair.server.join("told")).expect("the hook was run");
    let names: Vec<_> = told
        .lines()
        .filter_map(|line| line.split('=').next())
        .filter(|name| !["_", "PWD", "SHLVL", "OLDPWD"].contains(name))
        .collect();
    assert_eq!(names, ["GIT_DIR", "GIT_PUSH_OPTION_COUNT", "GIVEN", "PATH"]);
    assert!(told.contains("GIT_DIR=.\n") && told.contains("GIT_PUSH_OPTION_COUNT=0\n"));
}

#[test]
fn a_hook_need_not_read_and_one_that_cannot_run_declines() {
    let pair = Pair::new();
    pair.commit("three");
    pair.hook("pre-receive", "exec <&-; exit 0");
    assert_eq!(pair.send(&pair.push(&["- HEAD refs/heads/a"])).complaints(), [""; 0]);
    pair.hook("pre-receive", "");
    let path = pair.server.join("hooks/pre-receive");
    std::fs::write(&path, "#!/no/such/interpreter\n").expect("scratch can be written");
    let answer = pair.send(&pair.push(&["- HEAD refs/heads/b"]));
    assert_eq!(answer.complaints(), ["ng refs/heads/b pre-receive hook declined"]);
    assert!(answer.said.starts_with("error: cannot run hook 'pre-receive': "), "{}", answer.said);
    // Not executable: not there.
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("it is ours");
    assert_eq!(pair.send(&pair.push(&["- HEAD refs/heads/b"])).complaints(), [""; 0]);
}

#[test]
fn an_object_that_has_gone_meanwhile_is_missed() {
    let pair = Pair::new();
    pair.commit("three");
    pair.hook("pre-receive", "rm -rf \"$GIT_QUARANTINE_PATH\"/??");
    let (copy, push) = (pair.copy(), pair.push(&["- HEAD refs/heads/a", "- HEAD~1 refs/heads/b"]));
    let ours = pair.send(&push);
    assert_eq!(ours.complaints(), ["ng refs/heads/a bad pack"]);
    assert_eq!(ours.report, copy.send_to_git(&push.bytes()).report);
}

#[test]
fn a_hook_is_stopped_when_its_time_is_over() {
    let pair = Pair::new();
    pair.commit("three");
    pair.hook("pre-receive", "exec sleep 60");
    let repository = pair.open_with(|context| context.timeout = Some(Duration::from_millis(300)));
    let answer = send(&repository, &pair.push(&["- HEAD refs/heads/a"]).bytes());
    assert_eq!(answer.complaints(), ["ng refs/heads/a pre-receive hook declined"]);
    assert_eq!(answer.said, "error: hook 'pre-receive' took too long and was stopped\n");
    pair.assert_clean();
}

#[test]
fn hooks_are_found_where_the_configuration_says() {
    let pair = Pair::new();
    pair.commit("three");
    pair.hook("../elsewhere/update", "echo $0; exit 1");
    pair.at_server(&["config", "core.hooksPath", "elsewhere"]);
    let answer = check_beside_git(&pair, &pair.push(&["- HEAD refs/heads/a"]).bytes(), "hooksPath");
    assert_eq!(answer.complaints(), ["ng refs/heads/a hook declined"]);
    assert_eq!(answer.said, "elsewhere/update\nerror: hook declined to update refs/heads/a\n");
}

#[test]
fn configured_hooks_run_before_the_file_and_each_must_agree() {
    let pair = Pair::new();
    pair.commit("three");
    pair.hook("pre-receive", "echo file; cat");
    pair.at_server(&["config", "hook.first.event", "pre-receive"]);
    pair.at_server(&["config", "hook.first.command", "echo first; cat; exit 3 #"]);
    pair.at_server(&["config", "hook.second.event", "update"]);
    pair.at_server(&["config", "hook.second.command", "echo second"]);
    let push = pair.push(&["- HEAD refs/heads/a"]);
    let answer = pair.send(&push);
    assert_eq!(answer.complaints(), ["ng refs/heads/a pre-receive hook declined"]);
    let line = &push.lines[0];
    assert_eq!(answer.said, format!("first\n{line}\nfile\n{line}\n"));
    pair.at_server(&["config", "hook.first.enabled", "false"]);
    let answer = pair.send(&push);
    assert_eq!(answer.complaints(), [""; 0]);
    let (values, name) = line.rsplit_once(' ').expect("three words");
    assert_eq!(answer.said, format!("file\n{line}\nsecond {name} {values}\n"));
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
        (pair.refs().contains("refs/heads/a"), pair.server.join("told").exists(), summary.updates.len())
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

/// A program named `git` that records how it is called, in the server's repository.
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
        // Nobody waits for it but this test.
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
    let repository =
        pair.open_with(|context| context.hook_environment = vec![("PATH".into(), "/nowhere".into())].into());
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

/// A hook that says `said` and keeps what it reads in the file `heard`, with what is on its environment beside it.
fn proc_receive_hook(pair: &Pair, said: &[&str], end: &str) {
    let packets: String = said
        .iter()
        .map(|line| match *line {
            "0000" => "printf 0000\n".to_owned(),
            line => format!("printf '{:04x}%s' '{line}'\n", line.len() + 4),
        })
        .collect();
    pair.hook("proc-receive", &format!("{packets} echo spoken >&2\ncat > heard\npwd | sed s,.*/,, >> heard\n{end}"));
    pair.hook("post-receive", "cat > post-receive.heard");
    pair.hook("post-update", "echo \"$@\" > post-update.heard");
}

/// Serves a push with this hook beside C git: the same report, refs, words, and the same told to hooks.
fn check_proc_receive(
    case: &str,
    config: &[&str],
    said: &[&str],
    end: &str,
    updates: &[&str],
    change: fn(Push) -> Push,
) {
    let pair = Pair::new();
    for value in config {
        pair.at_server(&["config", "--add", "receive.procReceiveRefs", value]);
    }
    pair.at_server(&["config", "receive.advertisePushOptions", "true"]);
    pair.at_server(&["branch", "old"]);
    pair.commit("three");
    let ids = |line: &str| {
        let words = line.split(' ').map(|word| match word.strip_prefix('=') {
            Some(revision) => pair.client_id(revision),
            None => word.to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    };
    let said: Vec<String> = said.iter().map(|line| ids(line)).collect();
    let said: Vec<&str> = said.iter().map(String::as_str).collect();
    proc_receive_hook(&pair, &said, end);
    let push = change(pair.push(updates));
    let copy = pair.copy();
    let theirs = copy.send_to_git(&push.bytes());
    let ours = pair.send_bytes(&push.bytes());
    assert_eq!(ours.report, theirs.report, "{case}\nours: {}\ntheirs: {}", ours.said, theirs.said);
    assert_eq!(ours.said, theirs.said, "{case}");
    assert_eq!(pair.refs(), copy.refs(), "{case}");
    for file in ["heard", "post-receive.heard", "post-update.heard"] {
        let read =
            |pair: &Pair| std::fs::read(pair.server.join(file)).map(|bytes| bytes.escape_ascii().to_string()).ok();
        assert_eq!(read(&pair), read(&copy), "{case}: {file}");
    }
}

/// What a hook says before its results.
const GREETING: [&str; 2] = ["version=1", "0000"];

#[test]
fn a_proc_receive_hook_is_told_and_believed_as_by_git() {
    let updates = ["- HEAD refs/for/a", "HEAD~1 HEAD refs/heads/main", "- HEAD refs/for/b", "HEAD~1 - refs/heads/old"];
    let check = |case: &str, results: &[&str], end: &str| {
        let said = [&GREETING[..], results].concat();
        check_proc_receive(case, &["refs/for"], &said, end, &updates, |push| push);
        check_proc_receive(case, &["refs/for"], &said, end, &updates, |push| push.and("atomic"));
    };
    check("both done", &["ok refs/for/a", "ok refs/for/b", "0000"], "");
    check("one refused", &["ok refs/for/a", "ng refs/for/b no thanks", "0000"], "");
    check("no reason", &["ng refs/for/a", "ng refs/for/b", "0000"], "");
    check("one forgotten", &["ok refs/for/a", "0000"], "");
    check("handed back", &["ok refs/for/a", "option fall-through", "ok refs/for/b", "0000"], "");
    check("it fails in the end", &["ok refs/for/a", "ok refs/for/b", "0000"], "exit 3");
    check("it fails and hands back", &["ok refs/for/a", "option fall-through", "ok refs/for/b", "0000"], "exit 3");
    check(
        "other refs",
        &[
            "ok refs/for/a",
            "option refname refs/pull/1/head",
            "option old-oid =HEAD~1",
            "option new-oid =HEAD",
            "option forced-update",
            "ok refs/for/a",
            "option refname refs/pull/2/head",
            "ok refs/for/b",
            "option new-oid =HEAD~2",
            "0000",
        ],
        "",
    );
    check(
        "nonsense",
        &["ok", "fine refs/for/a", "ok refs/for/z", "ok refs/heads/main", "option x", "ok refs/for/b", "0000"],
        "",
    );
}

#[test]
fn a_proc_receive_hook_that_does_not_speak_as_it_should_fails_its_updates() {
    let updates = ["- HEAD refs/for/a", "HEAD~1 HEAD refs/heads/main"];
    let check = |case: &str, said: &[&str]| {
        check_proc_receive(case, &["refs/for"], said, "", &updates, |push| push);
    };
    check("another version", &["version=2", "0000"]);
    check("no version", &["0000", "ok refs/for/a", "0000"]);
    let missing = |pair: &Pair| pair.at_server(&["config", "receive.procReceiveRefs", "refs/for"]);
    let pair = Pair::new();
    missing(&pair);
    pair.commit("three");
    let answer = check_beside_git(&pair, &pair.push(&updates).bytes(), "no hook");
    assert_eq!(answer.complaints(), ["ng refs/for/a fail to run proc-receive hook"]);
    assert_eq!(answer.said, "error: cannot find hook 'proc-receive'\n");
}

#[test]
fn a_proc_receive_hook_gets_the_updates_and_options_it_is_meant_for() {
    let updates = ["- HEAD refs/for/a", "HEAD~1 HEAD refs/heads/main", "HEAD~1 - refs/heads/old"];
    let with_options =
        |push: Push| Push { options: Some(vec!["one".into(), "two".into()]), ..push.and("push-options") };
    let plain = [&GREETING[..], &["0000"]].concat();
    let asking = ["version=1", "0000", "0000"];
    for config in [
        &["refs"][..],
        &["a:refs"],
        &["md:refs"],
        &["d:refs/heads", "refs/for/"],
        &["!a:refs/for", "!:refs"],
        &["!:refs/for"],
        &["refs/heads/mai", "m:refs/heads/main"],
    ] {
        check_proc_receive(&format!("{config:?}"), config, &plain, "", &updates, with_options);
    }
    check_proc_receive("options", &["refs"], &asking, "", &updates, with_options);
}

//! Hooks: what they are told, how long they may take, where they are found.

use super::*;

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

/// Makes every hook append what it is told to the file `told`.
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
        // The sequence of transactions is not compared here: newer versions of git have more states.
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
    // The report comes before the output of the post hooks.
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
    // A hook that is not executable counts as missing.
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("it is ours");
    let told = |update: &str| {
        let repository = pair.open();
        assert_eq!(send(&repository, &pair.push(&[update]).bytes()).complaints(), [""; 0]);
        repository.objects.take_warnings()
    };
    assert_eq!(
        told("- HEAD refs/heads/d"),
        ["the hook 'hooks/pre-receive' is ignored: it may not be executed, or not be looked for"]
    );
    pair.at_server(&["config", "advice.ignoredHook", "false"]);
    assert_eq!(told("- HEAD refs/heads/e"), [""; 0]);
    // Whether the hook exists cannot be determined, so it has not agreed.
    std::fs::remove_file(&path).expect("it is ours");
    std::os::unix::fs::symlink("pre-receive", &path).expect("scratch can be written");
    let answer = pair.send(&pair.push(&["- HEAD refs/heads/c"]));
    assert_eq!(answer.complaints(), ["ng refs/heads/c pre-receive hook declined"]);
}

#[test]
fn the_end_of_a_hook_by_a_signal_is_told() {
    let pair = Pair::new();
    pair.commit("three");
    for (hook, complaints) in
        [("pre-receive", &["ng refs/heads/a pre-receive hook declined"][..]), ("post-receive", &[])]
    {
        pair.hook(hook, "kill -9 $$");
        let answer = pair.send(&pair.push(&["- HEAD refs/heads/a"]));
        assert_eq!(answer.complaints(), complaints, "{hook}");
        assert_eq!(answer.said, format!("error: hook '{hook}' died of signal 9\n"));
        assert_eq!(answer.summary.outcome, "error");
        assert_eq!(answer.summary.error, Some(format!("hook '{hook}' died of signal 9")));
        pair.hook(hook, "");
    }
}

#[test]
fn a_hook_that_nobody_reads_any_longer_says_no_as_in_git() {
    for signal in ["PIPE", "TERM"] {
        let pair = Pair::new();
        pair.commit("three");
        pair.hook("pre-receive", &format!("kill -{signal} $$"));
        let push = pair.push(&["- HEAD refs/heads/a"]);
        let (ours, theirs) = (pair.send(&push), pair.copy().send_to_git(&push.bytes()));
        assert_eq!(ours.complaints(), ["ng refs/heads/a pre-receive hook declined"], "{signal}");
        assert_eq!(theirs.complaints(), ours.complaints(), "{signal}");
        assert_eq!(ours.said.contains("died of signal"), signal == "TERM", "{signal}: {}", ours.said);
    }
}

#[test]
fn no_hook_hears_of_a_symbolic_ref_that_led_nowhere_and_was_to_go() {
    let pair = Pair::new();
    pair.at_server(&["symbolic-ref", "refs/heads/dangling", "refs/heads/nowhere"]);
    pair.hook("post-receive", "cat");
    pair.hook("post-update", "echo $*");
    let answer = pair.send(&pair.push(&["- - refs/heads/dangling"]));
    assert_eq!(answer.said, "warning: deleting a non-existent ref\n");
}

#[test]
fn a_hook_is_stopped_when_its_time_is_over() {
    let pair = Pair::new();
    pair.commit("three");
    pair.hook("pre-receive", "sleep 60; true");
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
fn objects_that_somebody_packs_before_the_refs_change_are_no_disk_error() {
    let pair = Pair::new();
    pair.commit("three");
    assert_eq!(pair.send(&pair.push(&["- HEAD refs/heads/a"])).complaints(), [""; 0]);
    pair.at_server(&["repack", "-adq"]);
    pair.at_server(&["update-ref", "-d", "refs/heads/a"]);
    // The pack still has what the next push brings, so its loose copies, and their directories, go while refs are about to change.
    let prune = "find objects -type f -path 'objects/??/*' >>pruned; env -u GIT_QUARANTINE_PATH git prune-packed -q";
    pair.hook("reference-transaction", &format!("test $1 != preparing || {{ {prune}; }}"));
    assert_eq!(pair.send(&pair.push(&["- HEAD refs/heads/b"])).complaints(), [""; 0]);
    assert!(std::fs::metadata(pair.server.join("pruned")).expect("the hook was run").len() > 0);
    pair.at_server(&["fsck", "--strict"]);
}

#[test]
fn of_an_atomic_push_no_ref_behind_a_declined_one_is_shown_to_the_update_hook() {
    let pair = Pair::new();
    pair.commit("three");
    pair.hook("update", "echo $1 >> told; test $1 != refs/heads/b");
    let push = pair.push(&["- HEAD refs/heads/a", "- HEAD refs/heads/b", "- HEAD refs/heads/c"]).and("atomic");
    let copy = pair.copy();
    let expected =
        ["ng refs/heads/a atomic push failure", "ng refs/heads/b hook declined", "ng refs/heads/c atomic push failure"];
    assert_eq!(pair.send(&push).complaints(), expected);
    assert_eq!(copy.send_to_git(&push.bytes()).complaints(), expected);
    for pair in [pair, copy] {
        let told = std::fs::read_to_string(pair.server.join("told")).expect("the hook was run");
        assert_eq!(told, "refs/heads/a\nrefs/heads/b\n");
    }
}

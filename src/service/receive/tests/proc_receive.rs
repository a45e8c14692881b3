//! The proc-receive hook, which makes updates itself.

use super::*;

/// Installs a hook that writes `said` and keeps what it reads, and its working directory, in the file `heard`.
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

/// Serves a push with this hook and compares with C git: the report, the refs, the messages, and what hooks are told.
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

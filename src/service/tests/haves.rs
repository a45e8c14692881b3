//! The `.have` lines of a push's advertisement, compared with C git.

use super::*;

/// Compares our list of refs with C git's, and the `.have` lines in it with objects of `origin`.
fn check(fork: &Repo, namespace: Option<&str>, origin: &Repo, expected: &[&str]) {
    let mut repository = fork.open(pipe(Version::V0));
    repository.context.namespace = namespace.map(Into::into);
    let mut ours = Vec::new();
    let mut summary = Summary::default();
    let mut out = Out { sink: &mut ours, channel: &mut ErrorChannel::Status, summary: &mut summary };
    let operation = Operation::Advertise(Service::ReceivePack);
    run(&operation, &repository, &mut Given { left: b"", stateless: true }, &mut out).expect("it is announced");
    let namespace = format!("--namespace={}", namespace.unwrap_or_default());
    let (ok, theirs, said) = git_in(&fork.path, &[&namespace, "receive-pack", "--http-backend-info-refs", "."], b"");
    assert!(ok, "{said}");
    let sorted = |bytes: &[u8]| {
        let lines = told(fork, bytes);
        let name = |line: &str| line.split(['\0', '\n']).next().unwrap_or_default().to_owned();
        let mut lines: Vec<String> = lines.split('|').map(name).collect();
        lines.sort();
        lines
    };
    let ours = sorted(&ours);
    assert_eq!(ours, sorted(&theirs), "{namespace}");
    let haves: Vec<&str> = ours.iter().filter_map(|line| line.strip_suffix(" .have")).collect();
    let mut expected: Vec<String> = expected.iter().map(|name| origin.id(name)).collect();
    expected.sort();
    assert_eq!(haves, expected, "{namespace}");
}

fn fork_of(origin: &Repo) -> Repo {
    let fork = Repo::new();
    let alternates = fork.path.join("objects/info/alternates");
    std::fs::write(alternates, format!("{}\n", origin.path.join("objects").display())).expect("it was just made");
    fork.git(&["update-ref", "refs/heads/main", &origin.id("main")]);
    fork
}

#[test]
fn the_owner_chooses_the_refs_of_alternates() {
    let origin = Repo::drawn();
    let fork = fork_of(&origin);
    check(&fork, None, &origin, &["topic", "refs/secret/side", "v1", "v1-again", "blob", "light"]);
    fork.git(&["config", "core.alternateRefsPrefixes", "refs/heads/topic refs/secret/"]);
    check(&fork, None, &origin, &["topic", "refs/secret/side"]);
    fork.git(&["config", "core.alternateRefsPrefixes", "refs/head refs/tags"]);
    check(&fork, None, &origin, &["v1", "v1-again", "blob", "light"]);
    let command = "git --git-dir=\"$1\" for-each-ref --format='%(objectname)' refs/secret; echo";
    fork.git(&["config", "core.alternateRefsCommand", &format!("f() {{ {command} nonsense; {command}; }}; f")]);
    check(&fork, None, &origin, &["refs/secret/side"]);
    fork.git(&["config", "core.alternateRefsCommand", "no-such-command"]);
    check(&fork, None, &origin, &[]);
}

#[test]
fn refs_outside_a_namespace_are_told_without_their_names() {
    let origin = Repo::drawn();
    origin.git(&["update-ref", "refs/namespaces/n/refs/heads/main", "topic"]);
    origin.git(&["update-ref", "refs/namespaces/m/refs/heads/x", "refs/secret/side"]);
    check(&origin, None, &origin, &[]);
    let tags = ["v1", "v1-again", "blob", "light"];
    // An object listed later with a name may have been listed before without one.
    check(&origin, Some("n"), &origin, &[&["main", "topic", "refs/secret/side"], &tags[..]].concat());
    origin.git(&["config", "receive.hideRefs", "^refs/secret"]);
    origin.git(&["config", "--add", "receive.hideRefs", "refs/tags"]);
    origin.git(&["config", "--add", "receive.hideRefs", "^refs/namespaces/m"]);
    check(&origin, Some("n"), &origin, &[&["main", "topic"], &tags[..]].concat());
}

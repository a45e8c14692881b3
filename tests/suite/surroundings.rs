//! What a web server leaves around a request: arguments, descriptors, variables that are set or not.

use crate::support::{Answer, Cgi, NULL, PROGRAM, Site, framed};
use std::process::{Command, Stdio};

const ADVERTISE: &str = "/acme/site.git/info/refs?service=git-upload-pack";

fn site() -> Site {
    Site::with("acme/site", |repo| {
        repo.commit("one");
    })
}

/// A push of a new branch; its hooks print what they find.
fn push(site: &Site) -> Cgi {
    push_to(site, "refs/heads/new")
}

fn push_to(site: &Site, name: &str) -> Cgi {
    let token = site.token("acme/site", "write");
    let tip = site.work("fill").tip("HEAD");
    site.push("acme/site", &token, &[(NULL, &tip, name)], &site.work("fill").pack(""))
}

#[test]
fn a_log_and_a_cache_that_cannot_be_written_are_not_missed_in_silence() {
    let site = Site::with("acme/site", |repo| {
        repo.commit("one");
    });
    let tip = site.repo("acme/site").tip("refs/heads/main");
    let fetch = framed(&["command=fetch", "0001", &format!("want {tip}"), "done", "0000"]);
    let request = site.cgi("POST", "/acme/site.git/git-upload-pack").bearer(&site.token("acme/site", "read"));
    let request = request.protocol(2).body(fetch);
    let (log, cache) = ("/proc/none/audit", "/proc/none/cache");
    let answer = request.env("ARTIFACTS_AUDIT_LOG", log).env("ARTIFACTS_CACHE", cache).run();
    assert_eq!((answer.status, answer.exit), (200, 0), "{answer:?}");
    assert!(!crate::support::band(&answer.body, 1).is_empty(), "the fetch goes on");
    let lines: Vec<&str> = answer.stderr.lines().collect();
    assert!(
        lines[0].starts_with(&format!("warning: ARTIFACTS_CACHE: nothing can be written to {cache}: ")),
        "{lines:?}"
    );
    assert!(lines[1].starts_with(&format!("warning: ARTIFACTS_AUDIT_LOG: {log}: ")) && lines.len() == 2, "{lines:?}");
    let checked = |log: &str, cache: &str| {
        let mut command = std::process::Command::new(crate::support::PROGRAM);
        command.args(["check", "--root"]).arg(site.root()).env_clear().env("GIT_CONFIG_NOSYSTEM", "1");
        let output = command.env("ARTIFACTS_AUDIT_LOG", log).env("ARTIFACTS_CACHE", cache).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (status, said) = checked(log, cache);
    assert!(status == Some(1) && said.contains("problem  audit log: ") && said.contains("problem  cache: "), "{said}");
    let here = |name: &str| site.root().join(name).to_str().unwrap().to_owned();
    let (status, said) = checked(&here(".audit"), &here(".cache"));
    assert!(status == Some(0) && said.contains("ok       audit log: ") && said.contains("ok       cache: "), "{said}");
    assert!(!site.root().join(".audit").exists() && !site.root().join(".cache").exists(), "nothing is changed");
}

#[test]
fn words_of_the_query_in_argv_are_not_looked_at() {
    let site = site();
    let token = site.token("acme/site", "read");
    let request = site.cgi("GET", ADVERTISE).bearer(&token);
    for words in
        [vec!["--help"], vec!["token", "create", "acme/site", "--scope", "write"], vec!["serve", "--port", "0"]]
    {
        let command: Vec<&str> = std::iter::once(PROGRAM).chain(words.iter().copied()).collect();
        let answer = request.clone().through(&command).run();
        assert_eq!((answer.status, answer.stderr.as_str()), (200, ""), "{words:?}");
        assert!(answer.text().contains("refs/heads/main"), "{words:?}");
        // Some servers set only one of the two.
        let answer = request.clone().without("GATEWAY_INTERFACE").through(&command).run();
        assert_eq!(answer.status, 200, "{words:?}");
        let answer = request.clone().without("REQUEST_METHOD").through(&command).run();
        assert_eq!(answer.status, 500, "{words:?}");
    }
}

#[test]
fn descriptors_of_the_server_do_not_reach_hooks() {
    let site = site();
    site.repo("acme/site").hook(
        "pre-receive",
        "for fd in 3 4 5 6 7 8 9; do if (: >&$fd) 2>/dev/null; then echo \"leaked $fd\"; fi; done",
    );
    let answer = push(&site).opening("exec 3<>/dev/null 5<>/dev/null 9<>/dev/null").run();
    assert_eq!(answer.report(), ["unpack ok", "ok refs/heads/new"]);
    assert!(!answer.text().contains("leaked"), "{}", answer.text());
}

#[test]
fn without_path_home_and_standard_input_all_goes_well() {
    let site = site();
    let token = site.token("acme/site", "read");
    let bare =
        site.cgi("GET", ADVERTISE).bearer(&token).without("PATH").without("REMOTE_ADDR").without("SERVER_PROTOCOL");
    assert_eq!(bare.run().status, 200);
    let answer = bare.opening("exec 0<&-").run();
    assert_eq!((answer.status, answer.stderr.as_str()), (200, ""));
    site.repo("acme/site")
        .hook("pre-receive", "cat | sed 's/^/heard /'; ls >/dev/null && echo \"found ls, home is <$HOME>\"");
    let answer = push(&site).without("PATH").run();
    assert_eq!(answer.report(), ["unpack ok", "ok refs/heads/new"]);
    assert!(
        answer.text().contains("heard 0000") && answer.text().contains("found ls, home is <>"),
        "{}",
        answer.text()
    );
}

#[test]
fn a_hook_does_not_inherit_the_request_and_may_push_and_call_the_program() {
    let site = site();
    let mirror = site.create("acme/mirror");
    let hook = format!(
        "cat >/dev/null; env | sed 's/^/env /'; {PROGRAM} token list acme/site | sed 's/^/tool /'; \
         git push -q --mirror {} && echo mirrored",
        mirror.path.display()
    );
    site.repo("acme/site").hook("post-receive", &hook);
    let answer = push(&site).env("HTTP_CONTENT_ENCODING", "").env("SECRET_OF_THE_SERVER", "is passed on").run();
    let text = answer.text();
    for hidden in [
        "REQUEST_METHOD",
        "GATEWAY_INTERFACE",
        "PATH_INFO",
        "CONTENT_LENGTH",
        "CONTENT_TYPE",
        "AUTHORIZATION",
        "art_v1_",
    ] {
        assert!(!text.contains(hidden), "{hidden} is in {text}");
    }
    assert!(text.contains("env SECRET_OF_THE_SERVER=is passed on") && text.contains("env GIT_DIR=."), "{text}");
    assert!(text.contains("env ARTIFACTS_TOKEN_ID=") && text.contains("env ARTIFACTS_SCOPE=write"), "{text}");
    assert!(text.contains("tool ") && text.contains("write"), "{text}");
    assert!(text.contains("mirrored"), "{text}");
    assert_eq!(mirror.refs(), site.repo("acme/site").refs());
}

#[test]
fn a_hook_may_push_on_through_the_program_under_either_of_its_names() {
    let site = site();
    let named = site.work("bin").path.join("git-receive-pack");
    std::os::unix::fs::symlink(PROGRAM, &named).unwrap();
    for (name, receive_pack) in [("tool", format!("{PROGRAM} receive-pack")), ("named", named.display().to_string())] {
        let onward = site.create(&format!("acme/{name}"));
        onward.config("receive.autogc", "false");
        onward.hook("post-receive", "env | grep -c -e ^REQUEST_METHOD= -e AUTHORIZATION -e ^CONTENT_; cat");
        let push = format!("git push -q --mirror --receive-pack='{receive_pack}' {}", onward.path.display());
        let hook = format!("cat >/dev/null; {push} && echo pushed on");
        site.repo("acme/site").hook("post-receive", &hook);
        let answer = push_to(&site, &format!("refs/heads/{name}")).env("GIT_TRACE2_PARENT_SID", "x").run();
        assert_eq!(answer.report(), ["unpack ok", &format!("ok refs/heads/{name}")], "{}", answer.stderr);
        let text = answer.text();
        assert!(text.contains("remote: 0") && text.contains("pushed on"), "{text}");
        assert!(text.contains(&format!("remote: {NULL} ")) && text.contains("refs/heads/main"), "{text}");
        assert_eq!(onward.refs(), site.repo("acme/site").refs());
        assert_eq!(onward.leftovers(), Vec::<std::path::PathBuf>::new());
        onward.fsck();
    }
    // While objects wait in quarantine, no ref may point to them.
    let onward = site.create("acme/early");
    let push = format!("git push -q --mirror --receive-pack='{PROGRAM} receive-pack' {}", onward.path.display());
    site.repo("acme/site").hook("pre-receive", &push);
    let answer = push_to(&site, "refs/heads/early").run();
    assert_eq!(answer.report(), ["unpack ok", "ng refs/heads/early pre-receive hook declined"]);
    assert!(answer.text().contains("forbidden inside quarantine"), "{}", answer.text());
    assert_eq!(onward.refs(), "");
}

#[test]
fn a_command_for_the_advertisement_finds_its_programs_and_no_credentials() {
    let site = site();
    let token = site.token("acme/site", "write");
    let lender = site.create("acme/lender");
    let tip = site.work("fill").commit("lent");
    site.work("fill").git(&["push", "-q", lender.path.to_str().unwrap(), "HEAD:refs/heads/lent"]);
    let borrower = site.repo("acme/site");
    let alternates = borrower.path.join("objects/info/alternates");
    std::fs::write(alternates, format!("{}\n", lender.path.join("objects").display())).unwrap();
    // A program of the operator's that only the operator's PATH finds.
    let bin = site.work("bin");
    bin.hook("tips", &format!("env >{}; echo {tip}", bin.path.join("told").display()));
    borrower.config("core.alternateRefsCommand", "tips");
    let path = format!("{}:{}", bin.path.join("hooks").display(), std::env::var("PATH").unwrap());
    let answer = site
        .cgi("GET", "/acme/site.git/info/refs?service=git-receive-pack")
        .bearer(&token)
        .env("PATH", &path)
        .env("MINE", "1")
        .run();
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains(&format!("{tip} .have")), "{}", answer.text());
    let told = std::fs::read_to_string(bin.path.join("told")).unwrap();
    assert!(told.contains("MINE=1\n"), "{told}");
    for hidden in ["REQUEST_METHOD", "GATEWAY_INTERFACE", "PATH_INFO", "AUTHORIZATION", "art_v1_", "GIT_DIR="] {
        assert!(!told.contains(hidden), "{hidden} is in {told}");
    }
}

#[test]
fn a_user_the_web_server_names_is_no_user_where_tokens_decide() {
    let site = site();
    for name in ["REMOTE_USER", "AUTH_TYPE"] {
        let request = site.cgi("GET", "/acme/site.git/info/refs?service=git-receive-pack").env(name, "evil");
        assert_eq!(request.run().status, 401);
    }
    site.repo("acme/site").hook("pre-receive", "echo \"user <$REMOTE_USER> <$AUTH_TYPE> <$GIT_COMMITTER_NAME>\"");
    let answer =
        push(&site).env("REMOTE_USER", "evil").env("AUTH_TYPE", "Basic").env("GIT_COMMITTER_NAME", "evil").run();
    assert_eq!(answer.report(), ["unpack ok", "ok refs/heads/new"]);
    assert!(answer.text().contains("user <> <> <token-"), "{}", answer.text());
}

#[test]
fn the_first_of_doubled_variables_counts() {
    let site = site();
    let token = site.token("acme/site", "read");
    // A shell or a std::process::Command would merge duplicates; an interpreter that calls execve directly does not.
    let script = "import ctypes, os, sys\n\
                  pairs = [pair.encode() for pair in sys.argv[2:]]\n\
                  environ = (ctypes.c_char_p * (len(pairs) + 1))(*pairs, None)\n\
                  arguments = (ctypes.c_char_p * 2)(sys.argv[1].encode(), None)\n\
                  ctypes.CDLL(None).execve(sys.argv[1].encode(), arguments, environ)\n";
    let Ok(python) = Command::new("python3").arg("--version").output() else { return };
    assert!(python.status.success());
    let run = |first: &str, second: &str| {
        let mut command = Command::new("python3");
        command.args(["-c", script, PROGRAM, "REQUEST_METHOD=GET", "PATH_INFO=/acme/site.git/info/refs"]);
        command.arg(format!("GIT_PROJECT_ROOT={}", site.root().display()));
        command.args(["QUERY_STRING=service=git-upload-pack", "GIT_CONFIG_NOSYSTEM=1"]);
        command.args([format!("HTTP_AUTHORIZATION=Bearer {first}"), format!("HTTP_AUTHORIZATION=Bearer {second}")]);
        Answer::parse(&command.stdin(Stdio::null()).output().unwrap()).status
    };
    assert_eq!(run(&token, "nonsense"), 200);
    assert_eq!(run("nonsense", &token), 403);
}

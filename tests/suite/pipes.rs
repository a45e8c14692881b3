//! The services over pipes: real git clients over `file://` and ssh, conversations by hand, clients that disappear or
//! stay silent.

use crate::support::{
    NULL, PROGRAM, PUSH, Ran, Repo, Scratch, ended, framed, git_command, packets, readable, reader, until, updates,
    write_script,
};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// A bare repository, and a directory for its clients.
struct Pipes {
    scratch: Scratch,
}

/// How a client reaches the program.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// `file://`, with the program's subcommands.
    File,
    /// ssh, with the names of git's programs.
    Ssh,
}

impl Pipes {
    fn new() -> Self {
        let pipes = Pipes { scratch: Scratch::new() };
        git_command(pipes.scratch.path()).args(["init", "-q", "--bare", "served.git"]).status().unwrap();
        // What sshd would find in PATH: the program under git's names.
        let names = pipes.scratch.path().join("names");
        std::fs::create_dir(&names).unwrap();
        std::os::unix::fs::symlink(PROGRAM, names.join("git-upload-pack")).unwrap();
        std::os::unix::fs::symlink(PROGRAM, names.join("git-receive-pack")).unwrap();
        let ssh = format!("for last; do :; done\nPATH={}:$PATH exec sh -c \"$last\"", names.display());
        write_script(&pipes.scratch.path().join("ssh"), &ssh);
        pipes
    }

    fn with_history() -> (Self, Repo) {
        let pipes = Pipes::new();
        let work = pipes.work("work");
        work.git(&["init", "-q"]);
        work.commit("one");
        work.commit("two");
        work.git(&["tag", "-a", "-m", "v1", "v1"]);
        work.git(&["push", "-q", "--mirror", pipes.served().path.to_str().unwrap()]);
        (pipes, work)
    }

    fn served(&self) -> Repo {
        Repo::at(self.scratch.path().join("served.git"))
    }

    fn work(&self, name: &str) -> Repo {
        let path = self.scratch.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Repo::at(path)
    }

    fn url(&self, way: Way) -> String {
        match way {
            Way::File => format!("file://{}", self.served().path.display()),
            Way::Ssh => format!("ssh://example.com{}", self.served().path.display()),
        }
    }

    /// git in a client's directory, with the program at the other end.
    fn git(&self, way: Way, version: u8, at: &Repo, arguments: &[&str]) -> Command {
        let mut command = git_command(&at.path);
        command.args(["-c", &format!("protocol.version={version}")]);
        match way {
            Way::File => {
                let url = self.url(way);
                for (key, service) in [("uploadpack", "upload-pack"), ("receivepack", "receive-pack")] {
                    command.args(["-c", &format!("remote.origin.{key}={PROGRAM} {service}")]);
                }
                command.args(["-c", &format!("remote.origin.url={url}")]);
            }
            Way::Ssh => {
                command.args(["-c", &format!("remote.origin.url={}", self.url(way))]);
                command.env("GIT_SSH_COMMAND", self.scratch.path().join("ssh")).env("GIT_SSH_VARIANT", "ssh");
            }
        }
        command.args(arguments);
        command
    }

    fn run(&self, way: Way, version: u8, at: &Repo, arguments: &[&str]) -> Ran {
        within_time(&mut self.git(way, version, at, arguments))
    }

    /// The program as a shell would run it.
    fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).current_dir(self.scratch.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.scratch.path());
        command.env("GIT_CONFIG_NOSYSTEM", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Sends all input at once, and closes it.
    fn say(&self, arguments: &[&str], environment: &[(&str, &str)], input: &[u8]) -> Said {
        let mut child = self.program(arguments).envs(environment.iter().copied()).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(input);
        Said::of(child)
    }
}

/// The outcome of the program.
#[derive(Debug)]
struct Said {
    /// Its exit status, or the signal that ended it as a negative number.
    status: i32,
    out: Vec<u8>,
    err: String,
}

impl Said {
    fn of(mut child: Child) -> Self {
        let (stdout, stderr) = (reader(child.stdout.take().unwrap()), reader(child.stderr.take().unwrap()));
        let status = ended(&mut child);
        let err = String::from_utf8_lossy(&stderr.join().unwrap()).into_owned();
        Said { status: status.code().unwrap_or_else(|| -status.signal().unwrap()), out: stdout.join().unwrap(), err }
    }
}

/// Runs a client that might wait for ever if the program stays silent; then the test fails.
fn within_time(command: &mut Command) -> Ran {
    let said = Said::of(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    Ran { ok: said.status == 0, out: String::from_utf8_lossy(&said.out).trim_end().to_owned(), err: said.err }
}

/// A conversation in turns.
struct Talk {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    stderr: ChildStderr,
}

impl Talk {
    fn with(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let stderr = child.stderr.take().unwrap();
        Talk { child, stdin, stdout, stderr }
    }

    fn say(&mut self, lines: &[&str]) {
        self.stdin.as_mut().unwrap().write_all(&framed(lines)).unwrap();
    }

    /// Reads packets up to and including the one that `ends`.
    fn hear(&mut self, ends: impl Fn(&str) -> bool) -> Vec<String> {
        let mut heard = Vec::new();
        loop {
            assert!(readable(&self.stdout, Duration::from_secs(40)), "nothing comes after {heard:?}");
            let mut digits = [0; 4];
            self.stdout.read_exact(&mut digits).unwrap();
            let size = usize::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap();
            let mut packet = digits.to_vec();
            packet.resize(size.max(4), 0);
            self.stdout.read_exact(&mut packet[4..]).unwrap();
            heard.extend(packets(&packet));
            if heard.last().is_some_and(|line| ends(line)) {
                return heard;
            }
        }
    }

    /// Closes the input, and waits for the end.
    fn end(mut self) -> Said {
        self.stdin = None;
        self.wait()
    }

    /// Waits until the program ends by itself.
    fn wait(mut self) -> Said {
        let status = ended(&mut self.child);
        let (mut out, mut err) = (Vec::new(), String::new());
        self.stdout.read_to_end(&mut out).unwrap();
        self.stderr.read_to_string(&mut err).unwrap();
        Said { status: status.code().unwrap_or_else(|| -status.signal().unwrap()), out, err }
    }
}

const WAYS: [Way; 2] = [Way::File, Way::Ssh];

#[test]
fn git_clones_fetches_and_pushes_over_pipes_in_every_version() {
    for (way, version) in WAYS.iter().flat_map(|way| [0, 1, 2].map(|version| (*way, version))) {
        let (pipes, work) = Pipes::with_history();
        let name = format!("client-{version}");
        let desk = Repo::at(pipes.scratch.path());
        let upload_pack = format!("--upload-pack={PROGRAM} upload-pack");
        let program = if matches!(way, Way::File) { upload_pack.as_str() } else { "--no-local" };
        pipes.run(way, version, &desk, &["clone", "-q", program, &pipes.url(way), &name]).succeeds();
        let client = Repo::at(desk.path.join(&name));
        assert_eq!((client.tip("HEAD"), client.tip("v1")), (work.tip("HEAD"), work.tip("v1")), "{way:?} {version}");
        work.commit("three");
        work.git(&["push", "-q", pipes.served().path.to_str().unwrap(), "main"]);
        pipes.run(way, version, &client, &["fetch", "-q", "origin", "main"]).succeeds();
        assert_eq!(client.tip("FETCH_HEAD"), work.tip("main"), "{way:?} {version}");
        client.commit("mine");
        pipes.run(way, version, &client, &["push", "-q", "origin", "HEAD:refs/heads/mine", ":refs/tags/v1"]).succeeds();
        assert_eq!(pipes.served().tip("mine"), client.tip("HEAD"));
        assert!(!pipes.served().refs().contains("refs/tags/v1"));
        pipes.served().fsck();
        client.fsck();
        assert_eq!(pipes.served().leftovers(), Vec::<PathBuf>::new());
    }
}

/// Makes commits on a branch of their own, in one go.
fn grow(repo: &Repo, branch: &str, commits: u32) {
    let mut stream = format!("reset refs/heads/{branch}\nfrom refs/heads/main^0\n");
    for number in 0..commits {
        let name = format!("{branch} {number}\n");
        stream +=
            &format!("commit refs/heads/{branch}\ncommitter C <c@example.com> {} +0000\n", 1_800_000_000 + number);
        stream +=
            &format!("data {}\n{name}M 100644 inline {branch}-{number}\ndata {}\n{name}\n", name.len(), name.len());
    }
    let mut child = git_command(&repo.path).args(["fast-import", "--quiet"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stream.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn histories_that_parted_are_agreed_upon_round_by_round() {
    for version in [0, 1, 2] {
        let (pipes, work) = Pipes::with_history();
        let client = pipes.work("client");
        client.git(&["init", "-q"]);
        pipes.run(Way::File, version, &client, &["fetch", "-q", "--update-head-ok", "origin", "main:main"]).succeeds();
        grow(&client, "mine", 150);
        grow(&work, "theirs", 20);
        work.git(&["push", "-q", pipes.served().path.to_str().unwrap(), "theirs"]);
        let trace = pipes.scratch.path().join("packets");
        let mut fetch = pipes.git(Way::File, version, &client, &["fetch", "-q", "origin", "theirs"]);
        let ran = within_time(fetch.env("GIT_TRACE_PACKET", &trace));
        ran.succeeds();
        let heard = std::fs::read_to_string(&trace).unwrap();
        let ours = |part: &str| heard.lines().filter(|line| line.contains(part)).count();
        assert!(ours("upload-pack< have ") > 100, "{heard}");
        let rounds = if version == 2 { ours("upload-pack< command=fetch") } else { ours("upload-pack> NAK") };
        assert!(rounds > 2, "version {version}: {rounds} rounds");
        client.fsck();
        let objects = client.git(&["rev-list", "--count", "FETCH_HEAD", "^main"]);
        assert_eq!(objects, "20");
    }
}

#[test]
fn each_round_of_haves_is_answered_as_it_comes() {
    let (pipes, work) = Pipes::with_history();
    let (one, two) = (work.tip("main~1"), work.tip("main"));
    let mut talk = Talk::with(pipes.program(&["upload-pack", "served.git"]));
    let refs = talk.hear(|line| line == "0000");
    assert!(refs[0].starts_with(&format!("{two} HEAD")) && !refs[0].contains("no-done"), "{refs:?}");
    talk.say(&[&format!("want {two} multi_ack_detailed ofs-delta"), "0000"]);
    talk.say(&[&format!("have {}", "1".repeat(40)), "0000"]);
    assert_eq!(talk.hear(|_| true), ["NAK"]);
    talk.say(&[&format!("have {one}"), "0000"]);
    assert_eq!(
        talk.hear(|line| line == "NAK"),
        [format!("ACK {one} common"), format!("ACK {one} ready"), "NAK".into()]
    );
    talk.say(&["done"]);
    assert_eq!(talk.hear(|_| true), [format!("ACK {one}")]);
    let said = talk.end();
    assert!(said.status == 0 && said.out.starts_with(b"PACK"), "{said:?}");
}

#[test]
fn commands_of_v2_are_served_until_the_client_has_no_more_to_ask() {
    let (pipes, work) = Pipes::with_history();
    for ends in [&["0000"][..], &[]] {
        let mut command = pipes.program(&["upload-pack", "served.git"]);
        command.env("GIT_PROTOCOL", "version=2");
        let mut talk = Talk::with(command);
        assert_eq!(talk.hear(|line| line == "0000")[0], "version 2");
        for _ in 0..2 {
            talk.say(&["command=ls-refs", "0001", "ref-prefix refs/heads/", "0000"]);
            let listed = talk.hear(|line| line == "0000");
            assert_eq!(listed, [format!("{} refs/heads/main", work.tip("main")), "0000".into()]);
        }
        talk.say(ends);
        let said = talk.end();
        assert_eq!((said.status, said.out.len(), said.err.as_str()), (0, 0, ""));
    }
}

#[test]
fn one_request_is_answered_where_the_client_asks_for_that_alone() {
    let (pipes, work) = Pipes::with_history();
    let tip = work.tip("main");
    let v2 = [("GIT_PROTOCOL", "version=2")];
    let ask = |arguments: &[&str], environment: &[(&str, &str)], input: &[&str]| {
        let said = pipes.say(arguments, environment, &framed(input));
        assert_eq!((said.status, said.err.as_str()), (0, ""), "{arguments:?}");
        packets(&said.out)
    };
    let list = ["command=ls-refs", "0001", "0000", "command=ls-refs", "0001", "0000"];
    let listed = ask(&["upload-pack", "--stateless-rpc", "served.git"], &v2, &list);
    assert_eq!(listed.iter().filter(|line| *line == "0000").count(), 1, "{listed:?}");
    assert!(listed.contains(&format!("{tip} refs/heads/main")));
    let refused = format!("want {tip} no-progress");
    let round = ask(
        &["upload-pack", "--stateless-rpc", "served.git"],
        &[],
        &[&refused, "0000", &format!("have {}", "1".repeat(40)), "0000"],
    );
    assert_eq!(round, ["NAK"]);
    for option in ["--http-backend-info-refs", "--advertise-refs"] {
        let refs = ask(&["upload-pack", "--stateless-rpc", option, "served.git"], &[], &[]);
        assert!(refs[0].starts_with(&format!("{tip} HEAD")) && refs[0].contains(" no-done "), "{refs:?}");
        let v1 = ask(&["receive-pack", option, "served.git"], &[("GIT_PROTOCOL", "version=1")], &[]);
        assert_eq!(v1[0], "version 1");
        assert!(v1[1].contains("report-status"), "{v1:?}");
    }
    let push = [updates(&[(&tip, NULL, "refs/heads/main")], PUSH), Vec::new()].concat();
    pipes.served().config("receive.denyDeleteCurrent", "ignore");
    let said = pipes.say(&["receive-pack", "--stateless-rpc", "served.git"], &[], &push);
    assert!(String::from_utf8_lossy(&said.out).contains("ok refs/heads/main"), "{said:?}");
    assert_eq!(pipes.served().refs().lines().count(), 1);
}

#[test]
fn hooks_hear_see_and_say_over_pipes_what_they_do_with_git() {
    for way in WAYS {
        let (pipes, work) = Pipes::with_history();
        let served = pipes.served();
        let seen = pipes.scratch.path().join("seen");
        let note = |text: &str| format!("echo \"{text}\" >>{}", seen.display());
        let script = format!(
            "{}; cat >/dev/null; echo out of pre; echo err of pre >&2",
            note("pre $GIT_DIR $GIT_QUARANTINE_PATH")
        );
        served.hook("pre-receive", &script);
        served.hook("update", &note("update $1 ${GIT_QUARANTINE_PATH-none}"));
        served.hook("post-receive", &format!("{}; cat >&2", note("post $MINE ${REQUEST_METHOD-none}")));
        work.commit("three");
        let mut push = pipes.git(way, 0, &work, &["push", "origin", "main"]);
        let ran = within_time(push.env("MINE", "inherited"));
        assert!(ran.ok, "{}", ran.err);
        for line in ["remote: out of pre", "remote: err of pre", "refs/heads/main"] {
            assert!(ran.err.contains(line), "{line}: {}", ran.err);
        }
        let seen = std::fs::read_to_string(seen).unwrap();
        let lines: Vec<&str> = seen.lines().collect();
        assert!(lines[0].starts_with("pre . ") && lines[0].contains("objects/"), "{seen}");
        assert_eq!(lines[1..], ["update refs/heads/main none", "post inherited none"]);
        served.hook("pre-receive", "echo no; exit 1");
        work.commit("four");
        let before = served.refs();
        let ran = pipes.run(way, 2, &work, &["push", "origin", "main"]);
        assert!(!ran.ok && ran.err.contains("(pre-receive hook declined)"), "{}", ran.err);
        assert_eq!(served.refs(), before);
        assert_eq!(served.leftovers(), Vec::<PathBuf>::new());
    }
}

#[test]
fn the_client_has_its_report_before_post_receive_runs() {
    let (pipes, work) = Pipes::with_history();
    let flag = pipes.scratch.path().join("go");
    let done = pipes.scratch.path().join("done");
    let wait = format!("until [ -e {} ]; do sleep 0.02; done; touch {}", flag.display(), done.display());
    pipes.served().hook("post-receive", &wait);
    let mut talk = Talk::with(pipes.program(&["receive-pack", "served.git"]));
    talk.hear(|line| line == "0000");
    let list = updates(&[(NULL, &work.tip("main"), "refs/heads/again")], PUSH);
    let pack = work.pack("");
    talk.stdin.as_mut().unwrap().write_all(&[list, pack].concat()).unwrap();
    let report = talk.hear(|line| line.contains("ok refs/heads/again"));
    assert!(!done.exists(), "{report:?}");
    std::fs::write(&flag, "").unwrap();
    assert_eq!(talk.end().status, 0);
    assert!(done.exists());
}

#[test]
fn without_side_bands_hooks_speak_to_standard_error() {
    let (pipes, work) = Pipes::with_history();
    pipes.served().hook("update", "echo said by update; exit 1");
    let list = updates(&[(NULL, &work.tip("main"), "refs/heads/again")], "report-status");
    let said = pipes.say(&["receive-pack", "served.git"], &[], &[list, work.pack("")].concat());
    assert!(said.err.contains("said by update\n"), "{said:?}");
    assert!(packets(&said.out).contains(&"ng refs/heads/again hook declined".to_owned()), "{said:?}");
}

#[test]
fn wrong_options_end_with_gits_status_for_that() {
    let pipes = Pipes::new();
    let check = |arguments: &[&str], status: i32, text: &str| {
        let said = pipes.say(arguments, &[], b"");
        assert_eq!(said.status, status, "{said:?}");
        assert!(said.err.starts_with(text) && said.out.is_empty(), "{said:?}");
    };
    check(
        &["upload-pack", "--nonsense", "served.git"],
        129,
        "error: unknown option `nonsense'\nusage: git-upload-pack",
    );
    check(&["upload-pack"], 129, "usage: git-upload-pack");
    check(&["receive-pack", "a", "b"], 129, "fatal: too many arguments\n");
    let help = pipes.say(&["upload-pack", "-h"], &[], b"");
    assert!(help.status == 0 && help.out.starts_with(b"usage: git-upload-pack"), "{help:?}");
}

#[test]
fn a_repository_is_found_as_git_finds_it_or_refused_in_its_words() {
    let (pipes, _) = Pipes::with_history();
    let check = |arguments: &[&str], refused: Option<&str>| {
        let said = pipes.say(arguments, &[], b"0000");
        match refused {
            None => assert_eq!((said.status, said.err.as_str()), (0, ""), "{arguments:?}"),
            Some(text) => {
                assert_eq!((said.status, said.out.len()), (128, 0), "{arguments:?}: {said:?}");
                assert_eq!(said.err, format!("fatal: {text}\n"));
            }
        }
    };
    for service in ["upload-pack", "receive-pack"] {
        check(&[service, "served"], None);
        check(&[service, "served.git/"], None);
        check(&[service, "~/served.git"], None);
        check(&[service, "nothing"], Some("'nothing' does not appear to be a git repository"));
        check(&[service, "~no-such-user/r"], Some("'~no-such-user/r' does not appear to be a git repository"));
    }
    check(&["upload-pack", "--strict", "served.git"], None);
    check(&["upload-pack", "--strict", "served"], Some("'served' does not appear to be a git repository"));
    check(&["upload-pack", "--strict", "~/served.git"], Some("'~/served.git' does not appear to be a git repository"));
}

#[test]
fn a_strangers_repository_may_be_fetched_from_and_not_pushed_to() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can give a file away
    }
    let (pipes, _) = Pipes::with_history();
    std::os::unix::fs::chown(pipes.served().path, Some(12345), None).unwrap();
    assert_eq!(pipes.say(&["upload-pack", "served.git"], &[], b"0000").status, 0);
    let refused = pipes.say(&["receive-pack", "served.git"], &[], b"0000");
    assert!(refused.status == 128 && refused.err.contains("dubious ownership"), "{refused:?}");
    let safe = [("GIT_CONFIG_COUNT", "1"), ("GIT_CONFIG_KEY_0", "safe.directory"), ("GIT_CONFIG_VALUE_0", "*")];
    assert_eq!(pipes.say(&["receive-pack", "served.git"], &safe, b"0000").status, 0);
}

#[test]
fn configuration_of_the_command_line_counts() {
    let (pipes, _) = Pipes::with_history();
    let hidden = [("GIT_CONFIG_PARAMETERS", "'transfer.hiderefs'='refs/tags'")];
    let said = pipes.say(&["upload-pack", "--advertise-refs", "served.git"], &hidden, b"");
    let refs = String::from_utf8_lossy(&said.out).into_owned();
    assert!(refs.contains("refs/heads/main") && !refs.contains("refs/tags"), "{refs}");
    let broken = pipes.say(&["upload-pack", "served.git"], &[("GIT_CONFIG_PARAMETERS", "'unclosed")], b"");
    assert!(broken.status == 128 && broken.err.starts_with("fatal: "), "{broken:?}");
}

#[test]
fn reflogs_name_who_pushed() {
    let (pipes, work) = Pipes::with_history();
    pipes.served().config("core.logAllRefUpdates", "always");
    work.commit("three");
    pipes.run(Way::File, 0, &work, &["push", "-q", "origin", "main"]).succeeds();
    let log = std::fs::read_to_string(pipes.served().path.join("logs/refs/heads/main")).unwrap();
    assert!(log.contains(" C <c@example.com> "), "{log}");
}

#[test]
fn what_was_not_ours_is_told_the_client_and_standard_error() {
    let (pipes, _) = Pipes::with_history();
    let lost = "1".repeat(40);
    let said = pipes.say(&["upload-pack", "served.git"], &[], &framed(&[&format!("want {lost}"), "0000", "done"]));
    assert_eq!((said.status, said.err.as_str()), (128, &*format!("fatal: upload-pack: not our ref {lost}\n")));
    assert_eq!(packets(&said.out).last().unwrap(), &format!("ERR upload-pack: not our ref {lost}"));
}

#[test]
fn a_client_that_is_still_talking_when_it_is_refused_is_heard_out() {
    let (pipes, work) = Pipes::with_history();
    let mut talk = Talk::with(pipes.program(&["upload-pack", "served.git"]));
    talk.hear(|line| line == "0000");
    talk.say(&[&format!("want {}", "1".repeat(40)), "0000"]);
    assert!(talk.hear(|_| true)[0].starts_with("ERR upload-pack: not our ref"));
    // More than a pipe can hold.
    let haves = format!("have {}", work.tip("main"));
    talk.say(&vec![haves.as_str(); 10_000]);
    assert_eq!(talk.end().status, 128);
    // A client that reads to the end of the answer sees it, and the program does not wait for one that stays silent.
    let mut talk = Talk::with(pipes.program(&["upload-pack", "served.git"]));
    talk.hear(|line| line == "0000");
    talk.say(&["nonsense"]);
    let mut rest = Vec::new();
    talk.stdout.read_to_end(&mut rest).unwrap();
    assert!(packets(&rest)[0].starts_with("ERR "), "{rest:?}");
    assert_eq!(talk.wait().status, 128);
}

#[test]
fn input_that_breaks_off_is_an_error_and_moves_nothing() {
    let (pipes, work) = Pipes::with_history();
    let hung_up = "fatal: the remote end hung up unexpectedly\n";
    let said = pipes.say(&["upload-pack", "served.git"], &[], b"0032want 1234");
    assert_eq!((said.status, said.err.as_str()), (128, hung_up));
    // A client that closes the connection at once has asked for nothing.
    assert_eq!(pipes.say(&["upload-pack", "served.git"], &[], b"").status, 128);
    let v2 = pipes.say(&["upload-pack", "served.git"], &[("GIT_PROTOCOL", "version=2")], b"0013command=ls");
    assert_eq!((v2.status, v2.err.as_str()), (128, hung_up));
    let new = work.commit("three");
    let list = updates(&[(NULL, &new, "refs/heads/new")], PUSH);
    let pack = work.pack("main\n^main~1\n");
    let before = pipes.served().refs();
    for end in [3, list.len() - 4, list.len() + 7, list.len() + pack.len() - 1] {
        let whole = [&list[..], &pack].concat();
        let said = pipes.say(&["receive-pack", "served.git"], &[], &whole[..end]);
        assert!(said.status >= 0 && !said.err.contains("panic"), "{end}: {said:?}");
        assert!(!String::from_utf8_lossy(&said.out).contains("ok refs/heads/new"), "{end}: {said:?}");
        assert_eq!((pipes.served().refs(), pipes.served().leftovers()), (before.clone(), Vec::new()), "{end}");
    }
}

#[test]
fn a_client_that_vanishes_ends_the_program_quietly() {
    let (pipes, work) = Pipes::with_history();
    std::fs::write(work.path.join("noise"), crate::support::noise(4 << 20, 7)).unwrap();
    let tip = work.commit("big");
    work.git(&["push", "-q", pipes.served().path.to_str().unwrap(), "main"]);
    let mut talk = Talk::with(pipes.program(&["upload-pack", "served.git"]));
    talk.hear(|line| line == "0000");
    talk.say(&[&format!("want {tip} side-band-64k ofs-delta"), "0000", "done"]);
    talk.hear(|line| line.starts_with("\\x01"));
    let Talk { mut child, stdin, stdout, mut stderr } = talk;
    drop((stdin, stdout));
    assert_eq!(ended(&mut child).code(), Some(141));
    let mut err = String::new();
    stderr.read_to_string(&mut err).unwrap();
    assert_eq!(err, "");
}

#[test]
fn a_silent_client_is_given_up_after_the_timeout() {
    let (pipes, work) = Pipes::with_history();
    std::fs::write(work.path.join("noise"), crate::support::noise(4 << 20, 7)).unwrap();
    let tip = work.commit("big");
    work.git(&["push", "-q", pipes.served().path.to_str().unwrap(), "main"]);
    // A client that sends nothing.
    let mut talk = Talk::with(pipes.program(&["upload-pack", "--timeout=1", "served.git"]));
    talk.hear(|line| line == "0000");
    let said = talk.wait();
    assert!(said.status == 128 && said.err.contains("no byte of the request came for 1 seconds"), "{said:?}");
    let mut push = pipes.program(&["receive-pack", "served.git"]);
    push.env("ARTIFACTS_TIMEOUT", "1");
    let mut talk = Talk::with(push);
    talk.hear(|line| line == "0000");
    assert_eq!(talk.wait().status, 128);
    // A client that reads nothing.
    let mut talk = Talk::with(pipes.program(&["upload-pack", "--strict", "--timeout=1", "served.git"]));
    talk.hear(|line| line == "0000");
    talk.say(&[&format!("want {tip} side-band-64k ofs-delta"), "0000", "done"]);
    let said = talk.wait();
    assert!(said.status == 128 && said.err.contains("nobody took a byte of the answer for 1 seconds"), "{}", said.err);
}

#[test]
fn traces_are_written_in_gits_forms() {
    let (pipes, work) = Pipes::with_history();
    pipes.served().hook("update", "exit 0");
    work.commit("three");
    let at = |name: &str| pipes.scratch.path().join(name);
    let mut push = pipes.git(Way::File, 1, &work, &["push", "-q", "origin", "main"]);
    push.env("GIT_TRACE", at("general")).env("GIT_TRACE_PACKET", at("packets"));
    push.env("GIT_TRACE2_EVENT", at("events")).env("GIT_TRACE_BARE", "1");
    within_time(&mut push).succeeds();
    let read = |name: &str| std::fs::read_to_string(at(name)).unwrap();
    let has = |name: &str, part: &str| assert!(read(name).contains(part), "{part} is not in {}", read(name));
    has("general", "\ntrace: built-in: git receive-pack ");
    has("general", "\ntrace: run_command: hooks/update refs/heads/main ");
    has("packets", "packet: receive-pack> version 1\n");
    has("packets", "\npacket: receive-pack< PACK ...\n");
    has("packets", "\npacket: receive-pack> ok refs/heads/main\n");
    has("events", "\"category\":\"transfer\",\"key\":\"negotiated-version\",\"value\":\"1\"");
    has("events", "\"event\":\"child_start\"");
    pipes.served().config("uploadpack.allowFilter", "true");
    let mut fetch = pipes.git(Way::File, 2, &pipes.work("client"), &["init", "-q"]);
    within_time(&mut fetch).succeeds();
    let words = ["fetch", "-q", "--depth=2", "--filter=blob:none", "origin", "main"];
    let mut fetch = pipes.git(Way::File, 2, &pipes.work("client"), &words);
    within_time(fetch.env("GIT_TRACE2_EVENT", at("events"))).succeeds();
    has("events", "\"key\":\"fetch-info\",\"value\":{");
    for part in ["\"depth\":2", "\"filter\":\"blob:none\"", "\"haves\":0", "\"wants\":1", "\"shallows\":0"] {
        has("events", part);
    }
    // Standard error goes to the client here.
    let said = pipes.say(&["upload-pack", "served.git"], &[("GIT_TRACE_PACKET", "1")], b"0000");
    assert!(said.err.contains("packet:  upload-pack< 0000\n"), "{said:?}");
    let refused = framed(&[&format!("want {}", "1".repeat(40)), "0000"]);
    let said = pipes.say(&["upload-pack", "served.git"], &[("GIT_TRACE_PACKET", "1")], &refused);
    assert!(said.err.contains("packet:  upload-pack> ERR upload-pack: not our ref 1111"), "{said:?}");
    let odd = pipes.say(&["upload-pack", "served.git"], &[("GIT_TRACE_PACKET", "here")], b"0000");
    assert!(odd.status == 0 && odd.err.starts_with("warning: unknown trace value"), "{odd:?}");
}

#[test]
fn a_conversation_has_its_line_in_the_audit_log() {
    let (pipes, work) = Pipes::with_history();
    let log = pipes.scratch.path().join("audit");
    let environment =
        [("ARTIFACTS_AUDIT_LOG", log.to_str().unwrap()), ("SSH_CONNECTION", "192.0.2.9 50000 192.0.2.1 22")];
    let list = updates(&[(NULL, &work.tip("main"), "refs/heads/again")], PUSH);
    assert_eq!(pipes.say(&["receive-pack", "served.git"], &environment, &[list, work.pack("")].concat()).status, 0);
    pipes.say(&["upload-pack", "nothing"], &environment, b"");
    std::fs::write(pipes.served().path.join("config"), "[core").unwrap();
    pipes.say(&["upload-pack", "served.git"], &environment, b"");
    let lines = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["event"], &lines[0]["updates"][0]["verdict"]), (&"push".into(), &"ok".into()));
    let [request, refused] = [&lines[1], &lines[2]];
    assert_eq!((&request["operation"], &request["outcome"]), (&"push".into(), &"ok".into()));
    assert_eq!((&request["remote"], &request["repository"]), (&"192.0.2.9".into(), &"served.git".into()));
    assert!(request["bytes_in"].as_u64() > Some(100) && request["bytes_out"].as_u64() > Some(100), "{request}");
    assert_eq!((&refused["outcome"], &refused["operation"]), (&"refused".into(), &serde_json::Value::Null));
    assert_eq!(lines[3]["outcome"], "error", "{}", lines[3]);
}

#[test]
fn hooks_stay_in_the_foreground_of_the_terminal() {
    let (pipes, work) = Pipes::with_history();
    let said = pipes.scratch.path().join("said");
    pipes.served().hook("pre-receive", &format!("cat >/dev/null; cut -d' ' -f5 /proc/$$/stat >{}", said.display()));
    let list = updates(&[(NULL, &work.tip("main"), "refs/heads/again")], PUSH);
    assert_eq!(pipes.say(&["receive-pack", "served.git"], &[], &[list, work.pack("")].concat()).status, 0);
    let group = rustix::process::getpgrp().as_raw_nonzero().to_string();
    assert_eq!(std::fs::read_to_string(&said).unwrap().trim(), group);
}

#[test]
fn sigterm_during_a_push_leaves_the_old_state_or_the_new() {
    let (pipes, work) = Pipes::with_history();
    let flag = pipes.scratch.path().join("flag");
    pipes.served().hook("pre-receive", &format!("cat >/dev/null; touch {}; exec sleep 60", flag.display()));
    let new = work.commit("three");
    let list = updates(&[(NULL, &new, "refs/heads/new")], PUSH);
    let mut talk = Talk::with(pipes.program(&["receive-pack", "served.git"]));
    talk.hear(|line| line == "0000");
    talk.stdin.as_mut().unwrap().write_all(&[list, work.pack("main\n^main~1\n")].concat()).unwrap();
    until("the hook runs", || flag.exists());
    rustix::process::kill_process(rustix::process::Pid::from_child(&talk.child), rustix::process::Signal::TERM)
        .unwrap();
    let said = talk.end();
    assert!(!String::from_utf8_lossy(&said.out).contains("ok refs/heads/new"), "{said:?}");
    assert!(!pipes.served().refs().contains("refs/heads/new"));
    assert_eq!(pipes.served().leftovers(), Vec::<PathBuf>::new());
}

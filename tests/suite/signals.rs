//! Requests that end early: SIGTERM and SIGKILL, servers that close their ends, clients that disappear.

use crate::support::{Answer, NULL, Repo, Running, Site, framed, noise, until};
use rustix::process::Signal;
use std::path::PathBuf;
use std::time::Duration;

/// A site, and a commit to push to it.
struct Pushing {
    site: Site,
    token: String,
    new: String,
    pack: Vec<u8>,
}

impl Pushing {
    fn new(bytes: usize) -> Self {
        let site = Site::with("acme/site", |repo| {
            repo.commit("one");
        });
        let token = site.token("acme/site", "write");
        let work = site.work("fill");
        std::fs::write(work.path.join("noise"), noise(bytes, 5)).unwrap();
        let new = work.commit("two");
        let pack = work.pack("HEAD\n^HEAD~1\n");
        Pushing { site, token, new, pack }
    }

    fn request(&self) -> crate::support::Cgi {
        self.site.push("acme/site", &self.token, &[(NULL, &self.new, "refs/heads/new")], &self.pack)
    }

    /// The outcome and the reason that the audit log gives for the last request that used it.
    fn audited(&self) -> (String, String) {
        let text = std::fs::read_to_string(self.log()).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(line["event"], "request", "{text}");
        let field = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        (field("outcome"), field("error"))
    }

    fn log(&self) -> PathBuf {
        self.site.root().join("audit.log")
    }

    fn served(&self) -> Repo {
        self.site.repo("acme/site")
    }

    fn moved(&self) -> bool {
        self.served().refs().contains(&format!("{} refs/heads/new", self.new))
    }

    /// A file that a hook creates to say that it runs.
    fn flag(&self) -> PathBuf {
        self.site.root().join("hook-runs")
    }

    /// Checks that the ref is old or new, that the report is true, and that nothing is left behind.
    fn is_consistent(&self, answer: &Answer) {
        assert!(answer.stderr.lines().count() <= 1, "{}", answer.stderr);
        if answer.text().contains("ok refs/heads/new") {
            assert!(self.moved(), "what was promised stands: {answer:?}");
        }
        assert_eq!(self.served().leftovers(), Vec::<PathBuf>::new());
        self.served().fsck();
    }

    /// A request whose body has been sent and whose hook is running. The hook waits for a child process, whose id is in
    /// the flag file.
    fn in_hook(&self, hook: &str) -> Running {
        let flag = self.flag();
        let script = format!("cat >/dev/null; sleep 60 & echo $! >{0}.new; mv {0}.new {0}; wait", flag.display());
        self.served().hook(hook, &script);
        let mut running = self.request().start();
        running.feed(self.request().bytes()).unwrap();
        until("the hook", || flag.exists());
        running
    }
}

#[test]
fn sigterm_in_the_middle_of_a_pushs_body_leaves_nothing() {
    let pushing = Pushing::new(1 << 20);
    for chunked in [false, true] {
        let request = pushing.request().env("ARTIFACTS_AUDIT_LOG", pushing.log().to_str().unwrap());
        let request = if chunked { request.without_length() } else { request };
        let mut running = request.start();
        running.feed(&request.bytes()[..700_000]).unwrap();
        until("the quarantine", || !pushing.served().leftovers().is_empty());
        running.signal(Signal::TERM);
        let answer = running.end_with_stdin_open();
        assert!(!pushing.moved());
        pushing.is_consistent(&answer);
        assert_eq!(pushing.audited().0, "aborted");
    }
}

#[test]
fn sigterm_while_a_pushs_commands_are_read_is_nobodys_fault() {
    let pushing = Pushing::new(1000);
    let request = pushing.request().env("ARTIFACTS_AUDIT_LOG", pushing.log().to_str().unwrap());
    for sent in [20, 100] {
        let mut running = request.start();
        running.feed(&request.bytes()[..sent]).unwrap();
        // The program must have got so far that it only notes SIGTERM.
        let caught = || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", running.child.id())).unwrap();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
            u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << (15 - 1)) != 0
        };
        until("a push", caught);
        std::thread::sleep(Duration::from_millis(50));
        running.signal(Signal::TERM);
        let answer = running.end_with_stdin_open();
        assert_eq!((answer.status, answer.stderr.as_str(), pushing.audited().0.as_str()), (200, "", "aborted"));
        assert_eq!(answer.text(), "");
    }
}

#[test]
fn sigterm_while_pre_receive_runs_leaves_nothing_and_ends_the_hook() {
    let pushing = Pushing::new(1000);
    let running = pushing.in_hook("pre-receive");
    running.signal(Signal::TERM);
    let start = std::time::Instant::now();
    let answer = running.end();
    assert!(start.elapsed() < Duration::from_secs(20), "a hook is not waited for");
    assert!(!pushing.moved(), "{answer:?}");
    pushing.is_consistent(&answer);
    let hook = std::fs::read_to_string(pushing.flag()).unwrap();
    until("the end of the hook", || !is_running(hook.trim()));
}

#[test]
fn sigterm_while_post_receive_runs_finds_the_ref_moved() {
    let pushing = Pushing::new(1000);
    let running = pushing.in_hook("post-receive");
    assert!(pushing.moved());
    running.signal(Signal::TERM);
    let hook = std::fs::read_to_string(pushing.flag()).unwrap();
    // The program may let the hook finish; nothing else ends it here.
    std::thread::sleep(Duration::from_millis(100));
    let _ = std::process::Command::new("kill").arg(hook.trim()).status();
    let answer = running.end();
    assert!(pushing.moved());
    pushing.is_consistent(&answer);
}

/// Whether a process exists and is not a zombie.
fn is_running(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = status.rsplit(") ").next().and_then(|rest| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
}

#[test]
fn sigterm_at_any_moment_leaves_old_or_new() {
    let pushing = Pushing::new(20_000);
    for step in 0..16 {
        let mut running = pushing.request().start();
        running.feed(pushing.request().bytes()).unwrap();
        std::thread::sleep(Duration::from_micros(step * 1500));
        running.signal(Signal::TERM);
        let answer = running.end();
        assert!(answer.exit >= 0 || answer.exit == -15, "{answer:?}");
        assert_eq!(pushing.served().leftovers(), Vec::<PathBuf>::new(), "after {step} steps: {answer:?}");
        if answer.text().contains("ok refs/heads/new") {
            assert!(pushing.moved(), "{answer:?}");
        }
        if pushing.moved() {
            pushing.served().git(&["update-ref", "-d", "refs/heads/new"]);
        }
    }
    pushing.served().fsck();
}

#[test]
fn sigkill_at_any_moment_leaves_old_or_new_and_a_repository_that_works() {
    let pushing = Pushing::new(20_000);
    for step in 0..12 {
        let mut running = pushing.request().start();
        running.feed(pushing.request().bytes()).unwrap();
        std::thread::sleep(Duration::from_micros(step * 2000));
        running.signal(Signal::KILL);
        let answer = running.end();
        if answer.text().contains("ok refs/heads/new") {
            assert!(pushing.moved(), "{answer:?}");
        }
        pushing.served().fsck();
        if pushing.moved() {
            pushing.served().git(&["update-ref", "-d", "refs/heads/new"]);
        }
    }
}

#[test]
fn a_client_that_leaves_while_a_pack_is_sent_ends_the_program_cleanly() {
    let site = Site::with("acme/site", |repo| {
        std::fs::write(repo.path.join("noise"), noise(4 << 20, 9)).unwrap();
        repo.commit("one");
    });
    let token = site.token("acme/site", "read");
    let tip = site.repo("acme/site").tip("refs/heads/main");
    let v2 = framed(&["command=fetch", "0001", &format!("want {tip}"), "done", "0000"]);
    let v0 = framed(&[&format!("want {tip} side-band-64k"), "0000", "done"]);
    for (version, body) in [(2, v2), (0, v0)] {
        for ignored in [false, true] {
            let request =
                site.cgi("POST", "/acme/site.git/git-upload-pack").bearer(&token).protocol(version).body(body.clone());
            let request = if ignored { request.ignoring_sigpipe() } else { request };
            let mut running = request.start();
            running.feed(&body).unwrap();
            assert!(!running.read_once().is_empty());
            running.stdout = None;
            let answer = running.end();
            assert_eq!((answer.exit, answer.stderr.as_str()), (0, ""), "SIGPIPE ignored: {ignored}");
        }
    }
}

#[test]
fn a_client_that_does_not_wait_for_its_report_leaves_a_whole_repository() {
    let pushing = Pushing::new(1000);
    for ignored in [false, true] {
        let request = if ignored { pushing.request().ignoring_sigpipe() } else { pushing.request() };
        let mut running = request.start();
        running.stdout = None;
        running.feed(request.bytes()).unwrap();
        let answer = running.end();
        assert!(answer.exit >= 0, "{answer:?}");
        pushing.is_consistent(&answer);
        if pushing.moved() {
            pushing.served().git(&["update-ref", "-d", "refs/heads/new"]);
        }
    }
}

#[test]
fn a_client_that_vanishes_in_the_middle_of_a_push_leaves_nothing() {
    let pushing = Pushing::new(300_000);
    let size = pushing.request().bytes().len();
    for chunked in [false, true] {
        for sent in [3, 60, 150, 250, 5000, size / 2, size - 21, size - 1] {
            let request = pushing.request().env("ARTIFACTS_AUDIT_LOG", pushing.log().to_str().unwrap());
            let request = if chunked { request.without_length() } else { request };
            let mut running = request.start();
            running.feed(&request.bytes()[..sent]).unwrap();
            let answer = running.end();
            assert!(answer.exit >= 0 && !answer.text().contains("ok refs/heads/new"), "{sent}: {answer:?}");
            assert!(!pushing.moved(), "{sent}");
            pushing.is_consistent(&answer);
            // Without a length, only the pack itself tells that something is missing.
            let (outcome, error) = pushing.audited();
            let missing = format!("the request ended {} bytes before its Content-Length", size - sent);
            assert!(chunked || (outcome == "aborted" && error == missing), "{sent}: {outcome} {error}");
        }
    }
}

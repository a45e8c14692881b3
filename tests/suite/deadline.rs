//! Requests that must end within a time limit, whatever is slow.

use crate::support::{Answer, Cgi, NULL, PROGRAM, PUSH, Site, band, ended, framed, noise, updates};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const UPLOAD: &str = "/acme/site.git/git-upload-pack";
const RECEIVE: &str = "/acme/site.git/git-receive-pack";
const TOLD: &str = "the request took longer than 1 seconds (ARTIFACTS_TIMEOUT)";

/// Far more than the time limit and some last words, and far less than the silence allowed without a limit.
const SOON: Duration = Duration::from_secs(25);

/// A repository with a pack of one object that is too large for any pipe.
fn site() -> Site {
    let site = Site::with("acme/site", |repo| {
        std::fs::write(repo.path.join("noise"), noise(24 << 20, 7)).unwrap();
        repo.commit("one");
    });
    site.repo("acme/site").git(&["repack", "-adq"]);
    site
}

fn limited(site: &Site, path: &str, body: Vec<u8>) -> Cgi {
    let token = site.token("acme/site", "write");
    site.cgi("POST", path).bearer(&token).protocol(2).body(body).env("ARTIFACTS_TIMEOUT", "1")
}

fn clone(site: &Site) -> Cgi {
    let tip = site.repo("acme/site").tip("refs/heads/main");
    limited(site, UPLOAD, framed(&["command=fetch", "0001", &format!("want {tip}"), "done", "0000"]))
}

/// Sends all but the end of the body, then nothing, or a byte every 50 ms.
fn stalled(request: &Cgi, missing: usize, trickles: bool) -> Answer {
    let bytes = request.bytes();
    let mut running = request.start();
    running.feed(&bytes[..bytes.len() - missing]).unwrap();
    let start = Instant::now();
    if trickles {
        // Until the program stops reading.
        for byte in &bytes[bytes.len() - missing..] {
            if running.feed(&[*byte]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let answer = running.end_with_stdin_open();
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    answer
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for_behind_the_deadline() {
    let site = site();
    for trickles in [false, true] {
        let lines = framed(&["command=ls-refs", "0001", &format!("ref-prefix {}", "x".repeat(2000)), "0000"]);
        let answer = stalled(&limited(&site, UPLOAD, lines), 1500, trickles);
        assert_eq!(answer.packets(), [format!("ERR {TOLD}")], "{answer:?}");

        let list = updates(&[(NULL, &"1".repeat(40), &format!("refs/heads/{}", "x".repeat(2000)))], PUSH);
        let answer = stalled(&limited(&site, RECEIVE, list), 1900, trickles);
        assert_eq!((answer.status, answer.text().contains(TOLD)), (400, true), "{answer:?}");

        let work = site.work("fill");
        let body = [updates(&[(NULL, &work.tip("HEAD"), "refs/heads/new")], PUSH), work.pack("HEAD")].concat();
        let answer = stalled(&limited(&site, RECEIVE, body), 2000, trickles);
        assert_eq!(
            String::from_utf8_lossy(&band(&answer.body, 2)),
            format!(
                "fatal: {TOLD}
"
            )
        );
        assert!(answer.report().contains(&"ng refs/heads/new unpacker error".to_owned()), "{answer:?}");
        assert!(site.repo("acme/site").leftovers().is_empty());
    }
    assert!(!site.repo("acme/site").refs().contains("refs/heads/new"));
}

#[test]
fn who_shows_no_token_is_answered_though_the_body_does_not_come() {
    let site = site();
    let request = site.cgi("POST", RECEIVE).body(vec![b'x'; 2000]);
    std::thread::scope(|scope| {
        let trickling = scope.spawn(|| stalled(&request, 1500, true));
        assert_eq!(stalled(&request, 1500, false).status, 401);
        assert_eq!(trickling.join().unwrap().status, 401);
    });
}

#[test]
fn what_follows_a_refusal_is_not_waited_for_behind_the_deadline() {
    let site = site();
    let request = limited(&site, UPLOAD, [framed(&["command=none", "0000"]), vec![b'x'; 2000]].concat());
    let answer = stalled(&request, 1500, false);
    assert!(answer.packets()[0].starts_with("ERR "), "{answer:?}");
}

#[test]
fn a_client_that_takes_nothing_is_left_at_the_deadline() {
    let site = site();
    let log = site.root().join("audit");
    let request = clone(&site).env("ARTIFACTS_AUDIT_LOG", log.to_str().unwrap());
    let start = Instant::now();
    let mut running = request.start();
    running.feed(request.bytes()).unwrap();
    ended(&mut running.child);
    // Through a socket, which is written to in another way.
    let (ours, theirs) = UnixStream::pair().unwrap();
    let token = site.token("acme/site", "read");
    let mut child = Command::new(PROGRAM)
        .env_clear()
        .envs([("GATEWAY_INTERFACE", "CGI/1.1"), ("REQUEST_METHOD", "POST"), ("PATH_INFO", UPLOAD)])
        .envs([("CONTENT_TYPE", "application/x-git-upload-pack-request"), ("HTTP_GIT_PROTOCOL", "version=2")])
        .envs([("ARTIFACTS_TIMEOUT", "1"), ("GIT_CONFIG_NOSYSTEM", "1")])
        .env("CONTENT_LENGTH", request.bytes().len().to_string())
        .env("GIT_PROJECT_ROOT", site.root())
        .env("HTTP_AUTHORIZATION", format!("Bearer {token}"))
        .env("ARTIFACTS_AUDIT_LOG", &log)
        .stdin(Stdio::piped())
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(request.bytes()).unwrap();
    ended(&mut child);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    drop((ours, running));
    let lines = std::fs::read_to_string(&log).unwrap();
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(lines.lines().all(|line| line.contains(TOLD)), "{lines}");
}

#[test]
fn a_client_that_is_slow_to_take_its_pack_is_told() {
    let site = site();
    let request = clone(&site);
    for stored in [true, false] {
        if !stored {
            // Deflated again, one piece after the other.
            site.repo("acme/site").config("core.looseCompression", "0");
            let pack = std::fs::read_dir(site.repo("acme/site").path.join("objects/pack")).unwrap();
            let pack = pack.flatten().find(|entry| entry.path().extension().is_some_and(|end| end == "pack")).unwrap();
            let aside = site.work("aside").path.join("pack");
            std::fs::rename(pack.path(), &aside).unwrap();
            let _ = std::fs::remove_file(pack.path().with_extension("idx"));
            let mut unpack = crate::support::git_command(&site.repo("acme/site").path);
            let unpack = unpack.args(["unpack-objects", "-q"]).stdin(std::fs::File::open(&aside).unwrap()).status();
            assert!(unpack.unwrap().success());
        }
        let mut running = request.start();
        running.feed(request.bytes()).unwrap();
        let (mut stdout, mut answer) = (running.stdout.take().unwrap(), Vec::new());
        let start = Instant::now();
        let mut block = vec![0; 128 << 10];
        loop {
            let read = stdout.read(&mut block).unwrap();
            if read == 0 {
                break;
            }
            answer.extend_from_slice(&block[..read]);
            if start.elapsed() < Duration::from_millis(1500) {
                std::thread::sleep(Duration::from_millis(30));
            }
        }
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        let body = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let body = answer[body..].strip_prefix(b"000dpackfile\n").unwrap();
        assert!(band(body, 1).len() < 20 << 20, "{stored}: all of it was sent");
        assert_eq!(String::from_utf8_lossy(&band(body, 3)).trim_end(), TOLD, "{stored}");
        running.end();
    }
}

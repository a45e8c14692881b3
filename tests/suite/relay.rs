//! Servers that pass on the whole request before they read one byte of the answer (fcgiwrap, mod_cgi, mod_cgid, uWSGI):
//! a program that writes more than a pipe holds before it has read everything would deadlock with them.

use crate::support::{Cgi, NULL, PUSH, Site, framed, noise, until, updates};
use std::time::Duration;

const UPLOAD: &str = "/acme/site.git/git-upload-pack";

fn site() -> Site {
    Site::with("acme/site", |repo| {
        repo.commit("one");
        repo.commit("two");
    })
}

/// A large commit that is not on the server, and its pack.
fn large_push(site: &Site) -> (String, Vec<u8>) {
    let work = site.work("fill");
    std::fs::write(work.path.join("noise"), noise(3 << 20, 1)).unwrap();
    let new = work.commit("noise");
    let pack = work.pack("HEAD\n^HEAD~1\n");
    assert!(pack.len() > 3 << 20);
    (new, pack)
}

#[test]
fn a_fetch_with_megabytes_of_haves_is_answered_behind_a_relay() {
    let site = site();
    let token = site.token("acme/site", "read");
    let (tip, old) = (site.work("fill").tip("HEAD"), site.work("fill").tip("HEAD~1"));
    let known = format!("have {old}");
    let unknown: Vec<String> = (1..40_000).map(|number| format!("have {number:040x}")).collect();
    let haves = unknown.iter().map(String::as_str).chain([known.as_str()]);

    let head = ["command=fetch".to_owned(), "0001".to_owned(), "ofs-delta".to_owned(), format!("want {tip}")];
    let lines: Vec<&str> = head.iter().map(String::as_str).chain(haves.clone()).chain(["0000"]).collect();
    let request = site.cgi("POST", UPLOAD).bearer(&token).protocol(2).body(framed(&lines));
    assert!(request.bytes().len() > 1 << 20);
    let answer = request.run_as_relay();
    assert_eq!(answer.status, 200, "{}", answer.stderr);
    let said = answer.text();
    assert!(said.contains(&format!("ACK {old}\n")) && said.contains("ready\n"), "{said}");

    // Version 0 acknowledges each common commit, and here there are many.
    let want = format!("want {tip} multi_ack_detailed side-band-64k ofs-delta no-progress");
    let haves: Vec<&str> = std::iter::once(want.as_str()).chain(["0000"]).chain([known.as_str(); 10_000]).collect();
    let lines: Vec<&str> = haves.into_iter().chain(["done"]).collect();
    let answer = site.cgi("POST", UPLOAD).bearer(&token).body(framed(&lines)).run_as_relay();
    assert_eq!((answer.status, answer.exit), (200, 0), "{}", answer.stderr);
    assert!(answer.text().contains(&format!("ACK {old} common\n")), "{:.200}", answer.text());
    assert!(answer.body.windows(4).any(|four| four == b"PACK"));
}

#[test]
fn a_large_push_with_talking_hooks_is_answered_behind_a_relay() {
    let site = site();
    let token = site.token("acme/site", "write");
    let (new, pack) = large_push(&site);
    let old = site.repo("acme/site").tip("refs/heads/main");
    let talks = "i=0; while [ $i -lt 3000 ]; do echo \"said on stdout, again and again and again: $i\"; echo \"and on stderr\" >&2; i=$((i+1)); done; cat";
    for hook in ["pre-receive", "post-receive"] {
        site.repo("acme/site").hook(hook, talks);
    }
    let answer = site.push("acme/site", &token, &[(&old, &new, "refs/heads/main")], &pack).run_as_relay();
    assert_eq!(answer.report(), ["unpack ok", "ok refs/heads/main"]);
    assert!(answer.text().contains("again: 2999"));
    assert_eq!(answer.stderr, "");
    assert_eq!(site.repo("acme/site").tip("refs/heads/main"), new);
    site.repo("acme/site").fsck();
}

#[test]
fn a_push_that_fails_at_its_first_byte_is_read_behind_a_relay() {
    let site = site();
    let token = site.token("acme/site", "write");
    let new = "1".repeat(40);
    let garbage = noise(5 << 20, 7);
    let answer = site.push("acme/site", &token, &[(NULL, &new, "refs/heads/new")], &garbage).run_as_relay();
    assert!(answer.report()[0].starts_with("unpack ") && answer.report()[0] != "unpack ok", "{:?}", answer.report());
    assert!(site.repo("acme/site").leftovers().is_empty());
    site.repo("acme/site").config("receive.maxInputSize", "1m");
    let (new, pack) = large_push(&site);
    let answer = site.push("acme/site", &token, &[(NULL, &new, "refs/heads/new")], &pack).run_as_relay();
    assert!(answer.text().contains("exceeds maximum allowed size"), "{}", answer.text());
    assert_eq!(answer.report()[1], "ng refs/heads/new unpacker error");
    assert!(site.repo("acme/site").leftovers().is_empty());
}

#[test]
fn nothing_is_said_before_the_last_byte_of_the_request() {
    let site = site();
    let (read, write) = (site.token("acme/site", "read"), site.token("acme/site", "write"));
    let tip = site.work("fill").tip("HEAD");
    let (new, pack) = large_push(&site);
    let post = |token: &str, version, lines: &[&str]| -> Cgi {
        site.cgi("POST", UPLOAD).bearer(token).protocol(version).body(framed(lines))
    };
    let want = format!("want {tip}");
    let sideband = format!("want {tip} side-band-64k");
    let body = updates(&[(NULL, &new, "refs/heads/new")], PUSH);
    let refused = site.cgi("POST", "/acme/site.git/git-receive-pack").bearer(&read).body(body);
    let deletion = [(tip.as_str(), NULL, "refs/heads/none")];
    for (what, request) in [
        ("ls-refs", post(&read, 2, &["command=ls-refs", "0001", "0000"])),
        ("fetch in version 2", post(&read, 2, &["command=fetch", "0001", &want, "done", "0000"])),
        ("fetch in version 0", post(&read, 0, &[&sideband, "0000", "done"])),
        ("a fetch of nothing that is here", post(&read, 0, &[&"want 1".repeat(40), "0000", "done"])),
        ("another command", post(&read, 2, &["command=dance", "0000"])),
        ("no packet at all", post(&read, 2, &["command=fetch"]).body("zzzz and more")),
        ("a push", site.push("acme/site", &write, &[(NULL, &new, "refs/heads/new")], &pack)),
        ("a push of garbage", site.push("acme/site", &write, &[(NULL, &new, "refs/heads/new2")], &noise(9000, 3))),
        ("a deletion", site.push("acme/site", &write, &deletion, b"")),
        ("a push that is refused", refused),
    ] {
        for chunked in [false, true] {
            let request = if chunked { request.without_length() } else { request.clone() };
            let (last, first) = request.bytes().split_last().unwrap();
            let mut running = request.start();
            running.feed(first).unwrap();
            assert!(running.is_silent(Duration::from_millis(40)), "{what}, chunked: {chunked}");
            running.feed(&[*last]).unwrap();
            if chunked {
                assert!(running.is_silent(Duration::from_millis(20)), "{what}: more may follow");
            }
            let answer = running.end();
            assert!(answer.exit >= 0 && answer.status > 0, "{what}: {answer:?}");
        }
    }
}

#[test]
fn traces_wait_for_the_end_of_the_body_unless_they_go_to_a_file() {
    let site = site();
    let token = site.token("acme/site", "read");
    let tip = site.work("fill").tip("HEAD");
    let (aside, file) = (site.root().join("stderr"), site.root().join("events"));
    let body = framed(&["command=ls-refs", "0001", "peel", "0000"]);
    let request = site.cgi("POST", UPLOAD).bearer(&token).protocol(2).body(body.clone());
    let request = request.env("GIT_TRACE_PACKET", "1").env("GIT_TRACE2_EVENT", file.to_str().unwrap());
    let mut running = request.opening(&format!("exec 2>{}", aside.display())).start();
    running.feed(&body[..body.len() - 4]).unwrap();
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    until("a line in the file", || read(&file).contains("negotiated-version"));
    assert!(running.is_silent(Duration::from_millis(100)));
    assert_eq!(read(&aside), "");
    running.feed(&body[body.len() - 4..]).unwrap();
    let answer = running.end();
    assert!(answer.status == 200 && answer.text().contains(&format!("{tip} refs/heads/main")), "{answer:?}");
    for line in ["packet:  upload-pack< command=ls-refs", &format!("packet:  upload-pack> {tip} refs/heads/main")] {
        assert!(read(&aside).contains(line), "{}", read(&aside));
    }
    assert!(!read(&aside).contains("art_v1") && !read(&file).contains("art_v1"));
}

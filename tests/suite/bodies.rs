//! Request bodies as web servers pass them on, and what may be written meanwhile.

use crate::support::{Answer, Cgi, NULL, PUSH, Site, framed, noise, updates};
use std::io::Write;
use std::time::Duration;

const UPLOAD: &str = "/acme/site.git/git-upload-pack";
const RECEIVE: &str = "/acme/site.git/git-receive-pack";

fn site() -> Site {
    Site::with("acme/site", |repo| {
        repo.commit("one");
    })
}

fn ls_refs() -> Vec<u8> {
    framed(&["command=ls-refs", "0001", "peel", "0000"])
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A v2 request with a valid token.
fn v2(site: &Site) -> Cgi {
    site.cgi("POST", UPLOAD).bearer(&site.token("acme/site", "read")).protocol(2)
}

fn lists_refs(answer: &Answer, what: &str) {
    assert_eq!((answer.status, answer.exit), (200, 0), "{what}: {answer:?}");
    let packets = answer.packets();
    assert!(packets.iter().any(|line| line.ends_with(" refs/heads/main")), "{what}: {packets:?}");
    assert_eq!(answer.stderr, "", "{what}");
}

/// Checks for status 200 and an ERR line, whose text git shows to its user.
fn tells(answer: &Answer, text: &str) {
    assert_eq!(answer.status, 200, "{answer:?}");
    let last = answer.packets().pop().unwrap_or_default();
    assert!(last.starts_with("ERR ") && last.contains(text), "{text:?} is not in {last:?}");
    assert_eq!(answer.stderr.lines().count(), 1, "{}", answer.stderr);
}

/// Requests that are refused before their bodies are needed, with their statuses.
fn refused(site: &Site) -> Vec<(&'static str, u16, Cgi)> {
    let read = site.token("acme/site", "read");
    let garbage = |size| vec![b'x'; size];
    let to = |path| site.cgi("POST", path);
    vec![
        ("no token", 401, to(RECEIVE).body(garbage(40_000))),
        ("a read token that pushes", 403, to(RECEIVE).bearer(&read).body(garbage(40_000))),
        ("one byte", 403, to(RECEIVE).bearer(&read).body(garbage(1))),
        ("another repository", 403, to("/acme/other.git/git-upload-pack").bearer(&read).body(garbage(40_000))),
        ("no route", 404, to("/acme/site.git/refs").body(garbage(40_000))),
        ("another type", 415, to(UPLOAD).bearer(&read).body(garbage(40_000)).env("CONTENT_TYPE", "text/plain")),
        ("a POST where a GET belongs", 405, to("/acme/site.git/info/refs").bearer(&read).body(garbage(40_000))),
        ("a length that is none", 400, to(UPLOAD).bearer(&read).body(garbage(100)).env("CONTENT_LENGTH", "many")),
    ]
}

#[test]
fn a_refusal_reaches_the_client_over_pipes_and_over_a_socket() {
    let site = site();
    for (what, status, request) in refused(&site) {
        let answer = request.run();
        assert_eq!((answer.status, answer.exit), (status, 0), "{what}: {answer:?}");
        assert!(!answer.body.is_empty() && answer.text().is_ascii(), "{what}");
        assert_eq!(answer.stderr.lines().count(), 1, "{what}: {}", answer.stderr);
        if request.says("CONTENT_LENGTH", "many") {
            // The body is read to its end, and a socket that stays open has none.
            continue;
        }
        let over_a_socket = request.run_over_a_socket().unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(over_a_socket.status, status, "{what}");
        assert_eq!(over_a_socket.text().len(), answer.text().len(), "{what}: all of the text");
    }
}

#[test]
fn every_answer_survives_a_socket() {
    let site = site();
    lists_refs(&v2(&site).body(ls_refs()).run_over_a_socket().unwrap(), "ls-refs");
    tells(&v2(&site).body(b"zzzz and something behind it".repeat(1000)).run_over_a_socket().unwrap(), "line length");
    tells(
        &v2(&site).body([framed(&["command=none", "0000"]), vec![b'x'; 50_000]].concat()).run_over_a_socket().unwrap(),
        "none",
    );
}

#[test]
fn a_refusal_waits_for_a_writer_that_ends_late() {
    let site = site();
    let mut running = site.cgi("POST", RECEIVE).body(vec![b'x'; 1000]).start();
    running.feed(&[b'x'; 999]).unwrap();
    assert!(running.is_silent(Duration::from_millis(150)), "nothing may be said before the body is complete");
    running.feed(b"x").unwrap();
    assert_eq!(running.end_with_stdin_open().status, 401);
}

#[test]
fn twenty_megabytes_behind_an_early_error_are_read() {
    let site = site();
    for length in [true, false] {
        let request = site.cgi("POST", RECEIVE).body(vec![b'x'; 20 << 20]).megabytes(64);
        let request = if length { request } else { request.without("CONTENT_LENGTH") };
        let mut running = request.start();
        let block = vec![b'x'; 1 << 20];
        for _ in 0..20 {
            running.feed(&block).expect("all of the body is taken");
        }
        let answer = running.end();
        assert_eq!((answer.status, answer.exit), (401, 0), "{answer:?}");
    }
}

#[test]
fn a_length_that_says_nothing_means_to_the_end() {
    let site = site();
    let request = v2(&site).body(ls_refs());
    lists_refs(&request.run(), "as it is");
    let request = request.env("CONTENT_LENGTH", "");
    lists_refs(&request.run(), "empty");
    let request = request.env("CONTENT_LENGTH", "-1");
    lists_refs(&request.run(), "-1, as of a chunked body");
    let request = request.without("CONTENT_LENGTH");
    lists_refs(&request.run(), "none");
    let request = request.env("HTTP_TRANSFER_ENCODING", "chunked").env("CONTENT_LENGTH", &ls_refs().len().to_string());
    lists_refs(&request.run(), "a header that says chunked beside a length");
}

/// An ls-refs request of exactly 1,024 bytes.
fn kilobyte() -> Vec<u8> {
    let lines = |padding| framed(&["command=ls-refs", "0001", "ref-prefix refs/heads/main", padding, "0000"]);
    let missing = 1024 - lines("ref-prefix ").len();
    let body = lines(&format!("ref-prefix {}", "x".repeat(missing)));
    assert_eq!(body.len(), 1024);
    body
}

#[test]
fn a_length_may_have_a_unit() {
    lists_refs(&v2(&site()).body(kilobyte()).env("CONTENT_LENGTH", "1k").run(), "1k");
}

#[test]
fn a_length_is_decimal() {
    lists_refs(&v2(&site()).body(kilobyte()).env("CONTENT_LENGTH", "01024").run(), "not octal");
}

#[test]
fn a_length_that_is_no_number_is_refused() {
    let site = site();
    for length in ["x", "12x", "1 2", "0x10", "99999999999999999999", "9223372036854775808"] {
        let answer = v2(&site).body(ls_refs()).env("CONTENT_LENGTH", length).run();
        assert_eq!((answer.status, answer.exit), (400, 0), "{length}: {answer:?}");
        assert!(answer.text().contains("Content-Length"), "{length}: {}", answer.text());
        assert!(answer.stderr.contains("CONTENT_LENGTH"), "{length}: {}", answer.stderr);
    }
}

#[test]
fn a_body_shorter_than_its_length_is_told_not_waited_for() {
    let site = site();
    let token = site.token("acme/site", "write");
    let body = ls_refs();
    let length = (body.len() + 5).to_string();
    tells(&v2(&site).body(body).env("CONTENT_LENGTH", &length).run(), "5 bytes before its Content-Length");

    let new = site.work("fill").tip("HEAD");
    let pack = site.work("fill").pack("HEAD");
    let body = [updates(&[(NULL, &new, "refs/heads/new")], PUSH), pack].concat();
    let length = (body.len() + 1_000_000).to_string();
    let answer = site.cgi("POST", RECEIVE).bearer(&token).body(body).env("CONTENT_LENGTH", &length).run();
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("ng refs/heads/new"), "{}", answer.text());
    assert!(!site.repo("acme/site").refs().contains("refs/heads/new"), "no ref is moved by commands alone");
    assert!(site.repo("acme/site").leftovers().is_empty());
}

#[test]
fn a_length_too_small_cuts_the_body() {
    let site = site();
    let body = ls_refs();
    let mut running = v2(&site).body(body.clone()).env("CONTENT_LENGTH", &(body.len() - 6).to_string()).start();
    running.feed(&body).unwrap();
    tells(&running.end_with_stdin_open(), "");
    let answer = v2(&site).body(body).env("CONTENT_LENGTH", "0").run();
    assert!(answer.status == 200 || answer.status == 400, "{answer:?}");
    assert!(!answer.text().contains("refs/heads/main"));
}

#[test]
fn a_server_that_keeps_stdin_open_is_not_waited_for() {
    let site = site();
    let request = v2(&site).body(ls_refs());
    let mut running = request.start();
    running.feed(&ls_refs()).unwrap();
    lists_refs(&running.end_with_stdin_open(), "behind the length nothing is read");
    let advertisement = site.cgi("GET", "/acme/site.git/info/refs?service=git-upload-pack");
    let answer = advertisement.start().end_with_stdin_open();
    assert_eq!(answer.status, 401, "the input of a GET is never read");
    let answer = advertisement.bearer(&site.token("acme/site", "read")).start().end_with_stdin_open();
    assert_eq!(answer.status, 200);
    let answer = site.cgi("DELETE", UPLOAD).start().end_with_stdin_open();
    assert_eq!(answer.status, 405);
}

#[test]
fn gzip_is_known_by_its_header_and_by_its_first_bytes() {
    let site = site();
    let request = v2(&site).body(gzip(&ls_refs()));
    lists_refs(&request.run(), "by its first bytes");
    for name in ["gzip", "x-gzip"] {
        lists_refs(&v2(&site).body(gzip(&ls_refs())).env("HTTP_CONTENT_ENCODING", name).run(), name);
    }
    lists_refs(&v2(&site).chunked(gzip(&ls_refs())).run(), "without a length");
    lists_refs(&v2(&site).body(ls_refs()).env("HTTP_CONTENT_ENCODING", "identity").run(), "no encoding at all");
    let behind = [gzip(&ls_refs()), b"rubbish".to_vec()].concat();
    lists_refs(&v2(&site).body(behind).run(), "what follows is ignored");
}

#[test]
fn a_cut_or_broken_gzip_body_is_told() {
    let site = site();
    let bytes = gzip(&ls_refs());
    for cut in [2, 9, 12, bytes.len() - 9, bytes.len() - 1] {
        tells(&v2(&site).body(&bytes[..cut]).run(), "request ended in the middle of the gzip stream");
    }
    tells(&v2(&site).body(ls_refs()).env("HTTP_CONTENT_ENCODING", "gzip").run(), "zlib error inflating request");
    let mut broken = bytes;
    broken[12] ^= 0x55;
    broken[14] ^= 0x55;
    tells(&v2(&site).body(broken).run(), "");
}

/// A gzip body that inflates to more than the 128 MiB a request may have, made of one block repeated.
fn bomb(head: &[u8], block: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(head).unwrap();
    let times = (129 << 20) / block.len() + 1;
    for _ in 0..times {
        encoder.write_all(block).unwrap();
    }
    encoder.finish().unwrap()
}

#[test]
fn a_gzip_bomb_is_refused_within_bounded_memory() {
    let site = site();
    let long = bomb(
        &framed(&["command=ls-refs", "0001"]),
        &framed(&[&format!("ref-prefix {}", "x".repeat(65_000))]).repeat(15),
    );
    assert!(long.len() < 160_000, "a thousandfold: {}", long.len());
    tells(&v2(&site).body(long).megabytes(192).run(), "request inflates to more than our maximum size (134217728)");

    let have = framed(&[&format!("have {NULL}")]).repeat(20_000);
    let many = bomb(&framed(&["command=fetch", "0001", &format!("want {NULL}")]), &have);
    tells(&v2(&site).body(many.clone()).megabytes(192).run(), "2000000");
    let token = site.token("acme/site", "write");
    let answer = site.cgi("POST", RECEIVE).bearer(&token).body(many).megabytes(192).run();
    assert_eq!((answer.status, answer.exit), (400, 0), "{answer:?}");
    assert!(answer.text().contains("protocol error"), "{}", answer.text());
}

#[test]
fn the_largest_request_is_the_operators_to_set() {
    let site = site();
    let prefix = format!("ref-prefix refs/heads/{}", "x".repeat(900));
    let lines: Vec<&str> =
        ["command=ls-refs", "0001"].into_iter().chain([prefix.as_str(); 10]).chain(["0000"]).collect();
    let body = framed(&lines);
    assert!(body.len() > 8192 && body.len() < 10_000);
    let request = v2(&site).body(body).env("GIT_HTTP_MAX_REQUEST_BUFFER", "16k");
    assert_eq!(request.run().packets(), ["0000"]);
    let request = request.env("GIT_HTTP_MAX_REQUEST_BUFFER", "1k");
    tells(&request.run(), "larger than our maximum size (8192); try setting GIT_HTTP_MAX_REQUEST_BUFFER");
    let request = request.without("GIT_HTTP_MAX_REQUEST_BUFFER");
    assert_eq!(request.run().packets(), ["0000"]);
    site.repo("acme/site").config("http.maxRequestBuffer", "9000");
    tells(&request.run(), "larger than our maximum size (9000)");
    let request = request.env("GIT_HTTP_MAX_REQUEST_BUFFER", "16k");
    assert_eq!(request.run().packets(), ["0000"], "the operator's word counts more");
    assert_eq!(request.env("GIT_HTTP_MAX_REQUEST_BUFFER", "much").run().status, 500);
}

#[test]
fn a_probe_before_a_large_request_is_answered_with_nothing() {
    let site = site();
    let (read, write) = (site.token("acme/site", "read"), site.token("acme/site", "write"));
    // Neither refs nor objects are read.
    std::fs::write(site.repo("acme/site").path.join("packed-refs"), "garbage\n").unwrap();
    std::fs::write(site.repo("acme/site").path.join("objects/info/alternates"), "/nowhere\n").unwrap();
    for (path, token) in [(UPLOAD, &read), (RECEIVE, &write)] {
        for version in [0, 2] {
            let answer = site.cgi("POST", path).bearer(token).protocol(version).body("0000").run();
            assert_eq!((answer.status, answer.exit), (200, 0), "{path} {version}: {answer:?}");
            assert_eq!((answer.text().as_str(), answer.stderr.as_str()), ("", ""), "{path} {version}");
            let media = answer.header("Content-Type").unwrap();
            assert!(media.starts_with("application/x-git-") && media.ends_with("-pack-result"), "{media}");
        }
        assert_eq!(site.cgi("POST", path).body("0000").run().status, 401);
    }
}

#[test]
fn an_empty_body_is_told_not_a_crash() {
    let site = site();
    let token = site.token("acme/site", "write");
    for (path, version) in [(UPLOAD, 0), (UPLOAD, 2), (RECEIVE, 0)] {
        for request in [site.cgi("POST", path).body(""), site.cgi("POST", path).chunked("")] {
            let answer = request.bearer(&token).protocol(version).run();
            assert!([200, 400].contains(&answer.status) && answer.exit <= 1 && answer.exit >= 0, "{path}: {answer:?}");
            assert!(answer.stderr.lines().count() <= 1 && !answer.stderr.contains("panic"), "{}", answer.stderr);
        }
    }
}

#[test]
fn head_gets_the_headers_of_get_and_nothing_else() {
    let site = site();
    site.repo("acme/site").config("http.getanyfile", "true");
    let token = site.token("acme/site", "read");
    for path in ["info/refs?service=git-upload-pack", "info/refs", "HEAD", "objects/info/packs", "nothing"] {
        let path = format!("/acme/site.git/{path}");
        let get = site.cgi("GET", &path).bearer(&token).run();
        let head = site.cgi("HEAD", &path).bearer(&token).run();
        assert_eq!((head.status, head.text().as_str()), (get.status, ""), "{path}");
        assert!(!get.text().is_empty(), "{path}");
        for (name, value) in &get.headers {
            if name != "Content-Length" {
                assert_eq!(head.header(name), Some(value.as_str()), "{path}");
            }
        }
    }
}

/// Checks that the head comes first and in one piece.
fn check_head(request: &Cgi, body: &[u8], status: u16) -> String {
    let mut running = request.start();
    running.feed(body).unwrap();
    let first = running.read_once();
    let end = first.windows(4).position(|four| four == b"\r\n\r\n").expect("the first read holds the whole head");
    let head = String::from_utf8(first[..end + 2].to_vec()).unwrap();
    running.end();
    assert!(head.len() < 3500, "{}", head.len());
    let lines = head.matches('\n').count();
    assert_eq!(head.matches("\r\n").count(), lines, "{head:?}");
    assert_eq!(head.starts_with("Status: "), status != 200, "{head:?}");
    assert!(status == 200 || head.starts_with(&format!("Status: {status} ")), "{head:?}");
    assert!(head.contains("\r\nContent-Type: "), "{head:?}");
    assert!(!head.contains("Transfer-Encoding") && !head.starts_with("HTTP/"), "{head:?}");
    for line in [
        "Expires: Fri, 01 Jan 1980 00:00:00 GMT",
        "Pragma: no-cache",
        "Cache-Control: no-cache, max-age=0, must-revalidate",
    ] {
        assert!(head.contains(&format!("{line}\r\n")), "{head:?}");
    }
    head
}

#[test]
fn the_head_is_one_write_with_the_status_first() {
    let site = site();
    let token = site.token("acme/site", "read");
    let advertise = "/acme/site.git/info/refs?service=git-upload-pack";
    check_head(&site.cgi("GET", advertise), b"", 401);
    let head = check_head(&site.cgi("GET", advertise).bearer(&token), b"", 200);
    assert!(head.contains("Content-Type: application/x-git-upload-pack-advertisement\r\n"), "{head}");
    check_head(&site.cgi("GET", "/"), b"", 404);
    check_head(&site.cgi("POST", "/acme/site.git/info/refs").bearer(&token).body(""), b"", 405);
    // Messages repeat parts of the request, so they are cut.
    let long = format!("text/{}", "x".repeat(60_000));
    let head = check_head(&v2(&site).body(ls_refs()).env("CONTENT_TYPE", &long), &ls_refs(), 415);
    assert!(head.contains("Content-Type: text/plain\r\n"), "{head}");
}

#[test]
fn a_pack_streams_through_servers_that_would_buffer_it() {
    let site = site();
    let tip = site.repo("acme/site").tip("refs/heads/main");
    let fetch = framed(&["command=fetch", "0001", &format!("want {tip}"), "done", "0000"]);
    let head = check_head(&v2(&site).body(fetch.clone()), &fetch, 200);
    assert!(head.contains("X-Accel-Buffering: no\r\n") && !head.contains("Content-Length"), "{head}");
    let refused = site.cgi("POST", UPLOAD).body("");
    let head = check_head(&refused.clone().env("SERVER_SOFTWARE", "Apache/2.4"), b"", 401);
    assert!(head.contains("Content-Length: "), "what has a known size says so: {head}");
    // nginx would then not read the operator's line from stderr.
    for refused in [refused.clone(), refused.env("SERVER_SOFTWARE", "nginx/1.22")] {
        assert!(!check_head(&refused, b"", 401).contains("Content-Length"));
    }
}

#[test]
fn nothing_is_said_on_stderr_when_all_went_well() {
    let site = site();
    let token = site.token("acme/site", "write");
    let tip = site.repo("acme/site").tip("refs/heads/main");
    for request in [
        site.cgi("GET", "/acme/site.git/info/refs?service=git-upload-pack").bearer(&token),
        site.cgi("GET", "/acme/site.git/info/refs?service=git-receive-pack").bearer(&token),
        v2(&site).body(framed(&["command=fetch", "0001", &format!("want {tip}"), "done", "0000"])),
        site.cgi("POST", RECEIVE).bearer(&token).body(updates(&[(&tip, NULL, "refs/heads/gone")], PUSH)),
    ] {
        let answer = request.run();
        assert_eq!((answer.status, answer.stderr.as_str(), answer.exit), (200, "", 0));
    }
}

#[test]
fn the_operator_hears_it_before_the_client_and_in_one_piece() {
    let site = site();
    let request = site.cgi("GET", "/acme/site.git/info/refs?service=git-receive-pack").opening("exec 2>&1");
    let answer = String::from_utf8(request.spawn().wait_with_output().unwrap().stdout).unwrap();
    let (line, rest) = answer.split_once('\n').unwrap();
    assert!(line.starts_with("fatal: ") && line.ends_with(')'), "{answer}");
    assert!(rest.starts_with("Status: 401"), "{answer}");
}

#[test]
fn the_operator_hears_of_a_push_that_failed_here() {
    let site = site();
    let token = site.token("acme/site", "write");
    let log = site.root().join("audit.log");
    let tip = site.repo("acme/site").tip("refs/heads/main");
    let work = site.work("fill");
    let large: String = (0..40_000).map(|line| format!("{line} {}\n", line * 7919 % 10_007)).collect();
    std::fs::write(work.path.join("large"), large).unwrap();
    work.commit("large");
    let (new, pack) = (work.tip("HEAD"), work.pack("HEAD"));
    let body = [updates(&[(NULL, &new, "refs/heads/new")], PUSH), pack].concat();
    let request = site.cgi("POST", RECEIVE).bearer(&token).body(body).env("ARTIFACTS_AUDIT_LOG", log.to_str().unwrap());
    // The limit is in blocks of 512 bytes.
    let answer = request.clone().opening("ulimit -f 40").run();
    assert_eq!((answer.status, answer.exit), (200, 0), "{answer:?}");
    assert!(
        answer.text().contains("File too large") && answer.text().contains("ng refs/heads/new"),
        "{}",
        answer.text()
    );
    assert_eq!(answer.header("Content-Length"), None, "nginx has to listen to the end");
    assert!(
        answer.stderr.starts_with("error: cannot take the pack: ") && answer.stderr.contains("File too large"),
        "{}",
        answer.stderr
    );
    assert!(site.repo("acme/site").leftovers().is_empty());
    let last = |key: &str| {
        let text = std::fs::read_to_string(&log).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        line[key].as_str().unwrap_or("nothing").to_owned()
    };
    assert_eq!((last("outcome").as_str(), last("operation").as_str()), ("error", "push"));
    assert!(last("error").contains("File too large"), "{}", last("error"));
    // A client's mistake is not an error of ours.
    let stale = updates(&[(&new, &tip, "refs/heads/main")], PUSH);
    let answer = site.cgi("POST", RECEIVE).bearer(&token).body([stale, work.pack("HEAD~1")].concat());
    let answer = answer.env("ARTIFACTS_AUDIT_LOG", log.to_str().unwrap()).run();
    assert!(answer.text().contains("ng refs/heads/main"), "{}", answer.text());
    assert_eq!((answer.stderr.as_str(), last("outcome").as_str()), ("", "ok"));
    assert_eq!(request.run().status, 200);
    assert_eq!(last("outcome"), "ok");
}

#[test]
fn a_log_at_the_limit_of_file_sizes_fails_no_fetch() {
    let site = site();
    let token = site.token("acme/site", "read");
    let log = site.root().join("audit.log");
    std::fs::write(&log, vec![b'\n'; 20 << 10]).unwrap();
    let request = site.cgi("GET", "/acme/site.git/info/refs?service=git-upload-pack").bearer(&token);
    let answer = request.env("ARTIFACTS_AUDIT_LOG", log.to_str().unwrap()).opening("ulimit -f 40").run();
    assert_eq!((answer.status, answer.exit), (200, 0), "{answer:?}");
    assert!(answer.stderr.contains("File too large"), "{}", answer.stderr);
}

#[test]
fn what_a_client_sends_is_escaped_on_stderr() {
    let site = site();
    let answer = site.cgi("GET", "/acme/\u{1b}[31m\nfatal: forged").run();
    assert_eq!(answer.status, 404);
    assert_eq!(answer.stderr.lines().count(), 1, "{:?}", answer.stderr);
    assert!(!answer.stderr.contains('\u{1b}') && !answer.text().contains('\u{1b}'), "{:?}", answer.stderr);
}

#[test]
fn lengths_in_capitals_and_lines_without_newlines_are_read() {
    let site = site();
    let line = |text: &str| format!("{:04X}{text}", text.len() + 4);
    let body = format!("{}0001{}{}0000", line("command=ls-refs"), line("peel"), line("ref-prefix refs/heads/main"));
    assert!(body.contains("001E"), "{body}");
    lists_refs(&v2(&site).body(body).run(), "capitals");
}

#[test]
fn packets_and_bands_keep_to_their_sizes() {
    let site = Site::with("acme/site", |repo| {
        std::fs::write(repo.path.join("noise"), noise(300_000, 2)).unwrap();
        repo.commit("one");
    });
    let token = site.token("acme/site", "read");
    let tip = site.repo("acme/site").tip("refs/heads/main");
    let sizes = |bands: &str, version: u8| -> usize {
        let v2 = framed(&["command=fetch", "0001", &format!("want {tip}"), "done", "0000"]);
        let v0 = framed(&[&format!("want {tip} {bands}"), "0000", "done"]);
        let body = if version == 2 { v2 } else { v0 };
        let answer = site.cgi("POST", UPLOAD).bearer(&token).protocol(version).body(body).run();
        let pack = crate::support::band(&answer.body, 1);
        assert!(pack.starts_with(b"PACK"), "{bands}");
        let (mut rest, mut longest) = (answer.body.as_slice(), 0);
        while rest.len() >= 4 {
            let digits = std::str::from_utf8(&rest[..4]).unwrap();
            assert_eq!(digits, digits.to_lowercase());
            let size = usize::from_str_radix(digits, 16).unwrap();
            longest = longest.max(size);
            rest = &rest[size.max(4)..];
        }
        assert!(rest.is_empty() && answer.body.ends_with(b"0000"), "{bands}");
        longest
    };
    let large = sizes("side-band-64k", 0);
    assert!((1001..=65_520).contains(&large), "{large}");
    assert!((1001..=65_520).contains(&sizes("", 2)));
    assert!(sizes("side-band", 0) <= 1000);
}

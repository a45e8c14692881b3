//! Clients that lie: no crash, no hang, no more memory than they pay for, nothing left behind, and a message that tells
//! what is wrong.

use crate::support::{Answer, Cgi, NULL, PUSH, Repo, Site, framed, git_command, noise, updates};
use sha1::Digest;
use std::io::Write;
use std::path::PathBuf;

const UPLOAD: &str = "/acme/site.git/git-upload-pack";
const RECEIVE: &str = "/acme/site.git/git-receive-pack";

/// How many megabytes a request may use apart from what it sends. The program's own limit is far above.
const MEGABYTES: u32 = 100;

struct Attacked {
    site: Site,
    token: String,
    tip: String,
    refs: String,
}

impl Attacked {
    fn new() -> Self {
        let site = Site::with("acme/site", |repo| {
            std::fs::write(repo.path.join("large"), "line\n".repeat(3000)).unwrap();
            repo.commit("one");
            std::fs::write(repo.path.join("large"), "line\n".repeat(3000) + "more\n").unwrap();
            repo.commit("two");
        });
        let token = site.token("acme/site", "write");
        let (tip, refs) = (site.repo("acme/site").tip("refs/heads/main"), site.repo("acme/site").refs());
        Attacked { site, token, tip, refs }
    }

    fn served(&self) -> Repo {
        self.site.repo("acme/site")
    }

    fn post(&self, path: &str, version: u8, body: impl Into<Vec<u8>>) -> Cgi {
        let request = self.site.cgi("POST", path).bearer(&self.token).protocol(version);
        request.body(body).megabytes(MEGABYTES).env("ARTIFACTS_MEMORY", "32m")
    }

    fn push(&self, list: &[(&str, &str, &str)], pack: &[u8]) -> Cgi {
        self.post(RECEIVE, 0, [updates(list, PUSH), pack.to_vec()].concat())
    }

    /// Checks that a pack, pushed to create a ref to `new`, is refused.
    fn refuses_pack(&self, what: &str, new: &str, pack: &[u8]) -> Answer {
        let answer = self.push(&[(NULL, new, "refs/heads/evil")], pack).run();
        answer.is_sound(what);
        let report = answer.report();
        assert!(report[1].starts_with("ng refs/heads/evil "), "{what}: {report:?}");
        assert!(answer.text().contains("error") || answer.text().contains("fatal"), "{what}: {}", answer.text());
        self.is_untouched(what);
        answer
    }

    fn is_untouched(&self, what: &str) {
        let served = self.served();
        assert_eq!(served.refs(), self.refs, "{what}");
        assert_eq!(served.leftovers(), Vec::<PathBuf>::new(), "{what}");
    }
}

/// A pack made by hand.
struct Pack(Vec<u8>);

const COMMIT: u8 = 1;
const TREE: u8 = 2;
const BLOB: u8 = 3;
const OFS_DELTA: u8 = 6;
const REF_DELTA: u8 = 7;

impl Pack {
    fn new(version: u32, count: u32) -> Self {
        Pack([b"PACK".as_slice(), &version.to_be_bytes(), &count.to_be_bytes()].concat())
    }

    /// An entry whose header says `size`, whatever the size of `content` is.
    fn entry(mut self, kind: u8, size: u64, base: &[u8], content: &[u8]) -> Self {
        let mut rest = size >> 4;
        let mut byte = kind << 4 | (size & 15) as u8;
        while rest > 0 {
            self.0.push(byte | 0x80);
            byte = (rest & 0x7f) as u8;
            rest >>= 7;
        }
        self.0.push(byte);
        self.0.extend_from_slice(base);
        let mut encoder = flate2::write::ZlibEncoder::new(self.0, flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        self.0 = encoder.finish().unwrap();
        self
    }

    /// An entry with the right size.
    fn object(self, kind: u8, content: &[u8]) -> Self {
        self.entry(kind, content.len() as u64, b"", content)
    }

    fn finish(self) -> Vec<u8> {
        with_trailer(self.0)
    }
}

fn with_trailer(mut pack: Vec<u8>) -> Vec<u8> {
    let trailer = sha1::Sha1::digest(&pack);
    pack.extend_from_slice(&trailer);
    pack
}

/// A delta made of sizes and instructions.
fn delta(base: u64, result: u64, instructions: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for mut size in [base, result] {
        while size > 0x7f {
            bytes.push((size & 0x7f) as u8 | 0x80);
            size >>= 7;
        }
        bytes.push(size as u8);
    }
    bytes.extend_from_slice(instructions);
    bytes
}

fn id(hex: &str) -> Vec<u8> {
    (0..20).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

/// Bodies as honest clients send them, with path and version.
fn honest(attacked: &Attacked) -> Vec<(&'static str, &'static str, u8, Vec<u8>)> {
    let work = attacked.site.work("fill");
    let new = work.commit("three");
    let pack = work.pack("HEAD\n^HEAD~1\n");
    let want = format!("want {}", attacked.tip);
    let v0 = framed(&[&format!("{want} side-band-64k"), "0000", &format!("have {new}"), "done"]);
    let v2 =
        framed(&["command=fetch", "agent=git/2", "0001", "ofs-delta", &want, &format!("have {new}"), "done", "0000"]);
    let push = [updates(&[(NULL, &new, "refs/heads/new")], PUSH), pack].concat();
    vec![("fetch v0", UPLOAD, 0, v0), ("fetch v2", UPLOAD, 2, v2), ("push", RECEIVE, 0, push)]
}

#[test]
fn truncated_requests_are_told_so() {
    let attacked = Attacked::new();
    for (what, path, version, body) in honest(&attacked) {
        let step = (body.len() / 24).max(1);
        let cuts = (1..body.len()).step_by(step).chain([body.len() - 1]);
        for cut in cuts {
            let what = format!("{what} of {cut} bytes");
            let answer = attacked.post(path, version, &body[..cut]).run();
            answer.is_sound(&what);
            assert!(!answer.text().contains("PACK"), "{what}");
            // In a fetch of version 0, the end of the body between packets is only the end of a round.
            assert!(!answer.body.is_empty() || version == 0, "{what}: {answer:?}");
            let short = attacked.post(path, version, &body[..cut]).env("CONTENT_LENGTH", &body.len().to_string()).run();
            short.is_sound(&what);
            assert!(
                short.text().contains("before its Content-Length")
                    || short.text().contains("early EOF")
                    || short.text().contains("eof before pack header"),
                "{what}: {short:?}"
            );
        }
    }
    attacked.is_untouched("truncated");
}

#[test]
fn garbage_is_told_so() {
    let attacked = Attacked::new();
    let packet = |bytes: &[u8]| [format!("{:04x}", bytes.len() + 4).as_bytes(), bytes].concat();
    let bodies = [
        b"\0".repeat(5000),
        b"\xff".repeat(5000),
        noise(10_000, 1),
        b"PACK\0\0\0\x02\0\0\0\0".to_vec(),
        b"0001".to_vec(),
        b"0002".to_vec(),
        b"0003".to_vec(),
        b"0004".to_vec(),
        b"0004".repeat(50_000),
        b"0001".repeat(50_000),
        b"ffff".to_vec(),
        b"fff0short".to_vec(),
        b"fff1".repeat(20_000),
        b"-001".to_vec(),
        b"+00a12345".to_vec(),
        b" 00a12345".to_vec(),
        b"\x1f\x8b".to_vec(),
        b"\x1f\x8b\x08\0\0\0\0\0\0\0garbage".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        packet(b"\0"),
        packet(b"ERR I am the server"),
        packet(&[b'x'; 65516]),
        packet(b"want\0want"),
        packet(b"shallow "),
        [packet(b"command="), b"0000".to_vec()].concat(),
        [packet(b"command=fetch\0"), b"0000".to_vec()].concat(),
        [packet(&noise(100, 4)), b"0000".to_vec()].concat(),
        [packet("want é".as_bytes()), b"0000".to_vec()].concat(),
    ];
    for body in bodies {
        for (path, version) in [(UPLOAD, 0), (UPLOAD, 2), (RECEIVE, 0)] {
            let shown: String = body.escape_ascii().to_string().chars().take(60).collect();
            let what = format!("{path} version {version}: {shown}");
            let answer = attacked.post(path, version, body.clone()).run();
            answer.is_sound(&what);
            assert!(
                answer.stderr.len() < 4000 && !answer.stderr.trim_end().contains(char::is_control),
                "{what}: {:?}",
                answer.stderr
            );
            assert!(!answer.body.contains(&0x1b), "{what}");
        }
    }
    attacked.is_untouched("garbage");
}

#[test]
fn what_was_not_offered_is_refused_in_words() {
    let attacked = Attacked::new();
    let want = format!("want {}", attacked.tip);
    let check = |version, lines: &[&str], text: &str| {
        let answer = attacked.post(UPLOAD, version, framed(lines)).run();
        answer.is_sound(text);
        let last = answer.packets().pop().unwrap_or_default();
        assert!(last.starts_with("ERR ") && last.contains(text), "{text:?} is not in {last:?}");
    };
    check(2, &["command=dance", "0001", "0000"], "dance");
    check(2, &["command=ls-refs", "dance=now", "0001", "0000"], "dance");
    check(2, &["command=ls-refs", "command=fetch", "0001", "0000"], "command");
    check(2, &["command=ls-refs", "object-format=sha256", "0001", "0000"], "sha256");
    check(2, &["command=fetch", "0001", &want, "dance", "done", "0000"], "dance");
    check(2, &["command=fetch", "0001", "want 12", "done", "0000"], "want");
    check(2, &["0001", "0000"], "command");
    check(0, &[&want.to_uppercase(), "0000", "done"], "");
    check(0, &[&format!("{want} filter"), "filter blob:everything", "0000", "done"], "filter");
}

#[test]
fn objects_that_are_not_there_or_not_shown_are_not_given() {
    let attacked = Attacked::new();
    let served = attacked.served();
    let hidden = served.git(&["commit-tree", "-m", "hidden", &served.tip("refs/heads/main^{tree}")]);
    served.git(&["update-ref", "refs/heads/hidden", &hidden]);
    served.config("transfer.hideRefs", "refs/heads/hidden");
    for wanted in ["1".repeat(40), NULL.to_owned(), hidden] {
        let v2 = framed(&["command=fetch", "0001", &format!("want {wanted}"), "done", "0000"]);
        let v0 = framed(&[&format!("want {wanted} side-band-64k"), "0000", "done"]);
        for (version, body) in [(2, v2), (0, v0)] {
            let answer = attacked.post(UPLOAD, version, body).run();
            answer.is_sound(&wanted);
            assert_eq!(answer.packets(), [format!("ERR upload-pack: not our ref {wanted}")], "version {version}");
            assert_eq!(answer.status, 200, "git shows its user the text");
        }
    }
}

#[test]
fn every_flipped_byte_of_a_pack_is_found() {
    let attacked = Attacked::new();
    let work = attacked.site.work("fill");
    std::fs::write(work.path.join("large"), "line\n".repeat(3000) + "and more\n").unwrap();
    let new = work.commit("three");
    let pack = work.pack("HEAD\n^HEAD~2\n");
    let step = pack.len() / 40;
    for at in (0..24).chain((24..pack.len()).step_by(step)).chain([pack.len() - 1]) {
        let mut broken = pack.clone();
        broken[at] ^= 1 << (at % 8);
        attacked.refuses_pack(&format!("byte {at}"), &new, &broken);
        if at < pack.len() - 20 {
            broken.truncate(pack.len() - 20);
            attacked.refuses_pack(&format!("byte {at}, and a trailer that agrees"), &new, &with_trailer(broken));
        }
    }
    let answer = attacked.push(&[(NULL, &new, "refs/heads/good")], &pack).run();
    assert_eq!(answer.report(), ["unpack ok", "ok refs/heads/good"], "unbroken it is good");
    attacked.served().fsck();
}

#[test]
fn deltas_that_lead_nowhere_are_refused() {
    let attacked = Attacked::new();
    let (a, b) = ("a".repeat(40), "b".repeat(40));
    let copy = delta(10, 10, &[0x90, 10]);
    let size = copy.len() as u64;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "two deltas that name each other",
            Pack::new(2, 2).entry(REF_DELTA, size, &id(&a), &copy).entry(REF_DELTA, size, &id(&b), &copy).finish(),
        ),
        ("a delta on what nobody has", Pack::new(2, 1).entry(REF_DELTA, size, &id(&a), &copy).finish()),
        ("a delta on itself", Pack::new(2, 1).entry(OFS_DELTA, size, &[0], &copy).finish()),
        ("a delta on what lies before the pack", Pack::new(2, 1).entry(OFS_DELTA, size, &[0xff, 0x7f], &copy).finish()),
        ("a delta on the header", Pack::new(2, 1).entry(OFS_DELTA, size, &[12], &copy).finish()),
        ("a distance that does not end", Pack::new(2, 1).entry(OFS_DELTA, size, &[0xff; 30], &copy).finish()),
        (
            "a delta on the middle of an object",
            Pack::new(2, 2).object(BLOB, &noise(500, 1)).entry(OFS_DELTA, size, &[100], &copy).finish(),
        ),
    ];
    for (what, pack) in cases {
        attacked.refuses_pack(what, &attacked.tip, &pack);
        attacked.refuses_pack(what, &a, &pack);
    }
    // An existing base, and instructions that do not fit it.
    let blob = attacked.served().tip("refs/heads/main:two.txt");
    for (what, bad) in [
        ("another size of the base", delta(5, 4, &[0x90, 4])),
        ("a copy from behind the base", delta(4, 4, &[0x91, 200, 4])),
        ("a copy across the end", delta(4, 4, &[0x91, 2, 4])),
        ("an insertion cut off", delta(4, 100, &[100, b'x'])),
        ("instruction 0", delta(4, 4, &[0])),
        ("a result too long", delta(4, 3, &[0x90, 4])),
        ("a result too short", delta(4, 5, &[0x90, 4])),
        ("a gigantic result", delta(4, 1 << 60, &[0x90, 4])),
        ("a gigantic base", delta(u64::MAX, 4, &[0x90, 4])),
        ("sizes that do not end", vec![0xff; 40]),
        ("nothing at all", Vec::new()),
        ("copies of nothing", delta(4, 1 << 30, &[0x80; 1000])),
    ] {
        let pack = Pack::new(2, 1).entry(REF_DELTA, bad.len() as u64, &id(&blob), &bad).finish();
        attacked.refuses_pack(what, &attacked.tip, &pack);
    }
}

#[test]
fn packs_that_lie_about_counts_and_sizes_are_refused() {
    let attacked = Attacked::new();
    let blob = |pack: Pack| pack.object(BLOB, b"blob");
    let work = attacked.site.work("fill");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no pack at all", Vec::new()),
        ("a header cut off", b"PACK\0\0\0\x02".to_vec()),
        ("another signature", with_trailer(b"KCAP\0\0\0\x02\0\0\0\0".to_vec())),
        ("version 1", blob(Pack::new(1, 1)).finish()),
        ("version 4", blob(Pack::new(4, 1)).finish()),
        ("more objects than there are", blob(Pack::new(2, 2)).finish()),
        ("four thousand million objects", blob(Pack::new(2, u32::MAX)).finish()),
        ("four thousand million objects and an end", Pack::new(2, u32::MAX).0),
        ("fewer objects than there are", blob(blob(Pack::new(2, 1))).finish()),
        ("a smaller size", Pack::new(2, 1).entry(BLOB, 3, b"", b"blob").finish()),
        ("a larger size", Pack::new(2, 1).entry(BLOB, 5, b"", b"blob").finish()),
        ("a gigantic size", Pack::new(2, 1).entry(BLOB, 1 << 60, b"", b"blob").finish()),
        ("a size of all bits", Pack::new(2, 1).entry(BLOB, u64::MAX, b"", b"blob").finish()),
        ("a size that does not end", with_trailer([Pack::new(2, 1).0, vec![0xff; 100]].concat())),
        ("kind 0", Pack::new(2, 1).entry(0, 4, b"", b"blob").finish()),
        ("kind 5", Pack::new(2, 1).entry(5, 4, b"", b"blob").finish()),
        ("no zlib stream", with_trailer([Pack::new(2, 1).0, vec![0x34], b"blob".to_vec()].concat())),
        ("another trailer", [blob(Pack::new(2, 1)).0, vec![0; 20]].concat()),
        ("a trailer cut off", blob(Pack::new(2, 1)).finish()[..40].to_vec()),
        ("something behind the trailer", [blob(Pack::new(2, 1)).finish(), b"more".to_vec()].concat()),
        ("a commit that is none", Pack::new(2, 1).object(COMMIT, b"tree nonsense\n").finish()),
        ("another commit than asked for", work.pack("HEAD\n")),
    ];
    for (what, pack) in cases {
        attacked.refuses_pack(what, &"c".repeat(40), &pack);
    }
    // Megabytes of zeros in a few kilobytes.
    let zeros = Pack::new(2, 1).object(BLOB, &vec![0; 64 << 20]).finish();
    attacked.refuses_pack("64 MB of zeros", &"c".repeat(40), &zeros);
}

#[test]
fn a_tree_of_deltas_that_makes_more_than_the_memory_is_no_danger() {
    let attacked = Attacked::new();
    let len = 3_u64 << 20;
    let mut pack = Pack::new(2, 81);
    let mut base = pack.0.len();
    pack = pack.object(BLOB, &vec![7; 3 << 20]);
    for level in 1..=40 {
        // Two results of three megabytes on the same base; the next level has the second one as its base.
        for side in [1, 2] {
            let mut back = pack.0.len() - base;
            let mut distance = vec![(back & 0x7f) as u8];
            while back > 0x7f {
                back = (back >> 7) - 1;
                distance.insert(0, 0x80 | (back & 0x7f) as u8);
            }
            let made = delta(len, len, &[2, level, side, 0xf0, 0xfe, 0xff, 0x2f]);
            let at = pack.0.len();
            pack = pack.entry(OFS_DELTA, made.len() as u64, &distance, &made);
            if side == 2 {
                base = at;
            }
        }
    }
    let pack = pack.finish();
    assert!(pack.len() < 50_000, "{}", pack.len());
    let answer = attacked.push(&[(NULL, &attacked.tip, "refs/heads/same")], &pack).run();
    answer.is_sound("243 MB in some kilobytes");
    assert_eq!(answer.report(), ["unpack ok", "ok refs/heads/same"]);
}

#[test]
fn history_with_a_hole_is_refused() {
    let attacked = Attacked::new();
    let work = attacked.site.work("fill");
    work.commit("three");
    let new = work.commit("four");
    let listed = work.git(&["rev-list", "--objects", "HEAD", "^HEAD~2"]);
    let ids: Vec<&str> = listed.lines().map(|line| &line[..40]).collect();
    assert_eq!(ids.len(), 6, "two commits with a tree and a blob each");
    let pack = |without: Option<&str>| {
        let chosen: Vec<&str> = ids.iter().copied().filter(|id| Some(*id) != without).collect();
        chosen
            .iter()
            .fold(Pack::new(2, chosen.len() as u32), |pack, id| {
                let name = work.git(&["cat-file", "-t", id]);
                let kind = match name.as_str() {
                    "commit" => COMMIT,
                    "tree" => TREE,
                    _ => BLOB,
                };
                let content = git_command(&work.path).args(["cat-file", &name, id]).output().unwrap().stdout;
                pack.object(kind, &content)
            })
            .finish()
    };
    for id in &ids {
        let answer = attacked.refuses_pack(&format!("without {id}"), &new, &pack(Some(id)));
        let expected = if *id == new { "ng refs/heads/evil " } else { "ng refs/heads/evil missing necessary objects" };
        assert!(answer.report()[1].starts_with(expected), "{:?}", answer.report());
        assert!(answer.text().contains(id), "what is missing is named: {}", answer.text());
    }
    let answer = attacked.push(&[(NULL, &new, "refs/heads/whole")], &pack(None)).run();
    assert_eq!(answer.report(), ["unpack ok", "ok refs/heads/whole"]);
}

#[test]
fn a_long_chain_of_deltas_is_no_danger() {
    let attacked = Attacked::new();
    let served = attacked.served();
    let tree = served.tip("refs/heads/main^{tree}");
    let commit =
        format!("tree {tree}\nauthor A <a@example.com> 1 +0000\ncommitter A <a@example.com> 1 +0000\n\nchain\n");
    let mut pack = Pack::new(2, 4002).object(COMMIT, commit.as_bytes());
    let mut before = pack.0.len();
    pack = pack.object(BLOB, b"chain");
    for size in 5..4005_u64 {
        let at = pack.0.len();
        // All of the base, in copies of at most 64 KiB, and one byte more.
        let longer = delta(size, size + 1, &[0xb0, (size & 0xff) as u8, (size >> 8) as u8, 1, b'x']);
        let back = (at - before) as u64;
        let base =
            if back < 0x80 { vec![back as u8] } else { vec![0x80 | ((back >> 7) as u8 - 1), (back & 0x7f) as u8] };
        pack = pack.entry(OFS_DELTA, longer.len() as u64, &base, &longer);
        before = at;
    }
    let pack = pack.finish();
    let digest = sha1::Sha1::digest([format!("commit {}\0", commit.len()).as_bytes(), commit.as_bytes()].concat());
    let new: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let answer = attacked.push(&[(NULL, &new, "refs/heads/chain")], &pack).run();
    assert_eq!(answer.report(), ["unpack ok", "ok refs/heads/chain"]);
    assert_eq!(served.git(&["rev-list", "--objects", "--count", "refs/heads/chain"]), "5");
    served.fsck();
}

#[test]
fn names_that_are_no_refs_are_refused_one_by_one() {
    let attacked = Attacked::new();
    let long = format!("refs/heads/{}", "x".repeat(5000));
    let longer = format!("refs/heads/{}", "x/".repeat(20_000) + "x");
    let names = [
        "refs/heads/..",
        "refs/heads/a..b",
        "refs/../../outside",
        "refs/heads/../../HEAD",
        "../refs/heads/a",
        "/etc/passwd",
        "refs/heads/a.lock",
        "refs/heads/a.lock/b",
        "refs/heads/.a",
        "refs/heads/a/.b",
        "refs/heads/a/",
        "refs/heads//a",
        "refs/heads/",
        "refs/heads",
        "refs/",
        "refs",
        "main",
        "HEAD",
        "FETCH_HEAD",
        "config",
        "objects/info/alternates",
        "hooks/pre-receive",
        "refs/heads/a b",
        "refs/heads/a~1",
        "refs/heads/a^",
        "refs/heads/a:b",
        "refs/heads/a?",
        "refs/heads/a*",
        "refs/heads/a[b",
        "refs/heads/a\\b",
        "refs/heads/a@{1}",
        "@",
        "refs/heads/a.",
        "refs/heads/\u{1}",
        "refs/heads/\u{7f}",
        "refs/heads/a\tb",
        "refs/heads/a\rb",
        "refs/heads/\u{1b}[31mred",
        &long,
        &longer,
    ];
    let list: Vec<(&str, &str, &str)> = names.iter().map(|name| (NULL, attacked.tip.as_str(), *name)).collect();
    let empty = Pack::new(2, 0).finish();
    let answer = attacked.push(&list, &empty).run();
    answer.is_sound("names");
    let report = answer.report();
    assert_eq!(report[0], "unpack ok");
    assert_eq!(report.len(), names.len() + 1);
    for (line, name) in report[1..].iter().zip(names) {
        let name = name.as_bytes().escape_ascii().to_string();
        assert!(line.starts_with(&format!("ng {name} ")), "{name:?}: {line}");
    }
    attacked.is_untouched("names");
    assert!(!attacked.site.root().join("outside").exists());
    // Nothing in the output can control the user's terminal.
    assert!(!crate::support::band(&answer.body, 2).contains(&0x1b));
    // Deleting them does no harm either.
    let list: Vec<(&str, &str, &str)> = names.iter().map(|name| (attacked.tip.as_str(), NULL, *name)).collect();
    let answer = attacked.push(&list, b"").run();
    answer.is_sound("deletions");
    attacked.is_untouched("deletions");
    assert!(attacked.served().path.join("config").exists() && attacked.served().path.join("HEAD").exists());
    attacked.served().fsck();
}

#[test]
fn a_name_with_bytes_that_are_no_text_comes_back_as_it_was() {
    let attacked = Attacked::new();
    let mut line = format!("{NULL} {} refs/heads/", attacked.tip).into_bytes();
    line.extend_from_slice(b"\xff\xfe\0 report-status");
    let body = [format!("{:04x}", line.len() + 4).as_bytes(), &line, b"0000", &Pack::new(2, 0).finish()].concat();
    let answer = attacked.post(RECEIVE, 0, body).run();
    assert!(answer.body.windows(16).any(|part| part == b"refs/heads/\xff\xfe\n00"), "{}", answer.body.escape_ascii());
    let listed = attacked.served().refs();
    assert!(listed.contains("refs/heads/\u{fffd}\u{fffd}"), "git allows such names: {listed}");
}

#[test]
fn a_repository_cannot_be_made_of_refs_in_another() {
    let attacked = Attacked::new();
    let tip = attacked.tip.as_str();
    let list = [
        (NULL, tip, "refs/heads/x.git/HEAD"),
        (NULL, tip, "refs/heads/x.git/objects/a"),
        (NULL, tip, "refs/heads/x.git/refs/a"),
        (NULL, tip, "refs/heads/x.git/config"),
    ];
    let answer = attacked.push(&list, &Pack::new(2, 0).finish()).run();
    assert!(answer.report().iter().all(|line| !line.contains("ng")), "names are free: {:?}", answer.report());
    assert!(attacked.served().path.join("refs/heads/x.git/HEAD").exists(), "as loose refs, or this proves nothing");
    for path in ["/acme/site.git/refs/heads/x.git", "/acme/site/refs/heads/x.git", "/site.git/refs/heads/x.git"] {
        for service in ["git-upload-pack", "git-receive-pack"] {
            let request = attacked.site.cgi("GET", &format!("{path}/info/refs?service={service}"));
            let answer = request.bearer(&attacked.token).run();
            assert!([403, 404].contains(&answer.status), "{path}: {answer:?}");
            let post =
                attacked.site.cgi("POST", &format!("{path}/{service}")).bearer(&attacked.token).body("0000").run();
            assert!([403, 404].contains(&post.status), "{path}: {post:?}");
        }
    }
}

#[test]
fn paths_that_lead_astray_find_nothing() {
    let attacked = Attacked::new();
    attacked.site.create("acme/secret");
    let root = attacked.site.root();
    std::os::unix::fs::symlink(root.join("acme/site.git"), root.join("acme/link.git")).unwrap();
    std::os::unix::fs::symlink(root.join("acme"), root.join("alias")).unwrap();
    std::os::unix::fs::symlink("/etc", root.join("acme/etc.git")).unwrap();
    let deep = "/a".repeat(3000) + ".git";
    for path in [
        "/acme/../acme/site.git",
        "/acme/./site.git",
        "//acme/site.git",
        "/acme//site.git",
        "/acme/site.git/",
        "/acme/site.git//",
        "/acme/site.git/.",
        "/acme/site.git/..",
        "/..",
        "/../../etc/passwd",
        "/acme/..%2fsite.git",
        "/acme%2fsite.git",
        "/acme/site.git%00",
        "/acme/%73ite.git",
        "/acme\\site.git",
        "/acme/site.git\n",
        "/acme/\u{1b}site.git",
        "acme/site.git",
        "~root/site.git",
        "/~root/site.git",
        "/acme/site.git.git",
        "/acme/Site.git",
        "/.artifacts/tokens/acme/site.git",
        "/acme/site.git/objects/../../secret.git",
        "/acme/link.git",
        "/alias/site.git",
        "/acme/etc.git",
        &deep,
        "",
        "/",
    ] {
        for tail in ["/info/refs?service=git-upload-pack", "/info/refs?service=git-receive-pack", "/HEAD", "/config"] {
            let request = attacked.site.cgi("GET", &format!("{path}{tail}")).bearer(&attacked.token);
            let answer = request.run();
            assert!([403, 404].contains(&answer.status), "{path}{tail}: {answer:?}");
            answer.is_sound(path);
            assert!(answer.text().is_ascii() && !answer.text().contains('\u{1b}'), "{path}{tail}");
            assert!(
                !answer.text().contains(root.to_str().unwrap()),
                "no path of the server is told: {}",
                answer.text()
            );
            let webserver = request.env("ARTIFACTS_AUTH", "webserver").run();
            assert!(webserver.exit == 0 && webserver.stderr.lines().count() == 1, "{path}{tail}: {webserver:?}");
            assert!([403, 404, 500].contains(&webserver.status), "{path}{tail}: {webserver:?}");
        }
    }
}

#[test]
fn no_symbolic_link_below_the_root_is_followed_even_with_a_good_token() {
    let site = Site::new();
    let root = site.root();
    for (link, target) in [
        ("acme/one.git", "elsewhere/one.git"),
        ("acme/one.git/objects", "elsewhere/objects"),
        ("acme/one.git/refs", "elsewhere/refs"),
        ("acme", "elsewhere/acme"),
    ] {
        site.create("acme/one");
        let token = site.token("acme/one", "read");
        let ask = || site.cgi("GET", "/acme/one.git/info/refs?service=git-upload-pack").bearer(&token).run();
        assert_eq!(ask().status, 200);
        std::fs::create_dir(root.join("elsewhere")).unwrap();
        std::fs::rename(root.join(link), root.join(target)).unwrap();
        std::os::unix::fs::symlink(root.join(target), root.join(link)).unwrap();
        let answer = ask();
        assert_eq!(answer.status, 500, "{link}: {answer:?}");
        assert!(answer.stderr.contains("is a symbolic link"), "{link}: {}", answer.stderr);
        assert!(!answer.text().contains("elsewhere"), "{}", answer.text());
        std::fs::remove_file(root.join(link)).unwrap();
        std::fs::remove_dir_all(root.join("elsewhere")).unwrap();
        let _ = std::fs::remove_dir_all(root.join("acme"));
        let _ = std::fs::remove_dir_all(root.join(".artifacts"));
    }
}

#[test]
fn bytes_in_paths_that_are_no_text_are_harmless() {
    use std::os::unix::ffi::OsStrExt;
    let attacked = Attacked::new();
    let mut command = std::process::Command::new(crate::support::PROGRAM);
    command.env_clear().env("GIT_PROJECT_ROOT", attacked.site.root()).env("REQUEST_METHOD", "GET");
    command.env("PATH_INFO", std::ffi::OsStr::from_bytes(b"/acme/\xff\xfe.git/info/refs"));
    command.env("QUERY_STRING", std::ffi::OsStr::from_bytes(b"service=git-upload-pack&\xff"));
    command.env("HTTP_AUTHORIZATION", std::ffi::OsStr::from_bytes(b"Bearer \xff\xfe"));
    command.env("HTTP_USER_AGENT", std::ffi::OsStr::from_bytes(b"\xff\x1b"));
    let answer = Answer::parse(&command.stdin(std::process::Stdio::null()).output().unwrap());
    answer.is_sound("bytes");
    assert!([403, 404].contains(&answer.status), "{answer:?}");
}

#[test]
fn too_many_updates_are_refused_before_the_pack() {
    let attacked = Attacked::new();
    attacked.served().config("artifacts.maxRefUpdates", "10");
    let names: Vec<String> = (0..11).map(|number| format!("refs/heads/b{number}")).collect();
    let list: Vec<_> = names.iter().map(|name| (NULL, attacked.tip.as_str(), name.as_str())).collect();
    let empty = Pack::new(2, 0).finish();
    let answer = attacked.push(&list, &empty).run();
    answer.is_sound("11 of 10");
    assert!(answer.report()[0].contains("10"), "the limit is named: {:?}", answer.report());
    assert!(answer.report().iter().all(|line| !line.starts_with("ok")), "{:?}", answer.report());
    attacked.is_untouched("11 of 10");
    let answer = attacked.push(&list[..10], &empty).run();
    assert_eq!(answer.report().len(), 11);
    assert!(answer.report()[1..].iter().all(|line| line.starts_with("ok ")), "{:?}", answer.report());
}

#[test]
fn a_ref_named_twice_is_not_moved_twice() {
    let attacked = Attacked::new();
    let old = attacked.served().tip("refs/heads/main~1");
    let empty = Pack::new(2, 0).finish();
    let tip = attacked.tip.as_str();
    for list in [
        [(NULL, tip, "refs/heads/twice"), (NULL, old.as_str(), "refs/heads/twice")],
        [(NULL, tip, "refs/heads/twice"), (NULL, tip, "refs/heads/twice")],
        [(tip, old.as_str(), "refs/heads/main"), (old.as_str(), tip, "refs/heads/main")],
        // One name is a directory of the other.
        [(NULL, tip, "refs/heads/main/below"), (NULL, tip, "refs/heads/main/below/that")],
    ] {
        for capabilities in [PUSH.to_owned(), format!("{PUSH} atomic")] {
            let body = [updates(&list, &capabilities), empty.clone()].concat();
            let answer = attacked.post(RECEIVE, 0, body).run();
            answer.is_sound(&format!("{list:?}"));
            assert!(answer.report()[1..].iter().all(|line| line.starts_with("ng ")), "{:?}", answer.report());
            attacked.is_untouched(&format!("{list:?}"));
        }
    }
}

#[test]
fn old_values_that_are_lies_move_nothing() {
    let attacked = Attacked::new();
    let other = attacked.served().tip("refs/heads/main~1");
    let empty = Pack::new(2, 0).finish();
    let tip = attacked.tip.as_str();
    let missing = "d".repeat(40);
    for (what, update) in [
        ("an old value that is another", (other.as_str(), tip, "refs/heads/main")),
        ("a creation of what is there", (NULL, other.as_str(), "refs/heads/main")),
        ("an update of what is not there", (other.as_str(), tip, "refs/heads/none")),
        ("a deletion with another value", (other.as_str(), NULL, "refs/heads/main")),
        ("a new value nobody has", (tip, missing.as_str(), "refs/heads/main")),
        (
            "a value that is no commit, for a branch",
            (NULL, &attacked.served().tip("refs/heads/main^{tree}"), "refs/heads/tree"),
        ),
        ("a deletion of the current branch without a value", (NULL, NULL, "refs/heads/main")),
    ] {
        let answer = attacked.push(&[update], &empty).run();
        answer.is_sound(what);
        attacked.is_untouched(what);
        let report = answer.report();
        assert!(report[1].starts_with("ng "), "{what}: {report:?}");
    }
}

#[test]
fn a_branch_that_may_not_be_deleted_is_not_deleted_without_its_value_either() {
    let attacked = Attacked::new();
    let served = attacked.served();
    served.config("receive.denyDeletes", "true");
    served.git(&["update-ref", "refs/heads/kept", &attacked.tip]);
    for old in [attacked.tip.as_str(), NULL] {
        let answer = attacked.push(&[(old, NULL, "refs/heads/kept")], b"").run();
        assert_eq!(answer.report()[1], "ng refs/heads/kept deletion prohibited");
        assert_eq!(served.tip("refs/heads/kept"), attacked.tip);
    }
}

#[test]
fn endless_lines_end_at_a_limit() {
    let attacked = Attacked::new();
    let options = (0..1001).map(|number| format!("option {number}")).collect::<Vec<_>>();
    attacked.served().config("receive.advertisePushOptions", "true");
    let lines = updates(&[(NULL, &attacked.tip, "refs/heads/new")], &format!("{PUSH} push-options"));
    let options: Vec<&str> = options.iter().map(String::as_str).chain(["0000"]).collect();
    let answer = attacked.post(RECEIVE, 0, [lines, framed(&options), Pack::new(2, 0).finish()].concat()).run();
    answer.is_sound("push options");
    assert!(answer.report()[0].contains("1000"), "{:?}", answer.report());
    attacked.is_untouched("push options");
    // More haves than any client has: within the limit in bytes they are read, and not stored twice.
    let want = format!("want {}", attacked.tip);
    let haves: Vec<String> = (0..150_000).map(|number| format!("have {number:040x}")).collect();
    let lines: Vec<&str> = ["command=fetch", "0001", &want]
        .into_iter()
        .chain(haves.iter().map(String::as_str))
        .chain(["done", "0000"])
        .collect();
    let answer = attacked.post(UPLOAD, 2, framed(&lines)).run();
    answer.is_sound("haves");
    assert!(answer.body.windows(4).any(|four| four == b"PACK"));
}

/// The ID of an object of a kind.
fn named(kind: &str, content: &[u8]) -> String {
    let digest = sha1::Sha1::digest([format!("{kind} {}\0", content.len()).as_bytes(), content].concat());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn commit_of(tree: &str, parents: &[String]) -> Vec<u8> {
    let parents: String = parents.iter().map(|parent| format!("parent {parent}\n")).collect();
    let who = "A <a@example.com> 1 +0000";
    format!("tree {tree}\n{parents}author {who}\ncommitter {who}\n\nc\n").into_bytes()
}

#[test]
fn an_entry_with_a_huge_name_is_not_read_for_each_entry_of_another_version() {
    let attacked = Attacked::new();
    let served = attacked.served();
    served.git(&["config", "receive.fsckObjects", "false"]);
    // The trees are compared in the order in which a pack has them.
    served.git(&["config", "receive.unpackLimit", "1"]);
    let (blob, hex) = (b"x\n", named("blob", b"x\n"));
    let entry = |name: &[u8]| [b"100644 ", name, b"\0", &id(&hex)].concat();
    let huge = entry(&vec![b'z'; 24 << 20]);
    let many: Vec<u8> = (0..100_000).flat_map(|n| entry(format!("{n:06}").as_bytes())).collect();
    let first = commit_of(&named("tree", &huge), &[]);
    let second = commit_of(&named("tree", &many), &[named("commit", &first)]);
    let pack = Pack::new(2, 5).object(BLOB, blob).object(TREE, &huge).object(TREE, &many);
    let pack = pack.object(COMMIT, &first).object(COMMIT, &second).finish();
    let new = named("commit", &second);
    // 100,000 times 24 MiB take longer.
    let slow = |request: Cgi| request.env("ARTIFACTS_TIMEOUT", "15").env("ARTIFACTS_MEMORY", "256m").megabytes(500);
    let answer = slow(attacked.push(&[(NULL, &new, "refs/heads/huge")], &pack)).run();
    assert_eq!(answer.report(), ["unpack ok", "ok refs/heads/huge"]);
    let clone = framed(&["command=fetch", "0001", &format!("want {new}"), "no-progress", "done", "0000"]);
    let answer = slow(attacked.post(UPLOAD, 2, clone)).run();
    assert!(answer.body.ends_with(b"0000"), "{}", answer.body[..200].escape_ascii());
}

#[test]
fn a_have_with_very_many_parents_costs_them_once() {
    let attacked = Attacked::new();
    let served = attacked.served();
    let tree = served.tip("refs/heads/main^{tree}");
    let parents: Vec<Vec<u8>> =
        (0..20_000).map(|n| [&commit_of(&tree, &[])[..], n.to_string().as_bytes()].concat()).collect();
    let names: Vec<String> = parents.iter().map(|parent| named("commit", parent)).collect();
    let octopus = commit_of(&tree, &names);
    let pack = parents.iter().fold(Pack::new(2, 20_001), |pack, parent| pack.object(COMMIT, parent));
    let pack = pack.object(COMMIT, &octopus).finish();
    let new = named("commit", &octopus);
    let answer = attacked.push(&[(NULL, &new, "refs/heads/octopus")], &pack).run();
    assert_eq!(answer.report(), ["unpack ok", "ok refs/heads/octopus"]);
    let have = format!("have {new}");
    let lines = ["command=fetch", "0001", &format!("want {}", attacked.tip)];
    let lines: Vec<&str> = lines.into_iter().chain(std::iter::repeat_n(&*have, 100_000)).chain(["0000"]).collect();
    // One by one they would take minutes.
    let answer = attacked.post(UPLOAD, 2, framed(&lines)).env("ARTIFACTS_TIMEOUT", "20").run();
    assert!(answer.text().contains(&format!("ACK {new}")), "{}", answer.text());
}

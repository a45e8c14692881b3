//! The services at their widest boundary: bytes in, bytes out, compared with the answers of git's own upload-pack to
//! the same bytes.

use super::*;
use crate::auth::{Grant, Scope};
use crate::pktline::{Packet, PacketReader};
use crate::protocol::Version;
use crate::repo::config::ConfigSources;
use crate::repo::locate::{self, Place, Search};
use crate::repo::{AccessMode, Context};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, OnceLock};

mod filters;
mod haves;
mod kept;
mod lists;
mod packs;
mod random;
mod repack;
mod shallow;
mod v2;
mod wants;

/// ```text
///   root --- one --- two (main, HEAD) --- three (topic)
///               \--- side (refs/secret/side)          lost: reachable from nothing, as is its blob
/// ```
/// `v1` is an annotated tag of `one`, `v1-again` a tag of that tag, `light` points to `one`, `blob` is a tag of a blob,
/// refs/heads/alias is a symbolic ref to main, refs/heads/broken one to nothing.
struct Repo {
    path: PathBuf,
    ids: Mutex<BTreeMap<String, String>>,
    bench: OnceLock<Box<Repo>>,
    /// The object lists of packs already examined: many answers contain the same pack.
    packs: Mutex<BTreeMap<Vec<u8>, String>>,
}

impl Drop for Repo {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn git_in(path: &Path, arguments: &[&str], input: &[u8]) -> (bool, Vec<u8>, String) {
    let mut child = crate::testing::command("git")
        .args(arguments)
        .current_dir(path)
        .env("HOME", path)
        .envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null")])
        .envs([("GIT_AUTHOR_NAME", "A"), ("GIT_AUTHOR_EMAIL", "a@example.com")])
        .envs([("GIT_COMMITTER_NAME", "C"), ("GIT_COMMITTER_EMAIL", "c@example.com")])
        .envs([("GIT_AUTHOR_DATE", "1700000000 +0000"), ("GIT_COMMITTER_DATE", "1700000000 +0000")])
        .envs(protocol_of(arguments))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("git can be run");
    let mut stdin = child.stdin.take().expect("it is piped");
    let bytes = input.to_vec();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&bytes);
    });
    let output = child.wait_with_output().expect("git can be waited for");
    writer.join().expect("the writer does not panic");
    (output.status.success(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The version is passed as a made-up configuration key, so that one function runs every git command.
fn protocol_of(arguments: &[&str]) -> Option<(&'static str, &'static str)> {
    let version = arguments.iter().find_map(|argument| argument.strip_prefix("test.version="))?;
    Some(("GIT_PROTOCOL", if version == "2" { "version=2" } else { "version=1" }))
}

impl Repo {
    fn new() -> Self {
        let repo = Repo {
            path: std::env::temp_dir().join(crate::durable::unique("service-test-")),
            ids: Mutex::default(),
            bench: OnceLock::new(),
            packs: Mutex::default(),
        };
        std::fs::create_dir(&repo.path).expect("the temporary directory can be written");
        repo.git(&["init", "-q", "--bare", "-b", "main"]);
        repo
    }

    fn drawn() -> Self {
        let repo = Repo::new();
        let root = repo.commit("root", &[], "main");
        let one = repo.commit("one", &[&root], "main");
        let two = repo.commit("two", &[&one], "main");
        repo.commit("three", &[&two], "topic");
        repo.git(&["update-ref", "refs/secret/side", &repo.commit_object("side", &[&one])]);
        repo.git(&["tag", "-a", "-m", "v1", "v1", &one]);
        repo.git(&["tag", "-a", "-m", "again", "v1-again", "v1"]);
        repo.git(&["update-ref", "refs/tags/light", &one]);
        repo.git(&["tag", "-a", "-m", "blob", "blob", &repo.blob("tagged")]);
        repo.git(&["symbolic-ref", "refs/heads/alias", "refs/heads/main"]);
        repo.git(&["symbolic-ref", "refs/heads/broken", "refs/heads/nothing"]);
        repo
    }

    fn git(&self, arguments: &[&str]) -> String {
        let (ok, out, errors) = git_in(&self.path, arguments, b"");
        assert!(ok, "{arguments:?}: {errors}");
        String::from_utf8(out).expect("git speaks UTF-8 here").trim_end().to_owned()
    }

    fn blob(&self, text: &str) -> String {
        let (ok, out, errors) = git_in(&self.path, &["hash-object", "-w", "--stdin"], text.as_bytes());
        assert!(ok, "{errors}");
        String::from_utf8(out).expect("hexadecimal").trim_end().to_owned()
    }

    /// A commit whose tree holds one file of its own.
    fn commit_object(&self, name: &str, parents: &[&str]) -> String {
        let entry = format!("100644 blob {}\t{name}\n", self.blob(&format!("{name}\n").repeat(40)));
        let (ok, out, errors) = git_in(&self.path, &["mktree"], entry.as_bytes());
        assert!(ok, "{errors}");
        let tree = String::from_utf8(out).expect("hexadecimal").trim_end().to_owned();
        let mut arguments = vec!["commit-tree", "-m", name, &tree];
        arguments.extend(parents.iter().flat_map(|parent| ["-p", parent]));
        self.git(&arguments)
    }

    fn commit(&self, name: &str, parents: &[&str], branch: &str) -> String {
        let id = self.commit_object(name, parents);
        self.git(&["update-ref", &format!("refs/heads/{branch}"), &id]);
        id
    }

    /// The name of an object; commits of the drawing are known by the names there.
    fn id(&self, name: &str) -> String {
        let known = self.ids.lock().expect("no test panics with it").get(name).cloned();
        known.unwrap_or_else(|| {
            let revision = match name {
                "root" => "main~2",
                "one" => "main~1",
                other => other,
            };
            let id = self.git(&["rev-parse", "--verify", revision]);
            self.ids.lock().expect("no test panics with it").insert(name.to_owned(), id.clone());
            id
        })
    }

    /// A repository in which packs are indexed, with ours as its alternate.
    fn bench(&self) -> &Repo {
        self.bench.get_or_init(|| {
            let bench = Repo::new();
            let alternates = bench.path.join("objects/info/alternates");
            std::fs::write(alternates, format!("{}\n", self.path.join("objects").display())).expect("it was just made");
            Box::new(bench)
        })
    }

    /// Replaces each `<name>` by the id of the object it names for git, and makes packets of the lines between bars.
    /// `0000` and `0001` are taken as they are.
    fn packets(&self, lines: &str) -> Vec<u8> {
        let mut packets = Vec::new();
        for line in lines.split('|').filter(|line| !line.is_empty()) {
            if matches!(line, "0000" | "0001") {
                packets.extend_from_slice(line.as_bytes());
                continue;
            }
            let mut text = String::new();
            let mut rest = line;
            while let Some((before, after)) = rest.split_once('<') {
                let (name, behind) = after.split_once('>').expect("a name is closed");
                text += before;
                text += &self.id(name);
                rest = behind;
            }
            text += rest;
            crate::pktline::line(&mut packets, text.as_bytes()).expect("memory can be written");
        }
        packets
    }

    fn open(&self, asked: Asked) -> Repository {
        let config = ConfigSources::default();
        let search =
            Search { mode: asked.mode, config: &config, object_directory: None, check_owner: false, strict: true };
        let Place::Here(here) = locate::by_path(&self.path, &search) else { panic!("there is a repository") };
        let context = Context {
            version: asked.version,
            stateless: asked.stateless,
            ..crate::testing::context(asked.mode, config)
        };
        Repository::open(*here, Grant::new(Scope::Read, None), context)
    }

    /// Our answer, and what the client would be told on failure.
    fn ours(&self, asked: Asked, operation: &Operation, input: &[u8]) -> (Vec<u8>, Option<String>) {
        let repository = self.open(asked);
        let mut bytes = Vec::new();
        let mut summary = Summary::default();
        let mut out = Out { sink: &mut bytes, channel: &mut ErrorChannel::Status, summary: &mut summary };
        let result = run(operation, &repository, &mut Given { left: input, stateless: asked.stateless }, &mut out);
        (bytes, result.err().and_then(|error| error.told("id")))
    }

    /// git's answer.
    fn theirs(&self, asked: Asked, advertise: bool, input: &[u8]) -> (Vec<u8>, bool) {
        let mut arguments = Vec::new();
        match asked.version {
            Version::V0 => {}
            Version::V1 => arguments.extend(["-c", "test.version=1"]),
            Version::V2 => arguments.extend(["-c", "test.version=2"]),
        }
        arguments.push("upload-pack");
        if advertise {
            arguments.push("--http-backend-info-refs");
        } else if asked.stateless {
            arguments.push("--stateless-rpc");
        }
        arguments.push(".");
        let (ok, out, _) = git_in(&self.path, &arguments, input);
        (out, ok)
    }
}

/// How a request is made.
#[derive(Debug, Clone, Copy)]
struct Asked {
    mode: AccessMode,
    version: Version,
    stateless: bool,
}

fn http(version: Version) -> Asked {
    Asked { mode: AccessMode::WebServer, version, stateless: true }
}

fn tokens(version: Version) -> Asked {
    Asked { mode: AccessMode::Tokens, ..http(version) }
}

fn pipe(version: Version) -> Asked {
    Asked { mode: AccessMode::Pipe, version, stateless: false }
}

/// A body in memory. Over pipes it has no end to wait for.
struct Given<'a> {
    left: &'a [u8],
    stateless: bool,
}

impl Read for Given<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.left.read(buffer)
    }
}

impl Body for Given<'_> {
    fn finish(&mut self) -> io::Result<u64> {
        if !self.stateless {
            return Ok(0);
        }
        let left = self.left.len() as u64;
        self.left = b"";
        Ok(left)
    }
}

const UPLOAD: Operation = Operation::Serve(Service::UploadPack);
const CLONE: &str = "thin-pack ofs-delta agent=git/test";

/// An answer as text: packets as lines, a pack as the list of its objects; data on bands is joined.
fn told(repo: &Repo, answer: &[u8]) -> String {
    let mut input = answer;
    let mut told = Vec::new();
    let mut pack = Vec::new();
    let mut banded = false;
    loop {
        if input.starts_with(b"PACK") {
            told.push(objects(repo, input));
            break;
        }
        let mut reader = PacketReader::new(&mut input);
        match reader.next() {
            Ok(None) => break,
            Ok(Some(Packet::Flush)) => {
                if banded {
                    told.push(objects(repo, &std::mem::take(&mut pack)));
                    banded = false;
                }
                told.push("0000".to_owned());
            }
            Ok(Some(Packet::Delim)) => told.push("0001".to_owned()),
            Ok(Some(Packet::ResponseEnd)) => told.push("0002".to_owned()),
            Ok(Some(Packet::Data([1, data @ ..]))) => {
                banded = true;
                pack.extend_from_slice(data);
            }
            Ok(Some(Packet::Data([2, ..]))) => {}
            Ok(Some(Packet::Data(line))) => told.push(String::from_utf8_lossy(line).into_owned()),
            Err(crate::pktline::FrameError::Remote(text)) => told.push(format!("ERR {text}")),
            Err(error) => {
                told.push(format!("! {error}"));
                break;
            }
        }
    }
    told.join("|")
}

/// The objects of a pack, without the bases that git adds to complete it.
fn objects(repo: &Repo, pack: &[u8]) -> String {
    let known = repo.packs.lock().expect("no test panics with it").get(pack).cloned();
    known.unwrap_or_else(|| {
        let listed = indexed(repo, pack);
        repo.packs.lock().expect("no test panics with it").insert(pack.to_owned(), listed.clone());
        listed
    })
}

fn indexed(repo: &Repo, pack: &[u8]) -> String {
    let bench = &repo.bench().path;
    let (ok, out, errors) = git_in(bench, &["index-pack", "--stdin", "--fix-thin", "--strict"], pack);
    if !ok {
        return format!("bad pack: {errors}");
    }
    let count = u32::from_be_bytes(pack[8..12].try_into().expect("git has read the header"));
    let name = String::from_utf8_lossy(&out).trim().rsplit('\t').next().unwrap_or_default().to_owned();
    let index = std::fs::read(bench.join(format!("objects/pack/pack-{name}.idx"))).expect("git has written it");
    let (_, listed, _) = git_in(bench, &["show-index"], &index);
    let listed = String::from_utf8_lossy(&listed);
    // What git appended to complete the pack comes last.
    let entry =
        |line: &'_ str| Some((line.split(' ').next()?.parse::<u64>().ok()?, line.split(' ').nth(1)?.to_owned()));
    let entries: BTreeMap<u64, String> = listed.lines().filter_map(entry).collect();
    let ids: BTreeSet<&str> = entries.values().take(count as usize).map(String::as_str).collect();
    format!("pack of {count}: {}", ids.into_iter().collect::<Vec<_>>().join(" "))
}

/// An answer without what may differ, such as the agent.
fn comparable(answer: &str) -> String {
    let mut words = Vec::new();
    for line in answer.split('|') {
        let kept: Vec<&str> = line
            .trim_end_matches('\n')
            .split(' ')
            .map(|word| if word.starts_with("agent=") { "agent" } else { word })
            .collect();
        words.push(kept.join(" "));
    }
    // Lines about the boundary have no fixed order, and git repeats some.
    let is_boundary = |word: &String| word.starts_with("shallow ") || word.starts_with("unshallow ");
    words.chunk_by_mut(|a, b| is_boundary(a) && is_boundary(b)).for_each(<[String]>::sort);
    words.dedup_by(|a, b| is_boundary(a) && a == b);
    words.join("|")
}

fn same_advertisement(repo: &Repo, version: Version) {
    let (ours, error) = repo.ours(http(version), &Operation::Advertise(Service::UploadPack), b"");
    assert_eq!(error, None);
    let ours = told(repo, &ours);
    let ours = match ours.strip_prefix("# service=git-upload-pack\n|0000|") {
        Some(ours) if version != Version::V2 => ours,
        None if version == Version::V2 => &ours,
        _ => panic!("the service is named wrongly: {ours}"),
    };
    let theirs = told(repo, &repo.theirs(http(version), true, b"").0);
    assert_eq!(comparable(ours), comparable(&theirs), "{version:?}");
}

/// Sends the same request to both: the answers are the same up to the pack, and the packs have the same objects.
fn same_fetch(repo: &Repo, asked: Asked, lines: &str) -> String {
    let input = repo.packets(lines);
    let (ours, error) = repo.ours(asked, &UPLOAD, &input);
    let (theirs, _) = repo.theirs(asked, false, &input);
    let mut ours = told(repo, &ours);
    if let Some(error) = error {
        ours += &format!("{}ERR {error}", if ours.is_empty() { "" } else { "|" });
    }
    let theirs = told(repo, &theirs);
    assert_eq!(comparable(&ours), comparable(&theirs), "{asked:?} {lines}");
    ours
}

/// The bytes of the pack in an answer, on bands or raw.
fn pack_in(answer: &[u8]) -> Vec<u8> {
    let mut input = answer;
    let mut pack = Vec::new();
    while !input.starts_with(b"PACK") {
        match PacketReader::new(&mut input).next().expect("well formed") {
            None => return pack,
            Some(Packet::Data([1, data @ ..])) => pack.extend_from_slice(data),
            Some(_) => {}
        }
    }
    input.to_vec()
}

#[test]
fn fetches_of_v2_are_gits() {
    let repo = Repo::drawn();
    let check = |lines: &str| {
        same_fetch(&repo, http(Version::V2), &format!("command=fetch|object-format=sha1|0001|{lines}|0000"))
    };
    assert!(check("want <main>|done").contains("packfile\n|pack of 9:"));
    check("want <main>|want <topic>|want <v1>|ofs-delta|thin-pack|done");
    check("want <main>");
    check("want <main>|want <main>|include-tag|done");
    check("want <v1-again>|done");
    check("want <blob>|done");
    check("want <main^{tree}>|want <main:two>|done");
    assert_eq!(check("done"), "");
    assert_eq!(check("have <one>"), "");
    assert!(check("want <topic>|have <main>").contains("|ready\n|0001|packfile\n|pack of 3:"));
    check("want <topic>|have <main>|done|thin-pack|ofs-delta|include-tag");
    check("want <topic>|have <main>|have <one>|have <root>");
    check(&format!("want <topic>|have {}", "1".repeat(40)));
    check(&format!("want <topic>|have {}|have <refs/secret/side>|have <one>", "1".repeat(40)));
    check("want <topic>|have <v1>|have <main^{tree}>");
    check("want <topic>|have <main>|wait-for-done");
    check("have <main>|have <one>|wait-for-done");
    check("wait-for-done|done");
    check("want <refs/secret/side>|have <main>");
    check(&format!("want {}|done", "1".repeat(40)));
}

#[test]
fn fetches_of_v0_are_gits() {
    let repo = Repo::drawn();
    let unknown = "1".repeat(40);
    for acks in ["", "multi_ack", "multi_ack_detailed", "multi_ack_detailed no-done", "no-done"] {
        let check = |want: &str, lines: &str| {
            let request = format!("want <{want}> {acks} side-band-64k {CLONE}\n|0000|{lines}");
            same_fetch(&repo, http(Version::V0), &request);
        };
        check("main", "done");
        check("main", "");
        check("topic", "have <main>|0000");
        check("topic", "have <main>|done");
        check("topic", &format!("have {unknown}|0000"));
        check("topic", &format!("have {unknown}|done"));
        check("topic", &format!("have <main>|have {unknown}|have <refs/secret/side>|0000"));
        check("topic", &format!("have <refs/secret/side>|have {unknown}|0000"));
        check("topic", "have <main>|0000|have <one>|done");
        check("topic", "0000|done");
        // Without multi_ack git also acknowledges what the first common object implies, which its own client takes for
        // the beginning of the pack.
        if acks.starts_with("multi_ack") {
            check("topic", &format!("have {unknown}|have <main>|have <one>|0000"));
            check("topic", "have <v1>|have <v1>|done");
        }
    }
    for bands in ["", "side-band", "side-band side-band-64k"] {
        same_fetch(&repo, http(Version::V1), &format!("want <main> {bands} multi_ack|0000|have <one>|done"));
    }
    same_fetch(&repo, http(Version::V0), "0000");
    same_fetch(&repo, http(Version::V0), &format!("want {unknown} side-band-64k|0000|done"));
    // Reachable from nothing: a commit is refused, a blob is not.
    repo.commit_object("lost", &[]);
    let lost = repo.commit_object("lost", &[]);
    same_fetch(&repo, http(Version::V0), &format!("want {lost} side-band-64k|0000|done"));
    same_fetch(&repo, http(Version::V0), &format!("want {} side-band-64k|0000|done", repo.blob("lost blob")));
    same_fetch(&repo, http(Version::V0), "want <one> side-band-64k|0000|done");
    repo.git(&["config", "uploadpack.hideRefs", "refs/secret"]);
    same_fetch(&repo, http(Version::V0), "want <refs/secret/side> side-band-64k|0000|done");
    for key in ["allowTipSHA1InWant", "allowReachableSHA1InWant", "allowAnySHA1InWant"] {
        repo.git(&["config", &format!("uploadpack.{key}"), "true"]);
        same_fetch(&repo, http(Version::V0), "want <refs/secret/side> side-band-64k|0000|done");
        same_fetch(&repo, http(Version::V0), &format!("want {lost} side-band-64k|0000|done"));
        repo.git(&["config", "--unset", &format!("uploadpack.{key}")]);
    }
}

#[test]
fn conversations_over_pipes_are_gits() {
    let repo = Repo::drawn();
    let unknown = "1".repeat(40);
    for acks in ["", "multi_ack", "multi_ack_detailed", "multi_ack_detailed no-done"] {
        let check = |lines: &str| {
            same_fetch(&repo, pipe(Version::V0), &format!("want <topic> {acks} side-band-64k {CLONE}|0000|{lines}"))
        };
        check("done");
        check(&format!("have {unknown}|0000|have <one>|0000|have {unknown}|done"));
        check(&format!(
            "have {unknown}|0000|have <refs/secret/side>|0000|0000|have {unknown}|have <main>|0000|have <one>|0000|done"
        ));
        check("have <refs/secret/side>|0000|have <main>|0000|done");
    }
    same_fetch(&repo, pipe(Version::V0), "0000");
    same_fetch(&repo, pipe(Version::V1), "0000");
    same_fetch(&repo, pipe(Version::V0), "want <one>|0000|done");
    same_fetch(&repo, pipe(Version::V2), "");
    same_fetch(&repo, pipe(Version::V2), "0000");
    same_fetch(
        &repo,
        pipe(Version::V2),
        "command=ls-refs|0001|ref-prefix HEAD|0000|command=fetch|0001|want <topic>|have <refs/secret/side>|0000|\
         command=fetch|0001|want <topic>|have <main>|done|0000|command=ls-refs|0000",
    );
}

#[test]
fn what_cannot_be_served_is_told() {
    let repo = Repo::drawn();
    let check = |version, lines: &str, expected: &str| {
        let (answer, error) = repo.ours(http(version), &UPLOAD, &repo.packets(lines));
        assert_eq!(error.as_deref(), Some(expected), "{lines}");
        assert_eq!(told(&repo, &answer), "", "{lines}");
    };
    check(Version::V2, "nonsense|0000", "unknown capability 'nonsense'");
    check(Version::V2, "command=object-info|0000", "invalid command 'object-info'");
    check(Version::V2, "command=bundle-uri|0000", "invalid command 'bundle-uri'");
    check(Version::V2, "command=fetch|promisor-remote=x|0000", "unknown capability 'promisor-remote=x'");
    check(Version::V2, "command=fetch|session-id=x|0000", "unknown capability 'session-id=x'");
    check(Version::V2, "command=ls-refs|0001|peel|nonsense|0000", "unexpected line: 'nonsense'");
    check(Version::V2, "command=fetch|0001|filter blob:none|0000", "unexpected line: 'filter blob:none'");
    check(Version::V2, "command=fetch|0001|done", "the remote end hung up unexpectedly");
    check(Version::V0, "deepen|0000", "git upload-pack: protocol error, expected to get object ID, not 'deepen'");
    check(Version::V0, "want <main>|0000|nonsense|0000", "git upload-pack: expected SHA1 list, got 'nonsense'");
    check(Version::V0, "want <main>", "the remote end hung up unexpectedly");
    let unknown = "1".repeat(40);
    let missing = format!("upload-pack: not our ref {unknown}");
    check(Version::V2, &format!("command=fetch|0001|want {unknown}|done|0000"), &missing);
    check(Version::V0, &format!("want {unknown}|0000|done"), &missing);
}

#[test]
fn a_token_reaches_what_refs_show_and_blobs() {
    let repo = Repo::drawn();
    let lost = repo.commit_object("lost", &[]);
    let blob = repo.blob("lost blob");
    repo.git(&["tag", "-a", "-m", "gone", "gone", "main"]);
    let gone = repo.id("gone");
    repo.git(&["tag", "-d", "gone"]);
    let fetch = |want: &str| {
        let answers = [
            (Version::V2, format!("command=fetch|0001|want {want}|done|0000")),
            (Version::V0, format!("want {want} side-band-64k|0000|done")),
        ];
        let told = answers.map(|(version, lines)| {
            let (answer, error) = repo.ours(tokens(version), &UPLOAD, &repo.packets(&lines));
            match error {
                None => told(&repo, &answer).contains("pack of"),
                Some(error) => {
                    let id = repo.packets(want).split_off(4);
                    assert_eq!(error, format!("upload-pack: not our ref {}", String::from_utf8_lossy(&id)));
                    false
                }
            }
        });
        assert_eq!(told[0], told[1], "{want}");
        told[0]
    };
    let may = |wants: &[&str]| wants.iter().map(|want| if fetch(want) { 'y' } else { '-' }).collect::<String>();
    let wants = ["<main>", "<root>", "<v1>", "<v1-again>", "<main^{tree}>", "<refs/secret/side>", &blob, &lost, &gone];
    assert_eq!(may(&wants), "yyyyyyy--");
    repo.git(&["config", "transfer.hideRefs", "refs/secret"]);
    assert_eq!(may(&wants), "yyyyy----");
    for (rule, expected) in
        [("any", "yyyyyyyyy"), ("commits", "yyyyy-y--"), ("reachable", "yyyyy----"), ("advertised", "y-yy-----")]
    {
        repo.git(&["config", "artifacts.wants", rule]);
        assert_eq!(may(&wants), expected, "{rule}");
    }
}

#[test]
fn haves_a_token_may_not_see_are_not_acknowledged() {
    let repo = Repo::drawn();
    let lost = repo.commit_object("lost", &[]);
    repo.git(&["config", "transfer.hideRefs", "refs/secret"]);
    let haves = [
        ("<one>", true),
        ("<v1>", true),
        ("<main^{tree}>", false),
        ("<refs/secret/side>", false),
        (lost.as_str(), false),
    ];
    for (have, expected) in haves {
        let input =
            repo.packets(&format!("command=fetch|0001|want <topic>|want <main>|have {have}|wait-for-done|0000"));
        let (answer, error) = repo.ours(tokens(Version::V2), &UPLOAD, &input);
        assert_eq!(error, None);
        assert_eq!(told(&repo, &answer).contains("ACK "), expected, "{have}");
    }
}

#[test]
fn a_corrupt_repository_breaks_the_pack_off_before_its_last_byte() {
    let repo = Repo::drawn();
    let blob = repo.id("main:two");
    let path = repo.path.join("objects").join(&blob[..2]).join(&blob[2..]);
    std::fs::remove_file(&path).expect("it is loose");
    let input = repo.packets("command=fetch|0001|ofs-delta|want <main>|done|0000");
    let (answer, error) = repo.ours(http(Version::V2), &UPLOAD, &input);
    assert_eq!(error.as_deref(), Some("aborting due to possible repository corruption on the remote side."));
    assert!(!answer.ends_with(b"0000"), "{}", answer.escape_ascii());
}

#[test]
fn the_audit_line_hears_of_a_fetch() {
    let repo = Repo::drawn();
    let repository = repo.open(http(Version::V2));
    let input = repo.packets("command=fetch|agent=git/9|0001|want <topic>|have <main>|have <one>|done|0000");
    let (mut bytes, mut summary) = (Vec::new(), Summary::default());
    let mut out = Out { sink: &mut bytes, channel: &mut ErrorChannel::Status, summary: &mut summary };
    run(&UPLOAD, &repository, &mut Given { left: &input, stateless: true }, &mut out).expect("it can be served");
    assert_eq!((summary.operation, summary.agent.as_deref()), (Some("fetch"), Some("git/9")));
    assert_eq!((summary.wants, summary.haves, summary.objects), (1, 2, 3));
}

#[test]
fn a_pack_that_goes_out_whole_counts_as_reused() {
    let repo = Repo::new();
    let root = repo.commit("root", &[], "main");
    repo.commit("one", &[&root], "main");
    repo.git(&["repack", "-adq"]);
    let repository = repo.open(http(Version::V2));
    let input = repo.packets("command=fetch|0001|ofs-delta|want <main>|done|0000");
    let (mut bytes, mut summary) = (Vec::new(), Summary::default());
    let mut out = Out { sink: &mut bytes, channel: &mut ErrorChannel::Status, summary: &mut summary };
    run(&UPLOAD, &repository, &mut Given { left: &input, stateless: true }, &mut out).expect("it can be served");
    assert!(summary.objects > 0);
    assert_eq!(summary.reused, summary.objects);
    let said = format!("pack-reused {} (from 1)\n", summary.objects);
    assert!(String::from_utf8_lossy(&bytes).contains(&said), "{}", bytes.escape_ascii());
}

#[test]
fn progress_is_told_in_gits_words_unless_the_client_wants_none() {
    let repo = Repo::drawn();
    let messages = |words: &str| {
        let input = repo.packets(&format!("command=fetch|0001|want <main>|{words}done|0000"));
        let (answer, error) = repo.ours(http(Version::V2), &UPLOAD, &input);
        assert_eq!(error, None);
        let mut input = &answer[..];
        let mut reader = PacketReader::new(&mut input);
        let mut messages = String::new();
        while let Some(Packet::Data(line)) = reader.next().expect("well formed") {
            if let [2, text @ ..] = line {
                messages += &String::from_utf8_lossy(text);
            }
        }
        messages
    };
    assert_eq!(messages("no-progress|"), "");
    assert_eq!(
        messages(""),
        "Enumerating objects: 9, done.\nCounting objects: 100% (9/9), done.\n\
         Total 9 (delta 0), reused 0 (delta 0), pack-reused 0 (from 0)\n"
    );
}

/// A small pseudo-random generator: the same seed gives the same requests.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len())]
    }
}

//! The database against repositories that git made.

use super::graph::{Commits, Missing};
use super::walk::{self, Reached};
use super::*;
use crate::stream::Silent;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A repository in a directory of its own, gone with it.
struct Repo {
    root: PathBuf,
    hash: gix_hash::Kind,
}

impl Drop for Repo {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

impl Repo {
    fn new(hash: gix_hash::Kind) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("odb-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let root = std::env::temp_dir().join(name);
        fs::create_dir_all(&root).unwrap();
        let repo = Repo { root, hash };
        let format = if hash == gix_hash::Kind::Sha1 { "sha1" } else { "sha256" };
        repo.git(&["init", "-q", "--bare", "--object-format", format, "."], b"");
        repo
    }

    /// A repository with a history in which files grow, so that git finds deltas; all loose.
    fn with_history(hash: gix_hash::Kind, commits: u32) -> Self {
        let repo = Repo::new(hash);
        repo.import("refs/heads/main", 1, commits);
        repo.git(&["tag", "-a", "-m", "one", "v1", "main"], b"");
        repo.git(&["tag", "-a", "-m", "two", "v2", "v1"], b"");
        repo
    }

    /// Adds commits `from..from + count` to a branch, as loose objects.
    fn import(&self, branch: &str, from: u32, count: u32) {
        let mut stream = String::new();
        for n in from..from + count {
            let time = 1_600_000_000 + n * 60;
            stream += &format!("commit {branch}\ncommitter C <c@example.com> {time} +0000\ndata 2\n{}\n", n % 10);
            if n == from && self.has(branch) {
                stream += &format!("from {branch}^0\n");
            }
            let lines: String =
                (0..200).map(|line| format!("line {line} of {}\n", if line < n { n } else { 0 })).collect();
            stream += &format!("M 100644 inline grows\ndata {}\n{lines}\n", lines.len());
            let small = format!("file {n}\n");
            stream += &format!("M 100644 inline dir/{}/f{n}\ndata {}\n{small}\n", n % 7, small.len());
        }
        self.git(&["-c", "fastimport.unpackLimit=1000000", "fast-import", "--quiet"], stream.as_bytes());
    }

    fn has(&self, name: &str) -> bool {
        self.command(&["rev-parse", "-q", "--verify", name]).stdout(Stdio::null()).status().unwrap().success()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.args(args).current_dir(&self.root).env_clear().env("HOME", &self.root);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("GIT_CONFIG_NOSYSTEM", "1");
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "T").env(format!("GIT_{who}_EMAIL"), "t@example.com");
            command.env(format!("GIT_{who}_DATE"), "1700000000 +0000");
        }
        command
    }

    fn git(&self, args: &[&str], stdin: &[u8]) -> Vec<u8> {
        let mut command = self.command(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let stdin = stdin.to_vec();
        let writer = std::thread::spawn(move || drop(input.write_all(&stdin)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Adds a pack with one blob of its own.
    fn pack_of_one(&self, n: u32) {
        let blob = self.git(&["hash-object", "-t", "blob", "-w", "--stdin"], format!("pack {n}\n").as_bytes());
        self.git(&["pack-objects", "-q", "objects/pack/pack"], &blob);
    }

    fn text(&self, args: &[&str]) -> String {
        String::from_utf8(self.git(args, b"")).unwrap().trim().to_owned()
    }

    fn id(&self, name: &str) -> ObjectId {
        ObjectId::from_hex(self.text(&["rev-parse", name]).as_bytes()).unwrap()
    }

    fn ids(&self, args: &[&str]) -> Vec<ObjectId> {
        self.text(args)
            .lines()
            .map(|line| ObjectId::from_hex(line[..self.hash.len_in_hex()].as_bytes()).unwrap())
            .collect()
    }

    fn commit(&self, parents: &[&str], time: u64) -> String {
        let tree = self.text(&["hash-object", "-t", "tree", "-w", "/dev/null"]);
        let parents: String = parents.iter().map(|parent| format!("parent {parent}\n")).collect();
        let who = format!("C <c@example.com> {time} +0000");
        let text = format!("tree {tree}\n{parents}author {who}\ncommitter {who}\n\nx\n");
        let id = self.git(&["hash-object", "-t", "commit", "-w", "--stdin"], text.as_bytes());
        String::from_utf8(id).unwrap().trim().to_owned()
    }

    fn objects(&self) -> Objects {
        Objects::new(self.hash, vec![self.root.join("objects")])
    }

    /// All objects as git has them.
    fn contents(&self) -> BTreeMap<ObjectId, (String, Vec<u8>)> {
        let batch = self.git(&["cat-file", "--batch-all-objects", "--batch"], b"");
        let mut contents = BTreeMap::new();
        let mut rest = &batch[..];
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap();
            let words: Vec<&str> = std::str::from_utf8(&rest[..end]).unwrap().split(' ').collect();
            let size: usize = words[2].parse().unwrap();
            let content = rest[end + 1..end + 1 + size].to_vec();
            contents.insert(ObjectId::from_hex(words[0].as_bytes()).unwrap(), (words[1].to_owned(), content));
            rest = &rest[end + 1 + size + 1..];
        }
        contents
    }

    fn pack_files(&self, extension: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.root.join("objects/pack")).unwrap();
        let mut files: Vec<_> = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|have| have == extension))
            .collect();
        files.sort();
        files
    }
}

/// Every object is what git says, asked in each way.
fn check(repo: &Repo, objects: &Objects) {
    let contents = repo.contents();
    assert!(contents.len() > 10);
    let mut buffer = b"old".to_vec();
    for (id, (kind, content)) in &contents {
        let header = objects.header(id).unwrap().expect("is there");
        assert_eq!((header.kind.to_string(), header.size), (kind.clone(), content.len() as u64), "{id}");
        let found = objects.find(id, &mut buffer).unwrap().expect("is there");
        assert_eq!((found.to_string(), &buffer), (kind.clone(), content), "{id}");
        let location = objects.locate(id).unwrap().expect("is there");
        buffer.clear();
        assert_eq!(objects.find_at(location, id, &mut buffer).unwrap().to_string(), *kind);
        assert_eq!(&buffer, content, "{id}");
        if let Location::Packed { pack, position } = location {
            let pack = objects.pack(pack);
            assert_eq!(pack.id_at(position).to_owned(), *id);
            let entry = pack.entry(position).unwrap();
            let mut bytes = Vec::new();
            let bytes = pack.bytes(entry.offset..entry.end, &mut bytes).unwrap();
            assert_eq!(pack.crc32_at(position).unwrap_or_else(|| crc32fast::hash(bytes)), crc32fast::hash(bytes));
            assert_eq!(pack.position_at_offset(entry.offset), Some(position));
        }
    }
    let unknown = ObjectId::try_from(&[0x5a; 32][..repo.hash.len_in_bytes()]).unwrap();
    assert_eq!(objects.locate(&unknown).unwrap(), None);
    assert_eq!(objects.header(&unknown).unwrap(), None);
    assert_eq!(objects.find(&unknown, &mut buffer).unwrap(), None);
}

const SHA1: gix_hash::Kind = gix_hash::Kind::Sha1;

#[test]
fn loose_objects_are_found() {
    let repo = Repo::with_history(SHA1, 20);
    check(&repo, &repo.objects());
    let ids: BTreeSet<_> = repo.objects().loose_ids().unwrap().into_iter().collect();
    assert_eq!(ids, repo.contents().into_keys().collect());
}

#[test]
fn one_pack_is_read_with_and_without_its_reverse_index() {
    let repo = Repo::with_history(SHA1, 120);
    repo.git(&["-c", "pack.writeReverseIndex=true", "repack", "-adq"], b"");
    check(&repo, &repo.objects());
    let order = |objects: Objects| objects.pack(objects.packs(true).unwrap()[0]).by_offset().to_vec();
    let with = order(repo.objects());
    for file in repo.pack_files("rev") {
        fs::remove_file(file).unwrap();
    }
    check(&repo, &repo.objects());
    assert_eq!(with, order(repo.objects()));
}

#[test]
fn deltas_by_name_and_long_chains_are_read() {
    let repo = Repo::with_history(SHA1, 150);
    repo.git(&["-c", "repack.useDeltaBaseOffset=false", "repack", "-adfq", "--depth=4000", "--window=200"], b"");
    let pack = repo.pack_files("pack").pop().unwrap();
    assert!(repo.text(&["verify-pack", "-v", pack.to_str().unwrap()]).contains("chain length = 60"));
    check(&repo, &repo.objects());
    let objects = repo.objects();
    objects.set_cache_bytes(0);
    check(&repo, &objects);
}

#[test]
fn an_index_of_version_1_is_read() {
    let repo = Repo::with_history(SHA1, 20);
    repo.git(&["-c", "pack.indexVersion=1", "repack", "-adq"], b"");
    check(&repo, &repo.objects());
}

#[test]
fn sha256_repositories_are_read_in_every_form() {
    let repo = Repo::with_history(gix_hash::Kind::Sha256, 40);
    check(&repo, &repo.objects());
    repo.git(&["repack", "-adq"], b"");
    repo.import("refs/heads/main", 41, 10);
    repo.git(&["repack", "-dq"], b"");
    check(&repo, &repo.objects());
    repo.git(&["multi-pack-index", "write"], b"");
    check(&repo, &repo.objects());
}

#[test]
fn several_packs_are_read_with_and_without_a_multi_pack_index() {
    let repo = Repo::with_history(SHA1, 10);
    for n in 1..8 {
        repo.git(&["repack", "-dq"], b"");
        repo.import("refs/heads/main", n * 10 + 1, 10);
    }
    check(&repo, &repo.objects());
    repo.git(&["multi-pack-index", "write"], b"");
    check(&repo, &repo.objects());
    // New packs beside it, and one of its own gone.
    repo.git(&["repack", "-dq"], b"");
    check(&repo, &repo.objects());
    let objects = repo.objects();
    assert_eq!(objects.packs(true).unwrap().len(), 8);
    let pack = &repo.pack_files("pack")[3];
    let bytes = fs::read(pack).unwrap();
    for extension in ["pack", "idx", "rev"] {
        fs::remove_file(pack.with_extension(extension)).unwrap();
    }
    repo.git(&["unpack-objects", "-q"], &bytes);
    check(&repo, &repo.objects());
}

#[test]
fn three_hundred_packs_are_searched_lazily() {
    let repo = Repo::with_history(SHA1, 12);
    repo.git(&["repack", "-adq"], b"");
    for n in 0..300 {
        repo.pack_of_one(n);
    }
    let objects = repo.objects();
    check(&repo, &objects);
    assert_eq!(objects.packs(true).unwrap().len(), 301);
    repo.git(&["multi-pack-index", "write"], b"");
    check(&repo, &repo.objects());
}

#[test]
fn a_repack_while_open_is_noticed_and_open_packs_stay_readable() {
    let repo = Repo::with_history(SHA1, 30);
    repo.git(&["repack", "-adq"], b"");
    let first = repo.id("main");
    let objects = repo.objects();
    let mut buffer = Vec::new();
    objects.find(&first, &mut buffer).unwrap().unwrap();
    let unknown = ObjectId::from([0x5a; 20]);
    for _ in 0..3 {
        assert_eq!(objects.find(&unknown, &mut buffer).unwrap(), None);
    }
    repo.import("refs/heads/main", 31, 5);
    let loose = repo.id("main");
    assert!(matches!(objects.locate(&loose).unwrap(), Some(Location::Loose(0))));
    let location = objects.locate(&loose).unwrap().unwrap();
    repo.git(&["repack", "-adq"], b"");
    assert!(matches!(objects.locate(&loose).unwrap(), Some(Location::Packed { .. })));
    assert_eq!(objects.find_at(location, &loose, &mut buffer).unwrap(), Kind::Commit);
    objects.find(&first, &mut buffer).unwrap().expect("is still open");
    check(&repo, &objects);
}

#[test]
fn a_pack_that_vanished_before_it_was_opened_is_looked_for_again() {
    let repo = Repo::with_history(SHA1, 10);
    repo.git(&["repack", "-dq"], b"");
    repo.import("refs/heads/main", 11, 10);
    repo.git(&["repack", "-dq"], b"");
    repo.git(&["multi-pack-index", "write"], b"");
    let objects = repo.objects();
    // Read the multi-pack-index and the listing, but open no pack.
    assert_eq!(objects.locate(&ObjectId::from([0x5a; 20])).unwrap(), None);
    repo.git(&["repack", "-adq"], b"");
    check(&repo, &objects);
    assert!(objects.take_warnings().is_empty());
}

#[test]
fn alternates_are_followed_relative_nested_and_once() {
    let origin = Repo::with_history(SHA1, 10);
    let (middle, fork, extra) = (Repo::new(SHA1), Repo::new(SHA1), Repo::with_history(SHA1, 3));
    let name = |repo: &Repo| repo.root.file_name().unwrap().to_str().unwrap().to_owned();
    let write = |repo: &Repo, text: &str| fs::write(repo.root.join("objects/info/alternates"), text).unwrap();
    write(&middle, &format!("# origin\n../../{}/objects\n", name(&origin)));
    let quoted = format!("\"{}/obj\\145cts\"", middle.root.display());
    write(&fork, &format!("{quoted}\n/nowhere/at/all\n{}/objects/\n", origin.root.display()));
    write(&origin, &format!("../../{}/objects\n", name(&fork)));
    let objects = fork.objects();
    check(&origin, &objects);
    let real = |repo: &Repo| repo.root.canonicalize().unwrap().join("objects");
    assert_eq!(objects.alternates().unwrap(), [real(&middle), real(&origin)]);
    assert!(objects.take_warnings()[0].contains("/nowhere/at/all does not exist"));
    assert!(objects.loose_ids().unwrap().is_empty());
    origin.git(&["repack", "-adq"], b"");
    assert!(fork.objects().packs(true).unwrap().is_empty());
    assert_eq!(fork.objects().packs(false).unwrap().len(), 1);
    // A quarantine in front sees all of it, and numbers of packs mean the same.
    let packs = objects.packs(false).unwrap();
    let front = objects.with_front(&extra.root.join("objects"));
    check(&origin, &front);
    check(&extra, &front);
    assert_eq!(front.pack(packs[0]).path(), objects.pack(packs[0]).path());
    assert_eq!(front.directories().unwrap().len(), 4);
    assert_eq!(objects.directories().unwrap().len(), 3);
}

#[test]
fn alternates_are_followed_six_links_deep_as_git_does() {
    let repos: Vec<Repo> = (0..8).map(|_| Repo::new(SHA1)).collect();
    for pair in repos.windows(2) {
        let text = format!("{}/objects\n", pair[1].root.display());
        fs::write(pair[0].root.join("objects/info/alternates"), text).unwrap();
    }
    assert_eq!(repos[1].objects().alternates().unwrap().len(), 6);
    let objects = repos[0].objects();
    assert_eq!(objects.alternates().unwrap().len(), 6);
    assert!(objects.take_warnings()[0].contains("nesting too deep"));
}

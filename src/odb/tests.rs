//! Tests the database on repositories made by git.

use super::graph::{Commits, Missing};
use super::walk::{self, Reached};
use super::*;
use crate::stream::Silent;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

mod many_packs;
mod walks;

/// A repository in a directory of its own, which is deleted when this is dropped.
pub(super) struct Repo {
    pub(super) root: PathBuf,
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
        repo.git(&["init", "-q", "--bare", "--template=", "--object-format", format, "."], b"");
        let mut config = fs::OpenOptions::new().append(true).open(repo.root.join("config")).unwrap();
        config.write_all(b"[core]\n\tfsync = none\n[gc]\n\tauto = 0\n[pack]\n\tthreads = 1\n").unwrap();
        fs::create_dir_all(repo.root.join("objects/info")).unwrap();
        repo
    }

    /// A repository with a history of growing files, so that git finds deltas; all objects are loose.
    pub(super) fn with_history(hash: gix_hash::Kind, commits: u32) -> Self {
        let repo = Repo::new(hash);
        repo.import("refs/heads/main", 1, commits);
        repo.git(&["tag", "-a", "-m", "one", "v1", "main"], b"");
        repo.git(&["tag", "-a", "-m", "two", "v2", "v1"], b"");
        repo
    }

    /// Adds commits `from..from + count` to a branch, as loose objects.
    pub(super) fn import(&self, branch: &str, from: u32, count: u32) {
        let mut stream = String::new();
        for n in from..from + count {
            let time = 1_600_000_000 + n * 60;
            stream += &format!("commit {branch}\ncommitter C <c@example.com> {time} +0000\ndata 2\n{}\n", n % 10);
            if n == from && self.has(branch) {
                stream += &format!("from {branch}^0\n");
            }
            let lines: String =
                (0..100).map(|line| format!("line {line} of {}\n", if line < n { n } else { 0 })).collect();
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
        let mut command = crate::testing::command("git");
        command.args(args).current_dir(&self.root).env("HOME", &self.root).env("GIT_CONFIG_NOSYSTEM", "1");
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "T").env(format!("GIT_{who}_EMAIL"), "t@example.com");
            command.env(format!("GIT_{who}_DATE"), "1700000000 +0000");
        }
        command
    }

    pub(super) fn git(&self, args: &[&str], stdin: &[u8]) -> Vec<u8> {
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

    /// Adds packs with one blob each.
    fn packs_of_one(&self, count: u32) {
        let packs: String =
            (0..count).map(|n| format!("blob\ndata {}\npack {n}\ncheckpoint\n", format!("pack {n}").len())).collect();
        self.git(&["-c", "fastimport.unpackLimit=0", "fast-import", "--quiet"], packs.as_bytes());
    }

    pub(super) fn text(&self, args: &[&str]) -> String {
        String::from_utf8(self.git(args, b"")).unwrap().trim().to_owned()
    }

    pub(super) fn id(&self, name: &str) -> ObjectId {
        ObjectId::from_hex(self.text(&["rev-parse", name]).as_bytes()).unwrap()
    }

    pub(super) fn ids(&self, args: &[&str]) -> Vec<ObjectId> {
        self.text(args)
            .lines()
            .map(|line| ObjectId::from_hex(&line.as_bytes()[..self.hash.len_in_hex()]).unwrap())
            .collect()
    }

    pub(super) fn objects(&self) -> Objects {
        Objects::new(self.hash, vec![self.root.join("objects")])
    }

    /// All objects as git reads them.
    fn contents(&self) -> BTreeMap<ObjectId, (String, Vec<u8>)> {
        // Without the multi-pack-index, which a test may have damaged or an older git may not know.
        let batch = self.git(&["-c", "core.multiPackIndex=false", "cat-file", "--batch-all-objects", "--batch"], b"");
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

/// Checks that every object is as git has it, read in each way.
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
            let offset = pack.offset_at(position);
            let mut bytes = Vec::new();
            let bytes = pack.bytes(offset..pack.ends_of(&[position])[0], &mut bytes).unwrap();
            assert_eq!(pack.crc32_at(position).unwrap_or_else(|| crc32fast::hash(bytes)), crc32fast::hash(bytes));
            assert_eq!(pack.position_at_offset(offset), Some(position));
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
fn of_many_objects_those_that_are_not_there_are_told() {
    let repo = Repo::with_history(gix_hash::Kind::Sha1, 5);
    let all: Vec<ObjectId> = repo.contents().into_keys().collect();
    let objects = repo.objects();
    let unknown: Vec<ObjectId> = (0..9_000_u32)
        .map(|n| {
            let mut id = [7; 20];
            id[..4].copy_from_slice(&n.wrapping_mul(2_654_435_761).to_be_bytes());
            ObjectId::from(id)
        })
        .collect();
    let asked = [&all[..], &unknown, &all, &unknown, &[gix_hash::Kind::Sha1.empty_tree()]].concat();
    let absent: BTreeSet<ObjectId> = objects.absent(&asked).unwrap().into_iter().collect();
    assert_eq!(absent, unknown.iter().copied().collect());
    // Objects packed after folders were listed are found.
    repo.git(&["repack", "-adq"], b"");
    assert!(objects.absent(&all).unwrap().is_empty());
    repo.import("refs/heads/more", 50, 3);
    let more: Vec<ObjectId> = repo.contents().into_keys().filter(|id| !all.contains(id)).collect();
    repo.git(&["repack", "-adq"], b"");
    assert!(!more.is_empty() && objects.absent(&more).unwrap().is_empty());
}

#[test]
fn as_much_of_loose_objects_is_kept_as_of_bases() {
    let repo = Repo::new(SHA1);
    let ids: Vec<ObjectId> = (0..20_u8)
        .map(|n| {
            let hex = repo.git(&["hash-object", "-w", "--stdin"], &[n; 60_000]);
            ObjectId::from_hex(hex.trim_ascii()).unwrap()
        })
        .collect();
    // They are in a directory that only becomes known when it is looked for.
    let borrowing = repo.root.join("borrowing");
    fs::create_dir_all(borrowing.join("info")).unwrap();
    fs::write(borrowing.join("info/alternates"), format!("{}\n", repo.root.join("objects").display())).unwrap();
    let check = |prepare: &dyn Fn(&Objects), expected: usize| {
        let objects = Objects::new(SHA1, vec![borrowing.clone()]);
        prepare(&objects);
        let read = || ids.iter().filter(|id| matches!(objects.find(id, &mut Vec::new()), Ok(Some(_)))).count();
        assert_eq!(read(), ids.len());
        let (there, away) = (repo.root.join("objects"), repo.root.join("away"));
        fs::rename(&there, &away).unwrap();
        fs::create_dir(&there).unwrap();
        let kept = read();
        fs::remove_dir(&there).unwrap();
        fs::rename(away, there).unwrap();
        assert_eq!(kept, expected);
    };
    // Settings apply to a directory whether made before or after it becomes known.
    check(&|objects| objects.expect_bases(), 20);
    check(&|objects| objects.directories().map(|_| objects.expect_bases()).unwrap(), 20);
    check(&|objects| objects.set_cache_bytes(0), 0);
    check(&|objects| objects.directories().map(|_| objects.set_cache_bytes(0)).unwrap(), 0);
}

#[test]
fn one_pack_is_read_with_and_without_its_reverse_index() {
    let repo = Repo::with_history(SHA1, 70);
    repo.git(&["-c", "pack.writeReverseIndex=true", "repack", "-adq"], b"");
    check(&repo, &repo.objects());
    let order = |objects: Objects| objects.pack(objects.packs(true).unwrap()[0]).by_offset().iter().collect::<Vec<_>>();
    let with = order(repo.objects());
    for file in repo.pack_files("rev") {
        fs::remove_file(file).unwrap();
    }
    check(&repo, &repo.objects());
    assert_eq!(with, order(repo.objects()));
}

#[test]
fn entries_end_where_others_begin_with_and_without_a_known_order() {
    let repo = Repo::with_history(SHA1, 40);
    repo.git(&["-c", "pack.writeReverseIndex=true", "repack", "-adq"], b"");
    let ends = |every: usize| {
        let objects = repo.objects();
        let pack = objects.pack(objects.packs(true).unwrap()[0]);
        let mut chosen: Vec<u32> = (0..pack.len()).step_by(every).collect();
        chosen.sort_by_key(|position| pack.offset_at(*position));
        (pack.ends_of(&chosen), pack.body_end())
    };
    let with: Vec<_> = [1, 2, 7, 1000].map(ends).into();
    for file in repo.pack_files("rev") {
        fs::remove_file(file).unwrap();
    }
    let without: Vec<_> = [1, 2, 7, 1000].map(ends).into();
    assert_eq!(with, without);
    assert_eq!(with[0].0.last(), Some(&with[0].1));
}

#[test]
fn deltas_by_name_and_long_chains_are_read() {
    let repo = Repo::with_history(SHA1, 80);
    repo.git(&["-c", "repack.useDeltaBaseOffset=false", "repack", "-adfq", "--depth=4000", "--window=200"], b"");
    let pack = repo.pack_files("pack").pop().unwrap();
    assert!(repo.text(&["verify-pack", "-v", pack.to_str().unwrap()]).contains("chain length = 60"));
    check(&repo, &repo.objects());
    let objects = repo.objects();
    objects.set_cache_bytes(0);
    check(&repo, &objects);
}

#[test]
fn a_long_chain_is_not_put_together_anew_for_each_object_of_it() {
    const DELTAS: usize = 3_000;
    let zlib = |bytes: &[u8]| {
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(bytes).unwrap();
        zlib.finish().unwrap()
    };
    let mut content = b"0123456789abcdef".repeat(4);
    let mut pack = [&b"PACK\0\0\0\x02"[..], &(DELTAS as u32 + 1).to_be_bytes(), &[0xb0, 4], &zlib(&content)].concat();
    let name = |content: &[u8]| gix_object::compute_hash(SHA1, gix_object::Kind::Blob, content).unwrap();
    let (mut ids, mut base) = (vec![name(&content)], 12);
    for _ in 0..DELTAS {
        // Copies all of the one before, and adds a byte.
        let sizes = [content.len(), content.len() + 1].map(|size| [size as u8 | 0x80, (size >> 7) as u8]).concat();
        let delta = [&sizes[..], &[0xb0, content.len() as u8, (content.len() >> 8) as u8, 1, b'x']].concat();
        let here = pack.len();
        pack.extend([0x60 | delta.len() as u8, (here - base) as u8]);
        pack.extend(zlib(&delta));
        base = here;
        content.push(b'x');
        ids.push(name(&content));
    }
    let mut hasher = gix_hash::hasher(SHA1);
    hasher.update(&pack);
    pack.extend_from_slice(hasher.try_finalize().unwrap().as_slice());
    let repo = Repo::new(SHA1);
    repo.git(&["index-pack", "--stdin"], &pack);
    let objects = repo.objects();
    for (n, id) in ids.iter().enumerate().rev() {
        let mut found = Vec::new();
        assert!(objects.find(id, &mut found).unwrap().is_some() && found == content[..64 + n]);
    }
    assert!(objects.applied() < 32 * DELTAS as u64, "{} deltas for {DELTAS} objects", objects.applied());
}

#[test]
fn a_pack_that_cannot_be_mapped_is_read_in_pieces() {
    let repo = Repo::with_history(SHA1, 70);
    let noise: Vec<u8> = (0..50_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    repo.git(&["hash-object", "-w", "--stdin"], &noise);
    repo.git(&["repack", "-adq", "--keep-unreachable"], b"");
    let objects = repo.objects();
    for id in objects.packs(true).unwrap() {
        objects.pack(id).forget_map();
    }
    check(&repo, &objects);
}

#[test]
fn an_index_of_version_1_is_read() {
    let repo = Repo::with_history(SHA1, 20);
    repo.git(&["-c", "pack.indexVersion=1", "repack", "-adq"], b"");
    check(&repo, &repo.objects());
}

#[test]
fn offsets_are_found_in_both_tables_of_an_index() {
    let repo = Repo::with_history(SHA1, 20);
    repo.git(&["-c", "pack.writeReverseIndex=false", "repack", "-adq"], b"");
    for pack in repo.pack_files("pack") {
        fs::remove_file(pack.with_extension("idx")).unwrap();
        repo.git(
            &["-c", "pack.writeReverseIndex=false", "index-pack", "--index-version=2,0x400", pack.to_str().unwrap()],
            b"",
        );
    }
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

/// The offset of a chunk in a file of chunks.
fn chunk_at(bytes: &[u8], id: &[u8; 4]) -> usize {
    let entry = bytes[12..].chunks_exact(12).find(|entry| entry[..4] == *id).unwrap();
    u64::from_be_bytes(entry[4..].try_into().unwrap()) as usize
}

#[test]
fn a_chain_of_commit_graphs_is_used_up_to_a_damaged_layer() {
    let repo = Repo::with_history(SHA1, 10);
    for n in 1..4 {
        repo.git(&["commit-graph", "write", "--reachable", "--split=no-merge"], b"");
        repo.import("refs/heads/main", n * 10 + 1, 10);
    }
    let folder = repo.root.join("objects/info/commit-graphs");
    let chain = fs::read_to_string(folder.join("commit-graph-chain")).unwrap();
    let second = folder.join(format!("graph-{}.graph", chain.lines().nth(1).unwrap()));
    let sound = fs::read(&second).unwrap();
    let check_graph = |commits: u32, warnings: usize, what: &str| {
        let objects = repo.objects();
        assert_eq!(objects.graph().unwrap().len(), commits, "{what}");
        assert_eq!(objects.take_warnings().len(), warnings, "{what}");
        check(&repo, &objects);
    };
    check_graph(30, 0, "whole");
    fs::remove_file(&second).unwrap();
    check_graph(10, 0, "a layer is missing");
    for (at, what) in [(4, "another version"), (5, "another object format"), (7, "another place in the chain")] {
        let mut bytes = sound.clone();
        bytes[at] ^= 3;
        fs::write(&second, bytes).unwrap();
        check_graph(10, 1, what);
        fs::remove_file(&second).unwrap();
    }
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
    // Alternates from the environment come first, and are followed too.
    let mut apart = extra.objects();
    apart.set_borrowed(vec![fork.root.join("objects")]);
    check(&origin, &apart);
    assert_eq!(apart.alternates().unwrap(), [real(&fork), real(&middle), real(&origin)]);
    // A database with a quarantine in front sees all of it, and numbers packs the same.
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

/// A deterministic sequence that looks random.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[test]
fn a_damaged_entry_is_replaced_by_another_copy() {
    let repo = Repo::with_history(SHA1, 40);
    repo.git(&["repack", "-adq"], b"");
    let sound = repo.pack_files("pack").pop().unwrap();
    // Repacked with other deltas, so that the pack gets another name. The new pack is then damaged.
    repo.git(&["-c", "repack.useDeltaBaseOffset=false", "repack", "-adfq", "--depth=5"], b"");
    let other = repo.pack_files("pack").pop().unwrap();
    assert_ne!(sound, other);
    let bytes = fs::read(&other).unwrap();
    let mut damaged = bytes.clone();
    let mut dice = Dice(1);
    for _ in 0..5 {
        let at = 12 + dice.below(damaged.len() as u64 - 32) as usize;
        damaged[at] ^= 0x55;
    }
    fs::remove_file(&other).unwrap();
    fs::write(&other, &damaged).unwrap();
    let contents = {
        let copy = Repo::new(SHA1);
        copy.git(&["unpack-objects", "-q"], &bytes);
        let objects = copy.objects();
        check(&copy, &objects);
        // A second database in the alternates has sound copies, first loose, then packed.
        fs::write(repo.root.join("objects/info/alternates"), format!("{}/objects\n", copy.root.display())).unwrap();
        check_sound(&repo.objects(), &copy.contents());
        copy.git(&["repack", "-adq"], b"");
        check_sound(&repo.objects(), &copy.contents());
        copy.contents()
    };
    fs::remove_file(repo.root.join("objects/info/alternates")).unwrap();
    // Without these copies the damage shows, but only in the damaged objects.
    let objects = repo.objects();
    let mut buffer = Vec::new();
    let mut bad = 0;
    for (id, (_, content)) in &contents {
        match objects.find(id, &mut buffer) {
            Ok(found) => assert!(found.is_some() && buffer == *content),
            Err(error) => {
                assert!(format!("{error:#}").contains(&id.to_string()));
                bad += 1;
            }
        }
    }
    assert!(bad > 0 && bad < contents.len());
    assert!(!objects.take_warnings().is_empty());
}

fn check_sound(objects: &Objects, contents: &BTreeMap<ObjectId, (String, Vec<u8>)>) {
    let mut buffer = Vec::new();
    for (id, (kind, content)) in contents {
        assert_eq!(objects.find(id, &mut buffer).unwrap().unwrap().to_string(), *kind);
        assert_eq!(buffer, *content);
        let header = objects.header(id).unwrap().unwrap();
        assert_eq!((header.kind.to_string(), header.size), (kind.clone(), content.len() as u64));
    }
    assert!(objects.take_warnings().iter().any(|warning| warning.contains("entry at offset")));
}

#[test]
fn a_damaged_loose_object_is_replaced_by_another_copy() {
    let (repo, copy) = (Repo::with_history(SHA1, 3), Repo::with_history(SHA1, 3));
    let id = repo.id("main");
    let path = loose::path(&repo.root.join("objects"), &id);
    let sound = fs::read(&path).unwrap();
    let mut buffer = Vec::new();
    for damaged in [&b""[..], b"no zlib", &sound[..sound.len() - 1], &[&sound[..], b"x"].concat()] {
        fs::remove_file(&path).unwrap();
        fs::write(&path, damaged).unwrap();
        let error = repo.objects().find(&id, &mut buffer).unwrap_err();
        assert!(format!("{error:#}").contains("is corrupt"), "{error:#}");
        let both = Objects::new(SHA1, vec![repo.root.join("objects"), copy.root.join("objects")]);
        assert_eq!(both.find(&id, &mut buffer).unwrap(), Some(Kind::Commit));
        assert_eq!(both.find_at(Location::Loose(0), &id, &mut buffer).unwrap(), Kind::Commit);
    }
}

#[test]
fn a_small_loose_object_is_read_once_and_from_each_directory_its_own() {
    let (repo, copy) = (Repo::with_history(SHA1, 3), Repo::with_history(SHA1, 3));
    let (id, other) = (repo.id("main"), repo.id("main^"));
    let mut buffer = Vec::new();
    let check = |objects: &Objects, expected: Option<&[u8]>, buffer: &mut Vec<u8>| {
        let found = objects.find(&id, buffer).unwrap();
        assert_eq!(found.map(|_| &buffer[..]), expected);
        let size = objects.header(&id).unwrap().map(|header| header.size);
        assert_eq!(size, expected.map(|content| content.len() as u64));
        assert_eq!(objects.contains(&id).unwrap(), expected.is_some());
        if let Some(content) = expected {
            assert_eq!(*objects.share_at(Location::Loose(0), &id).unwrap().1, content);
        }
    };
    let content = repo.git(&["cat-file", "commit", "main"], b"");
    let different = repo.git(&["cat-file", "commit", "main^"], b"");
    // A file that has the content of another object.
    let (lie, place) = (repo.root.join("objects"), copy.root.join("objects"));
    fs::copy(loose::path(&lie, &other), loose::path(&place, &other)).unwrap();
    fs::rename(loose::path(&place, &other), loose::path(&place, &id)).unwrap();
    let objects = repo.objects();
    let front = objects.with_front(&place);
    assert_eq!(objects.header(&id).unwrap().unwrap().size, content.len() as u64);
    check(&front, Some(&different), &mut buffer);
    fs::remove_file(loose::path(&lie, &id)).unwrap();
    check(&objects, Some(&content), &mut buffer);
    check(&front, Some(&different), &mut buffer);
    check(&repo.objects(), None, &mut buffer);
}

#[test]
fn no_damage_to_any_file_of_a_pack_makes_a_panic() {
    let repo = Repo::with_history(SHA1, 12);
    repo.git(&["repack", "-adq"], b"");
    repo.git(&["multi-pack-index", "write"], b"");
    repo.git(&["commit-graph", "write", "--reachable"], b"");
    let contents = repo.contents();
    let mut dice = Dice(2);
    let mut buffer = Vec::new();
    let folder = repo.root.join("objects/pack");
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.push(repo.root.join("objects/info/commit-graph"));
    files.sort();
    for path in files {
        let sound = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        for round in 0..40 {
            let mut bytes = sound.clone();
            match round {
                0 => bytes.truncate(0),
                1 => bytes.truncate(sound.len() / 2),
                2 => bytes.extend([0; 100]),
                _ => {
                    for _ in 0..=dice.below(3) {
                        // Half of the damage is in the headers, where it matters most.
                        let room = if round % 2 == 0 { sound.len() as u64 } else { 1200.min(sound.len() as u64) };
                        bytes[dice.below(room) as usize] =
                            [0, 0xff, 0x80, dice.below(256) as u8][dice.below(4) as usize];
                    }
                }
            }
            fs::write(&path, &bytes).unwrap();
            let mut objects = repo.objects();
            objects.set_object_limit(10 << 20);
            for id in contents.keys() {
                let _ = objects.header(id);
                let _ = objects.find(id, &mut buffer);
            }
            for pack in objects.packs(true).unwrap() {
                let pack = objects.pack(pack);
                for position in 0..pack.len() {
                    let _ = (pack.head_at(pack.offset_at(position)), pack.ends_of(&[position]));
                }
            }
            let _ = walk::reachable_commits(&objects, &[repo_tip(&contents)], &[], &mut Silent);
        }
        fs::write(&path, &sound).unwrap();
    }
    check(&repo, &repo.objects());
}

fn repo_tip(contents: &BTreeMap<ObjectId, (String, Vec<u8>)>) -> ObjectId {
    *contents.iter().find(|(_, (kind, _))| kind == "tag").unwrap().0
}

#[test]
fn an_object_beyond_the_limit_is_refused_by_name_of_the_limit() {
    let repo = Repo::new(SHA1);
    let id = repo.git(&["hash-object", "-w", "--stdin"], &[b'x'; 5000]);
    let id = ObjectId::from_hex(&id[..40]).unwrap();
    let mut buffer = Vec::new();
    for packed in [false, true] {
        let mut objects = repo.objects();
        objects.set_object_limit(5000);
        assert_eq!(objects.find(&id, &mut buffer).unwrap(), Some(Kind::Blob));
        objects.set_object_limit(4999);
        let error = objects.find(&id, &mut buffer).unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&TooLarge { size: 5000, limit: 4999 }), "{error:#}");
        assert_eq!(objects.header(&id).unwrap().unwrap().size, 5000);
        if !packed {
            repo.git(&["pack-objects", "-q", "objects/pack/pack"], format!("{id}\n").as_bytes());
            repo.git(&["prune-packed", "-q"], b"");
        }
    }
}

#[test]
fn of_a_large_tag_only_the_beginning_is_read_for_its_target() {
    let repo = Repo::with_history(SHA1, 3);
    let message = "a line of a message\n".repeat(100_000);
    repo.git(&["tag", "-a", "-F", "-", "large", "main"], message.as_bytes());
    let (main, tag) = (repo.id("main"), repo.id("refs/tags/large"));
    for packed in [false, true] {
        if packed {
            repo.git(&["repack", "-adq"], b"");
        }
        let mut objects = repo.objects();
        // What must be held whole would not fit.
        objects.set_object_limit(1 << 20);
        assert!(objects.find(&tag, &mut Vec::new()).is_err());
        assert_eq!(objects.peel(&tag).unwrap(), Some((main, Kind::Commit)), "packed: {packed}");
        let split = walk::split(&objects, &[tag]);
        assert_eq!((split.commits, split.tags, split.missing), (vec![main], vec![tag], vec![]), "packed: {packed}");
    }
}

#[test]
fn tags_are_peeled_and_names_are_split_by_kind() {
    let repo = Repo::with_history(SHA1, 3);
    let objects = repo.objects();
    let (main, v1, v2) = (repo.id("main"), repo.id("refs/tags/v1"), repo.id("refs/tags/v2"));
    let (tree, blob) = (repo.id("main^{tree}"), repo.id("main:grows"));
    let unknown = ObjectId::from([0x5a; 20]);
    assert_eq!(objects.peel(&v2).unwrap(), Some((main, Kind::Commit)));
    assert_eq!(objects.peel(&tree).unwrap(), Some((tree, Kind::Tree)));
    assert_eq!(objects.peel(&unknown).unwrap(), None);
    let split = walk::split(&objects, &[v2, main, tree, blob, unknown, v1]);
    assert_eq!(split.commits, [main]);
    assert_eq!(split.others, [(tree, Kind::Tree), (blob, Kind::Blob)]);
    assert_eq!(split.tags, [v2, v1]);
    assert_eq!(split.missing, [unknown]);
    let empty = SHA1.empty_tree();
    let mut buffer = vec![1];
    assert_eq!(objects.find(&empty, &mut buffer).unwrap(), Some(Kind::Tree));
    assert!(buffer.is_empty());
}

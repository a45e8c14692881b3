//! Whole packs received into a quarantine: made by git, or by hand where git would not make them.

use super::*;
use crate::pack::checksummed::Trailer;
use crate::repo::quarantine::Quarantine;
use crate::stream::Silent;
use flate2::{Compression, write::ZlibEncoder};
use gix_hash::oid;
use gix_object::Kind;
use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

mod existing;
mod limits;
mod refusals;
mod threads;

/// A bare repository in its own directory, removed on drop.
struct Repo {
    path: PathBuf,
    hash: gix_hash::Kind,
}

impl Drop for Repo {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Repo {
    fn new() -> Self {
        Repo::with(gix_hash::Kind::Sha1)
    }

    fn with(hash: gix_hash::Kind) -> Self {
        let path = std::env::temp_dir().join(crate::durable::unique("incoming-"));
        fs::create_dir(&path).unwrap();
        let repo = Repo { path, hash };
        repo.git(&["init", "--quiet", "--bare", &format!("--object-format={hash}"), "."], b"");
        repo
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = crate::testing::command("git");
        command
            .args(args)
            .current_dir(&self.path)
            .env("HOME", &self.path)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_DIR", &self.path)
            .envs([("GIT_AUTHOR_NAME", "A"), ("GIT_AUTHOR_EMAIL", "a@x"), ("GIT_AUTHOR_DATE", "1000000000 +0000")])
            .envs([("GIT_COMMITTER_NAME", "C"), ("GIT_COMMITTER_EMAIL", "c@x")])
            .env("GIT_COMMITTER_DATE", "1000000000 +0000")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn try_git(&self, args: &[&str], input: &[u8]) -> (bool, Vec<u8>, String) {
        let mut child = self.command(args).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        (output.status.success(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn git(&self, args: &[&str], input: &[u8]) -> Vec<u8> {
        let (success, stdout, stderr) = self.try_git(args, input);
        assert!(success, "git {args:?}: {stderr}");
        stdout
    }

    fn line(&self, args: &[&str], input: &[u8]) -> String {
        String::from_utf8(self.git(args, input)).unwrap().trim().to_owned()
    }

    fn blob(&self, content: &[u8]) -> ObjectId {
        ObjectId::from_hex(self.line(&["hash-object", "-w", "--stdin"], content).as_bytes()).unwrap()
    }

    /// Makes a chain of commits, one for each content of the file `f`, with another file that stays the same; returns
    /// the last.
    fn history(&self, contents: &[Vec<u8>]) -> String {
        let mut stream = Vec::new();
        for (round, content) in contents.iter().enumerate() {
            let file = |name: &str, content: &[u8]| {
                [format!("M 644 inline {name}\ndata {}\n", content.len()).as_bytes(), content, b"\n"].concat()
            };
            let head = "commit refs/heads/made\nauthor A <a@x> 1000000000 +0000\ncommitter C <c@x> 1000000000 +0000\n";
            let message = format!("round {round}");
            stream.extend(format!("{head}data {}\n{message}\n", message.len()).bytes());
            stream.extend(file("f", content));
            stream.extend(file("g", b"stays the same\n"));
        }
        self.git(&["fast-import", "--quiet", "--force"], &stream);
        self.line(&["rev-parse", "refs/heads/made"], b"")
    }

    /// A pack of everything reachable from these revisions.
    fn pack(&self, revisions: &str, options: &[&str]) -> Vec<u8> {
        let mut args = vec!["pack-objects", "--revs", "--stdout", "--quiet"];
        args.extend(options);
        self.git(&args, revisions.as_bytes())
    }

    fn objects_directory(&self) -> PathBuf {
        self.path.join("objects")
    }

    fn objects(&self) -> Objects {
        Objects::new(self.hash, vec![self.objects_directory()])
    }

    fn quarantine(&self) -> Quarantine {
        Quarantine::before(&self.objects(), Vec::new(), None, Sharing::Umask, Sync::Never).unwrap()
    }

    /// Receives a pack into a quarantine, which is returned.
    fn receive(
        &self,
        pack: &[u8],
        adjust: impl FnOnce(&mut ReceiveOptions<'_>),
    ) -> (Result<IncomingPack, UnpackError>, Quarantine) {
        let quarantine = self.quarantine();
        let mut options = ReceiveOptions {
            hash: self.hash,
            directory: quarantine.path(),
            objects: quarantine.objects(),
            unpack_limit: 0,
            max_input_size: None,
            object_size_max: None,
            room: None,
            fsck: None,
            memory: 64 << 20,
            threads: 2,
            reverse_index: true,
            compression: 6,
            sync: Syncs::all(Sync::Never),
            sharing: Sharing::Umask,
            reject_thin: false,
            twice: false,
            keep_message: "receive-pack 1 on host".into(),
        };
        adjust(&mut options);
        let mut body = Bytes { bytes: pack, at: 0, most: 1000 };
        let received = IncomingPack::receive(&mut body, &options, &mut Silent);
        (received, quarantine)
    }

    /// Returns the refusal of a pack, after checking that nothing is left behind.
    fn refuses(&self, pack: &[u8], adjust: impl FnOnce(&mut ReceiveOptions<'_>)) -> UnpackError {
        let before = files(&self.path);
        let (received, quarantine) = self.receive(pack, adjust);
        drop(quarantine);
        assert_eq!(files(&self.path), before, "something was left behind");
        received.expect_err("the pack is accepted")
    }

    fn fsck(&self) {
        let (success, stdout, stderr) = self.try_git(&["fsck", "--strict", "--full", "--no-dangling"], b"");
        let stderr: Vec<&str> = stderr.lines().filter(|line| !line.starts_with("notice: ")).collect();
        assert!(success && stderr.is_empty(), "{}{stderr:?}", String::from_utf8_lossy(&stdout));
    }
}

/// The paths of all files below a directory, sorted.
fn files(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// A body that comes in pieces.
struct Bytes<'a> {
    bytes: &'a [u8],
    at: usize,
    most: usize,
}

impl Read for Bytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = buffer.len().min(self.most).min(self.bytes.len() - self.at);
        buffer[..size].copy_from_slice(&self.bytes[self.at..self.at + size]);
        self.at += size;
        Ok(size)
    }
}

impl Body for Bytes<'_> {
    fn finish(&mut self) -> io::Result<u64> {
        let left = self.bytes.len() - self.at;
        self.at = self.bytes.len();
        Ok(left as u64)
    }
}

/// Builds a pack by hand.
struct Builder {
    hash: gix_hash::Kind,
    bytes: Vec<u8>,
    count: u32,
}

fn deflated(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

impl Builder {
    fn new() -> Self {
        Builder { hash: gix_hash::Kind::Sha1, bytes: b"PACK\0\0\0\x02\0\0\0\0".to_vec(), count: 0 }
    }

    /// Adds an entry; returns its offset.
    fn entry(&mut self, code: u8, size: u64, between: &[u8], stream: &[u8]) -> u64 {
        let offset = self.bytes.len() as u64;
        let mut byte = (code << 4) | (size & 0x0f) as u8;
        let mut rest = size >> 4;
        while rest > 0 {
            self.bytes.push(byte | 0x80);
            byte = (rest & 0x7f) as u8;
            rest >>= 7;
        }
        self.bytes.push(byte);
        self.bytes.extend_from_slice(between);
        self.bytes.extend_from_slice(stream);
        self.count += 1;
        offset
    }

    fn blob(&mut self, content: &[u8]) -> u64 {
        self.whole(Kind::Blob, content)
    }

    fn whole(&mut self, kind: Kind, content: &[u8]) -> u64 {
        self.entry(entries::code_of(kind), content.len() as u64, &[], &deflated(content))
    }

    fn ofs_delta(&mut self, base: u64, delta: &[u8]) -> u64 {
        let mut distance = self.bytes.len() as u64 - base;
        let mut spelled = vec![(distance & 0x7f) as u8];
        while distance >> 7 > 0 {
            distance = (distance >> 7) - 1;
            spelled.insert(0, 0x80 | (distance & 0x7f) as u8);
        }
        self.entry(6, delta.len() as u64, &spelled, &deflated(delta))
    }

    fn ref_delta(&mut self, base: &oid, delta: &[u8]) -> u64 {
        self.entry(7, delta.len() as u64, base.as_bytes(), &deflated(delta))
    }

    fn finish(self) -> Vec<u8> {
        let count = self.count;
        self.finish_with_count(count)
    }

    fn finish_with_count(mut self, count: u32) -> Vec<u8> {
        self.bytes[8..12].copy_from_slice(&count.to_be_bytes());
        with_trailer(self.bytes, self.hash)
    }
}

fn with_trailer(mut bytes: Vec<u8>, hash: gix_hash::Kind) -> Vec<u8> {
    let mut hasher = Trailer::new(hash);
    hasher.update(&bytes);
    bytes.extend_from_slice(hasher.finish().as_slice());
    bytes
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let more = number >> 7 > 0;
        bytes.push((number & 0x7f) as u8 | if more { 0x80 } else { 0 });
        number >>= 7;
        if !more {
            return bytes;
        }
    }
}

/// A delta that appends to a base of `base` bytes, fewer than 64 KiB.
fn appending(base: usize, more: &[u8]) -> Vec<u8> {
    let mut delta = varint(base as u64);
    delta.extend(varint((base + more.len()) as u64));
    if base > 0 {
        delta.extend([0xb0, base as u8, (base >> 8) as u8]);
    }
    for part in more.chunks(127) {
        delta.push(part.len() as u8);
        delta.extend_from_slice(part);
    }
    delta
}

fn id_of(content: &[u8]) -> ObjectId {
    name_of(gix_hash::Kind::Sha1, Kind::Blob, content).unwrap()
}

/// Bytes that do not deflate well, reproducible from the seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// The versions of a file that grows and changes here and there.
fn contents(count: usize) -> Vec<Vec<u8>> {
    let mut lines: Vec<String> = (0..200).map(|line| format!("line {line} of the file\n")).collect();
    (0..count)
        .map(|round| {
            let at = (round * 37) % lines.len();
            lines[at] = format!("changed in round {round}\n");
            lines.push(format!("added in round {round}\n"));
            lines.concat().into_bytes()
        })
        .collect()
}

/// Receives a pack and compares everything stored with what `git index-pack` makes of it.
fn check_like_git(source: &Repo, pack: &[u8], git_options: &[&str], destination: &Repo) {
    let other = Repo::with(source.hash);
    for entry in fs::read_dir(destination.objects_directory().join("pack")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), other.objects_directory().join("pack").join(entry.file_name())).unwrap();
    }
    let mut args = vec!["index-pack", "--stdin", "--rev-index"];
    args.extend(git_options);
    let said = other.line(&args, pack);
    let name = said.split_whitespace().last().unwrap();

    let (received, quarantine) = destination.receive(pack, |_| ());
    let received = received.unwrap();
    assert_eq!(received.bytes, pack.len() as u64);
    let kept = received.kept.unwrap().to_string();
    let ours = |extension: &str| fs::read(quarantine.path().join(format!("pack/pack-{kept}.{extension}"))).unwrap();
    let theirs =
        |extension: &str| fs::read(other.objects_directory().join(format!("pack/pack-{name}.{extension}"))).unwrap();
    if ours("pack").len() > pack.len() {
        // Bases were added, which another zlib deflates differently: compare the objects, and check that the index
        // fits.
        let ids = |idx: Vec<u8>| -> Vec<String> {
            let listed = other.line(&["show-index", &format!("--object-format={}", source.hash)], &idx);
            listed.lines().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect()
        };
        assert_eq!(ids(ours("idx")), ids(theirs("idx")));
        let again = Repo::with(source.hash);
        again.git(&["index-pack", "--stdin", "--rev-index"], &ours("pack"));
        for extension in ["idx", "rev"] {
            let path = again.objects_directory().join(format!("pack/pack-{kept}.{extension}"));
            assert!(ours(extension) == fs::read(path).unwrap(), "{extension} differs from git's");
        }
    } else {
        assert_eq!(kept, name);
        for extension in ["pack", "idx", "rev"] {
            assert!(ours(extension) == theirs(extension), "{extension} differs from git's");
        }
    }
    assert_eq!(ours("keep"), b"receive-pack 1 on host\n");
    quarantine.migrate().unwrap();
    destination.fsck();
}

#[test]
fn a_kept_pack_its_index_and_its_reverse_index_are_gits() {
    for hash in [gix_hash::Kind::Sha1, gix_hash::Kind::Sha256] {
        let source = Repo::with(hash);
        let tip = source.history(&contents(40));
        for options in [&["--delta-base-offset"][..], &[], &["--window=0"], &["--depth=3", "--delta-base-offset"]] {
            check_like_git(&source, &source.pack(&tip, options), &[], &Repo::with(hash));
        }
    }
}

#[test]
fn an_empty_pack_is_kept_or_unpacked_to_nothing() {
    let repo = Repo::new();
    check_like_git(&repo, &Builder::new().finish(), &[], &Repo::new());
    let (received, quarantine) = repo.receive(&Builder::new().finish(), |options| options.unpack_limit = 1);
    assert_eq!(received.unwrap().kept, None);
    assert_eq!(files(quarantine.path()).len(), 1);
}

#[test]
fn version_3_is_accepted_and_others_are_not() {
    let repo = Repo::new();
    let with_version = |version: u8| {
        let mut builder = Builder::new();
        builder.bytes[7] = version;
        builder.blob(b"hello");
        builder.finish()
    };
    check_like_git(&repo, &with_version(3), &[], &Repo::new());
    for version in [0, 1, 4] {
        let error = repo.refuses(&with_version(version), |_| ());
        assert_eq!(error.status, "protocol error (pack version unsupported)");
    }
}

#[test]
fn a_small_pack_becomes_loose_objects() {
    let source = Repo::new();
    let tip = source.history(&contents(6));
    let pack = source.pack(&tip, &["--delta-base-offset"]);
    let count = u32::from_be_bytes(pack[8..12].try_into().unwrap());
    for (limit, loose) in [(u64::from(count), false), (u64::from(count) + 1, true)] {
        let repo = Repo::new();
        let (received, quarantine) = repo.receive(&pack, |options| {
            options.unpack_limit = limit;
            options.sync = Syncs::all(Sync::Together);
        });
        let received = received.unwrap();
        assert_eq!((received.objects, received.kept.is_none()), (count, loose));
        assert_eq!(files(&quarantine.path().join("pack")).is_empty(), loose);
        quarantine.migrate().unwrap();
        repo.fsck();
        repo.git(&["rev-list", "--objects", "--quiet", &tip], b"");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions();
        for path in files(&repo.objects_directory()) {
            let is_keep = path.extension().is_some_and(|extension| extension == "keep");
            assert!(path.is_dir() || is_keep || mode(&path).readonly(), "{path:?}");
        }
    }
}

#[test]
fn a_thin_pack_is_completed_as_git_does_it() {
    for hash in [gix_hash::Kind::Sha1, gix_hash::Kind::Sha256] {
        let source = Repo::with(hash);
        let all = contents(60);
        let old = source.history(&all[..30]);
        let tip = source.history(&all);
        let base = source.pack(&old, &["--delta-base-offset"]);
        for options in [&["--thin", "--delta-base-offset"][..], &["--thin"]] {
            let thin = source.pack(&format!("{tip}\n^{old}\n"), options);
            let destination = Repo::with(hash);
            destination.git(&["index-pack", "--stdin"], &base);
            check_like_git(&source, &thin, &["--fix-thin"], &destination);

            let loose = Repo::with(hash);
            loose.git(&["index-pack", "--stdin"], &base);
            let (received, quarantine) = loose.receive(&thin, |options| options.unpack_limit = 1000);
            assert_eq!(received.unwrap().kept, None);
            quarantine.migrate().unwrap();
            loose.git(&["rev-list", "--objects", "--quiet", &tip], b"");
            loose.fsck();

            // Without the bases.
            let error = Repo::with(hash).refuses(&thin, |_| ());
            assert!(error.detail.ends_with("unresolved deltas"), "{error:?}");
            assert_eq!(error.status, "index-pack abnormal exit");
            let error = Repo::with(hash).refuses(&thin, |options| options.unpack_limit = 1000);
            assert_eq!(error.detail, "unresolved deltas left after unpacking");
            assert_eq!(error.status, "unpack-objects abnormal exit");
        }
    }
}

#[test]
fn a_base_that_is_in_the_pack_is_not_added_again() {
    // The repository has the base, and it is also in the pack, before or after its deltas.
    let (base, result) = (b"the base of it all\n".to_vec(), b"the base of it all\nand more".to_vec());
    for base_first in [true, false] {
        let repo = Repo::new();
        repo.blob(&base);
        let mut builder = Builder::new();
        if base_first {
            builder.blob(&base);
        }
        builder.ref_delta(&id_of(&base), &appending(base.len(), b"and more"));
        // A delta on the result, which is itself a delta.
        builder.ref_delta(&id_of(&result), &appending(result.len(), b"!"));
        if !base_first {
            builder.blob(&base);
        }
        let pack = builder.finish();
        check_like_git(&repo, &pack, &["--fix-thin"], &repo);
        let packs = files(&repo.objects_directory().join("pack"));
        let idx = packs.iter().find(|path| path.extension().is_some_and(|e| e == "idx")).unwrap();
        repo.git(&["verify-pack", idx.to_str().unwrap()], b"");
    }
}

#[test]
fn headers_longer_than_needed_are_kept_as_they_are() {
    // The CRC32 in the index must be over the bytes as they came.
    let repo = Repo::new();
    let mut builder = Builder::new();
    builder.bytes.extend([0xb5, 0x80, 0x80, 0x00]);
    builder.bytes.extend(deflated(b"hello"));
    builder.count = 1;
    let at = builder.bytes.len() as u64;
    builder.ofs_delta(12, &appending(5, b" world"));
    builder.ofs_delta(at, &appending(11, b"!"));
    check_like_git(&repo, &builder.finish(), &[], &Repo::new());
}

#[test]
fn findings_refuse_the_pack_in_gits_words() {
    let repo = Repo::new();
    let blob = id_of(b"");
    let tree = [b"100644 b\0", blob.as_slice(), b"100644 a\0", blob.as_slice()].concat();
    let id = name_of(gix_hash::Kind::Sha1, Kind::Tree, &tree).unwrap();
    let mut builder = Builder::new();
    builder.whole(Kind::Tree, &tree);
    builder.blob(b"");
    let pack = builder.finish();
    for limit in [0, 9] {
        assert!(repo.receive(&pack, |options| options.unpack_limit = limit).0.is_ok());
        let error = repo.refuses(&pack, |options| {
            options.unpack_limit = limit;
            options.fsck = Some(Rules::protecting());
        });
        assert_eq!(error.detail, "fsck error in packed object");
        assert_eq!(error.notes, [format!("error: object {id}: treeNotSorted: not properly sorted")]);
    }
}

#[test]
fn gitmodules_are_checked_wherever_they_come() {
    let repo = Repo::new();
    let modules = b"[submodule \"../x\"]\n\turl = ok\n";
    let tree = [b"100644 .gitmodules\0", id_of(modules).as_slice()].concat();
    let refused = |pack: &[u8], limit: u64| {
        let error = repo.refuses(pack, |options| {
            options.unpack_limit = limit;
            options.fsck = Some(Rules::protecting());
        });
        let expected = format!("error: object {}: gitmodulesName: disallowed submodule name: ../x", id_of(modules));
        assert_eq!(error.notes, [expected]);
    };
    for limit in [0, 9] {
        let mut builder = Builder::new();
        builder.whole(Kind::Tree, &tree);
        builder.blob(modules);
        refused(&builder.finish(), limit);

        // As a delta, and before its tree.
        let mut builder = Builder::new();
        let base = builder.blob(&modules[..10]);
        builder.ofs_delta(base, &appending(10, &modules[10..]));
        builder.whole(Kind::Tree, &tree);
        refused(&builder.finish(), limit);
    }
    // The object exists in the repository already.
    repo.blob(modules);
    let mut builder = Builder::new();
    builder.whole(Kind::Tree, &tree);
    refused(&builder.finish(), 0);
}

/// Lets the n-th disk operation fail, for every n: the push is either refused and leaves nothing, or is complete.
#[cfg(feature = "failpoints")]
#[test]
fn a_failing_disk_leaves_the_old_or_the_new() {
    use crate::durable::failpoints::{Action, arm};
    let source = Repo::new();
    let all = contents(6);
    let old = source.history(&all[..3]);
    let tip = source.history(&all);
    let thin = source.pack(&format!("{tip}\n^{old}\n"), &["--thin", "--delta-base-offset"]);
    let base = source.pack(&old, &["--delta-base-offset"]);
    for limit in [0, 1000] {
        let mut n = 0;
        loop {
            let repo = Repo::new();
            repo.git(&["index-pack", "--stdin"], &base);
            let before = files(&repo.path);
            let armed = arm(&repo.path, n, Action::Fail(io::ErrorKind::StorageFull));
            let quarantine = Quarantine::before(&repo.objects(), Vec::new(), None, Sharing::Umask, Sync::Together);
            let complete = quarantine.is_ok_and(|quarantine| {
                let options = ReceiveOptions {
                    hash: repo.hash,
                    directory: quarantine.path(),
                    objects: quarantine.objects(),
                    unpack_limit: limit,
                    max_input_size: None,
                    object_size_max: None,
                    room: None,
                    fsck: Some(Rules::strict()),
                    memory: 64 << 20,
                    threads: 2,
                    reverse_index: true,
                    compression: 6,
                    sync: Syncs::all(Sync::Together),
                    sharing: Sharing::Umask,
                    reject_thin: false,
                    twice: false,
                    keep_message: "receive-pack 1 on host".into(),
                };
                let mut body = Bytes { bytes: &thin, at: 0, most: 1000 };
                let received = IncomingPack::receive(&mut body, &options, &mut Silent);
                received.is_ok() && quarantine.migrate().is_ok()
            });
            let operations = armed.seen();
            drop(armed);
            repo.fsck();
            if complete {
                repo.git(&["rev-list", "--objects", "--quiet", &tip], b"");
            }
            let left: Vec<PathBuf> = files(&repo.path)
                .into_iter()
                .filter(|path| !before.contains(path) && path.to_string_lossy().contains("tmp_"))
                .collect();
            match operations.get(usize::try_from(n).unwrap()) {
                // If cleaning up fails too, gc finds the rest by its name.
                Some(failed) => {
                    let cleaning = failed.starts_with("unlink ") || failed.starts_with("rmdir ");
                    assert!(left.is_empty() || cleaning, "{failed}: {left:?}");
                }
                None => {
                    assert!(complete && left.is_empty(), "nothing failed, and yet it did: {left:?}");
                    break;
                }
            }
            n += 1;
        }
        assert!(n > 10, "only {n} operations");
    }
}

#[test]
fn objects_that_are_not_worth_their_names_end_the_pack() {
    let repo = Repo::new();
    // The zlib stream never ends, and is not read to its end.
    let mut builder = Builder::new();
    builder.entry(3, 1 << 40, &[], &deflated(&[0; 1000]));
    let error = repo.refuses(&builder.finish(), |options| options.object_size_max = Some(100));
    assert_eq!(error.detail, "pack has objects larger than the limit of 100 bytes (artifacts.maxObjectSize)");
    assert!(error.notes.is_empty());
    let mut builder = Builder::new();
    for number in 0..11 {
        builder.blob(&[number; 101]);
    }
    builder.entry(0, 0, &[], &[]);
    let error = repo.refuses(&builder.finish(), |options| options.object_size_max = Some(100));
    assert!(error.detail.contains("artifacts.maxObjectSize"), "not the entry behind them: {error:?}");
}

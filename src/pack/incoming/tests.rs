//! Whole packs, received into a quarantine: made by git, or by hand where git would not make them.

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

mod threads;

/// A bare repository in a directory of its own, removed at the end.
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
        let mut command = Command::new("git");
        command
            .args(args)
            .current_dir(&self.path)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
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

    /// A commit per content of the file `f` (and one more file that stays), on top of each other; returns the last.
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

    /// A pack of what is reachable from these revisions.
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

    /// Receives into a quarantine, which is handed back.
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
            keep_message: "receive-pack 1 on host".into(),
        };
        adjust(&mut options);
        let mut body = Bytes { bytes: pack, at: 0, most: 1000 };
        let received = IncomingPack::receive(&mut body, &options, &mut Silent);
        (received, quarantine)
    }

    /// The refusal of a pack, after which nothing must be left.
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

/// Names of all files below, sorted.
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

/// A pack by hand.
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

    /// Returns the entry's offset.
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

/// A delta that appends to a base of `base` bytes (fewer than 64 KiB).
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

/// Bytes that do not deflate well, the same for the same seed.
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

/// Contents of a file that grows, with something changed here and there.
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

/// Receives and compares all that is stored with what `git index-pack` makes of the same pack.
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
        // Bases were added, and another zlib deflates them otherwise: the same objects, and an index that fits.
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
fn what_is_no_pack_is_told_in_gits_words() {
    let repo = Repo::new();
    let check = |pack: &[u8], status: &str| assert_eq!(repo.refuses(pack, |_| ()).status, status);
    check(b"", "eof before pack header was fully read");
    check(b"PACK\0\0\0\x02\0\0\0", "eof before pack header was fully read");
    check(b"JACK\0\0\0\x02\0\0\0\0", "protocol error (pack signature mismatch detected)");
    check(b"PACK\0\x01\0\x02\0\0\0\0", "protocol error (pack version unsupported)");
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
            options.sync = Syncs::all(Sync::Now);
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
    // R5: the base is known here, and comes along, before or behind its deltas.
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
fn bytes_behind_the_trailer_are_refused() {
    // R1
    let repo = Repo::new();
    let mut builder = Builder::new();
    builder.blob(b"hello");
    let mut pack = builder.finish();
    for more in [1, 20, 5000, 300_000] {
        pack.extend(vec![0; more]);
        assert_eq!(repo.refuses(&pack, |_| ()).detail, "pack has junk at the end");
        assert_eq!(repo.refuses(&pack, |options| options.unpack_limit = 9).detail, "pack has junk at the end");
    }
}

#[test]
fn a_pack_that_ends_early_is_refused_wherever_it_ends() {
    let source = Repo::new();
    let tip = source.history(&contents(3));
    let pack = source.pack(&tip, &["--delta-base-offset"]);
    let repo = Repo::new();
    for len in 12..pack.len() {
        let error = repo.refuses(&pack[..len], |_| ());
        assert_eq!((&*error.detail, &*error.status), ("early EOF", "index-pack abnormal exit"), "{len}");
    }
}

#[test]
fn a_count_that_lies_is_refused() {
    let repo = Repo::new();
    let with_count = |count: u32| {
        let mut builder = Builder::new();
        builder.blob(b"hello");
        builder.blob(b"world");
        builder.finish_with_count(count)
    };
    assert_eq!(repo.refuses(&with_count(1), |_| ()).detail, "pack is corrupted (SHA1 mismatch)");
    assert_eq!(repo.refuses(&with_count(1), |options| options.unpack_limit = 9).detail, "final sha1 did not match");
    for count in [3, u32::MAX] {
        // The trailer is taken for an entry.
        repo.refuses(&with_count(count), |_| ());
    }
    assert!(repo.receive(&with_count(2), |_| ()).0.is_ok());
}

#[test]
fn a_size_that_lies_is_refused() {
    let repo = Repo::new();
    let with_size = |size: u64| {
        let mut builder = Builder::new();
        builder.entry(3, size, &[], &deflated(b"hello"));
        builder.finish()
    };
    for limit in [0, 9] {
        for size in [0, 1, 4, 6, 100, 1 << 20, 40 << 20, 1 << 40, 1 << 59] {
            let error = repo.refuses(&with_size(size), |options| options.unpack_limit = limit);
            assert!(error.detail.starts_with("pack has bad object at offset 12: inflate returned"), "{error:?}");
        }
        assert!(repo.receive(&with_size(5), |options| options.unpack_limit = limit).0.is_ok());
    }
}

#[test]
fn a_size_of_more_than_64_bits_is_refused() {
    let repo = Repo::new();
    let mut builder = Builder::new();
    builder.bytes.extend([0xb5, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]);
    builder.bytes.extend(deflated(b"hello"));
    builder.count = 1;
    assert_eq!(repo.refuses(&builder.finish(), |_| ()).detail, "object size too large for this platform");
}

#[test]
fn headers_longer_than_needed_are_kept_as_they_are() {
    // R6: the index's CRC32 is over the bytes as they came.
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
fn unknown_types_and_offsets_out_of_the_pack_are_refused() {
    let repo = Repo::new();
    for code in [0, 5] {
        let mut builder = Builder::new();
        builder.entry(code, 5, &[], &deflated(b"hello"));
        let expected = format!("pack has bad object at offset 12: unknown object type {code}");
        assert_eq!(repo.refuses(&builder.finish(), |_| ()).detail, expected);
    }
    let with_distance = |distance: &[u8]| {
        let mut builder = Builder::new();
        builder.blob(b"hello");
        let delta = appending(5, b"!");
        builder.entry(6, delta.len() as u64, distance, &deflated(&delta));
        repo.refuses(&builder.finish(), |_| ()).detail
    };
    let out_of_bound = "delta base offset is out of bound";
    assert!(with_distance(&[0]).ends_with(out_of_bound));
    assert!(with_distance(&[0x7f]).ends_with(out_of_bound));
    assert!(with_distance(&[0xff; 12]).contains("overflow"));
    // Between two entries, and into the header.
    assert_eq!(with_distance(&[1]), "pack has 1 unresolved delta");
    assert_eq!(with_distance(&[17]), "pack has 1 unresolved delta");
}

#[test]
fn deltas_on_each_other_are_refused() {
    let repo = Repo::new();
    let (a, b) = (b"first".to_vec(), b"second".to_vec());
    let mut builder = Builder::new();
    builder.ref_delta(&id_of(&a), &appending(5, b"x"));
    builder.ref_delta(&id_of(&b), &appending(5, b"y"));
    builder.ref_delta(&gix_hash::Kind::Sha1.null(), &appending(5, b"y"));
    let pack = builder.finish();
    assert_eq!(repo.refuses(&pack, |_| ()).detail, "pack has 3 unresolved deltas");
    assert_eq!(repo.refuses(&pack, |o| o.unpack_limit = 9).detail, "unresolved deltas left after unpacking");
}

#[test]
fn a_wrong_trailer_is_refused() {
    let repo = Repo::new();
    let mut builder = Builder::new();
    builder.blob(b"hello");
    let mut pack = builder.finish();
    *pack.last_mut().unwrap() ^= 1;
    assert_eq!(repo.refuses(&pack, |_| ()).detail, "pack is corrupted (SHA1 mismatch)");
}

#[test]
fn the_largest_size_is_obeyed_to_the_byte() {
    let repo = Repo::new();
    let mut builder = Builder::new();
    builder.blob(&noise(1, 2000));
    let pack = builder.finish();
    let len = pack.len() as u64;
    assert!(repo.receive(&pack, |options| options.max_input_size = Some(len)).0.is_ok());
    let error = repo.refuses(&pack, |options| options.max_input_size = Some(len - 1));
    assert!(error.detail.starts_with("pack exceeds maximum allowed size (2.0"), "{error:?}");
    let error = repo.refuses(&pack, |options| options.max_input_size = Some(512));
    assert_eq!(error.detail, "pack exceeds maximum allowed size (512 bytes)");
    let error = repo.refuses(&pack, |options| {
        options.max_input_size = Some(512);
        options.unpack_limit = 9;
    });
    assert_eq!(error.detail, "pack exceeds maximum allowed size");
}

#[test]
fn sizes_are_written_as_git_writes_them() {
    let check = |bytes: u64, expected: &str| assert_eq!(humanised(bytes), expected);
    check(1, "1 byte");
    check(512, "512 bytes");
    check(1024, "1024 bytes");
    check(1536, "1.50 KiB");
    check((1 << 20) + 1, "1.00 MiB");
    check(5 << 20, "5.00 MiB");
    check(3 << 30, "3.00 GiB");
}

#[test]
fn the_same_object_twice_is_accepted_unless_objects_are_checked() {
    let repo = Repo::new();
    let mut builder = Builder::new();
    let first = builder.blob(b"hello");
    let second = builder.blob(b"hello");
    builder.ofs_delta(first, &appending(5, b"!"));
    builder.ofs_delta(second, &appending(5, b"?"));
    let pack = builder.finish();
    check_like_git(&repo, &pack, &[], &Repo::new());

    // A delta by name on one of the two, which git calls resolved twice.
    let mut builder = Builder::new();
    builder.blob(b"hello");
    builder.blob(b"hello");
    builder.ref_delta(&id_of(b"hello"), &appending(5, b"."));
    assert!(repo.receive(&builder.finish(), |_| ()).0.is_ok());
    let error = repo.refuses(&pack, |options| options.fsck = Some(Rules::strict()));
    assert_eq!(error.detail, format!("The same object {} appears twice in the pack", id_of(b"hello")));
    let (received, quarantine) = repo.receive(&pack, |options| options.unpack_limit = 9);
    received.unwrap();
    quarantine.migrate().unwrap();
    repo.fsck();
}

#[test]
fn a_zlib_bomb_fits_into_a_small_budget() {
    let repo = Repo::new();
    let bomb = deflated(&vec![0; 64 << 20]);
    let build = |code: u8| {
        let mut builder = Builder::new();
        builder.entry(code, 64 << 20, &[], &bomb);
        builder.finish()
    };
    for limit in [0, 9] {
        let set = |options: &mut ReceiveOptions<'_>| {
            options.memory = 4 << 20;
            options.unpack_limit = limit;
        };
        let (received, quarantine) = repo.receive(&build(3), set);
        assert_eq!(received.unwrap().objects, 1);
        if limit > 0 {
            quarantine.migrate().unwrap();
            let id = id_of(&vec![0; 64 << 20]).to_string();
            assert_eq!(repo.line(&["cat-file", "-s", &id], b""), (64 << 20).to_string());
            repo.fsck();
        }
    }
    let mut builder = Builder::new();
    builder.entry(7, 64 << 20, &[0; 20], &bomb);
    let error = repo.refuses(&builder.finish(), |options| options.memory = 4 << 20);
    assert_eq!(error.detail, "pack has 1 unresolved delta");
}

#[test]
fn a_delta_that_declares_too_much_is_refused_before_anything_is_allocated() {
    // R3
    let repo = Repo::new();
    let mut builder = Builder::new();
    let base = builder.blob(b"hello");
    let mut delta = varint(5);
    delta.extend(varint(3 << 30));
    delta.extend([0x90, 5]);
    builder.ofs_delta(base, &delta);
    let error = repo.refuses(&builder.finish(), |_| ());
    assert!(error.detail.ends_with("delta on or to an object of 3.00 GiB, the limit is 512.00 MiB"), "{error:?}");
}

#[test]
fn many_large_results_fit_into_the_budget() {
    // R2: each level has two deltas, and the next level hangs on one of them; each result is as large as the base.
    let repo = Repo::new();
    let len = 1_u32 << 20;
    let mut builder = Builder::new();
    let mut base = builder.blob(&vec![7; len as usize]);
    let copies = |level: u8, side: u8| {
        let mut delta = varint(u64::from(len));
        delta.extend(varint(u64::from(len)));
        delta.extend([2, level, side]);
        delta.extend([0xf0, 0xfe, 0xff, 0x0f]);
        delta
    };
    for level in 0..40 {
        let next = builder.ofs_delta(base, &copies(level, 0));
        builder.ofs_delta(base, &copies(level, 1));
        base = next;
    }
    let pack = builder.finish();
    let (received, quarantine) = repo.receive(&pack, |options| options.memory = 6 << 20);
    received.unwrap();
    quarantine.migrate().unwrap();
    repo.fsck();
}

#[test]
fn contents_that_were_given_up_are_made_again() {
    // Bases by name, so that the order is not known before: a path of 60, and at each step a branch of three.
    let repo = Repo::new();
    let mut builder = Builder::new();
    let mut content = noise(3, 20_000);
    let mut deltas = Vec::new();
    builder.blob(&content);
    for level in 0..60_u8 {
        let mut side = content.clone();
        for step in 0..3_u8 {
            let more = [level, step, b's'];
            deltas.push((id_of(&side), appending(side.len(), &more)));
            side.extend(more);
        }
        let more = [level, b'm'];
        deltas.push((id_of(&content), appending(content.len(), &more)));
        content.extend(more);
    }
    for (base, delta) in deltas.iter().rev() {
        builder.ref_delta(base, delta);
    }
    let pack = builder.finish();
    for memory in [128 << 10, 256 << 10, 64 << 20] {
        let (received, quarantine) = repo.receive(&pack, |options| options.memory = memory);
        received.unwrap();
        assert!(quarantine.objects().contains(&id_of(&content)).unwrap());
        quarantine.migrate().unwrap();
        repo.fsck();
    }
}

#[test]
fn objects_larger_than_the_memory_pass_through_files() {
    // A file of 3 MB that changes here and there, received with 2 MB; the limit for one content is then 256 KB.
    let mut content = noise(5, 3 << 20);
    let mut all = Vec::new();
    for round in 0..8 {
        content[round * 300_000] ^= 1;
        content.extend(noise(round as u64 + 6, 1000));
        all.push(content.clone());
    }
    // ... and one of which little is left.
    all.push(content[1000..2000].to_vec());
    let source = Repo::new();
    let old = source.history(&all[..3]);
    let tip = source.history(&all);
    let memory = |options: &mut ReceiveOptions<'_>| options.memory = 2 << 20;
    for format in [&["--delta-base-offset"][..], &[]] {
        let pack = source.pack(&tip, format);
        assert!(pack.len() < 6 << 20, "git makes deltas");
        for limit in [0, 1000] {
            let repo = Repo::new();
            let (received, quarantine) = repo.receive(&pack, |options| {
                memory(options);
                options.unpack_limit = limit;
                options.fsck = Some(Rules::strict());
            });
            received.unwrap();
            assert!(files(quarantine.path()).iter().all(|path| !path.to_string_lossy().contains("/tmp_obj_")));
            quarantine.migrate().unwrap();
            repo.fsck();
            repo.git(&["rev-list", "--objects", "--quiet", &tip], b"");
            if limit == 0 {
                // They exist now.
                repo.receive(&pack, memory).0.unwrap();
            }
        }
    }
    // A base that only the repository has must fit into half of the memory.
    let thin = source.pack(&format!("{tip}\n^{old}\n"), &["--thin", "--delta-base-offset"]);
    let repo = Repo::new();
    repo.git(&["index-pack", "--stdin"], &source.pack(&old, &[]));
    for limit in [0, 1000] {
        let error = repo.refuses(&thin, |options| {
            memory(options);
            options.unpack_limit = limit;
        });
        assert!(error.detail.ends_with("the limit is 1024.00 KiB"), "{error:?}");
        let (received, quarantine) = repo.receive(&thin, |options| {
            options.memory = 8 << 20;
            options.unpack_limit = limit;
        });
        received.unwrap();
        assert!(quarantine.objects().contains(&id_of(&all[7])).unwrap());
        if limit == 0 {
            quarantine.migrate().unwrap();
            repo.fsck();
        }
    }
}

#[test]
fn a_chain_that_is_too_deep_is_refused() {
    let chain = |len: usize| {
        let mut builder = Builder::new();
        let mut base = builder.blob(b"");
        for step in 0..len {
            base = builder.ofs_delta(
                base,
                &[
                    varint(step as u64),
                    varint(step as u64 + 1),
                    if step == 0 { vec![1, b'x'] } else { vec![0xb0, step as u8, (step >> 8) as u8, 1, b'x'] },
                ]
                .concat(),
            );
        }
        builder.finish()
    };
    let repo = Repo::new();
    repo.receive(&chain(4095), |_| ()).0.unwrap();
    let error = repo.refuses(&chain(10_001), |_| ());
    assert!(error.detail.ends_with("chain of deltas is longer than 10000"), "{error:?}");
}

#[test]
fn deltas_that_do_not_fit_their_base_are_refused() {
    let repo = Repo::new();
    let check = |delta: &[u8]| {
        let mut builder = Builder::new();
        let base = builder.blob(b"hello");
        builder.ofs_delta(base, delta);
        let error = repo.refuses(&builder.finish(), |_| ());
        assert!(error.detail.ends_with("failed to apply delta"), "{delta:?}: {error:?}");
    };
    check(&[]);
    check(&[5]);
    check(&[4, 4, 0x90, 4]);
    check(&[5, 6, 0x90, 6]);
    check(&[5, 5, 0x90, 4]);
    check(&[5, 4, 0x90, 5]);
    check(&[5, 1, 0]);
    check(&[5, 1, 2, b'x']);
}

#[test]
fn an_existing_object_with_other_content_is_a_collision() {
    for (there, incoming) in [(&b"HELLO"[..], &b"hello"[..]), (b"longer than hello", b"hello")] {
        let repo = Repo::new();
        let id = id_of(incoming).to_string();
        let path = repo.objects_directory().join(&id[..2]).join(&id[2..]);
        fs::create_dir(path.parent().unwrap()).unwrap();
        let file = [format!("blob {}\0", there.len()).as_bytes(), there].concat();
        fs::write(&path, deflated(&file)).unwrap();
        let mut builder = Builder::new();
        builder.blob(incoming);
        let error = repo.refuses(&builder.finish(), |_| ());
        assert_eq!(error.detail, format!("SHA1 COLLISION FOUND WITH {id} !"));
    }
    // The same content is no collision, packed or loose.
    let repo = Repo::new();
    let tip = repo.history(&contents(5));
    let pack = repo.pack(&tip, &["--delta-base-offset"]);
    for _ in 0..2 {
        let (received, quarantine) = repo.receive(&pack, |_| ());
        received.unwrap();
        quarantine.migrate().unwrap();
    }
    repo.fsck();
}

#[test]
fn an_object_that_exists_is_made_young_and_not_written_again() {
    let repo = Repo::new();
    let id = repo.blob(b"hello").to_string();
    let path = repo.objects_directory().join(&id[..2]).join(&id[2..]);
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    fs::File::open(&path).unwrap().set_modified(old).unwrap();
    let mut builder = Builder::new();
    builder.blob(b"hello");
    let (received, quarantine) = repo.receive(&builder.finish(), |options| options.unpack_limit = 9);
    received.unwrap();
    assert_eq!(files(quarantine.path()).len(), 1, "only the folder of packs");
    assert!(fs::metadata(&path).unwrap().modified().unwrap() > old);
}

#[test]
fn an_object_in_a_pack_is_written_again() {
    let repo = Repo::new();
    repo.blob(b"hello");
    repo.git(&["repack", "--cruft", "-d", "-q"], b"");
    let mut builder = Builder::new();
    builder.blob(b"hello");
    let (received, quarantine) = repo.receive(&builder.finish(), |options| options.unpack_limit = 9);
    received.unwrap();
    assert_eq!(files(quarantine.path()).iter().filter(|path| path.is_file()).count(), 1);
}

#[test]
fn flipped_bytes_never_panic_and_leave_nothing() {
    let source = Repo::new();
    let all = contents(12);
    let old = source.history(&all[..6]);
    let tip = source.history(&all);
    let thin = source.pack(&format!("{tip}\n^{old}\n"), &["--thin", "--delta-base-offset"]);
    let repo = Repo::new();
    repo.git(&["index-pack", "--stdin"], &source.pack(&old, &[]));
    let before = files(&repo.path);
    let body = &thin[..thin.len() - 20];
    for round in 0..400_u64 {
        let random = noise(round + 1, 8);
        let mut bytes = body.to_vec();
        for flip in random.chunks(4).take(1 + (round % 2) as usize) {
            let at = usize::from(u16::from_be_bytes([flip[0], flip[1]])) % bytes.len();
            bytes[at] ^= flip[2] | 1;
        }
        if round % 5 == 0 {
            bytes.truncate(bytes.len() - usize::from(random[7]));
        }
        // With a trailer that is right, so that more is looked at.
        let pack = with_trailer(bytes, gix_hash::Kind::Sha1);
        let (received, quarantine) = repo.receive(&pack, |options| {
            options.unpack_limit = if round % 3 == 0 { 1000 } else { 0 };
            options.fsck = (round % 2 == 0).then(Rules::strict);
        });
        if let Err(error) = received {
            assert!(!error.status.is_empty());
        }
        drop(quarantine);
        assert_eq!(files(&repo.path), before, "round {round}");
    }
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
    // In the repository already.
    repo.blob(modules);
    let mut builder = Builder::new();
    builder.whole(Kind::Tree, &tree);
    refused(&builder.finish(), 0);
}

/// The N-th operation on the disk fails, for every N: the push is refused and leaves nothing, or is complete.
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
            let quarantine = Quarantine::before(&repo.objects(), Vec::new(), None, Sharing::Umask, Sync::Now);
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
                    sync: Syncs::all(Sync::Now),
                    sharing: Sharing::Umask,
                    reject_thin: false,
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
                // What cleans up may fail itself; then gc finds the rest by its name.
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

/// A pack of a commit with `dir/sub/file`, whose blob is `content`.
fn commit_of(content: &[u8]) -> (ObjectId, Vec<u8>) {
    let id = |kind, content: &[u8]| name_of(gix_hash::Kind::Sha1, kind, content).unwrap();
    let mut builder = Builder::new();
    builder.blob(content);
    let blob = id_of(content);
    let mut below = (blob, "100644 file");
    for name in ["40000 sub", "40000 dir", ""] {
        let tree = [below.1.as_bytes(), b"\0", below.0.as_slice()].concat();
        builder.whole(Kind::Tree, &tree);
        below = (id(Kind::Tree, &tree), name);
    }
    let person = "A <a@x> 1000000000 +0000";
    let commit = format!("tree {}\nauthor {person}\ncommitter {person}\n\nm\n", below.0);
    builder.whole(Kind::Commit, commit.as_bytes());
    (blob, builder.finish())
}

#[test]
fn the_largest_object_is_obeyed_to_the_byte_and_named_with_its_path() {
    let repo = Repo::new();
    let content = noise(8, 300_000);
    let (id, pack) = commit_of(&content);
    // In memory, in chunks; kept, loose.
    for (memory, limit) in [(64 << 20, 0), (64 << 20, 9), (1 << 20, 0), (1 << 20, 9)] {
        let set = |options: &mut ReceiveOptions<'_>, max: u64| {
            options.memory = memory;
            options.unpack_limit = limit;
            options.object_size_max = Some(max);
        };
        assert!(repo.receive(&pack, |options| set(options, 300_000)).0.is_ok());
        let error = repo.refuses(&pack, |options| set(options, 299_999));
        assert_eq!(error.notes, [format!("error: object {id} 'dir/sub/file' has 292.97 KiB")]);
        assert_eq!(
            error.detail,
            "pack has objects larger than the limit of 292.97 KiB (artifacts.maxObjectSize)".to_owned()
        );
    }
    // What a delta makes, for which a commit need not come.
    let mut builder = Builder::new();
    let base = builder.blob(b"hello");
    builder.ofs_delta(base, &appending(5, b"!"));
    let pack = builder.finish();
    assert!(repo.receive(&pack, |options| options.object_size_max = Some(6)).0.is_ok());
    let error = repo.refuses(&pack, |options| options.object_size_max = Some(5));
    assert_eq!(error.notes, [format!("error: object {} has 6 bytes", id_of(b"hello!"))]);
    // One that is there already makes nothing larger.
    repo.blob(b"hello!");
    assert!(repo.receive(&pack, |options| options.object_size_max = Some(5)).0.is_ok());
}

#[test]
fn objects_that_are_not_worth_their_names_end_the_pack() {
    let repo = Repo::new();
    // The zlib stream never comes to its end, and is not waited for.
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

#[test]
fn a_full_repository_takes_no_more_to_the_byte() {
    let repo = Repo::new();
    let (_, pack) = commit_of(&noise(9, 5000));
    for limit in [0, 9] {
        let (received, quarantine) = repo.receive(&pack, |options| options.unpack_limit = limit);
        received.unwrap();
        let size = usage::of(quarantine.path()).unwrap();
        let bytes: u64 = files(quarantine.path())
            .iter()
            .filter_map(|path| fs::metadata(path).ok())
            .fold(0, |sum, file| sum + if file.is_file() { file.len() } else { 0 });
        assert_eq!(size, bytes);
        drop(quarantine);
        let set = |options: &mut ReceiveOptions<'_>, max: u64| {
            options.unpack_limit = limit;
            options.room = Some(Room { max, used: 1000 });
        };
        assert!(repo.receive(&pack, |options| set(options, 1000 + size)).0.is_ok());
        let error = repo.refuses(&pack, |options| set(options, 999 + size));
        assert!(error.detail.contains("the pack does not fit (artifacts.maxRepositorySize)"), "{error:?}");
        // What cannot fit is not waited for.
        let error = repo.refuses(&pack[..2000], |options| set(options, 1500));
        assert!(error.detail.contains("(artifacts.maxRepositorySize)"), "{error:?}");
        // A branch for what is there already needs no room.
        let empty = Builder::new().finish();
        assert!(repo.receive(&empty, |options| set(options, 10)).0.is_ok());
    }
}

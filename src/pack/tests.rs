//! Selection and writing, tested on repositories made by git, with git as the judge.

use super::PackStats;
use super::deflate::Levels;
use super::select::{Request, Selection, select};
use super::write::{PackOptions, write};
use crate::odb::Objects;
use crate::odb::closure::{Broken, Closure, Effort, Filter, Missing, Search};
use crate::repo::connectivity::{self, Gap, Terms};
use crate::stream::{Pulse, Silent, Sink};
use bstr::ByteSlice;
use gix_hash::ObjectId;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

mod bitmaps;
mod damage;
mod deltas;
mod filters;
mod random;

use damage::damage;
use random::{Random, random_history};

/// Nothing may be missing, and trees may be as deep as git allows by default.
const TERMS: Terms = Terms { missing: Missing::Refused, tree_depth_max: 2048 };

/// A bare repository in the temporary directory, removed when dropped.
struct Repo {
    dir: PathBuf,
    hash: gix_hash::Kind,
}

impl Drop for Repo {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.dir).ok();
    }
}

impl Repo {
    /// An empty repository, made without running git.
    fn new(hash: gix_hash::Kind) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("artifacts-pack-{}-{number}", std::process::id()));
        for name in ["objects/pack", "objects/info", "refs"] {
            std::fs::create_dir_all(dir.join(name)).unwrap();
        }
        std::fs::write(dir.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        let config = format!("[core]\nrepositoryformatversion = 1\nbare = true\n[extensions]\nobjectformat = {hash}\n");
        std::fs::write(dir.join("config"), config).unwrap();
        Repo { dir, hash }
    }

    /// A repository made by a shell script that runs in a work tree beside it.
    fn made_by(hash: gix_hash::Kind, script: &str) -> Self {
        let repo = Repo::new(hash);
        std::fs::create_dir(repo.dir.join("work")).unwrap();
        repo.script(script);
        repo
    }

    fn command(&self, program: &str) -> Command {
        let mut command = crate::testing::command(program);
        command
            .current_dir(&self.dir)
            .envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null"), ("LC_ALL", "C")])
            .envs([("GIT_AUTHOR_NAME", "A"), ("GIT_AUTHOR_EMAIL", "a@example.com")])
            .envs([("GIT_COMMITTER_NAME", "C"), ("GIT_COMMITTER_EMAIL", "c@example.com")])
            .envs([("GIT_AUTHOR_DATE", "1700000000 +0000"), ("GIT_COMMITTER_DATE", "1700000000 +0000")])
            .env("HOME", &self.dir);
        command
    }

    fn script(&self, script: &str) {
        // `c <name> [parent…]` commits the work tree as refs/heads/<name>, one second after the previous commit; `at
        // <name>` goes back.
        let tools = r#"
            set -e
            export GIT_DIR="$PWD" GIT_WORK_TREE="$PWD/work"
            time=1700000000
            c() {
                name=$1; parents=; shift
                for parent; do parents="$parents -p $parent"; done
                time=$((time + 1)); export GIT_COMMITTER_DATE="$time +0000"
                git add -A .
                git update-ref refs/heads/$name $(git commit-tree -m $name $parents $(git write-tree))
            }
            at() { git read-tree -u --reset $1; }
            cd work
        "#;
        let output = self.command("sh").args(["-c", &format!("{tools}\n{script}")]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn run(&self, args: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
        let mut command = self.command("git");
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let feeder = std::thread::spawn(move || stdin.write_all(&input).is_ok());
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(output.stdout) } else { Err(format!("git {args:?}: {error}")) }
    }

    fn git(&self, args: &[&str]) -> String {
        String::from_utf8(self.run(args, b"").unwrap()).unwrap().trim_end().to_owned()
    }

    fn id(&self, name: &str) -> ObjectId {
        ObjectId::from_hex(self.git(&["rev-parse", "--verify", name]).as_bytes()).unwrap()
    }

    fn ids(&self, names: &[&str]) -> Vec<ObjectId> {
        let ids = self.git(&[&["rev-parse", "--revs-only"], names].concat());
        let ids: Vec<_> = ids.lines().map(|line| ObjectId::from_hex(line.as_bytes()).unwrap()).collect();
        assert_eq!(ids.len(), names.len(), "{names:?}");
        ids
    }

    fn objects(&self) -> Objects {
        Objects::new(self.hash, vec![self.dir.join("objects")])
    }

    /// The objects git would send after a walk.
    fn expected(&self, wants: &[ObjectId], haves: &[ObjectId]) -> BTreeSet<ObjectId> {
        self.listed(wants, haves, &["rev-list", "--objects", "--stdin"])
    }

    /// The objects git would send using bitmaps, which leave out everything reachable from the haves.
    fn expected_at_least(&self, wants: &[ObjectId], haves: &[ObjectId]) -> BTreeSet<ObjectId> {
        self.listed(wants, haves, &["rev-list", "--objects", "--use-bitmap-index", "--stdin"])
    }

    fn listed(&self, wants: &[ObjectId], haves: &[ObjectId], args: &[&str]) -> BTreeSet<ObjectId> {
        let mut input = String::new();
        wants.iter().for_each(|id| input.push_str(&format!("{id}\n")));
        haves.iter().for_each(|id| input.push_str(&format!("^{id}\n")));
        let listed = self.run(args, input.as_bytes()).unwrap();
        let id = |line: &str| ObjectId::from_hex(&line.as_bytes()[..self.hash.len_in_hex()]).unwrap();
        String::from_utf8_lossy(&listed).lines().map(id).collect()
    }

    /// A pack of everything reachable from the haves.
    fn packed(&self, haves: &[ObjectId]) -> Vec<u8> {
        let lines: String = haves.iter().map(|id| format!("{id}\n")).collect();
        self.run(&["pack-objects", "--revs", "--stdout", "-q"], lines.as_bytes()).unwrap()
    }

    /// A new repository that borrows the objects of another one.
    fn on(other: &Repo) -> Self {
        let repo = Repo::new(other.hash);
        std::fs::write(repo.dir.join("objects/info/alternates"), format!("{}/objects\n", other.dir.display())).unwrap();
        repo
    }
}

fn ids(selection: &Selection, objects: &Objects) -> BTreeSet<ObjectId> {
    let mut ids: BTreeSet<_> = selection.strays.iter().map(|stray| stray.id).collect();
    for positions in &selection.packed {
        let pack = objects.pack(positions.pack);
        let set = (0..pack.len()).filter(|at| positions.bits[*at as usize / 64] >> (at % 64) & 1 == 1);
        ids.extend(set.map(|at| pack.id_at(at).to_owned()));
    }
    ids
}

fn options(thin: bool, ofs_delta: bool) -> PackOptions {
    PackOptions {
        thin,
        ofs_delta,
        levels: Levels::all(6),
        threads: 1,
        memory: 64 << 20,
        related_max: PackOptions::RELATED_SENT,
    }
}

fn pack(objects: &Objects, wants: &[ObjectId], common: &[ObjectId], options: &PackOptions) -> (Vec<u8>, PackStats) {
    let request = Request { wants, common, thin: options.thin, ..Request::default() };
    let selection = select(objects, &request, &mut Silent).unwrap();
    let mut out = Vec::new();
    let stats = write(&selection, objects, options, &mut out).unwrap();
    assert_eq!(stats.bytes, out.len() as u64);
    assert_eq!(stats.objects, selection.count);
    (out, stats)
}

/// All combinations of thin and ofs-delta that a client may ask for.
const FORMS: [(bool, bool); 4] = [(false, true), (true, true), (false, false), (true, false)];

/// Checks that our pack is complete for a client that has the haves, contains what git would send, and needs no other
/// bases.
fn check_ids(repo: &Repo, wants: &[ObjectId], haves: &[ObjectId], forms: &[(bool, bool)]) {
    let objects = repo.objects();
    let expected = repo.expected(wants, haves);
    let before = Repo::new(repo.hash);
    before.run(&["index-pack", "--stdin"], &repo.packed(haves)).unwrap();
    for &(thin, ofs_delta) in forms {
        let request = Request { wants, common: haves, thin, ..Request::default() };
        let selection = select(&objects, &request, &mut Silent).unwrap();
        let found = ids(&selection, &objects);
        if found != expected {
            assert!(found.is_subset(&expected), "wants {wants:?} haves {haves:?}");
            assert!(found.is_superset(&repo.expected_at_least(wants, haves)), "wants {wants:?} haves {haves:?}");
        }
        assert_eq!(selection.count as usize, found.len());
        let (bytes, _) = pack(&objects, wants, haves, &options(thin, ofs_delta));
        let client = Repo::on(&before);
        let mut args = vec!["index-pack", "--strict", "--stdin"];
        args.extend(thin.then_some("--fix-thin"));
        client.run(&args, &bytes).unwrap_or_else(|error| panic!("thin {thin}, offsets {ofs_delta}: {error}"));
        assert!(ofs_delta || !has_ofs_deltas(&client), "a base was given by offset");
        let names: String = expected.iter().map(|id| format!("{id}\n")).collect();
        let there = client.run(&["cat-file", "--batch-check"], names.as_bytes()).unwrap();
        assert!(!there.contains_str(" missing\n"), "{}", there.as_bstr());
    }
    assert_eq!(connectivity::check(&objects, wants, haves, TERMS, &mut Silent).unwrap(), Ok(()));
}

/// Whether a repository's packs have OFS_DELTA entries.
fn has_ofs_deltas(repo: &Repo) -> bool {
    let objects = repo.objects();
    objects.packs(true).unwrap().into_iter().map(|id| objects.pack(id)).any(|pack| {
        let kind = |at| pack.head_at(pack.offset_at(at)).unwrap().kind;
        (0..pack.len()).any(|at| matches!(kind(at), crate::odb::EntryKind::OfsDelta(_)))
    })
}

fn check(repo: &Repo, wants: &[&str], haves: &[&str], forms: &[(bool, bool)]) {
    check_ids(repo, &repo.ids(wants), &repo.ids(haves), forms);
}

/// ```text
/// one -- two -- three -- merge -- m2 -- empty
///    \                \ /    \    /  \-- sub
///     side ------------x      \  /    \- revert
///         \             \-- cross
///          \---------------/                other (unrelated)
/// ```
const SHAPES: &str = r#"
    seq 1 400 >big; mkdir -p d/e; echo x >d/e/x; echo y >y; c one
    seq 2 410 >big; echo z >d/z; c two one
    mv y d/y; ln -s d link; c three two
    at one; seq 5 420 >big; echo side >d/e/side; c side one
    at three; echo side >d/e/side; chmod +x big; c merge three side
    seq 1 420 >big; c cross side three
    echo more >>d/z; mv d/e f; c m2 merge cross
    rm -r *; c empty m2
    at m2; git update-index --add --cacheinfo 160000,$(echo nowhere | git hash-object --stdin),sub; mkdir sub; c sub m2
    at m2; seq 1 400 >big; c revert m2
    at empty; seq 3 300 >other; c other
    git tag -a -m ann ann two
    git tag -a -m ann2 ann2 ann
    git tag -a -m treetag treetag one^{tree}
    git tag -a -m blobtag blobtag one:big
"#;

/// Requests on [`SHAPES`].
const REQUESTS: &[(&[&str], &[&str])] = &[
    (&["m2"], &[]),
    (&["m2"], &["two"]),
    (&["m2"], &["three", "side"]),
    (&["m2"], &["merge"]),
    (&["merge"], &["side"]),
    (&["cross", "two"], &["one", "side"]),
    (&["revert"], &["m2"]),
    (&["empty"], &["m2"]),
    (&["sub"], &["m2"]),
    (&["sub", "empty"], &[]),
    (&["ann2"], &["one"]),
    (&["ann2"], &["two"]),
    (&["ann"], &["ann2"]),
    (&["treetag", "blobtag"], &[]),
    (&["treetag"], &["blobtag"]),
    (&["one^{tree}"], &[]),
    (&["one:big", "two:d"], &["one"]),
    (&["two:d"], &["one^{tree}"]),
    (&["m2", "ann2", "treetag"], &["side"]),
    (&["other", "m2"], &["three"]),
    (&["one", "two"], &["m2"]),
    (&["m2"], &["other"]),
];

/// The requests that reach the most code.
const FEW: &[(&[&str], &[&str])] = &[
    (&["m2", "ann2", "treetag", "blobtag", "sub", "empty", "other", "revert"], &[]),
    (&["m2"], &["two"]),
    (&["merge"], &["side"]),
    (&["revert"], &["m2"]),
];

fn check_stored_as(hash: gix_hash::Kind, arrange: &str) {
    let repo = Repo::made_by(hash, &format!("{SHAPES}\n{arrange}"));
    for (at, (wants, haves)) in FEW.iter().enumerate() {
        check(&repo, wants, haves, &[FORMS[at % 2], FORMS[2 + at % 2]]);
    }
}

#[test]
fn loose_objects_of_every_shape_are_sent_as_git_would() {
    let repo = Repo::made_by(gix_hash::Kind::Sha1, SHAPES);
    for (wants, haves) in REQUESTS {
        check(&repo, wants, haves, &FORMS[..1]);
    }
}

#[test]
fn packed_objects_of_every_shape_are_sent_as_git_would() {
    let repo = Repo::made_by(gix_hash::Kind::Sha1, &format!("{SHAPES}\ngit repack -adq"));
    for (wants, haves) in REQUESTS {
        check(&repo, wants, haves, &FORMS[1..2]);
    }
}

#[test]
fn deltas_by_name_are_stored_in_some_packs() {
    check_stored_as(gix_hash::Kind::Sha1, "git -c repack.usedeltabaseoffset=false repack -adq");
}

#[test]
fn indexes_of_version_1_have_no_checksums() {
    check_stored_as(gix_hash::Kind::Sha1, "git -c pack.indexversion=1 repack -adq");
}

#[test]
fn a_repository_may_use_sha256() {
    check_stored_as(gix_hash::Kind::Sha256, "git repack -adq");
}

#[test]
fn objects_in_several_packs_are_sent_once() {
    let arrange = r#"
        for tip in one two merge m2; do git rev-list --objects $tip | git pack-objects -q ../objects/pack/pack >/dev/null; done
        git rev-list --objects two --not one | git pack-objects -q ../objects/pack/pack >/dev/null
        git prune-packed -q
    "#;
    check_stored_as(gix_hash::Kind::Sha1, arrange);
    check_stored_as(gix_hash::Kind::Sha1, &format!("{arrange}\ngit multi-pack-index write"));
}

#[test]
fn a_commit_graph_is_believed() {
    check_stored_as(gix_hash::Kind::Sha1, "git repack -adq; git commit-graph write --reachable");
}

#[test]
fn a_commit_graph_may_lag_behind() {
    check_stored_as(gix_hash::Kind::Sha1, "git rev-parse two | git commit-graph write --stdin-commits");
}

#[test]
fn objects_may_lie_in_another_repository() {
    let origin = Repo::made_by(gix_hash::Kind::Sha1, &format!("{SHAPES}\ngit repack -adq"));
    let repo = Repo::on(&origin);
    repo.run(&["fetch", "-q", origin.dir.to_str().unwrap(), "refs/*:refs/*"], b"").unwrap();
    std::fs::create_dir(repo.dir.join("work")).unwrap();
    repo.script("at m2; seq 1 450 >big; c new m2");
    check(&repo, &["new", "ann2"], &[], &FORMS);
    check(&repo, &["new"], &["two"], &FORMS);
}

#[test]
fn a_whole_pack_goes_out_as_it_is() {
    let repo = Repo::made_by(gix_hash::Kind::Sha1, &format!("{SHAPES}\ngit repack -adq"));
    let objects = repo.objects();
    let [id] = objects.packs(true).unwrap()[..] else { panic!("git left more than one pack") };
    let stored = std::fs::read(objects.pack(id).path()).unwrap();
    let tips = repo.git(&["for-each-ref", "--format=%(objectname)"]);
    let tips: Vec<_> = tips.lines().map(|line| ObjectId::from_hex(line.as_bytes()).unwrap()).collect();
    let (bytes, stats) = pack(&objects, &tips, &[], &options(true, true));
    assert!(bytes == stored);
    assert_eq!(stats.pack_reused, stats.objects);
    // OFS_DELTA entries must be rewritten for a client that cannot read them.
    let (bytes, stats) = pack(&objects, &tips, &[], &options(true, false));
    assert!(bytes != stored);
    assert_eq!((stats.pack_reused, stats.reused), (0, stats.objects));
    assert!(stats.reused_deltas > 0);
}

#[test]
fn who_waits_for_a_pack_has_its_beginning_before_anything_is_made() {
    /// An answer, and its length at each flush.
    #[derive(Default)]
    struct Heard(Vec<u8>, Vec<usize>);
    impl Write for Heard {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            self.1.push(self.0.len());
            Ok(())
        }
    }
    impl Pulse for Heard {
        fn tick(&mut self, _done: u64) -> std::io::Result<()> {
            Ok(())
        }
    }
    impl Sink for Heard {}
    // Old versions are deltas on the newest one, which is not wanted.
    let repo = Repo::made_by(
        gix_hash::Kind::Sha1,
        r#"
        for line in $(seq 300); do echo $line $(echo $line | sha1sum); done >file; c v0
        for n in $(seq 20); do sed -i "$((n * 12))s/.*/changed $n/" file; c v$n v$((n - 1)); done
        git repack -adfq --depth=1
        "#,
    );
    let objects = repo.objects();
    let heard = |wants: &[&str], haves: &[&str]| {
        let (wants, common) = (repo.ids(wants), repo.ids(haves));
        let request = Request { wants: &wants, common: &common, thin: true, ..Request::default() };
        let selection = select(&objects, &request, &mut Silent).unwrap();
        let mut heard = Heard::default();
        write(&selection, &objects, &options(true, true), &mut heard).unwrap();
        heard
    };
    let Heard(bytes, at) = heard(&["v18"], &["v0"]);
    assert!(matches!(at[..], [once] if once >= 12 && once + 100 < bytes.len()), "{at:?} of {}", bytes.len());
    // A few deltas are made quickly, and copying takes no time.
    assert_eq!([heard(&["v5"], &["v2"]).1, heard(&["v20"], &[]).1], [Vec::<usize>::new(), Vec::new()]);
}

#[test]
fn tags_follow_what_they_point_to() {
    let repo = Repo::made_by(gix_hash::Kind::Sha1, SHAPES);
    let objects = repo.objects();
    let tags = [(repo.id("ann2"), repo.id("two")), (repo.id("blobtag"), repo.id("one:big"))];
    let check = |wants: &[&str], haves: &[&str], expected: &[&str]| {
        let (wants, haves) = (repo.ids(wants), repo.ids(haves));
        let request = Request { wants: &wants, common: &haves, tags: &tags, ..Request::default() };
        let selection = select(&objects, &request, &mut Silent).unwrap();
        let tags = &ids(&selection, &objects) - &repo.expected(&wants, &haves);
        assert_eq!(tags, repo.ids(expected).into_iter().collect());
        assert_eq!(selection.count as usize, ids(&selection, &objects).len());
    };
    check(&["three"], &["one"], &["ann", "ann2"]);
    check(&["three"], &[], &["ann", "ann2", "blobtag"]);
    check(&["three", "ann"], &["one"], &["ann2"]);
    check(&["three"], &["two"], &[]);
}

#[test]
fn connectivity_walks_what_exists_but_no_known_tip_reaches() {
    let repo =
        Repo::made_by(gix_hash::Kind::Sha1, &format!("{SHAPES}\ngit repack -adq\nat m2; echo new >d/new; c new m2"));
    let missing = repo.id("new:d/new");
    let hex = missing.to_string();
    std::fs::remove_file(repo.dir.join("objects").join(&hex[..2]).join(&hex[2..])).unwrap();
    let objects = repo.objects();
    let known = repo.ids(&["one", "two", "m2", "ann"]);
    let check = |tip: &str, known: &[ObjectId]| {
        connectivity::check(&objects, &[repo.id(tip)], known, TERMS, &mut Silent).unwrap()
    };
    assert_eq!(check("new", &known), Err(Gap::Object(missing)));
    assert_eq!(check("new", &[]), Err(Gap::Object(missing)));
    assert_eq!(check("new^{tree}", &known), Err(Gap::Object(missing)));
    assert_eq!(check("new:d", &known), Err(Gap::Object(missing)));
    assert_eq!(check("three", &known), Ok(()));
    assert_eq!(check("ann2", &known), Ok(()));
    assert_eq!(check("blobtag", &known), Ok(()));
    assert_eq!(
        connectivity::check(&objects, &[missing], &known, TERMS, &mut Silent).unwrap(),
        Err(Gap::Object(missing))
    );
}

#[test]
fn connectivity_ends_soon_among_many_tips() {
    // A tip far behind the known ones is found by walking from both sides.
    let repo = Repo::new(gix_hash::Kind::Sha1);
    let mut stream = String::new();
    for number in 1..=600 {
        stream.push_str(&format!(
            "commit refs/heads/main\nmark :{number}\ncommitter C <c@e> {} +0000\ndata 1\nx\nM 644 inline f{}\ndata 2\n{}\n",
            1_700_000_000 + number,
            number % 7,
            number % 10
        ));
    }
    stream.push_str("reset refs/heads/old\nfrom :20\n\n");
    repo.run(&["fast-import", "--quiet", "--force"], stream.as_bytes()).unwrap();
    let objects = repo.objects();
    let ticks = |tip: &str| {
        let mut pulse = Count(0);
        let known = repo.ids(&["main"]);
        assert_eq!(connectivity::check(&objects, &[repo.id(tip)], &known, TERMS, &mut pulse).unwrap(), Ok(()));
        pulse.0
    };
    assert!(ticks("main") < 5);
    assert!(ticks("old") < 1500);

    struct Count(u64);
    impl crate::stream::Pulse for Count {
        fn tick(&mut self, _done: u64) -> std::io::Result<()> {
            self.0 += 1;
            Ok(())
        }
    }
}

#[test]
fn large_loose_objects_pass_through_in_pieces() {
    let repo = Repo::made_by(gix_hash::Kind::Sha1, "seq 1 1600000 >big; c one");
    let objects = repo.objects();
    let wants = repo.ids(&["one"]);
    assert!(objects.header(&repo.id("one:big")).unwrap().unwrap().size > 8 << 20);
    let (bytes, _) = pack(&objects, &wants, &[], &PackOptions { levels: Levels::all(1), ..options(false, true) });
    let client = Repo::new(gix_hash::Kind::Sha1);
    client.run(&["index-pack", "--strict", "--stdin"], &bytes).unwrap();
    assert_eq!(client.git(&["cat-file", "-s", &repo.id("one:big").to_string()]), "11688896");
}

#[test]
fn a_pack_that_is_kept_has_deltas_between_large_objects_as_far_as_memory_allows() {
    let repo = Repo::made_by(gix_hash::Kind::Sha1, "seq 1 1300000 >big; c one; echo more >>big; c two one");
    let wants = repo.ids(&["two"]);
    let packed = |related_max: u64| {
        let options = PackOptions { levels: Levels::all(1), related_max, ..options(false, true) };
        let (bytes, stats) = pack(&repo.objects(), &wants, &[], &options);
        let client = Repo::new(gix_hash::Kind::Sha1);
        client.run(&["index-pack", "--strict", "--stdin"], &bytes).unwrap();
        (stats.deltas, bytes.len())
    };
    let (apart, large) = packed(PackOptions::related_kept(1 << 20));
    let (related, small) = packed(PackOptions::related_kept(256 << 20));
    assert_eq!((apart, related), (0, 1));
    assert!(small < large * 2 / 3, "{small} of {large} bytes");
}

#[test]
fn a_large_loose_object_that_is_packed_meanwhile_goes_out_all_the_same() {
    for large_is_whole in [true, false] {
        let repo = Repo::made_by(gix_hash::Kind::Sha1, "seq 1 1300000 >big; c one; echo more >>big; c two one");
        let objects = repo.objects();
        let wants = repo.ids(&["one", "two"]);
        let request = Request { wants: &wants, ..Request::default() };
        let selection = select(&objects, &request, &mut Silent).unwrap();
        let threshold = if large_is_whole { "1m" } else { "1g" };
        repo.git(&["-c", &format!("core.bigFileThreshold={threshold}"), "repack", "-adq"]);
        let mut bytes = Vec::new();
        let options = PackOptions { levels: Levels::all(1), ..options(false, true) };
        write(&selection, &objects, &options, &mut bytes).unwrap();
        let client = Repo::new(gix_hash::Kind::Sha1);
        client.run(&["index-pack", "--strict", "--stdin"], &bytes).unwrap();
        for name in ["one:big", "two:big"] {
            client.git(&["cat-file", "-e", &repo.id(name).to_string()]);
        }
    }
}

#[test]
fn what_is_too_large_for_a_delta_is_copied_and_not_read() {
    let repo = Repo::made_by(gix_hash::Kind::Sha1, "seq 1 1300000 >big; c one; echo more >>big; c two one");
    repo.git(&["-c", "core.bigFileThreshold=1m", "-c", "pack.indexVersion=1", "repack", "-adq"]);
    let mut objects = repo.objects();
    objects.set_object_limit(1 << 20);
    // It is not held in memory either where zlib's checksum is the only one.
    let options = PackOptions { memory: 1 << 20, ..options(true, true) };
    let (bytes, stats) = pack(&objects, &repo.ids(&["two"]), &repo.ids(&["one"]), &options);
    assert!(stats.reused > 0, "{stats:?}");
    let client = Repo::new(gix_hash::Kind::Sha1);
    client.run(&["index-pack", "--stdin"], &repo.packed(&repo.ids(&["one"]))).unwrap();
    client.run(&["index-pack", "--fix-thin", "--stdin"], &bytes).unwrap();
    client.git(&["cat-file", "-e", &repo.id("two:big").to_string()]);
}

#[test]
fn threads_make_the_same_pack_and_fail_with_the_same_words() {
    // Each version is loose, or a delta on one that is not sent, so that more than a hundred must be made.
    let history = "seq 1 300 >a; c one
        for i in $(seq 1 150); do seq $i 300 >a; echo $i >b$((i % 7)); c v$i $(git rev-parse HEAD || :); done";
    let history = history.replace("$(git rev-parse HEAD || :)", "one");
    for (pack_it, loose) in [("git repack -adq; git update-ref -d refs/heads/v150", false), ("", true)] {
        let repo = Repo::made_by(gix_hash::Kind::Sha1, &format!("{history}\n{pack_it}"));
        let names: Vec<String> = (1..150).filter(|i| i % 2 == 1).map(|i| format!("v{i}")).collect();
        let wants = repo.ids(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let packed = |threads: usize| {
            let objects = repo.objects();
            let request = Request { wants: &wants, ..Request::default() };
            let selection = select(&objects, &request, &mut Silent).unwrap();
            let mut out = Vec::new();
            let options = PackOptions { threads, ..options(false, true) };
            write(&selection, &objects, &options, &mut out).map(|stats| (out, stats))
        };
        let (alone, stats) = packed(1).unwrap();
        assert!(stats.objects - stats.reused > 100, "{stats:?}");
        let client = Repo::new(gix_hash::Kind::Sha1);
        client.run(&["index-pack", "--strict", "--stdin"], &alone).unwrap();
        for threads in [2, 5] {
            assert!(packed(threads).unwrap() == (alone.clone(), stats), "{threads} threads, loose: {loose}");
        }
        let id = repo.id("v99:a").to_string();
        if loose {
            let file = repo.dir.join("objects").join(&id[..2]).join(&id[2..]);
            std::fs::remove_file(&file).unwrap();
            std::fs::write(&file, b"x\x9c rubbish").unwrap();
        } else {
            damage(&repo, &repo.id("v99:a"));
        }
        let error = |threads| format!("{:#}", packed(threads).unwrap_err());
        assert_eq!(error(3), error(1));
        assert!(error(3).contains(&id), "{}", error(3));
    }
}

#[test]
fn a_version_that_is_too_large_for_threads_carries_a_delta_all_the_same() {
    // All objects are loose. The large ones have about a mebibyte, some of them less and some more.
    let history = "last=; for i in $(seq 1 70); do seq $i 200 >a; c v$i $last; last=v$i; done; rm a
        for size in 66 55 67 54 68; do seq -f 'line %.0f of many' 1 ${size}000 >big; c big$size $last; last=big$size; done";
    let repo = Repo::made_by(gix_hash::Kind::Sha1, history);
    let wants = repo.ids(&["big68"]);
    let packed = |threads: usize| pack(&repo.objects(), &wants, &[], &PackOptions { threads, ..options(false, true) });
    let alone = packed(1);
    let large = repo.ids(&["big68:big", "big67:big", "big66:big", "big55:big", "big54:big"]);
    let sizes = large.iter().map(|id| repo.objects().header(id).unwrap().unwrap().size);
    assert_eq!(sizes.map(|size| size > 1 << 20).collect::<Vec<_>>(), [true, true, true, false, false]);
    assert!(alone.1.deltas >= 72, "all but the first are deltas: {:?}", alone.1);
    assert!(packed(3) == alone);
}

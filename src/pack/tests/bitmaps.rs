//! Bitmaps: git reads those we write, and we read those that either wrote.

use super::*;
use crate::odb::bitmap::write::{Files, NotClosed, Summary, for_midx, for_pack};
use crate::odb::bitmap::{Bits, Order};
use sha1::Digest;

impl Repo {
    /// The objects that refs point to.
    fn tips(&self) -> Vec<ObjectId> {
        let tips = self.git(&["for-each-ref", "--format=%(objectname)"]);
        tips.lines().map(|line| ObjectId::from_hex(line.as_bytes()).unwrap()).collect()
    }

    /// git's output when it should use bitmaps, and whether it did.
    fn by_bitmaps(&self, args: &[&str], input: &str) -> (String, bool) {
        let events = self.dir.join("events");
        let mut command = self.command("git");
        command.args(args).env("GIT_TRACE2_EVENT", &events).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "git {args:?}");
        let text = std::fs::read_to_string(&events).unwrap();
        std::fs::remove_file(events).unwrap();
        (String::from_utf8(output.stdout).unwrap(), text.contains("bitmap/hits"))
    }
}

/// Writes bitmaps for the only pack.
pub(super) fn write_for_pack(repo: &Repo) -> Summary {
    let objects = repo.objects();
    let [pack] = objects.packs(true).unwrap()[..] else { panic!("git left more than one pack") };
    for_pack(&objects, pack, &repo.tips(), Files::default(), &mut Silent).unwrap()
}

/// Checks that git uses the bitmaps, and that they are correct.
fn check_by_git(repo: &Repo) {
    let heads = repo.git(&["for-each-ref", "--format=%(refname)", "refs/heads"]);
    for head in heads.lines() {
        repo.git(&["rev-list", "--test-bitmap", head]);
    }
    let args = ["rev-list", "--objects", "--use-bitmap-index", "--all"];
    let (listed, used) = repo.by_bitmaps(&args, "");
    assert!(used, "git has used no bitmaps");
    let ids = |text: &str| text.lines().map(|line| line[..repo.hash.len_in_hex()].to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(ids(&listed), ids(&repo.git(&["rev-list", "--objects", "--all"])));
}

#[test]
fn git_reads_the_bitmaps_of_a_pack() {
    for hash in [gix_hash::Kind::Sha1, gix_hash::Kind::Sha256] {
        let repo = Repo::made_by(hash, &format!("{SHAPES}\ngit repack -adq"));
        let summary = write_for_pack(&repo);
        assert_eq!(summary.path.metadata().unwrap().len(), summary.bytes);
        check_by_git(&repo);
        assert!(repo.objects().bitmaps(u64::MAX).unwrap().is_some());
        REQUESTS.iter().for_each(|(wants, haves)| check(&repo, wants, haves, &FORMS[1..2]));
    }
}

/// Overlapping packs, each of which repeats objects of an older one; nothing is loose.
const PACKS: &str = r#"
    for tip in one two merge m2; do git rev-list --objects $tip | git pack-objects -q ../objects/pack/pack >/dev/null; done
    git rev-list --objects --all | git pack-objects -q ../objects/pack/pack >/dev/null
    git rev-list --objects two --not one | git pack-objects -q ../objects/pack/pack >/dev/null
    git prune-packed -q
"#;

/// Writes bitmaps for the multi-pack-index.
fn write_for_midx(repo: &Repo) -> Summary {
    for_midx(&repo.objects(), &repo.dir.join("objects"), &repo.tips(), Files::default(), &mut Silent).unwrap()
}

/// Checks that the bitmaps are those of a multi-pack-index.
fn check_midx(repo: &Repo) {
    let stored = repo.objects().bitmaps(u64::MAX).unwrap().expect("bitmaps can be used");
    assert!(matches!(stored.order, Order::Midx(_)));
    assert_eq!(repo.objects().take_warnings(), Vec::<String>::new());
}

#[test]
fn bitmaps_of_a_multi_pack_index_tell_what_git_would_send() {
    for (at, config) in
        ["", "-c pack.writebitmaplookuptable=true", "-c pack.writebitmaphashcache=false"].iter().enumerate()
    {
        // The preferred pack is not the first by name.
        let preferred = "--preferred-pack=$(ls ../objects/pack/*.idx | tail -n 1 | xargs basename)";
        let write = format!("git {config} multi-pack-index write --bitmap {preferred}");
        let hash = if at == 2 { gix_hash::Kind::Sha256 } else { gix_hash::Kind::Sha1 };
        let repo = Repo::made_by(hash, &format!("{SHAPES}\n{PACKS}\n{write}"));
        check_midx(&repo);
        REQUESTS.iter().for_each(|(wants, haves)| check(&repo, wants, haves, &[FORMS[at]]));
        repo.script(
            "at m2; seq 1 450 >big; mkdir -p d; echo new >d/new; c new m2; at side; c newer side new; git tag -m x x newer",
        );
        check(&repo, &["newer", "x", "ann2", "other"], &[], &FORMS);
        check(&repo, &["new", "new:d"], &[], &FORMS[..1]);
        check(&repo, &["new"], &["one"], &FORMS[1..2]);
        check_midx(&repo);
    }
}

#[test]
fn a_multi_pack_index_without_objects_in_two_packs_is_sent_whole() {
    let packs = "git rev-list --objects two | git pack-objects -q ../objects/pack/pack >/dev/null
        git prune-packed -q; git repack -dq; git multi-pack-index write --bitmap";
    let repo = Repo::made_by(gix_hash::Kind::Sha1, &format!("{SHAPES}\n{packs}"));
    assert_eq!(repo.objects().packs(true).unwrap().len(), 2);
    check_midx(&repo);
    check_ids(&repo, &repo.tips(), &[], &FORMS);
}

#[test]
fn bitmaps_of_an_older_multi_pack_index_are_left_alone() {
    let repo = Repo::made_by(gix_hash::Kind::Sha1, &format!("{SHAPES}\n{PACKS}\ngit multi-pack-index write --bitmap"));
    let path = repo.objects().bitmaps(u64::MAX).unwrap().unwrap().order.bitmap_path();
    std::fs::rename(&path, path.with_file_name(format!("multi-pack-index-{}.bitmap", "1".repeat(40)))).unwrap();
    let objects = repo.objects();
    assert!(objects.bitmaps(u64::MAX).unwrap().is_none());
    assert_eq!(objects.take_warnings(), Vec::<String>::new());
}

/// All but a few objects of a pack are selected: the others are looked up in a reverse index, which may be damaged. The
/// same for a few of many.
#[test]
fn what_bitmaps_leave_out_of_a_pack_is_not_sent() {
    let many = "for n in $(seq 200); do echo $n >$n; done; c many m2; echo x >1; c more many; git repack -adbq";
    let repo = Repo::made_by(gix_hash::Kind::Sha1, &format!("{SHAPES}\n{many}"));
    check(&repo, &["many", "ann2", "other", "sub", "revert"], &[], &FORMS[1..2]);
    // These are few of all objects.
    check(&repo, &["one"], &[], &FORMS[1..2]);
    let rev = repo.git(&["rev-parse", "--git-path", "objects/pack"]);
    let rev = std::fs::read_dir(repo.dir.join(rev)).unwrap().map(|file| file.unwrap().path());
    let rev = rev.filter(|path| path.extension().is_some_and(|end| end == "rev")).collect::<Vec<_>>();
    let [rev] = &rev[..] else { panic!("git has written no reverse index") };
    let mut bytes = std::fs::read(rev).unwrap();
    let end = bytes.len() - 40;
    bytes[12..end].fill(0);
    std::fs::remove_file(rev).unwrap();
    std::fs::write(rev, bytes).unwrap();
    check(&repo, &["many", "ann2", "other", "sub", "revert"], &[], &FORMS[1..2]);
    check(&repo, &["one"], &[], &FORMS[1..2]);
}

/// A large file is verified by another thread.
#[test]
fn bitmaps_that_are_damaged_are_not_believed_whoever_finds_out() {
    let repo = Repo::made_by(gix_hash::Kind::Sha1, &format!("{SHAPES}\ngit repack -adbq"));
    let stored = repo.objects().bitmaps(u64::MAX).unwrap().unwrap();
    let (path, hashes) = (stored.order.bitmap_path(), 4 * stored.order.len() as usize);
    let sound = std::fs::read(&path).unwrap();
    for (threads, damaged) in [(1, false), (1, true), (2, false), (2, true)] {
        // Bytes inserted before the name hashes are skipped.
        let mut bytes = sound[..sound.len() - 20].to_vec();
        let at = bytes.len() - hashes;
        bytes.splice(at..at, vec![0; 2 << 20]);
        bytes.extend_from_slice(&[0; 20]);
        reseal(&mut bytes);
        if damaged {
            bytes[at + 100] = 1;
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        let mut objects = repo.objects();
        objects.set_threads(threads);
        let opened = objects.bitmaps(u64::MAX).unwrap();
        assert_eq!(opened.is_some(), threads == 2 || !damaged);
        assert!(opened.is_none_or(|stored| stored.bitmaps.check().is_err() == damaged));
        let wants = repo.ids(&["m2", "ann2"]);
        let selection = select(&objects, &Request { wants: &wants, ..Request::default() }, &mut Silent).unwrap();
        assert_eq!(ids(&selection, &objects), repo.expected(&wants, &[]));
        let warnings = objects.take_warnings();
        assert_eq!(warnings.iter().any(|warning| warning.contains("does not match its checksum")), damaged);
    }
}

/// Writes a new checksum at the end.
fn reseal(bytes: &mut [u8]) {
    let end = bytes.len() - 20;
    let trailer = sha1::Sha1::digest(&bytes[..end]);
    bytes[end..].copy_from_slice(&trailer);
}

#[test]
fn the_order_of_a_multi_pack_index_may_stand_in_a_file_of_its_own() {
    let write = "GIT_TEST_MIDX_WRITE_REV=1 git multi-pack-index write --bitmap";
    let repo = Repo::made_by(gix_hash::Kind::Sha1, &format!("{SHAPES}\n{PACKS}\n{write}"));
    let midx = repo.dir.join("objects/pack/multi-pack-index");
    let mut bytes = std::fs::read(&midx).unwrap();
    let old = ObjectId::from_bytes_or_panic(&bytes[bytes.len() - 20..]);
    let chunk = bytes.windows(4).position(|word| word == b"RIDX").unwrap();
    bytes[chunk..chunk + 4].copy_from_slice(b"none");
    reseal(&mut bytes);
    let new = bytes[bytes.len() - 20..].to_vec();
    let put = |path: &std::path::Path, bytes: &[u8]| {
        std::fs::remove_file(path).ok();
        std::fs::write(path, bytes).unwrap();
    };
    put(&midx, &bytes);
    for extension in ["rev", "bitmap"] {
        let name = |id: &ObjectId| midx.with_file_name(format!("multi-pack-index-{id}.{extension}"));
        let mut bytes = std::fs::read(name(&old)).unwrap();
        // A bitmap has the pack checksum after its header, a reverse index before its own checksum.
        let at = if extension == "rev" { bytes.len() - 40 } else { 12 };
        assert_eq!(bytes[at..at + 20], *old.as_bytes());
        bytes[at..at + 20].copy_from_slice(&new);
        reseal(&mut bytes);
        put(&name(&ObjectId::from_bytes_or_panic(&new)), &bytes);
    }
    check_midx(&repo);
    FEW.iter().for_each(|(wants, haves)| check(&repo, wants, haves, &FORMS[1..2]));
    std::fs::remove_file(midx.with_file_name(format!("multi-pack-index-{}.rev", ObjectId::from_bytes_or_panic(&new))))
        .unwrap();
    assert!(repo.objects().bitmaps(u64::MAX).unwrap().is_none());
    FEW.iter().for_each(|(wants, haves)| check(&repo, wants, haves, &FORMS[1..2]));
}

#[test]
fn what_many_tips_reach_may_be_told_together() {
    let config = "-c bitmapPseudoMerge.all.pattern=refs/ -c bitmapPseudoMerge.all.threshold=now \
        -c bitmapPseudoMerge.all.stableThreshold=now";
    for write in ["repack -adbq", "-c pack.writebitmaplookuptable=true multi-pack-index write --bitmap"] {
        let repo = Repo::made_by(gix_hash::Kind::Sha1, &format!("{SHAPES}\n{PACKS}\ngit {config} {write}"));
        let objects = repo.objects();
        let stored = objects.bitmaps(u64::MAX).unwrap().unwrap();
        assert!(stored.bitmaps.have_merges());
        let (mut tips, mut told) = (Bits::none(stored.order.len()), Bits::none(stored.order.len()));
        stored.bitmaps.add_merges(&tips, &mut told, &mut Bits::default()).unwrap();
        assert!(told.is_empty());
        for tip in repo.git(&["rev-list", "--all"]).lines() {
            let id = ObjectId::from_hex(tip.as_bytes()).unwrap();
            tips.insert(stored.order.rank(stored.order.position(&id).unwrap()).unwrap());
        }
        stored.bitmaps.add_merges(&tips, &mut told, &mut Bits::default()).unwrap();
        let told = told.iter().map(|rank| stored.order.id_at(stored.order.position_at(rank).unwrap()).to_owned());
        let heads = repo.git(&["rev-list", "--objects", "--branches", "ann", "--no-object-names"]);
        let heads = heads.lines().map(|line| ObjectId::from_hex(line.as_bytes()).unwrap());
        assert_eq!(told.collect::<BTreeSet<_>>(), heads.filter(|id| *id != repo.id("ann")).collect());
        check_ids(&repo, &repo.tips(), &[], &FORMS[1..2]);
        FEW.iter().for_each(|(wants, haves)| check(&repo, wants, haves, &FORMS[1..2]));
    }
}

#[test]
fn a_damaged_multi_pack_index_never_makes_bitmaps_lie() {
    let repo = Repo::made_by(gix_hash::Kind::Sha1, &format!("{SHAPES}\n{PACKS}\ngit multi-pack-index write --bitmap"));
    let wants = repo.ids(&["m2", "other"]);
    let expected = repo.expected(&wants, &[]);
    let selected = || {
        let objects = repo.objects();
        let request = Request { wants: &wants, ..Request::default() };
        let selection = select(&objects, &request, &mut Silent).map(|selection| ids(&selection, &objects));
        (selection, objects.take_warnings())
    };
    let midx = repo.dir.join("objects/pack/multi-pack-index");
    let bitmap = repo.objects().bitmaps(u64::MAX).unwrap().unwrap().order.bitmap_path();
    for (path, always) in [(&bitmap, true), (&midx, false)] {
        let sound = std::fs::read(path).unwrap();
        for at in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[at] ^= 1 << (at % 8);
            std::fs::remove_file(path).unwrap();
            std::fs::write(path, bytes).unwrap();
            let (selection, warnings) = selected();
            // If an index lacks what it should have, there is no answer.
            if selection.is_ok() || always {
                assert_eq!(selection.unwrap(), expected, "byte {at}");
            }
            assert!(!always || warnings.len() == 1, "byte {at}: {warnings:?}");
        }
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, sound).unwrap();
    }
}

#[test]
fn git_reads_the_bitmaps_of_a_multi_pack_index() {
    for hash in [gix_hash::Kind::Sha1, gix_hash::Kind::Sha256] {
        let repo = Repo::made_by(hash, &format!("{SHAPES}\n{PACKS}\ngit multi-pack-index write --bitmap"));
        let summary = write_for_midx(&repo);
        assert_eq!(summary.path.metadata().unwrap().len(), summary.bytes);
        check_by_git(&repo);
        repo.git(&["multi-pack-index", "verify"]);
        check_midx(&repo);
        REQUESTS.iter().for_each(|(wants, haves)| check(&repo, wants, haves, &FORMS[1..2]));
    }
}

#[test]
fn nothing_is_written_for_a_pack_that_is_not_closed() {
    let repo = Repo::made_by(gix_hash::Kind::Sha1, SHAPES);
    for (packed, missing) in [("two --not one", "one"), ("two", "two:big"), ("two", "two:d"), ("two", "one^{tree}")] {
        let filter = if missing == "one" { "" } else { "| grep -v ^$(git rev-parse $missing)" };
        let filter = filter.replace("$missing", missing);
        repo.script(&format!(
            "git rev-list --objects {packed} {filter} | git pack-objects -q ../objects/pack/pack >/dev/null"
        ));
        let objects = repo.objects();
        let [pack] = objects.packs(true).unwrap()[..] else { panic!("there is one pack") };
        let error = for_pack(&objects, pack, &repo.tips(), Files::default(), &mut Silent).unwrap_err();
        assert_eq!(error.downcast_ref::<NotClosed>().map(|error| error.id), Some(repo.id(missing)), "{error:#}");
        assert!(format!("{error:#}").contains("not closed under reachability"), "{error:#}");
        let mut names: Vec<_> =
            std::fs::read_dir(repo.dir.join("objects/pack")).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.retain(|path| !matches!(path.extension().and_then(|name| name.to_str()), Some("pack" | "idx" | "rev")));
        assert_eq!(names, Vec::<PathBuf>::new());
        std::fs::remove_dir_all(repo.dir.join("objects/pack")).unwrap();
        std::fs::create_dir(repo.dir.join("objects/pack")).unwrap();
    }
}

#[test]
fn bitmaps_we_wrote_for_random_histories_tell_what_git_would_send() {
    let seeds = if std::env::var_os("RUN_SLOW_TESTS").is_some() { 40 } else { 2 };
    for seed in 0..seeds {
        let mut random = Random(seed);
        let repo = Repo::new(gix_hash::Kind::Sha1);
        repo.run(&["fast-import", "--quiet"], random_history(&mut random, 400, 6).as_bytes()).unwrap();
        repo.git(&["update-ref", "refs/heads/main", "b400"]);
        if seed % 2 == 0 {
            repo.git(&["repack", "-adq"]);
            assert!((150..400).contains(&write_for_pack(&repo).commits));
        } else {
            for _ in 0..3 {
                let tip = repo.id(&format!("b{}", 100 + random.below(300)));
                let listed = repo.run(&["rev-list", "--objects", &tip.to_string()], b"").unwrap();
                repo.run(&["pack-objects", "-q", "objects/pack/pack"], &listed).unwrap();
            }
            repo.git(&["multi-pack-index", "write", "--bitmap"]);
            assert!((150..400).contains(&write_for_midx(&repo).commits));
        }
        let listed =
            repo.by_bitmaps(&["rev-list", "--objects", "--use-bitmap-index", "--branches", "--no-object-names"], "");
        assert!(listed.1);
        let walked = repo.git(&["rev-list", "--objects", "--branches", "--no-object-names"]);
        assert_eq!(listed.0.lines().collect::<BTreeSet<_>>(), walked.lines().collect::<BTreeSet<_>>());
        for _ in 0..8 {
            let mut names = |from: usize, to: usize| -> Vec<ObjectId> {
                (0..1 + random.below(4)).map(|_| repo.id(&format!("b{}", from + random.below(to - from)))).collect()
            };
            let (wants, haves) = (names(1, 400), names(1, 60));
            check_ids(&repo, &wants, &[], &FORMS[1..2]);
            check_ids(&repo, &wants, &haves, &FORMS[1..2]);
        }
    }
}

#[test]
fn no_commit_is_walked_over_for_each_branch_anew() {
    // A long line of history, with branches on which no nearby commit is chosen for a bitmap.
    let repo = Repo::new(gix_hash::Kind::Sha1);
    let mut stream = String::new();
    let mut commit = |branch: &str, from: usize, time: usize, file: usize| {
        stream.push_str(&format!("commit refs/heads/{branch}\n"));
        if branch == "main" {
            stream.push_str(&format!("mark :{}\n", from + 1));
        }
        stream.push_str(&format!("committer C <c@e> {} +0000\ndata 1\nx\n", 1_700_000_000 + time));
        if from > 0 {
            stream.push_str(&format!("from :{from}\n"));
        }
        stream.push_str(&format!("M 644 inline d/f{file}\ndata 5\n{time:05}\n"));
    };
    (0..2000).for_each(|number| commit("main", number, 10 * number, number % 10));
    (0..60).for_each(|number| commit(&format!("b{number}"), 500 + 13 * number, 10 * (500 + 13 * number) + 5, 11));
    repo.run(&["fast-import", "--quiet"], stream.as_bytes()).unwrap();
    repo.git(&["repack", "-adq"]);

    struct Most(u64);
    impl crate::stream::Pulse for Most {
        fn tick(&mut self, done: u64) -> std::io::Result<()> {
            self.0 = self.0.max(done);
            Ok(())
        }
    }
    let (objects, mut pulse) = (repo.objects(), Most(0));
    let [pack] = objects.packs(true).unwrap()[..] else { panic!("git left more than one pack") };
    for_pack(&objects, pack, &repo.tips(), Files::default(), &mut pulse).unwrap();
    // Two trees per commit, some of them twice.
    assert!(pulse.0 < 2 * 2 * 2060, "{} trees were read", pulse.0);
    check_by_git(&repo);
}

#[test]
fn bitmaps_tell_what_git_would_send() {
    for lookup_table in ["false", "true"] {
        let repack = format!("git -c pack.writebitmaplookuptable={lookup_table} repack -adbq");
        let repo = Repo::made_by(gix_hash::Kind::Sha1, &format!("{SHAPES}\n{repack}"));
        assert!(repo.objects().bitmaps(u64::MAX).unwrap().is_some());
        REQUESTS.iter().for_each(|(wants, haves)| check(&repo, wants, haves, &FORMS[1..2]));
        // Bitmaps also answer whether something is reachable at all.
        let (objects, wants, filter) = (repo.objects(), repo.ids(&["m2", "ann2"]), Filter::default());
        let search = Search {
            wants: &wants,
            known: &[],
            effort: Effort::Enough,
            filter: &filter,
            missing: Missing::Passed,
            levels_max: None,
            peeled: &[],
        };
        let found = Closure::find(&objects, &search, &mut Silent).unwrap().found;
        assert_eq!(found.len(), repo.expected(&wants, &[]).len() as u64);
        // Newer commits have no bitmaps.
        repo.script(
            "at m2; seq 1 450 >big; mkdir -p d; echo new >d/new; c new m2; at side; c newer side new; git tag -m x x newer",
        );
        check(&repo, &["newer", "x", "ann2", "other"], &[], &FORMS);
        check(&repo, &["new", "new:d"], &[], &FORMS[..1]);
    }
    check_stored_as(gix_hash::Kind::Sha256, "git repack -adbq");
}

#[test]
fn bitmaps_of_random_histories_tell_what_git_would_send() {
    let seeds = if std::env::var_os("RUN_SLOW_TESTS").is_some() { 40 } else { 2 };
    for seed in 0..seeds {
        let mut random = Random(seed);
        let repo = Repo::new(gix_hash::Kind::Sha1);
        repo.run(&["fast-import", "--quiet"], random_history(&mut random, 160, 6).as_bytes()).unwrap();
        repo.git(&["update-ref", "refs/heads/main", "b120"]);
        // Some commits are packed and have bitmaps, some have none, and the newest are not in the pack.
        let mut commands: String = (100..=160).map(|mark| format!("delete refs/heads/b{mark}\n")).collect();
        let created: String =
            (100..=160).map(|mark| format!("create refs/heads/b{mark} {}\n", repo.id(&format!("b{mark}")))).collect();
        commands.extend(repo.git(&["tag"]).lines().map(|tag| format!("delete refs/tags/{tag}\n")));
        repo.run(&["update-ref", "--stdin"], commands.as_bytes()).unwrap();
        repo.git(&["repack", "-Adbq"]);
        repo.run(&["update-ref", "--stdin"], created.as_bytes()).unwrap();
        assert!(repo.objects().bitmaps(u64::MAX).unwrap().is_some());
        for _ in 0..8 {
            let names: Vec<_> = (0..1 + random.below(5)).map(|_| format!("b{}", 1 + random.below(160))).collect();
            check(&repo, &names.iter().map(String::as_str).collect::<Vec<_>>(), &[], &FORMS[1..2]);
        }
        // Bitmaps also give the objects between commits, if both ends have bitmaps or are near ones that have.
        for _ in 0..8 {
            let wants: Vec<_> = (0..1 + random.below(3)).map(|_| format!("b{}", 135 + random.below(26))).collect();
            let haves: Vec<_> = (0..1 + random.below(3)).map(|_| format!("b{}", 1 + random.below(30))).collect();
            let names = |names: &'_ [String]| names.iter().map(|name| repo.id(name)).collect::<Vec<_>>();
            let (wants, haves) = (names(&wants), names(&haves));
            check_ids(&repo, &wants, &haves, &FORMS);
            let objects = repo.objects();
            let request = Request { wants: &wants, common: &haves, ..Request::default() };
            let found = ids(&select(&objects, &request, &mut Silent).unwrap(), &objects);
            assert_eq!(found, repo.expected_at_least(&wants, &haves), "nothing is sent twice");
        }
    }
}

#[test]
fn damaged_bitmaps_are_not_believed() {
    let repo = Repo::made_by(gix_hash::Kind::Sha1, &format!("{SHAPES}\ngit repack -adbq"));
    let path = repo.objects().bitmaps(u64::MAX).unwrap().unwrap().order.bitmap_path();
    let sound = std::fs::read(&path).unwrap();
    let (wants, reseal) = (repo.ids(&["m2", "other"]), |bytes: &mut [u8]| {
        let end = bytes.len() - 20;
        let trailer =
            sha1::Digest::finalize(sha1::Digest::chain_update(<sha1::Sha1 as sha1::Digest>::new(), &bytes[..end]));
        bytes[end..].copy_from_slice(&trailer);
    });
    let expected = repo.expected(&wants, &[]);
    let selected = || {
        let objects = repo.objects();
        let request = Request { wants: &wants, ..Request::default() };
        let selection = select(&objects, &request, &mut Silent).map(|selection| ids(&selection, &objects));
        (selection, objects.take_warnings())
    };
    let write = |bytes: &[u8]| {
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
    };
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (at % 8);
        write(&bytes);
        let (selection, warnings) = selected();
        assert_eq!(selection.unwrap(), expected, "byte {at}");
        assert_eq!(warnings.len(), 1, "byte {at}: {warnings:?}");
        // A wrong bitmap with a correct checksum must still end, with a wrong answer or a correct one.
        if at < sound.len() - 20 {
            reseal(&mut bytes);
            write(&bytes);
            let _ = selected();
        }
    }
    // As good as new, and made for another pack.
    let mut bytes = sound.clone();
    bytes[12] ^= 1;
    reseal(&mut bytes);
    write(&bytes);
    let (selection, warnings) = selected();
    assert_eq!(selection.unwrap(), expected);
    assert!(warnings.len() == 1 && warnings[0].contains("belongs to another pack"), "{warnings:?}");
    write(&sound[..sound.len() - 1]);
    assert_eq!(selected().0.unwrap(), expected);
}

/// A hundred tags on objects of branches, and five others: tags of another tag, of a tree, of a blob, and two of
/// commits that are on no branch. Returns all tags with what they peel to, as refs record it.
fn tagged() -> (Repo, Vec<(ObjectId, ObjectId)>) {
    let repo = Repo::made_by(gix_hash::Kind::Sha1, SHAPES);
    repo.script("at m2; echo beside >d/beside; c beside m2; echo more >>d/beside; c beside2 beside");
    let mut stream = String::new();
    let mut tag = |name: &str, on: &ObjectId| {
        stream.push_str(&format!(
            "tag {name}\nfrom {on}\ntagger T <t@e> 1700000000 +0000\ndata 300\n{}\n",
            "x".repeat(300)
        ));
    };
    let on = repo.ids(&["one", "two", "m2", "sub"]);
    (0..100).for_each(|nth| tag(&format!("t{nth}"), &on[nth % on.len()]));
    tag("beside-tag", &repo.id("beside"));
    tag("beside-tag2", &repo.id("beside2"));
    repo.run(&["fast-import", "--quiet"], stream.as_bytes()).unwrap();
    repo.script("git tag -a -m x again beside-tag; git branch -D beside beside2; git repack -adbq");
    let tags = repo.git(&["for-each-ref", "--format=%(objectname) %(*objectname)", "refs/tags"]);
    let id = |hex: &str| ObjectId::from_hex(hex.as_bytes()).unwrap();
    let peeled = |line: &str| line.split_once(' ').map(|(tag, _)| (id(tag), repo.id(&format!("{tag}^{{}}"))));
    let peeled = tags.lines().filter_map(peeled).collect();
    (repo, peeled)
}

/// The objects selected for everything that refs point to, if they can be determined.
fn selected(
    repo: &Repo,
    wants: &[ObjectId],
    peeled: &[(ObjectId, ObjectId)],
    filter: Option<&Filter>,
) -> anyhow::Result<BTreeSet<ObjectId>> {
    let objects = repo.objects();
    let selection = select(&objects, &Request { wants, peeled, filter, ..Request::default() }, &mut Silent)?;
    assert_eq!(selection.count as usize, ids(&selection, &objects).len());
    Ok(ids(&selection, &objects))
}

#[test]
fn whatever_is_said_of_tags_what_they_lead_to_is_sent() {
    let (repo, right) = tagged();
    let all = repo.tips();
    let wrong = |to: ObjectId| right.iter().map(|(tag, _)| (*tag, to)).collect::<Vec<_>>();
    let (one, beside) = (wrong(repo.id("one")), wrong(repo.id("beside-tag^{}")));
    let branches: Vec<ObjectId> = all.iter().filter(|id| right.iter().all(|(tag, _)| tag != *id)).copied().collect();
    let but_beside: Vec<ObjectId> = all.iter().filter(|id| **id != repo.id("beside-tag2")).copied().collect();
    let tags: Vec<ObjectId> = right.iter().map(|(tag, _)| *tag).collect();
    for wants in [all, branches, but_beside, tags] {
        let expected = repo.expected(&wants, &[]);
        for peeled in [&[], &right[..], &right[50..], &one, &beside] {
            assert!(selected(&repo, &wants, peeled, None).unwrap() == expected);
        }
    }
    // New objects are outside the pack.
    repo.script("at m2; echo new >d/new; c new m2; git tag -a -m x newest new; git branch -D new");
    let wants = repo.tips();
    assert!(selected(&repo, &wants, &right, None).unwrap() == repo.expected(&wants, &[]));
}

#[test]
fn tags_are_not_read_where_all_is_found_without_them() {
    let (repo, peeled) = tagged();
    let (wants, one) = (repo.tips(), repo.id("one"));
    let expected = repo.expected(&wants, &[]);
    let mut filters = [Filter::default(), Filter::default()];
    filters[0].without_blobs();
    filters[1].limit_depth(0);
    let filtered = filters.each_ref().map(|filter| {
        let all = selected(&repo, &wants, &[], Some(filter)).unwrap();
        assert!(
            all.contains(&repo.id("blobtag^{}")) && all.contains(&repo.id("treetag^{}")) && all.len() < expected.len()
        );
        all
    });
    let on_one: Vec<ObjectId> = peeled.iter().filter(|(_, of)| *of == one).map(|(tag, _)| *tag).collect();
    assert!(on_one.len() >= 25);
    // They are damaged, so reading them is noticed.
    let objects = repo.objects();
    let [pack] = objects.packs(true).unwrap()[..] else { panic!("git left more than one pack") };
    let pack = objects.pack(pack);
    let mut bytes = std::fs::read(pack.path()).unwrap();
    for tag in &on_one {
        let head = pack.head_at(pack.offset_at(pack.position(tag).unwrap())).unwrap();
        assert!(matches!(head.kind, crate::odb::EntryKind::Whole(gix_object::Kind::Tag)));
        bytes[head.data as usize] ^= 0xff;
    }
    std::fs::remove_file(pack.path()).unwrap();
    std::fs::write(pack.path(), bytes).unwrap();
    assert!(selected(&repo, &wants, &peeled, None).unwrap() == expected);
    assert!(selected(&repo, &wants, &[], None).is_err());
    for (filter, expected) in filters.iter().zip(filtered) {
        assert!(selected(&repo, &wants, &peeled, Some(filter)).unwrap() == expected, "{filter:?}");
        let but_one: Vec<_> = peeled.iter().filter(|(tag, _)| *tag != on_one[0]).copied().collect();
        assert!(selected(&repo, &wants, &but_one, Some(filter)).is_err(), "{filter:?}");
    }
}

#[test]
fn nothing_is_written_where_a_tree_is_called_a_blob() {
    let repo = Repo::made_by(
        gix_hash::Kind::Sha1,
        r#"
        echo x >f; git add f; tree=$(git write-tree); rest=${tree#??}; loose=../objects/${tree%$rest}/$rest
        mv $loose kept; root=$(printf "100644 blob $tree\ta\n040000 tree $tree\tb\n" | git mktree --missing); mv kept $loose
        git update-ref refs/heads/odd $(git commit-tree -m odd $root)
        { git rev-parse odd; echo $root; echo $tree; git rev-parse :f; } | git pack-objects -q ../objects/pack/pack
        "#,
    );
    let objects = repo.objects();
    let [pack] = objects.packs(true).unwrap()[..] else { panic!("there is one pack") };
    let error = for_pack(&objects, pack, &repo.tips(), Files::default(), &mut Silent).unwrap_err();
    assert!(format!("{error:#}").ends_with("which it has as a blob, is none"), "{error:#}");
}

//! Maintenance runs with the clock moved.

use super::*;
use crate::auth::{Grant, Scope};
use crate::durable;
use crate::repo::config::ConfigSources;
use crate::repo::locate::{self, Place, Search};
use crate::repo::{AccessMode, Context};
use crate::stream::Silent;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

const DAY: u64 = 24 * 3600;

/// A bare repository.
struct Served(PathBuf);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Served {
    /// A repository with one commit, in one pack.
    fn new() -> Self {
        let path = std::env::temp_dir().join(durable::unique("maintenance-"));
        fs::create_dir(&path).unwrap();
        let served = Served(path);
        served.git(&["init", "-q", "--bare", "."]);
        let tree = served.git(&["hash-object", "-t", "tree", "-w", "/dev/null"]);
        let commit = served.git(&["commit-tree", "-m", "one", &tree]);
        served.git(&["update-ref", "refs/heads/main", &commit]);
        served.git(&["repack", "-q", "-a", "-d"]);
        served
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut command = crate::testing::command("git");
        command.args(arguments).current_dir(&self.0).env("HOME", &self.0);
        command.envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null")]);
        command.envs([("GIT_AUTHOR_NAME", "A"), ("GIT_AUTHOR_EMAIL", "a@example.com")]);
        command.envs([("GIT_COMMITTER_NAME", "C"), ("GIT_COMMITTER_EMAIL", "c@example.com")]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// The path of a file in the pack directory.
    fn pack(&self, name: &str) -> PathBuf {
        self.0.join("objects/pack").join(name)
    }

    /// Runs maintenance this many seconds from now.
    fn maintain(&self, later: u64) -> Report {
        self.run(later, false)
    }

    fn open(&self, later: u64) -> Repository {
        let config = ConfigSources::default();
        let mode = AccessMode::Tokens;
        let search = Search { mode, config: &config, object_directory: None, check_owner: false, strict: true };
        let Place::Here(here) = locate::by_path(&self.0, &search) else { panic!("there is a repository") };
        let context = Context {
            now: SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + later,
            ..crate::testing::context(mode, config)
        };
        Repository::open(*here, Grant::new(Scope::Read, None), context)
    }

    fn run(&self, later: u64, full: bool) -> Report {
        let options = Options { loose_limit: LOOSE_LIMIT_DEFAULT, full, dry_run: false };
        match run(&self.open(later), options, &mut Silent).unwrap() {
            Ran::Done(report) => report,
            Ran::Busy(who) => panic!("{who}"),
        }
    }
}

#[test]
fn what_is_left_of_a_pack_without_an_index_goes_after_a_day() {
    let served = Served::new();
    let gone = ["pack-1.pack", "pack-1.rev", "pack-1.bitmap", "pack-2.mtimes"].map(|name| served.pack(name));
    let kept = ["pack-3.pack", "pack-3.keep", "pack-4.pack", "pack-4.promisor", "tmp_pack_1", "pack-5.other"]
        .map(|name| served.pack(name));
    gone.iter().chain(&kept).for_each(|path| fs::write(path, "left").unwrap());
    // As one that was packed long ago and has just got its name.
    fs::File::options().write(true).open(&gone[0]).unwrap().set_modified(UNIX_EPOCH).unwrap();
    assert_eq!(served.maintain(DAY - 60).remains_removed, 0, "somebody may be about to put an index there");
    assert!(gone.iter().all(|path| path.exists()));
    let report = served.maintain(DAY + 60);
    assert_eq!((report.remains_removed, report.problems), (4, Vec::new()));
    assert!(gone.iter().all(|path| !path.exists()) && kept.iter().all(|path| path.exists()));
    assert_eq!(served.maintain(DAY + 60).remains_removed, 0);
    served.git(&["fsck", "--strict"]);
}

#[test]
fn what_is_left_of_a_pack_stays_where_nothing_may_go_and_where_objects_may_be_missing() {
    for config in [["extensions.preciousObjects", "true"], ["remote.origin.promisor", "true"]] {
        let served = Served::new();
        served.git(&["config", config[0], config[1]]);
        let left = served.pack("pack-1.pack");
        fs::write(&left, "left").unwrap();
        assert_eq!(served.maintain(DAY + 60).remains_removed, 0, "{config:?}");
        assert!(left.exists(), "{config:?}");
    }
}

#[test]
fn a_pack_that_has_lost_its_index_stays_where_anything_is_missing() {
    let served = Served::new();
    let folder = served.pack("");
    let index = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let index = index.into_iter().find(|path| path.extension().is_some_and(|found| found == "idx")).unwrap();
    fs::remove_file(&index).unwrap();
    let report = served.maintain(DAY + 60);
    assert_eq!(report.remains_removed, 0);
    assert!(report.problems.iter().any(|problem| problem.contains("packs without an index are left alone")));
    assert!(index.with_extension("pack").exists());
    served.git(&["index-pack", index.with_extension("pack").to_str().unwrap()]);
    served.git(&["fsck", "--strict"]);
}

#[test]
fn a_pack_that_somebody_protects_at_the_last_moment_stays_and_so_does_the_new_one() {
    for extension in ["keep", "promisor", "mtimes"] {
        let served = Served::new();
        let repository = served.open(0);
        let packs = local::packs(&repository.objects).unwrap();
        // What is made of packs may have the name that one of them has.
        assert_eq!(prune::packs(&packs[0], &packs).unwrap(), 0);
        assert!(packs[0].path().exists());
        let tree = served.git(&["hash-object", "-t", "tree", "-w", "/dev/null"]);
        served.git(&["update-ref", "refs/heads/main", &served.git(&["commit-tree", "-m", "two", &tree])]);
        served.git(&["repack", "-q"]);
        let now = local::packs(&repository.reopened()).unwrap();
        let made = now.iter().find(|pack| pack.path() != packs[0].path()).unwrap();
        fs::write(packs[0].path().with_extension(extension), "").unwrap();
        assert_eq!(prune::packs(made, &packs).unwrap(), 0, "{extension}");
        assert!(["pack", "idx"].iter().all(|kind| packs[0].path().with_extension(kind).exists()), "{extension}");
        fs::remove_file(packs[0].path().with_extension(extension)).unwrap();
        assert_eq!(prune::packs(made, &packs).unwrap(), 1);
        assert!(!packs[0].path().exists());
    }
}

#[test]
fn a_pack_that_git_has_not_named_yet_is_gits() {
    let served = Served::new();
    let tree = served.git(&["hash-object", "-t", "tree", "-w", "/dev/null"]);
    let made = served.git(&["commit-tree", "-m", "two", "-p", "main", &tree]);
    served.git(&["update-ref", "refs/heads/main", &made]);
    fs::write(served.0.join("names"), format!("{made}\n{tree}\n")).unwrap();
    let made = served.git(&["-c", "alias.made=!git pack-objects -q objects/pack/.tmp-1-pack <names", "made"]);
    let names = ["pack", "idx"].map(|kind| served.pack(&format!(".tmp-1-pack-{made}.{kind}")));
    assert!(names.iter().all(|path| path.exists()), "{names:?}");
    let report = served.run(60, true);
    assert_eq!((report.packs, report.multi_pack_index, &report.problems), (1, None, &Vec::new()), "{report:?}");
    assert!(names.iter().all(|path| path.exists()), "{report:?}");
    // Under its final name it is a pack like any other.
    for path in names {
        let name = path.file_name().unwrap().to_str().unwrap().trim_start_matches(".tmp-1-").to_owned();
        fs::rename(&path, served.pack(&name)).unwrap();
    }
    assert_eq!(served.run(60, true).packs, 2);
    served.git(&["fsck", "--strict"]);
}

/// git accepts packs that have an object twice, but cannot use a multi-pack-index of them.
#[test]
fn a_pack_that_has_an_object_twice_becomes_another_one() {
    use sha1::Digest as _;
    let served = Served::new();
    let base = (0..40_u8).map(|n| (3_u8, vec![n; 9])).collect::<Vec<_>>();
    let mut pack = [b"PACK\0\0\0\x02\0\0\0".as_slice(), &[80]].concat();
    for (kind, content) in base.iter().chain(&base) {
        pack.push(kind << 4 | content.len() as u8);
        let mut deflated = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut deflated, content).unwrap();
        pack.extend(deflated.finish().unwrap());
    }
    pack.extend(sha1::Sha1::digest(&pack).as_slice());
    fs::write(served.pack("pack-1.pack"), pack).unwrap();
    served.git(&["index-pack", served.pack("pack-1.pack").to_str().unwrap()]);
    let report = served.maintain(60);
    assert_eq!((report.packs, report.multi_pack_index, &report.problems), (2, None, &Vec::new()), "{report:?}");
    assert!(!served.pack("pack-1.pack").exists());
    served.git(&["fsck", "--strict"]);
    assert_eq!(served.git(&["count-objects", "-v"]).lines().nth(2), Some("in-pack: 42"));
    assert_eq!(served.maintain(60).packs, 0);
}

#[test]
fn what_is_damaged_and_can_be_made_again_is() {
    let served = Served::new();
    for extension in ["bitmap", "rev"] {
        for entry in fs::read_dir(served.pack("")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|found| found == extension) {
                fs::remove_file(path).unwrap();
            }
        }
    }
    let made = served.maintain(0);
    assert!(made.bitmaps.is_some() && made.commit_graph.is_some(), "{made:?}");
    let pack = |extension: &str| {
        let mut packs = fs::read_dir(served.pack("")).unwrap().map(|entry| entry.unwrap().path());
        packs.find(|path| path.extension().is_some_and(|found| found == extension)).unwrap()
    };
    for path in [served.0.join("objects/info/commit-graph"), pack("bitmap"), pack("rev")] {
        let good = fs::read(&path).unwrap();
        for at in [good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::remove_file(&path).unwrap();
            fs::write(&path, bad).unwrap();
            assert_eq!(served.run(0, true).damaged_removed, 1, "{}", path.display());
            assert!(fs::read(&path).unwrap() == good, "{}", path.display());
        }
        fs::write(&path, "").unwrap_or_else(|_| fs::remove_file(&path).and_then(|()| fs::write(&path, "")).unwrap());
        assert_eq!(served.run(0, true).damaged_removed, 1, "empty: {}", path.display());
        assert!(fs::read(&path).unwrap() == good);
    }
    assert_eq!(served.run(0, true), Report::default(), "nothing is left to do");
    // Bitmaps of layers, which maintenance does not make again.
    fs::create_dir(served.pack("multi-pack-index.d")).unwrap();
    fs::write(served.pack("multi-pack-index.d/multi-pack-index-1.bitmap"), [7; 100]).unwrap();
    assert_eq!(served.run(0, true).damaged_removed, 1);
    // Without `full`, damage is looked for only if there is something to do, and before that is done.
    let graph = served.0.join("objects/info/commit-graph");
    let mut bad = fs::read(&graph).unwrap();
    *bad.last_mut().unwrap() ^= 1;
    fs::remove_file(&graph).unwrap();
    fs::write(&graph, bad).unwrap();
    assert_eq!(served.maintain(0), Report::default());
    fs::remove_file(pack("bitmap")).unwrap();
    let made = served.maintain(0);
    assert!(made.damaged_removed == 1 && made.commit_graph.is_some() && made.bitmaps.is_some(), "{made:?}");
    served.git(&["fsck", "--strict"]);
}

//! `maintenance`, with git as the judge: git accepts everything it writes, and no object is lost.

use crate::support::{Ran, Repo, Site, git_command};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A repository that received `commits` commits by as many pushes, each stored as a pack.
fn of_packs(commits: usize) -> (Site, Repo) {
    let site = Site::new();
    let served = site.create("acme/site");
    served.config("receive.unpackLimit", "1");
    let work = site.work("fill");
    work.git(&["init", "-q"]);
    more(&site, &served, 0..commits);
    (site, served)
}

fn more(site: &Site, served: &Repo, commits: std::ops::Range<usize>) {
    let work = site.work("fill");
    for number in commits {
        let line = |line: usize| format!("{}\n", line * 7919 + usize::from(line < number));
        std::fs::write(work.path.join("file"), (0..300).map(line).collect::<String>()).unwrap();
        work.commit(&format!("commit {number}"));
        push(&work, served, &["HEAD:refs/heads/main"]);
    }
}

fn push(work: &Repo, served: &Repo, refs: &[&str]) {
    let path = served.path.to_str().unwrap();
    work.git(&[&["push", "-q", path], refs].concat());
}

/// All objects git finds, reachable or not.
fn objects(repo: &Repo) -> BTreeSet<String> {
    let all = repo.git(&["cat-file", "--batch-all-objects", "--batch-check"]);
    all.lines().map(str::to_owned).collect()
}

fn packs(repo: &Repo, extension: &str) -> Vec<PathBuf> {
    let folder = repo.path.join("objects/pack");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    found.sort();
    found
}

fn loose(repo: &Repo) -> usize {
    let counted = repo.git(&["count-objects", "-v"]);
    counted.lines().find_map(|line| line.strip_prefix("count: ")).unwrap().parse().unwrap()
}

/// Lets git check everything that was written.
fn judge(repo: &Repo) {
    repo.git(&["fsck", "--strict", "--full", "--no-dangling"]);
    if repo.path.join("objects/info/commit-graph").exists() {
        repo.git(&["commit-graph", "verify"]);
    }
    if repo.path.join("objects/pack/multi-pack-index").exists() {
        repo.git(&["multi-pack-index", "verify"]);
    }
    for index in packs(repo, "idx") {
        repo.git(&["verify-pack", index.to_str().unwrap()]);
        repo.git(&["index-pack", "--rev-index", "--verify", index.with_extension("pack").to_str().unwrap()]);
    }
    let count = |options: &[&str]| repo.git(&[&["rev-list", "--objects", "--all", "--count"], options].concat());
    assert_eq!(count(&["--use-bitmap-index"]), count(&[]));
    assert_eq!(repo.leftovers(), Vec::<PathBuf>::new());
    assert!(!repo.path.join("gc.pid").exists());
    let counted = repo.git(&["count-objects", "-v"]);
    assert!(counted.contains("garbage: 0"), "{counted}");
}

#[test]
fn loose_objects_become_one_pack_with_deltas_and_what_is_unreachable_stays_loose() {
    for format in ["sha1", "sha256"] {
        let site = Site::new();
        site.tool(&["repo", "create", "acme/site", "--object-format", format]);
        let served = site.repo("acme/site");
        let work = site.work("fill");
        work.git(&["init", "-q", &format!("--object-format={format}")]);
        for number in 0..12 {
            let lines: String =
                (0..300).map(|line| format!("{}\n", line * 7919 + if line == number { 1 } else { 0 })).collect();
            std::fs::write(work.path.join("file"), lines).unwrap();
            work.commit(&format!("commit {number}"));
            push(&work, &served, &["HEAD:refs/heads/main"]);
        }
        let unreachable = served.feed(&["hash-object", "-w", "--stdin"], b"nobody's");
        let before = objects(&served);
        let said = site.tool(&["maintenance", "acme/site"]);
        assert_eq!(said, "acme/site: wrote a commit-graph of 12 commits", "of loose objects there are too few");
        let said = site.tool(&["maintenance", "acme/site", "--loose-limit", "49"]);
        assert!(said.starts_with("acme/site: packed 48 loose objects into pack-"), "{said}");
        assert_eq!(objects(&served), before);
        assert_eq!(loose(&served), 1);
        assert!(served.path.join("objects").join(&unreachable[..2]).join(&unreachable[2..]).exists());
        let [pack] = &packs(&served, "idx")[..] else { panic!("one pack") };
        let listed = served.git(&["verify-pack", "-v", pack.to_str().unwrap()]);
        assert!(listed.contains("chain length = "), "there are deltas: {listed}");
        assert!(!served.path.join("objects/pack/multi-pack-index").exists());
        judge(&served);
        assert_eq!(site.tool(&["maintenance", "acme/site", "--loose-limit", "10"]), "acme/site: nothing to do");
    }
}

#[test]
fn small_packs_become_one_and_large_ones_stay() {
    let (site, served) = of_packs(9);
    assert_eq!(packs(&served, "pack").len(), 9);
    // A pack may contain unreachable objects too.
    let tip = served.tip("main");
    served.git(&["update-ref", "refs/heads/main", "main~2"]);
    let before = objects(&served);
    let said = site.tool(&["maintenance", "acme/site"]);
    assert!(said.starts_with("acme/site: packed 9 packs into pack-"), "{said}");
    assert_eq!(objects(&served), before);
    let first = packs(&served, "pack");
    assert_eq!(first.len(), 1);
    assert_eq!((packs(&served, "idx").len(), packs(&served, "rev").len()), (1, 1));
    let size = std::fs::metadata(&first[0]).unwrap().len();
    assert!(size < 8_000, "one version in full, the others as deltas: {size} bytes");
    judge(&served);
    served.git(&["update-ref", "refs/heads/main", &tip]);
    more(&site, &served, 9..11);
    let before = objects(&served);
    let said = site.tool(&["maintenance", "acme/site"]);
    assert!(said.starts_with("acme/site: packed 2 packs into pack-"), "{said}");
    assert!(said.contains("a multi-pack-index of 2 packs"), "{said}");
    assert_eq!(objects(&served), before);
    assert!(packs(&served, "pack").contains(&first[0]), "it is more than twice as large as the new one");
    judge(&served);
    more(&site, &served, 11..12);
    let said = site.tool(&["maintenance", "acme/site", "--full"]);
    assert!(said.starts_with("acme/site: packed 3 packs into pack-"), "{said}");
    assert!(!served.path.join("objects/pack/multi-pack-index").exists(), "one pack needs none");
    assert_eq!(packs(&served, "pack").len(), 1);
    judge(&served);
    assert_eq!(site.tool(&["maintenance", "acme/site", "--full"]), "acme/site: nothing to do");
}

#[test]
fn a_keep_file_that_waited_for_the_new_pack_stays() {
    let (site, served) = of_packs(3);
    let twin = site.repo("acme/twin");
    let copied = std::process::Command::new("cp").arg("-a").args([&served.path, &twin.path]).status();
    assert!(copied.unwrap().success());
    site.tool(&["maintenance", twin.path.to_str().unwrap()]);
    let [made] = &packs(&twin, "pack")[..] else { panic!("one pack is made of three") };
    assert!(packs(&twin, "keep").is_empty());
    let keep = served.path.join("objects/pack").join(made.file_name().unwrap()).with_extension("keep");
    std::fs::write(&keep, "mine").unwrap();
    site.tool(&["maintenance", "acme/site"]);
    assert_eq!(packs(&served, "pack"), [keep.with_extension("pack")], "the same is made of the same");
    assert_eq!(std::fs::read_to_string(&keep).unwrap(), "mine");
    std::fs::remove_file(&keep).unwrap();
    judge(&served);
}

#[test]
fn packs_that_are_somebodys_are_left_alone() {
    let (site, served) = of_packs(4);
    let all = packs(&served, "pack");
    std::fs::write(all[0].with_extension("keep"), "mine").unwrap();
    std::fs::write(all[1].with_extension("promisor"), "").unwrap();
    let said = site.tool(&["maintenance", "acme/site", "--full"]);
    assert!(said.starts_with("acme/site: packed 2 packs into"), "{said}");
    assert!(said.contains("a multi-pack-index of 3 packs"), "{said}");
    let now = packs(&served, "pack");
    assert!(now.contains(&all[0]) && now.contains(&all[1]) && now.len() == 3);
    assert_eq!(std::fs::read_to_string(all[0].with_extension("keep")).unwrap(), "mine");
    std::fs::remove_file(all[0].with_extension("keep")).unwrap();
    std::fs::remove_file(all[1].with_extension("promisor")).unwrap();
    judge(&served);
    // The same holds for unreachable objects that git has put into a cruft pack.
    served.git(&["update-ref", "refs/heads/main", "main~1"]);
    served.git(&["repack", "-q", "-d", "--cruft", "--cruft-expiration=never"]);
    let cruft = packs(&served, "mtimes");
    assert_eq!(cruft.len(), 1);
    site.tool(&["maintenance", "acme/site", "--full"]);
    assert_eq!(packs(&served, "mtimes"), cruft);
    judge(&served);
}

#[test]
fn missing_reverse_indexes_are_written() {
    let (site, served) = of_packs(1);
    let [rev] = &packs(&served, "rev")[..] else { panic!("one pack") };
    let before = std::fs::read(rev).unwrap();
    std::fs::remove_file(rev).unwrap();
    let said = site.tool(&["maintenance", "acme/site"]);
    assert_eq!(said, "acme/site: wrote 1 reverse index, a commit-graph of 1 commit, bitmaps of 1 commit");
    assert_eq!(std::fs::read(rev).unwrap(), before);
    std::fs::remove_file(rev).unwrap();
    served.config("pack.writeReverseIndex", "false");
    assert_eq!(site.tool(&["maintenance", "acme/site"]), "acme/site: nothing to do");
}

/// Creates a commit with these parents, dated `seconds` after 1970.
fn commit_at(work: &Repo, seconds: u64, parents: &[&str]) -> String {
    let mut command = git_command(&work.path);
    command.env("GIT_COMMITTER_DATE", format!("@{seconds} +0000")).args(["commit-tree", "-m", "x"]);
    parents.iter().for_each(|parent| {
        command.args(["-p", parent]);
    });
    let tree = work.feed(&["hash-object", "-t", "tree", "-w", "--stdin"], b"");
    Ran::from(command.arg(tree).output().unwrap()).succeeds()
}

#[test]
fn the_commit_graph_knows_many_parents_and_clocks_that_ran_backwards() {
    let site = Site::new();
    let served = site.create("acme/site");
    let work = site.work("fill");
    work.git(&["init", "-q"]);
    let roots: Vec<String> =
        [0, 1_700_000_000, 5, 4_200_000_000].iter().map(|seconds| commit_at(&work, *seconds, &[])).collect();
    let names: Vec<&str> = roots.iter().map(String::as_str).collect();
    let three = commit_at(&work, 1_600_000_000, &names[..3]);
    let four = commit_at(&work, 7, &names);
    let far = commit_at(&work, 9, &[&four, &three]);
    let tip = commit_at(&work, 1_800_000_000, &[&far]);
    work.git(&["tag", "-a", "-m", "of it", "v1", &tip]);
    push(&work, &served, &["v1", &format!("{four}:refs/heads/four")]);
    let said = site.tool(&["maintenance", "acme/site"]);
    assert_eq!(said, "acme/site: wrote a commit-graph of 8 commits");
    judge(&served);
    let ours = std::fs::read(served.path.join("objects/info/commit-graph")).unwrap();
    std::fs::remove_file(served.path.join("objects/info/commit-graph")).unwrap();
    served.git(&["-c", "commitGraph.generationVersion=2", "commit-graph", "write", "--reachable"]);
    assert!(ours == std::fs::read(served.path.join("objects/info/commit-graph")).unwrap(), "git writes the same");
}

#[test]
fn a_chain_of_commit_graphs_becomes_one_file() {
    let (site, served) = of_packs(3);
    served.git(&["update-ref", "refs/heads/other", "main~1"]);
    served.feed(&["commit-graph", "write", "--split=no-merge", "--stdin-commits"], served.tip("main~1").as_bytes());
    served.git(&["commit-graph", "write", "--split=no-merge", "--reachable"]);
    let folder = served.path.join("objects/info/commit-graphs");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3);
    assert!(site.tool(&["maintenance", "acme/site"]).contains("a commit-graph of 3 commits"));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    judge(&served);
}

#[test]
fn where_history_is_cut_or_replaced_there_is_no_commit_graph() {
    let (site, served) = of_packs(3);
    let left_out = |why: &str| {
        let said = site.tool(&["maintenance", "acme/site"]);
        assert!(said.contains(&format!("(no commit-graph: {why}")), "{said}");
        assert!(!served.path.join("objects/info/commit-graph").exists());
    };
    served.config("core.commitGraph", "false");
    left_out("core.commitGraph");
    served.config("core.commitGraph", "true");
    std::fs::write(served.path.join("info/grafts"), served.tip("main~1")).unwrap();
    left_out("history is changed by info/grafts");
    std::fs::remove_file(served.path.join("info/grafts")).unwrap();
    served.git(&["replace", "--graft", "main"]);
    left_out("objects are replaced");
    served.git(&["replace", "-d", &served.tip("main")]);
    std::fs::write(served.path.join("shallow"), format!("{}\n", served.tip("main~1"))).unwrap();
    left_out("history is cut");
    std::fs::remove_file(served.path.join("shallow")).unwrap();
    assert!(site.tool(&["maintenance", "acme/site"]).contains("a commit-graph of 3 commits"));
}

#[test]
fn whoever_is_at_it_already_is_left_alone() {
    let (site, served) = of_packs(2);
    let before = packs(&served, "pack");
    let busy = |what: &str| {
        let ran = site.try_tool(&["maintenance", "acme/site"]);
        assert!(ran.ok && ran.out.is_empty() && ran.err.contains(what), "{}{}", ran.out, ran.err);
        assert_eq!(packs(&served, "pack"), before);
    };
    let lock = served.path.join("objects/maintenance.lock");
    std::fs::write(&lock, "").unwrap();
    busy("maintenance is under way");
    std::fs::remove_file(&lock).unwrap();
    let host = rustix::system::uname().nodename().to_str().unwrap().to_owned();
    let pid = served.path.join("gc.pid");
    std::fs::write(&pid, format!("{} {host}", std::process::id())).unwrap();
    busy("gc is already running");
    assert!(pid.exists() && !lock.exists());
    std::fs::write(&pid, format!("{} {host}", i32::MAX)).unwrap();
    assert!(site.tool(&["maintenance", "acme/site"]).contains("packed 2 packs"));
    judge(&served);
}

#[test]
fn a_broken_repository_is_told_and_keeps_what_it_has() {
    let (site, served) = of_packs(2);
    served.config("receive.unpackLimit", "100");
    more(&site, &served, 2..4);
    let blob = served.git(&["rev-parse", "main:file"]);
    std::fs::remove_file(served.path.join("objects").join(&blob[..2]).join(&blob[2..])).unwrap();
    let (before, kept) = (objects(&served), loose(&served));
    let ran = site.try_tool(&["maintenance", "acme/site", "--loose-limit", "1"]);
    assert!(!ran.ok && ran.err.contains(&format!("missing blob {blob}: loose objects are not packed")), "{}", ran.err);
    assert!(ran.out.contains("packed 2 packs"), "{}", ran.out);
    assert_eq!((objects(&served), loose(&served)), (before, kept));
}

#[test]
fn where_the_multi_pack_index_is_locked_no_pack_is_made() {
    let (site, served) = of_packs(3);
    let lock = served.path.join("objects/pack/multi-pack-index.lock");
    std::fs::write(&lock, "").unwrap();
    let before = packs(&served, "pack");
    for _ in 0..2 {
        let said = site.tool(&["maintenance", "acme/site", "--full"]);
        assert!(said.contains("(no packing: multi-pack-index.lock is somebody else's)"), "{said}");
        assert_eq!(packs(&served, "pack"), before);
    }
    std::fs::remove_file(&lock).unwrap();
    let said = site.tool(&["maintenance", "acme/site", "--full"]);
    assert!(said.contains("packed 3 packs") && !lock.exists(), "{said}");
    judge(&served);
}

#[test]
fn what_is_broken_in_history_does_not_keep_old_packs_beside_the_new_one() {
    let tag_of_nothing: (&str, &[u8]) = ("tag", b"object nonsense\n");
    let blob_as_parent = |repo: &Repo| {
        let blob = repo.feed(&["hash-object", "-w", "--stdin"], b"no commit");
        let tree = repo.feed(&["hash-object", "-t", "tree", "-w", "--stdin"], b"");
        format!("tree {tree}\nparent {blob}\nauthor a <a> 1 +0000\ncommitter a <a> 1 +0000\n\nx\n")
    };
    for is_tag in [true, false] {
        let (site, served) = of_packs(3);
        let commit = blob_as_parent(&served);
        let (kind, content) = if is_tag { tag_of_nothing } else { ("commit", commit.as_bytes()) };
        let broken = served.feed(&["hash-object", "-w", "--literally", "-t", kind, "--stdin"], content);
        std::fs::write(served.path.join("refs/heads/broken"), format!("{broken}\n")).unwrap();
        let before = objects(&served);
        let ran = site.try_tool(&["maintenance", "acme/site"]);
        assert!(!ran.ok && ran.err.contains("no commit-graph is written"), "{}{}", ran.out, ran.err);
        assert!(ran.out.contains("packed 3 packs"), "{}{}", ran.out, ran.err);
        let made = packs(&served, "pack");
        assert_eq!((objects(&served), made.len()), (before, 1));
        let ran = site.try_tool(&["maintenance", "acme/site"]);
        assert!(!ran.ok && !ran.out.contains("packed"), "{}{}", ran.out, ran.err);
        assert_eq!(packs(&served, "pack"), made);
    }
}

#[test]
fn a_loose_object_that_is_damaged_is_not_taken_for_good() {
    let (site, served) = of_packs(1);
    served.config("receive.unpackLimit", "100");
    more(&site, &served, 1..3);
    // A loose object's file under the name of another object.
    let name = |revision: &str| {
        let id = served.git(&["rev-parse", revision]);
        served.path.join("objects").join(&id[..2]).join(&id[2..])
    };
    let (one, other) = (name("main~1:file"), name("main:file"));
    std::fs::remove_file(&other).unwrap();
    std::fs::copy(&one, &other).unwrap();
    let before = files(&served.path.join("objects"));
    let ran = site.try_tool(&["maintenance", "acme/site", "--loose-limit", "1"]);
    let id = served.git(&["rev-parse", "main:file"]);
    assert!(!ran.ok && ran.err.contains(&format!("object {id} is damaged")), "{}{}", ran.out, ran.err);
    assert_eq!(files(&served.path.join("objects")), before);
}

#[test]
fn what_is_borrowed_is_not_copied() {
    let (site, origin) = of_packs(2);
    let fork = Repo::at(site.root().join("acme/fork.git"));
    site.create("acme/fork");
    let alternates = format!("{}\n", origin.path.join("objects").display());
    std::fs::write(fork.path.join("objects/info/alternates"), alternates).unwrap();
    fork.git(&["update-ref", "refs/heads/main", &origin.tip("main")]);
    more(&site, &fork, 2..4);
    let own = loose(&fork);
    let said = site.tool(&["maintenance", "acme/fork", "--loose-limit", "1"]);
    assert!(said.contains(&format!("packed {own} loose objects")), "{said}");
    assert_eq!((packs(&fork, "pack").len(), packs(&origin, "pack").len()), (1, 2));
    judge(&fork);
}

#[test]
fn heads_of_work_trees_and_reftables_keep_their_objects() {
    for format in ["files", "reftable"] {
        let site = Site::new();
        let work = site.work("of a user");
        work.git(&["init", "-q", &format!("--ref-format={format}")]);
        let names = ["one", "two"].map(|name| work.commit(name));
        work.git(&["worktree", "add", "-q", "--detach", "../elsewhere", "main"]);
        let other = site.work("elsewhere");
        let third = other.commit("three");
        let before = objects(&work);
        let path = work.path.to_str().unwrap();
        let said = site.tool(&["maintenance", path, "--loose-limit", "1"]);
        assert!(said.contains("packed 9 loose objects"), "{format}: {said}");
        assert!(said.contains("a commit-graph of 3 commits"), "{format}: {said}");
        assert_eq!((objects(&work), loose(&work)), (before, 0));
        assert_eq!((work.tip("main"), other.tip("HEAD")), (names[1].clone(), third));
        work.git(&["fsck", "--strict"]);
    }
}

#[test]
fn nothing_is_removed_from_a_precious_repository() {
    let (site, served) = of_packs(3);
    served.config("extensions.preciousObjects", "true");
    let before = packs(&served, "pack");
    let said = site.tool(&["maintenance", "acme/site", "--full"]);
    assert!(said.contains("preciousObjects") && said.contains("a multi-pack-index of 3 packs"), "{said}");
    assert_eq!(packs(&served, "pack"), before);
    judge(&served);
}

#[test]
fn a_rehearsal_changes_nothing() {
    let (site, served) = of_packs(3);
    let before = files(&served.path);
    let said = site.tool(&["maintenance", "acme/site", "--dry-run"]);
    assert_eq!(said, "acme/site: would pack 3 packs into one pack; write a commit-graph, bitmaps");
    assert_eq!(files(&served.path), before);
}

/// All files below a folder.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path);
        }
    }
    found
}

#[test]
fn all_repositories_are_looked_after_and_one_that_cannot_be_holds_up_none() {
    let (site, served) = of_packs(2);
    let other = site.create("acme/other");
    std::fs::write(other.path.join("config"), "[core").unwrap();
    // A web server may serve repositories whose names are not valid in `tokens` mode.
    for path in ["old.git", "group/team/deep", "work/.git"] {
        site.work("client").git(&["init", "-q", "--bare", site.root().join(path).to_str().unwrap()]);
    }
    let ran = site.try_tool(&["maintenance", "--all", "--json"]);
    assert!(!ran.ok && ran.err.contains("acme/other"), "{}", ran.err);
    let reports: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let of = |name: &str| {
        let found = reports.as_array().unwrap().iter().find(|report| report["repository"] == name);
        found.unwrap_or_else(|| panic!("{name} in {reports:#}"))
    };
    assert!(of("acme/other")["error"].is_string());
    assert_eq!(of("acme/site")["packs_merged"], 2);
    for path in ["old.git", "group/team/deep", "work/.git"] {
        assert_eq!(of(site.root().join(path).to_str().unwrap())["packs_merged"], 0);
    }
    assert_eq!(reports.as_array().unwrap().len(), 5);
    assert_eq!(packs(&served, "pack").len(), 1);
    let ran = site.try_tool(&["maintenance", "acme/site", "--quiet"]);
    assert!(ran.ok && ran.out.is_empty() && ran.err.is_empty(), "{}{}", ran.out, ran.err);
    assert!(!site.try_tool(&["maintenance", "acme/none"]).ok);
    assert!(!site.try_tool(&["maintenance"]).ok);
}

#[test]
fn a_directory_that_cannot_be_read_holds_up_no_repository() {
    let (site, served) = of_packs(2);
    let lost = site.root().join("lost");
    std::fs::create_dir_all(lost.join("inside")).unwrap();
    std::fs::set_permissions(&lost, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    let ran = |arguments: &[&str]| site.unprivileged(arguments);
    let listed = ran(&["repo", "list"]);
    assert!(
        listed.ok && listed.out == "acme/site" && listed.err.contains("/lost' is left out"),
        "{}{}",
        listed.out,
        listed.err
    );
    let looked_after = ran(&["maintenance", "--all"]);
    assert!(
        !looked_after.ok && looked_after.out.contains("packed 2 packs"),
        "{}{}",
        looked_after.out,
        looked_after.err
    );
    assert_eq!(looked_after.err.matches("/lost' is left out").count(), 1, "{}", looked_after.err);
    std::fs::set_permissions(&lost, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    assert_eq!(packs(&served, "pack").len(), 1);
    assert!(ran(&["maintenance", "--all"]).ok);
}

#[test]
fn lists_for_clients_of_the_dumb_protocol_follow() {
    let (site, served) = of_packs(2);
    served.git(&["update-server-info"]);
    site.tool(&["maintenance", "acme/site"]);
    let [pack] = &packs(&served, "pack")[..] else { panic!("one pack") };
    let listed = std::fs::read_to_string(served.path.join("objects/info/packs")).unwrap();
    assert_eq!(listed, format!("P {}\n\n", pack.file_name().unwrap().to_str().unwrap()));
}

/// Checks that git uses a bitmap of the branch's tip, and that it agrees with a walk.
fn has_bitmaps(repo: &Repo, branch: &str) {
    let ran = repo.try_git(&["rev-list", "--test-bitmap", branch]);
    assert!(ran.ok && ran.err.contains("OK!"), "{}{}", ran.out, ran.err);
}

#[test]
fn bitmaps_are_written_for_one_pack_and_for_several() {
    let (site, served) = of_packs(9);
    assert!(site.tool(&["maintenance", "acme/site"]).contains("bitmaps of 9 commits"));
    let [of_one] = &packs(&served, "bitmap")[..] else { panic!("one file") };
    has_bitmaps(&served, "main");
    judge(&served);
    // Loose objects go into a pack, so that bitmaps can cover them.
    served.config("receive.unpackLimit", "100");
    more(&site, &served, 9..10);
    served.config("receive.unpackLimit", "1");
    more(&site, &served, 10..11);
    let said = site.tool(&["maintenance", "acme/site"]);
    assert!(said.contains("loose objects and 1 pack into"), "{said}");
    assert!(said.contains("a multi-pack-index of 2 packs, bitmaps of 11 commits"), "{said}");
    let now = packs(&served, "bitmap");
    assert!(now.len() == 2 && now.contains(of_one), "that of the large pack is good for as long as it is there");
    has_bitmaps(&served, "main");
    judge(&served);
    assert_eq!(site.tool(&["maintenance", "acme/site"]), "acme/site: nothing to do");
    site.tool(&["maintenance", "acme/site", "--full"]);
    assert_eq!(packs(&served, "bitmap").len(), 1, "those of what is gone are gone");
    has_bitmaps(&served, "main");
    judge(&served);
}

#[test]
fn a_multi_pack_index_that_is_no_good_for_bitmaps_is_written_anew() {
    let (site, served) = of_packs(9);
    site.tool(&["maintenance", "acme/site"]);
    more(&site, &served, 9..10);
    let path = served.path.join("objects/pack/multi-pack-index");
    // git leaves out the order of the objects in a bitmap if no bitmap is to be written.
    served.git(&["multi-pack-index", "write"]);
    let said = site.tool(&["maintenance", "acme/site"]);
    assert!(said.contains("a multi-pack-index of 2 packs, bitmaps of 10 commits"), "{said}");
    has_bitmaps(&served, "main");
    judge(&served);
    // A multi-pack-index that does not match its checksum.
    let mut content = std::fs::read(&path).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, content).unwrap();
    let said = site.tool(&["maintenance", "acme/site"]);
    assert!(said.contains("a multi-pack-index of 2 packs"), "{said}");
    has_bitmaps(&served, "main");
    judge(&served);
    // What git writes with bitmaps contains the order.
    std::fs::remove_file(&path).unwrap();
    served.git(&["multi-pack-index", "write", "--bitmap"]);
    assert_eq!(site.tool(&["maintenance", "acme/site"]), "acme/site: nothing to do");
    // If bitmaps are not wanted, the order is not needed either.
    served.git(&["multi-pack-index", "write"]);
    served.config("repack.writeBitmaps", "false");
    let said = site.tool(&["maintenance", "acme/site"]);
    assert!(!said.contains("multi-pack-index of"), "{said}");
}

#[test]
fn where_objects_lie_elsewhere_or_nobody_wants_them_there_are_no_bitmaps() {
    let (site, served) = of_packs(2);
    let left_out = |name: &str, why: &str| {
        let said = site.tool(&["maintenance", name]);
        assert!(said.contains(&format!("(no bitmaps: {why}")), "{said}");
    };
    served.config("repack.writeBitmaps", "false");
    left_out("acme/site", "they are not wanted here");
    served.config("repack.writeBitmaps", "true");
    served.config("remote.origin.promisor", "true");
    left_out("acme/site", "objects are left to a promisor");
    served.config("remote.origin.promisor", "false");
    std::fs::write(served.path.join("shallow"), format!("{}\n", served.tip("main"))).unwrap();
    left_out("acme/site", "history is cut");
    std::fs::remove_file(served.path.join("shallow")).unwrap();
    let fork = site.create("acme/fork");
    let alternates = format!("{}\n", served.path.join("objects").display());
    std::fs::write(fork.path.join("objects/info/alternates"), alternates).unwrap();
    fork.config("receive.unpackLimit", "1");
    more(&site, &fork, 2..3);
    left_out("acme/fork", "objects are borrowed");
    // As in git, bitmaps are for repositories without a work tree.
    let work = site.work("fill").path.join(".git");
    let said = site.tool(&["maintenance", "--full", work.to_str().unwrap()]);
    assert!(said.contains("(no bitmaps: they are not wanted here"), "{said}");
    assert!(packs(&served, "bitmap").is_empty() && packs(&fork, "bitmap").is_empty());
    assert!(site.tool(&["maintenance", "acme/site"]).contains("bitmaps of 2 commits"));
}

//! Packs as a client gets them: how much they are compressed, where they end, how they break off.

use super::*;

/// The bytes of a pack.
fn pack_of(repo: &Repo, lines: &str) -> Vec<u8> {
    let (answer, error) = repo.ours(http(Version::V0), &UPLOAD, &repo.packets(lines));
    assert_eq!(error, None);
    let start = answer.windows(4).position(|window| window == b"PACK").expect("there is a pack");
    answer[start..].to_vec()
}

#[test]
fn the_owner_says_how_hard_a_pack_is_compressed() {
    let repo = Repo::drawn();
    let size = || pack_of(&repo, "want <main>|0000|done").len();
    let usual = size();
    let check = |keys: &[(&str, &str)], is_as_expected: &dyn Fn(usize) -> bool| {
        for (key, value) in keys {
            repo.git(&["config", key, value]);
        }
        assert!(is_as_expected(size()), "{keys:?}: {}, else {usual}", size());
    };
    let same = |size: usize| size == usual;
    // Nothing is deflated: three blobs of more than a hundred bytes each are included uncompressed.
    let plain = |size: usize| size > usual + 300;
    check(&[("core.compression", "0")], &plain);
    check(&[("pack.compression", "5")], &same);
    check(&[("pack.compression", "0"), ("core.compression", "9")], &plain);
    check(&[("pack.compression", "-1")], &same);
}

#[test]
fn limits_of_packs_on_disk_do_not_count_for_packs_that_are_sent() {
    let repo = Repo::drawn();
    repo.git(&["config", "pack.packSizeLimit", "1m"]);
    repo.git(&["config", "core.compression", "0"]);
    let noise: String = (0..60_000_u64).map(|n| format!("{:016x}\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    let blob = repo.blob(&noise);
    let tree = git_in(&repo.path, &["mktree"], format!("100644 blob {blob}\tone\n").as_bytes()).1;
    let twice = repo.blob(&format!("{noise}{noise}"));
    let tag = format!("object {twice}\ntype blob\ntag twice\ntagger A <a@example.com> 0 +0000\n\ntwice\n");
    let (_, tag, _) = git_in(&repo.path, &["mktag"], tag.as_bytes());
    let [tree, tag] = [tree, tag].map(|id| String::from_utf8(id).expect("hexadecimal").trim_end().to_owned());
    let commit = repo.git(&["commit-tree", "-m", "much", &tree]);
    repo.git(&["update-ref", "refs/heads/much", &commit]);
    repo.git(&["update-ref", "refs/tags/twice", &tag]);
    let told = same_fetch(&repo, http(Version::V2), "command=fetch|0001|want <much>|want <twice>|done|0000");
    assert!(told.contains("pack of 5:"), "{told}");
    assert!(pack_of(&repo, "want <much>|want <twice>|0000|done").len() > 2 << 20);
}

#[test]
fn without_side_bands_a_pack_that_fails_is_cut() {
    let repo = Repo::drawn();
    for damage in ["", "nonsense"] {
        let blob = repo.id("main:two");
        let path = repo.path.join("objects").join(&blob[..2]).join(&blob[2..]);
        let _ = std::fs::remove_file(&path);
        if !damage.is_empty() {
            std::fs::write(&path, damage).expect("it can be written");
        }
        for version in [Version::V0, Version::V1] {
            let input = repo.packets("want <main> ofs-delta|0000|done");
            let (answer, error) = repo.ours(http(version), &UPLOAD, &input);
            let (theirs, git_went_well) = repo.theirs(http(version), false, &input);
            assert!(error.is_some() && !git_went_well);
            for answer in [answer, theirs] {
                // If anything follows the acknowledgment, it is the beginning of a pack: no packet may be taken for
                // one.
                let rest = answer.strip_prefix(b"0008NAK\n").expect("there is nothing in common");
                assert!(rest.is_empty() || rest.starts_with(b"PACK"), "{}", rest.escape_ascii());
                assert!(!rest.windows(4).any(|window| window == b"ERR "), "{}", rest.escape_ascii());
                let (complete, ..) = git_in(&repo.bench().path, &["index-pack", "--stdin"], rest);
                assert!(!complete);
            }
        }
    }
}

#[test]
fn commits_have_their_own_parents_whatever_grafts_say() {
    let repo = Repo::drawn();
    let root = repo.id("root");
    std::fs::write(repo.path.join("info/grafts"), format!("{}\n", repo.id("main"))).expect("it can be written");
    let input = repo.packets("command=fetch|0001|want <main>|no-progress|done|0000");
    let (ours, error) = repo.ours(http(Version::V2), &UPLOAD, &input);
    assert_eq!(error, None);
    assert!(told(&repo, &ours).contains("pack of 9:") && told(&repo, &ours).contains(&root));
    let (theirs, _) = repo.theirs(http(Version::V2), false, &input);
    assert!(!told(&repo, &theirs).contains(&root), "git follows grafts no longer");
}

#[test]
fn a_commit_graph_is_read_unless_the_owner_forbids_it() {
    let repo = Repo::drawn();
    repo.git(&["repack", "-adbq"]);
    repo.git(&["commit-graph", "write", "--reachable"]);
    let check = |expected: bool| {
        let repository = repo.open(http(Version::V2));
        assert_eq!(repository.objects.graph().is_some(), expected);
        assert_eq!(repository.reopened().graph().is_some(), expected);
        let bitmaps = repository.objects.bitmaps(u64::MAX).expect("nothing is damaged");
        assert!(bitmaps.is_some(), "they are something else");
    };
    check(true);
    repo.git(&["config", "gc.writeCommitGraph", "false"]);
    check(true);
    repo.git(&["config", "core.commitGraph", "false"]);
    check(false);
}

#[test]
fn objects_are_sent_as_they_are_whatever_replaces_them() {
    let repo = Repo::drawn();
    // The ids are looked up before anything is replaced.
    let (root, one, blob) = (repo.id("root"), repo.id("one"), repo.id("main~1:one"));
    repo.git(&["replace", &repo.id("main"), &repo.id("topic")]);
    repo.git(&["replace", &blob, &repo.id("topic:three")]);
    repo.git(&["replace", "--graft", &one]);
    for asked in [http(Version::V0), http(Version::V2), pipe(Version::V2)] {
        let done = match asked.version {
            Version::V2 => "command=fetch|0001|want <main>|done|0000".to_owned(),
            Version::V0 | Version::V1 => "want <main> side-band-64k|0000|done".to_owned(),
        };
        let told = same_fetch(&repo, asked, &done);
        assert!(told.contains("pack of 9:") && told.contains(&root) && told.contains(&blob), "{told}");
    }
}

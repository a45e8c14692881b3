//! Kept packs (ARTIFACTS_CACHE): a client that asks the same gets the same bytes, and one that asks anything else does
//! not.

use super::*;
use crate::cache::{Patience, Settings};
use bstr::ByteSlice;
use std::time::Duration;

/// A cache directory beside a repository, in which even the smallest pack is kept.
struct Kept<'r> {
    repo: &'r Repo,
    settings: Settings,
}

impl<'r> Kept<'r> {
    fn beside(repo: &'r Repo) -> Self {
        let patience = Patience { private: Duration::ZERO, ..Patience::default() };
        Kept { repo, settings: Settings { directory: repo.path.join("kept"), bytes: 1 << 20, patience } }
    }

    /// The answer, the error, and where the pack came from.
    fn ask(&self, asked: Asked, lines: &str) -> (Vec<u8>, Option<String>, Option<&'static str>) {
        let mut repository = self.repo.open(asked);
        repository.context.cache = Some(self.settings.clone());
        let (mut bytes, mut summary) = (Vec::new(), Summary::default());
        let mut out = Out { sink: &mut bytes, channel: &mut ErrorChannel::Status, summary: &mut summary };
        let input = self.repo.packets(lines);
        let result = run(&UPLOAD, &repository, &mut Given { left: &input, stateless: asked.stateless }, &mut out);
        (bytes, result.err().and_then(|error| error.told("id")), summary.cache)
    }

    /// The bytes of a pack and where it came from. Its objects are those that are sent without a cache.
    fn pack(&self, asked: Asked, lines: &str) -> (Vec<u8>, &'static str) {
        let (answer, error, role) = self.ask(asked, lines);
        assert_eq!(error, None, "{lines}");
        let (plain, _) = self.repo.ours(asked, &UPLOAD, &self.repo.packets(lines));
        assert_eq!(told(self.repo, &answer), told(self.repo, &plain), "{lines}");
        (pack_in(&answer), role.expect("packs are kept"))
    }
}

#[test]
fn one_pack_answers_the_same_fetch_in_every_version_and_framing() {
    let repo = Repo::drawn();
    let kept = Kept::beside(&repo);
    let v2 = "command=fetch|0001|thin-pack|ofs-delta|want <main>|want <topic>|have <one>|done|0000";
    let (pack, role) = kept.pack(http(Version::V2), v2);
    assert_eq!(role, "lead");
    // The same wants in another order, too.
    let again = "command=fetch|0001|ofs-delta|thin-pack|no-progress|want <topic>|want <main>|have <one>|done|0000";
    let v0 = |bands: &str| format!("want <main> thin-pack ofs-delta {bands}|want <topic>|0000|have <one>|done");
    let asked = [
        (http(Version::V2), v2.to_owned()),
        (http(Version::V2), again.to_owned()),
        (http(Version::V0), v0("")),
        (http(Version::V0), v0("side-band")),
        (http(Version::V1), v0("side-band-64k no-progress")),
        (pipe(Version::V0), v0("multi_ack_detailed side-band-64k")),
    ];
    for (asked, lines) in asked {
        assert!(kept.pack(asked, &lines) == (pack.clone(), "hit"), "{lines}");
    }
}

#[test]
fn whatever_decides_a_pack_makes_it_another_one() {
    let repo = Repo::drawn();
    let kept = Kept::beside(&repo);
    let v2 = |arguments: &str| format!("command=fetch|0001|{arguments}|done|0000");
    let requests = [
        "want <main>",
        "want <topic>",
        "want <main>|want <topic>",
        "want <main>|have <one>",
        "want <main>|have <root>",
        "want <main>|have <one>|thin-pack",
        "want <main>|ofs-delta",
        "want <main>|include-tag",
        "want <main>|deepen 1",
        "want <main>|deepen 2",
        "want <topic>|shallow <one>",
        "want <main>|shallow <one>|deepen 3",
        "want <main>|filter blob:none",
        "want <main>|filter tree:1",
        "want <main>|filter blob:limit=5",
        "want <main>|filter combine:blob:none+tree:1",
    ];
    repo.git(&["config", "uploadpack.allowFilter", "true"]);
    let all = |role: &str| {
        for request in requests {
            assert_eq!(kept.pack(http(Version::V2), &v2(request)).1, role, "{request}");
        }
    };
    all("lead");
    all("hit");
    // Objects that are stored differently may be sent differently.
    repo.git(&["repack", "-q", "-d"]);
    all("lead");
    repo.git(&["config", "core.compression", "9"]);
    all("lead");
    all("hit");
    // New refs change nothing, except for tags that follow their targets.
    repo.git(&["update-ref", "refs/heads/new", &repo.id("one")]);
    all("hit");
    repo.git(&["tag", "-a", "-m", "new", "new", "main"]);
    assert_eq!(kept.pack(http(Version::V2), &v2("want <main>")).1, "hit");
    assert_eq!(kept.pack(http(Version::V2), &v2("want <main>|include-tag")).1, "lead");
    // Where our own history ends.
    std::fs::write(repo.path.join("shallow"), repo.id("one") + "\n").expect("scratch can be written");
    assert_eq!(kept.pack(http(Version::V2), &v2("want <main>")).1, "lead");
    std::fs::remove_file(repo.path.join("shallow")).expect("it is there");
    assert_eq!(kept.pack(http(Version::V2), &v2("want <main>")).1, "hit");
}

#[test]
fn what_is_kept_is_nobodys_right_to_have_it() {
    let repo = Repo::drawn();
    let kept = Kept::beside(&repo);
    let side = "command=fetch|0001|want <refs/secret/side>|done|0000";
    let tagged = "command=fetch|0001|include-tag|want <main>|done|0000";
    let (_, role) = kept.pack(tokens(Version::V2), side);
    assert_eq!(role, "lead");
    let (_, role) = kept.pack(tokens(Version::V2), tagged);
    assert_eq!(role, "lead");
    repo.git(&["config", "transfer.hideRefs", "refs/secret"]);
    repo.git(&["config", "--add", "transfer.hideRefs", "refs/tags"]);
    let (answer, error, role) = kept.ask(tokens(Version::V2), side);
    assert_eq!((answer.len(), role), (0, None));
    assert!(error.as_ref().is_some_and(|error| error.contains("not our ref")), "{error:?}");
    // Tags that are hidden by now do not come along.
    let (pack, role) = kept.pack(tokens(Version::V2), tagged);
    assert_eq!(role, "lead");
    assert!(!objects(&repo, &pack).contains(&repo.id("v1")));
    repo.git(&["config", "uploadpackfilter.allow", "false"]);
    let (_, error, role) = kept.ask(tokens(Version::V2), "command=fetch|0001|want <main>|filter blob:none|done|0000");
    assert_eq!((error.as_deref(), role), (Some("filter 'blob:none' not supported"), None));
}

#[test]
fn patterns_are_those_that_the_expression_names_now() {
    let repo = Repo::drawn();
    let kept = Kept::beside(&repo);
    let request = "command=fetch|0001|want <main>|filter sparse:oid=refs/heads/patterns:sparse|done|0000";
    let mut packs = Vec::new();
    for patterns in ["/two\n", "/nothing\n"] {
        let entry = format!("100644 blob {}\tsparse\n", repo.blob(patterns));
        let tree = String::from_utf8(git_in(&repo.path, &["mktree"], entry.as_bytes()).1).expect("hexadecimal");
        let commit = repo.git(&["commit-tree", "-m", "patterns", tree.trim_end()]);
        repo.git(&["update-ref", "refs/heads/patterns", &commit]);
        let (pack, role) = kept.pack(tokens(Version::V2), request);
        assert_eq!(role, "lead", "{patterns}");
        assert_eq!(kept.pack(tokens(Version::V2), request), (pack.clone(), "hit"));
        packs.push(objects(&repo, &pack));
    }
    assert_ne!(packs[0], packs[1]);
}

#[test]
fn of_a_pack_that_goes_out_whole_only_its_name_is_kept() {
    let repo = Repo::drawn();
    let kept = Kept::beside(&repo);
    repo.git(&["update-ref", "-d", "refs/secret/side"]);
    repo.git(&["reflog", "expire", "--expire=now", "--all"]);
    repo.git(&["repack", "-q", "-a", "-d"]);
    let refs = repo.git(&["for-each-ref", "--format=want %(objectname)"]);
    let wants: std::collections::BTreeSet<&str> = refs.lines().collect();
    let wants: Vec<&str> = wants.into_iter().collect();
    let request = format!("command=fetch|0001|ofs-delta|{}|done|0000", wants.join("|"));
    let on_disk = |repo: &Repo| {
        let packs = std::fs::read_dir(repo.path.join("objects/pack")).expect("there are packs");
        let pack = packs
            .map(|entry| entry.expect("it can be listed").path())
            .find(|path| path.extension() == Some("pack".as_ref()));
        pack.expect("there is one")
    };
    let stored = std::fs::read(on_disk(&repo)).expect("it can be read");
    for role in ["lead", "hit", "hit"] {
        assert_eq!(kept.pack(http(Version::V2), &request), (stored.clone(), role));
    }
    for entry in std::fs::read_dir(&kept.settings.directory).expect("something is kept") {
        assert!(entry.and_then(|entry| entry.metadata()).expect("it can be listed").len() < 400);
    }
    // The pack is found under another name too. Damage in it is left for the client to notice, as it is without a
    // cache.
    let path = on_disk(&repo);
    for extension in ["pack", "idx", "rev"] {
        let _ = std::fs::rename(
            path.with_extension(extension),
            path.with_file_name("pack-named").with_extension(extension),
        );
    }
    for role in ["lead", "hit"] {
        assert_eq!(kept.pack(http(Version::V2), &request), (stored.clone(), role));
    }
}

#[test]
fn what_cannot_be_completed_is_not_kept() {
    let repo = Repo::drawn();
    let kept = Kept::beside(&repo);
    let blob = repo.id("main:two");
    let path = repo.path.join("objects").join(&blob[..2]).join(&blob[2..]);
    let sound = std::fs::read(&path).expect("it is loose");
    let _ = std::fs::remove_file(&path);
    let request = "command=fetch|0001|want <main>|done|0000";
    let (_, error, role) = kept.ask(http(Version::V2), request);
    assert_eq!(role, None);
    assert_eq!(error.as_deref(), Some("aborting due to possible repository corruption on the remote side."));
    assert_eq!(std::fs::read_dir(&kept.settings.directory).expect("it was made").count(), 0);
    std::fs::write(&path, sound).expect("there is room");
    assert_eq!(kept.pack(http(Version::V2), request).1, "lead");
}

#[test]
fn a_directory_that_cannot_be_trusted_is_the_operators_to_hear_of() {
    use std::os::unix::fs::PermissionsExt;
    let repo = Repo::drawn();
    let kept = Kept::beside(&repo);
    std::fs::create_dir(&kept.settings.directory).expect("it is ours");
    std::fs::set_permissions(&kept.settings.directory, std::fs::Permissions::from_mode(0o777)).expect("it is ours");
    let mut repository = repo.open(http(Version::V2));
    repository.context.cache = Some(kept.settings.clone());
    let (mut bytes, mut summary) = (Vec::new(), Summary::default());
    let mut out = Out { sink: &mut bytes, channel: &mut ErrorChannel::Status, summary: &mut summary };
    let input = repo.packets("command=fetch|0001|want <main>|done|0000");
    run(&UPLOAD, &repository, &mut Given { left: &input, stateless: true }, &mut out).expect("it is served");
    assert_eq!(summary.cache, None);
    assert_eq!(summary.objects, 9);
    let warnings = repository.objects.take_warnings();
    assert!(matches!(&warnings[..], [one] if one.contains("everybody may write")), "{warnings:?}");
}

#[test]
fn what_lies_elsewhere_is_told_of_a_kept_pack_too() {
    let repo = Repo::drawn();
    let kept = Kept::beside(&repo);
    repo.git(&["config", "uploadpack.allowSidebandAll", "true"]);
    let blob = repo.id("main:two");
    let configure = |host: &str| {
        let line = format!("{blob} {} https://{host}/two.pack", "1".repeat(40));
        repo.git(&["config", "uploadpack.blobPackfileUri", &line]);
    };
    configure("one");
    let request = "command=fetch|0001|sideband-all|packfile-uris https|want <main>|done|0000";
    let asks = |host: &str, expected: &str| {
        let (answer, error, role) = kept.ask(http(Version::V2), request);
        assert_eq!((error, role), (None, Some(expected)));
        assert!(answer.windows(host.len()).any(|window| window == host.as_bytes()), "{host}");
        let (plain, _) = repo.ours(http(Version::V2), &UPLOAD, &repo.packets(request));
        assert!(pack_in(&answer) == pack_in(&plain));
    };
    asks("https://one/", "lead");
    asks("https://one/", "hit");
    configure("two");
    asks("https://two/", "lead");
    // Who cannot fetch from there gets all of it.
    let request = request.replace("https", "ftp");
    let (answer, error, role) = kept.ask(http(Version::V2), &request);
    assert_eq!((error, role), (None, Some("lead")));
    assert!(objects(&repo, &pack_behind(&answer)).contains(&blob));
}

/// Sections go through bands as well.
fn pack_behind(answer: &[u8]) -> Vec<u8> {
    let bytes = pack_in(answer);
    bytes[bytes.find(b"PACK").expect("there is one")..].to_vec()
}

#[test]
fn what_lies_elsewhere_no_longer_goes_out_again() {
    let repo = Repo::drawn();
    let kept = Kept::beside(&repo);
    repo.git(&["config", "uploadpack.allowSidebandAll", "true"]);
    for name in repo.git(&["for-each-ref", "--format=%(refname)"]).lines().filter(|name| *name != "refs/heads/main") {
        repo.git(&["update-ref", "--no-deref", "-d", name]);
    }
    repo.git(&["repack", "-q", "-a", "-d"]);
    let packs = std::fs::read_dir(repo.path.join("objects/pack")).expect("it is there").flatten();
    let pack = packs.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|found| found == "pack"));
    let stem = pack.expect("there is one").file_stem().expect("it has a name").to_string_lossy().into_owned();
    let hash = stem.strip_prefix("pack-").expect("packs are called so");
    let (two, tip) = (repo.id("main"), repo.id("one"));
    repo.commit("four", &[&two], "main");
    let request = "command=fetch|0001|sideband-all|packfile-uris https|want <main>|done|0000";
    let asks = |expected: &str, is_whole: bool| {
        let (answer, error, role) = kept.ask(http(Version::V2), request);
        assert_eq!((error, role), (None, Some(expected)));
        assert_eq!(objects(&repo, &pack_behind(&answer)).contains(&tip), is_whole);
    };
    let configure = |hash: &str| {
        repo.git(&["config", "artifacts.packfileUri", &format!("{hash} https://one/{stem}.pack")]);
    };
    configure(&"1".repeat(40));
    asks("lead", true);
    configure(hash);
    asks("lead", false);
    configure(&"1".repeat(40));
    asks("hit", true);
}

//! What may be asked for, in corner cases of git's own rules.

use super::*;

#[test]
fn the_empty_tree_is_there_without_being_stored_as_in_git() {
    let repo = Repo::drawn();
    let empty = gix_hash::ObjectId::empty_tree(gix_hash::Kind::Sha1).to_string();
    assert!(!repo.path.join("objects").join(&empty[..2]).join(&empty[2..]).exists());
    for asked in [http(Version::V0), pipe(Version::V2), http(Version::V2), tokens(Version::V2)] {
        let lines = match asked.version {
            Version::V2 => format!("command=fetch|0001|want {empty}|done|0000"),
            Version::V0 | Version::V1 => format!("want {empty} side-band-64k|0000|done"),
        };
        let told = same_fetch(&repo, asked, &lines);
        assert!(told.contains(&format!("pack of 1: {empty}")), "{told}");
    }
    let told = same_fetch(&repo, http(Version::V2), &format!("command=fetch|0001|want <main>|have {empty}|0000"));
    assert!(told.contains(&format!("ACK {empty}")), "{told}");
    // Over pipes v0 accepts only tips.
    let told = same_fetch(&repo, pipe(Version::V0), &format!("want {empty} side-band-64k|0000|done"));
    assert!(told.ends_with(&format!("|ERR upload-pack: not our ref {empty}")), "{told}");
}

#[test]
fn what_tips_reach_may_be_wanted_whatever_the_clocks_say() {
    let repo = Repo::drawn();
    // A commit whose clock was ahead: git takes it for new, and gives up before it reaches the path that leads there.
    let ahead = repo.dated("ahead", &[], 9_000_000);
    let child = repo.dated("child", std::slice::from_ref(&ahead), 900);
    let old = repo.dated("old", &[child], 901);
    repo.git(&["update-ref", "refs/heads/old", &old]);
    for number in 0..8 {
        let newer = repo.dated(&format!("newer{number}"), &[repo.id("main")], 8_000_000 + number);
        repo.git(&["update-ref", &format!("refs/heads/newer{number}"), &newer]);
    }
    let input = repo.packets(&format!("want {ahead} side-band-64k|0000|done"));
    let (answer, error) = repo.ours(http(Version::V0), &UPLOAD, &input);
    assert_eq!(error, None);
    assert!(told(&repo, &answer).contains("pack of"), "{}", told(&repo, &answer));
    let (theirs, ok) = repo.theirs(http(Version::V0), false, &input);
    assert!(!ok && told(&repo, &theirs).contains(&format!("not our ref {ahead}")), "{}", told(&repo, &theirs));
}

#[test]
fn the_key_for_any_object_sets_and_clears_the_others() {
    let repo = Repo::drawn();
    let lost = repo.commit_object("lost", &[]);
    repo.git(&["config", "uploadpack.hideRefs", "refs/secret"]);
    let check = |lines: &[(&str, bool)], expected: &str| {
        std::fs::write(repo.path.join("wants"), "").expect("it can be written");
        repo.git(&["config", "include.path", "wants"]);
        for (key, value) in lines {
            let key = format!("uploadpack.allow{key}SHA1InWant");
            repo.git(&["config", "--file", "wants", "--add", &key, &value.to_string()]);
        }
        same_advertisement(&repo, Version::V0);
        let served = |want: &str| {
            let told = same_fetch(&repo, pipe(Version::V0), &format!("want {want} side-band-64k|0000|done"));
            if told.contains("pack of") { 'y' } else { '-' }
        };
        let told: String = ["<refs/secret/side>", "<root>", &lost].into_iter().map(served).collect();
        assert_eq!(told, expected, "{lines:?}");
    };
    check(&[], "---");
    check(&[("Tip", true)], "y--");
    check(&[("Tip", true), ("Reachable", true)], "yy-");
    check(&[("Tip", true), ("Reachable", true), ("Any", false)], "---");
    check(&[("Any", false), ("Tip", true)], "y--");
    check(&[("Any", true)], "yyy");
    check(&[("Any", true), ("Any", false)], "---");
}

#[test]
fn a_token_may_have_less_where_a_namespace_hides_refs_and_where_the_owner_says_so() {
    let repo = Repo::drawn();
    repo.git(&["update-ref", "refs/namespaces/n/refs/heads/main", "main"]);
    let wants = ["<main>", "<root>", "<main^{tree}>", "<refs/secret/side:side>"];
    let check = |namespace: Option<&str>, expected: &str| {
        let may = |want: &&str| {
            let mut repository = repo.open(tokens(Version::V2));
            repository.context.namespace = namespace.map(Into::into);
            let (mut bytes, mut summary) = (Vec::new(), Summary::default());
            let mut out = Out { sink: &mut bytes, channel: &mut ErrorChannel::Status, summary: &mut summary };
            let input = repo.packets(&format!("command=fetch|0001|want {want}|done|0000"));
            let served = run(&UPLOAD, &repository, &mut Given { left: &input, stateless: true }, &mut out);
            if served.is_ok() { 'y' } else { '-' }
        };
        assert_eq!(wants.iter().map(may).collect::<String>(), expected, "{namespace:?}");
    };
    check(None, "yyyy");
    check(Some("n"), "yyy-");
    repo.git(&["config", "uploadpack.allowReachableSHA1InWant", "false"]);
    check(None, "y---");
    check(Some("n"), "y---");
    repo.git(&["config", "uploadpack.allowReachableSHA1InWant", "true"]);
    check(None, "yyyy");
    check(Some("n"), "yyy-");
}

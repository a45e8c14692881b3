//! Lists of refs.

use super::*;

#[test]
fn advertisements_are_gits() {
    let repo = Repo::drawn();
    repo.git(&["config", "uploadpack.hideRefs", "refs/secret"]);
    for version in [Version::V0, Version::V1, Version::V2] {
        same_advertisement(&repo, version);
    }
    for key in ["allowTipSHA1InWant", "allowReachableSHA1InWant", "allowAnySHA1InWant"] {
        repo.git(&["config", &format!("uploadpack.{key}"), "true"]);
        same_advertisement(&repo, Version::V0);
    }
    repo.git(&["config", "lsrefs.unborn", "ignore"]);
    same_advertisement(&repo, Version::V2);
    repo.git(&["pack-refs", "--all"]);
    same_advertisement(&repo, Version::V0);
    std::fs::write(repo.path.join("HEAD"), format!("{}\n", repo.id("v1"))).expect("it is there");
    same_advertisement(&repo, Version::V0);
    same_advertisement(&Repo::new(), Version::V0);
    same_advertisement(&Repo::new(), Version::V2);
}

#[test]
fn refs_whose_objects_are_lost_are_listed_as_git_lists_them() {
    let repo = Repo::drawn();
    repo.git(&["pack-refs", "--all"]);
    let lost = "0123456789".repeat(4);
    let check = |repo: &Repo| {
        same_advertisement(repo, Version::V0);
        let input = repo.packets("command=ls-refs|0001|peel|symrefs|0000");
        let (ours, error) = repo.ours(http(Version::V2), &UPLOAD, &input);
        assert_eq!((told(repo, &ours), error), (told(repo, &repo.theirs(http(Version::V2), false, &input).0), None));
        assert!(told(repo, &ours).contains(&format!("{lost} refs/heads/ghost\n")));
    };
    std::fs::write(repo.path.join("refs/heads/ghost"), format!("{lost}\n")).expect("it can be written");
    check(&repo);
    repo.git(&["symbolic-ref", "HEAD", "refs/heads/ghost"]);
    check(&repo);
    let tag = repo.id("v1");
    std::fs::remove_file(repo.path.join("objects").join(&tag[..2]).join(&tag[2..])).expect("it is a loose object");
    check(&repo);
}

#[test]
fn a_branch_that_was_made_a_tag_by_hand_is_peeled_where_it_is_packed() {
    let repo = Repo::drawn();
    std::fs::write(repo.path.join("refs/heads/by-hand"), format!("{}\n", repo.id("v1"))).expect("it can be written");
    let peeled = "refs/heads/by-hand^{}\n";
    let listed =
        |repo: &Repo| told(repo, &repo.ours(http(Version::V0), &Operation::Advertise(Service::UploadPack), b"").0);
    let ours = listed(&repo);
    assert!(ours.contains("refs/heads/by-hand\n") && !ours.contains(peeled), "{ours}");
    repo.git(&["pack-refs", "--all"]);
    assert!(listed(&repo).contains(peeled));
    same_advertisement(&repo, Version::V0);
}

#[test]
fn tags_that_name_nothing_are_listed_as_git_lists_them() {
    let repo = Repo::drawn();
    let tag = |name: &str, content: &str| {
        let arguments = ["hash-object", "-t", "tag", "--literally", "-w", "--stdin"];
        let (ok, out, errors) = git_in(&repo.path, &arguments, content.as_bytes());
        assert!(ok, "{errors}");
        let id = String::from_utf8(out).expect("hexadecimal");
        std::fs::write(repo.path.join("refs/tags").join(name), &id).expect("it can be written");
        id.trim_end().to_owned()
    };
    let nameless = tag("nameless", &format!("object {}\ntype commit\n", repo.id("one")));
    tag("empty", "");
    // The tags' targets need not exist.
    tag("lost", &format!("object {}\ntype blob\ntag t\n", "5a".repeat(20)));
    tag("broken", &format!("object {}\ntype tag\ntag t\n", "5b".repeat(20)));
    tag("chained", &format!("object {nameless}\ntype tag\ntag t\n"));
    same_advertisement(&repo, Version::V0);
    let input = repo.packets("command=ls-refs|0001|peel|symrefs|0000");
    let (ours, error) = repo.ours(http(Version::V2), &UPLOAD, &input);
    assert_eq!((told(&repo, &ours), error), (told(&repo, &repo.theirs(http(Version::V2), false, &input).0), None));
    assert!(told(&repo, &ours).contains(&format!("{nameless} refs/tags/nameless\n")));
    // A client that asks for something else is not affected by them.
    let input = repo.packets("command=fetch|0001|want <main>|include-tag|no-progress|have <one>|done|0000");
    let (_, error) = repo.ours(http(Version::V2), &UPLOAD, &input);
    assert_eq!(error, None);
}

#[test]
fn a_head_that_points_to_no_name_is_none() {
    let repo = Repo::drawn();
    for head in ["ref: refs/heads/bad..name", "ref: refs/heads/main\n\nxx", "ref: refs/heads/a b\n"] {
        std::fs::write(repo.path.join("HEAD"), head).expect("it can be written");
        same_advertisement(&repo, Version::V0);
        let input = repo.packets("command=ls-refs|0001|symrefs|unborn|peel|0000");
        let (ours, error) = repo.ours(http(Version::V2), &UPLOAD, &input);
        assert_eq!((told(&repo, &ours), error), (told(&repo, &repo.theirs(http(Version::V2), false, &input).0), None));
        assert!(!told(&repo, &ours).contains("HEAD"), "{head}");
    }
}

#[test]
fn a_push_is_announced_without_head_and_with_what_alternates_have() {
    let origin = Repo::drawn();
    let fork = Repo::new();
    let alternates = fork.path.join("objects/info/alternates");
    std::fs::write(alternates, format!("{}\n", origin.path.join("objects").display())).expect("it was just made");
    fork.git(&["update-ref", "refs/heads/main", &origin.id("main")]);
    for version in [Version::V0, Version::V1, Version::V2] {
        let (ours, error) = fork.ours(http(version), &Operation::Advertise(Service::ReceivePack), b"");
        assert_eq!(error, None);
        let ours = told(&fork, &ours);
        let named = ours.starts_with("# service=git-receive-pack\n|0000|");
        assert_eq!(named, version != Version::V2);
        assert_eq!(ours.contains("version 1\n"), version == Version::V1);
        let first = format!(
            "{} refs/heads/main\0report-status report-status-v2 delete-refs side-band-64k quiet atomic ofs-delta \
             object-format=sha1 agent=artifacts/test\n",
            origin.id("main")
        );
        assert!(ours.contains(&first), "{ours}");
        let have = |name: &str| ours.matches(&format!("{} .have\n", origin.id(name))).count();
        assert_eq!((have("main"), have("topic"), have("refs/secret/side"), have("v1")), (0, 1, 1, 1), "{ours}");
        assert!(!ours.contains("HEAD") && !ours.contains("^{}"), "{ours}");
    }
    let (empty, _) = Repo::new().ours(http(Version::V0), &Operation::Advertise(Service::ReceivePack), b"");
    assert!(told(&fork, &empty).contains(&format!("{} capabilities^{{}}\0report-status", "0".repeat(40))));
}

#[test]
fn a_push_is_announced_as_the_owner_configures_it() {
    let repo = Repo::drawn();
    let announced = |key: &str, value: &str| {
        repo.git(&["config", key, value]);
        let (ours, error) = repo.ours(http(Version::V0), &Operation::Advertise(Service::ReceivePack), b"");
        assert_eq!(error, None);
        let ours = told(&repo, &ours);
        let words = ours.split(" quiet ").nth(1).and_then(|rest| rest.split(" object-format=").next());
        words.expect("there are capabilities").to_owned()
    };
    assert_eq!(announced("receive.advertisePushOptions", "false"), "atomic ofs-delta");
    assert_eq!(announced("receive.advertisePushOptions", "true"), "atomic ofs-delta push-options");
    assert_eq!(announced("receive.advertiseAtomic", "false"), "ofs-delta push-options");
    assert_eq!(announced("repack.useDeltaBaseOffset", "false"), "push-options");
    assert_eq!(announced("transfer.advertiseSID", "true"), "push-options session-id=session");
    announced("repack.useDeltaBaseOffset", "true");
    let all = announced("receive.certNonceSeed", "seed");
    let names: Vec<&str> = all.split(' ').map(|word| word.split('=').next().unwrap_or_default()).collect();
    assert_eq!(names, ["ofs-delta", "push-cert", "push-options", "session-id"], "{all}");
}

#[test]
fn ls_refs_is_gits() {
    let repo = Repo::drawn();
    repo.git(&["config", "transfer.hideRefs", "refs/secret"]);
    let check = |repo: &Repo, arguments: &str| {
        let input = repo.packets(&format!("command=ls-refs\n|agent=x|object-format=sha1|{arguments}0000"));
        let (ours, error) = repo.ours(http(Version::V2), &UPLOAD, &input);
        let (theirs, _) = repo.theirs(http(Version::V2), false, &input);
        assert_eq!(told(repo, &ours), told(repo, &theirs), "{arguments}");
        assert_eq!(error, None);
    };
    for arguments in [
        "",
        "0001|",
        "0001|peel\n|symrefs\n|unborn\n|",
        "0001|peel|",
        "0001|symrefs|ref-prefix HEAD|ref-prefix refs/heads/|ref-prefix refs/tags/v|",
        "0001|ref-prefix refs/tags/v1|ref-prefix refs/tags/|ref-prefix refs/tags/v1|",
        "0001|ref-prefix H|ref-prefix refs/secret/|",
        "0001|ref-prefix nothing|",
        "0001|ref-prefix |",
    ] {
        check(&repo, arguments);
    }
    repo.git(&["symbolic-ref", "HEAD", "refs/heads/unborn"]);
    for unborn in ["advertise", "allow", "ignore"] {
        repo.git(&["config", "lsrefs.unborn", unborn]);
        for arguments in
            ["0001|symrefs|unborn|", "0001|unborn|", "0001|symrefs|", "0001|symrefs|unborn|ref-prefix refs/|"]
        {
            check(&repo, arguments);
        }
    }
    check(&Repo::new(), "0001|symrefs|unborn|");
}

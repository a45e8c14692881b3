//! Filters and the requests of partial clones, compared with git's upload-pack.

use super::*;

fn allowing() -> Repo {
    let repo = Repo::drawn();
    repo.git(&["config", "uploadpack.allowFilter", "true"]);
    repo
}

fn v2(lines: &str) -> String {
    format!("command=fetch|object-format=sha1|0001|{lines}|0000")
}

#[test]
fn filters_are_announced_and_understood_where_they_are_allowed() {
    let repo = Repo::drawn();
    let check = |mode: fn(Version) -> Asked, expected: bool| {
        for (version, word) in [(Version::V0, " filter "), (Version::V2, "fetch=wait-for-done filter")] {
            let (ours, error) = repo.ours(mode(version), &Operation::Advertise(Service::UploadPack), b"");
            assert_eq!(error, None);
            let ours = told(&repo, &ours).replace("fetch=shallow ", "fetch=");
            assert_eq!(ours.contains(word), expected, "{ours}");
            let (lines, refusal) = match version {
                Version::V2 => (v2("want <main>|filter tree:0|done"), "unexpected line: 'filter tree:0'"),
                Version::V0 | Version::V1 => (
                    "want <main> filter side-band-64k|filter tree:0|0000|done".to_owned(),
                    "git upload-pack: filtering capability not negotiated",
                ),
            };
            let (answer, error) = repo.ours(mode(version), &UPLOAD, &repo.packets(&lines));
            assert_eq!(error.as_deref(), (!expected).then_some(refusal));
            assert_eq!(told(&repo, &answer).contains("pack of 3"), expected);
        }
    };
    check(http, false);
    check(tokens, true);
    repo.git(&["config", "uploadpack.allowFilter", "true"]);
    check(http, true);
    same_advertisement(&repo, Version::V0);
    same_advertisement(&repo, Version::V2);
    repo.git(&["config", "uploadpack.allowFilter", "false"]);
    check(tokens, false);
}

#[test]
fn filtered_fetches_are_gits() {
    let repo = allowing();
    for filter in [
        "blob:none",
        "blob:limit=1",
        "blob:limit=161",
        "blob:limit=10k",
        "tree:0",
        "tree:1",
        "tree:2",
        "object:type=commit",
        "object:type=blob",
        "object:type=tag",
        // That file contains the names of files.
        "sparse:oid=main:two",
        "sparse:oid=refs/heads/main~1:one",
        "sparse:oid=v1-again^{tree}:one",
        "combine:blob:none+tree:1",
        "combine:sparse:oid=main:two+blob:limit=10k",
    ] {
        for lines in ["want <main>|want <v1>|done", "want <topic>|have <main>|thin-pack|ofs-delta|done"] {
            same_fetch(&repo, http(Version::V2), &v2(&format!("{lines}|filter {filter}")));
        }
        let v0 = format!("want <main> side-band-64k filter {CLONE}|filter {filter}|0000|done");
        same_fetch(&repo, http(Version::V0), &v0);
        same_fetch(&repo, http(Version::V0), &v0.replace("|done", "|have <one>|done"));
    }
    let tagged = same_fetch(&repo, http(Version::V2), &v2("want <main>|filter tree:0|include-tag|done"));
    assert!(tagged.contains("pack of 5"), "{tagged}");
}

#[test]
fn what_is_asked_for_by_name_is_sent_whatever_the_filter() {
    let repo = allowing();
    for filter in ["blob:none", "tree:0", "object:type=commit", "combine:blob:none+tree:0", "blob:limit=1"] {
        for lines in ["want <main:two>|done", "want <main^{tree}>|done", "want <main>|want <main:two>|done"] {
            let told = same_fetch(&repo, http(Version::V2), &v2(&format!("{lines}|filter {filter}")));
            assert!(told.contains("pack of"), "{told}");
        }
    }
    // git leaves out objects that it meets below another want, or takes to be known to the client: a partial clone may
    // lack both.
    for lines in ["want <main^{tree}>|want <main:two>|done", "want <main:two>|have <main>|done"] {
        let input = repo.packets(&v2(&format!("{lines}|filter blob:none")));
        let (answer, error) = repo.ours(http(Version::V2), &UPLOAD, &input);
        assert_eq!(error, None);
        assert!(told(&repo, &answer).contains(&repo.id("main:two")), "{lines}");
    }
}

#[test]
fn the_owner_says_which_filters_may_be_used() {
    let repo = allowing();
    let check = |settings: &[(&str, &str)], filter: &str, expected: Option<&str>| {
        for (key, value) in settings {
            repo.git(&["config", &format!("uploadpackfilter.{key}"), value]);
        }
        for (version, lines) in [
            (Version::V2, v2(&format!("want <main>|filter {filter}|done"))),
            (Version::V0, format!("want <main> filter side-band-64k|filter {filter}|0000|done")),
        ] {
            match expected {
                None => {
                    let told = same_fetch(&repo, http(version), &lines);
                    assert!(told.contains("pack of"), "{settings:?} {filter}: {told}");
                }
                Some(text) => {
                    let (answer, error) = repo.ours(http(version), &UPLOAD, &repo.packets(&lines));
                    assert_eq!(error.as_deref(), Some(text), "{settings:?} {filter}");
                    assert_eq!(told(&repo, &answer), "");
                    let (theirs, ok) = repo.theirs(http(version), false, &repo.packets(&lines));
                    assert!(!ok);
                    assert_eq!(told(&repo, &theirs), format!("ERR {text}"), "{settings:?} {filter}");
                }
            }
        }
        for (key, _) in settings {
            repo.git(&["config", "--unset", &format!("uploadpackfilter.{key}")]);
        }
    };
    check(&[("allow", "false")], "blob:none", Some("filter 'blob:none' not supported"));
    check(&[("allow", "false"), ("blob:none.allow", "true")], "blob:none", None);
    check(&[("blob:limit.allow", "false")], "blob:limit=1k", Some("filter 'blob:limit' not supported"));
    check(&[("blob:limit.allow", "false")], "blob:none", None);
    check(&[("object:type.allow", "0")], "object:type=tag", Some("filter 'object:type' not supported"));
    check(&[("sparse:oid.allow", "no")], "sparse:oid=nothing", Some("filter 'sparse:oid' not supported"));
    check(&[("combine.allow", "false")], "combine:tree:1+tree:2", Some("filter 'combine' not supported"));
    check(&[("tree.allow", "false")], "combine:blob:none+tree:2", Some("filter 'tree' not supported"));
    check(&[("allow", "false"), ("tree.maxDepth", "2")], "tree:2", None);
    let deep = "tree filter allows max depth 2, but got 3";
    check(&[("allow", "false"), ("tree.maxDepth", "2")], "tree:3", Some(deep));
    check(&[("tree.maxDepth", "2")], "combine:blob:none+combine:tree:3", Some(deep));
    check(&[("tree.allow", "false"), ("tree.maxDepth", "2")], "tree:1", None);
    check(&[("tree.maxDepth", "2"), ("tree.allow", "false")], "tree:1", Some("filter 'tree' not supported"));
}

#[test]
fn a_filter_that_makes_no_sense_is_told() {
    let repo = allowing();
    let blob = repo.id("main:two");
    let check = |filter: &str, expected: &str| {
        let input = repo.packets(&v2(&format!("want <main>|filter {filter}|done")));
        let (answer, error) = repo.ours(http(Version::V2), &UPLOAD, &input);
        assert_eq!(error.as_deref(), Some(expected), "{filter}");
        assert_eq!(told(&repo, &answer), "", "{filter}");
        assert!(!repo.theirs(http(Version::V2), false, &input).1, "{filter}");
    };
    check("sparse:path=x", "sparse:path filters support has been dropped");
    check("nonsense", "invalid filter-spec 'nonsense'");
    check("tree:1|filter tree:1", "multiple filter-specs cannot be combined");
    for name in [
        "",
        "nothing",
        "main:nothing",
        "main:two/x",
        "main:two/",
        "main~7:two",
        "main^2",
        ":two",
        "main^{commit:two",
        "main^{blob}",
        "refs/heads/../../HEAD:two",
        "1111111111111111111111111111111111111111",
    ] {
        check(&format!("sparse:oid={name}"), &format!("unable to access sparse blob in '{name}'"));
    }
    let tree = repo.id("main^{tree}");
    check("sparse:oid=main:", &format!("unable to parse sparse filter data in {tree}"));
    check("sparse:oid=main^0:", &format!("unable to parse sparse filter data in {tree}"));
    check(&format!("sparse:oid={tree}"), &format!("unable to parse sparse filter data in {tree}"));
    same_fetch(&repo, http(Version::V2), &v2(&format!("want <main>|filter sparse:oid={blob}|done")));
}

#[test]
fn patterns_are_read_only_from_what_a_token_may_have() {
    let repo = Repo::drawn();
    repo.git(&["config", "transfer.hideRefs", "refs/secret"]);
    let (hidden, shown) = (repo.id("refs/secret/side:side"), repo.id("main:two"));
    let may = |name: &str| {
        let input = repo.packets(&v2(&format!("want <main>|filter sparse:oid={name}|done")));
        let (answer, error) = repo.ours(tokens(Version::V2), &UPLOAD, &input);
        if let Some(error) = &error {
            assert_eq!(error, &format!("unable to access sparse blob in '{name}'"));
        }
        error.is_none() && told(&repo, &answer).contains("pack of")
    };
    assert!(may("main:two") && may("@:two") && may(&shown));
    assert!(!may("refs/secret/side:side") && !may(&hidden));
    // The id of another repository's commit may be that of an object here that no ref reaches.
    let id = gix_hash::ObjectId::from_hex(hidden.as_bytes()).expect("git names objects so");
    // So may any entry whose mode git takes for a gitlink.
    for mode in ["160000", "20000"] {
        let tree = [mode.as_bytes(), b" module\0", id.as_slice()].concat();
        let (ok, tree, errors) =
            git_in(&repo.path, &["hash-object", "-t", "tree", "--literally", "-w", "--stdin"], &tree);
        assert!(ok, "{errors}");
        let tree = String::from_utf8(tree).expect("hexadecimal");
        let tip = repo.git(&["commit-tree", "-m", "module", tree.trim_end()]);
        repo.git(&["update-ref", "refs/heads/module", &tip]);
        assert!(!may("module:module"));
    }
    repo.git(&["config", "artifacts.wants", "commits"]);
    assert!(may(&hidden), "a blob needs only exist");
    repo.git(&["config", "artifacts.wants", "advertised"]);
    assert!(may("main:two") && !may(&shown));
}

#[test]
fn a_large_file_of_patterns_is_refused() {
    let repo = allowing();
    let fetch = |bytes: usize| {
        let blob = repo.blob(&format!("{}\n", "x".repeat(bytes - 1)));
        let input = repo.packets(&v2(&format!("want <main>|filter combine:sparse:oid={blob}+sparse:oid={blob}|done")));
        repo.ours(http(Version::V2), &UPLOAD, &input).1.map(|error| error.replace(&blob, "it"))
    };
    assert_eq!(fetch(2 << 20), None);
    assert_eq!(fetch((2 << 20) + 1).as_deref(), Some("unable to parse sparse filter data in it"));
}

#[test]
fn the_audit_line_names_the_filter() {
    let repo = allowing();
    let repository = repo.open(http(Version::V2));
    let input = repo.packets(&v2("want <main>|filter tree:1|done"));
    let (mut bytes, mut summary) = (Vec::new(), Summary::default());
    let mut out = Out { sink: &mut bytes, channel: &mut ErrorChannel::Status, summary: &mut summary };
    run(&UPLOAD, &repository, &mut Given { left: &input, stateless: true }, &mut out).expect("it can be served");
    assert_eq!(summary.filter, Some("tree"));
}

/// A partial clone of the drawing, without blobs.
fn partial(origin: &Repo) -> Repo {
    let repo = Repo::new();
    let url = format!("file://{}", origin.path.display());
    repo.git(&["remote", "add", "origin", &url]);
    repo.git(&["fetch", "-q", "--filter=blob:none", "origin", "+refs/*:refs/*"]);
    repo.git(&["config", "uploadpack.allowFilter", "true"]);
    repo
}

#[test]
fn a_partial_clone_serves_what_it_has() {
    let origin = allowing();
    let repo = partial(&origin);
    let told_by = |lines: &str| {
        let (answer, error) = repo.ours(http(Version::V2), &UPLOAD, &origin.packets(&v2(lines)));
        (told(&origin, &answer), error)
    };
    for lines in [
        "want <main>|want <v1>|filter blob:none|done",
        "want <topic>|have <topic>|done",
        "want <main>|filter tree:1|done",
    ] {
        let (answer, error) = told_by(lines);
        assert_eq!(error, None);
        assert_eq!(answer, same_fetch(&origin, http(Version::V2), &v2(lines)), "{lines}");
    }
    let (answer, error) = told_by("want <main>|done");
    assert!(!answer.contains("pack of"), "{answer}");
    let error = error.expect("a blob is missing");
    let named = ["main~2:root", "main~1:one", "main:two"].map(|name| origin.id(name));
    let told = |id: &String| {
        format!("upload-pack: lazy fetching disabled; blob {id} is not here: this repository is a partial clone")
    };
    assert!(named.iter().any(|id| error == told(id)), "{error}");
}

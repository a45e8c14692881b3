//! Pushes of history that is incomplete or malformed.

use super::*;

#[test]
fn incomplete_history_is_refused_where_it_is_incomplete() {
    let pair = Pair::new();
    pair.commit("three");
    let four = pair.commit("four");
    // Only the last commit is sent: its parent is missing.
    let lone = pair.git_with(&pair.client, &["pack-objects", "-q", "--stdout"], format!("{four}\n").as_bytes());
    let mut push = pair.push(&["- HEAD refs/heads/a", "- HEAD~2 refs/heads/b"]);
    push.pack = lone;
    let answer = check_beside_git(&pair, &push.bytes(), "incomplete");
    assert_eq!(answer.complaints(), ["ng refs/heads/a missing necessary objects"]);
}

#[test]
fn a_directory_that_is_a_file_as_well_hides_nothing_that_is_missing() {
    let pair = Pair::new();
    let object = |kind: &str, content: &[u8]| {
        let arguments = ["hash-object", "-t", kind, "-w", "--stdin"];
        String::from_utf8_lossy(&pair.git_with(&pair.client, &arguments, content)).trim_end().to_owned()
    };
    let entry = |mode: &str, name: &str, id: &str| {
        let id = gix_hash::ObjectId::from_hex(id.as_bytes()).expect("git names objects so");
        [format!("{mode} {name}\0").as_bytes(), id.as_bytes()].concat()
    };
    let hollow = object("tree", &entry("100644", "gone", &"7".repeat(40)));
    let parent = pair.client_id("HEAD");
    for (file, directory) in [("a", "b"), ("b", "a")] {
        let mut entries = [entry("100644", file, &hollow), entry("40000", directory, &hollow)];
        entries.sort_by_key(|entry| entry[entry.len() - 22]);
        let root = object("tree", &entries.concat());
        let people = "author A <a> 1 +0000\ncommitter C <c> 1 +0000";
        let tip = object("commit", format!("tree {root}\nparent {parent}\n{people}\n\n").as_bytes());
        let names = format!("{hollow}\n{root}\n{tip}\n");
        let pack = pair.git_with(&pair.client, &["pack-objects", "-q", "--stdout"], names.as_bytes());
        let lines = vec![format!("{} {tip} refs/heads/new", pair.null())];
        let push = Push { lines, capabilities: support::USUAL.into(), options: None, shallow: Vec::new(), pack };
        let answer = check_beside_git(&pair, &push.bytes(), file);
        assert_eq!(answer.complaints(), ["ng refs/heads/new missing necessary objects"]);
    }
}

#[test]
fn what_git_takes_for_no_tag_is_refused() {
    let template = Pair::new();
    let (commit, blob) = (template.client_id("HEAD"), template.client_id("HEAD:file"));
    let check = |content: &str, expected: bool| {
        let pair = template.copy();
        let arguments = ["hash-object", "-t", "tag", "--literally", "-w", "--stdin"];
        let id = String::from_utf8_lossy(&pair.git_with(&pair.client, &arguments, content.as_bytes())).into_owned();
        let pack = pair.git_with(&pair.client, &["pack-objects", "-q", "--stdout"], id.as_bytes());
        let lines = vec![format!("{} {} refs/tags/new", pair.null(), id.trim_end())];
        let push = Push { lines, capabilities: support::USUAL.into(), options: None, shallow: Vec::new(), pack };
        let answer = check_beside_git(&pair, &push.bytes(), content);
        let refused = ["ng refs/tags/new missing necessary objects"];
        assert_eq!(answer.complaints(), if expected { &[][..] } else { &refused }, "{content}");
    };
    check(&format!("object {commit}\ntype commit\n"), false);
    check(&format!("object {commit}\ntype commit\n\nnothing but a message\n"), false);
    check(&format!("object {commit}\ntype commit\ntag without an end"), false);
    check(&format!("object {commit}\ntype commit\ntag \n"), true);
    check(&format!("object {}\ntype commit\ntag t\n", commit.to_uppercase()), true);
    // One byte less than the shortest valid tag.
    check(&format!("object {blob}\ntype blob\ntag \n"), false);
    check(&format!("object {blob}\ntype blob\ntag t\n"), true);
}

#[test]
fn trees_are_as_deep_as_git_follows_them() {
    let template = Pair::new();
    template.git(&template.client, &["config", "core.maxTreeDepth", "5000"]);
    for depth in [0, 1, 3, 4, 2048, 2049] {
        let path = "d/".repeat(depth);
        let stream = format!(
            "commit refs/heads/deep{depth}\ncommitter C <c> 1 +0000\ndata 0\nfrom refs/heads/main^0\n\
             M 644 inline {path}new\ndata 1\n1\n"
        );
        template.git_with(&template.client, &["fast-import", "--quiet"], stream.as_bytes());
    }
    let check = |max: Option<&str>, depth: usize, expected: bool| {
        let pair = template.copy();
        if let Some(max) = max {
            pair.at_server(&["config", "core.maxTreeDepth", max]);
        }
        let branch = format!("deep{depth}");
        let answer =
            check_beside_git(&pair, &pair.push(&[&format!("- {branch} refs/heads/{branch}")]).bytes(), &branch);
        let (complaint, said) = match expected {
            true => (vec![], ""),
            false => (
                vec![format!("ng refs/heads/{branch} missing necessary objects")],
                "exceeded maximum allowed tree depth",
            ),
        };
        assert_eq!(answer.complaints(), complaint, "{max:?}, {depth}");
        assert!(answer.said.contains(said), "{max:?}, {depth}: {}", answer.said);
    };
    check(None, 2048, true);
    check(None, 2049, false);
    check(Some("3"), 3, true);
    check(Some("3"), 4, false);
    check(Some("0"), 0, true);
    check(Some("0"), 1, false);
    check(Some("-1"), 0, false);
}

/// A root may name every one of a chain of trees: then the walk meets each of them first at its smallest depth.
#[test]
fn trees_are_as_deep_as_the_longest_way_to_them() {
    let template = Pair::new();
    let tree = |entries: &[(String, String)]| {
        let lines: String = entries.iter().map(|(name, id)| format!("040000 tree {id}\t{name}\n")).collect();
        String::from_utf8_lossy(&template.git_with(&template.client, &["mktree"], lines.as_bytes()))
            .trim_end()
            .to_owned()
    };
    let mut line = vec![template.client_id("HEAD^{tree}")];
    for _ in 0..3 {
        line.push(tree(&[("d".into(), line[line.len() - 1].clone())]));
    }
    let down: Vec<_> = line.iter().enumerate().map(|(at, id)| (format!("{}", 9 - at), id.clone())).collect();
    let up: Vec<_> = line.iter().enumerate().map(|(at, id)| (format!("{at}"), id.clone())).collect();
    for (entries, git_refuses) in [(down, true), (up, false)] {
        let root = tree(&entries);
        let tip = template.git(&template.client, &["commit-tree", "-p", "HEAD", "-m", "line", &root]);
        for (max, expected) in [("2", false), ("3", true)] {
            let pair = template.copy();
            pair.at_server(&["config", "core.maxTreeDepth", max]);
            let push = pair.push(&[&format!("- {tip} refs/heads/new")]);
            let theirs = pair.copy().send_to_git(&push.bytes());
            assert_eq!(theirs.complaints().is_empty(), expected || !git_refuses, "git, {entries:?}, {max}");
            let answer = pair.send(&push);
            assert_eq!(answer.complaints().is_empty(), expected, "{entries:?}, {max}");
            assert!(expected || answer.said.contains("exceeded maximum allowed tree depth"), "{}", answer.said);
        }
    }
}

#[test]
fn incomplete_history_is_found_before_hidden_refs_and_hooks_are_asked() {
    let pair = Pair::new();
    pair.at_server(&["config", "receive.hideRefs", "refs/hidden"]);
    pair.hook("pre-receive", "exit 1");
    pair.commit("three");
    let four = pair.commit("four");
    let mut push = pair.push(&["- HEAD refs/hidden/a", "- HEAD~2 refs/hidden/b", "- HEAD~2 refs/heads/c"]);
    push.pack = pair.git_with(&pair.client, &["pack-objects", "-q", "--stdout"], format!("{four}\n").as_bytes());
    let answer = check_beside_git(&pair, &push.bytes(), "incomplete and hidden");
    let expected = [
        "ng refs/hidden/a missing necessary objects",
        "ng refs/hidden/b deny updating a hidden ref",
        "ng refs/heads/c pre-receive hook declined",
    ];
    assert_eq!(answer.complaints(), expected);
}

#[test]
fn an_object_that_has_gone_meanwhile_is_missed() {
    let pair = Pair::new();
    pair.commit("three");
    pair.hook("pre-receive", "rm -rf \"$GIT_QUARANTINE_PATH\"/??");
    let (copy, push) = (pair.copy(), pair.push(&["- HEAD refs/heads/a", "- HEAD~1 refs/heads/b"]));
    let ours = pair.send(&push);
    assert_eq!(ours.complaints(), ["ng refs/heads/a bad pack"]);
    assert_eq!(ours.report, copy.send_to_git(&push.bytes()).report);
}

#[test]
fn a_push_that_builds_on_its_branch_or_on_head_looks_at_no_other_ref() {
    let pair = Pair::new();
    let old = pair.client_id("HEAD");
    (0..8).for_each(|number| drop(pair.commit(&format!("more {number}"))));
    pair.git(&pair.client, &["push", "-q", "../server.git", "main", "main:refs/namespaces/n/refs/heads/main"]);
    let main = pair.at_server(&["rev-parse", "main"]);
    let first = pair.commit("first");
    let second = pair.commit("second");
    let elsewhere = pair.git(&pair.client, &["commit-tree", "-p", &old, "-m", "elsewhere", "main^{tree}"]);
    let update = pair.push(&[&format!("{main} {first} refs/heads/main")]);
    let create = pair.push(&[&format!("- {second} refs/heads/on-head")]);
    let beside = pair.push(&[&format!("- {elsewhere} refs/heads/elsewhere")]);
    // A process that lists all refs meets one that cannot be read.
    let pack_refs = |of_main: &str| {
        let namespaced = format!("{main} refs/namespaces/n/refs/heads/main");
        let mut refs =
            format!("# pack-refs with: peeled fully-peeled sorted \n{of_main} refs/heads/main\n{namespaced}\n");
        (100..600).for_each(|number| refs += &format!("{old} refs/z/{number}\n"));
        std::fs::write(pair.server.join("packed-refs"), refs + "rubbish refs/z/z\n").unwrap();
    };
    for name in ["refs/heads/main", "refs/namespaces/n/refs/heads/main"] {
        let _ = std::fs::remove_file(pair.server.join(name));
    }
    let in_namespace = pair.open_with(|context| context.namespace = Some("n".into()));
    for (of_main, repository, push) in
        [(&old, in_namespace, &update), (&main, pair.open(), &update), (&main, pair.open(), &create)]
    {
        pack_refs(of_main);
        let answer = send(&repository, &push.bytes());
        assert_eq!((answer.report.len(), answer.complaints()), (2, vec![]), "{:?}", push.lines);
    }
    let error = pair.send(&beside).result.unwrap().unwrap_err();
    assert!(format!("{error:?}").contains("unexpected line in packed-refs: rubbish"), "{error:?}");
}

#[test]
fn what_builds_on_its_branch_must_be_complete_as_well() {
    let template = Pair::new();
    let main = template.at_server(&["rev-parse", "main"]);
    let new = template.commit("three");
    let objects = |revisions: &[&str]| {
        let names: String = revisions.iter().map(|revision| format!("{}\n", template.client_id(revision))).collect();
        template.git_with(&template.client, &["pack-objects", "-q", "--stdout"], names.as_bytes())
    };
    let mut push = template.push(&[&format!("{main} {new} refs/heads/main")]);
    for (sent, complaint) in [
        (["HEAD", "HEAD^{tree}"].as_slice(), "ng refs/heads/main missing necessary objects"),
        (&["HEAD", "HEAD:file"], "ng refs/heads/main missing necessary objects"),
    ] {
        let pair = template.copy();
        push.pack = objects(sent);
        let bytes = push.bytes();
        assert_eq!(check_beside_git(&pair, &bytes, &format!("{sent:?}")).complaints(), [complaint]);
    }
    // The target of a tag that is not a commit is not looked into beyond its kind.
    let blob = template.push(&["- HEAD:file refs/tags/blob"]);
    assert_eq!(check_beside_git(&template, &blob.bytes(), "blob").complaints(), [""; 0]);
}

#[test]
fn what_a_client_calls_a_ref_outside_of_refs_is_no_proof_of_complete_history() {
    let pair = Pair::new();
    let broken = format!("tree {}\nauthor A <a@x> 1 +0000\ncommitter A <a@x> 1 +0000\n\nno tree\n", "1".repeat(40));
    let mut ids = [&pair.server, &pair.client].map(|place| {
        let id =
            pair.git_with(place, &["hash-object", "-t", "commit", "-w", "--stdin", "--literally"], broken.as_bytes());
        String::from_utf8(id).expect("it is hexadecimal").trim_end().to_owned()
    });
    let broken = std::mem::take(&mut ids[0]);
    std::fs::write(pair.server.join("ORIG_HEAD"), format!("{broken}\n")).expect("scratch can be written");
    let top = pair.git(&pair.client, &["commit-tree", "-p", &broken, "-m", "top", "HEAD^{tree}"]);
    let mut push = pair.push(&["- HEAD refs/heads/plain", "- HEAD ORIG_HEAD"]);
    push.lines[0] = format!("{} {top} refs/heads/new", pair.null());
    push.pack = pair.git_with(&pair.client, &["pack-objects", "-q", "--stdout"], format!("{top}\n").as_bytes());
    let answer = check_beside_git(&pair, &push.bytes(), "ORIG_HEAD");
    assert_eq!(answer.complaints(), ["ng refs/heads/new missing necessary objects", "ng ORIG_HEAD funny refname"]);
}

#[test]
fn a_ref_whose_object_is_lost_completes_nobodys_history() {
    for is_borrowed in [false, true] {
        let pair = Pair::new();
        let lost = pair.commit("three");
        pair.commit("four");
        let mut place = pair.server.clone();
        if is_borrowed {
            pair.git(&pair.scratch.0, &["clone", "-q", "--bare", "server.git", "other.git"]);
            place = pair.scratch.0.join("other.git");
            let line = format!("{}\n", place.join("objects").display());
            std::fs::write(pair.server.join("objects/info/alternates"), line).expect("scratch can be written");
        }
        std::fs::write(place.join("refs/heads/lost"), format!("{lost}\n")).expect("scratch can be written");
        let mut push = pair.push(&["- HEAD refs/heads/new"]);
        push.pack = pair.pack("HEAD\n^HEAD~1\n");
        let answer = pair.send(&push);
        assert_eq!(answer.complaints(), ["ng refs/heads/new missing necessary objects"], "{is_borrowed}");
    }
}

#[test]
fn what_a_pack_promises_may_be_missing_in_a_partial_clone_alone() {
    for is_partial in [false, true] {
        let pair = Pair::new();
        let line = format!("100644 blob {}\tpromised\n", "1".repeat(40));
        let trees = [&pair.client, &pair.server].map(|place| {
            let tree = pair.git_with(place, &["mktree", "--missing"], line.as_bytes());
            String::from_utf8(tree).expect("it is hexadecimal").trim_end().to_owned()
        });
        let made = pair.git_with(&pair.server, &["pack-objects", "-q", "objects/pack/pack"], trees[1].as_bytes());
        let made = String::from_utf8(made).expect("it is hexadecimal");
        let promisor = format!("objects/pack/pack-{}.promisor", made.trim_end());
        std::fs::write(pair.server.join(promisor), "").expect("scratch can be written");
        if is_partial {
            pair.at_server(&["config", "remote.origin.promisor", "true"]);
        }
        let top = pair.git(&pair.client, &["commit-tree", "-p", "HEAD", "-m", "top", &trees[0]]);
        let mut push = pair.push(&["- HEAD refs/heads/new"]);
        push.lines[0] = format!("{} {top} refs/heads/new", pair.null());
        push.pack = pair.git_with(&pair.client, &["pack-objects", "-q", "--stdout"], format!("{top}\n").as_bytes());
        let answer = pair.send(&push);
        let refused = if is_partial { vec![] } else { vec!["ng refs/heads/new missing necessary objects"] };
        assert_eq!(answer.complaints(), refused);
    }
}

//! Partial clones with a real git: cloned, checked out, fetched, refused.

use crate::support::{Repo, Site};

/// A deep tree with small and large files, and a tag.
fn history(repo: &Repo) {
    std::fs::create_dir_all(repo.path.join("a/b/c")).unwrap();
    std::fs::create_dir_all(repo.path.join("docs")).unwrap();
    std::fs::write(repo.path.join("large.txt"), "x".repeat(5000)).unwrap();
    std::fs::write(repo.path.join("a/b/c/deep.txt"), "deep\n").unwrap();
    std::fs::write(repo.path.join("docs/page.txt"), "page\n").unwrap();
    std::fs::write(repo.path.join("sparse"), "/*\n!/*/\n/docs/\n").unwrap();
    repo.commit("one");
    repo.git(&["tag", "-a", "-m", "first", "v1"]);
    std::fs::write(repo.path.join("a/b/c/deep.txt"), "deeper\n").unwrap();
    repo.commit("two");
}

/// Counts the objects of each kind in the clone, without asking the server for more.
fn kinds(clone: &Repo) -> [usize; 4] {
    let all = clone.git(&["cat-file", "--batch-all-objects", "--batch-check=%(objecttype)"]);
    ["commit", "tree", "blob", "tag"].map(|kind| all.lines().filter(|line| *line == kind).count())
}

#[test]
fn partial_clones_have_what_their_filter_leaves_and_fetch_the_rest_when_it_is_needed() {
    let site = Site::with("acme/site", history);
    let token = site.token("acme/site", "read");
    let server = site.serve();
    let url = server.url_with("acme/site", &token);
    let whole = site.repo("acme/site");
    for (filter, expected) in [
        ("blob:none", [2, 9, 0, 1]),
        ("blob:limit=1k", [2, 9, 6, 1]),
        ("tree:0", [2, 0, 0, 1]),
        ("tree:2", [2, 5, 4, 1]),
        ("object:type=commit", [2, 0, 0, 1]),
        ("sparse:oid=main:sparse", [2, 9, 5, 1]),
        ("combine:blob:limit=1k+tree:2", [2, 5, 3, 1]),
    ] {
        for version in ["0", "2"] {
            let name = format!("{}-{version}", filter.replace([':', '='], "-"));
            let (protocol, option) = (format!("protocol.version={version}"), format!("--filter={filter}"));
            site.desk().git(&["-c", &protocol, "clone", "-q", "--no-checkout", &option, &url, &name]);
            let clone = site.work(&name);
            assert_eq!(kinds(&clone), expected, "{filter}, version {version}");
            clone.git(&["-c", &protocol, "checkout", "-q", "main"]);
            let read = |path: &str| std::fs::read_to_string(clone.path.join(path)).unwrap();
            assert_eq!((read("a/b/c/deep.txt").as_str(), read("large.txt").len()), ("deeper\n", 5000), "{filter}");
            assert_eq!(clone.git(&["show", "v1:a/b/c/deep.txt"]), "deep");
            assert_eq!(clone.git(&["rev-parse", "HEAD^{tree}"]), whole.git(&["rev-parse", "main^{tree}"]));
            clone.fsck();
        }
    }
}

#[test]
fn a_partial_clone_goes_on_fetching_and_pushing() {
    let site = Site::with("acme/site", history);
    let token = site.token("acme/site", "write");
    let server = site.serve();
    let url = server.url_with("acme/site", &token);
    let other = site.work("other");
    site.desk().git(&["clone", "-q", &url, "other"]);
    for filter in ["blob:none", "tree:0", "blob:limit=1k"] {
        let name = filter.replace([':', '='], "-");
        site.desk().git(&["clone", "-q", &format!("--filter={filter}"), &url, &name]);
        let clone = site.work(&name);
        other.git(&["pull", "-q"]);
        std::fs::write(other.path.join("large.txt"), format!("{filter}{}", "y".repeat(6000))).unwrap();
        std::fs::write(other.path.join("docs/page.txt"), format!("{filter}\n")).unwrap();
        other.commit(&format!("after {name}"));
        other.git(&["push", "-q", "origin", "HEAD"]);
        let before = kinds(&clone);
        clone.git(&["fetch", "-q"]);
        let after = kinds(&clone);
        let new: Vec<_> = after.iter().zip(before).map(|(after, before)| after - before).collect();
        // Two trees are new: the root and docs.
        let expected = match filter {
            "blob:none" => [1, 2, 0, 0],
            "tree:0" => [1, 0, 0, 0],
            _ => [1, 2, 2, 0],
        };
        assert_eq!(new, expected, "{filter}");
        clone.git(&["merge", "-q", "--ff-only", "origin/main"]);
        assert_eq!(std::fs::read_to_string(clone.path.join("docs/page.txt")).unwrap(), format!("{filter}\n"));
        clone.commit(&format!("mine {name}"));
        clone.git(&["push", "-q", "origin", "HEAD"]);
        clone.git(&["fetch", "-q", "--refetch", "--filter=blob:none"]);
        clone.fsck();
    }
    site.repo("acme/site").fsck();
}

#[test]
fn a_filter_the_owner_forbids_is_refused_and_git_says_so() {
    let site = Site::with("acme/site", history);
    let token = site.token("acme/site", "read");
    let server = site.serve();
    let url = server.url_with("acme/site", &token);
    let served = site.repo("acme/site");
    served.config("uploadpackfilter.tree.allow", "false");
    for version in ["0", "2"] {
        let protocol = format!("protocol.version={version}");
        let clone = |filter: &str| {
            let option = format!("--filter={filter}");
            site.desk().try_git(&["-c", &protocol, "clone", "-q", "--bare", &option, &url, &format!("no-{version}")])
        };
        clone("tree:1").fails_with("filter 'tree' not supported");
        clone("sparse:oid=main:nothing").fails_with("unable to access sparse blob in 'main:nothing'");
    }
    served.config("uploadpack.allowFilter", "false");
    let cloned = site.desk().try_git(&["clone", "-q", "--bare", "--filter=blob:none", &url, "all"]);
    assert!(cloned.ok && cloned.err.contains("filtering not recognized by server, ignoring"), "{}", cloned.err);
    assert_eq!(kinds(&site.work("all")), [2, 9, 7, 1]);
}

#[test]
fn a_server_that_is_a_partial_clone_takes_pushes_and_serves_what_it_has() {
    let site = Site::with("acme/origin", history);
    let origin = site.repo("acme/origin");
    origin.config("uploadpack.allowFilter", "true");
    let served = site.create("acme/site");
    served.git(&["remote", "add", "origin", &format!("file://{}", origin.path.display())]);
    served.git(&["fetch", "-q", "--filter=blob:none", "origin", "+refs/*:refs/*"]);
    let token = site.token("acme/site", "write");
    let server = site.serve();
    let url = server.url_with("acme/site", &token);

    let clone = site.work("clone");
    site.desk().git(&["clone", "-q", "--no-checkout", "--filter=blob:none", &url, "clone"]);
    assert_eq!(kinds(&clone), [2, 9, 0, 1]);
    site.desk()
        .try_git(&["clone", "-q", "--bare", &url, "whole"])
        .fails_with("is not here: this repository is a partial clone");

    // A file that this server lacks, moved and pushed by a client that has it.
    let full = site.work("full");
    site.desk().git(&["clone", "-q", origin.path.to_str().unwrap(), "full"]);
    full.git(&["mv", "large.txt", "moved.txt"]);
    full.commit("moved");
    full.git(&["push", "-q", &url, "HEAD:refs/heads/moved"]);
    assert_eq!(served.tip("moved"), full.tip("HEAD"));
}

#[test]
fn a_clone_may_be_shallow_and_partial_and_grow() {
    let site = Site::with("acme/site", history);
    let token = site.token("acme/site", "read");
    let server = site.serve();
    let url = server.url_with("acme/site", &token);
    for version in ["0", "2"] {
        let (protocol, name) = (format!("protocol.version={version}"), format!("shallow-{version}"));
        let url = url.as_str();
        let clone = ["-c", &protocol, "clone", "-q", "--depth=1", "--no-checkout", "--filter=blob:none", url, &name];
        site.desk().git(&clone);
        let clone = site.work(&name);
        assert_eq!(kinds(&clone), [1, 5, 0, 0], "version {version}");
        clone.git(&["-c", &protocol, "checkout", "-q", "main"]);
        assert_eq!(kinds(&clone), [1, 5, 6, 0]);
        clone.git(&["-c", &protocol, "fetch", "-q", "--unshallow"]);
        assert_eq!(kinds(&clone), [2, 9, 6, 1]);
        assert_eq!(clone.git(&["show", "HEAD~1:a/b/c/deep.txt"]), "deep");
        clone.fsck();
    }
}

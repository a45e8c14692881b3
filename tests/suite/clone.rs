//! Clone, fetch and ls-remote with a real git, in every protocol version, through the embedded server.

use crate::support::{Repo, Site, bearer};

const VERSIONS: [&str; 3] = ["0", "1", "2"];

/// Two commits on main, a branch, a merge, an annotated tag, a lightweight tag, and a tag of a tag.
fn history(work: &Repo) {
    work.commit("one");
    work.commit("two");
    work.git(&["tag", "light"]);
    work.git(&["tag", "-a", "-m", "annotated", "annotated"]);
    work.git(&["tag", "-a", "-m", "of a tag", "nested", "annotated"]);
    work.git(&["checkout", "-q", "-b", "side", "HEAD~1"]);
    work.commit("three");
    work.git(&["checkout", "-q", "main"]);
    work.git(&["merge", "-q", "--no-ff", "-m", "merge", "side"]);
}

#[test]
fn a_clone_has_every_ref_and_object_in_every_version() {
    let site = Site::with("acme/site", history);
    let token = site.token("acme/site", "read");
    let server = site.serve();
    for version in VERSIONS {
        let name = format!("clone-{version}");
        let protocol = format!("protocol.version={version}");
        let url = server.url("acme/site");
        site.desk().git(&["-c", &bearer(&token), "-c", &protocol, "clone", "-q", "--mirror", &url, &name]);
        let clone = site.work(&name);
        clone.fsck();
        assert_eq!(clone.refs(), site.repo("acme/site").refs(), "version {version}");
        assert_eq!(clone.git(&["symbolic-ref", "HEAD"]), "refs/heads/main");
    }
    assert_eq!(server.stderr(), "", "nothing is said of requests that went well");
}

#[test]
fn a_fetch_brings_what_is_new_and_no_more() {
    let site = Site::with("acme/site", history);
    let token = site.token("acme/site", "read");
    let server = site.serve();
    let url = server.url_with("acme/site", &token);
    for version in VERSIONS {
        let name = format!("fetch-{version}");
        let protocol = format!("protocol.version={version}");
        site.desk().git(&["-c", &protocol, "clone", "-q", &url, &name]);
        let clone = site.work(&name);
        clone.config("protocol.version", version);
        let fill = site.work("fill");
        fill.commit(&format!("later {version}"));
        fill.git(&["tag", "-a", "-m", "follows", &format!("follows-{version}")]);
        fill.git(&["push", "-q", "--mirror", site.repo("acme/site").path.to_str().unwrap()]);
        let said = clone.try_git(&["fetch", "--progress"]);
        assert!(said.ok, "{}", said.err);
        clone.fsck();
        assert_eq!(clone.tip("refs/remotes/origin/main"), fill.tip("main"));
        assert_eq!(clone.tip(&format!("refs/tags/follows-{version}")), fill.tip(&format!("follows-{version}")));
        // The commit, its tree, its blob and the tag.
        assert!(said.err.contains("Total 4 "), "{}", said.err);
        let again = clone.try_git(&["fetch"]);
        assert!(again.ok && again.err.is_empty(), "{}", again.err);
    }
}

#[test]
fn a_client_with_commits_of_its_own_finds_common_ground() {
    let site = Site::with("acme/site", history);
    let token = site.token("acme/site", "read");
    let server = site.serve();
    let url = server.url_with("acme/site", &token);
    for version in VERSIONS {
        let name = format!("diverged-{version}");
        site.desk().git(&["clone", "-q", &url, &name]);
        let clone = site.work(&name);
        clone.config("protocol.version", version);
        for number in 0..60 {
            clone.git(&["commit", "-q", "--allow-empty", "-m", &format!("own {number}")]);
        }
        let fill = site.work("fill");
        fill.commit(&format!("theirs {version}"));
        fill.git(&["push", "-q", "--mirror", site.repo("acme/site").path.to_str().unwrap()]);
        let said = clone.try_git(&["fetch", "--progress"]);
        assert!(said.ok && said.err.contains("Total 3 "), "{}", said.err);
        clone.fsck();
    }
}

#[test]
fn an_empty_repository_can_be_cloned() {
    let site = Site::new();
    site.create("acme/empty");
    let token = site.token("acme/empty", "read");
    let server = site.serve();
    for version in VERSIONS {
        let protocol = format!("protocol.version={version}");
        let url = server.url_with("acme/empty", &token);
        let said = site.desk().try_git(&["-c", &protocol, "clone", &url, &format!("empty-{version}")]);
        assert!(said.ok && said.err.contains("empty repository"), "{}", said.err);
        if version == "2" {
            assert_eq!(site.work("empty-2").git(&["symbolic-ref", "HEAD"]), "refs/heads/main");
        }
    }
}

#[test]
fn ls_remote_lists_what_git_lists() {
    let site = Site::with("acme/site", history);
    let token = site.token("acme/site", "read");
    let server = site.serve();
    let url = server.url_with("acme/site", &token);
    let path = site.repo("acme/site").path;
    for version in VERSIONS {
        for more in [&["--symref"][..], &["--heads"], &["--tags"], &["refs/heads/si*"]] {
            let protocol = format!("protocol.version={version}");
            let list = |from: &str| {
                let (options, patterns): (Vec<&str>, Vec<&str>) = more.iter().partition(|word| word.starts_with('-'));
                let mut words = vec!["-c", &protocol, "ls-remote"];
                words.extend(options.iter().copied());
                words.push(from);
                words.extend(patterns.iter().copied());
                site.desk().git(&words)
            };
            assert_eq!(list(&url), list(path.to_str().unwrap()), "version {version} {more:?}");
        }
    }
}

#[test]
fn a_single_branch_and_a_detached_head_are_served() {
    let site = Site::with("acme/site", history);
    let token = site.token("acme/site", "read");
    let served = site.repo("acme/site");
    served.git(&["update-ref", "--no-deref", "HEAD", &served.tip("side")]);
    let server = site.serve();
    let url = server.url_with("acme/site", &token);
    for version in VERSIONS {
        let protocol = format!("protocol.version={version}");
        let name = format!("detached-{version}");
        site.desk().git(&["-c", &protocol, "clone", "-q", &url, &name]);
        assert_eq!(site.work(&name).tip("HEAD"), served.tip("side"));
        let name = format!("single-{version}");
        site.desk().git(&["-c", &protocol, "clone", "-q", "--single-branch", "-b", "side", "--no-tags", &url, &name]);
        let clone = site.work(&name);
        clone.fsck();
        assert_eq!(clone.git(&["rev-list", "--count", "--all"]), "2");
    }
}

#[test]
fn git_shows_why_it_was_refused() {
    let site = Site::with("acme/site", history);
    let server = site.serve();
    let url = server.url("acme/site");
    let read = site.token("acme/site", "read");
    let expired = "art_v1_0123456789abcdef0123456789abcdef01234567?expires=1000000000";
    // Without a token git can only ask for a user name.
    site.desk().try_git(&["ls-remote", &url]).fails_with("could not read Username");
    let bad = site.desk().try_git(&["-c", &bearer(expired), "ls-remote", &url]);
    assert!(!bad.err.contains("Username"), "a bad Bearer token must not make git ask: {}", bad.err);
    bad.fails_with("remote: This token is not valid for this repository");
    let clone = site.desk().try_git(&["-c", &bearer(&read), "clone", "-q", &url, "reader"]);
    clone.succeeds();
    let reader = site.work("reader");
    reader.commit("mine");
    let pushed = reader.try_git(&["-c", &bearer(&read), "push", &url, "HEAD"]);
    pushed.fails_with("remote: This token may read only: a push needs one with the scope \"write\".");
    site.desk().try_git(&["ls-remote", &server.url_with("acme/site", expired)]).fails_with("Authentication failed");
}

#[test]
fn a_credential_helper_that_first_gets_a_401_is_asked_and_believed() {
    let site = Site::with("acme/site", history);
    let token = site.token("acme/site", "read");
    let server = site.serve();
    let secret = token.split('?').next().unwrap();
    let store = site.desk().path.join("credentials");
    std::fs::write(&store, format!("http://x:{secret}@{}\n", server.address())).unwrap();
    let helper = format!("credential.helper=store --file={}", store.display());
    let list = site.desk().git(&["-c", &helper, "ls-remote", &server.url("acme/site"), "HEAD"]);
    assert!(list.ends_with("HEAD"));
}

#[test]
fn sha256_repositories_are_served() {
    let site = Site::new();
    site.tool(&["repo", "create", "acme/long", "--object-format", "sha256"]);
    let token = site.token("acme/long", "write");
    let server = site.serve();
    let url = server.url_with("acme/long", &token);
    let work = site.work("long");
    work.git(&["init", "-q", "--object-format=sha256"]);
    history(&work);
    for version in VERSIONS {
        let protocol = format!("protocol.version={version}");
        work.git(&["-c", &protocol, "push", "-q", "--mirror", &url]);
        let name = format!("long-{version}");
        site.desk().git(&["-c", &protocol, "clone", "-q", "--mirror", &url, &name]);
        site.work(&name).fsck();
        assert_eq!(site.work(&name).refs(), work.refs());
    }
}

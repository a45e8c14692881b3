//! Bundles: files that git itself verifies and clones from, and clones that start with them.

use crate::support::files::Files;
use crate::support::{Repo, Site};
use std::path::Path;

fn site() -> Site {
    Site::with("acme/site", |work| {
        for name in ["one", "two", "three"] {
            work.commit(name);
        }
        work.git(&["branch", "topic"]);
        work.git(&["tag", "-a", "-m", "first", "v1", "HEAD~1"]);
        work.git(&["update-ref", "refs/secret/x", "HEAD"]);
        work.git(&["update-ref", "refs/other/x", "HEAD"]);
    })
}

/// Pushes everything in the work tree.
fn push(site: &Site) {
    site.work("fill").git(&["push", "-q", "--mirror", site.repo("acme/site").path.to_str().unwrap()]);
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn refs(repo: &Repo, bundle: &Path) -> Vec<String> {
    let heads = repo.git(&["bundle", "list-heads", text(bundle)]);
    heads.lines().filter_map(|line| Some(line.split_once(' ')?.1.to_owned())).collect()
}

#[test]
fn a_bundle_is_one_git_verifies_and_clones_from() {
    let site = site();
    site.repo("acme/site").config("transfer.hideRefs", "refs/secret");
    let desk = site.desk();
    let bundle = desk.path.join("all.bundle");
    let said = site.tool(&["bundle", "create", "acme/site", "--output", text(&bundle)]);
    assert!(said.starts_with("wrote ") && said.contains(": 3 refs, 10 objects"), "{said}");
    assert_eq!(refs(&desk, &bundle), ["refs/heads/main", "refs/heads/topic", "refs/tags/v1", "HEAD"]);
    desk.git(&["clone", "-q", text(&bundle), "from-bundle"]);
    let clone = site.work("from-bundle");
    clone.fsck();
    assert_eq!(clone.tip("HEAD"), site.repo("acme/site").tip("main"));
    assert_eq!(clone.tip("refs/tags/v1"), site.repo("acme/site").tip("refs/tags/v1"));

    site.tool(&["bundle", "create", "acme/site", "--output", text(&bundle), "--all"]);
    let all = ["refs/heads/main", "refs/heads/topic", "refs/other/x", "refs/tags/v1", "HEAD"];
    assert_eq!(refs(&desk, &bundle), all, "hidden refs stay at home");
    site.tool(&["bundle", "create", "acme/site", "--output", text(&bundle), "--ref", "refs/other/"]);
    assert_eq!(refs(&desk, &bundle), ["refs/other/x"]);
    site.try_tool(&["bundle", "create", "acme/site", "--output", text(&bundle), "--ref", "refs/none/"])
        .fails_with("there is nothing to bundle");
    site.try_tool(&["bundle", "create", "acme/none", "--output", text(&bundle)]).fails_with("there is no repository");
    assert_eq!(desk.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_bundle_on_top_of_others_names_what_it_needs() {
    let site = site();
    let (desk, fill) = (site.desk(), site.work("fill"));
    let (first, second) = (desk.path.join("1.bundle"), desk.path.join("2.bundle"));
    site.tool(&["bundle", "create", "acme/site", "--output", text(&first)]);
    let create =
        || site.try_tool(&["bundle", "create", "acme/site", "--output", text(&second), "--basis", text(&first)]);
    create().fails_with("nothing new since the basis");
    let four = fill.commit("four");
    fill.git(&["branch", "old", "HEAD~2"]);
    fill.git(&["tag", "-a", "-m", "late", "late", "HEAD~3"]);
    push(&site);
    let said = create();
    assert!(said.ok && said.out.contains(": 2 refs, 4 objects"), "{}{}", said.out, said.err);
    assert_eq!(refs(&desk, &second), ["refs/heads/main", "refs/tags/late", "HEAD"]);
    desk.git(&["clone", "-q", text(&first), "taker"]);
    let taker = site.work("taker");
    let needs = taker.git(&["bundle", "verify", text(&second)]);
    assert!(needs.contains("requires these 2 refs"), "{needs}");
    taker.git(&["fetch", "-q", text(&second), "main:taken", "refs/tags/late:refs/tags/late"]);
    assert_eq!(taker.tip("taken"), four);
    taker.fsck();
    // A client that lacks the first bundle is told so, and not left with holes.
    let empty = site.work("empty");
    empty.git(&["init", "-q"]);
    empty.try_git(&["fetch", text(&second), "main"]).fails_with("lacks these prerequisite commits");
}

#[test]
fn a_bundle_is_written_where_a_link_leads_and_in_the_place_of_a_file_alone() {
    let site = site();
    let public = site.work("public").path;
    let (file, link, folder) = (public.join("file"), public.join("link"), public.join("folder"));
    std::fs::write(&file, "old").unwrap();
    std::fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink("file", &link).unwrap();
    site.tool(&["bundle", "create", "acme/site", "--output", text(&link)]);
    assert!(link.is_symlink());
    assert!(std::fs::read(&file).unwrap().starts_with(b"# v2 git bundle"));
    let ran = site.try_tool(&["bundle", "create", "acme/site", "--output", text(&folder)]);
    assert!(!ran.ok && ran.err.contains("is no file"), "{}", ran.err);
}

#[test]
fn a_clone_begins_with_the_bundles_that_are_advertised() {
    let site = site();
    let (public, fill) = (site.work("public"), site.work("fill"));
    let files = Files::of(&public.path);
    let url = files.url("");
    let publish = |more: &[&str]| {
        let args = ["bundle", "publish", "acme/site", "--directory", text(&public.path), "--url", &url, "--json"];
        let said: serde_json::Value = serde_json::from_str(&site.tool(&[&args, more].concat())).unwrap();
        said
    };
    let first = publish(&[]);
    assert_eq!((first["made"]["objects"].as_u64(), first["advertised"].as_array().unwrap().len()), (Some(10), 1));
    assert!(publish(&[])["made"].is_null(), "nothing is new");
    let log = site.root().join("audit.log");
    let server = site.serve_with(&[], &[("ARTIFACTS_AUDIT_LOG", text(&log))]);
    let remote = server.url_with("acme/site", &site.token("acme/site", "read"));
    let clone = |name: &str| {
        let _ = std::fs::remove_file(&log);
        site.desk().git(&["clone", "-q", "-c", "transfer.bundleURI=true", &remote, name]);
        let clone = site.work(name);
        clone.fsck();
        assert_eq!(clone.tip("origin/main"), site.repo("acme/site").tip("main"));
        let objects = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["objects"].as_u64();
        std::fs::read_to_string(&log).unwrap().lines().filter_map(objects).sum::<u64>()
    };
    // The server sends only the tag, which older gits do not take from bundles; everything else comes from the file.
    let sent = clone("one");
    assert!(sent <= 1, "{sent}");
    assert_eq!(files.asked().len(), 1);

    let four = fill.commit("four");
    push(&site);
    assert_eq!(clone("behind"), sent + 3, "what no bundle has comes from the server");
    files.asked();
    let second = publish(&[]);
    assert_eq!((second["made"]["objects"].as_u64(), second["advertised"].as_array().unwrap().len()), (Some(3), 2));
    assert_eq!(clone("two"), sent);
    assert_eq!(files.asked().len(), 2);
    assert_eq!(site.work("two").tip("origin/main"), four);
    // The directory can be cloned from even if the server does not advertise it.
    let list = format!("--bundle-uri={}", files.url("bundle-list"));
    site.desk().git(&["clone", "-q", &list, &remote, "listed"]);
    assert_eq!(files.asked().len(), 3);
    site.work("listed").fsck();

    let full = publish(&["--full"]);
    assert_eq!(full["advertised"].as_array().unwrap().len(), 1);
    assert_eq!(full["no_longer_advertised"].as_array().unwrap().len(), 2);
    assert_eq!(site.tool(&["bundle", "list", "acme/site"]).trim(), full["advertised"][0].as_str().unwrap());
    assert_eq!(clone("three"), sent);
    assert_eq!(files.asked().len(), 1);
    site.tool(&["bundle", "withdraw", "acme/site"]);
    assert!(clone("four") > 10 && files.asked().is_empty());
    // A name is never reused, however soon after a bundle was withdrawn.
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let taken: Vec<_> = (now..now + 60).map(|token| public.path.join(format!("{token}.bundle"))).collect();
    for path in &taken {
        std::fs::write(path, "of old").unwrap();
    }
    publish(&[]);
    assert!(taken.iter().all(|path| std::fs::read(path).unwrap() == b"of old"));
    assert!(site.repo("acme/site").git(&["config", "--get-regexp", "include"]).contains("bundles.config"));
}

#[test]
fn a_bundle_of_a_sha256_repository_names_its_hash() {
    let site = Site::new();
    site.tool(&["repo", "create", "acme/new", "--object-format", "sha256"]);
    let work = site.work("fill");
    work.git(&["init", "-q", "--object-format=sha256"]);
    work.commit("one");
    work.git(&["push", "-q", text(&site.repo("acme/new").path), "main"]);
    let bundle = site.desk().path.join("new.bundle");
    site.tool(&["bundle", "create", "acme/new", "--output", text(&bundle)]);
    site.desk().git(&["clone", "-q", text(&bundle), "new"]);
    assert_eq!(site.work("new").tip("HEAD"), work.tip("HEAD"));
}

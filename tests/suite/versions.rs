//! Features of protocol v2 beyond plain fetches, with a real git as the client.

use crate::support::files::Files;
use crate::support::{Repo, Site, bearer};

fn site() -> Site {
    Site::with("acme/site", |work| {
        work.commit("one");
        work.git(&["tag", "-a", "-m", "first", "v1"]);
        work.commit("two");
        work.git(&["branch", "topic"]);
        work.commit("three");
    })
}

fn said(repo: &Repo, arguments: &[&str]) -> String {
    let ran: crate::support::Ran =
        crate::support::git_command(&repo.path).env("GIT_TRACE_PACKET", "1").args(arguments).output().unwrap().into();
    assert!(ran.ok, "{}", ran.err);
    ran.err
}

#[test]
fn a_client_of_a_version_that_is_not_spoken_reads_why_and_pushes_go_on() {
    let site = site();
    let (read, write) = (site.token("acme/site", "read"), site.token("acme/site", "write"));
    let server = site.serve();
    let url = server.url("acme/site");
    site.repo("acme/site").config("artifacts.protocolVersions", "2");
    let desk = site.desk();
    for version in ["0", "1"] {
        let protocol = format!("protocol.version={version}");
        let refused = desk.try_git(&["-c", &bearer(&read), "-c", &protocol, "clone", "-q", &url, "refused"]);
        refused.fails_with("this repository is fetched with protocol version 2 alone");
    }
    desk.git(&["-c", &bearer(&read), "-c", "protocol.version=2", "clone", "-q", &url, "clone"]);
    let clone = site.work("clone");
    let four = clone.commit("four");
    for version in ["0", "1", "2"] {
        let branch = format!("HEAD:refs/heads/pushed-{version}");
        clone.git(&[
            "-c",
            &bearer(&write),
            "-c",
            &format!("protocol.version={version}"),
            "push",
            "-q",
            "origin",
            &branch,
        ]);
        assert_eq!(site.repo("acme/site").tip(&format!("pushed-{version}")), four);
    }
    site.repo("acme/site").config("artifacts.protocolVersions", "0");
    desk.git(&["-c", &bearer(&read), "-c", "protocol.version=2", "clone", "-q", &url, "older"]);
    site.work("older").fsck();
}

#[test]
fn git_asks_for_refs_by_name_where_that_is_offered() {
    let site = site();
    let server = site.serve();
    let url = server.url_with("acme/site", &site.token("acme/site", "read"));
    let repo = site.repo("acme/site");
    repo.config("uploadpack.allowRefInWant", "true");
    let client = site.work("client");
    client.git(&["init", "-q"]);
    let trace = said(&client, &["fetch", &url, "refs/heads/topic:refs/heads/topic", "refs/tags/v1:refs/tags/v1"]);
    assert!(trace.contains("want-ref refs/heads/topic") && trace.contains("wanted-refs"), "{trace}");
    assert_eq!(client.tip("topic"), repo.tip("topic"));
    assert_eq!(client.tip("refs/tags/v1"), repo.tip("refs/tags/v1"));
    let trace = said(&client, &["fetch", &url, "main:refs/heads/taken"]);
    assert!(trace.contains("want-ref refs/heads/main") && trace.contains("have "), "{trace}");
    assert_eq!(client.tip("taken"), repo.tip("main"));
    client.fsck();
    let shallow = site.work("shallow");
    shallow.git(&["init", "-q"]);
    let trace = said(&shallow, &["fetch", "--depth", "1", &url, "main:refs/heads/taken"]);
    assert!(trace.contains("want-ref refs/heads/main") && trace.contains("deepen 1"), "{trace}");
    assert_eq!(shallow.git(&["rev-list", "--count", "taken"]), "1");
    said(&shallow, &["fetch", "--deepen", "1", &url, "main"]);
    assert_eq!(shallow.git(&["rev-list", "--count", "taken"]), "2");
    shallow.fsck();
}

#[test]
fn git_takes_a_whole_answer_through_bands() {
    let site = site();
    let token = site.token("acme/site", "read");
    let advertise = site.cgi("GET", "/acme/site.git/info/refs?service=git-upload-pack").protocol(2).bearer(&token);
    let offered = |value| advertise.clone().env("GIT_TEST_SIDEBAND_ALL", value).run().text().contains(" sideband-all");
    assert!(offered("1") && !offered("0"));
    site.repo("acme/site").config("uploadpack.allowSidebandAll", "true");
    let server = site.serve();
    site.desk().git(&["clone", "-q", &server.url_with("acme/site", &token), "clone"]);
    let clone = site.work("clone");
    site.work("fill").commit("four");
    site.work("fill").git(&["push", "-q", "--mirror", site.repo("acme/site").path.to_str().unwrap()]);
    clone.commit("own");
    let trace = said(&clone, &["fetch", "--progress"]);
    assert!(trace.contains("sideband-all") && trace.contains("sideband< \\2Total 3 "), "{trace}");
    assert_eq!(clone.tip("origin/main"), site.repo("acme/site").tip("main"));
    clone.fsck();
}

/// A site whose newest blob is the base of the others, and a directory for files beside it.
fn offloading() -> (Site, Repo) {
    let site = Site::with("acme/site", |work| {
        let lines = |count: usize| (0..count).map(|line| format!("line {line} of the file\n")).collect::<String>();
        for count in [300, 320, 340] {
            std::fs::write(work.path.join("large.txt"), lines(count)).unwrap();
            work.commit(&format!("lines {count}"));
        }
    });
    let repo = site.repo("acme/site");
    repo.git(&["repack", "-q", "-a", "-d", "-f"]);
    repo.config("uploadpack.allowSidebandAll", "true");
    (site, repo)
}

const URIS: [&str; 2] = ["-c", "fetch.uriProtocols=http,https"];

#[test]
fn git_fetches_a_blob_from_where_it_is_told() {
    let (site, repo) = offloading();
    let elsewhere = site.work("elsewhere");
    let files = Files::of(&elsewhere.path);
    let blob = repo.tip("main:large.txt");
    let script =
        format!("echo {blob} | git -C '{}' pack-objects -q '{}/blob'", repo.path.display(), elsewhere.path.display());
    let output = std::process::Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
    let hash = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let name = format!("blob-{hash}.pack");
    repo.config("uploadpack.blobPackfileUri", &format!("{blob} {hash} {}", files.url(&name)));
    let server = site.serve();
    let url = server.url_with("acme/site", &site.token("acme/site", "read"));
    site.desk().git(&[&URIS[..], &["clone", "-q", &url, "clone"]].concat());
    assert_eq!(files.asked(), [name]);
    site.work("clone").fsck();
    assert_eq!(site.work("clone").tip("main:large.txt"), blob);
    // A client that does not ask for URIs gets everything in one answer.
    site.desk().git(&["clone", "-q", &url, "whole"]);
    assert_eq!(files.asked(), Vec::<String>::new());
    site.work("whole").fsck();
}

#[test]
fn git_fetches_a_whole_pack_from_where_it_is_told() {
    let (site, repo) = offloading();
    let elsewhere = site.work("elsewhere");
    let files = Files::of(&elsewhere.path);
    let packs = std::fs::read_dir(repo.path.join("objects/pack")).unwrap().flatten().map(|entry| entry.path());
    let pack = packs.into_iter().find(|path| path.extension().is_some_and(|kind| kind == "pack")).unwrap();
    let hash = pack.file_stem().unwrap().to_str().unwrap().strip_prefix("pack-").unwrap().to_owned();
    std::fs::copy(&pack, elsewhere.path.join("one.pack")).unwrap();
    repo.config("artifacts.packfileUri", &format!("{hash} {}", files.url("one.pack")));
    let server = site.serve();
    let url = server.url_with("acme/site", &site.token("acme/site", "read"));
    site.desk().git(&[&URIS[..], &["clone", "-q", &url, "clone"]].concat());
    assert_eq!(files.asked(), ["one.pack"]);
    site.work("clone").fsck();
    // Later objects are in the answer, and use no base from the pack.
    let fill = site.work("fill");
    fill.commit("later");
    fill.git(&["push", "-q", repo.path.to_str().unwrap(), "main"]);
    site.desk().git(&[&URIS[..], &["clone", "-q", &url, "later"]].concat());
    assert_eq!(files.asked(), ["one.pack"]);
    site.work("later").fsck();
    assert_eq!(site.work("later").tip("HEAD"), repo.tip("main"));
    // A partial fetch needs no pack.
    let clone = site.work("clone");
    clone.git(&[&URIS[..], &["fetch", "-q"]].concat());
    assert_eq!(files.asked(), Vec::<String>::new());
    clone.fsck();
}

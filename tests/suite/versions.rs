//! What protocol v2 has beside plain fetches, with a real git as the client.

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

//! Shallow clones and fetches with a real git, in every protocol version, from complete repositories and from shallow
//! ones.

use crate::support::{Repo, Site, framed};
use std::io::Write;
use std::process::Stdio;

const VERSIONS: [&str; 3] = ["0", "1", "2"];

/// Eight commits on main, one a day, a side branch merged into it, and a tag on the fifth.
fn history(work: &Repo) {
    let day = std::cell::Cell::new(1_700_000_000);
    let dated = |arguments: &[&str]| {
        day.set(day.get() + 86_400);
        let date = format!("{} +0000", day.get());
        let mut command = crate::support::git_command(&work.path);
        command.args(arguments).env("GIT_AUTHOR_DATE", &date).env("GIT_COMMITTER_DATE", &date);
        assert!(command.status().unwrap().success());
    };
    let commit = |name: &str| {
        std::fs::write(work.path.join(format!("{name}.txt")), format!("{name}\n").repeat(30)).unwrap();
        work.git(&["add", "-A"]);
        dated(&["commit", "-q", "-m", name]);
    };
    ["one", "two", "three"].into_iter().for_each(commit);
    work.git(&["checkout", "-q", "-b", "side"]);
    ["aside", "beside"].into_iter().for_each(commit);
    work.git(&["checkout", "-q", "main"]);
    commit("four");
    dated(&["merge", "-q", "--no-ff", "-m", "merge", "side"]);
    work.git(&["tag", "-a", "-m", "five", "v5"]);
    ["six", "seven", "eight"].into_iter().for_each(commit);
}

/// What a clone has: its commits by subject, and those at which it is cut.
fn commits(clone: &Repo) -> (String, String) {
    clone.fsck();
    let subjects = |arguments: &[&str]| {
        let mut subjects: Vec<String> = clone.git(arguments).lines().map(str::to_owned).collect();
        subjects.sort();
        subjects.join(" ")
    };
    let all = subjects(&["log", "--all", "--format=%s"]);
    let file = clone.git(&["rev-parse", "--git-path", "shallow"]);
    let Ok(cut) = std::fs::read_to_string(clone.path.join(file)) else { return (all, String::new()) };
    let cut: Vec<&str> = cut.lines().collect();
    (all, subjects(&[&["show", "-s", "--format=%s"], &cut[..]].concat()))
}

/// A client of one protocol version, and the URL it uses.
struct Client<'a> {
    site: &'a Site,
    version: &'a str,
    url: String,
}

impl Client<'_> {
    fn clone(&self, name: &str, arguments: &[&str]) -> Repo {
        let (name, protocol) = (format!("{name}-{}", self.version), format!("protocol.version={}", self.version));
        let words = ["-c", &protocol, "clone", "-q"];
        self.site.desk().git(&[&words, arguments, &[self.url.as_str(), name.as_str()]].concat());
        let clone = self.site.work(&name);
        clone.config("protocol.version", self.version);
        clone
    }
}

fn each_version(site: &Site, each: impl Fn(&Client<'_>)) {
    let token = site.token("acme/site", "write");
    let server = site.serve();
    for version in VERSIONS {
        each(&Client { site, version, url: server.url_with("acme/site", &token) });
    }
    assert!(!server.stderr().contains("internal"), "{}", server.stderr());
}

fn check(clone: &Repo, all: &str, cut: &str) {
    assert_eq!(commits(clone), (all.to_owned(), cut.to_owned()), "{}", clone.path.display());
}

const ALL: &str = "aside beside eight four merge one seven six three two";

#[test]
fn a_shallow_clone_has_what_was_asked_and_can_be_deepened_to_a_whole_one() {
    each_version(&Site::with("acme/site", history), |client| {
        let clone = client.clone("one", &["--depth", "1"]);
        check(&clone, "eight", "eight");
        assert_eq!(clone.git(&["tag"]), "");
        clone.git(&["fetch", "-q", "--depth", "3"]);
        check(&clone, "eight seven six", "six");
        clone.git(&["fetch", "-q", "--deepen", "1"]);
        check(&clone, "eight merge seven six", "merge");
        // A tag comes with its commit.
        assert_eq!(clone.git(&["tag"]), "v5");
        clone.git(&["fetch", "-q", "--deepen", "1"]);
        check(&clone, "beside eight four merge seven six", "beside four");
        clone.git(&["fetch", "-q", "--unshallow", "--tags"]);
        check(&clone, ALL, "");
        assert_eq!(clone.git(&["tag"]), "v5");

        check(
            &client.clone("all", &["--depth", "1", "--no-single-branch"]),
            "beside eight merge",
            "beside eight merge",
        );
        check(&client.clone("tag", &["--depth", "1", "-b", "v5"]), "merge", "merge");
    });
}

#[test]
fn a_clone_may_begin_at_a_time_or_behind_a_ref() {
    each_version(&Site::with("acme/site", history), |client| {
        let since = 1_700_000_000 + 8 * 86_400 - 1;
        let clone = client.clone("since", &["--single-branch", &format!("--shallow-since={since}")]);
        check(&clone, "eight seven six", "six");
        clone.git(&["fetch", "-q", "--shallow-exclude", "side"]);
        check(&clone, "eight merge seven six", "merge");
        clone.git(&["fetch", "-q", "--depth", "1"]);
        assert_eq!(clone.git(&["log", "--format=%s", "origin/main"]), "eight");
        let clone = client.clone("behind", &["--single-branch", "--shallow-exclude=v5"]);
        check(&clone, "eight seven six", "six");
        let none = clone.try_git(&["fetch", "--shallow-exclude", "none"]);
        none.fails_with("deepen-not is not a ref: deepen-not none");
        clone.try_git(&["fetch", "--shallow-since=2100-01-01"]).fails_with("no commits selected for shallow requests");
    });
}

#[test]
fn a_shallow_clone_works_on_and_stays_shallow() {
    let site = Site::with("acme/site", history);
    let writer = site.work("fill");
    each_version(&site, |client| {
        let clone = client.clone("work", &["--depth", "2"]);
        let (_, cut) = commits(&clone);
        // Others push; this clone commits, merges and pushes.
        writer.git(&["pull", "-q", "--no-rebase", &client.url, "main"]);
        writer.commit(&format!("theirs {}", client.version));
        writer.git(&["push", "-q", &client.url, "main"]);
        clone.commit(&format!("mine {}", client.version));
        clone.git(&["pull", "-q", "--no-rebase", "--no-edit"]);
        assert_eq!(commits(&clone).1, cut);
        clone.git(&["push", "-q", "origin", "HEAD:main"]);
        let served = site.repo("acme/site");
        served.fsck();
        assert_eq!(served.tip("main"), clone.tip("HEAD"));
        // A fetch with less depth, with local commits on top of what is cut away.
        clone.commit(&format!("more {}", client.version));
        clone.git(&["fetch", "-q", "--depth", "1"]);
        clone.fsck();
        clone.git(&["push", "-q", "origin", &format!("HEAD:refs/heads/more-{}", client.version)]);
        served.fsck();
    });
}

#[test]
fn a_shallow_repository_is_served_as_far_as_it_reaches() {
    let site = Site::new();
    let work = site.work("fill");
    work.git(&["init", "-q"]);
    history(&work);
    site.create("acme/site");
    let served = site.repo("acme/site");
    let origin = format!("file://{}", work.path.display());
    served.git(&["fetch", "-q", "--depth", "4", &origin, "main:refs/heads/main"]);
    check(&served, "eight merge seven six", "merge");
    each_version(&site, |client| {
        let clone = client.clone("whole", &[]);
        check(&clone, "eight merge seven six", "merge");
        // git's client checks for this in v2 only.
        if client.version == "2" {
            let refused = site.desk().try_git(&["clone", "--reject-shallow", &client.url, "refused"]);
            refused.fails_with("source repository is shallow, reject to clone.");
        }
        check(&client.clone("depth", &["--depth", "2"]), "eight seven", "seven");
        check(&client.clone("deep", &["--depth", "100"]), "eight merge seven six", "merge");
        // The boundary is part of the history asked for; C git's server ignores it here.
        check(&client.clone("since", &["--shallow-since=1700000000"]), "eight merge seven six", "merge");

        let shallow = client.clone("deepened", &["--depth", "1"]);
        shallow.git(&["fetch", "-q", "--unshallow"]);
        check(&shallow, "eight merge seven six", "merge");

        // A complete client accepts the boundary if it is told to.
        let name = format!("complete-{}", client.version);
        site.desk().git(&["init", "-q", &name]);
        let complete = site.work(&name);
        complete.git(&["fetch", "-q", "--update-shallow", &client.url, "main:theirs"]);
        check(&complete, "eight merge seven six", "merge");

        // A clone with the complete history pushes, and so does one with the same shallow history.
        for (repo, branch) in [(&work, "whole"), (&clone, "shallow")] {
            repo.commit(&format!("{branch} {}", client.version));
            repo.git(&["push", "-q", &client.url, &format!("HEAD:refs/heads/{branch}-{}", client.version)]);
        }
        served.fsck();
        served.git(&["update-ref", "-d", &format!("refs/heads/whole-{}", client.version)]);
        served.git(&["update-ref", "-d", &format!("refs/heads/shallow-{}", client.version)]);
    });
}

#[test]
fn a_boundary_of_ten_thousand_commits_is_nothing_much() {
    const COUNT: usize = 10_000;
    let site = Site::new();
    let served = site.create("acme/site");
    let mut stream = String::from("blob\nmark :1\ndata 0\n\n");
    for n in 0..COUNT {
        stream += &format!("commit refs/heads/main\ncommitter C <c@example.com> {} +0000\ndata 0\n", 1000 + n);
        stream += if n == 0 { "M 644 :1 file\n\n" } else { "\n" };
    }
    let mut command = crate::support::git_command(&served.path);
    let mut import = command.args(["fast-import", "--quiet"]).stdin(Stdio::piped()).spawn().unwrap();
    import.stdin.take().unwrap().write_all(stream.as_bytes()).unwrap();
    assert!(import.wait().unwrap().success());
    let ids = served.git(&["rev-list", "main"]);
    let ids: Vec<&str> = ids.lines().collect();
    let token = site.token("acme/site", "read");
    let ask = |depth: &str| {
        let mut lines = vec!["command=fetch".to_owned(), "0001".to_owned(), format!("want {}", ids[0])];
        lines.extend(ids.iter().map(|id| format!("shallow {id}")));
        lines.extend([depth, "done", "0000"].map(str::to_owned));
        let lines: Vec<&str> = lines.iter().map(String::as_str).filter(|line| !line.is_empty()).collect();
        let request = site.cgi("POST", "/acme/site.git/git-upload-pack").bearer(&token).protocol(2);
        let answer = request.body(framed(&lines)).megabytes(64).env("ARTIFACTS_MEMORY", "32m").run();
        assert_eq!(answer.status, 200, "{}", answer.stderr);
        let packets = answer.packets();
        assert!(packets.contains(&"packfile".to_owned()), "{depth}: {:?}", packets.last());
        packets.iter().filter(|line| line.starts_with("unshallow ")).count()
    };
    assert_eq!(ask(""), 0);
    assert_eq!(ask("deepen 1"), 0);
    assert_eq!(ask("deepen 9000"), 8999);
    assert_eq!(ask("deepen 2147483647"), COUNT);
    assert_eq!(ask("deepen-since 2000"), 8999);
}

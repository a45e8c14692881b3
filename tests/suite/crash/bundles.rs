//! The publication of a bundle dies, or its disk fails once, at every operation: the next publication succeeds, and so
//! do later changes of the repository's configuration.

use super::{ACTIONS, Copy, SAMPLE, sample};
use crate::support::{PROGRAM, Ran, Repo, Scratch};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Publishes with operation number `point` going wrong; returns the outcome, and the operations there were.
fn publish(repo: &Repo, public: &Path, point: Option<String>) -> (Ran, Vec<String>) {
    let root = repo.path.parent().unwrap().parent().unwrap();
    let log = root.join("operations.log");
    let _ = std::fs::remove_file(&log);
    let mut command = Command::new(PROGRAM);
    // A relative path, as users often give it, which would mean another directory elsewhere.
    command.current_dir(root).args([
        "bundle",
        "publish",
        "acme/site",
        "--url",
        "https://cdn.example.com/",
        "--directory",
    ]);
    command.arg(public.strip_prefix(root).unwrap()).env_clear().env("GIT_PROJECT_ROOT", root).env("HOME", root);
    command.env("ARTIFACTS_FAILPOINT_LOG", &log).envs(point.map(|point| ("ARTIFACTS_FAILPOINT", point)));
    let ran = command.output().unwrap().into();
    let operations = std::fs::read_to_string(&log).unwrap_or_default();
    (ran, operations.lines().map(str::to_owned).collect())
}

#[test]
fn a_bundle_is_published_after_one_that_died_at_any_operation() {
    let scratch = Scratch::new();
    let (served, work) = (Repo::at(scratch.path().join("served.git")), Repo::at(scratch.path().join("work")));
    for repo in [&served, &work] {
        std::fs::create_dir(&repo.path).unwrap();
    }
    served.git(&["init", "-q", "--bare", "."]);
    work.git(&["init", "-q"]);
    work.commit("one");
    work.git(&["push", "-q", served.path.to_str().unwrap(), "HEAD:refs/heads/main"]);
    let fresh = || {
        let scratch = Scratch::new();
        let (namespace, public) = (scratch.path().join("acme"), scratch.path().join("public"));
        std::fs::create_dir(&namespace).unwrap();
        std::fs::create_dir(&public).unwrap();
        let repo = Repo::at(namespace.join("site.git"));
        Copy::make(&served.path, &repo.path);
        (scratch, repo, Repo::at(public))
    };
    let count = {
        let (_scratch, repo, public) = fresh();
        let (ran, operations) = publish(&repo, &public.path, None);
        assert!(ran.ok && ran.out.contains("advertised: "), "{}{}", ran.out, ran.err);
        operations.len()
    };
    let mut tried = 0;
    let points = |(offset, action): (usize, &'static &'static str)| sample(count, offset).map(move |n| (action, n));
    for (action, n) in ACTIONS.iter().enumerate().flat_map(points) {
        let (_scratch, repo, public) = fresh();
        let (ran, operations) = publish(&repo, &public.path, Some(format!("{n} {action}")));
        let Some(operation) = operations.get(n) else { continue };
        tried += 1;
        let case = format!("{n} {operation} {action}: {}{}", ran.out, ran.err);
        let (ran, _) = publish(&repo, &public.path, None);
        assert!(ran.ok, "{case}, next: {}{}", ran.out, ran.err);
        for left in [&repo, &public] {
            assert_eq!(left.leftovers(), Vec::<PathBuf>::new(), "{case}");
        }
        repo.config("other.key", "value");
        assert_eq!(repo.git(&["config", "--get-all", "include.path"]), "bundles.config", "{case}");
        assert_ne!(repo.git(&["config", "--get-regexp", "^bundle[.].*[.]uri$"]), "", "{case}");
    }
    assert!(tried > count.min(SAMPLE), "{tried} of {count}");
}

//! What killed pushes leave blocks nobody, and the next push removes it. What other programs hold stays.

use crate::support::{NULL, Repo, Running, Site, until};
use std::path::PathBuf;

/// A site, a token, three commits of which the server has the first, and a pack of the others.
struct Pushing {
    site: Site,
    token: String,
    commits: [String; 3],
    pack: Vec<u8>,
}

impl Pushing {
    fn new() -> Self {
        let mut commits = None;
        let site = Site::with("acme/site", |repo| {
            let made = ["one", "two", "three"].map(|text| repo.commit(text));
            repo.git(&["update-ref", "refs/heads/main", &made[0]]);
            commits = Some(made);
        });
        let (token, commits) = (site.token("acme/site", "write"), commits.unwrap());
        let pack = site.work("fill").pack(&format!("{}\n^{}\n", commits[2], commits[0]));
        Pushing { site, token, commits, pack }
    }

    fn served(&self) -> Repo {
        self.site.repo("acme/site")
    }

    fn request(&self, list: &[(&str, &str, &str)], atomic: bool) -> crate::support::Cgi {
        let capabilities = if atomic { "report-status side-band-64k atomic" } else { crate::support::PUSH };
        let body = [crate::support::updates(list, capabilities), self.pack.clone()].concat();
        self.site.push("acme/site", &self.token, list, &self.pack).body(body)
    }

    fn pushes(&self, list: &[(&str, &str, &str)]) -> Vec<String> {
        self.request(list, false).run().report()
    }

    /// A push that is killed by its own hook if `when`, a shell condition, holds.
    fn killed(&self, hook: &str, when: &str, list: &[(&str, &str, &str)], atomic: bool) {
        self.served().hook(hook, &format!("if {when}; then kill -9 $PPID; fi"));
        assert_eq!(self.request(list, atomic).run().exit, -9);
        std::fs::remove_file(self.served().path.join("hooks").join(hook)).unwrap();
    }

    fn left(&self, what: &str) -> usize {
        let names = self.served().leftovers();
        names.iter().filter(|path| path.to_str().unwrap().contains(what)).count()
    }

    fn is_clean(&self) {
        assert_eq!(self.served().leftovers(), Vec::<PathBuf>::new());
        self.served().fsck();
    }
}

#[test]
fn locks_of_a_killed_push_do_not_hold_up_the_next_one() {
    for atomic in [false, true] {
        let pushing = Pushing::new();
        let [one, two, three] = &pushing.commits;
        let list = [(one.as_str(), three.as_str(), "refs/heads/main"), (NULL, two.as_str(), "refs/heads/deep/er")];
        pushing.killed("reference-transaction", "test $1 = prepared", &list, atomic);
        assert!(pushing.left(".lock") >= 2);
        // C git never takes over such a lock.
        pushing.served().try_git(&["update-ref", "refs/heads/main", one]).fails_with("File exists");
        assert_eq!(pushing.pushes(&list), ["unpack ok", "ok refs/heads/main", "ok refs/heads/deep/er"]);
        pushing.is_clean();
        pushing.served().git(&["update-ref", "refs/heads/main", one]);
    }
}

#[test]
fn what_a_killed_push_has_left_goes_with_any_later_push() {
    // The hook, the unpack limit, and what is left.
    for (hook, limit, left) in
        [("pre-receive", "100", "tmp_objdir"), ("pre-receive", "1", "tmp_objdir"), ("update", "1", ".keep")]
    {
        let pushing = Pushing::new();
        let [one, two, _] = &pushing.commits;
        pushing.served().config("receive.unpackLimit", limit);
        pushing.killed(hook, "true", &[(NULL, two, "refs/heads/new")], false);
        assert!(pushing.left(left) > 0, "{hook}, {left}");
        let report = pushing.request(&[(NULL, one, "refs/heads/other")], false).run().report();
        assert_eq!(report, ["unpack ok", "ok refs/heads/other"]);
        pushing.is_clean();
        // A push without objects sweeps too.
        pushing.killed(hook, "true", &[(NULL, two, "refs/heads/new")], false);
        let deletion = crate::support::updates(&[(one, NULL, "refs/heads/other")], crate::support::PUSH);
        let report = pushing.request(&[], false).body(deletion).run().report();
        assert_eq!(report, ["unpack ok", "ok refs/heads/other"]);
        pushing.is_clean();
    }
}

#[test]
fn a_lock_that_is_not_ours_is_never_broken() {
    let pushing = Pushing::new();
    let [one, _, three] = &pushing.commits;
    let served = pushing.served();
    for (lock, refused) in [("refs/heads/main.lock", "refs/heads/main"), ("packed-refs.lock", "refs/heads/gone")] {
        served.git(&["update-ref", "refs/heads/gone", one]);
        std::fs::write(served.path.join(lock), "").unwrap();
        let update = match refused {
            "refs/heads/main" => (one.as_str(), three.as_str(), refused),
            _ => (one.as_str(), NULL, refused),
        };
        let answer = pushing.request(&[update], false).run();
        assert_eq!(answer.report()[1], format!("ng {refused} failed to update ref"));
        let said = String::from_utf8_lossy(&crate::support::band(&answer.body, 2)).into_owned();
        assert!(said.contains(&format!("Unable to create '{lock}': File exists")), "{said}");
        assert!(served.path.join(lock).exists());
        std::fs::remove_file(served.path.join(lock)).unwrap();
    }
    pushing.is_clean();
}

#[test]
fn a_lock_of_a_push_that_lives_is_not_broken() {
    let pushing = Pushing::new();
    let [one, two, three] = &pushing.commits;
    let (held, go) = (pushing.site.root().join("held"), pushing.site.root().join("go"));
    let wait = format!(
        "if test $1 = prepared && ! test -e {0}; then >{0}; until test -e {1}; do sleep 0.02; done; fi",
        held.display(),
        go.display()
    );
    pushing.served().hook("reference-transaction", &wait);
    let first = pushing.request(&[(one, three, "refs/heads/main")], false);
    let mut running: Running = first.start();
    running.feed(first.bytes()).unwrap();
    until("the first push holds its lock", || held.exists());
    let report = pushing.pushes(&[(one, two, "refs/heads/main")]);
    assert_eq!(report[1], "ng refs/heads/main failed to update ref");
    assert!(pushing.left("refs/heads/main.lock") == 1);
    std::fs::write(&go, "").unwrap();
    assert_eq!(running.end().report(), ["unpack ok", "ok refs/heads/main"]);
    assert_eq!(pushing.served().tip("refs/heads/main"), *three);
    pushing.is_clean();
}

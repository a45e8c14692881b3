//! Everything at once: our pushes and C git's, `git gc`, `git repack -ad`, `git pack-refs --all`, our own maintenance,
//! and clients that fetch. No update is lost, no object missing, no lock left over, and nobody sees a torn state.
//!
//! Each run has a few pushers; `PUSHERS=50 PUSHES=20` asks for more.

use crate::support::{PROGRAM, Ran, Repo, Site, git_command};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How a pusher reaches the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Http,
    Pipes,
    CGit,
}

struct Medley {
    site: Site,
    pushes: usize,
    url: String,
    /// How many attempts were refused for a reason that another attempt overcame.
    again: AtomicUsize,
}

fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(usual)
}

impl Medley {
    fn served(&self) -> Repo {
        self.site.repo("acme/site")
    }

    fn git(&self, work: &Repo, way: Way, arguments: &[&str], more: &[&str]) -> Ran {
        // Without `file://` git clones by copying files.
        let path = format!("file://{}", self.served().path.display());
        let mut command: Command = git_command(&work.path);
        command.args(arguments);
        match way {
            Way::Http => command.arg(&self.url),
            Way::Pipes => {
                let receives = arguments.first() == Some(&"push");
                let (option, service) = if receives { ("receive", "receive-pack") } else { ("upload", "upload-pack") };
                command.arg(format!("--{option}-pack={PROGRAM} {service}")).arg(path)
            }
            Way::CGit => command.arg(path),
        };
        Ran::from(command.args(more).output().unwrap())
    }

    /// Pushes until it succeeds; C git's own receive-pack may lose a race with gc, ours must not.
    fn push(&self, work: &Repo, way: Way, refs: &[&str]) {
        let atomic: &[&str] = if refs.len() > 1 { &["push", "-q", "--atomic"] } else { &["push", "-q"] };
        self.until_done(work, way, atomic, refs);
    }

    /// Fetches until it succeeds. C git's upload-pack looks only twice for an object whose pack is being replaced; ours
    /// looks until it finds it.
    fn fetch(&self, work: &Repo, way: Way, refs: &str) {
        self.until_done(work, way, &["fetch", "-q"], &[refs]);
    }

    fn until_done(&self, work: &Repo, way: Way, command: &[&str], refs: &[&str]) {
        for _ in 0..50 {
            let ran = self.git(work, way, command, refs);
            if ran.ok {
                return;
            }
            assert!(way == Way::CGit, "{way:?} {refs:?}: {}", ran.err);
            self.again.fetch_add(1, Ordering::Relaxed);
        }
        panic!("{way:?} {refs:?} never succeeds");
    }

    /// Adds a commit to the shared branch, however often another pusher is faster.
    fn add_to_shared(&self, work: &Repo, way: Way, name: &str) {
        for _ in 0..2000 {
            self.fetch(work, way, "+refs/heads/shared:refs/remotes/shared");
            let tree = work.tip("refs/remotes/shared^{tree}");
            let commit = work.git(&["commit-tree", "-p", "refs/remotes/shared", "-m", name, &tree]);
            let ran = self.git(work, way, &["push", "-q"], &[&format!("{commit}:refs/heads/shared")]);
            if ran.ok {
                return;
            }
            let reasons = [
                "fetch first",
                "non-fast-forward",
                "incorrect old value",
                "failed to update ref",
                "is at",
                "remote rejected",
            ];
            assert!(reasons.iter().any(|reason| ran.err.contains(reason)), "{way:?}: {}", ran.err);
            assert!(way == Way::CGit || !ran.err.contains("unable to migrate"), "{way:?}: {}", ran.err);
            self.again.fetch_add(1, Ordering::Relaxed);
        }
        panic!("{way:?}: the branch of all is never free");
    }

    fn pusher(&self, own: usize) {
        let way = [Way::Pipes, Way::CGit, Way::Http][own % 3];
        let work = self.site.work(&format!("pusher-{own}"));
        work.git(&["init", "-q"]);
        self.fetch(&work, way, "refs/heads/main:refs/remotes/main");
        work.git(&["reset", "-q", "--hard", "refs/remotes/main"]);
        for push in 0..self.pushes {
            work.commit(&format!("push {push} of {own}"));
            match push % 4 {
                // Two refs with one value, for the readers to compare.
                0 if way != Way::CGit => {
                    let pair = [format!("HEAD:refs/heads/pair/{own}/a"), format!("HEAD:refs/heads/pair/{own}/b")];
                    self.push(&work, way, &[&pair[0], &pair[1]]);
                }
                1 => self.add_to_shared(&work, way, &format!("{own} {push}")),
                2 => {
                    // The deleted commit is pushed again below, in the same pack, which a repack may be removing by
                    // then. C git can lose objects that way, so its pushers push another commit the second time.
                    let name = format!("refs/heads/gone/{own}");
                    let gone = match way {
                        Way::CGit => work.git(&["commit-tree", "-p", "HEAD", "-m", "gone", "HEAD^{tree}"]),
                        Way::Pipes | Way::Http => "HEAD".to_owned(),
                    };
                    self.push(&work, way, &[&format!("{gone}:{name}")]);
                    self.push(&work, way, &[&format!(":{name}")]);
                }
                _ => {}
            }
            self.push(&work, way, &[&format!("HEAD:refs/heads/own/{}/{own}", own % 5)]);
        }
    }

    /// Runs git's housekeeping in a loop as long as there are pushes.
    fn housekeeping(&self, stop: &AtomicBool) -> usize {
        let mut rounds = 0;
        while !stop.load(Ordering::Relaxed) {
            for arguments in [&["pack-refs", "--all"][..], &["repack", "-a", "-d", "-q"], &["gc", "-q"]] {
                // A push's lock makes this fail now and then.
                self.served().try_git(arguments);
            }
            rounds += 1;
        }
        rounds
    }

    /// Runs this program's maintenance at the same time.
    fn maintenance(&self, stop: &AtomicBool) -> usize {
        let mut packed = 0;
        while !stop.load(Ordering::Relaxed) {
            let ran = self.site.try_tool(&["maintenance", "acme/site", "--loose-limit", "5"]);
            assert!(ran.ok, "{}{}", ran.out, ran.err);
            packed += usize::from(ran.out.contains("packed"));
        }
        packed
    }

    fn reader(&self, number: usize, stop: &AtomicBool) -> usize {
        let way = [Way::Pipes, Way::Http][number % 2];
        let mut rounds = 0;
        while !stop.load(Ordering::Relaxed) || rounds == 0 {
            let desk = self.site.desk();
            let listed = self.git(&desk, way, &["ls-remote"], &[]);
            assert!(listed.ok, "{}", listed.err);
            let value = |name: &str| listed.out.lines().find_map(|line| line.strip_suffix(name)).map(str::to_owned);
            for own in 0..50 {
                let pair = ["a", "b"].map(|half| value(&format!("refs/heads/pair/{own}/{half}")));
                assert_eq!(pair[0], pair[1], "{way:?}: torn in\n{}", listed.out);
            }
            assert!(value("refs/heads/main").is_some() && value("refs/heads/shared").is_some(), "{}", listed.out);
            let name = format!("clone-{number}-{rounds}");
            let cloned = self.git(&desk, way, &["clone", "-q", "--mirror"], &[&name]);
            // A ref may be deleted and its objects repacked away between listing and fetch.
            assert!(cloned.ok || cloned.err.contains("not our ref"), "{way:?}: {}", cloned.err);
            if !cloned.ok {
                continue;
            }
            let clone = Repo::at(desk.path.join(&name));
            clone.fsck();
            std::fs::remove_dir_all(&clone.path).unwrap();
            rounds += 1;
        }
        rounds
    }
}

#[test]
fn pushes_of_all_kinds_beside_housekeeping_and_fetches_lose_nothing() {
    let (pushers, pushes) = (number("PUSHERS", 6), number("PUSHES", 4));
    let site = Site::with("acme/site", |repo| {
        repo.commit("base");
        repo.git(&["branch", "shared"]);
    });
    let served = site.repo("acme/site");
    // With more processes than processors, a lock may be held for long.
    served.config("core.filesRefLockTimeout", "60000");
    served.config("core.packedRefsTimeout", "60000");
    served.config("receive.unpackLimit", "3");
    let token = site.token("acme/site", "write");
    let server = site.serve();
    let url = server.url_with("acme/site", &token);
    let medley = Medley { site, pushes, url, again: AtomicUsize::new(0) };
    let stop = AtomicBool::new(false);
    let (rounds, packed, clones) = std::thread::scope(|scope| {
        let pushing: Vec<_> = (0..pushers)
            .map(|own| {
                let medley = &medley;
                scope.spawn(move || medley.pusher(own))
            })
            .collect();
        let housekeeping = scope.spawn(|| medley.housekeeping(&stop));
        let maintenance = scope.spawn(|| medley.maintenance(&stop));
        let readers: Vec<_> = (0..2)
            .map(|number| {
                let (medley, stop) = (&medley, &stop);
                scope.spawn(move || medley.reader(number, stop))
            })
            .collect();
        let failed = pushing.into_iter().filter_map(|pusher| pusher.join().err()).count();
        stop.store(true, Ordering::Relaxed);
        let rounds = housekeeping.join().unwrap();
        let packed = maintenance.join().unwrap();
        let clones: usize = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        assert_eq!(failed, 0);
        (rounds, packed, clones)
    });
    let again = medley.again.load(Ordering::Relaxed);
    println!(
        "{pushers} pushers of {pushes}: {again} attempts again, {rounds} rounds of housekeeping, {packed} packs made by ours, {clones} clones"
    );
    // A multi-pack-index written while git repacked may name packs that git has removed; maintenance repairs that.
    medley.site.tool(&["maintenance", "acme/site"]);
    served.fsck();
    assert_eq!(served.leftovers(), Vec::<PathBuf>::new());
    let shared = pushers * (0..pushes).filter(|push| push % 4 == 1).count();
    assert_eq!(served.git(&["rev-list", "--count", "main..shared"]), shared.to_string());
    for own in 0..pushers {
        let work = medley.site.work(&format!("pusher-{own}"));
        assert_eq!(served.tip(&format!("refs/heads/own/{}/{own}", own % 5)), work.tip("HEAD"));
    }
    let gone = served.refs().lines().filter(|line| line.contains("/gone/")).count();
    assert_eq!(gone, 0);
}

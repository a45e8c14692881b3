//! Many clients at once: each is told the truth, and the repository ends up as they were told.

use crate::support::{NULL, Ran, Repo, Site};
use std::path::PathBuf;
use std::sync::Barrier;

const CLIENTS: usize = 20;

/// A site, and commits with the same parent, none of them on the server.
fn contest() -> (Site, Vec<String>) {
    let site = Site::with("acme/site", |repo| {
        repo.commit("base");
    });
    let work = site.work("fill");
    let tree = work.tip("HEAD^{tree}");
    let commits = (0..CLIENTS)
        .map(|number| work.git(&["commit-tree", "-p", "HEAD", "-m", &format!("of client {number}"), &tree]))
        .collect();
    (site, commits)
}

/// Runs one action for each number, all at the same moment.
fn at_once<T: Send>(count: usize, action: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(count);
    let run = |number| {
        barrier.wait();
        action(number)
    };
    let run = &run;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|number| scope.spawn(move || run(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn is_whole(repo: &Repo) {
    repo.fsck();
    assert_eq!(repo.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn of_twenty_pushes_to_one_branch_one_wins_and_the_others_hear_why() {
    let (site, commits) = contest();
    let token = site.token("acme/site", "write");
    let server = site.serve();
    let url = server.url_with("acme/site", &token);
    let work = site.work("fill");
    let base = work.tip("HEAD");
    let ran: Vec<Ran> = at_once(CLIENTS, |number| {
        work.try_git(&["push", "--porcelain", &url, &format!("{}:refs/heads/main", commits[number])])
    });
    let winners: Vec<usize> = (0..CLIENTS).filter(|&number| ran[number].ok).collect();
    assert_eq!(winners.len(), 1, "{ran:?}");
    let served = site.repo("acme/site");
    assert_eq!(served.tip("refs/heads/main"), commits[winners[0]]);
    for (number, ran) in ran.iter().enumerate().filter(|(_, ran)| !ran.ok) {
        // Either git refused before it pushed, or the branch no longer had the old value.
        let reasons = [
            "fetch first",
            "incorrect old value provided",
            "failed to update ref",
            "non-fast-forward",
            "reference already exists",
        ];
        assert!(reasons.iter().any(|reason| ran.out.contains(reason)), "client {number}: {}\n{}", ran.out, ran.err);
    }
    assert_eq!(served.git(&["rev-list", "--count", &format!("{base}..main")]), "1");
    is_whole(&served);
}

#[test]
fn twenty_pushes_to_twenty_branches_all_arrive_while_git_packs_refs_and_repacks() {
    let (site, commits) = contest();
    let token = site.token("acme/site", "write");
    let server = site.serve();
    let url = server.url_with("acme/site", &token);
    let work = site.work("fill");
    let served = site.repo("acme/site");
    let ran: Vec<Ran> = at_once(CLIENTS + 2, |number| match number {
        CLIENTS => (0..8).map(|_| served.try_git(&["pack-refs", "--all"])).find(|ran| !ran.ok).unwrap_or(Ran {
            ok: true,
            out: String::new(),
            err: String::new(),
        }),
        number if number > CLIENTS => served.try_git(&["repack", "-a", "-q"]),
        // Two neighbours each share a directory.
        _ => work.try_git(&["push", &url, &format!("{}:refs/heads/team-{}/{number}", commits[number], number / 2)]),
    });
    for (number, ran) in ran.iter().enumerate().take(CLIENTS) {
        assert!(ran.ok, "client {number}: {}", ran.err);
        assert_eq!(served.tip(&format!("refs/heads/team-{}/{number}", number / 2)), commits[number]);
    }
    assert_eq!(served.refs().lines().count(), CLIENTS + 1);
    is_whole(&served);
}

#[test]
fn atomic_pushes_that_cross_each_other_are_whole_or_nothing() {
    let (site, commits) = contest();
    let token = site.token("acme/site", "write");
    let served = site.repo("acme/site");
    let pack = site.work("fill").pack(&format!("{}\n^HEAD\n", commits.join("\n")));
    // Each client creates two refs; neighbours share one of them, and name it in different positions.
    let pairs = 8;
    let name = |number: usize| format!("refs/heads/pair-{}", number % pairs);
    let reports = at_once(pairs, |number| {
        let (mut one, mut two) = (name(number), name(number + 1));
        if number % 2 == 1 {
            std::mem::swap(&mut one, &mut two);
        }
        let list = [(NULL, commits[number].as_str(), one.as_str()), (NULL, commits[number].as_str(), two.as_str())];
        let request = site.push("acme/site", &token, &list, &pack);
        let lines = crate::support::updates(&list, "report-status side-band-64k atomic");
        request.body([lines, pack.clone()].concat()).run().report()
    });
    let refs = served.refs();
    for (number, report) in reports.iter().enumerate() {
        assert_eq!(report[0], "unpack ok");
        let won = report[1].starts_with("ok ");
        assert_eq!(report[2].starts_with("ok "), won, "{report:?}");
        let holds = |name: String| refs.contains(&format!("{} {name}", commits[number]));
        assert_eq!((holds(name(number)), holds(name(number + 1))), (won, won), "{report:?}\n{refs}");
    }
    assert!(reports.iter().any(|report| report[1].starts_with("ok ")));
    is_whole(&served);
}

#[test]
fn clones_during_pushes_and_deletions_are_whole() {
    let (site, commits) = contest();
    let token = site.token("acme/site", "write");
    let server = site.serve();
    let url = server.url_with("acme/site", &token);
    let work = site.work("fill");
    let served = site.repo("acme/site");
    at_once(8, |number| {
        if number < 4 {
            for round in 0..3 {
                let name = format!("refs/heads/moving-{number}");
                work.git(&["push", "-q", "-f", &url, &format!("{}:{name}", commits[number * 4 + round])]);
            }
            work.git(&["push", "-q", &url, &format!(":refs/heads/moving-{number}")]);
        } else {
            // If a branch moves between the listing and the fetch, what was listed may have become unreachable.
            let whole = (0..20).find_map(|attempt| {
                let name = format!("clone-{number}-{attempt}");
                let ran = site.desk().try_git(&["clone", "-q", "--mirror", &url, &name]);
                assert!(ran.ok || ran.err.contains("not our ref"), "{}", ran.err);
                ran.ok.then(|| Repo::at(site.desk().path.join(name)))
            });
            let clone = whole.unwrap();
            clone.fsck();
            assert!(clone.refs().contains(" refs/heads/main"), "{}", clone.refs());
        }
    });
    assert_eq!(served.refs().lines().count(), 1);
    is_whole(&served);
}

//! Pushes from clients whose history is cut where ours goes on, or whose history is unknown here; compared with C git.

use super::support::{Answer, Pair, Push, send};
use std::path::PathBuf;

/// A pair whose client has fetched, as a branch, the last two of four commits of each of these histories; the server
/// may cut its history.
fn pair(foreign: &[&str]) -> Pair {
    let pair = Pair::new();
    for name in foreign {
        pair.git(&pair.scratch.0, &["init", "-q", "-b", name, name]);
        let place = pair.scratch.0.join(name);
        for n in 1..=4 {
            std::fs::write(place.join("file"), format!("{name} {n}")).expect("scratch can be written");
            pair.git(&place, &["add", "file"]);
            pair.git(&place, &["commit", "-q", "-m", &format!("{name} {n}")]);
        }
        let from = format!("file://{}", place.display());
        pair.git(&pair.client, &["fetch", "-q", "--depth=2", &from, &format!("{name}:{name}")]);
    }
    pair.at_server(&["config", "receive.shallowUpdate", "true"]);
    pair
}

/// A push with the client's boundary.
fn push(pair: &Pair, updates: &[&str]) -> Push {
    let cut = std::fs::read_to_string(pair.client.join(".git/shallow")).unwrap_or_default();
    Push { shallow: cut.lines().map(ToOwned::to_owned).collect(), ..pair.push(updates) }
}

/// The commits at which the server's history is cut, sorted.
fn cut(pair: &Pair) -> Vec<String> {
    let mut lines: Vec<String> =
        std::fs::read_to_string(pair.server.join("shallow")).unwrap_or_default().lines().map(Into::into).collect();
    lines.sort();
    lines
}

/// Serves a push.
fn sent(pair: &Pair, push: &Push) -> Answer {
    let answer = pair.send(push);
    assert!(!pair.server.join("shallow.lock").exists());
    pair.assert_clean();
    answer
}

/// Serves the same push here and with C git: the report, the refs and the boundary are the same.
fn check(pair: &Pair, push: &Push, case: &str) -> Answer {
    let copy = pair.copy();
    let theirs = copy.send_to_git(&push.bytes());
    let ours = sent(pair, push);
    assert_eq!(ours.report, theirs.report, "{case}\nours: {}\ntheirs: {}", ours.said, theirs.said);
    assert_eq!((pair.refs(), cut(pair)), (copy.refs(), cut(&copy)), "{case}");
    ours
}

#[test]
fn the_owner_may_let_a_clients_boundary_become_ours() {
    let template = pair(&["x", "y"]);
    let ng = |name: &str, why: &str| format!("ng refs/heads/{name} {why}");
    let both = ["- x refs/heads/x", "- y refs/heads/y", "- HEAD refs/heads/a"];

    let one = template.copy();
    assert_eq!(check(&one, &push(&one, &["- x refs/heads/x"]), "one").complaints(), [""; 0]);
    assert_eq!(cut(&one), [one.client_id("x~1")]);

    // C git fails if there are two.
    let on = template.copy();
    assert_eq!(sent(&on, &push(&on, &both)).complaints(), [""; 0]);
    let mut expected = ["x~1", "y~1"].map(|commit| on.client_id(commit));
    expected.sort();
    assert_eq!(cut(&on), expected);
    assert_eq!(on.at_server(&["log", "--format=%s", "x"]), "x 4\nx 3");

    let declined = template.copy();
    declined.hook("update", "test $1 != refs/heads/y");
    assert_eq!(sent(&declined, &push(&declined, &both)).complaints(), [ng("y", "hook declined")]);
    assert_eq!(cut(&declined), [declined.client_id("x~1")]);
    let atomic = template.copy();
    atomic.hook("update", "test $1 != refs/heads/y");
    assert_eq!(sent(&atomic, &push(&atomic, &both).and("atomic")).complaints().len(), 3);
    assert_eq!(cut(&atomic), [""; 0]);
}

#[test]
fn a_clients_boundary_does_not_become_ours_unasked() {
    let pair = pair(&["x"]);
    pair.at_server(&["config", "--unset", "receive.shallowUpdate"]);
    let answer = check(&pair, &push(&pair, &["- x refs/heads/x", "- HEAD refs/heads/a"]), "not allowed");
    assert_eq!(answer.complaints(), ["ng refs/heads/x shallow update not allowed"]);
    assert_eq!(cut(&pair), [""; 0]);
    let push = Push { shallow: Vec::new(), ..push(&pair, &["- x refs/heads/x"]) };
    assert_eq!(check(&pair, &push, "no boundary is told").complaints(), ["ng refs/heads/x missing necessary objects"]);
}

#[test]
fn history_is_not_cut_where_it_is_complete() {
    // All of it is here, and a ref reaches it.
    let template = pair(&["x"]);
    template.at_server(&["fetch", "-q", "../x", "x:refs/heads/full"]);
    let shown = template.copy();
    assert_eq!(check(&shown, &push(&shown, &["- x refs/heads/x"]), "complete").complaints(), [""; 0]);
    assert_eq!(cut(&shown), [""; 0]);
    // All of it is here, but no ref reaches it: C git cuts it off.
    let unseen = template.copy();
    unseen.at_server(&["update-ref", "-d", "refs/heads/full"]);
    assert_eq!(unseen.send(&push(&unseen, &["- x refs/heads/x"])).complaints(), [""; 0]);
    assert_eq!((cut(&unseen).as_slice(), unseen.at_server(&["rev-list", "--count", "x"])), (&[][..], "4".into()));
    unseen.assert_clean();
}

#[test]
fn history_is_cut_where_something_further_behind_is_missing() {
    let pair = pair(&["x", "y"]);
    // Only the parent of the client's last commit is here, nothing beyond it.
    let parent = pair.git(&pair.scratch.0.join("x"), &["rev-parse", "x~2"]);
    let pack = format!("{parent}\n^{parent}~1\n");
    let pack = pair.git_with(&pair.scratch.0.join("x"), &["pack-objects", "-q", "--stdout", "--revs"], pack.as_bytes());
    pair.git_with(&pair.server, &["unpack-objects", "-q"], &pack);
    assert_eq!(pair.at_server(&["cat-file", "-t", &parent]), "commit");
    pair.at_server(&["fetch", "-q", "../y", "y:refs/heads/full"]);
    pair.at_server(&["update-ref", "-d", "refs/heads/full"]);
    let answer = pair.send(&push(&pair, &["- x refs/heads/x", "- y refs/heads/y"]));
    assert_eq!(answer.complaints(), [""; 0]);
    assert_eq!(cut(&pair), [pair.client_id("x~1")]);
    let count = |name: &str| pair.at_server(&["rev-list", "--count", name]);
    assert_eq!((count("x").as_str(), count("y").as_str()), ("2", "4"));
    pair.assert_clean();
}

#[test]
fn what_lacks_more_than_the_boundary_says_is_refused() {
    let pair = pair(&["x", "y"]);
    let mut push = push(&pair, &["- x refs/heads/x", "- y refs/heads/y"]);
    let x = pair.client_id("x~1");
    push.shallow = vec![x.clone()];
    let answer = sent(&pair, &push);
    assert_eq!(answer.complaints(), ["ng refs/heads/y missing necessary objects"]);
    assert_eq!(cut(&pair), [x]);
}

#[test]
fn our_own_boundary_stays_and_history_may_be_rewritten_across_both() {
    let mut pair = pair(&["x"]);
    let from = format!("file://{}", pair.client.display());
    pair.git(&pair.scratch.0, &["clone", "-q", "--bare", "--depth=1", "--branch=main", &from, "shallow.git"]);
    pair.server = pair.scratch.0.join("shallow.git");
    pair.at_server(&["config", "receive.shallowUpdate", "true"]);
    let own = pair.client_id("main");
    // C git forgets where its history was cut before.
    assert_eq!(sent(&pair, &push(&pair, &["- x refs/heads/x"])).complaints(), [""; 0]);
    let mut expected = [own, pair.client_id("x~1")];
    expected.sort();
    assert_eq!(cut(&pair), expected);
    // C git dies without a message when its walk meets the end of history here.
    pair.at_server(&["config", "receive.denyNonFastForwards", "true"]);
    let answer = pair.send(&push(&pair, &["main x refs/heads/main"]));
    assert_eq!(answer.complaints(), ["ng refs/heads/main non-fast-forward"]);
}

#[test]
fn a_boundary_that_cannot_be_written_refuses_those_that_need_it() {
    let template = pair(&["x"]);
    let refused = |atomic: bool| {
        let pair = template.copy();
        pair.at_server(&["config", "core.packedRefsTimeout", "20"]);
        std::fs::write(pair.server.join("shallow.lock"), "").expect("scratch can be written");
        let push = push(&pair, &["- x refs/heads/x", "- HEAD refs/heads/a"]);
        let answer = pair.send(&if atomic { push.and("atomic") } else { push });
        assert_eq!(answer.said, "error: cannot update the shallow file: shallow.lock is held by somebody else\n");
        assert!(pair.server.join("shallow.lock").exists(), "it is not ours");
        answer.complaints().join(", ")
    };
    assert_eq!(refused(false), "ng refs/heads/x shallow error");
    assert_eq!(refused(true), "ng refs/heads/x shallow error, ng refs/heads/a atomic push failure");
    // Another process has completed our history in the meantime.
    let pair = template.copy();
    std::fs::write(pair.server.join("shallow"), pair.client_id("main") + "\n").expect("scratch can be written");
    let repository = pair.open();
    std::fs::remove_file(pair.server.join("shallow")).expect("it was just written");
    let answer = send(&repository, &push(&pair, &["- x refs/heads/x"]).bytes());
    assert_eq!(answer.complaints(), ["ng refs/heads/x shallow error"]);
    assert_eq!(answer.said, "error: cannot update the shallow file: shallow file has changed since we read it\n");
}

#[test]
fn hooks_see_history_cut_before_it_is() {
    let pair = pair(&["x"]);
    let look = |name: &str| format!("echo {name} $GIT_SHALLOW_FILE; cat >/dev/null; git rev-list --count");
    pair.hook("pre-receive", &format!("read old new name; {} $new", look("pre-receive")));
    pair.hook("update", &format!("{} $3 </dev/null; test ! -e shallow && echo not yet", look("update")));
    pair.hook("post-receive", &format!("{} x; test -e shallow && echo now", look("post-receive")));
    let environment = vec![("PATH".into(), std::env::var_os("PATH").expect("there is one"))];
    let repository = pair.open_with(|context| context.hook_environment = environment.into());
    let answer = send(&repository, &push(&pair, &["- x refs/heads/x"]).bytes());
    assert_eq!(answer.complaints(), [""; 0], "{}", answer.said);
    let lines: Vec<&str> = answer.said.lines().collect();
    let file = PathBuf::from(lines[0].rsplit(' ').next().expect("it has words"));
    let name = file.display();
    let expected = format!("pre-receive {name}\n2\nupdate {name}\n2\nnot yet\npost-receive {name}\n2\nnow\n");
    assert_eq!(answer.said, expected);
    assert!(file.is_absolute() && file.exists());
    drop(repository);
    assert!(!file.exists());
    assert_eq!(std::fs::read_dir(pair.server.join("artifacts-journal")).into_iter().flatten().count(), 0);
    pair.assert_clean();
    // If nothing is cut, hooks are not told of such a file.
    pair.hook("pre-receive", "env | grep GIT_SHALLOW");
    let answer = pair.send(&push(&pair, &["- HEAD refs/heads/b"]));
    assert_eq!((answer.complaints().len(), answer.said.as_str()), (1, ""));
}

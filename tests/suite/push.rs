//! Pushes with a real git, through the embedded server: rules, hooks, reports, and what is on disk afterwards.

use crate::support::{Repo, Server, Site, bearer, noise};
use std::os::unix::fs::PermissionsExt;

struct Pushing {
    site: Site,
    server: Server,
    work: Repo,
    token: String,
}

impl Pushing {
    fn new() -> Self {
        let site = Site::new();
        site.create("acme/site");
        let token = site.token("acme/site", "write");
        let server = site.serve();
        let work = site.work("work");
        work.git(&["init", "-q"]);
        work.commit("one");
        Pushing { site, server, work, token }
    }

    fn push(&self, words: &[&str]) -> crate::support::Ran {
        let header = bearer(&self.token);
        let url = self.server.url("acme/site");
        let (options, refs): (Vec<&str>, Vec<&str>) = words.iter().copied().partition(|word| word.starts_with("--"));
        let mut all = vec!["-c", header.as_str(), "push"];
        all.extend(options);
        all.push(&url);
        all.extend(refs);
        self.work.try_git(&all)
    }

    fn served(&self) -> Repo {
        self.site.repo("acme/site")
    }

    fn hook(&self, name: &str, script: &str) {
        let folder = self.served().path.join("hooks");
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Checks that the repository is intact, and that nothing is left behind.
    fn is_clean(&self) {
        self.served().fsck();
        assert_eq!(self.served().leftovers(), Vec::<std::path::PathBuf>::new());
    }
}

#[test]
fn a_first_push_into_an_empty_repository_and_a_second_one() {
    let pushing = Pushing::new();
    pushing.push(&["main"]).succeeds();
    assert_eq!(pushing.served().tip("refs/heads/main"), pushing.work.tip("main"));
    pushing.work.commit("two");
    pushing.work.git(&["tag", "-a", "-m", "v1", "v1"]);
    pushing.push(&["main", "v1"]).succeeds();
    assert_eq!(pushing.served().tip("refs/tags/v1"), pushing.work.tip("v1"));
    pushing.is_clean();
}

#[test]
fn a_push_works_in_every_protocol_version() {
    let pushing = Pushing::new();
    for version in ["0", "1", "2"] {
        pushing.work.commit(&format!("version {version}"));
        pushing.work.config("protocol.version", version);
        pushing.push(&["main"]).succeeds();
        assert_eq!(pushing.served().tip("main"), pushing.work.tip("main"));
    }
    pushing.is_clean();
}

#[test]
fn force_and_delete_are_obeyed() {
    let pushing = Pushing::new();
    pushing.work.commit("two");
    pushing.push(&["main", "main:other"]).succeeds();
    pushing.work.git(&["reset", "-q", "--hard", "HEAD~1"]);
    pushing.push(&["main"]).fails_with("non-fast-forward");
    pushing.push(&["--force", "main"]).succeeds();
    assert_eq!(pushing.served().tip("main"), pushing.work.tip("main"));
    pushing.push(&[":other"]).succeeds();
    assert!(!pushing.served().refs().contains("other"));
    pushing.push(&[":main"]).fails_with("deletion of the current branch prohibited");
    pushing.is_clean();
}

#[test]
fn rules_of_the_owner_refuse_in_gits_words() {
    let pushing = Pushing::new();
    pushing.work.commit("two");
    pushing.push(&["main", "main:other"]).succeeds();
    let served = pushing.served();
    served.config("receive.denyNonFastForwards", "true");
    served.config("receive.denyDeletes", "true");
    served.config("receive.hideRefs", "refs/hidden");
    pushing.push(&[":other"]).fails_with("deletion prohibited");
    pushing.push(&["main:refs/hidden/a"]).fails_with("deny updating a hidden ref");
    pushing.push(&["main:refs/one-level"]).succeeds_or_fails_as_git();
    pushing.work.git(&["reset", "-q", "--hard", "HEAD~1"]);
    pushing.push(&["--force", "main"]).fails_with("non-fast-forward");
    pushing.is_clean();
}

trait AsGit {
    fn succeeds_or_fails_as_git(self);
}

impl AsGit for crate::support::Ran {
    /// A ref directly below `refs/` can be deleted, but never created (UP-03).
    fn succeeds_or_fails_as_git(self) {
        self.fails_with("funny refname");
    }
}

#[test]
fn a_large_push_is_kept_as_a_pack_with_index_and_reverse_index() {
    let pushing = Pushing::new();
    for number in 0..120 {
        std::fs::write(pushing.work.path.join(format!("file-{number}")), format!("{number}\n")).unwrap();
    }
    pushing.work.commit("many");
    pushing.push(&["main"]).succeeds();
    let packs = pushing.served().path.join("objects/pack");
    let mut endings: Vec<String> = std::fs::read_dir(packs)
        .unwrap()
        .map(|entry| entry.unwrap().path().extension().unwrap().to_string_lossy().into_owned())
        .collect();
    endings.sort();
    assert_eq!(endings, ["idx", "pack", "rev"]);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let readers = mode(&pushing.work.path.join("file-0")) & 0o444;
    for entry in std::fs::read_dir(pushing.served().path.join("objects/pack")).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), readers, "whoever may read other files may read these, as git's");
    }
    pushing.is_clean();
}

#[test]
fn chunked_bodies_and_thin_packs_arrive() {
    let pushing = Pushing::new();
    let mut noise = vec![0_u8; 3 << 20];
    let mut state = 1_u32;
    for byte in &mut noise {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
    std::fs::write(pushing.work.path.join("noise"), &noise).unwrap();
    pushing.work.commit("noise");
    pushing.work.config("http.postBuffer", "65536");
    pushing.push(&["main"]).succeeds();
    noise[5] ^= 1;
    std::fs::write(pushing.work.path.join("noise"), &noise).unwrap();
    pushing.work.commit("a little changed");
    pushing.served().config("receive.unpackLimit", "1");
    pushing.push(&["main"]).succeeds();
    pushing.is_clean();
    assert_eq!(pushing.served().tip("main"), pushing.work.tip("main"));
}

#[test]
fn an_atomic_push_is_all_or_nothing() {
    let pushing = Pushing::new();
    pushing.push(&["main", "main:a"]).succeeds();
    pushing.hook("update", "test \"$1\" != refs/heads/b");
    pushing.work.commit("two");
    let before = pushing.served().refs();
    let ran = pushing.push(&["--atomic", "main", "main:b"]);
    ran.fails_with("atomic push failure");
    assert_eq!(pushing.served().refs(), before);
    pushing.push(&["--atomic", "main", "main:c"]).succeeds();
    assert!(pushing.served().refs().contains("refs/heads/c"));
    pushing.push(&["main", "main:b"]).fails_with("hook declined");
    pushing.is_clean();
}

#[test]
fn hooks_hear_see_and_say_what_gits_do() {
    let pushing = Pushing::new();
    let log = pushing.site.desk().path.join("log");
    let log = log.to_str().unwrap();
    pushing.hook("pre-receive", &format!("cat >>{log}; echo in pre-receive; test -d \"$GIT_QUARANTINE_PATH\" || exit 1; read -r x <&- 2>/dev/null; git cat-file -t $(git rev-parse --verify HEAD 2>/dev/null || echo 0) >/dev/null 2>&1; exit 0"));
    pushing.hook("update", &format!("echo \"update $1 $2 $3\" >>{log}; echo on stderr >&2"));
    pushing.hook("post-receive", &format!("sed 's/^/post /' >>{log}; env >{log}.env"));
    pushing.hook("post-update", &format!("echo \"post-update $*\" >>{log}"));
    let said = pushing.push(&["main"]);
    assert!(said.ok, "{}", said.err);
    assert!(said.err.contains("remote: in pre-receive") && said.err.contains("remote: on stderr"), "{}", said.err);
    let (null, tip) = ("0".repeat(40), pushing.work.tip("main"));
    let expected = format!(
        "{null} {tip} refs/heads/main\nupdate refs/heads/main {null} {tip}\npost {null} {tip} refs/heads/main\npost-update refs/heads/main\n"
    );
    assert_eq!(std::fs::read_to_string(log).unwrap(), expected);
    let environment = std::fs::read_to_string(format!("{log}.env")).unwrap();
    for secret in ["AUTHORIZATION", "REQUEST_METHOD", "PATH_INFO", "CONTENT_"] {
        assert!(!environment.contains(secret), "{secret} in {environment}");
    }
    let secret = pushing.token.split('?').next().unwrap();
    assert!(!environment.contains(secret));
    assert!(environment.contains("GIT_DIR=.\n") && environment.contains("ARTIFACTS_SCOPE=write\n"), "{environment}");
    assert!(environment.contains("GIT_COMMITTER_NAME=token-"));
    pushing.is_clean();
}

#[test]
fn a_declining_hook_leaves_nothing() {
    let pushing = Pushing::new();
    pushing.hook("pre-receive", "echo 'not today' >&2; exit 1");
    let said = pushing.push(&["main"]);
    assert!(said.err.contains("remote: not today"), "{}", said.err);
    said.fails_with("pre-receive hook declined");
    assert_eq!(pushing.served().refs(), "");
    assert_eq!(pushing.served().git(&["count-objects"]), "0 objects, 0 kilobytes");
    pushing.is_clean();
}

#[test]
fn a_hook_sees_the_new_objects_before_they_are_everybodys() {
    let pushing = Pushing::new();
    pushing.hook("pre-receive", "while read old new name; do git cat-file commit $new | grep one; done");
    let said = pushing.push(&["main"]);
    assert!(said.ok && said.err.contains("remote: one"), "{}", said.err);
}

#[test]
fn reflogs_name_the_token() {
    let pushing = Pushing::new();
    pushing.served().config("core.logAllRefUpdates", "true");
    pushing.push(&["main"]).succeeds();
    let log = std::fs::read_to_string(pushing.served().path.join("logs/refs/heads/main")).unwrap();
    assert!(log.contains(" token-") && log.contains("@http.127.0.0.1> ") && log.ends_with("\tpush\n"), "{log}");
}

#[test]
fn the_audit_log_has_the_verdicts_before_the_request() {
    let site = Site::new();
    site.create("acme/site");
    let token = site.token("acme/site", "write");
    let log = site.root().join("audit.log");
    let server = site.serve_with(&[], &[("ARTIFACTS_AUDIT_LOG", log.to_str().unwrap())]);
    let work = site.work("work");
    work.git(&["init", "-q"]);
    work.commit("one");
    work.git(&["push", "-q", &server.url_with("acme/site", &token), "main"]);
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(!text.contains(token.split('?').next().unwrap()));
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let push = lines.iter().position(|line| line["event"] == "push").unwrap();
    assert_eq!(lines[push]["updates"][0]["ref"], "refs/heads/main");
    assert_eq!(lines[push]["updates"][0]["verdict"], "ok");
    assert_eq!(lines[push + 1]["event"], "request");
    assert_eq!(lines[push + 1]["id"], lines[push]["id"]);
    assert_eq!(lines[push + 1]["operation"], "push");
    assert_eq!(lines[push + 1]["outcome"], "ok");
}

#[test]
fn a_checked_out_branch_is_not_pushed_to() {
    let site = Site::new();
    site.create("acme/site");
    let token = site.token("acme/site", "write");
    let served = site.repo("acme/site");
    served.config("core.bare", "false");
    let work = site.work("work");
    work.git(&["init", "-q"]);
    work.commit("one");
    let server = site.serve();
    let url = server.url_with("acme/site", &token);
    work.try_git(&["push", "-q", &url, "main"]).fails_with("branch is currently checked out");
    served.config("receive.denyCurrentBranch", "ignore");
    work.git(&["push", "-q", &url, "main"]);
    assert_eq!(served.tip("main"), work.tip("main"));
}

#[test]
fn nothing_is_read_or_done_for_an_empty_push() {
    let pushing = Pushing::new();
    let answer = pushing.site.cgi("POST", "/acme/site.git/git-receive-pack").bearer(&pushing.token).body("0000").run();
    assert_eq!((answer.status, answer.body.len()), (200, 0), "{}", answer.stderr);
}

#[test]
fn a_keep_file_of_somebody_elses_stays() {
    let pushing = Pushing::new();
    pushing.served().config("receive.unpackLimit", "1");
    pushing.push(&["main"]).succeeds();
    let packs = pushing.served().path.join("objects/pack");
    let pack = std::fs::read_dir(&packs)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "pack"))
        .unwrap();
    let keep = pack.with_extension("keep");
    std::fs::write(&keep, "the operator's\n").unwrap();
    pushing.push(&["main:other", ":main"]).fails_with("deletion of the current branch prohibited");
    let served = pushing.served();
    served.git(&["update-ref", "-d", "refs/heads/main"]);
    served.git(&["update-ref", "-d", "refs/heads/other"]);
    pushing.push(&["main"]).succeeds();
    assert_eq!(std::fs::read_to_string(&keep).unwrap(), "the operator's\n", "the same pack came again");
    std::fs::remove_file(&keep).unwrap();
    pushing.is_clean();
}

#[test]
fn a_push_that_takes_longer_than_allowed_is_ended_and_told() {
    let site = Site::new();
    site.create("acme/site");
    let token = site.token("acme/site", "write");
    let server = site.serve_with(&[], &[("ARTIFACTS_TIMEOUT", "1")]);
    let work = site.work("work");
    work.git(&["init", "-q"]);
    work.commit("one");
    let hook = site.repo("acme/site").path.join("hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, "#!/bin/sh\nsleep 30\ntrue\n").unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let start = std::time::Instant::now();
    let ran = work.try_git(&["push", "-q", &server.url_with("acme/site", &token), "main"]);
    assert!(start.elapsed().as_secs() < 20, "the hook was waited for");
    assert!(!ran.ok, "{}", ran.err);
    assert!(ran.err.contains("declined") || ran.err.contains("longer than 1 seconds"), "{}", ran.err);
    assert_eq!(site.repo("acme/site").refs(), "");
    assert!(site.repo("acme/site").leftovers().is_empty());
}

#[test]
fn limits_of_a_push_are_told_to_gits_user() {
    let pushing = Pushing::new();
    pushing.push(&["main"]).succeeds();
    let served = pushing.served();
    served.config("receive.advertisePushOptions", "true");
    let refuses = |key: &str, value: &str, words: &[&str], texts: &[&str]| {
        served.config(key, value);
        let before = served.refs();
        let ran = pushing.push(words);
        for text in texts {
            assert!(ran.err.contains(text), "{text}: {}", ran.err);
        }
        assert!(!ran.ok);
        assert_eq!(served.refs(), before);
        served.git(&["config", "--unset", key]);
        pushing.push(words).succeeds();
    };
    let branches = ["main:a", "main:b", "main:c"];
    refuses(
        "artifacts.maxRefUpdates",
        "2",
        &branches,
        &["too many ref updates: the limit for one push is 2 (artifacts.maxRefUpdates)"],
    );
    refuses(
        "artifacts.maxPushOptions",
        "1",
        &["--push-option=x", "--push-option=y", "main:d"],
        &["too many push options: the limit for one push is 1 (artifacts.maxPushOptions)"],
    );
    let folder = pushing.work.path.join("folder");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("large file"), noise(20_000, 5)).unwrap();
    pushing.work.commit("large");
    let id = pushing.work.tip("main:folder/large file");
    refuses(
        "artifacts.maxObjectSize",
        "19k",
        &["main"],
        &[
            &format!("remote: error: object {id} 'folder/large file' has 19.53 KiB"),
            "remote: fatal: pack has objects larger than the limit of 19.00 KiB (artifacts.maxObjectSize)",
            "[remote rejected] main -> main (unpacker error)",
        ],
    );
    std::fs::write(folder.join("large file"), noise(20_000, 6)).unwrap();
    pushing.work.commit("other");
    refuses(
        "artifacts.maxRepositorySize",
        "30k",
        &["main"],
        &["remote: fatal: the repository may take 30.00 KiB, has ", "(artifacts.maxRepositorySize)"],
    );
    pushing.is_clean();
}

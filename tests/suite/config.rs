//! git's configuration: where it is read from, what takes precedence, and what a broken one does.

use crate::support::{Answer, Cgi, NULL, Site, write_script};

const ADVERTISE: &str = "/acme/site.git/info/refs?service=git-upload-pack";
const ADVERTISE_PUSH: &str = "/acme/site.git/info/refs?service=git-receive-pack";

fn site() -> Site {
    Site::with("acme/site", |repo| {
        repo.commit("one");
    })
}

/// Makes a new commit, and a request that pushes it to `refs/heads/new`.
fn push(site: &Site, token: &str) -> (String, Cgi) {
    let work = site.work("fill");
    let new = work.commit("two");
    let pack = work.pack("HEAD\n^HEAD~1\n");
    let request = site.push("acme/site", token, &[(NULL, &new, "refs/heads/new")], &pack);
    (new, request)
}

/// A hook directory outside the repository, whose pre-receive examines the pushed objects and reports what it sees.
fn looking_hooks(site: &Site) -> String {
    let hooks = site.root().join("../hooks");
    std::fs::create_dir(&hooks).unwrap();
    let script = "while read old new name; do\n\
                  echo \"looks at $name: $(git cat-file -t $new) in ${GIT_QUARANTINE_PATH:+quarantine}\" >&2\n\
                  git diff-tree -r --name-only --no-commit-id $new >&2\n\
                  git cat-file -e $new^{tree} || exit 1\n\
                  done";
    write_script(&hooks.join("pre-receive"), script);
    hooks.canonicalize().unwrap().to_str().unwrap().to_owned()
}

fn saw_the_commit(answer: &Answer) {
    let text = answer.text();
    assert!(text.contains("looks at refs/heads/new: commit in quarantine") && text.contains("two.txt"), "{text}");
    assert_eq!(answer.report(), ["unpack ok", "ok refs/heads/new"]);
}

#[test]
fn a_hook_named_on_gits_command_line_sees_quarantined_objects() {
    let site = site();
    let token = site.token("acme/site", "write");
    let hooks = looking_hooks(&site);
    let (_, request) = push(&site, &token);
    // What `git -c core.hooksPath=DIR http-backend` puts into its child's environment, in the new form and the old.
    for parameters in [format!("'core.hooksPath'='{hooks}'"), format!("'core.hookspath={hooks}'")] {
        saw_the_commit(&request.clone().env("GIT_CONFIG_PARAMETERS", &parameters).run());
        site.repo("acme/site").git(&["update-ref", "-d", "refs/heads/new"]);
    }
    let request = request.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "core.hooksPath");
    saw_the_commit(&request.env("GIT_CONFIG_VALUE_0", &hooks).run());
    assert!(site.repo("acme/site").leftovers().is_empty());
}

#[test]
fn a_real_git_hands_its_parameters_over() {
    let site = site();
    let token = site.token("acme/site", "write");
    let hooks = looking_hooks(&site);
    let (_, request) = push(&site, &token);
    // For `git <name>` git runs `git-<name>` from its PATH, as it runs http-backend.
    let folder = site.root().join("../bin");
    std::fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink(crate::support::PROGRAM, folder.join("git-artifacts")).unwrap();
    let path = format!("{}:{}", folder.to_str().unwrap(), std::env::var("PATH").unwrap());
    let through_git =
        request.env("PATH", &path).through(&["git", "-c", &format!("core.hooksPath={hooks}"), "artifacts"]);
    saw_the_commit(&through_git.run());
}

#[test]
fn settings_come_from_files_the_environment_and_includes_the_later_over_the_earlier() {
    let site = site();
    let token = site.token("acme/site", "write");
    let root = site.root().canonicalize().unwrap();
    let file = |name: &str, text: &str| {
        let path = root.join("..").join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let status = |cgi: &Cgi| cgi.run().status;
    let fetch = site.cgi("GET", ADVERTISE).bearer(&token).without("GIT_CONFIG_NOSYSTEM");
    let fetch = fetch.env("GIT_CONFIG_SYSTEM", &file("system", ""));
    assert_eq!(status(&fetch), 200);

    let off = file("off", "[http]\n\tuploadpack = false\n");
    let on = file("on", "[http]\n\tuploadpack\n");
    assert_eq!(status(&fetch.clone().env("GIT_CONFIG_SYSTEM", &off)), 403, "the system's");
    let nosystem = fetch.clone().env("GIT_CONFIG_SYSTEM", &off).env("GIT_CONFIG_NOSYSTEM", "1");
    assert_eq!(status(&nosystem), 200);
    let global = fetch.clone().env("GIT_CONFIG_SYSTEM", &off).env("GIT_CONFIG_GLOBAL", &on);
    assert_eq!(status(&global), 200, "the user's over the system's");
    std::fs::create_dir_all(root.join("../home/.config/git")).unwrap();
    std::fs::copy(&off, root.join("../home/.config/git/config")).unwrap();
    let home = root.join("../home").to_str().unwrap().to_owned();
    assert_eq!(status(&fetch.clone().env("HOME", &home)), 403, "the home's");
    std::fs::copy(&on, root.join("../home/.gitconfig")).unwrap();
    assert_eq!(status(&fetch.clone().env("HOME", &home)), 200, "~/.gitconfig over XDG's");

    site.repo("acme/site").config("http.uploadpack", "false");
    assert_eq!(status(&global), 403, "the repository's over the user's");
    let numbered = fetch.clone().env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "http.uploadpack");
    let numbered = numbered.env("GIT_CONFIG_VALUE_0", "true");
    assert_eq!(status(&numbered), 200, "the environment's over the repository's");
    let both = numbered.env("GIT_CONFIG_PARAMETERS", "'http.uploadpack'='no'");
    assert_eq!(status(&both), 403, "git -c over the numbered ones");
}

#[test]
fn includes_count_with_their_conditions() {
    let site = site();
    let token = site.token("acme/site", "write");
    let served = site.repo("acme/site");
    let fetch = site.cgi("GET", ADVERTISE).bearer(&token);
    std::fs::write(served.path.join("more"), "[http]\n\tuploadpack = false\n").unwrap();
    served.config("include.path", "more");
    assert_eq!(fetch.run().status, 403, "relative to the file that includes");
    served.git(&["config", "--unset", "include.path"]);
    assert_eq!(fetch.run().status, 200);

    let path = served.path.canonicalize().unwrap();
    served.config(&format!("includeIf.gitdir:{}.path", path.to_str().unwrap()), "more");
    assert_eq!(fetch.run().status, 403, "the repository's own directory");
    served.git(&["config", "--remove-section", &format!("includeIf.gitdir:{}", path.to_str().unwrap())]);
    served.config("includeIf.gitdir:/elsewhere/.path", "more");
    assert_eq!(fetch.run().status, 200, "another directory");
    served.config("includeIf.onbranch:main.path", "more");
    assert_eq!(fetch.run().status, 403, "the branch HEAD is on");
    served.git(&["symbolic-ref", "HEAD", "refs/heads/other"]);
    assert_eq!(fetch.run().status, 200);
    served.config("include.path", "more-that-is-not-there");
    assert_eq!(fetch.run().status, 200, "a missing file is none");
    served.git(&["config", "include.path", "config"]);
    assert_eq!(fetch.run().status, 500, "a file that includes itself");
}

/// Checks for status 500, and that only the log tells what to mend.
fn is_the_operators(answer: &Answer, hint: &str) {
    assert_eq!((answer.status, answer.exit), (500, 0), "{answer:?}");
    assert!(answer.stderr.contains(hint), "{hint:?} is not in {}", answer.stderr);
    assert_eq!(answer.stderr.lines().count(), 1, "{}", answer.stderr);
    assert!(!answer.text().contains(hint), "{}", answer.text());
    assert!(!answer.text().is_empty() && answer.header("Content-Type") == Some("text/plain"));
}

#[test]
fn a_configuration_that_cannot_be_read_is_the_servers_fault() {
    let site = site();
    let token = site.token("acme/site", "write");
    let fetch = site.cgi("GET", ADVERTISE).bearer(&token).without("GIT_CONFIG_NOSYSTEM");
    let root = site.root().to_str().unwrap().to_owned();
    // Not even root can read a directory as a file.
    is_the_operators(&fetch.clone().env("GIT_CONFIG_SYSTEM", &root).run(), &root);
    is_the_operators(&fetch.clone().env("GIT_CONFIG_GLOBAL", &root).run(), &root);
    is_the_operators(&fetch.clone().env("GIT_CONFIG_COUNT", "x").run(), "GIT_CONFIG_COUNT");
    is_the_operators(&fetch.clone().env("GIT_CONFIG_COUNT", "1").run(), "GIT_CONFIG_KEY_0");
    is_the_operators(&fetch.clone().env("GIT_CONFIG_PARAMETERS", "'unfinished").run(), "GIT_CONFIG_PARAMETERS");

    let config = site.repo("acme/site").path.join("config");
    let good = std::fs::read(&config).unwrap();
    // A bad value of another service's key counts too: whoever wrote it wants to know.
    std::fs::write(&config, [&good[..], b"[receive]\n\tdenyDeletes = nonsense\n"].concat()).unwrap();
    is_the_operators(&fetch.clone().run(), "receive.denydeletes");
    std::fs::write(&config, [&good[..], b"[unfinished\n"].concat()).unwrap();
    is_the_operators(&fetch.run(), "config");
    let secret = b"[receive]\n\tcertNonceSeed = hush\n[remote \"up\"]\n\turl = https://me:hush@example.com\n[bad\n";
    std::fs::write(&config, [&b"[core]\n\trepositoryFormatVersion = 0\n"[..], secret].concat()).unwrap();
    let answer = fetch.run();
    is_the_operators(&answer, &format!("bad config line 7 in file '{}'", config.display()));
    assert!(!answer.stderr.contains("hush"), "{}", answer.stderr);
    let included = config.with_file_name("included");
    std::fs::write(&included, secret).unwrap();
    std::fs::write(&config, [&good[..], b"[include]\n\tpath = included\n"].concat()).unwrap();
    let answer = fetch.run();
    is_the_operators(&answer, &format!("bad config line 5 in a file that '{}' includes", config.display()));
    assert!(!answer.stderr.contains("hush"), "{}", answer.stderr);
    std::fs::write(&config, [&good[..], b"[http]\n\tuploadpack = perhaps\n"].concat()).unwrap();
    is_the_operators(&fetch.run(), "http.uploadpack");
    std::fs::write(&config, [&good[..], b"[receive]\n\tunpackLimit = many\n"].concat()).unwrap();
    is_the_operators(&site.cgi("GET", ADVERTISE_PUSH).bearer(&token).run(), "receive.unpacklimit");
    std::fs::write(&config, good).unwrap();
    assert_eq!(fetch.run().status, 200);
}

#[test]
fn the_operators_variables_are_checked() {
    let site = site();
    let token = site.token("acme/site", "read");
    let fetch = site.cgi("GET", ADVERTISE).bearer(&token);
    is_the_operators(&fetch.clone().env("ARTIFACTS_AUTH", "nobody").run(), "ARTIFACTS_AUTH");
    is_the_operators(&fetch.clone().env("ARTIFACTS_MEMORY", "much").run(), "ARTIFACTS_MEMORY");
    is_the_operators(&fetch.clone().env("ARTIFACTS_MEMORY", "-1").run(), "ARTIFACTS_MEMORY");
    is_the_operators(&fetch.clone().env("ARTIFACTS_TIMEOUT", "soon").run(), "ARTIFACTS_TIMEOUT");
    is_the_operators(&fetch.clone().env("ARTIFACTS_TIMEOUT", "10m").run(), "ARTIFACTS_TIMEOUT");
    is_the_operators(&fetch.clone().without("GIT_PROJECT_ROOT").run(), "GIT_PROJECT_ROOT");
    is_the_operators(&fetch.without("REQUEST_METHOD").run(), "REQUEST_METHOD");
}

//! `uploadpack.packObjectsHook`: a command of the operator's makes the packs.

use crate::support::{Repo, Server, Site, until, write_script};

/// Records its arguments and input, then does what git would have done.
const HOOK: &str =
    "cd \"$GIT_DIR\" && echo \"$*\" >hook.words && cat >hook.lines && echo hook running >&2 && \"$@\" <hook.lines";

fn history(repo: &Repo) {
    for text in ["one", "two", "three"] {
        std::fs::write(repo.path.join("file.txt"), text).unwrap();
        repo.commit(text);
    }
    repo.git(&["tag", "-a", "-m", "first", "v1"]);
}

/// A server whose operator has configured the command in HOME's configuration.
fn serve(site: &Site, script: &str) -> Server {
    let home = site.root().with_file_name("home");
    std::fs::create_dir_all(&home).unwrap();
    write_script(&home.join("hook"), script);
    let config = format!("[uploadpack]\n\tpackObjectsHook = {}\n", home.join("hook").display());
    std::fs::write(home.join(".gitconfig"), config).unwrap();
    site.serve_with(&[], &[("HOME", home.to_str().unwrap())])
}

/// The arguments of the command, and its input.
fn told(served: &Repo) -> (String, String) {
    let read = |name: &str| std::fs::read_to_string(served.path.join(name)).unwrap();
    (read("hook.words"), read("hook.lines"))
}

#[test]
fn a_command_of_the_operators_makes_the_packs_from_what_git_would_tell_it() {
    let site = Site::with("acme/site", history);
    let token = site.token("acme/site", "read");
    let server = serve(&site, HOOK);
    let (url, served) = (server.url_with("acme/site", &token), site.repo("acme/site"));
    let (tip, tag) = (served.tip("main"), served.git(&["rev-parse", "v1"]));
    for version in ["0", "2"] {
        let protocol = format!("protocol.version={version}");
        let clone = |kind: &str, options: &[&str]| {
            let name = format!("{kind}-{version}");
            let words = [&["-c", &protocol, "clone", "--progress", "--no-checkout"], options, &[&url, &name]].concat();
            let ran = site.desk().try_git(&words);
            assert!(ran.ok && ran.err.contains("remote: hook running"), "{ran:?}");
            site.work(&name)
        };
        let whole = clone("whole", &[]);
        whole.fsck();
        assert_eq!(whole.git(&["rev-parse", "v1"]), tag);
        let (said, lines) = told(&served);
        // A client without objects may ask for a thin pack or not.
        let words = "git pack-objects --revs --stdout --progress --delta-base-offset\n";
        assert_eq!(said.replace(" --thin", ""), words, "version {version}");
        assert!(lines.contains(&format!("{tip}\n")) && lines.ends_with("--not\n\n"), "{lines}");

        let shallow = clone("shallow", &["--depth=1"]);
        assert_eq!(shallow.git(&["rev-list", "--count", "HEAD"]), "1");
        let (said, lines) = told(&served);
        let words =
            "git --shallow-file  pack-objects --revs --stdout --shallow --progress --delta-base-offset --include-tag\n";
        assert_eq!(said.replace(" --thin", ""), words, "version {version}");
        assert_eq!(lines, format!("--shallow {tip}\n{tip}\n--not\n\n"), "version {version}");
        shallow.git(&["-c", &protocol, "fetch", "-q", "--unshallow"]);
        shallow.fsck();
        assert_eq!(shallow.git(&["rev-list", "--count", "HEAD"]), "3");

        let partial = clone("partial", &["--filter=blob:limit=1k"]);
        partial.fsck();
        assert!(told(&served).0.ends_with(" --filter=blob:limit=1024\n"));
    }
}

#[test]
fn what_a_repository_says_of_the_command_does_not_count() {
    let site = Site::with("acme/site", history);
    let token = site.token("acme/site", "read");
    let served = site.repo("acme/site");
    served.config("uploadpack.packObjectsHook", "touch ran; false");
    let server = site.serve();
    site.desk().git(&["clone", "-q", &server.url_with("acme/site", &token), "clone"]);
    assert!(!served.path.join("ran").exists());
}

#[test]
fn a_command_that_fails_or_makes_no_pack_breaks_the_fetch_off() {
    let site = Site::with("acme/site", history);
    let token = site.token("acme/site", "read");
    for (script, reason) in [
        ("\"$@\"; exit 3", "uploadpack.packObjectsHook ended with status 3"),
        ("echo nothing", "uploadpack.packObjectsHook made no pack"),
        ("true", "uploadpack.packObjectsHook made no pack"),
    ] {
        let server = serve(&site, script);
        let ran = site.desk().try_git(&["clone", "-q", &server.url_with("acme/site", &token), "clone"]);
        ran.fails_with("remote: aborting due to possible repository corruption on the remote side.");
        assert!(!site.work("clone").path.join("HEAD").exists());
        until(reason, || server.stderr().contains(reason));
    }
}

#[test]
fn a_command_is_not_asked_for_tags_where_refs_are_hidden() {
    let site = Site::with("acme/site", history);
    let token = site.token("acme/site", "read");
    let served = site.repo("acme/site");
    served.config("uploadpack.hideRefs", "refs/tags");
    let server = serve(&site, HOOK);
    site.desk().git(&["clone", "-q", "--no-checkout", &server.url_with("acme/site", &token), "clone"]);
    assert!(!told(&served).0.contains("--include-tag"), "{}", told(&served).0);
    assert_eq!(
        site.work("clone")
            .git(&["cat-file", "--batch-all-objects", "--batch-check=%(objecttype)"])
            .matches("tag")
            .count(),
        0
    );
}

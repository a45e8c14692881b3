//! The same requests to `git http-backend` and to this program as its replacement: status, headers and refs must agree.

use crate::support::{Answer, Cgi, Site, framed};
use std::collections::BTreeSet;

/// A repository with branches, tags of all kinds, a symbolic ref and a hidden ref.
fn site() -> Site {
    let site = Site::with("acme/site", |repo| {
        repo.commit("one");
        repo.git(&["tag", "light"]);
        repo.git(&["tag", "-a", "-m", "annotated", "annotated"]);
        repo.git(&["tag", "-a", "-m", "nested", "nested", "annotated"]);
        repo.git(&["checkout", "-q", "-b", "side"]);
        repo.commit("two");
    });
    let served = site.repo("acme/site");
    served.git(&["pack-refs", "--all"]);
    served.git(&["symbolic-ref", "refs/heads/alias", "refs/heads/main"]);
    served.git(&["update-ref", "refs/heads/loose", "refs/heads/side"]);
    served.git(&["update-ref", "refs/secret/one", "refs/heads/side"]);
    served.config("transfer.hideRefs", "refs/secret");
    served.git(&["repack", "-a", "-d", "-q"]);
    site.create("acme/empty");
    site
}

/// The answers of this program and of git's.
fn both(request: &Cgi) -> (Answer, Answer) {
    let request = request.clone().env("ARTIFACTS_AUTH", "webserver").env("GIT_HTTP_EXPORT_ALL", "");
    (request.run(), request.clone().through(&["git", "http-backend"]).run())
}

fn post(site: &Site, path: &str, body: &[u8]) -> Cgi {
    site.cgi("POST", &format!("/acme/site.git/{path}")).body(body)
}

/// Compares all of the head except what belongs to a body: git's refusals have none, and ours do.
fn same_head(what: &str, request: &Cgi) {
    let (ours, gits) = both(request);
    assert_eq!(ours.status, gits.status, "{what}: {}, git: {}", ours.stderr, gits.stderr);
    for name in ["Expires", "Pragma", "Cache-Control", "Allow"] {
        // git says of a missing pack that it may be cached for a year.
        let said = gits.header(name).filter(|_| gits.header("Date").is_none());
        if said.is_some() {
            assert_eq!(ours.header(name), said, "{what}: {name}");
        }
    }
    if gits.status == 200 {
        assert_eq!(ours.header("Content-Type"), gits.header("Content-Type"), "{what}");
    }
    if gits.status == 415 {
        assert!(ours.text().starts_with(gits.text().trim_end()), "{}", ours.text());
    }
}

#[test]
fn statuses_and_headers_are_gits() {
    let site = site();
    let get = |path: &str| site.cgi("GET", path);
    for path in [
        "",
        "/",
        "/info/refs",
        "/HEAD",
        "/info/refs?service=git-upload-pack",
        "/info/refs?service=git-receive-pack",
        "/info/refs?service=git-upload-archive",
        "/info/refs?service=",
        "/info/refs?service=upload-pack",
        "/info/refs?service=git%2dupload%2Dpack",
        "/info/refs?service=git-upload-pack&service=git-receive-pack",
        "/info/refs?a=b&service=git-upload-pack&c",
        "/info/refs?Service=git-upload-pack",
        "/config",
        "/objects/info/packs",
        "/objects/info/alternates",
        "/objects/12/3456789012345678901234567890123456789012",
        "/git-upload-pack",
        "/git-receive-pack",
        "/objects/pack/pack-1234567890123456789012345678901234567890.pack",
        "/objects/pack/",
        "/info/refs/",
        "/../site.git/HEAD",
        "/./HEAD",
        "//HEAD",
        "/...",
        "/refs/heads/main",
        "/packed-refs",
    ] {
        for repository in ["/acme/site.git", "/acme/none.git", "/acme/site", "/acme"] {
            let path = format!("{repository}{path}");
            same_head(&path, &get(&path));
            same_head(&format!("{path} as HEAD"), &site.cgi("HEAD", &path));
            same_head(&format!("{path} unexported"), &get(&path).without("GIT_HTTP_EXPORT_ALL"));
        }
    }
    for method in ["POST", "PUT", "DELETE", "get", ""] {
        for protocol in ["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", ""] {
            let request = site.cgi(method, "/acme/site.git/info/refs").env("SERVER_PROTOCOL", protocol).body("");
            same_head(&format!("{method} {protocol}"), &request);
            let request = site.cgi("GET", "/acme/site.git/git-upload-pack").env("SERVER_PROTOCOL", protocol);
            same_head(&format!("GET where POST belongs {protocol}"), &request);
        }
    }
    for media in [
        "",
        "text/plain",
        "application/x-git-upload-pack-request; charset=utf-8",
        "application/x-git-receive-pack-request",
    ] {
        same_head(media, &post(&site, "git-upload-pack", b"0000").env("CONTENT_TYPE", media));
    }
    same_head("a push without a user", &post(&site, "git-receive-pack", b"0000"));
    same_head("a push of a user", &post(&site, "git-receive-pack", b"0000").env("REMOTE_USER", "somebody"));
    for key in ["http.uploadpack", "http.receivepack", "http.getanyfile"] {
        for value in ["true", "false"] {
            let set = |request: Cgi| {
                request.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", key).env("GIT_CONFIG_VALUE_0", value)
            };
            for path in ["info/refs", "HEAD", "info/refs?service=git-upload-pack", "info/refs?service=git-receive-pack"]
            {
                same_head(&format!("{path} with {key}={value}"), &set(get(&format!("/acme/site.git/{path}"))));
            }
            same_head(&format!("POST with {key}={value}"), &set(post(&site, "git-upload-pack", b"0000")));
            same_head(&format!("push with {key}={value}"), &set(post(&site, "git-receive-pack", b"0000")));
        }
    }
}

#[test]
fn the_exit_status_tells_faults_of_the_server_from_refusals() {
    let site = site();
    let served = site.repo("acme/site");
    let fetch = |want: &str| {
        let want = format!("want {want}");
        let (ours, gits) = both(
            &post(&site, "git-upload-pack", &framed(&["command=fetch", "0001", &want, "done", "0000"])).protocol(2),
        );
        assert_eq!((ours.status, gits.status), (200, 200), "{want}");
        (ours.exit, gits.exit)
    };
    let main = served.tip("main");
    assert_eq!(fetch(&main), (0, 0));
    // A client that asks for a missing object is not an error of the web server.
    assert_eq!(fetch(&"1".repeat(40)), (0, 1));
    let blob = served.tip("main:one.txt");
    for pack in std::fs::read_dir(served.path.join("objects/pack")).unwrap().flatten() {
        let moved = site.desk().path.join(pack.file_name());
        std::fs::rename(pack.path(), &moved).unwrap();
        if moved.extension().is_some_and(|kind| kind == "pack") {
            served.feed(&["unpack-objects", "-q"], &std::fs::read(&moved).unwrap());
        }
    }
    std::fs::remove_file(served.path.join("objects").join(&blob[..2]).join(&blob[2..])).unwrap();
    assert_eq!(fetch(&main), (1, 1));
}

/// The parts of an advertisement: the packets without their capabilities, and the capabilities.
fn parts(answer: &Answer) -> (Vec<String>, BTreeSet<String>) {
    let mut capabilities = BTreeSet::new();
    let lines = answer
        .packets()
        .into_iter()
        .map(|line| match line.split_once("\\x00") {
            Some((line, list)) => {
                capabilities.extend(list.split(' ').filter(|word| !word.is_empty()).map(str::to_owned));
                line.to_owned()
            }
            None => line,
        })
        .collect();
    let own = |word: &String| !word.starts_with("agent=") && !word.starts_with("session-id=");
    capabilities.retain(own);
    (lines, capabilities)
}

#[test]
fn advertisements_list_what_gits_list_in_every_version() {
    let site = site();
    for repository in ["site", "empty"] {
        for service in ["git-upload-pack", "git-receive-pack"] {
            for version in ["", "version=0", "version=1", "version=2", "version=1:version=2", "version=3", "nonsense"] {
                let what = format!("{repository} {service} {version}");
                let request = site.cgi("GET", &format!("/acme/{repository}.git/info/refs?service={service}"));
                let request = request.env("HTTP_GIT_PROTOCOL", version).env("REMOTE_USER", "somebody");
                let (ours, gits) = both(&request);
                let ((our_lines, our_capabilities), (gits_lines, gits_capabilities)) = (parts(&ours), parts(&gits));
                if gits_lines.iter().any(|line| line == "version 2") {
                    // In version 2 each capability is a line.
                    let names = |lines: &[String]| -> Vec<String> {
                        lines.iter().map(|line| line.split('=').next().unwrap().to_owned()).collect()
                    };
                    let gits = names(&gits_lines);
                    let ours = names(&our_lines);
                    assert!(ours.iter().all(|name| gits.contains(name)), "{what}: {ours:?}");
                    assert!(ours.contains(&"ls-refs".to_owned()) && ours.contains(&"fetch".to_owned()), "{ours:?}");
                } else {
                    assert_eq!(our_lines, gits_lines, "{what}");
                    assert!(our_capabilities.is_subset(&gits_capabilities), "{what}: {our_capabilities:?}");
                }
            }
            // A GIT_PROTOCOL that is set, even to the empty string, takes precedence over the header.
            let request = site.cgi("GET", &format!("/acme/{repository}.git/info/refs?service={service}"));
            let request =
                request.env("HTTP_GIT_PROTOCOL", "version=2").env("GIT_PROTOCOL", "").env("REMOTE_USER", "somebody");
            let (ours, gits) = both(&request);
            assert_eq!(parts(&ours).0, parts(&gits).0);
        }
    }
}

#[test]
fn an_agent_the_operator_names_is_shown_as_by_git() {
    let site = site();
    let agent = |answer: Answer| {
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let rest = text.split_once("agent=").map_or("", |(_, rest)| rest);
        rest.split(['\n', ' ', '\0']).next().unwrap().to_owned()
    };
    for (value, expected) in
        [("me/1", "me/1"), (" two  words\t", "two..words"), ("\u{1}m\u{e9}\u{7f}", ".m..."), ("", ""), (" ", "")]
    {
        for (service, version) in [("git-upload-pack", 0), ("git-upload-pack", 2), ("git-receive-pack", 0)] {
            let request = site.cgi("GET", &format!("/acme/site.git/info/refs?service={service}")).protocol(version);
            let (ours, gits) = both(&request.env("REMOTE_USER", "somebody").env("GIT_USER_AGENT", value));
            let (ours, gits) = (agent(ours), agent(gits));
            assert_eq!(ours, expected, "{service} {version} {value:?}");
            // Older versions of git also replace spaces at both ends by dots.
            assert!(gits == ours || value.trim() != value, "{service} {version} {value:?}: {gits}");
        }
    }
}

#[test]
fn a_session_is_named_where_the_owner_says_so_and_heard_where_it_was_named() {
    let site = site();
    let served = site.repo("acme/site");
    for announced in [false, true] {
        served.config("transfer.advertiseSID", if announced { "true" } else { "false" });
        for (service, version) in
            [("git-upload-pack", 0), ("git-upload-pack", 1), ("git-upload-pack", 2), ("git-receive-pack", 0)]
        {
            let request = site.cgi("GET", &format!("/acme/site.git/info/refs?service={service}")).protocol(version);
            let (ours, gits) = both(&request.env("REMOTE_USER", "somebody"));
            for answer in [&ours, &gits] {
                let named = String::from_utf8_lossy(&answer.body).contains("session-id=");
                assert_eq!(named, announced, "{service} {version}");
            }
        }
        let tip = served.tip("main");
        let want = format!("want {tip}");
        let lines = ["command=fetch", "session-id=mine", "0001", &want, "done", "0000"];
        let (ours, gits) = both(&post(&site, "git-upload-pack", &framed(&lines)).protocol(2));
        let refused = "unknown capability 'session-id=mine'";
        assert_eq!((ours.stderr.contains(refused), gits.stderr.contains(refused)), (!announced, !announced));
    }
}

#[test]
fn a_repository_is_served_whatever_safe_bare_repository_says() {
    let site = site();
    let strictly = |request: Cgi| {
        let request = request.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "safe.bareRepository");
        request.env("GIT_CONFIG_VALUE_0", "explicit")
    };
    for service in ["git-upload-pack", "git-receive-pack"] {
        let path = format!("/acme/site.git/info/refs?service={service}");
        let (ours, gits) = both(&strictly(site.cgi("GET", &path).env("REMOTE_USER", "somebody")));
        assert_eq!((ours.status, gits.status), (200, 200), "{service}: {}", ours.stderr);
    }
}

#[test]
fn a_path_the_web_server_has_made_is_not_checked_for_aliases() {
    let site = site();
    let root = site.root();
    for path in ["acme/site.git", "acme/../acme/site.git", "acme//./site.git"] {
        let path = format!("{}/{path}/info/refs", root.to_str().unwrap());
        let request = site.cgi("GET", "/x?service=git-upload-pack").without("PATH_INFO").without("GIT_PROJECT_ROOT");
        let (ours, gits) = both(&request.env("PATH_TRANSLATED", &path));
        assert_eq!((ours.status, gits.status), (200, 200), "{path}: {}", ours.stderr);
    }
}

#[test]
fn ls_refs_answers_are_gits() {
    let site = site();
    for repository in ["site", "empty"] {
        for arguments in [
            &[][..],
            &["peel"],
            &["symrefs"],
            &["peel", "symrefs", "unborn"],
            &["unborn", "symrefs"],
            &["ref-prefix refs/heads/"],
            &["peel", "ref-prefix refs/tags/", "ref-prefix HEAD"],
            &["ref-prefix refs/heads/main", "ref-prefix refs/h"],
            &["ref-prefix "],
            &["ref-prefix refs/secret"],
            &["ref-prefix none"],
        ] {
            let lines: Vec<&str> =
                ["command=ls-refs", "0001"].iter().chain(arguments).chain(&["0000"]).copied().collect();
            let request =
                site.cgi("POST", &format!("/acme/{repository}.git/git-upload-pack")).protocol(2).body(framed(&lines));
            let (ours, gits) = both(&request);
            assert_eq!(ours.packets(), gits.packets(), "{repository} {arguments:?}");
        }
    }
}

#[test]
fn stored_files_are_gits() {
    let site = site();
    let pack = std::fs::read_dir(site.repo("acme/site").path.join("objects/pack")).unwrap();
    let names = pack.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let packs = names.filter(|name| !name.ends_with(".rev")).map(|name| format!("objects/pack/{name}"));
    let computed = ["HEAD", "info/refs", "objects/info/packs"].map(str::to_owned);
    for path in packs.chain(computed) {
        for repository in ["site", "empty"] {
            let (ours, gits) = both(&site.cgi("GET", &format!("/acme/{repository}.git/{path}")));
            assert_eq!(ours.status, gits.status, "{repository} {path}");
            if ours.status != 200 {
                continue;
            }
            assert_eq!(ours.body, gits.body, "{repository} {path}");
            for name in ["Content-Type", "Last-Modified"] {
                // git's dates end in +0000, which is not valid in HTTP.
                let said = gits.header(name).map(|value| value.replace("+0000", "GMT"));
                assert_eq!(ours.header(name), said.as_deref(), "{repository} {path}");
            }
        }
    }
}

/// As in git: a mirror that does not see such refs would delete its own, intact ones. A clone that does not ask for
/// them works.
#[test]
fn refs_whose_objects_are_lost_are_listed_and_harm_no_other() {
    let site = site();
    let served = site.repo("acme/site");
    let lost = "1".repeat(40);
    std::fs::write(served.path.join("refs/heads/lost"), format!("{lost}\n")).unwrap();
    let token = site.token("acme/site", "read");
    let server = site.serve();
    let url = server.url_with("acme/site", &token);
    for version in ["0", "2"] {
        let (protocol, name) = (format!("protocol.version={version}"), format!("clone-{version}"));
        let listed = site.desk().git(&["-c", &protocol, "ls-remote", &url]);
        assert!(listed.contains(&format!("{lost}\trefs/heads/lost")), "{listed}");
        site.desk().git(&["-c", &protocol, "clone", "-q", "--single-branch", &url, &name]);
        site.work(&name).fsck();
        let mirror = site.desk().try_git(&["-c", &protocol, "clone", "-q", "--mirror", &url, "mirror"]);
        mirror.fails_with(&format!("not our ref {lost}"));
    }
}

//! One repository, several namespaces: GIT_NAMESPACE decides which refs are seen and changed.

use crate::support::{Cgi, NULL, Ran, Site, bearer, framed, git_command};

/// A repository with a branch outside of any namespace and one in each of two namespaces.
fn site() -> Site {
    let site = Site::with("acme/site", |repo| {
        repo.commit("outside");
    });
    let work = site.work("fill");
    let target = site.repo("acme/site").path;
    for name in ["one", "two/deep"] {
        work.commit(&format!("in {}", name.replace('/', " ")));
        let path = format!("refs/namespaces/{}/", name.replace('/', "/refs/namespaces/"));
        work.git(&["push", "-q", target.to_str().unwrap(), &format!("main:{path}refs/heads/main")]);
        site.repo("acme/site").git(&["symbolic-ref", &format!("{path}HEAD"), &format!("{path}refs/heads/main")]);
    }
    site
}

fn tip(site: &Site, namespace: &str) -> String {
    site.repo("acme/site").tip(&format!("{namespace}refs/heads/main"))
}

const ONE: &str = "refs/namespaces/one/";
const DEEP: &str = "refs/namespaces/two/refs/namespaces/deep/";

fn refs_of(request: Cgi) -> Vec<String> {
    let answer = request.protocol(2).body(framed(&["command=ls-refs", "0001", "symrefs", "0000"])).run();
    assert_eq!((answer.status, answer.stderr.as_str()), (200, ""));
    let mut lines = answer.packets();
    assert_eq!(lines.pop().as_deref(), Some("0000"));
    lines
}

#[test]
fn a_namespace_shows_its_refs_alone_and_under_short_names() {
    let site = site();
    let token = site.token("acme/site", "read");
    let post = || site.cgi("POST", "/acme/site.git/git-upload-pack").bearer(&token);
    for (namespace, path) in [("one", ONE), ("two/deep", DEEP), ("/one//", ONE)] {
        let tip = tip(&site, path);
        let expected = [format!("{tip} HEAD symref-target:refs/heads/main"), format!("{tip} refs/heads/main")];
        assert_eq!(refs_of(post().env("GIT_NAMESPACE", namespace)), expected, "{namespace}");
    }
    assert_eq!(refs_of(post().env("GIT_NAMESPACE", "none")), Vec::<String>::new());
    let all = refs_of(post());
    assert!(all.iter().any(|line| line.contains(&format!(" {ONE}refs/heads/main"))), "{all:?}");
    let empty = refs_of(post().env("GIT_NAMESPACE", ""));
    assert_eq!(empty, all, "an empty name is none");

    let advertised = site.cgi("GET", "/acme/site.git/info/refs?service=git-upload-pack").bearer(&token);
    let text = advertised.env("GIT_NAMESPACE", "one").run().text();
    assert!(text.contains(&format!("{} refs/heads/main\n", tip(&site, ONE))) && !text.contains("namespaces"), "{text}");
}

#[test]
fn a_head_that_leads_out_of_the_namespace_names_no_branch() {
    let site = site();
    let token = site.token("acme/site", "read");
    let (inside, outside) = (tip(&site, ONE), tip(&site, ""));
    site.repo("acme/site").git(&["symbolic-ref", &format!("{ONE}HEAD"), "refs/heads/main"]);
    let post = site.cgi("POST", "/acme/site.git/git-upload-pack").bearer(&token);
    let expected = [format!("{outside} HEAD"), format!("{inside} refs/heads/main")];
    assert_eq!(refs_of(post.env("GIT_NAMESPACE", "one")), expected);
    let advertised = site.cgi("GET", "/acme/site.git/info/refs?service=git-upload-pack").bearer(&token);
    let text = advertised.env("GIT_NAMESPACE", "one").run().text();
    assert!(text.contains(&format!("{outside} HEAD\0")) && !text.contains("symref="), "{text}");
    let server = site.serve_with(&[], &[("GIT_NAMESPACE", "one")]);
    for version in ["0", "2"] {
        let url = server.url_with("acme/site", &token);
        let name = format!("clone-{version}");
        site.desk().git(&["-c", &format!("protocol.version={version}"), "clone", "-q", &url, &name]);
        assert_eq!(site.work(&name).tip("HEAD"), outside);
    }
}

#[test]
fn bad_names_of_namespaces_are_the_operators_fault() {
    let site = site();
    let token = site.token("acme/site", "read");
    for name in ["..", "a/../b", "a b", "a.lock", "~"] {
        let request = site.cgi("GET", "/acme/site.git/info/refs?service=git-upload-pack").bearer(&token);
        let answer = request.env("GIT_NAMESPACE", name).run();
        assert_eq!(answer.status, 500, "{name}");
        assert!(answer.stderr.contains("bad git namespace path"), "{}", answer.stderr);
    }
}

#[test]
fn clones_and_pushes_stay_in_their_namespace() {
    let site = site();
    let token = site.token("acme/site", "write");
    let outside = tip(&site, "");
    let server = site.serve_with(&[], &[("GIT_NAMESPACE", "one")]);
    let url = server.url_with("acme/site", &token);
    site.desk().git(&["clone", "-q", &url, "clone"]);
    let clone = site.work("clone");
    assert_eq!(clone.tip("HEAD"), tip(&site, ONE));
    let new = clone.commit("more");
    clone.git(&["push", "-q", &url, "main", "main:refs/heads/other"]);
    let served = site.repo("acme/site");
    assert_eq!(tip(&site, ONE), new);
    assert_eq!(served.tip(&format!("{ONE}refs/heads/other")), new);
    assert_eq!(tip(&site, ""), outside);
    assert!(!served.refs().contains(" refs/heads/other"));
    clone.git(&["push", "-q", &url, ":other"]);
    assert!(!served.refs().contains("other"));
    // Pushes do not leave the namespace through a symbolic ref either.
    served.git(&["update-ref", "refs/heads/theirs", &outside]);
    served.git(&["symbolic-ref", &format!("{ONE}refs/heads/door"), "refs/heads/theirs"]);
    let push = |old: &str, new: &str| {
        let request = site.push("acme/site", &token, &[(old, new, "refs/heads/door")], &clone.pack("HEAD"));
        request.env("GIT_NAMESPACE", "one").run().report()[1].clone()
    };
    for new in [&new, NULL] {
        assert_eq!(push(&outside, new), "ng refs/heads/door broken symref");
        assert_eq!(served.tip("refs/heads/theirs"), outside);
    }
    served.git(&["symbolic-ref", "-d", &format!("{ONE}refs/heads/door")]);
    served.fsck();
    assert!(served.leftovers().is_empty());
}

#[test]
fn a_hidden_name_with_a_caret_is_the_whole_one() {
    let site = site();
    let token = site.token("acme/site", "write");
    let served = site.repo("acme/site");
    let push = |name: &str| {
        let new = served.tip("refs/heads/main");
        let request = site.push("acme/site", &token, &[(NULL, &new, name)], &site.work("fill").pack(""));
        request.env("GIT_NAMESPACE", "one").run().report()[1].clone()
    };
    served.config("receive.hideRefs", "refs/short");
    served.git(&["config", "--add", "receive.hideRefs", &format!("^{ONE}refs/whole")]);
    assert_eq!(push("refs/short/a"), "ng refs/short/a deny updating a hidden ref");
    assert_eq!(push("refs/whole/a"), "ng refs/whole/a deny updating a hidden ref");
    assert_eq!(push("refs/open/a"), "ok refs/open/a");
}

#[test]
fn the_branch_that_must_stay_is_the_one_of_the_repositorys_own_head() {
    let site = site();
    let token = site.token("acme/site", "write");
    let served = site.repo("acme/site");
    let delete = || {
        let name = "refs/heads/main";
        let request = site.push("acme/site", &token, &[(&tip(&site, ONE), NULL, name)], b"");
        request.env("GIT_NAMESPACE", "one").run().report()[1].clone()
    };
    served.git(&["symbolic-ref", "HEAD", &format!("{ONE}refs/heads/main")]);
    assert_eq!(delete(), "ng refs/heads/main deletion of the current branch prohibited");
    served.git(&["symbolic-ref", "HEAD", "refs/heads/main"]);
    assert_eq!(served.git(&["symbolic-ref", &format!("{ONE}HEAD")]), format!("{ONE}refs/heads/main"));
    assert_eq!(delete(), "ok refs/heads/main");
}

#[test]
fn dumb_clients_see_the_namespace_too() {
    let site = site();
    let server = site.serve_with(&["--auth", "webserver"], &[("GIT_HTTP_EXPORT_ALL", ""), ("GIT_NAMESPACE", "one")]);
    let mut clone = git_command(&site.desk().path);
    clone.env("GIT_SMART_HTTP", "0").args(["clone", "-q", "--mirror", &server.url("acme/site"), "dumb"]);
    Ran::from(clone.output().unwrap()).succeeds();
    let tip = tip(&site, ONE);
    assert_eq!(site.work("dumb").refs(), format!("{tip} refs/heads/main"));
    let webserver = |path: &str| {
        let request = site.cgi("GET", &format!("/acme/site.git/{path}"));
        request.env("ARTIFACTS_AUTH", "webserver").env("GIT_HTTP_EXPORT_ALL", "").env("GIT_NAMESPACE", "one").run()
    };
    assert_eq!(webserver("HEAD").text(), "ref: refs/heads/main\n");
    assert_eq!(webserver("info/refs").text(), format!("{tip}\trefs/heads/main\n"));
}

#[test]
fn a_token_says_nothing_about_namespaces() {
    let site = site();
    let token = site.token("acme/site", "read");
    let server = site.serve_with(&[], &[("GIT_NAMESPACE", "two/deep")]);
    let listed = site.desk().git(&["-c", &bearer(&token), "ls-remote", "--symref", &server.url("acme/site")]);
    let tip = tip(&site, DEEP);
    assert_eq!(listed, format!("ref: refs/heads/main\tHEAD\n{tip}\tHEAD\n{tip}\trefs/heads/main"));
}

#[test]
fn a_ref_to_leave_out_is_named_as_in_the_namespace() {
    let site = site();
    let token = site.token("acme/site", "read");
    let served = site.repo("acme/site");
    served.git(&["update-ref", &format!("{ONE}refs/tags/first"), "refs/heads/main"]);
    let ask = |name: &str| {
        let (want, not) = (format!("want {}", tip(&site, ONE)), format!("deepen-not {name}"));
        let request = site.cgi("POST", "/acme/site.git/git-upload-pack").bearer(&token).protocol(2);
        let body = framed(&["command=fetch", "0001", &want, &not, "done", "0000"]);
        request.env("GIT_NAMESPACE", "one").body(body).run().packets()
    };
    assert_eq!(ask("first")[..2], ["shallow-info".to_owned(), format!("shallow {}", tip(&site, ONE))]);
    for outside in [format!("{DEEP}refs/heads/main"), format!("../{DEEP}HEAD"), "namespaces/one/HEAD".to_owned()] {
        assert_eq!(ask(&outside), [format!("ERR git upload-pack: deepen-not is not a ref: deepen-not {outside}")]);
    }
}

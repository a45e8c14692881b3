//! The files of the dumb protocol: what is served, with which headers, and to whom.

use crate::support::{Answer, Cgi, Repo, Site, noise};

/// A site with tags, a pack, a loose object and a hidden ref.
fn site() -> Site {
    let site = Site::with("acme/site", |repo| {
        repo.commit("one");
        repo.git(&["tag", "-a", "-m", "v1", "v1"]);
        repo.git(&["branch", "side"]);
    });
    let served = site.repo("acme/site");
    served.git(&["repack", "-a", "-d", "-q"]);
    std::fs::write(served.path.join("loose-blob"), noise(100, 1)).unwrap();
    served.git(&["hash-object", "-w", "loose-blob"]);
    site
}

/// A request to the site in `webserver` mode.
fn get(site: &Site, path: &str) -> Answer {
    let path = format!("/acme/site.git/{path}");
    site.cgi("GET", &path).env("ARTIFACTS_AUTH", "webserver").env("GIT_HTTP_EXPORT_ALL", "").run()
}

fn files(repo: &Repo, folder: &str, ending: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(repo.path.join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(ending))
        .collect();
    names.sort();
    names
}

/// The seconds since 1970 of an HTTP date.
fn seconds(date: &str) -> u64 {
    let output = std::process::Command::new("date")
        .args(["-u", "-d", date, "+%s %a, %d %b %Y %H:%M:%S GMT"])
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let (seconds, again) = said.trim().split_once(' ').unwrap();
    assert_eq!(again, date, "an HTTP date");
    seconds.parse().unwrap()
}

fn is_not_cached(answer: &Answer) {
    assert_eq!(answer.header("Expires"), Some("Fri, 01 Jan 1980 00:00:00 GMT"));
    assert_eq!(answer.header("Pragma"), Some("no-cache"));
    assert_eq!(answer.header("Cache-Control"), Some("no-cache, max-age=0, must-revalidate"));
}

fn is_kept_a_year(answer: &Answer, file: &std::path::Path) {
    assert_eq!(answer.header("Cache-Control"), Some("public, max-age=31536000"));
    let (date, expires) = (seconds(answer.header("Date").unwrap()), seconds(answer.header("Expires").unwrap()));
    assert_eq!(expires - date, 31_536_000);
    let modified = std::fs::metadata(file).unwrap().modified().unwrap();
    let modified = modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(seconds(answer.header("Last-Modified").unwrap()), modified);
    assert_eq!(answer.header("Content-Length").unwrap().parse::<u64>().unwrap(), file.metadata().unwrap().len());
    assert_eq!(answer.body, std::fs::read(file).unwrap());
}

#[test]
fn head_names_the_branch_or_the_commit_or_nothing() {
    let site = site();
    let served = site.repo("acme/site");
    let answer = get(&site, "HEAD");
    assert_eq!((answer.status, answer.text().as_str()), (200, "ref: refs/heads/main\n"));
    assert_eq!((answer.header("Content-Type"), answer.header("Content-Length")), (Some("text/plain"), Some("21")));
    assert_eq!((answer.header("Expires"), answer.header("Cache-Control")), (None, None), "no word about caches");
    let tip = served.tip("refs/heads/main");
    served.git(&["update-ref", "--no-deref", "HEAD", &tip]);
    assert_eq!(get(&site, "HEAD").text(), format!("{tip}\n"));
    served.git(&["symbolic-ref", "HEAD", "refs/heads/unborn"]);
    let answer = get(&site, "HEAD");
    assert_eq!((answer.status, answer.text().as_str()), (200, ""));
}

#[test]
fn info_refs_lists_all_refs_and_what_tags_point_to() {
    let site = site();
    let served = site.repo("acme/site");
    served.config("uploadpack.hideRefs", "refs/heads/side");
    // A ref to a missing object is left out.
    std::fs::write(served.path.join("refs/heads/broken"), format!("{}\n", "1".repeat(40))).unwrap();
    let answer = get(&site, "info/refs");
    assert_eq!((answer.status, answer.header("Content-Type")), (200, Some("text/plain")));
    is_not_cached(&answer);
    let main = served.tip("refs/heads/main");
    let tag = served.tip("refs/tags/v1");
    let expected =
        format!("{main}\trefs/heads/main\n{main}\trefs/heads/side\n{tag}\trefs/tags/v1\n{main}\trefs/tags/v1^{{}}\n");
    assert_eq!(answer.text(), expected, "hidden refs are shown here, as by git");
    // A stored file of this name is not used.
    std::fs::write(served.path.join("info/refs"), "old\n").unwrap();
    assert_eq!(get(&site, "info/refs").text(), expected);
}

#[test]
fn packs_indexes_and_loose_objects_come_whole_with_their_dates() {
    let site = site();
    let served = site.repo("acme/site");
    let [pack] = &files(&served, "objects/pack", ".pack")[..] else { panic!("one pack") };
    let answer = get(&site, "objects/info/packs");
    assert_eq!((answer.status, answer.text()), (200, format!("P {pack}\n\n")));
    assert_eq!(answer.header("Content-Type"), Some("text/plain; charset=utf-8"));
    is_not_cached(&answer);

    for (ending, media) in
        [("pack", "application/x-git-packed-objects"), ("idx", "application/x-git-packed-objects-toc")]
    {
        let path = format!("objects/pack/{}", pack.replace(".pack", &format!(".{ending}")));
        let answer = get(&site, &path);
        assert_eq!((answer.status, answer.header("Content-Type")), (200, Some(media)));
        is_kept_a_year(&answer, &served.path.join(path));
    }
    let blob = served.git(&["hash-object", "loose-blob"]);
    let path = format!("objects/{}/{}", &blob[..2], &blob[2..]);
    let answer = get(&site, &path);
    assert_eq!((answer.status, answer.header("Content-Type")), (200, Some("application/x-git-loose-object")));
    is_kept_a_year(&answer, &served.path.join(path));
}

#[test]
fn alternates_are_served_as_they_are() {
    let site = site();
    let served = site.repo("acme/site");
    assert_eq!(get(&site, "objects/info/alternates").status, 404);
    std::fs::write(served.path.join("objects/info/http-alternates"), "/git/acme/other.git/objects\n").unwrap();
    let answer = get(&site, "objects/info/http-alternates");
    assert_eq!((answer.status, answer.text().as_str()), (200, "/git/acme/other.git/objects\n"));
    assert_eq!(answer.header("Content-Type"), Some("text/plain"));
    is_not_cached(&answer);
}

#[test]
fn nothing_else_in_the_repository_is_served() {
    let site = site();
    let served = site.repo("acme/site");
    let [pack] = &files(&served, "objects/pack", ".pack")[..] else { panic!("one pack") };
    let reverse = format!("objects/pack/{}", pack.replace(".pack", ".rev"));
    let missing = "objects/pack/pack-0123456789012345678901234567890123456789.pack";
    let upper = format!("objects/pack/{}", pack.to_uppercase().replace("PACK-", "pack-").replace(".PACK", ".pack"));
    for path in [
        "config",
        "description",
        "packed-refs",
        "refs/heads/main",
        "hooks/pre-receive",
        "objects/",
        "info/exclude",
        "shallow",
        "objects/12/345678901234567890123456789012345678901",
        "objects/12/34567890123456789012345678901234567890",
        missing,
        "objects/info/commit-graph",
        "logs/HEAD",
        &reverse,
        &upper,
        "",
    ] {
        let answer = get(&site, path);
        assert_eq!(answer.status, 404, "{path}");
    }
    assert_eq!(get(&site, "objects/../config").status, 500, "as git: aliased");
}

#[test]
fn a_repository_behind_tokens_serves_them_only_where_its_owner_says_so() {
    let site = site();
    let token = site.token("acme/site", "read");
    let ask = |path: &str| site.cgi("GET", &format!("/acme/site.git/{path}")).bearer(&token).run();
    for path in ["HEAD", "info/refs", "objects/info/packs"] {
        let answer = ask(path);
        assert_eq!(answer.status, 403, "{path}");
        assert!(answer.text().contains("smart"), "{}", answer.text());
        assert_eq!(site.cgi("GET", &format!("/acme/site.git/{path}")).run().status, 401);
    }
    site.repo("acme/site").config("http.getanyfile", "true");
    for path in ["HEAD", "info/refs", "objects/info/packs"] {
        assert_eq!(ask(path).status, 200, "{path}");
        assert_eq!(
            site.cgi("GET", &format!("/acme/site.git/{path}")).run().status,
            401,
            "a token is needed all the same"
        );
    }
    site.repo("acme/site").config("http.getanyfile", "false");
    assert_eq!(get(&site, "HEAD").status, 403, "the owner's no counts in both modes");
}

#[test]
fn a_client_without_the_smart_protocol_clones_packs_and_loose_objects() {
    let site = site();
    let work = site.work("fill");
    work.commit("two, which stays loose");
    work.git(&["push", "-q", site.repo("acme/site").path.to_str().unwrap(), "main"]);
    let server = site.serve_with(&["--auth", "webserver"], &[("GIT_HTTP_EXPORT_ALL", "")]);
    let url = server.url("acme/site");
    let mut clone = crate::support::git_command(&site.desk().path);
    let ran: crate::support::Ran =
        clone.env("GIT_SMART_HTTP", "0").args(["clone", "-q", "--mirror", &url, "dumb"]).output().unwrap().into();
    ran.succeeds();
    let clone = site.work("dumb");
    clone.fsck();
    assert_eq!(clone.refs(), site.repo("acme/site").refs());
    assert_eq!(clone.git(&["symbolic-ref", "HEAD"]), "refs/heads/main");
}

/// The site's pack: its path in the URL, and its bytes.
fn pack(site: &Site) -> (String, Vec<u8>) {
    let served = site.repo("acme/site");
    let [pack] = &files(&served, "objects/pack", ".pack")[..] else { panic!("one pack") };
    let path = format!("objects/pack/{pack}");
    let bytes = std::fs::read(served.path.join(&path)).unwrap();
    (path, bytes)
}

fn get_with(site: &Site, method: &str, path: &str, said: &[(&str, &str)]) -> Answer {
    let mut request = site.cgi(method, &format!("/acme/site.git/{path}"));
    for (name, value) in [("ARTIFACTS_AUTH", "webserver"), ("GIT_HTTP_EXPORT_ALL", "")].iter().chain(said) {
        request = request.env(name, value);
    }
    request.run()
}

#[test]
fn who_has_a_file_already_is_told_so_in_a_few_bytes() {
    let site = site();
    let (pack, _) = pack(&site);
    for path in ["HEAD", "info/refs", "objects/info/packs", &pack] {
        let first = get(&site, path);
        let tag = first.header("ETag").unwrap();
        for method in ["GET", "HEAD"] {
            let again = get_with(&site, method, path, &[("HTTP_IF_NONE_MATCH", tag)]);
            assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
            for name in ["ETag", "Cache-Control", "Last-Modified"] {
                assert_eq!(again.header(name), first.header(name), "{path}: {name}");
            }
            assert_eq!(again.header("Content-Length"), None, "{path}: no length of what is not there");
        }
        let other = get_with(&site, "GET", path, &[("HTTP_IF_NONE_MATCH", "\"other\"")]);
        assert_eq!((other.status, &other.body), (200, &first.body), "{path}");
    }
    let modified = get(&site, &pack).header("Last-Modified").unwrap().to_owned();
    let since = |path: &str| get_with(&site, "GET", path, &[("HTTP_IF_MODIFIED_SINCE", &modified)]).status;
    assert_eq!((since(&pack), since("info/refs")), (304, 200), "what is made for each request has no date");
    let tag = get(&site, "info/refs").header("ETag").unwrap().to_owned();
    site.repo("acme/site").git(&["update-ref", "refs/heads/new", "refs/heads/main"]);
    assert_eq!(get_with(&site, "GET", "info/refs", &[("HTTP_IF_NONE_MATCH", &tag)]).status, 200, "it has changed");
}

#[test]
fn what_a_token_guards_is_not_for_caches_that_others_share() {
    let site = site();
    let served = site.repo("acme/site");
    served.config("http.getanyfile", "true");
    let token = site.token("acme/site", "read");
    let (path, _) = pack(&site);
    let kept = |cgi: Cgi| {
        let answer = cgi.run();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.header("Cache-Control").unwrap().to_owned()
    };
    let request = site.cgi("GET", &format!("/acme/site.git/{path}"));
    assert_eq!(kept(request.clone().bearer(&token)), "private, max-age=31536000");
    served.config("artifacts.anonymousRead", "true");
    assert_eq!(kept(request.clone().bearer(&token)), "public, max-age=31536000");
    assert_eq!(kept(request), "public, max-age=31536000");
}

#[test]
fn a_range_is_that_part_of_the_file_as_long_as_it_is_the_same_file() {
    let site = site();
    let (pack, bytes) = pack(&site);
    let size = bytes.len();
    let whole = get(&site, &pack);
    assert_eq!((whole.status, whole.header("Accept-Ranges")), (200, Some("bytes")));
    let tag = whole.header("ETag").unwrap();
    let check = |said: &[(&str, &str)], expected: std::ops::Range<usize>| {
        let answer = get_with(&site, "GET", &pack, said);
        let is_part = expected != (0..size);
        assert_eq!(answer.status, if is_part { 206 } else { 200 }, "{said:?}");
        let range = format!("bytes {}-{}/{size}", expected.start, expected.end - 1);
        assert_eq!(answer.header("Content-Range"), is_part.then_some(range.as_str()), "{said:?}");
        assert_eq!(answer.header("Content-Length").unwrap(), expected.len().to_string());
        assert_eq!(answer.body, bytes[expected], "{said:?}");
        assert_eq!(answer.header("Cache-Control"), Some("public, max-age=31536000"));
    };
    check(&[("HTTP_RANGE", "bytes=100-")], 100..size);
    check(&[("HTTP_RANGE", "bytes=10-19")], 10..20);
    check(&[("HTTP_RANGE", "bytes=-20")], size - 20..size);
    check(&[("HTTP_RANGE", "bytes=100-"), ("HTTP_IF_RANGE", tag)], 100..size);
    check(&[("HTTP_RANGE", "bytes=100-"), ("HTTP_IF_RANGE", "\"other\"")], 0..size);
    check(&[("HTTP_RANGE", "bytes=1-2,5-6")], 0..size);
    let beyond = get_with(&site, "GET", &pack, &[("HTTP_RANGE", &format!("bytes={size}-"))]);
    assert_eq!((beyond.status, beyond.header("Content-Range")), (416, Some(format!("bytes */{size}").as_str())));
    let head = get_with(&site, "HEAD", &pack, &[("HTTP_RANGE", "bytes=100-")]);
    assert_eq!((head.status, head.header("Content-Length").unwrap()), (200, size.to_string().as_str()));
    assert_eq!(head.body, b"");
    let list = get_with(&site, "GET", "info/refs", &[("HTTP_RANGE", "bytes=5-9")]);
    assert_eq!((list.status, list.body), (206, get(&site, "info/refs").body[5..10].to_vec()));
}

#[test]
fn a_client_goes_on_with_a_pack_it_has_half_of() {
    let site = site();
    let (pack, bytes) = pack(&site);
    let log = site.root().join("audit.log");
    let environment = [("GIT_HTTP_EXPORT_ALL", ""), ("ARTIFACTS_AUDIT_LOG", log.to_str().unwrap())];
    let server = site.serve_with(&["--auth", "webserver"], &environment);
    let clone = site.work("half");
    clone.git(&["init", "-q"]);
    std::fs::write(clone.path.join(format!(".git/{pack}.temp")), &bytes[..bytes.len() / 2]).unwrap();
    let mut fetch = crate::support::git_command(&clone.path);
    fetch.env("GIT_SMART_HTTP", "0").args(["fetch", "-q", &server.url("acme/site"), "main"]);
    crate::support::Ran::from(fetch.output().unwrap()).succeeds();
    clone.fsck();
    let text = std::fs::read_to_string(&log).unwrap();
    let sent = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["bytes_out"].as_u64().unwrap();
    let rest = (bytes.len() - bytes.len() / 2) as u64;
    assert!(text.lines().any(|line| line.contains("\"status\":206") && sent(line) == rest), "{text}");
}

//! The files of the dumb protocol: what is served, with which headers, and to whom.

use crate::support::{Answer, Repo, Site, noise};

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

/// The same request to a site whose web server authenticates.
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
    // A ref to nothing is left out.
    std::fs::write(served.path.join("refs/heads/broken"), format!("{}\n", "1".repeat(40))).unwrap();
    let answer = get(&site, "info/refs");
    assert_eq!((answer.status, answer.header("Content-Type")), (200, Some("text/plain")));
    is_not_cached(&answer);
    let main = served.tip("refs/heads/main");
    let tag = served.tip("refs/tags/v1");
    let expected =
        format!("{main}\trefs/heads/main\n{main}\trefs/heads/side\n{tag}\trefs/tags/v1\n{main}\trefs/tags/v1^{{}}\n");
    assert_eq!(answer.text(), expected, "hidden refs are shown here, as by git");
    // What is stored under this name does not count.
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

//! How repositories are stored: reftable, SHA-256, linked worktrees, alternates. Each is served as git serves it.

use crate::support::{Answer, Cgi, PROGRAM, Repo, Site, band, framed, git_command};
use std::io::Write;

/// The protocol versions a client may ask for.
const VERSIONS: [u8; 3] = [0, 1, 2];

/// A repository of the given formats below the root, with branches, tags of all kinds, symbolic refs and deleted refs.
fn site(objects: &str, refs: &str) -> Site {
    let site = Site::new();
    let served = site.repo("acme/site");
    std::fs::create_dir_all(&served.path).unwrap();
    served.git(&["init", "-q", "--bare", &format!("--object-format={objects}"), &format!("--ref-format={refs}"), "."]);
    let work = site.work("fill");
    work.git(&["init", "-q", &format!("--object-format={objects}")]);
    work.commit("one");
    work.git(&["tag", "light"]);
    work.git(&["tag", "-a", "-m", "annotated", "annotated"]);
    work.git(&["tag", "-a", "-m", "nested", "nested", "annotated"]);
    work.git(&["checkout", "-q", "-b", "side"]);
    work.commit("two");
    work.git(&["branch", "gone"]);
    work.git(&["push", "-q", "--mirror", served.path.to_str().unwrap()]);
    served.git(&["update-ref", "-d", "refs/heads/gone"]);
    served.git(&["symbolic-ref", "refs/heads/alias", "refs/heads/main"]);
    served.git(&["symbolic-ref", "refs/heads/dangling", "refs/heads/nothing"]);
    site
}

/// This program's answer, and git's own.
fn both(request: &Cgi) -> (Answer, Answer) {
    let request = request.clone().env("ARTIFACTS_AUTH", "webserver").env("GIT_HTTP_EXPORT_ALL", "");
    (request.run(), request.clone().through(&["git", "http-backend"]).run())
}

/// Checks that everything that lists refs agrees with git, for the repository at `path` of the URL.
fn lists_as_git(site: &Site, path: &str, objects: &str) {
    let check = |what: &str, request: &Cgi| {
        let (ours, gits) = both(request);
        assert_eq!((ours.status, gits.status), (200, 200), "{what}: {} {}", ours.stderr, gits.stderr);
        // Capabilities follow the first ref; they name the programs.
        let refs = |answer: &Answer| -> Vec<String> {
            if !what.starts_with('v') {
                return answer.text().lines().map(str::to_owned).collect();
            }
            answer.packets().iter().map(|line| line.split("\\x00").next().unwrap_or_default().to_owned()).collect()
        };
        let (ours, gits) = (refs(&ours), refs(&gits));
        assert_eq!(ours, gits, "{what} of {path}");
    };
    for version in [0, 1] {
        let request = site.cgi("GET", &format!("/{path}/info/refs?service=git-upload-pack")).protocol(version);
        check(&format!("v{version}"), &request);
    }
    let format = format!("object-format={objects}");
    for arguments in [&["peel", "symrefs", "unborn"][..], &[], &["ref-prefix refs/heads/", "ref-prefix refs/tags/n"]] {
        let lines = [&["command=ls-refs", &format, "0001"], arguments, &["0000"]].concat();
        let request = site.cgi("POST", &format!("/{path}/git-upload-pack")).protocol(2).body(framed(&lines));
        check(&format!("v2 {arguments:?}"), &request);
    }
    for file in ["HEAD", "info/refs", "objects/info/packs"] {
        check(file, &site.cgi("GET", &format!("/{path}/{file}")));
    }
}

/// Clones with every protocol version, fetches new commits, and clones over the dumb protocol.
fn clones(site: &Site) {
    let served = site.repo("acme/site");
    let work = site.work("fill");
    let token = site.token("acme/site", "read");
    served.config("http.getanyfile", "true");
    served.git(&["repack", "-a", "-d", "-q"]);
    let server = site.serve();
    for version in VERSIONS {
        let name = format!("clone-{version}");
        let protocol = format!("protocol.version={version}");
        site.desk().git(&["-c", &protocol, "clone", "-q", "--mirror", &server.url_with("acme/site", &token), &name]);
        let clone = site.work(&name);
        clone.fsck();
        assert_eq!(clone.refs(), served.refs(), "version {version}");
        work.commit(&format!("for {name}"));
        work.git(&["push", "-q", served.path.to_str().unwrap(), "HEAD:refs/heads/side"]);
        clone.git(&["-c", &protocol, "fetch", "-q"]);
        clone.fsck();
        assert_eq!(clone.refs(), served.refs(), "version {version}");
    }
    served.git(&["update-server-info"]);
    let mut dumb = git_command(&site.desk().path);
    dumb.args(["clone", "-q", "--mirror", &server.url_with("acme/site", &token), "dumb"]).env("GIT_SMART_HTTP", "0");
    crate::support::Ran::from(dumb.output().unwrap()).succeeds();
    let dumb = site.work("dumb");
    dumb.fsck();
    assert_eq!(dumb.refs(), served.refs());
}

#[test]
fn reftable_repositories_are_listed_and_cloned_as_others() {
    for objects in ["sha1", "sha256"] {
        let site = site(objects, "reftable");
        lists_as_git(&site, "acme/site.git", objects);
        let served = site.repo("acme/site");
        served.git(&["symbolic-ref", "HEAD", "refs/heads/unborn"]);
        lists_as_git(&site, "acme/site.git", objects);
        served.git(&["update-ref", "--no-deref", "HEAD", "refs/tags/nested^{}"]);
        lists_as_git(&site, "acme/site.git", objects);
        served.git(&["symbolic-ref", "HEAD", "refs/heads/main"]);
        clones(&site);
    }
}

#[test]
fn repositories_of_long_object_names_are_listed_and_cloned_as_others() {
    let site = site("sha256", "files");
    lists_as_git(&site, "acme/site.git", "sha256");
    site.repo("acme/site").git(&["pack-refs", "--all"]);
    lists_as_git(&site, "acme/site.git", "sha256");
    clones(&site);
}

#[test]
fn a_reftable_repository_is_pushed_to_as_others() {
    for objects in ["sha1", "sha256"] {
        let site = site(objects, "reftable");
        let served = site.repo("acme/site");
        served.config("core.logAllRefUpdates", "true");
        served.git(&["symbolic-ref", "--delete", "refs/heads/dangling"]);
        let token = site.token("acme/site", "write");
        let server = site.serve();
        let (url, work) = (server.url_with("acme/site", &token), site.work("fill"));
        let before = work.tip("side");
        let tip = work.commit("three");
        work.git(&["tag", "-a", "-m", "new", "new"]);
        let refs = ["side", "HEAD:refs/heads/dir/new", "new", ":annotated", "HEAD:refs/heads/alias"];
        work.git(&[&["push", "-q", "--atomic", &url][..], &refs].concat());
        work.git(&["push", "-q", &url, ":light", "+HEAD~1:refs/heads/dir/new"]);
        // A name above an existing one: it alone is refused, in git's words.
        work.try_git(&["push", &url, "HEAD:refs/heads/dir", "HEAD:refs/heads/more"]).fails_with("refname conflict");
        let said = work.try_git(&["push", &url, "HEAD:refs/heads/dir"]).err;
        assert!(said.contains("'refs/heads/dir/new' exists; cannot create 'refs/heads/dir'"), "{said}");
        let stale = format!("--force-with-lease=side:{tip}");
        work.git(&["push", "-q", &stale, &url, "+side~1:side"]);
        served.fsck();
        let has = |name: &str| served.tip(name);
        assert_eq!([has("side"), has("main"), has("alias")], [before.clone(), tip.clone(), tip.clone()]);
        assert_eq!([has("dir/new"), has("more"), has("new^{}")], [before.clone(), tip.clone(), tip.clone()]);
        let tags = served.git(&["for-each-ref", "--format=%(refname:short) %(*objectname)", "refs/tags"]);
        assert!(tags.starts_with("nested ") && tags.ends_with(&format!("new {tip}")), "{tags}");
        let log = served.git(&["reflog", "show", "--format=%H %gn %gs", "refs/heads/side"]);
        let lines: Vec<&str> = log.lines().collect();
        assert!(lines[0].starts_with(&format!("{before} token-")) && lines[0].ends_with(" push"), "{log}");
        assert!(lines[1].starts_with(&tip), "{log}");
        assert_eq!(served.leftovers(), Vec::<std::path::PathBuf>::new());
        lists_as_git(&site, "acme/site.git", objects);
        clones(&site);
    }
}

#[test]
fn git_and_this_program_push_into_one_reftable_at_the_same_time() {
    let site = site("sha1", "reftable");
    let served = site.repo("acme/site");
    served.config("reftable.lockTimeout", "60000");
    served.git(&["symbolic-ref", "--delete", "refs/heads/dangling"]);
    let token = site.token("acme/site", "write");
    let server = site.serve();
    let work = site.work("fill");
    let before = served.refs().lines().count();
    std::thread::scope(|scope| {
        for (pusher, url) in [
            ("a", server.url_with("acme/site", &token)),
            ("b", served.path.to_str().unwrap().to_owned()),
            ("c", server.url_with("acme/site", &token)),
        ] {
            let work = &work;
            scope.spawn(move || {
                for round in 0..6 {
                    let refs =
                        [format!("HEAD:refs/heads/{pusher}/{round}"), format!("HEAD~1:refs/tags/{pusher}{round}")];
                    work.git(&["push", "-q", &url, &refs[0], &refs[1]]);
                    work.git(&["push", "-q", &url, &format!(":refs/tags/{pusher}{round}")]);
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..10 {
                // This gives up while a table is being replaced.
                served.try_git(&["pack-refs", "--all"]);
            }
        });
    });
    served.fsck();
    assert_eq!(served.refs().lines().count(), before + 3 * 6);
}

#[test]
fn a_linked_worktree_is_a_repository_with_a_head_of_its_own() {
    for refs in ["files", "reftable"] {
        let site = site("sha1", refs);
        let served = site.repo("acme/site");
        let tree = site.work("tree");
        served.git(&["worktree", "add", "-q", "--detach", tree.path.to_str().unwrap(), "side"]);
        tree.git(&["update-ref", "refs/worktree/mine", "HEAD"]);
        served.git(&["update-ref", "refs/worktree/main", "HEAD"]);
        lists_as_git(&site, "acme/site.git/worktrees/tree", "sha1");
        lists_as_git(&site, "acme/site.git", "sha1");
        // Its work tree has a gitfile that leads to it.
        std::fs::rename(&tree.path, site.root().join("acme/tree")).unwrap();
        lists_as_git(&site, "acme/tree", "sha1");
        let other = Repo::at(site.root().join("acme/plain"));
        site.desk().git(&["clone", "-q", served.path.to_str().unwrap(), other.path.to_str().unwrap()]);
        lists_as_git(&site, "acme/plain", "sha1");
    }
}

#[test]
fn a_namespace_shows_its_refs_alone_in_a_reftable_too() {
    let site = site("sha1", "reftable");
    let served = site.repo("acme/site");
    served.git(&["update-ref", "refs/namespaces/n/refs/heads/only", "refs/heads/side"]);
    served.git(&["symbolic-ref", "refs/namespaces/n/HEAD", "refs/namespaces/n/refs/heads/only"]);
    let tip = served.tip("side");
    let lines = framed(&["command=ls-refs", "0001", "symrefs", "0000"]);
    let request = site.cgi("POST", "/acme/site.git/git-upload-pack").protocol(2).body(lines);
    let request = request.env("ARTIFACTS_AUTH", "webserver").env("GIT_HTTP_EXPORT_ALL", "");
    let expected = [&format!("{tip} HEAD symref-target:refs/heads/only"), &format!("{tip} refs/heads/only"), "0000"];
    assert_eq!(request.env("GIT_NAMESPACE", "n").run().packets(), expected);
}

#[test]
fn the_branch_of_a_conditional_include_is_heads_in_a_reftable() {
    let site = site("sha1", "reftable");
    let served = site.repo("acme/site");
    served.config("includeIf.onbranch:main.path", "hidden");
    std::fs::write(served.path.join("hidden"), "[transfer]\n\thideRefs = refs/tags\n").unwrap();
    lists_as_git(&site, "acme/site.git", "sha1");
    served.git(&["symbolic-ref", "HEAD", "refs/heads/side"]);
    lists_as_git(&site, "acme/site.git", "sha1");
}

#[test]
fn what_borrows_from_a_reftable_repository_names_its_tips_to_who_pushes() {
    let site = site("sha1", "reftable");
    let lender = site.repo("acme/site");
    let borrower = site.create("acme/fork");
    let alternates = format!("{}\n", lender.path.join("objects").display());
    std::fs::write(borrower.path.join("objects/info/alternates"), alternates).unwrap();
    let token = site.token("acme/fork", "write");
    let answer = site.cgi("GET", "/acme/fork.git/info/refs?service=git-receive-pack").bearer(&token).run();
    let text = answer.text();
    for name in ["refs/heads/main", "refs/heads/side", "refs/tags/nested"] {
        assert!(
            text.contains(&format!("{} .have\n", lender.tip(name)))
                || text.contains(&format!("{} .have\0", lender.tip(name))),
            "{text}"
        );
    }
}

/// A repository whose history is in several packs and commit-graph layers, with the object format `objects`.
fn layered(objects: &str) -> Site {
    let site = site(objects, "files");
    let served = site.repo("acme/site");
    let work = site.work("fill");
    for round in 0..3 {
        work.commit(&format!("round {round}"));
        work.git(&["push", "-q", served.path.to_str().unwrap(), "HEAD:refs/heads/main"]);
        served.git(&["repack", "-d", "-q"]);
        served.git(&["multi-pack-index", "write", "--incremental"]);
        served.git(&["commit-graph", "write", "--reachable", "--split=no-merge", "--changed-paths"]);
    }
    site
}

fn clone_fresh(site: &Site, server: &crate::support::Server, token: &str, name: &str) {
    site.desk().git(&["clone", "-q", "--mirror", &server.url_with("acme/site", token), name]);
    site.work(name).fsck();
    assert_eq!(site.work(name).refs(), site.repo("acme/site").refs());
}

#[test]
fn chains_of_indexes_and_of_commit_graphs_are_used_and_damaged_ones_are_told_of() {
    for objects in ["sha1", "sha256"] {
        let site = layered(objects);
        let served = site.repo("acme/site");
        let (token, server) = (site.token("acme/site", "read"), site.serve());
        clone_fresh(&site, &server, &token, "sound");
        assert!(!server.stderr().contains("warning"), "{}", server.stderr());
        let chain = |folder: &str, name: &str| std::fs::read_to_string(served.path.join(folder).join(name)).unwrap();
        let layers = chain("objects/pack/multi-pack-index.d", "multi-pack-index-chain");
        let graphs = chain("objects/info/commit-graphs", "commit-graph-chain");
        assert_eq!((layers.lines().count(), graphs.lines().count()), (3, 3));
        for (path, damage) in [
            (format!("objects/pack/multi-pack-index.d/multi-pack-index-{}.midx", layers.lines().last().unwrap()), 4),
            (format!("objects/info/commit-graphs/graph-{}.graph", graphs.lines().last().unwrap()), 4),
        ] {
            let path = served.path.join(path);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[damage] = 99;
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, bytes).unwrap();
        }
        clone_fresh(&site, &server, &token, "damaged");
        let said = server.stderr();
        for what in ["multi-pack-index has version 99", "commit-graph"] {
            assert!(said.lines().any(|line| line.starts_with("warning: ") && line.contains(what)), "{what}: {said}");
        }
    }
}

#[test]
fn an_alternate_that_is_not_there_is_told_and_done_without() {
    let site = site("sha1", "files");
    let served = site.repo("acme/site");
    std::fs::write(served.path.join("objects/info/alternates"), "/nowhere/at/all\n").unwrap();
    let expected = "warning: object directory /nowhere/at/all does not exist; check";
    let request = site.cgi("GET", "/acme/site.git/info/refs?service=git-upload-pack");
    let answer = request.bearer(&site.token("acme/site", "read")).run();
    assert_eq!(answer.status, 200);
    assert!(answer.stderr.starts_with(expected) && answer.stderr.lines().count() == 1, "{}", answer.stderr);
    let mut pipe = std::process::Command::new(crate::support::PROGRAM);
    pipe.args(["upload-pack", "--http-backend-info-refs"]).arg(&served.path);
    let ran = crate::support::Ran::from(pipe.output().unwrap());
    assert!(ran.ok && ran.err.starts_with(expected), "{}", ran.err);
}

#[test]
fn refs_that_are_kept_elsewhere_are_found_there() {
    for refs in ["files", "reftable"] {
        let site = site("sha1", refs);
        let served = site.repo("acme/site");
        let ask = || {
            let lines = framed(&["command=ls-refs", "0001", "peel", "symrefs", "0000"]);
            let request = site.cgi("POST", "/acme/site.git/git-upload-pack").protocol(2).body(lines);
            request.bearer(&site.token("acme/site", "read")).run().packets()
        };
        let before = ask();
        assert!(before.len() > 5, "{before:?}");
        // The layout of git 2.55.
        let place = site.work("elsewhere").path;
        served.git(&["pack-refs", "--all"]);
        for name in ["HEAD", "refs", "packed-refs", "reftable"] {
            if served.path.join(name).exists() {
                std::fs::rename(served.path.join(name), place.join(name)).unwrap();
            }
        }
        std::fs::write(served.path.join("HEAD"), "ref: refs/heads/.invalid\n").unwrap();
        std::fs::create_dir(served.path.join("refs")).unwrap();
        let config = served.path.join("config");
        let text = std::fs::read_to_string(&config)
            .unwrap()
            .replace("repositoryformatversion = 0", "repositoryformatversion = 1");
        std::fs::write(&config, format!("{text}[extensions]\n\trefStorage = {refs}://{}\n", place.display())).unwrap();
        assert_eq!(ask(), before);
    }
}

#[test]
fn more_packs_are_read_than_files_may_be_open() {
    let site = Site::new();
    let served = site.create("acme/site");
    for number in 0..90 {
        let stream = format!(
            "commit refs/heads/b{number}\ncommitter C <c@x> {} +0000\ndata 0\nM 100644 inline f\ndata 2\n{number:02}\n",
            1_700_000_000 + number
        );
        served.feed(&["-c", "fastimport.unpackLimit=0", "fast-import", "--quiet"], stream.as_bytes());
    }
    let wants: Vec<String> =
        served.git(&["for-each-ref", "--format=want %(objectname)"]).lines().map(str::to_owned).collect();
    let lines =
        [&["command=fetch", "0001"][..], &wants.iter().map(String::as_str).collect::<Vec<_>>(), &["done", "0000"]];
    let token = site.token("acme/site", "read");
    let request =
        site.cgi("POST", "/acme/site.git/git-upload-pack").bearer(&token).protocol(2).body(framed(&lines.concat()));
    for prepare in [&["multi-pack-index", "write"][..], &["multi-pack-index", "write", "--bitmap"], &[]] {
        if prepare.is_empty() {
            std::fs::remove_file(served.path.join("objects/pack/multi-pack-index")).unwrap();
        } else {
            served.git(prepare);
        }
        // The soft limit alone, and the hard limit.
        for limit in ["ulimit -Sn 48", "ulimit -n 70"] {
            let answer = request.clone().opening(limit).run();
            assert_eq!(answer.status, 200, "{prepare:?}, {limit}: {}", answer.stderr);
            assert_eq!(answer.stderr, "", "{prepare:?}, {limit}");
            let client = site.work(&format!("client {} {limit}", prepare.len()));
            client.git(&["init", "-q"]);
            client.feed(&["index-pack", "--stdin", "--strict"], &band(&answer.body, 1));
        }
    }
    // Maintenance, which helps such a repository, works there too.
    let script = format!("ulimit -n 70; exec '{PROGRAM}' maintenance '{}'", served.path.display());
    let ran = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(served.git(&["rev-list", "--all", "--count"]).trim(), "90");
    let packs = std::fs::read_dir(served.path.join("objects/pack")).unwrap();
    assert_eq!(
        packs.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|end| end == "pack")).count(),
        1
    );
}

#[test]
fn heads_branch_is_the_last_of_a_chain_of_symbolic_refs() {
    let site = site("sha1", "files");
    let served = site.repo("acme/site");
    for (first, last) in [("main", "refs/heads/main"), ("nothing yet", "refs/heads/nothing")] {
        served.git(&["symbolic-ref", "refs/heads/sym", last]);
        served.git(&["symbolic-ref", "HEAD", "refs/heads/sym"]);
        lists_as_git(&site, "acme/site.git", "sha1");
        let lines = framed(&["command=ls-refs", "0001", "peel", "symrefs", "unborn", "ref-prefix HEAD", "0000"]);
        let request = site.cgi("POST", "/acme/site.git/git-upload-pack").protocol(2).body(lines);
        let answer = request.bearer(&site.token("acme/site", "read")).run();
        assert!(answer.text().contains(&format!("symref-target:{last}\n")), "{first}: {}", answer.text());
    }
}

#[test]
fn one_damaged_ref_or_tag_hides_no_other_branch() {
    let site = site("sha1", "files");
    let served = site.repo("acme/site");
    let (main, tip) = (served.path.join("refs/heads/main"), served.tip("refs/heads/side"));
    let token = site.token("acme/site", "read");
    let sound = std::fs::read(&main).unwrap();
    let null = format!("{}\n", "0".repeat(40));
    let damaged_tag = served.feed(&["hash-object", "-t", "tag", "-w", "--literally", "--stdin"], b"garbage\n");
    for damage in [&b""[..], b"garbage\n", b"ref: refs/heads/main\n", null.as_bytes(), b"a tag"] {
        let said = String::from_utf8_lossy(damage);
        if damage == b"a tag" {
            std::fs::write(&main, &sound).unwrap();
            std::fs::write(served.path.join("refs/tags/damaged"), format!("{}\n", damaged_tag.trim())).unwrap();
        } else {
            std::fs::write(&main, damage).unwrap();
        }
        let lines = framed(&["command=ls-refs", "0001", "peel", "symrefs", "0000"]);
        let (ours, gits) = both(&site.cgi("POST", "/acme/site.git/git-upload-pack").protocol(2).body(lines));
        // git lists dangling refs with zeros.
        let mut expected = gits.packets();
        expected.retain(|line| !line.starts_with(null.trim_end()));
        assert_eq!(ours.packets(), expected, "{said}: {}", ours.stderr);
        let want = format!("want {tip}");
        let v2 = framed(&["command=fetch", "0001", &want, "include-tag", "done", "0000"]);
        let v0 = framed(&[&format!("{want} side-band-64k include-tag"), "0000", "done"]);
        for (version, body) in [(2, v2), (0, v0)] {
            let listed = site.cgi("GET", "/acme/site.git/info/refs?service=git-upload-pack").protocol(version);
            assert_eq!(listed.bearer(&token).run().status, 200, "{said}");
            let request = site.cgi("POST", "/acme/site.git/git-upload-pack").protocol(version).body(body);
            let answer = request.bearer(&token).run();
            assert_eq!(answer.status, 200, "{said}: {}", answer.stderr);
            let client = site.work(&format!("client {} {version}", damage.len()));
            client.git(&["init", "-q"]);
            client.feed(&["index-pack", "--stdin", "--strict"], &band(&answer.body, 1));
        }
    }
}

#[test]
fn a_long_chain_of_tags_is_peeled_once_and_to_its_end() {
    const TAGS: usize = 66_000;
    let site = site("sha1", "files");
    let served = site.repo("acme/site");
    let mut pack = [&b"PACK\0\0\0\x02"[..], &(TAGS as u32).to_be_bytes()].concat();
    let mut target = format!("object {}\ntype commit", served.tip("refs/heads/side"));
    let mut last = String::new();
    for number in 0..TAGS {
        let tag = format!("{target}\ntag t{number}\ntagger T <t@x> 1700000000 +0000\n\n");
        let id = gix_object::compute_hash(gix_hash::Kind::Sha1, gix_object::Kind::Tag, tag.as_bytes()).unwrap();
        pack.extend([0xc0 | (tag.len() & 15) as u8, (tag.len() >> 4) as u8]);
        let mut zlib = flate2::write::ZlibEncoder::new(&mut pack, flate2::Compression::fast());
        zlib.write_all(tag.as_bytes()).unwrap();
        zlib.finish().unwrap();
        last = id.to_string();
        target = format!("object {last}\ntype tag");
    }
    let mut hasher = gix_hash::hasher(gix_hash::Kind::Sha1);
    hasher.update(&pack);
    pack.extend_from_slice(hasher.try_finalize().unwrap().as_slice());
    served.feed(&["index-pack", "--stdin"], &pack);
    // Each of these is peeled separately, or all of them at once.
    for number in 0..100 {
        std::fs::write(served.path.join(format!("refs/tags/top{number}")), format!("{last}\n")).unwrap();
    }
    let lines = framed(&["command=ls-refs", "0001", "peel", "ref-prefix refs/tags/top", "0000"]);
    let (ours, gits) = both(&site.cgi("POST", "/acme/site.git/git-upload-pack").protocol(2).body(lines));
    assert!(ours.status == 200 && ours.text() == gits.text(), "{}", ours.stderr);
}

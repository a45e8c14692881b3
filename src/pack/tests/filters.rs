//! Filters: the selection is what git would send, and needs no bases that the client lacks.

use super::*;
use crate::odb::closure::{Filter, Patterns, TooManyPaths};
use crate::protocol::Limits;
use crate::protocol::filter::FilterSpec;
use gix_object::Kind;

/// Makes a filter from its text, as the service does; expressions are resolved by git.
fn filter(repo: &Repo, text: &str) -> Filter {
    fn add(repo: &Repo, spec: &FilterSpec, filter: &mut Filter) {
        match spec {
            FilterSpec::BlobNone => filter.without_blobs(),
            FilterSpec::BlobLimit(size) => filter.limit_blobs(*size),
            FilterSpec::Tree(depth) => filter.limit_depth(*depth),
            FilterSpec::ObjectType(kind) => filter.only(*kind),
            FilterSpec::SparseOid(name) => {
                let patterns = repo.run(&["cat-file", "blob", &name.to_string()], b"").unwrap();
                filter.only_at(Patterns::parse(&patterns)).unwrap();
            }
            FilterSpec::Combine(parts) => parts.iter().for_each(|part| add(repo, part, filter)),
        }
    }
    let mut filter = Filter::default();
    add(repo, &FilterSpec::parse(text.as_bytes(), &Limits::default()).unwrap(), &mut filter);
    filter
}

/// The objects git would send.
fn expected(repo: &Repo, wants: &[ObjectId], haves: &[ObjectId], filter: &str) -> BTreeSet<ObjectId> {
    let mut input = String::new();
    wants.iter().for_each(|id| input.push_str(&format!("{id}\n")));
    haves.iter().for_each(|id| input.push_str(&format!("^{id}\n")));
    let filter = format!("--filter={filter}");
    let listed = repo.run(&["rev-list", "--objects", &filter, "--stdin"], input.as_bytes()).unwrap();
    let id = |line: &str| ObjectId::from_hex(&line.as_bytes()[..repo.hash.len_in_hex()]).unwrap();
    String::from_utf8_lossy(&listed).lines().map(id).collect()
}

fn selected(repo: &Repo, wants: &[ObjectId], common: &[ObjectId], text: &str) -> BTreeSet<ObjectId> {
    let (objects, filter) = (repo.objects(), filter(repo, text));
    let request = Request { wants, common, filter: Some(&filter), ..Request::default() };
    let selection = select(&objects, &request, &mut Silent).unwrap();
    let ids = ids(&selection, &objects);
    assert_eq!(selection.count as usize, ids.len());
    ids
}

fn check_filter(repo: &Repo, wants: &[ObjectId], haves: &[ObjectId], text: &str) {
    let (ours, gits) = (selected(repo, wants, haves, text), expected(repo, wants, haves, text));
    let case = format!("{text}: wants {wants:?} haves {haves:?}");
    assert_eq!(gits.difference(&ours).collect::<Vec<_>>(), Vec::<&ObjectId>::new(), "{case}: missing");
    // git leaves out trees and blobs that are wanted by name if it also finds them below something else.
    let more: BTreeSet<_> = ours.difference(&gits).copied().collect();
    let named = named(repo, wants);
    assert_eq!(more.difference(&named).collect::<Vec<_>>(), Vec::<&ObjectId>::new(), "{case}: too many");
    let asked = wants.iter().filter(|want| named.contains(*want) && !haves.contains(want));
    asked.for_each(|want| assert!(ours.contains(want), "{case}: {want} was asked for"));
}

/// The trees and blobs among the wants, and those that their tags peel to.
fn named(repo: &Repo, wants: &[ObjectId]) -> BTreeSet<ObjectId> {
    let objects = repo.objects();
    let peeled = wants.iter().map(|id| objects.peel(id).unwrap().unwrap());
    peeled.filter(|(_, kind)| matches!(kind, Kind::Tree | Kind::Blob)).map(|(id, _)| id).collect()
}

const FILTERS: &[&str] = &[
    "blob:none",
    "blob:limit=0",
    "blob:limit=1",
    "blob:limit=3",
    "blob:limit=1k",
    "blob:limit=1g",
    "tree:0",
    "tree:1",
    "tree:2",
    "tree:3",
    "tree:100",
    "object:type=commit",
    "object:type=tree",
    "object:type=blob",
    "object:type=tag",
    "sparse:oid=refs/tags/patterns",
    "sparse:oid=refs/tags/unended",
    "combine:blob:none+tree:2",
    "combine:object:type=blob+blob:limit=3",
];

const PATTERNS: &str = r#"
    printf '/*\n!/d/\n/d/e/\n!side\n' | git hash-object -w --stdin | xargs git update-ref refs/tags/patterns
    printf '/*\n!/d/' | git hash-object -w --stdin | xargs git update-ref refs/tags/unended
"#;

/// Requests on [`SHAPES`], including objects of other kinds.
const ASKED: &[(&[&str], &[&str])] = &[
    (&["m2"], &[]),
    (&["m2"], &["two"]),
    (&["m2", "revert", "other"], &["three", "side"]),
    (&["cross", "two"], &["one", "side"]),
    (&["ann2"], &[]),
    (&["treetag", "blobtag"], &[]),
    (&["one^{tree}"], &[]),
    (&["one:big", "two:d"], &[]),
    (&["m2", "ann2", "treetag"], &["side"]),
];

#[test]
fn each_filter_selects_what_git_would() {
    // With bitmaps, and with bitmaps for only a part of the objects.
    let packs = "git rev-list --objects two | git pack-objects -q ../objects/pack/pack >/dev/null
        git rev-list --objects --all | git pack-objects -q ../objects/pack/pack >/dev/null
        git prune-packed -q; git multi-pack-index write --bitmap";
    let newer = "git repack -adbq; at m2; seq 1 450 >big; echo new >d/z; c m2 m2";
    for (arrange, asked) in [
        ("", &ASKED[..2]),
        ("git repack -adq; git commit-graph write --reachable", ASKED),
        ("git repack -adbq", ASKED),
        (packs, ASKED),
        (newer, &ASKED[..5]),
    ] {
        let repo = Repo::made_by(gix_hash::Kind::Sha1, &format!("{SHAPES}\n{PATTERNS}\n{arrange}"));
        for (wants, haves) in asked {
            let (wants, haves) = (repo.ids(wants), repo.ids(haves));
            FILTERS.iter().for_each(|filter| check_filter(&repo, &wants, &haves, filter));
        }
    }
}

/// Pseudorandom numbers, always the same.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// A history with few names and few contents, so that the same trees and blobs occur at many paths and depths.
fn tangled(random: &mut Random) -> Repo {
    let repo = Repo::new(gix_hash::Kind::Sha1);
    let mut stream = String::new();
    for (name, text) in [("patterns", "/*\n!a/\nb/\n!/c/\na/b/c\n"), ("others", "*\n!/a/*\nb/*/\n")] {
        let id = repo.run(&["hash-object", "-w", "--stdin"], text.as_bytes()).unwrap();
        repo.git(&["update-ref", &format!("refs/tags/{name}"), String::from_utf8_lossy(&id).trim_end()]);
    }
    for commit in 0..14 {
        // Each branch starts with a root commit.
        let branch = if commit < 3 { commit } else { random.below(3) };
        stream += &format!("commit refs/heads/b{branch}\nmark :{}\n", commit + 1);
        stream += &format!("committer C <c@example.com> {} +0000\ndata 1\nx\n", 1_700_000_000 + commit);
        if commit > 2 && random.below(3) == 0 {
            stream += &format!("merge :{}\n", 1 + random.below(commit));
        }
        for _ in 0..=random.below(6) {
            let depth = random.below(5);
            let path: String = (0..depth).map(|_| format!("{}/", ["a", "b", "c"][random.below(3) as usize])).collect();
            let name = ["f", "g", "b.x"][random.below(3) as usize];
            let size = [0, 1, 10, 100, 3000][random.below(5) as usize];
            match random.below(6) {
                0 if depth > 0 => stream += &format!("D {}\n", path.trim_end_matches('/')),
                _ => stream += &format!("M 100644 inline {path}{name}\ndata {size}\n{}\n", "x".repeat(size)),
            }
        }
        if random.below(2) == 0 {
            // The same tree again, deeper or higher.
            let (from, to) = [("a/y", "c/b/x"), ("c/b/x", "a/y"), ("b", "c/a/b/x")][random.below(3) as usize];
            stream += &format!("M 100644 inline {from}/new\ndata 2\n{commit:02}\nC {from} {to}\n");
        }
        stream += "\n";
    }
    repo.run(&["fast-import", "--quiet"], stream.as_bytes()).unwrap();
    repo
}

#[test]
fn random_histories_are_filtered_as_git_would() {
    let mut random = Random(7);
    for round in 0..6 {
        let repo = tangled(&mut random);
        if round % 2 == 1 {
            repo.git(&["repack", "-adbq"]);
        }
        let tips: Vec<_> = (0..3).map(|branch| repo.id(&format!("b{branch}"))).collect();
        let all = repo.git(&["rev-list", "--all"]);
        let all: Vec<_> = all.lines().map(|line| ObjectId::from_hex(line.as_bytes()).unwrap()).collect();
        for filter in ["blob:none", "blob:limit=11", "tree:1", "tree:2", "tree:3", "tree:4", "object:type=blob"] {
            check_filter(&repo, &tips, &[], filter);
            let have = all[random.below(all.len() as u64) as usize];
            check_filter(&repo, &tips, &[have], filter);
        }
        for filter in ["sparse:oid=refs/tags/patterns", "sparse:oid=refs/tags/others"] {
            check_filter(&repo, &tips, &[], filter);
            check_filter(&repo, &tips[..1], &tips[1..], filter);
        }
        let parts = ["tree:3", "blob:limit=11", "sparse:oid=refs/tags/patterns", "sparse:oid=refs/tags/others"];
        let (one, other) = (parts[round % 4], parts[(round + 1) % 4]);
        let both = format!("combine:{one}+{other}");
        let ours = selected(&repo, &tips, &[], &both);
        // git asks each part of a combination only until it has accepted an object once, and may miss objects that all
        // parts accept elsewhere.
        assert!(expected(&repo, &tips, &[], &both).is_subset(&ours), "{both}");
        for part in [one, other] {
            assert!(ours.is_subset(&expected(&repo, &tips, &[], part)), "{both}");
        }
    }
}

#[test]
fn what_is_left_out_is_not_even_looked_for() {
    let repo = Repo::made_by(gix_hash::Kind::Sha1, SHAPES);
    let tips = repo.ids(&["m2", "side"]);
    let all = expected(&repo, &tips, &[], "blob:limit=1g");
    for filter in ["blob:none", "tree:0", "tree:1", "object:type=commit", "combine:tree:2+blob:none"] {
        let sent = expected(&repo, &tips, &[], filter);
        let bare = Repo::new(repo.hash);
        for id in &sent {
            let hex = id.to_string();
            std::fs::create_dir_all(bare.dir.join("objects").join(&hex[..2])).unwrap();
            let path = format!("objects/{}/{}", &hex[..2], &hex[2..]);
            std::fs::copy(repo.dir.join(&path), bare.dir.join(&path)).unwrap();
        }
        assert_eq!(selected(&bare, &tips, &[], filter), sent, "{filter}");
        assert!(sent.len() < all.len());
    }
}

/// A delta may be based on a tree that was sent with `blob:none` before, but not on a blob that was not.
#[test]
fn thin_packs_rest_on_nothing_that_a_filter_left_out() {
    let repo = Repo::made_by(
        gix_hash::Kind::Sha1,
        r#"
            seq 1 2000 >big; for n in $(seq 100); do echo $n >small$n; done; c one
            seq 1 2001 >big; echo more >small1; c two one
            git repack -adfq --window=50
        "#,
    );
    let (wants, haves) = (repo.ids(&["two"]), repo.ids(&["one"]));
    for (text, thin_bases) in [
        ("blob:none", true),
        ("blob:limit=1m", true),
        ("tree:0", false),
        ("tree:2", false),
        ("object:type=tree", true),
        ("combine:tree:1+blob:none", false),
    ] {
        let (objects, filter) = (repo.objects(), filter(&repo, text));
        let request =
            Request { wants: &wants, common: &haves, filter: Some(&filter), thin: true, ..Request::default() };
        let selection = select(&objects, &request, &mut Silent).unwrap();
        assert_eq!(!selection.bases.is_empty(), thin_bases, "{text}");
        let mut out = Vec::new();
        write(&selection, &objects, &options(true, true), &mut out).unwrap();
        // The client has exactly what the filter let pass.
        let client = Repo::new(repo.hash);
        let has: String = expected(&repo, &haves, &[], text).iter().map(|id| format!("{id}\n")).collect();
        let before = repo.run(&["pack-objects", "--stdout", "-q"], has.as_bytes()).unwrap();
        client.run(&["index-pack", "--stdin"], &before).unwrap();
        let indexed = client.run(&["index-pack", "--stdin", "--fix-thin"], &out);
        indexed.unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

/// A server that is a partial clone itself: objects referred to by a promisor pack may be missing, others may not
/// (CO-06).
#[test]
fn promised_objects_may_be_missing() {
    let origin = Repo::made_by(gix_hash::Kind::Sha1, &format!("{SHAPES}\ngit repack -adq"));
    origin.git(&["config", "uploadpack.allowFilter", "true"]);
    let tips = origin.ids(&["m2", "ann2"]);
    for filter in ["blob:none", "tree:1"] {
        let partial = Repo::new(origin.hash);
        partial.git(&["remote", "add", "origin", &format!("file://{}", origin.dir.display())]);
        partial.git(&["fetch", "-q", &format!("--filter={filter}"), "origin", "+refs/*:refs/*"]);
        // From here on missing objects are not fetched.
        partial.git(&["config", "remote.origin.url", "nowhere"]);
        let commit = |tree: &str| {
            let tree = partial.run(&["mktree", "--missing"], tree.as_bytes()).unwrap();
            let tree = String::from_utf8(tree).unwrap();
            partial.git(&["commit-tree", "-m", "new", "-p", "m2", tree.trim_end()])
        };
        let (big, unknown) = (origin.id("two:big"), ObjectId::from([7; 20]));
        let moved = commit(&format!("100644 blob {big}\tmoved\n"));
        let below = commit(&format!("040000 tree {}\tmoved\n", origin.id("two:d")));
        let invented = commit(&format!("100644 blob {big}\tmoved\n100644 blob {unknown}\tnew\n"));
        let check = |tip: &str, missing| {
            let objects = partial.objects();
            let tip = ObjectId::from_hex(tip.as_bytes()).unwrap();
            connectivity::check(&objects, &[tip], &tips, Terms { missing, ..TERMS }, &mut Silent).unwrap()
        };
        assert_eq!(check(&moved, Missing::Promised), Ok(()), "{filter}");
        assert_eq!(check(&below, Missing::Promised), Ok(()), "{filter}");
        assert_eq!(check(&moved, Missing::Refused), Err(Gap::Object(big)), "{filter}");
        assert_eq!(check(&invented, Missing::Promised), Err(Gap::Object(unknown)), "{filter}: nobody promised that");
        // A client that fetches missing objects elsewhere gets those that are here.
        let send = |tip: &str, missing| {
            let wants = [ObjectId::from_hex(tip.as_bytes()).unwrap()];
            let request = Request { wants: &wants, missing, ..Request::default() };
            let objects = partial.objects();
            select(&objects, &request, &mut Silent).map(|selection| ids(&selection, &objects))
        };
        let sent = send(&moved, Missing::Promised).unwrap();
        assert!(sent.contains(&tips[0]) && !sent.contains(&big));
        assert!(send(&moved, Missing::Refused).is_err() && send(&invented, Missing::Promised).is_err());
    }
}

/// Patterns that could take long are limited by the worst case.
#[test]
fn patterns_are_not_held_against_paths_for_ever() {
    let repo = Repo::new(gix_hash::Kind::Sha1);
    let file = String::from_utf8(repo.run(&["hash-object", "-w", "--stdin"], b"x").unwrap()).unwrap();
    let names = (0..40_000).map(|n| format!("100644 blob {}\tfile-{n:05}-with-a-longer-name\n", file.trim_end()));
    let tree = repo.run(&["mktree"], names.collect::<String>().as_bytes()).unwrap();
    let commit = repo.git(&["commit-tree", "-m", "many", String::from_utf8(tree).unwrap().trim_end()]);
    let wants = [ObjectId::from_hex(commit.as_bytes()).unwrap()];
    let find = |stars: usize| {
        let mut filter = Filter::default();
        // The last pattern decides, so that matching is fast here.
        let patterns = format!("/{}\n!*\n", "*".repeat(stars));
        filter.only_at(Patterns::parse(patterns.as_bytes())).unwrap();
        let request = Request { wants: &wants, filter: Some(&filter), ..Request::default() };
        select(&repo.objects(), &request, &mut Silent).map(|selection| selection.count)
    };
    assert_eq!(find(1).unwrap(), 2);
    assert!(find(4 << 20).unwrap_err().is::<TooManyPaths>());
}

/// A few trees at more paths than could ever be walked: each contains the previous one eight times.
#[test]
fn a_tree_at_very_many_paths_is_walked_as_often_as_patterns_can_tell_it_apart() {
    let repo = Repo::new(gix_hash::Kind::Sha1);
    let write = |lines: String| {
        let tree = repo.run(&["mktree"], lines.as_bytes()).unwrap();
        String::from_utf8(tree).unwrap().trim_end().to_owned()
    };
    let blob = |text: &str| {
        let id = repo.run(&["hash-object", "-w", "--stdin"], text.as_bytes()).unwrap();
        String::from_utf8(id).unwrap().trim_end().to_owned()
    };
    let file = blob("x");
    let mut tree = write(format!("100644 blob {file}\tleaf\n100644 blob {}\tother\n", blob("y")));
    for _ in 0..16 {
        tree = write((0..8).map(|n| format!("040000 tree {tree}\td{n}\n")).collect());
    }
    let commit = repo.git(&["commit-tree", "-m", "bomb", &tree]);
    let wants = [ObjectId::from_hex(commit.as_bytes()).unwrap()];
    let find = |patterns: &str| {
        let mut filter = Filter::default();
        filter.only_at(Patterns::parse(patterns.as_bytes())).unwrap();
        let request = Request { wants: &wants, filter: Some(&filter), ..Request::default() };
        select(&repo.objects(), &request, &mut Silent).map(|selection| selection.count)
    };
    // The commit, 17 trees and the matches.
    assert_eq!(find("leaf\n").unwrap(), 19);
    assert_eq!(find("/*\n!/*/\n/d3/\n").unwrap(), 20);
    assert_eq!(find("/d1/d2/d3/*\n!d5/\n!other\n").unwrap(), 19);
    assert!(find("d1/**/nothing\n").unwrap_err().is::<TooManyPaths>());
}

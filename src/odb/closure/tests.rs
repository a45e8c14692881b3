//! Closures are the same however many threads read trees.

use super::*;
use crate::odb::Location;
use crate::odb::bitmap::Bits;
use crate::odb::tests::Repo;
use crate::stream::Silent;
use std::collections::BTreeSet;
use std::fs;

/// Numbers of threads: one, two, and more than there are parts.
const THREADS: [usize; 3] = [1, 2, 8];

/// Everything reachable from `wants` and not from `known`, by name, and each pair of relatives.
type Found = (BTreeSet<ObjectId>, Vec<(ObjectId, ObjectId)>);

fn find(repo: &Repo, threads: usize, wants: &[&str], known: &[&str], filter: &Filter) -> Result<Found, String> {
    let mut objects = repo.objects();
    objects.set_threads(threads);
    let ids = |names: &[&str]| names.iter().map(|name| repo.id(name)).collect::<Vec<_>>();
    let (wants, known) = (ids(wants), ids(known));
    let search = Search {
        wants: &wants,
        known: &known,
        effort: Effort::Exact,
        filter,
        missing: Missing::Refused,
        levels_max: None,
        peeled: &[],
    };
    let closure = Closure::find(&objects, &search, &mut Silent).map_err(|error| format!("{error:#}"))?;
    let id = |number| closure.numbers.id(number).to_owned();
    let numbers = objects.packs(false).unwrap().into_iter().flat_map(|pack| {
        (0..objects.pack(pack).len()).map(|position| objects.pack(pack).id_at(position).to_owned()).collect::<Vec<_>>()
    });
    let strays = closure.numbers.all_strays().iter().map(|(id, _)| *id);
    let mut all: Vec<ObjectId> = numbers.chain(strays).collect();
    all.sort_unstable();
    all.dedup();
    let relatives = closure.relatives.iter().map(|(one, other)| (id(*one), id(*other))).collect();
    let mut numbers = closure.numbers;
    all.retain(|id| numbers.of(id).unwrap().is_some_and(|number| closure.found.contains(number)));
    Ok((all.into_iter().collect(), relatives))
}

/// Checks that any number of threads finds the same, and that this is what git lists.
fn check(repo: &Repo, wants: &[&str], known: &[&str], filter: &Filter, listed: &[&str]) {
    let alone = find(repo, 1, wants, known, filter).unwrap();
    let not: Vec<String> = known.iter().map(|name| format!("^{name}")).collect();
    let mut list = vec!["rev-list", "--objects", "--no-object-names"];
    list.extend(listed.iter().chain(wants).copied().chain(not.iter().map(String::as_str)));
    assert!(alone.0 == repo.ids(&list).into_iter().collect(), "{list:?}");
    for threads in THREADS {
        let found = find(repo, threads, wants, known, filter).unwrap();
        assert!(found.0 == alone.0, "{threads} threads find something else of {list:?}");
        assert!(found.1 == alone.1, "{threads} threads relate something else of {list:?}");
    }
}

/// A history with more root trees, and more trees in `dir`, than one thread reads; the newest ones are loose.
fn long_history() -> Repo {
    let repo = Repo::with_history(gix_hash::Kind::Sha1, 1300);
    repo.git(&["-c", "repack.writeBitmaps=false", "repack", "-adfq", "--depth=20"], b"");
    repo.import("refs/heads/main", 1301, 20);
    repo
}

/// The same in several packs, and with enough loose trees for several threads.
fn history_of_several_packs() -> Repo {
    let repo = long_history();
    repo.import("refs/heads/main", 1321, 330);
    repo.git(&["-c", "repack.writeBitmaps=false", "repack", "-dq"], b"");
    repo.import("refs/heads/main", 1651, 300);
    repo
}

/// Enough places in the history that other threads begin at some of them.
const ENDS: [&str; 20] = [
    "main",
    "main~100",
    "main~200",
    "main~300",
    "main~400",
    "main~500",
    "main~600",
    "main~700",
    "main~800",
    "main~900",
    "main~1000",
    "main~1100",
    "main~1200",
    "main~1300",
    "main~1400",
    "main~1500",
    "main~1600",
    "main~1700",
    "main~1800",
    "main~50",
];

/// Changes one stored byte of a packed object.
fn damage(repo: &Repo, id: &ObjectId) {
    let objects = repo.objects();
    let Some(Location::Packed { pack, position }) = objects.locate(id).unwrap() else { panic!("is packed") };
    let (pack, mut permissions) = (objects.pack(pack), fs::metadata(&repo.root).unwrap().permissions());
    let at = usize::try_from(pack.head_at(pack.offset_at(position)).unwrap().data).unwrap();
    let mut bytes = fs::read(pack.path()).unwrap();
    bytes[at + 5] ^= 0x55;
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    fs::set_permissions(pack.path(), permissions).unwrap();
    fs::write(pack.path(), bytes).unwrap();
}

#[test]
fn many_threads_find_what_one_finds() {
    let repo = long_history();
    let all = Filter::default();
    check(&repo, &["main"], &[], &all, &[]);
    check(&repo, &["main", "v2"], &["main~1200"], &all, &[]);
    let (mut trees, mut shallow) = (Filter::default(), Filter::default());
    trees.without_blobs();
    shallow.limit_depth(2);
    check(&repo, &["main"], &[], &trees, &["--filter=blob:none"]);
    check(&repo, &["main"], &[], &shallow, &["--filter=tree:2"]);
}

#[test]
fn many_threads_say_of_damage_what_one_says() {
    let repo = long_history();
    damage(&repo, &repo.id("main~700^{tree}"));
    let said = find(&repo, 1, &["main"], &[], &Filter::default()).expect_err("a tree is damaged");
    assert!(said.starts_with("bad tree"), "{said}");
    for threads in THREADS {
        let found = find(&repo, threads, &["main"], &[], &Filter::default());
        assert_eq!(found.expect_err("a tree is damaged"), said, "{threads} threads");
    }
}

#[test]
fn many_threads_find_in_several_packs_what_one_finds_and_say_of_a_damaged_commit_what_one_says() {
    let repo = history_of_several_packs();
    check(&repo, &ENDS, &[], &Filter::default(), &[]);
    // For some of these git would have to read the damaged commit, so resolve them first.
    let ends = ENDS.map(|name| repo.id(name).to_string());
    let ends = ends.each_ref().map(String::as_str);
    damage(&repo, &repo.id("main~1350"));
    let find = |threads| find(&repo, threads, &ends, &[], &Filter::default()).expect_err("a commit is damaged");
    let said = find(1);
    assert!(said.starts_with("bad commit"), "{said}");
    assert_eq!(THREADS.map(find), [(); THREADS.len()].map(|()| said.clone()));
}

#[test]
fn it_is_given_up_only_where_bitmaps_tell_too_little() {
    // The bitmap of `side` covers all commits between it and the other parent of `known`, which is walked first.
    let repo = Repo::with_history(gix_hash::Kind::Sha1, 260);
    repo.git(&["branch", "side", "main"], b"");
    repo.import("refs/heads/side", 261, 1);
    let parents = ["commit-tree", "-p", "side", "-p", "main~120", "-m", "both", "side^{tree}"];
    let known = String::from_utf8(repo.git(&parents, b"")).unwrap();
    repo.git(&["branch", "known", known.trim()], b"");
    repo.git(&["-c", "repack.writeBitmaps=false", "repack", "-adq"], b"");
    let objects = repo.objects();
    let [pack] = objects.packs(true).unwrap()[..] else { panic!("git left more than one pack") };
    crate::odb::bitmap::write::for_pack(&objects, pack, &[repo.id("side")], Default::default(), &mut Silent).unwrap();
    // These commits are not packed.
    repo.git(&["branch", "new", "side"], b"");
    repo.import("refs/heads/new", 262, 4);
    let objects = repo.objects();
    let stored = objects.bitmaps(u64::MAX).unwrap().expect("bitmaps can be used");
    let index = |name: &str| objects.pack(pack).position(&repo.id(name)).unwrap();
    assert!(stored.bitmaps.has(index("side")));
    assert!((120..125).all(|back| !stored.bitmaps.has(index(&format!("main~{back}")))));
    let check = |tip: &str, most: usize, beyond: Option<usize>| {
        let mut numbers = Numbers::new(&objects);
        numbers.begin_with(&stored).unwrap();
        let mut tips = Tips::default();
        tips.add_all(&[repo.id(tip)], &mut numbers, &mut Marks::default(), &mut Vec::new()).unwrap();
        let none = Bits::none(stored.bitmaps.objects());
        let reached =
            bitmap_walk::reach(&mut numbers, &stored, &tips, none, &Marks::default(), most, &mut Silent).unwrap();
        assert_eq!(reached.map(|reached| reached.roots.len()), beyond, "{tip}, {most}");
    };
    // `known` has the tree of `side`.
    check("known", 1, Some(0));
    check("new", 3, None);
    check("new", 4, Some(4));
}

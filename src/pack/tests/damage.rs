//! Objects that are missing or damaged.

use super::*;

#[test]
fn a_missing_object_is_named() {
    let repo = Repo::made_by(gix_hash::Kind::Sha1, SHAPES);
    let wants = repo.ids(&["m2"]);
    for name in ["two:big", "three:d/e", "side"] {
        let id = repo.id(name);
        let hex = id.to_string();
        let path = repo.dir.join("objects").join(&hex[..2]).join(&hex[2..]);
        let content = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let objects = repo.objects();
        let request = Request { wants: &wants, ..Request::default() };
        let error = select(&objects, &request, &mut Silent).unwrap_err();
        assert_eq!(error.downcast_ref::<Broken>().map(|broken| broken.id), Some(id), "{error:#}");
        assert_eq!(connectivity::check(&objects, &wants, &[], TERMS, &mut Silent).unwrap(), Err(Gap::Object(id)));
        // What is missing below a known tip does not matter.
        assert_eq!(connectivity::check(&objects, &repo.ids(&["revert"]), &wants, TERMS, &mut Silent).unwrap(), Ok(()));
        std::fs::write(&path, content).unwrap();
    }
}

/// A commit that changes nothing needs no object that the client lacks.
#[test]
fn a_missing_tree_that_the_client_has_is_not_asked_for() {
    let script = "echo a >f; git add f; git commit -qm1; git tag one; git commit -q --allow-empty -m2; git tag two
        echo b >f; git commit -qam3; git tag three";
    let repo = Repo::made_by(gix_hash::Kind::Sha1, script);
    let tree = repo.id("one^{tree}");
    let hex = tree.to_string();
    std::fs::remove_file(repo.dir.join("objects").join(&hex[..2]).join(&hex[2..])).unwrap();
    let send = |want: &str, have: &[&str]| {
        let (wants, common) = (repo.ids(&[want]), repo.ids(have));
        let request = Request { wants: &wants, common: &common, ..Request::default() };
        let selected = select(&repo.objects(), &request, &mut Silent);
        selected.map(|selection| selection.count).map_err(|error| error.downcast::<Broken>().unwrap().id)
    };
    assert_eq!(send("two", &["one"]), Ok(1));
    assert_eq!(send("three", &["one"]), Ok(4));
    assert_eq!(send("three", &["two"]), Ok(3));
    assert_eq!(send("two", &[]), Err(tree));
}

/// Flips a bit of the checksum at the end of an object's zlib stream.
pub fn damage(repo: &Repo, id: &ObjectId) {
    let objects = repo.objects();
    let Some(crate::odb::Location::Packed { pack, position }) = objects.locate(id).unwrap() else {
        panic!("not packed")
    };
    let pack = objects.pack(pack);
    let end = pack.ends_of(&[position])[0];
    let mut bytes = std::fs::read(pack.path()).unwrap();
    bytes[end as usize - 1] ^= 0x20;
    std::fs::remove_file(pack.path()).unwrap();
    std::fs::write(pack.path(), bytes).unwrap();
}

#[test]
fn a_damaged_entry_never_gives_a_complete_pack() {
    let repo = Repo::made_by(gix_hash::Kind::Sha1, &format!("{SHAPES}\ngit repack -adq"));
    let wants = repo.ids(&["merge"]);
    damage(&repo, &repo.id("merge:d/z"));
    let objects = repo.objects();
    let request = Request { wants: &wants, ..Request::default() };
    let selection = select(&objects, &request, &mut Silent).unwrap();
    for (thin, ofs_delta) in FORMS {
        let mut out = Vec::new();
        let error = write(&selection, &objects, &options(thin, ofs_delta), &mut out).unwrap_err();
        assert!(format!("{error:#}").contains("damaged"), "{error:#}");
    }
}

#[test]
fn another_copy_stands_in_for_a_damaged_entry() {
    let repo = Repo::made_by(gix_hash::Kind::Sha1, &format!("{SHAPES}\ngit repack -aq"));
    damage(&repo, &repo.id("merge:d/z"));
    let wants = repo.ids(&["merge"]);
    let (bytes, _) = pack(&repo.objects(), &wants, &[], &options(false, true));
    let client = Repo::new(gix_hash::Kind::Sha1);
    client.run(&["index-pack", "--strict", "--stdin"], &bytes).unwrap();
    assert_eq!(client.git(&["cat-file", "-p", &repo.id("merge:d/z").to_string()]), "z");
}

#[test]
fn a_version_that_cannot_be_read_is_no_base() {
    use crate::pack::make::{Maker, Outcome, Recipe, Version};
    let repo = Repo::made_by(gix_hash::Kind::Sha1, "seq 1 450 >big; c one");
    let (objects, id) = (repo.objects(), repo.ids(&["one:big"])[0]);
    let location = objects.locate(&id).unwrap().unwrap();
    let gone = gix_hash::ObjectId::from([7; 20]);
    let bases = vec![Version { id: gone, location: crate::odb::Location::Loose(0), kinship: None }];
    let made = Maker::new(8 << 20).make(&objects, &Recipe { id, location, bases, or_whole: true });
    assert_eq!(made.unwrap(), Outcome::Whole(gix_object::Kind::Blob));
}

/// A tree may declare any object to be a blob. That the object exists does not prove that what it refers to exists as
/// well.
#[test]
fn what_is_called_a_blob_and_something_else_too_is_not_connected() {
    let repo = Repo::made_by(gix_hash::Kind::Sha1, SHAPES);
    let write = |kind: &str, content: &[u8]| {
        let id = repo.run(&["hash-object", "-t", kind, "-w", "--stdin"], content).unwrap();
        ObjectId::from_hex(id.trim_ascii_end()).unwrap()
    };
    let tree = |entries: &[(&str, &str, ObjectId)]| {
        let entry =
            |(mode, name, id): &(&str, &str, ObjectId)| [format!("{mode} {name}\0").as_bytes(), id.as_bytes()].concat();
        write("tree", &entries.iter().map(entry).collect::<Vec<_>>().concat())
    };
    let commit = |tree: ObjectId, parents: &[ObjectId]| {
        let parents: String = parents.iter().map(|parent| format!("parent {parent}\n")).collect();
        write("commit", format!("tree {tree}\n{parents}author A <a> 1 +0000\ncommitter C <c> 1 +0000\n\n").as_bytes())
    };
    let tag = |kind: &str, of: ObjectId| {
        write("tag", format!("object {of}\ntype {kind}\ntag t\ntagger T <t> 1 +0000\n\n").as_bytes())
    };
    // Compares our verdict and git's on what these tips reach.
    let check = |tips: &[ObjectId], known: &[ObjectId], expected: bool, case: &str| {
        let (tips_text, known_text) = (format!("{tips:?}"), format!("{known:?}"));
        let input: String =
            tips.iter().map(|id| format!("{id}\n")).chain(known.iter().map(|id| format!("^{id}\n"))).collect();
        let theirs = repo.run(&["rev-list", "--objects", "--quiet", "--stdin"], input.as_bytes());
        assert_eq!(theirs.is_ok(), expected, "git, {case}: {tips_text} {known_text} {theirs:?}");
        for threads in [1, 4] {
            let mut objects = repo.objects();
            objects.set_threads(threads);
            let ours = connectivity::check(&objects, tips, known, TERMS, &mut Silent).unwrap();
            assert_eq!(ours.is_ok(), expected, "{case}: {ours:?}");
        }
    };
    let hollow = tree(&[("100644", "gone", ObjectId::from([7; 20]))]);
    let (whole, old) = (repo.id("two:d"), repo.id("one"));
    let (blob, gitlink, directory) = ("100644", "160000", "40000");
    for inner in [hollow, whole] {
        let called_blob = tree(&[(blob, "a", inner)]);
        let called_tree = tree(&[(directory, "b", inner)]);
        let both = [
            ("blob first", tree(&[(blob, "a", inner), (directory, "b", inner)])),
            ("tree first", tree(&[(directory, "a", inner), (blob, "b", inner)])),
            ("below", tree(&[(directory, "a", called_blob), (directory, "b", called_tree)])),
            ("below, tree first", tree(&[(directory, "a", called_tree), (directory, "b", called_blob)])),
            ("deeper", tree(&[(blob, "a", inner), (directory, "b", called_tree)])),
        ];
        for (case, root) in both {
            check(&[commit(root, &[])], &[], false, case);
            check(&[commit(root, &[old])], &[old], false, case);
        }
        let (first, next) = (commit(called_blob, &[old]), commit(called_tree, &[old]));
        check(&[commit(inner, &[first])], &[old], false, "a commit's tree");
        check(&[first, next], &[old], false, "two commits");
        check(&[first, tag("tree", inner)], &[old], false, "a tag's tree");
        check(&[first, inner], &[old], false, "a wanted tree");
        check(&[tag("blob", inner)], &[old], false, "a tag's blob that is a tree");
        check(
            &[commit(tree(&[(blob, "a", inner), (directory, "b", inner)]), &[first])],
            &[first],
            false,
            "known as blob",
        );
        // git does not check the object's type.
        let ours = connectivity::check(&repo.objects(), &[first], &[old], TERMS, &mut Silent).unwrap();
        assert_eq!(ours, Err(Gap::Object(inner)), "a blob alone");
        check(&[commit(tree(&[(gitlink, "a", inner)]), &[old])], &[old], true, "a gitlink alone");
    }
    let two = repo.id("two");
    check(&[commit(tree(&[(blob, "a", whole), (directory, "d", whole)]), &[two])], &[two], false, "known as tree");
    check(&[commit(tree(&[(gitlink, "a", whole), (directory, "b", whole)]), &[old])], &[old], true, "a gitlink's name");
    // Objects that refs point to are known, but not as the type that a commit declares.
    let annotated = repo.id("ann");
    for other in [annotated, whole, repo.id("two:big")] {
        check(&[commit(repo.id("two^{tree}"), &[other])], &[old, two, other], false, "a parent that is no commit");
    }
    check(&[commit(two, &[two])], &[two], false, "a commit's tree that is a known commit");
    check(&[commit(tree(&[(directory, "a", two)]), &[two])], &[two], false, "a directory that is a known commit");
    check(&[commit(tree(&[(blob, "a", two)]), &[two])], &[two], false, "a file that is a known commit");
    check(
        &[commit(tree(&[(directory, "a", annotated)]), &[two])],
        &[two, annotated],
        false,
        "a directory that is a tag",
    );
}

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
        assert_eq!(connectivity::check(&objects, &wants, &[], Missing::Refused, &mut Silent).unwrap(), Err(id));
        // What is missing behind a known tip is not asked for.
        assert_eq!(
            connectivity::check(&objects, &repo.ids(&["revert"]), &wants, Missing::Refused, &mut Silent).unwrap(),
            Ok(())
        );
        std::fs::write(&path, content).unwrap();
    }
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
    let made = Maker::default().make(&objects, &Recipe { id, location, bases, or_whole: true });
    assert_eq!(made.unwrap(), Outcome::Whole(gix_object::Kind::Blob));
}

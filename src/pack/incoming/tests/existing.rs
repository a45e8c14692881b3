//! Objects that exist already, or that a pack has twice.

use super::*;

#[test]
fn the_same_object_twice_is_no_pack_to_keep() {
    let repo = Repo::new();
    let mut builder = Builder::new();
    let first = builder.blob(b"hello");
    let second = builder.blob(b"hello");
    builder.ofs_delta(first, &appending(5, b"!"));
    builder.ofs_delta(second, &appending(5, b"?"));
    let pack = builder.finish();
    for rules in [None, Some(Rules::strict())] {
        let error = repo.refuses(&pack, |options| options.fsck = rules.clone());
        assert_eq!(error.detail, format!("The same object {} appears twice in the pack", id_of(b"hello")));
    }
    let (received, quarantine) = repo.receive(&pack, |options| options.unpack_limit = 9);
    received.unwrap();
    quarantine.migrate().unwrap();
    repo.fsck();

    // A delta that refers by name to an object that is there twice, which git reports as resolved twice.
    let mut builder = Builder::new();
    builder.blob(b"hello");
    builder.blob(b"hello");
    builder.ref_delta(&id_of(b"hello"), &appending(5, b"."));
    let pack = builder.finish();
    repo.refuses(&pack, |_| ());
    assert!(repo.receive(&pack, |options| options.unpack_limit = 9).0.is_ok());
}

#[test]
fn an_existing_object_with_other_content_is_a_collision() {
    for (there, incoming) in [(&b"HELLO"[..], &b"hello"[..]), (b"longer than hello", b"hello")] {
        let repo = Repo::new();
        let id = id_of(incoming).to_string();
        let path = repo.objects_directory().join(&id[..2]).join(&id[2..]);
        fs::create_dir(path.parent().unwrap()).unwrap();
        let file = [format!("blob {}\0", there.len()).as_bytes(), there].concat();
        fs::write(&path, deflated(&file)).unwrap();
        let mut builder = Builder::new();
        builder.blob(incoming);
        let error = repo.refuses(&builder.finish(), |_| ());
        assert_eq!(error.detail, format!("SHA1 COLLISION FOUND WITH {id} !"));
    }
    // The same content is not a collision, packed or loose.
    let repo = Repo::new();
    let tip = repo.history(&contents(5));
    let pack = repo.pack(&tip, &["--delta-base-offset"]);
    for _ in 0..2 {
        let (received, quarantine) = repo.receive(&pack, |_| ());
        received.unwrap();
        quarantine.migrate().unwrap();
    }
    repo.fsck();
}

#[test]
fn an_object_that_exists_is_made_young_and_not_written_again() {
    let repo = Repo::new();
    let id = repo.blob(b"hello").to_string();
    let path = repo.objects_directory().join(&id[..2]).join(&id[2..]);
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    fs::File::open(&path).unwrap().set_modified(old).unwrap();
    let mut builder = Builder::new();
    builder.blob(b"hello");
    let (received, quarantine) = repo.receive(&builder.finish(), |options| options.unpack_limit = 9);
    received.unwrap();
    assert_eq!(files(quarantine.path()).len(), 1, "only the folder of packs");
    assert!(fs::metadata(&path).unwrap().modified().unwrap() > old);
}

#[test]
fn an_object_in_a_pack_is_written_again() {
    let repo = Repo::new();
    repo.blob(b"hello");
    repo.git(&["repack", "--cruft", "-d", "-q"], b"");
    let mut builder = Builder::new();
    builder.blob(b"hello");
    let (received, quarantine) = repo.receive(&builder.finish(), |options| options.unpack_limit = 9);
    received.unwrap();
    assert_eq!(files(quarantine.path()).iter().filter(|path| path.is_file()).count(), 1);
}

#[test]
fn an_object_in_a_pack_may_come_twice() {
    let large = vec![b'x'; crate::pack::small::CONTENT_MAX + 1];
    for content in [&b"hello"[..], &large] {
        let repo = Repo::new();
        repo.blob(content);
        repo.git(&["repack", "--cruft", "-d", "-q"], b"");
        let mut builder = Builder::new();
        builder.blob(content);
        builder.blob(content);
        let pack = builder.finish();
        let (received, quarantine) = repo.receive(&pack, |options| options.unpack_limit = 9);
        received.unwrap();
        quarantine.migrate().unwrap();
        repo.git(&["prune-packed"], b"");
        repo.fsck();
        let (success, _, said) = repo.try_git(&["unpack-objects", "-q"], &pack);
        assert!(success, "{said}");
    }
}

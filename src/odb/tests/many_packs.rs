//! Tests of many packs: multi-pack-indexes, sound and damaged, and packs that come and go.

use super::*;
use std::ffi::OsStr;

#[test]
fn several_packs_are_read_with_and_without_a_multi_pack_index() {
    let repo = Repo::with_history(SHA1, 10);
    for n in 1..8 {
        repo.git(&["repack", "-dq"], b"");
        repo.import("refs/heads/main", n * 10 + 1, 10);
    }
    check(&repo, &repo.objects());
    repo.git(&["multi-pack-index", "write"], b"");
    check(&repo, &repo.objects());
    // There are newer packs, and then one of its own packs is gone.
    repo.git(&["repack", "-dq"], b"");
    check(&repo, &repo.objects());
    let objects = repo.objects();
    assert_eq!(objects.packs(true).unwrap().len(), 8);
    let pack = &repo.pack_files("pack")[3];
    let bytes = fs::read(pack).unwrap();
    for extension in ["pack", "idx", "rev"] {
        fs::remove_file(pack.with_extension(extension)).unwrap();
    }
    repo.git(&["unpack-objects", "-q"], &bytes);
    check(&repo, &repo.objects());
}

#[test]
fn a_chain_of_multi_pack_indexes_is_read() {
    let repo = Repo::with_history(SHA1, 10);
    for n in 1..4 {
        repo.git(&["repack", "-dq"], b"");
        repo.git(&["multi-pack-index", "write", "--incremental"], b"");
        repo.import("refs/heads/main", n * 10 + 1, 10);
    }
    repo.git(&["repack", "-dq"], b"");
    assert!(repo.root.join("objects/pack/multi-pack-index.d/multi-pack-index-chain").exists());
    let objects = repo.objects();
    // An object that a layer names is found without looking at every pack index.
    let id = repo.id("main~15");
    objects.locate(&id).unwrap().unwrap();
    assert_eq!(objects.given[0].layers(), 3);
    check(&repo, &objects);
}

#[test]
fn a_multi_pack_index_of_version_2_names_its_packs_in_any_order() {
    let repo = Repo::with_history(SHA1, 10);
    repo.git(&["repack", "-dq"], b"");
    repo.import("refs/heads/main", 11, 10);
    repo.git(&["repack", "-dq"], b"");
    repo.git(&["multi-pack-index", "write"], b"");
    let path = repo.root.join("objects/pack/multi-pack-index");
    let mut bytes = fs::read(&path).unwrap();
    let (names, offsets) = (chunk_at(&bytes, b"PNAM"), chunk_at(&bytes, b"OOFF"));
    let length = bytes[names..].iter().position(|byte| *byte == 0).unwrap() + 1;
    bytes[names..names + 2 * length].rotate_left(length);
    let count = repo.contents().len();
    for object in 0..count {
        bytes[offsets + object * 8 + 3] ^= 1;
    }
    bytes[4] = 2;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    let midx = midx::Midx::open(&path, SHA1).unwrap();
    let objects = repo.objects();
    for pack in objects.packs(true).unwrap().into_iter().map(|id| objects.pack(id)) {
        for position in 0..pack.len() {
            let named = midx.name(midx.pack_of(pack.id_at(position)).unwrap()).unwrap();
            assert_eq!(Some(named), pack.path().with_extension("idx").file_name());
        }
    }
    check(&repo, &repo.objects());
    assert_eq!(repo.objects().given[0].layers(), 0, "nothing is opened before it is needed");
}

#[test]
fn a_damaged_multi_pack_index_is_passed_over_with_a_word_for_the_operator() {
    let repo = Repo::with_history(SHA1, 10);
    repo.git(&["repack", "-dq"], b"");
    repo.git(&["multi-pack-index", "write"], b"");
    let path = repo.root.join("objects/pack/multi-pack-index");
    let sound = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let (names, fan, offsets) = (chunk_at(&sound, b"PNAM"), chunk_at(&sound, b"OIDF"), chunk_at(&sound, b"OOFF"));
    let check_damaged = |damage: &dyn Fn(&mut Vec<u8>), expected: &str| {
        let mut bytes = sound.clone();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let objects = repo.objects();
        check(&repo, &objects);
        let warnings = objects.take_warnings();
        assert!(warnings.iter().any(|warning| warning.contains(expected)), "{expected}: {warnings:?}");
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    };
    check_damaged(&|bytes| bytes.truncate(30), "too small");
    check_damaged(&|bytes| bytes[0] = b'X', "unknown form");
    check_damaged(&|bytes| bytes[4] = 3, "version 3");
    check_damaged(&|bytes| bytes[5] = 2, "made for sha256");
    check_damaged(&|bytes| bytes[6] = 200, "outside of the file");
    check_damaged(&|bytes| bytes[6] = 1, "it has no end");
    check_damaged(&|bytes| bytes[12 + 5] = 1, "outside of the file");
    check_damaged(&|bytes| bytes[fan] = 0xff, "out of order");
    check_damaged(&|bytes| bytes[fan + 1023] ^= 1, "wrong size");
    check_damaged(&|bytes| bytes[offsets + 2] = 9, "it has no pack 2304");
    // A name that leads to another directory is not followed.
    let mut bytes = sound.clone();
    bytes[names..names + 5].copy_from_slice(b"../..");
    fs::write(&path, bytes).unwrap();
    check(&repo, &repo.objects());
}

#[test]
fn bitmaps_of_packs_that_are_gone_are_no_damage() {
    let repo = Repo::with_history(SHA1, 10);
    repo.git(&["repack", "-dq"], b"");
    repo.git(&["multi-pack-index", "write", "--bitmap"], b"");
    let folder = repo.root.join("objects/pack");
    let is_told = |name: &OsStr| name.to_string_lossy().starts_with("multi-pack-index");
    let files = || fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let of_midx: Vec<_> = files().filter(|path| is_told(path.file_name().unwrap())).collect();
    let contents: Vec<_> = of_midx.iter().map(|path| (path, fs::read(path).unwrap())).collect();
    // This is what a process sees after old packs are removed, and before the files that name them are.
    repo.git(&["-c", "repack.writeBitmaps=false", "repack", "-adfq", "--depth=1"], b"");
    contents.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    let objects = repo.objects();
    assert!(contents.len() >= 2 && objects.bitmaps(u64::MAX).unwrap().is_none());
    assert_eq!(objects.take_warnings(), [""; 0]);
    check(&repo, &objects);
}

#[test]
fn a_chain_with_a_damaged_layer_is_used_up_to_there() {
    let repo = Repo::with_history(SHA1, 10);
    for n in 1..4 {
        repo.git(&["repack", "-dq"], b"");
        repo.git(&["multi-pack-index", "write", "--incremental"], b"");
        repo.import("refs/heads/main", n * 10 + 1, 10);
    }
    let folder = repo.root.join("objects/pack/multi-pack-index.d");
    let chain = fs::read_to_string(folder.join("multi-pack-index-chain")).unwrap();
    let second = folder.join(format!("multi-pack-index-{}.midx", chain.lines().nth(1).unwrap()));
    let mut bytes = fs::read(&second).unwrap();
    fs::remove_file(&second).unwrap();
    let missing = repo.objects();
    check(&repo, &missing);
    assert_eq!((missing.given[0].layers(), missing.take_warnings().len()), (1, 0));
    bytes[4] = 7;
    fs::write(&second, bytes).unwrap();
    let damaged = repo.objects();
    check(&repo, &damaged);
    let warnings = damaged.take_warnings();
    assert_eq!(damaged.given[0].layers(), 1);
    assert!(warnings[0].contains(".midx: multi-pack-index has version 7"), "{warnings:?}");
}

#[test]
fn three_hundred_packs_are_searched_lazily() {
    let repo = Repo::with_history(SHA1, 12);
    repo.git(&["repack", "-adq"], b"");
    repo.packs_of_one(300);
    let objects = repo.objects();
    check(&repo, &objects);
    assert_eq!(objects.packs(true).unwrap().len(), 301);
    repo.git(&["multi-pack-index", "write"], b"");
    check(&repo, &repo.objects());
}

#[test]
fn a_repack_while_open_is_noticed_and_open_packs_stay_readable() {
    let repo = Repo::with_history(SHA1, 30);
    repo.git(&["repack", "-adq"], b"");
    let first = repo.id("main");
    let objects = repo.objects();
    let mut buffer = Vec::new();
    objects.find(&first, &mut buffer).unwrap().unwrap();
    let unknown = ObjectId::from([0x5a; 20]);
    for _ in 0..3 {
        assert_eq!(objects.find(&unknown, &mut buffer).unwrap(), None);
    }
    repo.import("refs/heads/main", 31, 5);
    let loose = repo.id("main");
    assert!(matches!(objects.locate(&loose).unwrap(), Some(Location::Loose(0))));
    let location = objects.locate(&loose).unwrap().unwrap();
    repo.git(&["repack", "-adq"], b"");
    assert!(matches!(objects.locate(&loose).unwrap(), Some(Location::Packed { .. })));
    assert_eq!(objects.find_at(location, &loose, &mut buffer).unwrap(), Kind::Commit);
    objects.find(&first, &mut buffer).unwrap().expect("is still open");
    check(&repo, &objects);
}

#[test]
fn a_pack_that_came_in_the_same_moment_as_the_last_look_is_found_a_while_later() {
    let repo = Repo::new(SHA1);
    repo.packs_of_one(2);
    let folder = repo.root.join("objects/pack");
    let objects = repo.objects();
    let unknown = ObjectId::from([0x5a; 20]);
    for _ in 0..3 {
        assert_eq!(objects.locate(&unknown).unwrap(), None);
    }
    let time = fs::metadata(&folder).unwrap().modified().unwrap();
    repo.git(&["-c", "fastimport.unpackLimit=0", "fast-import", "--quiet"], b"blob\ndata 4\nlate\n");
    fs::File::open(&folder).unwrap().set_modified(time).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(30));
    let late = gix_object::compute_hash(SHA1, Kind::Blob, b"late").unwrap();
    assert!(matches!(objects.locate(&late).unwrap(), Some(Location::Packed { .. })));
}

#[test]
fn a_pack_that_vanished_before_it_was_opened_is_looked_for_again() {
    let repo = Repo::with_history(SHA1, 10);
    repo.git(&["repack", "-dq"], b"");
    repo.import("refs/heads/main", 11, 10);
    repo.git(&["repack", "-dq"], b"");
    repo.git(&["multi-pack-index", "write"], b"");
    let objects = repo.objects();
    // This reads the multi-pack-index and the listing, but opens no pack.
    assert_eq!(objects.locate(&ObjectId::from([0x5a; 20])).unwrap(), None);
    repo.git(&["repack", "-adq"], b"");
    check(&repo, &objects);
    assert!(objects.take_warnings().is_empty());
}

#[test]
fn few_of_many_large_indexes_keep_their_files_open() {
    let repo = Repo::with_history(SHA1, 2);
    let folder = repo.root.join("objects/pack");
    // Enough IDs for the file to stay open. None of them is looked for, so no pack is opened.
    let count = 30_000_u32;
    let fan = (0..256_u32).flat_map(|first| (if first < 3 { 0 } else { count }).to_be_bytes());
    let names = (0..count).flat_map(|n| [&[3][..], &n.to_be_bytes(), &[0; 15]].concat());
    let mut index: Vec<u8> = b"\xfftOc\0\0\0\x02".iter().copied().chain(fan).chain(names).collect();
    index.resize(index.len() + count as usize * 8 + 40, 0);
    for n in 0..40 {
        let path = folder.join(format!("pack-{n:040x}.idx"));
        fs::write(&path, &index).unwrap();
        fs::write(path.with_extension("pack"), b"").unwrap();
    }
    let objects = repo.objects();
    let unknown = ObjectId::from_hex(b"0300000000000000000000000000000000000001").unwrap();
    assert_eq!(objects.locate(&unknown).unwrap(), None);
    let open = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    assert_eq!(open.filter(|path| path.starts_with(&folder)).count(), 16);
}

#[test]
fn the_nearest_objects_of_a_chain_are_kept_or_all_of_them() {
    let repo = Repo::with_history(SHA1, 60);
    repo.git(&["repack", "-adfq", "--depth=50", "--window=100"], b"");
    // The bases of the object with the longest chain, the nearest first.
    let chain = |objects: &Objects| -> Vec<(PackId, u64)> {
        let pack = objects.pack(objects.packs(true).unwrap()[0]);
        let chain_of = |position: u32| {
            let mut offsets = vec![pack.offset_at(position)];
            while let EntryKind::OfsDelta(base) = pack.head_at(offsets[offsets.len() - 1]).unwrap().kind {
                offsets.push(base);
            }
            offsets
        };
        let longest = (0..pack.len()).map(chain_of).max_by_key(Vec::len).unwrap();
        longest.into_iter().map(|offset| (pack.id(), offset)).collect()
    };
    let kept = |objects: Objects| -> Vec<bool> {
        let chain = chain(&objects);
        assert!(chain.len() > 5, "{}", chain.len());
        let pack = objects.pack(chain[0].0);
        objects.read_packed(&pack, chain[0].1, &mut Vec::new()).unwrap();
        let reader = objects.shared.reader.borrow();
        chain[1..].iter().map(|place| reader.bases.header(*place).is_some()).collect()
    };
    let near = kept(repo.objects());
    assert_eq!(near.iter().filter(|kept| **kept).count(), 2);
    assert!(near[0] && near[1]);
    let objects = repo.objects();
    objects.expect_chains();
    assert!(kept(objects).into_iter().all(|kept| kept));
}

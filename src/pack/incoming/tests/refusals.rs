//! Malformed packs: truncated, lying about themselves, or with deltas that lead nowhere.

use super::*;

#[test]
fn what_is_no_pack_is_told_in_gits_words() {
    let repo = Repo::new();
    let check = |pack: &[u8], status: &str| assert_eq!(repo.refuses(pack, |_| ()).status, status);
    check(b"", "eof before pack header was fully read");
    check(b"PACK\0\0\0\x02\0\0\0", "eof before pack header was fully read");
    check(b"JACK\0\0\0\x02\0\0\0\0", "protocol error (pack signature mismatch detected)");
    check(b"PACK\0\x01\0\x02\0\0\0\0", "protocol error (pack version unsupported)");
}

#[test]
fn bytes_behind_the_trailer_are_refused() {
    let repo = Repo::new();
    let mut builder = Builder::new();
    builder.blob(b"hello");
    let mut pack = builder.finish();
    for more in [1, 20, 5000, 300_000] {
        pack.extend(vec![0; more]);
        assert_eq!(repo.refuses(&pack, |_| ()).detail, "pack has junk at the end");
        assert_eq!(repo.refuses(&pack, |options| options.unpack_limit = 9).detail, "pack has junk at the end");
    }
}

#[test]
fn a_pack_that_ends_early_is_refused_wherever_it_ends() {
    let source = Repo::new();
    let tip = source.history(&contents(3));
    let pack = source.pack(&tip, &["--delta-base-offset"]);
    let repo = Repo::new();
    for len in 12..pack.len() {
        let error = repo.refuses(&pack[..len], |_| ());
        assert_eq!((&*error.detail, &*error.status), ("early EOF", "index-pack abnormal exit"), "{len}");
    }
}

#[test]
fn a_count_that_lies_is_refused() {
    let repo = Repo::new();
    let with_count = |count: u32| {
        let mut builder = Builder::new();
        builder.blob(b"hello");
        builder.blob(b"world");
        builder.finish_with_count(count)
    };
    assert_eq!(repo.refuses(&with_count(1), |_| ()).detail, "pack is corrupted (SHA1 mismatch)");
    assert_eq!(repo.refuses(&with_count(1), |options| options.unpack_limit = 9).detail, "final sha1 did not match");
    for count in [3, u32::MAX] {
        // The trailer is parsed as an entry.
        repo.refuses(&with_count(count), |_| ());
    }
    assert!(repo.receive(&with_count(2), |_| ()).0.is_ok());
}

#[test]
fn a_size_that_lies_is_refused() {
    let repo = Repo::new();
    let with_size = |size: u64| {
        let mut builder = Builder::new();
        builder.entry(3, size, &[], &deflated(b"hello"));
        builder.finish()
    };
    for limit in [0, 9] {
        for size in [0, 1, 4, 6, 100, 1 << 20, 40 << 20, 1 << 40, 1 << 59] {
            let error = repo.refuses(&with_size(size), |options| options.unpack_limit = limit);
            assert!(error.detail.starts_with("pack has bad object at offset 12: inflate returned"), "{error:?}");
        }
        assert!(repo.receive(&with_size(5), |options| options.unpack_limit = limit).0.is_ok());
    }
}

#[test]
fn a_size_of_more_than_64_bits_is_refused() {
    let repo = Repo::new();
    let mut builder = Builder::new();
    builder.bytes.extend([0xb5, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]);
    builder.bytes.extend(deflated(b"hello"));
    builder.count = 1;
    assert_eq!(repo.refuses(&builder.finish(), |_| ()).detail, "object size too large for this platform");
}

#[test]
fn unknown_types_and_offsets_out_of_the_pack_are_refused() {
    let repo = Repo::new();
    for code in [0, 5] {
        let mut builder = Builder::new();
        builder.entry(code, 5, &[], &deflated(b"hello"));
        let expected = format!("pack has bad object at offset 12: unknown object type {code}");
        assert_eq!(repo.refuses(&builder.finish(), |_| ()).detail, expected);
    }
    let with_distance = |distance: &[u8]| {
        let mut builder = Builder::new();
        builder.blob(b"hello");
        let delta = appending(5, b"!");
        builder.entry(6, delta.len() as u64, distance, &deflated(&delta));
        repo.refuses(&builder.finish(), |_| ()).detail
    };
    let out_of_bound = "delta base offset is out of bound";
    assert!(with_distance(&[0]).ends_with(out_of_bound));
    assert!(with_distance(&[0x7f]).ends_with(out_of_bound));
    assert!(with_distance(&[0xff; 12]).contains("overflow"));
    // Into the middle of an entry, and into the header.
    assert_eq!(with_distance(&[1]), "pack has 1 unresolved delta");
    assert_eq!(with_distance(&[17]), "pack has 1 unresolved delta");
}

#[test]
fn deltas_on_each_other_are_refused() {
    let repo = Repo::new();
    let (a, b) = (b"first".to_vec(), b"second".to_vec());
    let mut builder = Builder::new();
    builder.ref_delta(&id_of(&a), &appending(5, b"x"));
    builder.ref_delta(&id_of(&b), &appending(5, b"y"));
    builder.ref_delta(&gix_hash::Kind::Sha1.null(), &appending(5, b"y"));
    let pack = builder.finish();
    assert_eq!(repo.refuses(&pack, |_| ()).detail, "pack has 3 unresolved deltas");
    assert_eq!(repo.refuses(&pack, |o| o.unpack_limit = 9).detail, "unresolved deltas left after unpacking");
}

#[test]
fn a_delta_on_itself_is_refused_though_the_repository_has_the_object() {
    let repo = Repo::new();
    let object = b"hello".to_vec();
    let mut alone = Builder::new();
    alone.blob(&object);
    repo.git(&["unpack-objects"], &alone.finish());
    for in_the_pack in [false, true] {
        let mut builder = Builder::new();
        builder.ref_delta(&id_of(&object), &[5, 5, 0x90, 5]);
        if in_the_pack {
            builder.blob(&object);
        }
        let error = repo.refuses(&builder.finish(), |_| ());
        assert!(error.detail.ends_with("appears twice in the pack"), "{error:?}");
    }
}

#[test]
fn a_wrong_trailer_is_refused() {
    let repo = Repo::new();
    let mut builder = Builder::new();
    builder.blob(b"hello");
    let mut pack = builder.finish();
    *pack.last_mut().unwrap() ^= 1;
    assert_eq!(repo.refuses(&pack, |_| ()).detail, "pack is corrupted (SHA1 mismatch)");
}

#[test]
fn a_chain_that_is_too_deep_is_refused() {
    let chain = |len: usize| {
        let mut builder = Builder::new();
        let mut base = builder.blob(b"");
        for step in 0..len {
            base = builder.ofs_delta(
                base,
                &[
                    varint(step as u64),
                    varint(step as u64 + 1),
                    if step == 0 { vec![1, b'x'] } else { vec![0xb0, step as u8, (step >> 8) as u8, 1, b'x'] },
                ]
                .concat(),
            );
        }
        builder.finish()
    };
    let repo = Repo::new();
    repo.receive(&chain(4095), |_| ()).0.unwrap();
    let error = repo.refuses(&chain(10_001), |_| ());
    assert!(error.detail.ends_with("chain of deltas is longer than 10000"), "{error:?}");
}

#[test]
fn deltas_that_do_not_fit_their_base_are_refused() {
    let repo = Repo::new();
    let check = |delta: &[u8]| {
        let mut builder = Builder::new();
        let base = builder.blob(b"hello");
        builder.ofs_delta(base, delta);
        let error = repo.refuses(&builder.finish(), |_| ());
        assert!(error.detail.ends_with("failed to apply delta"), "{delta:?}: {error:?}");
    };
    check(&[]);
    check(&[5]);
    check(&[4, 4, 0x90, 4]);
    check(&[5, 6, 0x90, 6]);
    check(&[5, 5, 0x90, 4]);
    check(&[5, 4, 0x90, 5]);
    check(&[5, 1, 0]);
    check(&[5, 1, 2, b'x']);
    // These make an empty object, but C git applies no delta shorter than four bytes.
    check(&[5, 0]);
    check(&[0x85, 0, 0]);
    // Of an object that a delta makes empty, however long the delta, C git can tell neither kind nor size.
    check(&[5, 0x80, 0x80, 0]);
    check(&[0x85, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0, 0x80, 0]);
}

#[test]
fn flipped_bytes_never_panic_and_leave_nothing() {
    let source = Repo::new();
    let all = contents(12);
    let old = source.history(&all[..6]);
    let tip = source.history(&all);
    let thin = source.pack(&format!("{tip}\n^{old}\n"), &["--thin", "--delta-base-offset"]);
    let repo = Repo::new();
    repo.git(&["index-pack", "--stdin"], &source.pack(&old, &[]));
    let before = files(&repo.path);
    let body = &thin[..thin.len() - 20];
    for round in 0..400_u64 {
        let random = noise(round + 1, 8);
        let mut bytes = body.to_vec();
        for flip in random.chunks(4).take(1 + (round % 2) as usize) {
            let at = usize::from(u16::from_be_bytes([flip[0], flip[1]])) % bytes.len();
            bytes[at] ^= flip[2] | 1;
        }
        if round % 5 == 0 {
            bytes.truncate(bytes.len() - usize::from(random[7]));
        }
        // With a correct trailer, so that more code is reached.
        let pack = with_trailer(bytes, gix_hash::Kind::Sha1);
        let (received, quarantine) = repo.receive(&pack, |options| {
            options.unpack_limit = if round % 3 == 0 { 1000 } else { 0 };
            options.fsck = (round % 2 == 0).then(Rules::strict);
        });
        if let Err(error) = received {
            assert!(!error.status.is_empty());
        }
        drop(quarantine);
        assert_eq!(files(&repo.path), before, "round {round}");
    }
}

//! Limits on the size of a pack and of its objects, and on memory.

use super::*;

#[test]
fn the_largest_size_is_obeyed_to_the_byte() {
    let repo = Repo::new();
    let mut builder = Builder::new();
    builder.blob(&noise(1, 2000));
    let pack = builder.finish();
    let len = pack.len() as u64;
    assert!(repo.receive(&pack, |options| options.max_input_size = Some(len)).0.is_ok());
    let error = repo.refuses(&pack, |options| options.max_input_size = Some(len - 1));
    assert!(error.detail.starts_with("pack exceeds maximum allowed size (2.0"), "{error:?}");
    let error = repo.refuses(&pack, |options| options.max_input_size = Some(512));
    assert_eq!(error.detail, "pack exceeds maximum allowed size (512 bytes)");
    let error = repo.refuses(&pack, |options| {
        options.max_input_size = Some(512);
        options.unpack_limit = 9;
    });
    assert_eq!(error.detail, "pack exceeds maximum allowed size");
}

#[test]
fn sizes_are_written_as_git_writes_them() {
    let check = |bytes: u64, expected: &str| assert_eq!(humanised(bytes), expected);
    check(1, "1 byte");
    check(512, "512 bytes");
    check(1024, "1024 bytes");
    check(1536, "1.50 KiB");
    check((1 << 20) + 1, "1.00 MiB");
    check(5 << 20, "5.00 MiB");
    check(3 << 30, "3.00 GiB");
}

#[test]
fn a_zlib_bomb_fits_into_a_small_budget() {
    let repo = Repo::new();
    let bomb = deflated(&vec![0; 64 << 20]);
    let build = |code: u8| {
        let mut builder = Builder::new();
        builder.entry(code, 64 << 20, &[], &bomb);
        builder.finish()
    };
    for limit in [0, 9] {
        let set = |options: &mut ReceiveOptions<'_>| {
            options.memory = 4 << 20;
            options.unpack_limit = limit;
        };
        let (received, quarantine) = repo.receive(&build(3), set);
        assert_eq!(received.unwrap().objects, 1);
        if limit > 0 {
            quarantine.migrate().unwrap();
            let id = id_of(&vec![0; 64 << 20]).to_string();
            assert_eq!(repo.line(&["cat-file", "-s", &id], b""), (64 << 20).to_string());
            repo.fsck();
        }
    }
    let mut builder = Builder::new();
    builder.entry(7, 64 << 20, &[0; 20], &bomb);
    let error = repo.refuses(&builder.finish(), |options| options.memory = 4 << 20);
    assert_eq!(error.detail, "pack has bad object at offset 12: failed to apply delta");
}

#[test]
fn a_delta_that_declares_too_much_is_refused_before_anything_is_allocated() {
    let repo = Repo::new();
    let mut builder = Builder::new();
    let base = builder.blob(b"hello");
    let mut delta = varint(5);
    delta.extend(varint(3 << 30));
    delta.extend([0x90, 5]);
    builder.ofs_delta(base, &delta);
    let error = repo.refuses(&builder.finish(), |_| ());
    assert!(error.detail.ends_with("delta on or to an object of 3.00 GiB, the limit is 512.00 MiB"), "{error:?}");
}

#[test]
fn many_large_results_fit_into_the_budget() {
    // Each level has two deltas, one of which is the base of the next level; each result is as large as the base.
    let repo = Repo::new();
    let len = 1_u32 << 20;
    let mut builder = Builder::new();
    let mut base = builder.blob(&vec![7; len as usize]);
    let copies = |level: u8, side: u8| {
        let mut delta = varint(u64::from(len));
        delta.extend(varint(u64::from(len)));
        delta.extend([2, level, side]);
        delta.extend([0xf0, 0xfe, 0xff, 0x0f]);
        delta
    };
    for level in 0..40 {
        let next = builder.ofs_delta(base, &copies(level, 0));
        builder.ofs_delta(base, &copies(level, 1));
        base = next;
    }
    let pack = builder.finish();
    let (received, quarantine) = repo.receive(&pack, |options| options.memory = 6 << 20);
    received.unwrap();
    quarantine.migrate().unwrap();
    repo.fsck();
}

#[test]
fn contents_that_were_given_up_are_made_again() {
    // Bases are referred to by name, so that the order is not known in advance: a path of 60, with three branches at
    // each step.
    let repo = Repo::new();
    let mut builder = Builder::new();
    let mut content = noise(3, 20_000);
    let mut deltas = Vec::new();
    builder.blob(&content);
    for level in 0..60_u8 {
        let mut side = content.clone();
        for step in 0..3_u8 {
            let more = [level, step, b's'];
            deltas.push((id_of(&side), appending(side.len(), &more)));
            side.extend(more);
        }
        let more = [level, b'm'];
        deltas.push((id_of(&content), appending(content.len(), &more)));
        content.extend(more);
    }
    for (base, delta) in deltas.iter().rev() {
        builder.ref_delta(base, delta);
    }
    let pack = builder.finish();
    for memory in [128 << 10, 256 << 10, 64 << 20] {
        let (received, quarantine) = repo.receive(&pack, |options| options.memory = memory);
        received.unwrap();
        assert!(quarantine.objects().contains(&id_of(&content)).unwrap());
        quarantine.migrate().unwrap();
        repo.fsck();
    }
}

/// A chain in which each step has a second delta on it. With `by_name` that delta may have to wait until the rest of
/// the chain is done; otherwise it comes first.
fn comb(steps: u16, size: usize, by_name: bool) -> Vec<u8> {
    let mut builder = Builder::new();
    let mut content = vec![0; size];
    let mut at = builder.blob(&content);
    let change = |side: u8, step: u16| {
        let mut delta = [varint(size as u64), varint(size as u64), vec![3, side]].concat();
        delta.extend(step.to_be_bytes());
        delta.extend([0xb1, 3]);
        delta.extend(u16::try_from(size - 3).unwrap().to_le_bytes());
        delta
    };
    for step in 0..steps {
        let base = id_of(&content);
        let next = builder.ref_delta(&base, &change(2, step));
        if by_name {
            builder.ref_delta(&base, &change(1, step));
        } else {
            builder.ofs_delta(at, &change(1, step));
        }
        at = next;
        content[..3].copy_from_slice(&[&[2][..], &step.to_be_bytes()].concat());
    }
    builder.finish()
}

#[test]
fn deltas_that_would_be_resolved_again_and_again_are_refused() {
    let repo = Repo::new();
    let memory = |options: &mut ReceiveOptions<'_>| options.memory = 1 << 20;
    // The side delta by name comes last, so nothing waits for it.
    repo.receive(&comb(2000, 60_000, false), memory).0.unwrap();
    // If both are by name, what depends on either is unknown.
    repo.receive(&comb(100, 60_000, true), memory).0.unwrap();
    repo.receive(&comb(250, 60_000, true), |options| options.memory = 2 << 20).0.unwrap();
    let error = repo.refuses(&comb(1500, 60_000, true), memory);
    assert!(error.detail.ends_with("again and again within so little memory"), "{error:?}");
}

#[test]
fn objects_larger_than_the_memory_pass_through_files() {
    // A file of 3 MB that changes here and there, received with 2 MB of memory; the limit for one content is then 256
    // KB.
    let mut content = noise(5, 3 << 20);
    let mut all = Vec::new();
    for round in 0..8 {
        content[round * 300_000] ^= 1;
        content.extend(noise(round as u64 + 6, 1000));
        all.push(content.clone());
    }
    // And a version with little left of it.
    all.push(content[1000..2000].to_vec());
    let source = Repo::new();
    let old = source.history(&all[..3]);
    let tip = source.history(&all);
    let memory = |options: &mut ReceiveOptions<'_>| options.memory = 2 << 20;
    for format in [&["--delta-base-offset"][..], &[]] {
        let pack = source.pack(&tip, format);
        assert!(pack.len() < 6 << 20, "git makes deltas");
        for limit in [0, 1000] {
            let repo = Repo::new();
            let (received, quarantine) = repo.receive(&pack, |options| {
                memory(options);
                options.unpack_limit = limit;
                options.fsck = Some(Rules::strict());
            });
            received.unwrap();
            assert!(files(quarantine.path()).iter().all(|path| !path.to_string_lossy().contains("/tmp_obj_")));
            quarantine.migrate().unwrap();
            repo.fsck();
            repo.git(&["rev-list", "--objects", "--quiet", &tip], b"");
            if limit == 0 {
                // The objects exist from here on.
                repo.receive(&pack, memory).0.unwrap();
            }
        }
    }
    // A base that only the repository has must fit into half of the memory.
    let thin = source.pack(&format!("{tip}\n^{old}\n"), &["--thin", "--delta-base-offset"]);
    let repo = Repo::new();
    repo.git(&["index-pack", "--stdin"], &source.pack(&old, &[]));
    for limit in [0, 1000] {
        let error = repo.refuses(&thin, |options| {
            memory(options);
            options.unpack_limit = limit;
        });
        assert!(error.detail.ends_with("the limit is 1024.00 KiB"), "{error:?}");
        let (received, quarantine) = repo.receive(&thin, |options| {
            options.memory = 8 << 20;
            options.unpack_limit = limit;
        });
        received.unwrap();
        assert!(quarantine.objects().contains(&id_of(&all[7])).unwrap());
        if limit == 0 {
            quarantine.migrate().unwrap();
            repo.fsck();
        }
    }
}

#[test]
fn a_tree_is_checked_as_far_as_memory_allows_and_the_refusal_says_how_far() {
    let blob = id_of(b"");
    let tree: Vec<u8> =
        (0..40_000).flat_map(|n| [format!("100644 {n:06}\0").as_bytes(), blob.as_slice()].concat()).collect();
    let mut builder = Builder::new();
    builder.whole(Kind::Tree, &tree);
    builder.blob(b"");
    let pack = builder.finish();
    let with = |memory: u64| {
        move |options: &mut ReceiveOptions<'_>| {
            options.memory = memory;
            options.fsck = Some(Rules::protecting());
        }
    };
    let error = Repo::new().refuses(&pack, with(8 << 20));
    let said = format!(
        "tree of {} bytes is too large to be checked: at most 1048576 are, an eighth of ARTIFACTS_MEMORY",
        tree.len()
    );
    assert!(error.detail.ends_with(&said), "{error:?}");
    Repo::new().receive(&pack, with(16 << 20)).0.unwrap();
    // Nothing has to be held in memory where nothing is checked.
    Repo::new().receive(&pack, |options| options.memory = 8 << 20).0.unwrap();
}

/// A pack of a commit with `dir/sub/file`, whose blob is `content`.
fn commit_of(content: &[u8]) -> (ObjectId, Vec<u8>) {
    let id = |kind, content: &[u8]| name_of(gix_hash::Kind::Sha1, kind, content).unwrap();
    let mut builder = Builder::new();
    builder.blob(content);
    let blob = id_of(content);
    let mut below = (blob, "100644 file");
    for name in ["40000 sub", "40000 dir", ""] {
        let tree = [below.1.as_bytes(), b"\0", below.0.as_slice()].concat();
        builder.whole(Kind::Tree, &tree);
        below = (id(Kind::Tree, &tree), name);
    }
    let person = "A <a@x> 1000000000 +0000";
    let commit = format!("tree {}\nauthor {person}\ncommitter {person}\n\nm\n", below.0);
    builder.whole(Kind::Commit, commit.as_bytes());
    (blob, builder.finish())
}

#[test]
fn the_largest_object_is_obeyed_to_the_byte_and_named_with_its_path() {
    let repo = Repo::new();
    let content = noise(8, 300_000);
    let (id, pack) = commit_of(&content);
    // In memory or in chunks; kept or loose.
    for (memory, limit) in [(64 << 20, 0), (64 << 20, 9), (1 << 20, 0), (1 << 20, 9)] {
        let set = |options: &mut ReceiveOptions<'_>, max: u64| {
            options.memory = memory;
            options.unpack_limit = limit;
            options.object_size_max = Some(max);
        };
        assert!(repo.receive(&pack, |options| set(options, 300_000)).0.is_ok());
        let error = repo.refuses(&pack, |options| set(options, 299_999));
        assert_eq!(error.notes, [format!("error: object {id} 'dir/sub/file' has 292.97 KiB")]);
        assert_eq!(
            error.detail,
            "pack has objects larger than the limit of 292.97 KiB (artifacts.maxObjectSize)".to_owned()
        );
    }
    // The result of a delta; no commit need contain it.
    let mut builder = Builder::new();
    let base = builder.blob(b"hello");
    builder.ofs_delta(base, &appending(5, b"!"));
    let pack = builder.finish();
    assert!(repo.receive(&pack, |options| options.object_size_max = Some(6)).0.is_ok());
    let error = repo.refuses(&pack, |options| options.object_size_max = Some(5));
    assert_eq!(error.notes, [format!("error: object {} has 6 bytes", id_of(b"hello!"))]);
    // An object that exists already does not make the repository larger.
    repo.blob(b"hello!");
    assert!(repo.receive(&pack, |options| options.object_size_max = Some(5)).0.is_ok());
}

#[test]
fn a_full_repository_takes_no_more_to_the_byte() {
    let repo = Repo::new();
    let (_, pack) = commit_of(&noise(9, 5000));
    for limit in [0, 9] {
        let (received, quarantine) = repo.receive(&pack, |options| options.unpack_limit = limit);
        received.unwrap();
        let size = usage::disk_usage(quarantine.path()).unwrap();
        let bytes: u64 = files(quarantine.path())
            .iter()
            .filter_map(|path| fs::metadata(path).ok())
            .fold(0, |sum, file| sum + if file.is_file() { file.len() } else { 0 });
        assert_eq!(size, bytes);
        drop(quarantine);
        let set = |options: &mut ReceiveOptions<'_>, max: u64| {
            options.unpack_limit = limit;
            options.room = Some(Room { max, used: 1000 });
        };
        assert!(repo.receive(&pack, |options| set(options, 1000 + size)).0.is_ok());
        let error = repo.refuses(&pack, |options| set(options, 999 + size));
        assert!(error.detail.contains("the pack does not fit (artifacts.maxRepositorySize)"), "{error:?}");
        // A pack that cannot fit is refused before it has arrived.
        let error = repo.refuses(&pack[..2000], |options| set(options, 1500));
        assert!(error.detail.contains("(artifacts.maxRepositorySize)"), "{error:?}");
        // A branch for existing objects needs no room.
        let empty = Builder::new().finish();
        assert!(repo.receive(&empty, |options| set(options, 10)).0.is_ok());
    }
}

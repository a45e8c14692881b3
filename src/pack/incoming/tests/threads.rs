//! Several threads store, report and refuse the same as one.

use super::*;

/// The outcome for a pack: if accepted, the report and all files; if refused, every word.
fn outcome(repo: &Repo, pack: &[u8], adjust: &dyn Fn(&mut ReceiveOptions<'_>), threads: usize) -> Vec<String> {
    let (received, quarantine) = repo.receive(pack, |options| {
        options.threads = threads;
        adjust(options);
    });
    let mut told = match &received {
        Ok(pack) => vec![format!("{} objects, {} bytes, {:?}", pack.objects, pack.bytes, pack.kept)],
        Err(error) => vec![error.status.clone(), error.detail.clone()],
    };
    told.extend(received.as_ref().map_or_else(|error| error.notes.clone(), |pack| pack.notes.clone()));
    if received.is_ok() {
        for path in files(quarantine.path()).into_iter().filter(|path| path.is_file()) {
            let name = path.strip_prefix(quarantine.path()).unwrap().display().to_string();
            told.push(format!("{name} {}", id_of(&fs::read(path).unwrap())));
        }
    }
    told
}

/// Receives with 1, 2 and 5 threads, and returns the outcome with one.
fn check(repo: &Repo, pack: &[u8], adjust: &dyn Fn(&mut ReceiveOptions<'_>)) -> Vec<String> {
    let alone = outcome(repo, pack, adjust, 1);
    for threads in [2, 5, 2, 5] {
        assert_eq!(outcome(repo, pack, adjust, threads), alone, "{threads} threads");
    }
    alone
}

/// `chains` chains of `len` deltas, alternately by offset and by name; `odd` may add something after a chain.
fn chains(chains: u32, len: u8, odd: &dyn Fn(&mut Builder, u32, u64)) -> Builder {
    let mut builder = Builder::new();
    for n in 0..chains {
        let mut content = n.to_be_bytes().to_vec();
        let mut base = builder.blob(&content);
        for step in 0..len {
            let delta = appending(content.len(), &[step]);
            base = if step % 3 == 0 {
                builder.ref_delta(&id_of(&content), &delta)
            } else {
                builder.ofs_delta(base, &delta)
            };
            content.push(step);
        }
        odd(&mut builder, n, base);
    }
    builder
}

#[test]
fn threads_store_what_one_does() {
    let source = Repo::new();
    let tip = source.history(&contents(900));
    let pack = source.pack(&tip, &["--delta-base-offset", "--window=20"]);
    check_like_git(&source, &pack, &[], &Repo::new());
    let stored = check(&Repo::new(), &pack, &|options| options.fsck = Some(Rules::strict()));
    assert_eq!(stored.len(), 5, "{stored:?}");

    // Deltas by name, objects that occur twice (which become loose), contents that do not fit into memory.
    let large = noise(1, 400_000);
    let with_twins = chains(40, 60, &|builder, n, _| {
        builder.blob(&(n / 2).to_be_bytes());
        if n % 20 == 0 {
            let base = builder.blob(&large);
            let delta = [varint(400_000), varint(400_001), vec![0xf0, 0x80, 0x1a, 0x06, 1, n as u8]].concat();
            builder.ofs_delta(base, &delta);
        }
    });
    let pack = with_twins.finish();
    for memory in [64 << 20, 2 << 20] {
        let stored = check(&Repo::new(), &pack, &|options| {
            options.memory = memory;
            options.unpack_limit = 3000;
        });
        assert!(stored[0].starts_with("2484 objects"), "{stored:?}");
    }
}

#[test]
fn threads_complete_thin_packs_as_one_does() {
    let repo = Repo::new();
    let mut builder = chains(40, 60, &|_, _, _| ());
    for n in 0..30_u8 {
        let base = repo.blob(&[n; 100]);
        builder.ref_delta(&base, &appending(100, b"thin"));
    }
    let stored = check(&repo, &builder.finish(), &|_| ());
    assert!(stored[0].starts_with("2470 objects"), "{stored:?}");
}

#[test]
fn of_many_faults_threads_tell_the_one_that_one_meets() {
    let repo = Repo::new();
    let bad = |builder: &mut Builder, base: u64| builder.ofs_delta(base, &appending(5, b"x"));
    let builder = chains(60, 50, &|builder, n, base| {
        if n % 7 == 5 {
            bad(builder, base);
        }
    });
    let told = check(&repo, &builder.finish(), &|_| ());
    assert_eq!(told[0], "index-pack abnormal exit");
    assert!(told[1].ends_with("failed to apply delta"), "{told:?}");
    // The fault reported is that of the first faulty chain, whatever follows it.
    let first = chains(60, 50, &|builder, n, base| {
        if n == 5 {
            bad(builder, base);
        }
    });
    assert_eq!(check(&repo, &first.finish(), &|_| ()), told);
    // A base that does not exist.
    let mut orphan = chains(60, 50, &|_, _, _| ());
    orphan.ref_delta(&id_of(b"nowhere"), &appending(7, b"x"));
    assert_eq!(check(&repo, &orphan.finish(), &|_| ())[1], "pack has 1 unresolved delta");
}

#[test]
fn threads_say_what_one_says_and_in_its_order() {
    let repo = Repo::new();
    let blob = id_of(b"");
    let entry = |mode: &str, name: u32| [format!("{mode} {name:05}").as_bytes(), b"\0", blob.as_slice()].concat();
    // Of each tree there is a copy with a mode that causes a warning; of some also an unsorted one, which is an error.
    let pack = |errors: u32| {
        let mut builder = Builder::new();
        builder.blob(b"");
        for n in 0..260_u32 {
            let tree = entry("100644", n);
            let base = builder.whole(Kind::Tree, &tree);
            for step in 0..9 {
                let mode = if step == 4 { "0100644" } else { "100644" };
                let name = if step == 6 && n % 50 < errors { 0 } else { 1000 + step };
                builder.ofs_delta(base, &appending(tree.len(), &entry(mode, name)));
            }
        }
        builder.finish()
    };
    let protecting = |options: &mut ReceiveOptions<'_>| options.fsck = Some(Rules::protecting());
    let warned = check(&repo, &pack(0), &protecting);
    let warnings = warned.iter().filter(|line| line.starts_with("warning: ")).count();
    assert_eq!(warnings, 200, "{:?}", &warned[..3]);
    let refused = check(&repo, &pack(1), &protecting);
    assert_eq!(refused[1], "fsck error in packed object");
    let errors = refused.iter().filter(|line| line.starts_with("error: ")).count();
    assert_eq!(errors, 1, "{refused:?}");
}

#[test]
fn objects_that_are_too_large_are_named_in_one_order() {
    let repo = Repo::new();
    let pack = chains(50, 50, &|builder, n, base| {
        if n % 10 == 3 {
            builder.ofs_delta(base, &appending(54, &[n as u8; 60]));
        }
    });
    let told = check(&repo, &pack.finish(), &|options| options.object_size_max = Some(100));
    assert!(told[1].contains("artifacts.maxObjectSize"), "{told:?}");
    assert_eq!(told.len(), 2 + 5, "{told:?}");
}

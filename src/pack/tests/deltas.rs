//! Deltas: reusing stored ones, and making new ones on other known versions.

use super::bitmaps::write_for_pack;
use super::*;
use crate::pack::deflate::Deflater;
use crate::pack::encode::Encoder;
use crate::pack::output::Output;
use crate::pack::write::number;

#[test]
fn a_thin_pack_rests_on_what_the_client_has() {
    // A file is stored as a delta on its previous version, which the client has.
    let repo = Repo::made_by(
        gix_hash::Kind::Sha1,
        "seq 1 4000 >big; c one; seq 1 4001 >big; c two one
         (git rev-parse one:big; git rev-parse two:big) | git pack-objects -q ../objects/pack/pack >/dev/null
         git prune-packed -q",
    );
    let (wants, haves) = (repo.ids(&["one"]), repo.ids(&["two"]));
    let objects = repo.objects();
    let blobs = [repo.id("one:big"), repo.id("two:big")];
    let delta = blobs.iter().position(|id| {
        let Some(crate::odb::Location::Packed { pack, position }) = objects.locate(id).unwrap() else { panic!() };
        let pack = objects.pack(pack);
        !matches!(pack.head_at(pack.offset_at(position)).unwrap().kind, crate::odb::EntryKind::Whole(_))
    });
    let (wants, haves) = match delta {
        Some(1) => (haves, wants),
        // git made the older one the delta, so use a client that has the newer version and wants the older one.
        Some(_) => (wants, vec![repo.id("two^{tree}")]),
        None => panic!("git made no delta"),
    };
    let (thin, stats) = pack(&objects, &wants, &haves, &options(true, true));
    assert_eq!(stats.reused_deltas, 1);
    let (thick, _) = pack(&objects, &wants, &haves, &options(false, true));
    assert!(thin.len() + 1000 < thick.len(), "{} {}", thin.len(), thick.len());
    check_ids(&repo, &wants, &haves, &FORMS);
}

/// git indexes a delta that makes an empty object, but cannot tell the object's kind and size.
#[test]
fn a_delta_that_makes_nothing_goes_out_whole() {
    use sha1::Digest as _;
    let repo = Repo::made_by(gix_hash::Kind::Sha1, "printf hello >a; : >b; c one");
    let mut stored = b"PACK\0\0\0\x02\0\0\0\x04".to_vec();
    let mut entry = |kind: usize, base: &[u8], content: &[u8]| {
        stored.extend([0x80 | (kind << 4 | content.len() & 15) as u8, (content.len() >> 4) as u8]);
        stored.extend(base);
        let mut deflated = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        deflated.write_all(content).unwrap();
        stored.extend(deflated.finish().unwrap());
    };
    for (number, kind, name) in [(1, "commit", "one"), (2, "tree", "one^{tree}"), (3, "blob", "one:a")] {
        entry(number, &[], &repo.run(&["cat-file", kind, name], b"").unwrap());
    }
    entry(7, repo.id("one:a").as_bytes(), &[5, 0x80, 0x80, 0]);
    stored.extend(sha1::Sha1::digest(&stored).as_slice());
    repo.run(&["index-pack", "--stdin"], &stored).unwrap();
    repo.git(&["prune-packed", "-q"]);
    let empty = ObjectId::empty_blob(repo.hash).to_string();
    assert!(repo.run(&["cat-file", "-s", &empty], b"").is_err());
    for ofs_delta in [true, false] {
        let (sent, _) = pack(&repo.objects(), &repo.ids(&["one"]), &[], &options(false, ofs_delta));
        let client = Repo::new(repo.hash);
        client.run(&["index-pack", "--stdin"], &sent).unwrap();
        assert_eq!(client.git(&["cat-file", "-s", &empty]), "0");
    }
}

/// Ten versions of a file of about 20 kB that zlib cannot make small, each with one line changed.
const VERSIONS: &str = r#"
    for line in $(seq 300); do echo $line $(echo $line | sha1sum); done >file; c v0
    for n in $(seq 9); do sed -i "$((n * 30))s/.*/changed $n/" file; c v$n v$((n - 1)); done
"#;

#[test]
fn new_versions_go_out_as_deltas_on_others() {
    let small = |repo: &Repo, wants: &[&str], haves: &[&str], form: (bool, bool), most: u64| {
        check(repo, wants, haves, &[form]);
        let (_, stats) = pack(&repo.objects(), &repo.ids(wants), &repo.ids(haves), &options(form.0, form.1));
        assert!(stats.bytes < most, "{wants:?} {haves:?} {form:?}: {} bytes", stats.bytes);
        assert!(stats.deltas > 0);
    };
    // A whole version has 12 kB.
    let loose = Repo::made_by(gix_hash::Kind::Sha1, VERSIONS);
    for ofs_delta in [true, false] {
        small(&loose, &["v9"], &[], (false, ofs_delta), 18_000);
        small(&loose, &["v9"], &["v5"], (true, ofs_delta), 3_000);
        small(&loose, &["v9"], &["v5"], (false, ofs_delta), 15_000);
    }
    // In a pack the newest version is whole and the old ones are deltas on it; the client has some of them.
    let packed = Repo::made_by(gix_hash::Kind::Sha1, &format!("{VERSIONS}\ngit repack -adfq"));
    small(&packed, &["v9"], &["v5"], (true, true), 3_000);
    small(&packed, &["v7"], &["v5"], (true, true), 2_000);
    // All are deltas on the newest one, which is not wanted: another version stands in for it.
    let flat = Repo::made_by(gix_hash::Kind::Sha1, &format!("{VERSIONS}\ngit repack -adfq --depth=1"));
    small(&flat, &["v7"], &[], (false, true), 16_000);
    small(&flat, &["v7"], &[], (false, false), 16_000);
    // As pushes leave it: one pack for each version, without any base in it.
    let packs = "for n in $(seq 0 9); do { echo v$n; [ $n = 0 ] || echo ^v$((n - 1)); } | git pack-objects -q --revs ../objects/pack/pack >/dev/null; done
        git prune-packed -q";
    let many = Repo::made_by(gix_hash::Kind::Sha1, &format!("{VERSIONS}\n{packs}"));
    small(&many, &["v9"], &[], (false, true), 18_000);
    small(&many, &["v9"], &["v3"], (true, false), 4_000);
}

#[test]
fn what_a_delta_puts_in_is_deflated_as_text() {
    let repo = Repo::made_by(
        gix_hash::Kind::Sha1,
        r#"
        lines() { for line in $(seq $1 $2); do echo $line $(echo $line | sha1sum); done; }
        { lines 1 300; } >file; c old; { lines 1 100; lines 1001 1120; lines 221 300; } >file; c new old
        "#,
    );
    let options = PackOptions { levels: Levels::sent(None), ..options(true, true) };
    let (_, stats) = pack(&repo.objects(), &repo.ids(&["new"]), &repo.ids(&["old"]), &options);
    assert!(stats.deltas > 0 && stats.bytes < 4_500, "120 lines are 6,000 bytes: {stats:?}");
}

/// Old versions are deltas on the newest one.
const ON_THE_NEWEST: &str = r#"
    for n in $(seq 0 9); do
        { seq 1 1000; for line in $(seq $((10 + n * 3))); do echo "line $line of those that were added"; done; seq 2000 9000; } >file; c v$n $last
        last=v$n
    done
    git repack -adfq --depth=50"#;

#[test]
fn old_versions_are_turned_round_on_what_nobody_asked_for() {
    let repo = Repo::made_by(gix_hash::Kind::Sha1, ON_THE_NEWEST);
    for (want, have) in [("v7", "v5"), ("v8", "v1"), ("v3", "v2")] {
        // Each with nothing cached.
        [(true, true), (true, false)].iter().for_each(|form| check(&repo, &[want], &[have], &[*form]));
        let (_, stats) = pack(&repo.objects(), &repo.ids(&[want]), &repo.ids(&[have]), &options(true, true));
        assert!(stats.bytes < 4_000 && stats.deltas > 0, "{want} {have}: {stats:?}");
    }
    // Nothing is taken from a damaged object.
    damage(&repo, &repo.id("v9:file"));
    let (wants, haves) = (repo.ids(&["v7"]), repo.ids(&["v5"]));
    let objects = repo.objects();
    let request = Request { wants: &wants, common: &haves, thin: true, ..Request::default() };
    let selection = select(&objects, &request, &mut Silent).unwrap();
    let error = write(&selection, &objects, &options(true, true), &mut Vec::new()).unwrap_err();
    assert!(format!("{error:#}").contains(&repo.id("v7:file").to_string()), "{error:#}");
}

#[test]
fn what_two_versions_have_in_common_and_their_stored_base_has_not_is_seen() {
    // Both are stored as deltas on an object that is not wanted and that lacks 300 of their lines.
    let repo = Repo::made_by(
        gix_hash::Kind::Sha1,
        r#"
        lines() { for line in $(seq $1 $2); do echo $line $(echo $line | sha1sum); done; }
        lines 1 600 >common; lines 1001 1300 >added
        cat common added >file; c old
        sed -i "200s/.*/changed/" added; cat common added >file; c new old
        { cat common; lines 2001 2600; } >file; c other new
        for version in old new; do
            git rev-parse $version:file other:file | git pack-objects -q ../objects/pack/pack >/dev/null
        done
        git prune-packed -q; git repack -adq
        "#,
    );
    check(&repo, &["new"], &["old"], &[(true, true), (true, false)]);
    let (_, stats) = pack(&repo.objects(), &repo.ids(&["new"]), &repo.ids(&["old"]), &options(true, true));
    assert!(stats.deltas > 0 && stats.bytes < 2_000, "what was added has some 10 kB: {stats:?}");
}

#[test]
fn what_came_by_many_pushes_goes_out_as_deltas_on_each_other() {
    // Each version came as a delta on the previous one, which is stored whole after it in the same pack.
    let pushes = r#"
        for n in $(seq 0 9); do
            test $n = 0 || not="^v$((n - 1))"
            printf '%s\n' v$n $not | git pack-objects -q --thin --stdout --revs | git index-pack --stdin --fix-thin >/dev/null
        done
        git prune-packed -q"#;
    let repo = Repo::made_by(gix_hash::Kind::Sha1, &format!("{VERSIONS}\n{pushes}"));
    assert_eq!(repo.objects().packs(true).unwrap().len(), 10);
    check(&repo, &["v9"], &[], &FORMS);
    for ofs_delta in [true, false] {
        let (_, stats) = pack(&repo.objects(), &repo.ids(&["v9"]), &[], &options(false, ofs_delta));
        assert!(stats.bytes < 60_000, "a whole version has 12 kB: {} bytes", stats.bytes);
    }
}

#[test]
fn what_lies_whole_in_many_packs_goes_out_family_by_family() {
    // Packs made from names only, each with some versions stored whole; commits of another history are in between.
    let packs = r#"
        for n in $(seq 0 9); do
            git checkout -q --orphan other$n; git rm -qrf .; echo $n >page; c o$n; git checkout -qf v$n 2>/dev/null || true
        done
        git rev-list --objects --no-object-names --in-commit-order --reverse --all >ids; split -n l/3 ids part.
        for part in part.*; do git pack-objects -q --window=0 ../objects/pack/pack <$part >/dev/null; done
        git prune-packed -q"#;
    let repo = Repo::made_by(gix_hash::Kind::Sha1, &format!("{VERSIONS}\n{packs}"));
    assert_eq!(repo.objects().packs(true).unwrap().len(), 3);
    check(&repo, &["v9", "o9", "o3"], &[], &FORMS);
    for ofs_delta in [true, false] {
        let (_, stats) = pack(&repo.objects(), &repo.ids(&["v9", "o5"]), &[], &options(false, ofs_delta));
        assert!(stats.bytes < 20_000, "a whole version has 12 kB: {} bytes", stats.bytes);
    }
}

#[test]
fn large_directories_are_not_read_for_the_sake_of_a_few_deltas() {
    // A file changes in a directory of 4,000 files and in another one where it is alone; everything is stored whole.
    let repo = Repo::made_by(
        gix_hash::Kind::Sha1,
        r#"
        for line in $(seq 300); do echo $line $(echo $line | sha1sum); done >file
        mkdir many few; (cd many; touch $(seq -f a-file-with-a-long-name-%g 4000))
        cp file few/file; cp file many/file; c old; rm file; sed -i 7d few/file; sed -i 9d many/file; c new old
        git repack -adfbq --window=0
        "#,
    );
    check(&repo, &["new"], &["old"], &[(true, true)]);
    assert!(repo.objects().bitmaps(u64::MAX).unwrap().is_some());
    let (_, stats) = pack(&repo.objects(), &repo.ids(&["new"]), &repo.ids(&["old"]), &options(true, true));
    let sizes = (stats.deltas, stats.bytes);
    assert!(matches!(sizes, (2, 5_000..20_000)), "few/file and the large directory: {stats:?}");
}

#[test]
fn what_came_after_bitmaps_goes_out_as_deltas() {
    let repo = Repo::made_by(
        gix_hash::Kind::Sha1,
        "for line in $(seq 300); do echo $line $(echo $line | sha1sum); done >file; seq 900 >other; c v0; git repack -adbq",
    );
    repo.script(r#"at v0; for n in $(seq 9); do sed -i "$((n * 30))s/.*/changed $n/" file; c v$n v$((n - 1)); done"#);
    assert!(repo.objects().bitmaps(u64::MAX).unwrap().is_some());
    // A whole version has 12 kB, and the bitmaps know one.
    for (have, most) in [(&[][..], 18_000), (&["v0"][..], 4_000), (&["v3"][..], 4_000), (&["v8"][..], 1_000)] {
        [(true, true), (true, false)].iter().for_each(|form| check(&repo, &["v9"], have, &[*form]));
        let (_, stats) = pack(&repo.objects(), &repo.ids(&["v9"]), &repo.ids(have), &options(true, true));
        assert!(stats.bytes < most, "{have:?}: {stats:?}");
    }
}

/// Stores all objects in one pack: first these, each whole or as a delta on an earlier one, then the others, whole.
fn pack_by_hand(repo: &Repo, first: &[(&str, Option<&str>)]) {
    let objects = repo.objects();
    let listed = repo.git(&["rev-list", "--objects", "--no-object-names", "--all"]);
    let all = listed.lines().map(|line| ObjectId::from_hex(line.as_bytes()).unwrap());
    let chosen: Vec<_> = first.iter().map(|(name, base)| (repo.id(name), base.map(|name| repo.id(name)))).collect();
    let others = all.filter(|id| chosen.iter().all(|(chosen, _)| chosen != id)).map(|id| (id, None));
    let order: Vec<_> = chosen.iter().copied().chain(others).collect();
    let content = |id: &ObjectId| {
        let mut content = Vec::new();
        (objects.find(id, &mut content).unwrap().unwrap(), content)
    };
    let mut bytes = Vec::new();
    let mut out = Output::new(&mut bytes, repo.hash, 1);
    out.write(b"PACK\0\0\0\x02").unwrap();
    out.write(&(order.len() as u32).to_be_bytes()).unwrap();
    let mut places = std::collections::HashMap::new();
    for (id, base) in &order {
        let place = out.place();
        places.insert(*id, place);
        let (kind, target) = content(id);
        let mut encoder = Encoder::default();
        let stored = match base {
            None => {
                out.head(number(kind), target.len() as u64, None).unwrap();
                target.as_slice()
            }
            Some(base) => {
                let delta = encoder.encode(&content(base).1, &target, usize::MAX).unwrap();
                out.head(6, delta.len() as u64, Some(place - places[base])).unwrap();
                delta
            }
        };
        Deflater::default().whole(5, stored, &mut |deflated| out.write(deflated)).unwrap();
    }
    out.finish().unwrap();
    repo.run(&["index-pack", "--stdin"], &bytes).unwrap();
    repo.git(&["prune-packed", "-q"]);
}

#[test]
fn what_no_walk_has_seen_beside_its_versions_goes_out_as_a_delta_all_the_same() {
    // In the middle of history a file and two root trees are stored as deltas on versions that are not wanted; the last
    // version of the file is a delta on that file.
    let repo = Repo::made_by(
        gix_hash::Kind::Sha1,
        r#"
        for n in $(seq 60); do echo $n >constant-$n; done
        for line in $(seq 300); do echo $line $(echo $line | sha1sum); done >file; c v0
        for n in $(seq 40); do sed -i "$((n * 7))s/.*/changed $n/" file; c v$n v$((n - 1)); done
        for n in $(seq 41 43); do sed -i "$((n * 6))s/.*/changed $n/" file; echo $n >more-$n; c v$n v$((n - 1)); done
        "#,
    );
    let stored = [
        ("v41:file", None),
        ("v20:file", Some("v41:file")),
        ("v40:file", Some("v20:file")),
        ("v42^{tree}", None),
        ("v43^{tree}", None),
        ("v18^{tree}", Some("v42^{tree}")),
        ("v22^{tree}", Some("v43^{tree}")),
    ];
    pack_by_hand(&repo, &stored);
    write_for_pack(&repo);
    let (wants, haves) = (repo.ids(&["v40"]), repo.ids(&["v0"]));
    let objects = repo.objects();
    assert!(objects.bitmaps(u64::MAX).unwrap().is_some());
    check_ids(&repo, &wants, &haves, &FORMS);
    let base = |thin: bool, of: &str| {
        let client = Repo::new(repo.hash);
        client.run(&["index-pack", "--stdin"], &repo.packed(&haves)).unwrap();
        let (bytes, _) = pack(&objects, &wants, &haves, &options(thin, true));
        client.run(&["index-pack", "--stdin", "--fix-thin"], &bytes).unwrap();
        let asked = client.run(&["cat-file", "--batch-check=%(deltabase)"], repo.id(of).to_string().as_bytes());
        ObjectId::from_hex(asked.unwrap().trim_end()).unwrap()
    };
    assert_eq!(base(true, "v20:file"), repo.id("v0:file"));
    assert_eq!(base(true, "v22^{tree}"), repo.id("v18^{tree}"));
    let whole = ObjectId::null(repo.hash);
    assert_eq!([base(true, "v18^{tree}"), base(false, "v20:file")], [whole; 2]);
}

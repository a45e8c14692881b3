//! Tables written by git, read by us and compared with what git reads; and damaged ones.

use super::Reftable;
use crate::refs::fixture::{Repo, list};
use crate::refs::{Format, Peeled, RefStore, Row, Target};
use bstr::BString;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

fn reftable(hash: gix_hash::Kind) -> Repo {
    Repo::with_format(hash, Format::Reftable)
}

/// Runs git without automatic compaction, so that tables pile up.
fn uncompacted(repo: &Repo, arguments: &[&str], input: &str) {
    use std::io::Write as _;
    let mut git = repo.command(arguments);
    git.env("GIT_TEST_REFTABLE_AUTOCOMPACTION", "false").stdin(std::process::Stdio::piped());
    let mut git = git.spawn().unwrap();
    git.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(git.wait().unwrap().success());
}

/// Updates, deletions, tags and symbolic refs, in many tables.
fn populated(hash: gix_hash::Kind) -> Repo {
    let repo = reftable(hash);
    let (one, two) = (repo.commit("one"), repo.commit("two"));
    let tag = repo.tag("v1", one);
    let mut commands = format!("create refs/tags/v1 {tag}\ncreate refs/tags/light {one}\n");
    for number in 0..300 {
        writeln!(commands, "create refs/heads/b{number} {one}\ncreate refs/heads/dir{number}/x {two}").unwrap();
    }
    uncompacted(&repo, &["update-ref", "--stdin"], &commands);
    for round in 0..7 {
        let mut commands = String::new();
        for number in (round..300).step_by(7) {
            writeln!(commands, "update refs/heads/b{number} {two}\ncreate refs/heads/c{round}-{number} {one}").unwrap();
            writeln!(commands, "delete refs/heads/dir{}/x", (number + round) % 300).unwrap();
        }
        uncompacted(&repo, &["update-ref", "--stdin"], &commands);
        uncompacted(&repo, &["update-ref", "-d", &format!("refs/heads/c{round}-{}", round + 7)], "");
    }
    let symbolic = [
        ("refs/remotes/origin/HEAD", "refs/heads/b3"),
        ("refs/heads/dangling", "refs/heads/none"),
        ("HEAD", "refs/heads/b4"),
    ];
    for (name, target) in symbolic {
        uncompacted(&repo, &["symbolic-ref", name, target], "");
    }
    repo
}

fn tables(repo: &Repo) -> Vec<PathBuf> {
    repo.lines("reftable/tables.list").iter().map(|name| repo.dir().join("reftable").join(name)).collect()
}

#[test]
fn the_list_is_gits_list_whatever_lies_upon_each_other() {
    for hash in [gix_hash::Kind::Sha1, gix_hash::Kind::Sha256] {
        let repo = populated(hash);
        assert!(tables(&repo).len() > 10, "{:?}", tables(&repo));
        assert_eq!(repo.our_refs(&[]), repo.refs(), "{hash}");
        repo.git(&["pack-refs", "--all"]);
        assert_eq!(tables(&repo).len(), 1);
        assert_eq!(repo.our_refs(&[]), repo.refs(), "{hash}");
    }
}

#[test]
fn single_refs_are_what_git_says_they_are() {
    let repo = populated(gix_hash::Kind::Sha1);
    let store = repo.store();
    assert_eq!(store.read("HEAD".into()).unwrap(), Some(Target::Symbolic("refs/heads/b4".into())));
    for line in repo.refs().lines() {
        let (name, value) = line.split_once(' ').unwrap();
        let id = value.split(' ').next().unwrap();
        assert_eq!(store.resolve(name.into()).unwrap().unwrap().to_string(), id, "{name}");
    }
    let check = |name: &str| assert_eq!(store.read(name.into()).unwrap(), None, "{name}");
    for name in ["refs/heads/dir0/x", "refs/heads/b", "refs/heads/b3/x", "refs/heads/zzz", "refs/a", "ORIG_HEAD"] {
        check(name);
    }
    let symbolic = store.read("refs/heads/dangling".into()).unwrap();
    assert_eq!(symbolic, Some(Target::Symbolic("refs/heads/none".into())));
    assert_eq!(store.resolve("refs/heads/dangling".into()).unwrap(), None);
}

#[test]
fn prefixes_choose_what_begins_with_them_each_once() {
    let repo = populated(gix_hash::Kind::Sha1);
    let all = repo.refs();
    let check = |prefixes: &[&str]| {
        let begins = |line: &&str| prefixes.iter().any(|prefix| line.starts_with(prefix));
        let expected: String = all.split_inclusive('\n').filter(begins).collect();
        assert_eq!(repo.our_refs(prefixes), expected, "{prefixes:?}");
    };
    check(&["refs/heads/"]);
    check(&["refs/heads/b1", "refs/heads/b"]);
    check(&["refs/tags/", "refs/heads/b29", "refs/heads/b2", "refs/a"]);
    check(&["refs/heads/c0", "refs/heads/c0", "refs/heads/c6-1", "refs/zzz"]);
    check(&["refs/remotes/origin/HEAD"]);
    assert_eq!(repo.our_refs(&["HEAD"]), "");
}

#[test]
fn ten_thousand_refs_are_found_through_indexes_of_several_levels() {
    for settings in [&["-c", "core.x=y"][..], &["-c", "reftable.blockSize=256", "-c", "reftable.restartInterval=3"]] {
        let repo = reftable(gix_hash::Kind::Sha1);
        let one = repo.commit("one");
        let mut commands = String::new();
        for number in 0..10_000 {
            writeln!(commands, "create refs/heads/{:05}{} {one}", number * 2, "x".repeat(number % 50)).unwrap();
        }
        let arguments: Vec<&str> = settings.iter().chain(&["update-ref", "--stdin"]).copied().collect();
        repo.git_with_input(&arguments, &commands);
        assert!(fs::metadata(&tables(&repo)[0]).unwrap().len() > 64 << 10);
        assert_eq!(repo.our_refs(&[]), repo.refs());
        let store = repo.store();
        for number in (0..10_000).step_by(61) {
            let name = format!("refs/heads/{:05}{}", number * 2, "x".repeat(number % 50));
            assert_eq!(store.resolve(name.as_str().into()).unwrap(), Some(one), "{name}");
            assert_eq!(store.read(format!("{name}y").as_str().into()).unwrap(), None);
            assert_eq!(store.read(format!("refs/heads/{:05}", number * 2 + 1).as_str().into()).unwrap(), None);
        }
        let prefixes = ["refs/heads/0017", "refs/heads/004", "refs/heads/0199999"];
        assert_eq!(repo.our_refs(&prefixes).lines().count(), 5 + 50);
        let many: Vec<String> = (0..20_000).map(|number| format!("refs/heads/{number:05}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(list(&store, &many).lines().count(), 10_000);
    }
}

#[test]
fn looking_up_one_ref_reads_a_few_blocks_of_a_large_table() {
    let repo = reftable(gix_hash::Kind::Sha1);
    let one = repo.commit("one");
    let mut commands = String::new();
    for number in 0..10_000 {
        writeln!(commands, "create refs/heads/{number:05} {one}").unwrap();
    }
    repo.git_with_input(&["update-ref", "--stdin"], &commands);
    repo.git(&["pack-refs", "--all"]);
    let table = tables(&repo).remove(0);
    let whole = fs::read(&table).unwrap();
    let wanted = |bytes: &[u8]| {
        fs::write(&table, bytes).unwrap();
        repo.store().read("refs/heads/05000".into())
    };
    // Damage elsewhere goes unnoticed, because those blocks are not read.
    let mut damaged = whole.clone();
    let blocks = whole.len() / 4096;
    let untouched = (1..blocks / 3).filter(|block| {
        damaged[block * 4096..][..4096].fill(0xff);
        matches!(wanted(&damaged), Ok(Some(Target::Direct(id))) if id == one)
    });
    assert_eq!(untouched.count(), blocks / 3 - 1);
    assert!(list_fails(&repo).contains("unknown type"));
}

fn list_fails(repo: &Repo) -> String {
    let outcome = repo.store().for_each(&[], &mut |_| Ok(()));
    outcome.map_or_else(|error| format!("{error:#}"), |()| "nothing wrong".to_owned())
}

#[test]
fn what_tags_peel_to_is_handed_on_as_it_is_stored() {
    let repo = populated(gix_hash::Kind::Sha1);
    let (tag, target) = (repo.git(&["rev-parse", "v1"]), repo.git(&["rev-parse", "v1^{}"]));
    let mut found = Vec::new();
    let mut each = |row: &Row<'_>| {
        let peeled = match row.peeled {
            Peeled::To(id) => Peeled::To(id.to_string()),
            Peeled::NotATag => Peeled::NotATag,
            Peeled::Unknown => Peeled::Unknown,
        };
        found.push((row.name.to_string(), row.id.to_string(), peeled));
        Ok(())
    };
    let prefixes: [BString; 2] = ["refs/tags/".into(), "refs/heads/b3".into()];
    repo.store().for_each(&prefixes, &mut each).unwrap();
    let peeled = |name: &str| found.iter().find(|(found, ..)| found == name).unwrap().clone();
    assert_eq!(peeled("refs/tags/v1"), ("refs/tags/v1".to_owned(), tag, Peeled::To(target)));
    assert_eq!(peeled("refs/tags/light").2, Peeled::Unknown, "it may be a tag that could not be looked into");
    assert_eq!(peeled("refs/heads/b3").2, Peeled::NotATag, "a branch is never a tag");
}

#[test]
fn a_linked_worktree_has_its_own_head_and_bisect_refs_and_shares_the_others() {
    let repo = reftable(gix_hash::Kind::Sha1);
    let (one, two) = (repo.commit("one"), repo.commit("two"));
    repo.git(&["update-ref", "refs/heads/main", &one.to_string()]);
    repo.git(&["update-ref", "refs/bisect/good", &one.to_string()]);
    let tree = repo.dir().join("tree");
    repo.git(&["worktree", "add", "--quiet", "--detach", tree.to_str().unwrap(), "main"]);
    let git_dir = repo.dir().join("worktrees/tree");
    let mut in_tree = repo.command(&["update-ref", "refs/bisect/bad", &two.to_string()]);
    assert!(in_tree.current_dir(&tree).env_remove("GIT_DIR").status().unwrap().success());
    let store = RefStore::new(Format::Reftable, git_dir, repo.dir().to_owned(), gix_hash::Kind::Sha1);
    assert_eq!(list(&store, &[]), format!("refs/bisect/bad {two}\nrefs/heads/main {one}\n"));
    assert_eq!(list(&store, &["refs/bisect/"]), format!("refs/bisect/bad {two}\n"));
    assert_eq!(store.read("HEAD".into()).unwrap(), Some(Target::Direct(one)));
    assert_eq!(store.read("refs/bisect/good".into()).unwrap(), None);
    assert_eq!(store.resolve("refs/heads/main".into()).unwrap(), Some(one));
    assert_eq!(repo.our_refs(&[]), format!("refs/bisect/good {one}\nrefs/heads/main {one}\n"));
}

#[test]
fn a_new_table_is_seen_by_a_store_that_has_read_before() {
    let repo = reftable(gix_hash::Kind::Sha1);
    let (one, two) = (repo.commit("one"), repo.commit("two"));
    let store = repo.store();
    for id in [one, two] {
        repo.git(&["update-ref", "refs/heads/main", &id.to_string()]);
        assert_eq!(store.resolve("HEAD".into()).unwrap(), Some(id));
        repo.git(&["pack-refs", "--all"]);
        assert_eq!(list(&store, &[]), format!("refs/heads/main {id}\n"));
    }
}

#[test]
fn a_listing_stays_whole_while_its_tables_are_compacted_away() {
    let repo = populated(gix_hash::Kind::Sha1);
    let before = repo.refs();
    let mut lines = String::new();
    let mut each = |row: &Row<'_>| {
        if lines.is_empty() {
            repo.git(&["update-ref", "refs/heads/zzz", &row.id.to_string()]);
            repo.git(&["pack-refs", "--all"]);
        }
        let target = row.symref_target.map(|target| format!(" {target}")).unwrap_or_default();
        writeln!(lines, "{} {}{target}", row.name, row.id).unwrap();
        Ok(())
    };
    repo.store().for_each(&[], &mut each).unwrap();
    assert_eq!(lines, before);
    assert_ne!(repo.our_refs(&[]), before);
}

#[test]
fn lists_of_one_moment_come_while_git_writes_and_compacts() {
    let repo = reftable(gix_hash::Kind::Sha1);
    let ids = [repo.commit("one"), repo.commit("two")];
    let both = |id| format!("update refs/heads/a {id}\nupdate refs/heads/z {id}\n");
    repo.git_with_input(&["update-ref", "--stdin"], &both(ids[0]));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..40 {
                repo.git_with_input(&["update-ref", "--stdin"], &both(ids[round % 2]));
            }
        });
        while !writer.is_finished() {
            let listed = repo.our_refs(&[]);
            let values: Vec<&str> = listed.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
            assert_eq!(values.len(), 2);
            assert_eq!(values[0], values[1], "two refs of one transaction");
        }
    });
}

#[test]
fn a_table_that_is_missing_is_an_error_that_names_it() {
    let repo = populated(gix_hash::Kind::Sha1);
    let check = |list: &str, expected: &str| {
        repo.write("reftable/tables.list", list);
        let error = list_fails(&repo);
        assert!(error.contains(expected), "{error}");
    };
    check("0x1-0x1-gone.ref\n", "reading the reftable 0x1-0x1-gone.ref");
    check("../HEAD\n", "names no table");
    check(&"x\n".repeat(1 << 20), "larger than");
    check("", "nothing wrong");
    fs::remove_file(repo.dir().join("reftable/tables.list")).unwrap();
    assert_eq!(list_fails(&repo), "nothing wrong");
}

#[test]
fn a_damaged_table_is_an_error_or_a_list_and_never_more() {
    let repo = reftable(gix_hash::Kind::Sha1);
    let one = repo.commit("one");
    let tag = repo.tag("v1", one);
    let mut commands = format!("create refs/tags/v1 {tag}\n");
    for number in 0..200 {
        writeln!(commands, "create refs/heads/{number:03} {one}").unwrap();
    }
    repo.git_with_input(&["-c", "reftable.blockSize=512", "update-ref", "--stdin"], &commands);
    repo.git(&["-c", "reftable.blockSize=512", "pack-refs", "--all"]);
    let table = tables(&repo).remove(0);
    let whole = fs::read(&table).unwrap();
    let try_all = || {
        let mut count = 0u32;
        let outcome = repo.store().for_each(&[], &mut |_| {
            count += 1;
            Ok(())
        });
        assert!(count <= 2000, "{outcome:?}");
        let _ = repo.store().read("refs/heads/100".into());
        let _ = repo.store().for_each(&["refs/heads/1".into(), "refs/tags/".into()], &mut |_| Ok(()));
    };
    for at in (0..whole.len()).step_by(13) {
        for byte in [0, 0xff, whole[at] ^ 1] {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            fs::write(&table, &bytes).unwrap();
            try_all();
        }
    }
    for length in (0..whole.len()).step_by(37) {
        fs::write(&table, &whole[..length]).unwrap();
        assert_ne!(list_fails(&repo), "nothing wrong");
    }
}

/// The table of `populated` after a change, with the checksum of its footer recomputed.
fn changed(whole: &[u8], change: impl FnOnce(&mut [u8], usize)) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    let footer = bytes.len() - 68;
    change(&mut bytes, footer);
    let sum = crc32fast::hash(&bytes[footer..footer + 64]);
    bytes[footer + 64..].copy_from_slice(&sum.to_be_bytes());
    bytes
}

#[test]
fn a_hostile_table_is_refused_for_what_is_wrong_with_it() {
    let repo = populated(gix_hash::Kind::Sha1);
    repo.git(&["pack-refs", "--all"]);
    let table = tables(&repo).remove(0);
    let whole = fs::read(&table).unwrap();
    let check = |bytes: Vec<u8>, expected: &str| {
        fs::write(&table, bytes).unwrap();
        let listed = list_fails(&repo);
        let found = repo.store().read("refs/heads/b4".into()).map_or_else(|error| format!("{error:#}"), |_| listed);
        assert!(found.contains(expected), "{found}");
    };
    check(changed(&whole, |_, _| {}), "nothing wrong");
    check(changed(&whole, |bytes, _| bytes[0] = b'X'), "does not begin as one");
    check(changed(&whole, |bytes, _| bytes[4] = 9), "unknown version 9");
    check(changed(&whole, |bytes, _| bytes[7] ^= 1), "do not agree");
    let index = |bytes: &[u8], footer: usize| {
        usize::try_from(u64::from_be_bytes(bytes[footer + 24..][..8].try_into().unwrap())).unwrap()
    };
    check(
        changed(&whole, |bytes, footer| bytes[footer + 24..][..8].copy_from_slice(&u64::MAX.to_be_bytes())),
        "its index lies outside of it",
    );
    // An index whose only entry leads to itself.
    let itself = |bytes: &mut [u8], footer: usize| {
        let at = index(bytes, footer);
        let place = u16::try_from(at).unwrap() - 128;
        let mut block = b"i\0\0\0\x00\x20zzzz".to_vec();
        block.extend_from_slice(&[0x80 | (place >> 7) as u8, (place & 0x7f) as u8]);
        block.extend_from_slice(&[0, 0, 4, 0, 1]);
        block[3] = u8::try_from(block.len()).unwrap();
        bytes[at..at + block.len()].copy_from_slice(&block);
    };
    let bytes = changed(&whole, itself);
    if index(&bytes, bytes.len() - 68) < (1 << 14) {
        check(bytes, "leads onwards instead of back");
    }
    // More bytes than the file has: nothing of that size is allocated.
    check(
        changed(&whole, |bytes, footer| {
            let at = index(bytes, footer);
            bytes[at + 1..at + 4].fill(0xff);
        }),
        "beyond the table's end",
    );
    let journal = std::sync::Arc::new(crate::journal::Journal::of(repo.dir()));
    let other = Reftable::new(repo.dir(), repo.dir(), gix_hash::Kind::Sha256, &journal);
    fs::write(&table, &whole).unwrap();
    assert!(format!("{:#}", other.read("HEAD".into()).unwrap_err()).contains("of the object format sha1"));
}

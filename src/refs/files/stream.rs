//! All refs in order: packed-refs merged with loose refs, prefixes found by binary search, peeled values as stored.
//!
//! In: prefixes. Out: one row after the other. Only directories that can contain a wanted name are read, packed refs
//! are never collected in memory, and a list never mixes two states of packed-refs unless the file keeps changing.

use super::Files;
use super::loose::{self, Loose};
use super::packed::{Packed, Record};
use crate::listing::Listing;
use crate::refs::identity::Identity;
use crate::refs::prefixes::Prefixes;
use crate::refs::{Peeled, Row, SYMBOLIC_READS_MAX, Target, name};
use anyhow::Context;
use bstr::{BStr, BString, ByteSlice};
use gix_hash::ObjectId;
use rustix::fs::FileType;
use std::cmp::Ordering;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How often the loose refs are read again because packed-refs was replaced meanwhile. Each round needs another process
/// that rewrites the file at just that moment; after the last one the list is as consistent as C git's.
const ROUNDS_MAX: usize = 16;

/// The longest name; a longer one does not fit into a path.
const NAME_BYTES_MAX: usize = 4096;

/// See [`crate::refs::RefStore::for_each`].
pub(super) fn for_each(
    store: &Files,
    prefixes: &Prefixes<'_>,
    each: &mut dyn FnMut(&Row<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (loose, packed) = snapshot(store, prefixes)?;
    let mut records = packed.records();
    for prefix in prefixes.iter() {
        let mut more = records.seek(prefix)? && records.record().name.starts_with(prefix);
        let mut entries = loose.below(prefix).iter().peekable();
        let directory = &prefix[..name::well_formed_directory(prefix)];
        loop {
            // Usually no loose ref sorts between the packed refs in the buffer.
            if more && records.block_is_below(prefix, entries.peek().map(|entry| loose.name(entry))) {
                give(&records.record(), each)?;
                while records.advance_in_block(directory)? {
                    give(&records.record(), each)?;
                }
                more = records.advance()? && records.record().name.starts_with(prefix);
                continue;
            }
            let order = match (entries.peek(), more) {
                (None, false) => break,
                (None, true) => Ordering::Less,
                (Some(_), false) => Ordering::Greater,
                (Some(entry), true) => records.compare(loose.name(entry)),
            };
            if order == Ordering::Less {
                give(&records.record(), each)?;
            } else if let Some(entry) = entries.next() {
                let name = loose.name(entry);
                match &entry.target {
                    None => {}
                    Some(Target::Direct(id)) => {
                        let peeled = Peeled::of_name(name);
                        each(&Row { name, id: id.into(), line: None, peeled, symref_target: None })?
                    }
                    Some(Target::Symbolic(target)) => {
                        if let Some((last, id)) = resolve(store, &loose, &packed, target.as_bstr())? {
                            let (id, symref_target) = ((&id).into(), Some(last.as_bstr()));
                            each(&Row { name, id, line: None, peeled: Peeled::Unknown, symref_target })?;
                        }
                    }
                }
            }
            // A loose ref overrides the packed one of its name.
            if order != Ordering::Greater {
                more = records.advance()? && records.record().name.starts_with(prefix);
            }
        }
    }
    Ok(())
}

/// Passes on a packed ref if its name is valid.
fn give(record: &Record<'_>, each: &mut dyn FnMut(&Row<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    if record.is_valid() { each(&record.row()?) } else { Ok(()) }
}

/// The loose refs, and packed-refs as it was both before and after they were read.
fn snapshot(store: &Files, prefixes: &Prefixes<'_>) -> anyhow::Result<(LooseRefs, Packed)> {
    let path = store.packed_path();
    let mut round = 1;
    loop {
        let before = Identity::at(&path).context("reading packed-refs")?;
        let mut loose = LooseRefs::default();
        loose.scan(store, prefixes)?;
        // Opened last, so it contains what was packed and pruned during the scan.
        let packed = Packed::open(&path, store.hash)?;
        if packed.identity() == before || round == ROUNDS_MAX {
            return Ok((loose, packed));
        }
        round += 1;
    }
}

/// Where a symbolic ref leads, in the same snapshot as far as that goes; `None` if it is dangling or broken.
fn resolve(
    store: &Files,
    loose: &LooseRefs,
    packed: &Packed,
    target: &BStr,
) -> anyhow::Result<Option<(BString, ObjectId)>> {
    let mut at = target.to_owned();
    // Starts at 1, because the symbolic ref itself has been read.
    for _ in 1..SYMBOLIC_READS_MAX {
        if !name::is_valid(&at) || !name::is_safe(&at) {
            return Ok(None);
        }
        let found = match loose.find(&at) {
            Some(target) => target.clone().map_or(Loose::Broken, Loose::Found),
            None => store.read_loose(at.as_bstr())?,
        };
        match found {
            Loose::Found(Target::Direct(id)) => return Ok(Some((at, id))),
            Loose::Found(Target::Symbolic(target)) => at = target,
            Loose::Broken => return Ok(None),
            Loose::Missing | Loose::Directory => return Ok(packed.find(&at)?.map(|id| (at, id))),
        }
    }
    Ok(None)
}

/// Loose refs by name. All names share one buffer.
#[derive(Default)]
struct LooseRefs {
    names: Vec<u8>,
    entries: Vec<Entry>,
}

struct Entry {
    name: Range<usize>,
    /// `None` if broken; it still overrides the packed ref of its name.
    target: Option<Target>,
}

impl LooseRefs {
    fn name(&self, entry: &Entry) -> &BStr {
        self.names[entry.name.clone()].as_bstr()
    }

    fn find(&self, name: &[u8]) -> Option<&Option<Target>> {
        let found = self.entries.binary_search_by(|entry| self.name(entry).as_bytes().cmp(name));
        found.ok().map(|at| &self.entries[at].target)
    }

    /// The refs that begin with a prefix.
    fn below(&self, prefix: &[u8]) -> &[Entry] {
        let start = self.entries.partition_point(|entry| self.name(entry).as_bytes() < prefix);
        let count = self.entries[start..].partition_point(|entry| self.name(entry).starts_with(prefix));
        &self.entries[start..start + count]
    }

    fn scan(&mut self, store: &Files, prefixes: &Prefixes<'_>) -> anyhow::Result<()> {
        let linked = store.git_dir != store.common_dir;
        let mut name = b"refs/".to_vec();
        self.scan_directory(store, &store.common_dir, prefixes, &mut name, linked, false)?;
        if linked {
            for directory in name::PER_WORKTREE {
                name.truncate(b"refs/".len());
                name.extend_from_slice(directory);
                if prefixes.reach(&name) {
                    self.scan_directory(store, &store.git_dir, prefixes, &mut name, false, false)?;
                }
            }
        }
        let names = std::mem::take(&mut self.names);
        self.entries.sort_unstable_by(|a, b| names[a.name.clone()].cmp(&names[b.name.clone()]));
        self.names = names;
        Ok(())
    }

    /// Reads the directory `name`, which ends in a slash, and those below it. `name` is restored.
    ///
    /// A symbolic link to a directory is followed, but not another one inside of it, so that circular links end.
    fn scan_directory(
        &mut self,
        store: &Files,
        base: &Path,
        prefixes: &Prefixes<'_>,
        name: &mut Vec<u8>,
        without_worktree: bool,
        linked: bool,
    ) -> anyhow::Result<()> {
        let directory = base.join(std::ffi::OsStr::from_bytes(name));
        let unreadable = || format!("cannot read directory {}", name.as_bstr());
        let entries = match Listing::open(&directory) {
            Ok(entries) => entries,
            // Removed because it became empty, or replaced by a ref.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(());
            }
            Err(error) => return Err(error).with_context(unreadable),
        };
        let length = name.len();
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read directory {}", name[..length].as_bstr()))?;
            let file = entry.name.as_bytes();
            if file.starts_with(b".") || file.ends_with(b".lock") || length + file.len() >= NAME_BYTES_MAX {
                continue;
            }
            name.truncate(length);
            name.extend_from_slice(file);
            let mut kind = entry.kind;
            let is_link = kind.is_symlink();
            if is_link {
                match rustix::fs::stat(directory.join(&entry.name)) {
                    Ok(found) => kind = FileType::from_raw_mode(found.st_mode),
                    Err(_) => continue,
                }
            }
            if kind.is_dir() {
                name.push(b'/');
                let of_worktree = without_worktree && name::is_per_worktree(name.as_bstr());
                if prefixes.reach(name) && !of_worktree && !(linked && is_link) {
                    self.scan_directory(store, base, prefixes, name, without_worktree, linked || is_link)?;
                }
            } else if kind.is_file() && prefixes.cover(name) && name::is_valid(name) {
                let path = directory.join(std::ffi::OsStr::from_bytes(file));
                let found = loose::read(&path, store.hash)
                    .with_context(|| format!("unable to resolve reference '{}'", name.as_bstr()))?;
                let target = match found {
                    Loose::Found(target) => Some(target),
                    Loose::Broken => None,
                    // A ref that is gone was deleted, or is in packed-refs, which is opened later.
                    Loose::Missing | Loose::Directory => continue,
                };
                let start = self.names.len();
                self.names.extend_from_slice(name);
                self.entries.push(Entry { name: start..self.names.len(), target });
            }
        }
        name.truncate(length);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refs::StoredId;
    use crate::refs::fixture::{Repo, list};
    use crate::refs::{Format, RefStore};
    use std::fmt::Write;

    fn populated(hash: gix_hash::Kind) -> Repo {
        let repo = Repo::with_hash(hash);
        let (one, two) = (repo.commit("one"), repo.commit("two"));
        let tag = repo.tag("v1", one);
        let mut commands = format!("create refs/tags/v1 {tag}\ncreate refs/tags/light {one}\n");
        for number in 0..300 {
            writeln!(commands, "create refs/heads/b{number} {one}\ncreate refs/heads/dir{number}/x {two}").unwrap();
        }
        repo.git_with_input(&["update-ref", "--stdin"], &commands);
        repo.git(&["pack-refs", "--all"]);
        let mut commands = format!("create refs/changes/1/2 {one}\n");
        for number in (0..300).step_by(7) {
            writeln!(commands, "update refs/heads/b{number} {two}\ncreate refs/heads/c{number} {one}").unwrap();
            writeln!(commands, "delete refs/heads/b{}", number + 1).unwrap();
        }
        repo.git_with_input(&["update-ref", "--stdin"], &commands);
        repo.git(&["symbolic-ref", "refs/remotes/origin/HEAD", "refs/heads/b3"]);
        repo.git(&["symbolic-ref", "refs/heads/dangling", "refs/heads/none"]);
        repo.write("refs/heads/b10", "broken, and packed below");
        repo.write("refs/heads/bad..name", &format!("{one}\n"));
        repo.write("refs/heads/b4.lock", &format!("{one}\n"));
        repo.write("refs/heads/.nfs0001", &format!("{one}\n"));
        repo
    }

    #[test]
    fn the_list_is_gits_list() {
        for hash in [gix_hash::Kind::Sha1, gix_hash::Kind::Sha256] {
            let repo = populated(hash);
            assert_eq!(repo.our_refs(&[]), repo.refs(), "{hash}");
        }
    }

    #[test]
    fn prefixes_choose_what_begins_with_them_each_once() {
        let repo = populated(gix_hash::Kind::Sha1);
        let all = repo.our_refs(&[]);
        let check = |prefixes: &[&str]| {
            let expected: String = all
                .split_inclusive('\n')
                .filter(|line| {
                    let name = line.split(' ').next().unwrap();
                    prefixes.iter().any(|prefix| name.starts_with(prefix))
                })
                .collect();
            assert_eq!(repo.our_refs(prefixes), expected, "{prefixes:?}");
        };
        check(&["refs/heads/"]);
        check(&["refs/heads/b1"]);
        check(&["refs/heads/b1", "refs/heads/b"]);
        check(&["refs/tags/", "refs/heads/b29", "refs/heads/b2"]);
        check(&["refs/heads/c0", "refs/heads/c0"]);
        check(&["refs/heads/dir7/x"]);
        check(&["refs/he"]);
        check(&["ref"]);
        check(&[""]);
        check(&["refs/heads/zzz", "refs/"]);
        check(&["refs/heads/c", "refs/heads/c/", "refs/heads/c7", "refs/heads/c70", "refs/zzz"]);
        assert_eq!(repo.our_refs(&["HEAD", "heads"]), "");
    }

    fn id_of(peeled: Peeled<StoredId<'_>>) -> Peeled<ObjectId> {
        match peeled {
            Peeled::To(target) => Peeled::To(target.id()),
            Peeled::NotATag => Peeled::NotATag,
            Peeled::Unknown => Peeled::Unknown,
        }
    }

    #[test]
    fn stored_peeled_values_are_handed_on_as_far_as_the_header_promises() {
        let repo = Repo::new();
        let one = repo.commit("one");
        let tag = repo.tag("v1", one);
        let body = format!("{one} refs/heads/x\n{one} refs/tags/a\n{tag} refs/tags/v1\n^{one}\n");
        let check = |header: &str, x: Peeled<ObjectId>, a: Peeled<ObjectId>| {
            repo.write("packed-refs", &format!("{header}{body}"));
            let mut found = Vec::new();
            let mut each = |row: &Row<'_>| {
                found.push(id_of(row.peeled));
                Ok(())
            };
            repo.store().for_each(&[], &mut each).unwrap();
            assert_eq!(found, [x, a, Peeled::To(one)], "{header:?}");
        };
        check("# pack-refs with: peeled fully-peeled sorted \n", Peeled::NotATag, Peeled::NotATag);
        check("# pack-refs with: peeled \n", Peeled::Unknown, Peeled::NotATag);
        check("# pack-refs with: sorted\n", Peeled::Unknown, Peeled::Unknown);
        check("", Peeled::Unknown, Peeled::Unknown);
    }

    #[test]
    fn a_loose_branch_is_known_to_be_no_tag() {
        let repo = Repo::new();
        let one = repo.commit("one");
        for name in ["refs/heads/main", "refs/tags/light"] {
            repo.write(name, &format!("{one}\n"));
        }
        let mut found = Vec::new();
        let mut each = |row: &Row<'_>| {
            found.push((row.name.to_string(), id_of(row.peeled)));
            Ok(())
        };
        repo.store().for_each(&[], &mut each).unwrap();
        assert_eq!(
            found,
            [("refs/heads/main".to_owned(), Peeled::NotATag), ("refs/tags/light".to_owned(), Peeled::Unknown)]
        );
    }

    #[test]
    fn names_behind_a_known_directory_are_judged_and_others_taken_as_they_are() {
        let repo = Repo::new();
        let one = repo.commit("one");
        for directory in ["refs/heads/", "refs/h/", "refs/ab/", "refs/heads/abcde/", "refs/heads/abcdef/"] {
            let mut content = "# pack-refs with: peeled fully-peeled sorted \n".to_owned();
            for rest in ["", ".a", "/a", "a", "a..b", "a.lock", "a.lock/b", "a/b", "a~", "b.c", "z/"] {
                writeln!(content, "{one} {directory}{rest}").unwrap();
            }
            // The file is not sorted, contrary to its header.
            writeln!(content, "{one} refs/x\n{one} {directory}zz").unwrap();
            repo.write("packed-refs", &content);
            let rests = |prefix: &str| {
                let list = repo.our_refs(&[prefix]);
                let names = list.lines().map(|line| line.split(' ').next().unwrap().to_owned());
                names.map(|name| name.replace(directory, "")).collect::<Vec<_>>()
            };
            assert_eq!(rests(directory), ["a", "a/b", "b.c", "refs/x", "zz"], "{directory}");
            assert_eq!(rests(&directory[..directory.len() - 1]), ["a", "a/b", "b.c", "refs/x", "zz"], "{directory}");
        }
    }

    #[test]
    fn an_unsorted_file_is_put_in_order() {
        let repo = Repo::new();
        let one = repo.commit("one");
        let tag = repo.tag("v1", one);
        repo.write("packed-refs", &format!("{tag} refs/tags/v1\n^{one}\n{one} refs/heads/z\n{one} refs/heads/a\n"));
        assert_eq!(repo.our_refs(&[]), repo.refs());
        assert_eq!(repo.store().resolve("refs/heads/a".into()).unwrap(), Some(one));
        assert_eq!(repo.store().resolve("refs/tags/v1".into()).unwrap(), Some(tag));
    }

    #[test]
    fn a_damaged_file_is_an_error_and_never_a_shorter_list() {
        let repo = Repo::new();
        let one = repo.commit("one");
        let check = |content: String| {
            repo.write("packed-refs", &content);
            let head = &content[..content.len().min(200)];
            assert!(repo.store().for_each(&[], &mut |_| Ok(())).is_err(), "{head:?}");
        };
        check(format!("# pack-refs with: sorted \n{one} refs/heads/a"));
        check(format!("# pack-refs with: sorted \n{one} refs/heads/a\nrubbish\n"));
        check(format!("# pack-refs with: sorted \n{one}\n"));
        check(format!("# pack-refs with: sorted \n{one} refs/heads/a\n^{}\n", &one.to_string()[1..]));
        check("# something else\n".to_owned());
        check("# pack-refs with: sorted".to_owned());
        check(format!("# pack-refs with: sorted \n{} refs/heads/a\n", "x".repeat(40)));
        check(format!("# pack-refs with: sorted \n{one} refs/heads/{}\n", "a".repeat(100_000)));
    }

    #[test]
    fn every_packed_ref_of_a_large_file_is_found_and_its_neighbours_are_not() {
        let repo = Repo::new();
        let one = repo.commit("one");
        let mut content = "# pack-refs with: peeled fully-peeled sorted \n".to_owned();
        for number in 0..5000 {
            writeln!(content, "{one} refs/heads/{number:06}{}", "x".repeat(number % 90)).unwrap();
            if number % 3 == 0 {
                writeln!(content, "^{one}").unwrap();
            }
        }
        repo.write("packed-refs", &content);
        let packed = Packed::open(&repo.dir().join("packed-refs"), gix_hash::Kind::Sha1).unwrap();
        for number in 0..5000 {
            let name = format!("refs/heads/{number:06}{}", "x".repeat(number % 90));
            assert_eq!(packed.find(name.as_bytes()).unwrap(), Some(one), "{name}");
            assert_eq!(packed.find(format!("{name}y").as_bytes()).unwrap(), None);
            assert_eq!(packed.find(&name.as_bytes()[..name.len() - 1]).unwrap(), None);
        }
        assert_eq!(packed.find(b"refs/").unwrap(), None);
        assert_eq!(packed.find(b"zzz").unwrap(), None);
        let lines = repo.our_refs(&["refs/heads/0017", "refs/heads/004"]);
        assert_eq!(lines.lines().count(), 100 + 1000);
        // A few keys are searched for one by one; many are found in one pass.
        for step in [1, 700] {
            let keys: Vec<String> = (0..5000).step_by(step).map(|number| format!("refs/heads/{number:06}")).collect();
            let mut met = 0;
            let each = |at: usize, record: Option<crate::refs::files::packed::Record<'_>>| {
                assert!(record.unwrap().name.starts_with(keys[at].as_bytes()));
                met += 1;
                Ok(())
            };
            packed.probe(keys.iter().map(|key| key.as_bytes()), each).unwrap();
            assert_eq!(met, keys.len());
        }
    }

    #[test]
    fn a_linked_worktree_has_its_own_bisect_refs_and_shares_the_others() {
        let repo = Repo::new();
        let one = repo.commit("one");
        repo.git(&["update-ref", "refs/heads/main", &one.to_string()]);
        let tree = repo.dir().join("tree");
        repo.git(&["worktree", "add", "--quiet", "--detach", tree.to_str().unwrap(), "main"]);
        let git_dir = repo.dir().join("worktrees/tree");
        repo.write("worktrees/tree/refs/bisect/bad", &format!("{one}\n"));
        repo.write("refs/bisect/good", &format!("{one}\n"));
        let store = RefStore::new(Format::Files, git_dir, repo.dir().to_owned(), gix_hash::Kind::Sha1);
        assert_eq!(list(&store, &[]), format!("refs/bisect/bad {one}\nrefs/heads/main {one}\n"));
        assert_eq!(list(&store, &["refs/bisect/"]), format!("refs/bisect/bad {one}\n"));
        assert_eq!(store.read("HEAD".into()).unwrap(), Some(Target::Direct(one)));
        assert_eq!(repo.our_refs(&[]), format!("refs/bisect/good {one}\nrefs/heads/main {one}\n"));
    }
}

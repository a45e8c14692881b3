//! Quarantine: where pushed objects wait.
//!
//! In: a repository. Out: an object directory of its own, with the repository's objects as alternates. Nothing in it is
//! visible to other requests until [`Quarantine::migrate`]; dropping it leaves no trace.

use super::Repository;
use crate::durable::{self, Sharing, Sync};
use crate::journal::{Journal, Leftover, QUARANTINE};
use crate::listing::{Listed, Listing};
use crate::odb::Objects;
use rustix::fs::FileType;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The content of a `.keep` that this process makes: program, process id and host (UN-13).
pub fn keep_message(program: &str) -> String {
    format!("{program} {} on {}", std::process::id(), rustix::system::uname().nodename().to_string_lossy())
}

/// Whether a `.keep` was made by a push, git's or ours, rather than by the operator.
fn is_of_a_push(keep: &Path) -> bool {
    fs::read(keep).is_ok_and(|content| content.starts_with(b"receive-pack "))
}

/// How often a file is migrated again if the one it is compared with disappears.
const VANISHED_RETRIES: u32 = 5;

/// A directory `objects/tmp_objdir-incoming-*` (QU-01), removed when dropped.
pub struct Quarantine {
    directory: Directory,
    destination: PathBuf,
    objects: Objects,
    alternates: Vec<PathBuf>,
    journal: Option<Arc<Journal>>,
    sharing: Sharing,
    sync: Sync,
}

/// The outcome of a migration.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Migrated {
    /// The `.keep` files that protect the migrated packs.
    pub keeps: Vec<PathBuf>,
    /// Directories whose new entries are not yet forced to disk.
    pub unforced: Vec<PathBuf>,
    sync: Sync,
}

impl Migrated {
    /// Forces the directories to disk.
    ///
    /// # Errors
    /// As `fsync(2)`.
    pub fn force(&mut self) -> io::Result<()> {
        durable::fsync_all(&std::mem::take(&mut self.unforced), self.sync)
    }

    /// Whether the directories can be forced to disk together with others that use `sync`.
    pub fn goes_with(&self, sync: Sync) -> bool {
        self.sync == sync
    }
}

/// A directory that is removed with its content when dropped.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        // If it cannot be removed, the journal still names it, and gc removes `tmp_*` too.
        let _ = durable::remove_all(&self.0);
    }
}

impl Quarantine {
    /// Creates the directory and its `pack/`.
    ///
    /// # Errors
    /// When it cannot be created; the client gets `unable to start object transaction` (QU-02).
    pub fn open(repository: &Repository) -> anyhow::Result<Self> {
        let settings = &repository.settings;
        let sync = settings.sync(settings.fsync.pack || settings.fsync.loose_object);
        let alternates = repository.context.alternate_directories.clone();
        let journal = Some(repository.refs.journal().clone());
        Quarantine::before(&repository.objects, alternates, journal, settings.sharing, sync)
    }

    /// A quarantine in the first directory of `objects`; `alternates` are those that the environment names.
    pub(crate) fn before(
        objects: &Objects,
        alternates: Vec<PathBuf>,
        journal: Option<Arc<Journal>>,
        sharing: Sharing,
        sync: Sync,
    ) -> anyhow::Result<Self> {
        let destination = objects.directories()?.into_iter().next();
        let destination = destination.ok_or_else(|| anyhow::anyhow!("there is no object directory"))?;
        // Hooks run in another directory.
        let destination = std::path::absolute(destination)?;
        let path = destination.join(durable::unique(QUARANTINE));
        if let Some(journal) = &journal {
            journal.note(Leftover::Directory(&path), sharing);
        }
        durable::mkdir(&path, sharing)?;
        let directory = Directory(path);
        durable::mkdir(&directory.0.join("pack"), sharing)?;
        let objects = objects.with_front(&directory.0);
        Ok(Quarantine { directory, destination, objects, alternates, journal, sharing, sync })
    }

    /// The object directory of the quarantine (absolute).
    pub fn path(&self) -> &Path {
        &self.directory.0
    }

    /// The quarantined objects, then the repository's.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// The variables that let a hook see the quarantined objects (QU-03, QU-04).
    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut alternates = Vec::new();
        for path in self.alternates.iter().chain([&self.destination]) {
            if !alternates.is_empty() {
                alternates.push(b':');
            }
            alternates.extend(quoted_in_list(path.as_os_str().as_bytes()));
        }
        let path = self.path().as_os_str().to_owned();
        vec![
            ("GIT_ALTERNATE_OBJECT_DIRECTORIES".into(), OsString::from_vec(alternates)),
            ("GIT_OBJECT_DIRECTORY".into(), path.clone()),
            ("GIT_QUARANTINE_PATH".into(), path),
        ]
    }

    /// Moves every object into the repository: loose ones first, then .keep, .pack, .rev, .idx; files and then
    /// directories are forced to disk. A pack that exists already gets another name, because a concurrent repack may be
    /// about to remove the existing one.
    ///
    /// Returns the `.keep` files that protect the packs.
    ///
    /// # Errors
    /// When a file cannot be moved; the client gets `unable to migrate objects to permanent storage` (QU-08).
    pub fn migrate(self) -> io::Result<Vec<PathBuf>> {
        let mut moved = self.migrate_unforced()?;
        moved.force()?;
        Ok(moved.keeps)
    }

    /// Migrates without forcing directories to disk: a caller that relies on the objects after a power loss calls
    /// [`Migrated::force`].
    ///
    /// # Errors
    /// As [`Quarantine::migrate`].
    pub fn migrate_unforced(self) -> io::Result<Migrated> {
        let mut moved = Migrated { sync: self.sync, ..Migrated::default() };
        self.migrate_directory(self.path(), &self.destination, false, &mut moved)?;
        Ok(moved)
    }

    /// Moves the content of one directory.
    fn migrate_directory(&self, from: &Path, to: &Path, loose: bool, moved: &mut Migrated) -> io::Result<()> {
        let mut names = Vec::new();
        for entry in Listing::open(from)? {
            let Listed { name, kind } = entry?;
            if !name.as_bytes().starts_with(b".") {
                names.push((kind == FileType::Directory, name));
            }
        }
        names.sort_by_cached_key(|(_, name)| (Rank::of(name), name.clone()));
        let mut new_entries = false;
        let mut pack_names = PackNames::default();
        for (is_directory, name) in names {
            let (from, to) = (from.join(&name), to.join(&name));
            if is_directory {
                let is_new = !to.is_dir();
                new_entries |= is_new;
                if is_new && is_fan_out(&name) && self.migrate_whole(&from, &to)? {
                    moved.unforced.push(to);
                    continue;
                }
                durable::mkdir_all(&self.destination, &to, self.sharing)?;
                self.migrate_directory(&from, &to, is_fan_out(&name), moved)?;
            } else {
                match Rank::of(&name) {
                    _ if loose => self.migrate_loose(&from, &to)?,
                    Rank::Keep => moved.keeps.push(self.migrate_keep(&from, &to, &mut pack_names)?),
                    Rank::Loose | Rank::Pack | Rank::ReverseIndex | Rank::Index | Rank::Other => {
                        self.migrate_file(&from, &pack_names.destination(&from, &to)?)?;
                    }
                }
                new_entries = true;
            }
        }
        if new_entries {
            moved.unforced.push(to.to_owned());
        }
        Ok(())
    }

    /// Moves a whole fan-out directory of loose objects if there is none of that name yet, and returns whether it did.
    /// A directory with anything else in it, or whose modes core.sharedRepository changes, is migrated file by file.
    fn migrate_whole(&self, from: &Path, to: &Path) -> io::Result<bool> {
        if self.sharing != Sharing::Umask {
            return Ok(false);
        }
        for entry in Listing::open(from)? {
            let Listed { name, kind } = entry?;
            if kind != FileType::RegularFile || name.as_bytes().starts_with(b".") {
                return Ok(false);
            }
        }
        // Another process may have created it meanwhile, or the file system cannot rename directories.
        Ok(durable::rename(from, to).is_ok())
    }

    /// Moves a loose object into place, in front of one that exists already: that one holds the same, but it may be so old that a
    /// gc which has seen no ref to it is about to remove it.
    fn migrate_loose(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.in_folder(from, to, durable::rename)
    }

    /// Moves the `.keep` of a pack into place, and returns that place. If there is one of another push already, which that
    /// push will remove, the pack gets another name; one of the operator stays.
    fn migrate_keep(&self, from: &Path, natural: &Path, names: &mut PackNames) -> io::Result<PathBuf> {
        loop {
            let to = names.destination(from, natural)?;
            if let Some(journal) = &self.journal {
                journal.note(Leftover::File(&to, &fs::read(from)?), self.sharing);
            }
            if self.place(from, &to)? {
                return Ok(to);
            }
            if !is_of_a_push(&to) {
                return durable::unlink(from).map(|()| to);
            }
            names.take_another(natural)?;
        }
    }

    /// Moves a file into place. One that exists already stays; with other content it is an error.
    fn migrate_file(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut attempt = 0;
        while !self.place(from, to)? {
            match same_content(from, to) {
                Ok(true) => return durable::unlink(from),
                Ok(false) => return Err(io::Error::other("files differ in contents")),
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < VANISHED_RETRIES => attempt += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Moves a file into place unless one exists there; returns whether it did.
    fn place(&self, from: &Path, to: &Path) -> io::Result<bool> {
        match self.in_folder(from, to, durable::link) {
            Ok(()) => durable::unlink(from).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            // The file system may have no hard links.
            Err(_) if fs::symlink_metadata(to).is_ok() => Ok(false),
            Err(_) => durable::rename(from, to).map(|()| true),
        }
    }

    /// Moves or links a file; the directory it is to lie in is made again if it vanishes: gc removes fan-out directories that are
    /// empty for a moment.
    fn in_folder(&self, from: &Path, to: &Path, act: fn(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
        let mut attempt = 0;
        loop {
            match act(from, to) {
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && attempt < VANISHED_RETRIES && from.exists() =>
                {
                    attempt += 1;
                    if let Some(parent) = to.parent() {
                        durable::mkdir_all(&self.destination, parent, self.sharing)?;
                    }
                }
                outcome => return outcome,
            }
        }
    }
}

/// Names of packs at the destination: a pack that exists there already gets another one. git does not care how a pack is named.
#[derive(Default)]
struct PackNames(HashMap<OsString, OsString>);

impl PackNames {
    /// The destination of a file; a pack of that name with other content is an error.
    fn destination(&mut self, from: &Path, natural: &Path) -> io::Result<PathBuf> {
        let Some(stem) = natural.file_stem().filter(|stem| stem.as_bytes().starts_with(b"pack-")) else {
            return Ok(natural.to_owned());
        };
        if !self.0.contains_key(stem) {
            match same_content(&from.with_extension("pack"), &natural.with_extension("pack")) {
                Ok(true) => self.take_another(natural)?,
                Ok(false) => return Err(io::Error::other("files differ in contents")),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.0.insert(stem.to_owned(), stem.to_owned());
                }
                Err(error) => return Err(error),
            }
        }
        let mut name = self.0[stem].clone();
        if let Some(extension) = natural.extension() {
            name.push(".");
            name.push(extension);
        }
        Ok(natural.with_file_name(name))
    }

    /// Gives a pack a name that no other one has.
    fn take_another(&mut self, natural: &Path) -> io::Result<()> {
        let stem = natural.file_stem().unwrap_or_default();
        let kind = gix_hash::Kind::from_hex_len(stem.len() - b"pack-".len()).unwrap_or(gix_hash::Kind::Sha1);
        let mut hasher = gix_hash::hasher(kind);
        hasher.update(durable::unique("").as_bytes());
        let name = format!("pack-{}", hasher.try_finalize().map_err(io::Error::other)?);
        self.0.insert(stem.to_owned(), name.into());
        Ok(())
    }
}

/// The order in which files are moved: a pack is found by its index, so the index comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Loose,
    Keep,
    Pack,
    ReverseIndex,
    Index,
    Other,
}

impl Rank {
    fn of(name: &OsStr) -> Self {
        let name = name.as_bytes();
        if !name.starts_with(b"pack") {
            return Rank::Loose;
        }
        match name.rsplit(|byte| *byte == b'.').next() {
            Some(b"keep") => Rank::Keep,
            Some(b"pack") if name.contains(&b'.') => Rank::Pack,
            Some(b"rev") => Rank::ReverseIndex,
            Some(b"idx") => Rank::Index,
            _ => Rank::Other,
        }
    }
}

fn is_fan_out(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.len() == 2 && name.iter().all(u8::is_ascii_hexdigit)
}

fn same_content(a: &Path, b: &Path) -> io::Result<bool> {
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let (mut buffer_a, mut buffer_b) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let read = a.read(&mut buffer_a)?;
        if read == 0 {
            return Ok(b.read(&mut buffer_b)? == 0);
        }
        match b.read_exact(&mut buffer_b[..read]) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            outcome => outcome?,
        }
        if buffer_a[..read] != buffer_b[..read] {
            return Ok(false);
        }
    }
}

/// A path as an element of a colon-separated list; quoted like a C string if it would be misread.
fn quoted_in_list(path: &[u8]) -> Vec<u8> {
    if path.first() != Some(&b'"') && !path.contains(&b':') {
        return path.to_owned();
    }
    let mut quoted = vec![b'"'];
    for &byte in path {
        let escape = match byte {
            7 => Some(b'a'),
            8 => Some(b'b'),
            b'\t' => Some(b't'),
            b'\n' => Some(b'n'),
            11 => Some(b'v'),
            12 => Some(b'f'),
            b'\r' => Some(b'r'),
            b'"' | b'\\' => Some(byte),
            _ => None,
        };
        match escape {
            Some(letter) => quoted.extend([b'\\', letter]),
            None if !(b' '..0x7f).contains(&byte) => quoted.extend(format!("\\{byte:03o}").bytes()),
            None => quoted.push(byte),
        }
    }
    quoted.push(b'"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, SystemTime};

    struct Scratch(PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    impl Scratch {
        /// Creates an empty object directory.
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(durable::unique(name));
            fs::create_dir(&path).unwrap();
            fs::create_dir(path.join("pack")).unwrap();
            Scratch(path)
        }

        fn quarantine(&self) -> Quarantine {
            let objects = Objects::new(gix_hash::Kind::Sha1, vec![self.0.clone()]);
            Quarantine::before(&objects, Vec::new(), None, Sharing::Umask, Sync::Together).unwrap()
        }

        fn write(&self, path: &str, content: &str) {
            write(&self.0, path, content);
        }

        /// All files, with their contents.
        fn files(&self) -> Vec<String> {
            let mut found = Vec::new();
            let mut folders = vec![self.0.clone()];
            while let Some(folder) = folders.pop() {
                for entry in fs::read_dir(folder).unwrap() {
                    let path = entry.unwrap().path();
                    if path.is_dir() {
                        folders.push(path);
                    } else {
                        let name = path.strip_prefix(&self.0).unwrap().display().to_string();
                        found.push(format!("{name}={}", fs::read_to_string(&path).unwrap()));
                    }
                }
            }
            found.sort();
            found
        }
    }

    fn write(root: &Path, path: &str, content: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    #[test]
    fn what_is_not_migrated_leaves_no_trace() {
        let scratch = Scratch::new("quarantine-");
        let quarantine = scratch.quarantine();
        let path = quarantine.path().to_owned();
        assert!(path.is_absolute() && path.join("pack").is_dir());
        assert!(path.file_name().unwrap().as_bytes().starts_with(b"tmp_objdir-incoming-"));
        write(&path, "ab/cdef", "loose");
        write(&path, "pack/pack-1.pack", "pack");
        drop(quarantine);
        assert!(!path.exists());
        assert!(scratch.files().is_empty());

        let unwound = std::panic::catch_unwind(|| {
            let quarantine = scratch.quarantine();
            write(quarantine.path(), "ab/cdef", "loose");
            panic!("unwinds");
        });
        assert!(unwound.is_err());
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1, "only the folder of packs");
    }

    #[test]
    fn everything_is_migrated_beside_what_is_there() {
        let scratch = Scratch::new("quarantine-");
        scratch.write("ab/there", "deflated otherwise");
        let old = SystemTime::now() - Duration::from_secs(30 * 24 * 60 * 60);
        File::options().write(true).open(scratch.0.join("ab/there")).unwrap().set_modified(old).unwrap();
        scratch.write("pack/pack-1.pack", "pack");
        scratch.write("pack/pack-1.keep", "somebody else's");
        let quarantine = scratch.quarantine();
        for (path, content) in [
            ("ab/there", "deflated thus"),
            ("ab/new", "loose"),
            ("cd/new", "loose"),
            ("ef/new", "loose"),
            ("ef/.hidden", "no object"),
            ("pack/pack-1.pack", "pack"),
            ("pack/pack-1.keep", "ours"),
            ("pack/pack-1.idx", "idx"),
            ("info/commit-graphs/x", "a hook's"),
        ] {
            write(quarantine.path(), path, content);
        }
        let keeps = quarantine.migrate().unwrap();
        // A repack may be about to remove the existing pack.
        let other = keeps[0].file_stem().unwrap().to_str().unwrap().to_owned();
        let mut files = scratch.files();
        files.iter_mut().for_each(|file| *file = file.replace(&other, "OTHER"));
        files.sort();
        assert_eq!(
            files,
            [
                "ab/new=loose",
                // A gc that knows of no ref to the old one may be about to remove it.
                "ab/there=deflated thus",
                "cd/new=loose",
                "ef/new=loose",
                "info/commit-graphs/x=a hook's",
                "pack/OTHER.idx=idx",
                "pack/OTHER.keep=ours",
                "pack/OTHER.pack=pack",
                "pack/pack-1.keep=somebody else's",
                "pack/pack-1.pack=pack",
            ]
        );
    }

    #[test]
    fn the_keep_of_another_push_is_not_relied_on() {
        // It is of another push of the same pack, whose .pack is not there yet, and which removes its .keep when it is done.
        let scratch = Scratch::new("quarantine-");
        let stem = format!("pack-{}", "1".repeat(40));
        scratch.write(&format!("pack/{stem}.keep"), "receive-pack 7 on there");
        let quarantine = scratch.quarantine();
        for extension in ["pack", "keep", "idx"] {
            write(quarantine.path(), &format!("pack/{stem}.{extension}"), "ours");
        }
        let keeps = quarantine.migrate().unwrap();
        let other = keeps[0].file_stem().unwrap().to_str().unwrap();
        assert_eq!(other.len(), stem.len());
        let mut expected = [format!("pack/{stem}.keep=receive-pack 7 on there")]
            .into_iter()
            .chain(["idx", "keep", "pack"].map(|extension| format!("pack/{other}.{extension}=ours")))
            .collect::<Vec<_>>();
        expected.sort();
        assert_eq!(scratch.files(), expected);
    }

    #[test]
    fn a_keep_file_that_waits_for_the_pack_stays_as_it_is() {
        let scratch = Scratch::new("quarantine-");
        scratch.write("pack/pack-1.keep", "the operator's");
        let quarantine = scratch.quarantine();
        write(quarantine.path(), "pack/pack-1.pack", "pack");
        write(quarantine.path(), "pack/pack-1.keep", "ours");
        assert_eq!(quarantine.migrate().unwrap(), [scratch.0.join("pack/pack-1.keep")]);
        assert_eq!(scratch.files(), ["pack/pack-1.keep=the operator's", "pack/pack-1.pack=pack"]);
    }

    #[test]
    fn a_pack_of_the_same_name_with_other_content_is_refused() {
        for other in ["PACK", "longer pack"] {
            let scratch = Scratch::new("quarantine-");
            scratch.write("pack/pack-1.pack", other);
            let quarantine = scratch.quarantine();
            write(quarantine.path(), "pack/pack-1.pack", "pack");
            write(quarantine.path(), "pack/pack-1.idx", "idx");
            quarantine.migrate().unwrap_err();
            assert_eq!(scratch.files(), [format!("pack/pack-1.pack={other}")]);
        }
    }

    #[test]
    fn a_pack_becomes_visible_by_its_index_last() {
        let mut names = ["pack-1.idx", "pack-1.mtimes", "ab", "pack-1.pack", "pack-1.rev", "pack-1.keep", "pack"];
        names.sort_by_key(|name| Rank::of(OsStr::new(name)));
        assert_eq!(names, ["ab", "pack-1.keep", "pack-1.pack", "pack-1.rev", "pack-1.idx", "pack-1.mtimes", "pack"]);
    }

    #[test]
    fn hooks_are_told_where_the_objects_are() {
        let scratch = Scratch::new("quarantine:\"");
        let objects = Objects::new(gix_hash::Kind::Sha1, vec![scratch.0.clone()]);
        let alternates = vec![PathBuf::from("/one"), PathBuf::from("/t:wo")];
        let quarantine = Quarantine::before(&objects, alternates, None, Sharing::Umask, Sync::Never).unwrap();
        let environment = quarantine.environment();
        let value = |name: &str| environment.iter().find(|(key, _)| key == name).unwrap().1.clone();
        assert_eq!(value("GIT_OBJECT_DIRECTORY"), quarantine.path());
        assert_eq!(value("GIT_QUARANTINE_PATH"), quarantine.path());
        let quoted = scratch.0.to_str().unwrap().replace('"', "\\\"");
        let expected = format!("/one:\"/t:wo\":\"{quoted}\"");
        assert_eq!(value("GIT_ALTERNATE_OBJECT_DIRECTORIES"), OsStr::new(&expected));
    }

    #[test]
    fn lists_are_quoted_only_where_they_must_be() {
        let check = |path: &[u8], expected: &str| {
            assert_eq!(String::from_utf8(quoted_in_list(path)).unwrap(), expected);
        };
        check(b"/plain path", "/plain path");
        check(b"/a\"b", "/a\"b");
        check(b"\"a", "\"\\\"a\"");
        check(b"/a:b\n\\\x01\xff", "\"/a:b\\n\\\\\\001\\377\"");
    }

    #[test]
    fn a_quarantine_that_cannot_be_made_is_an_error() {
        let scratch = Scratch::new("quarantine-");
        let objects = Objects::new(gix_hash::Kind::Sha1, vec![scratch.0.join("missing")]);
        assert!(Quarantine::before(&objects, Vec::new(), None, Sharing::Umask, Sync::Never).is_err());
    }

    #[test]
    fn directories_are_shared_as_configured() {
        let scratch = Scratch::new("quarantine-");
        let objects = Objects::new(gix_hash::Kind::Sha1, vec![scratch.0.clone()]);
        let quarantine = Quarantine::before(&objects, Vec::new(), None, Sharing::Group, Sync::Never).unwrap();
        write(quarantine.path(), "ab/new", "loose");
        quarantine.migrate().unwrap();
        let mode = fs::metadata(scratch.0.join("ab")).unwrap().permissions().mode();
        assert_eq!(mode & 0o2770, 0o2770, "{mode:o}");
    }
}

//! What processes that change a repository would leave behind if they died: locks, temporary files, half-made
//! directories.
//!
//! In: the directory of a repository. Out: locks that can be told from those of other programs, and a repository
//! without what dead processes of this program left. A lock is never touched unless it is proven to be ours and its
//! owner dead.
//!
//! Each running process has one file in the journal and holds a file lock on it as long as it lives. A lock
//! `<file>.lock` is a hard link to that file: device and inode tell whose it is, the file lock whether its owner lives.
//! Everything else the process would leave is noted in the file before it is made. The file's name tells the machine
//! and its boot, because file systems may know only one machine's file locks. If anything needed is missing (hard
//! links, file locks, permissions), a lock is a plain one as in C git, which is renamed to the file it guards.

use crate::durable::{self, Sharing};
use crate::listing::{Listed, Listing};
use rustix::fs::FileType;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The journal's directory, in the repository's common directory.
const NAME: &str = "artifacts-journal";
/// The prefix of a running process's file, `push-<boot>-<machine>-<random>`.
const OWNER: &str = "push-";
/// The prefix of all directories that are noted, the quarantines of pushes. No other directory is ever removed.
pub const QUARANTINE: &str = "tmp_objdir-incoming-";
/// The prefix of a lock that is being broken and was moved aside.
const BROKEN: &str = "broken-";
/// Directories not searched for our locks: they contain too many files, or none of ours.
const NOT_SEARCHED: &[&str] = &["hooks", "logs", NAME];
/// The directory of objects. Of its many subdirectories only two can contain locks.
const OBJECTS: &str = "objects";
const SEARCHED_OF_OBJECTS: &[&str] = &["info", "pack"];
/// Directories that may be symbolic links to their content, as git's own `git-new-workdir` makes them.
const FOLLOWED: &[&str] = &["info", OBJECTS, "refs", "reftable", "worktrees"];
/// The most bytes of an owner's file that are read.
const NOTES_MAX: u64 = 1 << 20;

/// The journal of one repository. Nothing is read or created before something is locked.
#[derive(Debug)]
pub struct Journal {
    root: PathBuf,
    /// Another directory that holds locks of this one's owners.
    beside: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// New locks are links to the last one; the number of links to a file is limited.
    owners: Vec<Owner>,
    /// Whether this file system or this user cannot have owner files.
    impossible: bool,
    temporaries: u32,
}

/// The kind of directory in which locks are searched.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Objects,
    Below,
}

/// A file of this process in the journal. It is removed when dropped, unless something is left that a later sweep must
/// remove.
#[derive(Debug)]
struct Owner {
    path: PathBuf,
    /// The open file, which holds the file lock.
    file: File,
    /// What was noted in it; for files, with their content.
    noted: Vec<(PathBuf, Option<Vec<u8>>)>,
}

impl Owner {
    /// Whether anything is left: a lock, something noted, or a temporary file.
    fn is_needed(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.nlink() > 1)
            || self.noted.iter().any(|(path, content)| match content {
                None => fs::symlink_metadata(path).is_ok(),
                Some(content) => fs::read(path).is_ok_and(|found| found == *content),
            })
            || self.temporaries().is_ok_and(|found| !found.is_empty())
    }

    fn temporaries(&self) -> io::Result<Vec<PathBuf>> {
        temporaries(&self.path)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if !self.is_needed() {
            // If it cannot be removed, its owner counts as dead from then on, and it is swept.
            let _ = durable::unlink(&self.path);
        }
    }
}

/// The temporary files of the owner at `path`, and its locks that were moved aside to be broken.
fn temporaries(path: &Path) -> io::Result<Vec<PathBuf>> {
    let prefix = [path.file_name().unwrap_or_default().as_bytes(), b"."].concat();
    let owner = fs::symlink_metadata(path)?;
    let mut found = Vec::new();
    let folder = path.parent().unwrap_or(path);
    for entry in Listing::open(folder)? {
        let name = entry?.name;
        let path = folder.join(&name);
        let is_aside = || name.as_bytes().starts_with(BROKEN.as_bytes()) && is_same(&path, &owner);
        if name.as_bytes().starts_with(&prefix) || is_aside() {
            found.push(path);
        }
    }
    Ok(found)
}

/// The kind of a lock file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockFile {
    /// A hard link to our file in the journal; nothing is written into it.
    Ours,
    /// A file of its own as in C git; it may be renamed to the file it guards.
    Plain,
}

/// What a dead process may have left, apart from locks and temporary files of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftover<'a> {
    /// A directory with everything in it; its name begins with [`QUARANTINE`].
    Directory(&'a Path),
    /// A file, if it has this content.
    File(&'a Path, &'a [u8]),
    /// A file with a unique name, whatever its content.
    Temporary(&'a Path),
}

impl Journal {
    /// The journal for everything below a directory.
    pub fn of(root: &Path) -> Self {
        Journal { root: root.to_owned(), beside: None, state: Mutex::default() }
    }

    /// The journal of the refs at `root`, and of the repository whose refs these are where that is another directory.
    pub fn of_refs(root: &Path, common_dir: &Path) -> Self {
        Journal { beside: (root != common_dir).then(|| common_dir.to_owned()), ..Journal::of(root) }
    }

    /// Whether this is the journal of the given directory.
    pub fn is_of(&self, root: &Path) -> bool {
        let same = |a: &Path, b: &Path| a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b));
        self.root == root || same(&self.root, root)
    }

    fn directory(&self) -> PathBuf {
        self.root.join(NAME)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a lock file, which must not exist.
    ///
    /// # Errors
    /// As `open(2)` with `O_EXCL`.
    pub fn lock(&self, path: &Path, sharing: Sharing) -> io::Result<LockFile> {
        let mut state = self.state();
        // Once an owner file has all the links it can, another one is made.
        for _ in 0..2 {
            let Some(owner) = self.owner(&mut state, sharing) else { break };
            match durable::link(&owner.path, path) {
                Err(error) if error.kind() == io::ErrorKind::TooManyLinks => {
                    let another = Origin::here().map(|here| self.make_owner(&here, sharing));
                    let Some(Ok(another)) = another else { break };
                    state.owners.push(another);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && !owner.path.exists() => break,
                Err(error) if is_of_the_place(&error) => return Err(error),
                Err(_) => break,
                Ok(()) => return Ok(LockFile::Ours),
            }
        }
        drop(state);
        durable::create(path, 0o666, sharing).map(|_| LockFile::Plain)
    }

    /// Creates a file that is to replace another one on the journal's file system. Its owner removes it; if the owner
    /// dies, a later sweep does. If there can be no owner file, it is created all the same, but nothing ever sweeps it.
    ///
    /// # Errors
    /// As `open(2)` and `mkdir(2)`.
    pub fn temporary(&self, sharing: Sharing) -> io::Result<(PathBuf, File)> {
        let mut state = self.state();
        state.temporaries += 1;
        let number = state.temporaries;
        let path = match self.owner(&mut state, sharing) {
            Some(owner) => owner.path.with_extension(number.to_string()),
            None => self.directory().join(durable::unique("of-nobody-")),
        };
        drop(state);
        let made = match durable::create(&path, 0o666, sharing) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                durable::mkdir_all(&self.root, &self.directory(), sharing)
                    .and_then(|()| durable::create(&path, 0o666, sharing))
            }
            file => file,
        };
        match made {
            Err(error) if is_of_the_journal(&error) => {
                let path = self.root.join(durable::unique("artifacts-of-nobody-"));
                let file = durable::create(&path, 0o666, sharing)?;
                Ok((path, file))
            }
            file => Ok((path, file?)),
        }
    }

    /// Notes something about to be made, so that it is removed if this process dies. If that fails, the caller makes it
    /// all the same.
    pub fn note(&self, leftover: Leftover<'_>, sharing: Sharing) {
        let mut state = self.state();
        if self.owner(&mut state, sharing).is_some()
            && let Some(owner) = state.owners.first_mut()
        {
            let (word, path, content, noted) = match leftover {
                Leftover::Directory(path) => (&b"directory"[..], path, &b""[..], None),
                Leftover::File(path, content) => (&b"file"[..], path, content, Some(content.to_owned())),
                Leftover::Temporary(path) => (&b"temporary"[..], path, &b""[..], None),
            };
            owner.noted.push((path.to_owned(), noted));
            let path = path.strip_prefix(&self.root).unwrap_or(path).as_os_str().as_bytes();
            let _ = durable::write_all(&mut owner.file, &[word, b"\0", path, b"\0", content, b"\0"].concat());
        }
    }

    /// The owner file for new locks. Before the first is used, what dead owners left is swept.
    fn owner<'s>(&self, state: &'s mut State, sharing: Sharing) -> Option<&'s Owner> {
        if state.owners.is_empty() && !state.impossible {
            match Origin::here().map(|here| (self.make_owner(&here, sharing), here)) {
                Some((Ok(owner), here)) => {
                    self.sweep_but(&owner.path, &here);
                    state.owners.push(owner);
                }
                Some((Err(_), _)) | None => state.impossible = true,
            }
        }
        state.owners.last()
    }

    fn make_owner(&self, here: &Origin, sharing: Sharing) -> io::Result<Owner> {
        let directory = self.directory();
        for _ in 0..3 {
            let path = directory.join(here.unique());
            let file = match durable::create(&path, 0o666, sharing) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    durable::mkdir_all(&self.root, &directory, sharing)?;
                    durable::create(&path, 0o666, sharing)?
                }
                file => file?,
            };
            let owner = Owner { path, file, noted: Vec::new() };
            match owner.file.try_lock() {
                // Another process took the file for a dead owner's before it was locked, and is removing it.
                Err(fs::TryLockError::WouldBlock) => {}
                Err(fs::TryLockError::Error(error)) => return Err(error),
                Ok(()) if is_at(&owner.file, &owner.path) => return Ok(owner),
                Ok(()) => {}
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// Removes what dead processes of this program left. Returns whether there was any such process.
    pub fn sweep(&self) -> bool {
        let own = self.state().owners.first().map(|owner| owner.path.clone());
        let here = Origin::here();
        here.is_some_and(|here| self.sweep_but(own.as_deref().unwrap_or(Path::new("")), &here))
    }

    /// Sweeps all owner files except `own`. Other owners in this process are safe: they hold their file locks.
    fn sweep_but(&self, own: &Path, here: &Origin) -> bool {
        let mut swept = false;
        let directory = self.directory();
        let Ok(entries) = Listing::open(&directory) else { return false };
        for entry in entries.flatten() {
            let path = directory.join(&entry.name);
            let origin = Origin::of(&entry.name).filter(|origin| path != own && origin.may_be_judged(here));
            if let Some(origin) = origin {
                swept |= self.bury(&path, origin.boot == here.boot).unwrap_or(false);
            }
        }
        swept
    }

    /// Removes what an owner left, if it is dead. `is_of_this_boot` tells whether it ran under the current boot of this
    /// machine.
    fn bury(&self, path: &Path, is_of_this_boot: bool) -> io::Result<bool> {
        // Some network file systems lock only files that are open for writing.
        let mut file = match durable::reopen(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => File::open(path)?,
            file => file?,
        };
        // A living owner would hold this file lock. Now it is ours until we are done, so no other process breaks the
        // same locks.
        if file.try_lock().is_err() || !is_at(&file, path) {
            return Ok(false);
        }
        let metadata = file.metadata()?;
        if !is_of_this_boot && !durable::is_local(&self.root) && !is_of_an_earlier_boot(&metadata) {
            return Ok(false);
        }
        if metadata.nlink() > 1 {
            self.break_locks(&metadata)?;
        }
        let mut notes = Vec::new();
        (&mut file).take(NOTES_MAX).read_to_end(&mut notes)?;
        self.follow(&notes);
        for left in temporaries(path)? {
            durable::unlink(&left)?;
        }
        // A lock that was not found can be recognized only by this file, so it stays.
        if file.metadata()?.nlink() > 1 {
            return Ok(false);
        }
        durable::unlink(path)?;
        Ok(true)
    }

    /// Breaks all locks that are links to a dead owner's file, also below symbolic links that stand for directories of
    /// a repository.
    fn break_locks(&self, owner: &fs::Metadata) -> io::Result<()> {
        let roots = || [Some(&self.root), self.beside.as_ref()].into_iter().flatten();
        let mut seen = HashSet::new();
        let mut folders: Vec<(PathBuf, Place)> = roots().map(|root| (root.clone(), Place::Root)).collect();
        while let Some((folder, place)) = folders.pop() {
            // A directory that is gone, as empty ones of refs may be, contains no lock. One that cannot be read, such as
            // an administrator's backup, is passed over: if it does contain a lock, the owner's file stays.
            let is_new = fs::metadata(&folder).is_ok_and(|found| seen.insert((found.dev(), found.ino())));
            let Some(listing) = is_new.then(|| Listing::open(&folder).ok()).flatten() else { continue };
            for Listed { name, kind } in listing.flatten() {
                let path = folder.join(&name);
                let is_one_of = |names: &[&str]| names.iter().any(|one| name == *one);
                let is_folder = match kind {
                    FileType::Directory => true,
                    FileType::Symlink => place == Place::Root && is_one_of(FOLLOWED) && path.is_dir(),
                    _ => false,
                };
                if is_folder {
                    match place {
                        Place::Root if is_one_of(NOT_SEARCHED) => {}
                        Place::Root if name == OBJECTS => folders.push((path, Place::Objects)),
                        Place::Objects if !is_one_of(SEARCHED_OF_OBJECTS) => {}
                        Place::Root | Place::Objects | Place::Below => folders.push((path, Place::Below)),
                    }
                } else if name.as_bytes().ends_with(b".lock") && is_same(&path, owner) {
                    self.break_lock(&path, owner)?;
                }
            }
        }
        Ok(())
    }

    /// Breaks a lock: moves it aside, checks it again, and puts it back if another process had taken it meanwhile.
    fn break_lock(&self, path: &Path, owner: &fs::Metadata) -> io::Result<()> {
        let aside = self.directory().join(durable::unique(BROKEN));
        match durable::rename(path, &aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            outcome => outcome?,
        }
        if !is_same(&aside, owner) {
            match durable::link(&aside, path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        durable::unlink(&aside)
    }

    /// Removes what a dead owner noted.
    fn follow(&self, notes: &[u8]) {
        let words: Vec<&[u8]> = notes.split(|byte| *byte == 0).collect();
        // The last word is empty or incomplete.
        for note in words[..words.len() - 1].chunks_exact(3) {
            let path = self.root.join(OsString::from_vec(note[1].to_owned()));
            // After a power loss a note may be cut short, with zeros after it.
            let is_quarantine =
                || path.file_name().is_some_and(|name| name.as_bytes().starts_with(QUARANTINE.as_bytes()));
            // What cannot be removed stays and is not tried again, because it blocks nobody.
            let _ = match note[0] {
                b"directory" if is_quarantine() => durable::remove_all(&path),
                b"temporary" => durable::unlink(&path),
                b"file" if !note[2].is_empty() && fs::read(&path).is_ok_and(|content| content == note[2]) => {
                    durable::unlink(&path)
                }
                _ => Ok(()),
            };
        }
    }
}

/// Whether a file was last written before this boot of the machine. If not, no earlier boot of this machine wrote it:
/// its owner is on another machine of the same name, whose locks the file system may not know. If that machine wrote it
/// before this boot, its owner cannot be told from a dead one.
fn is_of_an_earlier_boot(metadata: &fs::Metadata) -> bool {
    use rustix::time::{ClockId, clock_gettime};
    let booted = clock_gettime(ClockId::Realtime).tv_sec - clock_gettime(ClockId::Boottime).tv_sec;
    metadata.mtime() < booted
}

/// Whether a link failed because of the destination, as any file would.
fn is_of_the_place(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, NotADirectory, NotFound};
    matches!(error.kind(), AlreadyExists | NotFound | NotADirectory)
}

/// Whether the journal is not a directory, or not one that this user may write to.
fn is_of_the_journal(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, NotADirectory, PermissionDenied};
    matches!(error.kind(), AlreadyExists | NotADirectory | PermissionDenied)
}

fn is_at(file: &File, path: &Path) -> bool {
    file.metadata().is_ok_and(|metadata| is_same(path, &metadata))
}

fn is_same(path: &Path, other: &fs::Metadata) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (other.dev(), other.ino()))
}

/// Where a process runs or ran: one boot of one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    boot: String,
    machine: String,
}

impl Origin {
    /// The origin of this process; `None` if the kernel does not tell.
    pub fn here() -> Option<Self> {
        let boot = fs::read("/proc/sys/kernel/random/boot_id").ok()?;
        // Copied machines share the machine id; containers of one machine may share the host name.
        let mut machine = fs::read("/etc/machine-id").unwrap_or_default();
        machine.extend_from_slice(rustix::system::uname().nodename().to_bytes());
        Some(Origin { boot: digest(&boot), machine: digest(&machine) })
    }

    /// The origin in the name of an owner's file.
    fn of(name: &OsStr) -> Option<Self> {
        let mut words = name.to_str()?.strip_prefix(OWNER)?.split('-');
        let (boot, machine, random) = (words.next()?, words.next()?, words.next()?);
        let complete = words.next().is_none() && !random.contains('.');
        complete.then(|| Origin { boot: boot.to_owned(), machine: machine.to_owned() })
    }

    /// The origin as 32 hexadecimal digits, half for the boot and half for the machine.
    pub fn letters(&self) -> String {
        format!("{}{}", self.boot, self.machine)
    }

    /// Parses what [`Origin::letters`] returned; `None` for anything else.
    pub fn from_letters(letters: &str) -> Option<Self> {
        let is_hex = letters.len() == 32 && letters.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (boot, machine) = letters.split_at_checked(16).filter(|_| is_hex)?;
        Some(Origin { boot: boot.to_owned(), machine: machine.to_owned() })
    }

    fn unique(&self) -> String {
        let random = durable::unique("");
        let random = random.rsplit('-').next().unwrap_or_default();
        format!("{OWNER}{}-{}-{random}", self.boot, self.machine)
    }

    /// Whether being able to take a file lock may prove that an owner of this origin is dead: it ran under this kernel,
    /// or an earlier boot of this machine. The file system may not know the locks of other machines, some of which may
    /// have the same name (`is_of_an_earlier_boot`).
    pub fn may_be_judged(&self, here: &Origin) -> bool {
        self.boot == here.boot || self.machine == here.machine
    }
}

/// FNV-1a: file names need no secrecy.
fn digest(bytes: &[u8]) -> String {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            let path = std::env::temp_dir().join(durable::unique("journal-"));
            fs::create_dir_all(path.join("refs/heads")).unwrap();
            fs::create_dir(path.join("objects")).unwrap();
            Scratch(path)
        }

        fn journal(&self) -> Journal {
            Journal::of(&self.0)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        fn entries(&self) -> usize {
            fs::read_dir(self.path(NAME)).unwrap().count()
        }

        /// What a process leaves that was killed while it held a lock and had noted and written something.
        fn dead(&self, origin: &Origin, lock: &str) -> PathBuf {
            fs::create_dir_all(self.path(NAME)).unwrap();
            let owner = self.path(NAME).join(origin.unique());
            fs::write(
                &owner,
                b"directory\0objects/tmp_objdir-incoming-x\0\0file\0objects/mine\0ours\0file\0objects/other\0ours\0temporary\0info/tmp_x\0\0dir",
            )
            .unwrap();
            fs::hard_link(&owner, self.path(lock)).unwrap();
            fs::write(owner.with_extension("1"), "").unwrap();
            fs::create_dir_all(self.path("objects/tmp_objdir-incoming-x/pack")).unwrap();
            fs::write(self.path("objects/tmp_objdir-incoming-x/pack/file"), "").unwrap();
            fs::write(self.path("objects/mine"), "ours").unwrap();
            fs::create_dir_all(self.path("info")).unwrap();
            fs::write(self.path("info/tmp_x"), "whatever").unwrap();
            fs::write(self.path("objects/other"), "somebody else's").unwrap();
            owner
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn lock(journal: &Journal, path: &Path) -> Result<(), io::ErrorKind> {
        journal.lock(path, Sharing::Umask).map(drop).map_err(|error| error.kind())
    }

    #[test]
    fn what_a_dead_process_has_left_goes_and_nothing_else() {
        let scratch = Scratch::new();
        let owner = scratch.dead(&Origin::here().unwrap(), "refs/heads/a.lock");
        fs::create_dir(scratch.path("objects/info")).unwrap();
        let of_objects = ["objects/maintenance.lock", "objects/info/commit-graph.lock"];
        of_objects.iter().for_each(|lock| fs::hard_link(&owner, scratch.path(lock)).unwrap());
        fs::write(scratch.path("refs/heads/git.lock"), "").unwrap();
        let journal = scratch.journal();
        assert_eq!(lock(&journal, &scratch.path("refs/heads/b.lock")), Ok(()));
        assert!(!scratch.path("refs/heads/a.lock").exists());
        assert!(of_objects.iter().all(|lock| !scratch.path(lock).exists()));
        assert!(!scratch.path("objects/tmp_objdir-incoming-x").exists() && !scratch.path("objects/mine").exists());
        assert!(!scratch.path("info/tmp_x").exists());
        assert!(scratch.path("objects/other").exists(), "it holds something else than was noted");
        assert_eq!(lock(&journal, &scratch.path("refs/heads/git.lock")), Err(io::ErrorKind::AlreadyExists));
        assert!(!journal.sweep());
        assert_eq!(scratch.entries(), 1);
        fs::remove_file(scratch.path("refs/heads/b.lock")).unwrap();
        drop(journal);
        assert_eq!(scratch.entries(), 0);
        assert!(scratch.path("refs/heads/git.lock").exists());
    }

    #[test]
    fn what_lives_is_left_alone() {
        let scratch = Scratch::new();
        let living = scratch.journal();
        lock(&living, &scratch.path("refs/heads/a.lock")).unwrap();
        let (temporary, _) = living.temporary(Sharing::Umask).unwrap();
        let other = scratch.journal();
        assert_eq!(lock(&other, &scratch.path("refs/heads/a.lock")), Err(io::ErrorKind::AlreadyExists));
        assert!(!other.sweep());
        assert!(temporary.exists() && scratch.path("refs/heads/a.lock").exists());
        // As if killed now: what it could not remove is swept with it.
        drop(living);
        assert!(scratch.path("refs/heads/a.lock").exists());
        assert!(other.sweep());
        assert_eq!(lock(&other, &scratch.path("refs/heads/a.lock")), Ok(()));
        assert!(!temporary.exists());
    }

    #[test]
    fn an_owner_of_another_boot_of_this_machine_is_judged_and_one_of_another_machine_is_not() {
        let here = Origin::here().unwrap();
        let elsewhere = || digest(b"elsewhere");
        for (origin, judged) in [
            (Origin { boot: elsewhere(), ..here.clone() }, true),
            (Origin { machine: elsewhere(), ..here.clone() }, true),
            (Origin { boot: elsewhere(), machine: elsewhere() }, false),
        ] {
            let scratch = Scratch::new();
            let owner = scratch.dead(&origin, "refs/heads/a.lock");
            assert_eq!(scratch.journal().sweep(), judged, "{origin:?}");
            assert_eq!(owner.exists(), !judged);
            assert_eq!(scratch.path("refs/heads/a.lock").exists(), !judged);
        }
    }

    #[test]
    fn what_is_as_young_as_this_boot_is_of_no_earlier_one() {
        let scratch = Scratch::new();
        let file = File::create(scratch.path("file")).unwrap();
        let is_earlier = || is_of_an_earlier_boot(&file.metadata().unwrap());
        assert!(!is_earlier());
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert!(is_earlier());
    }

    #[test]
    fn a_lock_that_has_become_somebody_elses_is_put_back() {
        let scratch = Scratch::new();
        let owner = scratch.dead(&Origin::here().unwrap(), "refs/heads/a.lock");
        fs::write(scratch.path("refs/heads/b.lock"), "C git's").unwrap();
        let journal = scratch.journal();
        let metadata = fs::metadata(&owner).unwrap();
        journal.break_lock(&scratch.path("refs/heads/b.lock"), &metadata).unwrap();
        assert_eq!(fs::read(scratch.path("refs/heads/b.lock")).unwrap(), b"C git's");
        journal.break_lock(&scratch.path("refs/heads/a.lock"), &metadata).unwrap();
        assert!(!scratch.path("refs/heads/a.lock").exists());
    }

    #[test]
    fn locks_behind_symbolic_links_are_broken_and_one_that_is_not_found_keeps_its_owners_file() {
        let here = Origin::here().unwrap();
        let (scratch, elsewhere) = (Scratch::new(), Scratch::new());
        fs::create_dir(elsewhere.path("pack")).unwrap();
        fs::remove_dir(scratch.path("objects")).unwrap();
        std::os::unix::fs::symlink(&elsewhere.0, scratch.path("objects")).unwrap();
        std::os::unix::fs::symlink("../refs", scratch.path("refs/again")).unwrap();
        scratch.dead(&here, "objects/pack/multi-pack-index.lock");
        assert!(scratch.journal().sweep());
        assert!(!elsewhere.path("pack/multi-pack-index.lock").exists());
        assert_eq!(scratch.entries(), 0);
        // In a directory that is not searched for locks.
        fs::create_dir(scratch.path("hooks")).unwrap();
        let owner = scratch.dead(&here, "hooks/a.lock");
        assert!(!scratch.journal().sweep(), "there is no use in trying again");
        assert!(owner.exists() && scratch.path("hooks/a.lock").exists());
        fs::rename(scratch.path("hooks/a.lock"), scratch.path("refs/heads/a.lock")).unwrap();
        assert!(scratch.journal().sweep());
        assert!(!owner.exists() && !scratch.path("refs/heads/a.lock").exists());
    }

    #[test]
    fn the_search_for_locks_stays_in_the_repository_and_passes_what_it_may_not_read() {
        let here = Origin::here().unwrap();
        let (scratch, elsewhere) = (Scratch::new(), Scratch::new());
        fs::create_dir(scratch.path("custom")).unwrap();
        std::os::unix::fs::symlink(&elsewhere.0, scratch.path("custom/link")).unwrap();
        let outside = scratch.dead(&here, "refs/heads/outside.lock");
        fs::rename(scratch.path("refs/heads/outside.lock"), elsewhere.path("outside.lock")).unwrap();
        scratch.dead(&here, "refs/heads/a.lock");
        // Lists first, whatever the order of the directory is: there is one on each side of `refs`.
        let unreadable = ["a-backup", "zz-backup"].map(|name| scratch.path(name));
        for folder in &unreadable {
            fs::create_dir(folder).unwrap();
            fs::set_permissions(folder, Permissions::from_mode(0o0)).unwrap();
        }
        assert!(scratch.journal().sweep());
        assert!(!scratch.path("refs/heads/a.lock").exists());
        assert!(outside.exists() && elsewhere.path("outside.lock").exists());
        unreadable.iter().for_each(|folder| fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap());
    }

    #[test]
    fn locks_of_a_repository_whose_refs_are_elsewhere_are_broken() {
        let here = Origin::here().unwrap();
        let (refs, repository) = (Scratch::new(), Scratch::new());
        fs::create_dir(repository.path("objects/pack")).unwrap();
        let locks = ["objects/maintenance.lock", "objects/pack/multi-pack-index.lock"];
        for lock in locks {
            refs.dead(&here, "refs/heads/a.lock");
            fs::rename(refs.path("refs/heads/a.lock"), repository.path(lock)).unwrap();
        }
        assert!(Journal::of_refs(&refs.0, &repository.0).sweep());
        assert_eq!(refs.entries(), 0);
        assert!(locks.iter().all(|lock| !repository.path(lock).exists()));
    }

    #[test]
    fn a_note_that_is_cut_never_names_the_repository_itself() {
        let scratch = Scratch::new();
        let quarantine = "objects/tmp_objdir-incoming-x";
        fs::create_dir_all(scratch.path(quarantine)).unwrap();
        // Not the root directory: this test must not harm the machine if the code is wrong.
        let outside = Scratch::new();
        let notes = format!("directory\0\0\0directory\0{}\0\0temporary\0\0\0\0\0\0directory\0obj", outside.0.display());
        scratch.journal().follow(notes.as_bytes());
        assert!(scratch.path(quarantine).exists() && outside.0.exists());
        scratch.journal().follow(format!("directory\0{quarantine}\0\0").as_bytes());
        assert!(!scratch.path(quarantine).exists() && scratch.path("objects").exists());
    }

    /// After a power loss the last block of a file may be all zeros, wherever it begins.
    #[test]
    fn a_note_that_ends_in_zeros_removes_nothing_that_was_not_noted() {
        let scratch = Scratch::new();
        let quarantine = "objects/tmp_objdir-incoming-x";
        for directory in [quarantine, "objects/tmp_objdir-incoming-other", "objects/pack", "info"] {
            fs::create_dir_all(scratch.path(directory)).unwrap();
        }
        let files = ["objects/pack/pack-x", "objects/pack/pack-x.keep", "info/refs", "gc.pid"];
        files.iter().for_each(|file| fs::write(scratch.path(file), "").unwrap());
        let notes = format!(
            "directory\0{quarantine}\0\0file\0objects/pack/pack-x.keep\0ours\0temporary\0info/tmp_info_xyz\0\0file\0gc.pid\01\0"
        );
        for end in 0..notes.len() {
            let mut torn = notes.as_bytes()[..end].to_vec();
            torn.resize(512, 0);
            scratch.journal().follow(&torn);
            assert!(files.iter().all(|file| scratch.path(file).exists()), "{end}");
            assert!(
                scratch.path("objects/tmp_objdir-incoming-other").exists() && scratch.path("info").exists(),
                "{end}"
            );
            let is_noted = end >= "directory\0".len() + quarantine.len();
            assert_eq!(scratch.path(quarantine).exists(), !is_noted, "{end}");
        }
    }

    #[test]
    fn where_there_can_be_no_journal_locks_are_plain_ones() {
        let scratch = Scratch::new();
        fs::write(scratch.path(NAME), "a file in its place").unwrap();
        let journal = scratch.journal();
        assert_eq!(lock(&journal, &scratch.path("refs/heads/a.lock")), Ok(()));
        assert_eq!(lock(&journal, &scratch.path("refs/heads/a.lock")), Err(io::ErrorKind::AlreadyExists));
        assert_eq!(lock(&journal, &scratch.path("refs/heads/none/a.lock")), Err(io::ErrorKind::NotFound));
        journal.note(Leftover::Directory(&scratch.path("objects/x")), Sharing::Umask);
        assert!(!journal.sweep());
    }
}

//! The directory of a cache: file names, whether writers are alive, what must be removed.
//!
//! In: a key. Out: its file, found or begun. A complete answer is named after the key, an unfinished one has `.part`
//! appended: the process that creates it writes it, and holds its file lock as long as it lives. Only the process that
//! created a file ever changes it.

use super::entry::{Reader, Writer};
use super::{Cache, Key, Notes, Role};
use crate::durable::{self, Sharing};
use crate::journal::Origin;
use rustix::fs::{Access, Mode, OFlags};
use rustix::io::Errno;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Follows the key in the name of an unfinished answer.
const PART: &str = ".part";
/// Follows the key in the name of a file that is being removed.
const ASIDE: &str = ".gone-";
/// The letters of a key.
const KEY_LETTERS: usize = 64;
/// A hit updates the file's time if that is older than this.
const NOTED_AFTER: Duration = Duration::from_secs(60);
/// An unfinished file that has not changed for this long is removed.
const ABANDONED_AFTER: Duration = Duration::from_secs(600);
/// The permission to write for others.
const WRITABLE_FOR_ALL: u32 = 0o002;

/// What shows that a writer is alive.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sign {
    size: u64,
    modified: (i64, i64),
}

/// The state of a writer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    Seen(Sign),
    Dead,
    /// The file system does not tell.
    Unknown,
}

/// What there is of an answer.
pub(super) enum Found {
    /// A file, complete or growing.
    There(Reader, Role),
    Nothing,
    /// A file that cannot be read or trusted.
    Unusable,
}

/// The result of beginning a file.
pub(super) enum Begun {
    /// The file is ours to write; the reader is for our own client.
    Ours(Box<Writer>, Reader),
    /// Another process writes it.
    Theirs(Reader),
    /// There is a complete one by now.
    Complete,
    /// No file can be made.
    Impossible,
}

/// Checks whether a directory may be used. It need not exist yet.
pub(super) fn check(directory: &Path) -> Result<(), String> {
    let shown = directory.display();
    match fs::metadata(directory) {
        Ok(metadata) if !metadata.is_dir() => Err(format!("ARTIFACTS_CACHE: {shown} is no directory; nothing is kept")),
        Ok(metadata) if metadata.mode() & WRITABLE_FOR_ALL != 0 => {
            Err(format!("ARTIFACTS_CACHE: everybody may write to {shown}; nothing is kept"))
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("ARTIFACTS_CACHE: {shown}: {error}; nothing is kept")),
    }
}

/// Checks whether files can be created in a directory, or the directory itself if it is missing. Creating them may
/// still fail later.
pub(super) fn writable(directory: &Path) -> Result<(), String> {
    let may_write = |path: &Path| rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK);
    let probed = match (may_write(directory), directory.parent()) {
        (Err(Errno::NOENT), Some(parent)) => may_write(parent),
        (probed, _) => probed,
    };
    probed.map_err(|error| {
        let error = io::Error::from(error);
        format!("ARTIFACTS_CACHE: nothing can be written to {}: {error}; nothing is kept", directory.display())
    })
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Whether a name is one of ours: a key, possibly with a suffix of ours.
fn is_ours(name: &str) -> bool {
    let Some((key, behind)) = name.split_at_checked(KEY_LETTERS) else { return false };
    key.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && (behind.is_empty() || behind == PART || behind.starts_with(ASIDE))
}

impl Cache {
    pub(super) fn path(&self, key: &Key) -> PathBuf {
        self.directory.join(key.to_string())
    }

    pub(super) fn part_path(&self, key: &Key) -> PathBuf {
        self.directory.join(format!("{key}{PART}"))
    }

    /// Opens a file that this user has written; files of other users are never handed out.
    fn open_file(&self, path: &Path) -> io::Result<(File, Metadata)> {
        // Opening something that is not a file, such as a FIFO, must not block.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(ErrorKind::PermissionDenied.into());
        }
        Ok((file, metadata))
    }

    /// Finds the file of an answer, complete or growing. A complete one that is damaged is removed.
    pub(super) fn find(&self, key: &Key) -> Found {
        let path = self.path(key);
        match self.open_file(&path) {
            Ok((file, metadata)) => match Reader::complete(file, key) {
                Ok(Some(reader)) => {
                    self.note_hit(&path, &metadata);
                    return Found::There(reader, Role::Hit);
                }
                Ok(None) => self.remove(&path, &metadata),
                Err(_) => return Found::Unusable,
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(_) => return Found::Unusable,
        }
        match self.open_file(&self.part_path(key)) {
            Ok((file, _)) => Found::There(Reader::growing(file, key), Role::Followed),
            Err(error) if error.kind() == ErrorKind::NotFound => Found::Nothing,
            Err(_) => Found::Unusable,
        }
    }

    /// Marks an answer as used, so that recently used answers are kept longest.
    fn note_hit(&self, path: &Path, metadata: &Metadata) {
        let age = metadata.modified().ok().and_then(|time| self.now.duration_since(time).ok());
        if age.is_some_and(|age| age > NOTED_AFTER) {
            // It may have been removed in the meantime.
            let _ = durable::touch(path);
        }
    }

    /// Begins the file of an answer, unless there is one.
    pub(super) fn begin(&self, key: &Key) -> Begun {
        let path = self.part_path(key);
        let file = match self.create(&path) {
            Ok(file) => file,
            // A file system may go on reporting to a process that once asked in vain that the file is missing, but not
            // to one that failed to create it.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => match self.open_file(&path) {
                Ok((file, _)) => return Begun::Theirs(Reader::growing(file, key)),
                Err(_) => return Begun::Impossible,
            },
            Err(_) => return Begun::Impossible,
        };
        // Where there are no file locks, only the file's size and time show that its writer is alive.
        let origin = file.try_lock().ok().and_then(|()| Origin::here());
        let begun = Writer::begin(file, &path, key, origin.as_ref());
        let reader = self.open_file(&path).map(|(file, _)| Reader::growing(file, key));
        match (begun, reader) {
            // Another process has finished the answer since we looked for it.
            (Ok(_), Ok(_)) if self.path(key).exists() => {
                let _ = durable::unlink(&path);
                Begun::Complete
            }
            (Ok(writer), Ok(reader)) => Begun::Ours(Box::new(writer), reader),
            (_, _) => {
                let _ = durable::unlink(&path);
                Begun::Impossible
            }
        }
    }

    /// Creates a file, and the directory if it is missing.
    fn create(&self, path: &Path) -> io::Result<File> {
        match durable::create(path, 0o600, Sharing::Umask) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                durable::mkdir_private(&self.directory)?;
                durable::create(path, 0o600, Sharing::Umask)
            }
            outcome => outcome,
        }
    }

    /// Gives a finished file its final name, and makes room for it.
    pub(super) fn keep(&self, key: &Key, writer: &mut Writer, notes: &Notes) -> io::Result<()> {
        writer.complete(notes)?;
        // Ours may have been removed and replaced by another one.
        let ours = writer.file().metadata()?;
        if !fs::symlink_metadata(writer.path()).is_ok_and(|found| is_same(&found, &ours)) {
            return Err(ErrorKind::NotFound.into());
        }
        durable::rename(writer.path(), &self.path(key))?;
        self.make_room(&ours);
        Ok(())
    }

    /// Removes a file that this process is writing.
    pub(super) fn give_up(&self, writer: &Writer) {
        if let Ok(metadata) = writer.file().metadata() {
            self.remove(writer.path(), &metadata);
        }
    }

    /// Checks whether the writer of a growing file is alive.
    pub(super) fn look(&self, key: &Key, reader: &mut Reader) -> State {
        let Ok(metadata) = reader.file().metadata() else { return State::Dead };
        if metadata.nlink() == 0 {
            return State::Dead;
        }
        if let (Some(origin), Some(here)) = (reader.origin().cloned(), Origin::here())
            && origin.may_be_judged(&here)
        {
            // A shared lock, so that concurrent readers do not take each other for the writer.
            if reader.file().try_lock_shared().is_ok() {
                let _ = reader.file().unlock();
                return State::Dead;
            }
        }
        // Other nodes may see new data only when they open the file, which may have its final name by now.
        for path in [self.part_path(key), self.path(key)] {
            if let Ok((file, found)) = self.open_file(&path)
                && is_same(&found, &metadata)
            {
                reader.go_on_with(file);
                return State::Seen(Sign { size: found.len(), modified: (found.mtime(), found.mtime_nsec()) });
            }
        }
        State::Unknown
    }

    /// Removes the file of a dead writer, or a damaged one.
    pub(super) fn bury(&self, key: &Key, reader: &Reader) {
        if let Ok(metadata) = reader.file().metadata() {
            self.remove(&self.part_path(key), &metadata);
            self.remove(&self.path(key), &metadata);
        }
    }

    /// Removes a file if it is still the one that was meant: renames it, checks it again, and puts it back if it was
    /// replaced in between.
    fn remove(&self, path: &Path, meant: &Metadata) {
        let is_meant = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| is_same(&found, meant));
        let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|_| is_meant(path)) else { return };
        let key = &name[..name.len().min(KEY_LETTERS)];
        let aside = self.directory.join(durable::unique(&format!("{key}{ASIDE}")));
        // A file that cannot be removed now is removed when room is made.
        if durable::rename(path, &aside).is_ok() {
            if !is_meant(&aside) {
                let _ = durable::link(&aside, path);
            }
            let _ = durable::unlink(&aside);
        }
    }

    /// Removes abandoned unfinished files, then the least recently used answers until the rest fits. `newest` has just
    /// been written, and tells the current time on the file system.
    pub(super) fn make_room(&self, newest: &Metadata) {
        let (Ok(entries), Ok(now)) = (fs::read_dir(&self.directory), newest.modified()) else { return };
        let mut total = 0_u64;
        let mut complete = Vec::new();
        for entry in entries.flatten() {
            let Some(name) = entry.file_name().to_str().filter(|name| is_ours(name)).map(str::to_owned) else {
                continue;
            };
            let Ok(metadata) = entry.metadata() else { continue };
            let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let size = metadata.len();
            if name.len() == KEY_LETTERS {
                complete.push((is_same(&metadata, newest), modified, name, metadata));
            } else if now.duration_since(modified).is_ok_and(|age| age > ABANDONED_AFTER) {
                self.remove(&entry.path(), &metadata);
                continue;
            }
            total = total.saturating_add(size);
        }
        complete.sort_by(|one, other| (one.0, one.1, &one.2).cmp(&(other.0, other.1, &other.2)));
        for (_, _, name, metadata) in complete {
            if total <= self.bytes {
                break;
            }
            total = total.saturating_sub(metadata.len());
            self.remove(&self.directory.join(name), &metadata);
        }
    }
}

//! Directories, listed by system calls alone: the C library's directory streams first set up its allocator, which is
//! noticeable in a process that lives for half a millisecond.
//!
//! In: a path. Out: names and kinds, in no particular order, never `.` or `..`.

use rustix::fs::{Dir, FileType, Mode, OFlags};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A directory that is being listed.
pub struct Listing {
    entries: Dir,
    path: PathBuf,
}

/// A directory entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The entry's name.
    pub name: OsString,
    /// The entry's kind; symbolic links are not followed.
    pub kind: FileType,
}

impl Listing {
    /// Opens the directory at `path`, following a symbolic link.
    ///
    /// # Errors
    /// As `opendir`: when `path` does not exist, is not a directory, or may not be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Listing { entries: Dir::new(directory)?, path: path.to_owned() })
    }

    /// Looks up the kind of an entry, since not every file system reports it with the name.
    fn kind_of(&self, name: &OsStr) -> FileType {
        match rustix::fs::lstat(self.path.join(name)) {
            Ok(found) => FileType::from_raw_mode(found.st_mode),
            Err(_) => FileType::Unknown,
        }
    }
}

impl Iterator for Listing {
    type Item = io::Result<Listed>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = match self.entries.read()? {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error.into())),
            };
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => self.kind_of(name),
                kind => kind,
            };
            return Some(Ok(Listed { name: name.to_owned(), kind }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_kinds_are_told() {
        let scratch = std::env::temp_dir().join(format!("listing-{}", std::process::id()));
        std::fs::create_dir_all(scratch.join("folder")).unwrap();
        std::fs::write(scratch.join("file"), "").unwrap();
        std::os::unix::fs::symlink("folder", scratch.join("link")).unwrap();
        let mut found: Vec<_> = Listing::open(&scratch).unwrap().map(Result::unwrap).collect();
        found.sort_by(|one, other| one.name.cmp(&other.name));
        let expected = [("file", FileType::RegularFile), ("folder", FileType::Directory), ("link", FileType::Symlink)]
            .map(|(name, kind)| Listed { name: name.into(), kind });
        assert_eq!(found, expected);
        assert_eq!(Listing::open(&scratch.join("link")).unwrap().count(), 0);
        let error = |name: &str| Listing::open(&scratch.join(name)).err().map(|error| error.kind());
        assert_eq!(error("none"), Some(io::ErrorKind::NotFound));
        assert_eq!(error("file"), Some(io::ErrorKind::NotADirectory));
        std::fs::remove_dir_all(&scratch).unwrap();
    }

    #[test]
    fn a_large_directory_is_listed_whole() {
        let scratch = std::env::temp_dir().join(format!("listing-large-{}", std::process::id()));
        std::fs::create_dir_all(&scratch).unwrap();
        for number in 0..3000 {
            std::fs::write(scratch.join(format!("{number:0100}")), "").unwrap();
        }
        let names: std::collections::HashSet<_> =
            Listing::open(&scratch).unwrap().map(|entry| entry.unwrap().name).collect();
        assert_eq!(names.len(), 3000);
        std::fs::remove_dir_all(&scratch).unwrap();
    }
}

//! Knows which loose objects may exist without asking the file system for each.
//!
//! In: object IDs, one after the other. Out: whether the file is worth looking for. A folder that is asked about often
//! is listed once; files that appear later are missed. The number of IDs held is limited; beyond that every file is
//! looked for.

use crate::listing::Listing;
use gix_hash::{ObjectId, oid};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A folder is listed after this many files were looked for in it.
const LOOKED_FOR_MAX: u8 = 4;
/// The maximum number of IDs held for all folders together.
const NAMES_MAX: usize = 1 << 17;

/// The state of one folder `objects/xx`.
#[derive(Default)]
enum Folder {
    /// No file was looked for in it.
    #[default]
    Unlisted,
    /// This many files were looked for.
    LookedFor(u8),
    /// All IDs in it, sorted.
    Listed(Vec<ObjectId>),
    /// It has too many files to be listed.
    Unknown,
}

/// The loose objects of one object directory, as far as they were needed.
#[derive(Default)]
pub(super) struct Folders {
    /// By the first byte of an ID; empty before the first question.
    folders: Vec<Folder>,
    names: usize,
}

impl Folders {
    /// Whether a loose object with this ID may exist. `directory` must always be the same.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn may_have(&mut self, directory: &Path, id: &oid) -> io::Result<bool> {
        if self.folders.is_empty() {
            self.folders.resize_with(256, Folder::default);
        }
        let Some(folder) = self.folders.get_mut(usize::from(id.first_byte())) else { return Ok(true) };
        match folder {
            Folder::Unlisted => *folder = Folder::LookedFor(1),
            Folder::LookedFor(count) if *count < LOOKED_FOR_MAX => *count += 1,
            Folder::LookedFor(_) => {
                *folder = match list(directory, id, NAMES_MAX - self.names)? {
                    Some(names) => {
                        self.names += names.len();
                        Folder::Listed(names)
                    }
                    None => Folder::Unknown,
                };
            }
            Folder::Listed(_) | Folder::Unknown => {}
        }
        Ok(match folder {
            Folder::Listed(names) => names.binary_search_by(|name| name.as_ref().cmp(id)).is_ok(),
            Folder::Unlisted | Folder::LookedFor(_) | Folder::Unknown => true,
        })
    }
}

/// The IDs in the folder where an object would be; `None` if there are more than `names_max`.
fn list(directory: &Path, id: &oid, names_max: usize) -> io::Result<Option<Vec<ObjectId>>> {
    let fan_out = format!("{:02x}", id.first_byte());
    let listing = match Listing::open(&directory.join(&fan_out)) {
        Err(error) if super::loose::missing(&error) => return Ok(Some(Vec::new())),
        listing => listing?,
    };
    let mut names = Vec::new();
    for entry in listing {
        let rest = entry?.name;
        if let Ok(name) = ObjectId::from_hex(&[fan_out.as_bytes(), rest.as_bytes()].concat()) {
            if names.len() == names_max {
                return Ok(None);
            }
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(Some(names))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_folder_is_listed_when_it_is_asked_about_often_and_no_sooner() {
        let scratch = std::env::temp_dir().join(crate::durable::unique("folders-"));
        fs::create_dir_all(scratch.join("ab")).unwrap();
        let id = |start: &str| ObjectId::from_hex(format!("{start:0<40}").as_bytes()).unwrap();
        fs::write(scratch.join("ab").join("1".repeat(38)), "").unwrap();
        fs::write(scratch.join("ab").join("tmp_obj_x"), "").unwrap();
        let there = ObjectId::from_hex(format!("ab{}", "1".repeat(38)).as_bytes()).unwrap();
        let mut folders = Folders::default();
        for _ in 0..LOOKED_FOR_MAX {
            assert!(folders.may_have(&scratch, &id("ab")).unwrap(), "it is looked for");
        }
        assert!(!folders.may_have(&scratch, &id("ab")).unwrap());
        assert!(folders.may_have(&scratch, &there).unwrap());
        assert_eq!(folders.names, 1);
        // Another folder, which does not exist.
        for asked in 0..=LOOKED_FOR_MAX {
            assert_eq!(folders.may_have(&scratch, &id("cd")).unwrap(), asked < LOOKED_FOR_MAX);
        }
        fs::remove_dir_all(&scratch).unwrap();
    }

    #[test]
    fn more_names_than_may_be_held_are_looked_for_as_files() {
        let scratch = std::env::temp_dir().join(crate::durable::unique("folders-full-"));
        fs::create_dir_all(scratch.join("ab")).unwrap();
        fs::write(scratch.join("ab").join("1".repeat(38)), "").unwrap();
        let mut folders = Folders { names: NAMES_MAX, ..Folders::default() };
        let other = ObjectId::from_hex(format!("ab{}", "2".repeat(38)).as_bytes()).unwrap();
        for _ in 0..10 {
            assert!(folders.may_have(&scratch, &other).unwrap());
        }
        fs::remove_dir_all(&scratch).unwrap();
    }
}

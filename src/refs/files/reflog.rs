//! Reflogs: the entry, and the file it is appended to.
//!
//! In: a change that is about to be made, with its ref locked. Out: one line at the end of the ref's reflog. The caller
//! decides which refs get a reflog (core.logAllRefUpdates); an existing reflog always gets its line.

use super::Files;
use crate::durable;
use crate::refs::lock::remove_empty_directories;
use crate::refs::name;
use crate::refs::transaction::{LockPolicy, ReflogEntry, one_line};
use bstr::BStr;
use gix_hash::ObjectId;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// How often the directory of a new reflog is made again.
const VANISHED_RETRIES: u32 = 5;

/// The path of a ref's reflog.
pub(super) fn path(store: &Files, name: &BStr) -> PathBuf {
    store.base(name).join("logs").join(OsStr::from_bytes(name))
}

/// Whether a change of this ref is logged.
pub(super) fn wanted(store: &Files, name: &BStr, entry: &ReflogEntry) -> bool {
    entry.creates(name) || fs::metadata(path(store, name)).is_ok_and(|metadata| metadata.is_file())
}

/// Appends a line with one write, if the ref has a reflog or is to get one.
pub(super) fn append(
    store: &Files,
    name: &BStr,
    old: ObjectId,
    new: ObjectId,
    entry: &ReflogEntry,
    policy: &LockPolicy,
) -> io::Result<()> {
    if !wanted(store, name, entry) {
        return Ok(());
    }
    let path = path(store, name);
    let directory = path.parent().unwrap_or(&path);
    let (mut written, mut attempt) = (Vec::new(), 0);
    let mut file = loop {
        written.clear();
        let is_new = !path.exists();
        if is_new {
            // The reflog's directory has a new entry, and so has each one above it up to the first that exists.
            let made = directory.ancestors().take_while(|above| !above.is_dir()).count();
            written.extend(directory.ancestors().take(made + 1).map(ToOwned::to_owned));
            durable::mkdir_all(store.base(name), directory, policy.sharing)?;
        }
        match durable::append(&path, policy.sharing) {
            // The reflogs of earlier refs below this name may have left empty directories.
            Err(error) if error.kind() == io::ErrorKind::IsADirectory && attempt < VANISHED_RETRIES => {
                remove_empty_directories(&path)?;
            }
            // Another process that deletes the last other ref in the directory removes it.
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_new && attempt < VANISHED_RETRIES => {}
            file => break file?,
        }
        attempt += 1;
    };
    durable::write_all(&mut file, &line(old, new, entry))?;
    written.push(path);
    durable::barrier(&written, store.base(name), policy.sync)
}

/// Removes a deleted ref's reflog, and the directories that are empty without it.
pub(super) fn remove(store: &Files, name: &BStr) -> io::Result<()> {
    match durable::unlink(&path(store, name)) {
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => Ok(()),
            _ => Err(error),
        },
        Ok(()) => {
            remove_empty_parents(&store.base(name).join("logs"), name);
            Ok(())
        }
    }
}

/// Removes the directories above a name that are empty; those of two components, such as refs/heads, stay.
pub(super) fn remove_empty_parents(base: &std::path::Path, name: &BStr) {
    let parents: Vec<&[u8]> = name::directories(name).collect();
    for parent in parents.iter().rev() {
        // Not empty, or another process was faster: either way the directories above are not removed.
        if durable::rmdir(&base.join(OsStr::from_bytes(parent))).is_err() {
            break;
        }
    }
}

fn line(old: ObjectId, new: ObjectId, entry: &ReflogEntry) -> Vec<u8> {
    let mut line = format!("{old} {new} ").into_bytes();
    line.extend(one_line(&entry.who));
    line.extend_from_slice(format!(" {} +0000", entry.when).as_bytes());
    if !entry.message.is_empty() {
        line.push(b'\t');
        line.extend(entry.one_line());
    }
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refs::LogRefs;
    use bstr::ByteSlice;

    #[test]
    fn a_line_stays_one_line() {
        let null = ObjectId::null(gix_hash::Kind::Sha1);
        let check = |who: &str, message: &str, expected: &str| {
            let entry = ReflogEntry { who: who.into(), when: 17, message: message.into(), create: LogRefs::Always };
            let line = line(null, null, &entry);
            assert_eq!(line.as_bstr(), format!("{null} {null} {expected}"));
        };
        check("A <a@b>", "push", "A <a@b> 17 +0000\tpush\n");
        check("A <a@b>", "", "A <a@b> 17 +0000\n");
        check("A\nB <a@b>", "push\nforged", "A B <a@b> 17 +0000\tpush forged\n");
    }
}

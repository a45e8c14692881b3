//! One loose ref: a file that contains an object id or another ref's name.
//!
//! In: a path. Out: what is there. Symbolic refs are never followed here, and a broken file is never mistaken for a
//! missing one.

use crate::hex;
use crate::refs::{Target, name};
use bstr::{BString, ByteSlice};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The most bytes read of a ref's file: enough for a name of PATH_MAX bytes.
const FILE_BYTES_MAX: u64 = 16 << 10;

/// How often opening a file is retried when a network file system reports a stale handle.
const STALE_RETRIES: u32 = 2;

/// What is at a loose ref's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Loose {
    /// No file.
    Missing,
    /// A directory, which may contain refs, be empty, or be about to be removed.
    Directory,
    /// A file that contains neither an object id nor a ref's name.
    Broken,
    /// A ref.
    Found(Target),
}

/// Reads a loose ref.
pub(super) fn read(path: &Path, hash: gix_hash::Kind) -> io::Result<Loose> {
    let mut retries = 0;
    loop {
        match read_once(path, hash) {
            Err(error) if error.kind() == io::ErrorKind::StaleNetworkFileHandle && retries < STALE_RETRIES => {
                retries += 1
            }
            outcome => return outcome,
        }
    }
}

fn read_once(path: &Path, hash: gix_hash::Kind) -> io::Result<Loose> {
    let mut file = match open(path, OFlags::NOFOLLOW) {
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            // git's oldest symbolic refs are symbolic links.
            let target = fs::read_link(path)?.into_os_string().into_vec();
            if target.starts_with(b"refs/") && name::is_valid(&target) {
                return Ok(Loose::Found(Target::Symbolic(target.into())));
            }
            open(path, OFlags::empty())
        }
        outcome => outcome,
    };
    let content = match &mut file {
        Ok(file) => content(file),
        Err(error) => Err(io::Error::from(error.kind())),
    };
    match content {
        Ok(content) => Ok(parse(&content, hash).map_or(Loose::Broken, Loose::Found)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(Loose::Missing),
            io::ErrorKind::IsADirectory => Ok(Loose::Directory),
            _ => Err(file.err().unwrap_or(error)),
        },
    }
}

fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    // Opening a FIFO must not block.
    let flags = (flags | OFlags::NONBLOCK).bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn content(file: &mut File) -> io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(256);
    file.take(FILE_BYTES_MAX).read_to_end(&mut content)?;
    Ok(content)
}

/// Parses the content of a loose ref; `None` if it is broken.
fn parse(content: &[u8], hash: gix_hash::Kind) -> Option<Target> {
    let content = content.trim_end_with(|c| c.is_ascii_whitespace());
    if let Some(rest) = content.strip_prefix(b"ref:") {
        return Some(Target::Symbolic(BString::from(rest.trim_start_with(|c| c.is_ascii_whitespace()))));
    }
    let (id, rest) = content.split_at_checked(hash.len_in_hex())?;
    if rest.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
        return None;
    }
    // The null id names no object; C git treats it as damage too.
    hex::parse(id).filter(|id| !id.is_null()).map(Target::Direct)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn a_file_says_an_object_or_a_ref_or_is_broken() {
        let direct = || Some(Target::Direct(hex::parse(ID.as_bytes()).unwrap()));
        let check = |content: &str, expected: Option<Target>| {
            assert_eq!(parse(content.as_bytes(), gix_hash::Kind::Sha1), expected, "{content:?}");
        };
        check(&format!("{ID}\n"), direct());
        check(ID, direct());
        check(&format!("{ID}\tbranch 'x' of y\n"), direct());
        check(&format!("{ID}x\n"), None);
        check(&ID[1..], None);
        check("", None);
        check("ref: refs/heads/main\n", Some(Target::Symbolic("refs/heads/main".into())));
        check("ref:refs/heads/main", Some(Target::Symbolic("refs/heads/main".into())));
        check(&"0".repeat(40), None);
        check(&"g".repeat(40), None);
    }
}

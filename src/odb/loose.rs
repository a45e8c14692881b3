//! Loose objects, read.
//!
//! In: an object directory and a name. Out: header, content. A file that is not there is `None`.

use super::inflate::{Inflater, Pieces};
use super::{Header, TooLarge};
use anyhow::{Context, bail};
use gix_hash::{ObjectId, oid};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// "commit ", twenty digits, NUL, and something to spare.
const HEAD_BYTES: usize = 64;

/// Where an object would lie.
pub(super) fn path(directory: &Path, id: &oid) -> PathBuf {
    let hex = id.to_hex().to_string();
    let mut path = PathBuf::with_capacity(directory.as_os_str().len() + hex.len() + 2);
    path.push(directory);
    path.push(&hex[..2]);
    path.push(&hex[2..]);
    path
}

/// Whether an error says that there is no such file.
pub(super) fn missing(error: &io::Error) -> bool {
    let stale = rustix::io::Errno::STALE.raw_os_error();
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(stale)
}

/// Whether there is such a file.
pub(super) fn exists(directory: &Path, id: &oid) -> io::Result<bool> {
    match fs::metadata(path(directory, id)) {
        Ok(metadata) => Ok(metadata.is_file()),
        Err(error) if missing(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn open(directory: &Path, id: &oid) -> io::Result<Option<File>> {
    match File::open(path(directory, id)) {
        Ok(file) => Ok(Some(file)),
        Err(error) if missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Kind and size. Inflates no more than the header.
pub(super) fn header(
    directory: &Path,
    id: &oid,
    inflater: &mut Inflater,
    buffer: &mut Vec<u8>,
) -> anyhow::Result<Option<Header>> {
    let Some(file) = open(directory, id)? else { return Ok(None) };
    let end = file.metadata()?.len();
    let read = || -> anyhow::Result<Header> {
        let mut head = [0; HEAD_BYTES];
        let (filled, _) = inflater.head(&mut Pieces { file: &file, end, buffer }, 0, &mut head)?;
        Ok(parse(&head[..filled])?.0)
    };
    let mut read = read;
    read().with_context(|| corrupt(directory, id)).map(Some)
}

/// Kind and content.
pub(super) fn read(
    directory: &Path,
    id: &oid,
    limit: u64,
    inflater: &mut Inflater,
    buffer: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> anyhow::Result<Option<gix_object::Kind>> {
    let Some(file) = open(directory, id)? else { return Ok(None) };
    read_file(&file, limit, inflater, buffer, out).with_context(|| corrupt(directory, id)).map(Some)
}

fn read_file(
    file: &File,
    limit: u64,
    inflater: &mut Inflater,
    buffer: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> anyhow::Result<gix_object::Kind> {
    let end = file.metadata()?.len();
    let mut stored = Pieces { file, end, buffer };
    let mut head = [0; HEAD_BYTES];
    let (filled, ended) = inflater.head(&mut stored, 0, &mut head)?;
    let (header, at) = parse(&head[..filled])?;
    if header.size > limit {
        bail!(TooLarge { size: header.size, limit });
    }
    out.clear();
    out.extend_from_slice(&head[at..filled]);
    let stream_end = if ended {
        if out.len() as u64 != header.size {
            bail!("content has another size than its header says");
        }
        inflater.at()
    } else {
        let filled = out.len();
        inflater.rest(&mut stored, header.size, filled, out)?
    };
    if stream_end != end {
        bail!("garbage behind the content");
    }
    Ok(header.kind)
}

fn corrupt(directory: &Path, id: &oid) -> String {
    format!("loose object {id} (stored in {}) is corrupt", path(directory, id).display())
}

/// The header, and where the content begins.
fn parse(head: &[u8]) -> anyhow::Result<(Header, usize)> {
    let end = head.iter().position(|byte| *byte == 0).context("header does not end")?;
    let text = std::str::from_utf8(&head[..end]).context("header is not text")?;
    let (kind, size) = text.split_once(' ').context("header has no size")?;
    let kind = match kind {
        "commit" => gix_object::Kind::Commit,
        "tree" => gix_object::Kind::Tree,
        "blob" => gix_object::Kind::Blob,
        "tag" => gix_object::Kind::Tag,
        other => bail!("header has the unknown type \"{}\"", other.escape_default()),
    };
    let canonical = size.bytes().all(|byte| byte.is_ascii_digit()) && (size == "0" || !size.starts_with('0'));
    if !canonical {
        bail!("header has no sound size");
    }
    let size = size.parse().context("header has no sound size")?;
    Ok((Header { kind, size }, end + 1))
}

/// The names of all loose objects of a directory, in no particular order.
pub(super) fn ids(directory: &Path, hash: gix_hash::Kind, ids: &mut Vec<ObjectId>) -> io::Result<()> {
    for first in 0..=255_u8 {
        let prefix = format!("{first:02x}");
        let entries = match fs::read_dir(directory.join(&prefix)) {
            Ok(entries) => entries,
            Err(error) if missing(&error) => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let name = entry?.file_name();
            let Some(rest) = name.to_str().filter(|rest| rest.len() + 2 == hash.len_in_hex()) else { continue };
            if let Ok(id) = ObjectId::from_hex(format!("{prefix}{rest}").as_bytes()) {
                ids.push(id);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: &[u8], expected: Result<(gix_object::Kind, u64, usize), &str>) {
        match (parse(head), expected) {
            (Ok((header, at)), Ok(expected)) => assert_eq!((header.kind, header.size, at), expected),
            (Err(error), Err(text)) => assert!(error.to_string().contains(text), "{error}"),
            (got, expected) => panic!("got {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn a_loose_header_names_type_and_size() {
        check(b"blob 0\0", Ok((gix_object::Kind::Blob, 0, 7)));
        check(b"commit 123\0tree", Ok((gix_object::Kind::Commit, 123, 11)));
        check(b"blob 12", Err("does not end"));
        check(b"blob\0", Err("no size"));
        check(b"blob 012\0", Err("no sound size"));
        check(b"blob +1\0", Err("no sound size"));
        check(b"blob \0", Err("no sound size"));
        check(b"blob 99999999999999999999\0", Err("no sound size"));
        check(b"bl\xffb 1\0", Err("not text"));
        check(b"thing 1\0", Err("unknown type"));
    }
}

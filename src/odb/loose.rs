//! Reads loose objects.
//!
//! In: an object directory and an ID. Out: header and content; `None` if there is no such file. Small files are read
//! and inflated in one go.

use super::bases::Bases;
use super::ids::IdHasher;
use super::inflate::{Inflater, Pieces};
use super::{Header, TooLarge};
use anyhow::{Context, bail};
use gix_hash::{ObjectId, oid};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// "commit ", twenty digits, NUL, and some reserve.
const HEAD_BYTES: usize = 64;
/// How much is inflated at first; usually that is all.
const FIRST_BYTES: usize = 4 << 10;
/// Files of up to this many bytes are inflated in one go, as their content is usually short enough.
const AT_ONCE_BYTES: u64 = 16 << 10;
/// The compression ratio that hardly any content exceeds.
const SHRUNK_TO: usize = 8;
/// Files of up to this size, with content of up to the second, are read whole even if only the header is asked for:
/// usually the content is needed next.
const SMALL_BYTES: u64 = 8 << 10;
const SMALL_CONTENT_BYTES: u64 = 64 << 10;

/// Objects recently read from a directory, by ID: an object sent to a client is met by the walk, planned, written, and
/// used as a base.
pub(super) type Recent = Bases<ObjectId, IdHasher>;

/// The path of an object's file.
pub(super) fn path(directory: &Path, id: &oid) -> PathBuf {
    let mut hex = gix_hash::Kind::hex_buf();
    let hex = id.hex_to_buf(&mut hex);
    let mut path = PathBuf::with_capacity(directory.as_os_str().len() + hex.len() + 2);
    path.push(directory);
    path.push(&hex[..2]);
    path.push(&hex[2..]);
    path
}

/// Whether an error means that the file does not exist.
pub(super) fn missing(error: &io::Error) -> bool {
    let stale = rustix::io::Errno::STALE.raw_os_error();
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(stale)
}

/// Whether the file exists.
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

/// Kind and size, and whether `out` has the content, which is so for small files.
pub(super) fn header(
    directory: &Path,
    id: &oid,
    inflater: &mut Inflater,
    buffer: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> anyhow::Result<Option<(Header, bool)>> {
    let Some(file) = open(directory, id)? else { return Ok(None) };
    let end = file.metadata()?.len();
    let mut stored = Pieces::new(&file, end, buffer);
    if end <= SMALL_BYTES
        && let Ok(kind) = whole(&mut stored, end, SMALL_CONTENT_BYTES, inflater, out)
    {
        return Ok(Some((Header { kind, size: out.len() as u64 }, true)));
    }
    // A file damaged further on still has a header.
    let header = begin(&mut stored, HEAD_BYTES, inflater, out).with_context(|| corrupt(directory, id))?;
    Ok(Some((header.0, false)))
}

/// Kind and the beginning of the content, four kilobytes of it.
pub(super) fn beginning(
    directory: &Path,
    id: &oid,
    inflater: &mut Inflater,
    buffer: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> anyhow::Result<Option<gix_object::Kind>> {
    let Some(file) = open(directory, id)? else { return Ok(None) };
    let end = file.metadata()?.len();
    let begun = begin(&mut Pieces::new(&file, end, buffer), FIRST_BYTES, inflater, out);
    Ok(Some(begun.with_context(|| corrupt(directory, id))?.0.kind))
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
    let end = file.metadata()?.len();
    let mut stored = Pieces::new(&file, end, buffer);
    whole(&mut stored, end, limit, inflater, out).with_context(|| corrupt(directory, id)).map(Some)
}

fn whole(
    stored: &mut Pieces<'_>,
    end: u64,
    limit: u64,
    inflater: &mut Inflater,
    out: &mut Vec<u8>,
) -> anyhow::Result<gix_object::Kind> {
    // Errors are reported by the code below.
    if end <= AT_ONCE_BYTES
        && inflater.small(stored, 0, end as usize * SHRUNK_TO, out)? == Some(end)
        && let Ok((header, at)) = parse(&out[..out.len().min(HEAD_BYTES)])
        && header.size == (out.len() - at) as u64
        && header.size <= limit
    {
        out.drain(..at);
        return Ok(header.kind);
    }
    let (header, ended) = begin(stored, FIRST_BYTES, inflater, out)?;
    if header.size > limit {
        bail!(TooLarge { size: header.size, limit });
    }
    let filled = out.len();
    let is_sound = if ended { filled as u64 == header.size } else { filled as u64 <= header.size };
    if !is_sound {
        bail!("content has another size than its header says");
    }
    let stream_end = if ended { inflater.at() } else { inflater.rest(stored, header.size, filled, out)? };
    if stream_end != end {
        bail!("garbage behind the content");
    }
    Ok(header.kind)
}

/// Inflates at most this many bytes. Returns the header and whether the stream ended, and leaves the beginning of the
/// content in `out`.
fn begin(
    stored: &mut Pieces<'_>,
    bytes: usize,
    inflater: &mut Inflater,
    out: &mut Vec<u8>,
) -> anyhow::Result<(Header, bool)> {
    out.clear();
    out.resize(bytes, 0);
    let (filled, ended) = inflater.head(stored, 0, out)?;
    out.truncate(filled);
    let (header, at) = parse(&out[..filled.min(HEAD_BYTES)])?;
    out.drain(..at);
    Ok((header, ended))
}

fn corrupt(directory: &Path, id: &oid) -> String {
    format!("loose object {id} (stored in {}) is corrupt", path(directory, id).display())
}

/// Parses the header. Returns also where the content begins.
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

/// The IDs of all loose objects in a directory, in no particular order.
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
    use std::io::Write;

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

    /// Checks what reading an object file gives, and what its header says.
    fn check_file(stored: &[u8], content: Result<&[u8], &str>, size: Option<u64>) {
        let scratch = std::env::temp_dir().join(crate::durable::unique("loose-"));
        let id = gix_hash::Kind::Sha1.null();
        let path = path(&scratch, &id);
        fs::create_dir_all(path.parent().expect("it has one")).expect("there is room");
        fs::write(&path, stored).expect("there is room");
        let (mut inflater, mut buffer, mut out) = (Inflater::new(), Vec::new(), b"old".to_vec());
        let read = read(&scratch, &id, 1 << 20, &mut inflater, &mut buffer, &mut out);
        match content {
            Ok(content) => assert!(read.expect("it is sound") == Some(gix_object::Kind::Blob) && out == content),
            Err(text) => assert!(format!("{:#}", read.expect_err("it is damaged")).contains(text), "{text}"),
        }
        let found = header(&scratch, &id, &mut inflater, &mut buffer, &mut out);
        fs::remove_dir_all(&scratch).expect("it is ours");
        let found = found.ok().map(|found| found.expect("it is there"));
        assert_eq!(found.map(|(header, _)| header.size), size);
        if let (Ok(content), Some((_, whole))) = (content, found) {
            assert_eq!(whole, stored.len() as u64 <= SMALL_BYTES && content.len() as u64 <= SMALL_CONTENT_BYTES);
            assert!(!whole || out == content);
        }
    }

    #[test]
    fn a_file_holds_what_its_header_says_or_is_damaged() {
        let noise: Vec<u8> = (0..100_000_u32).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
        let stored = |announced: usize, content: &[u8]| {
            let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            zlib.write_all(format!("blob {announced}\0").as_bytes()).expect("memory takes all");
            zlib.write_all(content).expect("memory takes all");
            zlib.finish().expect("memory takes all")
        };
        let around = [0, 1, 50, 100, FIRST_BYTES - 10, FIRST_BYTES - 9, FIRST_BYTES, 9000, 100_000];
        for len in around {
            for content in [&noise[..len], &vec![b'a'; len]] {
                check_file(&stored(len, content), Ok(content), Some(len as u64));
                let mut behind = stored(len, content);
                behind.push(0);
                check_file(&behind, Err("garbage"), Some(len as u64));
                for announced in around.into_iter().filter(|announced| *announced != len) {
                    check_file(&stored(announced, content), Err("is corrupt"), Some(announced as u64));
                }
                check_file(&stored(2 << 20, content), Err("larger than the limit"), Some(2 << 20));
            }
        }
        check_file(b"no zlib", Err("is corrupt"), None);
        check_file(&stored(9000, &noise[..9000])[..200], Err("cut off"), Some(9000));
    }
}

//! Bundles: refs and a pack in one file (gitformat-bundle).
//!
//! In: refs, and what the bundle's readers already have. Out: a file that is either complete or does not exist. Never
//! checks which refs may leave the repository: whoever gets the file gets everything in it, so the caller decides.

use super::PackStats;
use super::select::{self, Request, Selection};
use super::write::{self, PackOptions};
use crate::durable::{self, Sharing};
use crate::odb::ids::IdSet;
use crate::odb::{Objects, walk};
use crate::stream::{Pulse, Sink};
use anyhow::{Context, Result, bail, ensure};
use bstr::{BString, ByteSlice};
use gix_hash::ObjectId;
use gix_object::Kind;
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::path::Path;

/// The most bytes of one line when reading a header.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// The most lines of a header.
const LINES_MAX: usize = 2_000_000;

/// The part before the pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The hash of object names.
    pub hash: gix_hash::Kind,
    /// Commits that a reader must have, with everything reachable from them.
    pub prerequisites: Vec<ObjectId>,
    /// The refs in the bundle.
    pub refs: Vec<(ObjectId, BString)>,
}

impl Header {
    /// Encodes the header: version 2, which every git reads, or version 3 if the hash must be named.
    pub fn encode(&self) -> Vec<u8> {
        let mut text = match self.hash {
            gix_hash::Kind::Sha1 => b"# v2 git bundle\n".to_vec(),
            hash => format!("# v3 git bundle\n@object-format={hash}\n").into_bytes(),
        };
        for id in &self.prerequisites {
            text.extend_from_slice(format!("-{id} \n").as_bytes());
        }
        for (id, name) in &self.refs {
            text.extend_from_slice(format!("{id} ").as_bytes());
            text.extend_from_slice(name);
            text.push(b'\n');
        }
        text.push(b'\n');
        text
    }

    /// Reads the header of a bundle that uses the repository's hash.
    ///
    /// # Errors
    /// When the header is malformed, uses another hash, or has unknown capabilities.
    pub fn read(input: &mut dyn BufRead, hash: gix_hash::Kind) -> Result<Self> {
        let mut header = Header { hash, prerequisites: Vec::new(), refs: Vec::new() };
        let mut format = gix_hash::Kind::Sha1;
        let mut line = Vec::new();
        for number in 0..LINES_MAX {
            line.clear();
            input.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
            let text = line.strip_suffix(b"\n").context("the header has no end")?;
            let id = |hex: &[u8]| ObjectId::from_hex(hex).ok().filter(|id| id.kind() == hash);
            match (number, text) {
                (0, b"# v2 git bundle" | b"# v3 git bundle") => {}
                (0, _) => bail!("it is no bundle of version 2 or 3"),
                (_, b"") => {
                    ensure!(format == hash, "its objects have names of another hash");
                    return Ok(header);
                }
                (_, [b'@', capability @ ..]) => match capability {
                    b"object-format=sha1" => {}
                    b"object-format=sha256" => format = gix_hash::Kind::Sha256,
                    _ => bail!("unknown capability '{}'", capability.escape_ascii()),
                },
                (_, [b'-', prerequisite @ ..]) => {
                    let hex = prerequisite.split(|byte| *byte == b' ').next().unwrap_or_default();
                    header.prerequisites.push(id(hex).context("a prerequisite names no object")?);
                }
                (_, reference) => {
                    let named = reference.split_once_str(" ").and_then(|(hex, name)| Some((id(hex)?, name.into())));
                    header.refs.push(named.context("a line names no object")?);
                }
            }
        }
        bail!("the header has more than {LINES_MAX} lines")
    }
}

/// Plans a bundle of those `refs` that bring new objects to a reader who has everything reachable from `known`. Returns
/// `None` if there is nothing new.
///
/// # Errors
/// When objects are missing or cannot be read.
pub fn plan(
    objects: &Objects,
    refs: Vec<(ObjectId, BString)>,
    known: &[ObjectId],
    pulse: &mut dyn Pulse,
) -> Result<Option<(Header, Selection)>> {
    let mut header = Header { hash: objects.hash_kind(), prerequisites: Vec::new(), refs };
    if !known.is_empty() {
        let tips: Vec<ObjectId> = header.refs.iter().map(|(id, _)| *id).collect();
        let walk = walk::reachable_commits(objects, &tips, known, pulse)?;
        let name = |number: &u32| walk.commits.id(*number).to_owned();
        let new: IdSet = walk.reachable.iter().map(name).collect();
        let known: IdSet = known.iter().copied().collect();
        let mut needed: IdSet = walk.boundary.iter().map(name).collect();
        let mut kept = Vec::new();
        for (id, name) in header.refs {
            match objects.peel(&id)?.with_context(|| format!("{name} leads to nothing"))? {
                (commit, Kind::Commit) if new.contains(&commit) => {}
                _ if known.contains(&id) => continue,
                (commit, Kind::Commit) if commit == id => continue,
                // A new tag of an old commit.
                (commit, Kind::Commit) => {
                    needed.insert(commit);
                }
                (_, Kind::Tree | Kind::Blob | Kind::Tag) => {}
            }
            kept.push((id, name));
        }
        header.refs = kept;
        header.prerequisites = needed.into_iter().collect();
        header.prerequisites.sort_unstable();
    }
    if header.refs.is_empty() {
        return Ok(None);
    }
    let wants: Vec<ObjectId> = header.refs.iter().map(|(id, _)| *id).collect();
    let request = Request { wants: &wants, common: &header.prerequisites, thin: true, ..Request::default() };
    let selection = select::select(objects, &request, pulse)?;
    Ok(Some((header, selection)))
}

/// Writes a bundle to a temporary file, forces it to the disk, and renames it. `note` gets the path of the temporary
/// file before it is created.
///
/// # Errors
/// When objects cannot be read, or the file cannot be written; the temporary file is then removed.
pub fn store(
    path: &Path,
    header: &Header,
    selection: &Selection,
    objects: &Objects,
    options: &PackOptions,
    note: &dyn Fn(&Path),
) -> Result<PackStats> {
    ensure!(path.file_name().is_some(), "a bundle needs a name");
    // Like git, write to the target of a symbolic link; and never replace anything but a regular file.
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    ensure!(path.metadata().map_or(true, |found| found.is_file()), "'{}' is no file", path.display());
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let fresh = parent.join(durable::unique("tmp_bundle_"));
    note(&fresh);
    let written = fill(&fresh, header, selection, objects, options).and_then(|stats| {
        durable::rename(&fresh, path)?;
        durable::fsync_directory(parent)?;
        Ok(stats)
    });
    if written.is_err() {
        // The temporary file is only ours; failing to remove it does no harm.
        let _ = durable::unlink(&fresh);
    }
    written.with_context(|| format!("writing '{}'", path.display()))
}

fn fill(
    path: &Path,
    header: &Header,
    selection: &Selection,
    objects: &Objects,
    options: &PackOptions,
) -> Result<PackStats> {
    let mut file = FileSink(durable::create(path, 0o666, Sharing::Umask)?);
    file.write_all(&header.encode())?;
    let stats = write::write(selection, objects, options, &mut file)?;
    durable::fsync(&file.0)?;
    Ok(stats)
}

/// A file as the sink of a pack.
struct FileSink(File);

impl Write for FileSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        durable::write_all(&mut self.0, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pulse for FileSink {
    fn tick(&mut self, _done: u64) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for FileSink {}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: u8) -> ObjectId {
        ObjectId::from_hex(&[digit; 40]).expect("a digit")
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let header = Header {
            hash: gix_hash::Kind::Sha1,
            prerequisites: vec![id(b'1'), id(b'2')],
            refs: vec![(id(b'3'), "refs/heads/a b".into()), (id(b'4'), "HEAD".into())],
        };
        let text = header.encode();
        assert!(text.starts_with(b"# v2 git bundle\n-1111") && text.ends_with(b"4 HEAD\n\n"));
        assert_eq!(Header::read(&mut &text[..], gix_hash::Kind::Sha1).expect("it was just written"), header);
        let long = ObjectId::from_hex(&[b'5'; 64]).expect("digits");
        let header =
            Header { hash: gix_hash::Kind::Sha256, prerequisites: Vec::new(), refs: vec![(long, "HEAD".into())] };
        let text = header.encode();
        assert!(text.starts_with(b"# v3 git bundle\n@object-format=sha256\n5555"));
        assert_eq!(Header::read(&mut &text[..], gix_hash::Kind::Sha256).expect("it was just written"), header);
    }

    #[test]
    fn what_is_no_header_says_why() {
        let check = |text: &str, expected: &str| {
            let read = Header::read(&mut text.as_bytes(), gix_hash::Kind::Sha1);
            assert_eq!(read.expect_err("it is bad").to_string(), expected, "{text}");
        };
        let one = "1".repeat(40);
        check("", "the header has no end");
        check("PACK\n", "it is no bundle of version 2 or 3");
        check("# v2 git bundle\n", "the header has no end");
        check("# v3 git bundle\n@filter=blob:none\n\n", "unknown capability 'filter=blob:none'");
        check("# v3 git bundle\n@object-format=sha256\n\n", "its objects have names of another hash");
        check("# v2 git bundle\n-x\n\n", "a prerequisite names no object");
        check(&format!("# v2 git bundle\n{one}\n\n"), "a line names no object");
        check(&format!("# v2 git bundle\n{one}1 refs/x\n\n"), "a line names no object");
        check(&format!("# v2 git bundle\n{one} {}", "x".repeat(70_000)), "the header has no end");
    }
}

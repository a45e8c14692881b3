//! Lists for clients of the dumb protocol: `info/refs` and `objects/info/packs` (AP-02, AP-03).
//!
//! In: a repository after a push. Out: both files, each replaced by one rename, and never touched if nothing changed.

use super::Repository;
use crate::durable;
use crate::journal::Leftover;
use anyhow::Context as _;
use bstr::{BString, ByteSlice};
use std::ffi::OsStr;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Rewrites both lists.
///
/// # Errors
/// When refs or packs cannot be read, or a file cannot be written.
pub fn update(repository: &Repository) -> anyhow::Result<()> {
    replace(repository, &repository.common_dir, "info/refs", &mut |out| refs(repository, out))?;
    let objects = repository.objects.directories()?.into_iter().next().context("there is no object directory")?;
    replace(repository, &objects, "info/packs", &mut |out| packs(&objects, out))
}

/// Writes `OID\tNAME` for each ref, and for a tag also what it peels to.
fn refs(repository: &Repository, out: &mut dyn Write) -> anyhow::Result<()> {
    let objects = &repository.objects;
    repository.refs.for_each(&[], &mut |row| {
        let id = row.id.id();
        let peeled = match objects.header(&id) {
            Ok(Some(header)) if header.kind == gix_object::Kind::Tag => objects.peel(&id)?.map(|(id, _)| id),
            Ok(Some(_)) => None,
            Ok(None) | Err(_) => return Ok(()),
        };
        let name = row.name;
        out.write_all(format!("{id}\t").as_bytes())?;
        out.write_all(name)?;
        out.write_all(b"\n")?;
        if let Some(peeled) = peeled {
            out.write_all(format!("{peeled}\t").as_bytes())?;
            out.write_all(name)?;
            out.write_all(b"^{}\n")?;
        }
        Ok(())
    })
}

/// Writes `P pack-….pack` for each pack, by name, and an empty line.
fn packs(objects: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut names = Vec::new();
    let directory = objects.join("pack");
    let listing = match std::fs::read_dir(&directory) {
        Ok(listing) => Some(listing),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("cannot read '{}'", directory.display())),
    };
    for entry in listing.into_iter().flatten() {
        let name = BString::from(entry?.file_name().as_bytes());
        if let Some(stem) = name.strip_suffix(b".idx")
            && stem.starts_with(b"pack-")
        {
            let mut pack = BString::from(stem);
            pack.extend_from_slice(b".pack");
            if directory.join(OsStr::from_bytes(&pack)).exists() {
                names.push(pack);
            }
        }
    }
    names.sort();
    for name in names {
        out.write_all(b"P ")?;
        out.write_all(name.as_bytes())?;
        out.write_all(b"\n")?;
    }
    out.write_all(b"\n")?;
    Ok(())
}

/// Writes a new file beside the old one and renames it into place, unless both are equal.
fn replace(
    repository: &Repository,
    root: &Path,
    name: &str,
    content: &mut dyn FnMut(&mut dyn Write) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let sharing = repository.settings.sharing;
    let path = root.join(name);
    let parent = path.parent().expect("a name below the root has a parent");
    durable::mkdir_all(root, parent, sharing).with_context(|| format!("cannot make '{}'", parent.display()))?;
    let fresh = parent.join(durable::unique("tmp_info_"));
    repository.refs.journal().note(Leftover::Temporary(&fresh), sharing);
    let written = write(&fresh, sharing, content).and_then(|()| {
        if same(&fresh, &path)? {
            durable::unlink(&fresh)?;
        } else {
            durable::rename(&fresh, &path)?;
        }
        Ok(())
    });
    if written.is_err() {
        // No reader knows the temporary file, so it does no harm if it cannot be removed.
        let _ = durable::unlink(&fresh);
    }
    written.with_context(|| format!("cannot write '{}'", path.display()))
}

fn write(
    path: &Path,
    sharing: durable::Sharing,
    content: &mut dyn FnMut(&mut dyn Write) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    /// Writes through `durable`, as all writes to a repository must.
    struct Door(std::fs::File);
    impl Write for Door {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            durable::write_all(&mut self.0, bytes)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut out = BufWriter::with_capacity(64 << 10, Door(durable::create(path, 0o666, sharing)?));
    content(&mut out)?;
    out.flush()?;
    Ok(())
}

/// Whether two files have the same content; false if one of them cannot be opened.
fn same(one: &Path, other: &Path) -> io::Result<bool> {
    use std::io::BufRead;
    let open = |path| std::fs::File::open(path).map(|file| io::BufReader::with_capacity(64 << 10, file));
    let (mut one, mut other) = match (open(one), open(other)) {
        (Ok(one), Ok(other)) => (one, other),
        _ => return Ok(false),
    };
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let size = left.len().min(right.len());
        if left[..size] != right[..size] || (size == 0 && left.len() != right.len()) {
            return Ok(false);
        }
        if size == 0 {
            return Ok(true);
        }
        one.consume(size);
        other.consume(size);
    }
}

//! Files of the dumb protocol (gitprotocol-http, Dumb Server Response).
//!
//! In: which file. Out: its content, computed or opened, and what the answer's head says about it. Refs are never hidden
//! here, as in git (DU-04): an owner who hides refs should not offer this.

use super::response::Caching;
use crate::refs::StoredId;
use crate::repo::visible::{self, For};
use crate::repo::{AccessMode, Repository};
use bstr::{BStr, BString};
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A file of the dumb protocol (DU).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredFile {
    /// `HEAD`
    Head,
    /// `info/refs` without a service
    InfoRefs,
    /// `objects/info/packs`
    InfoPacks,
    /// `objects/info/alternates`, `objects/info/http-alternates`: the path below the git directory.
    Info(BString),
    /// `objects/xx/…`: the path below the git directory.
    LooseObject(BString),
    /// `objects/pack/pack-….pack`
    Pack(BString),
    /// `objects/pack/pack-….idx`
    Index(BString),
}

/// One stored file.
#[derive(Debug)]
pub struct Stored {
    /// The content.
    pub content: Content,
    /// Its Content-Type (HD-10).
    pub media: &'static str,
    /// What caches are told about it.
    pub caching: Caching,
}

/// Where the bytes come from.
#[derive(Debug)]
pub enum Content {
    /// Computed for this request.
    Computed(Vec<u8>),
    /// An open file and its metadata.
    File(File, Metadata),
}

/// Finds a file. Returns `None` if there is none (DU-06, DU-07).
///
/// # Errors
/// When refs, packs or the file cannot be read.
pub fn open(file: &StoredFile, repository: &Repository) -> anyhow::Result<Option<Stored>> {
    let computed = |content, media, caching| Ok(Some(Stored { content: Content::Computed(content), media, caching }));
    match file {
        StoredFile::Head => computed(head(repository), "text/plain", Caching::Unsaid),
        StoredFile::InfoRefs => computed(info_refs(repository)?, "text/plain", Caching::No),
        StoredFile::InfoPacks => computed(info_packs(repository)?, "text/plain; charset=utf-8", Caching::No),
        StoredFile::Info(path) => on_disk(repository, path, "text/plain", Caching::No),
        StoredFile::LooseObject(path) => {
            on_disk(repository, path, "application/x-git-loose-object", forever(repository))
        }
        StoredFile::Pack(path) => on_disk(repository, path, "application/x-git-packed-objects", forever(repository)),
        StoredFile::Index(path) => {
            on_disk(repository, path, "application/x-git-packed-objects-toc", forever(repository))
        }
    }
}

/// A file named by its content may be kept, but not by a cache that others share where a token is needed, since the
/// cache knows nothing of tokens. A web server that does the authentication sets its own caching headers.
fn forever(repository: &Repository) -> Caching {
    let shared = match repository.context.mode {
        AccessMode::Tokens => repository.settings.anonymous_read,
        AccessMode::WebServer | AccessMode::Pipe => true,
    };
    Caching::Forever { now: repository.context.now, shared }
}

/// The branch HEAD is on, or the commit if it is detached; empty while it is unborn (DU-02).
fn head(repository: &Repository) -> Vec<u8> {
    let head = visible::head(repository, For::Unfiltered);
    let Some((head, id)) = head.and_then(|head| head.id.map(|id| (head.target, id))) else {
        return Vec::new();
    };
    match head {
        Some(target) => [b"ref: ", &**target, b"\n"].concat(),
        None => format!("{id}\n").into_bytes(),
    }
}

/// All refs with what tags peel to, without HEAD (DU-03).
fn info_refs(repository: &Repository) -> anyhow::Result<Vec<u8>> {
    let mut list = Vec::new();
    visible::for_each(repository, For::Unfiltered, &[], true, &mut |tip| {
        let mut line = |id: &StoredId<'_>, suffix: &[u8]| {
            id.push_hex(&mut list);
            list.push(b'\t');
            list.extend_from_slice(tip.name);
            list.extend_from_slice(suffix);
            list.push(b'\n');
        };
        line(&tip.id, b"");
        if let Some(peeled) = tip.peeled.target() {
            line(&peeled, b"^{}");
        }
        Ok(())
    })?;
    Ok(list)
}

/// The packs of this repository, without those of its alternates, and an empty line (DU-05).
fn info_packs(repository: &Repository) -> anyhow::Result<Vec<u8>> {
    let mut list = Vec::new();
    for pack in repository.objects.packs(true)? {
        let pack = repository.objects.pack(pack);
        if let Some(name) = pack.path().file_name() {
            list.extend_from_slice(b"P ");
            list.extend_from_slice(name.as_bytes());
            list.push(b'\n');
        }
    }
    list.push(b'\n');
    Ok(list)
}

fn on_disk(
    repository: &Repository,
    path: &BString,
    media: &'static str,
    caching: Caching,
) -> anyhow::Result<Option<Stored>> {
    let Some(path) = place(repository, path.as_ref())? else {
        return Ok(None);
    };
    let absent = |error: &io::Error| {
        matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory)
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if absent(&error) => return Ok(None),
        Err(error) => return Err(anyhow::Error::from(error).context("opening a stored file")),
    };
    let metadata = file.metadata().map_err(|error| anyhow::Error::from(error).context("looking at a stored file"))?;
    if !metadata.is_file() {
        return Ok(None);
    }
    Ok(Some(Stored { content: Content::File(file, metadata), media, caching }))
}

/// The file at a path that begins with `objects/`, in the repository's own object directory. Returns `None` for paths
/// that could lead out of it.
fn place(repository: &Repository, path: &BStr) -> anyhow::Result<Option<PathBuf>> {
    let Some(below) = path.strip_prefix(b"objects/") else {
        return Ok(None);
    };
    let plain = |part: &[u8]| !matches!(part, b"" | b"." | b"..") && !part.contains(&0);
    if !below.split(|&byte| byte == b'/').all(plain) {
        return Ok(None);
    }
    let own = repository.objects.directories()?.into_iter().next();
    Ok(own.map(|objects| objects.join(std::ffi::OsStr::from_bytes(below))))
}

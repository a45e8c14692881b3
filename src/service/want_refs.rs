//! Refs asked for by name (gitprotocol-v2, fetch: want-ref).
//!
//! In: names as the client knows them. Out: the objects they lead to, which join the wants. The policy of wants is
//! never asked: what a visible ref leads to is open to everybody.

use super::ServeError;
use crate::protocol::shown;
use crate::protocol::upload::UploadRequest;
use crate::repo::Repository;
use crate::repo::visible::{self, For};
use bstr::{BStr, BString, ByteSlice};
use gix_hash::ObjectId;
use std::collections::HashSet;

/// Adds what the refs lead to, tags unpeeled (FE-13), to the wants, each object once. Returns the refs in the order of
/// the request.
///
/// # Errors
/// `unknown ref …` for the first that is missing, hidden, or leads to an object that is not here (FE-11); when refs
/// cannot be read.
pub fn resolve(repository: &Repository, request: &mut UploadRequest) -> Result<Vec<(ObjectId, BString)>, ServeError> {
    let names = std::mem::take(&mut request.want_refs);
    let mut wanted: HashSet<ObjectId> = request.wants.iter().copied().collect();
    let mut resolved = Vec::with_capacity(names.len());
    for name in names {
        let id = tip(repository, name.as_bstr())?
            .ok_or_else(|| ServeError::Refused(format!("unknown ref {}", shown(&name))))?;
        if wanted.insert(id) {
            request.wants.push(id);
        }
        resolved.push((id, name));
    }
    Ok(resolved)
}

fn tip(repository: &Repository, name: &BStr) -> anyhow::Result<Option<ObjectId>> {
    // Only names that a list of refs can contain: other files in a git directory must not be readable as refs.
    let listed = name == "HEAD" || name.starts_with(b"refs/");
    if !listed || visible::is_hidden(repository, For::Upload, name) {
        return Ok(None);
    }
    let full = visible::full_name(repository, name);
    match repository.refs.resolve(full.as_bstr())? {
        Some(id) if repository.objects.contains(&id)? => Ok(Some(id)),
        Some(_) | None => Ok(None),
    }
}

//! Refs asked for by their names (gitprotocol-v2, fetch: want-ref).
//!
//! In: names as the client knows them. Out: what they lead to, which joins what is wanted. Whatever a visible ref leads to
//! may be had: no policy is asked.

use super::ServeError;
use crate::protocol::shown;
use crate::protocol::upload::UploadRequest;
use crate::repo::Repository;
use crate::repo::visible::{self, For};
use bstr::{BStr, BString, ByteSlice};
use gix_hash::ObjectId;
use std::collections::HashSet;

/// Adds what the refs lead to, tags unpeeled (FE-13), to the wants; each object once. Returns them in the order of the request.
///
/// # Errors
/// `unknown ref …` for the first that is missing, hidden, or leads to no object (FE-11); when refs cannot be read.
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
    // Only what a list of refs can show: what else lies in a git directory under a ref's name is nobody's business.
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

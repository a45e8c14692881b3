//! What this request may see of the refs: hideRefs and namespaces.

use super::Repository;
use bstr::{BStr, BString};
use gix_hash::ObjectId;

/// Which of the two hideRefs lists counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// uploadpack.hideRefs
    Upload,
    /// receive.hideRefs
    Receive,
    /// Neither: the dumb protocol ignores them (DU-04).
    Nobody,
}

/// One visible ref, its name without the namespace, known to lead to an object that exists (UA-11).
#[derive(Debug, Clone, Copy)]
pub struct VisibleRef<'a> {
    /// The name as the client sees it.
    pub name: &'a BStr,
    /// The object.
    pub id: ObjectId,
    /// What an annotated tag peels to; `None` for other objects. Computed only where `peel` was asked.
    pub peeled: Option<ObjectId>,
    /// A symbolic ref's target, without the namespace.
    pub symref_target: Option<&'a BStr>,
}

/// HEAD as the client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// `None` while unborn.
    pub id: Option<ObjectId>,
    /// `None` when detached. Without the namespace.
    pub target: Option<BString>,
}

/// HEAD (of the namespace); `None` where it is missing or hidden.
///
/// # Errors
/// When it cannot be read.
pub fn head(repository: &Repository, hidden_for: For) -> anyhow::Result<Option<Head>> {
    let _ = (repository, hidden_for);
    unimplemented!()
}

/// All visible refs below `refs/`, in byte order, HEAD not among them. `prefixes` are names as the client sees them; empty: all.
///
/// # Errors
/// When refs cannot be read, or `each` fails.
pub fn for_each(
    repository: &Repository,
    hidden_for: For,
    prefixes: &[BString],
    peel: bool,
    each: &mut dyn FnMut(&VisibleRef<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let _ = (repository, hidden_for, prefixes, peel, each);
    unimplemented!()
}

/// Whether a ref (name as the client sees it) is hidden.
pub fn is_hidden(repository: &Repository, hidden_for: For, name: &BStr) -> bool {
    let _ = (repository, hidden_for, name);
    unimplemented!()
}

/// The full name of a ref the client names: the namespace's prefix in front.
pub fn full_name(repository: &Repository, name: &BStr) -> BString {
    let _ = (repository, name);
    unimplemented!()
}

//! Names of objects as users write them (gitrevisions), as far as a client may use them.
//!
//! In: an expression. Out: the object it names, and what that name begins with. Refs are those this request may see, under the
//! names it knows. What needs a reflog, an index or a search through messages names nothing here, nor does a part of an
//! object's name.

use super::Repository;
use super::visible::{self, For};
use crate::odb::Objects;
use crate::odb::graph::Commits;
use bstr::{BString, ByteSlice};
use gix_hash::{ObjectId, oid};
use gix_object::{Kind, TreeRefIter};

/// What an expression names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The object.
    pub id: ObjectId,
    /// The object's name it began with, where it was not a ref's: who may not have that may not have this.
    pub given: Option<ObjectId>,
}

/// The rules by which a short name is a ref's, in the order in which they are tried (gitrevisions).
const RULES: &[(&str, &str)] = &[
    ("", ""),
    ("refs/", ""),
    ("refs/tags/", ""),
    ("refs/heads/", ""),
    ("refs/remotes/", ""),
    ("refs/remotes/", "/HEAD"),
];

/// Resolves `<name>`, `<name>^2~3^{tree}` and the like, and `<any of these>:<path>`. `None`: it names nothing.
///
/// # Errors
/// When refs or objects cannot be read.
pub fn resolve(repository: &Repository, expression: &[u8]) -> anyhow::Result<Option<Named>> {
    let (revision, path) = match expression.split_once_str(":") {
        Some((revision, path)) => (revision, Some(path)),
        None => (expression, None),
    };
    let end = revision.find_byteset(b"^~").unwrap_or(revision.len());
    let Some(base) = base(repository, &revision[..end])? else { return Ok(None) };
    let Some(id) = stepped(repository, base.id, &revision[end..])? else { return Ok(None) };
    let id = match path {
        Some(path) => below(repository, &id, path)?,
        None => Some(id),
    };
    Ok(id.map(|id| Named { id, ..base }))
}

/// An object by its whole name, or the ref of a short one.
fn base(repository: &Repository, name: &[u8]) -> anyhow::Result<Option<Named>> {
    if name.len() == repository.hash().len_in_hex()
        && let Ok(id) = ObjectId::from_hex(name)
    {
        return Ok(Some(Named { id, given: Some(id) }));
    }
    let name = if name == b"@" { b"HEAD" } else { name };
    for (before, behind) in RULES {
        let name = BString::from([before.as_bytes(), name, behind.as_bytes()].concat());
        let is_ref = name == "HEAD" || name.starts_with(b"refs/");
        if !is_ref || visible::is_hidden(repository, For::Upload, name.as_bstr()) {
            continue;
        }
        let full = visible::full_name(repository, name.as_bstr());
        if let Some(id) = repository.refs.resolve(full.as_bstr())? {
            return Ok(Some(Named { id, given: None }));
        }
    }
    Ok(None)
}

/// Follows `^`, `^<n>`, `~<n>` and `^{<kind>}`, one after the other.
fn stepped(repository: &Repository, id: ObjectId, steps: &[u8]) -> anyhow::Result<Option<ObjectId>> {
    let mut at = id;
    let mut rest = steps;
    while let [step, behind @ ..] = rest {
        let next = if let Some(kind) = behind.strip_prefix(b"{").filter(|_| *step == b'^') {
            let Some((kind, behind)) = kind.split_once_str("}") else { return Ok(None) };
            rest = behind;
            peeled(repository, at, kind)?
        } else {
            let digits = behind.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let (number, behind) = behind.split_at(digits);
            rest = behind;
            let number = match number {
                b"" => 1,
                digits => match digits.to_str().ok().and_then(|digits| digits.parse::<u32>().ok()) {
                    Some(number) => number,
                    None => return Ok(None),
                },
            };
            match step {
                b'^' => parent(repository, at, number)?,
                b'~' => ancestor(repository, at, number)?,
                _ => None,
            }
        };
        match next {
            Some(next) => at = next,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// `^{<kind>}`
fn peeled(repository: &Repository, id: ObjectId, kind: &[u8]) -> anyhow::Result<Option<ObjectId>> {
    match kind {
        b"object" => Ok(repository.objects.contains(&id)?.then_some(id)),
        b"" => Ok(repository.objects.peel(&id)?.map(|(id, _)| id)),
        kind => match Kind::from_bytes(kind) {
            Ok(kind) => peel(repository, &id, kind),
            Err(_) => Ok(None),
        },
    }
}

/// Follows tags, and a commit to its tree, until there is an object of one kind. `None`: there is none.
///
/// # Errors
/// When objects cannot be read.
pub fn peel(repository: &Repository, id: &oid, kind: Kind) -> anyhow::Result<Option<ObjectId>> {
    let objects = &repository.objects;
    if objects.header(id)?.is_some_and(|header| header.kind == kind) {
        return Ok(Some(id.to_owned()));
    }
    match objects.peel(id)? {
        Some((id, found)) if found == kind => Ok(Some(id)),
        Some((id, Kind::Commit)) if kind == Kind::Tree => tree_of(objects, &id).map(Some),
        Some(_) | None => Ok(None),
    }
}

fn tree_of(objects: &Objects, commit: &oid) -> anyhow::Result<ObjectId> {
    let mut commits = Commits::new(objects);
    let number = commits.number(commit);
    commits.tree(number)
}

/// `^<n>`: the n-th parent; `^0` the commit itself.
fn parent(repository: &Repository, id: ObjectId, number: u32) -> anyhow::Result<Option<ObjectId>> {
    let Some((id, Kind::Commit)) = repository.objects.peel(&id)? else { return Ok(None) };
    if number == 0 {
        return Ok(Some(id));
    }
    let mut commits = Commits::new(&repository.objects);
    let mut parents = Vec::new();
    let commit = commits.number(&id);
    commits.parents(commit, &mut parents)?;
    Ok(parents.get(number as usize - 1).map(|parent| commits.id(*parent).to_owned()))
}

/// `~<n>`: the n-th ancestor along first parents.
fn ancestor(repository: &Repository, id: ObjectId, number: u32) -> anyhow::Result<Option<ObjectId>> {
    let Some((id, Kind::Commit)) = repository.objects.peel(&id)? else { return Ok(None) };
    let mut commits = Commits::new(&repository.objects);
    let mut parents = Vec::new();
    let mut at = commits.number(&id);
    for _ in 0..number {
        commits.parents(at, &mut parents)?;
        match parents.first() {
            Some(parent) => at = *parent,
            None => return Ok(None),
        }
    }
    Ok(Some(commits.id(at).to_owned()))
}

/// What lies at a path of a tree. A gitlink leads out of the repository: what is here under its name, no ref need show.
fn below(repository: &Repository, id: &oid, path: &[u8]) -> anyhow::Result<Option<ObjectId>> {
    let Some(mut at) = peel(repository, id, Kind::Tree)? else { return Ok(None) };
    let mut tree = Vec::new();
    let mut components = path.split_str("/").peekable();
    if path.is_empty() {
        return Ok(Some(at));
    }
    while let Some(name) = components.next() {
        let last = components.peek().is_none();
        if repository.objects.find(&at, &mut tree)? != Some(Kind::Tree) {
            return Ok(None);
        }
        let mut entries = TreeRefIter::from_bytes(&tree, repository.hash()).map_while(Result::ok);
        match entries.find(|entry| entry.filename == name) {
            Some(entry) if entry.mode.is_tree() || last && entry.mode.is_blob_or_symlink() => at = entry.oid.to_owned(),
            Some(_) | None => return Ok(None),
        }
    }
    Ok(Some(at))
}

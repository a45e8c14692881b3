//! Object names as users write them (gitrevisions), as far as a client may use them.
//!
//! In: an expression. Out: the object it names, and the object name it begins with. Refs are those this request may
//! see, under the names the client knows. Expressions that need a reflog, an index or a search through messages never
//! name anything here, nor do abbreviated object names.

use super::Repository;
use super::visible::{self, For};
use crate::odb::Objects;
use crate::odb::graph::Commits;
use bstr::{BString, ByteSlice};
use gix_hash::{ObjectId, oid};
use gix_object::{Kind, TreeRefIter};

/// The object that an expression names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The object.
    pub id: ObjectId,
    /// The object name the expression begins with, unless that is a ref: a client that may not have this object may not
    /// have `id` either.
    pub given: Option<ObjectId>,
}

/// The rules that expand a short name to a ref, in the order in which they are tried (gitrevisions).
const RULES: &[(&str, &str)] = &[
    ("", ""),
    ("refs/", ""),
    ("refs/tags/", ""),
    ("refs/heads/", ""),
    ("refs/remotes/", ""),
    ("refs/remotes/", "/HEAD"),
];

/// Resolves `<name>`, `<name>^2~3^{tree}` and the like, and any of these followed by `:<path>`. `None` if it names
/// nothing.
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

/// An object by its full name, or a ref by its full or short name.
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

/// Follows `^{<kind>}`, where an empty kind means any object that is not a tag.
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

/// Peels tags, and a commit to its tree, down to an object of the given kind. `None` if there is none.
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

/// Follows `^<n>`: to the n-th parent, or for `^0` to the commit itself.
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

/// Follows `~<n>`: to the n-th ancestor along first parents.
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

/// The object at a path of a tree. A gitlink names nothing: its commit belongs to another repository, and if it exists
/// here no ref need make it visible.
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

//! What this request may see of the refs: hideRefs and namespaces.
//!
//! In: a repository. Out: its refs under the names the client knows.

use super::Repository;
use crate::refs::{self, Row, StoredId};
use bstr::{BStr, BString, ByteSlice};
use gix_hash::{ObjectId, oid};
use std::collections::HashSet;

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

/// One ref of all, as a client that pushes is told of it.
#[derive(Debug, Clone, Copy)]
pub enum Listed<'a> {
    /// One of the namespace, its name without it.
    Visible(&'a Row<'a>),
    /// What one outside of it points to.
    Outside(StoredId<'a>),
}

/// HEAD as the client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// `None` while unborn.
    pub id: Option<ObjectId>,
    /// `None` when detached, or where it leads out of the namespace. Without the namespace.
    pub target: Option<BString>,
}

/// HEAD (of the namespace); `None` where it is missing, broken or hidden. Its object may be lost.
pub fn head(repository: &Repository, hidden_for: For) -> Option<Head> {
    if is_hidden(repository, hidden_for, b"HEAD".as_bstr()) {
        return None;
    }
    let name = full_name(repository, b"HEAD".as_bstr());
    let (end, id) = match repository.refs.follow(name.as_bstr()) {
        Ok(end) => end,
        Err(error) => {
            // Other branches may be sound.
            repository.objects.warn(format!("no HEAD: {error:#}"));
            return None;
        }
    };
    if !refs::is_name(end.as_bstr()) {
        // A client would take the branch of that name for its own.
        repository.objects.warn(format!("no HEAD: it points to '{}', which is no name of a ref", end.escape_ascii()));
        return None;
    }
    let prefix = namespace_prefix(repository);
    let target = end.strip_prefix(prefix.as_slice()).filter(|_| end != name).map(BString::from);
    (id.is_some() || target.is_some()).then_some(Head { id, target })
}

/// Visible refs below `refs/` that lead to an object, in byte order, HEAD not among them, under their names without the namespace.
/// `prefixes` are such names; empty: all. What tags peel to is always there where `peel` asks for it, and sometimes where it does not.
///
/// # Errors
/// When refs or objects cannot be looked up, or `each` fails.
pub fn for_each(
    repository: &Repository,
    hidden_for: For,
    prefixes: &[BString],
    peel: bool,
    each: &mut dyn FnMut(&Row<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    list(repository, hidden_for, prefixes, peel, &mut |tip| {
        if repository.objects.contains(&tip.id.id())? { each(tip) } else { Ok(()) }
    })
}

/// The same with refs whose objects are lost, for lists: a client that were not told of them would take its own copies for
/// outdated (git, GIT_REF_PARANOIA).
///
/// # Errors
/// As [`for_each`].
pub fn list(
    repository: &Repository,
    hidden_for: For,
    prefixes: &[BString],
    peel: bool,
    each: &mut dyn FnMut(&Row<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let namespace = namespace_prefix(repository);
    let rules = rules(repository, hidden_for);
    let prefixes: Vec<BString> = match (prefixes.is_empty(), namespace.is_empty()) {
        (_, true) => prefixes.to_vec(),
        (true, false) => vec![concatenated(&namespace, b"refs/")],
        (false, false) => prefixes.iter().map(|prefix| concatenated(&namespace, prefix)).collect(),
    };
    repository.refs.for_each(&prefixes, &mut |row| {
        let is_known = !peel || row.peeled.is_some();
        if is_known && namespace.is_empty() && rules.is_empty() {
            return each(row);
        }
        let name = stripped(row.name, &namespace);
        if hidden(rules, Some(name), row.name) {
            return Ok(());
        }
        let looked_up = if is_known { None } else { peeled(repository, &row.id.id()) };
        let peeled = if is_known { row.peeled } else { Some(looked_up.as_ref().map(StoredId::from)) };
        let target = row.symref_target.and_then(|target| target.strip_prefix(namespace.as_slice()));
        let symref_target = target.map(ByteSlice::as_bstr);
        let line = row.line.filter(|_| namespace.is_empty());
        each(&Row { name, line, peeled, symref_target, ..*row })
    })
}

/// All refs that are not hidden, their objects lost or not: those outside the namespace have no name for the client (RA-09).
///
/// # Errors
/// When refs cannot be read, or `each` fails.
pub fn all(
    repository: &Repository,
    hidden_for: For,
    each: &mut dyn FnMut(Listed<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let namespace = namespace_prefix(repository);
    let rules = rules(repository, hidden_for);
    repository.refs.for_each(&[], &mut |row| {
        let name = row.name.strip_prefix(namespace.as_slice()).map(ByteSlice::as_bstr);
        if hidden(rules, name, row.name) {
            return Ok(());
        }
        let named;
        each(match name {
            None => Listed::Outside(row.id),
            Some(_) if namespace.is_empty() => Listed::Visible(row),
            Some(name) => {
                named = Row { name, line: None, symref_target: None, ..*row };
                Listed::Visible(&named)
            }
        })
    })
}

/// Takes out of `ids`, objects that exist, what visible refs point to and what their tags peel to. No object is looked at but tags
/// that packed-refs does not peel.
///
/// # Errors
/// When refs cannot be read.
pub fn take_tips(repository: &Repository, hidden_for: For, ids: &mut HashSet<ObjectId>) -> anyhow::Result<()> {
    if let Some(id) = head(repository, hidden_for).and_then(|head| head.id) {
        ids.remove(&id);
    }
    if ids.is_empty() {
        return Ok(());
    }
    let namespace = namespace_prefix(repository);
    let rules = rules(repository, hidden_for);
    let prefixes = if namespace.is_empty() { Vec::new() } else { vec![concatenated(&namespace, b"refs/")] };
    let taken = repository.refs.for_each(&prefixes, &mut |row| {
        if hidden(rules, Some(stripped(row.name, &namespace)), row.name) {
            return Ok(());
        }
        ids.remove(&row.id.id());
        if let Some(peeled) = known_or_peeled(repository, row) {
            ids.remove(&peeled);
        }
        if ids.is_empty() { Err(Enough.into()) } else { Ok(()) }
    });
    taken.or_else(|error| if error.is::<Enough>() { Ok(()) } else { Err(error) })
}

/// Calls `each` with every visible ref below `refs/tags/` that is an annotated tag, and with what that peels to. Whether they
/// exist is not looked at where packed-refs knows the rest: of many tags few are asked for.
///
/// # Errors
/// When refs cannot be read.
pub fn annotated_tags(
    repository: &Repository,
    hidden_for: For,
    each: &mut dyn FnMut(ObjectId, ObjectId),
) -> anyhow::Result<()> {
    tags(repository, hidden_for, &|row| known_or_peeled(repository, row), each)
}

/// Of these the ones that stand with what they peel to beside their names. No object is read.
///
/// # Errors
/// When refs cannot be read.
pub fn recorded_tags(
    repository: &Repository,
    hidden_for: For,
    each: &mut dyn FnMut(ObjectId, ObjectId),
) -> anyhow::Result<()> {
    tags(repository, hidden_for, &|row| row.peeled.flatten().map(|peeled| peeled.id()), each)
}

fn tags(
    repository: &Repository,
    hidden_for: For,
    peeled: &dyn Fn(&Row<'_>) -> Option<ObjectId>,
    each: &mut dyn FnMut(ObjectId, ObjectId),
) -> anyhow::Result<()> {
    let namespace = namespace_prefix(repository);
    let rules = rules(repository, hidden_for);
    repository.refs.for_each(&[concatenated(&namespace, b"refs/tags/")], &mut |row| {
        if !hidden(rules, Some(stripped(row.name, &namespace)), row.name)
            && let Some(peeled) = peeled(row)
        {
            each(row.id.id(), peeled);
        }
        Ok(())
    })
}

/// What a ref peels to, if it is an annotated tag.
fn known_or_peeled(repository: &Repository, row: &Row<'_>) -> Option<ObjectId> {
    match row.peeled {
        Some(known) => known.map(|known| known.id()),
        None => peeled(repository, &row.id.id()),
    }
}

/// The same of an object; what is damaged on the way peels to nothing. As in packed-refs what it ends at need not be there.
fn peeled(repository: &Repository, id: &oid) -> Option<ObjectId> {
    let peeled = repository.objects.peel_as_named(id).ok().flatten();
    peeled.map(|(peeled, _)| peeled).filter(|peeled| peeled.as_ref() != id)
}

/// Ends a listing early.
#[derive(Debug)]
struct Enough;

impl std::fmt::Display for Enough {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("nothing more is looked for")
    }
}

impl std::error::Error for Enough {}

/// What a name may be short for, in git's order (gitrevisions, `<refname>`).
const SHORT_FOR: [(&str, &str); 6] = [
    ("", ""),
    ("refs/", ""),
    ("refs/tags/", ""),
    ("refs/heads/", ""),
    ("refs/remotes/", ""),
    ("refs/remotes/", "/HEAD"),
];

/// What the visible refs point to that a short name may stand for: mostly one, none, or several where it is ambiguous.
pub fn named(repository: &Repository, hidden_for: For, short: &BStr) -> Vec<ObjectId> {
    let mut ids = Vec::new();
    for (before, behind) in SHORT_FOR {
        let name = concatenated(&concatenated(before.as_bytes(), short), behind.as_bytes());
        if !(name.starts_with(b"refs/") || name == "HEAD") || is_hidden(repository, hidden_for, name.as_bstr()) {
            continue;
        }
        // One that is broken is none.
        ids.extend(repository.refs.resolve(full_name(repository, name.as_bstr()).as_bstr()).ok().flatten());
    }
    ids
}

/// Whether a ref (name as the client sees it) is hidden.
pub fn is_hidden(repository: &Repository, hidden_for: For, name: &BStr) -> bool {
    let full = full_name(repository, name);
    hidden(rules(repository, hidden_for), Some(name), full.as_bstr())
}

/// The full name of a ref the client names: the namespace's prefix in front.
pub fn full_name(repository: &Repository, name: &BStr) -> BString {
    concatenated(&namespace_prefix(repository), name)
}

fn rules(repository: &Repository, hidden_for: For) -> &[BString] {
    match hidden_for {
        For::Upload => &repository.settings.upload_hide_refs,
        For::Receive => &repository.settings.receive_hide_refs,
        For::Nobody => &[],
    }
}

/// `a/b` is `refs/namespaces/a/refs/namespaces/b/`; empty components count for nothing (HN-04).
pub fn namespace_prefix(repository: &Repository) -> BString {
    let mut prefix = BString::default();
    if let Some(namespace) = &repository.context.namespace {
        for component in namespace.split(|&byte| byte == b'/').filter(|component| !component.is_empty()) {
            prefix.extend_from_slice(b"refs/namespaces/");
            prefix.extend_from_slice(component);
            prefix.push(b'/');
        }
    }
    prefix
}

fn concatenated(prefix: &[u8], name: &[u8]) -> BString {
    let mut full = BString::from(prefix);
    full.extend_from_slice(name);
    full
}

fn stripped<'a>(name: &'a BStr, namespace: &[u8]) -> &'a BStr {
    if namespace.is_empty() { name } else { name.strip_prefix(namespace).unwrap_or(name).as_bstr() }
}

/// The last matching rule decides: `!` shows again, `^` looks at the full name, a prefix matches whole components (HN-01, HN-02).
fn hidden(rules: &[BString], name: Option<&BStr>, full: &BStr) -> bool {
    for rule in rules.iter().rev() {
        let (rule, shows) = match rule.strip_prefix(b"!") {
            Some(rule) => (rule, true),
            None => (rule.as_bytes(), false),
        };
        let (rule, subject) = match rule.strip_prefix(b"^") {
            Some(rule) => (rule, Some(full)),
            None => (rule, name),
        };
        let rule = rule.trim_end_with(|char| char == '/');
        let matches = subject
            .and_then(|subject| subject.strip_prefix(rule))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"));
        if matches {
            return !shows;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_matching_rule_decides() {
        let check = |rules: &[&str], name: &str, full: &str, expected: bool| {
            let rules: Vec<BString> = rules.iter().map(|&rule| rule.into()).collect();
            assert_eq!(hidden(&rules, Some(name.into()), full.into()), expected, "{rules:?} {name}");
        };
        check(&[], "refs/heads/a", "refs/heads/a", false);
        check(&["refs/heads"], "refs/heads/a", "refs/heads/a", true);
        check(&["refs/heads/"], "refs/heads/a", "refs/heads/a", true);
        check(&["refs/head"], "refs/heads/a", "refs/heads/a", false);
        check(&["refs/heads/a"], "refs/heads/a", "refs/heads/a", true);
        check(&["refs/heads", "!refs/heads/a"], "refs/heads/a", "refs/heads/a", false);
        check(&["!refs/heads/a", "refs/heads"], "refs/heads/a", "refs/heads/a", true);
        // An empty rule hides nothing, and is no new beginning of the list.
        check(&[""], "refs/heads/a", "refs/heads/a", false);
        check(&["refs/heads", ""], "refs/heads/a", "refs/heads/a", true);
        check(&["refs/heads", "!"], "refs/heads/a", "refs/heads/a", true);
        let full = "refs/namespaces/n/refs/heads/a";
        check(&["^refs/namespaces"], "refs/heads/a", full, true);
        check(&["refs/namespaces"], "refs/heads/a", full, false);
        check(&["refs", "!^refs/namespaces/n"], "refs/heads/a", full, false);
    }
}

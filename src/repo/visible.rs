//! Which refs this request may see: hideRefs and namespaces.
//!
//! In: a repository. Out: its refs under the names the client knows. A hidden ref never comes out of here.

use super::Repository;
use crate::refs::{self, Peeled, Row, StoredId};
use bstr::{BStr, BString, ByteSlice};
use gix_hash::{ObjectId, oid};
use std::collections::HashSet;

/// Which hideRefs list applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// uploadpack.hideRefs.
    Upload,
    /// receive.hideRefs.
    Receive,
    /// Neither: the dumb protocol ignores both (DU-04).
    Unfiltered,
}

/// A ref as it is advertised to a pushing client.
#[derive(Debug, Clone, Copy)]
pub enum Listed<'a> {
    /// A ref in the namespace, its name without the namespace's prefix.
    Visible(&'a Row<'a>),
    /// What a ref outside the namespace points to.
    Outside(StoredId<'a>),
}

/// HEAD as the client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The object; `None` while unborn.
    pub id: Option<ObjectId>,
    /// The branch, without the namespace's prefix; `None` if HEAD is detached or points out of the namespace.
    pub target: Option<BString>,
}

/// HEAD of the namespace; `None` if it is missing, broken or hidden. Its object may be missing.
pub fn head(repository: &Repository, hidden_for: For) -> Option<Head> {
    if is_hidden(repository, hidden_for, b"HEAD".as_bstr()) {
        return None;
    }
    let name = full_name(repository, b"HEAD".as_bstr());
    let (end, id) = match repository.refs.follow(name.as_bstr()) {
        Ok(end) => end,
        Err(error) => {
            // Branches may still be intact.
            repository.objects.warn(format!("no HEAD: {error:#}"));
            return None;
        }
    };
    if !refs::is_ref_name(end.as_bstr()) {
        // A client might take such a name for one of its own refs.
        repository.objects.warn(format!("no HEAD: it points to '{}', which is no name of a ref", end.escape_ascii()));
        return None;
    }
    let prefix = namespace_prefix(repository);
    let target = end.strip_prefix(prefix.as_slice()).filter(|_| end != name).map(BString::from);
    (id.is_some() || target.is_some()).then_some(Head { id, target })
}

/// Lists visible refs below `refs/` whose objects exist, in byte order, without HEAD, under their names without the
/// namespace. `prefixes` are such names; empty means all. `peel` asks for what tags peel to, which may be given even
/// without it.
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

/// As [`for_each`], but includes refs whose objects are missing: a client that does not see them would take its own
/// copies for outdated (git, GIT_REF_PARANOIA).
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
        let is_known = !peel || row.peeled != Peeled::Unknown;
        if is_known && namespace.is_empty() && rules.is_empty() {
            return each(row);
        }
        let name = stripped(row.name, &namespace);
        if hidden(rules, Some(name), row.name) {
            return Ok(());
        }
        let looked_up = if is_known { None } else { peeled(repository, &row.id.id()) };
        let peeled = match &looked_up {
            _ if is_known => row.peeled,
            Some(target) => Peeled::To(target.into()),
            None => Peeled::NotATag,
        };
        let target = row.symref_target.and_then(|target| target.strip_prefix(namespace.as_slice()));
        let symref_target = target.map(ByteSlice::as_bstr);
        let line = row.line.filter(|_| namespace.is_empty());
        each(&Row { name, line, peeled, symref_target, ..*row })
    })
}

/// Lists all refs that are not hidden, including those whose objects are missing. Refs outside the namespace have no
/// name for the client (RA-09).
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

/// Removes from `ids`, which are existing objects, what visible refs point to and what their tags peel to. No object is
/// read except tags that packed-refs does not peel.
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

/// Calls `each` with every visible ref below `refs/tags/` that is an annotated tag, and with what it peels to. The
/// objects need not exist if packed-refs records the peeled one: of many tags only few are asked for.
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

/// As [`annotated_tags`], but only tags whose peeled object is recorded beside the ref. No object is read.
///
/// # Errors
/// When refs cannot be read.
pub fn recorded_tags(
    repository: &Repository,
    hidden_for: For,
    each: &mut dyn FnMut(ObjectId, ObjectId),
) -> anyhow::Result<()> {
    tags(repository, hidden_for, &|row| row.peeled.target().map(|peeled| peeled.id()), each)
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
        Peeled::To(target) => Some(target.id()),
        Peeled::NotATag => None,
        Peeled::Unknown => peeled(repository, &row.id.id()),
    }
}

/// What an object peels to, if it is a tag. A damaged tag peels to nothing. As in packed-refs, the peeled object need
/// not exist.
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

/// What a short name may stand for, in git's order (gitrevisions, `<refname>`).
const SHORT_FOR: [(&str, &str); 6] = [
    ("", ""),
    ("refs/", ""),
    ("refs/tags/", ""),
    ("refs/heads/", ""),
    ("refs/remotes/", ""),
    ("refs/remotes/", "/HEAD"),
];

/// The objects of the visible refs that a short name may stand for: usually one, none if there is no such ref, several
/// if the name is ambiguous.
pub fn named(repository: &Repository, hidden_for: For, short: &BStr) -> Vec<ObjectId> {
    let mut ids = Vec::new();
    for (before, behind) in SHORT_FOR {
        let name = concatenated(&concatenated(before.as_bytes(), short), behind.as_bytes());
        if !(name.starts_with(b"refs/") || name == "HEAD") || is_hidden(repository, hidden_for, name.as_bstr()) {
            continue;
        }
        // A broken ref counts as missing.
        ids.extend(repository.refs.resolve(full_name(repository, name.as_bstr()).as_bstr()).ok().flatten());
    }
    ids
}

/// Whether a ref, named as the client sees it, is hidden.
pub fn is_hidden(repository: &Repository, hidden_for: For, name: &BStr) -> bool {
    let full = full_name(repository, name);
    hidden(rules(repository, hidden_for), Some(name), full.as_bstr())
}

/// The full name of a ref that the client names: with the namespace's prefix.
pub fn full_name(repository: &Repository, name: &BStr) -> BString {
    concatenated(&namespace_prefix(repository), name)
}

fn rules(repository: &Repository, hidden_for: For) -> &[BString] {
    match hidden_for {
        For::Upload => &repository.settings.upload_hide_refs,
        For::Receive => &repository.settings.receive_hide_refs,
        For::Unfiltered => &[],
    }
}

/// The prefix of refs in the namespace: `a/b` is `refs/namespaces/a/refs/namespaces/b/`; empty components are ignored
/// (HN-04).
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

/// Whether the rules hide a ref. The last matching rule decides: `!` shows, `^` matches the full name, and a prefix
/// matches whole components (HN-01, HN-02).
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
        // An empty rule hides nothing, and does not reset the list.
        check(&[""], "refs/heads/a", "refs/heads/a", false);
        check(&["refs/heads", ""], "refs/heads/a", "refs/heads/a", true);
        check(&["refs/heads", "!"], "refs/heads/a", "refs/heads/a", true);
        let full = "refs/namespaces/n/refs/heads/a";
        check(&["^refs/namespaces"], "refs/heads/a", full, true);
        check(&["refs/namespaces"], "refs/heads/a", full, false);
        check(&["refs", "!^refs/namespaces/n"], "refs/heads/a", full, false);
    }
}

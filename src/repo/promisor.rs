//! Promisor remotes: the remotes that have the objects this repository lacks.
//!
//! In: configuration. Out: remotes in git's order. Nothing is ever fetched from them.

use super::config::{Entries, boolean};
use bstr::{BStr, BString, ByteSlice};

/// A remote that promises objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromisorRemote {
    /// The name in `remote.<name>.…`.
    pub name: BString,
    /// Its address; `None` where the configuration has none.
    pub url: Option<BString>,
    /// `remote.<name>.partialCloneFilter`.
    pub filter: Option<BString>,
    /// `remote.<name>.token`.
    pub token: Option<BString>,
}

/// The promisor remotes in a configuration, in the order in which they appear, but that of extensions.partialClone
/// last.
///
/// # Errors
/// Names the key and the file of a value that cannot be understood.
pub fn remotes(entries: &Entries) -> anyhow::Result<Vec<PromisorRemote>> {
    let mut names: Vec<&BStr> = Vec::new();
    for entry in entries.iter() {
        let Some(rest) = entry.key.strip_prefix(b"remote.") else { continue };
        let name = match (rest.strip_suffix(b".promisor"), rest.strip_suffix(b".partialclonefilter")) {
            (Some(name), _) if boolean(entry)? => name,
            (None, Some(name)) => name,
            (Some(_), _) | (None, None) => continue,
        };
        // git refuses names that look like absolute paths.
        if !name.starts_with(b"/") && !names.contains(&name.as_bstr()) {
            names.push(name.as_bstr());
        }
    }
    if let Some(last) = entries.text("extensions.partialclone") {
        names.retain(|name| *name != last);
        names.push(last);
    }
    let said = |name: &BStr, variable: &str| {
        let key = [b"remote.", &**name, b".", variable.as_bytes()].concat();
        let value = entries.iter().rev().find(|entry| entry.key == key)?.value.clone();
        value.filter(|value| !value.is_empty())
    };
    let remote = |name: &&BStr| PromisorRemote {
        name: (*name).to_owned(),
        url: said(name, "url"),
        filter: said(name, "partialclonefilter"),
        token: said(name, "token"),
    };
    Ok(names.iter().map(remote).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::config::ConfigSources;

    fn check(pairs: &[(&str, &str)], expected: &str) {
        let overrides = pairs.iter().map(|(key, value)| ((*key).into(), Some((*value).into()))).collect();
        let sources = ConfigSources { overrides, ..Default::default() };
        let entries = Entries::default().with_overrides(&sources);
        let told: Vec<String> = remotes(&entries)
            .expect("they can be understood")
            .into_iter()
            .map(|remote| {
                let fields = [remote.url, remote.filter, remote.token].map(|field| field.unwrap_or_default());
                format!("{}:{}", remote.name, bstr::join(",", fields).as_bstr())
            })
            .collect();
        assert_eq!(told.join(" "), expected);
    }

    #[test]
    fn a_remote_promises_by_its_word_or_its_filter_and_the_repositorys_own_comes_last() {
        check(&[("remote.a.url", "u")], "");
        check(&[("remote.a.promisor", "false"), ("remote./b.promisor", "true")], "");
        check(
            &[
                ("remote.b.c.promisor", "true"),
                ("remote.a.partialCloneFilter", "blob:none"),
                ("remote.b.c.url", "old"),
                ("remote.b.c.url", "new"),
                ("remote.b.c.token", "t"),
                ("remote.a.url", ""),
            ],
            "b.c:new,,t a:,blob:none,",
        );
        let pairs = [("remote.a.promisor", "1"), ("remote.b.promisor", "1"), ("extensions.partialClone", "a")];
        check(&pairs, "b:,, a:,,");
        check(&[("extensions.partialClone", "a")], "a:,,");
    }
}

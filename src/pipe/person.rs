//! The pushing user's identity for reflogs, determined as git determines a committer (git,
//! Documentation/git-commit-tree, «Commit Information»).
//!
//! In: the environment and the configuration. Out: `Name <address>`. A push is never refused for lack of a name.

use crate::edge::{Environ, users};
use crate::repo::config::Entries;
use bstr::{BString, ByteSlice};

/// The committer: GIT_COMMITTER_NAME and GIT_COMMITTER_EMAIL, then committer.* and user.*, EMAIL, and finally the user
/// database and host name.
pub fn committer(environ: &Environ, entries: &Entries) -> BString {
    let variable = |name: &str| environ.text(name);
    let key =
        |key: &str| entries.text(key).filter(|text| !text.is_empty()).map(|text| text.to_str_lossy().into_owned());
    let user = || users::by_id(rustix::process::getuid().as_raw());
    let login = || user().map(|user| user.name).or_else(|| variable("USER")).unwrap_or_else(|| "unknown".to_owned());
    let name = variable("GIT_COMMITTER_NAME")
        .or_else(|| key("committer.name"))
        .or_else(|| key("user.name"))
        .or_else(|| user()?.full_name)
        .unwrap_or_else(login);
    let email = variable("GIT_COMMITTER_EMAIL")
        .or_else(|| key("committer.email"))
        .or_else(|| key("user.email"))
        .or_else(|| variable("EMAIL"))
        .unwrap_or_else(|| format!("{}@{}", login(), rustix::system::uname().nodename().to_string_lossy()));
    format!("{} <{}>", plain(&name), plain(&email)).into()
}

/// Cleans a name as git does: without characters that would end it inside a reflog line, and without dots and quotes
/// around it (git, ident.c).
fn plain(text: &str) -> String {
    let kept: String = text.chars().filter(|char| !matches!(char, '<' | '>' | '\n' | '\0')).collect();
    let crud = |char: char| char <= ' ' || matches!(char, '.' | ',' | ':' | ';' | '"' | '\\' | '\'');
    kept.trim_matches(crud).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::config::ConfigSources;

    fn check(environ: &[(&str, &str)], keys: &[(&str, &str)], expected: &str) {
        let overrides = keys.iter().map(|(key, value)| ((*key).into(), Some((*value).into()))).collect();
        let entries = Entries::default().with_overrides(&ConfigSources { overrides, ..ConfigSources::default() });
        let environ = Environ::from_pairs(environ.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        let told = committer(&environ, &entries).to_string();
        assert!(told.starts_with(expected), "{told} is not {expected}");
    }

    #[test]
    fn the_committer_is_found_where_git_looks() {
        let given = [("GIT_COMMITTER_NAME", "Ann"), ("GIT_COMMITTER_EMAIL", "ann@example.com"), ("EMAIL", "e@x")];
        let keys = [("user.name", "U"), ("user.email", "u@x"), ("committer.name", "C"), ("committer.email", "c@x")];
        check(&given, &keys, "Ann <ann@example.com>");
        check(&given[2..], &keys, "C <c@x>");
        check(&given[2..], &keys[..2], "U <u@x>");
        check(&given[2..], &keys[..1], "U <e@x>");
        check(&[], &[("user.name", " \"A <B>\n\" ")], "A B <");
        let login = users::by_id(rustix::process::getuid().as_raw()).map(|user| user.name).unwrap_or_default();
        check(&[], &[("user.name", "U")], &format!("U <{login}@"));
    }
}

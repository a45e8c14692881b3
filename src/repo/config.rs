//! git's configuration as one list: every entry of every source, in order of precedence.
//!
//! In: the paths of the sources. Out: [`Entries`], looked up by key. No git process is run; nothing is written.

mod plain;

use crate::number;
use anyhow::{Context as _, anyhow};
use bstr::{BStr, BString, ByteSlice};
use gix_config::file::{Metadata, includes, init};
use std::error::Error;
use std::path::{Path, PathBuf};

/// The most bytes one configuration file may have.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Where configuration is read from, apart from the repository's own files: `system` and `global` before them,
/// `overrides` after them.
#[derive(Debug, Clone, Default)]
pub struct ConfigSources {
    /// `/etc/gitconfig` or GIT_CONFIG_SYSTEM; `None` with GIT_CONFIG_NOSYSTEM.
    pub system: Option<PathBuf>,
    /// GIT_CONFIG_GLOBAL, or else the file below XDG_CONFIG_HOME and `~/.gitconfig`.
    pub global: Vec<PathBuf>,
    /// `HOME`, to expand `~/`.
    pub home: Option<PathBuf>,
    /// Key and value pairs of GIT_CONFIG_PARAMETERS and GIT_CONFIG_COUNT; later ones override earlier ones.
    pub overrides: Vec<(BString, Option<BString>)>,
}

/// Who wrote an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The operator: system, global, environment («protected configuration»).
    Operator,
    /// The repository's own files.
    Repository,
}

/// One `key = value`.
#[derive(Debug, Clone)]
pub struct ConfigEntry {
    /// Section and variable in lower case, the subsection as written: `uploadpack.hiderefs`, `hook.Name.command`.
    pub key: BString,
    /// `None` for a bare variable, which means true.
    pub value: Option<BString>,
    /// Who wrote it.
    pub origin: Origin,
    /// The file it was read from, if any.
    pub file: Option<PathBuf>,
}

/// A whole configuration, in order: later entries override earlier ones.
#[derive(Debug, Clone, Default)]
pub struct Entries {
    list: Vec<ConfigEntry>,
}

impl Entries {
    /// Reads the operator's files, system before global. [`Entries::with_repository`] adds the rest, or
    /// [`Entries::with_overrides`] where there is no repository.
    ///
    /// # Errors
    /// When a file cannot be read or parsed (an unreadable system file is fatal: EN-10).
    pub fn of_operator(sources: &ConfigSources) -> anyhow::Result<Self> {
        let mut entries = Entries::default();
        let files = sources.system.iter().chain(&sources.global);
        for file in files {
            entries.read(file, Origin::Operator, sources, None, None)?;
        }
        Ok(entries)
    }

    /// Adds a repository's files, then the environment's overrides.
    ///
    /// # Errors
    /// When a file cannot be read or parsed.
    pub fn with_repository(
        mut self,
        sources: &ConfigSources,
        common_dir: &Path,
        git_dir: &Path,
        branch: Option<&BStr>,
    ) -> anyhow::Result<Self> {
        self.read(&common_dir.join("config"), Origin::Repository, sources, Some(git_dir), branch)?;
        if self.boolean("extensions.worktreeconfig")?.unwrap_or(false) {
            self.read(&git_dir.join("config.worktree"), Origin::Repository, sources, Some(git_dir), branch)?;
        }
        Ok(self.with_overrides(sources))
    }

    /// Adds the environment's overrides at the end.
    pub fn with_overrides(mut self, sources: &ConfigSources) -> Self {
        for (key, value) in &sources.overrides {
            self.list.push(ConfigEntry {
                key: normalized(key.as_bstr()),
                value: value.clone(),
                origin: Origin::Operator,
                file: None,
            });
        }
        self
    }

    fn read(
        &mut self,
        file: &Path,
        origin: Origin,
        sources: &ConfigSources,
        git_dir: Option<&Path>,
        branch: Option<&BStr>,
    ) -> anyhow::Result<()> {
        use std::io::Read;
        let mut bytes = Vec::new();
        match std::fs::File::open(file) {
            Ok(opened) => {
                // One byte more than the file has, so that `read_to_end` needs one read for the content and one to see
                // the end.
                let size = opened.metadata().map_or(0, |metadata| metadata.len()).min(FILE_BYTES_MAX);
                bytes.reserve_exact(usize::try_from(size).unwrap_or(0) + 1);
                opened
                    .take(FILE_BYTES_MAX + 1)
                    .read_to_end(&mut bytes)
                    .with_context(|| format!("unable to access '{}'", file.display()))?;
            }
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                return Ok(());
            }
            Err(error) => return Err(error).with_context(|| format!("unable to access '{}'", file.display())),
        }
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(anyhow!("'{}' is larger than {FILE_BYTES_MAX} bytes", file.display()));
        }
        if let Some(plain) = plain::parse(&bytes) {
            let file = Some(file.to_owned());
            self.list.extend(plain.into_iter().map(|(key, value)| ConfigEntry {
                key,
                value,
                origin,
                file: file.clone(),
            }));
            return Ok(());
        }
        let branch = branch.and_then(|name| gix_ref::FullName::try_from(name.to_owned()).ok());
        let interpolate = gix_config::path::interpolate::Context {
            git_install_dir: None,
            home_dir: sources.home.as_deref(),
            home_for_user: None,
        };
        let conditional = includes::conditional::Context { git_dir, branch_name: branch.as_ref().map(AsRef::as_ref) };
        let follow = includes::Options {
            err_on_missing_config_path: false,
            ..includes::Options::follow(interpolate, conditional)
        };
        let metadata = Metadata {
            path: Some(file.to_owned()),
            source: gix_config::Source::Local,
            level: 0,
            trust: gix_sec::Trust::Full,
        };
        let options = init::Options { includes: follow, lossy: true, ignore_io_errors: false };
        let parsed = gix_config::File::from_bytes_owned(&mut bytes, metadata, options)
            .map_err(|error| malformed(file, error.iter_errors()))?;
        self.list.append(&mut entries_of(&parsed, origin));
        Ok(())
    }

    /// All entries of the given keys, in the order of the configuration.
    pub fn all<'a>(&'a self, keys: &'a [&str]) -> impl DoubleEndedIterator<Item = &'a ConfigEntry> {
        self.list.iter().filter(move |entry| keys.iter().any(|key| entry.key == *key))
    }

    /// Every entry, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &ConfigEntry> {
        self.list.iter()
    }

    /// The entry of a key that takes effect: the last one.
    pub fn last(&self, key: &str) -> Option<&ConfigEntry> {
        self.list.iter().rev().find(|entry| entry.key == key)
    }

    /// The value as text, which may be empty; `None` for a bare variable.
    pub fn text(&self, key: &str) -> Option<&BStr> {
        self.last(key)?.value.as_ref().map(|value| value.as_bstr())
    }

    /// The value as a boolean, as git reads it.
    ///
    /// # Errors
    /// Names the key and the file of a value that is not a boolean.
    pub fn boolean(&self, key: &str) -> anyhow::Result<Option<bool>> {
        self.last(key).map(boolean).transpose()
    }

    /// The value as an integer with an optional unit k, m or g.
    ///
    /// # Errors
    /// Names the key and the file of a value that is not an integer.
    pub fn integer(&self, key: &str) -> anyhow::Result<Option<i64>> {
        self.last(key).map(integer).transpose()
    }
}

/// An error for a malformed file, in git's words. The parser's own message is not used: it quotes the file, which may
/// hold secrets.
pub(super) fn malformed<'e>(file: &Path, errors: impl Iterator<Item = &'e (dyn Error + 'static)>) -> anyhow::Error {
    let mut reasons = Vec::new();
    for error in errors {
        if let Some(error) = error.downcast_ref::<gix_config::parse::Error>() {
            let line = error.line_number();
            return match reasons.len() {
                0 | 1 => anyhow!("bad config line {line} in file '{}'", file.display()),
                _ => anyhow!("bad config line {line} in a file that '{}' includes", file.display()),
            };
        }
        reasons.push(error.to_string());
    }
    anyhow!("bad config file '{}': {}", file.display(), reasons.join(": "))
}

/// The entries of a file and of the files it includes.
fn entries_of(parsed: &gix_config::File, origin: Origin) -> Vec<ConfigEntry> {
    let mut entries = Vec::new();
    for section in parsed.sections() {
        let mut prefix = section.header().name().to_ascii_lowercase();
        if let Some(middle) = section.header().subsection_name() {
            prefix.push(b'.');
            prefix.extend_from_slice(middle);
        }
        prefix.push(b'.');
        let file = &section.meta().path;
        for (name, value) in section.body() {
            let mut key = BString::from(prefix.clone());
            key.extend_from_slice(name.to_ascii_lowercase().as_bytes());
            let implicit = value.is_empty() && section.value_implicit(&name) == Some(None);
            entries.push(ConfigEntry { key, value: (!implicit).then_some(value), origin, file: file.clone() });
        }
    }
    entries
}

/// The value of an entry as a boolean, as git reads it.
///
/// # Errors
/// Names the key and the file of a value that is not a boolean.
pub fn boolean(entry: &ConfigEntry) -> anyhow::Result<bool> {
    let Some(value) = &entry.value else { return Ok(true) };
    match value.to_ascii_lowercase().as_slice() {
        b"true" | b"yes" | b"on" => Ok(true),
        b"false" | b"no" | b"off" | b"" => Ok(false),
        _ => integer(entry).map(|number| number != 0).map_err(|_| bad(entry, "boolean")),
    }
}

/// The value of an entry as an integer in C's notation, with an optional unit k, m or g.
///
/// # Errors
/// Names the key and the file of a value that is not an integer.
pub fn integer(entry: &ConfigEntry) -> anyhow::Result<i64> {
    let parsed = entry.value.as_ref().and_then(|value| number::signed_with_unit(value.trim_ascii()));
    parsed.ok_or_else(|| bad(entry, "numeric"))
}

fn bad(entry: &ConfigEntry, what: &str) -> anyhow::Error {
    let file = entry.file.as_deref().map(|file| format!(" in file {}", file.display())).unwrap_or_default();
    let value = entry.value.as_ref().map(|value| value.escape_ascii().to_string()).unwrap_or_default();
    anyhow!("bad {what} config value '{value}' for '{}'{file}", entry.key)
}

/// A key with section and variable in lower case and the subsection as written.
fn normalized(key: &BStr) -> BString {
    let (Some(first), Some(last)) = (key.find_byte(b'.'), key.rfind_byte(b'.')) else {
        return key.to_ascii_lowercase().into();
    };
    let mut normalized = BString::from(key[..first].to_ascii_lowercase());
    normalized.extend_from_slice(&key[first..last]);
    normalized.extend_from_slice(&key[last..].to_ascii_lowercase());
    normalized
}

/// The pairs of GIT_CONFIG_PARAMETERS: `'key=value'` as git before 2.31 wrote them, `'key'='value'` since.
///
/// # Errors
/// When the quoting is broken: «bogus format in GIT_CONFIG_PARAMETERS».
pub fn parameters(text: &BStr) -> anyhow::Result<Vec<(BString, Option<BString>)>> {
    let bogus = || anyhow!("bogus format in GIT_CONFIG_PARAMETERS");
    let mut pairs = Vec::new();
    let mut rest = text.as_bytes().trim_ascii_start();
    while !rest.is_empty() {
        let (first, after) = unquoted(rest).ok_or_else(bogus)?;
        if let Some(value) = after.strip_prefix(b"=") {
            if value.is_empty() || value[0].is_ascii_whitespace() {
                pairs.push((first, None));
                rest = value;
            } else {
                let (value, after) = unquoted(value).ok_or_else(bogus)?;
                pairs.push((first, Some(value)));
                rest = after;
            }
        } else {
            match first.find_byte(b'=') {
                Some(at) => pairs.push((first[..at].into(), Some(first[at + 1..].into()))),
                None => pairs.push((first, None)),
            }
            rest = after;
        }
        if !rest.is_empty() && !rest[0].is_ascii_whitespace() {
            return Err(bogus());
        }
        rest = rest.trim_ascii_start();
    }
    Ok(pairs)
}

/// Unquotes one word in the shell's single quotes, which may contain `'\''` and `'\!'`; returns it and the text after
/// it.
fn unquoted(text: &[u8]) -> Option<(BString, &[u8])> {
    let mut rest = text.strip_prefix(b"'")?;
    let mut word = BString::default();
    loop {
        let end = rest.find_byte(b'\'')?;
        word.extend_from_slice(&rest[..end]);
        rest = &rest[end + 1..];
        match rest {
            [b'\\', quoted @ (b'\'' | b'!'), b'\'', after @ ..] => {
                word.push(*quoted);
                rest = after;
            }
            _ => return Some((word, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The entries that the general parser finds in a file.
    pub(super) fn parsed_by_gix(text: &str) -> Vec<(BString, Option<BString>)> {
        let parsed = gix_config::File::try_from(text).unwrap();
        entries_of(&parsed, Origin::Repository).into_iter().map(|entry| (entry.key, entry.value)).collect()
    }

    #[test]
    fn parameters_come_in_both_of_gits_forms() {
        let check = |text: &str, expected: &str| {
            let pairs = parameters(text.into()).map(|pairs| {
                pairs
                    .into_iter()
                    .map(|(key, value)| match value {
                        Some(value) => format!("{key}={value}"),
                        None => key.to_string(),
                    })
                    .collect::<Vec<_>>()
                    .join("|")
            });
            assert_eq!(pairs.unwrap_or_else(|error| error.to_string()), expected, "{text}");
        };
        check("'core.hooksPath=/a b'", "core.hooksPath=/a b");
        check("'core.hooksPath'='/a b' 'x.y'", "core.hooksPath=/a b|x.y");
        check("'a.b'=", "a.b");
        check("'a.b'='it'\\''s'", "a.b=it's");
        check("", "");
        check("a.b=c", "bogus format in GIT_CONFIG_PARAMETERS");
        check("'a.b'='c", "bogus format in GIT_CONFIG_PARAMETERS");
    }

    #[test]
    fn values_are_read_as_git_reads_them() {
        let check = |value: Option<&str>, boolean_expected: Option<bool>, integer_expected: Option<i64>| {
            let entry =
                ConfigEntry { key: "a.b".into(), value: value.map(Into::into), origin: Origin::Repository, file: None };
            assert_eq!(boolean(&entry).ok(), boolean_expected, "{value:?}");
            assert_eq!(integer(&entry).ok(), integer_expected, "{value:?}");
        };
        check(None, Some(true), None);
        check(Some(""), Some(false), None);
        check(Some("Yes"), Some(true), None);
        check(Some("0"), Some(false), Some(0));
        check(Some("2k"), Some(true), Some(2048));
        check(Some("-1"), Some(true), Some(-1));
        check(Some("9999999999g"), None, None);
        check(Some("maybe"), None, None);
    }

    #[test]
    fn includes_and_bare_variables_are_followed() {
        let folder = std::env::temp_dir().join(format!("config-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(
            folder.join("config"),
            "[Core]\n\tbare\n[include]\n\tpath = more\n[Hook \"Aa\"]\n\tcommand = x\n",
        )
        .unwrap();
        std::fs::write(folder.join("more"), "[receive]\n\tunpackLimit = 7\n").unwrap();
        let sources = ConfigSources { overrides: vec![("Receive.denyDeletes".into(), None)], ..Default::default() };
        let entries = Entries::default().with_repository(&sources, &folder, &folder, None).unwrap();
        assert_eq!(entries.boolean("core.bare").unwrap(), Some(true));
        assert_eq!(entries.integer("receive.unpacklimit").unwrap(), Some(7));
        assert_eq!(entries.text("hook.Aa.command").unwrap(), "x");
        assert_eq!(entries.boolean("receive.denydeletes").unwrap(), Some(true));
        assert_eq!(entries.last("receive.denydeletes").unwrap().origin, Origin::Operator);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

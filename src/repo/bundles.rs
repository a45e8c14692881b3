//! The list of bundles a repository advertises, in a file that the repository's configuration includes.
//!
//! In: the git directory. Out: bundles by creation token; `bundles.config`, replaced by one rename under its lock. git
//! reads the list like any other configuration, both as a server and when cloning. A process that dies while changing
//! the list never blocks later ones.

use super::config::malformed;
use super::lock::Lock;
use crate::durable::{self, Sharing};
use crate::journal::{Journal, Leftover};
use anyhow::{Context, Result, ensure};
use bstr::{BStr, ByteSlice};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The name of the list in the git directory.
const NAME: &str = "bundles.config";

/// One bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Greater than the tokens of the bundles it builds on.
    pub token: u64,
    /// Where clients download it.
    pub uri: String,
}

/// The bundles of a repository, locked against other writers until this is dropped.
pub struct BundleList<'a> {
    git_dir: PathBuf,
    journal: &'a Journal,
    sharing: Sharing,
    _lock: Lock,
    /// The bundles, oldest first.
    pub bundles: Vec<Bundle>,
}

/// Reads the bundles a list names, oldest first, and ignores all other entries.
///
/// # Errors
/// When the list cannot be read.
pub fn read(git_dir: &Path) -> Result<Vec<Bundle>> {
    let path = git_dir.join(NAME);
    let Some(config) = open(&path)? else { return Ok(Vec::new()) };
    let mut bundles = Vec::new();
    for section in config.sections_by_name("bundle").into_iter().flatten() {
        let Some(id) = section.header().subsection_name() else { continue };
        let token = section.value("creationToken").or_else(|| Some(id.to_owned()));
        let token = token.and_then(|token| token.to_str().ok()?.parse().ok());
        let uri = section.value("uri").and_then(|uri| uri.to_str().ok().map(str::to_owned));
        let (Some(token), Some(uri)) = (token, uri) else { continue };
        bundles.push(Bundle { token, uri });
    }
    bundles.sort_by_key(|bundle| bundle.token);
    Ok(bundles)
}

/// A list in the form git reads: for the repository's configuration (`advertise`), or for a file that clients clone
/// from.
pub fn text(bundles: &[Bundle], advertise: bool) -> String {
    let mut text = String::from("# Written by `artifacts-http-backend bundle publish`, which replaces it.\n");
    if advertise {
        text += "[uploadpack]\n\tadvertiseBundleURIs = true\n";
    }
    text += "[bundle]\n\tversion = 1\n\tmode = all\n\theuristic = creationToken\n";
    for Bundle { token, uri } in bundles {
        let uri = uri.replace('\\', "\\\\").replace('"', "\\\"");
        text += &format!("[bundle \"{token}\"]\n\turi = \"{uri}\"\n\tcreationToken = {token}\n");
    }
    text
}

impl<'a> BundleList<'a> {
    /// Locks the list and reads it.
    ///
    /// # Errors
    /// When another process holds the lock, or the list cannot be read.
    pub fn lock(git_dir: &Path, journal: &'a Journal, sharing: Sharing) -> Result<Self> {
        let path = git_dir.join(NAME).with_extension("config.lock");
        let lock = Lock::acquire(journal, path.clone(), Duration::ZERO, sharing)
            .with_context(|| format!("locking '{}'", path.display()))?
            .with_context(|| {
                format!("somebody is changing the list of bundles, or died doing so: '{}'", path.display())
            })?;
        let bundles = read(git_dir)?;
        Ok(BundleList { git_dir: git_dir.to_owned(), journal, sharing, _lock: lock, bundles })
    }

    /// Notes in the journal a file about to be made, so that it is removed if this process dies.
    pub fn note(&self, fresh: &Path) {
        // The process that removes it may run in another directory.
        if let Ok(fresh) = std::path::absolute(fresh) {
            self.journal.note(Leftover::Temporary(&fresh), self.sharing);
        }
    }

    /// Writes the list for clients that clone from a file without asking the repository.
    ///
    /// # Errors
    /// When it cannot be written; the old file is kept then.
    pub fn store(&self, path: &Path) -> Result<()> {
        let fresh = path.with_file_name(durable::unique("tmp_bundle_"));
        self.note(&fresh);
        durable::create(&fresh, 0o666, Sharing::Umask)
            .and_then(|file| durable::replace(path, text(&self.bundles, false).as_bytes(), &fresh, file))
            .with_context(|| format!("writing '{}'", path.display()))
    }

    /// Puts the list in place and ensures that the repository's configuration includes it.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn advertise(self) -> Result<()> {
        let path = self.git_dir.join(NAME);
        self.journal
            .temporary(self.sharing)
            .and_then(|(fresh, file)| durable::replace(&path, text(&self.bundles, true).as_bytes(), &fresh, file))
            .with_context(|| format!("writing '{}'", path.display()))?;
        include(&self.git_dir, self.journal, self.sharing)
    }

    /// Ensures that the configuration includes the list, if there is one: a process that wrote it may have died before
    /// including it.
    ///
    /// # Errors
    /// When the configuration cannot be written.
    pub fn include(&self) -> Result<()> {
        if self.bundles.is_empty() { Ok(()) } else { include(&self.git_dir, self.journal, self.sharing) }
    }

    /// Removes the list, so that nothing is advertised any more; returns whether there was one.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn withdraw(self) -> Result<bool> {
        let path = self.git_dir.join(NAME);
        let removed = match durable::unlink(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            removed => removed.and_then(|()| durable::fsync_directory(&self.git_dir)).map(|()| true),
        };
        removed.with_context(|| format!("removing '{}'", path.display()))
    }
}

fn open(path: &Path) -> Result<Option<gix_config::File>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("reading '{}'", path.display())),
    };
    let config = gix_config::File::from_bytes_no_includes(
        &bytes,
        gix_config::file::Metadata::from(gix_config::Source::Local),
        gix_config::file::init::Options::default(),
    );
    config.map(Some).map_err(|error| malformed(path, error.iter_errors()))
}

/// Includes the list in the repository's configuration, under git's own lock, unless it is included already.
fn include(git_dir: &Path, journal: &Journal, sharing: Sharing) -> Result<()> {
    // If `config` is a symbolic link, its target is changed, as git does.
    let path = git_dir.join("config");
    let path = path.canonicalize().with_context(|| format!("reading '{}'", path.display()))?;
    let mut lock = path.clone().into_os_string();
    lock.push(".lock");
    let lock = Lock::acquire(journal, lock.into(), Duration::ZERO, sharing);
    let _lock =
        lock.map_err(anyhow::Error::from).and_then(|lock| lock.context("somebody has it")).with_context(|| {
            format!("locking '{}'; once it is free: git config --file <it> --add include.path {NAME}", path.display())
        })?;
    append_include(&path, journal, sharing).with_context(|| format!("writing '{}'", path.display()))
}

fn append_include(path: &Path, journal: &Journal, sharing: Sharing) -> Result<()> {
    let config = open(path)?.context("it has vanished")?;
    let includes = config.strings("include.path").unwrap_or_default();
    if includes.iter().any(|include| **include == *BStr::new(NAME)) {
        return Ok(());
    }
    let mut bytes = fs::read(path)?;
    if bytes.last().is_some_and(|last| *last != b'\n') {
        bytes.push(b'\n');
    }
    bytes.extend_from_slice(format!("[include]\n\tpath = {NAME}\n").as_bytes());
    let fresh = path.with_file_name(durable::unique("tmp_config_"));
    journal.note(Leftover::Temporary(&fresh), sharing);
    let file = durable::create(&fresh, 0o666, sharing)?;
    if let Err(error) = durable::copy_mode(path, &file) {
        let _ = durable::unlink(&fresh);
        return Err(error.into());
    }
    Ok(durable::replace(path, &bytes, &fresh, file)?)
}

/// Checks that a text can be the address of a bundle in a list.
///
/// # Errors
/// Says why it cannot.
pub fn check_uri(uri: &str) -> Result<()> {
    ensure!(!uri.is_empty() && !uri.chars().any(char::is_control), "an address is one line without control characters");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct GitDir(PathBuf, Journal);

    impl GitDir {
        fn new(config: &str) -> Self {
            let path = std::env::temp_dir().join(durable::unique("bundles-test-"));
            fs::create_dir(&path).unwrap();
            fs::write(path.join("config"), config).unwrap();
            let journal = Journal::of(&path);
            GitDir(path, journal)
        }

        fn lock(&self) -> Result<BundleList<'_>> {
            BundleList::lock(&self.0, &self.1, Sharing::Umask)
        }

        fn text(&self, name: &str) -> String {
            fs::read_to_string(self.0.join(name)).unwrap()
        }
    }

    impl Drop for GitDir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_configuration_that_is_a_link_stays_one() {
        let dir = GitDir::new("[core]\n\tbare = true\n");
        fs::rename(dir.0.join("config"), dir.0.join("shared")).unwrap();
        std::os::unix::fs::symlink("shared", dir.0.join("config")).unwrap();
        let mut list = dir.lock().unwrap();
        list.bundles = vec![Bundle { token: 7, uri: "https://host/a".to_owned() }];
        list.advertise().unwrap();
        assert!(dir.0.join("config").is_symlink());
        assert_eq!(dir.text("shared"), "[core]\n\tbare = true\n[include]\n\tpath = bundles.config\n");
        assert!(!dir.0.join("shared.lock").exists());
    }

    #[test]
    fn a_list_is_read_as_it_was_written_and_included_once() {
        let dir = GitDir::new("[core]\n\tbare = true");
        assert_eq!(read(&dir.0).unwrap(), []);
        let bundles = vec![
            Bundle { token: 7, uri: "https://host/a \"b\"\\c;#".to_owned() },
            Bundle { token: 12, uri: "https://host/d".to_owned() },
        ];
        for _ in 0..2 {
            let mut list = dir.lock().unwrap();
            list.bundles.clone_from(&bundles);
            list.advertise().unwrap();
            assert_eq!(read(&dir.0).unwrap(), bundles);
            assert_eq!(dir.text("config"), "[core]\n\tbare = true\n[include]\n\tpath = bundles.config\n");
        }
        assert!(dir.text(NAME).contains("advertiseBundleURIs = true"));
        assert!(dir.lock().unwrap().withdraw().unwrap());
        assert!(!dir.lock().unwrap().withdraw().unwrap());
        let mut left: Vec<_> = fs::read_dir(&dir.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["artifacts-journal", "config"]);
    }

    #[test]
    fn one_changes_the_list_at_a_time_and_who_gives_up_leaves_it() {
        let dir = GitDir::new("");
        let first = dir.lock().unwrap();
        let second = dir.lock().err().unwrap();
        assert!(format!("{second:#}").contains("somebody is changing the list"), "{second:#}");
        drop(first);
        drop(dir.lock().unwrap());
        assert_eq!(dir.text("config"), "");
    }
}

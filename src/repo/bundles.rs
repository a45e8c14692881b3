//! The list of bundles a repository advertises: a file of its own beside its configuration, which includes it.
//!
//! In: the git directory. Out: bundles by creation token; `bundles.config`, replaced by one rename under its lock. git reads
//! the list as configuration like any other, whether it serves or clones.

use super::config::malformed;
use crate::durable::{self, Sharing};
use anyhow::{Context, Result, ensure};
use bstr::{BStr, ByteSlice};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The name of the list in the git directory.
const NAME: &str = "bundles.config";

/// One bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Greater than those of the bundles it builds on.
    pub token: u64,
    /// Where it is.
    pub uri: String,
}

/// The bundles of a repository, locked against others who would change the list; the lock goes when this goes.
pub struct BundleList {
    git_dir: PathBuf,
    lock: Option<File>,
    /// The oldest first.
    pub bundles: Vec<Bundle>,
}

/// The bundles a list names, the oldest first; other entries of the list are not looked at.
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

/// A list as git reads it: for the repository's configuration, or for a file somebody clones from.
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

impl BundleList {
    /// Locks the list and reads it.
    ///
    /// # Errors
    /// When somebody else has locked it, or it cannot be read.
    pub fn lock(git_dir: &Path, sharing: Sharing) -> Result<Self> {
        let path = git_dir.join(NAME);
        let lock = match durable::create(&locked(&path), 0o666, sharing) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| {
                    format!("somebody is changing the list of bundles, or died doing so: '{}'", locked(&path).display())
                });
            }
            lock => lock.with_context(|| format!("locking '{}'", path.display()))?,
        };
        let mut list = BundleList { git_dir: git_dir.to_owned(), lock: Some(lock), bundles: Vec::new() };
        list.bundles = read(git_dir)?;
        Ok(list)
    }

    /// Puts the list in its place, and sees to it that the repository's configuration includes it.
    ///
    /// # Errors
    /// When a file cannot be written; the old list then holds.
    pub fn advertise(mut self, sharing: Sharing) -> Result<()> {
        let path = self.git_dir.join(NAME);
        let writing = || format!("writing '{}'", path.display());
        let Some(mut lock) = self.lock.take() else { return Ok(()) };
        let written = durable::write_all(&mut lock, text(&self.bundles, true).as_bytes())
            .and_then(|()| durable::fsync(&lock))
            .and_then(|()| durable::rename(&locked(&path), &path))
            .and_then(|()| durable::fsync_directory(&self.git_dir));
        if written.is_err() {
            self.lock = Some(lock);
        }
        written.with_context(writing)?;
        include(&self.git_dir, sharing)
    }

    /// Removes the list: nothing is advertised any more. Whether there was one.
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

impl Drop for BundleList {
    fn drop(&mut self) {
        if self.lock.take().is_some() {
            // Whoever comes next is told of a lock that could not be removed.
            let _ = durable::unlink(&locked(&self.git_dir.join(NAME)));
        }
    }
}

fn locked(path: &Path) -> PathBuf {
    path.with_extension("config.lock")
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

/// Includes the list in the repository's configuration, under the lock git itself takes, unless it does so already.
fn include(git_dir: &Path, sharing: Sharing) -> Result<()> {
    let path = git_dir.join("config");
    let lock_path = git_dir.join("config.lock");
    let mut lock = durable::create(&lock_path, 0o666, sharing).with_context(|| {
        format!("locking '{}'; once it is free: git config --file <it> --add include.path {NAME}", path.display())
    })?;
    let written = append_include(&path, &lock_path, &mut lock);
    if !matches!(written, Ok(true)) {
        let _ = durable::unlink(&lock_path);
    }
    if written.with_context(|| format!("writing '{}'", path.display()))? {
        durable::fsync_directory(git_dir)?;
    }
    Ok(())
}

fn append_include(path: &Path, lock_path: &Path, lock: &mut File) -> Result<bool> {
    let config = open(path)?.context("it has vanished")?;
    let includes = config.strings("include.path").unwrap_or_default();
    if includes.iter().any(|include| **include == *BStr::new(NAME)) {
        return Ok(false);
    }
    let mut bytes = fs::read(path)?;
    if bytes.last().is_some_and(|last| *last != b'\n') {
        bytes.push(b'\n');
    }
    bytes.extend_from_slice(format!("[include]\n\tpath = {NAME}\n").as_bytes());
    durable::write_all(lock, &bytes)?;
    durable::copy_mode(path, lock)?;
    durable::fsync(lock)?;
    durable::rename(lock_path, path)?;
    Ok(true)
}

/// Whether a text can stand in a list as an address.
///
/// # Errors
/// Says why not.
pub fn check_uri(uri: &str) -> Result<()> {
    ensure!(!uri.is_empty() && !uri.chars().any(char::is_control), "an address is one line without control characters");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct GitDir(PathBuf);

    impl GitDir {
        fn new(config: &str) -> Self {
            let path = std::env::temp_dir().join(durable::unique("bundles-test-"));
            fs::create_dir(&path).unwrap();
            fs::write(path.join("config"), config).unwrap();
            GitDir(path)
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
    fn a_list_is_read_as_it_was_written_and_included_once() {
        let dir = GitDir::new("[core]\n\tbare = true");
        assert_eq!(read(&dir.0).unwrap(), []);
        let bundles = vec![
            Bundle { token: 7, uri: "https://host/a \"b\"\\c;#".to_owned() },
            Bundle { token: 12, uri: "https://host/d".to_owned() },
        ];
        for _ in 0..2 {
            let mut list = BundleList::lock(&dir.0, Sharing::Umask).unwrap();
            list.bundles.clone_from(&bundles);
            list.advertise(Sharing::Umask).unwrap();
            assert_eq!(read(&dir.0).unwrap(), bundles);
            assert_eq!(dir.text("config"), "[core]\n\tbare = true\n[include]\n\tpath = bundles.config\n");
        }
        assert!(dir.text(NAME).contains("advertiseBundleURIs = true"));
        assert!(BundleList::lock(&dir.0, Sharing::Umask).unwrap().withdraw().unwrap());
        assert!(!BundleList::lock(&dir.0, Sharing::Umask).unwrap().withdraw().unwrap());
        let left: Vec<_> = fs::read_dir(&dir.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["config"]);
    }

    #[test]
    fn one_changes_the_list_at_a_time_and_who_gives_up_leaves_it() {
        let dir = GitDir::new("");
        let first = BundleList::lock(&dir.0, Sharing::Umask).unwrap();
        let second = BundleList::lock(&dir.0, Sharing::Umask).err().unwrap();
        assert!(format!("{second:#}").contains("somebody is changing the list"), "{second:#}");
        drop(first);
        drop(BundleList::lock(&dir.0, Sharing::Umask).unwrap());
        assert_eq!(dir.text("config"), "");
    }
}

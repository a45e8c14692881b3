//! Creating and removing repositories, which are bare directories as C git makes them.
//!
//! In: the root directory of all repositories and a name. Out: a directory below it, whole or not at all, on disk
//! before the call returns. No process is started, and no symbolic link below the root is ever followed.

use super::config::malformed;
use crate::auth::random_id;
use crate::durable::{self, Sharing};
use crate::listing::{Listed, Listing};
use crate::refs::{self, Format};
use anyhow::{Context, bail, ensure};
use bstr::BString;
use rustix::fs::FileType;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The longest component of a name in bytes, not counting `.git`.
pub const COMPONENT_BYTES_MAX: usize = 63;

/// The branch that HEAD names in a new repository.
const HEAD: &str = "refs/heads/main";

/// The suffix of a repository's directory.
const SUFFIX: &str = ".git";

/// The prefixes of the directories of an unfinished creation and an unfinished removal. Because of the dot, no URL
/// leads there.
const MAKING: &str = ".making-";
const REMOVING: &str = ".removing-";

/// The directories of an empty repository, parents first.
const DIRECTORIES: &[&str] = &["hooks", "info", "objects", "objects/info", "objects/pack"];

/// A repository's name in `tokens` mode: `<namespace>/<name>`, with any number of components, without `.git`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryName(String);

/// Why a text is not a repository's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// It has one component only.
    NoNamespace,
    /// It does not end in `.git` where it must.
    NoSuffix,
    /// A component contains a character that is not allowed, or not allowed as the first one.
    Characters,
    /// A component is too long.
    TooLong,
    /// A component other than the last ends in `.git`, or the last one does so twice.
    SuffixInside,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NameError::NoNamespace => "a repository's name is <namespace>/<name>",
            NameError::NoSuffix => "a repository's directory ends in .git",
            NameError::Characters => {
                "each part of a repository's name begins with a letter or digit and has letters, digits, '.', '_' and '-'"
            }
            NameError::TooLong => "a part of a repository's name has at most 63 characters",
            NameError::SuffixInside => "only the end of a repository's name may be .git",
        })
    }
}

impl std::error::Error for NameError {}

impl RepositoryName {
    /// Parses `<namespace>/<name>` or `<namespace>/<name>.git`, as users type it.
    ///
    /// # Errors
    /// The rule it breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let name = text.strip_suffix(SUFFIX).unwrap_or(text);
        ensure_name(name)?;
        Ok(RepositoryName(name.into()))
    }

    /// Parses `<namespace>/<name>.git`, as in URLs and on disk; no leading slash.
    ///
    /// # Errors
    /// The rule it breaks.
    pub fn from_directory(text: &str) -> Result<Self, NameError> {
        let name = text.strip_suffix(SUFFIX).ok_or(NameError::NoSuffix)?;
        ensure_name(name)?;
        Ok(RepositoryName(name.into()))
    }

    /// `<namespace>/<name>`, without `.git`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The repository's directory below the root.
    pub fn git_dir(&self, root: &Path) -> PathBuf {
        root.join(format!("{}{SUFFIX}", self.0))
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn ensure_name(name: &str) -> Result<(), NameError> {
    if !name.contains('/') {
        return Err(NameError::NoNamespace);
    }
    name.split('/').try_for_each(ensure_component)
}

fn ensure_component(component: &str) -> Result<(), NameError> {
    let begins = component.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !begins || !component.bytes().all(allowed) {
        return Err(NameError::Characters);
    }
    if component.len() > COMPONENT_BYTES_MAX {
        return Err(NameError::TooLong);
    }
    if component.ends_with(SUFFIX) {
        return Err(NameError::SuffixInside);
    }
    Ok(())
}

/// A repository that was just created.
#[derive(Debug)]
pub struct Created {
    /// Its directory.
    pub git_dir: PathBuf,
    /// Its `artifacts.id`.
    pub id: String,
}

/// The formats of a new repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Formats {
    /// The hash function that names its objects.
    pub hash: gix_hash::Kind,
    /// How it stores its refs.
    pub refs: Format,
}

impl Default for Formats {
    fn default() -> Self {
        Formats { hash: gix_hash::Kind::Sha1, refs: Format::Files }
    }
}

/// Creates an empty bare repository whose HEAD points to the unborn branch `main`.
///
/// # Errors
/// When it exists already, when a symbolic link is in its path, or when the disk refuses.
pub fn create(root: &Path, name: &RepositoryName, formats: Formats) -> anyhow::Result<Created> {
    let git_dir = name.git_dir(root);
    ensure!(is_absent(&git_dir)?, "the repository '{name}' already exists");
    let parent = git_dir.parent().context("a repository's directory has a parent")?;
    make_namespaces(root, parent)?;
    let id = random_id().context("asking the system for randomness")?;
    let unfinished = parent.join(durable::unique(MAKING));
    let made = fill(&unfinished, formats, &id).and_then(|()| {
        durable::rename(&unfinished, &git_dir)?;
        Ok(durable::fsync_directory(parent)?)
    });
    if let Err(error) = made {
        // The first error is the one to report. No URL leads to what is left, and the `check` command reports it.
        let _ = remove_tree(&unfinished);
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(kind, Some(io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists)) {
            bail!("the repository '{name}' already exists");
        }
        return Err(error).with_context(|| format!("making '{}'", git_dir.display()));
    }
    Ok(Created { git_dir, id })
}

/// What was found below a root.
#[derive(Debug, Default)]
pub struct Found {
    /// All repositories whose names are valid, in the order of their names.
    pub names: Vec<RepositoryName>,
    /// Directories that cannot be read (such as `lost+found`); they may contain repositories.
    pub unreadable: Vec<(PathBuf, io::Error)>,
    /// What interrupted creations and removals have left.
    pub leftovers: Vec<PathBuf>,
}

/// Finds all repositories below the root, without entering them. Directories whose names cannot be part of a
/// repository's name are skipped, as is anything that disappears meanwhile.
///
/// # Errors
/// When the root itself cannot be read.
pub fn list(root: &Path) -> anyhow::Result<Found> {
    let mut found = Found::default();
    let mut namespaces = vec![String::new()];
    while let Some(namespace) = namespaces.pop() {
        let directory = root.join(&namespace);
        match components(&directory) {
            Ok(components) => {
                components.into_iter().for_each(|name| found.add(root, &namespace, &name, &mut namespaces))
            }
            Err(error) if namespace.is_empty() => {
                return Err(error).with_context(|| format!("reading '{}'", directory.display()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => found.unreadable.push((directory, error)),
        }
    }
    found.names.sort();
    found.leftovers.sort();
    Ok(found)
}

/// The names of a directory's subdirectories, except those that are not UTF-8.
fn components(directory: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in Listing::open(directory)? {
        let Listed { name, kind } = entry?;
        if kind == FileType::Directory
            && let Some(name) = name.to_str()
        {
            found.push(name.to_owned());
        }
    }
    Ok(found)
}

impl Found {
    /// Adds a directory as a repository or a leftover, or to the namespaces still to be listed.
    fn add(&mut self, root: &Path, namespace: &str, component: &str, namespaces: &mut Vec<String>) {
        let path = if namespace.is_empty() { component.into() } else { format!("{namespace}/{component}") };
        if component.starts_with(MAKING) || component.starts_with(REMOVING) {
            self.leftovers.push(root.join(path));
        } else if component.ends_with(SUFFIX) {
            self.names.extend(RepositoryName::from_directory(&path));
        } else if ensure_component(component).is_ok() {
            namespaces.push(path);
        }
    }
}

/// Makes a repository unreachable at once by renaming it; the caller passes the returned path to [`remove_tree`].
/// `None` if there is no such repository.
///
/// # Errors
/// When the disk refuses.
pub fn set_aside(root: &Path, name: &RepositoryName) -> anyhow::Result<Option<PathBuf>> {
    let git_dir = name.git_dir(root);
    let parent = git_dir.parent().context("a repository's directory has a parent")?;
    ensure_no_links(root, &git_dir)?;
    let aside = parent.join(durable::unique(REMOVING));
    let removing = || format!("removing '{}'", git_dir.display());
    match durable::rename(&git_dir, &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        outcome => outcome.with_context(removing)?,
    }
    durable::fsync_directory(parent).with_context(removing)?;
    Ok(Some(aside))
}

/// Removes a directory and everything below it; symbolic links are removed, never followed.
///
/// # Errors
/// As `unlink(2)` and `rmdir(2)`; a missing directory is not an error.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        outcome => outcome?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        } else {
            durable::unlink(&entry.path())?;
        }
    }
    durable::rmdir(path)
}

/// The `artifacts.id` of a repository, if it has one.
///
/// # Errors
/// When its configuration cannot be read.
pub fn artifacts_id(git_dir: &Path) -> anyhow::Result<Option<BString>> {
    let path = git_dir.join("config");
    let config = gix_config::File::from_path_no_includes(path.clone(), gix_config::Source::Local)
        .map_err(|error| malformed(&path, error.iter_errors()))?;
    Ok(config.string("artifacts.id"))
}

/// Writes an empty repository and forces it to disk.
fn fill(directory: &Path, formats: Formats, id: &str) -> anyhow::Result<()> {
    durable::mkdir(directory, Sharing::Umask)?;
    for path in DIRECTORIES {
        durable::mkdir(&directory.join(path), Sharing::Umask)?;
    }
    refs::create(directory, formats.refs, HEAD.into(), formats.hash)?;
    write(&directory.join("config"), &config(formats, id))?;
    for path in DIRECTORIES.iter().rev() {
        durable::fsync_directory(&directory.join(path))?;
    }
    Ok(durable::fsync_directory(directory)?)
}

/// The configuration of a new repository. git reads extensions such as `objectformat` in version 1 only; without any,
/// version 0 keeps the repository readable for older programs.
fn config(formats: Formats, id: &str) -> String {
    let mut extensions = String::new();
    if formats.hash != gix_hash::Kind::Sha1 {
        extensions += &format!("\tobjectformat = {}\n", formats.hash);
    }
    if formats.refs == Format::Reftable {
        extensions += "\trefstorage = reftable\n";
    }
    let version = if extensions.is_empty() { 0 } else { 1 };
    let mut text = format!("[core]\n\trepositoryformatversion = {version}\n\tfilemode = true\n\tbare = true\n");
    if !extensions.is_empty() {
        text += &format!("[extensions]\n{extensions}");
    }
    text += &format!("[artifacts]\n\tid = {id}\n");
    text
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = durable::create(path, 0o666, Sharing::Umask)?;
    durable::write_all(&mut file, text.as_bytes())?;
    durable::fsync(&file)
}

fn make_namespaces(root: &Path, parent: &Path) -> anyhow::Result<()> {
    ensure!(root.is_dir(), "the repositories' root '{}' is not there", root.display());
    let making = || format!("making '{}'", parent.display());
    ensure_no_links(root, parent)?;
    durable::mkdir_all(root, parent, Sharing::Umask).with_context(making)?;
    ensure_no_links(root, parent)?;
    for directory in parent.ancestors().take_while(|directory| directory.starts_with(root)) {
        durable::fsync_directory(directory).with_context(making)?;
    }
    Ok(())
}

/// Refuses a path with a symbolic link below the root: no URL leads through one, and its target may belong to anybody.
fn ensure_no_links(root: &Path, path: &Path) -> anyhow::Result<()> {
    for component in path.ancestors().take_while(|component| *component != root) {
        let link = fs::symlink_metadata(component).is_ok_and(|metadata| metadata.is_symlink());
        ensure!(!link, "'{}' is a symbolic link", component.display());
    }
    Ok(())
}

fn is_absent(path: &Path) -> anyhow::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error).with_context(|| format!("looking at '{}'", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            let root = std::env::temp_dir().join(durable::unique("artifacts-create-"));
            fs::create_dir(&root).unwrap();
            Scratch(root)
        }

        /// Runs a git command, checks its exit status and returns its output.
        fn git(&self, arguments: &[&str]) -> String {
            let output = crate::testing::command("git")
                .args(arguments)
                .current_dir(&self.0)
                .envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null")])
                .envs([("GIT_AUTHOR_NAME", "A"), ("GIT_AUTHOR_EMAIL", "a@example.com")])
                .envs([("GIT_COMMITTER_NAME", "C"), ("GIT_COMMITTER_EMAIL", "c@example.com")])
                .env("HOME", &self.0)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "git {arguments:?}: {said}");
            String::from_utf8(output.stdout).unwrap().trim_end().into()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn all_formats() -> Vec<Formats> {
        let hashes = [gix_hash::Kind::Sha1, gix_hash::Kind::Sha256];
        hashes
            .iter()
            .flat_map(|hash| [Format::Files, Format::Reftable].map(|refs| Formats { hash: *hash, refs }))
            .collect()
    }

    fn name(text: &str) -> RepositoryName {
        RepositoryName::parse(text).unwrap()
    }

    #[test]
    fn a_name_is_a_namespace_and_a_name() {
        let check = |text: &str, expected: Result<&str, NameError>| {
            let found = RepositoryName::parse(text);
            assert_eq!(found.as_ref().map(RepositoryName::as_str), expected.as_ref().copied(), "{text}");
        };
        check("acme/site", Ok("acme/site"));
        check("acme/site.git", Ok("acme/site"));
        check("a/b/c/D_e-f.g", Ok("a/b/c/D_e-f.g"));
        check("a/b..c", Ok("a/b..c"));
        check("site", Err(NameError::NoNamespace));
        check("site.git", Err(NameError::NoNamespace));
        for text in ["", ".git"] {
            check(text, Err(NameError::NoNamespace));
        }
        for text in [
            "/acme/site",
            "acme/site/",
            "acme//site",
            "acme/.git",
            "acme/.site",
            ".acme/site",
            "acme/../site",
            "acme/./site",
            "-acme/site",
            "acme/_site",
            "acme/si te",
            "acme/si\\te",
            "acme/si%74e",
            "acme/site\n",
            "acme/site\0",
            "acme/sité",
            "acme/site:x",
        ] {
            check(text, Err(NameError::Characters));
        }
        check("acme/site.git.git", Err(NameError::SuffixInside));
        check("acme.git/site", Err(NameError::SuffixInside));
    }

    #[test]
    fn a_component_has_at_most_63_characters() {
        let (longest, longer) = ("x".repeat(63), "x".repeat(64));
        assert!(RepositoryName::parse(&format!("{longest}/{longest}.git")).is_ok());
        assert_eq!(RepositoryName::parse(&format!("{longest}/{longer}.git")), Err(NameError::TooLong));
        assert_eq!(RepositoryName::parse(&format!("{longer}/{longest}")), Err(NameError::TooLong));
    }

    #[test]
    fn in_urls_the_suffix_must_be_there_once() {
        assert_eq!(RepositoryName::from_directory("acme/site.git"), Ok(name("acme/site")));
        assert_eq!(RepositoryName::from_directory("acme/site"), Err(NameError::NoSuffix));
        assert_eq!(RepositoryName::from_directory("acme/site.git.git"), Err(NameError::SuffixInside));
        assert_eq!(RepositoryName::from_directory("acme/site.GIT"), Err(NameError::NoSuffix));
    }

    #[test]
    fn git_takes_what_is_made_for_an_empty_bare_repository() {
        for formats in all_formats() {
            let scratch = Scratch::new();
            let made = create(&scratch.0, &name("acme/team/site"), formats).unwrap();
            let git_dir = made.git_dir.to_str().unwrap();
            assert_eq!(made.git_dir, scratch.0.join("acme/team/site.git"));
            assert_eq!(scratch.git(&["-C", git_dir, "rev-parse", "--is-bare-repository"]), "true");
            assert_eq!(scratch.git(&["-C", git_dir, "rev-parse", "--show-object-format"]), formats.hash.to_string());
            assert_eq!(scratch.git(&["-C", git_dir, "symbolic-ref", "HEAD"]), "refs/heads/main");
            assert_eq!(scratch.git(&["-C", git_dir, "config", "artifacts.id"]), made.id);
            assert_eq!(artifacts_id(&made.git_dir).unwrap().unwrap(), made.id);
            scratch.git(&["-C", git_dir, "fsck", "--strict"]);
        }
    }

    #[test]
    fn git_pushes_to_what_is_made() {
        for formats in all_formats() {
            let scratch = Scratch::new();
            let made = create(&scratch.0, &name("acme/site"), formats).unwrap();
            let hash = &formats.hash.to_string();
            let git_dir = made.git_dir.to_str().unwrap();
            scratch.git(&["init", "-q", "-b", "main", "--object-format", hash, "work"]);
            scratch.git(&["-C", "work", "commit", "-q", "--allow-empty", "-m", "one"]);
            scratch.git(&["-C", "work", "push", "-q", git_dir, "main"]);
            assert_eq!(
                scratch.git(&["-C", git_dir, "log", "-1", "--format=%H %s"]),
                scratch.git(&["-C", "work", "log", "-1", "--format=%H %s"])
            );
        }
    }

    #[test]
    fn what_exists_is_not_made_again() {
        let scratch = Scratch::new();
        let first = create(&scratch.0, &name("acme/site"), Formats::default()).unwrap();
        let error = create(&scratch.0, &name("acme/site"), Formats::default()).unwrap_err();
        assert_eq!(error.to_string(), "the repository 'acme/site' already exists");
        assert_eq!(artifacts_id(&first.git_dir).unwrap().unwrap(), first.id);
        fs::create_dir(scratch.0.join("acme/empty.git")).unwrap();
        assert!(create(&scratch.0, &name("acme/empty"), Formats::default()).is_err());
        std::os::unix::fs::symlink("nowhere", scratch.0.join("acme/link.git")).unwrap();
        assert!(create(&scratch.0, &name("acme/link"), Formats::default()).is_err());
        assert_eq!(list(&scratch.0).unwrap().leftovers, Vec::<PathBuf>::new());
    }

    #[test]
    fn nothing_is_made_behind_a_link_or_without_a_root() {
        let scratch = Scratch::new();
        fs::create_dir(scratch.0.join("real")).unwrap();
        std::os::unix::fs::symlink("real", scratch.0.join("acme")).unwrap();
        let error = create(&scratch.0, &name("acme/site"), Formats::default()).unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
        assert!(create(&scratch.0.join("missing"), &name("acme/site"), Formats::default()).is_err());
        assert!(!scratch.0.join("missing").exists());
        assert!(create(&scratch.0, &name("acme/team/site"), Formats::default()).is_err());
        assert_eq!(fs::read_dir(scratch.0.join("real")).unwrap().count(), 0);
    }

    #[test]
    fn a_list_has_what_has_a_route() {
        let scratch = Scratch::new();
        for text in ["b/two", "a/x/three", "a/one"] {
            create(&scratch.0, &name(text), Formats::default()).unwrap();
        }
        for path in ["top.git", ".hidden/x.git", "a/.dot.git", "a/plain", "a/x.git.git", "c.git/inner.git", "a/é.git"]
        {
            fs::create_dir_all(scratch.0.join(path)).unwrap();
        }
        fs::write(scratch.0.join("a/file.git"), "").unwrap();
        std::os::unix::fs::symlink("one.git", scratch.0.join("a/link.git")).unwrap();
        std::os::unix::fs::symlink("a", scratch.0.join("alias")).unwrap();
        let names: Vec<_> = list(&scratch.0).unwrap().names.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a/one", "a/x/three", "b/two"]);
    }

    #[test]
    fn removing_takes_the_name_first_and_then_the_rest() {
        let scratch = Scratch::new();
        let made = create(&scratch.0, &name("acme/site"), Formats::default()).unwrap();
        fs::write(scratch.0.join("kept"), "").unwrap();
        std::os::unix::fs::symlink(scratch.0.join("kept"), made.git_dir.join("link")).unwrap();
        std::os::unix::fs::symlink(&scratch.0, made.git_dir.join("up")).unwrap();
        let aside = set_aside(&scratch.0, &name("acme/site")).unwrap().unwrap();
        assert!(!made.git_dir.exists());
        assert_eq!(list(&scratch.0).unwrap().names, []);
        assert_eq!(list(&scratch.0).unwrap().leftovers, std::slice::from_ref(&aside));
        remove_tree(&aside).unwrap();
        assert!(!aside.exists() && scratch.0.join("kept").exists());
        assert_eq!(set_aside(&scratch.0, &name("acme/site")).unwrap(), None);
        let again = create(&scratch.0, &name("acme/site"), Formats::default()).unwrap();
        assert_ne!(again.id, made.id);
    }

    #[cfg(feature = "failpoints")]
    #[test]
    fn a_crash_leaves_a_whole_repository_or_none() {
        for formats in all_formats() {
            let enough = (0..100).find(|n| crashes(formats, *n).is_ok());
            assert!(enough.is_some_and(|n| n > 20), "{formats:?}: {enough:?} operations");
        }
    }

    #[cfg(feature = "failpoints")]
    fn crashes(formats: Formats, n: u64) -> anyhow::Result<Created> {
        use durable::failpoints::{Action, arm};
        let scratch = Scratch::new();
        let armed = arm(&scratch.0, n, Action::FailFromHere(io::ErrorKind::StorageFull));
        let made = create(&scratch.0, &name("acme/site"), formats);
        drop(armed);
        if list(&scratch.0).unwrap().names.is_empty() {
            assert!(made.is_err());
            create(&scratch.0, &name("acme/site"), formats).unwrap();
        }
        let git_dir = name("acme/site").git_dir(&scratch.0);
        scratch.git(&["-C", git_dir.to_str().unwrap(), "fsck", "--strict"]);
        for path in list(&scratch.0).unwrap().leftovers {
            remove_tree(&path).unwrap();
        }
        made
    }
}

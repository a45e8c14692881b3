//! Finds a repository: git directory, links, owner, format.
//!
//! In: the root and a name (`tokens` mode), or a path (`webserver` mode, pipes). Out: a [`Place`]. No objects or refs
//! are opened here, no process is run, and the configuration of a repository with an untrusted owner is not even read.

use super::AccessMode;
use super::config::{ConfigSources, Entries, Origin};
use super::settings::Settings;
use crate::refs::Target;
use anyhow::{Context as _, anyhow, bail};
use bstr::{BStr, BString, ByteSlice};
use gix_hash::ObjectId;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The most bytes HEAD, a gitfile or `commondir` may have.
const POINTER_BYTES_MAX: u64 = 4096;

/// The content of the file HEAD where HEAD is stored elsewhere, as in a reftable.
const ELSEWHERE: &str = "refs/heads/.invalid";
/// The beginning of keys that include a file on some branches only.
const ON_BRANCH: &[u8] = b"includeif.onbranch:";

/// Where a name or path led.
#[derive(Debug)]
pub enum Place {
    /// To a repository that may be opened.
    Here(Box<Here>),
    /// To nothing.
    Absent,
    /// To something that cannot be served; the error is for the operator.
    Unusable(anyhow::Error),
}

/// A repository that was found.
#[derive(Debug)]
pub struct Here {
    /// HEAD, config and hooks.
    pub git_dir: PathBuf,
    /// Refs and objects; differs for a linked worktree.
    pub common_dir: PathBuf,
    /// The whole configuration.
    pub entries: Entries,
    /// The settings it amounts to.
    pub settings: Settings,
    /// The commits at which its history is cut (its file `shallow`); empty if it is complete.
    pub shallow: Vec<ObjectId>,
    /// Whether the file `git-daemon-export-ok` exists (HB-19).
    pub export_ok: bool,
}

/// How to look for a repository.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// Which rules decide on access.
    pub mode: AccessMode,
    /// Where configuration comes from.
    pub config: &'a ConfigSources,
    /// `GIT_OBJECT_DIRECTORY`; if set, the repository needs no `objects/`.
    pub object_directory: Option<&'a Path>,
    /// Whether to refuse a repository of another user (RE-07); upload-pack over pipes serves any.
    pub check_owner: bool,
    /// Whether to try only the path itself, without suffixes (RE-02).
    pub strict: bool,
}

/// The repository `name` (`namespace/…/name`, already checked) below `root`. No suffixes are tried and no symbolic link
/// is followed, so that a name leads to one directory at most and never out of the root.
pub fn by_name(root: &Path, name: &str, search: &Search<'_>) -> Place {
    let mut path = root.to_owned();
    let directory = format!("{name}.git");
    for component in directory.split('/') {
        path.push(component);
        match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => {}
            Ok(found) if found.is_symlink() => {
                return Place::Unusable(anyhow!(
                    "'{}' is a symbolic link; in tokens mode nothing below the root may be reached through one",
                    path.display()
                ));
            }
            Ok(_) => return Place::Absent,
            Err(error) => return absent_or(error, &path),
        }
    }
    for inside in ["objects", "refs"] {
        match std::fs::symlink_metadata(path.join(inside)) {
            Ok(found) if found.is_symlink() => {
                return Place::Unusable(anyhow!("'{}' is a symbolic link", path.join(inside).display()));
            }
            _ => {}
        }
    }
    match is_git_directory(&path, search) {
        Ok(Some(found)) => open(found, None, search),
        Ok(None) => Place::Absent,
        Err(error) => Place::Unusable(error),
    }
}

/// The repository at `path`, by git's rules: suffixes (RE-01), gitfiles (RE-03), linked worktrees (RE-04).
pub fn by_path(path: &Path, search: &Search<'_>) -> Place {
    let suffixes: &[&str] = if search.strict { &[""] } else { &["/.git", "", ".git/.git", ".git"] };
    for suffix in suffixes {
        let mut candidate = OsString::from(path);
        candidate.push(suffix);
        let candidate = PathBuf::from(candidate);
        let Ok(metadata) = std::fs::metadata(&candidate) else { continue };
        if metadata.is_file() {
            return match gitfile(&candidate) {
                Ok(Some(target)) => match is_git_directory(&target, search) {
                    Ok(Some(found)) => open(found, Some(&candidate), search),
                    Ok(None) => Place::Absent,
                    Err(error) => Place::Unusable(error),
                },
                Ok(None) => Place::Absent,
                Err(error) => Place::Unusable(error),
            };
        }
        match is_git_directory(&candidate, search) {
            Ok(Some(found)) => return open(found, None, search),
            Ok(None) => {}
            Err(error) => return Place::Unusable(error),
        }
    }
    Place::Absent
}

fn absent_or(error: std::io::Error, path: &Path) -> Place {
    if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
        Place::Absent
    } else {
        Place::Unusable(anyhow::Error::new(error).context(format!("cannot look at '{}'", path.display())))
    }
}

/// A git directory whose configuration has not been read yet.
struct Found {
    git_dir: PathBuf,
    common_dir: PathBuf,
    branch: Option<BString>,
}

/// Whether this is a git directory: a valid HEAD, objects and refs (RE-05).
fn is_git_directory(path: &Path, search: &Search<'_>) -> anyhow::Result<Option<Found>> {
    let file = path.join("HEAD");
    let Some(branch) = head(&file).with_context(|| format!("cannot read '{}'", file.display()))? else {
        return Ok(None);
    };
    let common_dir = match small_file(&path.join("commondir")) {
        Ok(Some(text)) => {
            let target = Path::new(OsStr::from_bytes(text.trim_ascii_end()));
            path.join(target)
        }
        Ok(None) => path.to_owned(),
        Err(error) => return Err(error.context(format!("cannot read '{}'", path.join("commondir").display()))),
    };
    let is_directory = |path: &Path| std::fs::metadata(path).is_ok_and(|found| found.is_dir());
    let objects = search.object_directory.map_or_else(|| common_dir.join("objects"), Path::to_owned);
    if !is_directory(&objects) || !is_directory(&common_dir.join("refs")) {
        return Ok(None);
    }
    Ok(Some(Found { git_dir: path.to_owned(), common_dir, branch }))
}

/// The branch HEAD names, `Some(None)` if it is detached, or `None` if there is no valid HEAD. A HEAD that cannot be
/// read is an error, not absent.
fn head(path: &Path) -> anyhow::Result<Option<Option<BString>>> {
    let link = match std::fs::symlink_metadata(path) {
        // git's oldest form: a symbolic link to the ref's file.
        Ok(found) if found.is_symlink() => std::fs::read_link(path).map(Some),
        Ok(found) if !found.is_file() => return Ok(None),
        found => found.map(|_| None),
    };
    let link = match link {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        link => link?,
    };
    let branch = |target: &[u8]| target.starts_with(b"refs/").then(|| Some(target.into()));
    if let Some(link) = link {
        return Ok(branch(link.as_os_str().as_bytes()));
    }
    let Some(text) = small_file(path)? else { return Ok(None) };
    if let Some(target) = text.strip_prefix(b"ref:") {
        return Ok(branch(target.trim_ascii()));
    }
    let hex = text.trim_ascii_end();
    Ok((matches!(hex.len(), 40 | 64) && hex.iter().all(u8::is_ascii_hexdigit)).then_some(None))
}

/// Where a gitfile points (`gitdir: PATH`); `None` if the file does not exist.
fn gitfile(path: &Path) -> anyhow::Result<Option<PathBuf>> {
    let Some(text) = small_file(path)? else { return Ok(None) };
    let Some(target) = text.strip_prefix(b"gitdir: ") else { bail!("invalid gitfile format: {}", path.display()) };
    let target = Path::new(OsStr::from_bytes(target.trim_end_with(|char| matches!(char, '\n' | '\r'))));
    Ok(Some(path.parent().unwrap_or(Path::new("/")).join(target)))
}

/// Reads a file that should be small; `None` if it does not exist.
fn small_file(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    use std::io::Read;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    file.take(POINTER_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > POINTER_BYTES_MAX {
        bail!("'{}' is larger than {POINTER_BYTES_MAX} bytes", path.display());
    }
    Ok(Some(bytes))
}

fn open(found: Found, gitfile: Option<&Path>, search: &Search<'_>) -> Place {
    match here(found, gitfile, search) {
        Ok(here) => Place::Here(Box::new(here)),
        Err(error) => Place::Unusable(error),
    }
}

fn here(found: Found, gitfile: Option<&Path>, search: &Search<'_>) -> anyhow::Result<Here> {
    let operator = Entries::of_operator(search.config)?;
    if search.check_owner {
        let protected = operator.clone().with_overrides(search.config);
        check_owner(&found.git_dir, gitfile, &protected, search.config)?;
    }
    let branch = found.branch.as_ref().map(|branch| branch.as_bstr());
    let read = |branch: Option<&BStr>| -> anyhow::Result<(Entries, Settings)> {
        let operator = operator.clone();
        let entries = operator.with_repository(search.config, &found.common_dir, &found.git_dir, branch)?;
        check_format(&entries)?;
        let settings = Settings::read(&entries, search.mode)?;
        Ok((entries, settings))
    };
    let (mut entries, mut settings) = read(branch)?;
    if branch.is_some_and(|branch| branch == ELSEWHERE) && entries.iter().any(|entry| entry.key.starts_with(ON_BRANCH))
    {
        let storage = &settings.ref_storage;
        let refs = storage.open(&found.git_dir, &found.common_dir, settings.object_format);
        if let Some(Target::Symbolic(branch)) = refs.read(b"HEAD".as_bstr())? {
            (entries, settings) = read(Some(branch.as_bstr()))?;
        }
    }
    let shallow = super::shallow::read(&found.common_dir.join("shallow"), settings.object_format)?;
    let export_ok = std::fs::metadata(found.git_dir.join("git-daemon-export-ok")).is_ok();
    Ok(Here { git_dir: found.git_dir, common_dir: found.common_dir, entries, settings, shallow, export_ok })
}

/// Refuses a repository of another user unless safe.directory lists it (RE-07 to RE-09).
fn check_owner(
    git_dir: &Path,
    gitfile: Option<&Path>,
    protected: &Entries,
    sources: &ConfigSources,
) -> anyhow::Result<()> {
    let us = rustix::process::geteuid().as_raw();
    let stranger = [Some(git_dir), gitfile].into_iter().flatten().find_map(|path| {
        let owner = std::fs::symlink_metadata(path).ok()?.uid();
        (owner != us).then_some((path, owner))
    });
    let Some((path, owner)) = stranger else { return Ok(()) };
    let shown = std::fs::canonicalize(git_dir).unwrap_or_else(|_| git_dir.to_owned());
    if is_safe(&shown, protected, sources) {
        return Ok(());
    }
    bail!(
        "detected dubious ownership in repository at '{shown}'; '{path}' belongs to uid {owner}, this program runs as uid {us}; \
         to trust it, as root: git config --system --add safe.directory '{shown}' (with --global, as the user this program runs as, \
         only where the web server gives it that user's HOME)",
        shown = shown.display(),
        path = path.display(),
    );
}

fn is_safe(git_dir: &Path, protected: &Entries, sources: &ConfigSources) -> bool {
    let mut safe = false;
    for entry in protected.all(&["safe.directory"]) {
        let value = entry.value.as_ref().map(|value| value.as_bytes()).unwrap_or_default();
        match value {
            b"" => safe = false,
            b"*" => safe = true,
            _ => {
                let (value, below) = match value.strip_suffix(b"/*") {
                    Some(parent) => (parent, true),
                    None => (value, false),
                };
                let path = match (value.strip_prefix(b"~/"), &sources.home) {
                    (Some(rest), Some(home)) => home.join(OsStr::from_bytes(rest)),
                    _ => PathBuf::from(OsStr::from_bytes(value)),
                };
                let path = std::fs::canonicalize(&path).unwrap_or(path);
                safe |= if below { git_dir.starts_with(&path) && git_dir != path } else { git_dir == path };
            }
        }
    }
    safe
}

/// Refuses unknown repository formats (RE-10, RE-11), in git's words.
fn check_format(entries: &Entries) -> anyhow::Result<()> {
    /// Extensions that count in every version, and those that count in version 1 only.
    const ALWAYS: &[&str] = &["noop", "preciousobjects", "partialclone", "worktreeconfig"];
    const VERSION_1: &[&str] =
        &["noop-v1", "objectformat", "compatobjectformat", "refstorage", "relativeworktrees", "submodulepathconfig"];
    let version = entries.integer("core.repositoryformatversion")?.unwrap_or(0);
    if version > 1 {
        bail!("Expected git repo version <= 1, found {version}");
    }
    for entry in entries.iter().filter(|entry| entry.origin == Origin::Repository) {
        let Some(extension) = entry.key.strip_prefix(b"extensions.") else { continue };
        let extension = extension.to_str_lossy();
        if ALWAYS.contains(&extension.as_ref()) {
            continue;
        }
        match (version, VERSION_1.contains(&extension.as_ref())) {
            (1, true) => {}
            (1, false) => bail!("unknown repository extension found: {extension}"),
            (_, true) => bail!("repo version is 0, but v1-only extension found: {extension}"),
            (_, false) => {}
        }
    }
    Ok(())
}

/// The absolute form of a path; symbolic links are not resolved.
///
/// # Errors
/// When the current directory is gone.
pub fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).context("cannot tell the current directory")
}

/// Bytes as a path.
pub fn path_of(bytes: &BStr) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("locate-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Scratch(path)
        }

        fn repository(&self, name: &str) -> PathBuf {
            let path = self.0.join(name);
            for inside in ["objects", "refs/heads"] {
                std::fs::create_dir_all(path.join(inside)).unwrap();
            }
            std::fs::write(path.join("HEAD"), "ref: refs/heads/main\n").unwrap();
            std::fs::write(path.join("config"), "[core]\n\trepositoryformatversion = 0\n\tbare = true\n").unwrap();
            path
        }

        fn named(&self, name: &str) -> Place {
            by_name(&self.0, name, &search(AccessMode::Tokens, &ConfigSources::default()))
        }

        fn at(&self, path: &str) -> Place {
            by_path(&self.0.join(path), &search(AccessMode::WebServer, &ConfigSources::default()))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn search(mode: AccessMode, config: &ConfigSources) -> Search<'_> {
        Search { mode, config, object_directory: None, check_owner: true, strict: false }
    }

    fn kind(place: &Place) -> String {
        match place {
            Place::Here(here) => format!("here {}", here.git_dir.file_name().unwrap().to_string_lossy()),
            Place::Absent => "absent".into(),
            Place::Unusable(error) => format!("unusable: {error:#}"),
        }
    }

    #[test]
    fn a_name_leads_to_its_directory_and_no_further() {
        let scratch = Scratch::new("name");
        scratch.repository("ns/one.git");
        assert_eq!(kind(&scratch.named("ns/one")), "here one.git");
        assert_eq!(kind(&scratch.named("ns/two")), "absent");
        assert_eq!(kind(&scratch.named("ns")), "absent");
    }

    #[test]
    fn nothing_is_reached_through_a_link_in_tokens_mode() {
        let scratch = Scratch::new("link");
        let real = scratch.repository("ns/one.git");
        std::os::unix::fs::symlink(&real, scratch.0.join("ns/two.git")).unwrap();
        std::os::unix::fs::symlink(scratch.0.join("ns"), scratch.0.join("other")).unwrap();
        assert!(kind(&scratch.named("ns/two")).contains("symbolic link"));
        assert!(kind(&scratch.named("other/one")).contains("symbolic link"));
        assert_eq!(kind(&scratch.at("other/two")), "here two.git", "webserver mode follows them, as git does");
        for inside in ["objects", "refs"] {
            let borrower = scratch.repository(&format!("ns/{inside}.git"));
            std::fs::remove_dir_all(borrower.join(inside)).unwrap();
            std::os::unix::fs::symlink(real.join(inside), borrower.join(inside)).unwrap();
            assert!(kind(&scratch.named(&format!("ns/{inside}"))).contains("symbolic link"), "{inside}");
        }
    }

    #[test]
    fn suffixes_gitfiles_and_worktrees_are_found_as_git_finds_them() {
        let scratch = Scratch::new("path");
        scratch.repository("a/.git");
        scratch.repository("b.git");
        scratch.repository("c.git/worktrees/w");
        scratch.repository("c.git");
        std::fs::write(scratch.0.join("file"), "gitdir: b.git\n").unwrap();
        for (path, expected) in [
            ("a", "here .git"),
            ("b", "here b.git"),
            ("b.git", "here b.git"),
            ("file", "here b.git"),
            ("nothing", "absent"),
        ] {
            assert_eq!(kind(&scratch.at(path)), expected, "{path}");
        }
        let worktree = scratch.0.join("c.git/worktrees/w");
        std::fs::remove_dir_all(worktree.join("objects")).unwrap();
        std::fs::remove_dir_all(worktree.join("refs")).unwrap();
        std::fs::write(worktree.join("commondir"), "../..\n").unwrap();
        assert_eq!(kind(&scratch.at("c.git/worktrees/w")), "here w");
    }

    #[test]
    fn unknown_formats_are_refused_in_gits_words() {
        let scratch = Scratch::new("format");
        let path = scratch.repository("r.git");
        let check = |config: &str, expected: &str| {
            std::fs::write(path.join("config"), config).unwrap();
            let got = kind(&scratch.at("r.git"));
            assert!(got.contains(expected), "{config}: {got}");
        };
        check("[core]\nrepositoryformatversion=2\n", "Expected git repo version <= 1, found 2");
        check("[core]\nrepositoryformatversion=1\n[extensions]\nfoo=1\n", "unknown repository extension found: foo");
        check("[extensions]\nobjectFormat=sha256\n", "v1-only extension found: objectformat");
        check("[extensions]\nfoo=1\n", "here");
        check("[core]\nrepositoryformatversion=1\n[extensions]\nobjectFormat=sha256\n", "here");
        // What somebody says of all repositories says nothing about the form of this one.
        std::fs::write(path.join("config"), "[core]\nrepositoryformatversion=1\n").unwrap();
        let sources =
            ConfigSources { overrides: vec![("extensions.foo".into(), Some("1".into()))], ..Default::default() };
        assert_eq!(kind(&by_path(&path, &search(AccessMode::WebServer, &sources))), "here r.git");
        check("[broken\n", "bad config line 1 in file");
        std::fs::write(path.join("HEAD"), "ref: elsewhere/main\n").unwrap();
        assert_eq!(kind(&scratch.at("r.git")), "absent");
        std::fs::write(path.join("HEAD"), vec![b'x'; 5000]).unwrap();
        check("", "cannot read '");
    }

    #[test]
    fn a_stranger_is_refused_unless_safe_directory_lists_him() {
        if !rustix::process::geteuid().is_root() {
            return; // only root can give a file away
        }
        let scratch = Scratch::new("owner");
        let path = scratch.repository("ns/r.git");
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        let check = |safe: &[&str], expected: &str| {
            let overrides = safe.iter().map(|value| ("safe.directory".into(), Some((*value).into()))).collect();
            let sources = ConfigSources { overrides, ..Default::default() };
            for place in [
                by_name(&scratch.0, "ns/r", &search(AccessMode::Tokens, &sources)),
                by_path(&path, &search(AccessMode::WebServer, &sources)),
            ] {
                assert!(kind(&place).contains(expected), "{safe:?}: {}", kind(&place));
            }
        };
        let shown = path.to_str().unwrap();
        let parent = format!("{}/*", scratch.0.display());
        check(&[], "dubious ownership");
        check(&["*"], "here");
        check(&["*", ""], "dubious ownership");
        check(&[shown], "here");
        check(&[&parent], "here");
        check(&["/elsewhere"], "dubious ownership");
        check(&[&format!("{shown}/*")], "dubious ownership");
        // Whoever writes the file decides where it leads.
        std::os::unix::fs::chown(&path, Some(0), None).unwrap();
        let file = scratch.0.join("file");
        std::fs::write(&file, "gitdir: ns/r.git\n").unwrap();
        assert_eq!(kind(&scratch.at("file")), "here r.git");
        std::os::unix::fs::chown(&file, Some(12345), None).unwrap();
        assert!(kind(&scratch.at("file")).contains("dubious ownership"));
    }
}

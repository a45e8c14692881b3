//! The token store: a directory of small JSON files (docs/tokens.md states the format).
//!
//! In: a repository's name, and a secret or an id. Out: records, or what credentials prove. The file of a token is found
//! by the SHA-256 of its secret below the directory of its repository; nothing here ever looks through the whole store,
//! and no secret is ever written.

use super::token::{is_id, mint, random_id};
use super::{Claim, Credentials, Presented, Scope, Secret, Token, Why};
use crate::durable::{self, Sharing};
use anyhow::{Context, bail, ensure};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, fchown};
use std::path::{Path, PathBuf};

/// The shortest life of a token, in seconds.
pub const TTL_SECONDS_MIN: u64 = 60;
/// The longest life of a token, in seconds: a year.
pub const TTL_SECONDS_MAX: u64 = 31_536_000;
/// The life of a token for which nothing else was asked, in seconds: a day.
pub const TTL_SECONDS_DEFAULT: u64 = 86_400;

/// The largest file that is read as a record.
const RECORD_BYTES_MAX: u64 = 16 << 10;

/// The version of the format.
const VERSION: u32 = 1;

/// What the name of a file begins with while it is written.
const UNFINISHED: &str = ".new-";

/// How long an unfinished file may be somebody's work, in seconds.
const UNFINISHED_SECONDS_MAX: u64 = 3600;

/// One token as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// 16 base-36 characters.
    pub id: String,
    /// `namespace/name`, without `.git`.
    pub repository: String,
    /// The repository's `artifacts.id`, where it had one.
    pub repository_id: Option<String>,
    /// What it allows.
    pub scope: Scope,
    /// Unix seconds.
    pub created_at: u64,
    /// Unix seconds.
    pub expires_at: u64,
    /// Unix seconds.
    pub revoked_at: Option<u64>,
}

impl TokenRecord {
    /// Its state at `now` (unix seconds).
    pub fn state(&self, now: u64) -> TokenState {
        if self.revoked_at.is_some() {
            TokenState::Revoked
        } else if self.expires_at <= now {
            TokenState::Expired
        } else {
            TokenState::Active
        }
    }

    /// Whether it was made for the repository that stands at its name today, whose `artifacts.id` is given: a record that
    /// carries an id belongs to that repository alone, one without to any of the name.
    pub fn matches(&self, repository_id: Option<&str>) -> bool {
        self.repository_id.is_none() || self.repository_id.as_deref() == repository_id
    }
}

/// A record's state at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenState {
    /// Good.
    Active,
    /// Its time is past.
    Expired,
    /// Taken back.
    Revoked,
}

impl TokenState {
    /// `active`, `expired` or `revoked`.
    pub fn as_str(self) -> &'static str {
        match self {
            TokenState::Active => "active",
            TokenState::Expired => "expired",
            TokenState::Revoked => "revoked",
        }
    }
}

/// A token just made: the only moment its secret can be read.
pub struct NewToken {
    /// What is stored.
    pub record: TokenRecord,
    /// `art_v1_<40 hex>?expires=<unix seconds>`
    pub plaintext: String,
    /// The secret alone.
    pub secret: Secret,
}

/// How one record of a repository is named.
pub enum Which<'a> {
    /// By its id.
    Id(&'a str),
    /// By its secret.
    Secret(&'a Secret),
}

/// The records of one repository.
#[derive(Debug, Default)]
pub struct Listing {
    /// Those that can be read, oldest first.
    pub records: Vec<TokenRecord>,
    /// The files that cannot, and why.
    pub unreadable: Vec<(PathBuf, anyhow::Error)>,
}

/// Where tokens are kept.
#[derive(Debug, Clone)]
pub struct TokenStore {
    directory: PathBuf,
}

impl TokenStore {
    /// The store in `directory`; nothing is read yet.
    pub fn new(directory: PathBuf) -> Self {
        TokenStore { directory }
    }

    /// Where it lies.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What the credentials prove for the repository `name` (`namespace/name`, without `.git`) at `now` (unix seconds).
    ///
    /// An unknown token, a token of another repository and a repository that does not exist cost the same: one hash and
    /// one attempt to open a file.
    pub fn claim(&self, name: &str, credentials: &Credentials, now: u64) -> Claim {
        let (why, basic, record) = match credentials {
            Credentials::None => return Claim::Nothing,
            Credentials::Malformed(presented) => (Why::Malformed, *presented == Presented::Basic, None),
            Credentials::Two => (Why::TwoCredentials, false, None),
            Credentials::OtherScheme => (Why::OtherScheme, false, None),
            Credentials::Token { token, presented } => match self.prove(name, token, now) {
                Ok(record) => return Claim::Live(record),
                Err((why, record)) => (why, *presented == Presented::Basic, record),
            },
        };
        Claim::Unusable { why, basic, record }
    }

    /// The record, or why it is of no use, and which it is.
    fn prove(&self, name: &str, token: &Token, now: u64) -> Result<TokenRecord, (Why, Option<String>)> {
        let path = self.file_of(name, &token.secret).map_err(|_| (Why::Unknown, None))?;
        let found = read_record(&path).map_err(|error| (Why::Store(error), None))?;
        let record = found.filter(|record| record.repository == name).ok_or((Why::Unknown, None))?;
        let why = match (record.state(now), token.claimed_expiry) {
            (TokenState::Revoked, _) => Why::Revoked,
            (TokenState::Expired, _) => Why::Expired(record.expires_at),
            (TokenState::Active, Some(claimed)) if claimed <= now => Why::Expired(claimed),
            (TokenState::Active, _) => return Ok(record),
        };
        Err((why, Some(record.id)))
    }

    /// Makes a token for the repository `name` that lives for `ttl` seconds from `now`.
    ///
    /// # Errors
    /// When the ttl is out of its limits, or the store cannot be written.
    pub fn create(
        &self,
        name: &str,
        repository_id: Option<&str>,
        scope: Scope,
        ttl: u64,
        now: u64,
    ) -> anyhow::Result<NewToken> {
        ensure!(
            (TTL_SECONDS_MIN..=TTL_SECONDS_MAX).contains(&ttl),
            "a token lives from {TTL_SECONDS_MIN} to {TTL_SECONDS_MAX} seconds, not {ttl}"
        );
        let expires_at = now.checked_add(ttl).context("the clock is far in the future")?;
        let (secret, plaintext) = mint(expires_at).context("asking the system for randomness")?;
        let record = TokenRecord {
            id: random_id().context("asking the system for randomness")?,
            repository: name.into(),
            repository_id: repository_id.map(Into::into),
            scope,
            created_at: now,
            expires_at,
            revoked_at: None,
        };
        let json = serde_json::to_vec(&Stored::from(&record)).context("writing a record as JSON")?;
        let path = self.file_of(name, &secret)?;
        self.put(&path, &json).with_context(|| format!("writing to the token store '{}'", self.directory.display()))?;
        Ok(NewToken { record, plaintext, secret })
    }

    /// The records of a repository, oldest first.
    ///
    /// # Errors
    /// When its directory in the store cannot be read. One that is not there has no records.
    pub fn list(&self, name: &str) -> anyhow::Result<Listing> {
        let mut listing = Listing::default();
        for path in self.files(name)? {
            match read_record(&path) {
                Ok(Some(record)) if record.repository == name => listing.records.push(record),
                Ok(Some(record)) => {
                    let other = anyhow::anyhow!("it names another repository, {:?}", record.repository);
                    listing.unreadable.push((path, other));
                }
                // Removed since the directory was read.
                Ok(None) => {}
                Err(error) => listing.unreadable.push((path, error)),
            }
        }
        listing.records.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(listing)
    }

    /// One record of a repository, if there is such a one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn find(&self, name: &str, which: &Which<'_>) -> anyhow::Result<Option<TokenRecord>> {
        Ok(self.seek(name, which)?.map(|(_, record)| record))
    }

    /// Takes a token back from `now` on; one that was taken back before stays as it is. `None` when there is no such one.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn revoke(&self, name: &str, which: &Which<'_>, now: u64) -> anyhow::Result<Option<TokenRecord>> {
        let Some((path, mut record)) = self.seek(name, which)? else { return Ok(None) };
        if record.revoked_at.is_none() {
            let revoking = || format!("revoking the token {}", record.id);
            // As a map, so that what another control plane noted in the record stays there.
            let bytes = read_bounded(&path).with_context(revoking)?.context("it has just been removed")?;
            let mut json: Map<String, Value> = serde_json::from_slice(&bytes).with_context(revoking)?;
            json.insert("revoked_at".into(), now.into());
            self.put(&path, &serde_json::to_vec(&json).with_context(revoking)?).with_context(revoking)?;
            record.revoked_at = Some(now);
        }
        Ok(Some(record))
    }

    /// Removes the expired and revoked tokens of a repository, and files somebody began and never finished; returns how
    /// many tokens went. Files that cannot be read as a record stay.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn prune(&self, name: &str, now: u64) -> anyhow::Result<usize> {
        self.remove_unfinished(name, now)?;
        self.remove_where(name, |record| record.state(now) != TokenState::Active)
    }

    /// Removes the tokens that would be good for any repository of this name: for one that is about to be made anew.
    /// Returns how many there were.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn remove_unbound(&self, name: &str) -> anyhow::Result<usize> {
        self.remove_where(name, |record| record.repository_id.is_none())
    }

    /// Removes everything about a repository that has gone, whose `artifacts.id` is given; returns how many tokens went. What belongs to
    /// another one, which may have been made at its name by now, stays.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn remove_all(&self, name: &str, repository_id: Option<&str>, now: u64) -> anyhow::Result<usize> {
        self.remove_unfinished(name, now)?;
        let mut removed = 0;
        for path in self.files(name)? {
            // What cannot be read as a record is nobody's.
            if !matches!(read_record(&path), Ok(Some(record)) if !record.matches(repository_id)) {
                unlink_if_there(&path).with_context(|| format!("removing '{}'", path.display()))?;
                removed += 1;
            }
        }
        let directory = self.directory_of(name)?;
        match durable::rmdir(&directory) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
                Ok(removed)
            }
            outcome => outcome.map(|()| removed).with_context(|| format!("removing '{}'", directory.display())),
        }
    }

    fn remove_where(&self, name: &str, goes: impl Fn(&TokenRecord) -> bool) -> anyhow::Result<usize> {
        let mut removed = 0;
        for path in self.files(name)? {
            if let Ok(Some(record)) = read_record(&path)
                && goes(&record)
            {
                unlink_if_there(&path).with_context(|| format!("removing '{}'", path.display()))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn remove_unfinished(&self, name: &str, now: u64) -> anyhow::Result<()> {
        let directory = self.directory_of(name)?;
        for path in entries(&directory).with_context(|| format!("reading '{}'", directory.display()))? {
            let begun = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes()));
            let old = |metadata: Metadata| {
                u64::try_from(metadata.mtime()).is_ok_and(|then| now.saturating_sub(then) > UNFINISHED_SECONDS_MAX)
            };
            if begun && fs::symlink_metadata(&path).is_ok_and(old) {
                unlink_if_there(&path).with_context(|| format!("removing '{}'", path.display()))?;
            }
        }
        Ok(())
    }

    fn seek(&self, name: &str, which: &Which<'_>) -> anyhow::Result<Option<(PathBuf, TokenRecord)>> {
        match which {
            Which::Secret(secret) => {
                let path = self.file_of(name, secret)?;
                let record = read_record(&path)?.filter(|record| record.repository == name);
                Ok(record.map(|record| (path, record)))
            }
            Which::Id(id) => {
                for path in self.files(name)? {
                    if let Ok(Some(record)) = read_record(&path)
                        && record.repository == name
                        && record.id == *id
                    {
                        return Ok(Some((path, record)));
                    }
                }
                Ok(None)
            }
        }
    }

    /// The files of a repository's records.
    fn files(&self, name: &str) -> anyhow::Result<Vec<PathBuf>> {
        let directory = self.directory_of(name)?;
        let mut files = entries(&directory).with_context(|| format!("reading '{}'", directory.display()))?;
        files.retain(|path| is_record_name(path));
        Ok(files)
    }

    /// The directory of a repository. Routing and the command line have looked at the name; whatever else calls cannot
    /// leave the store by it.
    fn directory_of(&self, name: &str) -> anyhow::Result<PathBuf> {
        let plain = |component: &str| !component.is_empty() && !component.starts_with('.') && !component.contains('\0');
        ensure!(name.split('/').all(plain), "{name:?} is not a repository's name");
        Ok(self.directory.join(format!("{name}.git")))
    }

    fn file_of(&self, name: &str, secret: &Secret) -> anyhow::Result<PathBuf> {
        let digest = secret.digest();
        Ok(self.directory_of(name)?.join(format!("{digest}.json")))
    }

    /// Writes a record so that whoever reads it sees all of it or, before, none: another file, forced to the disk, renamed.
    fn put(&self, path: &Path, json: &[u8]) -> anyhow::Result<()> {
        let directory = path.parent().context("a record lies in a directory")?;
        let mut attempts = 3;
        loop {
            let access = self.prepare(directory)?;
            let outcome = write_record(directory, path, json, &access);
            match outcome {
                // The repository's directory went between its making and its use: somebody deletes and makes anew.
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempts > 1 => attempts -= 1,
                outcome => return outcome.with_context(|| format!("writing '{}'", path.display())),
            }
        }
    }

    /// Makes the store and the directory of a repository where they are missing; returns who may read what.
    fn prepare(&self, directory: &Path) -> anyhow::Result<Access> {
        make_directories(&self.directory, &Access::PRIVATE)?;
        let making = || format!("looking at '{}'", self.directory.display());
        let access = Access::of(&fs::metadata(&self.directory).with_context(making)?);
        make_directories(directory, &access)?;
        Ok(access)
    }
}

/// Who may read new files and directories of the store.
struct Access {
    directory: u32,
    file: u32,
    group: Option<u32>,
}

impl Access {
    /// One user makes the tokens and checks them.
    const PRIVATE: Self = Access { directory: 0o700, file: 0o600, group: None };

    /// As the operator has set up the store's own directory: with a group that may enter, everything is the group's.
    fn of(store: &Metadata) -> Self {
        let mode = store.mode() & 0o2770;
        if mode & 0o070 == 0 {
            return Access::PRIVATE;
        }
        Access { directory: mode, file: 0o640, group: Some(store.gid()) }
    }
}

/// Makes a directory and its missing parents.
fn make_directories(path: &Path, access: &Access) -> anyhow::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let making = || format!("making '{}'", path.display());
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_directories(parent, access)?;
    match durable::mkdir(path, Sharing::Mode(access.file)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        outcome => outcome.with_context(making)?,
    }
    let made = fs::metadata(path).with_context(making)?;
    if let Some(group) = access.group
        && made.gid() != group
    {
        chown(path, None, Some(group)).with_context(making)?;
    }
    if made.mode() & 0o7777 != access.directory {
        fs::set_permissions(path, fs::Permissions::from_mode(access.directory)).with_context(making)?;
    }
    durable::fsync_directory(parent).with_context(making)
}

fn write_record(directory: &Path, path: &Path, json: &[u8], access: &Access) -> io::Result<()> {
    let unfinished = directory.join(durable::unique(UNFINISHED));
    let written = write_unfinished(&unfinished, json, access).and_then(|()| durable::rename(&unfinished, path));
    if written.is_err() {
        // The reason for the failure is what counts; prune comes by for what this leaves.
        let _ = durable::unlink(&unfinished);
    }
    written.and_then(|()| durable::fsync_directory(directory))
}

fn write_unfinished(path: &Path, json: &[u8], access: &Access) -> io::Result<()> {
    let mut file = durable::create(path, access.file, Sharing::Mode(access.file))?;
    if let Some(group) = access.group
        && file.metadata()?.gid() != group
    {
        fchown(&file, None, Some(group))?;
    }
    durable::write_all(&mut file, json)?;
    durable::fsync(&file)
}

fn unlink_if_there(path: &Path) -> io::Result<()> {
    match durable::unlink(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// What a directory holds; nothing where there is no such directory.
fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
    }
}

/// Whether a file is named as a record is: 64 hexadecimal digits and `.json`.
fn is_record_name(path: &Path) -> bool {
    let digest = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"));
    digest.is_some_and(|digest| digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A record as its file has it. Fields not named here are other control planes' own.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    id: String,
    repository: String,
    #[serde(default)]
    repository_id: Option<String>,
    scope: Scope,
    created_at: u64,
    expires_at: u64,
    #[serde(default)]
    revoked_at: Option<u64>,
}

impl From<&TokenRecord> for Stored {
    fn from(record: &TokenRecord) -> Self {
        Stored {
            version: VERSION,
            id: record.id.clone(),
            repository: record.repository.clone(),
            repository_id: record.repository_id.clone(),
            scope: record.scope,
            created_at: record.created_at,
            expires_at: record.expires_at,
            revoked_at: record.revoked_at,
        }
    }
}

/// The record in a file; `None` where there is no file.
fn read_record(path: &Path) -> anyhow::Result<Option<TokenRecord>> {
    let reading = || format!("reading '{}'", path.display());
    let Some(bytes) = read_bounded(path).with_context(reading)? else { return Ok(None) };
    let stored: Stored = serde_json::from_slice(&bytes).context("it is no token's record").with_context(reading)?;
    if stored.version != VERSION {
        return Err(anyhow::anyhow!("its version is {}, known is {VERSION}", stored.version)).with_context(reading);
    }
    // The id stands in reflogs, in the environment of hooks and in the audit log.
    if !is_id(&stored.id) {
        return Err(anyhow::anyhow!("its id is not 16 base-36 characters")).with_context(reading);
    }
    Ok(Some(TokenRecord {
        id: stored.id,
        repository: stored.repository,
        repository_id: stored.repository_id,
        scope: stored.scope,
        created_at: stored.created_at,
        expires_at: stored.expires_at,
        revoked_at: stored.revoked_at,
    }))
}

/// The content of a small file; `None` where there is no file.
fn read_bounded(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let mut attempts = 3;
    loop {
        match try_read_bounded(path) {
            // Replaced by another node of a shared file system while we held it.
            Err(error) if error.raw_os_error() == Some(Errno::STALE.raw_os_error()) && attempts > 1 => attempts -= 1,
            Err(error) => return Err(error.into()),
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) if bytes.len() as u64 > RECORD_BYTES_MAX => bail!("it is too large for a token's record"),
            Ok(Some(bytes)) => return Ok(Some(bytes)),
        }
    }
}

fn try_read_bounded(path: &Path) -> io::Result<Option<Vec<u8>>> {
    // Without NONBLOCK a named pipe would hold the request for ever.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file: File = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(descriptor) => descriptor.into(),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    // Room for all of it and for one byte more, so that its end is noticed: two reads.
    let mut bytes = Vec::with_capacity(metadata.len().min(RECORD_BYTES_MAX) as usize + 1);
    file.take(RECORD_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests;

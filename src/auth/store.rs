//! The token store: a directory of small JSON files (docs/tokens.md specifies the format).
//!
//! In: a repository's name, and a secret or an id. Out: records, or what credentials prove. The file of a token is
//! found by the SHA-256 of its secret, in the directory of its repository. The store as a whole is never searched, and
//! no secret is ever written.

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

/// The shortest lifetime of a token, in seconds.
pub const TTL_SECONDS_MIN: u64 = 60;
/// The longest lifetime of a token, in seconds: a year.
pub const TTL_SECONDS_MAX: u64 = 31_536_000;
/// The default lifetime of a token, in seconds: a day.
pub const TTL_SECONDS_DEFAULT: u64 = 86_400;

/// The largest file that is read as a record.
const RECORD_BYTES_MAX: u64 = 16 << 10;

/// The version of the format.
const VERSION: u32 = 1;

/// The prefix of a file's name while it is written.
const UNFINISHED: &str = ".new-";

/// How long a process may take to finish a file, in seconds.
const UNFINISHED_SECONDS_MAX: u64 = 3600;

/// One token as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// 16 base-36 characters.
    pub id: String,
    /// `namespace/name`, without `.git`.
    pub repository: String,
    /// The repository's `artifacts.id`, if it had one.
    pub repository_id: Option<String>,
    /// What the token allows.
    pub scope: Scope,
    /// Unix seconds.
    pub created_at: u64,
    /// Unix seconds.
    pub expires_at: u64,
    /// Unix seconds.
    pub revoked_at: Option<u64>,
}

impl TokenRecord {
    /// The record's state at `now` (Unix seconds).
    pub fn state(&self, now: u64) -> TokenState {
        if self.revoked_at.is_some() {
            TokenState::Revoked
        } else if self.expires_at <= now {
            TokenState::Expired
        } else {
            TokenState::Active
        }
    }

    /// Whether the record belongs to the repository now at its name, whose `artifacts.id` is given. A record with an id
    /// belongs to that repository alone, one without to any repository of that name.
    pub fn matches(&self, repository_id: Option<&str>) -> bool {
        self.repository_id.is_none() || self.repository_id.as_deref() == repository_id
    }
}

/// A record's state at a given time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenState {
    /// Valid.
    Active,
    /// Its lifetime is over.
    Expired,
    /// Revoked.
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

/// A new token. Its secret cannot be read at any later time.
pub struct NewToken {
    /// The record as stored.
    pub record: TokenRecord,
    /// `art_v1_<40 hex>?expires=<unix seconds>`
    pub plaintext: String,
    /// The secret without the expiry.
    pub secret: Secret,
}

/// How a caller names one record of a repository.
pub enum Which<'a> {
    /// By its id.
    Id(&'a str),
    /// By its secret.
    Secret(&'a Secret),
}

/// The records of one repository.
#[derive(Debug, Default)]
pub struct Listing {
    /// The readable records, oldest first.
    pub records: Vec<TokenRecord>,
    /// The files that cannot be read as records, and why.
    pub unreadable: Vec<(PathBuf, anyhow::Error)>,
}

/// The store: where tokens are kept.
#[derive(Debug, Clone)]
pub struct TokenStore {
    directory: PathBuf,
}

impl TokenStore {
    /// Names the store in `directory` without reading anything.
    pub fn new(directory: PathBuf) -> Self {
        TokenStore { directory }
    }

    /// Where the store is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Determines what the credentials prove for the repository `name` (`namespace/name`, without `.git`) at `now`
    /// (Unix seconds).
    ///
    /// An unknown token, a token of another repository and a repository that does not exist all take the same work: one
    /// hash and one attempt to open a file.
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

    /// Returns the record, or why the token is unusable and, if known, the id of its record.
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

    /// Creates a token for the repository `name` that is valid for `ttl` seconds from `now`.
    ///
    /// # Errors
    /// When the ttl is out of range, or the store cannot be written.
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
        let json = serde_json::to_vec(&StoredRecord::from(&record)).context("writing a record as JSON")?;
        let path = self.file_of(name, &secret)?;
        self.put(&path, &json).with_context(|| format!("writing to the token store '{}'", self.directory.display()))?;
        Ok(NewToken { record, plaintext, secret })
    }

    /// Lists the records of a repository, oldest first.
    ///
    /// # Errors
    /// When its directory in the store cannot be read. A missing directory has no records.
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

    /// Finds one record of a repository.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn find(&self, name: &str, which: &Which<'_>) -> anyhow::Result<Option<TokenRecord>> {
        Ok(self.seek(name, which)?.map(|(_, record)| record))
    }

    /// Revokes a token as of `now`. A token that is already revoked keeps its time. Returns `None` if there is no such
    /// token.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn revoke(&self, name: &str, which: &Which<'_>, now: u64) -> anyhow::Result<Option<TokenRecord>> {
        let Some((path, mut record)) = self.seek(name, which)? else { return Ok(None) };
        if record.revoked_at.is_none() {
            let revoking = || format!("revoking the token {}", record.id);
            // As a map, so that fields of other control planes are kept.
            let bytes = read_bounded(&path).with_context(revoking)?.context("it has just been removed")?;
            let mut json: Map<String, Value> = serde_json::from_slice(&bytes).with_context(revoking)?;
            json.insert("revoked_at".into(), now.into());
            self.put(&path, &serde_json::to_vec(&json).with_context(revoking)?).with_context(revoking)?;
            record.revoked_at = Some(now);
        }
        Ok(Some(record))
    }

    /// Removes the expired and revoked tokens of a repository, and files that were never finished. Returns how many
    /// tokens were removed. Files that cannot be read as records stay.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn prune(&self, name: &str, now: u64) -> anyhow::Result<usize> {
        self.remove_unfinished(name, now)?;
        self.remove_where(name, |record| record.state(now) != TokenState::Active)
    }

    /// Removes the tokens that would be valid for any repository of this name; to be called before one is created.
    /// Returns how many were removed.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn remove_unbound(&self, name: &str) -> anyhow::Result<usize> {
        self.remove_where(name, |record| record.repository_id.is_none())
    }

    /// Removes everything about a deleted repository, whose `artifacts.id` is given. Returns how many tokens were
    /// removed. Tokens of another repository, which may have been created under that name since, stay.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn remove_all(&self, name: &str, repository_id: Option<&str>, now: u64) -> anyhow::Result<usize> {
        self.remove_unfinished(name, now)?;
        let mut removed = 0;
        for path in self.files(name)? {
            // A file that cannot be read as a record belongs to no other repository.
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

    /// The directory of a repository. Routing and the command line have validated the name; this check keeps other
    /// callers from leaving the store.
    fn directory_of(&self, name: &str) -> anyhow::Result<PathBuf> {
        let plain = |component: &str| !component.is_empty() && !component.starts_with('.') && !component.contains('\0');
        ensure!(name.split('/').all(plain), "{name:?} is not a repository's name");
        Ok(self.directory.join(format!("{name}.git")))
    }

    fn file_of(&self, name: &str, secret: &Secret) -> anyhow::Result<PathBuf> {
        let digest = secret.digest();
        Ok(self.directory_of(name)?.join(format!("{digest}.json")))
    }

    /// Writes a record atomically: into a new file that is forced to disk and renamed, so that a reader sees all of it
    /// or none.
    fn put(&self, path: &Path, json: &[u8]) -> anyhow::Result<()> {
        let directory = path.parent().context("a record lies in a directory")?;
        let mut attempts = 3;
        loop {
            let access = self.prepare(directory)?;
            let outcome = write_record(directory, path, json, &access);
            match outcome {
                // The repository's directory was removed after it was made: another process is deleting and recreating
                // the repository.
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempts > 1 => attempts -= 1,
                outcome => return outcome.with_context(|| format!("writing '{}'", path.display())),
            }
        }
    }

    /// Creates the store and the directory of a repository if they are missing. Returns the permissions of new files.
    fn prepare(&self, directory: &Path) -> anyhow::Result<Access> {
        make_directories(&self.directory, &Access::PRIVATE)?;
        let making = || format!("looking at '{}'", self.directory.display());
        let access = Access::of(&fs::metadata(&self.directory).with_context(making)?);
        make_directories(directory, &access)?;
        Ok(access)
    }
}

/// The permissions and group of new files and directories in the store.
struct Access {
    directory: u32,
    file: u32,
    group: Option<u32>,
}

impl Access {
    /// For a single user who both creates and checks tokens.
    const PRIVATE: Self = Access { directory: 0o700, file: 0o600, group: None };

    /// Follows the store's own directory as the operator has set it up: if its group has access, all new files get that
    /// group.
    fn of(store: &Metadata) -> Self {
        let mode = store.mode() & 0o2770;
        if mode & 0o070 == 0 {
            return Access::PRIVATE;
        }
        Access { directory: mode, file: 0o640, group: Some(store.gid()) }
    }
}

/// Creates a directory and its missing parents.
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
        // The reason for the failure matters more; `prune` removes what this leaves behind.
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

/// The entries of a directory; none if it does not exist.
fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
    }
}

/// Whether a file is named like a record: 64 hexadecimal digits and `.json`.
fn is_record_name(path: &Path) -> bool {
    let digest = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"));
    digest.is_some_and(|digest| digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A record as stored. Unknown fields belong to other control planes.
#[derive(Serialize, Deserialize)]
struct StoredRecord {
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

impl From<&TokenRecord> for StoredRecord {
    fn from(record: &TokenRecord) -> Self {
        StoredRecord {
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

/// Reads the record in a file; `None` if there is no file.
fn read_record(path: &Path) -> anyhow::Result<Option<TokenRecord>> {
    let reading = || format!("reading '{}'", path.display());
    let Some(bytes) = read_bounded(path).with_context(reading)? else { return Ok(None) };
    let stored: StoredRecord =
        serde_json::from_slice(&bytes).context("it is no token's record").with_context(reading)?;
    if stored.version != VERSION {
        return Err(anyhow::anyhow!("its version is {}, known is {VERSION}", stored.version)).with_context(reading);
    }
    // The id appears in reflogs, in the environment of hooks and in the audit log.
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

/// The content of a small file; `None` if there is no file.
fn read_bounded(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let mut attempts = 3;
    loop {
        match try_read_bounded(path) {
            // Replaced by another node of a shared file system while it was open.
            Err(error) if error.raw_os_error() == Some(Errno::STALE.raw_os_error()) && attempts > 1 => attempts -= 1,
            Err(error) => return Err(error.into()),
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) if bytes.len() as u64 > RECORD_BYTES_MAX => bail!("it is too large for a token's record"),
            Ok(Some(bytes)) => return Ok(Some(bytes)),
        }
    }
}

fn try_read_bounded(path: &Path) -> io::Result<Option<Vec<u8>>> {
    // Without NONBLOCK a named pipe would block the request forever.
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
    // Room for all of it and one byte more, so that the end is noticed: two reads.
    let mut bytes = Vec::with_capacity(metadata.len().min(RECORD_BYTES_MAX) as usize + 1);
    file.take(RECORD_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests;

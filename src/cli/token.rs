//! `token`: creates, lists, validates, revokes and prunes tokens.
//!
//! In: arguments. Out: records, as text or JSON; a token itself only when it is created. A
//! secret is never shown again after that.

use super::{Site, SiteArgs, count, print, secret_argument, timestamp, warn, warn_of_other_user, warn_of_unreadable};
use crate::auth::{
    Claim, Credentials, NewToken, Presented, Scope, TTL_SECONDS_DEFAULT, TTL_SECONDS_MAX, TTL_SECONDS_MIN, Token,
    TokenRecord, TokenState, TokenStore, Which, Why, is_id,
};
use crate::repo::create::{self, RepositoryName};
use anyhow::{bail, ensure};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Create a token; its secret is shown only once
    Create(Create),
    /// List the tokens of a repository
    List(List),
    /// Tell whether a token is valid for a repository; the exit status is 0 only if it is active
    Validate(Validate),
    /// Revoke a token
    Revoke(Revoke),
    /// Remove expired and revoked tokens
    Prune(Prune),
}

#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// <namespace>/<name>
    #[arg(value_parser = RepositoryName::parse)]
    repository: RepositoryName,
    /// What the token allows: read (clone and fetch) or write (also push)
    #[arg(long, value_parser = ["read", "write"], default_value = "write")]
    scope: String,
    /// The lifetime of the token in seconds, from a minute to a year
    #[arg(long, value_name = "SECONDS", default_value_t = TTL_SECONDS_DEFAULT,
          value_parser = clap::value_parser!(u64).range(TTL_SECONDS_MIN..=TTL_SECONDS_MAX))]
    ttl: u64,
    #[command(flatten)]
    site: SiteArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// <namespace>/<name>
    #[arg(value_parser = RepositoryName::parse)]
    repository: RepositoryName,
    /// List only tokens in this state
    #[arg(long, value_parser = ["active", "expired", "revoked"])]
    state: Option<String>,
    #[command(flatten)]
    site: SiteArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct Validate {
    /// <namespace>/<name>
    #[arg(value_parser = RepositoryName::parse)]
    repository: RepositoryName,
    /// The token, or - to read it from stdin
    token: String,
    #[command(flatten)]
    site: SiteArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct Revoke {
    /// <namespace>/<name>
    #[arg(value_parser = RepositoryName::parse)]
    repository: RepositoryName,
    /// The token's id, or the token, or - to read it from stdin
    token: String,
    #[command(flatten)]
    site: SiteArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct Prune {
    /// <namespace>/<name> [default: every repository that has tokens]
    #[arg(value_parser = RepositoryName::parse)]
    repository: Option<RepositoryName>,
    #[command(flatten)]
    site: SiteArgs,
}

impl Command {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Command::Create(args) => args.run().map(|()| ExitCode::SUCCESS),
            Command::List(args) => args.run().map(|()| ExitCode::SUCCESS),
            Command::Validate(args) => args.run(),
            Command::Revoke(args) => args.run().map(|()| ExitCode::SUCCESS),
            Command::Prune(args) => args.run().map(|()| ExitCode::SUCCESS),
        }
    }
}

impl Create {
    fn run(self) -> anyhow::Result<()> {
        let (name, site) = (self.repository, self.site.resolve()?);
        let (root, store) = (site.root()?, site.store()?);
        let git_dir = name.git_dir(root);
        ensure!(git_dir.is_dir(), "there is no repository '{name}' below '{}'", root.display());
        let id = create::artifacts_id(&git_dir)?.map(|id| id.to_string());
        warn_of_unreadable_tokens(&site, &store, &format!("token create {name}"));
        let scope = if self.scope == "read" { Scope::Read } else { Scope::Write };
        let token = store.create(name.as_str(), id.as_deref(), scope, self.ttl, site.now)?;
        let json = || {
            let mut json = shown(&token.record, TokenState::Active.as_str());
            json["plaintext"] = token.plaintext.clone().into();
            json
        };
        site.say(json, || created(&token))
    }
}

/// A new token as text for people.
pub(super) fn created(token: &NewToken) -> String {
    let record = &token.record;
    let (id, scope, expires) = (&record.id, record.scope.as_str(), timestamp(record.expires_at));
    format!("token: {}\n  {scope}, valid until {expires}, id {id}; the token is not shown again\n", token.plaintext)
}

/// Warns if the server may not be able to read what is written; it must run as the same user, or share the store's
/// group.
fn warn_of_unreadable_tokens(site: &Site, store: &TokenStore, command: &str) {
    let of_a_group = fs::metadata(store.directory()).map(|metadata| metadata.mode() & 0o070 != 0);
    let command = &format!("{command}{}", site.flags());
    match (of_a_group, &site.root) {
        (Ok(true), _) => {}
        (Ok(false), _) => warn_of_other_user(store.directory(), command),
        (Err(_), Some(root)) => warn_of_other_user(root, command),
        (Err(_), None) => {}
    }
}

impl List {
    fn run(self) -> anyhow::Result<()> {
        let (name, site) = (self.repository, self.site.resolve()?);
        let id = repository_id(&site, &name)?;
        ensure!(!matches!(id, RepositoryId::Absent), "there is no repository '{name}'");
        let listing = site.store()?.list(name.as_str())?;
        for (path, error) in &listing.unreadable {
            warn(format_args!("'{}' is not a token: {error:#}", path.display()));
        }
        let records = listing.records.iter().filter(|record| id.admits(record));
        let records: Vec<_> = records
            .map(|record| (record, record.state(site.now).as_str()))
            .filter(|(_, state)| self.state.as_ref().is_none_or(|wanted| wanted == state))
            .collect();
        if site.json {
            let records: Vec<_> = records.iter().map(|(record, state)| shown(record, state)).collect();
            return print(&format!("{:#}\n", Value::from(records)));
        }
        let line = |(record, state): &(&TokenRecord, &str)| {
            let (scope, made, end) =
                (record.scope.as_str(), timestamp(record.created_at), timestamp(record.expires_at));
            format!("{}  {scope:<5}  {state:<7}  created {made}  expires {end}\n", record.id)
        };
        print(&records.iter().map(line).collect::<String>())
    }
}

impl Validate {
    fn run(self) -> anyhow::Result<ExitCode> {
        let (name, site) = (self.repository, self.site.resolve()?);
        let argument = secret_argument(self.token)?;
        let (record, state) = judge(&site, &name, &argument)?;
        let json = || match &record {
            Some(record) => shown(record, state),
            None => json!({ "state": state }),
        };
        let scope = record.as_ref().map_or(String::new(), |record| format!(" {}", record.scope.as_str()));
        site.say(json, || format!("{state}{scope}\n"))?;
        Ok(if state == TokenState::Active.as_str() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// How the server would judge a token, in a word, and its record if there is one.
fn judge(site: &Site, name: &RepositoryName, argument: &str) -> anyhow::Result<(Option<TokenRecord>, &'static str)> {
    const UNKNOWN: &str = "unknown";
    let Some(token) = Token::parse(argument.as_bytes()) else { return Ok((None, UNKNOWN)) };
    let store = site.store()?;
    let Some(record) = store.find(name.as_str(), &Which::Secret(&token.secret))? else { return Ok((None, UNKNOWN)) };
    if !repository_id(site, name)?.admits(&record) {
        return Ok((None, UNKNOWN));
    }
    let credentials = Credentials::Token { token, presented: Presented::Bearer };
    let state = match store.claim(name.as_str(), &credentials, site.now) {
        Claim::Live(record) => return Ok((Some(record), TokenState::Active.as_str())),
        Claim::Unusable { why: Why::Revoked, .. } => TokenState::Revoked.as_str(),
        Claim::Unusable { why: Why::Expired(_), .. } => TokenState::Expired.as_str(),
        Claim::Unusable { why: Why::Store(error), .. } => return Err(error),
        Claim::Unusable { why: Why::Malformed | Why::Unknown | Why::TwoCredentials | Why::OtherScheme, .. }
        | Claim::Nothing => return Ok((None, UNKNOWN)),
    };
    Ok((Some(record), state))
}

impl Revoke {
    fn run(self) -> anyhow::Result<()> {
        let (name, site) = (self.repository, self.site.resolve()?);
        let argument = secret_argument(self.token)?;
        let token = Token::parse(argument.as_bytes());
        let which = match &token {
            Some(token) => Which::Secret(&token.secret),
            None if is_id(&argument) => Which::Id(&argument),
            // The argument is not repeated, because it may be a mistyped token.
            None => bail!("the argument is neither a token nor a token's id"),
        };
        let store = site.store()?;
        warn_of_unreadable_tokens(&site, &store, &format!("token revoke {name} …"));
        let Some(record) = store.revoke(name.as_str(), &which, site.now)? else {
            bail!("'{name}' has no such token");
        };
        site.say(
            || shown(&record, record.state(site.now).as_str()),
            || format!("revoked the token {} of {name}\n", record.id),
        )
    }
}

impl Prune {
    fn run(self) -> anyhow::Result<()> {
        let site = self.site.resolve()?;
        let store = site.store()?;
        let names = match self.repository {
            Some(name) => vec![name],
            // The store has the same layout as the root.
            None if store.directory().is_dir() => {
                let found = create::list(store.directory())?;
                warn_of_unreadable(&found);
                found.names
            }
            None => Vec::new(),
        };
        let mut removed = 0;
        for name in &names {
            removed += store.prune(name.as_str(), site.now)?;
        }
        site.say(|| json!({ "removed": removed }), || format!("removed {}\n", count(removed, "token", "tokens")))
    }
}

/// The `artifacts.id` of the repository at a name, as far as this command can know it.
enum RepositoryId {
    /// No root was given.
    NotAsked,
    /// There is no repository.
    Absent,
    /// The repository has this id, or none.
    Known(Option<String>),
}

impl RepositoryId {
    fn admits(&self, record: &TokenRecord) -> bool {
        match self {
            RepositoryId::NotAsked => true,
            RepositoryId::Absent => false,
            RepositoryId::Known(id) => record.matches(id.as_deref()),
        }
    }
}

fn repository_id(site: &Site, name: &RepositoryName) -> anyhow::Result<RepositoryId> {
    let Some(root) = &site.root else { return Ok(RepositoryId::NotAsked) };
    let git_dir = name.git_dir(root);
    if !git_dir.is_dir() {
        return Ok(RepositoryId::Absent);
    }
    Ok(RepositoryId::Known(create::artifacts_id(&git_dir)?.map(|id| id.to_string())))
}

/// A record in the JSON form of answers.
fn shown(record: &TokenRecord, state: &str) -> Value {
    json!({
        "id": record.id,
        "scope": record.scope,
        "state": state,
        "created_at": timestamp(record.created_at),
        "expires_at": timestamp(record.expires_at),
    })
}

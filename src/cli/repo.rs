//! `repo`: creates, lists and deletes repositories.
//!
//! In: arguments. Out: what was done, and a new repository's first token. Nothing is deleted without confirmation or
//! `--yes`.

use super::token::created;
use super::{Site, SiteArgs, count, print, warn, warn_of_other_user, warn_of_unreadable};
use crate::auth::{Scope, TTL_SECONDS_DEFAULT, TTL_SECONDS_MAX, TTL_SECONDS_MIN};
use crate::refs::Format;
use crate::repo::create::{self, Formats, RepositoryName};
use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Create an empty repository and its first token, which allows pushes
    Create(Create),
    /// List the repositories
    List(List),
    /// Delete a repository and its tokens
    Delete(Delete),
}

#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// <namespace>/<name>
    #[arg(value_parser = RepositoryName::parse)]
    name: RepositoryName,
    /// The hash of object names
    #[arg(long, value_name = "HASH", value_parser = ["sha1", "sha256"], default_value = "sha1")]
    object_format: String,
    /// The format refs are stored in
    #[arg(long, value_name = "FORMAT", value_parser = ["files", "reftable"], default_value = "files")]
    ref_format: String,
    /// The lifetime of the first token in seconds, from a minute to a year
    #[arg(long, value_name = "SECONDS", default_value_t = TTL_SECONDS_DEFAULT,
          value_parser = clap::value_parser!(u64).range(TTL_SECONDS_MIN..=TTL_SECONDS_MAX))]
    ttl: u64,
    #[command(flatten)]
    site: SiteArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    site: SiteArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct Delete {
    /// <namespace>/<name>
    #[arg(value_parser = RepositoryName::parse)]
    name: RepositoryName,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    site: SiteArgs,
}

impl Command {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Command::Create(args) => args.run(),
            Command::List(args) => args.run(),
            Command::Delete(args) => args.run(),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

impl Create {
    fn run(self) -> anyhow::Result<()> {
        let (name, site) = (self.name, self.site.resolve()?);
        let (root, store) = (site.root()?, site.store()?);
        let hash = self.object_format.parse().map_err(|_| anyhow::anyhow!("unknown object format"))?;
        warn_of_other_user(root, &format!("repo create {name}{}", site.flags()));
        // Tokens without an id, made for an earlier repository, would be valid for this one too.
        if !name.git_dir(root).exists() {
            store.remove_unbound(name.as_str())?;
        }
        let refs = if self.ref_format == "reftable" { Format::Reftable } else { Format::Files };
        let made = create::create(root, &name, Formats { hash, refs })?;
        let token = store
            .create(name.as_str(), Some(&made.id), Scope::Write, self.ttl, site.now)
            .with_context(|| format!("the repository was created, but not its token (try `token create {name}`)"))?;
        let remote = site.remote(&name);
        let json = || {
            let mut json = repository(&made.id, &name, remote.as_deref());
            json["default_branch"] = "main".into();
            json["token"] = token.plaintext.clone().into();
            json
        };
        let text = || {
            let mut text = format!("created the repository {name}\n");
            if let Some(remote) = &remote {
                text += &format!("remote: {remote}\n");
            }
            text + &created(&token)
        };
        site.say(json, text)
    }
}

impl List {
    fn run(self) -> anyhow::Result<()> {
        let site = self.site.resolve()?;
        let root = site.root()?;
        let found = create::list(root)?;
        warn_of_unreadable(&found);
        let names = found.names;
        if site.json {
            let repositories: Vec<Value> = names
                .iter()
                .map(|name| match create::artifacts_id(&name.git_dir(root)) {
                    Ok(id) => repository_or_null(id.map(|id| id.to_string()), name, &site),
                    Err(error) => {
                        warn(format_args!("{error:#}"));
                        repository_or_null(None, name, &site)
                    }
                })
                .collect();
            return print(&format!("{:#}\n", Value::from(repositories)));
        }
        let line = |name: &RepositoryName| match site.remote(name) {
            Some(remote) => format!("{name}  {remote}\n"),
            None => format!("{name}\n"),
        };
        print(&names.iter().map(line).collect::<String>())
    }
}

impl Delete {
    fn run(self) -> anyhow::Result<()> {
        let (name, site) = (self.name, self.site.resolve()?);
        let (root, store) = (site.root()?, site.store()?);
        ensure!(name.git_dir(root).exists(), "there is no repository '{name}' below '{}'", root.display());
        if !self.yes {
            confirm(&name)?;
        }
        let Some(aside) = create::set_aside(root, &name)? else {
            bail!("the repository '{name}' has just been removed")
        };
        // Read from the directory that was moved aside: by now another repository may have been created under the name,
        // with tokens of its own.
        let id = create::artifacts_id(&aside).unwrap_or_else(|error| {
            warn(format_args!(
                "{error:#}: tokens with a repository's id are kept; `token prune` removes them once they have expired"
            ));
            None
        });
        let tokens = store.remove_all(name.as_str(), id.map(|id| id.to_string()).as_deref(), site.now);
        create::remove_tree(&aside).with_context(|| format!("removing '{}'", aside.display()))?;
        let tokens = tokens.with_context(|| format!("the repository {name} was deleted, but not its tokens"))?;
        site.say(
            || json!({ "name": name.as_str(), "tokens": tokens }),
            || format!("deleted the repository {name} and {}\n", count(tokens, "token", "tokens")),
        )
    }
}

fn confirm(name: &RepositoryName) -> anyhow::Result<()> {
    let mut stdin = io::stdin().lock();
    ensure!(stdin.is_terminal(), "stdin is not a terminal, so nobody can confirm: use --yes to delete '{name}'");
    write!(io::stderr(), "This permanently deletes {name} and its tokens. Type its name to confirm: ")
        .context("asking")?;
    let mut answer = String::new();
    stdin.read_line(&mut answer).context("reading the answer")?;
    ensure!(answer.trim() == name.as_str(), "nothing was deleted");
    Ok(())
}

fn repository(id: &str, name: &RepositoryName, remote: Option<&str>) -> Value {
    let mut json = json!({ "id": id, "name": name.as_str() });
    if let Some(remote) = remote {
        json["remote"] = remote.into();
    }
    json
}

fn repository_or_null(id: Option<String>, name: &RepositoryName, site: &Site) -> Value {
    let mut json = repository("", name, site.remote(name).as_deref());
    json["id"] = id.into();
    json
}

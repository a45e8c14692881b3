//! The command line tool: serve, repo, token, bundle, maintenance, check. Unreachable inside CGI.
//!
//! In: arguments, and the environment, which is read here once. Out: text or JSON on stdout, warnings and errors on
//! stderr, an exit status. A secret is printed only on stdout, and only when it is created; text for stderr is searched
//! for secrets first.

mod bundle;
mod check;
mod maintenance;
mod repo;
pub mod serve;
mod token;

use crate::access;
use crate::auth::TokenStore;
use crate::edge::{self, Environ, users};
use crate::protocol::Version;
use crate::repo::create::{Found, RepositoryName};
use crate::repo::locate::{self, Place, Search};
use crate::repo::{AccessMode, Repository};
use crate::service::Service;
use anyhow::{Context, bail};
use clap::Parser;
use serde_json::Value;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Git over HTTP with repository tokens.
///
/// Run by a web server as a CGI program, it answers git's requests; run from a shell, it manages repositories and tokens.
#[derive(Debug, Parser)]
#[command(name = "artifacts-http-backend", version, after_help = SERVICES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The services that main.rs runs itself, without this parser.
const SERVICES: &str = "\
Services over pipes, with git's options (-h lists them); also available as git-upload-pack and git-receive-pack:
  upload-pack   Serve a fetch to the client at the other end of stdin and stdout
  receive-pack  Serve a push";

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Serve repositories on this machine, for a quick start, development and tests
    Serve(serve::Args),
    /// Create, list and delete repositories
    #[command(subcommand)]
    Repo(repo::Command),
    /// Create, list, validate, revoke and prune tokens
    #[command(subcommand)]
    Token(token::Command),
    /// Create bundles that speed up clones, and advertise them to git's clients
    #[command(subcommand)]
    Bundle(bundle::Command),
    /// Combine loose objects and small packs, and write files that speed up fetches, without git
    Maintenance(maintenance::Args),
    /// Check the installation or one repository, and say how to fix problems
    Check(check::Args),
}

/// Runs the tool. `args` begins with the program's name.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let outcome = match Cli::try_parse_from(args) {
        Ok(cli) => cli.command.run(),
        Err(said) if said.use_stderr() => {
            // Usage errors repeat what was typed, which may contain a token.
            complain(format_args!("{}", said.render()));
            return ExitCode::from(2);
        }
        Err(asked) => print(&asked.render().to_string()).map(|()| ExitCode::SUCCESS),
    };
    match outcome {
        Ok(status) => status,
        // The reader of our output has stopped reading.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("error: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

impl Command {
    fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Command::Serve(args) => serve::run(args),
            Command::Repo(command) => command.run(),
            Command::Token(command) => command.run(),
            Command::Bundle(command) => command.run(),
            Command::Maintenance(args) => args.run(),
            Command::Check(args) => args.run(),
        }
    }
}

/// Where things are: flags or, without them, the environment variables that a web server sets.
#[derive(Debug, clap::Args)]
struct SiteArgs {
    /// The directory of the repositories [default: $GIT_PROJECT_ROOT]
    #[arg(long, value_name = "DIRECTORY")]
    root: Option<PathBuf>,
    /// The token store [default: $ARTIFACTS_TOKENS, else .artifacts/tokens below the root]
    #[arg(long, value_name = "DIRECTORY")]
    tokens: Option<PathBuf>,
    /// The URL below which the repositories are served [default: $ARTIFACTS_BASE_URL]
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

impl SiteArgs {
    fn resolve(self) -> anyhow::Result<Site> {
        let root = self.root.or_else(|| variable("GIT_PROJECT_ROOT").map(PathBuf::from));
        let tokens = self.tokens.or_else(|| variable("ARTIFACTS_TOKENS").map(PathBuf::from));
        let base_url = self.base_url.or_else(|| variable("ARTIFACTS_BASE_URL")?.into_string().ok());
        Ok(Site {
            root: root.map(std::path::absolute).transpose().context("finding the repositories' root")?,
            tokens: tokens.map(std::path::absolute).transpose().context("finding the token store")?,
            base_url: base_url.filter(|url| !url.is_empty()),
            json: self.json,
            now: SystemTime::now().duration_since(UNIX_EPOCH).context("the system clock is set before 1970")?.as_secs(),
        })
    }
}

/// The installation a command works on, and the form of its output.
struct Site {
    root: Option<PathBuf>,
    tokens: Option<PathBuf>,
    base_url: Option<String>,
    json: bool,
    /// Unix seconds.
    now: u64,
}

impl Site {
    fn root(&self) -> anyhow::Result<&Path> {
        self.root
            .as_deref()
            .context("the directory of the repositories is not known: give --root, or set GIT_PROJECT_ROOT")
    }

    fn store(&self) -> anyhow::Result<TokenStore> {
        let directory = match (&self.tokens, &self.root) {
            (Some(tokens), _) => tokens.clone(),
            (None, Some(root)) => root.join(".artifacts/tokens"),
            (None, None) => bail!("the token store is not known: give --root or --tokens, or set GIT_PROJECT_ROOT"),
        };
        Ok(TokenStore::new(directory))
    }

    /// The URL of a repository, if the site's own is known.
    fn remote(&self, name: &RepositoryName) -> Option<String> {
        self.base_url.as_ref().map(|base| format!("{}/{name}.git", base.trim_end_matches('/')))
    }

    /// The flags that name the same places in another environment, such as sudo's.
    fn flags(&self) -> String {
        let flag = |flag: &str, path: &Option<PathBuf>| {
            path.as_ref().map_or(String::new(), |path| format!(" {flag} {}", quoted(path)))
        };
        flag("--root", &self.root) + &flag("--tokens", &self.tokens)
    }

    /// Prints a result in the form asked for.
    fn say(&self, json: impl FnOnce() -> Value, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        if self.json { print(&format!("{:#}\n", json())) } else { print(&text()) }
    }
}

/// Opens a repository with the rights of the user who runs this, outside any namespace.
fn open(site: &Site, name: &RepositoryName) -> anyhow::Result<Repository> {
    let root = site.root()?;
    let what = format!("repository '{name}' below '{}'", root.display());
    opened(&what, true, |search| locate::by_name(root, name.as_str(), search))
}

/// Opens the repository at a path in the same way.
fn open_path(path: &Path) -> anyhow::Result<Repository> {
    opened(&format!("repository at '{}'", path.display()), false, |search| locate::by_path(path, search))
}

fn opened(what: &str, strict: bool, find: impl FnOnce(&Search<'_>) -> Place) -> anyhow::Result<Repository> {
    let mut context = edge::context(&Environ::of_process(), AccessMode::Tokens, Version::V2, &edge::Arrival::now())
        .map_err(anyhow::Error::msg)?;
    context.namespace = None;
    let search =
        Search { mode: AccessMode::Tokens, config: &context.config, object_directory: None, check_owner: true, strict };
    match find(&search) {
        Place::Here(here) => Ok(Repository::open(*here, access::local_user(Service::UploadPack), context)),
        Place::Absent => bail!("there is no {what}"),
        Place::Unusable(error) => Err(error).with_context(|| format!("opening the {what}")),
    }
}

/// An environment variable; an empty one counts as unset.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("writing to stdout")
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kinds = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>().map(io::Error::kind));
    kinds.into_iter().any(|kind| kind == io::ErrorKind::BrokenPipe)
}

fn warn(warning: fmt::Arguments<'_>) {
    complain(format_args!("warning: {warning}\n"));
}

/// Warns about directories that could not be read.
fn warn_of_unreadable(found: &Found) {
    for (path, error) in &found.unreadable {
        warn(format_args!("'{}' is left out, with everything in it: {error}", path.display()));
    }
}

/// Writes to stderr, without secrets. Errors of writing are ignored.
fn complain(text: fmt::Arguments<'_>) {
    let _ = io::stderr().write_all(without_secrets(&text.to_string()).as_bytes());
}

/// Replaces what follows each `art_` in the text by `…`.
fn without_secrets(text: &str) -> String {
    let mut pieces = text.split("art_");
    let mut clean = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        clean += "art_…";
        clean += piece.trim_start_matches(|letter: char| letter.is_ascii_alphanumeric() || letter == '_');
    }
    clean
}

/// A secret given as an argument: itself, or for `-` the first line of stdin, which keeps it out of process lists.
fn secret_argument(argument: String) -> anyhow::Result<String> {
    if argument != "-" {
        return Ok(argument);
    }
    let mut line = String::new();
    let stdin = io::stdin().lock();
    io::BufRead::read_line(&mut io::BufReader::new(stdin.take(4096)), &mut line)
        .context("reading a token from stdin")?;
    Ok(line.trim().to_owned())
}

/// Warns if the server may not be able to use what this command makes, because `directory` belongs to another user.
fn warn_of_other_user(directory: &Path, command: &str) {
    let own = rustix::process::geteuid().as_raw();
    let Some(owner) = fs::metadata(directory).ok().map(|metadata| metadata.uid()).filter(|owner| *owner != own) else {
        return;
    };
    warn(format_args!(
        "'{}' belongs to {owner}, but you are {me}: the server may not be able to use what you create; run instead: \
         sudo -u {owner} artifacts-http-backend {command}",
        directory.display(),
        owner = sudo_user(owner),
        me = user_name(own),
    ));
}

/// A path quoted for a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+,:@".contains(letter);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// A number and its noun, in the singular or the plural: `1 token`, `2 tokens`.
fn count<N: fmt::Display + PartialEq + From<u8>>(number: N, one: &str, many: &str) -> String {
    let noun = if number == N::from(1) { one } else { many };
    format!("{number} {noun}")
}

/// The user's name, or the number if there is no name.
fn user_name(uid: u32) -> String {
    users::by_id(uid).map_or_else(|| uid.to_string(), |user| user.name)
}

/// A user in the form of sudo's `-u`: a name, or a number after `#`.
fn sudo_user(uid: u32) -> String {
    users::by_id(uid).map_or_else(|| format!("'#{uid}'"), |user| user.name)
}

/// Formats Unix seconds as in RFC 3339, in UTC.
fn timestamp(unix_seconds: u64) -> String {
    let (year, month, day) = crate::calendar::civil(unix_seconds / 86_400);
    let (hour, minute, second) = (unix_seconds / 3600 % 24, unix_seconds / 60 % 60, unix_seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn stderr_never_shows_a_secret() {
        let check = |text: &str, expected: &str| assert_eq!(without_secrets(text), expected);
        check(
            "error: unexpected argument 'art_v1_0af?expires=17' found",
            "error: unexpected argument 'art_…?expires=17' found",
        );
        check("art_a art_b", "art_… art_…");
        check("art_art_x", "art_…art_…");
        check("the party_x", "the party_x");
        check("nothing here", "nothing here");
        check("", "");
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        let check = |seconds: u64, expected: &str| assert_eq!(timestamp(seconds), expected);
        check(0, "1970-01-01T00:00:00Z");
        check(951_782_399, "2000-02-28T23:59:59Z");
        check(951_782_400, "2000-02-29T00:00:00Z");
        check(951_868_800, "2000-03-01T00:00:00Z");
        check(1_760_000_000, "2025-10-09T08:53:20Z");
        check(4_107_542_399, "2100-02-28T23:59:59Z");
        check(4_107_542_400, "2100-03-01T00:00:00Z");
        check(u64::from(u32::MAX), "2106-02-07T06:28:15Z");
    }

    #[test]
    fn a_noun_agrees_with_its_number() {
        let check = |number: u32, expected: &str| assert_eq!(count(number, "token", "tokens"), expected);
        check(0, "0 tokens");
        check(1, "1 token");
        check(2, "2 tokens");
    }

    #[test]
    fn paths_are_quoted_where_a_shell_needs_it() {
        let check = |path: &str, expected: &str| assert_eq!(quoted(Path::new(path)), expected);
        check("/srv/git/acme/site.git", "/srv/git/acme/site.git");
        check("/srv/my git", "'/srv/my git'");
        check("/srv/it's", "'/srv/it'\\''s'");
        check("/srv/$(id)", "'/srv/$(id)'");
    }

    #[test]
    fn a_remote_is_the_base_url_and_the_name() {
        let name = RepositoryName::parse("acme/site").expect("a good name");
        let check = |base: Option<&str>, expected: Option<&str>| {
            let site = Site { root: None, tokens: None, base_url: base.map(Into::into), json: false, now: 0 };
            assert_eq!(site.remote(&name).as_deref(), expected);
        };
        check(None, None);
        check(Some("https://git.example.com"), Some("https://git.example.com/acme/site.git"));
        check(Some("https://git.example.com/git/"), Some("https://git.example.com/git/acme/site.git"));
    }
}

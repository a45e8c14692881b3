//! `check`: finds what is wrong with the installation or with one repository, and says how to fix it.
//!
//! In: the settings a web server would pass, seen with the rights of the user who runs this. Out: findings, each with
//! its remedy, and how requests would be answered. Nothing is changed.

use super::{Site, SiteArgs, count, print, quoted, timestamp, user_name, variable};
use crate::auth::{TokenRecord, TokenState};
use crate::cache::{self, Cache};
use crate::edge::{self, Environ};
use crate::protocol::Version;
use crate::repo::AccessMode;
use crate::repo::config::{ConfigSources, Entries};
use crate::repo::create::{self, RepositoryName};
use crate::repo::locate::{self, Here, Place, Search};
use rustix::fs::Access;
use rustix::io::Errno;
use serde::Serialize;
use serde_json::json;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// <namespace>/<name>, or with ARTIFACTS_AUTH=webserver a path below the root [default: check the installation
    /// only]
    repository: Option<String>,
    #[command(flatten)]
    site: SiteArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Ok,
    /// It works, but may not be what was intended.
    Warning,
    /// Requests fail.
    Problem,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "problem",
        }
    }
}

#[derive(Debug, Serialize)]
struct Finding {
    level: Level,
    subject: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

/// How requests with certain credentials would be answered.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Request {
    credentials: &'static str,
    fetch: &'static str,
    push: &'static str,
}

#[derive(Default)]
struct Report {
    findings: Vec<Finding>,
    requests: Vec<Request>,
}

impl Report {
    fn ok(&mut self, subject: &'static str, message: String) {
        self.findings.push(Finding { level: Level::Ok, subject, message, remedy: None });
    }

    fn warning(&mut self, subject: &'static str, message: String, remedy: String) {
        self.findings.push(Finding { level: Level::Warning, subject, message, remedy: Some(remedy) });
    }

    fn problem(&mut self, subject: &'static str, message: String, remedy: String) {
        self.findings.push(Finding { level: Level::Problem, subject, message, remedy: Some(remedy) });
    }

    fn is_ok(&self) -> bool {
        self.findings.iter().all(|finding| finding.level != Level::Problem)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            text += &format!("{:<8} {}: {}\n", finding.level.as_str(), finding.subject, finding.message);
            if let Some(remedy) = &finding.remedy {
                text += &format!("         -> {remedy}\n");
            }
        }
        for Request { credentials, fetch, push } in &self.requests {
            text += &format!("request  {credentials}: fetch {fetch}; push {push}\n");
        }
        text
    }
}

impl Args {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let site = self.site.resolve()?;
        let mut report = Report::default();
        let mode = check_mode(&mut report);
        let sources = check_settings(&Environ::of_process(), mode, &mut report);
        check_audit_log(&mut report);
        check_cache(&site, &mut report);
        check_root(&site, mode, &mut report);
        if mode == AccessMode::Tokens {
            check_store(&site, &mut report)?;
        }
        if let (Some(name), Some(root)) = (&self.repository, &site.root) {
            let search = Search {
                mode,
                config: &sources,
                object_directory: None,
                check_owner: true,
                strict: mode == AccessMode::Tokens,
            };
            if mode == AccessMode::Tokens {
                let name = RepositoryName::parse(name).map_err(anyhow::Error::msg)?;
                let find = |search: &Search<'_>| locate::by_name(root, name.as_str(), search);
                let place = check_repository(&name.git_dir(root), &name.to_string(), &search, &find, &mut report);
                check_tokens(&site, &name, &place, &mut report)?;
                report.requests = requests(&place);
            } else {
                let path = root.join(name.trim_start_matches('/'));
                let find = |search: &Search<'_>| locate::by_path(&path, search);
                let place = check_repository(&path, name, &search, &find, &mut report);
                check_export(&place, &mut report);
            }
        }
        if site.json {
            let ok = report.is_ok();
            let json = json!({ "ok": ok, "findings": report.findings, "requests": report.requests });
            print(&format!("{json:#}\n"))?;
            return Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        print(&report.text())?;
        Ok(if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn check_mode(report: &mut Report) -> AccessMode {
    match variable("ARTIFACTS_AUTH") {
        None => AccessMode::Tokens,
        Some(mode) if mode == "tokens" => AccessMode::Tokens,
        Some(mode) if mode == "webserver" => AccessMode::WebServer,
        Some(mode) => {
            let remedy = "set it to tokens (the default) or webserver";
            report.problem("settings", format!("ARTIFACTS_AUTH is {mode:?}"), remedy.into());
            AccessMode::Tokens
        }
    }
}

/// Checks the variables that every request reads, and git's configuration. Returns where the configuration is.
fn check_settings(environ: &Environ, mode: AccessMode, report: &mut Report) -> ConfigSources {
    let subject = "settings";
    let context = edge::context(environ, mode, Version::V2, &edge::Arrival::now());
    let sources = context.and_then(|context| environ.size("GIT_HTTP_MAX_REQUEST_BUFFER").map(|_| context.config));
    let sources = sources.unwrap_or_else(|text| {
        report.problem(subject, text, "correct or unset that variable; no request is served until then".into());
        edge::config_sources(environ).unwrap_or_default()
    });
    match Entries::of_operator(&sources) {
        Ok(_) => report.ok(subject, format!("{} can read git's configuration", me())),
        Err(error) => report.problem(
            subject,
            format!("git's configuration cannot be read: {error:#}"),
            "repair that file, or let the web server's user read it".into(),
        ),
    }
    sources
}

/// Requests are served even if their audit lines cannot be written, but the operator may rely on the log.
fn check_audit_log(report: &mut Report) {
    let Some(path) = variable("ARTIFACTS_AUDIT_LOG").map(PathBuf::from) else { return };
    let (probed, access) = match path.parent() {
        Some(parent) if !path.exists() => {
            let parent = if parent == Path::new("") { Path::new(".") } else { parent };
            (parent, Access::WRITE_OK | Access::EXEC_OK)
        }
        Some(_) | None => (path.as_path(), Access::WRITE_OK),
    };
    match rustix::fs::access(probed, access) {
        Ok(()) if path.is_dir() => {
            let message = format!("'{}' is a directory, so no request is logged", path.display());
            report.problem("audit log", message, "set ARTIFACTS_AUDIT_LOG to the path of a file".into());
        }
        Ok(()) => report.ok("audit log", format!("{} can write to '{}'", me(), path.display())),
        Err(error) => {
            let message = format!("{} cannot write to '{}': {error}, so no request is logged", me(), path.display());
            report.problem("audit log", message, writable_remedy(probed));
        }
    }
}

fn check_cache(site: &Site, report: &mut Report) {
    let Some(directory) = variable("ARTIFACTS_CACHE").map(PathBuf::from) else { return };
    let shown = directory.clone();
    let settings = cache::Settings { directory, bytes: 1, patience: cache::Patience::default() };
    match Cache::open(&settings, site.now).map(|cache| cache.and_then(|cache| cache.cannot_keep())) {
        Ok(None) => report.ok("cache", format!("{} can keep packs in '{}'", me(), shown.display())),
        Ok(Some(reason)) | Err(reason) => report.problem("cache", reason, writable_remedy(&shown)),
    }
}

fn writable_remedy(path: &Path) -> String {
    format!(
        "make {} writable for {} only; under systemd's ProtectSystem=, list it in LogsDirectory=, CacheDirectory= or ReadWritePaths=",
        quoted(path),
        me()
    )
}

fn check_root(site: &Site, mode: AccessMode, report: &mut Report) {
    let subject = "root";
    let Some(root) = &site.root else {
        let remedy = "give --root here, and set GIT_PROJECT_ROOT in the web server's configuration";
        return report.problem(subject, "the directory of the repositories is not known".into(), remedy.into());
    };
    let metadata = match fs::metadata(root) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => {
            let remedy = "name the directory that holds the namespaces".into();
            return report.problem(subject, format!("'{}' is not a directory", root.display()), remedy);
        }
        Err(error) => {
            let remedy = format!("mkdir -p {}", quoted(root));
            return report.problem(subject, format!("'{}': {error}", root.display()), remedy);
        }
    };
    let owner = user_name(metadata.uid());
    if metadata.uid() != own_uid() {
        report.warning(
            subject,
            format!("'{}' belongs to {owner}, but this check runs as {}", root.display(), me()),
            format!("if the web server runs this program as {owner}: sudo -u {owner} artifacts-http-backend check …"),
        );
    }
    if mode == AccessMode::WebServer {
        // Here paths may lead to repositories anywhere, so they are not listed.
        return report.ok(subject, format!("'{}' belongs to {owner}", root.display()));
    }
    let remedy = |path: &Path| format!("allow {} to read and enter it, for example: chmod u+rx {}", me(), quoted(path));
    let found = match create::list(root) {
        Ok(found) => {
            let names = count(found.names.len(), "repository", "repositories");
            report.ok(subject, format!("'{}' belongs to {owner} and has {names}", root.display()));
            found
        }
        Err(error) => {
            report.problem(subject, format!("{error:#}"), remedy(root));
            create::Found::default()
        }
    };
    for (path, error) in &found.unreadable {
        let message = format!("'{}' and everything in it cannot be read: {error}", path.display());
        report.warning(subject, message, format!("if it should contain repositories, {}", remedy(path)));
    }
    if metadata.mode() & 0o002 != 0 {
        let message = format!("everybody on this machine may write to '{}'", root.display());
        report.warning(subject, message, format!("chmod o-w {}", quoted(root)));
    }
    for path in found.leftovers {
        let message = format!("'{}' was left by a creation or removal that did not finish", path.display());
        report.warning(subject, message, format!("rm -r {}", quoted(&path)));
    }
}

fn check_store(site: &Site, report: &mut Report) -> anyhow::Result<()> {
    let subject = "tokens";
    if site.root.is_none() && site.tokens.is_none() {
        return Ok(());
    }
    let store = site.store()?;
    let directory = store.directory();
    let metadata = match fs::metadata(directory) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let message = format!("there is no token store '{}' yet, so every token is refused", directory.display());
            report.warning(subject, message, "artifacts-http-backend token create <namespace>/<name>".into());
            return Ok(());
        }
        Err(error) => {
            let remedy = format!("allow {} to enter its parent directories", me());
            report.problem(subject, format!("'{}': {error}", directory.display()), remedy);
            return Ok(());
        }
    };
    let (owner, mode) = (user_name(metadata.uid()), metadata.mode() & 0o7777);
    if mode & 0o007 != 0 {
        report.warning(
            subject,
            format!("everybody on this machine may enter the store '{}' (mode {mode:04o})", directory.display()),
            format!("chmod o= {}", quoted(directory)),
        );
    }
    match fs::read_dir(directory) {
        Ok(_) => {
            report.ok(subject, format!("the store '{}' belongs to {owner}, mode {mode:04o}", directory.display()));
        }
        Err(error) => report.problem(
            subject,
            format!(
                "the store '{}' (of {owner}, mode {mode:04o}) cannot be read by {}: {error}",
                directory.display(),
                me()
            ),
            "create the tokens as the web server's user, or give the store to that user's group before the first token: \
             chgrp <group> and chmod 0750"
                .into(),
        ),
    }
    Ok(())
}

/// A function that finds a repository in the way requests do.
type Find<'f> = &'f dyn Fn(&Search<'_>) -> Place;

fn check_repository(git_dir: &Path, name: &str, search: &Search<'_>, find: Find<'_>, report: &mut Report) -> Place {
    let subject = "repository";
    let place = find(search);
    match &place {
        Place::Here(here) => {
            let message =
                format!("'{}' can be opened; object format {}", git_dir.display(), here.settings.object_format);
            report.ok(subject, message);
            check_trust(git_dir, search, find, report);
            check_rights(&here.common_dir, report);
        }
        Place::Absent => report_absent(git_dir, name, search.mode, report),
        Place::Unusable(error) => {
            // If it can be opened when its owner is not checked, the owner is the only problem.
            let without_owner = find(&Search { check_owner: false, ..*search });
            let of_a_stranger = matches!(without_owner, Place::Here(_));
            if of_a_stranger {
                let owner = fs::metadata(git_dir).map_or(String::from("another user"), |found| user_name(found.uid()));
                let shown = fs::canonicalize(git_dir).unwrap_or_else(|_| git_dir.to_owned());
                report.problem(
                    subject,
                    format!(
                        "detected dubious ownership: '{}' belongs to {owner}, but this check runs as {}",
                        git_dir.display(),
                        me()
                    ),
                    trust(&shown),
                );
            } else {
                let remedy = "fix what the message names; every request is refused until then";
                report.problem(subject, format!("{error:#}"), remedy.into());
            }
        }
    }
    place
}

/// Without tokens only exported repositories are served (HB-18, HB-19).
fn check_export(place: &Place, report: &mut Report) {
    if let Place::Here(here) = place
        && !here.export_ok
        && std::env::var_os("GIT_HTTP_EXPORT_ALL").is_none()
    {
        let file = here.git_dir.join("git-daemon-export-ok");
        let message = format!("it is not exported, so requests get a 404: there is no '{}'", file.display());
        report.problem("repository", message, format!("touch {}, or set GIT_HTTP_EXPORT_ALL", quoted(&file)));
    }
}

/// The command by which a repository of another user is trusted, even if the web server does not set HOME.
fn trust(git_dir: &Path) -> String {
    format!("git config --system --add safe.directory {}", quoted(git_dir))
}

/// The user who runs the check has HOME set, but a CGI program mostly has not: Apache does not pass it.
fn check_trust(git_dir: &Path, search: &Search<'_>, find: Find<'_>, report: &mut Report) {
    if search.config.home.is_none() || variable("GIT_CONFIG_GLOBAL").is_some() {
        return;
    }
    let homeless = ConfigSources { global: Vec::new(), home: None, ..search.config.clone() };
    if let Place::Unusable(_) = find(&Search { config: &homeless, ..*search }) {
        let shown = fs::canonicalize(git_dir).unwrap_or_else(|_| git_dir.to_owned());
        report.warning(
            "repository",
            format!("it opens only because of the configuration in {}'s home directory; a web server may run this program without HOME", me()),
            trust(&shown),
        );
    }
}

fn report_absent(git_dir: &Path, name: &str, mode: AccessMode, report: &mut Report) {
    let subject = "repository";
    if !git_dir.exists() {
        let remedy = match mode {
            AccessMode::Tokens => format!("artifacts-http-backend repo create {name}"),
            _ => format!("git init --bare {}", quoted(git_dir)),
        };
        return report.problem(subject, format!("'{}' does not exist", git_dir.display()), remedy);
    }
    let missing: Vec<_> = ["HEAD", "objects", "refs"].into_iter().filter(|part| !git_dir.join(part).exists()).collect();
    let message = if missing.is_empty() {
        format!("'{}' is not a repository: its HEAD is damaged", git_dir.display())
    } else {
        format!("'{}' is not a repository: it has no {}", git_dir.display(), missing.join(", no "))
    };
    let remedy = format!("git -C {} init --bare, or restore it from a backup", quoted(git_dir));
    report.problem(subject, message, remedy);
}

/// Fetches read these directories, and pushes write below them.
fn check_rights(common_dir: &Path, report: &mut Report) {
    for path in ["", "objects", "refs", "refs/heads"].map(|part| common_dir.join(part)) {
        if path.exists() && rustix::fs::access(&path, Access::READ_OK | Access::EXEC_OK).is_err() {
            return report.problem(
                "repository",
                format!("{} cannot read '{}', so fetches and pushes fail", me(), path.display()),
                format!("allow {} to read and enter it, for example: chmod u+rwx {}", me(), quoted(&path)),
            );
        }
        if path.exists()
            && let Err(error) = rustix::fs::access(&path, Access::WRITE_OK | Access::EXEC_OK)
        {
            let message = format!("{} cannot write to '{}', so pushes fail", me(), path.display());
            return report.warning("repository", message, remedy_of_writing(error, common_dir));
        }
    }
}

fn remedy_of_writing(error: Errno, common_dir: &Path) -> String {
    if error == Errno::ROFS {
        return "mount that file system for writing, or set artifacts.readOnly if only fetches are intended".into();
    }
    let owner = fs::metadata(common_dir).map_or(String::from("<user>"), |found| user_name(found.uid()));
    format!("chown -R {owner} {}", quoted(common_dir))
}

fn check_tokens(site: &Site, name: &RepositoryName, place: &Place, report: &mut Report) -> anyhow::Result<()> {
    let subject = "tokens";
    let listing = match site.store()?.list(name.as_str()) {
        Ok(listing) => listing,
        Err(error) => {
            let remedy = format!("allow {} to read it", me());
            report.problem(subject, format!("{error:#}"), remedy);
            return Ok(());
        }
    };
    for (path, error) in &listing.unreadable {
        let message = format!("'{}' is not a token: {error:#}", path.display());
        report.warning(subject, message, format!("repair it, or rm {}", quoted(path)));
    }
    let id = match place {
        Place::Here(here) => here.settings.artifacts_id.as_ref().map(ToString::to_string),
        Place::Absent => None,
        Place::Unusable(_) => match create::artifacts_id(&name.git_dir(root_of(site))) {
            Ok(id) => id.map(|id| id.to_string()),
            // Which tokens belong to this very repository depends on its configuration, which cannot be read.
            Err(_) => return Ok(()),
        },
    };
    let (own, foreign): (Vec<_>, Vec<_>) = listing.records.iter().partition(|record| record.matches(id.as_deref()));
    let active = in_state(&own, TokenState::Active, site.now);
    let message = format!(
        "{name} has {} active, {} expired and {} revoked",
        count(active.len(), "token", "tokens"),
        in_state(&own, TokenState::Expired, site.now).len(),
        in_state(&own, TokenState::Revoked, site.now).len(),
    );
    match active.iter().map(|record| record.expires_at).max() {
        Some(last) => report.ok(subject, format!("{message}; the last one expires {}", timestamp(last))),
        None => report.warning(subject, message, format!("artifacts-http-backend token create {name}")),
    }
    if !foreign.is_empty() {
        report.warning(
            subject,
            format!("{} for an earlier repository of this name", count(foreign.len(), "token is", "tokens are")),
            "they are refused; `token prune` removes them once they have expired".into(),
        );
    }
    Ok(())
}

fn in_state<'a>(records: &[&'a TokenRecord], state: TokenState, now: u64) -> Vec<&'a TokenRecord> {
    records.iter().copied().filter(|record| record.state(now) == state).collect()
}

/// How a git client is answered in `tokens` mode.
fn requests(place: &Place) -> Vec<Request> {
    let (without, reading, writing) = match place {
        Place::Here(here) => decisions(here),
        Place::Absent => (["401"; 2], ["404"; 2], ["404"; 2]),
        Place::Unusable(_) => (["401"; 2], ["refused: see the problems"; 2], ["refused: see the problems"; 2]),
    };
    [("none", without), ("a read token", reading), ("a write token", writing)]
        .map(|(credentials, [fetch, push])| Request { credentials, fetch, push })
        .into()
}

fn decisions(here: &Here) -> ([&'static str; 2], [&'static str; 2], [&'static str; 2]) {
    const SERVED: &str = "served";
    let settings = &here.settings;
    let fetch = if settings.http_uploadpack == Some(false) { "403 (http.uploadpack)" } else { SERVED };
    let push = if settings.http_receivepack == Some(false) {
        "403 (http.receivepack)"
    } else if settings.read_only {
        "403 (artifacts.readOnly)"
    } else {
        SERVED
    };
    let anonymous = if settings.anonymous_read { fetch } else { "401" };
    ([anonymous, "401"], [fetch, "403"], [fetch, push])
}

fn root_of(site: &Site) -> &Path {
    site.root.as_deref().unwrap_or(Path::new("/"))
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn me() -> String {
    user_name(own_uid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_helps_where_nothing_can_be_written_depends_on_why() {
        let directory = std::env::temp_dir();
        assert!(remedy_of_writing(Errno::ROFS, &directory).starts_with("mount that file system for writing,"));
        assert!(remedy_of_writing(Errno::ACCESS, &directory).starts_with("chown -R "));
    }
}

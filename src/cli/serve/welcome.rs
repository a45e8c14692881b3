//! What `serve` prints at the start: commands ready to paste.
//!
//! In: the root. Out: text. An empty root gets a demo repository and a token that may push; a root with repositories is
//! never changed.

use crate::auth::{Scope, TokenStore};
use crate::cli::{quoted, warn_of_unreadable};
use crate::repo::create::{self, Formats, RepositoryName};
use anyhow::Context as _;
use std::io::{self, Write};
use std::path::Path;

/// The repository that an empty root gets.
const DEMO: &str = "demo/hello";

/// The lifetime of the demo's token: long enough to come back to it.
const DEMO_TTL_S: u64 = 30 * 24 * 60 * 60;

/// Where tokens are stored below the root, unless $ARTIFACTS_TOKENS says otherwise.
pub(super) const TOKENS: &str = ".artifacts/tokens";

/// How many repositories are listed at most.
const LISTED_MAX: usize = 20;

/// What the server serves, and where.
pub(super) struct Site<'a> {
    pub(super) root: &'a Path,
    pub(super) tokens: &'a Path,
    pub(super) base_url: &'a str,
    /// Unix seconds.
    pub(super) now: u64,
}

/// Writes where the repositories are and how to use them with tokens.
///
/// # Errors
/// When the root cannot be read, or the demo cannot be created.
pub(super) fn write(out: &mut dyn Write, site: &Site<'_>) -> anyhow::Result<()> {
    serving(out, site)?;
    let found =
        create::list(site.root).with_context(|| format!("looking for repositories in {}", site.root.display()))?;
    warn_of_unreadable(&found);
    let example = match found.names.first() {
        Some(first) => {
            list(out, site, &found.names)?;
            first.clone()
        }
        None => {
            let name = RepositoryName::parse(DEMO).context("naming the demo repository")?;
            let plaintext =
                demo(site, &name).with_context(|| format!("creating {DEMO}.git in {}", site.root.display()))?;
            show_demo(out, site.base_url, &plaintext)?;
            name
        }
    };
    writeln!(out, "\nTo create a token:\n\n  {}", command(site, &format!("token create {example} --scope write")))?;
    Ok(())
}

/// Writes where the repositories are, which is all there is to say if git's own rules decide on access.
///
/// # Errors
/// What writing reports.
pub(super) fn serving(out: &mut dyn Write, site: &Site<'_>) -> io::Result<()> {
    writeln!(out, "Serving {} at {}/ (Ctrl-C stops it)", site.root.display(), site.base_url)
}

fn list(out: &mut dyn Write, site: &Site<'_>, found: &[RepositoryName]) -> io::Result<()> {
    writeln!(out, "\nRepositories:\n")?;
    for name in found.iter().take(LISTED_MAX) {
        writeln!(out, "  {}/{name}.git", site.base_url)?;
    }
    if found.len() > LISTED_MAX {
        writeln!(out, "  … and {} more", found.len() - LISTED_MAX)?;
    }
    Ok(())
}

/// Creates the demo repository and a write token for it.
fn demo(site: &Site<'_>, name: &RepositoryName) -> anyhow::Result<String> {
    let store = TokenStore::new(site.tokens.to_owned());
    // Tokens without an id, made for an earlier repository, would be valid for this one too.
    store.remove_unbound(name.as_str())?;
    let made = create::create(site.root, name, Formats::default())?;
    let token = store.create(name.as_str(), Some(&made.id), Scope::Write, DEMO_TTL_S, site.now)?;
    Ok(token.plaintext)
}

/// A command line of this program that works in another terminal.
fn command(site: &Site<'_>, arguments: &str) -> String {
    let program = std::env::args_os().next().map_or_else(|| env!("CARGO_PKG_NAME").into(), std::path::PathBuf::from);
    let mut flags = format!("--root {}", quoted(site.root));
    if site.tokens != site.root.join(TOKENS) {
        flags += &format!(" --tokens {}", quoted(site.tokens));
    }
    format!("{} {arguments} {flags}", quoted(&program))
}

fn show_demo(out: &mut dyn Write, base_url: &str, plaintext: &str) -> io::Result<()> {
    let header = format!("-c http.extraHeader=\"Authorization: Bearer {plaintext}\"");
    let secret = plaintext.split('?').next().unwrap_or_default();
    let remote = format!("{base_url}/{DEMO}.git");
    let with_secret = remote.replacen("://", &format!("://x:{secret}@"), 1);
    let days = DEMO_TTL_S / (24 * 60 * 60);
    writeln!(out, "\nIt was empty; it now contains {DEMO}.git, with a token that allows pushes for {days} days.")?;
    writeln!(out, "Paste this into another terminal, in an empty directory:\n")?;
    writeln!(out, "  git {header} clone {remote} hello")?;
    writeln!(out, "  echo hello >hello/README.md")?;
    writeln!(out, "  git -C hello add README.md")?;
    writeln!(out, "  git -C hello -c user.name=demo -c user.email=demo@localhost commit -m 'Say hello'")?;
    writeln!(out, "  git -C hello {header} push origin HEAD")?;
    writeln!(out, "\nThe same with the token as a password in the URL, which git then remembers:\n")?;
    writeln!(out, "  git clone {with_secret} hello-again")?;
    writeln!(
        out,
        "  git -C hello-again -c user.name=demo -c user.email=demo@localhost commit --allow-empty -m 'Say it again'"
    )?;
    writeln!(out, "  git -C hello-again push origin HEAD")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(root: &Path) -> String {
        let mut out = Vec::new();
        let site = Site { root, tokens: &root.join(TOKENS), base_url: "http://127.0.0.1:8080/git", now: 1_800_000_000 };
        write(&mut out, &site).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_empty_root_is_given_a_demo_once() {
        let root = std::env::temp_dir().join(crate::durable::unique("welcome"));
        std::fs::create_dir(&root).unwrap();
        let (first, second) = (written(&root), written(&root));
        let has_head = root.join("demo/hello.git/HEAD").is_file();
        let records = std::fs::read_dir(root.join(TOKENS).join("demo/hello.git")).unwrap().count();
        std::fs::remove_dir_all(&root).unwrap();
        assert!(has_head);
        assert_eq!(records, 1);
        assert!(first.contains("It was empty") && first.contains("Bearer art_v1_"), "{first}");
        assert!(
            second.contains("\n  http://127.0.0.1:8080/git/demo/hello.git\n") && !second.contains("art_v1_"),
            "{second}"
        );
        let command = format!("token create demo/hello --scope write --root {}\n", root.display());
        assert!(first.ends_with(&command) && second.ends_with(&command), "{second}");
    }

    #[test]
    fn the_token_stands_in_the_url_as_a_password() {
        let mut out = Vec::new();
        show_demo(&mut out, "http://127.0.0.1:8080/git", "art_v1_aa?expires=1").unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(out.contains("git clone http://x:art_v1_aa@127.0.0.1:8080/git/demo/hello.git hello-again\n"), "{out}");
        let header = "git -c http.extraHeader=\"Authorization: Bearer art_v1_aa?expires=1\"";
        assert!(out.contains(&format!("{header} clone http://127.0.0.1:8080/git/demo/hello.git hello\n")), "{out}");
    }
}

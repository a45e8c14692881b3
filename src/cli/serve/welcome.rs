//! What `serve` says when it begins: commands ready to paste.
//!
//! In: the root. Out: text. An empty root is given a demo repository and a token that may push.

use anyhow::Context as _;
use std::io::{self, Write};
use std::path::Path;

/// The repository an empty root is given.
const DEMO: &str = "demo/hello";

/// How long the demo's token lives: long enough to come back to it.
const DEMO_TTL_S: u64 = 30 * 24 * 60 * 60;

/// How many repositories are listed.
const LISTED_MAX: usize = 20;

/// How deep below the root repositories are looked for.
const DEPTH_MAX: usize = 6;

/// A token, as it is handed to a client.
struct Shown {
    /// For `Authorization: Bearer`.
    plaintext: String,
    /// For the password's place in a URL.
    secret: String,
}

/// Writes where the repositories are and how to use them.
///
/// # Errors
/// When the root cannot be read, or the demo cannot be made.
pub(super) fn write(out: &mut dyn Write, root: &Path, base_url: &str, with_tokens: bool) -> anyhow::Result<()> {
    writeln!(out, "Serving {} at {base_url}/ (Ctrl-C ends it)", root.display())?;
    let found = repositories(root).with_context(|| format!("looking for repositories in {}", root.display()))?;
    if !found.is_empty() {
        list(out, &found, base_url, with_tokens)?;
    } else if with_tokens {
        let token = demo(root).with_context(|| format!("making {DEMO}.git in {}", root.display()))?;
        show_demo(out, base_url, &token)?;
    } else {
        writeln!(out, "\nThere is no repository yet.")?;
    }
    Ok(())
}

fn list(out: &mut dyn Write, found: &[String], base_url: &str, with_tokens: bool) -> io::Result<()> {
    writeln!(out, "\nRepositories:")?;
    for name in found.iter().take(LISTED_MAX) {
        writeln!(out, "  {base_url}/{name}.git")?;
    }
    if found.len() > LISTED_MAX {
        writeln!(out, "  … and {} more", found.len() - LISTED_MAX)?;
    }
    if with_tokens {
        writeln!(out, "\nA token for one of them:")?;
        writeln!(out, "  {} token create {} --scope write", this_executable(), found[0])?;
    }
    Ok(())
}

fn show_demo(out: &mut dyn Write, base_url: &str, token: &Shown) -> io::Result<()> {
    let header = format!("-c http.extraHeader=\"Authorization: Bearer {}\"", token.plaintext);
    let remote = format!("{base_url}/{DEMO}.git");
    let with_secret = remote.replacen("://", &format!("://x:{}@", token.secret), 1);
    let days = DEMO_TTL_S / (24 * 60 * 60);
    writeln!(out, "\nIt was empty; now it has {DEMO}.git, and a token that may push to it for {days} days.")?;
    writeln!(out, "Paste this in another terminal, in an empty directory:\n")?;
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
    writeln!(out, "\nMore tokens:\n  {} token create {DEMO} --scope read", this_executable())
}

/// As somebody would type it here.
fn this_executable() -> String {
    std::env::args_os().next().map_or_else(|| env!("CARGO_PKG_NAME").into(), |name| name.to_string_lossy().into_owned())
}

/// Makes the demo repository and a write token for it.
fn demo(root: &Path) -> anyhow::Result<Shown> {
    let _ = (root, DEMO_TTL_S);
    unimplemented!()
}

/// The names of the repositories below `root`, without `.git`, sorted.
fn repositories(root: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    look(root, "", DEPTH_MAX, &mut found)?;
    found.sort();
    Ok(found)
}

fn look(directory: &Path, above: &str, depth: usize, found: &mut Vec<String>) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        if !entry.file_type()?.is_dir() {
            continue;
        }
        if let Some(repository) = name.strip_suffix(".git") {
            found.push(format!("{above}{repository}"));
        } else if depth > 1 {
            // A directory of somebody else's is none of ours: it is passed over, not an error.
            let _ = look(&entry.path(), &format!("{above}{name}/"), depth - 1, found);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_found_below_namespaces() {
        let root = std::env::temp_dir().join(format!("welcome-{}", std::process::id()));
        for path in ["b/two.git/objects/x.git", "a/deep/one.git", ".artifacts/tokens/a/deep/one.git", "empty"] {
            std::fs::create_dir_all(root.join(path)).unwrap();
        }
        std::fs::write(root.join("file.git"), "").unwrap();
        let found = repositories(&root).unwrap();
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(found, ["a/deep/one", "b/two"]);
    }

    #[test]
    fn the_token_stands_in_the_url_as_a_password() {
        let mut out = Vec::new();
        let token = Shown { plaintext: "art_v1_aa?expires=1".into(), secret: "art_v1_aa".into() };
        show_demo(&mut out, "http://127.0.0.1:8080/git", &token).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(out.contains("git clone http://x:art_v1_aa@127.0.0.1:8080/git/demo/hello.git hello-again\n"), "{out}");
        let clone = "git -c http.extraHeader=\"Authorization: Bearer art_v1_aa?expires=1\" clone http://127.0.0.1:8080/git/demo/hello.git hello\n";
        assert!(out.contains(clone), "{out}");
    }
}

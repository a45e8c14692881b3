//! Object directories that a repository borrows from: `info/alternates`.
//!
//! In: object directories, or the text of a list. Out: paths of directories to borrow from. No object is looked for
//! here.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How deeply alternates files are followed, as in git; a repository's own file has depth 0.
const DEPTH_MAX: usize = 5;

/// Parses a list of paths separated by `separator`. `#` begins a comment, and a path in double quotes has C escapes.
/// Empty paths are left out.
pub fn parse(list: &[u8], separator: u8) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let mut rest = list;
    while !rest.is_empty() {
        // A path with broken quoting is taken literally, as in git.
        let (path, used) = match unquote(rest) {
            Some((path, used)) if rest.get(used).is_none_or(|byte| *byte == separator) => (path, used),
            _ => {
                let end = rest.iter().position(|byte| *byte == separator).unwrap_or(rest.len());
                (rest[..end].to_vec(), end)
            }
        };
        if !path.is_empty() && rest[0] != b'#' {
            paths.push(PathBuf::from(OsStr::from_bytes(&path)));
        }
        rest = rest.get(used + 1..).unwrap_or_default();
    }
    paths
}

/// Parses a string in double quotes at the beginning of `bytes`. Returns also how many bytes it took.
fn unquote(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    if bytes.first() != Some(&b'"') {
        return None;
    }
    let mut out = Vec::new();
    let mut at = 1;
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        match byte {
            b'"' => return Some((out, at)),
            b'\\' => {
                let escaped = *bytes.get(at)?;
                at += 1;
                out.push(match escaped {
                    b'a' => 7,
                    b'b' => 8,
                    b't' => b'\t',
                    b'n' => b'\n',
                    b'v' => 11,
                    b'f' => 12,
                    b'r' => b'\r',
                    b'\\' | b'"' => escaped,
                    b'0'..=b'3' => {
                        let digits = bytes.get(at..at + 2)?;
                        at += 2;
                        if !digits.iter().all(|digit| matches!(digit, b'0'..=b'7')) {
                            return None;
                        }
                        ((escaped - b'0') << 6) | ((digits[0] - b'0') << 3) | (digits[1] - b'0')
                    }
                    _ => return None,
                });
            }
            other => out.push(other),
        }
    }
}

/// All alternates of `owners`: first `borrowed`, then those their files name, in depth-first order, each once and
/// without `owners`. Adds to `warnings` what is left out for reasons the operator should know.
pub(super) fn alternates_of(
    owners: &[PathBuf],
    borrowed: &[PathBuf],
    warnings: &mut Vec<String>,
) -> io::Result<Vec<PathBuf>> {
    // The usual case needs only a stat per directory: paths are resolved only if there is something to compare.
    let is_absent = |owner: &PathBuf| {
        fs::metadata(owner.join("info/alternates")).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    if borrowed.is_empty() && owners.iter().all(is_absent) {
        return Ok(Vec::new());
    }
    let mut known: Vec<PathBuf> = owners.iter().map(|owner| real(owner)).collect();
    let first = known.len();
    for path in borrowed {
        add(path, "the list of alternates", 0, &mut known, warnings)?;
    }
    for owner in owners {
        follow(owner, 0, &mut known, warnings)?;
    }
    Ok(known.split_off(first))
}

/// Adds the alternates that a directory's own file names. Recursion ends at [`DEPTH_MAX`].
fn follow(directory: &Path, depth: usize, known: &mut Vec<PathBuf>, warnings: &mut Vec<String>) -> io::Result<()> {
    let file = directory.join("info/alternates");
    let list = match fs::read(&file) {
        Ok(list) => list,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        Err(error) => return Err(error),
    };
    let paths = parse(&list, b'\n');
    if depth > DEPTH_MAX && !paths.is_empty() {
        warnings.push(format!("{}: ignoring alternate object stores, nesting too deep", directory.display()));
        return Ok(());
    }
    for path in paths {
        add(&directory.join(path), &file.to_string_lossy(), depth, known, warnings)?;
    }
    Ok(())
}

fn add(
    path: &Path,
    named_in: &str,
    depth: usize,
    known: &mut Vec<PathBuf>,
    warnings: &mut Vec<String>,
) -> io::Result<()> {
    let path = real(path);
    if !path.is_dir() {
        warnings.push(format!("object directory {} does not exist; check {named_in}", path.display()));
    } else if !known.contains(&path) {
        known.push(path.clone());
        follow(&path, depth + 1, known, warnings)?;
    }
    Ok(())
}

/// The canonical path of a directory, to detect duplicates; of a missing one, the path as given.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &str, expected: &[&str]) {
        let paths: Vec<_> = parse(list.as_bytes(), b'\n').iter().map(|path| path.display().to_string()).collect();
        assert_eq!(paths, expected);
    }

    #[test]
    fn a_list_has_comments_quotes_and_plain_paths() {
        check("", &[]);
        check("/a\n/b", &["/a", "/b"]);
        check("# no\n\n../c\n", &["../c"]);
        check("\"/with\\nline\\\\\\\"\\101\"\n/b\n", &["/with\nline\\\"A", "/b"]);
        check("\"unfinished\n/b\n", &["\"unfinished", "/b"]);
        check("\"/a\"x\n/b\n", &["\"/a\"x", "/b"]);
        assert_eq!(parse(b"/a:\"/b:c\":d", b':'), ["/a", "/b:c", "d"].map(PathBuf::from));
    }
}

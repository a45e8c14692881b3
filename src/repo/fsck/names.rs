//! Names that some file systems take for one of git's own files.
//!
//! In: the name of a tree entry. Out: whether it is such a name. HFS+ ignores case and some code points. NTFS ignores
//! case and trailing dots and spaces, takes `:` for the beginning of a stream, and has short names. A checkout of such
//! a tree on one of them would write into `.git`.

/// One of git's files in a work tree, and the beginning of the short name that NTFS may give it.
struct Special {
    name: &'static [u8],
    short: &'static [u8],
}

const GITMODULES: Special = Special { name: b"gitmodules", short: b"gi7eba" };
const GITATTRIBUTES: Special = Special { name: b"gitattributes", short: b"gi7d29" };
const GITIGNORE: Special = Special { name: b"gitignore", short: b"gi250a" };
const MAILMAP: Special = Special { name: b"mailmap", short: b"maba30" };

/// Whether a name can be any of those below; rules out nearly all names at little cost.
pub(super) fn may_be_special(name: &[u8]) -> bool {
    // A dot, the first byte of a short name, or the first byte of the code points that HFS+ ignores.
    matches!(name.first(), Some(b'.' | b'~' | b'g' | b'G' | b'm' | b'M' | 0xe2 | 0xef))
}

/// Whether HFS+ or NTFS takes the name for `.git`.
pub(super) fn is_dotgit(name: &[u8]) -> bool {
    is_hfs_dot(name, b"git") || is_ntfs_dotgit(name)
}

/// Whether NTFS takes the name for `.git`. It also has to be asked for what follows a backslash, which separates
/// folders there.
pub(super) fn is_ntfs_dotgit(name: &[u8]) -> bool {
    let rest = match name.split_first_chunk::<4>() {
        Some((head, rest)) if head.eq_ignore_ascii_case(b".git") => rest,
        _ => match name.split_first_chunk::<5>() {
            Some((head, rest)) if head.eq_ignore_ascii_case(b"git~1") => rest,
            _ => return false,
        },
    };
    match rest.iter().find(|byte| !matches!(byte, b'.' | b' ')) {
        None => true,
        Some(byte) => matches!(byte, b'/' | b'\\' | b':'),
    }
}

/// Whether HFS+ or NTFS takes the name for `.gitmodules`.
pub(super) fn is_gitmodules(name: &[u8]) -> bool {
    GITMODULES.is(name)
}

/// Whether NTFS takes the name, or what follows a backslash in it, for `.gitmodules`.
pub(super) fn is_ntfs_gitmodules(name: &[u8]) -> bool {
    GITMODULES.is_on_ntfs(name)
}

/// Whether HFS+ or NTFS takes the name for `.gitattributes`.
pub(super) fn is_gitattributes(name: &[u8]) -> bool {
    GITATTRIBUTES.is(name)
}

/// Whether HFS+ or NTFS takes the name for `.gitignore`.
pub(super) fn is_gitignore(name: &[u8]) -> bool {
    GITIGNORE.is(name)
}

/// Whether HFS+ or NTFS takes the name for `.mailmap`.
pub(super) fn is_mailmap(name: &[u8]) -> bool {
    MAILMAP.is(name)
}

impl Special {
    fn is(&self, name: &[u8]) -> bool {
        is_hfs_dot(name, self.name) || self.is_on_ntfs(name)
    }

    fn is_on_ntfs(&self, name: &[u8]) -> bool {
        let ends = |rest: &[u8]| match rest.iter().find(|byte| !matches!(byte, b'.' | b' ')) {
            None => true,
            Some(byte) => *byte == b':',
        };
        if let Some(rest) = name.strip_prefix(b".")
            && let Some((head, rest)) = rest.split_at_checked(self.name.len())
            && head.eq_ignore_ascii_case(self.name)
        {
            return ends(rest);
        }
        let Some((short, rest)) = name.split_first_chunk::<8>() else { return false };
        // Short names are the first six letters and a number up to four; after that NTFS uses letters of a checksum.
        if short[..6].eq_ignore_ascii_case(&self.name[..6]) && short[6] == b'~' && matches!(short[7], b'1'..=b'4') {
            return ends(rest);
        }
        let Some(tilde) = short.iter().position(|byte| *byte == b'~') else { return false };
        tilde <= 6
            && short[..tilde].eq_ignore_ascii_case(&self.short[..tilde])
            && matches!(short.get(tilde + 1), Some(b'1'..=b'9'))
            && short[tilde + 2..].iter().all(u8::is_ascii_digit)
            && ends(rest)
    }
}

/// Whether HFS+ takes `name` for a dot followed by `needle`.
fn is_hfs_dot(name: &[u8], needle: &[u8]) -> bool {
    let mut rest = name;
    let mut next = || loop {
        let (char, size) = bstr::decode_utf8(rest);
        rest = &rest[size..];
        match char {
            // HFS+ ignores these completely.
            Some('\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}') => {}
            // The end of the name. For git, invalid UTF-8 ends a name too, and these two code points count as invalid.
            None | Some('\u{fffe}' | '\u{ffff}') => return '\0',
            Some(char) => return char,
        }
    };
    next() == '.'
        && needle.iter().all(|byte| next().to_ascii_lowercase() == char::from(*byte))
        && matches!(next(), '\0' | '/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_dot_git_are_found() {
        let check = |name: &str, expected: bool| {
            assert_eq!(is_dotgit(name.as_bytes()), expected, "{name:?}");
            assert!(!expected || may_be_special(name.as_bytes()), "{name:?}");
        };
        for name in [
            ".git",
            ".GIT",
            ".gIt",
            "git~1",
            "GIT~1",
            ".git.",
            ".git ",
            ".git. .",
            ".git::$INDEX_ALLOCATION",
            ".git/x",
            ".git\\x",
            ".g\u{200c}it",
            "\u{200d}.git",
            ".git\u{feff}",
            ".G\u{206a}iT",
        ] {
            check(name, true);
        }
        for name in ["git", ".gi", ".gitx", ".git x", "git~2", "git~10", "x.git", ".g\u{e9}it", ".git.x", ""] {
            check(name, false);
        }
        // Invalid UTF-8 ends a name.
        assert!(is_dotgit(b".git\xffx") && is_dotgit(b".git\xef\xbf\xbfx"));
        assert!(!is_dotgit(b".g\xffit") && !is_dotgit(b"\xff.git"));
    }

    #[test]
    fn spellings_of_dot_gitmodules_are_found() {
        let check = |name: &str, expected: bool| {
            assert_eq!(is_gitmodules(name.as_bytes()), expected, "{name:?}");
            assert!(!expected || may_be_special(name.as_bytes()), "{name:?}");
        };
        for name in [
            ".gitmodules",
            ".GITMODULES",
            ".gitmodules ",
            ".gitmodules.",
            ".gitmodules:x",
            "GITMOD~1",
            "gitmod~4",
            "gi7eba~1",
            "GI7EBA~9",
            "gi7eb~10",
            "gi~12345",
            "~1000000",
            ".git\u{200c}modules",
        ] {
            if name.starts_with('~') {
                // A short name may consist of a tilde and a number alone; git counts it as well.
                assert!(is_gitmodules(name.as_bytes()), "{name:?}");
                continue;
            }
            check(name, true);
        }
        for name in
            [".gitmodule", ".gitmodulesx", "gitmod~5", "gi7eba~0", "gi7ebax1", "gi7eb~1x", "gi7eba", ".gitmodules x"]
        {
            check(name, false);
        }
    }
}

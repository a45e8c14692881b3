//! Names of refs as bytes: which are well-formed, which are safe as paths, which belong to one worktree.
//!
//! In: names. Out: yes or no. The disk is never looked at.

use bstr::{BStr, ByteSlice};
use wide::u8x16;

/// A byte that is valid in some places only.
const SPECIAL: u8 = 1;
/// A byte that no name contains.
const FORBIDDEN: u8 = 2;
/// The separator of components.
const SLASH: u8 = 4;
/// Two separators in a row.
const EMPTY_COMPONENT: u8 = SLASH << 1;
/// The class of each byte; 0 for an ordinary one.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut control = 0;
    while control <= b' ' as usize {
        classes[control] = FORBIDDEN;
        control += 1;
    }
    let forbidden = b"\x7f~^:?*[\\";
    let mut at = 0;
    while at < forbidden.len() {
        classes[forbidden[at] as usize] = FORBIDDEN;
        at += 1;
    }
    let special = b".{";
    at = 0;
    while at < special.len() {
        classes[special[at] as usize] = SPECIAL;
        at += 1;
    }
    classes[b'/' as usize] = SLASH;
    classes
};

/// Whether a name is well-formed (git-check-ref-format, with `--allow-onelevel`).
///
/// Every row of every listing is checked here; hence one pass over a table without branches, instead of a general
/// parser.
pub(super) fn is_valid(name: &[u8]) -> bool {
    let (mut seen, mut before) = (0, SLASH);
    for &byte in name {
        let class = CLASSES[usize::from(byte)];
        seen |= class | (class & before & SLASH) << 1;
        before = class;
    }
    if seen & (FORBIDDEN | EMPTY_COMPONENT) != 0 || before == SLASH {
        return false;
    }
    seen & SPECIAL == 0 && name != b"@" || seen & SPECIAL != 0 && are_specials_in_place(name)
}

/// Whether a ref may have this name: it is well-formed, and its path stays below `refs/` or is a root ref such as HEAD.
pub fn is_ref_name(name: &BStr) -> bool {
    is_valid(name) && is_safe(name)
}

/// The length of a prefix's directory with its slash, if that is well-formed, else 0. Of names below it only the rest
/// needs checking.
pub(super) fn well_formed_directory(prefix: &[u8]) -> usize {
    let directory = prefix.rfind_byte(b'/').unwrap_or(0);
    if is_valid(&prefix[..directory]) { directory + 1 } else { 0 }
}

/// The length of a name that ends in a newline, or of the rest of one after a directory, if a quick check finds it
/// well-formed: letters, digits, `-`, `_`, and dots and slashes that do not touch. `None` decides nothing; the name may
/// be well-formed all the same.
///
/// Rows of packed-refs are examined sixteen bytes at a time, which finds the end of a name and checks it in one pass
/// without a branch for each byte.
pub(super) fn plain_line(text: &[u8]) -> Option<usize> {
    const CHUNK: usize = 16;
    // Whether the byte before these was a dot or a slash. It starts as 1, because a name begins with neither.
    let mut before = 1;
    for (number, bytes) in text.as_chunks::<CHUNK>().0.iter().enumerate() {
        // One bit for each byte, the lowest for the first.
        let bytes = u8x16::from(*bytes);
        let among = |first: u8, last: u8| among(bytes, first, last);
        // The character between `_` and `a`, the backtick, is valid too.
        let plain = (among(b'-', b'9') | among(b'A', b'Z') | among(b'_', b'z')).to_bitmask();
        let other = !plain & ((1 << CHUNK) - 1);
        // The bytes up to the first that is something else, and that one.
        let ours = other ^ other.wrapping_sub(1);
        let stops = (among(b'.', b'/').to_bitmask() | other) & ours;
        if stops & (stops << 1 | before) != 0 {
            return None;
        }
        before = stops >> (CHUNK - 1);
        let mut dots = bytes.simd_eq(u8x16::splat(b'.')).to_bitmask() & ours;
        while dots != 0 {
            let dot = number * CHUNK + dots.trailing_zeros() as usize;
            if text[dot..].starts_with(b".lock") {
                return None;
            }
            dots &= dots - 1;
        }
        if other != 0 {
            let end = number * CHUNK + other.trailing_zeros() as usize;
            return (text[end] == b'\n').then_some(end);
        }
    }
    None
}

/// Which of these bytes are in the range `first` to `last`, both included.
pub(super) fn among(bytes: u8x16, first: u8, last: u8) -> u8x16 {
    let distance = bytes - u8x16::splat(first);
    distance.simd_eq(distance.min(u8x16::splat(last - first)))
}

/// Whether dots and braces occur only where they are allowed.
fn are_specials_in_place(name: &[u8]) -> bool {
    let is_component = |component: &[u8]| !component.starts_with(b".") && !component.ends_with(b".lock");
    name.split(|byte| *byte == b'/').all(is_component)
        && !name.ends_with(b".")
        && name.windows(2).all(|pair| pair != b".." && pair != b"@{")
}

/// Whether a name, well-formed or not, can be a path that stays below `refs/`; such a ref may at least be deleted.
pub(super) fn is_safe(name: &[u8]) -> bool {
    match name.strip_prefix(b"refs/") {
        Some(rest) => {
            !name.contains(&0)
                && !rest.ends_with(b".lock")
                && rest.split(|byte| *byte == b'/').all(|component| !matches!(component, b"" | b"." | b".."))
        }
        None => is_root(name),
    }
}

/// Whether a name has the form of a root ref such as HEAD, whose file is in the git directory itself.
pub(super) fn is_root(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_'))
}

/// Whether a ref belongs to one worktree (HEAD, refs/worktree/, refs/bisect/, refs/rewritten/).
pub fn is_per_worktree(name: &BStr) -> bool {
    match name.strip_prefix(b"refs/") {
        Some(rest) => PER_WORKTREE.iter().any(|directory| rest.starts_with(directory)),
        None => true,
    }
}

/// The directories below `refs/` that each worktree has of its own.
pub(super) const PER_WORKTREE: [&[u8]; 3] = [b"bisect/", b"rewritten/", b"worktree/"];

/// The names above a name that could be refs themselves: for `refs/heads/a/b/c` these are `refs/heads/a` and
/// `refs/heads/a/b`.
///
/// Neither `refs` nor `refs/heads` and the like are ever refs, but `refs/x` can be, as refs/stash shows.
pub(super) fn parents(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    name.find_iter(b"/").map(|slash| &name[..slash]).filter(|parent| {
        !matches!(
            *parent,
            b"refs" | b"refs/heads" | b"refs/tags" | b"refs/remotes" | b"refs/notes" | b"refs/namespaces"
        )
    })
}

/// The directories above a name that are removed once they are empty, topmost first: all but `refs` and its direct
/// children.
pub(super) fn directories(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    name.find_iter(b"/").skip(2).map(|slash| &name[..slash])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_git_judges_them() {
        let check = |name: &str, expected: bool| {
            assert_eq!(is_valid(name.as_bytes()), expected, "{name:?}");
            let git = gix_validate::reference::name_partial(name.into()).is_ok();
            assert_eq!(git, expected, "{name:?} as the validator sees it");
        };
        for good in
            ["refs/heads/main", "HEAD", "refs/tags/v1.0", "refs/heads/a@b", "refs/heads/@", "a/b{", "x.locked/y"]
        {
            check(good, true);
        }
        for bad in [
            "", "@", "/a", "a/", "a//b", "a..b", ".a", "a/.b", "a.", "a.lock", "a.lock/b", "a b", "a~", "a^", "a:b",
            "a?", "a*", "a[", "a\\b", "a@{b", "a\u{7f}", "a\tb", "a\0b",
        ] {
            check(bad, false);
        }
        check("refs/heads/\u{fc}ber", true);
    }

    #[test]
    fn a_plain_name_is_measured_and_any_other_looked_at_closer() {
        let check = |name: &str, expected: bool| {
            let line = format!("{name}\n^0123456789abcdef");
            assert_eq!(plain_line(line.as_bytes()), expected.then_some(name.len()), "{name:?}");
            assert!(!expected || is_valid(name.as_bytes()), "{name:?}");
        };
        for rest in ["", "1234567", "refs/heads/v1.0-rc_2/AZaz09`"] {
            // Every position of the beginning and the end in a sixteen-byte chunk.
            for length in 1..20 {
                let name = format!("{}{rest}", "a".repeat(length));
                check(&name, true);
                check(&format!("{name}.x/y"), true);
                check(&format!("{name}x.loc"), true);
                for bad in
                    ["..b", "//b", "/.b", "/", ".", ".lock", ".lock/b", ".locked", "./b", "\u{e9}", "@b", "{b", "+b"]
                {
                    check(&format!("{name}{bad}"), false);
                }
                for byte in 0..=u8::MAX {
                    let line = [name.as_bytes(), &[byte], b"b\n               "].concat();
                    let plain = byte.is_ascii_alphanumeric() || b"-_`./".contains(&byte);
                    let end = if byte == b'\n' { name.len() } else { name.len() + 2 };
                    assert_eq!(plain_line(&line), (plain || byte == b'\n').then_some(end), "{name:?} {byte}");
                }
            }
        }
        for bad in ["", "/a", ".a", "@"] {
            check(bad, false);
        }
        assert_eq!(plain_line(b"without-an-end--"), None);
    }

    #[test]
    fn only_well_formed_directories_need_not_be_judged_again() {
        let check = |prefix: &str, expected: &str| {
            assert_eq!(&prefix[..well_formed_directory(prefix.as_bytes())], expected, "{prefix}");
        };
        check("refs/heads/", "refs/heads/");
        check("refs/heads/top", "refs/heads/");
        check("refs/", "refs/");
        for prefix in ["", "refs", "/", "refs//", "refs/heads//x", "refs/x.lock/", "refs/.x/", "refs/a..b/c", "@/"] {
            check(prefix, "");
        }
    }

    #[test]
    fn unsafe_names_never_become_paths() {
        let check = |name: &str, expected: bool| assert_eq!(is_safe(name.as_bytes()), expected, "{name:?}");
        check("refs/heads/a..b", true);
        check("refs/heads/main", true);
        check("HEAD", true);
        check("refs/../config", false);
        check("refs/heads/..", false);
        check("refs//heads", false);
        check("refs/heads/x.lock", false);
        check("config", false);
        check("refs/heads/a\0b", false);
    }

    #[test]
    fn worktrees_have_their_own_head_and_bisect_refs() {
        let check = |name: &str, expected: bool| assert_eq!(is_per_worktree(name.into()), expected, "{name}");
        check("HEAD", true);
        check("refs/bisect/bad", true);
        check("refs/worktree/x", true);
        check("refs/rewritten/x", true);
        check("refs/bisection/x", false);
        check("refs/heads/main", false);
    }

    #[test]
    fn the_parents_of_a_name_are_those_that_could_be_refs() {
        let parents: Vec<&[u8]> = parents(b"refs/heads/a/b/c").collect();
        assert_eq!(parents, [b"refs/heads/a".as_slice(), b"refs/heads/a/b"]);
        assert_eq!(directories(b"refs/heads/a/b/c").collect::<Vec<_>>(), parents);
        assert_eq!(directories(b"refs/stash/x").count(), 0);
        assert_eq!(super::parents(b"refs/stash/x").collect::<Vec<_>>(), [b"refs/stash".as_slice()]);
    }
}

//! Sparse-checkout patterns: which paths a checkout would contain (gitignore).
//!
//! In: the lines of a pattern file. Out: for a path, whether the last pattern that matches includes it. No file is read
//! here.

use bstr::{BStr, BString, ByteSlice};
use gix_glob::wildmatch::{self, Mode};

/// Patterns in the order of their file; the last match decides.
#[derive(Debug, Clone, Default)]
pub struct Patterns(Vec<Pattern>);

#[derive(Debug, Clone)]
struct Pattern {
    /// The pattern without a leading `!` and without a trailing slash.
    text: BString,
    /// The length of the literal prefix, before the first special byte.
    literal: usize,
    /// It had a leading `!`: it excludes paths.
    negative: bool,
    /// It had a trailing slash.
    directories_only: bool,
    /// It has no other slash, and is matched against the last component of a path.
    about_names: bool,
    /// What is between its `**` components, if it has any.
    parts: Box<[Part]>,
}

/// Consecutive components of a pattern, which must match as many consecutive components of a path.
#[derive(Debug, Clone, Default)]
struct Part {
    text: BString,
    components: usize,
}

impl Patterns {
    /// Parses a pattern file, whose last line need not end in a newline.
    pub fn parse(text: &[u8]) -> Self {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let mut patterns = Vec::new();
        for line in text.split(|byte| *byte == b'\n') {
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let line = line.find_byte(0).map_or(line, |end| &line[..end]);
            patterns.push(Pattern::parse(without_trailing_spaces(line)));
        }
        Patterns(patterns)
    }

    /// The most path components that a pattern matches as a whole. Below this depth only names matter.
    pub(super) fn reach(&self) -> u64 {
        let reach = |pattern: &Pattern| match pattern.text.find(b"**") {
            _ if pattern.about_names => 0,
            Some(_) => u64::MAX,
            None => pattern.text.iter().filter(|byte| **byte == b'/').count() as u64 + 1,
        };
        self.0.iter().map(reach).max().unwrap_or(0)
    }

    /// The number of patterns.
    pub(super) fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// The bytes of all of them.
    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().map(|pattern| pattern.text.len() as u64).sum()
    }

    /// The number of stars in them. Each may be tried at every place of a path, and those between `**` more than once.
    pub(super) fn stars(&self) -> u64 {
        let stars = |pattern: &Pattern| {
            let each = if pattern.parts.is_empty() { 1 } else { 8 };
            pattern.text.iter().filter(|byte| **byte == b'*').count() as u64 * each
        };
        self.0.iter().map(stars).sum()
    }

    /// Whether a path is included; `None` if no pattern matches, so that its directory decides.
    pub fn matched(&self, path: &[u8], is_directory: bool) -> Option<bool> {
        let name = path.rfind_byte(b'/').map_or(path, |slash| &path[slash + 1..]);
        let last = self.0.iter().rev().find(|pattern| pattern.matches(path, name, is_directory));
        last.map(|pattern| !pattern.negative)
    }
}

impl Pattern {
    fn parse(line: &[u8]) -> Self {
        let (line, negative) = match line.strip_prefix(b"!") {
            Some(line) => (line, true),
            None => (line, false),
        };
        let (text, directories_only) = match line.strip_suffix(b"/") {
            Some(text) => (text, true),
            None => (line, false),
        };
        let literal = text.find_byteset(br"*?[\").unwrap_or(text.len());
        Pattern {
            text: text.into(),
            literal,
            negative,
            directories_only,
            about_names: !text.contains(&b'/'),
            parts: parts(&text[literal..]),
        }
    }

    fn matches(&self, path: &[u8], name: &[u8], is_directory: bool) -> bool {
        if self.directories_only && !is_directory {
            return false;
        }
        if self.about_names {
            return self.fits(&self.text, self.literal, name, Mode::empty());
        }
        // A leading slash only ties the pattern to the root.
        let (text, literal) = match self.text.strip_prefix(b"/") {
            Some(text) => (text, self.literal - 1),
            None => (self.text.as_bytes(), self.literal),
        };
        match &*self.parts {
            _ if path.is_empty() => false,
            [] => self.fits(text, literal, path, Mode::NO_MATCH_SLASH_LITERAL),
            // As in git, wildcard matching begins after the literal prefix.
            parts => path.strip_prefix(&text[..literal]).is_some_and(|rest| fit_in_turn(parts, rest)),
        }
    }

    fn fits(&self, text: &[u8], literal: usize, subject: &[u8], mode: wildmatch::Mode) -> bool {
        if literal == text.len() {
            return text == subject;
        }
        subject.starts_with(&text[..literal]) && gix_glob::wildmatch(BStr::new(text), BStr::new(subject), mode)
    }
}

/// Splits a pattern at its `**` components, into one part more than there are of those; returns nothing if there are
/// none.
fn parts(pattern: &[u8]) -> Box<[Part]> {
    let mut parts = vec![Part::default()];
    let mut left = pattern;
    loop {
        let (component, separator) = left.split_at(component_len(left));
        let is_double = component.len() > 1 && component.iter().all(|&byte| byte == b'*');
        let is_escaped = separator.starts_with(b"\\");
        // Before an escaped slash, `**` matches at least one directory (wildmatch).
        if !is_double || is_escaped {
            let part = parts.last_mut().expect("there is a first part");
            if part.components > 0 {
                part.text.push(b'/');
            }
            part.text.extend_from_slice(if is_double { b"*" } else { component });
            part.components += 1;
        }
        if is_double {
            parts.push(Part::default());
        }
        if separator.is_empty() {
            return if parts.len() == 1 { Box::default() } else { parts.into() };
        }
        left = &separator[1 + usize::from(is_escaped)..];
    }
}

/// The length of a pattern's first component: up to a slash outside brackets, or the backslash before a slash.
fn component_len(pattern: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&byte) = pattern.get(at) {
        match byte {
            b'/' => return at,
            b'\\' if pattern.get(at + 1) == Some(&b'/') => return at,
            b'\\' => at += 2,
            b'[' => at += bracket_len(&pattern[at..]),
            _ => at += 1,
        }
    }
    pattern.len()
}

/// The length of a bracket expression; if it is not closed, that of the whole pattern, which then matches nothing.
fn bracket_len(pattern: &[u8]) -> usize {
    let mut at = 1 + usize::from(matches!(pattern.get(1), Some(b'!' | b'^')));
    let first = at;
    while let Some(&byte) = pattern.get(at) {
        match byte {
            b']' if at > first => return at + 1,
            b'\\' => at += 2,
            b'[' if pattern.get(at + 1) == Some(&b':') => {
                let class = pattern[at + 2..].find_byte(b']').filter(|end| *end > 0 && pattern[at + 1 + end] == b':');
                at += class.map_or(1, |end| end + 3);
            }
            _ => at += 1,
        }
    }
    pattern.len()
}

/// Whether the parts occur in a path in this order, the first at its beginning and the last at its end, with any number
/// of components between two. The first match of each part is taken: trying every place would double the time with each
/// `**` (gitignore, `**`).
fn fit_in_turn(parts: &[Part], path: &[u8]) -> bool {
    let starts: Vec<usize> = std::iter::once(0).chain(path.find_iter("/").map(|slash| slash + 1)).collect();
    let fits_at = |part: &Part, at: usize| {
        if part.components == 0 {
            return true;
        }
        let end = starts.get(at + part.components).map_or(path.len(), |next| next - 1);
        gix_glob::wildmatch(part.text.as_bstr(), path[starts[at]..end].as_bstr(), Mode::NO_MATCH_SLASH_LITERAL)
    };
    let [first, between @ .., last] = parts else { return false };
    // A trailing `**` must match something.
    let Some(end) = starts.len().checked_sub(last.components.max(1)) else { return false };
    if first.components > end || !fits_at(first, 0) || !fits_at(last, end) {
        return false;
    }
    let mut at = first.components;
    between.iter().all(|part| {
        let found = (at..).take_while(|at| at + part.components <= end).find(|&at| fits_at(part, at));
        at = found.map_or(at, |found| found + part.components);
        found.is_some()
    })
}

/// Removes trailing blanks, unless escaped by a backslash.
fn without_trailing_spaces(line: &[u8]) -> &[u8] {
    let mut spaces = None;
    let mut bytes = line.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        spaces = match byte {
            b' ' => spaces.or(Some(at)),
            // The next byte is escaped, and not a blank to remove. At a trailing backslash git gives up.
            b'\\' if bytes.next().is_none() => return line,
            _ => None,
        };
    }
    &line[..spaces.unwrap_or(line.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(patterns: &str, path: &str, expected: Option<bool>) {
        let is_directory = path.ends_with('/');
        let path = path.trim_end_matches('/');
        let got = Patterns::parse(patterns.as_bytes()).matched(path.as_bytes(), is_directory);
        assert_eq!(got, expected, "{patterns:?} {path}");
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        check("a\n", "a", Some(true));
        check("a\n", "x/a", Some(true));
        check("a\n", "ab", None);
        check("a\n!a\n", "a", Some(false));
        check("!a\na\n", "a", Some(true));
        check("*\n!b\n", "x/b", Some(false));
        check("*\n!b\n", "x/c", Some(true));
    }

    #[test]
    fn slashes_tie_a_pattern_to_the_root_or_to_directories() {
        check("/a\n", "a", Some(true));
        check("/a\n", "x/a", None);
        check("x/a\n", "x/a", Some(true));
        check("x/a\n", "y/x/a", None);
        check("/a/\n", "a/", Some(true));
        check("/a/\n", "a", None);
        check("a/\n", "x/a/", Some(true));
        check("/*\n!/*/\n", "a", Some(true));
        check("/*\n!/*/\n", "a/", Some(false));
        check("/*\n", "a/b", None);
        check("**/b\n", "a/x/b", Some(true));
        check("a/**\n", "a/x/b", Some(true));
        check("/\n", "a", None);
    }

    #[test]
    fn two_stars_alone_stand_for_directories_however_many() {
        check("/**\n", "a", Some(true));
        check("a/**\n", "a", None);
        check("a/**/b\n", "a/b", Some(true));
        check("a/**/b\n", "a/x/y/b", Some(true));
        check("a/**/b\n", "a/x/y/b/z", None);
        check("a/***/b\n", "a/x/b", Some(true));
        check("**/a/**/b/**\n", "x/a/y/a/b/z", Some(true));
        check("**/a/**/b/**\n", "x/a/y/a/b", None);
        check("**/a/b/**/b/c\n", "a/x/a/b/c", None);
        check("**/a/b/**/b/c\n", "a/x/a/b/b/c", Some(true));
        check("**/?.[ch]/**/*.d\n", "x/y.c/z.d", Some(true));
        check("**/a\\/b/**/c\n", "x/a/b/c", Some(true));
        // A slash in brackets does not end a component.
        check("/**/[!/]\n", "c/a/a/c/c", Some(true));
        check("**/[!/]*/**/x\n", "a/bc/d/x", Some(true));
        check("**/*[a/]b\n", "x/yab", Some(true));
        check("**/[[:alpha:]/]/c\n", "x/b/c", Some(true));
        check("**/[]/]/c\n", "x/]/c", Some(true));
        check("a/**/[b\n", "a/[b", None);
        // An escaped slash does, and `**` before it matches at least one directory.
        check("b/*\\/**\n", "b/ba/cc", Some(true));
        check("b\\/**\n", "b/ba/cc", Some(true));
        check("a/**\\/b\n", "a/b", None);
        check("a/**\\/b\n", "a/x/b", Some(true));
        check("a/**\\/b\n", "a/x/y/b", Some(true));
        // The literal prefix is matched apart, so the stars after it are a component of their own.
        check("/a**/b\n", "a/x/y/b", Some(true));
        check("/a**/b\n", "ab", Some(true));
        check("/a**/b\n", "c/b", None);
        // Beside other bytes they count as one star.
        check("x/a**b\n", "x/a/b", None);
        check("x/a**b\n", "x/acb", Some(true));
        check("/**\n", "/", None);
    }

    /// A comparison looks at each byte of a pattern once, so patterns of many bytes against long paths count as many.
    #[test]
    fn long_patterns_count_as_many_where_paths_are_long() {
        let mut filter = crate::odb::closure::Filter::default();
        let text = format!("?{}\n*.c\n", "x".repeat(1 << 20));
        filter.only_at(Patterns::parse(text.as_bytes())).unwrap();
        assert_eq!(filter.comparisons(b"a.c"), 2);
        let long = vec![b'x'; 1 << 20];
        assert!(filter.comparisons(&long) >= 2 * (1 << 20) / 64);
    }

    /// Sixty stars do not make the time grow exponentially.
    #[test]
    fn many_stars_take_no_time_that_grows_with_each() {
        let path = ["a"; 60].join("/");
        for pattern in ["**/".repeat(60) + "b", "**/a/".repeat(59) + "b", "*a".repeat(60) + "b"] {
            check(&pattern, &path, None);
            check(&format!("x/{pattern}"), &format!("x/{}", "a".repeat(100)), None);
        }
        check(&("**/a/".repeat(59) + "**/a"), &path, Some(true));
    }

    #[test]
    fn the_root_is_a_directory_without_a_name() {
        check("*\n", "/", Some(true));
        check("/\n", "/", Some(true));
        check("/*\n", "/", None);
        check("a\n", "/", None);
    }

    #[test]
    fn wildcards_and_escapes_are_gits() {
        check("*.c\n", "x/y.c", Some(true));
        check("x/*.c\n", "x/y/z.c", None);
        check("?b\n", "ab", Some(true));
        check("[a-c]x\n", "bx", Some(true));
        check("\\*x\n", "*x", Some(true));
        check("\\*x\n", "ax", None);
        check("\\!a\n", "!a", Some(true));
        check("\\#a\n", "#a", Some(true));
    }

    #[test]
    fn lines_are_read_as_git_reads_them() {
        check("\u{feff}a\n", "a", Some(true));
        check("# a\n\na\r\n", "a", Some(true));
        check("#a\n", "#a", None);
        check("a", "a", Some(true));
        check("*\n!a", "a", Some(false));
        check("a\r", "a", Some(true));
        check("\u{feff}", "a", None);
        check("a  \n", "a", Some(true));
        check("a\\ \n", "a ", Some(true));
        check("a\\ b  \n", "a b", Some(true));
        check("a\\\\  \n", "a\\", Some(true));
        check(" a\n", " a", Some(true));
    }
}

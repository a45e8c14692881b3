//! Which names a listing is limited to.
//!
//! In: prefixes as requested. Out: those below `refs/`, in order, none beginning with another. Nothing is read here.

use bstr::BString;

/// Prefixes below `refs/`, ascending, none beginning with another.
pub(super) struct Prefixes<'a>(Vec<&'a [u8]>);

impl<'a> Prefixes<'a> {
    /// The prefixes a client asks for; an empty list means everything below `refs/`.
    pub(super) fn new(prefixes: &'a [BString]) -> Self {
        let root = b"refs/".as_slice();
        if prefixes.is_empty() {
            return Prefixes(vec![root]);
        }
        let mut wanted: Vec<&[u8]> = prefixes
            .iter()
            .map(|prefix| if root.starts_with(prefix) { root } else { prefix.as_slice() })
            .filter(|prefix| prefix.starts_with(root))
            .collect();
        wanted.sort_unstable();
        wanted.dedup_by(|later, earlier| later.starts_with(earlier));
        Prefixes(wanted)
    }

    /// Whether no prefix is left, so that nothing below `refs/` is listed.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All prefixes, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().copied()
    }

    /// Whether a name begins with one of the prefixes.
    pub(super) fn cover(&self, name: &[u8]) -> bool {
        let after = self.0.partition_point(|prefix| *prefix <= name);
        self.0[..after].last().is_some_and(|prefix| name.starts_with(prefix))
    }

    /// Whether a directory, which ends in a slash, can contain names that begin with one of the prefixes.
    pub(super) fn reach(&self, directory: &[u8]) -> bool {
        let after = self.0.partition_point(|prefix| *prefix < directory);
        self.0.get(after).is_some_and(|prefix| prefix.starts_with(directory)) || self.cover(directory)
    }
}

//! Rows of a listing: a name, and what it leads to, in the form in which the store keeps it.
//!
//! In: what a store has read. Out: object ids in binary or as text. Long lists of refs are mostly text that is copied,
//! so ids are converted to binary only on request.

use super::name;
use crate::{hex, pktline};
use bstr::BStr;
use gix_hash::{ObjectId, oid};
use wide::u8x16;

/// One ref in a listing, with symbolic refs followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<'a> {
    /// The full name, or the name without the namespace's prefix.
    pub name: &'a BStr,
    /// The object it leads to.
    pub id: StoredId<'a>,
    /// `<id> <name>` as stored, if the store keeps it in this form.
    pub line: Option<&'a [u8]>,
    /// What it peels to, as far as the store or a lookup has told.
    pub peeled: Peeled<StoredId<'a>>,
    /// For a symbolic ref, the last name of the chain, under which the object was found, as C git announces it.
    pub symref_target: Option<&'a BStr>,
}

impl Row<'_> {
    /// Appends `<id> <name>`, the beginning of a line in every list.
    pub fn push(&self, list: &mut Vec<u8>) {
        match self.line {
            Some(line) => pktline::push(list, line),
            None => {
                self.id.push_hex(list);
                list.push(b' ');
                list.extend_from_slice(self.name);
            }
        }
    }
}

/// What an object peels to, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peeled<T> {
    /// Nobody has looked.
    Unknown,
    /// The object is no tag.
    NotATag,
    /// A tag leads to this object.
    To(T),
}

impl<T> Peeled<T> {
    /// The object that a tag is known to lead to.
    pub fn target(self) -> Option<T> {
        match self {
            Peeled::To(target) => Some(target),
            Peeled::NotATag | Peeled::Unknown => None,
        }
    }
}

impl<'a> Peeled<StoredId<'a>> {
    /// What is known of an object from the name of its ref alone: a branch is never a tag (UP-25).
    pub(super) fn of_name(name: &BStr) -> Self {
        if name.starts_with(b"refs/heads/") { Peeled::NotATag } else { Peeled::Unknown }
    }
}

/// An object id, in binary or as text.
#[derive(Debug, Clone, Copy)]
pub struct StoredId<'a>(Form<'a>);

#[derive(Debug, Clone, Copy)]
enum Form<'a> {
    Bytes(&'a oid),
    /// Lower-case hexadecimal of a valid length.
    Hex(&'a [u8]),
    /// Hexadecimal with capitals: allowed, though hardly any program writes it.
    Capitals(&'a [u8]),
}

impl<'a> StoredId<'a> {
    /// Takes an id as text; `None` if it is not hexadecimal of a valid length.
    #[inline]
    pub(super) fn of_hex(text: &'a [u8]) -> Option<Self> {
        if matches!(text.len(), 40 | 64) && is_lower_hex(text) {
            return Some(StoredId(Form::Hex(text)));
        }
        hex::parse(text).is_some().then_some(StoredId(Form::Capitals(text)))
    }

    /// The id in binary.
    pub fn id(&self) -> ObjectId {
        match self.0 {
            Form::Bytes(id) => id.to_owned(),
            Form::Hex(text) | Form::Capitals(text) => hex::parse(text).expect("it was seen to be hexadecimal"),
        }
    }

    /// Appends the id as text.
    pub fn push_hex(&self, line: &mut Vec<u8>) {
        match self.0 {
            Form::Hex(text) => pktline::push(line, text),
            Form::Bytes(id) => hex::push(line, id),
            Form::Capitals(text) => line.extend(text.iter().map(u8::to_ascii_lowercase)),
        }
    }

    /// Whether the stored text has the form that clients are sent.
    pub(super) fn is_text(&self) -> bool {
        matches!(self.0, Form::Hex(_))
    }
}

impl<'a> From<&'a ObjectId> for StoredId<'a> {
    fn from(id: &'a ObjectId) -> Self {
        StoredId(Form::Bytes(id))
    }
}

impl std::fmt::Display for StoredId<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.id().fmt(f)
    }
}

impl PartialEq for StoredId<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for StoredId<'_> {}

/// Whether a text is lower-case hexadecimal, tested sixteen digits at a time without a branch for each. Shorter texts
/// never are.
fn is_lower_hex(text: &[u8]) -> bool {
    let are_digits = |bytes: &[u8; 16]| {
        let bytes = u8x16::from(*bytes);
        (name::among(bytes, b'0', b'9') | name::among(bytes, b'a', b'f')).all()
    };
    let (whole, _) = text.as_chunks::<16>();
    text.last_chunk::<16>().is_some_and(are_digits) && whole.iter().all(are_digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_as_text_is_checked_and_copied() {
        let check = |text: &str, expected: Option<bool>| {
            let stored = StoredId::of_hex(text.as_bytes());
            assert_eq!(stored.map(|stored| stored.is_text()), expected, "{text}");
            let Some(stored) = stored else { return };
            assert_eq!(stored.id().to_string(), text.to_lowercase());
            let mut line = Vec::new();
            stored.push_hex(&mut line);
            assert_eq!(line, text.to_lowercase().as_bytes());
            assert_eq!(stored, StoredId::from(&stored.id()));
        };
        for digits in ["0123456789abcdef", "fedcba9876543210"] {
            let forty = digits.repeat(3)[..40].to_owned();
            check(&forty, Some(true));
            check(&digits.repeat(4), Some(true));
            check(&forty.to_uppercase(), Some(false));
            check(&forty[1..], None);
            for bad in ['g', '/', ':', '`', ' ', '\u{7f}'] {
                for at in [0, 17, 39] {
                    let mut text = forty.clone();
                    text.replace_range(at..=at, &bad.to_string());
                    check(&text, None);
                }
            }
        }
    }
}

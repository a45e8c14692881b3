//! Rows of a listing: a name, and what it leads to as the store keeps it.
//!
//! In: what a store has read. Out: object names as bytes or as text. A list of many refs is mostly text that is copied: only
//! who asks for bytes pays for them.

use super::name;
use crate::{hex, pktline};
use bstr::BStr;
use gix_hash::{ObjectId, oid};
use wide::u8x16;

/// One ref as a listing gives it, symbolic ones followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<'a> {
    /// The full name, or what is left of it in a namespace.
    pub name: &'a BStr,
    /// The object it leads to in the end.
    pub id: StoredId<'a>,
    /// `<id> <name>`, where they stand together like this.
    pub line: Option<&'a [u8]>,
    /// What the tag peels to, where the store says it or somebody has looked: `Some(None)` is «known to be no tag», `None` is not known.
    pub peeled: Option<Option<StoredId<'a>>>,
    /// For a symbolic ref: the name the object was found under, the last of the chain, as C git announces it.
    pub symref_target: Option<&'a BStr>,
}

impl Row<'_> {
    /// Adds `<id> <name>`: what a line of every list begins with.
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

/// An object's name, in bytes or as text.
#[derive(Debug, Clone, Copy)]
pub struct StoredId<'a>(Form<'a>);

#[derive(Debug, Clone, Copy)]
enum Form<'a> {
    Bytes(&'a oid),
    /// Lower-case hexadecimal of a length that names have.
    Hex(&'a [u8]),
    /// Nobody writes capitals, but they are allowed.
    Capitals(&'a [u8]),
}

impl<'a> StoredId<'a> {
    /// The name that a text stands for; `None`: for none.
    #[inline]
    pub(super) fn of_hex(text: &'a [u8]) -> Option<Self> {
        if matches!(text.len(), 40 | 64) && is_lower_hex(text) {
            return Some(StoredId(Form::Hex(text)));
        }
        hex::parse(text).is_some().then_some(StoredId(Form::Capitals(text)))
    }

    /// In bytes.
    pub fn id(&self) -> ObjectId {
        match self.0 {
            Form::Bytes(id) => id.to_owned(),
            Form::Hex(text) | Form::Capitals(text) => hex::parse(text).expect("it was seen to be hexadecimal"),
        }
    }

    /// Adds the text.
    pub fn push_hex(&self, line: &mut Vec<u8>) {
        match self.0 {
            Form::Hex(text) => pktline::push(line, text),
            Form::Bytes(id) => hex::push(line, id),
            Form::Capitals(text) => line.extend(text.iter().map(u8::to_ascii_lowercase)),
        }
    }

    /// Whether the text stands as it is written to clients.
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

/// Without a branch for each digit, sixteen at a time. Shorter texts are none.
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

//! The records of a table: refs and reflog entries (reftable, «Ref record», «Log record»).
//!
//! In: the bytes after a record's name. Out: the record, and its bytes again. Names and blocks are not known here.

use super::block::{Reader, put_varint};
use crate::refs::transaction::ReflogEntry;
use anyhow::{Context, bail};
use bstr::{BString, ByteSlice};
use gix_hash::ObjectId;

/// One kind of records.
pub(super) trait Record: Clone + PartialEq {
    /// The type of the blocks that contain it.
    const KIND: u8;

    /// Reads a record of the type `kind`; transaction numbers are relative to `base`, the table's first.
    fn read(kind: u8, base: u64, reader: &mut Reader<'_>, hash: gix_hash::Kind) -> anyhow::Result<Self>;

    /// Its type, three bits.
    fn kind(&self) -> u8;

    /// Writes what [`Record::read`] reads.
    fn write(&self, base: u64, out: &mut Vec<u8>);

    /// Whether it is a deletion, which overrides older tables.
    fn is_deleted(&self) -> bool;

    /// The objects it names, for the list of objects.
    fn objects(&self) -> [Option<ObjectId>; 2];
}

/// The record of a ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ref {
    /// The number of the transaction that wrote it.
    pub(super) index: u64,
    pub(super) value: Value,
}

/// The value of a ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// The ref is deleted, whatever older tables say.
    Deleted,
    /// An object, and what it peels to if that is stored.
    Direct(ObjectId, Option<ObjectId>),
    /// Another ref.
    Symbolic(BString),
}

impl Record for Ref {
    const KIND: u8 = b'r';

    fn read(kind: u8, base: u64, reader: &mut Reader<'_>, hash: gix_hash::Kind) -> anyhow::Result<Self> {
        let index = base.checked_add(reader.varint()?).context("a number is too large")?;
        let value = match kind {
            0 => Value::Deleted,
            1 => Value::Direct(reader.id(hash)?, None),
            2 => Value::Direct(reader.id(hash)?, Some(reader.id(hash)?)),
            3 => Value::Symbolic(reader.text()?.into()),
            _ => bail!("a ref has a value of the unknown type {kind}"),
        };
        Ok(Ref { index, value })
    }

    fn kind(&self) -> u8 {
        match self.value {
            Value::Deleted => 0,
            Value::Direct(_, None) => 1,
            Value::Direct(_, Some(_)) => 2,
            Value::Symbolic(_) => 3,
        }
    }

    fn write(&self, base: u64, out: &mut Vec<u8>) {
        put_varint(self.index - base, out);
        match &self.value {
            Value::Deleted => {}
            Value::Direct(id, peeled) => {
                out.extend_from_slice(id.as_slice());
                out.extend_from_slice(peeled.as_ref().map_or(&[], |peeled| peeled.as_slice()));
            }
            Value::Symbolic(target) => put_text(target, out),
        }
    }

    fn is_deleted(&self) -> bool {
        self.value == Value::Deleted
    }

    fn objects(&self) -> [Option<ObjectId>; 2] {
        match self.value {
            Value::Direct(id, peeled) => [Some(id), peeled],
            Value::Deleted | Value::Symbolic(_) => [None, None],
        }
    }
}

/// One entry of a reflog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Log {
    /// The entry is deleted, whatever older tables say.
    Deleted,
    /// The entry as stored. Its content does not depend on its position, and is never interpreted here.
    Line(Vec<u8>),
}

impl Log {
    /// The entry for a change. Only the first `message_max` bytes of the message are kept.
    pub(super) fn line(old: ObjectId, new: ObjectId, entry: &ReflogEntry, message_max: usize) -> Self {
        let (name, email) = person(&entry.who);
        let mut line = Vec::new();
        line.extend_from_slice(old.as_slice());
        line.extend_from_slice(new.as_slice());
        put_text(name, &mut line);
        put_text(email, &mut line);
        put_varint(entry.when, &mut line);
        // The time zone: UTC.
        line.extend_from_slice(&0i16.to_be_bytes());
        let mut message = entry.one_line();
        message.truncate(message_max);
        message.push(b'\n');
        put_text(&message, &mut line);
        Log::Line(line)
    }
}

impl Record for Log {
    const KIND: u8 = b'g';

    fn read(kind: u8, _base: u64, reader: &mut Reader<'_>, hash: gix_hash::Kind) -> anyhow::Result<Self> {
        match kind {
            0 => Ok(Log::Deleted),
            1 => {
                let from = reader.at();
                reader.take(2 * hash.len_in_bytes())?;
                reader.text()?;
                reader.text()?;
                reader.varint()?;
                reader.take(2)?;
                reader.text()?;
                Ok(Log::Line(reader.since(from).to_vec()))
            }
            _ => bail!("a log has a line of the unknown type {kind}"),
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Log::Deleted => 0,
            Log::Line(_) => 1,
        }
    }

    fn write(&self, _base: u64, out: &mut Vec<u8>) {
        match self {
            Log::Deleted => {}
            Log::Line(line) => out.extend_from_slice(line),
        }
    }

    fn is_deleted(&self) -> bool {
        *self == Log::Deleted
    }

    fn objects(&self) -> [Option<ObjectId>; 2] {
        [None, None]
    }
}

/// The name of an entry in a table: the ref's name, and the transaction's number inverted so that the newest comes
/// first.
pub(super) fn log_key(name: &[u8], index: u64) -> Vec<u8> {
    [name, b"\0", &(!index).to_be_bytes()].concat()
}

/// What the names of all entries of a ref begin with.
pub(super) fn log_prefix(name: &[u8]) -> Vec<u8> {
    [name, b"\0"].concat()
}

fn put_text(text: &[u8], out: &mut Vec<u8>) {
    put_varint(text.len() as u64, out);
    out.extend_from_slice(text);
}

/// Splits `Name <email>` into name and email.
fn person(who: &[u8]) -> (&[u8], &[u8]) {
    let (name, rest) = who.split_once_str("<").unwrap_or((who, b""));
    let email = rest.split(|byte| *byte == b'>').next().unwrap_or_default();
    (name.trim(), email)
}

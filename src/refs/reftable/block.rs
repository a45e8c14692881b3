//! One block of a table, and the records in it (reftable, «Ref block format», «Index block format»).
//!
//! In: a block's bytes. Out: its records, all in order or from a key on. No file is read here, and no number in the
//! block is used before it was checked against the block's size.

use super::record::Record;
use anyhow::{Context, ensure};
use gix_hash::ObjectId;
use std::cmp::Ordering;

/// The size of a block's own header: its type and its length.
pub(super) const HEADER: usize = 4;

/// The positions of a block's parts, without its bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Layout {
    /// Where the first record begins.
    first: usize,
    /// Where the records end and the restart points begin.
    end: usize,
    restarts: usize,
}

impl Layout {
    /// Parses the layout of a whole block. Its own header begins at `header`: after the file's header in the first
    /// block, else at 0.
    pub(super) fn of(block: &[u8], header: usize) -> anyhow::Result<Self> {
        let first = header + HEADER;
        let count = block.len().checked_sub(2).filter(|at| *at >= first).context("it is too short")?;
        let restarts = usize::from(u16::from_be_bytes([block[count], block[count + 1]]));
        let end = count.checked_sub(3 * restarts).filter(|end| *end >= first);
        Ok(Layout { first, end: end.context("it has more restart points than bytes")?, restarts })
    }

    /// Where the first record begins.
    pub(super) fn first(&self) -> usize {
        self.first
    }

    /// Where to start looking for the first record not before `key`: the last restart point whose name is before it.
    pub(super) fn near(&self, block: &[u8], key: &[u8]) -> anyhow::Result<usize> {
        // Restart points before `low` are before the key, those from `high` on are not.
        let (mut low, mut high) = (0, self.restarts);
        let mut near = self.first;
        while low < high {
            let middle = low + (high - low) / 2;
            let at = self.restart(block, middle)?;
            let mut record = Reader { bytes: &block[..self.end], at };
            let (prefix, suffix, _) = record.key()?;
            ensure!(prefix == 0, "a restart point has no name of its own");
            if suffix < key {
                (low, near) = (middle + 1, at);
            } else {
                high = middle;
            }
        }
        Ok(near)
    }

    fn restart(&self, block: &[u8], number: usize) -> anyhow::Result<usize> {
        let at = self.end + 3 * number;
        let offset = be24([block[at], block[at + 1], block[at + 2]]);
        ensure!((self.first..self.end).contains(&offset), "a restart point lies outside of it");
        Ok(offset)
    }

    /// Reads the record at `at`; `name` holds the name before it and becomes the record's. Returns the record and where
    /// the next one begins, or `None` at the end.
    pub(super) fn read<R: Record>(
        &self,
        block: &[u8],
        at: usize,
        name: &mut Vec<u8>,
        base: u64,
        hash: gix_hash::Kind,
    ) -> anyhow::Result<Option<(R, usize)>> {
        if at >= self.end {
            return Ok(None);
        }
        let mut reader = Reader { bytes: &block[..self.end], at };
        let kind = reader.name(name)?;
        let record = R::read(kind, base, &mut reader, hash)?;
        Ok(Some((record, reader.at)))
    }

    /// In an index block, the position of the block that contains the first record not before `key`; `None` if there is
    /// none.
    pub(super) fn find_block(&self, block: &[u8], key: &[u8]) -> anyhow::Result<Option<u64>> {
        let mut record = Reader { bytes: &block[..self.end], at: self.near(block, key)? };
        let mut last = Vec::new();
        while record.at < self.end {
            let kind = record.name(&mut last)?;
            ensure!(kind == 0, "an index record is of the unknown type {kind}");
            let place = record.varint()?;
            if last.as_slice() >= key {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }
}

/// Reads the parts of a block's records one after the other.
pub(super) struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    /// The position up to which it has read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The bytes read since position `at`.
    pub(super) fn since(&self, at: usize) -> &'b [u8] {
        &self.bytes[at..self.at]
    }

    /// Takes the next `size` bytes.
    pub(super) fn take(&mut self, size: usize) -> anyhow::Result<&'b [u8]> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.get(..size)).context("a record is cut off")?;
        self.at += size;
        Ok(taken)
    }

    /// A number encoded like the offsets of ofs-deltas in packs: seven bits a byte, with one added for each further
    /// byte.
    pub(super) fn varint(&mut self) -> anyhow::Result<u64> {
        let mut number = 0u64;
        loop {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
            number =
                number.checked_add(1).and_then(|number| number.checked_mul(128)).context("a number is too large")?;
        }
    }

    fn length(&mut self) -> anyhow::Result<usize> {
        usize::try_from(self.varint()?).context("a number is too large")
    }

    /// An object id.
    pub(super) fn id(&mut self, hash: gix_hash::Kind) -> anyhow::Result<ObjectId> {
        Ok(ObjectId::from_bytes_or_panic(self.take(hash.len_in_bytes())?))
    }

    /// A text preceded by its length.
    pub(super) fn text(&mut self) -> anyhow::Result<&'b [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    /// The beginning of a record: how many bytes its name shares with the one before, the rest of the name, and three
    /// bits of type.
    fn key(&mut self) -> anyhow::Result<(usize, &'b [u8], u8)> {
        let prefix = self.length()?;
        let suffix = self.length()?;
        let kind = (suffix & 7) as u8;
        Ok((prefix, self.take(suffix >> 3)?, kind))
    }

    /// Turns `name` into the name of the record, which must sort after the one before; returns the type.
    fn name(&mut self, name: &mut Vec<u8>) -> anyhow::Result<u8> {
        let (prefix, suffix, kind) = self.key()?;
        let tail = name.get(prefix..).context("a name continues more than there is")?;
        ensure!(suffix.cmp(tail) == Ordering::Greater, "names are not in order");
        name.truncate(prefix);
        name.extend_from_slice(suffix);
        Ok(kind)
    }
}

/// Writes a number in the form that [`Reader::varint`] reads.
pub(super) fn put_varint(number: u64, out: &mut Vec<u8>) {
    let mut bytes = [0; 10];
    let mut at = bytes.len() - 1;
    let mut rest = number;
    bytes[at] = (rest & 0x7f) as u8;
    rest >>= 7;
    while rest > 0 {
        rest -= 1;
        at -= 1;
        bytes[at] = 0x80 | (rest & 0x7f) as u8;
        rest >>= 7;
    }
    out.extend_from_slice(&bytes[at..]);
}

/// A number of three bytes.
pub(super) fn be24([high, middle, low]: [u8; 3]) -> usize {
    usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)
}

#[cfg(test)]
mod tests {
    use super::super::record::{Ref, Value};
    use super::*;

    const ID: [u8; 20] = [7; 20];

    /// A block of two refs, `refs/a` and `refs/b`; the second name continues the first.
    fn block() -> Vec<u8> {
        let mut block = b"r\0\0\0".to_vec();
        block.extend_from_slice(b"\x00\x31refs/a\x00");
        block.extend_from_slice(&ID);
        block.extend_from_slice(b"\x05\x0bb\x01\x06refs/a");
        block.extend_from_slice(&[0, 0, 4, 0, 1]);
        block
    }

    fn names(block: &[u8]) -> anyhow::Result<Vec<String>> {
        let layout = Layout::of(block, 0)?;
        let (mut at, mut name, mut found) = (layout.first(), Vec::new(), Vec::new());
        while let Some((found_ref, next)) = layout.read::<Ref>(block, at, &mut name, 0, gix_hash::Kind::Sha1)? {
            let value = match found_ref.value {
                Value::Deleted => "deleted".to_owned(),
                Value::Direct(id, _) => id.to_hex_with_len(4).to_string(),
                Value::Symbolic(target) => target.to_string(),
            };
            found.push(format!("{} {value}", String::from_utf8_lossy(&name)));
            at = next;
        }
        Ok(found)
    }

    #[test]
    fn records_continue_the_names_before_them() {
        assert_eq!(names(&block()).unwrap(), ["refs/a 0707", "refs/b refs/a"]);
        let block = block();
        let layout = Layout::of(&block, 0).unwrap();
        assert_eq!(layout.near(&block, b"refs/z").unwrap(), 4);
        assert_eq!(layout.near(&block, b"").unwrap(), 4);
    }

    #[test]
    fn a_number_comes_back_as_it_went_out() {
        for number in [0, 1, 127, 128, 16_511, 16_512, 1 << 40, u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(number, &mut bytes);
            let mut reader = Reader { bytes: &bytes, at: 0 };
            assert_eq!((reader.varint().unwrap(), reader.at), (number, bytes.len()));
        }
    }

    #[test]
    fn what_a_block_says_of_itself_is_not_believed() {
        let check = |change: &dyn Fn(&mut Vec<u8>), expected: &str| {
            let mut block = block();
            change(&mut block);
            let error = format!("{:#}", names(&block).unwrap_err());
            assert!(error.contains(expected), "{error}");
        };
        check(&|block| block.truncate(5), "too short");
        check(&|block| *block.last_mut().unwrap() = 200, "more restart points than bytes");
        check(&|block| block[4] = 1, "continues more than there is");
        check(&|block| block[5] = 0x34, "unknown type 4");
        check(&|block| block[35] = b'a', "names are not in order");
        check(&|block| block[5] = 0xff, "a record is cut off");
        check(&|block| block[12..24].fill(0xff), "a number is too large");
        let mut block = block();
        let length = block.len();
        block[length - 3] = 250;
        let layout = Layout::of(&block, 0).unwrap();
        assert!(layout.near(&block, b"refs/b").is_err());
    }

    #[test]
    fn a_flipped_byte_gives_records_or_an_error_and_an_end() {
        let whole = block();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut block = whole.clone();
                block[at] ^= 1 << bit;
                let _ = names(&block);
                if let Ok(layout) = Layout::of(&block, 0) {
                    let _ = layout.near(&block, b"refs/b");
                    let _ = layout.find_block(&block, b"refs/b");
                }
            }
        }
    }
}

//! Numbers and tables in mapped files.
//!
//! In: bytes. Out: big-endian numbers, the ranges of a file's chunks (gitformat-chunk), and positions of object IDs.
//! Other chunk contents are not interpreted here.

use super::index::search;
use anyhow::{Context, bail, ensure};
use gix_hash::oid;
use std::ops::Range;

/// The size of a row in the table of chunks: identifier and offset.
const CHUNK: usize = 12;
const FAN: usize = 256 * 4;

/// Reads a big-endian number; the caller has checked the bounds.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("a slice of four"))
}

/// Reads a big-endian number of eight bytes; the caller has checked the bounds.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("a slice of eight"))
}

/// The range of a chunk, from its offset to that of the next one. The table of `count` chunks begins `head` bytes into
/// the file; `bytes` excludes the trailer.
///
/// # Errors
/// When there is no such chunk, or it is out of bounds.
pub(super) fn chunk(bytes: &[u8], head: usize, count: u8, id: &[u8; 4]) -> anyhow::Result<Range<usize>> {
    let find = || {
        let table =
            bytes.get(head..head + (usize::from(count) + 1) * CHUNK).context("the list of chunks is cut off")?;
        let mut entries = table.chunks_exact(CHUNK);
        let entry = entries.find(|entry| entry[..4] == *id).context("it is missing")?;
        let next = entries.next().context("it has no end")?;
        let (from, to) = (u64_at(entry, 4), u64_at(next, 4));
        let room = (head + table.len()) as u64..=bytes.len() as u64;
        ensure!(from <= to && room.contains(&from) && room.contains(&to), "it lies outside of the file");
        // Both are at most a length in memory.
        Ok(from as usize..to as usize)
    };
    find().with_context(|| format!("chunk {}", id.escape_ascii()))
}

/// Fails unless a file's object format number is that of `hash`.
pub(super) fn check_object_format(number: u8, hash: gix_hash::Kind) -> anyhow::Result<()> {
    let format = match number {
        1 => gix_hash::Kind::Sha1,
        2 => gix_hash::Kind::Sha256,
        number => bail!("it has object format {number}, which is unknown"),
    };
    ensure!(format == hash, "it is made for {format}, the repository is of {hash}");
    Ok(())
}

/// Sorted object IDs with a fan-out table: the chunks OIDL and OIDF.
pub(super) struct NameTable {
    fan: usize,
    first: usize,
    width: usize,
    count: u32,
}

impl NameTable {
    /// Checks the sizes and the order of the fan-out. The IDs themselves are only read by look-ups.
    pub fn open(bytes: &[u8], fan: Range<usize>, names: Range<usize>, width: usize) -> anyhow::Result<Self> {
        ensure!(fan.len() == FAN, "it has a fan-out of the wrong size");
        let mut count = 0;
        for slot in 0..256 {
            let next = u32_at(bytes, fan.start + slot * 4);
            ensure!(next >= count, "it has a fan-out that is out of order");
            count = next;
        }
        let table = NameTable { fan: fan.start, first: names.start, width, count };
        table.check_rows(names, width)?;
        Ok(table)
    }

    /// Fails unless a chunk has exactly one row of `width` bytes for each ID.
    pub fn check_rows(&self, chunk: Range<usize>, width: usize) -> anyhow::Result<()> {
        // 64 bits cannot overflow.
        let fits = chunk.len() as u64 == u64::from(self.count) * width as u64;
        ensure!(fits, "it has tables of the wrong size for {} names", self.count);
        Ok(())
    }

    /// The number of IDs.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// The position of an ID.
    pub fn position(&self, bytes: &[u8], id: &oid) -> Option<u32> {
        let wanted = id.as_bytes();
        if wanted.len() != self.width {
            return None;
        }
        let first = usize::from(wanted[0]);
        let low = if first == 0 { 0 } else { u32_at(bytes, self.fan + (first - 1) * 4) };
        let high = u32_at(bytes, self.fan + first * 4).min(self.count);
        search(wanted, low..high, |position| self.bytes_at(bytes, position))
    }

    fn bytes_at<'b>(&self, bytes: &'b [u8], position: u32) -> &'b [u8] {
        let at = self.first + position as usize * self.width;
        &bytes[at..at + self.width]
    }

    /// The ID at a position, which must be within this file.
    pub fn id_at<'b>(&self, bytes: &'b [u8], position: u32) -> &'b oid {
        assert!(position < self.count, "a position of another file");
        oid::from_bytes_unchecked(self.bytes_at(bytes, position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table two bytes into the file, followed by ten bytes.
    fn file(entries: &[(&[u8; 4], u64)]) -> Vec<u8> {
        let rows = entries.iter().flat_map(|(id, place)| [&id[..], &place.to_be_bytes()].concat());
        b"xx".iter().copied().chain(rows).chain([7; 10]).collect()
    }

    fn check(entries: &[(&[u8; 4], u64)], id: &[u8; 4], expected: Result<Range<usize>, &str>) {
        let found = chunk(&file(entries), 2, 2, id);
        assert_eq!(found.map_err(|error| format!("{error:#}")), expected.map_err(str::to_owned), "{entries:?}");
    }

    #[test]
    fn a_chunk_reaches_to_the_next_one() {
        let sound: [(&[u8; 4], u64); 3] = [(b"AAAA", 38), (b"BBBB", 41), (&[0; 4], 48)];
        check(&sound, b"AAAA", Ok(38..41));
        check(&sound, b"BBBB", Ok(41..48));
        check(&sound, b"CCCC", Err("chunk CCCC: it is missing"));
        for (from, to) in [(37, 41), (41, 38), (38, 49), (0, 5), (u64::MAX, u64::MAX), (38, u64::MAX)] {
            let wrong: [(&[u8; 4], u64); 3] = [(b"AAAA", from), (b"BBBB", to), (&[0; 4], 48)];
            check(&wrong, b"AAAA", Err("chunk AAAA: it lies outside of the file"));
        }
        let cut = chunk(&file(&sound)[..30], 2, 2, b"AAAA").unwrap_err();
        assert_eq!(format!("{cut:#}"), "chunk AAAA: the list of chunks is cut off");
    }
}

//! Numbers and tables in mapped files.
//!
//! In: bytes. Out: big-endian numbers; where the chunks of a file lie (gitformat-chunk). What stands in a chunk is not known here.

use anyhow::{Context, ensure};
use std::ops::Range;

/// Identifier and place of a chunk.
const CHUNK: usize = 12;

/// Reads a big-endian number; the caller has checked that it is there.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("a slice of four"))
}

/// The same of eight bytes.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("a slice of eight"))
}

/// Where a chunk lies: from its place to that of the next one in the list. The list of `count` begins behind `head` bytes of the file,
/// of which its trailer was cut off.
///
/// # Errors
/// When there is no such chunk, or no room for it.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A list behind two bytes, and ten bytes behind the list.
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

//! zlib streams of small contents: fixed codes, greedy matching, almost no setup.
//!
//! In: a content. Out: its stream (RFC 1950, RFC 1951). A general encoder clears more than a hundred kilobytes of
//! tables for each stream and considers dynamic codes; for a delta of fifty bytes that is nearly all of the work, and
//! in vain. Never fails.

use crate::odb::inflate::FIXED_CODES;
use crate::odb::prefix::common_prefix;

/// The largest content accepted; up to this size the fastest level of zlib uses fixed codes too.
pub(super) const CONTENT_MAX: usize = 16 << 10;

/// The number of bytes that are hashed to find a match.
const FOUND_BY: usize = 4;
/// The longest match.
const MATCH_MAX: usize = 258;
/// The code for the end of a block.
const END: usize = 256;
/// The codes of the shortest match, which is three bytes, and of the longest.
const SHORTEST: usize = 257;
const LONGEST: usize = 285;
/// The number of bytes that a stored block adds to its content.
const STORED_BYTES: usize = 5;

/// Makes streams; allocations are reused.
#[derive(Default)]
pub(super) struct Small {
    /// By hash: one more than the position where these bytes were last seen; 0 for none.
    places: Vec<u16>,
    stream: Vec<u8>,
}

impl Small {
    /// Makes the stream of a content of at most [`CONTENT_MAX`] bytes.
    pub(super) fn deflate(&mut self, content: &[u8]) -> &[u8] {
        assert!(content.len() <= CONTENT_MAX, "whoever asks knows the size");
        self.stream.clear();
        // A window of 32 KiB, fastest level.
        self.stream.extend_from_slice(&[0x78, 0x01]);
        if !self.block(content) {
            let size = content.len() as u16;
            self.stream.truncate(2);
            self.stream.push(1);
            self.stream.extend_from_slice(&size.to_le_bytes());
            self.stream.extend_from_slice(&(!size).to_le_bytes());
            self.stream.extend_from_slice(content);
        }
        self.stream.extend_from_slice(&zlib_rs::adler32::adler32(1, content).to_be_bytes());
        &self.stream
    }

    /// Writes a block with fixed codes; returns `false` as soon as it is larger than a stored block.
    fn block(&mut self, content: &[u8]) -> bool {
        let bits = content.len().next_power_of_two().trailing_zeros().clamp(4, 12) + 1;
        self.places.clear();
        self.places.resize(1 << bits, 0);
        let most = self.stream.len() + content.len() + STORED_BYTES;
        let mut out = BitWriter { stream: &mut self.stream, waiting: 0, count: 0 };
        out.put(0b011, 3);
        let mut at = 0;
        while let Some(rest) = content.get(at..).filter(|rest| !rest.is_empty()) {
            let (mut length, mut distance) = (0, 0);
            if let Some(first) = rest.first_chunk::<FOUND_BY>() {
                let hash = (u32::from_le_bytes(*first).wrapping_mul(0x9e37_79b1) >> (32 - bits)) as usize;
                let before = usize::from(std::mem::replace(&mut self.places[hash], at as u16 + 1));
                if before > 0 {
                    length = common_prefix(&content[before - 1..], &rest[..rest.len().min(MATCH_MAX)]);
                    distance = at + 1 - before;
                }
            }
            if length >= FOUND_BY {
                out.repeat(length, distance);
                at += length;
            } else {
                out.code(usize::from(rest[0]));
                at += 1;
            }
            if out.stream.len() > most {
                return false;
            }
        }
        out.code(END);
        out.end();
        self.stream.len() <= most
    }
}

/// Bits on their way out, the lowest first.
struct BitWriter<'a> {
    stream: &'a mut Vec<u8>,
    waiting: u64,
    count: u32,
}

impl BitWriter<'_> {
    fn put(&mut self, bits: usize, count: u32) {
        self.waiting |= (bits as u64) << self.count;
        self.count += count;
        if self.count >= 32 {
            self.stream.extend_from_slice(&(self.waiting as u32).to_le_bytes());
            self.waiting >>= 32;
            self.count -= 32;
        }
    }

    fn code(&mut self, symbol: usize) {
        let (code, bits) = FIXED_CODES[symbol];
        self.put(code.into(), bits.into());
    }

    /// A match: copies `length` bytes from `distance` bytes back.
    fn repeat(&mut self, length: usize, distance: usize) {
        if length == MATCH_MAX {
            self.code(LONGEST);
        } else {
            // Each code covers a range of lengths; the ranges double after every fourth code.
            let more = length - 3;
            let bits = more.checked_ilog2().unwrap_or(0).saturating_sub(2);
            self.code(SHORTEST + (bits as usize * 4) + (more >> bits));
            self.put(more & ((1 << bits) - 1), bits);
        }
        // The same for distances, where they double after every second code.
        let back = distance - 1;
        let bits = back.checked_ilog2().unwrap_or(0).saturating_sub(1);
        let code = (bits as usize * 2) + (back >> bits);
        self.put((code as u8).reverse_bits() as usize >> 3, 5);
        self.put(back & ((1 << bits) - 1), bits);
    }

    fn end(self) {
        let bytes = self.count.div_ceil(8) as usize;
        self.stream.extend_from_slice(&self.waiting.to_le_bytes()[..bytes]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compress, Compression, FlushCompress};
    use gix_object::Kind;
    use proptest::prelude::*;
    use std::io::Read;

    /// Checks that the content can be restored; returns the length of its stream.
    fn check(content: &[u8]) -> usize {
        let mut small = Small::default();
        small.deflate(b"something before something before");
        let stream = small.deflate(content);
        let mut again = Vec::new();
        let mut zlib = flate2::read::ZlibDecoder::new(stream);
        zlib.read_to_end(&mut again).expect("it is a stream");
        assert!(again == content);
        assert_eq!(zlib.total_in(), stream.len() as u64);
        assert!(stream.len() <= content.len() + 11, "{} of {}", stream.len(), content.len());
        stream.len()
    }

    fn general(content: &[u8], level: u32) -> usize {
        let mut stream = Vec::with_capacity(2 * content.len() + 100);
        Compress::new(Compression::new(level), true).compress_vec(content, &mut stream, FlushCompress::Finish).unwrap();
        stream.len()
    }

    #[test]
    fn matches_of_all_lengths_and_distances_come_back() {
        for length in 3..=700 {
            assert!(check(&vec![b'a'; length]) < 30);
        }
        let noise: Vec<u8> = (0..CONTENT_MAX as u32).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 15) as u8).collect();
        for distance in (4..600).chain([1023, 1024, 1025, 2048, 2049, 4096, 8191, 8192, 8193, 16_100]) {
            let mut content = noise[..distance].to_vec();
            content.extend_from_slice(&noise[..200.min(distance)]);
            check(&content);
        }
        for size in [0, 1, 2, 3, 4, 5, 127, 128, 129, CONTENT_MAX] {
            check(&noise[..size]);
            check(&vec![0xff; size]);
        }
    }

    #[test]
    fn streams_are_about_as_small_as_those_of_zlib() {
        let text = include_bytes!("small.rs");
        for size in [10, 20, 40, 64] {
            let ours: usize = text.chunks_exact(size).map(check).sum();
            let best: usize = text.chunks_exact(size).map(|content| general(content, 9)).sum();
            assert!(ours <= best + best / 20, "{ours} {best} of {size}");
        }
        for entries in 1..=4 {
            let name = |n: usize| gix_object::compute_hash(gix_hash::Kind::Sha1, Kind::Blob, &[n as u8]).unwrap();
            let entry = |n: usize| [format!("100644 file{n}\0").as_bytes(), name(n).as_bytes()].concat();
            let content: Vec<u8> = (0..entries).flat_map(entry).collect();
            let (ours, best) = (check(&content), general(&content, 9));
            assert!(ours <= best + 3, "{ours} {best} of {entries}");
        }
        for size in [300, 1000, 5000] {
            let (ours, fastest) = (check(&text[..size]), general(&text[..size], 1));
            assert!(ours <= fastest + fastest / 50, "{ours} {fastest} of {size}");
        }
    }

    proptest! {
        #[test]
        fn every_content_comes_back(pieces in prop::collection::vec((any::<u8>(), 0_usize..300, any::<bool>()), 0..40)) {
            let mut content = Vec::new();
            for (byte, size, again) in pieces {
                match again {
                    true => content.extend_from_within(..size.min(content.len())),
                    false => content.extend((0..size).map(|n| byte ^ (n * n) as u8)),
                }
            }
            content.truncate(CONTENT_MAX);
            check(&content);
        }
    }
}

//! Compressed words (EWAH): run-length words, each followed by literal words.
//!
//! In and out: 64-bit words, and their form on disk. A run consists of equal words, all zeros or all ones.

use super::number;
use anyhow::{Context, Result};

/// The maximum number of words in one run, and of literal words that follow it.
const REPEATED_MAX: u64 = u32::MAX as u64;
const PLAIN_MAX: u64 = (1 << 31) - 1;

/// A bitmap's compressed words in a file.
pub(super) struct Words<'a> {
    words: &'a [u8],
    pub(super) end: usize,
}

impl<'a> Words<'a> {
    /// Reads the frame: number of bits, number of words, the words, the position of the last run-length word.
    pub(super) fn at(bytes: &'a [u8], at: usize) -> Result<Self> {
        let framed = || {
            let start = at.checked_add(8)?;
            let len = (number(bytes, at + 4)? as usize).checked_mul(8)?;
            let end = start.checked_add(len)?;
            Some(Words { words: bytes.get(start..end)?, end: end.checked_add(4).filter(|end| *end <= bytes.len())? })
        };
        framed().context("is cut off")
    }

    /// XORs the decompressed words into `bits`, from its first word on.
    pub(super) fn xor_into(&self, bits: &mut [u64]) -> Result<()> {
        const DAMAGED: &str = "has a bitmap that is longer than it should be";
        let mut words =
            self.words.chunks_exact(8).map(|word| u64::from_be_bytes(word.try_into().expect("eight bytes")));
        let mut at = 0_usize;
        while let Some(run) = words.next() {
            let (ones, repeated, plain) = (run & 1 == 1, (run >> 1) as u32 as usize, (run >> 33) as usize);
            let run_end = at.saturating_add(repeated);
            if ones {
                bits.get_mut(at..run_end).context(DAMAGED)?.iter_mut().for_each(|word| *word ^= u64::MAX);
            }
            at = run_end;
            if plain > 0 {
                let end = at.saturating_add(plain);
                let there = bits.get_mut(at..end).context(DAMAGED)?;
                for bits in there {
                    *bits ^= words.next().context("has a bitmap that is cut off")?;
                }
                at = end;
            }
        }
        Ok(())
    }
}

/// Compresses words into `out`, with the frame that [`Words::at`] reads. Trailing zero words are left out.
pub(super) fn encode(words: impl Iterator<Item = u64>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 16]);
    let first = start + 8;
    let mut run = Run { out, place: first, ones: false, repeated: 0, plain: 0 };
    let (mut told, mut zeros) = (0_u64, 0);
    for word in words {
        if word == 0 {
            zeros += 1;
            continue;
        }
        told += zeros + 1;
        run.repeat(false, std::mem::take(&mut zeros));
        if word == u64::MAX { run.repeat(true, 1) } else { run.plain(word) }
    }
    run.close();
    let last = u32::try_from((run.place - first) / 8).expect("one of the words");
    // There is a bit for each of at most 2^32 objects, rounded up to words.
    let bits = u32::try_from(told * 64).unwrap_or(u32::MAX);
    let words = u32::try_from((out.len() - first) / 8).expect("hardly more words than there were");
    out[start..start + 4].copy_from_slice(&bits.to_be_bytes());
    out[start + 4..first].copy_from_slice(&words.to_be_bytes());
    out.extend_from_slice(&last.to_be_bytes());
}

/// The run being written, and the literal words that follow it.
struct Run<'o> {
    out: &'o mut Vec<u8>,
    /// Where its run-length word is.
    place: usize,
    ones: bool,
    repeated: u64,
    plain: u64,
}

impl Run<'_> {
    fn repeat(&mut self, ones: bool, mut count: u64) {
        while count > 0 {
            if self.plain > 0 || self.repeated == REPEATED_MAX || self.repeated > 0 && self.ones != ones {
                self.next();
            }
            let taken = count.min(REPEATED_MAX - self.repeated);
            self.ones = ones;
            self.repeated += taken;
            count -= taken;
        }
    }

    fn plain(&mut self, word: u64) {
        if self.plain == PLAIN_MAX {
            self.next();
        }
        self.out.extend_from_slice(&word.to_be_bytes());
        self.plain += 1;
    }

    fn next(&mut self) {
        self.close();
        self.place = self.out.len();
        self.out.extend_from_slice(&[0; 8]);
        (self.ones, self.repeated, self.plain) = (false, 0, 0);
    }

    fn close(&mut self) {
        let word = u64::from(self.ones) | self.repeated << 1 | self.plain << 33;
        self.out[self.place..self.place + 8].copy_from_slice(&word.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &[u64], expected_words: usize) {
        let mut out = vec![7];
        encode(words.iter().copied(), &mut out);
        let read = Words::at(&out, 1).unwrap();
        assert_eq!(read.end, out.len());
        assert_eq!(read.words.len(), expected_words * 8, "{words:x?}");
        let mut back = vec![0; words.len()];
        read.xor_into(&mut back).unwrap();
        assert_eq!(back, words);
        let told = words.iter().rposition(|word| *word != 0).map_or(0, |last| last as u32 + 1);
        assert_eq!(number(&out, 1), Some(told * 64));
        // The last number is the position of the last run-length word, whose counts must fit the words that follow
        // exactly.
        let last = number(&out, out.len() - 4).unwrap() as usize * 8;
        let run = u64::from_be_bytes(read.words[last..last + 8].try_into().unwrap());
        assert_eq!(read.words.len() - last, 8 + 8 * (run >> 33) as usize);
    }

    #[test]
    fn words_are_told_as_runs_and_as_they_are() {
        const ONES: u64 = u64::MAX;
        check(&[], 1);
        check(&[0, 0, 0], 1);
        check(&[5], 2);
        check(&[ONES, ONES], 1);
        check(&[0, 0, ONES], 2);
        check(&[ONES, 0, ONES, 1, 2, 0, 0], 5);
        check(&[0, 3, 4, 0, 5], 5);
        check(&[9, ONES, ONES, ONES, 9], 4);
        let mut state = 1_u64;
        for _ in 0..50 {
            let words: Vec<u64> = (0..200)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    match state >> 61 {
                        0 | 1 => 0,
                        2..=4 => ONES,
                        _ => state,
                    }
                })
                .collect();
            let mut out = Vec::new();
            encode(words.iter().copied(), &mut out);
            let mut back = vec![0; words.len()];
            Words::at(&out, 0).unwrap().xor_into(&mut back).unwrap();
            assert_eq!(back, words);
        }
    }
}

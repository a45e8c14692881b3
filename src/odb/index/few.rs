//! IDs of an index that are read instead of mapped, as long as few are needed.
//!
//! In: the index file. Out: IDs and their positions. The first access to a mapped page costs as much as ten to twenty
//! reads of a few hundred bytes, because the kernel maps the pages around it and unmaps them at the end. IDs are as
//! good as random, so a hundred of them touch all of a large index. A caller that needs more gets `None` and uses the
//! map.

use crate::odb::bytes::u32_at;
use crate::odb::ids::compare;
use gix_hash::ObjectId;
use std::cmp::Ordering;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// One read is allowed for this many bytes of IDs: with more reads, touching all pages would have cost less.
const BYTES_EACH: u64 = 12 << 10;
/// If fewer reads than this would be allowed, the file is not kept open.
const READS_MIN: u32 = 32;
/// How many IDs are read at once. The position of an ID can nearly always be guessed that closely.
const AT_ONCE: u32 = 100;
/// The maximum length of an ID in bytes.
const WIDTH_MAX: usize = gix_hash::Kind::longest().len_in_bytes();

/// A table of IDs in a file.
pub(super) struct FewNames {
    file: File,
    first: u64,
    width: usize,
    reads_left: AtomicU32,
}

impl FewNames {
    /// A table of `count` IDs of `width` bytes each, from offset `first` on; `None` if reading is not worth it.
    pub fn new(file: File, first: u64, count: u32, width: usize) -> Option<Self> {
        let reads = u32::try_from(u64::from(count) * width as u64 / BYTES_EACH).unwrap_or(u32::MAX);
        (reads >= READS_MIN).then(|| FewNames { file, first, width, reads_left: reads.into() })
    }

    /// Reads the IDs from a position on; `None` if reading fails or is no longer worth it.
    fn read(&self, position: u32, names: &mut [u8]) -> Option<()> {
        self.reads_left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).ok()?;
        self.file.read_exact_at(names, self.first + u64::from(position) * self.width as u64).ok()
    }

    /// The ID at a position.
    pub fn at(&self, position: u32) -> Option<ObjectId> {
        let mut name = [0; WIDTH_MAX];
        let name = &mut name[..self.width];
        self.read(position, name)?;
        ObjectId::try_from(&*name).ok()
    }

    /// Finds an ID in a range of sorted ones. The inner option is its position, if it is there; the outer one is `None`
    /// if reading failed.
    pub fn find(&self, wanted: &[u8], mut among: Range<u32>) -> Option<Option<u32>> {
        if self.reads_left.load(Relaxed) == 0 {
            // Checked before the buffer is allocated.
            return None;
        }
        let mut buffer = [0; WIDTH_MAX * AT_ONCE as usize];
        let mut guess = guessed(wanted, &among);
        while !among.is_empty() {
            let begin = guess.saturating_sub(AT_ONCE / 2).clamp(among.start, among.end - 1);
            let end = among.end.min(begin.saturating_add(AT_ONCE));
            let names = &mut buffer[..(end - begin) as usize * self.width];
            self.read(begin, names)?;
            let against = |row: u32| compare(wanted, &names[row as usize * self.width..][..self.width]);
            let (mut low, mut high) = (0, end - begin);
            while low < high {
                let middle = low.midpoint(high);
                match against(middle) {
                    Ordering::Equal => return Some(Some(begin + middle)),
                    Ordering::Less => high = middle,
                    Ordering::Greater => low = middle + 1,
                }
            }
            // It would be before these, after them, or among them but is missing.
            match low {
                0 => among.end = begin,
                _ if low == end - begin => among.start = end,
                _ => return Some(None),
            }
            guess = among.start.midpoint(among.end);
        }
        Some(None)
    }
}

/// Guesses the position of an ID among others that begin with the same byte, as if they were evenly spread.
pub(super) fn guessed(wanted: &[u8], among: &Range<u32>) -> u32 {
    let key = u64::from(u32_at(wanted, 1));
    among.start + ((u64::from(among.end.saturating_sub(among.start)) * key) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::unique;

    #[test]
    fn names_are_found_wherever_they_stand_until_too_many_were_read() {
        // Half of them are not where they would be guessed.
        let name = |n: u32| {
            let key = if n < 8_000 { n * 7 } else { n.wrapping_mul(200_000) };
            [&[3][..], &key.to_be_bytes(), &[n as u8; 15]].concat()
        };
        let mut names: Vec<Vec<u8>> = (0..40_000).map(name).collect();
        names.sort();
        let path = std::env::temp_dir().join(unique("few-names-"));
        std::fs::write(&path, [b"head".to_vec(), names.concat()].concat()).unwrap();
        let open = || FewNames::new(File::open(&path).unwrap(), 4, 40_000, 20).unwrap();
        for (position, name) in names.iter().enumerate().step_by(97) {
            let few = open();
            assert_eq!(few.find(name, 0..40_000), Some(Some(position as u32)));
            assert_eq!(few.at(position as u32).unwrap().as_slice(), name);
            let mut other = name.clone();
            other[19] ^= 0x80;
            assert_eq!(few.find(&other, 0..40_000), Some(None));
            assert_eq!(few.find(name, 0..position as u32), Some(None));
            assert_eq!(few.find(name, position as u32 + 1..40_000), Some(None));
        }
        let few = open();
        let reads = (0..40_000).take_while(|position| few.at(*position).is_some()).count();
        assert_eq!(reads as u64, 40_000 * 20 / BYTES_EACH);
        assert_eq!((few.at(0), few.find(&names[0], 0..40_000)), (None, None));
        assert!(FewNames::new(File::open(&path).unwrap(), 4, 13_000, 20).is_none());
        // The table is cut off.
        let few = FewNames::new(File::open(&path).unwrap(), 4, 41_000, 20).unwrap();
        assert_eq!((few.at(40_000), few.find(&[3, 255, 255, 255, 255], 40_500..41_000)), (None, None));
        std::fs::remove_file(&path).unwrap();
    }
}

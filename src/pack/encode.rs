//! Making deltas: finding what an object has in common with another one.
//!
//! In: two contents. Out: a delta in git's format (gitformat-pack, "Deltified representation"), or none if it would
//! exceed the limit. The base is indexed by blocks; the target is searched for them at every byte. Never reads an
//! object.

use crate::odb::prefix::common_prefix;

/// The size of an indexed block.
const BLOCK: usize = 16;
/// At most this many places of a block are compared.
const PLACES_MAX: usize = 16;
/// A match of this length ends the search for a longer one.
const LONG: usize = 4096;
/// The most bytes of one copy instruction.
const COPY_MAX: usize = 0x1_0000;
/// The most bytes of one insert instruction.
const OWN_MAX: usize = 0x7f;
/// An entry of the tables: the upper bits are the block's number, the lowest a tag, which is never 0. The bit in
/// between says whether another block follows in the same slot.
const NUMBER_SHIFT: u32 = 8;
const HAS_NEXT: u32 = 0x80;
const TAG: u32 = 0x7f;
/// An empty slot.
const NOTHING: u32 = 0;
/// The most blocks whose numbers fit into an entry.
const BLOCKS_MAX: usize = 1 << (u32::BITS - NUMBER_SHIFT);
/// Multipliers of the hash: odd, with their bits evenly spread.
const FACTORS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f];

/// Makes deltas; allocations are reused.
#[derive(Default)]
pub struct Encoder {
    /// By hash: the first block of the base in that slot, with its tag. Most blocks that share a slot by chance have
    /// different tags.
    heads: Vec<u32>,
    /// By block: the next one in the same slot, with its tag.
    next: Vec<u32>,
    delta: Vec<u8>,
}

/// The hash of a block. It is computed afresh at each byte, which is faster than a rolling hash because no step depends
/// on the one before.
#[derive(Clone, Copy)]
struct Hash(u64);

impl Hash {
    #[inline(always)]
    fn of(block: &[u8; BLOCK]) -> Self {
        let (low, high) = block.split_at(BLOCK / 2);
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("half a block"));
        let product = u128::from(word(low) ^ FACTORS[0]) * u128::from(word(high) ^ FACTORS[1]);
        Hash(product as u64 ^ (product >> 64) as u64)
    }

    #[inline(always)]
    fn slot(self, bits: u32) -> usize {
        (self.0 >> (64 - bits)) as usize
    }

    #[inline(always)]
    fn tag(self) -> u32 {
        (self.0 as u32 & TAG).max(1)
    }
}

impl Encoder {
    /// The last delta made.
    pub fn delta(&self) -> &[u8] {
        &self.delta
    }

    /// Makes the delta from `base` to `target`; `None` if it exceeds `limit` bytes.
    pub fn encode(&mut self, base: &[u8], target: &[u8], limit: usize) -> Option<&[u8]> {
        let blocks = base.as_chunks().0;
        if blocks.is_empty() || target.len() < BLOCK || blocks.len() > BLOCKS_MAX {
            return None;
        }
        let bits = self.index(blocks);
        self.delta.clear();
        number(base.len(), &mut self.delta);
        number(target.len(), &mut self.delta);
        let (mut at, mut own) = (0, 0);
        // If no match begins up to here, the inserted bytes alone exceed the limit.
        let mut end = limit.checked_sub(self.delta.len())?;
        while let Some(block) = target[at..].first_chunk() {
            let hash = Hash::of(block);
            let first = self.heads[hash.slot(bits)];
            // Mostly there is no block, or one that merely shares the slot. Both are tested at once, so that only one
            // branch must be predicted.
            let is_other = ((first ^ hash.tag()) & TAG != 0) & (first & HAS_NEXT == 0);
            let longest = if is_other { None } else { self.longest(base, &target[at..], first, hash.tag()) };
            let Some((mut from, mut length)) = longest else {
                at += 1;
                if at > end {
                    return None;
                }
                continue;
            };
            // The match may begin earlier.
            while at > own && from > 0 && target[at - 1] == base[from - 1] {
                (at, from, length) = (at - 1, from - 1, length + 1);
            }
            insert(&target[own..at], &mut self.delta);
            copy(from, length, &mut self.delta);
            at += length;
            own = at;
            end = own.saturating_add(limit.checked_sub(self.delta.len())?);
        }
        insert(&target[own..], &mut self.delta);
        (self.delta.len() <= limit).then_some(&self.delta)
    }

    /// Indexes the blocks of the base; returns the number of bits in a slot's number.
    fn index(&mut self, blocks: &[[u8; BLOCK]]) -> u32 {
        let bits = (blocks.len().next_power_of_two().trailing_zeros() + 1).max(4);
        self.heads.clear();
        self.heads.resize(1 << bits, NOTHING);
        self.next.resize(self.next.len().max(blocks.len()), NOTHING);
        let mut after = None;
        // Backwards, so that the first places are found first.
        for (number, block) in blocks.iter().enumerate().rev() {
            let hash = Hash::of(block);
            let head = &mut self.heads[hash.slot(bits)];
            // Of a run of equal blocks only the first is kept: a match continues through the others.
            let next = if after == Some(block) { self.next[number + 1] } else { *head };
            self.next[number] = next;
            after = Some(block);
            *head = (number as u32) << NUMBER_SHIFT | if next == NOTHING { 0 } else { HAS_NEXT } | hash.tag();
        }
        bits
    }

    /// The longest match with the beginning of `rest`: its place in the base and its length. `block` is the first
    /// candidate.
    fn longest(&self, base: &[u8], rest: &[u8], mut block: u32, tag: u32) -> Option<(usize, usize)> {
        let mut best = None;
        for _ in 0..PLACES_MAX {
            let number = (block >> NUMBER_SHIFT) as usize;
            if block & TAG == tag {
                let from = number * BLOCK;
                let length = common_prefix(&base[from..], rest);
                if length >= BLOCK && best.is_none_or(|(_, known)| length > known) {
                    best = Some((from, length));
                    if length >= LONG {
                        break;
                    }
                }
            }
            if block & HAS_NEXT == 0 {
                break;
            }
            block = self.next[number];
        }
        best
    }
}

/// Appends a size as in a delta's header: seven bits per byte, the lowest first.
pub(super) fn number(mut size: usize, delta: &mut Vec<u8>) {
    while size >= 0x80 {
        delta.push(size as u8 | 0x80);
        size >>= 7;
    }
    delta.push(size as u8);
}

pub(super) fn insert(bytes: &[u8], delta: &mut Vec<u8>) {
    for piece in bytes.chunks(OWN_MAX) {
        delta.push(piece.len() as u8);
        delta.extend_from_slice(piece);
    }
}

pub(super) fn copy(mut from: usize, mut length: usize, delta: &mut Vec<u8>) {
    while length > 0 {
        let size = length.min(COPY_MAX);
        let op = delta.len();
        delta.push(0x80);
        for (bit, byte) in (from as u32).to_le_bytes().into_iter().enumerate() {
            if byte != 0 {
                delta[op] |= 1 << bit;
                delta.push(byte);
            }
        }
        // The greatest size is encoded by leaving it out.
        if size < COPY_MAX {
            for (bit, byte) in (size as u16).to_le_bytes().into_iter().enumerate() {
                if byte != 0 {
                    delta[op] |= 0x10 << bit;
                    delta.push(byte);
                }
            }
        }
        from += size;
        length -= size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::odb::delta;
    use proptest::prelude::*;

    /// Checks that the delta reproduces the target; returns the delta's length.
    fn check(base: &[u8], target: &[u8]) -> Option<usize> {
        let mut encoder = Encoder::default();
        let made = encoder.encode(base, target, usize::MAX)?;
        let mut again = Vec::new();
        delta::apply(base, made, u64::MAX, &mut again).unwrap();
        assert!(again == target);
        Some(made.len())
    }

    fn text(lines: std::ops::Range<u32>) -> Vec<u8> {
        lines.flat_map(|line| format!("line {line} of many\n").into_bytes()).collect()
    }

    #[test]
    fn what_is_the_same_is_copied() {
        let base = text(0..5000);
        assert_eq!(check(&base, &base), Some(6 + 1 + 4), "the head and two copies");
        let mut changed = base.clone();
        changed.splice(40_000..40_010, *b"something else");
        assert!(check(&base, &changed).unwrap() < 50);
        let moved = [&base[50_000..], &base[..50_000]].concat();
        assert!(check(&base, &moved).unwrap() < 100);
        assert!(check(&base, &text(100..4000)).unwrap() < 300);
    }

    #[test]
    fn repeated_bytes_are_found_soon() {
        let base = vec![0; 1 << 20];
        assert!(check(&base, &vec![0; 3 << 20]).unwrap() < 300);
        let pattern: Vec<u8> = b"0123456789abcde\n".repeat(1 << 14);
        assert!(check(&pattern, &pattern[5..]).unwrap() < 60);
    }

    #[test]
    fn a_delta_beyond_the_limit_is_none() {
        let (base, other) = (text(0..100), text(1000..1100));
        let mut encoder = Encoder::default();
        let length = encoder.encode(&base, &other, usize::MAX).unwrap().len();
        assert!(encoder.encode(&base, &other, length - 1).is_none());
        assert_eq!(encoder.encode(&base, &other, length).map(<[u8]>::len), Some(length));
        assert!(encoder.encode(b"short", &other, usize::MAX).is_none());
        assert!(encoder.encode(&base, b"short", usize::MAX).is_none());
    }

    proptest! {
        #[test]
        fn every_delta_makes_its_object(pieces in prop::collection::vec((0_usize..4000, 0_usize..400), 0..12), own in prop::collection::vec(any::<u8>(), 0..300)) {
            let base = text(0..300);
            let mut target = own;
            for (from, length) in pieces {
                let from = from.min(base.len());
                target.extend_from_slice(&base[from..(from + length).min(base.len())]);
            }
            check(&base, &target);
        }
    }
}

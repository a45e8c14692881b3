//! Codes of literals, lengths and distances, as tables (RFC 1951).
//!
//! In: the fixed codes, and those at the beginning of a block. Out: what the next bits of a stream mean, by one or two
//! look-ups. Incomplete sets of codes are rejected, as in zlib. No content is decoded here.

use super::bits::BitReader;

/// The longest code.
const CODE_MAX: usize = 15;
/// Codes of literals and lengths with up to this many bits need one look-up, longer ones a second.
pub(super) const LITERAL_BITS: u32 = 10;
/// The same limit for codes of distances.
pub(super) const DISTANCE_BITS: u32 = 8;
/// The maximum length of a code for code lengths.
const LENGTH_BITS: u32 = 7;
/// The order of code lengths in a block (RFC 1951, 3.2.7).
const LENGTHS_ORDER: [u8; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

// A table entry. Bits 0-7: the number of bits of the code with its extra bits. Bits 8-11: the number of bits of the
// code alone, or for a second table the number of bits to look it up by. From bit 16 on: the literal, the least length
// or distance, or where the second table begins.
/// The flag of a literal.
pub(super) const LITERAL: u32 = 1 << 31;
/// The flag of an entry that is neither a literal nor a length or distance: a second table, the end of the block, or an
/// invalid code.
pub(super) const RARE: u32 = 1 << 15;
pub(super) const SECOND: u32 = RARE | 1 << 14;
pub(super) const END: u32 = RARE | 1 << 13;
const NOTHING: u32 = RARE;
/// Added to an entry for each bit of its code.
const CODE_BIT: u32 = 1 << 8 | 1;

/// The entries of literals and lengths, without the bits of their codes.
const LITERALS: [u32; 288] = {
    let mut entries = [NOTHING; 288];
    let mut symbol = 0;
    while symbol < 256 {
        entries[symbol] = LITERAL | (symbol as u32) << 16;
        symbol += 1;
    }
    entries[256] = END;
    let (mut symbol, mut least) = (257, 3);
    while symbol < 285 {
        let extra = if symbol < 265 { 0 } else { (symbol as u32 - 261) / 4 };
        entries[symbol] = least << 16 | extra;
        least += 1 << extra;
        symbol += 1;
    }
    entries[285] = 258 << 16;
    entries
};

/// The entries of distances, without the bits of their codes.
const DISTANCES: [u32; 32] = {
    let mut entries = [NOTHING; 32];
    let (mut symbol, mut least) = (0, 1);
    while symbol < 30 {
        let extra = if symbol < 4 { 0 } else { (symbol as u32 - 2) / 2 };
        entries[symbol] = least << 16 | extra;
        least += 1 << extra;
        symbol += 1;
    }
    entries
};

/// The tables of a block: first tables, followed by the second ones. No set of codes needs more room.
pub(super) struct Codes {
    pub literals: [u32; 2048],
    pub distances: [u32; 512],
}

/// The codes of literals and lengths, and their numbers of bits, in blocks without codes of their own (RFC 1951,
/// 3.2.6). They are bit-reversed: streams have codes from the first bit on, everything else from the last.
pub const FIXED_CODES: [(u16, u8); 288] = {
    let (mut codes, mut at) = ([(0, 0); 288], 0_u16);
    while at < 288 {
        let (code, bits) = match at {
            0..144 => (0x30 + at, 8),
            144..256 => (0x190 + at - 144, 9),
            256..280 => (at - 256, 7),
            _ => (0xc0 + at - 280, 8),
        };
        codes[at as usize] = (code.reverse_bits() >> (16 - bits), bits as u8);
        at += 1;
    }
    codes
};

/// The fixed codes as tables.
pub(super) static FIXED: Codes = {
    let (mut literals, mut symbol) = ([NOTHING; 2048], 0);
    while symbol < 288 {
        let (code, bits) = FIXED_CODES[symbol];
        let mut at = code as usize;
        while at < 1 << LITERAL_BITS {
            literals[at] = LITERALS[symbol] + bits as u32 * CODE_BIT;
            at += 1 << bits;
        }
        symbol += 1;
    }
    let (mut distances, mut symbol) = ([NOTHING; 512], 0_u32);
    while symbol < 32 {
        let mut at = (symbol.reverse_bits() >> (u32::BITS - 5)) as usize;
        while at < 1 << DISTANCE_BITS {
            distances[at] = DISTANCES[symbol as usize] + 5 * CODE_BIT;
            at += 1 << 5;
        }
        symbol += 1;
    }
    Codes { literals, distances }
};

/// The symbols that a block uses, in ascending order: 16 times the symbol, plus the length of its code.
struct Used {
    symbols: [u16; 512],
    count: usize,
    /// How many symbols have codes of each length.
    by_length: [u16; CODE_MAX + 1],
}

impl Used {
    fn clear(&mut self) {
        self.count = 0;
        self.by_length = [0; CODE_MAX + 1];
    }

    #[inline(always)]
    fn push(&mut self, symbol: usize, length: usize) {
        // There are fewer symbols than that; the mask tells the compiler.
        self.symbols[self.count & 511] = (symbol << 4 | length) as u16;
        self.count += 1;
        self.by_length[length & CODE_MAX] += 1;
    }
}

/// The codes that a block defines itself.
pub(super) struct OwnCodes {
    pub codes: Codes,
    /// The table of codes for code lengths: 8 times the symbol, plus the length of its code.
    lengths: [u8; 1 << LENGTH_BITS],
    literals: Used,
    distances: Used,
}

impl OwnCodes {
    pub(super) fn new() -> Self {
        let used = || Used { symbols: [0; 512], count: 0, by_length: [0; CODE_MAX + 1] };
        OwnCodes {
            codes: Codes { literals: [0; 2048], distances: [0; 512] },
            lengths: [0; 1 << LENGTH_BITS],
            literals: used(),
            distances: used(),
        }
    }

    /// Reads the codes at the beginning of a block (RFC 1951, 3.2.7); `None` if they are malformed.
    pub(super) fn read(&mut self, from: &mut BitReader<'_>) -> Option<()> {
        let mut bits = *from;
        let literals = 257 + bits.take(5);
        let all = literals + 1 + bits.take(5);
        let lengths = 4 + bits.take(4);
        if literals > 286 || all - literals > 30 {
            return None;
        }
        let mut of_lengths = [0; LENGTHS_ORDER.len()];
        for &symbol in &LENGTHS_ORDER[..lengths] {
            if !bits.has(3) {
                bits.refill()?;
            }
            of_lengths[usize::from(symbol)] = bits.take(3);
        }
        fill_lengths(&mut self.lengths, &of_lengths)?;
        let (used, far) = (&mut self.literals, &mut self.distances);
        used.clear();
        far.clear();
        let mut note = |at: usize, length: usize| match at.checked_sub(literals) {
            None => used.push(at, length),
            Some(distance) => far.push(distance, length),
        };
        let (mut at, mut length) = (0, 0);
        while at < all {
            if !bits.has(14) {
                bits.refill()?;
            }
            let entry = self.lengths[bits.peek(LENGTH_BITS)];
            bits.skip(u32::from(entry & 7));
            let repeat = match usize::from(entry >> 3) {
                symbol @ 1..16 => {
                    length = symbol;
                    note(at, length);
                    at += 1;
                    continue;
                }
                16 if at == 0 => return None,
                16 => {
                    let repeat = 3 + bits.take(2);
                    if length > 0 {
                        (at..at + repeat).for_each(|at| note(at, length));
                    }
                    at += repeat;
                    continue;
                }
                17 => 3 + bits.take(3),
                18 => 11 + bits.take(7),
                _ => 1,
            };
            length = 0;
            at += repeat;
        }
        if at > all {
            return None;
        }
        *from = bits;
        fill(&mut self.codes.literals, &LITERALS, LITERAL_BITS, &self.literals)?;
        fill(&mut self.codes.distances, &DISTANCES, DISTANCE_BITS, &self.distances)
    }
}

/// Fills the table of codes for code lengths.
fn fill_lengths(table: &mut [u8; 1 << LENGTH_BITS], lengths: &[usize; LENGTHS_ORDER.len()]) -> Option<()> {
    let mut by_length = [0; LENGTH_BITS as usize + 1];
    lengths.iter().for_each(|&length| by_length[length & 7] += 1);
    by_length[0] = 0;
    let (mut next, mut code) = ([0_usize; LENGTH_BITS as usize + 1], 0);
    for length in 1..by_length.len() {
        code = (code + by_length[length - 1]) << 1;
        next[length] = code;
    }
    // Each code must belong to exactly one symbol.
    if code + by_length[LENGTH_BITS as usize] != table.len() {
        return None;
    }
    for (symbol, &length) in lengths.iter().enumerate().filter(|(_, length)| **length > 0) {
        let code = next[length & 7] as u8;
        next[length & 7] += 1;
        let entry = (symbol << 3 | length) as u8;
        let mut at = usize::from(code.reverse_bits() >> (u8::BITS as usize - length));
        while let Some(place) = table.get_mut(at) {
            *place = entry;
            at += 1 << length;
        }
    }
    Some(())
}

/// Fills the tables of a set of codes. Each code must belong to exactly one symbol, but a set of distances may have one
/// code or none.
fn fill<const N: usize>(entries: &mut [u32; N], symbols: &[u32], first_bits: u32, used: &Used) -> Option<()> {
    let by_length = &used.by_length;
    let used = &used.symbols[..used.count];
    if symbols.len() == DISTANCES.len() && (used.is_empty() || used.len() == 1 && by_length[1] == 1) {
        let only = used.first().map_or(NOTHING, |symbol| symbols[usize::from(symbol >> 4)] + CODE_BIT);
        entries[..1 << first_bits].as_chunks_mut::<2>().0.fill([only, NOTHING]);
        return Some(());
    }
    // By code length: the place of the first such symbol among the sorted ones.
    let mut next = [0_u16; CODE_MAX + 1];
    let (mut before, mut taken) = (0, 0);
    for length in 1..=CODE_MAX {
        next[length] = before;
        before += by_length[length];
        taken += usize::from(by_length[length]) << (CODE_MAX - length);
    }
    if taken != 1 << CODE_MAX {
        return None;
    }
    let mut sorted = [0_u16; LITERALS.len()];
    for &symbol in used {
        let place = &mut next[usize::from(symbol & 15)];
        sorted[usize::from(*place)] = symbol >> 4;
        *place += 1;
    }

    let mut sorted = sorted.iter().map(|&symbol| symbols[usize::from(symbol)]);
    let mut code = 0;
    for length in 1..=first_bits {
        let (shorter, same) = entries.split_at_mut(1 << (length - 1));
        if length > 1 {
            // A shorter code is the same whichever bit follows it.
            same[..shorter.len()].copy_from_slice(shorter);
        }
        for symbol in sorted.by_ref().take(by_length[length as usize].into()) {
            entries[code] = symbol + length * CODE_BIT;
            code = following(code, length);
        }
    }
    let mut end = 1 << first_bits;
    let (mut prefix, mut begin, mut bits) = (usize::MAX, 0, 0);
    for length in first_bits + 1..=CODE_MAX as u32 {
        let count = by_length[length as usize];
        for (done, symbol) in sorted.by_ref().take(count.into()).enumerate() {
            let own_bits = length - first_bits;
            let start = code & ((1 << first_bits) - 1);
            if start != prefix {
                // Begin a second table for the codes with this prefix, with as many bits as the longest of them needs.
                prefix = start;
                begin = end;
                bits = own_bits;
                let mut there = usize::from(count) - done;
                while there < 1 << bits {
                    bits += 1;
                    there = 2 * there + usize::from(*by_length.get((first_bits + bits) as usize)?);
                }
                end = begin + (1 << bits);
                if end > N {
                    return None;
                }
                entries[prefix] = SECOND | (begin as u32) << 16 | bits << 8 | first_bits;
            }
            let mut at = code >> first_bits;
            while at < 1 << bits {
                entries[begin + at] = symbol + own_bits * CODE_BIT;
                at += 1 << own_bits;
            }
            code = following(code, length);
        }
    }
    Some(())
}

/// The next code of the same length, in bit-reversed order. After the last one the result does not matter.
#[inline(always)]
fn following(code: usize, bits: u32) -> usize {
    let zeros = !code & ((1 << bits) - 1);
    if zeros == 0 {
        return code;
    }
    let last = 1 << zeros.ilog2();
    code & (last - 1) | last
}

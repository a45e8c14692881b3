//! zlib streams that are in memory from end to end, inflated at once (RFC 1950, RFC 1951).
//!
//! In: the bytes from a stream's beginning on. Out: its content, or nothing: whatever is not as it should be, or not there, is left to
//! the general decoder, which knows what to say of it. That one is made for long streams that come in pieces; most of a pack's are of a
//! few hundred bytes, and there it is the making of tables that takes the time.

/// Room behind the content that is written to, and means nothing: a literal or two, the longest match, and the rest of the last piece
/// it was copied by.
pub(super) const SLACK_BYTES: usize = 320;

/// A match is copied by so many bytes.
const PIECE: usize = 16;
/// The longest code.
const CODE_MAX: usize = 15;
/// Codes of literals and lengths up to so many bits are found by one look, longer ones by a second.
const LITERAL_BITS: u32 = 10;
/// Codes of distances likewise.
const DISTANCE_BITS: u32 = 8;
/// Codes for the lengths of codes have no more.
const LENGTH_BITS: u32 = 7;
/// The order in which the lengths of those stand in a block (RFC 1951, 3.2.7).
const LENGTHS_ORDER: [u8; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

// An entry of a table. Bits 0-7: how many bits code and extra bits have; 8-11: how many the code has (of a second look: how many are
// looked at); from 16 on: the literal, the least length or distance, or where the second table begins.
/// A literal.
const LITERAL: u32 = 1 << 31;
/// Nothing that stands for bytes: a second table, the end of the block, or nothing at all.
const RARE: u32 = 1 << 15;
const SECOND: u32 = RARE | 1 << 14;
const END: u32 = RARE | 1 << 13;
const NOTHING: u32 = RARE;
/// What an entry has for each bit of its code.
const CODE_BIT: u32 = 1 << 8 | 1;

/// Entries of literals and lengths, but for their codes.
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

/// Entries of distances, but for their codes.
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

/// The codes of a block: first tables, and behind them the second ones. There is no set of codes that needs more room.
struct Codes {
    literals: [u32; 2048],
    distances: [u32; 512],
}

/// The codes of blocks that bring none (RFC 1951, 3.2.6).
static FIXED: Codes = {
    let (mut literals, mut symbol) = ([NOTHING; 2048], 0_u32);
    while symbol < 288 {
        let (code, bits) = match symbol {
            0..144 => (0x30 + symbol, 8),
            144..256 => (0x190 + symbol - 144, 9),
            256..280 => (symbol - 256, 7),
            _ => (0xc0 + symbol - 280, 8),
        };
        let mut at = (code.reverse_bits() >> (u32::BITS - bits)) as usize;
        while at < 1 << LITERAL_BITS {
            literals[at] = LITERALS[symbol as usize] + bits * CODE_BIT;
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

/// The symbols a block uses, in their order: symbol times sixteen, and the length of its code.
struct Used {
    symbols: [u16; 512],
    count: usize,
    /// How many have codes of so many bits.
    by_length: [u16; CODE_MAX + 1],
}

impl Used {
    fn clear(&mut self) {
        self.count = 0;
        self.by_length = [0; CODE_MAX + 1];
    }

    #[inline(always)]
    fn push(&mut self, symbol: usize, length: usize) {
        // There are not so many symbols; so the compiler knows, too.
        self.symbols[self.count & 511] = (symbol << 4 | length) as u16;
        self.count += 1;
        self.by_length[length & CODE_MAX] += 1;
    }
}

/// What was inflated.
pub(super) struct Inflated {
    /// So many bytes.
    pub filled: usize,
    /// How many the stream has, where it ended with them; they have the checksum that it says.
    pub stream: Option<usize>,
}

/// The decoder, used again for each stream.
pub(super) struct AtOnce {
    codes: Codes,
    /// Of the codes for lengths of codes: symbol times eight, and the length of its code.
    lengths: [u8; 1 << LENGTH_BITS],
    literals: Used,
    distances: Used,
}

impl AtOnce {
    pub(super) fn new() -> Box<Self> {
        let used = || Used { symbols: [0; 512], count: 0, by_length: [0; CODE_MAX + 1] };
        Box::new(AtOnce {
            codes: Codes { literals: [0; 2048], distances: [0; 512] },
            lengths: [0; 1 << LENGTH_BITS],
            literals: used(),
            distances: used(),
        })
    }

    /// Inflates the stream that `input` begins with into `out`, all but [`SLACK_BYTES`] of which may be filled, until it ends or has more
    /// than that. `None` where it is unsound, or cut off before.
    pub(super) fn inflate(&mut self, input: &[u8], out: &mut [u8]) -> Option<Inflated> {
        let room = out.len().checked_sub(SLACK_BYTES)?;
        let (head, body) = input.split_first_chunk::<2>()?;
        // deflate, a window of 32 KiB at most, no dictionary.
        if head[0] & 15 != 8 || head[0] >> 4 > 7 || head[1] & 0x20 != 0 || u16::from_be_bytes(*head) % 31 != 0 {
            return None;
        }
        let mut bits = Bits::new(body);
        let mut filled = 0;
        loop {
            bits.refill()?;
            let last = bits.take(1) == 1;
            let (now, ended) = match bits.take(2) {
                0 => stored(&mut bits, input, out, filled, room)?,
                1 => block(&mut bits, &FIXED, out, filled, room)?,
                2 => {
                    self.read_codes(&mut bits)?;
                    block(&mut bits, &self.codes, out, filled, room)?
                }
                _ => return None,
            };
            if !ended {
                // Not with bits that are not there.
                bits.position(input)?;
                return Some(Inflated { filled: room, stream: None });
            }
            filled = now;
            if last {
                break;
            }
        }
        let end = bits.position(input)?;
        let sum = input.get(end..)?.first_chunk::<4>()?;
        let is_sound = u32::from_be_bytes(*sum) == zlib_rs::adler32::adler32(1, &out[..filled]);
        is_sound.then_some(Inflated { filled, stream: Some(end + sum.len()) })
    }

    /// The codes at the beginning of a block (RFC 1951, 3.2.7).
    fn read_codes(&mut self, from: &mut Bits<'_>) -> Option<()> {
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

/// Fills the table of codes for lengths of codes.
fn fill_lengths(table: &mut [u8; 1 << LENGTH_BITS], lengths: &[usize; LENGTHS_ORDER.len()]) -> Option<()> {
    let mut by_length = [0; LENGTH_BITS as usize + 1];
    lengths.iter().for_each(|&length| by_length[length & 7] += 1);
    by_length[0] = 0;
    let (mut next, mut code) = ([0_usize; LENGTH_BITS as usize + 1], 0);
    for length in 1..by_length.len() {
        code = (code + by_length[length - 1]) << 1;
        next[length] = code;
    }
    // Each code is somebody's, and nobody else's.
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

/// Fills the tables of a set of codes: each code is somebody's, and nobody else's. Of distances there may be one, or none.
fn fill<const N: usize>(entries: &mut [u32; N], symbols: &[u32], first_bits: u32, used: &Used) -> Option<()> {
    let by_length = &used.by_length;
    let used = &used.symbols[..used.count];
    if symbols.len() == DISTANCES.len() && (used.is_empty() || used.len() == 1 && by_length[1] == 1) {
        let only = used.first().map_or(NOTHING, |symbol| symbols[usize::from(symbol >> 4)] + CODE_BIT);
        entries[..1 << first_bits].as_chunks_mut::<2>().0.fill([only, NOTHING]);
        return Some(());
    }
    // By length of code: where its first symbol comes among the sorted ones.
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
            // Whatever bit follows a shorter code, it is that code.
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
                // A table of the codes that begin alike: of as many bits as the longest of them.
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

/// The code behind this one, of as many bits, of which the lowest is the first; behind the last it does not matter.
#[inline(always)]
fn following(code: usize, bits: u32) -> usize {
    let zeros = !code & ((1 << bits) - 1);
    if zeros == 0 {
        return code;
    }
    let last = 1 << zeros.ilog2();
    code & (last - 1) | last
}

/// A block that is only stored; how much is filled now, and whether all of it had room.
fn stored<'a>(
    bits: &mut Bits<'a>,
    input: &'a [u8],
    out: &mut [u8],
    filled: usize,
    room: usize,
) -> Option<(usize, bool)> {
    let (head, rest) = input.get(bits.position(input)?..)?.split_first_chunk::<4>()?;
    let length = u16::from_le_bytes([head[0], head[1]]);
    if length != !u16::from_le_bytes([head[2], head[3]]) {
        return None;
    }
    let (content, rest) = rest.split_at_checked(length.into())?;
    let fits = content.len().min(room - filled);
    out[filled..filled + fits].copy_from_slice(&content[..fits]);
    *bits = Bits::new(rest);
    Some((filled + fits, fits == content.len()))
}

/// A block of codes; how much is filled now, and whether all of it had room.
#[inline(never)]
fn block(from: &mut Bits<'_>, codes: &Codes, out: &mut [u8], mut filled: usize, room: usize) -> Option<(usize, bool)> {
    let first = |bits: &Bits<'_>| codes.literals[bits.peek(LITERAL_BITS)];
    let mut bits = *from;
    bits.refill()?;
    let mut entry = first(&bits);
    while filled <= room {
        // There are 48 bits at least: for three literals, or two and the length of a match.
        let mut before = bits;
        bits.skip(entry);
        if entry & LITERAL != 0 {
            let literal = (entry >> 16) as u8;
            entry = first(&bits);
            before = bits;
            bits.skip(entry);
            out[filled] = literal;
            filled += 1;
            if entry & LITERAL != 0 {
                let literal = (entry >> 16) as u8;
                entry = first(&bits);
                before = bits;
                bits.skip(entry);
                out[filled] = literal;
                filled += 1;
                if entry & LITERAL != 0 {
                    out[filled] = (entry >> 16) as u8;
                    filled += 1;
                    bits.refill()?;
                    entry = first(&bits);
                    continue;
                }
            }
        }
        if entry & RARE != 0 {
            if entry & SECOND == SECOND {
                let at = (entry >> 16) as usize + bits.peek(entry >> 8 & 15);
                entry = codes.literals[at & (codes.literals.len() - 1)];
                before = bits;
                bits.skip(entry);
                if entry & LITERAL != 0 {
                    out[filled] = (entry >> 16) as u8;
                    filled += 1;
                    bits.refill()?;
                    entry = first(&bits);
                    continue;
                }
            }
            if entry & END == END {
                *from = bits;
                return Some((filled, filled <= room));
            }
            if entry & RARE != 0 {
                return None;
            }
        }
        let length = (entry >> 16) as usize + before.extra(entry);

        bits.refill()?;
        let mut entry_far = codes.distances[bits.peek(DISTANCE_BITS)];
        if entry_far & RARE != 0 {
            if entry_far & SECOND != SECOND {
                return None;
            }
            bits.skip(entry_far);
            let at = (entry_far >> 16) as usize + bits.peek(entry_far >> 8 & 15);
            entry_far = codes.distances[at & (codes.distances.len() - 1)];
            if entry_far & RARE != 0 {
                return None;
            }
        }
        let distance = (entry_far >> 16) as usize + bits.extra(entry_far);
        bits.skip(entry_far);
        // 28 bits at most were a distance: there are enough for the next look.
        entry = first(&bits);
        repeat(out, filled, distance, length)?;
        filled += length;
        bits.refill()?;
    }
    *from = bits;
    Some((filled, false))
}

/// Writes `length` bytes at `at`, and a few more, which are those `distance` before them. `None` where there are none.
#[inline(always)]
fn repeat(out: &mut [u8], at: usize, distance: usize, length: usize) -> Option<()> {
    let window = &mut out[at.checked_sub(distance)?..];
    match distance {
        0 => return None,
        1 => {
            let (byte, mut done) = (window[0], 0);
            while done < length {
                *window[1 + done..].first_chunk_mut()? = [byte; PIECE];
                done += PIECE;
            }
        }
        2..8 => (0..length).for_each(|at| window[distance + at] = window[at]),
        8..PIECE => {
            let mut done = 0;
            while done < length {
                pass::<8>(window, done, distance)?;
                done += 8;
            }
        }
        PIECE.. => {
            // Most have two pieces at most: to copy the second in vain costs less than to find out.
            pass::<PIECE>(window, 0, distance)?;
            pass::<PIECE>(window, PIECE, distance)?;
            let mut done = 2 * PIECE;
            while done < length {
                pass::<PIECE>(window, done, distance)?;
                done += PIECE;
            }
        }
    }
    Some(())
}

/// Copies a few bytes `distance` bytes further.
#[inline(always)]
fn pass<const N: usize>(window: &mut [u8], from: usize, distance: usize) -> Option<()> {
    let piece = *window[from..].first_chunk::<N>()?;
    *window[from + distance..].first_chunk_mut()? = piece;
    Some(())
}

/// Bits of a stream, the lowest first.
#[derive(Clone, Copy)]
struct Bits<'a> {
    rest: &'a [u8],
    next: u64,
    /// How many of these count, in the lowest six bits; what is above is not kept.
    count: u32,
    /// How many bytes were taken behind the end, as zeros.
    beyond: u32,
}

impl<'a> Bits<'a> {
    fn new(rest: &'a [u8]) -> Self {
        Bits { rest, next: 0, count: 0, beyond: 0 }
    }

    /// From here on there are at least 56 bits.
    #[inline(always)]
    fn refill(&mut self) -> Option<()> {
        match self.rest.first_chunk::<8>() {
            Some(word) => {
                self.next |= u64::from_le_bytes(*word).wrapping_shl(self.count);
                self.rest = &self.rest[(!self.count >> 3 & 7) as usize..];
                self.count |= 56;
            }
            None => *self = self.refill_last()?,
        }
        Some(())
    }

    #[cold]
    #[inline(never)]
    fn refill_last(mut self) -> Option<Self> {
        // A stream may end with what was taken last.
        if self.beyond > 8 {
            return None;
        }
        self.count &= 63;
        while self.count < 56 {
            match self.rest.split_first() {
                Some((byte, rest)) => {
                    self.next |= u64::from(*byte) << self.count;
                    self.rest = rest;
                }
                None => self.beyond += 1,
            }
            self.count += 8;
        }
        Some(self)
    }

    #[inline(always)]
    fn has(&self, count: u32) -> bool {
        self.count & 63 >= count
    }

    #[inline(always)]
    fn peek(&self, count: u32) -> usize {
        (self.next & (1_u64.wrapping_shl(count) - 1)) as usize
    }

    /// Goes on by as many bits as the lowest six of `count` say.
    #[inline(always)]
    fn skip(&mut self, count: u32) {
        self.next = self.next.wrapping_shr(count);
        self.count = self.count.wrapping_sub(count);
    }

    #[inline(always)]
    fn take(&mut self, count: u32) -> usize {
        let bits = self.peek(count);
        self.skip(count);
        bits
    }

    /// The extra bits behind the code of an entry.
    #[inline(always)]
    fn extra(&self, entry: u32) -> usize {
        self.peek(entry) >> (entry >> 8 & 15)
    }

    /// Where in the input the next whole byte is.
    fn position(&self, input: &[u8]) -> Option<usize> {
        let unread = (self.count >> 3 & 7).checked_sub(self.beyond)?;
        Some(input.len() - self.rest.len() - unread as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
    use proptest::prelude::*;

    fn deflated(content: &[u8], level: u32) -> Vec<u8> {
        let mut stream = vec![0; content.len() + content.len() / 8 + 64];
        let mut state = Compress::new(Compression::new(level), true);
        assert_eq!(state.compress(content, &mut stream, FlushCompress::Finish).unwrap(), Status::StreamEnd);
        stream.truncate(state.total_out() as usize);
        stream
    }

    /// The first `room` bytes, and how long the stream is, if it ends with them.
    fn inflated(decoder: &mut AtOnce, stream: &[u8], room: usize) -> Option<(Vec<u8>, Option<usize>)> {
        let mut out = vec![b'?'; room + SLACK_BYTES];
        let inflated = decoder.inflate(stream, &mut out)?;
        out.truncate(inflated.filled);
        Some((out, inflated.stream))
    }

    /// What the general decoder says.
    fn expected(stream: &[u8], room: usize) -> Option<(Vec<u8>, usize)> {
        let (mut state, mut out) = (Decompress::new(true), vec![0; room + 1]);
        let ended = matches!(state.decompress(stream, &mut out, FlushDecompress::Finish), Ok(Status::StreamEnd));
        out.truncate(state.total_out() as usize);
        (ended && out.len() <= room).then_some((out, state.total_in() as usize))
    }

    fn check_sound(decoder: &mut AtOnce, content: &[u8], mut stream: Vec<u8>) {
        let length = stream.len();
        for behind in [0, 1, 9] {
            stream.resize(length + behind, 0xa5);
            assert!(inflated(decoder, &stream, content.len()) == Some((content.to_vec(), Some(length))), "{behind}");
            assert!(inflated(decoder, &stream, content.len() + 7) == Some((content.to_vec(), Some(length))));
        }
        for room in [0, 1, content.len() / 3, content.len().saturating_sub(1)] {
            if room < content.len() {
                assert!(inflated(decoder, &stream, room) == Some((content[..room].to_vec(), None)), "{room}");
            }
        }
    }

    fn check_content(decoder: &mut AtOnce, content: &[u8]) {
        (0..10).for_each(|level| check_sound(decoder, content, deflated(content, level)));
    }

    /// Numbers that look like chance.
    fn numbers() -> impl Iterator<Item = usize> {
        let step = |n: &u64| Some(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        std::iter::successors(Some(1_u64), step).map(|n| (n >> 40) as usize)
    }

    #[test]
    fn every_kind_of_block_is_read() {
        let decoder = &mut *AtOnce::new();
        for content in [&b""[..], b"a", b"hello hello hello hello", &[0; 3000], &[7; 70_000]] {
            check_content(decoder, content);
        }
        let all: Vec<u8> = (0..=255).cycle().take(5000).collect();
        check_content(decoder, &all);
        // Codes of one kind of distance, and of none.
        let one: Vec<u8> = (0..4000_u32).map(|n| (n / 1000 * 60 + n % 3) as u8).collect();
        check_content(decoder, &one);
        check_content(decoder, &(0..200).collect::<Vec<u8>>());
    }

    #[test]
    fn long_codes_are_read_through_a_second_table() {
        let decoder = &mut *AtOnce::new();
        // A few bytes that are much rarer than the others.
        let rare = |n: usize| if n.is_multiple_of(500) { 200 + n / 500 % 50 } else { n % 200 };
        let content: Vec<u8> = numbers().map(|n| rare(n) as u8).take(10_000).collect();
        check_content(decoder, &content);
        decoder.inflate(&deflated(&content, 9), &mut vec![0; content.len() + SLACK_BYTES]).expect("is sound");
        assert!(decoder.codes.literals.iter().any(|entry| entry & SECOND == SECOND && entry & LITERAL == 0));
        // Four bytes that come again after 300, mostly, and now and then after another while.
        let mut far = content[..2000].to_vec();
        for n in numbers().take(6000) {
            let from = far.len() - if n.is_multiple_of(40) { 5 + n / 40 % (far.len() - 5) } else { 300 };
            far.extend_from_within(from..from + 4);
            far.push(n as u8);
        }
        check_content(decoder, &far);
        decoder.inflate(&deflated(&far, 9), &mut vec![0; far.len() + SLACK_BYTES]).expect("is sound");
        assert!(decoder.codes.distances.iter().any(|entry| entry & SECOND == SECOND));
    }

    #[test]
    fn a_stream_that_breaks_off_or_means_nothing_is_left_to_the_general_decoder() {
        let decoder = &mut *AtOnce::new();
        let content: Vec<u8> = numbers().map(|n| (n % 50) as u8).take(2000).collect();
        for level in [0, 1, 9] {
            let stream = deflated(&content, level);
            for cut in (0..20).chain([stream.len() / 2]).chain(stream.len() - 20..stream.len()) {
                assert!(inflated(decoder, &stream[..cut], content.len()).is_none(), "{level} {cut}");
            }
        }
        for stream in [
            // Another method, a larger window, a dictionary, a wrong check of the header, a block of no kind.
            &[0x77, 0x85, 3, 0, 0, 0, 0, 1][..],
            &[0x88, 0x1c, 3, 0, 0, 0, 0, 1],
            &[0x78, 0xbb, 3, 0, 0, 0, 0, 1],
            &[0x78, 0x02, 3, 0, 0, 0, 0, 1],
            &[0x78, 0x01, 7, 0, 0, 0, 0, 1],
            // A match before the content, a wrong checksum, a length that is not said twice.
            &[0x78, 0x01, 0x03, 0x02, 0, 0, 0, 0, 1],
            &[0x78, 0x01, 3, 0, 0, 0, 0, 2],
            &[0x78, 0x01, 1, 1, 0, 0xff, 0xff, b'a', 0, 0x62, 0, 0x62],
        ] {
            assert!(inflated(decoder, stream, 100).is_none(), "{stream:x?}");
        }
        assert_eq!(inflated(decoder, &[0x78, 0x01, 3, 0, 0, 0, 0, 1], 100), Some((Vec::new(), Some(8))));
    }

    /// A block of three times the letter a, where it and the end have codes of so many bits.
    fn three(length: usize) -> Vec<u8> {
        let (mut stream, mut bits, mut count) = (vec![0x78, 0x01], 0_u32, 0);
        let mut put = |value: u32, more: u32| {
            bits |= value << count;
            count += more;
            while count >= 8 {
                stream.push(bits as u8);
                (bits, count) = (bits >> 8, count - 8);
            }
        };
        // The last block, with codes of its own: 257 and 1 of them, whose lengths have 18 codes, of which 18, 0, 2 and 1 are in use.
        for (value, bits) in [(1, 1), (2, 2), (0, 5), (0, 5), (14, 4)] {
            put(value, bits);
        }
        for bits in [0, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 2] {
            put(bits, 3);
        }
        let (of_one, of_two, of_zeros) = ((0b10, 2), (0b01, 2), (0b11, 2));
        let of_length = if length == 1 { of_one } else { of_two };
        let lengths = [of_zeros, (97 - 11, 7), of_length, of_zeros, (127, 7), of_zeros, (9, 7), of_length, of_one];
        for (value, bits) in lengths {
            put(value, bits);
        }
        (0..3).for_each(|_| put(0, length as u32));
        put(1 << (length - 1), length as u32);
        put(0, 7);
        stream.extend_from_slice(&zlib_rs::adler32::adler32(1, b"aaa").to_be_bytes());
        stream
    }

    #[test]
    fn codes_of_which_some_are_nobodys_are_refused() {
        let decoder = &mut *AtOnce::new();
        check_sound(decoder, b"aaa", three(1));
        assert_eq!(expected(&three(1), 3), Some((b"aaa".to_vec(), three(1).len())));
        assert_eq!([inflated(decoder, &three(2), 3).map(drop), expected(&three(2), 3).map(drop)], [None; 2]);
    }

    proptest! {
        #[test]
        fn contents_come_back(
            words in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..12),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..200),
            level in 0_u32..10,
        ) {
            let content: Vec<u8> = order.iter().flat_map(|word| word.get(&words).iter().copied()).collect();
            check_sound(&mut AtOnce::new(), &content, deflated(&content, level));
        }

        /// It may know less than the general decoder, but nothing else.
        #[test]
        fn of_damaged_streams_nothing_is_said_that_the_general_decoder_does_not_say(
            words in prop::collection::vec("[a-e]{1,9}", 1..30),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..300),
            level in 0_u32..10,
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let content: String = order.iter().map(|word| word.get(&words).as_str()).collect();
            let mut stream = deflated(content.as_bytes(), level);
            for (at, with) in damage {
                *at.get_mut(&mut stream) ^= with;
            }
            let room = content.len();
            if let Some((out, Some(length))) = inflated(&mut AtOnce::new(), &stream, room) {
                prop_assert_eq!(Some((out, length)), expected(&stream, room));
            }
        }

        #[test]
        fn of_any_bytes_nothing_is_said_that_the_general_decoder_does_not_say(
            mut stream in prop::collection::vec(any::<u8>(), 2..300),
        ) {
            stream[..2].copy_from_slice(&[0x78, 0x01]);
            if let Some((out, Some(length))) = inflated(&mut AtOnce::new(), &stream, 1000) {
                prop_assert_eq!(Some((out, length)), expected(&stream, 1000));
            }
        }
    }
}

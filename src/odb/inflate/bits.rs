//! The bits of a stream in memory.
//!
//! In: its bytes. Out: a few bits at a time, the lowest of each byte first. After the end come a few zeros, which are
//! told apart from actual input.

/// Reads the bits of a stream, the lowest first.
#[derive(Clone, Copy)]
pub(super) struct BitReader<'a> {
    rest: &'a [u8],
    next: u64,
    /// The lowest six bits are the number of valid bits in `next`; the others are meaningless.
    count: u32,
    /// How many bytes were read beyond the end, as zeros.
    beyond: u32,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        BitReader { rest, next: 0, count: 0, beyond: 0 }
    }

    /// Ensures that there are at least 56 bits.
    #[inline(always)]
    pub(super) fn refill(&mut self) -> Option<()> {
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
        // A stream may end within the bits taken last.
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
    pub(super) fn has(&self, count: u32) -> bool {
        self.count & 63 >= count
    }

    #[inline(always)]
    pub(super) fn peek(&self, count: u32) -> usize {
        (self.next & (1_u64.wrapping_shl(count) - 1)) as usize
    }

    /// Skips as many bits as the lowest six bits of `count` say.
    #[inline(always)]
    pub(super) fn skip(&mut self, count: u32) {
        self.next = self.next.wrapping_shr(count);
        self.count = self.count.wrapping_sub(count);
    }

    #[inline(always)]
    pub(super) fn take(&mut self, count: u32) -> usize {
        let bits = self.peek(count);
        self.skip(count);
        bits
    }

    /// The extra bits that follow the code of an entry.
    #[inline(always)]
    pub(super) fn extra(&self, entry: u32) -> usize {
        self.peek(entry) >> (entry >> 8 & 15)
    }

    /// The position of the next whole byte in the input.
    pub(super) fn position(&self, input: &[u8]) -> Option<usize> {
        let unread = (self.count >> 3 & 7).checked_sub(self.beyond)?;
        Some(input.len() - self.rest.len() - unread as usize)
    }
}

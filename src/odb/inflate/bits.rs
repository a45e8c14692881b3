//! Bits of a stream that is in memory.
//!
//! In: its bytes. Out: so many bits at a time, the lowest of a byte first; behind the end a few zeros, which are told from what was there.

/// Bits of a stream, the lowest first.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a> {
    rest: &'a [u8],
    next: u64,
    /// How many of these count, in the lowest six bits; what is above is not kept.
    count: u32,
    /// How many bytes were taken behind the end, as zeros.
    beyond: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Bits { rest, next: 0, count: 0, beyond: 0 }
    }

    /// From here on there are at least 56 bits.
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
    pub(super) fn has(&self, count: u32) -> bool {
        self.count & 63 >= count
    }

    #[inline(always)]
    pub(super) fn peek(&self, count: u32) -> usize {
        (self.next & (1_u64.wrapping_shl(count) - 1)) as usize
    }

    /// Goes on by as many bits as the lowest six of `count` say.
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

    /// The extra bits behind the code of an entry.
    #[inline(always)]
    pub(super) fn extra(&self, entry: u32) -> usize {
        self.peek(entry) >> (entry >> 8 & 15)
    }

    /// Where in the input the next whole byte is.
    pub(super) fn position(&self, input: &[u8]) -> Option<usize> {
        let unread = (self.count >> 3 & 7).checked_sub(self.beyond)?;
        Some(input.len() - self.rest.len() - unread as usize)
    }
}

//! Applies deltas: copies from a base, and literal bytes between them.
//!
//! In: a base and a delta. Out: the object. No allocation has a size that is only announced by the delta.

use anyhow::{Context, bail};

/// The first allocation for a result whose size is only announced; it doubles when the result grows beyond it.
const FIRST_BYTES: usize = 1 << 20;

/// The announced sizes of base and result, and where the instructions begin.
///
/// # Errors
/// When a size is cut off or does not fit 64 bits.
pub fn sizes(delta: &[u8]) -> anyhow::Result<(u64, u64, usize)> {
    let (base, after_base) = number(delta, 0)?;
    let (result, after) = number(delta, after_base)?;
    Ok((base, result, after))
}

fn number(bytes: &[u8], mut at: usize) -> anyhow::Result<(u64, usize)> {
    let mut value = 0_u64;
    let mut shift = 0_u32;
    loop {
        let byte = *bytes.get(at).context("delta header is cut off")?;
        at += 1;
        let part = u64::from(byte & 0x7f);
        // Trailing zero bits beyond 64 change nothing, and git accepts them.
        if part != 0 {
            if shift >= 64 || (part << shift) >> shift != part {
                bail!("delta header announces more than 64 bits");
            }
            value |= part << shift;
        }
        shift = shift.saturating_add(7);
        if byte & 0x80 == 0 {
            return Ok((value, at));
        }
    }
}

/// One instruction of a delta (gitformat-pack, "Deltified representation").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instruction<'a> {
    /// Copies bytes of the base. The range is not checked here.
    Copy {
        /// The offset in the base.
        from: usize,
        /// How many bytes.
        length: usize,
    },
    /// Literal bytes.
    Own(&'a [u8]),
}

/// The instructions that follow the sizes; an error if one is cut off or unknown.
pub struct Instructions<'a>(pub &'a [u8]);

impl<'a> Iterator for Instructions<'a> {
    type Item = anyhow::Result<Instruction<'a>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then(|| self.read())
    }
}

impl<'a> Instructions<'a> {
    #[inline]
    fn read(&mut self) -> anyhow::Result<Instruction<'a>> {
        let (&op, mut rest) = self.0.split_first().context("delta is cut off")?;
        let instruction = if op & 0x80 != 0 {
            let (mut from, mut length) = (0_usize, 0_usize);
            for bit in 0..7 {
                if op & (1 << bit) != 0 {
                    let (&byte, after) = rest.split_first().context("delta is cut off in a copy")?;
                    rest = after;
                    if bit < 4 {
                        from |= usize::from(byte) << (8 * bit);
                    } else {
                        length |= usize::from(byte) << (8 * (bit - 4));
                    }
                }
            }
            Instruction::Copy { from, length: if length == 0 { 0x10000 } else { length } }
        } else if op != 0 {
            let (own, after) = rest.split_at_checked(usize::from(op)).context("delta is cut off in an insertion")?;
            rest = after;
            Instruction::Own(own)
        } else {
            bail!("delta has an unknown instruction");
        };
        self.0 = rest;
        Ok(instruction)
    }
}

/// Writes the object that `delta` makes from `base` to `out` (cleared first).
///
/// # Errors
/// When the delta is malformed, belongs to another base, or makes more than `limit` bytes.
pub fn apply(base: &[u8], delta: &[u8], limit: u64, out: &mut Vec<u8>) -> anyhow::Result<()> {
    out.clear();
    let (base_size, result_size, at) = sizes(delta)?;
    if base_size != base.len() as u64 {
        bail!("delta is for a base of {base_size} bytes, not {}", base.len());
    }
    if result_size > limit {
        bail!(super::TooLarge { size: result_size, limit });
    }
    let result_size = usize::try_from(result_size).context("object is too large for this machine")?;
    let room = result_size.min(FIRST_BYTES);
    if out.capacity() < room {
        // Growing a lent buffer would copy its old content.
        *out = Vec::with_capacity(room);
    }
    for instruction in Instructions(&delta[at..]) {
        let piece = match instruction? {
            Instruction::Copy { from, length } => {
                from.checked_add(length).and_then(|end| base.get(from..end)).context("delta copies beyond its base")?
            }
            Instruction::Own(own) => own,
        };
        if piece.len() > result_size - out.len() {
            bail!("delta makes more than the {result_size} bytes it announces");
        }
        out.extend_from_slice(piece);
    }
    if out.len() != result_size {
        bail!("delta makes {} of the {result_size} bytes it announces", out.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(base: &[u8], delta: &[u8], expected: Result<&[u8], &str>) {
        let mut out = b"old".to_vec();
        match (apply(base, delta, 100, &mut out), expected) {
            (Ok(()), Ok(content)) => assert_eq!(out, content),
            (Err(error), Err(text)) => assert!(error.to_string().contains(text), "{error}"),
            (got, expected) => panic!("got {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn copies_and_insertions_make_the_object() {
        check(b"hello world", &[11, 7, 0x91, 6, 5, 2, b'!', b'?'], Ok(b"world!?"));
        check(b"", &[0, 0], Ok(b""));
        check(b"ab", &[2, 4, 0x90, 2, 0x90, 2], Ok(b"abab"));
        let long = [0x82, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0, 0x82, 0x80, 0, 0x90, 2];
        check(b"ab", &long, Ok(b"ab"));
    }

    #[test]
    fn whatever_is_malformed_is_an_error() {
        check(b"hello", &[], Err("header is cut off"));
        check(b"hello", &[5], Err("header is cut off"));
        check(b"hello", &[4, 1, 1, b'x'], Err("for a base of 4 bytes"));
        check(b"hello", &[5, 1, 0], Err("unknown instruction"));
        check(b"hello", &[5, 5, 0x91, 1, 5], Err("beyond its base"));
        check(b"hello", &[5, 5, 0x91, 1], Err("cut off in a copy"));
        check(b"hello", &[5, 5, 5, b'a'], Err("cut off in an insertion"));
        check(b"hello", &[5, 4, 0x90, 5], Err("more than the 4 bytes"));
        check(b"hello", &[5, 6, 0x90, 5], Err("5 of the 6 bytes"));
        check(b"hello", &[5, 101, 0x90, 5], Err("limit"));
        check(b"hello", &[5, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], Err("64 bits"));
    }
}

//! Deltas, applied.
//!
//! In: a base and a delta, both untrusted. Out: the result. No number of the delta sizes an allocation before the
//! instructions have shown that they really produce that much.

/// The two sizes a delta begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Bytes the base must have.
    pub base: u64,
    /// Bytes the result will have.
    pub result: u64,
}

/// The most bytes [`Sizes::parse`] looks at.
pub(super) const SIZES_LEN_MAX: usize = 20;

/// Results up to this size are allocated as declared; larger ones once the instructions have been added up.
const TRUSTED: usize = 64 << 10;

impl Sizes {
    /// Reads the sizes; also returns where the instructions begin.
    pub fn parse(delta: &[u8]) -> Option<(Self, usize)> {
        let mut at = 0;
        let base = varint(delta, &mut at)?;
        let result = varint(delta, &mut at)?;
        Some((Sizes { base, result }, at))
    }
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0_u64;
    let mut shift = 0_u32;
    loop {
        let byte = *bytes.get(*at)?;
        *at += 1;
        let bits = u64::from(byte & 0x7f);
        if shift >= 64 || (bits << shift) >> shift != bits {
            return None;
        }
        value |= bits << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
}

/// One instruction.
enum Step<'a> {
    Copy { offset: usize, size: usize },
    Insert(&'a [u8]),
}

/// The next instruction, or `None` when it is cut off or of the reserved kind.
#[inline]
fn step<'a>(delta: &mut &'a [u8]) -> Option<Step<'a>> {
    let (&code, mut rest) = delta.split_first()?;
    if code & 0x80 == 0 {
        if code == 0 {
            return None;
        }
        let (bytes, rest) = rest.split_at_checked(usize::from(code))?;
        *delta = rest;
        return Some(Step::Insert(bytes));
    }
    let mut offset = 0_usize;
    let mut size = 0_usize;
    for bit in 0..7 {
        if code & (1 << bit) != 0 {
            let (&byte, after) = rest.split_first()?;
            rest = after;
            if bit < 4 {
                offset |= usize::from(byte) << (8 * bit);
            } else {
                size |= usize::from(byte) << (8 * (bit - 4));
            }
        }
    }
    *delta = rest;
    Some(Step::Copy { offset, size: if size == 0 { 0x10000 } else { size } })
}

/// Applies `delta` to `base`, into `result` (cleared first). `None`: the delta does not fit the base, or is malformed.
pub(super) fn apply(base: &[u8], delta: &[u8], result: &mut Vec<u8>) -> Option<()> {
    result.clear();
    let (sizes, at) = Sizes::parse(delta)?;
    if sizes.base != base.len() as u64 {
        return None;
    }
    let size = usize::try_from(sizes.result).ok()?;
    let mut steps = &delta[at..];
    if size > TRUSTED {
        let mut rest = steps;
        let mut sum = 0_usize;
        while !rest.is_empty() {
            sum = sum.checked_add(match step(&mut rest)? {
                Step::Copy { size, .. } => size,
                Step::Insert(bytes) => bytes.len(),
            })?;
        }
        if sum != size {
            return None;
        }
    }
    result.reserve_exact(size);
    while !steps.is_empty() {
        let part = match step(&mut steps)? {
            Step::Copy { offset, size } => base.get(offset..offset.checked_add(size)?)?,
            Step::Insert(bytes) => bytes,
        };
        if part.len() > size - result.len() {
            return None;
        }
        result.extend_from_slice(part);
    }
    (result.len() == size).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(base: &str, delta: &[u8], expected: Option<&str>) {
        let mut result = b"left from before".to_vec();
        let got = apply(base.as_bytes(), delta, &mut result).map(|()| String::from_utf8(result).unwrap());
        assert_eq!(got.as_deref(), expected, "{delta:?} on {base:?}");
    }

    #[test]
    fn copies_and_inserts_make_the_result() {
        check("hello world", &[11, 11, 0x91, 6, 5, 1, b' ', 0x90, 5], Some("world hello"));
        check("abc", &[3, 0], Some(""));
        check("abc", &[3, 3, 3, b'x', b'y', b'z'], Some("xyz"));
    }

    #[test]
    fn a_copy_of_size_zero_means_64_kib() {
        let base = "a".repeat(0x10000);
        check(&base, &[0x80, 0x80, 0x04, 0x80, 0x80, 0x04, 0x80], Some(&base));
    }

    #[test]
    fn deltas_that_do_not_fit_are_refused() {
        check("abc", &[], None);
        check("abc", &[3], None);
        check("abc", &[4, 1, 1, b'x'], None);
        check("abc", &[3, 1, 0], None);
        check("abc", &[3, 1, 2, b'x'], None);
        check("abc", &[3, 1, 2, b'x', b'y'], None);
        check("abc", &[3, 2, 1, b'x'], None);
        check("abc", &[3, 2, 0x91, 2, 2], None);
        check("abc", &[3, 2, 0x91], None);
        check("abc", &[3, 1, 0x9f, 0xff, 0xff, 0xff, 0xff, 1], None);
        check("abc", &[3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, b'x'], None);
    }

    #[test]
    fn a_declared_size_that_the_instructions_do_not_reach_allocates_nothing() {
        let mut result = Vec::new();
        let tebibyte = [3, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 1, b'x'];
        assert_eq!(apply(b"abc", &tebibyte, &mut result), None);
        assert_eq!(result.capacity(), 0);
    }
}

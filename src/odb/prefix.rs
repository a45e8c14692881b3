//! The common prefix of two byte strings.
//!
//! In: two byte strings. Out: the length of their common prefix.

/// The size of a processor word.
const WORD: usize = 8;
/// How many bytes are compared at once after the first word was equal, since then usually more are.
const STEP: usize = 32;

/// The length of the common prefix.
#[inline]
pub fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    let mut same = 0;
    if let (Some(word), Some(others)) = (one.first_chunk(), other.first_chunk()) {
        match same_bytes(*word, *others) {
            WORD => same = WORD,
            fewer => return fewer,
        }
    }
    let (steps, _) = one[same..].as_chunks::<STEP>();
    let (others, _) = other[same..].as_chunks::<STEP>();
    same += steps.iter().zip(others).take_while(|(step, other)| step == other).count() * STEP;
    let (words, _) = one[same..].as_chunks();
    let (others, _) = other[same..].as_chunks();
    for (word, other) in words.iter().zip(others) {
        match same_bytes(*word, *other) {
            WORD => same += WORD,
            fewer => return same + fewer,
        }
    }
    same + one[same..].iter().zip(&other[same..]).take_while(|(one, other)| one == other).count()
}

#[inline(always)]
fn same_bytes(one: [u8; WORD], other: [u8; WORD]) -> usize {
    ((u64::from_le_bytes(one) ^ u64::from_le_bytes(other)).trailing_zeros() / 8) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_where_they_differ_or_the_shorter_one_ends() {
        let content: Vec<u8> = (0..100).collect();
        for length in 0..content.len() {
            assert_eq!(common_prefix(&content[..length], &content), length);
            assert_eq!(common_prefix(&content, &content[..length]), length);
            let mut other = content.clone();
            other[length] ^= 0x80;
            for behind in length + 1..=content.len() {
                assert_eq!(common_prefix(&content, &other[..behind]), length);
            }
        }
    }
}

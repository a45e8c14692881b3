//! Objects' names as text, read and written one at a time.
//!
//! In: digits. Out: a name, and back. The processor is never asked what it can do: a crate that handles many digits at once asks first,
//! and on virtual machines each such question takes longer than forty digits do.

use gix_hash::{ObjectId, oid};

/// The name that 40 or 64 digits stand for, capitals or not; `None`: they stand for none.
pub fn parse(digits: &[u8]) -> Option<ObjectId> {
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let mut bytes = [0; gix_hash::Kind::longest().len_in_bytes()];
    let name = bytes.get_mut(..pairs.len())?;
    let mut wrong = 0;
    for (byte, &[high, low]) in name.iter_mut().zip(pairs) {
        let (high, low) = (value(high), value(low));
        wrong |= high | low;
        *byte = high << 4 | low & 15;
    }
    if wrong > 15 { None } else { ObjectId::try_from(&*name).ok() }
}

/// Adds a name in lower-case digits.
pub fn push(text: &mut Vec<u8>, id: &oid) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; gix_hash::Kind::longest().len_in_hex()];
    for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(id.as_bytes()) {
        *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    }
    text.extend_from_slice(&digits[..id.kind().len_in_hex()]);
}

/// What a digit stands for; more than 15: it is none.
fn value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0xff,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_as_digits() {
        let digits = "0123456789abcdef".repeat(5);
        for length in 0..digits.len() {
            let text = &digits[..length];
            let expected = ObjectId::from_hex(text.as_bytes()).ok();
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
            assert_eq!(parse(text.to_uppercase().as_bytes()), expected, "{text}");
            let Some(id) = expected else { continue };
            let mut line = b"have ".to_vec();
            push(&mut line, &id);
            assert_eq!(line, format!("have {text}").as_bytes());
            for byte in 0..=u8::MAX {
                for at in [0, length - 1] {
                    let mut text = text.as_bytes().to_vec();
                    text[at] = byte;
                    assert_eq!(parse(&text), ObjectId::from_hex(&text).ok(), "{byte} at {at}");
                }
            }
        }
    }
}

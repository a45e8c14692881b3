//! Object ids as text, parsed and written one at a time.
//!
//! In: digits. Out: an id, and back. Never uses instructions that need a check of the processor's features: a crate
//! that handles many digits at once checks first, and on virtual machines each check takes longer than forty digits do.

use gix_hash::{ObjectId, oid};

/// Parses an id of 40 or 64 digits, uppercase or lowercase; `None` for anything else.
pub fn parse(digits: &[u8]) -> Option<ObjectId> {
    let (eights, []) = digits.as_chunks::<8>() else { return None };
    let mut bytes = [0; gix_hash::Kind::longest().len_in_bytes()];
    let name = bytes.get_mut(..eights.len() * 4)?;
    for (four, eight) in name.as_chunks_mut::<4>().0.iter_mut().zip(eights) {
        *four = values(*eight)?;
    }
    ObjectId::try_from(&*name).ok()
}

/// Appends an id in lowercase digits.
pub fn push(text: &mut Vec<u8>, id: &oid) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; gix_hash::Kind::longest().len_in_hex()];
    for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(id.as_bytes()) {
        *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    }
    text.extend_from_slice(&digits[..id.kind().len_in_hex()]);
}

/// The bytes that eight digits encode. The digits are processed as one number with a byte for each.
fn values(digits: [u8; 8]) -> Option<[u8; 4]> {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const TOP: u64 = EACH * 0x80;
    let digits = u64::from_le_bytes(digits);
    // With the top bits cleared no sum overflows into the next byte.
    let reaches = |bytes: u64, least: u64| ((bytes & !TOP) + EACH * (0x80 - least)) & TOP;
    let is_figure = reaches(digits, 0x30) & !reaches(digits, 0x3a);
    let small = digits | (EACH * 0x20);
    let is_letter = reaches(small, 0x61) & !reaches(small, 0x67);
    if is_figure | is_letter != TOP || digits & TOP != 0 {
        return None;
    }
    let values = (digits & (EACH * 0x0f)) + (is_letter >> 7) * 9;
    let pairs = (values << 4 | values >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
    Some(((fours | fours >> 16) as u32).to_le_bytes())
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
                for at in [0, 1, 6, 7, length - 1] {
                    let mut text = text.as_bytes().to_vec();
                    text[at] = byte;
                    assert_eq!(parse(&text), ObjectId::from_hex(&text).ok(), "{byte} at {at}");
                }
            }
        }
    }
}

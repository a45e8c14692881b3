//! Numbers as C, and therefore git, reads them: `strtoimax` with any base.
//!
//! In: text. Out: a number, and the text that follows it. Nothing is ever rounded or cut to a range.

/// Parses the number at the beginning of a text. Leading blanks and a `+` are skipped; `0x` makes it hexadecimal, any
/// other leading `0` octal. `None` if there is no number, it is negative, or it is too large.
pub fn leading(text: &[u8]) -> Option<(u64, &[u8])> {
    let text = text.trim_ascii_start();
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let is_hex = |byte: &u8| byte.is_ascii_hexdigit();
    let (digits, radix) = match text {
        [b'0', b'x' | b'X', digits @ ..] if digits.first().is_some_and(is_hex) => (digits, 16),
        [b'0', ..] => (text, 8),
        _ => (text, 10),
    };
    of_radix(digits, radix)
}

fn of_radix(text: &[u8], radix: u32) -> Option<(u64, &[u8])> {
    let end = text.iter().position(|byte| !char::from(*byte).is_digit(radix)).unwrap_or(text.len());
    let (digits, behind) = text.split_at(end);
    let number = u64::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()?;
    Some((number, behind))
}

/// Parses a number that nothing follows.
pub fn whole(text: &[u8]) -> Option<u64> {
    leading(text).filter(|(_, behind)| behind.is_empty()).map(|(number, _)| number)
}

/// Parses a number that is followed by k, m, g or nothing.
pub fn with_unit(text: &[u8]) -> Option<u64> {
    leading(text).and_then(in_units)
}

fn in_units((number, unit): (u64, &[u8])) -> Option<u64> {
    let factor = match unit.to_ascii_lowercase().as_slice() {
        b"" => 1,
        b"k" => 1 << 10,
        b"m" => 1 << 20,
        b"g" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// Parses the same with an optional sign.
pub fn signed_with_unit(text: &[u8]) -> Option<i64> {
    signed(text, with_unit)
}

/// Parses the same in base ten only, like lengths in HTTP (RFC 9110, 8.6): leading zeros do not make it octal.
pub fn signed_decimal_with_unit(text: &[u8]) -> Option<i64> {
    signed(text, |text| of_radix(text, 10).and_then(in_units))
}

fn signed(text: &[u8], read: impl Fn(&[u8]) -> Option<u64>) -> Option<i64> {
    match text.trim_ascii_start().strip_prefix(b"-") {
        // A second sign is not allowed.
        Some(digits @ [b'0'..=b'9', ..]) => 0_i64.checked_sub_unsigned(read(digits)?),
        Some(_) => None,
        None => i64::try_from(read(text)?).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_bases_of_c_and_end_where_its_digits_end() {
        for (text, expected) in [
            ("12", Some((12, ""))),
            (" +12 ", Some((12, " "))),
            ("0", Some((0, ""))),
            ("0x1F", Some((31, ""))),
            ("0x", Some((0, "x"))),
            ("010", Some((8, ""))),
            ("08", Some((0, "8"))),
            ("1f", Some((1, "f"))),
            ("18446744073709551615", Some((u64::MAX, ""))),
            ("18446744073709551616", None),
            ("", None),
            ("-1", None),
            ("+-1", None),
            ("++1", None),
        ] {
            assert_eq!(leading(text.as_bytes()), expected.map(|(number, rest)| (number, rest.as_bytes())), "{text}");
        }
    }

    #[test]
    fn units_and_signs_are_read_and_nothing_else() {
        for (text, expected) in [
            ("010k", Some(8 << 10)),
            ("0x10M", Some(16 << 20)),
            ("-1", Some(-1)),
            (" -0x10g", Some(-(16 << 30))),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("9007199254740992k", None),
            ("--1", None),
            ("-+1", None),
            ("1kb", None),
            ("1 k", None),
            ("", None),
        ] {
            assert_eq!(signed_with_unit(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn decimal_numbers_have_no_other_base() {
        for (text, expected) in [
            ("12", Some(12)),
            ("010", Some(10)),
            ("00", Some(0)),
            ("08k", Some(8 << 10)),
            ("-1", Some(-1)),
            ("0x10", None),
            ("12x", None),
            ("1 2", None),
            ("+1", None),
            ("", None),
        ] {
            assert_eq!(signed_decimal_with_unit(text.as_bytes()), expected, "{text}");
        }
    }
}

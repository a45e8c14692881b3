//! The grammar of tokens, and the secret, which is never shown.
//!
//! In: bytes presented by a client, or randomness from the operating system. Out: a [`Token`], or the text of a new
//! one. A secret leaves this file only as its SHA-256; the one exception is the plaintext of a new token.

use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::io;

/// The prefix of every secret.
const PREFIX: &[u8] = b"art_";

/// The prefix of secrets minted here. Other control planes may use a different word after [`PREFIX`].
const MINTED_PREFIX: &str = "art_v1_";

/// The number of random bytes in a secret minted here: 160 bits, 40 hexadecimal digits.
const RANDOM_BYTES: usize = 20;

/// The longest secret that is looked up, in bytes.
pub const SECRET_BYTES_MAX: usize = 128;

/// The length of a record's id in characters.
pub const ID_CHARS: usize = 16;

/// A presented token: its secret, and the expiry its suffix claims.
pub struct Token {
    /// The secret, by whose hash the record is found.
    pub secret: Secret,
    /// `?expires=`, in Unix seconds; it can only shorten the record's lifetime.
    pub claimed_expiry: Option<u64>,
}

impl Token {
    /// Parses `<secret>` or `<secret>?expires=<unix seconds>`; `None` for anything else.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (secret, claimed_expiry) = match text.iter().position(|&byte| byte == b'?') {
            None => (text, None),
            Some(at) => {
                let (secret, suffix) = text.split_at(at);
                (secret, Some(unix_seconds(suffix.strip_prefix(b"?expires=")?)?))
            }
        };
        Some(Token { secret: Secret::parse(secret)?, claimed_expiry })
    }
}

/// The secret part of a token. It deliberately has no Debug, Display or Serialize.
pub struct Secret {
    text: Box<[u8]>,
}

impl Secret {
    /// Accepts any word of letters, digits and underscores that begins with `art_` and is not too long: what follows
    /// the prefix is up to the issuer.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let rest = text.strip_prefix(PREFIX)?;
        let fits = !rest.is_empty() && text.len() <= SECRET_BYTES_MAX;
        let word = rest.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_');
        (fits && word).then(|| Secret { text: text.into() })
    }

    /// The SHA-256 in lowercase hexadecimal digits, which is the name of the record's file.
    pub(super) fn digest(&self) -> String {
        hex(&Sha256::digest(&self.text))
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.text.fill(0);
        // Keeps the compiler from removing the fill, because the zeros are never read.
        std::hint::black_box(&self.text);
    }
}

/// Makes a new secret, and the text of its token, which expires at `expires_at`.
///
/// # Errors
/// When the operating system provides no randomness.
pub(super) fn mint(expires_at: u64) -> io::Result<(Secret, String)> {
    let mut random = [0; RANDOM_BYTES];
    fill_random(&mut random)?;
    let secret = format!("{MINTED_PREFIX}{}", hex(&random));
    let plaintext = format!("{secret}?expires={expires_at}");
    Ok((Secret { text: secret.into_bytes().into() }, plaintext))
}

/// Makes a new id: 16 random base-36 characters.
///
/// # Errors
/// When the operating system provides no randomness.
pub fn random_id() -> io::Result<String> {
    let mut id = String::with_capacity(ID_CHARS);
    let mut random = [0; 2 * ID_CHARS];
    while id.len() < ID_CHARS {
        fill_random(&mut random)?;
        // 252 is the largest multiple of 36 in a byte: larger values would make some characters more likely.
        let even = random.iter().filter(|&&byte| byte < 252).map(|&byte| byte % 36);
        let chars = even.filter_map(|digit| char::from_digit(u32::from(digit), 36));
        id.extend(chars.take(ID_CHARS - id.len()));
    }
    Ok(id)
}

/// Whether `text` has the form of a record's id.
pub fn is_id(text: &str) -> bool {
    text.len() == ID_CHARS && text.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase())
}

/// Accepts digits only: `u64::from_str` would accept a sign.
fn unix_seconds(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn fill_random(mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        let filled = rustix::io::retry_on_intr(|| getrandom(&mut *buffer, GetRandomFlags::empty()))?;
        buffer = &mut buffer[filled..];
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all that is written to it");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(&str, Option<u64>)>) {
        let token = Token::parse(text.as_bytes());
        let found = token.as_ref().map(|token| (str::from_utf8(&token.secret.text).unwrap(), token.claimed_expiry));
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn a_token_is_a_secret_and_perhaps_an_expiry() {
        check("art_v1_0123", Some(("art_v1_0123", None)));
        check("art_v1_0123?expires=17", Some(("art_v1_0123", Some(17))));
        check("art_v2_x_0123?expires=18446744073709551615", Some(("art_v2_x_0123", Some(u64::MAX))));
        check("art_Z", Some(("art_Z", None)));
    }

    #[test]
    fn what_is_not_a_token_is_not_looked_up() {
        for text in [
            "",
            "art",
            "art_",
            "ART_v1_0123",
            "bart_v1_0123",
            " art_v1_0123",
            "art_v1_01 23",
            "art_v1_0123/..",
            "art_v1_0123.json",
            "art_v1_0123\0",
            "art_v1_ä",
            "art_v1_0123?",
            "art_v1_0123?expires=",
            "art_v1_0123?expires=+1",
            "art_v1_0123?expires=-1",
            "art_v1_0123?expires=1 ",
            "art_v1_0123?expires=0x1",
            "art_v1_0123?expires=18446744073709551616",
            "art_v1_0123?expire=1",
            "art_v1_0123?expires=1?expires=2",
            "art_v1_0123?expires=1&x=2",
            "?expires=1",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn a_secret_has_at_most_128_characters() {
        let longest = format!("art_{}", "a".repeat(SECRET_BYTES_MAX - 4));
        check(&longest, Some((&longest, None)));
        check(&format!("{longest}?expires=5"), Some((&longest, Some(5))));
        check(&format!("{longest}a"), None);
    }

    #[test]
    fn a_minted_token_has_the_documented_form_and_reads_back() {
        let (secret, plaintext) = mint(1_800_000_000).unwrap();
        let digits = plaintext.strip_prefix("art_v1_").unwrap().strip_suffix("?expires=1800000000").unwrap();
        assert_eq!(digits.len(), 40);
        assert!(digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{digits}");
        let read = Token::parse(plaintext.as_bytes()).unwrap();
        assert_eq!(read.secret.digest(), secret.digest());
        assert_ne!(mint(1).unwrap().0.digest(), mint(1).unwrap().0.digest());
    }

    #[test]
    fn the_digest_is_sha_256_of_the_secret_alone() {
        let digest = |text: &str| Token::parse(text.as_bytes()).unwrap().secret.digest();
        assert_eq!(digest("art_v1_0123?expires=17"), digest("art_v1_0123"));
        assert_eq!(digest("art_v1_0123"), hex(&Sha256::digest("art_v1_0123")));
        assert_eq!(digest("art_v1_0123").len(), 64);
    }

    #[test]
    fn ids_are_16_base_36_characters_and_differ() {
        let id = random_id().unwrap();
        assert!(is_id(&id), "{id}");
        assert_ne!(id, random_id().unwrap());
        for text in ["", "0123456789abcde", "0123456789abcdef0", "0123456789abcdeF", "0123456789abcd/f"] {
            assert!(!is_id(text), "{text}");
        }
    }
}

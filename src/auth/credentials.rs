//! The Authorization header: Bearer, or Basic with the secret as the password.
//!
//! In: the header's values as the web server handed them over. Out: [`Credentials`]. Nothing is looked up here, and the
//! user name of Basic is never kept.

use super::Token;
use percent_encoding::percent_decode;
use std::borrow::Cow;

/// What the Authorization header contains.
#[derive(Default)]
pub enum Credentials {
    /// There is none, or it is empty.
    #[default]
    None,
    /// A well-formed token.
    Token {
        /// The token.
        token: Token,
        /// How it was sent.
        presented: Presented,
    },
    /// Not a well-formed token, with how it was sent.
    Malformed(Presented),
    /// More than one credential.
    Two,
    /// A scheme that is neither Basic nor Bearer.
    OtherScheme,
}

/// How credentials were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presented {
    /// `Authorization: Bearer …`
    Bearer,
    /// `Authorization: Basic …`, as the password.
    Basic,
}

impl Credentials {
    /// Parses the values of all Authorization headers that arrived, one from each variable that holds one.
    ///
    /// The same value twice is one credential: some web servers pass one header on under two names.
    pub fn parse(headers: &[&[u8]]) -> Self {
        let mut values = headers.iter().map(|header| trimmed(header)).filter(|value| !value.is_empty());
        let Some(first) = values.next() else { return Credentials::None };
        if values.any(|other| other != first) {
            return Credentials::Two;
        }
        let (scheme, value) = match first.iter().position(|&byte| is_blank(byte)) {
            Some(at) => (&first[..at], trimmed(&first[at..])),
            None => (first, &first[..0]),
        };
        let presented = if scheme.eq_ignore_ascii_case(b"bearer") {
            Presented::Bearer
        } else if scheme.eq_ignore_ascii_case(b"basic") {
            Presented::Basic
        } else {
            return Credentials::OtherScheme;
        };
        // Web servers join two headers with a comma, which neither a token nor base64 contains.
        if value.contains(&b',') {
            return Credentials::Two;
        }
        let token = match presented {
            Presented::Bearer => Token::parse(value),
            Presented::Basic => basic_token(value),
        };
        token.map_or(Credentials::Malformed(presented), |token| Credentials::Token { token, presented })
    }
}

/// Returns the token in the password of `user:password` in base64. git decodes the password of a URL before it sends
/// it; the password is percent-decoded here for clients that do not.
fn basic_token(value: &[u8]) -> Option<Token> {
    let mut pair = base64(value)?;
    let colon = pair.iter().position(|&byte| byte == b':');
    let token = colon.and_then(|at| {
        let password: Cow<'_, [u8]> = percent_decode(&pair[at + 1..]).into();
        Token::parse(&password)
    });
    pair.fill(0);
    token
}

/// Decodes correctly padded base64 (RFC 4648, section 4); `None` for anything else.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take_while(|&&byte| byte == b'=').count();
    if padding > 2 {
        return None;
    }
    let digits = &text[..text.len() - padding];
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in digits.chunks(4) {
        let mut bits = 0u32;
        for &digit in group {
            bits = bits << 6 | sextet(digit)?;
        }
        let whole = group.len() * 6 / 8;
        let spare = group.len() * 6 % 8;
        // Unused bits must be zero, so that there is only one text for each value.
        if bits & ((1 << spare) - 1) != 0 {
            return None;
        }
        bytes.extend_from_slice(&(bits >> spare).to_be_bytes()[4 - whole..]);
    }
    Some(bytes)
}

fn sextet(digit: u8) -> Option<u32> {
    Some(u32::from(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    }))
}

fn trimmed(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_blank(*first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && is_blank(*last)
    {
        text = rest;
    }
    text
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "art_v1_0123456789abcdef0123456789abcdef01234567";

    /// `expected` is the scheme and claimed expiry of a token, such as `bearer 17`, or the word for what was found
    /// instead.
    fn check(headers: &[&str], expected: &str) {
        let values: Vec<_> = headers.iter().map(|header| header.as_bytes()).collect();
        let found = match Credentials::parse(&values) {
            Credentials::None => "none".into(),
            Credentials::Token { token, presented } => {
                assert_eq!(token.secret.digest(), Token::parse(SECRET.as_bytes()).unwrap().secret.digest());
                let expiry = token.claimed_expiry.map_or(String::new(), |expiry| format!(" {expiry}"));
                format!("{presented:?}{expiry}").to_lowercase()
            }
            Credentials::Malformed(presented) => format!("malformed {presented:?}").to_lowercase(),
            Credentials::Two => "two".into(),
            Credentials::OtherScheme => "other scheme".into(),
        };
        assert_eq!(found, expected, "{headers:?}");
    }

    fn basic(pair: &str) -> String {
        let alphabet: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['+', '/']).collect();
        let mut text = String::from("Basic ");
        for group in pair.as_bytes().chunks(3) {
            let bits =
                group.iter().fold(0usize, |bits, &byte| bits << 8 | usize::from(byte)) << (8 * (3 - group.len()));
            for place in 0..4 {
                text.push(if place <= group.len() { alphabet[bits >> (18 - 6 * place) & 63] } else { '=' });
            }
        }
        text
    }

    #[test]
    fn bearer_carries_the_secret_or_the_full_token() {
        check(&[&format!("Bearer {SECRET}")], "bearer");
        check(&[&format!("Bearer {SECRET}?expires=17")], "bearer 17");
        check(&[&format!("bEARER   {SECRET}")], "bearer");
        check(&[&format!(" \tBearer\t{SECRET} \t ")], "bearer");
        check(&["Bearer"], "malformed bearer");
        check(&["Bearer "], "malformed bearer");
        check(&["Bearer hunter2"], "malformed bearer");
        check(&[&format!("Bearer {SECRET}%3Fexpires%3D17")], "malformed bearer");
        check(&[&format!("Bearer {SECRET} {SECRET}")], "malformed bearer");
    }

    #[test]
    fn basic_carries_either_in_the_password_slot() {
        check(&[&basic(&format!("x:{SECRET}"))], "basic");
        check(&[&basic(&format!(":{SECRET}"))], "basic");
        check(&[&basic(&format!("anybody at all:{SECRET}?expires=17"))], "basic 17");
        check(&[&basic(&format!("x:{SECRET}%3Fexpires%3D17"))], "basic 17");
        check(&[&basic(&format!("x:{SECRET}%3fexpires%3d17"))], "basic 17");
        check(&[&basic(&format!("x:{SECRET}")).replace("Basic ", "BASIC  ")], "basic");
        check(&[&format!("{}\t ", basic(&format!("xy:{SECRET}")))], "basic");
    }

    #[test]
    fn basic_without_a_token_in_the_password_is_malformed() {
        for pair in [
            "",
            ":",
            "x",
            "x:",
            "x:hunter2",
            SECRET,
            &format!("{SECRET}:"),
            &format!("{SECRET}:x-oauth-basic"),
            &format!("x:y:{SECRET}"),
            &format!("x: {SECRET}"),
            &format!("x:{SECRET}%"),
            &format!("x:{SECRET}%00"),
            &format!("x:{SECRET}%2525"),
        ] {
            check(&[&basic(pair)], "malformed basic");
        }
        check(&["Basic"], "malformed basic");
        check(&["Basic !!!!"], "malformed basic");
        check(&[&format!("Basic x:{SECRET}")], "malformed basic");
        check(&[basic(&format!("x:{SECRET}")).trim_end_matches('=')], "malformed basic");
    }

    #[test]
    fn no_header_and_empty_ones_are_no_credentials() {
        check(&[], "none");
        check(&["", "  "], "none");
        check(&["", &format!("Bearer {SECRET}")], "bearer");
    }

    #[test]
    fn two_credentials_are_refused_and_one_under_two_names_is_not() {
        let bearer = format!("Bearer {SECRET}");
        check(&[&format!("{bearer}, {bearer}")], "two");
        check(&[&format!("{bearer},Bearer other")], "two");
        check(&[&format!("{}, {bearer}", basic(&format!("x:{SECRET}")))], "two");
        check(&[&bearer, &basic(&format!("x:{SECRET}"))], "two");
        check(&[&bearer, "Negotiate abc"], "two");
        check(&[&bearer, &format!("{bearer} ")], "bearer");
    }

    #[test]
    fn other_schemes_are_told_apart() {
        check(&["Digest username=\"x\", realm=\"y\""], "other scheme");
        check(&["Negotiate abc"], "other scheme");
        check(&[SECRET], "other scheme");
        check(&["Bearers abc"], "other scheme");
        check(&["Basic\u{a0}abc"], "other scheme");
    }

    #[test]
    fn base64_is_strict() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(base64(text.as_bytes()), expected.map(|expected| expected.as_bytes().to_vec()), "{text}");
        };
        check("", Some(""));
        check("Zg==", Some("f"));
        check("Zm8=", Some("fo"));
        check("Zm9v", Some("foo"));
        check("Zm9vYg==", Some("foob"));
        for text in ["Zg", "Zg=", "Zh==", "Zm9=", "Z===", "====", "Zg==Zg==", "Zm9v\n", "Zm_v", "=Zg=", "A==="] {
            check(text, None);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(header: Vec<u8>, other: Vec<u8>) {
            Credentials::parse(&[&header, &other]);
            Credentials::parse(&[&[b"Basic ", &header[..]].concat()]);
            Credentials::parse(&[&[b"Bearer art_", &header[..]].concat()]);
        }

        #[test]
        fn every_text_comes_back_from_base64(text: String) {
            let encoded = basic(&text);
            let digits = encoded.strip_prefix("Basic ").unwrap();
            proptest::prop_assert_eq!(base64(digits.as_bytes()), Some(text.into_bytes()));
        }
    }
}

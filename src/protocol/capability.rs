//! The grammar of capabilities, v0 to v2: words with or without a value.
//!
//! In: the bytes after an object name, or one line of v2. Out: names and values. Nothing here decides which names are
//! known: the services do.

/// One capability: `name` or `name=value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability<'a> {
    /// The part before the first `=`.
    pub name: &'a [u8],
    /// The part after it; `None` without a `=`.
    pub value: Option<&'a [u8]>,
}

impl<'a> Capability<'a> {
    /// Splits one word, or one line of v2, at its first `=`.
    pub fn parse(word: &'a [u8]) -> Self {
        let mut parts = word.splitn(2, |&byte| byte == b'=');
        Capability { name: parts.next().unwrap_or(word), value: parts.next() }
    }

    /// The capabilities of a v0 line: words separated by spaces (gitprotocol-capabilities).
    pub fn words(line: &'a [u8]) -> impl Iterator<Item = Capability<'a>> {
        line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).map(Capability::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_whole_and_values_keep_their_equals_signs() {
        let check = |line: &[u8], expected: &str| {
            let told: Vec<_> = Capability::words(line)
                .map(|word| match word.value {
                    None => word.name.escape_ascii().to_string(),
                    Some(value) => format!("{}={}", word.name.escape_ascii(), value.escape_ascii()),
                })
                .collect();
            assert_eq!(told.join("|"), expected);
        };
        check(b"", "");
        check(b" multi_ack  thin-pack\tagent=git/2.53 ", "multi_ack|thin-pack|agent=git/2.53");
        check(b"x= y==z \xff", "x=|y==z|\\xff");
        check(b"=", "=");
    }
}

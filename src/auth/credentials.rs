//! The Authorization header: Bearer, and Basic with the secret in the password's place.

use super::Token;

/// What the Authorization header said.
#[derive(Default)]
pub enum Credentials {
    /// There was none, or an empty one.
    #[default]
    None,
    /// A token of the right form.
    Token {
        /// The token.
        token: Token,
        /// How it was carried.
        presented: Presented,
    },
    /// Something else, and how it was carried.
    Malformed(Presented),
    /// More than one credential.
    Two,
    /// A scheme that is neither Basic nor Bearer.
    OtherScheme,
}

/// How credentials were carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presented {
    /// `Authorization: Bearer …`
    Bearer,
    /// `Authorization: Basic …`, the password.
    Basic,
}

impl Credentials {
    /// Reads the values of all Authorization headers that arrived (first entry of each variable).
    pub fn parse(headers: &[&[u8]]) -> Self {
        let _ = headers;
        unimplemented!()
    }
}

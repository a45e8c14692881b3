//! The grammar of tokens, and the secret, which is never shown.

/// A presented token: its secret, and the expiry its suffix claims.
pub struct Token {
    /// What is looked up.
    pub secret: Secret,
    /// `?expires=`, unix seconds; it can only shorten the record's.
    pub claimed_expiry: Option<u64>,
}

/// The secret part of a token. It has no Debug, no Display and no Serialize.
pub struct Secret {
    _text: String,
}

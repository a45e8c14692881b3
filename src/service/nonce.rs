//! Nonces of push certificates: proof that a certificate was signed after a recent announcement of ours
//! (receive.certNonceSeed).
//!
//! In: the seed, the repository's name, times. Out: the nonce to announce, and a verdict on one that comes back.
//! Nothing is stored: a nonce is verified by computing it again.

use crate::repo::Repository;
use bstr::{BStr, ByteSlice};
use sha1::Digest;

/// The block size of both hashes, in bytes.
const BLOCK: usize = 64;

/// What hooks are told about a nonce (githooks, GIT_PUSH_CERT_NONCE_STATUS).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NonceStatus {
    /// The certificate has no nonce.
    Missing,
    /// The certificate has a nonce although none was announced.
    Unsolicited,
    /// The nonce is not ours.
    Bad,
    /// The nonce is the announced one, or close enough to it.
    Ok,
    /// The nonce is ours, issued this many seconds before this request (negative: after it).
    Slop(i64),
}

impl NonceStatus {
    /// The word that hooks see.
    pub fn word(self) -> &'static str {
        match self {
            NonceStatus::Missing => "MISSING",
            NonceStatus::Unsolicited => "UNSOLICITED",
            NonceStatus::Bad => "BAD",
            NonceStatus::Ok => "OK",
            NonceStatus::Slop(_) => "SLOP",
        }
    }
}

/// The nonce of this request, or `None` if certificates are not asked for.
pub fn announced(repository: &Repository) -> Option<String> {
    let seed = repository.settings.cert_nonce_seed.as_ref()?;
    Some(made(seed.reveal(), repository.context.named.as_bstr(), repository.context.now, repository.hash()))
}

/// Judges a nonce that came back, and returns the nonce that hooks are told: ours, or the client's if it is as good.
pub fn judge(repository: &Repository, nonce: Option<&BStr>) -> (NonceStatus, Option<String>) {
    let issued = announced(repository);
    let status = match (nonce, &issued) {
        (None, _) => NonceStatus::Missing,
        (Some(_), None) => NonceStatus::Unsolicited,
        (Some(nonce), Some(issued)) if is_same(nonce, issued.as_bytes()) => NonceStatus::Ok,
        // Over pipes only the announced nonce is good: it is the same conversation.
        (Some(_), Some(_)) if !repository.context.stateless => NonceStatus::Bad,
        (Some(nonce), Some(_)) => of_another_request(repository, nonce),
    };
    let slop = repository.settings.cert_nonce_slop_s;
    match (status, nonce) {
        (NonceStatus::Slop(seconds), Some(nonce)) if slop > 0 && seconds.unsigned_abs() <= slop => {
            (NonceStatus::Ok, Some(nonce.to_string()))
        }
        _ => (status, issued),
    }
}

/// The announcement and the push are two requests, perhaps to two servers: a nonce made from the seed is ours, whatever
/// its time.
fn of_another_request(repository: &Repository, nonce: &BStr) -> NonceStatus {
    let stamp = nonce.find_byte(b'-').and_then(|end| nonce.get(..end)).filter(|digits| digits.first() != Some(&b'0'));
    let stamp = stamp.filter(|digits| digits.iter().all(u8::is_ascii_digit));
    let stamp = stamp.and_then(|digits| digits.to_str().ok()?.parse::<u64>().ok());
    let (Some(stamp), Some(seed)) = (stamp, &repository.settings.cert_nonce_seed) else { return NonceStatus::Bad };
    let context = &repository.context;
    if !is_same(nonce, made(seed.reveal(), context.named.as_bstr(), stamp, repository.hash()).as_bytes()) {
        return NonceStatus::Bad;
    }
    let seconds = i64::try_from(context.now).ok().zip(i64::try_from(stamp).ok());
    seconds.and_then(|(now, stamp)| now.checked_sub(stamp)).map_or(NonceStatus::Bad, NonceStatus::Slop)
}

/// Whether two texts are equal, in a time that does not depend on where they differ.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}

/// `SECONDS-HMAC`
fn made(seed: &[u8], named: &BStr, seconds: u64, hash: gix_hash::Kind) -> String {
    let text = [named.as_bytes(), format!(":{seconds}").as_bytes()].concat();
    // As in git, the seed is the message and the text is the key.
    let mac = match hash {
        gix_hash::Kind::Sha1 => hmac::<sha1::Sha1>(&text, seed),
        _ => hmac::<sha2::Sha256>(&text, seed),
    };
    format!("{seconds}-{}", mac.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// HMAC as in RFC 2104.
fn hmac<H: Digest>(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut padded = [0; BLOCK];
    let hashed;
    let key = if key.len() > BLOCK {
        hashed = H::digest(key).to_vec();
        hashed.as_slice()
    } else {
        key
    };
    padded[..key.len()].copy_from_slice(key);
    let inner = H::new().chain_update(padded.map(|byte| byte ^ 0x36)).chain_update(text).finalize();
    H::new().chain_update(padded.map(|byte| byte ^ 0x5c)).chain_update(&inner).finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authentication_codes_are_those_of_rfc_2202_and_4231() {
        let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let text = b"what do ya want for nothing?";
        assert_eq!(hex(hmac::<sha1::Sha1>(b"Jefe", text)), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex(hmac::<sha2::Sha256>(b"Jefe", text)), expected);
        let text = b"Test Using Larger Than Block-Size Key - Hash Key First";
        assert_eq!(hex(hmac::<sha1::Sha1>(&[0xaa; 80], text)), "aa4ae5e15272d00e95705637ce8a3b55ed402112");
    }
}

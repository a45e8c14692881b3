//! promisor-remote (gitprotocol-v2, promisor-remote): remotes from which a client may fetch objects that are missing
//! here.
//!
//! In: the configuration; the names a client accepts. Out: the announcement; whether one of our remotes was accepted.
//! The remotes are never contacted.

use crate::repo::promisor::PromisorRemote;
use crate::repo::settings::Settings;
use bstr::BStr;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, percent_encode};

/// What is escaped as `%xx`, besides bytes that are not ASCII.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b',').add(b';').add(b'%');

/// The announcement, or `None` if the owner wants none or there is nothing to announce (V2-17).
pub fn announcement(settings: &Settings) -> Option<Vec<u8>> {
    if !settings.promisor_advertise {
        return None;
    }
    let sends =
        |field: &str| settings.promisor_send_fields.iter().any(|word| word.eq_ignore_ascii_case(field.as_bytes()));
    let (sends_filter, sends_token) = (sends("partialCloneFilter"), sends("token"));
    let mut told = Vec::new();
    for PromisorRemote { name, url, filter, token } in &settings.promisor_remotes {
        let Some(url) = url.as_ref() else { continue };
        if !told.is_empty() {
            told.push(b';');
        }
        let given = [
            ("name", Some(name)),
            (",url", Some(url)),
            (",partialCloneFilter", filter.as_ref().filter(|_| sends_filter)),
            (",token", token.as_ref().filter(|_| sends_token)),
        ];
        for (field, value) in given {
            let Some(value) = value else { continue };
            told.extend_from_slice(field.as_bytes());
            told.push(b'=');
            told.extend(lower_hex(value));
        }
    }
    (!told.is_empty()).then_some(told)
}

/// Escapes a value with lowercase hexadecimal digits, as git does.
fn lower_hex(value: &[u8]) -> Vec<u8> {
    percent_encode(value, ESCAPED)
        .flat_map(|piece| {
            let escaped = piece.starts_with('%');
            piece.bytes().map(move |byte| if escaped { byte.to_ascii_lowercase() } else { byte })
        })
        .collect()
}

/// Whether one of the names a client accepts, separated by `;`, is a promisor remote of ours (V2-18).
pub fn accepts(settings: &Settings, names: &BStr) -> bool {
    let mut accepted = names.split(|&byte| byte == b';').map(|name| percent_decode(name).collect::<Vec<u8>>());
    accepted.any(|name| settings.promisor_remotes.iter().any(|remote| remote.name == name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bstr::ByteSlice;

    #[test]
    fn values_are_escaped_as_git_does() {
        let check = |value: &[u8], expected: &str| assert_eq!(lower_hex(value).as_bstr(), expected);
        check(b"https://host/a%20b?x=1", "https://host/a%2520b?x=1");
        check(b"a,b;c d\n\xc3\xa4\x7f", "a%2cb%3bc%20d%0a%c3%a4%7f");
    }
}

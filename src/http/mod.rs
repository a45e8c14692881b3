//! HTTP without sockets: requests, routes, bodies, responses.
//!
//! In: what an edge read. Out: what to answer with, and a head in front of its bytes. Nothing here opens a repository.

pub mod body;
pub mod conditions;
pub mod dumb;
pub mod exchange;
pub mod request;
pub mod response;
pub mod route;
pub mod stored;

pub use conditions::Conditions;
pub use exchange::Exchange;
pub use request::{Method, Reject, Request};
pub use response::Response;
pub use route::{Route, Target};
pub use stored::StoredFile;

/// Decodes a name or value of a query: `%`-escapes, and `+` as a space (HB-24).
fn request_word(word: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = word.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    percent_encoding::percent_decode(&spaced).collect()
}

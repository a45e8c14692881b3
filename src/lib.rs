//! Git over HTTP for repository tokens: the library behind the executable `artifacts-http-backend`.
//!
//! Modules stand here from the bottom up; each looks down only (tests/tidy.rs knows the order).

// Leaves, used by all.
pub mod audit;
pub mod children;
pub mod durable;
pub mod stream;
pub mod trace;
// L0: framing.
pub mod pktline;
// L1: what is said.
pub mod protocol;
// L2: what the credentials prove.
pub mod auth;
// L3: objects on disk; names.
pub mod odb;
pub mod refs;
// L4: one repository, opened for one request.
pub mod repo;
// L5: which objects, from which bytes.
pub mod pack;
// L6: one file per thing git asks.
pub mod service;
// L7: HTTP without sockets; who may do what.
pub mod access;
pub mod http;
// L8: the edges.
pub mod cgi;
pub mod cli;
pub mod pipe;

//! End to end: the executable as a CGI program, and real git clients through the embedded server.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod access;
mod bodies;
mod bundles;
mod cli;
mod clone;
mod concurrency;
mod config;
mod corpus;
#[cfg(feature = "failpoints")]
mod crash;
mod deadline;
mod differential;
mod dumb;
mod filter;
mod hostile;
mod kept;
mod leftovers;
mod likeness;
mod maintenance;
mod medley;
mod namespaces;
mod pack_hook;
mod pipes;
mod push;
mod relay;
mod shallow;
mod signals;
mod sizes;
mod storage;
mod support;
mod surroundings;
mod versions;

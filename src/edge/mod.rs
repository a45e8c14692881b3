//! Code that all edges share: the environment, the context built from it, descriptors 0 and 1.
//!
//! In: the process. Out: values. Nothing here interprets the bytes of a request.

mod context;
mod environ;
mod streams;
pub mod users;

pub use context::{clock, config_sources, context, request_id};
pub use environ::Environ;
pub use streams::{Stdin, Stdout, survive_file_limits};

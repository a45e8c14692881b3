//! What all edges share: the environment, the context made of it, descriptors 0 and 1.
//!
//! In: the process. Out: values. Nothing of a request's bytes is understood here.

mod context;
mod environ;
mod streams;
pub mod users;

pub use context::{clock, config_sources, context, request_id};
pub use environ::Environ;
pub use streams::{Stdin, Stdout, survive_file_limits};

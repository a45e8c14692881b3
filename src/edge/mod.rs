//! Code that all edges share: the environment, the context built from it, descriptors 0 and 1.
//!
//! In: the process. Out: values. Nothing here interprets the bytes of a request.

mod context;
mod environ;
mod streams;
pub mod users;

pub use context::{Arrival, config_sources, context};
pub use environ::Environ;
pub use streams::{Stdin, Stdout, survive_file_limits};

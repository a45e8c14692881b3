//! End to end: the executable as a CGI program, and real git clients through the embedded server.

mod access;
mod bodies;
mod cli;
mod clone;
mod concurrency;
mod config;
mod dumb;
mod hostile;
mod namespaces;
mod push;
mod relay;
mod signals;
mod support;

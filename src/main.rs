//! Which edge: by the environment, else by argv.

use artifacts_http_backend::edge::Environ;
use artifacts_http_backend::{cgi, cli};
use std::process::ExitCode;

/// Asks the kernel for memory in larger pieces than musl does: a CGI process lives for half a millisecond.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    let environ = Environ::of_process();
    if environ.is_cgi() { cgi::run(&environ) } else { cli::run(std::env::args_os()) }
}

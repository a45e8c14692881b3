//! Which edge: by the program's name, else by the environment, else by argv.

use artifacts_http_backend::edge::Environ;
use artifacts_http_backend::{cgi, cli, pipe};
use std::process::ExitCode;

/// musl's own asks the kernel for a few pages at a time, which a short process feels.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: artifacts_http_backend::heap::Heap = artifacts_http_backend::heap::Heap::of_process();

fn main() -> ExitCode {
    // Lives as long as the process: what it took to read is not spent again on giving it back.
    let environ: &'static Environ = Box::leak(Box::new(Environ::of_process()));
    #[cfg(feature = "failpoints")]
    artifacts_http_backend::durable::failpoints::arm_process(
        environ.text("ARTIFACTS_FAILPOINT").as_deref(),
        environ.path("ARTIFACTS_FAILPOINT_LOG").as_deref(),
    );
    let mut words = std::env::args_os();
    // argv[0] is the caller's, never the client's: a web server that starts this program by its own name decides by the environment.
    if let Some(service) = words.next().and_then(|name| pipe::service_of_name(&name)) {
        return pipe::run(environ, service, words);
    }
    if environ.is_cgi() {
        return cgi::run(environ);
    }
    match words.next().and_then(|word| pipe::service_of_word(&word)) {
        Some(service) => pipe::run(environ, service, words),
        None => cli::run(std::env::args_os()),
    }
}

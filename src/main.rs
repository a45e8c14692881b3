//! Chooses the edge: by the program's name, otherwise by the environment, otherwise by the first argument.

use artifacts_http_backend::edge::Environ;
use artifacts_http_backend::{cgi, cli, pipe};
use std::process::ExitCode;

/// musl's own allocator asks the kernel for only a few pages at a time, which slows a short process down.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: artifacts_http_backend::heap::Heap = artifacts_http_backend::heap::Heap::of_process();

fn main() -> ExitCode {
    // Leaked on purpose: it lives as long as the process, and freeing it would only cost time.
    let environ: &'static Environ = Box::leak(Box::new(Environ::of_process()));
    #[cfg(feature = "failpoints")]
    artifacts_http_backend::durable::failpoints::arm_process(
        environ.text("ARTIFACTS_FAILPOINT").as_deref(),
        environ.path("ARTIFACTS_FAILPOINT_LOG").as_deref(),
    );
    let mut words = std::env::args_os();
    // The caller sets argv[0], never the client: a web server starts this program by its own name, so there the
    // environment decides.
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

//! Which edge: by the environment, else by argv.

use artifacts_http_backend::{cgi, cli};
use std::process::ExitCode;

fn main() -> ExitCode {
    let environ = cgi::Environ::of_process();
    if environ.is_cgi() { cgi::run(&environ) } else { cli::run(std::env::args_os()) }
}

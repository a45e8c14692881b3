//! `serve`: an embedded web server on loopback that hosts this executable as a CGI program.
//!
//! In: arguments, then requests. Out: their answers, each from a process of its own, as with any other web server.
//! Meant for a quick start, for development and for tests; production needs a real web server. Never: TLS, or a
//! decision about repositories or tokens, which the hosted program makes.

mod head;
mod host;
mod impatient;
mod welcome;

use super::variable;
use anyhow::Context as _;
use host::{Ends, Host, Limits, complain};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use impatient::Impatient;
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// How long a connection may be idle, or take to send the header of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long to wait after accepting a connection failed, most likely for lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What `serve` can be told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The address to listen on
    #[arg(long, visible_alias = "listen", value_name = "IP", default_value = "127.0.0.1")]
    address: IpAddr,
    /// The port to listen on; 0 means any free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// The directory of the repositories [default: $GIT_PROJECT_ROOT, else ./git-root]
    #[arg(long, value_name = "DIRECTORY")]
    root: Option<PathBuf>,
    /// tokens: require a repository token; webserver: apply git's own rules to $REMOTE_USER
    #[arg(long, value_name = "MODE", value_parser = ["tokens", "webserver"], default_value = "tokens")]
    auth: String,
    /// The CGI program to run for each request [default: this executable]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// When the root, the program or the address cannot be used.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the event loop")?;
    runtime.block_on(serve(args))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: Args) -> anyhow::Result<()> {
    let root = args.root.or_else(|| variable("GIT_PROJECT_ROOT").map(PathBuf::from));
    let root = root.unwrap_or_else(|| "git-root".into());
    std::fs::create_dir_all(&root).with_context(|| format!("creating {}", root.display()))?;
    let root = root.canonicalize().with_context(|| format!("finding {}", root.display()))?;
    let program = match args.program {
        Some(program) => program.canonicalize().with_context(|| format!("finding {}", program.display()))?,
        None => std::env::current_exe().context("finding this executable")?,
    };
    let address = SocketAddr::new(args.address, args.port);
    let listener = TcpListener::bind(address);
    let listener =
        listener.await.with_context(|| format!("listening on {address} (use --port to choose another port)"))?;
    let base_url = format!("http://{}{}", listener.local_addr().context("asking for the port")?, host::PREFIX);
    // Registered before anything is printed: a process that reads the address may want to end this one at once.
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;

    let tokens = variable("ARTIFACTS_TOKENS").map_or_else(|| root.join(welcome::TOKENS), PathBuf::from);
    let tokens = std::path::absolute(tokens).context("finding the token store")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the system clock is set before 1970")?.as_secs();
    let site = welcome::Site { root: &root, tokens: &tokens, base_url: &base_url, now };
    let mut words = Vec::new();
    if args.auth == "tokens" {
        welcome::write(&mut words, &site)?
    } else {
        welcome::serving(&mut words, &site)?
    }
    if !args.address.is_loopback() {
        complain(format_args!(
            "{} is not a loopback address: tokens are sent unencrypted; put a web server with TLS in front",
            args.address
        ));
    }
    // Nothing depends on this being read: the server also runs with stdout closed.
    let _ = io::stdout().write_all(&words).and_then(|()| io::stdout().flush());

    let mut environment = inherited(std::env::vars_os());
    environment.push(("ARTIFACTS_TOKENS".into(), tokens.into()));
    environment.push(("GIT_PROJECT_ROOT".into(), root.into()));
    environment.push(("ARTIFACTS_AUTH".into(), args.auth.into()));
    if variable("ARTIFACTS_BASE_URL").is_none() {
        environment.push(("ARTIFACTS_BASE_URL".into(), base_url.into()));
    }
    let end = async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    accept(listener, Arc::new(Host::new(program, environment, Limits::default())), end).await;
    Ok(())
}

/// Selects what a program gets of our own environment: how to find programs and configuration, git's switches, and our
/// own. Not `GIT_DIR` and the like, which git sets for aliases and hooks: they would name one repository for all
/// requests.
fn inherited(all: impl Iterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    const NAMES: [&str; 9] = [
        "PATH",
        "HOME",
        "XDG_CONFIG_HOME",
        "TMPDIR",
        "TZ",
        "REMOTE_USER",
        "GIT_HTTP_EXPORT_ALL",
        "GIT_HTTP_MAX_REQUEST_BUFFER",
        "GIT_NAMESPACE",
    ];
    const BEGINNINGS: [&[u8]; 5] = [b"ARTIFACTS_", b"GIT_CONFIG_", b"GIT_TRACE", b"LC_", b"LANG"];
    let passes = |name: &OsStr| {
        NAMES.iter().any(|known| name == *known)
            || BEGINNINGS.iter().any(|beginning| name.as_bytes().starts_with(beginning))
    };
    all.filter(|(name, _)| passes(name)).collect()
}

/// Accepts connections until `end`, then stops the programs that are still running.
async fn accept(listener: TcpListener, host: Arc<Host>, end: impl Future<Output = ()>) {
    let connections = async {
        loop {
            match listener.accept().await {
                Ok((stream, client)) => {
                    tokio::spawn(converse(stream, client, Arc::clone(&host)));
                }
                Err(error) => {
                    complain(format_args!("cannot accept a connection: {error}"));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = connections => {}
        () = end => {}
    }
    drop(listener);
    host.close().await;
}

/// Serves all requests of one connection.
async fn converse(stream: tokio::net::TcpStream, client: SocketAddr, host: Arc<Host>) {
    let Ok(server) = stream.local_addr() else { return };
    // Small packets (progress, keep-alives) go out as they are written.
    let _ = stream.set_nodelay(true);
    let ends = Ends { client, server };
    let stream = Impatient::new(stream, host.patience());
    let service = service_fn(|request| {
        let host = Arc::clone(&host);
        async move { Ok::<_, Infallible>(host.answer(request, ends).await) }
    });
    // An error means that the client left or did not speak HTTP; hyper has already sent any answer that is still
    // possible.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

#[cfg(test)]
mod tests;

//! One request, one process: the gateway between HTTP and CGI.
//!
//! In: a request. Out: its answer, as the program writes it. The program's input and output are pumped at the same
//! time, so that neither side can block the other. A program whose client has gone is stopped, and every program is
//! reaped. Nothing here knows git: output is passed on as it is.

use super::head::{BadHead, Head};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header;
use hyper::{Method, Request, Response, StatusCode, Version};
use percent_encoding::percent_decode_str;
use rustix::process::{Pid, Signal};
use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Where repositories begin in a URL; the SCRIPT_NAME of programs.
pub(super) const PREFIX: &str = "/git";

/// Limits of programs and clients.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// How many programs may run at the same time; further requests wait.
    pub(super) programs: u32,
    /// How long a program may continue after SIGTERM, before SIGKILL.
    pub(super) grace: Duration,
    /// How long a client may send nothing of an announced body, or accept nothing of its answer, before it counts as
    /// gone: meanwhile a program waits for it and occupies a slot.
    pub(super) patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { programs: 64, grace: Duration::from_secs(3), patience: Duration::from_secs(60) }
    }
}

/// The most output passed on at once, in bytes: the capacity of a pipe.
const BLOCK_BYTES: usize = 64 << 10;

/// The two ends of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) client: SocketAddr,
    pub(super) server: SocketAddr,
}

/// Runs a program for each request.
pub(super) struct Host {
    program: PathBuf,
    /// The first part of every request's environment.
    environment: Vec<(OsString, OsString)>,
    limits: Limits,
    slots: Arc<Semaphore>,
    closing: watch::Sender<bool>,
}

impl Host {
    /// Creates a host that runs `program` with `environment` and nothing else of our own environment.
    pub(super) fn new(program: PathBuf, environment: Vec<(OsString, OsString)>, limits: Limits) -> Self {
        let slots = Arc::new(Semaphore::new(limits.programs as usize));
        Host { program, environment, limits, slots, closing: watch::channel(false).0 }
    }

    /// How long a client may be silent.
    pub(super) fn patience(&self) -> Duration {
        self.limits.patience
    }

    /// Stops all programs and waits until the last one is reaped; no more are started.
    pub(super) async fn close(&self) {
        self.closing.send_replace(true);
        // A program holds its slot until it has been reaped.
        let _all = self.slots.acquire_many(self.limits.programs).await;
        self.slots.close();
    }

    /// Answers one request.
    pub(super) async fn answer(&self, request: Request<Incoming>, ends: Ends) -> Response<Answer> {
        let Some(path_info) = path_info(request.uri().path()) else {
            return sentence(
                StatusCode::NOT_FOUND,
                "Nothing is served here; repositories are at /git/<namespace>/<repository>.git\n",
            );
        };
        if path_info.as_bytes().contains(&0) {
            return sentence(StatusCode::BAD_REQUEST, "The path contains a NUL byte.\n");
        }
        let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else {
            return sentence(StatusCode::SERVICE_UNAVAILABLE, "The server is shutting down.\n");
        };
        let (parts, body) = request.into_parts();
        let mut command = Command::new(&self.program);
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env("SCRIPT_FILENAME", &self.program).env("PATH_INFO", path_info).envs(meta_variables(&parts, ends));
        // In a process group of its own, so that Ctrl-C on a terminal reaches only us; programs are then stopped one by
        // one.
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                complain(format_args!("cannot start {}: {error}", self.program.display()));
                return sentence(StatusCode::INTERNAL_SERVER_ERROR, "The program could not be started.\n");
            }
        };
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            unreachable!("both were asked for as pipes");
        };
        let fate = FateOf::running();
        let keeper = Keeper { child, slot, grace: self.limits.grace };
        tokio::spawn(keeper.keep(fate.0.subscribe(), self.closing.subscribe()));
        tokio::spawn(feed(body, stdin, fate.clone(), self.limits.patience));
        hear(stdout, fate, parts.method == Method::HEAD).await
    }
}

/// What happens to a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is working.
    Running,
    /// Its answer is complete: it may end by itself.
    Answered,
    /// Nothing waits for its answer any more.
    Abandoned,
}

/// A handle on a program's fate, which is decided once.
#[derive(Clone)]
struct FateOf(Arc<watch::Sender<Fate>>);

impl FateOf {
    fn running() -> Self {
        FateOf(Arc::new(watch::channel(Fate::Running).0))
    }

    fn settle(&self, settled: Fate) {
        self.0.send_if_modified(|fate| {
            let first = *fate == Fate::Running;
            if first {
                *fate = settled;
            }
            first
        });
    }
}

/// Stays with a program until it is reaped.
struct Keeper {
    child: Child,
    slot: OwnedSemaphorePermit,
    grace: Duration,
}

impl Keeper {
    async fn keep(mut self, mut fate: watch::Receiver<Fate>, mut closing: watch::Receiver<bool>) {
        let abandoned = async {
            if fate.wait_for(|fate| *fate == Fate::Abandoned).await.is_err() {
                // No handle is left that could abandon it.
                std::future::pending::<()>().await;
            }
        };
        let is_over = tokio::select! {
            _ = self.child.wait() => true,
            () = abandoned => false,
            _ = closing.wait_for(|closing| *closing) => false,
        };
        if !is_over {
            self.terminate().await;
        }
        drop(self.slot);
    }

    async fn terminate(&mut self) {
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            // The process id cannot be in use by another process: only `wait` reaps it. The call fails only if the
            // program has ended.
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
        if tokio::time::timeout(self.grace, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

/// Passes the request's body on to the program as it comes.
async fn feed(mut body: Incoming, stdin: ChildStdin, fate: FateOf, patience: Duration) {
    let mut stdin = Some(stdin);
    loop {
        let frame = match tokio::time::timeout(patience, body.frame()).await {
            Ok(None) => return,
            Ok(Some(frame)) => frame.ok(),
            Err(_) => None,
        };
        let Some(frame) = frame else {
            // The client left in mid-body, or was silent for too long. The program gets the signal before it sees the
            // end of its input.
            fate.settle(Fate::Abandoned);
            tokio::task::yield_now().await;
            return;
        };
        let Ok(data) = frame.into_data() else { continue };
        // A program may stop reading before its input ends. The rest is still read, because otherwise the client would
        // not see the answer.
        if let Some(pipe) = &mut stdin
            && pipe.write_all(&data).await.is_err()
        {
            stdin = None;
        }
    }
}

/// Waits for the header block; after it the body is passed on as it comes.
async fn hear(mut stdout: ChildStdout, fate: FateOf, is_head: bool) -> Response<Answer> {
    let mut unanswered = Unanswered(Some(fate));
    let mut heard = Vec::new();
    let found = loop {
        match stdout.read_buf(&mut heard).await {
            Ok(0) | Err(_) => break Err(None),
            Ok(_) => match Head::parse(&heard) {
                Ok(None) => {}
                Ok(Some(found)) => break Ok(found),
                Err(why) => break Err(Some(why)),
            },
        }
    };
    let (head, body_at) = match found {
        Ok(found) => found,
        Err(why) => {
            let text = match why {
                None => "The program ended without an answer.\n",
                Some(BadHead::TooLong) => "The header of the program's answer is too long.\n",
                Some(BadHead::Malformed) => "The program's answer has no valid header.\n",
            };
            return sentence(StatusCode::BAD_GATEWAY, text);
        }
    };
    let unanswered = Unanswered(unanswered.0.take());
    let first = Bytes::from(heard).slice(body_at..);
    let mut output = Output { stdout, first, left: head.length, buffer: Vec::new(), unanswered };
    let mut response = Response::new(Answer::Text(None));
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    let is_bare = head.status == StatusCode::NO_CONTENT || head.status == StatusCode::NOT_MODIFIED;
    if is_bare && !is_head {
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    if is_bare || is_head {
        // Such an answer has no body: whatever the program writes is read and discarded.
        tokio::spawn(async move { while let Some(Ok(_)) = output.frame().await {} });
        return response;
    }
    if head.length == Some(0) {
        output.unanswered.settle(Fate::Answered);
    }
    *response.body_mut() = Answer::Program(output);
    response
}

/// Abandons its program if it is dropped before the answer is complete.
struct Unanswered(Option<FateOf>);

impl Unanswered {
    fn settle(&mut self, settled: Fate) {
        if let Some(fate) = self.0.take() {
            fate.settle(settled);
        }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.settle(Fate::Abandoned);
    }
}

/// The body of an answer.
pub(super) enum Answer {
    /// A sentence of ours, or nothing.
    Text(Option<Bytes>),
    /// The program's output.
    Program(Output),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Answer::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Answer::Program(output) => Pin::new(output).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Answer::Text(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Answer::Program(output) => output.left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

/// A program's output after its header block.
pub(super) struct Output {
    stdout: ChildStdout,
    /// What arrived together with the header block.
    first: Bytes,
    /// How many bytes are still to come, if the program announced a length.
    left: Option<u64>,
    buffer: Vec<u8>,
    unanswered: Unanswered,
}

impl Output {
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        if !self.first.is_empty() {
            return Poll::Ready(Ok(std::mem::take(&mut self.first)));
        }
        self.buffer.resize(BLOCK_BYTES, 0);
        let mut buffer = ReadBuf::new(&mut self.buffer);
        ready!(Pin::new(&mut self.stdout).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(Bytes::copy_from_slice(buffer.filled())))
    }
}

impl Body for Output {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let output = self.get_mut();
        let mut data = ready!(output.read(cx))?;
        if data.is_empty() {
            output.unanswered.settle(Fate::Answered);
            return Poll::Ready(None);
        }
        if let Some(left) = &mut output.left {
            // Bytes beyond the announced length would be taken for the next answer on this connection.
            data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= data.len() as u64;
            if *left == 0 {
                // The body is not polled again after the last byte.
                output.unanswered.settle(Fate::Answered);
            }
            if data.is_empty() {
                return Poll::Ready(None);
            }
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}

/// The part of the path after [`PREFIX`], decoded; `None` for a path elsewhere.
fn path_info(path: &str) -> Option<OsString> {
    let rest = path.strip_prefix(PREFIX)?;
    rest.starts_with('/').then(|| OsString::from_vec(percent_decode_str(rest).collect()))
}

/// The variables of RFC 3875 and a few more that other servers set, without PATH_INFO and SCRIPT_FILENAME.
fn meta_variables(parts: &hyper::http::request::Parts, ends: Ends) -> Vec<(OsString, OsString)> {
    let protocol = if parts.version == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" };
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.and_then(|host| host.parse::<hyper::http::uri::Authority>().ok());
    let name = host.map_or_else(|| ends.server.ip().to_string(), |host| host.host().to_owned());
    let mut variables: Vec<(OsString, OsString)> = [
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("SERVER_SOFTWARE", concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"))),
        ("SERVER_PROTOCOL", protocol),
        ("SERVER_NAME", &name),
        ("SERVER_PORT", &ends.server.port().to_string()),
        ("SERVER_ADDR", &ends.server.ip().to_string()),
        ("REMOTE_ADDR", &ends.client.ip().to_string()),
        ("REMOTE_PORT", &ends.client.port().to_string()),
        ("REQUEST_METHOD", parts.method.as_str()),
        ("REQUEST_URI", target),
        ("SCRIPT_NAME", PREFIX),
        ("QUERY_STRING", parts.uri.query().unwrap_or_default()),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .into();
    if let Some(content_type) = parts.headers.get(header::CONTENT_TYPE) {
        variables.push(("CONTENT_TYPE".into(), OsStr::from_bytes(content_type.as_bytes()).into()));
    }
    // A chunked body has no length, even if the client sent one.
    let length =
        parts.headers.get(header::CONTENT_LENGTH).filter(|_| !parts.headers.contains_key(header::TRANSFER_ENCODING));
    if let Some(length) = length {
        variables.push(("CONTENT_LENGTH".into(), OsStr::from_bytes(length.as_bytes()).into()));
    }
    for name in parts.headers.keys() {
        // An underscore would become the same variable as a hyphen; HTTP_PROXY would be obeyed by many programs
        // (httpoxy).
        let plain = name.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if plain && !["content-type", "content-length", "proxy"].contains(&name.as_str()) {
            let values: Vec<_> = parts.headers.get_all(name).iter().map(header::HeaderValue::as_bytes).collect();
            let variable = format!("HTTP_{}", name.as_str().to_ascii_uppercase().replace('-', "_"));
            variables.push((variable.into(), OsString::from_vec(values.join(&b", "[..]))));
        }
    }
    variables
}

/// An answer of the server itself.
fn sentence(status: StatusCode, text: &'static str) -> Response<Answer> {
    let mut response = Response::new(Answer::Text(Some(Bytes::from_static(text.as_bytes()))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
    response
}

/// Writes one line for the operator; nothing depends on its being read.
pub(super) fn complain(what: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "serve: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_behind_the_prefix_is_decoded_once() {
        let check = |path: &str, expected: Option<&[u8]>| {
            assert_eq!(path_info(path).as_deref().map(OsStr::as_bytes), expected, "{path}");
        };
        check("/git/a/b.git/info/refs", Some(b"/a/b.git/info/refs"));
        check("/git/a%2Fb%20c/%2e%2e/x", Some(b"/a/b c/../x"));
        check("/git/%ff%2541", Some(b"/\xff%41"));
        check("/git/a%zz%", Some(b"/a%zz%"));
        check("/git//a", Some(b"//a"));
        check("/git/", Some(b"/"));
        check("/git", None);
        check("/github/a", None);
        check("/", None);
    }

    fn variables(request: hyper::http::request::Builder) -> Vec<String> {
        let ends = Ends { client: ([127, 0, 0, 1], 4000).into(), server: ([127, 0, 0, 1], 80).into() };
        let parts = request.body(()).unwrap().into_parts().0;
        let line = |(name, value): (OsString, OsString)| format!("{}={}", name.display(), value.display());
        meta_variables(&parts, ends).into_iter().map(line).collect()
    }

    #[test]
    fn headers_become_variables() {
        let all = variables(
            Request::builder()
                .uri("http://example.com:8080/git/a/b.git/info/refs?service=x&y=%20")
                .header("Host", "example.com:8080")
                .header("Git-Protocol", "version=2")
                .header("Authorization", "Bearer one")
                .header("Authorization", "Bearer two")
                .header("Proxy", "http://evil")
                .header("X_Y", "1")
                .header("Content-Length", "5"),
        );
        for expected in [
            "SERVER_NAME=example.com",
            "REQUEST_URI=/git/a/b.git/info/refs?service=x&y=%20",
            "QUERY_STRING=service=x&y=%20",
            "HTTP_GIT_PROTOCOL=version=2",
            "HTTP_AUTHORIZATION=Bearer one, Bearer two",
            "CONTENT_LENGTH=5",
        ] {
            assert!(all.iter().any(|line| line == expected), "{expected} is not in {all:?}");
        }
        for unexpected in ["HTTP_PROXY", "HTTP_X_Y", "HTTP_CONTENT", "CONTENT_TYPE"] {
            assert!(!all.iter().any(|line| line.starts_with(unexpected)), "{unexpected} is in {all:?}");
        }
    }

    #[test]
    fn a_chunked_body_has_no_length() {
        let all = variables(
            Request::builder().uri("/git/").header("Transfer-Encoding", "chunked").header("Content-Length", "5"),
        );
        assert!(!all.iter().any(|line| line.starts_with("CONTENT_LENGTH")), "{all:?}");
    }
}

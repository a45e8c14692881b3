//! The CGI edge: turns the environment and standard input into a request. Only CGI's own variables are read here; those
//! that all edges share are read in edge/.
//!
//! In: the process's environment and descriptors 0, 1 and 2. Out: the answer on 1, lines for the operator on 2. argv is
//! never read: web servers turn parts of the query into arguments.

use crate::access::Rules;
use crate::audit::Summary;
use crate::auth::{Credentials, TokenStore};
use crate::edge::{self, Arrival, Environ, Stdin, Stdout};
use crate::http::body::{DrainBudget, Extent, HttpBody};
use crate::http::request::{Method, Reject, Request, RequestPath};
use crate::http::{Conditions, Exchange, Response, Route};
use crate::protocol::{Limits, Version};
use crate::repo::{AccessMode, Context, Inherited};
use crate::stream::Deadline;
use crate::trace::Trace;
use crate::{Site, serve, tell};
use bstr::{BStr, ByteSlice};
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Variables that hooks do not inherit, so that a hook may push or run this program: with them it would take itself for
/// a CGI program.
const NOT_FOR_HOOKS: &[&str] =
    &["REQUEST_METHOD", "GATEWAY_INTERFACE", "PATH_INFO", "PATH_TRANSLATED", "CONTENT_LENGTH", "CONTENT_TYPE"];

/// The client's headers that hooks see. Other headers may be secrets (HTTP_COOKIE) or steer the programs that a hook
/// runs: a program takes HTTP_PROXY as its proxy setting unless REQUEST_METHOD shows that it is a client's header.
const HEADERS_FOR_HOOKS: &[&str] = &[
    "HTTP_ACCEPT",
    "HTTP_ACCEPT_CHARSET",
    "HTTP_ACCEPT_ENCODING",
    "HTTP_ACCEPT_LANGUAGE",
    "HTTP_FORWARDED",
    "HTTP_GIT_PROTOCOL",
    "HTTP_HOST",
    "HTTP_REFERER",
    "HTTP_TRACEPARENT",
    "HTTP_USER_AGENT",
    "HTTP_VIA",
    "HTTP_X_CORRELATION_ID",
    "HTTP_X_FORWARDED_EMAIL",
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT",
    "HTTP_X_FORWARDED_PREFIX",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_SERVER",
    "HTTP_X_FORWARDED_USER",
    "HTTP_X_REAL_IP",
    "HTTP_X_REQUEST_ID",
];

/// Variables in which the web server says who the client is. In `tokens` mode nothing has verified them, so hooks do
/// not see them.
const CLAIMED: &[&str] = &["REMOTE_USER", "AUTH_TYPE", "HTTP_X_FORWARDED_EMAIL", "HTTP_X_FORWARDED_USER"];

/// Serves the process's request; the exit status is 0 unless the answer could not be completed.
pub fn run(environ: &'static Environ) -> ExitCode {
    // `serve` catches panics and reports each as one line, like any other error.
    std::panic::set_hook(Box::new(|_| {}));
    let arrival = Arrival::now();
    let site = site(environ);
    let (request, extent) = match (request(environ, &arrival), extent(environ)) {
        (request, Ok(extent)) => (request, extent),
        (_, Err(text)) => (Err(Reject::new(400, "The Content-Length is no number.").detail(text)), Extent::ToEnd),
    };
    let (push, timeout, version, trace) = match &request {
        Ok(request) => {
            let context = &request.context;
            (Route::is_push(request), context.timeout, Some(context.version.number()), context.trace.clone())
        }
        Err(_) => (false, None, None, Trace::default()),
    };
    edge::survive_file_limits(environ, push);
    let mut input = Stdin::new(Some(Duration::from_secs(site.limits.silence_s)), push);
    let mut output = Stdout::new(input.stop_flag());
    let deadline = timeout.and_then(Deadline::after);
    input.deadline(deadline);
    output.deadline(deadline);
    let gzip = matches!(environ.get("HTTP_CONTENT_ENCODING").map(|value| value.as_bytes()), Some(b"gzip" | b"x-gzip"));
    let finished = Arc::new(AtomicBool::new(false));
    let body = HttpBody::new(&mut input, extent, gzip, DrainBudget::strangers(&site.limits), Arc::clone(&finished));
    let summary = Summary {
        remote: environ.text("REMOTE_ADDR"),
        agent: environ.text("HTTP_USER_AGENT"),
        version,
        log: environ.path("ARTIFACTS_AUDIT_LOG"),
        time_ms: u64::try_from(arrival.since_epoch.as_millis()).unwrap_or(u64::MAX),
        id: arrival.id,
        ..Summary::default()
    };
    trace.started("http-backend", &[]);
    let mut operator = |line: &str| {
        trace.failed(line);
        log(line);
    };
    let exchange = Exchange::new(body, Response::new(&mut output, finished), summary);
    let (summary, is_complete) = serve(request, exchange, &site, &mut operator);
    if let Err(reason) = summary.request_done() {
        log(&tell::warning(&reason, &summary));
    }
    let status = u8::from(!is_complete);
    trace.release();
    trace.ended(status);
    status.into()
}

/// Writes a line to the web server's log, in one write: servers make one log entry of each read.
fn log(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Reads the operator's choices for the whole installation.
fn site(environ: &Environ) -> Site {
    let root = environ.path("GIT_PROJECT_ROOT");
    let tokens = environ
        .path("ARTIFACTS_TOKENS")
        .or_else(|| root.as_ref().map(|root| root.join(".artifacts/tokens")))
        .unwrap_or_default();
    Site {
        root,
        tokens: TokenStore::new(tokens),
        rules: Rules { export_all: environ.get("GIT_HTTP_EXPORT_ALL").is_some() },
        limits: Limits::default(),
    }
}

/// How long the body is (BO-01 to BO-04). On a POST, a length gives the exact number of bytes; a missing, empty or
/// negative one means that the body lasts until the end of input. Any other request has no body.
fn extent(environ: &Environ) -> Result<Extent, String> {
    if environ.get("REQUEST_METHOD").is_none_or(|method| method != "POST") {
        return Ok(Extent::None);
    }
    Ok(match environ.length("CONTENT_LENGTH")? {
        Some(length) => u64::try_from(length).map_or(Extent::ToEnd, Extent::Exact),
        None => Extent::ToEnd,
    })
}

/// Builds the request, or says why it cannot (HB-01 to HB-07).
fn request(environ: &'static Environ, arrival: &Arrival) -> Result<Request, Reject> {
    let broken = |text: &str| {
        Reject::new(
            500,
            "The web server's configuration for git is incomplete; its operator finds the reason in the log.",
        )
        .detail(text)
    };
    let mode = match environ.non_empty("ARTIFACTS_AUTH").map(|value| value.as_bytes()) {
        None | Some(b"tokens") => AccessMode::Tokens,
        Some(b"webserver") => AccessMode::WebServer,
        Some(_) => return Err(broken("ARTIFACTS_AUTH must be \"tokens\" or \"webserver\"")),
    };
    let method = environ.get("REQUEST_METHOD").ok_or_else(|| broken("No REQUEST_METHOD from server"))?;
    let path = match (environ.non_empty("GIT_PROJECT_ROOT"), mode) {
        (Some(_), _) => {
            let path = match environ.non_empty("PATH_INFO") {
                Some(path) => path,
                None if mode == AccessMode::Tokens => {
                    return Err(Reject::new(404, "This path names no repository: a URL's path is /<namespace>/<name>.git.")
                        .detail("GIT_PROJECT_ROOT is set but PATH_INFO is not: the web server must pass the path behind the program's own"));
                }
                None => return Err(broken("GIT_PROJECT_ROOT is set but PATH_INFO is not")),
            };
            if mode == AccessMode::WebServer && is_aliased(path) {
                return Err(broken(&format!("'{}': aliased", path.escape_ascii())));
            }
            RequestPath::Info(path.to_owned())
        }
        (None, AccessMode::WebServer) => match environ.path("PATH_TRANSLATED") {
            Some(path) => RequestPath::Translated(path),
            None => return Err(broken("No GIT_PROJECT_ROOT or PATH_TRANSLATED from server")),
        },
        (None, _) => return Err(broken("GIT_PROJECT_ROOT is not set: it names the directory of the repositories")),
    };
    let headers: Vec<&[u8]> = ["HTTP_AUTHORIZATION", "REDIRECT_HTTP_AUTHORIZATION"]
        .iter()
        .filter_map(|name| environ.non_empty(name))
        .map(|value| value.as_bytes())
        .collect();
    let credentials = match mode {
        AccessMode::Tokens => Credentials::parse(&headers),
        AccessMode::WebServer | AccessMode::Pipe => Credentials::None,
    };
    let mut request = Request {
        method: Method::parse(&method.to_str_lossy()),
        path,
        query: environ.get("QUERY_STRING").map(ToOwned::to_owned).unwrap_or_default(),
        content_type: environ.get("CONTENT_TYPE").map(ToOwned::to_owned),
        conditions: conditions(environ),
        credentials,
        remote_user: environ.get("REMOTE_USER").map(ToOwned::to_owned).filter(|_| mode == AccessMode::WebServer),
        not_behind_nginx: environ
            .non_empty("SERVER_SOFTWARE")
            .is_some_and(|name| !name.windows(5).any(|word| word == b"nginx")),
        http_1_1: environ.get("SERVER_PROTOCOL").is_some_and(|protocol| protocol == "HTTP/1.1"),
        context: context(environ, mode, arrival).map_err(|text| broken(&text))?,
    };
    if Route::is_push(&request) {
        commit_as_told(environ, &mut request.context);
    }
    Ok(request)
}

fn conditions(environ: &Environ) -> Conditions {
    let said = |name: &str| environ.get(name).map(ToOwned::to_owned);
    Conditions {
        none_match: said("HTTP_IF_NONE_MATCH"),
        modified_since: said("HTTP_IF_MODIFIED_SINCE"),
        range: said("HTTP_RANGE"),
        if_range: said("HTTP_IF_RANGE"),
    }
}

/// Whether a path contains `//`, `/./` or `/../`, ends in `/.` or `/..`, or begins with neither `/` nor `~` (HB-07,
/// HB-08).
fn is_aliased(path: &BStr) -> bool {
    let Some(rest) = path.strip_prefix(b"/").or_else(|| path.strip_prefix(b"~")) else { return true };
    let mut components = rest.split(|&byte| byte == b'/').peekable();
    while let Some(component) = components.next() {
        let empty = component.is_empty() && components.peek().is_some();
        if empty || component == b"." || component == b".." {
            return true;
        }
    }
    false
}

fn context(environ: &'static Environ, mode: AccessMode, arrival: &Arrival) -> Result<Context, String> {
    let version = environ.get("GIT_PROTOCOL").or_else(|| environ.get("HTTP_GIT_PROTOCOL"));
    let version = Version::parse(version.unwrap_or_default());
    let mut context = edge::context(environ, mode, version, arrival)?;
    if let Some(bytes) = environ.size("GIT_HTTP_MAX_REQUEST_BUFFER")? {
        context.limits.request_bytes_from_operator(u64::try_from(bytes).unwrap_or(0));
    }
    context.hook_environment = Inherited::later(move || hook_environment(environ, mode));
    Ok(context)
}

/// Sets the committer of a push: what the web server says of the client, unless nothing has verified that.
fn commit_as_told(environ: &Environ, context: &mut Context) {
    let user = match context.mode {
        AccessMode::WebServer => environ.text("REMOTE_USER").unwrap_or_else(|| "anonymous".to_owned()),
        AccessMode::Tokens | AccessMode::Pipe => "anonymous".to_owned(),
    };
    let given = |name: &str| environ.text(name).filter(|_| context.mode == AccessMode::WebServer);
    let (name, email) = (given("GIT_COMMITTER_NAME"), given("GIT_COMMITTER_EMAIL"));
    context.commit_as(&user, name, email);
}

fn hook_environment(environ: &Environ, mode: AccessMode) -> Vec<(OsString, OsString)> {
    let mut inherited = environ
        .inherited(&|name| !is_for_hooks(name, mode) || name == "GIT_COMMITTER_NAME" || name == "GIT_COMMITTER_EMAIL");
    if environ.get("GIT_PROTOCOL").is_none()
        && let Some(version) = environ.get("HTTP_GIT_PROTOCOL")
    {
        inherited.push(("GIT_PROTOCOL".into(), OsStr::from_bytes(version).to_owned()));
    }
    inherited
}

/// Whether hooks may see a variable. Apache prefixes a request's variables with `REDIRECT_` at each internal redirect;
/// such a copy is judged by its original name.
fn is_for_hooks(name: &OsStr, mode: AccessMode) -> bool {
    let mut name = name.as_bytes();
    while let Some(before) = name.strip_prefix(b"REDIRECT_") {
        name = before;
    }
    let is_in = |list: &[&str]| list.iter().any(|known| known.as_bytes() == name);
    let is_anothers = is_in(NOT_FOR_HOOKS) || (mode == AccessMode::Tokens && is_in(CLAIMED));
    let is_secret = name.ends_with(b"HTTP_AUTHORIZATION") || name.ends_with(b"PROXY_AUTHORIZATION");
    let is_unknown = name.starts_with(b"HTTP_") && !is_in(HEADERS_FOR_HOOKS);
    !(is_anothers || is_secret || is_unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An environment that lives as long as the process, as the real one does.
    fn environ(pairs: &[(&str, &str)]) -> &'static Environ {
        Box::leak(Box::new(Environ::from_pairs(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())))))
    }

    #[test]
    fn the_length_of_a_body_is_read_as_git_reads_it() {
        let check = |method: &str, length: Option<&str>, expected: Result<Extent, &str>| {
            let mut pairs = vec![("REQUEST_METHOD", method)];
            pairs.extend(length.map(|length| ("CONTENT_LENGTH", length)));
            assert_eq!(extent(environ(&pairs)), expected.map_err(str::to_owned), "{method} {length:?}");
        };
        check("GET", Some("5"), Ok(Extent::None));
        check("POST", None, Ok(Extent::ToEnd));
        check("POST", Some(""), Ok(Extent::ToEnd));
        check("POST", Some("-1"), Ok(Extent::ToEnd));
        check("POST", Some("0"), Ok(Extent::Exact(0)));
        check("POST", Some("2k"), Ok(Extent::Exact(2048)));
        check("POST", Some("x"), Err("failed to parse CONTENT_LENGTH: x"));
        check("POST", Some("9223372036854775807g"), Err("failed to parse CONTENT_LENGTH: 9223372036854775807g"));
    }

    #[test]
    fn aliased_paths_are_known() {
        let behind_a_tilde = ["~user/../a", "~user//a", "~user/./a", "~user/..", "~/a", "~../a", "~.."];
        for path in ["a", "/a//b", "/./a", "/a/./b", "/a/..", "/../a", "/a/.", "//a"].iter().chain(&behind_a_tilde) {
            let path = *path;
            assert!(is_aliased(path.into()), "{path}");
        }
        for path in ["/a", "/a/", "/.../a", "/a/....", "/a.b/..c", "~user/a", "~", "~.../a"] {
            assert!(!is_aliased(path.into()), "{path}");
        }
    }

    #[test]
    fn a_set_git_protocol_wins_over_the_header() {
        let check = |pairs: &[(&str, &str)], expected: Version| {
            let context = context(environ(pairs), AccessMode::Tokens, &Arrival::now()).unwrap();
            assert_eq!(context.version, expected, "{pairs:?}");
        };
        check(&[], Version::V0);
        check(&[("HTTP_GIT_PROTOCOL", "version=2")], Version::V2);
        check(&[("GIT_PROTOCOL", ""), ("HTTP_GIT_PROTOCOL", "version=2")], Version::V0);
        check(&[("GIT_PROTOCOL", "a:version=1:version=2:b=c")], Version::V2);
        check(&[("GIT_PROTOCOL", "version=7")], Version::V0);
    }

    #[test]
    fn hooks_do_not_see_what_is_not_theirs() {
        let pairs = [
            ("REQUEST_METHOD", "POST"),
            ("GIT_PROJECT_ROOT", "/srv"),
            ("PATH_INFO", "/ns/r.git/git-receive-pack"),
            ("HTTP_AUTHORIZATION", "Bearer secret"),
            ("REMOTE_USER", "evil"),
            ("GIT_EXEC_PATH", "/x"),
            ("MINE", "1"),
            ("MINE", "2"),
        ];
        let context = request(environ(&pairs), &Arrival::now()).unwrap().context;
        let inherited = context.hook_environment.variables();
        let names: Vec<_> = inherited.iter().map(|(name, _)| name.to_str().unwrap()).collect();
        for gone in ["REQUEST_METHOD", "PATH_INFO", "HTTP_AUTHORIZATION", "REMOTE_USER"] {
            assert!(!names.contains(&gone), "{gone}");
        }
        assert!(inherited.contains(&("MINE".into(), "1".into())));
        let path = inherited.iter().find(|(name, _)| name == "PATH").unwrap();
        assert!(path.1.to_str().unwrap().starts_with("/x:/usr"), "{path:?}");
        assert_eq!(context.identity, "anonymous <anonymous@http.(none)>");
    }

    #[test]
    fn of_a_clients_headers_hooks_see_those_that_are_known_to_be_harmless() {
        let seen = |name: &str, mode| {
            let pairs = [("REQUEST_METHOD", "POST"), ("PATH_INFO", "/ns/r.git/git-receive-pack"), (name, "x")];
            let context = context(environ(&pairs), mode, &Arrival::now()).unwrap();
            context.hook_environment.variables().iter().any(|(known, _)| known == name)
        };
        for name in [
            "HTTP_PROXY",
            "HTTP_COOKIE",
            "HTTP_AUTHORIZATION",
            "REDIRECT_HTTP_AUTHORIZATION",
            "REDIRECT_REDIRECT_HTTP_AUTHORIZATION",
            "HTTP_PROXY_AUTHORIZATION",
            "REDIRECT_HTTP_COOKIE",
            "REDIRECT_HTTP_PROXY",
            "REDIRECT_REQUEST_METHOD",
            "X_HTTP_AUTHORIZATION",
            "PROXY_AUTHORIZATION",
            "HTTP_CONTENT_ENCODING",
            "HTTP_X_FORWARDED_ACCESS_TOKEN",
            "HTTP_X_API_KEY",
            "HTTP_GIT_DIR",
            "HTTP_",
        ] {
            for mode in [AccessMode::Tokens, AccessMode::WebServer] {
                assert!(!seen(name, mode), "{name} {mode:?}");
            }
        }
        for name in
            HEADERS_FOR_HOOKS.iter().chain(&["HTTPS", "SSL_CLIENT_S_DN", "REMOTE_ADDR", "HTTPD", "REDIRECT_URL"])
        {
            assert!(seen(name, AccessMode::WebServer), "{name}");
            assert_eq!(seen(name, AccessMode::Tokens), !CLAIMED.contains(name), "{name}");
        }
    }
}

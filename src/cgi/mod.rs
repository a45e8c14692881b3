//! The CGI edge: environment and standard input to a request; nobody else knows these variable names.
//!
//! In: the process's environment and descriptors 0, 1 and 2. Out: the answer on 1, at most one line on 2.
//! argv is never looked at: web servers make words of it from the query.

mod streams;

use crate::access::Rules;
use crate::audit::Summary;
use crate::auth::{Credentials, TokenStore};
use crate::http::body::{DrainBudget, Extent, HttpBody};
use crate::http::request::{Method, Reject, Request, RequestPath};
use crate::odb::alternates::parse as parse_alternates;
use crate::protocol::{Limits, Version};
use crate::repo::config::{ConfigSources, parameters};
use crate::repo::{AccessMode, Context};
use crate::{Site, serve};
use bstr::{BStr, BString, ByteSlice};
use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What hooks do not inherit, so that a hook may push, or call this program (DESIGN B2).
const NOT_FOR_HOOKS: &[&str] = &[
    "REQUEST_METHOD",
    "GATEWAY_INTERFACE",
    "PATH_INFO",
    "PATH_TRANSLATED",
    "CONTENT_LENGTH",
    "CONTENT_TYPE",
    "HTTP_AUTHORIZATION",
    "REDIRECT_HTTP_AUTHORIZATION",
    "HTTP_CONTENT_ENCODING",
];
/// Hooks find their programs here where the web server gives no PATH.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Bytes a request may use besides constants, where ARTIFACTS_MEMORY says nothing.
const MEMORY_DEFAULT: u64 = 256 << 20;
/// How long a refused body is read.
const DRAIN_TIME: Duration = Duration::from_secs(600);

/// The environment as it came: the first of doubled entries counts, as in `getenv`.
#[derive(Debug, Clone, Default)]
pub struct Environ(Vec<(OsString, OsString)>);

impl Environ {
    /// The process's own.
    pub fn of_process() -> Self {
        Environ(std::env::vars_os().collect())
    }

    /// One made by hand.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Environ(pairs.into_iter().collect())
    }

    /// Whether this environment is a web server's for a CGI program.
    pub fn is_cgi(&self) -> bool {
        self.get("REQUEST_METHOD").is_some() || self.get("GATEWAY_INTERFACE").is_some()
    }

    /// A variable's bytes; set but empty is something.
    fn get(&self, name: &str) -> Option<&BStr> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_bytes().as_bstr())
    }

    /// A variable that says something.
    fn said(&self, name: &str) -> Option<&BStr> {
        self.get(name).filter(|value| !value.is_empty())
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.said(name).map(|value| PathBuf::from(OsStr::from_bytes(value)))
    }

    fn text(&self, name: &str) -> Option<String> {
        self.said(name).map(|value| value.to_str_lossy().into_owned())
    }

    /// A size with an optional k, m or g, as git reads them.
    fn size(&self, name: &str) -> Result<Option<i64>, String> {
        let Some(value) = self.said(name) else { return Ok(None) };
        let (digits, factor) = match value.last().map(u8::to_ascii_lowercase) {
            Some(b'k') => (&value[..value.len() - 1], 1_i64 << 10),
            Some(b'm') => (&value[..value.len() - 1], 1 << 20),
            Some(b'g') => (&value[..value.len() - 1], 1 << 30),
            _ => (value, 1),
        };
        let number = digits.trim_ascii().to_str().ok().and_then(|digits| digits.parse::<i64>().ok());
        match number.and_then(|number| number.checked_mul(factor)) {
            Some(number) => Ok(Some(number)),
            None => Err(format!("failed to parse {name}: {}", value.escape_ascii())),
        }
    }
}

/// Serves the process's request; the exit status is 0 unless the answer could not be completed.
pub fn run(environ: &Environ) -> ExitCode {
    // A panic is caught and told as one line, like any other error.
    std::panic::set_hook(Box::new(|_| {}));
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let site = site(environ);
    let request = request(environ, since_epoch);
    let finished = Rc::new(Cell::new(false));
    let push = is_push(environ);
    let mut input = streams::Stdin::new(&site.limits, push);
    let mut output = streams::Stdout::new(input.stop_flag());
    let drain = DrainBudget { bytes: site.limits.drain_bytes, time: DRAIN_TIME };
    let extent = extent(environ);
    let gzip = matches!(environ.get("HTTP_CONTENT_ENCODING").map(|value| value.as_bytes()), Some(b"gzip" | b"x-gzip"));
    let body_extent = *extent.as_ref().unwrap_or(&Extent::ToEnd);
    let body = HttpBody::new(&mut input, body_extent, gzip, drain, Rc::clone(&finished));
    let request = match extent {
        Ok(_) => request,
        Err(text) => Err(Reject::new(400, "The Content-Length is no number.").detail(text)),
    };
    let summary = Summary {
        id: request_id(since_epoch),
        remote: environ.text("REMOTE_ADDR"),
        agent: environ.text("HTTP_USER_AGENT"),
        version: request.as_ref().ok().map(|request| request.context.version as u8),
        log: environ.path("ARTIFACTS_AUDIT_LOG"),
        time_ms: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
        ..Summary::default()
    };
    let (summary, report) = serve(request, body, &mut output, finished, &site, summary);
    summary.request_done();
    if let Some(line) = report {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
    match summary.outcome {
        "error" if summary.status == 200 => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

/// What the operator decided for the whole installation.
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

/// A request's id: enough to find it again in two logs, cheap to make.
fn request_id(since_epoch: Duration) -> String {
    let mixed = (since_epoch.as_nanos() as u64) ^ (u64::from(std::process::id()) << 32);
    let mixed = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{:08x}", mixed >> 32)
}

fn is_push(environ: &Environ) -> bool {
    environ.get("REQUEST_METHOD").is_some_and(|method| method == "POST")
        && ["PATH_INFO", "PATH_TRANSLATED"]
            .iter()
            .any(|name| environ.get(name).is_some_and(|path| path.ends_with(b"/git-receive-pack")))
}

/// How far the body reaches (BO-01 to BO-04): a number is exactly so many bytes; nothing, empty or a negative one means to
/// the end on a POST; any other request has no body.
fn extent(environ: &Environ) -> Result<Extent, String> {
    if environ.get("REQUEST_METHOD").is_none_or(|method| method != "POST") {
        return Ok(Extent::None);
    }
    Ok(match environ.size("CONTENT_LENGTH")? {
        Some(length) => u64::try_from(length).map_or(Extent::ToEnd, Extent::Exact),
        None => Extent::ToEnd,
    })
}

/// The request, or why there is none (HB-01 to HB-07).
fn request(environ: &Environ, since_epoch: Duration) -> Result<Request, Reject> {
    let broken = |text: &str| {
        Reject::new(
            500,
            "The web server's configuration for git is incomplete; its operator finds the reason in the log.",
        )
        .detail(text)
    };
    let mode = match environ.said("ARTIFACTS_AUTH").map(|value| value.as_bytes()) {
        None | Some(b"tokens") => AccessMode::Tokens,
        Some(b"webserver") => AccessMode::WebServer,
        Some(_) => return Err(broken("ARTIFACTS_AUTH must be \"tokens\" or \"webserver\"")),
    };
    let method = environ.get("REQUEST_METHOD").ok_or_else(|| broken("No REQUEST_METHOD from server"))?;
    let path = match (environ.said("GIT_PROJECT_ROOT"), mode) {
        (Some(_), _) => {
            let path = match environ.said("PATH_INFO") {
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
        .filter_map(|name| environ.said(name))
        .map(|value| value.as_bytes())
        .collect();
    let credentials = match mode {
        AccessMode::Tokens => Credentials::parse(&headers),
        AccessMode::WebServer | AccessMode::Pipe => Credentials::None,
    };
    Ok(Request {
        method: Method::parse(&method.to_str_lossy()),
        path,
        query: environ.get("QUERY_STRING").map(ToOwned::to_owned).unwrap_or_default(),
        content_type: environ.get("CONTENT_TYPE").map(ToOwned::to_owned),
        credentials,
        remote_user: environ.get("REMOTE_USER").map(ToOwned::to_owned).filter(|_| mode == AccessMode::WebServer),
        not_behind_nginx: environ.said("SERVER_SOFTWARE").is_some_and(|name| !name.contains_str("nginx")),
        http_1_1: environ.get("SERVER_PROTOCOL").is_some_and(|protocol| protocol == "HTTP/1.1"),
        context: context(environ, mode, since_epoch).map_err(|text| broken(&text))?,
    })
}

/// A path with `//`, `/./` or `/../` in it, or that ends in `/.` or `/..`, or does not begin with a slash (HB-07, HB-08).
fn is_aliased(path: &BStr) -> bool {
    if path.first() == Some(&b'~') {
        return false;
    }
    let Some(rest) = path.strip_prefix(b"/") else { return true };
    let mut components = rest.split(|&byte| byte == b'/').peekable();
    while let Some(component) = components.next() {
        let empty = component.is_empty() && components.peek().is_some();
        if empty || component == b"." || component == b".." {
            return true;
        }
    }
    false
}

fn context(environ: &Environ, mode: AccessMode, since_epoch: Duration) -> Result<Context, String> {
    let version = environ.get("GIT_PROTOCOL").or_else(|| environ.get("HTTP_GIT_PROTOCOL"));
    let mut limits = Limits::default();
    if let Some(bytes) = environ.size("GIT_HTTP_MAX_REQUEST_BUFFER")? {
        limits.request_bytes_from_operator(u64::try_from(bytes).unwrap_or(0));
    }
    let memory = environ.size("ARTIFACTS_MEMORY")?.and_then(|bytes| u64::try_from(bytes).ok());
    let timeout = environ.size("ARTIFACTS_TIMEOUT")?.and_then(|seconds| u64::try_from(seconds).ok());
    let id = request_id(since_epoch);
    let mut context = Context {
        mode,
        version: Version::parse(version.unwrap_or_default()),
        now: since_epoch.as_secs(),
        session_id: format!("{}-{id}-P{:08x}", since_epoch.as_secs(), std::process::id()),
        id,
        address: environ.text("REMOTE_ADDR"),
        identity: BString::default(),
        hook_environment: Vec::new(),
        namespace: environ.said("GIT_NAMESPACE").map(ToOwned::to_owned),
        config: config_sources(environ)?,
        object_directory: environ.path("GIT_OBJECT_DIRECTORY"),
        // Separated by colons, C-quoted where a name has one (EN-14, QU-04).
        alternate_directories: parse_alternates(
            environ.said("GIT_ALTERNATE_OBJECT_DIRECTORIES").unwrap_or_default(),
            b':',
        ),
        in_quarantine: environ.get("GIT_QUARANTINE_PATH").is_some(),
        agent: agent(environ),
        limits,
        memory: memory.unwrap_or(MEMORY_DEFAULT),
        timeout: timeout.filter(|&seconds| seconds > 0).map(Duration::from_secs),
        stateless: true,
        http: true,
    };
    if let Some(namespace) = &context.namespace
        && !is_namespace(namespace.as_bstr())
    {
        return Err(format!("bad git namespace path \"{}\"", namespace.escape_ascii()));
    }
    if is_push(environ) {
        context.hook_environment = hook_environment(environ, mode);
        let user = match mode {
            AccessMode::WebServer => environ.text("REMOTE_USER").unwrap_or_else(|| "anonymous".to_owned()),
            AccessMode::Tokens | AccessMode::Pipe => "anonymous".to_owned(),
        };
        let given = |name: &str| environ.text(name).filter(|_| mode == AccessMode::WebServer);
        context.commit_as(&user, given("GIT_COMMITTER_NAME"), given("GIT_COMMITTER_EMAIL"));
    }
    Ok(context)
}

/// Every component must be a name a ref could have (HN-04).
fn is_namespace(namespace: &BStr) -> bool {
    let components = namespace.split(|&byte| byte == b'/').filter(|component| !component.is_empty());
    components
        .map(|component| [b"refs/namespaces/".as_slice(), component].concat())
        .all(|name| gix_validate::reference::name(name.as_bstr()).is_ok())
}

/// What we call ourselves; GIT_USER_AGENT replaces it, bytes that do not show become dots (EN-11).
fn agent(environ: &Environ) -> String {
    match environ.said("GIT_USER_AGENT") {
        Some(agent) => {
            agent.bytes().map(|byte| if (33..127).contains(&byte) { char::from(byte) } else { '.' }).collect()
        }
        None => concat!("artifacts/", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}

fn hook_environment(environ: &Environ, mode: AccessMode) -> Vec<(OsString, OsString)> {
    let mut seen: Vec<&OsStr> = Vec::new();
    let mut inherited = Vec::new();
    for (name, value) in &environ.0 {
        let dropped = NOT_FOR_HOOKS.iter().any(|dropped| name == dropped)
            || (mode == AccessMode::Tokens && (name == "REMOTE_USER" || name == "AUTH_TYPE"))
            || name == "GIT_COMMITTER_NAME"
            || name == "GIT_COMMITTER_EMAIL"
            || seen.contains(&name.as_os_str());
        if !dropped {
            seen.push(name);
            inherited.push((name.clone(), value.clone()));
        }
    }
    // Programs of an installed git are found first where the operator says where they are (HB-27).
    let path = environ.said("PATH").map_or_else(|| PATH_DEFAULT.into(), |path| path.to_owned());
    let path = match environ.said("GIT_EXEC_PATH") {
        Some(exec) => [exec.as_bytes(), b":", path.as_bytes()].concat(),
        None => path.into(),
    };
    inherited.retain(|(name, _)| name != "PATH");
    inherited.push(("PATH".into(), OsString::from_vec(path)));
    if environ.get("GIT_PROTOCOL").is_none()
        && let Some(version) = environ.get("HTTP_GIT_PROTOCOL")
    {
        inherited.push(("GIT_PROTOCOL".into(), OsStr::from_bytes(version).to_owned()));
    }
    inherited
}

/// Where git's configuration is read from (EN-09).
fn config_sources(environ: &Environ) -> Result<ConfigSources, String> {
    let home = environ.path("HOME");
    let no_system = environ
        .said("GIT_CONFIG_NOSYSTEM")
        .is_some_and(|value| !matches!(value.to_ascii_lowercase().as_slice(), b"0" | b"false" | b"no" | b"off"));
    let system = match environ.get("GIT_CONFIG_SYSTEM") {
        _ if no_system => None,
        Some(path) => Some(PathBuf::from(OsStr::from_bytes(path))),
        None => Some(PathBuf::from("/etc/gitconfig")),
    };
    let global = match environ.get("GIT_CONFIG_GLOBAL") {
        Some(path) => vec![PathBuf::from(OsStr::from_bytes(path))],
        None => {
            let xdg = environ.path("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
            let xdg = xdg.map(|folder| folder.join("git/config"));
            xdg.into_iter().chain(home.as_ref().map(|home| home.join(".gitconfig"))).collect()
        }
    };
    let mut overrides = Vec::new();
    if let Some(text) = environ.get("GIT_CONFIG_PARAMETERS") {
        overrides = parameters(text).map_err(|error| error.to_string())?;
    }
    // git lets the numbered ones count first and GIT_CONFIG_PARAMETERS (`git -c`) over them.
    let mut numbered = Vec::new();
    if let Some(count) = environ.said("GIT_CONFIG_COUNT") {
        const COUNT_MAX: usize = 10_000;
        let count: usize = count
            .to_str()
            .ok()
            .and_then(|count| count.parse().ok())
            .ok_or_else(|| "bogus count in GIT_CONFIG_COUNT".to_owned())?;
        if count > COUNT_MAX {
            return Err("too many entries in GIT_CONFIG_COUNT".to_owned());
        }
        for number in 0..count {
            let key = environ
                .get(&format!("GIT_CONFIG_KEY_{number}"))
                .ok_or_else(|| format!("missing config key GIT_CONFIG_KEY_{number}"))?;
            let value = environ
                .get(&format!("GIT_CONFIG_VALUE_{number}"))
                .ok_or_else(|| format!("missing config value GIT_CONFIG_VALUE_{number}"))?;
            numbered.push((key.to_owned(), Some(value.to_owned())));
        }
    }
    numbered.append(&mut overrides);
    Ok(ConfigSources { system, global, home, overrides: numbered })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environ(pairs: &[(&str, &str)]) -> Environ {
        Environ::from_pairs(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())))
    }

    #[test]
    fn the_length_of_a_body_is_read_as_git_reads_it() {
        let check = |method: &str, length: Option<&str>, expected: Result<Extent, &str>| {
            let mut pairs = vec![("REQUEST_METHOD", method)];
            pairs.extend(length.map(|length| ("CONTENT_LENGTH", length)));
            assert_eq!(extent(&environ(&pairs)), expected.map_err(str::to_owned), "{method} {length:?}");
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
        for path in ["a", "/a//b", "/./a", "/a/./b", "/a/..", "/../a", "/a/.", "//a"] {
            assert!(is_aliased(path.into()), "{path}");
        }
        for path in ["/a", "/a/", "/.../a", "/a/....", "/a.b/..c", "~user/a"] {
            assert!(!is_aliased(path.into()), "{path}");
        }
    }

    #[test]
    fn the_first_of_doubled_variables_counts() {
        let environ = environ(&[("A", "1"), ("A", "2"), ("B", "")]);
        assert_eq!(environ.get("A").unwrap(), "1");
        assert_eq!(environ.get("B").unwrap(), "");
        assert!(environ.said("B").is_none() && environ.get("C").is_none());
    }

    #[test]
    fn a_set_git_protocol_wins_over_the_header() {
        let check = |pairs: &[(&str, &str)], expected: Version| {
            let context = context(&environ(pairs), AccessMode::Tokens, Duration::ZERO).unwrap();
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
            ("PATH_INFO", "/ns/r.git/git-receive-pack"),
            ("HTTP_AUTHORIZATION", "Bearer secret"),
            ("REMOTE_USER", "evil"),
            ("GIT_EXEC_PATH", "/x"),
            ("MINE", "1"),
            ("MINE", "2"),
        ];
        let context = context(&environ(&pairs), AccessMode::Tokens, Duration::ZERO).unwrap();
        let names: Vec<_> = context.hook_environment.iter().map(|(name, _)| name.to_str().unwrap()).collect();
        for gone in ["REQUEST_METHOD", "PATH_INFO", "HTTP_AUTHORIZATION", "REMOTE_USER"] {
            assert!(!names.contains(&gone), "{gone}");
        }
        assert!(context.hook_environment.contains(&("MINE".into(), "1".into())));
        let path = context.hook_environment.iter().find(|(name, _)| name == "PATH").unwrap();
        assert!(path.1.to_str().unwrap().starts_with("/x:/usr"), "{path:?}");
        assert!(!context.identity.contains_str("evil"));
    }

    #[test]
    fn alternates_may_be_quoted() {
        let check = |text: &str, expected: &[&str]| {
            let found: Vec<_> =
                parse_alternates(text.as_bytes(), b':').iter().map(|path| path.to_str().unwrap().to_owned()).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("", &[]);
        check("/a:/b", &["/a", "/b"]);
        check(":/a::", &["/a"]);
        check("\"/a:b\\\"\\303\\274\":/c", &["/a:b\"ü", "/c"]);
    }

    #[test]
    fn configuration_of_the_environment_counts_in_gits_order() {
        let sources = config_sources(&environ(&[
            ("GIT_CONFIG_PARAMETERS", "'a.b'='2'"),
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_KEY_0", "a.b"),
            ("GIT_CONFIG_VALUE_0", "1"),
            ("HOME", "/h"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
        ]))
        .unwrap();
        let values: Vec<_> = sources.overrides.iter().map(|(_, value)| value.clone().unwrap()).collect();
        assert_eq!(values, ["1", "2"]);
        assert_eq!(sources.system, None);
        assert_eq!(sources.global, [PathBuf::from("/h/.config/git/config"), PathBuf::from("/h/.gitconfig")]);
        assert!(config_sources(&environ(&[("GIT_CONFIG_COUNT", "1")])).is_err());
    }
}

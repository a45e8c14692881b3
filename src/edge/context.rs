//! The context of a request, as far as all edges read it alike.
//!
//! In: the environment and the time. Out: a [`Context`]. Who makes the request and what hooks inherit is never decided
//! here: each edge fills that in.

use super::Environ;
use crate::cache;
use crate::odb::alternates::parse as parse_alternates;
use crate::protocol::{Limits, Version};
use crate::repo::config::{ConfigSources, parameters};
use crate::repo::{AccessMode, Context, Inherited, PushSwitches};
use crate::trace::{Trace, Wanted};
use bstr::{BStr, BString, ByteSlice};
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The memory a request may use besides constants, in bytes, unless ARTIFACTS_MEMORY is set.
const MEMORY_DEFAULT: u64 = 256 << 20;

/// The bytes of kept packs, unless ARTIFACTS_CACHE_SIZE is set.
const CACHE_DEFAULT: u64 = 1 << 30;

/// When a request came, and the name it has in answers and logs.
pub struct Arrival {
    /// The time since 1970.
    pub since_epoch: Duration,
    /// The request's id.
    pub id: String,
}

impl Arrival {
    /// A request that comes now.
    pub fn now() -> Self {
        let since_epoch = clock();
        Arrival { since_epoch, id: request_id(since_epoch) }
    }
}

/// Builds the context of a stateless HTTP request without an identity and without an environment for hooks.
///
/// # Errors
/// When a variable cannot be parsed; the text is for the operator.
pub fn context(environ: &Environ, mode: AccessMode, version: Version, arrival: &Arrival) -> Result<Context, String> {
    let memory = environ.bytes("ARTIFACTS_MEMORY")?;
    let timeout = environ.count("ARTIFACTS_TIMEOUT")?;
    let Arrival { since_epoch, id } = arrival;
    let session_id = format!("{}-{id}-P{:08x}", since_epoch.as_secs(), std::process::id());
    // A CGI program must not write to standard error before it has read its body.
    let (trace, warnings) = Trace::open(&traces(environ)?, &session_id, clock, mode != AccessMode::Pipe);
    for warning in warnings {
        let _ = writeln!(std::io::stderr(), "warning: {warning}");
    }
    let context = Context {
        mode,
        version,
        now: since_epoch.as_secs(),
        session_id,
        id: id.clone(),
        address: environ.text("REMOTE_ADDR"),
        identity: BString::default(),
        hook_environment: Inherited::default(),
        named: ".".into(),
        namespace: environ.non_empty("GIT_NAMESPACE").map(ToOwned::to_owned),
        config: config_sources(environ)?,
        object_directory: environ.path("GIT_OBJECT_DIRECTORY"),
        // Separated by colons; a path that contains one is C-quoted (EN-14, QU-04).
        alternate_directories: parse_alternates(
            environ.non_empty("GIT_ALTERNATE_OBJECT_DIRECTORIES").unwrap_or_default(),
            b':',
        ),
        in_quarantine: environ.get("GIT_QUARANTINE_PATH").is_some(),
        agent: agent(environ),
        limits: Limits::default(),
        memory: memory.unwrap_or(MEMORY_DEFAULT),
        cache: cache(environ)?,
        timeout: timeout.filter(|&seconds| seconds > 0).map(Duration::from_secs),
        stateless: true,
        push: PushSwitches::default(),
        trace,
    };
    match &context.namespace {
        Some(namespace) if !is_namespace(namespace.as_bstr()) => {
            Err(format!("bad git namespace path \"{}\"", namespace.escape_ascii()))
        }
        _ => Ok(context),
    }
}

/// The time since 1970.
fn clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Makes a request's id: cheap, and distinct enough to match the entries of two logs.
fn request_id(since_epoch: Duration) -> String {
    let mixed = (since_epoch.as_nanos() as u64) ^ (u64::from(std::process::id()) << 32);
    let mixed = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{:08x}", mixed >> 32)
}

/// Where packs are kept, and how many bytes of them.
fn cache(environ: &Environ) -> Result<Option<cache::Settings>, String> {
    let bytes = environ.bytes("ARTIFACTS_CACHE_SIZE")?.unwrap_or(CACHE_DEFAULT);
    let patience = cache::Patience::default();
    Ok(environ.path("ARTIFACTS_CACHE").map(|directory| cache::Settings { directory, bytes, patience }))
}

/// Which traces the environment asks for.
fn traces(environ: &Environ) -> Result<Wanted, String> {
    Ok(Wanted {
        general: environ.text("GIT_TRACE"),
        packets: environ.text("GIT_TRACE_PACKET"),
        events: environ.text("GIT_TRACE2_EVENT"),
        bare: environ.flag("GIT_TRACE_BARE")?,
        parent: environ.text("GIT_TRACE2_PARENT_SID"),
        parent_name: environ.text("GIT_TRACE2_PARENT_NAME"),
    })
}

/// Whether every component is a valid name for a ref (HN-04).
fn is_namespace(namespace: &BStr) -> bool {
    let components = namespace.split(|&byte| byte == b'/').filter(|component| !component.is_empty());
    components
        .map(|component| [b"refs/namespaces/".as_slice(), component].concat())
        .all(|name| gix_validate::reference::name(name.as_bstr()).is_ok())
}

/// Our user agent. GIT_USER_AGENT replaces it, with unprintable bytes and spaces turned into dots (EN-11).
fn agent(environ: &Environ) -> String {
    match environ.get("GIT_USER_AGENT") {
        Some(agent) => {
            agent.trim().bytes().map(|byte| if (33..127).contains(&byte) { char::from(byte) } else { '.' }).collect()
        }
        None => concat!("artifacts/", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}

/// Where git's configuration is read from (EN-09).
///
/// # Errors
/// When a variable cannot be parsed; the text is for the operator.
pub fn config_sources(environ: &Environ) -> Result<ConfigSources, String> {
    let home = environ.path("HOME");
    let system = match environ.get("GIT_CONFIG_SYSTEM") {
        _ if environ.flag("GIT_CONFIG_NOSYSTEM")? => None,
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
    // As in git, GIT_CONFIG_PARAMETERS (`git -c`) overrides the numbered entries.
    let mut numbered = Vec::new();
    if let Some(count) = environ.non_empty("GIT_CONFIG_COUNT") {
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
    // git's own test suite turns it on for all servers at once with this variable (EN-15).
    if environ.flag("GIT_TEST_SIDEBAND_ALL")? {
        numbered.push(("uploadpack.allowSidebandAll".into(), Some("true".into())));
    }
    Ok(ConfigSources { system, global, home, overrides: numbered })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environ(pairs: &[(&str, &str)]) -> Environ {
        Environ::from_pairs(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())))
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
        let wrong = |name: &str| config_sources(&environ(&[(name, "maybe")])).unwrap_err();
        assert_eq!(wrong("GIT_CONFIG_COUNT"), "bogus count in GIT_CONFIG_COUNT");
        assert_eq!(wrong("GIT_CONFIG_NOSYSTEM"), "bad boolean environment value 'maybe' for 'GIT_CONFIG_NOSYSTEM'");
        assert!(config_sources(&environ(&[("GIT_CONFIG_COUNT", "1")])).is_err());
    }

    #[test]
    fn gits_tests_turn_bands_for_everything_on() {
        let overrides = |value| config_sources(&environ(&[("GIT_TEST_SIDEBAND_ALL", value)])).unwrap().overrides;
        assert_eq!(overrides("1"), [("uploadpack.allowSidebandAll".into(), Some("true".into()))]);
        assert_eq!(overrides("0"), []);
    }
}

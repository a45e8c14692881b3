//! The other edge: services over pipes, for ssh, `file://`, daemons and shells.
//!
//! In: arguments, the environment, descriptors 0, 1 and 2. Out: the conversation on 1, errors in git's words on 2, and
//! git's exit statuses. The user who runs the program has the access the operating system gives; tokens are never asked
//! for here.

mod options;
mod person;

pub use options::{service_of_name, service_of_word};

use crate::audit::Summary;
use crate::edge::{self, Arrival, Environ, Stdin, Stdout, users};
use crate::protocol::Version;
use crate::repo::locate::{self, Here, Place, Search};
use crate::repo::{AccessMode, Context, Inherited, PushSwitches, Repository};
use crate::service::{self, ErrorChannel, Operation, Out, ServeError, Service};
use crate::stream::{Body, Deadline, Pulse, Sink};
use crate::{access, tell};
use bstr::ByteSlice;
use options::{Instead, Options, USAGE_STATUS};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The exit status of git's programs on a fatal error.
const FATAL: u8 = 128;
/// The exit status of a program whose reader has gone, as if SIGPIPE had ended it.
const READER_GONE: u8 = 141;

/// How long a refused client may stay silent before the program ends.
const HEARD_OUT: Duration = Duration::from_secs(2);

/// Runs a service with the words that follow its name.
pub fn run(environ: &'static Environ, service: Service, words: impl Iterator<Item = OsString>) -> ExitCode {
    let options = match options::parse(service, words) {
        Ok(options) => options,
        Err(Instead::Help(text)) => {
            let _ = io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(Instead::Wrong(text)) => {
            complain(&text);
            return USAGE_STATUS.into();
        }
    };
    // A panic is caught and reported as one line, like any other error.
    std::panic::set_hook(Box::new(|_| {}));
    let context = match context(environ, &options) {
        Ok(context) => context,
        Err(text) => {
            complain(&format!("fatal: {text}\n"));
            return FATAL.into();
        }
    };
    let trace = context.trace.clone();
    trace.started(service.short_name(), &[options.directory.to_string_lossy().into_owned()]);
    let status = serve(environ, service, &options, context);
    trace.ended(status);
    status.into()
}

fn complain(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// The context of this conversation. The committer is determined later, when the configuration is known.
fn context(environ: &'static Environ, options: &Options) -> Result<Context, String> {
    let version = Version::parse(environ.get("GIT_PROTOCOL").unwrap_or_default());
    let context = edge::context(environ, AccessMode::Pipe, version, &Arrival::now())?;
    Ok(Context {
        address: environ.text("REMOTE_ADDR").or_else(|| ssh_client(environ)),
        hook_environment: Inherited::later(|| environ.inherited(&|_| false)),
        named: options.directory.as_bytes().into(),
        // Hooks run in another directory.
        object_directory: context.object_directory.map(absolute),
        stateless: options.stateless,
        push: PushSwitches {
            quiet: options.quiet,
            skip_connectivity: options.skip_connectivity,
            reject_thin: options.reject_thin,
        },
        ..context
    })
}

/// The client's address if sshd started this process: `address port address port`.
fn ssh_client(environ: &Environ) -> Option<String> {
    environ.text("SSH_CONNECTION")?.split(' ').next().map(ToOwned::to_owned)
}

fn absolute(path: PathBuf) -> PathBuf {
    locate::absolute(&path).unwrap_or(path)
}

/// Runs one conversation, from the repository's name to the exit status.
fn serve(environ: &Environ, service: Service, options: &Options, mut context: Context) -> u8 {
    let start = Instant::now();
    let mut summary = Summary {
        id: context.id.clone(),
        remote: context.address.clone(),
        repository: Some(options.directory.to_string_lossy().into_owned()),
        version: Some(context.version.number()),
        log: environ.path("ARTIFACTS_AUDIT_LOG"),
        time_ms: context.now * 1000,
        ..Summary::default()
    };
    let here = match find(service, options, &context) {
        Ok(here) => here,
        Err((outcome, text)) => {
            let line = tell::fatal(&text);
            context.trace.failed(&line);
            complain(&format!("{line}\n"));
            summary.outcome = outcome;
            summary.error = Some(text);
            // Standard error belongs to the user, who can do nothing about a log.
            let _ = summary.request_done();
            return FATAL;
        }
    };
    context.limit_as(&here.settings);
    if service == Service::ReceivePack {
        context.identity = person::committer(environ, &here.entries);
    }
    let grant = access::local_user(service);
    summary.scope = Some(grant.scope().as_str());
    let (mut body, mut sink) = open(environ, service, options, &context);
    let repository = Repository::open(here, grant, context);
    let status = converse(service, options, &repository, &mut body, &mut sink, &mut summary);
    summary.warnings = repository.objects.take_warnings();
    repository.leave();
    complain(&tell::warn_over_pipes(&summary));
    summary.bytes_in = body.bytes;
    summary.bytes_out = sink.bytes;
    summary.ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let _ = summary.request_done();
    status
}

/// Opens both directions, which end when the client has been silent for too long or the conversation's time is up.
fn open(environ: &Environ, service: Service, options: &Options, context: &Context) -> (Open, Counted) {
    let silence = Some(options.timeout_s).filter(|&seconds| seconds > 0).map(Duration::from_secs);
    let deadline = context.timeout.and_then(Deadline::after);
    let push = service == Service::ReceivePack;
    edge::survive_file_limits(environ, push);
    let mut input = Stdin::new(silence, push);
    input.deadline(deadline);
    let mut output = Stdout::new(input.stop_flag());
    if let Some(silence) = silence {
        output.give_up_after(silence);
    }
    output.deadline(deadline);
    (Open { input, bytes: 0 }, Counted { output, bytes: 0, heard: silence.is_none() })
}

/// Serves what the client asks for. Returns the exit status.
fn converse(
    service: Service,
    options: &Options,
    repository: &Repository,
    body: &mut Open,
    sink: &mut Counted,
    summary: &mut Summary,
) -> u8 {
    let operation = if options.advertise { Operation::Advertise(service) } else { Operation::Serve(service) };
    let mut channel = ErrorChannel::Status;
    let mut out = Out { sink, channel: &mut channel, summary };
    let outcome = catch_unwind(AssertUnwindSafe(|| service::run(&operation, repository, body, &mut out)))
        .unwrap_or_else(|panic| Err(tell::panicked(&*panic)));
    match outcome {
        Ok(()) => {
            if summary.outcome.is_empty() {
                summary.outcome = "ok";
            }
            0
        }
        Err(ServeError::ClientGone) => {
            summary.outcome = "aborted";
            READER_GONE
        }
        Err(error) => {
            let trace = &repository.context.trace;
            let mut watched = trace.watch_sink(service.short_name(), sink);
            if let Some(line) = tell::tell_over_pipes(error, &mut watched, &channel, summary) {
                trace.failed(&line);
                complain(&format!("{line}\n"));
            }
            sink.output.close();
            body.hear_out(repository.context.limits.drain_bytes);
            FATAL
        }
    }
}

/// Finds the repository. The error is the outcome for the audit log, and the reason in git's words (RE-06, RE-07,
/// RE-16).
fn find(service: Service, options: &Options, context: &Context) -> Result<Here, (&'static str, String)> {
    let search = Search {
        mode: AccessMode::Pipe,
        config: &context.config,
        object_directory: context.object_directory.as_deref(),
        // A user who can read a repository may fetch from it, but a push runs programs that its configuration names.
        check_owner: service == Service::ReceivePack,
        strict: options.strict,
    };
    let absent = || {
        let text = format!("'{}' does not appear to be a git repository", options.directory.to_string_lossy());
        ("refused", text)
    };
    let path = if options.strict {
        PathBuf::from(&options.directory)
    } else {
        expanded(&options.directory, context.config.home.as_deref()).ok_or_else(absent)?
    };
    match locate::by_path(&absolute(path), &search) {
        Place::Here(here) => Ok(*here),
        Place::Absent => Err(absent()),
        Place::Unusable(error) => Err(("error", format!("{error:#}"))),
    }
}

/// A path without trailing slashes, with `~` and `~user` replaced by a home directory (RE-06); `None` if there is no
/// such home.
fn expanded(directory: &OsStr, home: Option<&Path>) -> Option<PathBuf> {
    let bytes = directory.as_bytes();
    let end = bytes.iter().rposition(|&byte| byte != b'/').map_or(bytes.len().min(1), |last| last + 1);
    let bytes = bytes.get(..end)?;
    let Some(rest) = bytes.strip_prefix(b"~") else { return Some(OsStr::from_bytes(bytes).into()) };
    let (user, below) = rest.split_once_str("/").unwrap_or((rest, b""));
    let home = match user {
        b"" => home?.to_owned(),
        user => users::by_name(user.to_str().ok()?)?.home,
    };
    Some(if below.is_empty() { home } else { home.join(OsStr::from_bytes(below)) })
}

/// The client's input, which has no announced length: it ends when the client has nothing more to ask.
struct Open {
    input: Stdin,
    bytes: u64,
}

impl Open {
    /// Reads what a refused client still sends, for a short while: a client that is still writing would be killed by a
    /// signal before it has read why.
    fn hear_out(&mut self, most: u64) {
        self.input.give_up_after(HEARD_OUT);
        let _ = io::copy(&mut self.input.by_ref().take(most), &mut io::sink());
    }
}

impl Read for Open {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(into)?;
        self.bytes += read as u64;
        Ok(read)
    }
}

impl Body for Open {
    fn finish(&mut self) -> io::Result<u64> {
        Ok(0)
    }
}

/// The output to the client, counted.
struct Counted {
    output: Stdout,
    bytes: u64,
    /// Whether standard error belongs to the user; with `--timeout`, which daemons pass, it does not (PO-22).
    heard: bool,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.output.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

impl Pulse for Counted {
    fn tick(&mut self, done: u64) -> io::Result<()> {
        self.output.tick(done)
    }
}

impl Sink for Counted {
    fn aside(&mut self, text: &[u8]) -> io::Result<()> {
        if self.heard {
            let _ = io::stderr().write_all(text);
        }
        Ok(())
    }

    fn send_file(&mut self, file: &File, range: Range<u64>) -> io::Result<()> {
        self.bytes += range.end.saturating_sub(range.start);
        self.output.send_file(file, range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_found_by_their_users() {
        let root = users::by_id(0).expect("there is a root").home;
        let check = |directory: &str, expected: Option<&Path>| {
            assert_eq!(expanded(OsStr::new(directory), Some(Path::new("/h"))).as_deref(), expected, "{directory}");
        };
        check("/srv/r.git", Some(Path::new("/srv/r.git")));
        check("/srv/r.git//", Some(Path::new("/srv/r.git")));
        check("///", Some(Path::new("/")));
        check("", Some(Path::new("")));
        check("~", Some(Path::new("/h")));
        check("~/r.git/", Some(Path::new("/h/r.git")));
        check("~root/r.git", Some(&root.join("r.git")));
        check("~nobody-has-this-name/r.git", None);
        assert_eq!(expanded(OsStr::new("~/r"), None), None);
    }
}

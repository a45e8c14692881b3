//! Hooks: programs of the repository's owner that a push runs (githooks).
//!
//! In: a repository and what a hook is to be told. Out: whether it agrees; its output goes to the sink as it is
//! written. A hook sees only the environment that the edge allows: over HTTP neither the variables that make a CGI
//! request nor credentials.

use super::config::{self, ConfigEntry};
use super::{AccessMode, Repository};
use crate::children::{self, Child, Dialogue, Ended, Output};
use crate::refs::{TransactionHook, TransactionState};
use crate::stream::Sink;
use bstr::{BStr, BString, ByteSlice};
use gix_hash::ObjectId;
use rustix::fs::{Access, access};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The hooks that are supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Runs before anything is visible; sees the quarantine; may refuse everything.
    PreReceive,
    /// Runs instead of the server's own ref updates; carries out those it is given.
    ProcReceive,
    /// Runs for each ref; may refuse its update.
    Update,
    /// Runs instead of git to update a work tree after a push to its branch; may refuse that.
    PushToCheckout,
    /// Runs for each state of a ref transaction; may refuse it.
    ReferenceTransaction,
    /// Runs at the end, with the updated refs on its input.
    PostReceive,
    /// Runs at the end, with the updated refs as its arguments.
    PostUpdate,
}

impl Hook {
    /// The name of its file.
    pub fn name(self) -> &'static str {
        match self {
            Hook::PreReceive => "pre-receive",
            Hook::ProcReceive => "proc-receive",
            Hook::Update => "update",
            Hook::PushToCheckout => "push-to-checkout",
            Hook::ReferenceTransaction => "reference-transaction",
            Hook::PostReceive => "post-receive",
            Hook::PostUpdate => "post-update",
        }
    }
}

/// The input of a hook.
pub struct HookInput<'a> {
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// What is added to its environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Makes its input, line by line, anew for each program of the hook.
    pub lines: &'a dyn Fn() -> Lines<'a>,
}

/// The lines a hook reads.
pub type Lines<'a> = Box<dyn Iterator<Item = Vec<u8>> + 'a>;

/// An empty input.
pub fn no_lines<'a>() -> Lines<'a> {
    Box::new(std::iter::empty())
}

/// The outcome of a hook.
#[derive(Debug)]
pub enum Answer {
    /// It agreed, or there is no such hook.
    Agreed,
    /// It declined.
    Declined,
    /// A signal that we did not send ended it; this counts as declined.
    Killed(i32),
    /// It was killed because the request's time was over.
    Late,
    /// It could not be run at all; this counts as declined (HO-16).
    NotRun(io::Error),
}

impl Answer {
    /// Whether the hook agreed.
    pub fn agreed(&self) -> bool {
        matches!(self, Answer::Agreed)
    }
}

/// `OLD NEW NAME`, as hooks read it.
pub fn line(old: ObjectId, new: ObjectId, name: &[u8]) -> Vec<u8> {
    let mut line = format!("{old} {new} ").into_bytes();
    line.extend_from_slice(name);
    line.push(b'\n');
    line
}

/// An argument, or a value for the environment.
pub fn word(bytes: &[u8]) -> OsString {
    OsStr::from_bytes(bytes).to_owned()
}

/// One program of a hook.
#[derive(Debug, PartialEq, Eq)]
enum Program {
    /// An executable file.
    File(PathBuf),
    /// `hook.NAME.command`, for the shell.
    Command(OsString),
    /// `hook.NAME.event` without a command.
    Nameless(String),
}

/// Whether a hook has any program to run.
pub fn exists(repository: &Repository, hook: Hook) -> bool {
    !programs(repository, hook).is_empty()
}

/// Runs a hook in the git directory with `GIT_DIR=.` (HO-03). Both of its outputs go to `sink`. If it consists of
/// several programs, all of them run, and each must agree.
///
/// # Errors
/// When the sink fails, which ends the hook.
pub fn run(repository: &Repository, hook: Hook, input: &HookInput<'_>, sink: &mut dyn Sink) -> io::Result<Answer> {
    let mut answer = Answer::Agreed;
    let mut watched = Watched { sink, failed: false };
    for program in programs(repository, hook) {
        let one = start(repository, hook, &program, input, Output::Sink(&mut watched));
        if watched.failed {
            return Err(one.err().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()));
        }
        match one.unwrap_or_else(Answer::NotRun) {
            Answer::Agreed => {}
            other => answer = other,
        }
    }
    Ok(answer)
}

fn start(
    repository: &Repository,
    hook: Hook,
    program: &Program,
    input: &HookInput<'_>,
    output: Output<'_>,
) -> io::Result<Answer> {
    let (program, mut arguments) = match program {
        Program::File(path) => (path.as_path(), Vec::new()),
        Program::Command(command) => {
            let mut script = command.clone();
            script.push(" \"$@\"");
            (Path::new("/bin/sh"), vec!["-c".into(), script, command.clone()])
        }
        Program::Nameless(name) => return Err(io::Error::other(format!("hook.{name}.command is not configured"))),
    };
    arguments.extend(input.arguments.iter().cloned());
    let environment = environment(repository, &input.environment);
    let child = child(repository, program, &arguments, &environment);
    let ended = launch(repository, hook.name(), &child, |child, time| {
        children::run(child, &mut (input.lines)(), output, time)
    })?;
    Ok(answered(&ended))
}

/// Talks to a hook that is a file; `None` if there is none. Its standard error goes to `sink`.
///
/// # Errors
/// When the sink fails, which ends the hook.
pub fn converse(
    repository: &Repository,
    hook: Hook,
    dialogue: &mut dyn Dialogue,
    sink: &mut dyn Sink,
) -> io::Result<Option<Answer>> {
    let Some(program) = executable(repository, hook) else { return Ok(None) };
    let mut watched = Watched { sink, failed: false };
    let environment = environment(repository, &[]);
    let child = child(repository, &program, &[], &environment);
    let ended =
        launch(repository, hook.name(), &child, |child, time| children::converse(child, dialogue, &mut watched, time));
    if watched.failed {
        return Err(ended.err().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()));
    }
    Ok(Some(ended.map_or_else(Answer::NotRun, |ended| answered(&ended))))
}

/// What a hook's exit means.
fn answered(ended: &Ended) -> Answer {
    match ended {
        Ended::Status(0) => Answer::Agreed,
        Ended::Status(_) => Answer::Declined,
        // As git does: the user who interrupts a hook knows about it, and a hook whose output nobody reads has nothing
        // to report.
        Ended::Signal(libc::SIGINT | libc::SIGQUIT | libc::SIGPIPE) => Answer::Declined,
        Ended::Signal(signal) => Answer::Killed(*signal),
        Ended::Late => Answer::Late,
    }
}

/// Runs the operator's command that makes packs, with `arguments` after it (uploadpack.packObjectsHook). Its output,
/// the pack, goes to `sink`; its standard error is kept apart.
///
/// # Errors
/// When it cannot be run, or the sink fails.
pub fn make_pack(
    repository: &Repository,
    command: &BStr,
    arguments: Vec<OsString>,
    input: &mut dyn Iterator<Item = Vec<u8>>,
    sink: &mut dyn Sink,
) -> io::Result<Ended> {
    let mut script = command.to_owned();
    script.extend_from_slice(b" \"$@\"");
    let mut words: Vec<OsString> = vec!["-c".into(), word(&script), word(command)];
    words.extend(arguments);
    // git's own programs must not fetch missing objects from elsewhere either (EN-12).
    let environment = environment(repository, &[("GIT_NO_LAZY_FETCH".into(), "1".into())]);
    let program = Path::new("/bin/sh");
    let child = child(repository, program, &words, &environment);
    launch(repository, "pack-objects", &child, |child, time| children::run(child, input, Output::Apart(sink), time))
}

/// A child process in the repository's git directory. Where a web server started us, it runs in a process group of its
/// own, because nothing but us ends what it leaves running.
pub(super) fn child<'a>(
    repository: &'a Repository,
    program: &'a Path,
    arguments: &'a [OsString],
    environment: &'a [(OsString, OsString)],
) -> Child<'a> {
    let own_group = match repository.context.mode {
        AccessMode::Tokens | AccessMode::WebServer => true,
        AccessMode::Pipe => false,
    };
    Child { program, arguments, environment, directory: &repository.git_dir, own_group }
}

/// Runs a program and traces it.
pub(super) fn launch(
    repository: &Repository,
    name: &str,
    child: &Child<'_>,
    run: impl FnOnce(&Child<'_>, Option<Duration>) -> io::Result<Ended>,
) -> io::Result<Ended> {
    let words = || {
        let words = std::iter::once(child.program.as_os_str()).chain(child.arguments.iter().map(OsString::as_os_str));
        words.map(|word| word.to_string_lossy().into_owned()).collect()
    };
    let traced = repository.context.trace.child("hook", name, &words);
    let ended = run(child, repository.context.timeout);
    traced.ended(match &ended {
        Ok(Ended::Status(status)) => *status,
        // As a shell reports it.
        Ok(Ended::Signal(signal)) => 128 + signal,
        Ok(Ended::Late) | Err(_) => -1,
    });
    ended
}

/// The programs a hook consists of: configured commands (HO-02), then the file (HO-01). A file that is not executable
/// is ignored, as by git, and the operator is told.
fn programs(repository: &Repository, hook: Hook) -> Vec<Program> {
    let mut programs = configured(repository.entries.iter(), hook.name());
    programs.extend(executable(repository, hook).map(Program::File));
    programs
}

/// A hook's file, if it is executable.
fn executable(repository: &Repository, hook: Hook) -> Option<PathBuf> {
    let file = file(repository, hook);
    match look(&repository.git_dir.join(&file)) {
        Look::Runnable => Some(file),
        Look::Forbidden => {
            if repository.settings.ignored_hook {
                repository.objects.warn(format!(
                    "the hook '{}' is ignored: it may not be executed, or not be looked for",
                    file.display()
                ));
            }
            None
        }
        Look::Nothing => None,
    }
}

/// What was found at the path of a hook's file.
enum Look {
    Nothing,
    /// It is not executable, or in a directory that we may not search.
    Forbidden,
    Runnable,
}

/// Looks for a hook's file. If we have no right to run it, it is ignored, as by git. Other errors count as if it were
/// there: it cannot be started then, and that declines.
fn look(path: &Path) -> Look {
    match access(path, Access::EXEC_OK) {
        Ok(()) => Look::Runnable,
        Err(Errno::NOENT | Errno::NOTDIR) => Look::Nothing,
        Err(Errno::ACCESS) => Look::Forbidden,
        // Some sandboxes do not support this call.
        Err(_) => match fs::metadata(path) {
            Ok(found) if found.permissions().mode() & 0o111 == 0 => Look::Forbidden,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Look::Nothing
            }
            Ok(_) | Err(_) => Look::Runnable,
        },
    }
}

/// The commands of `hook.NAME.event`, in the order in which their events were last set.
fn configured<'a>(entries: impl Iterator<Item = &'a ConfigEntry>, event: &str) -> Vec<Program> {
    #[derive(Default)]
    struct Named<'a> {
        command: Option<&'a BStr>,
        /// When this event was last set; `None` if never, or if it was reset since.
        place: Option<usize>,
        has_events: bool,
        disabled: bool,
    }
    let mut hooks: BTreeMap<&BStr, Named<'_>> = BTreeMap::new();
    for (place, entry) in entries.enumerate() {
        let Some((name, variable)) = entry.key.strip_prefix(b"hook.").and_then(|key| key.rsplit_once_str(".")) else {
            continue;
        };
        let Some(value) = &entry.value else { continue };
        let hook = hooks.entry(name.as_bstr()).or_default();
        match variable {
            b"command" => hook.command = Some(value.as_bstr()),
            b"event" if value.is_empty() => hook.place = None,
            b"event" => {
                hook.has_events = true;
                if value == event {
                    hook.place = Some(place);
                }
            }
            b"enabled" => {
                if let Ok(enabled) = config::boolean(entry) {
                    hook.disabled = !enabled;
                }
            }
            _ => {}
        }
    }
    // `hook.EVENT.enabled` switches off all hooks of an event, unless a hook has that name.
    if hooks.get(BStr::new(event)).is_some_and(|all| all.disabled && all.command.is_none() && !all.has_events) {
        return Vec::new();
    }
    let mut chosen: Vec<_> = hooks
        .iter()
        .filter(|(_, hook)| !hook.disabled)
        .filter_map(|(name, hook)| Some((hook.place?, name, hook)))
        .collect();
    chosen.sort_by_key(|(place, _, _)| *place);
    let program = |(_, name, hook): (usize, &&BStr, &Named<'_>)| match hook.command {
        Some(command) => Program::Command(word(command)),
        None => Program::Nameless(name.to_string()),
    };
    chosen.into_iter().map(program).collect()
}

/// Where a hook's file would be. Below the git directory the path is relative, and the hook sees it as its `$0`.
fn file(repository: &Repository, hook: Hook) -> PathBuf {
    match &repository.settings.hooks_path {
        Some(path) => match (path.strip_prefix("~"), &repository.context.config.home) {
            (Ok(below), Some(home)) => home.join(below).join(hook.name()),
            _ => path.join(hook.name()),
        },
        None if repository.common_dir == repository.git_dir => Path::new("hooks").join(hook.name()),
        None => repository.common_dir.join("hooks").join(hook.name()),
    }
}

/// The environment of a child process: what the edge allows, and that the repository is its current directory.
pub(super) fn environment(repository: &Repository, more: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
    let mut environment = repository.context.hook_environment.variables();
    environment.retain(|(name, _)| name != "GIT_DIR" && name != "GIT_WORK_TREE");
    environment.push(("GIT_DIR".into(), ".".into()));
    let shallow = repository.shallow_file.get();
    environment.extend(shallow.map(|file| ("GIT_SHALLOW_FILE".into(), file.path().into())));
    environment.extend_from_slice(more);
    environment
}

/// A sink that remembers whether it failed, because then the hook is not to blame.
struct Watched<'a> {
    sink: &'a mut dyn Sink,
    failed: bool,
}

impl Watched<'_> {
    fn noted<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        self.failed |= result.is_err();
        result
    }
}

impl io::Write for Watched<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.sink.write(bytes);
        self.noted(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.sink.flush();
        self.noted(flushed)
    }
}

impl crate::stream::Pulse for Watched<'_> {
    fn tick(&mut self, done: u64) -> io::Result<()> {
        let ticked = self.sink.tick(done);
        self.noted(ticked)
    }
}

impl Sink for Watched<'_> {}

/// The reference-transaction hook. Its output goes to the server's standard error, not to the client (HO-15).
pub struct ReferenceTransaction<'a> {
    repository: &'a Repository,
    exists: bool,
    details: Vec<String>,
    /// Ticked while a hook runs.
    sink: &'a mut dyn Sink,
}

impl<'a> ReferenceTransaction<'a> {
    /// Looks once whether the hook exists.
    pub fn new(repository: &'a Repository, sink: &'a mut dyn Sink) -> Self {
        let exists = exists(repository, Hook::ReferenceTransaction);
        ReferenceTransaction { repository, exists, details: Vec::new(), sink }
    }

    /// Why changes were refused, in git's words, for the client.
    pub fn into_details(self) -> Vec<String> {
        self.details
    }
}

impl TransactionHook for ReferenceTransaction<'_> {
    fn state(&mut self, state: TransactionState, updates: &[(ObjectId, ObjectId, BString)]) -> bool {
        let word = match state {
            TransactionState::Preparing => "preparing",
            TransactionState::Prepared => "prepared",
            TransactionState::Committed => "committed",
            TransactionState::Aborted => "aborted",
        };
        let lines = || -> Lines<'_> { Box::new(updates.iter().map(|(old, new, name)| line(*old, *new, name))) };
        let input = HookInput { arguments: vec![word.into()], environment: Vec::new(), lines: &lines };
        let mut agreed = true;
        for program in programs(self.repository, Hook::ReferenceTransaction) {
            let output = Output::Stderr(&mut *self.sink);
            let answer = start(self.repository, Hook::ReferenceTransaction, &program, &input, output);
            agreed &= answer.is_ok_and(|answer| answer.agreed());
        }
        agreed
    }

    fn listens(&self) -> bool {
        self.exists
    }

    fn refused(&mut self, _name: &BStr, detail: &str) {
        self.details.push(detail.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(entries: &[(&str, &str)], expected: &[&str]) {
        let entries: Vec<ConfigEntry> = entries
            .iter()
            .map(|(key, value)| ConfigEntry {
                key: (*key).into(),
                value: Some((*value).into()),
                origin: config::Origin::Repository,
                file: None,
            })
            .collect();
        let found: Vec<String> = configured(entries.iter(), "pre-receive")
            .into_iter()
            .map(|program| match program {
                Program::Command(command) => command.to_string_lossy().into_owned(),
                Program::Nameless(name) => format!("{name} has none"),
                Program::File(path) => path.display().to_string(),
            })
            .collect();
        assert_eq!(found, expected, "{entries:?}");
    }

    #[test]
    fn configured_hooks_run_in_the_order_of_their_events() {
        let event = |name: &'static str| (name, "pre-receive");
        check(&[("hook.a.command", "one"), event("hook.a.event"), ("hook.b.event", "update")], &["one"]);
        check(
            &[("hook.b.command", "b"), event("hook.a.event"), event("hook.b.event"), ("hook.a.command", "a")],
            &["a", "b"],
        );
        check(
            &[
                ("hook.a.command", "a"),
                ("hook.b.command", "b"),
                event("hook.a.event"),
                event("hook.b.event"),
                event("hook.a.event"),
            ],
            &["b", "a"],
        );
        check(&[("hook.a.b.command", "dotted"), event("hook.a.b.event")], &["dotted"]);
        check(&[event("hook.a.event")], &["a has none"]);
    }

    #[test]
    fn configured_hooks_can_be_switched_off() {
        let event = ("hook.a.event", "pre-receive");
        let command = ("hook.a.command", "a");
        check(&[command, event, ("hook.a.event", "")], &[]);
        check(&[command, event, ("hook.a.enabled", "false")], &[]);
        check(&[command, event, ("hook.a.enabled", "false"), ("hook.a.enabled", "true")], &["a"]);
        check(&[command, event, ("hook.pre-receive.enabled", "no")], &[]);
        check(&[command, event, ("hook.update.enabled", "no")], &["a"]);
    }
}

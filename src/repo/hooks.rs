//! Hooks: programs of the repository's owner that a push runs (githooks).
//!
//! In: a repository and what a hook is to be told. Out: whether it agrees; what it says goes to the sink while it says it.
//! A hook sees the environment the edge allowed it, nothing of the web server's and no credentials.

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

/// The hooks there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before anything is visible; sees the quarantine; may refuse everything.
    PreReceive,
    /// In the server's place; carries out ref updates it is told of.
    ProcReceive,
    /// For each ref; may refuse it.
    Update,
    /// In place of git, to bring a work tree to what was pushed to its branch; may refuse that.
    PushToCheckout,
    /// For each state of a ref transaction; may refuse it.
    ReferenceTransaction,
    /// When all is done, with what was updated on its input.
    PostReceive,
    /// When all is done, with what was updated as its arguments.
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

/// What a hook is told.
pub struct Told<'a> {
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// What is added to its environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Its input, line by line, made anew for each program of the hook.
    pub lines: &'a dyn Fn() -> Lines<'a>,
}

/// What a hook reads.
pub type Lines<'a> = Box<dyn Iterator<Item = Vec<u8>> + 'a>;

/// No input.
pub fn no_lines<'a>() -> Lines<'a> {
    Box::new(std::iter::empty())
}

/// What a hook answers.
#[derive(Debug)]
pub enum Answer {
    /// It agrees, or there is none.
    Agreed,
    /// It does not.
    Declined,
    /// Somebody else's signal ended it, which is no agreement.
    Killed(i32),
    /// It was killed because the time for the request was over.
    Late,
    /// It could not be run at all, which is no agreement (HO-16).
    NotRun(io::Error),
}

impl Answer {
    /// Whether nothing was said against it.
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

/// An argument or a value of the environment.
pub fn word(bytes: &[u8]) -> OsString {
    OsStr::from_bytes(bytes).to_owned()
}

/// One program of a hook.
#[derive(Debug, PartialEq, Eq)]
enum Program {
    /// A file that may be executed.
    File(PathBuf),
    /// `hook.NAME.command`, for the shell.
    Command(OsString),
    /// `hook.NAME.event` without a command.
    Nameless(String),
}

/// Whether there is anything to run.
pub fn exists(repository: &Repository, hook: Hook) -> bool {
    !programs(repository, hook).is_empty()
}

/// Runs a hook in the git directory with `GIT_DIR=.` (HO-03). What it says goes to `sink`, on both outputs. Where it consists
/// of several programs all of them run, and each must agree.
///
/// # Errors
/// When the sink fails, which ends the hook.
pub fn run(repository: &Repository, hook: Hook, told: &Told<'_>, sink: &mut dyn Sink) -> io::Result<Answer> {
    let mut answer = Answer::Agreed;
    let mut watched = Watched { sink, failed: false };
    for program in programs(repository, hook) {
        let one = start(repository, hook, &program, told, Output::Sink(&mut watched));
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
    told: &Told<'_>,
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
    arguments.extend(told.arguments.iter().cloned());
    let environment = environment(repository, &told.environment);
    let child = child(repository, program, &arguments, &environment);
    let ended =
        launch(repository, hook.name(), &child, |child, time| children::run(child, &mut (told.lines)(), output, time))?;
    Ok(answered(&ended))
}

/// Converses with a hook that is a file; `None` where there is none. What it says on its standard error goes to `sink`.
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

/// What a hook's end means.
fn answered(ended: &Ended) -> Answer {
    match ended {
        Ended::Status(0) => Answer::Agreed,
        Ended::Status(_) => Answer::Declined,
        // As git has it: who stops a hook knows, and one that nobody reads has nothing to complain about.
        Ended::Signal(libc::SIGINT | libc::SIGQUIT | libc::SIGPIPE) => Answer::Declined,
        Ended::Signal(signal) => Answer::Killed(*signal),
        Ended::Late => Answer::Late,
    }
}

/// Runs the operator's command that makes packs, with arguments behind it (uploadpack.packObjectsHook). The pack goes to `sink`,
/// what is said about it aside.
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
    // git's own programs are not to fetch from elsewhere either, what is not here (EN-12).
    let environment = environment(repository, &[("GIT_NO_LAZY_FETCH".into(), "1".into())]);
    let program = Path::new("/bin/sh");
    let child = child(repository, program, &words, &environment);
    launch(repository, "pack-objects", &child, |child, time| children::run(child, input, Output::Apart(sink), time))
}

/// A child of a repository, in its git directory. It is apart from us where a web server has started us: nobody but us ends what it leaves unfinished.
pub(super) fn child<'a>(
    repository: &'a Repository,
    program: &'a Path,
    arguments: &'a [OsString],
    environment: &'a [(OsString, OsString)],
) -> Child<'a> {
    let apart = match repository.context.mode {
        AccessMode::Tokens | AccessMode::WebServer => true,
        AccessMode::Pipe => false,
    };
    Child { program, arguments, environment, directory: &repository.git_dir, apart }
}

/// Runs a program, and traces that.
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
        // As a shell has it.
        Ok(Ended::Signal(signal)) => 128 + signal,
        Ok(Ended::Late) | Err(_) => -1,
    });
    ended
}

/// What a hook consists of: configured commands (HO-02), then the file (HO-01). A file that may not be executed is ignored,
/// as by git, and the operator is told.
fn programs(repository: &Repository, hook: Hook) -> Vec<Program> {
    let mut programs = configured(repository.entries.iter(), hook.name());
    programs.extend(executable(repository, hook).map(Program::File));
    programs
}

/// A hook's file, if it may be executed.
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

/// What a look at a hook's file tells.
enum Look {
    Nothing,
    /// It is there, or in a directory that is not to be looked into.
    Forbidden,
    Runnable,
}

/// Looks at a hook. Where we have no right to, it is ignored, as by git; where something else is wrong it is taken to be there: it cannot be
/// started, and that declines.
fn look(path: &Path) -> Look {
    match access(path, Access::EXEC_OK) {
        Ok(()) => Look::Runnable,
        Err(Errno::NOENT | Errno::NOTDIR) => Look::Nothing,
        Err(Errno::ACCESS) => Look::Forbidden,
        // Sandboxes do not know every call.
        Err(_) => match fs::metadata(path) {
            Ok(found) if found.permissions().mode() & 0o111 == 0 => Look::Forbidden,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Look::Nothing
            }
            Ok(_) | Err(_) => Look::Runnable,
        },
    }
}

/// The commands of `hook.NAME.event`, in the order in which the events were set last.
fn configured<'a>(entries: impl Iterator<Item = &'a ConfigEntry>, event: &str) -> Vec<Program> {
    #[derive(Default)]
    struct Named<'a> {
        command: Option<&'a BStr>,
        /// When this event was set last; `None`: never, or reset since.
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
    // `hook.EVENT.enabled` switches off all of an event's, unless the name is a hook's own.
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

/// Where a hook's file would be. Below the git directory it has a relative name, which is what its `$0` says then.
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

/// What a child of ours sees: what the edge allows, and that the repository is where it runs.
pub(super) fn environment(repository: &Repository, more: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
    let mut environment = repository.context.hook_environment.variables();
    environment.retain(|(name, _)| name != "GIT_DIR" && name != "GIT_WORK_TREE");
    environment.push(("GIT_DIR".into(), ".".into()));
    let shallow = repository.shallow_file.get();
    environment.extend(shallow.map(|file| ("GIT_SHALLOW_FILE".into(), file.path().into())));
    environment.extend_from_slice(more);
    environment
}

/// A sink that remembers whether it failed: then the hook is not to blame.
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

/// The reference-transaction hook. It speaks to the server's standard error, not to the client (HO-15).
pub struct ReferenceTransaction<'a> {
    repository: &'a Repository,
    exists: bool,
    details: Vec<String>,
    /// Ticked while a hook runs.
    sink: &'a mut dyn Sink,
}

impl<'a> ReferenceTransaction<'a> {
    /// Looks once whether there is one.
    pub fn new(repository: &'a Repository, sink: &'a mut dyn Sink) -> Self {
        let exists = exists(repository, Hook::ReferenceTransaction);
        ReferenceTransaction { repository, exists, details: Vec::new(), sink }
    }

    /// Why changes were refused, in git's words: for the client.
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
        let told = Told { arguments: vec![word.into()], environment: Vec::new(), lines: &lines };
        let mut agreed = true;
        for program in programs(self.repository, Hook::ReferenceTransaction) {
            let output = Output::Stderr(&mut *self.sink);
            let answer = start(self.repository, Hook::ReferenceTransaction, &program, &told, output);
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

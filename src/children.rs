//! The only module that starts processes.
//!
//! In: a program, its arguments, environment, directory and standard input. Out: how it ended. Its output is passed on
//! as it comes, and its input may depend on its output. A child never inherits descriptors from 3 up, nor an
//! environment it was not given.

mod talk;

use crate::stream::Sink;
use rustix::io::Errno;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use talk::{Outputs, attend};

/// A program to run.
pub struct Child<'a> {
    /// The program's path, relative to `directory`.
    pub program: &'a Path,
    /// Its arguments, without its own name.
    pub arguments: &'a [OsString],
    /// Its whole environment; if a name occurs twice, the last entry counts.
    pub environment: &'a [(OsString, OsString)],
    /// The directory it runs in.
    pub directory: &'a Path,
    /// Whether it gets a process group of its own, all of which is killed when it is no longer waited for; a child
    /// started with [`spawn_detached`] always gets one. On a terminal it must stay in our group: there Ctrl-C ends all
    /// of it, and it may ask the user something.
    pub own_group: bool,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this status.
    Status(i32),
    /// It was killed by this signal, which did not come from us.
    Signal(i32),
    /// We killed it because its time was up.
    Late,
}

impl Ended {
    /// Whether it succeeded.
    pub fn well(self) -> bool {
        self == Ended::Status(0)
    }
}

/// Where a child's two outputs go. A sink also gets a tick at least every second.
pub enum Output<'a> {
    /// Both to the sink, as they come.
    Sink(&'a mut dyn Sink),
    /// Standard output to the sink, standard error to its [`Sink::aside`].
    Apart(&'a mut dyn Sink),
    /// Both to our own standard error; the sink is only ticked.
    Stderr(&'a mut dyn Sink),
    /// Only standard output to the sink; standard error is discarded.
    Stdout(&'a mut dyn Sink),
}

/// Our side of a conversation: provides what a child reads, and receives its standard output.
pub trait Dialogue {
    /// Returns what to send next. It is called again after something was heard, and once everything returned before has
    /// been sent.
    fn say(&mut self) -> Say;

    /// Receives what the child wrote. Empty bytes mean that it has closed its standard output and nothing more will
    /// come.
    fn hear(&mut self, bytes: &[u8]);
}

/// What to do next in a conversation.
#[derive(Debug, PartialEq, Eq)]
pub enum Say {
    /// Send this.
    Words(Vec<u8>),
    /// Wait until the child has written something.
    Listen,
    /// Send nothing more, and ignore further output.
    Over,
}

/// The input of a child whose output is not part of a conversation.
struct Monologue<'i>(&'i mut dyn Iterator<Item = Vec<u8>>);

impl Dialogue for Monologue<'_> {
    fn say(&mut self) -> Say {
        self.0.next().map_or(Say::Over, Say::Words)
    }

    fn hear(&mut self, _bytes: &[u8]) {}
}

/// Runs a child until it and its output have ended.
///
/// `input` is produced piece by piece as the child reads it; it is not an error if the child reads none of it or only a
/// part (HO-11). After `time` the child is killed, and if it has its `own_group` everything it started is killed too.
///
/// # Errors
/// When it cannot be started. When the sink fails; the child is killed first.
pub fn run(
    child: &Child<'_>,
    input: &mut dyn Iterator<Item = Vec<u8>>,
    output: Output<'_>,
    time: Option<Duration>,
) -> io::Result<Ended> {
    let end = |writer: &io::PipeWriter| writer.try_clone().map(Stdio::from);
    let (running, outputs) = match output {
        Output::Sink(sink) => {
            let (reader, writer) = io::pipe()?;
            let running = start(child, &|| end(&writer), &|| end(&writer))?;
            (running, Outputs { said: Some(reader), sink: Some(sink), ..Outputs::default() })
        }
        Output::Stdout(sink) => {
            let (reader, writer) = io::pipe()?;
            let running = start(child, &|| end(&writer), &|| Ok(Stdio::null()))?;
            (running, Outputs { said: Some(reader), sink: Some(sink), ..Outputs::default() })
        }
        Output::Apart(sink) => {
            let ((made, maker), (aside, speaker)) = (io::pipe()?, io::pipe()?);
            let running = start(child, &|| end(&maker), &|| end(&speaker))?;
            (running, Outputs { said: Some(made), aside: Some(aside), sink: Some(sink) })
        }
        Output::Stderr(sink) => {
            let stderr = || io::stderr().as_fd().try_clone_to_owned().map(Stdio::from);
            (start(child, &stderr, &stderr)?, Outputs { sink: Some(sink), ..Outputs::default() })
        }
    };
    attend(child, running, &mut Monologue(input), outputs, time)
}

/// Converses with a child over its standard input and output until the dialogue is over, then waits for its end. Its
/// standard error goes to the sink as it comes, with ticks as in [`run`].
///
/// # Errors
/// As [`run`].
pub fn converse(
    child: &Child<'_>,
    dialogue: &mut dyn Dialogue,
    errors: &mut dyn Sink,
    time: Option<Duration>,
) -> io::Result<Ended> {
    let (reader, writer) = io::pipe()?;
    let running = start(child, &|| Ok(Stdio::piped()), &|| writer.try_clone().map(Stdio::from))?;
    drop(writer);
    attend(child, running, dialogue, Outputs { said: Some(reader), sink: Some(errors), ..Outputs::default() }, time)
}

/// Starts a child and leaves it alone: it has no input and its output is discarded, nothing waits for it, and a signal
/// to our process group does not reach it.
///
/// # Errors
/// When it cannot be started.
#[allow(clippy::zombie_processes, reason = "it outlives this process, which ends soon")]
pub fn spawn_detached(child: &Child<'_>) -> io::Result<()> {
    close_on_exec()?;
    let mut command = command(child, child.program, None);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.process_group(0).spawn().map(drop)
}

/// Starts a child. As in git, an executable file without an interpreter line is run as a shell script.
fn start(
    child: &Child<'_>,
    output: &dyn Fn() -> io::Result<Stdio>,
    errors: &dyn Fn() -> io::Result<Stdio>,
) -> io::Result<std::process::Child> {
    close_on_exec()?;
    let spawn = |program: &Path, script: Option<&Path>| {
        let mut command = command(child, program, script);
        if child.own_group {
            command.process_group(0);
        }
        command.stdin(Stdio::piped()).stdout(output()?).stderr(errors()?).spawn()
    };
    match spawn(child.program, None) {
        Err(error) if error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error()) => {
            spawn(Path::new("/bin/sh"), Some(child.program))
        }
        started => started,
    }
}

/// The command for a program, or for an interpreter with its script, with everything but its three descriptors.
fn command(child: &Child<'_>, program: &Path, script: Option<&Path>) -> Command {
    let mut command = Command::new(program);
    command.args(script).args(child.arguments).current_dir(child.directory);
    command.env_clear().envs(child.environment.iter().map(|(name, value)| (name, value)));
    command
}

/// How many descriptors are tried if /proc does not tell which are open.
const DESCRIPTORS_MAX: i32 = 1024;

/// Marks every descriptor from 3 up to be closed in children: a web server may have left some open (fcgiwrap leaves the
/// connection), and a child that holds one delays the end of the answer.
fn close_on_exec() -> io::Result<()> {
    let open: Vec<i32> = match std::fs::read_dir("/proc/self/fd") {
        Ok(entries) => entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect(),
        Err(_) => (0..DESCRIPTORS_MAX).collect(),
    };
    for descriptor in open.into_iter().filter(|&descriptor| descriptor > 2) {
        // SAFETY: the borrow ends with this statement, and only a flag of the descriptor is set. For a descriptor that
        // has been closed in the meantime, such as the directory's own, the call returns EBADF.
        #[allow(unsafe_code, reason = "a descriptor that somebody else left open has no owner here")]
        let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
        match rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC) {
            Ok(()) | Err(Errno::BADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

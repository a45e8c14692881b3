//! The only module that starts processes.
//!
//! In: a program, its arguments, environment, directory and standard input. Out: how it ended; what it says is handed on while
//! it says it, and what it is told may depend on what it has said. A child never inherits descriptors from 3 up, nor an
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
    /// Where it is; relative to `directory`.
    pub program: &'a Path,
    /// Its arguments, its own name not among them.
    pub arguments: &'a [OsString],
    /// All of its environment; of two entries of one name the last counts.
    pub environment: &'a [(OsString, OsString)],
    /// Where it runs.
    pub directory: &'a Path,
    /// Whether it has a process group of its own, all of which ends where it is not waited for any longer; one that is [`left`](leave) has it in
    /// any case. At a terminal it must be in ours: there Ctrl-C ends all of it, and it may ask the user something.
    pub apart: bool,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With this status.
    Status(i32),
    /// Killed by a signal of somebody else's.
    Signal(i32),
    /// Stopped by us when its time was over.
    Late,
}

impl Ended {
    /// Whether it says yes.
    pub fn well(self) -> bool {
        self == Ended::Status(0)
    }
}

/// Where a child's two outputs go. A sink also gets a tick at least every second.
pub enum Output<'a> {
    /// Both to the sink, as they come.
    Sink(&'a mut dyn Sink),
    /// What it makes to the sink, what it says aside ([`Sink::aside`]). The sink is ticked as well.
    Apart(&'a mut dyn Sink),
    /// Both to our own standard error; the sink is only ticked.
    Stderr(&'a mut dyn Sink),
    /// Standard output alone to the sink, as with `Sink`; what goes to standard error is lost.
    Stdout(&'a mut dyn Sink),
}

/// One side of a conversation: what a child reads, and what becomes of its standard output.
pub trait Dialogue {
    /// What is told next. It is asked again whenever something was heard and all that was told before is on its way.
    fn say(&mut self) -> Say;

    /// What the child wrote; empty: it has closed its standard output, after which there is nothing to listen for.
    fn hear(&mut self, bytes: &[u8]);
}

/// What is told next.
#[derive(Debug, PartialEq, Eq)]
pub enum Say {
    /// This.
    Words(Vec<u8>),
    /// Nothing before something is heard.
    Listen,
    /// Nothing any more, and nothing more is heard.
    Over,
}

/// The input of a child that is not listened to.
struct Monologue<'i>(&'i mut dyn Iterator<Item = Vec<u8>>);

impl Dialogue for Monologue<'_> {
    fn say(&mut self) -> Say {
        self.0.next().map_or(Say::Over, Say::Words)
    }

    fn hear(&mut self, _bytes: &[u8]) {}
}

/// Runs a child to its end and to the end of its output.
///
/// `input` is made piece by piece, as fast as the child reads it; a child that reads none or not all of it is no error (HO-11).
/// After `time` it is killed, and so is what it has started, if it is apart.
///
/// # Errors
/// When it cannot be started. When the sink fails: then the child is killed first.
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

/// Converses with a child over its standard input and output until the dialogue is over, then waits for its end; its standard
/// error goes to the sink as it comes, with ticks, as in [`run`].
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

/// Starts a child that is left alone: it hears nothing and is not heard, nobody waits for it, and who ends our process group does
/// not end it.
///
/// # Errors
/// When it cannot be started.
#[allow(clippy::zombie_processes, reason = "it outlives this process, which ends soon")]
pub fn leave(child: &Child<'_>) -> io::Result<()> {
    close_on_exec()?;
    let mut command = command(child, child.program, None);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.process_group(0).spawn().map(drop)
}

/// Starts a child. A file that no interpreter line makes a program is a script for the shell, as for git.
fn start(
    child: &Child<'_>,
    output: &dyn Fn() -> io::Result<Stdio>,
    errors: &dyn Fn() -> io::Result<Stdio>,
) -> io::Result<std::process::Child> {
    close_on_exec()?;
    let spawn = |program: &Path, script: Option<&Path>| {
        let mut command = command(child, program, script);
        if child.apart {
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

/// A program, or an interpreter with its script, with all that a child is given but its three descriptors.
fn command(child: &Child<'_>, program: &Path, script: Option<&Path>) -> Command {
    let mut command = Command::new(program);
    command.args(script).args(child.arguments).current_dir(child.directory);
    command.env_clear().envs(child.environment.iter().map(|(name, value)| (name, value)));
    command
}

/// The highest descriptor that is looked at where /proc cannot tell which are open.
const DESCRIPTORS_MAX: i32 = 1024;

/// Marks every descriptor from 3 up to be closed in children: a web server may have left its own ones open (fcgiwrap leaves
/// the connection), and a child that holds one holds up the answer.
fn close_on_exec() -> io::Result<()> {
    let open: Vec<i32> = match std::fs::read_dir("/proc/self/fd") {
        Ok(entries) => entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect(),
        Err(_) => (0..DESCRIPTORS_MAX).collect(),
    };
    for descriptor in open.into_iter().filter(|&descriptor| descriptor > 2) {
        // SAFETY: the borrow ends with this statement and only a flag of the descriptor is set. One that has been closed
        // meanwhile (the directory's own has) is answered with EBADF.
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

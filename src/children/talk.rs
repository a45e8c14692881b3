//! Communication with a running child.
//!
//! In: the child, its input, where its output goes, and how long it may take. Out: how it ended. When this returns, the
//! child has always ended; if it was killed, so was its process group, if it has its own.

use super::{Child, Dialogue, Ended, Say};
use crate::stream::Sink;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{ChildStdin, ChildStdout, ExitStatus};
use std::time::{Duration, Instant};

/// The longest time between two ticks.
const TICK: Duration = Duration::from_secs(1);

/// How much input is produced, and how much output is read, at once.
const BLOCK: usize = 16 << 10;

/// Where a child's outputs are read from, and where they go.
#[derive(Default)]
pub(super) struct Outputs<'s> {
    pub(super) said: Option<io::PipeReader>,
    /// Its standard error, if it goes elsewhere than standard output.
    pub(super) aside: Option<io::PipeReader>,
    pub(super) sink: Option<&'s mut dyn Sink>,
}

/// Stays with a running child until it ends.
///
/// # Errors
/// When communication fails, or the sink does; the child has been killed then.
pub(super) fn attend(
    child: &Child<'_>,
    mut running: std::process::Child,
    words: &mut dyn Dialogue,
    outputs: Outputs<'_>,
    time: Option<Duration>,
) -> io::Result<Ended> {
    let until = time.and_then(|time| Instant::now().checked_add(time));
    let (stdin, answers) = (running.stdin.take(), running.stdout.take());
    let Outputs { said, aside, sink } = outputs;
    let mut talk = Talk { stdin, words, rest: Vec::new(), answers, said, aside, sink, until };
    let ended = talk.pump().and_then(|in_time| match in_time {
        true => talk.wait(&mut running),
        false => Ok(Ended::Late),
    });
    if !matches!(ended, Ok(Ended::Status(_) | Ended::Signal(_))) {
        // The child may have ended by itself in the meantime; its status is collected but ignored. Until then its
        // process id, and so its group's, cannot be reused.
        if child.own_group {
            let _ = kill_process_group(Pid::from_child(&running), Signal::KILL);
        }
        let _ = running.kill();
        let _ = running.wait();
    }
    ended
}

/// The communication with a running child.
struct Talk<'i, 's> {
    stdin: Option<ChildStdin>,
    words: &'i mut dyn Dialogue,
    /// Input that was produced but not taken by the child yet.
    rest: Vec<u8>,
    /// The child's output in a conversation.
    answers: Option<ChildStdout>,
    said: Option<io::PipeReader>,
    /// Its standard error, if it goes elsewhere than standard output.
    aside: Option<io::PipeReader>,
    sink: Option<&'s mut dyn Sink>,
    until: Option<Instant>,
}

impl Talk<'_, '_> {
    /// Writes to the child and reads from it until both have ended. Returns `false` if its time is up first.
    fn pump(&mut self) -> io::Result<bool> {
        if let Some(stdin) = &self.stdin {
            rustix::io::ioctl_fionbio(stdin, true)?;
        }
        loop {
            self.make_input();
            if self.stdin.is_none() && self.answers.is_none() && self.said.is_none() && self.aside.is_none() {
                return Ok(true);
            }
            let Some(pause) = self.pause(TICK) else { return Ok(false) };
            let stdin = self.stdin.as_ref().filter(|_| !self.rest.is_empty());
            let telling = [self.said.as_ref(), self.aside.as_ref()];
            let ready = wait_for(stdin, self.answers.as_ref(), telling, pause)?;
            if ready.taking {
                self.feed()?;
            }
            if ready.answering {
                listen(&mut self.answers, |bytes| {
                    self.words.hear(bytes);
                    Ok(())
                })?;
                if self.answers.is_none() {
                    self.words.hear(&[]);
                }
            }
            // Standard error first: its messages may be about the output that follows.
            if ready.telling[1] {
                listen(&mut self.aside, |text| self.sink.as_mut().map_or(Ok(()), |sink| sink.aside(text)))?;
            }
            if ready.telling[0] {
                listen(&mut self.said, |bytes| match &mut self.sink {
                    Some(sink) => sink.write_all(bytes).and_then(|()| sink.flush()),
                    None => Ok(()),
                })?;
            }
            if let Some(sink) = &mut self.sink {
                sink.tick(0)?;
            }
        }
    }

    /// How long to wait next, at most `longest`; `None` if the time is up.
    fn pause(&self, longest: Duration) -> Option<Duration> {
        match self.until {
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                (!left.is_zero()).then(|| left.min(longest))
            }
            None => Some(longest),
        }
    }

    /// Produces more input once the previous is taken. When the input ends, the child's standard input is closed, and
    /// so is its output in a conversation.
    fn make_input(&mut self) {
        while self.rest.len() < BLOCK && (self.stdin.is_some() || self.answers.is_some()) {
            match self.words.say() {
                // The child has closed its standard input: nothing more is kept for it.
                Say::Words(words) if self.stdin.is_some() => self.rest.extend_from_slice(&words),
                Say::Words(_) => {}
                Say::Listen if self.answers.is_some() => return,
                Say::Listen | Say::Over if self.rest.is_empty() => (self.stdin, self.answers) = (None, None),
                Say::Listen | Say::Over => return,
            }
        }
    }

    fn feed(&mut self) -> io::Result<()> {
        let Some(stdin) = &mut self.stdin else { return Ok(()) };
        match stdin.write(&self.rest) {
            Ok(taken) => {
                self.rest.drain(..taken);
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => {}
                // The child has closed its standard input.
                io::ErrorKind::BrokenPipe => {
                    self.stdin = None;
                    self.rest.clear();
                }
                _ => return Err(error),
            },
        }
        Ok(())
    }

    /// Waits for the end of a child that writes nothing more: it may have closed its outputs and still be working.
    fn wait(&mut self, running: &mut std::process::Child) -> io::Result<Ended> {
        let mut pause = Duration::from_micros(200);
        loop {
            if let Some(status) = running.try_wait()? {
                return Ok(ended(status));
            }
            let Some(now) = self.pause(pause) else { return Ok(Ended::Late) };
            std::thread::sleep(now);
            pause = (pause * 2).min(TICK / 10);
            if let Some(sink) = &mut self.sink {
                sink.tick(0)?;
            }
        }
    }
}

/// Passes on what can be read at once, and closes the pipe at its end.
fn listen(from: &mut Option<impl Read>, to: impl FnOnce(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let Some(reader) = from else { return Ok(()) };
    let mut buffer = [0; BLOCK];
    match reader.read(&mut buffer) {
        Ok(0) => *from = None,
        Ok(read) => to(&buffer[..read])?,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

fn ended(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Status(code),
        (None, signal) => Ended::Signal(signal.unwrap_or_default()),
    }
}

/// Which ends of a child's pipes are ready.
struct Ready {
    taking: bool,
    answering: bool,
    telling: [bool; 2],
}

/// Waits until the child accepts input or writes something, or the pause is over.
fn wait_for(
    stdin: Option<&ChildStdin>,
    answers: Option<&ChildStdout>,
    said: [Option<&io::PipeReader>; 2],
    pause: Duration,
) -> io::Result<Ready> {
    let pause = rustix::event::Timespec {
        tv_sec: i64::try_from(pause.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: pause.subsec_nanos().into(),
    };
    let mut ends = Vec::with_capacity(3);
    ends.extend(stdin.map(|stdin| PollFd::new(stdin, PollFlags::OUT)));
    ends.extend(answers.map(|answers| PollFd::new(answers, PollFlags::IN)));
    ends.extend(said.iter().flatten().map(|said| PollFd::new(*said, PollFlags::IN)));
    match poll(&mut ends, Some(&pause)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut ready = ends.iter().map(|end| !end.revents().is_empty());
    Ok(Ready {
        taking: stdin.is_some() && ready.next().unwrap_or_default(),
        answering: answers.is_some() && ready.next().unwrap_or_default(),
        telling: said.map(|said| said.is_some() && ready.next().unwrap_or_default()),
    })
}

//! Descriptors 0 and 1.
//!
//! In: the descriptors. Out: a reader that gives up on a silent stream and, during a push, checks for SIGTERM; a sink
//! that lets the kernel move the pages of files. Neither waits much longer than the request's deadline.

use super::Environ;
use crate::stream::{Deadline, Input, Pulse, Sink, copy_range};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a request may go on after its deadline to deliver the error: it still reads what the client is sending, and
/// waits for the client to take the answer.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Makes writing beyond the process's file size limit (`ulimit -f`) an ordinary error; by default SIGXFSZ kills the
/// process. Done only where files are written, since it costs a small request noticeable time.
pub fn survive_file_limits(environ: &Environ, push: bool) {
    const FILES: [&str; 5] =
        ["ARTIFACTS_AUDIT_LOG", "ARTIFACTS_CACHE", "GIT_TRACE", "GIT_TRACE_PACKET", "GIT_TRACE2_EVENT"];
    if push || FILES.iter().any(|name| environ.get(name).is_some()) {
        let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
    }
}

/// Standard input.
pub struct Stdin {
    silence: Option<Duration>,
    stop: Option<Arc<AtomicBool>>,
    deadline: Option<Deadline>,
}

impl Stdin {
    /// A stream that fails after `silence` without a byte. During a push SIGTERM only sets a flag, which is checked
    /// before each read and at each tick of [`Stdout`].
    pub fn new(silence: Option<Duration>, push: bool) -> Self {
        let stop = push.then(|| {
            let stop = Arc::new(AtomicBool::new(false));
            // Should this fail, SIGTERM kills the process at once. A repository must survive that anyway.
            let _ = signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&stop));
            stop
        });
        Stdin { silence, stop, deadline: None }
    }

    /// Sets the moment after which reading fails.
    pub fn deadline(&mut self, deadline: Option<Deadline>) {
        self.deadline = deadline;
    }

    /// Makes reading fail after `silence` without a byte, and drops the deadline.
    pub fn give_up_after(&mut self, silence: Duration) {
        (self.silence, self.deadline) = (Some(silence), None);
    }

    /// The flag that SIGTERM sets; `None` unless this is a push.
    pub fn stop_flag(&self) -> Option<Arc<AtomicBool>> {
        self.stop.clone()
    }

    /// Reads once; `None` if nothing has come by `end`.
    fn read_before(&mut self, into: &mut [u8], end: Option<Instant>) -> io::Result<Option<usize>> {
        let input = rustix::stdio::stdin();
        loop {
            stopped(self.stop.as_ref())?;
            // A stream that is always ready must not go on past `end`.
            if end.is_some_and(|end| Instant::now() >= end) {
                return Ok(None);
            }
            match ready(&PollFd::new(&input, PollFlags::IN), self.silence, end)? {
                Ready::Yes => {}
                Ready::Interrupted | Ready::Over => continue,
                Ready::Silent(silence) => {
                    let text = format!("no byte of the request came for {} seconds", silence.as_secs());
                    return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
            }
            match rustix::io::read(input, &mut *into) {
                Err(Errno::INTR) => {}
                // The server closed its end early: treated as the end of input.
                Err(Errno::CONNRESET) => return Ok(Some(0)),
                read => return Ok(Some(read?)),
            }
        }
    }
}

fn stopped(stop: Option<&Arc<AtomicBool>>) -> io::Result<()> {
    if stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
        // The server has given up on this request: nobody reads an answer.
        return Err(io::Error::new(io::ErrorKind::BrokenPipe, "ended by SIGTERM"));
    }
    Ok(())
}

enum Ready {
    Yes,
    Interrupted,
    /// Nothing came for this long.
    Silent(Duration),
    /// Nothing came before `end`.
    Over,
}

/// Waits until a descriptor is ready, but no longer than `silence` and not past `end`.
fn ready(descriptor: &PollFd<'_>, silence: Option<Duration>, end: Option<Instant>) -> io::Result<Ready> {
    let left = end.map(|end| end.saturating_duration_since(Instant::now()));
    let wait = [silence, left].into_iter().flatten().min().map(|time| Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    });
    match (poll(&mut [descriptor.clone()], wait.as_ref()), silence) {
        (Ok(0), Some(silence)) if left.is_none_or(|left| silence < left) => Ok(Ready::Silent(silence)),
        (Ok(0), _) => Ok(Ready::Over),
        (Ok(_), _) => Ok(Ready::Yes),
        (Err(Errno::INTR), _) => Ok(Ready::Interrupted),
        (Err(error), _) => Err(error.into()),
    }
}

impl Read for Stdin {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let deadline = self.deadline;
        match (self.read_before(into, deadline.map(|deadline| deadline.end()))?, deadline) {
            (None, Some(deadline)) => Err(deadline.error()),
            (read, _) => Ok(read.unwrap_or_default()),
        }
    }
}

impl Input for Stdin {
    /// Respects the deadline as well. Once that has passed, reading goes on for up to `LAST_WORDS`, so that the
    /// answer is not lost.
    fn read_until(&mut self, into: &mut [u8], until: Instant) -> io::Result<Option<usize>> {
        match self.deadline {
            Some(deadline) if deadline.is_past() => {
                self.read_before(into, Some(until.min(deadline.end() + LAST_WORDS)))
            }
            Some(deadline) if deadline.end() < until => self.read(into).map(Some),
            Some(_) | None => self.read_before(into, Some(until)),
        }
    }
}

/// Standard output.
pub struct Stdout {
    stop: Option<Arc<AtomicBool>>,
    /// Files are copied, since the kernel cannot move their pages to this descriptor or writes must stay small.
    copies: bool,
    /// Bytes of files sent.
    moved: u64,
    /// How long a reader may take nothing before the write fails.
    silence: Option<Duration>,
    /// Write at most [`PIECE`] bytes at once, and only after poll(2) has found room.
    in_pieces: bool,
    /// Nothing more is written.
    given_up: bool,
    /// When the request must be over.
    deadline: Option<Deadline>,
}

/// The most bytes of one write when a reader's silence is timed: after poll(2) has reported a pipe as writable, this
/// many do not block (pipe(7)).
const PIECE: usize = 4096;

/// A pipe is widened to this size once this many bytes of files have been sent, so that writer and reader take turns
/// less often. A pipe mostly holds pages of files, which cost nothing, but all pipes of a user share one limit
/// (pipe(7)).
const WIDE: usize = 256 << 10;

impl Stdout {
    /// Standard output; once `stop` is set, long work ends.
    pub fn new(stop: Option<Arc<AtomicBool>>) -> Self {
        Stdout { stop, copies: false, moved: 0, silence: None, in_pieces: false, given_up: false, deadline: None }
    }

    /// Makes writing fail once the reader has taken nothing for `silence`.
    pub fn give_up_after(&mut self, silence: Duration) {
        self.silence = Some(silence);
        self.write_in_pieces();
    }

    fn write_in_pieces(&mut self) {
        (self.in_pieces, self.copies) = (true, true);
    }

    /// Shows the reader the end of the answer while this process goes on.
    pub fn close(&mut self) {
        self.given_up = true;
        if let Ok(nothing) = File::open("/dev/null") {
            // If this fails, the reader waits until the process ends.
            let _ = rustix::stdio::dup2_stdout(&nothing);
        }
    }

    /// Sets the moment after which work fails; writing gives up `LAST_WORDS` later.
    pub fn deadline(&mut self, deadline: Option<Deadline>) {
        self.deadline = deadline;
        if deadline.is_some() && !unblock() {
            self.write_in_pieces();
        }
    }

    /// Waits until the descriptor is writable.
    fn wait(&mut self) -> io::Result<()> {
        let output = rustix::stdio::stdout();
        let end = self.deadline.map(|deadline| deadline.end() + LAST_WORDS);
        loop {
            let error = match (ready(&PollFd::new(&output, PollFlags::OUT), self.silence, end)?, self.deadline) {
                (Ready::Yes, _) => return Ok(()),
                (Ready::Over, Some(deadline)) => deadline.error(),
                (Ready::Interrupted | Ready::Over, _) => continue,
                (Ready::Silent(silence), _) => {
                    let text = format!("nobody took a byte of the answer for {} seconds", silence.as_secs());
                    io::Error::new(io::ErrorKind::TimedOut, text)
                }
            };
            self.given_up = true;
            return Err(error);
        }
    }
}

/// Reopens the pipe that is standard output as non-blocking. A new open file description leaves the other processes
/// that share the original one unaffected. Returns `false` if it is not a pipe or cannot be opened.
fn unblock() -> bool {
    let output = rustix::stdio::stdout();
    rustix::fs::fstat(output).is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Fifo)
        && rustix::fs::open("/proc/self/fd/1", OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
            .is_ok_and(|ours| rustix::stdio::dup2_stdout(&ours).is_ok())
}

/// Widens a pipe that is narrower than [`WIDE`]. It stays as it is if the user's pipes have reached their limit.
fn widen(pipe: impl AsFd) {
    if rustix::pipe::fcntl_getpipe_size(&pipe).is_ok_and(|size| size < WIDE) {
        let _ = rustix::pipe::fcntl_setpipe_size(&pipe, WIDE);
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let output = rustix::stdio::stdout();
        let bytes = if self.in_pieces { &bytes[..bytes.len().min(PIECE)] } else { bytes };
        loop {
            if self.given_up {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            if self.in_pieces {
                self.wait()?;
            }
            match rustix::io::write(output, bytes) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait()?,
                Err(Errno::CONNRESET) => return Err(io::ErrorKind::BrokenPipe.into()),
                written => return Ok(written?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pulse for Stdout {
    fn tick(&mut self, _done: u64) -> io::Result<()> {
        stopped(self.stop.as_ref())?;
        self.deadline.map_or(Ok(()), |deadline| deadline.check())
    }
}

impl Sink for Stdout {
    fn send_file(&mut self, file: &File, range: Range<u64>) -> io::Result<()> {
        let before = self.moved;
        self.moved = before.saturating_add(range.end.saturating_sub(range.start));
        if before < WIDE as u64 && self.moved >= WIDE as u64 {
            widen(rustix::stdio::stdout());
        }
        let mut at = range.start;
        while at < range.end && !self.copies && !self.given_up {
            let size = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(1 << 30);
            match rustix::fs::sendfile(rustix::stdio::stdout(), file, Some(&mut at), size) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait()?,
                Err(error) if is_unavailable(error) => self.copies = true,
                Err(Errno::CONNRESET) => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(error) => return Err(error.into()),
            }
        }
        if at < range.end { copy_range(file, at..range.end, self) } else { Ok(()) }
    }
}

/// Whether sendfile(2) is unavailable here: a sandbox may forbid it, and some descriptors do not support it. If the
/// error has another cause, the copying that follows reports it.
fn is_unavailable(error: Errno) -> bool {
    matches!(error, Errno::INVAL | Errno::NOSYS | Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size, pipe};

    #[test]
    fn a_pipe_is_widened_and_never_made_narrower() {
        let check = |before: usize, expected: usize| {
            let (_reader, writer) = pipe().unwrap();
            fcntl_setpipe_size(&writer, before).unwrap();
            widen(&writer);
            assert_eq!(fcntl_getpipe_size(&writer).unwrap(), expected, "{before}");
        };
        check(64 << 10, WIDE);
        check(512 << 10, 512 << 10);
        // Not a pipe.
        widen(File::open("/dev/null").unwrap());
    }

    #[test]
    fn errors_of_a_missing_call_are_told_from_those_of_a_stream() {
        for error in [Errno::INVAL, Errno::NOSYS, Errno::PERM, Errno::ACCESS, Errno::OPNOTSUPP] {
            assert!(is_unavailable(error), "{error}");
        }
        for error in [Errno::IO, Errno::PIPE, Errno::BADF, Errno::NOMEM, Errno::FBIG] {
            assert!(!is_unavailable(error), "{error}");
        }
    }
}

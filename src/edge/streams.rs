//! Descriptors 0 and 1.
//!
//! In: the descriptors. Out: a reader that gives up on a silent stream and, during a push, looks for SIGTERM; a sink that
//! lets the kernel move the pages of files. Neither waits behind the request's deadline.

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

/// Behind its deadline a request has so long to be told so: what the client is still sending is taken, and the answer is waited for.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A file that grows beyond the limit of this process (`ulimit -f`) is an error from now on, as any other, and not its end. Asked for only where
/// files are written: a small request feels the price.
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
    /// A stream that is given up after so much silence. During a push SIGTERM is noted, not obeyed: it is looked at here and
    /// between stations.
    pub fn new(silence: Option<Duration>, push: bool) -> Self {
        let stop = push.then(|| {
            let stop = Arc::new(AtomicBool::new(false));
            // Without the handler SIGTERM ends the process at once, which must be survived anyway.
            let _ = signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&stop));
            stop
        });
        Stdin { silence, stop, deadline: None }
    }

    /// Nothing is read behind this moment.
    pub fn deadline(&mut self, deadline: Option<Deadline>) {
        self.deadline = deadline;
    }

    /// From now on it is given up after so much silence, and never else.
    pub fn give_up_after(&mut self, silence: Duration) {
        (self.silence, self.deadline) = (Some(silence), None);
    }

    /// Set once SIGTERM came.
    pub fn stop_flag(&self) -> Option<Arc<AtomicBool>> {
        self.stop.clone()
    }

    /// One read; `None` where nothing has come until `end`.
    fn read_before(&mut self, into: &mut [u8], end: Option<Instant>) -> io::Result<Option<usize>> {
        let input = rustix::stdio::stdin();
        loop {
            stopped(self.stop.as_ref())?;
            // One that never pauses must not go on for ever.
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
                // The server closed its end in the middle: as good as an end.
                Err(Errno::CONNRESET) => return Ok(Some(0)),
                read => return Ok(Some(read?)),
            }
        }
    }
}

fn stopped(stop: Option<&Arc<AtomicBool>>) -> io::Result<()> {
    if stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
        // The server has given up on this request: nobody hears an answer.
        return Err(io::Error::new(io::ErrorKind::BrokenPipe, "ended by SIGTERM"));
    }
    Ok(())
}

enum Ready {
    Yes,
    Interrupted,
    /// Not within this time.
    Silent(Duration),
    /// Not until the end that was given.
    Over,
}

/// Waits until a descriptor is ready, for `silence` and until `end` at most.
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
    /// A deadline that has not come counts too, and what is read behind it is read for the sake of the answer.
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
    /// The kernel cannot move pages to this descriptor.
    copies: bool,
    /// Bytes of files that were sent.
    moved: u64,
    /// How long a reader may take nothing.
    silence: Option<Duration>,
    /// Little is written at once, and only when it is known not to wait.
    in_pieces: bool,
    /// It took too long: nothing more is written.
    given_up: bool,
    /// When the whole conversation must be over.
    deadline: Option<Deadline>,
}

/// As much is written at once where a reader's silence counts: when a descriptor is ready, so much does not block (pipe(7)).
const PIECE: usize = 4096;

/// From so many bytes of files on, a pipe is widened, and to how many: who writes and who reads then take turns less often. What is
/// in a pipe is mostly pages of files, which cost nothing; but all pipes of one user have a limit together (pipe(7)).
const WIDE: usize = 256 << 10;

impl Stdout {
    /// `stop` ends long work once it is set.
    pub fn new(stop: Option<Arc<AtomicBool>>) -> Self {
        Stdout { stop, copies: false, moved: 0, silence: None, in_pieces: false, given_up: false, deadline: None }
    }

    /// Gives up on a reader that takes nothing for so long.
    pub fn give_up_after(&mut self, silence: Duration) {
        self.silence = Some(silence);
        self.write_in_pieces();
    }

    fn write_in_pieces(&mut self) {
        (self.in_pieces, self.copies) = (true, true);
    }

    /// Whoever reads sees the end of the answer, though this process goes on.
    pub fn close(&mut self) {
        self.given_up = true;
        if let Ok(nothing) = File::open("/dev/null") {
            // Where that fails, the reader waits until the process ends.
            let _ = rustix::stdio::dup2_stdout(&nothing);
        }
    }

    /// Work that goes on behind this moment is ended, and so is waiting for whoever reads.
    pub fn deadline(&mut self, deadline: Option<Deadline>) {
        self.deadline = deadline;
        if deadline.is_some() && !unblock() {
            self.write_in_pieces();
        }
    }

    /// Waits until something can be written.
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

/// Opens the pipe that is standard output once more, so that writing never waits here, though it does for others who have it from
/// where we have it. `false` where it is no pipe, or may not be opened.
fn unblock() -> bool {
    let output = rustix::stdio::stdout();
    rustix::fs::fstat(output).is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Fifo)
        && rustix::fs::open("/proc/self/fd/1", OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
            .is_ok_and(|ours| rustix::stdio::dup2_stdout(&ours).is_ok())
}

/// Makes a pipe wide, if it is one that is not. Where that may not be, because many are, it stays as it is.
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
                Err(error) if is_unknown_call(error) => self.copies = true,
                Err(Errno::CONNRESET) => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(error) => return Err(error.into()),
            }
        }
        if at < range.end { copy_range(file, at..range.end, self) } else { Ok(()) }
    }
}

/// Whether sendfile(2) is not to be had here: a sandbox may forbid it, and not every descriptor takes it. What else is wrong, reading and
/// writing tell again.
fn is_unknown_call(error: Errno) -> bool {
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
        // A file is none.
        widen(File::open("/dev/null").unwrap());
    }

    #[test]
    fn errors_of_a_missing_call_are_told_from_those_of_a_stream() {
        for error in [Errno::INVAL, Errno::NOSYS, Errno::PERM, Errno::ACCESS, Errno::OPNOTSUPP] {
            assert!(is_unknown_call(error), "{error}");
        }
        for error in [Errno::IO, Errno::PIPE, Errno::BADF, Errno::NOMEM, Errno::FBIG] {
            assert!(!is_unknown_call(error), "{error}");
        }
    }
}

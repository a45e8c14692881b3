//! Descriptors 0 and 1.
//!
//! In: the descriptors. Out: a reader that gives up on a silent stream and, during a push, looks for SIGTERM; a sink that
//! lets the kernel move the pages of files.

use crate::stream::{Pulse, Sink, copy_range, out_of_time};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Standard input.
pub struct Stdin {
    silence: Option<Duration>,
    stop: Option<Arc<AtomicBool>>,
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
        Stdin { silence, stop }
    }

    /// From now on it is given up after so much silence.
    pub fn give_up_after(&mut self, silence: Duration) {
        self.silence = Some(silence);
    }

    /// Set once SIGTERM came.
    pub fn stop_flag(&self) -> Option<Arc<AtomicBool>> {
        self.stop.clone()
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
    Late(Duration),
}

/// Waits until a descriptor is ready, for `time` at most.
fn ready(descriptor: &PollFd<'_>, time: Option<Duration>) -> io::Result<Ready> {
    let wait = time.map(|time| Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    });
    match (poll(&mut [descriptor.clone()], wait.as_ref()), time) {
        (Ok(0), Some(time)) => Ok(Ready::Late(time)),
        (Ok(_), _) => Ok(Ready::Yes),
        (Err(Errno::INTR), _) => Ok(Ready::Interrupted),
        (Err(error), _) => Err(error.into()),
    }
}

impl Read for Stdin {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let input = rustix::stdio::stdin();
        loop {
            stopped(self.stop.as_ref())?;
            match ready(&PollFd::new(&input, PollFlags::IN), self.silence)? {
                Ready::Yes => {}
                Ready::Interrupted => continue,
                Ready::Late(silence) => {
                    let text = format!("no byte of the request came for {} seconds", silence.as_secs());
                    return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
            }
            match rustix::io::read(input, &mut *into) {
                Err(Errno::INTR) => {}
                // The server closed its end in the middle: as good as an end.
                Err(Errno::CONNRESET) => return Ok(0),
                read => return Ok(read?),
            }
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
    /// It took too long: nothing more is written.
    given_up: bool,
    /// When the whole conversation must be over, and how long that was.
    deadline: Option<(Instant, Duration)>,
}

/// As much is written at once where a reader's silence counts: when a descriptor is ready, so much does not block (pipe(7)).
const PIECE: usize = 4096;

/// From so many bytes of files on, a pipe is widened, and to how many: who writes and who reads then take turns less often. What is
/// in a pipe is mostly pages of files, which cost nothing; but all pipes of one user have a limit together (pipe(7)).
const WIDE: usize = 256 << 10;

impl Stdout {
    /// `stop` ends long work once it is set.
    pub fn new(stop: Option<Arc<AtomicBool>>) -> Self {
        Stdout { stop, copies: false, moved: 0, silence: None, given_up: false, deadline: None }
    }

    /// Gives up on a reader that takes nothing for so long.
    pub fn give_up_after(&mut self, silence: Duration) {
        self.silence = Some(silence);
        self.copies = true;
    }

    /// Whoever reads sees the end of the answer, though this process goes on.
    pub fn close(&mut self) {
        self.given_up = true;
        if let Ok(nothing) = File::open("/dev/null") {
            // Where that fails, the reader waits until the process ends.
            let _ = rustix::stdio::dup2_stdout(&nothing);
        }
    }

    /// From now on, work that lasts longer than `time` is ended.
    pub fn deadline(&mut self, time: Duration) {
        self.deadline = Instant::now().checked_add(time).map(|end| (end, time));
    }
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
        let mut bytes = bytes;
        loop {
            if self.given_up {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            if self.silence.is_some() {
                bytes = &bytes[..bytes.len().min(PIECE)];
                match ready(&PollFd::new(&output, PollFlags::OUT), self.silence)? {
                    Ready::Yes => {}
                    Ready::Interrupted => continue,
                    Ready::Late(silence) => {
                        self.given_up = true;
                        let text = format!("nobody took a byte of the answer for {} seconds", silence.as_secs());
                        return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                    }
                }
            }
            match rustix::io::write(output, bytes) {
                Err(Errno::INTR) => {}
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
        if let Some((end, time)) = self.deadline
            && Instant::now() > end
        {
            return Err(out_of_time(time));
        }
        Ok(())
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
        while at < range.end && !self.copies {
            let size = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(1 << 30);
            match rustix::fs::sendfile(rustix::stdio::stdout(), file, Some(&mut at), size) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::INVAL | Errno::NOSYS) => self.copies = true,
                Err(Errno::CONNRESET) => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(error) => return Err(error.into()),
            }
        }
        if at < range.end { copy_range(file, at..range.end, self) } else { Ok(()) }
    }
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
}

//! Descriptors 0 and 1.
//!
//! In: the descriptors. Out: a reader that gives up on a silent stream and, during a push, looks for SIGTERM; a sink that
//! lets the kernel move the pages of files.

use crate::protocol::Limits;
use crate::stream::{Pulse, Sink, copy_range};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Standard input.
pub struct Stdin {
    silence_s: u64,
    stop: Option<Arc<AtomicBool>>,
}

impl Stdin {
    /// During a push SIGTERM is noted, not obeyed: it is looked at here and between stations.
    pub fn new(limits: &Limits, push: bool) -> Self {
        let stop = push.then(|| {
            let stop = Arc::new(AtomicBool::new(false));
            // Without the handler SIGTERM ends the process at once, which must be survived anyway.
            let _ = signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&stop));
            stop
        });
        Stdin { silence_s: limits.silence_s, stop }
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

impl Read for Stdin {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let input = rustix::stdio::stdin();
        loop {
            stopped(self.stop.as_ref())?;
            let wait = Timespec { tv_sec: i64::try_from(self.silence_s).unwrap_or(i64::MAX), tv_nsec: 0 };
            match poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&wait)) {
                Ok(0) => {
                    let text = format!("no byte of the request came for {} seconds", self.silence_s);
                    return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
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
}

impl Stdout {
    /// `stop` ends long work once it is set.
    pub fn new(stop: Option<Arc<AtomicBool>>) -> Self {
        Stdout { stop, copies: false }
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(rustix::stdio::stdout(), bytes) {
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
        stopped(self.stop.as_ref())
    }
}

impl Sink for Stdout {
    fn send_file(&mut self, file: &File, range: Range<u64>) -> io::Result<()> {
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
        copy_range(file, at..range.end, self)
    }
}

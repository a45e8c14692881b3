//! The three ends a request is connected to: the body it reads, the sink it answers into, the pulse of long work.
//!
//! In: nothing. Out: the traits, and what all ends share: [`Deadline`], [`out_of_time`], [`copy_range`], [`Silent`].
//! Nothing here knows HTTP or pkt-lines.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Where the bytes of a request come from.
pub trait Input: Read {
    /// Reads like [`Read::read`], but returns `None` if nothing has come by `until`. This default is for inputs that
    /// never wait.
    ///
    /// # Errors
    /// As [`Read::read`].
    fn read_until(&mut self, into: &mut [u8], until: Instant) -> io::Result<Option<usize>> {
        let _ = until;
        self.read(into).map(Some)
    }
}

impl Input for &[u8] {}

/// The bytes a request brings.
pub trait Body: Read {
    /// Reads and discards the rest, because a web server whose program leaves a body unread may damage the answer;
    /// after that, the answer may be sent.
    ///
    /// Returns the number of bytes that were left. Over pipes it returns 0 at once and reads nothing. Calling it twice
    /// is harmless.
    ///
    /// # Errors
    /// When the body ended before its announced length, or cannot be read.
    fn finish(&mut self) -> io::Result<u64>;
}

/// Signs of life from long work: every long loop calls it. The thread that continues may be another than the one that
/// began.
pub trait Pulse: Send {
    /// Begins a stage of work; `total` is its number of steps, where known.
    ///
    /// # Errors
    /// When the client has gone.
    fn begin(&mut self, title: &'static str, total: Option<u64>) -> io::Result<()> {
        let _ = (title, total);
        Ok(())
    }

    /// Reports that `done` steps of the stage are done. Cheap enough to call for each object.
    ///
    /// # Errors
    /// When the client has gone, or the time for the request is over.
    fn tick(&mut self, done: u64) -> io::Result<()>;

    /// Ends the stage.
    ///
    /// # Errors
    /// When the client has gone.
    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where an answer goes.
pub trait Sink: Write + Pulse {
    /// Sends a message to the user where the protocol has no band for it. An edge whose user sees our standard error
    /// writes it there; other edges drop it.
    ///
    /// # Errors
    /// None on the client's account: losing the message does no harm.
    fn aside(&mut self, text: &[u8]) -> io::Result<()> {
        let _ = text;
        Ok(())
    }

    /// Sends a part of a file. Edges with a descriptor let the kernel move the pages; this default copies.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file is shorter than the range; else what reading and writing report.
    fn send_file(&mut self, file: &File, range: Range<u64>) -> io::Result<()> {
        copy_range(file, range, self)
    }
}

/// Writes a part of a file through a buffer.
///
/// # Errors
/// `UnexpectedEof` when the file is shorter than the range; else what reading and writing report.
pub fn copy_range(file: &File, range: Range<u64>, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let mut buffer = [0; 16 << 10];
    let mut at = range.start;
    while at < range.end {
        let size = usize::try_from(range.end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = file.read_at(&mut buffer[..size], at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        out.write_all(&buffer[..read])?;
        at += read as u64;
    }
    Ok(())
}

/// The error of a request that has taken too long; its text is for the client.
pub fn out_of_time(time: Duration) -> io::Error {
    let text = format!("the request took longer than {} seconds (ARTIFACTS_TIMEOUT)", time.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

/// When a request must be over (`ARTIFACTS_TIMEOUT`).
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    end: Instant,
    time: Duration,
}

impl Deadline {
    /// The deadline `time` from now; `None` if that is beyond what the clock can represent.
    pub fn after(time: Duration) -> Option<Self> {
        Instant::now().checked_add(time).map(|end| Deadline { end, time })
    }

    /// The moment of the deadline.
    pub fn end(&self) -> Instant {
        self.end
    }

    /// Whether the deadline has passed.
    pub fn is_past(&self) -> bool {
        Instant::now() >= self.end
    }

    /// The error for work that has missed the deadline: [`out_of_time`].
    pub fn error(&self) -> io::Error {
        out_of_time(self.time)
    }

    /// Stops work that has missed the deadline.
    ///
    /// # Errors
    /// [`Deadline::error`] once the deadline has passed.
    pub fn check(&self) -> io::Result<()> {
        if self.is_past() { Err(self.error()) } else { Ok(()) }
    }
}

/// A pulse that reports nothing.
pub struct Silent;

impl Pulse for Silent {
    fn tick(&mut self, _done: u64) -> io::Result<()> {
        Ok(())
    }
}

/// Collects an answer in memory: for tests and for small sections.
impl Pulse for Vec<u8> {
    fn tick(&mut self, _done: u64) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Vec<u8> {}

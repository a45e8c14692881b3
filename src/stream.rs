//! The three ends a request is connected to: the body it brings, the sink it answers into, the pulse of long work.
//!
//! In: nothing. Out: the traits, and what all ends share: [`Deadline`], [`out_of_time`], [`copy_range`], [`Silent`]. Neither HTTP nor
//! pkt-lines are known here.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Where the bytes of a request come from.
pub trait Input: Read {
    /// Reads as [`Read::read`] does, but waits no longer than `until`: then there is `None`. What never waits has no need to know the time.
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
    /// Takes what is left, so that the web server does not lose the answer (facts of web servers: an unread body
    /// damages the response), and from then on lets the reply speak.
    ///
    /// Returns how many bytes came behind what was read. Over pipes it returns 0 at once and reads nothing.
    /// Calling it twice is harmless.
    ///
    /// # Errors
    /// When the body ended before its announced length, or cannot be read.
    fn finish(&mut self) -> io::Result<u64>;
}

/// A sign of life from long work: every long loop calls it. Another thread than the one that began may go on with it.
pub trait Pulse: Send {
    /// A stage of work begins; `total` is how many steps it has, where that is known.
    ///
    /// # Errors
    /// When the client has gone.
    fn begin(&mut self, title: &'static str, total: Option<u64>) -> io::Result<()> {
        let _ = (title, total);
        Ok(())
    }

    /// `done` steps of the stage are done. Cheap enough to be called for each object.
    ///
    /// # Errors
    /// When the client has gone, or the time for the request is over.
    fn tick(&mut self, done: u64) -> io::Result<()>;

    /// The stage is complete.
    ///
    /// # Errors
    /// When the client has gone.
    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where an answer goes.
pub trait Sink: Write + Pulse {
    /// A message for the user where the protocol has no band for one. An edge whose user sees our standard error writes it
    /// there; others lose it.
    ///
    /// # Errors
    /// None that would be the client's: a message that is lost harms nobody.
    fn aside(&mut self, text: &[u8]) -> io::Result<()> {
        let _ = text;
        Ok(())
    }

    /// Sends a part of a file. Edges with a descriptor let the kernel move the pages; this one copies.
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

/// The error of work that has lasted too long, which tells the client.
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
    /// So long from now; `None` where no clock will ever show it.
    pub fn after(time: Duration) -> Option<Self> {
        Instant::now().checked_add(time).map(|end| Deadline { end, time })
    }

    /// The moment itself.
    pub fn end(&self) -> Instant {
        self.end
    }

    /// Whether it is past.
    pub fn is_past(&self) -> bool {
        Instant::now() >= self.end
    }

    /// [`out_of_time`]
    pub fn error(&self) -> io::Error {
        out_of_time(self.time)
    }

    /// Ends work that goes on behind it.
    ///
    /// # Errors
    /// [`Deadline::error`] once it is past.
    pub fn check(&self) -> io::Result<()> {
        if self.is_past() { Err(self.error()) } else { Ok(()) }
    }
}

/// A pulse nobody feels.
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

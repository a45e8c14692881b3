//! The other end of a push: what it hears while its push is worked on.
//!
//! In: messages, what hooks say, signs of life, the report. Out: bands 2 and 1. A client that leaves stops the work until
//! the objects are migrated; from then on the work goes on without it (HO-14).

use crate::pack::incoming::RESOLVING;
use crate::protocol::report::ReportStatus;
use crate::service::ServeError;
use crate::service::progress::Heartbeat;
use crate::stream::{Pulse, Sink};
use std::io::{self, Write};

/// The pushing client.
pub(super) struct Client<'a> {
    heartbeat: Heartbeat<'a>,
    enduring: bool,
    gone: bool,
    faults: Vec<String>,
}

/// More faults of one push are not kept for the operator.
const FAULTS_MAX: usize = 5;

impl<'a> Client<'a> {
    pub(super) fn new(heartbeat: Heartbeat<'a>) -> Self {
        Client { heartbeat, enduring: false, gone: false, faults: Vec::new() }
    }

    /// From now on nothing fails because the client has gone or its time is over.
    pub(super) fn endure(&mut self) {
        self.enduring = true;
    }

    /// Whether signs of life are sent: not before the body is at its end.
    pub(super) fn set_awake(&mut self, awake: bool) {
        self.heartbeat.set_awake(awake);
    }

    /// A message of ours on band 2, a line or some; nothing in it can steer the user's terminal.
    pub(super) fn message(&mut self, text: &str) -> io::Result<()> {
        let mut line: String = text
            .chars()
            .flat_map(|char| match char {
                '\n' | '\t' => vec![char],
                char if char.is_control() => char.escape_default().collect(),
                char => vec![char],
            })
            .collect();
        line.push('\n');
        self.say(|heartbeat| heartbeat.message(line.as_bytes()))
    }

    /// A message about what went wrong here, which the operator should know as well.
    pub(super) fn fault(&mut self, text: &str) -> io::Result<()> {
        self.keep_fault(text.to_owned());
        self.message(&format!("error: {text}"))
    }

    /// The same where the client hears of it otherwise.
    pub(super) fn keep_fault(&mut self, text: String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(text);
        }
    }

    /// What went wrong here and not there.
    pub(super) fn take_faults(&mut self) -> Vec<String> {
        std::mem::take(&mut self.faults)
    }

    /// The report, at once.
    pub(super) fn report(&mut self, report: ReportStatus) -> io::Result<()> {
        let bytes = report.into_bytes();
        self.say(|heartbeat| {
            heartbeat.write_all(&bytes)?;
            heartbeat.flush()
        })
    }

    /// The flush that ends side bands.
    ///
    /// # Errors
    /// When the client has gone, now or before.
    pub(super) fn finish(mut self) -> Result<(), ServeError> {
        if self.gone {
            return Err(ServeError::ClientGone);
        }
        self.heartbeat.end()?;
        self.heartbeat.finish()?;
        Ok(())
    }

    fn say(&mut self, what: impl FnOnce(&mut Heartbeat<'a>) -> io::Result<()>) -> io::Result<()> {
        if self.gone {
            return Ok(());
        }
        match what(&mut self.heartbeat) {
            Err(error) if self.enduring => {
                // A time limit that is over is no reason to be silent about what has been done.
                self.gone = error.kind() != io::ErrorKind::TimedOut;
                Ok(())
            }
            said => said,
        }
    }
}

/// Long work of ours.
impl Pulse for Client<'_> {
    fn begin(&mut self, title: &'static str, total: Option<u64>) -> io::Result<()> {
        self.say(|heartbeat| heartbeat.begin(title, total))
    }

    fn tick(&mut self, done: u64) -> io::Result<()> {
        self.say(|heartbeat| heartbeat.tick(done))
    }

    fn end(&mut self) -> io::Result<()> {
        self.say(Heartbeat::end)
    }
}

/// A pack that is arriving: nothing is said until it is complete; then its deltas are counted aloud (UN-15, UN-16).
pub(super) struct Arrival<'c, 'a>(pub(super) &'c mut Client<'a>);

impl Pulse for Arrival<'_, '_> {
    fn begin(&mut self, title: &'static str, total: Option<u64>) -> io::Result<()> {
        if title == RESOLVING {
            self.0.set_awake(true);
        }
        self.0.begin(title, total)
    }

    fn tick(&mut self, done: u64) -> io::Result<()> {
        self.0.tick(done)
    }

    fn end(&mut self) -> io::Result<()> {
        self.0.end()
    }
}

/// Work whose steps nobody counts: it keeps the client waiting in silence, with signs of life.
pub(super) struct Unspoken<'c, 'a>(pub(super) &'c mut Client<'a>);

impl Pulse for Unspoken<'_, '_> {
    fn tick(&mut self, done: u64) -> io::Result<()> {
        self.0.tick(done)
    }
}

/// A hook, heard on band 2 as it speaks.
pub(super) struct Hooked<'c, 'a>(pub(super) &'c mut Client<'a>);

impl Write for Hooked<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.say(|heartbeat| heartbeat.message(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pulse for Hooked<'_, '_> {
    fn tick(&mut self, done: u64) -> io::Result<()> {
        self.0.say(|heartbeat| {
            // These ticks are a second apart: each must look at the clock.
            heartbeat.look_again();
            heartbeat.tick(done)
        })
    }
}

impl Sink for Hooked<'_, '_> {}

//! The pushing client, as it is kept informed while its push is processed.
//!
//! In: messages, hook output, ticks, the report. Out: bands 2 and 1. If the client goes away, the work stops, but never
//! once the objects are migrated; from then on it goes on without the client (HO-14).

use crate::pack::incoming::RESOLVING;
use crate::protocol::report::ReportStatus;
use crate::service::ServeError;
use crate::service::policy::Remarks;
use crate::service::progress::Heartbeat;
use crate::stream::{Pulse, Sink};
use std::io::{self, Write};

/// The pushing client.
pub(super) struct Client<'a> {
    heartbeat: Heartbeat<'a>,
    ignores_disconnect: bool,
    gone: bool,
    faults: Vec<String>,
}

/// The most faults of one push that are kept for the operator.
const FAULTS_MAX: usize = 5;

impl<'a> Client<'a> {
    pub(super) fn new(heartbeat: Heartbeat<'a>) -> Self {
        Client { heartbeat, ignores_disconnect: false, gone: false, faults: Vec::new() }
    }

    /// From this call on, nothing fails because the client has gone or its time is up.
    pub(super) fn ignore_disconnect(&mut self) {
        self.ignores_disconnect = true;
    }

    /// Sets whether keep-alives and progress are sent: not before the body is read to its end.
    pub(super) fn set_awake(&mut self, awake: bool) {
        self.heartbeat.set_awake(awake);
    }

    /// Sends a message of one or more lines on band 2, with control characters escaped so that they cannot reach the
    /// user's terminal.
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

    /// Sends a message about a failure on the server's side, and keeps it for the operator as well.
    pub(super) fn fault(&mut self, text: &str) -> io::Result<()> {
        self.keep_fault(text.to_owned());
        self.message(&format!("error: {text}"))
    }

    /// Keeps a failure for the operator only; the client hears of it in another way.
    pub(super) fn keep_fault(&mut self, text: String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(text);
        }
    }

    /// Passes on what the rules remark: messages to the client, faults to the operator.
    pub(super) fn pass_on(&mut self, remarks: Remarks) -> io::Result<()> {
        remarks.faults.into_iter().for_each(|fault| self.keep_fault(fault));
        remarks.messages.iter().try_for_each(|message| self.message(message))
    }

    /// Takes the failures on the server's side, as opposed to the client's.
    pub(super) fn take_faults(&mut self) -> Vec<String> {
        std::mem::take(&mut self.faults)
    }

    /// Sends the report and flushes it.
    pub(super) fn report(&mut self, report: ReportStatus) -> io::Result<()> {
        let bytes = report.into_bytes();
        self.say(|heartbeat| {
            heartbeat.write_all(&bytes)?;
            heartbeat.flush()
        })
    }

    /// Sends the flush packet that ends side bands.
    ///
    /// # Errors
    /// When the client has gone, at this point or before.
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
            Err(error) if self.ignores_disconnect => {
                // An expired time limit is not a reason to stop telling the client what has been done.
                self.gone = error.kind() != io::ErrorKind::TimedOut;
                Ok(())
            }
            said => said,
        }
    }
}

/// Long work of our own.
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

/// A pack as it arrives: nothing is sent until it is complete, then the progress of resolving deltas is (UN-15, UN-16).
pub(super) struct PackProgress<'c, 'a>(pub(super) &'c mut Client<'a>);

impl Pulse for PackProgress<'_, '_> {
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

/// Work without progress of its own: the client gets keep-alives, but no stages.
pub(super) struct KeepAlives<'c, 'a>(pub(super) &'c mut Client<'a>);

impl Pulse for KeepAlives<'_, '_> {
    fn tick(&mut self, done: u64) -> io::Result<()> {
        self.0.tick(done)
    }
}

/// The output of a hook, or of another program that is run for the push, passed on to band 2 as it comes.
pub(super) struct ChildOutput<'c, 'a>(pub(super) &'c mut Client<'a>);

impl Write for ChildOutput<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.say(|heartbeat| heartbeat.message(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pulse for ChildOutput<'_, '_> {
    fn tick(&mut self, done: u64) -> io::Result<()> {
        self.0.say(|heartbeat| {
            // These ticks are a second apart, so each must look at the clock.
            heartbeat.look_again();
            heartbeat.tick(done)
        })
    }
}

impl Sink for ChildOutput<'_, '_> {}

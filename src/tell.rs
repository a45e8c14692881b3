//! The one mouth for errors: four audiences, one writer (DESIGN C5).
//!
//! In: a failure and the form in which the client can hear it now. Out: bytes for the client, one line for the operator.

use crate::audit::Summary;
use crate::http::body::{BodyError, HttpBody};
use crate::http::{Reject, Response};
use crate::pktline::{self, Band, BandSize, SideBand};
use crate::protocol::ProtocolError;
use crate::protocol::report::{Refusal, ReportStatus};
use crate::service::{ErrorChannel, ServeError};
use crate::stream::{Body, Sink};
use bstr::ByteSlice;
use std::any::Any;
use std::io;

/// More warnings than these stand in the audit line alone.
const WARNINGS_MAX: usize = 5;

/// Why a request was not served.
#[derive(Debug)]
pub enum Failure {
    /// With an HTTP status.
    Rejected(Reject),
    /// By a service.
    Serve(ServeError),
}

impl From<Reject> for Failure {
    fn from(reject: Reject) -> Self {
        Failure::Rejected(reject)
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        Failure::Serve(error)
    }
}

/// A panic, caught: our fault, told as any other internal error.
pub fn panicked(panic: &(dyn Any + Send)) -> ServeError {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown".to_owned());
    ServeError::Internal(anyhow::anyhow!("panic: {text}"))
}

/// Tells the operator, in a line without a newline, and then the client; nobody where nobody is left to be told.
///
/// The rest of the body is read first: a web server that is still writing would lose the answer.
pub fn tell(
    failure: Failure,
    body: &mut HttpBody<'_>,
    response: &mut Response<'_>,
    channel: &ErrorChannel,
    summary: &mut Summary,
    operator: &mut dyn FnMut(&str),
) {
    let drained = body.finish();
    let id = summary.id.clone();
    let (said, reason) = match failure {
        Failure::Rejected(reject) => {
            summary.outcome = if reject.status < 500 { "refused" } else { "error" };
            let reason = reject.detail.clone().unwrap_or_else(|| reject.text.clone());
            operator(&line("fatal", &reason, summary));
            let reject = Reject { text: format!("{} (request {id})", reject.text), ..reject };
            if response.reject(&reject).is_err() {
                summary.outcome = "aborted";
            }
            summary.error = Some(reason);
            return;
        }
        Failure::Serve(error) => match audiences(error, summary) {
            Some(heard) => heard,
            None => return,
        },
    };
    operator(&line("fatal", &reason, summary));
    let status = if summary.outcome == "error" { 500 } else { 400 };
    if drained.is_err() && matches!(channel, ErrorChannel::Status) {
        summary.outcome = "aborted";
    }
    summary.error = Some(reason);
    let told = match channel {
        ErrorChannel::Status => response.reject(&Reject::new(status, said)),
        ErrorChannel::ErrLine | ErrorChannel::Silence | ErrorChannel::Band3 | ErrorChannel::Push { .. } => {
            say(&said, response, channel)
        }
    };
    if told.is_err() {
        summary.outcome = "aborted";
    }
}

/// What went wrong here while a client had a complete answer: a push that the disk had no room for.
pub fn of_faults(summary: &Summary, operator: &mut dyn FnMut(&str)) {
    if let ("error", Some(error)) = (summary.outcome, &summary.error) {
        operator(&line("error", error, summary));
    }
}

/// The same over pipes: the client hears what the protocol can carry now, and nothing where nothing has been said. Returns
/// what goes to standard error, which is the user's own there, or the operator's behind a daemon.
pub fn tell_over_pipes(
    error: ServeError,
    sink: &mut dyn Sink,
    channel: &ErrorChannel,
    summary: &mut Summary,
) -> Option<String> {
    let (said, operator) = audiences(error, summary)?;
    summary.error = Some(operator.clone());
    if say(&said, sink, channel).and_then(|()| sink.flush()).is_err() {
        summary.outcome = "aborted";
    }
    Some(fatal(&operator))
}

/// A line for each thing that was found damaged and done without, as far as a glance reaches.
pub fn warn(summary: &Summary, operator: &mut dyn FnMut(&str)) {
    summary.warnings.iter().take(WARNINGS_MAX).for_each(|text| operator(&warning(text, summary)));
}

/// One such line.
pub fn warning(text: &str, summary: &Summary) -> String {
    line("warning", text, summary)
}

/// The same over pipes, where a line stands for itself; nothing where there is nothing to say.
pub fn warn_over_pipes(summary: &Summary) -> String {
    summary.warnings.iter().take(WARNINGS_MAX).map(|warning| one_line("warning", warning) + "\n").collect()
}

/// What the client hears and what the operator does; nothing where nobody listens.
fn audiences(error: ServeError, summary: &mut Summary) -> Option<(String, String)> {
    let body = arrived_badly(&error);
    let broke_off = matches!(body, Some(BodyError::Short(_) | BodyError::GzipTruncated));
    let Some(said) = body.map(ToString::to_string).or_else(|| error.told(&summary.id)) else {
        summary.outcome = "aborted";
        return None;
    };
    let (outcome, operator) = match error {
        _ if broke_off => ("aborted", said.clone()),
        ServeError::Internal(error) if arrived_badly_in(&error).is_none() => ("error", format!("{error:#}")),
        _ => ("refused", said.clone()),
    };
    if summary.outcome.is_empty() || outcome == "error" {
        summary.outcome = outcome;
    }
    Some((said, operator))
}

/// What the client hears, in the form it can hear now; nothing in the form of a status.
fn say(text: &str, sink: &mut dyn Sink, channel: &ErrorChannel) -> io::Result<()> {
    match channel {
        ErrorChannel::Status | ErrorChannel::Silence => Ok(()),
        ErrorChannel::ErrLine => pktline::err(sink, text),
        ErrorChannel::Band3 => {
            let mut bands = SideBand::new(sink, BandSize::Large);
            bands.send(Band::Error, format!("{text}\n").as_bytes())
        }
        ErrorChannel::Push { sideband, report, refs } => {
            let mut status = ReportStatus::new(Err(text));
            for name in refs.split_inclusive(|&byte| byte == 0) {
                status.add(name[..name.len() - 1].as_bstr(), Err(&Refusal::Unpacker));
            }
            let status = status.into_bytes();
            match (report, sideband) {
                (true, true) => {
                    let mut bands = SideBand::new(sink, BandSize::Large);
                    bands.send(Band::Data, &status)?;
                    pktline::flush(sink)
                }
                (true, false) => sink.write_all(&status),
                (false, true) => {
                    let mut bands = SideBand::new(sink, BandSize::Large);
                    bands.send(Band::Error, format!("{text}\n").as_bytes())
                }
                (false, false) => Ok(()),
            }
        }
    }
}

/// What the body itself says is wrong with what arrived.
fn arrived_badly(error: &ServeError) -> Option<&BodyError> {
    match error {
        ServeError::Protocol(ProtocolError::Frame(pktline::FrameError::Io(error))) => from_body(error),
        ServeError::Internal(error) => arrived_badly_in(error),
        ServeError::Protocol(_) | ServeError::Refused(_) | ServeError::ClientGone => None,
    }
}

fn arrived_badly_in(error: &anyhow::Error) -> Option<&BodyError> {
    error.chain().find_map(from_body)
}

fn from_body<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e BodyError> {
    let error = error.downcast_ref::<io::Error>()?;
    error.get_ref()?.downcast_ref::<BodyError>()
}

/// One short line for the operator, control bytes escaped (facts of web servers, R15).
fn line(kind: &str, text: &str, summary: &Summary) -> String {
    const NAME_CHARS_MAX: usize = 200;
    let repository = summary.repository.as_deref().map(|name| format!(", {}", escaped(name, NAME_CHARS_MAX)));
    format!("{} (request {}{})", one_line(kind, text), summary.id, repository.unwrap_or_default())
}

/// As git's programs say that they end, in one line.
pub fn fatal(text: &str) -> String {
    one_line("fatal", text)
}

fn one_line(kind: &str, text: &str) -> String {
    const CHARS_MAX: usize = 1500;
    format!("{kind}: {}", escaped(text, CHARS_MAX))
}

fn escaped(text: &str, chars_max: usize) -> String {
    text.chars()
        .flat_map(|char| if char.is_control() { char.escape_default().collect::<Vec<_>>() } else { vec![char] })
        .take(chars_max)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::body::{DrainBudget, Extent};
    use crate::protocol::Limits;
    use crate::stream::Input;
    use std::io::Read;
    use std::sync::Arc;

    /// A client that has gone.
    struct Gone;

    impl Read for Gone {
        fn read(&mut self, _into: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    impl Input for Gone {}

    #[test]
    fn what_went_wrong_here_is_a_500_whoever_is_left_to_hear_it() {
        let (mut input, mut sent) = (Gone, Vec::new());
        let finished = Arc::default();
        let budget = DrainBudget::granted(&Limits::default());
        let mut body = HttpBody::new(&mut input, Extent::Exact(4), false, budget, Arc::clone(&finished));
        let mut response = Response::new(&mut sent, finished);
        let mut summary = Summary::default();
        let failure = Failure::Serve(ServeError::Internal(anyhow::anyhow!("the disk is gone")));
        tell(failure, &mut body, &mut response, &ErrorChannel::Status, &mut summary, &mut |_| {});
        assert_eq!((response.status_sent(), summary.outcome), (500, "aborted"));
    }
}

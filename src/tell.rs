//! The only place that reports errors: to the client, the operator, the audit line and the trace.
//!
//! In: a failure and the form in which the client can receive it at this point. Out: bytes for the client, one line for
//! the operator. Nothing here decides whether a request fails.

use crate::audit::Summary;
use crate::http::body::BodyError;
use crate::http::{Exchange, Reject};
use crate::pktline::{self, Band, BandSize, SideBand};
use crate::protocol::ProtocolError;
use crate::protocol::report::{Refusal, ReportStatus};
use crate::service::{ErrorChannel, ServeError};
use crate::stream::{Body, Sink};
use bstr::ByteSlice;
use std::any::Any;
use std::io;

/// At most this many warnings are reported as lines; the audit line has all of them.
const WARNINGS_MAX: usize = 5;

/// Why a request was not served.
#[derive(Debug)]
pub enum Failure {
    /// Refused with an HTTP status.
    Rejected(Reject),
    /// Failed in a service.
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

/// Turns a caught panic into an internal error, which is reported like any other.
pub fn panicked(panic: &(dyn Any + Send)) -> ServeError {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown".to_owned());
    ServeError::Internal(anyhow::anyhow!("panic: {text}"))
}

/// Reports a failure to the operator, in a line without a newline, and then to the client; to neither when the client
/// has gone.
///
/// The rest of the body is read first: a web server that is still writing the body would lose the answer.
pub fn tell(failure: Failure, exchange: &mut Exchange<'_>, operator: &mut dyn FnMut(&str)) {
    let Exchange { body, response, channel, summary } = exchange;
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

/// Reports to the operator a fault of the server in a request whose client got a complete answer: a push for which the
/// disk had no room, say.
pub fn of_faults(summary: &Summary, operator: &mut dyn FnMut(&str)) {
    if let ("error", Some(error)) = (summary.outcome, &summary.error) {
        operator(&line("error", error, summary));
    }
}

/// Reports a failure over pipes, in the form the protocol has at this point; to the client nothing if it has not
/// received anything yet. Returns the line for standard error, which the user sees, or the operator where a daemon
/// started the process.
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

/// Writes a line for each of the first `WARNINGS_MAX` warnings: damage that was found and worked around.
pub fn warn(summary: &Summary, operator: &mut dyn FnMut(&str)) {
    summary.warnings.iter().take(WARNINGS_MAX).for_each(|text| operator(&warning(text, summary)));
}

/// Formats one such line.
pub fn warning(text: &str, summary: &Summary) -> String {
    line("warning", text, summary)
}

/// Formats the warnings for standard error over pipes, without the request's id; empty where there are none.
pub fn warn_over_pipes(summary: &Summary) -> String {
    summary.warnings.iter().take(WARNINGS_MAX).map(|warning| one_line("warning", warning) + "\n").collect()
}

/// Returns the texts for the client and for the operator; `None` where the client has gone.
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

/// Sends a text to the client in the form it can receive at this point; nothing where that would be an HTTP status.
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

/// The error of the body itself, if that is what went wrong.
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

/// Formats one line for the operator. It is short and its control bytes are escaped, because web servers split or cut
/// other lines in their logs.
fn line(kind: &str, text: &str, summary: &Summary) -> String {
    const NAME_CHARS_MAX: usize = 200;
    let repository = summary.repository.as_deref().map(|name| format!(", {}", escaped(name, NAME_CHARS_MAX)));
    format!("{} (request {}{})", one_line(kind, text), summary.id, repository.unwrap_or_default())
}

/// Formats a line as git's programs write it when they die.
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
    use crate::http::Response;
    use crate::http::body::{DrainBudget, Extent, HttpBody};
    use crate::protocol::Limits;
    use crate::stream::Input;
    use std::io::Read;
    use std::sync::Arc;

    /// The input of a client that has gone.
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
        let body = HttpBody::new(&mut input, Extent::Exact(4), false, budget, Arc::clone(&finished));
        let mut exchange = Exchange::new(body, Response::new(&mut sent, finished), Summary::default());
        let failure = Failure::Serve(ServeError::Internal(anyhow::anyhow!("the disk is gone")));
        tell(failure, &mut exchange, &mut |_| {});
        assert_eq!((exchange.response.status_sent(), exchange.summary.outcome), (500, "aborted"));
    }
}

//! Why a service fails, sorted by who is told: the client in the protocol's words or in ours, the operator, or nobody.
//!
//! In: errors of parsing, of reading and of writing. Out: a [`ServeError`]. Nothing is sent or logged here.

use crate::pktline::FrameError;
use crate::protocol::ProtocolError;

/// Why a service stopped.
#[derive(Debug)]
pub enum ServeError {
    /// The client said something that cannot be served; it gets the text.
    Protocol(ProtocolError),
    /// The request is refused; the client gets this sentence.
    Refused(String),
    /// The operator must look; the client gets only the request's id.
    Internal(anyhow::Error),
    /// The client has gone; nobody is told.
    ClientGone,
}

impl From<ProtocolError> for ServeError {
    fn from(error: ProtocolError) -> Self {
        match error {
            ProtocolError::Frame(error) => error.into(),
            ProtocolError::Said(_) | ProtocolError::Limit { .. } => ServeError::Protocol(error),
        }
    }
}

impl ServeError {
    /// The text for the client, or `None` if it has gone. `request` is the request's id, by which the operator finds
    /// the details.
    pub fn told(&self, request: &str) -> Option<String> {
        match self {
            ServeError::Protocol(error) => Some(error.to_string()),
            ServeError::Refused(text) => Some(text.clone()),
            ServeError::Internal(error) if error.is::<Aborted>() => Some(Aborted.to_string()),
            ServeError::Internal(_) => Some(format!("internal server error (request {request})")),
            ServeError::ClientGone => None,
        }
    }

    /// A pack that cannot be completed: the operator gets the reason, the client gets [`Aborted`].
    pub fn aborted(error: anyhow::Error) -> Self {
        match ServeError::from(error) {
            ServeError::Internal(error) => ServeError::Internal(error.context(Aborted)),
            other => other,
        }
    }

    /// A body that could not be read to its end.
    pub fn unread(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::UnexpectedEof && error.get_ref().is_none() {
            FrameError::Truncated.into()
        } else {
            FrameError::Io(error).into()
        }
    }
}

/// Why a pack breaks off, in git's words (PO-15).
#[derive(Debug, Clone, Copy)]
pub struct Aborted;

impl std::fmt::Display for Aborted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("aborting due to possible repository corruption on the remote side.")
    }
}

impl From<FrameError> for ServeError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(error) if is_limit(&error) => ServeError::Refused(error.to_string()),
            FrameError::Io(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ServeError::ClientGone,
            error => ServeError::Protocol(ProtocolError::Frame(error)),
        }
    }
}

/// Whether the error is a time limit that names itself, and so may be shown to the client.
fn is_limit(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::TimedOut && error.get_ref().is_some()
}

/// A failed write means that the client has gone.
impl From<std::io::Error> for ServeError {
    fn from(error: std::io::Error) -> Self {
        ServeError::from(anyhow::Error::from(error))
    }
}

/// A broken pipe anywhere in the chain means that the client has gone. A time limit that names itself is shown to the
/// client.
impl From<anyhow::Error> for ServeError {
    fn from(error: anyhow::Error) -> Self {
        use std::io::ErrorKind::BrokenPipe;
        let causes = || error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
        if causes().any(|cause| cause.kind() == BrokenPipe) {
            return ServeError::ClientGone;
        }
        match causes().find(|cause| is_limit(cause)) {
            Some(limit) => ServeError::Refused(limit.to_string()),
            None => ServeError::Internal(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Error, ErrorKind};

    #[test]
    fn each_audience_hears_its_own() {
        let check = |error: ServeError, expected| assert_eq!(error.told("7f3a").as_deref(), expected);
        check(ServeError::Refused("upload-pack: not our ref 0".into()), Some("upload-pack: not our ref 0"));
        check(FrameError::Truncated.into(), Some("the remote end hung up unexpectedly"));
        check(anyhow::anyhow!("/secret/path is gone").into(), Some("internal server error (request 7f3a)"));
        check(Error::from(ErrorKind::BrokenPipe).into(), None);
        check(anyhow::Error::from(Error::from(ErrorKind::BrokenPipe)).context("writing a pack").into(), None);
        check(Error::from(ErrorKind::TimedOut).into(), Some("internal server error (request 7f3a)"));
        check(Error::new(ErrorKind::TimedOut, "it took too long").into(), Some("it took too long"));
        let read = FrameError::Io(Error::new(ErrorKind::TimedOut, "it took too long"));
        check(ProtocolError::from(read).into(), Some("it took too long"));
        let ended = FrameError::Io(Error::new(ErrorKind::BrokenPipe, "ended by SIGTERM"));
        check(ProtocolError::from(ended).into(), None);
    }

    #[test]
    fn a_pack_breaks_off_in_gits_words_and_the_operator_hears_why() {
        let error = ServeError::aborted(anyhow::anyhow!("entry 5 is corrupt"));
        assert_eq!(
            error.told("7f3a").as_deref(),
            Some("aborting due to possible repository corruption on the remote side.")
        );
        assert!(matches!(error, ServeError::Internal(error) if format!("{error:#}").ends_with("entry 5 is corrupt")));
        let gone = anyhow::Error::from(Error::from(ErrorKind::BrokenPipe));
        assert!(matches!(ServeError::aborted(gone), ServeError::ClientGone));
    }
}

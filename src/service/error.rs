//! What a service can fail with: four audiences (DESIGN C5).

use crate::protocol::ProtocolError;

/// Why a service stopped.
#[derive(Debug)]
pub enum ServeError {
    /// The client said something that cannot be served; it is told the text.
    Protocol(ProtocolError),
    /// The client is refused: a sentence for it.
    Refused(String),
    /// The operator must look: the client is told only the request's id.
    Internal(anyhow::Error),
    /// The client has gone: nobody is told.
    ClientGone,
}

impl From<ProtocolError> for ServeError {
    fn from(error: ProtocolError) -> Self {
        ServeError::Protocol(error)
    }
}

impl From<crate::pktline::FrameError> for ServeError {
    fn from(error: crate::pktline::FrameError) -> Self {
        ServeError::Protocol(ProtocolError::Frame(error))
    }
}

/// A failed write means that the client has gone.
impl From<std::io::Error> for ServeError {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            ServeError::ClientGone
        } else {
            ServeError::Internal(error.into())
        }
    }
}

/// A broken pipe anywhere in the chain means that the client has gone.
impl From<anyhow::Error> for ServeError {
    fn from(error: anyhow::Error) -> Self {
        let gone = error
            .chain()
            .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
            .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe);
        if gone { ServeError::ClientGone } else { ServeError::Internal(error) }
    }
}

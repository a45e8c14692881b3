//! The services of git, one file per thing a client can ask for.
//!
//! In: an operation, an open repository and the request's body. Out: the answer, written to an [`Out`]. Nothing here
//! knows of HTTP.

pub mod advertise;
pub mod bundle_uri;
pub mod command;
pub mod error;
pub mod fetch;
pub mod filter;
pub mod history;
pub mod list;
pub mod ls_refs;
pub mod negotiation;
pub mod nonce;
pub mod object_info;
pub mod offer;
pub mod pack_cache;
pub mod pack_hook;
pub mod plan;
pub mod policy;
pub mod progress;
pub mod promisor;
pub mod receive;
pub mod section;
pub mod shallow;
pub mod want_refs;
pub mod wants;

use crate::audit::Summary;
use crate::protocol::Version;
use crate::repo::Repository;
use crate::stream::{Body, Sink};
use bstr::BString;

pub use error::ServeError;

/// The two services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Clone, fetch, ls-remote.
    UploadPack,
    /// Push.
    ReceivePack,
}

impl Service {
    /// `git-upload-pack` or `git-receive-pack`
    pub fn name(self) -> &'static str {
        match self {
            Service::UploadPack => "git-upload-pack",
            Service::ReceivePack => "git-receive-pack",
        }
    }

    /// `upload-pack` or `receive-pack`
    pub fn short_name(self) -> &'static str {
        match self {
            Service::UploadPack => "upload-pack",
            Service::ReceivePack => "receive-pack",
        }
    }

    /// The protocol version of the answer: the one the client asked for, as far as the service and the owner's settings
    /// allow it. Push has no v2 (PV-06).
    ///
    /// # Errors
    /// A sentence for the client, if the settings allow no version it understands.
    pub fn version(self, repository: &Repository) -> Result<Version, ServeError> {
        let (asked, spoken) = (repository.context.version, repository.settings.protocol_versions);
        match (self, asked) {
            (Service::ReceivePack, Version::V2) => Ok(Version::V0),
            (Service::ReceivePack, Version::V0 | Version::V1) => Ok(asked),
            (Service::UploadPack, _) => {
                spoken.greatest(asked).ok_or_else(|| ServeError::Refused(spoken.refusal(asked)))
            }
        }
    }
}

/// What a request asks a service to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `info/refs?service=…`
    Advertise(Service),
    /// `POST …/git-upload-pack`, `POST …/git-receive-pack`
    Serve(Service),
}

impl Operation {
    /// The service that is asked.
    pub fn service(self) -> Service {
        match self {
            Operation::Advertise(service) | Operation::Serve(service) => service,
        }
    }
}

/// The form in which the client can be told of an error at this point of the answer.
#[derive(Debug, Clone, Default)]
pub enum ErrorChannel {
    /// An HTTP status: nothing has been sent yet.
    #[default]
    Status,
    /// An `ERR` line.
    ErrLine,
    /// A message on band 3.
    Band3,
    /// Not at all: a pack goes out without side bands, and only its early end shows the failure (PO-16).
    Silence,
    /// A push: a report, preceded by a message on band 3 if side bands are in use.
    Push {
        /// Whether side-band-64k was negotiated.
        sideband: bool,
        /// Whether a report was asked for.
        report: bool,
        /// The refs named so far, each followed by a zero byte. One string, because there may be many.
        refs: BString,
    },
}

/// Where an answer goes, and how an error is reported.
pub struct Out<'a> {
    /// Where the bytes go.
    pub sink: &'a mut dyn Sink,
    /// How an error is reported from this point on.
    pub channel: &'a mut ErrorChannel,
    /// What the audit line will say.
    pub summary: &'a mut Summary,
}

impl Out<'_> {
    /// Marks a part of the answer as complete. Over pipes the client waits for it, so it is flushed; a stateless answer
    /// goes out when it is whole, so that a small one gets a Content-Length.
    pub(crate) fn pause(&mut self, repository: &Repository) -> std::io::Result<()> {
        if repository.context.stateless { Ok(()) } else { self.sink.flush() }
    }
}

/// Serves one operation on an open repository.
///
/// An advertisement is the answer to `info/refs`, or to a program that asks for it. `Serve` answers one request if the
/// conversation is stateless. Otherwise it is the whole conversation: first the greeting, then rounds and commands
/// until the client has nothing more to ask. Afterwards the body has been read to its end.
///
/// # Errors
/// Whatever the service could not report in the protocol itself; `tell` reports it through `out.channel`.
pub fn run(
    operation: &Operation,
    repository: &Repository,
    body: &mut dyn Body,
    out: &mut Out<'_>,
) -> Result<(), ServeError> {
    let trace = &repository.context.trace;
    if !trace.is_on() {
        return dispatch(operation, repository, body, out);
    }
    let service = operation.service();
    if let Ok(version) = service.version(repository) {
        trace.data("transfer", "negotiated-version", &version.number().to_string());
    }
    let (mut body, mut sink) = trace.watch(service.short_name(), body, out.sink);
    let mut out = Out { sink: &mut sink, channel: out.channel, summary: out.summary };
    let outcome = dispatch(operation, repository, &mut body, &mut out);
    if let Some(id) = &out.summary.client_sid {
        trace.data("transfer", "client-sid", id);
    }
    outcome
}

fn dispatch(
    operation: &Operation,
    repository: &Repository,
    body: &mut dyn Body,
    out: &mut Out<'_>,
) -> Result<(), ServeError> {
    let context = &repository.context;
    match operation {
        Operation::Advertise(service) => {
            out.summary.operation = Some("advertise");
            finish(body)?;
            let version = service.version(repository)?;
            out.summary.version = Some(version.number());
            advertise::serve(repository, *service, version, out)
        }
        Operation::Serve(service) => {
            if *service == Service::UploadPack {
                // git shows its user the text of an ERR line; of an HTTP error status it would show only the number.
                *out.channel = ErrorChannel::ErrLine;
            }
            let version = service.version(repository)?;
            out.summary.version = Some(version.number());
            if !context.stateless {
                advertise::greet(repository, *service, version, out)?;
            }
            match (service, version) {
                (Service::ReceivePack, _) => receive::serve(repository, body, out),
                (Service::UploadPack, Version::V0 | Version::V1) => fetch::serve_v0(repository, body, out),
                (Service::UploadPack, Version::V2) => {
                    let mut conversation = command::Conversation::default();
                    while command::serve_one(repository, &mut conversation, body, out)? && !context.stateless {
                        *out.channel = ErrorChannel::ErrLine;
                    }
                    Ok(())
                }
            }
        }
    }
}

/// Reads the body to its end, after which an answer may begin.
fn finish(body: &mut dyn Body) -> Result<(), ServeError> {
    body.finish().map(|_| ()).map_err(ServeError::unread)
}

#[cfg(test)]
mod tests;

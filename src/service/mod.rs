//! One file per thing git asks. No HTTP: a service knows a repository, a body and an [`Out`].

pub mod advertise;
pub mod command;
pub mod error;
pub mod fetch;
pub mod ls_refs;
pub mod negotiation;
pub mod offer;
pub mod policy;
pub mod progress;
pub mod receive;
pub mod stored;

use crate::audit::Summary;
use crate::pktline::BandSize;
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
}

/// A file of the dumb protocol (DU).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredFile {
    /// `HEAD`
    Head,
    /// `info/refs` without a service
    InfoRefs,
    /// `objects/info/packs`
    InfoPacks,
    /// `objects/info/alternates`, `objects/info/http-alternates`: the path below the git directory.
    Info(BString),
    /// `objects/xx/…`: the path below the git directory.
    LooseObject(BString),
    /// `objects/pack/pack-….pack`
    Pack(BString),
    /// `objects/pack/pack-….idx`
    Index(BString),
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// `info/refs?service=…`
    Advertise(Service),
    /// `POST …/git-upload-pack`, `POST …/git-receive-pack`
    Serve(Service),
    /// A stored file.
    Stored(StoredFile),
}

/// In which form the client can hear that something went wrong now.
#[derive(Debug, Clone, Default)]
pub enum ErrorChannel {
    /// An HTTP status: nothing has been sent.
    #[default]
    Status,
    /// An `ERR` line.
    ErrLine,
    /// Band 3.
    Band3,
    /// A push: a report, band 3 before it where there is one.
    Push {
        /// Whether side-band-64k was negotiated.
        sideband: bool,
        /// Whether a report was asked for.
        report: bool,
        /// The refs named so far.
        refs: Vec<BString>,
    },
}

/// Where an answer goes, and how an error would be told.
pub struct Out<'a> {
    /// The bytes.
    pub sink: &'a mut dyn Sink,
    /// How an error is told from now on.
    pub channel: ErrorChannel,
    /// What the audit line will say.
    pub summary: &'a mut Summary,
}

/// Side-band size helper for [`ErrorChannel::Push`] and the fetch alike: git writes band 3 of a push with 64k bands only.
pub const PUSH_BANDS: BandSize = BandSize::Large;

/// Serves one operation on an open repository.
///
/// # Errors
/// What could not be told in the protocol by the service itself; `tell` does, through `out.channel`.
pub fn run(
    operation: &Operation,
    repository: &Repository,
    body: &mut dyn Body,
    out: &mut Out<'_>,
) -> Result<(), ServeError> {
    let _ = (operation, repository, body, out);
    unimplemented!()
}

//! OFFERS: the one table of capabilities and commands.
//!
//! In: a repository. Out: what is announced, and what a client may ask for. Both come from the same row, so that
//! nothing is announced that is not served and nothing is served that is not announced.

use super::command::Arguments;
use super::wants::Rule;
use super::{Out, ServeError, Service, bundle_uri, fetch, ls_refs, nonce as nonces_of, object_info, promisor};
use crate::protocol::command::Offered;
use crate::protocol::upload::Extensions;
use crate::repo::Repository;
use crate::repo::settings::Unborn;
use crate::repo::visible::Head;
use bstr::ByteVec;

/// The announcement a row belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// The capability lines of protocol v2.
    V2,
    /// The capabilities of upload-pack's first ref line, v0 and v1.
    UploadPack,
    /// The capabilities of receive-pack's first ref line, v0 and v1.
    ReceivePack,
}

/// What an announcement depends on.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The repository and its request.
    pub repository: &'a Repository,
    /// HEAD, if it is announced.
    pub head: Option<&'a Head>,
}

/// Whether a row is offered.
pub type When = fn(&View<'_>) -> bool;

/// What follows the name and `=`, if anything.
pub type Value = fn(&View<'_>) -> Option<Vec<u8>>;

/// Runs a command of v2.
pub type Command = fn(&Repository, Arguments<'_>, &mut Out<'_>) -> Result<(), ServeError>;

/// One row: a capability or command of v2, or a capability of v0.
pub struct Offer {
    /// The name, in announcements and requests.
    pub name: &'static str,
    /// Where it is announced.
    pub block: Block,
    /// Whether it is announced.
    pub when: When,
    /// The value it is announced with, if any.
    pub value: Value,
    /// The function that runs a command of v2.
    pub command: Option<Command>,
}

/// Builds a row in one line, so that the table can be read as one.
const fn offer(name: &'static str, block: Block, when: When, value: Value, command: Option<Command>) -> Offer {
    Offer { name, block, when, value, command }
}

use Block::{ReceivePack, UploadPack, V2};

/// The three blocks, each in the order in which it is announced (V2-02, UA-04, RA-02).
#[rustfmt::skip]
pub static OFFERS: &[Offer] = &[
    //    name                            of           offered when     value           runs
    offer("agent",                        V2,          always,          agent,          None),
    offer("ls-refs",                      V2,          always,          unborn,         Some(ls_refs::serve)),
    offer("fetch",                        V2,          always,          fetch_features, Some(fetch::serve_v2)),
    offer("server-option",                V2,          always,          flag,           None),
    offer("object-format",                V2,          always,          object_format,  None),
    offer("session-id",                   V2,          session_ids,     session_id,     None),
    offer("object-info",                  V2,          object_infos,    object_info,    Some(object_info::serve)),
    offer("bundle-uri",                   V2,          bundle_uris,     flag,           Some(bundle_uri::serve)),
    offer("promisor-remote",              V2,          promisors,       promisor,       None),

    offer("multi_ack",                    UploadPack,  always,          flag,           None),
    offer("thin-pack",                    UploadPack,  always,          flag,           None),
    offer("side-band",                    UploadPack,  always,          flag,           None),
    offer("side-band-64k",                UploadPack,  always,          flag,           None),
    offer("ofs-delta",                    UploadPack,  always,          flag,           None),
    offer("shallow",                      UploadPack,  always,          flag,           None),
    offer("deepen-since",                 UploadPack,  always,          flag,           None),
    offer("deepen-not",                   UploadPack,  always,          flag,           None),
    offer("deepen-relative",              UploadPack,  always,          flag,           None),
    offer("no-progress",                  UploadPack,  always,          flag,           None),
    offer("include-tag",                  UploadPack,  always,          flag,           None),
    offer("multi_ack_detailed",           UploadPack,  always,          flag,           None),
    offer("allow-tip-sha1-in-want",       UploadPack,  tips_wanted,     flag,           None),
    offer("allow-reachable-sha1-in-want", UploadPack,  commits_wanted,  flag,           None),
    offer("no-done",                      UploadPack,  over_http,       flag,           None),
    offer("symref",                       UploadPack,  head_is_symref,  head_symref,    None),
    offer("filter",                       UploadPack,  filters,         flag,           None),
    offer("session-id",                   UploadPack,  session_ids,     session_id,     None),
    offer("object-format",                UploadPack,  always,          object_format,  None),
    offer("agent",                        UploadPack,  always,          agent,          None),

    offer("report-status",                ReceivePack, always,          flag,           None),
    offer("report-status-v2",             ReceivePack, always,          flag,           None),
    offer("delete-refs",                  ReceivePack, always,          flag,           None),
    offer("side-band-64k",                ReceivePack, always,          flag,           None),
    offer("quiet",                        ReceivePack, always,          flag,           None),
    offer("atomic",                       ReceivePack, atomic_pushes,   flag,           None),
    offer("ofs-delta",                    ReceivePack, ofs_deltas,      flag,           None),
    offer("push-cert",                    ReceivePack, nonces,          nonce,          None),
    offer("push-options",                 ReceivePack, push_options,    flag,           None),
    offer("session-id",                   ReceivePack, session_ids,     session_id,     None),
    offer("object-format",                ReceivePack, always,          object_format,  None),
    offer("agent",                        ReceivePack, always,          agent,          None),
];

impl Block {
    /// The block of v0 and v1.
    pub fn of(service: Service) -> Self {
        match service {
            Service::UploadPack => Block::UploadPack,
            Service::ReceivePack => Block::ReceivePack,
        }
    }
}

impl Offer {
    /// `name` or `name=value`.
    pub fn line(&self, view: &View<'_>) -> Vec<u8> {
        let mut line = Vec::from(self.name);
        if let Some(value) = (self.value)(view) {
            line.push_byte(b'=');
            line.push_str(value);
        }
        line
    }
}

/// The rows of a block that are offered in this view.
pub fn offered<'v>(block: Block, view: &'v View<'v>) -> impl Iterator<Item = &'static Offer> + 'v {
    OFFERS.iter().filter(move |offer| offer.block == block && (offer.when)(view))
}

/// Which optional arguments of fetch are offered, and so accepted.
pub fn extensions(view: &View<'_>) -> Extensions {
    let settings = &view.repository.settings;
    Extensions {
        filter: settings.allow_filter,
        ref_in_want: settings.ref_in_want,
        sideband_all: settings.sideband_all,
        packfile_uris: !settings.blob_packfile_uris.is_empty() || !settings.packfile_uris.is_empty(),
    }
}

/// Finds the row of a v2 name, if it is offered.
pub fn find(name: &[u8], view: &View<'_>) -> Option<&'static Offer> {
    offered(Block::V2, view).find(|offer| offer.name.as_bytes() == name)
}

/// What a v2 name is: a command, a capability, or not offered.
pub fn kind(name: &[u8], view: &View<'_>) -> Offered {
    match find(name, view) {
        None => Offered::No,
        Some(Offer { command: None, .. }) => Offered::Capability,
        Some(Offer { command: Some(_), .. }) => Offered::Command,
    }
}

// Conditions.

fn always(_: &View<'_>) -> bool {
    true
}

fn filters(view: &View<'_>) -> bool {
    extensions(view).filter
}

fn session_ids(view: &View<'_>) -> bool {
    view.repository.settings.advertise_sid
}

fn object_infos(view: &View<'_>) -> bool {
    view.repository.settings.advertise_object_info
}

fn bundle_uris(view: &View<'_>) -> bool {
    view.repository.settings.advertise_bundle_uris
}

fn promisors(view: &View<'_>) -> bool {
    promisor::announcement(&view.repository.settings).is_some()
}

/// Whether this is an exchange over HTTP, or one that a web server hands on over pipes (UA-06).
fn over_http(view: &View<'_>) -> bool {
    view.repository.context.stateless
}

fn head_is_symref(view: &View<'_>) -> bool {
    view.head.is_some_and(|head| head.id.is_some() && head.target.is_some())
}

fn tips_wanted(view: &View<'_>) -> bool {
    match Rule::for_announcement(view.repository) {
        Rule::Any => true,
        Rule::Git { .. } => view.repository.settings.git_wants.tips,
        Rule::Commits | Rule::Reachable | Rule::Advertised => false,
    }
}

fn commits_wanted(view: &View<'_>) -> bool {
    match Rule::for_announcement(view.repository) {
        Rule::Any | Rule::Commits | Rule::Reachable => true,
        Rule::Git { .. } => view.repository.settings.git_wants.reachable,
        Rule::Advertised => false,
    }
}

fn atomic_pushes(view: &View<'_>) -> bool {
    view.repository.settings.advertise_atomic
}

fn ofs_deltas(view: &View<'_>) -> bool {
    view.repository.settings.prefer_ofs_delta
}

fn nonces(view: &View<'_>) -> bool {
    view.repository.settings.cert_nonce_seed.is_some()
}

fn push_options(view: &View<'_>) -> bool {
    view.repository.settings.advertise_push_options
}

// Values.

fn flag(_: &View<'_>) -> Option<Vec<u8>> {
    None
}

fn agent(view: &View<'_>) -> Option<Vec<u8>> {
    Some(view.repository.context.agent.as_bytes().to_vec())
}

fn session_id(view: &View<'_>) -> Option<Vec<u8>> {
    Some(view.repository.context.session_id.as_bytes().to_vec())
}

fn object_format(view: &View<'_>) -> Option<Vec<u8>> {
    Some(view.repository.hash().to_string().into_bytes())
}

/// The nonce that a push certificate must repeat (PC-01).
fn nonce(view: &View<'_>) -> Option<Vec<u8>> {
    nonces_of::announced(view.repository).map(Into::into)
}

/// The attributes that object-info can report.
fn object_info(_: &View<'_>) -> Option<Vec<u8>> {
    Some(b"size".to_vec())
}

fn promisor(view: &View<'_>) -> Option<Vec<u8>> {
    promisor::announcement(&view.repository.settings)
}

fn unborn(view: &View<'_>) -> Option<Vec<u8>> {
    match view.repository.settings.unborn {
        Unborn::Advertise => Some(b"unborn".to_vec()),
        Unborn::Allow | Unborn::Ignore => None,
    }
}

/// The features of v2's fetch in their announced order (V2-04).
fn fetch_features(view: &View<'_>) -> Option<Vec<u8>> {
    let mut features = vec!["shallow", "wait-for-done"];
    features.extend(extensions(view).names());
    Some(features.join(" ").into_bytes())
}

fn head_symref(view: &View<'_>) -> Option<Vec<u8>> {
    let target = view.head.and_then(|head| head.target.as_ref())?;
    Some([b"HEAD:", target.as_slice()].concat())
}

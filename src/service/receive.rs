//! A push, told in order: parse, quarantine, connectivity, hidden refs, pre-receive, migrate, aliases, rules and update hook
//! of each ref, transaction, report, post-receive (git's order, station for station: hooks rely on it).
//!
//! In: a repository whose grant is for writing, and the body. Out: a report. No ref moves before every object behind it is in
//! its place, and nothing is said to have happened before it has.

use super::policy::{self, Alias, Message, Passed, Policy};
use super::progress::{Heartbeat, Pace};
use super::{ErrorChannel, Out, PUSH_BANDS, ServeError};
use crate::audit::AuditedUpdate;
use crate::auth::WriteGrant;
use crate::durable::{self, Sync};
use crate::odb::Objects;
use crate::pack::incoming::{IncomingPack, ReceiveOptions, UnpackError};
use crate::protocol::push::{Heard, Offered, PushRequest, RefUpdate, ReportForm};
use crate::protocol::report::{Refusal, ReportStatus};
use crate::refs::{LockPolicy, RefChange, RefStore, RefTransaction, reflog};
use crate::repo::hooks::{self, Answer, Hook, ReferenceTransaction, Told};
use crate::repo::quarantine::Quarantine;
use crate::repo::visible::{self, For};
use crate::repo::{AccessMode, Repository, connectivity, server_info};
use crate::stream::{Body, Pulse, Sink};
use anyhow::Context as _;
use bstr::ByteSlice;
use gix_hash::ObjectId;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Serves a push.
///
/// # Errors
/// What must be told instead of a report, in the form `out.channel` says.
pub fn serve(repository: &Repository, body: &mut dyn Body, out: &mut Out<'_>) -> Result<(), ServeError> {
    let proof = repository.grant.writable().ok_or_else(|| ServeError::Refused("this token may not push".into()))?;
    let request = parse(repository, body, out)?;
    out.summary.operation = Some(if request.updates.is_empty() { "probe" } else { "push" });
    if request.updates.is_empty() {
        body.finish()?;
        return Ok(());
    }
    let capabilities = &request.capabilities;
    let Out { sink, channel, summary } = out;
    let pace = Pace { keep_alive_s: repository.settings.receive_keep_alive_s, progress: !capabilities.quiet };
    let clock: &dyn Fn() -> Instant = &Instant::now;
    let mut client = Client::new(Heartbeat::new(*sink, capabilities.side_band.then_some(PUSH_BANDS), pace, clock));

    let mut verdicts = Verdicts::of(&request);
    let unpacked = take_objects(repository, &request, body, &mut verdicts, &mut client)?;
    summary.objects = unpacked.as_ref().map_or(0, |quarantined| quarantined.pack.objects.into());
    let unpack = match unpacked {
        Ok(quarantined) => {
            decide(repository, &proof, &request, quarantined, &mut verdicts, &mut client)?;
            Ok(())
        }
        Err(status) => {
            verdicts.refuse_all(&Refusal::Unpacker);
            Err(status)
        }
    };

    summary.updates = verdicts.audited(repository.hash());
    summary.push_decided();
    if let Some(internal) = client.noted.take() {
        summary.error = Some(internal);
    }
    // Whatever fails from here on is no reason to take the report back.
    *channel = ErrorChannel::Push { sideband: capabilities.side_band, report: false, refs: Vec::new() };
    client.endure();
    if capabilities.report != ReportForm::Silent {
        client.report(&verdicts.report(unpack.as_ref().map(|_| ()).map_err(String::as_str)))?;
    }
    if unpack.is_ok() {
        after(repository, &request, &verdicts, &mut client)?;
    }
    client.finish()
}

/// Reads the request; what goes wrong behind its first capability list is told as a report.
fn parse(repository: &Repository, body: &mut dyn Body, out: &mut Out<'_>) -> Result<PushRequest, ServeError> {
    let offered = Offered {
        hash: repository.hash(),
        atomic: repository.settings.advertise_atomic,
        push_options: repository.settings.advertise_push_options,
    };
    let channel = &mut out.channel;
    let mut named = Vec::new();
    let parsed = PushRequest::parse(body, &offered, &repository.context.limits, &mut |heard| match heard {
        Heard::Capabilities(list) => {
            let report = list.report != ReportForm::Silent;
            *channel = ErrorChannel::Push { sideband: list.side_band, report, refs: Vec::new() };
        }
        Heard::Ref(name) => named.push(name.to_owned()),
    });
    if let ErrorChannel::Push { refs, .. } = channel {
        *refs = named;
    }
    let request = parsed?;
    let capabilities = &request.capabilities;
    out.summary.agent = capabilities.agent.as_ref().map(|agent| agent.to_str_lossy().into_owned());
    out.summary.client_sid = capabilities.session_id.as_ref().map(|id| id.to_str_lossy().into_owned());
    Ok(request)
}

/// What was pushed, apart from the repository; nothing where refs are only deleted.
#[derive(Default)]
struct Quarantined {
    quarantine: Option<Quarantine>,
    pack: IncomingPack,
}

/// Takes the pack into a quarantine; the inner error is what the report says of the pack. The body is at its end afterwards.
fn take_objects(
    repository: &Repository,
    request: &PushRequest,
    body: &mut dyn Body,
    verdicts: &mut Verdicts,
    client: &mut Client<'_>,
) -> Result<Result<Quarantined, String>, ServeError> {
    let received = if request.brings_pack() {
        Quarantine::open(repository)
            .map_err(|_| UnpackError { status: "unable to start object transaction".into(), detail: String::new() })
            .and_then(|quarantine| {
                let pack = receive(repository, &quarantine, body, client)?;
                Ok(Quarantined { quarantine: Some(quarantine), pack })
            })
    } else {
        Ok(Quarantined::default())
    };
    let rest = body.finish();
    client.heartbeat.set_awake(true);
    match received {
        Ok(quarantined) => {
            // A body that ends before its announced end may have lost its client on the way: nothing is done for it.
            rest?;
            // We do not extend our own boundary yet; a client that shows its own gets what needs none (SP-02, SP-05).
            if !request.shallow.is_empty() {
                refuse_shallow(request, &quarantined, verdicts, client)?;
            }
            Ok(Ok(quarantined))
        }
        Err(UnpackError { status, detail }) => {
            if !detail.is_empty() {
                client.message(&format!("fatal: {detail}"))?;
            }
            Ok(Err(status))
        }
    }
}

fn receive(
    repository: &Repository,
    quarantine: &Quarantine,
    body: &mut dyn Body,
    client: &mut Client<'_>,
) -> Result<IncomingPack, UnpackError> {
    let settings = &repository.settings;
    let synced = settings.fsync.pack || settings.fsync.loose_object;
    let options = ReceiveOptions {
        hash: repository.hash(),
        directory: quarantine.path(),
        objects: quarantine.objects(),
        unpack_limit: settings.unpack_limit,
        max_input_size: settings.max_input_size,
        fsck: settings.fsck_objects.unwrap_or(repository.context.mode == AccessMode::Tokens),
        memory: repository.context.memory,
        reverse_index: settings.write_reverse_index,
        compression: settings.loose_compression,
        sync: if synced { Sync::Now } else { Sync::Never },
        sharing: settings.sharing,
        keep_message: format!(
            "receive-pack {} on {}",
            std::process::id(),
            rustix::system::uname().nodename().to_string_lossy()
        ),
    };
    client.heartbeat.set_awake(false);
    IncomingPack::receive(body, &options, &mut Arrival { client })
}

//! A push from start to end: parse, quarantine, connectivity, hidden refs, pre-receive, migrate, aliases, proc-receive,
//! rules and update hook of each ref, transaction, report, post-receive. This is git's order, step by step: hooks rely
//! on it.
//!
//! In: a repository with a write grant, and the body. Out: a report. No ref moves before every object reachable from
//! its new value is in place, and nothing is reported before it has happened.

mod certificate;
mod checkout;
mod client;
mod connected;
mod maintenance;
mod proc_receive;
mod ref_updates;
mod verdicts;

use super::policy::{self, Alias, Remarks};
use super::progress::{Heartbeat, Pace};
use super::{ErrorChannel, Out, ServeError};
use crate::auth::WriteGrant;
use crate::durable;
use crate::odb::usage;
use crate::pack::incoming::{IncomingPack, ReceiveOptions, Room, Syncs, UnpackError};
use crate::pktline::BandSize;
use crate::protocol::push::{Heard, PushOffer, PushRequest, RefUpdate, ReportForm};
use crate::protocol::report::Refusal;
use crate::repo::fsck::Rules;
use crate::repo::hooks::{self, Answer, Hook, HookInput, Lines};
use crate::repo::quarantine::{self, Migrated, Quarantine};
use crate::repo::visible::{self, For};
use crate::repo::{AccessMode, Repository, server_info};
use crate::stream::Body;
use bstr::{BStr, BString, ByteSlice};
use certificate::Certified;
use client::{ChildOutput, Client, PackProgress};
use gix_hash::ObjectId;
use ref_updates::RefUpdates;
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Instant;
use verdicts::{State, Verdict, Verdicts};

/// A push always uses side bands of this size.
const BANDS: BandSize = BandSize::Large;

/// Serves a push.
///
/// # Errors
/// What must be told instead of a report, in the form that `out.channel` says.
pub fn serve(repository: &Repository, body: &mut dyn Body, out: &mut Out<'_>) -> Result<(), ServeError> {
    let proof = repository.grant.writable().ok_or_else(|| ServeError::Refused("this token may not push".into()))?;
    let request = parse(repository, body, out)?;
    out.summary.operation = Some(if request.updates.is_empty() { "probe" } else { "push" });
    if request.updates.is_empty() {
        body.finish().map_err(ServeError::unread)?;
        return Ok(());
    }
    let capabilities = &request.capabilities;
    let Out { sink, channel, summary } = out;
    let pace = Pace {
        keep_alive_s: repository.settings.receive_keep_alive_s,
        progress: !(capabilities.quiet || repository.context.push.quiet),
    };
    let bands = capabilities.side_band.then_some(BANDS);
    let mut client = Client::new(Heartbeat::new(*sink, bands, pace, &Instant::now));

    let mut verdicts = Verdicts::of(&request);
    if let Some(certificate) = &request.certificate
        && !certificate.options().eq(request.options.iter())
    {
        verdicts.refuse_open(&Refusal::InconsistentOptions);
    }
    let mut certified = Certified::of(repository, &request);
    let mut watched = WatchedBody { body, broken: None };
    let unpacked = receive_objects(repository, &request, &mut watched, &mut client)?;
    if let (Err(_), Some(reason)) = (&unpacked, watched.broken) {
        (summary.outcome, summary.error) = ("aborted", Some(reason));
    }
    summary.objects = unpacked.as_ref().map_or(0, |received| received.pack.objects.into());
    let unpack = match unpacked {
        Ok(received) => {
            decide(repository, &proof, &request, &mut certified, received, &mut verdicts, &mut client)?;
            Ok(())
        }
        Err(status) => {
            verdicts.refuse_open(&Refusal::Unpacker);
            Err(status)
        }
    };

    // The outcome is settled: no failure from here on may change what is reported.
    client.ignore_disconnect();
    **channel = ErrorChannel::Push { sideband: capabilities.side_band, report: false, refs: BString::default() };
    summary.push = verdicts.audited(repository.hash());
    summary.push_decided();
    if capabilities.report != ReportForm::Silent {
        let unpack = unpack.as_ref().map(|_| ()).map_err(String::as_str);
        client.report(verdicts.report(unpack, capabilities.report))?;
    }
    let mut outcome = after(repository, &request, &mut certified, &verdicts, &mut client);
    let mut faults = client.take_faults();
    let finished = client.finish();
    if verdicts.updated().next().is_some() {
        outcome = outcome.and_then(|()| maintenance::start_detached(repository));
    }
    if let Err(error) = outcome {
        faults.push(format!("{error:#}"));
    }
    if !faults.is_empty() {
        (summary.outcome, summary.error) = ("error", Some(faults.join("; ")));
    }
    finished
}

/// Reads the request. Errors after the first capability list are told as a report.
fn parse(repository: &Repository, body: &mut dyn Body, out: &mut Out<'_>) -> Result<PushRequest, ServeError> {
    let offered = PushOffer {
        hash: repository.hash(),
        atomic: repository.settings.advertise_atomic,
        push_options: repository.settings.advertise_push_options,
    };
    let mut heard = None;
    let mut named = BString::default();
    let parsed = PushRequest::parse(body, &offered, &repository.context.limits, &mut |what| match what {
        Heard::Capabilities(list) => heard = Some((list.side_band, list.report != ReportForm::Silent)),
        Heard::Ref(name) => {
            named.extend_from_slice(name);
            named.push(0);
        }
    });
    if let Some((sideband, report)) = heard {
        *out.channel = ErrorChannel::Push { sideband, report, refs: named };
    }
    let request = parsed?;
    let capabilities = &request.capabilities;
    out.summary.agent = capabilities.agent.as_ref().map(|agent| agent.to_str_lossy().into_owned());
    out.summary.client_sid = capabilities.session_id.as_ref().map(|id| id.to_str_lossy().into_owned());
    Ok(request)
}

/// A body that remembers why it broke off. The report is sent all the same, since the client may still receive it.
struct WatchedBody<'b> {
    body: &'b mut dyn Body,
    broken: Option<String>,
}

impl Read for WatchedBody<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.body.read(into);
        if let Err(error) = &read
            && matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::InvalidData | io::ErrorKind::TimedOut)
        {
            self.broken = Some(error.to_string());
        }
        read
    }
}

impl Body for WatchedBody<'_> {
    fn finish(&mut self) -> io::Result<u64> {
        self.body.finish()
    }
}

/// The pushed objects, still in quarantine; empty if refs are only deleted.
#[derive(Default)]
struct ReceivedObjects {
    quarantine: Option<Quarantine>,
    pack: IncomingPack,
}

/// Takes the pack into a quarantine. The inner error is the report's unpack status. On return the body has been read to
/// its end.
fn receive_objects(
    repository: &Repository,
    request: &PushRequest,
    body: &mut dyn Body,
    client: &mut Client<'_>,
) -> Result<Result<ReceivedObjects, String>, ServeError> {
    let received = if request.brings_pack() {
        Quarantine::open(repository)
            .map_err(|error| UnpackError {
                status: "unable to start object transaction".into(),
                detail: String::new(),
                notes: Vec::new(),
                fault: Some(format!("unable to start object transaction: {error:#}")),
            })
            .and_then(|quarantine| {
                let pack = receive(repository, &quarantine, body, client)?;
                Ok(ReceivedObjects { quarantine: Some(quarantine), pack })
            })
    } else {
        Ok(ReceivedObjects::default())
    };
    let rest = body.finish();
    client.set_awake(true);
    match received {
        Ok(received) => {
            // If the body ends before its announced length, the client may have gone on the way: nothing is done for
            // it.
            rest.map_err(ServeError::unread)?;
            for note in &received.pack.notes {
                client.message(note)?;
            }
            Ok(Ok(received))
        }
        Err(UnpackError { status, detail, notes, fault }) => {
            fault.into_iter().for_each(|fault| client.keep_fault(fault));
            for note in &notes {
                client.message(note)?;
            }
            if !detail.is_empty() {
                client.message(&format!("fatal: {detail}"))?;
            }
            Ok(Err(status))
        }
    }
}

/// The rules that pushed objects must follow, if any.
fn rules(repository: &Repository) -> Option<Rules> {
    match (repository.settings.fsck_objects, repository.context.mode) {
        (Some(true), _) => Some(Rules::strict()),
        (None, AccessMode::Tokens) => Some(Rules::protecting()),
        (Some(false), _) | (None, AccessMode::WebServer | AccessMode::Pipe) => None,
    }
}

fn receive(
    repository: &Repository,
    quarantine: &Quarantine,
    body: &mut dyn Body,
    client: &mut Client<'_>,
) -> Result<IncomingPack, UnpackError> {
    let settings = &repository.settings;
    let fsck = rules(repository).map(|rules| changed(repository, rules)).transpose()?;
    let warnings = settings.fsck.warnings().filter(|_| fsck.is_some()).collect::<Vec<_>>();
    let room = room(repository)?;
    let options = ReceiveOptions { room, ..options_of(repository, quarantine, fsck) };
    client.set_awake(false);
    let mut pack = IncomingPack::receive(body, &options, &mut PackProgress(client))?;
    pack.notes.splice(..0, warnings);
    Ok(pack)
}

/// The options for receiving objects into a quarantine.
fn options_of<'a>(repository: &Repository, quarantine: &'a Quarantine, fsck: Option<Rules>) -> ReceiveOptions<'a> {
    let settings = &repository.settings;
    ReceiveOptions {
        hash: repository.hash(),
        directory: quarantine.path(),
        objects: quarantine.objects(),
        unpack_limit: settings.unpack_limit,
        max_input_size: settings.max_input_size,
        object_size_max: settings.max_object_size,
        room: None,
        fsck,
        memory: repository.context.memory,
        threads: settings.threads(),
        reverse_index: settings.write_reverse_index,
        compression: settings.loose_compression,
        sync: Syncs {
            loose: settings.sync(settings.fsync.loose_object),
            pack: settings.sync(settings.fsync.pack),
            pack_metadata: settings.sync(settings.fsync.pack_metadata),
        },
        sharing: settings.sharing,
        reject_thin: repository.context.push.reject_thin,
        twice: false,
        keep_message: keep_message(),
    }
}

/// How full the repository is, if its owner limits its size. Concurrent pushes do not see each other's objects here.
fn room(repository: &Repository) -> Result<Option<Room>, UnpackError> {
    let Some(max) = repository.settings.max_repository_size else { return Ok(None) };
    let used = || -> anyhow::Result<u64> {
        let directory = repository.objects.directories()?.into_iter().next();
        Ok(directory.map(|directory| usage::disk_usage(&directory)).transpose()?.unwrap_or_default())
    };
    let used = used().map_err(|error| UnpackError {
        status: "cannot tell the size of the repository".into(),
        detail: format!("{error:#}"),
        notes: Vec::new(),
        fault: Some(format!("cannot tell the size of the repository: {error:#}")),
    })?;
    Ok(Some(Room { max, used }))
}

/// The rules for objects with the owner's changes. If those cannot be understood, the push fails with the status that
/// git reports when its index-pack fails.
fn changed(repository: &Repository, rules: Rules) -> Result<Rules, UnpackError> {
    let home = repository.context.config.home.as_deref();
    let changed = rules.changed_by(&repository.settings.fsck, &repository.git_dir, home, repository.hash());
    changed.map_err(|error| UnpackError {
        status: "index-pack abnormal exit".into(),
        detail: error.to_string(),
        notes: Vec::new(),
        fault: Some(error.to_string()),
    })
}

/// Everything between the last byte of the pack and the report. On return all verdicts are settled.
fn decide(
    repository: &Repository,
    proof: &WriteGrant,
    request: &PushRequest,
    certified: &mut Certified<'_>,
    received: ReceivedObjects,
    verdicts: &mut Verdicts<'_>,
    client: &mut Client<'_>,
) -> Result<(), ServeError> {
    let ReceivedObjects { quarantine, pack } = received;
    let new_cut = connected::check(repository, request, quarantine.as_ref(), pack.objects, verdicts, client)?;
    for verdict in verdicts.open() {
        verdict.judge(hidden(repository, verdict));
    }
    let left_to_hook = proc_receive::select(repository, verdicts);
    pre_receive(repository, request, certified, quarantine.as_ref(), verdicts, client)?;
    if request.capabilities.atomic {
        verdicts.refuse_open_if_one_is();
    }
    if !verdicts.any_open() {
        return Ok(());
    }
    // Hooks may move refs themselves, and history may be cut before a ref moves: both rely on the objects being on
    // disk.
    let has_update_hook = hooks::exists(repository, Hook::Update);
    let others_rely = has_update_hook || left_to_hook.contains(&true) || !new_cut.commits.is_empty();
    let migrated = quarantine.map_or_else(|| Ok(Migrated::default()), Quarantine::migrate_unforced);
    let forced = migrated.and_then(|mut migrated| {
        let together = !others_rely && migrated.goes_with(ref_updates::sync(repository));
        if together { Ok(()) } else { migrated.force() }.map(|()| migrated)
    });
    let Migrated { keeps, unforced, .. } = match forced {
        Ok(migrated) => migrated,
        Err(error) => {
            client.keep_fault(format!("{}: {error}", Refusal::Migrate));
            verdicts.refuse_open(&Refusal::Migrate);
            return Ok(());
        }
    };
    // The objects are visible to everybody from here on. Stopping halfway would be worse than doing everything or
    // nothing.
    client.ignore_disconnect();
    aliases(repository, verdicts, client)?;
    proc_receive::run(repository, request, &left_to_hook, verdicts, client)?;
    // History will end there if an update that needs it is accepted.
    let cut = (!new_cut.commits.is_empty()).then(|| repository.objects.cut_at(new_cut.commits.iter().copied()));
    let objects = cut.as_ref().unwrap_or(&repository.objects);
    let updates = RefUpdates::of(repository, proof, objects, &new_cut, has_update_hook, unforced);
    if request.capabilities.atomic {
        verdicts.refuse_open_if_one_is();
        updates.all_or_none(verdicts, client)?;
    } else {
        updates.each(verdicts, client)?;
    }
    verdicts.settle_covered();
    release(&keeps);
    Ok(())
}

/// Refuses updates of hidden refs (UP-04).
fn hidden(repository: &Repository, verdict: &Verdict<'_>) -> Result<(), Refusal> {
    let update = verdict.update;
    match (visible::is_hidden(repository, For::Receive, update.name.as_bstr()), update.change.is_deletion()) {
        (false, _) => Ok(()),
        (true, true) => Err(Refusal::HiddenDelete),
        (true, false) => Err(Refusal::HiddenUpdate),
    }
}

/// The hook that may refuse the whole push; it is told of all updates, including refused ones (HO-05).
fn pre_receive(
    repository: &Repository,
    request: &PushRequest,
    certified: &mut Certified<'_>,
    quarantine: Option<&Quarantine>,
    verdicts: &mut Verdicts<'_>,
    client: &mut Client<'_>,
) -> io::Result<()> {
    let mut environment = options_environment(request);
    environment.extend_from_slice(certified.environment(Hook::PreReceive, client)?);
    environment.extend(quarantine.map(Quarantine::environment).unwrap_or_default());
    let hash = repository.hash();
    let lines = || -> Lines<'_> { Box::new(verdicts.iter().map(|verdict| hook_line(hash, verdict.update))) };
    let told = HookInput { arguments: Vec::new(), environment, lines: &lines };
    if !run_hook(repository, Hook::PreReceive, &told, client)? {
        verdicts.refuse_open(&Refusal::PreReceiveDeclined);
    }
    Ok(())
}

fn hook_line(hash: gix_hash::Kind, update: &RefUpdate) -> Vec<u8> {
    let (old, new) = update.change.old_and_new(hash);
    hooks::line(old, new, &update.name)
}

/// Runs a hook. If it cannot answer, the client is told why, and that does not count as agreement.
fn run_hook(repository: &Repository, hook: Hook, told: &HookInput<'_>, client: &mut Client<'_>) -> io::Result<bool> {
    let answer = hooks::run(repository, hook, told, &mut ChildOutput(client))?;
    tell_of(hook, &answer, client)?;
    Ok(answer.agreed())
}

/// Tells the client how a hook ended, in addition to the hook's own output.
fn tell_of(hook: Hook, answer: &Answer, client: &mut Client<'_>) -> io::Result<()> {
    match answer {
        Answer::Agreed | Answer::Declined => Ok(()),
        Answer::Killed(signal) => client.fault(&format!("hook '{}' died of signal {signal}", hook.name())),
        Answer::Late => client.fault(&format!("hook '{}' took too long and was stopped", hook.name())),
        Answer::NotRun(error) => client.fault(&format!("cannot run hook '{}': {error}", hook.name())),
    }
}

/// Push options in the environment of pre-receive and post-receive. As in git, the count is set even if no options were
/// negotiated (HO-12).
fn options_environment(request: &PushRequest) -> Vec<(OsString, OsString)> {
    let options = request.options.iter().enumerate();
    let mut environment: Vec<(OsString, OsString)> =
        options.map(|(n, option)| (format!("GIT_PUSH_OPTION_{n}").into(), hooks::word(option))).collect();
    environment.push(("GIT_PUSH_OPTION_COUNT".into(), request.options.len().to_string().into()));
    environment
}

/// Symbolic refs and their targets in one push (UP-18).
fn aliases(repository: &Repository, verdicts: &mut Verdicts<'_>, client: &mut Client<'_>) -> io::Result<()> {
    let mut remarks = Remarks::default();
    let (updates, open): (Vec<_>, Vec<_>) = verdicts.iter().map(|verdict| (verdict.update, verdict.is_open())).unzip();
    let found = policy::aliases(repository, &updates, &open, &mut remarks);
    for (verdict, alias) in verdicts.iter_mut().zip(found) {
        match alias {
            Alias::None => {}
            Alias::CoveredBy(target) => verdict.state = State::CoveredBy(target),
            Alias::Refused(refusal) => verdict.state = State::Refused(refusal),
        }
    }
    client.pass_on(remarks)
}

/// The text in the `.keep` file of a pack that this process received (UN-13).
fn keep_message() -> String {
    quarantine::keep_message("receive-pack")
}

/// Removes the `.keep` files: refs point to the packs by now or never will, so nothing needs to be protected any longer
/// (UN-13). A `.keep` that already existed for the very same pack belongs to another process and stays.
fn release(keeps: &[PathBuf]) {
    for keep in keeps {
        // A leftover `.keep` costs a later repack something, but this push nothing.
        if std::fs::read_to_string(keep).is_ok_and(|text| text.trim_end() == keep_message()) {
            let _ = durable::unlink(keep);
        }
    }
}

/// What runs once the client has its report: none of it changes the outcome (HO-08 to HO-10, AP-01 to AP-03).
fn after(
    repository: &Repository,
    request: &PushRequest,
    certified: &mut Certified<'_>,
    verdicts: &Verdicts<'_>,
    client: &mut Client<'_>,
) -> anyhow::Result<()> {
    let hash = repository.hash();
    if verdicts.updated().next().is_some() {
        let told = |(name, old, new): (&BStr, ObjectId, ObjectId)| hooks::line(old, new, name);
        let lines = || -> Lines<'_> { Box::new(verdicts.changed(hash).map(told)) };
        let mut environment = options_environment(request);
        environment.extend_from_slice(certified.environment(Hook::PostReceive, client)?);
        let told = HookInput { arguments: Vec::new(), environment, lines: &lines };
        run_hook(repository, Hook::PostReceive, &told, client)?;
        if hooks::exists(repository, Hook::PostUpdate) {
            let arguments = verdicts.updated().map(|update| hooks::word(&update.name)).collect();
            let told = HookInput { arguments, environment: Vec::new(), lines: &hooks::no_lines };
            run_hook(repository, Hook::PostUpdate, &told, client)?;
        }
        maintenance::run_attached(repository, client)?;
    }
    if repository.settings.update_server_info {
        server_info::update(repository)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;

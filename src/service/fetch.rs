//! A fetch from start to end, v0 to v2.
//!
//! In: a request. Out: acknowledgments and a pack. The versions share [`UploadRequest`]; after parsing they differ only
//! in how acknowledgments are written and in the headers of sections. Nothing is written to the repository.

use super::command::Arguments;
use super::history::History;
use super::negotiation::{Acks, Negotiator, Then};
use super::offer::{self, View};
use super::pack_hook::{self, Order};
use super::plan::FetchPlan;
use super::progress::{Heartbeat, HeldBack, Pace};
use super::section::Section;
use super::shallow::Boundary;
use super::want_refs;
use super::wants::{self, Rule};
use super::{ErrorChannel, Out, ServeError, filter, finish, pack_cache};
use crate::cache::{Differs, Role};
use crate::odb::closure::{Broken, Filter, TooManyPaths};
use crate::pack::PackStats;
use crate::pack::elsewhere;
use crate::pack::select::Selection;
use crate::pktline::{self, FrameError, PacketReader};
use crate::protocol::Version;
use crate::protocol::command::ArgumentLines;
use crate::protocol::depth::{Depth, ENDLESS};
use crate::protocol::filter::FilterSpec;
use crate::protocol::upload::{Round, RoundEnd, UploadRequest};
use crate::repo::Repository;
use crate::stream::{Body, Pulse};
use std::time::Instant;

/// Answers `command=fetch`.
///
/// # Errors
/// Arguments that cannot be served or wants that are refused; when objects cannot be read or the client has gone.
pub fn serve_v2(repository: &Repository, arguments: Arguments<'_>, out: &mut Out<'_>) -> Result<(), ServeError> {
    out.summary.operation = Some("fetch");
    let (hash, limits) = (repository.hash(), &repository.context.limits);
    let extensions = offer::extensions(&View { repository, head: None });
    let promised = arguments.promised_elsewhere;
    let (mut request, round) = arguments.parse(|reader| UploadRequest::parse_v2(reader, hash, extensions, limits))?;
    request.promised = promised;
    note(&request, &round, out);
    repository.context.trace.data_json("upload-pack", "fetch-info", || fetch_info(&request, &round));
    if request.sideband_all {
        *out.channel = ErrorChannel::Band3;
    }
    let rule = Rule::of(repository, Version::V2);
    let filter = admit(repository, rule, &request, out)?;
    wants::check(repository, rule, &request.wants, &mut before_pack(repository, &request, out))?;
    let wanted_refs = want_refs::resolve(repository, &mut request)?;
    if request.wants.is_empty() && !request.wait_for_done {
        return Ok(());
    }
    let mut boundary = Boundary::of_client(repository, rule, &request)?;
    let mut negotiator = Negotiator::new(&request.wants, &request);
    if !round.haves.is_empty() {
        let seen = boundary.seen(repository);
        let mut history = History::new(repository, rule).seen_as(&seen);
        let mut pulse = before_pack(repository, &request, out);
        let acks = negotiator.round(&round, &mut history.round(&mut pulse))?;
        if round.end == RoundEnd::Flush {
            let mut section = Section::begin("acknowledgments", request.sideband_all)?;
            acks.lines.iter().try_for_each(|ack| section.line(format_args!("{ack}")))?;
            out.sink.write_all(&match acks.then {
                Then::Wait => section.flush(),
                Then::Pack => section.delim(),
            })?;
        }
        if acks.then == Then::Wait {
            out.pause(repository)?;
            return Ok(());
        }
    }
    if boundary.has_section(repository, rule, &request) {
        let mut pulse = before_pack(repository, &request, out);
        if !boundary.deepen(repository, rule, &request, &mut pulse)? {
            boundary.add_own_boundary(repository, &request, &mut pulse)?;
        }
        let mut section = Section::begin("shallow-info", request.sideband_all)?;
        boundary.for_each_line(&mut |line| section.bare(line))?;
        out.sink.write_all(&section.delim())?;
    }
    if !wanted_refs.is_empty() {
        let mut section = Section::begin("wanted-refs", request.sideband_all)?;
        wanted_refs.iter().try_for_each(|(id, name)| section.line(format_args!("{id} {name}")))?;
        out.sink.write_all(&section.delim())?;
    }
    let common = negotiator.into_common();
    // The pack-objects hook makes whole packs, so nothing is left out of them.
    let plan = FetchPlan::new(repository, &request, &boundary, filter.as_ref(), &common)?;
    let chosen = match request.packfile_uris.is_empty() || repository.settings.pack_objects_hook.is_some() {
        true => None,
        false => Some(send_uris(&plan, out)?),
    };
    out.sink.write_all(&Section::begin("packfile", request.sideband_all)?.open())?;
    out.sink.flush()?;
    send_pack(&plan, chosen.as_ref(), out)
}

/// Answers a request of v0 or v1, after its advertisement.
///
/// In a stateless conversation the body repeats everything agreed before and adds one round; the answer to its flush
/// ends the request (NE-07), and the body is read completely before anything is sent. Otherwise rounds are read and
/// answered in turn.
///
/// # Errors
/// Lines that cannot be served or wants that are refused; when objects cannot be read or the client has gone.
pub fn serve_v0(repository: &Repository, body: &mut dyn Body, out: &mut Out<'_>) -> Result<(), ServeError> {
    let (context, hash) = (&repository.context, repository.hash());
    let mut lines = ArgumentLines::new(&context.limits);
    let request = UploadRequest::parse_v0(
        &mut PacketReader::new(body),
        hash,
        offer::extensions(&View { repository, head: None }),
        &mut lines,
        &context.limits,
    )?;
    out.summary.operation = Some("fetch");
    out.summary.agent = request.agent.as_ref().map(ToString::to_string);
    out.summary.client_sid = request.session_id.as_ref().map(ToString::to_string);
    out.summary.wants = request.wants.len() as u64;
    if request.wants.is_empty() {
        return finish(body);
    }
    let mut read = |body: &mut dyn Body| Round::read(&mut PacketReader::new(body), hash, &mut lines);
    let mut ahead = if context.stateless { read(body)? } else { None };
    if context.stateless {
        finish(body)?;
    }
    let rule = Rule::of(repository, Version::V0);
    let filter = admit(repository, rule, &request, out)?;
    wants::check(repository, rule, &request.wants, out.sink)?;
    let mut boundary = Boundary::of_client(repository, rule, &request)?;
    if boundary.deepen(repository, rule, &request, out.sink)? {
        let mut answer = Vec::new();
        boundary.for_each_line(&mut |line| pktline::text(&mut answer, line))?;
        pktline::flush(&mut answer)?;
        out.sink.write_all(&answer)?;
        out.pause(repository)?;
    }
    let seen = boundary.seen(repository);
    let mut negotiator = Negotiator::new(&boundary.wants(&request), &request);
    let mut history = History::new(repository, rule).seen_as(&seen);
    loop {
        let round = match (ahead.take(), context.stateless) {
            (Some(round), _) => round,
            // The client has what it came for, or will come again with its haves (UR-16).
            (None, true) => return Ok(()),
            (None, false) => read(body)?.ok_or(FrameError::Truncated)?,
        };
        out.summary.haves += round.haves.len() as u64;
        let acks = negotiator.round(&round, &mut history.round(out.sink))?;
        let mut answer = Vec::new();
        append(&acks, &mut answer)?;
        out.sink.write_all(&answer)?;
        out.pause(repository)?;
        if acks.then == Then::Pack {
            let common = negotiator.into_common();
            return send_pack(&FetchPlan::new(repository, &request, &boundary, filter.as_ref(), &common)?, None, out);
        }
    }
}

/// Selects the objects and sends the addresses of packs that replace some of them (FE-17). Returns what remains to be
/// sent.
fn send_uris(plan: &FetchPlan<'_>, out: &mut Out<'_>) -> Result<Selection, ServeError> {
    let FetchPlan { repository, request, .. } = plan;
    let (objects, settings) = (&repository.objects, &repository.settings);
    let mut pulse = before_pack(repository, request, out);
    let mut selection = plan.select(&mut pulse).map_err(|error| broken(repository, error))?;
    let (packs, blobs) = (&settings.packfile_uris, &settings.blob_packfile_uris);
    let uris = elsewhere::leave_out(&mut selection, objects, packs, blobs, &request.packfile_uris)?;
    if !uris.is_empty() {
        let mut section = Section::begin("packfile-uris", request.sideband_all)?;
        uris.iter().try_for_each(|at| section.line(format_args!("{} {}", at.pack, at.uri)))?;
        out.sink.write_all(&section.delim())?;
    }
    Ok(selection)
}

/// A heartbeat until the pack begins, for clients that can receive one.
fn before_pack<'o>(repository: &Repository, request: &UploadRequest, out: &'o mut Out<'_>) -> Heartbeat<'o> {
    Heartbeat::before_pack(out.sink, request.sideband_all, pace(repository, request), &Instant::now)
}

fn pace(repository: &Repository, request: &UploadRequest) -> Pace {
    Pace { keep_alive_s: repository.settings.upload_keep_alive_s, progress: !request.no_progress }
}

/// Prepares the request's filter, if the owner allows it.
fn admit(
    repository: &Repository,
    rule: Rule,
    request: &UploadRequest,
    out: &mut Out<'_>,
) -> Result<Option<Filter>, ServeError> {
    let Some(spec) = &request.filter else { return Ok(None) };
    out.summary.filter = Some(spec.name());
    filter::admit(repository, rule, spec, out.sink).map(Some)
}

fn note(request: &UploadRequest, round: &Round, out: &mut Out<'_>) {
    out.summary.wants = (request.wants.len() + request.want_refs.len()) as u64;
    out.summary.haves = round.haves.len() as u64;
}

/// A summary of the fetch in the words of git's trace2.
fn fetch_info(request: &UploadRequest, round: &Round) -> serde_json::Value {
    let (depth, relative, since, not) = match &request.depth {
        Depth::Unchanged => (0, false, false, 0),
        Depth::Commits { count, relative } => (count.get(), *relative, false, 0),
        Depth::Endless => (ENDLESS, false, false, 0),
        Depth::Revisions { since, not } => (0, false, since.is_some(), not.len()),
    };
    serde_json::json!({
        "haves": round.haves.len(),
        "wants": request.wants.len() + request.want_refs.len(),
        "want-refs": request.want_refs.len(),
        "depth": depth,
        "shallows": request.shallow.len(),
        "deepen-since": since,
        "deepen-not": not,
        "deepen-relative": relative,
        "filter": request.filter.as_ref().map(FilterSpec::name),
    })
}

fn append(acks: &Acks, answer: &mut Vec<u8>) -> std::io::Result<()> {
    acks.lines.iter().try_for_each(|ack| pktline::text(answer, format_args!("{ack}\n")))
}

/// Selects the objects, unless `chosen` holds them, and sends the pack. From here on an error is reported on band 3, or
/// by a pack that ends too early (PO-16).
fn send_pack(plan: &FetchPlan<'_>, chosen: Option<&Selection>, out: &mut Out<'_>) -> Result<(), ServeError> {
    let FetchPlan { repository, request, .. } = plan;
    *out.channel = match request.bands {
        Some(_) => ErrorChannel::Band3,
        None => ErrorChannel::Silence,
    };
    let mut heartbeat = Heartbeat::new(out.sink, request.bands, pace(repository, request), &Instant::now);
    let (stats, role) = pack(plan, chosen, &mut heartbeat).map_err(|error| broken(repository, error))?;
    out.summary.objects = u64::from(stats.objects);
    out.summary.reused = u64::from(stats.reused) + u64::from(stats.pack_reused);
    out.summary.deltas = u64::from(stats.deltas);
    out.summary.cache = role.map(Role::as_str);
    if let Some(role) = role {
        repository.context.trace.data("artifacts", "cache", role.as_str());
    }
    heartbeat.finish()?;
    Ok(())
}

/// Why a pack cannot be completed. In a partial clone a missing object is not damage: the client is told which one is
/// not here.
fn broken(repository: &Repository, error: anyhow::Error) -> ServeError {
    if let Some(too_many) = error.downcast_ref::<TooManyPaths>() {
        return ServeError::Refused(format!("upload-pack: {too_many}"));
    }
    if let Some(differs) = error.downcast_ref::<Differs>() {
        return ServeError::Refused(format!("upload-pack: {differs}"));
    }
    match error.downcast_ref::<Broken>() {
        Some(Broken { id, kind, cause: None }) if repository.settings.is_partial_clone() => {
            // The first words are git's.
            let text = format!("lazy fetching disabled; {kind} {id} is not here: this repository is a partial clone");
            ServeError::Refused(format!("upload-pack: {text}"))
        }
        _ => ServeError::aborted(error),
    }
}

/// Sends the pack of a plan, from wherever it comes.
fn pack(
    plan: &FetchPlan<'_>,
    chosen: Option<&Selection>,
    heartbeat: &mut Heartbeat<'_>,
) -> anyhow::Result<(PackStats, Option<Role>)> {
    let repository = plan.repository;
    let mut held = HeldBack::new(heartbeat);
    if let Some(command) = &repository.settings.pack_objects_hook {
        let FetchPlan { request, wants, common, .. } = plan;
        let order = Order { request, ends: plan.boundary.ends(repository), wants, common };
        let stats = pack_hook::make(repository, command.as_ref(), &order, &mut held)?;
        held.release()?;
        return Ok((stats, None));
    }
    let (stats, role) = pack_cache::send(plan, chosen, &mut held)?;
    held.end()?;
    held.total(&stats)?;
    held.release()?;
    Ok((stats, role))
}

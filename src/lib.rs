//! Git over HTTP for repository tokens: the library behind the executable `artifacts-http-backend`.
//!
//! [`serve`] handles a whole request and reads top to bottom. The modules are listed from the bottom layer up; each
//! uses only its own layer and those below (tests/tidy.rs enforces the order).
//!
//! An ID in a comment, such as (HB-16), is a behaviour of C git: docs/compatibility.md has a row for each.

#[cfg(not(target_os = "linux"))]
compile_error!("this program needs Linux");

// Leaves: usable everywhere.
pub mod audit;
pub mod cache;
pub mod calendar;
pub mod children;
pub mod durable;
pub mod heap;
pub mod hex;
pub mod journal;
pub mod listing;
pub mod number;
pub mod stream;
pub mod trace;
// L0: framing.
pub mod pktline;
// L1: protocol messages.
pub mod protocol;
// L2: what credentials prove.
pub mod auth;
// L3: objects on disk, and refs.
pub mod odb;
pub mod refs;
// L4: one repository, opened for one request.
pub mod repo;
// L5: which objects go into a pack, and where their bytes come from.
pub mod pack;
// L6: one file per operation git asks for; maintenance, which runs on its own.
pub mod maintenance;
pub mod service;
// L7: HTTP without sockets; access decisions; error reporting.
pub mod access;
pub mod http;
mod tell;
// L8: the edges.
pub mod edge;

pub mod cgi;
pub mod cli;
pub mod pipe;

#[cfg(test)]
pub(crate) mod testing;

use crate::access::Rules;
use crate::audit::Summary;
use crate::auth::{Claim, TokenStore};
use crate::http::body::DrainBudget;
use crate::http::{Exchange, Reject, Request, Route, Target};
use crate::protocol::Limits;
use crate::repo::{AccessMode, Repository, create::RepositoryName, locate};
use crate::service::{Operation, Out, Service};
use bstr::ByteSlice;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Instant;

/// One installation: the operator's choices for all requests.
#[derive(Debug)]
pub struct Site {
    /// The directory of the repositories; `None` in `webserver` mode when only PATH_TRANSLATED is set.
    pub root: Option<PathBuf>,
    /// The token store.
    pub tokens: TokenStore,
    /// Further rules for access decisions.
    pub rules: Rules,
    /// The limits of every request.
    pub limits: Limits,
}

/// Serves one HTTP request: stations 1 to 10 of docs/ARCHITECTURE.md, top to bottom.
///
/// Takes what the edge has read, and both ends; returns the summary, from which the caller writes the audit line, and
/// whether the answer is complete. `operator` gets each line meant for the operator before the client has the whole
/// answer, because some servers stop reading standard error once it is complete. The repository's opened objects are
/// never released: the process is expected to end with its request.
pub fn serve(
    request: Result<Request, Reject>,
    mut exchange: Exchange<'_>,
    site: &Site,
    operator: &mut dyn FnMut(&str),
) -> (Summary, bool) {
    let start = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| answer(request?, site, &mut exchange)))
        .unwrap_or_else(|panic| Err(tell::panicked(&*panic).into()));
    let is_whole = outcome.is_ok();
    let mut is_said = false;
    let mut operator = |line: &str| {
        is_said = true;
        operator(line);
    };
    match outcome {
        Ok(()) => tell::of_faults(&exchange.summary, &mut operator),
        Err(failure) => tell::tell(failure, &mut exchange, &mut operator),
    }
    let Exchange { body, mut response, mut summary, .. } = exchange;
    tell::warn(&summary, &mut operator);
    if is_said {
        response.hold_the_server();
    }
    if response.end().is_err() && summary.outcome.is_empty() {
        summary.outcome = "aborted";
    }
    if summary.outcome.is_empty() {
        summary.outcome = "ok";
    }
    summary.status = response.status_sent();
    summary.bytes_in = body.arrived();
    summary.bytes_out = response.bytes();
    summary.ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let is_complete = is_whole || summary.outcome != "error" || summary.status != 200;
    (summary, is_complete)
}

fn answer(mut request: Request, site: &Site, exchange: &mut Exchange<'_>) -> Result<(), tell::Failure> {
    if request.method == http::Method::Head {
        exchange.response.without_body();
    }
    if request.not_behind_nginx {
        exchange.response.not_behind_nginx();
    }
    let route = Route::resolve(&request)?;
    let name = route.repository.trim_start_with(|char| char == '/');
    exchange.summary.repository = Some(name.to_str_lossy().into_owned());
    let (claim, place) = find(&route, &request, site)?;
    exchange.summary.token = claim.record().map(str::to_owned);
    let (grant, here) = access::decide(&route, claim, place, &request, site.rules)?;
    exchange.body.drain_up_to(DrainBudget::granted(&site.limits));
    if route.target == Target::Service(Operation::Serve(Service::ReceivePack)) {
        request.context.act_as(&grant);
    }
    exchange.summary.scope = Some(grant.scope().as_str());
    request.context.limit_as(&here.settings);
    let repository = Repository::open(*here, grant, request.context);
    let outcome = respond(&route, (&request.method, &request.conditions), &repository, exchange);
    exchange.summary.warnings = repository.objects.take_warnings();
    repository.leave();
    outcome
}

/// Runs stations 7 to 10.
fn respond(
    route: &Route,
    asked: (&http::Method, &http::Conditions),
    repository: &Repository,
    exchange: &mut Exchange<'_>,
) -> Result<(), tell::Failure> {
    let Exchange { body, response, channel, summary } = exchange;
    let operation = match &route.target {
        Target::Stored(file) => return Ok(http::dumb::answer(file, asked, repository, response, summary)?),
        Target::Service(operation) => operation,
    };
    let media = match operation {
        Operation::Advertise(service) => format!("application/x-{}-advertisement", service.name()),
        Operation::Serve(service) => format!("application/x-{}-result", service.name()),
    };
    response.describe(&media, http::response::Caching::No, true);
    if *operation == Operation::Serve(Service::UploadPack) {
        body.limit(repository.context.limits.request_bytes, repository.context.limits.inflated_bytes);
    }
    Ok(service::run(operation, repository, body, &mut Out { sink: response, channel, summary })?)
}

/// Stations 3 and 4: what the credentials prove for this repository name, and where the repository is.
fn find(route: &Route, request: &Request, site: &Site) -> Result<(Claim, locate::Place), Reject> {
    let context = &request.context;
    let search = locate::Search {
        mode: context.mode,
        config: &context.config,
        object_directory: context.object_directory.as_deref(),
        check_owner: true,
        strict: false,
    };
    match (context.mode, &request.path, &site.root) {
        (AccessMode::Tokens, http::request::RequestPath::Info(_), Some(root)) => {
            let directory = route.repository.strip_prefix(b"/").and_then(|directory| directory.to_str().ok());
            let name = directory.and_then(|directory| RepositoryName::from_directory(directory).ok());
            let Some(name) = name else {
                return Err(Reject::new(
                    404,
                    "This path names no repository: a URL's path is /<namespace>/<name>.git, of letters, digits, '.', '_' and '-'.",
                ));
            };
            let claim = site.tokens.claim(name.as_str(), &request.credentials, context.now);
            let place = match claim {
                // The request is refused in any case. Without a look-up the response time cannot reveal whether the
                // repository exists.
                Claim::Unusable { .. } => locate::Place::Absent,
                Claim::Live(_) | Claim::Nothing => locate::by_name(root, name.as_str(), &search),
            };
            Ok((claim, place))
        }
        (_, http::request::RequestPath::Info(_), Some(root)) => {
            let below = route.repository.trim_start_with(|char| char == '/');
            Ok((Claim::Nothing, locate::by_path(&root.join(locate::path_of(below.as_bstr())), &search)))
        }
        (_, _, _) => Ok((Claim::Nothing, locate::by_path(locate::path_of(route.repository.as_bstr()), &search))),
    }
}

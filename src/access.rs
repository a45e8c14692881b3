//! Access decisions, for both authentication modes.
//!
//! In: what the route needs, what the credentials proved, where the name led. Out: a [`Grant`], or a refusal with its
//! HTTP status. Nothing is looked up here: the caller hands in everything that is compared.

use crate::auth::{Claim, Grant, Scope, TokenRecord, Why};
use crate::http::request::{Reject, Request};
use crate::http::route::{Route, Target};
use crate::repo::AccessMode;
use crate::repo::locate::{Here, Place};
use crate::service::{Operation, Service};
use bstr::ByteSlice;

/// The parts of the site's configuration that decide on access.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// `GIT_HTTP_EXPORT_ALL` is set, even if empty (HB-19).
    pub export_all: bool,
}

/// Decides whether the request may go on. On success the place is handed on, still unopened.
///
/// # Errors
/// 401, 403, 404, 415, 500 or 503, see HB-16 to HB-25.
pub fn decide(
    route: &Route,
    claim: Claim,
    place: Place,
    request: &Request,
    rules: Rules,
) -> Result<(Grant, Box<Here>), Reject> {
    let decided = match request.context.mode {
        AccessMode::Tokens => by_token(route, claim, place, request)?,
        AccessMode::WebServer | AccessMode::Pipe => by_web_server(route, place, request, rules)?,
    };
    if let Some(name) = &route.unknown_service {
        return Err(Reject::new(403, "This service is not offered: there are git-upload-pack and git-receive-pack.")
            .detail(format!("Unsupported service: '{}'", name.escape_ascii())));
    }
    service_enabled(route, &decided.1, request)?;
    content_type(route, request)?;
    Ok(decided)
}

/// Grants what a service over pipes needs: there the operating system has already decided, as for any program a user
/// runs.
pub fn local_user(service: Service) -> Grant {
    let scope = match service {
        Service::UploadPack => Scope::Read,
        Service::ReceivePack => Scope::Write,
    };
    Grant::new(scope, None)
}

fn by_token(route: &Route, claim: Claim, place: Place, request: &Request) -> Result<(Grant, Box<Here>), Reject> {
    let record = match claim {
        Claim::Live(record) => record,
        Claim::Nothing => {
            return match place {
                Place::Here(here) if here.settings.anonymous_read && route.scope == Scope::Read => {
                    Ok((Grant::new(Scope::Read, None), here))
                }
                Place::Here(_) | Place::Absent => Err(without_token()),
                // The repository might allow anonymous reads. The client gets the usual answer; the operator learns why
                // nobody can read it.
                Place::Unusable(error) => Err(without_token()
                    .detail(format!("no Authorization arrived, and the repository cannot be opened: {error:#}"))),
            };
        }
        Claim::Unusable { why, basic, record } => return Err(unusable(why, basic, record.as_deref())),
    };
    let here = match place {
        Place::Here(here) if belongs(&record, &here) => here,
        // The repository was deleted and created anew under the same name: tokens of the old one are not valid for it.
        Place::Here(_) => return Err(unusable(Why::Unknown, carried_as_basic(request), Some(&record.id))),
        Place::Absent => {
            return Err(Reject::new(404, "The token is good, but there is no such repository: check the URL's path.")
                .detail("not a git repository, though a live token names it"));
        }
        Place::Unusable(error) => return Err(cannot_open(&error)),
    };
    if route.scope > record.scope {
        return Err(Reject::new(403, "This token may read only: a push needs one with the scope \"write\".")
            .detail(format!("token {} has the scope read", record.id)));
    }
    if route.scope == Scope::Write && here.settings.read_only {
        return Err(Reject::new(403, "This repository is read-only: pushes are switched off.")
            .detail("artifacts.readOnly is true"));
    }
    Ok((Grant::new(record.scope, Some(record.id)), here))
}

fn belongs(record: &TokenRecord, here: &Here) -> bool {
    let id = here.settings.artifacts_id.as_ref().and_then(|id| id.to_str().ok());
    record.matches(id)
}

fn carried_as_basic(request: &Request) -> bool {
    matches!(request.credentials, crate::auth::Credentials::Token { presented: crate::auth::Presented::Basic, .. })
}

fn without_token() -> Reject {
    Reject::new(
        401,
        "This repository needs a token. Send it as the password, with any user name, or as \"Authorization: Bearer <token>\".",
    )
    .detail(
        "no Authorization arrived, as with git's first request; where clients do send one, the web server keeps it back (Apache: CGIPassAuth On; nginx: \
         fastcgi_param HTTP_AUTHORIZATION must not be emptied)",
    )
    .header("WWW-Authenticate", "Basic realm=\"artifacts\"")
}

/// Refuses an unusable credential: 401 for Basic, so that git asks again and forgets a stored secret; 403 for Bearer,
/// because on a 401 git would ask for a user name. Only the operator learns which `record` it was.
fn unusable(why: Why, basic: bool, record: Option<&str>) -> Reject {
    let text = match &why {
        Why::Malformed => {
            "This is no token: send one as \"Authorization: Bearer art_v1_...\", or as the password of Basic."
        }
        Why::Unknown => "This token is not valid for this repository: it is unknown, or was made for another one.",
        Why::Expired(_) => "This token has expired: ask for a new one.",
        Why::Revoked => "This token was revoked: ask for a new one.",
        Why::TwoCredentials => "Two credentials were sent: send one Authorization only.",
        Why::OtherScheme => "This way of authorization is not understood: use Bearer or Basic.",
        Why::Store(error) => {
            return Reject::new(503, "Tokens cannot be checked at the moment: try again later.")
                .detail(format!("the token store cannot be read: {error:#}"));
        }
    };
    let asks_again = basic && !matches!(why, Why::TwoCredentials | Why::OtherScheme);
    let reject = if asks_again {
        Reject::new(401, text).header("WWW-Authenticate", "Basic realm=\"artifacts\"")
    } else {
        Reject::new(403, text)
    };
    match record {
        Some(record) => reject.detail(format!("token {record}: {text}")),
        None => reject,
    }
}

fn cannot_open(error: &anyhow::Error) -> Reject {
    Reject::new(500, "The server cannot open this repository; its operator finds the reason in the web server's log.")
        .detail(format!("{error:#}"))
}

fn by_web_server(route: &Route, place: Place, request: &Request, rules: Rules) -> Result<(Grant, Box<Here>), Reject> {
    let path = request.path.bytes().escape_ascii();
    let here = match place {
        Place::Here(here) => here,
        Place::Absent => {
            return Err(
                Reject::new(404, "There is no such repository.").detail(format!("Not a git repository: '{path}'"))
            );
        }
        Place::Unusable(error) => return Err(cannot_open(&error)),
    };
    if !rules.export_all && !here.export_ok {
        return Err(Reject::new(404, "There is no such repository.").detail(format!(
            "Repository not exported: '{path}' (set GIT_HTTP_EXPORT_ALL, or create git-daemon-export-ok in it)"
        )));
    }
    Ok((Grant::new(route.scope, None), here))
}

/// Checks http.uploadpack, http.receivepack and http.getanyfile (EN-05, EN-06, DU-01).
fn service_enabled(route: &Route, here: &Here, request: &Request) -> Result<(), Reject> {
    let settings = &here.settings;
    let tokens = request.context.mode == AccessMode::Tokens;
    let service = match route.target {
        Target::Service(operation) => Some(operation.service()),
        Target::Stored(_) => None,
    };
    let (enabled, text, key) = match service {
        Some(Service::UploadPack) => (
            settings.http_uploadpack.unwrap_or(true),
            "Fetches are switched off for this repository.",
            "http.uploadpack",
        ),
        Some(Service::ReceivePack) => {
            let authenticated = tokens || request.remote_user.as_ref().is_some_and(|user| !user.is_empty());
            let text = if settings.http_receivepack.is_none() && !authenticated {
                "Pushes need a user whom the web server has authenticated."
            } else {
                "Pushes are switched off for this repository."
            };
            (settings.http_receivepack.unwrap_or(authenticated), text, "http.receivepack")
        }
        None => (
            settings.http_getanyfile.unwrap_or(!tokens),
            "Stored files are not served here: use a git that speaks the smart protocol (1.6.6 or newer).",
            "http.getanyfile",
        ),
    };
    if enabled {
        return Ok(());
    }
    Err(Reject::new(403, text).detail(format!("Service not enabled: {key}")))
}

/// Checks the Content-Type, which must match as a whole string (HD-05, HD-06).
fn content_type(route: &Route, request: &Request) -> Result<(), Reject> {
    let Target::Service(Operation::Serve(service)) = route.target else { return Ok(()) };
    let wanted = format!("application/x-{}-request", service.name());
    let received = request.content_type.as_ref().map(|media| media.as_bytes()).unwrap_or_default();
    if received == wanted.as_bytes() {
        return Ok(());
    }
    let shown: String = received.escape_ascii().to_string().chars().take(200).collect();
    Err(Reject::new(415, format!("Expected POST with Content-Type '{wanted}', but received '{shown}' instead.")))
}

//! Filters of a request: whether they are allowed (FI-04 to FI-07), and what they mean in this repository.
//!
//! In: a [`FilterSpec`]. Out: a [`Filter`] for the walk, or a refusal. No objects are read but those that a
//! filter's expression names.

use super::ServeError;
use super::wants::{self, Rule};
use crate::odb::closure::{Filter, Patterns};
use crate::protocol::filter::FilterSpec;
use crate::protocol::shown;
use crate::repo::{Repository, revision};
use crate::stream::Pulse;
use bstr::BStr;
use gix_hash::ObjectId;
use gix_object::Kind;

/// The most bytes of pattern files that one request may name. git takes 100 MiB of each, but every path is compared
/// with every line.
const PATTERN_BYTES_MAX: u64 = 4 << 20;

/// Prepares a filter, if it is allowed.
///
/// # Errors
/// A filter the owner forbids, or an expression that does not name a pattern file this client may read; what reading
/// reports.
pub fn admit(
    repository: &Repository,
    rule: Rule,
    spec: &FilterSpec,
    pulse: &mut dyn Pulse,
) -> Result<Filter, ServeError> {
    check(repository, spec)?;
    let mut filter = Filter::default();
    let mut room = PATTERN_BYTES_MAX;
    add(repository, rule, spec, &mut filter, &mut room, pulse)?;
    Ok(filter)
}

/// A combination must be allowed itself, and so must each of its parts.
fn check(repository: &Repository, spec: &FilterSpec) -> Result<(), ServeError> {
    let rules = &repository.settings.filters;
    if !rules.allows(spec.name()) {
        return Err(ServeError::Refused(format!("filter '{}' not supported", spec.name())));
    }
    match spec {
        FilterSpec::Tree(depth) if *depth > rules.tree_depth_max => {
            let most = rules.tree_depth_max;
            Err(ServeError::Refused(format!("tree filter allows max depth {most}, but got {depth}")))
        }
        FilterSpec::Combine(parts) => parts.iter().try_for_each(|part| check(repository, part)),
        FilterSpec::Tree(_)
        | FilterSpec::BlobNone
        | FilterSpec::BlobLimit(_)
        | FilterSpec::ObjectType(_)
        | FilterSpec::SparseOid(_) => Ok(()),
    }
}

fn add(
    repository: &Repository,
    rule: Rule,
    spec: &FilterSpec,
    filter: &mut Filter,
    room: &mut u64,
    pulse: &mut dyn Pulse,
) -> Result<(), ServeError> {
    match spec {
        FilterSpec::BlobNone => filter.without_blobs(),
        FilterSpec::BlobLimit(size) => filter.limit_blobs(*size),
        FilterSpec::Tree(depth) => filter.limit_depth(*depth),
        FilterSpec::ObjectType(kind) => filter.only(*kind),
        FilterSpec::SparseOid(expression) => {
            let (blob, patterns) = patterns(repository, rule, expression.as_ref(), room, pulse)?;
            filter.read_from(blob);
            filter.only_at(patterns)?;
        }
        FilterSpec::Combine(parts) => {
            for part in parts {
                add(repository, rule, part, filter, room, pulse)?;
            }
        }
    }
    Ok(())
}

/// Returns the blob that an expression names, and the patterns in it. A client that names an object by its id must be
/// allowed to have it; what a visible ref leads to is open to everybody.
fn patterns(
    repository: &Repository,
    rule: Rule,
    expression: &BStr,
    room: &mut u64,
    pulse: &mut dyn Pulse,
) -> Result<(ObjectId, Patterns), ServeError> {
    let unknown = || ServeError::Refused(format!("unable to access sparse blob in '{}'", shown(expression)));
    let named = revision::resolve(repository, expression)?.ok_or_else(unknown)?;
    match (rule, named.given) {
        (Rule::Any | Rule::Git { .. }, _) | (_, None) => {}
        (Rule::Commits | Rule::Reachable | Rule::Advertised, Some(given)) => {
            wants::check(repository, rule, &[given], pulse).map_err(|error| match error {
                ServeError::Refused(_) => unknown(),
                other => other,
            })?;
        }
    }
    let unusable = || ServeError::Refused(format!("unable to parse sparse filter data in {}", named.id));
    match repository.objects.header(&named.id)? {
        Some(header) if header.kind == Kind::Blob && header.size <= *room => *room -= header.size,
        Some(_) => return Err(unusable()),
        None => return Err(unknown()),
    }
    let mut text = Vec::new();
    repository.objects.find(&named.id, &mut text)?.ok_or_else(unknown)?;
    Ok((named.id, Patterns::parse(&text)))
}

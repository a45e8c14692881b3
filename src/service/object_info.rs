//! object-info (gitprotocol-v2, object-info): sizes of objects, without the objects.
//!
//! In: object names. Out: a line for each. An object this client may not have looks exactly like one that is missing.
//! As in all of upload-pack, refs/replace is not applied (V2-22).

use super::command::Arguments;
use super::list::List;
use super::wants::{self, Rule};
use super::{Out, ServeError};
use crate::hex;
use crate::protocol::Version;
use crate::protocol::object_info::ObjectInfoRequest;
use crate::repo::Repository;
use gix_hash::ObjectId;
use std::collections::HashSet;

/// Answers `command=object-info`.
///
/// # Errors
/// Arguments that cannot be served; when objects cannot be read or the client has gone.
pub fn serve(repository: &Repository, arguments: Arguments<'_>, out: &mut Out<'_>) -> Result<(), ServeError> {
    out.summary.operation = Some("object-info");
    let (hash, limits) = (repository.hash(), &repository.context.limits);
    let request = arguments.parse(|reader| ObjectInfoRequest::parse(reader, hash, limits))?;
    out.summary.wants = request.objects.len() as u64;
    let unknown = unknown(repository, &request, out)?;
    let mut list = List::new(out);
    if request.size && !request.objects.is_empty() {
        list.text(format_args!("size"))?;
    }
    for id in &request.objects {
        let header = if unknown.contains(id) { None } else { repository.objects.header(id)? };
        list.add(|line| {
            hex::push(line, id);
            match header {
                None => line.push(b' '),
                Some(header) if request.size => line.extend_from_slice(format!(" {}", header.size).as_bytes()),
                Some(_) => {}
            }
        })?;
    }
    Ok(list.end(repository)?)
}

/// The objects that are missing, or that this client may not know of.
fn unknown(
    repository: &Repository,
    request: &ObjectInfoRequest,
    out: &mut Out<'_>,
) -> Result<HashSet<ObjectId>, ServeError> {
    let (mut unknown, mut present) = (HashSet::new(), Vec::new());
    for id in &request.objects {
        if repository.objects.contains(id)? {
            present.push(*id);
        } else {
            unknown.insert(*id);
        }
    }
    unknown.extend(wants::refused(repository, Rule::of(repository, Version::V2), &present, out.sink)?);
    Ok(unknown)
}

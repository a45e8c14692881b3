//! Objects that clients can download elsewhere: packs whose URIs replace their objects (gitprotocol-v2, packfile-uris).
//!
//! In: a selection, the URIs that the owner configured, the protocols that a client accepts. Out: the selection without
//! the objects at those URIs, and the URIs to send. No URI is ever fetched: the owner is responsible for what is there.

use super::select::Selection;
use crate::odb::{Objects, Pack};
use crate::repo::settings::{BlobUri, PackUri};
use anyhow::Result;
use bstr::BString;
use gix_hash::ObjectId;
use std::collections::HashSet;
use std::sync::Arc;

/// Removes from a selection what can be downloaded elsewhere: first the objects of whole packs, each pack only if all
/// of its objects are selected and the pack still exists here, so that its content is known; then single blobs. Returns
/// the URIs to send, each once.
///
/// # Errors
/// When packs cannot be read.
pub fn leave_out<'u>(
    selection: &mut Selection,
    objects: &Objects,
    packs: &'u [PackUri],
    blobs: &'u [BlobUri],
    protocols: &[BString],
) -> Result<Vec<&'u PackUri>> {
    let taken = |at: &&PackUri| protocols.iter().any(|protocol| is_of(&at.uri, protocol));
    let mut told: Vec<&PackUri> = Vec::new();
    let wanted: Vec<&PackUri> = packs.iter().filter(taken).collect();
    for (at, pack) in known(objects, &wanted)? {
        if whole(selection, objects, &pack) {
            told.push(at);
        }
    }
    for BlobUri { blob, at } in blobs.iter().filter(|blob| taken(&&blob.at)) {
        if selection.remove(objects, blob) && !told.contains(&at) {
            told.push(at);
        }
    }
    Ok(told)
}

/// Whether a URI begins with a protocol and a colon.
fn is_of(uri: &[u8], protocol: &[u8]) -> bool {
    uri.strip_prefix(protocol).is_some_and(|rest| rest.starts_with(b":"))
}

/// The configured packs that exist here, in the order of the configuration; a pack is identified by its trailer.
fn known<'u>(objects: &Objects, wanted: &[&'u PackUri]) -> Result<Vec<(&'u PackUri, Arc<Pack>)>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut known = Vec::new();
    for id in objects.packs(false)? {
        let pack = objects.pack(id);
        let configured = wanted.iter().enumerate().find(|(_, at)| *at.pack == *pack.checksum());
        known.extend(configured.map(|(order, at)| (order, *at, pack)));
    }
    known.sort_by_key(|(order, ..)| *order);
    Ok(known.into_iter().map(|(_, at, pack)| (at, pack)).collect())
}

/// Removes a whole pack from a selection; does nothing if any of its objects is not selected.
fn whole(selection: &mut Selection, objects: &Objects, pack: &Pack) -> bool {
    if pack.is_empty() || pack.len() > selection.count {
        return false;
    }
    let strays: HashSet<ObjectId> = selection.strays.iter().map(|stray| stray.id).collect();
    let ids = || (0..pack.len()).map(|position| pack.id_at(position));
    if !ids().all(|id| selection.is_packed(objects, id) || strays.contains(id)) {
        return false;
    }
    for id in ids() {
        selection.remove_packed(objects, id);
    }
    if !strays.is_empty() {
        let before = selection.strays.len();
        selection.strays.retain(|stray| pack.position(&stray.id).is_none());
        selection.count -= u32::try_from(before - selection.strays.len()).expect("there were not more than the count");
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_a_protocol_up_to_its_colon() {
        let check =
            |uri: &str, protocol: &str, expected| assert_eq!(is_of(uri.as_bytes(), protocol.as_bytes()), expected);
        check("https://host/x", "https", true);
        check("https://host/x", "http", false);
        check("http://host/x", "http", true);
        check("http", "http", false);
        check(":x", "", true);
    }
}

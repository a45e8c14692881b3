//! Promised objects: what a partial clone may lack.
//!
//! In: names of missing objects. Out: those that no pack of a promisor remote mentions. Such packs are marked by a file of
//! their name that ends in `.promisor` (gitformat-pack, partial-clone); whatever their objects name is promised. All commits, trees
//! and tags in them may be read for that: it is asked only when something is missing.

use super::ids::IdMap;
use super::{Objects, Pack, tag};
use crate::stream::Pulse;
use gix_hash::{ObjectId, oid};
use gix_object::{CommitRefIter, Kind, TreeRefIter};
use std::sync::Arc;

/// Takes out of `missing` what is promised.
///
/// # Errors
/// When a directory cannot be read, or the client has gone. What cannot be read in a pack promises nothing.
pub fn take_promised<V>(objects: &Objects, missing: &mut IdMap<V>, pulse: &mut dyn Pulse) -> anyhow::Result<()> {
    let mut content = Vec::new();
    for id in objects.packs(false)? {
        let pack = objects.pack(id);
        if !is_promisor(&pack) {
            continue;
        }
        for (done, position) in (0_u64..).zip(pack.by_offset().iter()) {
            if missing.is_empty() {
                return Ok(());
            }
            pulse.tick(done)?;
            let offset = pack.offset_at(position);
            let kind = match objects.header_packed(&pack, offset) {
                Ok(header) if header.kind != Kind::Blob => objects.find_in(&pack, offset, &mut content).ok(),
                Ok(_) | Err(_) => None,
            };
            if let Some(kind) = kind {
                for_each_name(kind, &content, objects.hash_kind(), &mut |id| {
                    missing.remove(id);
                });
            }
        }
    }
    Ok(())
}

fn is_promisor(pack: &Arc<Pack>) -> bool {
    pack.path().with_extension("promisor").exists()
}

/// The objects that an object names; gitlinks are none.
fn for_each_name(kind: Kind, content: &[u8], hash: gix_hash::Kind, each: &mut dyn FnMut(&oid)) {
    match kind {
        Kind::Commit => {
            let mut commit = CommitRefIter::from_bytes(content, hash);
            let tree: Option<ObjectId> = commit.tree_id().ok();
            tree.iter().for_each(|id| each(id));
            commit.parent_ids().for_each(|id| each(&id));
        }
        Kind::Tree => {
            let entries = TreeRefIter::from_bytes(content, hash).map_while(Result::ok);
            entries.filter(|entry| !entry.mode.is_commit()).for_each(|entry| each(entry.oid));
        }
        Kind::Tag => {
            if let Some((id, _)) = tag::target(content, hash) {
                each(&id);
            }
        }
        Kind::Blob => {}
    }
}

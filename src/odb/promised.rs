//! Promised objects, which a partial clone may lack.
//!
//! In: IDs of missing objects. Out: those that no promisor pack refers to. A pack is a promisor pack if there is a file
//! of the same name that ends in `.promisor` (gitformat-pack, partial-clone); every object named in it is promised.
//! This may read all commits, trees and tags of these packs, so it is only used when something is missing.

use super::ids::IdMap;
use super::{Objects, Pack, tag};
use crate::stream::Pulse;
use gix_hash::{ObjectId, oid};
use gix_object::{CommitRefIter, Kind, TreeRefIter};
use std::sync::Arc;

/// Removes promised objects from `missing`.
///
/// # Errors
/// When a directory cannot be read, or the client has gone. Objects in a pack that cannot be read promise nothing.
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

/// Calls `each` with the objects that an object names, except for gitlinks.
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

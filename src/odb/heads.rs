//! Reads the heads of commits in other threads while one thread walks history.
//!
//! In: IDs of commits that the walk will reach. Out: the heads it asks for, as far as they were read in time. Each
//! thread walks on its own, but not where another one has been, so threads that start at several ends of history meet
//! somewhere. The result of the walk does not depend on this: what a thread cannot read, the walk reads itself, and
//! reports the error.

use super::graph::CommitHead;
use super::ids::IdMap;
use super::{Objects, Opener, threads};
use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// The parts of a commit that a walk needs.
pub(super) struct Head {
    pub tree: ObjectId,
    pub time: i64,
    pub parents: Vec<ObjectId>,
}

/// Threads that read ahead. They end when this is dropped.
pub(super) struct HeadReaders {
    met: Arc<Met>,
    threads: Vec<JoinHandle<()>>,
}

/// Heads by commit ID. `None`: the head is being read, or was taken.
type Heads = IdMap<Option<Box<Head>>>;

/// The commits that any thread has met.
#[derive(Default)]
struct Met {
    heads: Mutex<Heads>,
    is_over: AtomicBool,
}

impl HeadReaders {
    /// Starts as many threads as the database allows besides the calling one, which will walk these commits from the
    /// last one on.
    pub(super) fn start(objects: &Objects, commits: &[ObjectId]) -> Option<Self> {
        let count = threads(objects.threads).saturating_sub(1);
        let part = commits.len().div_ceil(count.max(1));
        if count == 0 || part == 0 {
            return None;
        }
        let met = Arc::new(Met::default());
        let start = |commits: &[ObjectId]| {
            let (met, opener, pending) = (Arc::clone(&met), objects.opener(), commits.iter().rev().copied().collect());
            std::thread::Builder::new().spawn(move || met.read_all(&opener, pending)).ok()
        };
        let threads = commits.chunks(part).filter_map(start).collect();
        Some(HeadReaders { met, threads })
    }

    /// Takes the head of a commit if it was read. If not, no other thread will read it any more.
    pub(super) fn take(&self, id: &oid) -> Option<Box<Head>> {
        self.met.heads().entry(id.to_owned()).or_default().take()
    }
}

impl Drop for HeadReaders {
    fn drop(&mut self) {
        self.met.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has only read less.
            let _ = thread.join();
        }
    }
}

impl Met {
    fn heads(&self) -> MutexGuard<'_, Heads> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads these commits and everything they lead to, from the last one on, unless another thread has met it.
    fn read_all(&self, opener: &Opener, mut pending: Vec<ObjectId>) {
        let objects = opener.open();
        let mut content = Vec::new();
        while let Some(id) = pending.pop().filter(|_| !self.is_over.load(Ordering::Relaxed)) {
            let is_new = match self.heads().entry(id) {
                Entry::Occupied(_) => false,
                Entry::Vacant(place) => {
                    place.insert(None);
                    true
                }
            };
            if is_new && let Some(head) = read(&objects, &id, &mut content) {
                pending.extend_from_slice(&head.parents);
                self.heads().insert(id, Some(Box::new(head)));
            }
        }
    }
}

fn read(objects: &Objects, id: &oid, content: &mut Vec<u8>) -> Option<Head> {
    let kind = CommitHead::find(objects, id, content).ok()?;
    let head = CommitHead::parse(content, objects.hash_kind()).ok().filter(|_| kind == Some(Kind::Commit))?;
    Some(Head { tree: head.tree, time: head.time, parents: head.parents().collect() })
}

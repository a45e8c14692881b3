//! The second pass: resolves every delta whose base is in the pack, and names the results.
//!
//! In: the stored pack, and which entries are deltas on which. Out: names. Trees of deltas are resolved one by one, by
//! several threads if the pack is large; all of them share one memory budget. Nothing here reads bases outside the
//! pack.

use super::entries::{Layout, Names};
use super::examine::{ExamineSettings, Examiner};
use super::family::{Family, to_u32};
use super::scan::Deltas;
use super::store::Store;
use super::walk::Resolver;
use super::{Fault, ReceiveOptions};
use crate::odb::{Objects, threads};
use crate::stream::Pulse;
use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::time::Duration;

/// Packs with fewer deltas are resolved by the calling thread.
const THREADS_FROM_DELTAS: u32 = 2_000;
/// How many resolved objects a thread hands over at a time.
const BATCH_LEN: usize = 256;
/// The longest time between ticks while threads work.
const PULSE: Duration = Duration::from_millis(100);

/// The memory for contents that are kept because they will be needed again.
pub(super) struct Budget {
    pub limit: u64,
    pub held: AtomicU64,
    /// Larger contents are kept in files.
    pub content_max: u64,
    /// The largest base or result that any delta declares; anything larger is an error.
    pub object_max: u64,
}

/// The number of threads, and their shared budget.
pub(super) struct Threads {
    pub count: usize,
    pub budget: Budget,
}

impl Threads {
    /// Leaves each thread enough memory to resolve the worst delta; the rest is for keeping bases.
    pub fn for_pack(layout: &Layout, deltas: &Deltas, options: &ReceiveOptions<'_>, loose: bool) -> Self {
        let entries = u64::from(layout.len()) * Layout::bytes_per_entry(options.hash);
        let free = options.memory.saturating_sub(entries.saturating_mul(2));
        let content_max = options.content_max();
        // A base, a delta, and a result in a buffer that doubles; or the buffers for contents in files.
        let needed = (3 * deltas.object_max.min(content_max) + deltas.delta_max.min(content_max)).max(1 << 20);
        let mut count = 1;
        if !loose && deltas.count >= THREADS_FROM_DELTAS {
            // Only half of what would fit: where no base can be kept, each branch of a chain resolves the whole chain
            // again.
            count = threads(options.threads).min(usize::try_from(free / needed / 2).unwrap_or(usize::MAX)).max(1);
        }
        let limit = free.saturating_sub(needed.saturating_mul(count as u64));
        let object_max = deltas.object_max;
        Threads { count, budget: Budget { limit, held: AtomicU64::new(0), content_max, object_max } }
    }
}

/// A pack between the scan and the index.
#[derive(Clone, Copy)]
pub(super) struct Pack<'a> {
    pub store: &'a Store,
    pub layout: &'a Layout,
    pub family: &'a Family,
    pub budget: &'a Budget,
    pub hash: gix_hash::Kind,
}

/// An object at the root of a tree of deltas.
pub(super) struct Root {
    /// Its entry; [`OUTSIDE`] if it is not in the pack.
    pub entry: u32,
    /// Its kind, which all objects resolved from it share.
    pub kind: Kind,
    /// The deltas that refer to it by name, from [`Family::claim_children`].
    pub by_name: Range<u32>,
}

/// A position that no entry has, since a pack has fewer than 2^32.
pub(super) const OUTSIDE: u32 = u32::MAX;

/// The object that a delta has been resolved to.
struct Resolved {
    entry: u32,
    kind: Kind,
    id: ObjectId,
}

/// Resolves all deltas whose bases are in the pack; returns how many.
pub(super) fn resolve(
    pack: Pack<'_>,
    names: &mut Names,
    threads: usize,
    options: &ReceiveOptions<'_>,
    examiner: &mut Examiner<'_>,
    pulse: &mut dyn Pulse,
) -> Result<u32, Fault> {
    let mut roots = Vec::new();
    for entry in 0..pack.layout.len() {
        let Some(kind) = names.kind(entry) else { continue };
        let by_name = pack.family.claim_children(oid::from_bytes_unchecked(names.id(entry)));
        if !by_name.is_empty() || !pack.family.children(entry).is_empty() {
            roots.push(Root { entry, kind, by_name });
        }
    }
    if threads > 1 && roots.len() > 1 {
        return resolve_in_threads(pack, names, &roots, threads, options, examiner, pulse);
    }
    let mut resolver = Resolver::new();
    let mut resolved = 0;
    for root in &roots {
        resolver.tree(pack, root, None, examiner, &mut |entry, id| {
            names.set(entry, id, root.kind);
            resolved += 1;
            Ok(pulse.tick(u64::from(resolved))?)
        })?;
    }
    Ok(resolved)
}

/// Does the same with several threads, while this one collects the names and ticks. Of several faults it returns the
/// one that a single thread would have met first: trees are started in order, and only trees after a fault are left
/// unfinished.
fn resolve_in_threads(
    pack: Pack<'_>,
    names: &mut Names,
    roots: &[Root],
    threads: usize,
    options: &ReceiveOptions<'_>,
    examiner: &mut Examiner<'_>,
    pulse: &mut dyn Pulse,
) -> Result<u32, Fault> {
    let directories = options.objects.directories().map_err(|error| Fault::Ours(format!("{error:#}")))?;
    let (settings, memory) = (ExamineSettings::of(options), options.memory);
    let next = AtomicUsize::new(0);
    // Trees from this one on are no longer resolved.
    let end = AtomicUsize::new(roots.len());
    let mut resolved = 0_u32;
    let mut outcome: Result<(), Fault> = Ok(());
    let mut found = Vec::new();
    let mut faults: Vec<(usize, Fault)> = Vec::new();
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel::<Vec<Resolved>>(threads * 2);
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let (sender, directories, next, end) = (sender.clone(), directories.clone(), &next, &end);
                scope.spawn(move || {
                    // An open database serves only one thread.
                    let objects = Objects::new(pack.hash, directories);
                    objects.set_cache_bytes(memory / 32);
                    let mut examiner = Examiner::new(settings, &objects);
                    let worked = work(pack, roots, next, end, &mut examiner, &sender);
                    (worked, examiner.into_findings())
                })
            })
            .collect();
        drop(sender);
        loop {
            match receiver.recv_timeout(PULSE) {
                Ok(batch) => {
                    resolved += to_u32(batch.len());
                    for done in batch {
                        names.set(done.entry, &done.id, done.kind);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if outcome.is_ok()
                && let Err(error) = pulse.tick(u64::from(resolved))
            {
                end.store(0, Ordering::Relaxed);
                outcome = Err(error.into());
            }
        }
        for worker in workers {
            match worker.join() {
                Ok((worked, findings)) => {
                    found.push(findings);
                    faults.extend(worked.err());
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    let fault = faults.into_iter().min_by_key(|(tree, _)| *tree);
    examiner.absorb(found, fault.as_ref().map_or(usize::MAX, |(tree, _)| *tree));
    outcome?;
    fault.map_or(Ok(resolved), |(_, fault)| Err(fault))
}

/// The work of one thread: takes trees until there are none left, or an earlier one has a fault. A fault is returned
/// with its tree.
fn work(
    pack: Pack<'_>,
    roots: &[Root],
    next: &AtomicUsize,
    end: &AtomicUsize,
    examiner: &mut Examiner<'_>,
    sender: &SyncSender<Vec<Resolved>>,
) -> Result<(), (usize, Fault)> {
    // The collector outlives the workers, so sending fails only if it panics, and then the result is not needed.
    let send = |batch| sender.send(batch).map_err(|_| Fault::new("resolving was given up"));
    let mut resolver = Resolver::new();
    let mut batch = Vec::with_capacity(BATCH_LEN);
    loop {
        let tree = next.fetch_add(1, Ordering::Relaxed);
        if tree >= end.load(Ordering::Relaxed) {
            break;
        }
        let Some(root) = roots.get(tree) else { break };
        examiner.begin_tree(tree);
        let mut stopped = false;
        let walked = resolver.tree(pack, root, None, examiner, &mut |entry, id| {
            batch.push(Resolved { entry, kind: root.kind, id: *id });
            if batch.len() == BATCH_LEN {
                send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH_LEN)))?;
                stopped = tree >= end.load(Ordering::Relaxed);
            }
            if stopped { Err(Fault::new("resolving was given up")) } else { Ok(()) }
        });
        match walked {
            // The thread that set `end` reports the fault.
            Err(_) if stopped => return Ok(()),
            Err(fault) => {
                end.fetch_min(tree, Ordering::Relaxed);
                return Err((tree, fault));
            }
            Ok(()) => {}
        }
    }
    send(batch).map_err(|fault| (usize::MAX, fault))
}

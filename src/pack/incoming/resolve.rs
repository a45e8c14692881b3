//! The second pass: every delta whose base is in the pack becomes an object with a name.
//!
//! In: the stored pack, who is a delta on whom. Out: names. Trees of deltas are given out one by one, to several threads
//! where the pack is large; all share one budget of memory.

use super::entries::{Layout, Names};
use super::examine::{Asked, Examiner};
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

/// Packs with less to do are resolved by the calling thread.
const THREADS_FROM_DELTAS: u32 = 2_000;
/// Resolved objects that a thread hands over at once.
const BATCH_LEN: usize = 256;
/// How often the pulse is felt while threads work.
const PULSE: Duration = Duration::from_millis(100);

/// The memory for contents that are kept because they will be needed again.
pub(super) struct Budget {
    pub limit: u64,
    pub held: AtomicU64,
    /// What is larger goes through files.
    pub content_max: u64,
    /// No base and no result is larger than its delta says.
    pub object_max: u64,
}

/// How many threads, and what they share.
pub(super) struct Threads {
    pub count: usize,
    pub budget: Budget,
}

impl Threads {
    /// Each thread must be able to resolve the worst delta; what memory is left holds bases.
    pub fn for_pack(layout: &Layout, deltas: &Deltas, options: &ReceiveOptions<'_>, loose: bool) -> Self {
        let entries = u64::from(layout.len()) * Layout::bytes_per_entry(options.hash);
        let free = options.memory.saturating_sub(entries.saturating_mul(2));
        let content_max = options.content_max();
        // A base, a delta, and a result in a buffer that doubles; buffers for what goes through files.
        let needed = (3 * deltas.object_max.min(content_max) + deltas.delta_max.min(content_max)).max(1 << 20);
        let mut count = 1;
        if !loose && deltas.count >= THREADS_FROM_DELTAS {
            // Half of it: where no base can be kept, each branch of a chain makes all of the chain again.
            count = threads(options.threads).min(usize::try_from(free / needed / 2).unwrap_or(usize::MAX)).max(1);
        }
        let limit = free.saturating_sub(needed.saturating_mul(count as u64));
        let object_max = deltas.object_max;
        Threads { count, budget: Budget { limit, held: AtomicU64::new(0), content_max, object_max } }
    }
}

/// A pack between scan and index.
#[derive(Clone, Copy)]
pub(super) struct Pack<'a> {
    pub store: &'a Store,
    pub layout: &'a Layout,
    pub family: &'a Family,
    pub budget: &'a Budget,
    pub hash: gix_hash::Kind,
}

/// An object with deltas on it.
pub(super) struct Root {
    /// Its entry; [`OUTSIDE`] where it is not in the pack.
    pub entry: u32,
    /// Its kind and that of all that come of it.
    pub kind: Kind,
    /// The deltas by name on it, as [`Family::take`] gave them.
    pub by_name: Range<u32>,
}

/// No entry has this position: a pack has fewer than 2^32.
pub(super) const OUTSIDE: u32 = u32::MAX;

/// What a resolved delta is.
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
        let by_name = pack.family.take(oid::from_bytes_unchecked(names.id(entry)));
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

/// The same with several threads; this one collects the names and feels the pulse. Of several faults the one is told that one
/// thread would have met first: trees are given out in order, and none is left unfinished but those behind a fault.
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
    let (asked, memory) = (Asked::of(options), options.memory);
    let next = AtomicUsize::new(0);
    // No tree from this one on is resolved any more.
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
                    // An open database serves one thread.
                    let objects = Objects::new(pack.hash, directories);
                    objects.set_cache_bytes(memory / 32);
                    let mut examiner = Examiner::new(asked, &objects);
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

/// One thread: takes the next tree until there is none, or there is a fault in an earlier one. A fault comes with its tree.
fn work(
    pack: Pack<'_>,
    roots: &[Root],
    next: &AtomicUsize,
    end: &AtomicUsize,
    examiner: &mut Examiner<'_>,
    sender: &SyncSender<Vec<Resolved>>,
) -> Result<(), (usize, Fault)> {
    // The collector outlives the workers, so that sending only fails when it panics; then nobody asks for the outcome.
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
            // Whoever said so has the fault.
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

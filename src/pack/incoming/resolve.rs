//! The second pass: every delta whose base is in the pack becomes an object with a name.
//!
//! In: the stored pack, who is a delta on whom. Out: names. Trees of deltas are walked depth first without recursion, small
//! subtrees first, so that few contents are alive at once; those beyond one budget for all threads are dropped and made
//! again from the pack when needed.

use super::entries::{Layout, Names};
use super::examine::Examiner;
use super::scan::Deltas;
use super::store::Store;
use super::{Fault, ReceiveOptions, bad_object, name_of};
use crate::odb::inflate::{Inflater, Stored};
use crate::odb::{Objects, delta};
use crate::stream::Pulse;
use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::time::Duration;

/// The deepest chain of deltas. git makes none deeper than 4095.
const DEPTH_MAX: usize = 10_000;
/// Packs with less to do are resolved by the calling thread.
const THREADS_FROM_DELTAS: u32 = 2_000;
const THREADS_MAX: usize = 4;
/// Resolved objects that a thread hands over at once.
const BATCH_LEN: usize = 256;
/// How often the pulse is felt while threads work.
const PULSE: Duration = Duration::from_millis(100);
/// Buffers up to this size are used again.
const SPARE_MAX: usize = 1 << 20;
const SPARES: usize = 8;
/// Buffers up to this size are not worth shrinking.
const SPARE_MIN: usize = 2 << 10;
/// Compressed bytes read at a time.
const READ_LEN: usize = 64 << 10;

/// Who is a delta on whom.
pub(super) struct Family {
    /// The children of entry `n` are `children[first[n]..first[n + 1]]`.
    first: Vec<u32>,
    children: Vec<u32>,
    by_name: ByName,
}

/// Deltas whose base is known by its name.
struct ByName {
    /// In the order of the bases' names.
    deltas: Vec<(ObjectId, u32)>,
    /// Where the deltas on the n-th base begin; one more than there are bases.
    groups: Vec<u32>,
    /// Whether the deltas on the n-th base have been given to a base: the same object may be in the pack twice.
    taken: Vec<AtomicBool>,
}

fn to_u32(value: usize) -> u32 {
    u32::try_from(value).expect("a pack has fewer than 2^32 entries")
}

impl Family {
    /// Sorts the deltas of a pack with `len` entries.
    pub fn new(len: u32, deltas: Deltas) -> Self {
        let mut first = vec![0_u32; len as usize + 1];
        for &(base, _) in &deltas.by_position {
            first[base as usize + 1] += 1;
        }
        for index in 1..first.len() {
            first[index] += first[index - 1];
        }
        let mut children = vec![0_u32; deltas.by_position.len()];
        let mut next = first.clone();
        for &(base, delta) in &deltas.by_position {
            let at = &mut next[base as usize];
            children[*at as usize] = delta;
            *at += 1;
        }
        drop(next);

        // Largest subtrees last: the base's content can be given up before the walk goes down into the last one, so that no
        // more contents are alive than the binary logarithm of the number of entries. Bases come before their deltas.
        let mut weights = vec![1_u32; len as usize];
        for &(base, delta) in deltas.by_position.iter().rev() {
            weights[base as usize] = weights[base as usize].saturating_add(weights[delta as usize]);
        }
        for index in 0..len as usize {
            let siblings = &mut children[first[index] as usize..first[index + 1] as usize];
            if siblings.len() > 1 {
                siblings.sort_by_key(|&child| weights[child as usize]);
            }
        }
        Family { first, children, by_name: ByName::new(deltas.by_name) }
    }

    /// The deltas by position on an entry; entries appended later have none.
    fn children(&self, index: u32) -> Range<u32> {
        match self.first.get(index as usize..index as usize + 2) {
            Some(&[start, end]) => start..end,
            _ => 0..0,
        }
    }

    /// The bases that nobody has offered so far, in the order of the first deltas on them.
    pub fn missing_bases(&self) -> Vec<ObjectId> {
        let by_name = &self.by_name;
        let mut missing: Vec<&(ObjectId, u32)> = by_name
            .groups
            .iter()
            .zip(&by_name.taken)
            .filter(|(_, taken)| !taken.load(Ordering::Relaxed))
            .map(|(&start, _)| &by_name.deltas[start as usize])
            .collect();
        missing.sort_unstable_by_key(|(_, delta)| *delta);
        missing.into_iter().map(|(base, _)| *base).collect()
    }

    /// Whether there are deltas on an object that nobody has offered so far.
    pub fn is_missing(&self, id: &oid) -> bool {
        self.by_name.group(id).is_some_and(|group| !self.by_name.taken[group].load(Ordering::Relaxed))
    }

    /// Gives the deltas on an object to whoever asks first.
    pub fn take(&self, id: &oid) -> Range<u32> {
        let by_name = &self.by_name;
        match by_name.group(id) {
            Some(group) if !by_name.taken[group].swap(true, Ordering::Relaxed) => {
                by_name.groups[group]..by_name.groups[group + 1]
            }
            _ => 0..0,
        }
    }
}

impl ByName {
    fn new(mut deltas: Vec<(ObjectId, u32)>) -> Self {
        deltas.sort_unstable_by(|a, b| a.0.as_slice().cmp(b.0.as_slice()).then(a.1.cmp(&b.1)));
        let mut groups = Vec::new();
        for index in 0..deltas.len() {
            if index == 0 || deltas[index - 1].0 != deltas[index].0 {
                groups.push(to_u32(index));
            }
        }
        let taken = groups.iter().map(|_| AtomicBool::new(false)).collect();
        groups.push(to_u32(deltas.len()));
        ByName { deltas, groups, taken }
    }

    /// Which of the bases an object is.
    fn group(&self, id: &oid) -> Option<usize> {
        let bases = &self.groups[..self.taken.len()];
        bases.binary_search_by(|&start| self.deltas[start as usize].0.as_slice().cmp(id.as_bytes())).ok()
    }
}

/// The memory for contents that are kept because they will be needed again.
pub(super) struct Budget {
    limit: u64,
    held: AtomicU64,
    /// No base is larger than its deltas say.
    pub object_max: u64,
    delta_max: u64,
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
        let needed = deltas.memory_needed().max(1);
        let mut count = 1;
        if !loose && deltas.count >= THREADS_FROM_DELTAS {
            let processors = std::thread::available_parallelism().map_or(1, usize::from);
            count = processors.min(THREADS_MAX).min(usize::try_from(free / needed).unwrap_or(usize::MAX)).max(1);
        }
        let limit = free.saturating_sub(needed.saturating_mul(count as u64));
        Threads {
            count,
            budget: Budget {
                limit,
                held: AtomicU64::new(0),
                object_max: deltas.object_max,
                delta_max: deltas.delta_max,
            },
        }
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

/// Takes each resolved delta: its entry, its name, its content.
type Each<'a> = dyn FnMut(u32, &ObjectId, &[u8]) -> Result<(), Fault> + 'a;

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
        resolver.tree(pack, root, None, &mut |entry, id, content| {
            examiner.object(id, root.kind, content)?;
            names.set(entry, id, root.kind);
            resolved += 1;
            Ok(pulse.tick(u64::from(resolved))?)
        })?;
    }
    Ok(resolved)
}

/// The same with several threads; this one collects the names and feels the pulse.
fn resolve_in_threads(
    pack: Pack<'_>,
    names: &mut Names,
    roots: &[Root],
    threads: usize,
    options: &ReceiveOptions<'_>,
    examiner: &mut Examiner<'_>,
    pulse: &mut dyn Pulse,
) -> Result<u32, Fault> {
    let directories = options.objects.directories().map_err(|error| Fault::new(format!("{error:#}")))?;
    let (fsck, memory) = (options.fsck.as_ref(), options.memory);
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let mut resolved = 0_u32;
    let mut outcome = Ok(());
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel::<Vec<Resolved>>(threads * 2);
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let (sender, directories, next, stop) = (sender.clone(), directories.clone(), &next, &stop);
                scope.spawn(move || {
                    // An open database serves one thread.
                    let objects = Objects::new(pack.hash, directories);
                    objects.set_cache_bytes(memory / 32);
                    let mut examiner = Examiner::new(pack.hash, &objects, fsck, memory);
                    let worked = work(pack, roots, next, stop, &mut examiner, &sender);
                    if worked.is_err() {
                        stop.store(true, Ordering::Relaxed);
                    }
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
                stop.store(true, Ordering::Relaxed);
                outcome = Err(error.into());
            }
        }
        for worker in workers {
            match worker.join() {
                Ok((worked, findings)) => {
                    examiner.absorb(findings);
                    if outcome.is_ok() {
                        outcome = worked;
                    }
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    outcome.map(|()| resolved)
}

/// One thread: takes the next tree until there is none, or another thread has found a fault.
fn work(
    pack: Pack<'_>,
    roots: &[Root],
    next: &AtomicUsize,
    stop: &AtomicBool,
    examiner: &mut Examiner<'_>,
    sender: &SyncSender<Vec<Resolved>>,
) -> Result<(), Fault> {
    // The collector outlives the workers, so that sending only fails when it panics; then nobody asks for the outcome.
    let send = |batch| sender.send(batch).map_err(|_| Fault::new("resolving was given up"));
    let mut resolver = Resolver::new();
    let mut batch = Vec::with_capacity(BATCH_LEN);
    while let Some(root) = roots.get(next.fetch_add(1, Ordering::Relaxed)) {
        let mut stopped = false;
        let walked = resolver.tree(pack, root, None, &mut |entry, id, content| {
            examiner.object(id, root.kind, content)?;
            batch.push(Resolved { entry, kind: root.kind, id: *id });
            if batch.len() == BATCH_LEN {
                send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH_LEN)))?;
                stopped = stop.load(Ordering::Relaxed);
            }
            if stopped { Err(Fault::new("resolving was given up")) } else { Ok(()) }
        });
        match walked {
            // Whoever said so has the fault.
            Err(_) if stopped => return Ok(()),
            walked => walked?,
        }
    }
    send(batch)
}

/// One object on the way down a tree of deltas.
struct Frame {
    entry: u32,
    /// `None` when it was given up; it can be made again from the frames below.
    content: Option<Vec<u8>>,
    /// Deltas on it that are still to be resolved.
    children: Range<u32>,
    by_name: Range<u32>,
}

impl Frame {
    fn is_done(&self) -> bool {
        self.children.is_empty() && self.by_name.is_empty()
    }
}

/// What resolves deltas: buffers that are used again.
pub(super) struct Resolver {
    inflater: Inflater,
    window: Window,
    delta: Vec<u8>,
    spares: Vec<Vec<u8>>,
    stack: Vec<Frame>,
    /// Frames below this one have given up their content.
    lowest: usize,
}

impl Resolver {
    pub fn new() -> Self {
        Resolver {
            inflater: Inflater::new(),
            window: Window::default(),
            delta: Vec::new(),
            spares: Vec::new(),
            stack: Vec::new(),
            lowest: 0,
        }
    }

    /// Resolves everything that is a delta on `root`, or on what comes of it. `content`: the root's, where it is not in the pack.
    pub fn tree(
        &mut self,
        pack: Pack<'_>,
        root: &Root,
        content: Option<Vec<u8>>,
        each: &mut Each<'_>,
    ) -> Result<(), Fault> {
        let walked = self.walk(pack, root, content, each);
        for level in 0..self.stack.len() {
            self.give_up(pack.budget, level);
        }
        self.stack.clear();
        walked
    }

    fn walk(
        &mut self,
        pack: Pack<'_>,
        root: &Root,
        content: Option<Vec<u8>>,
        each: &mut Each<'_>,
    ) -> Result<(), Fault> {
        // The content of a root from outside cannot be made again: it stays.
        let bottom = usize::from(root.entry == OUTSIDE);
        self.lowest = bottom;
        self.push(pack.budget, root.entry, content, pack.family.children(root.entry), root.by_name.clone());
        while let Some(top) = self.stack.len().checked_sub(1) {
            let Some(child) = self.next_child(pack.family, top) else {
                self.give_up(pack.budget, top);
                self.stack.pop();
                self.lowest = self.lowest.min(self.stack.len()).max(bottom);
                continue;
            };
            self.load(pack, top, bottom)?;
            let result = self.apply(pack, top, child)?;
            let id = name_of(pack.hash, root.kind, &result)?;
            each(child, &id, &result)?;
            let (children, by_name) = (pack.family.children(child), pack.family.take(&id));
            if self.stack[top].is_done() && top >= bottom {
                self.give_up(pack.budget, top);
            }
            if children.is_empty() && by_name.is_empty() {
                self.spare(result);
                continue;
            }
            if self.stack.len() == DEPTH_MAX {
                return Err(bad_object(
                    pack.layout.offset(child),
                    format!("chain of deltas is longer than {DEPTH_MAX}"),
                ));
            }
            self.push(pack.budget, child, Some(result), children, by_name);
            self.keep_within(pack.budget, top + 1);
        }
        Ok(())
    }

    fn next_child(&mut self, family: &Family, top: usize) -> Option<u32> {
        let frame = &mut self.stack[top];
        if let Some(at) = frame.by_name.next() {
            return Some(family.by_name.deltas[at as usize].1);
        }
        frame.children.next().map(|at| family.children[at as usize])
    }

    fn push(
        &mut self,
        budget: &Budget,
        entry: u32,
        content: Option<Vec<u8>>,
        children: Range<u32>,
        by_name: Range<u32>,
    ) {
        let level = self.stack.len();
        self.stack.push(Frame { entry, content: None, children, by_name });
        if let Some(content) = content {
            self.hold(budget, level, content);
        }
    }

    fn hold(&mut self, budget: &Budget, level: usize, mut content: Vec<u8>) {
        if content.capacity() / 2 > content.len().max(SPARE_MIN) {
            content.shrink_to_fit();
        }
        budget.held.fetch_add(content.capacity() as u64, Ordering::Relaxed);
        self.stack[level].content = Some(content);
    }

    fn give_up(&mut self, budget: &Budget, level: usize) {
        if let Some(content) = self.stack[level].content.take() {
            budget.held.fetch_sub(content.capacity() as u64, Ordering::Relaxed);
            self.spare(content);
        }
    }

    /// Gives up contents from below until the budget is kept, but nothing from `level` up.
    fn keep_within(&mut self, budget: &Budget, level: usize) {
        while self.lowest < level && budget.held.load(Ordering::Relaxed) > budget.limit {
            self.give_up(budget, self.lowest);
            self.lowest += 1;
        }
    }

    fn spare(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= SPARE_MAX && self.spares.len() < SPARES {
            buffer.clear();
            self.spares.push(buffer);
        }
    }

    /// Makes the content of a frame that has given it up: from the nearest one below that has it, or from the pack.
    fn load(&mut self, pack: Pack<'_>, top: usize, bottom: usize) -> Result<(), Fault> {
        if self.stack[top].content.is_some() {
            return Ok(());
        }
        let mut level = top;
        while level > 0 && self.stack[level].content.is_none() {
            level -= 1;
        }
        if self.stack[level].content.is_none() {
            let mut content = self.spares.pop().unwrap_or_default();
            self.inflate(pack, self.stack[level].entry, &mut content)?;
            self.hold(pack.budget, level, content);
        }
        self.lowest = self.lowest.min(level).max(bottom);
        for level in level..top {
            let content = self.apply(pack, level, self.stack[level + 1].entry)?;
            self.hold(pack.budget, level + 1, content);
            if self.stack[level].is_done() && level >= bottom {
                self.give_up(pack.budget, level);
            }
            self.keep_within(pack.budget, level + 1);
        }
        Ok(())
    }

    /// The object that a delta makes of the content of a frame.
    fn apply(&mut self, pack: Pack<'_>, base: usize, child: u32) -> Result<Vec<u8>, Fault> {
        let mut delta = std::mem::take(&mut self.delta);
        self.inflate(pack, child, &mut delta)?;
        let mut result = self.spares.pop().unwrap_or_default();
        let content = self.stack[base].content.as_deref().expect("a base is loaded before it is used");
        let applied = delta::apply(content, &delta, pack.budget.object_max, &mut result);
        self.delta = delta;
        match applied {
            Ok(()) => Ok(result),
            Err(_) => Err(bad_object(pack.layout.offset(child), "failed to apply delta")),
        }
    }

    /// Inflates an entry that the scan has inflated before: its size is what it says.
    fn inflate(&mut self, pack: Pack<'_>, entry: u32, out: &mut Vec<u8>) -> Result<(), Fault> {
        let inconsistent = || Fault::new("serious inflate inconsistency");
        let (offset, data, end) = (pack.layout.offset(entry), pack.layout.data(entry), pack.layout.end(entry));
        let mut bytes = Bytes { window: &mut self.window, store: pack.store, end };
        let size = declared_size(bytes.piece(offset)?).ok_or_else(inconsistent)?;
        if size > pack.budget.object_max.max(pack.budget.delta_max) {
            // A base that is larger than any delta says its base is.
            return Err(bad_object(offset, "failed to apply delta"));
        }
        self.inflater.whole(&mut bytes, data, size, out).map_err(|_| inconsistent())?;
        Ok(())
    }
}

/// Bytes of the pack that were read last.
#[derive(Default)]
struct Window {
    bytes: Vec<u8>,
    at: u64,
    len: usize,
}

/// The pack up to the end of an entry, read through the window.
struct Bytes<'a> {
    window: &'a mut Window,
    store: &'a Store,
    end: u64,
}

impl Stored for Bytes<'_> {
    fn piece(&mut self, at: u64) -> io::Result<&[u8]> {
        let window = &mut *self.window;
        let inside = at >= window.at && at < window.at + window.len as u64;
        if !inside {
            let size = usize::try_from(self.end.saturating_sub(at)).map_or(READ_LEN, |left| left.min(READ_LEN));
            if window.bytes.len() < size {
                window.bytes.resize(size, 0);
            }
            window.len = 0;
            window.len = self.store.read_at(at, &mut window.bytes[..size])?;
            window.at = at;
        }
        let skip = usize::try_from(at - window.at).map_err(io::Error::other)?;
        Ok(&window.bytes[skip..window.len])
    }
}

/// The size in an entry's header.
fn declared_size(header: &[u8]) -> Option<u64> {
    let (first, rest) = header.split_first()?;
    let mut size = u64::from(first & 0x0f);
    let mut shift = 4;
    let mut more = first & 0x80 != 0;
    let mut rest = rest.iter();
    while more {
        let byte = rest.next()?;
        size |= u64::from(byte & 0x7f).checked_shl(shift)?;
        shift += 7;
        more = byte & 0x80 != 0;
    }
    Some(size)
}

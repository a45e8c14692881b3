//! Making entries ahead: other threads make entries that cannot be copied before it is their turn.
//!
//! In: recipes, in the order in which they will be needed. Out: the deflated result of each. It is byte for byte what
//! would be made in turn. Nothing fails here: if a thread fails, the caller makes the entry itself and reports why it
//! cannot be made.

use super::deflate::{Deflater, Levels};
use super::make::{Maker, Outcome, Recipe};
use super::write::PackOptions;
use crate::odb::{CACHE_BYTES, Objects, Opener, threads};
use anyhow::Result;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;

/// How many neighbouring recipes one thread takes at a time: neighbours share bases.
const BATCH: usize = 32;
/// How many results are handed over at a time, so that the receiver wakes up less often.
const GROUP: usize = 8;
/// The most recipes in progress or waiting to be taken.
const JOBS_MAX: usize = 32 * BATCH;
/// Larger objects are made in turn.
const OBJECT_BYTES_MAX: u64 = 1 << 20;
/// The most bytes of results that may wait; anything beyond is made in turn.
const WAITING_BYTES: usize = 64 << 20;

/// The result of a recipe.
pub(super) struct MadeEntry {
    pub outcome: Outcome,
    /// The size before deflation.
    pub size: u64,
    pub deflated: Vec<u8>,
}

/// Some results, by number.
type Group = Vec<(usize, Option<MadeEntry>)>;

/// The threads at work.
pub(super) struct Ahead {
    batches: Sender<Vec<(usize, Recipe)>>,
    results: Receiver<Group>,
    gathered: Vec<(usize, Recipe)>,
    ready: HashMap<usize, Option<MadeEntry>>,
    /// The bytes of results that wait.
    waiting: Arc<AtomicUsize>,
    asked: usize,
    taken: usize,
}

impl Ahead {
    /// Starts threads that end with the scope or when this is dropped; `None` if only one thread may be used.
    /// `on_bases`: deltas are made on objects the client has, so bases are cached from the start.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        opener: &Opener,
        options: &PackOptions,
        on_bases: bool,
    ) -> Option<Self> {
        let (levels, related_max) = (options.levels, options.related_max);
        let threads = threads(options.threads);
        if threads == 1 {
            return None;
        }
        let (batches, incoming) = channel::<Vec<(usize, Recipe)>>();
        let (outgoing, results) = channel();
        let (incoming, waiting) = (Arc::new(Mutex::new(incoming)), Arc::new(AtomicUsize::new(0)));
        for _ in 0..threads {
            let (incoming, outgoing, opener) = (Arc::clone(&incoming), outgoing.clone(), opener.clone());
            let waiting = Arc::clone(&waiting);
            let work = move || {
                let mut objects = opener.open();
                // The threads share the cache that a single one would have.
                objects.set_cache_bytes(CACHE_BYTES / threads as u64);
                if on_bases {
                    objects.expect_bases();
                }
                objects.set_object_limit(OBJECT_BYTES_MAX);
                let mut maker = Maker::with_successor(related_max);
                let mut deflater = Deflater::default();
                let next = || incoming.lock().unwrap_or_else(PoisonError::into_inner).recv();
                while let Ok(batch) = next() {
                    let mut answers = Answers::owed(batch.iter().map(|(number, _)| *number).collect(), &outgoing);
                    for (_, recipe) in &batch {
                        let made = made(&mut maker, &objects, recipe, levels, &mut deflater).ok();
                        let made = made.filter(|made| may_wait(&waiting, made.deflated.capacity()));
                        if !answers.next(made) {
                            return;
                        }
                    }
                }
            };
            // Without threads nothing is made ahead, which is merely slower.
            spawn(scope, work).ok()?;
        }
        Some(Ahead { batches, results, gathered: Vec::new(), ready: HashMap::new(), waiting, asked: 0, taken: 0 })
    }

    /// Whether more recipes may be asked for.
    pub(super) fn has_room(&self) -> bool {
        self.asked - self.taken < JOBS_MAX
    }

    /// Whether more recipes should be asked for. Waiting for this gives threads many neighbours at once.
    pub(super) fn runs_low(&self) -> bool {
        self.asked - self.taken < JOBS_MAX / 2
    }

    /// Asks for a recipe to be made; returns its number.
    pub(super) fn ask(&mut self, recipe: &Recipe) -> usize {
        self.gathered.push((self.asked, recipe.clone()));
        self.asked += 1;
        if self.gathered.len() == BATCH {
            self.flush();
        }
        self.asked - 1
    }

    /// Hands the gathered recipes to the threads.
    pub(super) fn flush(&mut self) {
        if !self.gathered.is_empty() {
            // If no thread is left, no result comes back either.
            let _ = self.batches.send(std::mem::take(&mut self.gathered));
        }
    }

    /// Takes the result of a recipe, waiting for it if necessary; each only once.
    pub(super) fn take(&mut self, number: usize) -> Option<MadeEntry> {
        self.taken += 1;
        loop {
            if let Some(made) = self.ready.remove(&number) {
                let bytes = made.as_ref().map_or(0, |made| made.deflated.capacity());
                self.waiting.fetch_sub(bytes, Ordering::Relaxed);
                return made;
            }
            self.flush();
            self.ready.extend(self.results.recv().ok()?);
        }
    }
}

/// Starts a thread that may panic. Its answers then report the failure; the scope must survive, since the pack can be
/// completed without it.
fn spawn<'scope>(scope: &'scope Scope<'scope, '_>, work: impl FnOnce() + Send + 'scope) -> io::Result<()> {
    let survived = move || drop(catch_unwind(AssertUnwindSafe(work)));
    std::thread::Builder::new().spawn_scoped(scope, survived).map(drop)
}

/// Whether this many more bytes may wait; if so, they are counted.
fn may_wait(waiting: &AtomicUsize, bytes: usize) -> bool {
    let may = |waiting: usize| waiting.checked_add(bytes).filter(|sum| *sum <= WAITING_BYTES);
    waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, may).is_ok()
}

/// The results that a thread owes for a batch. Each number is answered even if the thread panics, because the caller
/// waits for it.
struct Answers<'a> {
    outgoing: &'a Sender<Group>,
    left: VecDeque<usize>,
    /// Results not handed over yet.
    group: Group,
}

impl<'a> Answers<'a> {
    fn owed(left: VecDeque<usize>, outgoing: &'a Sender<Group>) -> Self {
        Answers { outgoing, left, group: Vec::new() }
    }

    /// Answers the next number; returns `false` once the receiver is known to be gone.
    fn next(&mut self, made: Option<MadeEntry>) -> bool {
        self.group.extend(self.left.pop_front().map(|number| (number, made)));
        self.group.len() < GROUP || self.outgoing.send(std::mem::take(&mut self.group)).is_ok()
    }
}

impl Drop for Answers<'_> {
    fn drop(&mut self) {
        self.group.extend(self.left.drain(..).map(|number| (number, None)));
        // The receiver may be gone.
        let _ = self.outgoing.send(std::mem::take(&mut self.group));
    }
}

fn made(
    maker: &mut Maker,
    objects: &Objects,
    recipe: &Recipe,
    levels: Levels,
    deflater: &mut Deflater,
) -> Result<MadeEntry> {
    let outcome = maker.make(objects, recipe)?;
    if outcome == Outcome::Nothing {
        return Ok(MadeEntry { outcome, size: 0, deflated: Vec::new() });
    }
    let bytes = maker.bytes();
    let mut deflated = Vec::with_capacity(bytes.len() / 2 + 64);
    deflater.whole(outcome.level(levels, bytes.len()), bytes, &mut |bytes| -> io::Result<()> {
        deflated.extend_from_slice(bytes);
        Ok(())
    })?;
    Ok(MadeEntry { outcome, size: bytes.len() as u64, deflated })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_answered_even_if_the_thread_dies_and_the_scope_goes_on() {
        let (outgoing, results) = channel();
        let heard: Vec<(usize, bool)> = std::thread::scope(|scope| {
            let dies = move || {
                let mut answers = Answers::owed((3..6).collect(), &outgoing);
                answers.next(Some(MadeEntry { outcome: Outcome::Nothing, size: 0, deflated: Vec::new() }));
                panic!("as if what is made had no end");
            };
            spawn(scope, dies).unwrap();
            results.iter().flatten().map(|(number, made)| (number, made.is_some())).collect()
        });
        assert_eq!(heard, [(3, true), (4, false), (5, false)]);
    }
}

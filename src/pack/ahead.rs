//! Making ahead: other threads make what cannot be copied while it is not yet its turn.
//!
//! In: recipes, in the order in which they will be asked for. Out: what was made of each, deflated. It is what would have been made in
//! turn, byte for byte; where a thread fails nothing is made, and whoever asks makes it itself and says why it cannot be done.

use super::deflate::{Deflater, Levels};
use super::make::{Maker, Outcome, Recipe};
use super::write::PackOptions;
use crate::odb::{CACHE_BYTES, Objects, Opener, threads};
use anyhow::Result;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;

/// So many neighbours one thread makes: they rest on the same bases.
const BATCH: usize = 32;
/// So many may be under way or waiting to be asked for.
const JOBS_MAX: usize = 8 * BATCH;
/// Larger objects are made in turn: what waits must be small.
const OBJECT_BYTES_MAX: u64 = 256 << 10;

/// What was made.
pub(super) struct Made {
    pub outcome: Outcome,
    /// Before it was deflated.
    pub size: u64,
    pub deflated: Vec<u8>,
}

/// Threads at work.
pub(super) struct Ahead {
    batches: Sender<Vec<(usize, Recipe)>>,
    results: Receiver<(usize, Option<Made>)>,
    gathered: Vec<(usize, Recipe)>,
    ready: HashMap<usize, Option<Made>>,
    asked: usize,
    taken: usize,
}

impl Ahead {
    /// Starts threads that end with the scope or when this is dropped; `None` where there is to be but one.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        opener: &Opener,
        options: &PackOptions,
    ) -> Option<Self> {
        let levels = options.levels;
        let threads = threads(options.threads);
        if threads == 1 {
            return None;
        }
        let (batches, incoming) = channel::<Vec<(usize, Recipe)>>();
        let (outgoing, results) = channel();
        let incoming = Arc::new(Mutex::new(incoming));
        for _ in 0..threads {
            let (incoming, outgoing, opener) = (Arc::clone(&incoming), outgoing.clone(), opener.clone());
            let work = move || {
                let mut objects = opener.open();
                // As much for all of them together as for one that is alone.
                objects.set_cache_bytes(CACHE_BYTES / threads as u64);
                objects.expect_bases();
                objects.set_object_limit(OBJECT_BYTES_MAX);
                let mut maker = Maker::default();
                let mut deflater = Deflater::default();
                let next = || incoming.lock().unwrap_or_else(PoisonError::into_inner).recv();
                while let Ok(batch) = next() {
                    let mut answers =
                        Answers { outgoing: &outgoing, left: batch.iter().map(|(number, _)| *number).collect() };
                    for (_, recipe) in &batch {
                        let made = made(&mut maker, &objects, recipe, levels, &mut deflater);
                        if !answers.next(made.ok()) {
                            return;
                        }
                    }
                }
            };
            // Without threads there is nothing ahead, which is slower and nothing else.
            std::thread::Builder::new().spawn_scoped(scope, work).ok()?;
        }
        Some(Ahead { batches, results, gathered: Vec::new(), ready: HashMap::new(), asked: 0, taken: 0 })
    }

    /// Whether there is room for more.
    pub(super) fn has_room(&self) -> bool {
        self.asked - self.taken < JOBS_MAX
    }

    /// Whether it is time to ask for more: so that threads get many neighbours at once.
    pub(super) fn runs_low(&self) -> bool {
        self.asked - self.taken < JOBS_MAX / 2
    }

    /// Asks for one; its number.
    pub(super) fn ask(&mut self, recipe: &Recipe) -> usize {
        self.gathered.push((self.asked, recipe.clone()));
        self.asked += 1;
        if self.gathered.len() == BATCH {
            self.flush();
        }
        self.asked - 1
    }

    /// Hands on what was asked for.
    pub(super) fn flush(&mut self) {
        if !self.gathered.is_empty() {
            // Where no thread is left nothing comes back either.
            let _ = self.batches.send(std::mem::take(&mut self.gathered));
        }
    }

    /// What was made of one, when it is its turn; each once.
    pub(super) fn take(&mut self, number: usize) -> Option<Made> {
        self.taken += 1;
        loop {
            if let Some(made) = self.ready.remove(&number) {
                return made;
            }
            self.flush();
            let (number, made) = self.results.recv().ok()?;
            self.ready.insert(number, made);
        }
    }
}

/// What a thread owes for a batch. Each number is answered, even if the thread dies: who asked waits for it.
struct Answers<'a> {
    outgoing: &'a Sender<(usize, Option<Made>)>,
    left: VecDeque<usize>,
}

impl Answers<'_> {
    /// The answer to the next number; whether somebody is there to hear it.
    fn next(&mut self, made: Option<Made>) -> bool {
        self.left.pop_front().is_some_and(|number| self.outgoing.send((number, made)).is_ok())
    }
}

impl Drop for Answers<'_> {
    fn drop(&mut self) {
        while self.next(None) {}
    }
}

fn made(
    maker: &mut Maker,
    objects: &Objects,
    recipe: &Recipe,
    levels: Levels,
    deflater: &mut Deflater,
) -> Result<Made> {
    let outcome = maker.make(objects, recipe)?;
    if outcome == Outcome::Nothing {
        return Ok(Made { outcome, size: 0, deflated: Vec::new() });
    }
    let bytes = maker.bytes();
    let mut deflated = Vec::with_capacity(bytes.len() / 2 + 64);
    deflater.whole(outcome.level(levels, bytes.len()), bytes, &mut |bytes| -> io::Result<()> {
        deflated.extend_from_slice(bytes);
        Ok(())
    })?;
    Ok(Made { outcome, size: bytes.len() as u64, deflated })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_answered_even_if_the_thread_dies() {
        let (outgoing, results) = channel();
        let died = std::thread::spawn(move || {
            let mut answers = Answers { outgoing: &outgoing, left: (3..6).collect() };
            answers.next(Some(Made { outcome: Outcome::Nothing, size: 0, deflated: Vec::new() }));
            panic!("as if what is made had no end");
        });
        let heard: Vec<(usize, bool)> = results.iter().map(|(number, made)| (number, made.is_some())).collect();
        assert_eq!(heard, [(3, true), (4, false), (5, false)]);
        assert!(died.join().is_err());
    }
}

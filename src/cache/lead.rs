//! Making an answer that others may read along.
//!
//! In: bytes, as the caller makes them. Out: a file that grows at the speed of the work, and a second thread that sends it to our own
//! client at his. What is done soon and small goes out from memory, and where there can be no file everything does.

use super::entry::{Block, Next, Reader, Writer};
use super::folder::Begun;
use super::{Cache, Delivery, Key, Notes, Role};
use crate::durable;
use crate::stream::{Pulse, Sink};
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// How long the second thread waits before it shows the client that we are alive.
const TICK: Duration = Duration::from_millis(100);
/// Blocks that wait in memory for the client where the file can hold no more.
const WAITING_MAX: usize = 2;
/// Looked at sooner than this, the clock is asked half as often.
const TOO_SOON: Duration = Duration::from_millis(1);
/// After so many calls at most the clock is looked at.
const CALLS_MAX: u32 = 256;
/// So often room is made while a file grows up to all that there is.
const ROOM_STEPS: u64 = 8;

/// What was made.
#[derive(Debug, Clone, Copy)]
pub enum Made {
    /// The bytes that were written.
    Written(Notes),
    /// Nothing was written: the notes say where the answer is.
    Elsewhere(Notes),
}

/// How it ended.
pub(super) enum Outcome {
    Made(Notes, Role),
    /// Somebody else makes it, and nothing of ours has gone out.
    Theirs(Reader),
    /// The same, and he is done.
    Complete,
    /// What was written cannot be read.
    Lost,
    /// It is not what the client has begun to hear.
    Differs,
}

/// Our own file does not hold what we wrote.
#[derive(Debug)]
struct Unreadable;

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the cache has lost what was written to it")
    }
}

impl std::error::Error for Unreadable {}

/// Makes an answer, into a sink. Told whether it may lie elsewhere: not where the client has begun to hear it.
pub type Make<'m> = dyn FnMut(&mut dyn Sink, bool) -> anyhow::Result<Made> + 'm;

/// Makes an answer. `kept`: a file may be made of it.
pub(super) fn lead(
    cache: &Cache,
    key: &Key,
    kept: bool,
    delivery: &mut Delivery<'_>,
    make: &mut Make<'_>,
) -> anyhow::Result<Outcome> {
    let shared = Shared::default();
    let may_refer = delivery.heard.is_empty();
    std::thread::scope(|scope| {
        let way = if kept { Way::Private(delivery) } else { Way::Direct(delivery) };
        let clock = Clock::new();
        let mut leader =
            Leader { cache, key, scope, shared: &shared, way, block: Block::new(), index: 0, clock, taken: None };
        let made = make(&mut leader, may_refer);
        leader.finish(made)
    })
}

/// Where what is made goes.
enum Way<'scope, 'env, 'c> {
    /// Into memory: nobody knows of it yet.
    Private(&'env mut Delivery<'c>),
    /// To the client.
    Direct(&'env mut Delivery<'c>),
    /// Into a file, from where the second thread takes it.
    Public {
        /// `None`: the file can hold no more, and blocks wait in memory.
        writer: Option<Box<Writer>>,
        sender: ScopedJoinHandle<'scope, anyhow::Result<()>>,
        /// At this size room is made.
        next_room: u64,
    },
    /// Somebody else makes it.
    Over,
}

/// Somebody who makes an answer, and takes its bytes.
struct Leader<'scope, 'env, 'c> {
    cache: &'env Cache,
    key: &'env Key,
    scope: &'scope Scope<'scope, 'env>,
    shared: &'env Shared,
    way: Way<'scope, 'env, 'c>,
    block: Block,
    /// The number of that block.
    index: u64,
    clock: Clock,
    taken: Option<Outcome>,
}

impl<'scope, 'env, 'c> Leader<'scope, 'env, 'c> {
    /// Begins a file, if there can be one, and sends from there.
    fn publish(&mut self) -> io::Result<()> {
        let delivery = match std::mem::replace(&mut self.way, Way::Over) {
            Way::Private(delivery) => delivery,
            way => {
                self.way = way;
                return Ok(());
            }
        };
        match self.cache.begin(self.key) {
            Begun::Ours(writer, reader) => {
                // Where there can be no more threads, what was to be handed over is taken back.
                let handed = Arc::new(Mutex::new(Some((reader, delivery))));
                let take = |handed: &Mutex<Option<_>>| handed.lock().unwrap_or_else(PoisonError::into_inner).take();
                let (shared, theirs) = (self.shared, Arc::clone(&handed));
                let send = move || match take(&theirs) {
                    Some((reader, delivery)) => shared.send(reader, delivery),
                    None => Ok(()),
                };
                let next_room = self.cache.bytes / ROOM_STEPS;
                match std::thread::Builder::new().spawn_scoped(self.scope, send) {
                    Ok(sender) => self.way = Way::Public { writer: Some(writer), sender, next_room },
                    Err(_) => {
                        self.cache.give_up(&writer);
                        let Some((_, delivery)) = take(&handed) else { unreachable!("no thread has taken it") };
                        self.way = Way::Direct(delivery);
                    }
                }
            }
            Begun::Theirs(reader) => return Err(self.stop(Outcome::Theirs(reader))),
            Begun::Complete => return Err(self.stop(Outcome::Complete)),
            Begun::Impossible => self.way = Way::Direct(delivery),
        }
        Ok(())
    }

    /// Ends the work: its error says nothing, `outcome` does.
    fn stop(&mut self, outcome: Outcome) -> io::Error {
        self.taken = Some(outcome);
        io::Error::other("this answer is not to be made")
    }

    /// The block is full, or the last one.
    fn end_block(&mut self) -> io::Result<()> {
        self.publish()?;
        self.put_block()?;
        self.block.clear();
        self.index += 1;
        Ok(())
    }

    fn put_block(&mut self) -> io::Result<()> {
        let (index, block) = (self.index, &mut self.block);
        match &mut self.way {
            Way::Private(delivery) | Way::Direct(delivery) => {
                let sum = block.checksum(self.key, index);
                let sent = delivery.block(index, sum, |client| client.write_all(block.bytes()));
                sent.map_err(|error| match error.downcast::<io::Error>() {
                    Ok(error) => error,
                    Err(_) => self.stop(Outcome::Differs),
                })
            }
            Way::Public { writer: file, next_room, .. } => {
                if let Some(writer) = file {
                    match writer.block(block) {
                        Ok(()) if writer.size() <= self.cache.bytes => {
                            if writer.size() >= *next_room {
                                *next_room = writer.size() + self.cache.bytes / ROOM_STEPS;
                                writer.file().metadata().iter().for_each(|newest| self.cache.make_room(newest));
                            }
                            return self.shared.more();
                        }
                        // More than there may be: who reads along must help himself.
                        Ok(()) => {
                            let _ = writer.fail();
                            self.cache.give_up(writer);
                            *file = None;
                            return self.shared.more();
                        }
                        Err(_) => {
                            self.cache.give_up(writer);
                            *file = None;
                        }
                    }
                }
                self.shared.wait_in_memory(block.bytes().to_vec(), block.checksum(self.key, index))
            }
            Way::Over => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    /// Whether bytes of a file can be handed to the client as they are: nobody reads along, and nothing is left to compare.
    fn is_direct(&self) -> bool {
        match &self.way {
            Way::Direct(delivery) => self.block.is_empty() && delivery.heard.len() as u64 <= self.index,
            Way::Private(_) | Way::Public { .. } | Way::Over => false,
        }
    }

    /// The work is done, or has failed.
    fn finish(mut self, made: anyhow::Result<Made>) -> anyhow::Result<Outcome> {
        if let Some(outcome) = self.taken.take() {
            return Ok(outcome);
        }
        let made = made.and_then(|made| {
            if !self.block.is_empty() {
                // A small answer that came soon is not worth a file.
                match self.way {
                    Way::Private(_) => {
                        self.put_block()?;
                        self.index += 1;
                    }
                    Way::Direct(_) | Way::Public { .. } | Way::Over => self.end_block()?,
                }
            }
            Ok(made)
        });
        if let Some(outcome) = self.taken.take() {
            return Ok(outcome);
        }
        match std::mem::replace(&mut self.way, Way::Over) {
            Way::Private(delivery) => {
                delivery.end(self.index)?;
                match made? {
                    Made::Elsewhere(notes) if self.clock.began.elapsed() >= self.cache.patience.noted => {
                        Ok(Outcome::Made(notes, if self.note(&notes) { Role::Led } else { Role::Missed }))
                    }
                    Made::Written(notes) | Made::Elsewhere(notes) => Ok(Outcome::Made(notes, Role::Missed)),
                }
            }
            Way::Direct(delivery) => {
                let (Made::Written(notes) | Made::Elsewhere(notes)) = made?;
                delivery.end(self.index)?;
                Ok(Outcome::Made(notes, Role::Missed))
            }
            Way::Public { writer, sender, .. } => {
                let gone = self.shared.is_gone();
                let kept = match (&made, writer) {
                    (Ok(Made::Written(notes) | Made::Elsewhere(notes)), Some(mut writer)) => {
                        let kept = self.cache.keep(self.key, &mut writer, notes);
                        kept.inspect_err(|_| self.cache.give_up(&writer)).is_ok()
                    }
                    (Err(_), Some(mut writer)) => {
                        // Who leaves lets others go on; what cannot be made they need not try.
                        if !gone {
                            let _ = writer.fail();
                        }
                        self.cache.give_up(&writer);
                        false
                    }
                    (_, None) => false,
                };
                self.shared.ended(made.is_ok());
                let sent = sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                match (made, sent) {
                    (_, Err(error)) if error.is::<Unreadable>() => Ok(Outcome::Lost),
                    (_, Err(error)) => Err(error),
                    (Err(error), Ok(())) => Err(error),
                    (Ok(Made::Written(notes) | Made::Elsewhere(notes)), Ok(())) => {
                        Ok(Outcome::Made(notes, if kept { Role::Led } else { Role::Missed }))
                    }
                }
            }
            Way::Over => made.map(|_| Outcome::Lost),
        }
    }

    /// Keeps a file of notes alone; whether that could be done.
    fn note(&self, notes: &Notes) -> bool {
        let Begun::Ours(mut writer, _) = self.cache.begin(self.key) else { return false };
        let kept = self.cache.keep(self.key, &mut writer, notes);
        kept.inspect_err(|_| self.cache.give_up(&writer)).is_ok()
    }

    /// Now and then: what takes long becomes public, and who works says that he lives.
    fn look_at_clock(&mut self) -> io::Result<()> {
        let Some(now) = self.clock.look() else { return Ok(()) };
        match &self.way {
            Way::Private(_) if now.saturating_duration_since(self.clock.began) >= self.cache.patience.private => {
                self.publish()
            }
            Way::Public { writer: Some(writer), .. } if self.clock.is_due(now, self.cache.patience.sign) => {
                // Who misses it takes over, and no harm is done.
                let _ = durable::touch_file(writer.file());
                Ok(())
            }
            Way::Private(_) | Way::Direct(_) | Way::Public { .. } | Way::Over => Ok(()),
        }
    }
}

impl Drop for Leader<'_, '_, '_> {
    /// Where work panics the second thread must not wait for its end.
    fn drop(&mut self) {
        self.shared.ended(false);
    }
}

impl Write for Leader<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.block.take(bytes);
        if self.block.is_full() {
            self.end_block()?;
        }
        self.look_at_clock()?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pulse for Leader<'_, '_, '_> {
    fn begin(&mut self, title: &'static str, total: Option<u64>) -> io::Result<()> {
        match &mut self.way {
            Way::Private(delivery) | Way::Direct(delivery) => delivery.client.begin(title, total),
            Way::Public { .. } => self.shared.say(Said::Begin(title, total)),
            Way::Over => Ok(()),
        }
    }

    fn tick(&mut self, done: u64) -> io::Result<()> {
        match &mut self.way {
            Way::Private(delivery) | Way::Direct(delivery) => delivery.client.tick(done)?,
            Way::Public { .. } => self.shared.tick(done)?,
            Way::Over => {}
        }
        self.look_at_clock()
    }

    fn end(&mut self) -> io::Result<()> {
        match &mut self.way {
            Way::Private(delivery) | Way::Direct(delivery) => delivery.client.end(),
            Way::Public { .. } => self.shared.say(Said::End),
            Way::Over => Ok(()),
        }
    }
}

impl Sink for Leader<'_, '_, '_> {
    fn aside(&mut self, text: &[u8]) -> io::Result<()> {
        match &mut self.way {
            Way::Private(delivery) | Way::Direct(delivery) => delivery.client.aside(text),
            Way::Public { .. } => self.shared.say(Said::Aside(text.to_vec())),
            Way::Over => Ok(()),
        }
    }

    fn send_file(&mut self, file: &File, range: Range<u64>) -> io::Result<()> {
        let mut left = range;
        while left.start < left.end {
            if self.is_direct()
                && let Way::Direct(delivery) = &mut self.way
            {
                return delivery.client.send_file(file, left);
            }
            left.start += self.block.take_from(file, &left)?;
            if self.block.is_full() {
                self.end_block()?;
            }
            self.look_at_clock()?;
        }
        Ok(())
    }
}

/// Looks at the time now and then: it is cheap, but not for each object.
struct Clock {
    began: Instant,
    looked: Instant,
    signed: Instant,
    calls: u32,
    left: u32,
}

impl Clock {
    fn new() -> Self {
        let now = Instant::now();
        Clock { began: now, looked: now, signed: now, calls: 1, left: 1 }
    }

    fn look(&mut self) -> Option<Instant> {
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            return None;
        }
        let now = Instant::now();
        let soon = now.saturating_duration_since(self.looked) < TOO_SOON;
        self.calls = if soon { (self.calls * 2).min(CALLS_MAX) } else { 1 };
        (self.left, self.looked) = (self.calls, now);
        Some(now)
    }

    fn is_due(&mut self, now: Instant, every: Duration) -> bool {
        let due = now.saturating_duration_since(self.signed) >= every;
        if due {
            self.signed = now;
        }
        due
    }
}

/// What is said beside the bytes.
#[derive(Debug)]
enum Said {
    Begin(&'static str, Option<u64>),
    End,
    Aside(Vec<u8>),
}

/// What both threads know.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    done: AtomicU64,
    /// The client is heard no more.
    gone: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Blocks in the file.
    blocks: u64,
    /// Those behind them.
    waiting: VecDeque<(Vec<u8>, u32)>,
    said: VecDeque<Said>,
    /// Whether there is no more, and all is well.
    ended: Option<bool>,
}

/// What the second thread does next.
enum Step {
    FromFile,
    FromMemory(Vec<u8>, u32),
    Say(Said),
    Tick,
    Done,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    fn unless_gone(&self) -> io::Result<()> {
        if self.is_gone() { Err(ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }

    fn tick(&self, done: u64) -> io::Result<()> {
        self.done.store(done, Ordering::Relaxed);
        self.unless_gone()
    }

    /// One more block is in the file.
    fn more(&self) -> io::Result<()> {
        self.state().blocks += 1;
        self.changed.notify_all();
        self.unless_gone()
    }

    /// A block that is in no file: the work waits where the client is slower.
    fn wait_in_memory(&self, block: Vec<u8>, sum: u32) -> io::Result<()> {
        let mut state = self.state();
        while state.waiting.len() >= WAITING_MAX && !self.is_gone() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting.push_back((block, sum));
        drop(state);
        self.changed.notify_all();
        self.unless_gone()
    }

    fn say(&self, said: Said) -> io::Result<()> {
        self.state().said.push_back(said);
        self.changed.notify_all();
        self.unless_gone()
    }

    /// There is no more; what was said first counts.
    fn ended(&self, well: bool) {
        self.state().ended.get_or_insert(well);
        self.changed.notify_all();
    }

    fn step(&self, index: u64) -> Step {
        let mut state = self.state();
        loop {
            if let Some(said) = state.said.pop_front() {
                return Step::Say(said);
            }
            match state.ended {
                // Of what failed nothing more is sent.
                Some(false) => return Step::Done,
                _ if index < state.blocks => return Step::FromFile,
                ended => {
                    if let Some((block, sum)) = state.waiting.pop_front() {
                        self.changed.notify_all();
                        return Step::FromMemory(block, sum);
                    }
                    if ended.is_some() {
                        return Step::Done;
                    }
                }
            }
            let (woken, waited) = self.changed.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner);
            if waited.timed_out() {
                return Step::Tick;
            }
            state = woken;
        }
    }

    /// The second thread: everything there is, to the client.
    fn send(&self, mut reader: Reader, delivery: &mut Delivery<'_>) -> anyhow::Result<()> {
        // Also where it panics: nobody may wait for it then.
        let _left = Left(self);
        self.send_all(&mut reader, delivery)
    }

    fn send_all(&self, reader: &mut Reader, delivery: &mut Delivery<'_>) -> anyhow::Result<()> {
        let mut index = 0;
        loop {
            match self.step(index) {
                Step::Say(Said::Begin(title, total)) => delivery.client.begin(title, total)?,
                Step::Say(Said::End) => {
                    delivery.client.tick(self.done.load(Ordering::Relaxed))?;
                    delivery.client.end()?;
                }
                Step::Say(Said::Aside(text)) => delivery.client.aside(&text)?,
                Step::FromFile => {
                    let Next::Block(range, sum) = reader.next() else { return Err(Unreadable.into()) };
                    delivery.block(index, sum, |client| client.send_file(reader.file(), range))?;
                    index += 1;
                }
                Step::FromMemory(block, sum) => {
                    delivery.block(index, sum, |client| client.write_all(&block))?;
                    index += 1;
                }
                Step::Tick => delivery.client.tick(self.done.load(Ordering::Relaxed))?,
                Step::Done => {
                    let well = self.state().ended == Some(true);
                    return if well { delivery.end(index) } else { Ok(()) };
                }
            }
        }
    }
}

/// Says that the second thread is no more.
struct Left<'s>(&'s Shared);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        // Between two looks of who waits there is no moment at which this could be missed.
        let _state = self.0.state();
        self.0.gone.store(true, Ordering::Relaxed);
        self.0.changed.notify_all();
    }
}

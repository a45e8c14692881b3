//! Making an answer that other processes may read as it grows.
//!
//! In: bytes, as the caller makes them. Out: a file that grows as fast as the work goes, and a second thread that sends
//! it to our own client at the client's speed. A small answer that is done quickly is sent from memory, and so is every
//! answer if no file can be made.

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

/// How long the second thread waits before it shows the client that the work goes on.
const TICK: Duration = Duration::from_millis(100);
/// How many blocks wait in memory for the client when the file cannot hold more.
const WAITING_MAX: usize = 2;
/// If two looks at the clock are less than this apart, the calls between them are doubled.
const TOO_SOON: Duration = Duration::from_millis(1);
/// The most calls between two looks at the clock.
const CALLS_MAX: u32 = 256;
/// How often room is made while one file grows to the size of the whole cache.
const ROOM_STEPS: u64 = 8;

/// What was made.
#[derive(Debug, Clone, Copy)]
pub enum Made {
    /// The answer was written.
    Written(Notes),
    /// Nothing was written: the notes say where the answer is.
    Elsewhere(Notes),
}

/// How making an answer ended.
pub(super) enum Outcome {
    Made(Notes, Role),
    /// Another process makes it, and nothing of ours has been sent.
    Theirs(Reader),
    /// The same, and the other process has finished.
    Complete,
    /// What was written cannot be read back.
    Lost,
    /// The answer differs from what was already sent to the client.
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

/// Makes an answer and writes it to the sink. The flag says whether the answer may be elsewhere instead: not once a
/// part of it has been sent.
pub type Make<'m> = dyn FnMut(&mut dyn Sink, bool) -> anyhow::Result<Made> + 'm;

/// Makes an answer. `kept`: whether a file may be made of it.
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
        let destination = if kept { Destination::Private(delivery) } else { Destination::Direct(delivery) };
        let clock = Clock::new();
        let mut leader = Leader {
            cache,
            key,
            scope,
            shared: &shared,
            destination,
            block: Block::new(),
            index: 0,
            clock,
            taken: None,
        };
        let made = make(&mut leader, may_refer);
        leader.finish(made)
    })
}

/// Where the bytes go.
enum Destination<'scope, 'env, 'c> {
    /// Into memory: no other process can see the answer yet.
    Private(&'env mut Delivery<'c>),
    /// To the client.
    Direct(&'env mut Delivery<'c>),
    /// Into a file, from which the second thread sends it.
    Public {
        /// `None` if the file cannot hold more; then blocks wait in memory.
        writer: Option<Box<Writer>>,
        sender: ScopedJoinHandle<'scope, anyhow::Result<()>>,
        /// When the file reaches this size, room is made.
        next_room: u64,
    },
    /// Another process makes the answer.
    Over,
}

/// The work of making an answer; takes its bytes.
struct Leader<'scope, 'env, 'c> {
    cache: &'env Cache,
    key: &'env Key,
    scope: &'scope Scope<'scope, 'env>,
    shared: &'env Shared,
    destination: Destination<'scope, 'env, 'c>,
    block: Block,
    /// The number of that block.
    index: u64,
    clock: Clock,
    taken: Option<Outcome>,
}

impl<'scope, 'env, 'c> Leader<'scope, 'env, 'c> {
    /// Begins a file, if possible, and starts the thread that sends it.
    fn publish(&mut self) -> io::Result<()> {
        let delivery = match std::mem::replace(&mut self.destination, Destination::Over) {
            Destination::Private(delivery) => delivery,
            destination => {
                self.destination = destination;
                return Ok(());
            }
        };
        match self.cache.begin(self.key) {
            Begun::Ours(writer, reader) => {
                // If no thread can be started, what was to be handed over is taken back.
                let handed = Arc::new(Mutex::new(Some((reader, delivery))));
                let take = |handed: &Mutex<Option<_>>| handed.lock().unwrap_or_else(PoisonError::into_inner).take();
                let (shared, theirs) = (self.shared, Arc::clone(&handed));
                let send = move || match take(&theirs) {
                    Some((reader, delivery)) => shared.send(reader, delivery),
                    None => Ok(()),
                };
                let next_room = self.cache.bytes / ROOM_STEPS;
                match std::thread::Builder::new().spawn_scoped(self.scope, send) {
                    Ok(sender) => self.destination = Destination::Public { writer: Some(writer), sender, next_room },
                    Err(_) => {
                        self.cache.give_up(&writer);
                        let Some((_, delivery)) = take(&handed) else { unreachable!("no thread has taken it") };
                        self.destination = Destination::Direct(delivery);
                    }
                }
            }
            Begun::Theirs(reader) => return Err(self.stop(Outcome::Theirs(reader))),
            Begun::Complete => return Err(self.stop(Outcome::Complete)),
            Begun::Impossible => self.destination = Destination::Direct(delivery),
        }
        Ok(())
    }

    /// Ends the work. The error only stops the caller; the result is in `outcome`.
    fn stop(&mut self, outcome: Outcome) -> io::Error {
        self.taken = Some(outcome);
        io::Error::other("this answer is not to be made")
    }

    /// Puts the block, which is full or the last one.
    fn end_block(&mut self) -> io::Result<()> {
        self.publish()?;
        self.put_block()?;
        self.block.clear();
        self.index += 1;
        Ok(())
    }

    fn put_block(&mut self) -> io::Result<()> {
        let (index, block) = (self.index, &mut self.block);
        match &mut self.destination {
            Destination::Private(delivery) | Destination::Direct(delivery) => {
                let sum = block.checksum(self.key, index);
                let sent = delivery.block(index, sum, |client| client.write_all(block.bytes()));
                sent.map_err(|error| match error.downcast::<io::Error>() {
                    Ok(error) => error,
                    Err(_) => self.stop(Outcome::Differs),
                })
            }
            Destination::Public { writer: file, next_room, .. } => {
                if let Some(writer) = file {
                    match writer.block(block) {
                        Ok(()) if writer.size() <= self.cache.bytes => {
                            if writer.size() >= *next_room {
                                *next_room = writer.size() + self.cache.bytes / ROOM_STEPS;
                                writer.file().metadata().iter().for_each(|newest| self.cache.make_room(newest));
                            }
                            return self.shared.more();
                        }
                        // The file exceeds the cache's size: readers must make the answer themselves.
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
            Destination::Over => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    /// Whether parts of a file can be passed to the client directly: nothing is kept, and nothing sent before is left
    /// to compare with.
    fn is_direct(&self) -> bool {
        match &self.destination {
            Destination::Direct(delivery) => self.block.is_empty() && delivery.heard.len() as u64 <= self.index,
            Destination::Private(_) | Destination::Public { .. } | Destination::Over => false,
        }
    }

    /// Ends the answer after the work is done or has failed.
    fn finish(mut self, made: anyhow::Result<Made>) -> anyhow::Result<Outcome> {
        if let Some(outcome) = self.taken.take() {
            return Ok(outcome);
        }
        let made = made.and_then(|made| {
            if !self.block.is_empty() {
                // A small answer that was made quickly is not worth a file.
                match self.destination {
                    Destination::Private(_) => {
                        self.put_block()?;
                        self.index += 1;
                    }
                    Destination::Direct(_) | Destination::Public { .. } | Destination::Over => self.end_block()?,
                }
            }
            Ok(made)
        });
        if let Some(outcome) = self.taken.take() {
            return Ok(outcome);
        }
        match std::mem::replace(&mut self.destination, Destination::Over) {
            Destination::Private(delivery) => {
                let made = made?;
                delivery.end(self.index)?;
                match made {
                    Made::Elsewhere(notes) if self.clock.began.elapsed() >= self.cache.patience.noted => {
                        Ok(Outcome::Made(notes, if self.note(&notes) { Role::Led } else { Role::Missed }))
                    }
                    Made::Written(notes) | Made::Elsewhere(notes) => Ok(Outcome::Made(notes, Role::Missed)),
                }
            }
            Destination::Direct(delivery) => {
                let (Made::Written(notes) | Made::Elsewhere(notes)) = made?;
                delivery.end(self.index)?;
                Ok(Outcome::Made(notes, Role::Missed))
            }
            Destination::Public { writer, sender, .. } => {
                let gone = self.shared.is_gone();
                let kept = match (&made, writer) {
                    (Ok(Made::Written(notes) | Made::Elsewhere(notes)), Some(mut writer)) => {
                        let kept = self.cache.keep(self.key, &mut writer, notes);
                        kept.inspect_err(|_| self.cache.give_up(&writer)).is_ok()
                    }
                    (Err(_), Some(mut writer)) => {
                        // If the client has gone, other processes may still make the answer; if it cannot be made, they
                        // need not try.
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
            Destination::Over => made.map(|_| Outcome::Lost),
        }
    }

    /// Writes a file that holds only notes. Returns whether that succeeded.
    fn note(&self, notes: &Notes) -> bool {
        let Begun::Ours(mut writer, _) = self.cache.begin(self.key) else { return false };
        let kept = self.cache.keep(self.key, &mut writer, notes);
        kept.inspect_err(|_| self.cache.give_up(&writer)).is_ok()
    }

    /// Every few calls: makes the answer public if it takes long, and renews the sign of life.
    fn look_at_clock(&mut self) -> io::Result<()> {
        let Some(now) = self.clock.look() else { return Ok(()) };
        match &self.destination {
            Destination::Private(_)
                if now.saturating_duration_since(self.clock.began) >= self.cache.patience.private =>
            {
                self.publish()
            }
            Destination::Public { writer: Some(writer), .. } if self.clock.is_due(now, self.cache.patience.sign) => {
                // If the sign of life fails, another process takes over, which does no harm.
                let _ = durable::touch_file(writer.file());
                Ok(())
            }
            Destination::Private(_) | Destination::Direct(_) | Destination::Public { .. } | Destination::Over => Ok(()),
        }
    }
}

impl Drop for Leader<'_, '_, '_> {
    /// If the work panics, the second thread must not wait for its end.
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
        match &mut self.destination {
            Destination::Private(delivery) | Destination::Direct(delivery) => delivery.client.begin(title, total),
            Destination::Public { .. } => self.shared.say(Event::Begin(title, total)),
            Destination::Over => Ok(()),
        }
    }

    fn tick(&mut self, done: u64) -> io::Result<()> {
        match &mut self.destination {
            Destination::Private(delivery) | Destination::Direct(delivery) => delivery.client.tick(done)?,
            Destination::Public { .. } => self.shared.tick(done)?,
            Destination::Over => {}
        }
        self.look_at_clock()
    }

    fn end(&mut self) -> io::Result<()> {
        match &mut self.destination {
            Destination::Private(delivery) | Destination::Direct(delivery) => delivery.client.end(),
            Destination::Public { .. } => self.shared.say(Event::End),
            Destination::Over => Ok(()),
        }
    }
}

impl Sink for Leader<'_, '_, '_> {
    fn aside(&mut self, text: &[u8]) -> io::Result<()> {
        match &mut self.destination {
            Destination::Private(delivery) | Destination::Direct(delivery) => delivery.client.aside(text),
            Destination::Public { .. } => self.shared.say(Event::Aside(text.to_vec())),
            Destination::Over => Ok(()),
        }
    }

    fn send_file(&mut self, file: &File, range: Range<u64>) -> io::Result<()> {
        let mut left = range;
        while left.start < left.end {
            if self.is_direct()
                && let Destination::Direct(delivery) = &mut self.destination
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

/// Looks at the clock every few calls: that is cheap, but too expensive for every object.
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

/// What is told to the client besides the bytes.
#[derive(Debug)]
enum Event {
    Begin(&'static str, Option<u64>),
    End,
    Aside(Vec<u8>),
}

/// What both threads share.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    done: AtomicU64,
    /// The second thread has ended: nothing more reaches the client.
    gone: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// How many blocks the file has.
    blocks: u64,
    /// Blocks after those of the file, with their checksums.
    waiting: VecDeque<(Vec<u8>, u32)>,
    events: VecDeque<Event>,
    /// Set when no more will come; `true` if the answer is complete.
    ended: Option<bool>,
}

/// What the second thread does next.
enum Step {
    FromFile,
    FromMemory(Vec<u8>, u32),
    Say(Event),
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

    /// Announces one more block in the file.
    fn more(&self) -> io::Result<()> {
        self.state().blocks += 1;
        self.changed.notify_all();
        self.unless_gone()
    }

    /// Queues a block that is in no file. Waits if the client is slower than the work.
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

    fn say(&self, event: Event) -> io::Result<()> {
        self.state().events.push_back(event);
        self.changed.notify_all();
        self.unless_gone()
    }

    /// Announces the end; only the first call counts.
    fn ended(&self, well: bool) {
        self.state().ended.get_or_insert(well);
        self.changed.notify_all();
    }

    fn step(&self, index: u64) -> Step {
        let mut state = self.state();
        loop {
            if let Some(event) = state.events.pop_front() {
                return Step::Say(event);
            }
            match state.ended {
                // After a failure nothing more is sent.
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

    /// The second thread: sends everything to the client.
    fn send(&self, mut reader: Reader, delivery: &mut Delivery<'_>) -> anyhow::Result<()> {
        // Marks the end even if this thread panics, so that nothing waits for it.
        let _left = SenderGuard(self);
        self.send_all(&mut reader, delivery)
    }

    fn send_all(&self, reader: &mut Reader, delivery: &mut Delivery<'_>) -> anyhow::Result<()> {
        let mut index = 0;
        loop {
            match self.step(index) {
                Step::Say(Event::Begin(title, total)) => delivery.client.begin(title, total)?,
                Step::Say(Event::End) => {
                    delivery.client.tick(self.done.load(Ordering::Relaxed))?;
                    delivery.client.end()?;
                }
                Step::Say(Event::Aside(text)) => delivery.client.aside(&text)?,
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

/// Marks, when dropped, that the second thread has ended.
struct SenderGuard<'s>(&'s Shared);

impl Drop for SenderGuard<'_> {
    fn drop(&mut self) {
        // Holds the lock, so that a waiting thread cannot miss this between its check and its wait.
        let _state = self.0.state();
        self.0.gone.store(true, Ordering::Relaxed);
        self.0.changed.notify_all();
    }
}

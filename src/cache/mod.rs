//! Answers kept on disk, so that equal requests get them again (docs/configuration.md, `ARTIFACTS_CACHE`).
//!
//! In: a key of everything that decides an answer, a client to send it to, and a way to make it. Out: the answer, from
//! a complete file, from a file that another process is still writing, or made for this request. In the last case it is
//! written to a file as fast as it is made and sent from there, while other processes may read it too. If a writer
//! dies, its readers make the answer themselves and continue where the sent part ends.
//!
//! Never: a client's request that fails because the cache was deleted, damaged or full; a byte sent that was not
//! verified after it was read; a decision about who may have what, which is made before there is a key.

mod entry;
mod folder;
mod lead;
#[cfg(test)]
mod tests;

use crate::stream::Sink;
use entry::{Next, Reader};
use folder::Found;
use lead::Outcome;
use sha2::{Digest, Sha256};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

pub use lead::{Made, Make};

/// What the caller wants to know about an answer that comes from a file.
pub type Notes = [u8; NOTES_BYTES];
/// The size of notes in bytes.
pub const NOTES_BYTES: usize = 64;

/// How often an answer is looked for before it is made without the cache.
const ATTEMPTS: u32 = 16;

/// The operator's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The directory of the files, used for nothing else.
    pub directory: PathBuf,
    /// How many bytes the files may have together.
    pub bytes: u64,
    /// How long to wait for what; only tests change it.
    pub patience: Patience,
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Work that ends sooner, with an answer of at most one block, leaves no file.
    pub private: Duration,
    /// Work that ends sooner leaves no note of where its answer is.
    pub noted: Duration,
    /// A writer that shows no sign of life for this long is dead.
    pub silence: Duration,
    /// How often a writer shows a sign of life. Readers check its lock four times as often where that proves something.
    pub sign: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            private: Duration::from_millis(10),
            noted: Duration::from_millis(1),
            silence: Duration::from_secs(10),
            sign: Duration::from_millis(1000),
        }
    }
}

/// Everything that decides the bytes of an answer, hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Makes a key of named parts, each with any number of values.
#[derive(Debug)]
pub struct KeyMaker(Sha256);

impl Default for KeyMaker {
    fn default() -> Self {
        // Another version of the program may make a different answer.
        let mut maker = KeyMaker(Sha256::new());
        maker.part("version", [env!("CARGO_PKG_VERSION").as_bytes()]);
        maker
    }
}

impl KeyMaker {
    /// Adds a part. The order of parts and of values matters.
    pub fn part<V: AsRef<[u8]>>(&mut self, name: &str, values: impl IntoIterator<Item = V>) {
        self.0.update([1]);
        self.value(name.as_bytes());
        values.into_iter().for_each(|value| self.value(value.as_ref()));
    }

    fn value(&mut self, bytes: &[u8]) {
        self.0.update([2]);
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// The key.
    pub fn key(self) -> Key {
        Key(self.0.finalize().into())
    }
}

/// Where an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A complete file.
    Hit,
    /// A file that another process was writing.
    Followed,
    /// Made for this request, while others could read it.
    Led,
    /// Made for this request and not kept.
    Missed,
}

impl Role {
    /// `hit`, `follow`, `lead` or `miss`
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Hit => "hit",
            Role::Followed => "follow",
            Role::Led => "lead",
            Role::Missed => "miss",
        }
    }
}

/// The answer was made again and differs from what was already sent to the client.
#[derive(Debug)]
pub struct Differs;

impl fmt::Display for Differs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the process that made this pack has ended, and the repository has changed since: try again")
    }
}

impl std::error::Error for Differs {}

/// The cached answers of one directory.
#[derive(Debug)]
pub struct Cache {
    directory: PathBuf,
    bytes: u64,
    /// When the request came.
    now: SystemTime,
    patience: Patience,
}

/// What the client has received: the checksum of each block.
type Heard = Vec<u32>;

/// How reading another process's file ended.
#[derive(Debug)]
enum Ended {
    Complete(Notes),
    /// Nothing more is to be expected from the writer.
    Dead,
    /// The same, and making the answer again would fail as well.
    Failed,
    /// The file holds something other than what was written.
    Damaged,
}

/// An answer on its way to one client.
struct Delivery<'c> {
    client: &'c mut dyn Sink,
    heard: Heard,
}

impl Cache {
    /// Opens the cache of a directory, which need not exist yet. `now` is in Unix seconds. Returns `None` if the cache
    /// may hold nothing.
    ///
    /// # Errors
    /// A sentence for the operator if the directory cannot be trusted.
    pub fn open(settings: &Settings, now: u64) -> Result<Option<Self>, String> {
        if settings.bytes == 0 {
            return Ok(None);
        }
        folder::check(&settings.directory)?;
        let (directory, bytes) = (settings.directory.clone(), settings.bytes);
        let epoch = SystemTime::UNIX_EPOCH;
        let now = epoch.checked_add(Duration::from_secs(now)).unwrap_or(epoch);
        Ok(Some(Cache { directory, bytes, now, patience: settings.patience }))
    }

    /// Why nothing new can be kept, as far as that can be seen. What is there is served nevertheless.
    pub fn cannot_keep(&self) -> Option<String> {
        folder::writable(&self.directory).err()
    }

    /// Sends the answer of a key, and calls `make` if it is not there. `make` may be called more than once, and is
    /// stopped if another process turns out to make the same answer. It must write the same bytes each time.
    ///
    /// # Errors
    /// What `make` reports; when the client has gone; [`Differs`].
    pub fn serve(&self, key: &Key, client: &mut dyn Sink, make: &mut Make<'_>) -> anyhow::Result<(Notes, Role)> {
        let mut delivery = Delivery { client, heard: Heard::new() };
        let mut next = self.find(key);
        for attempt in 0.. {
            let alone = attempt >= ATTEMPTS;
            next = match next {
                Found::There(mut reader, role) if !alone => match self.follow(key, &mut reader, &mut delivery)? {
                    Ended::Complete(notes) => return Ok((notes, role)),
                    Ended::Failed => Found::Unusable,
                    Ended::Dead | Ended::Damaged => {
                        self.bury(key, &reader);
                        self.find(key)
                    }
                },
                found => {
                    let kept = !alone && matches!(found, Found::Nothing);
                    match lead::lead(self, key, kept, &mut delivery, make)? {
                        Outcome::Made(notes, role) => return Ok((notes, role)),
                        Outcome::Theirs(reader) => {
                            // The progress stage we began ends here.
                            delivery.client.end()?;
                            Found::There(reader, Role::Followed)
                        }
                        Outcome::Complete => {
                            delivery.client.end()?;
                            self.find(key)
                        }
                        Outcome::Lost => Found::Unusable,
                        Outcome::Differs => return Err(Differs.into()),
                    }
                }
            };
        }
        unreachable!("what is made without the cache comes to its end")
    }

    /// Sends a file as it grows, to its end. What the client has already received must match it.
    fn follow(&self, key: &Key, reader: &mut Reader, delivery: &mut Delivery<'_>) -> anyhow::Result<Ended> {
        let mut wait = Wait::new(self.patience);
        let mut index = 0;
        let mut is_alive = true;
        loop {
            match reader.next() {
                Next::Block(range, sum) => {
                    delivery.block(index, sum, |client| client.send_file(reader.file(), range))?;
                    index += 1;
                    wait.news();
                }
                Next::Complete(notes) => {
                    delivery.end(index)?;
                    return Ok(Ended::Complete(*notes));
                }
                Next::Failed => return Ok(Ended::Failed),
                Next::Damaged => return Ok(Ended::Damaged),
                Next::NotYet if is_alive => {
                    delivery.client.tick(0)?;
                    is_alive = wait.pause(|| self.look(key, reader));
                }
                // The writer had ended when we last looked, and all it has written has been read since.
                Next::NotYet => return Ok(Ended::Dead),
            }
        }
    }
}

/// The index of a block in `Heard`.
fn index_of(index: u64) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

impl Delivery<'_> {
    /// Handles the next block: if the client has already received it, it must be the same; otherwise it is sent.
    fn block(
        &mut self,
        index: u64,
        sum: u32,
        send: impl FnOnce(&mut dyn Sink) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        match self.heard.get(index_of(index)) {
            Some(heard) if *heard == sum => {}
            Some(_) => return Err(Differs.into()),
            None => {
                send(self.client)?;
                self.heard.push(sum);
            }
        }
        Ok(self.client.tick(0)?)
    }

    /// Checks, when the answer ends after this many blocks, that the client has not received more.
    fn end(&self, blocks: u64) -> anyhow::Result<()> {
        if index_of(blocks) < self.heard.len() { Err(Differs.into()) } else { Ok(()) }
    }
}

/// Waiting for a writer.
struct Wait {
    patience: Patience,
    pause: Duration,
    /// When there last was a sign of life, and what was seen then.
    alive: Instant,
    seen: Option<folder::Sign>,
    looked: Instant,
}

/// The shortest and the longest pause.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);

impl Wait {
    fn new(patience: Patience) -> Self {
        let now = Instant::now();
        Wait { patience, pause: PAUSE_MIN, alive: now, seen: None, looked: now }
    }

    /// Notes that a block came.
    fn news(&mut self) {
        self.pause = PAUSE_MIN;
        self.alive = Instant::now();
        self.looked = self.alive;
    }

    /// Waits a little. Returns whether there still is a writer to wait for.
    fn pause(&mut self, look: impl FnOnce() -> folder::State) -> bool {
        std::thread::sleep(self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        let now = Instant::now();
        if now.saturating_duration_since(self.looked) < self.patience.sign / 4 {
            return true;
        }
        self.looked = now;
        match look() {
            folder::State::Dead => return false,
            folder::State::Unknown => {}
            folder::State::Seen(sign) if self.seen.as_ref() == Some(&sign) => {}
            folder::State::Seen(sign) => (self.seen, self.alive) = (Some(sign), now),
        }
        now.saturating_duration_since(self.alive) < self.patience.silence
    }
}

//! Answers kept on disk for whoever asks the same (docs/configuration.md, `ARTIFACTS_CACHE`).
//!
//! In: a key that stands for all that decides an answer, somebody to send it to, and a way to make it. Out: the answer, from a file
//! where there is one; from a file that another process is still writing; or made now, written to a file as fast as it can be and sent
//! from there, for others to read along. Whoever reads along in vain makes it himself and goes on behind what was sent.
//!
//! Never: an error of the client's because of the cache, which may be deleted, damaged or full at any moment; a byte that was not
//! verified after it was read; a decision about who may have what, which was made before a key is.

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

/// What the caller wants to know of an answer when it comes from a file.
pub type Notes = [u8; NOTES_BYTES];
/// The bytes of notes.
pub const NOTES_BYTES: usize = 64;

/// How often an answer is looked for before it is made without the cache.
const ATTEMPTS: u32 = 16;

/// What the operator said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where files lie: this directory's only.
    pub directory: PathBuf,
    /// How many bytes they may have together.
    pub bytes: u64,
    /// How long is waited for whom; nobody but tests has reason to say.
    pub patience: Patience,
}

/// How long is waited for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Work that ends sooner, with an answer of one block at most, leaves no file.
    pub private: Duration,
    /// Work that ends sooner leaves no note of where its answer is found.
    pub noted: Duration,
    /// Who says nothing for so long is dead.
    pub silence: Duration,
    /// How often who works says that he lives, and is asked where that can be proven.
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

/// Everything that decides the bytes of an answer, as one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Makes a key of named parts, each of any number of values.
#[derive(Debug)]
pub struct KeyMaker(Sha256);

impl Default for KeyMaker {
    fn default() -> Self {
        // Another version may make another answer of the same.
        let mut maker = KeyMaker(Sha256::new());
        maker.part("version", [env!("CARGO_PKG_VERSION").as_bytes()]);
        maker
    }
}

impl KeyMaker {
    /// Adds a part. Order counts, of parts and of values.
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
    /// It was made now, for others to read along.
    Led,
    /// It was made now, and is not kept.
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

/// The answer that was made anew is another one than that which the client has begun to hear.
#[derive(Debug)]
pub struct Differs;

impl fmt::Display for Differs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the process that made this pack has ended, and the repository has changed since: try again")
    }
}

impl std::error::Error for Differs {}

/// The answers of one directory.
#[derive(Debug)]
pub struct Cache {
    directory: PathBuf,
    bytes: u64,
    /// When the request came.
    now: SystemTime,
    patience: Patience,
}

/// What the client has heard: the checksum of each block.
type Heard = Vec<u32>;

/// How it ended to read along.
#[derive(Debug)]
enum Ended {
    Complete(Notes),
    /// What follows is no longer to be expected from there.
    Dead,
    /// The same, and nobody else will get further.
    Failed,
    /// Something else stands there than was written.
    Damaged,
}

/// An answer under way to one client.
struct Delivery<'c> {
    client: &'c mut dyn Sink,
    heard: Heard,
}

impl Cache {
    /// The cache of a directory, which needs not exist yet, at a moment (Unix seconds). `None`: it may hold nothing.
    ///
    /// # Errors
    /// A sentence for the operator where the directory cannot be trusted.
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

    /// Why nothing new is kept, where it is plain to see: what is there is given out nevertheless.
    pub fn cannot_keep(&self) -> Option<String> {
        folder::writable(&self.directory).err()
    }

    /// Sends the answer of a key, which `make` makes where it is not there. `make` may be called more than once: it is stopped where
    /// another process turns out to make the same. It must make the same bytes each time.
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
                            // What we had begun is nobody's progress any more.
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

    /// Reads along, to the end. What the client has heard must be what stands there.
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
                // All that he has written is read, even if he ended when we looked.
                Next::NotYet => return Ok(Ended::Dead),
            }
        }
    }
}

/// A block's place among those that were heard.
fn index_of(index: u64) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

impl Delivery<'_> {
    /// The next block: what the client has heard of it must be the same; else it is sent.
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

    /// The answer has so many blocks: the client has not heard more.
    fn end(&self, blocks: u64) -> anyhow::Result<()> {
        if index_of(blocks) < self.heard.len() { Err(Differs.into()) } else { Ok(()) }
    }
}

/// Waiting for somebody who writes.
struct Wait {
    patience: Patience,
    pause: Duration,
    /// When there was a sign of life, and what was seen then.
    alive: Instant,
    seen: Option<folder::Sign>,
    looked: Instant,
}

/// The shortest pause, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);

impl Wait {
    fn new(patience: Patience) -> Self {
        let now = Instant::now();
        Wait { patience, pause: PAUSE_MIN, alive: now, seen: None, looked: now }
    }

    /// A block came.
    fn news(&mut self) {
        self.pause = PAUSE_MIN;
        self.alive = Instant::now();
        self.looked = self.alive;
    }

    /// Waits a little; whether there is still somebody to wait for.
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

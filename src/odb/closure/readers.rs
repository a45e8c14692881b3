//! The trees of one path, read by several threads.
//!
//! In: the places of trees at one path, in storage order. Out: for each, the entries that the tree before does not
//! have, in the same order and exactly as one thread alone would find them. If a thread cannot read a tree, the caller
//! reads it and reports the error. Nothing is marked here.

use super::Numbers;
use super::order::BaseChain;
use super::tree::{EntryKind, Tree};
use crate::odb::{CACHE_BYTES, Location, Objects, Opener, PackId, threads};
use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// With fewer trees, handing them to other threads costs more than reading them.
const TREES_MIN: usize = 512;
/// How many neighbouring trees one thread reads, at least and at most. Delta bases are usually stored nearby, so where
/// one part ends and the next begins, many trees are reconstructed twice.
const PART_MIN: usize = 256;
const PART_MAX: usize = 32 << 10;
/// Results are handed over in pieces of about this size. Threads continue until this many bytes of results are waiting.
const PIECE_BYTES: usize = 64 << 10;
const WAITING_BYTES: usize = 32 << 20;

/// A pack, and a position in its index.
pub(super) type Place = (PackId, u32);

/// A tree to be read.
#[derive(Clone)]
pub(super) enum At {
    Packed(Place),
    /// The object directory and the object's ID. Boxed because few trees are loose.
    Loose(Box<(u32, ObjectId)>),
}

impl At {
    /// Whether neither can be a delta on the other.
    fn is_apart(&self, other: &At) -> bool {
        match (self, other) {
            (At::Packed((one, _)), At::Packed((other, _))) => one != other,
            (At::Loose(_), _) | (_, At::Loose(_)) => true,
        }
    }
}

/// An entry that the tree before did not have.
pub(super) struct Met<'t> {
    pub(super) kind: EntryKind,
    pub(super) name: &'t [u8],
    pub(super) id: &'t oid,
    /// Where the object is stored, if that was looked up.
    pub(super) place: Option<Place>,
    /// The object in its place in the tree before.
    pub(super) other: Option<&'t oid>,
}

/// Threads that read trees.
pub(super) struct Readers {
    opener: Opener,
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

/// A part: neighbouring trees to be read by one thread.
struct Job {
    /// The tree that the first one is compared with.
    before: Option<At>,
    /// Each with its depth.
    trees: Vec<(At, u32)>,
    wanted: Wanted,
    pieces: SyncSender<Piece>,
}

/// Which parts of a tree are wanted.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) blobs: bool,
    /// The objects that new entries replace.
    pub(super) others: bool,
    /// The names of all entries; otherwise only those of trees and of entries that replace nothing.
    pub(super) names: bool,
}

/// The results for some trees.
#[derive(Default)]
struct Piece {
    /// For each tree, how many entries it has here; `None` if it could not be read.
    trees: Vec<Option<usize>>,
    entries: Vec<Found>,
    /// Names and object IDs of the entries.
    text: Vec<u8>,
}

struct Found {
    kind: EntryKind,
    /// Whether the ID of the replaced object follows that of the new one.
    has_other: bool,
    /// The place of the name in the text; the object ID follows it.
    name: Range<usize>,
    place: Option<Place>,
}

impl Readers {
    /// Starts as many threads as the database allows; `None` if that is one.
    pub(super) fn start(objects: &Objects) -> Option<Self> {
        let count = threads(objects.threads);
        if count == 1 {
            return None;
        }
        let opener = objects.opener();
        let (jobs, incoming) = channel::<Job>();
        let incoming = Arc::new(Mutex::new(incoming));
        let mut readers = Readers { opener, jobs: Some(jobs), threads: Vec::new() };
        for _ in 0..count {
            let (opener, incoming) = (readers.opener.clone(), Arc::clone(&incoming));
            let work = move || {
                let objects = opener.open();
                // All threads together get as much cache as one thread alone.
                objects.set_cache_bytes(CACHE_BYTES / count as u64);
                objects.expect_chains();
                let mut reader = Reader::new(&objects);
                let next = || incoming.lock().unwrap_or_else(PoisonError::into_inner).recv();
                while let Ok(job) = next() {
                    reader.read_all(&job);
                }
            };
            readers.threads.push(std::thread::Builder::new().spawn(work).ok()?);
        }
        Some(readers)
    }

    /// Whether this many trees are worth sharing out.
    pub(super) fn are_worth(trees: usize) -> bool {
        trees >= TREES_MIN
    }

    /// Has threads read a leading run of the trees, up to the first that not every thread can read. Each tree is
    /// compared with the one before it, the first with `before`.
    pub(super) fn read(
        &self,
        before: Option<At>,
        trees: impl Iterator<Item = (At, u32)>,
        wanted: Wanted,
    ) -> Reading<'_> {
        let is_open = |at: &At| match at {
            At::Packed((pack, _)) => self.opener.has_open(*pack),
            At::Loose(_) => true,
        };
        let trees: Vec<_> = trees.take_while(|(at, _)| is_open(at)).collect();
        let part = trees.len().div_ceil(self.threads.len()).clamp(PART_MIN, PART_MAX);
        let before = before.filter(is_open);
        let mut reading = Reading {
            readers: self,
            trees,
            part,
            before,
            wanted,
            asked: 0,
            taken: 0,
            parts: VecDeque::new(),
            piece: Piece::default(),
            tree: 0,
            entry: 0,
        };
        // Two parts more than there are threads, so that no thread waits for the consumer.
        for _ in 0..self.threads.len() + 2 {
            reading.ask();
        }
        reading
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked sent no results, which the caller has noticed.
            let _ = thread.join();
        }
    }
}

/// The results for some trees, to be taken in order.
pub(super) struct Reading<'r> {
    readers: &'r Readers,
    trees: Vec<(At, u32)>,
    /// How many trees one thread reads.
    part: usize,
    before: Option<At>,
    wanted: Wanted,
    /// How many trees were handed to threads, and how many were taken from them.
    asked: usize,
    taken: usize,
    /// For each part, where it ends, and the channel its pieces come from.
    parts: VecDeque<(usize, Receiver<Piece>)>,
    piece: Piece,
    tree: usize,
    entry: usize,
}

impl Reading<'_> {
    /// The number of trees being read.
    pub(super) fn len(&self) -> usize {
        self.trees.len()
    }

    /// Hands the next part to a thread. A part ends before a tree that is not a delta on any tree before it, so that
    /// each tree is compared with the same one as in a single thread. Between two packs this costs nothing, so parts
    /// may be small there.
    fn ask(&mut self) {
        if self.asked == self.trees.len() {
            return;
        }
        let threads = self.readers.threads.len();
        let (pieces, found) = sync_channel(WAITING_BYTES / PIECE_BYTES / threads);
        let before =
            self.asked.checked_sub(1).map_or_else(|| self.before.clone(), |last| Some(self.trees[last].0.clone()));
        let rest = &self.trees[self.asked..];
        let may_end = |at: &usize| {
            let ((last, _), (next, depth)) = (&rest[at - 1], &rest[*at]);
            *depth == 0 && (*at >= self.part || *at >= PART_MIN && last.is_apart(next))
        };
        let length = (1..rest.len()).find(may_end).unwrap_or(rest.len());
        self.asked += length;
        self.parts.push_back((self.asked, found));
        let job = Job { before, trees: rest[..length].to_vec(), wanted: self.wanted, pieces };
        // If no thread is left, no results come back, and the caller reads everything itself.
        let _ = self.readers.jobs.as_ref().map(|jobs| jobs.send(job));
    }

    /// The entries of the next tree; `None` if no thread could read it.
    pub(super) fn next(&mut self, hash_len: usize) -> Option<impl Iterator<Item = Met<'_>>> {
        if self.parts.front().is_some_and(|(end, _)| *end == self.taken) {
            self.parts.pop_front();
            self.ask();
        }
        self.taken += 1;
        if self.tree == self.piece.trees.len() {
            self.piece = self.parts.front().and_then(|(_, pieces)| pieces.recv().ok()).unwrap_or_default();
            (self.tree, self.entry) = (0, 0);
        }
        let count = self.piece.trees.get(self.tree).copied();
        self.tree += usize::from(count.is_some());
        let count = count.flatten()?;
        let entries = self.entry..self.entry + count;
        self.entry += count;
        let piece = &self.piece;
        Some(piece.entries[entries].iter().map(move |found| piece.met(found, hash_len)))
    }
}

impl Piece {
    /// An empty piece. Usually half of its content is text.
    fn with_room() -> Self {
        let entries = PIECE_BYTES / 2 / size_of::<Found>();
        Piece { trees: Vec::new(), entries: Vec::with_capacity(entries), text: Vec::with_capacity(PIECE_BYTES / 2) }
    }

    /// Its approximate size in bytes.
    fn bytes(&self) -> usize {
        size_of_val(&self.trees[..]) + size_of_val(&self.entries[..]) + self.text.len()
    }

    fn met(&self, found: &Found, hash_len: usize) -> Met<'_> {
        let id = |at: usize| oid::from_bytes_unchecked(&self.text[at..at + hash_len]);
        let Found { kind, has_other, place, .. } = *found;
        let (name, end) = (&self.text[found.name.clone()], found.name.end);
        Met { kind, name, id: id(end), place, other: has_other.then(|| id(end + hash_len)) }
    }
}

/// The state of one thread.
struct Reader<'a> {
    /// Used as a cache of recent look-ups.
    numbers: Numbers<'a>,
    hash_len: usize,
    current: Tree,
    bases: BaseChain,
}

impl<'a> Reader<'a> {
    fn new(objects: &'a Objects) -> Self {
        Reader {
            numbers: Numbers::new(objects),
            hash_len: objects.hash_kind().len_in_bytes(),
            current: Tree::default(),
            bases: BaseChain::default(),
        }
    }

    fn read_all(&mut self, job: &Job) {
        self.bases.clear();
        if job.before.as_ref().is_some_and(|before| self.read(before, 0).is_some()) {
            self.current = self.bases.add(0, std::mem::take(&mut self.current));
        }
        let mut piece = Piece::with_room();
        for (at, depth) in &job.trees {
            let entries = self.read(at, *depth).map(|()| self.note(job.wanted, &mut piece));
            piece.trees.push(entries);
            if entries.is_some() {
                self.current = self.bases.add(*depth, std::mem::take(&mut self.current));
            }
            if piece.bytes() >= PIECE_BYTES {
                // The receiver is gone.
                let Ok(()) = job.pieces.send(std::mem::replace(&mut piece, Piece::with_room())) else { return };
            }
        }
        let _ = job.pieces.send(piece);
    }

    /// Reads a tree and compares it with its base, or else with the last tree.
    fn read(&mut self, at: &At, depth: u32) -> Option<()> {
        let objects = self.numbers.objects();
        let shared = match at {
            At::Packed((pack, position)) => {
                let location = Location::Packed { pack: *pack, position: *position };
                objects.share_at(location, objects.pack(*pack).id_at(*position))
            }
            At::Loose(loose) => objects.share_at(Location::Loose(loose.0), &loose.1),
        };
        match shared {
            Ok((Kind::Tree, bytes)) => self.current.set(bytes),
            Ok(_) | Err(_) => return None,
        }
        self.current.compare(self.bases.find(depth), self.hash_len)
    }

    /// Notes the new entries of the current tree. Returns how many there are.
    fn note(&mut self, wanted: Wanted, piece: &mut Piece) -> usize {
        let before = piece.entries.len();
        for &fresh in &self.current.fresh {
            let (kind, name, id) = self.current.entry(fresh, self.hash_len);
            match kind {
                EntryKind::Tree => {}
                EntryKind::Blob if wanted.blobs => {}
                EntryKind::Blob | EntryKind::Gitlink => continue,
            }
            let other = self.bases.found().other(fresh, self.hash_len).filter(|_| kind == EntryKind::Blob);
            let start = piece.text.len();
            if wanted.names || other.is_none() {
                piece.text.extend_from_slice(name);
            }
            let name = start..piece.text.len();
            add_id(&mut piece.text, id);
            let other = other.filter(|_| wanted.others);
            other.inspect(|id| add_id(&mut piece.text, id));
            let place = place(&mut self.numbers, id);
            piece.entries.push(Found { kind, has_other: other.is_some(), name, place });
        }
        piece.entries.len() - before
    }
}

/// Appends an object ID. Most are 20 bytes long, which the compiler copies in a few moves.
fn add_id(text: &mut Vec<u8>, id: &oid) {
    match <&[u8; 20]>::try_from(id.as_bytes()) {
        Ok(short) => text.extend_from_slice(short),
        Err(_) => text.extend_from_slice(id.as_bytes()),
    }
}

/// Where an object is stored, if it is in a pack.
fn place(numbers: &mut Numbers<'_>, id: &oid) -> Option<Place> {
    // The caller reports any error.
    let number = numbers.of(id).ok().flatten()?;
    match numbers.location(number) {
        Location::Packed { pack, position } => Some((pack, position)),
        Location::Loose(_) => None,
    }
}

//! The hash over an outgoing pack, which becomes its trailer.
//!
//! In: the pack's bytes in order: gathered ones, and parts of stored packs. Out: the hash. For a long pack another
//! thread computes it while the next bytes are prepared. Nothing is sent here.

use super::checksummed::Trailer;
use super::output::PIECE_BYTES;
use crate::odb::{Pack, threads};
use anyhow::{Result, bail};
use gix_hash::ObjectId;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

/// Hashing up to this many bytes is faster than starting a thread for them.
const HASHED_HERE: u64 = 1 << 20;
/// The most pieces that wait to be hashed.
const WAITING_MAX: usize = 4;

/// A hash being computed.
pub(super) struct Hashing {
    state: State,
    /// How many bytes are still hashed by this thread, before another one takes over if it may.
    here: u64,
    /// The number of threads allowed, as in [`threads`].
    threads: usize,
}

enum State {
    Here(Trailer),
    /// Another thread hashes and returns empty buffers. If it fails, its result says why.
    Apart {
        pieces: SyncSender<Piece>,
        spare: Receiver<Vec<u8>>,
        thread: JoinHandle<Result<Trailer>>,
    },
}

enum Piece {
    Gathered(Vec<u8>),
    Stored(Arc<Pack>, Range<u64>),
}

impl Hashing {
    /// The hash of no bytes.
    pub(super) fn new(hash: gix_hash::Kind, threads: usize) -> Self {
        Hashing { state: State::Here(Trailer::new(hash)), here: HASHED_HERE, threads }
    }

    /// Hashes gathered bytes and returns an empty buffer.
    pub(super) fn gathered(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        match self.state_for(bytes.len() as u64) {
            State::Here(trailer) => {
                trailer.update(&bytes);
                bytes.clear();
                bytes
            }
            State::Apart { pieces, spare, .. } => {
                let _ = pieces.send(Piece::Gathered(bytes));
                spare.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE_BYTES))
            }
        }
    }

    /// Hashes bytes that remain the caller's.
    pub(super) fn lent(&mut self, bytes: &[u8]) {
        match self.state_for(bytes.len() as u64) {
            State::Here(trailer) => trailer.update(bytes),
            State::Apart { pieces, .. } => {
                bytes.chunks(PIECE_BYTES).for_each(|piece| drop(pieces.send(Piece::Gathered(piece.to_vec()))));
            }
        }
    }

    /// Hashes a part of a pack. `buffer` is used where the pack is not mapped.
    ///
    /// # Errors
    /// When the part cannot be read; possibly only reported at the end.
    pub(super) fn stored(&mut self, pack: &Arc<Pack>, part: Range<u64>, buffer: &mut Vec<u8>) -> Result<()> {
        match self.state_for(part.end - part.start) {
            State::Here(trailer) => pack.each_piece(part, buffer, &mut |piece| trailer.update(piece))?,
            State::Apart { pieces, .. } => drop(pieces.send(Piece::Stored(Arc::clone(pack), part))),
        }
        Ok(())
    }

    /// Returns the hash of all bytes.
    ///
    /// # Errors
    /// When a part of a pack could not be read.
    pub(super) fn finish(self) -> Result<ObjectId> {
        match self.state {
            State::Here(trailer) => Ok(trailer.finish()),
            State::Apart { pieces, thread, .. } => {
                drop(pieces);
                let Ok(trailer) = thread.join() else { bail!("the thread that computes the trailer has ended") };
                Ok(trailer?.finish())
            }
        }
    }

    /// The state for hashing the next `bytes` bytes.
    fn state_for(&mut self, bytes: u64) -> &mut State {
        let was_here = self.here > 0;
        self.here = self.here.saturating_sub(bytes);
        if was_here && self.here == 0 && threads(self.threads) > 1 {
            self.part();
        }
        &mut self.state
    }

    /// Hands the hash over to another thread; if none can be started, nothing changes.
    fn part(&mut self) {
        let State::Here(trailer) = &self.state else { return };
        let mut trailer = trailer.clone();
        let (pieces, incoming) = sync_channel(WAITING_MAX);
        let (hashed, spare) = channel();
        let work = move || {
            let mut buffer = Vec::new();
            for piece in incoming {
                match piece {
                    Piece::Gathered(mut bytes) => {
                        trailer.update(&bytes);
                        bytes.clear();
                        // The receiver may be gone.
                        let _ = hashed.send(bytes);
                    }
                    Piece::Stored(pack, part) => {
                        pack.each_piece(part, &mut buffer, &mut |piece| trailer.update(piece))?
                    }
                }
            }
            Ok(trailer)
        };
        if let Ok(thread) = std::thread::Builder::new().spawn(work) {
            self.state = State::Apart { pieces, spare, thread };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lengths: &[usize], threads: usize) {
        for hash in [gix_hash::Kind::Sha1, gix_hash::Kind::Sha256] {
            let mut hashing = Hashing::new(hash, threads);
            let mut expected = Trailer::new(hash);
            let mut buffer = Vec::new();
            for (nth, length) in (0_u8..).zip(lengths) {
                buffer.resize(*length, nth);
                expected.update(&buffer);
                if nth % 3 == 0 {
                    hashing.lent(&buffer);
                    buffer.clear();
                } else {
                    buffer = hashing.gathered(buffer);
                    assert!(buffer.is_empty());
                }
            }
            let apart = threads > 1 && lengths.iter().sum::<usize>() as u64 >= HASHED_HERE;
            assert_eq!(matches!(hashing.state, State::Apart { .. }), apart);
            assert_eq!(hashing.finish().expect("nothing was read"), expected.finish());
        }
    }

    #[test]
    fn the_hash_is_that_of_all_bytes_whoever_computes_it() {
        const MIB: usize = 1 << 20;
        for threads in [1, 2] {
            check(&[], threads);
            check(&[7, 0, 1000], threads);
            check(&[MIB - 1], threads);
            check(&[MIB - 1, 1, 5, 70_000, 300_000, 0, 3], threads);
            check(&[PIECE_BYTES; 40], threads);
            check(&[3 * MIB, 1], threads);
        }
    }
}

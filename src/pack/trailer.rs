//! The hash over a pack on its way out, which stands behind it.
//!
//! In: the pack's bytes in their order, as they are sent: gathered ones, and parts of stored packs. Out: the hash. Where there are many
//! another thread computes it while the next ones are prepared. Nothing is sent here.

use super::checksummed::Trailer;
use super::output::PIECE_BYTES;
use crate::odb::{Pack, threads};
use anyhow::{Result, bail};
use gix_hash::ObjectId;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

/// So many bytes are hashed sooner than a thread is started for them.
const HASHED_HERE: u64 = 1 << 20;
/// So many pieces wait at most.
const WAITING_MAX: usize = 4;

/// A hash in the making.
pub(super) struct Hashing {
    state: State,
    /// Bytes that are still hashed here; then a thread is started, if there may be one.
    here: u64,
    /// As [`threads`] takes them.
    threads: usize,
}

enum State {
    Here(Trailer),
    /// Buffers come back. Who could not go on says why at the end.
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
    /// Of no bytes yet.
    pub(super) fn new(hash: gix_hash::Kind, threads: usize) -> Self {
        Hashing { state: State::Here(Trailer::new(hash)), here: HASHED_HERE, threads }
    }

    /// Takes in gathered bytes, and gives back a buffer that is empty.
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

    /// Takes in bytes that stay where they are.
    pub(super) fn lent(&mut self, bytes: &[u8]) {
        match self.state_for(bytes.len() as u64) {
            State::Here(trailer) => trailer.update(bytes),
            State::Apart { pieces, .. } => {
                bytes.chunks(PIECE_BYTES).for_each(|piece| drop(pieces.send(Piece::Gathered(piece.to_vec()))));
            }
        }
    }

    /// Takes in a part of a pack. `buffer` is lent, for what cannot be mapped.
    ///
    /// # Errors
    /// When it cannot be read; perhaps only at the end.
    pub(super) fn stored(&mut self, pack: &Arc<Pack>, part: Range<u64>, buffer: &mut Vec<u8>) -> Result<()> {
        match self.state_for(part.end - part.start) {
            State::Here(trailer) => pack.each_piece(part, buffer, &mut |piece| trailer.update(piece))?,
            State::Apart { pieces, .. } => drop(pieces.send(Piece::Stored(Arc::clone(pack), part))),
        }
        Ok(())
    }

    /// The hash of all of them.
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

    /// What takes in the next so many bytes.
    fn state_for(&mut self, bytes: u64) -> &mut State {
        let was_here = self.here > 0;
        self.here = self.here.saturating_sub(bytes);
        if was_here && self.here == 0 && threads(self.threads) > 1 {
            self.part();
        }
        &mut self.state
    }

    /// Lets another thread go on; where none can be started nothing changes.
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
                        // Nobody may want it any more.
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

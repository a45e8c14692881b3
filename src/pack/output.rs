//! A pack's bytes on their way out: counted, hashed for the trailer, gathered into large writes.
//!
//! In: headers, deflated content, parts of stored packs. Out: one stream. Long copied runs are sent by the sink from
//! the file, and read here only for the hash. Nothing here knows objects.

use super::trailer::Hashing;
use crate::odb::Pack;
use crate::stream::Sink;
use anyhow::Result;
use std::ops::Range;
use std::sync::Arc;

/// The approximate size of the pieces handed on.
pub(super) const PIECE_BYTES: usize = 64 << 10;
/// At least this many contiguous copied bytes are sent from the file itself.
const RUN_BYTES: u64 = 64 << 10;
/// After this many they are hashed and sent, while they are still in the processor's cache.
const RUN_BYTES_MAX: u64 = 256 << 10;

/// Bytes on their way out: counted, hashed, gathered.
pub(super) struct Output<'a> {
    pub(super) sink: &'a mut dyn Sink,
    /// The trailer so far. It needs no collision detection, since the objects' names would show a collision.
    trailer: Hashing,
    place: u64,
    /// The number of complete entries.
    entries: u64,
    gathered: Vec<u8>,
    /// Copied bytes not yet hashed and handed on.
    run: Option<(Arc<Pack>, Range<u64>)>,
}

impl<'a> Output<'a> {
    /// `threads` is as in [`crate::odb::threads`].
    pub(super) fn new(sink: &'a mut dyn Sink, hash: gix_hash::Kind, threads: usize) -> Self {
        let trailer = Hashing::new(hash, threads);
        Output { sink, trailer, place: 0, entries: 0, gathered: Vec::with_capacity(PIECE_BYTES), run: None }
    }

    /// The number of bytes written so far.
    pub(super) fn place(&self) -> u64 {
        self.place
    }

    /// Sets the number of complete entries.
    pub(super) fn entries(&mut self, count: u64) -> Result<()> {
        self.entries = count;
        Ok(self.sink.tick(count)?)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.end_run()?;
        self.place += bytes.len() as u64;
        self.gather(bytes)
    }

    fn gather(&mut self, bytes: &[u8]) -> Result<()> {
        if self.gathered.len() + bytes.len() > PIECE_BYTES {
            self.flush()?;
        }
        if bytes.len() >= PIECE_BYTES {
            self.trailer.lent(bytes);
            // An entry may be long and the client slow, so the deadline may pass within one.
            for piece in bytes.chunks(PIECE_BYTES) {
                self.sink.tick(self.entries)?;
                self.sink.write_all(piece)?;
            }
        } else {
            self.gathered.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if !self.gathered.is_empty() {
            self.sink.tick(self.entries)?;
            self.sink.write_all(&self.gathered)?;
            // Hashed here rather than on arrival, because most bytes arrive in small pieces.
            self.gathered = self.trailer.gathered(std::mem::take(&mut self.gathered));
        }
        Ok(())
    }

    /// Hands on everything written so far, for a client that is waiting.
    pub(super) fn hurry(&mut self) -> Result<()> {
        self.end_run()?;
        self.flush()?;
        Ok(self.sink.flush()?)
    }

    /// Copies a part of a pack; adjacent parts are joined.
    pub(super) fn copy(&mut self, pack: &Arc<Pack>, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<()> {
        self.place += range.end - range.start;
        match &mut self.run {
            Some((of, run)) if run.end == range.start && Arc::ptr_eq(of, pack) => run.end = range.end,
            _ => {
                self.end_run()?;
                self.run = Some((Arc::clone(pack), range));
            }
        }
        if self.run.as_ref().is_some_and(|(_, run)| run.end - run.start >= RUN_BYTES_MAX) {
            self.end_run_with(buffer)?;
        }
        Ok(())
    }

    pub(super) fn end_run(&mut self) -> Result<()> {
        if self.run.is_some() { self.end_run_with(&mut Vec::new()) } else { Ok(()) }
    }

    fn end_run_with(&mut self, buffer: &mut Vec<u8>) -> Result<()> {
        let Some((pack, run)) = self.run.take() else { return Ok(()) };
        let length = run.end - run.start;
        if length < RUN_BYTES {
            return self.gather(pack.bytes(run, buffer)?);
        }
        self.flush()?;
        self.trailer.stored(&pack, run.clone(), buffer)?;
        Ok(pack.send(self.sink, run)?)
    }

    /// Writes an entry's header: kind, size, and for an OFS_DELTA the distance to its base.
    pub(super) fn head(&mut self, kind: u8, size: u64, distance: Option<u64>) -> Result<()> {
        let mut head = [0; 20];
        let mut length = 0;
        let mut left = size >> 4;
        let mut byte = kind << 4 | (size & 0x0f) as u8;
        loop {
            head[length] = byte | if left > 0 { 0x80 } else { 0 };
            length += 1;
            if left == 0 {
                break;
            }
            byte = (left & 0x7f) as u8;
            left >>= 7;
        }
        if let Some(mut distance) = distance {
            // Filled from the last byte to the first; each byte but the last counts from one instead of zero.
            let mut digits = [0; 10];
            let mut at = digits.len() - 1;
            digits[at] = (distance & 0x7f) as u8;
            while distance >> 7 > 0 {
                distance = (distance >> 7) - 1;
                at -= 1;
                digits[at] = 0x80 | (distance & 0x7f) as u8;
            }
            head[length..length + digits.len() - at].copy_from_slice(&digits[at..]);
            length += digits.len() - at;
        }
        self.write(&head[..length])
    }

    /// Writes the trailer; returns the size of the pack in bytes.
    pub(super) fn finish(mut self) -> Result<u64> {
        self.end_run()?;
        self.flush()?;
        let trailer = self.trailer.finish()?;
        self.sink.write_all(trailer.as_slice())?;
        Ok(self.place + trailer.as_slice().len() as u64)
    }
}

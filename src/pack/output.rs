//! A pack's bytes on their way out: counted, hashed for the trailer, gathered into large writes.
//!
//! In: headers, deflated content, parts of stored packs. Out: one stream. What is copied in long runs never passes through memory of
//! ours but to be hashed. Nothing of objects is known here.

use crate::odb::Pack;
use crate::stream::Sink;
use anyhow::Result;
use sha1::Digest;
use std::ops::Range;
use std::sync::Arc;

/// Bytes are handed on in pieces of about this size.
pub(super) const PIECE_BYTES: usize = 64 << 10;
/// Copied bytes are handed on from the file itself when there are so many of them in a row.
const RUN_BYTES: u64 = 64 << 10;
/// And hashed when there are so many, while they are still in the processor's cache.
pub(super) const RUN_BYTES_MAX: u64 = 256 << 10;

/// The trailer in the making. No collision can be hidden in it that the names do not show.
enum Trailer {
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
}

impl Trailer {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Trailer::Sha1(hasher) => hasher.update(bytes),
            Trailer::Sha256(hasher) => hasher.update(bytes),
        }
    }
}

/// Bytes on their way out: counted, hashed, gathered.
pub(super) struct Output<'a> {
    pub(super) sink: &'a mut dyn Sink,
    trailer: Trailer,
    place: u64,
    gathered: Vec<u8>,
    /// Copied bytes that are not yet hashed and not handed on.
    run: Option<(Arc<Pack>, Range<u64>)>,
}

impl<'a> Output<'a> {
    pub(super) fn new(sink: &'a mut dyn Sink, hash: gix_hash::Kind) -> Self {
        let trailer = match hash {
            gix_hash::Kind::Sha256 => Trailer::Sha256(sha2::Sha256::new()),
            _ => Trailer::Sha1(sha1::Sha1::new()),
        };
        Output { sink, trailer, place: 0, gathered: Vec::with_capacity(PIECE_BYTES), run: None }
    }

    /// How many bytes have been written.
    pub(super) fn place(&self) -> u64 {
        self.place
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
            self.trailer.update(bytes);
            self.sink.write_all(bytes)?;
        } else {
            self.gathered.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if !self.gathered.is_empty() {
            // Hashed here, not when it came: most of it comes in small pieces.
            self.trailer.update(&self.gathered);
            self.sink.write_all(&self.gathered)?;
            self.gathered.clear();
        }
        Ok(())
    }

    /// Copies a part of a pack; neighbours go together.
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
        let mut at = run.start;
        while at < run.end {
            let end = run.end.min(at + RUN_BYTES_MAX);
            self.trailer.update(pack.bytes(at..end, buffer)?);
            at = end;
        }
        Ok(self.sink.send_file(pack.file(), run)?)
    }

    /// An entry's header: kind, size, and the distance to the base of an OFS_DELTA.
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
            // From the last byte to the first; each step but the last stands for one more than it says.
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

    /// Writes the trailer; how many bytes the pack has.
    pub(super) fn finish(mut self) -> Result<u64> {
        self.end_run()?;
        self.flush()?;
        let trailer = match std::mem::replace(&mut self.trailer, Trailer::Sha1(sha1::Sha1::new())) {
            Trailer::Sha1(hasher) => hasher.finalize().to_vec(),
            Trailer::Sha256(hasher) => hasher.finalize().to_vec(),
        };
        self.sink.write_all(&trailer)?;
        Ok(self.place + trailer.len() as u64)
    }
}

//! The first pass: reads the stream once, inflates every entry, names every whole object.
//!
//! In: an untrusted body. Out: the stored bytes; where each entry is; which entries are deltas on which. The object
//! count in the header and all sizes in the stream are mere claims: they may end the reading, but never size an
//! allocation.

use super::entries::{Layout, Names, Stored};
use super::examine::Examiner;
use super::oversized::Declared;
use super::store::Store;
use super::{Fault, ReceiveOptions, Room, UnpackError, bad_object, humanised, name_of};
use crate::odb::delta;
use crate::pack::checksummed::Trailer;
use crate::stream::{Body, Pulse};
use flate2::{Decompress, FlushDecompress, Status};
use gix_hash::ObjectId;
use std::io;

/// The number of bytes read from the body at a time.
const BUFFER_LEN: usize = 128 << 10;
/// The same until a read has filled it: fresh memory is the largest cost of a small push.
const FIRST_LEN: usize = 16 << 10;
/// How many times larger than the memory a delta's base or result may be; meanwhile they are kept in files.
const DELTA_OBJECT_FACTOR: u64 = 8;
/// The most bytes that an empty pack has: header and trailer.
const FRAME_LEN: u64 = 12 + 32;
/// How many bytes are inflated at a time if they are not held in memory, and at first if they are.
const CHUNK_LEN: usize = 64 << 10;
/// Room after the declared size, so that zlib runs at full speed up to the last byte and excess bytes are noticed.
const SLACK_LEN: usize = 320;
/// The shortest delta that C git applies (`DELTA_SIZE_MIN`).
const DELTA_LEN_MIN: usize = 4;
/// The most bytes of the two sizes at the beginning of a delta: ten each.
const DELTA_SIZES_LEN_MAX: usize = 20;

/// The stream. Consumed bytes go to the store, into the trailer's hash and into the entry's CRC32.
pub(super) struct Input<'a> {
    body: &'a mut dyn Body,
    store: Store,
    trailer: Trailer,
    crc: crc32fast::Hasher,
    buffer: Vec<u8>,
    /// The buffer holds `..stored` (stored and hashed), `stored..start` (consumed) and `start..end` (not consumed yet).
    stored: usize,
    start: usize,
    end: usize,
    /// Where the bytes of the current entry begin that are not in `crc` yet.
    entry: usize,
    consumed: u64,
    size_max: Option<u64>,
    room: Option<Room>,
}

impl<'a> Input<'a> {
    pub fn new(body: &'a mut dyn Body, options: &ReceiveOptions<'_>) -> Self {
        Input {
            body,
            store: Store::new(&options.directory.join("pack"), options.sharing),
            trailer: Trailer::new(options.hash),
            crc: crc32fast::Hasher::new(),
            buffer: vec![0; FIRST_LEN],
            stored: 0,
            start: 0,
            end: 0,
            entry: 0,
            consumed: 0,
            size_max: options.max_input_size,
            room: options.room,
        }
    }

    /// Keeps packs of up to this size off the disk. May still be called after the header has been read.
    pub fn hold_in_memory(&mut self, size_max: u64) {
        self.store.hold_in_memory(usize::try_from(size_max).unwrap_or(usize::MAX));
    }

    /// The number of bytes consumed.
    fn offset(&self) -> u64 {
        self.consumed
    }

    /// Stores and hashes the consumed bytes.
    fn store(&mut self) -> io::Result<()> {
        let consumed = &self.buffer[self.stored..self.start];
        self.trailer.update(consumed);
        self.crc.update(&self.buffer[self.entry..self.start]);
        self.entry = self.start;
        if !consumed.is_empty() {
            self.store.write(consumed)?;
        }
        self.stored = self.start;
        Ok(())
    }

    /// Reads more into the buffer.
    fn fill(&mut self) -> Result<(), Fault> {
        self.store()?;
        if self.end == self.buffer.len() && self.end < BUFFER_LEN {
            self.buffer.resize(BUFFER_LEN, 0);
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        (self.stored, self.start, self.entry) = (0, 0, 0);
        loop {
            match self.body.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Err(Fault::new("early EOF")),
                Ok(read) => {
                    self.end += read;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(read_fault(error)),
            }
        }
    }

    /// The bytes that can be read without waiting; at least one.
    fn available(&mut self) -> Result<&[u8], Fault> {
        if self.start == self.end {
            self.fill()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// Consumes bytes that were available.
    fn consume(&mut self, size: usize) -> Result<(), Fault> {
        self.start += size;
        self.consumed += size as u64;
        match self.size_max {
            Some(limit) if self.consumed > limit => return Err(Fault::TooLarge(limit)),
            _ => {}
        }
        match self.room {
            // Whether the result fits exactly is checked once it is stored; this stops what can never fit.
            Some(room) if self.consumed > room.left().saturating_add(FRAME_LEN) => Err(Fault::Full(room)),
            _ => Ok(()),
        }
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        let byte = self.available()?[0];
        self.consume(1)?;
        Ok(byte)
    }

    fn exactly(&mut self, out: &mut [u8]) -> Result<(), Fault> {
        while self.end - self.start < out.len() {
            self.fill()?;
        }
        out.copy_from_slice(&self.buffer[self.start..self.start + out.len()]);
        self.consume(out.len())
    }

    fn begin_entry(&mut self) {
        self.crc = crc32fast::Hasher::new();
        self.entry = self.start;
    }

    fn end_entry(&mut self) -> u32 {
        self.crc.update(&self.buffer[self.entry..self.start]);
        self.entry = self.start;
        std::mem::take(&mut self.crc).finalize()
    }

    /// Reads the pack's header; returns the number of objects it claims.
    pub fn header(&mut self) -> Result<u32, UnpackError> {
        let mut header = [0; 12];
        if self.exactly(&mut header).is_err() {
            return Err(UnpackError::of_header("eof before pack header was fully read"));
        }
        let (signature, rest) = header.split_at(4);
        let (version, count) = rest.split_at(4);
        if signature != b"PACK" {
            return Err(UnpackError::of_header("protocol error (pack signature mismatch detected)"));
        }
        if !matches!(version, [0, 0, 0, 2 | 3]) {
            return Err(UnpackError::of_header("protocol error (pack version unsupported)"));
        }
        Ok(u32::from_be_bytes(count.try_into().expect("twelve less eight bytes are four")))
    }
}

fn read_fault(error: io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Fault::new("early EOF"),
        // The text already says which time limit was exceeded, in the same words as elsewhere.
        io::ErrorKind::TimedOut => error.into(),
        _ => Fault::new(format!("read error on input: {error}")),
    }
}

/// The deltas of a pack, by base.
#[derive(Debug, Default)]
pub(super) struct Deltas {
    /// The positions of base and delta.
    pub by_position: Vec<(u32, u32)>,
    /// The base's name and the delta's position.
    pub by_name: Vec<(ObjectId, u32)>,
    /// The number of all deltas, including those whose offset leads to no entry.
    pub count: u32,
    /// The size of the largest base or result that any delta declares.
    pub object_max: u64,
    /// The size of the largest delta.
    pub delta_max: u64,
}

/// A pack read to its end, with a correct trailer.
pub(super) struct Scanned {
    pub store: Store,
    pub layout: Layout,
    pub names: Names,
    pub deltas: Deltas,
    pub trailer: ObjectId,
    /// The size of the stream in bytes, including the trailer.
    pub bytes: u64,
}

/// Reads `count` entries, the trailer and the end of the body.
pub(super) fn scan(
    input: Input<'_>,
    count: u32,
    options: &ReceiveOptions<'_>,
    examiner: &mut Examiner<'_>,
    pulse: &mut dyn Pulse,
) -> Result<Scanned, Fault> {
    let mut scan = Scan {
        input,
        options,
        inflate: Decompress::new(true),
        content: Vec::new(),
        layout: Layout::default(),
        names: Names::new(options.hash),
        deltas: Deltas::default(),
        declared: Declared::new(options.object_size_max),
    };
    for done in 1..=count {
        scan.entry(examiner)?;
        pulse.tick(u64::from(done))?;
    }
    scan.end()
}

struct Scan<'a, 'o> {
    input: Input<'a>,
    options: &'o ReceiveOptions<'o>,
    inflate: Decompress,
    content: Vec<u8>,
    layout: Layout,
    names: Names,
    deltas: Deltas,
    declared: Declared,
}

/// The result of one call of zlib.
struct Step {
    made: usize,
    idle: bool,
    ended: bool,
}

impl Step {
    /// Faults in git's words: too many bytes, too few, or no progress.
    fn check(&self, at: u64, too_long: bool) -> Result<(), Fault> {
        if too_long || (self.idle && !self.ended) {
            return Err(bad_object(at, "inflate returned -5"));
        }
        if self.ended { Err(bad_object(at, "inflate returned 1")) } else { Ok(()) }
    }
}

impl Scan<'_, '_> {
    fn entry(&mut self, examiner: &mut Examiner<'_>) -> Result<(), Fault> {
        let at = self.input.offset();
        self.input.begin_entry();
        let (code, size) = self.entry_header()?;
        let Some(stored) = Stored::from_code(code) else {
            return Err(bad_object(at, format!("unknown object type {code}")));
        };
        let header_end = match stored {
            Stored::Whole(kind) => {
                let header_end = self.input.offset();
                self.declared.look_at(size)?;
                let id = if size <= examiner.content_max() {
                    let size = self.inflate_all(at, size)?;
                    let content = &self.content[..size];
                    let id = name_of(self.options.hash, kind, content)?;
                    examiner.object(&id, kind, content)?;
                    id
                } else {
                    let mut large = examiner.begin_large(kind, size)?;
                    self.inflate_in_chunks(at, size, &mut |chunk| large.chunk(chunk, examiner))?;
                    large.end(examiner)?
                };
                self.names.push(&id, kind);
                header_end
            }
            Stored::OfsDelta => {
                let base = self.base_offset(at)?;
                let header_end = self.input.offset();
                self.delta(at, size)?;
                // A distance that leads into the middle of an entry leaves the delta unresolved.
                if let Some(base) = self.layout.at_offset(base) {
                    self.deltas.by_position.push((base, self.layout.len()));
                }
                header_end
            }
            Stored::RefDelta => {
                let mut base = self.options.hash.null();
                self.input.exactly(base.as_mut_slice())?;
                let header_end = self.input.offset();
                self.delta(at, size)?;
                self.deltas.by_name.push((base, self.layout.len()));
                header_end
            }
        };
        let header_len =
            u8::try_from(header_end - at).expect("a size, and a distance or a name, have less than 64 bytes");
        let crc = self.input.end_entry();
        self.layout.push(at, header_len, crc, self.input.offset());
        self.check_memory()
    }

    /// Reads an entry's type and size; the size may be spelled with more bytes than needed.
    fn entry_header(&mut self) -> Result<(u8, u64), Fault> {
        let mut byte = self.input.byte()?;
        let code = (byte >> 4) & 7;
        let mut size = u64::from(byte & 0x0f);
        let mut shift = 4;
        while byte & 0x80 != 0 {
            if shift > u64::BITS - 7 {
                return Err(Fault::new("object size too large for this platform"));
            }
            byte = self.input.byte()?;
            size |= u64::from(byte & 0x7f) << shift;
            shift += 7;
        }
        Ok((code, size))
    }

    fn base_offset(&mut self, at: u64) -> Result<u64, Fault> {
        let mut byte = self.input.byte()?;
        let mut distance = u64::from(byte & 0x7f);
        while byte & 0x80 != 0 {
            distance += 1;
            if distance >> (u64::BITS - 7) != 0 {
                return Err(bad_object(at, "offset value overflow for delta base object"));
            }
            byte = self.input.byte()?;
            distance = (distance << 7) | u64::from(byte & 0x7f);
        }
        match at.checked_sub(distance) {
            Some(base) if base > 0 && base < at => Ok(base),
            _ => Err(bad_object(at, "delta base offset is out of bound")),
        }
    }

    /// Inflates a delta to check its stream, and learns what resolving it will need.
    fn delta(&mut self, at: u64, size: u64) -> Result<(), Fault> {
        self.names.push_unknown();
        self.deltas.count += 1;
        self.deltas.delta_max = self.deltas.delta_max.max(size);
        let mut head = [0; DELTA_SIZES_LEN_MAX];
        let mut head_len = 0;
        self.inflate_in_chunks(at, size, &mut |chunk| {
            let more = chunk.len().min(head.len() - head_len);
            head[head_len..head_len + more].copy_from_slice(&chunk[..more]);
            head_len += more;
            Ok(())
        })?;
        // C git does not apply shorter deltas, and it cannot tell the kind and size of an object that a delta makes
        // empty ("missing"), so that later fetches would fail.
        let is_read = |&(_, result, _): &(u64, u64, usize)| head_len >= DELTA_LEN_MIN && result > 0;
        let sizes = delta::sizes(&head[..head_len]).ok().filter(is_read);
        let Some((base, result, _)) = sizes else {
            return Err(bad_object(at, "failed to apply delta"));
        };
        self.declared.look_at(result)?;
        self.deltas.object_max = self.deltas.object_max.max(base).max(result);
        let limit = self.options.memory.saturating_mul(DELTA_OBJECT_FACTOR);
        if self.deltas.object_max > limit {
            let (size, limit) = (humanised(self.deltas.object_max), humanised(limit));
            return Err(bad_object(at, format!("delta on or to an object of {size}, the limit is {limit}")));
        }
        Ok(())
    }

    /// Refuses a pack whose columns take more than half of the memory; the rest is needed to resolve deltas.
    fn check_memory(&self) -> Result<(), Fault> {
        let entries = u64::from(self.layout.len()) * Layout::bytes_per_entry(self.options.hash);
        let lists = self.deltas.by_position.len() * size_of::<(u32, u32)>()
            + self.deltas.by_name.len() * size_of::<(ObjectId, u32)>();
        if entries + lists as u64 > self.options.memory / 2 {
            let limit = humanised(self.options.memory);
            return Err(Fault::new(format!("pack has too many objects for the memory limit of {limit}")));
        }
        Ok(())
    }

    /// Inflates an object of exactly `size` bytes to the front of `self.content`, which grows only as bytes arrive.
    fn inflate_all(&mut self, at: u64, size: u64) -> Result<usize, Fault> {
        let size = usize::try_from(size).map_err(|_| Fault::new("object size too large for this platform"))?;
        let full = size.saturating_add(SLACK_LEN);
        let mut filled = 0;
        self.inflate.reset(true);
        loop {
            let room = full.min(CHUNK_LEN.max(2 * filled));
            if self.content.len() < room {
                self.content.resize(room, 0);
            }
            let step = self.step(at, filled, room, FlushDecompress::Finish)?;
            filled += step.made;
            if step.ended && filled == size {
                return Ok(size);
            }
            step.check(at, filled > size)?;
        }
    }

    /// Inflates exactly `size` bytes, holding only a chunk of them at a time.
    fn inflate_in_chunks(
        &mut self,
        at: u64,
        size: u64,
        each: &mut dyn FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.inflate.reset(true);
        // If everything fits at once, zlib need not keep a window for the next call, and no more room is needed.
        let all = usize::try_from(size).map_or(CHUNK_LEN, |size| size.saturating_add(SLACK_LEN));
        let at_once = all <= CHUNK_LEN;
        let room = all.min(CHUNK_LEN);
        if self.content.len() < room {
            self.content.resize(room, 0);
        }
        let flush = if at_once { FlushDecompress::Finish } else { FlushDecompress::None };
        let mut left = size;
        // When inflating at once, the parts follow each other in the buffer.
        let mut filled = 0;
        loop {
            let step = self.step(at, filled, room, flush)?;
            let made = step.made as u64;
            if made <= left {
                each(&self.content[filled..filled + step.made])?;
            }
            if step.ended && made == left {
                return Ok(());
            }
            step.check(at, made > left)?;
            left -= made;
            if at_once {
                filled += step.made;
            }
        }
    }

    /// Inflates the available bytes into `self.content[from..to]`.
    fn step(&mut self, at: u64, from: usize, to: usize, flush: FlushDecompress) -> Result<Step, Fault> {
        let available = self.input.available()?;
        let (taken, made) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self.inflate.decompress(available, &mut self.content[from..to], flush);
        let size = |total: u64, before: u64| usize::try_from(total - before).expect("no more than the buffers hold");
        let taken = size(self.inflate.total_in(), taken);
        let made = size(self.inflate.total_out(), made);
        self.input.consume(taken)?;
        match status {
            Ok(status) => Ok(Step { made, idle: taken + made == 0, ended: status == Status::StreamEnd }),
            Err(_) => Err(bad_object(at, "inflate returned -3")),
        }
    }

    /// Reads the trailer, after which nothing may follow.
    fn end(mut self) -> Result<Scanned, Fault> {
        self.input.store()?;
        let mut trailer = self.options.hash.null();
        self.input.exactly(trailer.as_mut_slice())?;
        let bytes = self.input.offset();
        let Input { body, store, trailer: hasher, start, end, .. } = self.input;
        if hasher.finish() != trailer {
            return Err(Fault::WrongTrailer);
        }
        // Checks the bytes that came with the last read, and those still to come.
        let behind = body.finish().map_err(read_fault)?;
        if behind > 0 || start < end {
            return Err(Fault::new("pack has junk at the end"));
        }
        Ok(Scanned { store, layout: self.layout, names: self.names, deltas: self.deltas, trailer, bytes })
    }
}

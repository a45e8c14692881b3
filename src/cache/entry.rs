//! The file of one answer: a header, checksummed blocks, and an end.
//!
//! In: bytes as they are made. Out: the same bytes, each block verified before any of it is handed on; a reader may
//! start while the file is still being written. All blocks but the last have the same size, so that the size of a
//! complete file tells how many there are. Nothing here knows what the bytes mean.
//!
//! ```text
//! header  magic, key, origin of the writer (boot and machine, or zeros), CRC-32
//! block   size, CRC-32, bytes                                            any number of them
//! end     a size that no block has, CRC-32, number of bytes, notes       missing until the answer is complete
//! ```

use super::{Key, Notes};
use crate::durable;
use crate::journal::Origin;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The bytes of every block but the last.
pub(super) const BLOCK_BYTES: usize = 256 << 10;
/// How much of a block is read at once to be verified: it stays in the processor's cache.
const PIECE_BYTES: usize = 32 << 10;

const MAGIC: &[u8; 8] = b"ARTKEPT\x01";
/// The letters of an [`Origin`]: a boot and a machine.
const ORIGIN_BYTES: usize = 32;
const HEADER_BYTES: usize = MAGIC.len() + 32 + ORIGIN_BYTES + 4;
/// A block's size and checksum.
const HEAD_BYTES: usize = 8;
/// The total number of bytes, and notes.
const END_BYTES: usize = 8 + super::NOTES_BYTES;

/// In place of a size: the answer is complete.
const COMPLETE: u32 = u32::MAX;
/// In place of a size: no more blocks will follow, and making the answer again would fail as well.
const FAILED: u32 = u32::MAX - 1;

/// The initial value of a file's checksums, so that no block of another answer matches.
fn seed(key: &Key) -> u32 {
    crc32fast::hash(&key.0)
}

fn checksum(seed: u32, size: u32, index: u64, bytes: &[u8]) -> u32 {
    let mut hasher = checksum_of(seed, size, index);
    hasher.update(bytes);
    hasher.finalize()
}

/// The same checksum before any bytes are added.
fn checksum_of(seed: u32, size: u32, index: u64) -> crc32fast::Hasher {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(&size.to_le_bytes());
    hasher.update(&index.to_le_bytes());
    hasher
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

/// A block as it is filled, with room for its size and checksum in front.
#[derive(Debug)]
pub(super) struct Block(Vec<u8>);

impl Block {
    /// Creates an empty block. Memory is allocated when the first byte comes.
    pub fn new() -> Self {
        Block(Vec::new())
    }

    /// The block's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.get(HEAD_BYTES..).unwrap_or_default()
    }

    /// Whether the block has as many bytes as a block may have.
    pub fn is_full(&self) -> bool {
        self.bytes().len() == BLOCK_BYTES
    }

    /// Whether the block has no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// Empties the block.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    fn open(&mut self) {
        if self.0.is_empty() {
            self.0.extend_from_slice(&[0; HEAD_BYTES]);
        }
    }

    /// Takes as many bytes as there is room for, and returns how many.
    pub fn take(&mut self, bytes: &[u8]) -> usize {
        self.open();
        let taken = bytes.len().min(BLOCK_BYTES - self.bytes().len());
        self.0.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// The same for a part of a file.
    pub fn take_from(&mut self, file: &File, range: &Range<u64>) -> io::Result<u64> {
        self.open();
        let room = BLOCK_BYTES - self.bytes().len();
        let taken = usize::try_from(range.end - range.start).map_or(room, |left| left.min(room));
        let filled = self.0.len();
        self.0.resize(filled + taken, 0);
        if let Err(error) = file.read_exact_at(&mut self.0[filled..], range.start) {
            self.0.truncate(filled);
            return Err(error);
        }
        Ok(taken as u64)
    }

    /// The block's checksum as block number `index`. The block must not be empty.
    pub fn checksum(&self, key: &Key, index: u64) -> u32 {
        let bytes = self.bytes();
        checksum(seed(key), bytes.len() as u32, index, bytes)
    }
}

/// Writes the file of an answer.
#[derive(Debug)]
pub(super) struct Writer {
    file: File,
    path: PathBuf,
    seed: u32,
    blocks: u64,
    bytes: u64,
}

impl Writer {
    /// Writes the header. `origin`: the process that holds the file's lock, if one does.
    pub fn begin(file: File, path: &Path, key: &Key, origin: Option<&Origin>) -> io::Result<Self> {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&key.0);
        match origin.map(Origin::letters).filter(|letters| letters.len() == ORIGIN_BYTES) {
            Some(letters) => header.extend_from_slice(letters.as_bytes()),
            None => header.extend_from_slice(&[0; ORIGIN_BYTES]),
        }
        header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
        let mut writer = Writer { file, path: path.to_owned(), seed: seed(key), blocks: 0, bytes: 0 };
        durable::write_all(&mut writer.file, &header)?;
        Ok(writer)
    }

    /// Writes a block, which must be full unless it is the last one.
    pub fn block(&mut self, block: &mut Block) -> io::Result<()> {
        let size = block.bytes().len() as u32;
        let sum = checksum(self.seed, size, self.blocks, block.bytes());
        block.0[..4].copy_from_slice(&size.to_le_bytes());
        block.0[4..HEAD_BYTES].copy_from_slice(&sum.to_le_bytes());
        durable::write_all(&mut self.file, &block.0)?;
        self.blocks += 1;
        self.bytes += u64::from(size);
        Ok(())
    }

    /// Marks the answer as complete.
    pub fn complete(&mut self, notes: &Notes) -> io::Result<()> {
        self.end(COMPLETE, notes)
    }

    /// Marks that no more will follow, and that making the answer again would fail as well.
    pub fn fail(&mut self) -> io::Result<()> {
        self.end(FAILED, &[0; super::NOTES_BYTES])
    }

    fn end(&mut self, mark: u32, notes: &Notes) -> io::Result<()> {
        let end = [&self.bytes.to_le_bytes()[..], notes].concat();
        let sum = checksum(self.seed, mark, self.blocks, &end);
        let all = [&mark.to_le_bytes()[..], &sum.to_le_bytes(), &end].concat();
        durable::write_all(&mut self.file, &all)
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where it is being written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The size of the file so far.
    pub fn size(&self) -> u64 {
        HEADER_BYTES as u64 + self.bytes + self.blocks * HEAD_BYTES as u64
    }
}

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A verified block: where its bytes are in the file, and its checksum.
    Block(Range<u64>, u32),
    /// The answer is complete.
    Complete(Box<Notes>),
    /// No more will follow.
    Failed,
    /// Nothing yet, or only a part.
    NotYet,
    /// Something other than what was written.
    Damaged,
}

/// Reads the file of an answer.
#[derive(Debug)]
pub(super) struct Reader {
    file: File,
    key: Key,
    seed: u32,
    is_complete: bool,
    /// The process that holds the file's lock; set once the header could be read.
    origin: Option<Option<Origin>>,
    /// The number of the next block, and where it begins, its size and checksum included.
    index: u64,
    place: u64,
    /// The part of the file last read, kept here to be reused.
    buffer: Vec<u8>,
}

impl Reader {
    /// Reads a file that may still be written to.
    pub fn growing(file: File, key: &Key) -> Self {
        let place = HEADER_BYTES as u64;
        Reader {
            file,
            key: *key,
            seed: seed(key),
            is_complete: false,
            origin: None,
            index: 0,
            place,
            buffer: Vec::new(),
        }
    }

    /// Reads a file that should be complete. Returns `None` if it is incomplete or damaged.
    pub fn complete(file: File, key: &Key) -> io::Result<Option<Self>> {
        let size = file.metadata()?.len();
        let mut reader = Reader { is_complete: true, ..Reader::growing(file, key) };
        if !reader.has_header() {
            return Ok(None);
        }
        let Some(blocks_end) = size.checked_sub((HEAD_BYTES + END_BYTES) as u64) else { return Ok(None) };
        let body = blocks_end.saturating_sub(HEADER_BYTES as u64);
        let blocks = body.div_ceil((HEAD_BYTES + BLOCK_BYTES) as u64);
        let Some(bytes) = body.checked_sub(blocks * HEAD_BYTES as u64) else { return Ok(None) };
        reader.fill(blocks_end, HEAD_BYTES + END_BYTES)?;
        let sound = matches!(reader.end(COMPLETE, blocks), Next::Complete(_));
        let told = reader.buffer.get(HEAD_BYTES..HEAD_BYTES + 8).map(<[u8]>::to_vec);
        Ok((sound && told.as_deref() == Some(&bytes.to_le_bytes()[..])).then_some(reader))
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Continues with another handle of the same file: some file systems show new data only to a process that opens the
    /// file.
    pub fn go_on_with(&mut self, file: File) {
        self.file = file;
    }

    /// The process that holds the file's lock, if known.
    pub fn origin(&mut self) -> Option<&Origin> {
        self.has_header();
        self.origin.as_ref()?.as_ref()
    }

    /// Whether the header is there and belongs to this answer.
    fn has_header(&mut self) -> bool {
        if self.origin.is_some() {
            return true;
        }
        let mut header = [0; HEADER_BYTES];
        if self.file.read_exact_at(&mut header, 0).is_err() {
            return false;
        }
        let (told, sum) = header.split_at(HEADER_BYTES - 4);
        let ours = told.starts_with(MAGIC) && told[MAGIC.len()..].starts_with(&self.key.0);
        if !ours || crc32fast::hash(told).to_le_bytes() != sum {
            return false;
        }
        let letters = std::str::from_utf8(&told[told.len() - ORIGIN_BYTES..]).unwrap_or_default();
        self.origin = Some(Origin::from_letters(letters));
        true
    }

    /// Returns the next block, once it is complete; until then each call looks at the same place. A read error counts
    /// as damage.
    pub fn next(&mut self) -> Next {
        let missing = if self.is_complete { Next::Damaged } else { Next::NotYet };
        if !self.has_header() || self.fill(self.place, HEAD_BYTES + PIECE_BYTES).is_err() {
            return missing;
        }
        let (Some(size), Some(sum)) = (word(&self.buffer, 0), word(&self.buffer, 4)) else { return missing };
        if size == COMPLETE || size == FAILED {
            return match self.end(size, self.index) {
                Next::Damaged => missing,
                end => end,
            };
        }
        if self.block_checksum(size) != Some(sum) {
            // Data that has not arrived yet may look like anything.
            return missing;
        }
        let start = self.place + HEAD_BYTES as u64;
        (self.index, self.place) = (self.index + 1, start + u64::from(size));
        Next::Block(start..self.place, sum)
    }

    /// The checksum of the next block, whose first piece is in the buffer; `None` if it cannot be a block or is
    /// incomplete.
    fn block_checksum(&mut self, size: u32) -> Option<u32> {
        let mut left = usize::try_from(size).ok().filter(|size| (1..=BLOCK_BYTES).contains(size))?;
        let mut hasher = checksum_of(self.seed, size, self.index);
        let mut at = self.place;
        let mut head = HEAD_BYTES;
        loop {
            let piece = self.buffer.get(head..head + left.min(PIECE_BYTES))?;
            hasher.update(piece);
            left -= piece.len();
            at += (head + piece.len()) as u64;
            if left == 0 {
                return Some(hasher.finalize());
            }
            self.fill(at, left.min(PIECE_BYTES)).ok()?;
            head = 0;
        }
    }

    /// Interprets the end that is in the buffer.
    fn end(&self, mark: u32, index: u64) -> Next {
        let Some(end) = self.buffer.get(HEAD_BYTES..HEAD_BYTES + END_BYTES) else { return Next::Damaged };
        if word(&self.buffer, 0) != Some(mark) || word(&self.buffer, 4) != Some(checksum(self.seed, mark, index, end)) {
            return Next::Damaged;
        }
        match end[8..].try_into() {
            Ok(notes) if mark == COMPLETE => Next::Complete(Box::new(notes)),
            _ => Next::Failed,
        }
    }

    /// Reads as much as is available, up to `most` bytes.
    fn fill(&mut self, at: u64, most: usize) -> io::Result<()> {
        self.buffer.resize(most, 0);
        let mut filled = 0;
        while filled < most {
            match self.file.read_at(&mut self.buffer[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.buffer.truncate(filled);
        Ok(())
    }
}

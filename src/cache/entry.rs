//! The file of one answer: a header, blocks with their checksums, an end.
//!
//! In: bytes as they are made. Out: the same bytes, each block verified before anything of it is handed on; whoever reads may begin
//! while they are still being written. All blocks but the last are of one size, so the size of a file says how many there are. What the
//! bytes mean is known to nobody here.
//!
//! ```text
//! header  magic, key, who writes (boot and machine, or zeros), CRC-32
//! block   size, CRC-32, bytes                                            any number of them
//! end     a size that no block has, CRC-32, number of bytes, notes       missing until all is well
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
/// So much of a block is read at once to be verified: it stays in the processor's cache.
const PIECE_BYTES: usize = 32 << 10;

const MAGIC: &[u8; 8] = b"ARTKEPT\x01";
/// Of a boot and of a machine, in letters.
const ORIGIN_BYTES: usize = 32;
const HEADER_BYTES: usize = MAGIC.len() + 32 + ORIGIN_BYTES + 4;
/// Size and checksum.
const HEAD_BYTES: usize = 8;
/// Bytes in all, and notes.
const END_BYTES: usize = 8 + super::NOTES_BYTES;

/// In the place of a size: all is there.
const COMPLETE: u32 = u32::MAX;
/// In the place of a size: there will be no more, and whoever computes it again will not get further.
const FAILED: u32 = u32::MAX - 1;

/// What checksums of a file begin with: no block of another answer fits.
fn seed(key: &Key) -> u32 {
    crc32fast::hash(&key.0)
}

fn checksum(seed: u32, size: u32, index: u64, bytes: &[u8]) -> u32 {
    let mut hasher = checksum_of(seed, size, index);
    hasher.update(bytes);
    hasher.finalize()
}

/// The same, as far as no bytes are known.
fn checksum_of(seed: u32, size: u32, index: u64) -> crc32fast::Hasher {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(&size.to_le_bytes());
    hasher.update(&index.to_le_bytes());
    hasher
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

/// A block in the making, room for its head in front.
#[derive(Debug)]
pub(super) struct Block(Vec<u8>);

impl Block {
    /// Holds nothing, and takes memory when the first byte comes.
    pub fn new() -> Self {
        Block(Vec::new())
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.get(HEAD_BYTES..).unwrap_or_default()
    }

    /// Whether it has as many bytes as a block may have.
    pub fn is_full(&self) -> bool {
        self.bytes().len() == BLOCK_BYTES
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// Forgets its bytes.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    fn open(&mut self) {
        if self.0.is_empty() {
            self.0.extend_from_slice(&[0; HEAD_BYTES]);
        }
    }

    /// Takes as many bytes as it has room for; how many.
    pub fn take(&mut self, bytes: &[u8]) -> usize {
        self.open();
        let taken = bytes.len().min(BLOCK_BYTES - self.bytes().len());
        self.0.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// The same of a part of a file.
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

    /// Its checksum as the block of this number, where it is not empty.
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
    /// Writes the header. `origin`: who holds the lock of the file, if somebody does.
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

    /// Writes a block that is full, or the last one.
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

    /// Says that all is there.
    pub fn complete(&mut self, notes: &Notes) -> io::Result<()> {
        self.end(COMPLETE, notes)
    }

    /// Says that there will be no more, and that it is not to be tried again.
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

    /// How large the file is.
    pub fn size(&self) -> u64 {
        HEADER_BYTES as u64 + self.bytes + self.blocks * HEAD_BYTES as u64
    }
}

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A block, verified: where its bytes lie in the file, and its checksum.
    Block(Range<u64>, u32),
    /// All is there.
    Complete(Box<Notes>),
    /// There will be no more.
    Failed,
    /// Nothing yet, or not all of it.
    NotYet,
    /// Something else than was written.
    Damaged,
}

/// Reads the file of an answer.
#[derive(Debug)]
pub(super) struct Reader {
    file: File,
    key: Key,
    seed: u32,
    is_complete: bool,
    /// Who holds its lock, once the header could be read.
    origin: Option<Option<Origin>>,
    /// The next block, and where it begins, its head included.
    index: u64,
    place: u64,
    /// Lent: the block looked at.
    buffer: Vec<u8>,
}

impl Reader {
    /// Reads a file that somebody may still be writing.
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

    /// Reads a file that is said to be complete; `None`: it is not, or damaged.
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

    /// Goes on with another handle of the same file: some file systems tell what is new only to who opens it.
    pub fn go_on_with(&mut self, file: File) {
        self.file = file;
    }

    /// Who holds its lock.
    pub fn origin(&mut self) -> Option<&Origin> {
        self.has_header();
        self.origin.as_ref()?.as_ref()
    }

    /// Whether the header is there and of this answer.
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

    /// The next block, if it is there; the same is looked at until then. An error of the disk is damage.
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
            // What has not arrived yet may look like anything.
            return missing;
        }
        let start = self.place + HEAD_BYTES as u64;
        (self.index, self.place) = (self.index + 1, start + u64::from(size));
        Next::Block(start..self.place, sum)
    }

    /// The checksum of the next block, of which the first piece stands in the buffer; `None`: it cannot be one, or not all of it is there.
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

    /// The end that stands in the buffer.
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

    /// Reads as much as there is, and not more than `most`.
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

//! packed-refs: a sorted file of lines, read in blocks and searched by bisection.
//!
//! In: the file. Out: its records, all in order or the first one not before a name. The file is never mapped: copying a
//! block costs a hundredth of what its rows cost, and a file that a network server loses cannot crash the process. A
//! file that is not sorted is sorted in memory. Nothing is ever written here.

use crate::hex;
use crate::refs::identity::Identity;
use crate::refs::name;
use crate::refs::row::{Peeled, Row, StoredId};
use anyhow::{Context, anyhow};
use bstr::{BStr, ByteSlice};
use gix_hash::ObjectId;
use std::cmp::Ordering;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// How many bytes a walk reads at once.
const BLOCK: usize = 32 << 10;

/// How many bytes each step of a search reads: one page, many times a line.
const STEP: usize = 4 << 10;

/// Room for a record that is cut at the end of a block, unless it is uncommonly long.
const CUT_RECORD: usize = 512;

/// The longest line; git's own names are limited by PATH_MAX.
const LINE_BYTES_MAX: usize = 64 << 10;

/// The longest line together with the `^` line after it.
const RECORD_BYTES_MAX: usize = LINE_BYTES_MAX + gix_hash::Kind::longest().len_in_hex() + "^\n\n".len();

/// How often opening the file is retried when a network file system reports a stale handle.
const STALE_RETRIES: u32 = 2;

/// What the header promises about refs that have no `^` line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Promise {
    /// Nothing.
    Unknown,
    /// Those below refs/tags/ are not annotated tags.
    Tags,
    /// None is an annotated tag.
    All,
}

/// An open packed-refs file; a missing one counts as empty.
#[derive(Debug)]
pub(super) struct Packed {
    source: Source,
    identity: Option<Identity>,
    start: u64,
    end: u64,
    promise: Promise,
    hex: usize,
}

#[derive(Debug)]
enum Source {
    File(File),
    Memory(Vec<u8>),
}

/// One ref of the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    /// The full name, not yet validated.
    pub(super) name: &'a BStr,
    /// Its lines as stored, with the `^` line.
    pub(super) raw: &'a [u8],
    id: &'a [u8],
    tag_target: Option<&'a [u8]>,
    promise: Promise,
    plain: bool,
}

impl Record<'_> {
    /// Whether the name is well-formed.
    pub(super) fn is_valid(&self) -> bool {
        self.plain || name::is_valid(self.name)
    }

    /// The object id, if the line contains a valid one.
    pub(super) fn id(&self) -> anyhow::Result<ObjectId> {
        hex::parse(self.id).ok_or_else(|| unexpected(self.raw))
    }

    /// The record as a row of a listing.
    #[inline]
    pub(super) fn row(&self) -> anyhow::Result<Row<'_>> {
        let stored = |hex| StoredId::of_hex(hex).ok_or_else(|| unexpected(self.raw));
        let id = stored(self.id)?;
        let line = id.is_text().then(|| &self.raw[..self.id.len() + 1 + self.name.len()]);
        let peeled = match self.tag_target {
            Some(hex) => Peeled::To(stored(hex)?),
            None => match self.promise {
                Promise::All => Peeled::NotATag,
                Promise::Tags if self.name.starts_with(b"refs/tags/") => Peeled::NotATag,
                Promise::Tags | Promise::Unknown => Peeled::Unknown,
            },
        };
        Ok(Row { name: self.name, id, line, peeled, symref_target: None })
    }
}

fn unexpected(line: &[u8]) -> anyhow::Error {
    let line = line.lines().next().unwrap_or_default();
    anyhow!("unexpected line in packed-refs: {}", line[..line.len().min(80)].as_bstr())
}

impl Packed {
    /// Opens the file as it is now.
    pub(super) fn open(path: &Path, hash: gix_hash::Kind) -> anyhow::Result<Self> {
        let mut retries = 0;
        let (file, metadata) = loop {
            match File::open(path).and_then(|file| file.metadata().map(|metadata| (file, metadata))) {
                Ok(opened) => break opened,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Packed::none(hash)),
                Err(error) if error.kind() == io::ErrorKind::StaleNetworkFileHandle && retries < STALE_RETRIES => {
                    retries += 1;
                }
                Err(error) => return Err(error).context("reading packed-refs"),
            }
        };
        let (source, identity, end) = (Source::File(file), Some(Identity::of(&metadata)), metadata.size());
        let mut packed = Packed { source, identity, start: 0, end, promise: Promise::Unknown, hex: hash.len_in_hex() };
        if !packed.read_header()? {
            packed.sort()?;
        }
        Ok(packed)
    }

    fn none(hash: gix_hash::Kind) -> Self {
        let (source, promise) = (Source::Memory(Vec::new()), Promise::All);
        Packed { source, identity: None, start: 0, end: 0, promise, hex: hash.len_in_hex() }
    }

    /// Identifies the file; `None` if there was none.
    pub(super) fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// What the header promises.
    pub(super) fn promise(&self) -> Promise {
        self.promise
    }

    /// Reads the header; returns whether it promises that the records are sorted.
    fn read_header(&mut self) -> anyhow::Result<bool> {
        let mut block = [0; STEP];
        let filled = self.read_at(&mut block, 0)?;
        let block = &block[..filled];
        if !block.starts_with(b"#") {
            return Ok(false);
        }
        let end = newline(block).ok_or_else(|| unexpected(block))?;
        let traits = block[..end].strip_prefix(b"# pack-refs with:").ok_or_else(|| unexpected(block))?;
        let mut sorted = false;
        for word in traits.split(|&byte| byte == b' ') {
            match word {
                b"sorted" => sorted = true,
                b"peeled" => self.promise = self.promise.max(Promise::Tags),
                b"fully-peeled" => self.promise = Promise::All,
                _ => {}
            }
        }
        self.start = end as u64 + 1;
        Ok(sorted)
    }

    /// Sorts the records in memory, unless they are in order although the header does not promise it.
    fn sort(&mut self) -> anyhow::Result<()> {
        let mut before: Vec<u8> = Vec::new();
        let mut cursor = self.cursor(self.start);
        let sorted = loop {
            match cursor.advance()?.then(|| cursor.record()) {
                None => break true,
                Some(record) if record.name.as_bytes() <= before.as_slice() && !before.is_empty() => break false,
                Some(record) => {
                    before.clear();
                    before.extend_from_slice(record.name);
                }
            }
        };
        if sorted {
            return Ok(());
        }
        let mut bytes = Vec::new();
        let mut records: Vec<(Range<usize>, usize)> = Vec::new();
        let mut cursor = self.cursor(self.start);
        while cursor.advance()? {
            let record = cursor.record();
            let start = bytes.len();
            bytes.extend_from_slice(record.raw);
            records.push((start..bytes.len(), record.name.len()));
        }
        let name = |(range, name): &(Range<usize>, usize)| &bytes[range.start + self.hex + 1..][..*name];
        records.sort_by(|a, b| name(a).cmp(name(b)));
        records.dedup_by(|later, earlier| name(later) == name(earlier));
        let mut in_order = Vec::with_capacity(bytes.len());
        for (range, _) in &records {
            in_order.extend_from_slice(&bytes[range.clone()]);
        }
        self.start = 0;
        self.end = in_order.len() as u64;
        self.source = Source::Memory(in_order);
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> anyhow::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        match &self.source {
            Source::Memory(bytes) => {
                let at = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                buffer[..wanted].copy_from_slice(&bytes[at..at + wanted]);
                Ok(wanted)
            }
            Source::File(file) => {
                let mut filled = 0;
                while filled < wanted {
                    match file.read_at(&mut buffer[filled..wanted], at + filled as u64) {
                        Ok(0) => break,
                        Ok(read) => filled += read,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error).context("reading packed-refs"),
                    }
                }
                Ok(filled)
            }
        }
    }

    /// All records.
    pub(super) fn records(&self) -> Cursor<'_> {
        self.cursor(self.start)
    }

    fn cursor(&self, at: u64) -> Cursor<'_> {
        Cursor {
            packed: self,
            buffer: Vec::new(),
            filled: 0,
            whole: 0,
            last_name: 0..0,
            next_read: at,
            block: BLOCK,
            record: Marks::default(),
        }
    }

    /// A place from which to look for the first record not before `key`: at most a few records earlier, never before
    /// `from`.
    fn near(&self, key: &[u8], from: u64) -> anyhow::Result<u64> {
        let (mut low, mut high) = (from.max(self.start), self.end);
        let mut block = [0; STEP];
        // A record begins at `low` that is before `key` or the first one; no record that begins at `high` or later is
        // before `key`.
        while high.saturating_sub(low) > STEP as u64 {
            let middle = low + (high - low) / 2;
            let filled = self.read_at(&mut block, middle)?;
            let Some((start, name)) = self.first_record(&block[..filled]) else { break };
            let at = middle + start as u64;
            if at >= high {
                high = middle;
            } else if name < key {
                low = at;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The first record that begins inside a block, and its name; the block may start and end anywhere.
    fn first_record<'a>(&self, block: &'a [u8]) -> Option<(usize, &'a [u8])> {
        let mut start = 0;
        while let Some(end) = newline(&block[start..]) {
            start += end + 1;
            let line = &block[start..];
            if line.first() != Some(&b'^') {
                return Some((start, line[..newline(line)?].get(self.hex + 1..)?));
            }
        }
        None
    }

    /// For each key, in ascending order, calls `found` with the first record not before it.
    pub(super) fn probe<'k>(
        &self,
        keys: impl ExactSizeIterator<Item = &'k [u8]>,
        mut found: impl FnMut(usize, Option<Record<'_>>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        // A search reads some 13 pages, so with many keys one pass over the file is cheaper.
        let search = (keys.len() as u64).saturating_mul(13 * STEP as u64) < self.end;
        let mut cursor = self.records();
        let mut more = if search || self.end == 0 { false } else { cursor.advance()? };
        for (number, key) in keys.enumerate() {
            if search {
                more = cursor.seek(key)?;
            } else {
                while more && cursor.record().name.as_bytes() < key {
                    more = cursor.advance()?;
                }
            }
            found(number, more.then(|| cursor.record()))?;
        }
        Ok(())
    }

    /// The object of one ref.
    pub(super) fn find(&self, name: &[u8]) -> anyhow::Result<Option<ObjectId>> {
        let mut cursor = self.records();
        if cursor.seek(name)? && cursor.record().name == name { cursor.record().id().map(Some) } else { Ok(None) }
    }
}

/// Walks over the records, starting before the first.
pub(super) struct Cursor<'p> {
    packed: &'p Packed,
    buffer: Vec<u8>,
    filled: usize,
    /// Up to here the buffer contains whole records.
    whole: usize,
    /// The name of the last whole record.
    last_name: Range<usize>,
    next_read: u64,
    /// How much to read next: little after a search, more and more as a walk goes on.
    block: usize,
    record: Marks,
}

/// The positions of the current record's parts in the buffer.
#[derive(Default, Clone, Copy)]
struct Marks {
    start: usize,
    line_end: usize,
    end: usize,
    /// Whether the name has been found well-formed already.
    plain: bool,
}

impl Cursor<'_> {
    /// Goes to the next record; `false` at the end.
    pub(super) fn advance(&mut self) -> anyhow::Result<bool> {
        while self.record.end >= self.whole {
            if !self.fill()? {
                return Ok(false);
            }
        }
        self.parse(b"")?;
        Ok(true)
    }

    /// Goes to the next record that is in the buffer already; `false` if there is none. `directory` is well-formed, and
    /// most names begin with it.
    pub(super) fn advance_in_block(&mut self, directory: &[u8]) -> anyhow::Result<bool> {
        let more = self.record.end < self.whole;
        if more {
            self.parse(directory)?;
        }
        Ok(more)
    }

    /// Whether the current record, which begins with `prefix`, and all after it in the buffer begin with `prefix` and
    /// sort before a name. They are sorted, so the last one decides.
    pub(super) fn block_is_below(&self, prefix: &[u8], before: Option<&BStr>) -> bool {
        let last = &self.buffer[self.last_name.clone()];
        last.starts_with(prefix) && before.is_none_or(|name| last < name.as_bytes())
    }

    /// Parses the record that begins where the current one ends, within the whole records. If its name begins with
    /// `directory`, which is well-formed and ends in a slash or is empty, only the rest is checked.
    #[inline]
    fn parse(&mut self, directory: &[u8]) -> anyhow::Result<()> {
        let (start, id) = (self.record.end, self.packed.hex);
        let text = &self.buffer[start..self.whole];
        // The object id contains no newline, so the search begins after it.
        let behind = text.get(id + 1..).ok_or_else(|| unexpected(text))?;
        let known = if begins_with(behind, directory) { directory.len() } else { 0 };
        let behind = &behind[known..];
        let plain = name::plain_line(behind);
        let line_end = id + 1 + known + plain.or_else(|| newline(behind)).ok_or_else(|| unexpected(text))?;
        let mut end = line_end + 1;
        if text.get(end) == Some(&b'^') {
            end += id + 2;
        }
        let is_record =
            text[id] == b' ' && line_end > id + 1 && text.get(end - 1) == Some(&b'\n') && line_end <= LINE_BYTES_MAX;
        if !is_record {
            return Err(unexpected(text));
        }
        self.record = Marks { start, line_end: start + line_end, end: start + end, plain: plain.is_some() };
        Ok(())
    }

    /// Reads the next block; `false` at the end, where there is no current record any more.
    fn fill(&mut self) -> anyhow::Result<bool> {
        let start = self.record.end;
        self.buffer.copy_within(start..self.filled, 0);
        self.filled -= start;
        self.whole = 0;
        self.record = Marks::default();
        let rest = &self.buffer[..self.filled];
        if self.next_read >= self.packed.end {
            return if rest.is_empty() { Ok(false) } else { Err(unexpected(rest).context("unterminated line")) };
        }
        if rest.len() > RECORD_BYTES_MAX {
            return Err(unexpected(rest));
        }
        let left = usize::try_from(self.packed.end - self.next_read).unwrap_or(usize::MAX);
        let wanted = self.filled + self.block.min(left);
        if self.buffer.capacity() == 0 {
            // Memory that is never touched costs nothing; moving what has been read does.
            self.buffer.reserve_exact(left.min(BLOCK) + CUT_RECORD);
        }
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        let read = self.packed.read_at(&mut self.buffer[self.filled..wanted], self.next_read)?;
        self.block = (self.block * 2).min(BLOCK);
        if read == 0 {
            return Err(anyhow!("packed-refs is shorter than it was"));
        }
        self.filled += read;
        self.next_read += read as u64;
        self.whole = whole_records(&self.buffer[..self.filled], self.next_read >= self.packed.end);
        let last_line = last_line(&self.buffer[..self.whole]);
        self.last_name = (last_line.start + self.packed.hex + 1).min(last_line.end)..last_line.end;
        Ok(true)
    }

    /// Goes to the first record not before `key`; `false` if there is none. Keys must ascend.
    pub(super) fn seek(&mut self, key: &[u8]) -> anyhow::Result<bool> {
        if self.at_record() && self.record().name.as_bytes() >= key {
            return Ok(true);
        }
        let is_read = self.whole > self.record.end && &self.buffer[self.last_name.clone()] >= key;
        let here = self.next_read - (self.filled - self.record.start) as u64;
        let near = if is_read { here } else { self.packed.near(key, here)? };
        if near >= self.next_read {
            self.filled = 0;
            self.whole = 0;
            self.record = Marks::default();
            self.next_read = near;
            self.block = 2 * STEP;
        }
        loop {
            if !self.advance()? {
                return Ok(false);
            }
            if self.record().name.as_bytes() >= key {
                return Ok(true);
            }
        }
    }

    fn at_record(&self) -> bool {
        self.record.end > self.record.start
    }

    /// The current record, once `advance` or `seek` has returned that there is one.
    #[inline]
    pub(super) fn record(&self) -> Record<'_> {
        let Marks { start, line_end, end, plain } = self.record;
        let id = self.packed.hex;
        Record {
            plain,
            name: self.buffer[start + id + 1..line_end].as_bstr(),
            raw: &self.buffer[start..end],
            id: &self.buffer[start..start + id],
            tag_target: (end > line_end + 1).then(|| &self.buffer[line_end + 2..line_end + 2 + id]),
            promise: self.packed.promise,
        }
    }

    /// Compares the current record's name with another name.
    pub(super) fn compare(&self, name: &[u8]) -> Ordering {
        self.record().name.as_bytes().cmp(name)
    }
}

/// How many bytes of a block, which begins with a record, are complete records.
fn whole_records(block: &[u8], is_last: bool) -> usize {
    let Some(newline) = last_newline(block) else { return 0 };
    let line = line_before(block, newline);
    // The `^` line of a tag may still follow.
    match block.get(newline + 1) {
        Some(b'^') => line.start,
        Some(_) => newline + 1,
        None if is_last || block[line.start] == b'^' => newline + 1,
        None => line.start,
    }
}

/// The last line with a name among whole records, without its newline.
fn last_line(records: &[u8]) -> Range<usize> {
    let Some(newline) = records.len().checked_sub(1) else { return 0..0 };
    let line = line_before(records, newline);
    if records[line.start] == b'^' && line.start > 0 { line_before(records, line.start - 1) } else { line }
}

/// The line that ends at a newline.
fn line_before(block: &[u8], newline: usize) -> Range<usize> {
    last_newline(&block[..newline]).map_or(0, |before| before + 1)..newline
}

/// Whether a text begins with `start`, if that has eight to sixteen bytes; otherwise `false`, which decides nothing. A
/// call of the general comparison would cost too much for each row.
fn begins_with(text: &[u8], start: &[u8]) -> bool {
    let text = text.get(..start.len()).unwrap_or_default();
    let ends = |text: &[u8]| Some((*text.first_chunk::<8>()?, *text.last_chunk::<8>()?));
    start.len() <= 16 && ends(start).is_some_and(|start| ends(text) == Some(start))
}

/// The first newline. Lines are short: a search of many bytes at once first asks which instructions the processor has,
/// and that takes too long for a small request.
fn newline(text: &[u8]) -> Option<usize> {
    text.iter().position(|&byte| byte == b'\n')
}

fn last_newline(text: &[u8]) -> Option<usize> {
    text.iter().rposition(|&byte| byte == b'\n')
}

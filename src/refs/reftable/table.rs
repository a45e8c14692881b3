//! One table: a file written once, with refs in order, an index over them, and reflogs after them.
//!
//! In: the file. Out: its refs or its reflog entries, from the first or from a key on. A small table is read at once
//! and closed, a larger one in blocks, which the index leads to. The list of objects after the refs is never read here.

use super::block::{HEADER, Layout, be24};
use super::record::{Log, Record, Ref, Value};
use anyhow::{Context, bail, ensure};
use flate2::{Decompress, FlushDecompress, Status};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The magic number of a table, which its footer repeats.
const MAGIC: &[u8] = b"REFT";
/// The largest file that is read at once, in bytes: what pushes write until it is compacted.
const SMALL: u64 = 16 << 10;
/// The most bytes that are read ahead of what is requested.
const AHEAD_MAX: usize = 64 << 10;
/// How many bytes are inflated, and allocated, at a time.
const PIECE: usize = 16 << 10;
/// The size of a footer after its copy of the header: five positions and a checksum.
const FOOTER: usize = 5 * 8 + 4;

/// One table, with its sections located.
#[derive(Debug)]
pub(super) struct Table {
    name: String,
    source: Source,
    hash: gix_hash::Kind,
    /// The size of the file's header, which is part of the first block.
    header: usize,
    /// The size that blocks are padded to; 0 if they are not.
    block_size: usize,
    /// Where the footer begins.
    end: u64,
    /// The first and the last transaction it covers.
    range: (u64, u64),
    refs: Section,
    logs: Section,
}

/// Where the records of one kind are in a table.
#[derive(Debug, Clone, Copy)]
struct Section {
    /// Where the first block begins; `None` if there are no such records.
    first: Option<u64>,
    /// Where the index over them begins; 0 if there is none.
    index: u64,
}

#[derive(Debug)]
enum Source {
    Memory(Vec<u8>),
    File(File),
}

impl Table {
    /// Opens a table. A small one is read into memory if `memory`, the budget in bytes, allows; its size is then
    /// deducted.
    ///
    /// # Errors
    /// When it is missing, cannot be read, is damaged, or has another object format.
    pub(super) fn open(path: &Path, hash: gix_hash::Kind, memory: &mut u64) -> anyhow::Result<Self> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let context = format!("reading the reftable {name}");
        let opened = File::open(path).and_then(|file| file.metadata().map(|metadata| (file, metadata.len())));
        let (file, size) = opened.with_context(|| context.clone())?;
        let (source, size) = if size <= SMALL.min(*memory) {
            let mut bytes = Vec::new();
            // A table never grows, so bytes beyond its size are not part of it.
            file.take(size).read_to_end(&mut bytes).with_context(|| context.clone())?;
            *memory -= size;
            let size = bytes.len() as u64;
            (Source::Memory(bytes), size)
        } else {
            (Source::File(file), size)
        };
        Table::parse(name, source, size, hash).context(context)
    }

    /// A table that is not a file yet.
    pub(super) fn in_memory(bytes: Vec<u8>, hash: gix_hash::Kind) -> anyhow::Result<Self> {
        let size = bytes.len() as u64;
        Table::parse(String::new(), Source::Memory(bytes), size, hash).context("writing a table")
    }

    /// The bytes of a table in memory; empty for one in a file.
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.source {
            Source::Memory(bytes) => bytes,
            Source::File(_) => &[],
        }
    }

    fn parse(name: String, source: Source, size: u64, hash: gix_hash::Kind) -> anyhow::Result<Self> {
        let mut head = [0; 28];
        source.read_at(&mut head[..24], 0)?;
        ensure!(head.starts_with(MAGIC), "it does not begin as one");
        let header = match head[4] {
            1 => 24,
            2 => 28,
            version => bail!("it is of the unknown version {version}"),
        };
        source.read_at(&mut head[24..header], 24)?;
        let end = size.checked_sub((header + FOOTER) as u64).filter(|end| *end >= header as u64);
        let end = end.context("it is too short")?;
        let mut footer = [0; 28 + FOOTER];
        let footer = &mut footer[..header + FOOTER];
        source.read_at(footer, end)?;
        let (said, sum) = footer.split_at(header + FOOTER - 4);
        ensure!(crc32fast::hash(said).to_be_bytes() == sum, "the checksum of its footer is wrong");
        ensure!(said[..header] == head[..header], "its header and its footer do not agree");
        let format = match &head[24..header] {
            b"" | b"sha1" => gix_hash::Kind::Sha1,
            b"s256" => gix_hash::Kind::Sha256,
            _ => bail!("it is of an unknown object format"),
        };
        ensure!(format == hash, "it is of the object format {format}, the repository of {hash}");
        let place =
            |number: usize| said[header + 8 * number..].first_chunk().map_or(0, |place| u64::from_be_bytes(*place));
        let [ref_index, _, _, logs, log_index] = [0, 1, 2, 3, 4].map(place);
        ensure!(ref_index < end && log_index < end, "its index lies outside of it");
        ensure!(logs < end, "its logs lie outside of it");
        let mut first = [0];
        source.read_at(&mut first, header as u64)?;
        let begins_with = |kind: u8| Some(0).filter(|_| end > header as u64 && first == [kind]);
        let block_size = be24([head[5], head[6], head[7]]);
        let number = |at: usize| head[at..].first_chunk().map_or(0, |number| u64::from_be_bytes(*number));
        let range = (number(8), number(16));
        let refs = Section { first: begins_with(Ref::KIND), index: ref_index };
        let logs = Section { first: begins_with(Log::KIND).or(Some(logs).filter(|at| *at > 0)), index: log_index };
        Ok(Table { name, source, hash, header, block_size, end, range, refs, logs })
    }

    /// The file's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The first and the last transaction it covers.
    pub(super) fn range(&self) -> (u64, u64) {
        self.range
    }

    /// Its size for comparing tables; a table without records has 1.
    pub(super) fn weight(&self) -> u64 {
        self.end - self.header as u64 + 1
    }

    /// Whether it has reflog entries.
    pub(super) fn has_logs(&self) -> bool {
        self.logs.first.is_some()
    }

    /// Walks over the refs, starting before the first.
    pub(super) fn refs(&self) -> Cursor<'_, Ref> {
        self.cursor(self.refs)
    }

    /// Walks over the reflog entries, starting before the first.
    pub(super) fn logs(&self) -> Cursor<'_, Log> {
        self.cursor(self.logs)
    }

    fn cursor<R>(&self, section: Section) -> Cursor<'_, R> {
        Cursor {
            table: self,
            index: section.index,
            window: Window::default(),
            inflated: Vec::new(),
            block: Block::default(),
            next: 0,
            next_block: section.first,
            name: Vec::new(),
            record: None,
        }
    }

    /// The table's record of one ref; `None` if it has none.
    pub(super) fn find(&self, name: &[u8]) -> anyhow::Result<Option<Value>> {
        let mut cursor = self.refs();
        let found = cursor.seek(name)? && cursor.name() == name;
        Ok(cursor.record.filter(|_| found).map(|record| record.value))
    }
}

impl Source {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> anyhow::Result<()> {
        match self {
            Source::Memory(bytes) => {
                let at = usize::try_from(at).context("a place is too large")?;
                let found = bytes.get(at..).and_then(|rest| rest.get(..buffer.len())).context("it is too short")?;
                buffer.copy_from_slice(found);
                Ok(())
            }
            Source::File(file) => file.read_exact_at(buffer, at).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => anyhow::anyhow!("it is too short"),
                _ => error.into(),
            }),
        }
    }
}

/// A part of a file in memory; never filled for a table in memory.
#[derive(Default)]
struct Window {
    bytes: Vec<u8>,
    at: u64,
    /// How much was read last: little for a lookup, more and more as a walk goes on.
    ahead: usize,
}

/// The position of a block.
#[derive(Debug, Clone, Copy, Default)]
struct Block {
    at: u64,
    /// The size of the block after inflating.
    size: usize,
    /// The size of the block as stored.
    stored: u64,
    kind: u8,
    layout: Layout,
}

/// Walks over the records of one kind in a table.
pub(super) struct Cursor<'t, R> {
    table: &'t Table,
    index: u64,
    window: Window,
    /// The bytes of the block, if it is stored deflated.
    inflated: Vec<u8>,
    block: Block,
    /// Where the next record begins in the block.
    next: usize,
    /// Where the next block begins; `None` if this is the last.
    next_block: Option<u64>,
    name: Vec<u8>,
    record: Option<R>,
}

impl<'t, R: Record> Cursor<'t, R> {
    /// The current record's name, once `advance` or `seek` has returned that there is one.
    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// The current record.
    pub(super) fn record(&self) -> Option<&R> {
        self.record.as_ref()
    }

    /// Goes to the next record; `false` at the end.
    pub(super) fn advance(&mut self) -> anyhow::Result<bool> {
        self.step().with_context(|| self.table.described())
    }

    /// Goes to the first record not before `key`; `false` if there is none. Keys must ascend.
    pub(super) fn seek(&mut self, key: &[u8]) -> anyhow::Result<bool> {
        self.go_to(key).with_context(|| self.table.described())
    }

    fn step(&mut self) -> anyhow::Result<bool> {
        loop {
            if self.block.size > 0 {
                let bytes = bytes_of(self.table, &self.window, &self.inflated, &self.block);
                let (base, _) = self.table.range;
                let read = self.block.layout.read(bytes, self.next, &mut self.name, base, self.table.hash);
                if let Some((record, next)) = read.with_context(|| self.block.described())? {
                    self.record = Some(record);
                    self.next = next;
                    return Ok(true);
                }
            }
            let Some(at) = self.next_block else { return Ok(self.end()) };
            if at >= self.table.end || !self.enter(at)? {
                return Ok(self.end());
            }
        }
    }

    fn end(&mut self) -> bool {
        self.record = None;
        self.next_block = None;
        self.block = Block::default();
        false
    }

    fn go_to(&mut self, key: &[u8]) -> anyhow::Result<bool> {
        if self.record.is_some() && self.name.as_slice() >= key {
            return Ok(true);
        }
        if self.block.size > 0 && self.go_on_to(key)? {
            return Ok(true);
        }
        // No block is left, so no later name is in the table.
        if self.next_block.is_none() {
            return Ok(self.end());
        }
        if self.index == 0 {
            return self.walk_to(key);
        }
        let Some(at) = self.leaf(key)? else { return Ok(self.end()) };
        ensure!(at > self.block.at || self.block.size == 0, "its index leads back");
        self.name.clear();
        ensure!(self.enter(at)?, "its index leads to a block of another type");
        Ok(self.go_on_to(key)? || self.walk_to(key)?)
    }

    /// The position of the block that the index names for `key`; `None` if all names are before it.
    fn leaf(&mut self, key: &[u8]) -> anyhow::Result<Option<u64>> {
        let mut at = self.index;
        let mut is_top = true;
        while at < self.table.end {
            let block = self.load(at)?;
            if block.kind != b'i' {
                return Ok(Some(at).filter(|_| !is_top));
            }
            let bytes = bytes_of(self.table, &self.window, &self.inflated, &block);
            match block.layout.find_block(bytes, key).with_context(|| block.described())? {
                Some(place) => {
                    // Every index comes after the blocks it covers, so the descent ends.
                    ensure!(place < at, "{}: it leads onwards instead of back", block.described());
                    (at, is_top) = (place, false);
                }
                // The topmost level may have several consecutive blocks.
                None if is_top => at = self.behind(&block)?,
                None => break,
            }
        }
        Ok(None)
    }

    /// Searches the following blocks one after the other.
    fn walk_to(&mut self, key: &[u8]) -> anyhow::Result<bool> {
        while let Some(at) = self.next_block.filter(|at| *at < self.table.end) {
            if !self.enter(at)? {
                break;
            }
            if self.go_on_to(key)? {
                return Ok(true);
            }
        }
        Ok(self.end())
    }

    /// Goes to the first record not before `key` in the rest of this block.
    fn go_on_to(&mut self, key: &[u8]) -> anyhow::Result<bool> {
        let Block { layout, .. } = self.block;
        let bytes = bytes_of(self.table, &self.window, &self.inflated, &self.block);
        let near = layout.near(bytes, key).with_context(|| self.block.described())?;
        if near > self.next {
            self.next = near;
            self.name.clear();
        }
        loop {
            let (base, _) = self.table.range;
            let read = layout.read(bytes, self.next, &mut self.name, base, self.table.hash);
            let Some((record, next)) = read.with_context(|| self.block.described())? else {
                self.record = None;
                return Ok(false);
            };
            self.record = Some(record);
            self.next = next;
            if self.name.as_slice() >= key {
                return Ok(true);
            }
        }
    }

    /// Goes to before the first record of the block at `at`; `false` if that has another type.
    fn enter(&mut self, at: u64) -> anyhow::Result<bool> {
        let block = self.load(at)?;
        if block.kind != R::KIND {
            return Ok(false);
        }
        self.block = block;
        self.next = block.layout.first();
        self.next_block = Some(self.behind(&block)?);
        Ok(true)
    }

    /// Brings a block into memory.
    fn load(&mut self, at: u64) -> anyhow::Result<Block> {
        let header = if at == 0 { self.table.header } else { 0 };
        let least = header + HEADER;
        let head = self.fill(at, least).with_context(|| format!("block at {at}"))?;
        let (kind, size) = (head[header], be24([head[header + 1], head[header + 2], head[header + 3]]));
        ensure!(matches!(kind, b'r' | b'g' | b'o' | b'i'), "block at {at}: it is of an unknown type");
        if kind != R::KIND && kind != b'i' {
            // Records of another kind follow, so these end here.
            return Ok(Block { at, size: least, stored: least as u64, kind, layout: Layout::default() });
        }
        ensure!(size > least, "block at {at}: it is too short");
        if kind == Log::KIND {
            let stored = self.inflate(at, least, size).with_context(|| format!("block at {at}"))?;
            let layout = Layout::of(&self.inflated, header).with_context(|| format!("block at {at}"))?;
            return Ok(Block { at, size, stored, kind, layout });
        }
        // Together with the byte after it, which tells whether padding follows.
        let wanted = if at + (size as u64) < self.table.end { size + 1 } else { size };
        let bytes = self.fill(at, wanted).with_context(|| format!("block at {at}"))?;
        let layout = Layout::of(&bytes[..size], header).with_context(|| format!("block at {at}"))?;
        Ok(Block { at, size, stored: size as u64, kind, layout })
    }

    /// Inflates a block of `size` bytes, of which the first `plain` are not deflated; returns its stored size.
    fn inflate(&mut self, at: u64, plain: usize, size: usize) -> anyhow::Result<u64> {
        let mut inflated = std::mem::take(&mut self.inflated);
        inflated.clear();
        inflated.extend_from_slice(&self.fill(at, plain)?[..plain]);
        let mut zlib = Decompress::new(true);
        loop {
            let from = at + plain as u64 + zlib.total_in();
            let left = usize::try_from(self.table.end.saturating_sub(from)).unwrap_or(usize::MAX);
            ensure!(left > 0, "it goes beyond the table's end");
            // Memory is allocated only as output arrives, so a wrong size costs nothing.
            inflated.reserve((size - inflated.len()).clamp(1, PIECE));
            let (before, done) = (zlib.total_in(), inflated.len());
            let input = self.fill(from, left.min(PIECE))?;
            let status = zlib.decompress_vec(input, &mut inflated, FlushDecompress::None).context("inflating it")?;
            ensure!(inflated.len() <= size, "it is longer than it says");
            if status == Status::StreamEnd {
                break;
            }
            ensure!(zlib.total_in() > before || inflated.len() > done, "it does not go on");
        }
        ensure!(inflated.len() == size, "it is shorter than it says");
        self.inflated = inflated;
        Ok(plain as u64 + zlib.total_in())
    }

    /// Where the next block begins: at once, or after padding.
    fn behind(&mut self, block: &Block) -> anyhow::Result<u64> {
        let behind = block.at + block.stored;
        // Blocks of reflogs are not padded.
        if block.kind == Log::KIND || block.size >= self.table.block_size || behind >= self.table.end {
            return Ok(behind);
        }
        Ok(if self.fill(behind, 1)?[0] == 0 { block.at + self.table.block_size as u64 } else { behind })
    }

    /// The `size` bytes of the table from `at` on, read if they are not in memory.
    fn fill(&mut self, at: u64, size: usize) -> anyhow::Result<&[u8]> {
        let table = self.table;
        let left = table.end.saturating_sub(at);
        ensure!(size as u64 <= left, "it goes beyond the table's end");
        let file = match &table.source {
            Source::Memory(bytes) => {
                let at = usize::try_from(at).context("a place is too large")?;
                return bytes.get(at..).and_then(|rest| rest.get(..size)).context("it goes beyond the table's end");
            }
            Source::File(_) => &table.source,
        };
        let window = &mut self.window;
        let inside = at.checked_sub(window.at).and_then(|start| usize::try_from(start).ok());
        let inside = inside.filter(|start| start.checked_add(size).is_some_and(|end| end <= window.bytes.len()));
        let start = match inside {
            Some(start) => start,
            None => {
                let goes_on = window.at + window.bytes.len() as u64 >= at && at >= window.at;
                let first = (table.block_size + 1).clamp(4 << 10, AHEAD_MAX);
                window.ahead = if goes_on { (window.ahead * 2).clamp(first, AHEAD_MAX) } else { first };
                let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(window.ahead.max(size));
                window.bytes.clear();
                window.bytes.resize(wanted, 0);
                window.at = at;
                file.read_at(&mut window.bytes, at)?;
                0
            }
        };
        Ok(&window.bytes[start..start + size])
    }
}

impl Table {
    fn described(&self) -> String {
        format!("reading the reftable {}", self.name)
    }
}

impl Block {
    fn described(&self) -> String {
        format!("block at {}", self.at)
    }
}

/// The bytes of a block that was loaded before.
fn bytes_of<'b>(table: &'b Table, window: &'b Window, inflated: &'b [u8], block: &Block) -> &'b [u8] {
    if block.kind == Log::KIND {
        return inflated;
    }
    let (bytes, start) = match &table.source {
        Source::Memory(bytes) => (bytes, block.at),
        Source::File(_) => (&window.bytes, block.at - window.at),
    };
    let start = usize::try_from(start).expect("what was filled in lies in memory");
    &bytes[start..start + block.size]
}

//! One table: a file that is written once, with refs in order, an index over them, and logs behind them.
//!
//! In: the file. Out: its refs, from the first or from a key on. A small table is read at once and closed, a larger one in blocks:
//! the index leads to the one that has a name. What follows the refs (objects, logs) is never read here.

use super::block::{HEADER, Layout, Value, be24};
use anyhow::{Context, bail, ensure};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What a table begins and its footer begins with.
const MAGIC: &[u8] = b"REFT";
/// Files up to this size are read at once: what pushes leave behind until it is compacted.
const SMALL: u64 = 16 << 10;
/// The most bytes read ahead of what is asked for.
const AHEAD_MAX: usize = 64 << 10;
/// The bytes of a footer behind its copy of the header: five places and a checksum.
const FOOTER: usize = 5 * 8 + 4;

/// One table, its refs found.
#[derive(Debug)]
pub(super) struct Table {
    name: String,
    source: Source,
    hash: gix_hash::Kind,
    /// The file's header; the first block begins with it.
    header: usize,
    /// What blocks are padded to; 0: nothing.
    block_size: usize,
    /// Where the footer begins.
    end: u64,
    /// Where the index over the refs begins; 0: there is none.
    index: u64,
    has_refs: bool,
}

#[derive(Debug)]
enum Source {
    Memory(Vec<u8>),
    File(File),
}

impl Table {
    /// Opens a table. Small ones are read into memory as long as `memory` lasts.
    ///
    /// # Errors
    /// When it is missing, cannot be read, is damaged, or is of another object format.
    pub(super) fn open(path: &Path, hash: gix_hash::Kind, memory: &mut u64) -> anyhow::Result<Self> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let context = format!("reading the reftable {name}");
        let opened = File::open(path).and_then(|file| file.metadata().map(|metadata| (file, metadata.len())));
        let (file, size) = opened.with_context(|| context.clone())?;
        let (source, size) = if size <= SMALL.min(*memory) {
            let mut bytes = Vec::new();
            // It never grows: what stands behind its end is none of it.
            file.take(size).read_to_end(&mut bytes).with_context(|| context.clone())?;
            *memory -= size;
            let size = bytes.len() as u64;
            (Source::Memory(bytes), size)
        } else {
            (Source::File(file), size)
        };
        Table::parse(name, source, size, hash).context(context)
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
        let index = said[header..].first_chunk().map_or(0, |place| u64::from_be_bytes(*place));
        ensure!(index < end, "its index lies outside of it");
        let mut first = [0];
        source.read_at(&mut first, header as u64)?;
        let block_size = be24([head[5], head[6], head[7]]);
        let has_refs = end > header as u64 && first == *b"r";
        Ok(Table { name, source, hash, header, block_size, end, index, has_refs })
    }

    /// Walks over the refs. It begins before the first.
    pub(super) fn cursor(&self) -> Cursor<'_> {
        Cursor {
            table: self,
            window: Window::default(),
            block: Block::default(),
            next: 0,
            next_block: Some(0).filter(|_| self.has_refs),
            name: Vec::new(),
            value: None,
        }
    }

    /// What the table says of one ref; `None`: nothing.
    pub(super) fn find(&self, name: &[u8]) -> anyhow::Result<Option<Value>> {
        let mut cursor = self.cursor();
        Ok(if cursor.seek(name)? && cursor.name() == name { cursor.value } else { None })
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

/// A part of a file in memory; of a table in memory it is never filled.
#[derive(Default)]
struct Window {
    bytes: Vec<u8>,
    at: u64,
    /// How much was read last: little where a name is looked up, more and more where a walk goes on.
    ahead: usize,
}

/// Where a block lies.
#[derive(Debug, Clone, Copy, Default)]
struct Block {
    at: u64,
    size: usize,
    kind: u8,
    layout: Layout,
}

/// Walks over the refs of a table.
pub(super) struct Cursor<'t> {
    table: &'t Table,
    window: Window,
    block: Block,
    /// Where the next record begins in the block.
    next: usize,
    /// Where the next block begins; `None`: this was the last.
    next_block: Option<u64>,
    name: Vec<u8>,
    value: Option<Value>,
}

impl<'t> Cursor<'t> {
    /// The current ref's name. After `advance` or `seek` has said that there is one.
    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// What is said of the current ref.
    pub(super) fn value(&self) -> &Value {
        self.value.as_ref().unwrap_or(&Value::Deleted)
    }

    /// Goes to the next ref; `false` at the end.
    pub(super) fn advance(&mut self) -> anyhow::Result<bool> {
        self.step().with_context(|| self.table.described())
    }

    /// Goes to the first ref not before `key`; `false` where there is none. Keys must ascend.
    pub(super) fn seek(&mut self, key: &[u8]) -> anyhow::Result<bool> {
        self.go_to(key).with_context(|| self.table.described())
    }

    fn step(&mut self) -> anyhow::Result<bool> {
        loop {
            if self.block.size > 0 {
                let bytes = bytes_of(self.table, &self.window, &self.block);
                let read = self.block.layout.read_ref(bytes, self.next, &mut self.name, self.table.hash);
                if let Some((value, next)) = read.with_context(|| self.block.described())? {
                    self.value = Some(value);
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
        self.value = None;
        self.next_block = None;
        self.block = Block::default();
        false
    }

    fn go_to(&mut self, key: &[u8]) -> anyhow::Result<bool> {
        if self.value.is_some() && self.name.as_slice() >= key {
            return Ok(true);
        }
        if self.block.size > 0 && self.go_on_to(key)? {
            return Ok(true);
        }
        // An index behind the refs ends the search in it: what is not there is nowhere.
        if self.next_block.is_none() {
            return Ok(self.end());
        }
        if self.table.index == 0 {
            return self.walk_to(key);
        }
        let Some(at) = self.leaf(key)? else { return Ok(self.end()) };
        ensure!(at > self.block.at || self.block.size == 0, "its index leads back");
        self.name.clear();
        ensure!(self.enter(at)?, "its index leads to a block that has no refs");
        Ok(self.go_on_to(key)? || self.walk_to(key)?)
    }

    /// The place of the block of refs that the index names for `key`; `None`: all names are before it.
    fn leaf(&mut self, key: &[u8]) -> anyhow::Result<Option<u64>> {
        let mut at = self.table.index;
        let mut is_top = true;
        while at < self.table.end {
            let block = self.load(at)?;
            if block.kind != b'i' {
                return Ok(Some(at).filter(|_| !is_top));
            }
            let bytes = bytes_of(self.table, &self.window, &block);
            match block.layout.find_block(bytes, key).with_context(|| block.described())? {
                Some(place) => {
                    // Every index stands behind what it is about: the way down has an end.
                    ensure!(place < at, "{}: it leads onwards instead of back", block.described());
                    (at, is_top) = (place, false);
                }
                // The uppermost level may be several blocks, one behind the other.
                None if is_top => at = self.behind(&block)?,
                None => break,
            }
        }
        Ok(None)
    }

    /// From the next block on, one after the other.
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

    /// Goes to the first ref not before `key` that stands in this block, from here on.
    fn go_on_to(&mut self, key: &[u8]) -> anyhow::Result<bool> {
        let Block { layout, .. } = self.block;
        let bytes = bytes_of(self.table, &self.window, &self.block);
        let near = layout.near(bytes, key).with_context(|| self.block.described())?;
        if near > self.next {
            self.next = near;
            self.name.clear();
        }
        loop {
            let read = layout.read_ref(bytes, self.next, &mut self.name, self.table.hash);
            let Some((value, next)) = read.with_context(|| self.block.described())? else {
                self.value = None;
                return Ok(false);
            };
            self.value = Some(value);
            self.next = next;
            if self.name.as_slice() >= key {
                return Ok(true);
            }
        }
    }

    /// Stands before the first record of the block at `at`; `false` where that has no refs.
    fn enter(&mut self, at: u64) -> anyhow::Result<bool> {
        let block = self.load(at)?;
        if block.kind != b'r' {
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
        if !matches!(kind, b'r' | b'i') {
            // Objects and logs follow; whatever else this is, it is no ref.
            ensure!(matches!(kind, b'o' | b'g'), "block at {at}: it is of an unknown type");
            return Ok(Block { at, size: least, kind, layout: Layout::default() });
        }
        ensure!(size > least, "block at {at}: it is too short");
        // With the byte behind it, which tells whether padding follows.
        let wanted = if at + (size as u64) < self.table.end { size + 1 } else { size };
        let bytes = self.fill(at, wanted).with_context(|| format!("block at {at}"))?;
        let layout = Layout::of(&bytes[..size], header).with_context(|| format!("block at {at}"))?;
        Ok(Block { at, size, kind, layout })
    }

    /// Where the block behind one begins: at once, or after padding.
    fn behind(&mut self, block: &Block) -> anyhow::Result<u64> {
        let behind = block.at + block.size as u64;
        if block.size >= self.table.block_size || behind >= self.table.end {
            return Ok(behind);
        }
        Ok(if self.fill(behind, 1)?[0] == 0 { block.at + self.table.block_size as u64 } else { behind })
    }

    /// So many bytes of the table from `at` on, read if they are not in memory.
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

/// The bytes of a block that was filled in before.
fn bytes_of<'b>(table: &'b Table, window: &'b Window, block: &Block) -> &'b [u8] {
    let (bytes, start) = match &table.source {
        Source::Memory(bytes) => (bytes, block.at),
        Source::File(_) => (&window.bytes, block.at - window.at),
    };
    let start = usize::try_from(start).expect("what was filled in lies in memory");
    &bytes[start..start + block.size]
}

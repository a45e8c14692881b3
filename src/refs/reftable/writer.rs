//! Writes one table: refs, the list of objects, reflogs, and an index over each section that is large enough.
//!
//! In: records in the order of their names, refs before reflog entries. Out: the bytes of a table as git would write
//! it, block by block. Files are not known here.

use super::block::{HEADER, put_varint};
use super::record::{Log, Record, Ref};
use crate::refs::transaction::TablePolicy;
use anyhow::{Context, ensure};
use flate2::{Compress, Compression, FlushCompress, Status};
use gix_hash::ObjectId;
use std::collections::BTreeMap;
use std::io;

/// The most blocks of a section without an index.
const UNINDEXED_MAX: usize = 3;
/// The most restart points of a block: their number has two bytes.
const RESTARTS_MAX: usize = u16::MAX as usize;
/// The longest prefix of an object id in bytes: its length has five bits in the footer.
const OBJECT_PREFIX_MAX: usize = 31;

/// Receives the bytes of a table.
pub(super) type Out<'a> = dyn FnMut(&[u8]) -> io::Result<()> + 'a;

/// A table being written.
pub(super) struct TableWriter<'o> {
    out: &'o mut Out<'o>,
    policy: TablePolicy,
    hash: gix_hash::Kind,
    range: (u64, u64),
    /// Where the next block begins.
    next: u64,
    /// How many zeros come before the next block, if that is aligned.
    padding: usize,
    block: BlockWriter,
    kind: u8,
    /// The last record's name in this section.
    last: Vec<u8>,
    /// The last name and the position of each block of this section, or of the last level of its index.
    index: Vec<(Vec<u8>, u64)>,
    /// The positions of the blocks that name an object.
    objects: BTreeMap<ObjectId, Vec<u64>>,
    places: Places,
}

/// The positions that the footer contains.
#[derive(Default)]
struct Places {
    ref_index: u64,
    objects: u64,
    object_prefix: usize,
    object_index: u64,
    logs: u64,
    log_index: u64,
}

impl<'o> TableWriter<'o> {
    /// `range` is the first and the last transaction that the table covers.
    pub(super) fn new(out: &'o mut Out<'o>, policy: TablePolicy, hash: gix_hash::Kind, range: (u64, u64)) -> Self {
        let header = header(policy, hash, range);
        TableWriter {
            out,
            policy,
            hash,
            range,
            next: 0,
            padding: 0,
            block: BlockWriter::new(Ref::KIND, &header),
            kind: Ref::KIND,
            last: Vec::new(),
            index: Vec::new(),
            objects: BTreeMap::new(),
            places: Places::default(),
        }
    }

    /// Adds a record, whose name must sort after the one before.
    ///
    /// # Errors
    /// When it is larger than a block, or `out` fails.
    pub(super) fn add<R: Record>(&mut self, name: &[u8], record: &R) -> anyhow::Result<()> {
        if R::KIND != self.kind {
            self.end_section()?;
            // Blocks of reflogs are not aligned.
            self.next -= self.padding as u64;
            self.padding = 0;
            self.begin_section(R::KIND);
        }
        ensure!(self.last.is_empty() || self.last.as_slice() < name, "records are not in order");
        self.last.clear();
        self.last.extend_from_slice(name);
        let mut value = Vec::new();
        record.write(self.range.0, &mut value);
        ensure!(self.put(name, record.kind(), &value)?, "entry too large");
        if self.policy.index_objects {
            for id in record.objects().into_iter().flatten() {
                let places = self.objects.entry(id).or_default();
                if places.last() != Some(&self.next) {
                    places.push(self.next);
                }
            }
        }
        Ok(())
    }

    /// Writes the rest; returns whether there was any record.
    pub(super) fn finish(mut self) -> anyhow::Result<bool> {
        self.end_section()?;
        let header = header(self.policy, self.hash, self.range);
        let is_empty = self.next == 0;
        if is_empty {
            (self.out)(&header)?;
        }
        let mut footer = header;
        let places = self.places;
        let objects = places.objects << 5 | places.object_prefix as u64;
        for place in [places.ref_index, objects, places.object_index, places.logs, places.log_index] {
            footer.extend_from_slice(&place.to_be_bytes());
        }
        let sum = crc32fast::hash(&footer);
        footer.extend_from_slice(&sum.to_be_bytes());
        (self.out)(&footer)?;
        Ok(!is_empty)
    }

    fn begin_section(&mut self, kind: u8) {
        self.kind = kind;
        self.last.clear();
        self.begin_block(kind);
    }

    fn begin_block(&mut self, kind: u8) {
        let header = if self.next == 0 { header(self.policy, self.hash, self.range) } else { Vec::new() };
        self.block = BlockWriter::new(kind, &header);
    }

    /// Adds a record to the block, or to the next; `false` if it is larger than a block.
    fn put(&mut self, name: &[u8], kind: u8, value: &[u8]) -> anyhow::Result<bool> {
        if self.block.add(name, kind, value, self.policy) {
            return Ok(true);
        }
        if self.block.records == 0 {
            return Ok(false);
        }
        self.flush()?;
        self.begin_block(self.block.kind);
        Ok(self.block.add(name, kind, value, self.policy))
    }

    /// Ends the records of one kind: writes their last block, their index, and after refs the list of objects.
    fn end_section(&mut self) -> anyhow::Result<()> {
        let index = self.end_blocks()?;
        match self.kind {
            Ref::KIND => {
                self.places.ref_index = index;
                if index > 0 && self.policy.index_objects {
                    self.write_objects()?;
                }
                self.objects.clear();
            }
            _ => self.places.log_index = index,
        }
        Ok(())
    }

    /// Writes the last block and the index over the blocks; returns where that begins, or 0 if there is none.
    ///
    /// An index of many blocks gets an index of its own, and so on; readers begin with the last one written.
    fn end_blocks(&mut self) -> anyhow::Result<u64> {
        self.flush()?;
        let mut start = 0;
        while self.index.len() > UNINDEXED_MAX {
            start = self.next;
            self.begin_block(b'i');
            for (name, place) in std::mem::take(&mut self.index) {
                let mut value = Vec::new();
                put_varint(place, &mut value);
                ensure!(self.put(&name, 0, &value)?, "entry too large");
            }
            self.flush()?;
        }
        self.index.clear();
        Ok(start)
    }

    /// Writes, for each object, which blocks have a ref to it. Ids are cut to the shortest length at which all differ.
    fn write_objects(&mut self) -> anyhow::Result<()> {
        let objects = std::mem::take(&mut self.objects);
        let ids: Vec<&ObjectId> = objects.keys().collect();
        let common = |pair: &[&ObjectId]| {
            let (one, other) = (pair[0].as_slice(), pair[1].as_slice());
            one.iter().zip(other).take_while(|(one, other)| one == other).count()
        };
        let prefix = ids.windows(2).map(common).max().unwrap_or(0).max(1) + 1;
        if prefix > OBJECT_PREFIX_MAX || objects.is_empty() {
            return Ok(());
        }
        self.places.object_prefix = prefix;
        self.places.objects = self.next;
        self.begin_block(b'o');
        for (id, places) in &objects {
            let name = &id.as_slice()[..prefix];
            let (kind, value) = object_value(places);
            if !self.put(name, kind, &value)? {
                // Too many positions for a block. An empty list makes readers search all blocks.
                let (kind, value) = object_value(&[]);
                ensure!(self.put(name, kind, &value)?, "entry too large");
            }
        }
        self.places.object_index = self.end_blocks()?;
        Ok(())
    }

    /// Passes the block on, if there is anything in it.
    fn flush(&mut self) -> anyhow::Result<()> {
        if self.block.records == 0 {
            return Ok(());
        }
        let kind = self.block.kind;
        let last = std::mem::take(&mut self.block.last);
        let block = self.block.finish()?;
        self.block.records = 0;
        let block_size = usize::try_from(self.policy.block_size).context("a block is too large")?;
        if kind == Log::KIND && self.index.is_empty() {
            self.places.logs = self.next;
        }
        if self.padding > 0 {
            (self.out)(&vec![0; self.padding])?;
        }
        (self.out)(&block)?;
        self.padding = if kind == Log::KIND { 0 } else { block_size - block.len() };
        self.index.push((last, self.next));
        self.next += (block.len() + self.padding) as u64;
        Ok(())
    }
}

/// Whether a record fits into a block of its own.
pub(super) fn fits<R: Record>(name: &[u8], record: &R, policy: TablePolicy) -> bool {
    let mut value = Vec::new();
    record.write(0, &mut value);
    BlockWriter::new(R::KIND, &[]).add(name, record.kind(), &value, policy)
}

/// The header of a table, which its footer repeats.
fn header(policy: TablePolicy, hash: gix_hash::Kind, (first, last): (u64, u64)) -> Vec<u8> {
    let mut header = b"REFT".to_vec();
    header.push(if hash == gix_hash::Kind::Sha1 { 1 } else { 2 });
    header.extend_from_slice(&policy.block_size.to_be_bytes()[1..]);
    header.extend_from_slice(&first.to_be_bytes());
    header.extend_from_slice(&last.to_be_bytes());
    if hash != gix_hash::Kind::Sha1 {
        header.extend_from_slice(b"s256");
    }
    header
}

/// The type and value of a record in the list of objects: the number of positions, in the type if it fits there, and
/// each position as its distance from the one before.
fn object_value(places: &[u64]) -> (u8, Vec<u8>) {
    let mut value = Vec::new();
    let kind = u8::try_from(places.len()).ok().filter(|count| (1..8).contains(count)).unwrap_or(0);
    if kind == 0 {
        put_varint(places.len() as u64, &mut value);
    }
    let mut before = 0;
    for place in places {
        put_varint(place - before, &mut value);
        before = *place;
    }
    (kind, value)
}

/// A block being written.
struct BlockWriter {
    kind: u8,
    /// The bytes so far: the file's header in the first block, then the block's own header and records.
    bytes: Vec<u8>,
    /// Where the block's own header begins.
    start: usize,
    restarts: Vec<usize>,
    records: usize,
    last: Vec<u8>,
}

impl BlockWriter {
    fn new(kind: u8, header: &[u8]) -> Self {
        let mut bytes = header.to_vec();
        bytes.extend_from_slice(&[kind, 0, 0, 0]);
        BlockWriter { kind, bytes, start: header.len(), restarts: Vec::new(), records: 0, last: Vec::new() }
    }

    /// Adds a record if it fits.
    fn add(&mut self, name: &[u8], kind: u8, value: &[u8], policy: TablePolicy) -> bool {
        let is_whole = self.records.is_multiple_of(usize::from(policy.restart_interval.max(1)));
        let before = if is_whole { &[][..] } else { &self.last };
        let prefix = before.iter().zip(name).take_while(|(before, name)| before == name).count();
        let from = self.bytes.len();
        put_varint(prefix as u64, &mut self.bytes);
        put_varint(((name.len() - prefix) as u64) << 3 | u64::from(kind), &mut self.bytes);
        self.bytes.extend_from_slice(&name[prefix..]);
        self.bytes.extend_from_slice(value);
        let is_restart = prefix == 0 && self.restarts.len() < RESTARTS_MAX;
        let tail = 3 * (self.restarts.len() + usize::from(is_restart)) + 2;
        if self.bytes.len() + tail > self.room(policy) {
            self.bytes.truncate(from);
            return false;
        }
        if is_restart {
            self.restarts.push(from);
        }
        self.records += 1;
        self.last.clear();
        self.last.extend_from_slice(name);
        true
    }

    /// How many bytes the block may have.
    ///
    /// Deflating can make a block longer, and C git reads no more of one than the block size. Room is left for what
    /// zlib may add: five bytes for every 16 KiB, and eleven. A single entry may use the whole block.
    fn room(&self, policy: TablePolicy) -> usize {
        let size = usize::try_from(policy.block_size).unwrap_or(usize::MAX);
        if self.kind == Log::KIND && self.records > 0 { size.saturating_sub(16 + size / 2048) } else { size }
    }

    /// The bytes of the whole block.
    fn finish(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = std::mem::take(&mut self.bytes);
        for restart in &self.restarts {
            bytes.extend_from_slice(&be24(*restart)?);
        }
        let count = u16::try_from(self.restarts.len()).context("too many restart points")?;
        bytes.extend_from_slice(&count.to_be_bytes());
        let size = be24(bytes.len())?;
        bytes[self.start + 1..self.start + HEADER].copy_from_slice(&size);
        if self.kind != Log::KIND {
            return Ok(bytes);
        }
        let plain = self.start + HEADER;
        let mut deflated = Vec::with_capacity(bytes.len() + 64);
        deflated.extend_from_slice(&bytes[..plain]);
        let mut zlib = Compress::new(Compression::best(), true);
        loop {
            let from = plain + usize::try_from(zlib.total_in()).context("a block is too large")?;
            let status = zlib.compress_vec(&bytes[from..], &mut deflated, FlushCompress::Finish)?;
            if status == Status::StreamEnd {
                return Ok(deflated);
            }
            deflated.reserve(bytes.len());
        }
    }
}

fn be24(number: usize) -> anyhow::Result<[u8; 3]> {
    let [zero, high, middle, low] = u32::try_from(number).context("a block is too large")?.to_be_bytes();
    ensure!(zero == 0, "a block is too large");
    Ok([high, middle, low])
}

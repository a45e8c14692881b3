//! Writing a pack: order, a source for each entry as it comes, the trailer.
//!
//! In: a selection. Out: one pack. Objects go out pack by pack in the order in which they are stored, then the loose ones;
//! what can be copied is never inflated. A stored delta whose base is not sent, and what is stored whole beside a version in another
//! pack or the client's, gets a new delta, on one other version. A delta rests on an object that was written before it, that is
//! written later from the same pack, or that the client has; so no two deltas can rest on each other.

use super::PackStats;
use super::encode::Encoder;
use super::output::{Output, PIECE_BYTES, RUN_BYTES_MAX};
use super::select::{Positions, Selection, Spot, Stray};
use crate::odb::inflate::Inflater;
use crate::odb::{EntryKind, Location, Objects, Pack, PackId};
use crate::stream::Sink;
use anyhow::{Context, Result, bail, ensure};
use flate2::{Compress, Compression};
use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::Range;
use std::rc::Rc;

/// Smaller objects are not worth a delta, larger ones not the memory.
const RELATED_BYTES_MIN: usize = 80;
const RELATED_BYTES_MAX: usize = LARGE_BYTES as usize;
/// So many deltas made here may lie one on the other.
const DEPTH_MAX: u32 = 50;
/// So many bases are looked at of a stored chain of them.
const CHAIN_MAX: usize = 64;
/// Loose objects larger than this are never in memory as a whole.
const LARGE_BYTES: u64 = 8 << 20;

/// How the pack may look.
#[derive(Debug, Clone, Copy)]
pub struct PackOptions {
    /// Deltas on objects the client has (thin-pack).
    pub thin: bool,
    /// Deltas by offset (ofs-delta); else by name.
    pub ofs_delta: bool,
    /// zlib level for what must be deflated (pack.compression).
    pub compression: u32,
    /// Bytes that may be held in memory.
    pub memory: u64,
}

/// Writes header, entries and trailer. Corruption found on the way is an error before the last byte goes out (DESIGN B20).
///
/// # Errors
/// When an object is missing or corrupt, or the client has gone.
pub fn write(selection: &Selection, objects: &Objects, options: &PackOptions, out: &mut dyn Sink) -> Result<PackStats> {
    if let Some(pack) = whole_pack(selection, objects, options)? {
        out.send_file(pack.file(), 0..pack.size())?;
        return Ok(stats_of_whole(&pack));
    }
    let sources = Sources::new(selection, objects, options);
    let mut writer = Writer {
        objects,
        options,
        sources,
        out: Output::new(out, objects.hash_kind()),
        stats: PackStats { objects: selection.count, ..PackStats::default() },
        content: Vec::new(),
        stored: Vec::new(),
        deflate: Compress::new(Compression::new(options.compression.min(9)), true),
        inflater: Inflater::new(),
        written: 0,
        selection,
        encoder: Encoder::default(),
        base: Vec::new(),
        depths: HashMap::new(),
        stand_ins: HashMap::new(),
        loose_places: HashMap::new(),
        forward: false,
    };
    writer.out.write(b"PACK\0\0\0\x02")?;
    writer.out.write(&selection.count.to_be_bytes())?;
    for at in 0..writer.sources.packs.len() {
        writer.pack(at)?;
    }
    writer.strays(&selection.strays)?;
    ensure!(writer.written == selection.count, "{} of {} objects were found", writer.written, selection.count);
    writer.stats.bytes = writer.out.finish()?;
    Ok(writer.stats)
}

/// What is said of a pack that goes out as its file stands.
pub fn stats_of_whole(pack: &Pack) -> PackStats {
    PackStats { objects: pack.len(), pack_reused: pack.len(), bytes: pack.size(), ..PackStats::default() }
}

/// The pack that is exactly what is selected: its file is the answer, trailer included. A pack on disk rests on nothing outside.
///
/// # Errors
/// When it cannot be read.
pub fn whole_pack(selection: &Selection, objects: &Objects, options: &PackOptions) -> Result<Option<Rc<Pack>>> {
    let [positions] = selection.packed.as_slice() else { return Ok(None) };
    let pack = objects.pack(positions.pack);
    if !selection.strays.is_empty() || selection.count != pack.len() || !options.ofs_delta {
        return Ok(None);
    }
    let mut buffer = Vec::new();
    let head = pack.bytes(0..12, &mut buffer)?;
    Ok(head.starts_with(b"PACK\0\0\0\x02").then_some(pack))
}

/// Where the base of a delta is, for the client.
#[derive(Debug, PartialEq, Eq)]
enum Base {
    /// In this pack, at this offset.
    Written(u64),
    /// In this pack, further on.
    Later(ObjectId),
    /// The client has it.
    Held(ObjectId),
    /// Nowhere.
    Absent,
}

/// The packs objects are taken from.
struct Sources<'a> {
    packs: Vec<Taken<'a>>,
    /// Where each stands among them: there may be hundreds.
    by_id: HashMap<PackId, usize>,
    bases: Vec<(Rc<Pack>, &'a Positions)>,
    /// The same of bases.
    bases_by_id: HashMap<PackId, &'a Positions>,
    loose_bases: &'a [Stray],
    /// The pack that is being copied.
    current: usize,
}

/// What is taken from one pack, and where it came to lie.
struct Taken<'a> {
    pack: Rc<Pack>,
    positions: &'a Positions,
    /// Offsets of the entries written so far, ascending.
    offsets: Vec<u64>,
    /// From this offset on, entries stand from that offset on.
    runs: Vec<(u64, u64)>,
}

impl Positions {
    fn len(&self) -> u64 {
        self.bits.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        // Mostly there are none in a word: a partial clone asks for few of many objects.
        let words = self.bits.iter().enumerate().filter(|(_, word)| **word != 0);
        words.flat_map(|(index, word)| {
            let first = index as u32 * 64;
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| first + bit)
        })
    }
}

impl Taken<'_> {
    /// Calls `each` with index position and extent of each selected entry, in the order of the pack.
    fn entries(pack: &Pack, positions: &Positions, mut each: impl FnMut(u32, Range<u64>) -> Result<()>) -> Result<()> {
        if positions.len() * 16 >= u64::from(pack.len()) {
            let order = pack.by_offset();
            for (rank, &position) in order.iter().enumerate() {
                if positions.contains(position) {
                    let end = order.get(rank + 1).map_or(pack.body_end(), |next| pack.offset_at(*next));
                    each(position, pack.offset_at(position)..end)?;
                }
            }
        } else {
            // Few of many: the whole order needs not be known.
            let mut chosen: Vec<u32> = positions.iter().collect();
            chosen.sort_unstable_by_key(|position| pack.offset_at(*position));
            let ends = pack.ends_of(&chosen);
            for (position, end) in chosen.into_iter().zip(ends) {
                each(position, pack.offset_at(position)..end)?;
            }
        }
        Ok(())
    }

    /// Notes that the entry at `offset` stands at `place` now.
    fn put(&mut self, offset: u64, place: u64) {
        self.offsets.push(offset);
        let shift = |run: &(u64, u64)| run.1.wrapping_sub(run.0);
        if self.runs.last().map(shift) != Some(place.wrapping_sub(offset)) {
            self.runs.push((offset, place));
        }
    }

    /// Where the entry at `offset` stands now, if it was written.
    fn place(&self, offset: u64) -> Option<u64> {
        // Bases are near, mostly.
        let mut near = 16;
        while near < self.offsets.len() && self.offsets[self.offsets.len() - near] > offset {
            near *= 2;
        }
        self.offsets[self.offsets.len().saturating_sub(near)..].binary_search(&offset).ok()?;
        let (from, to) = self.runs[self.runs.partition_point(|run| run.0 <= offset) - 1];
        Some(to + (offset - from))
    }
}

impl<'a> Sources<'a> {
    /// Large packs go first: what small ones repeat is written when their deltas need it.
    fn new(selection: &'a Selection, objects: &'a Objects, options: &PackOptions) -> Self {
        let mut packs: Vec<Taken<'_>> = selection
            .packed
            .iter()
            .map(|positions| Taken {
                pack: objects.pack(positions.pack),
                positions,
                offsets: Vec::new(),
                runs: Vec::new(),
            })
            .collect();
        packs.sort_by_key(|taken| std::cmp::Reverse(taken.pack.len()));
        let (bases, loose_bases): (&[_], &[_]) =
            if options.thin { (&selection.bases, &selection.loose_bases) } else { (&[], &[]) };
        let by_id = packs.iter().enumerate().map(|(at, taken)| (taken.positions.pack, at)).collect();
        let bases_by_id = bases.iter().map(|positions| (positions.pack, positions)).collect();
        let bases = bases.iter().map(|positions| (objects.pack(positions.pack), positions)).collect();
        Sources { packs, by_id, bases, bases_by_id, loose_bases, current: 0 }
    }

    /// Where the base of a delta of the current pack is: at `offset` of the same pack.
    fn base_at(&self, offset: u64) -> Result<Base> {
        let taken = &self.packs[self.current];
        if let Some(place) = taken.place(offset) {
            return Ok(Base::Written(place));
        }
        if self.bases.is_empty() && self.packs.len() == 1 {
            // It was not sent, and there is nowhere else where it could be. Its name is not looked for.
            return Ok(Base::Absent);
        }
        match taken.pack.position_at_offset(offset) {
            Some(position) => self.base_elsewhere(position),
            None => bail!("no entry at offset {offset} of {}", taken.pack.path().display()),
        }
    }

    /// Where an object that was taken from a pack stands, if it is written.
    fn place(&self, pack: PackId, position: u32) -> Option<u64> {
        let taken = &self.packs[*self.by_id.get(&pack)?];
        taken.place(taken.pack.offset_at(position))
    }

    /// Whether the client has an object.
    fn is_held(&self, spot: Spot) -> bool {
        match spot {
            Spot::Packed(pack, position) => {
                self.bases_by_id.get(&pack).is_some_and(|positions| positions.contains(position))
            }
            Spot::Loose(number) => self.loose_bases.binary_search_by_key(&number, |stray| stray.number).is_ok(),
        }
    }

    /// The same for a base given by name.
    fn base_named(&self, id: &oid) -> Result<Base> {
        let taken = &self.packs[self.current];
        let Some(position) = taken.pack.position(id) else { return Ok(Base::Absent) };
        if !taken.positions.contains(position) {
            return self.base_elsewhere(position);
        }
        Ok(taken.place(taken.pack.offset_at(position)).map_or_else(|| Base::Later(id.to_owned()), Base::Written))
    }

    /// The base is stored at `position` of the current pack, but not sent from there.
    fn base_elsewhere(&self, position: u32) -> Result<Base> {
        let taken = &self.packs[self.current];
        let id = taken.pack.id_at(position);
        let held = |(pack, positions): &(Rc<Pack>, &Positions)| {
            pack.position(id).is_some_and(|position| positions.contains(position))
        };
        if self.bases.iter().any(held) {
            return Ok(Base::Held(id.to_owned()));
        }
        // Another copy of it may have been taken. One from this pack would be no safe base: it may rest on this object.
        let written = |other: &Taken<'_>| other.place(other.pack.offset_at(other.pack.position(id)?));
        let place = self.packs[..self.current].iter().find_map(written);
        Ok(place.map_or(Base::Absent, Base::Written))
    }
}

struct Writer<'a> {
    objects: &'a Objects,
    options: &'a PackOptions,
    sources: Sources<'a>,
    out: Output<'a>,
    stats: PackStats,
    /// Lent: an object's content.
    content: Vec<u8>,
    /// Lent: an entry's bytes, where packs cannot be mapped.
    stored: Vec<u8>,
    deflate: Compress,
    inflater: Inflater,
    written: u32,
    selection: &'a Selection,
    encoder: Encoder,
    /// Lent: the content of another version.
    base: Vec<u8>,
    /// How many deltas made here lie one on the other below an object.
    depths: HashMap<Spot, u32>,
    /// For offsets of bases that are not sent, what was written instead of a delta on one of them.
    stand_ins: HashMap<(PackId, u64), Spot>,
    /// Where loose objects came to stand.
    loose_places: HashMap<u32, u64>,
    /// A delta was written whose base comes later.
    forward: bool,
}

impl Writer<'_> {
    /// Writes what is taken from one pack.
    fn pack(&mut self, at: usize) -> Result<()> {
        self.sources.current = at;
        let (pack, positions) = (Rc::clone(&self.sources.packs[at].pack), self.sources.packs[at].positions);
        Taken::entries(&pack, positions, |position, range| {
            ensure!(
                range.start < range.end && range.end <= pack.body_end(),
                "entry at offset {} of {} has no room",
                range.start,
                pack.path().display()
            );
            let place = self.out.place();
            self.entry(&pack, position, range.clone())
                .with_context(|| format!("object {} of {}", pack.id_at(position), pack.path().display()))?;
            self.sources.packs[at].put(range.start, place);
            self.written()
        })?;
        self.out.end_run()
    }

    fn written(&mut self) -> Result<()> {
        self.written += 1;
        Ok(self.out.sink.tick(self.written.into())?)
    }

    fn entry(&mut self, pack: &Rc<Pack>, position: u32, range: Range<u64>) -> Result<()> {
        let head = match pack.head_at(range.start) {
            Ok(head) if head.data < range.end && self.is_sound(pack, position, &range, head.data, head.size)? => head,
            // Another copy may be good.
            _ => return self.recovered(pack.id_at(position)),
        };
        let spot = Spot::Packed(pack.id(), position);
        let base = match head.kind {
            EntryKind::Whole(kind) => {
                // Where another version lies in the same pack, whoever made it has found no delta worth its while, and the
                // object may be the other one's base.
                let elsewhere = |other: Spot| match other {
                    Spot::Packed(other, _) => other != pack.id(),
                    Spot::Loose(_) => true,
                };
                let is_of_use = |other| self.sources.is_held(other) || elsewhere(other) && self.is_written(other);
                if let Some(other) = self.selection.relatives.nearest(spot, is_of_use) {
                    self.read(pack, position)?;
                    if self.related(spot, other, kind)? {
                        return Ok(());
                    }
                }
                self.stats.reused += 1;
                return self.out.copy(pack, range, &mut self.stored);
            }
            EntryKind::OfsDelta(offset) => self.sources.base_at(offset)?,
            EntryKind::RefDelta(id) => self.sources.base_named(&id)?,
        };
        let place = self.out.place();
        let same = match (head.kind, &base) {
            (EntryKind::OfsDelta(offset), Base::Written(base)) if self.options.ofs_delta => {
                place - base == range.start - offset
            }
            (EntryKind::RefDelta(_), Base::Written(_)) => !self.options.ofs_delta,
            (EntryKind::RefDelta(_), Base::Later(_) | Base::Held(_)) => true,
            _ => false,
        };
        if !same {
            match (&base, head.kind) {
                (Base::Written(base), _) if self.options.ofs_delta => {
                    self.out.head(6, head.size, Some(place - base))?
                }
                (Base::Written(_), EntryKind::OfsDelta(offset)) => {
                    let base = pack.position_at_offset(offset).context("a base has no name")?;
                    self.out.head(7, head.size, None)?;
                    self.out.write(pack.id_at(base).as_bytes())?;
                }
                (Base::Held(id) | Base::Later(id), _) => {
                    self.forward |= matches!(base, Base::Later(_));
                    self.out.head(7, head.size, None)?;
                    self.out.write(id.as_bytes())?;
                }
                (Base::Absent | Base::Written(_), _) => return self.without_base(pack, position, head.kind),
            }
        }
        self.forward |= same && matches!(base, Base::Later(_));
        self.stats.reused += 1;
        self.stats.reused_deltas += 1;
        self.stats.deltas += 1;
        self.out.copy(pack, if same { range } else { head.data..range.end }, &mut self.stored)
    }

    /// Reads the content of an object of a pack.
    fn read(&mut self, pack: &Pack, position: u32) -> Result<Kind> {
        let location = Location::Packed { pack: pack.id(), position };
        self.objects.find_at(location, pack.id_at(position), &mut self.content)
    }

    /// Writes an object that is stored as a delta on one that is not sent.
    fn without_base(&mut self, pack: &Rc<Pack>, position: u32, stored: EntryKind) -> Result<()> {
        let spot = Spot::Packed(pack.id(), position);
        let kind = self.read(pack, position)?;
        let mut above = Vec::new();
        let mut is_related = false;
        if let Some(other) = self.nearest(spot) {
            is_related = self.related(spot, other, kind)?;
        }
        if let Some(other) = self.in_chain(pack, stored, &mut above)
            && !is_related
        {
            is_related = self.related(spot, other, kind)?;
        }
        if !is_related {
            self.deflated(kind)?;
        }
        self.stand_ins.extend(above.into_iter().map(|offset| ((pack.id(), offset), spot)));
        Ok(())
    }

    /// The nearest other version of an object that a delta can rest on.
    fn nearest(&self, of: Spot) -> Option<Spot> {
        self.selection.relatives.nearest(of, |other| self.sources.is_held(other) || self.is_written(other))
    }

    /// What a delta can rest on of the chain of bases of a stored one, or what stands in for one of these: it rests on the
    /// same. Offsets of bases that are not sent are collected in `above`.
    fn in_chain(&self, pack: &Pack, mut stored: EntryKind, above: &mut Vec<u64>) -> Option<Spot> {
        while above.len() < CHAIN_MAX {
            let offset = match stored {
                EntryKind::Whole(_) => return None,
                EntryKind::OfsDelta(offset) => offset,
                EntryKind::RefDelta(id) => pack.offset_at(pack.position(&id)?),
            };
            if let Some(&other) = self.stand_ins.get(&(pack.id(), offset))
                && self.is_written(other)
            {
                above.push(offset);
                return Some(other);
            }
            let spot = Spot::Packed(pack.id(), pack.position_at_offset(offset)?);
            if self.is_written(spot) || self.sources.is_held(spot) {
                return Some(spot);
            }
            above.push(offset);
            stored = pack.head_at(offset).ok()?.kind;
        }
        None
    }

    /// Whether a delta can rest on what was written of an object.
    fn is_written(&self, spot: Spot) -> bool {
        self.place(spot).is_some()
    }

    fn place(&self, spot: Spot) -> Option<u64> {
        match spot {
            Spot::Loose(number) => self.loose_places.get(&number).copied(),
            // What a delta that is written already rests on comes later: it may rest on nothing written.
            Spot::Packed(..) if self.forward => None,
            Spot::Packed(pack, position) => self.sources.place(pack, position),
        }
    }

    /// Writes `content` as a delta on another version of it, if that is written already or held by the client, and worth it.
    fn related(&mut self, of: Spot, other: Spot, kind: Kind) -> Result<bool> {
        let size = self.content.len();
        let depth = self.depths.get(&other).map_or(1, |depth| depth + 1);
        if !(RELATED_BYTES_MIN..=RELATED_BYTES_MAX).contains(&size) || depth > DEPTH_MAX {
            return Ok(false);
        }
        let written = self.place(other);
        let id = match other {
            Spot::Packed(pack, position) => self.objects.pack(pack).id_at(position).to_owned(),
            Spot::Loose(number) => match self.selection.loose(number) {
                Some(stray) => stray.id,
                None => return Ok(false),
            },
        };
        if written.is_none() && !self.sources.is_held(other) {
            return Ok(false);
        }
        let header = self.objects.header(&id)?;
        if !header.is_some_and(|header| header.kind == kind && header.size <= RELATED_BYTES_MAX as u64) {
            return Ok(false);
        }
        if self.objects.find(&id, &mut self.base)? != Some(kind) {
            return Ok(false);
        }
        let limit = size / 2 - id.as_bytes().len();
        let Some(delta) = self.encoder.encode(&self.base, &self.content, limit) else { return Ok(false) };
        match written {
            Some(place) if self.options.ofs_delta => {
                let distance = self.out.place() - place;
                self.out.head(6, delta.len() as u64, Some(distance))?;
            }
            Some(_) | None => {
                self.out.head(7, delta.len() as u64, None)?;
                self.out.write(id.as_bytes())?;
            }
        }
        self.deflate.reset();
        self.out.deflate(&mut self.deflate, delta, true)?;
        self.depths.insert(of, depth);
        self.stats.deltas += 1;
        Ok(true)
    }

    /// Whether an entry is as it was when its index was written.
    fn is_sound(&mut self, pack: &Pack, position: u32, range: &Range<u64>, data: u64, size: u64) -> Result<bool> {
        let Some(expected) = pack.crc32_at(position) else {
            // Indexes of version 1 have no checksums; zlib's own must do.
            ensure!(size <= self.options.memory, "an object of {size} bytes cannot be checked in memory");
            let bytes = pack.bytes(data..range.end, &mut self.stored)?;
            let end = self.inflater.whole(&mut &*bytes, 0, size, &mut self.content);
            return Ok(end.is_ok_and(|end| end == range.end - data));
        };
        let mut crc = crc32fast::Hasher::new();
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at + RUN_BYTES_MAX);
            crc.update(pack.bytes(at..end, &mut self.stored)?);
            at = end;
        }
        Ok(crc.finalize() == expected)
    }

    /// Writes an object whose entry is damaged from wherever else it is found; nobody but its name vouches for it.
    fn recovered(&mut self, id: &oid) -> Result<()> {
        let kind = self.objects.find(id, &mut self.content).context("its entry is damaged")?;
        let kind = kind.context("its entry is damaged")?;
        let found = gix_object::compute_hash(id.kind(), kind, &self.content);
        ensure!(found.is_ok_and(|found| *found == *id), "its entry is damaged");
        self.deflated(kind)
    }

    /// Writes `content` as an object of its own.
    fn deflated(&mut self, kind: Kind) -> Result<()> {
        self.out.head(number(kind), self.content.len() as u64, None)?;
        self.deflate.reset();
        self.out.deflate(&mut self.deflate, &self.content, true)
    }

    fn strays(&mut self, strays: &[Stray]) -> Result<()> {
        for stray in strays {
            self.stray(stray).with_context(|| format!("loose object {}", stray.id))?;
            self.written()?;
        }
        Ok(())
    }

    fn stray(&mut self, stray: &Stray) -> Result<()> {
        if stray.id.is_empty_tree() {
            // git knows this one even where it is not stored.
            self.content.clear();
            return self.deflated(Kind::Tree);
        }
        let header = self.objects.header(&stray.id)?.context("it has vanished")?;
        if header.size > LARGE_BYTES {
            return self.large_stray(stray, header.kind, header.size);
        }
        let location = Location::Loose(stray.directory);
        let kind = self.objects.find_at(location, &stray.id, &mut self.content)?;
        let spot = Spot::Loose(stray.number);
        let place = self.out.place();
        let related = match self.nearest(spot) {
            Some(other) => self.related(spot, other, kind)?,
            None => false,
        };
        if !related {
            self.deflated(kind)?;
        }
        if !self.selection.relatives.is_empty() {
            self.loose_places.insert(stray.number, place);
        }
        Ok(())
    }

    /// Passes a large loose object from one zlib stream into another, and compares its name at the end.
    fn large_stray(&mut self, stray: &Stray, kind: Kind, size: u64) -> Result<()> {
        let directories = self.objects.directories()?;
        let directory = directories.get(stray.directory as usize).context("its directory is unknown")?;
        let hex = stray.id.to_string();
        let file = File::open(directory.join(&hex[..2]).join(&hex[2..]))?;
        let mut content = BufReader::with_capacity(PIECE_BYTES, flate2::read::ZlibDecoder::new(file));
        let head = format!("{kind} {size}\0");
        let mut found = vec![0; head.len()];
        content.read_exact(&mut found)?;
        ensure!(found == head.as_bytes(), "its header changed");
        let mut hasher = gix_hash::hasher(stray.id.kind());
        hasher.update(head.as_bytes());
        self.out.head(number(kind), size, None)?;
        self.deflate.reset();
        let mut left = size;
        while left > 0 {
            let piece = content.fill_buf()?;
            let piece = &piece[..usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()))];
            ensure!(!piece.is_empty(), "it ends early");
            left -= piece.len() as u64;
            hasher.update(piece);
            self.out.deflate(&mut self.deflate, piece, left == 0)?;
            let length = piece.len();
            content.consume(length);
        }
        ensure!(content.fill_buf()?.is_empty(), "it has more than its header says");
        ensure!(hasher.try_finalize().is_ok_and(|found| found == stray.id), "it is damaged");
        Ok(())
    }
}

/// The number of a kind in an entry's header.
fn number(kind: Kind) -> u8 {
    match kind {
        Kind::Commit => 1,
        Kind::Tree => 2,
        Kind::Blob => 3,
        Kind::Tag => 4,
    }
}

//! Writing a pack: each step of its plan in turn, then the trailer.
//!
//! In: a selection. Out: one pack, always with the same bytes. If there are many entries that cannot be copied, other
//! threads make them ahead. Which objects are sent is never decided here.

use super::PackStats;
use super::ahead::{Ahead, MadeEntry};
use super::deflate::{Deflater, Levels};
use super::make::{Maker, Outcome};
use super::output::{Output, PIECE_BYTES};
use super::plan::{How, Making, Object, Plan, Step, makes_empty_object};
use super::select::{Selection, Spot, Stray};
use super::sources::Base;
pub use super::sources::magnitude;
use crate::odb::inflate::Inflater;
use crate::odb::{EntryHead, EntryKind, Location, Objects, Pack};
use crate::stream::Sink;
use anyhow::{Context, Result, ensure};
use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;
use std::sync::Arc;
use std::thread::Scope;

/// How many objects are made in turn before threads are started, so that a small answer pays for none.
const MADE_ALONE: u32 = 64;
/// Packs with at most this many objects are sent in one piece, with their length, as they are made quickly.
const SMALL: u32 = 32;
/// The most steps planned ahead; most of them are copies.
const STEPS_MAX: usize = 16 << 10;

/// Options for the format of a pack, and for making it.
#[derive(Debug, Clone, Copy)]
pub struct PackOptions {
    /// Whether deltas may be based on objects the client has (thin-pack).
    pub thin: bool,
    /// Whether deltas refer to their bases by offset (ofs-delta) or by name.
    pub ofs_delta: bool,
    /// The zlib levels of everything that must be deflated (pack.compression).
    pub levels: Levels,
    /// The number of threads that make entries, if there are many to make (pack.threads); 0 for one per processor.
    pub threads: usize,
    /// The bytes that may be held in memory.
    pub memory: u64,
    /// The size of the largest object for which a delta is made, in bytes. Larger ones go out as they are stored.
    pub related_max: u64,
}

impl PackOptions {
    /// [`PackOptions::related_max`] of a pack that is sent once: time counts more than bytes.
    pub const RELATED_SENT: u64 = 8 << 20;

    /// [`PackOptions::related_max`] of a pack that is kept, given the bytes that may be held in memory: object, base, index
    /// and delta need about four times the object's size.
    pub fn related_kept(memory: u64) -> u64 {
        (memory / 8).max(PackOptions::RELATED_SENT)
    }
}

/// Writes header, entries and trailer. Corruption that is found on the way is an error before the trailer is sent, so
/// that the client cannot take the pack for complete.
///
/// # Errors
/// When an object is missing or corrupt, or the client has gone.
pub fn write(selection: &Selection, objects: &Objects, options: &PackOptions, out: &mut dyn Sink) -> Result<PackStats> {
    if let Some(pack) = whole_pack(selection, objects, options)? {
        pack.send(out, 0..pack.size())?;
        return Ok(stats_of_whole(&pack));
    }
    std::thread::scope(|scope| {
        let mut writer = Writer {
            objects,
            options,
            selection,
            scope,
            plan: Plan::new(selection, objects, options),
            pack: None,
            out: Output::new(out, objects.hash_kind(), options.threads),
            stats: PackStats { objects: selection.count, ..PackStats::default() },
            stored: Vec::new(),
            deflater: Deflater::default(),
            inflater: Inflater::new(),
            maker: Maker::new(options.related_max),
            made: 0,
            ahead: None,
            loose_places: HashMap::new(),
            written: 0,
        };
        writer.all()?;
        writer.stats.bytes = writer.out.finish()?;
        Ok(writer.stats)
    })
}

/// The statistics of a pack sent as a whole file.
pub fn stats_of_whole(pack: &Pack) -> PackStats {
    PackStats { objects: pack.len(), pack_reused: pack.len(), bytes: pack.size(), ..PackStats::default() }
}

/// The pack that holds exactly the selected objects, if there is one: its file is the answer, including the trailer. A
/// pack on disk never needs bases outside it.
///
/// # Errors
/// When the pack cannot be read.
pub fn whole_pack(selection: &Selection, objects: &Objects, options: &PackOptions) -> Result<Option<Arc<Pack>>> {
    let [positions] = selection.packed.as_slice() else { return Ok(None) };
    let pack = objects.pack(positions.pack);
    if !selection.strays.is_empty() || selection.count != pack.len() || !options.ofs_delta {
        return Ok(None);
    }
    let hash = objects.hash_kind();
    for empty in [ObjectId::empty_blob(hash), ObjectId::empty_tree(hash)] {
        let Some(position) = pack.position(&empty) else { continue };
        if pack.head_at(pack.offset_at(position)).is_ok_and(|head| makes_empty_object(&pack, position, &head)) {
            return Ok(None);
        }
    }
    let mut buffer = Vec::new();
    let head = pack.bytes(0..12, &mut buffer)?;
    Ok(head.starts_with(b"PACK\0\0\0\x02").then_some(pack))
}

struct Writer<'a, 'scope, 'env> {
    objects: &'a Objects,
    options: &'a PackOptions,
    selection: &'a Selection,
    scope: &'scope Scope<'scope, 'env>,
    plan: Plan<'a>,
    /// The pack from which the last step took an entry.
    pack: Option<(u32, Arc<Pack>)>,
    out: Output<'a>,
    stats: PackStats,
    /// A buffer for an entry's bytes, used where packs are not mapped.
    stored: Vec<u8>,
    deflater: Deflater,
    inflater: Inflater,
    maker: Maker,
    /// How many objects have been made.
    made: u32,
    ahead: Option<Ahead>,
    /// Where loose objects that may serve as bases were written.
    loose_places: HashMap<u32, u64>,
    written: u32,
}

impl Writer<'_, '_, '_> {
    fn all(&mut self) -> Result<()> {
        self.out.write(b"PACK\0\0\0\x02")?;
        self.out.write(&self.selection.count.to_be_bytes())?;
        let mut steps = VecDeque::new();
        loop {
            self.look_ahead(&mut steps)?;
            let Some((step, asked)) = steps.pop_front() else { break };
            self.step(&step, asked)?;
            self.written += 1;
            self.out.entries(self.written.into())?;
        }
        ensure!(
            self.written == self.selection.count,
            "{} of {} objects were found",
            self.written,
            self.selection.count
        );
        Ok(())
    }

    /// Plans the next step, and many more if threads are at work. Each step comes with the number under which it is
    /// made ahead, if it is.
    fn look_ahead(&mut self, steps: &mut VecDeque<(Step, Option<usize>)>) -> Result<()> {
        if self.made == MADE_ALONE && self.ahead.is_none() {
            let on_bases = !self.selection.bases.is_empty() || !self.selection.loose_bases.is_empty();
            self.ahead = Ahead::start(self.scope, &self.objects.opener(), self.options, on_bases);
            // If no thread can be started, do not try again.
            self.made += 1;
        }
        let Some(ahead) = &mut self.ahead else {
            if steps.is_empty() {
                steps.extend(self.plan.next()?.map(|step| (step, None)));
            }
            return Ok(());
        };
        if !steps.is_empty() && !ahead.runs_low() {
            return Ok(());
        }
        while steps.is_empty() || ahead.has_room() && steps.len() < STEPS_MAX {
            let Some(step) = self.plan.next()? else {
                ahead.flush();
                break;
            };
            let asked = match &step.how {
                How::Make(making) => Some(ahead.ask(&making.recipe)),
                _ => None,
            };
            steps.push_back((step, asked));
        }
        Ok(())
    }

    fn step(&mut self, step: &Step, asked: Option<usize>) -> Result<()> {
        let ahead = asked.zip(self.ahead.as_mut()).and_then(|(number, ahead)| ahead.take(number));
        let place = self.out.place();
        match &step.object {
            Object::Packed { source, position, range, crc32 } => {
                let pack = match self.pack.take() {
                    Some((of, pack)) if of == *source => pack,
                    _ => self.plan.sources.pack(*source),
                };
                self.entry(&pack, *source, (*position, *crc32), range.clone(), &step.how, ahead)
                    .with_context(|| format!("object {} of {}", pack.id_at(*position), pack.path().display()))?;
                self.plan.sources.put(*source, range.start, place);
                self.pack = Some((*source, pack));
            }
            Object::Stray(number) => {
                let selection = self.selection;
                let stray = &selection.strays[*number];
                self.stray(stray, &step.how, ahead).with_context(|| format!("loose object {}", stray.id))?;
                if !selection.relatives.is_empty() {
                    self.loose_places.insert(stray.number, place);
                }
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        pack: &Arc<Pack>,
        source: u32,
        (position, crc32): (u32, Option<u32>),
        range: Range<u64>,
        how: &How,
        ahead: Option<MadeEntry>,
    ) -> Result<()> {
        let head = match (how, pack.head_at(range.start)) {
            (How::Copy(_) | How::Make(_), Ok(head)) => head,
            _ => return self.recovered(pack.id_at(position)),
        };
        if !self.is_sound(pack, crc32, &range, &head)? {
            // Another copy may be intact.
            return self.recovered(pack.id_at(position));
        }
        match how {
            How::Copy(base) => self.copy(pack, source, range, &head, base),
            How::Make(making) if !self.make(making, ahead)? => {
                self.stats.reused += 1;
                self.out.copy(pack, range, &mut self.stored)
            }
            _ => Ok(()),
        }
    }

    /// Copies an entry, with a new header if the distance to its base has changed.
    fn copy(&mut self, pack: &Arc<Pack>, source: u32, range: Range<u64>, head: &EntryHead, base: &Base) -> Result<()> {
        self.stats.reused += 1;
        if *base == Base::None {
            return self.out.copy(pack, range, &mut self.stored);
        }
        self.stats.reused_deltas += 1;
        self.stats.deltas += 1;
        match (base, head.kind) {
            (Base::Written(of, at), _) if self.options.ofs_delta => {
                let place = self.plan.sources.place(*of, *at).context("a base is not where it was planned")?;
                let distance = self.out.place() - place;
                if head.kind == EntryKind::OfsDelta(range.start.wrapping_sub(distance)) {
                    return self.out.copy(pack, range, &mut self.stored);
                }
                self.out.head(6, head.size, Some(distance))?;
            }
            (Base::Written(of, at), EntryKind::OfsDelta(_)) => {
                let pack = if *of == source { Arc::clone(pack) } else { self.plan.sources.pack(*of) };
                let base = pack.position_at_offset(*at).context("a base has no name")?;
                self.out.head(7, head.size, None)?;
                self.out.write(pack.read_id_at(base).as_bytes())?;
            }
            (Base::Held(id), EntryKind::OfsDelta(_)) => {
                self.out.head(7, head.size, None)?;
                self.out.write(id.as_bytes())?;
            }
            // The entry refers to its base by name already.
            _ => return self.out.copy(pack, range, &mut self.stored),
        }
        self.out.copy(pack, head.data..range.end, &mut self.stored)
    }

    /// Writes an object that has been made ahead, or makes it; returns `false` if the entry is to be copied instead.
    fn make(&mut self, making: &Making, ahead: Option<MadeEntry>) -> Result<bool> {
        if self.made == 0 && self.selection.count > SMALL {
            // From here on entries take time to make. The client should learn that a pack is coming, and start the
            // program that reads it.
            self.out.hurry()?;
        }
        self.made = self.made.saturating_add(1);
        let (outcome, size) = match &ahead {
            Some(made) => (made.outcome, made.size),
            None => (self.maker.make(self.objects, &making.recipe)?, self.maker.bytes().len() as u64),
        };
        match outcome {
            Outcome::Nothing => return Ok(false),
            Outcome::Whole(kind) => self.out.head(number(kind), size, None)?,
            Outcome::Delta(n) => {
                let place = match making.bases[n] {
                    Spot::Loose(number) => self.loose_places.get(&number).copied(),
                    Spot::Packed(pack, position) => self.plan.sources.place_of(pack, position),
                };
                match place {
                    Some(place) if self.options.ofs_delta => {
                        let distance = self.out.place() - place;
                        self.out.head(6, size, Some(distance))?;
                    }
                    _ => {
                        self.out.head(7, size, None)?;
                        self.out.write(making.recipe.bases[n].id.as_bytes())?;
                    }
                }
                self.stats.deltas += 1;
            }
        }
        match ahead {
            Some(made) => self.out.write(&made.deflated)?,
            None => self.deflater.whole(
                outcome.level(self.options.levels, self.maker.bytes().len()),
                self.maker.bytes(),
                &mut |bytes| self.out.write(bytes),
            )?,
        }
        Ok(true)
    }

    /// Whether an entry is unchanged since its index was written.
    fn is_sound(&mut self, pack: &Pack, crc32: Option<u32>, range: &Range<u64>, head: &EntryHead) -> Result<bool> {
        let Some(expected) = crc32 else {
            let EntryHead { data, size, .. } = *head;
            // Version 1 indexes have no checksums, so rely on the one in the zlib stream.
            let bytes = pack.bytes(data..range.end, &mut self.stored)?;
            if size > self.options.memory {
                let mut stream = flate2::bufread::ZlibDecoder::new(bytes);
                let inflated = io::copy(&mut stream, &mut io::sink());
                return Ok(inflated.is_ok_and(|inflated| inflated == size) && stream.total_in() == range.end - data);
            }
            let end = self.inflater.whole(&mut &*bytes, 0, size, self.maker.content());
            return Ok(end.is_ok_and(|end| end == range.end - data));
        };
        let mut crc = crc32fast::Hasher::new();
        pack.each_piece(range.clone(), &mut self.stored, &mut |piece| crc.update(piece))?;
        Ok(crc.finalize() == expected)
    }

    /// Writes an object whose entry is damaged, from another copy. Its name is the only check.
    fn recovered(&mut self, id: &oid) -> Result<()> {
        let kind = self.objects.find(id, self.maker.content()).context("its entry is damaged")?;
        let kind = kind.context("its entry is damaged")?;
        let found = gix_object::compute_hash(id.kind(), kind, self.maker.bytes());
        ensure!(found.is_ok_and(|found| *found == *id), "its entry is damaged");
        self.deflated(kind)
    }

    /// Writes the maker's content as a whole object.
    fn deflated(&mut self, kind: Kind) -> Result<()> {
        self.out.head(number(kind), self.maker.bytes().len() as u64, None)?;
        self.deflater.whole(self.options.levels.usual, self.maker.bytes(), &mut |bytes| self.out.write(bytes))
    }

    fn stray(&mut self, stray: &Stray, how: &How, ahead: Option<MadeEntry>) -> Result<()> {
        match how {
            How::Make(making) => self.make(making, ahead).map(drop),
            How::Stream(kind, size) => self.large_stray(stray, *kind, *size),
            How::Empty | How::Copy(_) | How::Recover => {
                self.maker.content().clear();
                self.deflated(Kind::Tree)
            }
        }
    }

    /// Writes an object that is no longer loose: a copy of its entry if that is whole and sound, otherwise from memory.
    fn packed_since(&mut self, id: &oid) -> Result<()> {
        if let Some(Location::Packed { pack, position }) = self.objects.locate(id)? {
            let pack = self.objects.pack(pack);
            let range = pack.offset_at(position)..pack.ends_of(&[position])[0];
            if let Ok(head) = pack.head_at(range.start)
                && let EntryKind::Whole(_) = head.kind
                && self.is_sound(&pack, pack.crc32_at(position), &range, &head)?
            {
                self.stats.reused += 1;
                return self.out.copy(&pack, range, &mut self.stored);
            }
        }
        self.recovered(id)
    }

    /// Passes a large loose object from one zlib stream to another, and verifies its name at the end.
    fn large_stray(&mut self, stray: &Stray, kind: Kind, size: u64) -> Result<()> {
        let directories = self.objects.directories()?;
        let directory = directories.get(stray.directory as usize).context("its directory is unknown")?;
        let hex = stray.id.to_string();
        let Ok(file) = File::open(directory.join(&hex[..2]).join(&hex[2..])) else {
            return self.packed_since(&stray.id);
        };
        let mut content = BufReader::with_capacity(PIECE_BYTES, flate2::read::ZlibDecoder::new(file));
        let head = format!("{kind} {size}\0");
        let mut found = vec![0; head.len()];
        content.read_exact(&mut found)?;
        ensure!(found == head.as_bytes(), "its header changed");
        let mut hasher = gix_hash::hasher(stray.id.kind());
        hasher.update(head.as_bytes());
        self.out.head(number(kind), size, None)?;
        self.deflater.begin(self.options.levels.usual)?;
        let mut left = size;
        while left > 0 {
            let piece = content.fill_buf()?;
            let piece = &piece[..usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()))];
            ensure!(!piece.is_empty(), "it ends early");
            left -= piece.len() as u64;
            hasher.update(piece);
            self.deflater.push(piece, &mut |bytes| self.out.write(bytes))?;
            let length = piece.len();
            content.consume(length);
        }
        self.deflater.end(&mut |bytes| self.out.write(bytes))?;
        ensure!(content.fill_buf()?.is_empty(), "it has more than its header says");
        ensure!(hasher.try_finalize().is_ok_and(|found| found == stray.id), "it is damaged");
        Ok(())
    }
}

/// The number of a kind in an entry's header.
pub(super) fn number(kind: Kind) -> u8 {
    match kind {
        Kind::Commit => 1,
        Kind::Tree => 2,
        Kind::Blob => 3,
        Kind::Tag => 4,
    }
}

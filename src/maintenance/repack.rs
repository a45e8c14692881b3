//! A new pack that replaces loose objects and small packs.
//!
//! In: packs whose objects are all taken, reachable or not, and reachable loose objects. Out: one pack, read back and
//! every object id computed again before it becomes visible; it is on disk when this returns. What it replaces is never
//! removed here.
//!
//! Because whole packs are taken, a concurrent push that relies on one of their objects finds it in the new pack:
//! removing a pack does not depend on what is reachable.

use super::{fresh, local};
use crate::durable::{Sharing, Sync};
use crate::odb::ids::{IdMap, IdSet};
use crate::odb::{Objects, Pack};
use crate::pack::deflate::Levels;
use crate::pack::incoming::{IncomingPack, ReceiveOptions, Syncs};
use crate::pack::select::{Positions, Selection, Spot, Stray};
use crate::pack::write::{self, PackOptions, magnitude};
use crate::repo::{Repository, quarantine};
use crate::stream::{Body, Pulse, Silent, Sink};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use gix_hash::{ObjectId, oid};
use std::cmp::Reverse;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// How many blocks may wait between writing and reading back.
const BLOCKS_MAX: usize = 16;

/// A pack that was made. As long as its `.keep` exists, other maintenance leaves it alone.
pub(super) struct NewPack {
    /// The pack, visible to everybody.
    pub path: PathBuf,
    keeps: Vec<PathBuf>,
}

/// As for a push: which process protects the pack, and on which machine.
fn keep_message() -> String {
    quarantine::keep_message("maintenance")
}

impl Drop for NewPack {
    fn drop(&mut self) {
        for keep in &self.keeps {
            // A `.keep` that existed before belongs to another process and stays. If removing ours fails, the journal
            // has it.
            if std::fs::read_to_string(keep).is_ok_and(|text| text.trim_end() == keep_message()) {
                let _ = crate::durable::unlink(keep);
            }
        }
    }
}

/// Makes a pack of all objects of `packs` and of the `loose` ones; `reachable` tells which of them are versions of the
/// same file.
pub(super) fn make(
    repository: &Repository,
    objects: &Objects,
    packs: &[Arc<Pack>],
    loose: &[ObjectId],
    reachable: Option<&Selection>,
    pulse: &mut dyn Pulse,
) -> Result<NewPack> {
    let selection = selection(objects, packs, loose, reachable)?;
    let quarantine = fresh::directory(repository, objects)?;
    let settings = &repository.settings;
    let options = PackOptions {
        thin: false,
        ofs_delta: true,
        levels: Levels::kept(settings.pack_compression),
        threads: settings.threads(),
        memory: repository.context.memory,
        related_max: PackOptions::related_kept(repository.context.memory),
    };
    let place = Place {
        hash: repository.hash(),
        directory: quarantine.path().to_owned(),
        memory: repository.context.memory,
        reverse_index: settings.write_reverse_index,
        compression: settings.loose_compression,
        threads: options.threads,
        sharing: settings.sharing,
        keep_message: keep_message(),
    };
    pulse.begin("Writing objects", Some(selection.count.into()))?;
    write_and_index(&selection, objects, &options, place, pulse)?;
    pulse.end()?;
    check(&selection, objects, quarantine.path())?;
    let keeps = quarantine.migrate().context("unable to migrate objects to permanent storage")?;
    let path = keeps.first().context("the new pack has got no name")?.with_extension("pack");
    Ok(NewPack { path, keeps })
}

/// Selects each object once: from the largest pack that has it, among packs of similar size from the newest, else
/// loose. A pushed object comes as a delta on a version in an older pack, and is stored with that version beside it as
/// a whole. Taking the newest pack first makes older versions deltas on newer ones, so that delta chains do not grow
/// forever in the other direction.
fn selection(
    objects: &Objects,
    packs: &[Arc<Pack>],
    loose: &[ObjectId],
    reachable: Option<&Selection>,
) -> Result<Selection> {
    let age = |pack: &Pack| pack.path().metadata().ok().and_then(|file| file.modified().ok());
    let mut in_order: Vec<&Arc<Pack>> = packs.iter().collect();
    in_order.sort_by_cached_key(|pack| Reverse((magnitude(pack), age(pack))));
    let mut selection = Selection::default();
    let mut count = 0_u64;
    for (at, pack) in in_order.iter().enumerate() {
        let mut bits = vec![0_u64; (pack.len() as usize).div_ceil(64)];
        for position in 0..pack.len() {
            let id = pack.id_at(position);
            // An index may list an object twice.
            let again = position > 0 && pack.id_at(position - 1) == id;
            if !again && !in_order[..at].iter().any(|before| before.position(id).is_some()) {
                bits[position as usize / 64] |= 1 << (position % 64);
                count += 1;
            }
        }
        selection.packed.push(Positions { pack: pack.id(), bits });
    }
    let known: IdMap<u32> =
        reachable.iter().flat_map(|known| &known.strays).map(|stray| (stray.id, stray.number)).collect();
    let mut next = known.values().max().map_or(0, |last| last + 1);
    for id in loose.iter().filter(|id| !packs.iter().any(|pack| pack.position(id).is_some())) {
        let number = known.get(id).copied().unwrap_or_else(|| {
            next += 1;
            next - 1
        });
        selection.strays.push(Stray { id: *id, directory: 0, number });
    }
    selection.strays.sort_by_key(|stray| stray.number);
    selection.count =
        u32::try_from(count + selection.strays.len() as u64).context("more objects than a pack can hold")?;
    if let Some(reachable) = reachable {
        let here = |spot| spot_of(objects, &selection, reachable, spot);
        let pairs = reachable.relatives.pairs().filter_map(|(one, other)| Some((here(one)?, here(other)?)));
        selection.relatives = pairs.collect();
    }
    Ok(selection)
}

/// Where the selection takes an object from that was found at `spot`, if it takes it.
fn spot_of(objects: &Objects, selection: &Selection, reachable: &Selection, spot: Spot) -> Option<Spot> {
    let packed = |id: &oid| {
        selection.packed.iter().find_map(|positions| {
            let position = objects.pack(positions.pack).position(id).filter(|at| positions.contains(*at))?;
            Some(Spot::Packed(positions.pack, position))
        })
    };
    match spot {
        Spot::Packed(pack, position) => packed(objects.pack(pack).id_at(position)),
        // A loose object has the same number in both selections.
        Spot::Loose(number) => selection.loose(number).map(|_| spot).or_else(|| packed(&reachable.loose(number)?.id)),
    }
}

/// Compares the object ids computed from what was written with the ids that were selected.
fn check(selection: &Selection, objects: &Objects, directory: &Path) -> Result<()> {
    let alone = Objects::new(objects.hash_kind(), vec![directory.to_owned()]);
    let [made] = &local::packs(&alone)?[..] else { bail!("the new pack cannot be opened") };
    let has = |id: &oid| match made.position(id) {
        Some(_) => Ok(()),
        None => Err(anyhow!("object {id} is damaged: it is not what its name says")),
    };
    for positions in &selection.packed {
        let pack = objects.pack(positions.pack);
        (0..pack.len()).try_for_each(|position| has(pack.id_at(position)))?;
    }
    selection.strays.iter().try_for_each(|stray| has(&stray.id))
}

/// What the thread that indexes the new pack must know.
struct Place {
    hash: gix_hash::Kind,
    directory: PathBuf,
    memory: u64,
    reverse_index: bool,
    compression: u32,
    threads: usize,
    sharing: Sharing,
    keep_message: String,
}

/// Writes a pack and indexes it at the same time, like one that is received: every object id is computed from what was
/// written.
fn write_and_index(
    selection: &Selection,
    objects: &Objects,
    options: &PackOptions,
    place: Place,
    pulse: &mut dyn Pulse,
) -> Result<()> {
    let (sender, receiver) = sync_channel(BLOCKS_MAX);
    let count = selection.count;
    std::thread::scope(|scope| {
        let indexing = std::thread::Builder::new().spawn_scoped(scope, move || index(receiver, &place, count));
        let indexing = indexing.context("cannot start the thread that indexes the pack")?;
        let mut out = ToIndexer { sender, pulse };
        let written = write::write(selection, objects, options, &mut out);
        drop(out);
        let indexed = match indexing.join() {
            Ok(indexed) => indexed,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        match written {
            // If the reader has stopped, its own error says why.
            Err(error) if is_closed(&error) => indexed.and(Err(error)),
            written => written.map(drop).and(indexed),
        }
        .context("writing a pack")
    })
}

fn is_closed(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn index(receiver: Receiver<Vec<u8>>, place: &Place, count: u32) -> Result<()> {
    // No alternates: the new pack must be complete in itself, because the others will be removed.
    let alone = Objects::new(place.hash, vec![place.directory.clone()]);
    let options = ReceiveOptions {
        hash: place.hash,
        directory: &place.directory,
        objects: &alone,
        unpack_limit: 0,
        max_input_size: None,
        object_size_max: None,
        room: None,
        fsck: None,
        memory: place.memory,
        reverse_index: place.reverse_index,
        compression: place.compression,
        threads: place.threads,
        sync: Syncs::all(Sync::Each),
        sharing: place.sharing,
        reject_thin: true,
        // A damaged object may turn out to be the same as another one of the pack.
        twice: true,
        keep_message: place.keep_message.clone(),
    };
    let mut body = FromWriter { receiver, block: Vec::new(), at: 0 };
    let received = IncomingPack::receive(&mut body, &options, &mut Silent)
        .map_err(|error| anyhow!("{}: {}", error.status, error.detail))?;
    ensure!(received.objects == count && received.kept.is_some(), "{} of {count} objects came", received.objects);
    Ok(())
}

/// The writing end of the pack.
struct ToIndexer<'a> {
    sender: SyncSender<Vec<u8>>,
    pulse: &'a mut dyn Pulse,
}

impl Write for ToIndexer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sender.send(bytes.to_vec()).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pulse for ToIndexer<'_> {
    fn tick(&mut self, done: u64) -> io::Result<()> {
        self.pulse.tick(done)
    }
}

impl Sink for ToIndexer<'_> {}

/// The reading end of the pack.
struct FromWriter {
    receiver: Receiver<Vec<u8>>,
    block: Vec<u8>,
    at: usize,
}

impl Read for FromWriter {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            match self.receiver.recv() {
                Ok(block) => (self.block, self.at) = (block, 0),
                Err(_) => return Ok(0),
            }
        }
        let size = buffer.len().min(self.block.len() - self.at);
        buffer[..size].copy_from_slice(&self.block[self.at..self.at + size]);
        self.at += size;
        Ok(size)
    }
}

impl Body for FromWriter {
    fn finish(&mut self) -> io::Result<u64> {
        let waiting = std::iter::from_fn(|| self.receiver.recv().ok()).map(|block| block.len() as u64).sum::<u64>();
        Ok(waiting + (self.block.len() - self.at) as u64)
    }
}

/// The loose objects that are reachable, whether or not they are in a pack as well.
pub(super) fn reachable_of(objects: &Objects, reachable: &Selection, loose: &[ObjectId]) -> Vec<ObjectId> {
    let strays: IdSet = reachable.strays.iter().map(|stray| stray.id).collect();
    loose.iter().filter(|id| strays.contains(*id) || reachable.is_packed(objects, id)).copied().collect()
}

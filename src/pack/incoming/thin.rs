//! Thin packs: deltas on objects that only the repository has.
//!
//! In: a pack in which some deltas lack their base. Out: the same pack with those bases appended, each once, and none
//! that the pack has already. Packs that become loose objects are resolved against the bases, but never extended.

use super::entries::{Layout, Names, code_of};
use super::examine::Examiner;
use super::family::Family;
use super::resolve::{Budget, OUTSIDE, Pack, Root};
use super::store::Store;
use super::walk::Resolver;
use super::{Fault, ReceiveOptions, humanised, name_of};
use crate::pack::checksummed::Trailer;
use crate::pack::deflate::Deflater;
use crate::stream::Pulse;
use gix_hash::{ObjectId, oid};
use gix_object::Kind;

/// The pack to complete.
pub(super) struct Completion<'a> {
    pub store: &'a mut Store,
    pub layout: &'a mut Layout,
    pub names: &'a mut Names,
    pub family: &'a Family,
    pub budget: &'a Budget,
    pub options: &'a ReceiveOptions<'a>,
}

impl Completion<'_> {
    /// Adds bases and resolves the deltas on them. Begins with `resolved` deltas and returns how many are resolved in
    /// the end.
    ///
    /// A missing base may itself be the result of a delta on another missing one. Bases are therefore added in the
    /// order of the deltas in the pack, as in git: bases mostly precede their deltas, so few are added needlessly.
    pub fn run(
        mut self,
        loose: bool,
        mut resolved: u32,
        examiner: &mut Examiner<'_>,
        pulse: &mut dyn Pulse,
    ) -> Result<u32, Fault> {
        if self.options.reject_thin && !loose {
            return Ok(resolved);
        }
        let mut resolver = Resolver::new();
        let mut deflater = Deflater::default();
        for id in self.family.missing_bases() {
            if !self.family.is_unclaimed(&id) {
                continue;
            }
            let Some((kind, content)) = self.base(&id)? else { continue };
            let entry = if loose { OUTSIDE } else { self.append(&id, kind, &content, &mut deflater)? };
            let root = Root { entry, kind, by_name: self.family.claim_children(&id) };
            let (names, hash) = (&mut *self.names, self.options.hash);
            let pack = Pack { store: self.store, layout: self.layout, family: self.family, budget: self.budget, hash };
            // A base too large for memory is read back from the pack.
            let large = !loose && content.len() as u64 > self.budget.content_max;
            let content = if large { None } else { Some(content) };
            resolver.tree(pack, &root, content, examiner, &mut |entry, id| {
                names.set(entry, id, kind);
                resolved += 1;
                Ok(pulse.tick(u64::from(resolved))?)
            })?;
        }
        Ok(resolved)
    }

    /// Reads a base from the repository, if it is there.
    fn base(&self, id: &oid) -> Result<Option<(Kind, Vec<u8>)>, Fault> {
        let objects = self.options.objects;
        let corrupt = || Fault::new(format!("local object {id} is corrupt"));
        let unreadable = |error: anyhow::Error| Fault::Ours(format!("cannot read local object {id}: {error:#}"));
        let Some(header) = objects.header(id).map_err(unreadable)? else { return Ok(None) };
        if header.size > self.budget.object_max {
            return Err(Fault::new(format!("failed to apply delta on {id}")));
        }
        if header.size > self.options.memory / 2 {
            let (size, limit) = (humanised(header.size), humanised(self.options.memory / 2));
            return Err(Fault::new(format!(
                "delta on an object of {size} that is not in the pack, the limit is {limit}"
            )));
        }
        let mut content = Vec::new();
        let Some(kind) = objects.find(id, &mut content).map_err(unreadable)? else { return Ok(None) };
        if *name_of(self.options.hash, kind, &content)? != *id {
            return Err(corrupt());
        }
        Ok(Some((kind, content)))
    }

    /// Appends an object after the last entry.
    fn append(&mut self, id: &oid, kind: Kind, content: &[u8], deflater: &mut Deflater) -> Result<u32, Fault> {
        let entry = self.layout.len();
        if entry == OUTSIDE {
            return Err(Fault::new("pack has too many objects"));
        }
        let header = entry_header(kind, content.len() as u64);
        let header_len = u8::try_from(header.len()).expect("a size takes at most ten bytes");
        let offset = self.store.len();
        let mut crc = crc32fast::Hasher::new();
        let mut write = |bytes: &[u8]| {
            crc.update(bytes);
            self.store.write(bytes)
        };
        write(&header)?;
        deflater.whole(self.options.compression, content, &mut write)?;
        self.layout.push(offset, header_len, crc.finalize(), self.store.len());
        self.names.push(id, kind);
        Ok(entry)
    }
}

fn entry_header(kind: Kind, size: u64) -> Vec<u8> {
    let low = u8::try_from(size & 0x0f).expect("four bits");
    let mut header = vec![(code_of(kind) << 4) | low];
    let mut rest = size >> 4;
    while rest > 0 {
        *header.last_mut().expect("it begins with one byte") |= 0x80;
        header.push(u8::try_from(rest & 0x7f).expect("seven bits"));
        rest >>= 7;
    }
    header
}

/// Updates the object count in the header of a pack that was extended, and computes the new trailer.
///
/// While the file is read again, the received part is checked against its original trailer.
pub(super) fn new_trailer(
    store: &mut Store,
    count: u32,
    received: &oid,
    received_end: u64,
    hash: gix_hash::Kind,
) -> Result<ObjectId, Fault> {
    let mut before = Trailer::new(hash);
    let mut after = Trailer::new(hash);
    let mut buffer = vec![0; 128 << 10];
    let mut at = 0;
    while at < store.len() {
        let read = store.read_at(at, &mut buffer)?;
        if read == 0 {
            return Err(Fault::new("premature end of pack file"));
        }
        let known = usize::try_from(received_end.saturating_sub(at)).map_or(read, |left| left.min(read));
        before.update(&buffer[..known]);
        if at == 0 {
            buffer[8..12].copy_from_slice(&count.to_be_bytes());
        }
        after.update(&buffer[..read]);
        at += read as u64;
    }
    if *before.finish() != *received {
        return Err(Fault::new("Unexpected tail checksum for the pack (disk corruption?)"));
    }
    store.overwrite(8, &count.to_be_bytes())?;
    Ok(after.finish())
}

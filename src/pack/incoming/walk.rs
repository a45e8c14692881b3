//! Resolving one tree of deltas, from its root down.
//!
//! In: an object with deltas on it. Out: every object resolved from it, examined and named. The walk is depth-first and
//! never recursive; contents beyond the budget are given up and made again from the pack when needed.

use super::content::{self, CHUNK_LEN, Content, Part};
use super::examine::Examiner;
use super::family::Family;
use super::resolve::{Budget, OUTSIDE, Pack, Root};
use super::store::Store;
use super::{Fault, bad_object, name_of};
use crate::durable;
use crate::odb::delta;
use crate::odb::inflate::{CompressedSource, Inflater};
use flate2::bufread::ZlibDecoder;
use gix_hash::ObjectId;
use gix_object::Kind;
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::sync::atomic::Ordering;

/// The longest chain of deltas; git makes none longer than 4095.
const DEPTH_MAX: usize = 10_000;
/// Buffers up to this size are reused.
const SPARE_MAX: usize = 1 << 20;
const SPARES: usize = 8;
/// Buffers up to this size are not worth shrinking.
const SPARE_MIN: usize = 2 << 10;
/// The limit on bytes that are made again: a fixed amount, plus [`AGAIN_EACH`] per byte made. If only one content fits
/// into memory, chains of 50 need a factor of up to thirteen; if five fit, so do chains of 4095. A pack crafted to need
/// more could keep a processor busy for hours with a megabyte.
const AGAIN_BEYOND: u64 = 1 << 30;
const AGAIN_EACH: u64 = 32;
/// Each content counts as at least this many bytes.
const AGAIN_MIN: u64 = 256;
/// The most contents kept in files because they will be needed again.
const FILES_MAX: usize = 4;
/// How many compressed bytes are read at a time.
const READ_LEN: usize = 64 << 10;

/// An object on the path from the root to the current one.
struct Frame {
    entry: u32,
    /// `None` if it was given up; it can be made again from the frames below.
    content: Option<Content>,
    /// The deltas on it that are not resolved yet.
    children: Range<u32>,
    by_name: Range<u32>,
}

impl Frame {
    fn is_done(&self) -> bool {
        self.children.is_empty() && self.by_name.is_empty()
    }
}

/// Receives each resolved delta: its entry and its name.
type Done<'a> = dyn FnMut(u32, &ObjectId) -> Result<(), Fault> + 'a;

/// The examiner of an object that is made; `None` if it has been made before.
type Examining<'a, 'e> = Option<(Kind, &'a mut Examiner<'e>)>;

/// Resolves deltas, with buffers that are reused.
pub(super) struct Resolver {
    inflater: Inflater,
    window: Window,
    delta: Vec<u8>,
    spares: Vec<Vec<u8>>,
    stack: Vec<Frame>,
    /// All frames below this one have given up their content.
    lowest: usize,
    /// How many contents are in files.
    files: usize,
    /// The number of bytes made from deltas.
    made: u64,
    /// The number of bytes made again after having been given up.
    again: u64,
}

impl Resolver {
    pub fn new() -> Self {
        Resolver {
            inflater: Inflater::new(),
            window: Window::default(),
            delta: Vec::new(),
            spares: Vec::new(),
            stack: Vec::new(),
            lowest: 0,
            files: 0,
            made: 0,
            again: 0,
        }
    }

    /// Resolves all deltas on `root`, and those on the results. `content` is given for a root outside the pack.
    pub fn tree(
        &mut self,
        pack: Pack<'_>,
        root: &Root,
        content: Option<Vec<u8>>,
        examiner: &mut Examiner<'_>,
        done: &mut Done<'_>,
    ) -> Result<(), Fault> {
        let walked = self.walk(pack, root, content, examiner, done);
        for level in 0..self.stack.len() {
            self.give_up(pack.budget, level);
        }
        self.stack.clear();
        walked
    }

    fn walk(
        &mut self,
        pack: Pack<'_>,
        root: &Root,
        content: Option<Vec<u8>>,
        examiner: &mut Examiner<'_>,
        done: &mut Done<'_>,
    ) -> Result<(), Fault> {
        // The content of a root outside the pack is kept, as it cannot be made again.
        let bottom = usize::from(root.entry == OUTSIDE);
        self.lowest = bottom;
        let children = pack.family.children(root.entry);
        self.push(pack.budget, root.entry, content.map(Content::Memory), children, root.by_name.clone());
        while let Some(top) = self.stack.len().checked_sub(1) {
            let Some(child) = self.next_child(pack.family, top) else {
                self.give_up(pack.budget, top);
                self.stack.pop();
                self.lowest = self.lowest.min(self.stack.len()).max(bottom);
                continue;
            };
            self.load(pack, top, bottom)?;
            let (id, content) = self.make(pack, top, child, Some((root.kind, examiner)))?;
            self.made = self.made.saturating_add(content.as_ref().map_or(0, Content::len).max(AGAIN_MIN));
            done(child, &id)?;
            let (children, by_name) = (pack.family.children(child), pack.family.claim_children(&id));
            if self.stack[top].is_done() && top >= bottom {
                self.give_up(pack.budget, top);
            }
            if children.is_empty() && by_name.is_empty() {
                self.spare(content);
                continue;
            }
            if self.stack.len() == DEPTH_MAX {
                let what = format!("chain of deltas is longer than {DEPTH_MAX}");
                return Err(bad_object(pack.layout.offset(child), what));
            }
            self.push(pack.budget, child, content, children, by_name);
            self.keep_within(pack.budget, top + 1);
        }
        Ok(())
    }

    fn next_child(&mut self, family: &Family, top: usize) -> Option<u32> {
        let frame = &mut self.stack[top];
        // What depends on deltas by name is unknown until they have names themselves. It may be more than everything
        // else, so it comes last.
        match frame.children.next() {
            Some(at) => Some(family.child_at(at)),
            None => frame.by_name.next().map(|at| family.by_name_at(at)),
        }
    }

    fn push(
        &mut self,
        budget: &Budget,
        entry: u32,
        content: Option<Content>,
        children: Range<u32>,
        by_name: Range<u32>,
    ) {
        let level = self.stack.len();
        self.stack.push(Frame { entry, content: None, children, by_name });
        if let Some(content) = content {
            self.hold(budget, level, content);
        }
    }

    fn hold(&mut self, budget: &Budget, level: usize, mut content: Content) {
        match &mut content {
            Content::Memory(bytes) if bytes.capacity() / 2 > bytes.len().max(SPARE_MIN) => bytes.shrink_to_fit(),
            Content::Memory(_) => {}
            Content::File(..) => self.files += 1,
        }
        budget.held.fetch_add(content.held(), Ordering::Relaxed);
        self.stack[level].content = Some(content);
    }

    fn give_up(&mut self, budget: &Budget, level: usize) {
        let content = self.stack[level].content.take();
        if let Some(content) = &content {
            budget.held.fetch_sub(content.held(), Ordering::Relaxed);
            self.files -= usize::from(matches!(content, Content::File(..)));
        }
        self.spare(content);
    }

    /// Gives up contents from the bottom until the budget is met, but none at `level` or above.
    fn keep_within(&mut self, budget: &Budget, level: usize) {
        while self.lowest < level && (budget.held.load(Ordering::Relaxed) > budget.limit || self.files > FILES_MAX) {
            self.give_up(budget, self.lowest);
            self.lowest += 1;
        }
    }

    fn spare(&mut self, content: Option<Content>) {
        if let Some(Content::Memory(mut buffer)) = content
            && buffer.capacity() <= SPARE_MAX
            && self.spares.len() < SPARES
        {
            buffer.clear();
            self.spares.push(buffer);
        }
    }

    /// Makes the content of a frame that has given it up: from the nearest frame below that has its content, or from
    /// the pack.
    fn load(&mut self, pack: Pack<'_>, top: usize, bottom: usize) -> Result<(), Fault> {
        if self.stack[top].content.is_some() {
            return Ok(());
        }
        let mut level = top;
        while level > 0 && self.stack[level].content.is_none() {
            level -= 1;
        }
        if self.stack[level].content.is_none() {
            let content = self.whole(pack, self.stack[level].entry)?;
            self.count_again(pack, level, &content)?;
            self.hold(pack.budget, level, content);
        }
        self.lowest = self.lowest.min(level).max(bottom);
        for level in level..top {
            let (_, content) = self.make(pack, level, self.stack[level + 1].entry, None)?;
            if let Some(content) = content {
                self.count_again(pack, level + 1, &content)?;
                self.hold(pack.budget, level + 1, content);
            }
            if self.stack[level].is_done() && level >= bottom {
                self.give_up(pack.budget, level);
            }
            self.keep_within(pack.budget, level + 1);
        }
        Ok(())
    }

    /// Counts a content that was made again.
    fn count_again(&mut self, pack: Pack<'_>, level: usize, content: &Content) -> Result<(), Fault> {
        self.again = self.again.saturating_add(content.len().max(AGAIN_MIN));
        if self.again > self.made.saturating_mul(AGAIN_EACH).saturating_add(AGAIN_BEYOND) {
            let what = "its deltas would have to be resolved again and again within so little memory";
            return Err(bad_object(pack.layout.offset(self.stack[level].entry), what));
        }
        Ok(())
    }

    /// Reads the content of a whole entry.
    fn whole(&mut self, pack: Pack<'_>, entry: u32) -> Result<Content, Fault> {
        let size = self.declared_size(pack, entry)?;
        if size > pack.budget.object_max {
            // It is larger than any delta declares its base to be.
            return Err(bad_object(pack.layout.offset(entry), "failed to apply delta"));
        }
        if size <= pack.budget.content_max {
            let mut content = self.spares.pop().unwrap_or_default();
            self.inflate(pack, entry, size, &mut content)?;
            return Ok(Content::Memory(content));
        }
        let mut file = pack.store.temporary("tmp_obj_")?;
        let mut stream = inflating(pack, entry);
        let mut buffer = vec![0; CHUNK_LEN];
        let mut left = size;
        while left > 0 {
            let read = stream.read(&mut buffer)?;
            if read == 0 || read as u64 > left {
                return Err(inconsistent());
            }
            durable::write_all(&mut file.file, &buffer[..read])?;
            left -= read as u64;
        }
        Ok(Content::File(file, size))
    }

    /// Makes the object of a delta on the content of a frame. The content is not returned if it is large and has no
    /// deltas on it.
    fn make(
        &mut self,
        pack: Pack<'_>,
        level: usize,
        child: u32,
        examining: Examining<'_, '_>,
    ) -> Result<(ObjectId, Option<Content>), Fault> {
        let base = self.stack[level].content.take().expect("a base is loaded before it is used");
        let made = self.make_of(pack, &base, child, examining);
        self.stack[level].content = Some(base);
        made
    }

    fn make_of(
        &mut self,
        pack: Pack<'_>,
        base: &Content,
        child: u32,
        examining: Examining<'_, '_>,
    ) -> Result<(ObjectId, Option<Content>), Fault> {
        let failed = || bad_object(pack.layout.offset(child), "failed to apply delta");
        let size = self.declared_size(pack, child)?;
        if size > pack.budget.content_max {
            let mut delta = BufReader::with_capacity(CHUNK_LEN, inflating(pack, child));
            return make_in_chunks(pack, base, &mut delta, child, examining);
        }
        let mut delta = std::mem::take(&mut self.delta);
        self.inflate(pack, child, size, &mut delta)?;
        let (_, result_len, _) = delta::sizes(&delta).map_err(|_| failed())?;
        let made = match base {
            Content::Memory(base) if result_len <= pack.budget.content_max => {
                let mut result = self.spares.pop().unwrap_or_default();
                delta::apply(base, &delta, pack.budget.content_max, &mut result)
                    .map_err(|_| failed())
                    .and_then(|()| examined(pack, result, examining))
            }
            _ => make_in_chunks(pack, base, &mut &delta[..], child, examining),
        };
        self.delta = delta;
        made
    }

    fn declared_size(&mut self, pack: Pack<'_>, entry: u32) -> Result<u64, Fault> {
        let mut bytes = Bytes { window: &mut self.window, store: pack.store, end: pack.layout.end(entry) };
        size_in_header(bytes.piece(pack.layout.offset(entry))?).ok_or_else(inconsistent)
    }

    /// Inflates an entry whose size was verified by the scan.
    fn inflate(&mut self, pack: Pack<'_>, entry: u32, size: u64, out: &mut Vec<u8>) -> Result<(), Fault> {
        let mut bytes = Bytes { window: &mut self.window, store: pack.store, end: pack.layout.end(entry) };
        self.inflater.whole(&mut bytes, pack.layout.data(entry), size, out).map_err(|_| inconsistent())?;
        Ok(())
    }
}

fn inconsistent() -> Fault {
    Fault::new("serious inflate inconsistency")
}

/// Examines an object in memory, unless it has been made before.
fn examined(
    pack: Pack<'_>,
    content: Vec<u8>,
    examining: Examining<'_, '_>,
) -> Result<(ObjectId, Option<Content>), Fault> {
    let id = match examining {
        Some((kind, examiner)) => {
            let id = name_of(pack.hash, kind, &content)?;
            examiner.object(&id, kind, &content)?;
            id
        }
        None => pack.hash.null(),
    };
    Ok((id, Some(Content::Memory(content))))
}

/// Makes an object whose base, delta or result is too large for memory.
fn make_in_chunks(
    pack: Pack<'_>,
    base: &Content,
    delta: &mut dyn Read,
    child: u32,
    mut examining: Examining<'_, '_>,
) -> Result<(ObjectId, Option<Content>), Fault> {
    let failed = || bad_object(pack.layout.offset(child), "failed to apply delta");
    let result_len = match content::sizes(delta)? {
        Some((base_len, result_len)) if base_len == base.len() && result_len <= pack.budget.object_max => result_len,
        _ => return Err(failed()),
    };
    if result_len <= pack.budget.content_max {
        let mut result = Vec::new();
        let applied = content::apply(base, delta, result_len, &mut |part| {
            result.extend_from_slice(part);
            Ok(())
        })?;
        return if applied { examined(pack, result, examining) } else { Err(failed()) };
    }
    let mut large = match &mut examining {
        Some((kind, examiner)) => Some(examiner.begin_large(*kind, result_len)?),
        None => None,
    };
    let wanted = large.is_none() || pack.family.may_be_base(child);
    let mut file = if wanted { Some(pack.store.temporary("tmp_obj_")?) } else { None };
    let applied = content::apply(base, delta, result_len, &mut |part| {
        if let (Some(large), Some((_, examiner))) = (&mut large, &mut examining) {
            large.chunk(part, examiner)?;
        }
        match &mut file {
            Some(file) => Ok(durable::write_all(&mut file.file, part)?),
            None => Ok(()),
        }
    })?;
    if !applied {
        return Err(failed());
    }
    let id = match (large, examining) {
        (Some(large), Some((_, examiner))) => large.end(examiner)?,
        _ => pack.hash.null(),
    };
    Ok((id, file.map(|file| Content::File(file, result_len))))
}

/// The content of an entry, inflated as it is read.
fn inflating<'a>(pack: Pack<'a>, entry: u32) -> ZlibDecoder<BufReader<Part<'a>>> {
    let part = Part { store: pack.store, at: pack.layout.data(entry), end: pack.layout.end(entry) };
    ZlibDecoder::new(BufReader::with_capacity(READ_LEN, part))
}

/// The bytes of the pack that were read last.
#[derive(Default)]
struct Window {
    bytes: Vec<u8>,
    at: u64,
    len: usize,
}

/// The pack up to the end of an entry, read through the window.
struct Bytes<'a> {
    window: &'a mut Window,
    store: &'a Store,
    end: u64,
}

impl CompressedSource for Bytes<'_> {
    fn piece(&mut self, at: u64) -> io::Result<&[u8]> {
        let window = &mut *self.window;
        let inside = at >= window.at && at < window.at + window.len as u64;
        if !inside {
            let size = usize::try_from(self.end.saturating_sub(at)).map_or(READ_LEN, |left| left.min(READ_LEN));
            if window.bytes.len() < size {
                window.bytes.resize(size, 0);
            }
            window.len = 0;
            window.len = self.store.read_at(at, &mut window.bytes[..size])?;
            window.at = at;
        }
        let skip = usize::try_from(at - window.at).map_err(io::Error::other)?;
        Ok(&window.bytes[skip..window.len])
    }
}

/// The size in an entry's header.
fn size_in_header(header: &[u8]) -> Option<u64> {
    let (first, rest) = header.split_first()?;
    let mut size = u64::from(first & 0x0f);
    let mut shift = 4;
    let mut more = first & 0x80 != 0;
    let mut rest = rest.iter();
    while more {
        let byte = rest.next()?;
        size |= u64::from(byte & 0x7f).checked_shl(shift)?;
        shift += 7;
        more = byte & 0x80 != 0;
    }
    Some(size)
}

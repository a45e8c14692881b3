//! One object directory and its packs, which are found when needed.
//!
//! In: its path. Out: the pack that has an object. The multi-pack-index is asked first and may make listing the folder
//! unnecessary. The folder is listed once, and again after a miss. Indexes are opened on first use.

use super::bitmap::PseudoPack;
use super::folders::Folders;
use super::index::Index;
use super::loose::Recent;
use super::midx::Midx;
use super::packs::{Pack, PackId};
use crate::listing::Listing;
use anyhow::Context;
use gix_hash::{ObjectId, oid};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Enough for more than a thousand layers.
const CHAIN_BYTES_MAX: u64 = 64 << 10;

/// How long two changes of a folder may get the same timestamp: with the coarse clock of kernels before Linux 6.13, and
/// on file systems that store whole seconds.
const TICK: Duration = Duration::from_millis(20);
const TICK_OF_SECONDS: Duration = Duration::from_secs(2);

/// How many indexes keep their files open. With one file for each of a thousand packs a process could open nothing
/// else.
const INDEX_FILES_MAX: u32 = 16;

/// The state shared by all directories of a database.
pub(super) struct Register {
    pub hash: gix_hash::Kind,
    slots: RefCell<Vec<Rc<Slot>>>,
    /// Packs that another instance of the database has numbered, by path.
    known: HashMap<PathBuf, Rc<Slot>>,
    warnings: RefCell<Vec<String>>,
    index_files: Cell<u32>,
}

impl Register {
    pub fn new(hash: gix_hash::Kind) -> Self {
        Register::knowing(hash, &[])
    }

    /// Gives packs the numbers that another register has given them, and shares those that are open.
    pub fn knowing(hash: gix_hash::Kind, packs: &[(PathBuf, Option<Arc<Pack>>)]) -> Self {
        let slot = |(number, (path, pack)): (u32, &(PathBuf, Option<Arc<Pack>>))| {
            let state = pack.as_ref().map_or(State::Closed, |pack| State::Open(Arc::clone(pack)));
            Rc::new(Slot { id: PackId(number), path: path.clone(), state: RefCell::new(state) })
        };
        let slots: Vec<Rc<Slot>> = (0..).zip(packs).map(slot).collect();
        let known = slots.iter().map(|slot| (slot.path.clone(), Rc::clone(slot))).collect();
        let (warnings, index_files) = (RefCell::default(), Cell::default());
        Register { hash, slots: RefCell::new(slots), known, warnings, index_files }
    }

    /// All numbered packs, in the order of their numbers.
    pub fn packs(&self) -> Vec<(PathBuf, Option<Arc<Pack>>)> {
        let pack = |slot: &Rc<Slot>| match &*slot.state.borrow() {
            State::Open(pack) => Some(Arc::clone(pack)),
            State::Closed | State::Indexed(_) | State::Gone | State::Broken => None,
        };
        self.slots.borrow().iter().map(|slot| (slot.path.clone(), pack(slot))).collect()
    }

    pub fn warn(&self, warning: String) {
        let mut warnings = self.warnings.borrow_mut();
        // A thousand broken objects do not need a thousand lines.
        if warnings.len() < 100 && !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.warnings.borrow_mut())
    }

    pub fn slot(&self, id: PackId) -> Option<Rc<Slot>> {
        self.slots.borrow().get(id.0 as usize).cloned()
    }

    fn add(&self, path: PathBuf) -> Rc<Slot> {
        if let Some(slot) = self.known.get(&path) {
            return Rc::clone(slot);
        }
        let mut slots = self.slots.borrow_mut();
        let number = u32::try_from(slots.len()).expect("a folder with four thousand million packs cannot be listed");
        let slot = Rc::new(Slot { id: PackId(number), path, state: RefCell::new(State::Closed) });
        slots.push(Rc::clone(&slot));
        slot
    }
}

/// A pack by name, opened as far as needed.
pub(super) struct Slot {
    pub id: PackId,
    path: PathBuf,
    state: RefCell<State>,
}

enum State {
    Closed,
    Indexed(Box<Index>),
    Open(Arc<Pack>),
    /// The file has vanished. If a listing names it again, it becomes `Closed`.
    Gone,
    Broken,
}

impl Slot {
    fn name(&self) -> &[u8] {
        self.path.file_name().unwrap_or_default().as_bytes()
    }

    /// The position of an object in this pack. The pack is open if one is returned.
    pub fn position(&self, id: &oid, register: &Register) -> Option<u32> {
        match &*self.state.borrow() {
            State::Open(pack) => return pack.position(id),
            State::Indexed(index) => {
                index.position(id)?;
            }
            State::Closed => {}
            State::Gone | State::Broken => return None,
        }
        self.open_index(register);
        let position = match &*self.state.borrow() {
            State::Indexed(index) => index.position(id),
            _ => None,
        }?;
        self.open(register).map(|_| position)
    }

    /// Opens the pack; `None` if it is unusable.
    pub fn open(&self, register: &Register) -> Option<Arc<Pack>> {
        self.open_index(register);
        let mut state = self.state.borrow_mut();
        if let State::Indexed(_) = &*state
            && let State::Indexed(index) = std::mem::replace(&mut *state, State::Broken)
        {
            *state = match Pack::open(self.id, self.path.clone(), register.hash, *index) {
                Ok(pack) => State::Open(Arc::new(pack)),
                Err(error) => self.unusable(&error, register),
            };
        }
        match &*state {
            State::Open(pack) => Some(Arc::clone(pack)),
            State::Closed | State::Indexed(_) | State::Gone | State::Broken => None,
        }
    }

    fn open_index(&self, register: &Register) {
        let mut state = self.state.borrow_mut();
        if let State::Closed = &*state {
            let files = register.index_files.get();
            *state = match Index::open(&self.path.with_extension("idx"), register.hash, files < INDEX_FILES_MAX) {
                Ok(index) => {
                    register.index_files.set(files + u32::from(index.is_open()));
                    State::Indexed(Box::new(index))
                }
                Err(error) => self.unusable(&error, register),
            };
        }
    }

    fn unusable(&self, error: &anyhow::Error, register: &Register) -> State {
        if is_gone(error) {
            return State::Gone;
        }
        register.warn(format!("{}: {error:#}", self.path.display()));
        State::Broken
    }

    /// Why it cannot be opened: it is gone, or for a reason reported already.
    fn why_not(&self) -> io::Error {
        match &*self.state.borrow() {
            State::Gone => io::ErrorKind::NotFound.into(),
            _ => io::Error::other("see above"),
        }
    }

    fn back(&self) -> bool {
        let mut state = self.state.borrow_mut();
        let gone = matches!(&*state, State::Gone);
        if gone {
            *state = State::Closed;
        }
        gone
    }
}

/// Whether an error means that a file no longer exists.
pub(super) fn is_gone(error: &anyhow::Error) -> bool {
    let stale = rustix::io::Errno::STALE.raw_os_error();
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(stale))
}

/// Tells two states of a file or folder apart.
type Identity = (u64, u64, u64, i64, i64);

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

/// One multi-pack-index, or one layer of a chain of them.
struct Layer {
    path: PathBuf,
    midx: Midx,
    /// The slots of its packs, as far as they were needed.
    slots: HashMap<u32, Rc<Slot>>,
}

#[derive(Default)]
struct Packs {
    /// The newest layer first.
    midx: Vec<Layer>,
    midx_identity: Option<Identity>,
    midx_tried: bool,
    listed: Option<Identity>,
    /// When that state was first seen, until the folder has been listed again long enough after that.
    unsettled: Option<Instant>,
    listings: u32,
    /// Packs that no multi-pack-index covers: the one used last first, then newest first.
    loose_ends: Vec<Rc<Slot>>,
    covered: Vec<Rc<Slot>>,
    /// The names of the bitmap files, without extension.
    bitmapped: Vec<OsString>,
    names: HashMap<OsString, Rc<Slot>>,
}

/// A bitmap file.
pub(super) struct BitmapFile {
    pub path: PathBuf,
    /// How many bytes have to be read before it is trusted.
    pub bytes: u64,
    pub of: BitmapsOf,
}

/// What a bitmap file belongs to.
pub(super) enum BitmapsOf {
    Pack(Rc<Slot>),
    /// A multi-pack-index, perhaps not the present one.
    Midx,
}

/// An object directory.
pub(super) struct Directory {
    pub path: PathBuf,
    /// The folder of its packs.
    folder: PathBuf,
    packs: RefCell<Packs>,
    loose: RefCell<Folders>,
    /// Loose objects that were read recently.
    pub recent: RefCell<Recent>,
}

impl Directory {
    /// Creates it without opening anything.
    pub fn new(path: PathBuf, recent: Recent) -> Self {
        let folder = path.join("pack");
        Directory { path, folder, packs: RefCell::default(), loose: RefCell::default(), recent: RefCell::new(recent) }
    }

    /// The pack that has an object. `accept` may reject a copy; then others are tried.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn packed(
        &self,
        id: &oid,
        register: &Register,
        accept: &dyn Fn(&Slot, u32) -> bool,
    ) -> io::Result<Option<(PackId, u32)>> {
        let mut packs = self.packs.borrow_mut();
        packs.open_midx(&self.folder, register);
        let (in_midx, slot) = packs.in_midx(id, &self.folder, register);
        if let Some(slot) = slot
            && let Some(position) = slot.position(id, register).filter(|position| accept(&slot, *position))
        {
            return Ok(Some((slot.id, position)));
        }
        packs.list_once(&self.folder, register)?;
        for at in 0..packs.loose_ends.len() {
            let slot = &packs.loose_ends[at];
            if let Some(position) = slot.position(id, register).filter(|position| accept(slot, *position)) {
                let found = slot.id;
                packs.loose_ends[..=at].rotate_right(1);
                return Ok(Some((found, position)));
            }
        }
        if in_midx {
            // That copy was rejected. The multi-pack-index has one copy of each object, but the pack indexes have all.
            for slot in &packs.covered {
                if let Some(position) = slot.position(id, register).filter(|position| accept(slot, *position)) {
                    return Ok(Some((slot.id, position)));
                }
            }
        }
        Ok(None)
    }

    /// Lists the folder again, unless it was listed twice and has not changed since. A change right after a listing may
    /// not show in the folder's timestamp, so the folder is listed once more some time after its present state was
    /// first seen. Returns whether there may be new packs.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn refresh(&self, register: &Register) -> io::Result<bool> {
        let mut packs = self.packs.borrow_mut();
        if packs.listings > 1 && packs.listed == folder_identity(&self.folder)? && !packs.may_be_told_more() {
            return Ok(false);
        }
        packs.list(&self.folder, register)
    }

    /// All packs in the folder at present.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn all(&self, register: &Register) -> io::Result<Vec<Rc<Slot>>> {
        let mut packs = self.packs.borrow_mut();
        if packs.listings == 0 || packs.listed != folder_identity(&self.folder)? {
            packs.list(&self.folder, register)?;
        }
        Ok(packs.loose_ends.iter().chain(&packs.covered).cloned().collect())
    }

    /// Adds the present state of the folder to `words`: its path, its packs and bitmaps, and the identity of the
    /// multi-pack-index.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn told(&self, register: &Register, words: &mut Vec<Vec<u8>>) -> io::Result<()> {
        let mut names: Vec<Vec<u8>> = self.all(register)?.iter().map(|slot| slot.name().to_owned()).collect();
        let packs = self.packs.borrow();
        names.extend(packs.bitmapped.iter().map(|stem| [b"bitmap ", stem.as_bytes()].concat()));
        names.sort_unstable();
        words.push(self.path.as_os_str().as_bytes().to_owned());
        words.append(&mut names);
        // Device and inode numbers differ between machines that share the storage.
        words.extend(
            packs.midx_identity.map(|(_, _, size, seconds, rest)| format!("midx {size} {seconds} {rest}").into()),
        );
        Ok(())
    }

    /// The pack of this name (without extension), opened; `None` if it does not exist or is unusable.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn named(&self, stem: &OsStr, register: &Register) -> io::Result<Option<Arc<Pack>>> {
        let slots = self.all(register)?;
        Ok(slots.iter().find(|slot| slot.path.file_stem() == Some(stem)).and_then(|slot| slot.open(register)))
    }

    /// The bitmap files in the folder, those of multi-pack-indexes first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn bitmaps(&self, register: &Register) -> io::Result<Vec<BitmapFile>> {
        let mut packs = self.packs.borrow_mut();
        let folder = &self.folder;
        packs.list_once(folder, register)?;
        let mut files = Vec::new();
        for stem in &packs.bitmapped {
            let mut name = stem.to_owned();
            name.push(".bitmap");
            let path = folder.join(name);
            let of = match packs.names.get(stem) {
                Some(slot) => BitmapsOf::Pack(Rc::clone(slot)),
                None if stem.as_bytes().starts_with(b"multi-pack-index-") => BitmapsOf::Midx,
                None => continue,
            };
            let size = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
            let index = if let BitmapsOf::Midx = of { size(&folder.join("multi-pack-index")) } else { 0 };
            files.push(BitmapFile { bytes: size(&path) + index, path, of });
        }
        files.sort_by_key(|file| matches!(file.of, BitmapsOf::Pack(_)));
        Ok(files)
    }

    /// The objects of the multi-pack-index in bitmap order. Chains are not supported.
    ///
    /// # Errors
    /// When there is none, it is damaged, or one of its packs is unusable.
    pub fn pseudo_pack(&self, register: &Register) -> anyhow::Result<PseudoPack> {
        let folder = &self.folder;
        let path = folder.join("multi-pack-index");
        let midx = Midx::open(&path, register.hash)?;
        let mut packs = self.packs.borrow_mut();
        let mut opened = Vec::new();
        for name in midx.names() {
            let stem = Path::new(name).file_stem().context("it has a pack without a name")?;
            let slot = slot_of(&mut packs.names, stem, folder, register);
            let pack = slot.open(register).ok_or_else(|| slot.why_not());
            opened.push(pack.with_context(|| format!("its pack {} cannot be used", stem.display()))?);
        }
        PseudoPack::new(midx, path, opened)
    }

    /// The number of open multi-pack-indexes.
    #[cfg(test)]
    pub fn layers(&self) -> usize {
        self.packs.borrow().midx.len()
    }

    /// Whether a loose object may exist. One added after its folder was listed is missed.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn may_have_loose(&self, id: &oid) -> io::Result<bool> {
        self.loose.borrow_mut().may_have(&self.path, id)
    }
}

fn folder_identity(folder: &Path) -> io::Result<Option<Identity>> {
    match folder.metadata() {
        Ok(metadata) => Ok(Some(identity(&metadata))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Packs {
    /// Opens the multi-pack-index on the first call.
    fn open_midx(&mut self, folder: &Path, register: &Register) {
        if !self.midx_tried {
            self.midx_tried = true;
            self.renew_midx(folder, register);
        }
    }

    /// Opens the multi-pack-index, or else the chain, if it is not the one already open. Returns whether it changed.
    fn renew_midx(&mut self, folder: &Path, register: &Register) -> bool {
        let single = folder.join("multi-pack-index");
        let layers = folder.join("multi-pack-index.d");
        let chain = layers.join("multi-pack-index-chain");
        let identity_of = |path: &Path| path.metadata().ok().map(|metadata| identity(&metadata));
        let single_now = identity_of(&single);
        let now = single_now.or_else(|| identity_of(&chain));
        if self.midx_identity == now {
            return false;
        }
        self.midx_identity = now;
        self.midx.clear();
        if single_now.is_some() {
            self.midx.extend(open_layer(&single, register));
        } else if now.is_some() {
            for name in chain_names(&chain) {
                let Some(layer) = open_layer(&layers.join(format!("multi-pack-index-{name}.midx")), register) else {
                    break;
                };
                self.midx.insert(0, layer);
            }
        }
        true
    }

    /// Whether the multi-pack-index has an object, and the pack it names for it.
    fn in_midx(&mut self, id: &oid, folder: &Path, register: &Register) -> (bool, Option<Rc<Slot>>) {
        let found = self.midx.iter_mut().find_map(|layer| layer.midx.pack_of(id).map(|pack| (layer, pack)));
        let Some((layer, pack)) = found else { return (false, None) };
        if let Some(slot) = layer.slots.get(&pack) {
            return (true, Some(Rc::clone(slot)));
        }
        // Strip directories from the name: packs are only in this folder.
        let Some(stem) = layer.midx.name(pack).and_then(|name| Path::new(name).file_stem()) else {
            register.warn(format!("{}: it has no pack {pack}", layer.path.display()));
            return (true, None);
        };
        let slot = slot_of(&mut self.names, stem, folder, register);
        layer.slots.insert(pack, Rc::clone(&slot));
        (true, Some(slot))
    }

    /// Whether the folder's present state was first seen long enough ago that one more listing sees all changes with
    /// its timestamp, and that listing is still due.
    fn may_be_told_more(&self) -> bool {
        let in_seconds = self.listed.is_some_and(|(.., nanoseconds)| nanoseconds == 0);
        let tick = if in_seconds { TICK_OF_SECONDS } else { TICK };
        self.unsettled.is_some_and(|since| since.elapsed() >= tick)
    }

    fn list_once(&mut self, folder: &Path, register: &Register) -> io::Result<()> {
        if self.listings == 0 {
            self.list(folder, register)?;
        }
        Ok(())
    }

    /// Lists the folder. Returns whether there is something new.
    fn list(&mut self, folder: &Path, register: &Register) -> io::Result<bool> {
        // A multi-pack-index opened just before the first listing is not opened again.
        let fresh = self.midx_tried && self.listings == 0;
        self.midx_tried = true;
        // Taken before the listing, so that a change meanwhile makes it differ next time.
        let now = folder_identity(folder)?;
        if self.listings == 0 || self.listed != now {
            self.unsettled = now.map(|_| Instant::now());
        } else if self.may_be_told_more() {
            self.unsettled = None;
        }
        self.listed = now;
        self.listings += 1;
        let mut something_new = !fresh && self.renew_midx(folder, register);
        self.bitmapped.clear();
        let mut indexed: Vec<OsString> = Vec::new();
        let mut packed: HashSet<OsString> = HashSet::new();
        let entries = match Listing::open(folder) {
            Ok(entries) => Some(entries),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        for entry in entries.into_iter().flatten() {
            let entry = entry?;
            let path = Path::new(&entry.name);
            let Some(stem) = path.file_stem().map(OsStr::to_owned) else { continue };
            match path.extension().and_then(OsStr::to_str) {
                Some("idx") => indexed.push(stem),
                Some("bitmap") => self.bitmapped.push(stem),
                Some("pack") => {
                    packed.insert(stem);
                }
                _ => {}
            }
        }
        let names = self.midx.iter().flat_map(|layer| layer.midx.names());
        let mut covered: Vec<OsString> =
            names.filter_map(|name| Path::new(name).file_stem().map(OsStr::to_owned)).collect();
        covered.sort_unstable();
        let before: Vec<Rc<Slot>> = std::mem::take(&mut self.loose_ends);
        self.covered.clear();
        let mut found = Vec::new();
        for stem in indexed {
            if !packed.contains(&stem) {
                continue;
            }
            let known = self.names.contains_key(&stem);
            let slot = slot_of(&mut self.names, &stem, folder, register);
            something_new |= !known | slot.back();
            if covered.binary_search(&stem).is_ok() {
                self.covered.push(slot);
            } else if !before.iter().any(|old| Rc::ptr_eq(old, &slot)) {
                let time = slot.path.metadata().map(|metadata| (metadata.mtime(), metadata.mtime_nsec()));
                let time = time.unwrap_or_default();
                found.push((std::cmp::Reverse(time), stem, slot));
            }
        }
        found.sort_unstable_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
        self.loose_ends.extend(found.into_iter().map(|(_, _, slot)| slot));
        // Packs known before are kept: an open pack can be read even after its file is deleted.
        self.loose_ends.extend(before);
        Ok(something_new)
    }
}

fn open_layer(path: &Path, register: &Register) -> Option<Layer> {
    match Midx::open(path, register.hash) {
        Ok(midx) => return Some(Layer { path: path.to_owned(), midx, slots: HashMap::new() }),
        // It was just replaced; the pack indexes are still there.
        Err(error) if is_gone(&error) => {}
        Err(error) => register.warn(format!("{}: {error:#}", path.display())),
    }
    None
}

/// The layers that a chain names, the lowest first.
fn chain_names(chain: &Path) -> Vec<ObjectId> {
    let mut text = Vec::new();
    match fs::File::open(chain).and_then(|file| file.take(CHAIN_BYTES_MAX).read_to_end(&mut text)) {
        Ok(_) => text.split(|byte| *byte == b'\n').map_while(|line| ObjectId::from_hex(line).ok()).collect(),
        Err(_) => Vec::new(),
    }
}

/// The slot of a pack, by its name without extension.
fn slot_of(names: &mut HashMap<OsString, Rc<Slot>>, stem: &OsStr, folder: &Path, register: &Register) -> Rc<Slot> {
    if let Some(slot) = names.get(stem) {
        return Rc::clone(slot);
    }
    let mut name = stem.to_owned();
    name.push(".pack");
    let slot = register.add(folder.join(name));
    names.insert(stem.to_owned(), Rc::clone(&slot));
    slot
}

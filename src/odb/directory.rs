//! One object directory: which packs it has, found when needed.
//!
//! In: its path. Out: the pack that holds an object. The multi-pack-index is asked first and may spare the listing; the
//! folder is listed once, and again after a miss. Indexes are opened when they are asked for the first time.

use super::index::Index;
use super::packs::{Pack, PackId};
use gix_hash::oid;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What all directories of a database have in common.
pub(super) struct Register {
    pub hash: gix_hash::Kind,
    slots: RefCell<Vec<Rc<Slot>>>,
    warnings: RefCell<Vec<String>>,
}

impl Register {
    pub fn new(hash: gix_hash::Kind) -> Self {
        Register { hash, slots: RefCell::default(), warnings: RefCell::default() }
    }

    pub fn warn(&self, warning: String) {
        let mut warnings = self.warnings.borrow_mut();
        // A thousand broken objects need no thousand lines.
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
        let mut slots = self.slots.borrow_mut();
        let number = u32::try_from(slots.len()).expect("a folder with four thousand million packs cannot be listed");
        let slot = Rc::new(Slot { id: PackId(number), path, state: RefCell::new(State::Closed) });
        slots.push(Rc::clone(&slot));
        slot
    }
}

/// A pack by name, opened as far as it was needed.
pub(super) struct Slot {
    pub id: PackId,
    path: PathBuf,
    state: RefCell<State>,
}

enum State {
    Closed,
    Indexed(Box<Index>),
    Open(Rc<Pack>),
    /// It has vanished; a listing that names it again makes it closed.
    Gone,
    Broken,
}

impl Slot {
    /// The position of an object in this pack. Whoever gets one can rely on the pack being open.
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

    /// The pack, opened; `None` when it is not usable.
    pub fn open(&self, register: &Register) -> Option<Rc<Pack>> {
        self.open_index(register);
        let mut state = self.state.borrow_mut();
        if let State::Indexed(_) = &*state
            && let State::Indexed(index) = std::mem::replace(&mut *state, State::Broken)
        {
            *state = match Pack::open(self.id, self.path.clone(), register.hash, *index) {
                Ok(pack) => State::Open(Rc::new(pack)),
                Err(error) => self.unusable(&error, register),
            };
        }
        match &*state {
            State::Open(pack) => Some(Rc::clone(pack)),
            State::Closed | State::Indexed(_) | State::Gone | State::Broken => None,
        }
    }

    fn open_index(&self, register: &Register) {
        let mut state = self.state.borrow_mut();
        if let State::Closed = &*state {
            *state = match Index::open(&self.path.with_extension("idx"), register.hash) {
                Ok(index) => State::Indexed(Box::new(index)),
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

    fn back(&self) -> bool {
        let mut state = self.state.borrow_mut();
        let gone = matches!(&*state, State::Gone);
        if gone {
            *state = State::Closed;
        }
        gone
    }
}

/// Whether an error says that a file is no longer there.
pub(super) fn is_gone(error: &anyhow::Error) -> bool {
    let stale = rustix::io::Errno::STALE.raw_os_error();
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(stale))
}

/// What tells two states of a file or folder apart.
type Identity = (u64, u64, u64, i64, i64);

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

struct Midx {
    file: gix_pack::multi_index::File,
    identity: Identity,
    slots: Vec<Option<Rc<Slot>>>,
}

#[derive(Default)]
struct Packs {
    midx: Option<Midx>,
    midx_tried: bool,
    listed: Option<Identity>,
    listings: u32,
    /// Those that no multi-pack-index covers: newest first, then what was asked last with success in front.
    loose_ends: Vec<Rc<Slot>>,
    covered: Vec<Rc<Slot>>,
    names: HashMap<OsString, Rc<Slot>>,
}

/// An object directory.
pub(super) struct Directory {
    pub path: PathBuf,
    packs: RefCell<Packs>,
}

impl Directory {
    /// Opens nothing.
    pub fn new(path: PathBuf) -> Self {
        Directory { path, packs: RefCell::default() }
    }

    /// The pack that has an object; `accept` may turn down copies, and then others are looked for.
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
        packs.open_midx(&self.folder(), register);
        let mut turned_down = false;
        if let Some(slot) = packs.in_midx(id, &self.folder(), register) {
            match slot.position(id, register).filter(|position| accept(&slot, *position)) {
                Some(position) => return Ok(Some((slot.id, position))),
                None => turned_down = true,
            }
        }
        packs.list_once(&self.folder(), register)?;
        for at in 0..packs.loose_ends.len() {
            let slot = &packs.loose_ends[at];
            if let Some(position) = slot.position(id, register).filter(|position| accept(slot, *position)) {
                let found = slot.id;
                packs.loose_ends[..=at].rotate_right(1);
                return Ok(Some((found, position)));
            }
        }
        if turned_down {
            // The multi-pack-index knows one copy of each object, the indexes all of them.
            for slot in &packs.covered {
                if let Some(position) = slot.position(id, register).filter(|position| accept(slot, *position)) {
                    return Ok(Some((slot.id, position)));
                }
            }
        }
        Ok(None)
    }

    /// Looks at the folder again, unless it was looked at twice and has not changed since. True when there may be
    /// something new.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn refresh(&self, register: &Register) -> io::Result<bool> {
        let mut packs = self.packs.borrow_mut();
        if packs.listings > 1 && packs.listed == folder_identity(&self.folder())? {
            return Ok(false);
        }
        packs.list(&self.folder(), register)
    }

    /// All packs of the folder as it is now.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn all(&self, register: &Register) -> io::Result<Vec<Rc<Slot>>> {
        let mut packs = self.packs.borrow_mut();
        if packs.listings == 0 || packs.listed != folder_identity(&self.folder())? {
            packs.list(&self.folder(), register)?;
        }
        Ok(packs.loose_ends.iter().chain(&packs.covered).cloned().collect())
    }

    fn folder(&self) -> PathBuf {
        self.path.join("pack")
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
    /// Opens the multi-pack-index, once; again when another one has taken its place. True when it did.
    fn open_midx(&mut self, folder: &Path, register: &Register) {
        if !self.midx_tried {
            self.midx_tried = true;
            self.renew_midx(folder, register);
        }
    }

    fn renew_midx(&mut self, folder: &Path, register: &Register) -> bool {
        let path = folder.join("multi-pack-index");
        let now = path.metadata().ok().map(|metadata| identity(&metadata));
        if self.midx.as_ref().map(|midx| midx.identity) == now {
            return false;
        }
        self.midx = None;
        let Some(identity) = now else { return true };
        match gix_pack::multi_index::File::at(&path, None) {
            Ok(file) if file.object_hash() == register.hash => {
                let slots = vec![None; file.index_names().len()];
                self.midx = Some(Midx { file, identity, slots });
            }
            Ok(_) => register.warn(format!("{}: made for another object format", path.display())),
            Err(_) if !path.exists() => {}
            Err(error) => register.warn(format!("{}: {error}", path.display())),
        }
        true
    }

    /// The pack that the multi-pack-index names for an object.
    fn in_midx(&mut self, id: &oid, folder: &Path, register: &Register) -> Option<Rc<Slot>> {
        let midx = self.midx.as_mut()?;
        let entry = midx.file.lookup(id)?;
        let pack = match midx.file.pack_id_and_pack_offset_at_index(entry) {
            Ok((pack, _offset)) => pack as usize,
            Err(error) => {
                register.warn(format!("{}: {error}", midx.file.path().display()));
                return None;
            }
        };
        if midx.slots.get(pack)?.is_none() {
            // A name with folders in it is not one of a pack here.
            let name = midx.file.index_names()[pack].file_stem()?;
            let slot = slot_of(&mut self.names, name, folder, register);
            midx.slots[pack] = Some(slot);
        }
        midx.slots[pack].clone()
    }

    fn list_once(&mut self, folder: &Path, register: &Register) -> io::Result<()> {
        if self.listings == 0 {
            self.list(folder, register)?;
        }
        Ok(())
    }

    /// Lists the folder. True when there is something new.
    fn list(&mut self, folder: &Path, register: &Register) -> io::Result<bool> {
        self.midx_tried = true;
        // Before the listing: what appears meanwhile makes it differ the next time.
        self.listed = folder_identity(folder)?;
        self.listings += 1;
        let mut something_new = self.renew_midx(folder, register);
        let mut indexed: Vec<OsString> = Vec::new();
        let mut packed: HashMap<OsString, fs::DirEntry> = HashMap::new();
        let entries = match fs::read_dir(folder) {
            Ok(entries) => Some(entries),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        for entry in entries.into_iter().flatten() {
            let entry = entry?;
            let name = entry.file_name();
            let path = Path::new(&name);
            let Some(stem) = path.file_stem().map(OsStr::to_owned) else { continue };
            match path.extension().and_then(OsStr::to_str) {
                Some("idx") => indexed.push(stem),
                Some("pack") => {
                    packed.insert(stem, entry);
                }
                _ => {}
            }
        }
        let covered: Vec<OsString> = match &self.midx {
            Some(midx) => {
                let mut names: Vec<_> =
                    midx.file.index_names().iter().filter_map(|name| name.file_stem().map(OsStr::to_owned)).collect();
                names.sort_unstable();
                names
            }
            None => Vec::new(),
        };
        let before: Vec<Rc<Slot>> = std::mem::take(&mut self.loose_ends);
        self.covered.clear();
        let mut found = Vec::new();
        for stem in indexed {
            let Some(entry) = packed.get(&stem) else { continue };
            let known = self.names.contains_key(&stem);
            let slot = slot_of(&mut self.names, &stem, folder, register);
            something_new |= !known | slot.back();
            if covered.binary_search(&stem).is_ok() {
                self.covered.push(slot);
            } else if !before.iter().any(|old| Rc::ptr_eq(old, &slot)) {
                let time =
                    entry.metadata().map(|metadata| (metadata.mtime(), metadata.mtime_nsec())).unwrap_or_default();
                found.push((std::cmp::Reverse(time), stem, slot));
            }
        }
        found.sort_unstable_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
        self.loose_ends.extend(found.into_iter().map(|(_, _, slot)| slot));
        // What was known before stays: a pack that is open can be read even when its name is gone.
        self.loose_ends.extend(before);
        Ok(something_new)
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

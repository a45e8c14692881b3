//! Receiving a pack: read once as a stream, checked, resolved, stored with its index.
//!
//! In: a body, a quarantine. Out: a kept pack with `.idx`, `.rev` and `.keep`, or loose objects. Nothing becomes
//! visible to other requests or is written outside the quarantine. Small packs start no threads.

mod content;
mod entries;
mod examine;
mod family;
mod oversized;
mod resolve;
mod scan;
pub(super) mod store;
mod thin;
mod walk;
mod write;

use crate::durable::{Sharing, Sync};
use crate::odb::{Objects, usage};
use crate::pack::unpack::Unpacker;
use crate::repo::fsck::Rules;
use crate::stream::{Body, Pulse};
use examine::{ExamineSettings, Examiner};
use family::Family;
use gix_hash::ObjectId;
use resolve::Pack;
use scan::{Input, Scanned};
use std::io;
use std::path::Path;

/// The title of the stage after the whole pack has arrived, in git's words.
pub const RESOLVING: &str = "Resolving deltas";

/// How a pack is received.
pub struct ReceiveOptions<'a> {
    /// The hash of object names and the trailer.
    pub hash: gix_hash::Kind,
    /// The quarantine's object directory; a kept pack goes to its `pack/`.
    pub directory: &'a Path,
    /// Where bases of thin packs and existing objects are found: the quarantine in front of the repository.
    pub objects: &'a Objects,
    /// Packs with fewer objects than this become loose objects (receive.unpackLimit); 0 for none.
    pub unpack_limit: u64,
    /// The most bytes the pack may have as it arrives (receive.maxInputSize).
    pub max_input_size: Option<u64>,
    /// The most bytes one object may have (artifacts.maxObjectSize).
    pub object_size_max: Option<u64>,
    /// How much room is left in the repository (artifacts.maxRepositorySize).
    pub room: Option<Room>,
    /// The rules by which every object is checked, if any; violations are refused with `fsck error in packed object`.
    pub fsck: Option<Rules>,
    /// The bytes that may be held in memory, by all threads together.
    pub memory: u64,
    /// How many threads resolve the deltas of a large pack (pack.threads); 0 for one per processor, eight at most.
    pub threads: usize,
    /// Whether to write a `.rev`.
    pub reverse_index: bool,
    /// The zlib level of loose objects, and of bases appended to thin packs.
    pub compression: u32,
    /// Which files are forced to the disk.
    pub sync: Syncs,
    /// The modes of new files.
    pub sharing: Sharing,
    /// Whether a pack that is kept must contain the bases of all its deltas.
    pub reject_thin: bool,
    /// Whether a pack that is kept may contain an object twice; for callers that make the pack themselves and deal with
    /// it.
    pub twice: bool,
    /// The content of the `.keep` file, which protects the pack until refs point to it (UN-13).
    pub keep_message: String,
}

/// How full a repository is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// The most bytes its objects may occupy.
    pub max: u64,
    /// The bytes they occupy before the push.
    pub used: u64,
}

impl Room {
    fn left(self) -> u64 {
        self.max.saturating_sub(self.used)
    }
}

/// Which of the received files are forced to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Syncs {
    /// Loose objects.
    pub loose: Sync,
    /// Packs.
    pub pack: Sync,
    /// The files that accompany a pack.
    pub pack_metadata: Sync,
}

impl Syncs {
    /// The same for all files.
    pub fn all(sync: Sync) -> Self {
        Syncs { loose: sync, pack: sync, pack_metadata: sync }
    }
}

impl ReceiveOptions<'_> {
    /// Content above this size is processed in chunks or kept in files.
    fn content_max(&self) -> u64 {
        content_max(self.memory)
    }
}

/// The most content of one object that is held in memory: several are, with their deltas and the threads that resolve them.
fn content_max(memory: u64) -> u64 {
    memory / 8
}

/// A pack that was received completely.
#[derive(Debug, Default)]
pub struct IncomingPack {
    /// The number of objects in the stream.
    pub objects: u32,
    /// The name of the pack if it was kept, with its `.keep` file; `None` if loose objects were written.
    pub kept: Option<ObjectId>,
    /// The size of the stream in bytes.
    pub bytes: u64,
    /// Complete lines for the user on band 2, such as `warning: object …`.
    pub notes: Vec<String>,
}

/// Why a pack was refused.
#[derive(Debug)]
pub struct UnpackError {
    /// The text after `unpack ` in the report, in git's words: `eof before pack header was fully read`, `protocol error
    /// (pack signature mismatch detected)`, `index-pack abnormal exit`, `unpack-objects abnormal exit` (UN-03, UN-04).
    pub status: String,
    /// The message for the user on band 2 (UN-05), without the prefix `fatal: `: `pack exceeds maximum allowed size
    /// (512 bytes)`. Empty where git sends none.
    pub detail: String,
    /// Complete lines for the user on band 2, before the detail: `error: object …: treeNotSorted: not properly sorted`.
    pub notes: Vec<String>,
    /// The reason for the operator, if the fault is not the client's: a full disk, say.
    pub fault: Option<String>,
}

impl UnpackError {
    fn of_header(status: &str) -> Self {
        UnpackError { status: status.to_owned(), detail: String::new(), notes: Vec::new(), fault: None }
    }
}

/// The size up to which packs that become loose objects are held in memory.
const LOOSE_PACK_MEMORY: u64 = 1 << 20;

impl IncomingPack {
    /// Reads one pack, which must fill `body` to its end: bytes after the trailer are an error. On error only files in
    /// the quarantine are left, which its owner removes.
    ///
    /// # Errors
    /// See [`UnpackError`]. Bad packs, exceeded limits, failed writes; if the client has gone, only the text of the I/O
    /// error says so.
    pub fn receive(
        body: &mut dyn Body,
        options: &ReceiveOptions<'_>,
        pulse: &mut dyn Pulse,
    ) -> Result<Self, UnpackError> {
        let mut input = Input::new(body, options);
        let count = input.header()?;
        let loose = u64::from(count) < options.unpack_limit;
        if loose {
            input.hold_in_memory(LOOSE_PACK_MEMORY.min(options.memory / 4));
        }
        let mut examiner = Examiner::new(ExamineSettings::of(options), options.objects);
        if loose {
            examiner.unpack_with(Unpacker::new(options));
        }
        match receive_objects(input, count, loose, options, &mut examiner, pulse) {
            Ok(pack) => Ok(IncomingPack { notes: examiner.into_notes(), ..pack }),
            Err(fault) => Err(UnpackError {
                status: format!("{} abnormal exit", if loose { "unpack-objects" } else { "index-pack" }),
                fault: fault.ours().map(|text| format!("cannot take the pack: {text}")),
                detail: fault.text(loose),
                notes: examiner.into_notes(),
            }),
        }
    }
}

fn receive_objects(
    input: Input<'_>,
    count: u32,
    loose: bool,
    options: &ReceiveOptions<'_>,
    examiner: &mut Examiner<'_>,
    pulse: &mut dyn Pulse,
) -> Result<IncomingPack, Fault> {
    let Scanned { mut store, mut layout, mut names, deltas, mut trailer, bytes } =
        scan::scan(input, count, options, examiner, pulse)?;
    if deltas.count > 0 {
        let total = deltas.count;
        let threads = resolve::Threads::for_pack(&layout, &deltas, options, loose);
        let family = Family::new(layout.len(), deltas);
        pulse.begin(RESOLVING, Some(u64::from(total)))?;
        let pack =
            Pack { store: &store, layout: &layout, family: &family, budget: &threads.budget, hash: options.hash };
        let mut resolved = resolve::resolve(pack, &mut names, threads.count, options, examiner, pulse)?;
        if resolved < total {
            let completion = thin::Completion {
                store: &mut store,
                layout: &mut layout,
                names: &mut names,
                family: &family,
                budget: &threads.budget,
                options,
            };
            resolved = completion.run(loose, resolved, examiner, pulse)?;
        }
        pulse.end()?;
        if resolved < total {
            return Err(Fault::Unresolved(total - resolved));
        }
    }
    if loose {
        drop(store);
        examiner.finish(&names, options)?;
        room_for(count, options)?;
        return Ok(IncomingPack { objects: count, kept: None, bytes, notes: Vec::new() });
    }
    if layout.len() > count {
        let received_end = layout.end(count.saturating_sub(1));
        trailer = thin::new_trailer(&mut store, layout.len(), &trailer, received_end, options.hash)?;
    }
    store.write(trailer.as_slice())?;
    write::keep(store, &layout, &names, &trailer, options)?;
    examiner.finish(&names, options)?;
    room_for(count, options)?;
    Ok(IncomingPack { objects: count, kept: Some(trailer), bytes, notes: Vec::new() })
}

/// Checks that what came of `count` objects fits into the repository.
fn room_for(count: u32, options: &ReceiveOptions<'_>) -> Result<(), Fault> {
    match options.room {
        Some(room) if count > 0 && usage::disk_usage(options.directory)? > room.left() => Err(Fault::Full(room)),
        _ => Ok(()),
    }
}

/// What ends receiving a pack. git words some of these differently in unpack-objects and in index-pack.
#[derive(Debug)]
enum Fault {
    /// The text after `fatal: `.
    Said(String),
    /// The same, for a fault that is not the client's.
    Ours(String),
    /// A failed system call, or a body that broke off.
    Failed(io::Error),
    /// More bytes than receive.maxInputSize allows.
    TooLarge(u64),
    /// More bytes than artifacts.maxRepositorySize leaves room for.
    Full(Room),
    /// The trailer is not the hash of the bytes before it.
    WrongTrailer,
    /// This many deltas have no base.
    Unresolved(u32),
}

impl Fault {
    fn new(text: impl Into<String>) -> Self {
        Fault::Said(text.into())
    }

    /// The text of a fault that is not the client's. An I/O error counts only if a system call failed; other ones are
    /// about the body.
    fn ours(&self) -> Option<String> {
        match self {
            Fault::Ours(text) => Some(text.clone()),
            Fault::Failed(error) => Some(error.to_string()).filter(|_| error.raw_os_error().is_some()),
            _ => None,
        }
    }

    fn text(self, loose: bool) -> String {
        match self {
            Fault::Said(text) | Fault::Ours(text) => text,
            Fault::Failed(error) => error.to_string(),
            Fault::TooLarge(_) if loose => "pack exceeds maximum allowed size".to_owned(),
            Fault::TooLarge(limit) => format!("pack exceeds maximum allowed size ({})", humanised(limit)),
            Fault::Full(Room { max, used }) => format!(
                "the repository may take {}, has {}, and the pack does not fit (artifacts.maxRepositorySize)",
                humanised(max),
                humanised(used)
            ),
            Fault::WrongTrailer if loose => "final sha1 did not match".to_owned(),
            Fault::WrongTrailer => "pack is corrupted (SHA1 mismatch)".to_owned(),
            Fault::Unresolved(_) if loose => "unresolved deltas left after unpacking".to_owned(),
            Fault::Unresolved(1) => "pack has 1 unresolved delta".to_owned(),
            Fault::Unresolved(count) => format!("pack has {count} unresolved deltas"),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Failed(error)
    }
}

fn bad_object(offset: u64, what: impl std::fmt::Display) -> Fault {
    Fault::Said(format!("pack has bad object at offset {offset}: {what}"))
}

/// Formats a size for humans, as git does.
fn humanised(bytes: u64) -> String {
    let hundredths = |unit: u64| u128::from(bytes) * 100 / u128::from(unit);
    let (value, unit) = if bytes > 1 << 30 {
        (hundredths(1 << 30), "GiB")
    } else if bytes > 1 << 20 {
        // git rounds by adding half a hundredth.
        ((u128::from(bytes + 5243) * 100) >> 20, "MiB")
    } else if bytes > 1 << 10 {
        ((u128::from(bytes + 5) * 100) >> 10, "KiB")
    } else {
        return format!("{bytes} {}", if bytes == 1 { "byte" } else { "bytes" });
    };
    format!("{}.{:02} {unit}", value / 100, value % 100)
}

/// Computes an object's name. Content that bears the marks of a known SHA-1 collision attack is refused.
fn name_of(hash: gix_hash::Kind, kind: gix_object::Kind, content: &[u8]) -> Result<ObjectId, Fault> {
    let mut hasher = gix_hash::hasher(hash);
    hasher.update(&gix_object::encode::loose_header(kind, content.len() as u64));
    hasher.update(content);
    hasher.try_finalize().map_err(|error| collision_attack(&error))
}

fn collision_attack(error: &dyn std::fmt::Display) -> Fault {
    Fault::Said(format!("SHA-1 appears to be part of a collision attack: {error}"))
}

#[cfg(test)]
mod tests;

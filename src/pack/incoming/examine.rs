//! Examining each object once its content is known: it is checked, then compared with an existing one or written loose.
//!
//! In: objects in any order. Out: faults, and notes for the user. Each thread has its own examiner; nothing here
//! resolves deltas.

use super::entries::Names;
use super::oversized::Oversized;
use super::{Fault, ReceiveOptions, collision_attack, content_max};
use crate::odb::Objects;
use crate::pack::unpack::Unpacker;
use crate::repo::fsck::{Checker, Files, Finding, Rules};
use gix_hash::{ObjectId, oid};
use gix_object::Kind;

/// The most notes; further ones are dropped unless they are errors.
const NOTES_MAX: usize = 200;

/// The settings for examining, the same for all threads.
#[derive(Clone, Copy)]
pub(super) struct ExamineSettings<'a> {
    hash: gix_hash::Kind,
    fsck: Option<&'a Rules>,
    object_size_max: Option<u64>,
    /// The bytes that all threads together may hold.
    memory: u64,
}

impl<'a> ExamineSettings<'a> {
    /// Takes the settings from the options.
    pub fn of(options: &'a ReceiveOptions<'_>) -> Self {
        let ReceiveOptions { hash, object_size_max, memory, .. } = *options;
        ExamineSettings { hash, fsck: options.fsck.as_ref(), object_size_max, memory }
    }
}

/// The examiner of one thread.
pub(super) struct Examiner<'a> {
    hash: gix_hash::Kind,
    objects: &'a Objects,
    checker: Option<Checker<'a>>,
    unpacker: Option<Unpacker<'a>>,
    existing: Vec<u8>,
    /// The tree of deltas being resolved, where threads share the trees.
    tree: usize,
    /// Notes, each with its tree of deltas.
    notes: Vec<(usize, String)>,
    oversized: Oversized,
    content_max: u64,
}

impl<'a> Examiner<'a> {
    /// `objects` is the repository, opened by this thread.
    pub fn new(settings: ExamineSettings<'a>, objects: &'a Objects) -> Self {
        Examiner {
            hash: settings.hash,
            objects,
            checker: settings.fsck.map(|rules| Checker::new(settings.hash, rules)),
            unpacker: None,
            existing: Vec::new(),
            tree: 0,
            notes: Vec::new(),
            oversized: Oversized::new(settings.object_size_max),
            content_max: content_max(settings.memory),
        }
    }

    /// Attributes what is found from here on to a tree of deltas.
    pub fn begin_tree(&mut self, tree: usize) {
        self.tree = tree;
    }

    /// Makes the examiner write objects loose.
    pub fn unpack_with(&mut self, unpacker: Unpacker<'a>) {
        self.unpacker = Some(unpacker);
    }

    /// The size above which whole objects are not held in memory.
    pub fn content_max(&self) -> u64 {
        self.content_max
    }

    /// Examines an object in memory.
    pub fn object(&mut self, id: &oid, kind: Kind, content: &[u8]) -> Result<(), Fault> {
        self.look_at_size(id, content.len() as u64)?;
        if let Some(checker) = &mut self.checker {
            let passed = checker.check(id, kind, content);
            self.take_findings();
            if !passed {
                return Err(Fault::new("fsck error in packed object"));
            }
        }
        match &mut self.unpacker {
            Some(unpacker) => unpacker.write(id, kind, content).map_err(|error| write_fault(&error)),
            None => self.compare(id, kind, Some(content), content.len() as u64),
        }
    }

    /// Records an object that is too large, unless it exists already: then the repository does not grow.
    fn look_at_size(&mut self, id: &oid, size: u64) -> Result<(), Fault> {
        if self.oversized.is_too_large(size) && !self.objects.contains(id).map_err(|error| unreadable(id, &error))? {
            self.oversized.add(self.tree, id, size);
        }
        Ok(())
    }

    /// Compares an object that exists already, which must be the same (UN-10). For an object too large for memory only
    /// kind and size are compared: its name was computed with collision detection, like all names.
    fn compare(&mut self, id: &oid, kind: Kind, content: Option<&[u8]>, size: u64) -> Result<(), Fault> {
        let Some(header) = self.objects.header_as_listed(id).map_err(|error| unreadable(id, &error))? else {
            return Ok(());
        };
        let mut same = header.kind == kind && header.size == size;
        if let Some(content) = content.filter(|_| same && size <= self.content_max) {
            // An object that has vanished since does no harm.
            same = match self.objects.find(id, &mut self.existing).map_err(|error| unreadable(id, &error))? {
                Some(kind_there) => kind_there == kind && self.existing == content,
                None => true,
            };
        }
        if same { Ok(()) } else { Err(Fault::new(format!("SHA1 COLLISION FOUND WITH {id} !"))) }
    }

    /// Begins an object that comes in chunks.
    pub fn begin_large(&mut self, kind: Kind, size: u64) -> Result<Large, Fault> {
        if self.checker.is_some() && kind != Kind::Blob {
            let most = self.content_max;
            let what = format!("{kind} of {size} bytes is too large to be checked");
            return Err(Fault::new(format!("{what}: at most {most} are, an eighth of ARTIFACTS_MEMORY")));
        }
        if let Some(unpacker) = &mut self.unpacker {
            unpacker.begin(kind, size).map_err(|error| write_fault(&error))?;
        }
        let mut hasher = gix_hash::hasher(self.hash);
        hasher.update(&gix_object::encode::loose_header(kind, size));
        Ok(Large { kind, size, hasher })
    }

    fn take_findings(&mut self) {
        let Some(checker) = &mut self.checker else { return };
        for finding in checker.take_findings() {
            if self.notes.len() < NOTES_MAX || finding.is_error() {
                self.notes.push((self.tree, Finding::to_line(&finding)));
            }
        }
    }

    /// Takes over the findings of the threads' examiners, in the order in which one thread would have made them; those
    /// of trees after `last` are dropped.
    pub fn absorb(&mut self, others: Vec<Findings>, last: usize) {
        let (mut notes, mut oversized) = (Vec::new(), Vec::new());
        for other in others {
            if let (Some(mine), Some(theirs)) = (&mut self.checker, other.files) {
                mine.add_files(theirs);
            }
            notes.extend(other.notes.into_iter().filter(|(tree, _)| *tree <= last));
            oversized.push(other.oversized);
        }
        self.oversized.absorb(oversized);
        notes.sort_by_key(|(tree, _)| *tree);
        for (_, note) in notes {
            if self.notes.len() < NOTES_MAX || note.starts_with("error: ") {
                self.notes.push((0, note));
            }
        }
    }

    /// Returns what this thread's examiner has found.
    pub fn into_findings(self) -> Findings {
        Findings { notes: self.notes, oversized: self.oversized, files: self.checker.map(Checker::into_files) }
    }

    /// Completes the examination once all objects are stored: performs the checks that need other objects, and forces
    /// loose objects to the disk.
    pub fn finish(&mut self, names: &Names, options: &ReceiveOptions<'_>) -> Result<(), Fault> {
        if self.oversized.any() {
            let mut objects = stored(options)?;
            objects.set_object_limit(self.content_max);
            if let Some((lines, fault)) = self.oversized.fault(names, &objects, options.memory / 8) {
                self.notes.extend(lines.into_iter().map(|line| (0, line)));
                return Err(fault);
            }
        }
        if let Some(checker) = &mut self.checker
            && checker.has_files()
        {
            let objects = stored(options)?;
            let passed = checker.check_files(&objects, self.content_max).map_err(|e| Fault::new(format!("{e:#}")))?;
            self.take_findings();
            if !passed {
                return Err(Fault::new("fsck error in pack objects"));
            }
        }
        match &mut self.unpacker {
            Some(unpacker) => unpacker.finish().map_err(|error| write_fault(&error)),
            None => Ok(()),
        }
    }

    /// The lines for the user.
    pub fn into_notes(self) -> Vec<String> {
        self.notes.into_iter().map(|(_, note)| note).collect()
    }
}

/// Opens all objects, including the new pack in the quarantine, since an open database does not notice new packs.
fn stored(options: &ReceiveOptions<'_>) -> Result<Objects, Fault> {
    let mut directories = vec![options.directory.to_owned()];
    for directory in options.objects.directories().map_err(|error| Fault::Ours(format!("{error:#}")))? {
        if !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    Ok(Objects::new(options.hash, directories))
}

fn unreadable(id: &oid, error: &anyhow::Error) -> Fault {
    Fault::Ours(format!("cannot read existing object {id}: {error:#}"))
}

fn write_fault(error: &std::io::Error) -> Fault {
    Fault::Ours(format!("failed to write object: {error}"))
}

/// What a thread's examiner has found.
pub(super) struct Findings {
    notes: Vec<(usize, String)>,
    oversized: Oversized,
    files: Option<Files>,
}

/// An object whose content passes in chunks.
pub(super) struct Large {
    kind: Kind,
    size: u64,
    hasher: gix_hash::Hasher,
}

impl Large {
    pub fn chunk(&mut self, bytes: &[u8], examiner: &mut Examiner<'_>) -> Result<(), Fault> {
        self.hasher.update(bytes);
        match &mut examiner.unpacker {
            Some(unpacker) => unpacker.chunk(bytes).map_err(|error| write_fault(&error)),
            None => Ok(()),
        }
    }

    pub fn end(self, examiner: &mut Examiner<'_>) -> Result<ObjectId, Fault> {
        let id = self.hasher.try_finalize().map_err(|error| collision_attack(&error))?;
        examiner.look_at_size(&id, self.size)?;
        match &mut examiner.unpacker {
            Some(unpacker) => unpacker.end(&id).map_err(|error| write_fault(&error))?,
            None => examiner.compare(&id, self.kind, None, self.size)?,
        }
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The beginning of one of the two files with the same SHA-1 (Stevens et al. 2017, "The first collision for full
    /// SHA-1").
    #[rustfmt::skip]
    const COLLISION: &[&str] = &[
        "255044462d312e330a25e2e3cfd30a0a0a312030206f626a0a3c3c2f57696474682032203020522f4865696768742033",
        "203020522f547970652034203020522f537562747970652035203020522f46696c7465722036203020522f436f6c6f72",
        "53706163652037203020522f4c656e6774682038203020522f42697473506572436f6d706f6e656e7420383e3e0a7374",
        "7265616d0affd8fffe00245348412d3120697320646561642121212121852fec092339759c39b1a1c63c4c97e1fffe01",
        "7346dc9166b67e118f029ab621b2560ff9ca67cca8c7f85ba84c79030c2b3de218f86db3a90901d5df45c14f26fedfb3",
        "dc38e96ac22fe7bd728f0e45bce046d23c570feb141398bb552ef5a0a82be331fea48037b8b5d71f0e332edf93ac3500",
        "eb4ddc0decc1a864790c782c76215660dd309791d06bd0af3f98cda4bc4629b1",
    ];

    #[test]
    fn a_published_collision_is_refused_and_the_refusal_says_why() {
        let bytes: Vec<u8> = COLLISION
            .concat()
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        let objects = Objects::new(gix_hash::Kind::Sha1, Vec::new());
        let settings =
            ExamineSettings { hash: gix_hash::Kind::Sha1, fsck: None, object_size_max: None, memory: 1 << 20 };
        let name = |content: &[u8], piece: usize| {
            let mut examiner = Examiner::new(settings, &objects);
            // The collision is in these blocks only; with a header before them there is none.
            let hasher = gix_hash::hasher(gix_hash::Kind::Sha1);
            let mut large = Large { kind: Kind::Blob, size: content.len() as u64, hasher };
            content.chunks(piece).for_each(|piece| large.chunk(piece, &mut examiner).unwrap());
            large.end(&mut examiner).map_err(|fault| fault.text(false))
        };
        for piece in [1, 63, 320] {
            let text = name(&bytes, piece).unwrap_err();
            assert!(text.starts_with("SHA-1 appears to be part of a collision attack: "), "{text}");
            assert!(text.ends_with("f92d74e3874587aaf443d1db961d4e26dde13e9c"), "the name both files have: {text}");
            assert!(name(&bytes[..319], piece).is_ok() && name(&bytes[..256], piece).is_ok(), "both blocks are needed");
        }
        // As a blob, with its header, the content is harmless.
        assert!(super::super::name_of(gix_hash::Kind::Sha1, Kind::Blob, &bytes).is_ok());
    }
}

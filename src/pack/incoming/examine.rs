//! What happens to each object once its content is known: checked, compared with what exists, or written loose.
//!
//! In: objects in any order. Out: faults, notes for the user. Each thread has an examiner of its own.

use super::{Fault, ReceiveOptions, collision_attack, content_max};
use crate::odb::Objects;
use crate::pack::unpack::Unpacker;
use crate::repo::fsck::{Checker, Files, Finding, Rules};
use gix_hash::{ObjectId, oid};
use gix_object::Kind;

/// Notes beyond this many are left out.
const NOTES_MAX: usize = 200;

/// The examiner of one thread.
pub(super) struct Examiner<'a> {
    hash: gix_hash::Kind,
    objects: &'a Objects,
    checker: Option<Checker<'a>>,
    unpacker: Option<Unpacker<'a>>,
    existing: Vec<u8>,
    notes: Vec<String>,
    content_max: u64,
}

impl<'a> Examiner<'a> {
    /// `objects` is the repository, opened by this thread; `memory` is what all threads may hold.
    pub fn new(hash: gix_hash::Kind, objects: &'a Objects, rules: Option<&'a Rules>, memory: u64) -> Self {
        Examiner {
            hash,
            objects,
            checker: rules.map(|rules| Checker::new(hash, rules)),
            unpacker: None,
            existing: Vec::new(),
            notes: Vec::new(),
            content_max: content_max(memory),
        }
    }

    /// Objects are written loose from now on.
    pub fn unpack_with(&mut self, unpacker: Unpacker<'a>) {
        self.unpacker = Some(unpacker);
    }

    /// Whole objects above this size are not held in memory.
    pub fn content_max(&self) -> u64 {
        self.content_max
    }

    /// An object in memory.
    pub fn object(&mut self, id: &oid, kind: Kind, content: &[u8]) -> Result<(), Fault> {
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

    /// An object that exists already must be the same (UN-10). What is too large for memory is compared by kind and size alone:
    /// its name has been computed with collision detection like every other.
    fn compare(&mut self, id: &oid, kind: Kind, content: Option<&[u8]>, size: u64) -> Result<(), Fault> {
        let unreadable = |error: anyhow::Error| Fault::new(format!("cannot read existing object {id}: {error:#}"));
        let Some(header) = self.objects.header(id).map_err(unreadable)? else { return Ok(()) };
        let mut same = header.kind == kind && header.size == size;
        if let Some(content) = content.filter(|_| same && size <= self.content_max) {
            // One that has vanished since is no obstacle.
            same = match self.objects.find(id, &mut self.existing).map_err(unreadable)? {
                Some(kind_there) => kind_there == kind && self.existing == content,
                None => true,
            };
        }
        if same { Ok(()) } else { Err(Fault::new(format!("SHA1 COLLISION FOUND WITH {id} !"))) }
    }

    /// An object that comes in chunks.
    pub fn begin_large(&mut self, kind: Kind, size: u64) -> Result<Large, Fault> {
        if self.checker.is_some() && kind != Kind::Blob {
            return Err(Fault::new(format!("{kind} of {size} bytes is too large to be checked")));
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
                self.notes.push(Finding::to_line(&finding));
            }
        }
    }

    /// Takes over what another thread's examiner has found.
    pub fn absorb(&mut self, other: Findings) {
        if let (Some(mine), Some(theirs)) = (&mut self.checker, other.files) {
            mine.add_files(theirs);
        }
        let room = NOTES_MAX.saturating_sub(self.notes.len());
        self.notes.extend(other.notes.into_iter().enumerate().filter_map(|(at, note)| {
            let error = note.starts_with("error: ");
            (at < room || error).then_some(note)
        }));
    }

    /// What the examiner of this thread has found, for the one that goes on.
    pub fn into_findings(self) -> Findings {
        Findings { notes: self.notes, files: self.checker.map(Checker::into_files) }
    }

    /// All objects are stored: what could not be checked alone is, and loose objects are forced to disk.
    pub fn finish(&mut self, options: &ReceiveOptions<'_>) -> Result<(), Fault> {
        if let Some(checker) = &mut self.checker
            && checker.has_files()
        {
            // The pack is new in the quarantine, and an open database need not look for new packs.
            let mut directories = vec![options.directory.to_owned()];
            for directory in options.objects.directories().map_err(|error| Fault::new(format!("{error:#}")))? {
                if !directories.contains(&directory) {
                    directories.push(directory);
                }
            }
            let objects = Objects::new(options.hash, directories);
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

    /// Lines for the user.
    pub fn into_notes(self) -> Vec<String> {
        self.notes
    }
}

fn write_fault(error: &std::io::Error) -> Fault {
    Fault::new(format!("failed to write object: {error}"))
}

/// What one thread's examiner leaves to the next.
pub(super) struct Findings {
    notes: Vec<String>,
    files: Option<Files>,
}

/// An object whose content passes by in chunks.
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
        match &mut examiner.unpacker {
            Some(unpacker) => unpacker.end(&id).map_err(|error| write_fault(&error))?,
            None => examiner.compare(&id, self.kind, None, self.size)?,
        }
        Ok(id)
    }
}

//! Loose objects, written.
//!
//! In: objects, whole or in chunks. Out: files `objects/xx/…` in a quarantine, forced to disk together at the end.
//! An object that the repository has is not written again; it is made young, so that gc does not take it away meanwhile.

use super::incoming::ReceiveOptions;
use super::incoming::store::Temporary;
use crate::durable::{self, Sync};
use crate::odb::{Location, Objects, PackId};
use flate2::{Compress, Compression, FlushCompress, Status};
use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Deflated bytes collected before they are written.
const BUFFER_LEN: usize = 64 << 10;

/// Writes loose objects, one after the other.
pub struct Unpacker<'a> {
    options: &'a ReceiveOptions<'a>,
    deflate: Compress,
    buffer: Vec<u8>,
    /// The object that is being written in chunks.
    open: Option<Temporary>,
    fan_out: BTreeSet<u8>,
    written: Vec<ObjectId>,
    fresh_packs: BTreeSet<PackId>,
}

impl<'a> Unpacker<'a> {
    /// Writes nothing yet.
    pub fn new(options: &'a ReceiveOptions<'a>) -> Self {
        Unpacker {
            options,
            deflate: Compress::new(Compression::new(options.compression.min(9)), true),
            buffer: Vec::with_capacity(BUFFER_LEN),
            open: None,
            fan_out: BTreeSet::new(),
            written: Vec::new(),
            fresh_packs: BTreeSet::new(),
        }
    }

    /// Writes an object unless it is there.
    ///
    /// # Errors
    /// When writing fails.
    pub fn write(&mut self, id: &oid, kind: Kind, content: &[u8]) -> io::Result<()> {
        if self.freshen(id)? {
            return Ok(());
        }
        self.begin(kind, content.len() as u64)?;
        self.chunk(content)?;
        self.end(id)
    }

    /// Begins an object of `size` bytes whose content comes in chunks.
    ///
    /// # Errors
    /// When writing fails.
    pub fn begin(&mut self, kind: Kind, size: u64) -> io::Result<()> {
        self.open = Some(Temporary::create(self.options.directory, "tmp_obj_", self.options.sharing)?);
        self.deflate.reset();
        self.buffer.clear();
        self.chunk(&gix_object::encode::loose_header(kind, size))
    }

    /// More of the content.
    ///
    /// # Errors
    /// When writing fails.
    pub fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.deflate(bytes, FlushCompress::None)
    }

    /// The content is complete, and this is its name.
    ///
    /// # Errors
    /// When writing fails.
    pub fn end(&mut self, id: &oid) -> io::Result<()> {
        self.deflate(&[], FlushCompress::Finish)?;
        let mut file = self.open.take().expect("an object was begun");
        durable::write_all(&mut file.file, &self.buffer)?;
        if self.freshen(id)? {
            return Ok(());
        }
        let path = loose_path(self.options.directory, id);
        if self.fan_out.insert(id.first_byte())
            && let Some(directory) = path.parent()
        {
            durable::mkdir_all(self.options.directory, directory, self.options.sharing)?;
        }
        file.rename(&path)?;
        self.written.push(id.to_owned());
        Ok(())
    }

    /// Forces everything to disk that was written.
    ///
    /// # Errors
    /// When that fails.
    pub fn finish(&mut self) -> io::Result<()> {
        if self.options.sync == Sync::Now {
            for id in &self.written {
                durable::fsync(&File::open(loose_path(self.options.directory, id))?)?;
            }
        }
        self.written.clear();
        Ok(())
    }

    fn deflate(&mut self, mut bytes: &[u8], flush: FlushCompress) -> io::Result<()> {
        loop {
            let before = self.deflate.total_in();
            let status = self.deflate.compress_vec(bytes, &mut self.buffer, flush).map_err(io::Error::other)?;
            let taken = usize::try_from(self.deflate.total_in() - before).map_err(io::Error::other)?;
            bytes = &bytes[taken..];
            let done = match flush {
                FlushCompress::Finish => status == Status::StreamEnd,
                _ => bytes.is_empty(),
            };
            if done {
                return Ok(());
            }
            let file = self.open.as_mut().expect("an object was begun");
            durable::write_all(&mut file.file, &self.buffer)?;
            self.buffer.clear();
        }
    }

    /// Whether the object exists; if so its file is as young as a new one. One that cannot be made young is written anew.
    fn freshen(&mut self, id: &oid) -> io::Result<bool> {
        let objects = self.options.objects;
        let Some(location) = objects.locate(id).map_err(io::Error::other)? else { return Ok(false) };
        match location {
            Location::Packed { pack, .. } if self.fresh_packs.contains(&pack) => Ok(true),
            Location::Packed { pack, .. } => {
                let fresh = durable::touch(objects.pack(pack).path()).is_ok();
                if fresh {
                    self.fresh_packs.insert(pack);
                }
                Ok(fresh)
            }
            Location::Loose(directory) => {
                let directory = loose_directory(objects, directory)?;
                Ok(directory.is_some_and(|directory| durable::touch(&loose_path(&directory, id)).is_ok()))
            }
        }
    }
}

fn loose_directory(objects: &Objects, number: u32) -> io::Result<Option<PathBuf>> {
    let directories = objects.directories().map_err(io::Error::other)?;
    Ok(directories.into_iter().nth(number as usize))
}

fn loose_path(directory: &Path, id: &oid) -> PathBuf {
    let hex = id.to_hex().to_string();
    let (fan_out, rest) = hex.split_at(2);
    directory.join(fan_out).join(rest)
}

//! Writing loose objects.
//!
//! In: objects, whole or in chunks. Out: files `objects/xx/…` in a quarantine, forced to the disk together at the end.
//! An object that is loose already is never written again; its file gets a new modification time, so that gc does not
//! remove it meanwhile.

use super::deflate::Deflater;
use super::incoming::ReceiveOptions;
use super::incoming::store::Temporary;
use super::small::CONTENT_MAX;
use crate::durable;
use crate::odb::{Location, Objects};
use gix_hash::oid;
use gix_object::Kind;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Writes loose objects, one after the other.
pub struct Unpacker<'a> {
    options: &'a ReceiveOptions<'a>,
    deflater: Deflater,
    /// The object being written in chunks.
    open: Option<Temporary>,
    fan_out: BTreeSet<u8>,
    written: Vec<PathBuf>,
    /// Directories with objects written by other pushes that this push needs too.
    relied_on: BTreeSet<PathBuf>,
}

impl<'a> Unpacker<'a> {
    /// An unpacker that has written nothing.
    pub fn new(options: &'a ReceiveOptions<'a>) -> Self {
        Unpacker {
            options,
            deflater: Deflater::default(),
            open: None,
            fan_out: BTreeSet::new(),
            written: Vec::new(),
            relied_on: BTreeSet::new(),
        }
    }

    /// Writes an object unless it is loose already.
    ///
    /// # Errors
    /// When writing fails.
    pub fn write(&mut self, id: &oid, kind: Kind, content: &[u8]) -> io::Result<()> {
        if self.freshen(id)? {
            return Ok(());
        }
        if content.len() > CONTENT_MAX {
            self.begin(kind, content.len() as u64)?;
            self.chunk(content)?;
            return self.place(id);
        }
        // Nothing reads the quarantine yet, so the file may have its final name from the start.
        let path = self.path_of(id)?;
        let mut file = match durable::create(&path, 0o444, self.options.sharing) {
            // The object is in this pack twice. `freshen` has not found its first copy because the repository has it in
            // a pack too.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            file => file?,
        };
        let whole = [&gix_object::encode::loose_header(kind, content.len() as u64), content].concat();
        self.deflater
            .whole(self.options.compression, &whole, &mut |deflated| durable::write_all(&mut file, deflated))?;
        self.written.push(path);
        Ok(())
    }

    /// Begins an object of `size` bytes whose content comes in chunks.
    ///
    /// # Errors
    /// When writing fails.
    pub fn begin(&mut self, kind: Kind, size: u64) -> io::Result<()> {
        self.open = Some(Temporary::create(self.options.directory, "tmp_obj_", self.options.sharing)?);
        self.deflater.begin(self.options.compression)?;
        self.chunk(&gix_object::encode::loose_header(kind, size))
    }

    /// Adds content.
    ///
    /// # Errors
    /// When writing fails.
    pub fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = &mut self.open.as_mut().expect("an object was begun").file;
        self.deflater.push(bytes, &mut |deflated| durable::write_all(file, deflated))
    }

    /// Ends the object, which has this name.
    ///
    /// # Errors
    /// When writing fails.
    pub fn end(&mut self, id: &oid) -> io::Result<()> {
        if self.freshen(id)? {
            self.open = None;
            return Ok(());
        }
        self.place(id)
    }

    fn place(&mut self, id: &oid) -> io::Result<()> {
        let mut file = self.open.take().expect("an object was begun");
        self.deflater.end(&mut |deflated| durable::write_all(&mut file.file, deflated))?;
        let path = self.path_of(id)?;
        file.rename(&path)?;
        self.written.push(path);
        Ok(())
    }

    /// The path of an object; creates its directory.
    fn path_of(&mut self, id: &oid) -> io::Result<PathBuf> {
        let path = loose_path(self.options.directory, id);
        if self.fan_out.insert(id.first_byte())
            && let Some(directory) = path.parent()
        {
            match durable::mkdir(directory, self.options.sharing) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                outcome => outcome?,
            }
        }
        Ok(path)
    }

    /// Forces the files written to the disk before their names, and also the existing files that this push needs.
    ///
    /// # Errors
    /// When that fails.
    pub fn finish(&mut self) -> io::Result<()> {
        let written = std::mem::take(&mut self.written);
        let sync = self.options.sync.loose;
        if self.relied_on.is_empty() {
            return durable::barrier(&written, self.options.directory, sync);
        }
        // The migration does not force files that it does not move.
        let relied_on = std::mem::take(&mut self.relied_on).into_iter();
        durable::fsync_all(&relied_on.chain(written).collect::<Vec<PathBuf>>(), sync)
    }

    /// Whether the object is loose already; if so, its file gets a new modification time. If that fails, the object is
    /// written again.
    fn freshen(&mut self, id: &oid) -> io::Result<bool> {
        let objects = self.options.objects;
        // An object that has just been added by another process is simply written again.
        let Some(location) = objects.locate_as_listed(id).map_err(io::Error::other)? else { return Ok(false) };
        match location {
            // A repack that started before refs need the object may be about to remove that pack.
            Location::Packed { .. } => Ok(false),
            Location::Loose(directory) => {
                let Some(directory) = loose_directory(objects, directory)? else { return Ok(false) };
                let path = loose_path(&directory, id);
                if durable::touch(&path).is_err() {
                    return Ok(false);
                }
                // Another push may have written it just now without having forced it to the disk. Alternates are
                // responsible for their own files.
                let alternates = objects.alternates().map_err(io::Error::other)?;
                if directory != self.options.directory && !alternates.contains(&directory) {
                    self.relied_on.extend(path.parent().map(Path::to_owned));
                    self.relied_on.insert(directory);
                }
                Ok(true)
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

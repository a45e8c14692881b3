//! Loose objects, written.
//!
//! In: objects, whole or in chunks. Out: files `objects/xx/…` in a quarantine, forced to disk together at the end.
//! An object that is loose already is not written again; it is made young, so that gc does not take it away meanwhile.

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
    /// The object that is being written in chunks.
    open: Option<Temporary>,
    fan_out: BTreeSet<u8>,
    written: Vec<PathBuf>,
    /// Folders in which others have put objects that are pushed here, too.
    relied_on: BTreeSet<PathBuf>,
}

impl<'a> Unpacker<'a> {
    /// Writes nothing yet.
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

    /// Writes an object unless it is there.
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
        // Nobody looks into the quarantine yet.
        let path = self.path_of(id)?;
        let mut file = match durable::create(&path, 0o444, self.options.sharing) {
            // Twice in this pack, and in one of the repository's too.
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

    /// More of the content.
    ///
    /// # Errors
    /// When writing fails.
    pub fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = &mut self.open.as_mut().expect("an object was begun").file;
        self.deflater.push(bytes, &mut |deflated| durable::write_all(file, deflated))
    }

    /// The content is complete, and this is its name.
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

    /// Where an object is to lie, in a folder that is there.
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

    /// Sees to it that what was written is on the disk before its names are, and that what was found to be there is.
    ///
    /// # Errors
    /// When that fails.
    pub fn finish(&mut self) -> io::Result<()> {
        let written = std::mem::take(&mut self.written);
        let sync = self.options.sync.loose;
        if self.relied_on.is_empty() {
            return durable::barrier(&written, self.options.directory, sync);
        }
        // Nobody may force later what is not moved.
        let relied_on = std::mem::take(&mut self.relied_on).into_iter();
        durable::fsync_all(&relied_on.chain(written).collect::<Vec<PathBuf>>(), sync)
    }

    /// Whether the object is loose; if so its file is as young as a new one. One that cannot be made young is written anew.
    fn freshen(&mut self, id: &oid) -> io::Result<bool> {
        let objects = self.options.objects;
        // What has come in this moment is written once more.
        let Some(location) = objects.locate_as_listed(id).map_err(io::Error::other)? else { return Ok(false) };
        match location {
            // A repack that began before refs need it may be about to remove that pack.
            Location::Packed { .. } => Ok(false),
            Location::Loose(directory) => {
                let Some(directory) = loose_directory(objects, directory)? else { return Ok(false) };
                let path = loose_path(&directory, id);
                if durable::touch(&path).is_err() {
                    return Ok(false);
                }
                // Another push may have put it there in this moment, and wait for the disk yet. It answers for what it holds.
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

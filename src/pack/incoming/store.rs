//! Where the bytes of the pack stay while it is read and resolved.
//!
//! In: bytes in order. Out: any part of them again. Small packs that become loose objects never touch the disk;
//! others are a file in the quarantine that is either kept under its final name or removed when dropped.

use crate::durable::{self, Sharing};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The bytes of one pack.
pub(super) struct Store {
    directory: PathBuf,
    sharing: Sharing,
    memory: Vec<u8>,
    memory_max: usize,
    file: Option<Temporary>,
    len: u64,
}

impl Store {
    /// All bytes go to a file in `directory`.
    pub fn new(directory: &Path, sharing: Sharing) -> Self {
        Store { directory: directory.to_owned(), sharing, memory: Vec::new(), memory_max: 0, file: None, len: 0 }
    }

    /// Up to `memory_max` bytes are held in memory before a file is made.
    pub fn hold_in_memory(&mut self, memory_max: usize) {
        self.memory_max = memory_max;
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Appends.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.len += bytes.len() as u64;
        if let Some(temporary) = &mut self.file {
            return durable::write_all(&mut temporary.file, bytes);
        }
        if bytes.len() <= self.memory_max.saturating_sub(self.memory.len()) {
            self.memory.extend_from_slice(bytes);
            return Ok(());
        }
        let mut temporary = Temporary::create(&self.directory, "tmp_pack_", self.sharing)?;
        durable::write_all(&mut temporary.file, &std::mem::take(&mut self.memory))?;
        durable::write_all(&mut temporary.file, bytes)?;
        self.file = Some(temporary);
        Ok(())
    }

    /// Replaces bytes that are there; the next [`Store::write`] appends again.
    pub fn overwrite(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if let Some(temporary) = &mut self.file {
            temporary.file.seek(SeekFrom::Start(offset))?;
            durable::write_all(&mut temporary.file, bytes)?;
            temporary.file.seek(SeekFrom::End(0))?;
            return Ok(());
        }
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        match self.memory.get_mut(start..).and_then(|part| part.get_mut(..bytes.len())) {
            Some(part) => part.copy_from_slice(bytes),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }

    /// As many bytes at `offset` as `buffer` takes and there are.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(temporary) = &self.file {
            return temporary.file.read_at(buffer, offset);
        }
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let part = self.memory.get(from..).unwrap_or_default();
        let size = part.len().min(buffer.len());
        buffer[..size].copy_from_slice(&part[..size]);
        Ok(size)
    }

    /// A file beside it that is removed when dropped.
    pub fn temporary(&self, prefix: &str) -> io::Result<Temporary> {
        Temporary::create(&self.directory, prefix, self.sharing)
    }

    /// The file, which is made now where all bytes are in memory.
    pub fn into_temporary(mut self) -> io::Result<Temporary> {
        match self.file.take() {
            Some(temporary) => Ok(temporary),
            None => {
                let mut temporary = Temporary::create(&self.directory, "tmp_pack_", self.sharing)?;
                durable::write_all(&mut temporary.file, &self.memory)?;
                Ok(temporary)
            }
        }
    }
}

/// A file that is removed when dropped, unless it got its final name.
pub(in crate::pack) struct Temporary {
    /// The file, open for reading and writing.
    pub file: File,
    path: PathBuf,
    named: bool,
}

impl Temporary {
    /// Creates a file nobody may write to by name (git gives packs and indexes 0444).
    pub fn create(directory: &Path, prefix: &str, sharing: Sharing) -> io::Result<Self> {
        let path = directory.join(durable::unique(prefix));
        let file = durable::create(&path, 0o444, sharing)?;
        Ok(Temporary { file, path, named: false })
    }

    /// Where it is for now.
    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Gives the file its final name.
    pub fn rename(&mut self, path: &Path) -> io::Result<()> {
        durable::rename(&self.path, path)?;
        self.named = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.named {
            // What cannot be removed goes with the quarantine.
            let _ = durable::unlink(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_from_memory_and_from_the_file() {
        let directory = std::env::temp_dir().join(durable::unique("store-"));
        std::fs::create_dir(&directory).unwrap();
        for memory_max in [0, 4, 100] {
            let mut store = Store::new(&directory, Sharing::Umask);
            store.hold_in_memory(memory_max);
            for part in ["abc", "defg", "hij"] {
                store.write(part.as_bytes()).unwrap();
            }
            store.overwrite(1, b"XY").unwrap();
            store.write(b"!").unwrap();
            assert_eq!(store.len(), 11);
            let mut buffer = [0; 16];
            let size = store.read_at(1, &mut buffer).unwrap();
            assert_eq!(&buffer[..size], b"XYdefghij!", "{memory_max}");
            assert_eq!(store.read_at(100, &mut buffer).unwrap(), 0);
            let files = std::fs::read_dir(&directory).unwrap().count();
            assert_eq!(files, usize::from(memory_max < 11));
            drop(store);
            assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
        }
        std::fs::remove_dir(&directory).unwrap();
    }
}

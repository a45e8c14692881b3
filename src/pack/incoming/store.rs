//! Storage for the bytes of a pack while it is read and resolved.
//!
//! In: bytes in order. Out: any part of them. Small packs that become loose objects never touch the disk; others are a
//! file in the quarantine, which is either kept under its final name or removed on drop.

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
    /// A store that writes all bytes to a file in `directory`.
    pub fn new(directory: &Path, sharing: Sharing) -> Self {
        Store { directory: directory.to_owned(), sharing, memory: Vec::new(), memory_max: 0, file: None, len: 0 }
    }

    /// Lets up to `memory_max` bytes stay in memory before a file is created.
    pub fn hold_in_memory(&mut self, memory_max: usize) {
        self.memory_max = memory_max;
    }

    /// The number of bytes stored.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Appends bytes.
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

    /// Replaces stored bytes; the next [`Store::write`] appends again.
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

    /// Reads at `offset` as many bytes as are there and fit into `buffer`.
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

    /// Creates another file in the same directory, which is removed on drop.
    pub fn temporary(&self, prefix: &str) -> io::Result<Temporary> {
        Temporary::create(&self.directory, prefix, self.sharing)
    }

    /// Returns the file; creates it if all bytes are in memory.
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

/// A file that is removed on drop, unless it has been given its final name.
pub(in crate::pack) struct Temporary {
    /// The file, open for reading and writing.
    pub file: File,
    path: PathBuf,
    named: bool,
}

impl Temporary {
    /// Creates a read-only file (git gives packs and indexes mode 0444).
    pub fn create(directory: &Path, prefix: &str, sharing: Sharing) -> io::Result<Self> {
        let path = directory.join(durable::unique(prefix));
        let file = durable::create(&path, 0o444, sharing)?;
        Ok(Temporary { file, path, named: false })
    }

    /// Its temporary path.
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
            // If it cannot be removed, it goes with the quarantine.
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

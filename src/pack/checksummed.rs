//! Files that end with the hash of what stands before: packs, their indexes, commit-graphs.
//!
//! In: bytes. Out: the same bytes, gathered, and the hash behind them. No collision detection: it guards against accidents, not
//! attacks. What the bytes mean is not known here.

use crate::durable;
use gix_hash::ObjectId;
use sha1::Digest;
use std::fs::File;
use std::io;

/// Bytes collected before they are written.
const BUFFER_LEN: usize = 64 << 10;

/// The hash over a file, which is its trailer.
#[derive(Clone)]
pub enum Trailer {
    /// In hardware, where there is some.
    Sha1(sha1::Sha1),
    /// Whichever else.
    Other(gix_hash::Hasher),
}

impl Trailer {
    /// Of no bytes yet.
    pub fn new(hash: gix_hash::Kind) -> Self {
        match hash {
            gix_hash::Kind::Sha1 => Trailer::Sha1(sha1::Sha1::new()),
            other => Trailer::Other(gix_hash::hasher(other)),
        }
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Trailer::Sha1(hasher) => hasher.update(bytes),
            Trailer::Other(hasher) => hasher.update(bytes),
        }
    }

    /// The hash of all of them.
    pub fn finish(self) -> ObjectId {
        match self {
            Trailer::Sha1(hasher) => ObjectId::Sha1(hasher.finalize().into()),
            Trailer::Other(hasher) => hasher.try_finalize().expect("only SHA-1 detects collisions"),
        }
    }
}

/// A file that ends with the hash of what stands before.
pub struct Checksummed<'a> {
    file: &'a mut File,
    hash: gix_hash::Kind,
    hasher: Trailer,
    buffer: Vec<u8>,
}

impl<'a> Checksummed<'a> {
    /// Appends to a file that is empty.
    pub fn new(file: &'a mut File, hash: gix_hash::Kind) -> Self {
        Checksummed { file, hash, hasher: Trailer::new(hash), buffer: Vec::with_capacity(BUFFER_LEN) }
    }

    /// Which hash it ends with.
    pub fn hash(&self) -> gix_hash::Kind {
        self.hash
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// As `write(2)`.
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER_LEN {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Appends a number, the high byte first.
    ///
    /// # Errors
    /// As `write(2)`.
    pub fn u32(&mut self, number: u32) -> io::Result<()> {
        self.bytes(&number.to_be_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hasher.update(&self.buffer);
        durable::write_all(self.file, &self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// Writes the hash; returns it.
    ///
    /// # Errors
    /// As `write(2)`.
    pub fn end(&mut self) -> io::Result<ObjectId> {
        self.flush()?;
        let hash = self.hasher.clone().finish();
        durable::write_all(self.file, hash.as_slice())?;
        Ok(hash)
    }
}

/// How files of git's say which hash their names are of (gitformat-pack).
pub fn hash_number(hash: gix_hash::Kind) -> u8 {
    if hash == gix_hash::Kind::Sha1 { 1 } else { 2 }
}

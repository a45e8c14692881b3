//! Files that end with a hash of their content: packs, their indexes, commit-graphs.
//!
//! In: bytes. Out: the same bytes, buffered, followed by the hash. There is no collision detection: the hash guards
//! against accidents, not attacks. The bytes are never interpreted here.

use crate::durable;
use gix_hash::ObjectId;
use sha1::Digest;
use std::fs::File;
use std::io;

/// The number of bytes buffered before they are written.
const BUFFER_LEN: usize = 64 << 10;

/// The hash of a file, which is its trailer.
#[derive(Clone)]
pub enum Trailer {
    /// SHA-1, in hardware where available.
    Sha1(sha1::Sha1),
    /// Any other hash.
    Other(gix_hash::Hasher),
}

impl Trailer {
    /// The hash of no bytes.
    pub fn new(hash: gix_hash::Kind) -> Self {
        match hash {
            gix_hash::Kind::Sha1 => Trailer::Sha1(sha1::Sha1::new()),
            other => Trailer::Other(gix_hash::hasher(other)),
        }
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Trailer::Sha1(hasher) => hasher.update(bytes),
            Trailer::Other(hasher) => hasher.update(bytes),
        }
    }

    /// The hash of all bytes added.
    pub fn finish(self) -> ObjectId {
        match self {
            Trailer::Sha1(hasher) => ObjectId::Sha1(hasher.finalize().into()),
            Trailer::Other(hasher) => hasher.try_finalize().expect("only SHA-1 detects collisions"),
        }
    }
}

/// A file that ends with a hash of its content.
pub struct Checksummed<'a> {
    file: &'a mut File,
    hash: gix_hash::Kind,
    hasher: Trailer,
    buffer: Vec<u8>,
}

impl<'a> Checksummed<'a> {
    /// Appends to a file that must be empty.
    pub fn new(file: &'a mut File, hash: gix_hash::Kind) -> Self {
        Checksummed { file, hash, hasher: Trailer::new(hash), buffer: Vec::with_capacity(BUFFER_LEN) }
    }

    /// The hash function of the trailer.
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

    /// Appends a number in big-endian order.
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

    /// Writes the hash and returns it.
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

/// The number by which git's files identify the hash of object names (gitformat-pack).
pub fn hash_number(hash: gix_hash::Kind) -> u8 {
    if hash == gix_hash::Kind::Sha1 { 1 } else { 2 }
}

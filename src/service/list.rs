//! Lists of packets that may be long: they go out in pieces while they grow.
//!
//! In: packets. Out: the same bytes, in few writes. Nothing here knows what is listed.

use super::Out;
use crate::pktline;
use crate::repo::Repository;
use std::fmt;
use std::io::{self, Write};

/// A list is written in pieces of about this many bytes.
const GATHERED: usize = 32 << 10;

/// A list of this many bytes is expected to grow long.
const LONG: usize = 2 << 10;

/// A list on its way out.
pub struct List<'o, 's> {
    bytes: Vec<u8>,
    out: &'o mut Out<'s>,
}

impl<'o, 's> List<'o, 's> {
    /// An empty list.
    pub fn new(out: &'o mut Out<'s>) -> Self {
        List { bytes: Vec::new(), out }
    }

    /// Adds one packet, whose payload `fill` writes in place.
    ///
    /// # Errors
    /// `InvalidInput` for a payload that is too long; what the sink reports.
    pub fn add(&mut self, fill: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        pktline::append(&mut self.bytes, fill)?;
        if self.bytes.len() >= LONG {
            self.spill()?;
        }
        Ok(())
    }

    /// Adds one packet of formatted text.
    ///
    /// # Errors
    /// As [`List::add`].
    pub fn text(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
        let mut written = Ok(());
        self.add(|packet| written = packet.write_fmt(text))?;
        written
    }

    /// Adds a flush; another part of the list follows.
    ///
    /// # Errors
    /// None: it is not written yet.
    pub fn flush(&mut self) -> io::Result<()> {
        pktline::flush(&mut self.bytes)
    }

    /// Ends the list with a flush and writes the rest of it.
    ///
    /// # Errors
    /// What the sink reports.
    pub fn end(mut self, repository: &Repository) -> io::Result<()> {
        self.flush()?;
        self.out.sink.write_all(&self.bytes)?;
        self.out.pause(repository)
    }

    /// Writes a piece that is large enough. Once a list turns out to be long, it gets room for a whole piece, so that
    /// it is not moved each time it grows.
    fn spill(&mut self) -> io::Result<()> {
        let enough = GATHERED + LONG;
        if self.bytes.capacity() < enough {
            self.bytes.reserve_exact(enough - self.bytes.len());
        }
        if self.bytes.len() >= GATHERED {
            self.out.sink.write_all(&self.bytes)?;
            self.bytes.clear();
        }
        Ok(())
    }
}

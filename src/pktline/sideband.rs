//! Side bands: 1 data, 2 progress, 3 error (gitprotocol-pack, Packfile Data).

use crate::stream::{Pulse, Sink};
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;

/// A band's number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Band {
    /// Pack data, or a report.
    Data = 1,
    /// Messages the client shows as `remote: …`.
    Progress = 2,
    /// The last words: the client stops.
    Error = 3,
}

/// How long a packet may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BandSize {
    /// `side-band`: 1000 bytes with length and band.
    Small,
    /// `side-band-64k`: 65520 bytes with length and band.
    Large,
}

/// Writes to the three bands of a sink. As a `Write` it is band 1: bytes are gathered until a packet is full.
pub struct SideBand<'a> {
    out: &'a mut dyn Sink,
    size: BandSize,
}

impl<'a> SideBand<'a> {
    /// Bands over `out`.
    pub fn new(out: &'a mut dyn Sink, size: BandSize) -> Self {
        SideBand { out, size }
    }

    /// Sends text or data on a band, in as many packets as it needs, at once; gathered band 1 data goes out first.
    ///
    /// # Errors
    /// What the sink reports.
    pub fn send(&mut self, band: Band, bytes: &[u8]) -> io::Result<()> {
        let _ = (&mut self.out, self.size, band, bytes);
        unimplemented!()
    }

    /// An empty band 1 packet, `0005\x01`: nothing to say, still alive. Gathered data goes out instead where there is some.
    ///
    /// # Errors
    /// What the sink reports.
    pub fn keep_alive(&mut self) -> io::Result<()> {
        unimplemented!()
    }
}

impl Write for SideBand<'_> {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        unimplemented!()
    }

    fn flush(&mut self) -> io::Result<()> {
        unimplemented!()
    }
}

impl Pulse for SideBand<'_> {
    fn tick(&mut self, done: u64) -> io::Result<()> {
        self.out.tick(done)
    }
}

impl Sink for SideBand<'_> {
    fn send_file(&mut self, file: &File, range: Range<u64>) -> io::Result<()> {
        let _ = (file, range);
        unimplemented!()
    }
}

//! Sections of the answer to v2's fetch (gitprotocol-v2, fetch): a title, lines, and an end.
//!
//! In: lines. Out: packets, each with the number of band 1 in front if the client asked for sideband-all. Nothing here
//! knows the meaning of the lines or the order of the sections.

use crate::pktline::{self, Band};
use std::fmt;
use std::io::{self, Write};

/// One section as it is built.
#[derive(Debug)]
pub struct Section {
    bytes: Vec<u8>,
    banded: bool,
}

impl Section {
    /// Begins a section with its title. `banded`: each line goes out on band 1 (sideband-all).
    ///
    /// # Errors
    /// Only if a line is longer than a packet.
    pub fn begin(title: &str, banded: bool) -> io::Result<Self> {
        let mut section = Section { bytes: Vec::new(), banded };
        section.line(format_args!("{title}"))?;
        Ok(section)
    }

    /// Adds a line, given without its newline.
    ///
    /// # Errors
    /// `InvalidInput` for a line that is longer than a packet.
    pub fn line(&mut self, line: fmt::Arguments<'_>) -> io::Result<()> {
        self.bare(format_args!("{line}\n"))
    }

    /// Adds a line as it is: git sends some without a newline.
    ///
    /// # Errors
    /// As [`Section::line`].
    pub fn bare(&mut self, line: fmt::Arguments<'_>) -> io::Result<()> {
        let banded = self.banded;
        let mut formatted = Ok(());
        pktline::append(&mut self.bytes, |packet| {
            if banded {
                packet.push(Band::Data as u8);
            }
            formatted = packet.write_fmt(line);
        })?;
        formatted
    }

    /// Returns the bytes without an end, for a section whose remaining content is written differently.
    pub fn open(self) -> Vec<u8> {
        self.bytes
    }

    /// Ends the section with a delimiter: another section follows.
    pub fn delim(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(b"0001");
        self.bytes
    }

    /// Ends the section with a flush: the answer ends here.
    pub fn flush(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(b"0000");
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_but_no_end_goes_through_band_1_where_everything_does() {
        let section = |banded| {
            let mut section = Section::begin("acknowledgments", banded).expect("short");
            section.line(format_args!("{}", "NAK")).expect("short");
            section
        };
        assert_eq!(section(false).flush(), b"0014acknowledgments\n0008NAK\n0000");
        assert_eq!(section(true).delim(), b"0015\x01acknowledgments\n0009\x01NAK\n0001");
        assert_eq!(section(true).open(), b"0015\x01acknowledgments\n0009\x01NAK\n");
    }

    #[test]
    fn a_line_that_fits_no_packet_is_an_error() {
        let mut section = Section::begin("packfile-uris", true).expect("short");
        let long = "x".repeat(pktline::PAYLOAD_MAX);
        assert_eq!(section.line(format_args!("{long}")).expect_err("long").kind(), io::ErrorKind::InvalidInput);
    }
}

//! Side bands: 1 data, 2 progress, 3 error (gitprotocol-pack, Packfile Data).
//!
//! In: bytes for a band. Out: packets into a sink. Never ends the conversation: the flush after the bands is the
//! caller's.

use super::writer::digits;
use crate::stream::{Pulse, Sink};
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;

/// A band, with its number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Band {
    /// Pack data, or a report.
    Data = 1,
    /// Messages the client shows as `remote: …`.
    Progress = 2,
    /// A fatal error, after which the client stops.
    Error = 3,
}

/// The size of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BandSize {
    /// `side-band`: up to 1000 bytes, including the length and the band.
    Small,
    /// `side-band-64k`: up to 65520 bytes, including the length and the band.
    Large,
}

impl BandSize {
    /// The most bytes of data in one packet (PK-05).
    pub fn data_max(self) -> usize {
        match self {
            BandSize::Small => 995,
            BandSize::Large => 65515,
        }
    }
}

/// The size of the length digits and the band's number.
const HEAD: usize = 5;

/// Parts of a file that are at least this large are passed to the sink as files; smaller ones are cheaper to copy.
const HANDED_ON_MIN: usize = 16 << 10;

/// Writes to the three bands of a sink. Its `Write` is band 1, which gathers bytes until a packet is full.
///
/// Gathered bytes are sent by [`Write::flush`] and before a message. Dropping a side band sends nothing, so that a
/// failed answer remains truncated.
pub struct SideBand<'a> {
    out: &'a mut dyn Sink,
    size: BandSize,
    /// A packet of band 1 being filled: room for its head, then data. Empty until the first byte is written.
    packet: Vec<u8>,
    packets: u64,
}

impl<'a> SideBand<'a> {
    /// Bands over `out`.
    pub fn new(out: &'a mut dyn Sink, size: BandSize) -> Self {
        SideBand { out, size, packet: Vec::new(), packets: 0 }
    }

    /// The number of packets sent; if it changes, the client has received something.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// The sink below the bands, for the flush that ends them. Gathered bytes are not sent.
    pub fn outside(&mut self) -> &mut dyn Sink {
        self.out
    }

    /// Sends bytes on a band at once, in as many packets as needed; gathered band 1 data is sent first.
    ///
    /// # Errors
    /// What the sink reports.
    pub fn send(&mut self, band: Band, bytes: &[u8]) -> io::Result<()> {
        self.send_gathered()?;
        for part in bytes.chunks(self.size.data_max()) {
            self.packet.extend_from_slice(&head(band, part.len()));
            self.packet.extend_from_slice(part);
            self.send_packet()?;
        }
        self.out.flush()
    }

    /// Shows that the server is alive: sends the gathered data, or an empty packet of `band` if there is none.
    ///
    /// Use band 1 while a pack is being sent, as git does, and band 2 before it, where an empty packet of band 1 would
    /// be an empty line of a section (gitprotocol-v2, sideband-all).
    ///
    /// # Errors
    /// What the sink reports.
    pub fn keep_alive(&mut self, band: Band) -> io::Result<()> {
        if self.gathered() == 0 {
            self.packet.extend_from_slice(&head(band, 0));
            self.send_packet()?;
        } else {
            self.send_gathered()?;
        }
        self.out.flush()
    }

    /// The number of bytes gathered for band 1.
    fn gathered(&self) -> usize {
        self.packet.len().saturating_sub(HEAD)
    }

    /// Makes room for a head in front of the bytes to be gathered.
    fn open(&mut self) {
        if self.packet.is_empty() {
            self.packet.reserve_exact(HEAD + self.size.data_max());
            self.packet.extend_from_slice(&[0; HEAD]);
        }
    }

    fn send_gathered(&mut self) -> io::Result<()> {
        let gathered = self.gathered();
        if gathered == 0 {
            self.packet.clear();
            return Ok(());
        }
        self.packet[..HEAD].copy_from_slice(&head(Band::Data, gathered));
        self.send_packet()
    }

    fn send_packet(&mut self) -> io::Result<()> {
        self.packets += 1;
        let written = self.out.write_all(&self.packet);
        self.packet.clear();
        written
    }
}

/// The head of a packet with `size` bytes of data.
fn head(band: Band, size: usize) -> [u8; HEAD] {
    let [a, b, c, d] = digits(HEAD + size);
    [a, b, c, d, band as u8]
}

impl Write for SideBand<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.open();
        let taken = bytes.len().min(self.size.data_max() - self.gathered());
        self.packet.extend_from_slice(&bytes[..taken]);
        if self.gathered() == self.size.data_max() {
            self.send_gathered()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send_gathered()?;
        self.out.flush()
    }
}

impl Pulse for SideBand<'_> {
    fn tick(&mut self, done: u64) -> io::Result<()> {
        self.out.tick(done)
    }
}

impl Sink for SideBand<'_> {
    fn send_file(&mut self, file: &File, range: Range<u64>) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        let mut at = range.start;
        while at < range.end {
            // Checked between packets, so that a client can still be sent the error once the deadline has passed.
            self.out.tick(0)?;
            self.open();
            let room = self.size.data_max() - self.gathered();
            let part = usize::try_from(range.end - at).map_or(room, |left| left.min(room));
            if part >= HANDED_ON_MIN {
                // One packet holds the gathered bytes and as much of the file as fits; its head, which needs the total
                // size, goes out first.
                let gathered = self.gathered();
                self.packet[..HEAD].copy_from_slice(&head(Band::Data, gathered + part));
                self.send_packet()?;
                self.out.send_file(file, at..at + part as u64)?;
            } else {
                let filled = self.packet.len();
                self.packet.resize(filled + part, 0);
                if let Err(error) = file.read_exact_at(&mut self.packet[filled..], at) {
                    self.packet.truncate(filled);
                    return Err(error);
                }
                if self.gathered() == self.size.data_max() {
                    self.send_gathered()?;
                }
            }
            at += part as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pktline::{Packet, PacketReader};

    /// Splits an answer into the content of each band and the sizes of the packets.
    fn bands(answer: &[u8]) -> ([Vec<u8>; 3], Vec<usize>) {
        let mut input = answer;
        let mut reader = PacketReader::new(&mut input);
        let (mut bands, mut sizes) = ([vec![], vec![], vec![]], vec![]);
        while let Some(Packet::Data(payload)) = reader.next().expect("well formed") {
            bands[usize::from(payload[0]) - 1].extend_from_slice(&payload[1..]);
            sizes.push(payload.len() - 1);
        }
        (bands, sizes)
    }

    #[test]
    fn data_is_gathered_into_full_packets() {
        for (size, most) in [(BandSize::Small, 995), (BandSize::Large, 65515)] {
            let data: Vec<u8> = (0..most * 2 + 7).map(|byte| byte as u8).collect();
            for step in [1, 10, 994, 995, 996, most, most * 3] {
                let mut out = Vec::new();
                let mut band = SideBand::new(&mut out, size);
                for part in data.chunks(step) {
                    band.write_all(part).expect("memory can be written");
                }
                band.flush().expect("memory can be written");
                assert_eq!(
                    bands(&out),
                    ([data.clone(), vec![], vec![]], vec![most, most, 7]),
                    "{size:?}, {step} at a time"
                );
            }
        }
    }

    #[test]
    fn a_message_goes_out_at_once_behind_the_data_before_it() {
        let mut out = Vec::new();
        let mut band = SideBand::new(&mut out, BandSize::Small);
        band.write_all(b"PACK").expect("memory can be written");
        band.send(Band::Progress, b"half way\r").expect("memory can be written");
        band.send(Band::Error, &[b'x'; 996]).expect("memory can be written");
        assert_eq!(band.packets(), 4);
        assert!(out.starts_with(b"0009\x01PACK000e\x02half way\r03e8\x03x"));
        assert!(out.ends_with(b"0006\x03x"));
    }

    #[test]
    fn a_keep_alive_is_empty_only_when_nothing_waits() {
        let mut out = Vec::new();
        let mut band = SideBand::new(&mut out, BandSize::Large);
        band.keep_alive(Band::Data).expect("memory can be written");
        band.write_all(b"PACK").expect("memory can be written");
        band.keep_alive(Band::Data).expect("memory can be written");
        band.keep_alive(Band::Data).expect("memory can be written");
        assert_eq!(out, b"0005\x010009\x01PACK0005\x01");
    }

    #[test]
    fn what_was_not_flushed_is_not_sent() {
        let mut out = Vec::new();
        SideBand::new(&mut out, BandSize::Large).write_all(b"PACK").expect("memory can be written");
        assert_eq!(out, b"");
    }

    #[test]
    fn parts_of_files_come_between_what_is_written() {
        let path = std::env::temp_dir().join(format!("sideband-{}", std::process::id()));
        let content: Vec<u8> = (0..200_000u32).map(|byte| (byte / 7) as u8).collect();
        std::fs::write(&path, &content).expect("the temporary directory can be written");
        let file = File::open(&path).expect("it was just written");
        std::fs::remove_file(&path).expect("it was just written");
        for size in [BandSize::Small, BandSize::Large] {
            for range in [0..0, 5..6, 0..16383, 0..16384, 1..65516, 0..65516, 3..200_000] {
                let mut out = Vec::new();
                let mut band = SideBand::new(&mut out, size);
                band.write_all(b"before").expect("memory can be written");
                band.send_file(&file, range.clone()).expect("the range is in the file");
                band.write_all(b"behind").expect("memory can be written");
                band.flush().expect("memory can be written");
                let part = &content[range.start as usize..range.end as usize];
                let (bands, sizes) = bands(&out);
                assert!(bands[0] == [b"before", part, b"behind"].concat(), "{size:?} {range:?}");
                assert!(sizes.iter().all(|&sent| (1..=size.data_max()).contains(&sent)), "{size:?} {range:?}");
            }
        }
        let mut out = Vec::new();
        let short = SideBand::new(&mut out, BandSize::Small).send_file(&file, 199_999..200_001);
        assert_eq!(short.expect_err("the file is shorter").kind(), io::ErrorKind::UnexpectedEof);
    }
}

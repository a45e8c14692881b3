//! The body of a request: of a given length or until the end of input, plain or gzip, within limits, always read to its
//! end.
//!
//! In: the edge's standard input and what the request says about its body. Out: a [`Body`]. Never reads past
//! CONTENT_LENGTH (a server may keep the pipe open after it) and never lets the answer start before the body has ended.

use crate::protocol::Limits;
use crate::stream::{Body, Input};
use flate2::{Decompress, FlushDecompress, Status};
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// No body: standard input is never touched.
    None,
    /// Exactly this many bytes, counted as they arrive.
    Exact(u64),
    /// Until the end of the stream.
    ToEnd,
}

/// Why reading a body failed, in words for the client; callers find it as the source of an [`io::Error`].
#[derive(Debug)]
pub enum BodyError {
    /// More bytes arrived than this limit allows.
    TooLarge(u64),
    /// The body inflates to more than this limit allows.
    InflatesTooLarge(u64),
    /// The body ended this many bytes before CONTENT_LENGTH.
    Short(u64),
    /// The gzip stream ended early.
    GzipTruncated,
    /// The body is not a gzip stream, or a damaged one.
    GzipBroken,
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BodyError::TooLarge(limit) => {
                write!(f, "request was larger than our maximum size ({limit}); try setting GIT_HTTP_MAX_REQUEST_BUFFER")
            }
            BodyError::InflatesTooLarge(limit) => {
                write!(f, "request inflates to more than our maximum size ({limit})")
            }
            BodyError::Short(missing) => write!(f, "the request ended {missing} bytes before its Content-Length"),
            BodyError::GzipTruncated => f.write_str("request ended in the middle of the gzip stream"),
            BodyError::GzipBroken => f.write_str("zlib error inflating request"),
        }
    }
}

impl std::error::Error for BodyError {}

impl From<BodyError> for io::Error {
    fn from(error: BodyError) -> Self {
        // Not UnexpectedEof: readers take that for an ordinary end and report it in their own words.
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// How much of a refused body is read, so that the web server does not lose the answer.
#[derive(Debug, Clone, Copy)]
pub struct DrainBudget {
    /// The most bytes.
    pub bytes: u64,
    /// The longest time.
    pub time: Duration,
}

impl DrainBudget {
    /// The budget once access has been granted.
    pub fn granted(limits: &Limits) -> Self {
        DrainBudget { bytes: limits.drain_bytes, time: Duration::from_secs(limits.drain_s) }
    }

    /// The budget before that. It is shorter in time, so that a client without credentials cannot occupy a worker of
    /// the web server for long. It allows as many bytes, because nginx does not forward an answer that came before the
    /// whole request was read.
    pub fn strangers(limits: &Limits) -> Self {
        DrainBudget { bytes: limits.drain_bytes, time: Duration::from_secs(limits.strangers_drain_s) }
    }
}

/// The body of one HTTP request.
pub struct HttpBody<'a> {
    raw: Raw<'a>,
    /// `None` until the first bytes have been seen, and for a plain body.
    inflating: Option<Inflating>,
    announced_gzip: bool,
    started: bool,
    inflated: u64,
    inflated_max: u64,
    drain: DrainBudget,
    finished: Arc<AtomicBool>,
}

/// The bytes as they arrive.
struct Raw<'a> {
    input: &'a mut dyn Input,
    left: Extent,
    arrived: u64,
    arrived_max: u64,
    buffer: Vec<u8>,
    at: usize,
    ended: bool,
}

struct Inflating {
    header: Option<Vec<u8>>,
    zlib: Decompress,
    /// The checksum of everything inflated.
    crc: crc32fast::Hasher,
    done: bool,
    /// Bytes inflated in advance for a caller that asks for a few at a time; `left` is what remains of them.
    ahead: Vec<u8>,
    left: Range<usize>,
}

/// The decoder is several times as fast with this much room.
const AHEAD: usize = 16 << 10;
const BUFFER: usize = 64 << 10;

impl<'a> HttpBody<'a> {
    /// A body over `input`. `finished` is set once the body has been read to its end; the answer may start then.
    pub fn new(
        input: &'a mut dyn Input,
        extent: Extent,
        announced_gzip: bool,
        drain: DrainBudget,
        finished: Arc<AtomicBool>,
    ) -> Self {
        if extent == Extent::None {
            finished.store(true, Ordering::Relaxed);
        }
        let raw =
            Raw { input, left: extent, arrived: 0, arrived_max: u64::MAX, buffer: Vec::new(), at: 0, ended: false };
        HttpBody {
            raw,
            inflating: None,
            announced_gzip,
            started: false,
            inflated: 0,
            inflated_max: u64::MAX,
            drain,
            finished,
        }
    }

    /// Sets the most bytes that may arrive, and the most they may inflate to.
    pub fn limit(&mut self, arrived_max: u64, inflated_max: u64) {
        self.raw.arrived_max = arrived_max;
        self.inflated_max = inflated_max;
    }

    /// Sets how much of an unread body [`HttpBody::finish`] reads.
    pub fn drain_up_to(&mut self, budget: DrainBudget) {
        self.drain = budget;
    }

    /// The number of bytes that have arrived.
    pub fn arrived(&self) -> u64 {
        self.raw.arrived
    }

    fn start(&mut self) -> io::Result<()> {
        self.started = true;
        // Some servers drop Content-Encoding, so gzip is also recognised by its first two bytes, which cannot begin a
        // pkt-line.
        while self.raw.available().len() < 2 && self.raw.more()? {}
        if self.announced_gzip || self.raw.available().starts_with(&[0x1f, 0x8b]) {
            let zlib = Decompress::new(false);
            self.inflating = Some(Inflating {
                header: Some(Vec::new()),
                zlib,
                crc: crc32fast::Hasher::new(),
                done: false,
                ahead: Vec::new(),
                left: 0..0,
            });
        }
        Ok(())
    }

    /// Hands out bytes inflated in advance, or inflates more.
    fn inflate(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(inflating) = &mut self.inflating else { return Ok(0) };
        if inflating.left.is_empty() {
            if into.len() >= AHEAD {
                return self.inflate_into(into);
            }
            let mut ahead = std::mem::take(&mut inflating.ahead);
            ahead.resize(AHEAD, 0);
            let made = self.inflate_into(&mut ahead);
            if let Some(inflating) = &mut self.inflating {
                (inflating.ahead, inflating.left) = (ahead, 0..made?);
            }
        }
        let Some(Inflating { ahead, left, .. }) = &mut self.inflating else { return Ok(0) };
        let taken = left.start..left.end.min(left.start.saturating_add(into.len()));
        left.start = taken.end;
        into[..taken.len()].copy_from_slice(&ahead[taken.clone()]);
        Ok(taken.len())
    }

    fn inflate_into(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(inflating) = &mut self.inflating else { return Ok(0) };
        while let Some(header) = &mut inflating.header {
            if self.raw.available().is_empty() && !self.raw.more()? {
                return Err(BodyError::GzipTruncated.into());
            }
            header.push(self.raw.available()[0]);
            self.raw.at += 1;
            if gzip_header(header)? {
                inflating.header = None;
            }
        }
        loop {
            if inflating.done || into.is_empty() {
                return Ok(0);
            }
            let ended = self.raw.available().is_empty() && !self.raw.more()?;
            let (before_in, before_out) = (inflating.zlib.total_in(), inflating.zlib.total_out());
            let status = inflating
                .zlib
                .decompress(self.raw.available(), into, FlushDecompress::None)
                .map_err(|_| BodyError::GzipBroken)?;
            let taken = inflating.zlib.total_in() - before_in;
            let made = inflating.zlib.total_out() - before_out;
            self.raw.at += usize::try_from(taken).expect("no more is taken than a buffer holds");
            self.inflated += made;
            if self.inflated > self.inflated_max {
                return Err(BodyError::InflatesTooLarge(self.inflated_max).into());
            }
            let made = usize::try_from(made).expect("no more is made than the buffer holds");
            inflating.crc.update(&into[..made]);
            if status == Status::StreamEnd {
                inflating.done = true;
                let crc = std::mem::take(&mut inflating.crc).finalize();
                self.gzip_trailer(crc)?;
                return Ok(made);
            }
            if made > 0 {
                return Ok(made);
            }
            if ended {
                return Err(BodyError::GzipTruncated.into());
            }
        }
    }

    /// Checks the eight bytes after the stream, the checksum and length of its content (RFC 1952, 2.3.1). Without them
    /// the stream was cut off.
    fn gzip_trailer(&mut self, crc: u32) -> io::Result<()> {
        let mut trailer = Vec::with_capacity(8);
        while trailer.len() < 8 {
            if self.raw.available().is_empty() && !self.raw.more()? {
                return Err(BodyError::GzipTruncated.into());
            }
            let available = self.raw.available();
            let take = available.len().min(8 - trailer.len());
            trailer.extend_from_slice(&available[..take]);
            self.raw.at += take;
        }
        let length = self.inflated as u32; // modulo 2^32
        if trailer != [crc.to_le_bytes(), length.to_le_bytes()].concat() {
            return Err(BodyError::GzipBroken.into());
        }
        Ok(())
    }
}

/// Whether the gzip header (RFC 1952, 2.3) is complete. Called with one more byte each time; the header's length is
/// limited.
fn gzip_header(bytes: &[u8]) -> io::Result<bool> {
    const HEADER_MAX: usize = 4096;
    let broken = || io::Error::from(BodyError::GzipBroken);
    if bytes.len() > HEADER_MAX || !b"\x1f\x8b\x08"[..].starts_with(&bytes[..bytes.len().min(3)]) {
        return Err(broken());
    }
    let Some(&flags) = bytes.get(3) else { return Ok(false) };
    let mut at = 10;
    if flags & 0b100 != 0 {
        let Some(size) = bytes.get(at..at + 2) else { return Ok(false) };
        at += 2 + usize::from(u16::from_le_bytes([size[0], size[1]]));
    }
    for text in [0b1000, 0b1_0000] {
        if flags & text != 0 {
            let Some(end) = bytes.get(at..).and_then(|rest| rest.iter().position(|&byte| byte == 0)) else {
                return Ok(false);
            };
            at += end + 1;
        }
    }
    if flags & 0b10 != 0 {
        at += 2;
    }
    Ok(bytes.len() >= at)
}

impl Raw<'_> {
    fn available(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    /// Reads more into the buffer, after what is left in it; `false` at the end of the body.
    fn more(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.at);
        self.at = 0;
        let kept = self.buffer.len();
        self.buffer.resize(kept + self.room(), 0);
        let mut space = std::mem::take(&mut self.buffer);
        let read = self.read_raw(&mut space[kept..]);
        space.truncate(kept + *read.as_ref().unwrap_or(&0));
        self.buffer = space;
        read.map(|read| read > 0)
    }

    /// How much one read can bring: a small body gets a small buffer.
    fn room(&self) -> usize {
        match self.left {
            Extent::None => 0,
            Extent::Exact(left) => usize::try_from(left).map_or(BUFFER, |left| left.min(BUFFER)),
            Extent::ToEnd => BUFFER,
        }
    }

    /// Reads once from the input, never past the extent.
    fn read_raw(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.read_raw_until(into, None).map(Option::unwrap_or_default)
    }

    /// Like [`Raw::read_raw`], but returns `None` if nothing has come by `until`.
    fn read_raw_until(&mut self, into: &mut [u8], until: Option<Instant>) -> io::Result<Option<usize>> {
        let room = match self.left {
            Extent::None | Extent::Exact(0) => 0,
            Extent::Exact(left) => usize::try_from(left).map_or(into.len(), |left| left.min(into.len())),
            Extent::ToEnd => into.len(),
        };
        if room == 0 || self.ended {
            self.ended = true;
            return Ok(Some(0));
        }
        let read = match until {
            Some(until) => self.input.read_until(&mut into[..room], until)?,
            None => Some(self.input.read(&mut into[..room])?),
        };
        let Some(read) = read else { return Ok(None) };
        self.arrived += read as u64;
        if let Extent::Exact(left) = &mut self.left {
            if read == 0 {
                self.ended = true;
                return Err(BodyError::Short(*left).into());
            }
            *left -= read as u64;
        }
        self.ended = read == 0;
        if self.arrived > self.arrived_max {
            return Err(BodyError::TooLarge(self.arrived_max).into());
        }
        Ok(Some(read))
    }
}

impl Read for HttpBody<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.started {
            self.start()?;
        }
        if self.inflating.is_some() {
            return self.inflate(into);
        }
        if self.raw.available().is_empty() {
            if into.len() >= BUFFER {
                return self.raw.read_raw(into);
            }
            self.raw.more()?;
        }
        let size = self.raw.available().len().min(into.len());
        into[..size].copy_from_slice(&self.raw.available()[..size]);
        self.raw.at += size;
        Ok(size)
    }
}

impl Body for HttpBody<'_> {
    fn finish(&mut self) -> io::Result<u64> {
        if self.finished.load(Ordering::Relaxed) {
            return Ok(0);
        }
        let (mut behind, mut broken) = (0, None);
        if self.inflating.as_ref().is_some_and(|inflating| !inflating.done || !inflating.left.is_empty()) {
            // Whatever else the gzip stream holds counts as left over; one more byte is enough to know.
            match self.inflate(&mut [0; 1]) {
                Ok(more) => behind += more as u64,
                Err(error) => broken = Some(error),
            }
        } else if self.inflating.is_none() {
            behind += self.raw.available().len() as u64;
        }
        self.raw.buffer = Vec::new();
        self.raw.at = 0;
        self.raw.arrived_max = u64::MAX;
        let until = Instant::now().checked_add(self.drain.time);
        let mut drained = 0_u64;
        let mut space = vec![0; self.raw.room()];
        let outcome = loop {
            match self.raw.read_raw_until(&mut space, until) {
                // Anything that is still to come is left to the web server: most servers deliver the answer anyway.
                Ok(None | Some(0)) => break Ok(()),
                Ok(Some(read)) => drained += read as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
            if drained > self.drain.bytes || until.is_some_and(|until| Instant::now() >= until) {
                break Ok(());
            }
        };
        self.raw.ended = true;
        self.finished.store(true, Ordering::Relaxed);
        if self.inflating.is_none() {
            behind += drained;
        }
        outcome.and_then(|()| broken.map_or(Ok(behind), Err))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Gives one byte at a time, and fails when read past its end while `open`.
    struct Stingy<'a> {
        bytes: &'a [u8],
        open: bool,
    }

    impl Input for Stingy<'_> {}

    impl Read for Stingy<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            match (self.bytes.split_first(), into.first_mut()) {
                (Some((&first, rest)), Some(place)) => {
                    *place = first;
                    self.bytes = rest;
                    Ok(1)
                }
                (None, Some(_)) if self.open => panic!("read past the end of the body: a server may never close it"),
                _ => Ok(0),
            }
        }
    }

    fn read(bytes: &[u8], open: bool, extent: Extent, gzip: bool, limits: (u64, u64)) -> (String, Arc<AtomicBool>) {
        let mut input = Stingy { bytes, open };
        let finished = Arc::new(AtomicBool::new(false));
        let drain = DrainBudget { bytes: 1 << 20, time: Duration::from_secs(10) };
        let mut body = HttpBody::new(&mut input, extent, gzip, drain, Arc::clone(&finished));
        body.limit(limits.0, limits.1);
        let mut text = String::new();
        let got = match body.read_to_string(&mut text) {
            Ok(_) => text,
            Err(error) => format!("{text}!{error}"),
        };
        let behind = body.finish().map_or_else(|error| error.to_string(), |behind| behind.to_string());
        (format!("{got}/{behind}"), finished)
    }

    fn check(bytes: &[u8], extent: Extent, gzip: bool, expected: &str) {
        let open = matches!(extent, Extent::Exact(_)) && !expected.contains("Content-Length");
        let (got, finished) = read(bytes, open, extent, gzip, (u64::MAX, u64::MAX));
        assert_eq!(got, expected, "{}", bytes.escape_ascii());
        assert!(finished.load(Ordering::Relaxed), "after finish the reply may speak");
    }

    fn gzipped(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn it_never_reads_past_its_length() {
        check(b"hello", Extent::Exact(5), false, "hello/0");
        check(b"hello and more", Extent::Exact(5), false, "hello/0");
        check(b"", Extent::Exact(0), false, "/0");
        check(b"anything", Extent::None, false, "/0");
    }

    #[test]
    fn without_a_length_it_goes_to_the_end() {
        check(b"hello", Extent::ToEnd, false, "hello/0");
        check(b"", Extent::ToEnd, false, "/0");
    }

    #[test]
    fn a_short_body_is_an_error_not_an_end() {
        check(b"hel", Extent::Exact(5), false, "hel!the request ended 2 bytes before its Content-Length/0");
    }

    #[test]
    fn gzip_is_known_by_its_header_or_its_first_bytes() {
        let bytes = gzipped(b"hello");
        check(&bytes, Extent::Exact(bytes.len() as u64), true, "hello/0");
        check(&bytes, Extent::Exact(bytes.len() as u64), false, "hello/0");
        check(&bytes, Extent::ToEnd, true, "hello/0");
    }

    #[test]
    fn what_follows_the_first_gzip_member_is_ignored() {
        let bytes = [gzipped(b"hello"), b"rubbish".to_vec()].concat();
        check(&bytes, Extent::ToEnd, true, "hello/0");
    }

    #[test]
    fn a_cut_or_broken_gzip_stream_is_an_error() {
        let bytes = gzipped(b"hello");
        for cut in 0..bytes.len() {
            let (got, _) = read(&bytes[..cut], false, Extent::ToEnd, true, (u64::MAX, u64::MAX));
            assert!(got.contains("!request ended in the middle of the gzip stream"), "{cut}: {got}");
        }
        let (got, _) = read(b"0000", false, Extent::ToEnd, true, (u64::MAX, u64::MAX));
        assert!(got.contains("zlib error inflating request"), "{got}");
        // The last bytes are the checksum and the length.
        for at in bytes.len() - 8..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            let (got, _) = read(&bytes, false, Extent::ToEnd, true, (u64::MAX, u64::MAX));
            assert!(got.contains("zlib error inflating request"), "{at}: {got}");
        }
        // Zlib streams and raw deflate streams are not gzip streams (BO-06).
        let (got, _) = read(b"\x78\x9c\x03\x00", false, Extent::ToEnd, true, (u64::MAX, u64::MAX));
        assert!(got.contains("zlib error inflating request"), "{got}");
    }

    #[test]
    fn what_stands_behind_a_gzip_stream_is_verified_where_nobody_reads_so_far() {
        for size in [5, AHEAD, 2 * AHEAD, BUFFER] {
            let mut bytes = gzipped(&vec![b'a'; size]);
            *bytes.last_mut().unwrap() ^= 1;
            let (mut input, finished) = (bytes.as_slice(), Arc::new(AtomicBool::new(false)));
            let drain = DrainBudget { bytes: 1 << 20, time: Duration::from_secs(10) };
            let mut body = HttpBody::new(&mut input, Extent::ToEnd, true, drain, finished);
            let mut all = vec![0; size];
            let outcome = body.read_exact(&mut all).and_then(|()| body.finish());
            assert!(outcome.is_err(), "{size}");
        }
    }

    #[test]
    fn limits_count_what_arrives_and_what_it_inflates_to() {
        let check = |bytes: &[u8], limits, expected: &str| {
            let (got, _) = read(bytes, false, Extent::ToEnd, false, limits);
            assert!(got.contains(expected), "{got}");
        };
        check(b"12345", (5, 5), "12345/0");
        check(b"123456", (5, 5), "maximum size (5)");
        check(&gzipped(b"12345"), (u64::MAX, 5), "12345/");
        check(&gzipped(b"123456"), (u64::MAX, 5), "inflates to more than our maximum size (5)");
        let bomb = gzipped(&vec![b'a'; 1 << 20]);
        check(&bomb, (u64::MAX, 1 << 16), "inflates to more than our maximum size (65536)");
    }

    #[test]
    fn finish_says_how_much_came_behind() {
        let mut input: &[u8] = b"0000rest";
        let finished = Arc::new(AtomicBool::new(false));
        let drain = DrainBudget { bytes: 1 << 20, time: Duration::from_secs(10) };
        let mut body = HttpBody::new(&mut input, Extent::Exact(8), false, drain, finished);
        body.read_exact(&mut [0; 4]).unwrap();
        assert_eq!(body.finish().unwrap(), 4);
        assert_eq!(body.finish().unwrap(), 0, "twice is harmless");
    }

    /// Always has more, or stalls; records how much was taken and how long each read was willing to wait.
    #[derive(Default)]
    struct Endless {
        taken: u64,
        stalls: bool,
        waits: Vec<Duration>,
    }

    impl Read for Endless {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.taken += into.len() as u64;
            Ok(into.len())
        }
    }

    impl Input for Endless {
        fn read_until(&mut self, into: &mut [u8], until: Instant) -> io::Result<Option<usize>> {
            self.waits.push(until.saturating_duration_since(Instant::now()));
            if self.stalls { Ok(None) } else { self.read(into).map(Some) }
        }
    }

    #[test]
    fn who_has_shown_nothing_is_listened_to_for_a_short_time() {
        let limits = Limits { drain_bytes: 100 << 20, ..Limits::default() };
        let finish = |input: &mut Endless, granted: bool| {
            let (strangers, finished) = (DrainBudget::strangers(&limits), Arc::new(AtomicBool::new(false)));
            let mut body = HttpBody::new(input, Extent::ToEnd, false, strangers, Arc::clone(&finished));
            if granted {
                body.drain_up_to(DrainBudget::granted(&limits));
            }
            body.finish().unwrap();
            assert!(finished.load(Ordering::Relaxed), "the answer goes out nevertheless");
        };
        for (granted, seconds) in [(false, limits.strangers_drain_s), (true, limits.drain_s)] {
            let (mut input, bytes) = (Endless::default(), limits.drain_bytes);
            finish(&mut input, granted);
            assert!((bytes + 1..=bytes + BUFFER as u64).contains(&input.taken), "{granted}: {}", input.taken);
            let mut input = Endless { stalls: true, ..Endless::default() };
            finish(&mut input, granted);
            let [wait] = input.waits[..] else { panic!("{granted}: {:?}", input.waits) };
            assert!(wait.as_secs() + 1 >= seconds && wait <= Duration::from_secs(seconds), "{granted}: {wait:?}");
        }
        assert!(limits.strangers_drain_s <= 10);
    }

    #[test]
    fn what_was_inflated_ahead_is_handed_out_in_its_turn() {
        let content: Vec<u8> = (0..50_000_u32).flat_map(|n| (n / 3).to_le_bytes()).collect();
        let bytes = gzipped(&content);
        for steps in [&[1, 4, 50, 3][..], &[AHEAD - 1, AHEAD, 1], &[AHEAD + 7], &[4, 2 * AHEAD, 0]] {
            let mut input = &bytes[..];
            let finished = Arc::new(AtomicBool::new(false));
            let drain = DrainBudget { bytes: 1 << 20, time: Duration::from_secs(10) };
            let mut body = HttpBody::new(&mut input, Extent::ToEnd, true, drain, finished);
            let (mut got, mut room) = (Vec::new(), vec![0; 3 * AHEAD]);
            for step in steps.iter().cycle() {
                let read = body.read(&mut room[..*step]).unwrap();
                got.extend_from_slice(&room[..read]);
                if read == 0 && *step > 0 {
                    break;
                }
            }
            assert!(got == content, "{steps:?}");
            assert_eq!(body.finish().unwrap(), 0);
        }
        let mut input = &bytes[..];
        let drain = DrainBudget { bytes: 1 << 20, time: Duration::from_secs(10) };
        let mut body = HttpBody::new(&mut input, Extent::ToEnd, true, drain, Arc::new(AtomicBool::new(false)));
        body.read_exact(&mut [0; 4]).unwrap();
        assert!(body.finish().unwrap() > 0, "what nobody has asked for came behind");
    }

    #[test]
    fn a_gzip_header_with_every_field_is_understood() {
        let plain = gzipped(b"hello");
        let mut bytes = b"\x1f\x8b\x08\x1e\0\0\0\0\0\x03".to_vec();
        bytes.extend_from_slice(b"\x03\0abc");
        bytes.extend_from_slice(b"name\0comment\0");
        bytes.extend_from_slice(b"\x12\x34");
        bytes.extend_from_slice(&plain[10..]);
        check(&bytes, Extent::ToEnd, true, "hello/0");
    }

    #[test]
    fn a_gzip_header_has_at_most_4096_bytes() {
        let named = |size: usize| {
            let mut bytes = b"\x1f\x8b\x08\x08\0\0\0\0\0\x03".to_vec();
            bytes.resize(size - 1, b'n');
            bytes.push(0);
            bytes.extend_from_slice(&gzipped(b"hello")[10..]);
            bytes
        };
        check(&named(4096), Extent::ToEnd, true, "hello/0");
        let refused = "!zlib error inflating request/zlib error inflating request";
        check(&named(4097), Extent::ToEnd, true, refused);
    }
}

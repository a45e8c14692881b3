//! Progress in git's words, keep-alives, and the heartbeat that drives both (PO-10, PO-12, UN-16).
//!
//! In: the steps of long work, through [`Pulse`] and [`Sink`]. Out: side-band packets. Band 1 never carries anything
//! but the bytes written and empty packets.

use crate::pack::PackStats;
use crate::pktline::{Band, BandSize, SideBand};
use crate::stream::{Pulse, Sink};
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::time::{Duration, Instant};

/// How often a line of progress is renewed.
const RENEWED: Duration = Duration::from_secs(1);

/// The most calls between two looks at the clock: a single step may be long, and reading the clock has a cost.
const CALLS_MAX: u32 = 64;

/// How many bytes of a raw answer are gathered before they are written.
const RAW_GATHERED: usize = 64 << 10;

/// If two looks at the clock are less than this apart, the calls between them are doubled.
const TOO_SOON: Duration = Duration::from_millis(5);

/// A clock.
pub type Clock<'a> = &'a (dyn Fn() -> Instant + Sync);

/// When the client is told something.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Seconds of silence before a keep-alive packet; 0 for never.
    pub keep_alive_s: u64,
    /// Whether stages are reported on band 2.
    pub progress: bool,
}

/// Keeps the client informed while long work runs: everything written goes to band 1, and each tick may send a line of
/// progress or a keep-alive packet. Without side bands the bytes go out raw, and nothing else can be sent.
pub struct Heartbeat<'a> {
    wire: Wire<'a>,
    pace: Pace,
    clock: Clock<'a>,
    /// When something was last sent to the client.
    heard: Instant,
    /// How many calls there are between looks at the clock, and how many of them are left.
    calls: u32,
    left: u32,
    looked: Instant,
    stage: Option<Stage>,
    awake: bool,
    /// The band on which an empty packet is harmless.
    empty: Band,
}

enum Wire<'a> {
    Bands(SideBand<'a>),
    Raw(Raw<'a>),
}

/// An answer without side bands; small writes are gathered here too.
struct Raw<'a> {
    out: &'a mut dyn Sink,
    gathered: Vec<u8>,
}

impl Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= RAW_GATHERED {
            self.send_gathered()?;
        }
        Ok(bytes.len())
    }

    fn send_gathered(&mut self) -> io::Result<()> {
        let sent = self.out.write_all(&self.gathered);
        self.gathered.clear();
        sent
    }
}

struct Stage {
    title: &'static str,
    total: Option<u64>,
    done: u64,
    told: Instant,
}

impl<'a> Heartbeat<'a> {
    /// Creates a heartbeat that writes to `out`, through side bands if `bands` is given.
    pub fn new(out: &'a mut dyn Sink, bands: Option<BandSize>, pace: Pace, clock: Clock<'a>) -> Self {
        let now = clock();
        let wire = match bands {
            Some(size) => Wire::Bands(SideBand::new(out, size)),
            None => Wire::Raw(Raw { out, gathered: Vec::new() }),
        };
        Heartbeat {
            wire,
            pace,
            clock,
            heard: now,
            calls: 1,
            left: 1,
            looked: now,
            stage: None,
            awake: true,
            empty: Band::Data,
        }
    }

    /// Creates a heartbeat for the work before the pack. It speaks only if the whole answer goes through side bands,
    /// and then on band 2 alone. Nothing may be written through it.
    pub fn before_pack(out: &'a mut dyn Sink, sideband_all: bool, pace: Pace, clock: Clock<'a>) -> Self {
        let bands = sideband_all.then_some(BandSize::Large);
        Heartbeat { empty: Band::Progress, ..Heartbeat::new(out, bands, pace, clock) }
    }

    /// Sets whether keep-alives and progress are sent. A push is silent while its body is read (RQ-12): `begin` and
    /// `tick` are recorded, but nothing is sent.
    pub fn set_awake(&mut self, awake: bool) {
        self.awake = awake;
        self.heard = (self.clock)();
    }

    /// Looks at the clock at the next call, however fast the previous calls were.
    pub fn look_again(&mut self) {
        (self.calls, self.left) = (1, 1);
    }

    /// Sends a message on band 2 as it is; without side bands it goes to the sink's `aside`.
    ///
    /// # Errors
    /// What the sink reports.
    pub fn message(&mut self, text: &[u8]) -> io::Result<()> {
        self.say(Band::Progress, text)
    }

    /// Sends what is gathered, and the flush packet that ends side bands.
    ///
    /// # Errors
    /// What the sink reports.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        match &mut self.wire {
            Wire::Bands(bands) => {
                crate::pktline::flush(bands.outside())?;
                bands.outside().flush()
            }
            Wire::Raw(_) => Ok(()),
        }
    }

    fn say(&mut self, band: Band, text: &[u8]) -> io::Result<()> {
        match &mut self.wire {
            Wire::Bands(bands) => {
                bands.send(band, text)?;
                self.heard = (self.clock)();
                Ok(())
            }
            Wire::Raw(raw) => raw.out.aside(text),
        }
    }

    fn heard_if(&mut self, heard: bool) {
        if heard {
            self.heard = (self.clock)();
        }
    }

    /// Counts one call. Looks at the clock every few calls, and sends what is due.
    fn beat(&mut self) -> io::Result<()> {
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            return Ok(());
        }
        let now = (self.clock)();
        self.calls =
            if now.saturating_duration_since(self.looked) < TOO_SOON { (self.calls * 2).min(CALLS_MAX) } else { 1 };
        (self.left, self.looked) = (self.calls, now);
        if !self.awake {
            return Ok(());
        }
        self.renew(now)?;
        let silence = Duration::from_secs(self.pace.keep_alive_s);
        if let Wire::Bands(bands) = &mut self.wire
            && !silence.is_zero()
            && now.saturating_duration_since(self.heard) >= silence
        {
            bands.keep_alive(self.empty)?;
            self.heard = now;
        }
        Ok(())
    }

    /// Sends the stage again once its line is old enough.
    fn renew(&mut self, now: Instant) -> io::Result<()> {
        let Some(stage) = &mut self.stage else {
            return Ok(());
        };
        if !self.pace.progress || now.saturating_duration_since(stage.told) < RENEWED {
            return Ok(());
        }
        stage.told = now;
        let line = stage.line("\r");
        self.say(Band::Progress, line.as_bytes())
    }
}

impl Stage {
    /// A line as git's progress.c writes it, with `end` as its ending.
    fn line(&self, end: &str) -> String {
        let Stage { title, done, .. } = self;
        match self.total.filter(|&total| total > 0) {
            Some(total) => {
                let percent = u128::from(*done) * 100 / u128::from(total);
                format!("{title}: {percent:3}% ({done}/{total}){end}")
            }
            None => format!("{title}: {done}{end}"),
        }
    }
}

impl Write for Heartbeat<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.wire {
            Wire::Bands(bands) => {
                let before = bands.packets();
                let written = bands.write(bytes)?;
                let heard = bands.packets() != before;
                self.heard_if(heard);
                written
            }
            Wire::Raw(raw) => raw.write(bytes)?,
        };
        self.beat()?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.wire {
            Wire::Bands(bands) => {
                bands.flush()?;
                self.heard_if(true);
                Ok(())
            }
            Wire::Raw(raw) => {
                raw.send_gathered()?;
                raw.out.flush()
            }
        }
    }
}

impl Pulse for Heartbeat<'_> {
    fn begin(&mut self, title: &'static str, total: Option<u64>) -> io::Result<()> {
        self.end()?;
        self.look_again();
        self.stage = Some(Stage { title, total, done: 0, told: (self.clock)() });
        Ok(())
    }

    fn tick(&mut self, done: u64) -> io::Result<()> {
        if let Some(stage) = &mut self.stage {
            stage.done = done;
        }
        match &mut self.wire {
            Wire::Bands(bands) => bands.tick(done)?,
            Wire::Raw(raw) => raw.out.tick(done)?,
        }
        self.beat()
    }

    fn end(&mut self) -> io::Result<()> {
        match self.stage.take() {
            Some(stage) if self.pace.progress && self.awake => {
                self.say(Band::Progress, stage.line(", done.\n").as_bytes())
            }
            _ => Ok(()),
        }
    }
}

impl Sink for Heartbeat<'_> {
    fn send_file(&mut self, file: &File, range: Range<u64>) -> io::Result<()> {
        match &mut self.wire {
            Wire::Bands(bands) => {
                let before = bands.packets();
                bands.send_file(file, range)?;
                let heard = bands.packets() != before;
                self.heard_if(heard);
            }
            Wire::Raw(raw) => {
                raw.send_gathered()?;
                raw.out.send_file(file, range)?;
            }
        }
        self.beat()
    }
}

/// Holds back the last byte written until the pack is known to be good. A pack without it is worthless to the client,
/// so that even a failure at the very end is noticed (PO-14).
pub struct HeldBack<'h, 'a> {
    heartbeat: &'h mut Heartbeat<'a>,
    held: Option<u8>,
}

impl<'h, 'a> HeldBack<'h, 'a> {
    /// Starts with nothing held back.
    pub fn new(heartbeat: &'h mut Heartbeat<'a>) -> Self {
        HeldBack { heartbeat, held: None }
    }

    /// Reports the totals of a fetch, in git's words (PO-10).
    ///
    /// # Errors
    /// What the sink reports.
    pub fn total(&mut self, stats: &PackStats) -> io::Result<()> {
        if !self.heartbeat.pace.progress {
            return Ok(());
        }
        let PackStats { objects, deltas, reused, reused_deltas, pack_reused, .. } = stats;
        let packs = u32::from(*pack_reused > 0);
        let total = format!(
            "Total {objects} (delta {deltas}), reused {reused} (delta {reused_deltas}), pack-reused {pack_reused} (from {packs})\n"
        );
        self.heartbeat.message(total.as_bytes())
    }

    /// Sends the byte held back: the pack is good.
    ///
    /// # Errors
    /// What the sink reports.
    pub fn release(self) -> io::Result<()> {
        match self.held {
            Some(byte) => {
                self.heartbeat.flush()?;
                self.heartbeat.write_all(&[byte])
            }
            None => Ok(()),
        }
    }

    fn give_way(&mut self) -> io::Result<()> {
        match self.held.take() {
            Some(byte) => self.heartbeat.write_all(&[byte]),
            None => Ok(()),
        }
    }
}

impl Write for HeldBack<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some((&last, before)) = bytes.split_last() {
            self.give_way()?;
            self.heartbeat.write_all(before)?;
            self.held = Some(last);
        }
        Ok(bytes.len())
    }

    /// Sends everything but the last byte.
    fn flush(&mut self) -> io::Result<()> {
        self.heartbeat.flush()
    }
}

impl Pulse for HeldBack<'_, '_> {
    fn begin(&mut self, title: &'static str, total: Option<u64>) -> io::Result<()> {
        self.heartbeat.begin(title, total)
    }

    fn tick(&mut self, done: u64) -> io::Result<()> {
        self.heartbeat.tick(done)
    }

    fn end(&mut self) -> io::Result<()> {
        self.heartbeat.end()
    }
}

impl Sink for HeldBack<'_, '_> {
    fn aside(&mut self, text: &[u8]) -> io::Result<()> {
        self.heartbeat.message(text)
    }

    fn send_file(&mut self, file: &File, range: Range<u64>) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        if range.is_empty() {
            return Ok(());
        }
        let mut last = [0];
        file.read_exact_at(&mut last, range.end - 1)?;
        self.give_way()?;
        self.heartbeat.send_file(file, range.start..range.end - 1)?;
        self.held = Some(last[0]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    /// Provides a clock that advances only when a test says so.
    fn with_clock<T>(work: impl FnOnce(Clock<'_>, &dyn Fn(u64)) -> T) -> T {
        let start = Instant::now();
        let passed = AtomicU64::new(0);
        let now = || start + Duration::from_millis(passed.load(Ordering::Relaxed));
        work(&now, &|millis| {
            passed.fetch_add(millis, Ordering::Relaxed);
        })
    }

    const LOUD: Pace = Pace { keep_alive_s: 5, progress: true };
    const QUIET: Pace = Pace { keep_alive_s: 5, progress: false };

    fn text(out: &[u8]) -> String {
        out.escape_ascii().to_string()
    }

    #[test]
    fn a_short_stage_is_told_once_in_gits_words() {
        with_clock(|clock, _| {
            let mut out = Vec::new();
            let mut heartbeat = Heartbeat::new(&mut out, Some(BandSize::Large), LOUD, clock);
            heartbeat.begin("Enumerating objects", None).expect("memory");
            heartbeat.tick(3).expect("memory");
            heartbeat.begin("Counting objects", Some(3)).expect("memory");
            heartbeat.tick(3).expect("memory");
            heartbeat.end().expect("memory");
            heartbeat.end().expect("memory");
            assert_eq!(
                text(&out),
                "0023\\x02Enumerating objects: 3, done.\\n0029\\x02Counting objects: 100% (3/3), done.\\n"
            );
        });
    }

    #[test]
    fn a_long_stage_is_told_again_every_second() {
        with_clock(|clock, wait| {
            let mut out = Vec::new();
            let mut heartbeat = Heartbeat::new(&mut out, Some(BandSize::Small), LOUD, clock);
            heartbeat.begin("Counting objects", Some(200)).expect("memory");
            for done in 1..=15 {
                wait(200);
                heartbeat.tick(done).expect("memory");
            }
            let told = text(&out);
            assert_eq!(told.matches("\\r").count(), 3, "{told}");
            assert!(told.starts_with("0024\\x02Counting objects:   2% (5/200)\\r"), "{told}");
        });
    }

    #[test]
    fn silence_ends_with_an_empty_packet() {
        with_clock(|clock, wait| {
            let mut out = Vec::new();
            let mut heartbeat = Heartbeat::new(&mut out, Some(BandSize::Large), QUIET, clock);
            heartbeat.begin("Counting objects", Some(9)).expect("memory");
            for done in 0..12 {
                wait(1000);
                heartbeat.tick(done).expect("memory");
            }
            assert_eq!(text(&out), "0005\\x010005\\x01");
        });
    }

    #[test]
    fn nothing_is_said_while_asleep_without_bands_or_where_keep_alives_are_off() {
        with_clock(|clock, wait| {
            let cases = [
                (Some(BandSize::Large), LOUD, false),
                (None, LOUD, true),
                (Some(BandSize::Large), Pace { keep_alive_s: 0, progress: false }, true),
            ];
            for (bands, pace, awake) in cases {
                let mut out = Vec::new();
                let mut heartbeat = Heartbeat::new(&mut out, bands, pace, clock);
                heartbeat.set_awake(awake);
                heartbeat.begin("Counting objects", Some(9)).expect("memory");
                for done in 0..12 {
                    wait(1000);
                    heartbeat.tick(done).expect("memory");
                }
                heartbeat.end().expect("memory");
                assert_eq!(text(&out), "", "{pace:?}");
            }
        });
    }

    #[test]
    fn gathered_data_goes_out_instead_of_an_empty_packet() {
        with_clock(|clock, wait| {
            let mut out = Vec::new();
            let mut heartbeat = Heartbeat::new(&mut out, Some(BandSize::Large), QUIET, clock);
            heartbeat.write_all(b"PACK").expect("memory");
            for _ in 0..4 {
                wait(2500);
                heartbeat.tick(1).expect("memory");
            }
            assert_eq!(text(&out), "0009\\x01PACK0005\\x01");
        });
    }

    #[test]
    fn quick_calls_look_at_the_clock_less_often_and_slow_ones_each_time() {
        with_clock(|clock, wait| {
            let looks = AtomicU32::new(0);
            let counting = || {
                looks.fetch_add(1, Ordering::Relaxed);
                clock()
            };
            let mut out = Vec::new();
            let mut heartbeat = Heartbeat::new(&mut out, Some(BandSize::Large), QUIET, &counting);
            for done in 0..100_000 {
                heartbeat.tick(done).expect("memory");
            }
            assert!(looks.load(Ordering::Relaxed) < 2000, "{}", looks.load(Ordering::Relaxed));
            looks.store(0, Ordering::Relaxed);
            for done in 0..200 {
                wait(100);
                heartbeat.tick(done).expect("memory");
            }
            assert!(looks.load(Ordering::Relaxed) > 100, "{}", looks.load(Ordering::Relaxed));
        });
    }

    #[test]
    fn the_last_byte_waits_until_the_pack_is_good() {
        with_clock(|clock, _| {
            let pack = |good: bool| {
                let mut out = Vec::new();
                let mut heartbeat = Heartbeat::new(&mut out, Some(BandSize::Large), QUIET, clock);
                let mut held = HeldBack::new(&mut heartbeat);
                held.write_all(b"PA").expect("memory");
                held.write_all(b"").expect("memory");
                held.write_all(b"CK").expect("memory");
                held.flush().expect("memory");
                if good {
                    held.release().expect("memory");
                    heartbeat.finish().expect("memory");
                } else {
                    heartbeat.say(Band::Error, b"no").expect("memory");
                }
                text(&out)
            };
            assert_eq!(pack(true), "0008\\x01PAC0006\\x01K0000");
            assert_eq!(pack(false), "0008\\x01PAC0007\\x03no");
        });
    }

    #[test]
    fn a_file_loses_its_last_byte_too() {
        with_clock(|clock, _| {
            let path = std::env::temp_dir().join(format!("heldback-{}", std::process::id()));
            std::fs::write(&path, b"xPACKx").expect("the temporary directory can be written");
            let file = File::open(&path).expect("it was just written");
            std::fs::remove_file(&path).expect("it was just written");
            let mut out = Vec::new();
            let mut heartbeat = Heartbeat::new(&mut out, None, QUIET, clock);
            let mut held = HeldBack::new(&mut heartbeat);
            held.send_file(&file, 1..5).expect("the range is in the file");
            held.send_file(&file, 5..5).expect("the range is empty");
            heartbeat.finish().expect("memory");
            assert_eq!(text(&out), "PAC");
        });
    }

    #[test]
    fn what_hooks_say_goes_to_band_2() {
        with_clock(|clock, _| {
            let mut out = Vec::new();
            let mut heartbeat = Heartbeat::new(&mut out, Some(BandSize::Large), QUIET, clock);
            heartbeat.message(b"no thanks\n").expect("memory");
            assert_eq!(text(&out), "000f\\x02no thanks\\n");
        });
    }
}

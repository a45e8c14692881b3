//! The cache alone: the bytes that go in come out, whatever happens to files and processes in between.

use super::entry::BLOCK_BYTES;
use super::folder::Begun;
use super::*;
use crate::durable;
use crate::stream::Pulse;
use std::fs;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;

/// Makes a file of every answer, and notices dead writers soon.
const EAGER: Patience = Patience {
    private: Duration::ZERO,
    noted: Duration::ZERO,
    silence: Duration::from_millis(300),
    sign: Duration::from_millis(40),
};

/// A directory that is removed after the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let path = std::env::temp_dir().join(durable::unique("cache-"));
        fs::create_dir(&path).expect("the temporary directory can be written");
        Scratch(path)
    }

    fn directory(&self) -> PathBuf {
        self.0.join("cache")
    }

    fn cache(&self) -> Cache {
        self.cache_of(1 << 30, EAGER)
    }

    fn cache_of(&self, bytes: u64, patience: Patience) -> Cache {
        let settings = Settings { directory: self.directory(), bytes, patience };
        Cache::open(&settings, 1 << 31).expect("it can be trusted").expect("it holds something")
    }

    /// The suffixes of the files in the directory, after their keys.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory()).into_iter().flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("it can be listed").file_name().to_string_lossy()[64..].to_owned())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn key(name: &str) -> Key {
    let mut maker = KeyMaker::default();
    maker.part("name", [name]);
    maker.key()
}

/// Bytes of which no two blocks are equal.
fn bytes(size: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..size).map(next).collect()
}

fn notes(number: u8) -> Notes {
    [number; NOTES_BYTES]
}

/// What the client received, and how the request ended.
fn ask(
    cache: &Cache,
    name: &str,
    make: &mut dyn FnMut(&mut dyn Sink) -> anyhow::Result<()>,
) -> (Vec<u8>, anyhow::Result<Role>) {
    let mut heard = Vec::new();
    let served = cache.serve(&key(name), &mut heard, &mut |sink, _| {
        make(sink)?;
        Ok(Made::Written(notes(7)))
    });
    let role = served.map(|(told, role)| {
        assert_eq!(told, notes(7));
        role
    });
    (heard, role)
}

/// Asks for an answer, making it if necessary.
fn ask_for(cache: &Cache, name: &str, answer: &[u8]) -> (Vec<u8>, Role) {
    let (heard, role) = ask(cache, name, &mut |sink| Ok(write_in_pieces(sink, answer)?));
    (heard, role.expect("it can be made"))
}

fn write_in_pieces(sink: &mut dyn Sink, answer: &[u8]) -> io::Result<()> {
    sink.begin("Working", None)?;
    for (at, piece) in answer.chunks(50_001).enumerate() {
        sink.tick(at as u64)?;
        sink.write_all(piece)?;
    }
    sink.tick(1)?;
    sink.end()
}

fn never(_: &mut dyn Sink) -> anyhow::Result<()> {
    panic!("this is not to be made again")
}

/// A file that was begun by a process that has died.
fn begun_by_the_dead(cache: &Cache, name: &str, answer: &[u8], blocks: usize) {
    let Begun::Ours(mut writer, _) = cache.begin(&key(name)) else { panic!("nothing is there") };
    for piece in answer.chunks(BLOCK_BYTES).take(blocks) {
        let mut block = super::entry::Block::new();
        block.take(piece);
        writer.block(&mut block).expect("there is room");
    }
}

#[test]
fn who_asks_again_gets_the_same_bytes_from_the_file() {
    let scratch = Scratch::new();
    let cache = scratch.cache();
    for size in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 5] {
        let (name, answer) = (size.to_string(), bytes(size));
        assert!(ask_for(&cache, &name, &answer) == (answer.clone(), Role::Led), "{size}");
        let (heard, role) = ask(&cache, &name, &mut never);
        assert!(heard == answer && role.expect("it is there") == Role::Hit, "{size}");
    }
    assert_eq!(scratch.files(), [""; 6]);
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&scratch.directory()), 0o700);
    assert_eq!(mode(&cache.path(&key("1"))), 0o600);
}

#[test]
fn what_is_small_and_soon_made_leaves_no_file() {
    let scratch = Scratch::new();
    let lazy = Patience { private: Duration::from_secs(3600), ..EAGER };
    let cache = scratch.cache_of(1 << 30, lazy);
    let answer = bytes(BLOCK_BYTES - 1);
    assert!(ask_for(&cache, "small", &answer) == (answer, Role::Missed));
    assert!(!scratch.directory().exists());
    let answer = bytes(BLOCK_BYTES);
    assert!(ask_for(&cache, "large", &answer) == (answer, Role::Led));
}

#[test]
fn parts_of_files_are_kept_as_what_is_written_is() {
    let scratch = Scratch::new();
    let answer = bytes(2 * BLOCK_BYTES + 9);
    let path = scratch.0.join("file");
    fs::write(&path, &answer).expect("there is room");
    let file = fs::File::open(&path).expect("it is there");
    let mut make = |sink: &mut dyn Sink| {
        sink.write_all(&answer[..100])?;
        sink.send_file(&file, 100..100)?;
        Ok(sink.send_file(&file, 100..answer.len() as u64)?)
    };
    for cache in [scratch.cache(), scratch.cache_of(1, EAGER)] {
        for _ in 0..2 {
            assert!(ask(&cache, "parts", &mut make).0 == answer);
        }
    }
}

#[test]
fn an_answer_that_lies_elsewhere_is_kept_as_its_notes() {
    let scratch = Scratch::new();
    let cache = scratch.cache();
    for expected in [Role::Led, Role::Hit] {
        let mut heard = Vec::new();
        let served = cache.serve(&key("elsewhere"), &mut heard, &mut |sink, may_refer| {
            assert!(may_refer && expected == Role::Led);
            sink.tick(1)?;
            Ok(Made::Elsewhere(notes(3)))
        });
        assert_eq!(served.expect("nothing is wrong"), (notes(3), expected));
        assert!(heard.is_empty());
    }
}

#[test]
fn where_an_answer_is_found_is_noted_if_it_took_time_to_find_out() {
    for (noted, expected) in [(Duration::ZERO, [Role::Led, Role::Hit]), (Duration::MAX, [Role::Missed; 2])] {
        let scratch = Scratch::new();
        let cache = scratch.cache_of(1 << 30, Patience { private: Duration::from_secs(3600), noted, ..EAGER });
        for role in expected {
            let make = &mut |_: &mut dyn Sink, _| Ok(Made::Elsewhere(notes(3)));
            let served = cache.serve(&key("elsewhere"), &mut Vec::new(), make);
            assert_eq!(served.expect("nothing is wrong"), (notes(3), role));
        }
    }
}

#[test]
fn every_part_and_value_of_a_key_counts_and_so_does_where_one_ends() {
    let of = |parts: &[(&str, &[&str])]| {
        let mut maker = KeyMaker::default();
        parts.iter().for_each(|(name, values)| maker.part(name, *values));
        maker.key()
    };
    let keys = [
        of(&[]),
        of(&[("a", &[])]),
        of(&[("b", &[])]),
        of(&[("a", &[""])]),
        of(&[("a", &["b"])]),
        of(&[("a", &["b", ""])]),
        of(&[("a", &["", "b"])]),
        of(&[("a", &[]), ("b", &[])]),
        of(&[("ab", &[])]),
        of(&[("a", &["bc"])]),
        of(&[("a", &["b", "c"])]),
        of(&[("a", &["b"]), ("c", &[])]),
    ];
    let different: std::collections::HashSet<_> = keys.iter().collect();
    assert_eq!(different.len(), keys.len());
    assert_eq!(of(&[("a", &["b"])]), keys[4]);
}

#[test]
fn a_flipped_or_missing_byte_is_never_given_out() {
    let scratch = Scratch::new();
    let cache = scratch.cache();
    let answer = bytes(2 * BLOCK_BYTES + 1000);
    ask_for(&cache, "x", &answer);
    let path = cache.path(&key("x"));
    let sound = fs::read(&path).expect("it was just kept");
    // Everywhere in the framing, and at some places in the content.
    let edges = [0, BLOCK_BYTES, 2 * BLOCK_BYTES].map(|at| at.saturating_sub(8)..at + 140);
    let ends = sound.len() - 100..sound.len();
    let places = edges.into_iter().flatten().chain(ends).chain((0..sound.len()).step_by(60_013));
    for place in places {
        let mut damaged = sound.clone();
        damaged[place] ^= 1 << (place % 8);
        fs::write(&path, &damaged).expect("there is room");
        let (heard, role) = ask_for(&cache, "x", &answer);
        assert!(heard == answer, "flipped at {place}: {role:?}");
        assert!(fs::read(&path).expect("it was made anew") == sound, "at {place}: {role:?}");
    }
    for length in (0..sound.len()).step_by(70_001).chain([sound.len() - 1]) {
        fs::write(&path, &sound[..length]).expect("there is room");
        assert!(ask_for(&cache, "x", &answer) == (answer.clone(), Role::Led), "cut at {length}");
    }
    let longer = [&sound[..], b"x"].concat();
    fs::write(&path, longer).expect("there is room");
    assert!(ask_for(&cache, "x", &answer) == (answer.clone(), Role::Led));
    // A valid answer for another key does not count.
    fs::copy(&path, cache.path(&key("y"))).expect("there is room");
    assert!(ask_for(&cache, "y", &answer) == (answer, Role::Led));
    assert_eq!(scratch.files(), ["", ""]);
}

#[test]
fn blocks_that_stand_in_each_others_place_are_never_given_out() {
    let scratch = Scratch::new();
    let cache = scratch.cache();
    let answer = bytes(2 * BLOCK_BYTES);
    ask_for(&cache, "swapped", &answer);
    let path = cache.path(&key("swapped"));
    let mut file = fs::read(&path).expect("it was kept");
    let begin = file.windows(8).position(|bytes| *bytes == answer[..8]).expect("the answer stands in it");
    let (one, other) = file[begin - 8..].split_at_mut(BLOCK_BYTES + 8);
    one.swap_with_slice(&mut other[..BLOCK_BYTES + 8]);
    fs::write(&path, file).expect("it is ours");
    assert!(ask_for(&cache, "swapped", &answer) == (answer, Role::Led));
}

#[test]
fn who_reads_along_goes_on_where_the_writer_died() {
    let answer = bytes(3 * BLOCK_BYTES + 5);
    for blocks in 0..=4 {
        let scratch = Scratch::new();
        let cache = scratch.cache();
        begun_by_the_dead(&cache, "x", &answer, blocks);
        let made = AtomicU32::new(0);
        let (heard, role) = ask(&cache, "x", &mut |sink| {
            made.fetch_add(1, Ordering::Relaxed);
            Ok(write_in_pieces(sink, &answer)?)
        });
        assert!(heard == answer, "{blocks}");
        assert_eq!((role.expect("it can be made"), made.into_inner()), (Role::Led, 1));
        assert_eq!(scratch.files(), [""]);
        assert!(ask(&cache, "x", &mut never).0 == answer);
    }
}

#[test]
fn whoever_goes_on_where_the_writer_died_says_why_that_cannot_be() {
    let answer = bytes(3 * BLOCK_BYTES);
    let scratch = Scratch::new();
    let cache = scratch.cache();
    begun_by_the_dead(&cache, "x", &answer, 2);
    let (heard, role) = ask(&cache, "x", &mut |_| anyhow::bail!("an object is missing"));
    assert!(heard == answer[..heard.len()] && !heard.is_empty());
    assert_eq!(role.expect_err("it cannot be made").to_string(), "an object is missing");
}

#[test]
fn a_writer_of_whom_nothing_is_known_is_dead_when_he_says_nothing() {
    let scratch = Scratch::new();
    let cache = scratch.cache();
    let answer = bytes(2 * BLOCK_BYTES);
    let Begun::Ours(writer, _) = cache.begin(&key("x")) else { panic!("nothing is there") };
    // Its writer holds the lock, but on another machine.
    let mut file = fs::read(writer.path()).expect("it was just begun");
    let end = file.len() - 4;
    file[end - 32..end].copy_from_slice(&[b'0'; 32]);
    let sum = crc32fast::hash(&file[..end]).to_le_bytes();
    file[end..].copy_from_slice(&sum);
    fs::write(writer.path(), &file).expect("there is room");
    let start = Instant::now();
    assert!(ask_for(&cache, "x", &answer) == (answer, Role::Led));
    assert!(start.elapsed() >= EAGER.silence);
}

#[test]
fn a_file_that_its_writer_has_removed_is_not_waited_for() {
    let scratch = Scratch::new();
    let patient = Patience { silence: Duration::from_secs(3600), ..EAGER };
    let cache = scratch.cache_of(1 << 30, patient);
    let answer = bytes(2 * BLOCK_BYTES);
    let Begun::Ours(writer, _) = cache.begin(&key("x")) else { panic!("nothing is there") };
    std::thread::scope(|scope| {
        let follower = scope.spawn(|| ask_for(&cache, "x", &answer));
        std::thread::sleep(Duration::from_millis(50));
        // The writer still holds the lock.
        cache.give_up(&writer);
        assert!(follower.join().expect("it goes on") == (answer.clone(), Role::Led));
    });
}

#[test]
fn a_pack_that_came_out_differently_is_not_glued_to_what_was_heard() {
    let scratch = Scratch::new();
    let answer = bytes(3 * BLOCK_BYTES);
    let mut other = answer.clone();
    other[BLOCK_BYTES + 1] ^= 1;
    for (number, other) in
        [&other[..], &answer[..BLOCK_BYTES], &answer[..BLOCK_BYTES + 100], &[]].into_iter().enumerate()
    {
        // Both with and without a file.
        for bytes in [1 << 30, 1] {
            let cache = scratch.cache_of(bytes, EAGER);
            let name = format!("{number} {bytes}");
            begun_by_the_dead(&cache, &name, &answer, 2);
            let (heard, role) = ask(&cache, &name, &mut |sink| Ok(write_in_pieces(sink, other)?));
            assert!(role.expect_err("it is another one").is::<Differs>(), "{name}");
            assert!(heard == answer[..2 * BLOCK_BYTES], "{name}");
        }
    }
}

#[test]
fn others_read_along_while_one_writes() {
    let scratch = Scratch::new();
    let cache = scratch.cache();
    let answer = bytes(6 * BLOCK_BYTES + 3);
    let (begun, has_begun) = mpsc::channel();
    let slowly = |sink: &mut dyn Sink| {
        for piece in answer.chunks(BLOCK_BYTES / 2) {
            sink.write_all(piece)?;
            let _ = begun.send(());
            std::thread::sleep(Duration::from_millis(30));
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let leader = scope.spawn(|| ask(&cache, "x", &mut |sink| slowly(sink)));
        has_begun.recv().expect("it begins");
        let followers: Vec<_> = (0..4).map(|_| scope.spawn(|| ask(&cache, "x", &mut never))).collect();
        for follower in followers {
            let (heard, role) = follower.join().expect("nothing is made");
            assert!(heard == answer && role.expect("it comes to its end") == Role::Followed);
        }
        let (heard, role) = leader.join().expect("it is made");
        assert!(heard == answer && role.expect("it is made") == Role::Led);
    });
}

/// A client that runs `each` at every write.
struct Client<'c> {
    heard: Vec<u8>,
    each: &'c mut (dyn FnMut(usize) -> io::Result<()> + Send),
}

impl Write for Client<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.each)(self.heard.len())?;
        self.heard.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pulse for Client<'_> {
    fn tick(&mut self, _done: u64) -> io::Result<()> {
        (self.each)(self.heard.len())
    }
}

impl Sink for Client<'_> {}

/// What the client received, with the role.
fn ask_as(
    cache: &Cache,
    each: &mut (dyn FnMut(usize) -> io::Result<()> + Send),
    make: &mut Make<'_>,
) -> (Vec<u8>, anyhow::Result<Role>) {
    let mut client = Client { heard: Vec::new(), each };
    let served = cache.serve(&key("x"), &mut client, make);
    (client.heard, served.map(|(_, role)| role))
}

#[test]
fn a_slow_client_does_not_hold_up_the_work() {
    let scratch = Scratch::new();
    let cache = scratch.cache();
    let answer = bytes(8 * BLOCK_BYTES);
    let (done, is_done) = mpsc::channel();
    let mut waits = Some(is_done);
    let (heard, role) = ask_as(
        &cache,
        &mut |length| {
            // The client takes nothing until everything has been made.
            if length > 0
                && let Some(is_done) = waits.take()
            {
                is_done.recv_timeout(Duration::from_secs(30)).map_err(|_| io::Error::other("the work waits for us"))?;
            }
            Ok(())
        },
        &mut |sink, _| {
            write_in_pieces(sink, &answer)?;
            let _ = done.send(());
            Ok(Made::Written(notes(1)))
        },
    );
    assert!(heard == answer && role.expect("it is made") == Role::Led);
}

#[test]
fn the_work_ends_when_its_client_leaves_and_others_go_on() {
    let scratch = Scratch::new();
    let cache = scratch.cache();
    let answer = bytes(6 * BLOCK_BYTES);
    let (begun, has_begun) = mpsc::channel();
    let leaves = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let leader = scope.spawn(|| {
            let mut each =
                |_| if leaves.load(Ordering::Relaxed) { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) };
            ask_as(&cache, &mut each, &mut |sink, _| {
                write_in_pieces(sink, &answer[..3 * BLOCK_BYTES])?;
                let _ = begun.send(());
                loop {
                    sink.tick(1)?;
                    std::thread::sleep(Duration::from_millis(1));
                }
            })
        });
        has_begun.recv().expect("it begins");
        let follower = scope.spawn(|| ask_for(&cache, "x", &answer));
        std::thread::sleep(Duration::from_millis(100));
        leaves.store(true, Ordering::Relaxed);
        let left = leader.join().expect("it ends").1.expect_err("its client has left");
        assert_eq!(left.downcast::<io::Error>().expect("it is the client's").kind(), io::ErrorKind::BrokenPipe);
        assert!(follower.join().expect("it goes on") == (answer.clone(), Role::Led));
    });
    assert_eq!(scratch.files(), [""]);
}

#[test]
fn what_cannot_be_made_is_tried_by_each_for_himself_and_leaves_nothing() {
    let scratch = Scratch::new();
    let cache = scratch.cache();
    let answer = bytes(3 * BLOCK_BYTES);
    let (begun, has_begun) = mpsc::channel();
    let fails = |sink: &mut dyn Sink| {
        write_in_pieces(sink, &answer[..2 * BLOCK_BYTES])?;
        let _ = begun.send(());
        std::thread::sleep(Duration::from_millis(100));
        anyhow::bail!("an object is corrupt")
    };
    std::thread::scope(|scope| {
        let leader = scope.spawn(|| ask(&cache, "x", &mut |sink| fails(sink)));
        has_begun.recv().expect("it begins");
        let followers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    ask(&cache, "x", &mut |sink| {
                        assert!(!cache.part_path(&key("x")).exists(), "nobody makes a file of this");
                        write_in_pieces(sink, &answer[..2 * BLOCK_BYTES])?;
                        anyhow::bail!("an object is corrupt")
                    })
                })
            })
            .collect();
        for asker in std::iter::once(leader).chain(followers) {
            let (heard, role) = asker.join().expect("nobody panics");
            assert!(heard.len() <= 2 * BLOCK_BYTES && answer.starts_with(&heard));
            assert_eq!(role.expect_err("it fails").to_string(), "an object is corrupt");
        }
    });
    assert!(scratch.files().is_empty());
}

#[test]
fn work_that_panics_hangs_nobody() {
    let scratch = Scratch::new();
    let cache = scratch.cache();
    let answer = bytes(3 * BLOCK_BYTES);
    let panics = || {
        ask(&cache, "x", &mut |sink| {
            write_in_pieces(sink, &answer)?;
            panic!("as it is asked to")
        })
    };
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
    assert!(ask_for(&cache, "x", &answer) == (answer, Role::Led));
}

#[test]
fn the_directory_may_vanish_at_any_moment() {
    let answer = bytes(5 * BLOCK_BYTES + 1);
    for moment in 0..6 {
        let scratch = Scratch::new();
        let cache = scratch.cache();
        let vanish = || drop(fs::remove_dir_all(scratch.directory()));
        let (heard, role) = ask(&cache, "x", &mut |sink| {
            for (number, piece) in answer.chunks(BLOCK_BYTES).enumerate() {
                if number == moment {
                    vanish();
                }
                sink.write_all(piece)?;
            }
            Ok(())
        });
        let expected = if moment == 0 { Role::Led } else { Role::Missed };
        assert!(heard == answer && role.expect("it is made") == expected, "{moment}");
        ask_for(&cache, "x", &answer);
        let gone = AtomicBool::new(false);
        let mut each = |length: usize| {
            if length / BLOCK_BYTES == moment && !gone.swap(true, Ordering::Relaxed) {
                vanish();
            }
            Ok(())
        };
        let (heard, role) = ask_as(&cache, &mut each, &mut |_, _| panic!("it is there"));
        assert!(heard == answer && role.expect("it is there") == Role::Hit, "{moment}");
    }
}

#[test]
fn what_nobody_asked_for_lately_goes_when_the_size_is_reached() {
    let scratch = Scratch::new();
    let entry = (2 * BLOCK_BYTES) as u64;
    let cache = scratch.cache_of(3 * entry + entry / 2, EAGER);
    let answer = bytes(2 * BLOCK_BYTES);
    let minutes_ago = |minutes: u64| SystemTime::now() - Duration::from_secs(60 * minutes);
    for (name, minutes) in [("a", 50), ("b", 40), ("c", 30)] {
        ask_for(&cache, name, &answer);
        let file = fs::File::options().write(true).open(cache.path(&key(name))).expect("it was kept");
        file.set_modified(minutes_ago(minutes)).expect("it is ours");
    }
    let stray = scratch.directory().join("somebody-else's");
    fs::write(&stray, bytes(4 * BLOCK_BYTES)).expect("there is room");
    // The oldest is asked for again. The test's clock is far ahead, so every hit updates the file's time.
    assert!(ask(&cache, "a", &mut never).1.is_ok());
    ask_for(&cache, "d", &answer);
    let there = |name: &str| cache.path(&key(name)).exists();
    assert_eq!(["a", "b", "c", "d"].map(there), [true, false, true, true]);
    assert!(stray.exists());
    // Files of dead processes are removed too, after a while.
    begun_by_the_dead(&cache, "e", &answer, 1);
    let part = cache.part_path(&key("e"));
    ask_for(&cache, "f", &answer);
    assert!(part.exists());
    fs::File::options()
        .write(true)
        .open(&part)
        .and_then(|file| file.set_modified(minutes_ago(60)))
        .expect("it is ours");
    ask_for(&cache, "g", &answer);
    assert!(!part.exists());
}

#[test]
fn many_small_answers_take_no_more_than_all_may_together() {
    let scratch = Scratch::new();
    let answer = bytes(1000);
    ask_for(&scratch.cache(), "0", &answer);
    let size = fs::metadata(scratch.cache().path(&key("0"))).expect("it was kept").len();
    let cache = scratch.cache_of(20 * size, EAGER);
    for number in 1..60 {
        assert_eq!(ask_for(&cache, &number.to_string(), &answer).1, Role::Led);
        assert_eq!(scratch.files().len(), 20.min(number + 1), "{number}");
    }
}

#[test]
fn what_is_larger_than_all_that_may_be_kept_is_not_and_who_reads_along_helps_himself() {
    let scratch = Scratch::new();
    let cache = scratch.cache_of(3 * BLOCK_BYTES as u64, EAGER);
    let answer = bytes(10 * BLOCK_BYTES + 7);
    let (begun, has_begun) = mpsc::channel();
    let make = |sink: &mut dyn Sink| {
        sink.write_all(&answer[..BLOCK_BYTES])?;
        let _ = begun.send(());
        std::thread::sleep(Duration::from_millis(100));
        Ok(sink.write_all(&answer[BLOCK_BYTES..])?)
    };
    std::thread::scope(|scope| {
        let leader = scope.spawn(|| ask(&cache, "x", &mut |sink| make(sink)));
        has_begun.recv().expect("it begins");
        let follower = scope.spawn(|| {
            ask(&cache, "x", &mut |sink| {
                write_in_pieces(sink, &answer[..2 * BLOCK_BYTES])?;
                assert!(!cache.part_path(&key("x")).exists(), "nobody makes a file of this again");
                Ok(sink.write_all(&answer[2 * BLOCK_BYTES..])?)
            })
        });
        for asker in [leader, follower] {
            let (heard, role) = asker.join().expect("it is made");
            assert!(heard == answer && role.expect("it is made") == Role::Missed);
        }
    });
    assert!(scratch.files().is_empty());
}

#[test]
fn a_directory_that_is_open_to_everybody_is_not_trusted() {
    let scratch = Scratch::new();
    let settings = |bytes| Settings { directory: scratch.directory(), bytes, patience: EAGER };
    assert!(Cache::open(&settings(0), 0).expect("it is off").is_none());
    assert!(Cache::open(&settings(1), 0).expect("it may be made").is_some());
    fs::create_dir(scratch.directory()).expect("the scratch is ours");
    for (mode, trusted) in [(0o700, true), (0o775, true), (0o777, false), (0o1777, false)] {
        fs::set_permissions(scratch.directory(), fs::Permissions::from_mode(mode)).expect("it is ours");
        let opened = Cache::open(&settings(1), 0);
        assert_eq!(opened.is_ok(), trusted, "{mode:o}");
    }
    fs::remove_dir(scratch.directory()).expect("it is empty");
    fs::write(scratch.directory(), "").expect("there is room");
    assert!(Cache::open(&settings(1), 0).expect_err("it is none").contains("is no directory"));
}

#[test]
fn what_is_no_file_holds_nobody_up() {
    let scratch = Scratch::new();
    let cache = scratch.cache();
    let make = |sink: &mut dyn Sink| Ok(sink.write_all(b"made")?);
    assert!(ask(&cache, "a", &mut { make }).1.is_ok());
    for behind in ["", ".part"] {
        let path = scratch.directory().join(format!("{}{behind}", key("a")));
        let _ = fs::remove_file(&path);
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo is there");
        assert!(made.success());
        let (heard, role) = ask(&cache, "a", &mut { make });
        assert!(heard == b"made" && role.is_ok(), "{behind:?}: {role:?}");
    }
}

#[test]
fn a_link_to_a_file_is_not_followed() {
    let scratch = Scratch::new();
    let cache = scratch.cache();
    ask_for(&cache, "a", b"made");
    let (path, aside) = (cache.path(&key("a")), scratch.0.join("aside"));
    fs::rename(&path, &aside).expect("it was kept");
    std::os::unix::fs::symlink(&aside, &path).expect("there is room");
    assert_eq!(ask_for(&cache, "a", b"made anew"), (b"made anew".to_vec(), Role::Missed));
    assert!(aside.exists());
}

#[test]
fn parts_of_names_are_not_taken_for_ours() {
    // A directory in place of a file cannot be read, and does no harm.
    let scratch = Scratch::new();
    let cache = scratch.cache();
    let answer = bytes(2 * BLOCK_BYTES);
    for path in [cache.path(&key("a")), cache.part_path(&key("b"))] {
        fs::create_dir_all(path.join("x")).expect("the scratch is ours");
    }
    for name in ["a", "b"] {
        let ranges: Range<u32> = 0..2;
        for _ in ranges {
            assert!(ask_for(&cache, name, &answer) == (answer.clone(), Role::Missed), "{name}");
        }
    }
}

#[cfg(feature = "failpoints")]
#[test]
fn no_failure_of_the_disk_is_the_clients() {
    use crate::durable::failpoints::{Action, arm, record};
    let answer = bytes(4 * BLOCK_BYTES + 77);
    let count = {
        let scratch = Scratch::new();
        let recorded = record(&scratch.0);
        ask_for(&scratch.cache(), "x", &answer);
        recorded.seen().len() as u64
    };
    assert!(count > 6, "{count}");
    for number in 0..count {
        for action in [Action::FailAs(28), Action::FailFromHere(io::ErrorKind::StorageFull), Action::FailAs(5)] {
            let scratch = Scratch::new();
            let cache = scratch.cache();
            let armed = arm(&scratch.0, number, action);
            let (heard, role) = ask_for(&cache, "x", &answer);
            assert!(heard == answer, "{action:?} at {number}: {role:?}");
            // A process that comes later finds either nothing or something valid.
            assert!(ask_for(&cache, "x", &answer).0 == answer, "{action:?} at {number}");
            drop(armed);
            assert!(ask_for(&cache, "x", &answer).0 == answer, "{action:?} at {number}");
        }
    }
}

//! What each fuzz target does with its input. Shared by the targets (libFuzzer) and by the suite, which replays the
//! corpora.
//!
//! In: any bytes. Out: nothing, or a panic, from the program or because one of its answers cannot be true. Checksums
//! and compressed data, which mutations would hardly ever get right, are made here.

use artifacts_http_backend::durable::{Sharing, Sync, unique};
use artifacts_http_backend::odb::inflate::Inflater;
use artifacts_http_backend::odb::{Objects, delta};
use artifacts_http_backend::pack::incoming::{IncomingPack, ReceiveOptions, Syncs, UnpackError};
use artifacts_http_backend::pktline::PacketReader;
use artifacts_http_backend::protocol::certificate::PushCertificate;
use artifacts_http_backend::protocol::command::{self, ArgumentLines, Envelope};
use artifacts_http_backend::protocol::filter::FilterSpec;
use artifacts_http_backend::protocol::ls_refs::LsRefsRequest;
use artifacts_http_backend::protocol::object_info::ObjectInfoRequest;
use artifacts_http_backend::protocol::push::{Heard, PushOffer, PushRequest};
use artifacts_http_backend::protocol::upload::{Extensions, Round, RoundEnd, UploadRequest};
use artifacts_http_backend::protocol::{Limits, ProtocolError};
use artifacts_http_backend::refs::{Format, RefStore};
use artifacts_http_backend::repo::fsck::{Checker, Rules};
use artifacts_http_backend::stream::{Body, Silent};
use bstr::{BString, ByteSlice};
use flate2::{Compression, Decompress, FlushDecompress, Status, write::ZlibEncoder};
use gix_hash::ObjectId;
use gix_object::Kind;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// A directory of this process, in memory where possible.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let path = parent.join(unique(&format!("fuzz-{name}-")));
        fs::create_dir_all(&path).expect("there is room for a directory");
        Scratch(path)
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.join(below)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The first byte, and the rest.
fn split_byte(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (*first, rest))
}

fn hash_of(switch: u8) -> gix_hash::Kind {
    if switch & 0x80 == 0 { gix_hash::Kind::Sha1 } else { gix_hash::Kind::Sha256 }
}

/// A body that arrives in pieces of at most `most` bytes.
struct Pieces<'a> {
    rest: &'a [u8],
    most: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = buffer.len().min(self.most).min(self.rest.len());
        let (now, later) = self.rest.split_at(size);
        buffer[..size].copy_from_slice(now);
        self.rest = later;
        Ok(size)
    }
}

impl Body for Pieces<'_> {
    fn finish(&mut self) -> io::Result<u64> {
        let left = self.rest.len();
        self.rest = &[];
        Ok(left as u64)
    }
}

/// A push request up to its pack: a byte of switches, then packets.
pub fn receive_commands(data: &[u8]) {
    let (switches, body) = split_byte(data);
    request(switches, body);
}

/// Parses a request twice, whole and in pieces; the results must be the same.
fn request(switches: u8, body: &[u8]) -> Option<PushRequest> {
    let offered = PushOffer { hash: hash_of(switches), atomic: switches & 1 != 0, push_options: switches & 2 != 0 };
    let limits = Limits { ref_updates: 8, push_options: 4, shallows: 4, lines: 64, ..Limits::default() };
    let parse = |most: usize| {
        let mut pieces = Pieces { rest: body, most };
        let mut heard = Vec::new();
        let request = PushRequest::parse(&mut pieces, &offered, &limits, &mut |more| {
            if let Heard::Ref(name) = more {
                heard.push(name.to_owned());
            }
        });
        (request.map_err(|error| error.to_string()), heard, pieces.rest.len())
    };
    let (request, heard, left) = parse(usize::MAX);
    let again = parse(1 + usize::from(switches >> 2 & 7));
    assert_eq!((&request, &heard, left), (&again.0, &again.1, again.2), "in pieces it is something else");
    assert!(heard.len() <= 8, "more refs than the limit");
    match request {
        Err(text) => {
            assert!(!text.is_empty() && text.len() < 2000, "{text}");
            None
        }
        Ok(request) => {
            let names: Vec<_> = request.updates.iter().map(|update| update.name.clone()).collect();
            assert_eq!(names, heard, "what was heard is not what is asked");
            assert!(request.options.len() <= 4 && request.shallow.len() <= 4, "more lines than the limits");
            assert!(request.options.iter().all(|option| !option.contains(&0)), "a push option with a NUL");
            assert!(offered.atomic || !request.capabilities.atomic, "what was not offered is not heard");
            Some(request)
        }
    }
}

/// A fetch request in v0 or v2: a byte of switches, then packets. Parsed in pieces, it must give the same as whole.
pub fn upload_requests(data: &[u8]) {
    let (switches, body) = split_byte(data);
    let (hash, extended) = (hash_of(switches), switches & 2 != 0);
    let extensions =
        Extensions { filter: extended, ref_in_want: extended, sideband_all: extended, packfile_uris: extended };
    let limits =
        Limits { lines: 64, wants: 8, prefixes: 4, shallows: 4, deepen_nots: 2, filter_parts: 8, ..Limits::default() };
    let answer = |most: usize| {
        let mut pieces = Pieces { rest: body, most };
        let mut reader = PacketReader::new(&mut pieces);
        let asked = match switches & 1 {
            0 => asked_v0(&mut reader, hash, extensions, &limits),
            _ => asked_v2(&mut reader, hash, extensions, &limits),
        };
        let asked = asked.map_err(|error| error.to_string());
        (asked, pieces.rest.len())
    };
    let whole = answer(usize::MAX);
    assert_eq!(whole, answer(1 + usize::from(switches >> 2 & 7)), "in pieces it is something else");
    if let (Err(text), _) = whole {
        assert!(!text.is_empty() && text.len() < 2000, "{text}");
    }
}

/// The wants of v0 and all rounds of haves after them, as text.
fn asked_v0(
    reader: &mut PacketReader<'_>,
    hash: gix_hash::Kind,
    extensions: Extensions,
    limits: &Limits,
) -> Result<String, ProtocolError> {
    let mut lines = ArgumentLines::new(limits);
    let request = UploadRequest::parse_v0(reader, hash, extensions, &mut lines, limits)?;
    check_upload(&request, limits);
    let mut rounds = Vec::new();
    while rounds.last().is_none_or(|round: &Round| round.end == RoundEnd::Flush)
        && let Some(round) = Round::read(reader, hash, &mut lines)?
    {
        rounds.push(round);
    }
    Ok(format!("{request:?} {rounds:?}"))
}

/// All commands of v2, one after the other, as text.
fn asked_v2(
    reader: &mut PacketReader<'_>,
    hash: gix_hash::Kind,
    extensions: Extensions,
    limits: &Limits,
) -> Result<String, ProtocolError> {
    let offered = |name: &[u8]| match name {
        b"fetch" | b"ls-refs" | b"object-info" => command::Offered::Command,
        b"agent" | b"session-id" | b"object-format" => command::Offered::Capability,
        _ => command::Offered::No,
    };
    let mut all = String::new();
    while let Some(envelope) = Envelope::parse(reader, hash, &offered, limits)? {
        all += &format!("{envelope:?} ");
        if !envelope.arguments {
            continue;
        }
        all += &match envelope.command.as_slice() {
            b"fetch" => {
                let (request, round) = UploadRequest::parse_v2(reader, hash, extensions, limits)?;
                check_upload(&request, limits);
                assert!(round.haves.iter().all(|have| have.kind() == hash), "a have of another hash");
                format!("{request:?} {round:?}")
            }
            b"ls-refs" => {
                let request = LsRefsRequest::parse(reader, extensions.filter, limits)?;
                assert!((request.prefixes.len() as u64) < limits.prefixes, "more prefixes than the limit");
                format!("{request:?}")
            }
            _ => {
                let request = ObjectInfoRequest::parse(reader, hash, limits)?;
                assert!(request.objects.len() as u64 <= limits.wants, "more objects than the limit");
                format!("{request:?}")
            }
        };
    }
    Ok(all)
}

fn check_upload(request: &UploadRequest, limits: &Limits) {
    let wants = request.wants.len() + request.want_refs.len();
    assert!(wants as u64 <= limits.wants, "more wants than the limit");
    assert!(request.shallow.len() as u64 <= limits.shallows, "more shallow lines than the limit");
    let mut named = request.wants.clone();
    named.sort_unstable();
    named.dedup();
    assert_eq!(named.len(), request.wants.len(), "an object is wanted twice");
    assert!(request.sideband_all || request.packfile_uris.is_empty(), "addresses that nobody would read");
    if let Some(filter) = &request.filter {
        let again = FilterSpec::parse(&filter.text(), limits);
        assert!(again.is_ok_and(|again| again == *filter), "written out it is another filter: {filter:?}");
    }
}

/// A push certificate, alone and inside a request: a byte of switches, then its text.
pub fn push_certificates(data: &[u8]) {
    let (switches, text) = split_byte(data);
    let certificate = PushCertificate::new(text.to_vec());
    let signature = certificate.signature().map(|(_, signature)| signature).unwrap_or_default();
    assert_eq!([certificate.payload(), signature].concat(), text, "a byte belongs to no part");
    assert!(certificate.nonce().is_none_or(|nonce| !nonce.contains(&b'\n')), "a nonce of two lines");
    assert!(certificate.options().all(|option| !option.contains(&b'\n')), "an option of two lines");
    let updates: Option<Vec<Vec<u8>>> = certificate.updates().map(|lines| lines.map(<[u8]>::to_vec).collect());

    let mut body = Vec::new();
    let mut packet = |line: &[u8]| {
        body.extend_from_slice(format!("{:04x}", line.len() + 4).as_bytes());
        body.extend_from_slice(line);
    };
    packet(b"push-cert\0report-status atomic push-options object-format=sha1");
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        line.chunks(60_000).for_each(&mut packet);
    }
    packet(b"push-cert-end\n");
    body.extend_from_slice(b"0000");
    body.extend_from_slice(b"0000");
    if let Some(request) = request(switches & 0x7f, &body)
        && let Some(taken) = &request.certificate
        && !text.lines_with_terminator().any(|line| line == b"push-cert-end\n")
    {
        assert_eq!(taken.payload(), certificate.payload(), "another text than was sent");
        assert_eq!(request.updates.len(), updates.map_or(0, |updates| updates.len()), "not what was signed");
    }
}

/// A zlib stream without its header and checksum: a byte of switches, then blocks.
pub fn inflate(data: &[u8]) {
    const ROOM: usize = 64 << 10;
    let (switches, blocks) = split_byte(data);
    let mut expected = vec![0; ROOM + 1];
    let mut general = Decompress::new(false);
    let ended = matches!(general.decompress(blocks, &mut expected, FlushDecompress::Finish), Ok(Status::StreamEnd));
    expected.truncate(general.total_out() as usize);
    let is_sound = ended && switches & 1 == 0;
    let (length, behind) = (general.total_in() as usize, usize::from(switches >> 4));

    let sum = expected.iter().fold((1, 0), |(one, all), byte| {
        let one = (one + u32::from(*byte)) % 65_521;
        (one, (all + one) % 65_521)
    });
    let mut stream = [&[0x78, 0x9c], &blocks[..length]].concat();
    stream.extend_from_slice(&(sum.1 << 16 | sum.0 ^ u32::from(switches & 1)).to_be_bytes());
    let length = stream.len() as u64;
    stream.resize(stream.len() + behind, 0xa5);

    let (mut inflater, mut out) = (Inflater::new(), Vec::new());
    for size in [expected.len(), expected.len() + 1, expected.len().saturating_sub(1)] {
        let end = inflater.whole(&mut &stream[..], 0, size as u64, &mut out).ok();
        assert_eq!(end, (is_sound && size == expected.len()).then_some(length), "{size} bytes");
        if end.is_some() {
            assert!(out == expected, "another content");
        }
        if is_sound {
            inflater.begin(&mut &stream[..], 0, size / 2, &mut out).expect("the beginning of what is sound");
            assert!(out == expected[..size / 2], "another beginning");
        }
    }
}

/// Appends one entry to a pack: its header and its compressed content.
fn entry(pack: &mut Vec<u8>, code: u8, size: u64, base: &[u8], content: &[u8]) {
    let mut rest = size >> 4;
    let mut byte = code << 4 | (size & 15) as u8;
    while rest > 0 {
        pack.push(byte | 0x80);
        byte = (rest & 0x7f) as u8;
        rest >>= 7;
    }
    pack.push(byte);
    pack.extend_from_slice(base);
    let mut encoder = ZlibEncoder::new(pack, Compression::fast());
    encoder.write_all(content).and_then(|()| encoder.finish()).expect("memory takes all bytes");
}

/// The encoded distance of an OFS_DELTA.
fn distance(mut value: u64) -> Vec<u8> {
    let mut bytes = vec![(value & 0x7f) as u8];
    while value > 0x7f {
        value = (value >> 7) - 1;
        bytes.insert(0, (value & 0x7f) as u8 | 0x80);
    }
    bytes
}

fn with_trailer(mut pack: Vec<u8>, hash: gix_hash::Kind) -> Vec<u8> {
    let mut hasher = gix_hash::hasher(hash);
    hasher.update(&pack);
    pack.extend_from_slice(hasher.try_finalize().expect("no attack on the trailer").as_slice());
    pack
}

fn header(count: u32) -> Vec<u8> {
    [b"PACK\0\0\0\x02".as_slice(), &count.to_be_bytes()].concat()
}

/// A repository with one blob, beside which packs are received.
struct Beside {
    scratch: Scratch,
    hash: gix_hash::Kind,
    base: ObjectId,
}

/// The blob in the repository.
const THERE: &[u8] = b"what is there already: line one\nline two\nline three\n";

impl Beside {
    fn new(hash: gix_hash::Kind) -> Self {
        let scratch = Scratch::new(&format!("pack-{hash}"));
        fs::create_dir_all(scratch.path("quarantine/pack")).expect("there is room");
        let base = gix_object::compute_hash(hash, Kind::Blob, THERE).expect("no attack");
        loose(&scratch.path("objects"), &base, Kind::Blob, THERE);
        Beside { scratch, hash, base }
    }

    /// Receives a pack, checks the result, and removes it.
    fn receive(&self, pack: &[u8], switches: u8, memory: u64) -> Result<Vec<ObjectId>, UnpackError> {
        let quarantine = self.scratch.path("quarantine");
        let directories = vec![quarantine.clone(), self.scratch.path("objects")];
        let objects = Objects::new(self.hash, directories.clone());
        let options = ReceiveOptions {
            hash: self.hash,
            directory: &quarantine,
            objects: &objects,
            unpack_limit: if switches & 1 == 0 { 0 } else { 100 },
            fsck: match switches >> 1 & 3 {
                0 => None,
                1 => Some(Rules::protecting()),
                _ => Some(Rules::strict()),
            },
            memory,
            threads: 2,
            max_input_size: None,
            object_size_max: None,
            room: None,
            reverse_index: true,
            compression: 1,
            sync: Syncs::all(Sync::Never),
            sharing: Sharing::Umask,
            reject_thin: switches & 8 != 0,
            twice: false,
            keep_message: "receive-pack 1 on host".into(),
        };
        let most = match switches >> 4 & 7 {
            0 => usize::MAX,
            pieces => 97 * usize::from(pieces) - 96,
        };
        let mut pieces = Pieces { rest: pack, most };
        let received = IncomingPack::receive(&mut pieces, &options, &mut Silent);
        let made = received.map(|received| {
            let mut made = Vec::new();
            let stored = Objects::new(self.hash, directories);
            match received.kept {
                Some(name) => {
                    let index = fs::read(quarantine.join(format!("pack/pack-{name}.idx"))).expect("an index is there");
                    made = names_in_index(&index, self.hash);
                    assert!(made.len() >= received.objects as usize, "the index has fewer objects than came");
                }
                None => loose_names(&quarantine, &mut made),
            }
            let mut content = Vec::new();
            for id in &made {
                let kind = stored.find(id, &mut content).expect("what was stored can be read").expect("and is there");
                let name = gix_object::compute_hash(self.hash, kind, &content).expect("no attack");
                assert_eq!(name, *id, "an object is stored under another's name");
            }
            made
        });
        drop(objects);
        clear(&quarantine);
        made
    }
}

/// The names in an index of version 2, in order.
fn names_in_index(index: &[u8], hash: gix_hash::Kind) -> Vec<ObjectId> {
    let count = index.get(8 + 255 * 4..8 + 256 * 4).expect("a table of counts");
    let count = u32::from_be_bytes(count.try_into().expect("four bytes")) as usize;
    let names = index.get(8 + 256 * 4..).and_then(|rest| rest.get(..count * hash.len_in_bytes())).expect("the names");
    let names: Vec<_> = names.chunks_exact(hash.len_in_bytes()).map(ObjectId::from_bytes_or_panic).collect();
    assert!(names.is_sorted(), "the index is not in order");
    names
}

fn loose(objects: &Path, id: &ObjectId, kind: Kind, content: &[u8]) {
    let hex = id.to_string();
    let folder = objects.join(&hex[..2]);
    fs::create_dir_all(&folder).expect("there is room");
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&gix_object::encode::loose_header(kind, content.len() as u64)).expect("memory takes all bytes");
    encoder.write_all(content).expect("memory takes all bytes");
    fs::write(folder.join(&hex[2..]), encoder.finish().expect("memory takes all bytes")).expect("there is room");
}

fn loose_names(objects: &Path, into: &mut Vec<ObjectId>) {
    for folder in fs::read_dir(objects).expect("it is there").flatten() {
        let first = folder.file_name().to_string_lossy().into_owned();
        if first.len() == 2 {
            for file in fs::read_dir(folder.path()).expect("it is there").flatten() {
                let hex = first.clone() + &file.file_name().to_string_lossy();
                into.push(ObjectId::from_hex(hex.as_bytes()).expect("only objects are left"));
            }
        }
    }
}

/// Removes all files below a directory.
fn clear(path: &Path) {
    for entry in fs::read_dir(path).expect("it is there").flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            clear(&entry.path());
            if entry.file_name() != "pack" {
                let _ = fs::remove_dir(entry.path());
            }
        } else {
            let _ = fs::remove_file(entry.path());
        }
    }
}

thread_local! {
    static SHA1: Beside = Beside::new(gix_hash::Kind::Sha1);
    static SHA256: Beside = Beside::new(gix_hash::Kind::Sha256);
}

fn beside<R>(hash: gix_hash::Kind, run: impl FnOnce(&Beside) -> R) -> R {
    match hash {
        gix_hash::Kind::Sha1 => SHA1.with(run),
        _ => SHA256.with(run),
    }
}

/// The memory with which packs are received here.
const MEMORY: u64 = 8 << 20;

/// A pack. Two bytes of switches, then either its bytes without the trailer, or a recipe: for each entry its type, the
/// error in its size, two bytes of length, and the content, which is compressed here.
pub fn pack_index(data: &[u8]) {
    let (switches, rest) = split_byte(data);
    let (form, rest) = split_byte(rest);
    let hash = hash_of(switches);
    beside(hash, |beside| {
        let pack = if form & 1 == 0 { rest.to_vec() } else { recipe(rest, form, beside) };
        let pack = if form & 2 == 0 { with_trailer(pack, hash) } else { pack };
        let pack = if form & 4 == 0 { pack } else { [pack, vec![0]].concat() };
        if let Err(error) = beside.receive(&pack, switches, MEMORY) {
            assert!(!error.status.is_empty(), "{error:?}");
            assert!(error.notes.iter().all(|note| !note.contains('\n')), "{error:?}");
        } else {
            assert!(form & 4 == 0, "a byte behind the trailer was accepted");
        }
    });
}

fn recipe(mut rest: &[u8], form: u8, beside: &Beside) -> Vec<u8> {
    let mut pack = header(0);
    let mut offsets: Vec<u64> = Vec::new();
    while let [kind, off, high, low, after @ ..] = rest {
        let size = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (content, later) = after.split_at(size);
        rest = later;
        let (code, choice) = (kind & 7, usize::from(kind >> 3));
        let at = pack.len() as u64;
        let base = match code {
            6 => match offsets.len().checked_sub(choice + 1).and_then(|back| offsets.get(back)) {
                Some(base) => distance(at - base),
                None => distance(u64::from(*off)),
            },
            7 if choice & 1 == 0 => beside.base.as_slice().to_vec(),
            // By name, on the entry before it, whose name is known if it is whole.
            7 => content.get(..beside.hash.len_in_bytes()).unwrap_or_default().to_vec(),
            _ => Vec::new(),
        };
        let declared = match off {
            0..128 => size as u64,
            128..192 => (size as u64).wrapping_add(u64::from(off - 127)) & u64::MAX >> 4,
            192..250 => (size as u64).saturating_sub(u64::from(off - 191)),
            _ => u64::MAX >> (off - 245),
        };
        offsets.push(at);
        entry(&mut pack, code, declared, &base, content);
    }
    let count = (offsets.len() as u32).wrapping_add(u32::from(form >> 4)).wrapping_sub(u32::from(form >> 3 & 1));
    pack[8..12].copy_from_slice(&count.to_be_bytes());
    pack
}

/// A delta: two bytes that tell the length and the content of its base, then the delta.
pub fn deltas(data: &[u8]) {
    let [size, seed, delta @ ..] = data else { return };
    let base: Vec<u8> = (0..usize::from(*size) * 17).map(|at| (at / 7 * usize::from(*seed) + at) as u8).collect();
    let announced = delta::sizes(delta).map_or(0, |(_, result, _)| result);
    let expected = followed(&base, delta);
    let mut out = Vec::new();
    let made = delta::apply(&base, delta, FOLLOWED_MAX as u64, &mut out).is_ok();
    match &expected {
        Some(expected) => assert!(made && out == *expected, "another object than the instructions make"),
        None => assert!(!made, "a delta that is malformed makes an object"),
    }
    // In a pack, and with so little memory that base and result wait in files.
    SHA1.with(|beside| {
        let mut pack = header(2);
        entry(&mut pack, 3, base.len() as u64, &[], &base);
        let back = distance(pack.len() as u64 - 12);
        entry(&mut pack, 6, delta.len() as u64, &back, delta);
        for memory in [16 << 10, MEMORY] {
            let received = beside.receive(&with_trailer(pack.clone(), beside.hash), 0, memory);
            match (&expected, received) {
                (None, Ok(_)) => assert!(announced > FOLLOWED_MAX as u64, "a malformed delta is accepted"),
                (Some(expected), Ok(made)) => {
                    let id = gix_object::compute_hash(beside.hash, Kind::Blob, expected).expect("no attack");
                    assert!(made.contains(&id), "the delta has become something else");
                }
                (Some(expected), Err(error)) => {
                    // Only results larger than the memory allows.
                    assert!(expected.len() as u64 > 8 * memory, "{error:?}");
                }
                (None, Err(_)) => {}
            }
        }
    });
}

/// The longest result of a delta that is computed here. A delta that announces more may still be valid.
const FOLLOWED_MAX: usize = 128 << 10;

/// The result of a delta, computed in the simplest way (gitformat-pack, Deltified representation).
fn followed(base: &[u8], delta: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = delta.iter().copied();
    let mut number = || {
        let (mut value, mut shift) = (0_u128, 0);
        loop {
            let byte = bytes.next()?;
            value |= u128::from(byte & 0x7f).checked_shl(shift)?;
            shift += 7;
            if value > u128::from(u64::MAX) || shift > 70 {
                return None;
            }
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
    };
    let (base_size, size) = (number()?, number()?);
    if base_size != base.len() as u128 || size > FOLLOWED_MAX as u128 {
        return None;
    }
    let mut out = Vec::new();
    while let Some(code) = bytes.next() {
        if code & 0x80 == 0 {
            if code == 0 {
                return None;
            }
            for _ in 0..code {
                out.push(bytes.next()?);
            }
        } else {
            let mut field = |bits: std::ops::Range<u8>| {
                let mut value = 0_usize;
                for (place, bit) in bits.enumerate() {
                    if code & 1 << bit != 0 {
                        value |= usize::from(bytes.next()?) << (8 * place);
                    }
                }
                Some(value)
            };
            let (offset, size) = (field(0..4)?, field(4..7)?);
            let size = if size == 0 { 0x10000 } else { size };
            out.extend_from_slice(base.get(offset..offset.checked_add(size)?)?);
        }
        if out.len() as u128 > size {
            return None;
        }
    }
    (out.len() as u128 == size).then_some(out)
}

/// An object: a byte that tells its kind (or that it is the content of a `.gitmodules` or `.gitattributes`), then its
/// content.
pub fn fsck(data: &[u8]) {
    thread_local!(static SCRATCH: Scratch = Scratch::new("fsck"));
    let (switches, content) = split_byte(data);
    let hash = hash_of(switches);
    let verdicts = [Rules::protecting(), Rules::strict()].map(|rules| {
        let mut checker = Checker::new(hash, &rules);
        let mut check = |kind, content: &[u8]| {
            let Ok(id) = gix_object::compute_hash(hash, kind, content) else { return (true, hash.null()) };
            (checker.check(&id, kind, content), id)
        };
        let (mut passed, id) = match switches & 7 {
            0 => check(Kind::Commit, content),
            1 => check(Kind::Tag, content),
            2 => check(Kind::Blob, content),
            3 | 4 => {
                let name = if switches & 7 == 3 { ".gitmodules" } else { ".gitattributes" };
                let (_, id) = check(Kind::Blob, content);
                let tree = [format!("100644 {name}\0").as_bytes(), id.as_slice()].concat();
                (check(Kind::Tree, &tree).0, id)
            }
            _ => check(Kind::Tree, content),
        };
        let mut findings = checker.take_findings();
        if matches!(switches & 7, 3 | 4) {
            SCRATCH.with(|scratch| {
                let objects = scratch.path("objects");
                loose(&objects, &id, Kind::Blob, content);
                let database = Objects::new(hash, vec![objects.clone()]);
                assert!(checker.has_files(), "a file with that name is not looked at");
                passed &= checker.check_files(&database, 1 << 20).expect("it is there");
                findings.extend(checker.take_findings());
                let _ = fs::remove_dir_all(objects);
            });
        }
        for finding in &findings {
            let line = finding.to_line();
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
        assert_eq!(passed, !findings.iter().any(|finding| finding.is_error()), "{findings:?}");
        passed
    });
    assert!(verdicts[0] || !verdicts[1], "what protects is stricter than what is strict");
}

/// A stack of two tables: switches, the length of the first, then both. If a switch says so, their footers are made
/// right.
pub fn reftable(data: &[u8]) {
    thread_local!(static SCRATCH: Scratch = Scratch::new("reftable"));
    let [switches, high, low, rest @ ..] = data else { return };
    let hash = hash_of(*switches);
    let (first, second) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])).min(rest.len()));
    SCRATCH.with(|scratch| {
        let directory = scratch.path("reftable");
        fs::create_dir_all(&directory).expect("there is room");
        let mut list = String::new();
        for (number, table) in [first, second].into_iter().enumerate().filter(|(_, table)| !table.is_empty()) {
            let name = format!("0x{0:012x}-0x{0:012x}-{0:08x}.ref", number + 1);
            let table = if switches & 1 == 0 { with_footer(table) } else { table.to_vec() };
            fs::write(directory.join(&name), table).expect("there is room");
            list += &(name + "\n");
        }
        fs::write(directory.join("tables.list"), list).expect("there is room");
        let store = RefStore::new(Format::Reftable, scratch.0.clone(), scratch.0.clone(), hash);
        for prefix in ["", "refs/heads/", "refs/tags/v"] {
            let prefixes: Vec<BString> = if prefix.is_empty() { Vec::new() } else { vec![prefix.into()] };
            let mut names: Vec<BString> = Vec::new();
            let listed = store.for_each(&prefixes, &mut |row| {
                assert!(row.name.starts_with_str(prefix), "{row:?} was not asked for");
                assert!(names.last().is_none_or(|last| last.as_bstr() < row.name), "{row:?} is out of order");
                names.push(row.name.to_owned());
                Ok(())
            });
            // In a damaged table, one way to a value may see what another does not.
            if listed.is_ok() {
                for name in names.iter().take(64) {
                    let _ = store.resolve(name.as_bstr());
                }
            }
        }
        let _ = store.read(b"HEAD".as_bstr());
        let _ = store.read(b"refs/heads/main".as_bstr());
        let _ = store.read(b"refs/heads/absent".as_bstr());
        clear(&directory);
    });
}

/// The same table, with a footer that begins with its header and ends with the right checksum.
fn with_footer(table: &[u8]) -> Vec<u8> {
    let header = if table.get(4) == Some(&2) { 28 } else { 24 };
    let mut table = table.to_vec();
    if let Some(at) = table.len().checked_sub(header + 44).filter(|at| *at >= header) {
        table.copy_within(..header, at);
        let sum = crc32fast::hash(&table[at..table.len() - 4]);
        let end = table.len() - 4;
        table[end..].copy_from_slice(&sum.to_be_bytes());
    }
    table
}

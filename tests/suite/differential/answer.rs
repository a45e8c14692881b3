//! Takes answers apart: what is said, what is refused, and which objects a pack contains.

use super::history::Universe;
use flate2::{Decompress, FlushDecompress, Status};
use gix_hash::ObjectId;
use gix_object::Kind;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// One answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The lines before the pack, flushes included, without those of the boundary and of errors.
    pub lines: Vec<String>,
    /// The section wanted-refs, which comes after the boundary's here and before it in C git (FE-10).
    pub wanted: BTreeSet<String>,
    /// The `shallow` and `unshallow` lines, in any order.
    pub boundary: BTreeSet<String>,
    /// The text of an ERR packet, or of band 3 if everything is in bands.
    pub refusal: Option<String>,
    /// A line of the boundary that had come before.
    pub twice: Option<String>,
    /// The text on band 3.
    pub broken_off: String,
    /// The pack as it came.
    pub pack: Option<Vec<u8>>,
}

impl Said {
    /// Parses an answer without its advertisement; either all of it is in side bands, or only its pack.
    pub fn hear(mut bytes: &[u8], all_in_bands: bool) -> Result<Self, String> {
        let mut said = Said::default();
        let (mut in_wanted, mut in_pack) = (false, !all_in_bands);
        let mut pack = Vec::new();
        while !bytes.is_empty() {
            if bytes.starts_with(b"PACK") {
                pack.extend_from_slice(bytes);
                break;
            }
            let (packet, rest) = packet(bytes)?;
            bytes = rest;
            let packet = match packet {
                Ok([1, line @ ..]) if !in_pack => Ok(line),
                packet => packet,
            };
            match packet {
                Err(_) if in_wanted => in_wanted = false,
                Err(special) => said.lines.push(special.to_owned()),
                Ok([1, data @ ..]) => pack.extend_from_slice(data),
                Ok([2, ..]) => {}
                Ok([3, text @ ..]) if !in_pack => {
                    said.refusal = Some(String::from_utf8_lossy(text).trim_end_matches('\n').to_owned())
                }
                Ok([3, text @ ..]) => said.broken_off.push_str(&String::from_utf8_lossy(text)),
                Ok(line) => {
                    let line = String::from_utf8_lossy(line).trim_end_matches('\n').to_owned();
                    if let Some(text) = line.strip_prefix("ERR ") {
                        said.refusal = Some(text.to_owned());
                    } else if line.starts_with("shallow ") || line.starts_with("unshallow ") {
                        if !said.boundary.insert(line.clone()) {
                            said.twice = Some(line);
                        }
                    } else if line == "wanted-refs" {
                        in_wanted = true;
                    } else if in_wanted {
                        said.wanted.insert(line);
                    } else {
                        in_pack |= line == "packfile";
                        said.lines.push(line);
                    }
                }
            }
        }
        said.pack = (!pack.is_empty()).then_some(pack);
        Ok(said)
    }

    /// Everything after the first flush.
    pub fn behind_the_advertisement(mut bytes: &[u8]) -> Result<&[u8], String> {
        while !bytes.is_empty() {
            let (packet, rest) = packet(bytes)?;
            bytes = rest;
            if packet == Err("0000") {
                break;
            }
        }
        Ok(bytes)
    }
}

/// The first packet: a line, or the digits of a special packet.
type Packet<'a> = Result<&'a [u8], &'static str>;

fn packet(bytes: &[u8]) -> Result<(Packet<'_>, &[u8]), String> {
    let digits = bytes.get(..4).and_then(|digits| std::str::from_utf8(digits).ok());
    let size = digits.and_then(|digits| usize::from_str_radix(digits, 16).ok());
    let shown = || String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
    let size = size.ok_or_else(|| format!("no packet: {:?}", shown()))?;
    let special = match size {
        0 => "0000",
        1 => "0001",
        2 => "0002",
        _ => {
            let line = bytes.get(4..size).ok_or_else(|| format!("a packet is cut off: {:?}", shown()))?;
            return Ok((Ok(line), &bytes[size..]));
        }
    };
    Ok((Err(special), &bytes[4..]))
}

/// The content of a pack.
#[derive(Debug, Default)]
pub struct Pack {
    pub objects: BTreeSet<ObjectId>,
    /// Bases of deltas that are not in the pack.
    pub outside: BTreeSet<ObjectId>,
    pub has_ofs_deltas: bool,
}

enum Entry {
    Whole(Kind),
    At(usize),
    On(ObjectId),
}

impl Pack {
    /// Reads a whole pack, whose objects must be in the universe.
    pub fn read(bytes: &[u8], universe: &Universe) -> Result<Self, String> {
        let hash_size = universe.hash.len_in_bytes();
        let (data, trailer) = bytes.split_at_checked(bytes.len().saturating_sub(hash_size)).ok_or("no pack")?;
        let mut hasher = gix_hash::hasher(universe.hash);
        hasher.update(data);
        let sum = hasher.try_finalize().map_err(|error| error.to_string())?;
        if sum.as_bytes() != trailer {
            return Err("the trailer of the pack is wrong".to_owned());
        }
        let count = u32::from_be_bytes(data.get(8..12).ok_or("no header")?.try_into().unwrap());
        if !data.starts_with(b"PACK\0\0\0\x02") {
            return Err("no pack of version 2".to_owned());
        }
        let mut at = 12;
        let mut entries = BTreeMap::new();
        let mut pack = Pack::default();
        for _ in 0..count {
            let start = at;
            let (entry, size) = header(data, &mut at, hash_size)?;
            pack.has_ofs_deltas |= matches!(entry, Entry::At(_));
            let content = inflate(data, &mut at, size)?;
            let entry = match entry {
                Entry::At(distance) => Entry::At(start.checked_sub(distance).ok_or("a base before the pack")?),
                other => other,
            };
            entries.insert(start, (entry, content));
        }
        if at != data.len() {
            return Err(format!("{} bytes behind the last object", data.len() - at));
        }
        pack.resolve(&entries, universe)?;
        Ok(pack)
    }

    fn resolve(&mut self, entries: &BTreeMap<usize, (Entry, Vec<u8>)>, universe: &Universe) -> Result<(), String> {
        let mut done: HashMap<usize, (Kind, Vec<u8>)> = HashMap::new();
        let mut by_id: HashMap<ObjectId, usize> = HashMap::new();
        loop {
            let before = done.len();
            for (start, (entry, content)) in entries {
                if done.contains_key(start) {
                    continue;
                }
                let base = match entry {
                    Entry::Whole(kind) => Some((*kind, content.clone())),
                    Entry::At(at) => match done.get(at) {
                        Some((kind, base)) => Some((*kind, apply(base, content)?)),
                        None => None,
                    },
                    Entry::On(id) => match by_id.get(id) {
                        Some(at) => {
                            let (kind, base) = &done[at];
                            Some((*kind, apply(base, content)?))
                        }
                        // The base may come later in the pack.
                        None => None,
                    },
                };
                if let Some((kind, data)) = base {
                    let id = gix_object::compute_hash(universe.hash, kind, &data).map_err(|error| error.to_string())?;
                    if !universe.objects.contains_key(&id) {
                        return Err(format!("the pack has a {kind} {id} that nobody has"));
                    }
                    if !self.objects.insert(id) {
                        return Err(format!("{} is in the pack twice", universe.name(&id)));
                    }
                    by_id.insert(id, *start);
                    done.insert(*start, (kind, data));
                }
            }
            if done.len() == entries.len() {
                self.outside = &self.outside - &self.objects;
                return Ok(());
            }
            if done.len() > before {
                continue;
            }
            // The rest depends on bases outside the pack.
            let outside = entries.iter().find_map(|(start, (entry, content))| match entry {
                Entry::On(id) if !done.contains_key(start) && !by_id.contains_key(id) => Some((start, id, content)),
                _ => None,
            });
            let (start, base_id, content) = outside.ok_or("deltas rest on each other")?;
            let base = universe.objects.get(base_id).ok_or_else(|| format!("a delta on {base_id}"))?;
            self.outside.insert(*base_id);
            let data = apply(&base.data, content)?;
            let id = gix_object::compute_hash(universe.hash, base.kind, &data).map_err(|error| error.to_string())?;
            if !universe.objects.contains_key(&id) || !self.objects.insert(id) {
                return Err(format!("a delta on {} comes to what nobody has, or twice", universe.name(base_id)));
            }
            by_id.insert(id, *start);
            done.insert(*start, (base.kind, data));
        }
    }
}

fn header(data: &[u8], at: &mut usize, hash_size: usize) -> Result<(Entry, usize), String> {
    let mut next = || {
        let byte = data.get(*at).copied().ok_or("a header is cut off");
        *at += 1;
        byte
    };
    let first = next()?;
    let (mut size, mut shift, mut byte) = (usize::from(first & 15), 4, first);
    while byte & 0x80 != 0 {
        byte = next()?;
        size |= usize::from(byte & 0x7f) << shift;
        shift += 7;
    }
    let entry = match first >> 4 & 7 {
        1 => Entry::Whole(Kind::Commit),
        2 => Entry::Whole(Kind::Tree),
        3 => Entry::Whole(Kind::Blob),
        4 => Entry::Whole(Kind::Tag),
        6 => {
            let mut byte = next()?;
            let mut distance = usize::from(byte & 0x7f);
            while byte & 0x80 != 0 {
                byte = next()?;
                distance = ((distance + 1) << 7) | usize::from(byte & 0x7f);
            }
            Entry::At(distance)
        }
        7 => {
            let id = data.get(*at..*at + hash_size).ok_or("a name is cut off")?;
            *at += hash_size;
            Entry::On(ObjectId::from_bytes_or_panic(id))
        }
        other => return Err(format!("an object of kind {other}")),
    };
    Ok((entry, size))
}

fn inflate(data: &[u8], at: &mut usize, size: usize) -> Result<Vec<u8>, String> {
    let mut inflater = Decompress::new(true);
    let mut content = Vec::with_capacity(size + 1);
    let status = inflater.decompress_vec(&data[*at..], &mut content, FlushDecompress::Finish);
    if !matches!(status, Ok(Status::StreamEnd)) || content.len() != size {
        return Err(format!("the object at {at} does not inflate to {size} bytes: {status:?}"));
    }
    *at += usize::try_from(inflater.total_in()).unwrap();
    Ok(content)
}

fn apply(base: &[u8], delta: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = delta.iter().copied();
    let mut next = || bytes.next().map(usize::from);
    let mut size = || {
        let (mut size, mut shift) = (0, 0);
        loop {
            let byte = next().ok_or("a delta is cut off")?;
            size |= (byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return Ok::<usize, String>(size);
            }
        }
    };
    let (base_size, result_size) = (size()?, size()?);
    if base_size != base.len() {
        return Err(format!("a delta for {base_size} bytes on {}", base.len()));
    }
    let mut result = Vec::new();
    while let Some(op) = next() {
        if op & 0x80 == 0 {
            for _ in 0..op {
                result.push(next().ok_or("an insertion is cut off")? as u8);
            }
            continue;
        }
        let (mut from, mut count) = (0, 0);
        for bit in 0..7 {
            if op >> bit & 1 == 1 {
                let byte = next().ok_or("a copy is cut off")?;
                if bit < 4 { from |= byte << (8 * bit) } else { count |= byte << (8 * (bit - 4)) }
            }
        }
        let count = if count == 0 { 0x10000 } else { count };
        result.extend_from_slice(base.get(from..from + count).ok_or("a copy from behind the base")?);
    }
    if result.len() != result_size {
        return Err(format!("a delta comes to {} bytes, not {result_size}", result.len()));
    }
    Ok(result)
}

//! A multi-pack-index, versions 1 and 2 (gitformat-pack): which pack has an object, for many packs at once.
//!
//! In: a mapped file. Out: names and numbers of packs. Opening only checks the header and the sizes of the tables;
//! their contents are checked when used. Layers of a chain are such files too, each of which numbers its packs from
//! zero.

use super::bytes::{NameTable, check_object_format, chunk, u32_at, u64_at};
use super::map::map;
use anyhow::{Context, ensure};
use gix_hash::oid;
use memmap2::Mmap;
use std::cell::OnceCell;
use std::ffi::OsStr;
use std::fs::File;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const HEAD: usize = 12;
/// If this bit of an offset is set, the rest is a row in the table of large offsets.
const LARGE: u32 = 1 << 31;

/// An opened multi-pack-index.
pub struct Midx {
    map: Mmap,
    /// The length of an ID in bytes.
    width: usize,
    packs: u32,
    objects: NameTable,
    names: Range<usize>,
    offsets: usize,
    /// Offsets that do not fit 31 bits.
    large: Range<usize>,
    /// Positions in bitmap order.
    order: Option<usize>,
    /// The ranges of the pack names, found on first use.
    places: OnceCell<Vec<Range<usize>>>,
}

impl Midx {
    /// Opens the file and checks signature, version, object format and tables.
    ///
    /// # Errors
    /// When the file cannot be read or is not a valid multi-pack-index.
    pub fn open(path: &Path, hash: gix_hash::Kind) -> anyhow::Result<Self> {
        let map = map(&File::open(path)?)?;
        let width = hash.len_in_bytes();
        let end = map.len().checked_sub(width).filter(|end| *end >= HEAD);
        let end = end.context("multi-pack-index is too small")?;
        ensure!(map[..4] == *b"MIDX", "multi-pack-index has an unknown form");
        ensure!(matches!(map[4], 1 | 2), "multi-pack-index has version {}, which is unknown", map[4]);
        check_object_format(map[5], hash)?;
        let chunk = |id| chunk(&map[..end], HEAD, map[6], id);
        let names = chunk(b"PNAM")?;
        let objects = NameTable::open(&map, chunk(b"OIDF")?, chunk(b"OIDL")?, width)?;
        let offsets = chunk(b"OOFF")?;
        objects.check_rows(offsets.clone(), 8)?;
        let offsets = offsets.start;
        let packs = u32_at(&map, 8);
        let large = chunk(b"LOFF").unwrap_or_default();
        let order =
            chunk(b"RIDX").ok().filter(|order| objects.check_rows(order.clone(), 4).is_ok()).map(|order| order.start);
        let places = OnceCell::new();
        Ok(Midx { map, width, packs, objects, names, offsets, large, order, places })
    }

    /// The number of the pack that has an object. It is out of range if the file is wrong.
    pub fn pack_of(&self, id: &oid) -> Option<u32> {
        self.position(id).map(|position| u32_at(&self.map, self.offsets + position as usize * 8))
    }

    /// The number of objects.
    pub fn len(&self) -> u32 {
        self.objects.len()
    }

    /// Whether it has no objects.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The hash of everything before it, by which the file is known.
    pub fn checksum(&self) -> &oid {
        oid::try_from_bytes(&self.map[self.map.len() - self.width..]).expect("the width is that of the hash")
    }

    /// Verifies the checksum, which reads the whole file.
    pub fn is_sound(&self) -> bool {
        super::bitmap::is_sound(&self.map, self.checksum().kind())
    }

    /// The position of an ID.
    pub fn position(&self, id: &oid) -> Option<u32> {
        self.objects.position(&self.map, id)
    }

    /// The ID at a position, which must be within this file.
    pub fn id_at(&self, position: u32) -> &oid {
        self.objects.id_at(&self.map, position)
    }

    /// The pack number and offset of the object at a position. Both are unverified; reading there checks them.
    pub fn place(&self, position: u32) -> (u32, u64) {
        assert!(position < self.len(), "a position of another index");
        let at = self.offsets + position as usize * 8;
        let (pack, offset) = (u32_at(&self.map, at), u32_at(&self.map, at + 4));
        if self.large.is_empty() || offset & LARGE == 0 {
            return (pack, offset.into());
        }
        let row = ((offset & !LARGE) as usize).checked_mul(8);
        let large = row.and_then(|row| self.map[self.large.clone()].get(row..)?.get(..8));
        (pack, large.map_or(u64::MAX, |bytes| u64_at(bytes, 0)))
    }

    /// The position of the object with the n-th bit of a bitmap, according to the file.
    pub fn position_at(&self, rank: u32) -> Option<u32> {
        let order = self.order.filter(|_| rank < self.len())?;
        Some(u32_at(&self.map, order + rank as usize * 4))
    }

    /// Whether the file has the bitmap order.
    pub fn has_order(&self) -> bool {
        self.order.is_some()
    }

    /// The file name of a pack's index; `None` if there is no such pack.
    pub fn name(&self, pack: u32) -> Option<&OsStr> {
        let place = self.places().get(pack as usize)?.clone();
        Some(OsStr::from_bytes(&self.map[place]))
    }

    /// The file names of all pack indexes.
    pub fn names(&self) -> impl Iterator<Item = &OsStr> {
        self.places().iter().map(|place| OsStr::from_bytes(&self.map[place.clone()]))
    }

    fn places(&self) -> &[Range<usize>] {
        self.places.get_or_init(|| {
            let mut places = Vec::new();
            let mut at = self.names.start;
            for name in self.map[self.names.clone()].split(|byte| *byte == 0).take(self.packs as usize) {
                places.push(at..at + name.len());
                at += name.len() + 1;
            }
            places
        })
    }
}

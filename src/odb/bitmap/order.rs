//! Which object each bit refers to: those of a pack in storage order, or those of a multi-pack-index, pack by pack.
//!
//! In: a pack, or a multi-pack-index and its packs. Out: index positions, ranks among the bits, places. A pack's bitmap
//! covers all its objects. A multi-pack-index has one copy of each object, and its preferred pack comes first. Format:
//! git's gitformat-pack, multi-pack-index reverse indexes.

use crate::odb::index::{self, Reverse};
use crate::odb::midx::Midx;
use crate::odb::packs::Pack;
use anyhow::{Context, Result, ensure};
use gix_hash::oid;
use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The objects that bits refer to, in order.
pub enum Order {
    /// All objects of a pack.
    Pack(Arc<Pack>),
    /// The objects of a multi-pack-index.
    Midx(Box<PseudoPack>),
}

/// The pseudo-pack that a multi-pack-index makes of its packs.
pub struct PseudoPack {
    midx: Midx,
    path: PathBuf,
    /// By their numbers in the multi-pack-index.
    packs: Vec<Arc<Pack>>,
    /// Set if the order is in a file of its own.
    reverse: Option<Reverse>,
    /// The pack that comes first, whatever its number.
    preferred: u32,
}

impl PseudoPack {
    /// Takes an opened multi-pack-index, and its packs by their numbers.
    ///
    /// # Errors
    /// When it is damaged, names a pack twice, or has no order of objects.
    pub(in crate::odb) fn new(midx: Midx, path: PathBuf, packs: Vec<Arc<Pack>>) -> Result<Self> {
        ensure!(midx.is_sound(), "multi-pack-index does not match its checksum");
        let mut numbers: Vec<_> = packs.iter().map(|pack| pack.id()).collect();
        numbers.sort_unstable();
        ensure!(numbers.windows(2).all(|pair| pair[0] != pair[1]), "multi-pack-index names a pack twice");
        let reverse = reverse_of(&midx, &path)?;
        let mut all = PseudoPack { midx, path, packs, reverse, preferred: 0 };
        if let Some(first) = all.position_at(0) {
            all.preferred = all.midx.place(first).0;
        }
        Ok(all)
    }

    fn position_at(&self, rank: u32) -> Option<u32> {
        let position = match &self.reverse {
            Some(reverse) => reverse.position(rank),
            None => self.midx.position_at(rank),
        };
        position.filter(|position| *position < self.midx.len())
    }

    /// The sort key of an object.
    fn key(&self, position: u32) -> (bool, u32, u64) {
        let (pack, offset) = self.midx.place(position);
        (pack != self.preferred, pack, offset)
    }
}

/// Opens the file with the order of the bits; `None` if the multi-pack-index itself has the order.
fn reverse_of(midx: &Midx, path: &Path) -> Result<Option<Reverse>> {
    if midx.has_order() {
        return Ok(None);
    }
    let checksum = midx.checksum();
    let opened = Reverse::open(&beside(path, checksum, "rev"), checksum.kind(), midx.len(), checksum.as_bytes());
    opened.map(Some).context("multi-pack-index does not say in which order a bitmap has its objects")
}

/// Whether the multi-pack-index at `path`, or a file beside it, has the order of the bits.
pub fn has_order(midx: &Midx, path: &Path) -> bool {
    reverse_of(midx, path).is_ok()
}

/// `multi-pack-index-<hash>.<extension>`.
fn beside(path: &Path, checksum: &oid, extension: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!("-{checksum}.{extension}"));
    path.with_file_name(name)
}

impl Order {
    /// The number of objects.
    pub fn len(&self) -> u32 {
        match self {
            Order::Pack(pack) => pack.len(),
            Order::Midx(all) => all.midx.len(),
        }
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The checksum of the pack or multi-pack-index that the bitmaps are for.
    pub fn checksum(&self) -> &oid {
        match self {
            Order::Pack(pack) => pack.checksum(),
            Order::Midx(all) => all.midx.checksum(),
        }
    }

    /// The path of the bitmap file.
    pub fn bitmap_path(&self) -> PathBuf {
        match self {
            Order::Pack(pack) => pack.path().with_extension("bitmap"),
            Order::Midx(all) => beside(&all.path, all.midx.checksum(), "bitmap"),
        }
    }

    /// The packs that contain the objects, by number.
    pub fn packs(&self) -> &[Arc<Pack>] {
        match self {
            Order::Pack(pack) => std::slice::from_ref(pack),
            Order::Midx(all) => &all.packs,
        }
    }

    /// The index position of an object.
    pub fn position(&self, id: &oid) -> Option<u32> {
        match self {
            Order::Pack(pack) => pack.position(id),
            Order::Midx(all) => all.midx.position(id),
        }
    }

    /// The ID at an index position, which must be valid.
    pub fn id_at(&self, position: u32) -> &oid {
        match self {
            Order::Pack(pack) => pack.id_at(position),
            Order::Midx(all) => all.midx.id_at(position),
        }
    }

    /// The pack number and offset of the object at an index position, which must be valid. Both are unverified; reading
    /// there checks them.
    pub fn place(&self, position: u32) -> (u32, u64) {
        match self {
            Order::Pack(pack) => (0, pack.offset_at(position)),
            Order::Midx(all) => all.midx.place(position),
        }
    }

    /// A sort key for bit order, cheaper than the rank.
    pub fn key(&self, position: u32) -> (bool, u32, u64) {
        match self {
            Order::Pack(pack) => (false, 0, pack.offset_at(position)),
            Order::Midx(all) => all.key(position),
        }
    }

    /// The index position of the object with the n-th bit.
    pub fn position_at(&self, rank: u32) -> Option<u32> {
        match self {
            Order::Pack(pack) => pack.position_at_rank(rank),
            Order::Midx(all) => all.position_at(rank),
        }
    }

    /// The rank of the bit of the object at an index position.
    pub fn rank(&self, position: u32) -> Option<u32> {
        let all = match self {
            Order::Pack(pack) => return pack.rank_at_offset(pack.offset_at(position)),
            Order::Midx(all) => all,
        };
        let key = all.key(position);
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match all.key(all.position_at(middle)?).cmp(&key) {
                Ordering::Equal => return Some(middle),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The index positions of all bits, in bit order.
    ///
    /// # Errors
    /// When the order names a position twice, or one that does not exist.
    pub fn positions(&self) -> Result<Vec<u32>> {
        match self {
            Order::Pack(pack) => Ok(pack.by_offset().iter().collect()),
            Order::Midx(all) => {
                let mut positions = Vec::new();
                index::permutation(self.len(), |rank| all.position_at(rank), |position| positions.push(position))?;
                Ok(positions)
            }
        }
    }
}

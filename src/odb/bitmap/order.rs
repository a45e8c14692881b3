//! Which object each bit stands for: those of a pack as they lie there, or those of a multi-pack-index, pack by pack.
//!
//! In: a pack, or a multi-pack-index and its packs. Out: positions in the index, ranks among the bits, places. A pack's bitmap
//! tells of all its objects; a multi-pack-index names one copy of each object, and its preferred pack comes first. Format: git's
//! gitformat-pack, multi-pack-index reverse indexes.

use crate::odb::index::{self, Reverse};
use crate::odb::midx::Midx;
use crate::odb::packs::Pack;
use anyhow::{Context, Result, ensure};
use gix_hash::oid;
use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The objects that bits stand for, in their order.
pub enum Order {
    /// All of a pack.
    Pack(Arc<Pack>),
    /// Those that a multi-pack-index names.
    Midx(Box<PseudoPack>),
}

/// What a multi-pack-index makes of its packs.
pub struct PseudoPack {
    midx: Midx,
    path: PathBuf,
    /// In the order of their numbers.
    packs: Vec<Arc<Pack>>,
    /// Where the order stands in a file of its own.
    reverse: Option<Reverse>,
    /// The pack that comes first, whatever its number.
    preferred: u32,
}

impl PseudoPack {
    /// Takes a multi-pack-index as it was opened, and its packs by their numbers.
    ///
    /// # Errors
    /// When it does not say in which order the objects are.
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

    /// What objects are sorted by.
    fn key(&self, position: u32) -> (bool, u32, u64) {
        let (pack, offset) = self.midx.place(position);
        (pack != self.preferred, pack, offset)
    }
}

/// The file which says in what order a bitmap has the objects; `None`: the multi-pack-index itself says so.
fn reverse_of(midx: &Midx, path: &Path) -> Result<Option<Reverse>> {
    if midx.has_order() {
        return Ok(None);
    }
    let checksum = midx.checksum();
    let opened = Reverse::open(&beside(path, checksum, "rev"), checksum.kind(), midx.len(), checksum.as_bytes());
    opened.map(Some).context("multi-pack-index does not say in which order a bitmap has its objects")
}

/// Whether the multi-pack-index at `path`, or a file beside it, says in which order a bitmap has the objects.
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
    /// How many objects there are.
    pub fn len(&self) -> u32 {
        match self {
            Order::Pack(pack) => pack.len(),
            Order::Midx(all) => all.midx.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The checksum of what bitmaps are made for.
    pub fn checksum(&self) -> &oid {
        match self {
            Order::Pack(pack) => pack.checksum(),
            Order::Midx(all) => all.midx.checksum(),
        }
    }

    /// Where the file of the bitmaps lies.
    pub fn bitmap_path(&self) -> PathBuf {
        match self {
            Order::Pack(pack) => pack.path().with_extension("bitmap"),
            Order::Midx(all) => beside(&all.path, all.midx.checksum(), "bitmap"),
        }
    }

    /// The packs in which the objects lie, by number.
    pub fn packs(&self) -> &[Arc<Pack>] {
        match self {
            Order::Pack(pack) => std::slice::from_ref(pack),
            Order::Midx(all) => &all.packs,
        }
    }

    /// The position of a name in the index.
    pub fn position(&self, id: &oid) -> Option<u32> {
        match self {
            Order::Pack(pack) => pack.position(id),
            Order::Midx(all) => all.midx.position(id),
        }
    }

    /// The name at an index position, which must be one.
    pub fn id_at(&self, position: u32) -> &oid {
        match self {
            Order::Pack(pack) => pack.id_at(position),
            Order::Midx(all) => all.midx.id_at(position),
        }
    }

    /// The number of the pack of the object at an index position, which must be one, and the offset there; foreign, but checked
    /// by whoever reads there.
    pub fn place(&self, position: u32) -> (u32, u64) {
        match self {
            Order::Pack(pack) => (0, pack.offset_at(position)),
            Order::Midx(all) => all.midx.place(position),
        }
    }

    /// What comes first among the bits has the smaller key. It costs less than the rank.
    pub fn key(&self, position: u32) -> (bool, u32, u64) {
        match self {
            Order::Pack(pack) => (false, 0, pack.offset_at(position)),
            Order::Midx(all) => all.key(position),
        }
    }

    /// The index position of the object that a bit stands for.
    pub fn position_at(&self, rank: u32) -> Option<u32> {
        match self {
            Order::Pack(pack) => pack.position_at_rank(rank),
            Order::Midx(all) => all.position_at(rank),
        }
    }

    /// The bit of the object at an index position.
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

    /// The index positions of all bits.
    ///
    /// # Errors
    /// When an index names one twice.
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

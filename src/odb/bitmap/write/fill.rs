//! The objects that a commit reaches, as bits: those that chosen ancestors reach, and newer ones.
//!
//! In: commits, and the bits of earlier ones. Out: bits. A tree whose bit is set is not read again, since the bits of
//! everything below it are set too. Trees at one path are read together in storage order, and each is compared with the
//! one before it.

use super::choose::NOTHING;
use super::{NotClosed, path_hash};
use crate::odb::Objects;
use crate::odb::bitmap::{Bits, Order};
use crate::odb::closure::{EntryKind, Tree};
use crate::stream::Pulse;
use anyhow::{Context, Result, bail, ensure};
use gix_hash::oid;
use gix_object::Kind;
use std::ops::Range;

/// How many recent look-ups are remembered: neighbouring trees have most entries in common.
const RECENT: usize = 1 << 15;

/// Trees at one path that have to be read.
struct Level {
    /// The ranks of their bits.
    trees: Vec<u32>,
    /// The hash of the path, with a trailing slash unless it is the root.
    hash: u32,
}

/// A sub-tree whose bit was just set.
struct Child {
    name: Range<usize>,
    rank: u32,
}

/// Reads trees and sets bits.
pub(super) struct Fill<'a> {
    objects: &'a Objects,
    order: &'a Order,
    /// The index position of each bit.
    positions: &'a [u32],
    /// The bit of each index position.
    ranks: Vec<u32>,
    /// The bits of all trees.
    trees: Bits,
    /// The hash of one path at which each object was met, by index position.
    pub(super) hashes: Vec<u32>,
    /// Index positions of recently seen objects, in slots chosen by bytes of their IDs.
    recent: Vec<u32>,
    current: Tree,
    last: Tree,
    names: Vec<u8>,
    children: Vec<Child>,
    /// How many trees were read.
    read: u64,
}

impl<'a> Fill<'a> {
    /// `positions` must contain each position once.
    pub(super) fn new(objects: &'a Objects, order: &'a Order, positions: &'a [u32], trees: Bits) -> Self {
        let mut ranks = vec![NOTHING; positions.len()];
        (0..).zip(positions).for_each(|(rank, position)| ranks[*position as usize] = rank);
        Fill {
            objects,
            order,
            positions,
            ranks,
            trees,
            hashes: vec![0; positions.len()],
            recent: vec![NOTHING; RECENT],
            current: Tree::default(),
            last: Tree::default(),
            names: Vec::new(),
            children: Vec::new(),
            read: 0,
        }
    }

    /// The rank of the bit of the object at an index position.
    pub(super) fn rank(&self, position: u32) -> u32 {
        self.ranks[position as usize]
    }

    /// The rank of an object's bit.
    ///
    /// # Errors
    /// [`NotClosed`] when it has none.
    pub(super) fn rank_of(&mut self, kind: &'static str, id: &oid) -> Result<u32> {
        let slot = id.as_bytes().iter().skip(1).take(4).fold(0, |hash, byte| hash << 8 | usize::from(*byte)) % RECENT;
        let recent = self.recent[slot];
        if recent != NOTHING && self.order.id_at(recent) == id {
            return Ok(self.rank(recent));
        }
        let Some(position) = self.order.position(id) else { bail!(NotClosed { kind, id: id.to_owned() }) };
        self.recent[slot] = position;
        Ok(self.rank(position))
    }

    /// Sets the bits of everything below root trees whose own bits were just set.
    ///
    /// # Errors
    /// [`NotClosed`] when an object has no bit; any other error when a tree cannot be read.
    pub(super) fn below(&mut self, roots: Vec<u32>, bits: &mut Bits, pulse: &mut dyn Pulse) -> Result<()> {
        let mut levels = vec![Level { trees: roots, hash: 0 }];
        while let Some(mut level) = levels.pop() {
            // Bits are in storage order, so bases come before their deltas.
            level.trees.sort_unstable();
            self.last.clear();
            self.names.clear();
            self.children.clear();
            for rank in level.trees {
                self.read += 1;
                pulse.tick(self.read)?;
                let position = self.positions[rank as usize];
                self.tree(position, level.hash, bits)
                    .with_context(|| format!("tree {}", self.order.id_at(position)))?;
                std::mem::swap(&mut self.current, &mut self.last);
            }
            self.group(level.hash, &mut levels);
        }
        Ok(())
    }

    fn tree(&mut self, position: u32, hash: u32, bits: &mut Bits) -> Result<()> {
        let mut current = std::mem::take(&mut self.current);
        let (pack, offset) = self.order.place(position);
        let pack = self.order.packs().get(pack as usize).context("it lies in no pack")?;
        let (kind, bytes) = self.objects.share_in(pack, offset)?;
        current.set(bytes);
        if kind != Kind::Tree {
            bail!("it is a {kind}");
        }
        let hash_len = self.objects.hash_kind().len_in_bytes();
        current.compare(&self.last, hash_len).context("it has a malformed entry")?;
        for &fresh in &current.fresh {
            let (kind, name, id) = current.entry(fresh, hash_len);
            let title = match kind {
                EntryKind::Tree => "tree",
                EntryKind::Blob => "blob",
                EntryKind::Gitlink => continue,
            };
            let rank = self.rank_of(title, id)?;
            // An object met as a blob is not read, not even if it is met as a tree later.
            ensure!(self.trees.contains(rank) == (kind == EntryKind::Tree), "{id}, which it has as a {title}, is none");
            if !bits.insert(rank) {
                continue;
            }
            let met = &mut self.hashes[self.positions[rank as usize] as usize];
            if *met == 0 {
                *met = path_hash(hash, name);
            }
            if kind == EntryKind::Tree {
                let start = self.names.len();
                self.names.extend_from_slice(name);
                self.children.push(Child { name: start..self.names.len(), rank });
            }
        }
        self.current = current;
        Ok(())
    }

    /// Groups sub-trees of the same name into one level.
    fn group(&mut self, hash: u32, levels: &mut Vec<Level>) {
        let names = &self.names;
        self.children.sort_by(|a, b| names[a.name.clone()].cmp(&names[b.name.clone()]));
        for same in self.children.chunk_by(|a, b| names[a.name.clone()] == names[b.name.clone()]) {
            let name = &names[same[0].name.clone()];
            let hash = path_hash(path_hash(hash, name), b"/");
            levels.push(Level { trees: same.iter().map(|child| child.rank).collect(), hash });
        }
    }
}

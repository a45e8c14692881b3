//! A commit-graph (gitformat-commit-graph), in one file or a chain: parents, trees, times and generations of commits.
//!
//! In: mapped files. Out: commits by position. Opening only checks the header and the sizes of the tables; their
//! contents are checked when used. Positions continue from each file of a chain to the next, beginning with the lowest.

use super::bytes::{NameTable, check_object_format, chunk, u32_at, u64_at};
use super::map::map;
use anyhow::{Context, bail, ensure};
use gix_hash::{ObjectId, oid};
use memmap2::Mmap;
use std::fs;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

const HEAD: usize = 8;
/// A row has the tree ID, then two parents, level and time in this many bytes.
const ROW_BESIDE_TREE: usize = 16;
/// The maximum number of files in a chain: each file counts those below it in one byte.
const CHAIN_MAX: usize = 256;
/// The value for no parent.
const NONE: u32 = 0x7000_0000;
/// In a second parent: there are more, in the chunk of edges. In an edge: it is the last one. In a date: it is in the
/// chunk of large ones.
const MARK: u32 = 0x8000_0000;
/// Topological levels stop growing here and no longer order commits.
const LEVEL_MAX: u32 = 0x3fff_ffff;

/// The generation of commits outside the commit-graph, which is above all those in it.
pub const GENERATION_UNKNOWN: u64 = u64::MAX;

/// The commit-graph of a repository: one file, or a chain of them.
pub struct CommitGraph {
    /// From the lowest file up.
    layers: Vec<Layer>,
    /// Whether all layers have corrected commit dates, which are preferred to levels.
    dated: bool,
}

/// One file.
struct Layer {
    map: Mmap,
    /// The position of its first commit.
    first: u32,
    /// The length of an ID in bytes.
    width: usize,
    names: NameTable,
    rows: usize,
    /// Further parents of commits with more than two.
    edges: Range<usize>,
    /// The distances of corrected commit dates from the commits' own, and those distances that do not fit 31 bits.
    dates: Option<usize>,
    far_dates: Range<usize>,
}

impl CommitGraph {
    /// Loads the first valid one in these object directories.
    pub(super) fn load(
        directories: &[PathBuf],
        hash: gix_hash::Kind,
        warn: &mut dyn FnMut(String),
    ) -> Option<CommitGraph> {
        for directory in directories {
            let single = directory.join("info/commit-graph");
            match Layer::open(&single, hash, &[]) {
                Ok(Some(layer)) => return Some(CommitGraph::of([layer])),
                Ok(None) => {}
                Err(error) => warn(format!("commit-graph {}: {error:#}", single.display())),
            }
            let chain = directory.join("info/commit-graphs/commit-graph-chain");
            match load_chain(&chain, directories, hash, warn) {
                Ok(Some(graph)) => return Some(graph),
                Ok(None) => {}
                Err(error) => warn(format!("{}: {error:#}", chain.display())),
            }
        }
        None
    }

    fn of(layers: impl IntoIterator<Item = Layer>) -> Self {
        let mut graph = CommitGraph { layers: Vec::new(), dated: true };
        for mut layer in layers {
            layer.first = graph.len();
            // Positions beyond that would not be valid.
            if layer.first.checked_add(layer.names.len()).is_none_or(|end| end > NONE) {
                break;
            }
            graph.dated &= layer.dates.is_some();
            graph.layers.push(layer);
        }
        graph
    }

    /// The number of commits.
    pub fn len(&self) -> u32 {
        self.layers.last().map_or(0, |layer| layer.first + layer.names.len())
    }

    /// Whether it has no commits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The position of a commit.
    pub fn position(&self, id: &oid) -> Option<u32> {
        self.layers.iter().rev().find_map(|layer| layer.position(id))
    }

    /// The layer of a position, which must be within this graph, and where the commit's row begins in it.
    fn row(&self, position: u32) -> (&Layer, usize) {
        let layer = match &self.layers[..] {
            [single] => single,
            layers => &layers[layers.partition_point(|layer| layer.first <= position) - 1],
        };
        let at = position - layer.first;
        assert!(at < layer.names.len(), "a position of another commit-graph");
        (layer, layer.rows + at as usize * (layer.width + ROW_BESIDE_TREE))
    }

    /// The ID at a position, which must be within this graph; this holds for all methods below.
    pub fn id_at(&self, position: u32) -> &oid {
        let (layer, _) = self.row(position);
        layer.names.id_at(&layer.map, position - layer.first)
    }

    /// The commit's tree.
    pub fn tree(&self, position: u32) -> &oid {
        let (layer, row) = self.row(position);
        layer.id(row)
    }

    /// The committer's time, in seconds.
    pub fn time(&self, position: u32) -> i64 {
        let (layer, row) = self.row(position);
        layer.time(row)
    }

    /// A number greater than those of all ancestors; [`GENERATION_UNKNOWN`] if the file does not have it.
    ///
    /// This is the corrected commit date, or without those the level. A branch with fewer commits than others has low
    /// levels even if it is new, but not early dates.
    pub fn generation(&self, position: u32) -> u64 {
        let (layer, row) = self.row(position);
        if let Some(dates) = layer.dates.filter(|_| self.dated) {
            let distance = u32_at(&layer.map, dates + (position - layer.first) as usize * 4);
            let distance = if distance & MARK == 0 {
                Some(u64::from(distance))
            } else {
                let far = (distance & !MARK) as usize;
                layer.map[layer.far_dates.clone()].as_chunks::<8>().0.get(far).map(|bytes| u64::from_be_bytes(*bytes))
            };
            let time = u64::try_from(layer.time(row)).unwrap_or_default();
            return distance.and_then(|distance| time.checked_add(distance)).unwrap_or(GENERATION_UNKNOWN);
        }
        match u32_at(&layer.map, row + layer.width + 8) >> 2 {
            0 | LEVEL_MAX => GENERATION_UNKNOWN,
            level => level.into(),
        }
    }

    /// Appends the positions of a commit's parents to `parents`.
    ///
    /// # Errors
    /// When the file names a parent that does not exist.
    pub fn parents(&self, position: u32, parents: &mut Vec<u32>) -> anyhow::Result<()> {
        let (layer, row) = self.row(position);
        let known = self.len();
        let mut add = |parent: u32| {
            ensure!(parent < known, "commit-graph: commit {} has a parent that is not there", self.id_at(position));
            parents.push(parent);
            Ok(())
        };
        let [first, second] = [0, 4].map(|at| u32_at(&layer.map, row + layer.width + at));
        if first == NONE {
            return Ok(());
        }
        add(first)?;
        match second {
            NONE => Ok(()),
            second if second & MARK == 0 => add(second),
            more => {
                let (edges, _) = layer.map[layer.edges.clone()].as_chunks::<4>();
                for edge in edges.iter().skip((more & !MARK) as usize) {
                    let edge = u32::from_be_bytes(*edge);
                    add(edge & !MARK)?;
                    if edge & MARK != 0 {
                        return Ok(());
                    }
                }
                bail!("commit-graph: the parents of commit {} have no end", self.id_at(position))
            }
        }
    }
}

impl Layer {
    /// Opens a file above the layers `below`, given the lowest first, and checks signature, version, object format and
    /// tables. `None` if there is no such file.
    fn open(path: &Path, hash: gix_hash::Kind, below: &[ObjectId]) -> anyhow::Result<Option<Self>> {
        let Some(file) = open(path)? else { return Ok(None) };
        let map = map(&file)?;
        let width = hash.len_in_bytes();
        let end = map.len().checked_sub(width).filter(|end| *end >= HEAD).context("it is too small")?;
        ensure!(map[..4] == *b"CGPH", "it has an unknown form");
        ensure!(map[4] == 1, "it has version {}, which is unknown", map[4]);
        check_object_format(map[5], hash)?;
        let chunk = |id| chunk(&map[..end], HEAD, map[6], id);
        let names = NameTable::open(&map, chunk(b"OIDF")?, chunk(b"OIDL")?, width)?;
        let rows = chunk(b"CDAT")?;
        names.check_rows(rows.clone(), width + ROW_BESIDE_TREE)?;
        let optional = |id| chunk(id).unwrap_or_default();
        let dates = chunk(b"GDA2").ok().filter(|dates| names.check_rows(dates.clone(), 4).is_ok());
        let (edges, far_dates, stands_on) = (optional(b"EDGE"), optional(b"GDO2"), optional(b"BASE"));
        let (rows, dates) = (rows.start, dates.map(|dates| dates.start));
        let told = map[stands_on].chunks_exact(width).map(oid::from_bytes_unchecked);
        let in_place = usize::from(map[7]) == below.len() && told.eq(below.iter().map(AsRef::<oid>::as_ref));
        ensure!(in_place, "it does not belong where it stands");
        Ok(Some(Layer { first: 0, width, names, rows, edges, dates, far_dates, map }))
    }

    fn position(&self, id: &oid) -> Option<u32> {
        Some(self.first + self.names.position(&self.map, id)?)
    }

    fn id(&self, at: usize) -> &oid {
        oid::from_bytes_unchecked(&self.map[at..at + self.width])
    }

    /// The commit time in a row: the low 34 bits of the number whose high bits are the level.
    fn time(&self, row: usize) -> i64 {
        (u64_at(&self.map, row + self.width + 8) & ((1 << 34) - 1)) as i64
    }
}

/// Loads a chain. Its files may be in alternates: a fork's graph builds on that of its origin. Layers below a missing
/// or damaged one are still used.
fn load_chain(
    chain: &Path,
    directories: &[PathBuf],
    hash: gix_hash::Kind,
    warn: &mut dyn FnMut(String),
) -> anyhow::Result<Option<CommitGraph>> {
    let Some(file) = open(chain)? else { return Ok(None) };
    let mut text = Vec::new();
    file.take(((hash.len_in_hex() + 1) * CHAIN_MAX + 1) as u64).read_to_end(&mut text)?;
    let mut names = Vec::new();
    let mut layers = Vec::new();
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let name = ObjectId::from_hex(line).ok().filter(|name| name.kind() == hash).context("a line is no hash")?;
        let mut places =
            directories.iter().map(|directory| directory.join(format!("info/commit-graphs/graph-{name}.graph")));
        let Some(path) = places.find(|path| path.exists()) else { break };
        match Layer::open(&path, hash, &names) {
            Ok(Some(layer)) => layers.push(layer),
            Ok(None) => break,
            Err(error) => {
                warn(format!("commit-graph {}: {error:#}", path.display()));
                break;
            }
        }
        names.push(name);
    }
    Ok((!layers.is_empty()).then(|| CommitGraph::of(layers)))
}

/// Opens a file; `None` if it does not exist.
fn open(path: &Path) -> io::Result<Option<fs::File>> {
    match fs::File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

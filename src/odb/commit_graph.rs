//! A commit-graph (gitformat-commit-graph): parents, trees, times and generations of commits, in one file or a chain of them.
//!
//! In: mapped files. Out: commits by position. Opening looks at the head and at the sizes of the tables; what stands in them is
//! checked when it is used. Positions of a chain's files follow one another, from the lowest file up.

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
/// Behind the name of its tree a commit has two parents, its level and its time.
const ROW_BESIDE_TREE: usize = 16;
/// The most files a chain may have; each has one byte for how many are below it.
const CHAIN_MAX: usize = 256;
/// No parent.
const NONE: u32 = 0x7000_0000;
/// Of a second parent: there are more, in the chunk of edges. Of one of these: it is the last. Of a date: it stands in the chunk of far ones.
const MARK: u32 = 0x8000_0000;
/// Levels stand still here, and tell no longer who is above whom.
const LEVEL_MAX: u32 = 0x3fff_ffff;

/// The generation of commits that no commit-graph knows: above all it knows.
pub const GENERATION_UNKNOWN: u64 = u64::MAX;

/// All that is known of commits of one repository.
pub struct CommitGraph {
    /// From the lowest up.
    layers: Vec<Layer>,
    /// Whether all of these have corrected dates, which tell more than levels.
    dated: bool,
}

/// One file.
struct Layer {
    map: Mmap,
    /// The position of its first commit.
    first: u32,
    /// Bytes of a name.
    width: usize,
    names: NameTable,
    rows: usize,
    /// Further parents of commits that have more than two.
    edges: Range<usize>,
    /// How far the corrected dates lie behind the commits' own, and those distances that fit no 31 bits.
    dates: Option<usize>,
    far_dates: Range<usize>,
}

impl CommitGraph {
    /// The first valid one of some object directories.
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
            // Beyond that a position would not be one.
            if layer.first.checked_add(layer.names.len()).is_none_or(|end| end > NONE) {
                break;
            }
            graph.dated &= layer.dates.is_some();
            graph.layers.push(layer);
        }
        graph
    }

    /// How many commits it knows.
    pub fn len(&self) -> u32 {
        self.layers.last().map_or(0, |layer| layer.first + layer.names.len())
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The position of a name.
    pub fn position(&self, id: &oid) -> Option<u32> {
        self.layers.iter().rev().find_map(|layer| layer.position(id))
    }

    /// The layer that has a position, which must be one of this graph, and where the commit's row begins there.
    fn row(&self, position: u32) -> (&Layer, usize) {
        let layer = match &self.layers[..] {
            [single] => single,
            layers => &layers[layers.partition_point(|layer| layer.first <= position) - 1],
        };
        let at = position - layer.first;
        assert!(at < layer.names.len(), "a position of another commit-graph");
        (layer, layer.rows + at as usize * (layer.width + ROW_BESIDE_TREE))
    }

    /// The name at a position, which must be one of this graph; so below.
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

    /// A number above those of all ancestors; [`GENERATION_UNKNOWN`] where the file does not tell.
    ///
    /// That is the corrected date, or where there are none the level. One line of history may have few commits where others have many:
    /// it then lies low by level though it is new, but not by date.
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

    /// The positions of its parents are added to `parents`.
    ///
    /// # Errors
    /// When the file names one that is not there.
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
    /// Opens one that stands on `below`, the lowest first, and checks the frame: signature, version, object format, tables. `None`: there
    /// is no such file.
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

    /// The time of the commit whose row begins at a place: 34 bits behind those of its level.
    fn time(&self, row: usize) -> i64 {
        (u64_at(&self.map, row + self.width + 8) & ((1 << 34) - 1)) as i64
    }
}

/// A chain's files may lie in the alternates: a fork's graph stands on that of its origin. What is below a layer that is missing or
/// damaged is used all the same.
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

/// Opens a file; `None` where there is none.
fn open(path: &Path) -> io::Result<Option<fs::File>> {
    match fs::File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

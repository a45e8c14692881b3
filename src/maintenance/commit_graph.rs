//! The commit-graph: parents, trees, times and generations of all reachable commits in one file
//! (gitformat-commit-graph).
//!
//! In: tips. Out: `info/commit-graph`, and no chain beside it. Every commit is read from its object, so that errors of
//! a damaged file are never handed on. Never written where history is cut or replaced: the file would describe a
//! different history.

use super::fresh::{self, Fresh};
use super::history;
use crate::durable;
use crate::odb::graph::Commits;
use crate::odb::{Objects, walk};
use crate::pack::checksummed::{Checksummed, hash_number};
use crate::repo::Repository;
use crate::stream::Pulse;
use anyhow::{Context as _, Result};
use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use std::fs;
use std::io;
use std::path::Path;

/// No parent.
const NONE: u32 = 0x7000_0000;
/// Marks a second parent that is an index into the chunk of edges, the last entry of such a list, and an offset that is
/// an index into the chunk of large offsets.
const MARK: u32 = 0x8000_0000;
/// The highest generation number.
const LEVEL_MAX: u32 = 0x3fff_ffff;
/// The bits of a time that are stored.
const TIME_MASK: u64 = (1 << 34) - 1;
/// Larger offsets from a commit's time go into a chunk of their own.
const OFFSET_MAX: u64 = 0x7fff_ffff;

/// Why a commit-graph must not be written, if so.
pub(super) fn forbidden(repository: &Repository) -> Result<Option<&'static str>> {
    if !repository.settings.commit_graph {
        return Ok(Some("core.commitGraph or gc.writeCommitGraph is false"));
    }
    history::why_changed(repository)
}

/// Whether a tip is missing from the file, or there is a chain of files.
pub(super) fn is_due(objects: &Objects, directory: &Path, tips: &[ObjectId]) -> Result<bool> {
    if !directory.join("info/commit-graph").exists() || chain(directory).exists() {
        return Ok(tips_of_commits(objects, tips)?.next().is_some());
    }
    let Some(graph) = objects.graph() else { return Ok(true) };
    Ok(tips_of_commits(objects, tips)?.any(|tip| graph.position(&tip).is_none()))
}

fn tips_of_commits(objects: &Objects, tips: &[ObjectId]) -> Result<impl Iterator<Item = ObjectId> + use<>> {
    let mut commits = Vec::new();
    for tip in tips {
        if let Some((id, Kind::Commit)) = objects.peel(tip)? {
            commits.push(id);
        }
    }
    Ok(commits.into_iter())
}

fn chain(directory: &Path) -> std::path::PathBuf {
    directory.join("info/commit-graphs/commit-graph-chain")
}

/// The result of writing a commit-graph.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// A file of this many commits.
    Commits(usize),
    /// There are no commits.
    Nothing,
    /// Another process is writing one.
    Busy,
}

/// Writes the file for everything reachable from `tips`.
pub(super) fn write(
    repository: &Repository,
    objects: &mut Objects,
    directory: &Path,
    tips: &[ObjectId],
    pulse: &mut dyn Pulse,
) -> Result<Written> {
    objects.set_graph_allowed(false);
    pulse.begin("Reading commits", None)?;
    let walk = walk::reachable_commits(objects, tips, &[], pulse);
    let table = walk.and_then(|walk| Table::of(walk.commits, &walk.reachable));
    pulse.end()?;
    let table = table?;
    if table.rows.is_empty() {
        return Ok(Written::Nothing);
    }
    let sharing = repository.settings.sharing;
    let (info, path) = (directory.join("info"), directory.join("info/commit-graph"));
    durable::mkdir_all(directory, &info, sharing).with_context(|| format!("cannot make '{}'", info.display()))?;
    let (fresh, _) = Fresh::write(repository, objects, |out| table.write(out))?;
    let chain = chain(directory);
    let Some(_lock) = fresh::lock(repository, &path, sharing)? else { return Ok(Written::Busy) };
    let mut chain_lock = None;
    if chain.parent().is_some_and(Path::exists) {
        chain_lock = fresh::lock(repository, &chain, sharing)?;
        if chain_lock.is_none() {
            return Ok(Written::Busy);
        }
    }
    fresh.put(&path)?;
    // From here on readers use the single file.
    if chain_lock.is_some() {
        remove_chain(&chain)?;
    }
    Ok(Written::Commits(table.rows.len()))
}

/// Removes the chain's list before the files it names.
fn remove_chain(chain: &Path) -> Result<()> {
    match durable::unlink(chain) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        outcome => outcome.with_context(|| format!("cannot remove '{}'", chain.display()))?,
    }
    let folder = chain.parent().unwrap_or(chain);
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "graph") {
            durable::unlink(&path).with_context(|| format!("cannot remove '{}'", path.display()))?;
        }
    }
    Ok(())
}

/// All commits, sorted by id.
struct Table {
    rows: Vec<Row>,
    /// The rows of the commits' parents.
    parents: Vec<u32>,
}

struct Row {
    id: ObjectId,
    tree: ObjectId,
    time: u64,
    /// Where its parents begin, and how many there are.
    parents: (u32, u32),
    /// One more than the highest level of its parents.
    level: u32,
    /// Its time, or one more than the latest corrected time of its parents, whichever is later.
    corrected: u64,
}

impl Table {
    fn of(mut commits: Commits<'_>, reachable: &[u32]) -> Result<Self> {
        let mut numbers = reachable.to_vec();
        numbers.sort_by(|one, other| commits.id(*one).cmp(commits.id(*other)));
        let mut row_of = vec![u32::MAX; commits.len()];
        for (row, number) in (0_u32..).zip(&numbers) {
            row_of[*number as usize] = row;
        }
        let mut table = Table { rows: Vec::with_capacity(numbers.len()), parents: Vec::new() };
        let mut parents = Vec::new();
        for &number in &numbers {
            commits.parents(number, &mut parents)?;
            let first = u32::try_from(table.parents.len()).context("history is too large")?;
            for parent in &parents {
                let row = row_of.get(*parent as usize).copied().filter(|row| *row != u32::MAX);
                table.parents.push(row.context("a parent was not reached")?);
            }
            let time = u64::try_from(commits.time(number)?).unwrap_or(0);
            table.rows.push(Row {
                id: commits.id(number).to_owned(),
                tree: commits.tree(number)?,
                time,
                parents: (first, u32::try_from(parents.len()).context("history is too large")?),
                level: 0,
                corrected: 0,
            });
        }
        table.rank();
        Ok(table)
    }

    fn parents(&self, row: &Row) -> &[u32] {
        &self.parents[row.parents.0 as usize..][..row.parents.1 as usize]
    }

    /// Computes levels and corrected times, parents first.
    fn rank(&mut self) {
        let mut stack = Vec::new();
        for start in 0..self.rows.len() {
            stack.push(start);
            while let Some(&at) = stack.last() {
                let row = &self.rows[at];
                let waiting = stack.len();
                let is_ready = |parent: &&u32| self.rows[**parent as usize].level == 0;
                if row.level == 0 {
                    stack.extend(self.parents(row).iter().filter(is_ready).map(|parent| *parent as usize));
                }
                if stack.len() > waiting {
                    continue;
                }
                stack.pop();
                let parents = || self.parents(row).iter().map(|parent| &self.rows[*parent as usize]);
                let level = parents().map(|parent| parent.level).max().unwrap_or(0);
                let latest = parents().map(|parent| parent.corrected).max().unwrap_or(0);
                let row = &mut self.rows[at];
                // Zero means unknown, so no commit may have it.
                (row.level, row.corrected) = ((level + 1).min(LEVEL_MAX), row.time.max(latest + 1));
            }
        }
    }

    fn write(&self, out: &mut Checksummed<'_>) -> Result<ObjectId> {
        let count = self.rows.len() as u64;
        let width = out.hash().len_in_bytes() as u64;
        let offsets = || self.rows.iter().map(|row| row.corrected - (row.time & TIME_MASK));
        let far = offsets().filter(|offset| *offset > OFFSET_MAX).count() as u64;
        let of_many = || self.rows.iter().filter(|row| row.parents.1 > 2);
        let edges: u64 = of_many().map(|row| u64::from(row.parents.1) - 1).sum();
        let chunks = [
            (b"OIDF", 256 * 4),
            (b"OIDL", count * width),
            (b"CDAT", count * (width + 16)),
            (b"GDA2", count * 4),
            (b"GDO2", far * 8),
            (b"EDGE", edges * 4),
        ];
        let chunks: Vec<_> = chunks.into_iter().filter(|(_, bytes)| *bytes > 0).collect();
        let many = u8::try_from(chunks.len()).context("there are six at most")?;
        out.bytes(b"CGPH")?;
        out.bytes(&[1, hash_number(out.hash()), many, 0])?;
        table_of_contents(out, &chunks, 8)?;
        fan_out(out, self.rows.iter().map(|row| row.id.as_ref()))?;
        for row in &self.rows {
            out.bytes(row.id.as_bytes())?;
        }
        let mut edge = 0;
        for row in &self.rows {
            let parents = self.parents(row);
            out.bytes(row.tree.as_bytes())?;
            out.u32(parents.first().copied().unwrap_or(NONE))?;
            match parents {
                [] | [_] => out.u32(NONE)?,
                [_, second] => out.u32(*second)?,
                [_, more @ ..] => {
                    out.u32(MARK | edge)?;
                    edge += u32::try_from(more.len()).context("history is too large")?;
                }
            }
            out.u32(row.level << 2 | ((row.time & TIME_MASK) >> 32) as u32)?;
            out.u32(row.time as u32)?;
        }
        let mut next_far = 0;
        for offset in offsets() {
            match u32::try_from(offset) {
                Ok(near) if offset <= OFFSET_MAX => out.u32(near)?,
                _ => {
                    out.u32(MARK | next_far)?;
                    next_far += 1;
                }
            }
        }
        for offset in offsets().filter(|offset| *offset > OFFSET_MAX) {
            out.bytes(&offset.to_be_bytes())?;
        }
        for row in of_many() {
            let (last, more) = self.parents(row)[1..].split_last().context("there are more than two")?;
            for parent in more {
                out.u32(*parent)?;
            }
            out.u32(MARK | last)?;
        }
        Ok(out.end()?)
    }
}

/// Writes the table of contents after a header of `head` bytes (gitformat-chunk): each chunk's position, and where the
/// last one ends.
pub(super) fn table_of_contents(out: &mut Checksummed<'_>, chunks: &[(&[u8; 4], u64)], head: u64) -> io::Result<()> {
    let mut place = head + 12 * (chunks.len() as u64 + 1);
    for (id, bytes) in chunks {
        out.bytes(*id)?;
        out.bytes(&place.to_be_bytes())?;
        place += bytes;
    }
    out.u32(0)?;
    out.bytes(&place.to_be_bytes())
}

/// Writes, for each first byte, how many names have that or a smaller one. The names are sorted.
pub(super) fn fan_out<'a>(out: &mut Checksummed<'_>, names: impl Iterator<Item = &'a oid>) -> io::Result<()> {
    let mut counts = [0_u32; 256];
    names.for_each(|name| counts[usize::from(name.as_bytes()[0])] += 1);
    let mut sum = 0;
    for count in counts {
        sum += count;
        out.u32(sum)?;
    }
    Ok(())
}

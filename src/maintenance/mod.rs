//! Maintenance: keeps a repository small and fast to serve, while it is in use.
//!
//! In: a repository. Out: fewer packs and loose objects, and the files that save walks: reverse indexes, a
//! commit-graph, a multi-pack-index, reachability bitmaps. All of them are git's own, in git's formats and under git's
//! locks. Unreachable objects stay. No object is removed before another copy of it is on disk and visible to everybody;
//! if killed at any moment, it leaves the old state intact.
//!
//! Safety comes from the order: first the new pack is put beside the old ones and into the multi-pack-index, then the
//! old ones are removed. The files that save walks follow, and their failure holds up nothing.

mod bitmaps;
mod commit_graph;
mod damaged;
mod fresh;
mod geometry;
mod history;
mod local;
mod locks;
mod midx;
mod prune;
mod repack;
mod reverse;
mod tips;

use crate::odb::closure::{Broken, Missing};
use crate::odb::{Objects, Pack};
use crate::pack::select::{self, Request, Selection};
use crate::repo::lock::Lock;
use crate::repo::{Repository, server_info};
use crate::stream::Pulse;
use anyhow::{Context as _, Result};
use commit_graph::Written;
use gix_hash::ObjectId;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How many loose objects are packed by default. git waits for some 6,700, because its packs pile up.
pub const LOOSE_LIMIT_DEFAULT: u64 = 100;
/// Each pack has at least this many times as many objects as the next smaller one.
const FACTOR: u64 = 2;

/// What a run of maintenance does.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Loose objects are packed once there are this many.
    pub loose_limit: u64,
    /// Merge all packs into one, however many there are.
    pub full: bool,
    /// Only report what would be done.
    pub dry_run: bool,
}

/// How maintenance went.
#[derive(Debug)]
pub enum Ran {
    /// What was done, or would be.
    Done(Report),
    /// Another process is doing maintenance; says which.
    Busy(String),
}

/// What was done, or would be.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Loose objects that were packed; in a dry run, those that exist.
    pub loose_objects: usize,
    /// Packs that were merged into one.
    pub packs: usize,
    /// The file name of the pack that was made.
    pub pack: Option<String>,
    /// Loose files that were removed.
    pub loose_removed: usize,
    /// Packs that were removed.
    pub packs_removed: usize,
    /// Files that did not match their checksums and were removed.
    pub damaged_removed: usize,
    /// Leftover files of packs without an index that were removed.
    pub remains_removed: usize,
    /// Reverse indexes that were written.
    pub reverse_indexes: usize,
    /// Whether a commit-graph was written, and of how many commits, if known.
    pub commit_graph: Option<Option<usize>>,
    /// The number of packs for which a multi-pack-index was written; for a single pack it was removed.
    pub multi_pack_index: Option<usize>,
    /// Whether bitmaps were written, and for how many commits, if known.
    pub bitmaps: Option<Option<u32>>,
    /// What was left out, and why.
    pub left_out: Vec<String>,
    /// What went wrong without affecting the rest.
    pub problems: Vec<String>,
}

/// Runs maintenance on a repository.
///
/// # Errors
/// When the repository cannot be read, or writing fails. Nothing that was there is lost.
pub fn run(repository: &Repository, options: Options, pulse: &mut dyn Pulse) -> Result<Ran> {
    let directory = local::directory(&repository.objects)?;
    let mut planned = plan(repository, options, &directory)?;
    // The search reads every byte of files that may be large, so it is skipped if there is nothing to do.
    let is_damage_looked_for = options.full || planned != Report::default();
    if options.dry_run {
        if is_damage_looked_for {
            planned.damaged_removed = damaged::find(&directory, repository.hash())?.len();
        }
        return Ok(Ran::Done(planned));
    }
    let locks = match locks::acquire(repository, &directory)? {
        Ok(locks) => locks,
        Err(who) => return Ok(Ran::Busy(who)),
    };
    let mut report = Report::default();
    if is_damage_looked_for {
        report.damaged_removed = damaged::remove(&directory, repository.hash())?;
    }
    let mut work = Work { repository, directory, tips: tips::all(repository)?, report };
    work.all(options, pulse)?;
    drop(locks);
    Ok(Ran::Done(work.report))
}

/// Works out what would be done, without checking which loose objects are reachable.
fn plan(repository: &Repository, options: Options, directory: &Path) -> Result<Report> {
    // Reopened, because damaged files read here must not be used afterwards.
    let objects = &repository.reopened();
    let (packs, tips) = (local::packs(objects)?, tips::all(repository)?);
    let loose = objects.loose_ids()?.len();
    let mut report = Report::default();
    let pack_loose = should_pack_loose(repository, options, directory, &packs, loose)?;
    if !repository.settings.precious_objects {
        report.loose_objects = if pack_loose { loose } else { 0 };
        report.packs = merged(&packs, report.loose_objects, options.full).len();
        report.remains_removed = prune::remains(directory, repository.context.now)?.len();
    }
    let left = packs.len() - report.packs + usize::from(report.loose_objects + report.packs > 0);
    if repository.settings.write_reverse_index {
        report.reverse_indexes = packs.iter().filter(|pack| reverse::is_missing(pack)).count();
    }
    if commit_graph::forbidden(repository)?.is_none() && commit_graph::is_due(objects, directory, &tips)? {
        report.commit_graph = Some(None);
    }
    let changes = report.loose_objects + report.packs > 0;
    let is_allowed = repository.settings.multi_pack_index;
    if is_allowed && (changes || midx_is_due(repository, directory, &packs)?) {
        report.multi_pack_index = Some(left).filter(|left| *left > 1);
    }
    let are_due = left > 0 && (changes || bitmaps::is_due(&directory.join("pack"), &packs, repository.hash()));
    if are_due && bitmaps::forbidden(repository, left)?.is_none() {
        report.bitmaps = Some(None);
    }
    Ok(report)
}

/// Whether the multi-pack-index must be written for these packs, including when bitmaps are wanted and it lacks what
/// they need.
fn midx_is_due(repository: &Repository, directory: &Path, packs: &[Arc<Pack>]) -> Result<bool> {
    let (folder, hash) = (directory.join("pack"), repository.hash());
    if midx::is_due(&folder, packs, hash) {
        return Ok(true);
    }
    Ok(midx::lacks_order(&folder, packs, hash) && bitmaps::forbidden(repository, packs.len())?.is_none())
}

/// Whether this many loose objects are to be packed.
fn should_pack_loose(
    repository: &Repository,
    options: Options,
    directory: &Path,
    packs: &[Arc<Pack>],
    loose: usize,
) -> Result<bool> {
    if loose == 0 || options.full || loose as u64 >= options.loose_limit {
        return Ok(loose > 0);
    }
    // Bitmaps can only describe packed objects.
    let are_due = bitmaps::is_due(&directory.join("pack"), packs, repository.hash());
    Ok(are_due && bitmaps::forbidden(repository, packs.len())?.is_none())
}

/// Whether an index lists an object twice; C git accepts such packs.
fn has_twice(pack: &Pack) -> bool {
    (1..pack.len()).any(|position| pack.id_at(position) == pack.id_at(position - 1))
}

/// The packs to merge, together with this many loose objects.
fn merged(packs: &[Arc<Pack>], loose: usize, full: bool) -> Vec<Arc<Pack>> {
    let mut free: Vec<Arc<Pack>> = packs.iter().filter(|pack| local::is_free(pack.path())).cloned().collect();
    free.sort_by_key(|pack| pack.len());
    let taken = if full {
        if free.len() > 1 || loose > 0 { free.len() } else { 0 }
    } else {
        let sizes: Vec<u64> = free.iter().map(|pack| pack.len().into()).collect();
        geometry::taken(&sizes, loose as u64, FACTOR)
    };
    // git cannot read packs that have an object twice through a multi-pack-index.
    let taken = taken.max(free.iter().rposition(|pack| has_twice(pack)).map_or(0, |at| at + 1));
    free.truncate(taken);
    free
}

/// Maintenance in progress, with both locks held.
struct Work<'r> {
    repository: &'r Repository,
    /// The repository's own object directory.
    directory: PathBuf,
    tips: Vec<ObjectId>,
    report: Report,
}

impl Work<'_> {
    fn all(&mut self, options: Options, pulse: &mut dyn Pulse) -> Result<()> {
        let new = if self.repository.settings.precious_objects {
            self.report.left_out.push("packing: extensions.preciousObjects forbids to remove anything".into());
            None
        } else {
            self.repack(options, pulse)?
        };
        // Reopened, to see what is new.
        let objects = self.repository.reopened();
        let mut packs = local::packs(&objects)?;
        if let Some(new) = &new {
            packs.retain(|pack| !new.old.iter().any(|old| old.path() == pack.path()));
        }
        let is_told = self.multi_pack_index(&objects, &packs, new.as_ref().map(|new| &new.lock))?;
        // At once: otherwise, if a later step failed, the next run would pack the same objects again.
        if let Some(new) = new {
            self.prune(&new, &objects, is_told)?;
        }
        self.sweep(pulse)?;
        if self.repository.settings.write_reverse_index {
            self.report.reverse_indexes = reverse::write(self.repository, &objects, &packs)?;
        }
        if let Err(error) = self.commit_graph(pulse) {
            self.report.problems.push(format!("{error:#}: no commit-graph is written"));
        }
        if is_told && let Err(error) = self.bitmaps(&packs, pulse) {
            self.report.problems.push(format!("{error:#}: no bitmaps are written"));
        }
        Ok(())
    }

    /// Removes what the new pack has made superfluous; packs only if the multi-pack-index lists none of them.
    fn prune(&mut self, new: &New, objects: &Objects, is_told: bool) -> Result<()> {
        let made = local::find(objects, &new.made.path)?;
        if is_told {
            self.report.packs_removed = prune::packs(&made, &new.old)?;
        }
        self.report.loose_removed = prune::loose(&made, &self.directory, &new.loose)?;
        if self.directory.join("info/packs").exists() {
            server_info::update(self.repository)?;
        }
        Ok(())
    }

    /// Removes what dead processes have left of packs. Nothing is removed if objects are or may be missing: a lost
    /// index can be made again from its pack.
    fn sweep(&mut self, pulse: &mut dyn Pulse) -> Result<()> {
        let (settings, now) = (&self.repository.settings, self.repository.context.now);
        if settings.precious_objects || settings.is_partial_clone() {
            return Ok(());
        }
        let found = prune::remains(&self.directory, now)?;
        if found.is_empty() {
            return Ok(());
        }
        let request = Request { wants: &self.tips, missing: Missing::Refused, ..Request::default() };
        match select::select(&self.repository.reopened(), &request, pulse) {
            Ok(_) => self.report.remains_removed = prune::remove_remains(&found, now)?,
            Err(error) => self.report.problems.push(format!("{error:#}: packs without an index are left alone")),
        }
        Ok(())
    }

    /// Makes a pack of the packs and loose objects to be merged. Returns `None` if there are none.
    fn repack(&mut self, options: Options, pulse: &mut dyn Pulse) -> Result<Option<New>> {
        let objects = &self.repository.objects;
        let packs = local::packs(objects)?;
        let loose = objects.loose_ids()?;
        let pack_loose = should_pack_loose(self.repository, options, &self.directory, &packs, loose.len())?;
        if !pack_loose && merged(&packs, 0, options.full).is_empty() {
            return Ok(None);
        }
        // Packs listed in a multi-pack-index cannot be removed, and a pack made beside them would be made again by
        // every run.
        let Some(lock) = midx::lock(self.repository, &self.directory)? else {
            self.report.left_out.push("packing: multi-pack-index.lock is somebody else's".into());
            return Ok(None);
        };
        let reachable = self.reachable(pulse)?;
        let packed_now = match &reachable {
            Some(reachable) if pack_loose => repack::reachable_of(objects, reachable, &loose),
            Some(_) | None => Vec::new(),
        };
        let old = merged(&packs, packed_now.len(), options.full);
        if old.is_empty() && packed_now.is_empty() {
            return Ok(None);
        }
        let made = repack::make(self.repository, objects, &old, &packed_now, reachable.as_ref(), pulse)?;
        (self.report.loose_objects, self.report.packs) = (packed_now.len(), old.len());
        self.report.pack = made.path.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(Some(New { made, old, loose, lock }))
    }

    /// Selects everything reachable. Returns `None` if something is missing: then loose objects stay, and packs are
    /// merged as they are.
    fn reachable(&mut self, pulse: &mut dyn Pulse) -> Result<Option<Selection>> {
        let missing = if self.repository.settings.is_partial_clone() { Missing::Promised } else { Missing::Refused };
        let request = Request { wants: &self.tips, missing, ..Request::default() };
        match select::select(&self.repository.objects, &request, pulse) {
            Ok(selection) => Ok(Some(selection)),
            Err(error) if error.is::<Broken>() || error.is::<crate::odb::graph::Missing>() => {
                self.report.problems.push(format!("{error:#}: loose objects are not packed"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn commit_graph(&mut self, pulse: &mut dyn Pulse) -> Result<()> {
        let mut objects = self.repository.reopened();
        if !commit_graph::is_due(&objects, &self.directory, &self.tips)? {
            return Ok(());
        }
        if let Some(why) = commit_graph::forbidden(self.repository)? {
            self.report.left_out.push(format!("commit-graph: {why}"));
            return Ok(());
        }
        match commit_graph::write(self.repository, &mut objects, &self.directory, &self.tips, pulse)? {
            Written::Commits(many) => self.report.commit_graph = Some(Some(many)),
            Written::Nothing => {}
            Written::Busy => self.report.left_out.push("commit-graph: somebody else writes one".into()),
        }
        Ok(())
    }

    /// Makes the multi-pack-index list exactly these packs, and returns whether it does. Takes the lock unless it is
    /// `held`.
    fn multi_pack_index(&mut self, objects: &Objects, packs: &[Arc<Pack>], held: Option<&Lock>) -> Result<bool> {
        let folder = self.directory.join("pack");
        // An existing file must not list packs that are removed.
        let allowed = self.repository.settings.multi_pack_index;
        let told = if allowed { packs } else { &[] };
        if !midx_is_due(self.repository, &self.directory, told)? {
            return Ok(true);
        }
        let taken = if held.is_none() { midx::lock(self.repository, &self.directory)? } else { None };
        let written = match held.or(taken.as_ref()) {
            Some(lock) => {
                midx::write(self.repository, objects, &folder, told, lock).context("writing a multi-pack-index")?
            }
            None => false,
        };
        if written {
            self.report.multi_pack_index = Some(told.len()).filter(|_| allowed);
        } else {
            self.report.left_out.push("multi-pack-index: somebody else is at it".into());
        }
        Ok(written)
    }

    /// Writes bitmaps for these packs. If there are several, a multi-pack-index lists them.
    fn bitmaps(&mut self, packs: &[Arc<Pack>], pulse: &mut dyn Pulse) -> Result<()> {
        if !bitmaps::is_due(&self.directory.join("pack"), packs, self.repository.hash()) {
            return Ok(());
        }
        if let Some(why) = bitmaps::forbidden(self.repository, packs.len())? {
            self.report.left_out.push(format!("bitmaps: {why}"));
            return Ok(());
        }
        let objects = self.repository.reopened();
        match bitmaps::write(self.repository, &objects, &self.directory, packs, &self.tips, pulse)
            .context("writing bitmaps")?
        {
            bitmaps::Written::Commits(commits) => self.report.bitmaps = Some(Some(commits)),
            bitmaps::Written::Overtaken => self.report.left_out.push("bitmaps: somebody else has repacked".into()),
            bitmaps::Written::NotClosed(why) => self.report.left_out.push(format!("bitmaps: {why}")),
        }
        Ok(())
    }
}

/// A new pack, and what it makes superfluous.
struct New {
    made: repack::NewPack,
    old: Vec<Arc<Pack>>,
    loose: Vec<ObjectId>,
    /// The lock of the multi-pack-index, which must list the new pack before the old ones are removed.
    lock: Lock,
}

#[cfg(test)]
mod tests;

//! `maintenance`: runs maintenance on repositories one after the other, without git (docs/maintenance.md).
//!
//! In: names or paths. Out: a line for each, or JSON. A repository that cannot be maintained never holds up the others.

use super::{Site, SiteArgs, complain, count, open, open_path, print, warn, warn_of_other_user};
use crate::listing::{Listed, Listing};
use crate::maintenance::{self, LOOSE_LIMIT_DEFAULT, Options, Ran, Report};
use crate::repo::Repository;
use crate::repo::create::{self, RepositoryName};
use crate::stream::Silent;
use anyhow::Result;
use rustix::fs::FileType;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How many levels below the root repositories are looked for.
const DEPTH_MAX: usize = 8;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// <namespace>/<name>, or a git directory: a path that begins with a slash or a dot
    #[arg(required_unless_present = "all", value_name = "REPOSITORY")]
    repositories: Vec<String>,
    /// All repositories below the root, in any directory layout
    #[arg(long, conflicts_with = "repositories")]
    all: bool,
    /// Pack loose objects if there are at least this many
    #[arg(long, value_name = "NUMBER", default_value_t = LOOSE_LIMIT_DEFAULT)]
    loose_limit: u64,
    /// Make one pack of everything, however large
    #[arg(long)]
    full: bool,
    /// Only report what would be done
    #[arg(long)]
    dry_run: bool,
    /// Print problems only
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    site: SiteArgs,
}

/// A repository as it was named.
enum Named {
    Name(RepositoryName),
    Path(PathBuf),
}

impl Named {
    fn parse(word: &str) -> Result<Self> {
        if word.starts_with(['/', '.']) {
            return Ok(Named::Path(word.into()));
        }
        RepositoryName::parse(word).map(Named::Name).map_err(anyhow::Error::msg)
    }

    fn open(&self, site: &Site) -> Result<Repository> {
        match self {
            Named::Name(name) => open(site, name),
            Named::Path(path) => open_path(path),
        }
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Named::Name(name) => write!(f, "{name}"),
            Named::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode> {
        let site = self.site.resolve()?;
        let (named, unreadable): (Vec<Named>, Unreadable) = if self.all {
            all(site.root()?)?
        } else {
            let parsed = self.repositories.iter().map(|word| Named::parse(word)).collect::<Result<_>>()?;
            (parsed, Unreadable::new())
        };
        for (path, error) in &unreadable {
            complain(format_args!("error: '{}' is left out, with everything in it: {error}\n", path.display()));
        }
        let options = Options { loose_limit: self.loose_limit, full: self.full, dry_run: self.dry_run };
        let (mut all_well, mut reports) = (unreadable.is_empty(), Vec::new());
        for named in &named {
            let ran = named.open(&site).and_then(|repository| {
                warn_of_other_user(&repository.git_dir, &format!("maintenance {named}{}", site.flags()));
                maintenance::run(&repository, options, &mut Silent)
            });
            match &ran {
                Err(error) => complain(format_args!("error: {named}: {error:#}\n")),
                Ok(Ran::Busy(who)) => warn(format_args!("{named}: skipped: {who}")),
                Ok(Ran::Done(report)) => {
                    report.problems.iter().for_each(|problem| complain(format_args!("error: {named}: {problem}\n")));
                }
            }
            all_well &= matches!(&ran, Ok(Ran::Busy(_))) || ran.as_ref().is_ok_and(is_well);
            if site.json {
                reports.push(json(named, &ran));
            } else if let (false, Ok(Ran::Done(report))) = (self.quiet, &ran) {
                print(&format!("{named}: {}\n", text(report, self.dry_run)))?;
            }
        }
        if site.json {
            print(&format!("{:#}\n", Value::from(reports)))?;
        }
        Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Directories that could not be read, and why.
type Unreadable = BTreeMap<PathBuf, io::Error>;

/// All repositories below a root. Those without a `<namespace>/<name>`, which a web server serves under other paths,
/// come last.
fn all(root: &Path) -> Result<(Vec<Named>, Unreadable)> {
    let found = create::list(root)?;
    let with_routes: HashSet<PathBuf> = found.names.iter().map(|name| name.git_dir(root)).collect();
    let (mut others, mut unreadable) = (Vec::new(), found.unreadable.into_iter().collect());
    git_directories(root, 0, &mut others, &mut unreadable);
    others.retain(|path| !with_routes.contains(path));
    // A repository with a name reports its own error.
    unreadable.retain(|path, _| !with_routes.contains(path));
    others.sort();
    let named = found.names.into_iter().map(Named::Name).chain(others.into_iter().map(Named::Path)).collect();
    Ok((named, unreadable))
}

/// Finds git directories below a directory. Symbolic links are not followed, and neither repositories nor hidden
/// directories are searched.
fn git_directories(directory: &Path, depth: usize, found: &mut Vec<PathBuf>, unreadable: &mut Unreadable) {
    let mut look_at = |Listed { name, kind }: Listed| {
        let path = directory.join(&name);
        if kind != FileType::Directory {
            return;
        }
        if path.join("HEAD").is_file() && path.join("objects").is_dir() && path.join("refs").is_dir() {
            found.push(path);
        } else if depth < DEPTH_MAX && !name.as_bytes().starts_with(b".") {
            git_directories(&path, depth + 1, found, unreadable);
        }
    };
    let listed = Listing::open(directory).and_then(|mut entries| entries.try_for_each(|entry| entry.map(&mut look_at)));
    match listed {
        // It has been removed in the meantime.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => drop(unreadable.insert(directory.to_owned(), error)),
        Ok(()) => {}
    }
}

fn is_well(ran: &Ran) -> bool {
    match ran {
        Ran::Done(report) => report.problems.is_empty(),
        Ran::Busy(_) => true,
    }
}

fn json(named: &Named, ran: &Result<Ran>) -> Value {
    let mut json = match ran {
        Err(error) => json!({ "error": format!("{error:#}") }),
        Ok(Ran::Busy(who)) => json!({ "busy": who }),
        Ok(Ran::Done(report)) => json!({
            "loose_objects_packed": report.loose_objects, "packs_merged": report.packs, "pack": report.pack,
            "loose_objects_removed": report.loose_removed, "packs_removed": report.packs_removed,
            "damaged_removed": report.damaged_removed, "remains_removed": report.remains_removed, "reverse_indexes": report.reverse_indexes,
            "commit_graph": report.commit_graph.is_some(), "commit_graph_commits": report.commit_graph.flatten(),
            "multi_pack_index_packs": report.multi_pack_index,
            "bitmaps": report.bitmaps.is_some(), "bitmaps_commits": report.bitmaps.flatten(),
            "left_out": report.left_out, "problems": report.problems,
        }),
    };
    json["repository"] = named.to_string().into();
    json
}

/// What was done, or would be, in a sentence.
fn text(report: &Report, would: bool) -> String {
    let mut done = Vec::new();
    let objects = |number: usize| count(number, "loose object", "loose objects");
    let packs = |number: usize| count(number, "pack", "packs");
    let commits = |number: usize| count(number, "commit", "commits");
    let packed = match (report.loose_objects, report.packs) {
        (0, 0) => None,
        (loose, 0) => Some(objects(loose)),
        (0, merged) => Some(packs(merged)),
        (loose, merged) => Some(format!("{} and {}", objects(loose), packs(merged))),
    };
    if let Some(packed) = packed {
        let into = report.pack.as_ref().map_or("one pack", |pack| pack);
        done.push(format!("{} {packed} into {into}", if would { "pack" } else { "packed" }));
    }
    if report.damaged_removed > 0 {
        done.push(format!(
            "{} {}",
            if would { "remove" } else { "removed" },
            count(report.damaged_removed, "damaged file", "damaged files")
        ));
    }
    if report.remains_removed > 0 {
        let remains = count(report.remains_removed, "file", "files");
        done.push(format!("{} {remains} of packs without an index", if would { "remove" } else { "removed" }));
    }
    let mut written = Vec::new();
    if report.reverse_indexes > 0 {
        written.push(count(report.reverse_indexes, "reverse index", "reverse indexes"));
    }
    match report.commit_graph {
        Some(Some(number)) => written.push(format!("a commit-graph of {}", commits(number))),
        Some(None) => written.push("a commit-graph".to_owned()),
        None => {}
    }
    if let Some(number) = report.multi_pack_index.filter(|packs| *packs > 1) {
        written.push(format!("a multi-pack-index of {}", packs(number)));
    }
    match report.bitmaps {
        Some(Some(number)) => written.push(format!("bitmaps of {}", commits(number as usize))),
        Some(None) => written.push("bitmaps".to_owned()),
        None => {}
    }
    if !written.is_empty() {
        done.push(format!("{} {}", if would { "write" } else { "wrote" }, written.join(", ")));
    }
    let mut text = match (done.is_empty(), would) {
        (true, _) => "nothing to do".to_owned(),
        (false, true) => format!("would {}", done.join("; ")),
        (false, false) => done.join("; "),
    };
    for left_out in &report.left_out {
        text += &format!(" (no {left_out})");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_one_line() {
        let check = |report: Report, would: bool, expected: &str| assert_eq!(text(&report, would), expected);
        check(Report::default(), false, "nothing to do");
        check(Report::default(), true, "nothing to do");
        let packed = || Report {
            loose_objects: 1,
            packs: 2,
            pack: Some("pack-1.pack".into()),
            damaged_removed: 1,
            remains_removed: 2,
            reverse_indexes: 1,
            commit_graph: Some(Some(7)),
            multi_pack_index: Some(2),
            ..Report::default()
        };
        check(
            packed(),
            false,
            "packed 1 loose object and 2 packs into pack-1.pack; removed 1 damaged file; removed 2 files of packs without an index; wrote 1 reverse \
             index, a commit-graph of 7 commits, a multi-pack-index of 2 packs",
        );
        let plan = Report {
            pack: None,
            damaged_removed: 0,
            remains_removed: 0,
            commit_graph: Some(None),
            multi_pack_index: Some(1),
            ..packed()
        };
        check(plan, true, "would pack 1 loose object and 2 packs into one pack; write 1 reverse index, a commit-graph");
        let shallow = Report { left_out: vec!["commit-graph: history is cut".into()], ..Report::default() };
        check(shallow, false, "nothing to do (no commit-graph: history is cut)");
    }

    #[test]
    fn a_repository_is_a_name_or_a_path() {
        let is_path = |word: &str| Named::parse(word).map(|named| matches!(named, Named::Path(_))).ok();
        assert_eq!(is_path("acme/site"), Some(false));
        assert_eq!(is_path("/srv/git/site.git"), Some(true));
        assert_eq!(is_path("./site.git"), Some(true));
        assert_eq!(is_path("nonsense"), None);
    }
}

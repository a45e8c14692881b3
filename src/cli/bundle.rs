//! `bundle`: files from which clones start, and the list that announces them to git's clients.
//!
//! In: a repository. Out: bundles of its visible refs, in a file or in a directory served by a web server or CDN.
//! Tokens are never asked for there: the content of a bundle is as public as the place where it is stored.

use super::{SiteArgs, count, open, print, warn_of_other_user};
use crate::pack::bundle::{self, Header};
use crate::pack::deflate::Levels;
use crate::pack::select::Selection;
use crate::pack::write::PackOptions;
use crate::repo::Repository;
use crate::repo::bundles::{self, Bundle, BundleList};
use crate::repo::create::RepositoryName;
use crate::repo::visible::{self, For};
use crate::stream::Silent;
use anyhow::{Context, Result, bail, ensure};
use bstr::{BString, ByteSlice};
use gix_hash::ObjectId;
use serde_json::{Value, json};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The list for clients that clone from a directory of bundles without asking the repository.
const LIST: &str = "bundle-list";
/// The refs that are bundled by default.
const PREFIXES: [&str; 2] = ["refs/heads/", "refs/tags/"];

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Write one bundle to a file
    Create(Create),
    /// Add a bundle of new objects to a directory, and advertise its bundles to git's clients
    Publish(Publish),
    /// List the bundles that are advertised
    List(List),
    /// Stop advertising bundles; their files are kept
    Withdraw(Withdraw),
}

/// Which refs go into a bundle. Hidden ones never do.
#[derive(Debug, clap::Args)]
struct RefArgs {
    /// Include refs with this prefix; may be given more than once [default: refs/heads/ and refs/tags/]
    #[arg(long = "ref", value_name = "PREFIX", conflicts_with = "all")]
    prefixes: Vec<String>,
    /// Include all refs that fetches can see
    #[arg(long)]
    all: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// <namespace>/<name>
    #[arg(value_parser = RepositoryName::parse)]
    name: RepositoryName,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// A bundle that its readers already have; may be given more than once
    #[arg(long, value_name = "FILE")]
    basis: Vec<PathBuf>,
    #[command(flatten)]
    refs: RefArgs,
    #[command(flatten)]
    site: SiteArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct Publish {
    /// <namespace>/<name>
    #[arg(value_parser = RepositoryName::parse)]
    name: RepositoryName,
    /// The directory of this repository's bundles; each repository needs its own
    #[arg(long, value_name = "DIRECTORY")]
    directory: PathBuf,
    /// The URL of that directory
    #[arg(long, value_name = "URL")]
    url: String,
    /// Start over with one bundle of everything, instead of adding to the existing ones
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    refs: RefArgs,
    #[command(flatten)]
    site: SiteArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// <namespace>/<name>
    #[arg(value_parser = RepositoryName::parse)]
    name: RepositoryName,
    #[command(flatten)]
    site: SiteArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct Withdraw {
    /// <namespace>/<name>
    #[arg(value_parser = RepositoryName::parse)]
    name: RepositoryName,
    #[command(flatten)]
    site: SiteArgs,
}

impl Command {
    pub(super) fn run(self) -> Result<ExitCode> {
        match self {
            Command::Create(args) => args.run(),
            Command::Publish(args) => args.run(),
            Command::List(args) => args.run(),
            Command::Withdraw(args) => args.run(),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

/// A bundle that was written.
struct Made {
    path: PathBuf,
    objects: u32,
    bytes: u64,
    refs: usize,
    prerequisites: usize,
}

impl Made {
    fn json(&self) -> Value {
        json!({
            "path": self.path.display().to_string(), "objects": self.objects, "bytes": self.bytes, "refs": self.refs,
            "prerequisites": self.prerequisites,
        })
    }

    fn text(&self) -> String {
        let Made { path, objects, bytes, refs, .. } = self;
        let refs = count(*refs, "ref", "refs");
        let (objects, bytes) = (count(*objects, "object", "objects"), count(*bytes, "byte", "bytes"));
        format!("wrote {}: {refs}, {objects}, {bytes}\n", path.display())
    }
}

impl Create {
    fn run(self) -> Result<()> {
        let site = self.site.resolve()?;
        let repository = open(&site, &self.name)?;
        let known = known(&repository, &self.basis)?;
        let made = match plan(&repository, &self.refs, &known)? {
            Some((header, selection)) => Some(store(&repository, &self.output, &header, &selection, &|_| {})?),
            None => None,
        };
        match made {
            Some(made) => site.say(|| made.json(), || made.text()),
            None => bail!("there is nothing to bundle: no refs, or nothing new since the basis"),
        }
    }
}

impl Publish {
    fn run(self) -> Result<()> {
        let site = self.site.resolve()?;
        bundles::check_uri(&self.url)?;
        ensure!(self.directory.is_dir(), "'{}' is not a directory", self.directory.display());
        let repository = open(&site, &self.name)?;
        let file = |token: u64| self.directory.join(format!("{token}.bundle"));
        warn_of_other_user(&repository.git_dir, &format!("bundle publish {}{}", self.name, site.flags()));
        let mut list = lock(&repository)?;
        let before = if self.full { std::mem::take(&mut list.bundles) } else { Vec::new() };
        let basis: Vec<PathBuf> = list.bundles.iter().map(|bundle| file(bundle.token)).collect();
        let known =
            known(&repository, &basis).context("reading the existing bundles (--full starts over without them)")?;
        let Some((header, selection)) = plan(&repository, &self.refs, &known)? else {
            list.include()?;
            let (json, text) = (json!({ "made": null }), "nothing is new: no bundle was written\n");
            return site.say(|| json, || text.to_owned());
        };
        let newest = list.bundles.iter().chain(&before).map(|bundle| bundle.token).max();
        let mut token = newest.map_or(site.now, |newest| site.now.max(newest.saturating_add(1)));
        // A withdrawn bundle may still be downloaded, or remembered under its name.
        while file(token).exists() {
            token = token.saturating_add(1);
        }
        let made = store(&repository, &file(token), &header, &selection, &|fresh| list.note(fresh))?;
        let uri = format!("{}/{token}.bundle", self.url.trim_end_matches('/'));
        list.bundles.push(Bundle { token, uri: uri.clone() });
        list.store(&self.directory.join(LIST))?;
        let listed: Vec<String> = list.bundles.iter().map(|bundle| bundle.uri.clone()).collect();
        list.advertise()?;
        let unlisted: Vec<String> = before.iter().map(|bundle| bundle.uri.clone()).collect();
        let json = || {
            let mut made = made.json();
            made["uri"] = uri.clone().into();
            json!({ "made": made, "advertised": listed, "no_longer_advertised": unlisted })
        };
        let text = || {
            let mut text = made.text() + &format!("advertised: {uri}\n");
            for uri in &unlisted {
                text += &format!("no longer advertised: {uri} (clones in progress may still need it)\n");
            }
            text
        };
        site.say(json, text)
    }
}

impl List {
    fn run(self) -> Result<()> {
        let site = self.site.resolve()?;
        let repository = open(&site, &self.name)?;
        let bundles = bundles::read(&repository.git_dir)?;
        if site.json {
            let list: Vec<Value> =
                bundles.iter().map(|bundle| json!({ "token": bundle.token, "uri": bundle.uri })).collect();
            return print(&format!("{:#}\n", Value::from(list)));
        }
        print(&bundles.iter().map(|bundle| format!("{}\n", bundle.uri)).collect::<String>())
    }
}

impl Withdraw {
    fn run(self) -> Result<()> {
        let site = self.site.resolve()?;
        let repository = open(&site, &self.name)?;
        let had = lock(&repository)?.withdraw()?;
        let text = if had { "bundles are no longer advertised\n" } else { "no bundles were advertised\n" };
        site.say(|| json!({ "withdrawn": had }), || text.to_owned())
    }
}

fn lock(repository: &Repository) -> Result<BundleList<'_>> {
    BundleList::lock(&repository.git_dir, repository.refs.journal(), repository.settings.sharing)
}

/// The objects here that readers of these bundles already have.
fn known(repository: &Repository, bundles: &[PathBuf]) -> Result<Vec<ObjectId>> {
    let mut known = Vec::new();
    for path in bundles {
        let reading = || format!("reading '{}'", path.display());
        let mut file = BufReader::new(File::open(path).with_context(reading)?);
        let header = Header::read(&mut file, repository.hash()).with_context(reading)?;
        for (id, _) in header.refs {
            if repository.objects.contains(&id)? {
                known.push(id);
            }
        }
    }
    Ok(known)
}

/// Plans a bundle: the visible refs, followed by HEAD if it leads to one of them.
fn plan(repository: &Repository, args: &RefArgs, known: &[ObjectId]) -> Result<Option<(Header, Selection)>> {
    let prefixes: Vec<BString> = match (args.all, args.prefixes.is_empty()) {
        (true, _) => Vec::new(),
        (false, true) => PREFIXES.map(BString::from).into(),
        (false, false) => args.prefixes.iter().map(|prefix| prefix.as_str().into()).collect(),
    };
    let mut refs = Vec::new();
    visible::for_each(repository, For::Upload, &prefixes, false, &mut |tip| {
        refs.push((tip.id.id(), tip.name.to_owned()));
        Ok(())
    })?;
    let head = visible::head(repository, For::Upload).and_then(|head| Some((head.id?, head.target?)));
    let Some((mut header, selection)) = bundle::plan(&repository.objects, refs, known, &mut Silent)? else {
        return Ok(None);
    };
    // A bundle with a HEAD can be cloned from on its own.
    if let Some((id, target)) = head
        && header.refs.iter().any(|(tip, name)| *tip == id && *name == target)
    {
        header.refs.push((id, "HEAD".into()));
    }
    Ok(Some((header, selection)))
}

fn store(
    repository: &Repository,
    path: &Path,
    header: &Header,
    selection: &Selection,
    note: &dyn Fn(&Path),
) -> Result<Made> {
    let options = PackOptions {
        thin: !header.prerequisites.is_empty(),
        ofs_delta: true,
        levels: Levels::kept(repository.settings.pack_compression),
        threads: repository.settings.threads(),
        memory: repository.context.memory,
        related_max: PackOptions::related_kept(repository.context.memory),
    };
    let stats = bundle::store(path, header, selection, &repository.objects, &options, note)?;
    Ok(Made {
        path: path.to_owned(),
        objects: stats.objects,
        bytes: stats.bytes + header.encode().len() as u64,
        refs: header.refs.iter().filter(|(_, name)| name.starts_with_str("refs/")).count(),
        prerequisites: header.prerequisites.len(),
    })
}

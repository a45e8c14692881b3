//! A repository on disk for a random history: refs of all kinds, objects in all the places where git stores them.

use super::dice::Dice;
use super::history::Universe;
use crate::support::git_command;
use gix_hash::ObjectId;
use gix_object::Kind;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// A repository, and what is known about it.
pub struct Served {
    pub path: PathBuf,
    pub universe: Universe,
    /// The objects it has.
    pub present: BTreeSet<ObjectId>,
    /// Names and objects of the refs that clients see.
    pub refs: Vec<(String, ObjectId)>,
    /// The same for hidden refs.
    pub hidden: Vec<(String, ObjectId)>,
    /// Its own boundary.
    pub shallow: BTreeSet<ObjectId>,
    /// Lines of its configuration.
    pub config: String,
    /// How its objects are stored.
    pub kept: Vec<&'static str>,
}

impl Served {
    pub fn make(path: &Path, dice: &mut Dice) -> Self {
        let hash = if dice.chance(15) { gix_hash::Kind::Sha256 } else { gix_hash::Kind::Sha1 };
        let mut universe = Universe::new(hash);
        universe.grow(dice);
        let (refs, hidden) = names(&mut universe, dice);
        let mut served = Served {
            path: path.to_owned(),
            present: BTreeSet::new(),
            universe,
            refs,
            hidden,
            shallow: BTreeSet::new(),
            config: String::new(),
            kept: Vec::new(),
        };
        served.found(dice);
        served.cut(dice);
        served.write_objects(dice);
        served.write_refs(dice);
        served.pack(dice);
        served
    }

    fn git(&self, arguments: &[&str], input: &str) -> String {
        let mut command = git_command(&self.path);
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn found(&mut self, dice: &mut Dice) {
        std::fs::create_dir_all(&self.path).unwrap();
        let mut arguments = vec!["init", "-q", "--bare"];
        if self.universe.hash == gix_hash::Kind::Sha256 {
            arguments.push("--object-format=sha256");
            self.kept.push("sha256");
        }
        if dice.chance(15) {
            arguments.push("--ref-format=reftable");
            self.kept.push("reftable");
        }
        self.git(&arguments, "");
        self.config.push_str("[transfer]\n\thideRefs = refs/hidden\n");
        self.config.push_str("[uploadpack]\n");
        for (key, percent) in [
            ("allowFilter", 85),
            ("allowTipSHA1InWant", 20),
            ("allowReachableSHA1InWant", 15),
            ("allowRefInWant", 50),
            ("allowSidebandAll", 50),
        ] {
            if dice.chance(percent) {
                self.config.push_str(&format!("\t{key} = true\n"));
            }
        }
        if dice.chance(15) {
            self.config.push_str(&format!("\tallowAnySHA1InWant = {}\n", dice.chance(70)));
        }
        if dice.chance(15) {
            self.config.push_str("[uploadpackfilter]\n\tallow = false\n");
            self.config.push_str("[uploadpackfilter \"blob:none\"]\n\tallow = true\n");
            self.config.push_str("[uploadpackfilter \"tree\"]\n\tmaxDepth = 2\n");
        }
        let path = self.path.join("config");
        let own = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, own + &self.config).unwrap();
    }

    /// Makes some repositories shallow.
    fn cut(&mut self, dice: &mut Dice) {
        let tips: Vec<ObjectId> = self.refs.iter().chain(&self.hidden).map(|(_, id)| *id).collect();
        let mut present: BTreeSet<ObjectId> = self.universe.objects.keys().copied().collect();
        if dice.chance(20) {
            let merged = self.universe.commits.iter().filter(|id| !self.universe.objects[*id].parents.is_empty());
            let wished: BTreeSet<ObjectId> = dice.some(&merged.copied().collect::<Vec<_>>(), 4).into_iter().collect();
            let reached = self.universe.closure(tips, &wished);
            self.shallow = wished.intersection(&reached).copied().collect();
            if !self.shallow.is_empty() {
                self.kept.push("shallow");
                let lines: String = self.shallow.iter().map(|id| format!("{id}\n")).collect();
                std::fs::write(self.path.join("shallow"), lines).unwrap();
                if dice.chance(70) {
                    self.kept.push("nothing behind the boundary");
                    present = reached;
                }
            }
        } else if dice.chance(30) {
            // In the other repositories unreachable objects stay.
            present = self.universe.closure(tips, &BTreeSet::new());
        }
        self.present = present;
    }

    fn write_objects(&mut self, dice: &mut Dice) {
        let level = flate2::Compression::new(dice.below(3) as u32);
        for id in &self.present {
            let object = &self.universe.objects[id];
            let hex = id.to_string();
            let folder = self.path.join("objects").join(&hex[..2]);
            std::fs::create_dir_all(&folder).unwrap();
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(format!("{} {}\0", object.kind, object.data.len()).as_bytes()).unwrap();
            encoder.write_all(&object.data).unwrap();
            std::fs::write(folder.join(&hex[2..]), encoder.finish().unwrap()).unwrap();
        }
    }

    fn write_refs(&mut self, dice: &mut Dice) {
        let all = self.refs.iter().chain(&self.hidden);
        let lines: String = all.map(|(name, id)| format!("create {name} {id}\n")).collect();
        self.git(&["update-ref", "--stdin"], &lines);
        let branches: Vec<&String> =
            self.refs.iter().map(|(name, _)| name).filter(|name| name.starts_with("refs/heads/")).collect();
        match dice.below(10) {
            // Unborn, usually.
            0 => {}
            1 => {
                let id = branches.first().map(|name| self.refs.iter().find(|(known, _)| known == *name).unwrap().1);
                if let Some(id) = id {
                    self.git(&["update-ref", "--no-deref", "HEAD", &id.to_string()], "");
                }
            }
            _ => {
                if let Some(name) = branches.first() {
                    self.git(&["symbolic-ref", "HEAD", name], "");
                }
            }
        }
        if dice.chance(50) {
            self.git(&["pack-refs", "--all"], "");
        }
    }

    fn pack(&mut self, dice: &mut Dice) {
        match dice.below(10) {
            0 => self.kept.push("loose"),
            1..=2 => {
                self.kept.push("one pack");
                self.git(&["repack", "-adq"], "");
            }
            3..=4 if self.shallow.is_empty() => {
                self.kept.push("a pack with bitmaps");
                self.git(&["repack", "-adbq"], "");
            }
            many => {
                self.kept.push("several packs");
                let present: Vec<ObjectId> = self.present.iter().copied().collect();
                let parts = dice.between(2, 4);
                let mut groups = vec![String::new(); parts];
                for id in &present {
                    let group = dice.below(parts + 1);
                    // Objects that are in no pack stay loose; some are in two packs.
                    for group in [Some(group), dice.chance(10).then_some(0)].into_iter().flatten() {
                        if let Some(list) = groups.get_mut(group) {
                            list.push_str(&format!("{id}\n"));
                        }
                    }
                }
                for group in groups.iter().filter(|group| !group.is_empty()) {
                    self.git(&["pack-objects", "-q", "--delta-base-offset", "objects/pack/pack"], group);
                }
                self.git(&["prune-packed", "-q"], "");
                if many == 8 && groups.iter().any(|group| !group.is_empty()) {
                    self.kept.push("a multi-pack-index");
                    self.git(&["multi-pack-index", "write", "--no-progress"], "");
                }
                if many == 9 {
                    self.kept.push("a later pack with bitmaps");
                    if self.shallow.is_empty() {
                        self.git(&["repack", "-Adbq"], "");
                    }
                }
            }
        }
        if dice.chance(50) {
            self.kept.push("a commit-graph");
            let split = if dice.chance(30) { "--split=no-merge" } else { "--changed-paths" };
            self.git(&["commit-graph", "write", "--reachable", "--no-progress", split], "");
        }
        if dice.chance(15) {
            self.kept.push("alternates");
            let (own, other) = (self.path.join("objects"), self.path.with_extension("objects"));
            std::fs::rename(&own, &other).unwrap();
            std::fs::create_dir_all(own.join("info")).unwrap();
            std::fs::create_dir_all(own.join("pack")).unwrap();
            std::fs::write(own.join("info/alternates"), format!("{}\n", other.display())).unwrap();
        }
    }

    /// A readable description.
    pub fn told(&self) -> String {
        let mut told = format!("kept as: {}\n{}{}", self.kept.join(", "), self.config, self.universe.told());
        for (name, id) in self.refs.iter().chain(&self.hidden) {
            told.push_str(&format!("{id} {name} ({})\n", self.universe.name(id)));
        }
        for id in &self.shallow {
            told.push_str(&format!("shallow {id} ({})\n", self.universe.name(id)));
        }
        told
    }
}

type Names = Vec<(String, ObjectId)>;

/// Branches, tags of all kinds of objects, tags of tags, and hidden refs.
fn names(universe: &mut Universe, dice: &mut Dice) -> (Names, Names) {
    let (mut refs, mut hidden) = (Names::new(), Names::new());
    let commits = universe.commits.clone();
    refs.push(("refs/heads/b0".to_owned(), *commits.last().unwrap()));
    for number in 0..dice.between(0, 4) {
        refs.push((format!("refs/heads/b{}", number + 1), *dice.pick(&commits)));
    }
    for number in 0..dice.between(0, 5) {
        let mut of = match dice.below(10) {
            0 => *dice.pick(&universe.trees),
            1 if !universe.blobs.is_empty() => *dice.pick(&universe.blobs),
            _ => *dice.pick(&commits),
        };
        if dice.chance(75) {
            of = universe.tag(of);
        }
        if universe.objects[&of].kind == Kind::Tag && dice.chance(30) {
            of = universe.tag(of);
        }
        refs.push((format!("refs/tags/t{number}"), of));
    }
    for number in 0..dice.between(0, 2) {
        hidden.push((format!("refs/hidden/h{number}"), *dice.pick(&commits)));
    }
    (refs, hidden)
}

//! A random history in memory: the content of each object, and what is reachable from it.

use super::dice::Dice;
use gix_hash::ObjectId;
use gix_object::Kind;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// One object.
pub struct Object {
    pub kind: Kind,
    pub data: Vec<u8>,
    /// The objects it refers to, except parents.
    pub holds: Vec<ObjectId>,
    pub parents: Vec<ObjectId>,
    /// The date of a commit.
    pub time: u64,
}

/// All objects, whether the server has them or not.
pub struct Universe {
    pub hash: gix_hash::Kind,
    pub objects: HashMap<ObjectId, Object>,
    /// All commits, oldest first.
    pub commits: Vec<ObjectId>,
    pub tags: Vec<ObjectId>,
    pub trees: Vec<ObjectId>,
    pub blobs: Vec<ObjectId>,
    /// A readable name for each object: `c3`, `blob7`.
    names: HashMap<ObjectId, String>,
}

/// Paths and their entries: a blob, or a commit of another repository.
type Files = BTreeMap<String, (&'static str, ObjectId)>;

const PATHS: &[&str] = &["a", "b", "big", "d/x", "d/y", "d/e/z", "d/e/big", "f/x", "f.x", "f0", "sub/deep/er/file"];

impl Universe {
    pub fn new(hash: gix_hash::Kind) -> Self {
        Universe {
            hash,
            objects: HashMap::new(),
            commits: Vec::new(),
            tags: Vec::new(),
            trees: Vec::new(),
            blobs: Vec::new(),
            names: HashMap::new(),
        }
    }

    fn add(&mut self, object: Object) -> ObjectId {
        let id = gix_object::compute_hash(self.hash, object.kind, &object.data).unwrap();
        if self.objects.contains_key(&id) {
            return id;
        }
        let (list, letter) = match object.kind {
            Kind::Commit => (&mut self.commits, "c"),
            Kind::Tag => (&mut self.tags, "tag"),
            Kind::Tree => (&mut self.trees, "tree"),
            Kind::Blob => (&mut self.blobs, "blob"),
        };
        self.names.insert(id, format!("{letter}{}", list.len()));
        list.push(id);
        self.objects.insert(id, object);
        id
    }

    fn plain(&mut self, kind: Kind, data: Vec<u8>, holds: Vec<ObjectId>) -> ObjectId {
        self.add(Object { kind, data, holds, parents: Vec::new(), time: 0 })
    }

    fn tree(&mut self, files: &Files) -> ObjectId {
        let mut entries: BTreeMap<String, (&str, &str, ObjectId)> = BTreeMap::new();
        let mut folders: BTreeMap<&str, Files> = BTreeMap::new();
        for (path, entry) in files {
            match path.split_once('/') {
                Some((folder, rest)) => {
                    folders.entry(folder).or_default().insert(rest.to_owned(), *entry);
                }
                None => {
                    entries.insert(path.clone(), (path, entry.0, entry.1));
                }
            }
        }
        for (folder, files) in &folders {
            let id = self.tree(files);
            // A tree sorts as if its name ended in a slash.
            entries.insert(format!("{folder}/"), (folder, "40000", id));
        }
        let (mut data, mut holds) = (Vec::new(), Vec::new());
        for (name, mode, id) in entries.into_values() {
            data.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            data.extend_from_slice(id.as_bytes());
            if mode != "160000" {
                holds.push(id);
            }
        }
        self.plain(Kind::Tree, data, holds)
    }

    fn commit(&mut self, tree: ObjectId, parents: Vec<ObjectId>, time: u64) -> ObjectId {
        let mut text = format!("tree {tree}\n");
        for parent in &parents {
            text.push_str(&format!("parent {parent}\n"));
        }
        let number = self.commits.len();
        text.push_str(&format!("author A <a@x> {time} +0000\ncommitter C <c@x> {time} +0000\n\ncommit {number}\n"));
        self.add(Object { kind: Kind::Commit, data: text.into_bytes(), holds: vec![tree], parents, time })
    }

    pub fn tag(&mut self, of: ObjectId) -> ObjectId {
        let (kind, number) = (self.objects[&of].kind, self.tags.len());
        let text = format!("object {of}\ntype {kind}\ntag tag{number}\ntagger T <t@x> 1700000000 +0000\n\ntag\n");
        self.plain(Kind::Tag, text.into_bytes(), vec![of])
    }

    /// The name of an object that does not exist.
    pub fn unknown(&self, dice: &mut Dice) -> ObjectId {
        let text = format!("{}", dice.below(1 << 40));
        gix_object::compute_hash(self.hash, Kind::Commit, text.as_bytes()).unwrap()
    }

    fn change(&mut self, files: &mut Files, older: &[Files], dice: &mut Dice) {
        for _ in 0..dice.between(0, 3) {
            let path = (*dice.pick(PATHS)).to_owned();
            match dice.below(14) {
                0 => {
                    files.remove(&path);
                }
                1 if !older.is_empty() => *files = dice.pick(older).clone(),
                // A tree from elsewhere.
                2 => {
                    files.retain(|path, _| !path.starts_with("moved/"));
                    let moved = files.range("d/".to_owned().."d0".to_owned());
                    let moved: Files = moved.map(|(path, entry)| (format!("moved/{path}"), *entry)).collect();
                    files.extend(moved);
                }
                3 => {
                    let elsewhere = self.unknown(dice);
                    files.insert("module".to_owned(), ("160000", elsewhere));
                }
                4 => files.clear(),
                _ => {
                    let mut text = match files.get(&path) {
                        Some((_, id)) => self.objects[id].data.clone(),
                        None => {
                            (0..dice.between(0, 40)).map(|line| format!("line {line}\n")).collect::<String>().into()
                        }
                    };
                    text.extend_from_slice(format!("more {}\n", dice.below(1000)).as_bytes());
                    let id = self.plain(Kind::Blob, text, Vec::new());
                    files.insert(path, (*dice.pick(&["100644", "100644", "100755"]), id));
                }
            }
        }
    }

    /// Adds a history with branches, merges, criss-crosses and unreliable clocks.
    pub fn grow(&mut self, dice: &mut Dice) {
        let count = dice.between(1, 45);
        let clocks = dice.below(4);
        let mut all: Vec<Files> = Vec::new();
        let mut now = 1_700_000_000;
        while self.commits.len() < count {
            now += match clocks {
                0 => 0,
                1 => dice.below(3) as u64,
                _ => dice.below(200) as u64,
            };
            let skewed = clocks == 3 && dice.chance(15);
            let time = if skewed { now + dice.below(2_000_000) as u64 - 1_000_000 } else { now };
            let recent = &self.commits[self.commits.len().saturating_sub(6)..];
            let parents = match dice.below(100) {
                _ if recent.is_empty() => Vec::new(),
                0..=4 => Vec::new(),
                5..=29 => dice.some(recent, 2),
                30..=34 => dice.some(&self.commits, 4),
                _ => vec![*dice.pick(recent)],
            };
            let mut files = match parents.first() {
                Some(first) => all[self.commits.iter().position(|commit| commit == first).unwrap()].clone(),
                None => Files::new(),
            };
            if let Some(second) = parents.get(1) {
                let second = all[self.commits.iter().position(|commit| commit == second).unwrap()].clone();
                files.extend(second);
            }
            self.change(&mut files, &all, dice);
            let tree = self.tree(&files);
            self.commit(tree, parents.clone(), time);
            all.push(files.clone());
            if parents.len() == 2 && dice.chance(40) {
                self.commit(tree, vec![parents[1], parents[0]], time);
                all.push(files);
            }
        }
    }

    /// What is reachable from tips if the commits in `cut` have no parents. Missing objects are skipped.
    pub fn closure(&self, tips: impl IntoIterator<Item = ObjectId>, cut: &BTreeSet<ObjectId>) -> BTreeSet<ObjectId> {
        let (mut met, mut left) = (BTreeSet::new(), tips.into_iter().collect::<Vec<_>>());
        while let Some(id) = left.pop() {
            let Some(object) = self.objects.get(&id) else { continue };
            if met.insert(id) {
                left.extend(&object.holds);
                if !cut.contains(&id) {
                    left.extend(&object.parents);
                }
            }
        }
        met
    }

    /// Whether each commit is newer than its parents.
    pub fn clocks_agree(&self) -> bool {
        self.commits
            .iter()
            .map(|id| &self.objects[id])
            .all(|commit| commit.parents.iter().all(|parent| self.objects[parent].time < commit.time))
    }

    /// An object, and what it peels to, step by step.
    pub fn chain(&self, id: ObjectId) -> Vec<ObjectId> {
        let mut chain = vec![id];
        while let Some(tag) = self.objects.get(chain.last().unwrap()).filter(|object| object.kind == Kind::Tag) {
            chain.push(tag.holds[0]);
        }
        chain
    }

    /// A readable name.
    pub fn name(&self, id: &ObjectId) -> String {
        self.names.get(id).cloned().unwrap_or_else(|| format!("unknown-{}", id.to_hex_with_len(6)))
    }

    /// A line with the readable names of its objects.
    pub fn explained(&self, line: &str) -> String {
        let mut names = Vec::new();
        for word in line.split(|letter: char| !letter.is_ascii_hexdigit()) {
            if let Ok(id) = ObjectId::from_hex(word.as_bytes()) {
                names.push(self.name(&id));
            }
        }
        if names.is_empty() { line.to_owned() } else { format!("{line}    # {}", names.join(" ")) }
    }

    /// A readable list of the commits.
    pub fn told(&self) -> String {
        let told = self.commits.iter().map(|id| {
            let object = &self.objects[id];
            let parents: Vec<String> = object.parents.iter().map(|parent| self.name(parent)).collect();
            format!("{} {id} at {}: {}\n", self.name(id), object.time, parents.join(" "))
        });
        told.collect()
    }
}

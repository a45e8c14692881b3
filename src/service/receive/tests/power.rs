//! Power failures at every moment of a push: what was acknowledged survives, and everything that survives is intact.
//!
//! A model of a disk replays the recorded operations. A file's content and a directory's entries are guaranteed only
//! once they were forced to disk; anything else may have reached the disk or not. After every operation three disks are
//! examined: one without anything that was not forced, one that already has the next operation, and one with all names
//! but only the forced contents. On a file system that keeps order, a change of a name reaches the disk together with
//! all changes of names before it, and forcing a file or directory also forces everything before its last change.

use super::support::{Answer, Pair, Push, Scratch, TestBody};
use crate::audit::Summary;
use crate::durable::failpoints::{self, Armed, Operation};
use crate::service::{ErrorChannel, Out};
use crate::stream::{Pulse, Sink};
use bstr::ByteSlice;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Component, Path};

#[derive(Clone, Default)]
struct Inode {
    is_directory: bool,
    content: Vec<u8>,
    entries: BTreeMap<OsString, usize>,
}

/// What the kernel sees, and what is on disk.
#[derive(Clone)]
struct Disk {
    now: Vec<Inode>,
    forced: Vec<Inode>,
    /// Changes of names that are not on disk yet, in order, if the file system keeps order.
    pending: Option<Vec<Vec<Entry>>>,
}

/// The entry and directory of a path.
type Place = (usize, OsString);
/// An entry that is set or removed.
type Entry = (Place, Option<usize>);

fn set(inodes: &mut [Inode], entries: &[Entry]) {
    for ((parent, name), value) in entries {
        match value {
            Some(at) => inodes[*parent].entries.insert(name.clone(), *at),
            None => inodes[*parent].entries.remove(name),
        };
    }
}

impl Disk {
    fn load(root: &Path, keeps_order: bool) -> Self {
        fn load(path: &Path, inodes: &mut Vec<Inode>) -> usize {
            let at = inodes.len();
            inodes.push(Inode::default());
            if path.is_dir() {
                inodes[at].is_directory = true;
                for entry in std::fs::read_dir(path).unwrap().map(Result::unwrap) {
                    let inside = load(&entry.path(), inodes);
                    inodes[at].entries.insert(entry.file_name(), inside);
                }
            } else {
                inodes[at].content = std::fs::read(path).unwrap();
            }
            at
        }
        let mut inodes = Vec::new();
        load(root, &mut inodes);
        Disk { forced: inodes.clone(), now: inodes, pending: keeps_order.then(Vec::new) }
    }

    fn place(&self, path: &Path) -> Option<Place> {
        let mut names: Vec<_> = path
            .components()
            .filter_map(|component| match component {
                Component::Normal(name) => Some(name.to_owned()),
                _ => None,
            })
            .collect();
        let name = names.pop()?;
        let parent = names.iter().try_fold(0, |at, name| self.now[at].entries.get(name).copied())?;
        Some((parent, name))
    }

    fn find(&self, path: &Path) -> Option<usize> {
        if path.as_os_str().is_empty() {
            return Some(0);
        }
        let (parent, name) = self.place(path)?;
        self.now[parent].entries.get(&name).copied()
    }

    /// The entries set and the contents changed by an operation, as the kernel does it.
    fn effect(&mut self, operation: &Operation) -> (Vec<Entry>, Option<usize>) {
        let found = self.find(&operation.path);
        let from = self.find(&operation.from);
        let Some(place) = self.place(&operation.path) else { return Default::default() };
        match operation.name {
            "create" | "append" | "mkdir" if found.is_none() => {
                let inode = Inode { is_directory: operation.name == "mkdir", ..Inode::default() };
                self.now.push(inode.clone());
                self.forced.push(inode);
                (vec![(place, Some(self.now.len() - 1))], None)
            }
            "write" => (Vec::new(), found),
            "rename" if from.is_some() => {
                let old = self.place(&operation.from).unwrap();
                (vec![(place, from), (old, None)], None)
            }
            "link" if from.is_some() && found.is_none() => (vec![(place, from)], None),
            "unlink" if found.is_some() => (vec![(place, None)], None),
            "rmdir" if found.is_some_and(|at| self.now[at].entries.is_empty()) => (vec![(place, None)], None),
            "create" | "append" | "mkdir" | "rename" | "link" | "unlink" | "rmdir" | "touch" => Default::default(),
            other => panic!("{other} is not known"),
        }
    }

    fn force(&mut self, at: usize) {
        let Some(pending) = &self.pending else {
            self.forced[at] = self.now[at].clone();
            return;
        };
        self.forced[at].content = self.now[at].content.clone();
        let changes =
            |entries: &Vec<Entry>| entries.iter().any(|((parent, _), value)| *parent == at || *value == Some(at));
        let count = pending.iter().rposition(changes).map_or(0, |last| last + 1);
        self.force_names(count);
    }

    /// Brings the first `count` pending changes of names to disk.
    fn force_names(&mut self, count: usize) {
        for entries in self.pending.iter_mut().flat_map(|pending| pending.drain(..count)) {
            set(&mut self.forced, &entries);
        }
    }

    /// Replays an operation in the kernel's view; `early` brings it to disk at once, whatever else is missing there.
    fn apply(&mut self, operation: &Operation, early: bool) {
        match operation.name {
            "fsync" | "fsync_directory" => {
                if let Some(at) = self.find(&operation.path) {
                    self.force(at);
                }
                return;
            }
            "write_out" => {
                let at = self.find(&operation.path).unwrap();
                self.forced[at].content = self.now[at].content.clone();
                return;
            }
            "flush" => return (0..self.now.len()).for_each(|at| self.force(at)),
            _ => {}
        }
        let (entries, written) = self.effect(operation);
        let names = match &mut self.pending {
            Some(pending) if !entries.is_empty() => {
                pending.push(entries.clone());
                pending.len()
            }
            Some(_) | None => 0,
        };
        if early {
            self.force_names(names);
        }
        let mut disks = vec![&mut self.now];
        if early {
            disks.push(&mut self.forced);
        }
        for inodes in disks {
            set(inodes, &entries);
            if let Some(at) = written {
                let content = &mut inodes[at].content;
                let start = operation.at.map_or(content.len(), |at| usize::try_from(at).unwrap());
                let end = start + operation.bytes.len();
                content.resize(content.len().max(end), 0);
                content[start..end].copy_from_slice(&operation.bytes);
            }
        }
    }

    /// The disk with all names, but only with the contents that were forced.
    fn with_all_names(&self) -> Self {
        let mut disk = self.clone();
        disk.pending = None;
        for (forced, now) in disk.forced.iter_mut().zip(&disk.now) {
            forced.entries = now.entries.clone();
        }
        disk
    }

    /// Every path with its content, as found after the power is back.
    fn after(&self) -> BTreeMap<OsString, Option<Vec<u8>>> {
        fn walk(disk: &Disk, at: usize, path: &Path, found: &mut BTreeMap<OsString, Option<Vec<u8>>>) {
            for (name, inside) in &disk.forced[at].entries {
                let path = path.join(name);
                let inode = &disk.forced[*inside];
                let content = (!inode.is_directory).then(|| inode.content.clone());
                found.insert(path.clone().into(), content);
                walk(disk, *inside, &path, found);
            }
        }
        let mut found = BTreeMap::new();
        walk(self, 0, Path::new(""), &mut found);
        found
    }
}

/// Notes how many operations were done when the report is written.
struct Witness<'a> {
    bytes: Vec<u8>,
    armed: &'a Armed,
    acknowledged: Option<usize>,
}

impl Write for Witness<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.windows(9).any(|part| part == b"unpack ok") {
            self.acknowledged.get_or_insert(self.armed.operations().len());
        }
        self.bytes.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pulse for Witness<'_> {
    fn tick(&mut self, _done: u64) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Witness<'_> {}

/// The operations of a push, and how many of them were done when the client was told of success.
fn watch(pair: &Pair, push: &Push, keeps_order: bool) -> (Vec<Operation>, usize) {
    let mut armed = failpoints::record(&pair.server);
    if keeps_order {
        armed = armed.keeping_order();
    }
    let mut witness = Witness { bytes: Vec::new(), armed: &armed, acknowledged: None };
    let mut out = Out { sink: &mut witness, channel: &mut ErrorChannel::Status, summary: &mut Summary::default() };
    super::super::serve(&pair.open(), &mut TestBody(&push.bytes()), &mut out).unwrap();
    let acknowledged = witness.acknowledged.unwrap();
    let answer = Answer::of(witness.bytes);
    assert_eq!(answer.complaints(), [""; 0], "{}", answer.said);
    (armed.operations(), acknowledged)
}

/// Maps each ref `refs/…` to its value.
fn refs(pair: &Pair, directory: &Path) -> HashMap<String, String> {
    let listed = pair.git(directory, &["for-each-ref", "--format=%(refname) %(objectname)"]);
    listed.lines().filter_map(|line| line.split_once(' ')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
}

/// Checks both kinds of disk, and one on which each file is forced by itself: a flush of everything would hide that one
/// was forgotten. Where order is kept there are no reflogs, because with them a push cannot make use of the order.
/// `push` fills the repository, and returns the push to make.
fn check(push: impl Fn(&Pair) -> Push, atomic: bool) {
    for (keeps_order, logs, method) in [(false, true, "batch"), (true, false, "batch"), (false, true, "fsync")] {
        let pair = served(logs);
        pair.at_server(&["config", "core.fsyncMethod", method]);
        let push = push(&pair);
        check_on(&pair, &push, atomic, keeps_order);
    }
}

fn check_on(pair: &Pair, push: &Push, atomic: bool, keeps_order: bool) {
    let before = Disk::load(&pair.server, keeps_order);
    let old = refs(pair, &pair.server);
    let (operations, acknowledged) = watch(pair, push, keeps_order);
    let new = refs(pair, &pair.server);
    let changed: Vec<&String> = new.keys().chain(old.keys()).filter(|name| new.get(*name) != old.get(*name)).collect();
    assert!(!changed.is_empty());
    let mut disk = before;
    let mut known = HashSet::new();
    let mut looked = 0;
    for (number, operation) in operations.iter().enumerate() {
        let mut early = disk.clone();
        early.apply(operation, true);
        disk.apply(operation, false);
        let variants = [("early", early.after()), ("forced", disk.after()), ("named", disk.with_all_names().after())];
        for (variant, files) in variants {
            // What was acknowledged must be there, so the same disk is another case after the acknowledgment.
            if !known.insert((number + 1 >= acknowledged, files.clone())) {
                continue;
            }
            let case = format!("{variant}, {number} {} {}", operation.name, operation.path.display());
            let found = look(pair, &files, &case);
            let is_new = |name: &&String| found.get(*name) == new.get(*name);
            for name in new.keys().chain(old.keys()) {
                assert!(found.get(name) == old.get(name) || is_new(&name), "{case}: {name} is {:?}", found.get(name));
            }
            let count = changed.iter().filter(|name| is_new(name)).count();
            assert!(!atomic || count == 0 || count == changed.len(), "{case}: {count} of {}", changed.len());
            assert!(number + 1 < acknowledged || count == changed.len(), "{case}: acknowledged, and lost");
            for name in changed.iter().filter(|_| number + 1 >= acknowledged) {
                let log = Path::new("logs").join(name);
                if let (Some(id), true) = (new.get(*name), pair.server.join(&log).exists()) {
                    let lines = files.get(log.as_os_str()).and_then(Option::as_ref).map(|lines| lines.to_str_lossy());
                    assert!(
                        lines.is_some_and(|lines| lines.contains(id)),
                        "{case}: what the log of {name} said is lost"
                    );
                }
            }
            looked += 1;
        }
    }
    assert!(looked > 10, "{looked} disks are too few");
    println!("{looked} disks of {} operations, order kept: {keeps_order}", operations.len());
}

/// Checks that everything in what survives is intact, and returns its refs.
fn look(pair: &Pair, files: &BTreeMap<OsString, Option<Vec<u8>>>, case: &str) -> HashMap<String, String> {
    let scratch = Scratch(std::env::temp_dir().join(crate::durable::unique("power-")));
    std::fs::create_dir(&scratch.0).unwrap();
    for (path, content) in files {
        match content {
            None => std::fs::create_dir(scratch.0.join(path)).unwrap(),
            Some(content) => std::fs::write(scratch.0.join(path), content).unwrap(),
        }
    }
    let mut command = crate::testing::command("git");
    command
        .args(["fsck", "--strict", "--no-dangling"])
        .current_dir(&scratch.0)
        .env("HOME", &scratch.0)
        .env("GIT_CONFIG_NOSYSTEM", "1");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{case}: {said}");
    refs(pair, &scratch.0)
}

fn served(logs: bool) -> Pair {
    let pair = Pair::new();
    if logs {
        pair.at_server(&["config", "core.logAllRefUpdates", "always"]);
    }
    pair.at_server(&["branch", "packed"]);
    pair.at_server(&["branch", "deep/er/packed"]);
    pair.at_server(&["pack-refs", "--all"]);
    pair.at_server(&["update-ref", "refs/heads/main", "main~1"]);
    pair.at_server(&["update-ref", "refs/heads/loose/ly", "main"]);
    pair.at_server(&["config", "receive.denyDeleteCurrent", "ignore"]);
    pair.commit("three");
    pair.commit("four");
    pair
}

const UPDATES: [&str; 3] = ["HEAD~3 HEAD refs/heads/main", "- HEAD~1 refs/changes/new/one", "- HEAD refs/tags/new"];

#[test]
fn loose_objects_and_refs_survive_a_loss_of_power() {
    check(|pair| pair.push(&UPDATES), false);
}

#[test]
fn no_log_is_ahead_of_objects_where_order_is_kept() {
    let pair = served(true);
    check_on(&pair, &pair.push(&UPDATES), false, true);
}

#[test]
fn a_kept_pack_and_its_refs_survive_a_loss_of_power() {
    let push = |pair: &Pair| {
        pair.at_server(&["config", "receive.unpackLimit", "1"]);
        pair.push(&UPDATES)
    };
    check(push, false);
}

#[test]
fn an_atomic_push_is_whole_or_undone_after_a_loss_of_power() {
    let updates = [&UPDATES[..], &["HEAD~2 - refs/heads/packed", "HEAD~3 HEAD refs/heads/loose/ly"]].concat();
    check(|pair| pair.push(&updates).and("atomic"), true);
}

#[test]
fn deletions_survive_a_loss_of_power() {
    let updates = [
        "HEAD~2 - refs/heads/packed",
        "HEAD~2 - refs/heads/deep/er/packed",
        "HEAD~3 - refs/heads/main",
        "HEAD~3 - refs/heads/loose/ly",
    ];
    check(|pair| pair.push(&updates), false);
    check(|pair| pair.push(&updates).and("atomic"), true);
}

#[test]
fn many_refs_in_packed_refs_survive_a_loss_of_power() {
    let updates: Vec<String> = (0..70).map(|number| format!("- HEAD refs/heads/many/{number}")).collect();
    let updates: Vec<&str> = updates.iter().map(String::as_str).collect();
    // Seventy reflogs would add some two hundred disks.
    for (keeps_order, method) in [(false, "batch"), (true, "batch"), (false, "fsync")] {
        let pair = served(false);
        pair.at_server(&["config", "core.fsyncMethod", method]);
        check_on(&pair, &pair.push(&updates), false, keeps_order);
    }
}

#[test]
fn refs_in_tables_survive_a_loss_of_power() {
    let updates = [&UPDATES[..], &["HEAD~2 - refs/heads/packed"]].concat();
    for (keeps_order, method) in [(false, "batch"), (true, "batch"), (false, "fsync")] {
        let pair = served(false);
        pair.at_server(&["config", "core.fsyncMethod", method]);
        pair.at_server(&["refs", "migrate", "--ref-format=reftable"]);
        pair.at_server(&["config", "core.logAllRefUpdates", "always"]);
        check_on(&pair, &pair.push(&updates), false, keeps_order);
    }
}

#[test]
fn a_list_of_tables_is_on_the_disk_before_its_lock_is_free() {
    let pair = served(false);
    pair.at_server(&["refs", "migrate", "--ref-format=reftable"]);
    let (operations, _) = watch(&pair, &pair.push(&UPDATES), false);
    let last = |name: &str, path: &str| {
        let at = operations.iter().rposition(|operation| operation.name == name && operation.path.ends_with(path));
        at.unwrap_or_else(|| panic!("no {name} {path}"))
    };
    let forced = last("fsync_directory", "reftable");
    assert!(last("rename", "reftable/tables.list") < forced);
    assert!(forced < last("unlink", "reftable/tables.list.lock"), "whoever has it next removes what is not listed");
}

/// How often something is forced to disk in a push of 99 loose objects.
fn forced(method: Option<&str>) -> usize {
    let pair = Pair::new();
    if let Some(method) = method {
        pair.at_server(&["config", "core.fsyncMethod", method]);
    }
    for number in 0..97 {
        std::fs::write(pair.client.join(format!("f{number}")), format!("{number}\n")).unwrap();
    }
    pair.git(&pair.client, &["add", "-A"]);
    pair.git(&pair.client, &["commit", "-q", "-m", "many"]);
    let push = pair.push(&["- HEAD refs/heads/new"]);
    let (operations, _) = watch(&pair, &push, false);
    assert_eq!(u32::from_be_bytes(push.pack[8..12].try_into().unwrap()), 99);
    operations.iter().filter(|operation| operation.name.starts_with("fsync") || operation.name == "flush").count()
}

#[test]
fn ninety_nine_objects_are_forced_to_disk_by_a_handful_of_calls() {
    for method in [None, Some("batch")] {
        let count = forced(method);
        assert!(count <= 5, "{count} calls with {method:?}");
        println!("{count} calls for a push of 99 objects, {method:?}");
    }
    assert!(forced(Some("fsync")) > 99);
}

#[test]
fn a_push_of_one_commit_waits_for_the_disk_three_times_or_once_where_that_keeps_order() {
    let waits = |keeps_order| {
        let pair = Pair::new();
        pair.commit("one more");
        let (operations, _) = watch(&pair, &pair.push(&["- HEAD refs/heads/new"]), keeps_order);
        let names = operations.iter().map(|operation| operation.name);
        names.filter(|name| name.starts_with("fsync") || *name == "flush").collect::<Vec<_>>()
    };
    assert_eq!(
        waits(false),
        ["flush", "flush", "fsync_directory"],
        "objects; their names and the ref's value; its name"
    );
    assert_eq!(waits(true), ["fsync_directory"], "everything at once");
}

#[test]
fn what_another_push_has_just_put_there_is_forced_to_the_disk_by_whoever_relies_on_it() {
    let pair = Pair::new();
    pair.at_server(&["config", "core.fsyncMethod", "fsync"]);
    std::fs::write(pair.client.join("file"), "pushed twice\n").unwrap();
    pair.git(&pair.client, &["add", "-A"]);
    let blob = pair.at_server(&["hash-object", "-w", pair.client.join("file").to_str().unwrap()]);
    pair.git(&pair.client, &["commit", "-q", "-m", "twice"]);
    let (operations, _) = watch(&pair, &pair.push(&["- HEAD refs/heads/new"]), false);
    let is_forced = |path: &Path| {
        operations.iter().any(|operation| operation.name.starts_with("fsync") && operation.path.ends_with(path))
    };
    assert!(is_forced(&Path::new("objects").join(&blob.trim()[..2])) && is_forced(Path::new("objects")));
}

/// Hooks may move refs on their own, and history is cut before a ref moves: neither waits for the flush that a ref's name waits for.
#[test]
fn objects_are_on_the_disk_before_anybody_else_may_rely_on_them() {
    let check = |case: &str, expected: bool, prepare: &dyn Fn(&Pair) -> Push| {
        let pair = served(false);
        let push = prepare(&pair);
        let (operations, _) = watch(&pair, &push, false);
        let migrated = operations
            .iter()
            .rposition(|operation| {
                operation.name == "rename" && operation.path.starts_with("objects") || operation.path.ends_with("pack")
            })
            .unwrap();
        let behind = &operations[migrated + 1..];
        let locked = behind.iter().position(|operation| operation.path.extension().is_some_and(|end| end == "lock"));
        let forced = |operation: &Operation| operation.name.starts_with("fsync") || operation.name == "flush";
        assert_eq!(behind[..locked.unwrap_or(0)].iter().any(forced), expected, "{case}");
    };
    let usual = |pair: &Pair| pair.push(&["- HEAD refs/heads/new"]);
    check("nobody", false, &usual);
    check("the hook update", true, &|pair| {
        pair.hook("update", "exit 0");
        usual(pair)
    });
    check("the hook proc-receive", true, &|pair| {
        pair.at_server(&["config", "receive.procReceiveRefs", "refs/for"]);
        pair.hook("proc-receive", "printf 000dversion=100000013; printf 'ok refs/for/new0000'; cat > /dev/null");
        pair.push(&["- HEAD refs/for/new", "- HEAD refs/heads/new"])
    });
    check("the file shallow", true, &|pair| {
        pair.at_server(&["config", "receive.shallowUpdate", "true"]);
        let mut push = usual(pair);
        push.shallow = vec![pair.client_id("HEAD")];
        push.pack = pair.pack("HEAD\n^HEAD~1\n");
        push
    });
}

#[test]
fn history_is_cut_on_the_disk_before_a_ref_leads_there() {
    for method in ["batch", "fsync"] {
        let pair = served(false);
        pair.at_server(&["config", "core.fsyncMethod", method]);
        pair.at_server(&["config", "receive.shallowUpdate", "true"]);
        let mut push = pair.push(&["- HEAD refs/heads/new"]);
        push.shallow = vec![pair.client_id("HEAD")];
        push.pack = pair.pack("HEAD\n^HEAD~1\n");
        let (operations, _) = watch(&pair, &push, false);
        let at = |name: &str, path: &Path| {
            let found = operations.iter().position(|operation| operation.name == name && operation.path == path);
            found.unwrap_or_else(|| panic!("no {name} {}", path.display()))
        };
        let cut = at("rename", Path::new("shallow"));
        assert!(at("fsync", &operations[cut].from) < cut, "{method}");
        let behind = &operations[cut..at("rename", Path::new("refs/heads/new"))];
        let forced = |operation: &Operation| operation.name == "fsync_directory" && operation.path == Path::new("");
        assert!(behind.iter().any(forced), "{method}");
    }
}

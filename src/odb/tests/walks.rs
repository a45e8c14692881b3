//! Tests the commit-graph and walks against git.

use super::*;
use crate::odb::graph::GENERATION_UNKNOWN;
use std::io;

/// How wrong the committers' clocks are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Skew {
    No,
    Slight,
    /// So wrong that the distance of a commit-graph's corrected date from the date does not fit 31 bits.
    Far,
}

/// A history with merges and clocks that run backwards, all of it reachable from `refs/heads/b<n>`.
fn tangled(seed: u64, commits: u64, skew: Skew) -> Repo {
    let repo = Repo::new(SHA1);
    let mut dice = Dice(seed);
    let mut stream = String::new();
    for n in 1..=commits {
        let time = match skew {
            Skew::Slight if dice.below(4) == 0 => 1_600_000_000 + dice.below(100_000),
            Skew::Far if dice.below(4) == 0 => 4_000_000_000 + dice.below(100_000),
            Skew::Far => n * 100,
            Skew::No | Skew::Slight => 1_600_000_000 + n * 100,
        };
        stream += &format!("commit refs/heads/b{n}\nmark :{n}\ncommitter C <c> {time} +0000\ndata 0\n");
        if n > 1 && dice.below(30) > 0 {
            stream += &format!("from :{}\n", n - 1 - dice.below(4.min(n - 1)));
            for _ in 0..[0, 0, 0, 1, 1, 2][dice.below(6) as usize] {
                stream += &format!("merge :{}\n", 1 + dice.below(n - 1));
            }
        }
        stream += &format!("M 100644 inline f\ndata 4\n{n:04}\n");
    }
    repo.git(&["fast-import", "--quiet"], stream.as_bytes());
    repo
}

/// Walks over tangled histories agree with git's, with and without a commit-graph, in one file or a chain.
#[test]
fn walks_agree_with_git() {
    for (seed, skew) in [(1, Skew::No), (2, Skew::Slight), (3, Skew::Slight), (4, Skew::Far)] {
        let repo = tangled(seed, 60, skew);
        for graph in ["none", "half", "chain", "all"] {
            let tips: Vec<_> = (1..=30).map(|n| format!("refs/heads/b{n}")).collect();
            match graph {
                "half" => {
                    drop(repo.git(
                        &["commit-graph", "write", "--stdin-commits"],
                        &repo.git(&["rev-parse", "b20", "b29"], b""),
                    ))
                }
                "chain" => {
                    fs::remove_file(repo.root.join("objects/info/commit-graph")).unwrap();
                    let ids = repo
                        .git(&[&["rev-parse"], &*tips.iter().map(String::as_str).collect::<Vec<_>>()].concat(), b"");
                    repo.git(&["commit-graph", "write", "--split=no-merge", "--stdin-commits"], &ids);
                    let more = repo.git(&["rev-parse", "b45", "b50"], b"");
                    repo.git(&["commit-graph", "write", "--split=no-merge", "--stdin-commits"], &more);
                }
                "all" => drop(repo.git(&["commit-graph", "write", "--reachable", "--changed-paths"], b"")),
                _ => {}
            }
            let objects = repo.objects();
            assert_eq!(objects.graph().is_some(), graph != "none");
            if skew == Skew::Far && graph == "all" {
                let graph = fs::read(repo.root.join("objects/info/commit-graph")).unwrap();
                let chunks = graph[8..200].escape_ascii().to_string();
                // Otherwise this would not test large distances.
                assert!(["GDA2", "GDO2", "BDAT"].iter().all(|chunk| chunks.contains(chunk)), "{chunks}");
            }
            compare_walks(&repo, &objects, &mut Dice(seed));
        }
    }
}

fn compare_walks(repo: &Repo, objects: &Objects, dice: &mut Dice) {
    let names: Vec<String> = (1..=60).map(|n| format!("b{n}")).collect();
    let ids = repo.ids(&[&["rev-parse"], &*names.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    let reach: Vec<BTreeSet<ObjectId>> = {
        // Takes the parents from git, and computes the closure itself.
        let text = repo.text(&["rev-list", "--all", "--parents"]);
        let parents: BTreeMap<&str, Vec<&str>> = text
            .lines()
            .map(|line| line.split_once(' ').map_or((line, vec![]), |(id, rest)| (id, rest.split(' ').collect())))
            .collect();
        let closure = |id: &ObjectId| {
            let mut all = BTreeSet::new();
            let mut stack = vec![id.to_string()];
            while let Some(id) = stack.pop() {
                if all.insert(ObjectId::from_hex(id.as_bytes()).unwrap()) {
                    stack.extend(parents[&*id].iter().map(|parent| (*parent).to_owned()));
                }
            }
            all
        };
        ids.iter().map(closure).collect()
    };
    let mut pick = |count: u64| -> Vec<usize> { (0..count).map(|_| dice.below(60) as usize).collect() };
    for round in 0..150 {
        let (wants, hidden) = (pick(1 + round % 3), pick(round % 4));
        let named = |picked: &[usize]| picked.iter().map(|n| ids[*n]).collect::<Vec<_>>();
        let union = |picked: &[usize]| picked.iter().flat_map(|n| reach[*n].iter().copied()).collect::<BTreeSet<_>>();
        let expected: BTreeSet<_> = union(&wants).difference(&union(&hidden)).copied().collect();
        let walk = walk::reachable_commits(objects, &named(&wants), &named(&hidden), &mut Silent).unwrap();
        let found: BTreeSet<_> = walk.reachable.iter().map(|number| walk.commits.id(*number).to_owned()).collect();
        assert_eq!(found, expected, "{wants:?} without {hidden:?}");
        assert_eq!(found.len(), walk.reachable.len());
        let mut commits = Commits::new(objects);
        let mut parents = Vec::new();
        let mut boundary = BTreeSet::new();
        for id in &found {
            let number = commits.number(id);
            commits.parents(number, &mut parents).unwrap();
            boundary
                .extend(parents.iter().map(|parent| commits.id(*parent).to_owned()).filter(|id| !found.contains(id)));
        }
        assert_eq!(walk.boundary.iter().map(|n| walk.commits.id(*n).to_owned()).collect::<BTreeSet<_>>(), boundary);
        let (one, two) = (wants[0], wants[wants.len() - 1]);
        let is_ancestor = objects.is_ancestor(&ids[one], &ids[two], &mut Silent).unwrap();
        assert_eq!(is_ancestor, reach[two].contains(&ids[one]), "{one} of {two}");
        let ready = walk::reaches_all(&mut commits, &named(&wants), &named(&hidden), 0, &mut Silent).unwrap();
        assert_eq!(ready, wants.iter().all(|want| hidden.iter().any(|have| reach[*want].contains(&ids[*have]))));
        let reached = walk::are_reachable(&mut commits, &named(&wants), &named(&hidden), 1000, &mut Silent).unwrap();
        let not: Vec<_> = named(&wants).into_iter().filter(|id| !union(&hidden).contains(id)).collect();
        assert_eq!(reached, if not.is_empty() { Reached::All } else { Reached::Not(not) });
    }
}

#[test]
fn a_want_older_than_what_is_common_is_walked_though_another_walk_passed_it_by() {
    // common <- late <- newest, and common <- old <- newest, where the clock of `old` was wrong.
    let repo = Repo::new(SHA1);
    let mut stream = String::new();
    let commits = [("common", 100, ""), ("old", 10, "common"), ("late", 101, "common"), ("newest", 102, "old late")];
    for (mark, (name, time, parents)) in (1..).zip(commits) {
        stream += &format!("commit refs/heads/{name}\nmark :{mark}\ncommitter C <c@x> {time} +0000\ndata 0\n");
        for (number, parent) in parents.split_whitespace().enumerate() {
            let at = 1 + commits.iter().position(|(name, _, _)| *name == parent).unwrap();
            stream += &format!("{} :{at}\n", ["from", "merge"][number]);
        }
        stream += "\n";
    }
    repo.git(&["fast-import", "--quiet"], stream.as_bytes());
    let objects = repo.objects();
    let (common, old, newest) = (repo.id("common"), repo.id("old"), repo.id("newest"));
    for wants in [[newest, old], [old, newest]] {
        let mut commits = Commits::new(&objects);
        assert!(walk::reaches_all(&mut commits, &wants, &[common], 100, &mut Silent).unwrap());
    }
}

#[test]
fn a_walk_stops_at_shallow_commits_and_at_its_budget() {
    let repo = Repo::with_history(SHA1, 20);
    repo.git(&["commit-graph", "write", "--reachable"], b"");
    let mut objects = repo.objects();
    let (main, cut, root) = (repo.id("main"), repo.id("main~5"), repo.id("main~19"));
    let mut commits = Commits::new(&objects);
    let over = walk::are_reachable(&mut commits, &[root], &[main], 18, &mut Silent).unwrap();
    assert_eq!(over, Reached::OverBudget);
    let all = walk::are_reachable(&mut commits, &[root], &[main], 19, &mut Silent).unwrap();
    assert_eq!(all, Reached::All);
    objects.set_shallow([cut].into());
    assert!(objects.graph().is_none());
    let walk = walk::reachable_commits(&objects, &[main], &[], &mut Silent).unwrap();
    assert_eq!(walk.reachable.len(), 6);
    assert!(!objects.is_ancestor(&root, &main, &mut Silent).unwrap());
}

#[test]
fn commit_graph_and_bitmaps_are_not_followed_beyond_a_cut() {
    let repo = Repo::with_history(SHA1, 20);
    repo.git(&["commit-graph", "write", "--reachable"], b"");
    repo.git(&["repack", "-q", "-a", "-d", "-b"], b"");
    let objects = repo.objects();
    assert!(objects.bitmaps(u64::MAX).unwrap().is_some());
    let (main, cut, root) = (repo.id("main"), repo.id("main~5"), repo.id("main~19"));
    let seen = objects.cut_at([cut]);
    assert!(seen.graph().is_some() && seen.are_cut() && !objects.are_cut());
    assert!(seen.bitmaps(u64::MAX).unwrap().is_none());
    let count = |wants: &[ObjectId], hidden: &[ObjectId]| {
        walk::reachable_commits(&seen, wants, hidden, &mut Silent).unwrap().reachable.len()
    };
    assert_eq!(count(&[main], &[]), 6);
    assert_eq!(count(&[main], &[cut]), 5);
    // Commits are hidden only up to the cut: the history before it can still be asked for.
    assert_eq!(count(&[root], &[main]), 1);
    assert!(!seen.is_ancestor(&root, &main, &mut Silent).unwrap());
    assert!(objects.is_ancestor(&root, &main, &mut Silent).unwrap());
    let extent = depth::to_depth(&seen, &[main], None, &mut Silent).unwrap();
    assert_eq!(extent.ends, [cut]);
    assert!(extent.has_inside(&main) && !extent.has_inside(&cut) && !extent.has_inside(&root));
}

#[test]
fn a_depth_reads_no_more_commits_than_lie_before_its_end() {
    let repo = Repo::with_history(SHA1, 10);
    let ids: Vec<ObjectId> = (0..10).map(|n| repo.id(&format!("main~{n}"))).collect();
    let tips = [ids[0], ids[4]];
    for missing in [ids[2], ids[6]] {
        fs::remove_file(loose::path(&repo.root.join("objects"), &missing)).unwrap();
    }
    let objects = repo.objects();
    let ends = |depth| {
        let extent = depth::to_depth(&objects, &tips, std::num::NonZeroU32::new(depth), &mut Silent);
        extent.map(|extent| extent.ends).map_err(|error| error.downcast_ref::<Missing>().map(|missing| missing.0))
    };
    assert_eq!(ends(1), Ok(tips.to_vec()));
    assert_eq!(ends(2), Ok(vec![ids[1], ids[5]]));
    assert_eq!(ends(3), Ok(vec![ids[2], ids[6]]));
    assert_eq!(ends(4), Err(Some(ids[2])));
    let nearest = |n: usize| depth::depth_of_nearest(&objects, &tips, &[ids[n]].into_iter().collect(), &mut Silent);
    assert_eq!(nearest(5).unwrap(), Some(2));
    assert_eq!(nearest(6).unwrap(), Some(3));
    assert!(nearest(7).is_err());
}

#[test]
fn a_missing_commit_is_an_error_behind_wants_and_none_behind_what_is_hidden() {
    let repo = Repo::with_history(SHA1, 10);
    let (main, old) = (repo.id("main"), repo.id("main~7"));
    let (missing, below) = (repo.id("main~8"), repo.id("main~9"));
    fs::remove_file(loose::path(&repo.root.join("objects"), &missing)).unwrap();
    let objects = repo.objects();
    let error = walk::reachable_commits(&objects, &[main], &[], &mut Silent).err().unwrap();
    assert_eq!(error.downcast_ref(), Some(&Missing(missing)), "{error:#}");
    let walk = walk::reachable_commits(&objects, &[main], &[old, missing], &mut Silent).unwrap();
    assert_eq!(walk.reachable.len(), 7);
    assert!(objects.is_ancestor(&below, &main, &mut Silent).unwrap_err().is::<Missing>());
}

/// The commit-graph agrees with the commits, and generations exceed those of all ancestors, whether they are dates or
/// levels.
#[test]
fn a_commit_graph_tells_what_the_commits_say() {
    for (skew, version, dated) in [(Skew::Slight, "2", true), (Skew::Far, "2", true), (Skew::Far, "1", false)] {
        let repo = tangled(5, 60, skew);
        let version = format!("commitGraph.generationVersion={version}");
        repo.git(&["-c", &version, "commit-graph", "write", "--reachable"], b"");
        check_graph(&repo, dated);
    }
}

#[test]
fn in_a_chain_dates_count_where_all_its_files_have_them() {
    for (lower, upper, dated) in [("2", "2", true), ("2", "1", false), ("1", "1", false)] {
        let repo = tangled(6, 60, Skew::Far);
        for (version, tip) in [(lower, "b30"), (upper, "b60")] {
            let (version, tip) =
                (format!("commitGraph.generationVersion={version}"), repo.git(&["rev-parse", tip], b""));
            repo.git(&["-c", &version, "commit-graph", "write", "--split=no-merge", "--stdin-commits"], &tip);
        }
        check_graph(&repo, dated);
    }
}

/// Compares everything in the graph with the commits themselves.
fn check_graph(repo: &Repo, dated: bool) {
    let objects = repo.objects();
    let graph = objects.graph().unwrap();
    let mut generations: BTreeMap<ObjectId, u64> = BTreeMap::new();
    let log = repo.text(&["log", "--all", "--topo-order", "--reverse", "--format=%H %T %ct %P"]);
    let mut known = 0;
    for line in log.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let id = |word: &str| ObjectId::from_hex(word.as_bytes()).unwrap();
        let (commit, tree, time, parents) =
            (id(words[0]), id(words[1]), words[2].parse::<i64>().unwrap(), words[3..].iter().map(|word| id(word)));
        let latest = parents.clone().map(|parent| generations[&parent]).max();
        let generation = match dated {
            true => (time as u64).max(latest.map_or(0, |latest| latest + 1)),
            false => latest.map_or(1, |latest| latest + 1),
        };
        generations.insert(commit, generation);
        let Some(position) = graph.position(&commit) else { continue };
        known += 1;
        assert_eq!(graph.id_at(position), commit);
        assert_eq!((graph.tree(position).to_owned(), graph.time(position)), (tree, time), "{line}");
        assert_eq!(graph.generation(position), generation, "{line}");
        let mut told = Vec::new();
        graph.parents(position, &mut told).unwrap();
        let told: Vec<ObjectId> = told.into_iter().map(|parent| graph.id_at(parent).to_owned()).collect();
        assert_eq!(told, parents.collect::<Vec<_>>(), "{line}");
    }
    assert!(known > 30 && known == graph.len(), "{known}");
    assert_eq!(graph.position(&ObjectId::from([0x5a; 20])), None);
}

#[test]
fn what_a_commit_graph_says_beyond_its_tables_is_not_believed() {
    let repo = Repo::new(SHA1);
    let commit = |n: u32, time: u64, parents: &str| {
        format!("commit refs/heads/b{n}\nmark :{n}\ncommitter C <c> {time} +0000\ndata 0\n{parents}\n")
    };
    // One has three parents, and one a parent that is much younger.
    let stream = [
        commit(1, 4_000_000_000, ""),
        commit(2, 5, ""),
        commit(3, 5, ""),
        commit(4, 5, "from :2\nmerge :3\nmerge :1\n"),
    ];
    repo.git(&["fast-import", "--quiet"], stream.concat().as_bytes());
    repo.git(&["commit-graph", "write", "--reachable"], b"");
    let path = repo.root.join("objects/info/commit-graph");
    let sound = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let place = |id: &[u8; 4]| super::super::bytes::chunk(&sound[..sound.len() - 20], 8, sound[6], id).unwrap();
    let merge = repo.id("b4");
    let check = |at: usize, bytes: [u8; 4], expected: &str| {
        let mut damaged = sound.clone();
        damaged[at..at + 4].copy_from_slice(&bytes);
        fs::write(&path, damaged).unwrap();
        let objects = repo.objects();
        let graph = objects.graph().unwrap();
        let position = graph.position(&merge).unwrap();
        let said = graph.parents(position, &mut Vec::new()).map_or_else(|error| error.to_string(), |()| String::new());
        assert_eq!(said, expected);
        graph.generation(position)
    };
    let row = place(b"CDAT").start
        + 36 * usize::try_from({
            fs::write(&path, &sound).unwrap();
            repo.objects().graph().unwrap().position(&merge).unwrap()
        })
        .unwrap();
    let generation = check(row, sound[row..row + 4].try_into().unwrap(), "");
    assert_eq!(generation, 4_000_000_001);
    let nobody = format!("commit-graph: commit {merge} has a parent that is not there");
    let endless = format!("commit-graph: the parents of commit {merge} have no end");
    check(row + 20, [0, 0, 0, 4], &nobody);
    check(row + 24, [0, 0, 0, 4], &nobody);
    check(row + 24, [0x80, 0, 0, 9], &endless);
    check(place(b"EDGE").start, [0, 0, 1, 0], &nobody);
    check(place(b"EDGE").end - 4, [0, 0, 0, 1], &endless);
    let dates = place(b"GDA2");
    let far = (dates.start..dates.end).step_by(4).find(|at| sound[*at] & 0x80 != 0).unwrap();
    assert_eq!(check(far, [0x80, 0, 0, 7], ""), GENERATION_UNKNOWN);
}

/// Counts the steps that a walk reports.
#[derive(Default)]
struct Steps(u64);

impl crate::stream::Pulse for Steps {
    fn tick(&mut self, _: u64) -> io::Result<()> {
        self.0 += 1;
        Ok(())
    }
}

#[test]
fn a_line_of_few_commits_that_was_merged_lately_does_not_lead_through_all_of_history() {
    let repo = Repo::new(SHA1);
    let mut stream = String::new();
    let mut commit = |mark: u64, branch: &str, time: u64, merge: &str| {
        stream += &format!("commit refs/heads/{branch}\nmark :{mark}\ncommitter C <c> {time} +0000\ndata 0\n{merge}\n");
    };
    for n in 1..=500 {
        commit(n, "main", 1_600_000_000 + n * 100, "");
    }
    // For example, a program merged with a history of its own.
    commit(501, "other", 1_600_050_050, "");
    commit(502, "main", 1_600_050_100, "merge :501\n");
    repo.git(&["fast-import", "--quiet"], stream.as_bytes());
    repo.git(&["commit-graph", "write", "--reachable"], b"");
    let objects = repo.objects();
    let mut steps = Steps::default();
    let walk = walk::reachable_commits(&objects, &[repo.id("main")], &[repo.id("main~1")], &mut steps).unwrap();
    assert_eq!(walk.reachable.len(), 2);
    assert!(steps.0 < 10, "{} steps", steps.0);
}

/// Only the first lines of commits and tags are read, however long these are, and whatever follows them.
#[test]
fn commits_and_tags_are_read_however_long_their_lines_are() {
    let repo = Repo::new(SHA1);
    let mut dice = Dice(5);
    let mut stream = String::new();
    for n in 1..=60_u64 {
        let mut text =
            |length: u64| -> String { (0..length).map(|_| char::from(b'a' + dice.below(26) as u8)).collect() };
        let (author, committer, message) = (text(n * n % 500), text(n * n % 700), text(n % 4 * 1000));
        stream += &format!("commit refs/heads/b{n}\nmark :{n}\nauthor {author} <a> 5 +0000\n");
        stream += &format!("committer {committer} <c> {n} +0000\ndata {}\n{message}\n", message.len());
        for parent in 1..n.min(n % 17) {
            stream += &format!("{} :{parent}\n", if parent == 1 { "from" } else { "merge" });
        }
        stream += &format!("M 100644 inline f\ndata 4\n{n:04}\n");
        stream += &format!("tag t{n}\nfrom :{n}\ntagger T <t> 1 +0000\ndata {}\n{message}\n", message.len());
    }
    repo.git(&["fast-import", "--quiet"], stream.as_bytes());
    repo.git(&["tag", "-a", "-m", &"long ".repeat(300), "onto", "t3"], b"");
    for depth in ["0", "50"] {
        repo.git(&["repack", "-adfq", "--depth", depth], b"");
        let objects = repo.objects();
        let mut commits = Commits::new(&objects);
        let mut parents = Vec::new();
        let all = repo.git(&["log", "--all", "--format=%H %T %ct %P"], b"");
        for line in String::from_utf8(all).unwrap().lines() {
            let mut words = line.split(' ').filter(|word| !word.is_empty());
            let number = commits.number(&ObjectId::from_hex(words.next().unwrap().as_bytes()).unwrap());
            assert_eq!(commits.tree(number).unwrap().to_string(), words.next().unwrap());
            assert_eq!(commits.time(number).unwrap().to_string(), words.next().unwrap());
            commits.parents(number, &mut parents).unwrap();
            assert!(parents.iter().map(|parent| commits.id(*parent).to_string()).eq(words), "{line}");
        }
        let tags = repo.git(&["rev-parse", "onto", "t1", "t2", "t3", "t60"], b"");
        let wants: Vec<_> = tags.split(|byte| *byte == b'\n').filter_map(|hex| ObjectId::from_hex(hex).ok()).collect();
        let search = closure::Search {
            wants: &wants,
            known: &[],
            effort: closure::Effort::Exact,
            filter: &closure::Filter::default(),
            missing: closure::Missing::Refused,
            levels_max: None,
            peeled: &[],
        };
        let closure = closure::Closure::find(&objects, &search, &mut Silent).unwrap();
        let expected = repo.git(&["rev-list", "--objects", "onto", "t1", "t2", "t3", "t60"], b"");
        assert_eq!(closure.found.len() as usize, expected.split(|byte| *byte == b'\n').count() - 1);
    }
}

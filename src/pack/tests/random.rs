//! Random histories and large repositories, compared with git.

use super::*;

/// A generator of numbers that depend only on the seed.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// A history for `git fast-import`: branches, merges, renames, deletions, gitlinks, equal dates.
pub(super) fn random_history(random: &mut Random, commits: usize, files: usize) -> String {
    let mut stream = String::new();
    let mut date = 1_700_000_000;
    let path = |random: &mut Random| {
        let depth = random.below(3);
        let mut path: String = (0..depth).map(|_| format!("d{}/", random.below(4))).collect();
        path.push_str(&format!("f{}", random.below(files)));
        path
    };
    for mark in 1..=commits {
        date += random.below(3);
        stream
            .push_str(&format!("commit refs/heads/b{mark}\nmark :{mark}\ncommitter C <c@e> {date} +0000\ndata 1\nx\n"));
        if mark > 1 && random.below(20) > 0 {
            let near = 1 + random.below(6.min(mark - 1));
            stream.push_str(&format!("from :{}\n", mark - near));
            for _ in 0..random.below(6).saturating_sub(3) {
                stream.push_str(&format!("merge :{}\n", 1 + random.below(mark - 1)));
            }
        }
        for _ in 0..1 + random.below(4) {
            let at = path(random);
            match random.below(12) {
                0 => stream.push_str(&format!("D d{}\n", random.below(4))),
                1 => stream.push_str(&format!("M 160000 {} s{}\n", "1".repeat(40), random.below(3))),
                _ => {
                    let text: String = (0..60)
                        .map(|line| format!("{line} {}\n", if line == random.below(60) { mark } else { 0 }))
                        .collect();
                    let text = if random.below(3) == 0 { format!("{}\n", random.below(9)) } else { text };
                    stream.push_str(&format!("M 644 inline {at}\ndata {}\n{text}\n", text.len()));
                }
            }
        }
        if random.below(8) == 0 {
            let tag = format!("from :{mark}\ntagger T <t@e> {date} +0000\ndata 1\nt\n");
            stream.push_str(&format!("tag t{mark}\n{tag}"));
        }
    }
    stream
}

fn check_random(seed: u64) {
    let mut random = Random(seed);
    let repo = Repo::new(gix_hash::Kind::Sha1);
    let commits = 60;
    repo.run(&["fast-import", "--quiet"], random_history(&mut random, commits, 6).as_bytes()).unwrap();
    let arrange: &[&[&str]] = match seed % 4 {
        0 => &[&["repack", "-adfq"]],
        1 => &[&["repack", "-adfq"], &["commit-graph", "write", "--reachable"]],
        2 => &[&["-c", "repack.usedeltabaseoffset=false", "repack", "-adfq", "--depth=4"]],
        _ => &[],
    };
    arrange.iter().for_each(|args| drop(repo.git(args)));
    if seed.is_multiple_of(3) {
        // The same objects again, in small overlapping packs.
        for _ in 0..3 {
            let tip = repo.id(&format!("b{}", 1 + random.below(commits)));
            let listed = repo.run(&["rev-list", "--objects", &tip.to_string()], b"").unwrap();
            repo.run(&["pack-objects", "-q", "objects/pack/pack"], &listed).unwrap();
        }
    }
    let tags = repo.git(&["tag"]);
    let tags: Vec<_> = tags.lines().collect();
    for _ in 0..6 {
        let mut pick = |most: usize| {
            let count = random.below(most + 1);
            let names: Vec<_> = (0..count)
                .map(|_| match random.below(4) {
                    0 if !tags.is_empty() => tags[random.below(tags.len())].to_owned(),
                    _ => format!("b{}", 1 + random.below(commits)),
                })
                .collect();
            repo.ids(&names.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let (mut wants, haves) = (pick(4), pick(4));
        wants.push(repo.id(&format!("b{}", commits - random.below(5))));
        let form = FORMS[random.below(4)];
        check_ids(&repo, &wants, &haves, &[form]);
    }
}

#[test]
fn random_histories_are_sent_as_git_would() {
    let seeds = if std::env::var_os("RUN_SLOW_TESTS").is_some() { 80 } else { 4 };
    (0..seeds).for_each(check_random);
}

/// Prints the cost of a request for us and for git; needs RUN_SLOW_TESTS, and takes a repository from BENCH_REPOSITORY.
#[test]
fn a_large_repository_is_sent_as_git_would() {
    if std::env::var_os("RUN_SLOW_TESTS").is_none() {
        return;
    }
    let made;
    let dir = match std::env::var_os("BENCH_REPOSITORY") {
        Some(dir) => PathBuf::from(dir),
        None => {
            made = Repo::new(gix_hash::Kind::Sha1);
            made.run(&["fast-import", "--quiet"], random_history(&mut Random(1), 30_000, 400).as_bytes()).unwrap();
            made.run(&["update-ref", "HEAD", &made.id("b30000").to_string()], b"").unwrap();
            made.dir.clone()
        }
    };
    let repo = std::mem::ManuallyDrop::new(Repo { dir, hash: gix_hash::Kind::Sha1 });
    let head = repo.ids(&["HEAD"]);
    let tips = repo.git(&["for-each-ref", "--format=%(objectname)"]);
    let tips: Vec<_> = tips.lines().map(|line| ObjectId::from_hex(line.as_bytes()).unwrap()).collect();
    measure(&repo, "clone", &tips, &[]);
    measure(&repo, "single branch", &head, &[]);
    for behind in [1, 10, 100, 1000] {
        if let Ok(have) = repo.run(&["rev-parse", "--verify", &format!("HEAD~{behind}")], b"") {
            let have = ObjectId::from_hex(&have[..40]).unwrap();
            measure(&repo, &format!("fetch of HEAD~{behind}.."), &head, &[have]);
        }
    }
}

fn measure(repo: &Repo, what: &str, wants: &[ObjectId], haves: &[ObjectId]) {
    // The processor time of this thread in nanoseconds.
    let time = || -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    };
    let between = |a: u64, b: u64| (b - a) / 1000;
    let start = time();
    let objects = repo.objects();
    let request = Request { wants, common: haves, thin: true, ..Request::default() };
    let selection = select(&objects, &request, &mut Silent).unwrap();
    let selected = time();
    let mut out = Vec::new();
    let stats = write(&selection, &objects, &options(true, true), &mut out).unwrap();
    let end = time();
    let expected = repo.expected(wants, haves);
    println!(
        "{what}: select {} µs, write {} µs, {stats:?}, git {} objects",
        between(start, selected),
        between(selected, end),
        expected.len()
    );
    assert!(ids(&selection, &objects) == expected);
}

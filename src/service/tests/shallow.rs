//! Shallow fetches, compared with git's.

use super::*;

/// ```text
///   a --- b --- c --- d --- e --- h (main, HEAD)         x (refs/secret/x, on b)
///          \         /
///           f ----- g (side)
/// ```
/// The commits' times in thousands of seconds: a 1, b 2, c 3, f 4, g 5, d 6, e 7, h 8, x 9. `v1` is an annotated tag of
/// `c`, `tree` one of a tree.
pub(super) fn drawn() -> Repo {
    let repo = Repo::new();
    let commits =
        [("a", ""), ("b", "a"), ("c", "b"), ("f", "b"), ("g", "f"), ("d", "cg"), ("e", "d"), ("h", "e"), ("x", "b")];
    for (thousands, (name, parents)) in (1..).zip(commits) {
        let parents: Vec<String> = parents.chars().map(|parent| repo.id(&parent.to_string())).collect();
        let id = repo.dated(name, &parents, thousands * 1000);
        repo.ids.lock().expect("no test panics with it").insert(name.to_owned(), id);
    }
    for (name, id) in [("refs/heads/main", "h"), ("refs/heads/side", "g"), ("refs/secret/x", "x")] {
        repo.git(&["update-ref", name, &repo.id(id)]);
    }
    repo.git(&["tag", "-a", "-m", "v1", "v1", &repo.id("c")]);
    repo.git(&["tag", "-a", "-m", "tree", "tree", "main^{tree}"]);
    repo
}

impl Repo {
    /// A commit at a given time, whose tree has the entries of its first parent's and one file more.
    pub(super) fn dated(&self, name: &str, parents: &[String], time: u64) -> String {
        let inherited = parents.first().map(|parent| self.git(&["ls-tree", parent])).unwrap_or_default();
        let entry = format!("{inherited}\n100644 blob {}\t{name}\n", self.blob(&format!("{name}\n").repeat(40)));
        let written = |kind: &[&str], text: &str| {
            let (ok, out, errors) = git_in(&self.path, kind, text.as_bytes());
            assert!(ok, "{errors}");
            String::from_utf8(out).expect("hexadecimal").trim_end().to_owned()
        };
        let tree = written(&["mktree"], entry.trim_start());
        let parents: String = parents.iter().map(|parent| format!("parent {parent}\n")).collect();
        let who = format!("C <c@example.com> {time} +0000");
        let text = format!("tree {tree}\n{parents}author {who}\ncommitter {who}\n\n{name}\n");
        written(&["hash-object", "-w", "-t", "commit", "--stdin"], &text)
    }

    fn cut(&self, names: &[&str]) {
        let lines: String = names.iter().map(|name| format!("{}\n", self.id(name))).collect();
        std::fs::write(self.path.join("shallow"), lines).expect("the repository can be written");
    }
}

/// Sends the same request in v2 and in v0, stateless and over pipes; returns the answers of v2 and of v0.
fn same(repo: &Repo, wants: &str, lines: &str, haves: &str) -> [String; 2] {
    let wanted = |words: &str| wants.split(' ').map(|want| format!("want <{want}>{words}|")).collect::<String>();
    let had: String = haves.split_whitespace().map(|have| format!("have <{have}>|")).collect();
    let v2 = format!("command=fetch|object-format=sha1|0001|thin-pack|ofs-delta|{}{lines}{had}done|0000", wanted(""));
    same_fetch(repo, pipe(Version::V2), &v2);
    let v2 = same_fetch(repo, http(Version::V2), &v2);
    let (relative, lines) = match lines.strip_prefix("deepen-relative|") {
        Some(rest) => (" deepen-relative", rest),
        None => ("", lines),
    };
    let words = format!(" multi_ack_detailed side-band-64k {CLONE}{relative}");
    let v0 = format!("{}{lines}0000|", wanted(&words));
    same_fetch(repo, http(Version::V0), &v0);
    same_fetch(repo, http(Version::V0), &format!("{v0}{had}0000"));
    let told = same_fetch(repo, http(Version::V0), &format!("{v0}{had}done"));
    assert_eq!(same_fetch(repo, pipe(Version::V0), &format!("{v0}{had}0000|done")).is_empty(), told.is_empty());
    [v2, told]
}

/// The boundary in an answer, by the letters of the drawing: `-` marks a commit at which history is no longer cut.
fn boundary(repo: &Repo, answer: &str) -> String {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "x"];
    let letter = |id: &str| names.into_iter().find(|name| repo.id(name) == id).expect("it is in the drawing");
    let mut told: Vec<String> = answer
        .split('|')
        .filter_map(|line| match line.strip_prefix("shallow ") {
            Some(id) => Some(letter(id).to_owned()),
            None => line.strip_prefix("unshallow ").map(|id| format!("-{}", letter(id))),
        })
        .collect();
    told.sort();
    told.join(" ")
}

#[test]
fn fetches_to_a_depth_are_gits() {
    let repo = drawn();
    repo.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
    let check = |wants: &str, lines: &str, haves: &str, expected: &str| {
        for answer in same(&repo, wants, lines, haves) {
            assert_eq!(boundary(&repo, &answer), expected, "{wants} {lines} {haves}");
        }
    };
    check("h", "deepen 1|", "", "h");
    check("h", "deepen 2|", "", "e");
    check("h", "deepen 3|", "", "d");
    check("h", "deepen 4|", "", "c g");
    // b is five commits from h by way of c, and six by way of f.
    check("h", "deepen 5|", "", "b f");
    check("h", "deepen 6|", "", "a");
    check("h", "deepen 7|", "", "");
    check("h g", "deepen 2|", "", "e f");
    check("h d", "deepen 2|", "", "c e g");
    check("v1 tree", "deepen 1|", "", "c");
    check("tree", "deepen 1|", "", "");
    check("h", "deepen 2147483647|", "", "");
    // Fetched again, less deep and deeper.
    check("h", "shallow <d>|deepen 1|", "d", "h");
    check("h", "deepen 1|", "d", "h");
    check("h", "shallow <e>|deepen 3|", "h", "-e d");
    check("h", "shallow <e>|deepen 4|", "h", "-e c g");
    check("h", "shallow <e>|shallow <f>|deepen 2|", "h g", "");
    check("h", "shallow <e>|shallow <f>|deepen 6|", "h g", "-e -f a");
    check("h", "shallow <e>|shallow <f>|deepen 2147483647|", "h g", "-e -f");
    check("d", "shallow <e>|shallow <f>|deepen 2147483647|", "h g", "-e -f");
    // Deepened relative to what there is.
    check("h", "deepen-relative|shallow <e>|deepen 1|", "h", "-e d");
    check("h", "deepen-relative|shallow <e>|deepen 2|", "h", "-e c g");
    // A client that is shallow, and wants to stay so.
    check("h", "shallow <d>|", "d", "");
    check("h", "shallow <d>|", "", "");
    check("h", "shallow <d>|", "e", "");
    check("h", "shallow <x>|", "x", "");
    check("h", &format!("shallow {}|deepen 1|", "1".repeat(40)), "", "h");
}

#[test]
fn a_relative_depth_counts_from_the_nearest_commit_that_is_cut() {
    let repo = drawn();
    let check = |lines: &str, expected: &str| {
        let lines = format!("command=fetch|0001|want <main>|want <side>|deepen-relative|{lines}|done|0000");
        let (answer, error) = repo.ours(http(Version::V2), &UPLOAD, &repo.packets(&lines));
        assert_eq!(error, None);
        assert_eq!(boundary(&repo, &told(&repo, &answer)), expected, "{lines}");
    };
    // d is the third commit from main, f the second from side. git before 2.54 deepens from each of them.
    check("shallow <d>|shallow <f>|deepen 1", "-f b");
    check("shallow <d>|shallow <f>|deepen 2", "-d -f a c");
    check("shallow <d>|deepen 4294967", "-d");
    // No want leads to a cut, so there is nothing to deepen. git before 2.55 makes it a depth of 1.
    check("shallow <x>|deepen 1", "");
    check("deepen 1", "");
    check("shallow <d>|deepen 2147483646", "-d");
}

#[test]
fn fetches_of_a_time_and_without_refs_are_gits() {
    let repo = drawn();
    let check = |wants: &str, lines: &str, haves: &str, expected: &str| {
        for answer in same(&repo, wants, lines, haves) {
            assert_eq!(boundary(&repo, &answer), expected, "{wants} {lines} {haves}");
        }
    };
    check("main", "deepen-since 7000|", "", "e");
    check("main", "deepen-since 6001|", "", "e");
    check("main", "deepen-since 6000|", "", "d");
    check("main", "deepen-since 3000|", "", "c f");
    check("main side", "deepen-since 7000|", "", "e");
    check("main side", "deepen-since 4000|", "", "d f");
    check("main side", "deepen-since 5000|", "", "d g");
    check("main", "deepen-since 1000|", "", "");
    check("main", "deepen-since 0|", "", "");
    check("main side", "deepen-not v1|", "", "d f");
    check("main", "deepen-not v1|deepen-not refs/heads/side|", "", "d");
    check("main", "deepen-not heads/side|deepen-since 7000|", "", "e");
    check("main", "deepen-not tree|", "", "");
    check("main side", "shallow <e>|deepen-not v1|", "main", "-e d f");
    check("main", "shallow <e>|deepen-since 7000|", "main", "");
    check("main", "shallow <e>|shallow <x>|deepen-since 3000|", "main", "-e c f");
}

#[test]
fn an_end_behind_another_end_is_no_boundary_of_the_client() {
    let repo = drawn();
    let check = |lines: &str, expected: &str, gits: &str| {
        let lines = format!("command=fetch|0001|thin-pack|want <main>|{lines}|done|0000");
        let input = repo.packets(&lines);
        let (ours, error) = repo.ours(http(Version::V2), &UPLOAD, &input);
        assert_eq!(error, None);
        let (ours, theirs) = (told(&repo, &ours), told(&repo, &repo.theirs(http(Version::V2), false, &input).0));
        assert_eq!(boundary(&repo, &ours), expected, "{lines}");
        assert_eq!(boundary(&repo, &theirs), gits, "{lines}");
        let pack = |answer: &str| answer.split("packfile").nth(1).map(str::to_owned);
        assert_eq!(pack(&ours), pack(&theirs), "{lines}");
    };
    check("deepen-since 5000", "d", "d g");
    check("deepen-not v1", "d", "d f");
    check("deepen-not side", "d", "c d");
    // The commits sent from beyond the old boundary end at a boundary, too.
    check("have <main>|shallow <d>|deepen-since 3000", "-d c f", "-d c f");
    check("have <main>|shallow <e>|shallow <g>|deepen-not v1", "-e -g d f", "-e -g d f");
}

#[test]
fn what_left_out_refs_reach_is_left_out_whatever_the_clocks_say() {
    let repo = drawn();
    // A clock that is far behind, so that git stops looking before it gets there.
    let mut behind = repo.id("d");
    for number in 0..8 {
        behind = repo.dated(&format!("behind{number}"), &[behind], 900 - number);
    }
    repo.git(&["update-ref", "refs/heads/behind", &behind]);
    for lines in ["deepen-not behind", "deepen-not behind|deepen-not v1", "deepen-not side|deepen-not behind"] {
        let lines = format!("command=fetch|0001|want <main>|{lines}|done|0000");
        let (answer, error) = repo.ours(http(Version::V2), &UPLOAD, &repo.packets(&lines));
        assert_eq!(error, None);
        assert_eq!(boundary(&repo, &told(&repo, &answer)), "e", "{lines}");
    }
}

#[test]
fn a_wanted_commit_is_young_enough_whatever_its_child_says() {
    let repo = drawn();
    let young = repo.dated("young", &[repo.id("d")], 8000);
    let child = repo.dated("child", std::slice::from_ref(&young), 900);
    for (name, id) in [("young", &young), ("child", &child)] {
        repo.git(&["update-ref", &format!("refs/heads/{name}"), id]);
    }
    let input =
        repo.packets("command=fetch|0001|want <young>|want <child>|deepen-since 7000|deepen-not side|done|0000");
    let (answer, error) = repo.ours(http(Version::V2), &UPLOAD, &input);
    assert_eq!(error, None);
    assert!(told(&repo, &answer).contains(&format!("shallow {young}|")), "{}", told(&repo, &answer));
    let (theirs, ok) = repo.theirs(http(Version::V2), false, &input);
    assert!(!ok && !told(&repo, &theirs).contains("pack"), "git leaves it out, and then there is nothing");
}

#[test]
fn a_shallow_request_that_cannot_be_served_is_told_in_gits_words() {
    let repo = drawn();
    repo.git(&["update-ref", "refs/tags/side", &repo.id("c")]);
    let check = |lines: &str, expected: &str| {
        for (version, lines) in [
            (Version::V2, format!("command=fetch|0001|want <main>|{lines}|done|0000")),
            (Version::V0, format!("want <main>|{lines}|0000|done")),
        ] {
            let (answer, error) = repo.ours(http(version), &UPLOAD, &repo.packets(&lines));
            assert_eq!(error.as_deref(), Some(expected), "{lines}");
            assert!(!told(&repo, &answer).contains("pack"), "{lines}");
            let (theirs, ok) = repo.theirs(http(version), false, &repo.packets(&lines));
            assert!(!ok && !told(&repo, &theirs).contains("pack"), "{lines}");
        }
    };
    check("deepen 0", "Invalid deepen: deepen 0");
    check("deepen-since tomorrow", "Invalid deepen-since: deepen-since tomorrow");
    check("deepen-since 9000", "no commits selected for shallow requests");
    check("deepen-not main", "no commits selected for shallow requests");
    check("deepen-not none", "git upload-pack: deepen-not is not a ref: deepen-not none");
    check("deepen-not ../config", "git upload-pack: deepen-not is not a ref: deepen-not ../config");
    check("deepen-not side", "git upload-pack: ambiguous deepen-not: deepen-not side");
    let both = "git upload-pack: deepen and deepen-since (or deepen-not) cannot be used together";
    check("deepen 1|deepen-since 5000", both);
    check("shallow 11", "invalid shallow line: shallow 11");
    let tree = repo.id("main^{tree}");
    check(&format!("shallow {tree}"), &format!("invalid shallow object {tree}"));
}

/// A repository whose own history is cut at `names`, without anything beyond.
fn cut_at(names: &[&str]) -> Repo {
    let whole = drawn();
    let repo = Repo::new();
    *repo.ids.lock().expect("no test panics with it") = whole.ids.lock().expect("no test panics with it").clone();
    whole.cut(names);
    let path = whole.path.to_str().expect("a path of letters").to_owned();
    repo.git(&["fetch", "-q", "--update-shallow", &path, "refs/heads/*:refs/heads/*", "refs/tags/*:refs/tags/*"]);
    repo
}

#[test]
fn a_shallow_repository_tells_its_boundary() {
    let repo = cut_at(&["c", "f"]);
    assert!(!git_in(&repo.path, &["cat-file", "-e", &repo.id("b")], b"").0);
    for version in [Version::V0, Version::V1, Version::V2] {
        same_advertisement(&repo, version);
    }
    let (ours, error) = repo.ours(http(Version::V0), &Operation::Advertise(Service::ReceivePack), b"");
    assert_eq!(error, None);
    let ours = told(&repo, &ours);
    let mut cut = [repo.id("c"), repo.id("f")].map(|id| format!("shallow {id}\n|"));
    cut.sort();
    assert!(ours.ends_with(&format!("{}0000", cut.concat())), "{ours}");
    assert_eq!(boundary(&repo, &ours.replace('\n', "")), "c f");
}

#[test]
fn fetches_from_a_shallow_repository_are_gits() {
    let repo = cut_at(&["c", "f"]);
    let check = |wants: &str, lines: &str, haves: &str, expected: &str| {
        let [v2, v0] = same(&repo, wants, lines, haves);
        assert_eq!(boundary(&repo, &v2), expected, "{wants} {lines} {haves}");
        // v0 has it in its advertisement, and repeats it only with a depth.
        let expected = if lines.contains("deepen") { expected } else { "" };
        assert_eq!(boundary(&repo, &v0), expected, "{wants} {lines} {haves}");
    };
    check("h", "", "", "c f");
    check("h g", "", "h", "c f");
    check("g", "", "", "f");
    check("tree", "", "", "");
    check("h", "shallow <c>|", "g", "f");
    check("h", "shallow <c>|shallow <f>|", "e", "");
    check("h", "shallow <d>|", "d", "");
    check("h", "shallow <d>|shallow <f>|", "d g", "");
    check("h", "deepen 1|", "", "h");
    check("h", "deepen 4|", "", "c g");
    check("h", "deepen 5|", "", "c f");
    check("h", "deepen 100|", "", "c f");
    check("h", "shallow <e>|deepen 100|", "h", "-e c f");
    check("h", "shallow <e>|deepen 2147483647|", "h", "-e c f");
    check("h", "shallow <c>|deepen 2147483647|", "g", "f");
    check("h", "deepen-relative|shallow <e>|deepen 2|", "h", "-e c g");
    check("h g", "deepen-since 5000|", "", "d g");
    check("h g", "deepen-not v1|deepen-since 5000|", "", "d g");
}

#[test]
fn revisions_that_reach_the_boundary_of_a_shallow_repository_end_there() {
    let repo = cut_at(&["c", "f"]);
    let check = |lines: &str, expected: &str| {
        let lines = format!("command=fetch|0001|want <h>|{lines}|done|0000");
        let input = repo.packets(&lines);
        let (answer, error) = repo.ours(http(Version::V2), &UPLOAD, &input);
        assert_eq!(error, None);
        assert_eq!(boundary(&repo, &told(&repo, &answer)), expected, "{lines}");
        // git forgets its own boundary here, or says that there is none, and its client finds commits missing.
        let theirs = boundary(&repo, &told(&repo, &repo.theirs(http(Version::V2), false, &input).0));
        assert_ne!(theirs, expected, "{lines}");
    };
    check("want <g>|deepen-not v1", "d f");
    check("want <g>|deepen-not side", "d f");
    check("deepen-since 2000", "c f");
    check("shallow <f>|deepen-since 2000", "c");
}

#[test]
fn refs_that_are_hidden_cannot_be_left_out() {
    let repo = drawn();
    let ask = |lines: &str| {
        let lines = format!("command=fetch|0001|want <h>|{lines}|done|0000");
        let (answer, error) = repo.ours(http(Version::V2), &UPLOAD, &repo.packets(&lines));
        error.unwrap_or_else(|| boundary(&repo, &told(&repo, &answer)))
    };
    assert_eq!(ask("deepen-not secret/x"), "c f");
    repo.git(&["config", "transfer.hideRefs", "refs/secret"]);
    assert_eq!(ask("deepen-not secret/x"), "git upload-pack: deepen-not is not a ref: deepen-not secret/x");
    assert_eq!(ask("deepen-not HEAD"), "no commits selected for shallow requests");
}

#[test]
fn nothing_hidden_is_completed_for_a_token() {
    let repo = drawn();
    repo.git(&["config", "transfer.hideRefs", "refs/secret"]);
    let x = repo.id("x");
    let lost = repo.dated("lost", &[repo.dated("below", &[], 1)], 2);
    let tree = repo.id("secret/x^{tree}");
    let lines = format!("shallow <e>|shallow <x>|shallow {lost}|shallow {tree}|deepen 2147483647");
    let ask = |asked: Asked, lines: &str| {
        let lines = format!("command=fetch|0001|want <h>|{lines}|have <h>|done|0000");
        let (answer, error) = repo.ours(asked, &UPLOAD, &repo.packets(&lines));
        error.unwrap_or_else(|| told(&repo, &answer).split("|0001").next().expect("a section").to_owned())
    };
    let e = repo.id("e");
    assert_eq!(ask(tokens(Version::V2), &lines), format!("shallow-info\n|unshallow {e}"));
    let lines = lines.replace(&format!("shallow {tree}|"), "");
    let all = format!("shallow-info\n|unshallow {e}|unshallow {x}|unshallow {lost}");
    assert_eq!(ask(http(Version::V2), &lines), all);
}

#[test]
fn history_is_completed_for_a_token_whatever_the_clocks_say() {
    let repo = Repo::new();
    let below = repo.dated("below", &[], 1_000_000);
    let ahead = repo.dated("ahead", std::slice::from_ref(&below), 9_000_000);
    let tip = repo.dated("tip", std::slice::from_ref(&ahead), 2_000_000);
    let lost = repo.dated("lost", &[], 9_000_000);
    repo.git(&["update-ref", "refs/heads/main", &tip]);
    let lines = format!("want {tip}|shallow {ahead}|shallow {lost}|deepen 2147483647|have {tip}|done");
    let input = repo.packets(&format!("command=fetch|0001|{lines}|0000"));
    let (answer, error) = repo.ours(tokens(Version::V2), &UPLOAD, &input);
    assert_eq!(error, None);
    let told = told(&repo, &answer);
    assert!(told.starts_with(&format!("shallow-info\n|unshallow {ahead}|0001")), "{told}");
    assert!(told.contains(&below), "{told}");
}

#[test]
fn whether_a_hidden_commit_is_here_does_not_show_from_a_boundary() {
    let repo = drawn();
    repo.git(&["config", "transfer.hideRefs", "refs/secret"]);
    let lost = repo.dated("lost", &[], 2).to_string();
    let tree = repo.id("secret/x^{tree}").to_string();
    let ask = |asked: Asked, shallow: &str| {
        let lines = format!("command=fetch|0001|want <h>|{shallow}have <e>|done|0000");
        let (answer, error) = repo.ours(asked, &UPLOAD, &repo.packets(&lines));
        assert!(error.is_none(), "{error:?}");
        told(&repo, &answer).split("packfile").next().expect("sections").to_owned()
    };
    let nowhere = "1".repeat(40);
    for id in [&repo.id("x").to_string(), &lost, &tree, &nowhere] {
        assert_eq!(ask(tokens(Version::V2), &format!("shallow {id}|")), "shallow-info\n|0001|", "{id}");
    }
    assert_eq!(ask(tokens(Version::V2), ""), "", "who has no boundary hears of none");
    // Where nothing is hidden the answer is as with git.
    assert_eq!(ask(http(Version::V2), &format!("shallow {lost}|")), "shallow-info\n|0001|");
    assert_eq!(ask(http(Version::V2), &format!("shallow {nowhere}|")), "");
}

/// A random history of `count` commits, lettered from `a`, each newer than its parents; every third has a branch.
fn random(dice: &mut Dice, count: u8) -> Repo {
    let repo = Repo::new();
    let mut stream = String::new();
    for n in 0..count {
        let name = char::from(b'a' + n);
        let who = format!("C <c@example.com> {} +0000", 1000 * (u64::from(n) + 1));
        let file = dice.roll(4);
        stream += &format!("commit refs/made/{name}\nmark :{}\ncommitter {who}\ndata 1\n{name}\n", n + 1);
        for (word, parent) in ["from", "merge"].into_iter().zip(0..dice.roll(4).min(2)) {
            let back = 1 + (dice.roll(4) + parent) as u8;
            if back <= n {
                stream += &format!("{word} :{}\n", n + 1 - back);
            }
        }
        stream += &format!("M 644 inline d{}/f{file}\ndata <<E\n{}\nE\n", file % 2, format!("{name}\n").repeat(9));
    }
    let (ok, _, errors) = git_in(&repo.path, &["fast-import", "--quiet"], stream.as_bytes());
    assert!(ok, "{errors}");
    for line in repo.git(&["for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/made/"]).lines() {
        let (name, id) = line.split_once(' ').expect("two words");
        repo.ids.lock().expect("no test panics with it").insert(name.to_owned(), id.to_owned());
    }
    for n in (0..count).rev().step_by(3) {
        let name = char::from(b'a' + n).to_string();
        repo.git(&["update-ref", &format!("refs/heads/{name}"), &repo.id(&name)]);
    }
    repo.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
    if dice.roll(2) == 0 {
        repo.git(&["repack", "-q", "-a", "-d"]);
        repo.git(&["commit-graph", "write", "--reachable"]);
    }
    repo
}

/// Sends the same request to both. git alone reports ends of revisions beyond other ends, and cuts the client's history
/// there too; in v2 it takes what lies beyond a client's boundary to be common. Both make it send objects the client
/// has.
fn alike(repo: &Repo, version: Version, lines: &str) {
    let input = repo.packets(lines);
    let (answer, error) = repo.ours(http(version), &UPLOAD, &input);
    // With a commit-graph, git's negotiation in v0 looks beyond boundaries.
    let graph = repo.path.join("objects/info/commit-graph");
    let aside = graph.with_extension("aside");
    let has_graph = std::fs::rename(&graph, &aside).is_ok();
    let theirs = repo.theirs(http(version), false, &input).0;
    if has_graph {
        std::fs::rename(&aside, &graph).expect("it was there");
    }
    let split = |answer: &[u8]| -> (Vec<String>, BTreeSet<String>) {
        let text = comparable(&told(repo, answer));
        let (lines, pack) = text.split_once("pack of ").unwrap_or((&text, ""));
        let objects = pack.split([' ', ':', '|']).filter(|word| word.len() == 40).map(str::to_owned).collect();
        (lines.split('|').map(str::to_owned).collect(), objects)
    };
    let ((ours, our_objects), (mut theirs, their_objects)) = (split(&answer), split(&theirs));
    let mut git_cuts_more = version == Version::V2 && lines.contains("|shallow ") && lines.contains("|have ");
    if lines.contains("deepen-since ") || lines.contains("deepen-not ") {
        let before = theirs.len();
        theirs.retain(|line| !line.starts_with("shallow ") || ours.contains(line));
        git_cuts_more |= theirs.len() < before;
    }
    assert_eq!(ours, theirs, "{lines} {error:?}");
    if git_cuts_more {
        assert!(our_objects.is_subset(&their_objects), "{lines}");
    } else {
        assert_eq!(our_objects, their_objects, "{lines}");
    }
}

#[test]
fn random_shallow_fetches_are_gits() {
    let many = std::env::var_os("RUN_SLOW_TESTS").is_some();
    for seed in 0..if many { 100 } else { 2 } {
        let mut dice = Dice(seed);
        let repo = random(&mut dice, 14);
        for _ in 0..if many { 20 } else { 4 } {
            let some = |dice: &mut Dice, word: &str, most: usize| -> String {
                (0..dice.roll(most)).map(|_| format!("{word} <{}>|", char::from(b'a' + dice.roll(14) as u8))).collect()
            };
            let wants = format!("want <n>|{}", some(&mut dice, "want", 3));
            let cut = some(&mut dice, "shallow", 4);
            let haves = some(&mut dice, "have", 5);
            let depth = match dice.roll(6) {
                0 => String::new(),
                1 => "deepen 2147483647|".to_owned(),
                2 => format!("deepen-since {}|", 1000 * dice.roll(14)),
                3 => format!("deepen-not {}|", char::from(b'a' + 1 + 3 * dice.roll(4) as u8)),
                _ => format!("deepen {}|", 1 + dice.roll(6)),
            };
            let words = "multi_ack_detailed side-band-64k thin-pack ofs-delta";
            let v0 = format!("{}{cut}{depth}0000|{haves}", wants.replace(">|", &format!("> {words}|")));
            let v2 = format!("command=fetch|0001|thin-pack|ofs-delta|{wants}{cut}{depth}{haves}");
            alike(&repo, Version::V0, &format!("{v0}0000"));
            alike(&repo, Version::V0, &format!("{v0}done"));
            alike(&repo, Version::V2, &format!("{v2}done|0000"));
            // git's v2 says `ready` as if the client's history were complete.
            if cut.is_empty() {
                alike(&repo, Version::V2, &format!("{v2}0000"));
            }
        }
    }
}

//! Requests of hostile size: answered, or refused with the name of the limit, with an amount of memory and work that
//! does not depend on what a client asks for.

use crate::support::{Answer, Repo, Site, framed};
use std::fmt::Write as _;

const UPLOAD: &str = "/acme/site.git/git-upload-pack";

/// How many megabytes a request may use apart from what it sends, and how many seconds of CPU time.
const MEGABYTES: u32 = 100;
const SECONDS: u32 = 30;

struct Large {
    site: Site,
    token: String,
    tip: String,
}

impl Large {
    /// A repository with a linear history of `commits` commits.
    fn new(commits: usize) -> Self {
        let site = Site::new();
        let served = site.create("acme/site");
        let mut stream = String::new();
        for number in 1..=commits {
            let time = 1_700_000_000 + number;
            writeln!(stream, "commit refs/heads/main\nmark :{number}\ncommitter C <c@x> {time} +0000\ndata 0").unwrap();
            writeln!(stream, "M 100644 inline file\ndata {}\n{number}", number.to_string().len()).unwrap();
        }
        served.feed(&["fast-import", "--quiet", "--depth=0"], stream.as_bytes());
        served.git(&["repack", "-adq"]);
        let tip = served.tip("refs/heads/main");
        let token = site.token("acme/site", "read");
        Large { site, token, tip }
    }

    fn served(&self) -> Repo {
        self.site.repo("acme/site")
    }

    fn ask(&self, version: u8, lines: &[String]) -> Answer {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let request = self.site.cgi("POST", UPLOAD).bearer(&self.token).protocol(version).body(framed(&lines));
        let answer = request.megabytes(MEGABYTES).opening(&format!("ulimit -t {SECONDS}")).run();
        answer.is_sound(&format!("version {version}"));
        answer
    }

    /// Asks for the tip in versions 0 and 2, with more lines among the wants and among the haves.
    fn both(&self, arguments: &[String], haves: &[String]) -> [Answer; 2] {
        let want = format!("want {}", self.tip);
        let text = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let v0 = [
            vec![format!("{want} multi_ack_detailed side-band-64k filter")],
            arguments.to_vec(),
            text(&["0000"]),
            haves.to_vec(),
            text(&["done"]),
        ];
        let v2 =
            [text(&["command=fetch", "0001"]), vec![want], arguments.to_vec(), haves.to_vec(), text(&["done", "0000"])];
        [self.ask(0, &v0.concat()), self.ask(2, &v2.concat())]
    }

    fn commits(&self) -> Vec<String> {
        self.served().git(&["rev-list", "main"]).lines().map(str::to_owned).collect()
    }
}

fn has_pack(answer: &Answer) -> bool {
    answer.body.windows(4).any(|four| four == b"PACK")
}

fn refused(answer: &Answer) -> String {
    answer.packets().pop().unwrap_or_default()
}

/// Names of objects that do not exist.
fn unknown(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("{:040x}", number * 7919))
}

#[test]
fn two_hundred_thousand_haves_are_read_once() {
    let large = Large::new(3);
    let haves: Vec<String> = unknown(200_000).map(|id| format!("have {id}")).collect();
    for answer in large.both(&[], &haves) {
        assert!(has_pack(&answer));
    }
    // The same commits again and again, all of them common.
    let large = Large::new(10_000);
    let commits = large.commits();
    let haves: Vec<String> = commits[1..].iter().cycle().take(200_000).map(|id| format!("have {id}")).collect();
    for answer in large.both(&[], &haves) {
        assert!(has_pack(&answer));
    }
}

#[test]
fn a_hundred_thousand_wants_are_served_or_refused_by_name() {
    let large = Large::new(10);
    let wants: Vec<String> = unknown(100_000).map(|id| format!("want {id}")).collect();
    for answer in large.both(&wants, &[]) {
        assert!(refused(&answer).starts_with("ERR upload-pack: not our ref 0000"), "{}", refused(&answer));
    }
    // Existing objects: commits below the tip, many times, and every tree and blob.
    let large = Large::new(10_000);
    let listed = large.served().git(&["rev-list", "--objects", "main"]);
    let ids = listed.lines().map(|line| line.split(' ').next().unwrap());
    let wants: Vec<String> = ids.cycle().take(100_000).map(|id| format!("want {id}")).collect();
    for answer in large.both(&wants, &[]) {
        assert!(has_pack(&answer), "{}", refused(&answer));
    }
}

#[test]
fn a_hundred_thousand_prefixes_list_everything() {
    let large = Large::new(3);
    let prefixes = (0..100_000).map(|number| format!("ref-prefix refs/heads/{number}/"));
    let lines: Vec<String> =
        ["command=ls-refs", "0001"].map(str::to_owned).into_iter().chain(prefixes).chain(["0000".to_owned()]).collect();
    let answer = large.ask(2, &lines);
    assert!(answer.text().contains("refs/heads/main"), "{}", answer.text());
}

#[test]
fn ten_thousand_shallow_lines_are_one_boundary() {
    let large = Large::new(10_000);
    let commits = large.commits();
    let known: Vec<String> = commits.iter().map(|id| format!("shallow {id}")).collect();
    let none: Vec<String> = unknown(10_000).map(|id| format!("shallow {id}")).collect();
    let have = [format!("have {}", commits[1])];
    for (shallow, deepen) in
        [(&none, "deepen 3"), (&known, "deepen 3"), (&known, "deepen 2147483647"), (&known, "deepen-since 1700005000")]
    {
        for answer in large.both(&[&shallow[..], &[deepen.to_owned()]].concat(), &have) {
            assert!(has_pack(&answer), "{deepen}: {}", refused(&answer));
        }
    }
    // Each line names a ref to exclude; the refusal tells the limit.
    let not: Vec<String> = (0..10_000).map(|number| format!("deepen-not refs/heads/{number}")).collect();
    for answer in large.both(&not, &[]) {
        assert!(refused(&answer).contains("1000"), "{}", refused(&answer));
    }
}

#[test]
fn filters_within_filters_end_at_a_limit() {
    let large = Large::new(3);
    let nested = |depth: usize| {
        let escaped = |filter: String| filter.replace('%', "%25").replace(':', "%3a").replace('+', "%2b");
        (0..depth).fold("blob:none".to_owned(), |filter, _| format!("combine:{}+tree:7", escaped(filter)))
    };
    let ask = |filter: String| large.both(&[format!("filter {filter}")], &[]);
    for answer in ask(nested(15)) {
        assert!(has_pack(&answer), "{}", refused(&answer));
    }
    let wide = format!("combine:{}", vec!["blob:none"; 5000].join("+"));
    let unescaped = format!("combine:{}", "combine:".repeat(5000));
    for (filter, said) in [(nested(60), "16"), (wide, "64"), (unescaped, "")] {
        for answer in ask(filter) {
            let refused = refused(&answer);
            assert!(refused.starts_with("ERR ") && refused.contains(said) && refused.len() < 300, "{refused}");
        }
    }
    // The slowest possible patterns.
    let served = large.served();
    let patterns = format!("{}b\n", "*a".repeat(2000)).repeat(100);
    let blob = served.feed(&["hash-object", "-w", "--stdin"], patterns.as_bytes());
    served.git(&["update-ref", "refs/tags/patterns", &blob]);
    for answer in ask("sparse:oid=refs/tags/patterns".to_owned()) {
        assert!(has_pack(&answer) || refused(&answer).starts_with("ERR "), "{}", refused(&answer));
    }
}

#[test]
fn half_a_million_refs_are_listed_as_they_are_read() {
    let large = Large::new(3);
    let mut packed = "# pack-refs with: peeled fully-peeled sorted \n".to_owned();
    for number in 0..500_000 {
        writeln!(packed, "{} refs/changes/{number:06}", large.tip).unwrap();
    }
    writeln!(packed, "{} refs/heads/main", large.tip).unwrap();
    std::fs::write(large.served().path.join("packed-refs"), packed).unwrap();
    let get = |version| {
        let request = large.site.cgi("GET", "/acme/site.git/info/refs?service=git-upload-pack");
        let request = request.bearer(&large.token).protocol(version).megabytes(MEGABYTES);
        request.opening(&format!("ulimit -t {SECONDS}")).run()
    };
    assert!(get(0).body.len() > 25_000_000);
    let ls_refs = |prefix: &str| {
        let lines = ["command=ls-refs", "0001", "peel", "symrefs", prefix, "0000"].map(str::to_owned);
        large.ask(2, &lines).body.len()
    };
    assert!(ls_refs("ref-prefix refs/") > 25_000_000);
    assert!(ls_refs("ref-prefix refs/heads/") < 200);
    for answer in large.both(&[], &[]) {
        assert!(has_pack(&answer));
    }
    // A want that no ref points to makes the server examine all refs.
    let behind = large.served().tip("main~1");
    for answer in large.both(&[format!("want {behind}")], &[format!("have {}", "1".repeat(40))]) {
        assert!(has_pack(&answer), "{}", refused(&answer));
    }
}

//! Random requests: realistic ones of clients that fetch, and arbitrary ones.

use super::dice::Dice;
use super::repository::Served;
use crate::support::{Cgi, framed};
use gix_hash::ObjectId;
use std::collections::BTreeSet;

/// What requests may use: what both servers support.
pub struct Offered {
    /// The features of fetch in version 2.
    features: String,
    /// Whether git counts a relative depth from the client's boundary, as it does from version 2.55 on.
    relative_depth: bool,
}

impl Offered {
    pub fn of(served: &Served, git: (u32, u32)) -> Self {
        let request =
            Cgi::to(served.path.parent().unwrap(), "GET", "/repository.git/info/refs?service=git-upload-pack");
        let request = request.env("ARTIFACTS_AUTH", "webserver").env("GIT_HTTP_EXPORT_ALL", "").protocol(2);
        let features = request.run().packets().into_iter().find(|line| line.starts_with("fetch="));
        Offered { features: features.unwrap_or_default(), relative_depth: git >= (2, 55) }
    }

    fn has(&self, feature: &str) -> bool {
        self.features.trim_start_matches("fetch=").split(' ').any(|word| word == feature)
    }
}

/// How a request reaches the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As CGI, each request complete.
    Http,
    /// Over a pipe, after an advertisement, with several rounds of haves at once.
    Pipe,
}

/// How common objects are to be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    Plain,
    Multi,
    Detailed,
    /// In a section of version 2.
    Section,
}

/// The depth that means infinite.
const ENDLESS: u32 = 0x7fff_ffff;

/// A request.
pub struct Asked {
    pub way: Way,
    pub version: u8,
    pub lines: Vec<String>,
    pub wants: Vec<ObjectId>,
    /// Everything the client says it has.
    pub haves: Vec<ObjectId>,
    pub shallow: BTreeSet<ObjectId>,
    pub acks: Acks,
    pub thin: bool,
    pub ofs: bool,
    pub filter: Option<String>,
    /// Version 2 with sideband-all.
    pub all_in_bands: bool,
    /// Whether it uses deepen-since or deepen-not.
    pub by_revisions: bool,
}

impl Asked {
    pub fn random(served: &Served, offered: &Offered, dice: &mut Dice) -> Self {
        let version = *dice.pick(&[0, 0, 1, 2, 2, 2]);
        let mut asked = Asked {
            way: if dice.chance(20) { Way::Pipe } else { Way::Http },
            version,
            lines: Vec::new(),
            wants: wants(served, dice),
            haves: Vec::new(),
            shallow: BTreeSet::new(),
            acks: if version == 2 {
                Acks::Section
            } else {
                *dice.pick(&[Acks::Plain, Acks::Multi, Acks::Detailed, Acks::Detailed])
            },
            thin: dice.chance(60),
            ofs: dice.chance(70),
            filter: None,
            all_in_bands: false,
            by_revisions: false,
        };
        asked.become_client(served, dice);
        if dice.chance(30) {
            asked.filter = Some(filter(served, dice));
        }
        let deepening = if dice.chance(40) { asked.deepening(served, dice) } else { Vec::new() };
        if version == 2 {
            asked.write_v2(&deepening, served, offered, dice);
        } else {
            asked.write_v0(&deepening, offered, dice);
        }
        asked
    }

    /// Decides what the client has.
    fn become_client(&mut self, served: &Served, dice: &mut Dice) {
        let universe = &served.universe;
        match dice.below(10) {
            // A clone.
            0..=2 => {}
            // Arbitrary objects.
            3 => {
                let all: Vec<ObjectId> = [&universe.commits, &universe.tags, &universe.trees, &universe.blobs]
                    .into_iter()
                    .flatten()
                    .copied()
                    .collect();
                self.haves = dice.some(&all, 6);
                if dice.chance(30) {
                    self.shallow = dice.some(&universe.commits, 4).into_iter().collect();
                }
            }
            // A client that has fetched before, completely or up to a boundary, and may have worked since.
            _ => {
                let tips = dice.some(&universe.commits, 3);
                let merged = universe.commits.iter().filter(|id| !universe.objects[*id].parents.is_empty());
                let wished: BTreeSet<ObjectId> = match dice.chance(45) {
                    true => dice.some(&merged.copied().collect::<Vec<_>>(), 5).into_iter().collect(),
                    false => BTreeSet::new(),
                };
                let owned = universe.closure(tips, &wished);
                self.shallow = wished.intersection(&owned).copied().collect();
                let newest_first = universe.commits.iter().rev().filter(|id| owned.contains(*id));
                let skipped = *dice.pick(&[0, 0, 30, 80]);
                self.haves = newest_first.copied().filter(|_| !dice.chance(skipped)).collect();
                self.haves.truncate(dice.between(1, 40));
            }
        }
        if dice.chance(30) {
            for _ in 0..dice.between(1, 4) {
                let at = dice.below(self.haves.len() + 1);
                self.haves.insert(at, universe.unknown(dice));
            }
        }
        if dice.chance(5) {
            self.shallow.insert(universe.unknown(dice));
        }
    }

    fn deepening(&mut self, served: &Served, dice: &mut Dice) -> Vec<String> {
        let mut lines = Vec::new();
        match dice.below(20) {
            0..=9 => lines.push(format!("deepen {}", dice.pick(&[1, 1, 2, 3, 4, 7, ENDLESS]))),
            10..=13 => {
                let commit = *dice.pick(&served.universe.commits);
                lines.push(format!("deepen-since {}", served.universe.objects[&commit].time + dice.below(100) as u64));
            }
            14..=17 => {
                for (name, _) in dice.some(&served.refs, 2) {
                    let short = name.rsplit('/').next().unwrap().to_owned();
                    lines.push(format!("deepen-not {}", if dice.chance(50) { short } else { name }));
                }
            }
            18 => {
                let commit = *dice.pick(&served.universe.commits);
                lines.push(format!("deepen-since {}", served.universe.objects[&commit].time));
                lines.push(format!("deepen-not {}", dice.pick(&served.refs).0));
            }
            _ => {
                let bad = [
                    "deepen 0",
                    "deepen -1",
                    "deepen x",
                    "deepen-since x",
                    "deepen-not nowhere",
                    "deepen 3 ",
                    "deepen",
                ];
                lines.push((*dice.pick(&bad)).to_owned());
                if dice.chance(30) {
                    lines.push("deepen 2".to_owned());
                }
            }
        }
        self.by_revisions = lines.iter().any(|line| !line.starts_with("deepen "));
        if dice.chance(4) {
            lines.push("deepen-since 1700000000".to_owned());
            self.by_revisions = true;
        }
        lines
    }

    /// The lines of shallow commits and of a moving boundary, mixed in any order.
    fn boundary(&self, deepening: &[String], dice: &mut Dice) -> Vec<String> {
        let mut lines: Vec<String> = self.shallow.iter().map(|id| format!("shallow {id}")).collect();
        for line in deepening {
            let at = dice.below(lines.len() + 1);
            lines.insert(at, line.clone());
        }
        lines
    }

    fn write_v2(&mut self, deepening: &[String], served: &Served, offered: &Offered, dice: &mut Dice) {
        let mut lines = vec!["command=fetch".to_owned()];
        if self.wants.first().is_some_and(|want| want.kind() == gix_hash::Kind::Sha256) {
            lines.push("object-format=sha256".to_owned());
        }
        lines.push("0001".to_owned());
        let mut words = vec!["no-progress"];
        words.extend(self.thin.then_some("thin-pack"));
        words.extend(self.ofs.then_some("ofs-delta"));
        words.extend(dice.chance(30).then_some("include-tag"));
        words.extend(dice.chance(10).then_some("wait-for-done"));
        words.extend(
            (dice.chance(25) && offered.relative_depth && may_be_relative(deepening)).then_some("deepen-relative"),
        );
        words.extend(dice.chance(1).then_some("unheard-of"));
        self.all_in_bands = dice.chance(20) && offered.has("sideband-all");
        words.extend(self.all_in_bands.then_some("sideband-all"));
        lines.extend(words.into_iter().map(str::to_owned));
        lines.extend(self.wants.iter().map(|id| format!("want {id}")));
        if dice.chance(20) && offered.has("ref-in-want") {
            for (name, id) in dice.some(&served.refs, 2) {
                lines.push(format!("want-ref {name}"));
                self.wants.push(id);
            }
            if dice.chance(4) {
                lines.push("want-ref refs/heads/nowhere".to_owned());
            }
        }
        lines.extend(self.boundary(deepening, dice));
        lines.extend(self.filter.iter().map(|filter| format!("filter {filter}")));
        lines.extend(self.haves.iter().map(|id| format!("have {id}")));
        if dice.chance(70) {
            lines.push("done".to_owned());
        }
        lines.push("0000".to_owned());
        self.lines = lines;
    }

    fn write_v0(&mut self, deepening: &[String], offered: &Offered, dice: &mut Dice) {
        let mut words = Vec::new();
        match self.acks {
            Acks::Plain | Acks::Section => {}
            Acks::Multi => words.push("multi_ack"),
            Acks::Detailed => words.push("multi_ack_detailed"),
        }
        words.extend((self.acks == Acks::Detailed && dice.chance(40)).then_some("no-done"));
        words.extend([Some("side-band-64k"), Some("side-band-64k"), Some("side-band"), None][dice.below(4)]);
        words.extend(self.thin.then_some("thin-pack"));
        words.extend(self.ofs.then_some("ofs-delta"));
        words.extend(dice.chance(30).then_some("include-tag"));
        words.push("no-progress");
        words.extend(
            (dice.chance(25) && offered.relative_depth && may_be_relative(deepening)).then_some("deepen-relative"),
        );
        words.extend((self.filter.is_some() && dice.chance(95)).then_some("filter"));
        let mut lines = Vec::new();
        for (number, want) in self.wants.iter().enumerate() {
            let words = if number == 0 { format!(" {}", words.join(" ")) } else { String::new() };
            lines.push(format!("want {want}{words}"));
        }
        lines.extend(self.boundary(deepening, dice));
        lines.extend(self.filter.iter().map(|filter| format!("filter {filter}")));
        lines.push("0000".to_owned());
        for (number, have) in self.haves.iter().enumerate() {
            lines.push(format!("have {have}"));
            if self.way == Way::Pipe && number % 5 == 4 {
                lines.push("0000".to_owned());
            }
        }
        // Over a pipe, the server would wait for a client that has not sent `done`.
        lines.push(if self.way == Way::Pipe || dice.chance(65) { "done" } else { "0000" }.to_owned());
        self.lines = lines;
    }

    /// Whether a line begins with `begin`.
    pub fn has_line(&self, begin: &str) -> bool {
        self.lines.iter().any(|line| line.starts_with(begin))
    }

    /// The bytes of the request.
    pub fn bytes(&self) -> Vec<u8> {
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        let mut bytes = framed(&lines);
        if self.version == 2 && self.way == Way::Pipe {
            bytes.extend_from_slice(b"0000");
        }
        bytes
    }

    /// A readable description.
    pub fn told(&self, served: &Served) -> String {
        let lines: String =
            self.lines.iter().map(|line| format!("    {}\n", served.universe.explained(line))).collect();
        format!("version {}, {:?}\n{lines}", self.version, self.way)
    }
}

/// Whether a depth may be relative. An infinite one has nothing to count from: C git adds to that number too, and it
/// overflows.
fn may_be_relative(deepening: &[String]) -> bool {
    !deepening.is_empty() && !deepening.iter().any(|line| line.contains(&ENDLESS.to_string()))
}

/// Usually tips; sometimes objects that may not be allowed.
fn wants(served: &Served, dice: &mut Dice) -> Vec<ObjectId> {
    let universe = &served.universe;
    let mut wants = Vec::new();
    for _ in 0..dice.between(1, 4) {
        let want = match dice.below(100) {
            0..=84 => dice.pick(&served.refs).1,
            85..=88 => *dice.pick(&universe.commits),
            89..=91 => *dice.pick(&universe.trees),
            92..=93 if !universe.blobs.is_empty() => *dice.pick(&universe.blobs),
            94..=95 if !universe.tags.is_empty() => *dice.pick(&universe.tags),
            96..=97 if !served.hidden.is_empty() => dice.pick(&served.hidden).1,
            98 => universe.unknown(dice),
            _ => served.refs[0].1,
        };
        wants.push(want);
        if dice.chance(50) {
            break;
        }
    }
    wants
}

fn filter(served: &Served, dice: &mut Dice) -> String {
    let plain = |dice: &mut Dice| -> String {
        match dice.below(14) {
            0..=3 => "blob:none".to_owned(),
            4..=5 => format!("blob:limit={}", dice.pick(&["0", "1", "100", "300", "1k"])),
            6..=9 => format!("tree:{}", dice.below(5)),
            10..=11 => format!("object:type={}", dice.pick(&["blob", "tree", "commit", "tag"])),
            12 => {
                let bad = ["blob:everything", "tree:-1", "tree:x", "blob:limit=", "object:type=file", "", "combine:"];
                (*dice.pick(&bad)).to_owned()
            }
            _ => match served.universe.blobs.is_empty() {
                true => "sparse:oid=nowhere".to_owned(),
                false => format!("sparse:oid={}", dice.pick(&served.universe.blobs)),
            },
        }
    };
    if dice.chance(15) {
        let parts: Vec<String> = (0..dice.between(1, 3))
            .map(|_| plain(dice).replace(':', "%3a"))
            // Whether git refuses empty ones depends on its version.
            .filter(|part| !part.is_empty())
            .collect();
        return format!("combine:{}", parts.join("+"));
    }
    plain(dice)
}

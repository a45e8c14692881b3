//! Compares two answers to one request: they must be the same, or differ in a way that docs/compatibility.md names.

use super::answer::{Pack, Said};
use super::repository::Served;
use super::request::{Acks, Asked};
use gix_hash::ObjectId;
use gix_object::Kind;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// What a server did.
pub struct Outcome {
    pub said: Said,
    pub stderr: String,
}

impl Outcome {
    /// Why the request was refused; C git tells some reasons only to its log (PK-07).
    fn refusal(&self) -> Option<String> {
        let fatal = self.stderr.lines().rev().find_map(|line| line.strip_prefix("fatal: "));
        self.said.refusal.as_deref().or(fatal).map(|text| text.trim_end_matches('\n').to_owned())
    }
}

/// The name of an allowed difference, by which such differences are counted.
pub type Allowed = &'static str;

/// Compares two outcomes; returns the allowed differences.
pub fn compare(served: &Served, asked: &Asked, ours: &Outcome, gits: &Outcome) -> Result<Vec<Allowed>, String> {
    match (&ours.said.refusal, gits.refusal()) {
        (None, None) => {}
        (refusal, gits_refusal) => {
            let refusals = (refusal.as_deref(), gits_refusal.as_deref());
            return compare_refusals(served, asked, refusals, ours.said.pack.is_some()).map(|word| vec![word]);
        }
    }
    if !ours.said.broken_off.is_empty() {
        return Err(format!("broken off: {} {}, git: {}", ours.said.broken_off, ours.stderr, gits.said.broken_off));
    }
    if let Some(line) = &ours.said.twice {
        return Err(format!("told twice: {line}"));
    }
    let mut allowed = Vec::new();
    match compare_lines(served, asked, &ours.said, &gits.said)? {
        ControlFlow::Continue(word) => allowed.extend(word),
        ControlFlow::Break(word) => return Ok(vec![word]),
    }
    if ours.said.wanted != gits.said.wanted {
        return Err(format!("wanted refs: {:?}\ngit: {:?}", ours.said.wanted, gits.said.wanted));
    }
    let client = Client::behind(served, asked, &ours.said)?;
    let boundary = client.compare_boundaries(&ours.said, &gits.said)?;
    allowed.extend(boundary);
    match (&ours.said.pack, &gits.said.pack) {
        (None, None) => {}
        (Some(our_pack), Some(gits_pack)) => {
            let our_pack = Pack::read(our_pack, &served.universe)?;
            let gits_pack = Pack::read(gits_pack, &served.universe).map_err(|error| format!("git's: {error}"))?;
            client.can_use(&our_pack, &gits_pack)?;
            allowed.extend(client.compare_packs(&our_pack, &gits_pack, boundary.is_some())?);
        }
        (our_pack, gits_pack) => {
            return Err(format!("a pack: {}, git: {}", our_pack.is_some(), gits_pack.is_some()));
        }
    }
    Ok(allowed)
}

/// Compares the lines before the pack. After a break, the rest need not be the same.
fn compare_lines(
    served: &Served,
    asked: &Asked,
    ours: &Said,
    gits: &Said,
) -> Result<ControlFlow<Allowed, Option<Allowed>>, String> {
    if ours.lines == gits.lines {
        return Ok(ControlFlow::Continue(None));
    }
    // NE-02: without multi_ack one object is acknowledged; git may acknowledge others after it.
    if asked.acks == Acks::Plain && ours.lines == first_ack_alone(&gits.lines) {
        return Ok(ControlFlow::Continue(Some("one acknowledgment")));
    }
    // NE-11: with hidden refs, or a commit-graph that reaches beyond the boundary, git may be ready too early.
    let early = !served.hidden.is_empty() || !ours.boundary.is_empty() || !asked.shallow.is_empty();
    if early && is_ready_before(&gits.lines, &ours.lines) {
        return Ok(ControlFlow::Break("ready later"));
    }
    // NE-11: git walks back only as far as dates go, and asks for more if a want is older than that.
    if !served.universe.clocks_agree() && is_ready_before(&ours.lines, &gits.lines) {
        return Ok(ControlFlow::Break("ready sooner"));
    }
    // A client with another boundary has other history in common.
    if let Some(word) = Client::behind(served, asked, ours)?.compare_boundaries(ours, gits)? {
        return Ok(ControlFlow::Break(word));
    }
    // NE-10: objects beyond the client's boundary do not count as common.
    if asked.acks == Acks::Section && !asked.shallow.is_empty() && holds_in_order(&ours.lines, &gits.lines) {
        return Ok(ControlFlow::Continue(Some("acknowledged behind the boundary")));
    }
    let explained =
        |lines: &[String]| lines.iter().map(|line| served.universe.explained(line)).collect::<Vec<_>>().join("\n");
    Err(format!("said:\n{}\ngit:\n{}", explained(&ours.lines), explained(&gits.lines)))
}

fn compare_refusals(
    served: &Served,
    asked: &Asked,
    (ours, gits): (Option<&str>, Option<&str>),
    has_pack: bool,
) -> Result<Allowed, String> {
    if ours == gits {
        return Ok("refused");
    }
    let (our_text, gits_text) = match (ours, gits) {
        (Some(ours), Some(gits)) => (ours, gits),
        // FI-02, SH-09: in version 2 git checks these only if there is to be a pack.
        (Some(text), None)
            if text.starts_with("unable to access sparse blob in ") || text.contains("cannot be used together") =>
        {
            return Ok("refused before the pack");
        }
        // SH-07, SH-10: and we look for these refs and commits only if there is to be one.
        (None, Some(text)) if !has_pack && (text.contains("deepen-not") || text.contains("no commits selected")) => {
            return Ok("refused with the pack");
        }
        // SH-10: together with deepen-not, git leaves out the parents of an older commit, however young they are.
        (None, Some(text))
            if asked.has_line("deepen-since ")
                && asked.has_line("deepen-not ")
                && !served.universe.clocks_agree()
                && text.contains("no commits selected") =>
        {
            return Ok("clocks");
        }
        // SH-10: git forgets this repository's own boundary, and misses what is beyond it.
        (None, Some(text))
            if asked.by_revisions && !served.shallow.is_empty() && text.contains("possible repository corruption") =>
        {
            return Ok("its own boundary forgotten");
        }
        // UR-08: git finds what is reachable from tips by dates.
        (None, Some(text))
            if asked.version != 2
                && !served.universe.clocks_agree()
                && refused_want(asked, text).is_some_and(|id| is_reached(served, id)) =>
        {
            return Ok("clocks");
        }
        // UR-06: what a tag peels to is advertised with it.
        (None, Some(text)) if refused_want(asked, text).is_some_and(|id| is_peeled(served, id)) => {
            return Ok("peeled");
        }
        _ => return Err(format!("refused: {ours:?}\ngit: {gits:?}")),
    };
    // Of several faults any may be reported: git finds these while it still reads the request.
    let early = |text: &str| {
        ["not our ref ", "unknown ref ", "cannot be used together", "deepen-not", "no commits selected"]
            .iter()
            .any(|fault| text.contains(fault))
    };
    if early(our_text) || early(gits_text) {
        return Ok("refused for another fault");
    }
    // FI-02: here such a filter is checked before it is used, and it is not told apart from one that may not be read.
    let unusable = ["aborting due to ", "unable to parse sparse filter data in "];
    if our_text.starts_with("unable to access sparse blob in ") && unusable.iter().any(|text| gits_text.contains(text))
    {
        return Ok("refused before the pack");
    }
    Err(format!("refused: {our_text}\ngit: {gits_text}"))
}

/// The want that a refusal names.
fn refused_want<'a>(asked: &'a Asked, text: &str) -> Option<&'a ObjectId> {
    asked.wants.iter().find(|id| text == format!("upload-pack: not our ref {id}"))
}

fn is_peeled(served: &Served, id: &ObjectId) -> bool {
    served.refs.iter().any(|(_, tip)| served.universe.chain(*tip)[1..].last() == Some(id))
}

/// Whether a commit is reachable from refs that clients see.
fn is_reached(served: &Served, id: &ObjectId) -> bool {
    served.universe.closure(served.refs.iter().map(|(_, tip)| *tip), &served.shallow).contains(id)
}

/// Whether two answers are the same up to a `ready` in the first.
fn is_ready_before(one: &[String], other: &[String]) -> bool {
    let same = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    // With multi_ack, acknowledging an unknown object means ready.
    one.get(same).is_some_and(|line| line.ends_with("ready") || line.ends_with(" continue"))
}

/// Whether `one` contains all lines of `other` in order, and otherwise only acknowledgments.
fn holds_in_order(one: &[String], other: &[String]) -> bool {
    let mut left = other.iter().peekable();
    one.iter().all(|line| left.next_if_eq(&line).is_some() || line.starts_with("ACK ")) && left.next().is_none()
}

fn first_ack_alone(lines: &[String]) -> Vec<String> {
    let mut acks = 0;
    let mut first = |line: &&String| {
        acks += usize::from(line.starts_with("ACK "));
        acks <= 1 || !line.starts_with("ACK ")
    };
    lines.iter().filter(|line| first(line)).cloned().collect()
}

/// What a client says it has, and what it is to get.
struct Client<'a> {
    served: &'a Served,
    asked: &'a Asked,
    owned: BTreeSet<ObjectId>,
    /// What is reachable from the wants, up to its new boundary.
    wanted: BTreeSet<ObjectId>,
    /// The same, and what is reachable from its own objects then.
    needed: BTreeSet<ObjectId>,
}

impl<'a> Client<'a> {
    fn behind(served: &'a Served, asked: &'a Asked, said: &Said) -> Result<Self, String> {
        let mut boundary = asked.shallow.clone();
        if asked.version < 2 {
            // The advertisement includes it.
            boundary.extend(&served.shallow);
        }
        for line in &said.boundary {
            let (word, id) = line.split_once(' ').unwrap();
            let id = ObjectId::from_hex(id.as_bytes()).map_err(|error| error.to_string())?;
            if word == "shallow" {
                boundary.insert(id)
            } else {
                boundary.remove(&id)
            };
        }
        let told: Vec<ObjectId> = asked.haves.iter().chain(&asked.shallow).copied().collect();
        let owned = served.universe.closure(told.iter().copied(), &asked.shallow);
        let wanted = served.universe.closure(asked.wants.iter().copied(), &boundary);
        let needed = served.universe.closure(asked.wants.iter().copied().chain(told), &boundary);
        Ok(Client { served, asked, owned, wanted, needed })
    }

    fn names<'i>(&self, ids: impl IntoIterator<Item = &'i ObjectId>) -> String {
        ids.into_iter().map(|id| self.served.universe.name(id)).collect::<Vec<_>>().join(" ")
    }

    fn compare_boundaries(&self, ours: &Said, gits: &Said) -> Result<Option<Allowed>, String> {
        if ours.boundary == gits.boundary {
            return Ok(None);
        }
        let more: Vec<&String> = ours.boundary.difference(&gits.boundary).collect();
        let less: Vec<&String> = gits.boundary.difference(&ours.boundary).collect();
        let shallow =
            |line: &str| line.strip_prefix("shallow ").and_then(|hex| ObjectId::from_hex(hex.as_bytes()).ok());
        // SH-10, SH-05: the server's own boundary counts, and only that part of the new one that the client will have.
        let own = |line: &&String| shallow(line).is_some_and(|id| self.served.shallow.contains(&id));
        let idle = |line: &&String| match shallow(line) {
            Some(id) => self.asked.by_revisions && !self.wanted.contains(&id),
            None => self.served.shallow.iter().any(|id| line.ends_with(&id.to_string())),
        };
        // SH-10: git finds by dates what the excluded refs reach, and keeps more if the clocks are wrong.
        let misled = self.asked.by_revisions && !self.served.universe.clocks_agree();
        match (more.iter().all(own), less.iter().all(idle)) {
            (true, true) => Ok(Some("boundary")),
            _ if misled => Ok(Some("clocks")),
            _ => {
                let explained = |lines: Vec<&String>| {
                    lines.into_iter().map(|line| self.served.universe.explained(line)).collect::<Vec<_>>().join("\n")
                };
                Err(format!("the boundary has more:\n{}\nless:\n{}", explained(more), explained(less)))
            }
        }
    }

    /// Checks that the client ends up with everything it is to have.
    fn can_use(&self, ours: &Pack, gits: &Pack) -> Result<(), String> {
        if ours.has_ofs_deltas && !self.asked.ofs {
            return Err("a base is given by offset".to_owned());
        }
        if !ours.outside.is_empty() && !self.asked.thin {
            return Err(format!("deltas rest on what is not sent: {}", self.names(&ours.outside)));
        }
        if !ours.outside.is_subset(&self.owned) {
            return Err(format!(
                "deltas rest on what the client lacks: {}",
                self.names(ours.outside.difference(&self.owned))
            ));
        }
        let lacks = |pack: &Pack| -> BTreeSet<ObjectId> { &(&self.needed - &self.owned) - &pack.objects };
        let missing = lacks(ours);
        if self.asked.filter.is_none() && !missing.is_empty() {
            let git = self.names(&lacks(gits));
            return Err(format!("the client lacks: {}\nafter git's answer: {git}", self.names(&missing)));
        }
        Ok(())
    }

    fn compare_packs(&self, ours: &Pack, gits: &Pack, other_boundary: bool) -> Result<Option<Allowed>, String> {
        let (more, less) = (&ours.objects - &gits.objects, &gits.objects - &ours.objects);
        if more.is_empty() && less.is_empty() {
            return Ok(None);
        }
        let universe = &self.served.universe;
        // PO-01: what the client says it has need not be sent.
        let less: BTreeSet<ObjectId> =
            less.into_iter().filter(|id| !self.owned.contains(universe.chain(*id).last().unwrap())).collect();
        if more.is_empty() && less.is_empty() {
            return Ok(Some("smaller"));
        }
        // SH-10: with another boundary other objects are within it. A commit that git unshallows counts as the
        // client's; where it stays a boundary, it is sent, as by git itself.
        if other_boundary && more.is_subset(&self.owned) {
            return Ok(Some("another boundary"));
        }
        // PO-01: neither side leaves out everything that the client has, only what is at the edge of the new objects.
        // With wrong clocks git's walk ends elsewhere and has another edge.
        if more.is_subset(&self.owned) && less.is_empty() && !universe.clocks_agree() {
            return Ok(Some("clocks"));
        }
        // FI-02: git no longer asks a part of a combined filter once that part has let an object pass.
        let combined = self.asked.filter.as_ref().is_some_and(|filter| filter.starts_with("combine:"));
        if combined && more.is_subset(&self.wanted) && less.is_empty() {
            return Ok(Some("passed by every part"));
        }
        // FI-03: objects named as wants are sent, whatever the filter says and whether or not the client's other
        // objects reach them.
        let named: Vec<ObjectId> = self.asked.wants.iter().flat_map(|id| universe.chain(*id)).collect();
        let is_tree = |id: &&ObjectId| universe.objects[*id].kind == Kind::Tree;
        let below = universe.closure(named.iter().filter(is_tree).copied(), &BTreeSet::new());
        let by_name = named.into_iter().chain(below).collect();
        if self.asked.filter.is_some() && more.is_subset(&by_name) && less.is_empty() {
            return Ok(Some("by name"));
        }
        Err(format!("sent more: {}\nless: {}", self.names(&more), self.names(&less)))
    }
}

//! Two answers to one request, compared: the same, or different in a way that docs/compatibility.md names.

use super::answer::{Pack, Said};
use super::repository::Served;
use super::request::{Acks, Asked};
use gix_hash::ObjectId;
use std::collections::BTreeSet;

/// What a server did.
pub struct Outcome {
    pub said: Said,
    pub stderr: String,
}

impl Outcome {
    /// Why it was refused: C git tells some reasons to its log alone (PK-07).
    fn refusal(&self) -> Option<String> {
        let fatal = self.stderr.lines().rev().find_map(|line| line.strip_prefix("fatal: "));
        self.said.refusal.as_deref().or(fatal).map(|text| text.trim_end_matches('\n').to_owned())
    }
}

/// A difference that may be, counted by these words.
pub type Allowed = &'static str;

/// Compares.
pub fn compare(served: &Served, asked: &Asked, ours: &Outcome, gits: &Outcome) -> Result<Vec<Allowed>, String> {
    match (&ours.said.refusal, gits.refusal()) {
        (None, None) => {}
        (ours, gits) => return compare_refusals(served, asked, ours.as_deref(), gits.as_deref()).map(|word| vec![word]),
    }
    if !ours.said.broken_off.is_empty() {
        return Err(format!("broken off: {} {}, git: {}", ours.said.broken_off, ours.stderr, gits.said.broken_off));
    }
    let mut allowed = Vec::new();
    if ours.said.lines != gits.said.lines {
        // NE-02: without multi_ack one object is acknowledged, which git may follow with others.
        if asked.acks != Acks::Plain || ours.said.lines != first_ack_alone(&gits.said.lines) {
            let explained = |lines: &[String]| {
                lines.iter().map(|line| served.universe.explained(line)).collect::<Vec<_>>().join("\n")
            };
            return Err(format!("said:\n{}\ngit:\n{}", explained(&ours.said.lines), explained(&gits.said.lines)));
        }
        allowed.push("one acknowledgment");
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

fn compare_refusals(
    served: &Served,
    asked: &Asked,
    ours: Option<&str>,
    gits: Option<&str>,
) -> Result<Allowed, String> {
    if ours == gits {
        return Ok("refused");
    }
    let (Some(our_text), Some(gits_text)) = (ours, gits) else {
        return Err(format!("refused: {ours:?}\ngit: {gits:?}"));
    };
    // Of several faults either may be told.
    let faults = |text: &str| text.starts_with("upload-pack: not our ref ");
    if faults(our_text) || faults(gits_text) {
        return Ok("refused for another fault");
    }
    let _ = (served, asked);
    Err(format!("refused: {our_text}\ngit: {gits_text}"))
}

fn first_ack_alone(lines: &[String]) -> Vec<String> {
    let mut acks = 0;
    let mut first = |line: &&String| {
        acks += usize::from(line.starts_with("ACK "));
        acks <= 1 || !line.starts_with("ACK ")
    };
    lines.iter().filter(|line| first(line)).cloned().collect()
}

/// What a client has by its own words, and what it is to have.
struct Client<'a> {
    served: &'a Served,
    asked: &'a Asked,
    owned: BTreeSet<ObjectId>,
    needed: BTreeSet<ObjectId>,
}

impl<'a> Client<'a> {
    fn behind(served: &'a Served, asked: &'a Asked, said: &Said) -> Result<Self, String> {
        let mut boundary = asked.shallow.clone();
        if asked.version < 2 {
            // The advertisement tells it.
            boundary.extend(&served.shallow);
        }
        for line in &said.boundary {
            let (word, id) = line.split_once(' ').unwrap();
            let id = ObjectId::from_hex(id.as_bytes()).map_err(|error| error.to_string())?;
            if word == "shallow" { boundary.insert(id) } else { boundary.remove(&id) };
        }
        let told: Vec<ObjectId> = asked.haves.iter().chain(&asked.shallow).copied().collect();
        let owned = served.universe.closure(told.iter().copied(), &asked.shallow);
        let needed = served.universe.closure(asked.wants.iter().copied().chain(told), &boundary);
        Ok(Client { served, asked, owned, needed })
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
        let shallow = |line: &str| line.strip_prefix("shallow ").and_then(|hex| ObjectId::from_hex(hex.as_bytes()).ok());
        let own = |line: &&String| shallow(line).is_some_and(|id| self.served.shallow.contains(&id));
        let idle = |line: &&String| shallow(line).is_some_and(|id| !self.needed.contains(&id));
        match (more.iter().all(own), less.iter().all(idle)) {
            // SH-10: the server's own boundary counts, and of the new one what the client will have.
            (true, true) if self.asked.by_revisions => Ok(Some("boundary")),
            _ => {
                let explained = |lines: Vec<&String>| {
                    lines.into_iter().map(|line| self.served.universe.explained(line)).collect::<Vec<_>>().join("\n")
                };
                Err(format!("the boundary has more:\n{}\nless:\n{}", explained(more), explained(less)))
            }
        }
    }

    /// With what it has, the client has all it is to have.
    fn can_use(&self, ours: &Pack, gits: &Pack) -> Result<(), String> {
        if ours.has_ofs_deltas && !self.asked.ofs {
            return Err("a base is given by offset".to_owned());
        }
        if !ours.outside.is_empty() && !self.asked.thin {
            return Err(format!("deltas rest on what is not sent: {}", self.names(&ours.outside)));
        }
        if !ours.outside.is_subset(&self.owned) {
            return Err(format!("deltas rest on what the client lacks: {}", self.names(ours.outside.difference(&self.owned))));
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
        // PO-01: what the client has by its own words need not be sent.
        if more.is_empty() && (other_boundary || less.is_subset(&self.owned)) {
            return Ok(Some("smaller"));
        }
        Err(format!("sent more: {}\nless: {}\nof which owned: {}", self.names(&more), self.names(&less), self.names(&(&less & &self.owned))))
    }
}

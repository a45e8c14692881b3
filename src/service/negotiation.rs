//! Negotiation: rounds of haves in, acknowledgments out (gitprotocol-pack, Packfile Negotiation; gitprotocol-v2,
//! fetch).
//!
//! In: the haves of a round, and an [`Ancestry`] to query history. Out: the lines to send and what follows them.
//! Nothing is read from or written to the network here, and the repository is never accessed except through
//! [`Ancestry`].

use crate::protocol::upload::{AckMode, Round, RoundEnd, UploadRequest};
use gix_hash::{ObjectId, oid};
use std::collections::HashSet;
use std::fmt;

/// A source of answers about history.
pub trait Ancestry {
    /// Announces the haves that will be queried one by one; no others are queried until the next call.
    ///
    /// # Errors
    /// When the repository cannot be read.
    fn expect(&mut self, haves: &[ObjectId]) -> anyhow::Result<()>;

    /// Returns `None` if the object is not here (or not for this client to know of), else the parents of a commit,
    /// which are common along with it (NE-10). Other objects have no parents.
    ///
    /// # Errors
    /// When the object cannot be read.
    fn known(&mut self, id: &oid) -> anyhow::Result<Option<Vec<ObjectId>>>;

    /// Whether each wanted commit reaches one of the common objects. Wants that are not commits do not count (NE-11).
    ///
    /// # Errors
    /// When history cannot be read.
    fn reaches_all(&mut self, wants: &[ObjectId], common: &HashSet<ObjectId>) -> anyhow::Result<bool>;
}

/// One line of acknowledgment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// `NAK`
    Nak,
    /// `ACK id`
    Id(ObjectId),
    /// `ACK id continue`
    Continue(ObjectId),
    /// `ACK id common`
    Common(ObjectId),
    /// `ACK id ready`
    IdReady(ObjectId),
    /// `ready`, only in v2
    Ready,
}

impl fmt::Display for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ack::Nak => f.write_str("NAK"),
            Ack::Id(id) => write!(f, "ACK {id}"),
            Ack::Continue(id) => write!(f, "ACK {id} continue"),
            Ack::Common(id) => write!(f, "ACK {id} common"),
            Ack::IdReady(id) => write!(f, "ACK {id} ready"),
            Ack::Ready => f.write_str("ready"),
        }
    }
}

/// What follows a round's acknowledgments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Another round, if the conversation allows for one; otherwise the answer ends.
    Wait,
    /// The pack.
    Pack,
}

/// The answer to one round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acks {
    /// In the order in which they go out.
    pub lines: Vec<Ack>,
    /// What follows them.
    pub then: Then,
}

/// Up to this many times in a request, history is queried whenever git would query it. After that, it is queried again
/// only when the common objects have grown by one part in `MORE_PART`.
const QUERIES_FREE: u32 = 64;
const MORE_PART: usize = 8;

/// How many haves are announced at once: what is found out about them is kept until the next announcement.
const EXPECTED_MAX: usize = 1 << 16;

/// What both sides have, as far as is known so far.
#[derive(Debug)]
pub struct Negotiator {
    mode: AckMode,
    no_done: bool,
    wait_for_done: bool,
    wants: Vec<ObjectId>,
    /// Common objects in the order of their haves, without those implied by an earlier one.
    common: Vec<ObjectId>,
    /// The common objects together with the parents of the commits among them.
    implied: HashSet<ObjectId>,
    /// The haves among them: a client that repeats one hears the same, and history is not queried again.
    taken: HashSet<ObjectId>,
    /// The last have that was common.
    last: Option<ObjectId>,
    /// Whether `ready` has been sent.
    ready: bool,
    /// The number of common objects, implied ones included, at the last query of history, and its answer.
    last_query: (usize, bool),
    /// How often history was queried.
    queries: u32,
}

impl Negotiator {
    /// Starts with nothing common. `wants` are those of the request and those that a moved boundary adds.
    pub fn new(wants: &[ObjectId], request: &UploadRequest) -> Self {
        Negotiator {
            mode: request.acks,
            no_done: request.no_done,
            wait_for_done: request.wait_for_done,
            wants: wants.to_vec(),
            common: Vec::new(),
            implied: HashSet::new(),
            taken: HashSet::new(),
            last: None,
            ready: false,
            last_query: (0, false),
            queries: 0,
        }
    }

    /// Processes one round of haves.
    ///
    /// # Errors
    /// When history cannot be read.
    pub fn round(&mut self, round: &Round, history: &mut dyn Ancestry) -> anyhow::Result<Acks> {
        match self.mode {
            AckMode::Section => self.section(round, history),
            AckMode::Plain | AckMode::Multi | AckMode::Detailed => self.lines(round, history),
        }
    }

    /// The objects both sides have.
    pub fn into_common(self) -> Vec<ObjectId> {
        self.common
    }

    /// v2: one section for all haves, or none with `done` (FE-07, FE-08).
    fn section(&mut self, round: &Round, history: &mut dyn Ancestry) -> anyhow::Result<Acks> {
        for haves in round.haves.chunks(EXPECTED_MAX) {
            history.expect(haves)?;
            for have in haves {
                self.take(have, history)?;
            }
        }
        if round.end == RoundEnd::Done {
            return Ok(Acks { lines: Vec::new(), then: Then::Pack });
        }
        let mut lines: Vec<_> = self.common.iter().copied().map(Ack::Id).collect();
        if lines.is_empty() {
            lines.push(Ack::Nak);
        }
        let mut then = Then::Wait;
        if !self.wait_for_done && self.commons_suffice(history)? {
            lines.push(Ack::Ready);
            then = Then::Pack;
        }
        Ok(Acks { lines, then })
    }

    /// v0: a line for each have, in the form the mode requires, then the answer to the flush or to `done` (NE-01 to
    /// NE-06).
    fn lines(&mut self, round: &Round, history: &mut dyn Ancestry) -> anyhow::Result<Acks> {
        let mut lines = Vec::new();
        let (mut some_common, mut some_unknown) = (false, false);
        for (index, have) in round.haves.iter().enumerate() {
            if index % EXPECTED_MAX == 0 {
                history.expect(&round.haves[index..round.haves.len().min(index + EXPECTED_MAX)])?;
            }
            let first = self.common.is_empty();
            if self.take(have, history)? {
                some_common = true;
                match self.mode {
                    AckMode::Plain if first => lines.push(Ack::Id(*have)),
                    AckMode::Plain | AckMode::Section => {}
                    AckMode::Multi => lines.push(Ack::Continue(*have)),
                    AckMode::Detailed => lines.push(Ack::Common(*have)),
                }
                continue;
            }
            some_unknown = true;
            match self.mode {
                AckMode::Plain | AckMode::Section => {}
                AckMode::Multi => {
                    if self.commons_suffice(history)? {
                        lines.push(Ack::Continue(*have));
                    }
                }
                AckMode::Detailed => {
                    if self.commons_suffice(history)? {
                        self.ready = true;
                        lines.push(Ack::IdReady(*have));
                    }
                }
            }
        }
        let plain = self.mode == AckMode::Plain;
        match (round.end, self.last) {
            (RoundEnd::Done, Some(last)) => {
                if !plain {
                    lines.push(Ack::Id(last));
                }
                Ok(Acks { lines, then: Then::Pack })
            }
            (RoundEnd::Done, None) => {
                lines.push(Ack::Nak);
                Ok(Acks { lines, then: Then::Pack })
            }
            (RoundEnd::Flush, None) => {
                lines.push(Ack::Nak);
                Ok(Acks { lines, then: Then::Wait })
            }
            (RoundEnd::Flush, Some(last)) => {
                let all_common = some_common && !some_unknown;
                if self.mode == AckMode::Detailed && all_common && self.commons_suffice(history)? {
                    self.ready = true;
                    lines.push(Ack::IdReady(last));
                }
                if !plain {
                    lines.push(Ack::Nak);
                }
                if self.no_done && self.ready {
                    lines.push(Ack::Id(last));
                    return Ok(Acks { lines, then: Then::Pack });
                }
                Ok(Acks { lines, then: Then::Wait })
            }
        }
    }

    /// Returns whether a have is common; if so, its parents count as common from then on.
    fn take(&mut self, have: &ObjectId, history: &mut dyn Ancestry) -> anyhow::Result<bool> {
        if !self.taken.contains(have) {
            let Some(parents) = history.known(have)? else {
                return Ok(false);
            };
            self.taken.insert(*have);
            self.implied.extend(parents);
            if self.implied.insert(*have) {
                self.common.push(*have);
            }
        }
        self.last = Some(*have);
        Ok(true)
    }

    /// Whether the common objects suffice: every wanted commit reaches one of them. Each query may walk all of history,
    /// so it is repeated only when more objects are common, and after many queries only when considerably more are.
    fn commons_suffice(&mut self, history: &mut dyn Ancestry) -> anyhow::Result<bool> {
        let (before, enough) = self.last_query;
        let more = if self.queries < QUERIES_FREE { 0 } else { before / MORE_PART };
        if !enough && self.implied.len() > before + more {
            self.queries += 1;
            self.last_query = (self.implied.len(), history.reaches_all(&self.wants, &self.implied)?);
        }
        Ok(self.last_query.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    // a <- b <- c <- d        e <- f: another history        t: a tag, not a commit
    // The server has all but x, y, z.
    struct Drawn(HashMap<char, &'static str>);

    fn id(letter: char) -> ObjectId {
        let mut bytes = [0; 20];
        bytes[0] = letter as u8;
        ObjectId::from(bytes)
    }

    fn letter(id: &oid) -> char {
        char::from(id.as_bytes()[0])
    }

    impl Ancestry for Drawn {
        fn expect(&mut self, _haves: &[ObjectId]) -> anyhow::Result<()> {
            Ok(())
        }

        fn known(&mut self, have: &oid) -> anyhow::Result<Option<Vec<ObjectId>>> {
            Ok(self.0.get(&letter(have)).map(|parents| parents.chars().map(id).collect()))
        }

        fn reaches_all(&mut self, wants: &[ObjectId], common: &HashSet<ObjectId>) -> anyhow::Result<bool> {
            Ok(wants.iter().all(|want| {
                let mut walk = vec![letter(want)];
                while let Some(commit) = walk.pop() {
                    if common.contains(&id(commit)) {
                        return true;
                    }
                    walk.extend(self.0[&commit].chars());
                }
                false
            }))
        }
    }

    /// Rounds are strings of letters, ended by `.` for a flush or `!` for done.
    fn told(request: UploadRequest, wants: &str, rounds: &str) -> String {
        let mut history =
            Drawn([('a', ""), ('b', "a"), ('c', "b"), ('d', "c"), ('e', ""), ('f', "e"), ('t', "")].into());
        let wants: Vec<ObjectId> = wants.chars().map(id).collect();
        let mut negotiator = Negotiator::new(&wants, &request);
        let mut told = Vec::new();
        for round in rounds.split_inclusive(['.', '!']) {
            let end = if round.ends_with('!') { RoundEnd::Done } else { RoundEnd::Flush };
            let haves = round[..round.len() - 1].chars().map(id).collect();
            let acks = negotiator.round(&Round { haves, end }, &mut history).expect("drawn history can be read");
            told.extend(acks.lines.iter().map(|ack| match ack {
                Ack::Nak => "NAK".to_owned(),
                Ack::Id(id) => format!("{}", letter(id)),
                Ack::Continue(id) => format!("{} continue", letter(id)),
                Ack::Common(id) => format!("{} common", letter(id)),
                Ack::IdReady(id) => format!("{} ready", letter(id)),
                Ack::Ready => "ready".to_owned(),
            }));
            told.push(match acks.then {
                Then::Wait => "/".to_owned(),
                Then::Pack => "PACK".to_owned(),
            });
            if acks.then == Then::Pack {
                break;
            }
        }
        let common: String = negotiator.into_common().iter().map(|id| letter(id)).collect();
        format!("{} [{common}]", told.join(", "))
    }

    fn mode(acks: AckMode) -> UploadRequest {
        UploadRequest { acks, ..UploadRequest::default() }
    }

    #[test]
    fn a_have_that_is_repeated_is_looked_up_once() {
        struct Counted(Drawn, usize);
        impl Ancestry for Counted {
            fn expect(&mut self, haves: &[ObjectId]) -> anyhow::Result<()> {
                self.0.expect(haves)
            }
            fn known(&mut self, have: &oid) -> anyhow::Result<Option<Vec<ObjectId>>> {
                self.1 += 1;
                self.0.known(have)
            }
            fn reaches_all(&mut self, wants: &[ObjectId], common: &HashSet<ObjectId>) -> anyhow::Result<bool> {
                self.0.reaches_all(wants, common)
            }
        }
        for acks in [AckMode::Section, AckMode::Plain, AckMode::Detailed] {
            let mut history = Counted(Drawn([('a', ""), ('b', "a")].into()), 0);
            let mut negotiator = Negotiator::new(&[id('b')], &UploadRequest { acks, ..UploadRequest::default() });
            let haves = "ababab".chars().map(id).collect();
            negotiator.round(&Round { haves, end: RoundEnd::Flush }, &mut history).expect("drawn history can be read");
            assert_eq!(history.1, 2, "{acks:?}");
        }
    }

    #[test]
    fn plain_acknowledges_the_first_common_object_alone() {
        let check = |rounds, expected: &str| assert_eq!(told(mode(AckMode::Plain), "d", rounds), expected);
        check("!", "NAK, PACK []");
        check("xy.z!", "NAK, /, NAK, PACK []");
        check("xcf!", "c, PACK [cf]");
        check("x.c.f!", "NAK, /, c, /, PACK [cf]");
        check("cb.!", "c, /, PACK [c]");
    }

    #[test]
    fn multi_ack_goes_on_until_done() {
        let check = |rounds, expected: &str| assert_eq!(told(mode(AckMode::Multi), "d", rounds), expected);
        check("!", "NAK, PACK []");
        check("x.!", "NAK, /, NAK, PACK []");
        check("xf.!", "f continue, NAK, /, f, PACK [f]");
        check("xfcy.!", "f continue, c continue, y continue, NAK, /, c, PACK [fc]");
        check("c.x.b!", "c continue, NAK, /, x continue, NAK, /, b continue, b, PACK [c]");
    }

    #[test]
    fn multi_ack_detailed_says_when_it_is_ready() {
        let check = |rounds, expected: &str| assert_eq!(told(mode(AckMode::Detailed), "d", rounds), expected);
        check("!", "NAK, PACK []");
        check("x.", "NAK, / []");
        check("fx.", "f common, NAK, / [f]");
        check("xc.", "c common, NAK, / [c]");
        check("c.", "c common, c ready, NAK, / [c]");
        check("cx.", "c common, x ready, NAK, / [c]");
        check("cxy.!", "c common, x ready, y ready, NAK, /, c, PACK [c]");
        check("xc!", "c common, c, PACK [c]");
        check("tt!", "t common, t common, t, PACK [t]");
    }

    #[test]
    fn no_done_sends_the_pack_with_the_flush_that_is_ready() {
        let request = UploadRequest { no_done: true, ..mode(AckMode::Detailed) };
        let check = |rounds, expected: &str| assert_eq!(told(request.clone(), "d", rounds), expected);
        check("f.c.", "f common, NAK, /, c common, c ready, NAK, c, PACK [fc]");
        check("xc.y.", "c common, NAK, /, y ready, NAK, c, PACK [c]");
        check("x.y.!", "NAK, /, NAK, /, NAK, PACK []");
    }

    #[test]
    fn the_section_of_v2_names_each_common_object_once() {
        let check = |rounds, expected: &str| assert_eq!(told(mode(AckMode::Section), "d", rounds), expected);
        check("x.", "NAK, / []");
        check("xff.", "f, / [f]");
        check("fxc.", "f, c, ready, PACK [fc]");
        check("cb.", "c, ready, PACK [c]");
        check("xfc!", "PACK [fc]");
        check("tt.", "t, / [t]");
    }

    #[test]
    fn who_waits_for_done_is_never_told_ready() {
        let request = UploadRequest { wait_for_done: true, ..mode(AckMode::Section) };
        assert_eq!(told(request.clone(), "d", "c."), "c, / [c]");
        assert_eq!(told(request.clone(), "", "cx."), "c, / [c]");
        assert_eq!(told(request, "d", "c!"), "PACK [c]");
    }

    /// A client of whose haves every other one is common, none of them reachable from its wants.
    struct Apart {
        queries: u32,
        enough_from: usize,
    }

    impl Ancestry for Apart {
        fn expect(&mut self, _haves: &[ObjectId]) -> anyhow::Result<()> {
            Ok(())
        }

        fn known(&mut self, have: &oid) -> anyhow::Result<Option<Vec<ObjectId>>> {
            Ok(have.as_bytes()[19].is_multiple_of(2).then(Vec::new))
        }

        fn reaches_all(&mut self, _: &[ObjectId], common: &HashSet<ObjectId>) -> anyhow::Result<bool> {
            self.queries += 1;
            Ok(common.len() >= self.enough_from)
        }
    }

    #[test]
    fn history_is_not_walked_for_each_have_that_changes_nothing() {
        let haves = (0..4_000_u16).map(|n| {
            let mut id = [0; 20];
            id[18..].copy_from_slice(&n.to_be_bytes());
            ObjectId::from(id)
        });
        let round = Round { haves: haves.collect(), end: RoundEnd::Flush };
        let check = |enough_from: usize, queries_max: u32, ready: bool| {
            let mut apart = Apart { queries: 0, enough_from };
            let mut negotiator = Negotiator::new(&[id('a')], &mode(AckMode::Detailed));
            let acks = negotiator.round(&round, &mut apart).unwrap();
            let is_ready = acks.lines.iter().any(|line| matches!(line, Ack::IdReady(_)));
            assert!(apart.queries <= queries_max && is_ready == ready, "{enough_from}: {} {is_ready}", apart.queries);
        };
        check(usize::MAX, 100, false);
        check(30, 30, true);
        check(1_500, 100, true);
    }

    #[test]
    fn every_want_must_reach_something_common() {
        assert_eq!(told(mode(AckMode::Section), "df", "c."), "c, / [c]");
        assert_eq!(told(mode(AckMode::Section), "df", "ce."), "c, e, ready, PACK [ce]");
        // b is implied by c already, a only by b.
        assert_eq!(told(mode(AckMode::Detailed), "ad", "c.b."), "c common, NAK, /, b common, b ready, NAK, / [c]");
    }
}

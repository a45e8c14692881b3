//! Requests to upload-pack: the lines of v0 up to the flush, or the arguments of v2's fetch; rounds of haves.
//!
//! In: packets. Out: an [`UploadRequest`], the same for all versions, and [`Round`]s. No object is looked up here.

use super::capability::Capability;
use super::command::{ArgumentLines, Ended};
use super::depth::{Deepening, Depth};
use super::filter::FilterSpec;
use super::{Limits, ProtocolError, shown};
use crate::hex;
use crate::pktline::{BandSize, FrameError, PacketReader};
use bstr::BString;
use gix_hash::ObjectId;
use std::collections::HashSet;

/// How common objects are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AckMode {
    /// v0 without a capability: only the first common object.
    #[default]
    Plain,
    /// v0 with `multi_ack`.
    Multi,
    /// v0 with `multi_ack_detailed`.
    Detailed,
    /// v2's acknowledgments section.
    Section,
}

/// Extensions that are accepted only if they are offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extensions {
    /// Object filters (uploadpack.allowFilter).
    pub filter: bool,
    /// `want-ref` (uploadpack.allowRefInWant).
    pub ref_in_want: bool,
    /// `sideband-all` (uploadpack.allowSidebandAll).
    pub sideband_all: bool,
    /// `packfile-uris` (uploadpack.blobPackfileUri, artifacts.packfileUri).
    pub packfile_uris: bool,
}

impl Extensions {
    /// The names of those that are offered, in the order in which v2 announces them (V2-04).
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let Extensions { filter, ref_in_want, sideband_all, packfile_uris } = self;
        let all = [
            (filter, "filter"),
            (ref_in_want, "ref-in-want"),
            (sideband_all, "sideband-all"),
            (packfile_uris, "packfile-uris"),
        ];
        all.into_iter().filter_map(|(offered, name)| offered.then_some(name))
    }
}

/// A client's request for a pack, in any protocol version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UploadRequest {
    /// The wanted objects, each once, in the order of the request.
    pub wants: Vec<ObjectId>,
    /// v2: the wanted refs, each once, in the order of the request.
    pub want_refs: Vec<BString>,
    /// The client's boundary, each commit once: the client lacks the parents of these commits.
    pub shallow: Vec<ObjectId>,
    /// How deep the client's history should be.
    pub depth: Depth,
    /// How common objects are acknowledged.
    pub acks: AckMode,
    /// v0: the pack may follow `ready` at once.
    pub no_done: bool,
    /// v2: send neither a pack nor `ready` before the client sends `done`.
    pub wait_for_done: bool,
    /// Deltas may use bases that only the client has.
    pub thin_pack: bool,
    /// Deltas may name their bases by offset.
    pub ofs_delta: bool,
    /// Annotated tags that point to objects in the pack are sent too.
    pub include_tag: bool,
    /// The object filter.
    pub filter: Option<FilterSpec>,
    /// v2: the client fetches objects that are missing here from the promisor remote.
    pub promised: bool,
    /// No progress on band 2.
    pub no_progress: bool,
    /// The size of the side bands that carry the pack; `None` for a raw pack.
    pub bands: Option<BandSize>,
    /// v2: the side bands carry the whole answer, not only the pack.
    pub sideband_all: bool,
    /// v2: the protocols of URIs that may replace parts of the pack; empty without `sideband_all` (FE-15).
    pub packfile_uris: Vec<BString>,
    /// `agent=…` of v0; in v2 it is part of the envelope.
    pub agent: Option<BString>,
    /// `session-id=…` of v0; in v2 it is part of the envelope.
    pub session_id: Option<BString>,
}

/// What ended a round of haves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoundEnd {
    /// A flush: the client waits for acknowledgments.
    Flush,
    /// `done`: the client wants its pack.
    Done,
}

/// The haves of one round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// The haves as sent, duplicates included.
    pub haves: Vec<ObjectId>,
    /// What ended them.
    pub end: RoundEnd,
}

impl UploadRequest {
    /// Reads the wants, shallow lines and filter of v0 and v1, in any order, up to the flush (UR-01). Without wants the
    /// client has nothing to ask for.
    ///
    /// # Errors
    /// Any other line, too many lines or wants, bad framing, the end of the stream.
    pub fn parse_v0(
        reader: &mut PacketReader<'_>,
        hash: gix_hash::Kind,
        extensions: Extensions,
        lines: &mut ArgumentLines,
        limits: &Limits,
    ) -> Result<Self, ProtocolError> {
        let mut request = UploadRequest::default();
        let mut wants = Wants::new(limits);
        let mut deepening = Deepening::default();
        let mut may_filter = false;
        // As in git, any packet that is not a line ends the list.
        lines.read(reader, &mut |line| {
            if deepening.take(line, hash, limits)? {
                return Ok(());
            }
            if let Some(filter) = line.strip_prefix(b"filter ") {
                if !may_filter {
                    let text = "git upload-pack: filtering capability not negotiated";
                    return Err(ProtocolError::Said(text.to_owned()));
                }
                return request.leave_out(filter, limits);
            }
            let want = line.strip_prefix(b"want ").and_then(|rest| rest.split_at_checked(hash.len_in_hex()));
            let Some((id, words)) = want.and_then(|(hex, words)| Some((hex::parse(hex)?, words))) else {
                let line = shown(line);
                return Err(ProtocolError::Said(format!(
                    "git upload-pack: protocol error, expected to get object ID, not '{line}'"
                )));
            };
            may_filter |= extensions.filter && Capability::words(words).any(|word| word.name == b"filter");
            request.hear(words, &mut deepening);
            wants.add(id)
        })?;
        request.wants = wants.list;
        (request.depth, request.shallow) = deepening.end()?;
        Ok(request)
    }

    /// Takes the capabilities of one want line. Those of several lines add up (UR-02); unknown ones are ignored
    /// (UR-03).
    fn hear(&mut self, words: &[u8], deepening: &mut Deepening) {
        let (mut multi, mut detailed, mut small, mut large) = (false, false, false, false);
        for Capability { name, value } in Capability::words(words) {
            match name {
                b"multi_ack" => multi = true,
                b"multi_ack_detailed" => detailed = true,
                b"no-done" => self.no_done = true,
                b"thin-pack" => self.thin_pack = true,
                b"ofs-delta" => self.ofs_delta = true,
                b"side-band" => small = true,
                b"side-band-64k" => large = true,
                b"no-progress" => self.no_progress = true,
                b"include-tag" => self.include_tag = true,
                b"deepen-relative" => deepening.relative(),
                b"agent" => self.agent = value.map(BString::from),
                b"session-id" => self.session_id = value.map(BString::from),
                _ => {}
            }
        }
        match (detailed, multi) {
            (true, _) => self.acks = AckMode::Detailed,
            (false, true) => self.acks = AckMode::Multi,
            (false, false) => {}
        }
        match (large, small) {
            (true, _) => self.bands = Some(BandSize::Large),
            (false, true) => self.bands = Some(BandSize::Small),
            (false, false) => {}
        }
    }

    fn leave_out(&mut self, filter: &[u8], limits: &Limits) -> Result<(), ProtocolError> {
        if self.filter.is_some() {
            return Err(ProtocolError::Said("multiple filter-specs cannot be combined".to_owned()));
        }
        self.filter = Some(FilterSpec::parse(filter, limits)?);
        Ok(())
    }

    /// Reads the arguments of v2's fetch: the wants, and the round of haves that comes with them.
    ///
    /// # Errors
    /// Any other argument, a missing flush, too many lines or wants, bad framing.
    pub fn parse_v2(
        reader: &mut PacketReader<'_>,
        hash: gix_hash::Kind,
        extensions: Extensions,
        limits: &Limits,
    ) -> Result<(Self, Round), ProtocolError> {
        let mut request =
            UploadRequest { acks: AckMode::Section, bands: Some(BandSize::Large), ..UploadRequest::default() };
        let mut round = Round { haves: Vec::new(), end: RoundEnd::Flush };
        let mut wants = Wants::new(limits);
        let mut deepening = Deepening::default();
        let ended = ArgumentLines::new(limits).read(reader, &mut |line| {
            match line {
                b"thin-pack" => request.thin_pack = true,
                b"ofs-delta" => request.ofs_delta = true,
                b"no-progress" => request.no_progress = true,
                b"include-tag" => request.include_tag = true,
                b"wait-for-done" => request.wait_for_done = true,
                b"sideband-all" if extensions.sideband_all => request.sideband_all = true,
                b"deepen-relative" => deepening.relative(),
                b"done" => round.end = RoundEnd::Done,
                _ => {
                    if let Some(hex) = line.strip_prefix(b"want ") {
                        let id = id(hash, hex).ok_or_else(|| {
                            let line = shown(line);
                            ProtocolError::Said(format!(
                                "git upload-pack: protocol error, expected to get oid, not '{line}'"
                            ))
                        })?;
                        wants.add(id)?;
                    } else if let Some(hex) = line.strip_prefix(b"have ") {
                        round.haves.push(have(hash, hex)?);
                    } else if let Some(name) = line.strip_prefix(b"want-ref ").filter(|_| extensions.ref_in_want) {
                        wants.add_ref(name)?;
                    } else if let Some(uris) = line.strip_prefix(b"packfile-uris ").filter(|_| extensions.packfile_uris)
                    {
                        request.hear_uris(uris)?;
                    } else if let Some(filter) = line.strip_prefix(b"filter ").filter(|_| extensions.filter) {
                        request.leave_out(filter, limits)?;
                    } else if !deepening.take(line, hash, limits)? {
                        return Err(ProtocolError::Said(format!("unexpected line: '{}'", shown(line))));
                    }
                }
            }
            Ok(())
        })?;
        if ended != Ended::Flush {
            return Err(ProtocolError::Said("expected flush after fetch arguments".to_owned()));
        }
        if !request.sideband_all {
            request.packfile_uris.clear();
        }
        (request.wants, request.want_refs) = (wants.list, wants.refs);
        (request.depth, request.shallow) = deepening.end()?;
        Ok((request, round))
    }

    /// Takes the list of protocols, separated by commas; a request may have only one such line.
    fn hear_uris(&mut self, protocols: &[u8]) -> Result<(), ProtocolError> {
        if !self.packfile_uris.is_empty() {
            return Err(ProtocolError::Said("multiple packfile-uris lines forbidden".to_owned()));
        }
        self.packfile_uris = protocols.split(|&byte| byte == b',').map(BString::from).collect();
        Ok(())
    }
}

impl Round {
    /// Reads the haves of v0 and v1 up to a flush or `done`. Returns `None` if the stream has ended before the first
    /// packet.
    ///
    /// # Errors
    /// Any other line, too many lines, bad framing, an end inside the round.
    pub fn read(
        reader: &mut PacketReader<'_>,
        hash: gix_hash::Kind,
        lines: &mut ArgumentLines,
    ) -> Result<Option<Self>, ProtocolError> {
        let mut haves = Vec::new();
        let mut first = true;
        loop {
            let packet = match reader.next()? {
                None if first => return Ok(None),
                None => return Err(FrameError::Truncated.into()),
                Some(packet) => packet,
            };
            first = false;
            let Some(line) = packet.text() else {
                return Ok(Some(Round { haves, end: RoundEnd::Flush }));
            };
            lines.count()?;
            if line == b"done" {
                return Ok(Some(Round { haves, end: RoundEnd::Done }));
            }
            let Some(hex) = line.strip_prefix(b"have ") else {
                let line = shown(line);
                return Err(ProtocolError::Said(format!("git upload-pack: expected SHA1 list, got '{line}'")));
            };
            haves.push(have(hash, hex)?);
        }
    }
}

/// Collects wants; repeated objects count once (UR-17).
struct Wants {
    list: Vec<ObjectId>,
    seen: HashSet<ObjectId>,
    refs: Vec<BString>,
    seen_refs: HashSet<BString>,
    most: u64,
}

impl Wants {
    fn new(limits: &Limits) -> Self {
        Wants {
            list: Vec::new(),
            seen: HashSet::new(),
            refs: Vec::new(),
            seen_refs: HashSet::new(),
            most: limits.wants,
        }
    }

    fn add(&mut self, id: ObjectId) -> Result<(), ProtocolError> {
        if self.seen.insert(id) {
            self.count()?;
            self.list.push(id);
        }
        Ok(())
    }

    fn add_ref(&mut self, name: &[u8]) -> Result<(), ProtocolError> {
        if !self.seen_refs.insert(name.into()) {
            return Err(ProtocolError::Said(format!("duplicate want-ref {}", shown(name))));
        }
        self.count()?;
        self.refs.push(name.into());
        Ok(())
    }

    fn count(&self) -> Result<(), ProtocolError> {
        if (self.list.len() + self.refs.len()) as u64 >= self.most {
            return Err(ProtocolError::Limit { what: "wants", most: self.most });
        }
        Ok(())
    }
}

/// Parses an object name of the repository's hash with nothing after it.
pub(super) fn id(hash: gix_hash::Kind, hex: &[u8]) -> Option<ObjectId> {
    hex::parse(hex).filter(|id| id.kind() == hash)
}

fn have(hash: gix_hash::Kind, hex: &[u8]) -> Result<ObjectId, ProtocolError> {
    id(hash, hex)
        .ok_or_else(|| ProtocolError::Said(format!("git upload-pack: expected SHA1 object, got '{}'", shown(hex))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pktline;

    const SHA1: gix_hash::Kind = gix_hash::Kind::Sha1;

    /// Makes packets; `A` to `F` become object names, `0000` and `0001` are special packets instead of lines.
    fn packets(lines: &str) -> Vec<u8> {
        let mut packets = Vec::new();
        for line in lines.split('|').filter(|line| !line.is_empty()) {
            match line {
                "0000" | "0001" => packets.extend_from_slice(line.as_bytes()),
                line => {
                    let line: String = line
                        .chars()
                        .map(|letter| match letter {
                            'A'..='F' => letter.to_lowercase().to_string().repeat(40),
                            letter => letter.to_string(),
                        })
                        .collect();
                    pktline::line(&mut packets, line.as_bytes()).expect("memory can be written");
                }
            }
        }
        packets
    }

    const FILTER: Extensions =
        Extensions { filter: true, ref_in_want: false, sideband_all: false, packfile_uris: false };

    fn letters(ids: &[ObjectId]) -> String {
        ids.iter().map(|id| id.to_hex_with_len(1).to_string().to_uppercase()).collect()
    }

    fn words(request: &UploadRequest) -> String {
        let mut words = format!("{} {:?}", letters(&request.wants), request.acks);
        for (set, word) in [
            (request.no_done, "no-done"),
            (request.wait_for_done, "wait-for-done"),
            (request.thin_pack, "thin"),
            (request.ofs_delta, "ofs"),
            (request.include_tag, "tags"),
            (request.no_progress, "quiet"),
        ] {
            if set {
                words += &format!(" {word}");
            }
        }
        if let Some(bands) = request.bands {
            words += &format!(" {bands:?}");
        }
        if request.sideband_all {
            words += " all";
        }
        for (word, list) in [("refs", &request.want_refs), ("uris", &request.packfile_uris)] {
            if !list.is_empty() {
                words += &format!(" {word} {}", bstr::join(",", list).escape_ascii());
            }
        }
        if let Some(filter) = &request.filter {
            words += &format!(" {filter:?}");
        }
        words
    }

    fn v0(lines: &str, limits: &Limits) -> String {
        v0_with(Extensions::default(), lines, limits)
    }

    fn v0_with(extensions: Extensions, lines: &str, limits: &Limits) -> String {
        let packets = packets(lines);
        let mut input = &packets[..];
        let mut lines = ArgumentLines::new(limits);
        let mut reader = PacketReader::new(&mut input);
        let mut told = match UploadRequest::parse_v0(&mut reader, SHA1, extensions, &mut lines, limits) {
            Ok(request) => words(&request),
            Err(error) => return error.to_string(),
        };
        loop {
            match Round::read(&mut reader, SHA1, &mut lines) {
                Ok(None) => return told,
                Ok(Some(round)) => told += &format!(" [{} {:?}]", letters(&round.haves), round.end),
                Err(error) => return format!("{told} ! {error}"),
            }
        }
    }

    fn v2(lines: &str, limits: &Limits) -> String {
        v2_with(Extensions::default(), lines, limits)
    }

    fn v2_with(extensions: Extensions, lines: &str, limits: &Limits) -> String {
        let packets = packets(lines);
        let mut input = &packets[..];
        match UploadRequest::parse_v2(&mut PacketReader::new(&mut input), SHA1, extensions, limits) {
            Ok((request, round)) => format!("{} [{} {:?}]", words(&request), letters(&round.haves), round.end),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn wants_of_v0_come_with_capabilities_on_any_line() {
        let check = |lines: &str, expected: &str| assert_eq!(v0(lines, &Limits::default()), expected);
        check("0000", " Plain");
        check("want A\n|0000", "A Plain");
        check("want A multi_ack side-band\n|want B|want A ofs-delta|0000", "AB Multi ofs Small");
        check("want A multi_ack multi_ack_detailed side-band-64k side-band no-done|0000", "A Detailed no-done Large");
        check("want A multi_ack_detailed|want B multi_ack|0000", "AB Multi");
        check("want A thin-pack include-tag no-progress=1 agent=git/x nonsense|0000", "A Plain thin tags quiet");
        check("want A thin-packs xthin-pack|0000", "A Plain");
        check("want Athin-pack|0001", "A Plain thin");
    }

    #[test]
    fn rounds_of_v0_end_with_a_flush_or_done() {
        let check = |lines: &str, expected: &str| assert_eq!(v0(lines, &Limits::default()), expected);
        check("want A|0000|have B\n|have C|have B|0000|have D|done\n", "A Plain [BCB Flush] [D Done]");
        check("want A|0000|0000|done", "A Plain [ Flush] [ Done]");
        check("want A|0000|have B", "A Plain ! the remote end hung up unexpectedly");
        check(
            "want A|0000|want B|0000",
            &format!("A Plain ! git upload-pack: expected SHA1 list, got 'want {}'", "b".repeat(40)),
        );
        check("want A|0000|have x|0000", "A Plain ! git upload-pack: expected SHA1 object, got 'x'");
        check(
            "want A|0000|have B x|0000",
            &format!("A Plain ! git upload-pack: expected SHA1 object, got '{} x'", "b".repeat(40)),
        );
    }

    #[test]
    fn other_lines_of_v0_are_refused() {
        let check = |lines: &str, line: &str| {
            let expected = format!("git upload-pack: protocol error, expected to get object ID, not '{line}'");
            assert_eq!(v0(lines, &Limits::default()), expected);
        };
        check("want abc|0000", "want abc");
        check("want |0000", "want ");
        check("deepen|0000", "deepen");
        check("done|0000", "done");
        assert_eq!(v0("want A", &Limits::default()), "the remote end hung up unexpectedly");
    }

    #[test]
    fn arguments_of_v2_are_wants_haves_and_words() {
        let check = |lines: &str, expected: &str| assert_eq!(v2(lines, &Limits::default()), expected);
        check("0000", " Section Large [ Flush]");
        check("want A\n|want B|want A|have C\n|have C|0000", "AB Section Large [CC Flush]");
        check(
            "thin-pack|no-progress|include-tag|ofs-delta|want A|wait-for-done|done|0000",
            "A Section wait-for-done thin ofs tags quiet Large [ Done]",
        );
        check("want A|0001", "expected flush after fetch arguments");
        check("want A", "the remote end hung up unexpectedly");
        check("want x|0000", "git upload-pack: protocol error, expected to get oid, not 'want x'");
        check("have x|0000", "git upload-pack: expected SHA1 object, got 'x'");
        for line in ["deepen", "filter", "want-ref refs/heads/main", "sideband-all", "packfile-uris https", "x"] {
            check(&format!("{line}|0000"), &format!("unexpected line: '{line}'"));
        }
    }

    #[test]
    fn refs_are_wanted_by_name_once_and_where_that_is_offered() {
        let offered = Extensions { ref_in_want: true, ..Extensions::default() };
        let limits = Limits { wants: 3, ..Limits::default() };
        let check = |lines: &str, expected: &str| assert_eq!(v2_with(offered, lines, &limits), expected);
        check("want A|want-ref refs/x\n|want-ref refs/y|0000", "A Section Large refs refs/x,refs/y [ Flush]");
        check("want-ref refs/x|want-ref refs/x|0000", "duplicate want-ref refs/x");
        check("want-ref|0000", "unexpected line: 'want-ref'");
        check("want A|want B|want-ref x|want B|0000", "AB Section Large refs x [ Flush]");
        check("want A|want B|want-ref x|want-ref y|0000", "the request is over the limit: wants is 3");
        check("want-ref x|want-ref y|want-ref z|want A|0000", "the request is over the limit: wants is 3");
    }

    #[test]
    fn addresses_are_heard_only_with_bands_for_everything() {
        let offered = Extensions { sideband_all: true, packfile_uris: true, ..Extensions::default() };
        let check = |lines: &str, expected: &str| assert_eq!(v2_with(offered, lines, &Limits::default()), expected);
        check("packfile-uris https,http|sideband-all|0000", " Section Large all uris https,http [ Flush]");
        check("packfile-uris https|0000", " Section Large [ Flush]");
        check("packfile-uris https|packfile-uris https|sideband-all|0000", "multiple packfile-uris lines forbidden");
        check("sideband-all=1|0000", "unexpected line: 'sideband-all=1'");
    }

    #[test]
    fn a_filter_is_understood_once_and_where_it_is_offered() {
        let limits = Limits::default();
        let check = |lines: &str, expected: &str| assert_eq!(v0_with(FILTER, lines, &limits), expected);
        check("want A filter|filter blob:none|want B|0000", "AB Plain BlobNone");
        check("want A|want B filter|filter tree:1|0000", "AB Plain Tree(1)");
        let silent = "git upload-pack: filtering capability not negotiated";
        check("want A|filter blob:none|want B filter|0000", silent);
        check("filter blob:none|want A filter|0000", silent);
        check("want A filter|filter blob:none|filter blob:none|0000", "multiple filter-specs cannot be combined");
        check("want A filter|filter x|0000", "invalid filter-spec 'x'");
        assert_eq!(v0("want A filter|filter blob:none|0000", &limits), silent);

        let check = |lines: &str, expected: &str| assert_eq!(v2_with(FILTER, lines, &limits), expected);
        check("filter blob:limit=1k\n|want A|0000", "A Section Large BlobLimit(1024) [ Flush]");
        check("filter tree:0|want A|filter tree:0|0000", "multiple filter-specs cannot be combined");
        check("filter tree:x|0000", "expected 'tree:<depth>'");
        check("filter|0000", "unexpected line: 'filter'");
        assert_eq!(v2("filter blob:none|0000", &limits), "unexpected line: 'filter blob:none'");
    }

    #[test]
    fn lines_and_wants_are_limited() {
        let limits = Limits { wants: 2, lines: 4, ..Limits::default() };
        assert_eq!(v0("want A|want B|want A|0000", &limits), "AB Plain");
        assert_eq!(v0("want A|want B|want C|0000", &limits), "the request is over the limit: wants is 2");
        assert_eq!(v2("want A|want B|want A|0000", &limits), "AB Section Large [ Flush]");
        assert_eq!(v2("want A|want B|want C|0000", &limits), "the request is over the limit: wants is 2");
        assert_eq!(v0("want A|0000|have B|have C|done", &limits), "A Plain [BC Done]");
        assert_eq!(
            v0("want A|0000|have B|have C|0000|have D|done", &limits),
            "A Plain [BC Flush] ! the request is over the limit: lines is 4"
        );
        assert_eq!(v2("have A|have B|have C|have D|done|0000", &limits), "the request is over the limit: lines is 4");
    }

    #[test]
    fn names_are_of_the_repositorys_hash() {
        let packets = packets("want A|0000");
        let mut input = &packets[..];
        let parsed = UploadRequest::parse_v2(
            &mut PacketReader::new(&mut input),
            gix_hash::Kind::Sha256,
            Extensions::default(),
            &Limits::default(),
        );
        assert!(parsed.is_err());
    }
}

//! The request of a push: ref updates, capabilities, push options, shallow lines (gitprotocol-pack, Reference Update
//! Request).
//!
//! In: the body up to where a pack may begin. Out: a [`PushRequest`]. The pack itself is never read here.

use super::certificate::PushCertificate;
use super::{Limits, ProtocolError};
use crate::hex;
use crate::pktline::{FrameError, Packet, PacketReader};
use bstr::{BStr, BString, ByteSlice};
use gix_hash::ObjectId;
use std::io::Read;

/// The requested update of one ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefUpdate {
    /// The name as sent.
    pub name: BString,
    /// The requested change.
    pub change: Change,
}

/// A requested change of a ref.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Creates the ref with the value `new`.
    Create {
        /// The new value.
        new: ObjectId,
    },
    /// Changes the ref from `old` to `new`.
    Update {
        /// The value the client expects.
        old: ObjectId,
        /// The new value.
        new: ObjectId,
    },
    /// Deletes the ref; with `None` the client believes that it does not exist, which git allows with a warning.
    Delete {
        /// The value the client expects.
        old: Option<ObjectId>,
    },
}

impl Change {
    /// The change between two values; null means that the ref does not exist.
    pub fn between(old: ObjectId, new: ObjectId) -> Self {
        match (old.is_null(), new.is_null()) {
            (true, false) => Change::Create { new },
            (false, false) => Change::Update { old, new },
            (null, true) => Change::Delete { old: (!null).then_some(old) },
        }
    }

    /// The value that the client believes the ref has.
    pub fn old_value(&self) -> Option<ObjectId> {
        match self {
            Change::Create { .. } => None,
            Change::Update { old, .. } => Some(*old),
            Change::Delete { old } => *old,
        }
    }

    /// The value that the ref should have.
    pub fn new_value(&self) -> Option<ObjectId> {
        match self {
            Change::Create { new } | Change::Update { new, .. } => Some(*new),
            Change::Delete { .. } => None,
        }
    }

    /// Whether the ref should be deleted.
    pub fn is_deletion(&self) -> bool {
        matches!(self, Change::Delete { .. })
    }

    /// Both values as hooks and the audit log get them, with null for none.
    pub fn old_and_new(&self, hash: gix_hash::Kind) -> (ObjectId, ObjectId) {
        (self.old_value().unwrap_or(hash.null()), self.new_value().unwrap_or(hash.null()))
    }
}

/// The report that the client wants. A client that asks for both forms gets the second (RS-03).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum ReportForm {
    /// No report.
    #[default]
    Silent,
    /// `report-status`.
    V1,
    /// `report-status-v2`.
    V2,
}

/// The client's capabilities, as far as they were offered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PushCapabilities {
    /// `report-status`, `report-status-v2`.
    pub report: ReportForm,
    /// `side-band-64k`.
    pub side_band: bool,
    /// `quiet`.
    pub quiet: bool,
    /// `atomic`.
    pub atomic: bool,
    /// `push-options`.
    pub push_options: bool,
    /// `agent=…`.
    pub agent: Option<BString>,
    /// `session-id=…`.
    pub session_id: Option<BString>,
}

/// The parts of the advertisement that decide how a request is parsed (RQ-04, RQ-05).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushOffer {
    /// The hash of object names.
    pub hash: gix_hash::Kind,
    /// `atomic`.
    pub atomic: bool,
    /// `push-options`.
    pub push_options: bool,
}

/// A part of the request reported while the rest is still being read: enough to send a later error as a report.
#[derive(Debug)]
pub enum Heard<'a> {
    /// The capabilities so far.
    Capabilities(&'a PushCapabilities),
    /// The name of a ref to update.
    Ref(&'a BStr),
}

/// A push without its pack.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PushRequest {
    /// The requested updates, in the order of the lines. If empty, nothing follows and nothing is answered (RQ-03).
    pub updates: Vec<RefUpdate>,
    /// Where the client's history is cut.
    pub shallow: Vec<ObjectId>,
    /// Push options; empty unless they were negotiated.
    pub options: Vec<BString>,
    /// The client's capabilities.
    pub capabilities: PushCapabilities,
    /// The push certificate, if the client sent one; `updates` is then taken from it.
    pub certificate: Option<PushCertificate>,
    /// The total size of the names in `updates`, in bytes.
    pub(crate) name_bytes: u64,
}

impl PushRequest {
    /// Reads a request up to the flush that ends its last section; after that the pack begins in `body`.
    ///
    /// `heard` is called with capabilities and refs as soon as they are parsed, so that a later error can be sent as a
    /// report.
    ///
    /// # Errors
    /// Bad framing, an end before the flush, malformed lines, another object format, exceeded limits.
    pub fn parse(
        body: &mut dyn Read,
        offered: &PushOffer,
        limits: &Limits,
        heard: &mut dyn FnMut(Heard<'_>),
    ) -> Result<Self, ProtocolError> {
        let mut lines = Lines { reader: PacketReader::new(body), limits, lines: 0, bytes: 0 };
        let mut request = PushRequest::default();
        let mut certificate = Vec::new();
        while let Some(line) = lines.next()? {
            if !request.begins_certificate(line, offered, heard)? {
                request.take_line(line, offered, limits, heard)?;
            } else if !lines.certificate(&mut certificate)? {
                break;
            }
        }
        if !certificate.is_empty() {
            request.take_certificate(PushCertificate::new(certificate), offered, limits, heard)?;
        }
        if request.updates.is_empty() {
            return Ok(request);
        }
        if request.capabilities.push_options {
            while let Some(line) = lines.next()? {
                if request.options.len() as u64 >= limits.push_options {
                    return Err(too_many("push options", limits.push_options, "artifacts.maxPushOptions"));
                }
                // Hooks read options from the environment, where a NUL would silently cut them off.
                if line.contains(&0) {
                    return Err(ProtocolError::Said("protocol error: a push option contains a NUL byte".into()));
                }
                request.options.push(line.into());
            }
        }
        Ok(request)
    }

    /// Whether a pack follows: it does unless all updates are deletions (RQ-08, RQ-09).
    pub fn brings_pack(&self) -> bool {
        self.updates.iter().any(|update| !update.change.is_deletion())
    }

    /// Whether a line begins a certificate.
    fn begins_certificate(
        &mut self,
        line: &[u8],
        offered: &PushOffer,
        heard: &mut dyn FnMut(Heard<'_>),
    ) -> Result<bool, ProtocolError> {
        match line.strip_prefix(b"push-cert") {
            Some(b"") => Ok(true),
            Some([0, list @ ..]) => {
                self.capabilities.add(list, offered)?;
                heard(Heard::Capabilities(&self.capabilities));
                Ok(true)
            }
            Some(_) | None => Ok(false),
        }
    }

    /// Takes the updates from a certificate; there must be no others (RQ-10).
    fn take_certificate(
        &mut self,
        certificate: PushCertificate,
        offered: &PushOffer,
        limits: &Limits,
        heard: &mut dyn FnMut(Heard<'_>),
    ) -> Result<(), ProtocolError> {
        if !self.updates.is_empty() {
            let text = "protocol error: got both push certificate and unsigned commands";
            return Err(ProtocolError::Said(text.into()));
        }
        let Some(updates) = certificate.updates() else {
            let text = certificate.text();
            let begin = text.get(..QUOTED_MAX).unwrap_or(text).escape_ascii();
            return Err(ProtocolError::Said(format!("malformed push certificate {begin}")));
        };
        for line in updates {
            self.take_update(line, offered, limits, heard)?;
        }
        self.certificate = Some(certificate);
        Ok(())
    }

    fn take_line(
        &mut self,
        line: &[u8],
        offered: &PushOffer,
        limits: &Limits,
        heard: &mut dyn FnMut(Heard<'_>),
    ) -> Result<(), ProtocolError> {
        if let Some(hex) = line.strip_prefix(b"shallow ") {
            if self.shallow.len() as u64 >= limits.shallows {
                return Err(ProtocolError::Limit { what: "shallows", most: limits.shallows });
            }
            let id = hex.get(..offered.hash.len_in_hex()).and_then(hex::parse);
            let Some(id) = id else { return Err(unexpected("shallow sha", hex)) };
            self.shallow.push(id);
            return Ok(());
        }
        let (command, capabilities) = match line.find_byte(0) {
            Some(at) => (&line[..at], Some(&line[at + 1..])),
            None => (line, None),
        };
        if let Some(list) = capabilities {
            self.capabilities.add(list, offered)?;
            heard(Heard::Capabilities(&self.capabilities));
        }
        self.take_update(command, offered, limits, heard)
    }

    fn take_update(
        &mut self,
        command: &[u8],
        offered: &PushOffer,
        limits: &Limits,
        heard: &mut dyn FnMut(Heard<'_>),
    ) -> Result<(), ProtocolError> {
        let update = ref_update(command, offered.hash).ok_or_else(|| unexpected("old/new/ref", command))?;
        if self.updates.len() as u64 >= limits.ref_updates {
            return Err(too_many("ref updates", limits.ref_updates, "artifacts.maxRefUpdates"));
        }
        self.name_bytes += update.name.len() as u64;
        let most = limits.ref_updates.saturating_mul(NAME_BYTES_EACH).saturating_add(NAME_BYTES_BEYOND);
        if self.name_bytes > most {
            return Err(too_many("bytes in names of refs", most, "artifacts.maxRefUpdates"));
        }
        heard(Heard::Ref(update.name.as_bstr()));
        self.updates.push(update);
        Ok(())
    }
}

impl PushCapabilities {
    /// Adds a list. What an earlier line asked for stays (RQ-01); what was not offered is ignored (RQ-05).
    fn add(&mut self, list: &[u8], offered: &PushOffer) -> Result<(), ProtocolError> {
        let mut format = b"sha1".as_bstr();
        for word in list.split(u8::is_ascii_whitespace) {
            match word {
                b"report-status" => self.report = self.report.max(ReportForm::V1),
                b"report-status-v2" => self.report = ReportForm::V2,
                b"side-band-64k" => self.side_band = true,
                b"quiet" => self.quiet = true,
                b"atomic" => self.atomic |= offered.atomic,
                b"push-options" => self.push_options |= offered.push_options,
                other => {
                    if let Some(value) = other.strip_prefix(b"object-format=") {
                        format = value.as_bstr();
                    } else if let Some(value) = other.strip_prefix(b"agent=") {
                        self.agent = Some(value.into());
                    } else if let Some(value) = other.strip_prefix(b"session-id=") {
                        self.session_id = Some(value.into());
                    }
                }
            }
        }
        if format != offered.hash.to_string().as_str() {
            let text = format!("error: unsupported object format '{}'", format.escape_ascii());
            return Err(ProtocolError::Said(text));
        }
        Ok(())
    }
}

/// Parses `OLD NEW NAME`.
fn ref_update(line: &[u8], hash: gix_hash::Kind) -> Option<RefUpdate> {
    let size = hash.len_in_hex();
    let id = |at: usize| hex::parse(line.get(at..at + size)?);
    let blank = |at: usize| line.get(at) == Some(&b' ');
    if !(blank(size) && blank(2 * size + 1)) {
        return None;
    }
    let change = Change::between(id(0)?, id(size + 1)?);
    Some(RefUpdate { name: line.get(2 * size + 2..)?.into(), change })
}

fn too_many(what: &str, most: u64, key: &str) -> ProtocolError {
    ProtocolError::Said(format!("too many {what}: the limit for one push is {most} ({key})"))
}

/// The limit on the total size of ref names in a push, in bytes: this many, plus [`NAME_BYTES_EACH`] per allowed
/// update. Names are held several times, in the report among other places.
const NAME_BYTES_BEYOND: u64 = 1 << 20;
const NAME_BYTES_EACH: u64 = 320;

/// The most bytes of a malformed line that are quoted to the client.
const QUOTED_MAX: usize = 256;

fn unexpected(wanted: &str, got: &[u8]) -> ProtocolError {
    let got = got.get(..QUOTED_MAX).unwrap_or(got).escape_ascii();
    ProtocolError::Said(format!("protocol error: expected {wanted}, got '{got}'"))
}

/// Lines up to a flush, counted against the limits.
struct Lines<'r, 'l> {
    reader: PacketReader<'r>,
    limits: &'l Limits,
    lines: u64,
    bytes: u64,
}

impl Lines<'_, '_> {
    /// The next line without its newline; `None` at the flush. The end of the stream is an error, because the request
    /// may have been cut off.
    fn next(&mut self) -> Result<Option<&[u8]>, ProtocolError> {
        Ok(self.data()?.map(|line| line.strip_suffix(b"\n").unwrap_or(line)))
    }

    /// Adds the lines of a certificate to `text`. Returns `false` if a flush ended both the certificate and the
    /// request.
    fn certificate(&mut self, text: &mut Vec<u8>) -> Result<bool, ProtocolError> {
        while let Some(line) = self.data()? {
            if line == b"push-cert-end\n" {
                return Ok(true);
            }
            // Hooks and signature programs would not agree on what follows a NUL.
            if line.contains(&0) {
                return Err(ProtocolError::Said("protocol error: a push certificate contains a NUL byte".into()));
            }
            text.extend_from_slice(line);
        }
        Ok(false)
    }

    /// The next packet of data; `None` at the flush.
    fn data(&mut self) -> Result<Option<&[u8]>, ProtocolError> {
        let line = match self.reader.next()?.ok_or(FrameError::Truncated)? {
            Packet::Flush => return Ok(None),
            Packet::Data(line) => line,
            Packet::Delim | Packet::ResponseEnd => {
                return Err(ProtocolError::Said("protocol error: got an unexpected packet".into()));
            }
        };
        self.bytes = self.bytes.saturating_add(line.len() as u64);
        self.lines += 1;
        if self.lines > self.limits.lines {
            return Err(ProtocolError::Limit { what: "lines", most: self.limits.lines });
        }
        if self.bytes > self.limits.inflated_bytes {
            return Err(ProtocolError::Limit { what: "inflated_bytes", most: self.limits.inflated_bytes });
        }
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "1111111111111111111111111111111111111111";
    const B: &str = "2222222222222222222222222222222222222222";
    const O: &str = "0000000000000000000000000000000000000000";

    const OFFERED: PushOffer = PushOffer { hash: gix_hash::Kind::Sha1, atomic: true, push_options: true };

    fn packets(lines: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for line in lines {
            match *line {
                "0000" | "0001" => bytes.extend_from_slice(line.as_bytes()),
                line if line.starts_with('-') => {
                    bytes.extend_from_slice(format!("{:04x}{line}", line.len() + 4).as_bytes());
                }
                line => {
                    let line = line.replace('A', A).replace('B', B).replace('O', O);
                    bytes.extend_from_slice(format!("{:04x}{line}", line.len() + 4).as_bytes());
                }
            }
        }
        bytes
    }

    fn parse(lines: &[&str], offered: &PushOffer, limits: &Limits) -> Result<PushRequest, String> {
        let mut bytes = packets(lines);
        bytes.extend_from_slice(b"PACK");
        let mut body = bytes.as_slice();
        let request = PushRequest::parse(&mut body, offered, limits, &mut |_| {}).map_err(|error| error.to_string())?;
        assert_eq!(body, b"PACK", "the pack is not touched");
        Ok(request)
    }

    /// Summarises a request in one line: updates, shallow lines, options, capabilities.
    fn told(request: &PushRequest) -> String {
        let short = |id: Option<ObjectId>| id.map_or("-".into(), |id| id.to_string()[..1].to_owned());
        let mut words: Vec<String> = request
            .updates
            .iter()
            .map(|update| {
                format!("{}:{}{}", update.name, short(update.change.old_value()), short(update.change.new_value()))
            })
            .collect();
        words.extend(request.shallow.iter().map(|id| format!("shallow:{}", short(Some(*id)))));
        words.extend(request.options.iter().map(|option| format!("option:{option}")));
        let PushCapabilities { report, side_band, quiet, atomic, push_options, agent, session_id } =
            &request.capabilities;
        if *report != ReportForm::Silent {
            words.push(format!("{report:?}"));
        }
        for (set, name) in [(side_band, "band"), (quiet, "quiet"), (atomic, "atomic"), (push_options, "options")] {
            words.extend(set.then(|| name.to_owned()));
        }
        words.extend([agent, session_id].into_iter().flatten().map(BString::to_string));
        words.join(" ")
    }

    fn check(lines: &[&str], expected: &str) {
        let said = match parse(lines, &OFFERED, &Limits::default()) {
            Ok(request) => told(&request),
            Err(error) => error,
        };
        assert_eq!(said, expected, "{lines:?}");
    }

    #[test]
    fn updates_are_read_with_all_capabilities_that_were_offered() {
        check(&["0000"], "");
        check(&["O A refs/x\n", "0000"], "refs/x:-1");
        check(
            &["O A refs/x", "A B refs/y", "A O refs/z", "O O refs/w", "0000"],
            "refs/x:-1 refs/y:12 refs/z:1- refs/w:--",
        );
        check(&["O A refs/x\0 report-status side-band-64k\n", "0000"], "refs/x:-1 V1 band");
        check(&["O A r\0report-status-v2 report-status", "0000"], "r:-1 V2");
        check(&["O A r\0report-status report-status-v2", "0000"], "r:-1 V2");
        check(&["O A r\0quiet", "O B s\0report-status agent=git/2", "0000"], "r:-1 s:-2 V1 quiet git/2");
        check(&["O A r\0object-format=sha1 session-id=me unknown x=y", "0000"], "r:-1 me");
        check(&["O A r\0report-status-v3 atomics", "0000"], "r:-1");
        check(&["O A refs/a b", "0000"], "refs/a b:-1");
        check(&["O A ", "0000"], ":-1");
    }

    #[test]
    fn object_names_may_be_upper_case() {
        let line = "O A r".replace('A', &"AB".repeat(20)).replace('O', O);
        let bytes = format!("{:04x}{line}0000", line.len() + 4);
        let request =
            PushRequest::parse(&mut bytes.as_bytes(), &OFFERED, &Limits::default(), &mut |_| {}).expect("well formed");
        assert_eq!(request.updates[0].change.new_value().map(|id| id.to_string()), Some("ab".repeat(20)));
    }

    #[test]
    fn shallow_lines_may_stand_among_the_updates() {
        check(&["shallow A", "O A r\0quiet", "shallow B\n", "0000"], "r:-1 shallow:1 shallow:2 quiet");
        check(&["shallow A", "0000"], "shallow:1");
        check(&["shallow 11", "0000"], "protocol error: expected shallow sha, got '11'");
    }

    #[test]
    fn options_follow_the_updates_where_they_were_negotiated() {
        check(&["O A r\0push-options", "0000", "a=b\n", "c d", "0000"], "r:-1 option:a=b option:c d options");
        check(&["O A r\0push-options", "0000", "0000"], "r:-1 options");
        check(&["O A r\0push-options", "0000", "a\0b", "0000"], "protocol error: a push option contains a NUL byte");
    }

    #[test]
    fn a_certificate_says_what_is_asked() {
        let begin = ["push-cert\0quiet push-options", "certificate version 0.1\n", "push-option x\n", "\n"];
        let signed = ["O A a\n", "A B b\n", "-----BEGIN PGP SIGNATURE-----\n", "O A c\n"];
        let with = |more: &[&'static str]| [&begin[..], &signed[..], more].concat();
        check(&with(&["push-cert-end\n", "0000", "x", "0000"]), "a:-1 b:12 option:x quiet options");
        check(&with(&["push-cert-end\n", "shallow A", "0000", "0000"]), "a:-1 b:12 shallow:1 quiet options");
        // A flush ends the certificate and the request.
        check(&with(&["0000", "x", "0000"]), "a:-1 b:12 option:x quiet options");
        check(&["push-cert\0quiet", "v\n", "\n", "push-cert-end\n", "0000"], "quiet");
        check(&["push-cert\0quiet", "push-cert-end\n", "0000"], "quiet");
        let both = "protocol error: got both push certificate and unsigned commands";
        check(&with(&["push-cert-end\n", "O A c", "0000"]), both);
        check(&["O A c", "push-cert", "v\n", "\n", "O A a\n", "push-cert-end\n", "0000"], both);
        check(&["push-cert", "no end\n", "push-cert-end\n", "0000"], "malformed push certificate no end\\n");
        check(
            &["push-cert", "\n", "\n", "push-cert-end", "0000"],
            "protocol error: expected old/new/ref, got 'push-cert-end'",
        );
        check(&["push-cert", "\n", "\n", "x\n", "0000"], "protocol error: expected old/new/ref, got 'x'");
        check(&["push-cert", "a\0b\n", "0000"], "protocol error: a push certificate contains a NUL byte");
        check(&["push-cert", "0001"], "protocol error: got an unexpected packet");
        check(&["push-certs", "0000"], "protocol error: expected old/new/ref, got 'push-certs'");
    }

    #[test]
    fn what_was_not_offered_is_not_heard() {
        let offered = PushOffer { atomic: false, push_options: false, ..OFFERED };
        let request = parse(&["O A r\0atomic push-options quiet", "0000"], &offered, &Limits::default());
        assert_eq!(told(&request.expect("well formed")), "r:-1 quiet");
    }

    #[test]
    fn malformed_lines_are_refused_in_gits_words() {
        let got = |line: &str| format!("protocol error: expected old/new/ref, got '{line}'");
        check(&["", "0000"], &got(""));
        check(&["x", "0000"], &got("x"));
        check(&["O A", "0000"], &got(&format!("{O} {A}")));
        check(&["O-A refs/x", "0000"], &got(&format!("{O}-{A} refs/x")));
        check(&["O A-refs/x", "0000"], &got(&format!("{O} {A}-refs/x")));
        check(&["O gA refs/x", "0000"], &got(&format!("{O} g{A} refs/x")));
        check(&["\x1b[2J\0quiet", "0000"], &got("\\x1b[2J"));
        check(&["O A r", "0001"], "protocol error: got an unexpected packet");
    }

    #[test]
    fn another_object_format_is_refused_before_the_names_are_read() {
        check(&["x\0object-format=sha256", "0000"], "error: unsupported object format 'sha256'");
        let offered = PushOffer { hash: gix_hash::Kind::Sha256, ..OFFERED };
        let limits = Limits::default();
        let said = parse(&["O A r\0quiet", "0000"], &offered, &limits);
        assert_eq!(said, Err("error: unsupported object format 'sha1'".into()));
        let line = format!("{} {} r\0object-format=sha256", "0".repeat(64), "1".repeat(64));
        assert_eq!(told(&parse(&[&line, "0000"], &offered, &limits).expect("well formed")), "r:-1");
    }

    #[test]
    fn an_end_before_the_flush_is_an_error() {
        let whole = packets(&["O A r\0push-options", "0000", "x", "0000"]);
        for size in 0..whole.len() {
            let parsed = PushRequest::parse(&mut &whole[..size], &OFFERED, &Limits::default(), &mut |_| {});
            let error = parsed.expect_err("a part of a request is none").to_string();
            assert_eq!(error, "the remote end hung up unexpectedly", "{size} bytes");
        }
    }

    #[test]
    fn every_limit_holds_at_one_more() {
        let updates = ["O A a\0push-options", "O A b", "shallow A", "shallow B", "0000", "x", "y", "0000"];
        let bytes = packets(&updates).len() as u64;
        let enough = Limits {
            ref_updates: 2,
            shallows: 2,
            push_options: 2,
            lines: 6,
            inflated_bytes: bytes - 8 * 4,
            ..Limits::default()
        };
        assert!(parse(&updates, &OFFERED, &enough).is_ok());
        let check = |limits: Limits, expected: &str| {
            let expected = match expected.split_once(" (") {
                Some((what, _)) => format!("too many {what}: the limit for one push is 1{}", &expected[what.len()..]),
                None => format!("the request is over the limit: {expected}"),
            };
            assert_eq!(parse(&updates, &OFFERED, &limits), Err(expected));
        };
        check(Limits { ref_updates: 1, ..enough.clone() }, "ref updates (artifacts.maxRefUpdates)");
        check(Limits { shallows: 1, ..enough.clone() }, "shallows is 1");
        check(Limits { push_options: 1, ..enough.clone() }, "push options (artifacts.maxPushOptions)");
        check(Limits { lines: 5, ..enough.clone() }, "lines is 5");
        let bytes = enough.inflated_bytes - 1;
        check(Limits { inflated_bytes: bytes, ..enough }, &format!("inflated_bytes is {bytes}"));
    }

    #[test]
    fn names_that_fill_the_memory_are_refused() {
        let line = |length: usize| format!("O A {}", "r".repeat(length));
        let limits = Limits { ref_updates: 30, ..Limits::default() };
        let parsed = |lines: usize| {
            let lines: Vec<String> = (0..lines).map(|_| line(50_000)).chain(["0000".to_owned()]).collect();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            parse(&lines, &OFFERED, &limits).map(|request| request.updates.len())
        };
        assert_eq!(parsed(21), Ok(21));
        let text = "too many bytes in names of refs: the limit for one push is 1058176 (artifacts.maxRefUpdates)";
        assert_eq!(parsed(22), Err(text.to_owned()));
    }

    #[test]
    fn what_was_understood_is_heard_before_the_line_that_fails() {
        let mut said = Vec::new();
        let bytes = packets(&["O A a\0side-band-64k report-status", "O A b", "x", "0000"]);
        let parsed = PushRequest::parse(&mut bytes.as_slice(), &OFFERED, &Limits::default(), &mut |heard| {
            said.push(match heard {
                Heard::Capabilities(list) => format!("{:?} {}", list.report, list.side_band),
                Heard::Ref(name) => name.to_string(),
            });
        });
        assert!(parsed.is_err());
        assert_eq!(said, ["V1 true", "a", "b"]);
    }
}

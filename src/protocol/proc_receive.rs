//! The conversation with a proc-receive hook, which carries out ref updates in the server's place (githooks,
//! proc-receive).
//!
//! In: the ref updates of a push, which of them the hook should carry out, and the bytes it writes. Out: the bytes it
//! reads, and finally what it says became of each update. Never checks that this is true, and never runs a hook.

use super::push::{Change, RefUpdate};
use super::report::RefReport;
use super::{Limits, shown};
use crate::pktline::{self, FrameError, Packet, PacketReader};
use bstr::{BStr, BString, ByteSlice};
use std::collections::HashMap;

/// Which updates go to the hook: one value of receive.procReceiveRefs, `[adm!]:PREFIX` (git-config,
/// receive.procReceiveRefs).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    creations: bool,
    deletions: bool,
    changes: bool,
    negated: bool,
    prefix: BString,
}

impl Selector {
    /// Parses a value. Unknown letters are ignored, as in git; without a colon all kinds of updates are selected.
    pub fn parse(value: &BStr) -> Self {
        let (letters, prefix) = value.split_once_str(":").map_or((None, value.as_bytes()), |(l, p)| (Some(l), p));
        let says = |letter| letters.is_none_or(|letters| letters.contains(&letter));
        Selector {
            creations: says(b'a'),
            deletions: says(b'd'),
            changes: says(b'm'),
            negated: letters.is_some_and(|letters| letters.contains(&b'!')),
            prefix: prefix.trim_end_with(|char| char == '/').into(),
        }
    }

    /// Whether this value sends an update to the hook. The prefix matches whole components; a negated value selects all
    /// other names.
    pub fn selects(&self, update: &RefUpdate) -> bool {
        let kind = match update.change {
            Change::Create { .. } => self.creations,
            Change::Update { .. } => self.changes,
            Change::Delete { old: Some(_) } => self.deletions,
            // From nothing to nothing counts as both.
            Change::Delete { old: None } => self.creations && self.deletions,
        };
        let rest = update.name.strip_prefix(self.prefix.as_slice());
        let below = rest.is_some_and(|rest| rest.first().is_none_or(|&byte| byte == b'/'));
        kind && below != self.negated
    }
}

/// The hook's reply about an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// No reply.
    Silence,
    /// `ng`, with the reason.
    Refused(BString),
    /// `ok`, with the ref and values actually changed, where they differ from the request.
    Done(Vec<RefReport>),
    /// `option fall-through`: the server carries out the update after all.
    FallThrough,
}

/// The result of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// A reply for each update, in order.
    pub replies: Vec<Reply>,
    /// Whether the hook's results were read to their end; if so, no reply about an update is an answer too.
    pub complete: bool,
    /// What the hook did wrong, in git's words, one line each.
    pub complaints: Vec<String>,
}

impl Outcome {
    /// Whether everything succeeded, apart from the hook's exit status.
    pub fn is_well(&self, selected: &[bool]) -> bool {
        let well = |(reply, selected): (&Reply, &bool)| match reply {
            Reply::Done(_) | Reply::FallThrough => true,
            Reply::Silence => !selected,
            Reply::Refused(_) => false,
        };
        self.complete && self.complaints.is_empty() && self.replies.iter().zip(selected).all(well)
    }
}

/// What the conversation is about.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// All updates of the push, each with whether it goes to the hook.
    pub updates: &'a [(&'a RefUpdate, bool)],
    /// The push options.
    pub options: &'a [BString],
    /// Whether the push is atomic.
    pub atomic: bool,
    /// Whether push options were negotiated.
    pub push_options: bool,
    /// The hash of object names.
    pub hash: gix_hash::Kind,
    /// How much the hook may write.
    pub limits: &'a Limits,
}

/// What to send next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    /// The version and the negotiated features.
    Greeting,
    /// Nothing until the hook has sent its version.
    Waiting,
    /// The updates from this one on.
    Updates(usize),
    Nothing,
}

/// What is expected from the hook next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receiving {
    Version,
    Results,
    Nothing,
}

/// A conversation. Ask it what to [tell](Conversation::tell) the hook, and let it [hear](Conversation::hear) the
/// replies.
#[derive(Debug)]
pub struct Conversation<'a> {
    job: Job<'a>,
    sending: Sending,
    receiving: Receiving,
    /// Bytes heard that do not make a whole packet yet.
    heard: Vec<u8>,
    lines: u64,
    bytes: u64,
    version: i64,
    wants_options: bool,
    by_name: HashMap<&'a BStr, usize>,
    results: Results,
}

/// The results so far.
#[derive(Debug)]
struct Results {
    /// The number of result lines.
    lines: u64,
    replies: Vec<Reply>,
    complaints: Vec<String>,
    complete: bool,
    /// The update of the last `ok`: the options that follow belong to it.
    current: Option<usize>,
    /// Whether its next option begins a new report.
    begins: bool,
    /// Whether an option without an update has been complained about.
    stray: bool,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Send these bytes.
    Bytes(Vec<u8>),
    /// Wait until the hook has written something.
    Hear,
    /// The conversation is over.
    Over,
}

impl<'a> Conversation<'a> {
    /// A conversation that has not begun.
    pub fn new(job: Job<'a>) -> Self {
        let mut by_name = HashMap::new();
        for (index, (update, _)) in job.updates.iter().enumerate() {
            by_name.entry(update.name.as_bstr()).or_insert(index);
        }
        Conversation {
            sending: Sending::Greeting,
            receiving: Receiving::Version,
            heard: Vec::new(),
            lines: 0,
            bytes: 0,
            version: 0,
            wants_options: false,
            by_name,
            results: Results {
                lines: 0,
                replies: vec![Reply::Silence; job.updates.len()],
                complaints: Vec::new(),
                complete: false,
                current: None,
                begins: false,
                stray: false,
            },
            job,
        }
    }

    /// Returns what to send to the hook next.
    pub fn tell(&mut self) -> Next {
        match self.sending {
            Sending::Greeting => {
                self.sending = Sending::Waiting;
                Next::Bytes(greeting(&self.job))
            }
            Sending::Updates(from) => Next::Bytes(self.update(from)),
            Sending::Waiting if self.receiving != Receiving::Nothing => Next::Hear,
            Sending::Nothing if self.receiving != Receiving::Nothing => Next::Hear,
            Sending::Waiting | Sending::Nothing => Next::Over,
        }
    }

    /// Takes bytes that the hook wrote; no bytes mean that it will write nothing more.
    pub fn hear(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return self.ended();
        }
        if self.receiving == Receiving::Nothing {
            return;
        }
        self.heard.extend_from_slice(bytes);
        let heard = std::mem::take(&mut self.heard);
        let mut rest = heard.as_slice();
        while self.receiving != Receiving::Nothing && !rest.is_empty() {
            let mut ahead = rest;
            match PacketReader::new(&mut ahead).next() {
                Ok(Some(Packet::Data(line))) => self.line(line),
                // git treats this as an ordinary line here.
                Err(FrameError::Remote(text)) => self.line(&[b"ERR ", text.as_slice()].concat()),
                Ok(Some(Packet::Flush | Packet::Delim | Packet::ResponseEnd)) => self.section(),
                Ok(None) | Err(FrameError::Truncated) => break,
                Err(error @ (FrameError::BadLength(_) | FrameError::Io(_))) => self.fail(error.to_string()),
            }
            rest = ahead;
        }
        self.heard = rest.to_vec();
    }

    /// Returns the result.
    pub fn outcome(self) -> Outcome {
        let Results { replies, complaints, complete, .. } = self.results;
        Outcome { replies, complete, complaints }
    }

    /// One update; after the last one a flush, and the push options if the hook asked for them.
    fn update(&mut self, from: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut later = self.job.updates.iter().enumerate().skip(from);
        if let Some((at, (update, _))) = later.find(|(_, (_, selected))| *selected) {
            let (old, new) = update.change.old_and_new(self.job.hash);
            add(&mut bytes, &[format!("{old} {new} ").as_bytes(), &update.name].concat());
            self.sending = Sending::Updates(at + 1);
            return bytes;
        }
        add_flush(&mut bytes);
        if self.wants_options {
            self.job.options.iter().for_each(|option| add(&mut bytes, option));
            add_flush(&mut bytes);
        }
        self.sending = Sending::Nothing;
        bytes
    }

    fn line(&mut self, line: &[u8]) {
        self.lines += 1;
        self.bytes = self.bytes.saturating_add(line.len() as u64);
        if self.lines > self.job.limits.lines || self.bytes > self.job.limits.inflated_bytes {
            return self.fail("proc-receive reported more than is allowed".into());
        }
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        match self.receiving {
            Receiving::Version => self.greeted(text),
            Receiving::Results => self.results.line(cut(text), &self.job, &self.by_name),
            Receiving::Nothing => {}
        }
    }

    fn greeted(&mut self, line: &[u8]) {
        let Some(said) = line.strip_prefix(b"version=").filter(|said| !said.is_empty()) else { return };
        let (number, features) = said.split_once_str("\0").unwrap_or((said, b""));
        let digits =
            number.iter().enumerate().take_while(|(at, byte)| byte.is_ascii_digit() || (*at == 0 && **byte == b'-'));
        let digits = digits.count();
        // As in git, a text that does not begin with a number counts as 0.
        let parsed = number.get(..digits).and_then(|digits| digits.to_str().ok()).map(str::parse);
        self.version = parsed.and_then(Result::ok).unwrap_or(if digits > 9 { i64::MAX } else { 0 });
        self.wants_options |= features.split(u8::is_ascii_whitespace).any(|word| word == b"push-options");
    }

    /// Handles the packet that ends a section.
    fn section(&mut self) {
        match (self.receiving, self.version) {
            (Receiving::Version, 0 | 1) => (self.receiving, self.sending) = (Receiving::Results, Sending::Updates(0)),
            (Receiving::Version, other) => self.fail(format!("proc-receive version '{other}' is not supported")),
            (Receiving::Results, _) => self.complete(),
            (Receiving::Nothing, _) => {}
        }
    }

    /// Handles the end of the hook's output. Results that came before count, as in git; only if there are none is it an
    /// error.
    fn ended(&mut self) {
        match self.receiving {
            Receiving::Version => self.fail("fail to negotiate version with proc-receive hook".into()),
            Receiving::Results if self.results.lines == 0 => self.fail("proc-receive exited abnormally".into()),
            Receiving::Results => self.complete(),
            Receiving::Nothing => {}
        }
    }

    fn complete(&mut self) {
        self.results.complete = true;
        self.receiving = Receiving::Nothing;
    }

    fn fail(&mut self, complaint: String) {
        self.results.complaints.push(complaint);
        (self.receiving, self.sending) = (Receiving::Nothing, Sending::Nothing);
    }
}

impl Results {
    /// Takes a line: `ok NAME`, `ng NAME REASON` or `option …`.
    fn line(&mut self, line: &[u8], job: &Job<'_>, by_name: &HashMap<&BStr, usize>) {
        self.lines += 1;
        let Some((word, rest)) = line.split_once_str(" ") else {
            return self.complain(format!("proc-receive reported incomplete status line: '{}'", shown(line)));
        };
        if word == b"option" {
            return self.option(rest, job.hash);
        }
        (self.current, self.begins) = (None, false);
        let (name, reason) = rest.split_once_str(" ").map_or((rest, None), |(name, reason)| (name, Some(reason)));
        if !matches!(word, b"ok" | b"ng") {
            let (word, name) = (shown(word), shown(name));
            return self.complain(format!("proc-receive reported bad status '{word}' on ref '{name}'"));
        }
        let Some(&index) = by_name.get(name.as_bstr()) else {
            return self.complain(format!("proc-receive reported status on unknown ref: {}", shown(name)));
        };
        let selected = job.updates.get(index).is_some_and(|(_, selected)| *selected);
        let Some(reply) = self.replies.get_mut(index).filter(|reply| selected && **reply != Reply::FallThrough) else {
            return self.complain(format!("proc-receive reported status on unexpected ref: {}", shown(name)));
        };
        if word == b"ng" {
            *reply = Reply::Refused(reason.unwrap_or(b"failed").into());
            return;
        }
        (self.current, self.begins) = (Some(index), true);
        // A refusal remains, and so do earlier reports.
        if *reply == Reply::Silence {
            *reply = Reply::Done(Vec::new());
        }
    }

    /// Takes an option, which says what was actually done. Unknown options are ignored, as in git.
    fn option(&mut self, option: &[u8], hash: gix_hash::Kind) {
        let reply = self.current.and_then(|index| self.replies.get_mut(index));
        let Some(reply) = reply else {
            if !std::mem::replace(&mut self.stray, true) {
                self.complain("proc-receive reported 'option' without a matching 'ok/ng' directive".into());
            }
            return;
        };
        let (key, value) = option.split_once_str(" ").map_or((option, None), |(key, value)| (key, Some(value)));
        if key == b"fall-through" {
            *reply = Reply::FallThrough;
            return;
        }
        let Reply::Done(reports) = reply else { return };
        if std::mem::take(&mut self.begins) {
            reports.push(RefReport::default());
        }
        let Some(report) = reports.last_mut() else { return };
        let id = || gix_hash::ObjectId::from_hex(value?.get(..hash.len_in_hex())?).ok();
        match key {
            b"refname" => report.name = value.map(BString::from),
            b"old-oid" => report.old = id().or(report.old),
            b"new-oid" => report.new = id().or(report.new),
            b"forced-update" => report.forced = true,
            _ => {}
        }
    }

    fn complain(&mut self, complaint: String) {
        self.complaints.push(complaint);
    }
}

/// The line up to the first NUL, where it ends for git.
fn cut(line: &[u8]) -> &[u8] {
    line.split(|&byte| byte == 0).next().unwrap_or_default()
}

fn greeting(job: &Job<'_>) -> Vec<u8> {
    let features: Vec<&str> =
        [(job.atomic, "atomic"), (job.push_options, "push-options")].iter().filter(|f| f.0).map(|f| f.1).collect();
    let mut line = b"version=1".to_vec();
    if !features.is_empty() {
        line.push(0);
        line.extend_from_slice(features.join(" ").as_bytes());
    }
    line.push(b'\n');
    let mut bytes = Vec::new();
    add(&mut bytes, &line);
    add_flush(&mut bytes);
    bytes
}

/// Adds a packet. The cut never applies: names and options came in packets of the same size.
fn add(bytes: &mut Vec<u8>, line: &[u8]) {
    let line = line.get(..pktline::PAYLOAD_MAX).unwrap_or(line);
    pktline::line(bytes, line).expect("the line was cut to fit a packet, and memory can be written");
}

fn add_flush(bytes: &mut Vec<u8>) {
    pktline::flush(bytes).expect("memory can be written");
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "1111111111111111111111111111111111111111";
    const B: &str = "2222222222222222222222222222222222222222";
    const O: &str = "0000000000000000000000000000000000000000";

    fn update(line: &str) -> RefUpdate {
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        let id = |word: &str| match word {
            "A" => A.parse().expect("it is one"),
            "B" => B.parse().expect("it is one"),
            _ => gix_hash::ObjectId::null(gix_hash::Kind::Sha1),
        };
        RefUpdate { name: words[2].into(), change: Change::between(id(words[0]), id(words[1])) }
    }

    fn packets(lines: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for line in lines {
            match *line {
                "0000" => bytes.extend_from_slice(b"0000"),
                line => add(&mut bytes, line.as_bytes()),
            }
        }
        bytes
    }

    /// Returns what the hook reads, with `|` for a flush, and the outcome; the hook's bytes arrive `step` at a time.
    fn talk(job: Job<'_>, bytes: &[u8], step: usize) -> (String, Outcome) {
        let mut conversation = Conversation::new(job);
        let mut told = Vec::new();
        let mut pieces = bytes.chunks(step);
        loop {
            match conversation.tell() {
                Next::Bytes(bytes) => told.extend_from_slice(&bytes),
                Next::Hear => conversation.hear(pieces.next().unwrap_or_default()),
                Next::Over => break,
            }
        }
        let mut input = told.as_slice();
        let mut reader = PacketReader::new(&mut input);
        let mut words = Vec::new();
        while let Some(packet) = reader.next().expect("what is told is well formed") {
            words.push(packet.text().map_or("|".to_owned(), |line| {
                line.as_bstr().to_string().replace(A, "A").replace(B, "B").replace(O, "O").replace('\0', "+")
            }));
        }
        (words.join(" "), conversation.outcome())
    }

    /// Each conversation is about a creation, a change and a deletion below refs/for, and a branch that does not go to
    /// the hook.
    fn check(atomic: bool, lines: &[&str], expected: (&str, &str)) {
        let updates =
            [update("O A refs/for/a"), update("A B refs/for/b"), update("A O refs/for/c"), update("O A refs/heads/x")];
        let updates: Vec<(&RefUpdate, bool)> = updates.iter().zip([true, true, true, false]).collect();
        let options = ["one".into(), "two".into()];
        let limits = Limits { lines: 12, ..Limits::default() };
        let job = Job {
            updates: &updates,
            options: &options,
            atomic,
            push_options: true,
            hash: gix_hash::Kind::Sha1,
            limits: &limits,
        };
        let bytes = packets(lines);
        let (told, outcome) = talk(job, &bytes, 3);
        assert_eq!(talk(job, &bytes, 1 << 20).1, outcome, "{lines:?}");
        let mut words: Vec<String> = outcome
            .replies
            .iter()
            .take(3)
            .map(|reply| match reply {
                Reply::Silence => "-".to_owned(),
                Reply::Refused(reason) => format!("ng {reason}"),
                Reply::Done(reports) => {
                    let reports = reports.iter().map(|report| {
                        let id = |id: Option<gix_hash::ObjectId>| {
                            id.map(|id| id.to_string()[..1].to_owned()).unwrap_or_default()
                        };
                        let name = report.name.clone().unwrap_or_default();
                        format!(
                            " [{name} {}{}{}]",
                            id(report.old),
                            id(report.new),
                            if report.forced { "!" } else { "" }
                        )
                    });
                    format!("ok{}", reports.collect::<String>())
                }
                Reply::FallThrough => "through".to_owned(),
            })
            .collect();
        words.extend((!outcome.complete).then(|| "incomplete".to_owned()));
        words.extend(outcome.complaints.iter().cloned());
        assert_eq!((told.as_str(), words.join(", ").as_str()), expected, "{lines:?}");
        assert!(outcome.replies[3] == Reply::Silence, "it was not told of the branch");
    }

    const TOLD: &str = "version=1+push-options | O A refs/for/a A B refs/for/b A O refs/for/c |";

    /// Checks results that follow a well-formed greeting.
    fn check_results(results: &[&str], expected: &str) {
        check(false, &[&["version=1", "0000"], results].concat(), (TOLD, expected));
    }

    #[test]
    fn the_hook_is_told_of_its_updates_and_of_options_if_it_asks() {
        let results = ["ok refs/for/a", "ok refs/for/b", "ng refs/for/c no way", "0000"];
        check_results(&results, "ok, ok, ng no way");
        for greeting in [&["0000"][..], &["version=0\n", "0000"], &["hello", "version=1\0atomic\n", "0000"]] {
            check(false, &[greeting, &results].concat(), (TOLD, "ok, ok, ng no way"));
        }
        let greeting = ["version=1\0push-options\n", "0000"];
        let told = TOLD.replace("=1+", "=1+atomic ") + " one two |";
        check(true, &[&greeting[..], &results].concat(), (&told, "ok, ok, ng no way"));
    }

    #[test]
    fn without_a_version_that_is_known_nothing_is_told() {
        let greeting = "version=1+push-options |";
        let failed = |why: &str| format!("-, -, -, incomplete, {why}");
        check(false, &[], (greeting, &failed("fail to negotiate version with proc-receive hook")));
        check(false, &["version=1"], (greeting, &failed("fail to negotiate version with proc-receive hook")));
        check(false, &["version=2", "0000"], (greeting, &failed("proc-receive version '2' is not supported")));
        check(false, &["version=-1", "0000"], (greeting, &failed("proc-receive version '-1' is not supported")));
    }

    #[test]
    fn options_say_what_was_done_in_truth() {
        let (old, new) = (format!("option old-oid {A}"), format!("option new-oid {B}\n"));
        check_results(
            &["ok refs/for/a\n", "option refname refs/x\n", &old, &new, "option forced-update", "0000"],
            "ok [refs/x 12!], -, -",
        );
        check_results(
            &["ok refs/for/b", "option refname r", "ok refs/for/b", "ok refs/for/b", &new, "option unknown x", "0000"],
            "-, ok [r ] [ 2], -",
        );
        check_results(
            &["ok refs/for/a", "option fall-through", "ok refs/for/b", "option old-oid 12", "0000"],
            "through, ok [ ], -",
        );
        check_results(&["ng refs/for/a", "ok refs/for/a", "option refname x", "0000"], "ng failed, -, -");
    }

    #[test]
    fn what_is_wrong_with_results_is_named_in_gits_words() {
        check_results(
            &["ok", "ready refs/for/a", "ok refs/for/z", "ok refs/heads/x", "option x", "option y", "0000"],
            "-, -, -, proc-receive reported incomplete status line: 'ok', \
             proc-receive reported bad status 'ready' on ref 'refs/for/a', \
             proc-receive reported status on unknown ref: refs/for/z, \
             proc-receive reported status on unexpected ref: refs/heads/x, \
             proc-receive reported 'option' without a matching 'ok/ng' directive",
        );
        check_results(
            &["ok refs/for/a", "option fall-through", "ok refs/for/a", "0000"],
            "through, -, -, proc-receive reported status on unexpected ref: refs/for/a",
        );
        check_results(
            &["ng refs/for/a x", "option refname y", "0000"],
            "ng x, -, -, proc-receive reported 'option' without a matching 'ok/ng' directive",
        );
    }

    #[test]
    fn an_early_end_keeps_what_was_said() {
        check_results(&[], "-, -, -, incomplete, proc-receive exited abnormally");
        check_results(&["ok refs/for/a"], "ok, -, -");
        check_results(&["0000", "ok refs/for/a"], "-, -, -");
        check_results(&["ERR no", "0000"], "-, -, -, proc-receive reported bad status 'ERR' on ref 'no'");
        check_results(&["ok refs/for/a"; 12], "ok, -, -, incomplete, proc-receive reported more than is allowed");
    }

    #[test]
    fn bytes_that_are_no_packets_end_the_conversation() {
        let updates = [update("O A r")];
        let updates: Vec<(&RefUpdate, bool)> = updates.iter().map(|update| (update, true)).collect();
        let limits = Limits::default();
        let hash = gix_hash::Kind::Sha1;
        let job = Job { updates: &updates, options: &[], atomic: false, push_options: false, hash, limits: &limits };
        let (told, outcome) = talk(job, b"Hello, world", 1 << 20);
        assert_eq!(told, "version=1 |");
        assert_eq!(outcome.complaints, ["protocol error: bad line length character: Hell"]);
        assert!(!outcome.is_well(&[true]));
    }

    fn check_selector(value: &str, expected: &str) {
        let selector = Selector::parse(value.into());
        let cases = [("a", "O A"), ("m", "A B"), ("d", "A O"), ("n", "O O")];
        let kinds = |name: &str| -> String {
            cases
                .iter()
                .filter(|case| selector.selects(&update(&format!("{} {name}", case.1))))
                .map(|case| case.0)
                .collect()
        };
        let told = format!("{}/{}/{}", kinds("refs/for"), kinds("refs/for/x"), kinds("refs/forward"));
        assert_eq!(told, expected, "{value}");
    }

    #[test]
    fn selectors_are_of_kinds_and_whole_components() {
        check_selector("refs/for", "amdn/amdn/");
        check_selector("refs/for//", "amdn/amdn/");
        check_selector("adm:refs/for", "amdn/amdn/");
        check_selector("a:refs/for", "a/a/");
        check_selector("md:refs/for/", "md/md/");
        check_selector("!am:refs/for", "//am");
        check_selector(":refs/for", "//");
        check_selector("refs/for/x", "/amdn/");
        check_selector("refs/fo", "//");
    }
}

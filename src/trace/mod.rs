//! Traces in git's formats: `GIT_TRACE`, `GIT_TRACE_PACKET`, `GIT_TRACE2_EVENT`.
//!
//! In: the values of the variables, and what happens. Out: lines, appended to files or to standard error. If nothing is
//! traced, a [`Trace`] is empty and costs one comparison per call. A trace that cannot be written never fails a
//! request; credentials never get here.

mod packets;

use crate::calendar::civil;
use crate::stream::{Body, Pulse, Sink};
use packets::{Direction, Packets};
use serde_json::{Value, json};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The most bytes held back while standard error must be silent; anything beyond is lost.
const HELD_MAX: usize = 1 << 20;
/// The column in which the text of git's lines begins.
const COLUMN: usize = 40;

/// The values of the variables; `None` if a variable is not set.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// `GIT_TRACE`: the commands that are run.
    pub general: Option<String>,
    /// `GIT_TRACE_PACKET`: every packet, in both directions.
    pub packets: Option<String>,
    /// `GIT_TRACE2_EVENT`: events in JSON.
    pub events: Option<String>,
    /// `GIT_TRACE_BARE`: lines without time and source location.
    pub bare: bool,
    /// `GIT_TRACE2_PARENT_SID`: a prefix of the session id of events.
    pub parent: Option<String>,
    /// `GIT_TRACE2_PARENT_NAME`: the name of the parent process.
    pub parent_name: Option<String>,
}

/// Where traces go; by default nowhere.
#[derive(Clone, Default)]
pub struct Trace(Option<Arc<Tracing>>);

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Trace(on)" } else { "Trace(off)" })
    }
}

struct Tracing {
    general: Option<Target>,
    packets: Option<Target>,
    events: Option<Target>,
    bare: bool,
    /// The session id of events.
    session: String,
    parent_name: Option<String>,
    /// The time since 1970, from the edge.
    clock: fn() -> Duration,
    start: Duration,
    children: AtomicU32,
    /// Text held back while standard error must be silent; `None` once it may be used.
    held: Mutex<Option<Vec<u8>>>,
}

enum Target {
    Stderr,
    File(File),
}

impl Trace {
    /// Opens the traces asked for, and returns warnings about those that cannot be opened. `hold`: standard error must
    /// be silent until [`Trace::release`].
    pub fn open(wanted: &Wanted, session: &str, clock: fn() -> Duration, hold: bool) -> (Self, Vec<String>) {
        let mut warnings = Vec::new();
        let mut target = |name: &str, value: &Option<String>| {
            let value = value.as_deref()?;
            open(name, value, session).unwrap_or_else(|warning| {
                warnings.push(warning);
                None
            })
        };
        let (general, packets, events) = (
            target("GIT_TRACE", &wanted.general),
            target("GIT_TRACE_PACKET", &wanted.packets),
            target("GIT_TRACE2_EVENT", &wanted.events),
        );
        if general.is_none() && packets.is_none() && events.is_none() {
            return (Trace(None), warnings);
        }
        let session = match &wanted.parent {
            Some(parent) => format!("{parent}/{session}"),
            None => session.to_owned(),
        };
        let tracing = Tracing {
            general,
            packets,
            events,
            bare: wanted.bare,
            session,
            parent_name: wanted.parent_name.clone(),
            clock,
            start: clock(),
            children: AtomicU32::new(0),
            held: Mutex::new(hold.then(Vec::new)),
        };
        (Trace(Some(Arc::new(tracing))), warnings)
    }

    /// Whether anything is traced.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Writes what was held back; from here on standard error may be used.
    pub fn release(&self) {
        let Some(tracing) = &self.0 else { return };
        let held = tracing.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(held) = held.filter(|held| !held.is_empty()) {
            let _ = io::stderr().write_all(&held);
        }
    }

    /// Records that the program was started as `name`, with these words.
    pub fn started(&self, name: &str, words: &[String]) {
        let Some(tracing) = &self.0 else { return };
        tracing.line(tracing.general.as_ref(), format_args!("trace: built-in: git {name} {}", words.join(" ")));
        let hierarchy = match &tracing.parent_name {
            Some(parent) => format!("{parent}/{name}"),
            None => name.to_owned(),
        };
        tracing.event("version", &[("evt", json!("4")), ("exe", json!(env!("CARGO_PKG_VERSION")))]);
        let argv: Vec<&str> = std::iter::once(name).chain(words.iter().map(String::as_str)).collect();
        tracing.event("start", &[("t_abs", tracing.elapsed()), ("argv", json!(argv))]);
        tracing.event("cmd_name", &[("name", json!(name)), ("hierarchy", json!(hierarchy))]);
    }

    /// Records a fatal error as it was reported.
    pub fn failed(&self, line: &str) {
        let Some(tracing) = &self.0 else { return };
        tracing.event("error", &[("msg", json!(line)), ("fmt", json!("%s"))]);
    }

    /// Records the end of the program.
    pub fn ended(&self, code: u8) {
        let Some(tracing) = &self.0 else { return };
        for event in ["exit", "atexit"] {
            tracing.event(event, &[("t_abs", tracing.elapsed()), ("code", json!(code))]);
        }
    }

    /// Records a `data` event.
    pub fn data(&self, category: &str, key: &str, value: &str) {
        let Some(tracing) = &self.0 else { return };
        tracing.data("data", category, key, json!(value));
    }

    /// Records a `data_json` event. The value is computed only if events are traced.
    pub fn data_json(&self, category: &str, key: &str, value: impl FnOnce() -> Value) {
        let Some(tracing) = self.0.as_ref().filter(|tracing| tracing.events.is_some()) else { return };
        tracing.data("data_json", category, key, value());
    }

    /// Records that a child is about to be run: a hook, or another program that the configuration names.
    pub fn child(&self, class: &str, name: &str, argv: &dyn Fn() -> Vec<String>) -> ChildTrace<'_> {
        let Some(tracing) = &self.0 else { return ChildTrace(None) };
        let argv = argv();
        tracing.line(tracing.general.as_ref(), format_args!("trace: run_command: {}", argv.join(" ")));
        let number = tracing.children.fetch_add(1, Ordering::Relaxed);
        let child = [
            ("child_id", json!(number)),
            ("child_class", json!(class)),
            ("hook_name", json!(name)),
            ("use_shell", json!(false)),
            ("argv", json!(argv)),
        ];
        tracing.event("child_start", &child);
        ChildTrace(Some((tracing, number, (tracing.clock)())))
    }

    /// Wraps the body and the sink of a conversation so that the packets passing through are traced.
    pub fn watch<'t>(
        &'t self,
        who: &'static str,
        body: &'t mut dyn Body,
        sink: &'t mut dyn Sink,
    ) -> (WatchedBody<'t>, WatchedSink<'t>) {
        let body = WatchedBody { body, trace: self, packets: Packets::new(who, Direction::In) };
        (body, self.watch_sink(who, sink))
    }

    /// Wraps a sink alone. It must be between two packets.
    pub fn watch_sink<'t>(&'t self, who: &'static str, sink: &'t mut dyn Sink) -> WatchedSink<'t> {
        WatchedSink { sink, trace: self, packets: Packets::new(who, Direction::Out) }
    }

    fn packets(&self, packets: &mut Packets, bytes: &[u8]) {
        if let Some(tracing) = self.0.as_ref().filter(|tracing| tracing.packets.is_some()) {
            packets.feed(bytes, &mut |line| tracing.line(tracing.packets.as_ref(), line));
        }
    }
}

/// A running child, whose end is to be recorded.
pub struct ChildTrace<'t>(Option<(&'t Tracing, u32, Duration)>);

impl ChildTrace<'_> {
    /// Records that the child has ended with this status; −1 if it could not be run.
    pub fn ended(self, code: i32) {
        let Some((tracing, number, start)) = self.0 else { return };
        let time = seconds((tracing.clock)().saturating_sub(start));
        tracing.event("child_exit", &[("child_id", json!(number)), ("code", json!(code)), ("t_rel", time)]);
    }
}

impl Tracing {
    fn elapsed(&self) -> Value {
        seconds((self.clock)().saturating_sub(self.start))
    }

    fn data(&self, event: &str, category: &str, key: &str, value: Value) {
        let fields = [
            ("t_abs", self.elapsed()),
            ("t_rel", self.elapsed()),
            ("nesting", json!(1)),
            ("category", json!(category)),
            ("key", json!(key)),
            ("value", value),
        ];
        self.event(event, &fields);
    }

    /// Writes an event as one JSON object. The order of fields is fixed, because some readers use regular expressions.
    fn event(&self, event: &str, fields: &[(&str, Value)]) {
        let Some(target) = &self.events else { return };
        let now = (self.clock)();
        let (year, month, day) = civil(now.as_secs() / 86_400);
        let time = format!("{year:04}-{month:02}-{day:02}T{}Z", time_of_day(now));
        let common =
            [("event", json!(event)), ("sid", json!(self.session)), ("thread", json!("main")), ("time", json!(time))];
        let fields: Vec<String> =
            common.iter().chain(fields).map(|(name, value)| format!("{}:{value}", json!(name))).collect();
        self.write(target, format!("{{{}}}\n", fields.join(",")).as_bytes());
    }

    fn line(&self, target: Option<&Target>, text: fmt::Arguments<'_>) {
        let Some(target) = target else { return };
        let line = if self.bare {
            format!("{text}\n")
        } else {
            let place = format!("{} artifacts ", time_of_day((self.clock)()));
            format!("{place:COLUMN$}{text}\n")
        };
        self.write(target, line.as_bytes());
    }

    fn write(&self, target: &Target, bytes: &[u8]) {
        match target {
            // Each line is one write to a file opened for appending, because several programs may share it.
            Target::File(file) => {
                let _ = (&*file).write_all(bytes);
            }
            Target::Stderr => match &mut *self.held.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(held) if held.len() + bytes.len() > HELD_MAX => {}
                Some(held) => held.extend_from_slice(bytes),
                None => {
                    let _ = io::stderr().write_all(bytes);
                }
            },
        }
    }
}

/// Opens what a value names, as git reads it (git, GIT_TRACE): nothing, standard error, a descriptor, or an absolute
/// path; in a directory each session gets its own file.
fn open(name: &str, value: &str, session: &str) -> Result<Option<Target>, String> {
    let append = |path: &Path| {
        let file = OpenOptions::new().append(true).create(true).open(path);
        file.map(|file| Some(Target::File(file)))
            .map_err(|error| format!("could not open '{}' for tracing: {error}", path.display()))
    };
    match value {
        "" | "0" => Ok(None),
        "1" | "2" => Ok(Some(Target::Stderr)),
        _ if value.eq_ignore_ascii_case("false") => Ok(None),
        _ if value.eq_ignore_ascii_case("true") => Ok(Some(Target::Stderr)),
        "3" | "4" | "5" | "6" | "7" | "8" | "9" => append(&Path::new("/proc/self/fd").join(value)),
        _ if value.starts_with('/') && Path::new(value).is_dir() => append(&Path::new(value).join(session)),
        _ if value.starts_with('/') => append(Path::new(value)),
        _ => Err(format!("unknown trace value for '{name}': {value}; to trace into a file give an absolute path")),
    }
}

fn seconds(time: Duration) -> Value {
    json!(time.as_micros() as f64 / 1e6)
}

/// The time of day in UTC, with microseconds.
fn time_of_day(now: Duration) -> String {
    let (of_day, micros) = (now.as_secs() % 86_400, now.subsec_micros());
    format!("{:02}:{:02}:{:02}.{micros:06}", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// A body whose packets are traced.
pub struct WatchedBody<'t> {
    body: &'t mut dyn Body,
    trace: &'t Trace,
    packets: Packets,
}

impl Read for WatchedBody<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.body.read(into)?;
        self.trace.packets(&mut self.packets, into.get(..read).unwrap_or_default());
        Ok(read)
    }
}

impl Body for WatchedBody<'_> {
    fn finish(&mut self) -> io::Result<u64> {
        let rest = self.body.finish();
        self.trace.release();
        rest
    }
}

/// A sink whose packets are traced.
pub struct WatchedSink<'t> {
    sink: &'t mut dyn Sink,
    trace: &'t Trace,
    packets: Packets,
}

impl Write for WatchedSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.sink.write(bytes)?;
        self.trace.packets(&mut self.packets, bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

impl Pulse for WatchedSink<'_> {
    fn begin(&mut self, title: &'static str, total: Option<u64>) -> io::Result<()> {
        self.sink.begin(title, total)
    }

    fn tick(&mut self, done: u64) -> io::Result<()> {
        self.sink.tick(done)
    }

    fn end(&mut self) -> io::Result<()> {
        self.sink.end()
    }
}

impl Sink for WatchedSink<'_> {
    fn aside(&mut self, text: &[u8]) -> io::Result<()> {
        self.sink.aside(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body in memory.
    struct Given<'a>(&'a [u8]);

    impl Read for Given<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0.read(into)
        }
    }

    impl Body for Given<'_> {
        fn finish(&mut self) -> io::Result<u64> {
            Ok(0)
        }
    }

    /// 2025-11-20, 01:15 UTC.
    fn clock() -> Duration {
        Duration::from_micros(1_763_601_300_000_042)
    }

    fn traced(wanted: impl FnOnce(&str) -> Wanted, work: impl FnOnce(&Trace)) -> String {
        let path = std::env::temp_dir().join(crate::durable::unique("trace-test-"));
        let (trace, warnings) = Trace::open(&wanted(path.to_str().expect("UTF-8")), "sid", clock, false);
        assert_eq!(warnings, [""; 0]);
        work(&trace);
        let text = std::fs::read_to_string(&path).expect("it was traced");
        std::fs::remove_file(&path).expect("it is there");
        text
    }

    #[test]
    fn packets_of_both_directions_are_told_in_gits_form() {
        let wanted = |path: &str| Wanted { packets: Some(path.to_owned()), ..Wanted::default() };
        let text = traced(wanted, |trace| {
            let (mut given, mut out) = (Given(b"0009want\n0000"), Vec::new());
            let (mut body, mut sink) = trace.watch("upload-pack", &mut given, &mut out);
            body.read_to_end(&mut Vec::new()).expect("memory can be read");
            sink.write_all(b"0008NAK\n").expect("memory can be written");
            assert_eq!(out, b"0008NAK\n");
        });
        let expected = "\
            01:15:00.000042 artifacts               packet:  upload-pack< want\n\
            01:15:00.000042 artifacts               packet:  upload-pack< 0000\n\
            01:15:00.000042 artifacts               packet:  upload-pack> NAK\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn bare_lines_have_no_time() {
        let wanted = |path: &str| Wanted { general: Some(path.to_owned()), bare: true, ..Wanted::default() };
        let text = traced(wanted, |trace| {
            trace.started("receive-pack", &["/r.git".to_owned()]);
            trace.child("hook", "update", &|| vec!["hooks/update".to_owned(), "refs/heads/main".to_owned()]).ended(0);
        });
        let expected = "trace: built-in: git receive-pack /r.git\ntrace: run_command: hooks/update refs/heads/main\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn events_are_json_with_their_fields_in_gits_order() {
        let wanted = |path: &str| Wanted {
            events: Some(path.to_owned()),
            parent: Some("parent".to_owned()),
            parent_name: Some("clone".to_owned()),
            ..Wanted::default()
        };
        let text = traced(wanted, |trace| {
            trace.started("upload-pack", &["r".to_owned()]);
            trace.data("transfer", "negotiated-version", "2");
            trace.data_json("upload-pack", "fetch-info", || json!({"wants": 1}));
            trace.child("hook", "update", &|| vec!["hooks/update".to_owned()]).ended(1);
            trace.failed("fatal: no");
            trace.ended(0);
        });
        let has = |part: &str| assert!(text.contains(part), "{part} is not in {text}");
        has(r#"{"event":"version","sid":"parent/sid","thread":"main","time":"2025-11-20T01:15:00.000042Z","evt":"4""#);
        has(r#""event":"start""#);
        has(r#""argv":["upload-pack","r"]"#);
        has(r#""name":"upload-pack","hierarchy":"clone/upload-pack""#);
        has(r#""category":"transfer","key":"negotiated-version","value":"2"}"#);
        has(r#""event":"data_json""#);
        has(r#""key":"fetch-info","value":{"wants":1}"#);
        has(r#""event":"child_exit""#);
        has(r#""event":"error""#);
        has(r#""msg":"fatal: no""#);
        has(r#""event":"atexit""#);
        assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{text}");
    }

    #[test]
    fn what_is_not_wanted_is_not_opened_and_what_cannot_be_is_told() {
        let check = |value: &str, on: bool, warning: Option<&str>| {
            let wanted = Wanted { packets: Some(value.to_owned()), ..Wanted::default() };
            let (trace, warnings) = Trace::open(&wanted, "sid", clock, true);
            assert_eq!(trace.is_on(), on, "{value}");
            assert_eq!(warnings.iter().any(|said| warning.is_some_and(|part| said.contains(part))), warning.is_some());
        };
        check("", false, None);
        check("0", false, None);
        check("False", false, None);
        check("1", true, None);
        check("true", true, None);
        check("relative/path", false, Some("unknown trace value for 'GIT_TRACE_PACKET'"));
        check("/no/such/directory/file", false, Some("could not open '/no/such/directory/file' for tracing"));
        assert!(!Trace::default().is_on());
    }
}

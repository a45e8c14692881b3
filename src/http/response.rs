//! The answer. Its head goes out with the first bytes, in one write, and never before the request's body has been read.
//!
//! In: a status, header lines, bytes. Out: a CGI response (RFC 3875, 6) into the edge's sink. A small answer gets a
//! Content-Length, which is the only way for a client to notice truncation, unless it is flushed early, or the operator
//! gets a line about it behind nginx (see [`Response::hold_the_server`]).

use super::request::{Form, Reject};
use crate::pktline;
use crate::stream::{Pulse, Sink};
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The bytes gathered before the first write, and between writes.
const BUFFER: usize = 16 << 10;
/// The most bytes held back while the request's body is still being read.
const HELD_MAX: usize = 1 << 20;
/// The longest that gathered bytes wait while work goes on.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// How long caches between us and the client may keep an answer (HD-01, HD-07, HD-11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caching {
    /// Never.
    No,
    /// For a year: the name determines the content.
    Forever {
        /// The current time in unix seconds, for `Date` and `Expires`.
        now: u64,
        /// Whether shared caches may keep it, or only the client itself.
        shared: bool,
    },
    /// No caching headers are sent.
    Unsaid,
}

/// The response to one request.
pub struct Response<'a> {
    out: &'a mut dyn Sink,
    /// The request's body has been read to its end, so the answer may start.
    finished: Arc<AtomicBool>,
    /// Only the head is sent, as for HEAD.
    without_body: bool,
    status: u16,
    headers: Vec<(&'static str, String)>,
    caching: Caching,
    length: Option<u64>,
    /// Whether an answer of known size gets a Content-Length.
    measured: bool,
    streams: bool,
    behind_nginx: bool,
    head_sent: bool,
    buffer: Vec<u8>,
    waiting_since: Option<Instant>,
    ticks: u32,
    bytes: u64,
}

impl<'a> Response<'a> {
    /// An answer that has not begun: status 200, no content type.
    pub fn new(out: &'a mut dyn Sink, finished: Arc<AtomicBool>) -> Self {
        Response {
            out,
            finished,
            without_body: false,
            status: 200,
            headers: Vec::new(),
            caching: Caching::No,
            length: None,
            measured: true,
            streams: false,
            behind_nginx: true,
            head_sent: false,
            buffer: Vec::new(),
            waiting_since: None,
            ticks: 0,
            bytes: 0,
        }
    }

    /// Drops the body, whatever is written: for HEAD and 304.
    pub fn without_body(&mut self) {
        self.without_body = true;
    }

    /// Omits the header that turns nginx's buffering off, because the server is another one.
    pub fn not_behind_nginx(&mut self) {
        self.behind_nginx = false;
    }

    /// Keeps the server listening to standard error, since the operator gets a line about this answer. Once nginx has
    /// as many bytes as Content-Length says, it reads no more of standard error, so the length is left out. Has no
    /// effect once the head has been sent.
    pub fn hold_the_server(&mut self) {
        self.measured &= !self.behind_nginx;
    }

    /// Sets the content type and caching. `streams`: the length is not known and the answer may take long.
    pub fn describe(&mut self, media: &str, caching: Caching, streams: bool) {
        self.headers.clear();
        self.header("Content-Type", media);
        self.caching = caching;
        self.streams = streams;
    }

    /// Adds a header line.
    pub fn header(&mut self, name: &'static str, value: impl Into<String>) {
        self.headers.push((name, value.into()));
    }

    /// Sets the length of the body, in bytes.
    pub fn length(&mut self, bytes: u64) {
        self.length = Some(bytes);
    }

    /// Sets the status; the default is 200.
    pub fn status(&mut self, status: u16) {
        self.status = status;
    }

    /// The status that has been sent, or will be.
    pub fn status_sent(&self) -> u16 {
        self.status
    }

    /// The number of bytes of the body that have been sent or are waiting.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Answers with a refusal and drops what was gathered. Has no effect once bytes have been sent.
    ///
    /// # Errors
    /// What the sink reports.
    pub fn reject(&mut self, reject: &Reject) -> io::Result<()> {
        if self.head_sent {
            return Ok(());
        }
        self.buffer.clear();
        self.bytes = 0;
        let (media, body) = written(reject)?;
        self.describe(media, Caching::No, false);
        for (name, value) in &reject.headers {
            self.header(name, value.clone());
        }
        self.status = reject.status;
        self.hold_the_server();
        self.length = self.measured.then_some(body.len() as u64);
        self.write_all(&body)
    }

    /// Sends the rest. Called once the service is done.
    ///
    /// # Errors
    /// What the sink reports.
    pub fn end(&mut self) -> io::Result<()> {
        self.finished.store(true, Ordering::Relaxed);
        if !self.head_sent && self.length.is_none() && self.measured && !self.without_body {
            self.length = Some(self.buffer.len() as u64);
        }
        self.push()?;
        self.out.flush()
    }

    fn head(&self) -> String {
        use std::fmt::Write as _;
        let mut head = String::with_capacity(512);
        if self.status != 200 {
            let _ = write!(head, "Status: {} {}\r\n", self.status, reason(self.status));
        }
        match self.caching {
            Caching::No => head.push_str(
                "Expires: Fri, 01 Jan 1980 00:00:00 GMT\r\nPragma: no-cache\r\n\
                 Cache-Control: no-cache, max-age=0, must-revalidate\r\n",
            ),
            Caching::Forever { now, shared } => {
                let _ = write!(
                    head,
                    "Date: {}\r\nExpires: {}\r\nCache-Control: {}, max-age=31536000\r\n",
                    http_date(now),
                    http_date(now + 31_536_000),
                    if shared { "public" } else { "private" }
                );
            }
            Caching::Unsaid => {}
        }
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if let Some(length) = self.length {
            let _ = write!(head, "Content-Length: {length}\r\n");
        } else if self.streams && self.behind_nginx {
            head.push_str("X-Accel-Buffering: no\r\n");
        }
        head.push_str("\r\n");
        head
    }

    fn count(&mut self, bytes: u64) {
        if !self.without_body {
            self.bytes += bytes;
        }
    }

    /// Writes what was gathered, with the head before the first of it; nothing while the body is still being read.
    fn push(&mut self) -> io::Result<()> {
        if !self.finished.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.waiting_since = None;
        if !self.head_sent {
            self.head_sent = true;
            let mut first = self.head().into_bytes();
            if !self.without_body {
                first.extend_from_slice(&self.buffer);
            }
            self.buffer.clear();
            return self.out.write_all(&first);
        }
        let sent = if self.without_body { Ok(()) } else { self.out.write_all(&self.buffer) };
        self.buffer.clear();
        sent
    }
}

impl Write for Response<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.count(bytes.len() as u64);
        if self.finished.load(Ordering::Relaxed) && self.buffer.len() + bytes.len() > BUFFER {
            self.push()?;
            if bytes.len() >= BUFFER {
                if !self.without_body {
                    self.out.write_all(bytes)?;
                }
                return Ok(bytes.len());
            }
        }
        if self.buffer.len() + bytes.len() > HELD_MAX {
            return Err(io::Error::other("more is to be said than is held back while the request is being read"));
        }
        self.buffer.extend_from_slice(bytes);
        self.waiting_since.get_or_insert_with(Instant::now);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.finished.load(Ordering::Relaxed) && (!self.head_sent || !self.buffer.is_empty()) {
            self.push()?;
        }
        self.out.flush()
    }
}

impl Pulse for Response<'_> {
    fn tick(&mut self, done: u64) -> io::Result<()> {
        // Every tick reaches the sink. That is cheap, and a hook's ticks come a second apart, so SIGTERM and the
        // deadline must be seen at the next one.
        self.out.tick(done)?;
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(256) && self.waiting_since.is_some_and(|since| since.elapsed() > WAIT_MAX) {
            self.push()?;
        }
        Ok(())
    }
}

impl Sink for Response<'_> {
    fn send_file(&mut self, file: &File, range: Range<u64>) -> io::Result<()> {
        self.flush()?;
        self.count(range.end.saturating_sub(range.start));
        if self.without_body { Ok(()) } else { self.out.send_file(file, range) }
    }
}

/// The media type and body of a refusal.
fn written(reject: &Reject) -> io::Result<(&'static str, Vec<u8>)> {
    let line = |text: &dyn std::fmt::Display| format!("{text}\n").into_bytes();
    Ok(match reject.form {
        Form::Text => ("text/plain", line(&reject.text)),
        Form::Lfs => ("application/vnd.git-lfs+json", line(&serde_json::json!({ "message": reject.text }))),
        Form::Archive => {
            let mut packets = Vec::new();
            pktline::err(&mut packets, &reject.text)?;
            pktline::flush(&mut packets)?;
            ("application/x-git-upload-archive-result", packets)
        }
    })
}

/// The reason phrase of a status.
fn reason(status: u16) -> &'static str {
    match status {
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

/// Formats unix seconds as an HTTP date (RFC 9110, 5.6.7).
pub fn http_date(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let days = seconds / 86_400;
    let (year, month, day) = crate::calendar::civil(days);
    let weekday = DAYS[usize::try_from(days % 7).expect("less than seven")];
    let month = MONTHS[usize::try_from(month - 1).expect("less than twelve")];
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records each write.
    #[derive(Default)]
    struct Writes(Vec<String>);

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.push(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Pulse for Writes {
        fn tick(&mut self, _done: u64) -> io::Result<()> {
            Ok(())
        }
    }

    impl Sink for Writes {}

    fn answer(write: impl FnOnce(&mut Response<'_>, &AtomicBool)) -> Vec<String> {
        let mut out = Writes::default();
        let finished = Arc::new(AtomicBool::new(false));
        let mut response = Response::new(&mut out, Arc::clone(&finished));
        write(&mut response, &finished);
        out.0
    }

    const NO_CACHE: &str = "Expires: Fri, 01 Jan 1980 00:00:00 GMT\r\nPragma: no-cache\r\nCache-Control: no-cache, max-age=0, must-revalidate\r\n";

    #[test]
    fn a_small_answer_is_one_write_with_its_length() {
        let writes = answer(|response, finished| {
            finished.store(true, Ordering::Relaxed);
            response.describe("text/x", Caching::No, true);
            response.write_all(b"one").unwrap();
            response.write_all(b"two").unwrap();
            response.end().unwrap();
        });
        assert_eq!(writes, [format!("{NO_CACHE}Content-Type: text/x\r\nContent-Length: 6\r\n\r\nonetwo")]);
    }

    #[test]
    fn nothing_is_said_before_the_body_was_read() {
        let writes = answer(|response, finished| {
            response.describe("text/x", Caching::No, true);
            response.write_all(b"early").unwrap();
            response.flush().unwrap();
            response.tick(1).unwrap();
            assert!(!response.head_sent);
            finished.store(true, Ordering::Relaxed);
            response.flush().unwrap();
            response.write_all(b"late").unwrap();
            response.end().unwrap();
        });
        let head = format!("{NO_CACHE}Content-Type: text/x\r\nX-Accel-Buffering: no\r\n\r\n");
        assert_eq!(writes, [format!("{head}early"), "late".into()]);
    }

    #[test]
    fn a_refusal_drops_what_was_gathered_and_head_gets_no_body() {
        let reject = Reject::new(403, "No.").header("Allow", "POST");
        let refused = |without_body: bool, nginx: bool| {
            answer(|response, finished| {
                if !nginx {
                    response.not_behind_nginx();
                }
                if without_body {
                    response.without_body();
                }
                finished.store(true, Ordering::Relaxed);
                response.describe("text/x", Caching::No, true);
                response.write_all(b"half").unwrap();
                response.reject(&reject).unwrap();
                response.end().unwrap();
                assert_eq!(response.bytes(), if without_body { 0 } else { 4 });
            })
        };
        let head = format!("Status: 403 Forbidden\r\n{NO_CACHE}Content-Type: text/plain\r\nAllow: POST\r\n");
        assert_eq!(refused(false, true), [format!("{head}\r\nNo.\n")]);
        assert_eq!(refused(true, true), [format!("{head}\r\n")]);
        assert_eq!(refused(false, false), [format!("{head}Content-Length: 4\r\n\r\nNo.\n")]);
        assert_eq!(refused(true, false), [format!("{head}Content-Length: 4\r\n\r\n")]);
    }

    #[test]
    fn dates_have_the_form_of_http() {
        let check = |seconds, expected: &str| assert_eq!(http_date(seconds), expected);
        check(0, "Thu, 01 Jan 1970 00:00:00 GMT");
        check(784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT");
        check(951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT");
        check(4_102_444_799, "Thu, 31 Dec 2099 23:59:59 GMT");
    }
}

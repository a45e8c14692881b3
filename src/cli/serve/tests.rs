//! The server hosting small shell programs, tested byte by byte.

use super::*;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::oneshot;

/// A running server.
struct Served {
    address: SocketAddr,
    scratch: PathBuf,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    /// Hosts `script`, whose `$scratch` is a directory of its own.
    fn new(script: &str) -> Self {
        Self::with(script, Limits { grace: Duration::from_millis(200), ..Limits::default() })
    }

    fn with(script: &str, limits: Limits) -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let scratch = std::env::temp_dir().join(format!("serve-{}-{count}", std::process::id()));
        std::fs::create_dir(&scratch).unwrap();
        // Written by another process: a child that another test starts could hold a descriptor of ours open for writing
        // (ETXTBSY).
        let program = scratch.join("program");
        let mut tee = std::process::Command::new("tee");
        tee.arg(&program).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
        let mut writer = tee.spawn().unwrap();
        write!(writer.stdin.take().unwrap(), "#!/bin/sh\nscratch={}\n{script}", scratch.display()).unwrap();
        assert!(writer.wait().unwrap().success());
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();

        let (end, ended) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                let environment = inherited(std::env::vars_os());
                accept(listener, Arc::new(Host::new(program, environment, limits)), async {
                    ended.await.unwrap_or(())
                })
                .await;
            });
        });
        Served { address: told.recv().unwrap(), scratch, end: Some(end), thread: Some(thread) }
    }

    /// Opens a connection and sends `bytes`.
    fn send(&self, bytes: &str) -> Connection {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut connection = Connection(BufReader::new(stream));
        connection.send(bytes);
        connection
    }

    /// The status line and body of the answer to a GET request.
    fn get(&self, path: &str) -> (String, String) {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")).answer()
    }

    /// Waits for the file `name`, which the program writes.
    fn file(&self, name: &str) -> String {
        let mut text = String::new();
        eventually(name, || {
            text = std::fs::read_to_string(self.scratch.join(name)).unwrap_or_default();
            text.ends_with('\n')
        });
        text.trim_end().into()
    }

    fn end(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.end();
        std::fs::remove_dir_all(&self.scratch).unwrap();
    }
}

struct Connection(BufReader<TcpStream>);

impl Connection {
    fn send(&mut self, bytes: &str) {
        self.0.get_mut().write_all(bytes.as_bytes()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        assert!(line.ends_with("\r\n"), "{line:?}");
        line.trim_end().to_owned()
    }

    /// The header block: the status line, and the other lines in lowercase.
    fn head(&mut self) -> (String, Vec<String>) {
        let status = self.line();
        let headers = std::iter::repeat_with(|| self.line().to_ascii_lowercase()).take_while(|line| !line.is_empty());
        (status, headers.collect())
    }

    fn chunk(&mut self) -> String {
        let size = usize::from_str_radix(&self.line(), 16).unwrap();
        let mut data = vec![0; size];
        self.0.read_exact(&mut data).unwrap();
        assert_eq!(self.line(), "");
        String::from_utf8(data).unwrap()
    }

    /// The status line, and the body however it is framed.
    fn answer(&mut self) -> (String, String) {
        let (status, headers) = self.head();
        let mut body = String::new();
        if headers.iter().any(|line| line == "transfer-encoding: chunked") {
            while let chunk = self.chunk()
                && !chunk.is_empty()
            {
                body += &chunk;
            }
        } else {
            let length = headers.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            (&mut self.0).take(length.parse().unwrap()).read_to_string(&mut body).unwrap();
        }
        (status, body)
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(10), "not within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the process has been reaped: a zombie is still listed in /proc.
fn gone(pid: &str) {
    assert!(pid.parse::<u32>().is_ok(), "{pid:?}");
    eventually("the program is gone", || !Path::new("/proc").join(pid).exists());
}

#[test]
fn a_request_becomes_variables_and_output_becomes_an_answer() {
    let served = Served::new(
        "printf 'Status: 418 Tea\\r\\nX-Pot: 1\\r\\n\\r\\n'
         echo $REQUEST_METHOD $SCRIPT_NAME $PATH_INFO $QUERY_STRING $HTTP_GIT_PROTOCOL ${CONTENT_LENGTH-none} $GATEWAY_INTERFACE $REMOTE_ADDR",
    );
    let mut connection =
        served.send("GET /git/a%20b/c.git/info/refs?service=x HTTP/1.1\r\nHost: h\r\nGit-Protocol: version=2\r\n\r\n");
    let (status, body) = connection.answer();
    assert_eq!(status, "HTTP/1.1 418 I'm a teapot");
    assert_eq!(body, "GET /git /a b/c.git/info/refs service=x version=2 none CGI/1.1 127.0.0.1\n");
}

#[test]
fn a_connection_serves_one_request_after_another() {
    let served = Served::new("printf 'Content-Length: 2\\r\\n\\r\\n'; head -c 2");
    let mut connection = served.send("");
    for _ in 0..3 {
        connection.send("POST /git/a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(connection.answer(), ("HTTP/1.1 200 OK".into(), "ok".into()));
    }
}

#[test]
fn other_paths_are_not_found() {
    let served = Served::new("exit 1");
    for path in ["/", "/git", "/gitk/a", "/favicon.ico"] {
        let (status, body) = served.get(path);
        assert_eq!((status.as_str(), body.contains("/git/<namespace>")), ("HTTP/1.1 404 Not Found", true), "{path}");
    }
    assert_eq!(served.get("/git/a%00b").0, "HTTP/1.1 400 Bad Request");
}

#[test]
fn bytes_pass_both_ways_while_both_sides_still_speak() {
    let served = Served::new("printf 'X: 1\\n\\n'; echo ${CONTENT_LENGTH-unknown}; exec cat");
    let mut connection = served.send("POST /git/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(connection.head().0, "HTTP/1.1 200 OK");
    assert_eq!(connection.chunk(), "unknown\n");
    for word in ["one", "two"] {
        connection.send(&format!("3\r\n{word}\r\n"));
        assert_eq!(connection.chunk(), word);
    }
    connection.send("0\r\n\r\n");
    assert_eq!(connection.chunk(), "");
}

#[test]
fn a_program_that_writes_everything_before_it_reads_does_not_block() {
    let served = Served::new("printf 'X: 1\\n\\n'; head -c 3000000 /dev/zero | tr '\\0' x; wc -c");
    let mut connection = served.send("POST /git/a HTTP/1.1\r\nHost: h\r\nContent-Length: 4000000\r\n\r\n");
    // Nothing of the answer is read before the whole body is sent: what is in between has to wait in pipes and sockets.
    let mut half = connection.0.get_ref().try_clone().unwrap();
    let writer = std::thread::spawn(move || half.write_all(&vec![b'y'; 4_000_000]).unwrap());
    let (status, body) = connection.answer();
    writer.join().unwrap();
    assert_eq!((status.as_str(), body.trim_start_matches('x').trim()), ("HTTP/1.1 200 OK", "4000000"));
}

#[test]
fn a_program_that_leaves_its_input_unread_is_heard() {
    let served = Served::new("printf 'Status: 403 Forbidden\\r\\nContent-Length: 3\\r\\n\\r\\nno\\n'");
    let mut connection = served.send("");
    for _ in 0..3 {
        connection.send("POST /git/a HTTP/1.1\r\nHost: h\r\nContent-Length: 8000000\r\n\r\n");
        connection.send(&"z".repeat(8_000_000));
        assert_eq!(connection.answer(), ("HTTP/1.1 403 Forbidden".into(), "no\n".into()));
    }
}

#[test]
fn a_client_that_expects_100_continue_is_told_to_go_on() {
    let served = Served::new("printf 'X: 1\\n\\n'; cat");
    let mut connection =
        served.send("POST /git/a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    let (status, headers) = connection.head();
    assert_eq!((status.as_str(), headers.len()), ("HTTP/1.1 100 Continue", 0));
    connection.send("body");
    assert_eq!(connection.answer(), ("HTTP/1.1 200 OK".into(), "body".into()));
}

#[test]
fn head_gets_no_body() {
    let served = Served::new("printf 'Content-Length: 5\\r\\n\\r\\n12345'");
    let mut connection = served.send("");
    for _ in 0..2 {
        connection.send("HEAD /git/a HTTP/1.1\r\nHost: h\r\n\r\n");
        let (status, headers) = connection.head();
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert!(headers.contains(&"content-length: 5".into()), "{headers:?}");
    }
}

#[test]
fn an_answer_without_a_header_is_a_502() {
    for script in ["", "echo nonsense; echo; sleep 100", "kill -9 $$", "printf 'Status: 200 OK\\r\\n'"] {
        let (status, body) = Served::new(script).get("/git/a");
        assert_eq!((status.as_str(), body.contains("program")), ("HTTP/1.1 502 Bad Gateway", true), "{script}");
    }
}

#[test]
fn more_than_the_announced_length_is_cut_off() {
    let served = Served::new("printf 'Content-Length: 2\\n\\nabcdef'; head -c 200000 /dev/zero");
    let mut connection = served.send("");
    for _ in 0..2 {
        connection.send("GET /git/a HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(connection.answer(), ("HTTP/1.1 200 OK".into(), "ab".into()));
    }
}

#[test]
fn a_program_may_go_on_after_its_answer() {
    let served = Served::new("printf 'Content-Length: 2\\n\\nok'; sleep 0.3; echo yes >$scratch/finished");
    assert_eq!(served.get("/git/a").1, "ok");
    assert_eq!(served.file("finished"), "yes");
}

#[test]
fn a_silent_program_whose_client_has_gone_is_ended() {
    let served = Served::new("echo $$ >$scratch/pid; exec sleep 100");
    let connection = served.send("GET /git/a HTTP/1.1\r\nHost: h\r\n\r\n");
    let pid = served.file("pid");
    drop(connection);
    gone(&pid);
}

#[test]
fn a_program_that_ignores_sigterm_is_killed() {
    let served = Served::new("trap '' TERM; echo $$ >$scratch/pid; while :; do sleep 0.02; done");
    let connection = served.send("GET /git/a HTTP/1.1\r\nHost: h\r\n\r\n");
    let pid = served.file("pid");
    drop(connection);
    gone(&pid);
}

#[test]
fn a_streaming_program_whose_client_has_gone_is_ended() {
    let served = Served::new(
        "echo $$ >$scratch/pid; printf 'X: 1\\n\\n'; trap '' PIPE; while :; do echo x 2>/dev/null || sleep 100; done",
    );
    let mut connection = served.send("GET /git/a HTTP/1.1\r\nHost: h\r\n\r\n");
    connection.head();
    let pid = served.file("pid");
    drop(connection);
    gone(&pid);
}

#[test]
fn a_program_whose_client_goes_in_mid_body_is_ended() {
    for framing in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let served = Served::new("echo $$ >$scratch/pid; cat >/dev/null; sleep 100");
        let connection = served.send(&format!("POST /git/a HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n5\r\nab"));
        let pid = served.file("pid");
        connection.0.get_ref().shutdown(Shutdown::Both).unwrap();
        gone(&pid);
    }
}

#[test]
fn the_end_of_the_server_is_the_end_of_its_programs() {
    let mut served = Served::new("echo $$ >$scratch/pid; exec sleep 100");
    let _connection = served.send("GET /git/a HTTP/1.1\r\nHost: h\r\n\r\n");
    let pid = served.file("pid");
    served.end();
    assert!(!Path::new("/proc").join(pid).exists());
}

#[test]
fn requests_beyond_the_limit_wait() {
    let script = "echo start >>$scratch/log; printf 'X: 1\\n\\n'; sleep 0.1; echo stop >>$scratch/log";
    let served = Served::with(script, Limits { programs: 1, ..Limits::default() });
    let mut all: Vec<_> = (0..3).map(|_| served.send("GET /git/a HTTP/1.1\r\nHost: h\r\n\r\n")).collect();
    for connection in &mut all {
        assert_eq!(connection.answer().0, "HTTP/1.1 200 OK");
    }
    eventually("all have stopped", || served.file("log").matches("stop").count() == 3);
    assert_eq!(served.file("log"), ["start\nstop"; 3].join("\n"));
}

#[test]
fn clients_that_are_silent_for_too_long_lose_their_place() {
    let script = "case $PATH_INFO in
         /body) cat >/dev/null; sleep 100;;
         /long) printf 'X: 1\\n\\n'; exec cat /dev/zero;;
         *) printf 'Content-Length: 2\\n\\nok';;
         esac";
    let limits = Limits { programs: 1, grace: Duration::from_millis(200), patience: Duration::from_millis(300) };
    let served = Served::with(script, limits);
    for request in [
        "POST /git/body HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n",
        "POST /git/body HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab",
        "GET /git/long HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        let _silent = served.send(request);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(served.get("/git/short").1, "ok", "{request}");
    }
}

#[test]
fn a_client_that_sends_slowly_is_heard_to_the_end() {
    let limits = Limits { patience: Duration::from_millis(500), ..Limits::default() };
    let served = Served::with("printf 'Content-Length: 5\\n\\n'; head -c 5", limits);
    let mut connection = served.send("POST /git/a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n");
    for byte in ["a", "b", "c", "d", "e"] {
        std::thread::sleep(Duration::from_millis(150));
        connection.send(byte);
    }
    assert_eq!(connection.answer().1, "abcde");
}

#[test]
fn only_what_concerns_every_request_is_inherited() {
    let all = [
        "PATH",
        "HOME",
        "ARTIFACTS_TOKENS",
        "GIT_CONFIG_KEY_0",
        "GIT_TRACE_PACKET",
        "LC_ALL",
        "GIT_DIR",
        "GIT_WORK_TREE",
        "REQUEST_METHOD",
        "HTTP_PROXY",
    ];
    let kept = inherited(all.iter().map(|name| (OsString::from(name), OsString::new())));
    let kept: Vec<_> = kept.iter().filter_map(|(name, _)| name.to_str()).collect();
    assert_eq!(kept, ["PATH", "HOME", "ARTIFACTS_TOKENS", "GIT_CONFIG_KEY_0", "GIT_TRACE_PACKET", "LC_ALL"]);
}

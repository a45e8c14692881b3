//! The foundation of the tests: a site with repositories and tokens, the program as CGI, the program as a server, git.

#![allow(dead_code, reason = "each test module uses its own part")]

pub mod files;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_artifacts-http-backend");

/// A directory that is removed when the test ends.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("artifacts-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A git command in a directory, independent of the machine's configuration.
pub fn git_command(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(directory)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/support/gitconfig"))
        .env("HOME", directory)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C")
        .env("GIT_AUTHOR_NAME", "A")
        .env("GIT_AUTHOR_EMAIL", "a@example.com")
        .env("GIT_COMMITTER_NAME", "C")
        .env("GIT_COMMITTER_EMAIL", "c@example.com")
        .env_remove("GIT_DIR")
        .stdin(Stdio::null());
    command
}

/// The outcome of a command.
#[derive(Debug)]
pub struct Ran {
    pub ok: bool,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Ran {
            ok: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).trim_end().to_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// Checks that it succeeded, and returns its output.
    pub fn succeeds(self) -> String {
        assert!(self.ok, "git failed: {}\n{}", self.out, self.err);
        self.out
    }

    /// Checks that it failed and said `text`.
    pub fn fails_with(self, text: &str) {
        assert!(!self.ok, "git should have failed: {}\n{}", self.out, self.err);
        assert!(self.err.contains(text) || self.out.contains(text), "{text:?} is not in:\n{}\n{}", self.out, self.err);
    }
}

/// A repository on disk, driven by git.
pub struct Repo {
    pub path: PathBuf,
}

impl Repo {
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Repo { path: path.into() }
    }

    pub fn try_git<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Ran {
        git_command(&self.path).args(arguments).output().unwrap().into()
    }

    pub fn git<S: AsRef<OsStr>>(&self, arguments: &[S]) -> String {
        self.try_git(arguments).succeeds()
    }

    /// Runs git with the given standard input, and returns its output.
    pub fn feed(&self, arguments: &[&str], input: &[u8]) -> String {
        let mut command = git_command(&self.path);
        let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "git {arguments:?}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    pub fn commit(&self, message: &str) -> String {
        let name = message.replace(' ', "-");
        std::fs::write(self.path.join(format!("{name}.txt")), format!("{message}\n")).unwrap();
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", message]);
        self.tip("HEAD")
    }

    pub fn tip(&self, name: &str) -> String {
        self.git(&["rev-parse", "--verify", name])
    }

    pub fn refs(&self) -> String {
        self.git(&["for-each-ref", "--format=%(objectname) %(refname)"])
    }

    pub fn config(&self, key: &str, value: &str) {
        self.git(&["config", key, value]);
    }

    /// Creates an executable hook from a shell script.
    pub fn hook(&self, name: &str, script: &str) {
        std::fs::create_dir_all(self.path.join("hooks")).unwrap();
        write_script(&self.path.join("hooks").join(name), script);
    }

    /// A pack of the objects that `revisions` name, one a line, with `^` before those to leave out.
    pub fn pack(&self, revisions: &str) -> Vec<u8> {
        let mut command = git_command(&self.path);
        command.args(["pack-objects", "--stdout", "--revs", "--delta-base-offset", "-q"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(revisions.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        output.stdout
    }

    /// Checks that everything in it is intact.
    pub fn fsck(&self) {
        let ran = self.try_git(&["fsck", "--strict", "--no-dangling"]);
        assert!(ran.ok, "{}\n{}", ran.out, ran.err);
    }

    /// Files that a dead or refused push could leave.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut stack = vec![self.path.clone()];
        while let Some(folder) = stack.pop() {
            for entry in std::fs::read_dir(&folder).unwrap().flatten() {
                let path = entry.path();
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.ends_with(".lock")
                    || name.starts_with("tmp_")
                    || name.starts_with(".tmp")
                    || name.ends_with(".keep")
                    || folder.ends_with("artifacts-journal")
                {
                    found.push(path.clone());
                }
                if entry.file_type().unwrap().is_dir() {
                    stack.push(path);
                }
            }
        }
        found
    }
}

/// A root with repositories and tokens.
pub struct Site {
    scratch: Scratch,
}

impl Site {
    pub fn new() -> Self {
        let scratch = Scratch::new();
        std::fs::create_dir(scratch.path().join("root")).unwrap();
        std::fs::create_dir(scratch.path().join("work")).unwrap();
        Site { scratch }
    }

    /// A site with one repository, filled by `fill` in a work tree beside it.
    pub fn with(name: &str, fill: impl FnOnce(&Repo)) -> Self {
        let site = Site::new();
        site.create(name);
        let work = site.work("fill");
        work.git(&["init", "-q"]);
        fill(&work);
        let target = site.repo(name).path;
        work.git(&["push", "-q", "--mirror", target.to_str().unwrap()]);
        site
    }

    pub fn root(&self) -> PathBuf {
        self.scratch.path().join("root")
    }

    /// A directory for a client.
    pub fn work(&self, name: &str) -> Repo {
        let path = self.scratch.path().join("work").join(name);
        std::fs::create_dir_all(&path).unwrap();
        Repo::at(path)
    }

    /// The parent directory of the clients' directories.
    pub fn desk(&self) -> Repo {
        Repo::at(self.scratch.path().join("work"))
    }

    pub fn create(&self, name: &str) -> Repo {
        self.tool(&["repo", "create", name]);
        self.repo(name)
    }

    pub fn repo(&self, name: &str) -> Repo {
        Repo::at(self.root().join(format!("{name}.git")))
    }

    /// The program as a command line tool, run by an unprivileged user, who gets everything here.
    pub fn unprivileged(&self, arguments: &[&str]) -> Ran {
        const NOBODY: u32 = 65_534;
        let mut command = self.command(arguments);
        if rustix::process::geteuid().is_root() {
            let given =
                Command::new("chown").args(["-R", &format!("{NOBODY}:{NOBODY}")]).arg(self.scratch.path()).status();
            assert!(given.unwrap().success());
            command.uid(NOBODY).gid(NOBODY);
        }
        command.output().unwrap().into()
    }

    /// The program as a command line tool.
    pub fn try_tool(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().unwrap().into()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.scratch.path());
        command.env("GIT_PROJECT_ROOT", self.root()).stdin(Stdio::null());
        command
    }

    pub fn tool(&self, arguments: &[&str]) -> String {
        let ran = self.try_tool(arguments);
        assert!(ran.ok, "{arguments:?}: {}{}", ran.out, ran.err);
        ran.out
    }

    /// Creates a token, and returns its plaintext.
    pub fn token(&self, name: &str, scope: &str) -> String {
        let json = self.tool(&["token", "create", name, "--scope", scope, "--ttl", "3600", "--json"]);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        value["plaintext"].as_str().unwrap().to_owned()
    }

    /// A CGI request to this site.
    pub fn cgi(&self, method: &str, path: &str) -> Cgi {
        Cgi::to(&self.root(), method, path)
    }

    /// A push over CGI.
    pub fn push(&self, name: &str, token: &str, list: &[(&str, &str, &str)], pack: &[u8]) -> Cgi {
        let path = format!("/{name}.git/git-receive-pack");
        self.cgi("POST", &path).bearer(token).body([updates(list, PUSH), pack.to_vec()].concat())
    }

    /// The embedded server for this site.
    pub fn serve(&self) -> Server {
        self.serve_with(&[], &[])
    }

    pub fn serve_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Server {
        let mut command = Command::new(PROGRAM);
        command.args(["serve", "--port", "0", "--root"]).arg(self.root()).args(arguments);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.scratch.path());
        command.envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        let base = loop {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0, "the server ended: {said}");
            said.push_str(&line);
            if let Some(at) = line.find("http://127.0.0.1:") {
                let rest = &line[at + "http://127.0.0.1:".len()..];
                let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
                break format!("127.0.0.1:{port}");
            }
        };
        std::thread::spawn(move || {
            let mut rest = Vec::new();
            let _ = lines.read_to_end(&mut rest);
        });
        let errors = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let heard = errors.clone();
        std::thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).is_ok_and(|read| read > 0) {
                heard.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        Server { child, base, errors }
    }
}

/// The embedded server; killed when dropped.
pub struct Server {
    child: Child,
    base: String,
    errors: std::sync::Arc<std::sync::Mutex<String>>,
}

impl Server {
    pub fn url(&self, name: &str) -> String {
        format!("http://{}/git/{name}.git", self.base)
    }

    /// The URL with the token's secret as the Basic password.
    pub fn url_with(&self, name: &str, token: &str) -> String {
        let secret = token.split('?').next().unwrap();
        format!("http://x:{secret}@{}/git/{name}.git", self.base)
    }

    pub fn address(&self) -> &str {
        &self.base
    }

    /// What the program has written to stderr so far.
    pub fn stderr(&self) -> String {
        self.errors.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

/// The configuration that makes git send a token as Bearer.
pub fn bearer(token: &str) -> String {
    format!("http.extraHeader=Authorization: Bearer {token}")
}

/// One CGI request.
#[derive(Clone)]
pub struct Cgi {
    environment: Vec<(String, String)>,
    body: Vec<u8>,
    /// What a shell runs before it becomes the program.
    before: String,
    /// The words of a command that becomes the program.
    instead: Vec<String>,
}

impl Cgi {
    /// A request to the repositories below a directory.
    pub fn to(root: &Path, method: &str, path: &str) -> Self {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut cgi = Cgi { environment: Vec::new(), body: Vec::new(), before: String::new(), instead: Vec::new() };
        for (name, value) in [
            ("GATEWAY_INTERFACE", "CGI/1.1"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("REQUEST_METHOD", method),
            ("PATH_INFO", path),
            ("QUERY_STRING", query),
            ("REMOTE_ADDR", "192.0.2.7"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("PATH", &std::env::var("PATH").unwrap()),
            ("GIT_PROJECT_ROOT", root.to_str().unwrap()),
        ] {
            cgi = cgi.env(name, value);
        }
        cgi
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self
    }

    /// Whether a variable has this value.
    pub fn says(&self, name: &str, value: &str) -> bool {
        self.environment.iter().any(|(known, said)| known == name && said == value)
    }

    pub fn bearer(self, token: &str) -> Self {
        self.env("HTTP_AUTHORIZATION", &format!("Bearer {token}"))
    }

    pub fn protocol(self, version: u8) -> Self {
        self.env("HTTP_GIT_PROTOCOL", &format!("version={version}"))
    }

    /// Sets the body of a POST and its length; the type follows from the service in the path.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        let service = if self.path().ends_with("git-receive-pack") { "receive" } else { "upload" };
        let length = self.body.len().to_string();
        self.env("CONTENT_LENGTH", &length).env("CONTENT_TYPE", &format!("application/x-git-{service}-pack-request"))
    }

    fn path(&self) -> String {
        self.environment
            .iter()
            .find(|(name, _)| name == "PATH_INFO")
            .map(|(_, value)| value.clone())
            .unwrap_or_default()
    }

    /// Sets the body of a POST without a length, as a chunked one arrives.
    pub fn chunked(self, body: impl Into<Vec<u8>>) -> Self {
        self.body(body).without("CONTENT_LENGTH")
    }

    /// Limits memory to this many megabytes; allocating more ends the process.
    pub fn megabytes(mut self, megabytes: u32) -> Self {
        self.before.push_str(&format!("ulimit -d {}; ", megabytes * 1024));
        self
    }

    /// Makes a shell run this before it becomes the program.
    pub fn opening(mut self, script: &str) -> Self {
        self.before.push_str(&format!("{script}; "));
        self
    }

    /// Makes the process ignore SIGPIPE from its start, as children of some servers do.
    pub fn ignoring_sigpipe(mut self) -> Self {
        self.before.push_str("trap '' PIPE; ");
        self
    }

    /// Runs another command that will become the program.
    pub fn through(mut self, words: &[&str]) -> Self {
        self.instead = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    fn command(&self) -> Command {
        let mut command = if let Some((first, others)) = self.instead.split_first() {
            let mut command = Command::new(first);
            command.args(others);
            command
        } else if self.before.is_empty() {
            Command::new(PROGRAM)
        } else {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", &format!("{}exec \"$0\"", self.before), PROGRAM]);
            shell
        };
        command.env_clear().envs(self.environment.iter().cloned());
        command
    }

    /// Starts the process; its body is not written yet.
    pub fn spawn(&self) -> Child {
        self.command().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Starts the process, to be fed and read by hand.
    pub fn start(&self) -> Running {
        let mut child = self.spawn();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let stderr = reader(child.stderr.take().unwrap());
        Running { child, stdin, stdout, stderr }
    }

    /// Runs it, writing the body while the answer is read.
    pub fn run(&self) -> Answer {
        let mut running = self.start();
        let mut stdin = running.stdin.take().unwrap();
        let body = self.body.clone();
        let writer = std::thread::spawn(move || {
            let _ = stdin.write_all(&body);
        });
        let answer = running.end();
        writer.join().unwrap();
        answer
    }

    /// Runs it behind a relay that writes everything before it reads anything, through pipes of 64 KiB, as fcgiwrap,
    /// mod_cgi and uWSGI do.
    pub fn run_as_relay(&self) -> Answer {
        let mut running = self.start();
        let mut stdin = running.stdin.take().unwrap();
        let body = self.body.clone();
        let (told, written) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let all = stdin.write_all(&body);
            drop(stdin);
            let _ = told.send(all);
        });
        let Ok(all) = written.recv_timeout(HANGS_AFTER) else {
            let _ = running.child.kill();
            panic!("the program and the relay wait for each other");
        };
        all.expect("all of the body is read");
        running.end()
    }

    /// The same request without a length, as a chunked body arrives.
    pub fn without_length(&self) -> Self {
        self.clone().without("CONTENT_LENGTH")
    }

    /// The body.
    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// Runs it with one socket as both standard input and output, as Apache's mod_cgid does: everything is written,
    /// then everything read. As there, a byte of the body left unread damages the answer.
    pub fn run_over_a_socket(&self) -> io::Result<Answer> {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut command = self.command();
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs.try_clone().unwrap())));
        command.stdout(Stdio::from(std::os::fd::OwnedFd::from(theirs))).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(command);
        let stderr = reader(child.stderr.take().unwrap());
        let written = ours.write_all(&self.body);
        let status = ended(&mut child);
        written?;
        let mut stdout = Vec::new();
        ours.read_to_end(&mut stdout)?;
        Ok(Answer::parse(&Output { status, stdout, stderr: stderr.join().unwrap() }))
    }
}

/// How long a process may take before it counts as hanging.
const HANGS_AFTER: Duration = Duration::from_secs(40);

/// Waits for a child; one that does not end is killed, and the test fails.
pub fn ended(child: &mut Child) -> ExitStatus {
    let pid = Pid::from_child(child);
    let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap();
    if !readable(&handle, HANGS_AFTER) {
        let _ = child.kill();
        let _ = child.wait();
        panic!("the program hangs");
    }
    child.wait().unwrap()
}

/// Whether there is data or the end of file to read within `time`.
pub fn readable(descriptor: &impl AsFd, time: Duration) -> bool {
    let wait = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) };
    poll(&mut [PollFd::new(descriptor, PollFlags::IN)], Some(&wait)).unwrap() > 0
}

/// Reads to the end in another thread.
pub fn reader(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

/// A running CGI process.
pub struct Running {
    pub child: Child,
    pub stdin: Option<ChildStdin>,
    pub stdout: Option<ChildStdout>,
    stderr: JoinHandle<Vec<u8>>,
}

impl Running {
    /// Writes a part of the body.
    pub fn feed(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stdin.as_mut().unwrap().write_all(bytes)
    }

    /// Whether no output comes for this long.
    pub fn is_silent(&self, time: Duration) -> bool {
        !readable(self.stdout.as_ref().unwrap(), time)
    }

    /// Waits for output, and returns the result of one read.
    pub fn read_once(&mut self) -> Vec<u8> {
        let stdout = self.stdout.as_mut().unwrap();
        assert!(readable(stdout, HANGS_AFTER), "nothing comes");
        let mut bytes = vec![0; 64 << 10];
        let size = stdout.read(&mut bytes).unwrap();
        bytes.truncate(size);
        bytes
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Closes its input and reads the rest of its answer.
    pub fn end(mut self) -> Answer {
        self.stdin = None;
        self.end_with_stdin_open()
    }

    /// Reads the rest of its answer; its input, unless it was taken, stays open until it has ended.
    pub fn end_with_stdin_open(mut self) -> Answer {
        let stdout = self.stdout.take().map(reader);
        let status = ended(&mut self.child);
        let stdout = stdout.map(|stdout| stdout.join().unwrap()).unwrap_or_default();
        Answer::parse(&Output { status, stdout, stderr: self.stderr.join().unwrap() })
    }
}

/// A parsed CGI answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub stderr: String,
    /// Its exit status, or the signal that ended it as a negative number.
    pub exit: i32,
}

impl Answer {
    pub fn parse(output: &Output) -> Self {
        let end = output.stdout.windows(4).position(|four| four == b"\r\n\r\n");
        let (head, body) = match end {
            Some(at) => (&output.stdout[..at], output.stdout[at + 4..].to_vec()),
            None => (&output.stdout[..], Vec::new()),
        };
        let head = String::from_utf8_lossy(head).into_owned();
        let headers: Vec<(String, String)> = head
            .split("\r\n")
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let status = headers.iter().find(|(name, _)| name == "Status");
        let status = status.map_or(if end.is_some() { 200 } else { 0 }, |(_, value)| value[..3].parse().unwrap());
        Answer {
            status,
            headers,
            body,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            exit: output.status.code().unwrap_or_else(|| -output.status.signal().unwrap()),
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The report of a push, one line an entry, without its flush.
    pub fn report(&self) -> Vec<String> {
        let mut lines = packets(&band(&self.body, 1));
        assert_eq!(lines.pop().as_deref(), Some("0000"), "{self:?}");
        lines
    }

    /// Checks that there was no crash, at most one line on stderr, and an expected status.
    pub fn is_sound(&self, what: &str) {
        assert!(self.exit >= 0, "{what}: {self:?}");
        assert!([200, 400, 403, 404, 413].contains(&self.status), "{what}: {self:?}");
        assert!(self.stderr.lines().count() <= 1 && !self.stderr.contains("panic"), "{what}: {}", self.stderr);
        assert!(!self.text().contains("internal server error"), "{what}: {}", self.stderr);
    }

    /// The packets of the body, one an entry: text as it is, `0000`, `0001`, binary data escaped.
    pub fn packets(&self) -> Vec<String> {
        packets(&self.body)
    }
}

/// Packets, one an entry: text as it is, `0000`, `0001`, binary data escaped.
pub fn packets(mut bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while bytes.len() >= 4 {
        let digits = std::str::from_utf8(&bytes[..4]).unwrap();
        let size = usize::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("no packet: {digits:?}"));
        if size < 4 {
            found.push(digits.to_owned());
            bytes = &bytes[4..];
        } else {
            let line = &bytes[4..size];
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            found.push(line.escape_ascii().to_string());
            bytes = &bytes[size..];
        }
    }
    found
}

/// Lines as a request: `0000` and `0001` as they are, others as packets ending in a newline.
pub fn framed(lines: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        match *line {
            "0000" | "0001" => bytes.extend_from_slice(line.as_bytes()),
            line => bytes.extend_from_slice(format!("{:04x}{line}\n", line.len() + 5).as_bytes()),
        }
    }
    bytes
}

/// Writes an executable shell script. A child process writes it: a descriptor open for writing in this process could be
/// inherited by a child that another test is starting, and running the script would fail with «text file busy».
pub fn write_script(path: &Path, script: &str) {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "cat >\"$0\" && chmod +x \"$0\""]).arg(path).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{script}\n").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// «None», as the old or new value of a ref.
pub const NULL: &str = "0000000000000000000000000000000000000000";

/// The capabilities that a git client usually asks for in a push.
pub const PUSH: &str = "report-status side-band-64k agent=git/2.0";

/// The lines of a push up to the flush, each from `(old, new, name)`.
pub fn updates(updates: &[(&str, &str, &str)], capabilities: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, (old, new, name)) in updates.iter().enumerate() {
        let mut line = format!("{old} {new} {name}");
        if number == 0 {
            line.push_str(&format!("\0 {capabilities}"));
        }
        bytes.extend_from_slice(format!("{:04x}{line}", line.len() + 4).as_bytes());
    }
    bytes.extend_from_slice(b"0000");
    bytes
}

/// Bytes that do not compress.
pub fn noise(size: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..size).map(next).collect()
}

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < HANGS_AFTER, "{what} does not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The data of one band.
pub fn band(body: &[u8], band: u8) -> Vec<u8> {
    let (mut found, mut rest) = (Vec::new(), body);
    while rest.len() >= 4 {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..4]).unwrap(), 16).unwrap().max(4);
        if size > 4 && rest[4] == band {
            found.extend_from_slice(&rest[5..size]);
        }
        rest = &rest[size..];
    }
    found
}

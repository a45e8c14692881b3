//! What the tests stand on: a site with repositories and tokens, the program as CGI, the program as a server, git.

#![allow(dead_code, reason = "each test module uses its own part")]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_artifacts-http-backend");

/// A directory that goes when the test ends.
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

/// A git command in a directory, untouched by the machine's configuration.
pub fn git_command(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(directory)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("HOME", directory)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C")
        .env("GIT_AUTHOR_NAME", "A")
        .env("GIT_AUTHOR_EMAIL", "a@example.com")
        .env("GIT_COMMITTER_NAME", "C")
        .env("GIT_COMMITTER_EMAIL", "c@example.com")
        .env_remove("GIT_DIR")
        .env("GIT_CONFIG_COUNT", "3")
        .env("GIT_CONFIG_KEY_0", "init.defaultBranch")
        .env("GIT_CONFIG_VALUE_0", "main")
        .env("GIT_CONFIG_KEY_1", "gc.auto")
        .env("GIT_CONFIG_VALUE_1", "0")
        .env("GIT_CONFIG_KEY_2", "maintenance.auto")
        .env("GIT_CONFIG_VALUE_2", "false")
        .stdin(Stdio::null());
    command
}

/// What a git command did.
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
    /// Its output; it must have succeeded.
    pub fn succeeds(self) -> String {
        assert!(self.ok, "git failed: {}\n{}", self.out, self.err);
        self.out
    }

    /// It must have failed and said `text`.
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

    /// Everything in it is whole.
    pub fn fsck(&self) {
        let ran = self.try_git(&["fsck", "--strict", "--no-dangling"]);
        assert!(ran.ok, "{}\n{}", ran.out, ran.err);
    }

    /// Files that a dead or refused push would leave.
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

    /// Where clients' directories are.
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

    /// The program as a command line tool.
    pub fn try_tool(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new(PROGRAM);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.scratch.path());
        command.env("GIT_PROJECT_ROOT", self.root()).stdin(Stdio::null());
        command.output().unwrap().into()
    }

    pub fn tool(&self, arguments: &[&str]) -> String {
        let ran = self.try_tool(arguments);
        assert!(ran.ok, "{arguments:?}: {}{}", ran.out, ran.err);
        ran.out
    }

    /// A new token's plaintext.
    pub fn token(&self, name: &str, scope: &str) -> String {
        let json = self.tool(&["token", "create", name, "--scope", scope, "--ttl", "3600", "--json"]);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        value["plaintext"].as_str().unwrap().to_owned()
    }

    /// A CGI request to this site.
    pub fn cgi(&self, method: &str, path: &str) -> Cgi {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut cgi = Cgi { environment: Vec::new(), body: Vec::new() };
        for (name, value) in [
            ("GATEWAY_INTERFACE", "CGI/1.1"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("REQUEST_METHOD", method),
            ("PATH_INFO", path),
            ("QUERY_STRING", query),
            ("REMOTE_ADDR", "192.0.2.7"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("PATH", &std::env::var("PATH").unwrap()),
            ("GIT_PROJECT_ROOT", self.root().to_str().unwrap()),
        ] {
            cgi = cgi.env(name, value);
        }
        cgi
    }

    /// The embedded server over this site.
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

/// The embedded server, ended with the test.
pub struct Server {
    child: Child,
    base: String,
    errors: std::sync::Arc<std::sync::Mutex<String>>,
}

impl Server {
    pub fn url(&self, name: &str) -> String {
        format!("http://{}/git/{name}.git", self.base)
    }

    /// With the token's secret as Basic's password.
    pub fn url_with(&self, name: &str, token: &str) -> String {
        let secret = token.split('?').next().unwrap();
        format!("http://x:{secret}@{}/git/{name}.git", self.base)
    }

    pub fn address(&self) -> &str {
        &self.base
    }

    /// What the program said on stderr so far.
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

/// The header line that carries a token.
pub fn bearer(token: &str) -> String {
    format!("http.extraHeader=Authorization: Bearer {token}")
}

/// One CGI request.
pub struct Cgi {
    environment: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Cgi {
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self
    }

    pub fn bearer(self, token: &str) -> Self {
        self.env("HTTP_AUTHORIZATION", &format!("Bearer {token}"))
    }

    pub fn protocol(self, version: u8) -> Self {
        self.env("HTTP_GIT_PROTOCOL", &format!("version={version}"))
    }

    /// A POST's body with its length; the type is that of the service in the path.
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

    /// The process, its body not yet written.
    pub fn spawn(&self) -> Child {
        let mut command = Command::new(PROGRAM);
        command.env_clear().envs(self.environment.iter().cloned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs it: everything written, then everything read, as a simple relay does.
    pub fn run(&self) -> Answer {
        let mut child = self.spawn();
        let mut stdin = child.stdin.take().unwrap();
        let body = self.body.clone();
        let writer = std::thread::spawn(move || {
            let _ = stdin.write_all(&body);
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Answer::parse(&output)
    }
}

/// A CGI answer, taken apart.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub stderr: String,
    pub exit: Option<i32>,
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
            exit: output.status.code(),
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body's packets, one a line: text as it is, `0000`, `0001`; binary in escapes.
    pub fn packets(&self) -> Vec<String> {
        packets(&self.body)
    }
}

/// Packets, one an entry: text as it is, `0000`, `0001`; binary in escapes.
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

/// Lines to a request: `0000` and `0001` as they are, others framed with a newline.
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

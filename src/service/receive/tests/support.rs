//! A server's repository, a client's, and pushes between them: to this program in process, or to C git on a copy.

use super::super::serve;
use crate::audit::Summary;
use crate::auth::{Grant, Scope};
use crate::pktline::{Packet, PacketReader};
use crate::protocol::Version;
use crate::repo::config::ConfigSources;
use crate::repo::locate::{self, Place, Search};
use crate::repo::{AccessMode, Context, Repository};
use crate::service::{ErrorChannel, Out, ServeError};
use crate::stream::{Body, Pulse, Sink};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Capabilities as git's own client sends them.
pub(super) const USUAL: &str = " report-status-v2 side-band-64k object-format=sha1 agent=git/2";

/// A directory that is removed when dropped.
pub(super) struct Scratch(pub(super) PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// git with a controlled environment.
fn git(home: &Path) -> Command {
    let mut command = crate::testing::command("git");
    command.env("HOME", home);
    for (name, value) in [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_AUTHOR_NAME", "A"),
        ("GIT_AUTHOR_EMAIL", "a@x"),
        ("GIT_COMMITTER_NAME", "C"),
        ("GIT_COMMITTER_EMAIL", "c@x"),
        ("GIT_AUTHOR_DATE", "1700000000 +0000"),
        ("GIT_COMMITTER_DATE", "1700000000 +0000"),
    ] {
        command.env(name, value);
    }
    command
}

/// A server's repository (`server`, bare) and a client's (`client`), each with a branch `main` of two commits.
pub(super) struct Pair {
    pub(super) scratch: Scratch,
    pub(super) server: PathBuf,
    pub(super) client: PathBuf,
}

impl Pair {
    pub(super) fn new() -> Self {
        Pair::with_format("sha1")
    }

    pub(super) fn with_format(format: &str) -> Self {
        let path = std::env::temp_dir().join(crate::durable::unique("receive-"));
        std::fs::create_dir(&path).expect("scratch can be made");
        let pair = Pair { server: path.join("server.git"), client: path.join("client"), scratch: Scratch(path) };
        let format = format!("--object-format={format}");
        pair.git(&pair.scratch.0, &["init", "-q", "-b", "main", &format, "client"]);
        pair.commit("one");
        pair.commit("two");
        pair.git(&pair.scratch.0, &["clone", "-q", "--bare", "client", "server.git"]);
        pair
    }

    pub(super) fn git_with(&self, directory: &Path, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut command = git(&self.scratch.0);
        command.current_dir(directory).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("git runs");
        let mut stdin = child.stdin.take().expect("it is piped");
        let input = input.to_vec();
        let feeder = std::thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().expect("git ends");
        feeder.join().expect("feeding does not panic");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() || arguments[0] == "receive-pack", "git {arguments:?}: {said}");
        output.stdout
    }

    pub(super) fn git(&self, directory: &Path, arguments: &[&str]) -> String {
        String::from_utf8_lossy(&self.git_with(directory, arguments, b"")).trim_end().to_owned()
    }

    /// Runs git on the server's repository.
    pub(super) fn at_server(&self, arguments: &[&str]) -> String {
        self.git(&self.server, arguments)
    }

    /// Makes a commit on the client's current branch, and returns its id.
    pub(super) fn commit(&self, text: &str) -> String {
        std::fs::write(self.client.join("file"), text).expect("scratch can be written");
        self.git(&self.client, &["add", "file"]);
        self.git(&self.client, &["commit", "-q", "-m", text]);
        self.client_id("HEAD")
    }

    pub(super) fn client_id(&self, revision: &str) -> String {
        self.git(&self.client, &["rev-parse", revision])
    }

    /// Installs a hook of the server's. Another process writes it: a file that a thread of this process has open for
    /// writing cannot be run.
    pub(super) fn hook(&self, name: &str, script: &str) {
        let path = self.server.join("hooks").join(name);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("scratch can be written");
        let mut shell = Command::new("sh");
        shell.args(["-c", "cat > \"$1\" && chmod +x \"$1\"", "sh"]).arg(&path).stdin(Stdio::piped());
        let mut child = shell.spawn().expect("the shell runs");
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin.write_all(format!("#!/bin/sh\n{script}\n").as_bytes()).expect("the shell reads");
        drop(stdin);
        assert!(child.wait().expect("the shell ends").success());
    }

    pub(super) fn null(&self) -> String {
        "0".repeat(self.client_id("HEAD").len())
    }

    /// A push of the client's objects. Each update is `OLD NEW NAME`, given as revisions of the client's, with `-` for
    /// none.
    pub(super) fn push(&self, updates: &[&str]) -> Push {
        let mut lines = Vec::new();
        let mut wanted = String::new();
        for update in updates {
            let words: Vec<&str> = update.splitn(3, ' ').collect();
            let id = |word: &str| match word {
                "-" => self.null(),
                word if word.len() == self.null().len() => word.to_owned(),
                word => self.client_id(word),
            };
            let (old, new) = (id(words[0]), id(words[1]));
            if new != self.null() {
                wanted += &format!("{new}\n");
            }
            lines.push(format!("{old} {new} {}", words[2]));
        }
        let pack = match wanted.is_empty() {
            true => Vec::new(),
            false => self.pack(&format!("{wanted}^{}\n", self.at_server(&["rev-parse", "refs/heads/main"]))),
        };
        Push { lines, capabilities: USUAL.into(), options: None, shallow: Vec::new(), pack }
    }

    /// A thin pack of what these revisions reach.
    pub(super) fn pack(&self, revisions: &str) -> Vec<u8> {
        self.git_with(&self.client, &["pack-objects", "-q", "--stdout", "--revs", "--thin"], revisions.as_bytes())
    }

    /// The values of all refs of the server.
    pub(super) fn refs(&self) -> String {
        self.at_server(&["for-each-ref", "--format=%(refname) %(objectname) %(symref)"])
    }

    pub(super) fn open(&self) -> Repository {
        self.open_with(|_| {})
    }

    pub(super) fn open_with(&self, change: impl FnOnce(&mut Context)) -> Repository {
        let config = ConfigSources::default();
        let mut context = Context {
            version: Version::V0,
            now: 1_700_000_000,
            identity: "P <p@x>".into(),
            hook_environment: vec![
                ("GIVEN".into(), "yes".into()),
                ("GIT_DIR".into(), "/wrong".into()),
                ("PATH".into(), std::env::var_os("PATH").expect("there is one")),
            ]
            .into(),
            agent: "agent".into(),
            ..crate::testing::context(AccessMode::Pipe, config.clone())
        };
        change(&mut context);
        let search = Search {
            mode: AccessMode::Pipe,
            config: &config,
            object_directory: None,
            check_owner: false,
            strict: true,
        };
        match locate::by_path(&self.server, &search) {
            Place::Here(here) => {
                context.limit_as(&here.settings);
                Repository::open(*here, Grant::new(Scope::Write, None), context)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Sends a push to this program.
    pub(super) fn send(&self, push: &Push) -> Answer {
        self.send_bytes(&push.bytes())
    }

    pub(super) fn send_bytes(&self, bytes: &[u8]) -> Answer {
        send(&self.open(), bytes)
    }

    /// A copy of the whole scratch directory, on which C git serves the same push.
    pub(super) fn copy(&self) -> Pair {
        let path = std::env::temp_dir().join(crate::durable::unique("receive-copy-"));
        let copied = Command::new("cp").arg("-a").arg(&self.scratch.0).arg(&path).status();
        assert!(copied.expect("cp runs").success());
        let copy = Pair { server: path.join("server.git"), client: path.join("client"), scratch: Scratch(path) };
        // Links the copy's work trees with the copy. `git worktree repair` would first follow the copied link back to
        // the original, which other copies read at the same time.
        for linked in std::fs::read_dir(copy.server.join("worktrees")).into_iter().flatten().flatten() {
            let link = copy.scratch.0.join(linked.file_name()).join(".git");
            std::fs::write(linked.path().join("gitdir"), format!("{}\n", link.display()))
                .expect("a copy can be written");
            std::fs::write(link, format!("gitdir: {}\n", linked.path().display())).expect("a copy can be written");
        }
        copy
    }

    /// C git's answer to the same bytes, on this repository.
    pub(super) fn send_to_git(&self, bytes: &[u8]) -> Answer {
        let server = self.server.to_str().expect("scratch has a plain name");
        Answer::of(self.git_with(&self.scratch.0, &["receive-pack", "--stateless-rpc", server], bytes))
    }

    /// Checks that nothing of a quarantine is left, and that the repository is intact.
    pub(super) fn assert_clean(&self) {
        let objects = std::fs::read_dir(self.server.join("objects")).expect("it is there").flatten();
        let left: Vec<_> = objects
            .map(|entry| entry.file_name())
            .filter(|name| name.len() > 4 && name != "pack" && name != "info")
            .collect();
        assert!(left.is_empty(), "{left:?}");
        let packs = std::fs::read_dir(self.server.join("objects/pack")).into_iter().flatten().flatten();
        assert!(packs.into_iter().all(|entry| entry.path().extension().is_none_or(|extension| extension != "keep")));
        self.at_server(&["fsck", "--strict", "--no-dangling"]);
    }
}

pub(super) fn send(repository: &Repository, bytes: &[u8]) -> Answer {
    let mut body = TestBody(bytes);
    let mut sink = Vec::new();
    let mut summary = Summary::default();
    let mut channel = ErrorChannel::Status;
    let mut out = Out { sink: &mut sink, channel: &mut channel, summary: &mut summary };
    let result = serve(repository, &mut body, &mut out);
    Answer { result: Some(result), channel, summary, ..Answer::of(sink) }
}

/// A body in memory.
pub(super) struct TestBody<'a>(pub(super) &'a [u8]);

impl Read for TestBody<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Body for TestBody<'_> {
    fn finish(&mut self) -> io::Result<u64> {
        Ok(std::mem::take(&mut self.0).len() as u64)
    }
}

/// A sink whose time is up from the start: only its ticks report it.
#[derive(Default)]
pub(super) struct Overdue(pub(super) Vec<u8>);

impl Write for Overdue {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pulse for Overdue {
    fn tick(&mut self, _done: u64) -> io::Result<()> {
        Err(io::ErrorKind::TimedOut.into())
    }
}

impl Sink for Overdue {}

/// A client that goes away after this many bytes.
pub(super) struct Leaver(pub(super) usize);

impl Write for Leaver {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pulse for Leaver {
    fn tick(&mut self, _done: u64) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Leaver {}

/// A push request before it is encoded.
pub(super) struct Push {
    pub(super) lines: Vec<String>,
    pub(super) capabilities: String,
    pub(super) options: Option<Vec<String>>,
    pub(super) shallow: Vec<String>,
    pub(super) pack: Vec<u8>,
}

impl Push {
    pub(super) fn and(mut self, capability: &str) -> Self {
        self.capabilities += &format!(" {capability}");
        self
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut line = |line: &str| bytes.extend_from_slice(format!("{:04x}{line}", line.len() + 4).as_bytes());
        self.shallow.iter().for_each(|id| line(&format!("shallow {id}")));
        for (n, update) in self.lines.iter().enumerate() {
            line(&if n == 0 { format!("{update}\0{}", self.capabilities) } else { format!("{update}\n") });
        }
        bytes.extend_from_slice(b"0000");
        if let Some(options) = &self.options {
            options
                .iter()
                .for_each(|option| bytes.extend_from_slice(format!("{:04x}{option}", option.len() + 4).as_bytes()));
            bytes.extend_from_slice(b"0000");
        }
        bytes.extend_from_slice(&self.pack);
        bytes
    }
}

/// An answer, taken apart.
#[derive(Default)]
pub(super) struct Answer {
    /// The lines of the report.
    pub(super) report: Vec<String>,
    /// What came on band 2.
    pub(super) said: String,
    pub(super) bytes: Vec<u8>,
    pub(super) result: Option<Result<(), ServeError>>,
    pub(super) channel: ErrorChannel,
    pub(super) summary: Summary,
}

impl Answer {
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        let mut answer = Answer::default();
        let mut bands: [Vec<u8>; 3] = Default::default();
        if bytes.get(4).is_some_and(|band| (1..=3).contains(band)) {
            for packet in packets(&bytes) {
                let band = usize::from(*packet.first().expect("a band has a number"));
                bands[band - 1].extend_from_slice(&packet[1..]);
            }
        } else {
            bands[0].clone_from(&bytes);
        }
        answer.report =
            packets(&bands[0]).iter().map(|line| String::from_utf8_lossy(line).trim_end().to_owned()).collect();
        answer.said = String::from_utf8_lossy(&bands[1]).into_owned();
        answer.bytes = bytes;
        answer
    }

    /// The report's lines for refused refs, preceded by the unpack status if it is not ok.
    pub(super) fn complaints(&self) -> Vec<&str> {
        self.report.iter().map(String::as_str).filter(|line| !line.starts_with("ok ") && *line != "unpack ok").collect()
    }
}

/// The data packets up to the flush.
fn packets(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut input = bytes;
    let mut reader = PacketReader::new(&mut input);
    let mut packets = Vec::new();
    while let Some(Packet::Data(line)) = reader.next().expect("the answer is well formed") {
        packets.push(line.to_vec());
    }
    packets
}

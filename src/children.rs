//! The only module that starts processes.
//!
//! In: a program, its arguments, environment, directory and standard input. Out: how it ended; what it says is handed on while
//! it says it, and what it is told may depend on what it has said. A child never inherits descriptors from 3 up, nor an
//! environment it was not given.

use crate::stream::Sink;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A program to run.
pub struct Child<'a> {
    /// Where it is; relative to `directory`.
    pub program: &'a Path,
    /// Its arguments, its own name not among them.
    pub arguments: &'a [OsString],
    /// All of its environment; of two entries of one name the last counts.
    pub environment: &'a [(OsString, OsString)],
    /// Where it runs.
    pub directory: &'a Path,
    /// Whether it has a process group of its own (one that is [`left`](leave) has in any case), all of which ends where it is not waited for any longer. At a terminal it must be in
    /// ours: there Ctrl-C ends all of it, and it may ask the user something.
    pub apart: bool,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With this status.
    Status(i32),
    /// Killed by a signal of somebody else's.
    Signal(i32),
    /// Stopped by us when its time was over.
    Late,
}

impl Ended {
    /// Whether it says yes.
    pub fn well(self) -> bool {
        self == Ended::Status(0)
    }
}

/// Where a child's two outputs go. A sink also gets a tick at least every second.
pub enum Output<'a> {
    /// Both to the sink, as they come.
    Sink(&'a mut dyn Sink),
    /// What it makes to the sink, what it says aside ([`Sink::aside`]). The sink is ticked as well.
    Apart(&'a mut dyn Sink),
    /// Both to our own standard error; the sink is only ticked.
    Stderr(&'a mut dyn Sink),
    /// Standard output alone to the sink, as with `Sink`; what goes to standard error is lost.
    Stdout(&'a mut dyn Sink),
}

/// One side of a conversation: what a child reads, and what becomes of its standard output.
pub trait Dialogue {
    /// What is told next. It is asked again whenever something was heard and all that was told before is on its way.
    fn say(&mut self) -> Say;

    /// What the child wrote; empty: it has closed its standard output, after which there is nothing to listen for.
    fn hear(&mut self, bytes: &[u8]);
}

/// What is told next.
#[derive(Debug, PartialEq, Eq)]
pub enum Say {
    /// This.
    Words(Vec<u8>),
    /// Nothing before something is heard.
    Listen,
    /// Nothing any more, and nothing more is heard.
    Over,
}

/// The input of a child that is not listened to.
struct Monologue<'i>(&'i mut dyn Iterator<Item = Vec<u8>>);

impl Dialogue for Monologue<'_> {
    fn say(&mut self) -> Say {
        self.0.next().map_or(Say::Over, Say::Words)
    }

    fn hear(&mut self, _bytes: &[u8]) {}
}

/// The longest time between two ticks.
const TICK: Duration = Duration::from_secs(1);

/// How much of the input is made and of the output read at once.
const BLOCK: usize = 16 << 10;

/// Runs a child to its end and to the end of its output.
///
/// `input` is made piece by piece, as fast as the child reads it; a child that reads none or not all of it is no error (HO-11).
/// After `time` it is killed, and so is what it has started, if it is apart.
///
/// # Errors
/// When it cannot be started. When the sink fails: then the child is killed first.
pub fn run(
    child: &Child<'_>,
    input: &mut dyn Iterator<Item = Vec<u8>>,
    output: Output<'_>,
    time: Option<Duration>,
) -> io::Result<Ended> {
    let mut words = Monologue(input);
    let end = |writer: &io::PipeWriter| writer.try_clone().map(Stdio::from);
    match output {
        Output::Sink(sink) => {
            let (reader, writer) = io::pipe()?;
            let running = start(child, &|| end(&writer), &|| end(&writer))?;
            drop(writer);
            attend(
                child,
                running,
                &mut words,
                Outputs { said: Some(reader), sink: Some(sink), ..Outputs::default() },
                time,
            )
        }
        Output::Stdout(sink) => {
            let (reader, writer) = io::pipe()?;
            let running = start(child, &|| end(&writer), &|| Ok(Stdio::null()))?;
            drop(writer);
            attend(
                child,
                running,
                &mut words,
                Outputs { said: Some(reader), sink: Some(sink), ..Outputs::default() },
                time,
            )
        }
        Output::Apart(sink) => {
            let ((made, maker), (aside, speaker)) = (io::pipe()?, io::pipe()?);
            let running = start(child, &|| end(&maker), &|| end(&speaker))?;
            drop((maker, speaker));
            attend(child, running, &mut words, Outputs { said: Some(made), aside: Some(aside), sink: Some(sink) }, time)
        }
        Output::Stderr(sink) => {
            let stderr = || io::stderr().as_fd().try_clone_to_owned().map(Stdio::from);
            let running = start(child, &stderr, &stderr)?;
            attend(child, running, &mut words, Outputs { sink: Some(sink), ..Outputs::default() }, time)
        }
    }
}

/// Converses with a child over its standard input and output until the dialogue is over, then waits for its end; its standard
/// error goes to the sink as it comes, with ticks, as in [`run`].
///
/// # Errors
/// As [`run`].
pub fn converse(
    child: &Child<'_>,
    dialogue: &mut dyn Dialogue,
    errors: &mut dyn Sink,
    time: Option<Duration>,
) -> io::Result<Ended> {
    let (reader, writer) = io::pipe()?;
    let running = start(child, &|| Ok(Stdio::piped()), &|| writer.try_clone().map(Stdio::from))?;
    drop(writer);
    attend(child, running, dialogue, Outputs { said: Some(reader), sink: Some(errors), ..Outputs::default() }, time)
}

/// Starts a child that is left alone: it hears nothing and is not heard, nobody waits for it, and who ends our process group does
/// not end it.
///
/// # Errors
/// When it cannot be started.
#[allow(clippy::zombie_processes, reason = "it outlives this process, which ends soon")]
pub fn leave(child: &Child<'_>) -> io::Result<()> {
    close_on_exec()?;
    let mut command = command(child, child.program, None);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.process_group(0).spawn().map(drop)
}

/// What a child's outputs are read from, and where that goes.
#[derive(Default)]
struct Outputs<'s> {
    said: Option<io::PipeReader>,
    /// What it says on standard error, where that is told apart.
    aside: Option<io::PipeReader>,
    sink: Option<&'s mut dyn Sink>,
}

/// Stays with a running child to its end.
fn attend(
    child: &Child<'_>,
    mut running: std::process::Child,
    words: &mut dyn Dialogue,
    outputs: Outputs<'_>,
    time: Option<Duration>,
) -> io::Result<Ended> {
    let until = time.and_then(|time| Instant::now().checked_add(time));
    let (stdin, answers) = (running.stdin.take(), running.stdout.take());
    let Outputs { said, aside, sink } = outputs;
    let mut talk = Talk { stdin, words, rest: Vec::new(), answers, said, aside, sink, until };
    let ended = talk.pump().and_then(|in_time| match in_time {
        true => talk.wait(&mut running),
        false => Ok(Ended::Late),
    });
    if !matches!(ended, Ok(Ended::Status(_) | Ended::Signal(_))) {
        // Either it has ended by itself in the meantime, or it ends now; its status is collected and not looked at. Before that nobody
        // else can have its group's number.
        if child.apart {
            let _ = kill_process_group(Pid::from_child(&running), Signal::KILL);
        }
        let _ = running.kill();
        let _ = running.wait();
    }
    ended
}

/// Starts a child. A file that no interpreter line makes a program is a script for the shell, as for git.
fn start(
    child: &Child<'_>,
    output: &dyn Fn() -> io::Result<Stdio>,
    errors: &dyn Fn() -> io::Result<Stdio>,
) -> io::Result<std::process::Child> {
    close_on_exec()?;
    let spawn = |program: &Path, script: Option<&Path>| {
        let mut command = command(child, program, script);
        if child.apart {
            command.process_group(0);
        }
        command.stdin(Stdio::piped()).stdout(output()?).stderr(errors()?).spawn()
    };
    match spawn(child.program, None) {
        Err(error) if error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error()) => {
            spawn(Path::new("/bin/sh"), Some(child.program))
        }
        started => started,
    }
}

/// A program, or an interpreter with its script, with all that a child is given but its three descriptors.
fn command(child: &Child<'_>, program: &Path, script: Option<&Path>) -> Command {
    let mut command = Command::new(program);
    command.args(script).args(child.arguments).current_dir(child.directory);
    command.env_clear().envs(child.environment.iter().map(|(name, value)| (name, value)));
    command
}

/// What goes on with a running child.
struct Talk<'i, 's> {
    stdin: Option<ChildStdin>,
    words: &'i mut dyn Dialogue,
    /// Made, not yet taken by the child.
    rest: Vec<u8>,
    /// Its part of a conversation.
    answers: Option<ChildStdout>,
    said: Option<io::PipeReader>,
    /// What it says on standard error, where that is told apart.
    aside: Option<io::PipeReader>,
    sink: Option<&'s mut dyn Sink>,
    until: Option<Instant>,
}

impl Talk<'_, '_> {
    /// Feeds the child and listens to it until neither goes on; `false` when its time is over first.
    fn pump(&mut self) -> io::Result<bool> {
        if let Some(stdin) = &self.stdin {
            rustix::io::ioctl_fionbio(stdin, true)?;
        }
        loop {
            self.make_input();
            if self.stdin.is_none() && self.answers.is_none() && self.said.is_none() && self.aside.is_none() {
                return Ok(true);
            }
            let Some(pause) = self.pause(TICK) else { return Ok(false) };
            let stdin = self.stdin.as_ref().filter(|_| !self.rest.is_empty());
            let telling = [self.said.as_ref(), self.aside.as_ref()];
            let ready = wait_for(stdin, self.answers.as_ref(), telling, pause)?;
            if ready.taking {
                self.feed()?;
            }
            if ready.answering {
                listen(&mut self.answers, |bytes| {
                    self.words.hear(bytes);
                    Ok(())
                })?;
                if self.answers.is_none() {
                    self.words.hear(&[]);
                }
            }
            // Messages first: they may be about what comes.
            if ready.telling[1] {
                listen(&mut self.aside, |text| self.sink.as_mut().map_or(Ok(()), |sink| sink.aside(text)))?;
            }
            if ready.telling[0] {
                listen(&mut self.said, |bytes| match &mut self.sink {
                    Some(sink) => sink.write_all(bytes).and_then(|()| sink.flush()),
                    None => Ok(()),
                })?;
            }
            if let Some(sink) = &mut self.sink {
                sink.tick(0)?;
            }
        }
    }

    /// How long may be waited now, at most `longest`; `None` when the time is over.
    fn pause(&self, longest: Duration) -> Option<Duration> {
        match self.until {
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                (!left.is_zero()).then(|| left.min(longest))
            }
            None => Some(longest),
        }
    }

    /// Makes more input when all of it was taken; at its end the child's standard input is closed, and its part of a
    /// conversation is over.
    fn make_input(&mut self) {
        while self.rest.len() < BLOCK && (self.stdin.is_some() || self.answers.is_some()) {
            match self.words.say() {
                // What it does not want to know is not kept.
                Say::Words(words) if self.stdin.is_some() => self.rest.extend_from_slice(&words),
                Say::Words(_) => {}
                Say::Listen if self.answers.is_some() => return,
                Say::Listen | Say::Over if self.rest.is_empty() => (self.stdin, self.answers) = (None, None),
                Say::Listen | Say::Over => return,
            }
        }
    }

    fn feed(&mut self) -> io::Result<()> {
        let Some(stdin) = &mut self.stdin else { return Ok(()) };
        match stdin.write(&self.rest) {
            Ok(taken) => {
                self.rest.drain(..taken);
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => {}
                // It does not want to know.
                io::ErrorKind::BrokenPipe => {
                    self.stdin = None;
                    self.rest.clear();
                }
                _ => return Err(error),
            },
        }
        Ok(())
    }

    /// Waits for the end of a child that says nothing any more: it may have closed its outputs and work on.
    fn wait(&mut self, running: &mut std::process::Child) -> io::Result<Ended> {
        let mut pause = Duration::from_micros(200);
        loop {
            if let Some(status) = running.try_wait()? {
                return Ok(ended(status));
            }
            let Some(now) = self.pause(pause) else { return Ok(Ended::Late) };
            std::thread::sleep(now);
            pause = (pause * 2).min(TICK / 10);
            if let Some(sink) = &mut self.sink {
                sink.tick(0)?;
            }
        }
    }
}

/// Hands on what can be read at once; at the end the pipe is closed.
fn listen(from: &mut Option<impl Read>, to: impl FnOnce(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let Some(reader) = from else { return Ok(()) };
    let mut buffer = [0; BLOCK];
    match reader.read(&mut buffer) {
        Ok(0) => *from = None,
        Ok(read) => to(&buffer[..read])?,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

fn ended(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Status(code),
        (None, signal) => Ended::Signal(signal.unwrap_or_default()),
    }
}

/// Which ends of a child something can be done with.
struct Ready {
    taking: bool,
    answering: bool,
    telling: [bool; 2],
}

/// Waits until the child takes input, or says something, or the pause is over.
fn wait_for(
    stdin: Option<&ChildStdin>,
    answers: Option<&ChildStdout>,
    said: [Option<&io::PipeReader>; 2],
    pause: Duration,
) -> io::Result<Ready> {
    let pause = rustix::event::Timespec {
        tv_sec: i64::try_from(pause.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: pause.subsec_nanos().into(),
    };
    let mut ends = Vec::with_capacity(3);
    ends.extend(stdin.map(|stdin| PollFd::new(stdin, PollFlags::OUT)));
    ends.extend(answers.map(|answers| PollFd::new(answers, PollFlags::IN)));
    ends.extend(said.iter().flatten().map(|said| PollFd::new(*said, PollFlags::IN)));
    match poll(&mut ends, Some(&pause)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut ready = ends.iter().map(|end| !end.revents().is_empty());
    Ok(Ready {
        taking: stdin.is_some() && ready.next().unwrap_or_default(),
        answering: answers.is_some() && ready.next().unwrap_or_default(),
        telling: said.map(|said| said.is_some() && ready.next().unwrap_or_default()),
    })
}

/// The highest descriptor that is looked at where /proc cannot tell which are open.
const DESCRIPTORS_MAX: i32 = 1024;

/// Marks every descriptor from 3 up to be closed in children: a web server may have left its own ones open (fcgiwrap leaves
/// the connection), and a child that holds one holds up the answer.
fn close_on_exec() -> io::Result<()> {
    let open: Vec<i32> = match std::fs::read_dir("/proc/self/fd") {
        Ok(entries) => entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect(),
        Err(_) => (0..DESCRIPTORS_MAX).collect(),
    };
    for descriptor in open.into_iter().filter(|&descriptor| descriptor > 2) {
        // SAFETY: the borrow ends with this statement and only a flag of the descriptor is set. One that has been closed
        // meanwhile (the directory's own has) is answered with EBADF.
        #[allow(unsafe_code, reason = "a descriptor that somebody else left open has no owner here")]
        let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
        match rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC) {
            Ok(()) | Err(Errno::BADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Pulse;

    fn shell(script: &str, input: &str, time: Option<Duration>) -> (io::Result<Ended>, String) {
        let mut said = Vec::new();
        let arguments = [OsString::from("-c"), script.into(), "name".into(), "argument".into()];
        let child = Child {
            program: Path::new("/bin/sh"),
            arguments: &arguments,
            environment: &[("ONLY".into(), "this".into()), ("PATH".into(), "/usr/bin:/bin".into())],
            directory: Path::new("/"),
            apart: true,
        };
        let mut lines = input.split_inclusive('\n').map(|line| line.as_bytes().to_vec());
        let ended = run(&child, &mut lines, Output::Sink(&mut said), time);
        (ended, String::from_utf8_lossy(&said).into_owned())
    }

    fn check(script: &str, input: &str, expected: (i32, &str)) {
        let (ended, said) = shell(script, input, Some(Duration::from_secs(20)));
        assert_eq!((ended.ok(), said.as_str()), (Some(Ended::Status(expected.0)), expected.1), "{script}");
    }

    #[test]
    fn both_outputs_are_handed_on_in_order() {
        check("echo one; echo two >&2; echo three; exit 3", "", (3, "one\ntwo\nthree\n"));
        check("cat", "a\nb\n", (0, "a\nb\n"));
        check(
            "echo $1; pwd; env | grep -v -e PWD= -e SHLVL= -e _= | sort",
            "",
            (0, "argument\n/\nONLY=this\nPATH=/usr/bin:/bin\n"),
        );
    }

    #[test]
    fn a_child_need_not_read_its_input() {
        let much = "0123456789abcdef\n".repeat(100_000);
        check("exit 7", &much, (7, ""));
        check("exec <&-; echo closed", &much, (0, "closed\n"));
        check("head -c 4; sleep 0.1", &much, (0, "0123"));
    }

    #[test]
    fn much_input_and_much_output_do_not_wait_for_each_other() {
        let much = "0123456789abcdef\n".repeat(100_000);
        let (ended, said) = shell("cat", &much, Some(Duration::from_secs(60)));
        assert_eq!(ended.ok(), Some(Ended::Status(0)));
        assert!(said == much, "all of it comes back");
    }

    #[test]
    fn a_child_that_closes_its_outputs_is_waited_for() {
        check("exec >&- 2>&-; sleep 0.2; exit 5", "", (5, ""));
    }

    /// Whether a process is there and is no zombie.
    fn is_running(pid: &str) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        status.rsplit(") ").next().and_then(|rest| rest.chars().next()).is_some_and(|state| state != 'Z')
    }

    #[test]
    fn a_child_is_stopped_with_what_it_has_started_when_its_time_is_over() {
        for script in ["sleep 60 & echo $!; wait", "sleep 60 & echo $!; exec >&- 2>&- sleep 60", "sleep 60 & echo $!"] {
            let begun = Instant::now();
            let (ended, said) = shell(script, "", Some(Duration::from_secs(2)));
            assert_eq!(ended.ok(), Some(Ended::Late), "{script}");
            assert!(said.trim().parse::<u32>().is_ok(), "{script}: {said}");
            while is_running(said.trim()) {
                assert!(begun.elapsed() < Duration::from_secs(20), "{script}");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    #[test]
    fn what_a_child_leaves_behind_on_purpose_goes_on() {
        let (ended, said) = shell("sleep 60 <&- >&- 2>&- & echo $!", "", Some(Duration::from_secs(20)));
        assert_eq!(ended.ok(), Some(Ended::Status(0)));
        assert!(is_running(said.trim()));
        let pid = Pid::from_raw(said.trim().parse().expect("a number")).expect("a process");
        rustix::process::kill_process(pid, Signal::KILL).expect("it runs");
    }

    /// Two outputs, one behind the other.
    #[derive(Default)]
    struct Two([Vec<u8>; 2]);

    impl Write for Two {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0[0].write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Pulse for Two {
        fn tick(&mut self, _done: u64) -> io::Result<()> {
            Ok(())
        }
    }

    impl Sink for Two {
        fn aside(&mut self, text: &[u8]) -> io::Result<()> {
            self.0[1].write_all(text)
        }
    }

    #[test]
    fn what_a_child_makes_and_what_it_says_can_be_told_apart() {
        let mut two = Two::default();
        let arguments = ["-c".into(), "echo one >&2; cat; echo two >&2; exec >&-; echo three >&2; exit 4".into()];
        let child = Child {
            program: Path::new("/bin/sh"),
            arguments: &arguments,
            environment: &[],
            directory: Path::new("/"),
            apart: true,
        };
        let much = "0123456789abcdef\n".repeat(50_000).into_bytes();
        let mut input = much.chunks(1000).map(<[u8]>::to_vec);
        // cat is found in the shell's own default path.
        let ended = run(&child, &mut input, Output::Apart(&mut two), Some(Duration::from_secs(60)));
        assert_eq!(ended.ok(), Some(Ended::Status(4)));
        assert!(two.0[0] == much, "all of it comes");
        assert_eq!(String::from_utf8_lossy(&two.0[1]), "one\ntwo\nthree\n");
    }

    #[test]
    fn a_signal_is_told() {
        let (ended, _) = shell("kill -KILL $$", "", None);
        assert_eq!(ended.ok(), Some(Ended::Signal(9)));
        // SIGPIPE is as it was when programs were young: a pipeline of the child ends quietly.
        check("(while :; do echo y || exit; done) | head -n 1; trap '' PIPE; echo ok", "", (0, "y\nok\n"));
    }

    /// Answers each line it hears with the same line, and says goodbye to `bye`.
    struct Echo(Vec<u8>, bool);

    impl Dialogue for Echo {
        fn say(&mut self) -> Say {
            match self.0.iter().position(|&byte| byte == b'\n') {
                Some(at) if self.0.starts_with(b"bye") => {
                    self.0.drain(..=at);
                    self.1 = true;
                    Say::Words(b"goodbye\n".to_vec())
                }
                Some(at) => Say::Words(self.0.drain(..=at).collect()),
                None if self.1 => Say::Over,
                None => Say::Listen,
            }
        }

        fn hear(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }
    }

    fn check_talk(script: &str, expected: (i32, &str)) {
        let mut said = Vec::new();
        let arguments = [OsString::from("-c"), script.into()];
        let child = Child {
            program: Path::new("/bin/sh"),
            arguments: &arguments,
            environment: &[("PATH".into(), "/usr/bin:/bin".into())],
            directory: Path::new("/"),
            apart: true,
        };
        let ended = converse(&child, &mut Echo(Vec::new(), false), &mut said, Some(Duration::from_secs(20)));
        let said = String::from_utf8_lossy(&said).into_owned();
        assert_eq!((ended.ok(), said.as_str()), (Some(Ended::Status(expected.0)), expected.1), "{script}");
    }

    #[test]
    fn what_a_child_is_told_may_depend_on_what_it_said() {
        check_talk("echo a; read x; echo $x$x; read y; echo bye; read z; echo \"$x $y $z\" >&2", (0, "a aa goodbye\n"));
        // Its input ends when the dialogue is over, and when the child itself has closed its output.
        check_talk("echo bye; cat >&2; exit 3", (3, "goodbye\n"));
        check_talk("echo a; exec >&-; cat >&2; exit 4", (4, "a\n"));
        check_talk("exec <&-; echo a; echo b >&2; exit 5", (5, "b\n"));
    }

    #[test]
    fn no_descriptor_but_the_first_three_is_inherited() {
        let file = std::fs::File::open("/").expect("the root can be read");
        let inherited = rustix::io::fcntl_dupfd_cloexec(&file, 40).expect("there is room");
        rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).expect("it is open");
        check("ls /proc/self/fd | wc -w", "", (0, "4\n"));
    }

    #[test]
    fn a_script_without_an_interpreter_line_is_run_by_the_shell() {
        let path = std::env::temp_dir().join(crate::durable::unique("script"));
        // Written by another process: a file that is open for writing in a thread's half-started child cannot be run.
        check(&format!("echo 'echo \"$0 $1\"' > {0} && chmod +x {0}", path.display()), "", (0, ""));
        let mut said = Vec::new();
        let child = Child {
            program: &path,
            arguments: &["x".into()],
            environment: &[],
            directory: Path::new("/"),
            apart: true,
        };
        let ended = run(&child, &mut std::iter::empty(), Output::Sink(&mut said), None);
        std::fs::remove_file(&path).expect("it was just written");
        assert_eq!(ended.ok(), Some(Ended::Status(0)));
        assert_eq!(String::from_utf8_lossy(&said), format!("{} x\n", path.display()));
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let mut said = Vec::new();
        let child = Child {
            program: Path::new("no/such"),
            arguments: &[],
            environment: &[],
            directory: Path::new("/"),
            apart: true,
        };
        let error = run(&child, &mut std::iter::empty(), Output::Sink(&mut said), None).expect_err("it is not there");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    /// Fails after some ticks.
    struct Weary(u32);

    impl Write for Weary {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Pulse for Weary {
        fn tick(&mut self, _done: u64) -> io::Result<()> {
            self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::BrokenPipe)?;
            Ok(())
        }
    }

    impl Sink for Weary {}

    #[test]
    fn ticks_come_while_a_child_is_silent_and_its_end_comes_with_the_sinks() {
        let child = Child {
            program: Path::new("/bin/sleep"),
            arguments: &["60".into()],
            environment: &[],
            directory: Path::new("/"),
            apart: true,
        };
        let begun = Instant::now();
        let ended = run(&child, &mut std::iter::empty(), Output::Sink(&mut Weary(1)), None);
        assert_eq!(ended.map_err(|error| error.kind()), Err(io::ErrorKind::BrokenPipe));
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}

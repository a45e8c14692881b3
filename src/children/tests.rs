//! Children that are shells.

use super::*;
use crate::stream::Pulse;
use rustix::process::{Pid, Signal};
use std::io::Write;
use std::time::Instant;

/// A child in an existing directory and in its own process group.
fn child<'a>(program: &'a Path, arguments: &'a [OsString], environment: &'a [(OsString, OsString)]) -> Child<'a> {
    Child { program, arguments, environment, directory: Path::new("/"), own_group: true }
}

fn shell(script: &str, input: &str, time: Option<Duration>) -> (io::Result<Ended>, String) {
    let mut said = Vec::new();
    let arguments = [OsString::from("-c"), script.into(), "name".into(), "argument".into()];
    let environment = [("ONLY".into(), "this".into()), ("PATH".into(), "/usr/bin:/bin".into())];
    let child = child(Path::new("/bin/sh"), &arguments, &environment);
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

/// Whether a process exists and is not a zombie.
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

/// A sink that keeps the output and the messages apart.
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
    let child = child(Path::new("/bin/sh"), &arguments, &[]);
    let much = "0123456789abcdef\n".repeat(50_000).into_bytes();
    let mut input = much.chunks(1000).map(<[u8]>::to_vec);
    // `cat` is found in the shell's own default path.
    let ended = run(&child, &mut input, Output::Apart(&mut two), Some(Duration::from_secs(60)));
    assert_eq!(ended.ok(), Some(Ended::Status(4)));
    assert!(two.0[0] == much, "all of it comes");
    assert_eq!(String::from_utf8_lossy(&two.0[1]), "one\ntwo\nthree\n");
}

#[test]
fn a_signal_is_told() {
    let (ended, _) = shell("kill -KILL $$", "", None);
    assert_eq!(ended.ok(), Some(Ended::Signal(9)));
    // SIGPIPE has its default action, so that a pipeline of the child ends quietly.
    check("(while :; do echo y || exit; done) | head -n 1; trap '' PIPE; echo ok", "", (0, "y\nok\n"));
}

/// Answers each line with the same line, and `bye` with `goodbye`, after which it ends.
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
    let environment = [("PATH".into(), "/usr/bin:/bin".into())];
    let child = child(Path::new("/bin/sh"), &arguments, &environment);
    let ended = converse(&child, &mut Echo(Vec::new(), false), &mut said, Some(Duration::from_secs(20)));
    let said = String::from_utf8_lossy(&said).into_owned();
    assert_eq!((ended.ok(), said.as_str()), (Some(Ended::Status(expected.0)), expected.1), "{script}");
}

#[test]
fn what_a_child_is_told_may_depend_on_what_it_said() {
    check_talk("echo a; read x; echo $x$x; read y; echo bye; read z; echo \"$x $y $z\" >&2", (0, "a aa goodbye\n"));
    // Its input ends when the dialogue is over, and also when the child has closed its output.
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
    // Written by another process: a file cannot be run while a child that another thread is starting still has it open
    // for writing.
    check(&format!("echo 'echo \"$0 $1\"' > {0} && chmod +x {0}", path.display()), "", (0, ""));
    let mut said = Vec::new();
    let arguments = ["x".into()];
    let child = child(&path, &arguments, &[]);
    let ended = run(&child, &mut std::iter::empty(), Output::Sink(&mut said), None);
    std::fs::remove_file(&path).expect("it was just written");
    assert_eq!(ended.ok(), Some(Ended::Status(0)));
    assert_eq!(String::from_utf8_lossy(&said), format!("{} x\n", path.display()));
}

#[test]
fn a_program_that_is_not_there_is_an_error() {
    let mut said = Vec::new();
    let child = child(Path::new("no/such"), &[], &[]);
    let error = run(&child, &mut std::iter::empty(), Output::Sink(&mut said), None).expect_err("it is not there");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

/// A sink that fails after some ticks.
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
    let arguments = ["60".into()];
    let child = child(Path::new("/bin/sleep"), &arguments, &[]);
    let begun = Instant::now();
    let ended = run(&child, &mut std::iter::empty(), Output::Sink(&mut Weary(1)), None);
    assert_eq!(ended.map_err(|error| error.kind()), Err(io::ErrorKind::BrokenPipe));
    assert!(begun.elapsed() < Duration::from_secs(20));
}

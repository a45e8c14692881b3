//! Fetches while git repacks: at each moment of an answer in turn, packs and loose objects vanish (ST-07, ST-08).

use super::*;
use std::ops::ControlFlow;

/// Collects an answer, and runs `disturb` at one moment of it.
struct Disturbed<'d> {
    bytes: Vec<u8>,
    /// How many calls are left until that moment.
    moment: ControlFlow<(), usize>,
    disturb: &'d (dyn Fn() + Sync),
}

impl Disturbed<'_> {
    fn call(&mut self) {
        self.moment = match self.moment {
            ControlFlow::Continue(0) => {
                (self.disturb)();
                ControlFlow::Break(())
            }
            ControlFlow::Continue(left) => ControlFlow::Continue(left - 1),
            ControlFlow::Break(()) => ControlFlow::Break(()),
        };
    }
}

impl Write for Disturbed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.call();
        self.bytes.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl crate::stream::Pulse for Disturbed<'_> {
    fn tick(&mut self, _done: u64) -> io::Result<()> {
        self.call();
        Ok(())
    }
}

impl crate::stream::Sink for Disturbed<'_> {}

/// The answer to a request while `lender` is repacked at one moment of it, and whether that moment came.
fn answered(repo: &Repo, lender: &Repo, input: &[u8], moment: usize) -> (String, bool) {
    let disturb = || {
        lender.git(&["repack", "-adq"]);
        lender.git(&["prune-packed", "-q"]);
    };
    let repository = repo.open(http(Version::V2));
    let mut sink = Disturbed { bytes: Vec::new(), moment: ControlFlow::Continue(moment), disturb: &disturb };
    let mut summary = Summary::default();
    let mut out = Out { sink: &mut sink, channel: &mut ErrorChannel::Status, summary: &mut summary };
    let result = run(&UPLOAD, &repository, &mut Given { left: input, stateless: true }, &mut out);
    result.unwrap_or_else(|error| panic!("at moment {moment}: {:?}", error.told("id")));
    (told(repo, &sink.bytes), sink.moment.is_break())
}

/// Puts some objects into packs of their own and leaves the others loose: all of these files vanish when git repacks.
fn scatter(repo: &Repo) {
    repo.git(&["repack", "-adq"]);
    let folder = repo.path.join("objects/pack");
    let files = || std::fs::read_dir(&folder).expect("it is there").map(|entry| entry.expect("it is there").path());
    let pack = files().find(|path| path.extension().is_some_and(|extension| extension == "pack")).expect("a pack");
    let bytes = std::fs::read(&pack).expect("it can be read");
    files().for_each(|path| std::fs::remove_file(path).expect("it is ours"));
    assert!(git_in(&repo.path, &["unpack-objects", "-q"], &bytes).0);
    for revisions in ["main~1\n", "main\n^main~1\n"] {
        let arguments = ["pack-objects", "-q", "--revs", "objects/pack/pack"];
        assert!(git_in(&repo.path, &arguments, revisions.as_bytes()).0);
    }
    repo.git(&["prune-packed", "-q"]);
}

/// Checks that every answer is the same as an undisturbed one.
fn check(repo: &Repo, lender: &Repo, lines: &str) {
    let input = repo.packets(lines);
    let (expected, _) = answered(repo, lender, &input, usize::MAX);
    lender.git(&["config", "core.fsync", "none"]);
    for moment in (0..100).step_by(2) {
        scatter(lender);
        let (got, disturbed) = answered(repo, lender, &input, moment);
        assert_eq!(got, expected, "at moment {moment}");
        if !disturbed {
            assert!(moment > 10, "such moments must come");
            return;
        }
    }
    panic!("the answer has more moments than this test is made for");
}

const WHOLE: &str = "command=fetch|0001|want <main>|want <topic>|want <v1>|done|0000";
const PART: &str = "command=fetch|0001|want <topic>|want <v1>|have <root>|done|0000";

#[test]
fn a_fetch_is_whole_whenever_its_packs_are_replaced() {
    let repo = Repo::drawn();
    check(&repo, &repo, WHOLE);
}

#[test]
fn a_fetch_is_whole_whenever_the_packs_it_borrows_from_are_replaced() {
    let lender = Repo::drawn();
    let repo = Repo::new();
    std::fs::write(repo.path.join("objects/info/alternates"), format!("{}\n", lender.path.join("objects").display()))
        .expect("it was just made");
    for name in ["refs/heads/main", "refs/heads/topic", "refs/tags/v1"] {
        repo.git(&["update-ref", name, &lender.id(name)]);
    }
    check(&repo, &lender, PART);
}

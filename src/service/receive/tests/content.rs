//! How the owner's configuration treats problems found in pushed objects, compared with C git.

use super::support::{self, Answer, Pair, Push};
use bstr::ByteSlice;

/// A pair whose server checks objects, and a commit of the client's without an email address.
fn pair_with_bad_commit() -> (Pair, String) {
    let pair = Pair::new();
    pair.at_server(&["config", "receive.fsckObjects", "true"]);
    let tree = pair.client_id("HEAD^{tree}");
    let content = format!("tree {tree}\nauthor B 1 +0000\ncommitter B <b@x> 1 +0000\n\nbad\n");
    let arguments = ["hash-object", "--literally", "-t", "commit", "-w", "--stdin"];
    let id = pair.git_with(&pair.client, &arguments, content.as_bytes());
    (pair, id.trim().to_str().expect("it is hex").to_owned())
}

fn send(pair: &Pair, commit: &str) -> (Answer, Answer) {
    let bytes = pair.push(&[&format!("- {commit} refs/heads/bad")]).bytes();
    let copy = pair.copy();
    (pair.send_bytes(&bytes), copy.send_to_git(&bytes))
}

#[test]
fn what_a_tree_calls_a_file_must_be_one() {
    for (format, unpack_limit) in [("sha1", "100"), ("sha256", "1")] {
        let pair = Pair::with_format(format);
        let object = |kind: &str, content: &[u8]| {
            let arguments = ["hash-object", "-t", kind, "-w", "--stdin"];
            let id = pair.git_with(&pair.client, &arguments, content);
            id.trim().to_str().expect("it is hex").to_owned()
        };
        let (commit, known) = (pair.client_id("HEAD"), pair.client_id("HEAD^{tree}"));
        let tag = object("tag", format!("object {commit}\ntype commit\ntag t\ntagger T <t> 1 +0000\n\n").as_bytes());
        let fresh = object("tree", b"");
        pair.at_server(&["config", "receive.unpackLimit", unpack_limit]);
        for (mode, called, accepted) in [
            ("100644", &fresh, false),
            ("120000", &known, false),
            ("100755", &commit, false),
            ("100644", &tag, false),
            ("160000", &commit, true),
            ("100644", &pair.client_id("HEAD:file"), true),
        ] {
            let id = gix_hash::ObjectId::from_hex(called.as_bytes()).expect("git names objects so");
            let root = object("tree", &[format!("{mode} a\0").as_bytes(), id.as_bytes()].concat());
            let content = format!("tree {root}\nparent {commit}\nauthor A <a> 1 +0000\ncommitter C <c> 1 +0000\n\n");
            let tip = object("commit", content.as_bytes());
            let names = format!("{tip}\n{root}\n{fresh}\n{tag}\n");
            let pack = pair.git_with(&pair.client, &["pack-objects", "-q", "--stdout"], names.as_bytes());
            let lines = vec![format!("{} {tip} refs/heads/new", pair.null())];
            let capabilities = support::USUAL.replace("sha1", format);
            let push = Push { lines, capabilities, options: None, shallow: Vec::new(), pack };
            for checked in ["true", "false"] {
                pair.at_server(&["config", "receive.fsckObjects", checked]);
                let (mine, copy) = (pair.copy(), pair.copy());
                let (ours, theirs) = (mine.send_bytes(&push.bytes()), copy.send_to_git(&push.bytes()));
                let case = format!("{mode} {called} {checked}: {:?} {:?}", ours.report, theirs.report);
                // git reports of the pack what we report of the ref (UN-07); without checks of objects it notices only
                // what its walk meets.
                assert_eq!(ours.complaints().is_empty(), accepted, "{case}");
                assert!(!accepted || theirs.complaints().is_empty(), "{case}");
                assert!(checked == "false" || accepted == theirs.complaints().is_empty(), "{case}");
                mine.assert_clean();
            }
        }
    }
}

/// Checks whether the commit is accepted with these settings, as by git, and what is said about it.
fn check(settings: &[(&str, &str)], accepted: bool, said: &[&str]) {
    let (pair, commit) = pair_with_bad_commit();
    std::fs::write(pair.server.join("list"), format!("# known\n\n  {commit} # and let pass\n")).expect("written");
    std::fs::write(pair.server.join("nonsense"), format!("{}\n", &commit[..20])).expect("written");
    for (key, value) in settings {
        pair.at_server(&["config", "--add", key, value]);
    }
    let (ours, theirs) = send(&pair, &commit);
    let verdict = |answer: &Answer| answer.report.iter().skip(1).cloned().collect::<Vec<_>>();
    assert_eq!(verdict(&ours), verdict(&theirs), "{settings:?}: {}\n{}", ours.said, theirs.said);
    assert_eq!(ours.complaints().is_empty(), accepted, "{settings:?}: {}", ours.said);
    let expected = said.iter().map(|line| line.replace("COMMIT", &commit)).collect::<Vec<_>>();
    let lines = ours.said.lines().filter(|line| !line.starts_with("Unpacking") && !line.starts_with("Resolving"));
    assert_eq!(lines.collect::<Vec<_>>(), expected, "{settings:?}");
}

const FINDING: &str = "object COMMIT: missingEmail: invalid author/committer line - missing email";

#[test]
fn how_serious_a_finding_is_stands_in_the_configuration() {
    let error = format!("error: {FINDING}");
    let refused = [error.as_str(), "fatal: fsck error in packed object"];
    let warning = format!("warning: {FINDING}");
    check(&[], false, &refused);
    check(&[("receive.fsck.missingEmail", "warn")], true, &[&warning]);
    check(&[("receive.fsck.MISSINGEMAIL", "ignore")], true, &[]);
    check(&[("receive.fsck.missingEmail", "ignore"), ("receive.fsck.missingEmail", "error")], false, &refused);
    check(&[("fsck.missingEmail", "ignore")], false, &refused);
    check(&[("receive.fsck.badRefName", "ignore"), ("receive.fsck.missingEmail", "ignore")], true, &[]);
    check(
        &[("receive.fsck.whatEver", "error"), ("receive.fsck.missingEmail", "warn")],
        true,
        &["warning: skipping unknown msg id 'whatever'", &warning],
    );
    check(&[("receive.fsck.unterminatedHeader", "warn")], false, &["fatal: Cannot demote unterminatedheader to warn"]);
    check(&[("receive.fsck.nulInHeader", "error"), ("receive.fsck.missingEmail", "ignore")], true, &[]);
}

#[test]
fn objects_on_a_list_are_let_pass() {
    let refused = [&format!("error: {FINDING}"), "fatal: fsck error in packed object"];
    check(&[("receive.fsck.skipList", "list")], true, &[]);
    check(&[("fsck.skipList", "list")], false, &refused);
    check(&[("receive.fsck.skipList", "/dev/null")], false, &refused);
    check(&[("receive.fsck.skipList", "/dev/null"), ("receive.fsck.skipList", "list")], true, &[]);
    let none = "fatal: could not open object name list: no-list";
    check(&[("receive.fsck.skipList", "no-list")], false, &[none]);
    let (pair, commit) = pair_with_bad_commit();
    let named = format!("fatal: invalid object name: {}", &commit[..20]);
    check(&[("receive.fsck.skipList", "nonsense")], false, &[&named]);
    drop(pair);
}

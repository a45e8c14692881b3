//! What v2 has beside plain fetches: refs wanted by name, answers through bands.

use super::*;
use crate::pktline;

/// The same answer without bands: lines of sections as they would be without sideband-all, the pack still on band 1. What
/// was said on band 3 becomes an ERR packet.
fn without_bands(answer: &[u8]) -> Vec<u8> {
    let mut input = answer;
    let mut reader = PacketReader::new(&mut input);
    let (mut plain, mut in_pack) = (Vec::new(), false);
    while let Some(packet) = reader.next().expect("well formed") {
        match packet {
            Packet::Data([1, data @ ..]) if in_pack => {
                pktline::line(&mut plain, &[b"\x01", data].concat()).expect("memory");
            }
            Packet::Data([1, line @ ..]) => {
                in_pack = line == b"packfile\n";
                pktline::line(&mut plain, line).expect("memory");
            }
            Packet::Data([2, ..]) => {}
            Packet::Data([3, text @ ..]) => {
                pktline::err(&mut plain, String::from_utf8_lossy(text).trim_end()).expect("memory");
            }
            Packet::Data(line) => panic!("a line without a band: {}", line.escape_ascii()),
            Packet::Flush => plain.extend_from_slice(b"0000"),
            Packet::Delim => plain.extend_from_slice(b"0001"),
            Packet::ResponseEnd => plain.extend_from_slice(b"0002"),
        }
    }
    plain
}

fn fetch(lines: &str) -> String {
    format!("command=fetch|object-format=sha1|0001|{lines}|0000")
}

#[test]
fn refs_are_wanted_by_their_names_as_from_git() {
    let repo = Repo::drawn();
    repo.git(&["config", "uploadpack.allowRefInWant", "true"]);
    repo.git(&["config", "transfer.hideRefs", "refs/secret"]);
    same_advertisement(&repo, Version::V2);
    let check = |lines: &str| same_fetch(&repo, http(Version::V2), &fetch(lines));
    let told = check("want-ref refs/heads/main|done");
    assert!(
        told.starts_with(&format!("wanted-refs\n|{} refs/heads/main\n|0001|packfile\n|", repo.id("main"))),
        "{told}"
    );
    // The tag itself comes, not only what it points to.
    let told = check("want-ref refs/tags/v1|done");
    assert!(told.contains(&repo.id("v1")), "{told}");
    check("want-ref HEAD|done");
    check("want-ref refs/heads/alias|done");
    check("want-ref refs/heads/main|want <topic>|want <main>|done");
    check("want-ref refs/heads/topic|have <main>");
    check("want-ref refs/heads/topic|have <main>|wait-for-done");
    check(&format!("want-ref refs/heads/topic|have {}", "1".repeat(40)));
    for name in ["refs/heads/nothing", "refs/heads/broken", "refs/secret/side", "refs/heads", "main", "refs/heads/.."] {
        assert_eq!(check(&format!("want-ref {name}|done")), format!("ERR unknown ref {name}"));
    }
    let twice = "want-ref refs/heads/main|want-ref refs/heads/main|done";
    assert_eq!(check(twice), "ERR duplicate want-ref refs/heads/main");
    let many = check("want-ref refs/heads/topic|want-ref refs/tags/light|want-ref refs/heads/main|done");
    assert_eq!(many.matches(" refs/").count(), 3, "{many}");
}

#[test]
fn what_is_no_ref_of_the_list_cannot_be_wanted_by_name() {
    let repo = Repo::drawn();
    repo.git(&["config", "uploadpack.allowRefInWant", "true"]);
    repo.git(&["update-ref", "ORIG_HEAD", "refs/secret/side"]);
    let ask = || repo.ours(tokens(Version::V2), &UPLOAD, &repo.packets(&fetch("want-ref ORIG_HEAD|done")));
    assert_eq!(ask().1.as_deref(), Some("unknown ref ORIG_HEAD"));
    repo.git(&["config", "uploadpack.allowRefInWant", "false"]);
    assert_eq!(ask().1.as_deref(), Some("unexpected line: 'want-ref ORIG_HEAD'"));
}

#[test]
fn whole_answers_go_through_bands_where_asked() {
    let repo = Repo::drawn();
    repo.git(&["config", "uploadpack.allowRefInWant", "true"]);
    repo.git(&["config", "uploadpack.allowSidebandAll", "true"]);
    same_advertisement(&repo, Version::V2);
    let check = |lines: &str| {
        let input = repo.packets(&fetch(&format!("sideband-all|{lines}")));
        let (ours, error) = repo.ours(http(Version::V2), &UPLOAD, &input);
        let (theirs, _) = repo.theirs(http(Version::V2), false, &input);
        let mut ours = told(&repo, &without_bands(&ours));
        if let Some(error) = error {
            ours += &format!("ERR {error}");
        }
        assert_eq!(ours, told(&repo, &without_bands(&theirs)), "{lines}");
        ours
    };
    assert!(check("want <main>|done").starts_with("packfile\n|pack of 9"));
    check("want <topic>|have <main>");
    check("want <topic>|want <v1>|have <main>|have <one>|done");
    check("want-ref refs/heads/topic|have <main>");
    check(&format!("want <topic>|have {}", "1".repeat(40)));
    check("want <topic>|have <main>|wait-for-done");
    assert_eq!(check("done"), "");
    let unknown = "1".repeat(40);
    assert_eq!(check(&format!("want {unknown}|done")), format!("ERR upload-pack: not our ref {unknown}"));
    assert_eq!(check("want-ref refs/nothing|done"), "ERR unknown ref refs/nothing");
}

#[test]
fn an_error_before_the_pack_is_told_on_band_3_where_everything_has_a_band() {
    let repo = Repo::drawn();
    repo.git(&["config", "uploadpack.allowSidebandAll", "true"]);
    let channel = |lines: &str| {
        let (repository, mut bytes, mut summary) = (repo.open(http(Version::V2)), Vec::new(), Summary::default());
        let mut channel = ErrorChannel::Status;
        let mut out = Out { sink: &mut bytes, channel: &mut channel, summary: &mut summary };
        let input = repo.packets(&fetch(lines));
        run(&UPLOAD, &repository, &mut Given { left: &input, stateless: true }, &mut out).expect_err("it is refused");
        format!("{channel:?}")
    };
    let want = format!("want {}", "1".repeat(40));
    assert_eq!(channel(&want), "ErrLine");
    assert_eq!(channel(&format!("{want}|sideband-all")), "Band3");
}

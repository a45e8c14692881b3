//! What v2 adds to plain fetches: refs wanted by name, answers through side bands.

use super::*;
use crate::pktline;

/// The same answer without side bands: section lines as they would be without sideband-all, the pack still on band 1. A
/// message on band 3 becomes an ERR packet.
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
    // The tag itself comes, not only the object it points to.
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
fn a_depth_and_refs_by_name_go_together() {
    let repo = Repo::drawn();
    repo.git(&["config", "uploadpack.allowRefInWant", "true"]);
    repo.git(&["config", "uploadpack.allowSidebandAll", "true"]);
    let main = repo.id("main");
    // git's server sends wanted-refs first, which its own client refuses here.
    let expected =
        format!("shallow-info\n|shallow {main}|0001|wanted-refs\n|{main} refs/heads/main\n|0001|packfile\n|pack of 3");
    for bands in ["", "sideband-all|"] {
        let input = repo.packets(&fetch(&format!("{bands}deepen 1|want-ref refs/heads/main|done")));
        let (answer, error) = repo.ours(http(Version::V2), &UPLOAD, &input);
        assert_eq!(error, None);
        let answer = if bands.is_empty() { answer } else { without_bands(&answer) };
        assert!(told(&repo, &answer).starts_with(&expected), "{}", told(&repo, &answer));
    }
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
    check("want <topic>|deepen 2|done");
    check("want <topic>|deepen 1|shallow <main>|have <main>");
    check("want <topic>|shallow <one>|have <main>|done");
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

#[test]
fn only_the_versions_the_owner_lets_speak_are_spoken() {
    let repo = Repo::drawn();
    let announced = |asked: Asked| {
        let (answer, error) = repo.ours(asked, &Operation::Advertise(Service::UploadPack), b"");
        let answer = told(&repo, &answer);
        match error {
            Some(error) => error,
            None if answer.contains("version 2\n") => "2".to_owned(),
            None if answer.contains("version 1\n") => "1".to_owned(),
            None => "0".to_owned(),
        }
    };
    let all = || [Version::V0, Version::V1, Version::V2].map(|version| announced(http(version)));
    assert_eq!(all(), ["0", "1", "2"]);
    repo.git(&["config", "artifacts.protocolVersions", "0"]);
    assert_eq!(all(), ["0", "0", "0"]);
    assert!(same_fetch(&repo, http(Version::V1), "want <main> side-band-64k|0000|done").contains("pack of 9"));
    repo.git(&["config", "artifacts.protocolVersions", "2"]);
    let sentence = |version| {
        format!(
            "this repository is fetched with protocol version 2 alone, and version {version} was asked for: set \
             protocol.version, which git knows from 2.18 on"
        )
    };
    assert_eq!(all(), [sentence(0), sentence(1), "2".to_owned()]);
    let (answer, error) = repo.ours(http(Version::V0), &UPLOAD, &repo.packets("want <main>|0000|done"));
    assert_eq!((answer, error), (Vec::new(), Some(sentence(0))));
    // Push has no version 2, and is not affected.
    for version in [Version::V0, Version::V1, Version::V2] {
        let (_, error) = repo.ours(http(version), &Operation::Advertise(Service::ReceivePack), b"");
        assert_eq!(error, None);
    }
}

/// Checks that a command is answered as git answers it, or refused if git refuses it, in the words git prints on
/// stderr.
fn same_command(repo: &Repo, lines: &str) -> String {
    let input = repo.packets(lines);
    let (ours, error) = repo.ours(http(Version::V2), &UPLOAD, &input);
    let (theirs, served) = repo.theirs(http(Version::V2), false, &input);
    assert_eq!(error.is_none(), served, "{lines}: {error:?}");
    let ours = error.unwrap_or_else(|| told(repo, &ours));
    assert!(!served || ours == told(repo, &theirs), "{lines}: {ours} is not {}", told(repo, &theirs));
    ours
}

#[test]
fn sizes_of_objects_are_told_as_by_git() {
    let repo = Repo::drawn();
    repo.git(&["config", "transfer.advertiseObjectInfo", "true"]);
    let (announced, _) = repo.ours(http(Version::V2), &Operation::Advertise(Service::UploadPack), b"");
    assert!(told(&repo, &announced).ends_with("|object-format=sha1\n|object-info=size\n|0000"));
    let unknown = "1".repeat(40);
    let ask = |lines: &str| same_command(&repo, &format!("command=object-info|object-format=sha1|{lines}0000"));
    assert_eq!(ask(""), "0000");
    assert_eq!(ask("0001|size|"), "0000");
    // Without an attribute older versions of git leave the space out.
    let input = repo.packets(&format!("command=object-info|0001|oid {unknown}|0000"));
    assert_eq!(told(&repo, &repo.ours(http(Version::V2), &UPLOAD, &input).0), format!("{unknown} |0000"));
    let told = ask(&format!("0001|size|oid <main>|oid {unknown}|oid <v1>|oid <main:two>|oid <main>|"));
    assert_eq!(told.matches('|').count(), 6, "{told}");
    assert!(told.starts_with("size|") && told.contains(&format!("{} 160|", repo.id("main:two"))), "{told}");
    assert_eq!(ask("0001|oid <main:two>|"), format!("{}|0000", repo.id("main:two")));
    repo.git(&["repack", "-q", "-a", "-d", "-f"]);
    assert_eq!(ask("0001|size|oid <main:two>|oid <main>|"), ask("0001|size|oid <main:two>|oid <main>|"));
    // As in a fetch, replacements do not apply.
    repo.git(&["replace", &repo.id("main:two"), &repo.blob("longer or shorter")]);
    assert_eq!(ask("0001|size|oid <main:two>|"), format!("size|{} 160|0000", repo.id("main:two")));
}

#[test]
fn object_info_refuses_what_it_does_not_know() {
    let repo = Repo::drawn();
    repo.git(&["config", "transfer.advertiseObjectInfo", "true"]);
    let check = |lines: &str, expected: &str| {
        let lines = format!("command=object-info|object-format=sha1|0001|{lines}");
        let (answer, error) = repo.ours(http(Version::V2), &UPLOAD, &repo.packets(&lines));
        assert_eq!((told(&repo, &answer).as_str(), error.as_deref()), ("", Some(expected)), "{lines}");
        // git says the same, and goes on although the client has stopped reading.
        let (theirs, _) = repo.theirs(http(Version::V2), false, &repo.packets(&lines));
        assert!(String::from_utf8_lossy(&theirs).contains(&format!("ERR {expected}")), "{lines}");
    };
    check("type|0000", "object-info: unexpected line: 'type'");
    check("oid main|0000", "object-info: protocol error, expected to get oid, not 'main'");
    check("size|0001", "object-info: expected flush after arguments");
}

#[test]
fn a_token_hears_of_no_object_it_could_not_fetch() {
    let repo = Repo::drawn();
    repo.git(&["config", "transfer.advertiseObjectInfo", "true"]);
    let (lost, blob) = (repo.commit_object("lost", &[]), repo.blob("lost blob"));
    repo.git(&["config", "transfer.hideRefs", "refs/secret"]);
    let known = |asked: Asked, id: &str| {
        let (answer, error) =
            repo.ours(asked, &UPLOAD, &repo.packets(&format!("command=object-info|0001|size|oid {id}|0000")));
        assert_eq!(error, None);
        !told(&repo, &answer).ends_with(" |0000")
    };
    let ids = ["<main>", "<root>", "<v1>", "<main:two>", "<refs/secret/side>", &lost, &blob];
    let may = |asked| ids.iter().map(|id| if known(asked, id) { 'y' } else { '-' }).collect::<String>();
    assert_eq!(may(tokens(Version::V2)), "yyyy---");
    repo.git(&["config", "artifacts.wants", "commits"]);
    assert_eq!(may(tokens(Version::V2)), "yyyy--y");
    repo.git(&["config", "--unset", "artifacts.wants"]);
    assert_eq!(may(http(Version::V2)), "yyyyyyy");
}

#[test]
fn bundles_are_listed_as_they_are_configured() {
    let repo = Repo::drawn();
    for (key, value) in [
        ("uploadpack.advertiseBundleURIs", "true"),
        ("Bundle.Version", "1"),
        ("bundle.mode", "all"),
        ("bundle.Weekly.One.URI", "https://host/weekly one.bundle?x=y"),
        ("bundle.Weekly.One.creationToken", "17"),
        ("bundles.other", "1"),
    ] {
        repo.git(&["config", key, value]);
    }
    same_advertisement(&repo, Version::V2);
    let expected = "bundle.version=1|bundle.mode=all|bundle.Weekly.One.uri=https://host/weekly one.bundle?x=y|\
                    bundle.Weekly.One.creationtoken=17|0000";
    assert_eq!(same_command(&repo, "command=bundle-uri|object-format=sha1|0000"), expected);
    assert_eq!(same_command(&repo, "command=bundle-uri|object-format=sha1|0001|0000"), expected);
    // Older versions of git list this one too.
    repo.git(&["config", "bundle.empty.uri", ""]);
    let (answer, _) = repo.ours(http(Version::V2), &UPLOAD, &repo.packets("command=bundle-uri|0000"));
    assert_eq!(told(&repo, &answer), expected);
    assert_eq!(same_command(&repo, "command=bundle-uri|0001|x|0000"), "bundle-uri: unexpected argument: 'x'");
    assert_eq!(same_command(&repo, "command=bundle-uri|0001|0001"), "bundle-uri: expected flush after arguments");
}

#[test]
fn promisor_remotes_are_announced_with_the_fields_the_owner_names() {
    let repo = Repo::drawn();
    let announced = || {
        let (answer, error) = repo.ours(http(Version::V2), &Operation::Advertise(Service::UploadPack), b"");
        assert_eq!(error, None);
        let told = told(&repo, &answer);
        told.split('|').find_map(|line| line.strip_prefix("promisor-remote=")).map(|value| value.trim_end().to_owned())
    };
    for (key, value) in [
        ("remote.big store.url", "https://host/a;b,c%"),
        ("remote.big store.promisor", "true"),
        ("remote.big store.partialCloneFilter", "blob:limit=5k"),
        ("remote.big store.token", "s3cret"),
        ("remote.second.url", "file:///x"),
        ("remote.second.promisor", "true"),
        ("remote.nowhere.promisor", "true"),
        ("remote.origin.url", "https://host/o"),
    ] {
        repo.git(&["config", key, value]);
    }
    assert_eq!(announced(), None);
    repo.git(&["config", "promisor.advertise", "true"]);
    let name = "name=big%20store,url=https://host/a%3bb%2cc%25";
    assert_eq!(announced(), Some(format!("{name};name=second,url=file:///x")));
    repo.git(&["config", "promisor.sendFields", "Token, partialclonefilter,other"]);
    let first = format!("{name},partialCloneFilter=blob:limit=5k,token=s3cret");
    assert_eq!(announced(), Some(format!("{first};name=second,url=file:///x")));
    repo.git(&["config", "promisor.sendFields", "partialCloneFilter"]);
    assert_eq!(announced(), Some(format!("{name},partialCloneFilter=blob:limit=5k;name=second,url=file:///x")));
    let (_, error) =
        repo.ours(http(Version::V2), &UPLOAD, &repo.packets("command=fetch|promisor-remote=second|0001|done|0000"));
    assert_eq!(error, None, "what is announced may be answered");
}

/// An answer with addresses: the lines of packfile-uris, and the rest.
fn with_uris(repo: &Repo, lines: &str) -> (Vec<String>, String) {
    let (answer, error) = repo.ours(http(Version::V2), &UPLOAD, &repo.packets(&fetch(lines)));
    assert_eq!(error, None, "{lines}");
    let plain = if lines.contains("sideband-all") { without_bands(&answer) } else { answer };
    let told = told(repo, &plain);
    match told.strip_prefix("packfile-uris\n|").and_then(|rest| rest.split_once("|0001|")) {
        Some((uris, rest)) => (uris.split('|').map(|uri| uri.trim_end().to_owned()).collect(), rest.to_owned()),
        None => (Vec::new(), told),
    }
}

/// The ids of the objects in the pack of an answer.
fn sent(answer: &str) -> BTreeSet<String> {
    let names = answer.split(" of ").nth(1).and_then(|rest| rest.split_once(": ")).expect("there is a pack").1;
    names.trim_end_matches("|0000").split(' ').map(str::to_owned).collect()
}

#[test]
fn blobs_that_are_elsewhere_are_told_not_sent() {
    let repo = Repo::drawn();
    repo.git(&["config", "uploadpack.allowSidebandAll", "true"]);
    let (two, tagged, hash) = (repo.id("main:two"), repo.id("blob^{}"), "a".repeat(40));
    let add = |blob: &str, uri: &str| {
        repo.git(&["config", "--add", "uploadpack.blobPackfileUri", &format!("{blob} {hash} {uri}")]);
    };
    add(&two, "https://host/one.pack");
    add(&tagged, "http://host/other.pack");
    let (announced, _) = repo.ours(http(Version::V2), &Operation::Advertise(Service::UploadPack), b"");
    assert!(told(&repo, &announced).contains(" sideband-all packfile-uris\n"));
    let check = |lines: &str, uris: &[&str], without: &[&String]| {
        let (told, answer) = with_uris(&repo, lines);
        let uris: Vec<String> = uris.iter().map(|uri| format!("{hash} {uri}")).collect();
        assert_eq!(told, uris, "{lines}");
        let mut expected = sent(&with_uris(&repo, &lines.replace("sideband-all|", "")).1);
        without.iter().for_each(|id| assert!(expected.remove(*id)));
        assert_eq!(sent(&answer), expected, "{lines}");
    };
    let want = "want <main>|want <blob>|done";
    check(&format!("sideband-all|packfile-uris https|{want}"), &["https://host/one.pack"], &[&two]);
    let both = ["https://host/one.pack", "http://host/other.pack"];
    check(&format!("sideband-all|packfile-uris http,https|{want}"), &both, &[&two, &tagged]);
    check(&format!("sideband-all|packfile-uris ftp|{want}"), &[], &[]);
    // Without sideband-all there is no place for the addresses.
    check(&format!("packfile-uris https|{want}"), &[], &[]);
    check("sideband-all|packfile-uris https|want <one>|done", &[], &[]);
    repo.git(&["repack", "-q", "-a", "-d", "-f"]);
    check(&format!("sideband-all|packfile-uris https|{want}"), &["https://host/one.pack"], &[&two]);
    check(
        "sideband-all|packfile-uris https|want <topic>|have <one>|done|thin-pack|ofs-delta",
        &["https://host/one.pack"],
        &[&two],
    );
    // An address for several blobs is listed once.
    add(&repo.id("main~1:one"), "https://host/one.pack");
    let (told, _) = with_uris(&repo, &format!("sideband-all|packfile-uris https|{want}|want <topic>"));
    assert_eq!(told.len(), 1, "{told:?}");
}

#[test]
fn whole_packs_that_are_elsewhere_are_told_only_where_all_of_them_is_wanted() {
    let repo = Repo::drawn();
    repo.git(&["config", "uploadpack.allowSidebandAll", "true"]);
    let (ok, name, errors) = git_in(
        &repo.path,
        &["pack-objects", "--revs", "-q", "objects/pack/pack"],
        format!("{}\n", repo.id("main")).as_bytes(),
    );
    assert!(ok, "{errors}");
    let hash = String::from_utf8(name).expect("hexadecimal").trim_end().to_owned();
    repo.git(&["config", "artifacts.packfileUri", &format!("{hash} https://host/main.pack")]);
    let ask = |lines: &str| {
        let (told, answer) = with_uris(&repo, &format!("sideband-all|packfile-uris https|{lines}|done"));
        assert!(told.is_empty() || told == [format!("{hash} https://host/main.pack")], "{told:?}");
        (told.len(), sent(&answer).into_iter().filter(|name| !name.is_empty()).count())
    };
    let all = ["<main>", "<topic>", "<refs/secret/side>", "<v1>"].map(|want| format!("want {want}|")).concat();
    assert_eq!(ask("want <main>"), (1, 0));
    assert_eq!(ask("want <topic>"), (1, 3));
    assert_eq!(ask(&format!("{all}ofs-delta")), (1, 7));
    // If only part of the pack is wanted, or only what is new to the client, it is sent.
    assert_eq!(ask("want <one>"), (0, 6));
    assert_eq!(ask("want <topic>|have <one>"), (0, 6));
    // Its objects may be found elsewhere, loose or in a larger pack, as long as the pack itself is here.
    std::fs::write(repo.path.join(format!("objects/pack/pack-{hash}.keep")), "").expect("it can be written");
    repo.git(&["repack", "-q", "-a", "-d", "-f"]);
    assert_eq!(ask(&format!("{all}thin-pack|ofs-delta")), (1, 7));
    std::fs::remove_file(repo.path.join(format!("objects/pack/pack-{hash}.keep"))).expect("it was written");
    repo.git(&["repack", "-q", "-a", "-d", "-f"]);
    assert_eq!(ask("want <main>"), (0, 9));
}

#[test]
fn what_a_remote_promised_may_be_missing_for_who_accepts_that_remote() {
    let repo = Repo::drawn();
    let two = repo.id("main:two");
    repo.git(&["repack", "-q", "-a", "-d", "--no-write-bitmap-index", "--filter=blob:none"]);
    // Blobs stay loose; the tip's is removed.
    std::fs::remove_file(repo.path.join("objects").join(&two[..2]).join(&two[2..])).expect("it is loose");
    let main = repo.id("main");
    let entries = std::fs::read_dir(repo.path.join("objects/pack")).expect("it is there").flatten();
    let mut indexes =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|kind| kind == "idx"));
    let holds = |path: &PathBuf| repo.git(&["verify-pack", "-v", path.to_str().expect("plain")]).contains(&main);
    let pack = indexes.find(holds).expect("there is a pack of commits and trees");
    for (key, value) in [
        ("remote.big store.url", "https://host/store"),
        ("remote.big store.promisor", "true"),
        ("promisor.advertise", "true"),
    ] {
        repo.git(&["config", key, value]);
    }
    // How many objects are sent, or why none are.
    let ask = |accepted: &str| {
        let lines = format!("command=fetch|{accepted}object-format=sha1|0001|want <main>|no-progress|done|0000");
        let (answer, error) = repo.ours(http(Version::V2), &UPLOAD, &repo.packets(&lines));
        match error {
            None => Ok(u32::from_be_bytes(pack_in(&answer)[8..12].try_into().expect("four bytes"))),
            Some(error) => Err(error),
        }
    };
    let refused = |accepted: &str| {
        let error = ask(accepted).expect_err("blobs are missing");
        assert!(error.starts_with("upload-pack: lazy fetching disabled; blob "), "{error}");
    };
    refused("");
    refused("promisor-remote=big%20store|");
    // From here on the remote has promised whatever the trees name.
    std::fs::write(pack.with_extension("promisor"), "").expect("it can be written");
    refused("promisor-remote=other|");
    assert_eq!(ask("promisor-remote=other;big%20store|"), Ok(8), "three commits, three trees, two blobs");
    // In a longer conversation git says it once, with ls-refs.
    let lines = "command=ls-refs|promisor-remote=big%20store|0000|command=fetch|0001|want <main>|done|0000";
    let (_, error) = repo.ours(pipe(Version::V2), &UPLOAD, &repo.packets(lines));
    assert_eq!(error, None);
}

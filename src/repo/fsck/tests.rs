//! Good and bad objects; git's findings for the same objects are the reference.

use super::*;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// A repository in which git checks objects.
struct Repo(PathBuf);

impl Drop for Repo {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn git(directory: &Path, args: &[&str], input: &[u8]) -> (Vec<u8>, String) {
    let mut child = crate::testing::command("git")
        .args(args)
        .current_dir(directory)
        .envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null")])
        .env("HOME", directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
}

impl Repo {
    fn new() -> Self {
        let path = std::env::temp_dir().join(crate::durable::unique("fsck-"));
        fs::create_dir(&path).unwrap();
        git(&path, &["init", "--quiet", "--bare", "."], b"");
        Repo(path)
    }

    fn add(&self, kind: Kind, content: &[u8]) -> ObjectId {
        let args = ["hash-object", "-w", "--literally", "--stdin", "-t", &kind.to_string()];
        let (id, stderr) = git(&self.0, &args, content);
        ObjectId::from_hex(id.trim_ascii()).unwrap_or_else(|_| panic!("{stderr}"))
    }

    fn objects(&self) -> Objects {
        Objects::new(gix_hash::Kind::Sha1, vec![self.0.join("objects")])
    }

    /// Compares our findings, under git's rules for incoming objects, with what git's index-pack says about the object.
    fn check(&self, kind: Kind, content: &[u8], expected: &[&str]) {
        let id = self.add(kind, content);
        let rules = Rules::strict();
        let mut checker = Checker::new(gix_hash::Kind::Sha1, &rules);
        checker.check(&id, kind, content);
        checker.check_files(&self.objects(), 1 << 20).unwrap();
        let mut ours: Vec<String> = checker.take_findings().iter().map(Finding::to_line).collect();
        let ids: Vec<String> = ours.iter().map(|line| line.split(": ").nth(2).unwrap().to_owned()).collect();
        let shown = String::from_utf8_lossy(content);
        assert_eq!(ids, expected, "{shown:?}");

        let (pack, _) = git(&self.0, &["pack-objects", "--stdout", "--quiet"], format!("{id}\n").as_bytes());
        // Without `--strict`: the objects this one refers to need not exist.
        let (_, stderr) = git(&self.0, &["index-pack", "--stdin", "--fsck-objects"], &pack);
        let mut theirs: Vec<&str> = stderr.lines().filter(|line| line.contains(": object ")).collect();
        theirs.sort_unstable();
        ours.sort_unstable();
        assert_eq!(ours, theirs, "{shown:?}");
    }

    fn check_tree(&self, entries: &[(&str, &str)], expected: &[&str]) {
        let entries: Vec<(&str, &[u8])> = entries.iter().map(|(mode, name)| (*mode, name.as_bytes())).collect();
        self.check_tree_of_bytes(&entries, expected);
    }

    fn check_tree_of_bytes(&self, entries: &[(&str, &[u8])], expected: &[&str]) {
        let blob = self.add(Kind::Blob, b"");
        let mut content = Vec::new();
        for (mode, name) in entries {
            content.extend([mode.as_bytes(), b" ", name, b"\0", blob.as_slice()].concat());
        }
        self.check(Kind::Tree, &content, expected);
    }

    fn check_modules(&self, modules: &str, expected: &[&str]) {
        let blob = self.add(Kind::Blob, modules.as_bytes());
        let tree = [b"100644 .gitmodules\0", blob.as_slice()].concat();
        self.check(Kind::Tree, &tree, expected);
    }
}

#[test]
fn trees_must_be_sorted_and_unique() {
    let repo = Repo::new();
    let check = |names: &[(&str, &str)], expected: &[&str]| repo.check_tree(names, expected);
    check(&[], &[]);
    check(&[("100644", "a"), ("100755", "b"), ("120000", "c"), ("40000", "d"), ("160000", "e")], &[]);
    check(&[("100644", "b"), ("100644", "a")], &["treeNotSorted"]);
    check(&[("100644", "a"), ("100644", "a")], &["duplicateEntries"]);
    check(&[("100644", "a"), ("40000", "a")], &["duplicateEntries"]);
    // A directory sorts as if its name ended in a slash.
    check(&[("100644", "a.b"), ("40000", "a")], &[]);
    check(&[("40000", "a"), ("100644", "a.b")], &["treeNotSorted"]);
    check(&[("100644", "a"), ("100644", "a.b"), ("40000", "a")], &["duplicateEntries"]);
    check(
        &[("100644", "a"), ("100644", "a.b"), ("100644", "a.b.c"), ("40000", "a.b"), ("40000", "a")],
        &["duplicateEntries"],
    );
    check(&[("100644", "a"), ("100644", "a-b"), ("40000", "a.b"), ("100644", "ab")], &[]);
}

#[test]
fn trees_must_have_sound_modes() {
    let repo = Repo::new();
    repo.check_tree(&[("0100644", "a")], &["zeroPaddedFilemode"]);
    repo.check_tree(&[("040000", "a")], &["zeroPaddedFilemode"]);
    repo.check_tree(&[("100664", "a")], &["badFilemode"]);
    repo.check_tree(&[("644", "a")], &["badFilemode"]);
    // Only sixteen bits count.
    repo.check_tree(&[("1100644", "a")], &[]);
    repo.check_tree(&[("7777777777100644", "a")], &[]);
    repo.check_tree(&[("110644", "a")], &["badFilemode"]);
}

#[test]
fn trees_must_be_parsed() {
    let repo = Repo::new();
    let good = b"100644 a\0aaaaaaaaaaaaaaaaaaaa";
    // git's index-pack does not get this far: it parses before it checks.
    let check = |content: &[u8]| {
        let rules = Rules::protecting();
        let mut checker = Checker::new(gix_hash::Kind::Sha1, &rules);
        assert!(!checker.check(&repo.add(Kind::Tree, content), Kind::Tree, content));
        let messages: Vec<Message> = checker.take_findings().iter().map(Finding::message).collect();
        assert_eq!(messages, [Message::BadTree], "{content:?}");
    };
    for len in 1..good.len() {
        check(&good[..len]);
        check(&[good, &good[..len]].concat());
    }
    check(b"100644 \0aaaaaaaaaaaaaaaaaaaa");
    check(b" a\0aaaaaaaaaaaaaaaaaaaa");
    check(b"10064x a\0aaaaaaaaaaaaaaaaaaaa");
    check(b"100649 a\0aaaaaaaaaaaaaaaaaaaa");
}

#[test]
fn names_that_harm_clients_are_refused() {
    let repo = Repo::new();
    let check = |name: &str, expected: &[&str]| repo.check_tree(&[("100644", name)], expected);
    check(".", &["hasDot"]);
    check("..", &["hasDotdot"]);
    check("a/b", &["fullPathname"]);
    check("/", &["fullPathname"]);
    for name in [".git", ".GIT", "git~1", ".git ", ".git::$INDEX_ALLOCATION", ".g\u{200c}it", "a\\.git", "x\\git~1\\y"]
    {
        check(name, &["hasDotgit"]);
    }
    check(".git/x", &["fullPathname", "hasDotgit"]);
    for name in [&b".git\xff"[..], b".git\xffx", b".g\xe2\x80\x8cit\xc0\x80", b".git\xed\xa0\x80", b".git\xef\xbf\xbex"]
    {
        repo.check_tree_of_bytes(&[("100644", name)], &["hasDotgit"]);
    }
    for name in [&b"\xff.git"[..], b".g\xffit", b".git\xc3\xa9", b".git\xf0\x9f\xbf\xbe"] {
        repo.check_tree_of_bytes(&[("100644", name)], &[]);
    }
    for name in ["git", "..git", ".gitx", "a.git", "...", "x\\y"] {
        check(name, &[]);
    }
    check(&"x".repeat(4096), &[]);
    check(&"x".repeat(4097), &["largePathname"]);
    repo.check(Kind::Tree, &[&b"100644 a\0"[..], &[0; 20]].concat(), &["nullSha1"]);
}

#[test]
fn gits_own_files_must_not_be_links() {
    let repo = Repo::new();
    let check = |name: &str, expected: &[&str]| repo.check_tree(&[("120000", name)], expected);
    check(".gitmodules", &["gitmodulesSymlink"]);
    check("GITMOD~1", &["gitmodulesSymlink"]);
    check("x\\.gitmodules", &["gitmodulesSymlink"]);
    check(".gitattributes", &["gitattributesSymlink"]);
    check(".gitignore", &["gitignoreSymlink"]);
    check(".mailmap", &["mailmapSymlink"]);
    check("MABA30~1", &["mailmapSymlink"]);
    check(".gitmodulesx", &[]);
}

#[test]
fn commits_must_have_their_headers() {
    let repo = Repo::new();
    let tree = repo.add(Kind::Tree, b"").to_string();
    let check = |content: String, expected: &[&str]| repo.check(Kind::Commit, content.as_bytes(), expected);
    let ident = "A U Thor <author@x> 1000000000 +0000";
    let good = format!("tree {tree}\nauthor {ident}\ncommitter {ident}\n\nmessage\n");
    check(good.clone(), &[]);
    check(format!("tree {tree}\nauthor {ident}\ncommitter {ident}\n"), &[]);
    check(format!("tree {tree}\nauthor {ident}\ncommitter {ident}\nencoding x\n\nm"), &[]);
    check(format!("{good}\0"), &["nulInCommit"]);
    check(format!("tree {tree}\nauthor {ident}\nauthor {ident}\ncommitter {ident}\n\n"), &["multipleAuthors"]);
    check(format!("tree {tree}\ncommitter {ident}\n\n"), &["missingAuthor"]);
    check(format!("tree {tree}\nauthor {ident}\n\n"), &["missingCommitter"]);
    check(format!("tree {tree}\nauthor {ident}\ncommitter {ident}"), &["unterminatedHeader"]);
    check(format!("tree {tree}\nauthor A\0{ident}\ncommitter {ident}\n\n"), &["nulInHeader"]);
    for (ident, expected) in [
        ("<a@x> 1 +0000", "missingNameBeforeEmail"),
        ("A 1 +0000", "missingEmail"),
        ("A> <a@x> 1 +0000", "badName"),
        ("A<a@x> 1 +0000", "missingSpaceBeforeEmail"),
        ("A <a<x> 1 +0000", "badEmail"),
        ("A <a@x 1 +0000", "badEmail"),
        ("A <a@x>1 +0000", "missingSpaceBeforeDate"),
        ("A <a@x> x +0000", "badDate"),
        ("A <a@x> 1x +0000", "badDate"),
        ("A <a@x> ", "badDate"),
        ("A <a@x> 01 +0000", "zeroPaddedDate"),
        ("A <a@x> 18446744073709551617 +0000", "badDateOverflow"),
        ("A <a@x> 9223372036854775808 +0000", "badDateOverflow"),
        ("A <a@x> 1 0000", "badTimezone"),
        ("A <a@x> 1 +000", "badTimezone"),
        ("A <a@x> 1 +00000", "badTimezone"),
    ] {
        check(format!("tree {tree}\nauthor A <a@x> 1 +0000\ncommitter {ident}\n\n"), &[expected]);
    }
    for ident in ["A <a@x> 0 +0000", "A <> 9223372036854775807 -9999", " <a@x>  \t 5 +0000"] {
        check(format!("tree {tree}\nauthor {ident}\ncommitter {ident}\n\n"), &[]);
    }
}

#[test]
fn commits_without_a_tree_are_refused() {
    // git's index-pack does not get this far: it parses before it checks.
    let check = |content: &str, expected: Message| {
        let rules = Rules::protecting();
        let mut checker = Checker::new(gix_hash::Kind::Sha1, &rules);
        assert!(!checker.check(&gix_hash::Kind::Sha1.null(), Kind::Commit, content.as_bytes()), "{content:?}");
        assert_eq!(checker.take_findings()[0].message(), expected, "{content:?}");
    };
    let id = gix_hash::Kind::Sha1.null().to_string();
    check("\n\n", Message::MissingTree);
    check("author A <a@x> 1 +0000\n", Message::MissingTree);
    check("tree abc\n", Message::BadTreeSha1);
    check(&format!("tree {id}a\n"), Message::BadTreeSha1);
    check(&format!("tree {id}\nparent x\n"), Message::BadParentSha1);
}

#[test]
fn tags_must_have_their_headers() {
    let repo = Repo::new();
    let blob = repo.add(Kind::Blob, b"").to_string();
    let check = |content: String, expected: &[&str]| repo.check(Kind::Tag, content.as_bytes(), expected);
    let tagger = "tagger A <a@x> 1 +0000\n";
    check(format!("object {blob}\ntype blob\ntag v1\n{tagger}\nmessage"), &[]);
    check(format!("object {blob}\ntype blob\ntag v1\n\nmessage"), &["missingTaggerEntry"]);
    check(format!("object {blob}\ntype blob\ntag v..1\n{tagger}\n"), &["badTagName"]);
    check(format!("object {blob}\ntype blob\ntag v1\ntagger A <a@x> x +0000\n\n"), &["badDate"]);
    check(format!("object {blob}\ntype blob\ntag v1\n{tagger}gpgsig x\n y\n z\n\n"), &[]);
    let check = |content: &str, expected: Message| {
        let rules = Rules::protecting();
        let mut checker = Checker::new(gix_hash::Kind::Sha1, &rules);
        assert!(!checker.check(&gix_hash::Kind::Sha1.null(), Kind::Tag, content.as_bytes()), "{content:?}");
        assert_eq!(checker.take_findings()[0].message(), expected, "{content:?}");
    };
    check("type blob\n", Message::MissingObject);
    check("object x\n", Message::BadObjectSha1);
    check(&format!("object {blob}\ntag v1\n"), Message::MissingTypeEntry);
    check(&format!("object {blob}\ntype bloob\n"), Message::BadType);
    check(&format!("object {blob}\ntype blob\ntagger\n"), Message::MissingTagEntry);
    check(&format!("object {blob}\ntype blob\ntag v1"), Message::UnterminatedHeader);
}

#[test]
fn gitmodules_must_not_harm() {
    let repo = Repo::new();
    let check = |modules: &str, expected: &[&str]| repo.check_modules(modules, expected);
    check("", &[]);
    check("[submodule \"a\"]\n\tpath = a\n\turl = https://example.com/a.git\n\tupdate = none\n", &[]);
    for name in ["..", "../x", "x/..", "x/../y", "..\\\\x", "x\\\\..", ""] {
        check(&format!("[submodule \"{name}\"]\n\tpath = a\n"), &["gitmodulesName"]);
    }
    check("[submodule \"..\"]\n", &[]);
    check("[submodule \"a..b\"]\npath = x", &[]);
    check("[submodule.x] path = -y\n", &["gitmodulesPath"]);
    check("[submodule \"a\"]\n\tpath = \"-x\" ; comment\n", &["gitmodulesPath"]);
    check("[SUBMODULE \"a\"]\n\tPATH = \\\n-x\n", &["gitmodulesPath"]);
    check("[submodule \"a\"] path = ./-x\n", &[]);
    check("[submodule \"a\"]\n\tupdate = !rm\n", &["gitmodulesUpdate"]);
    check("[submodule \"a\"]\n\tupdate = ! \n\turl\n", &["gitmodulesUpdate"]);
    check("[submodule \"a\"]\r\n\turl = -x\r\n", &["gitmodulesUrl"]);
    for url in [
        "-u./payload",
        "./%0ahost=x/foo.git",
        "../%0a",
        "../:x",
        "..//x",
        ".././../:h/x",
        "git://host/%0a",
        "https://%0ahost/x",
        "https:///x",
        "http://host:99999/x",
        "https::https://h%0a/x",
        "http::x",
        "https://h/a%0ab",
        "ftp://h/%zz",
        "https://h/x%0",
        "https://us%20er@/x",
        "https://a@b@host/x",
        "https://ho~st/x",
        "https://ho%73t/x",
        "https://h:+80/x",
        "https://h:0/x",
        "https://h:00/x",
        "https://h:000065536/x",
        "https://h:80a/x",
        "https://h/../x",
        "https://h/a/%2e%2E/%2e./x",
        "https://h/a/../../x",
        "https://h?x=%0A",
        "https://h#%",
        "https://u%@h/",
        "https://:80/x",
        "http::file://:80/x",
        "http::1a://h/x",
        "git://h/%00%0a",
        "./%00%0a",
        "./%41:%0a",
    ] {
        check(&format!("[submodule \"a\"]\n\turl = \"{url}\"\n"), &["gitmodulesUrl"]);
    }
    for url in [
        "./foo",
        "../foo",
        "../../a:b",
        "git://host/x%20y",
        "https://host/x",
        "https://u:p@host:8080/x?y#z",
        "https://[::1]:80/x",
        "ssh://host/%0a",
        "host:%0a",
        "file:///x",
        "http::https://h/x",
        "https://h/%00",
        "https://h:/x",
        "https://h:0000080/x",
        "https://h:65535/x",
        "https://h/x/../y",
        "https://h/x/..",
        "https://h/x/..?..",
        "https://h/./x//..//y/.",
        "https://[a]b:c]/x",
        "https://u@h?/../..",
        "http::file:///x",
        "http::file://:/x",
        "git://h/%0",
        "./%0a:x",
    ] {
        check(&format!("[submodule \"a\"]\n\turl = \"{url}\"\n"), &[]);
    }
    // git passes on section and key as one C string, which ends at a NUL and is split at its last dot.
    check("[submodule \"..\0\"]\n\turl = -x\n", &[]);
    check("[submodule \"...x\0\"]\n\turl = -x\n", &["gitmodulesName"]);
    check("[submodule \"a\0..\"]\n\turl = -x\n", &[]);
    check("[submodule \"a.url\0/..\"]\n\tpath = -x\n", &["gitmodulesUrl"]);
    check("[submodule \"a.b.path\0\"]\n\turl = -x\n", &["gitmodulesPath"]);
    check("[submodule \"\0\"]\n\turl = -x\n", &[]);
    check("[submodule.]\n\turl = x\n", &["gitmodulesName"]);
    check("[submodule.a.url]\n\tpath = -x\n", &["gitmodulesPath"]);
    check("[submodule]\n\turl = -x\n", &[]);
    check("[submodule \"a\"]\n\turl = \"x\0-\"\n", &[]);
    // Everything before a fault counts.
    check("[submodule \"a\"]\n\turl = -x\n[broken\n", &["gitmodulesUrl", "gitmodulesParse"]);
    for broken in
        ["[submodule", "=x", "[]\nx\n", "[a\n]", "[submodule \"a\"]\nurl = \"x\n", "[submodule \"a\"]\nurl = \\q\n"]
    {
        check(broken, &["gitmodulesParse"]);
    }
}

#[test]
fn gitmodules_are_read_as_clients_read_files() {
    // git's own check stops at these bytes; its reader of files does not.
    let repo = Repo::new();
    for modules in [&b"\xef\xbb\xbf[submodule \"a\"]\nurl = -x\n"[..], b"# \xff\n[submodule \"a\"]\nurl = -x\n"] {
        let blob = repo.add(Kind::Blob, modules);
        let rules = Rules::protecting();
        let mut checker = Checker::new(gix_hash::Kind::Sha1, &rules);
        checker.check(&blob, Kind::Tree, &[b"100644 .gitmodules\0", blob.as_slice()].concat());
        assert!(!checker.check_files(&repo.objects(), 1 << 20).unwrap(), "{modules:?}");
        assert_eq!(checker.take_findings()[0].message(), Message::GitmodulesUrl);
    }
}

#[test]
fn gitattributes_must_not_overflow_old_parsers() {
    let repo = Repo::new();
    let check = |content: &[u8], expected: &[&str]| {
        let blob = repo.add(Kind::Blob, content);
        repo.check(Kind::Tree, &[b"100644 .gitattributes\0", blob.as_slice()].concat(), expected);
    };
    check(b"* text\n", &[]);
    check(&[b"x".repeat(2047), b"\ny".to_vec()].concat(), &[]);
    check(&b"x".repeat(2048), &["gitattributesLineLength"]);
}

#[test]
fn files_that_are_missing_or_no_blobs_are_told() {
    let repo = Repo::new();
    let tree = repo.add(Kind::Tree, b"");
    let check = |id: &[u8], expected: &[&str], protecting: bool| {
        let content = [b"100644 .gitattributes\0", id, b"100644 .gitmodules\0", id].concat();
        let rules = Rules::protecting();
        let mut checker = Checker::new(gix_hash::Kind::Sha1, &rules);
        assert!(checker.check(&tree, Kind::Tree, &content));
        assert_eq!(checker.check_files(&repo.objects(), 10).unwrap(), protecting);
        let messages: Vec<String> = checker.take_findings().iter().map(|f| f.message().to_string()).collect();
        assert_eq!(messages, expected);
    };
    check(&[1; 20], &["gitmodulesMissing", "gitattributesMissing"], true);
    check(tree.as_slice(), &["gitmodulesBlob", "gitattributesBlob"], false);
    let large = repo.add(Kind::Blob, b"eleven bytes");
    check(large.as_slice(), &["gitmodulesLarge", "gitattributesLarge"], false);
}

#[test]
fn an_object_with_a_million_faults_takes_no_memory_for_them() {
    let rules = Rules::protecting();
    let mut checker = Checker::new(gix_hash::Kind::Sha1, &rules);
    let id = gix_hash::Kind::Sha1.null();
    let harmless = b"120000 .mailmap\0aaaaaaaaaaaaaaaaaaaa".repeat(1000);
    let harmful = b"120000 .gitmodules\0aaaaaaaaaaaaaaaaaaaa".repeat(1000);
    assert!(!checker.check(&id, Kind::Tree, &[harmless, harmful].concat()));
    let findings = checker.take_findings();
    assert_eq!(findings.len(), FINDINGS_MAX + 1);
    assert_eq!(findings.last().unwrap().message(), Message::GitmodulesSymlink);

    let many: Vec<u8> =
        (0..100_001_u32).flat_map(|n| [&b"100644 .gitmodules\0"[..], &[9; 16], &n.to_be_bytes()].concat()).collect();
    assert!(!checker.check(&id, Kind::Tree, &many));
    assert!(checker.take_findings().iter().any(|finding| finding.message() == Message::GitmodulesLarge));
}

#[test]
fn every_message_has_a_row_and_rules_only_differ_where_they_may() {
    let (strict, protecting) = (Rules::strict(), Rules::protecting());
    assert_eq!(Message::ExtraHeaderEntry as usize + 1, MESSAGES.len());
    for (row, (name, _, _)) in MESSAGES.iter().enumerate() {
        assert!(protecting.severities[row] <= strict.severities[row], "{name}");
        assert!(MESSAGES.iter().filter(|(other, _, _)| other == name).count() == 1);
    }
    assert_eq!(strict.severity(Message::HasDotgit), Severity::Error);
    assert_eq!(protecting.severity(Message::ZeroPaddedFilemode), Severity::Warn);
}

#[test]
fn foreign_text_in_a_finding_can_do_nothing_to_a_terminal() {
    let repo = Repo::new();
    let rules = Rules::strict();
    let mut checker = Checker::new(gix_hash::Kind::Sha1, &rules);
    let long = "x".repeat(1000);
    let modules = format!("[submodule \"../\u{1b}[2J\"]\n\tpath = \"-\u{1b}]0;t\u{7}\\n\"\n\turl = -{long}\n");
    let blob = repo.add(Kind::Blob, modules.as_bytes());
    let tree = [b"100644 .gitmodules\0", blob.as_slice()].concat();
    checker.check(&repo.add(Kind::Tree, &tree), Kind::Tree, &tree);
    checker.check_files(&repo.objects(), 1 << 20).unwrap();
    let tag = format!("object {blob}\ntype blob\ntag a\u{1b}[2Jb\ntagger A <a@x> 1000000000 +0000\n\nm\n");
    checker.check(&repo.add(Kind::Tag, tag.as_bytes()), Kind::Tag, tag.as_bytes());
    let lines: Vec<String> = checker.take_findings().iter().map(Finding::to_line).collect();
    let texts: Vec<&str> = lines.iter().map(|line| line.rsplit_once(": ").unwrap().1).collect();
    let shown = ["../?[2J", "-?]0;t??", "../?[2J", "a?[2Jb"].map(str::to_owned);
    let url = format!("-{}...", &long[1..200]);
    assert_eq!(texts.len(), 5, "{lines:?}");
    for text in shown.iter().chain([&url]) {
        assert!(texts.contains(&text.as_str()), "{text}: {lines:?}");
    }
}

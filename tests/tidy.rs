//! Rules a machine can check: layers, forbidden words, documents that name every row of every table.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers from the bottom up: a module may use modules of its own line and of the lines above it here.
const LAYERS: &[&[&str]] = &[
    &[
        "heap", "stream", "calendar", "hex", "number", "durable", "journal", "listing", "children", "audit", "trace",
        "cache",
    ],
    &["pktline"],
    &["protocol"],
    &["auth"],
    &["odb"],
    &["refs"],
    &["repo"],
    &["pack"],
    &["maintenance"],
    &["service"],
    &["http", "access", "tell"],
    &["edge"],
    &["cgi", "pipe"],
    &["cli"],
];

/// Pairs that the layers allow and that are forbidden all the same: user, used, reason.
const NEVER: &[(&str, &str, &str)] = &[
    ("refs", "odb", "names know nothing of objects"),
    ("protocol", "odb", "what is said needs no repository"),
    ("auth", "protocol", "credentials know nothing of git"),
    ("children", "durable", "leaves stand alone"),
];

/// The source files, except those compiled for tests only.
fn sources() -> Vec<PathBuf> {
    let files = all_sources();
    let mut tests = Vec::new();
    for path in &files {
        let text = fs::read_to_string(path).unwrap();
        for after in text.split("#[cfg(test)]\n").skip(1) {
            let Some(name) = after.trim_start_matches("pub(crate) ").strip_prefix("mod ") else { continue };
            let Some(name) = name.split(';').next().filter(|name| !name.contains(' ')) else { continue };
            let stem = path.file_stem().unwrap().to_str().unwrap();
            let folder = path.parent().unwrap();
            let folder = if matches!(stem, "mod" | "lib" | "main") { folder.to_owned() } else { folder.join(stem) };
            tests.push(folder.join(name));
        }
    }
    files.into_iter().filter(|path| !tests.iter().any(|test| path.with_extension("").starts_with(test))).collect()
}

fn all_sources() -> Vec<PathBuf> {
    fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push(path);
            }
        }
    }
    let mut files = Vec::new();
    collect(&root().join("src"), &mut files);
    files.sort();
    files
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The code of a file, without its tests, which come last, and without comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The module a file belongs to: `src/odb/packs.rs` is in `odb`; lib.rs and main.rs are in none.
fn module(path: &Path) -> Option<String> {
    let inside = path.strip_prefix(root().join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (!matches!(name, "lib" | "main")).then(|| name.to_owned())
}

fn all_modules() -> BTreeMap<&'static str, usize> {
    LAYERS.iter().enumerate().flat_map(|(level, names)| names.iter().map(move |name| (*name, level))).collect()
}

#[test]
fn modules_only_look_down() {
    let levels = all_modules();
    let mut wrong = Vec::new();
    for path in sources() {
        let Some(own) = module(&path) else { continue };
        let own_level = *levels.get(own.as_str()).unwrap_or_else(|| panic!("{own} stands in no layer"));
        let code = code(&path);
        for (name, level) in &levels {
            let used = [format!("crate::{name}::"), format!("crate::{name};"), format!("crate::{name}}}")];
            if !used.iter().any(|word| code.contains(word.as_str())) {
                continue;
            }
            if *level > own_level {
                wrong.push(format!("{} looks up at {name}", path.display()));
            }
            if let Some((_, _, why)) = NEVER.iter().find(|(who, what, _)| *who == own && what == name) {
                wrong.push(format!("{} uses {name}: {why}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Words, and the only files that may contain them.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("Grant::new(", &["access.rs"]),
    ("Command::new(", &["children.rs", "cli/serve"]),
    ("fs::rename", &["durable.rs"]),
    ("fs::remove_file", &["durable.rs"]),
    ("fs::remove_dir", &["durable.rs"]),
    ("fs::create_dir", &["durable.rs", "cli/serve"]),
    ("fs::hard_link", &["durable.rs"]),
    ("File::create", &["durable.rs"]),
    (".sync_all()", &["durable.rs"]),
    ("OpenOptions", &["durable.rs", "durable/failpoints.rs", "audit.rs", "refs/files/loose.rs", "trace/mod.rs"]),
    ("env::var", &["edge/environ.rs", "cli/"]),
    ("SystemTime::now", &["edge/context.rs", "cli/"]),
    ("eprintln!", &["cli/"]),
    ("println!", &["cli/"]),
    ("static mut", &[]),
    ("todo!", &[]),
    ("unimplemented!", &[]),
    ("dbg!", &[]),
    (".unwrap()", &[]),
    ("allow(unsafe_code", &["odb/map.rs", "children.rs", "durable/barrier.rs", "heap/allocator.rs"]),
];

#[test]
fn words_stand_only_where_they_belong() {
    let mut wrong = Vec::new();
    for path in sources() {
        let inside = path.strip_prefix(root().join("src")).unwrap().to_str().unwrap().to_owned();
        let code = code(&path);
        for (word, places) in ONLY_IN {
            if code.contains(word) && !places.iter().any(|place| inside.starts_with(place)) {
                wrong.push(format!("{inside}: {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_says_what_it_is() {
    for path in all_sources() {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//! "), "{} has no header", path.display());
    }
}

#[test]
fn documents_name_every_row() {
    let read = |name: &str| fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let configuration = read("docs/configuration.md");
    for key in artifacts_http_backend::repo::settings::KEYS {
        assert!(configuration.contains(&format!("`{key}`")), "docs/configuration.md does not name {key}");
    }
    let audit = read("docs/audit-log.md");
    for (key, _) in artifacts_http_backend::audit::KEYS {
        assert!(audit.contains(&format!("`{key}`")), "docs/audit-log.md does not name {key}");
    }
}

/// The sections of docs/compatibility.md, with the number of behaviours in each.
#[rustfmt::skip]
const BEHAVIOURS: &[(&str, usize)] = &[
    ("HB", 28), ("HD", 13), ("BO", 16), ("EN", 17), ("RE", 17), ("PK", 8), ("PV", 7), ("UA", 14),
    ("UR", 17), ("NE", 13), ("V2", 24), ("LS", 14), ("FE", 19), ("SH", 18), ("FI", 9), ("PO", 22),
    ("RA", 12), ("RQ", 12), ("UN", 17), ("QU", 12), ("CO", 8), ("UP", 26), ("HO", 16), ("PR", 11),
    ("PC", 8), ("SP", 5), ("RS", 7), ("AP", 3), ("MA", 15), ("HN", 7), ("DU", 9), ("ST", 8), ("TR", 3),
    ("SE", 6),
];

#[test]
fn every_behaviour_of_git_has_its_row() {
    let text = fs::read_to_string(root().join("docs/compatibility.md")).unwrap();
    for (section, count) in BEHAVIOURS {
        let (_, body) = text.split_once(&format!("\n## {section} ")).unwrap_or_else(|| panic!("no section {section}"));
        let body = body.split("\n## ").next().unwrap_or_default();
        let rows = body.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| id "));
        let rows: Vec<Vec<&str>> = rows.map(|row| row.split('|').map(str::trim).collect()).collect();
        let ids: Vec<&str> = rows.iter().map(|row| row[1]).collect();
        let expected: Vec<String> = (1..=*count).map(|number| format!("{section}-{number:02}")).collect();
        assert_eq!(ids, expected);
        for row in rows {
            let &["", _, behaviour, here, test, ""] = row.as_slice() else {
                panic!("four columns are expected: {row:?}")
            };
            assert!(!behaviour.is_empty() && behaviour.chars().count() <= 90 && !test.is_empty(), "{row:?}");
            let differs = here.strip_prefix("differs: ").is_some_and(|how| !how.is_empty());
            assert!(differs || matches!(here, "yes" | "no" | "not yet"), "{row:?}");
        }
    }
    let is_section =
        |heading: &str| heading.as_bytes().get(..2).is_some_and(|two| two.iter().all(|b| !b.is_ascii_lowercase()));
    let sections =
        text.lines().filter_map(|line| line.strip_prefix("## ")).filter(|heading| is_section(heading)).count();
    assert_eq!(sections, BEHAVIOURS.len(), "a section is missing in the table of this test");
}

/// Comments cite rows of docs/compatibility.md, such as `HB-16`.
#[test]
fn citations_lead_to_a_row() {
    let is_citation = |word: &str| {
        matches!(word.as_bytes(), [a, b, b'-', c, d]
            if a.is_ascii_uppercase() && (b.is_ascii_uppercase() || b.is_ascii_digit()) && c.is_ascii_digit() && d.is_ascii_digit())
    };
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        for word in text.split(|character: char| !character.is_ascii_alphanumeric() && character != '-') {
            let Some((section, number)) = word.split_once('-').filter(|_| is_citation(word)) else { continue };
            let count = BEHAVIOURS.iter().find(|(known, _)| *known == section).map_or(0, |(_, count)| *count);
            let number: usize = number.parse().unwrap();
            assert!((1..=count).contains(&number), "{}: {word} is no row of docs/compatibility.md", path.display());
        }
    }
}

#[test]
fn tests_that_documents_name_exist() {
    let mut code = String::new();
    for folder in ["src", "tests"] {
        let mut stack = vec![root().join(folder)];
        while let Some(folder) = stack.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    stack.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs")
                    && let Ok(text) = fs::read_to_string(&path)
                {
                    code.push_str(&text);
                }
            }
        }
    }
    for document in ["docs/compatibility.md", "docs/testing.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        for row in text.lines().filter(|line| line.starts_with("| ")) {
            let Some(tests) = row.trim_end_matches('|').rsplit('|').next() else { continue };
            for name in tests.split('`').skip(1).step_by(2).filter(|name| !name.contains(['.', '/', ' '])) {
                assert!(code.contains(&format!("fn {name}(")), "{document} names the test {name}, which is not there");
            }
        }
    }
}

#[test]
fn the_changelog_begins_with_what_is_unreleased() {
    let text = fs::read_to_string(root().join("docs/CHANGELOG.md")).unwrap();
    let first = text.lines().find(|line| line.starts_with("## ")).unwrap();
    assert_eq!(first, "## Unreleased");
}

/// `scripts/fuzz.sh` builds what this lock file lists, and nothing else builds the fuzz targets.
#[test]
fn the_lock_file_of_the_fuzz_targets_has_all_dependencies() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let manifest = read("Cargo.toml");
    let (_, behind) = manifest.split_once("\n[dependencies]\n").unwrap();
    let (dependencies, _) = behind.split_once("\n[dev-dependencies]\n").unwrap();
    let lock = read("tests/fuzz/Cargo.lock");
    let (_, package) = lock.split_once(&format!("name = \"{}\"\n", env!("CARGO_PKG_NAME"))).unwrap();
    let (package, _) = package.split_once("\n]\n").unwrap();
    let mut count = 0;
    for name in dependencies.lines().filter(|line| line.starts_with(char::is_lowercase)) {
        let (name, _) = name.split_once(' ').unwrap();
        let is_locked = package.lines().any(|line| line.trim_matches([' ', '"', ',']).split(' ').next() == Some(name));
        assert!(is_locked, "{name} is missing in tests/fuzz/Cargo.lock: run cargo metadata there");
        count += 1;
    }
    assert!(count > 20, "{count} dependencies were found");
}

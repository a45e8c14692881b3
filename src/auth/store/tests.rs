//! Token records, created, found, changed and damaged.

use super::*;
use serde_json::json;

const NOW: u64 = 1_800_000_000;
const NAME: &str = "acme/team/site";

/// A store of its own, removed when dropped.
struct Scratch {
    root: PathBuf,
    store: TokenStore,
}

impl Scratch {
    fn new() -> Self {
        let root = std::env::temp_dir().join(durable::unique("artifacts-store-"));
        fs::create_dir(&root).unwrap();
        let store = TokenStore::new(root.join(".artifacts/tokens"));
        Scratch { root, store }
    }

    fn token(&self, scope: Scope) -> NewToken {
        self.store.create(NAME, Some("r0"), scope, 3600, NOW).unwrap()
    }

    fn file(&self, token: &NewToken) -> PathBuf {
        self.store.file_of(NAME, &token.secret).unwrap()
    }

    fn claim(&self, name: &str, token: &str, now: u64) -> String {
        let header = format!("Bearer {token}");
        match self.store.claim(name, &Credentials::parse(&[header.as_bytes()]), now) {
            Claim::Nothing => "nothing".into(),
            Claim::Live(record) => format!("live {} {}", record.id, record.scope.as_str()),
            Claim::Unusable { why, basic, .. } => {
                assert!(!basic);
                match why {
                    Why::Store(error) => format!("store: {error:#}"),
                    why => format!("{why:?}"),
                }
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_token_made_here_is_live_for_its_repository() {
    let scratch = Scratch::new();
    for scope in [Scope::Read, Scope::Write] {
        let token = scratch.token(scope);
        let live = format!("live {} {}", token.record.id, scope.as_str());
        assert_eq!(scratch.claim(NAME, &token.plaintext, NOW), live);
        let secret = token.plaintext.split_once('?').unwrap().0;
        assert_eq!(scratch.claim(NAME, secret, NOW + 3599), live);
        assert_eq!(token.record.expires_at, NOW + 3600);
    }
    let mut made = scratch.store.list(NAME).unwrap().records;
    made.sort_by_key(|record| record.scope);
    assert_eq!(made.iter().map(|record| record.scope).collect::<Vec<_>>(), [Scope::Read, Scope::Write]);
}

#[test]
fn a_record_is_the_documented_json_under_the_hash_of_its_secret() {
    let scratch = Scratch::new();
    let token = scratch.token(Scope::Write);
    let secret = token.plaintext.split_once('?').unwrap().0;
    let digest = Secret::parse(secret.as_bytes()).unwrap().digest();
    let path = scratch.root.join(format!(".artifacts/tokens/acme/team/site.git/{digest}.json"));
    let json: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let expected = json!({
        "version": 1, "id": token.record.id, "repository": NAME, "repository_id": "r0", "scope": "write",
        "created_at": NOW, "expires_at": NOW + 3600, "revoked_at": null,
    });
    assert_eq!(json, expected);
}

#[test]
fn a_token_of_another_repository_and_an_unknown_one_are_alike() {
    let scratch = Scratch::new();
    let token = scratch.token(Scope::Write);
    for name in ["acme/other", "acme/team", "other/team/site", "acme/team/site/x", "nobody/nothing"] {
        assert_eq!(scratch.claim(name, &token.plaintext, NOW), "Unknown", "{name}");
    }
    assert_eq!(scratch.claim(NAME, "art_v1_0123", NOW), "Unknown");
    assert_eq!(scratch.claim(NAME, "hunter2", NOW), "Malformed");
    let deep = vec!["a"; 3000].join("/");
    assert_eq!(scratch.claim(&deep, &token.plaintext, NOW), "Unknown");
    for name in ["", "..", "../tokens/acme/team/site", "acme//team/site", "acme/./team/site", "/acme/team/site"] {
        assert_eq!(scratch.claim(name, &token.plaintext, NOW), "Unknown", "{name}");
    }
}

#[test]
fn a_record_moved_to_another_repository_is_worth_nothing() {
    let scratch = Scratch::new();
    let token = scratch.token(Scope::Write);
    let other = scratch.store.create("acme/other", None, Scope::Read, 60, NOW).unwrap();
    let directory = scratch.store.directory_of("acme/other").unwrap();
    fs::copy(scratch.file(&token), directory.join(scratch.file(&token).file_name().unwrap())).unwrap();
    assert_eq!(scratch.claim("acme/other", &token.plaintext, NOW), "Unknown");
    let listing = scratch.store.list("acme/other").unwrap();
    assert_eq!((listing.records, listing.unreadable.len()), (vec![other.record], 1));
}

#[test]
fn the_record_decides_the_expiry_and_the_suffix_can_only_shorten_it() {
    let scratch = Scratch::new();
    let token = scratch.token(Scope::Read);
    let secret = token.plaintext.split_once('?').unwrap().0;
    let live = format!("live {} read", token.record.id);
    let end = NOW + 3600;
    assert_eq!(scratch.claim(NAME, secret, end - 1), live);
    assert_eq!(scratch.claim(NAME, secret, end), format!("Expired({end})"));
    assert_eq!(scratch.claim(NAME, &format!("{secret}?expires={}", end + 9999), end), format!("Expired({end})"));
    assert_eq!(scratch.claim(NAME, &format!("{secret}?expires={}", NOW + 1), NOW), live);
    assert_eq!(scratch.claim(NAME, &format!("{secret}?expires={NOW}"), NOW), format!("Expired({NOW})"));
    assert_eq!(scratch.claim(NAME, "art_v1_0123?expires=1", NOW), "Unknown");
}

#[test]
fn a_revoked_token_stays_revoked() {
    let scratch = Scratch::new();
    let (token, other) = (scratch.token(Scope::Write), scratch.token(Scope::Write));
    let by_id = Which::Id(&token.record.id);
    assert_eq!(scratch.store.revoke(NAME, &by_id, NOW + 5).unwrap().unwrap().revoked_at, Some(NOW + 5));
    assert_eq!(scratch.store.revoke(NAME, &by_id, NOW + 9).unwrap().unwrap().revoked_at, Some(NOW + 5));
    assert_eq!(scratch.claim(NAME, &token.plaintext, NOW), "Revoked");
    assert_eq!(scratch.claim(NAME, &token.plaintext, NOW + 9999), "Revoked");
    assert!(scratch.claim(NAME, &other.plaintext, NOW).starts_with("live"));
    let by_secret = Which::Secret(&other.secret);
    assert_eq!(scratch.store.revoke(NAME, &by_secret, NOW + 6).unwrap().unwrap().id, other.record.id);
    assert_eq!(scratch.claim(NAME, &other.plaintext, NOW), "Revoked");
    assert_eq!(scratch.store.revoke(NAME, &Which::Id("0000000000000000"), NOW).unwrap(), None);
    assert_eq!(scratch.store.revoke("acme/other", &by_secret, NOW).unwrap(), None);
}

#[test]
fn revoking_keeps_what_others_noted_in_the_record() {
    let scratch = Scratch::new();
    let token = scratch.token(Scope::Write);
    let path = scratch.file(&token);
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    json["issued_by"] = "billing".into();
    fs::write(&path, json.to_string()).unwrap();
    scratch.store.revoke(NAME, &Which::Secret(&token.secret), NOW).unwrap().unwrap();
    json["revoked_at"] = NOW.into();
    assert_eq!(serde_json::from_slice::<Value>(&fs::read(&path).unwrap()).unwrap(), json);
}

#[test]
fn a_corrupt_record_is_the_stores_fault_and_says_which() {
    let scratch = Scratch::new();
    let token = scratch.token(Scope::Write);
    let path = scratch.file(&token);
    let good: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let with = |key: &str, value: Value| {
        let mut json = good.clone();
        json[key] = value;
        json.to_string()
    };
    for (text, expected) in [
        (String::new(), "no token's record"),
        ("{".into(), "no token's record"),
        ("[]".into(), "no token's record"),
        (with("version", json!(2)), "version is 2"),
        (with("scope", json!("admin")), "no token's record"),
        (with("expires_at", json!(-1)), "no token's record"),
        (with("expires_at", json!("2030-01-01")), "no token's record"),
        (with("id", json!("x\ny")), "id is not"),
        (with("note", json!("x".repeat(17_000))), "too large"),
    ] {
        fs::write(&path, &text).unwrap();
        let claim = scratch.claim(NAME, &token.plaintext, NOW);
        assert!(claim.starts_with("store: ") && claim.contains(expected), "{text:.60}: {claim}");
        let listing = scratch.store.list(NAME).unwrap();
        assert_eq!((listing.records.len(), listing.unreadable.len()), (0, 1), "{text:.60}");
    }
    let largest = with("note", json!("x".repeat(16_384 - with("note", json!("")).len())));
    fs::write(&path, &largest).unwrap();
    assert!(scratch.claim(NAME, &token.plaintext, NOW).starts_with("live"));
    fs::write(&path, largest + " ").unwrap();
    assert!(scratch.claim(NAME, &token.plaintext, NOW).ends_with("too large for a token's record"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(scratch.claim(NAME, &token.plaintext, NOW).starts_with("store: "));
}

#[test]
fn a_minimal_record_of_another_control_plane_works() {
    let scratch = Scratch::new();
    let secret = Secret::parse(b"art_v2_x_0123456789").unwrap();
    let directory = scratch.store.directory_of(NAME).unwrap();
    fs::create_dir_all(&directory).unwrap();
    let json = json!({
        "version": 1, "id": "abcdefghij012345", "repository": NAME, "scope": "read",
        "created_at": NOW, "expires_at": NOW + 60,
    });
    fs::write(directory.join(format!("{}.json", secret.digest())), json.to_string()).unwrap();
    assert_eq!(scratch.claim(NAME, "art_v2_x_0123456789", NOW), "live abcdefghij012345 read");
}

#[test]
fn credentials_that_are_no_token_never_reach_the_store() {
    let store = TokenStore::new("/dev/null/never".into());
    let check = |header: &str, expected: &str| {
        let claim = store.claim(NAME, &Credentials::parse(&[header.as_bytes()]), NOW);
        let found = match claim {
            Claim::Nothing => "nothing".into(),
            Claim::Live(_) => "live".into(),
            Claim::Unusable { why, basic, .. } => format!("{why:?} {basic}"),
        };
        assert_eq!(found, expected, "{header}");
    };
    check("", "nothing");
    check("Bearer x", "Malformed false");
    check("Basic eDp5", "Malformed true");
    check("Digest x", "OtherScheme false");
    check("Bearer art_a, Bearer art_b", "TwoCredentials false");
    check("Bearer art_a", "Unknown false");
    check("Basic eDphcnRfYQ==", "Unknown true");
}

#[test]
fn a_token_lives_from_a_minute_to_a_year() {
    let scratch = Scratch::new();
    for (ttl, good) in [(0, false), (59, false), (60, true), (31_536_000, true), (31_536_001, false)] {
        assert_eq!(scratch.store.create(NAME, None, Scope::Read, ttl, NOW).is_ok(), good, "{ttl}");
    }
    assert!(scratch.store.create(NAME, None, Scope::Read, 60, u64::MAX).is_err());
}

#[test]
fn by_default_the_store_is_its_makers_alone() {
    let scratch = Scratch::new();
    let token = scratch.token(Scope::Read);
    let file = scratch.file(&token);
    assert_eq!(mode(&file), 0o600);
    let made = file.ancestors().skip(1).take_while(|path| *path != scratch.root);
    assert_eq!(made.map(mode).collect::<Vec<_>>(), [0o700; 5]);
}

#[test]
fn a_group_the_operator_lets_in_may_read_everything() {
    for (given, expected) in [(0o750, 0o750), (0o2750, 0o2750), (0o770, 0o770), (0o755, 0o750)] {
        let scratch = Scratch::new();
        fs::create_dir_all(scratch.store.directory()).unwrap();
        if rustix::process::geteuid().is_root() {
            chown(scratch.store.directory(), None, Some(12345)).unwrap();
        }
        fs::set_permissions(scratch.store.directory(), fs::Permissions::from_mode(given)).unwrap();
        let token = scratch.token(Scope::Read);
        scratch.store.revoke(NAME, &Which::Secret(&token.secret), NOW).unwrap().unwrap();
        let file = scratch.file(&token);
        assert_eq!(mode(&file), 0o640);
        let made = file.ancestors().skip(1).take_while(|path| *path != scratch.store.directory());
        assert_eq!(made.map(mode).collect::<Vec<_>>(), [expected; 3]);
        let group = |path: &Path| fs::metadata(path).unwrap().gid();
        let made = file.ancestors().take_while(|path| *path != scratch.store.directory());
        assert_eq!(made.map(group).collect::<Vec<_>>(), [group(scratch.store.directory()); 4]);
    }
}

#[test]
fn pruning_removes_the_dead_and_nothing_else() {
    let scratch = Scratch::new();
    let (live, revoked) = (scratch.token(Scope::Read), scratch.token(Scope::Read));
    scratch.store.create(NAME, None, Scope::Read, 60, NOW).unwrap();
    scratch.store.revoke(NAME, &Which::Secret(&revoked.secret), NOW).unwrap();
    let directory = scratch.store.directory_of(NAME).unwrap();
    let corrupt = directory.join(format!("{}.json", "0".repeat(64)));
    fs::write(&corrupt, "?").unwrap();
    let (fresh, stale) = (directory.join(".new-1"), directory.join(".new-2"));
    for (file, age) in [(&fresh, 0), (&stale, UNFINISHED_SECONDS_MAX)] {
        let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(NOW - age);
        File::create(file).unwrap().set_modified(then).unwrap();
    }
    assert_eq!(scratch.store.prune(NAME, NOW + 60).unwrap(), 2);
    assert_eq!(scratch.store.list(NAME).unwrap().records, [live.record]);
    assert_eq!((corrupt.exists(), fresh.exists(), stale.exists()), (true, true, false));
    assert_eq!(scratch.store.prune("acme/nothing", NOW).unwrap(), 0);
}

#[test]
fn a_repository_made_anew_keeps_no_token_without_an_id() {
    let scratch = Scratch::new();
    let bound = scratch.token(Scope::Write);
    let unbound = scratch.store.create(NAME, None, Scope::Write, 60, NOW).unwrap();
    assert_eq!(scratch.store.remove_unbound(NAME).unwrap(), 1);
    assert_eq!(scratch.claim(NAME, &unbound.plaintext, NOW), "Unknown");
    assert!(bound.record.matches(Some("r0")));
    assert!(!bound.record.matches(Some("r1")));
    assert!(!bound.record.matches(None));
    assert!(unbound.record.matches(Some("r1")) && unbound.record.matches(None));
}

#[test]
fn removing_everything_leaves_no_directory() {
    let scratch = Scratch::new();
    let token = scratch.token(Scope::Write);
    scratch.token(Scope::Read);
    assert_eq!(scratch.store.remove_all(NAME, Some("r0"), NOW).unwrap(), 2);
    assert_eq!(scratch.claim(NAME, &token.plaintext, NOW), "Unknown");
    assert!(!scratch.store.directory_of(NAME).unwrap().exists());
    assert_eq!(scratch.store.remove_all(NAME, Some("r0"), NOW).unwrap(), 0);
}

#[test]
fn removing_everything_leaves_what_belongs_to_a_repository_made_anew() {
    let scratch = Scratch::new();
    let old = scratch.token(Scope::Write);
    let unbound = scratch.store.create(NAME, None, Scope::Write, 60, NOW).unwrap();
    let new = scratch.store.create(NAME, Some("r1"), Scope::Write, 60, NOW).unwrap();
    assert_eq!(scratch.store.remove_all(NAME, Some("r0"), NOW).unwrap(), 2);
    assert_eq!(scratch.claim(NAME, &old.plaintext, NOW), "Unknown");
    assert_eq!(scratch.claim(NAME, &unbound.plaintext, NOW), "Unknown");
    assert_eq!(scratch.claim(NAME, &new.plaintext, NOW), format!("live {} write", new.record.id));
}

#[test]
fn a_record_is_found_by_its_id_and_by_its_secret() {
    let scratch = Scratch::new();
    let (token, other) = (scratch.token(Scope::Write), scratch.token(Scope::Read));
    let find = |which: Which<'_>| scratch.store.find(NAME, &which).unwrap();
    assert_eq!(find(Which::Id(&token.record.id)), Some(token.record.clone()));
    assert_eq!(find(Which::Secret(&other.secret)), Some(other.record.clone()));
    assert_eq!(find(Which::Id("zzzzzzzzzzzzzzzz")), None);
}

/// Fails the N-th and all later operations, for every N, until a run succeeds.
#[cfg(feature = "failpoints")]
fn for_every_crash(run: impl Fn(&Scratch, &dyn Fn() -> durable::failpoints::Armed) -> bool) {
    use durable::failpoints::{Action, arm};
    for n in 0..100 {
        let scratch = Scratch::new();
        let done = run(&scratch, &|| arm(&scratch.root, n, Action::FailFromHere(io::ErrorKind::StorageFull)));
        if done {
            assert!(n > 3, "only {n} operations");
            return;
        }
    }
    panic!("it never gets through");
}

#[cfg(feature = "failpoints")]
#[test]
fn a_crash_while_a_token_is_made_leaves_it_whole_or_absent() {
    for_every_crash(|scratch, crash| {
        let armed = crash();
        let made = scratch.store.create(NAME, None, Scope::Read, 60, NOW);
        drop(armed);
        let listing = scratch.store.list(NAME).unwrap();
        assert!(listing.unreadable.is_empty() && listing.records.len() <= 1);
        // What is left behind never gets in the way.
        let next = scratch.token(Scope::Write);
        assert!(scratch.claim(NAME, &next.plaintext, NOW).starts_with("live"));
        made.is_ok()
    });
}

#[cfg(feature = "failpoints")]
#[test]
fn a_crash_while_a_token_is_revoked_leaves_it_live_or_revoked() {
    for_every_crash(|scratch, crash| {
        let token = scratch.token(Scope::Write);
        let armed = crash();
        let revoked = scratch.store.revoke(NAME, &Which::Secret(&token.secret), NOW);
        drop(armed);
        let claim = scratch.claim(NAME, &token.plaintext, NOW);
        assert!(claim == "Revoked" || claim.starts_with("live") && revoked.is_err(), "{claim}");
        scratch.store.revoke(NAME, &Which::Secret(&token.secret), NOW).unwrap().unwrap();
        assert_eq!(scratch.claim(NAME, &token.plaintext, NOW), "Revoked");
        revoked.is_ok()
    });
}

#[cfg(feature = "failpoints")]
#[test]
fn a_token_is_on_the_disk_before_anybody_hears_of_it_and_so_is_its_end() {
    let scratch = Scratch::new();
    let watched = |work: &dyn Fn() -> PathBuf| {
        let armed = durable::failpoints::record(&scratch.root);
        let file = work();
        let place = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            match path.parent() {
                Some(folder) if name.starts_with(UNFINISHED) => folder.join("unfinished").display().to_string(),
                Some(_) | None => path.display().to_string().replace(file.file_name().unwrap().to_str().unwrap(), "it"),
            }
        };
        armed.operations().iter().map(|done| format!("{} {}", done.name, place(&done.path))).collect::<Vec<_>>()
    };
    let folders = [".artifacts", "tokens", "acme", "team", "site.git"];
    let mut expected = Vec::new();
    let mut above = String::new();
    for folder in folders {
        let made = format!("{above}{folder}");
        expected.extend([format!("mkdir {made}"), format!("fsync_directory {}", above.trim_end_matches('/'))]);
        above = format!("{made}/");
    }
    let record = ["create unfinished", "write unfinished", "fsync unfinished", "rename it", "fsync_directory "];
    let record = record.map(|done| done.replacen(' ', &format!(" {above}"), 1).trim_end_matches('/').to_owned());
    expected.extend(record.clone());
    let make = || scratch.file(&scratch.token(Scope::Read));
    assert_eq!(watched(&make), expected);
    assert_eq!(watched(&make), record);
    let token = scratch.token(Scope::Read);
    let revoke = || {
        scratch.store.revoke(NAME, &Which::Secret(&token.secret), NOW).unwrap().unwrap();
        scratch.file(&token)
    };
    assert_eq!(watched(&revoke), record);
}

#[cfg(feature = "failpoints")]
#[test]
fn a_token_that_could_not_be_made_leaves_no_file() {
    use durable::failpoints::{Action, arm};
    let scratch = Scratch::new();
    let folder = scratch.file(&scratch.token(Scope::Read)).parent().unwrap().to_owned();
    // To write, to force it to the disk, and to name it.
    for n in 1..4 {
        let armed = arm(&scratch.root, n, Action::Fail(io::ErrorKind::StorageFull));
        scratch.store.create(NAME, None, Scope::Read, 60, NOW).map(drop).unwrap_err();
        drop(armed);
        assert_eq!(entries(&folder).unwrap().len(), 1, "{n}");
    }
}

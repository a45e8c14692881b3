//! The command line tool, run as users and scripts run it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use serde_json::Value;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A root directory, and the tool run on it with an otherwise empty environment.
struct Site {
    root: PathBuf,
}

/// The outcome of a run.
struct Ran {
    status: i32,
    out: String,
    err: String,
}

impl Site {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("artifacts-cli-{}-{number}", std::process::id()));
        fs::create_dir(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        Site { root }
    }

    fn with_repository(name: &str) -> Self {
        let site = Site::new();
        site.run(&["repo", "create", name]).succeeds();
        site
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("HOME", &self.root).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_PROJECT_ROOT", &self.root);
        command.current_dir(&self.root).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.tool(arguments).output().unwrap())
    }

    fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
        Ran::of(self.tool(arguments).envs(environment.iter().copied()).output().unwrap())
    }

    fn tool(&self, arguments: &[&str]) -> Command {
        self.command(env!("CARGO_BIN_EXE_artifacts-http-backend"), arguments)
    }

    fn run_with_input(&self, arguments: &[&str], input: &str) -> Ran {
        let mut tool = self.tool(arguments);
        let mut child = tool.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Ran::of(child.wait_with_output().unwrap())
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut git = self.command("git", arguments);
        git.envs([("GIT_AUTHOR_NAME", "A"), ("GIT_AUTHOR_EMAIL", "a@example.com")]);
        git.envs([("GIT_COMMITTER_NAME", "C"), ("GIT_COMMITTER_EMAIL", "c@example.com")]);
        Ran::of(git.output().unwrap()).succeeds().out.trim_end().into()
    }

    /// Creates a token; returns its record and its plaintext.
    fn token(&self, arguments: &[&str]) -> (Value, String) {
        let json = self.run(&[&["token", "create", "--json"], arguments].concat()).json();
        let plaintext = json["plaintext"].as_str().unwrap().into();
        (json, plaintext)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { status: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    fn succeeds(self) -> Self {
        assert_eq!(self.status, 0, "{}{}", self.out, self.err);
        self
    }

    fn fails_with(self, status: i32, said: &str) -> Self {
        assert_eq!(self.status, status, "{}{}", self.out, self.err);
        assert!(self.err.contains(said), "{said}: {}", self.err);
        assert_eq!(self.out, "");
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

fn keys(json: &Value) -> Vec<&str> {
    json.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn a_repository_is_made_with_its_remote_and_a_first_token() {
    let site = Site::new();
    let made = site.run(&["repo", "create", "acme/site.git", "--json", "--base-url", "https://git.example.com/"]);
    let json = made.succeeds().json();
    assert_eq!(keys(&json), ["default_branch", "id", "name", "remote", "token"]);
    assert_eq!(json["name"], "acme/site");
    assert_eq!(json["default_branch"], "main");
    assert_eq!(json["remote"], "https://git.example.com/acme/site.git");
    let git_dir = site.root.join("acme/site.git");
    let git_dir = git_dir.to_str().unwrap();
    assert_eq!(site.git(&["-C", git_dir, "config", "artifacts.id"]), json["id"].as_str().unwrap());
    let valid = site.run(&["token", "validate", "acme/site", json["token"].as_str().unwrap()]).succeeds();
    assert_eq!(valid.out, "active write\n");

    site.git(&["init", "--quiet", "--initial-branch=main", "work"]);
    site.git(&["-C", "work", "commit", "--quiet", "--allow-empty", "--message=one"]);
    site.git(&["-C", "work", "push", "--quiet", git_dir, "main"]);
    assert_eq!(site.git(&["-C", git_dir, "log", "--format=%s"]), "one");
}

#[test]
fn without_a_base_url_there_is_no_remote() {
    let site = Site::new();
    assert_eq!(
        keys(&site.run(&["repo", "create", "acme/site", "--json"]).json()),
        ["default_branch", "id", "name", "token"]
    );
    let list = site.run(&["repo", "list", "--json"]).succeeds().json();
    assert_eq!(keys(&list[0]), ["id", "name"]);
    let mut tool = site.tool(&["repo", "list", "--json"]);
    let list = Ran::of(tool.env("ARTIFACTS_BASE_URL", "http://127.0.0.1:8080").output().unwrap()).json();
    assert_eq!(list[0]["remote"], "http://127.0.0.1:8080/acme/site.git");
}

#[test]
fn a_sha256_repository_can_be_asked_for() {
    let site = Site::new();
    site.run(&["repo", "create", "acme/site", "--object-format", "sha256"]).succeeds();
    assert_eq!(site.git(&["-C", "acme/site.git", "rev-parse", "--show-object-format"]), "sha256");
    site.run(&["repo", "create", "acme/tables", "--ref-format", "reftable"]).succeeds();
    assert_eq!(site.git(&["-C", "acme/tables.git", "rev-parse", "--show-ref-format"]), "reftable");
    assert_eq!(site.git(&["-C", "acme/tables.git", "symbolic-ref", "HEAD"]), "refs/heads/main");
    site.run(&["repo", "create", "acme/other", "--object-format", "md5"]).fails_with(2, "md5");
}

#[test]
fn a_repository_is_not_made_twice_and_keeps_its_tokens() {
    let site = Site::with_repository("acme/site");
    let (_, token) = site.token(&["acme/site"]);
    site.run(&["repo", "create", "acme/site"]).fails_with(1, "the repository 'acme/site' already exists");
    site.run(&["token", "validate", "acme/site", &token]).succeeds();
    for name in ["site", "../site", "acme/.site", "acme/../x", "acme.git/site", ""] {
        site.run(&["repo", "create", name]).fails_with(2, "name");
    }
    assert_eq!(site.run(&["repo", "list"]).succeeds().out, "acme/site\n");
}

#[test]
fn deleting_needs_a_yes_and_takes_the_tokens_along() {
    let site = Site::with_repository("acme/site");
    let (_, token) = site.token(&["acme/site"]);
    site.run(&["repo", "delete", "acme/site"]).fails_with(1, "--yes");
    site.run(&["token", "validate", "acme/site", &token]).succeeds();
    let json = site.run(&["repo", "delete", "acme/site", "--yes", "--json"]).succeeds().json();
    assert_eq!(json["tokens"], 2);
    assert!(!site.root.join("acme/site.git").exists() && !site.root.join(".artifacts/tokens/acme/site.git").exists());
    site.run(&["repo", "delete", "acme/site", "--yes"]).fails_with(1, "there is no repository");
}

#[test]
fn a_repository_goes_though_its_tokens_cannot() {
    let site = Site::with_repository("acme/site");
    let tokens = site.root.join(".artifacts/tokens/acme/site.git");
    std::fs::remove_dir_all(&tokens).unwrap();
    std::fs::write(&tokens, "no directory").unwrap();
    site.run(&["repo", "delete", "acme/site", "--yes"]).fails_with(1, "was deleted, but not its tokens");
    assert_eq!(std::fs::read_dir(site.root.join("acme")).unwrap().count(), 0);
}

#[test]
fn deleting_leaves_the_tokens_of_another_repository_of_the_name() {
    let site = Site::with_repository("acme/site");
    site.token(&["acme/site"]);
    let aside = site.root.join("acme/aside");
    std::fs::rename(site.root.join("acme/site.git"), &aside).unwrap();
    site.run(&["repo", "create", "acme/site"]).succeeds();
    let (_, anew) = site.token(&["acme/site"]);
    // As if the second repository had been created while the first was being deleted.
    let second = site.root.join("acme/second");
    std::fs::rename(site.root.join("acme/site.git"), &second).unwrap();
    std::fs::rename(&aside, site.root.join("acme/site.git")).unwrap();
    let json = site.run(&["repo", "delete", "acme/site", "--yes", "--json"]).succeeds().json();
    assert_eq!(json["tokens"], 2);
    std::fs::rename(&second, site.root.join("acme/site.git")).unwrap();
    site.run(&["token", "validate", "acme/site", &anew]).succeeds();
}

#[test]
fn a_repository_made_anew_does_not_know_the_tokens_of_the_one_before() {
    let site = Site::with_repository("acme/site");
    let (_, bound) = site.token(&["acme/site"]);
    site.git(&["-C", "acme/site.git", "config", "--unset", "artifacts.id"]);
    let (_, unbound) = site.token(&["acme/site"]);
    // Removed by hand; the tool would have removed the tokens too.
    fs::remove_dir_all(site.root.join("acme/site.git")).unwrap();
    site.run(&["repo", "create", "acme/site"]).succeeds();
    for token in [bound, unbound] {
        let validated = site.run(&["token", "validate", "acme/site", &token]);
        assert_eq!((validated.status, validated.out.as_str()), (1, "unknown\n"));
    }
    assert_eq!(site.run(&["token", "list", "acme/site", "--json"]).json().as_array().unwrap().len(), 1);
}

#[test]
fn tokens_have_the_documented_fields() {
    let site = Site::with_repository("acme/site");
    let (json, plaintext) = site.token(&["acme/site", "--scope", "read", "--ttl", "3600"]);
    assert_eq!(keys(&json), ["created_at", "expires_at", "id", "plaintext", "scope", "state"]);
    assert_eq!((&json["scope"], &json["state"]), (&"read".into(), &"active".into()));
    assert!(plaintext.starts_with("art_v1_") && plaintext.contains("?expires="), "{plaintext}");
    let list = site.run(&["token", "list", "acme/site", "--json"]).succeeds().json();
    let listed = list.as_array().unwrap().iter().find(|listed| listed["id"] == json["id"]).unwrap();
    assert_eq!(keys(listed), ["created_at", "expires_at", "id", "scope", "state"]);
    let validated = site.run(&["token", "validate", "acme/site", &plaintext, "--json"]).succeeds().json();
    assert_eq!(&validated, listed);
}

#[test]
fn validating_says_what_the_server_would_say() {
    let site = Site::with_repository("acme/site");
    site.run(&["repo", "create", "acme/other"]).succeeds();
    let (_, token) = site.token(&["acme/site", "--scope", "read"]);
    let secret = token.split_once('?').unwrap().0;
    let check = |repository: &str, token: &str, expected: &str| {
        let ran = site.run(&["token", "validate", repository, token]);
        assert_eq!((ran.out.trim_end(), ran.status), (expected, i32::from(!expected.starts_with("active"))), "{token}");
    };
    check("acme/site", &token, "active read");
    check("acme/site", secret, "active read");
    check("acme/site", &format!("{secret}?expires=1"), "expired read");
    check("acme/other", &token, "unknown");
    check("acme/nothing", &token, "unknown");
    check("acme/site", "art_v1_0123", "unknown");
    check("acme/site", "hunter2", "unknown");
    let from_stdin = site.run_with_input(&["token", "validate", "acme/site", "-"], &format!("{token}\n")).succeeds();
    assert_eq!(from_stdin.out, "active read\n");
}

#[test]
fn a_token_is_revoked_by_its_id_or_itself_and_pruned() {
    let site = Site::with_repository("acme/site");
    let ((first, first_text), (_, second_text)) = (site.token(&["acme/site"]), site.token(&["acme/site"]));
    site.run(&["token", "revoke", "acme/site", first["id"].as_str().unwrap()]).succeeds();
    site.run_with_input(&["token", "revoke", "acme/site", "-"], &second_text).succeeds();
    for token in [&first_text, &second_text] {
        let validated = site.run(&["token", "validate", "acme/site", token]);
        assert_eq!((validated.status, validated.out.as_str()), (1, "revoked write\n"));
    }
    let revoked = site.run(&["token", "list", "acme/site", "--state", "revoked", "--json"]).succeeds().json();
    assert_eq!(revoked.as_array().unwrap().len(), 2);
    site.run(&["token", "revoke", "acme/site", "0000000000000000"]).fails_with(1, "no such token");
    assert_eq!(site.run(&["token", "prune", "--json"]).succeeds().json()["removed"], 2);
    assert_eq!(site.run(&["token", "prune", "acme/site", "--json"]).succeeds().json()["removed"], 0);
    assert_eq!(site.run(&["token", "list", "acme/site", "--json"]).json().as_array().unwrap().len(), 1);
}

#[test]
fn what_a_token_may_be_has_limits() {
    let site = Site::with_repository("acme/site");
    for ttl in ["59", "31536001", "x", "-1"] {
        site.run(&["token", "create", "acme/site", &format!("--ttl={ttl}")]).fails_with(2, "ttl");
    }
    for ttl in ["60", "31536000"] {
        site.run(&["token", "create", "acme/site", "--ttl", ttl]).succeeds();
    }
    site.run(&["token", "create", "acme/site", "--scope", "admin"]).fails_with(2, "scope");
    site.run(&["token", "create", "acme/nothing"]).fails_with(1, "there is no repository 'acme/nothing'");
}

#[test]
fn secrets_never_stand_on_stderr() {
    let site = Site::with_repository("acme/site");
    let secret = "art_v1_0123456789abcdef0123456789abcdef01234567";
    for arguments in [
        &["token", "revoke", "acme/site", secret][..],
        &["token", "validate", "acme/site", "x", secret],
        &["token", secret],
        &["repo", "create", secret],
        &["token", "revoke", "acme/site", &format!("{secret} ")],
        &["token", "create", "acme/site", &format!("--{secret}")],
        &["token", "list", "acme/site", "--root", &format!("/{secret}")],
    ] {
        let ran = site.run(arguments);
        assert!(ran.status != 0 && !ran.err.contains("0123456789"), "{}", ran.err);
    }
}

#[test]
fn where_things_are_comes_from_flags_or_the_environment() {
    let site = Site::new();
    let mut tool = site.tool(&["repo", "list"]);
    Ran::of(tool.env_remove("GIT_PROJECT_ROOT").output().unwrap()).fails_with(1, "--root");
    let store = site.root.join("elsewhere");
    let mut tool = site.tool(&["repo", "create", "acme/site", "--root", "."]);
    tool.env_remove("GIT_PROJECT_ROOT").env("ARTIFACTS_TOKENS", &store);
    Ran::of(tool.output().unwrap()).succeeds();
    assert!(store.join("acme/site.git").is_dir() && !site.root.join(".artifacts").exists());
    let store = store.to_str().unwrap();
    let list = site.run(&["token", "list", "acme/site", "--tokens", store, "--json"]).succeeds().json();
    assert_eq!(list.as_array().unwrap().len(), 1);
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let site = Site::with_repository("acme/site");
    let (reading, writing) = std::io::pipe().unwrap();
    drop(reading);
    let ran = Ran::of(site.tool(&["repo", "list"]).stdout(writing).output().unwrap());
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
}

#[test]
fn check_finds_nothing_wrong_with_what_the_tool_made() {
    let site = Site::with_repository("acme/site");
    let json = site.run(&["check", "acme/site", "--json"]).succeeds().json();
    assert_eq!(json["ok"], true);
    let levels: Vec<_> = json["findings"].as_array().unwrap().iter().map(|finding| &finding["level"]).collect();
    assert!(levels.iter().all(|level| *level == "ok"), "{json:#}");
    assert_eq!(requests(&json), ["none 401 401", "a read token served 403", "a write token served served"]);
    site.run(&["check"]).succeeds();
}

#[test]
fn check_knows_what_a_repositorys_configuration_does_to_requests() {
    let site = Site::with_repository("acme/site");
    site.git(&["-C", "acme/site.git", "config", "artifacts.anonymousRead", "true"]);
    site.git(&["-C", "acme/site.git", "config", "artifacts.readOnly", "true"]);
    let json = site.run(&["check", "acme/site", "--json"]).succeeds().json();
    let expected = ["none served 401", "a read token served 403", "a write token served 403 (artifacts.readOnly)"];
    assert_eq!(requests(&json), expected);
    site.git(&["-C", "acme/site.git", "config", "http.uploadpack", "false"]);
    let json = site.run(&["check", "acme/site", "--json"]).succeeds().json();
    assert_eq!(requests(&json)[0], "none 403 (http.uploadpack) 401");
}

#[test]
fn check_reads_what_each_request_reads() {
    let site = Site::with_repository("acme/site");
    for (name, value) in [
        ("ARTIFACTS_MEMORY", "lots"),
        ("ARTIFACTS_TIMEOUT", "10s"),
        ("ARTIFACTS_CACHE_SIZE", "big"),
        ("GIT_CONFIG_COUNT", "1"),
        ("GIT_CONFIG_PARAMETERS", "x"),
        ("GIT_HTTP_MAX_REQUEST_BUFFER", "x"),
        ("GIT_NAMESPACE", "a..b"),
    ] {
        let ran = site.run_with(&["check", "acme/site"], &[(name, value)]);
        assert!(ran.status == 1 && ran.out.contains("problem  settings: "), "{name}: {}", ran.out);
    }
}

#[test]
fn check_looks_for_repositories_where_the_web_server_decides_as_requests_do() {
    let site = Site::with_repository("acme/site");
    let webserver = |repository: &str, more: &[(&str, &str)]| {
        site.run_with(&["check", repository], &[&[("ARTIFACTS_AUTH", "webserver")], more].concat())
    };
    let ran = webserver("acme/site", &[]);
    assert!(ran.status == 1 && ran.out.contains("it is not exported"), "{}", ran.out);
    let ran = webserver("acme/site", &[("GIT_HTTP_EXPORT_ALL", "")]);
    assert!(ran.status == 0 && !ran.out.contains("token"), "{}", ran.out);
    let ran = webserver("nothing", &[("GIT_HTTP_EXPORT_ALL", "")]);
    assert!(ran.status == 1 && ran.out.contains("does not exist"), "{}", ran.out);
}

#[test]
fn check_names_each_problem_with_its_remedy() {
    let check = |spoil: &dyn Fn(&Site), expected: &str, remedy: &str| {
        let site = Site::with_repository("acme/site");
        spoil(&site);
        let ran = site.run(&["check", "acme/site", "--json"]);
        let json = ran.json();
        let findings = json["findings"].as_array().unwrap();
        let found = findings.iter().find(|finding| finding["message"].as_str().unwrap().contains(expected));
        let found = found.unwrap_or_else(|| panic!("{expected}: {json:#}"));
        assert!(found["remedy"].as_str().unwrap().contains(remedy), "{found:#}");
        assert_eq!(ran.status == 1, found["level"] == "problem", "{json:#}");
        assert_eq!(json["ok"], ran.status == 0);
    };
    let git_dir = |site: &Site| site.root.join("acme/site.git");
    let store = |site: &Site| site.root.join(".artifacts/tokens");
    check(&|site| fs::remove_dir_all(git_dir(site)).unwrap(), "does not exist", "repo create acme/site");
    check(&|site| fs::remove_file(git_dir(site).join("HEAD")).unwrap(), "it has no HEAD", "init --bare");
    check(&|site| fs::write(git_dir(site).join("HEAD"), "x").unwrap(), "HEAD is damaged", "init --bare");
    check(&|site| fs::write(git_dir(site).join("config"), "[core").unwrap(), "site.git/config", "fix what");
    check(&|site| fs::remove_dir_all(store(site)).unwrap(), "no token store", "token create");
    let world = fs::Permissions::from_mode(0o755);
    check(&|site| fs::set_permissions(store(site), world.clone()).unwrap(), "everybody on this machine", "chmod o=");
    let spoil_token = |site: &Site| {
        let token = fs::read_dir(store(site).join("acme/site.git")).unwrap().next().unwrap().unwrap();
        fs::write(token.path(), "{}").unwrap();
    };
    check(&spoil_token, "is not a token", "rm ");
    check(&spoil_token, "0 tokens active", "token create acme/site");
    check(&|site| fs::create_dir(site.root.join("acme/.removing-x")).unwrap(), "did not finish", "rm -r ");
    check(&|site| fs::write(site.root.join(".gitconfig"), "[x").unwrap(), "cannot be read", "repair");
    let missing = Site::new().run(&["check", "--root", "/nonexistent/root"]);
    assert!(missing.status == 1 && missing.out.contains("mkdir -p /nonexistent/root"), "{}", missing.out);
}

/// Only root can give files to another user, so without root nothing is tested.
#[test]
fn strangers_are_warned_and_repositories_of_strangers_are_dubious() {
    let site = Site::with_repository("acme/site");
    if fs::metadata(&site.root).unwrap().uid() != 0 {
        return;
    }
    let git_dir = site.root.join("acme/site.git");
    chown(&git_dir, Some(54_321), None).unwrap();
    let checked = site.run(&["check", "acme/site"]);
    let remedy = format!("-> git config --system --add safe.directory {}\n", git_dir.canonicalize().unwrap().display());
    assert!(checked.status == 1 && checked.out.contains(&remedy), "{}", checked.out);
    site.git(&["config", "--global", "--add", "safe.directory", git_dir.to_str().unwrap()]);
    let trusted = site.run(&["check", "acme/site"]).succeeds();
    assert!(trusted.out.contains("without HOME") && trusted.out.contains(&remedy), "{}", trusted.out);

    chown(&site.root, Some(54_321), None).unwrap();
    let made = site.run(&["repo", "create", "acme/other"]).succeeds();
    let sudo = format!("sudo -u '#54321' artifacts-http-backend repo create acme/other --root {}", site.root.display());
    assert!(made.err.starts_with("warning: ") && made.err.contains(&sudo), "{}", made.err);
    chown(site.root.join(".artifacts/tokens"), Some(54_321), None).unwrap();
    assert!(site.run(&["token", "create", "acme/site"]).succeeds().err.contains("sudo -u '#54321'"));
    fs::set_permissions(site.root.join(".artifacts/tokens"), fs::Permissions::from_mode(0o750)).unwrap();
    assert_eq!(site.run(&["token", "create", "acme/site"]).succeeds().err, "");
}

fn requests(json: &Value) -> Vec<String> {
    let text = |request: &Value, key: &str| request[key].as_str().unwrap().to_owned();
    let line = |request: &Value| ["credentials", "fetch", "push"].map(|key| text(request, key)).join(" ");
    json["requests"].as_array().unwrap().iter().map(line).collect()
}

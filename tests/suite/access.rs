//! Access: statuses and messages in both authentication modes.

use crate::support::{Cgi, Site};

const ADVERTISE: &str = "/acme/site.git/info/refs?service=git-upload-pack";
const ADVERTISE_PUSH: &str = "/acme/site.git/info/refs?service=git-receive-pack";

fn site() -> Site {
    let site = Site::new();
    site.create("acme/site");
    site.create("acme/other");
    site
}

fn basic(user: &str, password: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let text = format!("{user}:{password}");
    let mut encoded = String::from("Basic ");
    for three in text.as_bytes().chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let sextet = (bits >> (18 - 6 * place)) & 63;
            encoded.push(if place <= three.len() { char::from(ALPHABET[sextet as usize]) } else { '=' });
        }
    }
    encoded
}

fn secret(token: &str) -> &str {
    token.split('?').next().unwrap()
}

fn status(cgi: Cgi) -> u16 {
    cgi.run().status
}

#[test]
fn no_credentials_are_asked_for_and_told_how() {
    let answer = site().cgi("GET", ADVERTISE).run();
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("WWW-Authenticate"), Some("Basic realm=\"artifacts\""));
    assert_eq!(answer.header("Content-Type"), Some("text/plain"));
    assert!(answer.text().contains("needs a token"), "{}", answer.text());
    assert!(answer.stderr.contains("CGIPassAuth"), "{}", answer.stderr);
    assert_eq!(answer.stderr.lines().count(), 1);
}

#[test]
fn a_good_token_is_taken_in_every_form() {
    let site = site();
    let token = site.token("acme/site", "read");
    for carried in [
        format!("Bearer {token}"),
        format!("bearer   {}  ", secret(&token)),
        basic("x", secret(&token)),
        basic("", &token),
        basic("anybody", &token.replace('?', "%3F").replace('=', "%3D")),
    ] {
        let request = site.cgi("GET", ADVERTISE).env("HTTP_AUTHORIZATION", &carried);
        let answer = request.run();
        assert_eq!(answer.status, 200, "{carried}: {} {}", answer.text(), answer.stderr);
    }
    let redirected = site.cgi("GET", ADVERTISE).env("REDIRECT_HTTP_AUTHORIZATION", &format!("Bearer {token}"));
    assert_eq!(status(redirected), 200);
}

#[test]
fn bad_tokens_are_refused_with_401_in_basic_and_403_in_bearer() {
    let site = site();
    let foreign = site.token("acme/other", "write");
    let revoked = site.token("acme/site", "write");
    site.tool(&["token", "revoke", "acme/site", &revoked]);
    let good = site.token("acme/site", "write");
    let shortened = format!("{}?expires=1000000000", secret(&good));
    for (what, token) in [
        ("malformed", "hello".to_owned()),
        ("unknown", "art_v1_0123456789abcdef0123456789abcdef01234567".to_owned()),
        ("foreign", foreign),
        ("revoked", revoked),
        ("past its own suffix", shortened),
    ] {
        for path in [ADVERTISE, ADVERTISE_PUSH] {
            let answer = site.cgi("GET", path).bearer(&token).run();
            assert_eq!(answer.status, 403, "{what} in Bearer");
            assert_eq!(answer.header("WWW-Authenticate"), None, "{what}: git would ask for a user name");
            let answer = site.cgi("GET", path).env("HTTP_AUTHORIZATION", &basic("x", &token)).run();
            assert_eq!(answer.status, 401, "{what} in Basic");
            assert!(answer.header("WWW-Authenticate").is_some());
            assert!(answer.text().is_ascii() && answer.text().contains("token"), "{}", answer.text());
        }
    }
}

#[test]
fn the_operator_sees_which_refused_token_was_tried() {
    let site = site();
    let log = site.root().join("audit.log");
    let made = |scope: &str| {
        let json = site.tool(&["token", "create", "acme/site", "--scope", scope, "--ttl", "3600", "--json"]);
        let token: serde_json::Value = serde_json::from_str(&json).unwrap();
        ["id", "plaintext"].map(|key| token[key].as_str().unwrap().to_owned())
    };
    let ([revoked, secret], [reading, other]) = (made("write"), made("read"));
    site.tool(&["token", "revoke", "acme/site", &secret]);
    for (id, token) in [(&revoked, &secret), (&reading, &other)] {
        let request = site.cgi("GET", ADVERTISE_PUSH).bearer(token).env("ARTIFACTS_AUDIT_LOG", log.to_str().unwrap());
        let answer = request.run();
        assert!(answer.status == 403 && answer.stderr.contains(&format!("token {id}")), "{answer:?}");
        assert!(!answer.text().contains(id.as_str()), "{}", answer.text());
        let text = std::fs::read_to_string(&log).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!((&line["token"], &line["outcome"]), (&id.as_str().into(), &"refused".into()));
        assert!(!text.contains(self::secret(token)), "{text}");
    }
}

#[test]
fn two_credentials_and_other_schemes_are_refused() {
    let site = site();
    let token = site.token("acme/site", "read");
    let request = site.cgi("GET", ADVERTISE).bearer(&token);
    assert_eq!(status(request.env("REDIRECT_HTTP_AUTHORIZATION", "Basic eDp5")), 403);
    let doubled = format!("Bearer {token}, Bearer {token}");
    assert_eq!(status(site.cgi("GET", ADVERTISE).env("HTTP_AUTHORIZATION", &doubled)), 403);
    assert_eq!(status(site.cgi("GET", ADVERTISE).env("HTTP_AUTHORIZATION", "Digest x")), 403);
}

#[test]
fn a_secret_in_the_user_names_place_is_refused() {
    let site = site();
    let token = site.token("acme/site", "read");
    let carried = basic(secret(&token), "");
    assert_eq!(status(site.cgi("GET", ADVERTISE).env("HTTP_AUTHORIZATION", &carried)), 401);
}

#[test]
fn a_read_token_cannot_push() {
    let site = site();
    let token = site.token("acme/site", "read");
    let answer = site.cgi("GET", ADVERTISE_PUSH).bearer(&token).run();
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("read only") && answer.text().contains("\"write\""), "{}", answer.text());
    let post = site.cgi("POST", "/acme/site.git/git-receive-pack").bearer(&token).body("0000");
    assert_eq!(status(post), 403);
}

#[test]
fn existence_does_not_show_without_a_live_token() {
    let site = site();
    let text = |path: &str, authorization: Option<&str>| {
        let mut request = site.cgi("GET", path);
        if let Some(authorization) = authorization {
            request = request.env("HTTP_AUTHORIZATION", authorization);
        }
        let answer = request.run();
        let id = answer.text().split("(request ").nth(1).map(str::to_owned).unwrap_or_default();
        (answer.status, answer.text().replace(&id, ""), answer.headers)
    };
    let foreign = format!("Bearer {}", site.token("acme/other", "write"));
    let unknown = "Bearer art_v1_0123456789abcdef0123456789abcdef01234567".to_owned();
    let absent = "/acme/nothing.git/info/refs?service=git-upload-pack";
    for authorization in [None, Some(foreign.as_str()), Some(unknown.as_str())] {
        assert_eq!(text(ADVERTISE, authorization), text(absent, authorization), "{authorization:?}");
    }
}

#[test]
fn a_live_token_for_a_missing_repository_is_told_so() {
    let site = site();
    let token = site.token("acme/site", "read");
    std::fs::rename(site.repo("acme/site").path, site.root().join("acme/gone")).unwrap();
    assert_eq!(status(site.cgi("GET", ADVERTISE).bearer(&token)), 404);
}

#[test]
fn a_repository_made_anew_takes_none_of_its_old_tokens() {
    let site = site();
    let token = site.token("acme/site", "write");
    // Removed by hand, so that the old token records stay.
    std::fs::remove_dir_all(site.repo("acme/site").path).unwrap();
    site.tool(&["repo", "create", "acme/site"]);
    assert_eq!(status(site.cgi("GET", ADVERTISE).bearer(&token)), 403);
    let token = site.token("acme/site", "write");
    site.tool(&["repo", "delete", "acme/site", "--yes"]);
    site.tool(&["repo", "create", "acme/site"]);
    assert_eq!(status(site.cgi("GET", ADVERTISE).bearer(&token)), 403);
}

#[test]
fn owners_switches_are_obeyed() {
    let site = site();
    let token = site.token("acme/site", "write");
    let repo = site.repo("acme/site");
    assert_eq!(status(site.cgi("GET", ADVERTISE_PUSH).bearer(&token)), 200);
    repo.config("artifacts.readOnly", "true");
    assert_eq!(status(site.cgi("GET", ADVERTISE_PUSH).bearer(&token)), 403);
    assert_eq!(status(site.cgi("GET", ADVERTISE).bearer(&token)), 200);
    repo.config("artifacts.readOnly", "false");
    repo.config("http.receivepack", "false");
    assert_eq!(status(site.cgi("GET", ADVERTISE_PUSH).bearer(&token)), 403);
    repo.config("http.uploadpack", "false");
    assert_eq!(status(site.cgi("GET", ADVERTISE).bearer(&token)), 403);
}

#[test]
fn anonymous_reading_is_the_owners_choice_and_no_help_for_a_bad_token() {
    let site = site();
    site.repo("acme/site").config("artifacts.anonymousRead", "true");
    assert_eq!(status(site.cgi("GET", ADVERTISE)), 200);
    assert_eq!(status(site.cgi("GET", ADVERTISE_PUSH)), 401);
    assert_eq!(status(site.cgi("GET", ADVERTISE).bearer("art_v1_nothing")), 403);
}

#[test]
fn forms_are_refused_before_anything_is_looked_up() {
    let site = site();
    let token = site.token("acme/site", "read");
    let check = |method: &str, path: &str, expected: u16| {
        let answer = site.cgi(method, path).bearer(&token).run();
        assert_eq!(answer.status, expected, "{method} {path}: {}", answer.text());
        assert!(!answer.text().contains(site.root().to_str().unwrap()), "{}", answer.text());
    };
    check("GET", "/acme/site.git/nothing", 404);
    check("GET", "/acme/site.git/config", 404);
    check("PUT", "/acme/site.git/info/refs", 405);
    check("POST", "/acme/site.git/info/refs", 405);
    check("GET", "/acme/site.git/git-upload-pack", 405);
    check("GET", "/acme/site.git/info/refs?service=git-upload-pack&service=git-receive-pack", 400);
    check("GET", "/acme/site.git/info/refs?service=git%2Dupload-pack", 400);
    check("GET", "/acme/site.git/info/refs?service=git-other", 403);
    for path in [
        "/site.git",
        "/acme",
        "/acme/site/",
        "/acme/site.git.git",
        "/acme/../acme/site.git",
        "/acme//site.git",
        "/acme/.hidden/site.git",
        "/.artifacts/tokens/site.git",
        "/acme/site.git/refs/heads/x.git",
        "/acme/si%74e.git",
        "/acme/site\u{1}.git",
        "/acme/site.git/.git",
    ] {
        check("GET", &format!("{path}/info/refs?service=git-upload-pack"), 404);
    }
}

#[test]
fn the_suffix_of_a_name_may_be_left_out_in_a_url() {
    let site = site();
    let token = site.token("acme/site", "write");
    for service in ["git-upload-pack", "git-receive-pack"] {
        let advertised = |name: &str| {
            site.cgi("GET", &format!("/acme/{name}/info/refs?service={service}")).bearer(&token).run().text().to_owned()
        };
        assert!(advertised("site").contains(&format!("# service={service}")), "{}", advertised("site"));
        assert_eq!(advertised("site"), advertised("site.git"));
    }
    // The audit log has one name for both.
    let log = site.root().join("audit.log");
    let request = site.cgi("GET", "/acme/site/info/refs?service=git-upload-pack").bearer(&token);
    request.env("ARTIFACTS_AUDIT_LOG", log.to_str().unwrap()).run();
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("\"repository\":\"acme/site.git\""), "{log}");
    assert_eq!(status(site.cgi("GET", "/acme/site/info/refs?service=git-upload-pack")), 401);
    assert_eq!(status(site.cgi("GET", "/acme/other/info/refs?service=git-upload-pack").bearer(&token)), 403);
}

#[test]
fn git_lfs_is_told_in_its_own_form_that_it_is_not_served() {
    let site = site();
    let token = site.token("acme/site", "write");
    for (method, path) in [("POST", "objects/batch"), ("GET", "locks?path=x"), ("POST", "locks/verify")] {
        let answer = site.cgi(method, &format!("/acme/site.git/info/lfs/{path}")).bearer(&token).run();
        assert_eq!(answer.status, 404);
        assert_eq!(answer.header("Content-Type"), Some("application/vnd.git-lfs+json"));
        assert!(answer.text().starts_with("{\"message\":\"Git LFS is not served here"), "{}", answer.text());
        assert!(answer.text().trim_end().ends_with(")\"}"), "{}", answer.text());
    }
}

#[test]
fn git_archive_is_told_in_a_packet_that_it_is_not_served() {
    let answer = site().cgi("POST", "/acme/site.git/git-upload-archive").body("0000").run();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("Content-Type"), Some("application/x-git-upload-archive-result"));
    let text = answer.text();
    let length = usize::from_str_radix(&text[..4], 16).unwrap();
    assert!(text[4..].starts_with("ERR git archive is not served here") && text[length..] == *"0000", "{text}");
}

#[test]
fn wrong_methods_name_what_is_allowed() {
    let site = site();
    let answer = site.cgi("PROPFIND", "/acme/site.git/info/refs").run();
    assert_eq!((answer.status, answer.header("Allow")), (405, Some("GET, HEAD")));
    let answer = site.cgi("GET", "/acme/site.git/git-receive-pack").env("SERVER_PROTOCOL", "HTTP/2.0").run();
    assert_eq!((answer.status, answer.header("Allow")), (405, Some("POST")));
}

#[test]
fn another_content_type_is_refused_in_gits_words() {
    let site = site();
    let token = site.token("acme/site", "read");
    let request = site.cgi("POST", "/acme/site.git/git-upload-pack").bearer(&token).body("0000");
    let answer = request.env("CONTENT_TYPE", "application/x-git-upload-pack-request; charset=utf-8").run();
    assert_eq!(answer.status, 415);
    assert!(
        answer
            .text()
            .starts_with("Expected POST with Content-Type 'application/x-git-upload-pack-request', but received '")
    );
}

#[test]
fn nothing_is_reached_through_a_symbolic_link() {
    let site = site();
    let token = site.token("acme/site", "read");
    let real = site.repo("acme/site").path;
    std::fs::rename(&real, site.root().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(site.root().join("elsewhere"), &real).unwrap();
    let answer = site.cgi("GET", ADVERTISE).bearer(&token).run();
    assert_eq!(answer.status, 500);
    assert!(answer.stderr.contains("symbolic link") && !answer.text().contains("elsewhere"), "{}", answer.stderr);
}

#[test]
fn an_incomplete_set_up_is_told_to_the_operator() {
    let site = site();
    let answer = site.cgi("GET", ADVERTISE).without("GIT_PROJECT_ROOT").run();
    assert_eq!(answer.status, 500);
    assert!(answer.stderr.contains("GIT_PROJECT_ROOT"));
    let answer = site.cgi("GET", ADVERTISE).without("PATH_INFO").run();
    assert_eq!(answer.status, 404);
    assert!(answer.stderr.contains("PATH_INFO"));
    let answer = site.cgi("GET", ADVERTISE).without("REQUEST_METHOD").run();
    assert_eq!(answer.status, 500);
    assert!(answer.stderr.contains("No REQUEST_METHOD from server"));
    let answer = site.cgi("GET", ADVERTISE).env("ARTIFACTS_AUTH", "none").run();
    assert_eq!(answer.status, 500);
    assert!(answer.stderr.contains("ARTIFACTS_AUTH"));
    let token = site.token("acme/site", "read");
    let records = site.root().join(".artifacts/tokens/acme/site.git");
    for record in std::fs::read_dir(records).unwrap() {
        std::fs::write(record.unwrap().path(), "{").unwrap();
    }
    let answer = site.cgi("GET", ADVERTISE).bearer(&token).run();
    assert_eq!(answer.status, 503, "{}", answer.stderr);
}

#[test]
fn web_server_mode_has_gits_statuses() {
    let site = site();
    let request = |method: &str, path: &str| site.cgi(method, path).env("ARTIFACTS_AUTH", "webserver");
    assert_eq!(status(request("GET", ADVERTISE)), 404, "not exported");
    std::fs::write(site.repo("acme/site").path.join("git-daemon-export-ok"), "").unwrap();
    assert_eq!(status(request("GET", ADVERTISE)), 200);
    let exported = |method: &str, path: &str| request(method, path).env("GIT_HTTP_EXPORT_ALL", "");
    assert_eq!(status(exported("GET", "/acme/nothing.git/info/refs")), 404);
    assert_eq!(status(exported("GET", ADVERTISE_PUSH)), 403);
    assert_eq!(status(exported("GET", ADVERTISE_PUSH).env("REMOTE_USER", "")), 403);
    assert_eq!(status(exported("GET", ADVERTISE_PUSH).env("REMOTE_USER", "u")), 200);
    assert_eq!(status(exported("GET", "/acme/site/info/refs?service=git-upload-pack")), 200, "suffixes are tried");
    assert_eq!(status(exported("GET", "/acme//site.git/info/refs")), 500, "aliased");
    assert_eq!(status(exported("GET", "/acme/site.git/info/refs?service=git-other")), 403);
    assert_eq!(status(exported("GET", "/acme/site.git/info/refs?service=a&service=git%2Dupload-pack")), 200);
    let post = exported("POST", "/acme/site.git/info/refs");
    assert_eq!(status(post), 405);
    assert_eq!(status(exported("POST", "/acme/site.git/info/refs").env("SERVER_PROTOCOL", "HTTP/2.0")), 400);
    let path = format!("{}/info/refs", site.repo("acme/site").path.to_str().unwrap());
    let translated = exported("GET", ADVERTISE).without("GIT_PROJECT_ROOT").env("PATH_TRANSLATED", &path);
    assert_eq!(status(translated), 200);
}

#[test]
fn a_repository_is_not_looked_at_for_a_token_that_cannot_pass() {
    let site = site();
    let good = site.token("acme/site", "read");
    let path = site.repo("acme/site").path;
    std::fs::remove_file(path.join("HEAD")).unwrap();
    // A process that reads it would wait.
    assert!(std::process::Command::new("mkfifo").arg(path.join("HEAD")).status().unwrap().success());
    let asked = |token: &str| site.cgi("GET", ADVERTISE).bearer(token);
    let unknown = format!("art_v1_{}", "0".repeat(40));
    let ended = format!("{}?expires=1", good.split('?').next().unwrap());
    for token in [unknown.as_str(), &ended, "no token"] {
        assert_eq!(status(asked(token)), 403, "{token}");
    }
}

#[test]
fn another_users_repository_is_refused_with_the_remedy() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can give a directory away
    }
    let site = site();
    let token = site.token("acme/site", "read");
    site.repo("acme/site").config("artifacts.anonymousRead", "true");
    std::os::unix::fs::chown(site.repo("acme/site").path, Some(54321), None).unwrap();
    let answer = site.cgi("GET", ADVERTISE).bearer(&token).run();
    assert_eq!(answer.status, 500);
    assert!(
        answer.stderr.contains("dubious ownership") && answer.stderr.contains("safe.directory"),
        "{}",
        answer.stderr
    );
    assert!(!answer.text().contains("54321") && !answer.text().contains("site.git"), "{}", answer.text());
    // Without a token it looks like any other repository, or none. The operator is told the reason even though
    // anonymous readers are allowed and one was turned away.
    let (anonymous, absent) =
        (site.cgi("GET", ADVERTISE).run(), site.cgi("GET", &ADVERTISE.replace("site", "none")).run());
    assert!(
        anonymous.stderr.contains("no Authorization") && anonymous.stderr.contains("dubious ownership"),
        "{anonymous:?}"
    );
    assert_eq!((anonymous.status, &anonymous.headers[..]), (401, &absent.headers[..]));
    let said = |answer: &str| answer.split(" (request ").next().unwrap_or_default().to_owned();
    assert_eq!(said(&anonymous.text()), said(&absent.text()));
    let trusted = site.cgi("GET", ADVERTISE).bearer(&token);
    let trusted = trusted.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "safe.directory");
    assert_eq!(status(trusted.env("GIT_CONFIG_VALUE_0", "*")), 200);
}

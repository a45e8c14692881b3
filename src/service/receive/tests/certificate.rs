//! Push certificates: what hooks are told about them, compared with C git.

use super::support::{Answer, Pair, Push, send};
use crate::repo::Context;
use crate::service::nonce;

/// The seed of the server's nonces.
const SEED: &str = "a seed";
/// The time of the pushes.
const NOW: u64 = 1_700_000_000;

/// A pair whose server asks for certificates, with hooks that record what they are told.
fn pair() -> Pair {
    let pair = Pair::new();
    pair.at_server(&["config", "receive.certNonceSeed", SEED]);
    for hook in ["pre-receive", "post-receive"] {
        let record = format!("cat >/dev/null; env | grep ^GIT_PUSH_CERT | sort >told-{hook}");
        pair.hook(
            hook,
            &format!("{record}; test -z \"$GIT_PUSH_CERT\" || git cat-file blob $GIT_PUSH_CERT >cert-{hook}"),
        );
    }
    pair
}

/// Makes a key with which the client signs (`ssh-keygen`), and which the server knows as `me`.
fn known_key(pair: &Pair) {
    let run = |program: &str, script: &str| {
        let mut shell = std::process::Command::new("sh");
        let output = shell.args(["-ec", script]).current_dir(&pair.scratch.0).output().expect("the shell runs");
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run(
        "ssh-keygen",
        "ssh-keygen -q -t ed25519 -N '' -f key; echo \"me with you $(cat key.pub)\" | sed 's/me with you/\"me with you\"/' >signers",
    );
    pair.at_server(&["config", "gpg.ssh.allowedSignersFile", "../signers"]);
}

/// Signs with the client's key.
fn sign(pair: &Pair, payload: &str) -> String {
    sign_with(pair, "key", payload)
}

fn sign_with(pair: &Pair, key: &str, payload: &str) -> String {
    let file = pair.scratch.0.join("payload");
    std::fs::write(&file, payload).expect("scratch can be written");
    let mut keygen = std::process::Command::new("ssh-keygen");
    let words = ["-q", "-Y", "sign", "-n", "git", "-f", key, "payload"];
    assert!(keygen.args(words).current_dir(&pair.scratch.0).output().expect("it runs").status.success());
    let signature = std::fs::read_to_string(pair.scratch.0.join("payload.sig")).expect("it was just made");
    std::fs::remove_file(pair.scratch.0.join("payload.sig")).expect("it is there");
    signature
}

/// A request with a certificate for one new branch; without `nonce` it has no such header.
fn request(pair: &Pair, nonce: Option<&str>, options: &[&str], sign: impl Fn(&str) -> String) -> (Vec<u8>, String) {
    let Push { lines, .. } = pair.push(&["- HEAD refs/heads/signed"]);
    let nonce = nonce.map(|nonce| format!("nonce {nonce}\n")).unwrap_or_default();
    let options: String = options.iter().map(|option| format!("push-option {option}\n")).collect();
    let head = format!("certificate version 0.1\npusher me 1700000000 +0000\n{nonce}{options}");
    let payload = format!("{head}\n{}\n", lines.join("\n"));
    let text = format!("{payload}{}", sign(&payload));
    let mut bytes = Vec::new();
    let mut line = |line: &str| bytes.extend_from_slice(format!("{:04x}{line}", line.len() + 4).as_bytes());
    line(&format!("push-cert\0{} push-options", super::support::USUAL));
    text.split_inclusive('\n').for_each(&mut line);
    line("push-cert-end\n");
    bytes.extend_from_slice(b"0000");
    (bytes, text)
}

fn told(pair: &Pair, hook: &str) -> Vec<String> {
    let text = std::fs::read_to_string(pair.server.join(format!("told-{hook}"))).expect("the hook has run");
    text.lines().map(|line| line.strip_prefix("GIT_PUSH_CERT").expect("it is one of them").to_owned()).collect()
}

/// Sends the request and what follows it.
fn push(pair: &Pair, request: &[u8], options: &[&str], change: impl FnOnce(&mut Context)) -> Answer {
    let pack = pair.push(&["- HEAD refs/heads/signed"]).pack;
    let mut bytes = request.to_vec();
    if pair.at_server(&["config", "--default=false", "receive.advertisePushOptions"]) == "true" {
        for option in options {
            bytes.extend_from_slice(format!("{:04x}{option}", option.len() + 4).as_bytes());
        }
        bytes.extend_from_slice(b"0000");
    }
    bytes.extend_from_slice(&pack);
    send(&pair.open_with(change), &bytes)
}

#[test]
fn hooks_are_told_whose_certificate_it_is() {
    let check = |known: bool, sign_as: &dyn Fn(&Pair, &str) -> String, expected: [&str; 3]| {
        let pair = pair();
        known_key(&pair);
        if !known {
            std::fs::write(pair.scratch.0.join("signers"), "").expect("scratch can be written");
        }
        pair.commit("three");
        let nonce = nonce::announced(&pair.open()).expect("it is asked for");
        let (bytes, text) = request(&pair, Some(&nonce), &[], |payload| sign_as(&pair, payload));
        let answer = push(&pair, &bytes, &[], |_| {});
        assert_eq!(answer.complaints(), [""; 0], "{}", answer.said);
        assert!(pair.refs().contains("refs/heads/signed"), "a signature alone refuses nothing");
        let id = pair.git_with(&pair.client, &["hash-object", "--stdin"], text.as_bytes());
        let key = pair.scratch.0.join("key.pub");
        let key = pair.git(&pair.scratch.0, &["-c", "alias.k=!ssh-keygen -lf", "k", key.to_str().expect("plain")]);
        let key = key.split(' ').nth(1).expect("a fingerprint");
        let [signer, shown, status] = expected;
        let expected = [
            format!("={}", String::from_utf8_lossy(&id).trim()),
            format!("_KEY={}", shown.replace("KEY", key)),
            format!("_NONCE={nonce}"),
            "_NONCE_STATUS=OK".into(),
            format!("_SIGNER={signer}"),
            format!("_STATUS={status}"),
        ];
        assert_eq!(told(&pair, "pre-receive"), expected);
        assert_eq!(told(&pair, "post-receive"), expected);
        let kept = std::fs::read_to_string(pair.server.join("cert-pre-receive")).expect("it was read by the hook");
        assert_eq!(kept, text);
        pair.assert_clean();
    };
    check(true, &|pair, payload| sign(pair, payload), ["me with you", "KEY", "G"]);
    check(false, &|pair, payload| sign(pair, payload), ["", "KEY", "G"]);
    check(true, &|pair, payload| sign(pair, &format!("{payload}x")), ["", "", "B"]);
    check(true, &|_, _| String::new(), ["", "", "N"]);
    check(true, &|_, _| "-----BEGIN SSH SIGNATURE-----\nnonsense\n".into(), ["", "", "B"]);
}

#[test]
fn of_two_principals_the_one_who_signed_is_told_as_by_git() {
    let check = |signers: &str, key: &str, expected: [&str; 2]| {
        let pair = pair();
        known_key(&pair);
        let mut keygen = std::process::Command::new("ssh-keygen");
        let words = ["-q", "-t", "ed25519", "-N", "", "-f", "other"];
        assert!(keygen.args(words).current_dir(&pair.scratch.0).status().expect("it runs").success());
        let read = |name: &str| std::fs::read_to_string(pair.scratch.0.join(name)).expect("it was just made");
        let signers = signers.replace("KEY", read("key.pub").trim()).replace("OTHER", read("other.pub").trim());
        std::fs::write(pair.scratch.0.join("signers"), signers.clone()).expect("scratch can be written");
        pair.commit("three");
        let (bytes, _) = request(&pair, None, &[], |payload| sign_with(&pair, key, payload));
        let bytes = [bytes, pair.push(&["- HEAD refs/heads/signed"]).pack].concat();
        let copy = pair.copy();
        let (ours, theirs) = (pair.send_bytes(&bytes), copy.send_to_git(&bytes));
        assert_eq!((ours.complaints(), &ours.report), (vec![], &theirs.report), "{}", ours.said);
        let said = |pair: &Pair| {
            let lines = told(pair, "post-receive").into_iter().filter(|line| !line.starts_with("_NONCE"));
            lines.collect::<Vec<_>>()
        };
        assert_eq!(said(&pair), said(&copy), "{signers}");
        assert_eq!(said(&pair)[2..], [format!("_SIGNER={}", expected[0]), format!("_STATUS={}", expected[1])]);
    };
    let each_their_own = "one KEY\ntwo OTHER\n";
    check(each_their_own, "key", ["one", "G"]);
    check(each_their_own, "other", ["two", "G"]);
    // One key of two principals.
    check("one,two KEY\nthree OTHER\n", "key", ["one", "G"]);
    check("one KEY\ntwo KEY\n", "key", ["one", "G"]);
    // Principals that are known, but did not sign.
    check("one,two OTHER\n", "key", ["", "G"]);
}

#[test]
fn the_configured_program_is_asked_about_pgp_signatures() {
    let pair = pair();
    pair.hook(
        "gpg",
        "cat >asked-input; echo \"$@\" | sed 's/[^ ]*signature/FILE/' >asked; env >asked-environment
        echo '[GNUPG:] GOODSIG 99 in stderr' >&2; echo '[GNUPG:] EXPKEYSIG 12AB A U Thor <a@x>'; exit 2",
    );
    pair.at_server(&["config", "gpg.program", "hooks/gpg"]);
    pair.commit("three");
    let (bytes, text) = request(&pair, None, &[], |_| "-----BEGIN PGP SIGNATURE-----\nx\n".into());
    assert_eq!(push(&pair, &bytes, &[], |_| {}).complaints(), [""; 0]);
    let told = told(&pair, "post-receive");
    assert_eq!(told[1], "_KEY=12AB");
    assert_eq!(told[3..], ["_NONCE_STATUS=MISSING", "_SIGNER=A U Thor <a@x>", "_STATUS=Y"]);
    let read = |name: &str| std::fs::read_to_string(pair.server.join(name)).expect("the program was asked");
    assert_eq!(read("asked"), "--keyid-format=long --status-fd=1 --verify FILE -\n");
    assert!(text.starts_with(&read("asked-input")) && text.ends_with("x\n"));
    let environment = read("asked-environment");
    assert!(environment.contains("GIVEN=yes") && environment.contains("GIT_DIR=.\n"), "{environment}");
    pair.assert_clean();
}

#[test]
fn a_nonce_is_ours_or_near_enough_or_not() {
    let check = |slop: Option<&str>, stateless: bool, given: &dyn Fn(&Pair) -> Option<String>, expected: &[&str]| {
        let pair = pair();
        if let Some(slop) = slop {
            pair.at_server(&["config", "receive.certNonceSlop", slop]);
        }
        pair.commit("three");
        let given = given(&pair);
        let (bytes, _) = request(&pair, given.as_deref(), &[], |_| String::new());
        let answer = push(&pair, &bytes, &[], |context| context.stateless = stateless);
        assert_eq!(answer.complaints(), [""; 0], "{}", answer.said);
        let issued = nonce::announced(&pair.open());
        let fill = |line: &&str| {
            line.replace("GIVEN", given.as_deref().unwrap_or("")).replace("ISSUED", issued.as_deref().unwrap_or(""))
        };
        let nonces = told(&pair, "pre-receive").into_iter().filter(|line| line.starts_with("_NONCE"));
        assert_eq!(nonces.collect::<Vec<_>>(), expected.iter().map(fill).collect::<Vec<_>>());
    };
    let at = |seconds: u64| move |pair: &Pair| nonce::announced(&pair.open_with(|context| context.now = seconds));
    let of_another = |pair: &Pair| nonce::announced(&pair.open_with(|context| context.named = "other".into()));
    let without_seed = |pair: &Pair| {
        pair.at_server(&["config", "--unset", "receive.certNonceSeed"]);
        Some("1-a".to_owned())
    };
    let bad = ["_NONCE=ISSUED", "_NONCE_STATUS=BAD"];
    check(None, true, &at(NOW), &["_NONCE=ISSUED", "_NONCE_STATUS=OK"]);
    check(None, true, &|_| None, &["_NONCE=ISSUED", "_NONCE_STATUS=MISSING"]);
    check(None, true, &without_seed, &[]);
    check(None, true, &of_another, &bad);
    check(None, true, &|_| Some("0-0".into()), &bad);
    check(None, true, &|_| Some("nonsense".into()), &bad);
    check(None, true, &at(NOW - 60), &["_NONCE=ISSUED", "_NONCE_SLOP=60", "_NONCE_STATUS=SLOP"]);
    check(Some("59"), true, &at(NOW - 60), &["_NONCE=ISSUED", "_NONCE_SLOP=60", "_NONCE_STATUS=SLOP"]);
    check(Some("60"), true, &at(NOW - 60), &["_NONCE=GIVEN", "_NONCE_STATUS=OK"]);
    check(Some("60"), true, &at(NOW + 60), &["_NONCE=GIVEN", "_NONCE_STATUS=OK"]);
    check(Some("60"), true, &at(NOW + 61), &["_NONCE=ISSUED", "_NONCE_SLOP=-61", "_NONCE_STATUS=SLOP"]);
    check(Some("60"), false, &at(NOW - 60), &bad);
    check(Some("60"), false, &at(NOW), &["_NONCE=ISSUED", "_NONCE_STATUS=OK"]);
}

#[test]
fn options_that_were_not_signed_refuse_every_ref() {
    let check = |signed: &[&str], sent: &[&str], expected: &[&str]| {
        let pair = pair();
        pair.at_server(&["config", "receive.advertisePushOptions", "true"]);
        pair.commit("three");
        let (bytes, _) = request(&pair, None, signed, |_| String::new());
        let answer = push(&pair, &bytes, sent, |_| {});
        assert_eq!(answer.complaints(), expected, "{signed:?} {sent:?}");
        assert_eq!(pair.refs().contains("refs/heads/signed"), expected.is_empty());
        pair.assert_clean();
    };
    let refused = ["ng refs/heads/signed inconsistent push options"];
    check(&["a", "b c"], &["a", "b c"], &[]);
    check(&["a", "b"], &["b", "a"], &refused);
    check(&["a"], &[], &refused);
    check(&[], &["a"], &refused);
    check(&[], &[], &[]);
}

#[test]
fn a_server_without_a_seed_offers_no_certificates() {
    let pair = Pair::new();
    assert_eq!(nonce::announced(&pair.open()), None);
    pair.at_server(&["config", "receive.certNonceSeed", SEED]);
    let ours = nonce::announced(&pair.open()).expect("it is asked for");
    let server = pair.server.to_str().expect("scratch has a plain name").to_owned();
    let theirs = pair.git(&pair.scratch.0, &["receive-pack", "--http-backend-info-refs", &server]);
    let theirs = theirs.split("push-cert=").nth(1).and_then(|rest| rest.split(' ').next()).expect("it is offered");
    let seconds = theirs.split('-').next().and_then(|digits| digits.parse().ok()).expect("a time");
    let same_time = pair.open_with(|context| {
        context.now = seconds;
        context.named = server.clone().into();
    });
    assert_eq!(nonce::announced(&same_time).as_deref(), Some(theirs));
    assert_ne!(ours, theirs);
}

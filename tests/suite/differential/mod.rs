//! Generated requests to generated repositories, answered by C git and by this program: messages, refusals and packs
//! must be the same, or differ in a way that docs/compatibility.md names.
//!
//! `DIFFERENTIAL_REQUESTS` is the number of requests (a few by default), `DIFFERENTIAL_SEED` the first seed. A failure
//! prints the values of both that repeat it, the repository, the request, and the difference.

mod answer;
mod dice;
mod history;
mod judge;
mod repository;
mod request;

use crate::support::{Answer, Cgi, PROGRAM, Scratch};
use answer::Said;
use dice::Dice;
use judge::Outcome;
use repository::Served;
use request::{Asked, Offered, Way};
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

/// How many requests each repository gets.
const REQUESTS_EACH: u64 = 40;

fn number(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{name} must be a number")),
        Err(_) => otherwise,
    }
}

#[test]
fn generated_requests_are_answered_as_git_answers_them() {
    let (seed, requests) = (number("DIFFERENTIAL_SEED", 1), number("DIFFERENTIAL_REQUESTS", 120));
    let git = git_version();
    let (mut counts, mut differences) = (BTreeMap::<&str, u64>::new(), Vec::new());
    for number in 0..requests.div_ceil(REQUESTS_EACH) {
        let seed = seed + number;
        let scratch = Scratch::new();
        if std::env::var_os("DIFFERENTIAL_KEEP").is_some() {
            println!("{seed}: {}", scratch.path().display());
        }
        let mut dice = Dice::new(seed);
        let served = Served::make(&scratch.path().join("repository.git"), &mut dice);
        let offered = Offered::of(&served, git);
        let last = REQUESTS_EACH.min(requests - number * REQUESTS_EACH);
        for request in 1..=last {
            let asked = Asked::random(&served, &offered, &mut dice);
            match ask_both(&served, &asked) {
                Ok(words) => {
                    *counts.entry("all").or_default() += 1;
                    words.into_iter().for_each(|word| *counts.entry(word).or_default() += 1);
                }
                Err(difference) => differences.push(format!(
                    "DIFFERENTIAL_SEED={seed} DIFFERENTIAL_REQUESTS={request}\n{}{}{difference}\n",
                    served.told(),
                    asked.told(&served)
                )),
            }
        }
        if std::env::var_os("DIFFERENTIAL_KEEP").is_some() {
            std::mem::forget(scratch);
        }
    }
    println!("{counts:?}");
    let count = differences.len();
    assert!(differences.is_empty(), "{}\n{count} of {requests} requests", differences.join("\n----\n"));
}

/// The major and minor version of git.
fn git_version() -> (u32, u32) {
    let output = Command::new("git").arg("version").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = text.rsplit(' ').next().unwrap().split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn ask_both(served: &Served, asked: &Asked) -> Result<Vec<&'static str>, String> {
    std::thread::scope(|scope| {
        let gits = scope.spawn(|| ask(served, asked, false));
        let ours = ask(served, asked, true).map_err(|error| format!("ours: {error}"));
        let gits = gits.join().expect("it has been asked").map_err(|error| format!("git's: {error}"));
        judge::compare(served, asked, &ours?, &gits?)
    })
}

fn ask(served: &Served, asked: &Asked, ours: bool) -> Result<Outcome, String> {
    let mut environment = vec![("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null")];
    if !ours {
        // With bitmaps git leaves out more than without.
        environment.extend([
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_KEY_0", "pack.useBitmaps"),
            ("GIT_CONFIG_VALUE_0", "false"),
        ]);
    }
    match asked.way {
        Way::Http => {
            let mut cgi = Cgi::to(served.path.parent().unwrap(), "POST", "/repository.git/git-upload-pack");
            cgi = cgi.env("ARTIFACTS_AUTH", "webserver").env("GIT_HTTP_EXPORT_ALL", "");
            cgi = cgi.protocol(asked.version).body(asked.bytes());
            cgi = environment.iter().fold(cgi, |cgi, (name, value)| cgi.env(name, value));
            let answer: Answer = if ours { cgi.run() } else { cgi.through(&["git", "http-backend"]).run() };
            if answer.status != 200 {
                return Err(format!("status {}: {}", answer.status, answer.stderr));
            }
            Ok(Outcome { said: Said::hear(&answer.body, asked.all_in_bands)?, stderr: answer.stderr })
        }
        Way::Pipe => {
            let mut command = Command::new(if ours { PROGRAM } else { "git" });
            command.arg("upload-pack").arg(&served.path).envs(environment);
            command.env("GIT_PROTOCOL", format!("version={}", asked.version));
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            // A server that refuses the beginning does not read the rest.
            let _ = stdin.write_all(&asked.bytes());
            drop(stdin);
            let output = child.wait_with_output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            Ok(Outcome {
                said: Said::hear(Said::behind_the_advertisement(&output.stdout)?, asked.all_in_bands)?,
                stderr,
            })
        }
    }
}

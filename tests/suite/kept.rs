//! `ARTIFACTS_CACHE`: real clients, and processes that die at bad moments.

use crate::support::{Answer, Cgi, Repo, Scratch, Site, band, framed, noise, until};
use rustix::process::Signal;
use std::path::PathBuf;
use std::sync::Barrier;
use std::time::Duration;

/// How many clients run at the same time.
const CLIENTS: usize = 8;

/// A repository of some megabytes in several packs, so that none is sent as a whole.
fn popular() -> Site {
    Site::with("acme/site", |repo| {
        for number in 0..6 {
            std::fs::write(repo.path.join(format!("{number}.bin")), noise(700_000, number)).unwrap();
            repo.commit(&format!("file {number}"));
        }
        repo.git(&["tag", "-a", "-m", "first", "v1"]);
        repo.git(&["branch", "side", "HEAD~1"]);
    })
}

struct Kept {
    scratch: Scratch,
}

impl Kept {
    fn new() -> Self {
        Kept { scratch: Scratch::new() }
    }

    fn directory(&self) -> PathBuf {
        self.scratch.path().join("kept")
    }

    fn log(&self) -> PathBuf {
        self.scratch.path().join("log")
    }

    fn environment(&self) -> [(&'static str, String); 2] {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        [("ARTIFACTS_CACHE", text(self.directory())), ("ARTIFACTS_AUDIT_LOG", text(self.log()))]
    }

    fn with(&self, cgi: Cgi) -> Cgi {
        self.environment().iter().fold(cgi, |cgi, (name, value)| cgi.env(name, value))
    }

    /// Where the packs of the fetches so far came from, in the order in which the fetches ended.
    fn roles(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.filter_map(|line| line["cache"].as_str().map(str::to_owned)).collect()
    }

    /// The files in the cache, each as what follows its key.
    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory()).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().to_str().unwrap()[64..].to_owned()).collect()
    }
}

/// The request of a clone.
fn wants_all(site: &Site, token: &str) -> Cgi {
    let served = site.repo("acme/site");
    let wants = ["main", "side", "v1"].map(|name| format!("want {}", served.tip(name)));
    let lines =
        ["command=fetch", "object-format=sha1", "0001", "ofs-delta", &wants[0], &wants[1], &wants[2], "done", "0000"];
    site.cgi("POST", "/acme/site.git/git-upload-pack").protocol(2).bearer(token).body(framed(&lines))
}

/// The pack in a v2 answer, which C git must find valid.
fn pack_of(site: &Site, answer: &Answer) -> Vec<u8> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let pack = band(&answer.body, 1);
    let bench = site.work("bench");
    bench.git(&["init", "-q", "--bare", "."]);
    bench.feed(&["index-pack", "--strict", "--stdin"], &pack);
    pack
}

#[test]
fn clones_at_the_same_time_share_one_pack() {
    let (site, kept) = (popular(), Kept::new());
    let token = site.token("acme/site", "read");
    let environment = kept.environment();
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let server = site.serve_with(&[], &environment);
    let (url, barrier) = (server.url_with("acme/site", &token), Barrier::new(CLIENTS));
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (site, url, barrier) = (&site, &url, &barrier);
            scope.spawn(move || {
                barrier.wait();
                let protocol = if number % 2 == 0 { "protocol.version=2" } else { "protocol.version=0" };
                let name = format!("clone-{number}");
                site.desk().git(&["-c", protocol, "clone", "-q", "--mirror", url, &name]);
                let clone = site.work(&name);
                clone.fsck();
                assert_eq!(clone.refs(), site.repo("acme/site").refs());
            });
        }
    });
    let roles = kept.roles();
    assert_eq!(roles.len(), CLIENTS, "{roles:?}");
    assert!(roles.iter().all(|role| role != "miss"), "{roles:?}");
    assert_eq!(kept.files(), [""], "one entry, and nothing of those that made it");
    site.desk().git(&["clone", "-q", "--mirror", &url, "late"]);
    assert_eq!(kept.roles().last().unwrap(), "hit");
}

#[test]
fn a_kept_pack_is_the_first_one_byte_for_byte_and_damage_is_noticed() {
    let (site, kept) = (popular(), Kept::new());
    let token = site.token("acme/site", "read");
    let request = kept.with(wants_all(&site, &token));
    let pack = pack_of(&site, &request.run());
    assert!(pack_of(&site, &request.run()) == pack);
    assert_eq!(kept.roles(), ["lead", "hit"]);
    assert_eq!(kept.files(), [""]);
    let entry = std::fs::read_dir(kept.directory()).unwrap().next().unwrap().unwrap().path();
    let sound = std::fs::read(&entry).unwrap();
    assert!(sound.len() > pack.len());
    for place in (0..sound.len()).step_by(sound.len() / 9) {
        let mut damaged = sound.clone();
        damaged[place] ^= 4;
        std::fs::write(&entry, damaged).unwrap();
        assert!(band(&request.run().body, 1) == pack, "flipped at {place}");
    }
    std::fs::write(&entry, &sound[..sound.len() / 2]).unwrap();
    assert!(band(&request.run().body, 1) == pack);
    assert!(kept.roles().iter().skip(2).all(|role| role == "lead"), "{:?}", kept.roles());
    // The cache can be removed at any time.
    std::fs::remove_dir_all(kept.directory()).unwrap();
    assert!(band(&request.run().body, 1) == pack);
    assert!(band(&request.clone().env("ARTIFACTS_CACHE_SIZE", "0").run().body, 1) == pack);
    assert!(band(&request.clone().env("ARTIFACTS_CACHE_SIZE", "1m").run().body, 1) == pack);
    assert!(band(&request.env("ARTIFACTS_CACHE", "/dev/null/kept").run().body, 1) == pack);
}

#[test]
fn when_the_process_that_makes_a_pack_is_killed_one_that_reads_along_goes_on() {
    let (site, kept) = (popular(), Kept::new());
    let token = site.token("acme/site", "read");
    let request = kept.with(wants_all(&site, &token));
    let whole = pack_of(&site, &request.clone().without("ARTIFACTS_CACHE").run());
    // Stopped in the middle of its work, which does not wait for the client to read.
    let leader = (0..20)
        .find_map(|_| {
            let mut leader = request.start();
            leader.feed(request.bytes()).unwrap();
            until("a file is there", || !kept.files().is_empty());
            leader.signal(Signal::STOP);
            if kept.files() == [".part"] {
                return Some(leader);
            }
            leader.signal(Signal::KILL);
            std::fs::remove_dir_all(kept.directory()).unwrap();
            None
        })
        .expect("one of them can be caught");
    let mut followers: Vec<_> = (0..4)
        .map(|_| {
            let mut follower = request.start();
            follower.feed(request.bytes()).unwrap();
            follower
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    leader.signal(Signal::KILL);
    // All are read at once, because none may wait for another one's client.
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let ends: Vec<_> = followers.drain(..).map(|follower| scope.spawn(move || follower.end())).collect();
        ends.into_iter().map(|end| end.join().unwrap()).collect()
    });
    for answer in answers {
        assert!(band(&answer.body, 1) == whole);
    }
    assert_eq!(kept.files(), [""]);
    let roles = kept.roles();
    assert_eq!(roles.iter().filter(|role| *role == "lead").count(), 1, "{roles:?}");
    assert!(leader.end().exit < 0);
}

#[test]
fn over_pipes_the_same_packs_are_kept() {
    let (site, kept) = (popular(), Kept::new());
    let served = site.repo("acme/site");
    let wrapper = site.work("tools").path.join("upload-pack");
    let variables: String = kept.environment().iter().map(|(name, value)| format!("{name}='{value}' ")).collect();
    let script = format!("{variables}exec {} upload-pack \"$@\"", crate::support::PROGRAM);
    crate::support::write_script(&wrapper, &script);
    let program = format!("--upload-pack={}", wrapper.display());
    let url = format!("file://{}", served.path.display());
    for name in ["one", "two"] {
        site.desk().git(&["clone", "-q", "--mirror", &program, &url, name]);
        let clone = Repo::at(site.work(name).path);
        clone.fsck();
        assert_eq!(clone.refs(), served.refs());
    }
    assert_eq!(kept.roles(), ["lead", "hit"]);
}

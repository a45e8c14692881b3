//! Bitmaps: git reads what we write, and we read what either wrote.

use super::*;
use crate::odb::bitmap::write::{Files, Summary, for_pack};

impl Repo {
    /// The objects that refs point to.
    fn tips(&self) -> Vec<ObjectId> {
        let tips = self.git(&["for-each-ref", "--format=%(objectname)"]);
        tips.lines().map(|line| ObjectId::from_hex(line.as_bytes()).unwrap()).collect()
    }

    /// What git says when it must answer by bitmaps, and whether it did.
    fn by_bitmaps(&self, args: &[&str], input: &str) -> (String, bool) {
        let events = self.dir.join("events");
        let mut command = self.command("git");
        command.args(args).env("GIT_TRACE2_EVENT", &events).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "git {args:?}");
        let text = std::fs::read_to_string(&events).unwrap();
        std::fs::remove_file(events).unwrap();
        (String::from_utf8(output.stdout).unwrap(), text.contains("opened bitmap"))
    }
}

/// Writes bitmaps for the only pack.
fn write_for_pack(repo: &Repo) -> Summary {
    let objects = repo.objects();
    let [pack] = objects.packs(true).unwrap()[..] else { panic!("git left more than one pack") };
    for_pack(&objects, pack, &repo.tips(), Files::default(), &mut Silent).unwrap()
}

/// git believes the bitmaps there are, and they tell it the truth.
fn check_by_git(repo: &Repo) {
    let heads = repo.git(&["for-each-ref", "--format=%(refname)", "refs/heads"]);
    for head in heads.lines() {
        repo.git(&["rev-list", "--test-bitmap", head]);
    }
    let args = ["rev-list", "--objects", "--use-bitmap-index", "--all"];
    let (listed, used) = repo.by_bitmaps(&args, "");
    assert!(used, "git has opened no bitmaps");
    let ids = |text: &str| text.lines().map(|line| line[..repo.hash.len_in_hex()].to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(ids(&listed), ids(&repo.git(&["rev-list", "--objects", "--all"])));
}

#[test]
fn git_reads_the_bitmaps_of_a_pack() {
    for hash in [gix_hash::Kind::Sha1, gix_hash::Kind::Sha256] {
        let repo = Repo::made_by(hash, &format!("{SHAPES}\ngit repack -adq"));
        let summary = write_for_pack(&repo);
        assert_eq!(summary.path.metadata().unwrap().len(), summary.bytes);
        check_by_git(&repo);
        assert!(repo.objects().bitmaps(u64::MAX).unwrap().is_some());
        REQUESTS.iter().for_each(|(wants, haves)| check(&repo, wants, haves, &FORMS[1..2]));
    }
}

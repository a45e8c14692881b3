//! Random negotiations, compared with git's.

use super::*;

#[test]
fn random_negotiations_are_gits() {
    let repo = Repo::drawn();
    let many = std::env::var_os("RUN_SLOW_TESTS").is_some();
    let unknown = ["1".repeat(40), "2".repeat(40)];
    let wants = ["<main>", "<topic>", "<v1>", "<refs/secret/side>", "<blob>", "<v1-again>"];
    // Tags and trees are left out: git before 2.50 acknowledges them each time they are named.
    let haves = ["<root>", "<one>", "<main>", "<refs/secret/side>", "<topic>", &unknown[0], &unknown[1]];
    for seed in 0..if many { 400 } else { 12 } {
        let mut dice = Dice(seed);
        let round = |dice: &mut Dice, most| {
            let mut lines: Vec<String> = (0..dice.roll(most)).map(|_| format!("have {}|", dice.pick(&haves))).collect();
            lines.dedup();
            lines.concat()
        };
        let wanted: Vec<&str> = (0..=dice.roll(2)).map(|_| dice.pick(&wants)).collect();
        match dice.roll(3) {
            0 => {
                let mut lines = String::from("command=fetch|0001|");
                lines.extend(wanted.iter().map(|want| format!("want {want}|")));
                lines += &round(&mut dice, 5);
                for word in ["done|", "wait-for-done|", "thin-pack|", "ofs-delta|", "include-tag|"] {
                    if dice.roll(3) == 0 {
                        lines += word;
                    }
                }
                same_fetch(&repo, http(Version::V2), &(lines + "0000"));
            }
            how => {
                let acks = dice.pick(&["multi_ack", "multi_ack_detailed", "multi_ack_detailed no-done"]);
                let mut lines: String =
                    wanted.iter().map(|want| format!("want {want} {acks} side-band-64k {CLONE}|")).collect();
                lines += "0000|";
                for _ in 0..dice.roll(4) {
                    lines += &round(&mut dice, 4);
                    lines += "0000|";
                }
                lines += &round(&mut dice, 3);
                lines += "done";
                same_fetch(&repo, if how == 1 { http(Version::V0) } else { pipe(Version::V0) }, &lines);
            }
        }
    }
}

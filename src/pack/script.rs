//! Stored deltas as scripts that can be composed and reversed, so that a delta can be made without the contents of both
//! sides.
//!
//! In: stored deltas along one chain, or from two chains that meet. Out: one delta. Contents are never compared here.

use super::encode;
use crate::odb::delta::{self, Instruction, Instructions};
use anyhow::{Context, Result, ensure};

/// Shorter copied pieces are not worth an instruction when a script is reversed.
const COPY_MIN: usize = 4;
/// A script with more pieces makes no useful delta. Composing two short scripts can yield as many pieces as the content
/// has bytes.
const STEPS_MAX: usize = 1 << 16;

/// How one content is made from another.
#[derive(Debug, Default, Clone)]
pub(super) struct Script {
    base_size: usize,
    size: usize,
    steps: Vec<Step>,
    own: Vec<u8>,
}

/// One piece of the content.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// Its position in the content.
    at: usize,
    length: usize,
    from: From,
}

#[derive(Debug, Clone, Copy)]
enum From {
    /// From this position of the base.
    Base(usize),
    /// From this position of the script's own bytes.
    Own(usize),
}

impl From {
    fn skip(self, length: usize) -> Self {
        match self {
            From::Base(at) => From::Base(at + length),
            From::Own(at) => From::Own(at + length),
        }
    }
}

impl Script {
    /// Parses a delta.
    ///
    /// # Errors
    /// When the delta is malformed or has too many pieces.
    pub(super) fn parse(delta: &[u8]) -> Result<Self> {
        let (base_size, size, at) = delta::sizes(delta)?;
        let size = usize::try_from(size).context("object is too large for this machine")?;
        let base_size = usize::try_from(base_size).context("object is too large for this machine")?;
        let mut script = Script { base_size, ..Script::default() };
        for instruction in Instructions(&delta[at..]) {
            match instruction? {
                Instruction::Copy { from, length } => {
                    ensure!(
                        from.checked_add(length).is_some_and(|end| end <= base_size),
                        "delta copies beyond its base"
                    );
                    script.push(length, From::Base(from));
                }
                Instruction::Own(bytes) => script.push_own(bytes),
            }
            ensure!(script.size <= size, "delta makes more than the {size} bytes it announces");
            script.check_steps()?;
        }
        ensure!(script.size == size, "delta makes {} of the {size} bytes it announces", script.size);
        Ok(script)
    }

    fn empty(base_size: usize) -> Self {
        Script { base_size, ..Script::default() }
    }

    /// The size of the base in bytes.
    pub(super) fn base_size(&self) -> usize {
        self.base_size
    }

    /// The size of the content in bytes.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    fn check_steps(&self) -> Result<()> {
        ensure!(self.steps.len() <= STEPS_MAX, "delta has more than {STEPS_MAX} pieces");
        Ok(())
    }

    fn push(&mut self, length: usize, from: From) {
        if let Some(last) = self.steps.last_mut()
            && match (last.from.skip(last.length), from) {
                (From::Base(end), From::Base(at)) | (From::Own(end), From::Own(at)) => end == at,
                _ => false,
            }
        {
            last.length += length;
        } else if length > 0 {
            self.steps.push(Step { at: self.size, length, from });
        }
        self.size += length;
    }

    fn push_own(&mut self, bytes: &[u8]) {
        let from = From::Own(self.own.len());
        self.own.extend_from_slice(bytes);
        self.push(bytes.len(), from);
    }

    /// Composes this script with `below`, whose content is this script's base: the result makes this script's content
    /// from `below`'s base.
    ///
    /// # Errors
    /// When the sizes do not match, or the result has too many pieces.
    pub(super) fn over(&self, below: &Script) -> Result<Self> {
        ensure!(self.base_size == below.size, "delta is for a base of {} bytes, not {}", self.base_size, below.size);
        let mut script = Script::empty(below.base_size);
        for step in &self.steps {
            match step.from {
                From::Own(at) => script.push_own(&self.own[at..at + step.length]),
                From::Base(mut at) => {
                    let end = at + step.length;
                    let mut n = below.steps.partition_point(|step| step.at <= at) - 1;
                    while at < end {
                        let piece = below.steps[n];
                        let skipped = at - piece.at;
                        let length = (piece.length - skipped).min(end - at);
                        match piece.from.skip(skipped) {
                            From::Own(own) => script.push_own(&below.own[own..own + length]),
                            from => script.push(length, from),
                        }
                        at += length;
                        n += 1;
                    }
                }
            }
            script.check_steps()?;
        }
        Ok(script)
    }

    /// Reverses the script: the result makes `base` from this script's content. `base` must be this script's base.
    ///
    /// # Errors
    /// When the size of `base` does not match.
    pub(super) fn reversed(&self, base: &[u8]) -> Result<Self> {
        ensure!(base.len() == self.base_size, "delta is for a base of {} bytes, not {}", self.base_size, base.len());
        let copied = |step: &Step| match step.from {
            From::Base(from) if step.length >= COPY_MIN => Some((from, step.length, step.at)),
            _ => None,
        };
        let mut copies: Vec<(usize, usize, usize)> = self.steps.iter().filter_map(copied).collect();
        copies.sort_unstable_by_key(|(from, length, at)| (*from, std::cmp::Reverse(*length), *at));
        let mut script = Script::empty(self.size);
        for (from, length, at) in copies {
            let end = from + length;
            if end < script.size + COPY_MIN {
                continue;
            }
            if from > script.size {
                script.push_own(&base[script.size..from]);
            }
            let skipped = script.size - from;
            script.push(length - skipped, From::Base(at + skipped));
        }
        script.push_own(&base[script.size..]);
        Ok(script)
    }

    /// Encodes the script as a delta; returns `false` if it exceeds `limit` bytes.
    pub(super) fn encode(&self, limit: usize, delta: &mut Vec<u8>) -> bool {
        delta.clear();
        encode::number(self.base_size, delta);
        encode::number(self.size, delta);
        for step in &self.steps {
            match step.from {
                From::Own(at) => encode::insert(&self.own[at..at + step.length], delta),
                From::Base(at) => encode::copy(at, step.length, delta),
            }
            if delta.len() > limit {
                return false;
            }
        }
        delta.len() <= limit
    }
}

#[cfg(test)]
mod tests {
    use super::super::encode::Encoder;
    use super::*;
    use proptest::prelude::*;

    fn delta(base: &[u8], target: &[u8]) -> Vec<u8> {
        Encoder::default().encode(base, target, usize::MAX).expect("they are long enough").to_vec()
    }

    fn apply(script: &Script, base: &[u8]) -> Vec<u8> {
        let (mut delta, mut made) = (Vec::new(), Vec::new());
        assert!(script.encode(usize::MAX, &mut delta));
        delta::apply(base, &delta, u64::MAX, &mut made).unwrap();
        assert_eq!(made.len(), script.size());
        assert!(!script.encode(delta.len() - 1, &mut Vec::new()));
        made
    }

    /// Makes a version: the lines of a text, some removed, some moved, some new.
    fn version(edits: &[(u16, u16, u8)]) -> Vec<u8> {
        let mut lines: Vec<Vec<u8>> = (0..400).map(|n| format!("line {n} of a file\n").into_bytes()).collect();
        for &(at, other, what) in edits {
            let (at, other) = (usize::from(at) % lines.len(), usize::from(other) % lines.len());
            match what % 3 {
                0 => lines[at] = format!("new {other} here\n").into_bytes(),
                1 => drop(lines.remove(at)),
                _ => lines.swap(at, other),
            }
        }
        lines.concat()
    }

    proptest! {
        #[test]
        fn scripts_put_together_and_turned_round_make_what_they_should(
            edits in prop::array::uniform3(prop::collection::vec(any::<(u16, u16, u8)>(), 0..60)),
        ) {
            let [one, two, three] = edits.map(|edits| version(&edits));
            let (first, second) = (Script::parse(&delta(&one, &two)).unwrap(), Script::parse(&delta(&two, &three)).unwrap());
            prop_assert_eq!(apply(&first, &one), &two[..]);
            prop_assert_eq!(apply(&second.over(&first).unwrap(), &one), &three[..]);
            let back = first.reversed(&one).unwrap();
            prop_assert_eq!(apply(&back, &two), &one[..]);
            prop_assert_eq!(apply(&back.over(&second.reversed(&two).unwrap()).unwrap(), &three), &one[..]);
        }
    }

    #[test]
    fn what_does_not_belong_together_is_an_error() {
        let (one, two) = (version(&[]), version(&[(3, 0, 1)]));
        let script = Script::parse(&delta(&one, &two)).unwrap();
        script.reversed(&two).expect_err("another base");
        script.over(&script).expect_err("another base");
        let whole = delta(&one, &two);
        for end in 0..whole.len() {
            Script::parse(&whole[..end]).expect_err("cut off");
        }
        let mut beyond = whole.clone();
        beyond[0] ^= 1;
        // Only the size of the base differs: copying to the end exceeds it, or the script cannot be reversed on the
        // real base.
        assert!(Script::parse(&beyond).and_then(|script| script.reversed(&one)).is_err());
    }

    #[test]
    fn two_scripts_of_few_pieces_that_make_very_many_are_refused() {
        let instructions = |base: usize, count: usize, instruction: &dyn Fn(usize) -> Vec<u8>| {
            let mut delta = Vec::new();
            encode::number(base, &mut delta);
            let own: Vec<u8> = (0..count).flat_map(instruction).collect();
            let made: usize = Instructions(&own)
                .map(|instruction| match instruction.unwrap() {
                    Instruction::Copy { length, .. } => length,
                    Instruction::Own(bytes) => bytes.len(),
                })
                .sum();
            encode::number(made, &mut delta);
            [delta, own].concat()
        };
        // Two bytes each from scattered places among sixteen thousand; then all of that again and again.
        let scattered =
            Script::parse(&instructions(16_384, 8_000, &|n| vec![0x93, n as u8, (n >> 8) as u8 ^ 0x15, 2])).unwrap();
        let again = |count| Script::parse(&instructions(scattered.size(), count, &|_| vec![0xb0, 0x80, 0x3e])).unwrap();
        assert_eq!(again(4).over(&scattered).unwrap().size(), 4 * scattered.size());
        assert!(again(600).over(&scattered).is_err(), "it would have 4,800,000 pieces");
        let many = instructions(16_384, 70_000, &|n| vec![0x91, (n * 7) as u8, 1]);
        assert!(Script::parse(&many).is_err(), "it has 70,000 pieces");
    }

    #[test]
    fn an_empty_object_can_be_either_side() {
        let nothing = Script::parse(&[5, 0]).unwrap();
        assert_eq!(apply(&nothing, b"hello"), b"");
        assert_eq!(apply(&nothing.reversed(b"hello").unwrap(), b""), b"hello");
        let all = Script::parse(&[0, 3, 3, b'a', b'b', b'c']).unwrap();
        assert_eq!(apply(&all.over(&nothing).unwrap(), b"hello"), b"abc");
    }
}

//! Stored deltas as scripts: put together and turned round, so that a delta can be made without the contents of both sides.
//!
//! In: deltas as they are stored, one behind the other or towards each other. Out: one delta. What they were made of is not searched again.

use super::encode;
use crate::odb::delta::{self, Instruction, Instructions};
use anyhow::{Context, Result, ensure};
use std::ops::Range;

/// Shorter pieces of the base are not worth an instruction when a script is turned round.
const COPY_MIN: usize = 4;

/// How one content is made of another.
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
    /// Where it stands in the content.
    at: usize,
    length: usize,
    from: From,
}

#[derive(Debug, Clone, Copy)]
enum From {
    /// There in the base.
    Base(usize),
    /// There in the script's own bytes.
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
    /// The script that a delta is.
    ///
    /// # Errors
    /// When the delta is malformed.
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
        }
        ensure!(script.size == size, "delta makes {} of the {size} bytes it announces", script.size);
        Ok(script)
    }

    fn empty(base_size: usize) -> Self {
        Script { base_size, ..Script::default() }
    }

    /// How many bytes it is for.
    pub(super) fn base_size(&self) -> usize {
        self.base_size
    }

    /// How many bytes it makes.
    pub(super) fn size(&self) -> usize {
        self.size
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

    /// The script that makes a content of itself.
    pub(super) fn identity(size: usize) -> Self {
        let mut script = Script::empty(size);
        script.push(size, From::Base(0));
        script
    }

    /// The steps that make a part of the content, cut to it.
    fn within(&self, part: Range<usize>) -> impl Iterator<Item = Step> {
        let first = self.steps.partition_point(|step| step.at + step.length <= part.start);
        let steps = self.steps[first..].iter().take_while(move |step| step.at < part.end);
        steps.map(move |step| {
            let (at, end) = (step.at.max(part.start), (step.at + step.length).min(part.end));
            Step { at, length: end - at, from: step.from.skip(at - step.at) }
        })
    }

    /// The script that makes of `below`'s base what this one makes of what `below` makes.
    ///
    /// # Errors
    /// When they do not belong together.
    pub(super) fn over(&self, below: &Script) -> Result<Self> {
        ensure!(self.base_size == below.size, "delta is for a base of {} bytes, not {}", self.base_size, below.size);
        let mut script = Script::empty(below.base_size);
        for step in &self.steps {
            match step.from {
                From::Own(at) => script.push_own(&self.own[at..at + step.length]),
                From::Base(at) => below.within(at..at + step.length).for_each(|piece| match piece.from {
                    From::Own(own) => script.push_own(&below.own[own..own + piece.length]),
                    from => script.push(piece.length, from),
                }),
            }
        }
        Ok(script)
    }

    /// The base in pieces, each with its place in what is made of it, where it has one.
    fn pieces_of_base(&self) -> Vec<(Range<usize>, Option<usize>)> {
        let copied = |step: &Step| match step.from {
            From::Base(from) if step.length >= COPY_MIN => Some((from, step.length, step.at)),
            _ => None,
        };
        let mut copies: Vec<(usize, usize, usize)> = self.steps.iter().filter_map(copied).collect();
        copies.sort_unstable_by_key(|(from, length, at)| (*from, std::cmp::Reverse(*length), *at));
        let (mut pieces, mut reached) = (Vec::new(), 0);
        for (from, length, at) in copies {
            let end = from + length;
            if end < reached + COPY_MIN {
                continue;
            }
            if from > reached {
                pieces.push((reached..from, None));
                reached = from;
            }
            pieces.push((reached..end, Some(at + (reached - from))));
            reached = end;
        }
        if reached < self.base_size {
            pieces.push((reached..self.base_size, None));
        }
        pieces
    }

    /// The script that makes this one's base of what this one makes. `base` adds what stands in a part of the base: those parts that are
    /// nowhere else, one after the other.
    pub(super) fn reversed(&self, base: &mut dyn FnMut(Range<usize>, &mut Vec<u8>)) -> Self {
        let mut script = Script::empty(self.size);
        for (part, place) in self.pieces_of_base() {
            let length = part.len();
            let from = match place {
                Some(at) => From::Base(at),
                None => {
                    let at = script.own.len();
                    base(part, &mut script.own);
                    From::Own(at)
                }
            };
            script.push(length, from);
        }
        script
    }

    /// How much of `below`'s base must be known to turn this one round, which is for what `below` makes.
    pub(super) fn reach_below(&self, below: &Script) -> usize {
        let lost = self.pieces_of_base().into_iter().filter(|(_, place)| place.is_none());
        let steps = lost.flat_map(|(part, _)| below.within(part));
        let ends = steps.filter_map(|step| match step.from {
            From::Base(at) => Some(at + step.length),
            From::Own(_) => None,
        });
        ends.max().unwrap_or(0)
    }

    /// Adds a part of the content; `base` begins as the base does, and reaches far enough.
    pub(super) fn copy(&self, part: Range<usize>, base: &[u8], out: &mut Vec<u8>) {
        for step in self.within(part) {
            out.extend_from_slice(match step.from {
                From::Own(at) => &self.own[at..at + step.length],
                From::Base(at) => &base[at..at + step.length],
            });
        }
    }

    /// The script as a delta; `None` where it would have more than `limit` bytes.
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

    fn reversed(script: &Script, base: &[u8]) -> Script {
        assert_eq!(script.base_size(), base.len());
        script.reversed(&mut |part, out| out.extend_from_slice(&base[part]))
    }

    /// A version: lines of a text, some left out, some moved, some new.
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
            let back = reversed(&first, &one);
            prop_assert_eq!(apply(&back, &two), &one[..]);
            let back_to_two = reversed(&second, &two);
            prop_assert_eq!(apply(&back.over(&back_to_two).unwrap(), &three), &one[..]);
            // The same from the beginning of what `two` was made of.
            let reach = second.reach_below(&first);
            let partly = second.reversed(&mut |part, out| first.copy(part, &one[..reach], out));
            prop_assert_eq!(apply(&partly, &three), &two[..]);
            let identity = Script::identity(two.len());
            let partly = second.reversed(&mut |part, out| identity.copy(part, &two[..second.reach_below(&identity)], out));
            prop_assert_eq!(apply(&partly, &three), &two[..]);
        }
    }

    #[test]
    fn what_does_not_belong_together_is_an_error() {
        let (one, two) = (version(&[]), version(&[(3, 0, 1)]));
        let script = Script::parse(&delta(&one, &two)).unwrap();
        script.over(&script).expect_err("another base");
        let whole = delta(&one, &two);
        for end in 0..whole.len() {
            Script::parse(&whole[..end]).expect_err("cut off");
        }
        let mut beyond = whole.clone();
        beyond[0] ^= 1;
        // The base's size alone is another one: what is copied to its end is beyond it, or nobody has such a base.
        assert!(Script::parse(&beyond).map_or(true, |script| script.base_size() != one.len()));
    }

    #[test]
    fn an_empty_object_can_be_either_side() {
        let nothing = Script::parse(&[5, 0]).unwrap();
        assert_eq!(apply(&nothing, b"hello"), b"");
        assert_eq!(apply(&reversed(&nothing, b"hello"), b""), b"hello");
        let all = Script::parse(&[0, 3, 3, b'a', b'b', b'c']).unwrap();
        assert_eq!(apply(&all.over(&nothing).unwrap(), b"hello"), b"abc");
    }
}

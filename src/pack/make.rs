//! Making entries that cannot be copied: an object as a delta on another version of it, or whole.
//!
//! In: names and candidate bases. Out: the bytes to deflate. Never looks for candidates, but decides whether a delta is
//! worth it. A delta is composed of the stored deltas between both versions if there are any, otherwise their contents
//! are compared.

use super::deflate::Levels;
use super::encode::Encoder;
use super::script::Script;
use crate::odb::inflate::Inflater;
use crate::odb::{Location, Objects, Pack, PackId, TooLarge};
use anyhow::{Context, Result, ensure};
use gix_hash::ObjectId;
use gix_object::Kind;
use std::rc::Rc;

/// Smaller objects are not worth a delta.
const RELATED_BYTES_MIN: usize = 80;
/// Stored deltas between two versions count as long if they have this many bytes and at least one part in [`LONG_PART`]
/// of the object's size.
const LONG_BYTES_MIN: u64 = 512;
const LONG_PART: u64 = 32;

/// What to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recipe {
    /// The object.
    pub id: ObjectId,
    /// Its location.
    pub location: Location,
    /// Candidate bases, the best first.
    pub bases: Vec<Version>,
    /// Whether the object may also be written whole.
    pub or_whole: bool,
}

/// A candidate base of a delta.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    /// The object.
    pub id: ObjectId,
    /// Its location.
    pub location: Location,
    /// The stored deltas between it and the object, if both have an entry in common.
    pub kinship: Option<Kinship>,
}

/// The stored deltas between two entries of a pack. All numbers are offsets in the pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kinship {
    /// The pack.
    pub pack: PackId,
    /// The entry at the bottom of both chains; it may be one of the two.
    pub ancestor: u64,
    /// The deltas from the object down to the ancestor; empty if the object is the ancestor.
    pub object: Vec<u64>,
    /// The deltas from the version down to the ancestor.
    pub version: Vec<u64>,
}

/// What has been made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// [`Maker::bytes`] is a delta on the n-th base.
    Delta(usize),
    /// [`Maker::bytes`] is the whole object.
    Whole(Kind),
    /// No delta is worth it, and the object may not be written whole.
    Nothing,
}

impl Outcome {
    /// The level at which [`Maker::bytes`], which has `size` bytes, is deflated.
    pub(super) fn level(self, levels: Levels, size: usize) -> u32 {
        match self {
            Outcome::Delta(_) => levels.of_delta(size),
            Outcome::Whole(kind) => levels.of_object(kind, size),
            Outcome::Nothing => levels.usual,
        }
    }
}

/// Makes one entry after the other; allocations are reused.
pub(super) struct Maker {
    encoder: Encoder,
    inflater: Inflater,
    content: Rc<Vec<u8>>,
    base: Vec<u8>,
    delta: Vec<u8>,
    /// Which of these buffers holds the result.
    made: Source,
    /// The size of the largest object for which a delta is made (`PackOptions::related_max`).
    related_max: usize,
    /// Whether another maker takes over what exceeds this database's size limit; if not, such a base is skipped.
    has_successor: bool,
}

#[derive(Clone, Copy)]
enum Source {
    Content,
    Encoder,
    Delta,
}

impl Maker {
    /// A maker that makes deltas between objects of at most `related_max` bytes.
    pub(super) fn new(related_max: u64) -> Self {
        Maker {
            encoder: Encoder::default(),
            inflater: Inflater::new(),
            content: Rc::default(),
            base: Vec::new(),
            delta: Vec::new(),
            made: Source::Content,
            related_max: usize::try_from(related_max).unwrap_or(usize::MAX),
            has_successor: false,
        }
    }

    /// A maker that leaves objects beyond its database's size limit to another one.
    pub(super) fn with_successor(related_max: u64) -> Self {
        Maker { has_successor: true, ..Maker::new(related_max) }
    }

    /// Makes one entry.
    ///
    /// # Errors
    /// When the object is missing or corrupt, or another maker has to make it.
    pub(super) fn make(&mut self, objects: &Objects, recipe: &Recipe) -> Result<Outcome> {
        // Composing stored deltas costs the least: neither content has to be read.
        for (n, base) in recipe.bases.iter().enumerate() {
            // If an entry in a chain is damaged, other copies of the contents may be intact.
            let Some(kinship) = &base.kinship else { continue };
            let derived = self.derive(objects, recipe, kinship, base);
            if self.or_without(derived)? {
                self.made = Source::Delta;
                return Ok(Outcome::Delta(n));
            }
        }
        if !recipe.or_whole && objects.size_at(recipe.location, &recipe.id)? > self.related_max as u64 {
            // No delta can be made, and the whole content is not wanted.
            return Ok(Outcome::Nothing);
        }
        // Shared with the cache, because the next version may have this one as its base.
        let (kind, content) = objects.share_at(recipe.location, &recipe.id)?;
        self.content = content;
        for (n, base) in recipe.bases.iter().enumerate() {
            let related = self.relate(objects, kind, base);
            if self.or_without(related)? {
                self.made = Source::Encoder;
                return Ok(Outcome::Delta(n));
            }
        }
        self.made = Source::Content;
        Ok(if recipe.or_whole { Outcome::Whole(kind) } else { Outcome::Nothing })
    }

    /// The bytes to deflate after [`Maker::make`].
    pub(super) fn bytes(&self) -> &[u8] {
        match self.made {
            Source::Content => &self.content,
            Source::Encoder => self.encoder.delta(),
            Source::Delta => &self.delta,
        }
    }

    /// Lets the caller set the content, read in some other way.
    pub(super) fn content(&mut self) -> &mut Vec<u8> {
        self.made = Source::Content;
        self.content = Rc::default();
        Rc::make_mut(&mut self.content)
    }

    /// Whether a delta was made; a base that cannot be read is skipped.
    fn or_without(&self, made: Result<bool>) -> Result<bool> {
        match made {
            Err(error) if self.has_successor && error.is::<TooLarge>() => Err(error),
            made => Ok(made.unwrap_or(false)),
        }
    }

    /// Composes a delta of the stored ones between two versions, under the conditions of [`Maker::relate`]. Long ones
    /// are left to a comparison of contents: the composed delta would repeat everything that both versions have in
    /// common but their common ancestor lacks.
    fn derive(&mut self, objects: &Objects, recipe: &Recipe, kinship: &Kinship, base: &Version) -> Result<bool> {
        let pack = objects.pack(kinship.pack);
        let stored = stored_bytes(&pack, kinship.object.iter().chain(&kinship.version))?;
        if stored >= LONG_BYTES_MIN && stored >= objects.size_at(recipe.location, &recipe.id)? / LONG_PART {
            return Ok(false);
        }
        let object = self.script(&pack, &kinship.object)?;
        let script = match (object, self.script(&pack, &kinship.version)?) {
            (None, None) => return Ok(false),
            (Some(object), None) => object,
            (object, Some(version)) => {
                let position = pack.position_at_offset(kinship.ancestor).context("no entry at this offset")?;
                let location = Location::Packed { pack: kinship.pack, position };
                objects.find_at(location, pack.id_at(position), &mut self.base)?;
                let ancestor = version.reversed(&self.base)?;
                object.map_or(Ok(ancestor.clone()), |object| object.over(&ancestor))?
            }
        };
        let size = script.size();
        Ok((RELATED_BYTES_MIN..=self.related_max).contains(&size)
            && script.encode(delta_bytes_max(size, &base.id), &mut self.delta))
    }

    /// Composes the stored deltas at these offsets, ordered from the top of the chain.
    fn script(&mut self, pack: &Pack, offsets: &[u64]) -> Result<Option<Script>> {
        let mut whole: Option<Script> = None;
        for &offset in offsets {
            let head = pack.head_at(offset)?;
            ensure!(head.size <= self.related_max as u64, "a delta is very large");
            pack.inflate(&head, &mut self.inflater, &mut self.delta)?;
            let below = Script::parse(&self.delta)?;
            ensure!(below.size().max(below.base_size()) <= self.related_max, "a version is very large");
            whole = Some(match whole {
                Some(above) => above.over(&below)?,
                None => below,
            });
        }
        Ok(whole)
    }

    /// Makes a delta by comparing contents, if it has at most half the size, including the name of its base. Errors of
    /// a base are ignored: if the base is sent too, they are reported at its own turn.
    fn relate(&mut self, objects: &Objects, kind: Kind, base: &Version) -> Result<bool> {
        let size = self.content.len();
        if !(RELATED_BYTES_MIN..=self.related_max).contains(&size)
            || objects.size_at(base.location, &base.id)? > self.related_max as u64
        {
            return Ok(false);
        }
        let (found, content) = objects.share_at(base.location, &base.id)?;
        let most = delta_bytes_max(size, &base.id);
        Ok(found == kind && self.encoder.encode(&content, &self.content, most).is_some())
    }
}

/// The total size of the stored deltas at these offsets, before deflation.
fn stored_bytes<'a>(pack: &Pack, mut offsets: impl Iterator<Item = &'a u64>) -> Result<u64> {
    offsets.try_fold(0, |sum: u64, offset| Ok(sum.saturating_add(pack.head_at(*offset)?.size)))
}

/// The largest delta that is worth it: half the object's size, less the name of the base.
fn delta_bytes_max(size: usize, base: &ObjectId) -> usize {
    size / 2 - base.as_bytes().len()
}

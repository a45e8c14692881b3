//! Entries that cannot be copied: an object's content as a delta on another version of it, or as it is.
//!
//! In: names. Out: what is to be deflated. Which versions come into question others know; whether one is worth it is seen here. A delta is
//! put together from stored ones where there are such between the two, else looked for.

use super::deflate::Levels;
use super::encode::Encoder;
use super::script::Script;
use crate::odb::inflate::Inflater;
use crate::odb::{Location, Objects, Pack, PackId, TooLarge};
use anyhow::{Context, Result, ensure};
use gix_hash::ObjectId;
use gix_object::Kind;
use std::rc::Rc;

/// Smaller objects are not worth a delta, larger ones not the memory.
const RELATED_BYTES_MIN: usize = 80;
const RELATED_BYTES_MAX: usize = 8 << 20;
/// Stored deltas between two versions are long where they have so many bytes, and this part of the object's.
const LONG_BYTES_MIN: u64 = 512;
const LONG_PART: u64 = 32;

/// What is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recipe {
    /// The object.
    pub id: ObjectId,
    /// Where it lies.
    pub location: Location,
    /// Versions of it, the best first.
    pub bases: Vec<Version>,
    /// Whether it may also be written as it is.
    pub or_whole: bool,
}

/// What a delta may rest on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    /// The object.
    pub id: ObjectId,
    /// Where it lies.
    pub location: Location,
    /// How the two have come from the same entry, if they have.
    pub kinship: Option<Kinship>,
}

/// Stored deltas between two entries of a pack. All are offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kinship {
    /// The pack.
    pub pack: PackId,
    /// What both rest on; it may be one of them.
    pub ancestor: u64,
    /// The deltas from the object to the ancestor, none where it is the object.
    pub object: Vec<u64>,
    /// The same of the version.
    pub version: Vec<u64>,
}

/// What has come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// [`Maker::bytes`] is a delta on the n-th of the bases.
    Delta(usize),
    /// [`Maker::bytes`] is the object.
    Whole(Kind),
    /// No delta is worth it.
    Nothing,
}

impl Outcome {
    /// At which level [`Maker::bytes`], which are so many, are deflated.
    pub(super) fn level(self, levels: Levels, size: usize) -> u32 {
        match self {
            Outcome::Delta(_) => levels.of_delta(size),
            Outcome::Whole(kind) => levels.of_object(kind, size),
            Outcome::Nothing => levels.usual,
        }
    }
}

/// Makes one after the other; what it allocates it uses again.
pub(super) struct Maker {
    encoder: Encoder,
    inflater: Inflater,
    content: Rc<Vec<u8>>,
    base: Vec<u8>,
    delta: Vec<u8>,
    /// Which of these is to be deflated.
    made: Source,
    /// Whether somebody else makes what is too large for this database's limit. Else it is done without.
    has_successor: bool,
}

#[derive(Clone, Copy)]
enum Source {
    Content,
    Encoder,
    Delta,
}

impl Default for Maker {
    fn default() -> Self {
        Maker {
            encoder: Encoder::default(),
            inflater: Inflater::new(),
            content: Rc::default(),
            base: Vec::new(),
            delta: Vec::new(),
            made: Source::Content,
            has_successor: false,
        }
    }
}

impl Maker {
    /// One that leaves what is too large for its database's limit to somebody else.
    pub(super) fn with_successor() -> Self {
        Maker { has_successor: true, ..Maker::default() }
    }

    /// Makes one.
    ///
    /// # Errors
    /// When the object is missing or corrupt, or somebody else is to make it.
    pub(super) fn make(&mut self, objects: &Objects, recipe: &Recipe) -> Result<Outcome> {
        // What is stored of their history costs the least: neither content needs be there.
        for (n, base) in recipe.bases.iter().enumerate() {
            // Where an entry on the way is damaged, other copies of the contents may be good.
            let Some(kinship) = &base.kinship else { continue };
            let derived = self.derive(objects, recipe, kinship, base);
            if self.or_without(derived)? {
                self.made = Source::Delta;
                return Ok(Outcome::Delta(n));
            }
        }
        if !recipe.or_whole && objects.size_at(recipe.location, &recipe.id)? > RELATED_BYTES_MAX as u64 {
            // No delta comes of it, and nobody needs its content.
            return Ok(Outcome::Nothing);
        }
        // The next version may rest on this one.
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

    /// What is to be deflated after [`Maker::make`].
    pub(super) fn bytes(&self) -> &[u8] {
        match self.made {
            Source::Content => &self.content,
            Source::Encoder => self.encoder.delta(),
            Source::Delta => &self.delta,
        }
    }

    /// Takes a content that was found otherwise.
    pub(super) fn content(&mut self) -> &mut Vec<u8> {
        self.made = Source::Content;
        self.content = Rc::default();
        Rc::make_mut(&mut self.content)
    }

    /// Whether a delta was made. What could not be read is no base.
    fn or_without(&self, made: Result<bool>) -> Result<bool> {
        match made {
            Err(error) if self.has_successor && error.is::<TooLarge>() => Err(error),
            made => Ok(made.unwrap_or(false)),
        }
    }

    /// Makes a delta of the stored ones between the two, under the conditions of [`Maker::relate`]. Where these are long, contents are left to
    /// be compared: what both have in common and the entry that they came of has not would be in it once more.
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
        Ok((RELATED_BYTES_MIN..=RELATED_BYTES_MAX).contains(&size)
            && script.encode(delta_bytes_max(size, &base.id), &mut self.delta))
    }

    /// The stored deltas at these offsets as one, the uppermost first.
    fn script(&mut self, pack: &Pack, offsets: &[u64]) -> Result<Option<Script>> {
        let mut whole: Option<Script> = None;
        for &offset in offsets {
            let head = pack.head_at(offset)?;
            ensure!(head.size <= RELATED_BYTES_MAX as u64, "a delta is very large");
            pack.inflate(&head, &mut self.inflater, &mut self.delta)?;
            let below = Script::parse(&self.delta)?;
            ensure!(below.size().max(below.base_size()) <= RELATED_BYTES_MAX, "a version is very large");
            whole = Some(match whole {
                Some(above) => above.over(&below)?,
                None => below,
            });
        }
        Ok(whole)
    }

    /// Makes a delta, if it has at most half the size with the name of its base. Where the base is sent itself its own turn tells what is
    /// wrong with it.
    fn relate(&mut self, objects: &Objects, kind: Kind, base: &Version) -> Result<bool> {
        let size = self.content.len();
        if !(RELATED_BYTES_MIN..=RELATED_BYTES_MAX).contains(&size)
            || objects.size_at(base.location, &base.id)? > RELATED_BYTES_MAX as u64
        {
            return Ok(false);
        }
        let (found, content) = objects.share_at(base.location, &base.id)?;
        let most = delta_bytes_max(size, &base.id);
        Ok(found == kind && self.encoder.encode(&content, &self.content, most).is_some())
    }
}

/// How many bytes the stored deltas at these offsets have, before they were deflated.
fn stored_bytes<'a>(pack: &Pack, mut offsets: impl Iterator<Item = &'a u64>) -> Result<u64> {
    offsets.try_fold(0, |sum: u64, offset| Ok(sum.saturating_add(pack.head_at(*offset)?.size)))
}

/// A delta that has more bytes is not worth it: half the size, with the name of its base.
fn delta_bytes_max(size: usize, base: &ObjectId) -> usize {
    size / 2 - base.as_bytes().len()
}

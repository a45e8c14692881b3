//! Entries that cannot be copied: an object's content as a delta on another version of it, or as it is.
//!
//! In: names. Out: what is to be deflated. Which versions come into question others know; whether one is worth it is seen here.

use super::encode::Encoder;
use crate::odb::{Location, Objects};
use anyhow::Result;
use gix_hash::ObjectId;
use gix_object::Kind;

/// Smaller objects are not worth a delta, larger ones not the memory.
const RELATED_BYTES_MIN: usize = 80;
const RELATED_BYTES_MAX: usize = 8 << 20;

/// What is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recipe {
    /// The object.
    pub id: ObjectId,
    /// Where it lies.
    pub location: Location,
    /// Versions of it, the best first.
    pub bases: Vec<ObjectId>,
    /// Whether it may also be written as it is.
    pub or_whole: bool,
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

/// Makes one after the other; what it allocates it uses again.
#[derive(Default)]
pub(super) struct Maker {
    encoder: Encoder,
    content: Vec<u8>,
    base: Vec<u8>,
    is_delta: bool,
}

impl Maker {
    /// Makes one.
    ///
    /// # Errors
    /// When the object or a base is missing or corrupt.
    pub(super) fn make(&mut self, objects: &Objects, recipe: &Recipe) -> Result<Outcome> {
        let kind = objects.find_at(recipe.location, &recipe.id, &mut self.content)?;
        for (n, base) in recipe.bases.iter().enumerate() {
            if self.relate(objects, kind, base)? {
                self.is_delta = true;
                return Ok(Outcome::Delta(n));
            }
        }
        self.is_delta = false;
        Ok(if recipe.or_whole { Outcome::Whole(kind) } else { Outcome::Nothing })
    }

    /// What is to be deflated after [`Maker::make`].
    pub(super) fn bytes(&self) -> &[u8] {
        if self.is_delta { self.encoder.delta() } else { &self.content }
    }

    /// Takes a content that was found otherwise.
    pub(super) fn content(&mut self) -> &mut Vec<u8> {
        self.is_delta = false;
        &mut self.content
    }

    /// Makes a delta, if it has at most half the size with the name of its base.
    fn relate(&mut self, objects: &Objects, kind: Kind, base: &ObjectId) -> Result<bool> {
        let size = self.content.len();
        if !(RELATED_BYTES_MIN..=RELATED_BYTES_MAX).contains(&size) {
            return Ok(false);
        }
        let header = objects.header(base)?;
        if !header.is_some_and(|header| header.kind == kind && header.size <= RELATED_BYTES_MAX as u64) {
            return Ok(false);
        }
        if objects.find(base, &mut self.base)? != Some(kind) {
            return Ok(false);
        }
        Ok(self.encoder.encode(&self.base, &self.content, size / 2 - base.as_bytes().len()).is_some())
    }
}

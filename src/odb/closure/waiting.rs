//! Tags that need not be read.
//!
//! In: wanted tags, and everything that was found without them. Out: those that may lead to something else. A pack with bitmaps holds all
//! that its objects lead to (bitmap-format, «full closure»): when all of it was found, its tags lead to nothing new. What refs say of tags
//! decides which are read first; nothing is left out because of it.

use super::{Filter, Marks, Numbers};
use crate::odb::Stored;
use crate::odb::bitmap::Order;
use crate::odb::ids::IdSet;
use gix_hash::{ObjectId, oid};

/// Fewer tags are read sooner.
const TAGS_MIN: usize = 64;
/// What is left is named if there are so many of it at most for each tag.
const LEFT_EACH: usize = 16;

/// Wanted tags that lie in the pack that has bitmaps.
pub(super) struct Waiting {
    /// Not yet taken.
    pub(super) tags: Vec<ObjectId>,
    marks: Marks,
    /// How many objects the pack has.
    objects: u32,
    /// Whether some were taken.
    begun: bool,
}

impl Waiting {
    /// None yet; `None` where it could not be told that all was found: where something is filtered out, or there may be several packs.
    pub(super) fn of(stored: &Stored, filter: &Filter) -> Option<Self> {
        let Order::Pack(pack) = &stored.order else { return None };
        filter.is_all().then(|| Waiting {
            tags: Vec::new(),
            marks: Marks::default(),
            objects: pack.len(),
            begun: false,
        })
    }

    /// Takes in a tag, if it lies in the pack.
    pub(super) fn add(&mut self, id: &oid, number: u32) -> bool {
        let is_inside = number < self.objects;
        if is_inside && self.marks.insert(number) {
            self.tags.push(id.to_owned());
        }
        is_inside
    }

    pub(super) fn are_few(&self) -> bool {
        self.tags.len() < TAGS_MIN
    }

    /// The tags to be read next; `None`: all was found, or all were read. `peeled`: what tags are said to peel to.
    pub(super) fn next(
        &mut self,
        numbers: &Numbers<'_>,
        found: &Marks,
        peeled: &[(ObjectId, ObjectId)],
    ) -> Option<Vec<ObjectId>> {
        if self.tags.is_empty() {
            return None;
        }
        let mut all = self.marks.clone();
        all.extend(found);
        let most = self.tags.len() * LEFT_EACH;
        let left: IdSet = all.others(self.objects).take(most).map(|number| numbers.id(number).to_owned()).collect();
        if left.is_empty() {
            return None;
        }
        let (first, later) = if std::mem::replace(&mut self.begun, true) {
            (Vec::new(), std::mem::take(&mut self.tags))
        } else {
            let leading = peeled.iter().filter(|(_, peeled)| left.contains(peeled)).map(|(tag, _)| *tag);
            let leading: IdSet = leading.collect();
            std::mem::take(&mut self.tags).into_iter().partition(|tag| leading.contains(tag))
        };
        if first.is_empty() {
            return Some(later);
        }
        self.tags = later;
        Some(first)
    }
}

//! Tags that need not be read.
//!
//! In: wanted tags, and everything found without them. Out: the tags that may lead to something else. A pack with
//! bitmaps contains everything its objects lead to (bitmap-format, "full closure"), so once all of it is found, its
//! tags lead to nothing new. Peeled values from refs decide which tags are read first. With a filter, they are also
//! trusted to show that a tag does not lead to a filtered object.

use super::{Filter, Marks, Numbers};
use crate::odb::StoredBitmaps;
use crate::odb::bitmap::Order;
use crate::odb::ids::IdSet;
use anyhow::Result;
use gix_hash::{ObjectId, oid};

/// With fewer tags, reading them all is cheaper.
const TAGS_MIN: usize = 64;
/// At most this many of the objects not yet found are listed by ID for each tag.
const LEFT_EACH: usize = 16;

/// Wanted tags in the pack that has bitmaps.
pub(super) struct DeferredTags {
    /// Those not yet returned by [`DeferredTags::next`].
    pub(super) tags: Vec<ObjectId>,
    marks: Marks,
    /// The number of objects in the pack.
    objects: u32,
    /// Whether [`DeferredTags::next`] has returned tags.
    begun: bool,
}

impl DeferredTags {
    /// An empty set; `None` if it cannot be known that everything was found: with a size limit, or a multi-pack-index.
    pub(super) fn of(stored: &StoredBitmaps, filter: &Filter) -> Option<Self> {
        let Order::Pack(pack) = &stored.order else { return None };
        let deferred = DeferredTags { tags: Vec::new(), marks: Marks::default(), objects: pack.len(), begun: false };
        (filter.is_by_kind() && filter.size().is_none()).then_some(deferred)
    }

    /// Adds a tag if it is in the pack. Returns whether it is.
    pub(super) fn add(&mut self, id: &oid, number: u32) -> bool {
        let is_inside = number < self.objects;
        if is_inside && self.marks.insert(number) {
            self.tags.push(id.to_owned());
        }
        is_inside
    }

    /// All tags, whether returned yet or not.
    pub(super) fn marks(&self) -> &Marks {
        &self.marks
    }

    pub(super) fn are_few(&self) -> bool {
        self.tags.len() < TAGS_MIN
    }

    /// The tags to read next; `None` if everything was found or all tags were read. `left_out` are all objects of kinds
    /// that do not pass the filter unless a tag leads to them; `peeled` says what tags peel to.
    ///
    /// # Errors
    /// When an index cannot be read.
    pub(super) fn next(
        &mut self,
        numbers: &mut Numbers<'_>,
        found: &Marks,
        left_out: &Marks,
        peeled: &[(ObjectId, ObjectId)],
    ) -> Result<Option<Vec<ObjectId>>> {
        if self.tags.is_empty() {
            return Ok(None);
        }
        let mut all = self.marks.clone();
        all.extend(found);
        all.extend(left_out);
        let most = self.tags.len() * LEFT_EACH;
        let left: IdSet = all.others(self.objects).take(most).map(|number| numbers.read_id(number)).collect();
        if left.is_empty() && left_out.is_empty() {
            return Ok(None);
        }
        if !std::mem::replace(&mut self.begun, true) {
            let mut leading = IdSet::default();
            if left_out.is_empty() {
                leading.extend(peeled.iter().filter(|(_, of)| left.contains(of)).map(|(tag, _)| *tag));
            } else {
                // A tag without a known target may lead to an object that is otherwise left out.
                leading.extend(&self.tags);
                for (tag, of) in peeled {
                    if numbers.of(of)?.is_some_and(|number| found.contains(number)) {
                        leading.remove(tag);
                    }
                }
            }
            let (first, later): (Vec<_>, _) = self.tags.drain(..).partition(|tag| leading.contains(tag));
            self.tags = later;
            if !first.is_empty() {
                return Ok(Some(first));
            }
        }
        Ok((!left.is_empty()).then(|| std::mem::take(&mut self.tags)))
    }
}

//! Tags that need not be read.
//!
//! In: wanted tags, and everything that was found without them. Out: those that may lead to something else. A pack with bitmaps holds all
//! that its objects lead to (bitmap-format, «full closure»): when all of it was found, its tags lead to nothing new. What refs say of tags
//! decides which are read first; where a filter leaves something out, it is also believed that a tag does not lead to that.

use super::{Filter, Marks, Numbers};
use crate::odb::Stored;
use crate::odb::bitmap::Order;
use crate::odb::ids::IdSet;
use anyhow::Result;
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
    /// None yet; `None` where it could not be told that all was found: where sizes count, or there may be several packs.
    pub(super) fn of(stored: &Stored, filter: &Filter) -> Option<Self> {
        let Order::Pack(pack) = &stored.order else { return None };
        let waiting = Waiting { tags: Vec::new(), marks: Marks::default(), objects: pack.len(), begun: false };
        (filter.is_by_kind() && filter.size().is_none()).then_some(waiting)
    }

    /// Takes in a tag, if it lies in the pack.
    pub(super) fn add(&mut self, id: &oid, number: u32) -> bool {
        let is_inside = number < self.objects;
        if is_inside && self.marks.insert(number) {
            self.tags.push(id.to_owned());
        }
        is_inside
    }

    /// All of them, taken or not.
    pub(super) fn marks(&self) -> &Marks {
        &self.marks
    }

    pub(super) fn are_few(&self) -> bool {
        self.tags.len() < TAGS_MIN
    }

    /// The tags to be read next; `None`: all was found, or all were read. `left_out` are those of kinds that do not pass, unless a tag
    /// leads to them; `peeled` is what tags are said to peel to.
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
                // What nobody says anything about may lead to what does not pass otherwise.
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

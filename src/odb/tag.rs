//! Tags: what they point to.
//!
//! In: a tag's content. Out: the object it names, and as what. Whether that is there is not asked here.

use bstr::ByteSlice;
use gix_hash::ObjectId;
use gix_object::Kind;

/// What a tag points to, and as what; `None`: git sees no tag in this (tag.c, `parse_tag_buffer`). The beginning of one is enough, as
/// long as its first three lines are there.
///
/// Its name counts although nobody here asks for it: clients do not read a tag without one, nor anything that came with it.
pub(super) fn target(content: &[u8], hash: gix_hash::Kind) -> Option<(ObjectId, Kind)> {
    if content.len() < hash.len_in_hex() + 24 {
        return None;
    }
    let (object, rest) = content.split_once_str("\n")?;
    let (kind, rest) = rest.split_once_str("\n")?;
    let (name, _) = rest.split_once_str("\n")?;
    let id = ObjectId::from_hex(object.strip_prefix(b"object ")?).ok().filter(|id| id.kind() == hash)?;
    let kind = Kind::from_bytes(kind.strip_prefix(b"type ")?).ok()?;
    name.starts_with(b"tag ").then_some((id, kind))
}

//! What tags point to.
//!
//! In: a tag's content. Out: the object it names, and the kind it says that object has. Whether the object exists is
//! not checked here.

use bstr::ByteSlice;
use gix_hash::ObjectId;
use gix_object::Kind;

/// The object that a tag names, and its kind; `None` if git would not accept the tag (tag.c, `parse_tag_buffer`). The
/// beginning of a tag is enough, as long as it has the first three lines.
///
/// The tag's name must be there although it is not used: clients do not read a tag without one, nor anything fetched
/// with it.
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

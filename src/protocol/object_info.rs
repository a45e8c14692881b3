//! The arguments of object-info (gitprotocol-v2, object-info).
//!
//! In: packets after the envelope. Out: an [`ObjectInfoRequest`]. No object is looked up here.

use super::command::{ArgumentLines, Ended};
use super::{Limits, ProtocolError, shown};
use crate::hex;
use crate::pktline::PacketReader;
use gix_hash::ObjectId;

/// Which properties of which objects the client asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectInfoRequest {
    /// Whether it asks for sizes.
    pub size: bool,
    /// The objects in the order of the request, duplicates included.
    pub objects: Vec<ObjectId>,
}

impl ObjectInfoRequest {
    /// Reads the arguments up to the flush.
    ///
    /// # Errors
    /// Other arguments, invalid object names, a missing flush, too many lines or objects, bad framing. Any of these
    /// ends the request; git too sends an ERR packet, after which no client reads on (V2-21).
    pub fn parse(reader: &mut PacketReader<'_>, hash: gix_hash::Kind, limits: &Limits) -> Result<Self, ProtocolError> {
        let said = ProtocolError::Said;
        let mut request = ObjectInfoRequest::default();
        let ended = ArgumentLines::new(limits).read(reader, &mut |line| {
            if line == b"size" {
                request.size = true;
                return Ok(());
            }
            let Some(hex) = line.strip_prefix(b"oid ") else {
                return Err(said(format!("object-info: unexpected line: '{}'", shown(line))));
            };
            let id = hex::parse(hex).filter(|id| id.kind() == hash);
            let Some(id) = id else {
                let hex = shown(hex);
                return Err(said(format!("object-info: protocol error, expected to get oid, not '{hex}'")));
            };
            if request.objects.len() as u64 >= limits.wants {
                return Err(ProtocolError::Limit { what: "wants", most: limits.wants });
            }
            request.objects.push(id);
            Ok(())
        })?;
        if ended != Ended::Flush {
            return Err(said("object-info: expected flush after arguments".to_owned()));
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pktline;

    fn check(lines: &[&str], end: &[u8], expected: &str) {
        let mut input = Vec::new();
        for line in lines {
            pktline::line(&mut input, line.as_bytes()).expect("memory can be written");
        }
        input.extend_from_slice(end);
        let (mut input, limits) = (&input[..], Limits { wants: 2, ..Limits::default() });
        let parsed = ObjectInfoRequest::parse(&mut PacketReader::new(&mut input), gix_hash::Kind::Sha1, &limits);
        let told = match parsed {
            Err(error) => error.to_string(),
            Ok(ObjectInfoRequest { size, objects }) => {
                let names = objects.iter().map(|id| id.to_hex_with_len(2).to_string()).collect::<Vec<_>>();
                format!("{} {}", if size { "size" } else { "nothing" }, names.join(","))
            }
        };
        assert_eq!(told.trim_end(), expected);
    }

    #[test]
    fn sizes_of_objects_may_be_asked() {
        let (one, two) = (format!("oid {}", "1".repeat(40)), format!("oid {}\n", "2".repeat(40)));
        check(&[], b"0000", "nothing");
        check(&[&one, "size\n", &two], b"0000", "size 11,22");
        check(&[&one, &one], b"0000", "nothing 11,11");
        check(&[&one, &one, &two], b"0000", "the request is over the limit: wants is 2");
    }

    #[test]
    fn what_is_wrong_is_told_in_gits_words() {
        check(&["type"], b"0000", "object-info: unexpected line: 'type'");
        check(&["oid x"], b"0000", "object-info: protocol error, expected to get oid, not 'x'");
        let long = format!("oid {}1", "1".repeat(40));
        check(&[&long], b"0000", &format!("object-info: protocol error, expected to get oid, not '{}'", &long[4..]));
        check(&["size"], b"0001", "object-info: expected flush after arguments");
    }
}

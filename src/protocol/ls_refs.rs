//! The arguments of ls-refs (gitprotocol-v2, ls-refs).
//!
//! In: packets after the envelope. Out: an [`LsRefsRequest`]. No ref is read here.

use super::command::{ArgumentLines, Ended};
use super::{Limits, ProtocolError, shown};
use crate::pktline::PacketReader;
use bstr::BString;

/// Which refs to list, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LsRefsRequest {
    /// List tags with the objects they peel to.
    pub peel: bool,
    /// List symrefs with their targets.
    pub symrefs: bool,
    /// List HEAD even if its branch is unborn; set only where that is offered.
    pub unborn: bool,
    /// List only names that begin with one of these; empty for all names.
    pub prefixes: Vec<BString>,
}

impl LsRefsRequest {
    /// Reads the arguments up to the flush. `unborn` says whether that argument counts (LS-10).
    ///
    /// Once the number of prefixes reaches the limit, all of them are ignored (LS-06): listing too many refs is
    /// harmless, leaving some out would be wrong.
    ///
    /// # Errors
    /// Other arguments, a missing flush, too many lines, bad framing.
    pub fn parse(reader: &mut PacketReader<'_>, unborn: bool, limits: &Limits) -> Result<Self, ProtocolError> {
        let mut request = LsRefsRequest::default();
        let mut many = false;
        let mut lines = ArgumentLines::new(limits);
        let ended = lines.read(reader, &mut |line| {
            match line {
                b"peel" => request.peel = true,
                b"symrefs" => request.symrefs = true,
                b"unborn" => request.unborn = unborn,
                _ => {
                    let Some(prefix) = line.strip_prefix(b"ref-prefix ") else {
                        return Err(ProtocolError::Said(format!("unexpected line: '{}'", shown(line))));
                    };
                    if !many {
                        request.prefixes.push(prefix.into());
                        many = request.prefixes.len() as u64 >= limits.prefixes;
                    }
                }
            }
            Ok(())
        })?;
        if ended != Ended::Flush {
            return Err(ProtocolError::Said("expected flush after ls-refs arguments".to_owned()));
        }
        if many {
            request.prefixes = Vec::new();
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pktline;

    fn parsed(lines: &[&str], end: &[u8], limits: &Limits) -> Result<LsRefsRequest, String> {
        let mut input = Vec::new();
        for line in lines {
            pktline::line(&mut input, line.as_bytes()).expect("memory can be written");
        }
        input.extend_from_slice(end);
        let mut input = &input[..];
        LsRefsRequest::parse(&mut PacketReader::new(&mut input), true, limits).map_err(|error| error.to_string())
    }

    fn check(lines: &str, end: &[u8], expected: &str) {
        let lines: Vec<_> = lines.split('|').filter(|line| !line.is_empty()).collect();
        let told = match parsed(&lines, end, &Limits::default()) {
            Err(error) => error,
            Ok(LsRefsRequest { peel, symrefs, unborn, prefixes }) => format!(
                "{}{}{}{}",
                if peel { "peel " } else { "" },
                if symrefs { "symrefs " } else { "" },
                if unborn { "unborn " } else { "" },
                prefixes.iter().map(|prefix| format!("<{prefix}>")).collect::<String>()
            ),
        };
        assert_eq!(told.trim_end(), expected);
    }

    #[test]
    fn each_argument_is_understood_with_and_without_a_newline() {
        check("", b"0000", "");
        check("peel\n|symrefs|unborn\n", b"0000", "peel symrefs unborn");
        check("ref-prefix refs/heads/\n|ref-prefix HEAD|ref-prefix ", b"0000", "<refs/heads/><HEAD><>");
    }

    #[test]
    fn other_arguments_and_endings_are_refused() {
        check("no-such-arg\n", b"0000", "unexpected line: 'no-such-arg'");
        check("peel\x1b[2J", b"0000", "unexpected line: 'peel?[2J'");
        check("ref-prefix", b"0000", "unexpected line: 'ref-prefix'");
        check("peel", b"0001", "expected flush after ls-refs arguments");
        check("peel", b"", "the remote end hung up unexpectedly");
    }

    #[test]
    fn too_many_prefixes_list_everything() {
        let limits = Limits { prefixes: 3, ..Limits::default() };
        let prefixes = |lines: &[&str]| parsed(lines, b"0000", &limits).map(|request| request.prefixes.len());
        assert_eq!(prefixes(&["ref-prefix a", "ref-prefix b"]), Ok(2));
        assert_eq!(prefixes(&["ref-prefix a", "ref-prefix b", "ref-prefix c"]), Ok(0));
        assert_eq!(prefixes(&["ref-prefix a"; 9]), Ok(0));
    }

    #[test]
    fn the_number_of_lines_is_limited() {
        let limits = Limits { lines: 3, ..Limits::default() };
        assert!(parsed(&["peel"; 3], b"0000", &limits).is_ok());
        assert_eq!(parsed(&["peel"; 4], b"0000", &limits), Err("the request is over the limit: lines is 3".to_owned()));
    }
}

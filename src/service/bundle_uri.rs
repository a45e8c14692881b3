//! bundle-uri (gitprotocol-v2, bundle-uri): where a client finds bundles to start a clone from.
//!
//! In: the command, which has no arguments. Out: every `bundle.*` entry of the configuration, in its order. The
//! addresses themselves are never checked.

use super::command::Arguments;
use super::list::List;
use super::{Out, ServeError};
use crate::protocol::command::{ArgumentLines, Ended};
use crate::protocol::{ProtocolError, shown};
use crate::repo::Repository;

/// Lists the `bundle.*` configuration (V2-23). Entries without a value are left out, as in git.
///
/// # Errors
/// When there are arguments (V2-24), or when the client has gone.
pub fn serve(repository: &Repository, arguments: Arguments<'_>, out: &mut Out<'_>) -> Result<(), ServeError> {
    out.summary.operation = Some("bundle-uri");
    let limits = &repository.context.limits;
    arguments.parse(|reader| {
        let ended = ArgumentLines::new(limits).read(reader, &mut |line| {
            Err(ProtocolError::Said(format!("bundle-uri: unexpected argument: '{}'", shown(line))))
        })?;
        match ended {
            Ended::Flush => Ok(()),
            Ended::Other => Err(ProtocolError::Said("bundle-uri: expected flush after arguments".to_owned())),
        }
    })?;
    let mut list = List::new(out);
    for entry in repository.entries.iter().filter(|entry| entry.key.starts_with(b"bundle.")) {
        let Some(value) = entry.value.as_ref().filter(|value| !value.is_empty()) else { continue };
        list.add(|line| {
            line.extend_from_slice(&entry.key);
            line.push(b'=');
            line.extend_from_slice(value);
        })?;
    }
    Ok(list.end(repository)?)
}

//! ls-refs (gitprotocol-v2, ls-refs).
//!
//! In: its arguments. Out: HEAD and refs in byte order. Shallow lines are never part of it (LS-13).

use super::advertise::peeled;
use super::command::Arguments;
use super::list::List;
use super::{Out, ServeError};
use crate::hex;
use crate::protocol::ls_refs::LsRefsRequest;
use crate::refs::StoredId;
use crate::repo::Repository;
use crate::repo::settings::Unborn;
use crate::repo::visible::{self, For};
use bstr::{BStr, ByteSlice};

/// Lists refs.
///
/// # Errors
/// Arguments that cannot be served; when refs cannot be read or the client has gone.
pub fn serve(repository: &Repository, arguments: Arguments<'_>, out: &mut Out<'_>) -> Result<(), ServeError> {
    out.summary.operation = Some("ls-refs");
    let unborn = repository.settings.unborn != Unborn::Ignore;
    let request = arguments.parse(|reader| LsRefsRequest::parse(reader, unborn, &repository.context.limits))?;
    let mut lines = Lines { request: &request, list: List::new(out) };
    if request.prefixes.is_empty() || request.prefixes.iter().any(|prefix| b"HEAD".starts_with(prefix)) {
        head(repository, &mut lines)?;
    }
    visible::list(repository, For::Upload, &request.prefixes, request.peel, &mut |tip| {
        lines.add(|line| tip.push(line), tip.symref_target, tip.peeled.target())
    })?;
    Ok(lines.list.end(repository)?)
}

/// Lists HEAD if it leads to an object. An unborn HEAD is listed only if the client asked for unborn branches and for
/// symrefs (LS-09, LS-11).
fn head(repository: &Repository, lines: &mut Lines<'_, '_, '_>) -> anyhow::Result<()> {
    let Some(head) = visible::head(repository, For::Upload) else {
        return Ok(());
    };
    let target = head.target.as_ref().map(|target| target.as_bstr());
    match head.id {
        Some(id) => {
            let peeled = if lines.request.peel { peeled(repository, &head, &id)? } else { None };
            let start = |line: &mut Vec<u8>| {
                hex::push(line, &id);
                line.extend_from_slice(b" HEAD");
            };
            lines.add(start, target, peeled.as_ref().map(StoredId::from))
        }
        None if lines.request.unborn && lines.request.symrefs && target.is_some() => {
            lines.add(|line| line.extend_from_slice(b"unborn HEAD"), target, None)
        }
        None => Ok(()),
    }
}

/// Ref lines on their way out.
struct Lines<'r, 'o, 's> {
    request: &'r LsRefsRequest,
    list: List<'o, 's>,
}

impl Lines<'_, '_, '_> {
    /// Adds one line, of which `start` writes the object and the name.
    fn add(
        &mut self,
        start: impl FnOnce(&mut Vec<u8>),
        symref_target: Option<&BStr>,
        peeled: Option<StoredId<'_>>,
    ) -> anyhow::Result<()> {
        self.list.add(|line| {
            start(line);
            if let Some(target) = symref_target.filter(|_| self.request.symrefs) {
                line.extend_from_slice(b" symref-target:");
                line.extend_from_slice(target);
            }
            if let Some(peeled) = peeled.filter(|_| self.request.peel) {
                line.extend_from_slice(b" peeled:");
                peeled.push_hex(line);
            }
            line.push(b'\n');
        })?;
        Ok(())
    }
}

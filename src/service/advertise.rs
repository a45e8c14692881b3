//! The advertisement: `info/refs` of v0, v1 and v2 for both services.
//!
//! In: a repository. Out: refs and capabilities in git's order. Of the request, only the protocol version is known
//! here.

use super::list::List;
use super::offer::{self, Block, View};
use super::{Out, ServeError, Service};
use crate::hex;
use crate::protocol::Version;
use crate::repo::visible::{self, For, Head, Listed};
use crate::repo::{AccessMode, Repository, alternate_refs};
use gix_hash::{ObjectId, oid};
use std::collections::HashSet;

/// Answers `info/refs?service=…`. Over HTTP the service line comes first, unless the client asked for v2: even
/// for a push, which gets v0 all the same because push has no v2 (PV-05).
///
/// # Errors
/// When a push is asked for and refs cannot be written, when refs cannot be read, or when the client has gone.
pub fn serve(repository: &Repository, service: Service, version: Version, out: &mut Out<'_>) -> Result<(), ServeError> {
    let context = &repository.context;
    let mut list = List::new(out);
    let expected = match service {
        Service::UploadPack => version,
        Service::ReceivePack => context.version,
    };
    if context.mode != AccessMode::Pipe && expected != Version::V2 {
        list.text(format_args!("# service={}\n", service.name()))?;
        list.flush()?;
    }
    announce(repository, service, version, list)
}

/// Writes what a service says first in a conversation where the server speaks first.
///
/// # Errors
/// As [`serve`].
pub fn greet(repository: &Repository, service: Service, version: Version, out: &mut Out<'_>) -> Result<(), ServeError> {
    announce(repository, service, version, List::new(out))
}

fn announce(
    repository: &Repository,
    service: Service,
    version: Version,
    mut list: List<'_, '_>,
) -> Result<(), ServeError> {
    match version {
        Version::V2 => capabilities(repository, &mut list)?,
        Version::V1 => {
            list.text(format_args!("version 1\n"))?;
            refs(repository, service, &mut list)?;
        }
        Version::V0 => refs(repository, service, &mut list)?,
    }
    Ok(list.end(repository)?)
}

/// v2: the version, then a line for each row of the table that is offered.
fn capabilities(repository: &Repository, list: &mut List<'_, '_>) -> Result<(), ServeError> {
    list.text(format_args!("version 2\n"))?;
    let view = View { repository, head: None };
    for offer in offer::offered(Block::V2, &view) {
        list.add(|line| {
            line.extend_from_slice(&offer.line(&view));
            line.push(b'\n');
        })?;
    }
    Ok(())
}

/// v0 and v1: the refs, the first one with the capabilities.
fn refs(repository: &Repository, service: Service, list: &mut List<'_, '_>) -> Result<(), ServeError> {
    let head = match service {
        Service::UploadPack => visible::head(repository, For::Upload),
        Service::ReceivePack => None,
    };
    let view = View { repository, head: head.as_ref() };
    let capabilities: Vec<Vec<u8>> = offer::offered(Block::of(service), &view).map(|offer| offer.line(&view)).collect();
    let mut lines = Lines { list, capabilities: Some(capabilities.join(&b' ')) };
    match service {
        Service::UploadPack => upload_refs(repository, head.as_ref(), &mut lines)?,
        Service::ReceivePack => receive_refs(repository, &mut lines)?,
    }
    if lines.capabilities.is_some() {
        lines.add_id(&ObjectId::null(repository.hash()), b"capabilities^{}")?;
    }
    lines.shallow(repository)?;
    Ok(())
}

/// Lists HEAD, then all refs, each tag followed by what it peels to (UA-01 to UA-03).
fn upload_refs(repository: &Repository, head: Option<&Head>, lines: &mut Lines<'_, '_, '_>) -> anyhow::Result<()> {
    if let Some((head, id)) = head.and_then(|head| Some((head, head.id?))) {
        lines.add_id(&id, b"HEAD")?;
        if let Some(peeled) = peeled(repository, head, &id)? {
            lines.add_id(&peeled, b"HEAD^{}")?;
        }
    }
    visible::list(repository, For::Upload, &[], true, &mut |tip| {
        lines.add(|line| tip.push(line))?;
        match tip.peeled.target() {
            Some(peeled) => lines.add(|line| {
                peeled.push_hex(line);
                line.push(b' ');
                line.extend_from_slice(tip.name);
                line.extend_from_slice(b"^{}");
            }),
            None => Ok(()),
        }
    })
}

/// Lists all refs, those outside the namespace as `.have`, then the tips of the alternates' refs as `.have`, each
/// object once (RA-01, RA-06, RA-09).
fn receive_refs(repository: &Repository, lines: &mut Lines<'_, '_, '_>) -> anyhow::Result<()> {
    let mut alternates = Vec::new();
    alternate_refs::for_each(repository, &mut |id| {
        alternates.push(id);
        Ok(())
    })?;
    let namespaced = repository.context.namespace.is_some();
    let mut shown = HashSet::new();
    let once = namespaced || !alternates.is_empty();
    visible::all(repository, For::Receive, &mut |listed| match listed {
        Listed::Visible(tip) => {
            if once {
                shown.insert(tip.id.id());
            }
            lines.add(|line| tip.push(line))
        }
        Listed::Outside(id) if shown.insert(id.id()) => lines.add_id(&id.id(), b".have"),
        Listed::Outside(_) => Ok(()),
    })?;
    for tip in alternates {
        if shown.insert(tip) {
            lines.add_id(&tip, b".have")?;
        }
    }
    Ok(())
}

/// Returns what HEAD peels to if it points to a tag. A branch never points to a tag (UP-25), so its object is not read.
pub(super) fn peeled(repository: &Repository, head: &Head, id: &oid) -> anyhow::Result<Option<ObjectId>> {
    if head.target.as_ref().is_some_and(|target| target.starts_with(b"refs/heads/")) {
        return Ok(None);
    }
    match repository.objects.header(id)?.map(|header| header.kind) {
        Some(gix_object::Kind::Tag) => Ok(repository.objects.peel(id)?.map(|(peeled, _)| peeled)),
        _ => Ok(None),
    }
}

/// Ref lines on their way out.
struct Lines<'l, 'o, 's> {
    list: &'l mut List<'o, 's>,
    /// What the first line carries after its NUL byte.
    capabilities: Option<Vec<u8>>,
}

impl Lines<'_, '_, '_> {
    /// The commits at which the repository's own history is cut (UA-10, RA-11).
    fn shallow(&mut self, repository: &Repository) -> std::io::Result<()> {
        let mut shallow: Vec<&ObjectId> = repository.objects.shallow().iter().collect();
        shallow.sort_unstable();
        for id in shallow {
            self.list.text(format_args!("shallow {id}\n"))?;
        }
        Ok(())
    }

    fn add_id(&mut self, id: &oid, name: &[u8]) -> anyhow::Result<()> {
        self.add(|line| {
            hex::push(line, id);
            line.push(b' ');
            line.extend_from_slice(name);
        })
    }

    /// Adds one line, of which `start` writes the object and the name.
    fn add(&mut self, start: impl FnOnce(&mut Vec<u8>)) -> anyhow::Result<()> {
        let capabilities = self.capabilities.take();
        let added = self.list.add(|line| {
            start(line);
            if let Some(capabilities) = capabilities {
                line.push(0);
                line.extend_from_slice(&capabilities);
            }
            line.push(b'\n');
        });
        Ok(added?)
    }
}

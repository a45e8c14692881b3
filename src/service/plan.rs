//! The plan of a pack: everything its bytes depend on.
//!
//! In: an admitted request, the result of negotiation, the repository as it is. Out: a selection, and a key that is the
//! same for everybody to whom the same bytes are sent. Nothing here decides who may have what.

use super::ServeError;
use super::shallow::Boundary;
use crate::cache::{Key, KeyMaker};
use crate::odb::closure::{Filter, Missing};
use crate::pack::deflate::Levels;
use crate::pack::select::{self, Request, Selection};
use crate::pack::write::PackOptions;
use crate::protocol::upload::UploadRequest;
use crate::repo::Repository;
use crate::repo::visible::{self, For};
use crate::stream::Pulse;
use gix_hash::ObjectId;
use std::os::unix::ffi::OsStrExt;

/// A client that wants this many objects mostly wants all tags.
const PEELED_MIN: usize = 256;

/// A pack to be made.
pub struct FetchPlan<'a> {
    /// The repository it is made from.
    pub repository: &'a Repository,
    /// How the client wants it.
    pub request: &'a UploadRequest,
    /// Where the client's history ends.
    pub boundary: &'a Boundary,
    /// What is left out.
    filter: Option<&'a Filter>,
    /// What is wanted.
    pub wants: Vec<ObjectId>,
    /// What the client has.
    pub common: Vec<ObjectId>,
    /// Annotated tags to send along with what they peel to, each with that object.
    tags: Vec<(ObjectId, ObjectId)>,
    /// If no tags are to follow and many objects are wanted: annotated tags whose peeled objects are recorded with
    /// their refs.
    peeled: Vec<(ObjectId, ObjectId)>,
}

impl<'a> FetchPlan<'a> {
    /// Makes the plan of a request whose boundary and common objects are known.
    ///
    /// # Errors
    /// When refs cannot be read.
    pub fn new(
        repository: &'a Repository,
        request: &'a UploadRequest,
        boundary: &'a Boundary,
        filter: Option<&'a Filter>,
        common: &[ObjectId],
    ) -> Result<Self, ServeError> {
        let (mut tags, mut peeled) = (Vec::new(), Vec::new());
        if request.include_tag && repository.settings.pack_objects_hook.is_none() {
            visible::annotated_tags(repository, For::Upload, &mut |tag, peeled| tags.push((tag, peeled)))?;
        }
        let (wants, common) = (boundary.wants(request), boundary.common(common));
        if tags.is_empty() && common.is_empty() && wants.len() >= PEELED_MIN {
            visible::recorded_tags(repository, For::Upload, &mut |tag, of| peeled.push((tag, of)))?;
        }
        Ok(FetchPlan { repository, request, boundary, filter, wants, common, tags, peeled })
    }

    /// Selects the objects to send: the wants, and the tags that follow them.
    ///
    /// # Errors
    /// When an object is missing or corrupt, or the client has gone.
    pub fn select(&self, pulse: &mut dyn Pulse) -> anyhow::Result<Selection> {
        let wanted = Request {
            wants: &self.wants,
            common: &self.common,
            tags: &self.tags,
            peeled: if self.tags.is_empty() { &self.peeled } else { &self.tags },
            filter: self.filter,
            missing: if self.request.promised { Missing::Promised } else { Missing::Refused },
            thin: self.request.thin_pack,
        };
        select::select(&self.boundary.seen(self.repository), &wanted, pulse)
    }

    /// The form the pack may take.
    pub fn options(&self) -> PackOptions {
        PackOptions {
            thin: self.request.thin_pack,
            ofs_delta: self.request.ofs_delta,
            levels: Levels::sent(self.repository.settings.pack_compression),
            threads: self.repository.settings.threads(),
            memory: self.repository.context.memory,
            related_max: PackOptions::RELATED_SENT,
        }
    }

    /// The cache key: equal for all requests that are answered with the same bytes. The order in which a client names
    /// objects does not matter.
    ///
    /// # Errors
    /// When pack directories cannot be read.
    pub fn key(&self) -> anyhow::Result<Key> {
        let FetchPlan { repository, request, .. } = self;
        let (objects, settings) = (&repository.objects, &repository.settings);
        let mut key = KeyMaker::default();
        let place = repository.common_dir.canonicalize().unwrap_or_else(|_| repository.common_dir.clone());
        key.part("repository", [place.as_os_str().as_bytes()]);
        key.part("format", [objects.hash_kind().to_string()]);
        key.part("wants", sorted(&self.wants));
        key.part("common", sorted(&self.common));
        key.part("client's ends", sorted(self.boundary.cut()));
        key.part("own ends", sorted(objects.shallow()));
        let filter = request.filter.as_ref().map(|filter| filter.text());
        key.part("filter", filter);
        key.part("patterns", self.filter.into_iter().flat_map(Filter::sources).map(|id| id.as_bytes()));
        let switches = [request.thin_pack, request.ofs_delta, request.include_tag, request.promised];
        key.part("switches", [switches.map(u8::from)]);
        key.part("tags", self.tags.iter().flat_map(|(tag, peeled)| [tag.as_bytes(), peeled.as_bytes()]));
        let levels = self.options().levels;
        key.part("compression", [levels.usual, levels.little].map(u32::to_le_bytes));
        key.part("memory", [repository.context.memory.to_le_bytes()]);
        if !request.packfile_uris.is_empty() {
            // Objects available elsewhere have been taken out of the selection.
            key.part("protocols", &request.packfile_uris);
            let uris = settings.packfile_uris.iter();
            key.part("packs elsewhere", uris.flat_map(|at| [at.pack.as_bytes(), at.uri.as_slice()]));
            let blobs = settings.blob_packfile_uris.iter();
            key.part("blobs elsewhere", blobs.flat_map(|blob| [blob.blob.as_bytes(), blob.at.uri.as_slice()]));
        }
        key.part("packs", objects.storage()?);
        Ok(key.key())
    }
}

fn sorted<'i>(ids: impl IntoIterator<Item = &'i ObjectId>) -> Vec<&'i [u8]> {
    let mut ids: Vec<_> = ids.into_iter().map(|id| id.as_bytes()).collect();
    ids.sort_unstable();
    ids
}

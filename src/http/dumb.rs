//! Stored files over HTTP: media types, dates, caching, conditions and ranges (HD-07 to HD-12).
//!
//! In: an operation on a stored file, and the client's conditions. Out: the head and the bytes, or the requested part
//! of them. Nothing here decides which file may be read.

use super::conditions::{Share, Validators};
use super::request::Reject;
use super::response::{Caching, Response, http_date};
use super::{Conditions, Method};
use crate::audit::Summary;
use crate::repo::{AccessMode, Repository};
use crate::service::ServeError;
use crate::service::StoredFile;
use crate::service::stored::{self, Content};
use crate::stream::Sink;
use sha2::{Digest, Sha256};
use std::fs::Metadata;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

/// How many bytes of the hash an entity tag uses: enough to tell versions of generated content apart.
const TAG_BYTES: usize = 16;

/// Answers with the file, a part of it, or 304, 404 or 416.
///
/// # Errors
/// When the file cannot be read, or the client has gone.
pub fn answer(
    file: &StoredFile,
    (method, conditions): (&Method, &Conditions),
    repository: &Repository,
    response: &mut Response<'_>,
    summary: &mut Summary,
) -> Result<(), ServeError> {
    summary.operation = Some("stored");
    let Some(found) = stored::open(file, repository)? else {
        response.reject(&Reject::new(404, "There is no such file."))?;
        summary.outcome = "refused";
        return Ok(());
    };
    let caching = match found.caching {
        stored::Caching::Unsaid => Caching::Unsaid,
        stored::Caching::Never => Caching::No,
        stored::Caching::Forever => Caching::Forever { now: repository.context.now, shared: is_everybodys(repository) },
    };
    let (tag, modified, size) = match &found.content {
        Content::Computed(bytes) => (tag_of_bytes(bytes), None, bytes.len() as u64),
        Content::File(_, metadata) => (tag_of_file(metadata), Some(changed(metadata)), metadata.len()),
    };
    let share = match method {
        // Ranges are defined for GET only.
        Method::Get => conditions.share(&Validators { tag: &tag, modified, size }),
        Method::Head | Method::Post | Method::Other(_) => {
            Conditions { range: None, ..conditions.clone() }.share(&Validators { tag: &tag, modified, size })
        }
    };
    response.describe(found.media, caching, false);
    response.header("ETag", tag);
    if let Some(modified) = modified {
        response.header("Last-Modified", http_date(modified));
        response.header("Accept-Ranges", "bytes");
    }
    let range = match share {
        Share::Whole => 0..size,
        Share::Part(range) => {
            response.status(206);
            response.header("Content-Range", format!("bytes {}-{}/{size}", range.start, range.end - 1));
            range
        }
        Share::NotModified => {
            response.status(304);
            response.without_body();
            return Ok(());
        }
        Share::Unsatisfiable => {
            let reject = Reject::new(416, "The file has no such bytes.");
            response.reject(&reject.header("Content-Range", format!("bytes */{size}")))?;
            summary.outcome = "refused";
            return Ok(());
        }
    };
    response.length(range.end - range.start);
    match found.content {
        Content::Computed(bytes) => {
            let part = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
            let part = part.and_then(|(start, end)| bytes.get(start..end));
            response.write_all(part.expect("a range was cut to what is there"))?;
        }
        Content::File(file, _) => response.send_file(&file, range)?,
    }
    Ok(())
}

/// Whether a shared cache may give the answer to any client. It may not where a token is needed, since the cache knows
/// nothing of tokens. A web server that does the authentication sets its own caching headers.
fn is_everybodys(repository: &Repository) -> bool {
    match repository.context.mode {
        AccessMode::Tokens => repository.settings.anonymous_read,
        AccessMode::WebServer | AccessMode::Pipe => true,
    }
}

/// The entity tag of generated content: a hash of its bytes.
fn tag_of_bytes(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let digits: String = hash.iter().take(TAG_BYTES).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{digits}\"")
}

/// The entity tag of a file. Files are replaced, never changed in place, so time and size tell versions apart, equally
/// on every node that serves the file.
fn tag_of_file(metadata: &Metadata) -> String {
    format!("\"{:x}-{:x}-{:x}\"", metadata.mtime(), metadata.mtime_nsec(), metadata.len())
}

fn changed(metadata: &Metadata) -> u64 {
    u64::try_from(metadata.mtime()).unwrap_or(0)
}

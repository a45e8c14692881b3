//! Stored files as HTTP: types, dates, caching (HD-07 to HD-11).
//!
//! In: an operation on a stored file. Out: its head and its bytes, always the whole file.

use super::request::Reject;
use super::response::{Caching, Response, http_date};
use crate::audit::Summary;
use crate::repo::Repository;
use crate::service::ServeError;
use crate::service::StoredFile;
use crate::service::stored::{self, Content};
use crate::stream::Sink;
use std::io::Write;
use std::time::UNIX_EPOCH;

/// Answers with the file, or with 404.
///
/// # Errors
/// When it cannot be read, or the client has gone.
pub fn answer(
    file: &StoredFile,
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
        stored::Caching::Forever => Caching::Forever(repository.context.now),
    };
    response.describe(found.media, caching, false);
    match found.content {
        Content::Computed(bytes) => {
            response.length(bytes.len() as u64);
            response.write_all(&bytes)?;
        }
        Content::File(file, size, modified) => {
            let seconds = modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            response.header("Last-Modified", http_date(seconds));
            response.length(size);
            response.send_file(&file, 0..size)?;
        }
    }
    Ok(())
}

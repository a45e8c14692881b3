//! Stored files as HTTP: types, dates, caching (HD-07 to HD-11).
use super::response::Response;
use crate::audit::Summary;
use crate::repo::Repository;
use crate::service::{ServeError, StoredFile};
/// placeholder
pub fn answer(file: &StoredFile, repository: &Repository, response: &mut Response<'_>, summary: &mut Summary) -> Result<(), ServeError> {
    let _ = (file, repository, response, summary);
    unimplemented!()
}

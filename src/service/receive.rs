//! The push told in order.

use super::{Out, ServeError};
use crate::repo::Repository;
use crate::stream::Body;

/// Answers a push.
///
/// # Errors
/// What could not be told in the report.
pub fn serve(repository: &Repository, body: &mut dyn Body, out: &mut Out<'_>) -> Result<(), ServeError> {
    let _ = (repository, body, out);
    unimplemented!()
}

//! Whether history is what commits say it is: only then may files tell of it.
//!
//! In: a repository. Out: why not, if so. git makes no use of such files there either.

use crate::repo::Repository;
use anyhow::Result;
use std::fs;

/// Why history is another one than its commits say.
pub(super) fn is_changed(repository: &Repository) -> Result<Option<&'static str>> {
    if !repository.objects.shallow().is_empty() {
        return Ok(Some("history is cut (shallow)"));
    }
    if fs::metadata(repository.common_dir.join("info/grafts")).is_ok_and(|file| file.len() > 0) {
        return Ok(Some("history is changed by info/grafts"));
    }
    let mut replaced = false;
    repository.refs.for_each(&["refs/replace/".into()], &mut |_| {
        replaced = true;
        Ok(())
    })?;
    Ok(replaced.then_some("objects are replaced (refs/replace)"))
}

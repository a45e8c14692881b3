//! Checks that history is what the commits say: only then may files describe it.
//!
//! In: a repository. Out: why it is not, if so. git does not use such files there either, and nothing is changed here.

use crate::repo::Repository;
use anyhow::Result;
use std::fs;

/// Why history differs from what the commits say, if so.
pub(super) fn why_changed(repository: &Repository) -> Result<Option<&'static str>> {
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

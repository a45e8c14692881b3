//! Maintenance after a push (AP-01): an installed git does what `git maintenance` finds due, where the owner asks for that.
//!
//! In: a repository that was pushed to. Out: a git that was started. Nothing that is served depends on it. Mostly it goes on without
//! us when the client has been told everything; only where `maintenance.autoDetach` says so it is waited for.

use super::client::{Client, Hooked};
use crate::repo::{Repository, installed};
use anyhow::{Context as _, anyhow};

/// Has what is due done now, while the client waits and hears what is said, where it is not to go on by itself.
pub(super) fn in_front(repository: &Repository, client: &mut Client<'_>) -> anyhow::Result<()> {
    let settings = &repository.settings;
    if !settings.auto_maintenance || settings.auto_maintenance_detach {
        return Ok(());
    }
    let words = ["maintenance", "run", "--auto", "--quiet", "--no-detach"];
    let ended = installed::run(repository, &words, &[], &repository.git_dir, &mut Hooked(client));
    match ended.context("cannot run git maintenance")? {
        ended if ended.well() => Ok(()),
        ended => Err(anyhow!("git maintenance failed: {ended:?}")),
    }
}

/// Has what is due done by itself. git looks for it in a process of its own, too: that may take a while.
pub(super) fn behind(repository: &Repository) -> anyhow::Result<()> {
    let settings = &repository.settings;
    if !settings.auto_maintenance || !settings.auto_maintenance_detach {
        return Ok(());
    }
    let words = ["maintenance", "run", "--auto", "--quiet", "--detach"];
    installed::leave(repository, &words).context("cannot run git maintenance")
}

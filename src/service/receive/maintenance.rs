//! Maintenance after a push (AP-01): an installed git does what `git maintenance` finds due, if the owner wants it.
//!
//! In: a repository that was pushed to. Out: a running git. Nothing that is served depends on it. Usually it runs
//! detached, once the client has been told everything; it is waited for only if `maintenance.autoDetach` says so.

use super::client::{ChildOutput, Client};
use crate::repo::{Repository, installed};
use anyhow::{Context as _, anyhow};

/// Runs maintenance while the client waits and receives its output, if it is not to run detached.
pub(super) fn run_attached(repository: &Repository, client: &mut Client<'_>) -> anyhow::Result<()> {
    let settings = &repository.settings;
    if !settings.auto_maintenance || settings.auto_maintenance_detach {
        return Ok(());
    }
    let words = ["maintenance", "run", "--auto", "--quiet", "--no-detach"];
    let ended = installed::run(repository, &words, &[], &repository.git_dir, &mut ChildOutput(client));
    match ended.context("cannot run git maintenance")? {
        ended if ended.well() => Ok(()),
        ended => Err(anyhow!("git maintenance failed: {ended:?}")),
    }
}

/// Starts maintenance detached. Finding out what is due is left to git's process too, because that may take a while.
pub(super) fn start_detached(repository: &Repository) -> anyhow::Result<()> {
    let settings = &repository.settings;
    if !settings.auto_maintenance || !settings.auto_maintenance_detach {
        return Ok(());
    }
    let words = ["maintenance", "run", "--auto", "--quiet", "--detach"];
    installed::leave(repository, &words).context("cannot run git maintenance")
}

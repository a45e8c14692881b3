//! Helpers for fixtures: programs whose environment contains only PATH, and the context of a request.
//!
//! In: names. Out: commands and contexts. Nothing here is in the program that is built.

use crate::protocol::{Limits, Version};
use crate::repo::config::ConfigSources;
use crate::repo::{AccessMode, Context, Inherited, PushSwitches};
use crate::trace::Trace;
use std::process::Command;

/// The context of an arbitrary request at the beginning of 1970.
pub(crate) fn context(mode: AccessMode, config: ConfigSources) -> Context {
    Context {
        mode,
        version: Version::V2,
        now: 0,
        id: "id".to_owned(),
        address: None,
        identity: "C <c@example.com>".into(),
        hook_environment: Inherited::default(),
        namespace: None,
        config,
        object_directory: None,
        alternate_directories: Vec::new(),
        named: ".".into(),
        in_quarantine: false,
        agent: "artifacts/test".to_owned(),
        session_id: "session".to_owned(),
        limits: Limits::default(),
        memory: 64 << 20,
        cache: None,
        timeout: None,
        stateless: true,
        push: PushSwitches::default(),
        trace: Trace::default(),
    }
}

/// A program found in PATH. It is looked up here because std, when the environment is changed, finds a mere name only
/// after forking the whole process, which with the memory of the tests costs more than the program itself.
pub(crate) fn command(name: &str) -> Command {
    let path = std::env::var_os("PATH").expect("there is a PATH");
    let program = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file());
    let mut command = Command::new(program.unwrap_or_else(|| panic!("{name} is not in PATH")));
    command.env_clear().env("PATH", path);
    command
}

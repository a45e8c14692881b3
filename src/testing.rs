//! Programs that fixtures are made with. In: a name. Out: a command to be told the rest. Of the environment it has PATH alone.

use std::process::Command;

/// A program of PATH. It is looked up here: where the environment is another than its own, std would let a fork of the whole
/// process look for a mere name, which with the memory that tests have costs more than what is then run.
pub(crate) fn command(name: &str) -> Command {
    let path = std::env::var_os("PATH").expect("there is a PATH");
    let program = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file());
    let mut command = Command::new(program.unwrap_or_else(|| panic!("{name} is not in PATH")));
    command.env_clear().env("PATH", path);
    command
}

//! The environment that child processes inherit, built when the first one is started; few requests start any.
//!
//! In: from an edge, how to build it, and what else is known about the client. Out: names and values, each name once.
//! Nothing is read here.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::sync::Arc;

/// A name and its value.
pub type Variable = (OsString, OsString);

/// The environment that hooks inherit, GIT_COMMITTER_* included.
///
/// The edge leaves out what they must not see: over HTTP the variables that make a CGI request, so that a hook may push
/// or call this program, and credentials and other headers that may be secrets.
#[derive(Clone)]
pub struct Inherited {
    given: Arc<dyn Fn() -> Vec<Variable> + Send + Sync>,
    told: Vec<Variable>,
}

impl Inherited {
    /// An environment that `given` builds when it is needed.
    pub fn later(given: impl Fn() -> Vec<Variable> + Send + Sync + 'static) -> Self {
        Inherited { given: Arc::new(given), told: Vec::new() }
    }

    /// Adds a variable, which replaces any of the same name.
    pub fn tell(&mut self, name: &str, value: impl Into<OsString>) {
        self.told.retain(|(told, _)| told != name);
        self.told.push((name.into(), value.into()));
    }

    /// All variables.
    pub fn variables(&self) -> Vec<Variable> {
        let is_told = |name: &OsStr| self.told.iter().any(|(told, _)| told == name);
        let mut variables = (self.given)();
        variables.retain(|(name, _)| !is_told(name));
        variables.extend_from_slice(&self.told);
        variables
    }
}

/// An empty environment.
impl Default for Inherited {
    fn default() -> Self {
        Inherited::later(Vec::new)
    }
}

impl From<Vec<Variable>> for Inherited {
    fn from(variables: Vec<Variable>) -> Self {
        Inherited::later(move || variables.clone())
    }
}

/// Shows nothing, because values may be secrets.
impl fmt::Debug for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inherited")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_takes_the_place_of_what_was_given() {
        let pair = |name: &str, value: &str| (name.into(), value.into());
        let mut inherited = Inherited::from(vec![pair("A", "1"), pair("B", "2")]);
        inherited.tell("B", "3");
        inherited.tell("C", "4");
        inherited.tell("C", "5");
        assert_eq!(inherited.variables(), [pair("A", "1"), pair("B", "3"), pair("C", "5")]);
        assert_eq!(Inherited::default().variables(), []);
    }
}

//! What programs that we start inherit: put together when the first of them is started, which few requests come to.
//!
//! In: from an edge, how to make it; what else is known of who asks. Out: names and values, each name once. Nothing is read here.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::sync::Arc;

/// A name and its value.
pub type Variable = (OsString, OsString);

/// The environment hooks inherit, without what they must not see (DESIGN B2), GIT_COMMITTER_* included.
#[derive(Clone)]
pub struct Inherited {
    given: Arc<dyn Fn() -> Vec<Variable> + Send + Sync>,
    told: Vec<Variable>,
}

impl Inherited {
    /// What `given` makes when it is needed.
    pub fn later(given: impl Fn() -> Vec<Variable> + Send + Sync + 'static) -> Self {
        Inherited { given: Arc::new(given), told: Vec::new() }
    }

    /// Adds a variable; one of that name that is there gives way.
    pub fn tell(&mut self, name: &str, value: impl Into<OsString>) {
        self.told.retain(|(told, _)| told != name);
        self.told.push((name.into(), value.into()));
    }

    /// All of it.
    pub fn variables(&self) -> Vec<Variable> {
        let is_told = |name: &OsStr| self.told.iter().any(|(told, _)| told == name);
        let mut variables = (self.given)();
        variables.retain(|(name, _)| !is_told(name));
        variables.extend_from_slice(&self.told);
        variables
    }
}

/// Nothing.
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

/// Values may be secrets.
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

//! The environment of the process, read once.
//!
//! In: names and values as they came. Out: parsed values, in the forms git accepts. Which variables matter is never
//! decided here.

use crate::number;
use bstr::{BStr, ByteSlice};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// Where children look for programs when PATH is not set.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment as it came. Of duplicate entries the first counts, as in `getenv`.
#[derive(Debug, Clone, Default)]
pub struct Environ(Vec<(OsString, OsString)>);

impl Environ {
    /// The environment of this process.
    pub fn of_process() -> Self {
        Environ(std::env::vars_os().collect())
    }

    /// An environment made from pairs.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Environ(pairs.into_iter().collect())
    }

    /// Whether a web server started this process as a CGI program.
    pub fn is_cgi(&self) -> bool {
        self.get("REQUEST_METHOD").is_some() || self.get("GATEWAY_INTERFACE").is_some()
    }

    /// A variable's bytes; a variable that is set but empty counts as set.
    pub fn get(&self, name: &str) -> Option<&BStr> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_bytes().as_bstr())
    }

    /// A variable's bytes, unless it is empty.
    pub fn non_empty(&self, name: &str) -> Option<&BStr> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// A variable as a path, unless it is empty.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.non_empty(name).map(|value| PathBuf::from(OsStr::from_bytes(value)))
    }

    /// A variable as text, unless it is empty; invalid UTF-8 is replaced.
    pub fn text(&self, name: &str) -> Option<String> {
        self.non_empty(name).map(|value| value.to_str_lossy().into_owned())
    }

    /// A size with an optional k, m or g, as git parses them.
    ///
    /// # Errors
    /// When the value is not such a size.
    pub fn size(&self, name: &str) -> Result<Option<i64>, String> {
        self.number(name, number::signed_with_unit)
    }

    /// A size like that of [`Environ::size`], not negative.
    ///
    /// # Errors
    /// When the value is not such a size.
    pub fn bytes(&self, name: &str) -> Result<Option<u64>, String> {
        self.number(name, number::with_unit)
    }

    /// A whole number without a unit, not negative.
    ///
    /// # Errors
    /// When the value is not such a number.
    pub fn count(&self, name: &str) -> Result<Option<u64>, String> {
        self.number(name, number::whole)
    }

    /// A size like that of [`Environ::size`] in a variable that holds an HTTP header: always decimal, since the web
    /// server has read it as such.
    ///
    /// # Errors
    /// When the value is not such a size.
    pub fn length(&self, name: &str) -> Result<Option<i64>, String> {
        self.number(name, number::signed_decimal_with_unit)
    }

    fn number<T>(&self, name: &str, read: fn(&[u8]) -> Option<T>) -> Result<Option<T>, String> {
        let Some(value) = self.non_empty(name) else { return Ok(None) };
        match read(value.trim_ascii()) {
            Some(number) => Ok(Some(number)),
            None => Err(format!("failed to parse {name}: {}", value.escape_ascii())),
        }
    }

    /// Whether a variable says yes, as git's `git_env_bool` reads it; no if it is unset.
    ///
    /// # Errors
    /// When the value is neither one of git's words nor an integer.
    pub fn flag(&self, name: &str) -> Result<bool, String> {
        let Some(value) = self.non_empty(name) else { return Ok(false) };
        match value.to_ascii_lowercase().as_slice() {
            b"true" | b"yes" | b"on" => Ok(true),
            b"false" | b"no" | b"off" => Ok(false),
            _ => match number::signed_with_unit(value).map(i32::try_from) {
                Some(Ok(number)) => Ok(number != 0),
                Some(Err(_)) | None => {
                    Err(format!("bad boolean environment value '{}' for '{name}'", value.escape_ascii()))
                }
            },
        }
    }

    /// The environment of children: each variable once, without those `dropped` matches. GIT_EXEC_PATH, if set, comes
    /// first in PATH, so that programs of that git are found first (HB-27).
    pub fn inherited(&self, dropped: &dyn Fn(&OsStr) -> bool) -> Vec<(OsString, OsString)> {
        let mut seen: Vec<&OsStr> = Vec::new();
        let mut inherited = Vec::new();
        for (name, value) in &self.0 {
            if name != "PATH" && !dropped(name) && !seen.contains(&name.as_os_str()) {
                seen.push(name);
                inherited.push((name.clone(), value.clone()));
            }
        }
        let path = self.non_empty("PATH").map_or_else(|| PATH_DEFAULT.into(), |path| path.to_owned());
        let path = match self.non_empty("GIT_EXEC_PATH") {
            Some(exec) => [exec.as_bytes(), b":", path.as_bytes()].concat(),
            None => path.into(),
        };
        inherited.push(("PATH".into(), OsString::from_vec(path)));
        inherited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environ(pairs: &[(&str, &str)]) -> Environ {
        Environ::from_pairs(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())))
    }

    #[test]
    fn the_first_of_doubled_variables_counts() {
        let environ = environ(&[("A", "1"), ("A", "2"), ("B", "")]);
        assert_eq!(environ.get("A").unwrap(), "1");
        assert_eq!(environ.get("B").unwrap(), "");
        assert!(environ.non_empty("B").is_none() && environ.get("C").is_none());
    }

    #[test]
    fn settings_have_the_bases_of_c_and_headers_only_ten() {
        let environ = environ(&[("A", " 0x10k "), ("B", "010"), ("C", "")]);
        assert_eq!(environ.size("A"), Ok(Some(16 << 10)));
        assert_eq!(environ.length("A"), Err("failed to parse A:  0x10k ".to_owned()));
        assert_eq!((environ.size("B"), environ.length("B")), (Ok(Some(8)), Ok(Some(10))));
        assert_eq!((environ.size("C"), environ.length("D")), (Ok(None), Ok(None)));
    }

    #[test]
    fn what_can_only_be_more_than_nothing_is_an_error_where_it_is_less() {
        let environ = environ(&[("A", "-1"), ("B", "10m"), ("C", "7")]);
        assert!(environ.bytes("A").is_err() && environ.count("A").is_err());
        assert_eq!(environ.bytes("B"), Ok(Some(10 << 20)));
        assert!(environ.count("B").is_err(), "minutes are no unit here");
        assert_eq!((environ.count("C"), environ.count("D")), (Ok(Some(7)), Ok(None)));
    }

    #[test]
    fn a_flag_is_read_as_git_reads_it() {
        let flag = |value: &str| environ(&[("A", value)]).flag("A");
        for yes in ["1", "true", "YES", "on", "-1", "0x10", " 2", "1k", "2147483647"] {
            assert_eq!(flag(yes), Ok(true), "{yes}");
        }
        for no in ["0", "False", "no", "off", "", "00", "0k"] {
            assert_eq!(flag(no), Ok(false), "{no}");
        }
        for neither in ["x", "ye", " yes", "2 ", "1x", "3g", "-", "--1"] {
            assert_eq!(flag(neither), Err(format!("bad boolean environment value '{neither}' for 'A'")));
        }
        assert_eq!(environ(&[]).flag("A"), Ok(false));
    }

    #[test]
    fn children_find_programs_even_where_no_path_came() {
        let path = |given: &[(&str, &str)]| {
            let mut inherited = environ(given).inherited(&|_| false);
            inherited.retain(|(name, _)| name == "PATH");
            inherited.into_iter().map(|(_, path)| path.into_string().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(path(&[]), [PATH_DEFAULT]);
        assert_eq!(path(&[("PATH", "/bin")]), ["/bin"]);
        assert_eq!(path(&[("PATH", "/bin"), ("GIT_EXEC_PATH", "/git-core")]), ["/git-core:/bin"]);
    }
}

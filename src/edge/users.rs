//! The machine's users, as listed in /etc/passwd.
//!
//! In: a number or a name. Out: the user. Other user databases (NSS) are never asked: a static program cannot load
//! their modules.

use std::path::PathBuf;

/// One user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The login name.
    pub name: String,
    /// The first part of the comment field, unless empty; `&` in it is replaced by the capitalised login name.
    pub full_name: Option<String>,
    /// The home directory.
    pub home: PathBuf,
    id: u32,
}

/// The user with this number.
pub fn by_id(id: u32) -> Option<User> {
    find(&passwd(), |user| user.id == id)
}

/// The user with this name.
pub fn by_name(name: &str) -> Option<User> {
    find(&passwd(), |user| user.name == name)
}

fn passwd() -> String {
    std::fs::read_to_string("/etc/passwd").unwrap_or_default()
}

fn find(passwd: &str, is: impl Fn(&User) -> bool) -> Option<User> {
    passwd.lines().filter_map(parse).find(is)
}

/// Parses `name:password:uid:gid:comment:home:shell`.
fn parse(line: &str) -> Option<User> {
    let fields: Vec<&str> = line.split(':').collect();
    let &[name, _, id, _, comment, home, ..] = fields.as_slice() else { return None };
    let full_name = comment.split(',').next().unwrap_or_default().replace('&', &capitalised(name));
    Some(User {
        name: name.to_owned(),
        full_name: Some(full_name).filter(|name| !name.is_empty()),
        home: home.into(),
        id: id.parse().ok()?,
    })
}

fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_those_of_etc_passwd() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\nann:x:33:33:& Example,Room 5,,:/home/ann:/bin/false\nbroken\nb:x:n:0:::\n";
        let check = |id, expected: Option<(&str, Option<&str>, &str)>| {
            let found = find(passwd, |user| user.id == id);
            let found =
                found.as_ref().map(|user| (&*user.name, user.full_name.as_deref(), user.home.to_str().unwrap()));
            assert_eq!(found, expected, "{id}");
        };
        check(0, Some(("root", Some("root"), "/root")));
        check(33, Some(("ann", Some("Ann Example"), "/home/ann")));
        check(34, None);
        assert!(find(passwd, |user| user.name == "b").is_none());
    }
}

//! A repository's name to its place: git directory, links, owner, marks.

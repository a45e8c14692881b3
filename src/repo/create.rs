//! Making and removing repositories: a bare directory as C git would make it.

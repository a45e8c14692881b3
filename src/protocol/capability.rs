//! Names and grammar of capabilities, v0 to v2.

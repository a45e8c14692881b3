//! The fetch told in order, v0 to v2.

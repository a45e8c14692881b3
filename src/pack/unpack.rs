//! Loose objects, written.

//! ls-refs.

//! Stored files as HTTP.

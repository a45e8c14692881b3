//! Rounds of haves in, acknowledgments out.

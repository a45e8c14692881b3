//! Rules for each ref update of a push.

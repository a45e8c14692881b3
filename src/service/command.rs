//! The v2 envelope: one command per request, or a loop of them.

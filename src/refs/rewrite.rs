//! packed-refs written anew.

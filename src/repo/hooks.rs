//! Hooks: which there are, what they are told, what they say.

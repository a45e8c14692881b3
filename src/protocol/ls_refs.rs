//! The arguments of ls-refs (gitprotocol-v2, ls-refs).

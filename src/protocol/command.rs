//! The v2 envelope: command=, capabilities, delimiter (gitprotocol-v2, Command Request).

//! Files of the dumb protocol.

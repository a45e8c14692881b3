//! info/refs of v0, v1 and v2, both services.

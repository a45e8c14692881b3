//! argv and pipes to the same services, stateful or stateless.

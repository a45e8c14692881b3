//! The only module that starts processes.
//!
//! In: a program, its arguments, environment, directory and standard input. Out: its exit status, its output handed on
//! while it is produced. A child never inherits descriptors from 3 up, nor an environment it was not given.

//! The command line tool: serve, repo, token, check. Unreachable inside CGI.

pub mod serve;

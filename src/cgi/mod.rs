//! The CGI edge: environment and stdin to a request; nobody else knows these variable names.

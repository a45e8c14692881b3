//! `serve`: an embedded web server on loopback that hosts this executable as a CGI program.

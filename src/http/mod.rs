//! HTTP without sockets: requests, routes, bodies, responses.

#!/bin/bash
# The embedded server, and real git clients.
. "$(dirname "$0")/lib.sh"
. "$here/matrix.sh"

port=$(free_port)
start env GIT_PROJECT_ROOT="$root" "$program" serve --auth tokens --port "$port"
url=http://127.0.0.1:$port/git
wait_for "$url/"
matrix
finish

#!/bin/bash
# nginx with fcgiwrap, configured as in docs/deployment/nginx/artifacts-git.conf, and real git clients.
. "$(dirname "$0")/lib.sh"
. "$here/matrix.sh"

require nginx fcgiwrap
port=$(free_port)
install_configuration "$top/docs/deployment/nginx/artifacts-git.conf" artifacts-git.conf
install_configuration "$here/nginx.conf.in" nginx.conf
start fcgiwrap -f -c 8 -p "$program" -s "unix:$scratch/socket"
start nginx -c "$scratch/nginx.conf" -p "$scratch"
url=http://127.0.0.1:$port/git
wait_for "$url/"
matrix
finish

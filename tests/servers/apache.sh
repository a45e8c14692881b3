#!/bin/bash
# Apache (event) with mod_cgid, or with mod_proxy_fcgi and fcgiwrap, configured as in docs/deployment/apache, and real
# git clients. The third variant is the drop-in for git http-backend: Apache authenticates.
#   apache.sh [cgid|fcgi|webserver]
. "$(dirname "$0")/lib.sh"
. "$here/matrix.sh"

require apache2
port=$(free_port)
case ${1:-cgid} in
cgid) snippet=artifacts-git.conf define=CGID ;;
fcgi) snippet=artifacts-git-fcgi.conf define=FCGI ;;
webserver) snippet=artifacts-git-webserver.conf define=CGID ;;
*) fail "unknown variant: $1" ;;
esac
if [ $define = FCGI ]; then
	require fcgiwrap
	start fcgiwrap -f -c 8 -p "$program" -s "unix:$scratch/socket"
fi
install_configuration "$top/docs/deployment/apache/$snippet" $snippet -e "s#/etc/apache2/git-users#$scratch/git-users#g"
# The user alice with the password "secret", in the one format that needs no tool of Apache's.
echo 'alice:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=' >"$scratch/git-users"
install_configuration "$here/apache.conf.in" apache.conf -e "s#@MODULES@#/usr/lib/apache2/modules#g" -e "s#@SNIPPET@#$snippet#g"
start apache2 -DFOREGROUND "-D$define" -f "$scratch/apache.conf"
url=http://127.0.0.1:$port/git
wait_for "$url/"
if [ "${1:-}" = webserver ]; then drop_in; else matrix; fi
finish

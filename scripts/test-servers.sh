#!/bin/sh
# Runs real git clients against the program behind nginx, Apache (three ways) and its own embedded server.
#   scripts/test-servers.sh [nginx|apache|apache-fcgi|apache-webserver|serve]...
# ARTIFACTS_HTTP_BACKEND names the program, BIG the size of large bodies (tests/servers/lib.sh).
set -eu
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- nginx apache apache-fcgi apache-webserver serve
status=0
for server; do
	echo "== $server"
	case $server in
	# fcgiwrap and Apache have both carried the large bodies already.
	apache-fcgi) BIG=${BIG:-20000000} tests/servers/apache.sh fcgi || status=1 ;;
	apache-*) tests/servers/apache.sh "${server#apache-}" || status=1 ;;
	nginx | apache | serve) "tests/servers/$server.sh" || status=1 ;;
	*)
		echo "test-servers.sh: unknown server: $server" >&2
		exit 2
		;;
	esac
done
exit $status

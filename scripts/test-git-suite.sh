#!/bin/sh
# Runs git's own tests of git-http-backend against this program, in its place.
#   GIT_BUILD_DIR=/path/to/built/git scripts/test-git-suite.sh [--logs DIR] [t5551]...
#
# GIT_BUILD_DIR           a source tree of git in which `make` has been run (docs/testing.md)
# ARTIFACTS_HTTP_BACKEND  the program; without it scripts/release.sh builds one
# Without names the scripts about git-http-backend are run. Tests that may fail stand in tests/git-suite/expected.txt.
set -eu
cd "$(dirname "$0")/.."

if [ -z "${GIT_BUILD_DIR:-}" ]; then
	cat >&2 <<-'END'
	test-git-suite.sh: GIT_BUILD_DIR must name a built source tree of git, whose tests are run:
	    git clone --depth 1 --branch v2.55.0 https://github.com/git/git
	    make -C git -j4
	    GIT_BUILD_DIR=$PWD/git scripts/test-git-suite.sh
	END
	exit 2
fi
if [ -z "${ARTIFACTS_HTTP_BACKEND:-}" ]; then
	built=$(scripts/release.sh)
	ARTIFACTS_HTTP_BACKEND=$(echo "$built" | tail -n 1)
fi

names=
logs=
while [ $# -gt 0 ]; do
	case $1 in
	--logs)
		mkdir -p "$2"
		logs=$(cd "$2" && pwd)
		shift
		;;
	*) names="$names $1" ;;
	esac
	shift
done

# A checkout may be out of reach for the user who runs the tests: that one gets copies.
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
trap 'exit 2' INT TERM HUP
cp "$ARTIFACTS_HTTP_BACKEND" "$stage/artifacts-http-backend"
cp tests/git-suite/run tests/git-suite/expected.txt "$stage/"
# As git's own program the web server is the one who authenticates.
cat >"$stage/git-http-backend" <<END
#!/bin/sh
ARTIFACTS_AUTH=webserver exec "$stage/artifacts-http-backend" "\$@"
END
chmod 755 "$stage" "$stage/git-http-backend" "$stage/run" "$stage/artifacts-http-backend"
mkdir "$stage/tmp" "$stage/logs"

as=
if [ "$(id -u)" = 0 ]; then
	chown nobody "$stage/tmp" "$stage/logs"
	as="setpriv --reuid nobody --regid nogroup --clear-groups"
fi
status=0
# shellcheck disable=SC2086
env PATH="$PATH:/usr/sbin:/sbin" HOME="$stage/tmp" TMPDIR="$stage/tmp" PROGRAM="$stage/git-http-backend" GIT_BUILD_DIR="$GIT_BUILD_DIR" \
	$as "$stage/run" --expected "$stage/expected.txt" --logs "$stage/logs" ${names:-t5560 t5561 t5562 t5551 t5541} || status=$?
[ -z "$logs" ] || cp "$stage"/logs/* "$logs/"
exit $status

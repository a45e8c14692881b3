#!/bin/sh
# Runs git's own tests of git-http-backend against this program in its place.
#   GIT_BUILD_DIR=/path/to/built/git scripts/test-git-suite.sh [--pipes] [--logs DIR] [t5551]...
#
# GIT_BUILD_DIR           a source tree of git in which `make` has been run (docs/testing.md)
# ARTIFACTS_HTTP_BACKEND  the program; without it scripts/release.sh builds one
# --pipes                 replaces upload-pack and receive-pack too, and runs the scripts about pipes
# Without names it runs the scripts about git-http-backend. tests/git-suite/expected*.txt list the tests that may fail.
# GIT_TEST_PROTOCOL_VERSION=0 (or 1) makes clients ask for that version.
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
pipes=
while [ $# -gt 0 ]; do
	case $1 in
	--pipes) pipes=--pipes ;;
	--logs)
		mkdir -p "$2"
		logs=$(cd "$2" && pwd)
		shift
		;;
	*) names="$names $1" ;;
	esac
	shift
done

# The user who runs the tests may not be able to read the checkout, and gets copies.
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
trap 'exit 2' INT TERM HUP
cp "$ARTIFACTS_HTTP_BACKEND" "$stage/artifacts-http-backend"
cp tests/git-suite/run tests/git-suite/expected*.txt "$stage/"
# As for git's own program, the web server authenticates.
cat >"$stage/git-http-backend" <<END
#!/bin/sh
ARTIFACTS_AUTH=webserver exec "$stage/artifacts-http-backend" "\$@"
END
chmod 755 "$stage" "$stage/git-http-backend" "$stage/run" "$stage/artifacts-http-backend"
mkdir "$stage/tmp" "$stage/logs"

expected="--expected $stage/expected.txt"
scripts="t5560 t5561 t5562 t5551 t5541 t5537 t5539 t5542 t0410 t0611 t1017 t5411 t5500 t5510 t5545 t5548 t5549 t5558 t5559 t5563 t5564
	t5581 t5584 t5601 t5616 t5620 t5700 t5702 t5703 t5732 t5812"
if [ "$pipes" ]; then
	expected="$expected --expected $stage/expected-pipes.txt"
	scripts="t0033 t0411 t1416 t5305 t5306 t5400 t5401 t5402 t5403 t5404 t5405 t5406 t5408 t5409 t5410 t5411 t5500 t5501 t5502 t5503 t5504 t5505 t5506 t5509 t551 t5520 t5521 t5522
		t5523 t5524 t5525 t5526 t5527 t5528 t553 t5543 t5544 t5545 t5546 t5547 t5548 t5552 t5553 t5554 t5555 t5565 t5566 t5570 t5571 t5582
		t5600 t5601 t5603 t5604 t5605 t5606 t5607 t5609 t5610 t5611 t5612 t5613 t5614 t5616 t5617 t5618 t5621 t5700 t5701 t5702 t5703 t5704
		t5705 t5710 t5730 t5731 t5802 t5900"
fi
case ${GIT_TEST_PROTOCOL_VERSION:-2} in
0 | 1) expected="$expected --expected $stage/expected-old-versions.txt" ;;
esac

as=
if [ "$(id -u)" = 0 ]; then
	chown nobody "$stage/tmp" "$stage/logs"
	as="setpriv --reuid nobody --regid nogroup --clear-groups"
fi
status=0
# shellcheck disable=SC2086
env PATH="$PATH:/usr/sbin:/sbin" HOME="$stage/tmp" TMPDIR="$stage/tmp" PROGRAM="$stage/git-http-backend" GIT_BUILD_DIR="$GIT_BUILD_DIR" \
	$as "$stage/run" $pipes $expected --logs "$stage/logs" ${names:-$scripts} || status=$?
[ -z "$logs" ] || cp "$stage"/logs/* "$logs/"
exit $status

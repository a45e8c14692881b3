# Shared by the server tests: the program, a scratch directory, an unprivileged user, a free port, ok and not ok.
#
# A test script sources this file first, then starts a server and calls `matrix` (matrix.sh), then `finish`.
#   ARTIFACTS_HTTP_BACKEND  the program; without it, the newest one of scripts/release.sh or cargo build --release
#   BIG                     bytes of the large pushes and bodies (100000000)
#   KEEP=1                  keeps the scratch directory

set -u
here=$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)
top=$(cd "$here/../.." && pwd)
PATH=$PATH:/usr/sbin:/sbin

fail() {
	echo "$(basename "$0"): $*" >&2
	exit 1
}

find_program() {
	local candidates=()
	for each in "$top"/target/{x86_64-unknown-linux-musl/,}release/artifacts-http-backend; do
		[ -x "$each" ] && candidates+=("$each")
	done
	[ ${#candidates[@]} -gt 0 ] || fail "there is no program to test: run scripts/release.sh, or name one in ARTIFACTS_HTTP_BACKEND"
	ls -t "${candidates[@]}" | head -n 1
}

require() {
	local each
	for each; do
		command -v "$each" >/dev/null || fail "$each is not installed (on Debian: apt-get install git curl nginx fcgiwrap apache2)"
	done
}

ARTIFACTS_HTTP_BACKEND=${ARTIFACTS_HTTP_BACKEND:-$(find_program)} || exit 1

# Web servers refuse to serve as root, and other users cannot read a checkout below /root: as root, everything runs as
# nobody, with a copy of what is needed.
if [ "$(id -u)" = 0 ]; then
	stage=$(mktemp --directory)
	mkdir -p "$stage/docs" "$stage/tests" "$stage/bin"
	cp -r "$top/docs/deployment" "$stage/docs/"
	cp -r "$top/tests/servers" "$stage/tests/"
	cp "$ARTIFACTS_HTTP_BACKEND" "$stage/bin/artifacts-http-backend"
	chown -R nobody "$stage"
	cd "$stage" || exit 1
	ARTIFACTS_HTTP_BACKEND=$stage/bin/artifacts-http-backend TMPDIR=$stage HOME=$stage \
		setpriv --reuid nobody --regid nogroup --clear-groups "$stage/tests/servers/$(basename "$0")" "$@"
	status=$?
	cd / || exit 1
	[ "${KEEP:-}" ] || rm -rf "$stage"
	exit $status
fi

require git curl

scratch=$(mktemp --directory)
root=$scratch/root
work=$scratch/work
program=$scratch/bin/artifacts-http-backend
mkdir "$root" "$work" "$scratch/bin"
# A path of our own, so that our processes can be told from others.
cp "$ARTIFACTS_HTTP_BACKEND" "$program"

export HOME=$work LC_ALL=C GIT_CONFIG_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0 GIT_PROJECT_ROOT=$root
unset GIT_DIR GIT_WORK_TREE GIT_ASKPASS SSH_ASKPASS ARTIFACTS_AUTH ARTIFACTS_TOKENS ARTIFACTS_BASE_URL
git config --global user.name tester
git config --global user.email tester@localhost
git config --global init.defaultBranch main
git config --global gc.auto 0
git config --global advice.detachedHead false

servers=()
passed=0
failed=0
begin=$(date +%s)

cleanup() {
	# Each server leads a process group, because fcgiwrap's workers outlive it.
	local each
	for each in "${servers[@]}"; do
		kill -- "-$each" 2>/dev/null
	done
	wait 2>/dev/null
	if [ "${KEEP:-}" ]; then echo "# kept $scratch"; else rm -rf "$scratch"; fi
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# start COMMAND...: runs a server in the background, with a process group and a small environment of its own.
start() {
	setsid env --ignore-environment PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME="$work" "$@" >>"$scratch/servers.log" 2>&1 &
	servers+=($!)
}

# A free port, below the range that the system gives to clients.
free_port() {
	local port
	for _ in $(seq 50); do
		port=$((20000 + RANDOM % 10000))
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo $port; return; }
	done
	fail "found no free port"
}

# wait_for URL: waits until a server answers there.
wait_for() {
	local _
	for _ in $(seq 100); do
		curl --silent --output /dev/null "$1" && return
		sleep 0.1
	done
	cat "$scratch/servers.log" "$scratch/error.log" 2>/dev/null >&2
	fail "no server answers at $1"
}

# install FILE NAME [SED-EXPRESSION...]: installs a configuration file with our paths in place of the documented ones.
install_configuration() {
	local file=$1 name=$2
	shift 2
	sed -e "s#/usr/lib/artifacts-http-backend#$scratch/bin#g" -e "s#/srv/git#$root#g" -e "s#/run/artifacts-git.socket#$scratch/socket#g" \
		-e "s#@SCRATCH@#$scratch#g" -e "s#@PORT@#$port#g" "$@" "$file" >"$scratch/$name"
}

ok() {
	passed=$((passed + 1))
	echo "ok $((passed + failed)) - $1"
}

not_ok() {
	failed=$((failed + 1))
	echo "not ok $((passed + failed)) - $1"
	sed 's/^/#   /' | tail -n 8
}

# check NAME COMMAND...: the command must succeed.
check() {
	local name=$1 from=$SECONDS
	shift
	if timeout 120 "$@" >"$work/out" 2>&1; then ok "$name"; else not_ok "$name" <"$work/out"; fi
	[ $((SECONDS - from)) -lt 3 ] || echo "#   took $((SECONDS - from)) s"
}

# refused NAME PATTERN COMMAND...: the command must fail and say something that matches.
refused() {
	local name=$1 pattern=$2
	shift 2
	if timeout 120 "$@" >"$work/out" 2>&1; then
		echo "it succeeded" >>"$work/out"
	elif grep --quiet --extended-regexp -e "$pattern" "$work/out"; then
		ok "$name"
		return
	else
		echo "expected: $pattern" >>"$work/out"
	fi
	not_ok "$name" <"$work/out"
}

# same NAME EXPECTED ACTUAL
same() {
	if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" < <(printf 'expected: %s\nactual:   %s\n' "$2" "$3"); fi
}

# eventually NAME COMMAND...: the command must succeed within 20 s.
eventually() {
	local name=$1 _
	shift
	for _ in $(seq 200); do
		"$@" >"$work/out" 2>&1 && { ok "$name"; return; }
		sleep 0.1
	done
	not_ok "$name" <"$work/out"
}

finish() {
	echo "# $(basename "$0"): $(($(date +%s) - begin)) s"
	echo "$passed passed, $failed failed"
	[ $failed = 0 ]
}

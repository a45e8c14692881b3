#!/bin/sh
# Runs what CI runs, and fails if any stage fails.
#   scripts/test.sh                 everything
#   scripts/test.sh unit shell      these stages only
#
#   tools    what the other stages need: installed with apt-get if this runs as root on Debian, else asked for
#   fmt      cargo fmt --check
#   clippy   cargo clippy, warnings are errors; links between comments
#   unit     cargo test with fail points: unit tests, tidy, the suite, in which a push also dies, or its disk fails, at many
#            operations (CRASH_POINTS=all: at every one)
#   release  the static release binary (scripts/release.sh), which the stages below test
#   shell    tests/shell: the program as CGI, called from a shell
#   servers  tests/servers: nginx + fcgiwrap, Apache, the embedded server, with real git clients
#   clients  tests/clients: git, an old git, dulwich, libgit2, isomorphic-git, gix (scripts/test-clients.sh says which need to be named)
#
# The stages from release on run beside those before: linking the whole program occupies one core for minutes, and a
# server test never quite one. Their output is shown when the earlier stages are done; if one of those fails, it is in
# target/beside.log.
set -eu
cd "$(dirname "$0")/.."
stages="tools fmt clippy unit release shell servers clients"
# A first build takes longer if it keeps what later builds could reuse.
[ -d "${CARGO_TARGET_DIR:-target}/debug" ] || export CARGO_INCREMENTAL=0

tools() {
	packages=
	need() {
		command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] || packages="$packages $2"
	}
	need git git
	need curl curl
	need nginx nginx-light
	need fcgiwrap fcgiwrap
	need apache2 apache2-bin
	need python3 python3
	command -v python3 >/dev/null && python3 -c 'import ensurepip' 2>/dev/null || packages="$packages python3-venv"
	# If node and npm come from elsewhere, Debian's packages would conflict with them.
	need node nodejs
	need npm npm
	# Rust needs it as the linker.
	need cc gcc
	if [ -n "$packages" ]; then
		if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
			echo "These tests need what is missing here; on Debian: apt-get install$packages" >&2
			return 1
		fi
		echo "installing$packages"
		# shellcheck disable=SC2086
		DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends $packages >/dev/null || {
			apt-get update --quiet >/dev/null
			DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends $packages >/dev/null
		}
	fi
	if ! command -v cargo >/dev/null; then
		echo "Rust is missing: https://rustup.rs" >&2
		return 1
	fi
	musl=$(uname -m)-unknown-linux-musl
	if command -v rustup >/dev/null && ! rustup target list --installed | grep -qx "$musl"; then
		rustup target add "$musl" || echo "warning: no target $musl; the release binary will be a dynamic one" >&2
	fi
}

fmt() {
	cargo fmt --check
}

clippy() {
	cargo clippy --locked --quiet --all-targets -- --deny warnings
	# Links between comments lead somewhere. Texts of the command line have angle brackets.
	RUSTDOCFLAGS='--deny warnings --allow rustdoc::invalid_html_tags' cargo doc --locked --quiet --no-deps --document-private-items
}

unit() {
	cargo test --locked --quiet --features failpoints
}

release() {
	built=$(CARGO_TERM_QUIET=true scripts/release.sh)
	ls -l "$(echo "$built" | tail -n 1)"
}

# Sets the variable that names the program for the next stages; cargo builds only what has changed.
find_program() {
	[ -n "${ARTIFACTS_HTTP_BACKEND:-}" ] && return
	built=$(CARGO_TERM_QUIET=true scripts/release.sh)
	ARTIFACTS_HTTP_BACKEND=$(echo "$built" | tail -n 1)
	export ARTIFACTS_HTTP_BACKEND
}

shell() {
	find_program
	for each in tests/shell/*.sh; do
		case $each in */lib.sh) continue ;; esac
		"$each" >target/shell.log 2>&1 || {
			cat target/shell.log
			return 1
		}
		echo "${each##*/}: $(tail -n 1 target/shell.log)"
	done
}

servers() {
	find_program
	scripts/test-servers.sh >target/servers.log 2>&1 || {
		cat target/servers.log
		return 1
	}
	grep -v '^ok' target/servers.log
}

clients() {
	find_program
	scripts/test-clients.sh
}

# Runs stages one after the other, up to the first that fails.
run() {
	for stage; do
		echo "---- $stage"
		from=$(date +%s)
		# In a subshell with its own -e: a function called in a condition would go on after a failure.
		set +e
		(
			set -e
			"$stage"
		)
		status=$?
		set -e
		line="$(printf '%-8s %4d s' "$stage" $(($(date +%s) - from)))"
		if [ $status != 0 ]; then
			printf '%s\n' "$summary$line  FAILED"
			echo "test.sh: the stage '$stage' failed; to repeat it: scripts/test.sh $stage" >&2
			exit 1
		fi
		summary="$summary$line
"
	done
}

# Runs stages in a separate script, which ends when this one does.
begin_beside() {
	BESIDE=yes setsid scripts/test.sh "$@" >target/beside.log 2>&1 </dev/null &
	beside=$!
	trap 'kill -- -$beside 2>/dev/null || true' EXIT
	trap 'exit 1' INT TERM
}

[ $# -gt 0 ] || set -- $stages
before=
first=
second=
for stage; do
	case $stage in
	tools) before=tools ;;
	fmt | clippy | unit) first="$first $stage" ;;
	release | shell | servers | clients) second="$second $stage" ;;
	*)
		echo "test.sh: unknown stage: $stage (there are: $stages)" >&2
		exit 2
		;;
	esac
done
mkdir -p target
summary=
begin=$(date +%s)
# Names of stages contain no spaces.
# shellcheck disable=SC2086
if [ -n "$first" ] && [ -n "$second" ]; then
	run $before
	begin_beside $second
	run $first
	wait $beside && status=0 || status=1
	trap - EXIT
	cat target/beside.log
	[ $status = 0 ] || exit 1
else
	run $before $first $second
fi
printf '%s' "$summary"
[ -n "${BESIDE:-}" ] || printf '%-8s %4d s\n' 'all' $(($(date +%s) - begin))

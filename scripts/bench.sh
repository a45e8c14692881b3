#!/bin/sh
# Measures the release binary against git's http-backend: the same requests, in turn, on the same machine.
#   scripts/bench.sh                              every workload, on a repository made for it
#   scripts/bench.sh --repository PATH fetch-10   one workload, on a copy of a bare repository
#   scripts/bench.sh --against BINARY             against another build of this program, to see the effect of a change
#   scripts/bench.sh growth                       how figures grow from a thousand objects to a million, from one pack to a thousand
#
# Figures are medians of --rounds, ours divided by theirs. Needs git, python3 and an otherwise idle machine.
set -eu
cd "$(dirname "$0")/.."
command -v python3 >/dev/null || {
	echo "python3 is missing; on Debian: apt-get install python3" >&2
	exit 1
}
built=$(scripts/release.sh)
binary=$(echo "$built" | tail -n 1)
mkdir -p target/bench
# A file that a linker has written piece by piece starts more slowly than a copy of it.
cp "$binary" target/bench/artifacts-http-backend
script=measure.py
if [ "${1-}" = growth ]; then
	script=growth.py
	shift
fi
exec python3 scripts/bench/$script --ours target/bench/artifacts-http-backend --directory target/bench "$@"

#!/bin/sh
# Writes scripts/layout.ld, by which scripts/release.sh puts what small and common requests run side by side. To be run now and then, when much of what
# they run has changed: what the file does not know of lies elsewhere, and works as well.
#
# It needs git, nm, python3 and valgrind.
set -eu
cd "$(dirname "$0")/.."
for program in git nm python3 valgrind; do
	command -v "$program" >/dev/null || {
		echo "$program is missing; on Debian: apt-get install git binutils python3 valgrind" >&2
		exit 1
	}
done
# With names, in a place of its own.
binary=$(CARGO_PROFILE_RELEASE_STRIP=none CARGO_TARGET_DIR="$PWD/target/layout" scripts/release.sh | tail -n 1)
mkdir -p target/bench
exec python3 scripts/bench/layout.py --ours "$binary" --directory target/bench --out scripts/layout.ld

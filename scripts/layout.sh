#!/bin/sh
# Writes scripts/layout.ld, with which scripts/release.sh places the functions that small and common requests run side
# by side. Run it occasionally, when much of what they run has changed: functions that the file does not list are placed
# elsewhere and work as well.
#
# Needs git, nm, python3 and valgrind.
set -eu
cd "$(dirname "$0")/.."
for program in git nm python3 valgrind; do
	command -v "$program" >/dev/null || {
		echo "$program is missing; on Debian: apt-get install git binutils python3 valgrind" >&2
		exit 1
	}
done
# With symbols, in a target directory of its own.
binary=$(CARGO_PROFILE_RELEASE_STRIP=none CARGO_TARGET_DIR="$PWD/target/layout" scripts/release.sh | tail -n 1)
mkdir -p target/bench
exec python3 scripts/bench/layout.py --ours "$binary" --directory target/bench --out scripts/layout.ld

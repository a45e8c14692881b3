#!/bin/sh
# Pushes to repositories on a disk of their own, simulates a power failure at many moments, and checks what is left.
#   scripts/test-power-loss.sh [ext4|xfs|btrfs]...    (all of them)
#
# POINTS, PUSHES, SEED    how many moments (100), how many pushes (24), the seed for choosing the moments (1)
# ARTIFACTS_HTTP_BACKEND  the program; without it scripts/release.sh builds one
#
# The disk is a file in a FUSE file system that records what is written and when the disk is told to flush its cache. At
# each moment the disk has everything up to the last flush, and any part of what was written later. Needs root, loop
# devices and FUSE.
set -eu
cd "$(dirname "$0")/.."

missing=
for need in git:git python3:python3 mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs mkfs.btrfs:btrfs-progs fusermount:fuse losetup:mount; do
	PATH=$PATH:/sbin:/usr/sbin command -v "${need%:*}" >/dev/null || missing="$missing ${need#*:}"
done
PATH=$PATH:/sbin:/usr/sbin
if [ "$(id -u)" != 0 ] || [ ! -e /dev/fuse ] || [ ! -e /dev/loop-control ]; then
	echo "test-power-loss.sh: needs root, /dev/fuse and loop devices" >&2
	exit 2
fi
if [ -n "$missing" ]; then
	echo "test-power-loss.sh: missing; on Debian: apt-get install libfuse2$missing" >&2
	exit 2
fi
python=target/power/venv/bin/python
if [ ! -x "$python" ] || ! "$python" -c 'import fuse' 2>/dev/null; then
	python3 -m venv target/power/venv
	"$python" -m pip --quiet install fusepy==3.0.1
	"$python" -c 'import fuse' || {
		echo "test-power-loss.sh: FUSE cannot be used; on Debian: apt-get install libfuse2" >&2
		exit 2
	}
fi
if [ -z "${ARTIFACTS_HTTP_BACKEND:-}" ]; then
	built=$(scripts/release.sh)
	ARTIFACTS_HTTP_BACKEND=$(echo "$built" | tail -n 1)
fi
program=$(realpath "$ARTIFACTS_HTTP_BACKEND")
size=$((320 << 20))
scratch=$(mktemp -d)
export HOME="$scratch" GIT_CONFIG_NOSYSTEM=1
git config --global user.name Tester
git config --global user.email tester@example.com
git config --global safe.directory '*'
git config --global gc.auto 0
loop=

clean_up() {
	umount "$scratch/top" 2>/dev/null || :
	[ -z "$loop" ] || losetup -d "$loop" 2>/dev/null || :
	loop=
	fusermount -q -u "$scratch/fuse" 2>/dev/null || :
	wait
}
trap 'clean_up; rm -rf "$scratch"' EXIT
trap 'exit 1' INT TERM
mkdir "$scratch/fuse" "$scratch/top"

# Repositories of all kinds: loose objects and refs; a pack for each push, and packed refs; reflogs; reftable.
repositories() {
	for name in loose packed logged; do
		git init --quiet --bare "$scratch/top/$name.git"
	done
	git -C "$scratch/top/packed.git" config receive.unpackLimit 1
	git -C "$scratch/top/logged.git" config core.logAllRefUpdates always
	# An old git cannot create a reftable, nor read one.
	git init --quiet --bare --ref-format=reftable "$scratch/top/table.git" 2>/dev/null ||
		git init --quiet --bare "$scratch/top/table.git"
}

push() {
	git push --quiet --force --receive-pack="$program receive-pack" "$scratch/top/$1" "$2" 2>"$scratch/said" || {
		cat "$scratch/said" >&2
		exit 1
	}
}

# Records what happens on a file system of one kind while pushes go to it.
record() {
	"$python" tests/power/disk.py "$scratch/fuse" "$size" "$scratch/log" &
	until [ -e "$scratch/fuse/disk" ]; do sleep 0.1; done
	case $1 in
	ext4) mkfs.ext4 -q -F "$scratch/fuse/disk" ;;
	xfs) mkfs.xfs -q -f "$scratch/fuse/disk" ;;
	btrfs) mkfs.btrfs -q -f "$scratch/fuse/disk" 2>/dev/null ;;
	*)
		echo "test-power-loss.sh: no such file system: $1" >&2
		exit 2
		;;
	esac
	loop=$(losetup --show --find "$scratch/fuse/disk")
	mount "$loop" "$scratch/top"
	repositories
	rm -rf "$scratch/work"
	git init --quiet "$scratch/work"
	(
		cd "$scratch/work"
		mkdir deep
		for number in 1 2 3 4 5 6 7 8 9; do echo "$number" >deep/"$number"; done
		git add -A && git commit --quiet -m base
		for name in loose packed logged table; do
			push "$name.git" HEAD:refs/heads/main
			echo "ack $name.git refs/heads/main $(git rev-parse HEAD)" >"$scratch/fuse/mark"
		done
		git -C "$scratch/top/packed.git" pack-refs --all
		sync -f "$scratch/top"
		echo "size $size" >"$scratch/fuse/mark"
		echo start >"$scratch/fuse/mark"
		number=0
		while [ "$number" -lt "${PUSHES:-24}" ]; do
			number=$((number + 1))
			echo "push $number" >"deep/$((number % 9))"
			echo "$number" >"new$number"
			git add -A && git commit --quiet -m "$number"
			id=$(git rev-parse HEAD)
			case $((number % 4)) in 0) name=loose ;; 1) name=packed ;; 2) name=logged ;; 3) name=table ;; esac
			ref=refs/heads/$([ $((number % 3)) = 0 ] && echo main || echo "branch$((number % 5))")
			echo "try $name.git $ref $id" >"$scratch/fuse/mark"
			push "$name.git" "HEAD:$ref"
			echo "ack $name.git $ref $id" >"$scratch/fuse/mark"
		done
		echo end >"$scratch/fuse/mark"
	)
	clean_up
}

failed=
for kind in ${*:-ext4 xfs btrfs}; do
	record "$kind"
	printf '%s: ' "$kind"
	# Where the order of name changes is kept, one wait covers all. A journal needs two flushes for it, and reflogs another
	# wait.
	flushes=
	[ "$kind" = btrfs ] || flushes=4
	# shellcheck disable=SC2086
	"$python" tests/power/points.py "$scratch/log" "${POINTS:-100}" "${SEED:-1}" $flushes || failed="$failed $kind"
done
if [ -n "$failed" ]; then
	echo "test-power-loss.sh: damage on$failed" >&2
	exit 1
fi

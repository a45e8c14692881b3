#!/bin/sh
# C git of any version as a client: first push, clone, shallow clone, deepen, complete, partial clone, fetch, push,
# deletion, a refused push. Features that a version does not have are skipped. Run by scripts/test-clients.sh.
#   git_client.sh <git program> <url> <secret to write> <secret to read> <directory>
set -eu
git=$1
address=${2#http://}
write=http://x:$3@$address
read=http://x:$4@$address
cd "$5"

export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null HOME="$5" GIT_TERMINAL_PROMPT=0 GIT_ASKPASS=true
export GIT_AUTHOR_NAME=tester GIT_AUTHOR_EMAIL=tester@localhost GIT_COMMITTER_NAME=tester GIT_COMMITTER_EMAIL=tester@localhost
# Makes git find its own programs in PATH.
PATH=$(dirname "$git"):$PATH
unset GIT_DIR GIT_EXEC_PATH || true

fail() {
	echo "not ok - $1" >&2
	exit 1
}

# version MAJOR MINOR: whether this git is at least that version.
version=$("$git" --version | sed 's/[^0-9]*\([0-9]*\.[0-9]*\).*/\1/')
version() {
	[ "${version%.*}" -gt "$1" ] || { [ "${version%.*}" = "$1" ] && [ "${version#*.}" -ge "$2" ]; }
}

# count DIRECTORY REVISION: prints the number of commits.
count() {
	(cd "$1" && "$git" rev-list "$2" | wc -l)
}

# is NUMBER DIRECTORY REVISION WHAT
is() {
	[ "$(count "$2" "$3")" -eq "$1" ] || fail "$4: $(count "$2" "$3") commits, not $1"
	(cd "$2" && "$git" fsck --full >/dev/null 2>fsck.log) || fail "$4: $(cat "$2/fsck.log")"
	echo "ok - $4"
}

commit() {
	(cd one && echo "$1" >>file && "$git" add file && "$git" commit -q -m "$1")
}

"$git" init -q one
for number in 1 2 3 4 5; do commit "$number"; done
(cd one && "$git" push -q "$write" HEAD:refs/heads/main 2>push.log) || fail "first push: $(cat one/push.log)"
echo "ok - first push ($("$git" --version))"

"$git" clone -q "$read" two
is 5 two origin/main "clone"

commit 6
(cd one && "$git" tag -a -m two two HEAD~4 && "$git" tag -a -m six six && "$git" push -q "$write" HEAD:refs/heads/main two six)
(cd two && "$git" fetch -q)
is 6 two origin/main "push and fetch"
[ "$(cd two && "$git" tag -l | tr '\n' ' ')" = "six two " ] || fail "the tags did not follow"

shallow_clone() {
	"$git" "$@" clone -q --depth 1 "$read" shallow
	is 1 shallow origin/main "shallow clone $*"
	(cd shallow && "$git" "$@" fetch -q --depth 3)
	is 3 shallow origin/main "fetched to a depth $*"
	if version 2 11; then
		(cd shallow && "$git" "$@" fetch -q --deepen 2)
		is 5 shallow origin/main "deepened $*"
		(cd shallow && "$git" "$@" fetch -q --shallow-exclude two)
		is 4 shallow origin/main "fetched without what a tag has $*"
	fi
	(cd shallow && "$git" "$@" fetch -q --depth 2147483647)
	is 6 shallow origin/main "completed $*"
	rm -rf shallow
}

if version 2 18; then
	for protocol in 0 1 2; do shallow_clone -c protocol.version=$protocol; done
else
	shallow_clone
fi

if version 2 20; then
	for protocol in 0 2; do
		"$git" -c protocol.version=$protocol clone -q --filter=blob:none "$read" partial
		(cd partial && "$git" rev-list --objects --missing=print HEAD | grep -q '^?') || fail "the clone is not partial"
		[ "$(cd partial && "$git" -c protocol.version=$protocol show HEAD~3:file | wc -l)" -eq 3 ] || fail "a lazy fetch"
		rm -rf partial
		echo "ok - partial clone, protocol $protocol"
	done
fi

if (cd one && "$git" push -q "$read" HEAD:refs/heads/refused 2>push.log); then
	fail "a read token has pushed"
fi
echo "ok - a read token cannot push ($(tail -n 1 one/push.log))"

(cd one && "$git" push -q "$write" :refs/tags/six)
(cd one && "$git" ls-remote "$read") | grep -q six && fail "the tag is still there"
echo "ok - deletion"

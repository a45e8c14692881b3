#!/bin/sh
# gitoxide's gix as a client: clone, shallow clone, deepen, fetch. It cannot push, so git does. Run by
# scripts/test-clients.sh.
#   gix_client.sh <gix program> <url> <secret to write> <secret to read> <directory>
set -eu
gix=$1
address=${2#http://}
write=http://x:$3@$address
read=$2
header="Authorization: Bearer $4"
cd "$5"

export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null HOME="$5" GIT_TERMINAL_PROMPT=0
export GIT_AUTHOR_NAME=tester GIT_AUTHOR_EMAIL=tester@localhost GIT_COMMITTER_NAME=tester GIT_COMMITTER_EMAIL=tester@localhost

# Without TLS gix sends no password from a URL, but it sends headers. In a fetch it would send those of the command line
# twice.
clone() {
	"$gix" --no-verbose -c "http.extraHeader=$header" clone "$@"
	for directory; do :; done
	git -C "$directory" config http.extraHeader "$header"
}
fetch() {
	"$gix" --no-verbose fetch "$@"
}

# is NUMBER DIRECTORY WHAT
is() {
	number=$(git -C "$2" rev-list --count origin/main)
	[ "$number" = "$1" ] || {
		echo "not ok - $3: $number commits, not $1" >&2
		exit 1
	}
	git -C "$2" fsck --no-dangling
	echo "ok - $3"
}

git init -q one
commit() {
	echo "$1" >>one/file
	git -C one add file
	git -C one commit -q -m "$1"
}
for number in 1 2 3 4 5; do commit "$number"; done
git -C one tag two HEAD~3
git -C one push -q "$write" HEAD:refs/heads/main two

clone "$read" two
is 5 two "clone ($("$gix" --version))"
commit 6
git -C one push -q "$write" HEAD:refs/heads/main
(cd two && fetch)
is 6 two "fetch"

clone --depth 1 "$read" shallow
is 1 shallow "shallow clone"
(cd shallow && fetch --depth 3)
is 3 shallow "fetched to a depth"
(cd shallow && fetch --deepen 2)
is 5 shallow "deepened"
(cd shallow && fetch --unshallow)
is 6 shallow "completed"

clone --shallow-exclude two "$read" later
is 4 later "clone without what a tag has"

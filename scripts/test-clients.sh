#!/bin/sh
# Runs clients against the embedded server: git, an old git, dulwich, libgit2 (through pygit2), isomorphic-git and gitoxide's gix.
#   scripts/test-clients.sh [git|old-git|dulwich|pygit2|isomorphic|gix]...
# dulwich, pygit2 and isomorphic-git are installed below target/ by pip and npm. ARTIFACTS_HTTP_BACKEND names the
# program, OLD_GIT_EXEC an old git (1.6.6 is the first that speaks smart HTTP), GIX gitoxide's gix if it is not in PATH.
# Clients that are not available are skipped.
set -eu
cd "$(dirname "$0")/.."

if [ -n "${ARTIFACTS_HTTP_BACKEND:-}" ]; then
	program=$ARTIFACTS_HTTP_BACKEND
else
	built=$(scripts/release.sh)
	program=$(echo "$built" | tail -n 1)
fi
[ $# -gt 0 ] || set -- git old-git dulwich pygit2 isomorphic gix
gix=${GIX:-$(command -v gix || true)}

install_python() {
	[ target/python/installed -nt tests/clients/requirements.txt ] && return
	python3 -m venv target/python
	target/python/bin/pip install --quiet --disable-pip-version-check --requirement tests/clients/requirements.txt
	touch target/python/installed
}

install_node() {
	[ target/isomorphic/installed -nt tests/clients/isomorphic/package.json ] && return
	mkdir -p target/isomorphic
	cp tests/clients/isomorphic/package.json target/isomorphic/
	(cd target/isomorphic && npm install --silent --no-audit --no-fund)
	touch target/isomorphic/installed
}

scratch=$(mktemp -d)
server=
cleanup() {
	[ -z "$server" ] || kill "$server" 2>/dev/null || true
	rm -rf "$scratch"
}
trap cleanup EXIT

: >"$scratch/server.log"
"$program" serve --root "$scratch/root" --port 0 >"$scratch/server.log" 2>&1 &
server=$!
tries=0
until base=$(sed -n 's/^Serving .* at \(http:[^ ]*\)\/ .*/\1/p' "$scratch/server.log") && [ -n "$base" ]; do
	tries=$((tries + 1))
	if [ $tries -gt 50 ] || ! kill -0 "$server" 2>/dev/null; then
		cat "$scratch/server.log" >&2
		echo "test-clients.sh: the server does not start" >&2
		exit 1
	fi
	sleep 0.1
done

# mint REPOSITORY SCOPE: prints the secret of a new token.
mint() {
	"$program" token create "$1" --scope "$2" --root "$scratch/root" --json | sed -n 's/.*"plaintext": *"\([^"?]*\).*/\1/p'
}

status=0
for client; do
	echo "== $client"
	case $client in
	old-git)
		[ -n "${OLD_GIT_EXEC:-}" ] || {
			echo "skipped: OLD_GIT_EXEC names no old git"
			continue
		}
		;;
	gix)
		[ -n "$gix" ] || {
			echo "skipped: there is no gix in PATH, and GIX names none"
			continue
		}
		;;
	esac
	"$program" repo create "clients/$client" --root "$scratch/root" >/dev/null
	remote=$base/clients/$client.git
	write=$(mint "clients/$client" write)
	read=$(mint "clients/$client" read)
	mkdir "$scratch/$client"
	case $client in
	git)
		tests/clients/git_client.sh "$(command -v git)" "$remote" "$write" "$read" "$scratch/$client" || status=1
		;;
	old-git)
		tests/clients/git_client.sh "$OLD_GIT_EXEC" "$remote" "$write" "$read" "$scratch/$client" || status=1
		;;
	gix)
		tests/clients/gix_client.sh "$gix" "$remote" "$write" "$read" "$scratch/$client" || status=1
		;;
	dulwich | pygit2)
		install_python
		target/python/bin/python "tests/clients/${client}_client.py" "$remote" "$write" "$read" "$scratch/$client" || status=1
		;;
	isomorphic)
		install_node
		NODE_PATH=target/isomorphic/node_modules node tests/clients/isomorphic/client.cjs "$remote" "$write" "$read" "$scratch/$client" || status=1
		;;
	*)
		echo "test-clients.sh: unknown client: $client" >&2
		exit 2
		;;
	esac
	git -C "$scratch/root/clients/$client.git" -c safe.directory='*' fsck --strict || status=1
done
[ $status = 0 ] || cat "$scratch/server.log" >&2
exit $status

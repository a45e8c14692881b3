# Shared by these scripts: a repository, tokens, and `cgi`, which calls the program as a web server would.
#
# No web server and no port is needed: a request is a few environment variables and stdin, the answer is stdout. Copy
# what you need into the tests of your own project; docs/testing.md explains how.
#   ARTIFACTS_HTTP_BACKEND  the program

set -eu
: "${ARTIFACTS_HTTP_BACKEND:?set it to the path of the program, target/release/artifacts-http-backend for example}"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
mkdir root
export GIT_PROJECT_ROOT="$scratch/root" HOME="$scratch" GIT_CONFIG_NOSYSTEM=1 LC_ALL=C
unset GIT_DIR ARTIFACTS_AUTH ARTIFACTS_TOKENS ARTIFACTS_BASE_URL
git config --global user.name tester
git config --global user.email tester@localhost
git config --global init.defaultBranch main
git config --global safe.directory '*'

passed=0
failed=0

# mint REPOSITORY SCOPE: prints a new token.
mint() {
	"$ARTIFACTS_HTTP_BACKEND" token create "$1" --scope "$2" --json | sed -n 's/.*"plaintext": *"\([^"]*\)".*/\1/p'
}

# cgi METHOD PATH[?QUERY] [NAME=VALUE...]: runs one request with its body on stdin. Leaves the answer in the files head
# and body.
cgi() {
	method=$1
	path=${2%%\?*}
	query=
	case $2 in *\?*) query=${2#*\?} ;; esac
	shift 2
	env GATEWAY_INTERFACE=CGI/1.1 SERVER_PROTOCOL=HTTP/1.1 REQUEST_METHOD="$method" \
		SCRIPT_NAME=/git PATH_INFO="$path" QUERY_STRING="$query" REMOTE_ADDR=127.0.0.1 "$@" \
		timeout 30 "$ARTIFACTS_HTTP_BACKEND" >answer 2>stderr || true
	divide
}

# Splits the file answer at its first empty line.
divide() {
	sed -e '/^\r$/q' answer | tr -d '\r' >head
	tail -c "+$(($(sed -e '/^\r$/q' answer | wc -c) + 1))" answer >body
}

# packet TEXT: a pkt-line. A character \1 stands for NUL, which a shell variable cannot hold.
packet() {
	printf '%04x%s' $((${#1} + 4)) "$1" | tr '\001' '\000'
}

# contains NAME FILE TEXT: checks that the file contains the text, ignoring bytes that are not printable ASCII.
contains() {
	if tr -cd '\n -~' <"$2" | grep -qF -e "$3"; then
		passed=$((passed + 1))
		echo "ok - $1"
	else
		failed=$((failed + 1))
		echo "not ok - $1: $2 has no '$3' but"
		tr -cd '\n -~' <"$2" | head -n 10 | sed 's/^/#   /'
	fi
}

# same NAME EXPECTED ACTUAL
same() {
	if [ "$2" = "$3" ]; then
		passed=$((passed + 1))
		echo "ok - $1"
	else
		failed=$((failed + 1))
		printf 'not ok - %s\n#   expected: %s\n#   actual:   %s\n' "$1" "$2" "$3"
	fi
}

# succeeds NAME: checks that the status is 200, which a CGI program indicates by not sending a status.
succeeds() {
	same "$1" '' "$(grep -i '^status:' head || true)"
}

finish() {
	echo "$passed passed, $failed failed"
	[ $failed = 0 ]
}

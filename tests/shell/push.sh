#!/bin/sh
# A push written by hand: the commands, a flush, a pack; and the report. Then the same in unfriendly surroundings.
. "$(dirname "$0")/lib.sh"

"$ARTIFACTS_HTTP_BACKEND" repo create acme/site >/dev/null
token=$(mint acme/site write)
read=$(mint acme/site read)
git init --quiet work
head -c 3000000 /dev/urandom >work/file
git -C work add file
git -C work commit --quiet --message one
id=$(git -C work rev-parse HEAD)
zero=0000000000000000000000000000000000000000

# request REF: creates a branch at our commit. \1 stands for the NUL before the capabilities.
request() {
	packet "$zero $id $1$(printf '\001') report-status object-format=sha1"
	printf 0000
	echo HEAD | git -C work pack-objects --quiet --revs --stdout
}

# push TOKEN [NAME=VALUE...]
push() {
	bearer=$1
	shift
	cgi POST /acme/site.git/git-receive-pack HTTP_AUTHORIZATION="Bearer $bearer" CONTENT_TYPE=application/x-git-receive-pack-request "$@"
}

branch() {
	git -C "$GIT_PROJECT_ROOT/acme/site.git" rev-parse --verify --quiet "$1" || echo none
}

request refs/heads/main >main
push "$token" CONTENT_LENGTH="$(wc -c <main | tr -d ' ')" <main
contains 'the type' head 'Content-Type: application/x-git-receive-pack-result'
same 'the report' "$(packet 'unpack ok
'; packet 'ok refs/heads/main
'; printf 0000)" "$(cat body)"
same 'the branch' "$id" "$(branch refs/heads/main)"

request refs/heads/read >attempt
push "$read" CONTENT_LENGTH="$(wc -c <attempt | tr -d ' ')" <attempt
contains 'a read token: 403' head 'Status: 403 Forbidden'
same 'a read token: no branch' none "$(branch refs/heads/read)"

# A body that ends early looks like a clean end. The length reveals it, and without a length the pack does.
request refs/heads/short >attempt
head -c 100000 attempt >short
for length in "$(wc -c <attempt | tr -d ' ')" ''; do
	push "$token" CONTENT_LENGTH="$length" <short
	same "a body that ends early (length '$length'): no branch" none "$(branch refs/heads/short)"
	same "a body that ends early (length '$length'): nothing stays behind" '' "$(find root -name 'tmp*' -o -name '*.lock' -o -name 'incoming*')"
done

# Many servers write the whole request before they read the first byte of the answer. So the program must read all of it
# first and write nothing until then, whether it refuses the request or not.
for bearer in "$token" "$read"; do
	request "refs/heads/relay" >attempt
	rm -f written
	{
		cat attempt
		touch written
	} | env GATEWAY_INTERFACE=CGI/1.1 SERVER_PROTOCOL=HTTP/1.1 REQUEST_METHOD=POST SCRIPT_NAME=/git QUERY_STRING= \
		PATH_INFO=/acme/site.git/git-receive-pack HTTP_AUTHORIZATION="Bearer $bearer" \
		CONTENT_TYPE=application/x-git-receive-pack-request CONTENT_LENGTH="$(wc -c <attempt | tr -d ' ')" \
		timeout 20 "$ARTIFACTS_HTTP_BACKEND" 2>stderr | {
		tries=0
		while [ ! -e written ] && [ $tries -lt 100 ]; do
			sleep 0.1
			tries=$((tries + 1))
		done
		cat
	} >answer
	divide
	if [ "$bearer" = "$token" ]; then
		contains 'a relay that writes all before it reads: the report' body 'ok refs/heads/relay'
	else
		contains 'a relay that writes all before it reads: the refusal' head 'Status: 403 Forbidden'
	fi
done
finish

#!/bin/sh
# A request of version 2, written by hand; and how freely CONTENT_LENGTH may be set.
. "$(dirname "$0")/lib.sh"

"$ARTIFACTS_HTTP_BACKEND" repo create acme/site >/dev/null
git init --quiet work
git -C work commit --quiet --allow-empty --message one
git -C work push --quiet "$GIT_PROJECT_ROOT/acme/site.git" HEAD:refs/heads/main HEAD:refs/heads/other
token=$(mint acme/site read)
id=$(git -C work rev-parse HEAD)

{
	packet 'command=ls-refs
'
	packet 'object-format=sha1
'
	printf 0001
	packet 'peel
'
	packet 'symrefs
'
	packet 'ref-prefix HEAD
'
	packet 'ref-prefix refs/heads/m
'
	printf 0000
} >request

# ls_refs NAME=VALUE...
ls_refs() {
	cgi POST /acme/site.git/git-upload-pack HTTP_AUTHORIZATION="Bearer $token" HTTP_GIT_PROTOCOL=version=2 \
		CONTENT_TYPE=application/x-git-upload-pack-request "$@"
}

expected=$(packet "$id HEAD symref-target:refs/heads/main
"; packet "$id refs/heads/main
"; printf 0000)

ls_refs CONTENT_LENGTH="$(wc -c <request | tr -d ' ')" <request
succeeds 'the status'
contains 'the type' head 'Content-Type: application/x-git-upload-pack-result'
same 'HEAD, and what the prefix asks for' "$expected" "$(cat body)"

ls_refs <request
same 'without CONTENT_LENGTH the body ends with stdin' "$expected" "$(cat body)"
ls_refs CONTENT_LENGTH= <request
same 'with an empty one, too' "$expected" "$(cat body)"
ls_refs CONTENT_LENGTH=-1 <request
same 'with -1, too' "$expected" "$(cat body)"

# Some servers never close stdin, so the program must not wait for anything after the announced length.
mkfifo stdin
sleep 20 >stdin &
sleeper=$!
(cat request; sleep 20) >stdin 2>/dev/null &
feeder=$!
ls_refs CONTENT_LENGTH="$(wc -c <request | tr -d ' ')" <stdin
same 'nothing behind CONTENT_LENGTH is waited for' "$expected" "$(cat body)"
same 'the input was still open' 0 "$(kill -0 $feeder; echo $?)"
kill $sleeper $feeder

gzip -c request >request.gz
ls_refs HTTP_CONTENT_ENCODING=gzip CONTENT_LENGTH="$(wc -c <request.gz | tr -d ' ')" <request.gz
same 'a compressed request' "$expected" "$(cat body)"
ls_refs CONTENT_LENGTH="$(wc -c <request.gz | tr -d ' ')" <request.gz
same 'a compressed request whose header a server dropped' "$expected" "$(cat body)"
finish

#!/bin/sh
# What a client is told first: the refs in version 0, the capabilities in version 2.
. "$(dirname "$0")/lib.sh"

"$ARTIFACTS_HTTP_BACKEND" repo create acme/site >/dev/null
git init --quiet work
git -C work commit --quiet --allow-empty --message one
git -C work push --quiet "$GIT_PROJECT_ROOT/acme/site.git" HEAD:refs/heads/main
token=$(mint acme/site read)

cgi GET '/acme/site.git/info/refs?service=git-upload-pack' HTTP_AUTHORIZATION="Bearer $token" </dev/null
succeeds 'version 0: the status'
contains 'version 0: the type' head 'Content-Type: application/x-git-upload-pack-advertisement'
contains 'version 0: the service' body '001e# service=git-upload-pack'
contains 'version 0: HEAD' body "$(git -C work rev-parse HEAD) HEAD"
contains 'version 0: the branch' body "$(git -C work rev-parse HEAD) refs/heads/main"

cgi GET '/acme/site.git/info/refs?service=git-upload-pack' HTTP_AUTHORIZATION="Bearer $token" HTTP_GIT_PROTOCOL=version=2 </dev/null
contains 'version 2: the version' body '000eversion 2'
contains 'version 2: ls-refs' body 'ls-refs'
same 'version 2: no refs' 0 "$(tr -cd '\n -~' <body | grep -c refs/heads/main)"

cgi HEAD '/acme/site.git/info/refs?service=git-upload-pack' HTTP_AUTHORIZATION="Bearer $token" </dev/null
succeeds 'HEAD: the status'
same 'HEAD: no body' 0 "$(wc -c <body | tr -d ' ')"
finish

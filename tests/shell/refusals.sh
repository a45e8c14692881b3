#!/bin/sh
# Requests without a valid token: the statuses, and that no answer reveals whether a repository exists.
. "$(dirname "$0")/lib.sh"

"$ARTIFACTS_HTTP_BACKEND" repo create acme/site >/dev/null
"$ARTIFACTS_HTTP_BACKEND" repo create acme/other >/dev/null
read=$(mint acme/site read)
foreign=$(mint acme/other write)
refs='/acme/site.git/info/refs?service=git-upload-pack'

# without_id FILE: the answer without the request's id.
without_id() {
	sed -e 's/request [0-9a-f]*/request/' "$1"
}

cgi GET "$refs" </dev/null
contains 'no token: 401' head 'Status: 401 Unauthorized'
contains 'no token: the challenge' head 'WWW-Authenticate: Basic realm="artifacts"'
contains 'no token: a sentence' head 'Content-Type: text/plain'

cgi GET "$refs" HTTP_AUTHORIZATION="Bearer $foreign" </dev/null
contains 'a foreign token as Bearer: 403' head 'Status: 403 Forbidden'
without_id answer >foreign-answer
cgi GET '/acme/nothing.git/info/refs?service=git-upload-pack' HTTP_AUTHORIZATION="Bearer $foreign" </dev/null
same 'a repository that does not exist is answered like a foreign one' "$(cat foreign-answer)" "$(without_id answer)"

cgi GET "$refs" HTTP_AUTHORIZATION="Basic $(printf 'x:%s' "${foreign%%\?*}" | base64 | tr -d '\n')" </dev/null
contains 'a foreign token as Basic: 401' head 'Status: 401 Unauthorized'

cgi GET "$refs" HTTP_AUTHORIZATION="Bearer $read, Bearer $read" </dev/null
contains 'two credentials: 403' head 'Status: 403 Forbidden'

cgi GET '/acme/site.git/info/refs?service=git-receive-pack' HTTP_AUTHORIZATION="Bearer $read" </dev/null
contains 'a read token that pushes: 403' head 'Status: 403 Forbidden'

cgi GET '/acme/../acme/site.git/info/refs?service=git-upload-pack' HTTP_AUTHORIZATION="Bearer $read" </dev/null
contains 'no way around through ..: 404' head 'Status: 404 Not Found'
cgi PUT "$refs" HTTP_AUTHORIZATION="Bearer $read" </dev/null
contains 'another method: 405' head 'Status: 405 Method Not Allowed'
contains 'another method: what is allowed' head 'Allow: GET'
finish

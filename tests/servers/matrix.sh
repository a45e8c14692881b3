# What every web server must be able to carry: real git clients against $url, with repositories in $root. Sourced after
# lib.sh; `matrix` runs everything.

BIG=${BIG:-100000000}

# mint REPOSITORY ARGUMENTS...: prints a token's plaintext.
mint() {
	"$program" token create "$@" --json | sed -n 's/.*"plaintext": *"\([^"]*\)".*/\1/p'
}

bearer() {
	echo "http.extraHeader=Authorization: Bearer $1"
}

# The URL with the token as its password; git sends it as Basic after a 401.
with_password() {
	echo "${url/:\/\//:\/\/x:${1%%\?*}@}"
}

# The record of a token: a file named by the SHA-256 of its secret.
record() {
	find "$root/.artifacts/tokens" -name "$(printf %s "${1%%\?*}" | sha256sum | cut -d ' ' -f 1).json"
}

object_of() {
	git -C "$root/$1.git" rev-parse --verify --quiet "$2"
}

matrix() {
	timed prepare
	local version
	for version in 0 1 2; do
		timed everyday $version
	done
	timed large
	timed credentials
	timed refusals
	timed refusals_with_a_body
	timed vanishing_clients
}

timed() {
	local from=$SECONDS
	"$@"
	echo "# $*: $((SECONDS - from)) s"
}

# What a web server that authenticates by itself must carry: anybody may read, and alice may push, as with git
# http-backend.
drop_in() {
	cd "$work" || exit 1
	local remote=$url/site.git alice=${url/:\/\//:\/\/alice:secret@}/site.git version
	git init --quiet --bare "$root/site.git"
	git -C "$root/site.git" config core.logAllRefUpdates true
	git init --quiet one
	for version in 0 1 2; do
		git -C one commit --quiet --allow-empty --message "$version"
		refused "v$version: nobody pushes without a name" 'could not read Username' git -C one -c "protocol.version=$version" push "$remote" HEAD:main
		refused "v$version: nobody pushes with a wrong password" 'Authentication failed' \
			git -C one -c "protocol.version=$version" push "${alice/secret/wrong}" HEAD:main
		check "v$version: alice pushes" git -C one -c "protocol.version=$version" push --quiet "$alice" HEAD:main
		check "v$version: everybody clones" git -c "protocol.version=$version" clone --quiet --bare "$remote" "clone$version"
		same "v$version: the clone has what was pushed" "$(git -C one rev-parse HEAD)" "$(git -C "clone$version" rev-parse main)"
	done
	same 'a claimed name is no name' 401 \
		"$(status --request POST --user alice: --header 'Content-Type: application/x-git-receive-pack-request' --data 0000 "$remote/git-receive-pack")"
	same 'the reflog names alice' alice "$(cut -d ' ' -f 3 "$root/site.git/logs/refs/heads/main" | sort -u)"
}

prepare() {
	cd "$work" || exit 1
	"$program" repo create acme/site >"$work/out" 2>&1 || fail "repo create: $(cat "$work/out")"
	"$program" repo create acme/other >"$work/out" 2>&1 || fail "repo create: $(cat "$work/out")"
	write=$(mint acme/site --scope write)
	read=$(mint acme/site --scope read)
	foreign=$(mint acme/other --scope write)
	revoked=$(mint acme/site --scope write)
	expired=$(mint acme/site --scope write)
	malformed=art_v1_%zz
	[ "$write" ] && [ "$read" ] && [ "$foreign" ] && [ "$revoked" ] && [ "$expired" ] || fail "token create gave no token"
	# The format of records is documented (docs/tokens.md), so a test may age them.
	sed -i -e 's/"created_at": *[0-9]*/"created_at":1000000000/' -e 's/"expires_at": *[0-9]*/"expires_at":1000086400/' "$(record "$expired")"
	expired=${expired%%\?*}
	"$program" token revoke acme/site "${revoked%%\?*}" >"$work/out" 2>&1 || fail "token revoke: $(cat "$work/out")"
	# A file that does not compress, so that BIG bytes are transferred.
	head -c "$BIG" /dev/urandom >big-file
}

# Everyday work, with one protocol version.
everyday() {
	local v=$1 name=acme/daily$1 git
	"$program" repo create "$name" >"$work/out" 2>&1 || fail "repo create: $(cat "$work/out")"
	local token remote=$url/$name.git
	token=$(mint "$name" --scope write)
	git=(git -c "protocol.version=$v" -c "$(bearer "$token")")

	check "v$v: ls-remote of an empty repository" "${git[@]}" ls-remote "$remote"
	check "v$v: clone of an empty repository" "${git[@]}" clone --quiet "$remote" "one$v"
	echo one >"one$v/file"
	git -C "one$v" add file
	git -C "one$v" commit --quiet --message one
	check "v$v: first push" "${git[@]}" -C "one$v" push --quiet --set-upstream origin HEAD
	check "v$v: clone" "${git[@]}" clone --quiet "$remote" "two$v"
	same "v$v: the clone has what was pushed" "$(git -C "one$v" rev-parse HEAD)" "$(git -C "two$v" rev-parse HEAD)"

	# Enough commits that the sides negotiate, and that the request is long enough to be compressed.
	local i
	for i in $(seq 40); do
		git -C "one$v" commit --quiet --allow-empty --message "$i"
	done
	echo two >"one$v/file"
	git -C "one$v" commit --quiet --all --message two
	check "v$v: push" "${git[@]}" -C "one$v" push --quiet
	git -C "two$v" commit --quiet --allow-empty --message theirs
	refused "v$v: push of what is not a descendant" 'rejected' "${git[@]}" -C "two$v" push origin HEAD
	check "v$v: fetch" "${git[@]}" -C "two$v" fetch --quiet
	same "v$v: the fetch brought what was pushed" "$(git -C "one$v" rev-parse HEAD)" "$(git -C "two$v" rev-parse origin/HEAD)"
	check "v$v: force push" "${git[@]}" -C "two$v" push --quiet --force origin HEAD
	same "v$v: the branch was forced" "$(git -C "two$v" rev-parse HEAD)" "$(object_of "$name" "$(git -C "two$v" branch --show-current)")"

	git -C "two$v" tag --annotate --message 'a tag' v1
	git -C "two$v" tag light
	check "v$v: push of tags" "${git[@]}" -C "two$v" push --quiet --tags
	check "v$v: fetch of tags" "${git[@]}" -C "one$v" fetch --quiet --tags
	same "v$v: the tag arrived" "$(git -C "two$v" rev-parse v1)" "$(git -C "one$v" rev-parse v1)"
	same "v$v: ls-remote lists branch and tags" "$(git -C "two$v" rev-parse HEAD HEAD v1 'v1^{}' light)" \
		"$("${git[@]}" ls-remote "$remote" HEAD 'refs/heads/*' 'refs/tags/v1*' | cut -f 1; "${git[@]}" ls-remote "$remote" refs/tags/light | cut -f 1)"
	check "v$v: deletion" "${git[@]}" -C "two$v" push --quiet origin :refs/tags/light
	same "v$v: the tag is gone" "" "$(object_of "$name" refs/tags/light)"
	check "v$v: the repository is sound" git -C "$root/$name.git" fsck --strict
}

large() {
	local git=(git -c "$(bearer "$write")")
	git init --quiet large
	mv big-file large/file
	git -C large -c core.compression=0 add file
	git -C large -c core.compression=0 commit --quiet --message large
	check "a push of $BIG bytes, chunked" "${git[@]}" -C large push --quiet "$url/acme/site.git" HEAD:refs/heads/large
	check "a clone of $BIG bytes" "${git[@]}" clone --quiet --bare --branch large "$url/acme/site.git" large-clone
	same "both have the same branch" "$(git -C large rev-parse HEAD)" "$(git -C large-clone rev-parse refs/heads/large)"
	rm -rf large-clone
	check "deletion of it" "${git[@]}" -C large push --quiet "$url/acme/site.git" :refs/heads/large
	git -C large commit --quiet --allow-empty --message again
	check "a push with a known length" "${git[@]}" -C large -c http.postBuffer=2000000000 push --quiet "$url/acme/site.git" HEAD:refs/heads/large
	check "the repository is sound" git -C "$root/acme/site.git" fsck
}

credentials() {
	local remote=$url/acme/site.git
	check 'a token as Bearer' git -c "$(bearer "$read")" ls-remote "$remote"
	check 'its secret alone as Bearer' git -c "$(bearer "${read%%\?*}")" ls-remote "$remote"
	check 'a token as a password in the URL' git ls-remote "$(with_password "$read")/acme/site.git"
	check 'a push with the token in the URL' git -C large push --quiet "$(with_password "$write")/acme/site.git" HEAD:refs/heads/basic
	# git asks the helper only after a 401.
	local helper="!f() { test \"\$1\" = get && echo username=x && echo 'password=$write'; }; f"
	check 'a credential helper, asked after a 401' git -c credential.helper="$helper" ls-remote "$remote"
	check 'a push with a credential helper' git -C large -c credential.helper="$helper" push --quiet "$remote" HEAD:refs/heads/helper
	refused 'without a token git asks for a name' 'could not read Username' git ls-remote "$remote"
}

# Everything that must be refused, in both ways: what curl sees, and what git shows.
refusals() {
	refusal 'no repository' "${foreign%%\?*}" git-upload-pack 403 401 acme/nothing
	refusal 'foreign' "$foreign" git-upload-pack 403 401
	refusal 'expired' "$expired" git-upload-pack 403 401
	refusal 'presented as expired' "${write%%\?*}?expires=1000000000" git-upload-pack 403 401
	refusal 'revoked' "$revoked" git-upload-pack 403 401
	refusal 'malformed' "$malformed" git-upload-pack 403 401
	refusal 'unknown' art_v1_0123456789abcdef0123456789abcdef01234567 git-upload-pack 403 401
	refusal 'expired, pushing,' "$expired" git-receive-pack 403 401
	refusal 'read, pushing,' "$read" git-receive-pack 403 403
	same 'no token: status' 401 "$(status "$url/acme/site.git/info/refs?service=git-upload-pack")"
	same 'no token, pushing: status' 401 "$(status "$url/acme/site.git/info/refs?service=git-receive-pack")"
	same 'no token: the challenge' 'www-authenticate: basic realm="artifacts"' \
		"$(curl --silent --include "$url/acme/site.git/info/refs?service=git-upload-pack" | tr -d '\r' | tr A-Z a-z | grep '^www-authenticate')"
}

status() {
	curl --silent --max-time 60 --output "$work/answer" --write-out '%{http_code}' "$@"
}

# refusal NAME TOKEN SERVICE BEARER-STATUS BASIC-STATUS [REPOSITORY]
refusal() {
	local name=$1 token=$2 service=$3 repository=${6:-acme/site}
	local refs="$url/$repository.git/info/refs?service=$service"
	local says refspec= git=(ls-remote)
	[ "$service" = git-receive-pack ] && git=(-C large push) && refspec=HEAD:refs/heads/refused
	same "$name as Bearer: status" "$4" "$(status --header "Authorization: Bearer $token" "$refs")"
	says=$(head -n 1 "$work/answer")
	same "$name as Bearer: a sentence" 1 "$(grep --count '[a-z]' "$work/answer")"
	refused "$name as Bearer: git shows the sentence" "remote: .*${says:0:20}" git -c "$(bearer "$token")" "${git[@]}" "$url/$repository.git" $refspec
	same "$name as Basic: status" "$5" "$(status --user "x:$token" "$refs")"
	# git does not show the message of a 401 to clients without credentials; with wrong ones it does.
	local helper="!f() { test \"\$1\" = get && echo username=x && echo 'password=$token'; }; f"
	if [ "$5" = 401 ]; then says='Authentication failed'; else says=" $5"; fi
	refused "$name as Basic: git says why" "$says" git -c credential.helper="$helper" "${git[@]}" "$url/$repository.git" $refspec
}

# A refusal of a request with a large body: the answer must arrive whole, ten times out of ten.
refusals_with_a_body() {
	local push=$url/acme/site.git/git-receive-pack chunked=(--header 'Transfer-Encoding: chunked')
	push_request body refs/heads/vanished
	head -c 40000 body >small
	ten_times "a foreign token with $BIG bytes" body 403 --header "Authorization: Bearer $foreign" "$push"
	ten_times "no token with $BIG bytes, chunked" body 401 "${chunked[@]}" "$push"
	ten_times "a read token with $BIG bytes, chunked" body 403 --header "Authorization: Bearer $read" "${chunked[@]}" "$push"
	ten_times 'a foreign token with 40 kB' small 403 --header "Authorization: Bearer $foreign" "$push"
	ten_times 'no token with 40 kB, chunked' small 401 "${chunked[@]}" "$push"
	ten_times 'a read token with 40 kB' small 403 --header "Authorization: Bearer $read" "$push"
}

# ten_times NAME BODY STATUS CURL-ARGUMENTS...
ten_times() {
	local name=$1 body=$2 expected=$3 _ right=0 first= seen
	shift 3
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		rm -f answer
		seen=$(curl --silent --max-time 60 --header 'Expect:' --header 'Content-Type: application/x-git-receive-pack-request' \
			--request POST --upload-file "$body" --output answer --write-out '%{http_code} %{exitcode}' "$@")
		# The message must be there, and the same each time except for the request's id.
		seen="$seen $(sed 's/request [0-9a-f]*/request/' answer 2>/dev/null)"
		first=${first:-$seen}
		case $seen in
		"$expected 0 "*[a-z]*) [ "$seen" = "$first" ] && right=$((right + 1)) ;;
		*) echo "# $seen" ;;
		esac
	done
	same "$name: right answers" '10 of 10' "$right of 10"
}

# push_request FILE REF: writes what git would send to create a branch with a large pack.
push_request() {
	local id
	id=$(git -C large rev-parse HEAD)
	{
		packet "0000000000000000000000000000000000000000 $id $2"$'\1'' report-status object-format=sha1'
		printf 0000
		echo HEAD | git -C large -c core.compression=0 pack-objects --quiet --revs --stdout
	} >"$1"
}

# packet TEXT: a pkt-line; \1 stands for NUL, which a shell variable cannot hold.
packet() {
	printf '%04x%s' $((${#1} + 4)) "$1" | tr '\001' '\000'
}

# Clients that disconnect in the middle: no process, lock or temporary file may stay behind.
vanishing_clients() {
	local before
	before=$(files)
	vanish 'a client that vanishes in mid-push, chunked' git-receive-pack body --limit-rate $((BIG / 4)) --header 'Transfer-Encoding: chunked'
	vanish 'a client that vanishes in mid-push, known length' git-receive-pack body --limit-rate $((BIG / 4))
	{
		packet "want $(git -C large rev-parse HEAD) side-band-64k ofs-delta"$'\n'
		printf 0000
		packet 'done'$'\n'
	} >want
	vanish 'a client that vanishes in mid-clone' git-upload-pack want --limit-rate $((BIG / 20))
	same 'vanished clients leave no file behind' '' "$(diff <(echo "$before") <(files))"
	same 'and no branch' '' "$(object_of acme/site refs/heads/vanished)"
	check 'the next push works' git -C large -c "$(bearer "$write")" push --quiet "$url/acme/site.git" HEAD:refs/heads/afterwards
	eventually 'nothing runs when nobody asks' nothing_runs
}

# vanish NAME SERVICE BODY CURL-ARGUMENTS...
vanish() {
	local name=$1 service=$2 body=$3 client
	shift 3
	curl --silent --output answer --header 'Expect:' --header "Authorization: Bearer $write" \
		--header "Content-Type: application/x-$service-request" --request POST --upload-file "$body" "$@" "$url/acme/site.git/$service" &
	client=$!
	sleep 1
	local over=
	nothing_runs >/dev/null && over=yes
	{
		kill -9 $client
		wait $client
	} 2>/dev/null
	if [ $over ]; then
		not_ok "$name" <<<'it was over before its client could vanish'
		return
	fi
	eventually "$name: its process ends" nothing_runs
}

# The names of everything below the root.
files() {
	(cd "$root" && find . | sort)
}

# Lists processes of the program that still run, and fails if there are any.
nothing_runs() {
	local each
	for each in /proc/[0-9]*/exe; do
		[ "$(readlink "$each")" = "$program" ] || continue
		each=${each%/exe}
		# The embedded server is the same program, and goes on running.
		tr '\0' ' ' <"$each/cmdline" | grep --quiet ' serve ' && continue
		echo "${each#/proc/}: $(tr '\0' ' ' <"$each/cmdline")"
		return 1
	done 2>/dev/null
}

#!/bin/sh
# The services over pipes: a shell at the other end, git over file://, a forced command of ssh, git-daemon.
project=$(cd "$(dirname "$0")/../.." && pwd)
. "$project/tests/shell/lib.sh"

"$ARTIFACTS_HTTP_BACKEND" repo create acme/site >/dev/null
site=$GIT_PROJECT_ROOT/acme/site.git
git init --quiet work
git -C work commit --quiet --allow-empty --message one
id=$(git -C work rev-parse HEAD)
service() {
	timeout 30 "$ARTIFACTS_HTTP_BACKEND" "$@"
}

# By hand: the whole conversation is stdin and stdout.
git -C work push --quiet --receive-pack="$ARTIFACTS_HTTP_BACKEND receive-pack" "file://$site" HEAD:refs/heads/main
printf 0000 | service upload-pack "$site" >body
contains 'version 0: HEAD' body "$id HEAD"
{
	packet 'command=ls-refs' && printf 0001 && packet 'ref-prefix refs/heads/' && printf 0000
} | GIT_PROTOCOL=version=2 service upload-pack --stateless-rpc "$site" >body
same 'version 2: ls-refs' "$(printf '%s' "003d$id refs/heads/main")" "$(head -n 1 body)"
status=0
service receive-pack --nonsense "$site" 2>stderr || status=$?
same 'a wrong option: the status' 129 $status
contains 'a wrong option: the words' stderr "unknown option \`nonsense'"
status=0
service upload-pack nowhere 2>stderr </dev/null || status=$?
same 'no repository: the status' 128 $status
contains 'no repository: the words' stderr "'nowhere' does not appear to be a git repository"

# Over file://, in every version.
for version in 0 1 2; do
	git -c protocol.version=$version clone --quiet --no-local --upload-pack="$ARTIFACTS_HTTP_BACKEND upload-pack" \
		"file://$site" clone-$version
	same "version $version: a clone" "$id" "$(git -C clone-$version rev-parse HEAD)"
done

# ssh with a forced command: the script from docs/deployment with its paths replaced, and a stand-in for sshd.
sed -e "s|^root=.*|root=$GIT_PROJECT_ROOT|" -e "s|^program=.*|program=$ARTIFACTS_HTTP_BACKEND|" \
	"$project/docs/deployment/ssh/artifacts-ssh" >artifacts-ssh
cat >sshd <<-'END'
	#!/bin/sh
	for SSH_ORIGINAL_COMMAND; do :; done
	export SSH_ORIGINAL_COMMAND
	exec sh "$HOME/artifacts-ssh" $KEY
END
chmod +x sshd
# over_ssh 'WORDS OF THE KEY' GIT-WORDS...
over_ssh() {
	key=$1
	shift
	KEY=$key GIT_SSH_COMMAND="$scratch/sshd" GIT_SSH_VARIANT=ssh git "$@" 2>stderr
}
over_ssh 'read ci' clone --quiet ssh://git@host/acme/site.git over-ssh
same 'ssh: a clone' "$id" "$(git -C over-ssh rev-parse HEAD)"
over_ssh 'read ci' clone --quiet git@host:acme/site again
same 'ssh: the short form of an address' "$id" "$(git -C again rev-parse HEAD)"
git -C over-ssh commit --quiet --allow-empty --message two
same 'ssh: a key that may read only does not push' no "$(over_ssh 'read ci' -C over-ssh push --quiet origin HEAD || echo no)"
contains 'ssh: and is told' stderr 'this key may read only'
git -C "$site" config core.logAllRefUpdates always
over_ssh 'write ann' -C over-ssh push --quiet origin HEAD
same 'ssh: another one does' "$(git -C over-ssh rev-parse HEAD)" "$(git -C "$site" rev-parse main)"
contains 'ssh: the reflog says who' "$site/logs/refs/heads/main" 'ann <ann@ssh>'
for path in acme/../acme/site.git .artifacts/tokens "it's" 'a;id' -x; do
	same "ssh: '$path' is no repository" no "$(over_ssh 'write ann' ls-remote "ssh://git@host/$path" || echo no)"
done
for words in 'git-upload-archive '"'x'" id "git-upload-pack '/acme/site.git'; id" ''; do
	same "ssh: '$words' is not run" 128 "$(SSH_ORIGINAL_COMMAND=$words sh ./artifacts-ssh write ann >body 2>&1 </dev/null || echo $?)"
done

# git-daemon, if installed, with the program in its exec path.
if [ -x "$(git --exec-path)/git-daemon" ]; then
	mkdir daemon
	ln -s "$(git --exec-path)/git-daemon" daemon/
	cat >daemon/git <<-END
		#!/bin/sh
		case \$1 in
		upload-pack | receive-pack) echo "\$@" >>"$scratch/calls"; exec "$ARTIFACTS_HTTP_BACKEND" "\$@" ;;
		esac
		exec "$(command -v git)" "\$@"
	END
	chmod +x daemon/git
	port=$((20000 + $$ % 20000))
	GIT_EXEC_PATH=$scratch/daemon git daemon --reuseaddr --listen=127.0.0.1 --port=$port --base-path="$GIT_PROJECT_ROOT" \
		--export-all --timeout=20 2>daemon.log &
	daemon=$!
	trap 'kill $daemon 2>/dev/null || true; rm -rf "$scratch"' EXIT
	for version in 0 2; do
		tries=0
		until git -c protocol.version=$version clone --quiet git://127.0.0.1:$port/acme/site.git daemon-$version 2>stderr; do
			tries=$((tries + 1))
			[ $tries -lt 40 ] || break
			sleep 0.1
		done
		same "git-daemon: a clone in version $version" "$(git -C "$site" rev-parse main)" "$(git -C daemon-$version rev-parse HEAD)"
	done
	contains 'git-daemon: the program was called' calls 'upload-pack --strict --timeout=20'
	kill $daemon
	wait $daemon || true
fi
finish

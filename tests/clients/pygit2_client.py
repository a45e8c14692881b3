"""libgit2 as a client, through pygit2: first push, clone, fetch, push, a shallow clone, a refused push. Run by scripts/test-clients.sh."""

import os
import sys

import pygit2

url, write, read, scratch = sys.argv[1:5]
TESTER = pygit2.Signature("tester", "tester@localhost")


def with_token(token):
    return pygit2.RemoteCallbacks(credentials=pygit2.UserPass("x", token))


def commit(repository, text):
    with open(os.path.join(repository.workdir, "file"), "w") as file:
        file.write(text)
    repository.index.add("file")
    repository.index.write()
    parents = [] if repository.head_is_unborn else [repository.head.target]
    return repository.create_commit("HEAD", TESTER, TESTER, text[:20], repository.index.write_tree(), parents)


one = pygit2.init_repository(os.path.join(scratch, "one"), initial_head="main")
first = commit(one, os.urandom(200_000).hex())
origin = one.remotes.create("origin", url)
origin.push(["refs/heads/main"], callbacks=with_token(write))
print("ok - first push")

two = pygit2.clone_repository(url, os.path.join(scratch, "two"), callbacks=with_token(read))
assert two.head.target == first, two.head.target
print("ok - clone")

second = commit(one, "second")
origin.push(["refs/heads/main"], callbacks=with_token(write))
two.remotes["origin"].fetch(callbacks=with_token(read))
assert two.references["refs/remotes/origin/main"].target == second
print("ok - push and fetch")

commit(one, "third")
origin.push(["refs/heads/main"], callbacks=with_token(write))
three = pygit2.clone_repository(url, os.path.join(scratch, "three"), callbacks=with_token(read), depth=1)


def history():
    return sum(1 for _ in three.walk(three.references["refs/remotes/origin/main"].target))


assert three.is_shallow and history() == 1, history()
print("ok - shallow clone")
three.remotes["origin"].fetch(callbacks=with_token(read), depth=2)
assert three.is_shallow and history() == 2, history()
three.remotes["origin"].fetch(callbacks=with_token(read), depth=2**31 - 1)
assert not three.is_shallow and history() == 3, history()
print("ok - deepened, and completed")

try:
    origin.push(["refs/heads/main:refs/heads/refused"], callbacks=with_token(read))
except pygit2.GitError as error:
    print(f"ok - a read token cannot push ({error})")
else:
    sys.exit("not ok - a read token has pushed")

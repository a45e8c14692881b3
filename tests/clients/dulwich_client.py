"""dulwich as a client: first push, clone, fetch, push, shallow and partial clones, a refused push. Run by scripts/test-clients.sh."""

import os
import sys

from dulwich import porcelain
from dulwich.errors import GitProtocolError

url, write, read, scratch = sys.argv[1:5]
AUTHOR = b"tester <tester@localhost>"


def commit(directory, text):
    with open(os.path.join(directory, "file"), "w") as file:
        file.write(text)
    porcelain.add(directory, ["file"])
    return porcelain.commit(directory, message=text, author=AUTHOR, committer=AUTHOR)


def push(directory, token, ref=b"refs/heads/main"):
    # Large enough for more than one chunk of the body.
    with open(os.devnull, "wb") as quiet:
        porcelain.push(
            directory, url, [b"HEAD:" + ref], username="x", password=token, outstream=quiet, errstream=quiet
        )


one, two = os.path.join(scratch, "one"), os.path.join(scratch, "two")
porcelain.init(one).close()
first = commit(one, os.urandom(200_000).hex())
push(one, write)
print("ok - first push")

with open(os.devnull, "wb") as quiet:
    porcelain.clone(url, two, username="x", password=read, errstream=quiet).close()
    assert porcelain.Repo(two).head() == first
    print("ok - clone")

    second = commit(one, "second")
    push(one, write)
    fetched = porcelain.fetch(two, url, username="x", password=read, outstream=quiet, errstream=quiet)
    assert fetched.refs[b"refs/heads/main"] == second, fetched.refs
    assert second in porcelain.Repo(two).object_store
    print("ok - push and fetch")

def history(directory):
    """How many commits there are, to the boundary."""
    with porcelain.Repo(directory) as repository:
        return sum(1 for _ in repository.get_walker([repository.refs[b"refs/remotes/origin/main"]]))


three, four = os.path.join(scratch, "three"), os.path.join(scratch, "four")
commit(one, "third")
push(one, write)
with open(os.devnull, "wb") as quiet:
    for version in (0, 2):
        directory = f"{three}-{version}"
        porcelain.clone(
            url, directory, username="x", password=read, errstream=quiet, depth=1, protocol_version=version
        ).close()
        assert history(directory) == 1, history(directory)
        print(f"ok - shallow clone, protocol {version}")
        porcelain.fetch(directory, "origin", username="x", password=read, outstream=quiet, errstream=quiet, depth=2)
        assert history(directory) == 2, history(directory)
        porcelain.fetch(directory, "origin", username="x", password=read, outstream=quiet, errstream=quiet, unshallow=True)
        assert history(directory) == 3, history(directory)
        print("ok - deepened, and completed")
    porcelain.clone(
        url, four, username="x", password=read, errstream=quiet, bare=True, filter_spec="blob:none", protocol_version=2
    ).close()
    with porcelain.Repo(four) as partial:
        kinds = {partial[id].type_name for id in partial.object_store}
        assert kinds == {b"commit", b"tree"}, kinds
    print("ok - partial clone")

try:
    push(one, read, b"refs/heads/refused")
except (GitProtocolError, porcelain.Error) as error:
    print(f"ok - a read token cannot push ({type(error).__name__})")
else:
    sys.exit("not ok - a read token has pushed")

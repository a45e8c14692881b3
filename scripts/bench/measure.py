"""Runs CGI requests against two programs in turn and prints one's figures divided by the other's.

Repositories are made once, below --directory; pushes go to copies. Both programs see the same environment and the same bytes.
"""

import argparse
import ctypes
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import time

COMMITS = 3000
FILES = 400
MANY_REFS = 50_000
ZERO = "0" * 40


def git(repository, *args, data=None, source=None):
    """Runs git; its standard output. It reads `data`, or the file `source`."""
    environment = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    command = ["git", "-C", str(repository), *args]
    given = {"stdin": source} if source else {"input": data}
    return subprocess.run(command, **given, stdout=subprocess.PIPE, check=True, env=environment).stdout


def history():
    """A history for `git fast-import`: files of text in directories, a few lines changed in each commit."""
    chance = random.Random(20)
    words = [f"{chance.randrange(1 << 40):x}" for _ in range(4000)]
    line = lambda: " ".join(chance.choices(words, k=8))
    files = {
        f"d{chance.randrange(20)}/d{chance.randrange(5)}/f{number}": [line() for _ in range(chance.randrange(20, 400))]
        for number in range(FILES)
    }
    for mark in range(1, COMMITS + 1):
        message = line()
        yield f"commit refs/heads/main\nmark :{mark}\ncommitter C <c@example.com> {1_600_000_000 + 600 * mark} +0000\n"
        yield f"data {len(message)}\n{message}\n"
        changed = files if mark == 1 else chance.sample(sorted(files), chance.randrange(1, 5))
        for name in changed:
            lines = files[name]
            if mark > 1:
                lines[chance.randrange(len(lines))] = line()
            text = "\n".join(lines) + "\n"
            yield f"M 644 inline {name}\ndata {len(text)}\n{text}\n"
        if mark % 100 == 0:
            yield f"tag v{mark}\nfrom :{mark}\ntagger T <t@example.com> {1_600_000_000 + 600 * mark} +0000\ndata 1\nt\n"


class Repositories:
    """Bare repositories below a directory, each made when it is first asked for."""

    def __init__(self, directory, source):
        self.directory, self.source = directory, source

    def __call__(self, name):
        path = self.directory / f"{name}.git"
        if not path.exists():
            part = self.directory / f"{name}.part"
            shutil.rmtree(part, ignore_errors=True)
            print(f"making {path}", file=sys.stderr)
            getattr(self, name.replace("-", "_"))(part)
            part.rename(path)
        return path

    def best(self, path):
        """One pack with bitmap and commit-graph."""
        self.copied(path)
        git(path, "config", "uploadpack.allowFilter", "true")
        git(path, "repack", "-adbq")
        git(path, "commit-graph", "write", "--reachable")

    def plain(self, path):
        """One pack, nothing else: git gives bare repositories bitmaps unless it is told not to."""
        self.copied(path)
        git(path, "-c", "repack.writeBitmaps=false", "repack", "-adq")

    def loose(self, path):
        """The newest commits only, all objects loose."""
        git(self.directory, "init", "-q", "--bare", "-b", "main", str(path))
        old, new = self.ends(100)
        pack = git(self("best"), "pack-objects", "--revs", "--stdout", "-q", data=f"{new}\n".encode())
        git(path, "unpack-objects", "-q", data=pack)
        git(path, "update-ref", "refs/heads/main", new)
        git(path, "update-ref", "refs/heads/old", old)

    def many_refs(self, path):
        """Very many packed refs."""
        shutil.copytree(self("best"), path)
        tip = git(path, "rev-parse", "HEAD").decode().strip()
        lines = "".join(f"create refs/changes/{at % 100:02}/{at} {tip}\n" for at in range(MANY_REFS))
        git(path, "update-ref", "--stdin", data=lines.encode())
        git(path, "pack-refs", "--all")

    def empty(self, path):
        """Nothing."""
        git(self.directory, "init", "-q", "--bare", "-b", "main", str(path))

    def recent(self, path):
        """As pushes leave it: the newest hundred commits loose, the older ones in one pack with bitmaps."""
        old, new = self.ends(100)
        self.up_to(old, path)
        pack = git(self("best"), "pack-objects", "--revs", "--thin", "--stdout", "-q", data=f"{new}\n^{old}\n".encode())
        git(path, "unpack-objects", "-q", data=pack)
        git(path, "update-ref", "refs/heads/main", new)

    def before(self, path):
        """Without the newest thousand commits."""
        self.up_to(self.ends(1000)[0], path)

    def up_to(self, old, path):
        """One branch that ends with this commit."""
        shutil.copytree(self("best"), path)
        git(path, "update-ref", "--no-deref", "--stdin", data=git(path, "for-each-ref", "--format=delete %(refname)"))
        git(path, "update-ref", "refs/heads/main", old)
        git(path, "repack", "-adbq")
        git(path, "prune", "--expire=now")

    def copied(self, path):
        if self.source:
            git(self.directory, "clone", "-q", "--mirror", str(self.source), str(path))
            return
        git(self.directory, "init", "-q", "--bare", "-b", "main", str(path))
        stream = self.directory / "history"
        with open(stream, "w", encoding="ascii") as lines:
            lines.writelines(history())
        with open(stream, "rb") as lines:
            git(path, "fast-import", "--quiet", source=lines)
        stream.unlink()

    def ends(self, back):
        """The commit so many first parents behind HEAD (or the first one), and HEAD."""
        line = git(self("best"), "rev-list", "--first-parent", "HEAD").decode().split()
        return line[min(back, len(line) - 1)], line[0]


def packets(*lines):
    """Packets; `None` is a flush, `...` a delimiter."""
    special = {None: b"0000", ...: b"0001"}
    return b"".join(
        special[line] if line is None or line is ... else f"{len(line) + 4:04x}{line}".encode() for line in lines
    )


class Request:
    """One CGI request."""

    def __init__(self, repository, service, body=None, version=2, anew=False):
        self.repository, self.service, self.body, self.version = repository, service, body, version
        # Pushes change the repository, so each run gets a copy.
        self.anew = anew

    def environment(self, root, name):
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "GATEWAY_INTERFACE": "CGI/1.1",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "REMOTE_USER": "bench",
            "GIT_PROJECT_ROOT": str(root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "ARTIFACTS_AUTH": "webserver",
        }
        if self.version:
            environment["HTTP_GIT_PROTOCOL"] = environment["GIT_PROTOCOL"] = f"version={self.version}"
        if self.body is None:
            return environment | {
                "REQUEST_METHOD": "GET",
                "PATH_INFO": f"/{name}/info/refs",
                "QUERY_STRING": f"service={self.service}",
            }
        return environment | {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": f"/{name}/{self.service}",
            "QUERY_STRING": "",
            "CONTENT_TYPE": f"application/x-{self.service}-request",
            "CONTENT_LENGTH": str(len(self.body)),
        }


def workloads(repositories):
    """Name: what is asked."""

    def fetch(name, *lines, haves=(), wants=None):
        wants = wants or [repositories.ends(0)[1]]
        asked = [f"want {want}\n" for want in wants] + [f"have {have}\n" for have in haves]
        body = packets("command=fetch", "object-format=sha1", ..., "thin-pack", "ofs-delta", "no-progress", *lines, *asked, "done\n", None)
        return Request(repositories(name), "git-upload-pack", body)

    def push(name, commands, pack=b""):
        first, *others = [f"{old} {new} {ref}" for ref, old, new in commands]
        body = packets(f"{first}\0 report-status object-format=sha1", *others, None) + pack
        return Request(repositories(name), "git-receive-pack", body, version=0, anew=True)

    def pack(new, old=None):
        revisions = f"{new}\n" + (f"^{old}\n" if old else "")
        return git(repositories("best"), "pack-objects", "--revs", "--thin", "--stdout", "-q", "--delta-base-offset", data=revisions.encode())

    def push_refs(tip):
        return push("best", [(f"refs/heads/r/{at}", ZERO, tip) for at in range(10_000)], pack(tip, tip))

    def every_ref():
        lines = git(repositories("best"), "for-each-ref", "--format=%(objectname)").decode().split()
        return sorted(set(lines))

    ends = repositories.ends
    ls_refs = packets("command=ls-refs", "object-format=sha1", ..., "peel", "symrefs", None)
    heads = packets("command=ls-refs", "object-format=sha1", ..., "ref-prefix refs/heads/", None)
    return {
        "info-v0": lambda: Request(repositories("best"), "git-upload-pack", version=0),
        "info-v2": lambda: Request(repositories("best"), "git-upload-pack"),
        "ls-refs": lambda: Request(repositories("best"), "git-upload-pack", ls_refs),
        "info-v0-many": lambda: Request(repositories("many-refs"), "git-upload-pack", version=0),
        "ls-refs-many": lambda: Request(repositories("many-refs"), "git-upload-pack", ls_refs),
        "ls-heads-many": lambda: Request(repositories("many-refs"), "git-upload-pack", heads),
        "fetch-10": lambda: fetch("best", haves=ends(10)[:1]),
        "fetch-1k": lambda: fetch("best", haves=ends(1000)[:1]),
        "fetch-10-plain": lambda: fetch("plain", haves=ends(10)[:1]),
        "fetch-1k-plain": lambda: fetch("plain", haves=ends(1000)[:1]),
        "clone": lambda: fetch("best", wants=every_ref()),
        "clone-branch": lambda: fetch("best"),
        "clone-plain": lambda: fetch("plain", wants=every_ref()),
        "clone-loose": lambda: fetch("loose"),
        "clone-recent": lambda: fetch("recent"),
        "fetch-10-recent": lambda: fetch("recent", haves=ends(10)[:1]),
        "fetch-1k-recent": lambda: fetch("recent", haves=ends(1000)[:1]),
        "shallow": lambda: fetch("best", "deepen 1\n"),
        "blobless": lambda: fetch("best", "filter blob:none\n", wants=every_ref()),
        "treeless": lambda: fetch("best", "filter tree:0\n", wants=every_ref()),
        "push-1": lambda: push("before", [("refs/heads/main", ends(1000)[0], ends(999)[0])], pack(ends(999)[0], ends(1000)[0])),
        "push-1k": lambda: push("before", [("refs/heads/main", *ends(1000))], pack(ends(0)[1], ends(1000)[0])),
        "push-all": lambda: push("empty", [("refs/heads/main", ZERO, ends(0)[1])], pack(ends(0)[1])),
        "push-10k-refs": lambda: push_refs(ends(0)[1]),
    }



class Run:
    """What one run took: seconds, bytes."""

    def __init__(self, program, environment, source):
        start = time.perf_counter()
        process = subprocess.Popen([program], stdin=source, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
        self.bytes, head, tail = 0, b"", b""
        while piece := process.stdout.read1(1 << 20):
            head = head or piece
            tail = (tail + piece)[-200:]
            self.bytes += len(piece)
        _, status, usage = os.wait4(process.pid, 0)
        self.wall = time.perf_counter() - start
        self.cpu = usage.ru_utime + usage.ru_stime
        process.stdout.close()
        process.returncode = status
        refused = head.startswith(b"Status:") and not head.startswith(b"Status: 200") or b"ERR " in head[:600] or b"ng refs" in tail
        if status or refused or not self.bytes:
            sys.exit(f"{program} failed: {head[:400]!r}")


def peak(program, environment, source):
    """The peak memory in KiB of the largest process. A shell that goes away starts it: else this one's own memory would count."""
    # The program starts only when the shell has exited; otherwise the shell would reap it.
    script = '{ sleep 0.1; exec "$0" <&3 3<&-; } >/dev/null 2>&1 & echo $!'
    shell = ["sh", "-c", f"exec 3<&0; {script}", program]
    started = subprocess.run(shell, stdin=source, stdout=subprocess.PIPE, check=True, env=environment)
    return os.wait4(int(started.stdout), 0)[2].ru_maxrss


def run(how, program, request, directory):
    """Runs one request, on a copy of the repository where it changes that."""
    name = request.repository.name
    if request.anew:
        name = "copy.git"
        shutil.rmtree(directory / name, ignore_errors=True)
        shutil.copytree(request.repository, directory / name, copy_function=link_packs)
        with open(directory / name / "config", "a", encoding="utf-8") as config:
            config.write("[http]\n\treceivepack = true\n")
    (directory / "body").write_bytes(request.body or b"")
    with open(directory / "body", "rb") as source:
        return how(program, request.environment(directory, name), source)


def link_packs(source, target):
    """Files that never change are linked, others copied."""
    if "/objects/pack/" in source:
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def main():
    """Measures what the command line names and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ours", required=True)
    parser.add_argument("--against", help="another program; git's http-backend if not given")
    parser.add_argument("--directory", type=pathlib.Path, required=True)
    parser.add_argument("--repository", type=pathlib.Path, help="a bare repository instead of a made one")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("workloads", nargs="*")
    options = parser.parse_args()
    # Orphaned processes become children of this one (prctl(2), PR_SET_CHILD_SUBREAPER).
    ctypes.CDLL(None).prctl(36, 1)
    theirs = options.against or f"{git('.', '--exec-path').decode().strip()}/git-http-backend"
    directory = options.directory.resolve() / (options.repository.resolve().name if options.repository else "made")
    directory.mkdir(parents=True, exist_ok=True)
    repositories = Repositories(directory, options.repository and options.repository.resolve())
    known = workloads(repositories)
    programs = {"ours": os.path.abspath(options.ours), "theirs": theirs}
    for name in options.workloads:
        if name not in known:
            sys.exit(f"there is no workload {name}; there are {', '.join(known)}")
    print(f"{'workload':14} {'wall':>6} {'CPU':>6} {'bytes':>6} {'memory':>6}   ours: ms, CPU ms, KiB")
    for name in options.workloads or known:
        request = known[name]()
        runs = {"ours": [], "theirs": []}
        for _ in range(options.rounds):
            for side, program in programs.items():
                runs[side].append(run(Run, program, request, directory))
        median = lambda side, figure: statistics.median(getattr(one, figure) for one in runs[side])
        memory = {side: run(peak, program, request, directory) for side, program in programs.items()}
        ratios = [median("ours", figure) / max(median("theirs", figure), 1e-9) for figure in ["wall", "cpu", "bytes"]]
        ratios.append(memory["ours"] / memory["theirs"])
        absolute = f"{median('ours', 'wall') * 1000:.1f}, {median('ours', 'cpu') * 1000:.1f}, {memory['ours']}"
        print(f"{name:14} " + " ".join(f"{ratio:6.2f}" for ratio in ratios) + f"   {absolute}", flush=True)


if __name__ == "__main__":
    main()

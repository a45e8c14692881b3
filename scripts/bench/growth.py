"""How time and memory grow with the number of objects and of packs: this program beside git's http-backend.

Repositories are made once, below --directory: a line of commits, four objects each, without bitmaps and commit-graph. For each a clone, a fetch
of the last ten commits, a list of refs, and the opening of the repository are measured.
"""

import argparse
import ctypes
import os
import pathlib
import random
import statistics
import sys

import measure

OBJECTS = [1_000, 10_000, 100_000, 1_000_000]
PACKS = [1, 10, 100, 1000]
PACKS_OBJECTS = 100_000
DIRECTORIES = 20
FILES = 20


def line(objects, packs):
    """A history for `git fast-import`: in each commit one line of one file is another one."""
    chance = random.Random(objects)
    commits = objects // 4
    text = lambda: f"{chance.randrange(1 << 60):x} {chance.randrange(1 << 60):x}"
    files = {f"d{at // FILES}/f{at % FILES}": [text() for _ in range(20)] for at in range(DIRECTORIES * FILES)}
    for mark in range(1, commits + 1):
        yield f"commit refs/heads/main\nmark :{mark}\ncommitter C <c@example.com> {1_500_000_000 + 60 * mark} +0000\ndata 1\nc\n"
        for name in files if mark == 1 else [chance.choice(list(files))]:
            files[name][chance.randrange(20)] = text()
            content = "\n".join(files[name]) + "\n"
            yield f"M 644 inline {name}\ndata {len(content)}\n{content}\n"
        # Everything so far becomes a pack.
        if mark * packs // commits > (mark - 1) * packs // commits:
            yield "checkpoint\n"


def made(directory, objects, packs):
    """A repository of so many objects in so many packs."""
    path = directory / f"{objects}-{packs}.git"
    if not path.exists():
        unfinished = path.with_suffix(".new")
        measure.shutil.rmtree(unfinished, ignore_errors=True)
        measure.git(".", "init", "-q", "--bare", "-b", "main", str(unfinished))
        stream = "".join(line(objects, packs)).encode()
        measure.git(unfinished, "-c", "fastimport.unpackLimit=0", "fast-import", "--quiet", data=stream)
        unfinished.rename(path)
    return path


def requests(path):
    """What is asked of a repository."""
    tip, before = measure.git(path, "rev-parse", "main", "main~10").decode().split()
    ls_refs = measure.packets("command=ls-refs", "object-format=sha1", ..., "peel", "symrefs", None)

    def fetch(*lines):
        body = measure.packets(
            "command=fetch", "object-format=sha1", ..., "thin-pack", "ofs-delta", "no-progress", f"want {tip}\n", *lines, "done\n", None
        )
        return measure.Request(path, "git-upload-pack", body)

    return {
        "open": measure.Request(path, "git-upload-pack", version=0),
        "ls-refs": measure.Request(path, "git-upload-pack", ls_refs),
        "fetch-10": fetch(f"have {before}\n"),
        "clone": fetch(),
    }


def main():
    """Prints a table: seconds of CPU and MiB of ours, and ours divided by git's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ours", required=True)
    parser.add_argument("--directory", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--most", type=int, default=OBJECTS[-1], help="leave out repositories with more objects")
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(36, 1)
    directory = options.directory.resolve() / "growth"
    directory.mkdir(parents=True, exist_ok=True)
    programs = {
        "ours": os.path.abspath(options.ours),
        "theirs": f"{measure.git('.', '--exec-path').decode().strip()}/git-http-backend",
    }
    sizes = [(objects, 1) for objects in OBJECTS] + [(PACKS_OBJECTS, packs) for packs in PACKS[1:]]
    print(f"{'objects':>9} {'packs':>5} {'request':9} {'CPU ms':>9} {'MiB':>6}   {'wall':>5} {'CPU':>5} {'bytes':>5} {'mem.':>5}  of git's")
    for objects, packs in sizes:
        if objects > options.most:
            continue
        for name, request in requests(made(directory, objects, packs)).items():
            runs = {side: [] for side in programs}
            for _ in range(options.rounds):
                for side, program in programs.items():
                    runs[side].append(measure.run(measure.Run, program, request, directory))
            median = lambda side, figure: statistics.median(getattr(one, figure) for one in runs[side])
            memory = {side: measure.run(measure.peak, program, request, directory) for side, program in programs.items()}
            ratios = [median("ours", figure) / max(median("theirs", figure), 1e-9) for figure in ["wall", "cpu", "bytes"]]
            ratios.append(memory["ours"] / memory["theirs"])
            print(
                f"{objects:9} {packs:5} {name:9} {median('ours', 'cpu') * 1000:9.1f} {memory['ours'] / 1024:6.1f}   "
                + " ".join(f"{ratio:5.2f}" for ratio in ratios),
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())

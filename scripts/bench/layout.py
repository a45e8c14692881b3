"""Writes the order in which a linker is to put functions: those that small requests run come first, then what else common ones do, side by side.

A process that answers a small request touches every page of its program for the first time. Scattered over the whole of it, its functions lie in
forty ranges, each of which costs a page fault; side by side in ten. Which functions are run is told by valgrind, their names without what
changes with each compiler. A name that is gone does no harm, and a new function lies where it would without this.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

from measure import Repositories, Request, link_packs, run, workloads

ASKED = ["info-v2", "ls-refs", "info-v0", "ls-heads-many", "info-push"]
# For these, the code for `tokens` mode is included too.
WITH_TOKENS = ["info-v0", "info-push"]
# Other requests that are frequent and quickly answered. For larger ones the order does not matter.
THEN = ["push-1", "clone", "fetch-10"]

# The most bytes of functions that may share a name, one for each type they are instantiated with. A larger group is
# left out, because all of it would be included.
SHARED_MAX = 16 << 10

HEADER = """/*
 * The order of functions in the release binary: what small requests run lies side by side, in few pages, then what else common ones do
 * (scripts/layout.sh writes this file).
 */
"""


def functions(program, environment, source):
    """The mangled names of what a program runs for a request, in no particular order."""
    out = pathlib.Path(environment["GIT_PROJECT_ROOT"]) / "calls"
    valgrind = ["valgrind", "--quiet", "--tool=callgrind", "--demangle=no", f"--callgrind-out-file={out}", program]
    answer = subprocess.run(valgrind, stdin=source, stdout=subprocess.PIPE, check=True, env=environment).stdout
    if answer.startswith(b"Status:") or b"ERR " in answer[:600]:
        sys.exit(f"{program} failed: {answer[:400]!r}")
    names = re.findall(r"^c?fn=\(\d+\) ([^\s']+)", out.read_text(encoding="utf-8"), re.MULTILINE)
    return [name for name in names if re.fullmatch(r"[A-Za-z_][\w.$]*", name)]


def with_token(program, directory):
    """The same as `functions` in `tokens` mode, on a copy of the repository that has a namespace, as tokens want it."""
    (directory / "bench").mkdir(exist_ok=True)
    tokens = directory / "tokens"
    linked = directory / "bench" / "linked.git"

    def how(_, environment, source):
        repository = pathlib.Path(environment["GIT_PROJECT_ROOT"]) / environment["PATH_INFO"].split("/")[1]
        shutil.rmtree(linked, ignore_errors=True)
        shutil.copytree(repository, linked, copy_function=link_packs)
        create = [program, "token", "create", "bench/linked", "--root", directory, "--tokens", tokens, "--json"]
        token = json.loads(subprocess.run(create, stdout=subprocess.PIPE, check=True).stdout)["plaintext"]
        service = environment["PATH_INFO"].split("/", 2)[2]
        environment = environment | {
            "PATH_INFO": f"/bench/linked.git/{service}",
            "ARTIFACTS_AUTH": "tokens",
            "ARTIFACTS_TOKENS": str(tokens),
            "HTTP_AUTHORIZATION": f"Bearer {token}",
        }
        return functions(program, environment, source)

    return how


def pattern(name):
    """The name without the hashes of compiler, crate and instance."""
    name = re.sub(r"17h[0-9a-f]{16}E", "17h*E", name)
    return re.sub(r"Cs[0-9A-Za-z]+_", "Cs*_", name) if name.startswith("_R") else name


def shared(program):
    """The patterns that stand for several functions, too large together."""
    sizes = {}
    for row in subprocess.run(["nm", "-S", program], stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines():
        match row.split():
            case [_, size, kind, name] if kind in "tTwW":
                sizes.setdefault(pattern(name), []).append(int(size, 16))
    return {name for name, each in sizes.items() if len(each) > 1 and sum(each) > SHARED_MAX}


def main():
    """Runs the requests and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ours", required=True, help="the program, with its symbols")
    parser.add_argument("--directory", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    directory = options.directory.resolve() / "made"
    directory.mkdir(parents=True, exist_ok=True)
    repositories = Repositories(directory, None)
    known = workloads(repositories)
    known["info-push"] = lambda: Request(repositories("before"), "git-receive-pack", version=0, anew=True)
    left_out = shared(options.ours)
    patterns = {}
    program = os.path.abspath(options.ours)
    in_tokens_mode = with_token(program, directory)
    small = [(name, functions) for name in ASKED] + [(name, in_tokens_mode) for name in WITH_TOKENS]
    for name, how in small + [(name, functions) for name in THEN]:
        print(name, file=sys.stderr)
        for function in run(how, program, known[name](), directory):
            if pattern(function) not in left_out:
                patterns.setdefault(pattern(function))
    # This pattern also matches .text.unlikely.NAME.
    rows = "".join(f"    *(.text*.{name})\n" for name in patterns)
    # The C library is small, and parts of it have no names, so all of it is included.
    body = f"SECTIONS\n{{\n  .text.small :\n  {{\n    *libc.a:*(.text .text.*)\n{rows}  }}\n}}\nINSERT BEFORE .text;\n"
    options.out.write_text(HEADER + body, encoding="ascii")


if __name__ == "__main__":
    main()

"""Lets the power fail at many moments of what disk.py has recorded, and looks at what is left.

    points.py LOG POINTS SEED [FLUSHES]

What was written before the disk last emptied its cache is there; of what came later each part, down to single sectors, may be there or not.
The file system is mounted from that, and every repository on it has to be whole, with each ref where an acknowledged push, or the one under
way, has put it. More than FLUSHES for a push, on an average, are an error too. Needs root.
"""

import os
import random
import subprocess
import sys
import tempfile

import disk

SECTOR = 512


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


def damaged(records, size, random):
    """Disks after a loss of power behind the first `moment` records; `moment` is sent in and grows."""
    settled, done = bytearray(size), 0
    image = None
    while True:
        moment = yield image
        last = max((at for at in range(done, moment) if records[at][0] == b"F"), default=done)
        for kind, place, content in records[done:last]:
            if kind == b"W":
                settled[place : place + len(content)] = content
        done = last
        image = bytearray(settled)
        share = random.choice([0, 0.2, 0.5, 0.8, 1])
        for kind, place, content in records[done:moment]:
            if kind != b"W":
                continue
            step = SECTOR if random.random() < 0.2 else len(content)
            for at in range(0, len(content), step):
                if random.random() < share:
                    image[place + at : place + at + step] = content[at : at + step]


def refs(repository):
    listed = run("git", "-C", repository, "for-each-ref", "--format=%(refname) %(objectname)").stdout
    return dict(line.split() for line in listed.splitlines())


def complaints(top, notes):
    """What is wrong with the repositories below `top`, when `notes` were made of pushes to them."""
    tried, acknowledged = {}, {}
    for note in notes:
        what, repository, ref, value = note.split()
        {"try": tried, "ack": acknowledged}[what][repository, ref] = value
    for repository in sorted({repository for repository, _ in [*tried, *acknowledged]}):
        path = os.path.join(top, repository)
        fsck = run("git", "-C", path, "fsck", "--strict", "--no-dangling")
        if fsck.returncode != 0:
            yield f"{repository}: {(fsck.stdout + fsck.stderr).strip()[:300]}"
        found = refs(path)
        for key in {**acknowledged, **tried}:
            # Before the first acknowledgement a ref need not exist.
            allowed = [acknowledged.get(key), tried.get(key, acknowledged.get(key))]
            if key[0] == repository and found.get(key[1]) not in allowed:
                yield f"{repository}: {key[1]} is {found.get(key[1])}; acknowledged and tried: {allowed}"


def main():
    log, points, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with open(log, "rb") as opened:
        records = list(disk.records(opened))
    notes = [(at, content.decode().strip()) for at, (kind, _, content) in enumerate(records) if kind == b"M"]
    [size] = [int(note.split()[1]) for _, note in notes if note.startswith("size ")]
    [start] = [at for at, note in notes if note == "start"]
    [end] = [at for at, note in notes if note == "end"]
    notes = [(at, note) for at, note in notes if note.startswith(("try ", "ack "))]
    flushes = sum(kind == b"F" for kind, _, _ in records[start:end])
    pushes = sum(at > start and note.startswith("ack ") for at, note in notes)
    chance = random.Random(seed)
    moments = sorted(chance.sample(range(start + 1, end), min(points, end - start - 1)))
    disks = damaged(records, size, chance)
    next(disks)
    bad = 0
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as scratch:
        image, top = os.path.join(scratch, "image"), os.path.join(scratch, "top")
        os.mkdir(top)
        for moment in moments:
            with open(image, "wb") as opened:
                opened.write(disks.send(moment))
            mounted = run("mount", "-o", "loop", image, top)
            if mounted.returncode != 0:
                found = [mounted.stderr.strip()]
            else:
                found = list(complaints(top, [note for at, note in notes if at < moment]))
                run("umount", top)
            for complaint in found:
                print(f"moment {moment} of {len(records)}, seed {seed}: {complaint}")
            bad += bool(found)
    print(f"{pushes} pushes made the disk empty its cache {flushes} times; {len(moments)} losses of power, {bad} with damage")
    if len(sys.argv) > 4 and flushes > int(sys.argv[4]) * pushes:
        print(f"that is more than {sys.argv[4]} for a push: was the file system not recognized?")
        bad += 1
    sys.exit(bad != 0)


main()

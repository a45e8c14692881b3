"""A disk that remembers all that was done to it.

    disk.py DIRECTORY BYTES LOG

Mounts a file system at DIRECTORY with two files: `disk`, for a loop device, and `mark`, for notes on how far things are. LOG gets a
record of everything: W with a place and bytes written there, F where the disk was told to empty its cache, M with a note.
"""

import errno
import stat
import struct
import sys
import threading

from fuse import FUSE, FuseOSError, Operations

RECORD = struct.Struct("<cQI")


class Disk(Operations):
    """Both files; `disk` has its content in memory."""

    def __init__(self, size, log):
        self.content = bytearray(size)
        self.log = log
        self.busy = threading.Lock()

    def note(self, kind, place, content):
        self.log.write(RECORD.pack(kind, place, len(content)) + content)
        if kind != b"W":
            self.log.flush()

    def getattr(self, path, fh=None):
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        sizes = {"/disk": len(self.content), "/mark": 0}
        if path not in sizes:
            raise FuseOSError(errno.ENOENT)
        return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": sizes[path]}

    def readdir(self, path, fh):
        return [".", "..", "disk", "mark"]

    def read(self, path, length, offset, fh):
        with self.busy:
            return bytes(self.content[offset : offset + length]) if path == "/disk" else b""

    def write(self, path, content, offset, fh):
        with self.busy:
            if path == "/disk":
                self.content[offset : offset + len(content)] = content
                self.note(b"W", offset, content)
            else:
                self.note(b"M", 0, content)
        return len(content)

    def fsync(self, path, datasync, fh):
        if path == "/disk":
            with self.busy:
                self.note(b"F", 0, b"")
        return 0

    def truncate(self, path, length, fh=None):
        return 0


def records(log):
    """What a log holds, one after the other: kind, place, content."""
    while head := log.read(RECORD.size):
        kind, place, length = RECORD.unpack(head)
        yield kind, place, log.read(length)


if __name__ == "__main__":
    with open(sys.argv[3], "wb", buffering=1 << 20) as opened:
        FUSE(Disk(int(sys.argv[2]), opened), sys.argv[1], foreground=True, big_writes=True, max_write=1 << 17)

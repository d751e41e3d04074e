"""A directory as Windows would share it: case does not count, and names have short ones besides.

shared_folder.py DIRECTORY MOUNTPOINT
"""
import errno
import os
import re
import sys

from fusepy import FUSE, FuseOSError, Operations

base, mountpoint = sys.argv[1:]


def short(name):
    return re.sub("[^A-Z0-9]", "", name.upper())[:6] + "~1"


class Shared(Operations):
    def find(self, path):
        "The real path: of names that are there, as they were spelt when they were made."
        found = base
        for name in path.split("/")[1:] if path != "/" else []:
            there = os.listdir(found) if os.path.isdir(found) else []
            same = [one for one in there if name.lower() in (one.lower(), short(one).lower())]
            found = os.path.join(found, same[0] if same else name)
        return found

    def getattr(self, path, fh=None):
        try:
            found = os.lstat(self.find(path))
        except FileNotFoundError:
            raise FuseOSError(errno.ENOENT)
        names = "st_mode st_nlink st_uid st_gid st_size st_atime st_mtime st_ctime".split()
        return {name: getattr(found, name) for name in names}

    def readdir(self, path, fh):
        return [".", "..", *os.listdir(self.find(path))]

    def open(self, path, flags):
        return os.open(self.find(path), flags & ~(os.O_CREAT | os.O_EXCL))

    def create(self, path, mode, fi=None):
        return os.open(self.find(path), os.O_RDWR | os.O_CREAT, mode)

    def read(self, path, size, offset, fh):
        return os.pread(fh, size, offset)

    def write(self, path, data, offset, fh):
        return os.pwrite(fh, data, offset)

    def truncate(self, path, length, fh=None):
        os.truncate(self.find(path), length)

    def release(self, path, fh):
        os.close(fh)

    def mkdir(self, path, mode):
        os.mkdir(self.find(path), mode)

    def rename(self, old, new):
        os.rename(self.find(old), self.find(new))

    def unlink(self, path):
        os.unlink(self.find(path))

    def rmdir(self, path):
        os.rmdir(self.find(path))


# The name of a virtual machine's shares.
FUSE(Shared(), mountpoint, foreground=True, subtype="vmhgfs-fuse")

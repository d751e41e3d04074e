# Makes one call for each line it reads, and says how it ended: an errno, and what there is to show.
# Descriptors are kept in slots: number 100 and up.
import ctypes, os, sys

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
HERE = -100  # AT_FDCWD

if len(sys.argv) > 1:  # outside: without the capabilities that nobody has inside
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()) != 0:
        sys.exit("capset")
os.umask(0o022)


def check(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), "")


def base(slot):
    return HERE if slot == "-" else 100 + int(slot)


def keep(fd, slot):
    os.dup2(fd, 100 + int(slot), inheritable=False)
    os.close(fd)


def open_(at, path, flags, mode, slot):
    keep(os.open(path, int(flags), int(mode), dir_fd=base(at)), slot)


def list_(at, path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=base(at))
    try:
        return " ".join(sorted(os.listdir(fd)))
    finally:
        os.close(fd)


def exec_(path):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.execv(path, [path])
        except OSError as error:
            os.write(writer, b"%d" % error.errno)
        os._exit(0)
    os.close(writer)
    errno = os.read(reader, 8)
    os.close(reader)
    _, status = os.waitpid(child, 0)
    if errno:
        raise OSError(int(errno), "")
    return str(status)


def stat(at, path, follow):
    found = os.stat(path, dir_fd=base(at), follow_symlinks=follow == "1")
    is_directory = found.st_mode & 0o170000 == 0o040000
    return "%o %d %d" % (found.st_mode, 0 if is_directory else found.st_size, found.st_nlink)


def utime(at, path, follow):
    os.utime(path, (1000, 2000), dir_fd=base(at), follow_symlinks=follow == "1")


CALLS = {
    "open": open_,
    "list": list_,
    "exec": exec_,
    "stat": stat,
    "utime": utime,
    "mkdir": lambda at, path, mode: os.mkdir(path, int(mode), dir_fd=base(at)),
    "mknod": lambda at, path, mode: os.mknod(path, int(mode) | 0o100000, dir_fd=base(at)),
    "symlink": lambda target, at, path: os.symlink(target, path, dir_fd=base(at)),
    "link": lambda a, old, b, new, flags: check(
        libc.linkat(base(a), os.fsencode(old), base(b), os.fsencode(new), int(flags))
    ),
    "unlink": lambda at, path: os.unlink(path, dir_fd=base(at)),
    "rmdir": lambda at, path: os.rmdir(path, dir_fd=base(at)),
    "rename": lambda a, old, b, new, flags: check(
        libc.renameat2(base(a), os.fsencode(old), base(b), os.fsencode(new), int(flags))
    ),
    "chmod": lambda at, path, mode: os.chmod(path, int(mode), dir_fd=base(at)),
    "fchmod": lambda slot, mode: os.fchmod(base(slot), int(mode)),
    "chown": lambda at, path, follow: os.chown(
        path, -1, -1, dir_fd=base(at), follow_symlinks=follow == "1"
    ),
    "futime": lambda slot: os.utime(base(slot), (1000, 2000)),
    "setxattr": lambda path, follow: os.setxattr(
        path, "user.nono", b"x", follow_symlinks=follow == "1"
    ),
    "fsetxattr": lambda slot: os.setxattr(base(slot), "user.nono", b"y"),
    "removexattr": lambda path, follow: os.removexattr(
        path, "user.nono", follow_symlinks=follow == "1"
    ),
    "truncate": lambda path, length: os.truncate(path, int(length)),
    "ftruncate": lambda slot, length: os.ftruncate(base(slot), int(length)),
    "readlink": lambda at, path: os.readlink(path, dir_fd=base(at)),
    "chdir": lambda path: os.chdir(path),
    "read": lambda slot: os.pread(base(slot), 64, 0).hex(),
    "write": lambda slot, text: str(os.write(base(slot), text.encode())),
    "umask": lambda mask: os.umask(int(mask)) and None,
}

print("ready", flush=True)
for line in sys.stdin:
    name, *arguments = line.rstrip("\n").split("\t")
    try:
        shown = CALLS[name](*arguments)
        print("0\t%s" % (shown or ""), flush=True)
    except OSError as error:
        print("%d\t" % error.errno, flush=True)

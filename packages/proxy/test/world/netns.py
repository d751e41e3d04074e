"""Runs a command in a network namespace of its own, in which the addresses of the world's servers are local."""
import ctypes, os, subprocess, sys

libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000

if libc.unshare(CLONE_NEWNET) != 0:
    raise OSError(ctypes.get_errno(), "unshare")
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
for address in ("93.184.216.34/32", "93.184.216.35/32", "93.184.216.36/32"):
    subprocess.run(["ip", "address", "add", address, "dev", "lo"], check=True)
os.execvp(sys.argv[1], sys.argv[1:])

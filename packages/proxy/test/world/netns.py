"""Runs a command in a network namespace of its own that holds the listening sockets of a second one, the sandbox.

The sandbox's namespace has AnyIP routes: every address is local, so every connection arrives at the listeners with
the address it was meant for. The command gets the sockets' numbers in NONO_FDS and the namespace's in NONO_NETNS.
"""
import ctypes, json, os, socket, subprocess, sys

libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


def unshare():
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def listener(kind, family, port):
    s = socket.socket(family, kind)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
    if kind == socket.SOCK_STREAM:
        s.listen(512)
    os.set_inheritable(s.fileno(), True)
    return {
        "fd": s.detach(),
        "protocol": "tcp" if kind == socket.SOCK_STREAM else "udp",
        "purpose": "dns" if port == 53 else "connections",
        "family": 6 if family == socket.AF_INET6 else 4,
    }


unshare()
for address in ("93.184.216.34/32", "93.184.216.35/32", "93.184.216.36/32"):
    subprocess.run(["ip", "address", "add", address, "dev", "lo"], check=True)
outer = os.open("/proc/self/ns/net", os.O_RDONLY)
unshare()
subprocess.run(["ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo"], check=True)
subprocess.run(["ip", "-6", "route", "add", "local", "::/0", "dev", "lo"], check=True)
listeners = [
    listener(kind, family, port)
    for family in (socket.AF_INET, socket.AF_INET6)
    for kind, port in (
        (socket.SOCK_DGRAM, 53),
        (socket.SOCK_STREAM, 53),
        (socket.SOCK_STREAM, 443),
        (socket.SOCK_STREAM, 80),
        (socket.SOCK_STREAM, 22),
    )
]
inner = os.open("/proc/self/ns/net", os.O_RDONLY)
os.set_inheritable(inner, True)
if libc.setns(outer, CLONE_NEWNET) != 0:
    raise OSError(ctypes.get_errno(), "setns")
os.environ["NONO_FDS"] = json.dumps(listeners)
os.environ["NONO_NETNS"] = f"/proc/{os.getpid()}/fd/{inner}"
os.execvp(sys.argv[1], sys.argv[1:])

"""Tries what an agent must not do, one thing a call. Runs inside the sandbox.

Prints one line of JSON: {"refused": true, "how": "EACCES"} or {"refused": false, "how": "..."}.
"""

import errno
import json
import os
import socket
import sys
import time


def read(path):
    with open(path, "rb") as file:
        return f"read {len(file.read(4096))} bytes"


def write(path):
    with open(path, "w") as file:
        file.write("was here\n")
    return "written"


def connect(host, port):
    with socket.create_connection((host, int(port)), timeout=3):
        return "connected"


def execute(program, *arguments):
    # Unlike fork and exec in Python, this raises what the kernel answered to execve.
    pid = os.posix_spawn(program, [program, *arguments], {})
    _, status = os.waitpid(pid, 0)
    return f"ran, exit code {os.waitstatus_to_exitcode(status)}"


def daemonise(heartbeat):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.close(1)
            os.close(2)
            while True:
                with open(heartbeat, "w") as file:
                    file.write(str(time.time_ns()))
                time.sleep(0.02)
        os._exit(0)
    return "left in the background"


attempts = {f.__name__: f for f in (read, write, connect, execute, daemonise)}
attempt, *arguments = sys.argv[1:]
try:
    print(json.dumps({"refused": False, "how": attempts[attempt](*arguments)}))
except OSError as error:
    name = errno.errorcode.get(error.errno or 0, type(error).__name__)
    print(json.dumps({"refused": True, "how": name}))

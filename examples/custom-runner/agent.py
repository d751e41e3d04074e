"""An agent that can do nothing by itself: it asks, one JSON line at a time, and is told what came of it."""

import json
import sys


def do(*argv):
    print(json.dumps(argv), flush=True)
    return json.loads(sys.stdin.readline())


do("ls")
do("sh", "-c", "echo tidy > notes.txt")
do("rm", "-rf", ".")

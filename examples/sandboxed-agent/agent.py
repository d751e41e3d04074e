"""An agent at work: it writes what it was asked for, then looks where it should not."""

import os
import pathlib
import urllib.request

print("token:", os.environ["GITHUB_TOKEN"][:5] + "…")
pathlib.Path("output/report.txt").write_text("all is well\n")
for path in ["/etc/shadow", "src/code.py"]:
    try:
        with open(path, "a") as file:
            file.write("# changed\n")
        print(path, "was changed")
    except OSError as error:
        print(path, "→", error.strerror)
try:
    urllib.request.urlopen("https://elsewhere.test/", timeout=10)
except OSError as error:
    print("https://elsewhere.test →", error)

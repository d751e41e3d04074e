import { execFileSync } from "node:child_process";
import path from "node:path";
import type { Host } from "../host.ts";
import type { Preset } from "./preset.ts";

/** Python with pip. What pip fetches needs `pypi` besides. */
export const python: Preset = {
  summary: "Python 3 and pip",
  policy: (host) => {
    const { executable, prefix } = interpreter(host);
    const bin = path.dirname(executable);
    return {
      extends: "scratch",
      exec: [`${executable}?`, "python3?", "python?", `${bin}/pip3?`, `${bin}/pip?`],
      // The base profile has the system's own Python.
      read: prefix === "/usr" ? [] : [prefix],
      env: {
        allow: ["PYTHONPATH", "VIRTUAL_ENV"],
        set: {
          PATH: `${bin}:$PATH`,
          PIP_CACHE_DIR: "$SCRATCH/pip",
          PIP_DISABLE_PIP_VERSION_CHECK: "1",
          PYTHONPYCACHEPREFIX: "$SCRATCH/pycache",
        },
      },
    };
  },
};

/** The real interpreter and its library: what `PATH` names may be a script that chooses one. */
function interpreter(host: Host): { executable: string; prefix: string } {
  const found = host.program("python3");
  if (found === undefined) return { executable: "python3", prefix: "/usr" };
  const script = "import os, sys; print(os.path.realpath(sys.executable)); print(sys.base_prefix)";
  const text = execFileSync(found, ["-I", "-c", script], { encoding: "utf8", timeout: 10_000 });
  const [executable = found, prefix = "/usr"] = text.trim().split("\n");
  return { executable, prefix };
}

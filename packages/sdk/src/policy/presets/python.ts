import path from "node:path";
import type { Host } from "../host.ts";
import { below } from "./installation.ts";
import type { Preset } from "./preset.ts";

/** Python with pip. What pip fetches needs `pypi` besides. */
export const python: Preset = {
  summary: "Python 3 and pip",
  policy: (host) => {
    const { executable, prefix, environment, userSite, isFound } = interpreter(host);
    const bin = environment === undefined ? path.dirname(executable) : `${environment}/bin`;
    return {
      extends: "scratch",
      exec: [
        `${executable}?`,
        `${bin}/python3?`,
        "python3?",
        "python?",
        `${bin}/pip3?`,
        `${bin}/pip?`,
      ],
      read: [
        ...below(host, prefix),
        ...(environment === undefined ? [] : environmentParts(environment)),
        `${userSite}?`,
      ],
      env: {
        allow: ["PYTHONPATH", "PYTHONUSERBASE", "VIRTUAL_ENV"],
        set: {
          ...(!isFound && { PATH: `${bin}:$PATH` }),
          PIP_CACHE_DIR: "$SCRATCH/pip",
          PIP_DISABLE_PIP_VERSION_CHECK: "1",
          PYTHONPYCACHEPREFIX: "$SCRATCH/pycache",
        },
      },
    };
  },
};

/** What a virtual environment (PEP 405) consists of. */
export function environmentParts(environment: string): string[] {
  // The first line of its programs names a link in bin.
  return ["bin", "lib?", "lib64?", "pyvenv.cfg?"].map((name) => `${environment}/${name}`);
}

/** A Python, as the user has chosen it. */
interface Interpreter {
  /** The program itself; what `PATH` names may be a link, or a script that chooses one. */
  readonly executable: string;
  /** Where its library is. */
  readonly prefix: string;
  /** The virtual environment it is used by. */
  readonly environment: string | undefined;
  /** Where `pip install --user` installs to (PEP 370). */
  readonly userSite: string;
  /** Whether `PATH` leads to it. */
  readonly isFound: boolean;
}

// Of the environment it runs by none: -I and -S, since an environment's own files say what is imported.
const script =
  "import os, site, sys; " +
  "print(os.path.realpath(sys.executable), sys.executable, sys.base_prefix, " +
  "site.getusersitepackages(), sep='\\n')";

function interpreter(host: Host): Interpreter {
  const answer = host.ask("python3", ["-I", "-S", "-c", script])?.split("\n") ?? [];
  // What only has the name may say anything.
  const said = answer.every((name) => path.isAbsolute(name)) ? answer : [];
  const [executable = "/usr/bin/python3", chosen = executable, prefix = "/usr"] = said;
  const userSite = said[3] ?? path.join(host.home, ".local/lib/python3");
  const found = host.link("python3") ?? executable;
  const environment = [found, chosen]
    .map((file) => path.dirname(path.dirname(file)))
    .find((directory) => host.exists(path.join(directory, "pyvenv.cfg")));
  const isFound = host.program("python3") === executable;
  return { executable, prefix, environment, userSite, isFound };
}

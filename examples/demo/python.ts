import { execFileSync } from "node:child_process";

/** The real interpreter and its library. What PATH names may be a script that chooses one. */
export function pythonInstallation(): { executable: string; prefix: string } {
  const script = "import os, sys; print(os.path.realpath(sys.executable)); print(sys.base_prefix)";
  const text = execFileSync("python3", ["-c", script], { encoding: "utf8" });
  const [executable = "", prefix = ""] = text.trim().split("\n");
  return { executable, prefix };
}

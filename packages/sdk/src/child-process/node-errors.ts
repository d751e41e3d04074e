// Errors as callers of Node know them.
import { existsSync } from "node:fs";
import { constants } from "node:os";
import { isRefusal } from "../refusal.ts";

const codes: Readonly<Record<string, "ENOENT" | "EACCES">> = {
  ERR_NONO_EXEC_NOT_FOUND: "ENOENT",
  ERR_NONO_EXEC_NOT_ALLOWED: "EACCES",
  ERR_NONO_INVALID_CWD: "ENOENT",
};

/** What Node says of a program that can't be started, with nono's own words and error (`cause`); else `error`. */
export function startFailure(error: unknown, [file = "", ...args]: readonly string[]): unknown {
  if (!isRefusal(error)) return error;
  // A path that is not there; others that the policy names are no matter of the program.
  const isProgram = error.value === file && error.code === "ERR_NONO_PATH_NOT_FOUND";
  const known = isProgram ? "ENOENT" : codes[error.code];
  if (known === undefined) return error;
  const isThere = error.code === "ERR_NONO_EXEC_NOT_FOUND" && file.includes("/");
  const code = isThere && existsSync(file) ? "EACCES" : known;
  const syscall = `spawn ${file}`;
  return Object.assign(new Error(`${syscall} ${code}: ${error.message}`, { cause: error }), {
    errno: -constants.errno[code],
    code,
    syscall,
    path: file,
    spawnargs: args,
  });
}

/** An error of a call that no program can be started by. */
export function invalidArgument(code: string, message: string): TypeError {
  return Object.assign(new TypeError(message), { code });
}

/** More output than `maxBuffer`. */
export function tooMuchOutput(stream: "stdout" | "stderr"): RangeError {
  const message = `${stream} maxBuffer length exceeded`;
  return Object.assign(new RangeError(message), { code: "ERR_CHILD_PROCESS_STDIO_MAXBUFFER" });
}

// What the fluent methods check at once, where the stack trace still points at the mistake. Whether
// a path exists is left to the creation of the sandbox: it may be made in between.
import { statSync } from "node:fs";
import { isAbsolute } from "node:path";
import { ArgumentError, CapabilitiesError, PathError, type Path } from "@nono/core";

/** One value or a list of them. */
export type OneOrMore<T> = T | readonly T[];

/** The absolute paths in `paths`. */
export function absolutePaths(method: string, paths: OneOrMore<Path>): Path[] {
  return list(paths).map((path) => {
    const text = checkedPath(method, path);
    if (isAbsolute(text)) return path;
    throw invalidPath(method, path, "is not absolute", "Give an absolute path: path.resolve(…).");
  });
}

/** The absolute paths and patterns in `paths`. */
export function pathPatterns(method: string, paths: OneOrMore<Path>): Path[] {
  return list(paths).map((path) => {
    const text = checkedPath(method, path);
    if (isAbsolute(text) || text.startsWith("**/")) return path;
    const remedy =
      "Give an absolute path, or a pattern that begins with a double asterisk and a slash.";
    throw invalidPath(method, path, "is neither absolute nor a pattern for everywhere", remedy);
  });
}

/** The TCP ports in `ports`. */
export function portNumbers(method: string, ports: OneOrMore<number>): number[] {
  return list(ports).map((port) => {
    if (Number.isInteger(port) && port >= 1 && port <= 65_535) return port;
    throw new ArgumentError("ERR_NONO_INVALID_OPTION", `${method}: ${port} is not a port`, {
      value: port,
      remedy: "Give a whole number from 1 to 65535.",
    });
  });
}

/** The programs in `programs`: absolute paths, or names without a slash. */
export function programs(method: string, names: OneOrMore<Path>): Path[] {
  return list(names).map((name) => {
    const text = checkedPath(method, name);
    if (isAbsolute(text) || !text.includes("/")) return name;
    throw invalidPath(
      method,
      name,
      "is neither absolute nor a bare name",
      'Give an absolute path, or a name such as "git" that is looked up in PATH.',
    );
  });
}

/** The names of environment variables in `names`; a `*` may stand at the end. */
export function variableNames(method: string, names: OneOrMore<string>): string[] {
  return list(names).map((name) => {
    if (typeof name === "string" && /^[^=*\0]+\*?$/.test(name)) return name;
    throw new ArgumentError(
      "ERR_NONO_INVALID_ENV",
      `${method}: ${JSON.stringify(name)} is not the name of an environment variable`,
      { value: name, remedy: 'Give a name such as "LANG", or a prefix such as "LC_*".' },
    );
  });
}

/** Environment variables with their values. */
export function variables(
  method: string,
  values: Readonly<Record<string, string>>,
): Record<string, string> {
  for (const [name, value] of Object.entries(values)) {
    if (name !== "" && !/[=\0]/.test(name) && typeof value === "string" && !value.includes("\0")) {
      continue;
    }
    throw new ArgumentError(
      "ERR_NONO_INVALID_ENV",
      `${method}: ${JSON.stringify(name)} can't be set to ${JSON.stringify(value)}`,
      { value: name, remedy: "Neither name nor value may hold a NUL byte, nor the name a =." },
    );
  }
  return { ...values };
}

/** A path as text, one character a byte: names need not be UTF-8. */
export function textOf(path: Path): string {
  return Buffer.from(path).toString("latin1");
}

/** Whether a directory is there, as far as this user can see. */
export function isDirectory(path: Path): boolean {
  try {
    return statSync(typeof path === "string" ? path : Buffer.from(path)).isDirectory();
  } catch {
    return false; // what cannot be granted is named where it is
  }
}

function list<T>(value: OneOrMore<T>): readonly T[] {
  return Array.isArray(value) ? (value as readonly T[]) : [value as T];
}

function checkedPath(method: string, path: unknown): string {
  if (typeof path !== "string" && !(path instanceof Uint8Array)) {
    throw new CapabilitiesError(
      "ERR_NONO_INVALID_CAPABILITIES",
      `${method}: a path is a string or a Uint8Array, not ${typeof path}`,
      { value: path, remedy: "Give a string, or the bytes of a name that is not valid UTF-8." },
    );
  }
  const text = typeof path === "string" ? path : Buffer.from(path).toString("latin1");
  if (text === "") throw invalidPath(method, path, "is empty", "Name a file or directory.");
  if (text.includes("\0")) {
    throw invalidPath(method, path, "holds a NUL byte", "No file can have such a name.");
  }
  return text;
}

function invalidPath(method: string, value: Path, what: string, remedy: string): PathError {
  const shown = typeof value === "string" ? value : Buffer.from(value).toString("latin1");
  return new PathError("ERR_NONO_INVALID_PATH", `${method}: ${JSON.stringify(shown)} ${what}`, {
    value,
    remedy,
  });
}

// Where nono keeps what outlives a run: logs, keys, checkpoints.
import { existsSync, mkdirSync, realpathSync, statSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { CapabilitiesError, type Path } from "@nono/core";
import { homeDirectory } from "./home.ts";

/** `$XDG_STATE_HOME/nono`, else `~/.local/state/nono` (XDG Base Directory Specification 0.8). */
export function stateDirectory(): string {
  const base = process.env["XDG_STATE_HOME"];
  // The specification: a relative path is invalid and ignored.
  const root = base && path.isAbsolute(base) ? base : path.join(homeDirectory(), ".local", "state");
  return path.join(root, "nono");
}

/**
 * Makes a directory for this user alone, and those above it that are missing. Not by the `recursive` of
 * Node, which tries for ever where the parent exists and yet mkdir(2) says ENOENT, as in /proc.
 *
 * @throws The error of the system when it can't be made.
 */
export function makeDirectory(directory: string): void {
  try {
    mkdirSync(directory, { mode: 0o700 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST" && statSync(directory).isDirectory()) return;
    const parent = path.dirname(directory);
    if (code !== "ENOENT" || existsSync(parent)) throw error;
    makeDirectory(parent);
    makeDirectory(directory);
  }
}

/**
 * Refuses grants that would let commands reach nono's own records: an agent that can read the log's
 * keys or write the log could forge it.
 *
 * @throws {@link CapabilitiesError} `ERR_NONO_INVALID_CAPABILITIES`
 */
export function keepOutOfReach(directory: string, granted: readonly Path[], what: string): void {
  const kept = canonical(path.resolve(directory));
  for (const grant of granted) {
    const reached = canonical(grant);
    if (!isBelow(kept, reached) && !isBelow(reached, kept)) continue;
    const granter = Buffer.from(grant).toString();
    throw new CapabilitiesError(
      "ERR_NONO_INVALID_CAPABILITIES",
      `${granter} is granted, and ${what} is kept in ${directory}`,
      {
        value: granter,
        remedy: `Grant less, or keep ${what} elsewhere (XDG_STATE_HOME, or the dir of its options).`,
      },
    );
  }
}

/** Whether one of the grants covers a path. */
export function reaches(granted: readonly Path[], name: string): boolean {
  return granted.some((grant) => isBelow(canonical(name), canonical(grant)));
}

/**
 * Where a path leads, as the sandbox's rules see it: without symbolic links, for as much of it as
 * exists. One character a byte, since names need not be UTF-8.
 */
function canonical(name: Path): string {
  const bytes = Buffer.from(name);
  try {
    return realpathSync(bytes, "buffer").toString("latin1");
  } catch {
    const text = path.normalize(bytes.toString("latin1"));
    if (text === "/") return text;
    const parent = Buffer.from(path.dirname(text), "latin1");
    return path.join(canonical(parent), path.basename(text));
  }
}

/** Whether a path is another one, or below it, by their names. */
export function isBelow(inner: string, outer: string): boolean {
  const relative = path.relative(outer, inner);
  return relative === "" || (!relative.startsWith("..") && !path.isAbsolute(relative));
}

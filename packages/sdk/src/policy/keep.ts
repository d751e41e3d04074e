// Files that commands could change, and that say what they may do, or are run outside of their sandbox.
import { readlinkSync, realpathSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { CapabilitiesError, type Path } from "@nono/core";
import { isBelow } from "../state.ts";
import { isDirectory } from "../validate.ts";

/** Names that no command may change, wherever they are: see `protect` in policy.ts. */
const kept = new Set(["nono.json", "nono.jsonc"]);

/** What commands may write, and what is denied them. */
export interface Writable {
  readonly write: readonly Path[];
  readonly deny: readonly Path[];
}

/**
 * Refuses grants by which commands could change what they may do the next time. A policy can name programs that
 * nono runs outside of any sandbox (`credentials`), so they could do anything then.
 *
 * @throws {@link CapabilitiesError} `ERR_NONO_INVALID_CAPABILITIES`
 */
export function keepPolicies(files: Iterable<string>, writable: Writable): void {
  for (const { file, by } of changeable(files, writable)) {
    throw new CapabilitiesError(
      "ERR_NONO_INVALID_CAPABILITIES",
      `${file} is a policy, and commands could change it${by}: what they may do the next time would be theirs to say`,
      {
        value: file,
        remedy:
          "Call it nono.jsonc, right in the directory that may be written (no command may change it there), " +
          "keep it where nothing may be written, or deny it.",
      },
    );
  }
}

/**
 * Refuses grants by which commands could change a program that is run outside to get a credential.
 *
 * @throws {@link CapabilitiesError} `ERR_NONO_INVALID_CAPABILITIES`
 */
export function keepPrograms(files: Iterable<string>, writable: Writable): void {
  for (const { file, by } of changeable(files, writable)) {
    throw new CapabilitiesError(
      "ERR_NONO_INVALID_CAPABILITIES",
      `${file} is run outside of the sandbox for a credential, and commands could change it${by}`,
      { value: file, remedy: "Keep it where nothing may be written, or deny it." },
    );
  }
}

/**
 * Refuses grants by which commands could change nono itself, parts of which are loaded while they are at work.
 *
 * @throws {@link CapabilitiesError} `ERR_NONO_INVALID_CAPABILITIES`
 */
export function keepNono(writable: Writable): void {
  const own = path.resolve(import.meta.dirname, "../..");
  const [, started = ""] = process.argv;
  // By the name that it was started by as well: npx finds it by a link in node_modules/.bin.
  const isOwn = canonical(started).some((file) => isBelow(file, own));
  const files = [path.join(own, "package.json"), ...(isOwn ? [started] : [])];
  for (const { file } of changeable(files, writable)) {
    throw new CapabilitiesError(
      "ERR_NONO_INVALID_CAPABILITIES",
      `nono itself is installed where commands could change it: ${file}`,
      {
        value: file,
        remedy:
          "Install it elsewhere (npm install --global @nono/sdk), grant less, or accept it with protect: false " +
          "(--no-protect).",
      },
    );
  }
}

/** Those of `files` that commands could change, and by which name on their path if not their own. */
function* changeable(
  files: Iterable<string>,
  { write, deny }: Writable,
): Generator<{ readonly file: string; readonly by: string }> {
  const grants = write.flatMap(canonical);
  // What is denied stays where it is, with all directories that lead to it. Patterns hold for names.
  const fixed = deny.map(String).filter((pattern) => !/[*?[{\\]/.test(pattern));
  const places = fixed.flatMap(canonical);
  for (const file of files) {
    const entry = entriesOf(file).find(
      (name) => grants.some((grant) => gives(grant, name)) && !places.some(isOnWay(name)),
    );
    if (entry !== undefined) yield { file, by: entry === file ? "" : ` by ${entry}` };
  }
}

/**
 * Every name that the path of a file leads through, itself included, as the directory without links that it is
 * in and the name there: who may write in that directory can put something else in its place.
 */
function entriesOf(file: string, links = 0): string[] {
  const names = file.split("/").filter((name) => name !== "");
  const entries: string[] = [];
  let directory = "/";
  for (const name of names) {
    const entry = path.join(directory, name);
    const target = targetOf(entry);
    entries.push(entry);
    // The kernel's own bound of links in one path (path_resolution(7)).
    if (target !== undefined && links < 40)
      entries.push(...entriesOf(path.resolve(directory, target), links + 1));
    directory = canonical(entry)[0] ?? entry;
  }
  return entries;
}

function targetOf(entry: string): string | undefined {
  try {
    return readlinkSync(entry);
  } catch {
    return undefined; // no link
  }
}

/** Whether a writable place lets commands put something else where `entry` is, or into it. */
function gives(grant: string, entry: string): boolean {
  if (!isBelow(entry, grant)) return false;
  // In the granted directory itself; deeper down, the directory that it is in could be another one.
  const isKept = kept.has(path.basename(entry).toLowerCase()) && path.dirname(entry) === grant;
  return !isKept && (entry !== grant || !isDirectory(entry));
}

function isOnWay(entry: string): (place: string) => boolean {
  return (place) => isBelow(place, entry) || isBelow(entry, place);
}

/** Nothing, where there is nothing: it can be neither granted nor read. */
function canonical(name: Path): string[] {
  try {
    return [realpathSync(typeof name === "string" ? name : Buffer.from(name))];
  } catch {
    return [];
  }
}

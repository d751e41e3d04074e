// Many paths told as few: the directories that they are all of.
import { existsSync } from "node:fs";
import path from "node:path";
import { isBelow } from "../state.ts";
import type { Never } from "./never.ts";

/** So many neighbours are told as their directory, … */
const many = 3;
/** … and so many files wherever they are in it, as in a cache with a directory for each. */
const scattered = 8;

/** The fewest readable paths that cover `paths` and nothing that is never granted. */
export function foldPaths(paths: Iterable<string>, never: Never): string[] {
  const rooted = [...paths].map((name) => {
    const root = rootOf(name);
    return root !== undefined && never.reading(root) === undefined ? root : name;
  });
  return foldNeighbours(rooted, (directory) => isFoldable(directory, never)).toSorted();
}

/** The same for what may be written; the workspace is told as the directories of it that are. */
export function foldWrites(paths: Iterable<string>, workspace: string, never: Never): string[] {
  const mayBeOne = (directory: string): boolean =>
    directory !== workspace && depthOf(directory) > 1 && never.writing(directory) === undefined;
  return foldNeighbours([...paths], mayBeOne).toSorted();
}

/** Programs that share a directory of their own, such as git's, told as that directory. */
export function foldPrograms(
  paths: Iterable<string>,
  searchPath: readonly string[],
  never: Never,
): string[] {
  // A grant to execute holds for reading, too.
  const isOwn = (directory: string): boolean =>
    !searchPath.includes(directory) && !/\/s?bin$/.test(directory) && isFoldable(directory, never);
  const folded = [...groupByParent(paths)].flatMap(([parent, names]) =>
    names.length >= many && isOwn(parent) ? [parent] : names,
  );
  return topmost(folded).toSorted();
}

/** Those that are below none of the others. */
function topmost(paths: Iterable<string>): string[] {
  const sorted = [...new Set(paths)].toSorted((a, b) => a.length - b.length);
  const kept: string[] = [];
  for (const name of sorted) if (!kept.some((outer) => isBelow(name, outer))) kept.push(name);
  return kept;
}

/** What a file is a part of: a package, a library of packages, a Python environment, a cgroup. */
function rootOf(name: string): string | undefined {
  // Its path differs from one session to the next.
  if (name.startsWith("/sys/fs/cgroup/")) return "/sys/fs/cgroup";
  const installed =
    /^(.*?\/node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(name) ??
    /^(.*?\/(?:site|dist)-packages)\//.exec(name) ??
    /^(.*?\/lib\/python3\.\d+)\//.exec(name);
  return environmentOf(name) ?? installed?.[1];
}

/** The virtual environment that a file is in (PEP 405). */
function environmentOf(name: string): string | undefined {
  for (let at = path.dirname(name); at !== "/"; at = path.dirname(at)) {
    if (existsSync(path.join(at, "pyvenv.cfg"))) return at;
  }
  return undefined;
}

function foldNeighbours(
  paths: readonly string[],
  mayBeOne: (directory: string) => boolean,
): string[] {
  let current = topmost(paths);
  // Ends: every turn but the last makes the list shorter.
  for (;;) {
    const next = topmost([...current, ...innermost(crowdedDirectories(current), mayBeOne)]);
    if (next.length === current.length) return current;
    current = next;
  }
}

/** Directories that many of `paths` are in. */
function crowdedDirectories(paths: readonly string[]): string[] {
  const below = new Map<string, number>();
  for (const name of paths) {
    for (let at = path.dirname(name); at !== "/"; at = path.dirname(at)) {
      below.set(at, (below.get(at) ?? 0) + 1);
    }
  }
  const neighbours = groupByParent(paths);
  const isCrowded = ([directory, count]: [string, number]): boolean =>
    (neighbours.get(directory)?.length ?? 0) >= many || count >= scattered;
  return [...below].filter(isCrowded).map(([directory]) => directory);
}

/** Those of `directories` that may be told in place of what is in them, and have no other in them. */
function innermost(
  directories: readonly string[],
  mayBeOne: (directory: string) => boolean,
): string[] {
  const found: string[] = [];
  const deepestFirst = directories.toSorted((a, b) => depthOf(b) - depthOf(a));
  for (const directory of deepestFirst) {
    if (found.some((inner) => isBelow(inner, directory))) continue;
    if (mayBeOne(directory)) found.push(directory);
  }
  return found;
}

function isFoldable(directory: string, never: Never): boolean {
  return depthOf(directory) > 1 && never.reading(directory) === undefined;
}

function groupByParent(paths: Iterable<string>): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const name of new Set(paths)) {
    const parent = path.dirname(name);
    groups.set(parent, [...(groups.get(parent) ?? []), name]);
  }
  return groups;
}

function depthOf(name: string): number {
  return name.split("/").length - 1;
}

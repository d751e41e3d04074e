import type { Change, ChangeKind } from "./change.ts";

const marks: Readonly<Record<ChangeKind, string>> = {
  added: "+",
  deleted: "-",
  modified: "~",
  renamed: ">",
  mode: "m",
  owner: "o",
  xattr: "x",
  times: "t",
};

/** Kinds that are not what happened to the entry. */
export const names: Partial<Record<ChangeKind, string>> = {
  mode: "with another mode",
  owner: "with another owner",
  xattr: "with other attributes",
  times: "with another time",
};

interface Branch {
  change?: Change;
  readonly children: Map<string, Branch>;
}

/** A new or deleted directory with more in it is one line. */
const longest = 20;

/**
 * Draws changes as a tree per directory, each marked with its kind, sizes where they changed, and
 * counts them.
 */
export function renderTree(changes: readonly Change[]): string {
  if (changes.length === 0) return "no changes";
  const roots = new Map<string, Branch>();
  for (const change of changes) {
    let branch = child(roots, change.dir);
    for (const name of change.path.split("/").filter(Boolean))
      branch = child(branch.children, name);
    branch.change = change;
  }
  const lines: string[] = [];
  for (const [dir, branch] of roots) {
    const { change } = branch;
    const what = change && (note(change) || ` (${names[change.kind] ?? change.kind})`);
    lines.push(`${printable(dir)}${what ?? ""}`);
    draw(branch, "", lines);
  }
  lines.push(counts(changes));
  return lines.join("\n");
}

function child(branches: Map<string, Branch>, name: string): Branch {
  const found = branches.get(name) ?? { children: new Map() };
  branches.set(name, found);
  return found;
}

function draw(branch: Branch, indent: string, lines: string[]): void {
  const entries = [...branch.children];
  for (const [index, [name, next]] of entries.entries()) {
    const last = index === entries.length - 1;
    const mark = next.change === undefined ? " " : marks[next.change.kind];
    const count = alike(next, next.change?.kind);
    const whole = count !== undefined && count > longest;
    const hint = whole ? `/ (${count} entries)` : note(next.change);
    lines.push(`${mark} ${indent}${last ? "└─" : "├─"} ${printable(name)}${hint}`);
    if (!whole) draw(next, `${indent}${last ? "   " : "│  "}`, lines);
  }
}

/** How many entries are below, when all of them were added or deleted with this one. */
function alike(branch: Branch, kind: ChangeKind | undefined): number | undefined {
  if (kind !== "added" && kind !== "deleted") return undefined;
  let count = 0;
  for (const next of branch.children.values()) {
    const below = next.change?.kind === kind ? alike(next, kind) : undefined;
    if (below === undefined) return undefined;
    count += below + 1;
  }
  return count;
}

function counts(changes: readonly Change[]): string {
  const found = new Map<ChangeKind, number>();
  for (const { kind } of changes) found.set(kind, (found.get(kind) ?? 0) + 1);
  return [...found].map(([kind, count]) => `${count} ${names[kind] ?? kind}`).join(", ");
}

function note(change: Change | undefined): string {
  if (change === undefined) return "";
  const { kind, from, before, after } = change;
  if (kind === "renamed") return ` (was ${printable(from ?? "")})`;
  if (kind === "mode") return ` (${octal(before?.mode)} to ${octal(after?.mode)})`;
  if (kind === "modified") return ` (${before?.size} to ${after?.size} bytes)`;
  return "";
}

function octal(mode: number | undefined): string {
  return ((mode ?? 0) & 0o7777).toString(8).padStart(4, "0");
}

/**
 * File names may hold escape sequences for the terminal, marks that turn the direction of text or hide it, and
 * what some readers take for the end of a line. They are spelt out as in JSON, which stays what it was.
 */
export function printable(name: string): string {
  return name.replaceAll(/[\p{C}\p{Zl}\p{Zp}]/gu, (character) =>
    Array.from({ length: character.length }, (_, at) => escaped(character.charCodeAt(at))).join(""),
  );
}

function escaped(unit: number): string {
  return `\\u${unit.toString(16).padStart(4, "0")}`;
}

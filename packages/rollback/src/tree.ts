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

interface Branch {
  change?: Change;
  readonly children: Map<string, Branch>;
}

/** Draws changes as a tree per directory, each marked with its kind, sizes where they changed. */
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
    lines.push(dir);
    draw(branch, "", lines);
  }
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
    lines.push(`${mark} ${indent}${last ? "└─" : "├─"} ${printable(name)}${note(next.change)}`);
    draw(next, `${indent}${last ? "   " : "│  "}`, lines);
  }
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

/** File names may hold escape sequences for the terminal. */
function printable(name: string): string {
  // oxlint-disable-next-line no-control-regex -- these are what must not reach the terminal
  return name.replaceAll(/[\u0000-\u001F\u007F-\u009F]/gu, (char) =>
    JSON.stringify(char).slice(1, -1),
  );
}

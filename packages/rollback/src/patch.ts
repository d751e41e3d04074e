import type { Change } from "./change.ts";
import { printable } from "./tree.ts";

/**
 * A change in the extended format of `git diff`, which `git apply` takes; directories, whose
 * changes it knows no lines for, are comments.
 */
export async function renderPatch(change: Change): Promise<string> {
  const { kind, before, after } = change;
  const [now, was] = [printable(change.path), printable(change.from ?? change.path)];
  if (isDirectory((after ?? before)?.mode)) {
    return `# ${kind} directory ${now}${change.from === undefined ? "" : `, was ${was}`}`;
  }
  const lines = [`diff --git a/${was} b/${now}`];
  if (before === undefined) lines.push(`new file mode ${octal(after?.mode)}`);
  else if (after === undefined) lines.push(`deleted file mode ${octal(before.mode)}`);
  else if (before.mode !== after.mode) {
    lines.push(`old mode ${octal(before.mode)}`, `new mode ${octal(after.mode)}`);
  }
  if (kind === "renamed") lines.push(`rename from ${was}`, `rename to ${now}`);
  const diff = await change.diff();
  const sides = [
    before === undefined ? "/dev/null" : `a/${was}`,
    after === undefined ? "/dev/null" : `b/${now}`,
  ] as const;
  if (diff.kind !== "text") {
    const what = diff.kind === "binary" ? "Binary files" : "Large files";
    lines.push(`${what} ${sides[0]} and ${sides[1]} differ`);
  } else if (diff.text !== "") {
    lines.push(`--- ${sides[0]}`, `+++ ${sides[1]}`, diff.text.trimEnd());
  }
  return lines.join("\n");
}

function isDirectory(mode: number | undefined): boolean {
  return ((mode ?? 0) & 0o170000) === 0o040000;
}

function octal(mode: number | undefined): string {
  return (mode ?? 0).toString(8).padStart(6, "0");
}

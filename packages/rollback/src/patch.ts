import { isUtf8 } from "node:buffer";
import { constants } from "node:fs";
import type { Change } from "./change.ts";
import { names, printable } from "./tree.ts";

/** What has contents, which git knows the type of. */
const withContents: ReadonlySet<number | undefined> = new Set([
  constants.S_IFREG,
  constants.S_IFLNK,
]);
const nouns = new Map<number | undefined, string>([
  [constants.S_IFDIR, "directory"],
  [constants.S_IFIFO, "FIFO"],
  [constants.S_IFSOCK, "socket"],
]);

/**
 * A change in the extended format of `git diff`, which `git apply` takes; what it has no lines for, as
 * directories and owners, are comments.
 */
export async function renderPatch(change: Change): Promise<string> {
  const { kind, before, after, rawPath, rawFrom = rawPath } = change;
  const type = typeOf(after ?? before);
  if (before !== undefined && after !== undefined && typeOf(before) !== type) {
    // So does git.
    const [gone, come] = change.apart();
    return `${await renderPatch(gone)}\n${await renderPatch(come)}`;
  }
  if (!withContents.has(type)) {
    const was = change.from === undefined ? "" : `, was ${quoted("", rawFrom)}`;
    return `# ${kind} ${nouns.get(type) ?? "device"} ${quoted("", rawPath) || "."}${was}`;
  }
  if (kind === "owner" || kind === "xattr" || kind === "times") {
    return `# ${quoted("", rawPath)} ${names[kind]}`;
  }
  const lines = [`diff --git ${quoted("a/", rawFrom)} ${quoted("b/", rawPath)}`];
  if (before === undefined) lines.push(`new file mode ${octal(after?.mode)}`);
  else if (after === undefined) lines.push(`deleted file mode ${octal(before.mode)}`);
  else if (before.mode !== after.mode) {
    lines.push(`old mode ${octal(before.mode)}`, `new mode ${octal(after.mode)}`);
  }
  if (kind === "renamed") {
    lines.push(`rename from ${quoted("", rawFrom)}`, `rename to ${quoted("", rawPath)}`);
  }
  // A large file is not read: as for make(1), its time tells whether it was written to.
  const isRead = before?.size !== after?.size || before?.mtimeMs !== after?.mtimeMs;
  if (isRead || kind === "modified") lines.push(...(await contents(change)));
  return lines.join("\n");
}

async function contents(change: Change): Promise<string[]> {
  const { before, after, rawPath, rawFrom = rawPath } = change;
  const sides = [
    before === undefined ? "/dev/null" : quoted("a/", rawFrom),
    after === undefined ? "/dev/null" : quoted("b/", rawPath),
  ] as const;
  const diff = await change.diff();
  if (diff.kind !== "text") {
    const what = diff.kind === "binary" ? "Binary files" : "Large files";
    return [`${what} ${sides[0]} and ${sides[1]} differ`];
  }
  if (diff.text === "") return [];
  // A tab says that a space before it belongs to the name.
  const [from, to] = sides.map((side) => (side.includes(" ") ? `${side}\t` : side));
  return [`--- ${from}`, `+++ ${to}`, diff.text.replace(/\n$/u, "")];
}

function typeOf(state: Change["before"]): number | undefined {
  return state && state.mode & constants.S_IFMT;
}

/** A link has no permissions for git. */
function octal(mode = 0): string {
  const isLink = (mode & constants.S_IFMT) === constants.S_IFLNK;
  return (isLink ? constants.S_IFLNK : mode).toString(8).padStart(6, "0");
}

/** As git writes names: those that could be mistaken, or are no text, as a string of C. */
function quoted(prefix: string, name: Buffer): string {
  const text = name.toString();
  if (isUtf8(name) && printable(text) === text && !/["\\]/u.test(text)) return prefix + text;
  const characters = Array.from(name, (byte) => {
    const character = String.fromCharCode(byte);
    if (character === '"' || character === "\\") return `\\${character}`;
    if (byte >= 0x20 && byte < 0x7f) return character;
    return `\\${byte.toString(8).padStart(3, "0")}`;
  });
  return `"${prefix}${characters.join("")}"`;
}

// The documents, and the code in them.
import { globSync, readFileSync } from "node:fs";
import path from "node:path";

/** The repository. */
export const root: string = path.resolve(import.meta.dirname, "../..");

/** Every document for users and contributors, relative to the repository. */
export const documents: readonly string[] = globSync(
  ["*.md", "docs/*.md", "docs/guides/*.md", "packages/*/README.md", "crates/*/README.md"],
  { cwd: root },
).toSorted();

/** One fenced block of a document. */
export interface Block {
  readonly document: string;
  /** Of its first line of code, from 1. */
  readonly line: number;
  readonly language: string;
  readonly code: string;
}

/** The blocks of these languages in all documents. */
export function blocks(...languages: readonly string[]): Block[] {
  return documents.flatMap((document) => {
    const text = readFileSync(path.join(root, document), "utf8");
    const found = text.matchAll(/^```(\w+)\n(.*?)^```$/gms);
    return [...found].flatMap(({ 1: language = "", 2: code = "", index }) => {
      const line = text.slice(0, index).split("\n").length + 1;
      return languages.includes(language) ? [{ document, line, language, code }] : [];
    });
  });
}

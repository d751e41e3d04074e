// Entries that are durable in the journal alone, while their writer goes on.
import type { Buffer } from "node:buffer";
import { existsSync } from "node:fs";
import path from "node:path";
import { errnoOf } from "./errors.ts";
import { listSegments, readSegment } from "./journal.ts";
import { layout } from "./layout.ts";

/** Entries from `from` on that are durable in the journal, whether or not a checkpoint covers them yet. */
export function* unsealedEntries(
  dir: string,
  from: number,
): Generator<{ seq: number; entry: Buffer }> {
  const journal = path.join(dir, layout.journal);
  let next = from;
  for (const first of existsSync(journal) ? listSegments(journal) : []) {
    // The writer may drop a segment, and with it what lies between, while we look: there is a checkpoint then.
    if (first > next) return;
    let seq = first;
    for (const { kind, data } of framesOf(path.join(journal, String(first)))) {
      if (kind === "disclosure") continue;
      if (seq === next) yield { seq: next++, entry: data };
      seq += 1;
    }
  }
}

/** How many entries the journal reaches to; 0 where there is none. */
export function journalEnd(dir: string): number {
  const journal = path.join(dir, layout.journal);
  const first = existsSync(journal) ? listSegments(journal).at(-1) : undefined;
  if (first === undefined) return 0;
  const frames = framesOf(path.join(journal, String(first)));
  return first + frames.filter(({ kind }) => kind === "entry").length;
}

function framesOf(file: string): ReturnType<typeof readSegment>["frames"] {
  try {
    return readSegment(file).frames;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw error;
  }
}

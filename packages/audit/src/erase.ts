import { existsSync } from "node:fs";
import path from "node:path";
import { readRegular, replaceFile } from "./files.ts";
import { disclosuresPath } from "./layout.ts";
import { disclosureDigest, parseDisclosure } from "./redact.ts";
import { tileWidth } from "./tiles.ts";

/** A value that is kept apart from its entry. */
export interface Disclosed {
  /** RFC 9901 disclosure, as it is on disk. */
  readonly disclosure: string;
  /** What stands for it in the `_sd` of the entry's `object` or `actor`. */
  readonly digest: string;
  readonly name: string;
  readonly value: unknown;
}

/**
 * The disclosures of one entry that have not been erased.
 *
 * @example
 * ```ts
 * for (const { name, value } of disclosuresOf(log.dir, 17)) console.log(name, value);
 * ```
 */
export function disclosuresOf(dir: string, seq: number): Disclosed[] {
  return readLines(dir, seq).flatMap((line) => {
    const [owner, disclosure = ""] = line.split(" ");
    const parsed = owner === String(seq) ? parseDisclosure(disclosure) : undefined;
    return parsed ? [{ disclosure, digest: disclosureDigest(disclosure), ...parsed }] : [];
  });
}

/**
 * Deletes the disclosures of an entry (or of one of its fields) for good; every proof stays valid, because the
 * entry only ever held their digests. Returns how many there were. Record the erasure: `AuditLog.erase` and
 * `nono audit redact` do.
 *
 * @example
 * ```ts
 * const log = await openAuditLog({ dir, origin, signer });
 * // On record, and the writer does not bring back what it still holds.
 * await log.erase(17, "argv");
 * // Of a log that nobody writes to, without a trace of it:
 * await eraseDisclosures(dir, 18);
 * ```
 */
export async function eraseDisclosures(dir: string, seq: number, field?: string): Promise<number> {
  const doomed = new Set(
    disclosuresOf(dir, seq)
      .filter(({ name }) => field === undefined || name === field)
      .map(({ disclosure }) => `${seq} ${disclosure}`),
  );
  if (doomed.size === 0) return 0;
  const kept = readLines(dir, seq).filter((line) => !doomed.has(line));
  await replaceFile(fileOf(dir, seq), kept.map((line) => `${line}\n`).join(""), 0o600);
  return doomed.size;
}

function fileOf(dir: string, seq: number): string {
  return path.join(dir, disclosuresPath(Math.floor(seq / tileWidth)));
}

function readLines(dir: string, seq: number): string[] {
  const file = fileOf(dir, seq);
  return existsSync(file)
    ? readRegular(file)
        .toString("latin1")
        .split("\n")
        .filter((line) => line !== "")
    : [];
}

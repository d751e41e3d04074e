// C2SP tlog-checkpoint: the signed text that names a tree head.
import { Buffer } from "node:buffer";
import { decodeBase64 } from "./base64.ts";
import { AuditError } from "./errors.ts";
import { hashSize } from "./merkle.ts";
import { isKeyName } from "./note.ts";

/** A tree head: which log, how many entries, which root. */
export interface TreeHead {
  readonly origin: string;
  readonly size: number;
  readonly root: Buffer;
}

/** A signed tree head. */
export interface Checkpoint extends TreeHead {
  /** The signed note. */
  readonly note: string;
}

/**
 * The checkpoint text of a tree head (what the signatures cover).
 *
 * @example
 * ```ts
 * const text = formatCheckpoint({ origin: "example.com/log", size: 1, root: leafHash(entry) });
 * ```
 */
export function formatCheckpoint({ origin, size, root }: TreeHead): string {
  return `${origin}\n${size}\n${root.toString("base64")}\n`;
}

/**
 * Reads a checkpoint text. Extension lines are refused: this package never writes them.
 *
 * @throws AuditError `ERR_NONO_AUDIT_FORMAT`
 * @example
 * ```ts
 * const { origin, size, root } = parseCheckpoint(parseNote(checkpoint).text);
 * ```
 */
export function parseCheckpoint(text: string): TreeHead {
  const [origin = "", size = "", encoded = "", end, ...rest] = text.split("\n");
  const root = decodeBase64(encoded);
  const count = Number(size);
  if (
    !isOrigin(origin) ||
    !/^(0|[1-9]\d*)$/.test(size) ||
    !Number.isSafeInteger(count) ||
    root?.length !== hashSize ||
    end !== "" ||
    rest.length > 0
  ) {
    throw new AuditError(
      "ERR_NONO_AUDIT_FORMAT",
      "not a checkpoint: origin, size and root, one line each",
      {
        value: text,
      },
    );
  }
  return { origin, size: count, root };
}

/** Origins double as key names, so they obey the same rule. */
export function isOrigin(origin: string): boolean {
  return isKeyName(origin) && Buffer.byteLength(origin) <= 255;
}

/** Whether two heads name the same tree. */
export function sameHead(a: TreeHead, b: TreeHead): boolean {
  return a.origin === b.origin && a.size === b.size && a.root.equals(b.root);
}

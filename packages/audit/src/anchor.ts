// Anchors: someone outside the host who has seen a head, and says so in a way anyone can check later.
import type { Buffer } from "node:buffer";
import { existsSync, mkdirSync } from "node:fs";
import path from "node:path";
import type { TreeHead } from "./checkpoint.ts";
import { AuditError } from "./errors.ts";
import { replaceFile } from "./files.ts";
import { layout } from "./layout.ts";
import type { NoteSignature } from "./note.ts";
import type { TileLog } from "./tile-log.ts";

/** A signed head on its way to an anchor. */
export interface AnchorHead extends TreeHead {
  /** The signed note. */
  readonly note: string;
}

/** What an anchor answers: lines for the checkpoint itself, or a Sigstore bundle to keep beside it. */
export type Evidence =
  | { readonly kind: "cosignature"; readonly signatures: readonly NoteSignature[] }
  | { readonly kind: "bundle"; readonly json: string };

/**
 * Somewhere to submit heads to: `witnessAnchor`, `sigstoreAnchor`, or your own.
 *
 * @example
 * ```ts
 * const own: Anchor = {
 *   name: "notary",
 *   submit: async (head) => ({ kind: "cosignature", signatures: await notary.cosign(head.note) }),
 * };
 * ```
 */
export interface Anchor {
  /** Unique among the anchors of a ledger; lower case letters, digits, dots and dashes. */
  readonly name: string;
  /**
   * Submits a head. `consistencyFrom(size)` gives the proof from an older head of the same log.
   *
   * @throws AuditError `ERR_NONO_AUDIT_FORK` when the anchor has seen a larger or different tree;
   * `ERR_NONO_AUDIT_ANCHOR` when it cannot be reached or refuses.
   */
  submit(head: AnchorHead, consistencyFrom: (size: number) => readonly Buffer[]): Promise<Evidence>;
}

/** What became of one submission. */
export interface AnchorResult {
  readonly anchor: string;
  readonly size: number;
  readonly error?: AuditError;
}

/** Submits the latest head to each anchor. The evidence on disk is the queue: what is missing is due. */
export class AnchorQueue {
  readonly #anchors: readonly Anchor[];

  constructor(anchors: readonly Anchor[]) {
    const names = anchors.map(({ name }) => name);
    const bad = names.find((name, i) => !/^[a-z0-9.-]+$/.test(name) || names.indexOf(name) !== i);
    if (bad !== undefined) {
      throw new AuditError(
        "ERR_NONO_AUDIT_INPUT",
        "anchors need distinct names of a-z, 0-9, dot, dash",
        { value: bad },
      );
    }
    this.#anchors = anchors;
  }

  get isEmpty(): boolean {
    return this.#anchors.length === 0;
  }

  /** Submits the last checkpoint of `log` in parallel and stores what comes back. */
  async submit(log: TileLog): Promise<AnchorResult[]> {
    const head = log.lastCheckpoint;
    if (!head) return [];
    const reader = log.reader();
    return Promise.all(
      this.#anchors.map(async (anchor): Promise<AnchorResult> => {
        const result = { anchor: anchor.name, size: head.size };
        if (existsSync(evidencePath(log.dir, head.size, anchor.name))) return result;
        try {
          const evidence = await anchor.submit(head, (size) =>
            reader.consistencyProof(size, head.size),
          );
          await store(log, head, anchor.name, evidence);
          return result;
        } catch (cause) {
          return { ...result, error: asAnchorError(anchor.name, cause) };
        }
      }),
    );
  }
}

async function store(
  log: TileLog,
  head: AnchorHead,
  name: string,
  evidence: Evidence,
): Promise<void> {
  mkdirSync(path.join(log.dir, layout.anchors), { recursive: true });
  if (evidence.kind === "cosignature") {
    await log.addSignatures(head.size, evidence.signatures);
    return;
  }
  await replaceFile(evidencePath(log.dir, head.size, name), evidence.json);
}

function evidencePath(dir: string, size: number, name: string): string {
  return path.join(dir, layout.anchors, `${size}.${name}.sigstore.json`);
}

function asAnchorError(name: string, cause: unknown): AuditError {
  if (cause instanceof AuditError) return cause;
  return new AuditError(
    "ERR_NONO_AUDIT_ANCHOR",
    `anchor ${name} failed: ${(cause as Error).message}`,
    { cause, value: name },
  );
}

// Anchors: someone outside the host who has seen a head, and says so in a way anyone can check later.
import type { Buffer } from "node:buffer";
import { existsSync, mkdirSync } from "node:fs";
import path from "node:path";
import type { TreeHead } from "./checkpoint.ts";
import { AuditError } from "./errors.ts";
import { replaceFile } from "./files.ts";
import { layout } from "./layout.ts";
import type { NoteSignature } from "./note.ts";
import { LogReader } from "./reader.ts";
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

/** What an anchor said about a head, to be kept. */
export interface Answer {
  readonly anchor: string;
  readonly evidence: Evidence;
}

/** Submits heads to each anchor. The evidence on disk is the queue: what is missing is due. */
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

  /** Submits `head` to all anchors in parallel. Takes no lock: an anchor may take its time. */
  async submit(
    dir: string,
    head: AnchorHead,
  ): Promise<{ results: AnchorResult[]; answers: Answer[] }> {
    const reader = new LogReader(dir, head.size);
    const answers: Answer[] = [];
    const results = this.#anchors.map(async (anchor): Promise<AnchorResult> => {
      const result = { anchor: anchor.name, size: head.size };
      if (existsSync(evidencePath(dir, head.size, anchor.name))) return result;
      try {
        const evidence = await anchor.submit(head, (size) =>
          reader.consistencyProof(size, head.size),
        );
        answers.push({ anchor: anchor.name, evidence });
        return result;
      } catch (cause) {
        return { ...result, error: asAnchorError(anchor.name, cause) };
      }
    });
    return { results: await Promise.all(results), answers };
  }
}

/** Keeps what an anchor said about the head of `size`. */
export async function keepAnswer(
  log: TileLog,
  size: number,
  { anchor, evidence }: Answer,
): Promise<void> {
  if (evidence.kind === "cosignature") {
    await log.addSignatures(size, evidence.signatures);
    return;
  }
  mkdirSync(path.join(log.dir, layout.anchors), { recursive: true });
  await replaceFile(evidencePath(log.dir, size, anchor), evidence.json);
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

// A client of C2SP tlog-witness: the witness cosigns a head after checking that it extends the last one it saw.
import type { Buffer } from "node:buffer";
import type { Anchor, AnchorHead, Evidence } from "./anchor.ts";
import { AuditError } from "./errors.ts";
import {
  noteVerifier,
  parseNote,
  parseSignatureLine,
  verifySignatures,
  type NoteVerifier,
} from "./note.ts";

/** How to reach a witness. */
export interface WitnessOptions {
  /** Name of the anchor; lower case letters, digits, dots and dashes. */
  name: string;
  /** The witness's submission prefix. */
  url: string;
  /** Its verifier keys (types 4 and 6); at least one must have cosigned. */
  keys: readonly string[];
  /** Milliseconds for one request; default 10 000. */
  timeout?: number;
}

/** Requests for one submission: one to learn the witness's size, one with the proof, one for a race. */
const maxRounds = 3;

/**
 * An anchor at a C2SP witness.
 *
 * @example
 * ```ts
 * const ledger = new HostLedger({
 *   dir, origin, signer,
 *   anchors: [witnessAnchor({ name: "w1", url: "https://witness.example", keys: [vkey] })],
 * });
 * ```
 */
export function witnessAnchor(options: WitnessOptions): Anchor {
  const verifiers = options.keys.map(noteVerifier);
  if (verifiers.length === 0)
    throw new AuditError("ERR_NONO_AUDIT_INPUT", "a witness needs its verifier keys");
  let known = 0;
  return {
    name: options.name,
    async submit(head, consistencyFrom) {
      for (let round = 0; round < maxRounds; round += 1) {
        const old = Math.min(known, head.size);
        const proof = old === 0 || old === head.size ? [] : consistencyFrom(old);
        const answer = await post(options, requestBody(old, proof, head));
        if (answer.status === 200) {
          known = head.size;
          return cosignatures(options, head, verifiers, answer.body);
        }
        known = sizeAfterRefusal(options, head, old, answer);
      }
      throw failed(options, `its size moved ${maxRounds} times while we submitted ours`);
    },
  };
}

function requestBody(old: number, proof: readonly Buffer[], head: AnchorHead): string {
  const hashes = proof.map((hash) => `${hash.toString("base64")}\n`).join("");
  return `old ${old}\n${hashes}\n${head.note}`;
}

async function post(
  options: WitnessOptions,
  body: string,
): Promise<{ status: number; body: string }> {
  const url = `${options.url.replace(/\/$/, "")}/add-checkpoint`;
  try {
    const signal = AbortSignal.timeout(options.timeout ?? 10_000);
    const response = await fetch(url, { method: "POST", body, signal, redirect: "error" });
    return { status: response.status, body: await response.text() };
  } catch (cause) {
    throw failed(options, `it cannot be reached at ${url} (${(cause as Error).message})`, cause);
  }
}

/** The size to prove from next. A witness that has seen another tree than ours is a fork, whatever it calls it. */
function sizeAfterRefusal(
  options: WitnessOptions,
  head: AnchorHead,
  old: number,
  { status, body }: { status: number; body: string },
): number {
  const text = body.trim();
  if (status === 422) throw fork(options, head, "it has another history");
  if (status !== 409)
    throw failed(options, `it answered ${status} ${JSON.stringify(text.slice(0, 200))}`);
  if (!/^\d{1,15}$/.test(text)) throw failed(options, `it answered 409 without its size`);
  const size = Number(text);
  if (size > head.size)
    throw fork(options, head, `it has seen ${size} entries, we have ${head.size}`);
  if (size === old && old > 0) throw fork(options, head, `it has another root for ${size} entries`);
  return size;
}

function cosignatures(
  options: WitnessOptions,
  head: AnchorHead,
  verifiers: readonly NoteVerifier[],
  body: string,
): Evidence {
  const lines = body.split("\n").filter((line) => line !== "");
  const known = new Set(verifiers.map(({ name, keyId }) => `${name}+${keyId}`));
  const signatures = lines
    .map(parseSignatureLine)
    .filter(({ name, keyId }) => known.has(`${name}+${keyId}`));
  if (verifySignatures({ text: parseNote(head.note).text, signatures }, verifiers).length === 0) {
    throw failed(options, "it cosigned with none of its known keys");
  }
  return { kind: "cosignature", signatures };
}

function failed({ name }: WitnessOptions, what: string, cause?: unknown): AuditError {
  return new AuditError("ERR_NONO_AUDIT_ANCHOR", `witness ${name} did not cosign: ${what}`, {
    value: name,
    cause,
  });
}

function fork({ name }: WitnessOptions, { size }: AnchorHead, what: string): AuditError {
  return new AuditError(
    "ERR_NONO_AUDIT_FORK",
    `witness ${name} refuses the head of ${size} entries: ${what}`,
    { value: size },
  );
}

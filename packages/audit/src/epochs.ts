// Forward-secure checkpoint keys. Each epoch has its own Ed25519 key; the seed only moves forward:
//   seed(i + 1) = HKDF(seed(i), "next")      key(i) = Ed25519(HKDF(seed(i), "sign"))
// All public keys of a schedule are computed at its start and committed to the host ledger, then only the
// current seed is kept, in memory alone. Whoever steals it cannot sign for an epoch that has passed.
// JavaScript cannot promise erasure (the collector may have moved a copy, the page may be in swap); the seeds
// are zeroed Buffers, which is as far as it goes.
import { Buffer } from "node:buffer";
import { hkdfSync, randomBytes, sign, type KeyObject } from "node:crypto";
import { privateKeyFromSeed, rawPublicKey, seedSize } from "./keys.ts";
import { leafHash } from "./merkle.ts";
import { formatVkey, signatureType } from "./note.ts";
import type { CheckpointSigner } from "./signer.ts";
import { TileTree } from "./tiles.ts";

/** A schedule as the ledger commits to it. */
export interface EpochSchedule {
  /** Number of the first epoch. */
  readonly first: number;
  readonly count: number;
  /** Base64 RFC 6962 root over the verifier keys of the epochs, in order. */
  readonly root: string;
}

/** The ratchet of one log. */
export class EpochKeys {
  readonly #origin: string;
  readonly #count: number;
  #seed: Buffer;
  #key: KeyObject;
  #epoch: number;
  #first: number;
  #vkeys: string[];

  /** Starts a schedule of `count` epochs at number `first`. */
  constructor(origin: string, count: number, first = 0, seed: Buffer = randomBytes(seedSize)) {
    this.#origin = origin;
    this.#count = count;
    this.#first = first;
    this.#epoch = first;
    this.#seed = seed;
    this.#vkeys = scheduleKeys(origin, count, seed);
    this.#key = signingKey(seed);
  }

  /** The running epoch. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Verifier keys of the current schedule. */
  get vkeys(): readonly string[] {
    return this.#vkeys;
  }

  /** What the ledger must hold before the schedule is used. */
  get schedule(): EpochSchedule {
    return { first: this.#first, count: this.#count, root: scheduleRoot(this.#vkeys) };
  }

  /** Whether the running epoch is the last of its schedule. */
  get isLast(): boolean {
    return this.#epoch === this.#first + this.#count - 1;
  }

  /** The schedule that begins after the last epoch of this one, and its verifier keys. */
  next(): { vkeys: readonly string[]; schedule: EpochSchedule } {
    const seed = derive(this.#seed, "next");
    const vkeys = scheduleKeys(this.#origin, this.#count, seed);
    seed.fill(0);
    const first = this.#first + this.#count;
    return { vkeys, schedule: { first, count: this.#count, root: scheduleRoot(vkeys) } };
  }

  /** Signs with the key of the running epoch. */
  get signer(): CheckpointSigner {
    const key = this.#key;
    const vkey = this.#vkeys[this.#epoch - this.#first] ?? "";
    return { vkey, sign: (text) => sign(null, Buffer.from(text), key) };
  }

  /** Ends the epoch: its seed is gone when this returns. Begins a new schedule after the last epoch of one. */
  advance(): void {
    const next = derive(this.#seed, "next");
    this.#seed.fill(0);
    if (this.isLast) {
      this.#first += this.#count;
      this.#vkeys = scheduleKeys(this.#origin, this.#count, next);
    }
    this.#epoch += 1;
    this.#seed = next;
    this.#key = signingKey(next);
  }

  /** Forgets the seed. */
  destroy(): void {
    this.#seed.fill(0);
  }
}

/** The commitment to a list of verifier keys. */
export function scheduleRoot(vkeys: readonly string[]): string {
  const tree = new TileTree();
  for (const vkey of vkeys) tree.append(leafHash(Buffer.from(vkey)));
  return tree.root().toString("base64");
}

function scheduleKeys(origin: string, count: number, seed: Buffer): string[] {
  const vkeys: string[] = [];
  let at = Buffer.from(seed);
  for (let i = 0; i < count; i += 1) {
    vkeys.push(formatVkey(origin, signatureType.ed25519, rawPublicKey("ed25519", signingKey(at))));
    const next = derive(at, "next");
    at.fill(0);
    at = next;
  }
  at.fill(0);
  return vkeys;
}

function signingKey(seed: Buffer): KeyObject {
  const own = derive(seed, "sign");
  const key = privateKeyFromSeed("ed25519", own);
  own.fill(0);
  return key;
}

function derive(seed: Buffer, purpose: "next" | "sign"): Buffer<ArrayBuffer> {
  return Buffer.from(hkdfSync("sha256", seed, "nono audit epoch v1", purpose, seedSize));
}

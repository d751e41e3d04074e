// RFC 6962 Merkle trees: hashing, the shape of proofs, and their verification (RFC 9162 2.1.3.2, 2.1.4.2).
// Sizes are Numbers below 2^53, so halving is by division: bit operators stop at 2^31.
import { Buffer } from "node:buffer";
import { hash } from "node:crypto";
import { AuditError } from "./errors.ts";

/** Bytes of a SHA-256 hash. */
export const hashSize = 32;

/** Hash of the tree without leaves: SHA-256 of the empty string. */
export const emptyRoot: Buffer = sha256(Buffer.alloc(0));

const pair = Buffer.alloc(1 + 2 * hashSize, 1);

/** SHA-256 of `data`. */
export function sha256(data: Uint8Array): Buffer {
  return hash("sha256", data, "buffer");
}

/**
 * Writes SHA-256 of `data` to `target` at `at`. Through a string, which takes a third of the time: a Buffer for
 * 32 bytes costs more than hashing a node.
 */
export function sha256Into(data: Uint8Array, target: Buffer, at: number): void {
  target.write(hash("sha256", data, "binary"), at, hashSize, "latin1");
}

/**
 * Hash of a leaf: SHA-256(0x00, entry).
 *
 * @example
 * ```ts
 * const rootOfOne = leafHash(entry);
 * ```
 */
export function leafHash(entry: Uint8Array): Buffer {
  const preimage = Buffer.allocUnsafe(entry.length + 1);
  preimage[0] = 0;
  preimage.set(entry, 1);
  return sha256(preimage);
}

/**
 * Hash of an inner node: SHA-256(0x01, left, right).
 *
 * @example
 * ```ts
 * const rootOfTwo = nodeHash(leafHash(first), leafHash(second));
 * ```
 */
export function nodeHash(left: Uint8Array, right: Uint8Array): Buffer {
  pair.set(left, 1);
  pair.set(right, 1 + hashSize);
  return sha256(pair);
}

/** Replaces the `count` hashes (a power of two) at the start of `hashes` by their root, at its start. */
export function foldInPlace(hashes: Buffer, count: number): void {
  for (let width = count / 2; width >= 1; width /= 2) {
    for (let i = 0; i < width; i += 1) {
      hashes.copy(pair, 1, 2 * i * hashSize, 2 * (i + 1) * hashSize);
      sha256Into(pair, hashes, i * hashSize);
    }
  }
}

/** A complete subtree: the leaves `[index * 2^level, (index + 1) * 2^level)`. */
export interface NodeId {
  readonly level: number;
  readonly index: number;
}

/** A half-open range of leaves. */
type Range = readonly [start: number, end: number];

/** The complete subtrees, left to right, whose hashes fold into the hash of `[start, end)`. */
export function rangeNodes([start, end]: Range): NodeId[] {
  const nodes: NodeId[] = [];
  for (let at = start; at < end;) {
    let level = 0;
    let width = 1;
    while (at % (width * 2) === 0 && at + width * 2 <= end) {
      width *= 2;
      level += 1;
    }
    nodes.push({ level, index: at / width });
    at += width;
  }
  return nodes;
}

/** Folds the hashes of `rangeNodes`, in their order, into one. */
export function foldNodes(hashes: readonly Buffer[]): Buffer {
  return hashes.reduceRight((right, left) => nodeHash(left, right));
}

/** The ranges whose hashes make up the inclusion proof of leaf `index` in a tree of `size`, leaf side first. */
export function inclusionRanges(index: number, size: number): Range[] {
  if (!isIndexIn(index, size))
    throw badProof(`no leaf ${index} in a tree of ${size}`, { index, size });
  const ranges: Range[] = [];
  let start = 0;
  let end = size;
  while (end - start > 1) {
    const middle = start + split(end - start);
    if (index < middle) {
      ranges.push([middle, end]);
      end = middle;
    } else {
      ranges.push([start, middle]);
      start = middle;
    }
  }
  return ranges.toReversed();
}

/** The ranges whose hashes prove that the tree of `size` extends the tree of `oldSize` (RFC 6962 2.1.2). */
export function consistencyRanges(oldSize: number, size: number): Range[] {
  if (!isIndexIn(oldSize - 1, size)) {
    throw badProof(`no consistency proof from ${oldSize} to ${size}`, { oldSize, size });
  }
  const ranges: Range[] = [];
  let start = 0;
  let end = size;
  while (oldSize !== end) {
    const middle = start + split(end - start);
    if (oldSize <= middle) {
      ranges.push([middle, end]);
      end = middle;
    } else {
      ranges.push([start, middle]);
      start = middle;
    }
  }
  // The old tree's own hash is known to the verifier unless we descended to the right.
  if (start !== 0) ranges.push([start, end]);
  return ranges.toReversed();
}

/**
 * Checks an inclusion proof (RFC 9162 2.1.3.2).
 *
 * @throws AuditError `ERR_NONO_AUDIT_PROOF` when it does not lead to `root`.
 * @example
 * ```ts
 * const { index, hashes, checkpoint } = parseProof(readFileSync("17.tlog-proof", "utf8"));
 * const { size, root } = parseCheckpoint(parseNote(checkpoint).text);
 * verifyInclusion({ index, size, leaf: leafHash(entry), proof: hashes, root });
 * ```
 */
export function verifyInclusion(options: {
  index: number;
  size: number;
  leaf: Uint8Array;
  proof: readonly Uint8Array[];
  root: Uint8Array;
}): void {
  const { index, size, leaf, proof, root } = options;
  if (!isIndexIn(index, size))
    throw badProof(`no leaf ${index} in a tree of ${size}`, { index, size });
  let node = index;
  let last = size - 1;
  let result = checkedHash(leaf);
  for (const sibling of proof) {
    if (last === 0) throw badProof("the inclusion proof is too long", { index, size });
    if (node % 2 === 1 || node === last) {
      result = nodeHash(checkedHash(sibling), result);
      while (node % 2 === 0 && node !== 0) {
        node /= 2;
        last = half(last);
      }
    } else {
      result = nodeHash(result, checkedHash(sibling));
    }
    node = half(node);
    last = half(last);
  }
  if (last !== 0) throw badProof("the inclusion proof is too short", { index, size });
  if (!result.equals(root))
    throw badProof("the inclusion proof leads to another root", { index, size });
}

/**
 * Checks a consistency proof (RFC 9162 2.1.4.2). An old size of zero proves nothing and is refused.
 *
 * @throws AuditError `ERR_NONO_AUDIT_PROOF` when the new tree does not extend the old one.
 * @example
 * ```ts
 * const [before, after] = [await log.checkpoint(), await log.checkpoint()];
 * verifyConsistency({
 *   oldSize: before.size, oldRoot: before.root, size: after.size, root: after.root,
 *   proof: await log.consistency(before.size, after.size),
 * });
 * ```
 */
export function verifyConsistency(options: {
  oldSize: number;
  oldRoot: Uint8Array;
  size: number;
  root: Uint8Array;
  proof: readonly Uint8Array[];
}): void {
  const { oldSize, size } = options;
  const oldRoot = checkedHash(options.oldRoot);
  const root = checkedHash(options.root);
  if (!isIndexIn(oldSize - 1, size))
    throw badProof(`a tree of ${size} cannot extend one of ${oldSize}`, { oldSize, size });
  if (oldSize === size) {
    if (options.proof.length > 0)
      throw badProof("the consistency proof is too long", { oldSize, size });
    if (!root.equals(oldRoot))
      throw badProof(`two different roots for size ${size}`, { oldSize, size });
    return;
  }
  const proof = isPowerOfTwo(oldSize) ? [oldRoot, ...options.proof] : [...options.proof];
  const seed = proof.shift();
  if (!seed) throw badProof("the consistency proof is too short", { oldSize, size });
  let node = oldSize - 1;
  let last = size - 1;
  while (node % 2 === 1) {
    node = half(node);
    last = half(last);
  }
  let oldResult = checkedHash(seed);
  let result = oldResult;
  for (const step of proof) {
    if (last === 0) throw badProof("the consistency proof is too long", { oldSize, size });
    const sibling = checkedHash(step);
    if (node % 2 === 1 || node === last) {
      oldResult = nodeHash(sibling, oldResult);
      result = nodeHash(sibling, result);
      while (node % 2 === 0 && node !== 0) {
        node /= 2;
        last = half(last);
      }
    } else {
      result = nodeHash(result, sibling);
    }
    node = half(node);
    last = half(last);
  }
  if (last !== 0) throw badProof("the consistency proof is too short", { oldSize, size });
  if (!oldResult.equals(oldRoot))
    throw badProof("the consistency proof leads to another old root", { oldSize, size });
  if (!result.equals(root))
    throw badProof("the consistency proof leads to another new root", { oldSize, size });
}

/** The largest power of two below `n` (n > 1). */
function split(n: number): number {
  let power = 1;
  while (power * 2 < n) power *= 2;
  return power;
}

function half(n: number): number {
  return Math.floor(n / 2);
}

function isPowerOfTwo(n: number): boolean {
  return n === 1 || split(n) * 2 === n;
}

function isIndexIn(index: number, size: number): boolean {
  return Number.isSafeInteger(index) && Number.isSafeInteger(size) && index >= 0 && index < size;
}

function checkedHash(hash: Uint8Array): Buffer {
  if (hash.length !== hashSize)
    throw badProof(`a hash has ${hashSize} bytes, not ${hash.length}`, hash.length);
  return Buffer.from(hash.buffer, hash.byteOffset, hash.length);
}

function badProof(message: string, value: unknown): AuditError {
  return new AuditError("ERR_NONO_AUDIT_PROOF", message, { value });
}

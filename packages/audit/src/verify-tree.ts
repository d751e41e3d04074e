// Recomputes a log directory from its entries and compares everything else in it with the result.
import { Buffer } from "node:buffer";
import type { TreeHead } from "./checkpoint.ts";
import { AuditError } from "./errors.ts";
import { listDirectory, readOptional } from "./files.ts";
import { hashSize, sha256Into } from "./merkle.ts";
import { bundlePath, tilePath, TileTree, tileWidth, type Tile } from "./tiles.ts";

/** Something that is not as it should be. */
export interface Problem {
  readonly code: AuditError["code"];
  /** File in the log directory. */
  readonly file?: string;
  /** First entry concerned. */
  readonly seq?: number;
  readonly message: string;
}

/** What is to be compared while the tree grows. */
export interface TreeExpectation {
  /** Heads that the tree must pass through, by size. */
  readonly heads: ReadonlyMap<number, readonly (TreeHead & { readonly file: string })[]>;
  /** Sees every entry; throws AuditError if it is not acceptable. */
  onEntry(bundle: Buffer, start: number, end: number, seq: number): void;
}

/** More findings than this say nothing new. */
const maxProblems = 32;

/**
 * Rebuilds the tree of the first `size` entries from the bundles in `dir`. Problems come in the order of the
 * entries, so the first one names the first bad place.
 */
export function verifyTree(
  dir: string,
  size: number,
  expected: TreeExpectation,
): { problems: Problem[]; tree: TileTree } {
  const problems: Problem[] = [];
  const report = (problem: Problem): void => {
    if (problems.length < maxProblems) problems.push(problem);
  };
  const tree = new TileTree((tile) => compareTile(dir, tile, report));
  checkHeads(tree, expected, report);
  const hashes = Buffer.alloc(tileWidth * hashSize);
  for (let index = 0; index * tileWidth < size; index += 1) {
    const first = index * tileWidth;
    const width = Math.min(tileWidth, size - first);
    const bundle = readBundle(dir, index, width, report);
    if (bundle === undefined) return { problems, tree };
    hashBundle(bundle, width, hashes);
    for (let i = 0; i < width; i += 1) {
      tree.append(hashes.subarray(i * hashSize, (i + 1) * hashSize));
      if (expected.heads.has(tree.size)) checkHeads(tree, expected, report);
    }
    checkEntries(bundle, first, width, expected, report);
    comparePartialBundles(dir, index, width, bundle, report);
  }
  for (const tile of tree.partialTiles()) compareTile(dir, tile, report);
  return { problems, tree };
}

type Report = (problem: Problem) => void;

function readBundle(dir: string, index: number, width: number, report: Report): Buffer | undefined {
  const names =
    width === tileWidth ? [bundlePath(index)] : [bundlePath(index, width), bundlePath(index)];
  for (const file of names) {
    const bundle = readOrReport(dir, file, report);
    if (bundle === undefined) continue;
    const expected = file === bundlePath(index) ? tileWidth : width;
    const { count, rest } = countEntries(bundle);
    if (count === expected && rest === 0) return bundle;
    report({
      code: "ERR_NONO_AUDIT_CORRUPT",
      file,
      seq: index * tileWidth + Math.min(count, width),
      message: `holds ${count} whole entries and ${rest} bytes more, instead of ${expected} entries`,
    });
    return undefined;
  }
  report({
    code: "ERR_NONO_AUDIT_CORRUPT",
    file: bundlePath(index, width),
    seq: index * tileWidth,
    message: "is missing",
  });
  return undefined;
}

/** How many whole entries a bundle starts with, and the bytes behind them. */
function countEntries(bundle: Buffer): { count: number; rest: number } {
  let count = 0;
  let at = 0;
  while (at + 2 <= bundle.length) {
    const end = at + 2 + bundle.readUInt16BE(at);
    if (end > bundle.length) break;
    at = end;
    count += 1;
  }
  return { count, rest: bundle.length - at };
}

/** Leaf hashes of the first `width` entries. The byte before an entry serves as the 0x00 of its leaf for a moment. */
function hashBundle(bundle: Buffer, width: number, hashes: Buffer): void {
  let at = 0;
  for (let i = 0; i < width; i += 1) {
    const end = at + 2 + bundle.readUInt16BE(at);
    const low = bundle[at + 1] as number;
    bundle[at + 1] = 0;
    sha256Into(bundle.subarray(at + 1, end), hashes, i * hashSize);
    bundle[at + 1] = low;
    at = end;
  }
}

function checkEntries(
  bundle: Buffer,
  first: number,
  width: number,
  expected: TreeExpectation,
  report: Report,
): void {
  let at = 0;
  for (let i = 0; i < width; i += 1) {
    const end = at + 2 + bundle.readUInt16BE(at);
    try {
      expected.onEntry(bundle, at + 2, end, first + i);
    } catch (error) {
      report(problemOf(error, { file: bundlePath(Math.floor(first / tileWidth)), seq: first + i }));
    }
    at = end;
  }
}

function checkHeads(tree: TileTree, { heads }: TreeExpectation, report: Report): void {
  const here = heads.get(tree.size);
  if (!here) return;
  const root = tree.root();
  for (const head of here) {
    if (root.equals(head.root)) continue;
    report({
      code: "ERR_NONO_AUDIT_PROOF",
      file: head.file,
      message: `the first ${head.size} entries do not lead to the root that was signed for them`,
    });
  }
}

function compareTile(dir: string, tile: Tile, report: Report): void {
  const { level, index, width, data } = tile;
  const place = { width, seq: seqOf(level, index, 0).seq };
  const prefix = (part: number): Buffer => data.subarray(0, part * hashSize);
  comparePartials(dir, tilePath(level, index), place, prefix, report);
  const names =
    width === tileWidth
      ? [tilePath(level, index)]
      : [tilePath(level, index, width), tilePath(level, index)];
  for (const file of names) {
    const found = readOrReport(dir, file, report);
    if (found === undefined) continue;
    if (file === names[0] && found.length !== data.length) {
      report({
        code: "ERR_NONO_AUDIT_CORRUPT",
        file,
        ...seqOf(level, index, 0),
        message: `has ${found.length} bytes instead of ${data.length}`,
      });
      return;
    }
    for (let i = 0; i < width; i += 1) {
      if (
        data.compare(found, i * hashSize, (i + 1) * hashSize, i * hashSize, (i + 1) * hashSize) ===
        0
      )
        continue;
      report({
        code: "ERR_NONO_AUDIT_CORRUPT",
        file,
        ...seqOf(level, index, i),
        message: `hash ${i} is not that of the entries below it`,
      });
      return;
    }
    return;
  }
  report({
    code: "ERR_NONO_AUDIT_CORRUPT",
    file: tilePath(level, index, width),
    ...seqOf(level, index, 0),
    message: "is missing",
  });
}

/** A level-0 hash is of one entry; above, the file and the hash are all there is to name. */
function seqOf(level: number, index: number, hash: number): { seq?: number } {
  return level === 0 ? { seq: index * tileWidth + hash } : {};
}

/**
 * Partial tiles and bundles that older checkpoints left behind must be prefixes of what is there now. Wider ones
 * than the checkpoint covers are of a checkpoint that a crash prevented.
 */
function comparePartials(
  dir: string,
  name: string,
  { width, seq }: { width: number; seq: number | undefined },
  prefix: (width: number) => Buffer,
  report: Report,
): void {
  for (const partial of listPartials(dir, name).filter((other) => other < width)) {
    const file = `${name}.p/${partial}`;
    const found = readOrReport(dir, file, report);
    // The writer lets go of those whose full tile is there, also while we look.
    if (found === undefined || found.equals(prefix(partial))) continue;
    const message = "differs from the bundle or tile it is a part of";
    report({ code: "ERR_NONO_AUDIT_CORRUPT", file, ...(seq !== undefined && { seq }), message });
  }
}

function comparePartialBundles(
  dir: string,
  index: number,
  width: number,
  bundle: Buffer,
  report: Report,
): void {
  const place = { width, seq: index * tileWidth };
  const prefix = (part: number): Buffer => bundle.subarray(0, bundleEnd(bundle, part));
  comparePartials(dir, bundlePath(index), place, prefix, report);
}

/** Where the first `count` entries of a bundle end. */
function bundleEnd(bundle: Buffer, count: number): number {
  let at = 0;
  for (let i = 0; i < count; i += 1) at += 2 + bundle.readUInt16BE(at);
  return at;
}

function listPartials(dir: string, name: string): number[] {
  return listDirectory(dir, `${name}.p`).map(Number);
}

/** A file that is there and can be read; that it cannot is a finding. */
export function readOrReport(
  dir: string,
  file: string,
  report: (problem: Problem) => void,
): Buffer | undefined {
  try {
    return readOptional(dir, file);
  } catch (error) {
    report(problemOf(error, { file }));
    return undefined;
  }
}

/** What an error says, as a finding. */
export function problemOf(error: unknown, where: { file?: string; seq?: number }): Problem {
  if (!(error instanceof AuditError)) throw error;
  return { code: error.code, ...where, message: error.message };
}

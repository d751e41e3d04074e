// C2SP tlog-tiles: where a tile lives, what is in it, and the tree that fills them from left to right.
import { Buffer } from "node:buffer";
import { AuditError } from "./errors.ts";
import { emptyRoot, foldInPlace, foldNodes, hashSize, rangeNodes, type NodeId } from "./merkle.ts";

/** Hashes in a full tile, entries in a full bundle. */
export const tileWidth = 256;

/** The largest entry: bundles carry its length in 16 bits. */
export const maxEntrySize = 65_535;

const tileBytes = tileWidth * hashSize;
const scratch = Buffer.alloc(tileBytes);

/** Path of the tile at `level` and `index`; `width` below 256 names a partial tile. */
export function tilePath(level: number, index: number, width: number = tileWidth): string {
  return `tile/${level}/${indexPath(index, width)}`;
}

/** Path of entry bundle `index`; `width` below 256 names a partial bundle. */
export function bundlePath(index: number, width: number = tileWidth): string {
  return `tile/entries/${indexPath(index, width)}`;
}

/** Three digits a component, all but the last marked with x: 1234067 is x001/x234/067. */
function indexPath(index: number, width: number): string {
  let path = threeDigits(index % 1000);
  for (let rest = Math.floor(index / 1000); rest > 0; rest = Math.floor(rest / 1000)) {
    path = `x${threeDigits(rest % 1000)}/${path}`;
  }
  return width === tileWidth ? path : `${path}.p/${width}`;
}

function threeDigits(n: number): string {
  return String(n).padStart(3, "0");
}

/** Splits a bundle into its entries (views of `bundle`). */
export function parseBundle(bundle: Buffer): Buffer[] {
  const entries: Buffer[] = [];
  for (let at = 0; at < bundle.length;) {
    if (at + 2 > bundle.length) throw badBundle("ends inside a length", at);
    const end = at + 2 + bundle.readUInt16BE(at);
    if (end > bundle.length) throw badBundle("ends inside an entry", at);
    entries.push(bundle.subarray(at + 2, end));
    at = end;
  }
  if (entries.length > tileWidth) throw badBundle(`has ${entries.length} entries`, entries.length);
  return entries;
}

function badBundle(what: string, value: number): AuditError {
  return new AuditError("ERR_NONO_AUDIT_FORMAT", `the entry bundle ${what}`, { value });
}

/** The tile that holds a node, and the run of tile hashes below the node. */
export function tileOfNode({ level, index }: NodeId): {
  level: number;
  index: number;
  start: number;
  count: number;
} {
  const count = 2 ** (level % 8);
  const first = index * count;
  return {
    level: Math.floor(level / 8),
    index: Math.floor(first / tileWidth),
    start: first % tileWidth,
    count,
  };
}

/** Root of the complete subtree over `count` (a power of two) hashes of a tile from `start`. */
export function subtreeHash(tile: Buffer, start: number, count: number): Buffer {
  tile.copy(scratch, 0, start * hashSize, (start + count) * hashSize);
  foldInPlace(scratch, count);
  return Buffer.from(scratch.subarray(0, hashSize));
}

/** A tile as it goes to disk. */
export interface Tile {
  readonly level: number;
  readonly index: number;
  readonly width: number;
  readonly data: Buffer;
}

/**
 * The right edge of a tree kept as tiles: constant memory, whatever the number of leaves.
 * `onTile` hears of every tile the moment it is full.
 */
export class TileTree {
  size = 0;
  readonly #edge: { data: Buffer; width: number; filled: number }[] = [];
  readonly #onTile: ((tile: Tile) => void) | undefined;

  constructor(onTile?: (tile: Tile) => void) {
    this.#onTile = onTile;
  }

  /** Adds the hash of the next leaf. */
  append(leaf: Uint8Array): void {
    this.size += 1;
    this.#push(0, leaf);
  }

  /** Root of the tree as it stands. */
  root(): Buffer {
    if (this.size === 0) return emptyRoot;
    const hashes: Buffer[] = [];
    for (const { data, width } of this.#edge.toReversed()) {
      for (const { level, index } of rangeNodes([0, width])) {
        hashes.push(subtreeHash(data, index * 2 ** level, 2 ** level));
      }
    }
    return foldNodes(hashes);
  }

  /** Copies of the partial tiles at the right edge. */
  partialTiles(): Tile[] {
    return this.#edge.flatMap(({ data, width, filled }, level) =>
      width === 0
        ? []
        : [{ level, index: filled, width, data: Buffer.from(data.subarray(0, width * hashSize)) }],
    );
  }

  /** Continues a tree of `size` from the partial tiles at its right edge. */
  static resume(
    size: number,
    partialTile: (level: number, index: number, width: number) => Buffer,
    onTile?: (tile: Tile) => void,
  ): TileTree {
    const tree = new TileTree(onTile);
    tree.size = size;
    for (
      let hashes = size, level = 0;
      hashes > 0;
      hashes = Math.floor(hashes / tileWidth), level += 1
    ) {
      const filled = Math.floor(hashes / tileWidth);
      const width = hashes % tileWidth;
      const data = Buffer.alloc(tileBytes);
      if (width > 0) data.set(partialTile(level, filled, width).subarray(0, width * hashSize));
      tree.#edge.push({ data, width, filled });
    }
    return tree;
  }

  #push(level: number, hash: Uint8Array): void {
    const edge = (this.#edge[level] ??= {
      data: Buffer.allocUnsafe(tileBytes),
      width: 0,
      filled: 0,
    });
    edge.data.set(hash, edge.width * hashSize);
    edge.width += 1;
    if (edge.width < tileWidth) return;
    const { data, filled } = edge;
    this.#onTile?.({ level, index: filled, width: tileWidth, data });
    edge.data = Buffer.allocUnsafe(tileBytes);
    edge.width = 0;
    edge.filled += 1;
    this.#push(level + 1, subtreeHash(data, 0, tileWidth));
  }
}

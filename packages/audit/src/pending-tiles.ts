// The tree of a log in memory, and the tiles of it that the disk does not have yet.
import { Buffer } from "node:buffer";
import type { TreeHead } from "./checkpoint.ts";
import type { LogState } from "./log-state.ts";
import { bundlePath, TileTree, tilePath, tileWidth, type Tile } from "./tiles.ts";

/** A file of a log directory. */
interface TileFile {
  readonly path: string;
  readonly data: Buffer;
}

/** All that a checkpoint of one moment needs on disk. */
export interface Unwritten {
  readonly head: TreeHead;
  /** Full tiles and bundles since the last time, and the partial ones at the right edge. */
  readonly files: readonly TileFile[];
  readonly disclosures: readonly { readonly bundle: number; readonly lines: readonly string[] }[];
  /** Partial tiles of earlier checkpoints whose full tile is among `files`: the standard lets them go. */
  readonly obsolete: readonly string[];
}

/** Collects entries into tiles. */
export class PendingTiles {
  readonly #origin: string;
  readonly #tree: TileTree;
  #bundle: Buffer = Buffer.allocUnsafe(128 << 10);
  #bundleLength = 0;
  #full: TileFile[] = [];
  #bytes = 0;
  #disclosures: { bundle: number; lines: string[] }[] = [];
  /** Paths of tiles that the disk has partial versions of. */
  readonly #partial = new Set<string>();
  /** Partial tiles of the last head: never written again, so that no crash can tear what a checkpoint relies on. */
  #onDisk: ReadonlySet<string>;

  constructor({ head, partialTile, bundle }: LogState) {
    this.#origin = head.origin;
    this.#tree = TileTree.resume(head.size, partialTile, (tile) => this.#tileFull(tile));
    for (const entry of bundle) this.#addToBundle(entry);
    const edge = this.#edge();
    for (const { path } of edge) this.#partial.add(path);
    this.#onDisk = new Set(edge.map(({ file }) => file.path));
  }

  /** Number of entries. */
  get size(): number {
    return this.#tree.size;
  }

  /** Bytes of full tiles that wait. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Adds an entry whose Merkle leaf is `leaf`. */
  add(entry: Buffer, leaf: Buffer): void {
    this.#addToBundle(entry);
    this.#tree.append(leaf);
  }

  /** Adds a disclosure of the entry that comes next. */
  addDisclosure(disclosure: string): void {
    const bundle = Math.floor(this.size / tileWidth);
    const last = this.#disclosures.at(-1);
    const line = `${this.size} ${disclosure}`;
    if (last?.bundle === bundle) last.lines.push(line);
    else this.#disclosures.push({ bundle, lines: [line] });
  }

  /** All that is not on disk, as of now; what is added from here on belongs to the next time. */
  take(): Unwritten {
    const head = { origin: this.#origin, size: this.size, root: this.#tree.root() };
    const edge = this.#edge();
    const obsolete = this.#full
      .filter(({ path }) => this.#partial.delete(path))
      .map(({ path }) => `${path}.p`);
    for (const { path } of edge) this.#partial.add(path);
    const written = this.#onDisk;
    this.#onDisk = new Set(edge.map(({ file }) => file.path));
    const partial = edge.map(({ file }) => file).filter(({ path }) => !written.has(path));
    const files = [...this.#full, ...partial];
    const disclosures = this.#disclosures;
    this.#full = [];
    this.#bytes = 0;
    this.#disclosures = [];
    return { head, files, disclosures, obsolete };
  }

  /** Partial tiles and the partial bundle, with the paths that their full versions will have. */
  #edge(): { path: string; file: TileFile }[] {
    const edge = this.#tree.partialTiles().map(({ level, index, width, data }) => ({
      path: tilePath(level, index),
      file: { path: tilePath(level, index, width), data },
    }));
    const width = this.size % tileWidth;
    if (width === 0) return edge;
    const index = Math.floor(this.size / tileWidth);
    const data = Buffer.from(this.#bundle.subarray(0, this.#bundleLength));
    return [...edge, { path: bundlePath(index), file: { path: bundlePath(index, width), data } }];
  }

  #addToBundle(entry: Buffer): void {
    const needed = this.#bundleLength + 2 + entry.length;
    if (needed > this.#bundle.length) {
      const larger = Buffer.allocUnsafe(Math.max(needed, this.#bundle.length * 2));
      this.#bundle.copy(larger, 0, 0, this.#bundleLength);
      this.#bundle = larger;
    }
    this.#bundle.writeUInt16BE(entry.length, this.#bundleLength);
    entry.copy(this.#bundle, this.#bundleLength + 2);
    this.#bundleLength = needed;
  }

  #tileFull({ level, index, data }: Tile): void {
    this.#hold(tilePath(level, index), data);
    if (level > 0) return;
    this.#hold(bundlePath(index), Buffer.from(this.#bundle.subarray(0, this.#bundleLength)));
    this.#bundleLength = 0;
  }

  #hold(path: string, data: Buffer): void {
    this.#full.push({ path, data });
    this.#bytes += data.length;
  }
}

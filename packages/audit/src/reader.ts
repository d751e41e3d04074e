// Reads a tlog-tiles directory: tiles, entries, and the proofs that follow from them.
import { Buffer } from "node:buffer";
import path from "node:path";
import { AuditError, errnoOf } from "./errors.ts";
import { readRegular } from "./files.ts";
import {
  consistencyRanges,
  emptyRoot,
  foldNodes,
  hashSize,
  inclusionRanges,
  rangeNodes,
  type NodeId,
} from "./merkle.ts";
import { bundlePath, parseBundle, subtreeHash, tileOfNode, tilePath, tileWidth } from "./tiles.ts";

/**
 * A log directory as its checkpoint of `size` entries shows it.
 *
 * @example
 * ```ts
 * const log = new LogReader(dir, parseCheckpoint(parseNote(checkpoint).text).size);
 * for (const { seq, entry } of log.entries(100, 200)) console.log(decodeEntry(entry, seq).type);
 * ```
 */
export class LogReader {
  readonly dir: string;
  readonly size: number;

  constructor(dir: string, size: number) {
    this.dir = dir;
    this.size = size;
  }

  /** The first `width` hashes of a tile, from the partial tile or, where that is gone, from the full one. */
  tile(level: number, index: number, width: number): Buffer {
    const data = this.#read(tilePath(level, index, width), tilePath(level, index));
    if (data.length < width * hashSize)
      throw damaged(tilePath(level, index, width), "is too short");
    return data.subarray(0, width * hashSize);
  }

  /** The entries of a bundle that the checkpoint covers. */
  bundle(index: number): Buffer[] {
    const width = Math.min(tileWidth, this.size - index * tileWidth);
    const entries = parseBundle(this.#read(bundlePath(index, width), bundlePath(index)));
    if (entries.length < width)
      throw damaged(bundlePath(index, width), `holds ${entries.length} entries`);
    return entries.slice(0, width);
  }

  /** One entry. @throws AuditError `ERR_NONO_AUDIT_INPUT` when the checkpoint does not cover it. */
  entry(seq: number): Buffer {
    if (!Number.isSafeInteger(seq) || seq < 0 || seq >= this.size) {
      throw new AuditError(
        "ERR_NONO_AUDIT_INPUT",
        `the checkpoint covers entries 0 to ${this.size - 1}`,
        { value: seq },
      );
    }
    return this.bundle(Math.floor(seq / tileWidth))[seq % tileWidth] as Buffer;
  }

  /** Entries `[from, to)` in order, one bundle in memory at a time. */
  *entries(from = 0, to: number = this.size): Generator<{ seq: number; entry: Buffer }> {
    const end = Math.min(to, this.size);
    for (let seq = from; seq < end;) {
      const index = Math.floor(seq / tileWidth);
      for (const entry of this.bundle(index).slice(
        seq - index * tileWidth,
        end - index * tileWidth,
      )) {
        yield { seq, entry };
        seq += 1;
      }
    }
  }

  /** Inclusion proof of entry `seq` in the tree of `size`. */
  inclusionProof(seq: number, size: number = this.size): Buffer[] {
    return inclusionRanges(seq, size).map((range) => this.#rangeHash(rangeNodes(range)));
  }

  /** Proof that the tree of `size` extends that of `oldSize`. */
  consistencyProof(oldSize: number, size: number = this.size): Buffer[] {
    return consistencyRanges(oldSize, size).map((range) => this.#rangeHash(rangeNodes(range)));
  }

  /** Root of the tree of the first `size` entries. */
  root(size: number = this.size): Buffer {
    return size === 0 ? emptyRoot : this.#rangeHash(rangeNodes([0, size]));
  }

  #rangeHash(nodes: readonly NodeId[]): Buffer {
    return foldNodes(nodes.map((node) => this.#node(node)));
  }

  #node(node: NodeId): Buffer {
    const { level, index, start, count } = tileOfNode(node);
    const width = Math.min(
      tileWidth,
      Math.floor(this.size / tileWidth ** level) - index * tileWidth,
    );
    return subtreeHash(this.tile(level, index, width), start, count);
  }

  #read(name: string, full: string): Buffer {
    try {
      return readRegular(path.join(this.dir, name));
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw error;
      if (name === full) throw damaged(name, "is missing");
      return this.#read(full, full);
    }
  }
}

function damaged(file: string, what: string): AuditError {
  return new AuditError("ERR_NONO_AUDIT_CORRUPT", `${file} ${what}`, { value: file });
}

import { describe, expect, test } from "vitest";
import {
  consistencyRanges,
  emptyRoot,
  foldNodes,
  inclusionRanges,
  leafHash,
  nodeHash,
  rangeNodes,
  verifyConsistency,
  verifyInclusion,
} from "../src/merkle.ts";
import { bundlePath, TileTree, tilePath, tileWidth, type Tile } from "../src/tiles.ts";

/** The recursive definition of RFC 6962 2.1, straight from its text. */
function naiveRoot(leaves: readonly Buffer[]): Buffer {
  if (leaves.length === 0) return emptyRoot;
  if (leaves.length === 1) return leaves[0] as Buffer;
  let k = 1;
  while (k * 2 < leaves.length) k *= 2;
  return nodeHash(naiveRoot(leaves.slice(0, k)), naiveRoot(leaves.slice(k)));
}

const leaves = Array.from({ length: 70 }, (_, n) => leafHash(Buffer.from(`leaf ${n}`)));
const hashOf = ([start, end]: readonly [number, number]): Buffer =>
  naiveRoot(leaves.slice(start, end));

describe("Merkle tree", () => {
  test("golden hashes of RFC 6962", () => {
    expect(emptyRoot.toString("hex")).toBe(
      "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    );
    expect(leafHash(Buffer.alloc(0)).toString("hex")).toBe(
      "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    );
    expect(nodeHash(Buffer.from("N123".padEnd(32, "\0")), Buffer.alloc(32)).length).toBe(32);
    // The eight leaves of the Certificate Transparency test tree and its root.
    const ct = [
      "",
      "00",
      "10",
      "2021",
      "3031",
      "40414243",
      "5051525354555657",
      "606162636465666768696a6b6c6d6e6f",
    ];
    const root = naiveRoot(ct.map((hex) => leafHash(Buffer.from(hex, "hex"))));
    expect(root.toString("hex")).toBe(
      "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    );
  });

  test("tile tree, range folding and the definition agree for every size", () => {
    const tree = new TileTree();
    for (let size = 1; size <= leaves.length; size += 1) {
      tree.append(leaves[size - 1] as Buffer);
      const root = naiveRoot(leaves.slice(0, size));
      expect(tree.root()).toEqual(root);
      const nodes = rangeNodes([0, size]).map(({ level, index }) =>
        hashOf([index * 2 ** level, (index + 1) * 2 ** level]),
      );
      expect(foldNodes(nodes)).toEqual(root);
    }
  });

  test("every inclusion proof verifies, and no altered one does", () => {
    for (let size = 1; size <= 40; size += 1) {
      const root = naiveRoot(leaves.slice(0, size));
      for (let index = 0; index < size; index += 1) {
        const proof = inclusionRanges(index, size).map(hashOf);
        const leaf = leaves[index] as Buffer;
        verifyInclusion({ index, size, leaf, proof, root });
        expect(() => verifyInclusion({ index, size, leaf: emptyRoot, proof, root })).toThrow(
          "another root",
        );
        expect(() => verifyInclusion({ index, size, leaf, proof: [...proof, root], root })).toThrow(
          /too long|root/,
        );
        if (proof.length > 0) {
          expect(() => verifyInclusion({ index, size, leaf, proof: proof.slice(1), root })).toThrow(
            /too short|root/,
          );
          expect(() =>
            verifyInclusion({
              index: size - 1 - index === index ? index + 1 : size - 1 - index,
              size,
              leaf,
              proof,
              root,
            }),
          ).toThrow();
        }
      }
    }
  });

  test("every consistency proof verifies, and no altered one does", () => {
    for (let size = 1; size <= 40; size += 1) {
      const root = naiveRoot(leaves.slice(0, size));
      for (let oldSize = 1; oldSize <= size; oldSize += 1) {
        const oldRoot = naiveRoot(leaves.slice(0, oldSize));
        const proof = consistencyRanges(oldSize, size).map(hashOf);
        verifyConsistency({ oldSize, oldRoot, size, root, proof });
        expect(() =>
          verifyConsistency({ oldSize, oldRoot: emptyRoot, size, root, proof }),
        ).toThrow();
        expect(() =>
          verifyConsistency({ oldSize, oldRoot, size, root: emptyRoot, proof }),
        ).toThrow();
        expect(() =>
          verifyConsistency({ oldSize, oldRoot, size, root, proof: [...proof, root] }),
        ).toThrow();
        if (proof.length > 0)
          expect(() =>
            verifyConsistency({ oldSize, oldRoot, size, root, proof: proof.slice(0, -1) }),
          ).toThrow();
      }
    }
    expect(() =>
      verifyConsistency({
        oldSize: 0,
        oldRoot: emptyRoot,
        size: 1,
        root: leaves[0] as Buffer,
        proof: [],
      }),
    ).toThrow("cannot extend");
  });

  test("a tree resumed from its partial tiles continues as if it had never stopped", () => {
    for (const size of [1, 255, 256, 257, 65_535, 65_536, 65_537]) {
      const whole = new TileTree();
      const leaf = leaves[3] as Buffer;
      for (let n = 0; n < size; n += 1) whole.append(leaf);
      const edge = new Map(
        whole
          .partialTiles()
          .map((tile) => [`${tile.level}/${tile.index}/${tile.width}`, tile.data]),
      );
      const resumed = TileTree.resume(
        size,
        (level, index, width) => edge.get(`${level}/${index}/${width}`) as Buffer,
      );
      expect(resumed.root()).toEqual(whole.root());
      for (let n = 0; n < 300; n += 1) {
        whole.append(leaf);
        resumed.append(leaf);
      }
      expect(resumed.root()).toEqual(whole.root());
    }
  });

  test("tiles are announced when full, the level above after the level below", () => {
    const tiles: Tile[] = [];
    const tree = new TileTree((tile) => tiles.push(tile));
    for (let n = 0; n < tileWidth ** 2; n += 1) tree.append(leaves[0] as Buffer);
    expect(tiles.length).toBe(257);
    expect(tiles.at(-1)).toMatchObject({ level: 1, index: 0, width: 256 });
    expect(tree.partialTiles()).toMatchObject([{ level: 2, index: 0, width: 1 }]);
  });

  test("paths of the tlog-tiles specification", () => {
    expect(tilePath(0, 1_234_067)).toBe("tile/0/x001/x234/067");
    expect(bundlePath(5, 17)).toBe("tile/entries/005.p/17");
    expect(bundlePath(1000)).toBe("tile/entries/x001/000");
  });
});

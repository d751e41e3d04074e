package main

import (
	"encoding/json"
	"os"
	"slices"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"
)

// merkleCase is a root, or a proof with transparency-dev's verdict on it.
type merkleCase struct {
	Kind    string   `json:"kind"`
	What    string   `json:"what"`
	Index   uint64   `json:"index"`
	OldSize uint64   `json:"oldSize"`
	Size    uint64   `json:"size"`
	Leaf    []byte   `json:"leaf"`
	OldRoot []byte   `json:"oldRoot"`
	Root    []byte   `json:"root"`
	Proof   [][]byte `json:"proof"`
	Leaves  [][]byte `json:"leaves,omitempty"`
	OK      bool     `json:"ok"`
}

func (c merkleCase) judged() merkleCase {
	if c.Kind == "inclusion" {
		c.OK = proof.VerifyInclusion(rfc6962.DefaultHasher, c.Index, c.Size, c.Leaf, c.Proof, c.Root) == nil
	} else {
		c.OK = proof.VerifyConsistency(rfc6962.DefaultHasher, c.OldSize, c.Size, c.Proof, c.OldRoot, c.Root) == nil
	}
	return c
}

// variants are the case itself and what an attacker may make of it.
func (c merkleCase) variants() []merkleCase {
	other := rfc6962.DefaultHasher.HashLeaf([]byte("something else"))
	cases := []merkleCase{c}
	add := func(what string, change func(*merkleCase)) {
		changed := c
		changed.What = what
		changed.Proof = slices.Clone(c.Proof)
		change(&changed)
		cases = append(cases, changed)
	}
	add("other root", func(v *merkleCase) { v.Root = other })
	add("no proof", func(v *merkleCase) { v.Proof = nil })
	add("trailing hash", func(v *merkleCase) { v.Proof = append(v.Proof, other) })
	add("trailing root", func(v *merkleCase) { v.Proof = append(v.Proof, c.Root) })
	add("preceding hash", func(v *merkleCase) { v.Proof = slices.Insert(v.Proof, 0, other) })
	for _, size := range []uint64{0, c.Size - 1, c.Size + 1, c.Size * 2, c.Size / 2, c.Size ^ 2} {
		add("other size", func(v *merkleCase) { v.Size = size })
	}
	for i := range c.Proof {
		add("flipped bit", func(v *merkleCase) {
			v.Proof[i] = slices.Clone(v.Proof[i])
			v.Proof[i][i%32] ^= 1 << (i % 8)
		})
		add("truncated", func(v *merkleCase) { v.Proof = v.Proof[:i] })
		add("without its start", func(v *merkleCase) { v.Proof = v.Proof[i+1:] })
	}
	if c.Kind == "inclusion" {
		add("other leaf", func(v *merkleCase) { v.Leaf = other })
		add("root as leaf", func(v *merkleCase) { v.Leaf = c.Root })
		for _, index := range []uint64{c.Index - 1, c.Index + 1, c.Index ^ 2, c.Index * 2, c.Size, c.Size + c.Index} {
			add("other index", func(v *merkleCase) { v.Index = index })
		}
		return cases
	}
	add("other old root", func(v *merkleCase) { v.OldRoot = other })
	add("swapped roots", func(v *merkleCase) { v.OldRoot, v.Root = c.Root, c.OldRoot })
	for _, size := range []uint64{0, c.OldSize - 1, c.OldSize + 1, c.OldSize * 2, c.OldSize ^ 2} {
		add("other old size", func(v *merkleCase) { v.OldSize = size })
	}
	return cases
}

// writeMerkleCases prints the golden trees of RFC 6962's test data and some thousand proofs, true and false.
func writeMerkleCases(sizes []uint64) error {
	out := json.NewEncoder(os.Stdout)
	for size, root := range testonly.RootHashes() {
		golden := merkleCase{Kind: "root", Size: uint64(size), Root: root, Leaves: testonly.LeafInputs()[:size], OK: true}
		if err := out.Encode(golden); err != nil {
			return err
		}
	}
	tree := testonly.New(rfc6962.DefaultHasher)
	for tree.Size() < slices.Max(sizes) {
		tree.AppendData([]byte{byte(tree.Size())})
	}
	for _, size := range sizes {
		for at := uint64(0); at < size; at++ {
			inclusion, err := tree.InclusionProof(at, size)
			if err != nil {
				return err
			}
			cases := merkleCase{Kind: "inclusion", Index: at, Size: size, Leaf: tree.LeafHash(at), Root: tree.HashAt(size), Proof: inclusion}.variants()
			consistency, err := tree.ConsistencyProof(at+1, size)
			if err != nil {
				return err
			}
			cases = append(cases, merkleCase{Kind: "consistency", OldSize: at + 1, Size: size, OldRoot: tree.HashAt(at + 1), Root: tree.HashAt(size), Proof: consistency}.variants()...)
			for _, one := range cases {
				if err := out.Encode(one.judged()); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

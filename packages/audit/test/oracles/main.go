// Command oracle lets implementations that are not ours judge what ours wrote.
//
//	oracle fsck DIR ORIGIN VKEY            tessera's own check of a tlog-tiles directory
//	oracle flips DIR ORIGIN VKEY < lines   "file offset mask": fsck with that byte changed; prints those it missed
//	oracle note VKEY...          < note    every line must be of a known key; prints how many verified
//	oracle proof VKEY ENTRYFILE  < proof   C2SP tlog-proof, then golang.org/x/mod's CheckRecord
//	oracle consistency           < lines   "old oldroot new newroot", then the hashes; x/mod's CheckTree
//	oracle jcs                   < lines   each line is its own canonical form (cyberphone's RFC 8785)
//	oracle merkle                          proofs, true and false, with transparency-dev/merkle's verdicts
//	oracle bundle ROOT KEY ARTIFACT BUNDLE Sigstore bundle by sigstore-go, offline
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/formats/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A tile mismatch makes fsck hang when a worker has left; silence for this long is a failure.
const deadline = 60 * time.Second

func main() {
	time.AfterFunc(deadline, func() { fail(fmt.Errorf("no answer within %v", deadline)) })
	var err error
	args := os.Args[2:]
	switch os.Args[1] {
	case "fsck":
		err = checkDirectory(args[0], args[1], args[2])
	case "flips":
		err = checkFlips(args[0], args[1], args[2])
	case "note":
		err = checkNote(args)
	case "proof":
		err = checkProof(args[0], args[1])
	case "consistency":
		err = checkConsistency()
	case "jcs":
		err = checkCanonical()
	case "merkle":
		err = writeMerkleCases([]uint64{1, 2, 3, 4, 5, 7, 8, 11, 16, 23, 33})
	case "bundle":
		err = checkBundle(args[0], args[1], args[2], args[3])
	default:
		err = fmt.Errorf("unknown command %q", os.Args[1])
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func checkDirectory(dir, origin, vkey string) error {
	verifier, err := fnote.NewVerifier(vkey)
	if err != nil {
		return err
	}
	check := fsck.New(origin, verifier, client.FileFetcher{Root: dir}, bundleHashes, fsck.Opts{N: 16})
	return check.Check(context.Background())
}

// checkFlips changes one byte at a time, on disk, and prints the changes that fsck takes no notice of.
func checkFlips(dir, origin, vkey string) error {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var name string
		var offset int
		var mask byte
		if _, err := fmt.Sscan(lines.Text(), &name, &offset, &mask); err != nil {
			return err
		}
		file := filepath.Join(dir, name)
		original, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		changed := bytes.Clone(original)
		changed[offset] ^= mask
		if err := os.WriteFile(file, changed, 0o644); err != nil {
			return err
		}
		verdict := make(chan error, 1)
		go func() {
			// It indexes past the end of a bundle whose entries have become fewer: noticed, in its way.
			defer func() {
				if problem := recover(); problem != nil {
					verdict <- fmt.Errorf("fsck: %v", problem)
				}
			}()
			verdict <- checkDirectory(dir, origin, vkey)
		}()
		select {
		case err = <-verdict:
		case <-time.After(3 * time.Second):
			err = fmt.Errorf("no answer")
		}
		if err == nil {
			fmt.Println("missed:", lines.Text())
		}
		if err := os.WriteFile(file, original, 0o644); err != nil {
			return err
		}
	}
	return lines.Err()
}

func bundleHashes(data []byte) ([][]byte, error) {
	var bundle api.EntryBundle
	if err := bundle.UnmarshalText(data); err != nil {
		return nil, err
	}
	var hashes [][]byte
	for _, entry := range bundle.Entries {
		hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(entry))
	}
	return hashes, nil
}

func verifierOf(vkey string) (note.Verifier, error) {
	_, encoded, _ := strings.Cut(vkey, "+")
	_, encoded, _ = strings.Cut(encoded, "+")
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(key) == 0 {
		return nil, fmt.Errorf("bad verifier key %q", vkey)
	}
	switch key[0] {
	case 1:
		return note.NewVerifier(vkey)
	case 4:
		return fnote.NewVerifierForCosignatureV1(vkey)
	case 6:
		return fnote.NewMLDSAVerifier(vkey)
	default:
		return fnote.NewVerifier(vkey)
	}
}

func openNote(text []byte, vkeys []string) (*note.Note, error) {
	var verifiers []note.Verifier
	for _, vkey := range vkeys {
		verifier, err := verifierOf(vkey)
		if err != nil {
			return nil, err
		}
		verifiers = append(verifiers, verifier)
	}
	return note.Open(text, note.VerifierList(verifiers...))
}

func checkNote(vkeys []string) error {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	opened, err := openNote(text, vkeys)
	if err != nil {
		return err
	}
	if len(opened.UnverifiedSigs) > 0 {
		return fmt.Errorf("%d lines of unknown keys", len(opened.UnverifiedSigs))
	}
	fmt.Println(len(opened.Sigs))
	return nil
}

func checkProof(vkey, entryFile string) error {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	entry, err := os.ReadFile(entryFile)
	if err != nil {
		return err
	}
	var parsed proof.TLogProof
	if err := parsed.Unmarshal(text); err != nil {
		return err
	}
	if again := parsed.Marshal(); !bytes.Equal(again, text) {
		return fmt.Errorf("the proof is not in its canonical form")
	}
	opened, err := openNote(parsed.Checkpoint, []string{vkey})
	if err != nil {
		return err
	}
	tree, err := treeOf(opened.Text)
	if err != nil {
		return err
	}
	var path tlog.RecordProof
	for _, hash := range parsed.Hashes {
		path = append(path, tlog.Hash(hash))
	}
	return tlog.CheckRecord(path, tree.N, tree.Hash, int64(parsed.Index), tlog.RecordHash(entry))
}

// x/mod's own checkpoint parser insists on the origin of the Go checksum database, so read the lines here.
func treeOf(text string) (tlog.Tree, error) {
	lines := strings.Split(text, "\n")
	if len(lines) < 3 {
		return tlog.Tree{}, fmt.Errorf("not a checkpoint: %q", text)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	hash, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: hash}, err
}

func checkCanonical() error {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		canonical, err := jsoncanonicalizer.Transform(lines.Bytes())
		if err != nil {
			return err
		}
		if !bytes.Equal(canonical, lines.Bytes()) {
			return fmt.Errorf("the canonical form of %s is %s", lines.Bytes(), canonical)
		}
	}
	return lines.Err()
}

func checkConsistency() error {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 {
			return fmt.Errorf("bad line %q", lines.Text())
		}
		older, err := treeOf("o\n" + fields[0] + "\n" + fields[1])
		if err != nil {
			return err
		}
		newer, err := treeOf("o\n" + fields[2] + "\n" + fields[3])
		if err != nil {
			return err
		}
		var path tlog.TreeProof
		for _, field := range fields[4:] {
			hash, err := tlog.ParseHash(field)
			if err != nil {
				return err
			}
			path = append(path, hash)
		}
		if err := tlog.CheckTree(path, newer.N, newer.Hash, older.N, older.Hash); err != nil {
			return fmt.Errorf("%d to %d: %w", older.N, newer.N, err)
		}
	}
	return lines.Err()
}

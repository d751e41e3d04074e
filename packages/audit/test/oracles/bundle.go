package main

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"
)

// checkBundle verifies a bundle made with a local key: its log entry, its timestamp and its subject.
func checkBundle(rootFile, keyFile, artifactFile, bundleFile string) error {
	trusted, err := root.NewTrustedRootFromPath(rootFile)
	if err != nil {
		return err
	}
	key, err := readKey(keyFile)
	if err != nil {
		return err
	}
	signed, err := bundle.LoadJSONFromPath(bundleFile)
	if err != nil {
		return err
	}
	artifact, err := os.Open(artifactFile)
	if err != nil {
		return err
	}
	defer artifact.Close()
	material := &keyMaterial{TrustedMaterial: trusted, key: key}
	verifier, err := verify.NewVerifier(material, verify.WithTransparencyLog(1), verify.WithSignedTimestamps(1))
	if err != nil {
		return err
	}
	_, err = verifier.Verify(signed, verify.NewPolicy(verify.WithArtifact(artifact), verify.WithKey()))
	return err
}

type keyMaterial struct {
	root.TrustedMaterial
	key crypto.PublicKey
}

func (m *keyMaterial) PublicKeyVerifier(string) (root.TimeConstrainedVerifier, error) {
	verifier, err := signature.LoadDefaultVerifier(m.key)
	if err != nil {
		return nil, err
	}
	return root.NewExpiringKey(verifier, time.Time{}, time.Time{}), nil
}

func readKey(file string) (crypto.PublicKey, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s is not PEM", file)
	}
	return x509.ParsePKIXPublicKey(block.Bytes)
}

package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// foreignCase is one attachment as webcrypto.mjs writes and reads it.
type foreignCase struct {
	Version     int             `json:"version"`
	Length      int             `json:"length"`
	NameText    string          `json:"name_text"`
	MIMEText    string          `json:"mime_text"`
	PlainSHA256 string          `json:"plain_sha256"`
	Vault       string          `json:"vault"`
	Attachment  string          `json:"attachment"`
	BlobID      string          `json:"blobID"`
	EncKey      string          `json:"encKey"`
	FK          string          `json:"fk,omitempty"`
	Wrapped     json.RawMessage `json:"wrapped"`
	Name        string          `json:"name"`
	MIME        string          `json:"mime"`
	BlobLen     int64           `json:"blob_len,omitempty"`
	BlobSHA256  string          `json:"blob_sha256,omitempty"`
	Blob        string          `json:"blob,omitempty"`
	File        string          `json:"file,omitempty"`
}

func (c *foreignCase) id(t *testing.T, s string) ID { return must[ID](t)(ParseHex(s)) }

// open reads the case with this package alone, and compares.
func (c *foreignCase) open(t *testing.T, blob []byte) {
	t.Helper()
	vault, attachment, blobID := c.id(t, c.Vault), c.id(t, c.Attachment), c.id(t, c.BlobID)
	e := &EpochKeys{enc: newGCM(unhex(t, c.EncKey))}
	fk, err := e.UnwrapFileKey(must[[]byte](t)(ParseWireJSON(c.Wrapped)))
	if err != nil {
		t.Fatalf("file key: %v", err)
	}
	var plain []byte
	if c.Version == V3 {
		if blob, err = RawV3(blob, int64(c.Length)); err != nil {
			t.Fatal(err)
		}
		hdr := HdrOfV3(blob)
		if plain, err = openParts(&fk, bytes.Clone(blob), hdr[:], 2, borders(c.Length, usualPart)); err != nil || !bytes.Equal(plain, pattern(c.Length)) {
			t.Errorf("content in parts: %v", err)
		}
		plain, err = OpenV3(&fk, blob, int64(c.Length), hdr[:])
	} else {
		plain, err = openV4(&fk, vault, blobID, blob, int64(c.Length))
	}
	if err != nil || !bytes.Equal(plain, pattern(c.Length)) {
		t.Errorf("content: %v", err)
	}
	for f, want := range map[Field][2]string{FieldName: {c.Name, c.NameText}, FieldMIME: {c.MIME, c.MIMEText}} {
		// The wire form is a JSON string holding the object; both readings must work.
		quoted := must[[]byte](t)(json.Marshal(want[0]))
		for _, js := range [][]byte{[]byte(want[0]), quoted} {
			wire := must[[]byte](t)(ParseWireJSON(js))
			got, err := OpenField(c.Version, &fk, vault, attachment, f, wire)
			if err != nil || got != want[1] {
				t.Errorf("field %d: got %q, %v", f, got, err)
			}
		}
	}
}

// TestWebCryptoFixture reads what WebCrypto wrote, kept as test data.
func TestWebCryptoFixture(t *testing.T) {
	var cases []foreignCase
	readJSON(t, "testdata/v1/webcrypto.json", &cases)
	if len(cases) != 14 {
		t.Fatalf("%d cases", len(cases))
	}
	for _, c := range cases {
		t.Run(fmt.Sprintf("v%d/%d", c.Version, c.Length), func(t *testing.T) {
			blob := c.reseal(t)
			if sum := sha256.Sum256(blob); int64(len(blob)) != c.BlobLen || hex.EncodeToString(sum[:]) != c.BlobSHA256 {
				t.Error("sealing the same content with the same key and IV gives another blob")
			}
			if c.Blob != "" {
				blob = unb64(t, c.Blob)
			}
			c.open(t, blob)
		})
	}
}

// reseal makes the blob of a fixed case anew, from its fixed IV or salt.
func (c *foreignCase) reseal(t *testing.T) []byte {
	fk := must[Key](t)(KeyFromBytes(unhex(t, c.FK)))
	if c.Version == V3 {
		return fixedSeal(fk.b[:], seq(0xa0, ivSize), pattern(c.Length), nil)
	}
	v4 := deriveV4(&fk, c.id(t, c.Vault), c.id(t, c.BlobID), [saltSize]byte(seq(0x80, saltSize)))
	return v4.SealChunks(v4.Header(), pattern(c.Length), 0, true)
}

// TestWebCrypto runs both directions against node, with random keys.
func TestWebCrypto(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed; TestWebCryptoFixture checks its stored output")
	}
	if testing.Short() {
		t.Skip("short: node takes seconds; TestWebCryptoFixture checks its stored output")
	}
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command(node, append([]string{"testdata/webcrypto.mjs"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("node %v: %v\n%s", args, err, out)
		}
	}
	t.Run("read", func(t *testing.T) {
		dir := t.TempDir()
		run("write", dir)
		var cases []foreignCase
		readJSON(t, filepath.Join(dir, "cases.json"), &cases)
		for _, c := range cases {
			t.Run(c.File, func(t *testing.T) {
				c.open(t, must[[]byte](t)(os.ReadFile(filepath.Join(dir, c.File))))
			})
		}
	})
	t.Run("write", func(t *testing.T) {
		dir := t.TempDir()
		var cases []foreignCase
		readJSON(t, "testdata/v1/webcrypto.json", &cases) // for lengths, names and types
		for i := range cases {
			cases[i] = cases[i].rewritten(t, dir)
		}
		js := must[[]byte](t)(json.Marshal(cases))
		if err := os.WriteFile(filepath.Join(dir, "cases.json"), js, 0o600); err != nil {
			t.Fatal(err)
		}
		run("read", dir)
	})
}

// rewritten seals the same texts and length under new keys, as this package does
// for real, and leaves the blob in dir.
func (c foreignCase) rewritten(t *testing.T, dir string) foreignCase {
	vault, attachment, blobID := NewID(), NewID(), NewBlobID()
	fk, encKey := NewKey(), NewKey()
	e := &EpochKeys{enc: newGCM(encKey.b[:])}
	plain := pattern(c.Length)
	var blob []byte
	if c.Version == V3 {
		blob = []byte(EncodeBase64(sealedV3(t, &fk, plain)))
	} else {
		_, blob = sealedV4(&fk, vault, blobID, plain)
	}
	name := must[[]byte](t)(SealField(c.Version, &fk, vault, attachment, FieldName, c.NameText))
	mime := must[[]byte](t)(SealField(c.Version, &fk, vault, attachment, FieldMIME, c.MIMEText))
	out := foreignCase{
		Version: c.Version, Length: c.Length, NameText: c.NameText, MIMEText: c.MIMEText, PlainSHA256: c.PlainSHA256,
		Vault: vault.Hex(), Attachment: attachment.Hex(), BlobID: blobID.Hex(), EncKey: hex.EncodeToString(encKey.Bytes()),
		Wrapped: json.RawMessage(WireJSON(must[[]byte](t)(e.WrapFileKey(&fk)))), Name: WireJSON(name), MIME: WireJSON(mime),
		File: fmt.Sprintf("v%d-%d", c.Version, c.Length),
	}
	if err := os.WriteFile(filepath.Join(dir, out.File), blob, 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}

package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"testing"
)

// The fixed inputs of the vectors: bytes a, a+1, … and the pattern content.
var (
	testVault      = ID(seq(0x10, 16))
	testAttachment = ID(seq(0x20, 16))
	testDevice     = ID(seq(0x30, 16))
	testBlob       = ID(seq(0x50, 16))
	testParent     = ID(seq(0x70, 16))
)

func seq(a byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = a + byte(i)
	}
	return b
}

func keyFrom(a byte) *Key { return &Key{b: [keySize]byte(seq(a, keySize))} }

// pattern is the content of the vectors: byte i = 7i + i/256.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// fixedSeal is sealRandom with a chosen IV: what no caller outside tests can do.
func fixedSeal(key, iv, plain, aad []byte) []byte {
	return newGCM(key).Seal(bytes.Clone(iv), iv, plain, aad)
}

// sealedV3 returns the v3 blob of plain, sealed by the package itself.
func sealedV3(t testing.TB, fk *Key, plain []byte) []byte {
	t.Helper()
	buf := make([]byte, len(plain)+OverheadV3)
	copy(buf[ivSize:], plain)
	blob, err := SealV3(fk, buf, len(plain))
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

// sealedV4 returns a whole v4 blob and what seals and opens it.
func sealedV4(fk *Key, vault, blob ID, plain []byte) (*ContentV4, []byte) {
	c := NewV4(fk, vault, blob)
	return c, c.SealChunks(c.Header(), plain, 0, true)
}

// openV4 opens a whole v4 blob as a reader with its record does.
func openV4(fk *Key, vault, id ID, blob []byte, size int64) ([]byte, error) {
	if err := CheckSizeV4(int64(len(blob)), size); err != nil {
		return nil, err
	}
	c, err := OpenHeaderV4(fk, vault, id, blob[:HeaderV4])
	if err != nil {
		return nil, err
	}
	plain := make([]byte, size)
	n, err := c.OpenChunks(plain, blob[HeaderV4:], 0)
	return plain[:n], err
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unb64(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readJSON(t testing.TB, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func wantErr(t testing.TB, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
}

func wantBytes(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got %x, want %x", what, clip(got), clip(want))
	}
}

func wantHex(t testing.TB, what string, got []byte, want string) {
	t.Helper()
	wantBytes(t, what, got, unhex(t, want))
}

func clip(b []byte) []byte { return b[:min(len(b), 64)] }

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// flipped returns a copy of b with one bit turned.
func flipped(b []byte, bit int) []byte {
	c := bytes.Clone(b)
	c[bit/8] ^= 1 << (bit % 8)
	return c
}

func sum256(parts ...any) [32]byte {
	h := sha256.New()
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			h.Write([]byte(p))
		case []byte:
			h.Write(p)
		}
	}
	return [32]byte(h.Sum(nil))
}

// differ checks that every change of base gives a digest of its own.
func differ[R any](t *testing.T, base R, digest func(R) [32]byte, changes map[string]func(*R)) {
	t.Helper()
	seen := map[[32]byte]string{digest(base): "no change"}
	for what, change := range changes {
		r := base
		change(&r)
		d := digest(r)
		if other, ok := seen[d]; ok {
			t.Errorf("%s: same digest as %s", what, other)
		}
		seen[d] = what
	}
}

package api

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/didkey"
)

const testVault, testDevice = "10111213-1415-1617-1819-1a1b1c1d1e1f", "30313233-3435-3637-3839-3a3b3c3d3e3f"

func testKey(first byte) ed25519.PrivateKey {
	seed := make([]byte, 32)
	for i := range seed {
		seed[i] = first + byte(i)
	}
	return ed25519.NewKeyFromSeed(seed)
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// signHeader makes an envelope of a payload as a client would.
func signHeader(key ed25519.PrivateKey, payload string) []byte {
	sig := ed25519.Sign(key, []byte(labelHeader+payload))
	return fmt.Appendf(nil, `{"payload":"%s","sig":"%s"}`, b64([]byte(payload)), b64(sig))
}

func headerPayload(key ed25519.PrivateKey, seq uint64, prev [32]byte) string {
	pk := key.Public().(ed25519.PublicKey)
	return fmt.Sprintf(`{"v":1,"vault":"%s","did":"%s","seq":%d,"prev":"%s","epoch":1,"kdf":{},"devices":[{"id":"%s","pk":"%s","revoked":false}],"cut":{},"write":"auto"}`,
		testVault, didkey.Format(pk), seq, b64(prev[:]), testDevice, b64(pk))
}

func TestHeader(t *testing.T) {
	key := testKey(1)
	first, err := ParseHeader(signHeader(key, headerPayload(key, 1, [32]byte{})))
	if err != nil {
		t.Fatal(err)
	}
	if d, ok := first.Device(testDevice); !ok || !bytes.Equal(d.PK[:], key.Public().(ed25519.PublicKey)) || first.Vault != testVault {
		t.Fatalf("%+v", first)
	}
	second, err := ParseHeader(signHeader(key, headerPayload(key, 2, first.Hash)))
	if err != nil || second.Follows(first) != nil || first.Follows(second) == nil || second.Follows(second) == nil {
		t.Fatalf("%v", err)
	}
	good := headerPayload(key, 1, [32]byte{})
	for name, bad := range map[string][]byte{
		"another's signature": signHeader(testKey(9), good),
		"version":             signHeader(key, strings.Replace(good, `"v":1`, `"v":2`, 1)),
		"seq 0":               signHeader(key, strings.Replace(good, `"seq":1`, `"seq":0`, 1)),
		"no prev at 2":        signHeader(key, strings.Replace(good, `"seq":1`, `"seq":2`, 1)),
		"epoch above seq":     signHeader(key, strings.Replace(good, `"epoch":1`, `"epoch":2`, 1)),
		"vault id":            signHeader(key, strings.Replace(good, testVault, strings.ToUpper(testVault), 1)),
		"zero device":         signHeader(key, strings.Replace(good, testDevice, ZeroID, 1)),
		"device twice":        signHeader(key, strings.Replace(good, `"cut"`, `"devices":[],"cut"`, 1)),
		"short key":           signHeader(key, strings.Replace(good, `"revoked"`, `"pk":"AAAA","revoked"`, 1)),
		"cut":                 signHeader(key, strings.Replace(good, `"cut":{}`, `"cut":{"x":{"seq":1,"hash":""}}`, 1)),
		"not JSON":            []byte("x"),
		"long":                bytes.Repeat([]byte(" "), MaxHeader+1),
	} {
		if _, err := ParseHeader(bad); !errors.Is(err, ErrHeader) {
			t.Errorf("%s: %v, want ErrHeader", name, err)
		}
	}
}

// frame makes a batch with a body that nobody can open.
func frame(key ed25519.PrivateKey, flags byte, seq uint64, prev [32]byte, sealed int) []byte {
	vault, _ := ParseID(testVault)
	device, _ := ParseID(testDevice)
	b := append([]byte(frameMagic), flags, 0, 0)
	b = append(b, vault[:]...)
	b = append(b, device[:]...)
	b = binary.BigEndian.AppendUint64(b, seq)
	b = binary.BigEndian.AppendUint32(b, 3)
	b = binary.BigEndian.AppendUint32(b, uint32(sealed))
	b = append(b, prev[:]...)
	b = append(b, make([]byte, 12+sealed)...)
	return signFrame(key, b)
}

func signFrame(key ed25519.PrivateKey, b []byte) []byte {
	hash := sha256.Sum256(b)
	return append(b, ed25519.Sign(key, append([]byte(labelBatch), hash[:]...))...)
}

func TestBatch(t *testing.T) {
	key := testKey(1)
	pk := [32]byte(key.Public().(ed25519.PublicKey))
	good := frame(key, 0, 1, [32]byte{}, 40)
	b, err := ParseBatch(good)
	if err != nil || b.Verify(pk) != nil || b.Vault != testVault || b.Device != testDevice || b.Seq != 1 || b.Epoch != 3 || b.Checkpoint {
		t.Fatalf("%+v, %v", b, err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if b, err := ParseBatch(bad); err == nil && b.Verify(pk) == nil {
			t.Fatalf("byte %d changed, and it passes", i)
		}
	}
	for n := range good {
		if _, err := ParseBatch(good[:n]); !errors.Is(err, ErrBatch) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	if part, err := ParseBatch(frame(key, 1, 2, [32]byte{1}, 16)); err != nil || !part.Checkpoint {
		t.Errorf("a checkpoint part: %v", err)
	}
	for name, bad := range map[string][]byte{
		"seq 0": frame(key, 0, 0, [32]byte{}, 40), "no prev": frame(key, 0, 2, [32]byte{}, 40), "prev at 1": frame(key, 0, 1, [32]byte{1}, 40),
		"flags": frame(key, 2, 1, [32]byte{}, 40), "long": make([]byte, MaxFrame+1), "more": append(bytes.Clone(good), 0),
	} {
		if _, err := ParseBatch(bad); !errors.Is(err, ErrBatch) {
			t.Errorf("%s: %v, want ErrBatch", name, err)
		}
	}
}

// vectorBatch is the batch of CRYPTO.md section 14.
const vectorBatch = "5644524201000000101112131415161718191a1b1c1d1e1f303132333435363738393a3b3c3d3e3f000000000000000100000003000000" +
	"430000000000000000000000000000000000000000000000000000000000000000f0f1f2f3f4f5f6f7f8f9fafbd488019c34ab8d105ed2" +
	"f7a3836b2fc0a1132aefca665703474567b82acfb78dd9595cf55ec6150798d40c98870901d9551ce85d45b5a418b15fd8476668ab1e95" +
	"52c133a5bf6ca9cb7d1d801df6959c8dd9f0c4553b190d8ee184f2fcb7d8c5dc9c216673b442012951a620e688ef4aba094d5ffdaf39fe" +
	"9c8f1fdf5093b956d58608"

// The batch of CRYPTO.md section 14, as far as it is printed there: the hash of
// what a client signs must come out of the same bytes here.
func TestBatchVector(t *testing.T) {
	raw, err := hex.DecodeString(vectorBatch)
	if err != nil {
		t.Fatal(err)
	}
	b, err := ParseBatch(raw)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := hex.EncodeToString(b.Hash[:]), "8bcdf56541874de7620053811d878cf6848ef24f4c4a876619bf7a71b4ad557e"; got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
	if err := b.Verify([32]byte(testKey(1).Public().(ed25519.PublicKey))); err != nil {
		t.Error(err)
	}
}

func FuzzParseBatch(f *testing.F) {
	f.Add(frame(testKey(1), 0, 1, [32]byte{}, 40))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseBatch(b)
		if err == nil && (!ValidID(p.Vault) || !ValidID(p.Device) || p.Seq == 0) {
			t.Fatalf("%+v", p)
		}
	})
}

func FuzzParseHeader(f *testing.F) {
	key := testKey(1)
	f.Add([]byte(headerPayload(key, 1, [32]byte{})))
	f.Fuzz(func(t *testing.T, payload []byte) {
		h, err := ParseHeader(signHeader(key, string(payload)))
		if err == nil && (!ValidID(h.Vault) || h.Seq == 0 || len(h.Devices) > MaxDevices) {
			t.Fatalf("%+v", h)
		}
	})
}

// What CheckJSON passes, encoding/json takes too, and to one reading.
func FuzzCheckJSON(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"b":null}],"c":"d"}`))
	f.Add([]byte(`{"a":1,"a":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if CheckJSON(b) == nil && !json.Valid(b) {
			t.Fatalf("%q", b)
		}
	})
}

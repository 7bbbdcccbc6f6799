package didkey

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func publicOf(seed byte) ed25519.PublicKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize)).Public().(ed25519.PublicKey)
}

func TestParse(t *testing.T) {
	if got, want := Format(publicOf(0)), "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"; got != want {
		t.Errorf("the zero seed is %s, want %s", got, want)
	}
	for i := range 50 {
		want := publicOf(byte(i))
		if pk, err := Parse(Format(want)); err != nil || !bytes.Equal(pk, want) {
			t.Errorf("%s: %x, %v", Format(want), pk, err)
		}
	}
	pk := publicOf(1)
	good := Format(pk)
	for what, did := range map[string]string{
		"empty": "", "prefix only": prefix, "no z": "did:key:" + good[len(prefix):], "other method": "did:web:z" + good[len(prefix):],
		"upper case": strings.ToUpper(good), "zero added": prefix + "1" + good[len(prefix):], "character of no digit": good[:20] + "0" + good[21:],
		"cut": good[:len(good)-1], "longer": good + "1", "too great": prefix + strings.Repeat("z", maxText), "very long": good + strings.Repeat("z", 1000),
		"space":     good + " ",
		"secp256k1": prefix + encodeBase58(append([]byte{0xe7, 0x01}, pk...)),
		"33 bytes":  prefix + encodeBase58(append([]byte{0xed, 0x01}, pk[1:]...)),
		"fragment":  good + "#" + good[len("did:key:"):],
	} {
		if _, err := Parse(did); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", what, err)
		}
	}
}

// Under each key of small order one signature, which takes no private key, is good
// for many messages; none of them is an identity's or a device's.
func TestWeak(t *testing.T) {
	nothing := append([]byte{1}, make([]byte, ed25519.SignatureSize-1)...) // the neutral element, and zero
	above := func(low byte) []byte { return append(append([]byte{low}, bytes.Repeat([]byte{0xff}, 30)...), 0x7f) }
	all := [][]byte{above(0xed), above(0xee)} // other spellings of 0 and 1
	for _, y := range weakPoints {
		for _, sign := range []byte{0, 0x80} {
			pk := bytes.Clone(y)
			pk[31] |= sign
			all = append(all, pk)
		}
	}
	for _, pk := range all {
		forged := 0
		for i := range 200 {
			if ed25519.Verify(pk, fmt.Append(nil, "message ", i), nothing) {
				forged++
			}
		}
		if forged == 0 {
			t.Errorf("%x: no signature was forged, so the list is wrong", pk)
		}
	}
	for _, pk := range append(all, above(0xf0), nil, make([]byte, 31)) {
		if _, err := Parse(Format(pk)); !Weak(pk) || !errors.Is(err, ErrMalformed) {
			t.Errorf("%x as an identity: weak %v, %v", pk, Weak(pk), err)
		}
	}
	if near := above(0xeb); Weak(near) {
		t.Error("the greatest coordinate that is no weak key's is refused")
	}
}

// FuzzParse: there is one spelling of a key.
func FuzzParse(f *testing.F) {
	good := Format(publicOf(0))
	for _, s := range []string{good, prefix + "1" + good[len(prefix):], prefix, prefix + "1111", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, did string) {
		pk, err := Parse(did)
		if err == nil && (len(pk) != ed25519.PublicKeySize || Format(pk) != did) || err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %x, %v", did, pk, err)
		}
	})
}

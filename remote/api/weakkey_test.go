package api

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// Under each key of small order one signature, which takes no private key, is good
// for many messages; none of them is an identity's or a device's.
func TestWeakKeys(t *testing.T) {
	nothing := append([]byte{1}, make([]byte, ed25519.SignatureSize-1)...) // the neutral element, and zero
	var all [][]byte
	for _, y := range weakPoints {
		for _, sign := range []byte{0, 0x80} {
			pk := bytes.Clone(y)
			pk[31] |= sign
			all = append(all, pk)
		}
	}
	for _, low := range []byte{0xed, 0xee} { // other spellings of 0 and 1
		all = append(all, append(append([]byte{low}, bytes.Repeat([]byte{0xff}, 30)...), 0x7f))
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
		if _, err := ParseDID(FormatDID(pk)); !errors.Is(err, ErrDID) {
			t.Errorf("%x as an identity: %v", pk, err)
		}
	}
	spelt := append(append([]byte{0xf0}, bytes.Repeat([]byte{0xff}, 30)...), 0x7f)
	if _, err := ParseDID(FormatDID(spelt)); !errors.Is(err, ErrDID) {
		t.Errorf("a coordinate above the field's as an identity: %v", err)
	}
	near := append(append([]byte{0xeb}, bytes.Repeat([]byte{0xff}, 30)...), 0x7f)
	if _, err := ParseDID(FormatDID(near)); err != nil {
		t.Errorf("the greatest coordinate that is no weak key's: %v", err)
	}
}

// A roster with such a key is refused, whoever signed it.
func TestWeakDeviceKey(t *testing.T) {
	identity := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	header := func(pk []byte) []byte {
		payload, err := json.Marshal(map[string]any{"v": 1, "vault": strings.Repeat("1", 8) + "-1111-4111-8111-" + strings.Repeat("1", 12),
			"did": FormatDID(identity.Public().(ed25519.PublicKey)), "seq": 1, "prev": make([]byte, 32), "epoch": 1, "cut": map[string]any{},
			"devices": []any{map[string]any{"id": strings.Repeat("2", 8) + "-2222-4222-8222-" + strings.Repeat("2", 12), "pk": pk, "revoked": false}}})
		if err != nil {
			t.Fatal(err)
		}
		body, err := json.Marshal(map[string]any{"payload": payload, "sig": ed25519.Sign(identity, append([]byte("vaultdrive/v1/header\x00"), payload...))})
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	if _, err := ParseHeader(header(identity.Public().(ed25519.PublicKey))); err != nil {
		t.Fatalf("a good key: %v", err)
	}
	if _, err := ParseHeader(header(append([]byte{1}, make([]byte, 31)...))); !errors.Is(err, ErrHeader) {
		t.Errorf("the neutral element: %v", err)
	}
}

package api

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/didkey"
)

// A roster with a key of small order, under which anybody can sign, is refused, whoever signed it.
func TestWeakDeviceKey(t *testing.T) {
	identity := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	header := func(pk []byte) []byte {
		payload, err := json.Marshal(map[string]any{"v": 1, "vault": strings.Repeat("1", 8) + "-1111-4111-8111-" + strings.Repeat("1", 12),
			"did": didkey.Format(identity.Public().(ed25519.PublicKey)), "seq": 1, "prev": make([]byte, 32), "epoch": 1, "cut": map[string]any{},
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

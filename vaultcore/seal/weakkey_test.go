package seal

import (
	"crypto/ed25519"
	"fmt"
	"testing"
)

// neutral is a key of small order: the neutral element. With zero it makes a signature
// that takes no private key and is good for every message.
var neutral = append([]byte{1}, make([]byte, ed25519.PublicKeySize-1)...)

func TestWeakDevice(t *testing.T) {
	nothing := append(append([]byte{}, neutral...), make([]byte, sigSize-len(neutral))...)
	for i := range 20 {
		msg := fmt.Append(nil, "message ", i)
		if !ed25519.Verify(neutral, append([]byte(labelBatch), msg...), nothing) {
			t.Fatal("the signature is not forged")
		}
		wantErr(t, "a forged signature", VerifyDeviceSignature(neutral, ForBatch, msg, nothing), ErrSignature)
	}
}

// A question of pairing that carries such a key is no device's, whatever its code says.
func TestWeakPairing(t *testing.T) {
	p := NewPairing()
	q := must[*PairQuestion](t)(p.Question())
	q.Device.PK = [32]byte(neutral)
	_, err := ParsePairQuestion(q.Encode(), q.Code())
	wantErr(t, "a question with a key of small order", err, ErrFormat)
}

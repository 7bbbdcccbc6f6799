package seal

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"testing"
)

// Under each key of small order one signature, which takes no private key, is good
// for many messages; none of them is an identity's or a device's.
func TestWeakKeys(t *testing.T) {
	nothing := append([]byte{1}, make([]byte, sigSize-1)...) // the neutral element, and zero
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
			msg := fmt.Append(nil, "message ", i)
			if ed25519.Verify(pk, append([]byte(labelBatch), msg...), nothing) {
				forged++
			}
			wantErr(t, "a forged signature", VerifyDeviceSignature(pk, ForBatch, msg, nothing), ErrSignature)
		}
		if forged == 0 {
			t.Errorf("%x: no signature was forged, so the list is wrong", pk)
		}
		_, err := ParseDID(FormatDID(pk))
		wantErr(t, fmt.Sprintf("%x as an identity", pk), err, ErrDID)
	}
	near := append(append([]byte{0xeb}, bytes.Repeat([]byte{0xff}, 30)...), 0x7f)
	if _, err := ParseDID(FormatDID(near)); err != nil {
		t.Errorf("the greatest coordinate that is no weak key's: %v", err)
	}
}

// A question of pairing that carries such a key is no device's, whatever its code says.
func TestWeakPairing(t *testing.T) {
	p := NewPairing()
	q := must[*PairQuestion](t)(p.Question())
	q.Device.PK = [32]byte(weakPoints[1])
	_, err := ParsePairQuestion(q.Encode(), q.Code())
	wantErr(t, "a question with a key of small order", err, ErrFormat)
}

package seal

import (
	"bytes"
	"crypto/sha256"
	"slices"
)

// Tip is a record that no other has replaced, of an attachment or an asset.
type Tip struct {
	ID     ID
	Digest [32]byte
}

// State is the hash of a whole vault: SHA-256 over id ‖ digest of all tips, each
// once, sorted bytewise. It sorts tips in place.
func State(tips []Tip) [32]byte {
	slices.SortFunc(tips, func(a, b Tip) int {
		if c := bytes.Compare(a.ID[:], b.ID[:]); c != 0 {
			return c
		}
		return bytes.Compare(a.Digest[:], b.Digest[:])
	})
	h := sha256.New()
	for i, t := range tips {
		if i > 0 && t == tips[i-1] {
			continue
		}
		h.Write(t.ID[:])
		h.Write(t.Digest[:])
	}
	return [32]byte(h.Sum(nil))
}

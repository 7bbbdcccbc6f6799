package history

import (
	"iter"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Spent gives the blobs of records that a device replaced by another content or put an
// end to: some more than once, and also such that other records name.
func (h *History) Spent(by seal.ID) iter.Seq[seal.ID] {
	return func(yield func(seal.ID) bool) {
		for _, t := range h.files {
			for _, blob := range t.spent(by) {
				if !yield(blob) {
					return
				}
			}
		}
	}
}

func (t *thread) spent(by seal.ID) (blobs []seal.ID) {
	blobOf := func(d Digest) (seal.ID, bool) {
		for i := range t.versions {
			if t.versions[i].digest == d {
				return t.versions[i].blob, true
			}
		}
		return seal.ID{}, false
	}
	for i := range t.versions {
		v := &t.versions[i]
		if blob, ok := blobOf(v.prev); ok && v.dev.id == by && blob != v.blob {
			blobs = append(blobs, blob)
		}
	}
	for _, e := range t.ends {
		if blob, ok := blobOf(e.prev); ok && e.dev.id == by {
			blobs = append(blobs, blob)
		}
	}
	return blobs
}

package syncer

import (
	"context"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Confirm gives those of some contents that are on the remote, each with its
// length. Errors: those of the remote.
func (e *Engine) Confirm(ctx context.Context, blobs []vaultcore.WantedBlob) (there []seal.ID, err error) {
	return Present(ctx, e.o.Remote, blobs)
}

// Present is Confirm for any remote.
func Present(ctx context.Context, r Remote, blobs []vaultcore.WantedBlob) (there []seal.ID, err error) {
	for len(blobs) > 0 {
		some := blobs[:min(len(blobs), statChunk)]
		blobs = blobs[len(some):]
		ids := make([]string, len(some))
		for i, b := range some {
			ids[i] = b.Blob.Hex()
		}
		sizes, err := r.StatBlobs(ctx, ids)
		if err != nil {
			return there, err
		}
		for i, b := range some {
			if sizes[i] == b.Len {
				there = append(there, b.Blob)
			}
		}
	}
	return there, nil
}

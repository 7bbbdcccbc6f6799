package vaultcore

import (
	"context"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Missing lists the contents of attachments, and of all that is in folders and
// assets, that are not on this device. Errors: ErrNotFound for an unknown id,
// ErrLedgerOff.
func (v *Vault) Missing(ctx context.Context, ids []seal.ID) ([]WantedBlob, error) {
	blobs, err := v.blobsBelow(ids)
	if err != nil {
		return nil, err
	}
	all, err := v.WantedBlobs(ctx)
	if err != nil {
		return nil, err
	}
	var out []WantedBlob
	for _, w := range all {
		if blobs[w.Blob] {
			out = append(out, w)
		}
	}
	return out, nil
}

package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// SetBoot implements syncer.Admitter: from now on this token admits to the header,
// and no earlier one. The server gets its hash.
func (r *Remote) SetBoot(ctx context.Context, token [16]byte) (asked bool, err error) {
	sum := sha256.Sum256(token[:])
	_, err = r.json(ctx, http.MethodPut, api.PathBoot(r.o.Vault), api.PutBoot{Boot: hex.EncodeToString(sum[:])}, nil)
	return true, err
}

// Admits implements syncer.Admitter.
func (r *Remote) Admits(ctx context.Context) (bool, error) {
	res, err := r.once(ctx, request{method: http.MethodGet, path: api.PathHeader(r.o.Vault, 0)}, "")
	if api.IsCode(err, api.CodeSessionInvalid) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, res.Body.Close()
}

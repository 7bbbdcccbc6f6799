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

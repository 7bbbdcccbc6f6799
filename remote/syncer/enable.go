package syncer

import (
	"context"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// Enable makes r the vault's remote: the marker, which it makes or finds, then
// all headers, then the ledger is turned on under the name of this device. r has
// to be open with the Caps that were probed. The caller keeps the id returned, 32
// hex digits, with vaultcore.SetRemote. It may be repeated. Errors: ErrForeign
// for a place of another vault, ErrOtherBytes for another history of headers,
// those of the remote.
func Enable(ctx context.Context, v *vaultcore.Vault, r Remote, device string) (remoteID string, err error) {
	return "", ErrUnavailable
}

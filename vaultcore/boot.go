package vaultcore

import (
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// BootToken gives the token of the vault's address since the newest revocation:
// it is of the epoch that began then, so every device but the revoked one knows it
// and nobody has to be told. none: no device was revoked, and the token is the
// random one of the first address.
func (v *Vault) BootToken() (token seal.ID, none bool, err error) {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return token, false, ErrClosed
	}
	var epoch uint32
	revoked := make(map[seal.ID]bool)
	err = v.reader.query("SELECT payload,sig FROM headers ORDER BY seq", func(c []dbValue) error {
		s := rowScanner{c: c}
		h, err := seal.ParseStored(s.blob(), s.blob())
		if err != nil {
			return fmt.Errorf("%w: recorded header: %w", ErrDamaged, err)
		}
		for _, d := range h.Devices {
			if d.Revoked && !revoked[d.ID] {
				revoked[d.ID], epoch = true, h.Epoch
			}
		}
		return nil
	})
	if err != nil || epoch == 0 {
		return token, true, err
	}
	err = v.keys.withEpoch(epoch, func(k *seal.EpochKeys) error {
		token = k.BootToken()
		return nil
	})
	return token, false, err
}

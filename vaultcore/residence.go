package vaultcore

import "github.com/vaultdrive/vaultdrive/vaultcore/seal"

// Where a content is, as commands and extended attributes say it.
const (
	// ResidentHere: all of it is on this device.
	ResidentHere = "present"
	// ResidentPartly: it is on the remote, and something of it here.
	ResidentPartly = "partial"
	// ResidentRemote: it is on the remote only.
	ResidentRemote = "remote-only"
	// ResidentPending: it is neither here nor known to be on the remote.
	ResidentPending = "pending"
)

// residence says where a content is, and how many of its sealed bytes are here.
// No lock is held.
func (v *Vault) residence(c *content) (where string, here int64) {
	if c == nil {
		return "", 0
	}
	if c.place.Load() != placeElsewhere {
		return ResidentHere, c.ref.sealedLen
	}
	here = v.store.fetches.sizeOf(c.ref.blob)
	switch {
	case !v.onRemote(c.ref.blob):
		return ResidentPending, here
	case here > 0:
		return ResidentPartly, here
	}
	return ResidentRemote, 0
}

// onRemote says whether a blob is known to be on the remote. In doubt it is.
func (v *Vault) onRemote(id seal.ID) bool {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return true
	}
	found, err := v.reader.one("SELECT 1 FROM blob_presence WHERE blob=?", id[:])
	return err != nil || found != nil
}

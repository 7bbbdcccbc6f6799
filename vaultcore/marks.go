package vaultcore

import (
	"errors"
	"fmt"
	"sync"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Mark is how far a device has come: its last batch that the remote has, and the
// newest header accepted by then. Numbers and no hashes, which every crash would
// make wrong.
type Mark struct {
	Batch  uint64
	Header uint64
}

// Marks keeps a Mark for each device where an old copy of the vault's directory
// does not bring an old one along, such as the user's keyring. It may forget. Its
// methods may be called from any goroutine, and should return within seconds.
type Marks interface {
	// Recall gives what was remembered last, the zero Mark if nothing was.
	Recall(vault, device seal.ID) Mark
	// Remember is told after a push.
	Remember(vault, device seal.ID, m Mark)
}

// markState is what is known of this device's Mark.
type markState struct {
	mu   sync.Mutex
	last Mark
	// behind says that the database is older than the mark.
	behind bool
}

// recallMark compares the database with what is remembered of this device.
func (v *Vault) recallMark() {
	if v.opt.Marks == nil || v.opt.ReadOnly {
		return
	}
	m := v.opt.Marks.Recall(v.keys.vaultID(), v.keys.deviceID())
	sealed, err := v.LastSealed(v.ctx)
	if err != nil {
		return // the ledger meets it too, and says so
	}
	_, accepted := v.HeaderSeq()
	v.mark.mu.Lock()
	defer v.mark.mu.Unlock()
	v.mark.last, v.mark.behind = m, sealed < m.Batch || accepted < m.Header
}

// remember tells what the remote has by now.
func (v *Vault) remember(pushed uint64) {
	if v.opt.Marks == nil {
		return
	}
	_, accepted := v.HeaderSeq()
	v.mark.mu.Lock()
	defer v.mark.mu.Unlock()
	m := Mark{Batch: max(pushed, v.mark.last.Batch), Header: max(accepted, v.mark.last.Header)}
	if m == v.mark.last {
		return
	}
	v.mark.last = m
	v.opt.Marks.Remember(v.keys.vaultID(), v.keys.deviceID(), m)
}

// RolledBack says whether the vault's directory is an older copy: it does not
// have what this device is known to have put on the remote. Nothing is sealed
// then, as its numbers are taken; reading and saving go on. Error:
// ErrLocalRollback.
func (v *Vault) RolledBack() error {
	v.mark.mu.Lock()
	defer v.mark.mu.Unlock()
	if !v.mark.behind {
		return nil
	}
	return fmt.Errorf("%w: this device has pushed batch %d under header %d, and they are not here", ErrLocalRollback, v.mark.last.Batch, v.mark.last.Header)
}

// sealable says whether this device may seal a batch. Errors: those of syncable,
// ErrLocalRollback.
func (v *Vault) sealable() error { return errors.Join(v.syncable(), v.RolledBack()) }

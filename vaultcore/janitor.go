package vaultcore

import (
	"runtime/debug"
	"time"
)

const (
	trashEvery = time.Hour
	idleEvery  = 15 * time.Second
	keptEvery  = time.Minute
)

// janitorLoop removes what the last session left, keeps the trash within its
// bounds, and gives memory back once nothing has happened for a while.
func (v *Vault) janitorLoop() {
	if err := v.removeLeftovers(); err != nil {
		v.log.Warn("leftovers of the last session not removed yet", "err", err)
	}
	if v.LedgerOn() {
		if err := v.fetchMissing(v.ctx); err != nil && v.ctx.Err() == nil {
			v.log.Warn("missing files not looked for", "err", err)
		}
	}
	v.trimTrash()
	trash, idle, kept := time.NewTicker(trashEvery), time.NewTicker(idleEvery), time.NewTicker(keptEvery)
	defer trash.Stop()
	defer kept.Stop()
	defer idle.Stop()
	last, trimmed := v.activity(), false
	for {
		select {
		case <-v.ctx.Done():
			return
		case <-trash.C:
			v.trimTrash()
		case <-kept.C:
			v.trimKept()
		case <-idle.C:
			now := v.activity()
			switch {
			case now != last:
				last, trimmed = now, false
			case !trimmed:
				// Plaintext and buffers kept for the next reader go, and the
				// garbage of loading and working with them.
				v.store.trim()
				debug.FreeOSMemory()
				trimmed = true
			}
		}
	}
}

// activity is a value that changes when the vault is used.
func (v *Vault) activity() [3]uint64 {
	c := v.fileKeys.Counters()
	v.tree.RLock()
	defer v.tree.RUnlock()
	return [3]uint64{v.com.last.Load(), c.Hits + c.Misses, uint64(len(v.opens))}
}

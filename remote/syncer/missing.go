package syncer

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// tellMissing says which batches are not on the remote though they should be, for as
// long as that is so: those before one that is there, and those that others name and
// that were given up. Anybody can announce batches of devices that the vault does not
// have.
func (e *Engine) tellMissing(heads map[seal.ID]seal.Head) {
	roster := e.o.Vault.Roster()
	e.mu.Lock()
	gaps := make(map[seal.ID]uint64)
	for _, d := range roster {
		if c := e.chains[d.ID]; c != nil && c.missing > heads[d.ID].Seq {
			gaps[d.ID] = c.missing
		}
	}
	maps.DeleteFunc(e.withheld, func(device seal.ID, seq uint64) bool { return seq <= heads[device].Seq })
	withheld := maps.Clone(e.withheld)
	e.mu.Unlock()
	e.holdMissing(seal.ErrGap, gaps)
	e.holdMissing(vaultcore.ErrWithheld, withheld)
}

// holdMissing keeps the condition of a cause as long as there are such batches.
func (e *Engine) holdMissing(cause error, missing map[seal.ID]uint64) {
	m := meaningOf(cause)
	if len(missing) == 0 {
		e.cond.clear(m.kind)
		return
	}
	var named []string
	for device, seq := range missing {
		named = append(named, fmt.Sprintf("batch %d of device %s", seq, device))
	}
	slices.Sort(named)
	if e.cond.set(m.kind, m.text+": "+strings.Join(named, ", "), m.hint) {
		e.o.Log.Warn("condition", "kind", m.kind, "batches", len(named))
	}
}

// giveUpLocked notes the batches that a device's chain waits for no longer.
func (e *Engine) giveUpLocked(device seal.ID, waiting []vaultcore.Wait) {
	for _, w := range waiting {
		if w.Device != device {
			continue
		}
		for of, seq := range w.Missing {
			e.withheld[of] = max(e.withheld[of], seq)
		}
	}
}

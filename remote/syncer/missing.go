package syncer

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// goneMost bounds how many batches of a chain are looked for at a time.
const goneMost = 64

// forgetGone drops batches behind a gap that were listed and are not there any more:
// something that was put there, and taken away again, makes nothing before it missing.
// The last one of a chain is looked for; while it is there the gap is one.
func (e *Engine) forgetGone(ctx context.Context) error {
	for range goneMost {
		ends := e.behindGaps()
		if len(ends) == 0 {
			return nil
		}
		frames, err := e.fetchBatches(ctx, ends)
		if err != nil {
			return err
		}
		if !e.forgetMissing(ends[:len(frames)], frames) {
			return nil
		}
	}
	return nil
}

// behindGaps gives the last batch that each chain with a gap is said to have, of the
// devices that such a gap is told of.
func (e *Engine) behindGaps() (ends []ref) {
	roster := e.o.Vault.Roster()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, d := range roster {
		if c := e.chains[d.ID]; c != nil && c.missing > 0 && c.last() > c.missing {
			ends = append(ends, ref{d.ID, c.last()})
		}
	}
	return ends
}

// forgetMissing drops those of some batches that are not there, with the gap if nothing
// is left behind it, and says whether there were any.
func (e *Engine) forgetMissing(refs []ref, frames [][]byte) (some bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, r := range refs {
		if frames[i] != nil {
			continue
		}
		c := e.chains[r.device]
		delete(c.listed, r.seq)
		some = true
		if c.last() <= c.missing {
			c.missing = 0
		}
	}
	return some
}

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

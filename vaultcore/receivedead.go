package vaultcore

import (
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/history"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// deadIDs finds the first records of a batch on ids that its author knew dead. The
// answer is one for all records of an id, and the first is journalled.
type deadIDs struct {
	l    *ledger
	h    *heldBatch
	dead map[deadID]bool
	told bool
}

type deadID struct {
	kind opKind
	id   seal.ID
}

// counts refuses such a record.
func (d *deadIDs) counts(o *opRow) bool {
	if d.h.goOn || o.put.Prev != (history.Digest{}) || o.kind != opPut && o.kind != opAssetPut {
		return true
	}
	id := deadID{o.kind, o.put.ID}
	if dead, known := d.dead[id]; known {
		return !dead
	}
	if d.dead == nil {
		d.dead = make(map[deadID]bool)
	}
	err := d.check(o)
	if d.dead[id] = err != nil; err != nil && !d.told {
		d.told = true
		d.l.v.journalSoon(fmt.Errorf("%w: op %d of batch %d of device %s", err, o.idx, d.h.b.Seq, d.h.b.Device))
	}
	return err == nil
}

func (d *deadIDs) check(o *opRow) error {
	seen := func(device seal.ID, seq uint64) bool {
		if device == d.h.b.Device {
			return seq < d.h.b.Seq
		}
		return seq <= d.h.after.seen[device].Seq
	}
	var ops history.Ops
	o.addTo(&ops)
	if o.kind == opAssetPut {
		return d.l.h.CheckAsset(&ops.Assets[0], seen)
	}
	return d.l.h.CheckRecord(&ops.Records[0], seen)
}

// journalSoon is journal for who holds ns, which the event's queue would wait for.
func (v *Vault) journalSoon(err error) {
	v.wg.Add(1)
	go func() {
		defer v.wg.Done()
		v.journal(err)
	}()
}
